//! What is open when rights are taken away ends within a second, and what is asked for next is judged anew.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Guarded, done};
use crate::common::events::EventStream;
use crate::common::{PATIENCE, Setup, machine, wait};

/// The contract says a second; a busy machine is given another.
const SOON_ENOUGH: Duration = Duration::from_secs(2);

/// Holds what is done after rights were taken away to the time that the contract gives it.
fn ends_within_a_second<T>(what: &str, end: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let ended = end();
    let took = began.elapsed();
    assert!(took < SOON_ENOUGH, "{what} went on for {took:?}");
    ended
}

fn watching() -> Value {
    json!([
        {"verbs": ["watch", "read", "list", "write"], "resource": "keys/in/"},
        {"verbs": ["lock", "read"], "resource": "locks/in/"},
        {"verbs": ["lease"], "resource": "leases/"},
    ])
}

#[test]
fn streams_and_polls_end_within_a_second_after_their_rights() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let member = &cluster.members[0];
    let mut root = guarded.root();
    let holder = done(root.post("/v1/leases", &json!({"ttl_ms": 600_000})), 201).str("lease");
    done(root.post("/v1/locks/in/x", &json!({"lease": holder})), 200);
    // Rights that are taken from the role, a token that is deleted, an identity that is, and a token that expires.
    for (way, status) in [
        ("role", 403),
        ("token", 401),
        ("identity", 401),
        ("expiry", 401),
    ] {
        let name = format!("by-{way}");
        let mut token = guarded.identity(&name, &watching());
        let mut opened = Instant::now();
        if way == "expiry" {
            let asked = json!({"identity": name, "expires_in_ms": 3_000});
            opened = Instant::now();
            token = done(root.post("/v1/tokens", &asked), 201).str("token");
        }
        let mut client = guarded.client(&token);
        let lease = done(client.post("/v1/leases", &json!({"ttl_ms": 600_000})), 201).str("lease");
        let mut stream =
            EventStream::open_as(member.client, &token, "/v1/watch?prefix=keys/in/", None)
                .expect("a stream");
        assert_eq!(stream.status, 200, "{}", stream.head);
        assert_eq!(next(&mut stream).event, "start");
        let after = done(
            client.put("/v1/keys/in/a", way.as_bytes()),
            if way == "role" { 201 } else { 200 },
        );
        assert_eq!(next(&mut stream).event, "change");
        let after = after.revision();
        let begin = |method: &str, path: &str, body: &Value| {
            guarded
                .client(&token)
                .begin(method, path, body)
                .expect("it is sent")
        };
        let watch = format!("/v1/watch?prefix=keys/in/&after={after}&wait_ms=60000");
        let read = format!("/v1/keys/in/a?after={after}&wait_ms=60000");
        let acquire = json!({"lease": lease, "wait_ms": 60_000, "poll_ms": 60_000});
        let open = [
            ("a watch", begin("GET", &watch, &Value::Null)),
            ("a read", begin("GET", &read, &Value::Null)),
            ("an acquire", begin("POST", "/v1/locks/in/x", &acquire)),
        ];
        let queued = || {
            let lock = done(guarded.root().get("/v1/locks/in/x"), 200);
            (lock.u64("queue_length") > 0).then_some(())
        };
        wait::until("the acquire waits in the queue", PATIENCE, queued);
        match way {
            "role" => guarded.put_role(&name, &json!([])),
            "token" => {
                let id = token.split('.').next().expect("an id");
                done(root.delete(&format!("/v1/tokens/{id}")), 200);
            }
            "identity" => {
                done(root.delete(&format!("/v1/identities/{name}")), 200);
            }
            _ => {
                let left = Duration::from_secs(3).saturating_sub(opened.elapsed());
                wait::pass(left, || false);
            }
        }
        ends_within_a_second(&name, || {
            for (what, pending) in open {
                let answer = pending.answer(PATIENCE).expect("it is answered");
                assert_eq!(answer.status, status, "{what} {way}: {}", answer.text());
            }
            let last = next(&mut stream);
            assert_eq!(
                (last.event.as_str(), last.json()["status"].as_u64()),
                ("error", Some(status.into()))
            );
            assert_eq!(stream.next(PATIENCE).expect("the stream ends"), None);
        });
        let place = done(root.get("/v1/locks/in/x"), 200);
        assert_eq!(
            place.u64("queue_length"),
            1,
            "the place is its lease's, and stays"
        );
        done(root.delete(&format!("/v1/leases/{lease}")), 200);
    }
}

fn next(stream: &mut EventStream) -> crate::common::events::Message {
    let message = stream.next(PATIENCE).expect("the stream goes on");
    message.expect("a message")
}

