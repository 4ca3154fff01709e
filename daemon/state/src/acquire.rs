//! The queues: who is granted a lock, a semaphore or an election, and who waits.
//!
//! Owns the one mechanism of all three. A request stands in the queue of every name it wants, in the order of priority
//! and age, and is granted when it is first in all of them and all have room. Never grants anything to a place that is
//! due, or whose lease is (Jepsen found etcd doing that), and never twice to one `(lease, owner)`.

use std::cmp::Reverse;
use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::access::Principal;
use crate::answer::{Answer, Outcome, Refusal};
use crate::command::{Acquire, Claim, Guard, Release, Share};
use crate::ends::{check_metadata, check_size};
use crate::event::{Event, Grant, LeaveReason, Place, ReleaseReason};
use crate::ids::{Clock, Fence, Kind, LeaseId, Revision};
use crate::limits::{
    MAX_ELECTION_VALUE_BYTES, MAX_LOCK_DELAY_MS, MAX_NAME_BYTES, MAX_NAMES_TOGETHER, MAX_PRIORITY,
    MAX_WAIT_MS,
};
use crate::parts::{
    Asker, Due, Hanging, Hold, PlaceId, Queue, QueueId, Turn, Waiting, Want, shrink_set,
};
use crate::rows::RowId;
use crate::standing;
use crate::state::{LAST_CLOCK, Revising, State};

impl State {
    pub(crate) fn acquire(&mut self, acquire: &Acquire, who: &Principal) -> Outcome {
        check_acquire(acquire)?;
        let request = self.waiting(acquire, who);
        match &acquire.claim {
            Claim::Lease(lease) => {
                if !self.leases.by_id.contains_key(lease) {
                    return Err(self.no_lease(*lease));
                }
                // Before it is asked whether this is a repeat: a holder that asks again with another limit is told so.
                self.check_semaphores(&request)?;
                if self.is_asked_again(&request)? {
                    self.renew(*lease, who)?;
                    self.serve_starved();
                    return self.standing_answer(&request);
                }
            }
            Claim::Grant(new) => {
                self.check_new_lease(new, who)?;
                self.check_semaphores(&request)?;
            }
        }
        self.acquire_first(acquire, request, who)
    }

    fn waiting(&self, acquire: &Acquire, who: &Principal) -> Waiting {
        let want = |wanted: &crate::command::Wanted| Want {
            queue: QueueId::new(acquire.kind, &wanted.name),
            share: wanted.share,
        };
        let mut wanted: Vec<Want> = acquire.wanted.iter().map(want).collect();
        wanted.sort_by(|a, b| a.queue.cmp(&b.queue));
        Waiting {
            wanted,
            asker: State::asker(acquire.claim.lease(), &acquire.owner),
            priority: acquire.priority,
            queued_at: self.knows_since().then_some(self.clock),
            wait_deadline: Clock(self.clock.0.saturating_add(acquire.wait_ms).min(LAST_CLOCK)),
            metadata: Arc::new(acquire.metadata.clone()),
            lock_delay_ms: acquire.lock_delay_ms,
            value: acquire.value.clone(),
            identity: match &acquire.claim {
                Claim::Lease(lease) => self.owner_renewed_by(*lease, who),
                Claim::Grant(_) => self.known_identity(who),
            },
        }
    }

    /// Whether this `(lease, owner)` already holds all of it, or has this very place; refused where it holds or waits
    /// in another way.
    fn is_asked_again(&self, request: &Waiting) -> Result<bool, Refusal> {
        let mut held = 0;
        for want in &request.wanted {
            let Some(queue) = self.queues.get(&want.queue) else {
                continue;
            };
            if let Some(place) = queue.askers.get(&request.asker) {
                let present = self.places.get(place).map(|place| &place.wanted);
                return match present == Some(&request.wanted) {
                    true => Ok(true),
                    false => Err(self.mismatch(
                        request,
                        want,
                        present.and_then(|wanted| share_of(wanted, want)),
                    )),
                };
            }
            match queue.holds.get(&request.asker) {
                Some(hold) if hold.share == want.share => held += 1,
                Some(hold) => return Err(self.mismatch(request, want, Some(hold.share))),
                None => {}
            }
        }
        if held == 0 || held == request.wanted.len() {
            return Ok(held != 0);
        }
        let name = request
            .wanted
            .iter()
            .find(|want| self.hold(&want.queue, &request.asker).is_some());
        Err(Refusal::AlreadyHeld {
            name: name
                .map(|want| want.queue.name.to_string())
                .unwrap_or_default(),
        })
    }

