//! Exactly once: what was decided under an `Idempotency-Key` is told again, by any member, through every failure.

use serde_json::{Value, json};

use crate::common::{Answer, Client, Cluster, SOON, Setup, acquire, grant, machine, wait};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A call with a key.
struct Call {
    method: &'static str,
    path: String,
    key: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Call {
    fn new(
        method: &'static str,
        path: impl Into<String>,
        key: &'static str,
        body: impl ToString,
    ) -> Call {
        Call {
            method,
            path: path.into(),
            key,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    fn send(&self, client: &mut Client) -> std::io::Result<Answer> {
        let mut headers = vec![("idempotency-key", self.key)];
        if self.method == "POST" {
            headers.push(JSON);
        }
        headers.extend(
            self.headers
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        client.call(self.method, &self.path, &headers, self.body.as_bytes())
    }

    /// The first time: nothing is replayed.
    fn first(&self, client: &mut Client, status: u16) -> Answer {
        let answer = self.send(client).expect("the member answers");
        assert_eq!(
            answer.status,
            status,
            "{} {}: {}",
            self.method,
            self.path,
            answer.text()
        );
        assert_eq!(
            answer.header("idempotency-replayed"),
            None,
            "{} {}",
            self.method,
            self.path
        );
        answer
    }

    /// Again: the same decision, and said to be.
    fn again(&self, client: &mut Client, first: &Answer) -> Answer {
        let answer = self.send(client).expect("the member answers");
        assert_eq!(
            answer.header("idempotency-replayed"),
            Some("true"),
            "{} {}: {}",
            self.method,
            self.path,
            answer.text()
        );
        assert_eq!(
            answer.status,
            first.status,
            "{} {}: {}",
            self.method,
            self.path,
            answer.text()
        );
        answer
    }
}

fn client_of(cluster: &Cluster, member: usize) -> Client {
    cluster.members[member].client().persistent()
}

#[test]
fn a_repeat_at_any_member_gets_the_first_decision() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut clients: Vec<Client> = (0..3).map(|member| client_of(&cluster, member)).collect();
    let (lease, other) = (
        grant(&mut clients[0], 600_000),
        grant(&mut clients[0], 600_000),
    );
    clients[0]
        .put(&format!("/v1/keys/leased?lease={other}"), b"x")
        .expect("the member answers")
        .expect(201);

    let calls = [
        (
            Call::new("PUT", format!("/v1/keys/k?lease={lease}"), "put", "one"),
            201,
        ),
        (
            Call::new("PUT", "/v1/keys/k", "put again", "two").with("if-match", "*"),
            200,
        ),
        (
            Call::new("PUT", "/v1/keys/k", "put 412", "three").with("if-none-match", "*"),
            412,
        ),
        (
            Call::new("PUT", "/v1/keys/absent", "put absent 412", "x").with("if-match", "\"7\""),
            412,
        ),
        (
            Call::new("PUT", "/v1/keys/k", "put guard", "x")
                .with("tenure-guard", "lock=free; fence=7"),
            412,
        ),
        (
            Call::new(
                "PUT",
                format!("/v1/keys/leased?lease={lease}"),
                "put 409",
                "x",
            ),
            409,
        ),
        (
            Call::new("PUT", "/v1/keys/k?lease=0000000000000001", "put 404", "x"),
            404,
        ),
        (
            Call::new("DELETE", "/v1/keys/absent", "delete 404", ""),
            404,
        ),
        (Call::new("DELETE", "/v1/keys/k", "delete", ""), 200),
        (
            Call::new("DELETE", "/v1/keys?prefix=leased", "delete prefix", ""),
            200,
        ),
        (
            Call::new(
                "POST",
                "/v1/txn",
                "txn",
                json!({
            "if": [{ "key": "t", "field": "version", "op": "=", "value": 0 }],
            "then": [{ "put": { "key": "t", "value": "x" } }, { "delete": { "prefix": "none" } }] }),
            ),
            200,
        ),
        (
            Call::new(
                "POST",
                "/v1/txn",
                "txn else",
                json!({
            "if": [{ "key": "t", "field": "version", "op": "=", "value": 0 }],
            "else": [{ "put": { "key": "u", "value": "x" } }] }),
            ),
            200,
        ),
        (
            Call::new("DELETE", format!("/v1/leases/{lease}"), "revoke", ""),
            200,
        ),
    ];
    let firsts: Vec<Answer> = calls
        .iter()
        .map(|(call, status)| call.first(&mut clients[0], *status))
        .collect();
    // The world moves on: whatever was refused would now be allowed, and the other way round.
    for key in ["absent", "k", "leased", "none"] {
        clients[1]
            .put(&format!("/v1/keys/{key}"), b"later")
            .expect("the member answers");
    }
    clients[1]
        .delete("/v1/keys/t")
        .expect("the member answers")
        .expect(200);
    let before = clients[1]
        .get("/v1/keys/k")
        .expect("the member answers")
        .revision();
    for ((call, _), first) in calls.iter().zip(&firsts) {
        for client in &mut clients {
            let again = call.again(client, first);
            assert_eq!(again.json(), first.json(), "{} {}", call.method, call.path);
            assert_eq!(
                again.header("etag"),
                first.header("etag"),
                "{} {}",
                call.method,
                call.path
            );
        }
    }
    let after = clients[2]
        .get("/v1/keys/k")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        (after.text().as_str(), after.revision()),
        ("later", before),
        "a repeat changes nothing"
    );
}

#[test]
fn a_repeat_with_the_name_in_the_query_or_parameters_in_another_order_is_the_same_request() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = client_of(&cluster, 0);
    let first = Call::new("PUT", "/v1/keys/a/b", "k", "x").first(&mut client, 201);
    for path in ["/v1/keys/a%2Fb", "/v1/keys?name=a%2Fb"] {
        let again = Call::new("PUT", path, "k", "x").again(&mut client, &first);
        assert_eq!(again.json(), first.json());
    }
}

#[test]
fn the_same_key_with_another_request_is_a_mismatch() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    let put = || Call::new("PUT", "/v1/keys/k", "k", "x");
    let first = put().first(&mut client, 201);
    let others = [
        Call::new("PUT", "/v1/keys/other", "k", "x"),
        Call::new("PUT", "/v1/keys/k", "k", "y"),
        Call::new("DELETE", "/v1/keys/k", "k", ""),
        Call::new("POST", "/v1/txn", "k", "{}"),
        Call::new("POST", "/v1/leases", "k", r#"{"ttl_ms":5000}"#),
        put().with("if-match", "*"),
        put().with("if-none-match", "*"),
        put().with("content-type", "text/plain"),
        put().with("tenure-guard", "lock=l; fence=1"),
    ];
    for other in others {
        let answer = other.send(&mut client).expect("the member answers");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "idempotency-mismatch"),
            "{} {}: {}",
            other.method,
            other.path,
            answer.text()
        );
        assert_eq!(answer.header("idempotency-replayed"), None);
        assert!(answer.not_applied(), "{}", answer.text());
    }
    put().again(&mut client, &first);
    let got = client
        .get("/v1/keys/k")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        (got.text().as_str(), got.header("tenure-version")),
        ("x", Some("1"))
    );
}

