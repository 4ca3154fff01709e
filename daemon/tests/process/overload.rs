//! Bounds that are reached: what is too much is refused, nothing of it is done, and afterwards all goes on.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Answer, Pending, SOON, Setup, acquire, grant, machine, wait};
use crate::conformance::check_problem;

/// The greatest value: so many of them are more than the 64 MiB of entries that a leader keeps uncommitted and the
/// 64 MiB of requests that may wait behind them.
const VALUE_BYTES: usize = 1 << 20;
const WRITERS: usize = 160;

#[test]
fn a_leader_that_cannot_commit_refuses_what_it_cannot_keep_as_overloaded() {
    let _machine = machine::half();
    // The leader must not notice that it has lost its quorum before the writes have arrived.
    let cluster = Setup::of(3).with("election-timeout-ms", 6000).start();
    let leader = &cluster.members[cluster.leader()];
    let others: Vec<_> = cluster
        .members
        .iter()
        .filter(|member| member.name != leader.name)
        .collect();
    others.iter().for_each(|member| member.pause());
    let path = |number: usize| format!("/v1/keys/large/{number}");
    let answers: Vec<Answer> = thread::scope(|scope| {
        let write = |number| {
            let value = vec![b'x'; VALUE_BYTES];
            let put = move || leader.client().put(&path(number), &value);
            scope.spawn(move || put().expect("the leader answers"))
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let join = |writer: thread::ScopedJoinHandle<'_, Answer>| writer.join().expect("it ends");
        writers.into_iter().map(join).collect()
    });
    others.iter().for_each(|member| member.resume());
    let refused = |answer: &Answer| answer.code() == "overloaded";
    let count = answers.iter().filter(|answer| refused(answer)).count();
    assert!(
        (1..WRITERS).contains(&count),
        "{count} of {WRITERS} were refused as overloaded"
    );
    cluster.wait_until_ready();
    // What waited goes first, 128 MiB on each of three disks, so that the first of these may take longer than a write may:
    // a disk shared with other tests once took more than 30 s for it.
    cluster.wait_while_it_moves("writes go on", || {
        let answer = leader.client().put("/v1/keys/after", b"x").ok()?;
        [200, 201].contains(&answer.status).then_some(())
    });
    for (number, answer) in answers.iter().enumerate() {
        match answer.code().as_str() {
            "overloaded" => {
                check_problem("a write too many", answer, 503, "overloaded", "not_applied");
                assert_eq!(answer.json()["retry"], "after", "{}", answer.text());
            }
            // It waited for its entry when the leader gave up.
            "no-leader" => check_problem("a write", answer, 503, "no-leader", "not_applied"),
            _ => {
                check_problem("a write kept", answer, 504, "outcome-unknown", "unknown");
                continue;
            }
        }
        let read = cluster.persist("the key is read", |client| client.get(&path(number)));
        check_problem(
            "what was refused",
            &read,
            404,
            "key-not-found",
            "not_applied",
        );
    }
    cluster.wait_until_equal();
}

#[test]
fn beyond_its_waits_a_member_refuses_waiters_and_serves_everybody_else() {
    const MOST: usize = 2;
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("max-waits", MOST).start();
    let member = &cluster.members[0];
    let mut client = member.client();
    let (holder, waiter) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    acquire(&mut client, "busy", &holder);
    let watch = "/v1/watch?prefix=keys/awaited&wait_ms=60000";
    let begin = |_| member.client().begin("GET", watch, &Value::Null);
    let mut waiting: Vec<Pending> = (0..=MOST)
        .map(|number| begin(number).expect("it is sent"))
        .collect();
    // Whichever comes last finds all places taken.
    let (number, refused) = wait::until("one of them is refused", SOON, || {
        let mut try_one = |number: usize| {
            let tried = waiting[number].try_answer(Duration::from_millis(20));
            tried.ok().map(|answer| (number, answer))
        };
        (0..=MOST).find_map(&mut try_one)
    });
    drop(waiting.remove(number));
    let check = |what: &str, answer: &Answer| {
        check_problem(what, answer, 429, "too-many-waiters", "not_applied");
        assert_eq!(answer.json()["retry"], "after", "{}", answer.text());
        assert!(
            answer.text().contains(&format!("{MOST} requests")),
            "{}",
            answer.text()
        );
    };
    check("a watch too many", &refused);
    let ask = json!({ "lease": waiter, "wait_ms": 60_000 });
    let refused = client
        .post("/v1/locks/busy", &ask)
        .expect("the member answers");
    check("a waiter for a lock too many", &refused);
    let lock = client
        .get("/v1/locks/busy")
        .expect("the member answers")
        .expect(200);
    assert_eq!(lock.u64("queue_length"), 0, "who is refused has no place");
    // Whoever does not wait is served.
    client
        .get("/v1/watch?prefix=keys/")
        .expect("the member answers")
        .expect(200);
    acquire(&mut client, "free", &waiter);
    client
        .put("/v1/keys/awaited", b"x")
        .expect("the member answers")
        .expect(201);
    for waiting in waiting {
        let answer = waiting.answer(SOON).expect("the watch ends").expect(200);
        assert_eq!(answer.json()["events"].as_array().map(Vec::len), Some(1));
    }
    let served = client
        .get("/v1/watch?prefix=keys/&wait_ms=20")
        .expect("the member answers");
    served.expect(200);
}

/// `api.md` §4: each asking renews the lease, and a limit harms nothing that is held.
#[test]
fn who_holds_or_waits_asks_again_beyond_the_waits_of_a_member_and_keeps_its_lease() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("max-waits", 1).start();
    let member = &cluster.members[0];
    let mut client = member.client();
    let (holder, waiter) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    acquire(&mut client, "busy", &holder);
    let mut ask = |lease: &str, poll_ms: u64| {
        let body = json!({ "lease": lease, "wait_ms": 60_000, "poll_ms": poll_ms });
        client
            .post("/v1/locks/busy", &body)
            .expect("the member answers")
    };
    let watch = "/v1/watch?prefix=keys/awaited&wait_ms=60000";
    let mut watching = member
        .client()
        .begin("GET", watch, &Value::Null)
        .expect("it is sent");
    let early = watching.try_answer(Duration::from_millis(500));
    assert!(early.is_err(), "it has the only wait");
    assert_eq!(ask(&waiter, 30_000).status, 429, "a new place is refused");
    // What is not held open takes no wait.
    assert_eq!(ask(&waiter, 0).status, 202);
    let left = |lease: &str| {
        let path = format!("/v1/leases/{lease}");
        let answer = member.client().get(&path).expect("the member answers");
        answer.expect(200).u64("remaining_ms")
    };
    for (lease, status, pause) in [(&holder, 200, None), (&waiter, 202, Some("1"))] {
        let before = wait::until("some of the lease has run out", SOON, || {
            Some(left(lease)).filter(|left| *left < 59_000)
        });
        let answer = ask(lease, 30_000);
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("retry-after"),
            pause,
            "who cannot be let wait is told when to ask again"
        );
        assert!(before < left(lease), "the asking renewed the lease");
    }
    drop(watching);
}