    fn mismatch(&self, request: &Waiting, want: &Want, present: Option<Share>) -> Refusal {
        let name = want.queue.name.to_string();
        match request.wanted.len() {
            1 => Refusal::ModeMismatch {
                name,
                present: present.unwrap_or(want.share),
            },
            _ => Refusal::AlreadyHeld { name },
        }
    }

    fn hold(&self, queue: &QueueId, asker: &Asker) -> Option<&Hold> {
        self.queues.get(queue)?.holds.get(asker).map(Box::as_ref)
    }

    /// What an asker has now.
    fn standing_answer(&self, request: &Waiting) -> Outcome {
        let asker = &request.asker;
        let names = request.wanted.iter().map(|want| &want.queue);
        if request
            .wanted
            .iter()
            .all(|want| self.hold(&want.queue, asker).is_some())
        {
            let mut views: Vec<_> = names
                .filter_map(|queue| self.view_hold(queue, asker, self.clock))
                .collect();
            return Ok(match views.len() {
                1 => Answer::Held(views.remove(0)),
                _ => Answer::HeldTogether(views),
            });
        }
        let mut views: Vec<_> = names
            .filter_map(|queue| self.view_queued(queue, asker, self.clock))
            .collect();
        Ok(match views.len() {
            0 => return Err(Refusal::NotHeld),
            1 => Answer::Queued(views.remove(0)),
            _ => Answer::QueuedTogether(views),
        })
    }

    fn acquire_first(&mut self, acquire: &Acquire, request: Waiting, who: &Principal) -> Outcome {
        let lease_name = match &acquire.claim {
            Claim::Lease(lease) => self.lease_name(*lease),
            Claim::Grant(new) => new.name.clone(),
        };
        let in_the_way = request
            .wanted
            .iter()
            .find(|want| !self.is_free(want, &request, &lease_name));
        let in_the_way = in_the_way.map(|want| want.queue.clone());
        if let Some(queue) = in_the_way.as_ref().filter(|_| acquire.wait_ms == 0) {
            return Err(Refusal::LockHeld(self.contention(queue.kind, &queue.name)));
        }
        self.check_quotas(acquire, &request, in_the_way.is_some())?;
        let mut revising = self.revise();
        match &acquire.claim {
            Claim::Lease(lease) => {
                self.renew(*lease, who)?;
            }
            Claim::Grant(new) => self.add_lease(new, request.identity.clone(), &mut revising),
        }
        match in_the_way {
            None => self.add_holds(&request, &mut revising),
            Some(_) => self.add_place(request.clone(), &mut revising),
        }
        self.serve(&mut revising);
        self.seal(revising);
        self.standing_answer(&request)
    }

    /// The limit of the first holder stands until all is free.
    fn check_semaphores(&self, request: &Waiting) -> Result<(), Refusal> {
        for want in &request.wanted {
            let Share::Permits { limit: asked, .. } = want.share else {
                continue;
            };
            let present = self
                .queues
                .get(&want.queue)
                .and_then(|queue| self.limit_of(queue));
            if let Some(limit) = present.filter(|limit| *limit != asked) {
                return Err(Refusal::LimitMismatch {
                    name: want.queue.name.to_string(),
                    limit,
                });
            }
        }
        Ok(())
    }

    /// The limit of a semaphore that is held or waited for.
    pub(crate) fn limit_of(&self, queue: &Queue) -> Option<u64> {
        let waiting = || {
            let place = self.places.get(&queue.places.first()?.place)?;
            place.wanted.iter().find_map(|want| match want.share {
                Share::Permits { limit, .. } if self.stands_in(queue, want) => Some(limit),
                _ => None,
            })
        };
        queue.limit().or_else(waiting)
    }

    fn stands_in(&self, queue: &Queue, want: &Want) -> bool {
        self.queues
            .get(&want.queue)
            .is_some_and(|other| std::ptr::eq(other, queue))
    }