#[test]
fn a_repeated_transaction_never_carries_values() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    client
        .put("/v1/keys/a", b"secret")
        .expect("the member answers")
        .expect(201);
    let call = Call::new(
        "POST",
        "/v1/txn",
        "k",
        json!({ "then": [
        { "get": { "key": "a" } }, { "get": { "key": "absent" } }, { "put": { "key": "b", "value": "x" } }, { "delete": { "key": "a" } } ] }),
    );
    let first = call.first(&mut client, 200);
    assert_eq!(
        first.json()["results"][0]["get"]["entry"]["value"],
        "secret"
    );
    let again = call.again(&mut client_of(&cluster, cluster.leader()), &first);
    let mut expected = first.json();
    expected["results"][0] = json!({ "get": { "key": "a", "replayed": true } });
    expected["results"][1] = json!({ "get": { "key": "absent", "replayed": true } });
    assert_eq!(again.json(), expected);
    assert!(!again.text().contains("secret"));
}

#[test]
fn a_repeat_is_not_refused_for_what_was_changed_since_it_was_decided() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    let gets: Vec<Value> = (0..10)
        .map(|n| json!({ "get": { "key": format!("large/{n}") } }))
        .collect();
    let mut then = gets.clone();
    then.push(json!({ "put": { "key": "t", "value": "v".repeat(2000) } }));
    let reads_much = Call::new("POST", "/v1/txn", "txn", json!({ "then": then }));
    let long = "v".repeat(200_000);
    let put = Call::new("PUT", "/v1/keys/k", "put", &long);
    let spaces = Call::new(
        "POST",
        "/v1/txn",
        "long body",
        format!("{{{}}}", " ".repeat(200_000)),
    );
    let calls = [(&reads_much, 200), (&put, 201), (&spaces, 200)];
    let firsts = calls.map(|(call, status)| call.first(&mut client, status));

    for n in 0..10 {
        client
            .put(&format!("/v1/keys/large/{n}"), &vec![b'x'; 900_000])
            .expect("the member answers")
            .expect(201);
    }
    let limits = json!({ "value_bytes": 1024, "request_bytes": 131_072, "txn_operations": 2 });
    let changed = client.call(
        "PATCH",
        "/v1/limits",
        &[JSON],
        limits.to_string().as_bytes(),
    );
    changed.expect("the member answers").expect(200);
    for member in 0..3 {
        let mut client = client_of(&cluster, member);
        for ((call, _), first) in calls.iter().zip(&firsts) {
            call.again(&mut client, first);
        }
    }
    // Under a key that decided nothing, the same is too large.
    for (call, _) in calls {
        let fresh = Call::new(call.method, call.path.clone(), "fresh", &call.body);
        let refused = fresh.send(&mut client).expect("the member answers");
        assert_eq!(
            (refused.status, refused.not_applied()),
            (413, true),
            "{}",
            refused.text()
        );
    }
}

