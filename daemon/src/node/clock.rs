//! The clocks of a member: both monotonic, neither the wall's.
//!
//! Owns what counts as a pause. Time as it advances anything is that of the hardware while the machine runs; the other
//! clock goes on while it is suspended and serves only to notice that.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What both clocks show at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Moment {
    /// Time as the hardware counts it, not slewed by anybody, standing still while the machine is suspended
    /// (`CLOCK_MONOTONIC_RAW`). What is measured with it decides when leases end.
    pub(super) running: Duration,
    /// Time that goes on while the machine is suspended (`CLOCK_BOOTTIME`).
    pub(super) real: Duration,
}

/// What lies between two turns of the core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passed {
    /// So much time.
    Turned(Duration),
    /// The process did not run, or the whole machine did not, for longer than an election timeout: so much real time,
    /// in which others may have led.
    Paused(Duration),
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment {
            running: read(ClockId::MonotonicRaw),
            real: read(ClockId::Boottime),
        }
    }

    /// What lies between `earlier` and this moment, when a sleep of `slept` was meant to and anything over
    /// `patience` beyond it is a pause.
    pub(super) fn since(self, earlier: Moment, slept: Duration, patience: Duration) -> Passed {
        let running = self.running.saturating_sub(earlier.running);
        let real = self.real.saturating_sub(earlier.real).max(running);
        match real > slept + patience {
            true => Passed::Paused(real),
            false => Passed::Turned(running),
        }
    }
}

/// The time by a clock that counts what a suspend took, and that nobody who sets the time makes faster or slower.
pub(super) fn unslewed() -> Duration {
    let suspended = read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic));
    read(ClockId::MonotonicRaw) + suspended
}

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).expect("a monotonic clock is never negative");
    let nanos = u32::try_from(now.tv_nsec).expect("nanoseconds are below a second");
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Moment = Moment {
        running: Duration::from_secs(100),
        real: Duration::from_secs(5000),
    };

    fn check(running_ms: u64, real_ms: u64, expected: Passed) {
        let now = Moment {
            running: BEGAN.running + Duration::from_millis(running_ms),
            real: BEGAN.real + Duration::from_millis(real_ms),
        };
        let (slept, patience) = (Duration::from_millis(25), Duration::from_millis(300));
        assert_eq!(now.since(BEGAN, slept, patience), expected);
    }

    #[test]
    fn a_turn_takes_the_time_of_the_running_clock() {
        check(0, 0, Passed::Turned(Duration::ZERO));
        check(20, 21, Passed::Turned(Duration::from_millis(20)));
        check(325, 325, Passed::Turned(Duration::from_millis(325)));
    }

    #[test]
    fn a_process_that_did_not_run_for_an_election_timeout_was_paused() {
        check(326, 326, Passed::Paused(Duration::from_millis(326)));
    }

    #[test]
    fn a_suspended_machine_was_paused_though_its_running_clock_stood_still() {
        check(2, 3_600_000, Passed::Paused(Duration::from_secs(3600)));
    }

    #[test]
    fn a_suspend_shorter_than_an_election_timeout_is_no_pause_and_advances_nothing() {
        check(2, 300, Passed::Turned(Duration::from_millis(2)));
    }

    #[test]
    fn neither_clock_of_this_machine_ever_falls() {
        let earlier = Moment::now();
        let later = Moment::now();
        assert!(earlier.running <= later.running && earlier.real <= later.real);
    }
}
