//! The graceful end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{SOON, Setup, acquire, grant, machine, wait};

#[test]
fn a_leader_told_to_stop_hands_over_keeps_places_and_exits_cleanly() {
    let _machine = machine::alone();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let mut client = cluster.members[leader].client();
    let (holder, waiter) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    acquire(&mut client, "kept", &holder);
    let sender = cluster.members[leader].client();
    let body = json!({ "lease": waiter, "wait_ms": 60_000, "poll_ms": 20_000 });
    let queued = sender
        .begin("POST", "/v1/locks/kept", &body)
        .expect("it is sent");
    wait::until("the waiter has its place", SOON, || {
        let lock = client.get("/v1/locks/kept").ok()?;
        (lock.u64("queue_length") == 1).then_some(())
    });
    let watch = sender
        .begin("GET", "/v1/watch?prefix=keys/&wait_ms=20000", &Value::Null)
        .expect("it is sent");
    client
        .get("/v1/status")
        .expect("the member answers")
        .expect(200);

    let told = Instant::now();
    cluster.members[leader].signal(Signal::TERM);
    let queued = queued
        .answer(Duration::from_secs(10))
        .expect("the poll is answered")
        .expect(202);
    assert_eq!(queued.u64("position"), 1);
    let watch = watch
        .answer(Duration::from_secs(10))
        .expect("the watch is answered");
    let ended = watch.status == 200 && watch.json()["events"] == json!([]);
    assert!(ended || watch.code() == "shutting-down", "{}", watch.text());
    // What asks while it stops is refused with a code, or no longer heard.
    if let Ok(late) = client.put("/v1/keys/late", b"x") {
        let codes = ["shutting-down", "no-leader"];
        assert!(
            late.status < 300 || codes.contains(&late.code().as_str()),
            "{}",
            late.text()
        );
    }
    assert_eq!(
        cluster.members[leader].exit_code(Duration::from_secs(10)),
        0
    );
    assert!(told.elapsed() < Duration::from_secs(10));
    let new = cluster.leader();
    let log = std::fs::read_to_string(&cluster.members[new].log).expect("there is a log");
    assert!(!log.contains("panicked"), "{log}");
    let lock = cluster.members[new]
        .client()
        .get("/v1/locks/kept")
        .expect("the member answers")
        .expect(200);
    assert_eq!(lock.json()["queue"][0]["lease"], waiter);

    cluster.members[leader].start();
    cluster.wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn every_member_told_to_stop_exits_cleanly_and_starts_again() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let put = cluster.members[0]
        .client()
        .put("/v1/keys/kept", b"x")
        .expect("the member answers")
        .expect(201);
    for member in &cluster.members {
        member.signal(Signal::TERM);
    }
    for member in &cluster.members {
        assert_eq!(
            member.exit_code(Duration::from_secs(10)),
            0,
            "{}",
            member.name
        );
    }
    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    let kept = cluster.members[1]
        .client()
        .get("/v1/keys/kept")
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        kept.header("tenure-mod-revision"),
        Some(put.u64("mod_revision").to_string().as_str())
    );
}
