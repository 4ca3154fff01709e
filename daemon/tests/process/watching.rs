//! A watch over the death of leaders.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Answer, Cluster, SOON, Setup, machine, wait};

/// One event as a watcher saw it: revision, key and value.
type Seen = (u64, String, String);

/// Watches `keys/` from the beginning by long-polls, moving to the next member whenever one does not answer, until
/// the revision `end` (once it is known) has been seen.
fn watch(cluster: &Cluster, first: usize, end: &AtomicU64) -> Vec<Seen> {
    let (mut seen, mut after, mut member) = (Vec::new(), 0, first);
    while end.load(Ordering::SeqCst) == 0 || after < end.load(Ordering::SeqCst) {
        let mut client = cluster.members[member].client();
        let path = format!("/v1/watch?prefix=keys/&after={after}&wait_ms=500");
        let answer = match client.get(&path) {
            Ok(answer) if answer.status == 200 => answer.json(),
            Ok(answer) => {
                assert_eq!(
                    answer.status,
                    503,
                    "a watch may only be refused for now: {}",
                    answer.text()
                );
                member = (member + 1) % cluster.members.len();
                wait::pass(Duration::from_millis(20), || false);
                continue;
            }
            Err(_) => {
                member = (member + 1) % cluster.members.len();
                wait::pass(Duration::from_millis(20), || false);
                continue;
            }
        };
        let events = answer["events"].as_array().expect("an answer has events");
        seen.extend(events.iter().map(event));
        let revision = answer["revision"]
            .as_u64()
            .expect("an answer has a revision");
        assert!(
            revision >= after,
            "a watch went back from {after} to {revision}"
        );
        after = revision;
    }
    seen
}

fn event(event: &Value) -> Seen {
    let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    (
        event["revision"].as_u64().expect("an event has a revision"),
        text("key"),
        text("value"),
    )
}

#[test]
fn a_watch_across_leader_changes_sees_every_event_once_and_in_order() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let (end, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = &cluster;
    let (written, histories) = thread::scope(|scope| {
        let watchers: Vec<_> = (0..4)
            .map(|first| {
                scope.spawn({
                    let end = &end;
                    move || watch(shared, first % 3, end)
                })
            })
            .collect();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn({
                    let stop = &stop;
                    move || write(shared, writer, stop)
                })
            })
            .collect();
        for _ in 0..3 {
            wait::pass(Duration::from_secs(1), || false);
            let leader = shared.leader();
            shared.members[leader].kill();
            shared.new_leader(Some(leader));
            shared.members[leader].start();
        }
        wait::pass(Duration::from_secs(1), || false);
        stop.store(true, Ordering::SeqCst);
        let mut written = BTreeMap::new();
        for writer in writers {
            written.extend(writer.join().expect("a writer ends"));
        }
        let last = shared.persist("the last write is answered", |client| {
            client.put("/v1/keys/last", b"last")
        });
        end.store(last.expect(201).u64("revision"), Ordering::SeqCst);
        let histories: Vec<Vec<Seen>> = watchers
            .into_iter()
            .map(|watcher| watcher.join().expect("a watcher ends"))
            .collect();
        (written, histories)
    });
    assert!(
        written.len() > 50,
        "too few writes to prove anything: {}",
        written.len()
    );
    for history in &histories {
        assert_eq!(history, &histories[0], "all watchers saw the same history");
    }
    let history = &histories[0];
    assert!(
        history.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "revisions rise, one for each write"
    );
    let by_revision: BTreeMap<u64, (&str, &str)> = history
        .iter()
        .map(|(revision, key, value)| (*revision, (key.as_str(), value.as_str())))
        .collect();
    for (revision, (key, value)) in &written {
        assert_eq!(
            by_revision.get(revision),
            Some(&(key.as_str(), value.as_str())),
            "the write of {revision}"
        );
    }
}

/// Writes until it is told to stop; answers what was acknowledged, by revision.
fn write(cluster: &Cluster, writer: usize, stop: &AtomicBool) -> BTreeMap<u64, (String, String)> {
    let mut written = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (key, value) = (format!("k{}", number % 5), format!("{writer}-{number}"));
        let mut client = cluster.members[(writer + number) % 3]
            .client()
            .with_patience(Duration::from_secs(6));
        match client.put(&format!("/v1/keys/{key}"), value.as_bytes()) {
            Ok(answer) if answer.status < 300 => {
                written.insert(answer.u64("mod_revision"), (key, value));
            }
            _ => wait::pass(Duration::from_millis(20), || stop.load(Ordering::SeqCst)),
        }
    }
    written
}

