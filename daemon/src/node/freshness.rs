//! How old this member's state may be, for those who read it without asking the leader (`api.md` §2).
//!
//! Owns one moment: the newest at which this member is known to have applied everything then committed. A linearizable
//! barrier proves it of the moment at which it began, whatever was committed since; nothing else does. Time is counted
//! by a clock that goes on while the machine is suspended: a member that slept is as old as it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;

/// A read of this member's state asks for a newer moment where the known one is older than this: about two heartbeats,
/// so that members which are read all the time ask seldom, and the age that is told stays near the truth.
const REFRESH_AFTER: Duration = Duration::from_millis(100);

/// A moment at which this member had applied everything then committed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FreshAt(Duration);

impl FreshAt {
    /// This moment.
    pub(super) fn now() -> FreshAt {
        FreshAt(boottime())
    }

    /// How long ago it was.
    pub fn age(self) -> Duration {
        boottime().saturating_sub(self.0)
    }
}

#[derive(Default)]
pub(super) struct Freshness {
    /// Nanoseconds; 0 while nothing is known.
    newest: AtomicU64,
    refreshing: AtomicBool,
}

impl Freshness {
    /// A barrier that began at `began` has succeeded.
    pub(super) fn note(&self, began: FreshAt) {
        let nanos = u64::try_from(began.0.as_nanos()).unwrap_or(0);
        self.newest.fetch_max(nanos, Ordering::AcqRel);
    }

    /// The newest moment at which everything then committed was applied. Whoever reads the state takes it first: a
    /// barrier that succeeds in between says nothing of what was read before.
    pub(super) fn newest(&self) -> Option<FreshAt> {
        match self.newest.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(FreshAt(Duration::from_nanos(nanos))),
        }
    }

    /// Whether the caller is to ask for a newer moment: the known one is old, and nobody is asking.
    pub(super) fn begin_refresh(&self) -> bool {
        let old = self
            .newest()
            .is_none_or(|newest| newest.age() > REFRESH_AFTER);
        old && !self.refreshing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_refresh(&self) {
        self.refreshing.store(false, Ordering::Release);
    }
}

/// Time that also passes while the machine is suspended.
fn boottime() -> Duration {
    Moment::now().real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_moment_never_goes_back_and_one_asks_at_a_time() {
        let freshness = Freshness::default();
        assert_eq!(freshness.newest(), None);
        assert!(freshness.begin_refresh());
        assert!(!freshness.begin_refresh(), "one is asking");
        let (early, late) = (
            FreshAt::now(),
            FreshAt(boottime() + Duration::from_nanos(1)),
        );
        freshness.note(late);
        freshness.note(early);
        assert_eq!(freshness.newest(), Some(late));
        freshness.end_refresh();
        assert!(!freshness.begin_refresh(), "what is known is new");
    }
}
