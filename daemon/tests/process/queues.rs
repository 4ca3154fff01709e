//! Locks in full, asked for at a follower: modes, priorities, refusals, breaks, delays and lists.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::queue::{answered, ask, begin, begin_read, check_refused, delete, read, seen};
use crate::common::{Client, SOON, Setup, acquire, grant, machine, wait};

/// What a busy machine may add to a time that is promised.
const ROOM: Duration = Duration::from_millis(1_500);

/// An acquire that waits long.
fn waiting(lease: &str) -> Value {
    json!({ "lease": lease, "wait_ms": 600_000, "poll_ms": 60_000 })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn named_lease(client: &mut Client, name: &str, ttl_ms: u64) -> String {
    let body = json!({ "ttl_ms": ttl_ms, "name": name });
    ask(client, "POST", "/v1/leases", &body, 201).str("lease")
}

#[test]
fn shared_holders_stand_together_and_none_overtakes_a_waiting_exclusive_one() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let leases: Vec<String> = (0..5).map(|_| grant(&mut client, 60_000)).collect();
    let shared = |lease: &str| json!({ "lease": lease, "mode": "shared" });
    let path = "/v1/locks/book";

    let first = ask(&mut client, "POST", path, &shared(&leases[0]), 200);
    let second = ask(&mut client, "POST", path, &shared(&leases[1]), 200);
    assert_eq!(first.str("mode"), "shared");
    let lock = read(&mut client, path);
    assert_eq!(lock["holder_count"], 2, "{lock}");
    assert_eq!(lock["exclusive_fence"], Value::Null, "{lock}");
    assert_eq!(lock["last_fence"], second.u64("fence"), "{lock}");

    let writer = begin(&cluster, follower, path, &waiting(&leases[2]), 1);
    let refused = ask(&mut client, "POST", path, &shared(&leases[3]), 409);
    assert_eq!(
        refused.code(),
        "lock-held",
        "a shared one must not overtake"
    );
    assert_eq!(
        (refused.u64("holder_count"), refused.u64("queue_length")),
        (2, 1)
    );
    let reader = with(waiting(&leases[3]), "mode", json!("shared"));
    let third = begin(&cluster, follower, path, &reader, 2);
    let reader = with(waiting(&leases[4]), "mode", json!("shared"));
    let fourth = begin(&cluster, follower, path, &reader, 3);

    for (lease, held) in [(&leases[0], &first), (&leases[1], &second)] {
        let fence = held.u64("fence");
        delete(
            &mut client,
            &format!("{path}?lease={lease}&fence={fence}"),
            200,
        );
    }
    let written = answered(writer, 200);
    let lock = read(&mut client, path);
    assert_eq!(lock["exclusive_fence"], written.u64("fence"), "{lock}");
    let queue: Vec<&Value> = lock["queue"].as_array().expect("a list").iter().collect();
    assert_eq!(queue.len(), 2, "{lock}");
    assert_eq!(
        (&queue[0]["position"], &queue[0]["lease"], &queue[0]["mode"]),
        (&json!(1), &json!(leases[3]), &json!("shared")),
    );

    // Those that waited behind it are granted together, at the revision of the release.
    let release = format!("{path}?lease={}&fence={}", leases[2], written.u64("fence"));
    let released = delete(&mut client, &release, 200);
    let (third, fourth) = (answered(third, 200), answered(fourth, 200));
    assert_eq!(third.u64("fence"), released.u64("revision"));
    assert_eq!(fourth.u64("fence"), released.u64("revision"));

    // They share a fence: a break ends the one that is named, or all of them.
    let fence = third.u64("fence");
    let one = format!(
        "{path}?break=true&now=true&fence={fence}&reason=test&lease={}&owner=",
        leases[3]
    );
    let broken = delete(&mut client, &one, 200).json();
    assert_eq!(
        broken["broken"].as_array().map(Vec::len),
        Some(1),
        "{broken}"
    );
    assert_eq!(broken["broken"][0]["lease"], json!(leases[3]), "{broken}");
    assert_eq!(read(&mut client, path)["holder_count"], 1);
    let all = format!("{path}?break=true&now=true&fence={fence}&reason=test");
    let broken = delete(&mut client, &all, 200).json();
    assert_eq!(broken["broken"][0]["lease"], json!(leases[4]), "{broken}");
    assert_eq!(read(&mut client, path)["holder_count"], 0);
}

