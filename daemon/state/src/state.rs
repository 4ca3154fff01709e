//! The state machine: what an entry does to it, in which order.
//!
//! Owns the state and the order of apply (`design.md`, State): the clock; the renewals; what is due; the requests; then
//! what history and memory of ended leases may be forgotten. Looks at nothing but the entry and itself. What each
//! command does is in the modules below this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use tenure_mutants::{Mutant, mutated};

use crate::access::{Access, Principal};
use crate::answer::{Answer, Applied, Decision, LeaseView, Outcome, Refusal};
use crate::command::{Batch, Command, Request};
use crate::counted::Counted;
use crate::event::{Change, Event};
use crate::ids::{Clock, LeaseId, Revision};
use crate::keys::{Became, Keys, Version};
use crate::limits::{Genesis, Limits};
use crate::parts::{
    Agenda, Asker, Due, Ended, History, Leases, PlaceId, Queue, QueueId, Recorded, Waiting,
};
use crate::repeats::Repeats;
use crate::row::Row;
use crate::rows::{self, Ledger, Meta, RowId};
use crate::standing;
use crate::tally::Tally;
use crate::usage::Usage;
use crate::version::{ACCESS_STATE_VERSION, STATE_VERSION};

/// The replicated state: a function of the entries applied.
///
/// What always holds, checked by [`State::check_invariants`]:
///
/// - what hangs on a lease names a lease that is live, and the lease knows it;
/// - holds of a name agree with one another (one exclusive, or all shared, or permits within the limit), and no fence
///   is greater than the last one;
/// - a place stands in every queue it names; the first of a queue is not one that could be granted;
/// - everything with a deadline stands in the agenda, never later than its deadline, and what is first there stands at
///   its deadline;
/// - identities have roles that are there, and tokens identities; nobody uses more than is counted;
/// - history has every revision after the compact one, each with something in it;
/// - the digest is the sum over all rows.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) version: u64,
    pub(crate) limits: Limits,
    pub(crate) first: Revision,
    pub(crate) clock: Clock,
    pub(crate) revision: Revision,
    /// What leases, holds and places count for.
    pub(crate) standing: u64,
    /// History up to here is gone from memory and disk.
    pub(crate) compact: Revision,
    /// History up to here was told to go: nobody reads it, and entries take it away a bounded piece at a time. Less
    /// than `compact` where nothing was told.
    pub(crate) compact_target: Revision,
    pub(crate) history: History,
    pub(crate) keys: Keys,
    pub(crate) leases: Leases,
    pub(crate) ended: Ended,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    /// Those that are held or waited for, so that listing them passes no idle ones.
    pub(crate) active: Counted<QueueId>,
    pub(crate) places: BTreeMap<PlaceId, Waiting>,
    pub(crate) agenda: Agenda,
    pub(crate) repeats: Repeats,
    pub(crate) access: Access,
    pub(crate) usage: Usage,
    /// Queues whose places were passed over because their leases were due, and which were renewed after all.
    pub(crate) starved: BTreeSet<QueueId>,
    /// The first place of a queue that can be granted anything, for queues that were served in this entry: of many places
    /// that end in one entry, each would pass over all that are due otherwise.
    pub(crate) firsts: BTreeMap<QueueId, Option<PlaceId>>,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
}

/// A revision while it is made: what happened, in the order in which it is told.
#[derive(Debug)]
pub(crate) struct Revising {
    pub revision: Revision,
    /// Ends and grants of leases.
    pub leases: Vec<Event>,
    /// Deletions, in the order of keys.
    pub deleted: Vec<Event>,
    pub put: Vec<Event>,
    /// Holds and places that ended.
    pub gone: Vec<Event>,
    /// Holds and places that began.
    pub gained: Vec<Event>,
    /// Queues in which somebody may be granted now.
    pub freed: BTreeSet<QueueId>,
}

impl State {
    /// The empty state of a new cluster.
    pub fn genesis(genesis: Genesis) -> State {
        let first = genesis.first_revision;
        // Whoever begins with access control begins with rules that know it.
        let version = match &genesis.root {
            Some(_) => genesis.version.max(ACCESS_STATE_VERSION),
            None => genesis.version,
        };
        let mut state = State::empty(version, genesis.limits, first);
        for meta in Meta::ALL {
            state.ledger.touched.insert(RowId::Meta(meta));
        }
        if let Some(root) = &genesis.root {
            state.begin_with_root(root);
        }
        state.settle();
        state
    }

