//! Who is let in: tokens and what is said of those that are none, secrets that are never told, rates and the audit.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Guarded, done};
use crate::common::{Setup, machine, wait};

#[test]
fn a_secret_is_in_no_log_no_metric_no_file_and_no_error() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("log-filter", "trace").start();
    let guarded = Guarded::of(&cluster);
    let member = &cluster.members[0];
    let mut root = guarded.root();
    let token = guarded.identity("ci", &json!([{"verbs": ["read"], "resource": "keys/"}]));
    let secret = token.split('.').nth(1).expect("a secret").to_owned();
    let mut told = String::new();
    let mut client = guarded.client(&token);
    told += &done(client.get("/v1/whoami"), 200).text();
    told += &done(client.get("/v1/keys/none"), 404).text();
    told += &done(client.put("/v1/keys/a", b"x"), 403).text();
    told += &done(root.get("/v1/tokens"), 200).text();
    told += &done(root.get("/v1/identities/ci"), 200).text();
    // Where it does not belong, and with a slip.
    told += &done(root.delete(&format!("/v1/tokens/{token}")), 400).text();
    told += &done(root.get(&format!("/v1/tokens?start_after={token}")), 400).text();
    for wrong in [
        format!("Bearer {token}x"),
        format!("Basic {token}"),
        token.clone(),
        format!("Bearer {}", token.replacen(|c: char| c != '0', "0", 1)),
    ] {
        let answer = member
            .client()
            .call("GET", "/v1/status", &[("authorization", &wrong)], b"");
        told += &done(answer, 401).text();
    }
    told += &done(root.get("/metrics"), 200).text();
    let backup = done(root.get("/v1/backup"), 200);
    told += &member.output();
    assert!(!told.contains(&secret), "told");
    let raw: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&secret[2 * at..2 * at + 2], 16).expect("hex digits"))
        .collect();
    for needle in [secret.as_bytes(), raw.as_slice()] {
        assert!(!contains(&backup.body, needle), "in the backup");
        assert!(!in_files(&member.data_dir, needle), "in the data directory");
    }
    // The hash is kept, so the files are those in which it would be.
    assert!(in_files(&member.data_dir, b"ci"), "the identity is there");
}

fn in_files(dir: &Path, needle: &[u8]) -> bool {
    let entries = fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            match path.is_dir() {
                true => in_files(&path, needle),
                // A socket is no file.
                false => fs::read(&path).is_ok_and(|bytes| contains(&bytes, needle)),
            }
        })
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_thousand_guesses_are_slowed_down_and_keep_nobody_else_out() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let mut guesser = cluster.members[0].client();
    let mut counts = (0, 0);
    for number in 0..1_000 {
        let guess = format!("Bearer {number:016x}.{}", "00".repeat(32));
        let answer = guesser.call("GET", "/v1/keys/a", &[("authorization", &guess)], b"");
        let answer = answer.expect("the member answers");
        match answer.status {
            401 => counts.0 += 1,
            429 => {
                counts.1 += 1;
                assert_eq!(answer.code(), "too-many-requests");
                let wait = answer.u64("retry_after_ms");
                assert!((1..=1_000).contains(&wait), "{wait}");
                assert!(answer.header("retry-after").is_some());
            }
            status => panic!("{status}: {}", answer.text()),
        }
    }
    assert!(counts.0 < 100 && 900 < counts.1, "{counts:?}");
    // A right one from the same address is not a guess.
    done(guarded.root().get("/v1/whoami"), 200);
}

