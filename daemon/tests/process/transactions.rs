//! Transactions: each sentence of `api.md` §6 and §10 on them, at a follower of three.

use serde_json::{Value, json};

use crate::common::{Answer, Client, Cluster, Setup, acquire, grant, machine};

fn follower_of_three() -> (Cluster, Client) {
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let client = cluster.members[follower].client().persistent();
    (cluster, client)
}

fn transact(client: &mut Client, body: &Value) -> Answer {
    client.post("/v1/txn", body).expect("the member answers")
}

/// Whether the conditions hold.
fn holds(client: &mut Client, conditions: &Value) -> bool {
    let answer = transact(client, &json!({ "if": conditions })).expect(200);
    assert_eq!(answer.json()["results"], json!([]));
    answer.json()["succeeded"] == true
}

#[test]
fn every_comparison_compares_what_it_says() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let lease = grant(&mut client, 600_000);
    let mut put = |path: &str, value: &[u8]| {
        let answer = client.put(path, value).expect("the member answers");
        answer.u64("mod_revision")
    };
    let created = put(&format!("/v1/keys/k?lease={lease}"), b"m");
    let changed = put(&format!("/v1/keys/k?lease={lease}"), b"m");
    put("/v1/keys/bytes", b"\xff\x00");
    let number = |field: &str, value: u64| {
        // The value is that of the field: each op against one below, the same and one above.
        let triples = [
            ("=", [false, true, false]),
            ("!=", [true, false, true]),
            ("<", [false, false, true]),
            (">", [true, false, false]),
        ];
        triples
            .into_iter()
            .flat_map(move |(op, expected)| {
                let field = field.to_owned();
                [value - 1, value, value + 1].into_iter().zip(expected).map(
                    move |(against, holds)| {
                        (
                            json!({ "key": "k", "field": field, "op": op, "value": against }),
                            holds,
                        )
                    },
                )
            })
            .collect::<Vec<_>>()
    };
    let key = |key: &str, field: &str, op: &str, value: Value| json!({ "key": key, "field": field, "op": op, "value": value });
    let base64 = |op: &str, value: &str| json!({ "key": "bytes", "field": "value", "op": op, "value": value, "encoding": "base64" });
    let mut cases = [
        number("version", 2),
        number("create_revision", created),
        number("mod_revision", changed),
    ]
    .concat();
    cases.extend([
        (key("k", "value", "=", json!("m")), true),
        (key("k", "value", "=", json!("n")), false),
        (key("k", "value", "!=", json!("n")), true),
        (key("k", "value", "<", json!("n")), true),
        (key("k", "value", "<", json!("m")), false),
        (key("k", "value", ">", json!("l")), true),
        (key("k", "value", ">", json!("mm")), false),
        (base64("=", "/wA="), true),
        (base64("=", "/wE="), false),
        (base64("<", "/wE="), true),
        (key("k", "lease", "=", json!(lease)), true),
        (key("k", "lease", "!=", json!(lease)), false),
        (key("k", "lease", "=", Value::Null), false),
        (key("bytes", "lease", "=", Value::Null), true),
        (key("bytes", "lease", "!=", json!(lease)), true),
        // An absent key has 0 in every number, no lease, and a value that is only unequal.
        (key("absent", "version", "=", json!(0)), true),
        (key("absent", "create_revision", "<", json!(1)), true),
        (key("absent", "mod_revision", ">", json!(0)), false),
        (key("absent", "value", "=", json!("")), false),
        (key("absent", "value", "<", json!("z")), false),
        (key("absent", "value", ">", json!("")), false),
        (key("absent", "value", "!=", json!("")), true),
        (key("absent", "lease", "=", Value::Null), true),
        (json!({ "lease": lease }), true),
        (json!({ "lease": "0000000000000001" }), false),
    ]);
    for (condition, expected) in cases {
        assert_eq!(
            holds(&mut client, &json!([condition.clone()])),
            expected,
            "{condition}"
        );
    }
    let all = json!([{ "lease": lease }, key("k", "version", "=", json!(2))]);
    assert!(holds(&mut client, &all));
    let one_fails = json!([{ "lease": lease }, key("k", "version", "=", json!(3))]);
    assert!(!holds(&mut client, &one_fails), "all must hold");
    assert!(holds(&mut client, &json!([])));
}

