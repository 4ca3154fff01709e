//! What happened lately and is worth a word to an operator, where counts alone would not say when.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is older than this is not lately.
const LATELY: Duration = Duration::from_secs(300);

/// What is less is not kept so soon behind what is more, so that there are few.
const APART: Duration = Duration::from_secs(10);

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

/// The worst duration of some kind lately, and what is the worst when that is old: each less than the one before it.
#[derive(Debug, Default)]
pub(super) struct Worst(Mutex<VecDeque<(Instant, Duration)>>);

impl Worst {
    pub(super) fn note(&self, now: Instant, took: Duration) {
        let mut worst = self.lock();
        worst.retain(|(when, known)| took < *known && !is_old(*when, now));
        let last = worst.back().map(|(when, _)| *when);
        if last.is_none_or(|last| APART <= now.saturating_duration_since(last)) {
            worst.push_back((now, took));
        }
    }

    pub(super) fn at(&self, now: Instant) -> Option<Duration> {
        let worst = self.lock();
        let mut lately = worst.iter().filter(|(when, _)| !is_old(*when, now));
        lately.next().map(|(_, took)| *took)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Duration)>> {
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
        // What was less, and later, is the worst since then.
        assert_eq!(worst.at(after(301)), Some(took(600)));
        assert_eq!(worst.at(after(401)), None);
        worst.note(after(410), took(550));
        assert_eq!(worst.at(after(411)), Some(took(550)));
        worst.note(after(412), took(900));
        assert_eq!(worst.at(after(413)), Some(took(900)));
        // However often something is slow, little is kept of it.
        for turn in 0..3000 {
            worst.note(
                after(500 + turn / 10),
                took(800) - took(1) * turn as u32 / 10,
            );
        }
        assert!(worst.lock().len() <= 31, "{}", worst.lock().len());
    }
}
