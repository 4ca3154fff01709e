//! Which holds of a lease this program has in hand, and which askings may still come.
//!
//! A hold is known to the cluster by its lease and owner, and asking again is answered with the same hold. Two tasks that
//! ask alike would both be told that they hold. So each identity is claimed by one guard or waiter at a time, until
//! it is known that the cluster has nothing of it any more. Where that is never learnt, the identity stays claimed as
//! long as its lease lives: a release that is still on its way could end what a later asking was answered with.
//!
//! An asking that was given up, or was answered only when it was sent again, may be carried out later: what it takes then
//! is nobody's. It is remembered, so that the keeper can look for that and give it up.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenure_api::{Attached, Code};

use crate::clock::Moment;
use crate::error::{Error, Failure};
use crate::hold::Kind;
use crate::lease::Shared;

/// For so long a request may be held back by the network, or by a member that was stopped and goes on.
const LATE_FOR: Duration = Duration::from_secs(600);
/// Of a lease. The oldest are forgotten first: what they take then ends with the lease.
const MAX_LATE: usize = 10_000;

/// What is held or waited for, its name, and the owner or candidate.
pub(crate) type Identity = (Kind, String, String);

/// The identities of one lease.
#[derive(Default)]
pub(crate) struct Identities {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    claimed: HashSet<Identity>,
    late: VecDeque<(Moment, Asked)>,
}

/// What was asked for by one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// One, but for several locks taken together.
    pub(crate) names: Vec<String>,
    pub(crate) owner: String,
}

impl Asked {
    /// Whether something that hangs on the lease may have been taken by it.
    pub(crate) fn may_be(&self, thing: &Attached) -> bool {
        self.names
            .iter()
            .any(|name| self.kind.is_of(name, &self.owner, thing))
    }
}

impl Identities {
    /// It may be carried out from now on, though nobody waits for its answer any more.
    pub(crate) fn may_come(&self, asked: Asked, now: Moment) {
        let mut known = self.known();
        known.late.retain(|(_, late)| *late != asked);
        known.late.push_back((now, asked));
        let surplus = known.late.len().saturating_sub(MAX_LATE);
        known.late.drain(..surplus);
    }

    /// What may still come, or has.
    pub(crate) fn late(&self, now: Moment) -> Vec<Asked> {
        let mut known = self.known();
        known.late.retain(|(since, _)| now.since(*since) < LATE_FOR);
        known.late.iter().map(|(_, asked)| asked.clone()).collect()
    }

    /// Whether there is nothing to be remembered.
    pub(crate) fn is_empty(&self) -> bool {
        let known = self.known();
        known.claimed.is_empty() && known.late.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask for one identity.
pub(crate) struct Claim {
    lease: Arc<Shared>,
    of: Identity,
}

impl Claim {
    /// # Errors
    ///
    /// Where somebody in this program has it.
    pub(crate) fn of(lease: &Arc<Shared>, of: Identity) -> Result<Claim, Error> {
        if !lease.identities.known().claimed.insert(of.clone()) {
            let detail = format!(
                "this lease and owner {:?} already hold or wait for {} {:?} in this program, or it is not known that they do not",
                of.2,
                of.0.word(),
                of.1
            );
            return Err(already_held(detail));
        }
        let lease = Arc::clone(lease);
        Ok(Claim { lease, of })
    }

    /// The cluster has nothing of it any more.
    pub(crate) fn free(self) {
        self.lease.identities.known().claimed.remove(&self.of);
    }
}

/// What this program has in hand already is refused.
pub(crate) fn already_held(detail: String) -> Error {
    let mut failure = Failure::local(detail);
    failure.code = Some(Code::AlreadyHeld);
    Error::NotApplied(failure)
}
