//! Limits: read and changed by API, told when they are passed, and never in the way of what is held already. Beside them
//! what else operators ask and order: compaction, and how the cluster is while it has no leader.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Answer, Client, SOON, Setup, acquire, grant, machine, wait};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Every limit with the value that a new cluster begins with, in the order of the contract.
const LIMITS: [(&str, u64); 16] = [
    ("value_bytes", 1_048_576),
    ("request_bytes", 2_097_152),
    ("keys_per_revision", 10_000),
    ("attached_per_lease", 10_000),
    ("txn_conditions", 128),
    ("txn_operations", 128),
    ("history_retention_ms", 3_600_000),
    ("history_bytes", 268_435_456),
    ("idempotency_retention_ms", 60_000),
    ("idempotency_records", 1_000_000),
    ("keys", 10_000_000),
    ("key_bytes", 4_294_967_296),
    ("leases", 1_000_000),
    ("waiters", 100_000),
    ("watchers", 10_000),
    ("standing_bytes", 1_073_741_824),
];

fn ok(answer: io::Result<Answer>, status: u16) -> Answer {
    answer.expect("the member answers").expect(status)
}

fn patch(client: &mut Client, body: &str) -> Answer {
    client
        .call("PATCH", "/v1/limits", &[JSON], body.as_bytes())
        .expect("the member answers")
}

fn change(client: &mut Client, limits: &Value) {
    let answer = patch(client, &limits.to_string()).expect(200).json();
    for (name, value) in limits.as_object().expect("limits by name") {
        assert_eq!(&answer["limits"][name], value, "{answer}");
    }
}

/// Checks a refusal that names the limit, its value and what was asked.
fn refused(answer: io::Result<Answer>, status: u16, limit: &str, allowed: u64, asked: u64) {
    let answer = answer.expect("the member answers").expect(status);
    let code = match status {
        413 => "too-large",
        _ => "quota-exceeded",
    };
    assert_eq!(answer.code(), code, "{}", answer.text());
    assert!(answer.not_applied(), "{}", answer.text());
    assert_eq!(
        (
            answer.str("limit").as_str(),
            answer.u64("allowed"),
            answer.u64("asked")
        ),
        (limit, allowed, asked),
        "{}",
        answer.text()
    );
    let detail = answer.str("detail");
    for part in [limit.to_owned(), allowed.to_string(), asked.to_string()] {
        assert!(detail.contains(&part), "{part}: {detail}");
    }
}

#[test]
fn limits_are_read_and_changed_at_any_member() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut client = cluster.members[follower].client();
    let begun = ok(client.get("/v1/limits"), 200);
    let expected: serde_json::Map<String, Value> = LIMITS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    assert_eq!(begun.json()["limits"], Value::Object(expected));
    let text = begun.text();
    let places: Vec<Option<usize>> = LIMITS
        .iter()
        .map(|(name, _)| text.find(&format!("\"{name}\"")))
        .collect();
    assert!(places.is_sorted(), "in the order of the contract: {text}");
    assert_eq!(patch(&mut client, "{}").expect(200).json(), begun.json());

    let changed = patch(&mut client, r#"{"keys":5000,"waiters":7}"#).expect(200);
    assert_eq!(
        changed.u64("revision"),
        begun.u64("revision"),
        "a limit is no observable change"
    );
    let limits = &changed.json()["limits"];
    for (name, value) in LIMITS {
        let value = match name {
            "keys" => 5000,
            "waiters" => 7,
            _ => value,
        };
        assert_eq!(limits[name], value, "{name}");
    }
    let mut other = cluster.members[leader].client();
    assert_eq!(ok(other.get("/v1/limits"), 200).json(), changed.json());
    let local = ok(client.get("/v1/limits?consistency=local"), 200);
    assert_eq!(local.json(), changed.json());
    assert!(local.header("tenure-staleness-ms").is_some());
    let head = ok(client.call("HEAD", "/v1/limits", &[], b""), 200);
    assert!(head.body.is_empty());
    let line = wait::until("the change is audited", SOON, || {
        let output = cluster.members[follower].output();
        let line = output.lines().find(|line| line.contains("waiters 7"));
        line.map(str::to_owned)
    });
    let request = changed.header("tenure-request-id").expect("it has an id");
    for part in ["audit", "limits", "keys 5000", "done", request] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // They are in the state, and so on the disk.
    for member in &cluster.members {
        member.kill();
        member.start();
    }
    cluster.wait_until_ready();
    cluster.leader();
    let kept = cluster.persist("limits are read", |client| client.get("/v1/limits"));
    assert_eq!(kept.expect(200).json(), changed.json());
}