#[test]
fn a_watch_that_is_caught_up_is_woken_by_the_next_event_and_ends_quietly_without_one() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let put = client
        .put("/v1/keys/config/a", b"1")
        .expect("the member answers")
        .expect(201);
    let after = put.u64("revision");
    let quiet = format!("/v1/watch?prefix=keys/config/&after={after}&wait_ms=300");
    let quiet = client
        .get(&quiet)
        .expect("the member answers")
        .expect(200)
        .json();
    assert_eq!(quiet["events"], Value::Array(Vec::new()));
    assert_eq!(quiet["revision"].as_u64(), Some(after));

    let path =
        format!("/v1/watch?prefix=keys/config/&resource=keys/other&after={after}&wait_ms=20000");
    let pending = cluster.members[follower]
        .client()
        .begin("GET", &path, &Value::Null)
        .expect("it is sent");
    let leader = cluster.leader();
    let mut client = cluster.members[leader].client();
    client
        .put("/v1/keys/unwatched", b"x")
        .expect("the member answers")
        .expect(201);
    let put = client
        .put("/v1/keys/config/b", b"2")
        .expect("the member answers")
        .expect(201);
    let woken = pending
        .answer(SOON)
        .expect("the watch answers")
        .expect(200)
        .json();
    assert_eq!(woken["events"].as_array().map(Vec::len), Some(1), "{woken}");
    assert_eq!(woken["events"][0]["key"], "config/b");
    assert_eq!(woken["events"][0]["value"], "2");
    assert_eq!(
        woken["events"][0]["revision"].as_u64(),
        Some(put.u64("revision"))
    );
}

#[test]
fn many_selectors_are_watched_by_post_and_what_is_wrong_with_them_is_named() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    for number in 0..20 {
        let path = format!("/v1/keys/k/{number}");
        client
            .put(&path, b"x")
            .expect("the member answers")
            .expect(201);
    }
    let mut post = |body: &Value| {
        let answer = client.post("/v1/watch", body);
        answer.expect("the member answers")
    };
    let resources: Vec<String> = (0..2000)
        .step_by(2)
        .map(|n| format!("keys/k/{n}"))
        .collect();
    let body = json!({ "resources": resources, "after": 0 });
    let seen = post(&body).expect(200).json();
    assert_eq!(
        seen["events"].as_array().map(Vec::len),
        Some(10),
        "every other key"
    );
    assert_eq!(seen["more"], false);
    let check = |answer: Answer, named: &str| {
        let answer = answer.expect(400);
        assert!(answer.str("detail").contains(named), "{}", answer.text());
    };
    let many: Vec<String> = (0..1001).map(|number| format!("keys/{number}")).collect();
    check(
        post(&json!({ "resources": many })),
        "there are 1001 selectors",
    );
    check(post(&json!({})), "there are 0 selectors");
    check(
        post(&json!({"prefixes": ["keys/"], "prefix": "keys/"})),
        "unknown field `prefix`",
    );
    check(
        post(&json!({"prefixes": ["keys/"], "wait_ms": 600_001})),
        "`wait_ms` is 600001",
    );
    check(
        post(&json!({"prefixes": ["keys/"], "snapshot": true, "after": 1})),
        "give one",
    );
    check(
        post(&json!({"prefixes": ["nonsense"]})),
        "begins with no collection",
    );
}

#[test]
fn a_reply_ends_after_a_thousand_events_at_the_end_of_a_revision_and_tells_what_was_before() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    let put = |keys: std::ops::Range<usize>, value: &str| {
        let puts = keys.map(|key| json!({"put": {"key": format!("k/{key:03}"), "value": value}}));
        json!({"if": [], "then": puts.collect::<Vec<_>>(), "else": []})
    };
    let mut transact = |body: Value| {
        let answer = client.post("/v1/txn", &body).expect("the member answers");
        answer.expect(200).u64("revision")
    };
    let first = transact(put(0..120, "1"));
    for _ in 0..10 {
        transact(put(0..120, "2"));
    }
    let mut get = |after: u64| {
        let path = format!("/v1/watch?prefix=keys/k/&previous=true&after={after}");
        client
            .get(&path)
            .expect("the member answers")
            .expect(200)
            .json()
    };
    let page = get(first - 1);
    let events = page["events"].as_array().expect("events");
    assert_eq!(events.len(), 960, "eight revisions of 120 events");
    assert_eq!(page["more"], true);
    assert_eq!(page["revision"].as_u64(), Some(first + 7));
    assert!(events[..120].iter().all(|event| {
        event["previous"].is_null()
            && event
                .as_object()
                .is_some_and(|fields| fields.contains_key("previous"))
    }));
    assert!(
        events[120..240]
            .iter()
            .all(|event| event["previous"]["value"] == "1"
                && event["previous"]["mod_revision"].as_u64() == Some(first))
    );
    let rest = get(first + 7);
    assert_eq!(rest["events"].as_array().map(Vec::len), Some(360));
    assert_eq!(rest["more"], false);
}
