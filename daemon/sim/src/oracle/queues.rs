//! Who waits for what, and whether the right one is served.
//!
//! Owns an account of places, kept from events and requests alone. Nobody is granted what somebody waits for who comes
//! before him and may have it; nobody is granted anything when he is due; nothing that is free is waited for; and no
//! wait ends early or late. Nobody is granted at its turn what it has lost the right to, and nobody else's place is given up
//! for it. Where a delay runs, who may pass is the business of another account.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tenure_state::{
    Acquire, Batch, Change, Clock, Command, Event, Grant, Kind, LeaseId, LeaveReason, Place,
    ReleaseReason, Revision, Share,
};

use super::demand;
use crate::asking::lock_delay_ms;

/// A lock, semaphore or election.
type Name = (Kind, String);

/// Who waits.
type Asker = (LeaseId, String);

/// The order of a queue: priority, then age.
type Turn = (Reverse<i32>, Revision);

struct Waiting {
    asker: Asker,
    share: Share,
    /// Until when it waits, where its request says so.
    until: Option<Clock>,
}

/// What is to be known of an entry beside its events.
pub(super) struct Scene<'a> {
    pub(super) clock: Clock,
    pub(super) batch: &'a Batch,
    /// The deadline of a live lease; within an entry, as it was before it.
    pub(super) deadline: &'a dyn Fn(LeaseId) -> Option<Clock>,
    /// Whether whom a lease belongs to might hold something throughout the entry; `None` where that is not known.
    pub(super) might_hold: &'a dyn Fn(LeaseId, Kind, &str) -> Option<bool>,
}

impl Scene<'_> {
    /// Whether a lease is alive and not due at this clock.
    fn is_awake(&self, lease: LeaseId) -> bool {
        (self.deadline)(lease).is_some_and(|deadline| self.clock <= deadline)
    }

    /// Whether a lease is due, and nothing in this entry renews it.
    fn is_due(&self, lease: LeaseId) -> bool {
        (self.deadline)(lease).is_some_and(|deadline| deadline < self.clock)
            && !renews(self.batch, lease)
    }
}

#[derive(Default)]
pub(super) struct Queues {
    places: BTreeMap<Name, BTreeMap<Turn, Waiting>>,
    /// Where a delay may run: one began, and nobody was granted the name since.
    delayed: BTreeSet<Name>,
}

impl Queues {
    /// A change of an entry, before it is taken into any other account.
    pub(super) fn note(&mut self, change: &Change, scene: &Scene<'_>) {
        let mut skipped = BTreeSet::new();
        for event in change.events.iter() {
            match event {
                Event::Left {
                    kind,
                    name,
                    owner,
                    lease,
                    reason,
                } => {
                    let place = self.leave(&(*kind, name.clone()), (*lease, owner.clone()));
                    demand!(
                        *reason != LeaveReason::WaitExpired
                            || place.until.is_none_or(|until| until < scene.clock),
                        "early-end",
                        "the wait of {owner:?} for {name} ends at the clock {}; it was to last until {:?}",
                        scene.clock.0,
                        place.until
                    );
                    demand!(
                        *reason != LeaveReason::Withdrawn
                            || gives_up(scene.batch, (*kind, *lease, owner))
                            || lost_right(change, scene, (*kind, *lease, owner)),
                        "rights",
                        "the place of {owner:?} of the lease {lease} for {name} ends as withdrawn; nobody asked for that, and \
                         it might hold that"
                    );
                }
                Event::Released {
                    kind, name, reason, ..
                } => {
                    let name = (*kind, name.clone());
                    if lets_others_pass(&name.1, *reason) {
                        skipped.insert(name.clone());
                    }
                    if begins_delay(&name.1, *reason) {
                        self.delayed.insert(name);
                    }
                }
                _ => {}
            }
        }
        let grants = change.events.iter().filter_map(|event| match event {
            Event::Granted(grant) => Some(&**grant),
            _ => None,
        });
        for grant in grants.clone() {
            demand!(
                !scene.is_due(grant.lease),
                "due-grant",
                "{} is granted at the clock {} to the lease {}, which is due",
                grant.name,
                scene.clock.0,
                grant.lease
            );
            let name = (grant.kind, grant.name.clone());
            if !skipped.contains(&name) && !self.delayed.contains(&name) {
                self.judge_turn(&name, grant, grants.clone(), scene);
            }
        }
        for grant in grants {
            self.delayed.remove(&(grant.kind, grant.name.clone()));
            self.take(&(grant.kind, grant.name.clone()), grant, scene);
        }
        for event in change.events.iter() {
            if let Event::Queued { place } = event {
                self.queue(change.revision, place, scene);
            }
        }
    }

