//! Reads of this member's own state, after a revision, and of one resource that wait for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, Client, SOON, Setup, grant, machine, wait};

fn staleness(answer: &Answer) -> Option<u64> {
    answer.header("tenure-staleness-ms")?.parse().ok()
}

fn get(client: &mut Client, path: &str) -> Answer {
    client.get(path).expect("the member answers")
}

#[test]
fn a_member_that_is_cut_off_serves_its_own_state_and_says_how_old_it_may_be() {
    let _machine = machine::alone();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let kept = (leader + 1) % 3;
    let mut client = cluster.members[kept].client();
    let put = client.put("/v1/keys/a", b"1").expect("the member answers");
    let revision = put.expect(201).u64("revision");
    let local = "/v1/keys/a?consistency=local";
    let near = wait::found(SOON, || {
        let answer = get(&mut client, local).expect(200);
        staleness(&answer).filter(|age| *age < 500)
    });
    assert!(
        near.is_some(),
        "beside a leader a local answer is near the present"
    );
    for other in (0..3).filter(|member| *member != kept) {
        cluster.members[other].pause();
    }
    let cut_off = Instant::now();
    wait::until("contact with the leader is lost", SOON, || {
        cluster.members[kept].status()?["leader"]
            .is_null()
            .then_some(())
    });
    let mut last = 0;
    for _ in 0..5 {
        let answer = get(&mut client, local).expect(200);
        assert_eq!((answer.text().as_str(), answer.revision()), ("1", revision));
        let age = staleness(&answer).expect("the age is known");
        assert!(last < age, "it grows: {age} after {last}");
        let most = u64::try_from(cut_off.elapsed().as_millis()).expect("a while") + 1500;
        assert!(age < most, "{age} of at most {most}");
        last = age;
        wait::pass(Duration::from_millis(200), || false);
    }
    assert!(last >= 800, "{last}");
    let check = |client: &mut Client, path: &str, code: &str| {
        let began = Instant::now();
        let answer = get(client, path).expect(503);
        assert_eq!(answer.code(), code, "{path}");
        assert!(answer.not_applied());
        let took = began.elapsed();
        assert!(took < Duration::from_millis(1200), "{path} took {took:?}");
    };
    check(&mut client, "/v1/keys/a", "no-leader");
    check(&mut client, "/v1/keys/a?min_revision=1", "no-leader");
    check(&mut client, "/v1/keys/a?after=1&wait_ms=20000", "no-leader");
    let ahead = revision + 5;
    check(
        &mut client,
        &format!("/v1/keys/a?min_revision={ahead}&wait_ms=20000"),
        "no-leader",
    );
    check(
        &mut client,
        &format!("{local}&min_revision={ahead}&wait_ms=20000"),
        "lagging",
    );
    get(&mut client, &format!("{local}&min_revision={revision}")).expect(200);
    let list = get(&mut client, "/v1/keys?prefix=&consistency=local").expect(200);
    assert!(staleness(&list).is_some());
    let absent = get(&mut client, "/v1/keys/b?consistency=local").expect(404);
    assert!(staleness(&absent).is_some());
}

#[test]
fn a_read_after_a_revision_waits_for_it_and_names_it_where_it_does_not_come() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut client = cluster.members[leader].client();
    let first = client.put("/v1/keys/a", b"1").expect("the member answers");
    let next = first.u64("revision") + 1;
    let path = format!("/v1/keys/a?consistency=local&min_revision={next}&wait_ms=20000");
    let mut pending = cluster.members[follower]
        .client()
        .begin("GET", &path, &Value::Null)
        .expect("it is sent");
    let early = pending.try_answer(Duration::from_millis(200));
    assert!(early.is_err(), "it waits: {early:?}");
    let second = client.put("/v1/keys/a", b"2").expect("the member answers");
    assert_eq!(second.u64("revision"), next);
    let answer = pending
        .answer(SOON)
        .expect("the member answers")
        .expect(200);
    assert_eq!(answer.text(), "2");
    assert!(answer.revision() >= next);
    for number in 0..20 {
        let put = client
            .put("/v1/keys/a", number.to_string().as_bytes())
            .expect("the member answers");
        let path = format!(
            "/v1/keys/a?consistency=local&min_revision={}",
            put.u64("revision")
        );
        let read = get(&mut cluster.members[follower].client(), &path).expect(200);
        assert_eq!(
            read.text(),
            number.to_string(),
            "one's own write, at another member"
        );
    }
    let path = format!("/v1/keys/a?min_revision={}&wait_ms=300", next + 1000);
    let began = Instant::now();
    let lagging = get(&mut client, &path).expect(503);
    assert!(began.elapsed() >= Duration::from_millis(280));
    assert_eq!(lagging.code(), "lagging");
    let (detail, present) = (lagging.str("detail"), lagging.u64("revision"));
    assert!(detail.contains(&(next + 1000).to_string()), "{detail}");
    assert!(detail.contains(&present.to_string()), "{detail}");
    let began = Instant::now();
    let head = client
        .call(
            "HEAD",
            &format!("/v1/keys/a?min_revision={}", next + 1000),
            &[],
            b"",
        )
        .expect("the member answers");
    assert_eq!(head.status, 503);
    assert!(began.elapsed() < Duration::from_secs(2), "HEAD never waits");
    let wrong = get(&mut client, "/v1/keys/a?consistency=strong").expect(400);
    assert!(wrong.str("detail").contains("`linearizable` and `local`"));
}