#[test]
fn a_repeated_break_or_change_is_audited_as_a_repeat() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = client_of(&cluster, 0);
    let lease = grant(&mut client, 600_000);
    let fence = acquire(&mut client, "l", &lease);
    let path = format!("/v1/locks/l?break=true&fence={fence}&reason=stuck");
    let broken = Call::new("DELETE", path, "break", "");
    let compacted = Call::new("POST", "/v1/compact", "compact", r#"{"revision":1}"#);
    for (call, told) in [
        (broken, "breaks a hold"),
        (compacted, "changes the cluster"),
    ] {
        let first = call.first(&mut client, 200);
        call.again(&mut client, &first);
        let output = cluster.members[0].output();
        let lines: Vec<&str> = output.lines().filter(|line| line.contains(told)).collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("replayed=false"), "{}", lines[0]);
        assert!(lines[1].contains("replayed=true"), "{}", lines[1]);
    }
}

#[test]
fn what_ages_is_of_the_present_in_a_repeat() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    let grant = Call::new(
        "POST",
        "/v1/leases",
        "grant",
        r#"{"ttl_ms":600000,"name":"worker"}"#,
    );
    let first = grant.first(&mut client, 201);
    let lease = first.str("lease");
    client
        .put(&format!("/v1/keys/k?lease={lease}"), b"x")
        .expect("the member answers")
        .expect(201);
    let again = grant.again(&mut client, &first);
    assert_eq!(
        (again.str("lease"), again.u64("attached_count")),
        (lease.clone(), 1),
        "the lease as it is now"
    );
    assert!(again.u64("remaining_ms") <= first.u64("remaining_ms"));
    client
        .delete(&format!("/v1/leases/{lease}"))
        .expect("the member answers")
        .expect(200);
    let ended = grant.send(&mut client).expect("the member answers");
    assert_eq!(
        (ended.status, ended.code().as_str()),
        (410, "lease-expired"),
        "{}",
        ended.text()
    );
    assert_eq!(ended.header("idempotency-replayed"), Some("true"));
}

