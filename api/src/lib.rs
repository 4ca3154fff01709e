//! The wire types of Tenure's REST API and the codes of its problems.
//!
//! Owns what the JSON of requests and answers looks like, one file per resource. Must never know how a call is
//! carried out or what a status line is made of beyond its number: daemon and SDK convert from and to these types at
//! their own edges. Requests refuse unknown fields; answers may grow, so they are read tolerantly.

mod access;
mod backup;
mod cluster;
mod election;
mod key;
mod lease;
mod limits;
mod lock;
mod metadata;
mod object;
mod problem;
mod semaphore;
mod transaction;
mod watch;

pub use access::{
    Access, AccessRole, AccessSwitch, AccessVerb, ChangeAccess, CreateToken, GrantMatch, Identity,
    IdentityDeleted, IdentityPage, IdentityQuota, IdentitySummary, PutIdentity, PutRole,
    RoleDeleted, RoleGrant, RolePage, RoleSummary, Token, TokenCreated, TokenDeleted, TokenPage,
    WhoAmI,
};
pub use backup::{BACKUP_END_BYTES, backup_end};
pub use cluster::{
    AddMember, ChangeStatus, Cluster, LeadershipTransferred, Member, MemberChanged, MemberRemoved,
    MemberRole, MemberState, Readiness, Role, SnapshotSent, Status, TransferLeadership,
};
pub use election::{
    Campaign, CampaignState, Candidate, CandidateQueued, Elected, Election, ElectionBroken,
    ElectionContention, ElectionPage, ElectionSummary, HandOver, HandedOver, Leader, Proclaim,
    Resigned, Withdrawn,
};
pub use key::{Deleted, Encoding, Entry, KeyEntry, KeyPage, KeyWritten};
pub use lease::{
    Attached, AttachedState, ChangeLease, GrantLease, Lease, LeaseEnded, LeasePage, LeasesRenewed,
    RenewLeases, RenewResult,
};
pub use limits::{ChangeLimits, Compact, Compacted, Limits, LimitsInForce};
pub use lock::{
    AcquireLock, AcquireTogether, HeldLock, Lock, LockBroken, LockContention, LockHeld, LockHolder,
    LockLeft, LockPage, LockPlace, LockQueued, LockReleased, LockState, LockSummary, Mode,
    QueuedLock, TogetherHeld, TogetherQueued, WantedLock,
};
pub use problem::{Code, Outcome, Problem, Retry};
pub use semaphore::{
    AcquireSemaphore, Semaphore, SemaphoreBroken, SemaphoreContention, SemaphoreHeld,
    SemaphoreHolder, SemaphoreLeft, SemaphorePage, SemaphorePlace, SemaphoreQueued,
    SemaphoreReleased, SemaphoreSummary,
};
pub use transaction::{
    Compare, Condition, DeleteKeys, Field, GetKey, KeyGot, KeyPut, KeysDeleted, Operation,
    OperationResult, PutKey, Transact, Transacted,
};
pub use watch::{
    Change, DeleteReason, EndReason, Event, Events, LeaveReason, Previous, ReleaseReason,
    ResignReason, Resource, Watch,
};

/// The media type of requests and answers.
pub const JSON: &str = "application/json";
/// The media type of streams of events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// The media type of problems (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The least TTL of a lease in milliseconds.
pub const MIN_TTL_MS: u64 = 1_000;
/// The greatest TTL of a lease in milliseconds.
pub const MAX_TTL_MS: u64 = 86_400_000;
/// The most leases that are renewed together.
pub const MAX_RENEWED_TOGETHER: usize = 1_000;
/// The greatest `wait_ms` of an acquire: the whole wait in a queue.
pub const MAX_QUEUE_WAIT_MS: u64 = 86_400_000;
/// The greatest `poll_ms`, and `wait_ms` of a read: how long one request is held open.
pub const MAX_POLL_MS: u64 = 600_000;
/// Names have 1 to this many bytes.
pub const MAX_NAME_BYTES: usize = 1_024;
/// An owner, and the name of a lease, have at most this many bytes.
pub const MAX_LABEL_BYTES: usize = 1_024;
/// The name of a role or of an identity has 1 to this many bytes.
pub const MAX_ACCESS_NAME_BYTES: usize = 128;
/// The name in a certificate has at most this many bytes.
pub const MAX_CERTIFICATE_NAME_BYTES: usize = 1_024;
/// The most grants of a role.
pub const MAX_GRANTS: usize = 256;
/// The most roles of an identity.
pub const MAX_ROLES_OF_IDENTITY: usize = 64;
/// The longest time that a token is given: ten years. One that is given none lasts until it is deleted.
pub const MAX_TOKEN_MS: u64 = 315_360_000_000;
/// The name of a member has at most this many bytes.
pub const MAX_MEMBER_NAME_BYTES: usize = 128;
/// The URL of a member has at most this many bytes.
pub const MAX_URL_BYTES: usize = 1_024;
/// The keys and values of a metadata object together have at most this many bytes.
pub const MAX_METADATA_BYTES: usize = 4_096;
/// The longest lock delay.
pub const MAX_LOCK_DELAY_MS: u64 = 60_000;
/// The greatest priority in a queue; the least is its negative.
pub const MAX_PRIORITY: i32 = 100;
/// The most locks that one acquire takes together.
pub const MAX_LOCKS_TOGETHER: usize = 64;
/// The most permits of a semaphore: every JSON reader holds the number exactly.
pub const MAX_PERMITS: u64 = (1 << 53) - 1;
/// The most bytes of an election's value.
pub const MAX_ELECTION_VALUE_BYTES: usize = 65_536;
/// Revisions and fences are below this, so that every JSON reader holds them exactly.
pub const MAX_REVISION: u64 = 1 << 53;

/// The names of headers that Tenure adds to HTTP.
pub mod header {
    /// The revision of the state that an answer reflects.
    pub const REVISION: &str = "tenure-revision";
    /// How old a local answer may be, in milliseconds.
    pub const STALENESS_MS: &str = "tenure-staleness-ms";
    /// The term of Raft at the member that answers.
    pub const TERM: &str = "tenure-term";
    /// The client URL of the leader, where known.
    pub const LEADER: &str = "tenure-leader";
    /// The member that answers.
    pub const MEMBER: &str = "tenure-member";
    /// The cluster; a request that carries another id is refused.
    pub const CLUSTER: &str = "tenure-cluster";
    /// The id of the request, echoed where it was given.
    pub const REQUEST_ID: &str = "tenure-request-id";
    /// A fence that must be held for a write to be applied.
    pub const GUARD: &str = "tenure-guard";
    /// The key under which a decision is recorded for repeats.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// `true` on an answer that tells a decision made before.
    pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
    /// Where a stream of events goes on: the id of the last message that came.
    pub const LAST_EVENT_ID: &str = "last-event-id";
    /// The revision that created a key.
    pub const CREATE_REVISION: &str = "tenure-create-revision";
    /// The revision of a key's last put.
    pub const MOD_REVISION: &str = "tenure-mod-revision";
    /// How often a key was put since it was created.
    pub const VERSION: &str = "tenure-version";
    /// The lease a key hangs on.
    pub const LEASE: &str = "tenure-lease";
}