#[test]
fn a_limit_that_is_none_or_out_of_range_changes_nothing() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    let before = ok(client.get("/v1/limits"), 200).json();
    let check = |client: &mut Client, body: &str, names: &[&str]| {
        let answer = patch(client, body).expect(400);
        assert_eq!(answer.code(), "invalid-request", "{body}");
        assert!(answer.not_applied(), "{body}");
        let detail = answer.str("detail");
        for name in names {
            assert!(detail.contains(name), "{body}: {name}: {detail}");
        }
    };
    check(
        &mut client,
        r#"{"keys":5,"key":5}"#,
        &["`key`", "`key_bytes`", "`watchers`"],
    );
    check(
        &mut client,
        r#"{"waiters":5,"keys":0}"#,
        &["keys", "0", "1 to 1000000000"],
    );
    check(
        &mut client,
        r#"{"value_bytes":99999999}"#,
        &["value_bytes", "99999999", "1024 to 8388608"],
    );
    check(
        &mut client,
        r#"{"value_bytes":4194304}"#,
        &["value_bytes is 4194304", "request_bytes is 2097152"],
    );
    check(&mut client, r#"{"keys":"5"}"#, &["`keys`", "\"5\""]);
    check(&mut client, r#"{"keys":-5}"#, &["`keys`", "-5"]);
    check(&mut client, r#"{"keys":null}"#, &["`keys`", "null"]);
    check(&mut client, r#"{"keys":5,"keys":6}"#, &["`keys`"]);
    check(&mut client, "[]", &["not a JSON object"]);
    assert_eq!(ok(client.get("/v1/limits"), 200).json(), before);
}

#[test]
fn a_quota_that_is_passed_is_named_and_recovers_by_itself() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();

    change(&mut client, &json!({ "keys": 2 }));
    for key in ["a", "b"] {
        ok(client.put(&format!("/v1/keys/{key}"), b"1"), 201);
    }
    refused(client.put("/v1/keys/c", b"1"), 429, "keys", 2, 3);
    ok(client.put("/v1/keys/a", b"longer"), 200);
    ok(client.delete("/v1/keys/a"), 200);
    ok(client.put("/v1/keys/c", b"1"), 201);
    change(&mut client, &json!({ "keys": 1000, "key_bytes": 1 << 20 }));

    let half = vec![b'x'; 600_000];
    ok(client.put("/v1/keys/b", &half), 200);
    let asked = 2 * (1 + 600_000);
    refused(
        client.put("/v1/keys/c", &half),
        429,
        "key_bytes",
        1 << 20,
        asked,
    );
    ok(client.put("/v1/keys/b", b"short"), 200);
    ok(client.put("/v1/keys/c", &half), 200);
    change(
        &mut client,
        &json!({ "key_bytes": 4_294_967_296_u64, "leases": 2 }),
    );

    let (first, second) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    let asked = json!({ "ttl_ms": 60_000 });
    refused(client.post("/v1/leases", &asked), 429, "leases", 2, 3);
    refused(client.post("/v1/locks/free", &asked), 429, "leases", 2, 3);
    ok(
        client.post(&format!("/v1/leases/{first}/renew"), &Value::Null),
        200,
    );
    ok(client.delete(&format!("/v1/leases/{second}")), 200);
    let second = grant(&mut client, 60_000);
    change(&mut client, &json!({ "leases": 100, "waiters": 1 }));

    let fence = acquire(&mut client, "lock", &first);
    let waiting = json!({ "lease": second, "wait_ms": 60_000, "poll_ms": 0 });
    ok(client.post("/v1/locks/lock", &waiting), 202);
    ok(client.post("/v1/locks/lock", &waiting), 202);
    let third = grant(&mut client, 60_000);
    let too_many = json!({ "lease": third, "wait_ms": 60_000, "poll_ms": 0 });
    refused(
        client.post("/v1/locks/lock", &too_many),
        429,
        "waiters",
        1,
        2,
    );
    ok(
        client.delete(&format!("/v1/locks/lock?lease={second}")),
        200,
    );
    ok(client.post("/v1/locks/lock", &too_many), 202);
    ok(
        client.delete(&format!("/v1/locks/lock?lease={first}&fence={fence}")),
        200,
    );
    change(
        &mut client,
        &json!({ "waiters": 100, "attached_per_lease": 2 }),
    );

    for key in ["on/1", "on/2"] {
        ok(
            client.put(&format!("/v1/keys/{key}?lease={first}"), b""),
            201,
        );
    }
    let limit = "attached_per_lease";
    let on_lease = format!("/v1/keys/on/3?lease={first}");
    refused(client.put(&on_lease, b""), 429, limit, 2, 3);
    let lock = json!({ "lease": first });
    refused(client.post("/v1/locks/other", &lock), 429, limit, 2, 3);
    ok(client.delete("/v1/keys/on/1"), 200);
    acquire(&mut client, "other", &first);
    change(
        &mut client,
        &json!({ "attached_per_lease": 100, "idempotency_records": 1 }),
    );

    let keyed = |key: &'static str| [("idempotency-key", key)];
    let recorded = client.call("PUT", "/v1/keys/d", &keyed("one"), b"1");
    ok(recorded, 201);
    let second_record = client.call("PUT", "/v1/keys/d", &keyed("two"), b"2");
    refused(second_record, 429, "idempotency_records", 1, 2);
    ok(client.call("PUT", "/v1/keys/d", &keyed("one"), b"1"), 201);
    ok(client.put("/v1/keys/d", b"2"), 200);
    cluster.wait_until_equal();
}

#[test]
fn what_is_too_large_is_refused_by_the_limit_in_force() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    change(
        &mut client,
        &json!({ "value_bytes": 1024, "request_bytes": 131_072, "txn_operations": 2, "txn_conditions": 4,
                 "keys_per_revision": 1 }),
    );
    ok(client.put("/v1/keys/a", &[b'x'; 1024]), 201);
    refused(
        client.put("/v1/keys/b", &[b'x'; 1025]),
        413,
        "value_bytes",
        1024,
        1025,
    );
    let put = |key: &str, value: &str| json!({ "put": { "key": key, "value": value } });
    let transact = |client: &mut Client, body: Value| client.post("/v1/txn", &body);
    let large = json!({ "then": [put("b", &"x".repeat(1025))] });
    refused(transact(&mut client, large), 413, "value_bytes", 1024, 1025);
    let long = json!({ "then": [put("b", &"x".repeat(140_000))] });
    let length = long.to_string().len() as u64;
    refused(
        transact(&mut client, long),
        413,
        "request_bytes",
        131_072,
        length,
    );
    let get = json!({ "get": { "key": "a" } });
    let many = json!({ "then": [get, get, get] });
    refused(transact(&mut client, many), 413, "txn_operations", 2, 3);
    let absent = json!({ "key": "b", "field": "version", "op": "=", "value": 0 });
    let many = json!({ "if": vec![absent; 5], "then": [] });
    refused(transact(&mut client, many), 413, "txn_conditions", 4, 5);
    let two = json!({ "then": [put("b", "1"), put("c", "1")] });
    refused(transact(&mut client, two), 413, "keys_per_revision", 1, 2);
    // A lease takes what hangs on it with it, however much that is.
    let lease = grant(&mut client, 60_000);
    for key in ["on/1", "on/2", "on/3"] {
        ok(
            client.put(&format!("/v1/keys/{key}?lease={lease}"), b""),
            201,
        );
    }
    let ended = ok(client.delete(&format!("/v1/leases/{lease}")), 200);
    assert_eq!(ended.u64("ended_count"), 3);
    assert_eq!(ok(client.get("/v1/keys?prefix=on/"), 200).u64("count"), 0);
}

#[test]
fn in_a_full_cluster_everything_held_is_kept_and_can_be_given_up() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    let (holder, waiter, spare) = (
        grant(&mut client, 60_000),
        grant(&mut client, 60_000),
        grant(&mut client, 60_000),
    );
    let fence = acquire(&mut client, "lock", &holder);
    acquire(&mut client, "second", &holder);
    for key in ["a", "b", "c"] {
        ok(
            client.put(&format!("/v1/keys/{key}?lease={holder}"), b"1"),
            201,
        );
    }
    let waiting = json!({ "lease": waiter, "wait_ms": 60_000, "poll_ms": 0 });
    ok(client.post("/v1/locks/lock", &waiting), 202);
    // Far below what there is.
    let all = json!({ "keys": 1, "leases": 1, "waiters": 1, "attached_per_lease": 1, "idempotency_records": 1 });
    change(&mut client, &all);
    refused(client.put("/v1/keys/d", b"1"), 429, "keys", 1, 4);
    refused(
        client.post("/v1/leases", &json!({ "ttl_ms": 5000 })),
        429,
        "leases",
        1,
        4,
    );

    ok(
        client.post(&format!("/v1/leases/{holder}/renew"), &Value::Null),
        200,
    );
    let renewed = ok(
        client.post("/v1/leases/renew", &json!({ "leases": [holder, waiter] })),
        200,
    );
    assert_eq!(renewed.json()["results"][1]["remaining_ms"], 60_000);
    let again = ok(
        client.post("/v1/locks/lock", &json!({ "lease": holder })),
        200,
    );
    assert_eq!(again.u64("fence"), fence, "the hold is answered again");
    ok(client.post("/v1/locks/lock", &waiting), 202);
    ok(client.put(&format!("/v1/keys/a?lease={holder}"), b"2"), 200);
    ok(
        client.delete(&format!("/v1/locks/lock?lease={holder}&fence={fence}")),
        200,
    );
    let passed = ok(client.post("/v1/locks/lock", &waiting), 200);
    assert!(passed.u64("fence") > fence, "the place is granted");
    ok(client.delete("/v1/keys/b"), 200);
    ok(client.delete(&format!("/v1/leases/{holder}")), 200);
    ok(client.delete(&format!("/v1/leases/{waiter}")), 200);
    ok(client.delete(&format!("/v1/leases/{spare}")), 200);
    // All of it is gone, and there is room again.
    ok(client.put("/v1/keys/d", b"1"), 201);
    grant(&mut client, 60_000);
    cluster.wait_until_equal();
}

