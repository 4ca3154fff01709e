//! What one identity may have of something that all share: half of it.
//!
//! Owns the counts of the places that identities have among the requests that wait and among the watchers of this member,
//! so that one that has a single right cannot take all the room there is. Whoever administers the cluster is not counted, and
//! neither is anybody while nobody proves who asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure_api::Code;

use super::failure::Failure;

/// How much each identity has.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<Arc<str>, u64>>);

/// What an identity has of it, until it is dropped.
pub(super) struct Share {
    of: Arc<Shares>,
    identity: Arc<str>,
}

impl Shares {
    /// One more for an identity, of `all` that there are; `of` says what.
    ///
    /// # Errors
    ///
    /// `too-many-waiters` where it has half of them.
    pub(super) fn take(
        self: &Arc<Self>,
        identity: &str,
        (all, of): (u64, &'static str),
    ) -> Result<Share, Failure> {
        let most = (all / 2).max(1);
        let mut held = self.held();
        let count = held.get(identity).copied().unwrap_or(0);
        if most <= count {
            let detail = format!(
                "{identity:?} has {count} of the {all} {of} of this member, half of all, and one identity has no more of them; let \
                 some end, or ask another member"
            );
            return Err(Failure::new(Code::TooManyWaiters, detail)
                .with("limit", of)
                .with("allowed", most));
        }
        let identity: Arc<str> = identity.into();
        held.insert(Arc::clone(&identity), count + 1);
        let of = Arc::clone(self);
        Ok(Share { of, identity })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held();
        match held.get_mut(&self.identity) {
            Some(count) if *count > 1 => *count -= 1,
            // Nobody is remembered who has nothing.
            _ => {
                held.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_has_half_and_another_finds_the_rest() {
        let shares = Arc::new(Shares::default());
        let take = |identity: &str| shares.take(identity, (5, "waiting_requests"));
        let held = (take("a"), take("a"));
        assert!(held.0.is_ok() && held.1.is_ok());
        let refused = take("a").map(|_| ()).expect_err("it has half");
        assert_eq!(refused.code, Code::TooManyWaiters);
        assert!(refused.detail.contains("half of all"), "{}", refused.detail);
        let other = take("b");
        assert!(other.is_ok());
        drop(held.0);
        let again = take("a");
        assert!(again.is_ok() && take("a").is_err());
        drop((held.1, other, again));
        assert!(shares.held().is_empty(), "nobody is remembered");
        assert!(
            shares.take("a", (1, "watchers")).is_ok(),
            "one is always there"
        );
    }
}
