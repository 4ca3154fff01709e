//! What the state machine answers to a command, and why it refuses one.
//!
//! Refusals are decisions that every member reaches alike; a failure of one member alone never appears here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::access::{Denied, TokenId};
use crate::command::Share;
use crate::ids::{Clock, Fence, Kind, LeaseId, Origin, Revision};
use crate::limits::{LimitError, Limits};

/// Answers and what else an entry brought about.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each renewal and request, in their order.
    pub outcomes: Vec<Decision>,
    /// The revision before the entry; the state's present one is the last.
    pub before: Revision,
    /// How many leases the entry ended because they were due.
    pub leases_expired: u64,
}

/// What came of a request, and for whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Who asked.
    pub origin: Origin,
    /// What came of it.
    pub outcome: Outcome,
    /// It was decided before, and this is what was recorded (`api.md` §2, Exactly once): values are left out, and what
    /// ages is of the present.
    pub replayed: bool,
}

/// What came of a request.
pub type Outcome = Result<Answer, Refusal>;

/// What a request got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// A grant or a renewal.
    Lease(LeaseView),
    /// A revoke.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// How many things ended with it.
        ended_count: u64,
        /// At which revision.
        revision: Revision,
    },
    /// An acquire that holds (one name).
    Held(HoldView),
    /// An acquire whose place is in the queue.
    Queued(QueuedView),
    /// An acquire of several names that holds them all, in the order of names.
    HeldTogether(Vec<HoldView>),
    /// An acquire of several names whose place is in every one of their queues, in the order of names.
    QueuedTogether(Vec<QueuedView>),
    /// A release.
    Released {
        /// Of which fence.
        fence: Fence,
        /// At which revision.
        revision: Revision,
    },
    /// A place given up.
    Left {
        /// At which revision.
        revision: Revision,
    },
    /// An operator's end of somebody's hold.
    Broken {
        /// The first 100 of the holds that ended, as they were.
        broken: Vec<HolderView>,
        /// The cluster clock until which nobody is granted it; `None` where the next grant does not wait.
        delay_until: Option<Clock>,
        /// The clock of the entry.
        clock: Clock,
        /// At which revision.
        revision: Revision,
    },
    /// A leadership passed on.
    HandedOver {
        /// Who leads now.
        leader: HolderView,
        /// The clock of the entry.
        clock: Clock,
        /// At which revision.
        revision: Revision,
    },
    /// History forgotten by hand.
    Compacted {
        /// History up to here is gone.
        compact_revision: Revision,
        /// The present revision.
        revision: Revision,
    },
    /// Limits changed.
    Limits {
        /// All of them, as they are now.
        limits: Limits,
        /// The present revision.
        revision: Revision,
    },
    /// A change of who may do what.
    AccessChanged {
        /// The present revision.
        revision: Revision,
    },
    /// The version of the rules was raised, or was that already.
    VersionRaised {
        /// The version in force.
        version: u64,
    },
    /// A transaction.
    Transaction {
        /// Whether the conditions held.
        succeeded: bool,
        /// A result for each operation of the branch taken.
        results: Vec<OperationResult>,
        /// The revision after it: a new one where it changed something.
        revision: Revision,
    },
}

/// A result of one operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperationResult {
    /// Of a put: the new version of the key.
    Put {
        /// The entry as it is now.
        entry: Arc<KeyEntry>,
        /// Whether the key was absent before.
        created: bool,
    },
    /// Of a delete: how many keys went.
    Deleted(u64),
    /// Of a get: the key, if it is there.
    Got(Option<Arc<KeyEntry>>),
}

