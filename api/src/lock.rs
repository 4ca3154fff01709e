//! Locks on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /v1/locks/{name}`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcquireLock {
    /// The lease it hangs on; this or `ttl_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The TTL of a lease that is granted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// With the lease, the identity of the hold.
    #[serde(default)]
    pub owner: String,
    /// How it is held.
    #[serde(default)]
    pub mode: Mode,
    /// The whole wait by the cluster clock; 0 tries and never queues.
    #[serde(default)]
    pub wait_ms: u64,
    /// How long this request is held open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u64>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// Labels shown to those who are refused.
    #[serde(default, deserialize_with = "crate::metadata::distinct")]
    pub metadata: BTreeMap<String, String>,
    /// How long nobody else is granted the lock after its holder's lease ran out.
    #[serde(default)]
    pub lock_delay_ms: u64,
}

/// `POST /v1/locks`: several at once, or none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcquireTogether {
    /// What is wanted: 1 to 64 locks.
    #[serde(deserialize_with = "crate::object::objects")]
    pub locks: Vec<WantedLock>,
    /// The lease they hang on; this or `ttl_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The TTL of a lease that is granted with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// With the lease, the identity of the holds.
    #[serde(default)]
    pub owner: String,
    /// The whole wait by the cluster clock; 0 tries and never queues.
    #[serde(default)]
    pub wait_ms: u64,
    /// How long this request is held open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u64>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// Labels shown to those who are refused.
    #[serde(default, deserialize_with = "crate::metadata::distinct")]
    pub metadata: BTreeMap<String, String>,
    /// How long nobody else is granted one of them after their holder's lease ran out.
    #[serde(default)]
    pub lock_delay_ms: u64,
}

/// One of several locks.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WantedLock {
    /// The name.
    pub name: String,
    /// How it is held.
    #[serde(default)]
    pub mode: Mode,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Alone.
    #[default]
    Exclusive,
    /// Together with other shared holders.
    Shared,
}

/// Whether an acquire holds or waits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LockState {
    /// It holds.
    Held,
    /// It waits.
    Queued,
}

/// The `200` of an acquire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockHeld {
    /// The name.
    pub lock: String,
    /// `held`.
    pub state: LockState,
    /// How.
    pub mode: Mode,
    /// By whom, with `lease`.
    pub owner: String,
    /// On which lease.
    pub lease: String,
    /// The fence of the hold.
    pub fence: u64,
    /// What is left of the lease.
    pub remaining_ms: u64,
    /// The revision of the grant.
    pub acquired_revision: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The `202` of an acquire: the place is kept, ask again with the same body.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockQueued {
    /// The name.
    pub lock: String,
    /// `queued`.
    pub state: LockState,
    /// How it is to be held.
    pub mode: Mode,
    /// Who waits, with `lease`.
    pub owner: String,
    /// On which lease.
    pub lease: String,
    /// From 1; exact to 100.
    pub position: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The revision of the place.
    pub queued_revision: u64,
    /// The first 100 holders.
    pub holders: Vec<LockHolder>,
    /// What is left of the whole wait.
    pub wait_remaining_ms: u64,
    /// What is left of the lease.
    pub remaining_ms: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// A holder as others see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockHolder {
    /// The owner.
    pub owner: String,
    /// The lease.
    pub lease: String,
    /// The label of the lease.
    pub lease_name: String,
    /// The metadata given with the acquire.
    pub metadata: BTreeMap<String, String>,
    /// How it is held.
    pub mode: Mode,
    /// The fence.
    pub fence: u64,
    /// The revision of the grant.
    pub acquired_revision: u64,
    /// How long it has been held by the cluster clock, which stands still while nobody leads; `null` where the member
    /// that granted it did not keep that.
    #[serde(default)]
    pub held_ms: Option<u64>,
    /// What is left of its lease.
    pub remaining_ms: u64,
}

