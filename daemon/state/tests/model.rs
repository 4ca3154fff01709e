//! The state against a model that is simple enough to be believed: plain lists, and scans for everything.

mod support;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use support::entries;
use tenure_state::*;

#[derive(Clone, Debug)]
struct MLease {
    id: LeaseId,
    ttl: u64,
    deadline: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct MStanding {
    kind: Kind,
    name: String,
    lease: LeaseId,
    owner: String,
    share: Share,
    priority: i32,
    /// The revision of the grant or of the place.
    revision: u64,
    wait: u64,
}

#[derive(Default)]
struct Model {
    clock: u64,
    revision: u64,
    leases: Vec<MLease>,
    ended: Vec<LeaseId>,
    holds: Vec<MStanding>,
    places: Vec<MStanding>,
    keys: Vec<KeyEntry>,
}

impl Model {
    fn apply(&mut self, stamp: u64, batch: &Batch) -> Vec<bool> {
        self.clock = stamp;
        let mut accepted: Vec<bool> = batch
            .renewals
            .iter()
            .map(|renewal| self.renew(renewal.lease))
            .collect();
        self.end_due();
        for request in &batch.requests {
            accepted.push(match &request.command {
                Command::GrantLease(new) => self.grant(new),
                Command::RevokeLease { lease } => self.end(*lease),
                Command::Acquire(acquire) => self.acquire(acquire),
                Command::Release(release) => self.release(release),
                Command::Transaction(transaction) => self.transact(transaction),
                other => panic!("the model does not know {other:?}"),
            });
        }
        accepted
    }

    fn lease(&mut self, id: LeaseId) -> Option<&mut MLease> {
        self.leases.iter_mut().find(|lease| lease.id == id)
    }

    fn renew(&mut self, id: LeaseId) -> bool {
        let clock = self.clock;
        self.lease(id)
            .map(|lease| lease.deadline = lease.deadline.max(clock + lease.ttl))
            .is_some()
    }

