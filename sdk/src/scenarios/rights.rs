//! Who asks: tokens that are changed while a program runs, and what is held when rights are lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::credential::Credential;

fn unauthenticated() -> Does {
    problem(401, "unauthenticated", "not_applied", "never")
}

fn forbidden() -> Does {
    problem(403, "forbidden", "not_applied", "never")
}

/// Members that know these tokens, and are well to whoever has one.
fn that_know(
    known: &'static [&'static str],
    file: &Path,
    script: impl Fn(&Got) -> Option<Does> + Send + Sync + 'static,
) -> (Arc<Members>, Client) {
    let granted = AtomicUsize::new(0);
    let members = Members::that(move |got| {
        let token = got.headers.get("authorization");
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        if !token.is_some_and(|token| known.contains(&token)) {
            return unauthenticated();
        }
        script(got).unwrap_or_else(|| well(got, &granted))
    });
    let clock = Arc::new(TestClock::default());
    let credential = Credential::file(file.to_owned()).expect("there is a token");
    let client = members.client_that_is(credential, &clock);
    (members, client)
}

fn file(token: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("there is room for a file");
    std::fs::write(file.path(), token).expect("it is written");
    file
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_read_again_and_the_call_goes_on_with_another() {
    let file = file("old.1");
    let put = |got: &Got| (got.call.starts_with("PUT ")).then(|| Does::Answers(201, written()));
    let (members, client) = that_know(&["new.2"], file.path(), put);
    let error = client.put("k", "v").await.expect_err("it is not known");
    assert!(matches!(&error, Error::NotApplied(_)), "{error:?}");
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    let told = error.to_string();
    let path = file.path().display().to_string();
    assert!(
        told.contains("no other token") && told.contains(&path),
        "{told}"
    );
    assert!(!told.contains("old.1"), "{told}");
    assert_eq!(members.got().len(), 1, "the same token is not tried again");

    std::fs::write(file.path(), "new.2\n").expect("it is written");
    client.put("k", "v").await.expect("it is known by now");
    assert_eq!(members.got().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_is_told_at_once_and_asks_no_other_member() {
    let (members, _, client) = but(|_| Some(forbidden()));
    let error = client.put("k", "v").await.expect_err("it may not");
    assert!(matches!(&error, Error::NotApplied(_)), "{error:?}");
    assert_eq!(error.code(), Some(Code::Forbidden));
    assert!(!error.may_pass());
    assert_eq!(members.got().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_is_not_done_once_more_by_another_identity() {
    let file = file("old.1");
    let path = file.path().to_owned();
    let tries = AtomicUsize::new(0);
    let granted = AtomicUsize::new(0);
    // The first try breaks after it was carried out, perhaps; then the token is another's, and the old one is refused.
    let members = Members::that(move |got| match nth(&tries) {
        0 => {
            std::fs::write(&path, "of-another.2").expect("it is written");
            Does::Breaks
        }
        _ if got.headers["authorization"].ends_with("old.1") => unauthenticated(),
        _ => well(got, &granted),
    });
    let credential = Credential::file(file.path().to_owned()).expect("there is a token");
    let client = members.client_that_is(credential, &Arc::new(TestClock::default()));
    let error = client.put("k", "v").await.expect_err("nothing tells");
    assert!(matches!(error, Error::Unknown(_)), "{error:?}");
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    let got = members.got();
    assert!(
        got.iter()
            .all(|got| got.headers["authorization"].ends_with("old.1")),
        "{got:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_is_created_once_however_its_answer_is_lost_and_its_secret_is_in_no_error() {
    let check = async |answer: fn() -> Does, requests: usize| {
        let (members, _, client) = but(move |_| Some(answer()));
        let error = client
            .create_token("ci", None)
            .await
            .expect_err("no token came");
        assert!(matches!(error, Error::Unknown(_)), "{error:?}");
        assert!(
            !format!("{error:?} {error}").contains("5ecre7"),
            "{error:?}"
        );
        assert_eq!(members.got().len(), requests);
        assert!(!members.got()[0].headers.contains_key("idempotency-key"));
    };
    check(|| Does::Breaks, 1).await;
    check(|| problem(504, "outcome-unknown", "unknown", "never"), 1).await;
    check(|| Does::Answers(201, json!("00000000000000a1.5ecre7")), 1).await;
    check(
        || Does::Answers(201, json!({"token": "00000000000000a1.5ecre7", "id": 7})),
        1,
    )
    .await;

    let tries = AtomicUsize::new(0);
    let created = json!({"token": "00000000000000a1.5ecre7", "id": "00000000000000a1", "identity": "ci",
        "expires_in_ms": 5_000, "revision": 3});
    let (members, _, client) = but(move |_| {
        Some(match nth(&tries) {
            0 => Does::Refuses,
            1 => problem(503, "no-leader", "not_applied", "after"),
            _ => Does::Answers(201, created.clone()),
        })
    });
    let token = client
        .create_token("ci", Some(Duration::from_secs(5)))
        .await;
    let token = token.expect("what was not done is asked for again");
    assert_eq!(
        members.got()[2].body,
        json!({"identity": "ci", "expires_in_ms": 5_000})
    );
    assert_eq!(token.expose(), "00000000000000a1.5ecre7");
    assert!(!format!("{token:?}").contains("5ecre7"), "{token:?}");
}

#[tokio::test(start_paused = true)]
async fn the_secret_of_a_token_is_not_sent_in_place_of_its_id() {
    let (members, _, client) = but(|_| None);
    let error = client.revoke_token("00000000000000a1.5ecre7").await;
    let error = error.expect_err("that is no id");
    assert_eq!(error.code(), Some(Code::InvalidRequest));
    assert!(!error.to_string().contains("5ecre7"), "{error}");
    assert!(members.got().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_try_deleted_is_deleted_and_what_was_never_there_is_told() {
    let gone = || problem(404, "role-not-found", "not_applied", "never");
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |_| {
        Some(if nth(&tries) == 0 {
            Does::Breaks
        } else {
            gone()
        })
    });
    client
        .delete_role("a/b")
        .await
        .expect("it is not there any more");
    assert_eq!(members.count("DELETE /v1/roles/a%2Fb"), 2);
    let (_, _, client) = but(move |_| Some(gone()));
    let error = client.delete_role("a").await.expect_err("it never was");
    assert_eq!(error.code(), Some(Code::RoleNotFound));
    assert!(client.role("a").await.expect("that is an answer").is_none());
}

/// What is held when the renewals are refused from some time on.
async fn held_until(refusal: impl Fn(&Got) -> Does + Send + Sync + 'static, code: Code) {
    let refused = Arc::new(AtomicBool::new(false));
    let is_refused = Arc::clone(&refused);
    let (members, _, client) = but(move |got| {
        (got.call == RENEW && is_refused.load(Ordering::SeqCst)).then(|| refusal(got))
    });
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    sleep(TTL * 2).await;
    assert_eq!(
        (lock.state(), lock.trouble().is_none()),
        (State::Held, true)
    );
    refused.store(true, Ordering::SeqCst);
    let left = lock.remaining();
    let start = Instant::now();
    let mut states = lock.watch();
    states.borrow_and_update();
    states.changed().await.expect("the guard is there");
    assert_eq!(*states.borrow_and_update(), State::InJeopardy);
    let trouble = lock.trouble().expect("it is known what is wrong");
    assert_eq!(trouble.code(), Some(code), "{trouble}");
    assert_eq!(lost(&lock).await, Loss::Deadline);
    assert!(
        start.elapsed() <= left + Duration::from_millis(2),
        "never longer"
    );
    assert_eq!(lease.trouble().and_then(|error| error.code()), Some(code));
    let asked = members.count(RENEW);
    assert!(
        (12..=22).contains(&asked),
        "{asked}: looked for, and not as by who guesses"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_in_jeopardy_and_lost_at_its_deadline_when_the_identity_loses_its_rights() {
    held_until(|_| unauthenticated(), Code::Unauthenticated).await;
    held_until(|_| forbidden(), Code::Forbidden).await;
    let one_by_one = |got: &Got| {
        let ids = got.body["leases"].as_array().expect("ids are sent");
        let result = |id| json!({"lease": id, "error": "forbidden"});
        Does::Answers(
            200,
            json!({"results": ids.iter().map(result).collect::<Vec<_>>(), "revision": 9}),
        )
    };
    held_until(one_by_one, Code::Forbidden).await;
}

#[tokio::test(start_paused = true)]
async fn that_who_is_not_known_is_slowed_down_does_not_hide_why() {
    let count = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| {
        (got.call == RENEW).then(|| match nth(&count) {
            0 => unauthenticated(),
            _ => problem(429, "too-many-requests", "not_applied", "after"),
        })
    });
    let lease = granted(&client).await;
    assert_eq!(lease.lost().await, Loss::Deadline);
    sleep(TTL).await;
    assert!(members.count(RENEW) > 1);
    let trouble = lease.trouble().expect("it is known what is wrong");
    assert_eq!(trouble.code(), Some(Code::Unauthenticated), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_given_back_before_the_deadline_end_the_jeopardy() {
    let count = AtomicUsize::new(0);
    let (_, _, client) =
        but(move |got| (got.call == RENEW && (1..6).contains(&nth(&count))).then(forbidden));
    let lease = granted(&client).await;
    let mut states = lease.watch();
    while lease.trouble().is_none() {
        sleep(Duration::from_millis(10)).await;
    }
    states.changed().await.expect("the lease is there");
    assert_eq!(*states.borrow_and_update(), State::InJeopardy);
    states.changed().await.expect("the lease is there");
    assert_eq!(*states.borrow_and_update(), State::Held);
    assert!(lease.trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_on_by_another_token_in_the_file() {
    let file = file("old.1");
    let is_old_known = Arc::new(AtomicBool::new(true));
    let knows_old = Arc::clone(&is_old_known);
    let (members, client) = that_know(&["old.1", "new.2"], file.path(), move |got| {
        let is_old = got.headers["authorization"].ends_with("old.1");
        (is_old && !knows_old.load(Ordering::SeqCst)).then(unauthenticated)
    });
    let lease = granted(&client).await;
    sleep(TTL * 2).await;
    std::fs::write(file.path(), "new.2").expect("it is written");
    is_old_known.store(false, Ordering::SeqCst);
    let mut states = lease.watch();
    states.borrow_and_update();
    sleep(TTL * 3).await;
    assert!(
        !states.has_changed().expect("it is there"),
        "{:?}",
        lease.trouble()
    );
    let got = members.got();
    let last = got.last().expect("it was renewed");
    assert_eq!(last.headers["authorization"], "Bearer new.2");
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_by_another_token_and_ends_with_the_refusal_of_who_may_not() {
    let file = file("old.1");
    let path = file.path().to_owned();
    let tries = AtomicUsize::new(0);
    let (members, client) = that_know(&["old.1", "new.2"], file.path(), move |got| {
        let is_old = got.headers["authorization"].ends_with("old.1");
        Some(match (nth(&tries), is_old) {
            (0, _) => {
                let state = json!({"snapshot": [], "events": [], "revision": 5, "more": false});
                Does::Answers(200, state)
            }
            // The token is changed, and revoked, while a poll is held open.
            (1, _) => {
                std::fs::write(&path, "new.2").expect("it is written");
                unauthenticated()
            }
            (_, true) => panic!("it is read again"),
            (2, false) => {
                let events = json!({"events": [put_event(6, "k")], "revision": 6, "more": false});
                Does::Answers(200, events)
            }
            _ => forbidden(),
        })
    });
    let mut watch = client.watch("keys/").begin();
    let first = watch.next().await.expect("it goes on").expect("it is told");
    assert!(
        matches!(first, Told::Resync { revision: 5, .. }),
        "{first:?}"
    );
    let next = watch
        .next()
        .await
        .expect("it goes on")
        .expect("nothing is missed");
    assert!(
        matches!(next, Told::Changes { revision: 6, .. }),
        "{next:?}"
    );
    assert_eq!(members.got()[2].body["after"], 5);
    let end = watch.next().await.expect("it says why it ends");
    assert_eq!(end.expect_err("it may not").code(), Some(Code::Forbidden));
    assert!(watch.next().await.is_none());
    assert_eq!(members.got().len(), 4);
}
