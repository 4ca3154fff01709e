//! Keys: each sentence of `api.md` §6 on one key and on ranges of them, at a follower of three.

use serde_json::{Value, json};

use crate::common::{Answer, Client, Cluster, Setup, grant, machine};

/// A cluster of three, and somebody who calls one that does not lead.
fn follower_of_three() -> (Cluster, Client) {
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let client = cluster.members[follower].client().persistent();
    (cluster, client)
}

fn ok(answer: std::io::Result<Answer>, status: u16) -> Answer {
    answer.expect("the member answers").expect(status)
}

/// Refused so, with a detail that names what is at fault.
fn refused(answer: std::io::Result<Answer>, status: u16, code: &str, named: &str) -> Answer {
    let answer = answer.expect("the member answers");
    let detail = answer.text();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{detail}"
    );
    assert!(detail.contains(named), "it names {named}: {detail}");
    answer
}

fn fields(answer: &Answer) -> Vec<String> {
    let object = answer.json();
    let mut fields: Vec<String> = object
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    fields.sort();
    fields
}

/// The keys of a page.
fn names(page: &Answer) -> Vec<String> {
    let page = page.json();
    let keys = page["keys"].as_array().expect("a page has keys");
    keys.iter()
        .map(|entry| entry["key"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_put_tells_the_entry_less_its_value_and_a_get_gives_it_back_as_it_was() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let html = [("content-type", "text/html; charset=utf-8")];
    let created = ok(
        client.call("PUT", "/v1/keys/config/a", &html, b"<b>\xc3\xa9</b>"),
        201,
    );
    assert_eq!(
        fields(&created),
        [
            "content_type",
            "create_revision",
            "key",
            "lease",
            "mod_revision",
            "revision",
            "version"
        ]
    );
    let revision = created.u64("revision");
    assert_eq!(
        created.json(),
        json!({ "key": "config/a", "content_type": "text/html; charset=utf-8", "create_revision": revision,
            "mod_revision": revision, "version": 1, "lease": null, "revision": revision })
    );
    let tag = format!("\"{revision}\"");
    assert_eq!(created.header("etag"), Some(tag.as_str()));

    // `Accept` changes nothing: a value is what it is.
    let got = ok(
        client.call("GET", "/v1/keys/config/a", &[("accept", "image/png")], b""),
        200,
    );
    assert_eq!(got.text(), "<b>é</b>");
    let revision = revision.to_string();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("etag", tag.as_str()),
        ("tenure-create-revision", revision.as_str()),
        ("tenure-mod-revision", revision.as_str()),
        ("tenure-version", "1"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    assert_eq!(got.header("tenure-lease"), None);
    let head = ok(client.call("HEAD", "/v1/keys/config/a", &[], b""), 200);
    assert_eq!(
        (head.body.len(), head.header("etag")),
        (0, Some(tag.as_str()))
    );

    let entry = ok(client.get("/v1/keys/config/a?entry=true"), 200);
    let number: u64 = revision.parse().expect("a number");
    assert_eq!(
        entry.json(),
        json!({ "key": "config/a", "value": "<b>é</b>", "encoding": "utf-8", "content_type": "text/html; charset=utf-8",
            "create_revision": number, "mod_revision": number, "version": 1, "lease": null, "revision": entry.revision() })
    );

    // A second put is no creation; what a form says of itself is no type; bytes are shown in base64.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let again = ok(
        client.call("PUT", "/v1/keys/config/a", &form, b"\xff\x00"),
        200,
    );
    assert_eq!(
        (again.u64("version"), again.json()["content_type"].clone()),
        (2, Value::Null)
    );
    assert_eq!(again.u64("create_revision"), number);
    let got = ok(client.get("/v1/keys/config/a"), 200);
    assert_eq!(
        (got.body.as_slice(), got.header("content-type")),
        (&b"\xff\x00"[..], Some("application/octet-stream"))
    );
    let entry = ok(client.get("/v1/keys/config/a?entry=true"), 200);
    assert_eq!(
        (entry.str("value").as_str(), entry.str("encoding").as_str()),
        ("/wA=", "base64")
    );
    refused(
        client.get("/v1/keys/config/a?entry=yes"),
        400,
        "invalid-request",
        "entry is `yes`",
    );
}

#[test]
fn a_key_is_read_as_it_was_at_a_revision() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let before = ok(client.put("/v1/keys/other", b"x"), 201).u64("revision");
    let first = ok(client.put("/v1/keys/k", b"one"), 201).u64("revision");
    let second = ok(client.put("/v1/keys/k", b"two"), 200).u64("revision");
    let gone = ok(client.delete("/v1/keys/k"), 200).u64("revision");
    let at =
        |client: &mut Client, revision: u64| client.get(&format!("/v1/keys/k?revision={revision}"));
    refused(at(&mut client, before), 404, "key-not-found", "`k`");
    for (revision, value) in [(first, "one"), (second, "two")] {
        let answer = ok(at(&mut client, revision), 200);
        assert_eq!(
            (answer.text().as_str(), answer.revision()),
            (value, revision)
        );
        let tag = format!("\"{revision}\"");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        let entry = ok(
            client.get(&format!("/v1/keys/k?entry=true&revision={revision}")),
            200,
        );
        assert_eq!(
            (entry.str("value").as_str(), entry.u64("revision")),
            (value, revision)
        );
        let known = client.call(
            "GET",
            &format!("/v1/keys/k?revision={revision}"),
            &[("if-none-match", &tag)],
            b"",
        );
        ok(known, 304);
        let page = ok(
            client.get(&format!("/v1/keys?prefix=k&revision={revision}")),
            200,
        );
        assert_eq!(
            (page.json()["keys"][0]["value"].as_str(), page.u64("count")),
            (Some(value), 1)
        );
    }
    refused(at(&mut client, gone), 404, "key-not-found", "`k`");
    refused(
        at(&mut client, gone + 1),
        410,
        "revision-ahead",
        "has never been",
    );
    refused(
        client.get(&format!("/v1/keys?prefix=k&revision={}", gone + 1)),
        410,
        "revision-ahead",
        "has never been",
    );
    // Where history is gone, so is what was; the compact revision itself can still be read.
    ok(
        client.post("/v1/compact", &json!({ "revision": second })),
        200,
    );
    for path in [
        format!("/v1/keys/k?revision={first}"),
        format!("/v1/keys?prefix=k&revision={first}"),
    ] {
        let answer = refused(client.get(&path), 410, "compacted", "compact revision");
        assert_eq!(answer.u64("compact_revision"), second);
    }
    assert_eq!(ok(at(&mut client, second), 200).text(), "two");
    refused(
        client.get("/v1/keys/k?revision=x"),
        400,
        "invalid-request",
        "revision is `x`",
    );
    refused(
        client.get("/v1/keys/k?revision=1&after=1"),
        400,
        "invalid-request",
        "`after`",
    );
}

#[test]
fn a_list_is_a_prefix_or_a_half_open_range_in_either_order() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    for key in ["a", "b/1", "b/2", "b/3", "c"] {
        ok(client.put(&format!("/v1/keys/{key}"), key.as_bytes()), 201);
    }
    let mut check = |query: &str, expected: &[&str], count: u64, next: Option<&str>| {
        let page = ok(client.get(&format!("/v1/keys?{query}")), 200);
        assert_eq!(names(&page), expected, "{query}");
        assert_eq!(page.u64("count"), count, "{query}");
        assert_eq!(page.json()["next"].as_str(), next, "{query}");
        assert_eq!(page.json()["more"], next.is_some(), "{query}");
    };
    check("", &["a", "b/1", "b/2", "b/3", "c"], 5, None);
    check("prefix=b/", &["b/1", "b/2", "b/3"], 3, None);
    check("prefix=x", &[], 0, None);
    check("start=b/2", &["b/2", "b/3", "c"], 3, None);
    check("end=b/2", &["a", "b/1"], 2, None);
    check("start=b/1&end=b/3", &["b/1", "b/2"], 2, None);
    check("start=b&end=b", &[], 0, None);
    check("prefix=b/&order=desc", &["b/3", "b/2", "b/1"], 3, None);
    check("prefix=b/&limit=2", &["b/1", "b/2"], 3, Some("b/2"));
    check("prefix=b/&limit=2&start_after=b/2", &["b/3"], 3, None);
    check("prefix=b/&limit=3", &["b/1", "b/2", "b/3"], 3, None);
    check(
        "prefix=b/&limit=2&order=desc",
        &["b/3", "b/2"],
        3,
        Some("b/2"),
    );
    check(
        "prefix=b/&limit=2&order=desc&start_after=b/2",
        &["b/1"],
        3,
        None,
    );
    check("prefix=b/&start_after=a", &["b/1", "b/2", "b/3"], 3, None);
    check("prefix=b/&start_after=c", &[], 3, None);
    check(
        "prefix=b/&order=desc&start_after=c",
        &["b/3", "b/2", "b/1"],
        3,
        None,
    );

    let page = ok(client.get("/v1/keys?prefix=a&keys_only=true"), 200).json();
    assert_eq!(
        (&page["keys"][0]["value"], &page["keys"][0]["encoding"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (
            page["keys"][0]["key"].as_str(),
            page["keys"][0]["version"].as_u64()
        ),
        (Some("a"), Some(1))
    );
    for (query, named) in [
        ("prefix=a&start=b", "contradict"),
        ("prefix=&end=b", "contradict"),
        ("start=b&end=a", "`end` is `a` and comes before"),
        ("end=", "`end` is `` and comes before"),
        ("order=down", "`asc` and `desc`"),
        ("limit=0", "from 1 to 10000"),
        ("limit=10001", "from 1 to 10000"),
        ("keys_only=1", "keys_only is `1`"),
        ("revision=-1", "revision is `-1`"),
        ("all=true", "`all`"),
        ("entry=true", "`entry`"),
    ] {
        refused(
            client.get(&format!("/v1/keys?{query}")),
            400,
            "invalid-request",
            named,
        );
    }
}

/// Puts so many keys by transactions.
fn fill(client: &mut Client, prefix: &str, keys: usize) {
    let numbers: Vec<usize> = (0..keys).collect();
    for numbers in numbers.chunks(128) {
        let put =
            |number| json!({ "put": { "key": format!("{prefix}{number:05}"), "value": "x" } });
        let then: Vec<Value> = numbers.iter().map(put).collect();
        ok(client.post("/v1/txn", &json!({ "then": then })), 200);
    }
}

#[test]
fn pages_pinned_to_the_first_ones_revision_show_one_state_however_much_is_written() {
    let _machine = machine::shared();
    let (cluster, mut client) = follower_of_three();
    let mut writer = cluster.members[cluster.leader()].client().persistent();
    fill(&mut client, "k/", 1500);
    for order in ["asc", "desc"] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        let mut revision = None;
        loop {
            let pinned = revision.map_or(String::new(), |revision| format!("&revision={revision}"));
            let page = ok(
                client.get(&format!(
                    "/v1/keys?prefix=k/&order={order}&limit=400{next}{pinned}"
                )),
                200,
            );
            assert_eq!(
                page.u64("count"),
                1500,
                "the count is of that revision, too"
            );
            let at = *revision.get_or_insert(page.u64("revision"));
            assert_eq!((page.u64("revision"), page.revision()), (at, at));
            seen.extend(names(&page));
            // What happens meanwhile: some go, some come, some change.
            ok(
                writer.delete(&format!("/v1/keys?prefix=k/0{}", seen.len() % 10)),
                200,
            );
            ok(
                writer.put(&format!("/v1/keys/k/new{}", seen.len()), b"y"),
                201,
            );
            ok(writer.put("/v1/keys/k/01499", b"y"), 200);
            let Some(last) = page.json()["next"].as_str().map(str::to_owned) else {
                break;
            };
            next = format!("&start_after={last}");
        }
        let mut expected: Vec<String> = (0..1500).map(|number| format!("k/{number:05}")).collect();
        if order == "desc" {
            expected.reverse();
        }
        assert_eq!(seen, expected, "{order}");
        ok(client.delete("/v1/keys?prefix=k/"), 200);
        fill(&mut client, "k/", 1500);
    }
    let whole = ok(client.get("/v1/keys?prefix=k/"), 200);
    assert_eq!(
        (names(&whole).len(), whole.json()["more"].clone()),
        (1000, json!(true)),
        "a page has 1000 by itself"
    );
}

#[test]
fn a_page_ends_at_four_mebibytes() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let value = vec![b'x'; 1 << 20];
    for number in 0..6 {
        ok(client.put(&format!("/v1/keys/large/{number}"), &value), 201);
    }
    let page = ok(client.get("/v1/keys?prefix=large/"), 200);
    assert!(page.body.len() <= 4 << 20, "{} bytes", page.body.len());
    assert_eq!((names(&page).len(), page.u64("count")), (3, 6));
    assert_eq!(page.json()["next"], "large/2");
    let rest = ok(
        client.get("/v1/keys?prefix=large/&start_after=large/2"),
        200,
    );
    assert_eq!(
        (names(&rest).len(), rest.json()["more"].clone()),
        (3, json!(false))
    );
    let only = ok(client.get("/v1/keys?prefix=large/&keys_only=true"), 200);
    assert_eq!(names(&only).len(), 6, "keys alone are small");
}

