//! What mirrors and observers show, while values are bad, history is gone and the cluster is away.

use super::*;
use crate::{ConfigMirror, Observe, View};

fn snapshot(revision: u64, values: &[(&str, &str, u64)]) -> Value {
    let entry = |(key, value, mod_revision): &(&str, &str, u64)| {
        json!({"resource": format!("keys/{key}"), "state": {"key": key, "value": value, "encoding": "utf-8",
            "content_type": null, "create_revision": mod_revision, "mod_revision": mod_revision, "version": 1,
            "lease": null}})
    };
    let entries: Vec<_> = values.iter().map(entry).collect();
    json!({"snapshot": entries, "events": [], "revision": revision, "more": false})
}

fn changed(revision: u64, key: &str, value: Option<&str>) -> Value {
    let mut event = put_event(revision, key);
    match value {
        Some(value) => event["value"] = json!(value),
        None => {
            event = json!({"revision": revision, "type": "delete", "resource": format!("keys/{key}"), "key": key,
                "mod_revision": revision, "lease": null, "reason": "deleted"});
        }
    }
    json!({"events": [event], "revision": revision, "more": false})
}

/// A mirror by members that answer these one after the other, a second apart, and then no more.
fn mirror(answers: Vec<Value>) -> (Client, ConfigMirror<u32>) {
    let tries = AtomicUsize::new(0);
    let (_, _, client) = but(move |_| {
        let n = nth(&tries);
        Some(match answers.get(n) {
            Some(answer) if answer.is_null() => problem(410, "compacted", "not_applied", "never"),
            Some(answer) => Does::Late(Duration::from_secs(1), 200, answer.clone()),
            None => Does::Hangs,
        })
    });
    let mirror = client.mirror::<u32>("c/").begin();
    (client, mirror)
}

