//! The history of the state: equal on every member, and what it says of leases, locks and watchers.
//!
//! Owns the digest at every index and every change by revision, as the first member to apply an entry made them; every
//! other must agree. Its own account of leases and holds is kept from events and batches alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tenure_raft::LogIndex;
use tenure_state::{
    Answer, Change, Clock, Collection, Command, Decision, EndReason, Event, Fence, Grant, Kind,
    LeaseId, Limits, ReleaseReason, Resource, Revision, Selector, Share, State,
};

use super::consensus::{Committed, FIRST_BASE};
use super::decisions::lease_of;
use super::keys::{Keys, Said};
use super::queues::{Queues, Scene};
use super::renewals::Renewals;
use super::rights::{Rights, is_denied};
use super::{Beliefs, Calls, Decisions, Holding, demand};
use crate::asking::lock_delay_ms;
use crate::plan::ClockPlan;
use crate::time::Moment;

#[derive(Clone, Debug, Default)]
struct Lease {
    deadline: Clock,
    ttl_ms: u64,
    name: String,
    /// Who was granted it, or has claimed it.
    identity: Option<String>,
    /// It ended because it ran out.
    ran_out: bool,
    /// When the last renewal that was accepted reached a member.
    received: Moment,
    holds: BTreeSet<(Kind, String, String)>,
    places: BTreeSet<(Kind, String, String)>,
    keys: BTreeSet<Bytes>,
}

/// No acquire of these runs asks for more names at once.
const MOST_NAMES: u64 = 2;

/// Who holds something, by lease and owner.
type Holders = BTreeMap<(LeaseId, String), (Fence, Share)>;

/// Nobody is granted a name up to there, but a lease of this name, which is nobody where it is empty.
#[derive(Clone, Debug)]
struct Delay {
    until: Clock,
    lease_name: String,
    identity: Option<String>,
}

/// The oracles that learn from an entry that is applied.
pub(crate) struct Around<'a> {
    pub(crate) decisions: &'a mut Decisions,
    pub(crate) calls: &'a mut Calls,
    pub(crate) beliefs: &'a mut Beliefs,
}

pub(crate) struct History {
    clocks: ClockPlan,
    digests: Vec<u128>,
    changes: Vec<Change>,
    /// The revision after each entry.
    revisions: Vec<Revision>,
    /// The clock of each change.
    stamped: Vec<Clock>,
    /// Up to where somebody had history compacted.
    compacted: Revision,
    limits: Limits,
    /// Leases that the entry ended that is being looked at.
    ended: Vec<LeaseId>,
    leases: BTreeMap<LeaseId, Lease>,
    holds: BTreeMap<(Kind, String), Holders>,
    fences: BTreeMap<(Kind, String), Fence>,
    delays: BTreeMap<(Kind, String), Delay>,
    keys: BTreeMap<Bytes, LeaseId>,
    /// Leases and places as of the last entry.
    counted: (u64, u64),
    /// The same of each identity.
    used: BTreeMap<String, (u64, u64)>,
    /// Leases of nobody that became somebody's in the present entry.
    claimed: BTreeMap<LeaseId, String>,
    /// The clock of the last entry.
    clock: Clock,
    queues: Queues,
    renewals: Renewals,
    rights: Rights,
    pub(crate) versions: Keys,
    pub(crate) grants: u64,
    pub(crate) expired: u64,
    pub(crate) broken: u64,
    pub(crate) handed_over: u64,
    pub(crate) proclaimed: u64,
    /// Grants to one of several holders.
    pub(crate) shared: u64,
}

/// Selects everything that there is.
pub(crate) fn everything() -> Vec<Selector> {
    use Collection::{Elections, Keys, Leases, Locks, Semaphores};
    let all = |collection| {
        Selector::Prefix(Resource {
            collection,
            name: Bytes::new(),
        })
    };
    [Elections, Keys, Leases, Locks, Semaphores]
        .into_iter()
        .map(all)
        .collect()
}