/// `api.md` §4: only its answer tells the caller which lease was granted.
#[test]
fn a_repeat_that_finds_no_room_to_wait_is_told_its_lease() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("max-waits", 1).start();
    let member = &cluster.members[0];
    let mut client = member.client();
    let holder = grant(&mut client, 60_000);
    acquire(&mut client, "busy", &holder);
    let mut ask = |key: &str, poll_ms: u64| {
        let body = json!({ "ttl_ms": 60_000, "wait_ms": 60_000, "poll_ms": poll_ms }).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let asked = client.call("POST", "/v1/locks/busy", &headers, body.as_bytes());
        asked.expect("the member answers")
    };
    let first = ask("once", 0).expect(202).str("lease");
    let watch = "/v1/watch?prefix=keys/awaited&wait_ms=60000";
    let watching = || {
        let begun = member.client().begin("GET", watch, &Value::Null);
        begun.expect("it is sent")
    };
    let mut waits = watching();
    let mut others = 0;
    wait::until("the watch has the only wait", SOON, || {
        // Another each time: whoever has a place already is told of it in place of a refusal.
        others += 1;
        let refused = ask(&format!("another-{others}"), 200).status == 429;
        // It may be the one that came to find the only wait taken.
        if waits.try_answer(Duration::from_millis(1)).is_ok() {
            waits = watching();
            return None;
        }
        refused.then_some(())
    });
    // `poll_ms` is a part of what was asked: the same request is asked again.
    assert_eq!(ask("once", 0).expect(202).str("lease"), first);
    let long = ask("long", 0).expect(202).str("lease");
    assert_ne!(long, first);
    drop(waits);
}

#[test]
fn beyond_its_connections_a_member_lets_others_wait_until_one_is_idle() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("max-connections", 1).prepare();
    let member = &cluster.members[0];
    member.start();
    member.wait_until_ready();
    let begin = |path| {
        let pending = member.client().begin("GET", path, &Value::Null);
        pending.expect("it is sent, the kernel takes it")
    };
    let mut first = begin("/v1/watch?prefix=keys/&wait_ms=4000");
    let answer = first.try_answer(Duration::from_millis(500));
    assert!(answer.is_err(), "the first waits: {answer:?}");
    let mut second = begin("/v1/status");
    let answer = second.try_answer(Duration::from_millis(300));
    assert!(
        answer.is_err(),
        "a second connection was served: {answer:?}"
    );
    first.answer(SOON).expect("the first is served").expect(200);
    // The first is open still, but idle, and makes room.
    second.answer(SOON).expect("now it is its turn").expect(200);
}
