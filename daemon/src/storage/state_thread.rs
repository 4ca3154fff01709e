//! The thread on which checkpoints are written, so that neither applying nor the log ever waits for one.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tenure_raft::SnapshotMeta;
use tenure_replica::Checkpoint;

use super::error::StorageError;
use super::reclaiming::{Looks, Reclaimed};
use super::state_file::{CheckpointOutcome, SharedState};
use super::worker::Worker;
use crate::pulse::{AtWork, Pace};

/// What the thread says.
#[derive(Debug)]
pub enum StateEvent {
    /// The state at `meta` is durable: the log may be compacted behind it.
    Checkpointed {
        /// What it covers.
        meta: SnapshotMeta,
        /// How long it took.
        took: Duration,
        /// How many rows were written.
        rows: usize,
    },
    /// The file covers more already, by an installed snapshot: nothing was written.
    Outdated {
        /// What the checkpoint would have covered.
        meta: SnapshotMeta,
    },
    /// The file was mostly free, and is written anew: it is smaller now.
    Reclaimed(Reclaimed),
    /// A write failed. The thread has ended; the member must stop.
    Failed(StorageError),
}

/// The thread that writes checkpoints.
#[derive(Debug)]
pub struct StateThread {
    worker: Worker<Checkpoint, SharedState>,
    /// It is to end, and begins nothing long any more.
    stopping: Arc<AtomicBool>,
}

impl StateThread {
    /// Starts it. `on_event` is called on the thread and must not block.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        state: SharedState,
        on_event: impl Fn(StateEvent) + Send + Sync + 'static,
    ) -> io::Result<StateThread> {
        let on_event = Arc::new(on_event);
        let panicked = Arc::clone(&on_event);
        let on_panic =
            move || panicked(StateEvent::Failed(StorageError::panicked("tenured-state")));
        let mut looks = Looks::begin();
        let stopping = Arc::new(AtomicBool::new(false));
        let is_stopping = Arc::clone(&stopping);
        let work = move |state: &mut SharedState,
                         checkpoint,
                         _: &Receiver<Checkpoint>,
                         at_work: &AtWork<'_>| {
            let (event, flow) = write(state, checkpoint);
            // Whoever compacts the log behind the checkpoint need not wait for what follows.
            on_event(event);
            if flow.is_break() || !looks.is_due() {
                return flow;
            }
            let goes_on = || {
                at_work.step();
                !is_stopping.load(Ordering::Relaxed)
            };
            match state.reclaim(&goes_on) {
                Ok(None) => ControlFlow::Continue(()),
                Ok(Some(reclaimed)) => {
                    on_event(StateEvent::Reclaimed(reclaimed));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    on_event(StateEvent::Failed(error));
                    ControlFlow::Break(())
                }
            }
        };
        let worker = Worker::start(("tenured-state", Pace::Long), state, work, on_panic)?;
        Ok(StateThread { worker, stopping })
    }

    /// Queues a checkpoint, whose last entry is durable in the log; it is answered by an event. The caller gives one
    /// at a time.
    pub fn checkpoint(&self, checkpoint: Checkpoint) {
        self.worker.send(checkpoint);
    }

    /// Does what is queued and ends the thread; a copy under way is given up. The file is closed when the [`SnapshotThread`](super::SnapshotThread)
    /// has ended too.
    ///
    /// # Errors
    /// An error while closing: every checkpoint is durable all the same.
    pub fn stop(self) -> Result<(), StorageError> {
        self.stopping.store(true, Ordering::Relaxed);
        self.worker.stop().map_or(Ok(()), SharedState::close)
    }
}

fn write(state: &SharedState, checkpoint: Checkpoint) -> (StateEvent, ControlFlow<()>) {
    let begun = Instant::now();
    let rows = checkpoint.rows.len();
    match state.lock().checkpoint(&checkpoint) {
        Ok(CheckpointOutcome::Written) => {
            let event = StateEvent::Checkpointed {
                meta: checkpoint.meta,
                took: begun.elapsed(),
                rows,
            };
            (event, ControlFlow::Continue(()))
        }
        Ok(CheckpointOutcome::Outdated) => (
            StateEvent::Outdated {
                meta: checkpoint.meta,
            },
            ControlFlow::Continue(()),
        ),
        Err(error) => (StateEvent::Failed(error), ControlFlow::Break(())),
    }
}