#[test]
fn an_administrator_whose_token_goes_while_his_body_is_on_its_way_administers_no_longer() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let member = &cluster.members[0];
    let calls = [
        ("POST", "/v1/cluster/leader", "{}"),
        ("PATCH", "/v1/status", r#"{"log_filter":"debug"}"#),
    ];
    for ((method, path, body), is_taken) in calls
        .into_iter()
        .flat_map(|call| [(call, false), (call, true)])
    {
        let token = guarded.token("root");
        let mut stream = TcpStream::connect(member.client).expect("a connection");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            member.client,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        // It is asked for the body after it was found to be an administrator's.
        let mut told = [0; 25];
        stream.read_exact(&mut told).expect("an answer");
        assert_eq!(&told[..12], b"HTTP/1.1 100");
        let (begun, rest) = body.as_bytes().split_at(1);
        stream.write_all(begun).expect("it is sent");
        if is_taken {
            let id = token.split('.').next().expect("an id");
            done(guarded.root().delete(&format!("/v1/tokens/{id}")), 200);
        }
        stream.write_all(rest).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let is_refused = answer.starts_with("HTTP/1.1 401");
        assert_eq!(is_refused, is_taken, "{path}: {answer}");
    }
}

/// How much of a backup comes to somebody who reads the rest of it once this was done.
fn backup_taken(guarded: &Guarded<'_>, token: &str, meanwhile: impl FnOnce()) -> (u64, u64) {
    let member = guarded.member;
    let mut stream = TcpStream::connect(member.client).expect("a connection");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let head = format!(
        "GET /v1/backup HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
        member.client
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the answer begins");
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = length
        .and_then(|length| length.parse().ok())
        .expect("it says how long it is");
    meanwhile();
    wait::pass(SOON_ENOUGH / 2, || false);
    let mut came = 0;
    let mut piece = vec![0; 64 << 10];
    while came < length {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => came += read as u64,
        }
    }
    (came, length)
}

#[test]
fn a_backup_is_cut_off_when_its_caller_administers_no_longer_and_comes_whole_otherwise() {
    const MIB: usize = 1 << 20;
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let mut root = guarded.root();
    // More than connections hold on their way.
    for number in 0..24 {
        let key = format!("/v1/keys/large/{number}");
        done(root.put(&key, &vec![b'x'; MIB]), 201);
    }
    let everything = json!([{"verbs": ["admin"], "resource": ""}]);
    let token = guarded.identity("keeper", &everything);
    let (came, length) = backup_taken(&guarded, &token, || {});
    assert_eq!(came, length, "nothing was taken");
    let take_role = || guarded.put_role("keeper", &json!([]));
    let delete_token = || {
        let id = token.split('.').next().expect("an id");
        done(guarded.root().delete(&format!("/v1/tokens/{id}")), 200);
    };
    let taken: [(&str, &dyn Fn()); 2] = [("role", &take_role), ("token", &delete_token)];
    for (way, take) in taken {
        guarded.put_role("keeper", &everything);
        let (came, length) = backup_taken(&guarded, &token, take);
        assert!(came < length, "{way}: all of its {length} bytes came");
    }
    let told = guarded.member.output();
    let of_backups = told
        .lines()
        .filter(|line| line.contains("/v1/backup") && line.contains("identity=\"keeper\""));
    assert!(2 <= of_backups.count(), "the audit says so: {told}");
}

/// How much of a snapshot on a stream comes to somebody who reads it once this was done.
fn snapshot_taken(guarded: &Guarded<'_>, token: &str, meanwhile: impl FnOnce()) -> u64 {
    let member = guarded.member;
    let mut stream = TcpStream::connect(member.client).expect("a connection");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let body = json!({"prefixes": ["keys/large/"], "snapshot": true, "wait_ms": 1}).to_string();
    let head = format!(
        "POST /v1/watch HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        member.client,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).expect("the answer begins");
    assert_eq!(&begun, b"HTTP/1.1 200");
    meanwhile();
    let mut came = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return came,
            Ok(read) => came += read as u64,
        }
    }
}

#[test]
fn a_snapshot_that_waits_for_its_reader_is_cut_off_when_the_right_to_it_is_taken() {
    const KEYS: u64 = 7;
    const MIB: u64 = 1 << 20;
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let mut root = guarded.root();
    for number in 0..KEYS {
        let key = format!("/v1/keys/large/{number}");
        done(root.put(&key, &vec![b'x'; MIB as usize]), 201);
    }
    let watches = json!([{"verbs": ["watch", "read", "list"], "resource": "keys/large/"}]);
    let token = guarded.identity("slow", &watches);
    let came = snapshot_taken(&guarded, &token, || {});
    assert!(KEYS * MIB < came, "nothing was taken: {came}");
    let came = snapshot_taken(&guarded, &token, || guarded.put_role("slow", &json!([])));
    assert!(came < KEYS * MIB, "all of it came");
    let told = guarded.member.output();
    let is_of_stream = |line: &&str| {
        line.contains("/v1/watch")
            && line.contains("identity=\"slow\"")
            && line.contains("method=\"POST\"")
    };
    assert_eq!(
        told.lines().filter(is_of_stream).count(),
        1,
        "the audit says so: {told}"
    );
}