#[test]
fn a_token_expires_and_is_told_so_only_with_its_secret() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let mut root = guarded.root();
    guarded.identity("ci", &json!([]));
    let short = json!({"identity": "ci", "expires_in_ms": 1_000});
    let created = done(root.post("/v1/tokens", &short), 201);
    let token = created.str("token");
    let who = done(guarded.client(&token).get("/v1/whoami"), 200);
    assert_eq!(
        (who.str("identity"), who.str("token")),
        ("ci".into(), created.str("id"))
    );
    assert!(who.u64("expires_in_ms") <= 1_000);
    let expired = wait::until("the token has expired", Duration::from_secs(10), || {
        let answer = guarded.client(&token).get("/v1/whoami").ok()?;
        (answer.status == 401).then_some(answer)
    });
    assert!(
        expired.str("detail").contains("has expired"),
        "{}",
        expired.text()
    );
    // Who has the right secret does not guess, however often it comes too late: others at its address are not kept out.
    for _ in 0..30 {
        done(guarded.client(&token).get("/v1/whoami"), 401);
    }
    let told = guarded.member.output();
    let is_of = |line: &&str| line.contains("has expired") && line.contains("identity=\"ci\"");
    let line = told
        .lines()
        .find(is_of)
        .expect("the audit says whose it was");
    assert!(line.contains(&created.str("id")), "{line}");
    let wrong = format!("{}.{}", created.str("id"), "00".repeat(32));
    let wrong = done(guarded.client(&wrong).get("/v1/whoami"), 401);
    let none = format!("{}.{}", "0".repeat(16), "00".repeat(32));
    let none = done(guarded.client(&none).get("/v1/whoami"), 401);
    assert_eq!(wrong.json()["detail"], none.json()["detail"], "told alike");
    let listed = done(root.get("/v1/tokens"), 200).json();
    assert!(
        listed["tokens"]
            .as_array()
            .expect("tokens")
            .iter()
            .any(|token| token["expires_in_ms"] == 0)
    );
    // Rotation: two work at a time, and the old one goes.
    let (old, new) = (guarded.token("ci"), guarded.token("ci"));
    done(guarded.client(&old).get("/v1/whoami"), 200);
    done(guarded.client(&new).get("/v1/whoami"), 200);
    let id = old.split('.').next().expect("an id");
    done(root.delete(&format!("/v1/tokens/{id}")), 200);
    done(guarded.client(&old).get("/v1/whoami"), 401);
    done(guarded.client(&new).get("/v1/whoami"), 200);
    let keyed = root.call(
        "POST",
        "/v1/tokens",
        &[
            ("idempotency-key", "k"),
            ("content-type", "application/json"),
        ],
        br#"{"identity":"ci"}"#,
    );
    assert!(done(keyed, 400).str("detail").contains("shown once"));
}

#[test]
fn an_idempotency_key_is_its_identitys_and_a_repeat_is_judged_by_the_present_rights() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let grants = json!([{"verbs": ["write"], "resource": "keys/in/"}]);
    let (a, b) = (
        guarded.identity("a", &grants),
        guarded.identity("b", &grants),
    );
    let put = |token: &str| {
        guarded
            .client(token)
            .call("PUT", "/v1/keys/in/k", &[("idempotency-key", "same")], b"v")
    };
    assert_eq!(done(put(&a), 201).header("idempotency-replayed"), None);
    assert_eq!(
        done(put(&b), 200).header("idempotency-replayed"),
        None,
        "another's key"
    );
    assert_eq!(
        done(put(&a), 201).header("idempotency-replayed"),
        Some("true")
    );
    guarded.put_role("a", &json!([]));
    let refused = done(put(&a), 403);
    assert_eq!(refused.header("idempotency-replayed"), None);
    guarded.put_role("a", &grants);
    assert_eq!(
        done(put(&a), 201).header("idempotency-replayed"),
        Some("true")
    );
}