#[test]
fn an_acquire_that_grants_its_lease_asks_again_with_that_lease() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    let call = Call::new("POST", "/v1/locks/l", "acquire", r#"{"ttl_ms":600000}"#);
    let first = call.first(&mut client, 200);
    let again = call.again(&mut client, &first);
    assert_eq!(
        (again.str("lease"), again.u64("fence")),
        (first.str("lease"), first.u64("fence"))
    );
    let lease = first.str("lease");
    client
        .delete(&format!("/v1/leases/{lease}"))
        .expect("the member answers")
        .expect(200);
    let ended = call.send(&mut client).expect("the member answers");
    assert_eq!(
        (ended.status, ended.code().as_str()),
        (410, "lease-expired"),
        "a replay revives no lock: {}",
        ended.text()
    );
    let free = client
        .get("/v1/locks/l")
        .expect("the member answers")
        .expect(200);
    assert_eq!(free.u64("holder_count"), 0);
}

#[test]
fn calls_that_are_idempotent_by_who_asks_take_a_key_and_record_nothing() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    let lease = grant(&mut client, 600_000);
    let acquire_call = || Call::new("POST", "/v1/locks/l", "same", json!({ "lease": lease }));
    let held = acquire_call().first(&mut client, 200);
    let release = || {
        Call::new(
            "DELETE",
            format!("/v1/locks/l?lease={lease}&fence={}", held.u64("fence")),
            "same",
            "",
        )
    };
    Call::new("POST", format!("/v1/leases/{lease}/renew"), "same", "").first(&mut client, 200);
    release().first(&mut client, 200);
    release().first(&mut client, 404);
    let held_again = acquire_call().first(&mut client, 200);
    assert!(
        held_again.u64("fence") > held.u64("fence"),
        "the answer is of the present state"
    );
    // Reads take any key, which means nothing to them.
    Call::new("GET", "/v1/locks/l", "same", "").first(&mut client, 200);
}

