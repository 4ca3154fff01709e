//! The state against a model that is simple enough to be believed: plain lists, and scans for everything.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{arrange, entries, keys_at};
use tenure_state::*;

#[derive(Clone, Debug)]
struct MLease {
    id: LeaseId,
    ttl: u64,
    deadline: u64,
    name: String,
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
    delay: u64,
    value: String,
}

/// Nobody is granted the name until then, but a lease of this name.
#[derive(Clone, Debug)]
struct MDelay {
    kind: Kind,
    name: String,
    until: u64,
    lease_name: String,
}

/// What was decided under a key.
#[derive(Clone, Debug)]
struct MRepeat {
    key: IdempotencyKey,
    deadline: u64,
    accepted: bool,
    granted: Option<LeaseId>,
}

/// What comes of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Yes,
    /// Refused, by how the state stands.
    No,
    /// Refused, and judged afresh when it is asked again.
    NotNow,
}

impl Said {
    fn or_no(accepted: bool) -> Said {
        if accepted { Said::Yes } else { Said::No }
    }
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
    delays: Vec<MDelay>,
    repeats: Vec<MRepeat>,
    /// History up to here is gone, and history up to there was told to go.
    compact: u64,
    target: u64,
}

const RETENTION_MS: u64 = 3000;
const RECORDS: usize = 3;

impl Model {
    /// For each renewal and request, whether it was accepted, and whether that was decided before.
    fn apply(&mut self, stamp: u64, batch: &Batch) -> Vec<(bool, bool)> {
        self.clock = stamp;
        let before = self.revision;
        let mut said: Vec<(bool, bool)> = batch
            .renewals
            .iter()
            .map(|renewal| (self.renew(renewal.lease), false))
            .collect();
        self.end_due();
        for request in &batch.requests {
            said.push(self.request(request));
        }
        self.compact = self.compact.max(self.target.min(before));
        said
    }

    fn request(&mut self, request: &Request) -> (bool, bool) {
        let command = &request.command;
        let granted = match command {
            Command::GrantLease(new) => Some(new.lease),
            Command::Acquire(acquire) => match &acquire.claim {
                Claim::Grant(new) => Some(new.lease),
                Claim::Lease(_) => None,
            },
            _ => None,
        };
        let recorded = match command {
            Command::Acquire(_) => granted.is_some(),
            Command::Release(_) | Command::ChangeLease { .. } => false,
            _ => true,
        };
        let Some(key) = request.idempotency.as_ref().filter(|_| recorded) else {
            return (self.decide(command) == Said::Yes, false);
        };
        let now = self.clock;
        self.repeats.retain(|repeat| now <= repeat.deadline);
        let known = self
            .repeats
            .iter()
            .find(|repeat| (&repeat.key.identity, &repeat.key.key) == (&key.identity, &key.key));
        if let Some(repeat) = known.cloned() {
            return match repeat.key.digest == key.digest {
                true => (self.again(command, &repeat), true),
                false => (false, false),
            };
        }
        if RECORDS <= self.repeats.len() {
            return (false, false);
        }
        let said = self.decide(command);
        let is_acquire = matches!(command, Command::Acquire(_));
        if said == Said::Yes || (said == Said::No && !is_acquire) {
            self.repeats.push(MRepeat {
                key: key.clone(),
                deadline: now + RETENTION_MS,
                accepted: said == Said::Yes,
                granted,
            });
        }
        (said == Said::Yes, false)
    }

    fn again(&mut self, command: &Command, repeat: &MRepeat) -> bool {
        match (command, repeat.granted) {
            (Command::Acquire(acquire), Some(lease)) => {
                let claim = Claim::Lease(lease);
                let again = Acquire {
                    claim,
                    ..acquire.clone()
                };
                self.acquire(&again)
            }
            (_, Some(lease)) => self.lease(lease).is_some(),
            _ => repeat.accepted,
        }
    }

    fn decide(&mut self, command: &Command) -> Said {
        match command {
            Command::GrantLease(new) if self.grant(new) => Said::Yes,
            Command::GrantLease(_) => Said::NotNow,
            Command::RevokeLease { lease } => Said::or_no(self.end(*lease, false)),
            Command::ChangeLease { lease, ttl_ms } => Said::or_no(self.change(*lease, *ttl_ms)),
            Command::Acquire(acquire) => Said::or_no(self.acquire(acquire)),
            Command::Release(release) => Said::or_no(self.release(release)),
            Command::Break(broken) => Said::or_no(self.break_hold(broken)),
            Command::Proclaim(proclaim) => Said::or_no(self.proclaim(proclaim)),
            Command::HandOver(hand_over) => Said::or_no(self.hand_over(hand_over)),
            Command::Transaction(transaction) => self.transact(transaction),
            Command::Compact { revision } => {
                let known = revision.0 <= self.revision;
                if known {
                    self.target = self.target.max(revision.0);
                }
                Said::or_no(known)
            }
            Command::ChangeLimits(_) => unreachable!("not drawn"),
        }
    }

