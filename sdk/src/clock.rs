//! Time as a belief about a lease needs it: elapsed time that counts a suspended machine, too.
//!
//! Owns the two clocks of the contract. `std::time::Instant` stands still on Linux while the machine is suspended, so
//! nothing that decides whether something is still held may use it; timers may, since whoever wakes looks here.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Shows the time. Tests bring their own.
pub(crate) trait Clock: Send + Sync {
    fn now(&self) -> Moment;
}

/// A moment on both clocks. Differences are taken on each, never across.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moment {
    /// Counts time in which the machine was suspended, and is slewed by the keeper of the wall clock.
    pub(crate) boot: Duration,
    /// Is not slewed by anyone, and stands still during a suspension.
    pub(crate) raw: Duration,
}

impl Moment {
    /// The time since an earlier moment: the greater of what the clocks show.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        let boot = self.boot.saturating_sub(earlier.boot);
        let raw = self.raw.saturating_sub(earlier.raw);
        boot.max(raw)
    }

    /// So much later.
    pub(crate) fn after(self, length: Duration) -> Deadline {
        Deadline { from: self, length }
    }

    /// Until when a holder may believe, who was answered `remaining_ms` to a request that it sent at this moment
    /// (the contract, §1): 2 % pay for two clocks that each differ by 1 % from real time, 50 ms for coarse ticks.
    pub(crate) fn believed_until(self, remaining_ms: u64) -> Deadline {
        let remaining = Duration::from_millis(remaining_ms);
        let believed = (remaining - remaining / 50).saturating_sub(Duration::from_millis(50));
        self.after(believed)
    }
}

/// A moment in the future of another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Deadline {
    from: Moment,
    length: Duration,
}

impl Deadline {
    /// What is left of it; zero once either clock has reached it.
    pub(crate) fn remaining(self, now: Moment) -> Duration {
        self.length.saturating_sub(now.since(self.from))
    }

    pub(crate) fn has_passed(self, now: Moment) -> bool {
        self.remaining(now).is_zero()
    }

    /// The one of two that leaves more; both are true, so the greater may be believed.
    pub(crate) fn later(self, other: Deadline, now: Moment) -> Deadline {
        if other.remaining(now) > self.remaining(now) {
            other
        } else {
            self
        }
    }
}

/// The clocks of this machine.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment {
            boot: since_start(clock_gettime(ClockId::Boottime)),
            raw: since_start(clock_gettime(ClockId::MonotonicRaw)),
        }
    }
}

fn since_start(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).expect("these clocks begin at zero and only rise");
    let nanos = u32::try_from(time.tv_nsec).expect("a second has fewer nanoseconds than that");
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_ms: u64, raw_ms: u64) -> Moment {
        Moment {
            boot: Duration::from_millis(boot_ms),
            raw: Duration::from_millis(raw_ms),
        }
    }

    #[test]
    fn belief_ends_two_per_cent_and_fifty_milliseconds_early() {
        let until = at(1_000, 500).believed_until(10_000);
        assert_eq!(
            until.remaining(at(1_000, 500)),
            Duration::from_millis(9_750)
        );
        assert!(!until.has_passed(at(10_749, 10_249)));
        assert!(until.has_passed(at(10_750, 500)));
    }

    #[test]
    fn a_remainder_shorter_than_the_margin_is_not_believed_at_all() {
        assert!(at(7, 7).believed_until(51).has_passed(at(7, 7)));
    }

    #[test]
    fn suspended_time_counts_on_one_clock_and_a_faster_crystal_on_the_other() {
        let until = at(0, 0).believed_until(10_000);
        assert!(
            until.has_passed(at(9_750, 3)),
            "the machine slept, the raw clock stood still"
        );
        assert!(
            until.has_passed(at(9_700, 9_750)),
            "the boot clock was slewed to be slower"
        );
    }

    #[test]
    fn a_clock_that_gained_before_does_not_count_for_what_begins_later() {
        // Taking the greater of two totals would count 1000 ms twice here.
        assert_eq!(
            at(2_000, 1_100).since(at(2_000, 1_000)),
            Duration::from_millis(100)
        );
    }

    #[test]
    fn the_clocks_of_this_machine_advance() {
        let start = SystemClock.now();
        while SystemClock.now().since(start).is_zero() {
            std::thread::yield_now();
        }
    }
}
