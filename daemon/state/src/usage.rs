//! What each identity uses of what its quota bounds.
//!
//! Owns the count of leases and places by identity, and the judgement of the quotas that every member judges alike. The
//! count follows from the rows and is none itself; what nobody in particular has is not counted here. Only growth is
//! refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::access::{Principal, Quota};
use crate::answer::Refusal;
use crate::state::State;

/// What identities use; those that use nothing are not in it.
pub(crate) type Usage = BTreeMap<Arc<str>, Used>;

/// What one identity uses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Used {
    pub leases: u64,
    pub places: u64,
}

impl State {
    /// Who asks, as it is kept with what is granted; one name in memory for all of it.
    pub(crate) fn known_identity(&self, who: &Principal) -> Option<Arc<str>> {
        let known = self.access.identities.get_key_value(who.identity()?);
        known
            .map(|(name, _)| Arc::clone(name))
            .or_else(|| who.shared_identity())
    }

    /// Refuses one lease more than an identity may have.
    pub(crate) fn check_lease_quota(&self, identity: Option<&str>) -> Result<(), Refusal> {
        let counts = |quota: Quota, used: Used| (quota.leases, used.leases);
        self.check_quota_of(identity, "leases", counts)
    }

    /// Refuses one place more than an identity may have.
    pub(crate) fn check_place_quota(&self, identity: Option<&str>) -> Result<(), Refusal> {
        let counts = |quota: Quota, used: Used| (quota.places, used.places);
        self.check_quota_of(identity, "places", counts)
    }

    /// While access control is off, no quota counts.
    fn check_quota_of(
        &self,
        identity: Option<&str>,
        quota: &'static str,
        counts: impl FnOnce(Quota, Used) -> (Option<u64>, u64),
    ) -> Result<(), Refusal> {
        let identity = identity.filter(|_| self.access.enabled);
        let known = identity.and_then(|name| Some((name, self.access.identity(name)?)));
        let Some((name, identity)) = known else {
            return Ok(());
        };
        let used = self.usage.get(name).copied().unwrap_or_default();
        let (allowed, present) = counts(identity.quota, used);
        let asked = present.saturating_add(1);
        match allowed {
            Some(allowed) if allowed < asked && !mutated(Mutant::IdentityQuotaIgnored) => {
                Err(Refusal::IdentityQuotaExceeded {
                    identity: name.to_owned(),
                    quota,
                    allowed,
                    asked,
                })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn count_lease(&mut self, identity: Option<&Arc<str>>) {
        self.count(identity, |used| used.leases += 1);
    }

    pub(crate) fn count_place(&mut self, identity: Option<&Arc<str>>) {
        self.count(identity, |used| used.places += 1);
    }

    pub(crate) fn uncount_lease(&mut self, identity: Option<&str>) {
        self.uncount(identity, |used| used.leases = used.leases.saturating_sub(1));
    }

    pub(crate) fn uncount_place(&mut self, identity: Option<&str>) {
        self.uncount(identity, |used| used.places = used.places.saturating_sub(1));
    }

    fn count(&mut self, identity: Option<&Arc<str>>, more: impl FnOnce(&mut Used)) {
        if let Some(identity) = identity {
            more(self.usage.entry(Arc::clone(identity)).or_default());
        }
    }

    fn uncount(&mut self, identity: Option<&str>, less: impl FnOnce(&mut Used)) {
        let Some(identity) = identity else {
            return;
        };
        let Some(used) = self.usage.get_mut(identity) else {
            return;
        };
        less(used);
        if *used == Used::default() {
            self.usage.remove(identity);
        }
    }

    /// The count as the parts of the state give it.
    pub(crate) fn counted_usage(&self) -> Usage {
        let mut counted = Usage::new();
        let leases = self.leases.by_id.values();
        for identity in leases.filter_map(|lease| lease.identity.as_ref()) {
            counted.entry(Arc::clone(identity)).or_default().leases += 1;
        }
        let places = self.places.values();
        for identity in places.filter_map(|place| place.identity.as_ref()) {
            counted.entry(Arc::clone(identity)).or_default().places += 1;
        }
        counted
    }
}