    pub(crate) fn empty(version: u64, limits: Limits, first: Revision) -> State {
        State {
            version,
            limits,
            first,
            clock: Clock(0),
            revision: first,
            compact: Revision(first.0.saturating_sub(1)),
            compact_target: Revision(0),
            standing: 0,
            history: History {
                base: first,
                ..History::default()
            },
            keys: Keys::default(),
            leases: Leases::default(),
            ended: Ended::default(),
            queues: BTreeMap::new(),
            active: Counted::default(),
            places: BTreeMap::new(),
            agenda: Agenda::new(),
            repeats: Repeats::default(),
            access: Access::default(),
            usage: Usage::default(),
            starved: BTreeSet::new(),
            firsts: BTreeMap::new(),
            ledger: Ledger {
                stored_through: first,
                ..Ledger::default()
            },
            tally: Tally::default(),
        }
    }

    /// Applies an entry. Total: no batch that can be decoded makes it panic. A stamp before the clock counts as the
    /// clock.
    pub fn apply(&mut self, stamp: Clock, batch: &Batch) -> Applied {
        let before = self.revision;
        self.advance_clock(stamp);
        self.firsts.clear();
        let mut outcomes = Vec::with_capacity(batch.renewals.len() + batch.requests.len());
        for renewal in &batch.renewals {
            outcomes.push(Decision {
                origin: renewal.origin,
                outcome: self.renew_for(&renewal.principal, renewal.lease),
                replayed: false,
            });
        }
        let leases_expired = self.end_what_is_due();
        self.serve_starved();
        for request in &batch.requests {
            let (outcome, replayed) = self.request(request);
            outcomes.push(Decision {
                origin: request.origin,
                outcome,
                replayed,
            });
            self.serve_starved();
        }
        self.compact_history(before);
        self.forget_ended();
        self.forget_repeats(batch.requests.len());
        self.settle();
        Applied {
            outcomes,
            before,
            leases_expired,
        }
    }

    /// What comes of a request, and whether it was decided before. Whether its sender may have it done is judged by the
    /// rights of this moment, and before anything else: of what was decided once, nobody is told who has lost them.
    fn request(&mut self, request: &Request) -> (Outcome, bool) {
        let (command, who) = (&request.command, &request.principal);
        if let Command::RaiseVersion { to } = command {
            // The leader's own: it is nobody's right, and members let nobody else propose it.
            return (self.raise_version(*to), false);
        }
        if self.version < command.needs_version() {
            let refusal = Refusal::Unsupported("a command that the rules in force do not know");
            return (Err(refusal), false);
        }
        let unguarded = mutated(Mutant::AppliedUnauthorized)
            || mutated(Mutant::ReplayUnauthorized)
                && request
                    .idempotency
                    .as_ref()
                    .is_some_and(|key| self.is_decided(key));
        if let Err(denied) = self.authorize_command(who, command)
            && !unguarded
        {
            return (Err(Refusal::Denied(denied)), false);
        }
        match &request.idempotency {
            Some(key) if command.is_recorded() => self.decide_once(key, command, who),
            _ => (self.decide(command, who), false),
        }
    }

    /// Renews a lease for somebody, if it is theirs.
    fn renew_for(&mut self, who: &Principal, lease: LeaseId) -> Outcome {
        match self.authorize_lease(who, lease) {
            Err(denied) if !mutated(Mutant::LeaseOfAnotherRenewed) => Err(Refusal::Denied(denied)),
            _ => self.renew(lease, who),
        }
    }

    pub(crate) fn decide(&mut self, command: &Command, who: &Principal) -> Outcome {
        match command {
            Command::GrantLease(new) => self.grant_lease(new, who),
            Command::RevokeLease { lease } => self.revoke_lease(*lease),
            Command::Acquire(acquire) => self.acquire(acquire, who),
            Command::Release(release) => self.release(release),
            Command::ChangeLease { lease, ttl_ms } => self.change_lease(*lease, *ttl_ms, who),
            Command::Break(broken) => self.break_hold(broken),
            Command::Proclaim(proclaim) => self.proclaim(proclaim),
            Command::HandOver(hand_over) => self.hand_over(hand_over),
            Command::Transaction(transaction) => self.transact(transaction),
            Command::Compact { revision } => self.compact_by_hand(*revision),
            Command::ChangeLimits(changes) => self.change_limits(changes),
            Command::ChangeAccess(change) => self.change_access(change),
            Command::RaiseVersion { to } => self.raise_version(*to),
        }
    }

