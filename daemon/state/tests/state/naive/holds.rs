//! What is done with a hold, and the delays that are left behind.

use tenure_state::*;

use super::{Called, MDelay, MStanding, Model};

impl Model {
    pub(crate) fn break_hold(&mut self, broken: &Break) -> bool {
        let named = |hold: &MStanding| {
            hold.kind == broken.kind
                && hold.name == broken.name
                && hold.revision == broken.fence.0
                && broken
                    .holder
                    .as_ref()
                    .is_none_or(|(lease, owner)| (hold.lease, &hold.owner) == (*lease, owner))
        };
        let deadline = self
            .holds
            .iter()
            .filter(|hold| named(hold))
            .map(|hold| self.leases.iter().find(|lease| lease.id == hold.lease))
            .map(|lease| lease.expect("a hold has a lease").deadline)
            .max();
        let Some(deadline) = deadline else {
            return false;
        };
        self.revision += 1;
        self.holds.retain(|hold| !named(hold));
        if !broken.now && self.clock < deadline {
            self.delay(broken.kind, &broken.name, deadline, &Called::default());
        }
        self.serve(broken.kind, &broken.name);
        true
    }

    /// The later end counts, for nobody but whom both let through.
    pub(crate) fn delay(&mut self, kind: Kind, name: &str, until: u64, passes: &Called) {
        let running = self.delay_of(kind, name).cloned();
        let (until, passes) = match &running {
            Some(running) if running.passes == *passes => {
                (until.max(running.until), passes.clone())
            }
            Some(running) => (until.max(running.until), Called::default()),
            None => (until, passes.clone()),
        };
        self.clear_delay(kind, name);
        self.delays.push(MDelay {
            kind,
            name: name.to_owned(),
            until,
            passes,
        });
    }

    pub(crate) fn delay_of(&self, kind: Kind, name: &str) -> Option<&MDelay> {
        self.delays
            .iter()
            .find(|delay| delay.kind == kind && delay.name == name)
    }

    pub(crate) fn clear_delay(&mut self, kind: Kind, name: &str) {
        self.delays
            .retain(|delay| delay.kind != kind || delay.name != name);
    }

    pub(crate) fn leads(
        &self,
        name: &str,
        lease: LeaseId,
        candidate: &str,
        fence: Fence,
    ) -> Option<usize> {
        self.holds.iter().position(|hold| {
            hold.kind == Kind::Election
                && hold.name == name
                && hold.lease == lease
                && hold.owner == candidate
                && hold.revision == fence.0
        })
    }

    pub(crate) fn proclaim(&mut self, proclaim: &Proclaim) -> bool {
        let Proclaim {
            name,
            lease,
            candidate,
            fence,
            value,
        } = proclaim;
        let Some(at) = self.leads(name, *lease, candidate, *fence) else {
            return false;
        };
        self.holds[at].value.clone_from(value);
        self.revision += 1;
        true
    }

    pub(crate) fn hand_over(&mut self, hand_over: &HandOver) -> bool {
        let HandOver {
            name,
            lease,
            candidate,
            fence,
            to,
        } = hand_over;
        let Some(at) = self.leads(name, *lease, candidate, *fence) else {
            return false;
        };
        let mut heirs = self.waiting(Kind::Election, name).into_iter();
        let Some(heir) = heirs.find(|heir| heir.owner == *to && self.may_still_hold(heir)) else {
            return false;
        };
        self.revision += 1;
        self.holds.remove(at);
        self.places.retain(|place| *place != heir);
        self.holds.push(MStanding {
            revision: self.revision,
            since: self.clock,
            ..heir
        });
        true
    }

    pub(crate) fn release(&mut self, release: &Release) -> bool {
        let same = |s: &MStanding| {
            s.kind == release.kind
                && s.name == release.name
                && s.lease == release.lease
                && s.owner == release.owner
        };
        let from = match release.fence {
            Some(_) => &mut self.holds,
            None => &mut self.places,
        };
        let found = from
            .iter()
            .position(|s| same(s) && release.fence.is_none_or(|fence| fence.0 == s.revision));
        let Some(at) = found else { return false };
        from.remove(at);
        self.revision += 1;
        self.serve(release.kind, &release.name);
        true
    }

    pub(crate) fn holds_fence(&self, guard: &Guard) -> bool {
        self.holds.iter().any(|hold| {
            hold.kind == guard.kind && hold.name == guard.name && hold.revision == guard.fence.0
        })
    }
}
