//! The thread that applies: one entry after the other, answers to those who wait, checkpoints now and then.
//!
//! Owns when a checkpoint is taken. Holds the state only while it applies a few entries, so that reads come between;
//! never waits for a disk.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tenure_raft::{Entry, LogIndex, ReadPoint, SnapshotMeta, Stamp, Term};
use tenure_replica::{Applier, Input};
use tracing::{debug, info, warn};

use super::NodeError;
use super::clock::unslewed;
use super::event::Event;
use super::handle::{Applied, Shared};
use super::outlets::Apply;
use crate::pulse::{AtWork, Pace, Pulse};
use crate::storage::StateThread;
use crate::telemetry::{ClockRate, Seen, TOO_FAST};

/// A checkpoint begins so long after the last one ended (`design.md`, Storage).
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);
/// How many entries are applied while the state is held.
const ENTRIES_A_HOLD: usize = 64;

pub(super) struct ApplyThread {
    shared: Arc<Shared>,
    queue: Receiver<Apply>,
    state: StateThread,
    /// Reads that wait for an index.
    reads: BTreeMap<LogIndex, Vec<(u64, Stamp)>>,
    /// When the last checkpoint ended; `None` while one is under way.
    checkpoint_ended: Option<Instant>,
    /// The last index that a checkpoint covers.
    covered: LogIndex,
    clock_rate: ClockRate,
}