    /// Makes no revision, and changes no row but the one that says which rules are in force.
    fn raise_version(&mut self, to: u64) -> Outcome {
        if STATE_VERSION < to {
            // A member stops before it applies such an entry.
            return Err(Refusal::Unsupported("rules of a newer version"));
        }
        if self.version < to {
            self.touch(RowId::Meta(Meta::Rules));
            self.version = to;
        }
        Ok(Answer::VersionRaised {
            version: self.version,
        })
    }

    /// Makes no revision: nothing that is there changes. What a lowered limit leaves too much of goes as it does anyway.
    fn change_limits(&mut self, changes: &BTreeMap<String, u64>) -> Outcome {
        let mut limits = self.limits.clone();
        for (name, value) in changes {
            limits.set(name, *value).map_err(Refusal::Limits)?;
        }
        limits.check_together().map_err(Refusal::Limits)?;
        if limits != self.limits {
            self.touch(RowId::Meta(Meta::Limits));
            self.limits = limits;
        }
        Ok(Answer::Limits {
            limits: self.limits.clone(),
            revision: self.revision,
        })
    }

    fn advance_clock(&mut self, stamp: Clock) {
        if self.clock < stamp {
            self.touch(RowId::Meta(Meta::Clock));
            self.clock = stamp;
        }
    }

    /// Must be called before a row changes: takes its old form out of the digest, once an entry.
    pub(crate) fn touch(&mut self, id: RowId) {
        if self.ledger.touched.contains(&id) {
            return;
        }
        if let Some(row) = self.row(&id) {
            let hash = rows::hash(row.table, &row.key, &row.value);
            self.ledger.digest = self.ledger.digest.wrapping_sub(hash);
        }
        self.ledger.touched.insert(id);
    }

    /// Ends an entry: the first of the agenda stands at its deadline, and rows that were touched are in the digest.
    pub(crate) fn settle(&mut self) {
        self.settle_agenda();
        for id in std::mem::take(&mut self.ledger.touched) {
            if let Some(row) = self.row(&id) {
                let hash = rows::hash(row.table, &row.key, &row.value);
                self.ledger.digest = self.ledger.digest.wrapping_add(hash);
            }
            self.ledger.dirty.insert(id);
        }
    }

    /// Moves renewed leases to where they belong until the first of the agenda is one that was not renewed, so that the
    /// next deadline is exact. A renewal costs at most one such move.
    fn settle_agenda(&mut self) {
        while let Some((armed, Due::Lease(lease))) = self.agenda.first().cloned() {
            let Some(deadline) = self.deadline_of(lease).filter(|deadline| armed < *deadline)
            else {
                return;
            };
            self.rearm(lease, armed, deadline);
        }
    }

    pub(crate) fn rearm(&mut self, lease: LeaseId, armed: Clock, deadline: Clock) {
        self.agenda.remove(&(armed, Due::Lease(lease)));
        self.agenda.insert((deadline, Due::Lease(lease)));
        if let Some(lease) = self.leases.by_id.get_mut(&lease) {
            lease.armed = deadline;
        }
    }

    pub(crate) fn deadline_of(&self, lease: LeaseId) -> Option<Clock> {
        self.leases
            .by_id
            .get(&lease)
            .map(|lease| self.leases.deadline(lease))
    }

    /// A row as it is now, if it is there.
    pub(crate) fn row(&self, id: &RowId) -> Option<Row> {
        let value = match id {
            RowId::Meta(meta) => self.meta_value(*meta),
            RowId::Lease(lease) => rows::lease_value(self.leases.by_id.get(lease)?),
            RowId::Queue(queue) => rows::queue_value(self.queues.get(queue)?),
            RowId::Hold(queue, asker) => {
                rows::hold_value(self.queues.get(queue)?.holds.get(asker)?)
            }
            RowId::Place(place) => rows::place_value(self.places.get(place)?),
            RowId::Repeat(id) => rows::repeat_value(self.repeats.by_key.get(id)?),
            RowId::Access(row) => rows::access_value(&self.access, row)?,
            RowId::Ended(revision) => {
                let (lease, clock) = self.ended.by_revision.get(revision)?;
                rows::ended_value(*lease, *clock)
            }
        };
        Some(Row {
            table: id.table(),
            key: id.key(),
            value,
        })
    }