#[test]
fn a_condition_on_a_hold_holds_while_a_live_holder_has_that_fence() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let lease = grant(&mut client, 600_000);
    let fence = acquire(&mut client, "jobs/nightly", &lease);
    let held = |client: &mut Client, kind: &str, fence: u64| {
        holds(client, &json!([{ kind: "jobs/nightly", "fence": fence }]))
    };
    assert!(held(&mut client, "lock", fence));
    assert!(!held(&mut client, "lock", fence + 1));
    assert!(
        !held(&mut client, "semaphore", fence),
        "another kind of thing has its own names"
    );
    assert!(!held(&mut client, "election", fence));
    client
        .delete(&format!("/v1/leases/{lease}"))
        .expect("the member answers")
        .expect(200);
    assert!(!held(&mut client, "lock", fence), "its lease has ended");
    assert!(!holds(&mut client, &json!([{ "lease": lease }])));
}

#[test]
fn operations_run_in_order_at_one_revision_and_a_get_sees_those_before_it() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    for key in ["c/1", "c/2", "old"] {
        client
            .put(&format!("/v1/keys/{key}"), b"x")
            .expect("the member answers")
            .expect(201);
    }
    let lease = grant(&mut client, 600_000);
    let answer = transact(&mut client, &json!({
        "if": [{ "key": "a", "field": "version", "op": "=", "value": 0 }],
        "then": [
            { "get": { "key": "a" } },
            { "put": { "key": "a", "value": "/wA=", "encoding": "base64", "content_type": "image/png", "lease": lease } },
            { "get": { "key": "a" } },
            { "delete": { "key": "old" } },
            { "delete": { "key": "old" } },
            { "get": { "key": "old" } },
            { "delete": { "prefix": "c/" } },
            { "put": { "key": "old2", "value": "é", "encoding": "utf-8" } },
        ],
        "else": [{ "put": { "key": "wrong", "value": "x" } }],
    })).expect(200);
    let revision = answer.u64("revision");
    assert_eq!(
        answer.json(),
        json!({
            "succeeded": true,
            "results": [
                { "get": { "key": "a", "entry": null } },
                { "put": { "key": "a", "created": true, "mod_revision": revision, "version": 1 } },
                { "get": { "key": "a", "entry": { "key": "a", "value": "/wA=", "encoding": "base64", "content_type": "image/png",
                    "create_revision": revision, "mod_revision": revision, "version": 1, "lease": lease } } },
                { "delete": { "deleted": 1 } },
                { "delete": { "deleted": 0 } },
                { "get": { "key": "old", "entry": null } },
                { "delete": { "deleted": 2 } },
                { "put": { "key": "old2", "created": true, "mod_revision": revision, "version": 1 } },
            ],
            "revision": revision,
        })
    );
    let events = client
        .get(&format!("/v1/watch?prefix=keys/&after={}", revision - 1))
        .expect("the member answers")
        .expect(200)
        .json();
    let events: Vec<(u64, &str, &str)> = events["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| {
            (
                event["revision"].as_u64().unwrap_or(0),
                event["type"].as_str().unwrap_or(""),
                event["key"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        events,
        [
            (revision, "delete", "c/1"),
            (revision, "delete", "c/2"),
            (revision, "delete", "old"),
            (revision, "put", "a"),
            (revision, "put", "old2")
        ]
    );
    let got = client
        .get("/v1/keys/a")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        (
            got.body.as_slice(),
            got.header("content-type"),
            got.header("tenure-lease")
        ),
        (&b"\xff\x00"[..], Some("image/png"), Some(lease.as_str()))
    );

    // The other branch, the same shape. What changes nothing makes no revision.
    let answer = transact(
        &mut client,
        &json!({
            "if": [{ "key": "a", "field": "version", "op": "=", "value": 0 }],
            "then": [{ "delete": { "key": "a" } }],
            "else": [{ "get": { "key": "a" } }, { "delete": { "prefix": "c/" } }],
        }),
    )
    .expect(200);
    assert_eq!(
        (answer.json()["succeeded"].clone(), answer.u64("revision")),
        (json!(false), revision)
    );
    assert_eq!(answer.json()["results"][0]["get"]["entry"]["version"], 1);
    assert_eq!(
        answer.json()["results"][1],
        json!({ "delete": { "deleted": 0 } })
    );
    let nothing = transact(&mut client, &json!({})).expect(200);
    assert_eq!(
        nothing.json(),
        json!({ "succeeded": true, "results": [], "revision": revision })
    );
}

