//! Semaphores on the wire: as locks, with permits where those have a mode.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lock::LockState;

/// `POST /v1/semaphores/{name}`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcquireSemaphore {
    /// The lease it hangs on; this or `ttl_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The TTL of a lease that is granted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// With the lease, the identity of the hold.
    #[serde(default)]
    pub owner: String,
    /// How many permits.
    #[serde(default = "one")]
    pub permits: u64,
    /// Of how many: the limit of the first holder stands until all is free.
    pub limit: u64,
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
    /// How long nobody else is granted permits after a holder's lease ran out.
    #[serde(default)]
    pub lock_delay_ms: u64,
}

fn one() -> u64 {
    1
}

/// The `200` of an acquire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SemaphoreHeld {
    /// The name.
    pub semaphore: String,
    /// `held`.
    pub state: LockState,
    /// How many permits.
    pub permits: u64,
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
pub struct SemaphoreQueued {
    /// The name.
    pub semaphore: String,
    /// `queued`.
    pub state: LockState,
    /// How many permits are wanted.
    pub permits: u64,
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
    pub holders: Vec<SemaphoreHolder>,
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
pub struct SemaphoreHolder {
    /// The owner.
    pub owner: String,
    /// The lease.
    pub lease: String,
    /// The label of the lease.
    pub lease_name: String,
    /// The metadata given with the acquire.
    pub metadata: BTreeMap<String, String>,
    /// How many permits.
    pub permits: u64,
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
pub struct SemaphorePlace {
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
    /// How many permits are wanted.
    pub permits: u64,
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

/// The answer of `GET /v1/semaphores/{name}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Semaphore {
    /// The name.
    pub semaphore: String,
    /// The first 100 holders.
    pub holders: Vec<SemaphoreHolder>,
    /// The first 100 places.
    pub queue: Vec<SemaphorePlace>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// How many permits there are; `null` while it is free.
    pub limit: Option<u64>,
    /// How many are held.
    pub permits_held: u64,
    /// The greatest fence ever granted.
    pub last_fence: Option<u64>,
    /// How long nobody is granted permits but a lease of the same name as its last holder's.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of its last change; 0 while unused.
    pub mod_revision: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// A semaphore in a list: held, waited for or kept for its last holder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SemaphoreSummary {
    /// The name.
    pub semaphore: String,
    /// The first 100 holders.
    pub holders: Vec<SemaphoreHolder>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// How many permits there are; `null` while it is free.
    pub limit: Option<u64>,
    /// How many are held.
    pub permits_held: u64,
    /// The greatest fence ever granted.
    pub last_fence: Option<u64>,
    /// How long nobody is granted permits but a lease of the same name as its last holder's.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of its last change.
    pub mod_revision: u64,
}

/// A page of semaphores.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SemaphorePage {
    /// The semaphores, in the order of names.
    pub semaphores: Vec<SemaphoreSummary>,
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
pub struct SemaphoreContention {
    /// The first 100 holders.
    pub holders: Vec<SemaphoreHolder>,
    /// How many hold.
    pub holder_count: u64,
    /// How many wait.
    pub queue_length: u64,
    /// How long nobody is granted permits but a lease of the same name as its last holder's.
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
pub struct SemaphoreReleased {
    /// The name.
    pub semaphore: String,
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
pub struct SemaphoreLeft {
    /// The name.
    pub semaphore: String,
    /// `true`.
    pub left: bool,
    /// The revision of the departure.
    pub revision: u64,
}

/// The answer of a break.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SemaphoreBroken {
    /// The name.
    pub semaphore: String,
    /// The holds that were ended, as they were.
    pub broken: Vec<SemaphoreHolder>,
    /// How long nobody is granted permits, because a broken holder may still believe.
    pub delay_remaining_ms: Option<u64>,
    /// The revision of their end.
    pub revision: u64,
}
