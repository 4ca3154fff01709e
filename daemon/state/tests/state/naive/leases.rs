//! Leases: granted, renewed, ended with all that hangs on them.

use tenure_state::*;

use super::{Called, MLease, Model};

impl Model {
    pub(crate) fn change(&mut self, id: LeaseId, ttl: u64) -> bool {
        if ttl < 1000 || self.lease(id).is_none() {
            return false;
        }
        self.lease(id).expect("it was there").ttl = ttl;
        self.renew(id)
    }

    pub(crate) fn lease(&mut self, id: LeaseId) -> Option<&mut MLease> {
        self.leases.iter_mut().find(|lease| lease.id == id)
    }

    /// Renews a lease for who asks, whose it is from then on if it was nobody's.
    pub(crate) fn renew(&mut self, id: LeaseId) -> bool {
        let (clock, called) = (self.clock, self.called_when_renewed(id));
        let Some(lease) = self.lease(id) else {
            return false;
        };
        lease.deadline = lease.deadline.max(clock + lease.ttl);
        lease.called = called;
        true
    }

    /// What a lease is called, and whose it is, once who asks has renewed it.
    pub(crate) fn called_when_renewed(&self, id: LeaseId) -> Called {
        let (name, owner) = self.called(id);
        let who = self.who.identity().filter(|_| self.access.enabled);
        (name, owner.or(who.map(str::to_owned)))
    }

    pub(crate) fn end_due(&mut self) {
        loop {
            let leases = self
                .leases
                .iter()
                .map(|lease| (lease.deadline, 0, lease.id.number(), String::new()));
            let places = self
                .places
                .iter()
                .map(|place| (place.wait, 1, place.revision, String::new()));
            let delays = self
                .delays
                .iter()
                .map(|delay| (delay.until, 2, delay.kind as u64, delay.name.clone()));
            let all = leases.chain(places).chain(delays);
            match all.filter(|due| due.0 < self.clock).min() {
                None => return,
                Some((_, 0, id, _)) => {
                    self.end(LeaseId::new(id).expect("it is a lease's"), true);
                }
                Some((_, 2, kind, name)) => {
                    let kinds = [Kind::Lock, Kind::Semaphore, Kind::Election];
                    let kind = kinds[kind as usize - 1];
                    self.clear_delay(kind, &name);
                    self.revision += 1;
                    if !self.serve(kind, &name) {
                        self.revision -= 1;
                    }
                }
                Some((_, _, revision, _)) => {
                    let at = self
                        .places
                        .iter()
                        .position(|place| place.revision == revision)
                        .expect("it is due");
                    let place = self.places.remove(at);
                    self.revision += 1;
                    self.serve(place.kind, &place.name);
                }
            }
        }
    }

    pub(crate) fn end(&mut self, id: LeaseId, ran_out: bool) -> bool {
        let Some(lease) = self.lease(id).cloned() else {
            return false;
        };
        self.revision += 1;
        let delayed: Vec<_> = self
            .holds
            .iter()
            .filter(|hold| hold.lease == id && ran_out && 0 < hold.delay)
            .map(|hold| (hold.kind, hold.name.clone(), hold.delay))
            .collect();
        for (kind, name, delay) in delayed {
            self.delay(kind, &name, self.clock + delay, &lease.called);
        }
        self.leases.retain(|lease| lease.id != id);
        self.ended.push(id);
        self.keys.retain(|key| key.lease != Some(id));
        let freed: Vec<_> = self
            .holds
            .iter()
            .chain(&self.places)
            .filter(|s| s.lease == id)
            .map(|s| (s.kind, s.name.clone()))
            .collect();
        self.holds.retain(|hold| hold.lease != id);
        self.places.retain(|place| place.lease != id);
        for (kind, name) in freed {
            self.serve(kind, &name);
        }
        true
    }

    pub(crate) fn grantable(&self, new: &NewLease) -> bool {
        let known = self.leases.iter().any(|lease| lease.id == new.lease)
            || self.ended.contains(&new.lease);
        1000 <= new.ttl_ms && !known && self.may_have_lease(self.who.identity())
    }

    pub(crate) fn grant(&mut self, new: &NewLease) -> bool {
        let granted = self.grantable(new);
        if granted {
            self.revision += 1;
            self.add_lease(new);
        }
        granted
    }

    pub(crate) fn add_lease(&mut self, new: &NewLease) {
        self.leases.push(MLease {
            id: new.lease,
            ttl: new.ttl_ms,
            deadline: self.clock + new.ttl_ms,
            called: self.called_new(new),
        });
    }

    /// What a lease will be called that is granted to who asks.
    pub(crate) fn called_new(&self, new: &NewLease) -> Called {
        (new.name.clone(), self.who.identity().map(str::to_owned))
    }
}
