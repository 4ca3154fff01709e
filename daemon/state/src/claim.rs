//! Leases that were granted while access control was off, and whose they become.
//!
//! Owns the one way in which a lease of nobody becomes somebody's: whoever is the first to keep it alive while access control
//! is on has it from then on, as if it had been granted to him. Who that is by right nobody can know, since nobody proved
//! anything when it was granted; whoever renews it is who has it in hand. No quota refuses it: a lease that could not be
//! renewed would end under a program that did nothing wrong. Never takes a lease from whom it belongs to.

use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::access::Principal;
use crate::ids::LeaseId;
use crate::parts::{Hanging, PlaceId};
use crate::rows::RowId;
use crate::state::State;

impl State {
    /// Whose a lease is once somebody who may use it has renewed it.
    pub(crate) fn owner_renewed_by(&self, lease: LeaseId, who: &Principal) -> Option<Arc<str>> {
        let present = self.leases.by_id.get(&lease)?;
        match &present.identity {
            Some(owner) => Some(Arc::clone(owner)),
            None if self.access.enabled => self.known_identity(who),
            None => None,
        }
    }

    /// Gives a lease of nobody to whoever renews it, with the places that hang on it. It costs as much as hangs there, once.
    pub(crate) fn claim(&mut self, id: LeaseId, who: &Principal) {
        let Some(owner) = self.owner_renewed_by(id, who) else {
            return;
        };
        if mutated(Mutant::LeaseStaysNobodys) {
            return;
        }
        if !mutated(Mutant::ClaimNotSaved) {
            self.touch(RowId::Lease(id));
        }
        let Some(lease) = self.leases.by_id.get_mut(&id) else {
            return;
        };
        if lease.identity.is_some() {
            return;
        }
        lease.identity = Some(Arc::clone(&owner));
        self.count_lease(Some(&owner));
        for place in self.places_on(id) {
            // A place in several queues hangs here once for each of them.
            let Some(place) = self.places.get_mut(&place) else {
                continue;
            };
            if place.identity.is_none() {
                place.identity = Some(Arc::clone(&owner));
                self.count_place(Some(&owner));
            }
        }
    }

    fn places_on(&self, id: LeaseId) -> Vec<PlaceId> {
        let attached = self.leases.by_id.get(&id).map(|lease| &lease.attached);
        let place = |hanging: &Hanging| match hanging {
            Hanging::Place(queue, owner) => {
                let askers = &self.queues.get(queue)?.askers;
                askers.get(&State::asker(id, owner)).copied()
            }
            Hanging::Key(_) | Hanging::Hold(..) => None,
        };
        attached.into_iter().flatten().filter_map(place).collect()
    }
}
