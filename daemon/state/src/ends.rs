//! Leases: granting and revoking them, and whatever ends because it is due.
//!
//! Owns the ends: of a lease with all that hangs on it, of a place whose wait is over, of a lock delay, and what is
//! forgotten afterwards. Never ends anything before the clock has passed its deadline.

use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::access::Principal;
use crate::answer::{Answer, Outcome, Refusal};
use crate::command::NewLease;
use crate::event::{DeleteReason, EndReason, Event, LeaveReason, ReleaseReason};
use crate::ids::{Clock, Kind, LeaseId, Revision};
use crate::limits::{
    ENDED_LEASES, ENDED_RETENTION_MS, MAX_COMPACTED_EVENTS_PER_ENTRY, MAX_COMPACTED_PER_ENTRY,
    MAX_ENDED_FORGOTTEN_PER_ENTRY, MAX_ENDED_THINGS_PER_ENTRY, MAX_ENDS_PER_ENTRY,
    MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_TTL_MS, MIN_TTL_MS,
};
use crate::parts::{Called, Delay, Due, FREE, Hanging, Lease, PlaceId, QueueId};
use crate::rows::{self, Meta, RowId};
use crate::standing;
use crate::state::{LAST_CLOCK, Revising, State};

impl State {
    pub(crate) fn grant_lease(&mut self, new: &NewLease, who: &Principal) -> Outcome {
        self.check_new_lease(new, who)?;
        let mut revising = self.revise();
        self.add_lease(new, self.known_identity(who), &mut revising);
        self.seal(revising);
        self.view_lease(new.lease, self.clock).map(Answer::Lease)
    }

    pub(crate) fn check_new_lease(&self, new: &NewLease, who: &Principal) -> Result<(), Refusal> {
        check_ttl(new.ttl_ms)?;
        if self.leases.by_id.contains_key(&new.lease)
            || self.ended.by_lease.contains_key(&new.lease)
        {
            return Err(Refusal::LeaseIdTaken(new.lease));
        }
        check_size("name_bytes", new.name.len(), MAX_NAME_BYTES)?;
        check_metadata(&new.metadata)?;
        let (allowed, asked) = (self.limits.leases, self.leases.by_id.len() as u64 + 1);
        if allowed < asked {
            return Err(Refusal::QuotaExceeded {
                limit: "leases",
                allowed,
                asked,
            });
        }
        self.check_lease_quota(who.identity())?;
        self.check_standing(standing::of_new_lease(new))
    }

    /// Adds a lease that was checked.
    pub(crate) fn add_lease(
        &mut self,
        new: &NewLease,
        identity: Option<Arc<str>>,
        revising: &mut Revising,
    ) {
        let deadline = Clock(self.clock.0.saturating_add(new.ttl_ms).min(LAST_CLOCK));
        let slot = self.leases.take_slot();
        self.touch(RowId::Lease(new.lease));
        let metadata = Arc::new(new.metadata.clone());
        let lease = Lease {
            ttl_ms: new.ttl_ms,
            name: new.name.clone(),
            identity,
            metadata: Arc::clone(&metadata),
            granted_revision: revising.revision,
            attached_revision: None,
            slot,
            armed: deadline,
            attached: Default::default(),
        };
        self.standing = self.standing.saturating_add(standing::of_lease(&lease));
        self.count_lease(lease.identity.as_ref());
        self.leases.by_id.insert(new.lease, lease);
        self.set_deadline(slot, deadline.0);
        self.agenda.insert((deadline, Due::Lease(new.lease)));
        self.tally.leases_granted += 1;
        let (name, ttl_ms) = (new.name.clone(), new.ttl_ms);
        revising.leases.push(Event::LeaseGranted {
            lease: new.lease,
            name,
            metadata,
            ttl_ms,
        });
    }

    pub(crate) fn change_lease(&mut self, id: LeaseId, ttl_ms: u64, who: &Principal) -> Outcome {
        check_ttl(ttl_ms)?;
        if !self.leases.by_id.contains_key(&id) {
            return Err(self.no_lease(id));
        }
        self.touch(RowId::Lease(id));
        let lease = self.leases.by_id.get_mut(&id);
        let had_ttl_ms = lease.map(|lease| std::mem::replace(&mut lease.ttl_ms, ttl_ms));
        self.renew_of(id, had_ttl_ms.unwrap_or(ttl_ms), who)
    }