#[test]
fn one_identity_waits_in_half_of_the_places_and_another_finds_the_rest() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let member = &cluster.members[0];
    let limit = json!({"watchers": 4});
    done(guarded.root().json("PATCH", "/v1/limits", &limit), 200);
    let (greedy, other) = (
        guarded.identity("greedy", &watching()),
        guarded.identity("other", &watching()),
    );
    let open = |token: &str| {
        EventStream::open_as(member.client, token, "/v1/watch?prefix=keys/in/", None)
            .expect("an answer")
    };
    let held = [open(&greedy), open(&greedy)];
    assert!(held.iter().all(|stream| stream.status == 200));
    let refused = guarded
        .client(&greedy)
        .get("/v1/watch?prefix=keys/in/&after=0&wait_ms=60000");
    let refused = done(refused, 429);
    assert_eq!(
        (
            refused.code().as_str(),
            refused.str("limit").as_str(),
            refused.u64("allowed")
        ),
        ("too-many-waiters", "watchers", 2)
    );
    assert_eq!(open(&other).status, 200);
    drop(held);
    let is_free = || (open(&greedy).status == 200).then_some(());
    wait::until("the places are given back", PATIENCE, is_free);
}

#[test]
fn a_stream_is_resumed_with_the_rights_of_whoever_resumes_it() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let member = &cluster.members[0];
    let strong = guarded.identity("strong", &watching());
    let weak = guarded.identity(
        "weak",
        &json!([{"verbs": ["watch"], "resource": "keys/in/a/"}]),
    );
    let path = "/v1/watch?prefix=keys/in/";
    let mut stream = EventStream::open_as(member.client, &strong, path, None).expect("a stream");
    let start = next(&mut stream);
    let id = start.id.expect("where it begins");
    done(
        guarded.client(&strong).put("/v1/keys/in/secret", b"secret"),
        201,
    );
    assert_eq!(next(&mut stream).event, "change");
    drop(stream);
    let refused = EventStream::open_as(member.client, &weak, path, Some(id)).expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.head);
    let within = "/v1/watch?prefix=keys/in/a/";
    let mut allowed =
        EventStream::open_as(member.client, &weak, within, Some(id)).expect("a stream");
    assert_eq!(
        (allowed.status, next(&mut allowed).event.as_str()),
        (200, "start")
    );
    let resumed = EventStream::open_as(member.client, &strong, path, Some(id)).expect("a stream");
    assert_eq!(resumed.status, 200);
}

#[test]
fn a_right_taken_away_anywhere_counts_for_the_next_call_everywhere() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let guarded = Guarded::of(&cluster);
    let at = |number: usize, token: &str| {
        cluster.members[number]
            .client()
            .persistent()
            .with_token(token)
    };
    let token = guarded.identity("ci", &watching());
    for round in 0..5 {
        guarded.put_role("ci", &watching());
        // The role was given at one member and is known at each, whoever is asked.
        done(
            at(follower, &token).put("/v1/keys/in/a", b"x"),
            if round == 0 { 201 } else { 200 },
        );
        done(at(leader, &token).get("/v1/keys/in/a"), 200);
        let lease = done(
            at(follower, &token).post("/v1/leases", &json!({"ttl_ms": 60_000})),
            201,
        );
        let lease = lease.str("lease");
        let mut root = at(leader, &guarded.root);
        done(
            root.json("PUT", "/v1/roles/ci", &json!({"grants": []})),
            200,
        );
        for (what, answer) in [
            ("a write", at(follower, &token).put("/v1/keys/in/a", b"y")),
            ("a read", at(follower, &token).get("/v1/keys/in/a")),
            (
                "a grant",
                at(follower, &token).post("/v1/leases", &json!({"ttl_ms": 60_000})),
            ),
            (
                "a lock",
                at(follower, &token).post("/v1/locks/in/x", &json!({"lease": lease})),
            ),
            (
                "a transaction",
                at(follower, &token).post(
                    "/v1/txn",
                    &json!({"then": [{"put": {"key": "in/a", "value": "z"}}]}),
                ),
            ),
        ] {
            let answer = answer.expect("the member answers");
            assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        }
        assert_eq!(
            done(root.get("/v1/keys/in/a"), 200).text(),
            "x",
            "nothing was written"
        );
    }
    // A token works at every member as soon as it is there, and at none as soon as it is gone.
    for number in [0, 1, 2, 0, 1, 2] {
        let token = guarded.token("ci");
        assert_eq!(
            done(at(number, &token).get("/v1/whoami"), 200).str("identity"),
            "ci"
        );
        let id = token.split('.').next().expect("an id");
        let gone = format!("/v1/tokens/{id}");
        done(at(leader, &guarded.root).delete(&gone), 200);
        done(at(number, &token).get("/v1/access"), 401);
    }
}
