//! A watch over the death of leaders.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Cluster, SOON, Setup, machine, wait};

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