    pub(crate) fn revoke_lease(&mut self, lease: LeaseId) -> Outcome {
        let ended_count = self
            .end_lease(lease, EndReason::Revoked)
            .ok_or_else(|| self.no_lease(lease))?;
        Ok(Answer::LeaseEnded {
            lease,
            ended_count,
            revision: self.revision,
        })
    }

    /// Ends what the clock has passed, in the order of deadlines, as far as one entry may. Returns how many leases.
    pub(crate) fn end_what_is_due(&mut self) -> u64 {
        let (mut ends, mut things, mut leases) = (0, 0, 0);
        while ends < MAX_ENDS_PER_ENTRY && things < MAX_ENDED_THINGS_PER_ENTRY {
            let Some((deadline, due)) = self.agenda.first().cloned() else {
                break;
            };
            if self.clock <= deadline
                && !(mutated(Mutant::EndsAtDeadline) && self.clock == deadline)
            {
                break;
            }
            match due {
                Due::Lease(lease) => {
                    let actual = self.deadline_of(lease).unwrap_or(deadline);
                    if deadline < actual && !mutated(Mutant::RenewedLeaseEnds) {
                        self.rearm(lease, deadline, actual);
                        continue;
                    }
                    self.tally.expired(self.clock.0.saturating_sub(deadline.0));
                    things += self.end_lease(lease, EndReason::Expired).unwrap_or(0);
                    leases += 1;
                }
                Due::Place(place) => self.end_place(place, LeaveReason::WaitExpired),
                Due::Delay(queue) => self.end_delay(queue),
            }
            ends += 1;
        }
        leases
    }

    /// Ends a lease and all that hangs on it at one revision, then serves what it freed. Returns how many things went.
    fn end_lease(&mut self, id: LeaseId, reason: EndReason) -> Option<u64> {
        let (count, mut revising) = self.take_lease(id, reason)?;
        self.serve(&mut revising);
        self.seal(revising);
        Some(count)
    }

    /// Ends a lease and all that hangs on it. Returns how many things went, and the revision at which they did, with the
    /// queues that it freed.
    pub(crate) fn take_lease(&mut self, id: LeaseId, reason: EndReason) -> Option<(u64, Revising)> {
        if !self.leases.by_id.contains_key(&id) {
            return None;
        }
        self.touch(RowId::Lease(id));
        let lease = self.leases.by_id.remove(&id)?;
        self.standing = self.standing.saturating_sub(standing::of_lease(&lease));
        self.uncount_lease(lease.identity.as_deref());
        self.agenda.remove(&(lease.armed, Due::Lease(id)));
        self.set_deadline(lease.slot, FREE);
        self.tally.lease_ended(reason);
        self.leases.free.insert(lease.slot);
        let mut revising = self.revise();
        self.remember_ended(id, revising.revision);
        let count = lease.attached.len() as u64;
        revising.leases.push(Event::LeaseEnded {
            lease: id,
            name: lease.name.clone(),
            reason,
        });
        for hanging in &lease.attached {
            let is_left = match hanging {
                Hanging::Key(_) => mutated(Mutant::LeaseLeavesKeys),
                Hanging::Hold(..) => mutated(Mutant::LeaseLeavesHolds),
                Hanging::Place(..) => mutated(Mutant::LeaseLeavesPlaces),
            };
            if is_left {
                continue;
            }
            self.end_hanging(id, &lease, hanging, reason, &mut revising);
        }
        Some((count, revising))
    }

    fn end_hanging(
        &mut self,
        id: LeaseId,
        lease: &Lease,
        hanging: &Hanging,
        reason: EndReason,
        revising: &mut Revising,
    ) {
        match hanging {
            Hanging::Key(key) => {
                let event = Event::Delete {
                    key: key.clone(),
                    lease: Some(id),
                    reason: DeleteReason::LeaseEnded,
                };
                revising.deleted.push(event);
            }
            Hanging::Hold(queue, owner) => {
                let asker = State::asker(id, owner);
                let hold = self.remove_hold(queue, &asker, ReleaseReason::LeaseEnded, revising);
                let delay_ms = hold.map_or(0, |hold| hold.lock_delay_ms);
                if reason == EndReason::Expired && 0 < delay_ms && !mutated(Mutant::DelayForgotten)
                {
                    self.delay(queue, delay_ms, lease.called());
                }
            }
            Hanging::Place(queue, owner) => {
                let asker = State::asker(id, owner);
                let place = self
                    .queues
                    .get(queue)
                    .and_then(|queue| queue.askers.get(&asker))
                    .copied();
                // A place in several queues hangs here once for each of them and goes at the first.
                if let Some(place) = place {
                    self.remove_place(place, Some(LeaveReason::LeaseEnded), revising);
                }
            }
        }
    }