    /// Whether a request that is not in the queue yet could have it at once.
    fn is_free(&mut self, want: &Want, request: &Waiting, lease_name: &str) -> bool {
        let Some(queue) = self.queues.get(&want.queue) else {
            return true;
        };
        if !queue.has_room_for(want.share) {
            return false;
        }
        match &queue.delay {
            Some(delay) => delay
                .passes
                .lets_pass(lease_name, request.identity.as_deref()),
            None if queue.places.is_empty() || mutated(Mutant::QueueOvertaken) => true,
            None => {
                let first = self.first_of(&want.queue);
                let first = first.and_then(|first| self.places.get(&first));
                first.is_none_or(|first| first.priority < request.priority)
            }
        }
    }

    fn check_quotas(
        &self,
        acquire: &Acquire,
        request: &Waiting,
        waits: bool,
    ) -> Result<(), Refusal> {
        let (allowed, asked) = (self.limits.waiters, self.places.len() as u64 + 1);
        if waits && allowed < asked {
            return Err(Refusal::QuotaExceeded {
                limit: "waiters",
                allowed,
                asked,
            });
        }
        if waits {
            self.check_place_quota(request.identity.as_deref())?;
        }
        let attached = self
            .leases
            .by_id
            .get(&request.asker.lease)
            .map_or(0, |lease| lease.attached.len());
        let allowed = self.limits.attached_per_lease;
        let asked = (attached + request.wanted.len()) as u64;
        if allowed < asked {
            return Err(Refusal::QuotaExceeded {
                limit: "attached_per_lease",
                allowed,
                asked,
            });
        }
        let lease = match &acquire.claim {
            Claim::Lease(_) => 0,
            Claim::Grant(new) => standing::of_new_lease(new),
        };
        self.check_standing(lease + standing::of_request(request))
    }

    pub(crate) fn add_holds(&mut self, request: &Waiting, revising: &mut Revising) {
        for want in &request.wanted {
            self.add_hold(request, want, revising);
        }
    }

    fn add_hold(&mut self, request: &Waiting, want: &Want, revising: &mut Revising) {
        let (id, asker) = (&want.queue, &request.asker);
        let fence = Fence::from(revising.revision);
        let last = self.queues.get(id).and_then(|queue| queue.last_fence);
        let fence = last
            .filter(|_| mutated(Mutant::FenceRepeats))
            .unwrap_or(fence);
        if self.clear_delay(id) {
            // Others who can share it waited for nothing but the end of the delay.
            revising.freed.insert(id.clone());
        }
        self.touch(RowId::Queue(id.clone()));
        self.touch(RowId::Hold(id.clone(), asker.clone()));
        let acquired_at = self.knows_since().then_some(self.clock);
        let queue = self.queues.entry(id.clone()).or_default();
        if !queue.is_used() {
            self.active.insert(id.clone());
        }
        queue.last_fence = Some(fence);
        if want.share == Share::Exclusive {
            queue.exclusive_fence = Some(fence);
        }
        queue.mod_revision = revising.revision;
        let hold = Hold {
            share: want.share,
            fence,
            acquired_at,
            metadata: Arc::clone(&request.metadata),
            lock_delay_ms: request.lock_delay_ms,
            value: request.value.clone(),
        };
        let bytes = standing::of_hold(id, &asker.owner, &hold);
        self.standing = self.standing.saturating_add(bytes);
        queue.add_hold(asker, hold);
        self.tally.of_mut(id.kind).granted();
        self.attach(
            asker.lease,
            Hanging::Hold(id.clone(), Arc::clone(&asker.owner)),
            revising,
        );
        revising.gained.push(Event::Granted(Box::new(Grant {
            kind: id.kind,
            name: id.name.to_string(),
            owner: asker.owner.to_string(),
            lease: asker.lease,
            lease_name: self.lease_name(asker.lease),
            metadata: Arc::clone(&request.metadata),
            share: want.share,
            fence,
            value: request.value.clone(),
        })));
    }

