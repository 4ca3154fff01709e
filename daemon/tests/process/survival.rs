//! What outlives the death and the standstill of members.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{
    Client, Cluster, ELECTION_TIMEOUT, PATIENCE, SOON, Setup, acquire, grant, machine, wait,
};

/// What a busy machine may add to a time that is promised.
const ROOM: Duration = Duration::from_millis(750);

#[test]
fn a_lock_survives_the_leaders_kill_with_the_same_fence() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let lease = grant(&mut client, 60_000);
    let other = grant(&mut client, 60_000);
    let fence = acquire(&mut client, "jobs/nightly", &lease);

    cluster.members[leader].kill();
    cluster.new_leader(Some(leader));

    let lock = cluster
        .persist("the lock is read", |client| {
            client.get("/v1/locks/jobs%2Fnightly")
        })
        .expect(200);
    assert_eq!(lock.json()["holders"][0]["fence"], fence);
    assert_eq!(lock.json()["holders"][0]["lease"], lease);
    assert_eq!(lock.json()["holder_count"], 1);
    let ask = |lease: &str| {
        let body = json!({ "lease": lease });
        cluster.persist("an acquire is answered", |client| {
            client.post("/v1/locks/jobs%2Fnightly", &body)
        })
    };
    let again = ask(&lease).expect(200);
    assert_eq!(
        again.u64("fence"),
        fence,
        "asking again is answered with the same hold"
    );
    assert_eq!(ask(&other).expect(409).code(), "lock-held");

    let release = format!("/v1/locks/jobs%2Fnightly?lease={lease}&fence={fence}");
    cluster
        .persist("the release is answered", |client| client.delete(&release))
        .expect(200);
    assert!(
        ask(&other).expect(200).u64("fence") > fence,
        "a later hold has a greater fence"
    );
}

/// A writer that notes what was acknowledged: key to (value, revision).
fn write_until(
    cluster: &Cluster,
    writer: usize,
    stop: &AtomicBool,
) -> BTreeMap<String, (String, u64)> {
    let mut acknowledged = BTreeMap::new();
    let mut client = cluster.members[writer % 3]
        .client()
        .with_patience(Duration::from_secs(6));
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (key, value) = (format!("w{writer}/{number}"), format!("{writer}-{number}"));
        let answer = client.put(&format!("/v1/keys/{key}"), value.as_bytes());
        if let Ok(answer) = answer
            && answer.status == 201
        {
            acknowledged.insert(key, (value, answer.u64("mod_revision")));
        }
    }
    acknowledged
}

#[test]
fn all_three_killed_at_once_lose_nothing_acknowledged_and_end_no_lease() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let mut client = cluster.members[0].client();
    let leases: Vec<String> = (0..8).map(|_| grant(&mut client, 60_000)).collect();
    let locks: Vec<(String, String, u64)> = leases
        .iter()
        .enumerate()
        .map(|(number, lease)| {
            let name = format!("lock-{number}");
            let fence = acquire(&mut client, &name, lease);
            (name, lease.clone(), fence)
        })
        .collect();

    let stop = AtomicBool::new(false);
    let acknowledged: BTreeMap<String, (String, u64)> = thread::scope(|scope| {
        let shared = &cluster;
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                scope.spawn({
                    let stop = &stop;
                    move || write_until(shared, writer, stop)
                })
            })
            .collect();
        wait::pass(Duration::from_secs(2), || false);
        // In the midst of writes, all within a millisecond; the writers hear nothing more and end.
        shared.kill_all();
        stop.store(true, Ordering::SeqCst);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer ends"))
            .collect()
    });
    assert!(
        acknowledged.len() > 50,
        "too few writes to prove anything: {}",
        acknowledged.len()
    );

    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    let mut client = cluster.members[2].client();
    for (key, (value, revision)) in &acknowledged {
        let answer = client
            .get(&format!("/v1/keys/{key}"))
            .expect("the member answers")
            .expect(200);
        assert_eq!(
            (&answer.text(), answer.header("tenure-mod-revision")),
            (value, Some(revision.to_string().as_str()))
        );
    }
    for (name, lease, fence) in &locks {
        let answer = client
            .get(&format!("/v1/leases/{lease}"))
            .expect("the member answers")
            .expect(200);
        assert!(answer.u64("remaining_ms") > 0, "{}", answer.text());
        let lock = client
            .get(&format!("/v1/locks/{name}"))
            .expect("the member answers")
            .expect(200);
        assert_eq!(lock.json()["holders"][0]["fence"], *fence);
        let renewed = client
            .post(&format!("/v1/leases/{lease}/renew"), &Value::Null)
            .expect("the member answers");
        renewed.expect(200);
    }
    cluster.wait_until_equal();
}

