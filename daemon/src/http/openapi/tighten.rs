//! What the document says beyond what the wire types can: ranges, grammars, and which fields go together.
//!
//! A field means the same wherever it stands, so most is said once for its name. What is said of requests is what the
//! handlers hold them to, by the same constants; of answers, what every answer keeps.

use serde_json::{Map, Value, json};
use tenure_api as api;
use tenure_state::Limits;

use super::operation::{LEASE_ID, NO_CONTROLS};
use crate::http::cluster::MOST_FILTER;

/// The bodies of requests and what is in them.
const REQUESTS: [&str; 26] = [
    "AcquireLock",
    "AcquireSemaphore",
    "AcquireTogether",
    "AddMember",
    "Campaign",
    "ChangeAccess",
    "ChangeLease",
    "ChangeLimits",
    "ChangeStatus",
    "Compact",
    "Condition",
    "CreateToken",
    "DeleteKeys",
    "GetKey",
    "GrantLease",
    "HandOver",
    "Operation",
    "IdentityQuota",
    "Proclaim",
    "PutIdentity",
    "PutKey",
    "PutRole",
    "RenewLeases",
    "Transact",
    "TransferLeadership",
    "WantedLock",
];
/// One part of a filter of log lines. What becomes of the audit is for the settings of a member to say.
const LOG_FILTER: &str = "((?!audit=)[A-Za-z0-9_:]+=)?(off|error|warn|info|debug|trace)";
/// `http://host:port` or `https://host:port` with a port that there is.
const MEMBER_URL: &str = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])/?$";
/// Fields of answers that are left out rather than `null`.
const LEFT_OUT: [&str; 4] = ["key_encoding", "attached", "retry_after_ms", "snapshot"];
/// Answers in which fields are left out that do not belong to what is shown.
const PARTLY: [&str; 2] = ["Attached", "Change"];
/// What even those show, though it may be `null`.
const SHOWN_ALWAYS: [&str; 2] = ["content_type", "lease"];

/// Says it all.
pub(super) fn tighten(document: &mut Value) {
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, schema) in schemas.iter_mut() {
            let is_request = REQUESTS.contains(&name.as_str()) || name == "Watch";
            each_object(schema, &mut |object| {
                fields(name, is_request, object);
                if !is_request {
                    require_what_is_there(name, object);
                }
            });
        }
        requests(schemas);
    }
    for (path, json) in [
        ("/v1/openapi.json", json!({"type": "object"})),
        ("/v1/keys/{key}", value_or_entry()),
    ] {
        document["paths"][path]["get"]["responses"]["200"]["content"][api::JSON]["schema"] = json;
    }
    exclude_the_lease_zero(document);
}

/// A value that was put as JSON is answered as JSON, too.
fn value_or_entry() -> Value {
    json!({"anyOf": [
        {"$ref": "#/components/schemas/KeyEntry"},
        {"description": "Without `entry=true`: whatever was put as `application/json`."},
    ]})
}

/// Every object that a schema describes, itself and within.
fn each_object(schema: &mut Value, told: &mut impl FnMut(&mut Map<String, Value>)) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") {
                told(object);
            }
            object
                .values_mut()
                .for_each(|value| each_object(value, told));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, told)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fields(schema: &str, is_request: bool, object: &mut Map<String, Value>) {
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties.iter_mut() {
        let Some(property) = property.as_object_mut() else {
            continue;
        };
        if let Some(Value::Object(facts)) = facts(schema, name, is_request) {
            property.extend(facts);
        }
        if property.get("default") == Some(&Value::Null) {
            property.remove("default");
        }
    }
}