#[test]
fn history_is_compacted_by_hand() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    let mut revision = 0;
    for value in ["1", "2", "3"] {
        let put = client.put("/v1/keys/a", value.as_bytes());
        revision = put.expect("the member answers").u64("revision");
    }
    let compact = |client: &mut Client, revision: u64| {
        client.post("/v1/compact", &json!({ "revision": revision }))
    };
    let done = ok(compact(&mut client, revision - 1), 200);
    let expected = json!({ "compact_revision": revision - 1, "revision": revision });
    assert_eq!(done.json(), expected);
    let again = ok(compact(&mut client, 1), 200);
    assert_eq!(again.json(), expected, "what is compacted already stays so");
    let lost = ok(
        client.get(&format!("/v1/watch?prefix=keys/&after={}", revision - 2)),
        410,
    );
    assert_eq!(
        (lost.code().as_str(), lost.u64("compact_revision")),
        ("compacted", revision - 1)
    );
    let kept = ok(
        client.get(&format!("/v1/watch?prefix=keys/&after={}", revision - 1)),
        200,
    );
    assert_eq!(kept.json()["events"].as_array().map(Vec::len), Some(1));
    let ahead = ok(compact(&mut client, revision + 1), 410);
    assert_eq!(ahead.code(), "revision-ahead");
    assert!(ahead.not_applied());
    assert_eq!(ahead.u64("revision"), revision);
    ok(client.post("/v1/compact", &json!({})), 400);
    let line = wait::until("the compaction is audited", SOON, || {
        let output = cluster.members[cluster.follower()].output();
        let line = output
            .lines()
            .find(|line| line.contains("audit") && line.contains("revision-ahead"));
        line.map(str::to_owned)
    });
    assert!(line.contains("compaction"), "{line}");
}

