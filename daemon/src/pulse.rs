//! Whether the threads of this process still move.
//!
//! Owns a count for each thread that must: odd while the thread has something to do, and another after every step, so
//! that a thread that waits for work is told from one that is stuck in it. A step costs the thread one addition and no
//! look at a clock. What is stuck for how long, and what then becomes of the process, is decided elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How often a runtime is made to take a step, so that one that takes none is noticed.
const TICK: Duration = Duration::from_millis(250);

/// How long one step of a thread may take, as seen by whoever supervises the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// Moments: it waits for no more than one write.
    Short,
    /// As long as it takes to write or read a whole state, which on a slow disk is minutes.
    Long,
}

/// The count of one thread. Dropping it says that the thread has ended, or need not move any more.
#[derive(Debug)]
pub struct Pulse(Arc<Beat>);

/// What whoever supervises the process sees of a [`Pulse`].
#[derive(Debug)]
pub(crate) struct Beat {
    /// No other of this process has or had it.
    pub(crate) number: u64,
    pub(crate) name: &'static str,
    pub(crate) pace: Pace,
    steps: AtomicU64,
}

/// While it lives its thread is at work, and must come to the end of it.
#[derive(Debug)]
pub struct AtWork<'a>(&'a Pulse);

/// The threads that must move.
#[derive(Debug)]
pub(crate) struct Threads(Mutex<Vec<Weak<Beat>>>);

/// Those of this process. There is one list because there is one process: it is killed as a whole.
static OURS: Threads = Threads::new();

impl Threads {
    pub(crate) const fn new() -> Threads {
        Threads(Mutex::new(Vec::new()))
    }

    /// Those of this process.
    pub(crate) fn of_this_process() -> &'static Threads {
        &OURS
    }

    /// A thread that waits for its first work.
    pub(crate) fn enter(&self, name: &'static str, pace: Pace) -> Pulse {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let beat = Arc::new(Beat {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name,
            pace,
            steps: AtomicU64::new(0),
        });
        self.list().push(Arc::downgrade(&beat));
        Pulse(beat)
    }

    /// Those that have not ended.
    pub(crate) fn beats(&self) -> Vec<Arc<Beat>> {
        let mut list = self.list();
        list.retain(|beat| beat.strong_count() > 0);
        list.iter().filter_map(Weak::upgrade).collect()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Weak<Beat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// The count of a thread of this process, which waits for work.
    pub fn of(name: &'static str, pace: Pace) -> Pulse {
        OURS.enter(name, pace)
    }

    /// Says that the thread has something to do until the answer is dropped.
    pub fn work(&self) -> AtWork<'_> {
        let steps = &self.0.steps;
        // The thread is alone in writing it.
        steps.store(steps.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        AtWork(self)
    }
}

impl AtWork<'_> {
    /// Says that the thread has done a step and has more to do.
    pub fn step(&self) {
        self.0.0.steps.fetch_add(2, Ordering::Relaxed);
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.0.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Beat {
    /// The count, and whether the thread has something to do.
    pub(crate) fn look(&self) -> (u64, bool) {
        let steps = self.steps.load(Ordering::Relaxed);
        (steps, steps % 2 == 1)
    }
}

/// Takes a step on a runtime every now and then, for as long as the runtime lets it: a timer must fire and a worker be
/// free.
pub async fn keep_stepping(name: &'static str) {
    let pulse = Pulse::of(name, Pace::Short);
    let at_work = pulse.work();
    loop {
        tokio::time::sleep(TICK).await;
        at_work.step();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(threads: &Threads) -> Vec<(&'static str, bool)> {
        let beats = threads.beats();
        beats
            .iter()
            .map(|beat| (beat.name, beat.look().1))
            .collect()
    }

    #[test]
    fn a_thread_is_at_work_from_its_beginning_to_its_end_and_gone_when_its_pulse_is() {
        let threads = Threads::new();
        let log = threads.enter("log", Pace::Short);
        let core = threads.enter("core", Pace::Short);
        assert_eq!(look(&threads), [("log", false), ("core", false)]);
        let at_work = log.work();
        assert_eq!(look(&threads), [("log", true), ("core", false)]);
        drop(at_work);
        assert_eq!(look(&threads), [("log", false), ("core", false)]);
        drop(log);
        assert_eq!(look(&threads), [("core", false)]);
        drop(core);
    }

    #[test]
    fn every_step_and_every_piece_of_work_changes_the_count() {
        let threads = Threads::new();
        let pulse = threads.enter("log", Pace::Long);
        let beat = threads.beats().remove(0);
        let mut seen = vec![beat.look().0];
        for _ in 0..2 {
            let at_work = pulse.work();
            seen.push(beat.look().0);
            at_work.step();
            seen.push(beat.look().0);
            drop(at_work);
            seen.push(beat.look().0);
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    }

    #[test]
    fn a_runtime_steps_by_itself() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let stepping = tokio::spawn(keep_stepping("of a test"));
            tokio::time::sleep(TICK / 2).await;
            let beats = OURS.beats();
            let beat = beats.iter().find(|beat| beat.name == "of a test");
            let beat = beat.expect("it has entered");
            let first = beat.look();
            tokio::time::sleep(TICK * 2).await;
            let second = beat.look();
            assert!(
                first.1 && second.1 && first.0 < second.0,
                "{first:?} {second:?}"
            );
            stepping.abort();
        });
    }
}