/// A place as others see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockPlace {
    /// From 1.
    pub position: u64,
    /// The owner.
    pub owner: String,
    /// The lease.
    pub lease: String,
    /// The label of the lease.
    pub lease_name: String,
    /// The metadata given with the acquire.
    pub metadata: BTreeMap<String, String>,
    /// How it is to be held.
    pub mode: Mode,
    /// Its priority.
    pub priority: i32,
    /// The revision of the place.
    pub queued_revision: u64,
    /// How long it has waited by the cluster clock; `null` as for a hold.
    #[serde(default)]
    pub queued_ms: Option<u64>,
    /// What is left of the whole wait.
    pub wait_remaining_ms: u64,
}

/// The answer of `GET /v1/locks/{name}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lock {
    /// The name.
    pub lock: String,
    /// The first 100 holders.
    pub holders: Vec<LockHolder>,
    /// The first 100 places.
    pub queue: Vec<LockPlace>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The greatest fence ever granted.
    pub last_fence: Option<u64>,
    /// The greatest exclusive one.
    pub exclusive_fence: Option<u64>,
    /// How long nobody is granted it but a lease of the same name as its last holder's.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of its last change; 0 while unused.
    pub mod_revision: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// A lock in a list: held, waited for or kept for its last holder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockSummary {
    /// The name.
    pub lock: String,
    /// The first 100 holders.
    pub holders: Vec<LockHolder>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The greatest fence ever granted.
    pub last_fence: Option<u64>,
    /// The greatest exclusive one.
    pub exclusive_fence: Option<u64>,
    /// How long nobody is granted it but a lease of the same name as its last holder's.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of its last change.
    pub mod_revision: u64,
}

/// A page of locks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockPage {
    /// The locks, in the order of names.
    pub locks: Vec<LockSummary>,
    /// Whether there are more behind them.
    pub more: bool,
    /// What to send as `start_after` for those.
    pub next: Option<String>,
    /// How many match in all, not on the page.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The fields of its own of a `409` to an acquire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockContention {
    /// The first 100 holders.
    pub holders: Vec<LockHolder>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// How long nobody is granted it but a lease of the same name as its last holder's.
    pub delay_remaining_ms: Option<u64>,
    /// The lease that the wait hung on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The answer of a release.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockReleased {
    /// The name.
    pub lock: String,
    /// `true`.
    pub released: bool,
    /// The fence of the hold.
    pub fence: u64,
    /// The revision of the release.
    pub revision: u64,
}

/// The answer of leaving a queue.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockLeft {
    /// The name.
    pub lock: String,
    /// `true`.
    pub left: bool,
    /// The revision of the departure.
    pub revision: u64,
}

/// The answer of a break.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockBroken {
    /// The name.
    pub lock: String,
    /// The holds that were ended, as they were.
    pub broken: Vec<LockHolder>,
    /// How long nobody is granted it, because a broken holder may still believe.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of their end.
    pub revision: u64,
}

/// The `200` of an acquire of several locks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TogetherHeld {
    /// `held`.
    pub state: LockState,
    /// By whom, with `lease`.
    pub owner: String,
    /// On which lease.
    pub lease: String,
    /// The locks, in the order of names.
    pub locks: Vec<HeldLock>,
    /// What is left of the lease.
    pub remaining_ms: u64,
    /// The revision at which the last of them was granted: of all of them, where they were taken together.
    pub acquired_revision: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// One of several locks that are held.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldLock {
    /// The name.
    pub lock: String,
    /// How.
    pub mode: Mode,
    /// The fence of the hold.
    pub fence: u64,
}

/// The `202` of an acquire of several locks: the place is kept in every queue, ask again with the same body.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TogetherQueued {
    /// `queued`.
    pub state: LockState,
    /// Who waits, with `lease`.
    pub owner: String,
    /// On which lease.
    pub lease: String,
    /// The locks, in the order of names.
    pub locks: Vec<QueuedLock>,
    /// The revision of the place.
    pub queued_revision: u64,
    /// What is left of the whole wait.
    pub wait_remaining_ms: u64,
    /// What is left of the lease.
    pub remaining_ms: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// One of several locks that are waited for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueuedLock {
    /// The name.
    pub lock: String,
    /// How it is to be held.
    pub mode: Mode,
    /// From 1; exact to 100.
    pub position: u64,
    /// How many wait.
    pub queue_length: u64,
}