/// What holds of a field by its name.
fn facts(schema: &str, field: &str, is_request: bool) -> Option<Value> {
    let most = api::MAX_REVISION - 1;
    Some(match (field, schema) {
        ("leases", "RenewLeases") => json!({
            "minItems": 1,
            "maxItems": api::MAX_RENEWED_TOGETHER,
            "items": {"type": "string", "pattern": LEASE_ID},
        }),
        ("locks", "AcquireTogether") => {
            json!({"minItems": 1, "maxItems": api::MAX_LOCKS_TOGETHER})
        }
        ("leader", "Cluster" | "Status" | "LeadershipTransferred")
        | ("id" | "replaces", "Member")
        | ("removed", "MemberRemoved")
        | ("member", "Status") => {
            json!({"pattern": "^[0-9a-f]{16}$"})
        }
        ("cluster", "Cluster" | "Status") | ("digest", "Status") => {
            json!({"pattern": "^[0-9a-f]{32}$"})
        }
        ("lease", _) => json!({"pattern": LEASE_ID}),
        ("fence" | "last_fence" | "exclusive_fence", _) => json!({"minimum": 1, "maximum": most}),
        ("revision" | "after", _) => json!({"minimum": 0, "maximum": most}),
        (name, _) if name.ends_with("_revision") => json!({"minimum": 0, "maximum": most}),
        ("ttl_ms", _) => json!({"minimum": api::MIN_TTL_MS, "maximum": api::MAX_TTL_MS}),
        ("wait_ms", "Watch") | ("poll_ms", _) => json!({"maximum": api::MAX_POLL_MS}),
        ("wait_ms", _) => json!({"maximum": api::MAX_QUEUE_WAIT_MS}),
        ("priority", _) => json!({"minimum": -api::MAX_PRIORITY, "maximum": api::MAX_PRIORITY}),
        ("lock_delay_ms", _) => json!({"maximum": api::MAX_LOCK_DELAY_MS}),
        ("position" | "version", _) if field != "version" || schema != "Status" => {
            json!({"minimum": 1})
        }
        ("permits", _) => json!({"minimum": 1, "maximum": api::MAX_PERMITS}),
        ("limit", _) => json!({"minimum": 1, "maximum": api::MAX_PERMITS}),
        ("owner" | "candidate" | "handover_to" | "lease_name", _)
        | ("name", "GrantLease" | "Lease") => {
            json!({"maxLength": api::MAX_LABEL_BYTES, "pattern": NO_CONTROLS})
        }
        ("metadata", _) => {
            let text = json!({
                "type": "string", "maxLength": api::MAX_METADATA_BYTES, "pattern": NO_CONTROLS
            });
            json!({"additionalProperties": text, "propertyNames": text})
        }
        ("name", "AddMember") => json!({
            "minLength": 1, "maxLength": api::MAX_MEMBER_NAME_BYTES, "pattern": "^[A-Za-z0-9._-]+$"
        }),
        ("peer_url" | "client_url", "AddMember") => {
            json!({"maxLength": api::MAX_URL_BYTES, "pattern": MEMBER_URL})
        }
        ("value", "Campaign" | "Proclaim") => json!({"maxLength": api::MAX_ELECTION_VALUE_BYTES}),
        ("key" | "name" | "lock" | "semaphore" | "election", _) if is_request => json!({
            "minLength": 1, "maxLength": api::MAX_NAME_BYTES, "pattern": NO_CONTROLS
        }),
        ("prefix", "DeleteKeys") => json!({
            "minLength": 1, "maxLength": api::MAX_NAME_BYTES, "pattern": NO_CONTROLS
        }),
        ("content_type", "PutKey") => json!({"maxLength": 256, "pattern": "^[\\t -~]*$"}),
        ("log_filter", "ChangeStatus") => json!({
            "maxLength": MOST_FILTER, "pattern": format!("^{LOG_FILTER}(,{LOG_FILTER})*$")
        }),
        ("role" | "identity", _) => json!({
            "minLength": 1, "maxLength": api::MAX_ACCESS_NAME_BYTES, "pattern": NO_CONTROLS
        }),
        ("roles", "PutIdentity") => json!({
            "maxItems": api::MAX_ROLES_OF_IDENTITY, "uniqueItems": true, "items": {
                "type": "string", "minLength": 1, "maxLength": api::MAX_ACCESS_NAME_BYTES, "pattern": NO_CONTROLS
            }
        }),
        ("certificate", "PutIdentity") => json!({
            "minLength": 1, "maxLength": api::MAX_CERTIFICATE_NAME_BYTES, "pattern": NO_CONTROLS
        }),
        ("leases" | "places", "IdentityQuota") => json!({"minimum": 0, "maximum": most}),
        ("requests_per_second", _) => json!({"minimum": 1, "maximum": most}),
        ("grants", "PutRole") => json!({"maxItems": api::MAX_GRANTS}),
        ("verbs", "RoleGrant") => json!({"minItems": 1}),
        ("expires_in_ms", "CreateToken") => {
            json!({"minimum": 1_000, "maximum": api::MAX_TOKEN_MS})
        }
        ("id", "Token" | "TokenCreated" | "TokenDeleted") | ("token", "WhoAmI") => {
            json!({"pattern": "^[0-9a-f]{16}$"})
        }
        ("token", "TokenCreated") => json!({"pattern": r"^[0-9a-f]{16}\.[0-9a-f]{64}$"}),
        ("status", "Problem") => json!({"minimum": 400, "maximum": 599}),
        ("type", "Problem") => json!({"pattern": "^urn:tenure:problem:[a-z-]+$"}),
        _ => return None,
    })
}

