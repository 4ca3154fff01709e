//! How far a run is: a bar on a terminal, else a line now and then. Always on stderr, so that stdout has the results
//! alone.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Shown for one run.
pub(crate) struct Progress {
    title: String,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(title: String) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}")
                .expect("the template is one")
                .progress_chars("=> ");
            ProgressBar::new(1000)
                .with_style(style)
                .with_prefix(title.clone())
        });
        if bar.is_none() {
            eprintln!("{title}");
        }
        Progress {
            title,
            bar,
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// What is done that has no length known before.
    pub(crate) fn say(&self, what: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// So much of the whole time is over, and so many operations and errors were seen.
    pub(crate) fn show(&self, gone: Duration, whole: Duration, (seen, errors): (u64, u64)) {
        let text = || match errors {
            0 => format!("{seen} done"),
            _ => format!("{seen} done, {errors} errors"),
        };
        if let Some(bar) = &self.bar {
            let part = gone.as_secs_f64() / whole.as_secs_f64();
            bar.set_position((part * 1000.0) as u64);
            bar.set_message(text());
            return;
        }
        let Ok(mut last_line) = self.last_line.lock() else {
            return;
        };
        if last_line.elapsed() >= BETWEEN_LINES {
            *last_line = Instant::now();
            eprintln!(
                "{}: {:.0} of {:.0} s, {}",
                self.title,
                gone.as_secs_f64(),
                whole.as_secs_f64(),
                text()
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
