//! What can be read of the state.
//!
//! Owns the views; none changes anything. Every read is bounded by its arguments or by what a view shows, since nothing
//! is applied while one runs.

use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::answer::{
    Attached, Contention, HoldView, HolderView, KeyEntry, LeaseView, QueueView, QueuedView,
    Refusal, WaiterView,
};
use crate::event::{Change, Event, Selector};
use crate::ids::{Clock, Fence, Kind, LeaseId, Revision};
use crate::limits::{Limits, SHOWN};
use crate::parts::{Asker, Hanging, Hold, PlaceId, Queue, QueueId};
use crate::state::State;

/// Why a read of a past or future revision cannot be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The history that it needs is gone.
    #[error("history is compacted up to {compact_revision}")]
    Compacted {
        /// Up to where.
        compact_revision: Revision,
    },
    /// This state has not been there yet.
    #[error("this state has not reached the revision")]
    Ahead,
}

/// How a `(lease, owner)` stands with a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It holds it.
    Held(HoldView),
    /// It waits for it.
    Queued(QueuedView),
}

/// A page of what changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// The revisions with selected events, whole, and only with those.
    pub changes: Vec<Change>,
    /// Everything up to here was seen.
    pub through: Revision,
    /// Whether there is more to see.
    pub more: bool,
}

impl State {
    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// History up to here is gone; what follows it can be read.
    pub fn compact_revision(&self) -> Revision {
        self.compact.max(self.compact_target)
    }