#[test]
fn a_higher_priority_goes_first_and_places_of_one_priority_keep_their_order() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let path = "/v1/locks/ranked";
    let mut lease = grant(&mut client, 60_000);
    let mut fence = acquire(&mut client, "ranked", &lease);
    let mut waiters = Vec::new();
    for (number, priority) in [(1, 0), (2, -5), (3, 100), (4, 0)] {
        let own = grant(&mut client, 60_000);
        let body = with(waiting(&own), "priority", json!(priority));
        let pending = begin(&cluster, follower, path, &body, number);
        waiters.push((own, pending));
    }
    let queue = read(&mut client, path)["queue"].clone();
    let order: Vec<i64> = queue
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|place| place["priority"].as_i64())
        .collect();
    assert_eq!(order, [100, 0, 0, -5], "{queue}");
    let mut waiters: Vec<Option<_>> = waiters.into_iter().map(Some).collect();
    for next in [2, 0, 3, 1] {
        delete(
            &mut client,
            &format!("{path}?lease={lease}&fence={fence}"),
            200,
        );
        let (own, pending) = waiters[next].take().expect("each is granted once");
        let held = answered(pending, 200);
        assert!(held.u64("fence") > fence);
        (lease, fence) = (own, held.u64("fence"));
    }
}

#[test]
fn asking_again_is_the_same_place_and_a_wait_ends_with_a_problem_that_names_the_lease() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let path = "/v1/locks/kept";
    let holder = grant(&mut client, 60_000);
    let fence = acquire(&mut client, "kept", &holder);

    // The connection is cut; the place is there for whoever asks again, whatever else the body says.
    let lease = grant(&mut client, 60_000);
    drop(begin(&cluster, follower, path, &waiting(&lease), 1));
    let again = json!({ "lease": lease, "wait_ms": 5_000, "poll_ms": 0, "priority": 7, "metadata": { "a": "b" } });
    let place = ask(&mut client, "POST", path, &again, 202).json();
    assert_eq!(
        (
            &place["position"],
            &place["queue_length"],
            &place["holders"][0]["fence"]
        ),
        (&json!(1), &json!(1), &json!(fence)),
        "{place}"
    );
    assert!(
        place["wait_remaining_ms"].as_u64() > Some(500_000),
        "{place}"
    );
    let another = with(again.clone(), "mode", json!("shared"));
    let mismatch = ask(&mut client, "POST", path, &another, 409);
    assert_eq!(mismatch.code(), "mode-mismatch");
    // Another owner on the same lease is somebody else.
    let second = with(
        with(waiting(&lease), "owner", json!("second")),
        "poll_ms",
        json!(0),
    );
    assert_eq!(
        ask(&mut client, "POST", path, &second, 202).u64("position"),
        2
    );
    let left = delete(
        &mut client,
        &format!("{path}?lease={lease}&owner=second"),
        200,
    )
    .json();
    assert_eq!(
        (&left["left"], &left["lock"]),
        (&json!(true), &json!("kept"))
    );
    let gone = delete(
        &mut client,
        &format!("{path}?lease={lease}&owner=second"),
        404,
    );
    assert_eq!(gone.code(), "not-held");
    delete(&mut client, &format!("{path}?lease={lease}"), 200);

    // A wait on a lease of its own ends by the clock, and only the problem says which lease that was.
    let start = Instant::now();
    let own = json!({ "ttl_ms": 60_000, "wait_ms": 700 });
    let expired = ask(&mut client, "POST", path, &own, 409);
    assert!(
        start.elapsed() >= Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(expired.code(), "wait-expired");
    assert_eq!(expired.json()["retry"], "same");
    assert_eq!(expired.u64("holder_count"), 1);
    assert_eq!(expired.json()["holders"][0]["lease"], json!(holder));
    let own = read(&mut client, &format!("/v1/leases/{}", expired.str("lease")));
    assert_eq!(own["ttl_ms"], 60_000, "{own}");

    // A try that is refused grants no lease.
    let before = read(&mut client, path)["revision"].clone();
    let tried = ask(&mut client, "POST", path, &json!({ "ttl_ms": 60_000 }), 409);
    assert_eq!(tried.code(), "lock-held");
    assert_eq!(tried.json().get("lease"), None);
    assert_eq!(read(&mut client, path)["revision"], before);

    // A place ends with its lease, and whoever waits in it is told.
    let dying = grant(&mut client, 1_000);
    let pending = begin(&cluster, follower, path, &waiting(&dying), 1);
    let ended = answered(pending, 410);
    assert_eq!(
        (ended.code(), ended.str("lease")),
        ("lease-expired".into(), dying)
    );

    // And a lock is free where it was released, with a lease that came with it.
    delete(
        &mut client,
        &format!("{path}?lease={holder}&fence={fence}"),
        200,
    );
    let held = ask(&mut client, "POST", path, &json!({ "ttl_ms": 60_000 }), 200);
    let release = format!(
        "{path}?lease={}&fence={}",
        held.str("lease"),
        held.u64("fence")
    );
    let stale = format!("{path}?lease={}&fence={fence}", held.str("lease"));
    let refused = delete(&mut client, &stale, 412);
    assert_eq!(
        (refused.code(), refused.u64("fence")),
        ("fence-stale".into(), held.u64("fence"))
    );
    let released = delete(&mut client, &release, 200).json();
    assert_eq!(released["released"], true, "{released}");
    delete(&mut client, &release, 404);
}

