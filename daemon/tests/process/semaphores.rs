//! Semaphores, asked for at a follower: permits and their limit, as locks in all else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::queue::{answered, ask, begin, check_refused, delete, read};
use crate::common::{Setup, grant, machine};

#[test]
fn a_semaphore_gives_out_its_permits_and_no_more() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let leases: Vec<String> = (0..4).map(|_| grant(&mut client, 60_000)).collect();
    let path = "/v1/semaphores/pool";
    let want = |lease: &str, permits: u64, limit: u64| json!({ "lease": lease, "permits": permits, "limit": limit });

    let unused = read(&mut client, path);
    assert_eq!(
        (&unused["limit"], &unused["permits_held"]),
        (&Value::Null, &json!(0)),
        "{unused}"
    );
    let two = ask(&mut client, "POST", path, &want(&leases[0], 2, 3), 200);
    assert_eq!(
        (two.str("semaphore"), two.u64("permits")),
        ("pool".into(), 2)
    );
    // Without `permits` it is one.
    let one = ask(
        &mut client,
        "POST",
        path,
        &json!({ "lease": leases[1], "limit": 3 }),
        200,
    );
    assert_eq!(one.u64("permits"), 1);
    let full = read(&mut client, path);
    assert_eq!(
        (&full["limit"], &full["permits_held"], &full["holder_count"]),
        (&json!(3), &json!(3), &json!(2)),
        "{full}"
    );
    assert!(full.get("exclusive_fence").is_none(), "{full}");

    let refused = ask(&mut client, "POST", path, &want(&leases[2], 1, 3), 409);
    assert_eq!(
        (refused.code(), refused.u64("holder_count")),
        ("lock-held".into(), 2)
    );
    assert_eq!(
        refused.json()["holders"][0]["permits"].as_u64().is_some(),
        true
    );
    let other = ask(&mut client, "POST", path, &want(&leases[2], 1, 4), 409);
    assert_eq!(
        (other.code(), other.u64("limit")),
        ("limit-mismatch".into(), 3)
    );
    // To its holder too, when it asks again.
    let other = ask(&mut client, "POST", path, &want(&leases[1], 1, 4), 409);
    assert_eq!(
        (other.code(), other.u64("limit")),
        ("limit-mismatch".into(), 3)
    );
    let changed = ask(&mut client, "POST", path, &want(&leases[1], 2, 3), 409);
    assert_eq!(changed.code(), "mode-mismatch");
    assert!(
        changed.str("detail").contains("1 permits of 3"),
        "{}",
        changed.text()
    );

    // One that wants two waits until two are free, and one behind it that wants one does not pass it.
    let waits = |lease: &str, permits: u64| {
        let mut body = want(lease, permits, 3);
        body["wait_ms"] = json!(600_000);
        body["poll_ms"] = json!(25_000);
        body
    };
    let first = begin(&cluster, follower, path, &waits(&leases[2], 2), 1);
    let second = begin(&cluster, follower, path, &waits(&leases[3], 1), 2);
    let mut again = waits(&leases[3], 1);
    again["poll_ms"] = json!(0);
    let place = ask(&mut client, "POST", path, &again, 202).json();
    assert_eq!(
        (&place["position"], &place["permits"]),
        (&json!(2), &json!(1)),
        "{place}"
    );
    delete(
        &mut client,
        &format!("{path}?lease={}&fence={}", leases[1], one.u64("fence")),
        200,
    );
    let shown = read(&mut client, path);
    assert_eq!(
        (&shown["permits_held"], &shown["queue_length"]),
        (&json!(2), &json!(2)),
        "{shown}"
    );
    assert_eq!(shown["queue"][0]["permits"], 2, "{shown}");
    let released = delete(
        &mut client,
        &format!("{path}?lease={}&fence={}", leases[0], two.u64("fence")),
        200,
    );
    assert_eq!(released.json()["semaphore"], "pool");
    let (first, second) = (answered(first, 200), answered(second, 200));
    assert_eq!(first.u64("fence"), released.u64("revision"));
    assert_eq!(second.u64("fence"), released.u64("revision"));

    // Both share a fence; a break ends the one that is named.
    let fence = first.u64("fence");
    let broken = delete(
        &mut client,
        &format!(
            "{path}?break=true&now=true&fence={fence}&reason=x&lease={}",
            leases[2]
        ),
        200,
    );
    assert_eq!(
        broken.json()["broken"][0]["permits"],
        2,
        "{}",
        broken.text()
    );
    let list = read(&mut client, "/v1/semaphores?prefix=po");
    assert_eq!(list["count"], 1, "{list}");
    assert_eq!(
        (
            &list["semaphores"][0]["semaphore"],
            &list["semaphores"][0]["permits_held"]
        ),
        (&json!("pool"), &json!(1)),
        "{list}"
    );
    // When all is free another limit may be set.
    delete(
        &mut client,
        &format!("{path}?lease={}&fence={fence}", leases[3]),
        200,
    );
    ask(&mut client, "POST", path, &want(&leases[0], 4, 5), 200);

    let start = std::time::Instant::now();
    let expired = ask(
        &mut client,
        "POST",
        path,
        &json!({ "lease": leases[1], "permits": 2, "limit": 5, "wait_ms": 500 }),
        409,
    );
    assert_eq!(expired.code(), "wait-expired");
    assert!(start.elapsed() >= Duration::from_millis(500));

    let invalid = "invalid-request";
    check_refused(
        &mut client,
        &[
            (
                "POST",
                path,
                json!({ "lease": leases[0] }),
                400,
                invalid,
                "missing field `limit`",
            ),
            (
                "POST",
                path,
                want(&leases[0], 0, 3),
                400,
                invalid,
                "`permits` is 0; accepted are 1 to the `limit`, which is 3",
            ),
            (
                "POST",
                path,
                want(&leases[0], 4, 3),
                400,
                invalid,
                "`permits` is 4",
            ),
            (
                "POST",
                path,
                want(&leases[0], 1, 0),
                400,
                invalid,
                "`limit` is 0",
            ),
            (
                "POST",
                path,
                want(&leases[0], 1, 1 << 53),
                400,
                invalid,
                "`limit` is 9007199254740992",
            ),
            (
                "POST",
                path,
                json!({ "lease": leases[0], "limit": 1, "mode": "shared" }),
                400,
                invalid,
                "unknown field `mode`",
            ),
            (
                "DELETE",
                path,
                Value::Null,
                400,
                invalid,
                "`lease` is missing",
            ),
        ],
    );
}