#[test]
fn an_identity_asks_no_more_often_than_its_quota_and_has_no_more_leases() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let token = guarded.identity("ci", &json!([{"verbs": ["lease"], "resource": "leases/"}]));
    let quota = json!({"roles": ["ci"], "quota": {"leases": 2, "requests_per_second": null}});
    done(guarded.root().json("PUT", "/v1/identities/ci", &quota), 200);
    let mut client = guarded.client(&token);
    let grant = json!({"ttl_ms": 60_000});
    let lease = done(client.post("/v1/leases", &grant), 201).str("lease");
    done(client.post("/v1/leases", &grant), 201);
    let refused = done(client.post("/v1/leases", &grant), 429);
    assert_eq!(
        (refused.code().as_str(), refused.u64("allowed")),
        ("quota-exceeded", 2)
    );
    done(
        client.post(&format!("/v1/leases/{lease}/renew"), &Value::Null),
        200,
    );
    let quota = json!({"roles": ["ci"], "quota": {"requests_per_second": 2}});
    done(guarded.root().json("PUT", "/v1/identities/ci", &quota), 200);
    let answers: Vec<_> = (0..20)
        .map(|_| client.get("/v1/whoami").expect("an answer"))
        .collect();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!(10 < refused.len(), "{} of 20", refused.len());
    // Who asks too often loses nothing that it has, and may give it back.
    for _ in 0..3 {
        done(
            client.post(&format!("/v1/leases/{lease}/renew"), &Value::Null),
            200,
        );
    }
    let absent = "7fffffffffffffff";
    let together = json!({"leases": [absent, lease]});
    done(client.post("/v1/leases/renew", &together), 200);
    // What is not its own is no hold of its, and counts.
    let other = done(guarded.root().post("/v1/leases", &grant), 201).str("lease");
    for id in [absent, &other] {
        let asked = [
            ("DELETE", format!("/v1/leases/{id}"), Value::Null),
            ("POST", format!("/v1/leases/{id}/renew"), Value::Null),
            ("DELETE", format!("/v1/locks/x?lease={id}"), Value::Null),
            (
                "POST",
                "/v1/leases/renew".to_owned(),
                json!({"leases": [id]}),
            ),
            ("POST", "/v1/leases/renew".to_owned(), json!({"leases": []})),
        ];
        for (method, path, body) in asked {
            let mut ask = || match &body {
                Value::Null => client.call(method, &path, &[], b""),
                body => client.json(method, &path, body),
            };
            let statuses: Vec<u16> = (0..10).map(|_| ask().expect("an answer").status).collect();
            let refused = statuses.iter().filter(|status| **status == 429);
            assert!(5 <= refused.count(), "{method} {path}: {statuses:?}");
        }
    }
    done(client.delete(&format!("/v1/leases/{lease}")), 200);
    let first = refused[0];
    assert_eq!(first.str("limit"), "requests_per_second");
    assert!(
        (1..=500).contains(&first.u64("retry_after_ms")),
        "{}",
        first.text()
    );
    done(guarded.root().get("/v1/whoami"), 200);
}

#[test]
fn how_much_everybody_has_is_told_to_administrators_and_that_there_is_no_room_to_all() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let leases = json!([{"verbs": ["lease"], "resource": "leases/"}]);
    let token = guarded.identity("ci", &leases);
    let mut root = guarded.root();
    done(root.json("PATCH", "/v1/limits", &json!({"leases": 1})), 200);
    let ttl = json!({"ttl_ms": 60_000});
    done(root.post("/v1/leases", &ttl), 201);
    let to_root = done(root.post("/v1/leases", &ttl), 429);
    assert_eq!((to_root.u64("allowed"), to_root.u64("asked")), (1, 2));
    let told = done(guarded.client(&token).post("/v1/leases", &ttl), 429);
    assert_eq!(
        (told.str("limit"), told.u64("allowed")),
        ("leases".into(), 1)
    );
    assert!(told.json().get("asked").is_none(), "{}", told.text());
    assert!(!told.str("detail").contains('2'), "{}", told.text());
}

