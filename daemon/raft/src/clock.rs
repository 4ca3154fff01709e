//! The leader's cluster clock.
//!
//! Owns the number from which entries are stamped. It exists only while its member leads, and starts at the stamp of the
//! last entry of that member's own log, so that stamps never fall along a log, and two of them never lie further
//! apart than the real times at which they were made.

use std::time::Duration;

use crate::types::Stamp;

/// The cluster clock of a leader.
#[derive(Debug)]
pub(crate) struct Clock {
    value: Duration,
}

impl Clock {
    /// A clock that goes on from `stamp`.
    pub(crate) fn starting_at(stamp: Stamp) -> Clock {
        Clock {
            value: Duration::from_millis(stamp.0),
        }
    }

    /// Lets real time pass, at most `limit` of it: what a longer pause took is never made up, since other members may
    /// have led and stamped meanwhile.
    pub(crate) fn advance(&mut self, elapsed: Duration, limit: Duration) {
        self.value = self.value.saturating_add(elapsed.min(limit));
    }

    /// The time now, rounded down to milliseconds.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(u64::try_from(self.value.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_rounds_down_and_never_makes_up_a_pause() {
        let limit = Duration::from_millis(50);
        let mut clock = Clock::starting_at(Stamp(7));
        clock.advance(Duration::from_micros(1_900), limit);
        assert_eq!(clock.stamp(), Stamp(8));
        clock.advance(Duration::from_micros(100), limit);
        assert_eq!(clock.stamp(), Stamp(9));
        clock.advance(Duration::from_secs(3600), limit);
        assert_eq!(clock.stamp(), Stamp(59));
    }
}