    fn turn_of(&self, name: &Name, asker: &Asker) -> Option<Turn> {
        let places = self.places.get(name)?.iter();
        places
            .filter(|(_, place)| place.asker == *asker)
            .map(|(turn, _)| *turn)
            .next()
    }

    /// Nobody who comes first, and may have it, goes without.
    fn judge_turn<'a>(
        &self,
        name: &Name,
        grant: &Grant,
        grants: impl Iterator<Item = &'a Grant> + Clone,
        scene: &Scene<'_>,
    ) {
        let asker = (grant.lease, grant.owner.clone());
        let mine = self.turn_of(name, &asker);
        let priority = priority_of(scene.batch, grant);
        let ahead = self.places.get(name).into_iter().flatten();
        let passed = ahead
            .take_while(|(turn, _)| match (mine, priority) {
                (Some(mine), _) => **turn < mine,
                (None, Some(priority)) => turn.0 <= Reverse(priority),
                // It is not known how urgent it was.
                (None, None) => false,
            })
            .find(|(_, place)| {
                let (lease, owner) = &place.asker;
                let is_granted = grants.clone().any(|other| {
                    (other.lease, &other.owner, &other.name) == (*lease, owner, &grant.name)
                });
                let waits = place.until.is_some_and(|until| scene.clock <= until);
                !is_granted && waits && scene.is_awake(*lease)
            });
        demand!(
            passed.is_none(),
            "queue-order",
            "{} is granted to {asker:?}, whose turn is {mine:?} and whose priority {priority:?}; {:?} of {:?} is passed over",
            grant.name,
            passed.map(|(turn, _)| turn),
            passed.map(|(_, place)| &place.asker)
        );
    }

    fn take(&mut self, name: &Name, grant: &Grant, scene: &Scene<'_>) {
        let asker = (grant.lease, grant.owner.clone());
        let Some(turn) = self.turn_of(name, &asker) else {
            return;
        };
        let might_hold = (scene.might_hold)(grant.lease, name.0, &name.1);
        demand!(
            might_hold != Some(false),
            "rights",
            "{} is granted to {asker:?} at its turn, who has lost the right to it",
            grant.name
        );
        let place = self
            .places
            .get_mut(name)
            .and_then(|places| places.remove(&turn));
        demand!(
            place.is_none_or(|place| place.until.is_none_or(|until| scene.clock <= until)),
            "due-grant",
            "{} is granted at the clock {} to {asker:?}, whose wait is over",
            grant.name,
            scene.clock.0
        );
    }

    fn leave(&mut self, name: &Name, asker: Asker) -> Waiting {
        let turn = self.turn_of(name, &asker);
        let place = turn.and_then(|turn| self.places.get_mut(name)?.remove(&turn));
        place.unwrap_or_else(|| {
            super::broken(
                "queues",
                format!("{asker:?} leaves the queue of {name:?}, and has no place in it"),
            )
        })
    }

    fn queue(&mut self, revision: Revision, place: &Place, scene: &Scene<'_>) {
        let name = (place.kind, place.name.clone());
        let asker = (place.lease, place.owner.clone());
        demand!(
            self.turn_of(&name, &asker).is_none(),
            "queues",
            "{asker:?} is queued twice for {name:?}"
        );
        let waiting = Waiting {
            asker,
            share: place.share,
            until: wait_of(scene.batch, place).map(|wait_ms| Clock(scene.clock.0 + wait_ms)),
        };
        let turn = (Reverse(place.priority), revision);
        self.places.entry(name).or_default().insert(turn, waiting);
    }

    /// An entry is done: nobody waits who is due, or for what he could have.
    pub(super) fn settle(&self, scene: &Scene<'_>, has_room: &dyn Fn(&Name, Share) -> bool) {
        for (name, places) in &self.places {
            for place in places.values() {
                demand!(
                    place.until.is_none_or(|until| scene.clock <= until),
                    "late-end",
                    "{:?} waits for {name:?} at the clock {}; it was to wait until {:?}",
                    place.asker,
                    scene.clock.0,
                    place.until
                );
            }
            let Some((turn, first)) = self.first(name, scene) else {
                continue;
            };
            // A request for several names has the same turn in each of them.
            let mut wanted = self.places.iter().filter_map(|(other, places)| {
                let is_same = |place: &&Waiting| place.asker == first.asker;
                let mine = places.get(turn).filter(is_same)?;
                (other.0 == name.0).then_some((other, mine.share))
            });
            let goes_without = wanted.all(|(other, share)| {
                let first = self.first(other, scene);
                first.is_some_and(|(of_other, _)| of_other == turn) && has_room(other, share)
            });
            demand!(
                !goes_without,
                "free-and-wanted",
                "{:?} waits for {name:?}, which it could have",
                first.asker
            );
        }
    }

    /// The first of a queue that may have it, where no delay says otherwise.
    fn first(&self, name: &Name, scene: &Scene<'_>) -> Option<(&Turn, &Waiting)> {
        if self.delayed.contains(name) {
            return None;
        }
        let mut places = self.places.get(name)?.iter();
        places.find(|(_, place)| scene.is_awake(place.asker.0))
    }
}