#[test]
fn whoever_has_no_right_at_all_writes_nothing_into_the_log_and_a_decision_is_told_all_the_same() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let guarded = Guarded::of(&cluster);
    let mut nobody = guarded.client(&guarded.identity("nobody", &json!([])));
    let locks = json!([{"verbs": ["lock"], "resource": "locks/"}]);
    let mut locker = guarded.client(&guarded.identity("locker", &locks));
    let applied = || done(guarded.root().get("/v1/status"), 200).u64("applied_index");
    let before = applied();
    let ttl = json!({"ttl_ms": 60_000});
    for number in 0..50 {
        let path = format!("/v1/leases/70000000000000{number:02}");
        let code = |answer, status| done(answer, status).code();
        let renewed = nobody.post(&format!("{path}/renew"), &Value::Null);
        assert_eq!(code(renewed, 404), "lease-not-found");
        assert_eq!(code(nobody.delete(&path), 404), "lease-not-found");
        let changed = nobody.json("PATCH", &path, &ttl);
        assert_eq!(code(changed, 404), "lease-not-found");
        let released = locker.delete(&format!("/v1/locks/x?lease=70000000000000{number:02}"));
        assert_eq!(code(released, 404), "not-held");
    }
    let many: Vec<_> = (0..1000)
        .map(|number| format!("7000000000000{number:03}"))
        .collect();
    let many = done(
        nobody.post("/v1/leases/renew", &json!({"leases": many})),
        200,
    );
    let results = many.json()["results"].as_array().expect("results").clone();
    let is_absent = |result: &Value| result["error"] == "lease-not-found";
    assert!(results.len() == 1000 && results.iter().all(is_absent));
    let written = applied() - before;
    assert!(written < 20, "{written} entries for 201 requests");
    // What was decided under a key is told also where the lease is gone by then, at every member.
    let leases = json!([{"verbs": ["lease"], "resource": "leases/"}]);
    let token = guarded.identity("ci", &leases);
    let mut client = guarded.client(&token);
    let lease = done(client.post("/v1/leases", &ttl), 201).str("lease");
    let key = [("idempotency-key", "the-end-of-it")];
    for (member, replayed) in [(0, None), (1, Some("true")), (2, Some("true"))] {
        let mut client = cluster.members[member].client().with_token(&token);
        let ended = client.call("DELETE", &format!("/v1/leases/{lease}"), &key, b"");
        let ended = done(ended, 200);
        assert_eq!(ended.header("idempotency-replayed"), replayed, "{member}");
        // A lease that a member has not heard of yet is renewed and ended there all the same.
        let other = done(guarded.client(&token).post("/v1/leases", &ttl), 201).str("lease");
        done(
            client.post(&format!("/v1/leases/{other}/renew"), &Value::Null),
            200,
        );
        done(client.delete(&format!("/v1/leases/{other}")), 200);
    }
    done(client.delete(&format!("/v1/leases/{lease}")), 410);
}

#[test]
fn a_lease_of_somebody_else_is_no_reason_to_lose_the_own_ones() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("log-format", "json").start();
    let guarded = Guarded::of(&cluster);
    let grants = json!([{"verbs": ["lease"], "resource": "leases/"}]);
    let mut client = guarded.client(&guarded.identity("ci", &grants));
    let grant = json!({"ttl_ms": 60_000});
    let granted = |client: &mut crate::common::Client| {
        done(client.post("/v1/leases", &grant), 201).str("lease")
    };
    let (a, b) = (granted(&mut client), granted(&mut client));
    let other = granted(&mut guarded.root());
    let renew = |leases: Value| json!({"leases": leases});
    let together = renew(json!([a, other, "7fffffffffffffff", b]));
    let answer = done(client.post("/v1/leases/renew", &together), 200).json();
    let results = answer["results"].as_array().expect("results");
    let told: Vec<_> = results
        .iter()
        .map(|result| (result["lease"].as_str(), result["error"].as_str()))
        .collect();
    let expected = [
        (Some(&*a), None),
        (Some(&*other), Some("forbidden")),
        (Some("7fffffffffffffff"), Some("lease-not-found")),
        (Some(&*b), None),
    ];
    assert_eq!(told, expected);
    done(client.post("/v1/leases/renew", &renew(json!([other]))), 403);
    done(client.post("/v1/leases/renew", &renew(json!([a, b]))), 200);
    // Whoever is refused what it held is in the audit, also within an answer to the rest.
    let lines = audit(&cluster.members[0].output());
    let of_renewals = lines
        .iter()
        .filter(|line| line["fields"]["route"] == "/v1/leases/renew");
    let why: Vec<_> = of_renewals
        .map(|line| {
            let fields = &line["fields"];
            assert_eq!(fields["identity"], "ci");
            assert_eq!(fields["code"], "forbidden");
            fields["why"].as_str().expect("why").to_owned()
        })
        .collect();
    let some = format!("1 of 4 leases are not the caller's, first {other}");
    let all = format!(
        "lease {other} was granted to another identity; only that one and administrators use it"
    );
    assert_eq!(why, [some, all]);
}

/// What a member's log has for the audit.
fn audit(written: &str) -> Vec<Value> {
    let lines = written.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|line| line["target"] == "audit").collect()
}

