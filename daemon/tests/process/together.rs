//! Several locks at once or none, asked for at a follower.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::queue::{answered, ask, begin_seen_at, check_refused, delete, read};
use crate::common::{Client, SOON, Setup, acquire, grant, machine};

fn several(names: &[&str], lease: &str) -> Value {
    let locks: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "locks": locks, "lease": lease, "wait_ms": 600_000, "poll_ms": 25_000 })
}

fn release_all(client: &mut Client, held: &Value, lease: &str) {
    for lock in held["locks"].as_array().expect("a list") {
        let (name, fence) = (lock["lock"].as_str().unwrap_or_default(), &lock["fence"]);
        delete(
            client,
            &format!("/v1/locks/{name}?lease={lease}&fence={fence}"),
            200,
        );
    }
}

#[test]
fn several_locks_are_taken_at_once_or_not_at_all() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let leases: Vec<String> = (0..4).map(|_| grant(&mut client, 60_000)).collect();
    let fence = acquire(&mut client, "t/b", &leases[0]);

    // While one is held it waits for both and holds neither, and nobody passes it at the free one.
    let both = several(&["t/b", "t/a"], &leases[1]);
    let queues = ["/v1/locks/t/a", "/v1/locks/t/b"];
    let pending = begin_seen_at(&cluster, follower, "/v1/locks", &both, &queues, 1);
    assert_eq!(read(&mut client, "/v1/locks/t/a")["holder_count"], 0);
    let refused = ask(
        &mut client,
        "POST",
        "/v1/locks/t/a",
        &json!({ "lease": leases[2] }),
        409,
    );
    assert_eq!(
        (refused.code(), refused.u64("holder_count")),
        ("lock-held".into(), 0)
    );

    // Asked again it is the same place; another set of names is not.
    let mut again = both.clone();
    again["poll_ms"] = json!(0);
    let place = ask(&mut client, "POST", "/v1/locks", &again, 202).json();
    assert_eq!(place["state"], "queued", "{place}");
    assert_eq!(place["locks"][0]["lock"], "t/a", "{place}");
    assert_eq!(place["locks"][1]["lock"], "t/b", "{place}");
    assert_eq!(place["locks"][1]["position"], 1, "{place}");
    let mut other = several(&["t/b", "t/c"], &leases[1]);
    other["poll_ms"] = json!(0);
    let already = ask(&mut client, "POST", "/v1/locks", &other, 409);
    assert_eq!(already.code(), "already-held");
    assert!(already.str("detail").contains("t/b"), "{}", already.text());

    // The release of the one grants both, at its revision.
    let release = format!("/v1/locks/t/b?lease={}&fence={fence}", leases[0]);
    let released = delete(&mut client, &release, 200);
    let held = answered(pending, 200).json();
    assert_eq!(held["state"], "held", "{held}");
    assert_eq!(
        held["acquired_revision"],
        released.u64("revision"),
        "{held}"
    );
    for (at, name) in ["t/a", "t/b"].iter().enumerate() {
        let expected =
            json!({ "lock": name, "mode": "exclusive", "fence": released.u64("revision") });
        assert_eq!(held["locks"][at], expected, "{held}");
    }
    let same = ask(&mut client, "POST", "/v1/locks", &again, 200).json();
    assert_eq!(same["locks"], held["locks"], "{same}");

    // Where one of them is held, a try takes none.
    let mut tried = several(&["t/a", "t/z"], &leases[2]);
    tried["wait_ms"] = json!(0);
    let refused = ask(&mut client, "POST", "/v1/locks", &tried, 409);
    assert_eq!(refused.code(), "lock-held");
    assert!(refused.str("detail").contains("t/a"), "{}", refused.text());
    assert_eq!(read(&mut client, "/v1/locks/t/z")["mod_revision"], 0);

    // Leaving one queue leaves them all.
    let mut waits = several(&["t/a", "t/z"], &leases[3]);
    waits["poll_ms"] = json!(0);
    ask(&mut client, "POST", "/v1/locks", &waits, 202);
    delete(
        &mut client,
        &format!("/v1/locks/t/z?lease={}", leases[3]),
        200,
    );
    assert_eq!(read(&mut client, "/v1/locks/t/a")["queue_length"], 0);

    // Each is released on its own.
    release_all(&mut client, &held, &leases[1]);
    let mixed = json!({
        "locks": [{ "name": "t/a", "mode": "shared" }, { "name": "t/b" }], "ttl_ms": 60_000
    });
    let held = ask(&mut client, "POST", "/v1/locks", &mixed, 200).json();
    assert_eq!(held["locks"][0]["mode"], "shared", "{held}");
    ask(
        &mut client,
        "POST",
        "/v1/locks/t/a",
        &json!({ "lease": leases[0], "mode": "shared" }),
        200,
    );

    let wanted = |locks: Value| json!({ "locks": locks, "lease": leases[0] });
    let many: Vec<Value> = (0..65)
        .map(|number| json!({ "name": number.to_string() }))
        .collect();
    let invalid = "invalid-request";
    check_refused(
        &mut client,
        &[
            (
                "POST",
                "/v1/locks",
                json!({ "lease": leases[0] }),
                400,
                invalid,
                "missing field `locks`",
            ),
            (
                "POST",
                "/v1/locks",
                wanted(json!([])),
                400,
                invalid,
                "names 0 locks; accepted are 1 to 64",
            ),
            (
                "POST",
                "/v1/locks",
                wanted(json!(many)),
                400,
                invalid,
                "names 65 locks",
            ),
            (
                "POST",
                "/v1/locks",
                wanted(json!([{ "name": "q" }, { "name": "q" }])),
                400,
                invalid,
                "`q` more than once",
            ),
            (
                "POST",
                "/v1/locks",
                wanted(json!([{ "name": "q", "fence": 1 }])),
                400,
                invalid,
                "unknown field `fence`",
            ),
            (
                "POST",
                "/v1/locks",
                wanted(json!([{ "name": "" }])),
                400,
                "invalid-name",
                "`locks[0].name`",
            ),
        ],
    );
}

#[test]
fn those_who_want_the_same_locks_in_any_order_never_wait_for_each_other_in_a_ring() {
    const ROUNDS: usize = 15;
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let began = Instant::now();
    let wants: [&[&str]; 4] = [
        &["r/a", "r/b"],
        &["r/b", "r/a"],
        &["r/b", "r/c"],
        &["r/c", "r/a"],
    ];
    thread::scope(|scope| {
        for (number, names) in wants.into_iter().enumerate() {
            let member = &cluster.members[number % 3];
            scope.spawn(move || {
                let mut client = member.client().with_patience(SOON);
                let lease = grant(&mut client, 60_000);
                for _ in 0..ROUNDS {
                    let held = ask(
                        &mut client,
                        "POST",
                        "/v1/locks",
                        &several(names, &lease),
                        200,
                    );
                    let mut read_back = read(&mut client, &format!("/v1/locks/{}", names[0]));
                    let holder = read_back["holders"][0]["lease"].take();
                    assert_eq!(holder, json!(lease), "it holds what it was told it holds");
                    release_all(&mut client, &held.json(), &lease);
                }
            });
        }
    });
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    let mut client = cluster.members[0].client();
    let left = read(&mut client, "/v1/locks?prefix=r/");
    assert_eq!(left["count"], 0, "{left}");
}
