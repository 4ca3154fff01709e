//! The thread on which the log is written: everything that queued up during a sync goes into the next.
//!
//! Owns the log file. Says that a write is durable only after the sync that covers it, and nothing at all after an
//! error. Never does anything else, so that no write waits for anything but its disk.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tenure_raft::{Message, Write, WriteId};

use super::error::StorageError;
use super::log_file::LogFile;
use super::worker::Worker;
use crate::pulse::{AtWork, Pace};

/// What the thread says.
#[derive(Debug)]
pub enum LogEvent {
    /// These writes are on the disk, and all before them.
    Persisted {
        /// The last of them.
        id: WriteId,
        /// The messages that waited for them (`Write::then`), in order, where the caller left them in.
        then: Vec<Message>,
        /// How long the transaction and its sync took.
        took: Duration,
        /// How many writes went into it.
        writes: usize,
        /// Bytes of the records in them.
        bytes: usize,
    },
    /// A write failed. The thread has ended; the member must stop.
    Failed(StorageError),
}

/// The thread that writes the log.
#[derive(Debug)]
pub struct LogThread(Worker<Write, LogFile>);

impl LogThread {
    /// Starts it. `on_event` is called on the thread and must not block.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        log: LogFile,
        on_event: impl Fn(LogEvent) + Send + Sync + 'static,
    ) -> io::Result<LogThread> {
        let on_event = Arc::new(on_event);
        let panicked = Arc::clone(&on_event);
        let on_panic = move || panicked(LogEvent::Failed(StorageError::panicked("tenured-log")));
        let work = move |log: &mut LogFile, first, queue: &Receiver<Write>, _: &AtWork<'_>| {
            let writes = std::iter::once(first).chain(queue.try_iter()).collect();
            let (event, flow) = write(log, writes);
            on_event(event);
            flow
        };
        Worker::start(("tenured-log", Pace::Short), log, work, on_panic).map(LogThread)
    }

    /// Queues a write; it is answered by an event. The caller bounds what is unanswered.
    pub fn write(&self, write: Write) {
        self.0.send(write);
    }

    /// Does what is queued, ends the thread and closes the file.
    ///
    /// # Errors
    /// An error while closing: everything acknowledged is durable all the same.
    pub fn stop(self) -> Result<(), StorageError> {
        self.0.stop().map_or(Ok(()), LogFile::close)
    }
}

fn write(log: &mut LogFile, mut writes: Vec<Write>) -> (LogEvent, ControlFlow<()>) {
    let begun = Instant::now();
    match log.write(&writes) {
        Ok(written) => {
            let then = writes
                .iter_mut()
                .flat_map(|write| std::mem::take(&mut write.then))
                .collect();
            let event = LogEvent::Persisted {
                id: written.last,
                then,
                took: begun.elapsed(),
                writes: written.writes,
                bytes: written.bytes,
            };
            (event, ControlFlow::Continue(()))
        }
        Err(error) => (LogEvent::Failed(error), ControlFlow::Break(())),
    }
}
