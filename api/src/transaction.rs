//! Transactions on the wire.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::key::{Encoding, Entry};

/// The body of `POST /v1/txn`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Transact {
    /// All must hold for `then`; where one does not, `else` is done.
    #[serde(default, rename = "if")]
    pub conditions: Vec<Condition>,
    /// Done in order where all conditions hold.
    #[serde(default)]
    pub then: Vec<Operation>,
    /// Done in order where one does not.
    #[serde(default, rename = "else")]
    pub otherwise: Vec<Operation>,
}

/// A condition, by the fields that it has: `key`, `field`, `op` and `value` (with `encoding`) compare a field of a key;
/// `lock`, `semaphore` or `election` with `fence` hold while a live holder has that fence; `lease` holds while it lives.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which field of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Field>,
    /// How it is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Compare>,
    /// With what: a string, a number or, for `lease`, a string or `null`.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub value: Option<Value>,
    /// How a string is written that `value` is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// A lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// A semaphore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semaphore: Option<String>,
    /// An election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<String>,
    /// The fence of a hold or a leadership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// A lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// A `null` that is there is something else than nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A field of a key that can be compared. An absent key has 0 in every number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Its value.
    Value,
    /// Puts since it was created.
    Version,
    /// The revision that created it.
    CreateRevision,
    /// The revision of its last put.
    ModRevision,
    /// The lease it hangs on.
    Lease,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Compare {
    /// Equal.
    #[serde(rename = "=")]
    Equal,
    /// Not equal.
    #[serde(rename = "!=")]
    NotEqual,
    /// Less than the given value.
    #[serde(rename = "<")]
    Less,
    /// Greater than the given value.
    #[serde(rename = ">")]
    Greater,
}

/// An operation: an object with one field, which says what is done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Sets a key.
    Put(PutKey),
    /// Deletes a key, or every key of a prefix.
    Delete(DeleteKeys),
    /// Reads a key as the operations before it left it.
    Get(GetKey),
}

// By hand, so that an object with two operations is told to have them; what is derived takes it for broken JSON.
impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Operation, D::Error> {
        struct OneField;

        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Word {
            Put,
            Delete,
            Get,
        }

        impl<'de> Visitor<'de> for OneField {
            type Value = Operation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one of `put`, `delete` and `get`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Operation, A::Error> {
                let operation = match map.next_key()? {
                    Some(Word::Put) => Operation::Put(map.next_value()?),
                    Some(Word::Delete) => Operation::Delete(map.next_value()?),
                    Some(Word::Get) => Operation::Get(map.next_value()?),
                    None => return Err(A::Error::invalid_length(0, &self)),
                };
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(operation),
                    Some(_) => Err(A::Error::invalid_length(2, &self)),
                }
            }
        }

        deserializer.deserialize_map(OneField)
    }
}

/// A key to set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutKey {
    /// Which.
    pub key: String,
    /// Its new value.
    pub value: String,
    /// How `value` is written; as text where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Kept with the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The lease it hangs on from now on; none detaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// What to delete: one of both is given.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteKeys {
    /// This key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Every key that begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// A key to read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GetKey {
    /// Which.
    pub key: String,
}

/// The answer of `POST /v1/txn`, for both branches.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transacted {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation of the branch that was done, in order.
    pub results: Vec<OperationResult>,
    /// The revision after it: a new one where it changed something.
    pub revision: u64,
}

/// The result of an operation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// Of a put.
    Put(KeyPut),
    /// Of a delete.
    Delete(KeysDeleted),
    /// Of a get.
    Get(KeyGot),
}

/// What a put made of a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyPut {
    /// Which key.
    pub key: String,
    /// Whether it was absent before.
    pub created: bool,
    /// The revision of this put.
    pub mod_revision: u64,
    /// Puts since it was created.
    pub version: u64,
}

/// What a delete did.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeysDeleted {
    /// How many keys went.
    pub deleted: u64,
}

/// What a get saw.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum KeyGot {
    /// In a repeat of a transaction that was done before: values are not kept.
    Replayed {
        /// Which key.
        key: String,
        /// Always `true`.
        replayed: bool,
    },
    /// The key as the operations before it left it.
    Seen {
        /// Which key.
        key: String,
        /// `None` where it is absent.
        entry: Option<Entry>,
    },
}