impl History {
    pub(super) fn new(founding: &State, clocks: ClockPlan) -> History {
        History {
            clocks,
            digests: vec![founding.digest()],
            changes: Vec::new(),
            revisions: vec![founding.revision()],
            stamped: Vec::new(),
            compacted: Revision(0),
            limits: founding.limits().clone(),
            ended: Vec::new(),
            leases: BTreeMap::new(),
            holds: BTreeMap::new(),
            fences: BTreeMap::new(),
            delays: BTreeMap::new(),
            keys: BTreeMap::new(),
            counted: (0, 0),
            used: BTreeMap::new(),
            claimed: BTreeMap::new(),
            clock: Clock(0),
            queues: Queues::default(),
            renewals: Renewals::default(),
            rights: Rights::new(founding),
            versions: Keys::default(),
            grants: 0,
            expired: 0,
            broken: 0,
            handed_over: 0,
            proclaimed: 0,
            shared: 0,
        }
    }

    fn digest_at(&self, index: LogIndex) -> Option<u128> {
        let offset = index.0.checked_sub(FIRST_BASE.index.0)?;
        self.digests.get(usize::try_from(offset).ok()?).copied()
    }

    /// A member has this state at this index: the same as every other (Raft §5.4.3, and `design.md`).
    pub(crate) fn compare(&self, member: usize, index: LogIndex, digest: u128) {
        demand!(
            self.digest_at(index) == Some(digest),
            "equal-states",
            "n{} has digest {digest:x} at {index}; others have {:x?}",
            member + 1,
            self.digest_at(index)
        );
    }

    /// A member has applied an entry. The first to do so writes the history, the others are compared with it.
    pub(crate) fn applied(
        &mut self,
        (member, index, before): (usize, LogIndex, Revision),
        committed: &Committed,
        state: &State,
        around: Around<'_>,
    ) {
        if self.digest_at(index).is_some() {
            return self.compare(member, index, state.digest());
        }
        demand!(
            index.0 == FIRST_BASE.index.0 + self.digests.len() as u64,
            "apply-order",
            "n{} applies {index} before what is in front of it",
            member + 1
        );
        self.digests.push(state.digest());
        self.clock = Clock(committed.stamp.0);
        self.revisions.push(state.revision());
        let Around {
            decisions,
            calls,
            beliefs,
        } = around;
        let clock = Clock(committed.stamp.0);
        let decided = decisions.applied(index, clock, &committed.batch, state.digest());
        let quotas = self.rights.quotas();
        let ended = |lease| state.lease(lease, clock).is_err();
        let rights = &mut self.rights;
        self.claimed = rights.judge(index, &committed.batch, &decided, ended);
        for (lease, owner) in &self.claimed {
            if let Some(lease) = self.leases.get_mut(lease) {
                lease.identity = Some(owner.clone());
            }
        }
        let (allowed, decided) = without_denied(index, committed, decided, calls);
        let committed = &*allowed;
        let received = self.note_requests(index, committed, &decided, calls);
        let most = self.most_allowed(committed);
        self.renewals.entry(committed, calls);
        let before_changes = self.changes.len();
        self.note_changes(before, committed, state, beliefs);
        for change in &self.changes[before_changes..] {
            for event in change.events.iter() {
                decisions.happened(change.revision, clock, event);
            }
        }
        self.note_deadlines(committed, state, &received);
        self.demand_gone(state, clock);
        self.demand_within(&most);
        self.demand_within_quotas(&quotas);
        self.note_administration(committed, state);
        self.judge_transactions(committed, &decided);
        self.settle_queues(committed);
    }

    /// The greatest limits that were in force at any time within this entry.
    fn most_allowed(&self, committed: &Committed) -> Limits {
        let mut most = self.limits.clone();
        for request in &committed.batch.requests {
            if let Command::ChangeLimits(changes) = &request.command {
                most.leases = most.leases.max(changes.get("leases").copied().unwrap_or(0));
                most.waiters = most
                    .waiters
                    .max(changes.get("waiters").copied().unwrap_or(0));
            }
        }
        most
    }

