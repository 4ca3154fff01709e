//! What clients believe, in true time: the promise of `api.md` §1.
//!
//! Owns, for every lease, until when its client believes in it, and which holds hang on it. A client stops believing in
//! a hold when it sends a release, and in a lease when it sends a revoke.

use std::collections::BTreeMap;

use tenure_state::{Fence, LeaseId};

use super::demand;
use crate::time::Moment;

/// A hold that a client knows of.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Hold {
    name: String,
    owner: String,
    fence: Fence,
}

#[derive(Default)]
struct Belief {
    client: usize,
    until: Moment,
    holds: Vec<Hold>,
}

#[derive(Default)]
pub(crate) struct Beliefs {
    leases: BTreeMap<LeaseId, Belief>,
}

impl Beliefs {
    /// A client learnt that it may believe in a lease until then.
    pub(crate) fn lease(&mut self, now: Moment, client: usize, lease: LeaseId, until: Moment) {
        let belief = self.leases.entry(lease).or_default();
        belief.client = client;
        belief.until = belief.until.max(until);
        let holds = belief.holds.clone();
        holds
            .iter()
            .for_each(|hold| self.demand_alone(now, lease, hold));
    }

    /// A client learnt that it holds a lock.
    pub(crate) fn hold(
        &mut self,
        now: Moment,
        lease: LeaseId,
        name: &str,
        owner: &str,
        fence: Fence,
    ) {
        let hold = Hold {
            name: name.to_owned(),
            owner: owner.to_owned(),
            fence,
        };
        let Some(belief) = self.leases.get_mut(&lease) else {
            return;
        };
        belief
            .holds
            .retain(|known| (&known.name, &known.owner) != (&hold.name, &hold.owner));
        belief.holds.push(hold.clone());
        self.demand_alone(now, lease, &hold);
    }

    fn demand_alone(&self, now: Moment, lease: LeaseId, hold: &Hold) {
        let Some(mine) = self.leases.get(&lease).filter(|belief| now < belief.until) else {
            return;
        };
        for (other, belief) in self.leases.iter().filter(|(_, belief)| now < belief.until) {
            for theirs in belief
                .holds
                .iter()
                .filter(|theirs| theirs.name == hold.name)
            {
                let same = *other == lease && theirs.owner == hold.owner;
                demand!(
                    same,
                    "mutual-exclusion",
                    "client {} believes that it holds {} by lease {lease} with {:?}, client {} by {other} with {:?}",
                    mine.client,
                    hold.name,
                    hold.fence,
                    belief.client,
                    theirs.fence
                );
            }
        }
    }

    /// A client gives up a hold, if it has it.
    pub(crate) fn release(&mut self, lease: LeaseId, name: &str, owner: &str) {
        if let Some(belief) = self.leases.get_mut(&lease) {
            belief
                .holds
                .retain(|hold| hold.name != name || hold.owner != owner);
        }
    }

    /// A client gives up a lease: its own, after which it does not believe.
    pub(crate) fn revoke(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
    }

    /// A lease ran out by an entry that was appended then: nobody may believe in it any more.
    pub(crate) fn expired(&mut self, lease: LeaseId, appended: Moment) {
        if let Some(belief) = self.leases.remove(&lease) {
            demand!(
                belief.until <= appended,
                "early-end",
                "lease {lease} ran out at {appended}; client {} believes in it until {}",
                belief.client,
                belief.until
            );
        }
    }
}
