//! Keys on the wire, apart from raw values, which are bodies of their own.

use serde::{Deserialize, Serialize};

/// How bytes are written in JSON.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Encoding {
    /// As text.
    #[serde(rename = "utf-8")]
    Utf8,
    /// In base64 with padding (RFC 4648 §4).
    #[serde(rename = "base64")]
    Base64,
}

/// A key with its value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// The key.
    pub key: String,
    /// How `key` is written; absent where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_encoding: Option<Encoding>,
    /// The value; `None` where only keys were asked for.
    pub value: Option<String>,
    /// How `value` is written.
    pub encoding: Option<Encoding>,
    /// The type that was given with the value.
    pub content_type: Option<String>,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision of the last put.
    pub mod_revision: u64,
    /// Puts since it was created.
    pub version: u64,
    /// The lease it hangs on.
    pub lease: Option<String>,
}

/// The answer of `GET /v1/keys/{key}?entry=true`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyEntry {
    /// The key with its value.
    #[serde(flatten)]
    pub entry: Entry,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The answer of `PUT /v1/keys/{key}`: the entry less its value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyWritten {
    /// The key.
    pub key: String,
    /// The type that was given with the value.
    pub content_type: Option<String>,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision of this put.
    pub mod_revision: u64,
    /// Puts since it was created.
    pub version: u64,
    /// The lease it hangs on.
    pub lease: Option<String>,
    /// The revision of this put.
    pub revision: u64,
}

/// The answer of a delete.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted {
    /// How many keys went.
    pub deleted: u64,
    /// At which revision.
    pub revision: u64,
}

/// A page of keys.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyPage {
    /// The entries, in the order of keys.
    pub keys: Vec<Entry>,
    /// Whether there are more behind them.
    pub more: bool,
    /// What to send as `start_after` for those.
    pub next: Option<String>,
    /// How many match in all, not on the page.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}
