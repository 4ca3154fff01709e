//! A hold on a lease: of a lock, a semaphore or an election.
//!
//! Owns the rule of when a hold may be believed in beside its lease. The lease may live on after its hold was broken, so
//! a renewal prolongs the belief in a hold only where it says that nothing on the lease has changed since the hold was
//! last seen. Else the hold keeps the deadline that it had, which the cluster waits for too, until it is seen again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure_api::{Attached, AttachedState};

use crate::belief::Belief;
use crate::claim::Identity;
use crate::clock::Deadline;
use crate::error::Loss;
use crate::lease::Shared;

/// What a hold is of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    Lock,
    Semaphore,
    Election,
}

impl Kind {
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Kind::Lock => "locks",
            Kind::Semaphore => "semaphores",
            Kind::Election => "elections",
        }
    }

    /// The name of the parameter that has the owner.
    pub(crate) fn owner_field(self) -> &'static str {
        match self {
            Kind::Lock | Kind::Semaphore => "owner",
            Kind::Election => "candidate",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Election => "election",
        }
    }
}

pub(crate) struct Hold {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The owner; of an election the candidate.
    pub(crate) owner: String,
    pub(crate) fence: u64,
    pub(crate) belief: Belief,
    pub(crate) lease: Arc<Shared>,
    /// The revision at which the cluster last showed it as held.
    seen: AtomicU64,
}

impl Hold {
    pub(crate) fn new(
        (kind, name, owner): Identity,
        fence: u64,
        belief: Belief,
        lease: Arc<Shared>,
        seen: u64,
    ) -> Arc<Hold> {
        let hold = Arc::new(Hold {
            kind,
            name,
            owner,
            fence,
            belief,
            lease: Arc::clone(&lease),
            seen: AtomicU64::new(seen),
        });
        lease.attach(&hold);
        hold
    }

    /// A renewal was answered. Answers whether the hold has to be looked at before more is believed of it.
    pub(crate) fn lease_renewed(&self, until: Deadline, attached_revision: u64) -> bool {
        let doubtful = attached_revision > self.seen.load(Ordering::SeqCst);
        if !doubtful {
            self.belief.extend(until);
        }
        doubtful
    }

    /// The cluster showed at a revision what hangs on the lease, `whole` or the beginning of it.
    pub(crate) fn lease_seen(&self, until: Deadline, attached: &[Attached], whole: bool, at: u64) {
        if attached.iter().any(|thing| self.is(thing)) {
            self.seen.fetch_max(at, Ordering::SeqCst);
            self.belief.extend(until);
        } else if whole && at >= self.seen.load(Ordering::SeqCst) {
            self.belief.end(Loss::Broken);
        }
    }

    fn is(&self, thing: &Attached) -> bool {
        let name = thing.resource.strip_prefix(self.kind.collection());
        let name = name.and_then(|rest| rest.strip_prefix('/'));
        let owner = match self.kind {
            Kind::Election => &thing.candidate,
            Kind::Lock | Kind::Semaphore => &thing.owner,
        };
        name == Some(self.name.as_str())
            && owner.as_deref().unwrap_or_default() == self.owner
            && thing.state == Some(AttachedState::Held)
            && thing.fence == Some(self.fence)
    }

    /// What hangs this hold's fence on a write.
    pub(crate) fn guard(&self) -> String {
        let name = crate::name::encoded(&self.name, true);
        format!("{}={name}; fence={}", self.kind.word(), self.fence)
    }
}
