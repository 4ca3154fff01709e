//! Every code of the contract's table that these calls can answer: its status, its code and what became of the request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{Answer, Client, Cluster, SOON, Setup, acquire, grant, machine, wait};

const JSON: (&str, &str) = ("content-type", "application/json");

/// What the cases refer to as `{name}`.
struct Fixture {
    /// Alive, holds the lock `held`.
    lease: String,
    /// The fence of that hold.
    fence: u64,
    /// Alive, holds nothing but the key `leased`.
    other: String,
    /// Ended.
    ended: String,
    /// The present revision of the key `key`.
    tag: u64,
}

impl Fixture {
    fn make(client: &mut Client) -> Fixture {
        let lease = grant(client, 600_000);
        let other = grant(client, 600_000);
        let ended = grant(client, 600_000);
        let fence = acquire(client, "held", &lease);
        let tag = client
            .put("/v1/keys/key", b"value")
            .expect("the member answers")
            .u64("mod_revision");
        let leased = format!("/v1/keys/leased?lease={other}");
        client
            .put(&leased, b"value")
            .expect("the member answers")
            .expect(201);
        client
            .delete(&format!("/v1/leases/{ended}"))
            .expect("the member answers")
            .expect(200);
        Fixture {
            lease,
            fence,
            other,
            ended,
            tag,
        }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{lease}", &self.lease)
            .replace("{other}", &self.other)
            .replace("{ended}", &self.ended)
            .replace("{fence}", &self.fence.to_string())
            .replace("{stale}", &(self.fence - 1).to_string())
            .replace("{tag}", &self.tag.to_string())
    }
}

/// A request, and the status and code of its answer. Every one of them says that nothing was applied.
struct Case {
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
    code: &'static str,
    /// A part of the detail, or of the names of further fields.
    names: &'static str,
}

