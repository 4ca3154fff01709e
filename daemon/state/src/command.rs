//! What an entry asks of the state machine.
//!
//! Owns the shapes; `codec` gives them bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::access::{AccessChange, Principal};
use crate::ids::{Fence, Kind, LeaseId, Origin, Revision};

/// The meaning of one entry: renewals first, then what is due, then the requests (`design.md`, State).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// Leases to renew.
    pub renewals: Vec<Renewal>,
    /// Requests, in order.
    pub requests: Vec<Request>,
}

/// A lease to renew, and who wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Renewal {
    /// Which member was asked.
    pub origin: Origin,
    /// Who asked.
    pub principal: Principal,
    /// Which lease.
    pub lease: LeaseId,
}

/// A command and who asked for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Which member was asked.
    pub origin: Origin,
    /// Who asked.
    pub principal: Principal,
    /// Under which identity and key its decision is recorded, if it is (`api.md` §2, Exactly once).
    pub idempotency: Option<IdempotencyKey>,
    /// What is asked.
    pub command: Command,
}

/// Where a decision is recorded for repeats.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdempotencyKey {
    /// Who asks; `anonymous` while access control is off.
    pub identity: String,
    /// The caller's key.
    pub key: String,
    /// A digest of the request, to tell a repeat from another request with the same key.
    pub digest: u128,
}

/// What can be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Grants a lease.
    GrantLease(NewLease),
    /// Ends a lease and all that hangs on it, at one revision.
    RevokeLease {
        /// Which.
        lease: LeaseId,
    },
    /// Changes the TTL of a lease and renews it; a shorter TTL counts from the next renewal on.
    ChangeLease {
        /// Which.
        lease: LeaseId,
        /// Its TTL from now on, in milliseconds.
        ttl_ms: u64,
    },
    /// Acquires a lock or semaphore, campaigns, or asks again for the same.
    Acquire(Acquire),
    /// Releases a hold (with its fence) or leaves the queue (without one).
    Release(Release),
    /// Ends somebody's hold: an operator's.
    Break(Break),
    /// Gives a leadership a new value.
    Proclaim(Proclaim),
    /// Passes a leadership to a waiting candidate, at one revision.
    HandOver(HandOver),
    /// Reads and writes keys, all or nothing.
    Transaction(Transaction),
    /// Forgets history up to a revision.
    Compact {
        /// Up to here, included.
        revision: Revision,
    },
    /// Changes limits, by their names in `GET /v1/limits`; all of them or none.
    ChangeLimits(BTreeMap<String, u64>),
    /// Changes who may do what.
    ChangeAccess(AccessChange),
    /// Raises the version of the rules. Only a leader has it proposed, of itself.
    RaiseVersion {
        /// To which; one that is in force already changes nothing.
        to: u64,
    },
}

/// A lease to grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewLease {
    /// Its id, drawn at random by the member asked.
    pub lease: LeaseId,
    /// Its TTL in milliseconds.
    pub ttl_ms: u64,
    /// A label for people; may be empty.
    pub name: String,
    /// More labels.
    pub metadata: BTreeMap<String, String>,
}

/// What an acquire hangs on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// A lease the caller has.
    Lease(LeaseId),
    /// A lease granted in the same entry (`ttl_ms` in place of `lease`).
    Grant(NewLease),
}

impl Claim {
    /// The lease's id.
    pub fn lease(&self) -> LeaseId {
        match self {
            Claim::Lease(lease) => *lease,
            Claim::Grant(new) => new.lease,
        }
    }
}

/// How much of a queue's object is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// All of it: an exclusive lock, or an election.
    Exclusive,
    /// A lock together with other shared holders.
    Shared,
    /// Some permits of a semaphore whose limit is given.
    Permits {
        /// How many.
        permits: u64,
        /// Of how many.
        limit: u64,
    },
}

/// One name that an acquire wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The name of the lock, semaphore or election.
    pub name: String,
    /// How much of it.
    pub share: Share,
}

