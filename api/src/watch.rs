//! Events and the answers of a watch.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::key::{Encoding, Entry};
use crate::lock::Mode;

/// The body of `POST /v1/watch`; at least one selector is needed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Beginnings of resources, as `keys/config/`.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// Whole resources, as `locks/jobs/a`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Everything up to here has been seen.
    #[serde(default)]
    pub after: Option<u64>,
    /// How long the request is held open while nothing happens.
    #[serde(default)]
    pub wait_ms: Option<u64>,
    /// Whether the reply also holds the present state.
    #[serde(default)]
    pub snapshot: bool,
    /// Whether puts and deletes also tell the entry before.
    #[serde(default)]
    pub previous: bool,
}

/// The answer of a watch.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Events {
    /// What matches, as of `revision`, in the order of resources; there where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Vec<Resource>>,
    /// What happened, in order; all events of one revision come in one reply.
    pub events: Vec<Event>,
    /// Everything up to here has been seen: where to go on, also when `events` is empty.
    pub revision: u64,
    /// Whether there is more at hand: ask again at once.
    pub more: bool,
}

/// A resource in a snapshot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resource {
    /// Its collection and name.
    pub resource: String,
    /// What a `GET` of it answers, without `revision`.
    pub state: serde_json::Value,
}

/// What a key was before an event.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Previous {
    /// This.
    Entry(Entry),
    /// More than one reply holds: only its version is told.
    Omitted {
        /// The revision of its last put.
        mod_revision: u64,
        /// Always true.
        omitted: bool,
    },
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
    /// Of a put or delete, where it was asked for: what the key was before, `null` where it was absent.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub previous: Option<Option<Previous>>,
}

/// Tells a `null` from a field that is absent.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<Previous>>, D::Error> {
    Option::deserialize(field).map(Some)
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
    /// Its owner left, or may no longer hold what it waited for.
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
            previous: None,
        };
        let text = serde_json::to_string(&event).expect("an event has a form in JSON");
        let expected = r#"{"revision":132,"resource":"keys/a","type":"delete","key":"a","mod_revision":132,"lease":null,"reason":"lease-ended"}"#;
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<Event>(&text).expect("an event is read back"),
            event
        );
    }

    #[test]
    fn what_a_key_was_before_is_an_entry_or_null_or_left_out() {
        let check = |previous: Option<Option<Previous>>, expected: &str| {
            let event = Event {
                revision: 7,
                resource: "keys/a".into(),
                change: Change::Delete {
                    key: "a".into(),
                    key_encoding: None,
                    mod_revision: 7,
                    lease: None,
                    reason: DeleteReason::Deleted,
                },
                previous,
            };
            let text = serde_json::to_string(&event).expect("an event has a form in JSON");
            assert!(text.ends_with(expected), "{text}");
            assert_eq!(
                serde_json::from_str::<Event>(&text).expect("an event is read back"),
                event
            );
        };
        check(None, r#""reason":"deleted"}"#);
        check(Some(None), r#""previous":null}"#);
        let omitted = Previous::Omitted {
            mod_revision: 5,
            omitted: true,
        };
        check(
            Some(Some(omitted)),
            r#""previous":{"mod_revision":5,"omitted":true}}"#,
        );
    }
}