#[test]
fn the_audit_has_who_was_refused_what_and_no_name_forges_a_line() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).with("log-format", "json").start();
    let guarded = Guarded::of(&cluster);
    let member = &cluster.members[0];
    let mut root = guarded.root();
    let nasty = "a\u{2028}b\"} {\"level\":\"ERROR\"";
    let encoded: String = nasty.bytes().map(|byte| format!("%{byte:02X}")).collect();
    guarded.put_role("ci", &json!([{"verbs": ["lock"], "resource": "locks/"}]));
    done(
        root.json(
            "PUT",
            &format!("/v1/identities/{encoded}"),
            &json!({"roles": ["ci"]}),
        ),
        200,
    );
    let token = guarded.token(nasty);
    let mut client = guarded.client(&token);
    done(client.put(&format!("/v1/keys/{encoded}"), b"x"), 403);
    done(client.get("/v1/roles"), 403);
    done(
        client.delete(&format!(
            "/v1/locks/{encoded}?break=true&fence=1&reason=test"
        )),
        403,
    );
    // Those whom nobody knows are told of at a rate of their own.
    for _ in 0..200 {
        done(member.client().get("/v1/keys/a"), 401);
    }
    for number in 0..500 {
        done(client.get(&format!("/v1/keys/{number}")), 403);
    }
    // Nor does one identity drown another.
    let quiet = guarded.identity("quiet", &json!([]));
    done(guarded.client(&quiet).get("/v1/tokens"), 403);
    let written = member.output();
    let lines = audit(&written);
    let refused = |route: &str, code: &str| -> Vec<&Value> {
        let is_of =
            |line: &&Value| line["fields"]["route"] == route && line["fields"]["code"] == code;
        lines.iter().filter(is_of).collect()
    };
    let puts = refused("/v1/keys/{key}", "forbidden");
    let put = &puts
        .iter()
        .find(|line| line["fields"]["method"] == "PUT")
        .expect("the put")["fields"];
    assert_eq!(put["identity"], nasty);
    assert_eq!(put["token"].as_str(), token.split('.').next());
    assert_eq!(put["address"], "127.0.0.1");
    let why = put["why"].as_str().expect("why");
    assert!(why.contains("needs `write` on keys/a"), "{why}");
    assert!(!refused("/v1/roles", "forbidden").is_empty());
    assert_eq!(refused("/v1/tokens", "forbidden").len(), 1);
    assert!(
        refused("/v1/keys/{key}", "unauthenticated")
            .iter()
            .any(|line| line["fields"]["identity"].is_null())
    );
    assert!(
        puts.len() < 200,
        "{} lines of 500 refusals: the rest is counted",
        puts.len()
    );
    let reads = refused("/v1/keys/{key}", "forbidden");
    assert!(40 < reads.len(), "those who are known are not drowned");
    let changes = lines
        .iter()
        .filter(|line| line["fields"]["change"] == "identities");
    assert!(
        changes
            .clone()
            .any(|line| line["fields"]["identity"] == "root"),
        "who changed it"
    );
    assert!(
        lines.iter().any(|line| line["fields"]["kind"] == "locks"),
        "an attempt to break"
    );
    assert!(!written.contains(&guarded.root), "secrets are in no line");
}

#[test]
fn a_name_that_leads_here_is_no_matter_once_proofs_are_and_a_foreign_page_still_is() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let by_name = [("host", "cluster.example.org")];
    done(
        member.client().call("GET", "/v1/status", &by_name, b""),
        403,
    );
    let guarded = Guarded::of(&cluster);
    done(guarded.root().call("GET", "/v1/status", &by_name, b""), 200);
    let page = [("origin", "http://evil.test")];
    done(guarded.root().call("GET", "/v1/status", &page, b""), 403);
    // Turned off again, everybody is anybody.
    done(
        guarded
            .root()
            .json("PATCH", "/v1/access", &json!({"enabled": false})),
        200,
    );
    let who = done(member.client().get("/v1/whoami"), 200);
    assert_eq!(
        (who.str("identity"), who.str("access")),
        ("anonymous".into(), "off".into())
    );
}
