//! What happened lately and is worth a word to an operator, where counts alone would not say when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is older than this is not lately.
const LATELY: Duration = Duration::from_secs(300);

/// The worst of each kind, for five minutes after it was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// How long a synced write of the log took that was slow.
    pub slow_sync: Option<Duration>,
    /// How long the process, or the whole machine, did not run.
    pub pause: Option<Duration>,
    /// How fast the leader's clock runs by this member's; 0 where it is not known.
    pub leader_clock_rate: f64,
}

/// The worst duration of some kind lately.
#[derive(Debug, Default)]
pub(super) struct Worst(Mutex<Option<(Instant, Duration)>>);

impl Worst {
    pub(super) fn note(&self, now: Instant, took: Duration) {
        let mut worst = self.lock();
        if worst.is_none_or(|(when, known)| known <= took || is_old(when, now)) {
            *worst = Some((now, took));
        }
    }

    pub(super) fn at(&self, now: Instant) -> Option<Duration> {
        let worst = *self.lock();
        worst
            .filter(|(when, _)| !is_old(*when, now))
            .map(|(_, took)| took)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_old(when: Instant, now: Instant) -> bool {
    LATELY < now.saturating_duration_since(when)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_until_it_is_old() {
        let (began, worst) = (Instant::now(), Worst::default());
        let after = |seconds| began + Duration::from_secs(seconds);
        let took = Duration::from_millis;
        assert_eq!(worst.at(began), None);
        worst.note(began, took(700));
        worst.note(after(100), took(600));
        assert_eq!(worst.at(after(300)), Some(took(700)));
        assert_eq!(worst.at(after(301)), None);
        worst.note(after(310), took(550));
        assert_eq!(worst.at(after(311)), Some(took(550)));
    }
}