/// A leadership is handed to whoever its leader names, and where a delay begins it lets some pass.
fn lets_others_pass(name: &str, reason: ReleaseReason) -> bool {
    reason == ReleaseReason::HandedOver || begins_delay(name, reason)
}

/// Whether a name may be kept for a while: it was broken, or asks for it when its holder's lease ends.
fn begins_delay(name: &str, reason: ReleaseReason) -> bool {
    match reason {
        ReleaseReason::Broken => true,
        ReleaseReason::LeaseEnded => 0 < lock_delay_ms(name),
        ReleaseReason::Released | ReleaseReason::HandedOver => false,
    }
}

/// Whether anything in an entry gives up a place of who waits, for whichever of its names.
fn gives_up(batch: &Batch, (kind, lease, owner): (Kind, LeaseId, &str)) -> bool {
    let mut requests = batch.requests.iter();
    requests.any(|request| match &request.command {
        Command::Release(release) => {
            (release.kind, release.lease, &*release.owner) == (kind, lease, owner)
        }
        _ => false,
    })
}

/// Whether one of the names at least, of which a place ends in a change, may be one that whoever waited might not hold.
fn lost_right(
    change: &Change,
    scene: &Scene<'_>,
    (kind, lease, owner): (Kind, LeaseId, &str),
) -> bool {
    change.events.iter().any(|event| match event {
        Event::Left {
            kind: of,
            name,
            owner: who,
            lease: on,
            reason: LeaveReason::Withdrawn,
        } if (*of, *on, &**who) == (kind, lease, owner) => {
            (scene.might_hold)(lease, kind, name) != Some(true)
        }
        _ => false,
    })
}

/// Whether anything in an entry renews a lease.
fn renews(batch: &Batch, lease: LeaseId) -> bool {
    let mut renewals = batch.renewals.iter();
    renewals.any(|renewal| renewal.lease == lease)
        || batch.requests.iter().any(|request| match &request.command {
            Command::ChangeLease { lease: changed, .. } => *changed == lease,
            // One with a key may ask again with a lease that it does not name.
            Command::Acquire(acquire) => {
                acquire.claim.lease() == lease || request.idempotency.is_some()
            }
            _ => false,
        })
}

/// The priority of the request that was granted at once.
fn priority_of(batch: &Batch, grant: &Grant) -> Option<i32> {
    let asker = (grant.kind, grant.lease, &*grant.owner, &*grant.name);
    only_acquire(batch, asker).map(|acquire| acquire.priority)
}

/// How long the request of a place waits.
fn wait_of(batch: &Batch, place: &Place) -> Option<u64> {
    let asker = (place.kind, place.lease, &*place.owner, &*place.name);
    only_acquire(batch, asker).map(|acquire| acquire.wait_ms)
}

/// The request of an asker for a name; `None` where the entry has none that says so, or several.
fn only_acquire<'a>(
    batch: &'a Batch,
    (kind, lease, owner, name): (Kind, LeaseId, &str, &str),
) -> Option<&'a Acquire> {
    let mut acquires = batch.requests.iter().filter_map(|request| {
        let Command::Acquire(acquire) = &request.command else {
            return None;
        };
        let asks = acquire.kind == kind
            && acquire.owner == owner
            && acquire.claim.lease() == lease
            && acquire.wanted.iter().any(|want| want.name == name);
        asks.then_some(acquire)
    });
    let first = acquires.next()?;
    acquires.next().is_none().then_some(first)
}
