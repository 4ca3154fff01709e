//! Elections: what a leader does with its leadership beside holding it.
//!
//! Owns proclaiming and handing over. Campaigning and resigning are the acquire and the release of any queue.

use tenure_mutants::{Mutant, mutated};

use crate::answer::{Answer, HolderView, Outcome, Refusal};
use crate::command::{HandOver, Proclaim};
use crate::ends::check_size;
use crate::event::{Event, ReleaseReason};
use crate::ids::{Fence, Kind, LeaseId};
use crate::limits::MAX_ELECTION_VALUE_BYTES;
use crate::parts::{Asker, PlaceId, QueueId};
use crate::rows::RowId;
use crate::state::State;

impl State {
    pub(crate) fn proclaim(&mut self, proclaim: &Proclaim) -> Outcome {
        check_size(
            "election_value_bytes",
            proclaim.value.len(),
            MAX_ELECTION_VALUE_BYTES,
        )?;
        let id = QueueId::new(Kind::Election, &proclaim.name);
        let asker = State::asker(proclaim.lease, &proclaim.candidate);
        if !mutated(Mutant::StrangerProclaims) {
            self.check_leads(&id, &asker, proclaim.lease, proclaim.fence)?;
        }
        let old = self
            .queues
            .get(&id)
            .and_then(|queue| queue.holds.get(&asker))
            .map_or(0, |hold| hold.value.len() as u64);
        let new = proclaim.value.len() as u64;
        self.check_standing(new.saturating_sub(old))?;
        self.standing = self.standing.saturating_sub(old).saturating_add(new);
        let mut revising = self.revise();
        self.touch(RowId::Queue(id.clone()));
        self.touch(RowId::Hold(id.clone(), asker.clone()));
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.mod_revision = revising.revision;
            if let Some(hold) = queue.holds.get_mut(&asker) {
                hold.value.clone_from(&proclaim.value);
            }
        }
        revising.gained.push(Event::Proclaimed {
            name: proclaim.name.clone(),
            candidate: proclaim.candidate.clone(),
            fence: proclaim.fence,
            value: proclaim.value.clone(),
        });
        self.seal(revising);
        let view = self.view_hold(&id, &asker, self.clock);
        view.map(Answer::Held).ok_or(Refusal::NotHeld)
    }

    pub(crate) fn hand_over(&mut self, hand_over: &HandOver) -> Outcome {
        let id = QueueId::new(Kind::Election, &hand_over.name);
        let asker = State::asker(hand_over.lease, &hand_over.candidate);
        self.check_leads(&id, &asker, hand_over.lease, hand_over.fence)?;
        let place = self
            .first_waiting_as(&id, &hand_over.to)
            .ok_or(Refusal::NotHeld)?;
        let mut revising = self.revise();
        if !mutated(Mutant::HandOverKeepsLeader) {
            self.remove_hold(&id, &asker, ReleaseReason::HandedOver, &mut revising);
        }
        let heir = self.remove_place(place, None, &mut revising);
        if let Some(heir) = &heir {
            self.add_holds(heir, &mut revising);
        }
        self.serve(&mut revising);
        self.seal(revising);
        let leader = heir.and_then(|heir| self.view_holder(&id, &heir.asker));
        Ok(Answer::HandedOver {
            leader: leader.ok_or(Refusal::NotHeld)?,
            clock: self.clock,
            revision: self.revision,
        })
    }

    /// Refuses who does not lead with this fence: as stale where somebody leads with another.
    fn check_leads(
        &self,
        id: &QueueId,
        asker: &Asker,
        lease: LeaseId,
        fence: Fence,
    ) -> Result<(), Refusal> {
        if !self.leases.by_id.contains_key(&lease) {
            return Err(self.no_lease(lease));
        }
        let leads = self
            .queues
            .get(id)
            .and_then(|queue| queue.holds.iter().next());
        let (leader, hold) = leads.ok_or(Refusal::NotHeld)?;
        match (leader == asker, hold.fence == fence) {
            (true, true) => Ok(()),
            (false, true) => Err(Refusal::NotHeld),
            (_, false) => Err(Refusal::FenceStale {
                present: Some(hold.fence),
            }),
        }
    }

    /// The first place of a candidate that can be granted anything at this clock, and may lead.
    fn first_waiting_as(&self, id: &QueueId, candidate: &str) -> Option<PlaceId> {
        let queue = self.queues.get(id)?;
        let can_lead = |id: &PlaceId| {
            let place = self.places.get(id);
            place.is_some_and(|place| self.is_awake(place) && self.may_be_granted(place))
        };
        queue.places_of(candidate).find(can_lead)
    }

    fn view_holder(&self, id: &QueueId, asker: &Asker) -> Option<HolderView> {
        let hold = self.queues.get(id)?.holds.get(asker)?;
        Some(self.holder_view(asker, hold))
    }
}
