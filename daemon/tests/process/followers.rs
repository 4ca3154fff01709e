//! Any member serves any call.

use serde_json::{Value, json};

use crate::common::{Answer, Client, Setup, grant, machine};

/// Sends every kind of call to one member, each of which must succeed there.
fn every_call_succeeds(client: &mut Client, prefix: &str) {
    let ok = |answer: std::io::Result<Answer>, status| {
        answer.expect("the member answers").expect(status)
    };
    let lease = grant(client, 30_000);
    let other = grant(client, 30_000);
    ok(
        client.post(&format!("/v1/leases/{lease}/renew"), &Value::Null),
        200,
    );
    let lock = format!("/v1/locks/{prefix}-lock");
    let held = ok(
        client.post(&lock, &json!({ "lease": lease, "owner": "a" })),
        200,
    );
    let queued = json!({ "lease": other, "wait_ms": 20_000, "poll_ms": 0 });
    assert_eq!(ok(client.post(&lock, &queued), 202).u64("position"), 1);
    let read = ok(client.get(&lock), 200);
    assert_eq!((read.u64("holder_count"), read.u64("queue_length")), (1, 1));
    assert_eq!(
        ok(client.delete(&format!("{lock}?lease={other}")), 200).json()["left"],
        true
    );
    let fence = held.u64("fence");
    let released = ok(
        client.delete(&format!("{lock}?lease={lease}&owner=a&fence={fence}")),
        200,
    );
    assert_eq!(released.json()["released"], true);
    let own = ok(client.post(&lock, &json!({ "ttl_ms": 5_000 })), 200);
    assert_ne!(own.str("lease"), lease, "a lease of its own was granted");

    let key = format!("/v1/keys/{prefix}/key");
    let put = ok(client.put(&format!("{key}?lease={lease}"), b"one"), 201);
    let (tag, revision) = (
        format!("\"{}\"", put.u64("mod_revision")),
        put.u64("revision"),
    );
    ok(client.call("PUT", &key, &[("if-match", &tag)], b"two"), 200);
    let value = ok(client.get(&key), 200);
    assert_eq!(
        (value.text().as_str(), value.header("tenure-version")),
        ("two", Some("2"))
    );
    let head = ok(client.call("HEAD", &key, &[], b""), 200);
    assert_eq!(
        (head.body.len(), head.header("etag")),
        (0, value.header("etag"))
    );
    assert_eq!(
        ok(client.get(&format!("{key}?entry=true")), 200).str("value"),
        "two"
    );
    let second = format!("/v1/keys?name={prefix}/other");
    ok(
        client.call("PUT", &second, &[("if-none-match", "*")], b"x"),
        201,
    );
    let page = ok(
        client.get(&format!("/v1/keys?prefix={prefix}/&limit=1")),
        200,
    )
    .json();
    assert_eq!(
        (page["count"].as_u64(), page["more"].as_bool()),
        (Some(2), Some(true)),
        "{page}"
    );
    let next = page["next"].as_str().expect("there is another page");
    let rest = ok(
        client.get(&format!("/v1/keys?prefix={prefix}/&start_after={next}")),
        200,
    )
    .json();
    assert_eq!(rest["keys"].as_array().map(Vec::len), Some(1), "{rest}");
    let events = ok(
        client.get(&format!(
            "/v1/watch?prefix=keys/{prefix}/&after={}",
            revision - 1
        )),
        200,
    )
    .json();
    assert_eq!(
        events["events"].as_array().map(Vec::len),
        Some(3),
        "{events}"
    );
    assert_eq!(ok(client.delete(&key), 200).u64("deleted"), 1);
    assert_eq!(
        ok(client.get(&format!("/v1/leases/{lease}")), 200).str("lease"),
        lease
    );
    assert_eq!(
        ok(client.delete(&format!("/v1/leases/{lease}")), 200).json()["ended"],
        true
    );
    ok(client.call("OPTIONS", &key, &[], b""), 204);
    assert_eq!(ok(client.get("/livez"), 200).text().trim(), "ok");
    ok(client.get("/readyz"), 200);
}

#[test]
fn a_follower_answers_every_call() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    for (number, name) in [(follower, "follower"), (leader, "leader")] {
        every_call_succeeds(&mut cluster.members[number].client(), name);
    }
    // What both say of the cluster is the same, and names the leader.
    let told = [follower, leader].map(|number| {
        let mut client = cluster.members[number].client();
        client
            .get("/v1/cluster")
            .expect("the member answers")
            .expect(200)
    });
    let leader_status = cluster.members[leader]
        .status()
        .expect("the leader answers");
    for answer in &told {
        assert_eq!(answer.json()["leader"], leader_status["member"]);
        assert_eq!(answer.json()["members"].as_array().map(Vec::len), Some(3));
        let url = format!("http://{}", cluster.members[leader].client);
        assert_eq!(answer.header("tenure-leader"), Some(url.as_str()));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(
            answer
                .header("tenure-request-id")
                .is_some_and(|id| !id.is_empty())
        );
    }
    assert_ne!(
        told[0].header("tenure-member"),
        told[1].header("tenure-member"),
        "each says who it is"
    );
    let id = [("tenure-request-id", "my-request.1")];
    let echoed = cluster.members[follower]
        .client()
        .call("GET", "/v1/status", &id, b"")
        .expect("the member answers");
    assert_eq!(echoed.header("tenure-request-id"), Some("my-request.1"));
}

#[test]
fn a_write_at_one_member_is_read_at_every_other_at_once() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let mut clients: Vec<Client> = cluster
        .members
        .iter()
        .map(|member| member.client())
        .collect();
    for round in 0..30 {
        let value = round.to_string();
        clients[round % 3]
            .put("/v1/keys/seen", value.as_bytes())
            .expect("the member answers");
        for client in &mut clients {
            assert_eq!(
                client
                    .get("/v1/keys/seen")
                    .expect("the member answers")
                    .expect(200)
                    .text(),
                value
            );
        }
    }
}