    fn remember_ended(&mut self, lease: LeaseId, revision: Revision) {
        self.touch(RowId::Ended(revision));
        self.ended.by_revision.insert(revision, (lease, self.clock));
        self.ended.by_lease.insert(lease, revision);
    }

    /// Ends a place that was not granted.
    pub(crate) fn end_place(&mut self, place: PlaceId, reason: LeaveReason) {
        let mut revising = self.revise();
        self.remove_place(place, Some(reason), &mut revising);
        self.serve(&mut revising);
        self.seal(revising);
    }

    /// Nobody is granted the name for so long, but a lease that is called the same.
    fn delay(&mut self, id: &QueueId, delay_ms: u64, passes: Called) {
        let until = Clock(self.clock.0.saturating_add(delay_ms).min(LAST_CLOCK));
        self.delay_until(id, until, passes);
    }

    /// Nobody is granted the name until then, but a lease that is called so, which is nobody where its name is empty. Where
    /// a delay runs already, neither cuts the other short: the later end counts, for nobody but whom both let through.
    pub(crate) fn delay_until(&mut self, id: &QueueId, until: Clock, passes: Called) {
        let running = self.queues.get(id).and_then(|queue| queue.delay.clone());
        let running = running.filter(|_| !mutated(Mutant::DelayCutShort));
        let (until, passes) = match running {
            Some(running) if running.passes == passes => (until.max(running.until), passes),
            Some(running) => (until.max(running.until), Called::default()),
            None => (until, passes),
        };
        self.clear_delay(id);
        self.touch(RowId::Queue(id.clone()));
        let Some(queue) = self.queues.get_mut(id) else {
            return;
        };
        queue.delay = Some(Delay { until, passes });
        self.agenda.insert((until, Due::Delay(id.clone())));
        self.firsts.remove(id);
    }

    /// Ends the delay of a name; says whether there was one.
    pub(crate) fn clear_delay(&mut self, id: &QueueId) -> bool {
        if self
            .queues
            .get(id)
            .is_none_or(|queue| queue.delay.is_none())
        {
            return false;
        }
        self.touch(RowId::Queue(id.clone()));
        let Some(delay) = self.queues.get_mut(id).and_then(|queue| queue.delay.take()) else {
            return false;
        };
        self.agenda.remove(&(delay.until, Due::Delay(id.clone())));
        self.firsts.remove(id);
        true
    }

    fn end_delay(&mut self, id: QueueId) {
        self.clear_delay(&id);
        let mut revising = self.revise();
        revising.freed.insert(id.clone());
        self.serve(&mut revising);
        self.seal(revising);
        self.forget_queue(&id);
    }

    /// Forgets a queue that nobody uses and whose last change is compacted.
    fn forget_queue(&mut self, id: &QueueId) {
        let compact = self.compact;
        if self
            .queues
            .get(id)
            .is_some_and(|queue| queue.is_idle() && queue.mod_revision <= compact)
        {
            self.touch(RowId::Queue(id.clone()));
            self.queues.remove(id);
        }
    }

    /// Forgets the oldest history where it is too old or too much, but nothing that this entry made.
    pub(crate) fn compact_history(&mut self, before: Revision) {
        let oldest = self
            .clock
            .0
            .saturating_sub(self.limits.history_retention_ms);
        // More than the entry made, or history would grow past its bounds while entries are that full.
        let made = self.revision.0.saturating_sub(before.0);
        let most = MAX_COMPACTED_PER_ENTRY.saturating_add(made);
        let (mut revisions, mut events) = (0, 0);
        while let Some(front) = self.history.changes.front() {
            let needed = self.compact_target < front.change.revision
                && oldest <= front.clock.0
                && self.history.bytes <= self.limits.history_bytes;
            let is_saved = front.change.revision <= self.ledger.stored_through;
            let needed = needed || mutated(Mutant::CompactionFollowsDisk) && !is_saved;
            if needed || before < front.change.revision {
                return;
            }
            if most <= revisions || MAX_COMPACTED_EVENTS_PER_ENTRY <= events {
                return;
            }
            revisions += 1;
            events += front.change.events.len() as u64;
            self.compact_front();
        }
    }