    fn end_due(&mut self) {
        loop {
            let leases = self
                .leases
                .iter()
                .map(|lease| (lease.deadline, 0, lease.id.number()));
            let places = self
                .places
                .iter()
                .map(|place| (place.wait, 1, place.revision));
            let due = leases.chain(places).filter(|due| due.0 < self.clock).min();
            match due {
                None => return,
                Some((_, 0, id)) => {
                    self.end(LeaseId::new(id).expect("it is a lease's"));
                }
                Some((_, _, revision)) => {
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

    fn end(&mut self, id: LeaseId) -> bool {
        if self.lease(id).is_none() {
            return false;
        }
        self.revision += 1;
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

    fn room(&self, kind: Kind, name: &str, share: Share) -> bool {
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

    fn awake(&self, place: &MStanding) -> bool {
        let lease = self
            .leases
            .iter()
            .find(|lease| lease.id == place.lease)
            .expect("a place has a lease");
        self.clock <= place.wait && self.clock <= lease.deadline
    }

    /// Places of a name that can be granted something, in their order.
    fn waiting(&self, kind: Kind, name: &str) -> Vec<MStanding> {
        let mut places: Vec<_> = self
            .places
            .iter()
            .filter(|p| p.kind == kind && p.name == name && self.awake(p))
            .cloned()
            .collect();
        places.sort_by_key(|place| (-place.priority, place.revision));
        places
    }

    /// Grants at the present revision.
    fn serve(&mut self, kind: Kind, name: &str) {
        while let Some(first) = self.waiting(kind, name).into_iter().next() {
            if !self.room(kind, name, first.share) {
                return;
            }
            self.places.retain(|place| *place != first);
            self.holds.push(MStanding {
                revision: self.revision,
                ..first
            });
        }
    }

    fn grantable(&self, new: &NewLease) -> bool {
        let known = self.leases.iter().any(|lease| lease.id == new.lease)
            || self.ended.contains(&new.lease);
        1000 <= new.ttl_ms && !known
    }

    fn grant(&mut self, new: &NewLease) -> bool {
        let granted = self.grantable(new);
        if granted {
            self.revision += 1;
            self.add_lease(new);
        }
        granted
    }

    fn add_lease(&mut self, new: &NewLease) {
        self.leases.push(MLease {
            id: new.lease,
            ttl: new.ttl_ms,
            deadline: self.clock + new.ttl_ms,
        });
    }

    fn acquire(&mut self, acquire: &Acquire) -> bool {
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
        let ahead = self
            .waiting(acquire.kind, name)
            .iter()
            .any(|place| acquire.priority <= place.priority);
        let free = self.room(acquire.kind, name, *share) && !ahead;
        if !free && acquire.wait_ms == 0 {
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
            wait: self.clock + acquire.wait_ms,
        };
        if free {
            self.holds.push(standing)
        } else {
            self.places.push(standing)
        }
        true
    }

    fn release(&mut self, release: &Release) -> bool {
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

    fn transact(&mut self, transaction: &Transaction) -> bool {
        if [&transaction.then, &transaction.otherwise]
            .into_iter()
            .any(|branch| writes_twice(branch))
        {
            return false;
        }
        let met = transaction
            .conditions
            .iter()
            .all(|condition| self.met(condition));
        let operations = if met {
            &transaction.then
        } else {
            &transaction.otherwise
        };
        let mut keys = self.keys.clone();
        let revision = Revision(self.revision + 1);
        for operation in operations {
            match operation {
                Operation::Put(put) => {
                    if put.lease.is_some_and(|id| self.lease(id).is_none()) {
                        return false;
                    }
                    let old = keys
                        .iter()
                        .position(|key| key.key == put.key)
                        .map(|at| keys.remove(at));
                    let other = old
                        .as_ref()
                        .and_then(|old| old.lease)
                        .filter(|lease| Some(*lease) != put.lease);
                    if put.refuse_other_lease && put.lease.is_some() && other.is_some() {
                        return false;
                    }
                    keys.push(KeyEntry {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        content_type: None,
                        create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                        mod_revision: revision,
                        version: old.map_or(1, |old| old.version + 1),
                        lease: put.lease,
                    });
                }
                Operation::Delete { key } => keys.retain(|entry| entry.key != key),
                Operation::DeleteRange { start, end } => {
                    keys.retain(|entry| !within(&entry.key, start, end.as_ref()))
                }
                Operation::Get { .. } => {}
            }
        }
        if keys != self.keys {
            self.keys = keys;
            self.revision += 1;
        }
        true
    }

    fn met(&self, condition: &Condition) -> bool {
        let (key, field, compare) = match condition {
            Condition::Key {
                key,
                field,
                compare,
            } => (key, field, compare),
            Condition::LeaseLive(id) => return self.leases.iter().any(|lease| lease.id == *id),
            Condition::Held(_) => unreachable!("not drawn"),
        };
        let entry = self.keys.iter().find(|entry| entry.key == key);
        let ordering = match field {
            Field::Value(value) => match entry {
                Some(entry) => entry.value.cmp(value),
                None => return *compare == Compare::NotEqual,
            },
            Field::Version(n) => entry.map_or(0, |entry| entry.version).cmp(n),
            Field::CreateRevision(n) => entry.map_or(0, |entry| entry.create_revision.0).cmp(n),
            Field::ModRevision(n) => entry.map_or(0, |entry| entry.mod_revision.0).cmp(n),
            Field::Lease(lease) => entry.and_then(|entry| entry.lease).cmp(lease),
        };
        match compare {
            Compare::Equal => ordering.is_eq(),
            Compare::NotEqual => ordering.is_ne(),
            Compare::Less => ordering.is_lt(),
            Compare::Greater => ordering.is_gt(),
        }
    }

    fn check(&mut self, state: &State) -> Result<(), TestCaseError> {
        prop_assert_eq!(state.revision().0, self.revision);
        prop_assert_eq!(state.lease_count() as usize, self.leases.len());
        for lease in &self.leases {
            let view = state
                .lease(lease.id, state.clock())
                .expect("the model has it");
            prop_assert_eq!(view.deadline.0, lease.deadline);
            let standing = self
                .holds
                .iter()
                .chain(&self.places)
                .filter(|s| s.lease == lease.id)
                .count();
            let keys = self
                .keys
                .iter()
                .filter(|key| key.lease == Some(lease.id))
                .count();
            prop_assert_eq!(view.attached_count as usize, standing + keys);
        }
        for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
            for name in ["x", "y", "z"] {
                self.check_queue(state, kind, name)?;
            }
        }
        self.keys.sort_by(|a, b| a.key.cmp(&b.key));
        let keys = state
            .keys_at(state.revision(), std::ops::Bound::Unbounded, None, 100)
            .expect("it is the present");
        prop_assert_eq!(
            keys.iter().map(|key| (**key).clone()).collect::<Vec<_>>(),
            self.keys.clone()
        );
        prop_assert_eq!(
            state.count_keys(std::ops::Bound::Unbounded, None) as usize,
            self.keys.len()
        );
        let next = self
            .leases
            .iter()
            .map(|lease| lease.deadline)
            .chain(self.places.iter().map(|place| place.wait))
            .min();
        prop_assert_eq!(state.next_deadline().map(|clock| clock.0), next);
        Ok(())
    }

    fn check_queue(&self, state: &State, kind: Kind, name: &str) -> Result<(), TestCaseError> {
        let view = state.queue(kind, name);
        let mut holders: Vec<_> = self
            .holds
            .iter()
            .filter(|s| s.kind == kind && s.name == name)
            .collect();
        holders.sort_by_key(|hold| (hold.lease, hold.owner.clone()));
        let expected: Vec<_> = holders
            .iter()
            .map(|h| (h.lease, h.owner.clone(), h.share, h.revision))
            .collect();
        let got: Vec<_> = view
            .holders
            .iter()
            .map(|h| (h.lease, h.owner.clone(), h.share, h.fence.0))
            .collect();
        prop_assert_eq!(expected, got);
        let mut places: Vec<_> = self
            .places
            .iter()
            .filter(|s| s.kind == kind && s.name == name)
            .collect();
        places.sort_by_key(|place| (-place.priority, place.revision));
        let expected: Vec<_> = places
            .iter()
            .map(|p| (p.lease, p.owner.clone(), p.revision, p.wait))
            .collect();
        let got: Vec<_> = view
            .queue
            .iter()
            .map(|p| {
                (
                    p.lease,
                    p.owner.clone(),
                    p.queued_revision.0,
                    p.wait_deadline.0,
                )
            })
            .collect();
        prop_assert_eq!(expected, got);
        Ok(())
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

fn within(key: &Bytes, start: &Bytes, end: Option<&Bytes>) -> bool {
    start <= key && end.is_none_or(|end| key < end)
}

fn writes_twice(operations: &[Operation]) -> bool {
    let puts = operations
        .iter()
        .enumerate()
        .filter_map(|(at, operation)| match operation {
            Operation::Put(put) => Some((at, &put.key)),
            _ => None,
        });
    puts.into_iter().any(|(at, key)| {
        operations
            .iter()
            .enumerate()
            .any(|(other, operation)| match operation {
                Operation::Put(put) => other != at && put.key == key,
                Operation::Delete { key: deleted } => deleted == key,
                Operation::DeleteRange { start, end } => within(key, start, end.as_ref()),
                Operation::Get { .. } => false,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_the_model(entries in vec(entries(1), 1..50)) {
        let mut state = State::genesis(Genesis::default());
        let mut model = Model { revision: 1, ..Model::default() };
        let mut clock = 0;
        let mut then: Vec<(Revision, Vec<KeyEntry>)> = Vec::new();
        for (advance, mut batch) in entries {
            clock += advance;
            for request in &mut batch.requests {
                // Delays are told in a story of their own; the model has none.
                if let Command::Acquire(acquire) = &mut request.command {
                    acquire.lock_delay_ms = 0;
                }
            }
            let applied = state.apply(Clock(clock), &batch);
            let accepted: Vec<bool> = applied.outcomes.iter().map(|decision| decision.outcome.is_ok()).collect();
            prop_assert_eq!(accepted, model.apply(clock, &batch));
            model.check(&state)?;
            then.push((state.revision(), model.keys.clone()));
        }
        for (revision, keys) in then {
            let read = state.keys_at(revision, std::ops::Bound::Unbounded, None, 100).expect("nothing is compacted");
            prop_assert_eq!(read.iter().map(|key| (**key).clone()).collect::<Vec<_>>(), keys);
        }
    }
}