    fn add_place(&mut self, request: Waiting, revising: &mut Revising) {
        let place = PlaceId {
            revision: revising.revision,
            number: 0,
        };
        let asker = request.asker.clone();
        if !mutated(Mutant::PlaceNotSaved) {
            self.touch(RowId::Place(place));
        }
        for want in &request.wanted {
            self.touch(RowId::Queue(want.queue.clone()));
            self.firsts.remove(&want.queue);
            let queue = self.queues.entry(want.queue.clone()).or_default();
            if !queue.is_used() {
                self.active.insert(want.queue.clone());
            }
            let turn = Turn {
                priority: Reverse(request.priority),
                place,
            };
            queue.add_place(turn, &asker, request.can_be_handed_it());
            queue.mod_revision = revising.revision;
            self.tally.of_mut(want.queue.kind).queued();
            self.attach(
                asker.lease,
                Hanging::Place(want.queue.clone(), Arc::clone(&asker.owner)),
                revising,
            );
            revising.gained.push(Event::Queued {
                place: Box::new(Place {
                    kind: want.queue.kind,
                    name: want.queue.name.to_string(),
                    owner: asker.owner.to_string(),
                    lease: asker.lease,
                    lease_name: self.lease_name(asker.lease),
                    metadata: Arc::clone(&request.metadata),
                    share: want.share,
                    priority: request.priority,
                    value: request.value.clone(),
                }),
            });
        }
        self.agenda
            .insert((request.wait_deadline, Due::Place(place)));
        let bytes = standing::of_request(&request);
        self.standing = self.standing.saturating_add(bytes);
        self.count_place(request.identity.as_ref());
        self.places.insert(place, request);
    }

    fn lease_name(&self, lease: LeaseId) -> String {
        self.leases
            .by_id
            .get(&lease)
            .map(|lease| lease.name.clone())
            .unwrap_or_default()
    }

    /// Takes a place out of all its queues; with a reason it left, without one it is granted.
    pub(crate) fn remove_place(
        &mut self,
        id: PlaceId,
        reason: Option<LeaveReason>,
        revising: &mut Revising,
    ) -> Option<Waiting> {
        self.touch(RowId::Place(id));
        let place = self.places.remove(&id)?;
        self.uncount_place(place.identity.as_deref());
        let bytes = standing::of_request(&place);
        if !mutated(Mutant::QuotaNotReleased) {
            self.standing = self.standing.saturating_sub(bytes);
        }
        self.agenda.remove(&(place.wait_deadline, Due::Place(id)));
        let waited_ms = self.age_ms(id.revision);
        for want in &place.wanted {
            self.tally.of_mut(want.queue.kind).served(reason, waited_ms);
            self.touch(RowId::Queue(want.queue.clone()));
            if self.firsts.get(&want.queue) == Some(&Some(id)) {
                self.firsts.remove(&want.queue);
            }
            if let Some(queue) = self.queues.get_mut(&want.queue) {
                let turn = Turn {
                    priority: Reverse(place.priority),
                    place: id,
                };
                queue.remove_place(turn, &place.asker);
                queue.mod_revision = revising.revision;
                if !queue.is_used() {
                    self.active.remove(&want.queue);
                }
            }
            let hanging = Hanging::Place(want.queue.clone(), Arc::clone(&place.asker.owner));
            self.detach(place.asker.lease, &hanging, revising);
            revising.freed.insert(want.queue.clone());
            if let Some(reason) = reason {
                revising.gone.push(Event::Left {
                    kind: want.queue.kind,
                    name: want.queue.name.to_string(),
                    owner: place.asker.owner.to_string(),
                    lease: place.asker.lease,
                    reason,
                });
            }
        }
        Some(place)
    }

    pub(crate) fn remove_hold(
        &mut self,
        id: &QueueId,
        asker: &Asker,
        reason: ReleaseReason,
        revising: &mut Revising,
    ) -> Option<Box<Hold>> {
        self.touch(RowId::Queue(id.clone()));
        self.touch(RowId::Hold(id.clone(), asker.clone()));
        let queue = self.queues.get_mut(id)?;
        let hold = queue.remove_hold(asker)?;
        let bytes = standing::of_hold(id, &asker.owner, &hold);
        self.standing = self.standing.saturating_sub(bytes);
        queue.mod_revision = revising.revision;
        if !queue.is_used() {
            self.active.remove(id);
        }
        let lasted_ms = self.age_ms(Revision(hold.fence.0));
        self.tally.of_mut(id.kind).ended(reason, lasted_ms);
        self.detach(
            asker.lease,
            &Hanging::Hold(id.clone(), Arc::clone(&asker.owner)),
            revising,
        );
        revising.freed.insert(id.clone());
        revising.gone.push(Event::Released {
            kind: id.kind,
            name: id.name.to_string(),
            owner: asker.owner.to_string(),
            lease: asker.lease,
            fence: hold.fence,
            reason,
        });
        Some(hold)
    }