#[rustfmt::skip]
const fn case(
    status: u16, code: &'static str, method: &'static str, path: &'static str,
    headers: &'static [(&'static str, &'static str)], body: &'static str, names: &'static str,
) -> Case {
    Case { method, path, headers, body, status, code, names }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case(400, "invalid-request", "GET", "/v1/keys/key?nonsense=1", &[], "", "nonsense"),
    case(400, "invalid-request", "GET", "/v1/keys/key?consistency=eventual", &[], "", "consistency"),
    case(400, "invalid-request", "GET", "/v1/keys/key?min_revision=x", &[], "", "min_revision"),
    case(400, "invalid-request", "PUT", "/v1/keys/key", &[("tenure-guard", "lock=held")], "x", "fence"),
    case(400, "invalid-request", "GET", "/v1/keys/key", &[("tenure-guard", "lock=held; fence=1")], "", "Tenure-Guard"),
    case(400, "invalid-request", "PUT", "/v1/keys/key", &[("idempotency-key", "")], "x", "Idempotency-Key"),
    case(400, "invalid-request", "POST", "/v1/leases", &[JSON], r#"{"ttl_ms":2000,"nonsense":1}"#, "nonsense"),
    case(400, "invalid-request", "POST", "/v1/leases", &[JSON], r#"{"ttl_ms":"2000"}"#, "ttl_ms"),
    case(400, "invalid-request", "POST", "/v1/leases", &[JSON], "{", ""),
    case(400, "invalid-request", "POST", "/v1/leases", &[JSON], r#"{"ttl_ms":2000,"name":"a\nb"}"#, "name"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"{lease}","mode":"reader"}"#, "mode"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"{lease}","priority":101}"#, "priority"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"{lease}","lock_delay_ms":60001}"#, "lock_delay_ms"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"{lease}","wait_ms":86400001}"#, "wait_ms"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"{lease}","ttl_ms":2000}"#, "ttl_ms"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], "{}", "lease"),
    case(400, "invalid-request", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"nonsense"}"#, "lease"),
    case(400, "invalid-request", "GET", "/v1/watch", &[], "", "prefix"),
    case(400, "invalid-request", "GET", "/v1/watch?prefix=keys/&wait_ms=600001", &[], "", "wait_ms"),
    case(400, "invalid-request", "PUT", "/v1/keys/key", &[("if-match", "nonsense")], "x", "atch"),
    case(400, "invalid-name", "PUT", "/v1/keys/a%00b", &[], "x", ""),
    case(400, "invalid-name", "GET", "/v1/locks/%FF", &[], "", ""),
    case(400, "invalid-name", "GET", "/v1/keys/a%zz", &[], "", ""),
    case(400, "ttl-out-of-range", "POST", "/v1/leases", &[JSON], r#"{"ttl_ms":999}"#, "min_ms"),
    case(400, "ttl-out-of-range", "POST", "/v1/leases", &[JSON], r#"{"ttl_ms":86400001}"#, "max_ms"),
    case(400, "ttl-out-of-range", "POST", "/v1/locks/free", &[JSON], r#"{"ttl_ms":1}"#, "min_ms"),
    case(403, "forbidden", "GET", "/v1/keys/key", &[("host", "evil.test")], "", "evil.test"),
    case(403, "forbidden", "GET", "/v1/keys/key", &[("origin", "http://evil.test")], "", "evil.test"),
    case(404, "key-not-found", "GET", "/v1/keys/absent", &[], "", "absent"),
    case(404, "key-not-found", "DELETE", "/v1/keys/absent", &[], "", "absent"),
    case(404, "lease-not-found", "GET", "/v1/leases/0000000000000001", &[], "", "0000000000000001"),
    case(404, "lease-not-found", "POST", "/v1/leases/0000000000000001/renew", &[], "", "0000000000000001"),
    case(404, "lease-not-found", "DELETE", "/v1/leases/0000000000000001", &[], "", "0000000000000001"),
    case(404, "lease-not-found", "POST", "/v1/locks/free", &[JSON], r#"{"lease":"0000000000000001"}"#, "0000000000000001"),
    case(404, "lease-not-found", "PUT", "/v1/keys/new?lease=0000000000000001", &[], "x", "0000000000000001"),
    case(404, "not-held", "DELETE", "/v1/locks/held?lease={other}", &[], "", ""),
    case(404, "not-held", "DELETE", "/v1/locks/free?lease={lease}&fence=1", &[], "", ""),
    case(404, "route-not-found", "GET", "/v1/nonsense", &[], "", "/v1/"),
    case(404, "route-not-found", "GET", "/nonsense", &[], "", "/v1/"),
    case(405, "method-not-allowed", "PATCH", "/v1/keys/key", &[], "", "DELETE"),
    case(405, "method-not-allowed", "POST", "/v1/status", &[], "", "GET"),
    case(406, "not-acceptable", "GET", "/v1/locks/held", &[("accept", "text/html")], "", "text/html"),
    case(415, "unsupported-media-type", "POST", "/v1/leases", &[("content-type", "text/plain")], r#"{"ttl_ms":2000}"#, "application/json"),
    case(415, "unsupported-media-type", "POST", "/v1/leases", &[], r#"{"ttl_ms":2000}"#, "application/json"),
    case(421, "wrong-cluster", "GET", "/v1/keys/key", &[("tenure-cluster", "00000000000000000000000000000001")], "", ""),
    case(409, "lock-held", "POST", "/v1/locks/held", &[JSON], r#"{"lease":"{other}"}"#, "holders"),
    case(409, "lock-held", "POST", "/v1/locks/held", &[JSON], r#"{"ttl_ms":2000}"#, "queue_length"),
    case(409, "wait-expired", "POST", "/v1/locks/held", &[JSON], r#"{"lease":"{other}","wait_ms":300,"poll_ms":5000}"#, "holders"),
    case(409, "key-on-other-lease", "PUT", "/v1/keys/leased?lease={lease}", &[], "x", "{other}"),
    case(410, "lease-expired", "GET", "/v1/leases/{ended}", &[], "", "{ended}"),
    case(410, "lease-expired", "POST", "/v1/leases/{ended}/renew", &[], "", "{ended}"),
    case(410, "lease-expired", "DELETE", "/v1/leases/{ended}", &[], "", "{ended}"),
    case(410, "lease-expired", "POST", "/v1/locks/held", &[JSON], r#"{"lease":"{ended}","wait_ms":1000}"#, "{ended}"),
    case(410, "lease-expired", "PUT", "/v1/keys/new?lease={ended}", &[], "x", "{ended}"),
    case(410, "revision-ahead", "GET", "/v1/watch?prefix=keys/&after=9007199254740000", &[], "", "9007199254740000"),
    case(412, "condition-failed", "PUT", "/v1/keys/key", &[("if-match", "\"1\"")], "x", "mod_revision"),
    case(412, "condition-failed", "PUT", "/v1/keys/absent", &[("if-match", "\"7\"")], "x", "mod_revision"),
    case(412, "condition-failed", "PUT", "/v1/keys/key", &[("if-none-match", "*")], "x", "mod_revision"),
    case(412, "condition-failed", "DELETE", "/v1/keys/key", &[("if-match", "\"1\"")], "", "mod_revision"),
    case(412, "fence-stale", "DELETE", "/v1/locks/held?lease={lease}&fence={stale}", &[], "", ""),
    case(412, "fence-stale", "PUT", "/v1/keys/key", &[("tenure-guard", "lock=held; fence=9000")], "x", "{fence}"),
];

/// Checks what every problem must have.
pub(crate) fn check_problem(what: &str, answer: &Answer, status: u16, code: &str, outcome: &str) {
    let problem = answer.json();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{what}: {}",
        answer.text()
    );
    assert_eq!(problem["outcome"], outcome, "{what}: {problem}");
    assert_eq!(problem["status"], status, "{what}: {problem}");
    assert_eq!(
        problem["type"],
        format!("urn:tenure:problem:{code}"),
        "{what}: {problem}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{what}"
    );
    let told = ["title", "detail"]
        .iter()
        .all(|field| problem[field].as_str().is_some_and(|text| !text.is_empty()));
    assert!(told, "{what}: a problem is explained: {problem}");
    let retry = problem["retry"].as_str().unwrap_or_default();
    assert!(
        ["never", "same", "after"].contains(&retry),
        "{what}: {problem}"
    );
    assert_eq!(
        retry == "after",
        problem["retry_after_ms"].is_u64(),
        "{what}: {problem}"
    );
    assert_eq!(
        retry == "after",
        answer.header("retry-after").is_some(),
        "{what}: {problem}"
    );
    if status == 405 {
        assert!(
            answer
                .header("allow")
                .is_some_and(|allow| allow.contains("GET")),
            "{what}: allow is named"
        );
    }
}

/// Checks every case at one member; all failures are told together.
fn check_cases(client: &mut Client) {
    let fixture = Fixture::make(client);
    let before = client
        .get("/v1/keys/key")
        .expect("the member answers")
        .revision();
    let mut failed = Vec::new();
    for case in CASES {
        let (path, body) = (fixture.fill(case.path), fixture.fill(case.body));
        let what = format!("{} {path} {:?} {body}", case.method, case.headers);
        let answer = client.call(case.method, &path, case.headers, body.as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        let checked = std::panic::catch_unwind(|| {
            check_problem(&what, &answer, case.status, case.code, "not_applied");
            assert!(
                answer.text().contains(&fixture.fill(case.names)),
                "{what} names it: {}",
                answer.text()
            );
        });
        if checked.is_err() {
            failed.push(what);
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases failed: {failed:#?}",
        failed.len(),
        CASES.len()
    );
    // Refused is refused: the only revisions since are those of the place that waited and left.
    let after = client
        .get("/v1/keys/key")
        .expect("the member answers")
        .expect(200);
    assert_eq!(after.text(), "value");
    let history = client.get(&format!(
        "/v1/watch?prefix=keys/&prefix=leases/&after={before}"
    ));
    let history = history.expect("the member answers").expect(200).json();
    assert_eq!(history["events"], json!([]), "a refused write left a trace");
}

#[test]
fn every_refusal_has_its_status_code_and_outcome_at_a_single_member() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    check_cases(&mut cluster.members[0].client());
}

#[test]
fn every_refusal_has_its_status_code_and_outcome_at_a_follower_and_at_the_leader() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    check_cases(&mut cluster.members[follower].client());
    let mut leader = cluster.members[cluster.leader()].client();
    let missing = leader.get("/v1/keys/absent").expect("the member answers");
    check_problem(
        "a read at the leader",
        &missing,
        404,
        "key-not-found",
        "not_applied",
    );
}

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
    let _machine = machine::alone();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let mut client = cluster.members[leader].client();
    client.get("/v1/status").expect("the member answers");
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    for other in &others {
        cluster.members[*other].signal(Signal::STOP);
    }
    // The leader still believes that it leads: it proposes, and never hears that it is committed.
    let answer = client
        .put("/v1/keys/limbo", b"x")
        .expect("the member answers");
    for other in &others {
        cluster.members[*other].signal(Signal::CONT);
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
    let _machine = machine::alone();
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
