//! The parts of the state: leases, queues with their holds and places, and the order in which things fall due.
//!
//! Owns the structures and their lookups; what changes them, and which rows that touches, is in `apply`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use tenure_mutants::{Mutant, mutated};

use crate::command::Share;
use crate::ids::{Clock, Fence, Kind, LeaseId, Revision};

/// Labels, shared by everything that shows them.
pub(crate) type Metadata = Arc<BTreeMap<String, String>>;

/// The name of a lock, semaphore or election.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct QueueId {
    pub kind: Kind,
    pub name: Arc<str>,
}

impl QueueId {
    pub(crate) fn new(kind: Kind, name: &str) -> QueueId {
        QueueId {
            kind,
            name: name.into(),
        }
    }
}

/// Who holds or waits.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Asker {
    pub lease: LeaseId,
    pub owner: Arc<str>,
}

/// A place: the revision at which it was taken, and its number within it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct PlaceId {
    pub revision: Revision,
    pub number: u32,
}

/// The order of places in every queue alike, so that waits for several names form no ring.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Turn {
    pub priority: Reverse<i32>,
    pub place: PlaceId,
}

/// No turn comes before it.
const FIRST_TURN: Turn = Turn {
    priority: Reverse(i32::MAX),
    place: PlaceId {
        revision: Revision(0),
        number: 0,
    },
};

/// A live lease, less its deadline.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub ttl_ms: u64,
    pub name: String,
    /// Who was granted it; nobody in particular where access control was off, until somebody claims it.
    pub identity: Option<Arc<str>>,
    pub metadata: Metadata,
    pub granted_revision: Revision,
    pub attached_revision: Option<Revision>,
    /// Where its deadline lies.
    pub slot: u32,
    /// The deadline under which it stands in the agenda: never later than its deadline.
    pub armed: Clock,
    pub attached: BTreeSet<Hanging>,
}

/// Something that hangs on a lease. Keys come first: they go first, in their order.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Hanging {
    Key(Bytes),
    Hold(QueueId, Arc<str>),
    Place(QueueId, Arc<str>),
}

/// The slot of a deadline that is free.
pub(crate) const FREE: u64 = u64::MAX;

/// Live leases, and their deadlines by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    pub by_id: BTreeMap<LeaseId, Lease>,
    /// Deadlines by slot; `FREE` where there is no lease.
    pub deadlines: Vec<u64>,
    /// Free slots below the length of `deadlines`.
    pub free: BTreeSet<u32>,
}

impl Lease {
    /// What it is called, and whose it is.
    pub(crate) fn called(&self) -> Called {
        Called {
            name: self.name.clone(),
            identity: self.identity.clone(),
        }
    }
}

impl Leases {
    /// The least free slot: the same one on a member that lived through it and on one that was restored.
    pub(crate) fn take_slot(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.deadlines.push(FREE);
            u32::try_from(self.deadlines.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(crate) fn deadline(&self, lease: &Lease) -> Clock {
        Clock(self.deadlines[lease.slot as usize])
    }
}

/// Leases that ended lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    pub by_revision: BTreeMap<Revision, (LeaseId, Clock)>,
    pub by_lease: BTreeMap<LeaseId, Revision>,
}

/// What falls due. The order breaks ties between equal deadlines.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Due {
    Lease(LeaseId),
    Place(PlaceId),
    Delay(QueueId),
}

/// Everything with a deadline, the earliest first. A renewal leaves a lease where it stands; it is moved when its turn
/// comes.
pub(crate) type Agenda = BTreeSet<(Clock, Due)>;

/// A hold.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub share: Share,
    pub fence: Fence,
    /// When it was granted; unknown of one that a version granted which did not keep it.
    pub acquired_at: Option<Clock>,
    pub metadata: Metadata,
    pub lock_delay_ms: u64,
    pub value: String,
}

/// What a place wants of one queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Want {
    pub queue: QueueId,
    pub share: Share,
}

/// A request that waits in one queue or several.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// In the order of names, one at least.
    pub wanted: Vec<Want>,
    pub asker: Asker,
    pub priority: i32,
    /// When it was first asked for; unknown as of a hold.
    pub queued_at: Option<Clock>,
    pub wait_deadline: Clock,
    pub metadata: Metadata,
    pub lock_delay_ms: u64,
    pub value: String,
    /// Whose lease it hangs on, whose quota it counts for; the row of the lease says it.
    pub identity: Option<Arc<str>>,
}

impl Waiting {
    /// Whether it waits for nothing but one election.
    pub(crate) fn can_be_handed_it(&self) -> bool {
        matches!(&self.wanted[..], [want] if want.queue.kind == Kind::Election)
    }
}

/// Nobody is granted the name for a while, but whom it lets pass.
#[derive(Clone, Debug)]
pub(crate) struct Delay {
    pub until: Clock,
    pub passes: Called,
}

/// What a lease is called and whose it is: by this a holder that comes back is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Called {
    /// Empty is nobody.
    pub name: String,
    pub identity: Option<Arc<str>>,
}

impl Called {
    /// Whether a delay that lets this one pass lets a lease of this name and identity pass.
    pub(crate) fn lets_pass(&self, name: &str, identity: Option<&str>) -> bool {
        !self.name.is_empty()
            && self.name == name
            && (self.identity.as_deref() == identity || mutated(Mutant::DelayPassesOthers))
    }
}