    fn change(&mut self, id: LeaseId, ttl: u64) -> bool {
        if ttl < 1000 || self.lease(id).is_none() {
            return false;
        }
        self.lease(id).expect("it was there").ttl = ttl;
        self.renew(id)
    }

    fn break_hold(&mut self, broken: &Break) -> bool {
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
            self.delay(broken.kind, &broken.name, deadline, "");
        }
        self.serve(broken.kind, &broken.name);
        true
    }

    /// The later end counts, for nobody but whom both let through.
    fn delay(&mut self, kind: Kind, name: &str, until: u64, lease_name: &str) {
        let running = self.delay_of(kind, name).cloned();
        let (until, lease_name) = match &running {
            Some(running) if running.lease_name == lease_name => {
                (until.max(running.until), lease_name)
            }
            Some(running) => (until.max(running.until), ""),
            None => (until, lease_name),
        };
        self.clear_delay(kind, name);
        self.delays.push(MDelay {
            kind,
            name: name.to_owned(),
            until,
            lease_name: lease_name.to_owned(),
        });
    }

    fn delay_of(&self, kind: Kind, name: &str) -> Option<&MDelay> {
        self.delays
            .iter()
            .find(|delay| delay.kind == kind && delay.name == name)
    }

    fn clear_delay(&mut self, kind: Kind, name: &str) {
        self.delays
            .retain(|delay| delay.kind != kind || delay.name != name);
    }

    fn leads(&self, name: &str, lease: LeaseId, candidate: &str, fence: Fence) -> Option<usize> {
        self.holds.iter().position(|hold| {
            hold.kind == Kind::Election
                && hold.name == name
                && hold.lease == lease
                && hold.owner == candidate
                && hold.revision == fence.0
        })
    }

    fn proclaim(&mut self, proclaim: &Proclaim) -> bool {
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

    fn hand_over(&mut self, hand_over: &HandOver) -> bool {
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
        let Some(heir) = heirs.find(|heir| heir.owner == *to) else {
            return false;
        };
        self.revision += 1;
        self.holds.remove(at);
        self.places.retain(|place| *place != heir);
        self.holds.push(MStanding {
            revision: self.revision,
            ..heir
        });
        true
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

    fn end(&mut self, id: LeaseId, ran_out: bool) -> bool {
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
            self.delay(kind, &name, self.clock + delay, &lease.name);
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

    /// Whether a delay of the name lets the lease through.
    fn admitted(&self, kind: Kind, name: &str, lease_name: &str) -> bool {
        self.delay_of(kind, name)
            .is_none_or(|delay| !lease_name.is_empty() && delay.lease_name == lease_name)
    }

    fn name_of(&self, id: LeaseId) -> String {
        let lease = self.leases.iter().find(|lease| lease.id == id);
        lease.map(|lease| lease.name.clone()).unwrap_or_default()
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

    /// Grants at the present revision; says whether it did.
    fn serve(&mut self, kind: Kind, name: &str) -> bool {
        let mut granted = false;
        loop {
            let waiting = self.waiting(kind, name).into_iter();
            let mut admitted =
                waiting.filter(|place| self.admitted(kind, name, &self.name_of(place.lease)));
            let Some(first) = admitted.next() else {
                return granted;
            };
            if !self.room(kind, name, first.share) {
                return granted;
            }
            granted = true;
            self.clear_delay(kind, name);
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
            name: new.name.clone(),
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
        let lease_name = match &acquire.claim {
            Claim::Grant(new) => new.name.clone(),
            Claim::Lease(id) => self.name_of(*id),
        };
        let turn = match self.delay_of(acquire.kind, name) {
            Some(_) => self.admitted(acquire.kind, name, &lease_name),
            None => !self
                .waiting(acquire.kind, name)
                .iter()
                .any(|place| acquire.priority <= place.priority),
        };
        let free = self.room(acquire.kind, name, *share) && turn;
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
            delay: acquire.lock_delay_ms,
            value: acquire.value.clone(),
        };
        if free {
            self.clear_delay(acquire.kind, name);
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

    fn holds_fence(&self, guard: &Guard) -> bool {
        self.holds.iter().any(|hold| {
            hold.kind == guard.kind && hold.name == guard.name && hold.revision == guard.fence.0
        })
    }

    fn transact(&mut self, transaction: &Transaction) -> Said {
        if [&transaction.then, &transaction.otherwise]
            .into_iter()
            .any(|branch| writes_twice(branch))
        {
            return Said::NotNow;
        }
        if let Some(guard) = &transaction.guard
            && !self.holds_fence(guard)
        {
            return Said::No;
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
                        return Said::No;
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
                        return Said::No;
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
        Said::Yes
    }

    fn met(&self, condition: &Condition) -> bool {
        let (key, field, compare) = match condition {
            Condition::Key {
                key,
                field,
                compare,
            } => (key, field, compare),
            Condition::LeaseLive(id) => return self.leases.iter().any(|lease| lease.id == *id),
            Condition::Held(guard) => return self.holds_fence(guard),
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
        prop_assert_eq!(keys_at(state, state.revision()), Ok(self.keys.clone()));
        let count = state.count_piece(state.revision(), &KeyRange::default(), 1);
        let count = count.expect("it is the present").count;
        prop_assert_eq!(count as usize, self.keys.len());
        let next = self
            .leases
            .iter()
            .map(|lease| lease.deadline)
            .chain(self.places.iter().map(|place| place.wait))
            .chain(self.delays.iter().map(|delay| delay.until))
            .chain((self.compact < self.target).then(|| self.clock.saturating_sub(1)))
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
            .map(|h| {
                let value = h.value.clone();
                (h.lease, h.owner.clone(), h.share, h.revision, value)
            })
            .collect();
        let got: Vec<_> = view
            .holders
            .iter()
            .map(|h| {
                let value = h.value.clone();
                (h.lease, h.owner.clone(), h.share, h.fence.0, value)
            })
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
        let delay = self.delay_of(kind, name).map(|delay| Clock(delay.until));
        prop_assert_eq!(view.delay_until, delay);
        Ok(())
    }
}

/// What a repeat at `now` is told: the first decision without values, but what remains of a delay as it is. `None` where
/// it is of the present.
fn as_repeated(outcome: &Outcome, now: Clock) -> Option<Outcome> {
    let bare = |entry: &std::sync::Arc<KeyEntry>| {
        std::sync::Arc::new(KeyEntry {
            value: Bytes::new(),
            ..(**entry).clone()
        })
    };
    match outcome {
        Ok(Answer::Transaction {
            succeeded,
            results,
            revision,
        }) => {
            let results = results.iter().map(|result| match result {
                OperationResult::Put { entry, created } => OperationResult::Put {
                    entry: bare(entry),
                    created: *created,
                },
                OperationResult::Got(entry) => OperationResult::Got(entry.as_ref().map(bare)),
                OperationResult::Deleted(count) => OperationResult::Deleted(*count),
            });
            Some(Ok(Answer::Transaction {
                succeeded: *succeeded,
                results: results.collect(),
                revision: *revision,
            }))
        }
        Ok(Answer::Broken {
            broken,
            delay_until,
            revision,
            ..
        }) => Some(Ok(Answer::Broken {
            broken: broken.clone(),
            delay_until: delay_until.filter(|until| now <= *until),
            clock: now,
            revision: *revision,
        })),
        Ok(Answer::LeaseEnded { .. } | Answer::Compacted { .. }) => Some(outcome.clone()),
        Ok(_) => None,
        Err(_) => Some(outcome.clone()),
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
    fn the_state_is_the_model(
        entries in vec((entries(1), any::<Option<prop::sample::Index>>()), 1..50),
    ) {
        let limits = Limits {
            idempotency_retention_ms: RETENTION_MS,
            idempotency_records: RECORDS as u64,
            ..Limits::default()
        };
        let mut state = State::genesis(Genesis { limits, ..Genesis::default() });
        let mut model = Model { revision: 1, ..Model::default() };
        let (mut clock, mut sent) = (0, Vec::new());
        let mut first: BTreeMap<(String, u128), Outcome> = BTreeMap::new();
        let mut then: Vec<(Revision, Vec<KeyEntry>)> = Vec::new();
        for ((advance, mut batch), repeat) in entries {
            clock += advance;
            // Limits change what is refused; the model knows no quota but one.
            batch.requests.retain(|request| !matches!(request.command, Command::ChangeLimits(_)));
            arrange(&state, &mut batch, &repeat, &mut sent);
            let applied = state.apply(Clock(clock), &batch);
            let said: Vec<(bool, bool)> = applied.outcomes.iter().map(|decision| (decision.outcome.is_ok(), decision.replayed)).collect();
            prop_assert_eq!(said, model.apply(clock, &batch), "{:?}", batch);
            for (request, decision) in batch.requests.iter().zip(&applied.outcomes[batch.renewals.len()..]) {
                let Some(key) = &request.idempotency else { continue };
                let name = (key.key.clone(), key.digest);
                match (decision.replayed, first.get(&name).and_then(|first| as_repeated(first, state.clock()))) {
                    (false, _) => { first.insert(name, decision.outcome.clone()); }
                    (true, Some(told)) if !matches!(request.command, Command::Acquire(_) | Command::GrantLease(_)) => {
                        prop_assert_eq!(&told, &decision.outcome);
                    }
                    (true, _) => {}
                }
            }
            model.check(&state)?;
            then.push((state.revision(), model.keys.clone()));
        }
        prop_assert_eq!(state.compact_revision().0, model.target);
        for (revision, keys) in then {
            let expected = match revision < state.compact_revision() {
                true => Err(ReadError::Compacted { compact_revision: state.compact_revision() }),
                false => Ok(keys),
            };
            prop_assert_eq!(keys_at(&state, revision), expected);
        }
    }
}