#[test]
fn a_broken_lock_waits_for_the_deadline_of_its_holder_unless_the_operator_says_now() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let path = "/v1/locks/stuck";
    let (holder, waiter) = (grant(&mut client, 2_000), grant(&mut client, 60_000));
    let held_at = Instant::now();
    let fence = acquire(&mut client, "stuck", &holder);
    let pending = begin(&cluster, follower, path, &waiting(&waiter), 1);

    let wrong = format!("{path}?break=true&fence={}&reason=test", fence - 1);
    let refused = delete(&mut client, &wrong, 412);
    assert_eq!(
        (refused.code(), refused.u64("fence")),
        ("fence-stale".into(), fence)
    );
    let sent = Instant::now();
    let reason = "paged%20at%20night%E2%80%A8";
    let path_of_break = format!("{path}?break=true&fence={fence}&reason={reason}");
    let broken = delete(&mut client, &path_of_break, 200);
    let delay = Duration::from_millis(broken.u64("delay_remaining_ms"));
    assert!(
        Duration::ZERO < delay && delay <= Duration::from_secs(2),
        "{delay:?}"
    );
    assert_eq!(broken.json()["broken"][0]["lease"], json!(holder));
    assert_eq!(broken.json()["broken"][0]["fence"], json!(fence));
    // Nobody has it until then, and a try is told why.
    let other = grant(&mut client, 60_000);
    let refused = ask(&mut client, "POST", path, &json!({ "lease": other }), 409);
    assert_eq!(refused.code(), "lock-held");
    assert_eq!(refused.u64("holder_count"), 0);
    assert!(
        refused.str("detail").contains("no holder, but is kept for"),
        "{}",
        refused.text()
    );
    assert!(refused.u64("delay_remaining_ms") <= 2_000);
    let held = answered(pending, 200);
    assert!(
        sent.elapsed() >= delay,
        "granted {:?} after a break that promised {delay:?}",
        sent.elapsed()
    );
    assert!(
        held_at.elapsed() >= Duration::from_secs(2),
        "granted before the holder stopped believing"
    );
    assert!(
        held_at.elapsed() <= Duration::from_secs(2) + ROOM,
        "{:?}",
        held_at.elapsed()
    );
    assert_eq!(read(&mut client, path)["delay_remaining_ms"], Value::Null);

    // With `now`, the next is granted at the revision of the break.
    let next = begin(&cluster, follower, path, &waiting(&other), 1);
    let fence = held.u64("fence");
    let now = format!("{path}?break=true&fence={fence}&reason=x&now=true");
    let broken = delete(&mut client, &now, 200);
    assert_eq!(broken.json()["delay_remaining_ms"], Value::Null);
    assert_eq!(answered(next, 200).u64("fence"), broken.u64("revision"));
    let late = delete(
        &mut client,
        &format!("{path}?lease={waiter}&fence={fence}"),
        404,
    );
    assert_eq!(late.code(), "not-held");
    assert_eq!(
        delete(
            &mut client,
            "/v1/locks/never?break=true&fence=1&reason=x",
            404
        )
        .code(),
        "not-held"
    );

    // Each attempt is one line of the audit log, with what callers wrote escaped.
    let log = cluster.members[follower].output();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("audit")).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].contains("fence-stale"), "{}", lines[0]);
    for part in [
        "\"stuck\"",
        r"paged at night\u{2028}",
        &holder,
        "outcome=\"broken\"",
        "request=",
    ] {
        assert!(lines[1].contains(part), "{part} is not in {}", lines[1]);
    }
    assert!(lines[3].contains("not-held"), "{}", lines[3]);
}

