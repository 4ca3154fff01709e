//! The client against members that follow a script, on paused time.

mod asleep;
mod doubt;
mod holding;
mod mirroring;
mod rights;
mod short;
mod strangers;
mod strays;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tenure_api::{Code, MAX_RENEWED_TOGETHER};
use tokio::time::{Instant, sleep, timeout};

use crate::testing::{Does, Got, Members, TestClock, problem};
use crate::{Client, Error, Lease, Lock, Loss, State, Told};

const TTL: Duration = Duration::from_secs(10);
/// The formula of the contract for an answer that took no time.
const BELIEVED: Duration = Duration::from_millis(9_750);
const GRANT: &str = "POST /v1/leases";
const RENEW: &str = "POST /v1/leases/renew";
const ACQUIRE: &str = "POST /v1/locks/a";

fn lease(id: &str, attached: &Value, revision: u64) -> Value {
    json!({"lease": id, "name": "", "metadata": {}, "ttl_ms": 10_000, "remaining_ms": 10_000, "granted_revision": 5,
        "attached_count": attached.as_array().map_or(0, Vec::len), "attached_revision": null, "mod_revision": 5,
        "attached": attached, "revision": revision})
}

fn held(fence: u64) -> Does {
    held_on("l0", fence)
}

fn held_on(lease: &str, fence: u64) -> Does {
    Does::Answers(
        200,
        json!({"lock": "a", "state": "held", "mode": "exclusive", "owner": "", "lease": lease, "fence": fence,
            "remaining_ms": 10_000, "acquired_revision": fence, "revision": fence}),
    )
}

/// A lock with these leases and fences as its first holders, of so many.
fn shown(name: &str, holders: &[(&str, u64)], count: u64) -> Value {
    let holder = |(lease, fence): &(&str, u64)| {
        json!({"owner": "", "lease": lease, "lease_name": "", "metadata": {}, "mode": "exclusive", "fence": fence,
            "acquired_revision": fence, "remaining_ms": 10_000})
    };
    json!({"lock": name, "holders": holders.iter().map(holder).collect::<Vec<_>>(), "queue": [], "holder_count": count,
        "queue_length": 0, "last_fence": 7, "exclusive_fence": 7, "delay_remaining_ms": null, "mod_revision": 7,
        "revision": 20})
}

fn queued() -> Value {
    json!({"state": "queued", "lease": "l0", "remaining_ms": 10_000, "revision": 9})
}

fn renewed(got: &Got, attached_revision: u64) -> Value {
    let ids = got.body["leases"].as_array().expect("ids are sent");
    let result =
        |id| json!({"lease": id, "remaining_ms": 10_000, "attached_revision": attached_revision});
    json!({"results": ids.iter().map(result).collect::<Vec<_>>(), "revision": 99})
}

fn ended() -> Does {
    Does::Answers(
        200,
        json!({"lease": "l0", "ended": true, "ended_count": 0, "revision": 50}),
    )
}

/// What members do that are well: leases l0, l1 … are granted and renewed, the lock `a` is granted with fence 7.
fn well(got: &Got, granted: &AtomicUsize) -> Does {
    match got.call.as_str() {
        GRANT => {
            let id = format!("l{}", granted.fetch_add(1, Ordering::SeqCst));
            Does::Answers(201, lease(&id, &json!([]), 5))
        }
        RENEW => Does::Answers(200, renewed(got, 0)),
        ACQUIRE => match got.body["lease"].as_str() {
            Some(lease) => held_on(lease, 7),
            None => held_on(&format!("l{}", granted.fetch_add(1, Ordering::SeqCst)), 7),
        },
        call if call.starts_with("DELETE ") => ended(),
        call => panic!("nobody expects {call}"),
    }
}

/// Members that are well, but for what the script says first.
fn but(
    script: impl Fn(&Got) -> Option<Does> + Send + Sync + 'static,
) -> (Arc<Members>, Arc<TestClock>, Client) {
    let granted = AtomicUsize::new(0);
    let members = Members::that(move |got| script(got).unwrap_or_else(|| well(got, &granted)));
    let clock = Arc::new(TestClock::default());
    let client = members.client(&clock);
    (members, clock, client)
}

