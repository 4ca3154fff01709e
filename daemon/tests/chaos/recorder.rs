//! The recorder of a round: one clock that stamps everything, and the lines in memory and in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tenure_oracle::{Line, Moment, Recording};

/// Where all lines of a round go.
pub(crate) struct Recorder {
    began: Duration,
    lines: Mutex<(Recording, BufWriter<File>)>,
    next_client: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(path: &Path) -> Recorder {
        let file = File::create(path).expect("there is room for the recording");
        Recorder {
            began: clock(),
            lines: Mutex::new((Recording::default(), BufWriter::new(file))),
            next_client: AtomicU64::new(1),
        }
    }

    /// Now, by the clock that members use, so that a lease that ends early by a millisecond is one.
    pub(crate) fn now(&self) -> Moment {
        let since = clock().saturating_sub(self.began);
        Moment(u64::try_from(since.as_nanos()).expect("a run ends within centuries"))
    }

    /// A client that nobody is.
    pub(crate) fn new_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn record(&self, line: Line) {
        let text = serde_json::to_string(&line).expect("a line can be written");
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(lines.1, "{text}").expect("there is room for the recording");
        lines.0.push(line);
    }

    /// All that was recorded.
    pub(crate) fn recording(&self) -> Recording {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.1.flush().expect("there is room for the recording");
        lines.0.clone()
    }
}

/// Not slewed by anybody, unlike that of `Instant`.
fn clock() -> Duration {
    let now = clock_gettime(ClockId::MonotonicRaw);
    let seconds = u64::try_from(now.tv_sec).expect("a monotonic clock is never negative");
    let nanos = u32::try_from(now.tv_nsec).expect("nanoseconds are below a second");
    Duration::new(seconds, nanos)
}
