//! Transactions on keys (`api.md` §6).
//!
//! Owns the way from a transaction as it is written to the command, and back. What is wrong with one is named by its
//! path in the body, before anything is proposed.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::Value;
use tenure_api::{self as api, Code, Encoding, MAX_REVISION};
use tenure_state::{
    Answer, Command, Compare, Condition, Fence, Field, Guard, Kind, LeaseId, Limits, Operation,
    OperationResult, Put, State, Transaction, prefix_end,
};

use super::failure::{Failure, Purpose};
use super::guard;
use super::keys;
use super::reply::Reply;
use super::service::Context;
use super::text;

/// How many bytes of values the gets of one transaction may answer: as much as a snapshot of a watch. An answer is held
/// in memory as a whole, and a small request could otherwise ask for a hundred of the largest values.
const ANSWER_BYTES: u64 = 8 << 20;

/// `POST /v1/txn`
pub(super) async fn transact(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    if cx.headers.contains_key(IF_MATCH) || cx.headers.contains_key(IF_NONE_MATCH) {
        return Err(Failure::invalid(
            "If-Match and If-None-Match do not apply to a transaction; its conditions stand in `if`",
        ));
    }
    let guard = guard::of(cx.headers)?;
    let asked: api::Transact = cx.json().await?;
    let limits = cx.handle().read(|state| state.limits().clone());
    let fits = match understood(&asked, guard.clone(), &limits) {
        Ok(transaction) => fitting(&cx, transaction).await?,
        Err(failure) => Err(failure),
    };
    let command = match fits {
        // A repeat fitted when it was decided, and its answer has no values.
        Err(failure) if failure.code == Code::TooLarge && cx.is_decided().await? => {
            Command::Transaction(understood(&asked, guard, &Limits::most())?)
        }
        fits => fits?,
    };
    let decided = cx.submit(command, Purpose::Write).await?;
    match decided.outcome {
        Ok(Answer::Transaction {
            succeeded,
            results,
            revision,
        }) => {
            let branch = if succeeded {
                &asked.then
            } else {
                &asked.otherwise
            };
            let answer = api::Transacted {
                succeeded,
                results: shown(branch, &results, decided.replayed)?,
                revision: revision.0,
            };
            Reply::json(200, revision, &answer)
        }
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

/// The command of a transaction whose answer is not too large.
///
/// # Errors
///
/// What is missing for it: whoever may not read a key is not told how large its value is.
async fn fitting(
    cx: &Context<'_>,
    transaction: Transaction,
) -> Result<Result<Command, Failure>, Failure> {
    let command = Command::Transaction(transaction);
    cx.may_submit(&command).await?;
    let Command::Transaction(transaction) = &command else {
        return Ok(Ok(command));
    };
    let fits = cx.handle().read(|state| check_answer(transaction, state));
    Ok(fits.map(|()| command))
}

/// A transaction as a command.
fn understood(
    asked: &api::Transact,
    guard: Option<Guard>,
    limits: &Limits,
) -> Result<Transaction, Failure> {
    check_count(
        "txn_conditions",
        limits.txn_conditions,
        asked.conditions.len(),
    )?;
    let mut conditions = Vec::with_capacity(asked.conditions.len());
    for (index, asked) in asked.conditions.iter().enumerate() {
        conditions
            .push(condition(asked).map_err(|failure| failure.in_body(&format!("if[{index}]")))?);
    }
    // As with If-Match: who puts a condition on a key knows what it hangs on.
    let known: BTreeSet<&str> = asked
        .conditions
        .iter()
        .filter_map(|condition| condition.key.as_deref())
        .collect();
    Ok(Transaction {
        conditions,
        then: branch("then", &asked.then, &known, limits)?,
        otherwise: branch("else", &asked.otherwise, &known, limits)?,
        guard,
    })
}

fn check_count(limit: &str, allowed: u64, asked: usize) -> Result<(), Failure> {
    let asked = asked as u64;
    match asked <= allowed {
        true => Ok(()),
        false => Err(Failure::too_large(limit, allowed, Some(asked))),
    }
}

fn condition(asked: &api::Condition) -> Result<Condition, Failure> {
    let holds = [
        (Kind::Lock, "lock", &asked.lock),
        (Kind::Semaphore, "semaphore", &asked.semaphore),
        (Kind::Election, "election", &asked.election),
    ];
    let mut holds = holds
        .into_iter()
        .filter_map(|(kind, field, name)| Some((kind, field, name.as_ref()?)));
    match (&asked.key, holds.next(), &asked.lease) {
        (Some(key), None, None) => {
            only(asked, &["key", "field", "op", "value", "encoding"])?;
            comparison(asked, key)
        }
        (None, Some((kind, field, name)), None) => {
            only(asked, &[field, "fence"])?;
            let name = text::valid_name(name.clone()).map_err(|failure| failure.in_body(field))?;
            let fence = asked.fence.ok_or_else(|| {
                Failure::invalid(format!("a condition on `{field}` needs `fence`"))
            })?;
            if !(1..MAX_REVISION).contains(&fence) {
                let detail = format!(
                    "{fence} is no fence; accepted are 1 to {}",
                    MAX_REVISION - 1
                );
                return Err(Failure::invalid(detail).in_body("fence"));
            }
            Ok(Condition::Held(Guard {
                kind,
                name,
                fence: Fence(fence),
            }))
        }
        (None, None, Some(lease)) => {
            only(asked, &["lease"])?;
            let lease = text::lease(lease).map_err(|failure| failure.in_body("lease"))?;
            Ok(Condition::LeaseLive(lease))
        }
        (None, None, None) => Err(Failure::invalid(
            "a condition has `key`, `lock`, `semaphore`, `election` or `lease`",
        )),
        _ => Err(Failure::invalid(
            "a condition has one of `key`, `lock`, `semaphore`, `election` and `lease`; this has several",
        )),
    }
}

/// Refuses fields that do not belong to a condition of this kind: they would be read by nobody.
fn only(asked: &api::Condition, fields: &[&str]) -> Result<(), Failure> {
    let given = [
        ("key", asked.key.is_some()),
        ("field", asked.field.is_some()),
        ("op", asked.op.is_some()),
        ("value", asked.value.is_some()),
        ("encoding", asked.encoding.is_some()),
        ("lock", asked.lock.is_some()),
        ("semaphore", asked.semaphore.is_some()),
        ("election", asked.election.is_some()),
        ("fence", asked.fence.is_some()),
        ("lease", asked.lease.is_some()),
    ];
    let other = given
        .iter()
        .find(|(field, given)| *given && !fields.contains(field));
    match other {
        None => Ok(()),
        Some((other, _)) => Err(Failure::invalid(format!(
            "a condition on `{}` does not have `{other}`",
            fields[0]
        ))),
    }
}

fn comparison(asked: &api::Condition, key: &str) -> Result<Condition, Failure> {
    let missing = |field: &str| Failure::invalid(format!("a condition on `key` needs `{field}`"));
    let field = asked.field.ok_or_else(|| missing("field"))?;
    let compare = asked.op.ok_or_else(|| missing("op"))?;
    let value = asked.value.as_ref().ok_or_else(|| missing("value"))?;
    if asked.encoding.is_some() && field != api::Field::Value {
        return Err(Failure::invalid(
            "`encoding` belongs to the field `value` only",
        ));
    }
    let equality = matches!(compare, api::Compare::Equal | api::Compare::NotEqual);
    if field == api::Field::Lease && !equality {
        let detail = "`op` is `<` or `>`; accepted for a `lease` are `=` and `!=`";
        return Err(Failure::invalid(detail));
    }
    let field = match field {
        api::Field::Value => Field::Value(
            decoded(string(value)?, asked.encoding).map_err(|failure| failure.in_body("value"))?,
        ),
        api::Field::Version => Field::Version(number(value)?),
        api::Field::CreateRevision => Field::CreateRevision(number(value)?),
        api::Field::ModRevision => Field::ModRevision(number(value)?),
        api::Field::Lease => Field::Lease(match value {
            Value::Null => None,
            value => Some(text::lease(string(value)?).map_err(|failure| failure.in_body("value"))?),
        }),
    };
    Ok(Condition::Key {
        key: name(key)?,
        field,
        compare: match compare {
            api::Compare::Equal => Compare::Equal,
            api::Compare::NotEqual => Compare::NotEqual,
            api::Compare::Less => Compare::Less,
            api::Compare::Greater => Compare::Greater,
        },
    })
}

fn string(value: &Value) -> Result<&str, Failure> {
    value.as_str().ok_or_else(|| {
        let given = text::shown(&value.to_string());
        Failure::invalid(format!(
            "it is {given}; accepted is a string, or `null` for a lease"
        ))
        .in_body("value")
    })
}

fn number(value: &Value) -> Result<u64, Failure> {
    value
        .as_u64()
        .filter(|number| *number < MAX_REVISION)
        .ok_or_else(|| {
            let given = text::shown(&value.to_string());
            let most = MAX_REVISION - 1;
            Failure::invalid(format!(
                "it is {given}; accepted are whole numbers from 0 to {most}"
            ))
            .in_body("value")
        })
}

fn name(key: &str) -> Result<Bytes, Failure> {
    text::valid_name(key.to_owned())
        .map(Bytes::from)
        .map_err(|failure| failure.in_body("key"))
}

/// The bytes of a value in JSON.
fn decoded(value: &str, encoding: Option<Encoding>) -> Result<Bytes, Failure> {
    match encoding.unwrap_or(Encoding::Utf8) {
        Encoding::Utf8 => Ok(Bytes::copy_from_slice(value.as_bytes())),
        Encoding::Base64 => BASE64.decode(value).map(Bytes::from).map_err(|error| {
            let error = error.to_string().to_lowercase();
            Failure::invalid(format!(
                "not base64 with padding (RFC 4648 §4): {}",
                error.trim_end_matches('.')
            ))
        }),
    }
}

/// One of the two lists of operations.
fn branch(
    branch: &str,
    asked: &[api::Operation],
    known: &BTreeSet<&str>,
    limits: &Limits,
) -> Result<Vec<Operation>, Failure> {
    check_count("txn_operations", limits.txn_operations, asked.len())?;
    let mut operations = Vec::with_capacity(asked.len());
    for (index, asked) in asked.iter().enumerate() {
        let place = |word: &str| format!("{branch}[{index}].{word}");
        let operation = match asked {
            api::Operation::Put(asked) => {
                put(asked, known, limits).map_err(|failure| failure.in_body(&place("put")))
            }
            api::Operation::Delete(asked) => {
                delete(asked).map_err(|failure| failure.in_body(&place("delete")))
            }
            api::Operation::Get(asked) => name(&asked.key)
                .map(|key| Operation::Get { key })
                .map_err(|failure| failure.in_body(&place("get"))),
        };
        operations.push(operation?);
    }
    check_written_once(branch, asked)?;
    Ok(operations)
}

fn put(asked: &api::PutKey, known: &BTreeSet<&str>, limits: &Limits) -> Result<Operation, Failure> {
    let value =
        decoded(&asked.value, asked.encoding).map_err(|failure| failure.in_body("value"))?;
    check_count("value_bytes", limits.value_bytes, value.len())
        .map_err(|failure| failure.in_body("value"))?;
    let lease = asked
        .lease
        .as_deref()
        .map(text::lease)
        .transpose()
        .map_err(|failure| failure.in_body("lease"))?;
    let content_type = asked
        .content_type
        .as_deref()
        .map(keys::kept_type)
        .transpose()
        .map_err(|failure| failure.in_body("content_type"))?
        .flatten();
    Ok(Operation::Put(Put {
        key: name(&asked.key)?,
        value,
        content_type,
        lease,
        refuse_other_lease: refuses_other_lease(lease, known.contains(asked.key.as_str())),
    }))
}

/// Whether a put is refused where the key hangs on another live lease.
fn refuses_other_lease(lease: Option<LeaseId>, is_known: bool) -> bool {
    lease.is_some() && !is_known
}

fn delete(asked: &api::DeleteKeys) -> Result<Operation, Failure> {
    match (&asked.key, &asked.prefix) {
        (Some(key), None) => Ok(Operation::Delete { key: name(key)? }),
        // Most likely a variable that was never set.
        (None, Some(prefix)) if prefix.is_empty() => Err(Failure::invalid(
            "the prefix is empty, which is every key; that takes `DELETE /v1/keys?prefix=&all=true`",
        )),
        (None, Some(prefix)) => {
            let prefix = text::prefix("prefix", prefix.clone())?;
            Ok(Operation::DeleteRange {
                start: Bytes::copy_from_slice(prefix.as_bytes()),
                end: prefix_end(prefix.as_bytes()),
            })
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(Failure::invalid("one of `key` and `prefix` is expected"))
        }
    }
}

/// A key may be written once. Apply refuses more, too; here the place is still known.
fn check_written_once(branch: &str, operations: &[api::Operation]) -> Result<(), Failure> {
    let mut put = BTreeSet::new();
    for (index, operation) in operations.iter().enumerate() {
        let api::Operation::Put(operation) = operation else {
            continue;
        };
        if !put.insert(operation.key.as_str()) {
            let key = text::shown(&operation.key);
            let failure = Failure::invalid(format!("{key} is put twice; a key is written once"));
            return Err(failure.in_body(&format!("{branch}[{index}].put")));
        }
    }
    for (index, operation) in operations.iter().enumerate() {
        let api::Operation::Delete(deleted) = operation else {
            continue;
        };
        let covers = |key: &&&str| {
            deleted.key.as_deref() == Some(**key)
                || deleted
                    .prefix
                    .as_ref()
                    .is_some_and(|prefix| key.starts_with(prefix.as_str()))
        };
        if let Some(key) = put.iter().find(covers) {
            let key = text::shown(key);
            let failure = Failure::invalid(format!(
                "{key} is put, and also deleted; a key is written once"
            ));
            return Err(failure.in_body(&format!("{branch}[{index}].delete")));
        }
    }
    Ok(())
}

/// Refuses gets whose values come to more than an answer may have. What is put meanwhile may be larger than what is seen
/// here: the bound is one of memory, not of the result.
fn check_answer(transaction: &Transaction, state: &State) -> Result<(), Failure> {
    for branch in [&transaction.then, &transaction.otherwise] {
        let gets = branch.iter().filter_map(|operation| match operation {
            Operation::Get { key } => Some(key),
            Operation::Put(_) | Operation::Delete { .. } | Operation::DeleteRange { .. } => None,
        });
        let bytes = gets
            .filter_map(|key| state.key(key))
            .map(|entry| entry.value.len() as u64)
            .sum();
        if ANSWER_BYTES < bytes {
            return Err(Failure::too_large(
                "answer_bytes",
                ANSWER_BYTES,
                Some(bytes),
            ));
        }
    }
    Ok(())
}

/// The results as they are written, each with the key that its operation names.
fn shown(
    operations: &[api::Operation],
    results: &[OperationResult],
    replayed: bool,
) -> Result<Vec<api::OperationResult>, Failure> {
    if operations.len() != results.len() {
        return Err(Failure::unexpected());
    }
    let pairs = operations.iter().zip(results);
    pairs
        .map(|(operation, result)| match (operation, result) {
            (api::Operation::Put(put), OperationResult::Put { entry, created }) => {
                Ok(api::OperationResult::Put(api::KeyPut {
                    key: put.key.clone(),
                    created: *created,
                    mod_revision: entry.mod_revision.0,
                    version: entry.version,
                }))
            }
            (api::Operation::Delete(_), OperationResult::Deleted(deleted)) => {
                Ok(api::OperationResult::Delete(api::KeysDeleted {
                    deleted: *deleted,
                }))
            }
            (api::Operation::Get(get), OperationResult::Got(_)) if replayed => {
                Ok(api::OperationResult::Get(api::KeyGot::Replayed {
                    key: get.key.clone(),
                    replayed,
                }))
            }
            (api::Operation::Get(get), OperationResult::Got(entry)) => {
                Ok(api::OperationResult::Get(api::KeyGot::Seen {
                    key: get.key.clone(),
                    entry: entry.as_ref().map(keys::shown),
                }))
            }
            _ => Err(Failure::unexpected()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tenure_state::Limits;

    fn parsed(body: Value) -> Result<Transaction, Failure> {
        let asked: api::Transact = serde_json::from_value(body).expect("the shape is right");
        understood(&asked, None, &Limits::default())
    }

    #[test]
    fn every_condition_of_the_contract_is_understood() {
        let check = |condition: Value, expected: Condition| {
            let parsed = parsed(json!({ "if": [condition.clone()] }));
            assert_eq!(
                parsed.expect("understood").conditions,
                [expected],
                "{condition}"
            );
        };
        let key = |field, compare| Condition::Key {
            key: Bytes::from_static(b"a"),
            field,
            compare,
        };
        check(
            json!({ "key": "a", "field": "value", "op": "=", "value": "x" }),
            key(Field::Value("x".into()), Compare::Equal),
        );
        check(
            json!({ "key": "a", "field": "value", "op": "<", "value": "/wA=", "encoding": "base64" }),
            key(Field::Value(Bytes::from_static(b"\xff\x00")), Compare::Less),
        );
        check(
            json!({ "key": "a", "field": "version", "op": "!=", "value": 0 }),
            key(Field::Version(0), Compare::NotEqual),
        );
        check(
            json!({ "key": "a", "field": "create_revision", "op": ">", "value": 7 }),
            key(Field::CreateRevision(7), Compare::Greater),
        );
        check(
            json!({ "key": "a", "field": "mod_revision", "op": "=", "value": 3 }),
            key(Field::ModRevision(3), Compare::Equal),
        );
        check(
            json!({ "key": "a", "field": "lease", "op": "!=", "value": null }),
            key(Field::Lease(None), Compare::NotEqual),
        );
        check(
            json!({ "key": "a", "field": "lease", "op": "=", "value": "0000000000000001" }),
            key(Field::Lease(LeaseId::new(1)), Compare::Equal),
        );
        for (kind, field) in [
            (Kind::Lock, "lock"),
            (Kind::Semaphore, "semaphore"),
            (Kind::Election, "election"),
        ] {
            check(
                json!({ field: "jobs/nightly", "fence": 121 }),
                Condition::Held(Guard {
                    kind,
                    name: "jobs/nightly".into(),
                    fence: Fence(121),
                }),
            );
        }
        check(
            json!({ "lease": "0000000000000001" }),
            Condition::LeaseLive(LeaseId::new(1).expect("positive")),
        );
    }

    #[test]
    fn what_is_wrong_with_a_transaction_is_named_by_its_path() {
        let check = |body: Value, code: Code, expected: &str| {
            let failure = parsed(body.clone()).expect_err(expected);
            assert_eq!(failure.code, code, "{body}: {}", failure.detail);
            let problem: api::Problem =
                serde_json::from_slice(&failure.into_reply().body).expect("a problem");
            assert!(
                problem.detail.starts_with(expected),
                "{body}: {}",
                problem.detail
            );
        };
        let (invalid, name) = (Code::InvalidRequest, Code::InvalidName);
        let compares = |field: &str, op: &str, value: Value| json!({ "if": [{ "key": "a", "field": field, "op": op, "value": value }] });
        check(
            compares("lease", "<", Value::Null),
            invalid,
            "field `if[0]`: `op` is `<` or `>`; accepted for a `lease` are",
        );
        check(
            compares("lease", "=", json!("x")),
            invalid,
            "field `if[0].value`: `x` is not the id of a lease",
        );
        check(
            compares("lease", "=", json!(7)),
            invalid,
            "field `if[0].value`: it is `7`; accepted is a string",
        );
        check(
            compares("value", "=", Value::Null),
            invalid,
            "field `if[0].value`: it is `null`; accepted is a string",
        );
        for (number, shown) in [
            (json!(-1), "-1"),
            (json!(1.5), "1.5"),
            (json!("1"), "\\\"1\\\""),
            (json!(1_u64 << 53), "9007199254740992"),
        ] {
            check(
                compares("version", "=", number),
                invalid,
                &format!(
                    "field `if[0].value`: it is `{shown}`; accepted are whole numbers from 0 to 9007199254740991"
                ),
            );
        }
        check(
            json!({ "if": [{}] }),
            invalid,
            "field `if[0]`: a condition has `key`",
        );
        check(
            json!({ "if": [{ "lease": "0000000000000001" }, { "lock": "a" }] }),
            invalid,
            "field `if[1]`: a condition on `lock` needs `fence`",
        );
        check(
            json!({ "if": [{ "lock": "a", "fence": 0 }] }),
            invalid,
            "field `if[0].fence`: 0 is no fence",
        );
        check(
            json!({ "if": [{ "lock": "", "fence": 1 }] }),
            name,
            "field `if[0].lock`: the name is empty",
        );
        check(
            json!({ "if": [{ "lock": "a", "election": "a", "fence": 1 }] }),
            invalid,
            "field `if[0]`: a condition on `lock` does not have `election`",
        );
        check(
            json!({ "if": [{ "key": "a", "lease": "0000000000000001" }] }),
            invalid,
            "field `if[0]`: a condition has one of",
        );
        check(
            json!({ "if": [{ "key": "a", "field": "version", "op": "=", "value": 1, "fence": 1 }] }),
            invalid,
            "field `if[0]`: a condition on `key` does not have `fence`",
        );
        check(
            json!({ "if": [{ "key": "a", "field": "version", "op": "=" }] }),
            invalid,
            "field `if[0]`: a condition on `key` needs `value`",
        );
        check(
            json!({ "if": [{ "key": "a", "field": "version", "op": "=", "value": 1, "encoding": "utf-8" }] }),
            invalid,
            "field `if[0]`: `encoding` belongs",
        );
        let put = |key: &str| json!({ "put": { "key": key, "value": "x" } });
        check(
            json!({ "then": [put("a"), put("")] }),
            name,
            "field `then[1].put.key`: the name is empty",
        );
        check(
            json!({ "else": [{ "put": { "key": "a", "value": "%%", "encoding": "base64" } }] }),
            invalid,
            "field `else[0].put.value`: not base64",
        );
        check(
            json!({ "then": [{ "put": { "key": "a", "value": "YQ", "encoding": "base64" } }] }),
            invalid,
            "field `then[0].put.value`: not base64",
        );
        check(
            json!({ "then": [{ "put": { "key": "a", "value": "x", "lease": "x" } }] }),
            invalid,
            "field `then[0].put.lease`: `x` is not the id",
        );
        check(
            json!({ "then": [{ "put": { "key": "a", "value": "x", "content_type": "a\nb" } }] }),
            invalid,
            "field `then[0].put.content_type`: the content type",
        );
        check(
            json!({ "then": [{ "get": { "key": "a\u{0}" } }] }),
            name,
            "field `then[0].get.key`: the name `a\\0` has the control",
        );
        for deleted in [json!({}), json!({ "key": "a", "prefix": "a" })] {
            check(
                json!({ "then": [{ "delete": deleted }] }),
                invalid,
                "field `then[0].delete`: one of `key` and `prefix`",
            );
        }
        check(
            json!({ "then": [{ "delete": { "prefix": "" } }] }),
            invalid,
            "field `then[0].delete`: the prefix is empty",
        );
        check(
            json!({ "then": [put("a"), put("b"), put("a")] }),
            invalid,
            "field `then[2].put`: `a` is put twice",
        );
        check(
            json!({ "then": [{ "delete": { "key": "a" } }, put("a")] }),
            invalid,
            "field `then[0].delete`: `a` is put, and also deleted",
        );
        check(
            json!({ "else": [put("a/b"), { "delete": { "prefix": "a/" } }] }),
            invalid,
            "field `else[1].delete`: `a/b` is put, and also deleted",
        );
    }

    #[test]
    fn what_a_limit_refuses_names_it() {
        let check = |body: Value, limit: &str| {
            let failure = parsed(body).expect_err(limit);
            assert_eq!(failure.code, Code::TooLarge);
            assert!(failure.detail.contains(limit), "{}", failure.detail);
        };
        let get = json!({ "get": { "key": "a" } });
        check(json!({ "then": vec![get.clone(); 129] }), "txn_operations");
        check(json!({ "else": vec![get.clone(); 129] }), "txn_operations");
        assert!(parsed(json!({ "then": vec![get; 128] })).is_ok());
        let lives = json!({ "lease": "0000000000000001" });
        check(json!({ "if": vec![lives; 129] }), "txn_conditions");
        let large = "x".repeat((1 << 20) + 1);
        check(
            json!({ "then": [{ "put": { "key": "a", "value": large } }] }),
            "value_bytes",
        );
    }

    #[test]
    fn a_put_moves_a_key_from_another_lease_only_where_a_condition_names_it() {
        let refuses = |body: Value| match parsed(body).expect("understood").then.as_slice() {
            [Operation::Put(put)] => put.refuse_other_lease,
            other => panic!("{other:?}"),
        };
        let put = json!([{ "put": { "key": "a", "value": "x", "lease": "0000000000000001" } }]);
        assert!(refuses(json!({ "then": put })));
        let condition =
            |key: &str| json!([{ "key": key, "field": "version", "op": "=", "value": 1 }]);
        assert!(!refuses(json!({ "if": condition("a"), "then": put })));
        assert!(refuses(json!({ "if": condition("b"), "then": put })));
        assert!(!refuses(
            json!({ "then": [{ "put": { "key": "a", "value": "x" } }] })
        ));
    }
}