fn values(view: &View<u32>) -> Vec<(&str, u32)> {
    let values = view.values.iter();
    values
        .map(|(name, value)| (name.as_str(), **value))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_mirror_keeps_the_last_good_value_and_tells_of_the_bad_one() {
    let (_client, mirror) = mirror(vec![
        snapshot(10, &[("c/a", "1", 3), ("c/b", "no number", 4)]),
        changed(11, "c/a", Some("nor is this")),
        changed(12, "c/b", Some("2")),
        // History was compacted: the state is told anew, and what was good of it stays.
        Value::Null,
        snapshot(30, &[("c/a", "still none", 20), ("c/d", "4", 21)]),
        changed(31, "c/a", Some("5")),
        changed(32, "c/a", None),
    ]);
    assert!(mirror.view().is_none() && mirror.staleness().is_none());
    let first = mirror.ready().await.expect("there is a first view");
    assert_eq!((values(&first), first.revision), (vec![("a", 1)], 10));
    assert_eq!(first.bad["b"].mod_revision, 4);
    let mut views = mirror.watch();
    views.mark_unchanged();
    let mut told = Vec::new();
    for _ in 0..5 {
        views.changed().await.expect("the mirror is there");
        let view = views.borrow_and_update().clone().expect("there is a view");
        let bad: Vec<_> = view.bad.keys().cloned().collect();
        told.push(format!("{} {:?} {bad:?}", view.revision, values(&view)));
    }
    assert_eq!(
        told,
        [
            r#"11 [("a", 1)] ["a", "b"]"#,
            r#"12 [("a", 1), ("b", 2)] ["a"]"#,
            r#"30 [("a", 1), ("d", 4)] ["a"]"#,
            r#"31 [("a", 5), ("d", 4)] []"#,
            r#"32 [("d", 4)] []"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_mirror_keeps_its_view_while_the_cluster_is_away_and_tells_for_how_long_that_is() {
    let (_client, mirror) = mirror(vec![snapshot(10, &[("c/a", "1", 3)])]);
    mirror.ready().await.expect("there is a first view");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(mirror.get("a").as_deref(), Some(&1));
    assert_eq!(mirror.revision(), Some(10));
    let staleness = mirror.staleness().expect("it was heard of");
    assert!(staleness >= Duration::from_secs(600) && staleness < Duration::from_secs(601));
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_is_refused_says_so_and_goes_on_when_it_is_not_any_longer() {
    let tries = AtomicUsize::new(0);
    let (_, _, client) = but(move |_| {
        Some(match nth(&tries) {
            0 | 1 => problem(403, "forbidden", "not_applied", "never"),
            2 => Does::Answers(200, snapshot(10, &[("c", "7", 3)])),
            _ => Does::Hangs,
        })
    });
    let mirror = client.mirror_key::<u32>("c").begin();
    let refused = mirror.ready().await.expect_err("it is refused");
    assert_eq!(refused.code(), Some(Code::Forbidden));
    let mut views = mirror.watch();
    let seven = views.wait_for(Option::is_some).await;
    assert_eq!(
        seven
            .expect("the mirror is there")
            .as_ref()
            .map(|view| view.revision),
        Some(10)
    );
    assert_eq!(mirror.value().as_deref(), Some(&7));
    assert!(mirror.trouble().is_none());
}

fn election(leader: Option<(&str, u64)>, revision: u64) -> Value {
    let leader = leader.map(|(who, fence)| {
        json!({"candidate": who, "value": "v", "lease": "l", "lease_name": "", "fence": fence,
            "elected_revision": fence, "remaining_ms": 10_000})
    });
    let state = json!({"election": "e", "leader": leader, "candidates": [], "candidate_count": 0,
        "delay_remaining_ms": null, "mod_revision": revision});
    json!({"snapshot": [{"resource": "elections/e", "state": state}], "events": [], "revision": revision, "more": false})
}

fn happened(revision: u64, events: &[Value]) -> Value {
    let with_revision = |event: &Value| {
        let mut event = event.clone();
        event["revision"] = json!(revision);
        event["resource"] = json!("elections/e");
        event["election"] = json!("e");
        event
    };
    let events: Vec<_> = events.iter().map(with_revision).collect();
    json!({"events": events, "revision": revision, "more": false})
}

async fn seat(seats: &mut Observe) -> (Option<(String, u64)>, u64) {
    let seat = seats
        .next()
        .await
        .expect("it goes on")
        .expect("nothing fails");
    let leader = seat.leader.map(|leader| (leader.candidate, leader.fence));
    (leader, seat.revision)
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_lost_history_is_told_the_present_leader_and_of_each_vacancy() {
    let resigned = |who: &str, fence: u64| json!({"type": "resigned", "candidate": who, "lease": "l", "fence": fence, "reason": "resigned"});
    let elected = |who: &str, fence: u64| json!({"type": "elected", "candidate": who, "lease": "l", "fence": fence, "value": "v"});
    let queued = json!({"type": "queued", "candidate": "c", "lease": "l", "lease_name": "", "metadata": {}, "priority": 0});
    let answers = [
        election(Some(("a", 5)), 10),
        happened(11, &[queued]),
        happened(12, &[resigned("a", 5)]),
        happened(13, &[elected("b", 13)]),
        // A leadership that passes at one revision leaves no vacancy to be told.
        happened(14, &[resigned("b", 13), elected("c", 14)]),
        Value::Null,
        election(Some(("c", 14)), 30),
        Value::Null,
        election(None, 40),
    ];
    let tries = AtomicUsize::new(0);
    let (_, _, client) = but(move |_| {
        Some(match answers.get(nth(&tries)) {
            Some(answer) if answer.is_null() => problem(410, "compacted", "not_applied", "never"),
            Some(answer) => Does::Answers(200, answer.clone()),
            None => Does::Hangs,
        })
    });
    let mut seats = client.observe("e");
    let led = |who: &str, fence: u64| Some((who.to_owned(), fence));
    let told = [
        (led("a", 5), 10),
        (None, 12),
        (led("b", 13), 13),
        (led("c", 14), 14),
        (None, 40),
    ];
    for expected in told {
        assert_eq!(seat(&mut seats).await, expected);
    }
    assert_eq!(seats.seat().map(|seat| seat.revision), Some(40));
}

/// A page of the keys of a mirror, as of a revision.
fn page(key: &str, next: Option<&str>, revision: u64) -> Does {
    let keys = snapshot(0, &[(key, "7", 3)])["snapshot"][0]["state"].clone();
    let page = json!({"keys": [keys], "more": next.is_some(), "next": next, "count": 2, "revision": revision});
    Does::Answers(200, page)
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_state_is_read_in_pages_goes_on_when_the_cluster_was_away_meanwhile() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| match got.call.as_str() {
        "POST /v1/watch" if got.body["snapshot"] == true => {
            Some(problem(413, "too-large", "not_applied", "never"))
        }
        "GET /v1/keys?prefix=c%2F" => Some(page("c/a", Some("c/a"), 30)),
        "GET /v1/keys?prefix=c%2F&revision=30&start_after=c%2Fa" => Some(match nth(&tries) {
            // For longer than any patience.
            0..200 => problem(503, "no-leader", "not_applied", "after"),
            200 => Does::Breaks,
            _ => page("c/b", None, 31),
        }),
        "GET /v1/keys/d?entry=true&revision=30" => Some(match nth(&tries) {
            202 => Does::Refuses,
            _ => problem(404, "key-not-found", "not_applied", "never"),
        }),
        _ => Some(Does::Hangs),
    });
    let start = Instant::now();
    let mut watch = client.watch("keys/c/").and_one("keys/d").begin();
    let told = watch.next().await.expect("it goes on");
    let Ok(Told::Resync { state, revision }) = told else {
        panic!("{told:?}")
    };
    assert_eq!((state.len(), revision), (2, 30));
    assert!(
        start.elapsed() > Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let begun = members.count("GET /v1/keys?prefix=c%2F");
    assert_eq!(begun, 1, "what was read is not read again");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_hears_nobody_knows_what_is_wrong_within_its_patience_and_goes_on() {
    let check = async |after: Option<u64>| {
        let tries = AtomicUsize::new(0);
        let away = Arc::new(AtomicUsize::new(1));
        let (_, _, client) = but({
            let away = Arc::clone(&away);
            move |got| {
                let waits = got.body["wait_ms"].as_u64().unwrap_or_default();
                Some(match (away.load(Ordering::SeqCst), waits) {
                    (0, 0) => Does::Answers(200, snapshot(40, &[])),
                    (0, _) => Does::Hangs,
                    // One of them does not even refuse.
                    _ if nth(&tries) == 0 => Does::Hangs,
                    _ => Does::Refuses,
                })
            }
        });
        let client = client.with_patience(Duration::from_secs(10));
        let watching = client.watch("keys/");
        let mut watch = match after {
            Some(after) => watching.after(after).begin(),
            None => watching.begin(),
        };
        let heard = timeout(Duration::from_secs(11), watch.next()).await;
        assert!(heard.is_err() && watch.heard().is_none(), "{heard:?}");
        let trouble = watch.trouble().expect("it is known");
        assert!(trouble.to_string().contains("refused"), "{trouble}");
        away.store(0, Ordering::SeqCst);
        let _ = timeout(Duration::from_secs(5), watch.next()).await;
        assert!(watch.heard().is_some() && watch.trouble().is_none());
    };
    check(None).await;
    check(Some(30)).await;
}

/// Members whose answer takes so long to arrive on a slow line: the state at once, or a page of it.
async fn read_on_a_slow_line(takes: Duration, in_pages: bool) {
    let (_, _, client) = but(move |got| match got.call.as_str() {
        "POST /v1/watch" if got.body["snapshot"] == true => Some(match in_pages {
            true => problem(413, "too-large", "not_applied", "never"),
            false => Does::Late(takes, 200, snapshot(30, &[("c/a", "7", 3)])),
        }),
        "GET /v1/keys?prefix=c%2F" => {
            let Does::Answers(status, page) = page("c/a", None, 30) else {
                panic!("a page is an answer")
            };
            Some(Does::Late(takes, status, page))
        }
        _ => Some(Does::Hangs),
    });
    let mirror = client.mirror::<u32>("c/").begin();
    let view = timeout(Duration::from_secs(60), mirror.ready()).await;
    let view = view.unwrap_or_else(|_| panic!("nothing that takes {takes:?} ever arrives"));
    assert_eq!(values(&view.expect("there is a view")), [("a", 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_takes_longer_on_its_way_than_members_take_to_be_found_arrives() {
    for takes in [1, 5, 25].map(Duration::from_secs) {
        read_on_a_slow_line(takes, false).await;
        read_on_a_slow_line(takes, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_of_keys_that_is_too_large_for_one_answer_is_read_in_pages_of_one_revision() {
    let (members, _, client) = but(move |got| match got.call.as_str() {
        "POST /v1/watch" if got.body["snapshot"] == true => {
            Some(problem(413, "too-large", "not_applied", "never"))
        }
        "GET /v1/keys?prefix=c%2F" => Some(page("c/a", Some("c/a"), 30)),
        "GET /v1/keys?prefix=c%2F&revision=30&start_after=c%2Fa" => Some(page("c/b", None, 31)),
        "POST /v1/watch" if got.body["after"] == 30 => {
            let change = changed(31, "c/b", Some("8"));
            Some(Does::Late(Duration::from_secs(1), 200, change))
        }
        "POST /v1/watch" => Some(Does::Hangs),
        _ => None,
    });
    let mirror = client.mirror::<u32>("c/").begin();
    let first = mirror.ready().await.expect("there is a view");
    assert_eq!(
        (values(&first), first.revision),
        (vec![("a", 7), ("b", 7)], 30)
    );
    let mut views = mirror.watch();
    let next = views
        .wait_for(|view| view.as_ref().is_some_and(|view| view.revision == 31))
        .await;
    let next = next
        .expect("the mirror is there")
        .clone()
        .expect("there is a view");
    assert_eq!(values(&next), [("a", 7), ("b", 8)]);
    drop(members);

    // What is not of keys cannot be read in another way.
    let (_, _, client) = but(|_| Some(problem(413, "too-large", "not_applied", "never")));
    let refused = client
        .watch("locks/")
        .begin()
        .next()
        .await
        .expect("it is told");
    assert_eq!(
        refused.expect_err("it is refused").code(),
        Some(Code::TooLarge)
    );
}
