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
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// How long nobody else is granted the lock after its holder's lease ran out.
    #[serde(default)]
    pub lock_delay_ms: u64,
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
    pub holders: Vec<Holder>,
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
pub struct Holder {
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
    /// What is left of its lease.
    pub remaining_ms: u64,
}

/// A place as others see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
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
    pub holders: Vec<Holder>,
    /// The first 100 places.
    pub queue: Vec<Place>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The greatest fence ever granted.
    pub last_fence: Option<u64>,
    /// The greatest exclusive one.
    pub exclusive_fence: Option<u64>,
    /// How long only the previous holder may have it.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of its last change; 0 while unused.
    pub mod_revision: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The fields of its own of a `409` to an acquire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Contention {
    /// The first 100 holders.
    pub holders: Vec<Holder>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// The lease that the wait hung on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The answer of a release.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Released {
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
pub struct Left {
    /// The name.
    pub lock: String,
    /// `true`.
    pub left: bool,
    /// The revision of the departure.
    pub revision: u64,
}