#[test]
fn a_prefix_is_deleted_at_one_revision_and_never_by_an_unset_variable() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    for key in ["a/1", "a/2", "b"] {
        ok(client.put(&format!("/v1/keys/{key}"), b"x"), 201);
    }
    for (query, named) in [
        ("", "`prefix` is missing"),
        ("?all=true", "`prefix` is missing"),
        ("?prefix=", "`all=true`"),
        ("?prefix=&all=false", "`all=true`"),
        ("?prefix=a/&all=true", "belongs to an empty prefix"),
        ("?prefix=a/&limit=1", "`limit`"),
    ] {
        refused(
            client.delete(&format!("/v1/keys{query}")),
            400,
            "invalid-request",
            named,
        );
    }
    let tagged = client.call("DELETE", "/v1/keys?prefix=a/", &[("if-match", "*")], b"");
    refused(tagged, 400, "invalid-request", "If-Match");
    let deleted = ok(client.delete("/v1/keys?prefix=a/"), 200);
    let revision = deleted.u64("revision");
    assert_eq!(
        deleted.json(),
        json!({ "deleted": 2, "revision": revision })
    );
    let events = ok(
        client.get(&format!("/v1/watch?prefix=keys/&after={}", revision - 1)),
        200,
    )
    .json();
    let events = events["events"].as_array().expect("events");
    assert_eq!(events.len(), 2);
    assert!(
        events
            .iter()
            .all(|event| event["revision"] == revision && event["type"] == "delete")
    );
    let none = ok(client.delete("/v1/keys?prefix=a/"), 200);
    assert_eq!(
        none.json(),
        json!({ "deleted": 0, "revision": revision }),
        "nothing changed, so no revision was made"
    );
    assert_eq!(
        ok(client.delete("/v1/keys?prefix=&all=true"), 200).u64("deleted"),
        1
    );
    refused(client.delete("/v1/keys/b"), 404, "key-not-found", "`b`");

    fill(&mut client, "many/", 10_001);
    let refused = refused(
        client.delete("/v1/keys?prefix=many/"),
        413,
        "too-large",
        "keys_per_revision",
    );
    assert_eq!(
        (refused.u64("asked"), refused.u64("allowed")),
        (10_001, 10_000)
    );
    assert_eq!(
        ok(client.get("/v1/keys?prefix=many/&limit=1"), 200).u64("count"),
        10_001,
        "nothing went"
    );
    ok(client.delete("/v1/keys/many/00000"), 200);
    assert_eq!(
        ok(client.delete("/v1/keys?prefix=many/"), 200).u64("deleted"),
        10_000
    );
}

