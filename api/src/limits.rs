//! Limits and compaction on the wire.

use serde::{Deserialize, Serialize};

/// Every limit in force.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// The most bytes of a value.
    pub value_bytes: u64,
    /// The most bytes of a request.
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
    /// How many bytes of history are kept, counted about as memory holds them; the oldest goes first.
    pub history_bytes: u64,
    /// How long a decision is kept for repeats.
    pub idempotency_retention_ms: u64,
    /// How many decisions are kept for repeats; one that takes more than 512 bytes of memory, as that of a large
    /// transaction does, counts one for each of them.
    pub idempotency_records: u64,
    /// The most keys.
    pub keys: u64,
    /// The most bytes of keys and values together.
    pub key_bytes: u64,
    /// The most leases.
    pub leases: u64,
    /// The most places in queues.
    pub waiters: u64,
    /// The most watchers of one member.
    pub watchers: u64,
    /// The most memory of leases, holds and places together, in bytes: their names, owners, metadata and values, and 448
    /// for each lease, 1280 for each hold and each name that is waited for, 384 and 128 each for labels.
    pub standing_bytes: u64,
}

/// The answer of `GET` and `PATCH /v1/limits`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitsInForce {
    /// The limits.
    pub limits: Limits,
    /// The revision that this reflects.
    pub revision: u64,
}

/// `PATCH /v1/limits`: those that are given are changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ChangeLimits {
    /// The most bytes of a value.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub value_bytes: Option<u64>,
    /// The most bytes of a request.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub request_bytes: Option<u64>,
    /// The most keys that one revision changes.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub keys_per_revision: Option<u64>,
    /// The most things that hang on a lease.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub attached_per_lease: Option<u64>,
    /// The most conditions of a transaction.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub txn_conditions: Option<u64>,
    /// The most operations of a branch of a transaction.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub txn_operations: Option<u64>,
    /// How long history is kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub history_retention_ms: Option<u64>,
    /// How many bytes of history are kept, counted about as memory holds them; the oldest goes first.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub history_bytes: Option<u64>,
    /// How long a decision is kept for repeats.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub idempotency_retention_ms: Option<u64>,
    /// How many decisions are kept for repeats; one that takes more than 512 bytes of memory, as that of a large
    /// transaction does, counts one for each of them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub idempotency_records: Option<u64>,
    /// The most keys.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub keys: Option<u64>,
    /// The most bytes of keys and values together.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub key_bytes: Option<u64>,
    /// The most leases.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub leases: Option<u64>,
    /// The most places in queues.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub waiters: Option<u64>,
    /// The most watchers of one member.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub watchers: Option<u64>,
    /// The most memory of leases, holds and places together, in bytes: their names, owners, metadata and values, and 448
    /// for each lease, 1280 for each hold and each name that is waited for, 384 and 128 each for labels.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub standing_bytes: Option<u64>,
}

impl ChangeLimits {
    /// The limits that are given, by name.
    pub fn given(&self) -> Vec<(&'static str, u64)> {
        let named = [
            ("value_bytes", self.value_bytes),
            ("request_bytes", self.request_bytes),
            ("keys_per_revision", self.keys_per_revision),
            ("attached_per_lease", self.attached_per_lease),
            ("txn_conditions", self.txn_conditions),
            ("txn_operations", self.txn_operations),
            ("history_retention_ms", self.history_retention_ms),
            ("history_bytes", self.history_bytes),
            ("idempotency_retention_ms", self.idempotency_retention_ms),
            ("idempotency_records", self.idempotency_records),
            ("keys", self.keys),
            ("key_bytes", self.key_bytes),
            ("leases", self.leases),
            ("waiters", self.waiters),
            ("watchers", self.watchers),
            ("standing_bytes", self.standing_bytes),
        ];
        let given = named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given.collect()
    }
}

/// A limit that is named has a number: `null` is none, and would be easy to take for "no limit".
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

/// `POST /v1/compact`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Compact {
    /// History up to here goes.
    pub revision: u64,
}

/// The answer of `POST /v1/compact`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Compacted {
    /// History up to here is gone.
    pub compact_revision: u64,
    /// The present revision.
    pub revision: u64,
}