/// Why a command was refused. Nothing changed, except where a variant says so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No such lease is known.
    LeaseNotFound(LeaseId),
    /// The lease ended in the last ten minutes.
    LeaseExpired(LeaseId),
    /// The id of a lease to grant is in use: the member draws another.
    LeaseIdTaken(LeaseId),
    /// The TTL is outside the limits.
    TtlOutOfRange {
        /// What was asked.
        ttl_ms: u64,
        /// The least.
        min_ms: u64,
        /// The most.
        max_ms: u64,
    },
    /// Somebody else holds it, and the caller does not wait.
    LockHeld(Contention),
    /// The place's whole wait is over.
    WaitExpired(Contention),
    /// A `(lease, owner)` asked again in another way than it holds or waits.
    ModeMismatch {
        /// Which name.
        name: String,
        /// How it holds or waits.
        present: Share,
    },
    /// The semaphore is in use with another limit.
    LimitMismatch {
        /// Which semaphore.
        name: String,
        /// The limit that stands until all is free.
        limit: u64,
    },
    /// An acquire of several names by a `(lease, owner)` that already holds or waits for one of them.
    AlreadyHeld {
        /// Which name.
        name: String,
    },
    /// There is neither hold nor place of this lease and owner.
    NotHeld,
    /// The fence is not that of a live hold.
    FenceStale {
        /// The fence of the present hold of this lease and owner, or of the present holder.
        present: Option<Fence>,
    },
    /// A condition of a single-key write does not hold.
    ConditionFailed {
        /// The key's mod revision; 0 where it is absent.
        mod_revision: Revision,
    },
    /// The key hangs on another live lease.
    KeyOnOtherLease {
        /// Which.
        lease: LeaseId,
    },
    /// The key is absent (a delete of one key).
    KeyNotFound,
    /// A bound of one revision or one thing would be passed.
    TooLarge {
        /// Which limit, by its name in `GET /v1/limits`.
        limit: &'static str,
        /// Its value.
        allowed: u64,
        /// What the request would need.
        asked: u64,
    },
    /// The key of a repeat was used for another request.
    IdempotencyMismatch,
    /// A revision that the cluster has never been at.
    RevisionAhead {
        /// What was asked.
        asked: Revision,
        /// The present one.
        present: Revision,
    },
    /// A quota would be passed.
    QuotaExceeded {
        /// Which limit, by its name in `GET /v1/limits`.
        limit: &'static str,
        /// Its value.
        allowed: u64,
        /// How much there would have been.
        asked: u64,
    },
    /// The quota of the identity would be passed.
    IdentityQuotaExceeded {
        /// Whose.
        identity: String,
        /// Which quota: `leases` or `places`.
        quota: &'static str,
        /// Its value.
        allowed: u64,
        /// How much there would have been.
        asked: u64,
    },
    /// Limits that are not accepted; none was changed.
    Limits(LimitError),
    /// Who asks may not have it done.
    Denied(Denied),
    /// There is no role of this name.
    RoleNotFound(String),
    /// There is no identity of this name.
    IdentityNotFound(String),
    /// There is no such token.
    TokenNotFound(TokenId),
    /// The id of a token to create is in use: the member draws another.
    TokenIdTaken,
    /// A change of who may do what that is not accepted; the sentence says why.
    AccessInvalid(String),
    /// The command cannot be carried out by this version of the rules, or makes no sense.
    Unsupported(&'static str),
}

/// Who is in the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contention {
    /// What kind of thing.
    pub kind: Kind,
    /// The name that is held or waited for.
    pub name: String,
    /// The first 100 holders.
    pub holders: Vec<HolderView>,
    /// How many there are.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The cluster clock until which nobody, or only the previous holder, is granted it.
    pub delay_until: Option<Clock>,
    /// The lease of the asker, where one was granted by the request.
    pub lease: Option<LeaseId>,
    /// The revision that this reflects.
    pub revision: Revision,
}

/// A lease as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseView {
    /// Its id.
    pub lease: LeaseId,
    /// Its label.
    pub name: String,
    /// Its metadata.
    pub metadata: Arc<BTreeMap<String, String>>,
    /// Its TTL.
    pub ttl_ms: u64,
    /// The cluster clock at which it ends unless renewed.
    pub deadline: Clock,
    /// The clock of the entry that this answer comes from, for `remaining_ms`.
    pub clock: Clock,
    /// The revision of its grant.
    pub granted_revision: Revision,
    /// How many things hang on it.
    pub attached_count: u64,
    /// The revision at which something on it was last gained or lost.
    pub attached_revision: Option<Revision>,
    /// The revision that this reflects.
    pub revision: Revision,
}

