//! Long-polls: requests that wait for something to happen.
//!
//! Owns what ends a wait beside the thing that is waited for: its time, the member's stop, lost contact with the leader, and
//! a change of rights, upon which whoever waits looks whether it still may. Must never end a lease or a place: a broken wait ends nothing.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::caller::Changes;
use super::service::{Context, WaitPermit};
use crate::node::{LeaderView, Waiter};

/// No grace is shorter, however short the election timeout: an election also takes a few writes to disks.
const LEAST_GRACE: Duration = Duration::from_millis(100);
/// How early a poll may end: so many thousandths of its length, at most (`api.md` §2, Waiting).
const JITTER_THOUSANDTHS: u64 = 50;

/// Why a wait came to an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Woken {
    /// Something changed, what is waited for or the rights of whoever waits: look.
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
    /// For how long no leader may be known before the wait is ended for it.
    grace: Duration,
    stopping: CancellationToken,
    /// Changes of the rights of whoever waits.
    rights: Changes,
    needs_leader: bool,
    /// Its place among the waiters of this member, given back when the poll is dropped.
    _permit: WaitPermit,
}

impl Poll {
    /// A wait until `until`.
    pub(super) fn new(cx: &Context<'_>, until: Instant, permit: WaitPermit) -> Poll {
        let handle = cx.handle();
        Poll {
            until,
            leader: handle.leader_watch(),
            grace: grace(handle.election_timeout()),
            stopping: handle.stopping(),
            rights: cx.changes(),
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

    /// Why it is over already, without waiting: its time, or the member's stop. Whoever always has something to tell asks
    /// this before each time.
    pub(super) fn is_over(&self) -> Option<Woken> {
        if self.until <= Instant::now() {
            return Some(Woken::TimeUp);
        }
        self.stopping.is_cancelled().then_some(Woken::Stopping)
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
            () = self.rights.next() => Woken::Changed,
            () = sleep_until(self.until) => Woken::TimeUp,
            () = self.stopping.cancelled() => Woken::Stopping,
            () = leaderless(&mut self.leader, self.grace), if self.needs_leader => Woken::Leaderless,
        }
    }
}

/// How long a leader may be lost before waits are ended for it: long enough for most elections to be over.
///
/// A member knows of the loss two election timeouts after it last heard the leader, at the latest, so that a wait is
/// ended within ten thirds of one: a second, with the usual 300 ms (`api.md` §2), and as much longer with a longer one.
fn grace(election_timeout: Duration) -> Duration {
    (election_timeout * 4 / 3).max(LEAST_GRACE)
}

/// Ends when no leader has been known for the grace.
async fn leaderless(leader: &mut watch::Receiver<LeaderView>, grace: Duration) {
    loop {
        // An error means that the member is gone, and its leader with it.
        if leader.wait_for(|view| view.leader.is_none()).await.is_err() {
            return;
        }
        match timeout(grace, leader.wait_for(|view| view.leader.is_some())).await {
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

    #[test]
    fn a_wait_ends_within_a_second_of_the_loss_of_the_leader_with_the_usual_settings() {
        let usual = tenure_raft::Settings::default().election_timeout;
        // The loss is known after a random time of one to two timeouts.
        assert!(2 * usual + grace(usual) <= Duration::from_secs(1));
        assert_eq!(grace(10 * usual), 10 * grace(usual));
        assert_eq!(grace(Duration::from_millis(3)), LEAST_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_back_within_the_grace_was_not_lost() {
        let known = || LeaderView {
            leader: Some(tenure_raft::MemberId(1)),
            ..LeaderView::default()
        };
        let (sender, mut receiver) = watch::channel(known());
        let (began, grace) = (Instant::now(), Duration::from_millis(400));
        let changes = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                sender.send_replace(LeaderView::default());
                tokio::time::sleep(grace / 2).await;
                sender.send_replace(known());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send_replace(LeaderView::default());
            began.elapsed()
        };
        let (lost_at, ()) = tokio::join!(changes, leaderless(&mut receiver, grace));
        // The timer rounds up to milliseconds.
        let waited = began.elapsed() - lost_at;
        assert!(
            grace <= waited && waited < grace + Duration::from_millis(3),
            "{waited:?}"
        );
    }
}