    /// The cluster clock of the last entry.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A digest of everything: equal on every member at the same entry.
    pub fn digest(&self) -> u128 {
        self.ledger.digest
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The earliest deadline of anything. Where it is before the clock, something is due that no entry has reached.
    ///
    /// History that was told to go and is still there counts as due: further entries take it away.
    pub fn next_deadline(&self) -> Option<Clock> {
        let compacting = self.history.base < self.compact_target;
        let compaction = compacting.then(|| Clock(self.clock.0.saturating_sub(1)));
        let due = self.agenda.first().map(|(deadline, _)| *deadline);
        compaction.into_iter().chain(due).min()
    }

    /// Whether a lease is there: it was granted, and has not ended.
    pub fn has_lease(&self, id: LeaseId) -> bool {
        self.leases.by_id.contains_key(&id)
    }

    /// A lease; `clock` is that of the read.
    ///
    /// # Errors
    ///
    /// Where there is none: whether it ended lately.
    pub fn lease(&self, id: LeaseId, clock: Clock) -> Result<LeaseView, Refusal> {
        self.view_lease(id, clock)
    }

    /// How many keys are live.
    pub fn key_count(&self) -> u64 {
        self.keys.live
    }

    /// What live keys and their values count for in the limit `key_bytes`.
    pub fn key_bytes(&self) -> u64 {
        self.keys.live_bytes
    }

    /// How many idempotency records there are, those that have expired and are not yet forgotten too.
    pub fn repeat_count(&self) -> u64 {
        self.repeats.by_key.len() as u64
    }

    /// How many leases are live.
    pub fn lease_count(&self) -> u64 {
        self.leases.by_id.len() as u64
    }

    /// What leases, holds and places count for in `standing_bytes`.
    pub fn standing_bytes(&self) -> u64 {
        self.standing
    }

    /// What records of decisions count for in `idempotency_records`, those that have expired and are not yet forgotten too.
    pub fn repeats_kept(&self) -> u64 {
        self.repeats.weight
    }

    /// What history counts for in `history_bytes`.
    pub fn history_bytes(&self) -> u64 {
        self.history.bytes
    }

    /// The first things that hang on a lease.
    pub fn attached(&self, id: LeaseId, max: usize) -> Vec<Attached> {
        let attached = self
            .leases
            .by_id
            .get(&id)
            .into_iter()
            .flat_map(|lease| &lease.attached);
        attached
            .take(max)
            .map(|hanging| self.view_hanging(id, hanging))
            .collect()
    }

    fn view_hanging(&self, lease: LeaseId, hanging: &Hanging) -> Attached {
        match hanging {
            Hanging::Key(key) => Attached::Key(key.clone()),
            Hanging::Hold(queue, owner) => Attached::Hold {
                kind: queue.kind,
                name: queue.name.to_string(),
                owner: owner.to_string(),
                fence: self
                    .queues
                    .get(queue)
                    .and_then(|queue| queue.holds.get(&State::asker(lease, owner)))
                    .map_or(Fence(0), |hold| hold.fence),
            },
            Hanging::Place(queue, owner) => Attached::Place {
                kind: queue.kind,
                name: queue.name.to_string(),
                owner: owner.to_string(),
            },
        }
    }

    /// A lock, semaphore or election.
    pub fn queue(&self, kind: Kind, name: &str) -> QueueView {
        let Some(queue) = self.queues.get(&QueueId::new(kind, name)) else {
            return QueueView::default();
        };
        QueueView {
            queue: self.view_places(kind, name, queue),
            ..self.view_queue_alone(queue)
        }
    }

    /// A lock, semaphore or election without its places.
    pub(crate) fn view_queue_alone(&self, queue: &Queue) -> QueueView {
        QueueView {
            holders: self.view_holders(queue),
            queue: Vec::new(),
            limit: self.limit_of(queue),
            permits_held: queue.taken,
            holder_count: queue.holds.len() as u64,
            queue_length: queue.places.len() as u64,
            last_fence: queue.last_fence,
            exclusive_fence: queue.exclusive_fence,
            delay_until: queue.delay.as_ref().map(|delay| delay.until),
            mod_revision: queue.mod_revision,
        }
    }

    /// How a `(lease, owner)` stands with a name; `clock` is that of the read.
    pub fn standing(
        &self,
        kind: Kind,
        name: &str,
        lease: LeaseId,
        owner: &str,
        clock: Clock,
    ) -> Option<Standing> {
        let (id, asker) = (QueueId::new(kind, name), State::asker(lease, owner));
        let held = self.view_hold(&id, &asker, clock).map(Standing::Held);
        held.or_else(|| self.view_queued(&id, &asker, clock).map(Standing::Queued))
    }

    /// Who is in the way of somebody who wants a name.
    pub fn contention(&self, kind: Kind, name: &str) -> Contention {
        let queue = self.queues.get(&QueueId::new(kind, name));
        Contention {
            kind,
            name: name.to_owned(),
            holders: queue
                .map(|queue| self.view_holders(queue))
                .unwrap_or_default(),
            holder_count: queue.map_or(0, |queue| queue.holds.len() as u64),
            queue_length: queue.map_or(0, |queue| queue.places.len() as u64),
            delay_until: queue.and_then(|queue| queue.delay.as_ref().map(|delay| delay.until)),
            lease: None,
            revision: self.revision,
        }
    }

    pub(crate) fn view_hold(&self, id: &QueueId, asker: &Asker, clock: Clock) -> Option<HoldView> {
        let hold = self.queues.get(id)?.holds.get(asker)?;
        Some(HoldView {
            kind: id.kind,
            name: id.name.to_string(),
            owner: asker.owner.to_string(),
            lease: asker.lease,
            share: hold.share,
            fence: hold.fence,
            deadline: self.deadline_of(asker.lease).unwrap_or_default(),
            clock,
            value: hold.value.clone(),
            acquired_revision: Revision(hold.fence.0),
            revision: self.revision,
        })
    }

    pub(crate) fn view_queued(
        &self,
        id: &QueueId,
        asker: &Asker,
        clock: Clock,
    ) -> Option<QueuedView> {
        let queue = self.queues.get(id)?;
        let place = queue.askers.get(asker)?;
        let waiting = self.places.get(place)?;
        Some(QueuedView {
            kind: id.kind,
            name: id.name.to_string(),
            owner: asker.owner.to_string(),
            lease: asker.lease,
            share: waiting.wanted.iter().find(|want| want.queue == *id)?.share,
            position: position(queue, *place),
            queue_length: queue.places.len() as u64,
            queued_revision: place.revision,
            holders: self.view_holders(queue),
            wait_deadline: waiting.wait_deadline,
            deadline: self.deadline_of(asker.lease).unwrap_or_default(),
            clock,
            revision: self.revision,
        })
    }

    fn view_holders(&self, queue: &Queue) -> Vec<HolderView> {
        let holds = queue.holds.iter().take(SHOWN);
        holds
            .map(|(asker, hold)| self.holder_view(asker, hold))
            .collect()
    }

    pub(crate) fn holder_view(&self, asker: &Asker, hold: &Hold) -> HolderView {
        let lease = self.leases.by_id.get(&asker.lease);
        HolderView {
            owner: asker.owner.to_string(),
            lease: asker.lease,
            lease_name: lease.map(|lease| lease.name.clone()).unwrap_or_default(),
            metadata: Arc::clone(&hold.metadata),
            share: hold.share,
            fence: hold.fence,
            acquired_revision: Revision(hold.fence.0),
            acquired_at: hold.acquired_at,
            deadline: self.deadline_of(asker.lease).unwrap_or_default(),
            value: hold.value.clone(),
        }
    }

    fn view_places(&self, kind: Kind, name: &str, queue: &Queue) -> Vec<WaiterView> {
        let places = queue
            .places
            .iter()
            .take(SHOWN)
            .filter_map(|turn| Some((turn.place, self.places.get(&turn.place)?)));
        let view = |(index, (id, place)): (u64, (PlaceId, &crate::parts::Waiting))| {
            let wanted = place
                .wanted
                .iter()
                .find(|want| want.queue.kind == kind && &*want.queue.name == name)?;
            let lease = self.leases.by_id.get(&place.asker.lease);
            Some(WaiterView {
                position: index,
                owner: place.asker.owner.to_string(),
                lease: place.asker.lease,
                lease_name: lease.map(|lease| lease.name.clone()).unwrap_or_default(),
                metadata: Arc::clone(&place.metadata),
                share: wanted.share,
                priority: place.priority,
                queued_revision: id.revision,
                queued_at: place.queued_at,
                wait_deadline: place.wait_deadline,
                value: place.value.clone(),
            })
        };
        (1..).zip(places).filter_map(view).collect()
    }

    /// A key as it is.
    pub fn key(&self, key: &[u8]) -> Option<Arc<KeyEntry>> {
        self.keys.get(key).cloned()
    }

    /// What changed after a revision, of what the selectors select: whole revisions in order, until a bound is reached.
    /// At least one revision is looked at, so a caller always gets on.
    ///
    /// # Errors
    ///
    /// Where history from there on is compacted, or the revision not reached.
    pub fn changes(
        &self,
        after: Revision,
        selectors: &[Selector],
        max_events: usize,
        max_bytes: usize,
        max_scan: usize,
    ) -> Result<Changes, ReadError> {
        self.check_reachable(after)?;
        let mut page = Changes {
            through: after,
            ..Changes::default()
        };
        let (mut events, mut bytes, mut scanned) = (0, 0, 0);
        let skipped =
            usize::try_from(after.0.saturating_sub(self.history.base.0)).unwrap_or(usize::MAX);
        let skipped = skipped.saturating_sub(usize::from(mutated(Mutant::WatchRepeats)));
        for recorded in self.history.changes.iter().skip(skipped) {
            let selected = select(&recorded.change, selectors);
            let count = selected.as_ref().map_or(0, |change| change.events.len());
            let size = match count == recorded.change.events.len() {
                true => recorded.bytes as usize,
                false => selected
                    .iter()
                    .flat_map(|change| change.events.iter())
                    .map(size_of_event)
                    .sum(),
            };
            let over = max_events < events + count || max_bytes < bytes + size;
            if (over && events != 0) || (max_scan <= scanned && scanned != 0) {
                page.more = true;
                if mutated(Mutant::WatchClaimsTooMuch) {
                    page.through = self.revision;
                }
                return Ok(page);
            }
            events += count;
            bytes += size;
            scanned += recorded.change.events.len();
            page.changes.extend(selected);
            page.through = recorded.change.revision;
        }
        page.through = self.revision;
        Ok(page)
    }

    /// Every event after a revision that is still in history, in order.
    pub fn events_after(&self, after: Revision) -> impl Iterator<Item = &Event> {
        let skipped =
            usize::try_from(after.0.saturating_sub(self.history.base.0)).unwrap_or(usize::MAX);
        self.history
            .changes
            .iter()
            .skip(skipped)
            .flat_map(|recorded| recorded.change.events.iter())
    }

    pub(crate) fn check_reachable(&self, revision: Revision) -> Result<(), ReadError> {
        let compact_revision = self.compact_revision();
        if revision < compact_revision && !mutated(Mutant::CompactedNotTold) {
            return Err(ReadError::Compacted { compact_revision });
        }
        if self.revision < revision && !mutated(Mutant::AheadTakenForSeen) {
            Err(ReadError::Ahead)
        } else {
            Ok(())
        }
    }
}

fn size_of_event(event: &Event) -> usize {
    usize::try_from(crate::state::cost(event)).unwrap_or(usize::MAX)
}

/// The selected events of a revision, if there are any.
fn select(change: &Change, selectors: &[Selector]) -> Option<Change> {
    let selected = |event: &Event| selectors.iter().any(|selector| selector.selects(event));
    let count = change.events.iter().filter(|event| selected(event)).count();
    match count {
        0 => None,
        all if all == change.events.len() => Some(change.clone()),
        _ if mutated(Mutant::WatchSkipsMixed) => None,
        _ => {
            let mut events: Vec<Event> = change
                .events
                .iter()
                .filter(|event| selected(event))
                .cloned()
                .collect();
            if mutated(Mutant::WatchReorders) {
                events.reverse();
            }
            let events = events.into();
            Some(Change {
                revision: change.revision,
                events,
            })
        }
    }
}

/// A position from 1, exact to what is shown.
fn position(queue: &Queue, place: PlaceId) -> u64 {
    let ahead = queue
        .places
        .iter()
        .take(SHOWN)
        .position(|turn| turn.place == place);
    ahead.unwrap_or(SHOWN) as u64 + 1
}