#[test]
fn a_paused_leader_that_wakes_up_confirms_nothing() {
    let _machine = machine::alone();
    let cluster = Setup::of(3).start();
    let old = cluster.leader();
    let mut before = cluster.members[old].client();
    before
        .put("/v1/keys/watched", b"before")
        .expect("the member answers")
        .expect(201);
    let dying = grant(&mut before, 1_000);
    let fence = acquire(&mut before, "contended", &dying);
    // Connections that are open before the pause are where a paused leader would answer from its own belief.
    let mut reader = cluster.members[old].client().with_patience(SOON);
    reader
        .get("/v1/keys/watched")
        .expect("the member answers")
        .expect(200);

    cluster.members[old].pause();
    let new = cluster.new_leader(Some(old));
    let mut client = cluster.members[new].client();
    let put = client
        .put("/v1/keys/watched", b"after")
        .expect("the member answers")
        .expect(200);
    let successor = grant(&mut client, 60_000);
    let body = json!({ "lease": successor, "wait_ms": 20_000, "poll_ms": 20_000 });
    let held = client
        .with_patience(SOON)
        .post("/v1/locks/contended", &body)
        .expect("the member answers");
    let held = held.expect(200);
    assert!(held.u64("fence") > fence);

    // All of these wait in the paused process's socket and are its first work when it wakes.
    let paused = cluster.members[old].client();
    let begin = |method: &str, path: &str, body: &Value| {
        paused.begin(method, path, body).expect("it is sent")
    };
    let read = begin("GET", "/v1/keys/watched", &Value::Null);
    let lock = begin("GET", "/v1/locks/contended", &Value::Null);
    let renewal = begin("POST", &format!("/v1/leases/{dying}/renew"), &Value::Null);
    let acquire = begin("POST", "/v1/locks/contended", &json!({ "lease": dying }));
    cluster.members[old].resume();

    let after = put.u64("mod_revision");
    let read = read.answer(PATIENCE).expect("the read is answered");
    let fresh = read.status == 200 && read.text() == "after" && read.revision() >= after;
    assert!(
        fresh || read.code() == "no-leader",
        "a stale read: {read:?}"
    );
    let lock = lock.answer(PATIENCE).expect("the read is answered");
    let fresh = lock.status == 200 && lock.json()["holders"][0]["lease"] == successor;
    assert!(
        fresh || lock.code() == "no-leader",
        "a stale lock: {}",
        lock.text()
    );
    for (what, pending) in [("renewal", renewal), ("acquire", acquire)] {
        let answer = pending.answer(PATIENCE).expect("it is answered");
        let told = [
            (410, "lease-expired"),
            (503, "no-leader"),
            (504, "outcome-unknown"),
        ];
        let code = answer.code();
        assert!(
            told.contains(&(answer.status, code.as_str())),
            "{what} on a dead lease: {}",
            answer.text()
        );
    }
    cluster.members[old].wait_until_ready();
    let caught_up = reader
        .get("/v1/keys/watched")
        .expect("the member answers")
        .expect(200);
    assert_eq!(caught_up.text(), "after");
    cluster.wait_until_equal();
}

