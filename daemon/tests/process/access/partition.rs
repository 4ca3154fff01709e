//! A member that does not hear of a change of rights: what it may still do for whom, and for how long.

use std::time::Instant;

use serde_json::{Value, json};

use super::done;
use crate::common::{Answer, SOON, Setup, machine, wait};

/// What is asked of the cluster by nobody in particular.
const ASKED: [(&str, &str, &str); 8] = [
    ("PUT", "/v1/keys/by-nobody", "x"),
    ("POST", "/v1/leases", r#"{"ttl_ms":60000}"#),
    (
        "POST",
        "/v1/txn",
        r#"{"then":[{"put":{"key":"by-nobody","value":"x"}}]}"#,
    ),
    ("DELETE", "/v1/keys/before", ""),
    ("PATCH", "/v1/limits", r#"{"watchers":7}"#),
    ("PATCH", "/v1/access", r#"{"enabled":false}"#),
    ("GET", "/v1/keys/before", ""),
    ("GET", "/v1/identities", ""),
];

#[test]
fn a_member_that_has_not_heard_that_access_control_is_on_changes_and_confirms_nothing_for_nobody() {
    let _machine = machine::half();
    let cluster = Setup::of(3).with_relays().start();
    let leader = cluster.leader();
    let deaf = (leader + 1) % 3;
    let (leader, follower) = (&cluster.members[leader], &cluster.members[deaf]);
    let mut client = leader.client().persistent();
    let everything = json!({"grants": [{"verbs": ["admin"], "resource": ""}]});
    done(client.json("PUT", "/v1/roles/admin", &everything), 200);
    let root = json!({"roles": ["admin"]});
    done(client.json("PUT", "/v1/identities/root", &root), 200);
    let root = done(client.post("/v1/tokens", &json!({"identity": "root"})), 201).str("token");
    done(client.put("/v1/keys/before", b"secret"), 201);
    cluster.wait_until_equal();

    // It hears nothing any more, and is heard.
    cluster.relays[deaf].cut();
    let cut = Instant::now();
    let on = json!({"enabled": true});
    done(client.json("PATCH", "/v1/access", &on), 200);
    let asked = ASKED.map(|(method, path, body)| {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let pending = follower.client().begin(method, path, &body);
        (method, path, pending.expect("it is sent"))
    });
    let took = cut.elapsed();
    for (method, path, pending) in asked {
        let answer: Answer = pending.answer(SOON).expect("it is answered");
        let told = (answer.status, answer.code());
        eprintln!("{took:?} after the cut: {method} {path}: {told:?}");
        let is_fitting = match answer.code().as_str() {
            "no-leader" => answer.not_applied(),
            // It was sent to the leader, whose answer was not heard.
            "outcome-unknown" => method != "GET",
            _ => false,
        };
        assert!(is_fitting, "{method} {path}: {}", answer.text());
    }
    // What went through was refused where it was applied.
    let mut root = leader.client().with_token(&root).persistent();
    done(root.get("/v1/keys/by-nobody"), 404);
    assert_eq!(done(root.get("/v1/keys/before"), 200).text(), "secret");
    assert_eq!(done(root.get("/v1/leases"), 200).u64("count"), 0);
    let limits = done(root.get("/v1/limits"), 200).json();
    assert_ne!(limits["limits"]["watchers"], 7);
    let access = done(root.get("/v1/access"), 200).json();
    assert_eq!(access["enabled"], true);

    // What it has seen it shows to whoever asks for that, with its age, for as long as it hears nothing.
    let local = follower.client().get("/v1/keys/before?consistency=local");
    let local = done(local, 200);
    let age = local.header("tenure-staleness-ms");
    let age: u128 = age.and_then(|age| age.parse().ok()).expect("its age");
    assert!(age <= cut.elapsed().as_millis() + 1_000, "{age}");
    done(
        leader.client().get("/v1/keys/before?consistency=local"),
        401,
    );

    // From when it hears again, nobody is anybody.
    cluster.relays[deaf].heal();
    wait::until("it hears that access control is on", SOON, || {
        let path = "/v1/keys/before?consistency=local";
        (follower.client().get(path).ok()?.status == 401).then_some(())
    });
    for (method, path, body) in ASKED {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let asked = follower.client().json(method, path, &body);
        done(asked, 401);
    }
}