#[test]
fn after_a_lease_ran_out_a_lock_delay_keeps_the_lock_for_its_name() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let delay = Duration::from_millis(2_500);
    let path = "/v1/locks/delayed";
    let body = |lease: &str| json!({ "lease": lease, "lock_delay_ms": 2_500 });
    let ends = |client: &mut Client, lease: &str| {
        wait::until("the lease has ended", SOON, || {
            let answer = client.get(&format!("/v1/leases/{lease}")).ok()?;
            (answer.status == 410).then_some(())
        });
    };

    let dying = named_lease(&mut client, "worker", 1_000);
    let first = ask(&mut client, "POST", path, &body(&dying), 200);
    let stranger = grant(&mut client, 60_000);
    let pending = begin(&cluster, follower, path, &waiting(&stranger), 1);
    ends(&mut client, &dying);
    let lock = read(&mut client, path);
    assert_eq!(lock["holder_count"], 0, "{lock}");
    assert!(lock["delay_remaining_ms"].as_u64() > Some(0), "{lock}");
    // A lease of the same name may have it, ahead of the queue, for it is the same worker.
    let back = named_lease(&mut client, "worker", 60_000);
    let again = ask(&mut client, "POST", path, &body(&back), 200);
    assert!(again.u64("fence") > first.u64("fence"));
    // After a release there is no delay.
    let release = format!("{path}?lease={back}&fence={}", again.u64("fence"));
    let released = delete(&mut client, &release, 200);
    let held = answered(pending, 200);
    assert_eq!(held.u64("fence"), released.u64("revision"));

    // After a revoke neither.
    let path = "/v1/locks/revoked";
    let lease = named_lease(&mut client, "worker", 60_000);
    ask(&mut client, "POST", path, &body(&lease), 200);
    delete(&mut client, &format!("/v1/leases/{lease}"), 200);
    ask(
        &mut client,
        "POST",
        path,
        &json!({ "lease": stranger }),
        200,
    );

    // A stranger has it when the delay is over, and not before.
    let path = "/v1/locks/patient";
    let dying = named_lease(&mut client, "worker", 1_000);
    let asked = Instant::now();
    ask(&mut client, "POST", path, &body(&dying), 200);
    let pending = begin(&cluster, follower, path, &waiting(&stranger), 1);
    answered(pending, 200);
    let (least, took) = (Duration::from_secs(1) + delay, asked.elapsed());
    assert!(
        took >= least,
        "granted {took:?} after the last renewal, within TTL and delay of {least:?}"
    );
    assert!(
        took <= least + ROOM,
        "granted only {took:?} after the last renewal"
    );
}