#[test]
fn what_administrators_and_leaders_do_is_recorded_too() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut clients: Vec<Client> = (0..3).map(|member| client_of(&cluster, member)).collect();
    let (lease, other) = (
        grant(&mut clients[0], 600_000),
        grant(&mut clients[0], 600_000),
    );
    let campaign = |lease: &str, candidate: &str| json!({ "lease": lease, "candidate": candidate, "value": "v", "wait_ms": 600_000, "poll_ms": 0 });
    let fence = clients[0]
        .post("/v1/elections/e", &campaign(&lease, "a"))
        .expect("the member answers")
        .expect(200)
        .u64("fence");
    clients[0]
        .post("/v1/elections/e", &campaign(&other, "b"))
        .expect("the member answers")
        .expect(202);
    let held = acquire(&mut clients[0], "l", &lease);
    let revision = clients[0]
        .put("/v1/keys/k", b"x")
        .expect("the member answers")
        .u64("revision");
    let json = |call: Call| call.with("content-type", "application/json");
    let calls = [
        json(Call::new(
            "PUT",
            "/v1/elections/e",
            "proclaim",
            json!({ "lease": lease, "candidate": "a", "fence": fence, "value": "w" }),
        )),
        json(Call::new(
            "PATCH",
            "/v1/elections/e",
            "hand over",
            json!({ "lease": lease, "candidate": "a", "fence": fence, "handover_to": "b" }),
        )),
        Call::new(
            "DELETE",
            format!("/v1/locks/l?break=true&fence={held}&reason=test"),
            "break",
            "",
        ),
        json(Call::new(
            "PATCH",
            "/v1/limits",
            "limits",
            json!({ "txn_operations": 64 }),
        )),
        Call::new(
            "POST",
            "/v1/compact",
            "compact",
            json!({ "revision": revision }),
        ),
    ];
    let firsts: Vec<Answer> = calls
        .iter()
        .map(|call| call.first(&mut clients[0], 200))
        .collect();
    let changes = json!({ "txn_operations": 128 }).to_string();
    clients[1]
        .call("PATCH", "/v1/limits", &[JSON], changes.as_bytes())
        .expect("the member answers")
        .expect(200);
    let before = clients[1]
        .get("/v1/keys/k")
        .expect("the member answers")
        .revision();
    for (call, first) in calls.iter().zip(&firsts) {
        for client in &mut clients {
            let again = call.again(client, first);
            assert_eq!(
                again.json()["revision"],
                first.json()["revision"],
                "{} {}",
                call.method,
                call.path
            );
        }
    }
    let limits = clients[2]
        .get("/v1/limits")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        (
            limits.json()["limits"]["txn_operations"].as_u64(),
            limits.revision()
        ),
        (Some(128), before),
        "a repeat changes nothing"
    );
}

#[test]
fn a_decision_is_kept_for_the_retention_and_calls_with_a_key_are_refused_when_records_are_full() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = client_of(&cluster, cluster.follower());
    let limits = json!({ "idempotency_retention_ms": 1_000, "idempotency_records": 1 }).to_string();
    client
        .call("PATCH", "/v1/limits", &[JSON], limits.as_bytes())
        .expect("the member answers")
        .expect(200);
    let call = Call::new("PUT", "/v1/keys/k", "k", "x");
    call.first(&mut client, 201);
    let other = Call::new("PUT", "/v1/keys/other", "other", "x");
    let full = other.send(&mut client).expect("the member answers");
    // A machine that was busy for a second may have forgotten the record by now.
    if full.status != 201 {
        assert_eq!(
            (full.status, full.code().as_str()),
            (429, "quota-exceeded"),
            "{}",
            full.text()
        );
        assert!(
            full.text().contains("idempotency_records"),
            "{}",
            full.text()
        );
        assert!(full.not_applied());
        client
            .put("/v1/keys/keyless", b"x")
            .expect("the member answers")
            .expect(201);
    }
    // The clock of the cluster runs with its log: when it has passed the retention, the request is a new one.
    wait::until("the record is forgotten", SOON, || {
        let answer = other.send(&mut client).ok()?;
        (answer.status < 300 && answer.header("idempotency-replayed").is_none()).then_some(())
    });
}

#[test]
fn a_key_that_is_none_is_refused() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = client_of(&cluster, 0);
    let long = "k".repeat(129);
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("idempotency-key", "")], "has 0 bytes"),
        (&[("idempotency-key", &long)], "has 129 bytes"),
        (&[("idempotency-key", "é")], "other characters"),
        (
            &[("idempotency-key", "a"), ("idempotency-key", "a")],
            "more than once",
        ),
    ];
    for (headers, named) in cases {
        let answer = client
            .call("PUT", "/v1/keys/k", headers, b"x")
            .expect("the member answers");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "invalid-request")
        );
        assert!(answer.text().contains(named), "{}", answer.text());
    }
    assert_eq!(
        client.get("/v1/keys/k").expect("the member answers").status,
        404
    );
    let fine = "k".repeat(128);
    client
        .call("PUT", "/v1/keys/k", &[("idempotency-key", &fine)], b"x")
        .expect("the member answers")
        .expect(201);
}