    /// Nothing grows beyond its limit; what was there when a limit was lowered stays.
    fn demand_within(&mut self, most: &Limits) {
        let leases = self.leases.len() as u64;
        demand!(
            leases <= most.leases.max(self.counted.0),
            "bounded",
            "{leases} leases; the limit is {} and there were {}",
            most.leases,
            self.counted.0
        );
        let places = self.leases.values().map(|lease| lease.places.len() as u64);
        let places = places.sum::<u64>();
        demand!(
            // A place in several queues at once is one.
            places <= MOST_NAMES * most.waiters.max(self.counted.1),
            "bounded",
            "{places} places in queues; the limit is {} and there were {}",
            most.waiters,
            self.counted.1
        );
        self.counted = (leases, places);
    }

    /// The same of each identity, where its quota is what it was before the entry, and it claimed no lease: no quota refuses
    /// that.
    fn demand_within_quotas(&mut self, before: &BTreeMap<String, (u64, u64)>) {
        let mut used: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for lease in self.leases.values() {
            if let Some(identity) = &lease.identity {
                let used = used.entry(identity.clone()).or_default();
                used.0 += 1;
                used.1 += lease.places.len() as u64;
            }
        }
        let after = self.rights.quotas();
        for (identity, (leases, places)) in &used {
            let Some(quota) = before
                .get(identity)
                .filter(|quota| after.get(identity) == Some(*quota))
                .filter(|_| !self.claimed.values().any(|owner| owner == identity))
            else {
                continue;
            };
            let had = self.used.get(identity).copied().unwrap_or_default();
            demand!(
                *leases <= quota.0.max(had.0)
                    && *places <= MOST_NAMES.saturating_mul(quota.1.max(had.1)),
                "bounded",
                "{identity} has {leases} leases and {places} places; its quota is {quota:?} and it had {had:?}"
            );
        }
        self.used = used;
    }

    fn note_administration(&mut self, committed: &Committed, state: &State) {
        for request in &committed.batch.requests {
            if let Command::Compact { revision } = &request.command
                && *revision <= state.revision()
            {
                self.compacted = self.compacted.max(*revision);
            }
        }
        self.limits.clone_from(state.limits());
    }

    /// Of a lease that has ended nothing is left in the state.
    fn demand_gone(&mut self, state: &State, clock: Clock) {
        for lease in std::mem::take(&mut self.ended) {
            let left = state.attached(lease, 1);
            demand!(
                left.is_empty() && state.lease(lease, clock).is_err(),
                "nothing-left",
                "lease {lease} has ended; the state has it, with {left:?}"
            );
        }
    }

    /// A member says that history after a revision is gone. It may be where somebody had it compacted, or where it is
    /// older than it must be kept, or where it takes too much room.
    pub(crate) fn lost(&self, after: Revision) {
        let next = self.stamped.get(offset(after));
        let now = self.clock.0;
        let old = next.is_some_and(|next| next.0 + self.limits.history_retention_ms < now);
        let large = self.limits.history_bytes < Limits::default().history_bytes;
        demand!(
            after < self.compacted || old || large,
            "history-kept",
            "a watch after {after} is told that history is gone; what follows is of {next:?}, the clock {now}"
        );
    }

    /// What transactions were answered, and what they did.
    fn judge_transactions(&self, committed: &Committed, decided: &[Decision]) {
        let decided = decided.iter().skip(committed.batch.renewals.len());
        for (request, decision) in committed.batch.requests.iter().zip(decided) {
            if let (
                Command::Transaction(asked),
                Ok(Answer::Transaction {
                    succeeded,
                    results,
                    revision,
                }),
                false,
            ) = (&request.command, &decision.outcome, decision.replayed)
            {
                let said = Said {
                    succeeded: *succeeded,
                    results,
                    revision: *revision,
                };
                let at = revision.0.checked_sub(2);
                let change = at.and_then(|at| self.changes.get(usize::try_from(at).ok()?));
                self.versions.judge(asked, &said, change);
            }
        }
    }

