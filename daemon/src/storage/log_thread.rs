//! The thread on which the log is written: everything that queued up during a sync goes into the next.
//!
//! Owns the log file. Says that a write is durable only after the sync that covers it, and nothing at all after an
//! error. Whatever else is to be done with the file, another thread does; this one goes on with the file that it is handed
//! (see `log_file/reclaim.rs`).

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tenure_raft::{Message, Write, WriteId};

use super::error::StorageError;
use super::log_file::{LogCopy, LogFile};
use super::reclaiming::{Looks, Reclaimed};
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
    /// The file was mostly free, and is another now, which is smaller.
    Reclaimed(Reclaimed),
    /// A write failed. The thread has ended; the member must stop.
    Failed(StorageError),
}

/// The thread that writes the log.
#[derive(Debug)]
pub struct LogThread {
    worker: Worker<Write, LogFile>,
    /// It is to end, and copies nothing any more.
    stopping: Arc<AtomicBool>,
}

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
        let stopping = Arc::new(AtomicBool::new(false));
        let mut copier = Copier::new(Arc::clone(&stopping));
        let work = move |log: &mut LogFile, first, queue: &Receiver<Write>, _: &AtWork<'_>| {
            let writes = std::iter::once(first).chain(queue.try_iter()).collect();
            let (event, flow) = write(log, writes);
            on_event(event);
            if flow.is_break() {
                return flow;
            }
            match copier.turn(log) {
                Ok(None) => ControlFlow::Continue(()),
                Ok(Some(reclaimed)) => {
                    on_event(LogEvent::Reclaimed(reclaimed));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    on_event(LogEvent::Failed(error));
                    ControlFlow::Break(())
                }
            }
        };
        let worker = Worker::start(("tenured-log", Pace::Short), log, work, on_panic)?;
        Ok(LogThread { worker, stopping })
    }

    /// Queues a write; it is answered by an event. The caller bounds what is unanswered.
    pub fn write(&self, write: Write) {
        self.worker.send(write);
    }

    /// Does what is queued, ends the thread and closes the file; a copy under way is given up.
    ///
    /// # Errors
    /// An error while closing: everything acknowledged is durable all the same.
    pub fn stop(self) -> Result<(), StorageError> {
        self.stopping.store(true, Ordering::Relaxed);
        self.worker.stop().map_or(Ok(()), LogFile::close)
    }
}

/// The thread beside this one that copies a file which is mostly free, one at a time.
struct Copier {
    looks: Looks,
    stopping: Arc<AtomicBool>,
    copying: Option<JoinHandle<Option<LogCopy>>>,
}

impl Copier {
    fn new(stopping: Arc<AtomicBool>) -> Copier {
        Copier {
            looks: Looks::begin(),
            stopping,
            copying: None,
        }
    }

    /// Behind a write: begins a copy where it is time to, and goes on with one that is there.
    fn turn(&mut self, log: &mut LogFile) -> Result<Option<Reclaimed>, StorageError> {
        if let Some(copying) = self.copying.take_if(|copying| copying.is_finished()) {
            return match copying.join() {
                Ok(Some(copy)) => log.become_copy(copy),
                // Not worth it, or logged.
                Ok(None) | Err(_) => Ok(None),
            };
        }
        if self.copying.is_some() || !self.looks.is_due() {
            return Ok(None);
        }
        if let Some(copying) = log.copying()? {
            let stopping = Arc::clone(&self.stopping);
            let copy = move || copying.copy(&|| !stopping.load(Ordering::Relaxed));
            let thread = thread::Builder::new().name("tenured-copy".to_owned());
            // Where the system has no thread to give, there is another look.
            self.copying = thread.spawn(copy).ok();
        }
        Ok(None)
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(Ok(Some(copy))) = self.copying.take().map(JoinHandle::join) {
            copy.discard();
        }
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
