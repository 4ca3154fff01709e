//! A thread that owns some files and does what it is asked, one request after the other.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use std::io;

use crate::pulse::{AtWork, Pace, Pulse};

/// The thread and the way to it. Its queue has no bound of its own: the core asks for more only as it is answered.
#[derive(Debug)]
pub(super) struct Worker<R, F> {
    requests: Sender<R>,
    thread: JoinHandle<F>,
}

impl<R: Send + 'static, F: Send + 'static> Worker<R, F> {
    /// Starts the thread, of which one step takes as long as its pace says. `work` gets the files, the next request, what
    /// waits behind it, and what it tells its steps where it takes more than one; it ends the thread by `Break`. `on_panic` is called where `work` panicked, which ends
    /// the thread too.
    pub(super) fn start(
        (name, pace): (&'static str, Pace),
        mut files: F,
        mut work: impl FnMut(&mut F, R, &Receiver<R>, &AtWork<'_>) -> ControlFlow<()> + Send + 'static,
        on_panic: impl FnOnce() + Send + 'static,
    ) -> io::Result<Worker<R, F>> {
        let (requests, queue) = mpsc::channel();
        let pulse = Pulse::of(name, pace);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let worked = catch_unwind(AssertUnwindSafe(|| {
                    while let Ok(request) = queue.recv() {
                        let at_work = pulse.work();
                        if work(&mut files, request, &queue, &at_work).is_break() {
                            break;
                        }
                    }
                }));
                // A member that goes on without this thread would wait for ever for what it is to do.
                if worked.is_err() {
                    on_panic();
                }
                drop(pulse);
                files
            })?;
        Ok(Worker { requests, thread })
    }

    /// Queues a request. After a failure, which has been reported, it goes nowhere.
    pub(super) fn send(&self, request: R) {
        let _ = self.requests.send(request);
    }

    /// Does what is queued, ends the thread and hands back the files; `None` if the thread panicked.
    pub(super) fn stop(self) -> Option<F> {
        drop(self.requests);
        self.thread.join().ok()
    }
}
