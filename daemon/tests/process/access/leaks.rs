//! What whoever has rights to some names is told is the same whether others exist or not.

use serde_json::{Value, json};

use super::{Guarded, VERBS, done, under};
use crate::common::{Client, Setup, machine};

/// What differs from one time to the next whatever others do: times, ids that are drawn, and the one revision.
const PASSING: [&str; 22] = [
    "revision",
    "held_ms",
    "queued_ms",
    "mod_revision",
    "create_revision",
    "granted_revision",
    "attached_revision",
    "acquired_revision",
    "queued_revision",
    "elected_revision",
    "compact_revision",
    "fence",
    "last_fence",
    "exclusive_fence",
    "lease",
    "remaining_ms",
    "wait_remaining_ms",
    "delay_remaining_ms",
    "term",
    "next",
    "expires_in_ms",
    "token",
];

fn settled(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match PASSING.contains(&name.as_str()) && !value.is_null() {
                    true => *value = "*".into(),
                    false => settled(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settled),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Everything that the caller can ask about names of its own and of others, and what it is told.
fn told(client: &mut Client, round: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut note = |what: &str, answer: std::io::Result<crate::common::Answer>| {
        let answer = answer.expect("the member answers");
        let mut body = match serde_json::from_slice(&answer.body) {
            Ok(body) => body,
            Err(_) => Value::from(answer.text()),
        };
        settled(&mut body);
        if let Some(detail) = body.get_mut("detail") {
            let words: String = detail
                .to_string()
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .collect();
            *detail = words.into();
        }
        let line = format!("{what} -> {} {body}", answer.status);
        told.push(line.replace(round, "ROUND"));
        answer
    };
    let own = |path: &str| path.replace("OWN", &format!("in/{round}"));
    let lease = note(
        "grant",
        client.post("/v1/leases", &json!({"ttl_ms": 600_000})),
    );
    let (after, lease) = (lease.revision(), lease.str("lease"));
    let put = own("/v1/keys/OWN/a");
    note("put", client.put(&format!("{put}?lease={lease}"), b"one"));
    note("put again", client.put(&put, b"two"));
    note("read", client.get(&put));
    let absent = client.call("PUT", &put, &[("if-none-match", "*")], b"x");
    note("put where absent", absent);
    for (collection, more) in [
        ("locks", json!({})),
        ("semaphores", json!({"permits": 1, "limit": 2})),
        ("elections", json!({"candidate": "c", "value": "v"})),
    ] {
        let path = own(&format!("/v1/{collection}/OWN/x"));
        let mut body = more.clone();
        body["lease"] = lease.clone().into();
        note("acquire", client.post(&path, &body));
        note("read", client.get(&path));
        note(
            "list",
            client.get(&own(&format!("/v1/{collection}?prefix=OWN/"))),
        );
        note(
            "list in",
            client.get(&format!("/v1/{collection}?prefix=in/{round}")),
        );
    }
    note("list", client.get(&own("/v1/keys?prefix=OWN/")));
    note("lease", client.get(&format!("/v1/leases/{lease}")));
    let watched = own(&format!(
        "/v1/watch?prefix=keys/OWN/&prefix=locks/OWN/&prefix=elections/OWN/&after={after}&previous=true"
    ));
    note("watch", client.get(&watched));
    note(
        "snapshot",
        client.get(&own(
            "/v1/watch?prefix=keys/OWN/&prefix=locks/OWN/&snapshot=true",
        )),
    );
    // Names of others: refused in the same words, whether they exist or not.
    for path in [
        "/v1/keys/out/a",
        "/v1/keys/out/none",
        "/v1/keys/out/a?revision=1",
        "/v1/keys?prefix=out/",
        "/v1/keys?prefix=",
        "/v1/keys?prefix=o&keys_only=true",
        "/v1/keys?start=in/&end=zz",
        "/v1/locks/out/x",
        "/v1/locks",
        "/v1/semaphores?prefix=out/",
        "/v1/elections/out/x?after=0&wait_ms=1",
        "/v1/leases",
        "/v1/watch?prefix=keys/&after=0",
        "/v1/watch?prefix=keys/in/&resource=keys/out/a&after=0",
        "/v1/watch?prefix=leases/&after=0",
        "/v1/watch?prefix=keys/out/&snapshot=true",
    ] {
        note(path, client.get(path));
    }
    for path in [
        "/v1/keys/out/a",
        "/v1/keys/out/none",
        "/v1/keys?prefix=out/",
        "/v1/keys?prefix=in&all=false",
    ] {
        note(&format!("delete {path}"), client.delete(path));
    }
    for (what, condition) in [("put", "\"1\""), ("put", "*")] {
        let answer = client.call("PUT", "/v1/keys/out/a", &[("if-match", condition)], b"x");
        note(what, answer);
    }
    for transaction in [
        json!({"if": [{"key": "out/a", "field": "version", "op": ">", "value": 0}], "then": []}),
        json!({"if": [{"lock": "out/x", "fence": 2}], "then": []}),
        json!({"if": [], "then": [], "else": [{"get": {"key": "out/a"}}]}),
        json!({"then": [{"delete": {"prefix": "i"}}]}),
        json!({"then": [{"get": {"key": own("OWN/a")}}, {"get": {"key": "out/large"}}]}),
    ] {
        note(
            &transaction.to_string(),
            client.post("/v1/txn", &transaction),
        );
    }
    for (path, body) in [
        ("/v1/locks/out/x", json!({"lease": lease})),
        (
            "/v1/locks",
            json!({"lease": lease, "locks": [{"name": own("OWN/y")}, {"name": "out/x"}]}),
        ),
        (
            "/v1/elections/out/x",
            json!({"lease": lease, "candidate": "c"}),
        ),
    ] {
        note(path, client.post(path, &body));
    }
    let ended = own(&format!("/v1/locks/OWN/x?lease={lease}&fence=1"));
    note("release with another fence", client.delete(&ended));
    let not_its_own = format!("/v1/locks/out/x?lease={lease}&fence=1");
    note(
        "release of what it may not have",
        client.delete(&not_its_own),
    );
    note("end", client.delete(&format!("/v1/leases/{lease}")));
    note("its lock", client.get(&own("/v1/locks/OWN/x")));
    // What the caller said itself, of which the digits are left out already.
    let letters = lease.replace(|c: char| c.is_ascii_digit(), "");
    let (said, named) = (format!("lease {letters} "), "lease LEASE ");
    told.iter().map(|line| line.replace(&said, named)).collect()
}

#[test]
fn an_answer_to_whoever_has_rights_to_some_names_does_not_depend_on_what_others_there_are() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let mut grants = under(&VERBS, "in/", false);
    let lease = json!({"verbs": ["lease"], "resource": "leases/"});
    grants.as_array_mut().expect("grants").push(lease);
    let token = guarded.identity("ci", &grants);
    let mut client = guarded.client(&token);
    let alone = told(&mut client, "alone");

    let mut root = guarded.root();
    let lease = done(
        root.post("/v1/leases", &json!({"ttl_ms": 600_000, "name": "secret"})),
        201,
    );
    let lease = lease.str("lease");
    for key in ["out/a", "out/b", "in", "in0", "i", "zz"] {
        done(
            root.put(&format!("/v1/keys/{key}?lease={lease}"), b"secret"),
            201,
        );
    }
    let large = vec![b'x'; 1 << 20];
    done(root.put("/v1/keys/out/large", &large), 201);
    for name in ["out/x", "in", "in0"] {
        done(
            root.post(&format!("/v1/locks/{name}"), &json!({"lease": lease})),
            200,
        );
        let asked = json!({"lease": lease, "permits": 1, "limit": 1});
        done(root.post(&format!("/v1/semaphores/{name}"), &asked), 200);
        let asked = json!({"lease": lease, "candidate": "secret"});
        done(root.post(&format!("/v1/elections/{name}"), &asked), 200);
    }
    let among_others = told(&mut client, "among");
    for (alone, among_others) in alone.iter().zip(&among_others) {
        assert_eq!(alone, among_others);
        assert!(!among_others.contains("secret"), "{among_others}");
    }
    assert_eq!(alone.len(), among_others.len());
    assert_eq!(
        done(root.get("/v1/keys/out/a"), 200).text(),
        "secret",
        "nothing was done"
    );

    // Whoever may read leases sees what hangs on those of others as far as he may see that.
    let reader = guarded.identity(
        "reader",
        &json!([
            {"verbs": ["read", "list"], "resource": "leases/"},
            {"verbs": ["read"], "resource": "keys/out/a", "match": "exact"},
        ]),
    );
    let seen = done(
        guarded.client(&reader).get(&format!("/v1/leases/{lease}")),
        200,
    )
    .json();
    assert_eq!(
        seen["attached"],
        json!([{"resource": "keys/out/a"}]),
        "{seen}"
    );
    let whole = done(root.get(&format!("/v1/leases/{lease}")), 200).json();
    assert_eq!(
        whole["attached"].as_array().map(Vec::len),
        Some(15),
        "{whole}"
    );
}