/// In an answer, what is unknown or absent is `null`; what is left out instead is never `null`.
fn require_what_is_there(schema: &str, object: &mut Map<String, Value>) {
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut always = Vec::new();
    for (name, property) in properties.iter_mut() {
        let partly = PARTLY.contains(&schema) && !SHOWN_ALWAYS.contains(&name.as_str());
        match may_be_null(property) {
            // `null` says there that the key was absent.
            true if name == "previous" => {}
            true if partly || LEFT_OUT.contains(&name.as_str()) => never_null(property),
            true => always.push(Value::from(name.as_str())),
            false => {}
        }
    }
    if always.is_empty() {
        return;
    }
    let required = object.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        always.retain(|name| !required.contains(name));
        required.append(&mut always);
    }
}

fn may_be_null(property: &Value) -> bool {
    let in_type = property["type"].as_array();
    let in_one_of = property["oneOf"].as_array();
    in_type.is_some_and(|types| types.contains(&json!("null")))
        || in_one_of.is_some_and(|choices| choices.contains(&json!({"type": "null"})))
}

fn never_null(property: &mut Value) {
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            property["type"] = only.clone();
        }
    }
    if let Some(choices) = property.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
    }
}

/// Which fields of a request go together.
fn requests(schemas: &mut Map<String, Value>) {
    for name in [
        "AcquireLock",
        "AcquireSemaphore",
        "AcquireTogether",
        "Campaign",
    ] {
        add(
            schemas,
            name,
            one_of_both("lease", "string", "ttl_ms", "integer"),
        );
    }
    add(
        schemas,
        "DeleteKeys",
        one_of_both("key", "string", "prefix", "string"),
    );
    add(
        schemas,
        "Transact",
        json!({"properties": {
            "if": {"maxItems": most_of("txn_conditions")},
            "then": {"maxItems": most_of("txn_operations")},
            "else": {"maxItems": most_of("txn_operations")},
        }}),
    );
    add(schemas, "PutKey", put());
    add(schemas, "Condition", condition());
    add(schemas, "Watch", watch());
    add(schemas, "RoleGrant", grant());
    if let Some(kinds) = schemas.get_mut("Operation") {
        for kind in kinds["oneOf"].as_array_mut().into_iter().flatten() {
            kind["additionalProperties"] = false.into();
        }
    }
    limits(schemas);
}

/// Adds to a schema what it does not say yet.
fn add(schemas: &mut Map<String, Value>, name: &str, more: Value) {
    if let (Some(schema), Value::Object(more)) = (schemas.get_mut(name), more) {
        more.into_iter()
            .for_each(|(keyword, value)| merge(&mut schema[keyword.as_str()], value));
    }
}

fn merge(present: &mut Value, more: Value) {
    match (present, more) {
        (Value::Object(present), Value::Object(more)) => more
            .into_iter()
            .for_each(|(name, value)| merge(present.entry(name).or_insert(Value::Null), value)),
        (present, more) => *present = more,
    }
}

/// Exactly one of two fields is given. One that is `null` is not given.
fn one_of_both(one: &str, one_type: &str, other: &str, other_type: &str) -> Value {
    let absent = json!({"type": "null"});
    json!({"oneOf": [
        {"required": [one], "properties": {one: {"type": one_type}, other: absent}},
        {"required": [other], "properties": {other: {"type": other_type}, one: absent}},
    ]})
}

/// Base64 with padding, whose unused bits are 0 (RFC 4648 §3.5).
const BASE64: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

fn put() -> Value {
    let in_base64 = json!({
        "required": ["encoding"],
        "properties": {
            "encoding": {"const": "base64"},
            "value": {"type": "string", "pattern": BASE64},
        },
    });
    let as_text = json!({"properties": {"encoding": {"enum": ["utf-8", null]}}});
    json!({"oneOf": [as_text, in_base64]})
}

/// On what a grant is, and that `admin` is on everything.
fn grant() -> Value {
    let collections = "(keys|locks|semaphores|elections|leases)";
    let within = |least: usize| format!(r"^{collections}/[^\x00-\x1f\x7f-\x9f]{{{least},1024}}$");
    let but_admin: Vec<&str> = tenure_state::Verb::ALL
        .iter()
        .filter(|verb| **verb != tenure_state::Verb::Admin)
        .map(|verb| verb.as_str())
        .collect();
    let but_admin = json!({"items": {"enum": but_admin}});
    let by_prefix = json!({"const": "prefix"});
    json!({"anyOf": [
        {"properties": {"resource": {"const": ""}, "match": by_prefix}},
        {"properties": {"verbs": but_admin, "resource": {"pattern": within(0)}, "match": by_prefix}},
        {"required": ["match"], "properties": {
            "verbs": but_admin, "resource": {"pattern": within(1)}, "match": {"const": "exact"},
        }},
    ]})
}

