//! Queues: who is granted what, and who waits.

use tenure_state::*;

use super::{Called, MStanding, Model};

impl Model {
    pub(crate) fn acquire(&mut self, acquire: &Acquire) -> bool {
        let Wanted { name, share } = &acquire.wanted[0];
        let lease = acquire.claim.lease();
        let same = |s: &&MStanding| {
            s.kind == acquire.kind
                && s.name == *name
                && s.lease == lease
                && s.owner == acquire.owner
        };
        match &acquire.claim {
            Claim::Grant(new) if !self.grantable(new) => return false,
            Claim::Lease(id) if self.lease(*id).is_none() => return false,
            _ => {}
        }
        let present = self
            .holds
            .iter()
            .chain(&self.places)
            .find(same)
            .map(|standing| standing.share);
        if let Some(present) = present {
            return present == *share && self.renew(lease);
        }
        let users = self
            .holds
            .iter()
            .chain(&self.places)
            .filter(|s| s.kind == acquire.kind && s.name == *name);
        if users
            .into_iter()
            .any(|user| limit_of(user.share) != limit_of(*share))
        {
            return false;
        }
        let called = match &acquire.claim {
            Claim::Grant(new) => self.called_new(new),
            Claim::Lease(id) => self.called_when_renewed(*id),
        };
        let turn = match self.delay_of(acquire.kind, name) {
            Some(_) => self.admitted(acquire.kind, name, &called),
            None => !self
                .waiting(acquire.kind, name)
                .iter()
                .any(|place| acquire.priority <= place.priority),
        };
        let free = self.room(acquire.kind, name, *share) && turn;
        if !free && (acquire.wait_ms == 0 || !self.may_have_place(called.1.as_deref())) {
            return false;
        }
        self.revision += 1;
        match &acquire.claim {
            Claim::Grant(new) => self.add_lease(new),
            Claim::Lease(id) => assert!(self.renew(*id)),
        }
        let standing = MStanding {
            kind: acquire.kind,
            name: name.clone(),
            lease,
            owner: acquire.owner.clone(),
            share: *share,
            priority: acquire.priority,
            revision: self.revision,
            since: self.clock,
            wait: self.clock + acquire.wait_ms,
            delay: acquire.lock_delay_ms,
            value: acquire.value.clone(),
        };
        if free {
            let delayed = self.delay_of(acquire.kind, name).is_some();
            self.clear_delay(acquire.kind, name);
            self.holds.push(standing);
            // Others who can share it waited for nothing but the end of the delay.
            if delayed {
                self.serve(acquire.kind, name);
            }
        } else {
            self.places.push(standing)
        }
        true
    }

    pub(crate) fn room(&self, kind: Kind, name: &str, share: Share) -> bool {
        let holds: Vec<_> = self
            .holds
            .iter()
            .filter(|hold| hold.kind == kind && hold.name == name)
            .collect();
        match share {
            Share::Exclusive => holds.is_empty(),
            Share::Shared => holds.iter().all(|hold| hold.share == Share::Shared),
            Share::Permits { permits, limit } => {
                let taken: u64 = holds.iter().map(|hold| permits_of(hold.share)).sum();
                taken + permits <= limit
            }
        }
    }

    pub(crate) fn awake(&self, place: &MStanding) -> bool {
        let lease = self
            .leases
            .iter()
            .find(|lease| lease.id == place.lease)
            .expect("a place has a lease");
        self.clock <= place.wait && self.clock <= lease.deadline
    }

    /// Whether a delay of the name lets the lease through.
    pub(crate) fn admitted(&self, kind: Kind, name: &str, called: &Called) -> bool {
        self.delay_of(kind, name)
            .is_none_or(|delay| !called.0.is_empty() && delay.passes == *called)
    }

    /// Places of a name that can be granted something, in their order.
    pub(crate) fn waiting(&self, kind: Kind, name: &str) -> Vec<MStanding> {
        let mut places: Vec<_> = self
            .places
            .iter()
            .filter(|p| p.kind == kind && p.name == name && self.awake(p))
            .cloned()
            .collect();
        places.sort_by_key(|place| (-place.priority, place.revision));
        places
    }

    /// Grants at the present revision, and ends the places of those who lost the right; says whether it did either.
    pub(crate) fn serve(&mut self, kind: Kind, name: &str) -> bool {
        let mut served = false;
        loop {
            let waiting = self.waiting(kind, name).into_iter();
            let mut admitted =
                waiting.filter(|place| self.admitted(kind, name, &self.called(place.lease)));
            let Some(first) = admitted.next() else {
                return served;
            };
            if !self.room(kind, name, first.share) {
                return served;
            }
            served = true;
            self.places.retain(|place| *place != first);
            if !self.may_still_hold(&first) {
                continue;
            }
            self.clear_delay(kind, name);
            self.holds.push(MStanding {
                revision: self.revision,
                since: self.clock,
                ..first
            });
        }
    }
}

fn permits_of(share: Share) -> u64 {
    if let Share::Permits { permits, .. } = share {
        permits
    } else {
        0
    }
}

fn limit_of(share: Share) -> Option<u64> {
    if let Share::Permits { limit, .. } = share {
        Some(limit)
    } else {
        None
    }
}
