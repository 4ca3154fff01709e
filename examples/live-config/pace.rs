//! At most so many a second, with a limit that may change at any time.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Gives out as many permits a second as it is asked for, none of them later than in that second.
pub(crate) struct Pace {
    spent: Mutex<(Instant, u32)>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace {
            spent: Mutex::new((now, 0)),
        }
    }

    /// Whether one more is let through.
    pub(crate) fn admits(&self, now: Instant, per_second: u32) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, count) = &mut *spent;
        if now.saturating_duration_since(*began).as_secs() >= 1 {
            (*began, *count) = (now, 0);
        }
        let admitted = *count < per_second;
        *count += u32::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_limit_counts_at_once_and_a_new_second_begins_anew() {
        let start = Instant::now();
        let pace = Pace::new(start);
        let admitted =
            |at: Duration, limit| (0..10).filter(|_| pace.admits(start + at, limit)).count();
        assert_eq!(admitted(Duration::ZERO, 2), 2);
        assert_eq!(admitted(Duration::from_millis(10), 5), 3);
        assert_eq!(admitted(Duration::from_millis(20), 1), 0);
        assert_eq!(admitted(Duration::from_millis(1_000), 4), 4);
    }
}