    /// After an entry nobody waits in vain, and no lease lives that is due.
    fn settle_queues(&self, committed: &Committed) {
        let clock = Clock(committed.stamp.0);
        let late = self.leases.iter().find(|(_, lease)| lease.deadline < clock);
        demand!(
            late.is_none(),
            "late-end",
            "at the clock {} a lease is alive that is due: {late:?}",
            clock.0
        );
        let scene = Scene {
            clock,
            batch: &committed.batch,
            deadline: &|lease| self.leases.get(&lease).map(|lease| lease.deadline),
            might_hold: &|_, _, _| None,
        };
        self.queues.settle(&scene, &|name, share| {
            let holders = self.holds.get(name).into_iter().flatten();
            let shares: Vec<Share> = holders
                .map(|(_, (_, share))| *share)
                .chain([share])
                .collect();
            fit_together(shares.into_iter())
        });
    }

    fn note_requests(
        &self,
        index: LogIndex,
        committed: &Committed,
        decided: &[Decision],
        calls: &mut Calls,
    ) -> BTreeMap<LeaseId, Moment> {
        let mut received: BTreeMap<LeaseId, Moment> = BTreeMap::new();
        let mut note = |lease: Option<LeaseId>, moment: Moment| {
            if let Some(lease) = lease {
                let last = received.entry(lease).or_default();
                *last = moment.max(*last);
            }
        };
        for renewal in &committed.batch.renewals {
            note(Some(renewal.lease), calls.committed(renewal.origin, index));
        }
        let decided = decided.iter().skip(committed.batch.renewals.len());
        for (request, decision) in committed.batch.requests.iter().zip(decided) {
            if matches!(request.command, Command::RaiseVersion { .. }) {
                // The leader's own, which nobody asked for.
                continue;
            }
            let lease = match &request.command {
                Command::GrantLease(_) | Command::ChangeLease { .. } | Command::Acquire(_) => {
                    lease_of(&decision.outcome)
                }
                _ => None,
            };
            note(lease, calls.committed(request.origin, index));
        }
        received
    }

    fn note_changes(
        &mut self,
        before: Revision,
        committed: &Committed,
        state: &State,
        beliefs: &mut Beliefs,
    ) {
        let now = state.revision();
        let mut after = before;
        while after < now {
            let all = everything();
            let Ok(page) = state.changes(after, &all, 10_000, 1 << 30, 100_000) else {
                super::broken(
                    "history",
                    format!("what changed after {after} is compacted in the entry that changed it"),
                )
            };
            demand!(
                after < page.through,
                "history",
                "nothing is answered after {after}; the state is at {now}"
            );
            after = page.through;
            for change in page.changes {
                self.note_change(change, committed, beliefs);
            }
        }
    }

    fn note_change(&mut self, change: Change, committed: &Committed, beliefs: &mut Beliefs) {
        let expected = Revision(2 + self.changes.len() as u64);
        demand!(
            change.revision == expected,
            "revisions",
            "revision {} follows {expected}",
            change.revision
        );
        self.versions.note(&change);
        let (leases, rights, claimed) = (&self.leases, &self.rights, &self.claimed);
        self.queues.note(
            &change,
            &Scene {
                clock: Clock(committed.stamp.0),
                batch: &committed.batch,
                deadline: &|lease| leases.get(&lease).map(|lease| lease.deadline),
                might_hold: &|lease, kind, name| match claimed.contains_key(&lease) {
                    // It may have been nobody's yet.
                    true => None,
                    false => rights.might_hold(lease, kind, name),
                },
            },
        );
        let mut ended = None;
        for event in change.events.iter() {
            self.note_event(change.revision, event, committed, beliefs);
            if let Event::LeaseEnded { lease, .. } = event {
                ended = Some(*lease);
            }
        }
        if let Some(lease) = ended {
            self.demand_nothing_left(change.revision, lease);
            self.ended.push(lease);
        }
        self.changes.push(change);
        self.stamped.push(Clock(committed.stamp.0));
    }

