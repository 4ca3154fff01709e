//! Guards: a write of keys under `Tenure-Guard` is applied only while that fence is held by a live holder.

use serde_json::json;

use crate::common::{Answer, Client, Setup, acquire, grant, machine};

/// Each write that can be guarded, under a guard.
fn guarded_writes(client: &mut Client, guard: &str) -> Vec<(&'static str, Answer)> {
    let json = ("content-type", "application/json");
    let guard = ("tenure-guard", guard);
    let transaction = json!({ "then": [{ "put": { "key": "g/txn", "value": "x" } }] }).to_string();
    let writes: [(&str, &str, &str, &[(&str, &str)], &str); 4] = [
        ("a put", "PUT", "/v1/keys/g/put", &[guard], "x"),
        (
            "a transaction",
            "POST",
            "/v1/txn",
            &[json, guard],
            &transaction,
        ),
        ("a delete", "DELETE", "/v1/keys/g/put", &[guard], ""),
        (
            "a prefix delete",
            "DELETE",
            "/v1/keys?prefix=g/",
            &[guard],
            "",
        ),
    ];
    let answers = writes.map(|(what, method, path, headers, body)| {
        let answer = client.call(method, path, headers, body.as_bytes());
        (what, answer.expect("the member answers"))
    });
    answers.into()
}

#[test]
fn a_guarded_write_is_applied_while_its_fence_is_held_and_never_else() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client().persistent();
    let lease = grant(&mut client, 600_000);
    // A name with every character that a header could take for its own.
    let (path, name) = ("a%3B%20b%3D%25/%C3%A9", "a%3B%20b%3D%25%2F%c3%a9");
    let fence = acquire(&mut client, path, &lease);
    for (what, answer) in guarded_writes(&mut client, &format!("lock={name}; fence={fence}")) {
        assert!(
            [200, 201].contains(&answer.status),
            "{what}: {}",
            answer.text()
        );
    }
    let keep = client
        .put("/v1/keys/g/keep", b"x")
        .expect("the member answers")
        .expect(201);
    let stale = |client: &mut Client, guard: &str, present: Option<u64>| {
        for (what, answer) in guarded_writes(client, guard) {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (412, "fence-stale"),
                "{what}: {}",
                answer.text()
            );
            assert_eq!(
                answer.json()["fence"].as_u64(),
                present,
                "{what}: {}",
                answer.text()
            );
            assert!(answer.not_applied(), "{what}");
        }
    };
    stale(
        &mut client,
        &format!("lock={name}; fence={}", fence - 1),
        Some(fence),
    );
    stale(
        &mut client,
        &format!("lock={name}; fence={}", fence + 1),
        Some(fence),
    );
    stale(&mut client, &format!("lock=other; fence={fence}"), None);
    stale(
        &mut client,
        &format!("semaphore={name}; fence={fence}"),
        None,
    );
    stale(
        &mut client,
        &format!("election={name}; fence={fence}"),
        None,
    );
    // The fence is stale as soon as the lease ends, and stays so under the next holder.
    client
        .delete(&format!("/v1/leases/{lease}"))
        .expect("the member answers")
        .expect(200);
    stale(&mut client, &format!("lock={name}; fence={fence}"), None);
    let next = grant(&mut client, 600_000);
    let next_fence = acquire(&mut client, path, &next);
    assert!(next_fence > fence);
    stale(
        &mut client,
        &format!("lock={name}; fence={fence}"),
        Some(next_fence),
    );
    let kept = client
        .get("/v1/keys/g/keep")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        kept.header("tenure-mod-revision"),
        Some(keep.u64("mod_revision").to_string().as_str())
    );
    let listed = client
        .get("/v1/keys?prefix=g/")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        listed.u64("count"),
        1,
        "nothing of what was refused is there"
    );
}