/// An acquire or a campaign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acquire {
    /// What kind of thing.
    pub kind: Kind,
    /// One name, or several at once.
    pub wanted: Vec<Wanted>,
    /// What it hangs on.
    pub claim: Claim,
    /// The owner, or the candidate of an election: with the lease, the identity of the hold.
    pub owner: String,
    /// The whole wait in milliseconds of the cluster clock; 0 tries and never queues.
    pub wait_ms: u64,
    /// Higher goes first; −100 to 100.
    pub priority: i32,
    /// Labels shown to those who are refused.
    pub metadata: BTreeMap<String, String>,
    /// How long nobody else is granted the lock after the lease ran out.
    pub lock_delay_ms: u64,
    /// An election's value.
    pub value: String,
}

/// A release, or leaving the queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    /// What kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The lease of the hold or place.
    pub lease: LeaseId,
    /// Its owner.
    pub owner: String,
    /// The fence of the hold; `None` leaves the queue.
    pub fence: Option<Fence>,
}

/// The end of a hold by an operator, who is not its holder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Break {
    /// What kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The fence of the hold: all holds that were granted with it end, unless `holder` names one.
    pub fence: Fence,
    /// The lease and owner of the one hold that ends.
    pub holder: Option<(LeaseId, String)>,
    /// The next grant does not wait for the deadline of the broken holder's lease, until which it may still believe.
    pub now: bool,
}

/// A new value of a leadership.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proclaim {
    /// The election.
    pub name: String,
    /// The leader's lease.
    pub lease: LeaseId,
    /// The leader.
    pub candidate: String,
    /// The fence of its leadership.
    pub fence: Fence,
    /// The new value.
    pub value: String,
}

/// A leadership passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandOver {
    /// The election.
    pub name: String,
    /// The leader's lease.
    pub lease: LeaseId,
    /// The leader.
    pub candidate: String,
    /// The fence of its leadership.
    pub fence: Fence,
    /// The candidate to lead: the first that waits under this name.
    pub to: String,
}

/// A transaction on keys: the one command that puts, deletes and prefix deletes are written as.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Transaction {
    /// All must hold for `then`; otherwise `otherwise` is done.
    pub conditions: Vec<Condition>,
    /// Done where all conditions hold.
    pub then: Vec<Operation>,
    /// Done where one does not.
    pub otherwise: Vec<Operation>,
    /// Applied only while this fence is held by a live holder.
    pub guard: Option<Guard>,
}

/// A fence that must be held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Guard {
    /// Of what kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The fence.
    pub fence: Fence,
}

/// A condition of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// Compares a field of a key.
    Key {
        /// Which key.
        key: Bytes,
        /// Which field, with what it is compared to.
        field: Field,
        /// How.
        compare: Compare,
    },
    /// A fence is held by a live holder.
    Held(Guard),
    /// A lease is live.
    LeaseLive(LeaseId),
}

/// A field of a key with the value it is compared to. An absent key has 0 in every number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Field {
    /// Its value.
    Value(Bytes),
    /// How often it was put since it was created.
    Version(u64),
    /// The revision that created it.
    CreateRevision(u64),
    /// The revision of its last put.
    ModRevision(u64),
    /// The lease it hangs on.
    Lease(Option<LeaseId>),
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compare {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less than the given value.
    Less,
    /// Greater than the given value.
    Greater,
}

/// An operation of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Sets a key.
    Put(Put),
    /// Deletes a key.
    Delete {
        /// Which.
        key: Bytes,
    },
    /// Deletes every key in a half-open range.
    DeleteRange {
        /// From here, included.
        start: Bytes,
        /// To here, excluded; `None` is the end of all keys.
        end: Option<Bytes>,
    },
    /// Reads a key as the operations before it left it.
    Get {
        /// Which.
        key: Bytes,
    },
}

/// A put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Put {
    /// Which key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// Kept with it; `None` is untyped.
    pub content_type: Option<String>,
    /// The lease it hangs on from now on, if any.
    pub lease: Option<LeaseId>,
    /// Refuse (`key-on-other-lease`) where the key hangs on another live lease.
    pub refuse_other_lease: bool,
}