#[test]
fn a_repeat_survives_the_leader_and_a_restart_of_all() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut client = client_of(&cluster, follower);
    let lease = grant(&mut client, 600_000);
    let fence = acquire(&mut client, "l", &lease);
    let put = Call::new("PUT", "/v1/keys/k", "put", "x")
        .with("tenure-guard", format!("lock=l; fence={fence}"));
    let missing = Call::new("DELETE", "/v1/keys/absent", "delete", "");
    let counts = Call::new(
        "POST",
        "/v1/txn",
        "txn",
        json!({ "then": [{ "put": { "key": "n", "value": "1" } }, { "get": { "key": "n" } }] }),
    );
    let grants = Call::new("POST", "/v1/leases", "grant", r#"{"ttl_ms":600000}"#);
    let first_put = put.first(&mut client, 201);
    let first_missing = missing.first(&mut client, 404);
    let first_counts = counts.first(&mut client, 200);
    let first_grant = grants.first(&mut client, 201);
    client
        .put("/v1/keys/absent", b"x")
        .expect("the member answers")
        .expect(201);
    let mut replayed_counts = first_counts.json();
    replayed_counts["results"][1] = json!({ "get": { "key": "n", "replayed": true } });
    let check = |members: &[usize]| {
        for member in members {
            let mut client = client_of(&cluster, *member);
            assert_eq!(put.again(&mut client, &first_put).json(), first_put.json());
            assert_eq!(
                missing.again(&mut client, &first_missing).json(),
                first_missing.json()
            );
            assert_eq!(
                counts.again(&mut client, &first_counts).json(),
                replayed_counts
            );
            assert_eq!(
                grants.again(&mut client, &first_grant).str("lease"),
                first_grant.str("lease")
            );
        }
    };
    cluster.members[leader].kill();
    let new_leader = cluster.new_leader(Some(leader));
    cluster.wait_until_ready();
    let left: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    assert!(left.contains(&new_leader));
    check(&left);

    cluster.kill_all();
    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    check(&[0, 1, 2]);
    let version = client_of(&cluster, 0)
        .get("/v1/keys/n")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        version.header("tenure-version"),
        Some("1"),
        "it was put once"
    );
    let kept = client_of(&cluster, 1)
        .get("/v1/keys/absent")
        .expect("the member answers")
        .expect(200);
    assert_eq!(kept.text(), "x", "a repeated delete deletes nothing");
    cluster.wait_until_equal();
}

/// Whoever is answered `unknown`, or not at all, asks again with the same key and is told what became of it.
#[test]
fn a_write_whose_answer_was_lost_is_applied_once_however_often_it_is_sent() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut counted = 0;
    for round in 0..5 {
        let leader = cluster.leader();
        let key: &'static str = ["a", "b", "c", "d", "e"][round];
        let counter = |value: &str| json!({ "then": [{ "put": { "key": format!("once/{key}"), "value": value } }] });
        let call = Call::new("POST", "/v1/txn", key, counter("x"));
        // Sent to the leader, which is killed at once: the answer may have been lost on either side of the commit.
        let mut client = client_of(&cluster, leader);
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| call.send(&mut client).map(|answer| answer.status));
            cluster.members[leader].kill();
            let _ = sent.join();
        });
        cluster.new_leader(Some(leader));
        for _ in 0..3 {
            let answer = cluster.persist("the repeat is decided", |client| call.send(client));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        cluster.members[leader].start();
        cluster.wait_until_ready();
        let read = cluster.persist("the key is read", |client| {
            client.get(&format!("/v1/keys/once/{key}"))
        });
        assert_eq!(
            read.header("tenure-version"),
            Some("1"),
            "round {round}: it was applied once"
        );
        counted += 1;
    }
    assert_eq!(counted, 5);
    let page: Value = cluster
        .persist("the keys are read", |client| {
            client.get("/v1/keys?prefix=once/")
        })
        .json();
    assert_eq!(page["count"], 5);
}