    fn note_event(
        &mut self,
        revision: Revision,
        event: &Event,
        committed: &Committed,
        beliefs: &mut Beliefs,
    ) {
        match event {
            Event::LeaseGranted {
                lease,
                name,
                ttl_ms,
                ..
            } => {
                let deadline = Clock(committed.stamp.0 + ttl_ms);
                let granted = Lease {
                    deadline,
                    ttl_ms: *ttl_ms,
                    name: name.clone(),
                    identity: granted_to(committed, *lease)
                        .or_else(|| self.claimed.get(lease).cloned()),
                    received: committed.appended,
                    ..Lease::default()
                };
                self.leases.insert(*lease, granted);
            }
            Event::LeaseEnded { lease, reason, .. } => {
                self.note_end(*lease, *reason, committed, beliefs)
            }
            Event::Granted(grant) => self.note_grant(revision, grant, committed),
            Event::Released {
                kind,
                name,
                owner,
                lease,
                fence,
                reason,
            } => {
                let holding = Holding {
                    kind: *kind,
                    name: name.clone(),
                    lease: *lease,
                    owner: owner.clone(),
                };
                self.note_release(holding, *fence, *reason, committed, beliefs);
            }
            Event::Put(entry) => self.note_key(&entry.key, entry.lease),
            Event::Delete { key, .. } => self.note_key(key, None),
            Event::Proclaimed {
                name,
                candidate,
                fence,
                ..
            } => {
                let leaders = self.holds.get(&(Kind::Election, name.clone()));
                let leads = leaders
                    .into_iter()
                    .flatten()
                    .any(|((_, owner), (held, _))| owner == candidate && held == fence);
                demand!(
                    leads,
                    "one-holder",
                    "{candidate} proclaims {name} with {fence:?}; {leaders:?} lead it"
                );
                self.proclaimed += 1;
            }
            Event::Queued { place } => {
                let lease = self.leases.get_mut(&place.lease);
                demand!(
                    lease.is_some(),
                    "dead-grant",
                    "the dead lease {} waits for {}",
                    place.lease,
                    place.name
                );
                if let Some(lease) = lease {
                    let place = (place.kind, place.name.clone(), place.owner.clone());
                    lease.places.insert(place);
                }
            }
            Event::Left {
                kind,
                name,
                owner,
                lease,
                ..
            } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.places.remove(&(*kind, name.clone(), owner.clone()));
                }
            }
        }
    }

    /// Fences rise, holders fit together, the lease is alive, and no delay is running.
    fn note_grant(&mut self, revision: Revision, grant: &Grant, committed: &Committed) {
        let place = (grant.kind, grant.name.clone());
        let last = self.fences.insert(place.clone(), grant.fence);
        // Those who share a revision share its fence.
        let rises = |last: Fence| match grant.share {
            Share::Exclusive => last < grant.fence,
            Share::Shared | Share::Permits { .. } => last <= grant.fence,
        };
        demand!(
            last.is_none_or(rises) && grant.fence == Fence::from(revision),
            "fences-rise",
            "{} is granted at {revision} with {:?} after {last:?}",
            grant.name,
            grant.fence
        );
        let holders = self.holds.entry(place.clone()).or_default();
        let asker = (grant.lease, grant.owner.clone());
        let twice = holders.insert(asker, (grant.fence, grant.share));
        demand!(
            twice.is_none() && fit_together(holders.values().map(|(_, share)| *share)),
            "one-holder",
            "{} is granted at {revision} as {:?}; now {holders:?} hold it",
            grant.name,
            grant.share
        );
        self.shared += u64::from(holders.len() > 1);
        if let Some(delay) = self.delays.remove(&place) {
            let asks = self.leases.get(&grant.lease);
            let identity = asks.and_then(|lease| lease.identity.as_ref());
            // It may have been claimed before this grant, or after it.
            let was_nobodys = self.claimed.contains_key(&grant.lease);
            let let_through = !delay.lease_name.is_empty()
                && delay.lease_name == grant.lease_name
                && (delay.identity.as_ref() == identity || was_nobodys && delay.identity.is_none());
            demand!(
                let_through || delay.until.0 < committed.stamp.0,
                "delay",
                "{} is granted at the clock {} to a lease named {:?}; {delay:?} is running",
                grant.name,
                committed.stamp.0,
                grant.lease_name
            );
        }
        let Some(alive) = self.leases.get_mut(&grant.lease) else {
            super::broken(
                "dead-grant",
                format!(
                    "{} is granted to the dead lease {}",
                    grant.name, grant.lease
                ),
            )
        };
        let hold = (grant.kind, grant.name.clone(), grant.owner.clone());
        alive.places.remove(&hold);
        alive.holds.insert(hold);
        self.grants += 1;
    }

    fn note_release(
        &mut self,
        holding: Holding,
        fence: Fence,
        reason: ReleaseReason,
        committed: &Committed,
        beliefs: &mut Beliefs,
    ) {
        let place = (holding.kind, holding.name.clone());
        let asker = (holding.lease, holding.owner.clone());
        let held = self
            .holds
            .get_mut(&place)
            .and_then(|holders| holders.remove(&asker));
        demand!(
            held.is_some_and(|(held, _)| held == fence),
            "one-holder",
            "{holding:?} is released with {fence:?}; it was held with {held:?}"
        );
        let clock = Clock(committed.stamp.0);
        let lease = self.leases.get_mut(&holding.lease).map(|lease| {
            lease
                .holds
                .remove(&(holding.kind, holding.name.clone(), holding.owner.clone()));
            &*lease
        });
        let delay = match reason {
            ReleaseReason::Released => None,
            ReleaseReason::HandedOver => {
                self.handed_over += 1;
                None
            }
            ReleaseReason::LeaseEnded => {
                let delay_ms = lock_delay_ms(&holding.name);
                lease
                    .filter(|lease| lease.ran_out && 0 < delay_ms)
                    .map(|lease| Delay {
                        until: Clock(clock.0 + delay_ms),
                        lease_name: lease.name.clone(),
                        identity: lease.identity.clone(),
                    })
            }
            ReleaseReason::Broken => {
                self.broken += 1;
                // It may believe until there, unless somebody accepts that it does.
                let until = lease.map(|lease| lease.deadline);
                if breaks_now(committed, &place, fence) {
                    beliefs.accept(holding, fence);
                    None
                } else {
                    until.map(|until| Delay {
                        until,
                        lease_name: String::new(),
                        identity: None,
                    })
                }
            }
        };
        if let Some(delay) = delay.filter(|delay| clock < delay.until) {
            self.note_delay(place, clock, delay);
        }
    }

    /// No delay cuts another short, and both must let a lease through.
    fn note_delay(&mut self, place: (Kind, String), clock: Clock, mut delay: Delay) {
        let running = self.delays.get(&place);
        if let Some(running) = running.filter(|running| clock <= running.until) {
            delay.until = delay.until.max(running.until);
            if (&running.lease_name, &running.identity) != (&delay.lease_name, &delay.identity) {
                delay.lease_name.clear();
            }
        }
        self.delays.insert(place, delay);
    }

    fn note_key(&mut self, key: &Bytes, lease: Option<LeaseId>) {
        let before = match lease {
            Some(lease) => self.keys.insert(key.clone(), lease),
            None => self.keys.remove(key),
        };
        if let Some(before) = before.and_then(|before| self.leases.get_mut(&before)) {
            before.keys.remove(key);
        }
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.keys.insert(key.clone());
        }
    }

    /// A lease never ends before its TTL has passed since the renewal was received, and exactly not before the clock in
    /// the log has passed its deadline.
    fn note_end(
        &mut self,
        lease: LeaseId,
        reason: EndReason,
        committed: &Committed,
        beliefs: &mut Beliefs,
    ) {
        if reason != EndReason::Expired {
            // Whoever revokes another's lease accepts that it may still be believed in; nobody here does.
            return beliefs.revoke(lease);
        }
        self.expired += 1;
        let Some(known) = self.leases.get_mut(&lease) else {
            super::broken(
                "leases",
                format!("the lease {lease} ends and was never granted"),
            )
        };
        known.ran_out = true;
        demand!(
            known.deadline.0 < committed.stamp.0,
            "early-end",
            "lease {lease} ends at the clock {}; its deadline is {}",
            committed.stamp.0,
            known.deadline.0
        );
        let lived = committed.appended - known.received;
        let least = u128::from(known.ttl_ms) * 1_000_000 * 1_000_000
            / u128::from(1_000_000 + self.clocks.worst_ppm.unsigned_abs());
        demand!(
            least <= lived.as_nanos() + 2_000_000,
            "early-end",
            "lease {lease} of {} ms ends {lived:?} after its last renewal was received",
            known.ttl_ms
        );
        beliefs.expired(lease, committed.appended);
    }

    fn demand_nothing_left(&mut self, revision: Revision, lease: LeaseId) {
        let Some(ended) = self.leases.remove(&lease) else {
            return;
        };
        demand!(
            ended.holds.is_empty() && ended.places.is_empty() && ended.keys.is_empty(),
            "nothing-left",
            "lease {lease} ended at {revision}; {:?}, {:?} and {:?} still hang on it",
            ended.holds,
            ended.places,
            ended.keys
        );
        let mut held = self.holds.values().flatten();
        let heir = held.find(|((holder, _), _)| *holder == lease);
        demand!(
            heir.is_none(),
            "nothing-left",
            "lease {lease} ended at {revision} and holds {heir:?}"
        );
    }

    fn note_deadlines(
        &mut self,
        committed: &Committed,
        state: &State,
        received: &BTreeMap<LeaseId, Moment>,
    ) {
        let clock = Clock(committed.stamp.0);
        for (id, moment) in received {
            let (Some(lease), Ok(view)) = (self.leases.get_mut(id), state.lease(*id, clock)) else {
                continue;
            };
            demand!(
                lease.deadline <= view.deadline,
                "deadline-falls",
                "the deadline of {id} falls from {} to {}",
                lease.deadline.0,
                view.deadline.0
            );
            if committed
                .batch
                .renewals
                .iter()
                .any(|renewal| renewal.lease == *id)
            {
                demand!(
                    clock.0 + view.ttl_ms <= view.deadline.0,
                    "renewed",
                    "{id} was renewed at {} for {} ms and ends at {}",
                    clock.0,
                    view.ttl_ms,
                    view.deadline.0
                );
            }
            if lease.deadline < view.deadline || lease.received == committed.appended {
                // The first entry of a lease is its grant, which was received before it was appended.
                lease.received = *moment;
                // A shorter TTL counts from the renewal on that moves the deadline.
                lease.ttl_ms = view.ttl_ms;
            }
            lease.deadline = view.deadline;
        }
    }

    /// What a watcher was given must be exactly what it selected of the history between the two revisions.
    pub(crate) fn watched(
        &self,
        after: Revision,
        through: Revision,
        selectors: &[Selector],
        given: &[Change],
    ) {
        demand!(
            after <= through,
            "watch",
            "a watch after {after} is answered through {through}"
        );
        let last = Revision(1 + self.changes.len() as u64);
        demand!(
            through <= last,
            "watch",
            "a watch is answered through {through}; the history ends at {last}"
        );
        let mut given = given.iter();
        for change in &self.changes[offset(after)..offset(through)] {
            let selected: Vec<&Event> = change
                .events
                .iter()
                .filter(|event| selectors.iter().any(|selector| selector.selects(event)))
                .collect();
            if selected.is_empty() {
                continue;
            }
            let next = given.next();
            let same = next.is_some_and(|next| {
                next.revision == change.revision && next.events.iter().eq(selected)
            });
            demand!(
                same,
                "watch",
                "a watcher is given {next:?} where {change:?} is due"
            );
        }
        demand!(
            given.next().is_none(),
            "watch",
            "a watcher is given more than there is through {through}"
        );
    }
}