impl ApplyThread {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: Receiver<Apply>,
        state: StateThread,
        covered: LogIndex,
    ) -> Self {
        let checkpoint_ended = Some(Instant::now());
        ApplyThread {
            shared,
            queue,
            state,
            reads: BTreeMap::new(),
            checkpoint_ended,
            covered,
            clock_rate: ClockRate::default(),
        }
    }

    /// Applies until it is told to stop, or an entry cannot be applied.
    pub(super) fn run(self) {
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            shared.tell_core(Event::Failed(NodeError::ApplyThreadPanicked));
        }
    }

    fn work(mut self) {
        let pulse = Pulse::of("apply", Pace::Short);
        loop {
            let told = self.queue.recv_timeout(self.until_checkpoint());
            let at_work = pulse.work();
            let done = match told {
                Ok(Apply::Entries(entries)) => self.apply(&entries, &at_work),
                Ok(Apply::Read { token, point }) => {
                    self.wait_for(token, point);
                    Ok(())
                }
                Ok(Apply::Install { meta, state }) => {
                    self.install(meta, *state);
                    Ok(())
                }
                Ok(Apply::CheckpointDone) => {
                    self.checkpoint_ended = Some(Instant::now());
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Ok(Apply::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    drop(at_work);
                    drop(pulse);
                    return self.end();
                }
            };
            if let Err(error) = done {
                return self.shared.tell_core(Event::Failed(error));
            }
            if self
                .checkpoint_ended
                .is_some_and(|ended| ended.elapsed() >= CHECKPOINT_AFTER)
            {
                self.checkpoint();
            }
        }
    }

    /// A last checkpoint, so that the next start has nothing to replay.
    fn end(mut self) {
        self.checkpoint();
        if let Err(error) = self.state.stop() {
            warn!(%error, "the state file was not tidied up at the end; the next start repairs it");
        }
        self.shared.tell_core(Event::ApplyEnded);
    }

    fn until_checkpoint(&self) -> Duration {
        let applied = LogIndex(self.shared.applied.load(Ordering::Acquire));
        match self.checkpoint_ended {
            Some(ended) if applied > self.covered => {
                CHECKPOINT_AFTER.saturating_sub(ended.elapsed())
            }
            _ => Duration::from_secs(60),
        }
    }

    fn apply(&mut self, entries: &[Entry], at_work: &AtWork) -> Result<(), NodeError> {
        for some in entries.chunks(ENTRIES_A_HOLD) {
            self.apply_some(some)?;
            at_work.step();
        }
        Ok(())
    }

    fn apply_some(&mut self, entries: &[Entry]) -> Result<(), NodeError> {
        let began = self.shared.traces.are_on().then(Instant::now);
        let (applied, (term, stamp)) = {
            let mut applier = self.hold();
            let applied = catch_unwind(AssertUnwindSafe(|| applier.apply(entries)));
            let index = applier.applied().position.index;
            let progress = applied.unwrap_or_else(|_| stop_at(index.next()))?;
            let last = (applier.applied().position.term, applier.applied().stamp);
            (Applied::of(&applier, progress, began), last)
        };
        self.watch_clock(term, stamp);
        let (index, leases) = (applied.index, applied.progress.leases_expired);
        for (index, digest) in applied.progress.digests.clone() {
            let compared = Input::Digest { index, digest };
            self.shared.tell_core(Event::Input(compared));
        }
        self.shared.tell_applied(applied);
        if leases > 0 {
            info!(leases, "leases ran out");
        }
        self.answer_reads(index);
        Ok(())
    }

    /// Holds the leader's clock against this member's.
    fn watch_clock(&mut self, term: Term, stamp: Stamp) {
        if self.shared.leader.borrow().leader == Some(self.shared.identity.id) {
            // What was known of another's clock says nothing of this one's.
            if self.clock_rate.forget() {
                self.shared.metrics.leader_clock_rate(0.0);
            }
            return;
        }
        let rate = match self.clock_rate.seen(term.0, stamp.0, unslewed()) {
            Seen::Nothing => return,
            Seen::Anew => 0.0,
            Seen::Rate(rate) => rate,
        };
        self.shared.metrics.leader_clock_rate(rate);
        if TOO_FAST < rate {
            warn!(
                rate = format!("{rate:.3}"),
                "the leader's clock runs faster than this member's by more than 1 %: leases may end before their holders expect it; check the clocks of both machines"
            );
        }
    }

    fn hold(&self) -> RwLockWriteGuard<'_, Applier> {
        self.shared
            .applier
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&mut self, token: u64, point: ReadPoint) {
        if self.shared.has_applied(point) {
            return self.shared.answer_read(token, Ok(point.stamp));
        }
        self.reads
            .entry(point.index)
            .or_default()
            .push((token, point.stamp));
    }

    fn answer_reads(&mut self, applied: LogIndex) {
        let later = self.reads.split_off(&applied.next());
        for (token, stamp) in std::mem::replace(&mut self.reads, later)
            .into_values()
            .flatten()
        {
            self.shared.answer_read(token, Ok(stamp));
        }
    }

    fn install(&mut self, meta: SnapshotMeta, state: tenure_state::State) {
        let index = meta.position.index;
        let revision = state.revision();
        let version = state.version();
        let due = {
            let mut applier = self.hold();
            applier.install(state, meta.clone());
            applier.due()
        };
        info!(
            index = index.0,
            "the state of a snapshot has been installed"
        );
        self.covered = index;
        self.shared.applied.store(index.0, Ordering::Release);
        self.shared.tell_revision(revision);
        self.shared.reach(index, due, version);
        self.shared
            .tell_core(Event::Input(Input::SnapshotInstalled {
                meta,
                due,
                version,
            }));
        self.shared.waiters.notify_all();
        self.answer_reads(index);
    }

    fn checkpoint(&mut self) {
        let applied = LogIndex(self.shared.applied.load(Ordering::Acquire));
        if applied <= self.covered {
            return;
        }
        let began = Instant::now();
        let checkpoint = self.hold().checkpoint();
        let rows = checkpoint.rows.len();
        debug!(
            index = checkpoint.meta.position.index.0,
            rows,
            took_us = began.elapsed().as_micros(),
            "checkpoint"
        );
        self.covered = checkpoint.meta.position.index;
        self.checkpoint_ended = None;
        self.state.checkpoint(checkpoint);
    }
}

/// Whatever panicked in the rules panics on every member; the index tells which entry to look at. The process ends
/// here and now, while nobody can read what is half applied.
fn stop_at(index: LogIndex) -> ! {
    let error = NodeError::ApplyPanicked { index };
    tracing::error!(%error, "stopping at once");
    eprintln!("tenured: {error}");
    std::process::exit(i32::from(error.exit_code()))
}