#[test]
fn a_transaction_that_is_refused_leaves_nothing_behind() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let (live, ended) = (grant(&mut client, 600_000), grant(&mut client, 600_000));
    client
        .delete(&format!("/v1/leases/{ended}"))
        .expect("the member answers")
        .expect(200);
    client
        .put(&format!("/v1/keys/leased?lease={live}"), b"x")
        .expect("the member answers")
        .expect(201);
    let other = grant(&mut client, 600_000);
    let before = client
        .get("/v1/keys/leased")
        .expect("the member answers")
        .revision();
    let a = json!({ "put": { "key": "a", "value": "x" } });
    let get = json!({ "get": { "key": "a" } });
    let large = "x".repeat((1 << 20) + 1);
    let cases = [
        (
            json!({ "then": [a, { "put": { "key": "b", "value": "x", "lease": ended } }] }),
            410,
            "lease-expired",
            ended.as_str(),
        ),
        (
            json!({ "then": [a, { "put": { "key": "b", "value": "x", "lease": "0000000000000001" } }] }),
            404,
            "lease-not-found",
            "0000000000000001",
        ),
        (
            json!({ "then": [a, { "put": { "key": "leased", "value": "x", "lease": other } }] }),
            409,
            "key-on-other-lease",
            live.as_str(),
        ),
        (
            json!({ "then": [a, { "put": { "key": "b", "value": "x", "vlaue": "y" } }] }),
            400,
            "invalid-request",
            "then[1].put.vlaue",
        ),
        (
            json!({ "then": [a, { "put": { "key": "b", "value": "%", "encoding": "base64" } }] }),
            400,
            "invalid-request",
            "then[1].put.value",
        ),
        (
            json!({ "then": [a, { "put": { "key": "", "value": "x" } }] }),
            400,
            "invalid-name",
            "then[1].put.key",
        ),
        (
            json!({ "then": [a, { "delete": { "prefix": "" } }] }),
            400,
            "invalid-request",
            "then[1].delete",
        ),
        (
            json!({ "then": [a, a] }),
            400,
            "invalid-request",
            "then[1].put",
        ),
        (
            json!({ "then": [a, { "delete": { "key": "a" } }] }),
            400,
            "invalid-request",
            "then[1].delete",
        ),
        (
            json!({ "then": [a, { "delete": { "prefix": "a" } }] }),
            400,
            "invalid-request",
            "then[1].delete",
        ),
        (
            json!({ "then": [a], "else": [a, { "delete": { "key": "a" } }] }),
            400,
            "invalid-request",
            "else[1].delete",
        ),
        (
            json!({ "then": [a, { "if": [] }] }),
            400,
            "invalid-request",
            "then[1].if",
        ),
        (
            json!({ "if": [{ "key": "a", "field": "lease", "op": "<", "value": null }], "then": [a] }),
            400,
            "invalid-request",
            "if[0]",
        ),
        (
            json!({ "when": [], "then": [a] }),
            400,
            "invalid-request",
            "`when`",
        ),
        (
            json!({ "then": vec![get.clone(); 129] }),
            413,
            "too-large",
            "txn_operations",
        ),
        (
            json!({ "if": vec![json!({ "lease": live }); 129], "then": [a] }),
            413,
            "too-large",
            "txn_conditions",
        ),
        (
            json!({ "then": [a, { "put": { "key": "b", "value": large } }] }),
            413,
            "too-large",
            "value_bytes",
        ),
    ];
    for (body, status, code, named) in cases {
        let answer = transact(&mut client, &body);
        let text = answer.text();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{text}"
        );
        assert!(text.contains(named), "it names {named}: {text}");
        assert!(answer.not_applied(), "{text}");
    }
    let tagged = [("content-type", "application/json"), ("if-match", "*")];
    let answer = client
        .call("POST", "/v1/txn", &tagged, b"{}")
        .expect("the member answers");
    assert_eq!(
        (answer.status, answer.text().contains("If-Match")),
        (400, true)
    );
    let absent = client.get("/v1/keys/a").expect("the member answers");
    assert_eq!(
        (absent.status, absent.revision()),
        (404, before),
        "no revision was made"
    );

    // Who says what the key is may move it.
    let moves = json!({
        "if": [{ "key": "leased", "field": "lease", "op": "=", "value": live }],
        "then": [{ "put": { "key": "leased", "value": "y", "lease": other } }],
    });
    assert_eq!(
        transact(&mut client, &moves).expect(200).json()["succeeded"],
        true
    );
}

#[test]
fn gets_whose_values_are_too_large_for_one_answer_are_refused_before_anything_is_done() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    client
        .put("/v1/keys/large", &vec![b'x'; 1 << 20])
        .expect("the member answers")
        .expect(201);
    let gets = |count| json!({ "then": vec![json!({ "get": { "key": "large" } }); count] });
    transact(&mut client, &gets(8)).expect(200);
    let answer = transact(&mut client, &gets(9)).expect(413);
    assert_eq!(
        (answer.code().as_str(), answer.str("limit").as_str()),
        ("too-large", "answer_bytes")
    );
}