    /// Forgets the oldest revision: its rows, but for versions of keys that a read at it still sees.
    fn compact_front(&mut self) {
        let Some(front) = self.history.changes.pop_front() else {
            return;
        };
        let revision = front.change.revision;
        self.touch(RowId::Meta(Meta::Compact));
        self.compact = revision;
        self.history.base = revision;
        self.history.bytes = self.history.bytes.saturating_sub(front.bytes);
        for (position, event) in (0..).zip(front.change.events.iter()) {
            match event {
                Event::Put(entry) => {
                    if self.ledger.stored_through < revision {
                        self.ledger
                            .kept
                            .insert((revision, position), entry.key.clone());
                    }
                    self.forget_versions(&entry.key);
                }
                Event::Delete { key, .. } => {
                    self.forget_versions(key);
                    self.drop_history_row(revision, position, front.clock, event);
                }
                Event::Granted(grant) => {
                    self.drop_history_row(revision, position, front.clock, event);
                    self.forget_queue(&QueueId::new(grant.kind, &grant.name));
                }
                Event::Queued { place } => {
                    self.drop_history_row(revision, position, front.clock, event);
                    self.forget_queue(&QueueId::new(place.kind, &place.name));
                }
                Event::Proclaimed { name, .. } => {
                    self.drop_history_row(revision, position, front.clock, event);
                    self.forget_queue(&QueueId::new(Kind::Election, name));
                }
                Event::Released { kind, name, .. } | Event::Left { kind, name, .. } => {
                    self.drop_history_row(revision, position, front.clock, event);
                    self.forget_queue(&QueueId::new(*kind, name));
                }
                Event::LeaseGranted { .. } | Event::LeaseEnded { .. } => {
                    self.drop_history_row(revision, position, front.clock, event);
                }
            }
        }
    }

    /// Forgets versions of a key that no read from the compact revision on sees. Deletions among them are dropped with
    /// their own events.
    fn forget_versions(&mut self, key: &[u8]) {
        for version in self.keys.forget(key, self.compact) {
            let revision = version.revision();
            if let crate::keys::Became::Put(entry) = version.became {
                self.drop_history_row(
                    revision,
                    version.position,
                    version.clock,
                    &Event::Put(entry),
                );
            }
        }
    }

    fn drop_history_row(&mut self, revision: Revision, position: u32, clock: Clock, event: &Event) {
        let row = rows::history_row(revision, position, clock, event);
        let hash = rows::hash(row.table, &row.key, &row.value);
        self.ledger.digest = self.ledger.digest.wrapping_sub(hash);
        self.ledger.kept.remove(&(revision, position));
        if revision <= self.ledger.stored_through {
            self.ledger.dead.insert((revision, position));
        }
    }

    /// Forgets leases that ended long ago, or that are too many.
    pub(crate) fn forget_ended(&mut self) {
        let oldest = self.clock.0.saturating_sub(ENDED_RETENTION_MS);
        let mut forgotten = 0;
        while let Some((revision, (lease, clock))) = self.ended.by_revision.first_key_value() {
            let too_many = ENDED_LEASES < self.ended.by_revision.len();
            let too_old = clock.0 < oldest && forgotten < MAX_ENDED_FORGOTTEN_PER_ENTRY;
            if !too_many && !too_old {
                return;
            }
            let (revision, lease) = (*revision, *lease);
            self.touch(RowId::Ended(revision));
            self.ended.by_revision.remove(&revision);
            self.ended.by_lease.remove(&lease);
            forgotten += 1;
        }
    }
}

fn check_ttl(ttl_ms: u64) -> Result<(), Refusal> {
    let (min_ms, max_ms) = (MIN_TTL_MS, MAX_TTL_MS);
    match (min_ms..=max_ms).contains(&ttl_ms) {
        true => Ok(()),
        false => Err(Refusal::TtlOutOfRange {
            ttl_ms,
            min_ms,
            max_ms,
        }),
    }
}

pub(crate) fn check_size(limit: &'static str, asked: usize, allowed: u64) -> Result<(), Refusal> {
    let asked = asked as u64;
    if asked <= allowed {
        Ok(())
    } else {
        Err(Refusal::TooLarge {
            limit,
            allowed,
            asked,
        })
    }
}

pub(crate) fn check_metadata(
    metadata: &std::collections::BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let bytes = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    check_size("metadata_bytes", bytes, MAX_METADATA_BYTES)
}