    pub(crate) fn attach(&mut self, lease: LeaseId, hanging: Hanging, revising: &Revising) {
        self.touch(RowId::Lease(lease));
        if let Some(lease) = self.leases.by_id.get_mut(&lease) {
            lease.attached.insert(hanging);
            lease.attached_revision = Some(revising.revision);
        }
    }

    pub(crate) fn detach(&mut self, lease: LeaseId, hanging: &Hanging, revising: &Revising) {
        self.touch(RowId::Lease(lease));
        if let Some(lease) = self.leases.by_id.get_mut(&lease) {
            lease.attached.remove(hanging);
            shrink_set(&mut lease.attached);
            lease.attached_revision = Some(revising.revision);
        }
    }

    /// Grants the freed queues to whoever is next, until nobody can be. Whoever may not hold it any more when its turn comes is
    /// granted nothing: its place ends.
    pub(crate) fn serve(&mut self, revising: &mut Revising) {
        while let Some(queue) = revising.freed.pop_first() {
            while let Some((place, ends)) = self.next_served(&queue) {
                let Some(place) = self.remove_place(place, ends, revising) else {
                    break;
                };
                if ends.is_none() {
                    self.add_holds(&place, revising);
                }
            }
        }
    }

    /// Serves queues whose places came alive by a renewal after they had been passed over.
    pub(crate) fn serve_starved(&mut self) {
        while let Some(queue) = self.starved.pop_first() {
            let mut revising = self.revise();
            revising.freed.insert(queue);
            self.serve(&mut revising);
            self.seal(revising);
        }
    }

    /// The first place of a queue, where it is first in all its queues and all have room; and why it ends then, where whoever
    /// has it has lost the right to it.
    fn next_served(&mut self, queue: &QueueId) -> Option<(PlaceId, Option<LeaveReason>)> {
        let first = self.first_of(queue)?;
        let wanted = self.places.get(&first)?.wanted.clone();
        let mut can_be_had = wanted.iter().map(|want| {
            let room = self
                .queues
                .get(&want.queue)
                .is_some_and(|queue| queue.has_room_for(want.share));
            room && self.first_of(&want.queue) == Some(first)
        });
        let is_served = match mutated(Mutant::TogetherByOne) {
            true => can_be_had.any(|can| can),
            false => can_be_had.all(|can| can),
        };
        let place = self.places.get(&first).filter(|_| is_served)?;
        let ends = (!self.may_be_granted(place)).then_some(LeaveReason::Withdrawn);
        Some((first, ends))
    }

    /// The first place of a queue that can be granted anything at this clock. Looked for once in an entry, until
    /// something is done that may change it.
    fn first_of(&mut self, id: &QueueId) -> Option<PlaceId> {
        if let Some(first) = self.firsts.get(id) {
            return *first;
        }
        let first = self.find_first(id);
        self.firsts.insert(id.clone(), first);
        first
    }

    pub(crate) fn find_first(&self, id: &QueueId) -> Option<PlaceId> {
        let queue = self.queues.get(id)?;
        let admitted = |place: &Waiting| match &queue.delay {
            None => true,
            Some(delay) => {
                let lease = self.leases.by_id.get(&place.asker.lease);
                lease.is_some_and(|lease| {
                    delay
                        .passes
                        .lets_pass(&lease.name, lease.identity.as_deref())
                })
            }
        };
        let can_be_granted = |place: &PlaceId| {
            let place = self.places.get(place);
            place.is_some_and(|place| self.is_awake(place) && admitted(place))
        };
        let mut places = queue.places.iter().map(|turn| turn.place);
        if mutated(Mutant::LastIsFirst) {
            return places.rfind(can_be_granted);
        }
        places.find(can_be_granted)
    }