#[test]
fn conditions_hold_a_write_to_a_version() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let mut call = |method: &str, headers: &[(&str, &str)]| {
        client.call(
            method,
            "/v1/keys/k",
            headers,
            if method == "PUT" { b"x" } else { b"" },
        )
    };
    let failed = |answer: std::io::Result<Answer>, present: u64| {
        let answer = refused(answer, 412, "condition-failed", "mod_revision");
        assert_eq!(answer.u64("mod_revision"), present);
    };
    failed(call("PUT", &[("if-match", "*")]), 0);
    failed(call("PUT", &[("if-match", "\"1\"")]), 0);
    failed(call("PUT", &[("if-match", "\"0\"")]), 0);
    failed(call("DELETE", &[("if-match", "*")]), 0);
    failed(call("GET", &[("if-match", "*")]), 0);
    let first = ok(call("PUT", &[("if-none-match", "*")]), 201).u64("mod_revision");
    failed(call("PUT", &[("if-none-match", "*")]), first);
    failed(call("PUT", &[("if-match", "\"1\"")]), first);
    failed(call("DELETE", &[("if-match", "\"1\"")]), first);
    let second = ok(call("PUT", &[("if-match", &format!("\"{first}\""))]), 200).u64("mod_revision");
    failed(
        call("PUT", &[("if-match", &format!("\"{first}\""))]),
        second,
    );
    refused(
        call("DELETE", &[("if-none-match", "*")]),
        400,
        "invalid-request",
        "If-None-Match",
    );
    refused(
        call("PUT", &[("if-none-match", &format!("\"{second}\""))]),
        400,
        "invalid-request",
        "If-None-Match",
    );
    ok(
        call("DELETE", &[("if-match", &format!("\"{second}\""))]),
        200,
    );
}