#[test]
fn a_member_without_quorum_says_so_within_a_second() {
    let _machine = machine::alone();
    for keep_leader in [false, true] {
        let cluster = Setup::of(3).start();
        let leader = cluster.leader();
        let kept = if keep_leader {
            leader
        } else {
            cluster.follower()
        };
        let mut client = cluster.members[kept].client();
        let holder = grant(&mut client, 60_000);
        let waiter = grant(&mut client, 60_000);
        acquire(&mut client, "held", &holder);
        let waiting = cluster.members[kept].client();
        let body = json!({ "lease": waiter, "wait_ms": 60_000, "poll_ms": 15_000 });
        let queued = waiting
            .begin("POST", "/v1/locks/held", &body)
            .expect("it is sent");
        wait::until("the waiter has its place", SOON, || {
            let lock = client.get("/v1/locks/held").ok()?;
            (lock.u64("queue_length") == 1).then_some(())
        });
        let watch = waiting
            .begin("GET", "/v1/watch?prefix=keys/&wait_ms=60000", &Value::Null)
            .expect("it is sent");
        client
            .get("/v1/keys?prefix=x")
            .expect("the member answers")
            .expect(200);

        let lost = Instant::now();
        for (number, member) in cluster.members.iter().enumerate() {
            if number != kept {
                member.kill();
            }
        }
        let mut client = cluster.members[kept].client();
        let told = loop {
            let asked = Instant::now();
            let answer = client.get("/v1/keys/any").expect("the member answers");
            let took = asked.elapsed();
            assert!(
                took < Duration::from_secs(1) + ROOM,
                "an answer took {took:?}: {}",
                answer.text()
            );
            if answer.status == 503 {
                assert_eq!(
                    (answer.code(), answer.not_applied()),
                    ("no-leader".to_owned(), true)
                );
                break lost.elapsed();
            }
        };
        assert!(
            told < 2 * ELECTION_TIMEOUT + Duration::from_secs(1) + ROOM,
            "told only after {told:?}"
        );

        // Once it knows, every call is refused at once, and what was open has ended.
        let asked = Instant::now();
        let write = client
            .put("/v1/keys/any", b"x")
            .expect("the member answers")
            .expect(503);
        assert_eq!(
            (write.code(), write.not_applied()),
            ("no-leader".to_owned(), true)
        );
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "a write was refused after {:?}",
            asked.elapsed()
        );
        let watch = watch
            .answer(Duration::from_secs(2))
            .expect("the watch ends");
        assert_eq!(
            (watch.status, watch.code()),
            (503, "no-leader".to_owned()),
            "{}",
            watch.text()
        );
        let queued = queued
            .answer(Duration::from_secs(2))
            .expect("the poll ends")
            .expect(202);
        assert_eq!(queued.u64("position"), 1);
        let readyz = client
            .get("/readyz")
            .expect("the member answers")
            .expect(503);
        assert_eq!(readyz.json()["ready"], false);
        client
            .get("/livez")
            .expect("the member answers")
            .expect(200);
        client
            .get("/v1/status")
            .expect("the member answers")
            .expect(200);

        for (number, member) in cluster.members.iter().enumerate() {
            if number != kept {
                member.start();
            }
        }
        cluster.wait_until_ready();
        let lock = cluster
            .persist("the lock is read", |client| client.get("/v1/locks/held"))
            .expect(200);
        assert_eq!(lock.json()["holders"][0]["lease"], holder);
        assert_eq!(
            lock.json()["queue"][0]["lease"],
            waiter,
            "the place outlived the quorum"
        );
    }
}

#[test]
fn a_leader_that_hears_nobody_gives_up_and_confirms_nothing() {
    let _machine = machine::alone();
    let cluster = Setup::of(3).with_relays().start();
    let old = cluster.leader();
    cluster.members[old]
        .client()
        .put("/v1/keys/watched", b"before")
        .expect("the member answers")
        .expect(201);
    cluster.relays[old].cut();
    // The others hear it no longer once it has stepped down; they elect another.
    let stepped_down = wait::until("the deaf leader steps down", SOON, || {
        let status = cluster.members[old].status()?;
        (status["role"] != "leader").then_some(status)
    });
    assert!(stepped_down["leader"].is_null(), "{stepped_down}");
    let others: Vec<usize> = (0..3).filter(|number| *number != old).collect();
    let put = wait::until("the others elect a leader and write", SOON, || {
        let answer = cluster.members[others[0]]
            .client()
            .put("/v1/keys/watched", b"after")
            .ok()?;
        (answer.status == 200).then_some(answer)
    });
    let read = cluster.members[old]
        .client()
        .get("/v1/keys/watched")
        .expect("the member answers");
    let fresh =
        read.status == 200 && read.text() == "after" && read.revision() >= put.u64("mod_revision");
    assert!(
        fresh || read.code() == "no-leader",
        "a stale read: {}",
        read.text()
    );
    cluster.relays[old].heal();
    cluster.members[old].wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn a_single_member_keeps_everything_over_a_kill() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client: Client = cluster.members[0].client();
    let lease = grant(&mut client, 60_000);
    let fence = acquire(&mut client, "alone", &lease);
    client
        .put("/v1/keys/a%20b/%2E%2E", b"\xff\x00")
        .expect("the member answers")
        .expect(201);
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.wait_until_ready();
    let mut client = cluster.members[0].client();
    let lock = client
        .get("/v1/locks/alone")
        .expect("the member answers")
        .expect(200);
    assert_eq!(lock.json()["holders"][0]["fence"], fence);
    let value = client
        .get("/v1/keys/a%20b/%2E%2E")
        .expect("the member answers")
        .expect(200);
    assert_eq!(value.body, b"\xff\x00");
}