async fn granted(client: &Client) -> Lease {
    client.lease(TTL).grant().await.expect("it is granted")
}

async fn locked(client: &Client, lease: &Lease) -> Lock {
    let lock = client.lock("a").on(lease).acquire().await;
    lock.expect("it is acquired")
}

/// How it is lost, which it must be before long.
async fn lost(lock: &Lock) -> Loss {
    let lost = timeout(TTL * 10, lock.lost()).await;
    lost.expect("it is lost in time")
}

/// What happens on the n-th time.
fn nth(count: &AtomicUsize) -> usize {
    count.fetch_add(1, Ordering::SeqCst)
}

fn written() -> Value {
    json!({"key": "k", "content_type": null, "create_revision": 3, "mod_revision": 3, "version": 1, "lease": null,
        "revision": 3})
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_on_to_other_members_with_the_same_idempotency_key() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |_| {
        Some(match nth(&tries) {
            0 => Does::Refuses,
            1 => Does::Breaks,
            2 => Does::Hangs,
            3 => problem(504, "outcome-unknown", "unknown", "never"),
            4 => Does::Answers(502, json!("a proxy")),
            5 => problem(503, "no-leader", "not_applied", "after"),
            _ => Does::Answers(201, written()),
        })
    });
    let put = client.put("k", "v").if_absent().await.expect("it is put");
    assert_eq!(put.mod_revision, 3);
    let got = members.got();
    let keys: Vec<_> = got
        .iter()
        .map(|got| &got.headers["idempotency-key"])
        .collect();
    assert_eq!(keys.len(), 7);
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32));
    let first: std::collections::BTreeSet<_> = got[..3].iter().map(|got| &got.member).collect();
    assert_eq!(
        first.len(),
        3,
        "each member is asked before one is asked again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_in_doubt_stays_so_unless_a_recorded_decision_tells() {
    let check = async |answers: fn(usize) -> Does, code: Code, applied_is_known: bool| {
        let tries = AtomicUsize::new(0);
        let (_, _, client) = but(move |_| Some(answers(nth(&tries))));
        let error = client.put("k", "v").await.expect_err("it fails");
        assert_eq!(error.code(), Some(code));
        assert_eq!(
            matches!(error, Error::NotApplied(_)),
            applied_is_known,
            "{error}"
        );
    };
    let stale = |_| problem(412, "fence-stale", "not_applied", "never");
    check(stale, Code::FenceStale, true).await;
    let broken_then_stale = |n| {
        if n == 0 {
            Does::Breaks
        } else {
            problem(412, "fence-stale", "not_applied", "never")
        }
    };
    check(broken_then_stale, Code::FenceStale, true).await;
    let broken_then_full = |n| {
        if n == 0 {
            Does::Breaks
        } else {
            problem(429, "quota-exceeded", "not_applied", "after")
        }
    };
    check(broken_then_full, Code::QuotaExceeded, false).await;
    let leaderless = |_| problem(503, "no-leader", "not_applied", "after");
    check(leaderless, Code::NoLeader, true).await;
    let broken_then_leaderless = |n| {
        if n == 0 {
            Does::Breaks
        } else {
            problem(503, "no-leader", "not_applied", "after")
        }
    };
    check(broken_then_leaderless, Code::NoLeader, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_is_told_within_the_patience_and_nothing_was_applied() {
    let (_, _, client) = but(|_| Some(Does::Refuses));
    let client = client.with_patience(Duration::from_secs(4));
    let start = Instant::now();
    let error = client.put("k", "v").await.expect_err("nobody is there");
    assert!(matches!(error, Error::NotApplied(_)), "{error}");
    let took = start.elapsed();
    assert!(
        took > Duration::from_secs(3) && took <= Duration::from_secs(4),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_asked_first_and_the_cluster_is_named_once_it_is_known() {
    let (members, _, client) = but(|_| {
        let leader = ("tenure-leader", "http://c:1".to_owned());
        let cluster = ("tenure-cluster", "00ff".to_owned());
        Some(Does::Tells(200, written(), vec![leader, cluster]))
    });
    for _ in 0..3 {
        client.put("k", "v").await.expect("it is put");
    }
    let got = members.got();
    assert!(!got[0].headers.contains_key("tenure-cluster"));
    for got in &got[1..] {
        assert_eq!(
            (got.member.as_str(), got.headers["tenure-cluster"].as_str()),
            ("c", "00ff")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn leases_of_one_client_come_to_be_renewed_in_one_request() {
    let (members, _, client) = but(|_| None);
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(granted(&client).await);
        sleep(Duration::from_millis(20)).await;
    }
    sleep(TTL * 6).await;
    assert!(leases.iter().all(|lease| lease.state() == State::Held));
    let renewals = members.count(RENEW);
    assert!(
        (17..=22).contains(&renewals),
        "{renewals} in 60 s, one each 3.3 s"
    );
}

#[tokio::test(start_paused = true)]
async fn more_leases_than_a_request_may_name_are_renewed_in_two() {
    let (members, _, client) = but(|_| None);
    let mut leases = Vec::new();
    for _ in 0..=MAX_RENEWED_TOGETHER {
        leases.push(granted(&client).await);
    }
    sleep(TTL / 2).await;
    let named = |got: &Got| got.body["leases"].as_array().map(Vec::len);
    let renewals = members.got().clone();
    let renewals = renewals.iter().filter(|got| got.call == RENEW);
    let named: Vec<_> = renewals.filter_map(named).collect();
    assert_eq!(named, [MAX_RENEWED_TOGETHER, 1]);
    sleep(TTL * 2).await;
    assert!(leases.iter().all(|lease| lease.state() == State::Held));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_in_jeopardy_and_then_lost_at_the_deadline() {
    let (_, _, client) = but(|got| (got.call == RENEW).then_some(Does::Hangs));
    let start = Instant::now();
    let lease = granted(&client).await;
    let token = lease.token();
    // Whoever cancels a token of his own ends nobody's belief.
    lease.token().cancel();
    let mut states = lease.watch();
    states.changed().await.expect("the lease is there");
    assert_eq!(*states.borrow_and_update(), State::InJeopardy);
    assert!(!token.is_cancelled());
    assert_eq!(lease.lost().await, Loss::Deadline);
    assert!(token.is_cancelled());
    let took = start.elapsed();
    assert!(
        took >= BELIEVED && took <= BELIEVED + Duration::from_millis(2),
        "{took:?}"
    );
    states.changed().await.expect("the lease is there");
    assert_eq!(*states.borrow_and_update(), State::Lost(Loss::Deadline));
}

#[tokio::test(start_paused = true)]
async fn belief_counts_from_when_the_answered_request_was_sent() {
    // The member thinks for a second and a half before it renews, every time: so much less is believed.
    let (members, _, client) = but(|got| {
        (got.call == RENEW).then(|| Does::Late(Duration::from_millis(1_500), 200, renewed(got, 0)))
    });
    let lease = granted(&client).await;
    while members.count(RENEW) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let sent = Instant::now();
    sleep(Duration::from_millis(1_501)).await;
    let until = Instant::now() + lease.remaining();
    let believed = until - sent;
    assert!(
        believed <= BELIEVED && believed >= BELIEVED - Duration::from_millis(3),
        "{believed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_answered_after_the_deadline_revives_nothing() {
    let (_, clock, client) = but(|got| {
        (got.call == RENEW).then(|| Does::Late(Duration::from_millis(500), 200, renewed(got, 0)))
    });
    let lease = granted(&client).await;
    sleep(Duration::from_millis(3_600)).await;
    // The renewal is under way; the machine sleeps, and its answer is there when it wakes.
    clock.suspend(TTL);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(lease.state(), State::Lost(Loss::Deadline));
    assert_eq!(lease.remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_cluster_ended_is_lost_at_once_with_its_holds() {
    let (_, _, client) = but(|got| {
        let lost = json!({"results": [{"lease": "l0", "error": "lease-expired"}], "revision": 9});
        (got.call == RENEW).then_some(Does::Answers(200, lost))
    });
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    assert!(lock.is_held());
    assert_eq!(lost(&lock).await, Loss::LeaseEnded);
    assert_eq!(lease.state(), State::Lost(Loss::LeaseEnded));
    let refused = client.put("k", "v").guard(&lock).await;
    assert!(
        matches!(refused, Err(Error::Lost(Loss::LeaseEnded))),
        "nothing was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_was_broken_is_lost_while_its_lease_lives_on() {
    let (_, _, client) = but(|got| match got.call.as_str() {
        RENEW => Some(Does::Answers(200, renewed(got, 8))),
        "GET /v1/leases/l0" => Some(Does::Answers(200, lease("l0", &json!([]), 8))),
        _ => None,
    });
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    assert_eq!(lost(&lock).await, Loss::Broken);
    assert_eq!(lease.state(), State::Held);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_may_have_been_broken_keeps_the_deadline_it_had_until_it_is_seen() {
    let (_, _, client) = but(|got| match got.call.as_str() {
        RENEW => Some(Does::Answers(200, renewed(got, 8))),
        "GET /v1/leases/l0" => Some(Does::Hangs),
        _ => None,
    });
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    let start = Instant::now();
    assert_eq!(lost(&lock).await, Loss::Deadline);
    assert!(start.elapsed() <= BELIEVED + Duration::from_millis(2));
    assert_eq!(lease.state(), State::Held);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_seen_again_after_something_else_changed_is_believed_on() {
    let (members, _, client) = but(|got| match got.call.as_str() {
        RENEW => Some(Does::Answers(200, renewed(got, 8))),
        "GET /v1/leases/l0" => {
            let hold = json!({"resource": "locks/a", "owner": "", "state": "held", "fence": 7});
            let key = json!({"resource": "keys/k"});
            Some(Does::Answers(200, lease("l0", &json!([key, hold]), 8)))
        }
        _ => None,
    });
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    sleep(TTL * 5).await;
    assert_eq!(lock.state(), State::Held);
    assert_eq!(
        members.count("GET /v1/leases/l0"),
        1,
        "nothing changed since"
    );
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_before_the_deadline() {
    struct Dropped(Arc<AtomicU64>, Instant);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let after = u64::try_from(self.1.elapsed().as_millis()).expect("it is short");
            self.0.store(after, Ordering::SeqCst);
        }
    }
    let (_, _, client) = but(|got| (got.call == RENEW).then_some(Does::Breaks));
    let start = Instant::now();
    let lock = client
        .lock("a")
        .ttl(TTL)
        .acquire()
        .await
        .expect("it is acquired");
    let dropped = Arc::new(AtomicU64::new(0));
    let work = Dropped(Arc::clone(&dropped), start);
    let ran = lock.run(async move {
        let _work = work;
        std::future::pending::<()>().await;
    });
    assert!(matches!(ran.await, Err(Error::Lost(Loss::Deadline))));
    let after = dropped.load(Ordering::SeqCst);
    assert!(
        (9_500..9_600).contains(&after),
        "dropped after {after} ms, 200 ms before the deadline"
    );
    assert!(lock.is_held(), "and so before the belief ended");
    assert_eq!(
        lock.run(async { 5 }).await.ok(),
        None,
        "nothing new begins so late"
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_did_not_come_is_done_when_there_is_nothing_to_release() {
    let check = async |first_breaks: bool, lost: Option<Loss>| {
        let tries = AtomicUsize::new(usize::from(!first_breaks));
        let (_, _, client) = but(move |got| {
            got.call
                .starts_with("DELETE /v1/locks")
                .then(|| match nth(&tries) {
                    0 => Does::Breaks,
                    _ => problem(404, "not-held", "not_applied", "never"),
                })
        });
        let lease = granted(&client).await;
        let told = locked(&client, &lease).await.release().await;
        match (told, lost) {
            (Ok(()), None) => {}
            (Err(Error::Lost(told)), Some(lost)) => assert_eq!(told, lost),
            (told, _) => panic!("{told:?}"),
        }
    };
    check(true, None).await;
    check(false, Some(Loss::Broken)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_with_a_lease_of_its_own_is_released_by_one_request_also_when_dropped() {
    let (members, _, client) = but(|_| None);
    let lock = client.lock("a").acquire().await.expect("it is acquired");
    lock.release().await.expect("it is released");
    drop(client.lock("a").acquire().await.expect("it is acquired"));
    sleep(Duration::from_millis(10)).await;
    let got = members.got();
    let ends: Vec<_> = got
        .iter()
        .map(|got| got.call.as_str())
        .filter(|call| call.starts_with("DELETE"))
        .collect();
    assert_eq!(ends, ["DELETE /v1/leases/l0", "DELETE /v1/leases/l1"]);
}

#[tokio::test(start_paused = true)]
async fn two_tasks_on_one_lease_and_owner_are_never_both_told_that_they_hold() {
    let (_, _, client) = but(|_| None);
    let lease = granted(&client).await;
    let first = locked(&client, &lease).await;
    let second = client.lock("a").on(&lease).acquire().await;
    assert_eq!(
        second.expect_err("it is held").code(),
        Some(Code::AlreadyHeld)
    );
    first.release().await.expect("it is released");
    drop(locked(&client, &lease).await);
}

#[tokio::test(start_paused = true)]
async fn a_hold_whose_release_may_still_be_on_its_way_is_not_taken_over() {
    let (_, _, client) = but(|got| {
        got.call
            .starts_with("DELETE /v1/locks")
            .then_some(Does::Breaks)
    });
    let lease = granted(&client).await;
    let told = locked(&client, &lease).await.release().await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    let again = client.lock("a").on(&lease).acquire().await;
    assert_eq!(
        again.expect_err("it is in doubt").code(),
        Some(Code::AlreadyHeld)
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_goes_on_through_polls_and_a_cluster_that_is_away_and_keeps_its_place() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| {
        (got.call == ACQUIRE).then(|| match nth(&tries) {
            0 => Does::Answers(202, queued()),
            1 | 4 => Does::Late(Duration::from_secs(3), 202, queued()),
            2 => Does::Breaks,
            3 => problem(503, "no-leader", "not_applied", "after"),
            _ => held(7),
        })
    });
    let lock = client
        .lock("a")
        .ttl(TTL)
        .wait(Duration::from_secs(60))
        .acquire()
        .await;
    assert_eq!(lock.expect("it is acquired").fence(), 7);
    let got = members.got();
    let bodies: Vec<_> = got
        .iter()
        .filter(|got| got.call == ACQUIRE)
        .map(|got| &got.body)
        .collect();
    assert_eq!(bodies.len(), 6);
    assert_eq!(
        (&bodies[0]["ttl_ms"], &bodies[0]["poll_ms"]),
        (&json!(10_000), &json!(0)),
        "the lease is granted by an asking that is answered at once"
    );
    assert!(bodies[1..].iter().all(|body| *body == bodies[1]));
    let said = ["lease", "wait_ms", "poll_ms"].map(|field| &bodies[1][field]);
    assert_eq!(said, [&json!("l0"), &json!(60_000), &json!(3_333)]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_leaves_the_queue_and_releases_what_it_was_never_told_of() {
    let (members, _, client) = but(|got| match got.call.as_str() {
        ACQUIRE => Some(Does::Hangs),
        "DELETE /v1/locks/a?lease=l0&owner=" => {
            Some(problem(412, "fence-stale", "not_applied", "never"))
        }
        "GET /v1/locks/a" => Some(Does::Answers(200, shown("a", &[("l0", 7)], 1))),
        _ => None,
    });
    let lease = granted(&client).await;
    let waiting = client.lock("a").on(&lease).wait(TTL).acquire();
    timeout(Duration::from_secs(1), waiting)
        .await
        .expect_err("it waits");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(
        members.count("DELETE /v1/locks/a?lease=l0&owner=&fence=7"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_while_waiting_ends_the_wait() {
    let (_, _, client) = but(|got| match got.call.as_str() {
        ACQUIRE if got.body["lease"].is_null() => Some(Does::Answers(202, queued())),
        RENEW | ACQUIRE => Some(Does::Hangs),
        _ => None,
    });
    let start = Instant::now();
    let told = client.lock("a").ttl(TTL).wait(TTL * 100).acquire().await;
    assert!(matches!(told, Err(Error::Lost(Loss::Deadline))), "{told:?}");
    assert!(start.elapsed() <= BELIEVED + Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_proclaim_is_refused_knows_that_it_does_not_lead() {
    let (members, _, client) = but(|got| match got.call.as_str() {
        "POST /v1/elections/e" => {
            let said = json!({"election": "e", "state": "leader", "candidate": "me", "fence": 7, "value": "",
                "remaining_ms": 10_000, "lease": "l0", "revision": 7});
            Some(Does::Answers(200, said))
        }
        "PUT /v1/elections/e" => Some(problem(412, "fence-stale", "not_applied", "never")),
        _ => None,
    });
    let campaign = client.campaign("e", "me").ttl(TTL);
    let leadership = campaign.lead().await.expect("it leads");
    assert_eq!(leadership.fence(), 7);
    let told = leadership.proclaim("x").await;
    assert!(matches!(told, Err(Error::Lost(Loss::Broken))), "{told:?}");
    assert_eq!(leadership.state(), State::Lost(Loss::Broken));
    let write = client.put("k", "v").guard(&leadership).await;
    assert!(matches!(write, Err(Error::Lost(Loss::Broken))), "{write:?}");
    assert_eq!(members.count("PUT /v1/keys/k"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_lease_the_cluster_has_ended_is_told_that_it_lost() {
    let (_, _, client) = but(|got| {
        (got.call == ACQUIRE).then(|| problem(410, "lease-expired", "not_applied", "never"))
    });
    let lease = granted(&client).await;
    let told = client.lock("a").on(&lease).wait(TTL).acquire().await;
    assert!(
        matches!(told, Err(Error::Lost(Loss::LeaseEnded))),
        "{told:?}"
    );
    assert_eq!(lease.state(), State::Lost(Loss::LeaseEnded));
}

fn put_event(revision: u64, key: &str) -> Value {
    json!({"revision": revision, "type": "put", "resource": format!("keys/{key}"), "key": key, "value": "v",
        "encoding": "utf-8", "content_type": null, "create_revision": revision, "mod_revision": revision, "version": 1,
        "lease": null})
}

#[tokio::test(start_paused = true)]
async fn a_watch_survives_members_and_tells_each_revision_once_and_a_compaction_as_the_state() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |_| {
        let more = json!({"events": [put_event(12, "a"), put_event(12, "b"), put_event(13, "a")], "revision": 20, "more": false});
        Some(match nth(&tries) {
            0 => Does::Answers(
                200,
                json!({"snapshot": [], "events": [], "revision": 11, "more": false}),
            ),
            1 => Does::Breaks,
            2 => problem(503, "no-leader", "not_applied", "after"),
            3 => Does::Answers(200, more),
            4 => problem(410, "compacted", "not_applied", "never"),
            5 => Does::Answers(
                200,
                json!({"snapshot": [{"resource": "keys/a", "state": {}}], "events": [], "revision": 40, "more": false}),
            ),
            6 => Does::Hangs,
            _ => problem(403, "forbidden", "not_applied", "never"),
        })
    });
    let mut watch = client.watch("keys/").begin();
    let mut told = Vec::new();
    while let Some(next) = watch.next().await {
        match next {
            Ok(Told::Resync { state, revision }) => {
                told.push(format!("{} at {revision}", state.len()))
            }
            Ok(Told::Changes { events, revision }) => {
                told.push(format!("+{} at {revision}", events.len()))
            }
            Err(error) => told.push(format!("{:?}", error.code())),
        }
    }
    assert_eq!(
        told,
        [
            "0 at 11",
            "+2 at 12",
            "+1 at 13",
            "1 at 40",
            "Some(Forbidden)"
        ]
    );
    let got = members.got();
    let after: Vec<_> = got.iter().map(|got| got.body["after"].as_u64()).collect();
    assert_eq!(
        after,
        [
            None,
            Some(11),
            Some(11),
            Some(11),
            Some(20),
            None,
            Some(40),
            Some(40)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_future_is_dropped_again_and_again_loses_nothing() {
    let (members, _, client) = but(|got| {
        let after = got.body["after"].as_u64()?;
        let next =
            json!({"events": [put_event(after + 1, "a")], "revision": after + 1, "more": false});
        Some(Does::Late(Duration::from_millis(900), 200, next))
    });
    let mut watch = client.watch("keys/").after(100).begin();
    let mut told = Vec::new();
    while told.len() < 3 {
        if let Ok(next) = timeout(Duration::from_millis(200), watch.next()).await {
            match next {
                Some(Ok(Told::Changes { revision, .. })) => told.push(revision),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(told, [101, 102, 103]);
    assert_eq!(members.got().len(), 3, "no question was asked twice");
}