#[test]
fn a_put_hangs_a_key_on_a_lease_and_takes_it_from_another_only_by_its_version() {
    let _machine = machine::shared();
    let (_cluster, mut client) = follower_of_three();
    let (one, other) = (grant(&mut client, 600_000), grant(&mut client, 600_000));
    let put = ok(client.put(&format!("/v1/keys/k?lease={one}"), b"x"), 201);
    assert_eq!(put.str("lease"), one);
    assert_eq!(
        ok(client.get("/v1/keys/k"), 200).header("tenure-lease"),
        Some(one.as_str())
    );
    ok(client.put(&format!("/v1/keys/k?lease={one}"), b"y"), 200);
    let path = format!("/v1/keys/k?lease={other}");
    let refused_put = refused(client.put(&path, b"z"), 409, "key-on-other-lease", &one);
    assert_eq!(refused_put.str("lease"), one);
    assert_eq!(ok(client.get("/v1/keys/k"), 200).text(), "y");
    let tag = format!(
        "\"{}\"",
        ok(client.get("/v1/keys/k?entry=true"), 200).u64("mod_revision")
    );
    let moved = ok(client.call("PUT", &path, &[("if-match", &tag)], b"z"), 200);
    assert_eq!(moved.str("lease"), other);
    // Without a lease a put detaches, whatever the key hung on.
    let detached = ok(client.put("/v1/keys/k", b"free"), 200);
    assert_eq!(detached.json()["lease"], Value::Null);
    ok(client.delete(&format!("/v1/leases/{other}")), 200);
    assert_eq!(ok(client.get("/v1/keys/k"), 200).text(), "free");
    ok(client.put(&format!("/v1/keys/k?lease={one}"), b"x"), 200);
    ok(client.delete(&format!("/v1/leases/{one}")), 200);
    refused(client.get("/v1/keys/k"), 404, "key-not-found", "`k`");
    refused(
        client.put(&format!("/v1/keys/k?lease={one}"), b"x"),
        410,
        "lease-expired",
        &one,
    );
}

