//! Which holds of a lease this program has in hand.
//!
//! A hold is known to the cluster by its lease and owner, and asking again is answered with the same hold. Two tasks that
//! ask alike would both be told that they hold. So each identity is claimed by one guard or waiter at a time, until
//! it is known that the cluster has nothing of it any more. Where that is never learnt, the identity stays claimed as
//! long as its lease lives: a release that is still on its way could end what a later asking was answered with.

use std::sync::Arc;

use tenure_api::Code;

use crate::error::{Error, Failure};
use crate::hold::Kind;
use crate::lease::Shared;

/// What is held or waited for, its name, and the owner or candidate.
pub(crate) type Identity = (Kind, String, String);

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
        if !lease.claims().insert(of.clone()) {
            let detail = format!(
                "this lease and owner {:?} already hold or wait for {} {:?} in this program, or it is not known that they do not",
                of.2,
                of.0.word(),
                of.1
            );
            let mut failure = Failure::local(detail);
            failure.code = Some(Code::AlreadyHeld);
            return Err(Error::NotApplied(failure));
        }
        let lease = Arc::clone(lease);
        Ok(Claim { lease, of })
    }

    /// The cluster has nothing of it any more.
    pub(crate) fn free(self) {
        self.lease.claims().remove(&self.of);
    }
}
