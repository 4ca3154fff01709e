//! What bounds the state: the replicated limits, and the bounds of the format.
//!
//! Owns every number that decides a result of `apply`. Limits are a row and changed by an entry only; the constants
//! are part of the rules (`state_version`) and never differ between members of one cluster.

use crate::ids::Revision;

/// The least TTL of a lease.
pub const MIN_TTL_MS: u64 = 1000;
/// The greatest TTL of a lease: a day.
pub const MAX_TTL_MS: u64 = 86_400_000;
/// The longest wait for a lock: a day.
pub const MAX_WAIT_MS: u64 = 86_400_000;
/// The longest lock delay.
pub const MAX_LOCK_DELAY_MS: u64 = 60_000;
/// The greatest priority; the least is its negative.
pub const MAX_PRIORITY: i32 = 100;
/// The most bytes of a name, a key, an owner and the name of a lease.
pub const MAX_NAME_BYTES: u64 = 1024;
/// The most bytes of metadata, keys and values together.
pub const MAX_METADATA_BYTES: u64 = 4096;
/// The most bytes of an election's value.
pub const MAX_ELECTION_VALUE_BYTES: u64 = 65_536;
/// The most names of one acquire.
pub const MAX_NAMES_TOGETHER: u64 = 64;
/// How many holders and places a view shows, and how far a position is exact.
pub const SHOWN: usize = 100;
/// How many ends one entry brings about. An end serves queues and writes rows; a storm of them must not hold up the
/// log, and the leader appends further entries until nothing is due.
pub const MAX_ENDS_PER_ENTRY: u64 = 1000;
/// After how many things that went with ended leases an entry ends no further lease.
pub const MAX_ENDED_THINGS_PER_ENTRY: u64 = 10_000;
/// How many revisions one entry compacts: more than an entry usually makes, so that compaction keeps up.
pub(crate) const MAX_COMPACTED_PER_ENTRY: u64 = 1000;
/// After how many events an entry compacts no further revision.
pub(crate) const MAX_COMPACTED_EVENTS_PER_ENTRY: u64 = 20_000;
/// How long an ended lease is `lease-expired` rather than unknown.
pub const ENDED_RETENTION_MS: u64 = 600_000;
/// How many ended leases are remembered.
pub const ENDED_LEASES: usize = 100_000;
/// How many ended leases one entry forgets because of their age.
pub(crate) const MAX_ENDED_FORGOTTEN_PER_ENTRY: usize = 2000;
/// The version of the rules that `apply` follows, raised by an entry when every member can (`design.md`, State).
pub(crate) const STATE_VERSION: u64 = 1;

/// The limits that decide results. Named as in `GET /v1/limits`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most bytes of a value.
    pub value_bytes: u64,
    /// The most bytes of a request; members refuse longer ones before they are proposed.
    pub request_bytes: u64,
    /// The most keys that one revision changes.
    pub keys_per_revision: u64,
    /// The most things that hang on a lease.
    pub attached_per_lease: u64,
    /// The most conditions of a transaction.
    pub txn_conditions: u64,
    /// The most operations of a branch of a transaction.
    pub txn_operations: u64,
    /// How long history is kept.
    pub history_retention_ms: u64,
    /// How many bytes of history are kept; the oldest goes first.
    pub history_bytes: u64,
    /// How long a decision is kept for repeats.
    pub idempotency_retention_ms: u64,
    /// How many decisions are kept for repeats.
    pub idempotency_records: u64,
    /// The most keys.
    pub keys: u64,
    /// The most bytes of keys and values together.
    pub key_bytes: u64,
    /// The most leases.
    pub leases: u64,
    /// The most places in queues.
    pub waiters: u64,
    /// The most watchers of a member; members refuse more.
    pub watchers: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            value_bytes: 1_048_576,
            request_bytes: 2_097_152,
            keys_per_revision: 10_000,
            attached_per_lease: 10_000,
            txn_conditions: 128,
            txn_operations: 128,
            history_retention_ms: 3_600_000,
            history_bytes: 268_435_456,
            idempotency_retention_ms: 60_000,
            idempotency_records: 1_000_000,
            keys: 10_000_000,
            key_bytes: 4_294_967_296,
            leases: 1_000_000,
            waiters: 100_000,
            watchers: 10_000,
        }
    }
}

/// What a new cluster begins with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// The revision of the empty state: 1, but in a restored cluster.
    pub first_revision: Revision,
    /// The limits it begins with.
    pub limits: Limits,
}

impl Default for Genesis {
    fn default() -> Genesis {
        Genesis {
            first_revision: Revision(1),
            limits: Limits::default(),
        }
    }
}
