//! What a state becomes in a new cluster: that of a backup, or what one member has left of a cluster that is lost.
//!
//! Owns the rules of `api.md` §1 and §8: the new cluster begins at a revision above everything that the old one made,
//! and nothing that hung on a lease outlives the cluster in which somebody believed in it. Keys stay as they were, with
//! their revisions. Idempotency records stay: what they tell of is in the keys, and a repeat must not be applied again.
//! Lock delays that run go on by the clock, which begins where it stood: they guard against a holder of the old cluster.

use crate::event::EndReason;
use crate::ids::{LeaseId, Revision};
use crate::keys::{Keys, Version};
use crate::load::LoadError;
use crate::parts::History;
use crate::state::State;

/// No revision is greater: JSON numbers are exact up to here.
pub const MAX_REVISION: u64 = (1 << 53) - 1;

/// Each second has so many revisions of its own in which a new cluster may begin.
const REVISIONS_A_SECOND: u64 = 1 << 20;

/// The revision at which a cluster begins that is restored or recovered at this time, in seconds since 1970. Of two
/// restores in different seconds the later one begins beyond whatever the other has made by then, unless that made
/// more than a million revisions in each second since.
pub fn revision_base(unix_seconds: u64) -> Revision {
    Revision(unix_seconds.saturating_mul(REVISIONS_A_SECOND))
}

/// The state that a new cluster begins with, and what ended on the way to it.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The state.
    pub state: State,
    /// How many leases ended.
    pub leases: u64,
    /// How many holds of locks, semaphores and elections ended with them.
    pub holds: u64,
    /// How many places in queues ended with them.
    pub places: u64,
    /// How many keys were deleted with them.
    pub keys: u64,
}

/// Why a state cannot be that of a new cluster.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RestoreError {
    /// A revision or a fence would be made twice.
    #[error(
        "it is at revision {revision}, and the new cluster would begin at {base}, which is not above it: the clock of this \
         machine is behind, set it right"
    )]
    NotAbove {
        /// Where it would begin.
        base: Revision,
        /// What there is already.
        revision: Revision,
    },
    /// Revisions would be too large for JSON.
    #[error(
        "the new cluster would begin at revision {base}, and no revision is above {MAX_REVISION}: the clock of this machine is \
         ahead, set it right"
    )]
    TooFar {
        /// Where it would begin.
        base: Revision,
    },
    /// The state that came of it is none.
    #[error("what was made of it is no state: {0}")]
    Load(#[from] LoadError),
}

impl State {
    /// The state with which a new cluster begins at revision `base`: history is compacted up to there, every lease has
    /// ended with all that hung on it, at a revision each in the order of their ids, and nobody was granted anything.
    ///
    /// # Errors
    ///
    /// Where `base` is not above everything that there is, or too far.
    pub fn restored(mut self, base: Revision) -> Result<Restored, RestoreError> {
        let leases: Vec<LeaseId> = self.leases.by_id.keys().copied().collect();
        self.check_base(base, leases.len() as u64)?;
        let holds = self.queues.values().map(|queue| queue.holds.len() as u64);
        let (holds, places) = (holds.sum(), self.places.len() as u64);
        let keys_before = self.keys.count(std::ops::Bound::Unbounded, None);
        self.forget_history(base);
        for lease in &leases {
            self.end_for_nobody(*lease);
        }
        self.starved.clear();
        self.firsts.clear();
        self.queues
            .retain(|_, queue| !queue.is_idle() || base < queue.mod_revision);
        self.forget_ended();
        // What was counted on the way here was counted of a state that no checkpoint knows: the rows are what counts.
        let state = State::from_rows(self.rows())?;
        let keys_after = state.keys.count(std::ops::Bound::Unbounded, None);
        Ok(Restored {
            state,
            leases: leases.len() as u64,
            holds,
            places,
            keys: keys_before.saturating_sub(keys_after),
        })
    }

    fn check_base(&self, base: Revision, leases: u64) -> Result<(), RestoreError> {
        let revision = self.revision.max(self.compact_target);
        if base <= revision {
            return Err(RestoreError::NotAbove { base, revision });
        }
        // As many again for what the new cluster will do: one that cannot write is of no use to anybody.
        let room = leases.saturating_add(REVISIONS_A_SECOND);
        if MAX_REVISION < base.0.saturating_add(room) {
            return Err(RestoreError::TooFar { base });
        }
        Ok(())
    }

    /// Puts the revision to `base`, with no history before it but the live versions of keys.
    fn forget_history(&mut self, base: Revision) {
        let live = self.keys.live_range(std::ops::Bound::Unbounded, None);
        let versions: Vec<(Box<[u8]>, Version)> = live
            .filter_map(|entry| {
                let version = self.keys.version_at(&entry.key, self.revision)?;
                Some((entry.key[..].into(), version.clone()))
            })
            .collect();
        self.keys = Keys::from_sorted(versions.into_iter());
        self.history = History {
            base,
            ..History::default()
        };
        (self.first, self.compact, self.revision) = (base, base, base);
        self.compact_target = Revision(0);
    }

    /// Ends a lease and grants nobody what it freed: whoever waits for that ends too.
    fn end_for_nobody(&mut self, lease: LeaseId) {
        let Some((_, mut revising)) = self.take_lease(lease, EndReason::Restored) else {
            return;
        };
        revising.freed.clear();
        self.seal(revising);
    }
}