/// An entry without what was denied in it, which did nothing.
fn without_denied<'a>(
    index: LogIndex,
    committed: &'a Committed,
    decided: Vec<Decision>,
    calls: &mut Calls,
) -> (Cow<'a, Committed>, Vec<Decision>) {
    if !decided.iter().any(is_denied) {
        return (Cow::Borrowed(committed), decided);
    }
    for decision in decided.iter().filter(|decision| is_denied(decision)) {
        calls.committed(decision.origin, index);
    }
    let mut allowed = committed.clone();
    let (renewals, requests) = decided.split_at(committed.batch.renewals.len());
    let mut of_renewals = renewals.iter();
    let mut of_requests = requests.iter();
    let batch = &mut allowed.batch;
    batch
        .renewals
        .retain(|_| !of_renewals.next().is_some_and(is_denied));
    batch
        .requests
        .retain(|_| !of_requests.next().is_some_and(is_denied));
    let decided = decided.into_iter().filter(|decision| !is_denied(decision));
    (Cow::Owned(allowed), decided.collect())
}

fn fit_together(shares: impl ExactSizeIterator<Item = Share>) -> bool {
    let count = shares.len();
    let mut taken = 0_u64;
    let mut least = u64::MAX;
    for share in shares {
        match share {
            Share::Exclusive if count > 1 => return false,
            Share::Exclusive | Share::Shared => {}
            Share::Permits { permits, limit } => {
                taken += permits;
                least = least.min(limit);
            }
        }
    }
    taken <= least
}