/// A lock, semaphore or election: who holds it and who waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// In boxes: the tree of the one holder that most names have is a node with room for eleven.
    pub holds: BTreeMap<Asker, Box<Hold>>,
    /// Permits held, where it is a semaphore.
    pub taken: u64,
    /// Holds that are not exclusive, by fence: thousands may hold a semaphore. An exclusive one stands alone.
    pub together: BTreeSet<(Fence, Asker)>,
    pub places: BTreeSet<Turn>,
    pub askers: BTreeMap<Asker, PlaceId>,
    /// Places of an election that are in no other queue, by candidate: to these it can be handed over.
    pub candidates: BTreeSet<(Arc<str>, Turn)>,
    pub last_fence: Option<Fence>,
    pub exclusive_fence: Option<Fence>,
    pub mod_revision: Revision,
    pub delay: Option<Delay>,
}

impl Queue {
    /// Whether `share` can be held beside what is held.
    pub(crate) fn has_room_for(&self, share: Share) -> bool {
        match share {
            Share::Exclusive => self.holds.is_empty(),
            Share::Shared => self.holds.values().next().is_none_or(|hold| {
                hold.share == Share::Shared || mutated(Mutant::SharedBesideExclusive)
            }),
            Share::Permits { permits, limit } => self
                .taken
                .checked_add(permits)
                .is_some_and(|taken| taken <= limit + u64::from(mutated(Mutant::PermitsOverLimit))),
        }
    }

    /// The limit of a semaphore in use.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.holds.values().find_map(|hold| match hold.share {
            Share::Permits { limit, .. } => Some(limit),
            Share::Exclusive | Share::Shared => None,
        })
    }

    /// Adds a hold of an asker that has none.
    pub(crate) fn add_hold(&mut self, asker: &Asker, hold: Hold) {
        self.taken = self.taken.saturating_add(permits(hold.share));
        if hold.share != Share::Exclusive {
            self.together.insert((hold.fence, asker.clone()));
        }
        self.holds.insert(asker.clone(), Box::new(hold));
    }

    pub(crate) fn remove_hold(&mut self, asker: &Asker) -> Option<Box<Hold>> {
        let hold = self.holds.remove(asker)?;
        self.together.remove(&(hold.fence, asker.clone()));
        self.taken = self.taken.saturating_sub(permits(hold.share));
        shrink(&mut self.holds);
        shrink_set(&mut self.together);
        Some(hold)
    }

    /// Who holds it with this fence, in order.
    pub(crate) fn holders_with(&self, fence: Fence) -> impl Iterator<Item = &Asker> {
        let first = self.holds.iter().next();
        let alone = first.filter(|(_, hold)| hold.share == Share::Exclusive && hold.fence == fence);
        let least = Asker {
            lease: LeaseId::LEAST,
            owner: "".into(),
        };
        let together = self.together.range((fence, least)..);
        let together = together.take_while(move |(other, _)| *other == fence);
        alone
            .map(|(asker, _)| asker)
            .into_iter()
            .chain(together.map(|(_, asker)| asker))
    }

    /// Adds the place of an asker that has none.
    pub(crate) fn add_place(&mut self, turn: Turn, asker: &Asker, can_be_handed_it: bool) {
        self.places.insert(turn);
        self.askers.insert(asker.clone(), turn.place);
        if can_be_handed_it {
            self.candidates.insert((Arc::clone(&asker.owner), turn));
        }
    }

    pub(crate) fn remove_place(&mut self, turn: Turn, asker: &Asker) {
        self.places.remove(&turn);
        self.askers.remove(asker);
        self.candidates.remove(&(Arc::clone(&asker.owner), turn));
        shrink_set(&mut self.places);
        shrink(&mut self.askers);
        shrink_set(&mut self.candidates);
    }

    /// The places of a candidate, in their turn.
    pub(crate) fn places_of(&self, candidate: &str) -> impl Iterator<Item = PlaceId> {
        let candidate: Arc<str> = candidate.into();
        let places = self
            .candidates
            .range((Arc::clone(&candidate), FIRST_TURN)..);
        places
            .take_while(move |(other, _)| *other == candidate)
            .map(|(_, turn)| turn.place)
    }

    /// Whether somebody holds it or waits for it.
    pub(crate) fn is_used(&self) -> bool {
        !self.holds.is_empty() || !self.places.is_empty()
    }

    /// Whether nobody holds it, waits for it or is kept from it.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_used() && self.delay.is_none()
    }
}

/// Gives back the node that an empty tree keeps: most trees here hold one thing at a time, or none.
pub(crate) fn shrink<K, V>(tree: &mut BTreeMap<K, V>) {
    if tree.is_empty() {
        *tree = BTreeMap::new();
    }
}

/// The same of a set.
pub(crate) fn shrink_set<T>(set: &mut BTreeSet<T>) {
    if set.is_empty() {
        *set = BTreeSet::new();
    }
}

/// The permits of a share.
pub(crate) fn permits(share: Share) -> u64 {
    match share {
        Share::Permits { permits, .. } => permits,
        Share::Exclusive | Share::Shared => 0,
    }
}

/// All that happened, by revision, since the compact revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The revision before the first one here.
    pub base: Revision,
    pub changes: VecDeque<Recorded>,
    pub bytes: u64,
}

/// A revision, and when it was made.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub change: crate::event::Change,
    pub clock: Clock,
    pub bytes: u64,
}