#[test]
fn a_guard_is_judged_before_conditions_and_with_them() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    let lease = grant(&mut client, 600_000);
    let fence = acquire(&mut client, "l", &lease);
    let guard = format!("lock=l; fence={fence}");
    let mut put = |headers: &[(&str, &str)]| {
        client
            .call("PUT", "/v1/keys/k", headers, b"x")
            .expect("the member answers")
    };
    put(&[("tenure-guard", &guard), ("if-match", "*")]).expect(412);
    put(&[("tenure-guard", &guard), ("if-none-match", "*")]).expect(201);
    assert_eq!(
        put(&[("tenure-guard", "lock=l; fence=1"), ("if-none-match", "*")]).code(),
        "fence-stale"
    );
    assert_eq!(
        put(&[("tenure-guard", &guard), ("if-none-match", "*")]).code(),
        "condition-failed"
    );
}

#[test]
fn a_guard_is_never_ignored() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    let guard = [
        ("tenure-guard", "lock=l; fence=1"),
        ("content-type", "application/json"),
    ];
    for (method, path, body) in [
        ("GET", "/v1/keys/k", ""),
        ("HEAD", "/v1/keys/k", ""),
        ("GET", "/v1/keys?prefix=k", ""),
        ("POST", "/v1/leases", r#"{"ttl_ms":2000}"#),
        ("POST", "/v1/locks/l", r#"{"ttl_ms":2000}"#),
        ("DELETE", "/v1/locks/l?lease=0000000000000001", ""),
        ("GET", "/v1/watch?prefix=keys/", ""),
        ("GET", "/v1/status", ""),
    ] {
        let answer = client
            .call(method, path, &guard, body.as_bytes())
            .expect("the member answers");
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text());
        if method != "HEAD" {
            assert!(
                answer.text().contains("POST /v1/txn"),
                "it says where it applies: {}",
                answer.text()
            );
        }
    }
    for (guard, named) in [
        ("lock=l", "no `fence`"),
        ("fence=1", "names neither"),
        ("key=l; fence=1", "`key=l`"),
        ("lock=l; fence=1.5", "`1.5`"),
        ("lock=l, fence=1", "no `fence`"),
        ("lock=%zz; fence=1", "two hex digits"),
    ] {
        for (what, answer) in guarded_writes(&mut client, guard) {
            assert_eq!(
                answer.status,
                400,
                "{what} under {guard}: {}",
                answer.text()
            );
            assert!(
                answer.text().contains(named),
                "{what} under {guard}: {}",
                answer.text()
            );
        }
    }
    let none = client
        .get("/v1/keys?prefix=")
        .expect("the member answers")
        .expect(200);
    assert_eq!(none.u64("count"), 0);
}

#[test]
fn every_kind_of_hold_guards_and_shared_holders_each_by_their_own() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client().persistent();
    let leases = [grant(&mut client, 600_000), grant(&mut client, 600_000)];
    let mut ask = |path: &str, body: serde_json::Value| {
        let answer = client.post(path, &body).expect("the member answers");
        answer.expect(200).u64("fence")
    };
    let semaphore = ask(
        "/v1/semaphores/n",
        json!({ "lease": leases[0], "permits": 1, "limit": 2 }),
    );
    let election = ask(
        "/v1/elections/n",
        json!({ "lease": leases[0], "candidate": "a", "value": "" }),
    );
    let shared: Vec<u64> = leases
        .iter()
        .map(|lease| ask("/v1/locks/n", json!({ "lease": lease, "mode": "shared" })))
        .collect();
    let guards = [
        format!("semaphore=n; fence={semaphore}"),
        format!("election=n; fence={election}"),
        format!("lock=n; fence={}", shared[0]),
        format!("lock=n; fence={}", shared[1]),
    ];
    for guard in &guards {
        for (what, answer) in guarded_writes(&mut client, guard) {
            assert!(
                [200, 201].contains(&answer.status),
                "{what} under {guard}: {}",
                answer.text()
            );
        }
    }
    client
        .delete(&format!("/v1/leases/{}", leases[0]))
        .expect("the member answers")
        .expect(200);
    for (guard, status) in guards.iter().zip([412, 412, 412, 201]) {
        let answer = client.call("PUT", "/v1/keys/g/last", &[("tenure-guard", guard)], b"x");
        let answer = answer.expect("the member answers");
        assert_eq!(answer.status, status, "{guard}: {}", answer.text());
    }
}
