//! Requests that the network holds back: what a later answer tells of them, and what is done about them.

use super::*;

/// Of a lease that is granted under the key of the asking that it stands for.
const NOTHING: &str = "l9";

/// The first asking is not answered, any later one says that another holds it.
fn held_back_then_held_by_another() -> impl Fn(&Got) -> Option<Does> + Send + Sync + 'static {
    let tries = AtomicUsize::new(0);
    move |got| {
        (got.call == ACQUIRE).then(|| match nth(&tries) {
            0 => Does::Breaks,
            _ => problem(409, "lock-held", "not_applied", "same"),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_asking_that_the_network_held_back_is_not_told_by_the_refusal_of_a_later_one() {
    let held_back = held_back_then_held_by_another();
    let (members, _, client) = but(move |got| match got.call.as_str() {
        GRANT => Some(Does::Answers(201, lease(NOTHING, &json!([]), 5))),
        _ => held_back(got),
    });
    let told = client.lock("a").ttl(TTL).acquire().await;
    let error = told.expect_err("another holds it");
    assert_eq!(error.code(), Some(Code::LockHeld));
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    sleep(Duration::from_millis(10)).await;
    let got = members.got();
    let calls: Vec<_> = got.iter().map(|got| got.call.as_str()).collect();
    assert_eq!(
        calls,
        [ACQUIRE, ACQUIRE, ACQUIRE, GRANT, "DELETE /v1/leases/l9"],
        "it is asked for again, and then its key is used up"
    );
    let key = |got: &Got| got.headers["idempotency-key"].clone();
    assert!(got[..4].iter().all(|each| key(each) == key(&got[0])));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_asking_that_was_always_answered_leaves_nothing_to_look_for() {
    let (members, _, client) =
        but(|got| (got.call == ACQUIRE).then(|| problem(409, "lock-held", "not_applied", "same")));
    let told = client.lock("a").ttl(TTL).acquire().await;
    assert!(matches!(told, Err(Error::NotApplied(_))), "{told:?}");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(members.got().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_a_late_request_was_granted_while_giving_up_is_learnt_by_its_key_and_ended() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| match got.call.as_str() {
        ACQUIRE => Some(match nth(&tries) {
            0 => Does::Hangs,
            1 => problem(409, "lock-held", "not_applied", "same"),
            _ => held_on("l5", 7),
        }),
        // The late one came in between, and its record is there.
        GRANT => Some(problem(422, "idempotency-mismatch", "not_applied", "never")),
        _ => None,
    });
    let give_up = sleep(Duration::from_secs(1));
    let told = client.lock("a").ttl(TTL).acquire_unless(give_up).await;
    assert!(told.expect("it is given up").is_none());
    let got = members.got();
    let calls: Vec<_> = got.iter().map(|got| got.call.as_str()).collect();
    assert_eq!(
        calls,
        [ACQUIRE, ACQUIRE, GRANT, ACQUIRE, "DELETE /v1/leases/l5"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_grant_was_refused_after_a_doubtful_try_may_yet_be_granted() {
    let tries = AtomicUsize::new(0);
    let (_, _, client) = but(move |_| {
        Some(match nth(&tries) {
            0 => Does::Breaks,
            _ => problem(429, "quota-exceeded", "not_applied", "after"),
        })
    });
    let told = client.lease(TTL).grant().await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}

/// What is told of a handover of which `first` becomes of the first request and that any later one finds done, and how often
/// it was asked for.
async fn handed_over(to: Option<&str>, first: fn() -> Does) -> (Result<String, Error>, usize) {
    const LEAD: &str = "POST /v1/cluster/leader";
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| {
        (got.call == LEAD).then(|| match nth(&tries) {
            0 => first(),
            _ => Does::Answers(200, json!({"leader": "00a2", "term": 7, "revision": 9})),
        })
    });
    // One try of such an operation takes as long as all of the usual patience.
    let client = client.with_patience(Duration::from_secs(30));
    let told = client.transfer_leadership(to).await;
    (told.map(|led| led.leader), members.count(LEAD))
}

/// Whoever leads by then would hand over as well, and leadership could come back to who was to lose it.
#[tokio::test(start_paused = true)]
async fn a_handover_to_nobody_in_particular_is_asked_for_again_only_where_it_was_certainly_not_done()
 {
    let lost: [fn() -> Does; 3] = [
        || Does::Breaks,
        || Does::Hangs,
        || problem(504, "outcome-unknown", "unknown", "never"),
    ];
    for first in lost {
        let (told, asked) = handed_over(None, first).await;
        assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
        assert_eq!(asked, 1);
    }
    let not_done: [fn() -> Does; 2] = [
        || Does::Refuses,
        || problem(503, "no-leader", "not_applied", "after"),
    ];
    for first in not_done {
        let (told, asked) = handed_over(None, first).await;
        assert_eq!(told.expect("it is done").as_str(), "00a2");
        assert_eq!(asked, 2);
    }
    // To whom it is named it goes once, however often that is asked for.
    let (told, asked) = handed_over(Some("n2"), lost[0]).await;
    assert_eq!(told.expect("it is done").as_str(), "00a2");
    assert_eq!(asked, 2);
}

/// An asking on a lease of the caller's, of which `first` becomes of the first request, and that is refused later.
async fn refused_after(first: fn() -> Does, queued_between: bool) {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| match got.call.as_str() {
        ACQUIRE => Some(match nth(&tries) {
            0 => first(),
            1 if queued_between => Does::Answers(202, queued()),
            _ => problem(409, "wait-expired", "not_applied", "never"),
        }),
        call if call.starts_with("DELETE /v1/locks") => Some(Does::Hangs),
        _ => None,
    });
    let client = client.with_patience(Duration::from_secs(1));
    let lease = granted(&client).await;
    let told = client.lock("a").on(&lease).wait(TTL * 6).acquire().await;
    let error = told.expect_err("the wait is over");
    assert_eq!(error.code(), Some(Code::WaitExpired));
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    let again = client.lock("a").on(&lease).acquire().await;
    assert_eq!(
        again.expect_err("it is in doubt").code(),
        Some(Code::AlreadyHeld)
    );
    sleep(Duration::from_millis(10)).await;
    let left = "DELETE /v1/locks/a?lease=l0&owner=";
    assert_eq!(members.count(left), 1, "what may be there is left");
}

#[tokio::test(start_paused = true)]
async fn doubt_about_an_asking_is_kept_over_the_rounds_of_a_wait() {
    // All of the patience of the first round, and one try of it that another member made up for.
    refused_after(|| Does::Hangs, false).await;
    refused_after(|| Does::Breaks, true).await;
}

/// What is told of a write of which the first try was not answered, the machine slept meanwhile, and any later one
/// finds the key there; and how often it was sent.
async fn written_over_a_sleep_of(sleeps: Duration) -> (Error, usize) {
    let tries = AtomicUsize::new(0);
    let (members, clock, client) = but(move |_| {
        Some(match nth(&tries) {
            0 => Does::Hangs,
            _ => problem(412, "condition-failed", "not_applied", "never"),
        })
    });
    let writing = tokio::spawn(async move { client.put("k", "v").if_absent().await });
    sleep(Duration::from_secs(1)).await;
    clock.suspend(sleeps);
    let told = writing.await.expect("it runs");
    let sent = members.got().len();
    (told.expect_err("no answer tells of it"), sent)
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_repeated_after_the_machine_slept_for_longer_than_its_record_is_kept() {
    let (error, sent) = written_over_a_sleep_of(Duration::from_secs(20)).await;
    assert!(matches!(error, Error::NotApplied(_)), "{error}");
    assert_eq!(sent, 2, "its record is there, and tells");
    let (error, sent) = written_over_a_sleep_of(Duration::from_secs(60)).await;
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    assert_eq!(sent, 1, "it may have been applied, and would be once more");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_comes_after_a_long_sleep_is_not_taken_for_a_recorded_decision() {
    let tries = AtomicUsize::new(0);
    let (_, clock, client) = but(move |_| {
        let refused = problem(412, "condition-failed", "not_applied", "never");
        let Does::Answers(status, body) = refused else {
            panic!("a problem is an answer")
        };
        Some(match nth(&tries) {
            0 => Does::Breaks,
            _ => Does::Late(Duration::from_secs(2), status, body),
        })
    });
    let writing = tokio::spawn(async move { client.put("k", "v").if_absent().await });
    sleep(Duration::from_secs(1)).await;
    clock.suspend(Duration::from_secs(60));
    let told = writing.await.expect("it runs");
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_one_member_was_asked_for_and_did_not_answer_is_in_doubt_and_a_read_is_not() {
    let check = async |does: fn() -> Does, is_in_doubt: bool| {
        let (members, _, client) = but(move |_| Some(does()));
        let told = client.set_log_filter_of("http://a:1", "debug").await;
        let error = told.expect_err("it is not answered");
        assert_eq!(matches!(error, Error::Unknown(_)), is_in_doubt, "{error}");
        assert_eq!(members.count("PATCH /v1/status"), 1, "it is asked once");
        let error = client.status_of("http://a:1").await;
        let error = error.expect_err("it is not answered");
        assert!(matches!(error, Error::NotApplied(_)), "{error}");
    };
    check(|| Does::Hangs, true).await;
    check(|| Does::Breaks, true).await;
    let (members, _, client) = but(|_| None);
    let client = client.at_given_urls_only();
    let told = client.set_log_filter_of("http://d:1", "debug").await;
    let error = told.expect_err("it may not be asked there");
    assert!(matches!(error, Error::NotApplied(_)), "{error}");
    assert_eq!(members.got().len(), 0, "a token would be shown to it");
    check(|| Does::Answers(502, json!("a proxy")), true).await;
    check(|| problem(504, "outcome-unknown", "unknown", "never"), true).await;
    check(|| Does::Refuses, false).await;
    check(
        || problem(400, "invalid-request", "not_applied", "never"),
        false,
    )
    .await;
}