#[test]
fn reads_of_one_resource_wait_for_it_to_change() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut client = cluster.members[leader].client();
    let mut put = |value: &str| {
        let answer = client.put("/v1/keys/a", value.as_bytes());
        answer.expect("the member answers").u64("revision")
    };
    let first = put("1");
    let begin = |path: &str| {
        let pending = cluster.members[follower].client();
        let mut pending = pending
            .begin("GET", path, &Value::Null)
            .expect("it is sent");
        let early = pending.try_answer(Duration::from_millis(200));
        assert!(early.is_err(), "it waits: {early:?}");
        pending
    };
    let pending = begin(&format!("/v1/keys/a?after={first}&wait_ms=20000"));
    let second = put("2");
    let woken = pending
        .answer(SOON)
        .expect("the member answers")
        .expect(200);
    assert_eq!(woken.text(), "2");
    assert_eq!(woken.header("etag"), Some(format!("\"{second}\"").as_str()));

    let mut client = cluster.members[follower].client();
    let quiet = get(
        &mut client,
        &format!("/v1/keys/a?after={second}&wait_ms=200"),
    )
    .expect(204);
    assert!(quiet.revision() >= second);
    get(&mut client, &format!("/v1/keys/a?after={second}")).expect(204);
    let tag = format!("\"{second}\"");
    let mut conditional = |path: &str, tag: &str| {
        let answer = client.call("GET", path, &[("if-none-match", tag)], b"");
        answer.expect("the member answers")
    };
    assert!(
        conditional("/v1/keys/a?wait_ms=200", &tag)
            .expect(304)
            .revision()
            >= second
    );
    conditional("/v1/keys/a", &tag).expect(304);
    conditional("/v1/keys/a?wait_ms=20000", &format!("\"{first}\"")).expect(200);
    conditional(&format!("/v1/keys/a?after={second}"), &tag).expect(400);
    let ahead = get(&mut client, &format!("/v1/keys/a?after={}", second + 1000)).expect(410);
    assert_eq!(ahead.code(), "revision-ahead");

    let pending = begin(&format!("/v1/keys/a?after={second}&wait_ms=20000"));
    client
        .delete("/v1/keys/a")
        .expect("the member answers")
        .expect(200);
    let deleted = pending
        .answer(SOON)
        .expect("the member answers")
        .expect(404);
    assert_eq!(deleted.code(), "key-not-found");

    // A lock changes by its queue, a lease by what hangs on it, and by its end.
    let lease = grant(&mut client, 60_000);
    let granted = get(&mut client, &format!("/v1/leases/{lease}")).expect(200);
    let granted = granted.u64("mod_revision");
    let of_lease = begin(&format!("/v1/leases/{lease}?after={granted}&wait_ms=20000"));
    let of_lock = begin(&format!("/v1/locks/l?after={granted}&wait_ms=20000"));
    let held = client
        .post("/v1/locks/l", &json!({ "lease": lease }))
        .expect("the member answers")
        .expect(200);
    let fence = held.u64("fence");
    let lock = of_lock
        .answer(SOON)
        .expect("the member answers")
        .expect(200);
    assert_eq!(lock.u64("mod_revision"), fence);
    let attached = of_lease
        .answer(SOON)
        .expect("the member answers")
        .expect(200);
    assert_eq!(attached.u64("attached_revision"), fence);

    // A put without the lease takes its key away from it, and names no lease.
    let put = |client: &mut Client, path: &str| {
        let answer = client.put(path, b"x").expect("the member answers");
        answer.u64("revision")
    };
    let on_it = put(&mut client, &format!("/v1/keys/b?lease={lease}"));
    let of_lease = begin(&format!("/v1/leases/{lease}?after={on_it}&wait_ms=20000"));
    let off_it = put(&mut client, "/v1/keys/b");
    let lost = of_lease
        .answer(SOON)
        .expect("the member answers")
        .expect(200);
    assert_eq!(lost.u64("attached_revision"), off_it);

    let of_lease = begin(&format!("/v1/leases/{lease}?after={off_it}&wait_ms=20000"));
    client
        .delete(&format!("/v1/leases/{lease}"))
        .expect("the member answers")
        .expect(200);
    let ended = of_lease
        .answer(SOON)
        .expect("the member answers")
        .expect(410);
    assert_eq!(ended.code(), "lease-expired");
}