fn watch() -> Value {
    let collections = "(keys|locks|semaphores|elections)";
    let prefix = format!(r"^({collections}|leases)/[^\x00-\x1f\x7f-\x9f]{{0,1024}}$");
    let lease = LEASE_ID.trim_matches(['^', '$']);
    let whole = format!(r"^({collections}/[^\x00-\x1f\x7f-\x9f]{{1,1024}}|leases/{lease})$");
    json!({
        "properties": {
            "prefixes": {"maxItems": 1000, "items": {"pattern": prefix}},
            "resources": {"maxItems": 1000, "items": {"pattern": whole}},
        },
        "anyOf": [
            {"required": ["prefixes"], "properties": {"prefixes": {"minItems": 1}}},
            {"required": ["resources"], "properties": {"resources": {"minItems": 1}}},
        ],
        "oneOf": [
            {"properties": {"snapshot": {"const": false}}},
            {"required": ["snapshot"], "properties": {
                "snapshot": {"const": true},
                "after": {"type": "null"},
            }},
        ],
    })
}

/// The kinds of conditions. A field that is `null` is not given, but for `value`.
fn condition() -> Value {
    let of_key = ["key", "field", "op", "encoding"];
    let holds = ["lock", "semaphore", "election"];
    let all = of_key.iter().chain(&holds).chain(&["fence", "lease"]);
    let all: Vec<&str> = all.copied().collect();
    let kind = |given: Value, may_have: &[&str]| {
        let given = given.as_object().cloned().unwrap_or_default();
        let required: Vec<&String> = given.keys().collect();
        let others = all
            .iter()
            .filter(|name| !given.contains_key(**name) && !may_have.contains(name))
            .map(|name| ((*name).to_owned(), json!({"type": "null"})));
        let properties: Map<String, Value> = others.chain(given.clone()).collect();
        json!({"required": required, "properties": properties})
    };
    let without_value = |mut kind: Value| {
        kind["not"] = json!({"required": ["value"]});
        kind
    };
    let number = json!({"type": "integer", "minimum": 0, "maximum": api::MAX_REVISION - 1});
    let (text, any_op) = (
        json!({"type": "string"}),
        json!({"enum": ["=", "!=", "<", ">"]}),
    );
    let mut kinds = vec![
        kind(
            json!({"key": text, "field": {"const": "value"}, "op": any_op, "encoding": {"const": "base64"},
                "value": {"type": "string", "pattern": BASE64}}),
            &[],
        ),
        json!({"allOf": [
            kind(json!({"key": text, "field": {"const": "value"}, "op": any_op, "value": text}), &["encoding"]),
            {"properties": {"encoding": {"enum": ["utf-8", null]}}},
        ]}),
        kind(
            json!({"key": text, "field": {"enum": ["version", "create_revision", "mod_revision"]}, "op": any_op,
                "value": number}),
            &[],
        ),
        kind(
            json!({"key": text, "field": {"const": "lease"}, "op": {"enum": ["=", "!="]},
                "value": {"type": ["string", "null"], "pattern": LEASE_ID}}),
            &[],
        ),
        without_value(kind(json!({"lease": text}), &[])),
    ];
    let fence = json!({"type": "integer"});
    let holds = holds
        .iter()
        .map(|name| without_value(kind(json!({*name: text, "fence": fence}), &[])));
    kinds.extend(holds);
    json!({"oneOf": kinds})
}

/// What each limit may be: as the state machine has it. A limit that is named has a number.
fn limits(schemas: &mut Map<String, Value>) {
    for (name, least, most) in Limits::ranges() {
        if let Some(schema) = schemas.get_mut("ChangeLimits") {
            let property = &mut schema["properties"][name];
            never_null(property);
            property["minimum"] = least.into();
            property["maximum"] = most.into();
        }
    }
}

fn most_of(limit: &str) -> u64 {
    Limits::ranges()
        .find(|(name, ..)| *name == limit)
        .map_or(u64::MAX, |(_, _, most)| most)
}

/// Ids of leases are positive, which their pattern alone does not say.
fn exclude_the_lease_zero(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let zero = match object.get("pattern").and_then(Value::as_str) {
                Some(LEASE_ID) => Some("0000000000000000"),
                Some(pattern) if pattern.contains("leases/[0-7]") => {
                    Some("leases/0000000000000000")
                }
                _ => None,
            };
            if let Some(zero) = zero {
                object.insert("not".into(), json!({"const": zero}));
            }
            object.values_mut().for_each(exclude_the_lease_zero);
        }
        Value::Array(items) => items.iter_mut().for_each(exclude_the_lease_zero),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
