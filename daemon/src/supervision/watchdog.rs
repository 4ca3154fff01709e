//! When the watchdog of the service manager is fed.
//!
//! Owns the judgement which threads are stuck. It counts looks and reads no clock: whoever was stopped with the whole
//! process did not look either, and must not find at its first look that everything has been stuck for long. Whether
//! the member leads, or anybody does, makes no difference: to kill a member that waits for the others helps nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::pulse::{Pace, Threads};

/// It is fed this often while the service manager waits once.
const LOOKS: u32 = 6;
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// A step of moments may take half of what the service manager waits for, so that a slow disk is not yet a stuck one,
/// and no less than this, since runtimes step a few times a second only.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);
/// A step of a thread that writes whole states may take so many times as long: with 30 s, five minutes.
const LONG: u32 = 20;

/// Looks after the threads of a process.
pub(super) struct Watchdog {
    interval: Duration,
    patience: Duration,
    threads: &'static Threads,
    /// What each of them had counted at the last look, and for how many looks before it, by number.
    seen: BTreeMap<u64, (u64, u32)>,
}

/// Threads that do not move.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Stuck(Vec<(&'static str, Duration)>);

impl Watchdog {
    /// One for a service manager that kills a process which has been silent for so long.
    pub(super) fn new(within: Duration, threads: &'static Threads) -> Watchdog {
        Watchdog {
            interval: (within / LOOKS).max(LEAST_INTERVAL),
            patience: (within / 2).max(LEAST_PATIENCE),
            threads,
            seen: BTreeMap::new(),
        }
    }

    /// How long to wait between two looks.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Looks at every thread.
    ///
    /// # Errors
    /// Those that do not move.
    pub(super) fn look(&mut self) -> Result<(), Stuck> {
        let mut stuck = Vec::new();
        let mut seen = BTreeMap::new();
        for beat in self.threads.beats() {
            let (steps, at_work) = beat.look();
            let looks = match self.seen.get(&beat.number) {
                Some((before, looks)) if at_work && *before == steps => looks + 1,
                _ => 0,
            };
            let unmoved = self.interval * looks;
            if unmoved >= self.patience_with(beat.pace) {
                stuck.push((beat.name, unmoved));
            }
            seen.insert(beat.number, (steps, looks));
        }
        self.seen = seen;
        match stuck.is_empty() {
            true => Ok(()),
            false => Err(Stuck(stuck)),
        }
    }

    fn patience_with(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Short => self.patience,
            Pace::Long => self.patience * LONG,
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, unmoved)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name} has not moved for {} s", unmoved.as_secs())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at threads that do something before each look, and answers at which looks which of them were stuck.
    fn stuck_at(
        within_s: u64,
        threads: &'static Threads,
        looks: u32,
        mut before: impl FnMut(u32),
    ) -> Vec<(u32, Vec<&'static str>)> {
        let mut watchdog = Watchdog::new(Duration::from_secs(within_s), threads);
        let mut found = Vec::new();
        for look in 1..=looks {
            before(look);
            if let Err(Stuck(stuck)) = watchdog.look() {
                found.push((look, stuck.into_iter().map(|(name, _)| name).collect()));
            }
        }
        found
    }

    #[test]
    fn a_thread_that_waits_for_work_is_not_stuck() {
        static THREADS: Threads = Threads::new();
        let _idle = THREADS.enter("idle", Pace::Short);
        assert_eq!(stuck_at(30, &THREADS, 100, |_| {}), []);
    }

    #[test]
    fn a_thread_that_steps_now_and_then_is_not_stuck() {
        static THREADS: Threads = Threads::new();
        let pulse = THREADS.enter("busy", Pace::Short);
        let at_work = pulse.work();
        let step = |look: u32| {
            if look.is_multiple_of(3) {
                at_work.step();
            }
        };
        assert_eq!(stuck_at(30, &THREADS, 100, step), []);
    }

    #[test]
    fn a_thread_that_begins_and_ends_work_is_not_taken_for_one_that_never_ends() {
        static THREADS: Threads = Threads::new();
        let pulse = THREADS.enter("busy", Pace::Short);
        let mut at_work = None;
        let again = |_| {
            drop(at_work.take());
            at_work = Some(pulse.work());
        };
        assert_eq!(stuck_at(30, &THREADS, 100, again), []);
    }

    #[test]
    fn a_thread_that_is_stuck_for_half_the_time_is_named_and_only_while_it_is() {
        static THREADS: Threads = Threads::new();
        let (one, other) = (
            THREADS.enter("one", Pace::Short),
            THREADS.enter("other", Pace::Short),
        );
        let _moves = other.work();
        let at_work = one.work();
        let step = |look| {
            _moves.step();
            if look == 6 {
                at_work.step();
            }
        };
        assert_eq!(
            stuck_at(30, &THREADS, 7, step),
            [(4, vec!["one"]), (5, vec!["one"])]
        );
    }

    #[test]
    fn a_long_step_has_twenty_times_as_long() {
        static THREADS: Threads = Threads::new();
        let pulse = THREADS.enter("checkpoint", Pace::Long);
        let _at_work = pulse.work();
        let found = stuck_at(30, &THREADS, 61, |_| {});
        assert_eq!(found, [(61, vec!["checkpoint"])]);
    }

    #[test]
    fn a_short_watchdog_waits_for_the_steps_of_a_runtime_all_the_same() {
        static THREADS: Threads = Threads::new();
        let pulse = THREADS.enter("edge", Pace::Short);
        let at_work = pulse.work();
        // Within a second it is looked every sixth of one: a step each quarter comes at every second look.
        let step = |look: u32| {
            if look.is_multiple_of(2) {
                at_work.step();
            }
        };
        assert_eq!(stuck_at(1, &THREADS, 50, step), []);
    }

    #[test]
    fn a_thread_that_has_ended_is_forgotten() {
        static THREADS: Threads = Threads::new();
        let pulse = THREADS.enter("ended", Pace::Short);
        let mut pulse = Some(pulse);
        let end = |look| {
            if look == 1 {
                // Its end comes while it is at work, as by a panic.
                let pulse = pulse.as_ref().expect("it lives");
                std::mem::forget(pulse.work());
            }
            if look == 5 {
                pulse = None;
            }
        };
        assert_eq!(stuck_at(30, &THREADS, 100, end), [(4, vec!["ended"])]);
    }
}
