//! Events: what watchers are told, addressed by (revision, position within it).
//!
//! Within one revision: `Ended` first, then deletions in key order, then releases, resignations and departures by
//! resource, then what was granted by it (`api.md` §10, Events).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::answer::KeyEntry;
use crate::command::Share;
use crate::ids::{Fence, Kind, LeaseId, Revision};

/// All that happened at one revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The revision.
    pub revision: Revision,
    /// What happened at it, in order.
    pub events: Arc<[Event]>,
}

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A key was put.
    Put(Arc<KeyEntry>),
    /// A key was deleted.
    Delete {
        /// Which.
        key: Bytes,
        /// The lease it hung on.
        lease: Option<LeaseId>,
        /// Whether its lease ended, or somebody deleted it.
        reason: DeleteReason,
    },
    /// A lock or semaphore was acquired, or a candidate was elected (then `share` is exclusive).
    Granted(Box<Grant>),
    /// A place was taken in a queue.
    Queued {
        /// What it waits for, and how; its fence is meaningless.
        place: Box<Place>,
    },
    /// A leader gave its leadership a new value.
    Proclaimed {
        /// The election.
        name: String,
        /// The leader.
        candidate: String,
        /// The fence of its leadership.
        fence: Fence,
        /// The new value.
        value: String,
    },
    /// A hold ended.
    Released {
        /// Of what kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// The owner or candidate.
        owner: String,
        /// The lease.
        lease: LeaseId,
        /// Its fence.
        fence: Fence,
        /// Why.
        reason: ReleaseReason,
    },
    /// A place ended without a grant.
    Left {
        /// Of what kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// The owner or candidate.
        owner: String,
        /// The lease.
        lease: LeaseId,
        /// Why.
        reason: LeaveReason,
    },
    /// A lease was granted.
    LeaseGranted {
        /// Which.
        lease: LeaseId,
        /// Its label.
        name: String,
        /// Its metadata.
        metadata: Arc<BTreeMap<String, String>>,
        /// Its TTL.
        ttl_ms: u64,
    },
    /// A lease ended.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// Its label.
        name: String,
        /// Why.
        reason: EndReason,
    },
}

/// A grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Of what kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The owner or candidate.
    pub owner: String,
    /// The lease.
    pub lease: LeaseId,
    /// The label of the lease.
    pub lease_name: String,
    /// The metadata given with the acquire.
    pub metadata: Arc<BTreeMap<String, String>>,
    /// How much.
    pub share: Share,
    /// The fence.
    pub fence: Fence,
    /// An election's value.
    pub value: String,
}

/// A place taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Of what kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The owner or candidate.
    pub owner: String,
    /// The lease.
    pub lease: LeaseId,
    /// The label of the lease.
    pub lease_name: String,
    /// The metadata given with the acquire.
    pub metadata: Arc<BTreeMap<String, String>>,
    /// How much is wanted.
    pub share: Share,
    /// Its priority.
    pub priority: i32,
    /// An election's value.
    pub value: String,
}

/// Why a key was deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteReason {
    /// Somebody deleted it.
    Deleted,
    /// Its lease ended.
    LeaseEnded,
}

/// Why a hold ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReleaseReason {
    /// Its holder released it, or resigned.
    Released,
    /// Its lease ended.
    LeaseEnded,
    /// An operator broke it.
    Broken,
    /// Its holder handed it over.
    HandedOver,
}

/// Why a place ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaveReason {
    /// Its owner left, or had lost the right to what it waited for when its turn came.
    Withdrawn,
    /// Its whole wait was over.
    WaitExpired,
    /// Its lease ended.
    LeaseEnded,
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndReason {
    /// It ran out.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// The cluster was restored from a backup.
    Restored,
}

/// What a watch selects, and what a resource is: a collection and a name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Resource {
    /// Which collection.
    pub collection: Collection,
    /// The name within it: of a lease its 16 hex digits.
    pub name: Bytes,
}

