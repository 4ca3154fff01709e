//! Events and the answers of a watch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::key::Encoding;
use crate::lock::Mode;

/// The answer of `GET /v1/watch`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Events {
    /// What happened, in order; all events of one revision come in one reply.
    pub events: Vec<Event>,
    /// Everything up to here has been seen: where to go on, also when `events` is empty.
    pub revision: u64,
    /// Whether there is more at hand: ask again at once.
    pub more: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// When.
    pub revision: u64,
    /// To what: its collection and name.
    pub resource: String,
    /// What.
    #[serde(flatten)]
    pub change: Change,
}

/// What happened. Of `lock`, `semaphore` and `election` there is the one that the resource is, and of `mode` and
/// `permits` the one that goes with it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields are those of the resources, and documented there"
)]
pub enum Change {
    /// A key was put.
    Put {
        key: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_encoding: Option<Encoding>,
        value: String,
        encoding: Encoding,
        content_type: Option<String>,
        create_revision: u64,
        mod_revision: u64,
        version: u64,
        lease: Option<String>,
    },
    /// A key was deleted.
    Delete {
        key: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_encoding: Option<Encoding>,
        mod_revision: u64,
        lease: Option<String>,
        reason: DeleteReason,
    },
    /// A lock or semaphore was acquired.
    Acquired {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        semaphore: Option<String>,
        owner: String,
        lease: String,
        lease_name: String,
        metadata: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<Mode>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permits: Option<u64>,
        fence: u64,
    },
    /// A place was taken in a queue.
    Queued {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        semaphore: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        election: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        candidate: Option<String>,
        lease: String,
        lease_name: String,
        metadata: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<Mode>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permits: Option<u64>,
        priority: i32,
    },
    /// A hold of a lock or semaphore ended.
    Released {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        semaphore: Option<String>,
        owner: String,
        lease: String,
        fence: u64,
        reason: ReleaseReason,
    },
    /// A place ended without a grant.
    Left {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        semaphore: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        election: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        candidate: Option<String>,
        lease: String,
        reason: LeaveReason,
    },
    /// A candidate was elected.
    Elected {
        election: String,
        candidate: String,
        lease: String,
        fence: u64,
        value: String,
    },
    /// A leader gave its leadership a new value.
    Proclaimed {
        election: String,
        candidate: String,
        fence: u64,
        value: String,
    },
    /// A leadership ended.
    Resigned {
        election: String,
        candidate: String,
        lease: String,
        fence: u64,
        reason: ResignReason,
    },
    /// A lease was granted.
    Granted {
        lease: String,
        name: String,
        metadata: BTreeMap<String, String>,
        ttl_ms: u64,
    },
    /// A lease ended.
    Ended {
        lease: String,
        name: String,
        reason: EndReason,
    },
}

/// Why a key was deleted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeleteReason {
    /// Somebody deleted it.
    Deleted,
    /// Its lease ended.
    LeaseEnded,
}

/// Why a hold ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseReason {
    /// Its holder released it.
    Released,
    /// Its lease ended.
    LeaseEnded,
    /// An operator broke it.
    Broken,
}

/// Why a leadership ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ResignReason {
    /// The leader resigned.
    Resigned,
    /// Its lease ended.
    LeaseEnded,
    /// The leader handed it over.
    HandedOver,
    /// An operator broke it.
    Broken,
}

/// Why a place ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// Its owner left.
    Withdrawn,
    /// Its whole wait was over.
    WaitExpired,
    /// Its lease ended.
    LeaseEnded,
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// It ran out.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// The cluster was restored from a backup.
    Restored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            revision: 132,
            resource: "keys/a".into(),
            change: Change::Delete {
                key: "a".into(),
                key_encoding: None,
                mod_revision: 132,
                lease: None,
                reason: DeleteReason::LeaseEnded,
            },
        };
        let text = serde_json::to_string(&event).expect("an event has a form in JSON");
        let expected = r#"{"revision":132,"resource":"keys/a","type":"delete","key":"a","mod_revision":132,"lease":null,"reason":"lease-ended"}"#;
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<Event>(&text).expect("an event is read back"),
            event
        );
    }
}
