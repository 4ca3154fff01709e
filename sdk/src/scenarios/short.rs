//! The shortest TTL: members that do not answer must be left while the lease still lives. And polls that last until the
//! place ends, longer than was asked for.

use super::*;

const SHORT: Duration = Duration::from_secs(1);
/// The formula of the contract.
const BELIEVED_SHORT: Duration = Duration::from_millis(930);

fn short_hold(lease: &str) -> Value {
    json!({"lock": "a", "state": "held", "mode": "exclusive", "owner": "", "lease": lease, "fence": 7,
        "remaining_ms": 1_000, "acquired_revision": 7, "revision": 7})
}

fn short_place(left_ms: u64) -> Value {
    json!({"state": "queued", "lease": "l0", "remaining_ms": 1_000, "wait_remaining_ms": left_ms, "revision": 9})
}

fn short_renewal(got: &Got) -> Option<Does> {
    (got.call == RENEW).then(|| {
        let ids = got.body["leases"].as_array().expect("ids are sent");
        let one = |id| json!({"lease": id, "remaining_ms": 1_000, "attached_revision": 7});
        let results: Vec<_> = ids.iter().map(one).collect();
        Does::Answers(200, json!({"results": results, "revision": 99}))
    })
}

#[tokio::test(start_paused = true)]
async fn an_asking_for_a_second_leaves_a_member_that_does_not_answer_while_the_lease_lives() {
    // Which asking hangs: the one that grants the lease, or one that waits by it.
    for hangs in [0, 1, 2] {
        let tries = AtomicUsize::new(0);
        let (members, _, client) = but(move |got| match got.call.as_str() {
            ACQUIRE => Some(match nth(&tries) {
                n if n == hangs => Does::Hangs,
                0 => Does::Answers(202, short_place(60_000)),
                1 if hangs == 2 => Does::Answers(202, short_place(60_000)),
                _ => Does::Answers(200, short_hold("l0")),
            }),
            _ => short_renewal(got),
        });
        let start = Instant::now();
        let lock = client.lock("a").ttl(SHORT).wait(TTL * 6).acquire().await;
        let took = start.elapsed();
        assert_eq!(lock.expect("it is acquired").state(), State::Held);
        assert!(
            took >= SHORT / 3 && took < BELIEVED_SHORT,
            "{took:?} where asking {hangs} hangs"
        );
        assert!(members.count(ACQUIRE) >= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_before_its_grant_was_answered_is_asked_for_anew_under_another_key() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| {
        (got.call == ACQUIRE || got.call == GRANT).then(|| match nth(&tries) % 4 {
            0 => Does::Hangs,
            1 => Does::Breaks,
            2 => problem(410, "lease-expired", "not_applied", "never"),
            _ if got.call == GRANT => Does::Answers(201, lease("l1", &json!([]), 5)),
            _ => Does::Answers(200, short_hold("l1")),
        })
    });
    let lock = client.lock("a").ttl(SHORT).acquire().await;
    assert_eq!(lock.expect("it is acquired").lease_id(), "l1");
    let lease = client.lease(SHORT).grant().await;
    assert_eq!(lease.expect("it is granted").id(), "l1");
    for call in [ACQUIRE, GRANT] {
        let got = members.got();
        let calls: Vec<_> = got.iter().filter(|got| got.call == call).collect();
        let key = |number: usize| &calls[number].headers["idempotency-key"];
        assert!(key(0) == key(1) && key(1) == key(2), "it is one asking");
        assert!(key(2) != key(3), "the answer of another is wanted");
    }
}

#[tokio::test(start_paused = true)]
async fn an_asking_whose_leases_end_again_and_again_says_that_it_lost_and_leaves_nothing_to_look_for()
 {
    let (members, _, client) = but(|got| {
        (got.call == ACQUIRE).then(|| problem(410, "lease-expired", "not_applied", "never"))
    });
    let client = client.with_patience(Duration::from_secs(1));
    let told = client.lock("a").ttl(SHORT).acquire().await;
    assert!(
        matches!(told, Err(Error::Lost(Loss::LeaseEnded))),
        "{told:?}"
    );
    let asked = members.got().len();
    assert!((5..=20).contains(&asked), "{asked} askings in a second");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(members.got().len(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_lasts_until_the_place_ends_is_waited_for_and_its_refusal_is_certain() {
    // With this TTL a poll is asked for 3.3 s, and a member holds one for up to 6.6 s where the place ends then.
    let end = |left: u64| async move {
        let tries = AtomicUsize::new(0);
        let (members, _, client) = but(move |got| {
            (got.call == ACQUIRE).then(|| match nth(&tries) {
                n @ (0 | 1) => Does::Answers(
                    202,
                    json!({"state": "queued", "lease": "l0", "remaining_ms": 10_000,
                        "wait_remaining_ms": if n == 0 { 600_000 } else { left }, "revision": 9}),
                ),
                2 => {
                    let expired = problem(409, "wait-expired", "not_applied", "same");
                    let Does::Answers(status, body) = expired else {
                        panic!("a problem is an answer")
                    };
                    Does::Late(Duration::from_millis(left), status, body)
                }
                _ => Does::Breaks,
            })
        });
        let told = client.lock("a").ttl(TTL).wait(TTL * 60).acquire().await;
        let error = told.expect_err("the wait is over");
        assert_eq!(members.count(ACQUIRE), 3);
        error
    };
    // And the twentieth of the wait is 30 s.
    for left in [3_000, 5_500, 6_600] {
        let error = end(left).await;
        assert!(matches!(error, Error::NotApplied(_)), "{left}: {error}");
        assert_eq!(error.code(), Some(Code::WaitExpired));
    }
}

#[tokio::test(start_paused = true)]
async fn a_patience_without_end_is_none_that_cannot_be_added_to() {
    let (_, _, client) = but(|_| None);
    let client = client.with_patience(Duration::MAX);
    let lease = granted(&client).await;
    let asked = client.lock("a").on(&lease).wait(Duration::MAX);
    let lock = asked.acquire().await.expect("it is acquired");
    lock.release().await.expect("it is released");
    let lock = client
        .lock("a")
        .ttl(TTL)
        .wait(Duration::MAX)
        .acquire()
        .await;
    assert!(lock.expect("it is acquired").is_held());
}

#[tokio::test(start_paused = true)]
async fn a_write_under_a_hold_for_a_second_leaves_a_member_that_does_not_answer_while_it_may_last()
{
    const SECOND: Duration = Duration::from_secs(1);
    let hangs = AtomicUsize::new(0);
    let (_, _, client) = but(move |got| {
        let said = |more: Value| {
            let mut said = json!({"owner": "", "lease": "l0", "fence": 7, "remaining_ms": 1_000, "acquired_revision": 7,
                "revision": 7});
            let fields = said.as_object_mut().expect("it is one");
            fields.extend(more.as_object().expect("it is one").clone());
            Does::Answers(200, said)
        };
        let leads = json!({"election": "e", "state": "leader", "candidate": "me", "value": ""});
        Some(match got.call.as_str() {
            ACQUIRE => said(json!({"lock": "a", "state": "held", "mode": "exclusive"})),
            "POST /v1/elections/e" => said(leads),
            call if call.starts_with("PUT ") && nth(&hangs).is_multiple_of(2) => Does::Hangs,
            "PUT /v1/keys/k" => Does::Answers(201, written()),
            "PUT /v1/elections/e" => said(leads),
            _ => return None,
        })
    });
    // So long may be believed of a TTL of a second.
    let believed = Duration::from_millis(930);
    let lock = client.lock("a").ttl(SECOND).acquire().await;
    let (lock, start) = (lock.expect("it is acquired"), Instant::now());
    client.put("k", "v").guard(&lock).await.expect("it is put");
    assert!(start.elapsed() < believed, "{:?}", start.elapsed());
    lock.release().await.expect("it is held");
    let leadership = client.campaign("e", "me").ttl(SECOND).lead().await;
    let (leadership, start) = (leadership.expect("it leads"), Instant::now());
    leadership.proclaim("x").await.expect("it leads");
    assert!(start.elapsed() < believed, "{:?}", start.elapsed());
}
