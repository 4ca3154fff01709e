//! Log lines: which are written, and in what form.
//!
//! Owns the filter, which can be changed while the member runs, and how a line tells the journal how grave it is. Lines
//! go to stderr, which whoever started the process collects; nothing here opens or rotates a file. Where that is the
//! journal of systemd, lines for people go there by themselves, with their fields.

mod journal;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::fstat;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

use crate::config::{ConfigError, LogFormat};

/// The target of what operators must be told: who broke, changed or compacted what.
const AUDIT: &str = "audit";
/// It is told however few lines an operator wants, unless the filter names it.
const AUDIT_TOLD: &str = "audit=info";

/// Changes which lines are written. Cheap to clone. One that nothing was begun with (`default`) remembers what it is set
/// to, and that is all.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    lines: Option<reload::Handle<EnvFilter, Registry>>,
    present: Arc<Mutex<String>>,
}

impl LogFilter {
    /// Which lines are written now.
    pub fn present(&self) -> String {
        let present = self.present.lock();
        present.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes from now on the lines that this filter asks for.
    ///
    /// # Errors
    /// Where it is no filter; then nothing changes.
    pub fn set(&self, filter: &str) -> Result<(), ConfigError> {
        let wanted = parse(filter)?;
        // Held until it is in force, so that of two who set it at once the later one is also the one that is shown.
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &self.lines {
            lines
                .reload(wanted)
                .map_err(|error| refused(filter, &error))?;
        }
        *present = filter.to_owned();
        Ok(())
    }
}

/// Begins to write log lines, of the member of this name.
///
/// # Errors
/// Where the filter is none, or lines are written already.
pub fn start(format: LogFormat, filter: &str, member: &str) -> Result<LogFilter, ConfigError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let lines = match (stderr_is_the_journal(), format) {
        (true, LogFormat::Text) => match journal::Journal::of_this_machine(member) {
            Ok(journal) => journal.boxed(),
            Err(_) => lines(format, Marked, false),
        },
        (true, LogFormat::Json) => lines(format, Marked, false),
        (false, _) => lines(format, io::stderr, io::stderr().is_terminal()),
    };
    // The filter is the layer below, so that a line that nobody wants is not even made.
    let subscriber = tracing_subscriber::registry().with(layer).with(lines);
    subscriber
        .try_init()
        .map_err(|error| refused(filter, &error))?;
    Ok(LogFilter {
        lines: Some(handle),
        present: Arc::new(Mutex::new(filter.to_owned())),
    })
}

/// Tells of the end of the process on stderr, as grave as that is.
pub fn tell_failure(message: &str) {
    let mark = match stderr_is_the_journal() {
        true => priority(Level::ERROR, ""),
        false => "",
    };
    eprintln!("{mark}tenured: {message}");
}

/// Whether a filter can be used.
///
/// # Errors
/// Where it is none.
pub fn check(filter: &str) -> Result<(), ConfigError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, ConfigError> {
    let mut parsed = EnvFilter::try_new(filter).map_err(|error| refused(filter, &error))?;
    if !names_audit(filter) {
        let told = AUDIT_TOLD
            .parse()
            .map_err(|error| refused(filter, &error))?;
        parsed = parsed.add_directive(told);
    }
    Ok(parsed)
}

fn refused(filter: &str, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Value {
        setting: "log_filter",
        value: filter.to_owned(),
        accepted: format!("{error}; write `info` or `tenured=debug`"),
    }
}

/// Whether a filter says itself what becomes of the lines on the target `audit`.
pub(crate) fn names_audit(filter: &str) -> bool {
    filter.split(',').any(|directive| {
        let target = directive.trim().split(['=', '[']).next();
        target == Some(AUDIT)
    })
}

fn lines<S, W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.with_ansi(colours).boxed(),
    }
}

/// Whether stderr goes to the journal of systemd itself: it says in the environment which file that is, and a program
/// that has been given another one in between must not take it for the journal (`systemd.exec(5)`, `JOURNAL_STREAM`).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr())
        .is_ok_and(|file| stream.to_str() == Some(&format!("{}:{}", file.st_dev, file.st_ino)))
}

/// How a line begins that tells the journal how grave it is (`sd-daemon(3)`); the journal takes that off again.
fn priority(level: Level, target: &str) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO if target == AUDIT => "<5>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Writes each line to stderr with its priority before it.
struct Marked;

/// One line of it.
struct MarkedLine(&'static str);

impl<'a> MakeWriter<'a> for Marked {
    type Writer = MarkedLine;

    fn make_writer(&'a self) -> MarkedLine {
        MarkedLine(priority(Level::INFO, ""))
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> MarkedLine {
        MarkedLine(priority(*meta.level(), meta.target()))
    }
}

impl Write for MarkedLine {
    /// A whole line comes at once, and goes in one write, so that two threads do not mix theirs.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut marked = Vec::with_capacity(self.0.len() + line.len());
        marked.extend_from_slice(self.0.as_bytes());
        marked.extend_from_slice(line);
        io::stderr().write_all(&marked)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_filter_that_names_the_audit_decides_on_it() {
        for names in [
            "audit=off",
            "warn,audit=warn",
            "warn, audit",
            "audit[broken]=info",
        ] {
            assert!(names_audit(names), "{names}");
        }
        for other in [
            "",
            "warn",
            "off",
            "tenured=debug",
            "auditor=off",
            "tenured::audit=off",
        ] {
            assert!(!names_audit(other), "{other}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_name() {
        let error = check("tenured=loud").expect_err("there is no such level");
        let text = error.to_string();
        assert!(
            text.starts_with(r#"log_filter is "tenured=loud": "#),
            "{text}"
        );
        assert!(text.contains("write `info`"), "{text}");
        assert_eq!(check("tenured=debug,warn"), Ok(()));
    }

    #[test]
    fn the_journal_is_told_how_grave_a_line_is() {
        let told: Vec<_> = [
            (Level::ERROR, "tenured"),
            (Level::WARN, "tenured"),
            (Level::INFO, "audit"),
            (Level::INFO, "tenured"),
            (Level::DEBUG, "audit"),
            (Level::TRACE, "tenured"),
        ]
        .map(|(level, target)| priority(level, target))
        .into();
        assert_eq!(told, ["<3>", "<4>", "<5>", "<6>", "<7>", "<7>"]);
    }
}
