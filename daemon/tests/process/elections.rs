//! Elections, asked for at a follower: campaigns, proclaims, handovers and vacancies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::queue::{answered, ask, begin, begin_read, check_refused, delete, read, seen};
use crate::common::{Setup, grant, machine};

/// What a busy machine may add to a time that is promised.
const ROOM: Duration = Duration::from_millis(1_500);

fn campaign(lease: &str, candidate: &str) -> Value {
    json!({
        "lease": lease, "candidate": candidate, "value": format!("http://{candidate}:80"),
        "wait_ms": 600_000, "poll_ms": 25_000
    })
}

#[test]
fn a_leader_proclaims_hands_over_and_resigns_and_a_vacancy_is_a_state() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let leases: Vec<String> = (0..4).map(|_| grant(&mut client, 60_000)).collect();
    let path = "/v1/elections/api";

    let vacant = read(&mut client, path);
    assert_eq!(
        (
            &vacant["leader"],
            &vacant["candidates"],
            &vacant["mod_revision"]
        ),
        (&Value::Null, &json!([]), &json!(0)),
        "{vacant}"
    );
    let elected = ask(
        &mut client,
        "POST",
        path,
        &campaign(&leases[0], "host-a"),
        200,
    );
    let fence = elected.u64("fence");
    let json = elected.json();
    for (field, expected) in [
        ("election", json!("api")),
        ("state", json!("leader")),
        ("candidate", json!("host-a")),
        ("value", json!("http://host-a:80")),
        ("lease", json!(leases[0])),
    ] {
        assert_eq!(json[field], expected, "{json}");
    }
    let tried = json!({ "lease": leases[1], "candidate": "host-b" });
    let refused = ask(&mut client, "POST", path, &tried, 409);
    assert_eq!(refused.code(), "lock-held");
    assert_eq!(
        refused.json()["leader"]["candidate"],
        "host-a",
        "{}",
        refused.text()
    );

    // The leader says something new; nobody else can, and nobody with an old fence.
    let say = |lease: &str, candidate: &str, fence: u64| json!({ "lease": lease, "candidate": candidate, "fence": fence, "value": "moved" });
    let proclaimed = ask(
        &mut client,
        "PUT",
        path,
        &say(&leases[0], "host-a", fence),
        200,
    )
    .json();
    assert_eq!(
        (&proclaimed["value"], &proclaimed["fence"]),
        (&json!("moved"), &json!(fence))
    );
    assert_eq!(proclaimed["state"], "leader");
    let stale = ask(
        &mut client,
        "PUT",
        path,
        &say(&leases[0], "host-a", fence - 1),
        412,
    );
    assert_eq!(
        (stale.code(), stale.u64("fence")),
        ("fence-stale".into(), fence)
    );
    let other = ask(
        &mut client,
        "PUT",
        path,
        &say(&leases[1], "host-b", fence),
        404,
    );
    assert_eq!(other.code(), "not-held");
    let shown = read(&mut client, path);
    assert_eq!(shown["leader"]["value"], "moved", "{shown}");
    assert_eq!(shown["leader"]["elected_revision"], fence, "{shown}");
    assert_eq!(shown["mod_revision"], proclaimed["revision"], "{shown}");

    // Candidates wait in the order of their priority.
    let second = begin(&cluster, follower, path, &campaign(&leases[1], "host-b"), 1);
    let third = begin(&cluster, follower, path, &campaign(&leases[2], "host-c"), 2);
    let mut urgent = campaign(&leases[3], "host-d");
    urgent["priority"] = json!(10);
    urgent["poll_ms"] = json!(0);
    let place = ask(&mut client, "POST", path, &urgent, 202).json();
    assert_eq!(
        (
            &place["state"],
            &place["position"],
            &place["queue_length"],
            &place["leader"]["candidate"]
        ),
        (&json!("candidate"), &json!(1), &json!(3), &json!("host-a")),
        "{place}"
    );
    let candidates = read(&mut client, path)["candidates"].clone();
    assert_eq!(candidates[0]["candidate"], "host-d", "{candidates}");
    assert_eq!(candidates[1]["value"], "http://host-b:80", "{candidates}");

    // A handover passes by those who wait ahead, at one revision.
    let pass = |lease: &str, fence: u64, to: &str| json!({ "lease": lease, "candidate": "host-a", "fence": fence, "handover_to": to });
    let nobody = ask(
        &mut client,
        "PATCH",
        path,
        &pass(&leases[0], fence, "host-x"),
        404,
    );
    assert_eq!(nobody.code(), "not-held");
    assert!(
        nobody.str("detail").contains("\"host-x\""),
        "{}",
        nobody.text()
    );
    let stale = ask(
        &mut client,
        "PATCH",
        path,
        &pass(&leases[0], fence - 1, "host-c"),
        412,
    );
    assert_eq!(stale.code(), "fence-stale");
    let passed = ask(
        &mut client,
        "PATCH",
        path,
        &pass(&leases[0], fence, "host-c"),
        200,
    )
    .json();
    let third = answered(third, 200);
    assert_eq!(passed["leader"]["candidate"], "host-c", "{passed}");
    assert_eq!(
        third.u64("fence"),
        passed["revision"].as_u64().unwrap_or(0),
        "{passed}"
    );
    assert!(third.u64("fence") > fence);

    // Withdrawn, and resigned: the next leads at that revision.
    let left = delete(
        &mut client,
        &format!("{path}?lease={}&candidate=host-d", leases[3]),
        200,
    )
    .json();
    assert_eq!(
        (&left["election"], &left["left"]),
        (&json!("api"), &json!(true)),
        "{left}"
    );
    let resign = format!(
        "{path}?lease={}&candidate=host-c&fence={}",
        leases[2],
        third.u64("fence")
    );
    let resigned = delete(&mut client, &resign, 200).json();
    assert_eq!(resigned["resigned"], true, "{resigned}");
    assert_eq!(delete(&mut client, &resign, 404).code(), "not-held");
    let second = answered(second, 200);
    assert_eq!(resigned["revision"], second.u64("fence"), "{resigned}");

    // Somebody who looks on sees the vacancy.
    let after = read(&mut client, path)["mod_revision"].clone();
    let look = format!("{path}?after={after}&wait_ms=20000");
    let looking = begin_read(&cluster, follower, &look);
    let resign = format!(
        "{path}?lease={}&candidate=host-b&fence={}",
        leases[1],
        second.u64("fence")
    );
    delete(&mut client, &resign, 200);
    let vacant = seen(looking).json();
    assert_eq!(vacant["leader"], Value::Null, "{vacant}");
    let list = read(&mut client, "/v1/elections?prefix=api");
    assert_eq!(list["count"], 0, "{list}");
}