#[test]
fn an_acquire_with_an_idempotency_key_finds_the_lease_that_it_was_granted() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let path = "/v1/locks/once";
    let acquire = |client: &mut Client, key: &str, body: &Value| {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        client
            .call("POST", path, &headers, body.to_string().as_bytes())
            .expect("the member answers")
    };
    let body = json!({ "ttl_ms": 60_000, "wait_ms": 600_000, "poll_ms": 0 });
    let first = acquire(&mut client, "one", &body).expect(200);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = acquire(&mut client, "one", &body).expect(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(
        (again.str("lease"), again.u64("fence")),
        (first.str("lease"), first.u64("fence"))
    );

    // A place is found again too, wherever it is asked for, and what is answered is how it stands now.
    let place = acquire(&mut client, "two", &body).expect(202);
    let mut other = cluster.members[cluster.leader()].client();
    let same = acquire(&mut other, "two", &body).expect(202);
    assert_eq!(
        (same.str("lease"), same.u64("queue_length")),
        (place.str("lease"), 1)
    );
    let release = format!(
        "{path}?lease={}&fence={}",
        first.str("lease"),
        first.u64("fence")
    );
    delete(&mut client, &release, 200);
    let held = acquire(&mut client, "two", &body).expect(200);
    assert_eq!(held.str("lease"), place.str("lease"));

    // Without a key each asking is another; a key is for one request.
    acquire(&mut client, "three", &body).expect(202);
    let mut longer = body.clone();
    longer["ttl_ms"] = json!(70_000);
    let mismatch = acquire(&mut client, "three", &longer).expect(422);
    assert_eq!(mismatch.code(), "idempotency-mismatch");

    // A lease that ended is not revived.
    delete(
        &mut client,
        &format!("/v1/leases/{}", held.str("lease")),
        200,
    );
    let ended = acquire(&mut client, "two", &body).expect(410);
    assert_eq!(
        (ended.code(), ended.str("lease")),
        ("lease-expired".into(), held.str("lease"))
    );
}

