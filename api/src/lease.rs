//! Leases on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Code;

/// `POST /v1/leases`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantLease {
    /// The TTL: 1000 to 86400000.
    pub ttl_ms: u64,
    /// A label for people.
    #[serde(default)]
    pub name: String,
    /// More labels.
    #[serde(default, deserialize_with = "crate::metadata::distinct")]
    pub metadata: BTreeMap<String, String>,
}

/// `PATCH /v1/leases/{id}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeLease {
    /// The TTL from now on: 1000 to 86400000. A shorter one counts from the next renewal on.
    pub ttl_ms: u64,
}

/// `POST /v1/leases/renew`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewLeases {
    /// The ids: 1 to 1000 of them.
    pub leases: Vec<String>,
}

/// The answer of `POST /v1/leases/renew`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeasesRenewed {
    /// What came of each, in the order in which they were asked.
    pub results: Vec<RenewResult>,
    /// The revision that this reflects.
    pub revision: u64,
}

/// What came of one lease among many.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum RenewResult {
    /// It was renewed.
    Renewed {
        /// Which.
        lease: String,
        /// What is left of it.
        remaining_ms: u64,
        /// The revision at which something on it was last gained or lost.
        attached_revision: Option<u64>,
    },
    /// It is lost.
    Lost {
        /// Which.
        lease: String,
        /// `lease-expired` or `lease-not-found`; `forbidden` where it is not the caller's to renew.
        error: Code,
    },
}

/// A page of leases.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeasePage {
    /// The leases, in the order of their ids.
    pub leases: Vec<Lease>,
    /// Whether there are more behind them.
    pub more: bool,
    /// What to send as `start_after` for those.
    pub next: Option<String>,
    /// How many there are in all, not on the page.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// A lease as it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// Its id: 16 lower-case hex digits.
    pub lease: String,
    /// Its label.
    pub name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its TTL.
    pub ttl_ms: u64,
    /// What is left of it.
    pub remaining_ms: u64,
    /// The revision of its grant.
    pub granted_revision: u64,
    /// How many things hang on it.
    pub attached_count: u64,
    /// The revision at which something on it was last gained or lost.
    pub attached_revision: Option<u64>,
    /// The greater of `granted_revision` and `attached_revision`.
    pub mod_revision: u64,
    /// The first 100 things that hang on it; only in the answer of `GET /v1/leases/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Vec<Attached>>,
    /// The revision that this reflects.
    pub revision: u64,
}

/// A thing that hangs on a lease.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attached {
    /// What: its collection and name.
    pub resource: String,
    /// The owner of a hold or place of a lock or semaphore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The candidate of an election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Whether it is held or waited for; absent for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<AttachedState>,
    /// The fence of a hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// Whether something is held or waited for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttachedState {
    /// Held.
    Held,
    /// Waited for.
    Queued,
}

/// The answer of `DELETE /v1/leases/{id}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseEnded {
    /// Which.
    pub lease: String,
    /// `true`.
    pub ended: bool,
    /// How many things ended with it.
    pub ended_count: u64,
    /// At which revision.
    pub revision: u64,
}
