//! Long-polls: requests that wait for something to happen.
//!
//! Owns what ends a wait beside the thing that is waited for: its time, the member's stop, and lost contact with the
//! leader. Must never end a lease or a place: a broken wait ends nothing.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::node::{Handle, LeaderView, Waiter};

/// A leader may be lost for this long before waits are ended for it: most elections are over by then, and a wait must
/// be ended within a second (`api.md` §2).
const LEADER_GRACE: Duration = Duration::from_millis(400);
/// How early a poll may end: so many thousandths of its length, at most (`api.md` §2, Waiting).
const JITTER_THOUSANDTHS: u64 = 50;

/// Why a wait came to an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Woken {
    /// Something changed: look.
    Changed,
    /// The time is up.
    TimeUp,
    /// The member is stopping.
    Stopping,
    /// Contact with the leader is lost, and not for a moment only.
    Leaderless,
}

/// One request that waits.
pub(super) struct Poll {
    until: Instant,
    leader: watch::Receiver<LeaderView>,
    stopping: CancellationToken,
    needs_leader: bool,
    /// Its place among the waiters of this member, given back when the poll is dropped.
    _permit: OwnedSemaphorePermit,
}

impl Poll {
    /// A wait until `until`.
    pub(super) fn new(handle: &Handle, until: Instant, permit: OwnedSemaphorePermit) -> Poll {
        Poll {
            until,
            leader: handle.leader_watch(),
            stopping: handle.stopping(),
            needs_leader: true,
            _permit: permit,
        }
    }

    /// The same, which goes on without a leader: it waits for what this member's own state shows.
    pub(super) fn of_own_state(self, own: bool) -> Poll {
        Poll {
            needs_leader: !own,
            ..self
        }
    }

    /// Waits. Cancellation loses nothing.
    pub(super) async fn next(&mut self, waiter: &Waiter) -> Woken {
        self.next_of(waiter.woken()).await
    }

    /// Waits for something that may be waited for anew without loss.
    pub(super) async fn next_of(&mut self, changed: impl Future<Output = ()>) -> Woken {
        tokio::select! {
            biased;
            () = changed => Woken::Changed,
            () = sleep_until(self.until) => Woken::TimeUp,
            () = self.stopping.cancelled() => Woken::Stopping,
            () = leaderless(&mut self.leader), if self.needs_leader => Woken::Leaderless,
        }
    }
}

/// Ends when no leader has been known for the grace.
async fn leaderless(leader: &mut watch::Receiver<LeaderView>) {
    loop {
        // An error means that the member is gone, and its leader with it.
        if leader.wait_for(|view| view.leader.is_none()).await.is_err() {
            return;
        }
        match timeout(LEADER_GRACE, leader.wait_for(|view| view.leader.is_some())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// A length of time less up to a twentieth, so that polls that began together do not end together. Never longer.
pub(super) fn jittered(length: Duration, seed: u64) -> Duration {
    let thousandths = u32::try_from(seed % JITTER_THOUSANDTHS).unwrap_or(0);
    length - length * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_at_most_a_twentieth_early_and_never_late() {
        let length = Duration::from_millis(600_000);
        for seed in 0..1000 {
            let jittered = jittered(length, seed);
            assert!(
                length * 95 / 100 <= jittered && jittered <= length,
                "{jittered:?}"
            );
        }
        assert_eq!(jittered(Duration::ZERO, 7), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_back_within_the_grace_was_not_lost() {
        let known = || LeaderView {
            leader: Some(tenure_raft::MemberId(1)),
            ..LeaderView::default()
        };
        let (sender, mut receiver) = watch::channel(known());
        let began = Instant::now();
        let changes = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                sender.send_replace(LeaderView::default());
                tokio::time::sleep(LEADER_GRACE / 2).await;
                sender.send_replace(known());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send_replace(LeaderView::default());
            began.elapsed()
        };
        let (lost_at, ()) = tokio::join!(changes, leaderless(&mut receiver));
        // The timer rounds up to milliseconds.
        let waited = began.elapsed() - lost_at;
        assert!(
            LEADER_GRACE <= waited && waited < LEADER_GRACE + Duration::from_millis(3),
            "{waited:?}"
        );
    }
}
