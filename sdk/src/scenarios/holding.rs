//! Askings that grant a lease with them, giving up while waiting, several locks, leases with much on them, hand-over.

use super::*;
use crate::{Guard, LockedTogether};

const TOGETHER: &str = "POST /v1/locks";

#[tokio::test(start_paused = true)]
async fn an_asking_that_grants_its_lease_is_recorded_so_that_a_repeat_grants_no_other() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) =
        but(move |got| (got.call == ACQUIRE && nth(&tries) < 2).then_some(Does::Breaks));
    let lock = client.lock("a").ttl(TTL).acquire().await;
    assert_eq!(lock.expect("it is acquired").lease_id(), "l0");
    let got = members.got();
    let keys: Vec<_> = got
        .iter()
        .map(|got| &got.headers["idempotency-key"])
        .collect();
    assert_eq!(keys.len(), 3, "one round trip, but for those that broke");
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_asked_for_may_be_asked_for_by_a_task_of_its_own() {
    let (_, _, client) = but(|_| None);
    let lease = tokio::spawn(client.lease(TTL).grant()).await;
    let lease = Arc::new(lease.expect("it runs").expect("it is granted"));
    let by_its_own = tokio::spawn(client.lock("a").ttl(TTL).acquire()).await;
    let by_its_own = by_its_own.expect("it runs").expect("it is acquired");
    by_its_own.release().await.expect("it is released");
    let held = tokio::spawn(async move {
        let asked = client.lock("a").on(&lease).wait(TTL);
        let held = asked.acquire_unless(std::future::pending()).await?;
        let held = held.expect("nobody tells it to give up");
        held.run(sleep(TTL)).await?;
        held.release().await
    });
    held.await.expect("it runs").expect("it is released");
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_an_asking_that_was_dropped_before_its_answer_is_learnt_and_ended() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) =
        but(move |got| (got.call == ACQUIRE && nth(&tries) == 0).then_some(Does::Hangs));
    let asking = client.lock("a").ttl(TTL).acquire();
    timeout(Duration::from_millis(100), asking)
        .await
        .expect_err("no answer comes");
    sleep(Duration::from_millis(10)).await;
    let got = members.got();
    let calls: Vec<_> = got.iter().map(|got| got.call.as_str()).collect();
    assert_eq!(calls, [ACQUIRE, ACQUIRE, "DELETE /v1/leases/l0"]);
    assert_eq!(
        got[0].headers["idempotency-key"],
        got[1].headers["idempotency-key"]
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_give_up_has_left_the_queue_when_that_is_answered() {
    let (members, _, client) = but(|got| match got.call.as_str() {
        ACQUIRE => Some(Does::Late(Duration::from_secs(3), 202, queued())),
        call if call.starts_with("DELETE") => {
            let left = json!({"lease": "l0", "ended": true, "ended_count": 1, "revision": 50, "left": true});
            Some(Does::Late(Duration::from_millis(500), 200, left))
        }
        _ => None,
    });
    let give_up = || sleep(Duration::from_secs(5));
    let wait = TTL * 6;
    let own = client.lock("a").ttl(TTL).wait(wait);
    let told = own.acquire_unless(give_up()).await;
    assert!(told.expect("it has left").is_none());
    assert_eq!(members.count("DELETE /v1/leases/l0"), 1);

    let lease = granted(&client).await;
    let on_lease = client.lock("a").on(&lease).wait(wait);
    let told = on_lease.acquire_unless(give_up()).await;
    assert!(told.expect("it has left").is_none());
    assert_eq!(members.count("DELETE /v1/locks/a?lease=l0&owner="), 1);
    // What was left is free to be asked for again.
    let again = client.lock("a").on(&lease).acquire_unless(async {});
    assert!(again.await.expect("it is not claimed").is_none());
}

fn together(state: &str) -> Value {
    let lock = |name: &str, fence: u64| json!({"lock": name, "mode": "exclusive", "fence": fence});
    json!({"state": state, "owner": "", "lease": "l0", "locks": [lock("a", 7), lock("b", 7)], "remaining_ms": 10_000,
        "acquired_revision": 7, "revision": 7})
}

/// Holds `a` and `b` by members that do this, but for what the script says.
async fn both(
    script: impl Fn(&Got) -> Option<Does> + Send + Sync + 'static,
) -> (Arc<Members>, Client, Lease, Guard<LockedTogether>) {
    let (members, _, client) = but(move |got| match got.call.as_str() {
        TOGETHER => Some(Does::Answers(200, together("held"))),
        _ => script(got),
    });
    let lease = granted(&client).await;
    let asking = client.locks_together(["a", "b"]).on(&lease);
    let locks = asking.acquire().await.expect("they are acquired");
    (members, client, lease, locks)
}

fn attached(names: &[&str]) -> Value {
    let hold = |name: &&str| json!({"resource": format!("locks/{name}"), "owner": "", "state": "held", "fence": 7});
    names.iter().map(hold).collect()
}

#[tokio::test(start_paused = true)]
async fn of_locks_that_are_held_together_one_that_is_broken_ends_the_belief_in_all() {
    let (_, client, lease, locks) = both(|got| match got.call.as_str() {
        RENEW => Some(Does::Answers(200, renewed(got, 8))),
        "GET /v1/leases/l0" => Some(Does::Answers(200, super::lease("l0", &attached(&["a"]), 8))),
        _ => None,
    })
    .await;
    let a = locks.part("a").expect("it is held");
    assert_eq!((a.fence(), a.is_held()), (7, true));
    let lost = timeout(TTL * 2, locks.lost()).await;
    assert_eq!(lost.expect("it is lost in time"), Loss::Broken);
    assert!(!a.is_held());
    assert_eq!(lease.state(), State::Held);
    let write = client.put("k", "v").guard(&a).await;
    assert!(matches!(write, Err(Error::Lost(Loss::Broken))), "{write:?}");
}

#[tokio::test(start_paused = true)]
async fn of_locks_that_are_held_together_one_is_released_and_the_other_stays_believed() {
    let (members, client, _lease, locks) = both(|got| match got.call.as_str() {
        RENEW => Some(Does::Answers(200, renewed(got, 8))),
        "GET /v1/leases/l0" => Some(Does::Answers(200, super::lease("l0", &attached(&["b"]), 8))),
        _ => None,
    })
    .await;
    locks.release_one("a").await.expect("it is released");
    assert!(locks.part("a").is_none());
    let again = locks.release_one("a").await;
    assert!(matches!(again, Err(Error::NotApplied(_))), "{again:?}");
    sleep(TTL * 3).await;
    assert_eq!(locks.state(), State::Held);
    let parts: Vec<_> = locks.parts().map(|part| part.name()).collect();
    assert_eq!(parts, ["b"]);
    locks.release().await.expect("it is held");
    let releases =
        |name: &str| members.count(&format!("DELETE /v1/locks/{name}?lease=l0&owner=&fence=7"));
    assert_eq!((releases("a"), releases("b")), (1, 1));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn locks_that_no_member_would_take_together_are_refused_before_anything_is_sent() {
    let (members, _, client) = but(|_| None);
    let check = async |names: &[&str], why: &str| {
        let told = client.locks_together(names.iter().copied()).acquire().await;
        let told = told.expect_err("it is refused").to_string();
        assert!(told.contains(why), "{told}");
    };
    check(&[], "0 locks").await;
    check(&["a", "b", "a"], "\"a\" was asked for twice").await;
    check(&["a"; 65], "65 locks").await;
    assert!(members.got().is_empty());
}

/// A lease that shows the first of very many things.
fn crowded() -> Does {
    let mut shown = lease("l0", &attached(&["x"]), 8);
    shown["attached_count"] = json!(101);
    Does::Answers(200, shown)
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_its_lease_does_not_show_among_a_hundred_others_is_looked_at_itself() {
    let (members, _, client) = but(|got| match got.call.as_str() {
        RENEW => Some(Does::Answers(200, renewed(got, 8))),
        "GET /v1/leases/l0" => Some(crowded()),
        "GET /v1/locks/a" => Some(Does::Answers(200, shown("a", &[("l9", 3), ("l0", 7)], 2))),
        _ => None,
    });
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    sleep(TTL * 5).await;
    assert_eq!(lock.state(), State::Held);
    assert_eq!(members.count("GET /v1/locks/a"), 1, "nothing changed since");
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_lost_where_its_lock_shows_another_holder_and_kept_in_doubt_where_not_all_are_shown()
 {
    let check = async |holders: &'static [(&'static str, u64)], count: u64, expected: Loss| {
        let (_, _, client) = but(move |got| match got.call.as_str() {
            RENEW => Some(Does::Answers(200, renewed(got, 8))),
            "GET /v1/leases/l0" => Some(crowded()),
            "GET /v1/locks/a" => Some(Does::Answers(200, shown("a", holders, count))),
            _ => None,
        });
        let lease = granted(&client).await;
        let lock = locked(&client, &lease).await;
        let start = Instant::now();
        assert_eq!(lost(&lock).await, expected);
        let at_deadline = start.elapsed() >= BELIEVED - Duration::from_millis(5);
        assert_eq!(at_deadline, expected == Loss::Deadline);
    };
    check(&[("l9", 9)], 1, Loss::Broken).await;
    check(&[("l0", 9)], 1, Loss::Broken).await;
    check(&[("l9", 3)], 101, Loss::Deadline).await;
}

/// Members that elect whoever asks, with fence 7, and do this with a hand-over.
fn passing(
    hand_over: impl Fn() -> Does + Send + Sync + 'static,
    leader: u64,
) -> (Arc<Members>, Client) {
    let (members, _, client) = but(move |got| match got.call.as_str() {
        "POST /v1/elections/e" => Some(Does::Answers(
            200,
            json!({"election": "e", "state": "leader", "candidate": "me", "fence": 7, "value": "",
                "remaining_ms": 10_000, "lease": "l0", "revision": 7}),
        )),
        "PATCH /v1/elections/e" => Some(hand_over()),
        "GET /v1/elections/e" => Some(Does::Answers(
            200,
            json!({"election": "e", "leader": {"candidate": "me", "value": "", "lease": "l0", "lease_name": "",
                "fence": leader, "elected_revision": 7, "remaining_ms": 10_000}, "candidates": [], "revision": 8}),
        )),
        _ => None,
    });
    (members, client)
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_may_not_hand_over_leads_on() {
    let (members, client) = passing(|| problem(404, "not-held", "not_applied", "never"), 7);
    let leadership = client.campaign("e", "me").ttl(TTL).lead().await;
    let refused = leadership.expect("it leads").hand_over("you").await;
    let refused = refused.expect_err("nobody waits");
    assert_eq!(refused.error.code(), Some(Code::NotHeld));
    let leadership = refused.leadership.expect("it leads on");
    sleep(TTL * 3).await;
    assert_eq!((leadership.fence(), leadership.state()), (7, State::Held));
    let ends = |got: &Got| got.call.starts_with("DELETE");
    assert!(!members.got().iter().any(ends), "nothing was given up");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_hand_over_is_not_answered_does_not_lead_and_gives_up_what_may_be_left() {
    let (members, client) = passing(|| Does::Breaks, 7);
    let leadership = client.campaign("e", "me").ttl(TTL).lead().await;
    let refused = leadership.expect("it leads").hand_over("you").await;
    let refused = refused.expect_err("no answer comes");
    assert!(matches!(refused.error, Error::Unknown(_)), "{refused}");
    assert!(refused.leadership.is_none());
    sleep(Duration::from_millis(10)).await;
    assert_eq!(members.count("DELETE /v1/leases/l0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_deposed_meanwhile_is_told_so_by_what_the_cluster_shows() {
    let (_, client) = passing(|| problem(412, "fence-stale", "not_applied", "never"), 9);
    let leadership = client.campaign("e", "me").ttl(TTL).lead().await;
    let refused = leadership.expect("it leads").hand_over("you").await;
    assert!(refused.expect_err("it is refused").leadership.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_handed_over_releases_nothing() {
    let (members, client) = passing(
        || {
            Does::Answers(
                200,
                json!({"election": "e", "revision": 9, "leader": {"candidate": "you", "value": "", "lease": "l9",
                    "lease_name": "", "fence": 9, "elected_revision": 9, "remaining_ms": 10_000}}),
            )
        },
        9,
    );
    let lease = granted(&client).await;
    let campaign = client.campaign("e", "me").on(&lease).lead().await;
    let passed = campaign.expect("it leads").hand_over("you").await;
    assert_eq!(passed.expect("it is passed on").leader.candidate, "you");
    sleep(Duration::from_millis(10)).await;
    let ends = |got: &Got| got.call.starts_with("DELETE");
    assert!(!members.got().iter().any(ends));
    assert_eq!(lease.state(), State::Held);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_was_started_again_goes_on_with_its_lease_and_its_hold() {
    let (members, _, client) = but(|got| match got.call.as_str() {
        "POST /v1/leases/l0/renew" => Some(Does::Answers(200, lease("l0", &json!(null), 9))),
        _ => None,
    });
    let id = granted(&client).await.detach();
    sleep(Duration::from_millis(10)).await;
    assert_eq!(members.count("DELETE /v1/leases/l0"), 0, "it lives on");
    let lease = client.resume_lease(&id).await.expect("it lives");
    assert_eq!(locked(&client, &lease).await.fence(), 7);
    sleep(TTL * 3).await;
    assert_eq!(lease.state(), State::Held);

    let (_, _, client) = but(|_| Some(problem(410, "lease-expired", "not_applied", "never")));
    let over = client.resume_lease("l0").await;
    assert!(
        matches!(over, Err(Error::Lost(Loss::LeaseEnded))),
        "{over:?}"
    );
}