/// A thing that hangs on a lease.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Attached {
    /// A key.
    Key(Bytes),
    /// A hold.
    Hold {
        /// Of what kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// The owner.
        owner: String,
        /// Its fence.
        fence: Fence,
    },
    /// A place in a queue.
    Place {
        /// Of what kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// The owner.
        owner: String,
    },
}

/// A hold that an acquire got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HoldView {
    /// What kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The owner.
    pub owner: String,
    /// The lease.
    pub lease: LeaseId,
    /// How much is held.
    pub share: Share,
    /// The fence.
    pub fence: Fence,
    /// The deadline of its lease.
    pub deadline: Clock,
    /// The clock of the entry, or of the leader for reads.
    pub clock: Clock,
    /// The election's value.
    pub value: String,
    /// The revision of the grant.
    pub acquired_revision: Revision,
    /// The revision that this reflects.
    pub revision: Revision,
}

/// A place that an acquire got or has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueuedView {
    /// What kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The owner.
    pub owner: String,
    /// The lease.
    pub lease: LeaseId,
    /// How much is wanted.
    pub share: Share,
    /// From 1; exact to 100, and 101 beyond.
    pub position: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The revision of the place.
    pub queued_revision: Revision,
    /// The first 100 holders.
    pub holders: Vec<HolderView>,
    /// The cluster clock at which the place ends.
    pub wait_deadline: Clock,
    /// The deadline of its lease.
    pub deadline: Clock,
    /// The clock of the entry, or of the leader for reads.
    pub clock: Clock,
    /// The revision that this reflects.
    pub revision: Revision,
}

/// A holder as others see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HolderView {
    /// The owner.
    pub owner: String,
    /// The lease.
    pub lease: LeaseId,
    /// The label of the lease.
    pub lease_name: String,
    /// The metadata given with the acquire.
    pub metadata: Arc<BTreeMap<String, String>>,
    /// How much is held.
    pub share: Share,
    /// The fence.
    pub fence: Fence,
    /// The revision of the grant.
    pub acquired_revision: Revision,
    /// The cluster clock of the grant, where it is known.
    pub acquired_at: Option<Clock>,
    /// The deadline of its lease.
    pub deadline: Clock,
    /// An election's value.
    pub value: String,
}

/// A place as others see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WaiterView {
    /// From 1.
    pub position: u64,
    /// The owner.
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
    /// The revision of the place.
    pub queued_revision: Revision,
    /// The cluster clock at which it was first asked for, where it is known.
    pub queued_at: Option<Clock>,
    /// The cluster clock at which the place ends.
    pub wait_deadline: Clock,
    /// An election's value.
    pub value: String,
}

/// A lock, semaphore or election as `GET` shows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueView {
    /// The first 100 holders.
    pub holders: Vec<HolderView>,
    /// The first 100 places.
    pub queue: Vec<WaiterView>,
    /// The limit of a semaphore; `None` while it is free.
    pub limit: Option<u64>,
    /// How many permits of it are held.
    pub permits_held: u64,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The greatest fence ever granted; `None` while unused.
    pub last_fence: Option<Fence>,
    /// The greatest exclusive one.
    pub exclusive_fence: Option<Fence>,
    /// The cluster clock until which only the previous holder may have it.
    pub delay_until: Option<Clock>,
    /// The revision of its last change; 0 while unused.
    pub mod_revision: Revision,
}

/// A version of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyEntry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Kept from the put.
    pub content_type: Option<String>,
    /// The revision that created it.
    pub create_revision: Revision,
    /// The revision of this put.
    pub mod_revision: Revision,
    /// Puts since it was created.
    pub version: u64,
    /// The lease it hangs on.
    pub lease: Option<LeaseId>,
}