/// Who asked for a lease that an entry grants.
fn granted_to(committed: &Committed, lease: LeaseId) -> Option<String> {
    let grants = |command: &Command| match command {
        Command::GrantLease(new) => new.lease == lease,
        Command::Acquire(acquire) => acquire.claim.lease() == lease,
        _ => false,
    };
    let mut requests = committed.batch.requests.iter();
    let request = requests.find(|request| grants(&request.command))?;
    request.principal.identity().map(str::to_owned)
}

/// Whether an operator broke this hold and accepted that it may still be believed in.
fn breaks_now(committed: &Committed, place: &(Kind, String), fence: Fence) -> bool {
    let requests = &committed.batch.requests;
    requests.iter().any(|request| {
        matches!(&request.command, Command::Break(broken)
            if broken.now && broken.fence == fence && (broken.kind, &broken.name) == (place.0, &place.1))
    })
}

fn offset(revision: Revision) -> usize {
    usize::try_from(revision.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

impl History {
    /// How much was denied, how often it was changed who may do what, and how many leases of nobody became somebody's.
    pub(crate) fn access(&self) -> (u64, u64, u64) {
        (self.rights.denied, self.rights.changed, self.rights.claims)
    }

    /// Everything that happened.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The revision of the state after an entry.
    pub(crate) fn revision_at(&self, index: LogIndex) -> Option<Revision> {
        let offset = index.0.checked_sub(FIRST_BASE.index.0)?;
        self.revisions.get(usize::try_from(offset).ok()?).copied()
    }

    /// Whether the history deletes this key after this revision.
    pub(crate) fn deletes_after(&self, key: &Bytes, revision: Revision) -> bool {
        let later = self.changes.iter().skip(offset(revision));
        later
            .flat_map(|change| change.events.iter())
            .any(|event| matches!(event, Event::Delete { key: of, .. } if of == key))
    }
}