    fn meta_value(&self, meta: Meta) -> Bytes {
        let number = match meta {
            Meta::Clock => self.clock.0,
            Meta::Compact => self.compact.0,
            Meta::CompactTarget => self.compact_target.0,
            Meta::First => self.first.0,
            Meta::Limits => return rows::limits_value(&self.limits),
            Meta::Revision => self.revision.0,
            Meta::Rules => self.version,
        };
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// Begins a revision. It counts only when it is sealed with something in it.
    pub(crate) fn revise(&self) -> Revising {
        Revising {
            revision: Revision(self.revision.0.saturating_add(1)),
            leases: Vec::new(),
            deleted: Vec::new(),
            put: Vec::new(),
            gone: Vec::new(),
            gained: Vec::new(),
            freed: BTreeSet::new(),
        }
    }

    /// Makes the revision, unless nothing happened at it.
    pub(crate) fn seal(&mut self, revising: Revising) {
        let Revising {
            revision,
            leases,
            mut deleted,
            put,
            mut gone,
            mut gained,
            freed,
        } = revising;
        debug_assert!(freed.is_empty(), "queues were freed and not served");
        sort_deleted(&mut deleted);
        sort_by_resource(&mut gone);
        sort_by_resource(&mut gained);
        let events: Vec<Event> = [leases, deleted, put, gone, gained]
            .into_iter()
            .flatten()
            .collect();
        if events.is_empty() {
            return;
        }
        self.touch(RowId::Meta(Meta::Revision));
        self.revision = revision;
        self.record(events);
    }

    /// Adds the events of the present revision to history, and the versions among them to their keys.
    fn record(&mut self, events: Vec<Event>) {
        let mut bytes = 0;
        self.tally.events += events.len() as u64;
        for (position, event) in (0..).zip(&events) {
            match event {
                Event::Put(_) => self.tally.keys_put += 1,
                Event::Delete { .. } => self.tally.keys_deleted += 1,
                _ => {}
            }
            let row = rows::history_row(self.revision, position, self.clock, event);
            self.ledger.digest = self
                .ledger
                .digest
                .wrapping_add(rows::hash(row.table, &row.key, &row.value));
            bytes += cost(event);
            add_version(&mut self.keys, self.revision, position, self.clock, event);
        }
        self.history.bytes += bytes;
        let change = Change {
            revision: self.revision,
            events: events.into(),
        };
        self.history.changes.push_back(Recorded {
            change,
            clock: self.clock,
            bytes,
        });
    }

    /// A lease as it is, answered at `clock`.
    pub(crate) fn view_lease(&self, id: LeaseId, clock: Clock) -> Result<LeaseView, Refusal> {
        let lease = self
            .leases
            .by_id
            .get(&id)
            .ok_or_else(|| self.no_lease(id))?;
        Ok(LeaseView {
            lease: id,
            name: lease.name.clone(),
            metadata: Arc::clone(&lease.metadata),
            ttl_ms: lease.ttl_ms,
            deadline: self.leases.deadline(lease),
            clock,
            granted_revision: lease.granted_revision,
            attached_count: lease.attached.len() as u64,
            attached_revision: lease.attached_revision,
            revision: self.revision,
        })
    }

    /// Why there is no such lease.
    pub(crate) fn no_lease(&self, id: LeaseId) -> Refusal {
        match self.ended.by_lease.contains_key(&id) {
            true => Refusal::LeaseExpired(id),
            false => Refusal::LeaseNotFound(id),
        }
    }

    /// Renews a lease: its deadline becomes now and its TTL, but never an earlier one.
    pub(crate) fn renew(&mut self, id: LeaseId, who: &Principal) -> Outcome {
        let ttl_ms = self.leases.by_id.get(&id).map(|lease| lease.ttl_ms);
        self.renew_of(id, ttl_ms.unwrap_or_default(), who)
    }

    /// The same of a lease that had this TTL until now.
    pub(crate) fn renew_of(&mut self, id: LeaseId, had_ttl_ms: u64, who: &Principal) -> Outcome {
        let lease = self
            .leases
            .by_id
            .get(&id)
            .ok_or_else(|| self.no_lease(id))?;
        let (slot, old) = (lease.slot, self.leases.deadline(lease));
        let is_nobodys = self.access.enabled && lease.identity.is_none();
        let renewed = Clock(self.clock.0.saturating_add(lease.ttl_ms).min(LAST_CLOCK));
        let deadline = match () {
            () if mutated(Mutant::RenewalIgnored) => old,
            () if mutated(Mutant::RenewalShortens) => renewed,
            () => old.max(renewed),
        };
        if old < self.clock {
            let places = lease.attached.iter().filter_map(|hanging| match hanging {
                crate::parts::Hanging::Place(queue, _) => Some(queue.clone()),
                _ => None,
            });
            for queue in places {
                self.firsts.remove(&queue);
                self.starved.insert(queue);
            }
        }
        self.set_deadline(slot, deadline.0);
        let left_ms = old.0.saturating_sub(self.clock.0);
        self.tally.renewed(left_ms, had_ttl_ms);
        if is_nobodys {
            self.claim(id, who);
        }
        self.view_lease(id, self.clock).map(Answer::Lease)
    }

    pub(crate) fn set_deadline(&mut self, slot: u32, deadline: u64) {
        let Some(present) = self.leases.deadlines.get_mut(slot as usize) else {
            return;
        };
        let old = std::mem::replace(present, deadline);
        if old == deadline {
            return;
        }
        let digest = &mut self.ledger.digest;
        if old != crate::parts::FREE {
            *digest = digest.wrapping_sub(rows::hash_deadline(slot, old));
        }
        if deadline != crate::parts::FREE {
            *digest = digest.wrapping_add(rows::hash_deadline(slot, deadline));
        }
        self.ledger.dirty_blocks.insert(slot / rows::BLOCK as u32);
    }

    /// Whether the place and its lease are not due.
    pub(crate) fn is_awake(&self, place: &Waiting) -> bool {
        let lease = self.deadline_of(place.asker.lease);
        if mutated(Mutant::DueWaiterGranted) {
            return true;
        }
        self.clock <= place.wait_deadline && lease.is_some_and(|deadline| self.clock <= deadline)
    }

    pub(crate) fn asker(lease: LeaseId, owner: &str) -> Asker {
        Asker {
            lease,
            owner: owner.into(),
        }
    }
}

/// The greatest deadline: below the mark of a free slot.
pub(crate) const LAST_CLOCK: u64 = u64::MAX - 1;

/// Adds what an event did to a key.
pub(crate) fn add_version(
    keys: &mut Keys,
    revision: Revision,
    position: u32,
    clock: Clock,
    event: &Event,
) {
    match event {
        Event::Put(entry) => {
            keys.add(
                &entry.key,
                Version {
                    became: Became::Put(Arc::clone(entry)),
                    position,
                    clock,
                },
            );
        }
        Event::Delete { key, .. } => keys.add(
            key,
            Version {
                became: Became::Deleted(revision),
                position,
                clock,
            },
        ),
        _ => {}
    }
}

fn sort_deleted(deleted: &mut [Event]) {
    deleted.sort_by(|a, b| match (a, b) {
        (Event::Delete { key: a, .. }, Event::Delete { key: b, .. }) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
}

/// Holds before places of one resource; otherwise as they happened.
fn sort_by_resource(events: &mut [Event]) {
    if 1 < events.len() {
        events.sort_by_cached_key(|event| {
            (
                crate::event::resource_of(event),
                matches!(event, Event::Left { .. } | Event::Queued { .. }),
            )
        });
    }
}

/// What an event counts for in `history_bytes`: about the memory it takes, with the version of a key that a put makes and
/// the idle queue that a release leaves behind while history tells of it (`tests/memory.rs`).
pub(crate) fn cost(event: &Event) -> u64 {
    let bytes = match event {
        Event::Put(entry) => {
            let content_type = entry.content_type.as_ref().map_or(0, String::len);
            384 + entry.key.len() + entry.value.len() + content_type
        }
        Event::Delete { key, .. } => 224 + key.len(),
        Event::Granted(grant) => {
            let names = grant.name.len() + grant.owner.len() + grant.lease_name.len();
            448 + names + grant.value.len() + standing::labels(&grant.metadata)
        }
        Event::Queued { place } => {
            let names = place.name.len() + place.owner.len() + place.lease_name.len();
            448 + names + place.value.len() + standing::labels(&place.metadata)
        }
        Event::Proclaimed {
            name,
            candidate,
            value,
            ..
        } => 224 + name.len() + candidate.len() + value.len(),
        Event::Released { name, owner, .. } | Event::Left { name, owner, .. } => {
            224 + name.len() + owner.len()
        }
        Event::LeaseGranted { name, metadata, .. } => 160 + name.len() + standing::labels(metadata),
        Event::LeaseEnded { name, .. } => 160 + name.len(),
    };
    bytes as u64
}
