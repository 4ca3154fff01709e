//! Codes that only a burdened cluster answers: full, torn, or behind.
//!
//! What a quiet one answers is in the tables of `conformance`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Cluster, SOON, Setup, acquire, grant, machine, wait};
use crate::conformance::check_problem;

#[test]
fn what_is_too_large_is_refused_with_the_limit() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    let largest = vec![b'x'; 1 << 20];
    client
        .put("/v1/keys/large", &largest)
        .expect("the member answers")
        .expect(201);
    let too_large = vec![b'x'; (1 << 20) + 1];
    let refused = client
        .put("/v1/keys/larger", &too_large)
        .expect("the member answers");
    check_problem(
        "a value of 1 MiB and a byte",
        &refused,
        413,
        "too-large",
        "not_applied",
    );
    assert!(
        refused.text().contains("1048576"),
        "it names the limit: {}",
        refused.text()
    );
    let claimed = client.call(
        "PUT",
        "/v1/keys/claimed",
        &[("content-length", "3000000")],
        b"",
    );
    let claimed = claimed.expect("the member answers before the body arrives");
    check_problem(
        "a claimed length of 3 MB",
        &claimed,
        413,
        "too-large",
        "not_applied",
    );
    let mut client = cluster.members[0].client();
    let long = format!("/v1/keys/{}", "n".repeat(1025));
    let refused = client.put(&long, b"x").expect("the member answers");
    check_problem(
        "a name of 1025 bytes",
        &refused,
        400,
        "invalid-name",
        "not_applied",
    );
    client
        .put(&long[..long.len() - 1], b"x")
        .expect("the member answers")
        .expect(201);
}

#[test]
fn a_lease_carries_ten_thousand_things_and_no_more() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    let lease = grant(&mut client, 600_000);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut client = cluster.members[0].client();
                while let number @ ..10_000 = next.fetch_add(1, Ordering::SeqCst) {
                    let path = format!("/v1/keys/k{number}?lease={lease}");
                    client
                        .put(&path, b"")
                        .expect("the member answers")
                        .expect(201);
                }
            });
        }
    });
    let refused = client
        .put(&format!("/v1/keys/last?lease={lease}"), b"")
        .expect("the member answers");
    check_problem(
        "the 10001st thing",
        &refused,
        429,
        "quota-exceeded",
        "not_applied",
    );
    let ended = client
        .delete(&format!("/v1/leases/{lease}"))
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        ended.u64("ended_count"),
        10_000,
        "all of it ends at one revision"
    );
    let keys = client
        .get("/v1/keys?prefix=k")
        .expect("the member answers")
        .expect(200);
    assert_eq!(keys.u64("count"), 0);
}

#[test]
fn history_beyond_its_bytes_is_compacted_and_a_watch_from_before_is_told_so() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("limit", "history_bytes=8388608").start();
    let mut client = cluster.members[0].client();
    let value = vec![b'x'; 1 << 20];
    let told = (0..12).find_map(|_| {
        client
            .put("/v1/keys/large", &value)
            .expect("the member answers");
        let answer = client
            .get("/v1/watch?prefix=keys/absent&after=0")
            .expect("the member answers");
        (answer.status != 200).then_some(answer)
    });
    let told = told.expect("history is bounded");
    check_problem(
        "a watch from the beginning",
        &told,
        410,
        "compacted",
        "not_applied",
    );
    let compacted = told.u64("compact_revision");
    let path = format!("/v1/watch?prefix=keys/absent&after={compacted}");
    client.get(&path).expect("the member answers").expect(200);
}

#[test]
fn a_write_whose_fate_is_not_learnt_is_unknown() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let mut client = cluster.members[leader].client();
    client.get("/v1/status").expect("the member answers");
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    for other in &others {
        cluster.members[*other].pause();
    }
    // The leader still believes that it leads: it proposes, and never hears that it is committed.
    let answer = client
        .put("/v1/keys/limbo", b"x")
        .expect("the member answers");
    for other in &others {
        cluster.members[*other].resume();
    }
    check_problem(
        "a write without quorum",
        &answer,
        504,
        "outcome-unknown",
        "unknown",
    );
    cluster.wait_until_ready();
    let read = cluster.persist("the key is read", |client| client.get("/v1/keys/limbo"));
    assert!([200, 404].contains(&read.status), "{}", read.text());
    cluster.wait_until_equal();
}

#[test]
fn a_member_that_lags_behind_says_so_to_a_watch_from_the_present() {
    let _machine = machine::half();
    let cluster = Setup::of(3).with_relays().start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    // Entries stall on their way to the follower while heartbeats still pass.
    cluster.relays[follower].stall_after(1 << 20);
    let mut client = cluster.members[leader].client();
    let value = vec![b'x'; 700 << 10];
    let mut revision = 0;
    for _ in 0..4 {
        revision = client
            .put("/v1/keys/large", &value)
            .expect("the member answers")
            .u64("revision");
    }
    let path = format!("/v1/watch?prefix=keys/&after={revision}&wait_ms=500");
    let answer = cluster.members[follower]
        .client()
        .get(&path)
        .expect("the member answers");
    let code = answer.code();
    assert!(
        ["lagging", "no-leader"].contains(&code.as_str()),
        "{}",
        answer.text()
    );
    check_problem(
        "a watch at a member that lags",
        &answer,
        503,
        &code,
        "not_applied",
    );
    cluster.relays[follower].heal();
    wait::until("the member has caught up", SOON, || {
        let answer = cluster.members[follower].client().get(&path).ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_lease_that_ends_ends_the_poll_of_its_waiter() {
    let _machine = machine::shared();
    let cluster: Cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let (holder, waiter) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    acquire(&mut client, "ending", &holder);
    let body = json!({ "lease": waiter, "wait_ms": 60_000, "poll_ms": 20_000 });
    let pending = cluster.members[follower]
        .client()
        .begin("POST", "/v1/locks/ending", &body)
        .expect("it is sent");
    wait::until("the waiter has its place", SOON, || {
        let lock = client.get("/v1/locks/ending").ok()?;
        (lock.u64("queue_length") == 1).then_some(())
    });
    client
        .delete(&format!("/v1/leases/{waiter}"))
        .expect("the member answers")
        .expect(200);
    let answer = pending
        .answer(Duration::from_secs(5))
        .expect("the poll ends with the lease");
    check_problem(
        "a poll whose lease has ended",
        &answer,
        410,
        "lease-expired",
        "not_applied",
    );
    let gone = client
        .get("/v1/locks/ending")
        .expect("the member answers")
        .json();
    assert_eq!(gone["queue"], Value::Array(Vec::new()));
}