#[test]
fn lists_have_pages_and_a_lock_can_be_waited_for() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let lease = grant(&mut client, 60_000);
    for name in ["list/a", "list/b", "list/c", "lisp", "other"] {
        acquire(&mut client, name, &lease);
    }
    let fence = acquire(&mut client, "list/free", &lease);
    delete(
        &mut client,
        &format!("/v1/locks/list/free?lease={lease}&fence={fence}"),
        200,
    );
    ask(
        &mut client,
        "POST",
        "/v1/semaphores/list/s",
        &json!({ "lease": lease, "limit": 1 }),
        200,
    );

    let page = read(&mut client, "/v1/locks?prefix=list/&limit=2");
    let names = |page: &Value| -> Vec<String> {
        let locks = page["locks"].as_array().expect("a list");
        locks
            .iter()
            .map(|lock| lock["lock"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names(&page), ["list/a", "list/b"]);
    assert_eq!(
        (&page["count"], &page["more"], &page["next"]),
        (&json!(3), &json!(true), &json!("list/b")),
        "{page}"
    );
    let lock = &page["locks"][0];
    assert_eq!(lock["holders"][0]["lease"], json!(lease), "{page}");
    assert!(
        lock.get("queue").is_none() && lock.get("revision").is_none(),
        "{page}"
    );
    let rest = read(
        &mut client,
        "/v1/locks?prefix=list/&limit=2&start_after=list/b",
    );
    assert_eq!(names(&rest), ["list/c"]);
    assert_eq!(
        (&rest["count"], &rest["more"], &rest["next"]),
        (&json!(3), &json!(false), &Value::Null),
        "{rest}"
    );
    let all = read(&mut client, "/v1/locks?consistency=local");
    assert_eq!(all["count"], 5, "{all}");

    // One that was never used is the same with nothing in it.
    let unused = read(&mut client, "/v1/locks/list/never");
    assert_eq!(
        (
            &unused["last_fence"],
            &unused["mod_revision"],
            &unused["holders"]
        ),
        (&Value::Null, &json!(0), &json!([])),
        "{unused}"
    );
    // A read waits until something happens to the lock.
    let after = read(&mut client, "/v1/locks/list/a")["mod_revision"].clone();
    let path = format!("/v1/locks/list/a?after={after}&wait_ms=20000");
    let pending = begin_read(&cluster, follower, &path);
    let released = delete(
        &mut client,
        &format!("/v1/locks/list/a?lease={lease}&fence={after}"),
        200,
    );
    let seen = seen(pending);
    assert_eq!(seen.u64("mod_revision"), released.u64("revision"));
    assert_eq!(seen.u64("holder_count"), 0);
}

#[test]
fn a_wrong_request_for_a_lock_is_told_what_is_wrong() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    let id = grant(&mut client, 60_000);
    let lease = || json!({ "lease": id });
    let unknown = "3f9c2a7b5d1e8046";
    let query = format!("/v1/locks/x?lease={id}");
    let wrong = [
        (
            "POST",
            "/v1/locks/x",
            json!({}),
            "`lease` is missing; give it, or `ttl_ms`",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "ttl_ms", json!(5_000)),
            "exclude each other",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "mode", json!("write")),
            "field `mode`: unknown variant `write`",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "permits", json!(1)),
            "unknown field `permits`",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "priority", json!(101)),
            "`priority` is 101; accepted are -100 to 100",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "priority", json!(0.5)),
            "`priority`",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "lock_delay_ms", json!(60_001)),
            "accepted are 0 to 60000",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "wait_ms", json!(86_400_001)),
            "`wait_ms` is 86400001",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "poll_ms", json!(600_001)),
            "`poll_ms` is 600001",
        ),
        (
            "POST",
            "/v1/locks/x",
            with(lease(), "owner", json!("a\u{7}")),
            "owner has the control character U+0007",
        ),
        (
            "POST",
            "/v1/locks/x",
            json!({ "lease": "x" }),
            "`x` is not the id of a lease",
        ),
        ("POST", "/v1/locks/x?wait_ms=1", lease(), "`wait_ms`"),
        (
            "DELETE",
            "/v1/locks/x",
            Value::Null,
            "query parameter `lease` is missing",
        ),
        (
            "DELETE",
            &*format!("{query}&fence=-1"),
            Value::Null,
            "`fence` is `-1`",
        ),
        (
            "DELETE",
            &*format!("{query}&reason=x"),
            Value::Null,
            "`reason` belongs to a break",
        ),
        (
            "DELETE",
            &*format!("{query}&now=true"),
            Value::Null,
            "`now` belongs to a break",
        ),
        (
            "DELETE",
            &*format!("{query}&candidate=x"),
            Value::Null,
            "unknown query parameter `candidate`",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=yes",
            Value::Null,
            "`break` is `yes`; accepted are true and false",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=true&reason=x",
            Value::Null,
            "`fence` is missing",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=true&fence=1",
            Value::Null,
            "`reason` is missing",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=true&fence=1&reason=%20",
            Value::Null,
            "`reason` is missing or blank",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=true&fence=1&reason=a%0Ab",
            Value::Null,
            "control character U+000A",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=true&fence=1&reason=a&owner=b",
            Value::Null,
            "`owner` without `lease`",
        ),
        (
            "DELETE",
            "/v1/locks/x?break=true&fence=1&reason=a&now=1",
            Value::Null,
            "`now` is `1`",
        ),
        (
            "GET",
            "/v1/locks?limit=0",
            Value::Null,
            "limit is `0`; accepted are whole numbers from 1 to 1000",
        ),
        (
            "GET",
            "/v1/locks?limit=1001",
            Value::Null,
            "limit is `1001`",
        ),
        ("GET", "/v1/locks?start=x", Value::Null, "`start`"),
        ("GET", "/v1/locks/x?after=y", Value::Null, "after is `y`"),
    ];
    let mut cases: Vec<_> = wrong
        .into_iter()
        .map(|(method, path, body, said)| (method, path, body, 400, "invalid-request", said))
        .collect();
    cases.push((
        "POST",
        "/v1/locks/x",
        json!({ "ttl_ms": 999 }),
        400,
        "ttl-out-of-range",
        "1000 to 86400000",
    ));
    cases.push((
        "POST",
        "/v1/locks/a%00",
        lease(),
        400,
        "invalid-name",
        "control character",
    ));
    cases.push((
        "POST",
        "/v1/locks/x",
        json!({ "lease": unknown }),
        404,
        "lease-not-found",
        unknown,
    ));
    cases.push((
        "GET",
        "/v1/locks/x?after=99999",
        Value::Null,
        410,
        "revision-ahead",
        "99999",
    ));
    check_refused(&mut client, &cases);
}
