//! True time, which only the simulator sees, and the clocks of members and clients, which run a little wrong.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::chance::{as_nanos, nanos};

/// A point in true time: nanoseconds since the run began.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Moment(pub(crate) u64);

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(as_nanos(span)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:4}.{:06}s",
            self.0 / 1_000_000_000,
            self.0 / 1000 % 1_000_000
        )
    }
}

/// How wrong a clock's rate may be: a hundredth, the only thing that the product assumes of clocks (`api.md` §1).
pub(crate) const ASSUMED_RATE_PPM: i64 = 10_000;
/// How wrong clocks are in runs in which that assumption does not hold. What clients believe is worth nothing then;
/// everything else must hold all the same.
pub(crate) const WILD_RATE_PPM: i64 = 50_000;

const MILLION: i64 = 1_000_000;

/// The clocks of a machine, with a rate and a beginning of their own. One stands still while the machine is suspended,
/// the other goes on.
#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    /// How much faster than true time they run, in parts of a million.
    ppm: i64,
    /// What they showed when the run began: nobody may make anything of it.
    began: Duration,
    stood_still: Duration,
    suspended_at: Option<Moment>,
}

impl SimClock {
    pub(crate) fn new(ppm: i64, began: Duration) -> SimClock {
        SimClock {
            ppm,
            began,
            stood_still: Duration::ZERO,
            suspended_at: None,
        }
    }

    /// What the clock shows that stands still while the machine is suspended (`CLOCK_MONOTONIC_RAW`).
    pub(crate) fn shows(&self, now: Moment) -> Duration {
        let now = self.suspended_at.unwrap_or(now);
        self.began + self.run(nanos(now.0).saturating_sub(self.stood_still))
    }

    /// What the clock shows that goes on meanwhile (`CLOCK_BOOTTIME`).
    pub(crate) fn shows_real(&self, now: Moment) -> Duration {
        self.began + self.run(nanos(now.0))
    }

    fn run(&self, span: Duration) -> Duration {
        nanos(scale(as_nanos(span), MILLION + self.ppm, MILLION))
    }

    /// The true time in which it advances by `span`, rounded up.
    pub(crate) fn true_span(&self, span: Duration) -> Duration {
        nanos(scale(as_nanos(span), MILLION, MILLION + self.ppm) + 1)
    }

    pub(crate) fn suspend(&mut self, now: Moment) {
        self.suspended_at.get_or_insert(now);
    }

    pub(crate) fn resume(&mut self, now: Moment) {
        if let Some(since) = self.suspended_at.take() {
            self.stood_still += now - since;
        }
    }
}

fn scale(number: u64, by: i64, of: i64) -> u64 {
    let scaled = u128::from(number) * u128::from(by.unsigned_abs()) / u128::from(of.unsigned_abs());
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_runs_at_its_rate_and_stands_still_while_suspended() {
        let began = Duration::from_secs(7);
        let mut clock = SimClock::new(10_000, began);
        let shows = |clock: &SimClock, moment| clock.shows(moment) - began;
        assert_eq!(
            shows(&clock, Moment(1_000_000_000)),
            Duration::from_millis(1010)
        );
        clock.suspend(Moment(1_000_000_000));
        assert_eq!(
            shows(&clock, Moment(3_000_000_000)),
            Duration::from_millis(1010)
        );
        clock.resume(Moment(3_000_000_000));
        assert_eq!(
            shows(&clock, Moment(4_000_000_000)),
            Duration::from_millis(2020)
        );
        assert_eq!(
            clock.shows_real(Moment(4_000_000_000)) - began,
            Duration::from_millis(4040)
        );
        let span = clock.true_span(Duration::from_millis(1010));
        assert!(Duration::from_secs(1) <= span && span <= Duration::from_secs(1) + nanos(2));
    }
}