#[test]
fn without_a_leader_a_member_tells_what_it_knows_by_itself() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let member = &cluster.members[follower];
    let mut client = member.client();
    let told = ok(client.get("/v1/cluster"), 200).json();
    let of = |answer: &Value, field: &str| -> Vec<Value> {
        let members = answer["members"].as_array().expect("members").iter();
        members.map(|member| member[field].clone()).collect()
    };
    let leads = of(&told, "state")
        .iter()
        .filter(|s| **s == "leader")
        .count();
    assert_eq!(leads, 1, "{told}");
    for field in ["match_index", "lag", "last_contact_ms"] {
        assert!(
            of(&told, field).iter().all(Value::is_u64),
            "{field}: {told}"
        );
    }
    let local = ok(client.get("/v1/cluster?consistency=local"), 200);
    assert!(local.header("tenure-staleness-ms").is_some());
    let local = local.json();
    for field in ["cluster", "leader", "term"] {
        assert_eq!(local[field], told[field]);
    }
    for field in ["id", "name", "peer_url", "client_url", "role"] {
        assert_eq!(of(&local, field), of(&told, field));
    }
    for field in ["state", "match_index", "lag", "last_contact_ms"] {
        assert!(of(&local, field).iter().all(Value::is_null), "{local}");
    }

    for (number, other) in cluster.members.iter().enumerate() {
        if number != follower {
            other.kill();
        }
    }
    wait::until("the leader is missed", SOON, || {
        member.status()?["leader"].is_null().then_some(())
    });
    let began = std::time::Instant::now();
    let answer = ok(client.get("/v1/cluster"), 503);
    assert_eq!(answer.code(), "no-leader");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let alone = ok(client.get("/v1/cluster?consistency=local"), 200).json();
    assert!(alone["leader"].is_null(), "{alone}");
    assert_eq!(of(&alone, "id"), of(&told, "id"));
    let limits = ok(client.get("/v1/limits?consistency=local"), 200).json();
    assert_eq!(limits["limits"]["keys"], 10_000_000);
    assert_eq!(ok(client.get("/v1/limits"), 503).code(), "no-leader");
    let status = ok(client.get("/v1/status"), 200).json();
    assert_eq!(
        (&status["ready"], &status["reasons"]),
        (&json!(false), &json!(["no leader"]))
    );
    for path in ["/v1/status", "/v1/cluster?consistency=local"] {
        assert!(ok(client.call("HEAD", path, &[], b""), 200).body.is_empty());
    }
}

#[test]
fn what_operators_do_is_audited_however_few_lines_are_wanted() {
    let _machine = machine::shared();
    for (filter, is_told) in [
        ("warn", true),
        ("tenured=debug", true),
        ("off", true),
        ("info,audit=off", false),
    ] {
        let cluster = Setup::of(1).with("log-filter", filter).start();
        let mut client = cluster.members[0].client();
        patch(&mut client, r#"{"keys":4321}"#).expect(200);
        let lease = grant(&mut client, 600_000);
        let fence = acquire(&mut client, "l", &lease);
        let broken = format!("/v1/locks/l?break=true&fence={fence}&reason=stuck");
        ok(client.delete(&broken), 200);
        // A line is written before its caller is answered.
        let output = cluster.members[0].output();
        let told = |part: &str| {
            output
                .lines()
                .any(|line| line.contains(" audit: ") && line.contains(part))
        };
        assert_eq!(told("keys 4321"), is_told, "{filter}: {output}");
        assert_eq!(told("\"stuck\""), is_told, "{filter}: {output}");
    }
}
