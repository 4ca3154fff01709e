//! What a state has gone through since this member has it: counts for those who watch over the member.
//!
//! No part of the replicated state: nothing that is decided looks at it, no row or digest has it, and a member that was
//! restarted begins anew. It is kept here because only here is known what a renewal or an end was about.

use crate::event::{EndReason, LeaveReason, ReleaseReason};
use crate::ids::{Kind, Revision};
use crate::state::State;

/// Counts since the state was made or loaded, and what is there now. Times are of the cluster clock, in milliseconds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Leases granted.
    pub leases_granted: u64,
    /// Renewals of live leases: changes of their TTL are among them, and whoever asks for something with a lease.
    pub leases_renewed: u64,
    /// Of those, with less than a tenth of the TTL left: one hiccup more and the lease had ended.
    pub leases_renewed_at_the_edge: u64,
    /// Leases that ran out.
    pub leases_expired: u64,
    /// Leases that were revoked.
    pub leases_revoked: u64,
    /// What was left of leases that were renewed.
    pub renewal_margin: Spread,
    /// How long after their deadline leases ended that ran out.
    pub end_lateness: Spread,
    /// Keys put.
    pub keys_put: u64,
    /// Keys deleted, with their leases too.
    pub keys_deleted: u64,
    /// Events told to watchers.
    pub events: u64,
    queues: [QueueTally; 3],
}

/// The same of locks, semaphores or elections.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueTally {
    /// Holds there are now.
    pub held: u64,
    /// Places there are now; one request has a place in each of its queues.
    pub waiting: u64,
    /// Holds granted.
    pub granted: u64,
    /// Holds that their holders released.
    pub released: u64,
    /// Holds that ended with their lease.
    pub lost: u64,
    /// Holds that an operator broke.
    pub broken: u64,
    /// Leaderships handed over.
    pub handed_over: u64,
    /// Places taken.
    pub queued: u64,
    /// Places whose wait was over before a grant.
    pub wait_expired: u64,
    /// Places that were left, or ended with their lease.
    pub left: u64,
    /// How long those waited who were granted what they waited for.
    pub wait: Spread,
    /// How long holds lasted.
    pub hold: Spread,
}

/// How durations are spread: a histogram in milliseconds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Spread {
    counts: [u64; Spread::BOUNDS_MS.len() + 1],
    sum_ms: u64,
}

impl Spread {
    /// The upper bounds of all buckets but the last, which has none.
    pub const BOUNDS_MS: [u64; 16] = [
        1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
        1_800_000,
    ];

    fn note(&mut self, ms: u64) {
        let bucket = Self::BOUNDS_MS.partition_point(|bound| *bound < ms);
        self.counts[bucket] += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }

    /// How many in each bucket, not in those below it too.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The sum of all.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms
    }

    /// How many in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Tally {
    /// The counts of locks, semaphores or elections.
    pub fn of(&self, kind: Kind) -> &QueueTally {
        &self.queues[index(kind)]
    }

    pub(crate) fn of_mut(&mut self, kind: Kind) -> &mut QueueTally {
        &mut self.queues[index(kind)]
    }

    /// A lease of `ttl_ms` was renewed when so much was left of it.
    pub(crate) fn renewed(&mut self, left_ms: u64, ttl_ms: u64) {
        self.leases_renewed += 1;
        self.leases_renewed_at_the_edge += u64::from(left_ms < ttl_ms / 10);
        self.renewal_margin.note(left_ms);
    }

    /// A lease ran out, so long after its deadline.
    pub(crate) fn expired(&mut self, late_ms: u64) {
        self.end_lateness.note(late_ms);
    }

    /// A lease ended.
    pub(crate) fn lease_ended(&mut self, reason: EndReason) {
        match reason {
            EndReason::Expired => self.leases_expired += 1,
            EndReason::Revoked | EndReason::Restored => self.leases_revoked += 1,
        }
    }
}

impl QueueTally {
    pub(crate) fn granted(&mut self) {
        self.granted += 1;
        self.held += 1;
    }

    /// A hold ended that had lasted so long.
    pub(crate) fn ended(&mut self, reason: ReleaseReason, lasted_ms: u64) {
        self.held = self.held.saturating_sub(1);
        self.hold.note(lasted_ms);
        match reason {
            ReleaseReason::Released => self.released += 1,
            ReleaseReason::LeaseEnded => self.lost += 1,
            ReleaseReason::Broken => self.broken += 1,
            ReleaseReason::HandedOver => self.handed_over += 1,
        }
    }

    pub(crate) fn queued(&mut self) {
        self.queued += 1;
        self.waiting += 1;
    }

    /// A place ended after so long; without a reason it was granted.
    pub(crate) fn served(&mut self, reason: Option<LeaveReason>, waited_ms: u64) {
        self.waiting = self.waiting.saturating_sub(1);
        match reason {
            None => self.wait.note(waited_ms),
            Some(LeaveReason::WaitExpired) => self.wait_expired += 1,
            Some(LeaveReason::Withdrawn | LeaveReason::LeaseEnded) => self.left += 1,
        }
    }
}

impl State {
    /// What this member has gone through with it.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Goes on with the counts of a state that this one replaces.
    pub fn continue_tally(&mut self, before: &State) {
        let loaded = std::mem::replace(&mut self.tally, before.tally.clone());
        for (tally, loaded) in self.tally.queues.iter_mut().zip(loaded.queues) {
            (tally.held, tally.waiting) = (loaded.held, loaded.waiting);
        }
        // Whatever was judged by the other state is to be judged again.
        self.access.changes = before.access.changes.wrapping_add(1);
    }

    /// Counts what is there now.
    pub(crate) fn count_present(&mut self) {
        for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
            let (held, waiting) = self.present(kind);
            let tally = self.tally.of_mut(kind);
            (tally.held, tally.waiting) = (held, waiting);
        }
    }

    /// How many holds and places there are, by looking at all.
    pub(crate) fn present(&self, kind: Kind) -> (u64, u64) {
        let queues = self.queues.iter().filter(|(id, _)| id.kind == kind);
        queues.fold((0, 0), |(held, waiting), (_, queue)| {
            (
                held + queue.holds.len() as u64,
                waiting + queue.places.len() as u64,
            )
        })
    }

    /// How long ago a revision was made. What history does not tell any more is as old as the oldest that it tells.
    pub(crate) fn age_ms(&self, revision: Revision) -> u64 {
        let behind = revision.0.saturating_sub(self.history.base.0);
        let at = usize::try_from(behind.saturating_sub(1)).unwrap_or(usize::MAX);
        let made = self.history.changes.get(at);
        made.map_or(0, |made| self.clock.0.saturating_sub(made.clock.0))
    }
}

fn index(kind: Kind) -> usize {
    match kind {
        Kind::Lock => 0,
        Kind::Semaphore => 1,
        Kind::Election => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let mut spread = Spread::default();
        for ms in [0, 1, 2, 5, 6, 1_800_000, 1_800_001] {
            spread.note(ms);
        }
        assert_eq!(spread.counts()[..3], [2, 2, 1]);
        assert_eq!(spread.counts()[15..], [1, 1]);
        assert_eq!((spread.count(), spread.sum_ms()), (7, 3_600_015));
    }

    #[test]
    fn a_renewal_is_at_the_edge_with_less_than_a_tenth_left() {
        let mut tally = Tally::default();
        tally.renewed(1_000, 10_000);
        tally.renewed(999, 10_000);
        assert_eq!(
            (tally.leases_renewed, tally.leases_renewed_at_the_edge),
            (2, 1)
        );
    }
}