/// The collections, ordered as their names are.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Collection {
    /// `elections/`
    Elections,
    /// `keys/`
    Keys,
    /// `leases/`
    Leases,
    /// `locks/`
    Locks,
    /// `semaphores/`
    Semaphores,
}

/// Selects resources.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Selector {
    /// One resource.
    Exact(Resource),
    /// Every resource of the collection whose name begins so.
    Prefix(Resource),
}

/// The resource that an event is about, as watches select it.
pub fn resource_of(event: &Event) -> Resource {
    let key = |key: &Bytes| Resource {
        collection: Collection::Keys,
        name: key.clone(),
    };
    let queue = |kind: Kind, name: &str| Resource {
        collection: Collection::of(kind),
        name: Bytes::copy_from_slice(name.as_bytes()),
    };
    let lease = |lease: LeaseId| Resource {
        collection: Collection::Leases,
        name: lease.to_string().into(),
    };
    match event {
        Event::Put(entry) => key(&entry.key),
        Event::Delete { key: name, .. } => key(name),
        Event::Granted(grant) => queue(grant.kind, &grant.name),
        Event::Queued { place } => queue(place.kind, &place.name),
        Event::Proclaimed { name, .. } => queue(Kind::Election, name),
        Event::Released { kind, name, .. } | Event::Left { kind, name, .. } => queue(*kind, name),
        Event::LeaseGranted { lease: id, .. } | Event::LeaseEnded { lease: id, .. } => lease(*id),
    }
}

/// The first name that is greater than every name that begins with `prefix`: together they bound the prefix as a
/// half-open range. `None` where nothing is greater (the prefix is empty or all 0xff).
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

impl Collection {
    /// Every collection, in the order of names.
    pub const ALL: [Collection; 5] = [
        Collection::Elections,
        Collection::Keys,
        Collection::Leases,
        Collection::Locks,
        Collection::Semaphores,
    ];

    /// How its resources begin, as selectors and grants name them.
    pub fn prefix(self) -> &'static str {
        match self {
            Collection::Elections => "elections/",
            Collection::Keys => "keys/",
            Collection::Leases => "leases/",
            Collection::Locks => "locks/",
            Collection::Semaphores => "semaphores/",
        }
    }

    /// The collection of the things of a kind.
    pub fn of(kind: Kind) -> Collection {
        match kind {
            Kind::Lock => Collection::Locks,
            Kind::Semaphore => Collection::Semaphores,
            Kind::Election => Collection::Elections,
        }
    }
}

impl Selector {
    /// Whether it selects the resource that an event is about.
    pub fn selects(&self, event: &Event) -> bool {
        match self {
            Selector::Exact(resource) => {
                concerns(event, resource.collection, |name| name == resource.name)
            }
            Selector::Prefix(resource) => concerns(event, resource.collection, |name| {
                name.starts_with(&resource.name)
            }),
        }
    }
}

/// Whether an event is about a resource of `collection` whose name `matches`; allocates for events of leases only.
fn concerns(event: &Event, collection: Collection, matches: impl Fn(&[u8]) -> bool) -> bool {
    let (of, name) = match event {
        Event::Put(entry) => (Collection::Keys, &entry.key[..]),
        Event::Delete { key, .. } => (Collection::Keys, &key[..]),
        Event::Granted(grant) => (Collection::of(grant.kind), grant.name.as_bytes()),
        Event::Queued { place } => (Collection::of(place.kind), place.name.as_bytes()),
        Event::Proclaimed { name, .. } => (Collection::Elections, name.as_bytes()),
        Event::Released { kind, name, .. } | Event::Left { kind, name, .. } => {
            (Collection::of(*kind), name.as_bytes())
        }
        Event::LeaseGranted { lease, .. } | Event::LeaseEnded { lease, .. } => {
            return collection == Collection::Leases && matches(lease.to_string().as_bytes());
        }
    };
    of == collection && matches(name)
}