#[test]
fn a_read_of_one_key_waits_for_what_comes_after_a_revision_or_a_version() {
    let _machine = machine::shared();
    let (cluster, mut client) = follower_of_three();
    let first = ok(client.put("/v1/keys/k", b"one"), 201).u64("revision");
    let quiet = ok(
        client.get(&format!("/v1/keys/k?after={first}&wait_ms=100")),
        204,
    );
    assert_eq!(quiet.revision(), first);
    let tag = format!("\"{first}\"");
    let known = [("if-none-match", tag.as_str())];
    ok(
        client.call("GET", "/v1/keys/k?wait_ms=100", &known, b""),
        304,
    );
    for by_tag in [false, true] {
        let seen = ok(client.get("/v1/keys/k"), 200).revision();
        let tag = format!("\"{seen}\"");
        let mut waiting = cluster.members[cluster.follower()].client().persistent();
        std::thread::scope(|scope| {
            let waited = scope.spawn(move || match by_tag {
                true => waiting.call(
                    "GET",
                    "/v1/keys/k?wait_ms=20000",
                    &[("if-none-match", &tag)],
                    b"",
                ),
                false => waiting.get(&format!("/v1/keys/k?after={seen}&wait_ms=20000")),
            });
            let changed = ok(client.put("/v1/keys/k", b"two"), 200).u64("revision");
            let answer = ok(waited.join().expect("it is answered"), 200);
            assert_eq!(
                (answer.text().as_str(), answer.revision()),
                ("two", changed)
            );
        });
    }
    refused(
        client.get("/v1/keys/absent?after=0&wait_ms=20000"),
        404,
        "key-not-found",
        "`absent`",
    );
}
