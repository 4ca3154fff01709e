//! Members of another cluster behind a URL that was given.

use super::*;

fn stranger() -> Does {
    let body = json!({"type": "urn:tenure:problem:wrong-cluster", "title": "t", "status": 421, "detail": "d",
        "code": "wrong-cluster", "outcome": "not_applied", "retry": "never"});
    let leader = ("tenure-leader", "http://stranger:1".to_owned());
    let cluster = ("tenure-cluster", "ee".to_owned());
    Does::Tells(421, body, vec![leader, cluster])
}

#[tokio::test(start_paused = true)]
async fn a_member_of_another_cluster_is_passed_over_and_is_not_told_who_leads() {
    let (members, _, client) = but(|got| {
        Some(match got.member.as_str() {
            "a" if got.headers.contains_key("tenure-cluster") => stranger(),
            "stranger" => Does::Refuses,
            _ => Does::Tells(201, written(), vec![("tenure-cluster", "00ff".to_owned())]),
        })
    });
    // Until `a` was asked as one of the cluster that it is not of.
    for _ in 0..20 {
        client.put("k", "v").await.expect("another member takes it");
    }
    let got = members.got();
    let ours = got.iter().filter(|got| got.member != "a").count();
    assert_eq!(ours, 20 - usize::from(got[0].member == "a"));
    assert!(got.iter().all(|got| got.member != "stranger"));
}

#[tokio::test(start_paused = true)]
async fn where_all_are_of_another_cluster_that_is_told_at_once() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |_| {
        Some(match nth(&tries) {
            0 => Does::Tells(201, written(), vec![("tenure-cluster", "00ff".to_owned())]),
            _ => stranger(),
        })
    });
    client.put("k", "v").await.expect("it is put");
    let start = Instant::now();
    let error = client.put("k", "v").await.expect_err("all are strangers");
    assert!(matches!(error, Error::NotApplied(_)), "{error}");
    assert_eq!(error.code(), Some(Code::WrongCluster));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(members.got().len(), 4, "each was asked");
}

/// Members of which `a` is a stranger, and `c` has led and is gone: `b` says so often that there is no leader.
fn without_its_leader(elects: usize) -> (Arc<Members>, Client) {
    let (asked, tries) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (members, _, client) = but(move |got| {
        let as_of = got.headers.contains_key("tenure-cluster");
        let cluster = || ("tenure-cluster", "00ff".to_owned());
        Some(match got.member.as_str() {
            "a" if as_of => stranger(),
            "a" => Does::Refuses,
            "c" if nth(&asked) > 0 => Does::Refuses,
            "b" if as_of && nth(&tries) < elects => {
                let mut body =
                    json!({"type": "urn:tenure:problem:no-leader", "title": "t", "status": 503});
                let more = json!({"detail": "d", "code": "no-leader", "outcome": "not_applied", "retry": "after",
                    "retry_after_ms": 500});
                let fields = body.as_object_mut().expect("it is one");
                fields.extend(more.as_object().expect("it is one").clone());
                Does::Answers(503, body)
            }
            _ if got.call.starts_with("POST /v1/watch") => {
                let state = json!({"snapshot": [], "events": [], "revision": 5, "more": false});
                Does::Answers(200, state)
            }
            _ => {
                let leader = ("tenure-leader", "http://c:1".to_owned());
                Does::Tells(201, written(), vec![cluster(), leader])
            }
        })
    });
    (members, client)
}

#[tokio::test(start_paused = true)]
async fn a_stranger_among_members_ends_no_call_while_those_that_are_left_elect() {
    let (members, client) = without_its_leader(3);
    // Until `c` was asked, which leads.
    while !members.got().iter().any(|got| got.member == "c") {
        client.put("k", "v").await.expect("it is put");
    }
    client
        .put("k", "v")
        .await
        .expect("there is a leader before long");
    let (_, client) = without_its_leader(3);
    client.put("k", "v").await.expect("it is put");
    let told = client.watch("keys/").begin().next().await;
    let told = told.expect("it goes on").expect("it is told");
    assert!(matches!(told, Told::Resync { revision: 5, .. }), "{told:?}");

    let (_, client) = without_its_leader(usize::MAX);
    let client = client.with_patience(Duration::from_secs(2));
    let error = loop {
        if let Err(error) = client.put("k", "v").await {
            break error;
        }
    };
    let told = error.to_string();
    let stranger = "http://a:1 is a member of another cluster";
    assert!(error.may_pass() && told.contains(stranger), "{told}");
    for _ in 0..3 {
        let error = client.put("k", "v").await.expect_err("nobody leads");
        assert!(error.may_pass(), "{error}");
    }
}

/// Their cluster was restored from a backup, say, and has another id since.
#[tokio::test(start_paused = true)]
async fn after_its_cluster_was_restored_a_client_is_refused_until_it_is_made_anew() {
    let restored = Arc::new(AtomicUsize::new(0));
    let (members, clock, client) = but({
        let restored = Arc::clone(&restored);
        move |got| {
            let id = ["00ff", "ee"][restored.load(Ordering::SeqCst)];
            let asked = got.headers.get("tenure-cluster");
            match asked.is_none_or(|asked| asked == id) {
                true if got.call.starts_with("PUT ") => {
                    let cluster = ("tenure-cluster", id.to_owned());
                    Some(Does::Tells(201, written(), vec![cluster]))
                }
                true => None,
                false => Some(stranger()),
            }
        }
    });
    client.put("k", "v").await.expect("it is put");
    let lease = granted(&client).await;
    restored.store(1, Ordering::SeqCst);
    assert_eq!(lease.lost().await, Loss::Deadline);
    let trouble = lease.trouble().expect("it is known what is wrong");
    assert_eq!(trouble.code(), Some(Code::WrongCluster));
    let asked = members.count(RENEW);
    assert!(
        (5..=12).contains(&asked),
        "{asked}: looked for, and no more often than that"
    );
    for _ in 0..3 {
        let error = client.put("k", "v").await.expect_err("all are strangers");
        assert_eq!(error.code(), Some(Code::WrongCluster));
        assert!(matches!(error, Error::NotApplied(_)) && !error.may_pass());
    }
    let ended = client.watch("keys/").begin().next().await;
    let ended = ended.expect("it is told").expect_err("it ends");
    assert_eq!(ended.code(), Some(Code::WrongCluster));
    let anew = members.client(&clock);
    anew.put("k", "v").await.expect("it is put");
}