    pub(crate) fn release(&mut self, release: &Release) -> Outcome {
        let id = QueueId::new(release.kind, &release.name);
        let asker = State::asker(release.lease, &release.owner);
        let queue = self.queues.get(&id).ok_or(Refusal::NotHeld)?;
        let present = queue.holds.get(&asker).map(|hold| hold.fence);
        let place = queue.askers.get(&asker).copied();
        match (release.fence, present, place) {
            (Some(fence), Some(held), _) if fence == held => {
                let mut revising = self.revise();
                self.remove_hold(&id, &asker, ReleaseReason::Released, &mut revising);
                if mutated(Mutant::ReleaseServesNobody) {
                    revising.freed.clear();
                }
                self.serve(&mut revising);
                self.seal(revising);
                Ok(Answer::Released {
                    fence,
                    revision: self.revision,
                })
            }
            // A hold is there, so that "not held" would be taken for a release that was done; without a fence it is
            // released as little as with another's.
            (Some(_), Some(held), _) | (None, Some(held), None) => Err(Refusal::FenceStale {
                present: Some(held),
            }),
            (Some(_), None, Some(_)) => {
                let present = queue.holds.values().next().map(|hold| hold.fence);
                Err(Refusal::FenceStale { present })
            }
            (None, _, Some(place)) => {
                self.end_place(place, LeaveReason::Withdrawn);
                Ok(Answer::Left {
                    revision: self.revision,
                })
            }
            (_, None, None) => Err(Refusal::NotHeld),
        }
    }

    /// Whether a fence is held by a live holder.
    pub(crate) fn is_held(&self, guard: &Guard) -> bool {
        let queue = self.queues.get(&QueueId::new(guard.kind, &guard.name));
        queue.is_some_and(|queue| queue.holders_with(guard.fence).next().is_some())
    }
}

fn share_of(wanted: &[Want], want: &Want) -> Option<Share> {
    wanted
        .iter()
        .find(|present| present.queue == want.queue)
        .map(|present| present.share)
}

/// Names are stored with a zero byte after them, and shown in logs and headers.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Refusal::Unsupported(
            "a name that is empty or holds control characters",
        ));
    }
    check_size("name_bytes", name.len(), MAX_NAME_BYTES)
}

pub(crate) fn check_control(text: &str, refused: &'static str) -> Result<(), Refusal> {
    match text.chars().any(char::is_control) {
        true => Err(Refusal::Unsupported(refused)),
        false => Ok(()),
    }
}

fn check_acquire(acquire: &Acquire) -> Result<(), Refusal> {
    if acquire.wanted.is_empty() {
        return Err(Refusal::Unsupported("an acquire of nothing"));
    }
    check_size("names_together", acquire.wanted.len(), MAX_NAMES_TOGETHER)?;
    for wanted in &acquire.wanted {
        check_name(&wanted.name)?;
        check_share(acquire.kind, wanted.share)?;
        if 1 < acquire
            .wanted
            .iter()
            .filter(|other| other.name == wanted.name)
            .count()
        {
            return Err(Refusal::Unsupported(
                "an acquire that names one thing twice",
            ));
        }
    }
    check_control(&acquire.owner, "an owner with control characters")?;
    check_size("owner_bytes", acquire.owner.len(), MAX_NAME_BYTES)?;
    check_size(
        "wait_ms",
        usize::try_from(acquire.wait_ms).unwrap_or(usize::MAX),
        MAX_WAIT_MS,
    )?;
    check_size(
        "lock_delay_ms",
        usize::try_from(acquire.lock_delay_ms).unwrap_or(usize::MAX),
        MAX_LOCK_DELAY_MS,
    )?;
    check_size(
        "election_value_bytes",
        acquire.value.len(),
        MAX_ELECTION_VALUE_BYTES,
    )?;
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&acquire.priority) {
        return Err(Refusal::Unsupported("a priority outside -100 to 100"));
    }
    check_metadata(&acquire.metadata)
}

fn check_share(kind: Kind, share: Share) -> Result<(), Refusal> {
    match (kind, share) {
        (Kind::Lock, Share::Exclusive | Share::Shared) | (Kind::Election, Share::Exclusive) => {
            Ok(())
        }
        (Kind::Semaphore, Share::Permits { permits, limit })
            if 1 <= permits && permits <= limit =>
        {
            Ok(())
        }
        _ => Err(Refusal::Unsupported("this share of this kind of thing")),
    }
}
