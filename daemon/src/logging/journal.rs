//! Lines for the journal of systemd, with what they say as fields beside them.
//!
//! Owns the form in which the journal is told (its native protocol, `systemd.journal-fields(7)`). The text of a line has
//! all that its fields have, so that `journalctl` alone is enough; the fields are for who looks for something. Where the
//! journal cannot be told so, the line goes to stderr, as it would without this.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::priority;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The journal takes names of fields up to this length.
const LONGEST_NAME: usize = 64;

/// Tells the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    /// What every line has.
    always: String,
}

impl Journal {
    /// The journal of this machine, told by the member of this name.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn of_this_machine(member: &str) -> io::Result<Journal> {
        Journal::at(SOCKET.into(), member)
    }

    fn at(path: PathBuf, member: &str) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        // It is not waited for here: what it has no room for goes to stderr, which is the journal again, by a stream
        // that is waited for where it is full.
        socket.set_nonblocking(true)?;
        // Nothing is sent, but an address that is none is noticed.
        UnixDatagram::unbound()?.connect(&path)?;
        let mut always = String::new();
        put(&mut always, "SYSLOG_IDENTIFIER", "tenured");
        if !member.is_empty() {
            put(&mut always, "TENURE_MEMBER", member);
        }
        Ok(Journal {
            socket,
            path,
            always,
        })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut said = Said::default();
        attributes.record(&mut said);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(said);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(said) = span.extensions_mut().get_mut::<Said>()
        {
            values.record(said);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let mut text = String::new();
        let mut fields = self.always.clone();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(of_span) = span.extensions().get::<Said>() {
                let _ = write!(text, "{}{{{}}}: ", span.name(), of_span.pairs.trim_start());
                fields.push_str(&of_span.fields);
            }
        }
        text.push_str(&said.message);
        text.push_str(&said.pairs);
        let meta = event.metadata();
        let mark = priority(*meta.level(), meta.target());
        put(&mut fields, "PRIORITY", mark.trim_matches(['<', '>']));
        put(&mut fields, "TENURE_TARGET", meta.target());
        put(&mut fields, "MESSAGE", &text);
        fields.push_str(&said.fields);
        if self.socket.send_to(fields.as_bytes(), &self.path).is_err() {
            let line = format!("{mark}{}: {text}\n", meta.target());
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

/// What an event or a span says: its message, the other values as text, and the same as fields.
#[derive(Default)]
struct Said {
    message: String,
    pairs: String,
    fields: String,
}

impl Said {
    fn add(&mut self, field: &Field, shown: fmt::Arguments<'_>, raw: &str) {
        if field.name() == "message" {
            self.message = escaped(raw);
            return;
        }
        let _ = write!(
            self.pairs,
            " {}={}",
            field.name(),
            escaped(&shown.to_string())
        );
        if let Some(name) = name_of(field.name()) {
            put(&mut self.fields, &name, raw);
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value:?}"), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let raw = format!("{value:?}");
        self.add(field, format_args!("{raw}"), &raw);
    }
}

/// A field of ours: upper case, and only what the journal takes. What every line has means one thing on all lines: an
/// event that has something else by that name, such as the id of a member, has it beside.
fn name_of(field: &str) -> Option<String> {
    let of_event = match field {
        "member" | "target" => "EVENT_",
        _ => "",
    };
    let name = field
        .chars()
        .map(|char| match char.is_ascii_alphanumeric() {
            true => char.to_ascii_uppercase(),
            false => '_',
        });
    let name = format!("TENURE_{of_event}{}", name.collect::<String>());
    (name.len() <= LONGEST_NAME).then_some(name)
}

/// No value ends its line: nobody forges a field with one.
fn put(fields: &mut String, name: &str, value: &str) {
    let _ = writeln!(fields, "{name}={}", escaped(value));
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => escaped.extend(char.escape_default()),
            false => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What the journal is told while something is done.
    fn told(act: impl FnOnce()) -> Vec<String> {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let path = dir.path().join("journal");
        let listens = UnixDatagram::bind(&path).expect("it can be bound");
        let journal = Journal::at(path, "n1").expect("somebody listens");
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, act);
        listens.set_nonblocking(true).expect("it need not wait");
        let mut told = Vec::new();
        let mut message = [0; 4096];
        while let Ok(length) = listens.recv(&mut message) {
            told.push(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        told
    }

    #[test]
    fn a_line_says_in_fields_what_it_says_in_words() {
        let told = told(|| {
            let span = tracing::info_span!("request", id = "7f", route = "/v1/keys");
            let _within = span.enter();
            tracing::warn!(target: "tenured::http", status = 503, code = "no-leader", "request was not served");
        });
        let expected = "SYSLOG_IDENTIFIER=tenured\nTENURE_MEMBER=n1\nTENURE_ID=7f\nTENURE_ROUTE=/v1/keys\nPRIORITY=4\n\
            TENURE_TARGET=tenured::http\n\
            MESSAGE=request{id=\"7f\" route=\"/v1/keys\"}: request was not served status=503 code=\"no-leader\"\n\
            TENURE_STATUS=503\nTENURE_CODE=no-leader\n";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn who_tells_a_line_is_told_once_whomever_the_line_is_about() {
        let told = told(|| {
            tracing::info!(target: "audit", member = %7, "an operator takes a backup");
            tracing::info!(peer = "n2", member = "feed", target = "n3", "found peer");
        });
        let [audit, found] = told.as_slice() else {
            panic!("{told:?}")
        };
        let values = |line: &str, name: &str| -> Vec<String> {
            let fields = line.lines().filter_map(|field| field.split_once('='));
            let named = fields.filter(|(field, _)| *field == name);
            named.map(|(_, value)| value.to_owned()).collect()
        };
        assert_eq!(values(audit, "TENURE_MEMBER"), ["n1"]);
        assert_eq!(values(audit, "TENURE_EVENT_MEMBER"), ["7"]);
        assert_eq!(values(found, "TENURE_MEMBER"), ["n1"]);
        assert_eq!(values(found, "TENURE_EVENT_MEMBER"), ["feed"]);
        assert_eq!(values(found, "TENURE_TARGET").len(), 1);
        assert_eq!(values(found, "TENURE_EVENT_TARGET"), ["n3"]);
        assert_eq!(values(found, "TENURE_PEER"), ["n2"]);
    }

    #[test]
    fn no_value_forges_a_field_or_a_line() {
        let told = told(|| {
            let reason = "x\nPRIORITY=0\nMESSAGE=all is well";
            tracing::info!(target: "audit", reason, "an operator\nbreaks a hold");
        });
        let [line] = told.as_slice() else {
            panic!("{told:?}")
        };
        let count = |name: &str| line.lines().filter(|field| field.starts_with(name)).count();
        assert_eq!((count("PRIORITY="), count("MESSAGE=")), (1, 1), "{line}");
        assert!(line.contains("PRIORITY=5\n"), "{line}");
        assert!(
            line.contains("TENURE_REASON=x\\nPRIORITY=0\\nMESSAGE=all is well\n"),
            "{line}"
        );
    }

    #[test]
    fn without_a_journal_there_is_none() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        assert!(Journal::at(dir.path().join("journal"), "n1").is_err());
    }
}