#[test]
fn a_campaign_ends_with_its_lease_and_a_leadership_with_its_own() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let path = "/v1/elections/mortal";
    let (leading, dying) = (grant(&mut client, 60_000), grant(&mut client, 1_000));
    let elected = ask(&mut client, "POST", path, &campaign(&leading, "a"), 200);
    let began = Instant::now();
    let ended = ask(&mut client, "POST", path, &campaign(&dying, "b"), 410);
    assert_eq!(
        (ended.code(), ended.str("lease")),
        ("lease-expired".into(), dying.clone())
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1),
        "ended {took:?} after it was asked, within its TTL"
    );
    assert!(
        took <= Duration::from_secs(1) + ROOM,
        "answered only after {took:?}"
    );
    let again = ask(&mut client, "POST", path, &campaign(&dying, "b"), 410);
    assert_eq!(again.code(), "lease-expired");

    // The leader's lease ends: whoever waits leads.
    let list = read(&mut client, "/v1/elections?prefix=mor");
    assert_eq!(
        (
            &list["count"],
            &list["elections"][0]["election"],
            &list["elections"][0]["candidate_count"]
        ),
        (&json!(1), &json!("mortal"), &json!(0)),
        "{list}"
    );
    let own = json!({ "ttl_ms": 60_000, "candidate": "c", "wait_ms": 600_000 });
    let pending = begin(&cluster, follower, path, &own, 1);
    let revoked = delete(&mut client, &format!("/v1/leases/{leading}"), 200);
    let next = answered(pending, 200);
    assert_eq!(next.u64("fence"), revoked.u64("revision"));
    assert!(next.u64("fence") > elected.u64("fence"));

    // A leader is broken as a holder of a lock is.
    let fence = next.u64("fence");
    let broken = delete(
        &mut client,
        &format!("{path}?break=true&fence={fence}&reason=gone"),
        200,
    )
    .json();
    assert_eq!(broken["broken"][0]["candidate"], "c", "{broken}");
    assert!(
        broken["delay_remaining_ms"].as_u64() > Some(50_000),
        "{broken}"
    );
    let vacant = read(&mut client, path);
    assert_eq!(vacant["leader"], Value::Null, "{vacant}");
    assert!(
        vacant["delay_remaining_ms"].as_u64() > Some(50_000),
        "{vacant}"
    );
}

#[test]
fn a_wrong_request_for_an_election_is_told_what_is_wrong() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    let lease = grant(&mut client, 60_000);
    let path = "/v1/elections/wrong";
    let with = |field: &str, value: Value| {
        let mut body = json!({ "lease": lease, "candidate": "a" });
        body[field] = value;
        body
    };
    let long = "v".repeat(65_537);
    let pass = json!({ "lease": lease, "candidate": "a", "fence": 1 });
    let invalid = "invalid-request";
    check_refused(
        &mut client,
        &[
            (
                "POST",
                path,
                json!({ "lease": lease }),
                400,
                invalid,
                "missing field `candidate`",
            ),
            (
                "POST",
                path,
                with("owner", json!("a")),
                400,
                invalid,
                "unknown field `owner`",
            ),
            (
                "POST",
                path,
                with("candidate", json!("a\n")),
                400,
                invalid,
                "candidate has the control character",
            ),
            (
                "POST",
                path,
                with("value", json!(1)),
                400,
                invalid,
                "field `value`",
            ),
            (
                "POST",
                path,
                with("value", json!(long)),
                413,
                "too-large",
                "election_value_bytes is 65536",
            ),
            (
                "POST",
                path,
                with("priority", json!(-101)),
                400,
                invalid,
                "`priority` is -101",
            ),
            (
                "PUT",
                path,
                with("value", json!("x")),
                400,
                invalid,
                "missing field `fence`",
            ),
            (
                "PATCH",
                path,
                pass.clone(),
                400,
                invalid,
                "missing field `handover_to`",
            ),
            (
                "DELETE",
                "/v1/elections/wrong?candidate=a",
                Value::Null,
                400,
                invalid,
                "`lease` is missing",
            ),
            (
                "DELETE",
                "/v1/elections/wrong?owner=a&lease=3f9c2a7b5d1e8046",
                Value::Null,
                400,
                invalid,
                "`owner`",
            ),
        ],
    );
    let longest = with("value", json!("v".repeat(65_536)));
    ask(&mut client, "POST", path, &longest, 200);
}
