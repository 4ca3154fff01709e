//! The thread on which everything of a transport runs.
//!
//! Owns the thread and its end. Heartbeats, votes and read rounds must not wait for a worker that REST keeps busy
//! (`design.md`, Consensus), so that none of their tasks runs on the runtime of the edges; a task here only moves bytes
//! between sockets and queues. One thread is enough: messages of one turn travel in one chunk, and a task that wakes another
//! one of the same thread costs no wake-up of a processor.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::pulse::keep_stepping;

/// The running thread; it ends when this is dropped, and is waited for by [`Runtime::stop`].
#[derive(Debug)]
pub(super) struct Runtime {
    handle: Handle,
    end: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
    _end_on_drop: DropGuard,
}

impl Runtime {
    /// Starts the thread. `on_panic` is called on it where the runtime itself fails; a task that panics ends alone.
    ///
    /// # Errors
    /// Where the system has no thread or no event queue to give.
    pub(super) fn start(on_panic: impl FnOnce() + Send + 'static) -> io::Result<Runtime> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = std::thread::Builder::new()
            .name("peers".to_owned())
            .spawn(move || {
                runtime.spawn(keep_stepping("peers"));
                let work = AssertUnwindSafe(|| runtime.block_on(ended.cancelled()));
                if catch_unwind(work).is_err() {
                    on_panic();
                }
                // A look-up of a name may still be under way; nobody waits for it any more.
                runtime.shutdown_background();
            })?;
        Ok(Runtime {
            handle,
            _end_on_drop: end.clone().drop_guard(),
            end,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the thread, with every task that is left on it, and returns when it is gone.
    pub(super) async fn stop(&self) {
        self.end.cancel();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It looks at nothing but its end. How a panic of it was reported is `on_panic`'s.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[test]
    fn tasks_run_while_every_worker_of_the_edges_is_busy_and_are_gone_after_the_stop() {
        let edges = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let runtime = Runtime::start(|| {}).expect("a thread");
        let (beat, beaten) = std::sync::mpsc::channel();
        let (held, released) = oneshot::channel::<()>();
        runtime.handle().spawn(async move {
            let _held = held;
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let _ = beat.send(());
            }
        });
        edges.block_on(async {
            // The only worker of the edges does nothing but wait here.
            for _ in 0..10 {
                beaten
                    .recv_timeout(Duration::from_secs(10))
                    .expect("a beat");
            }
            runtime.stop().await;
            assert!(released.await.is_err(), "its task is gone");
        });
    }
}
