//! What nobody has in hand: places and holds of askings that came late, leases that are gone on with, parts whose release
//! was not answered.

use std::sync::atomic::AtomicBool;

use super::*;

const LEAVE: &str = "DELETE /v1/locks/a?lease=l0&owner=";
const LEASE: &str = "GET /v1/leases/l0";

fn left() -> Does {
    Does::Answers(200, json!({"lock": "a", "left": true, "revision": 50}))
}

fn refused(status: u16, code: &str) -> Does {
    problem(status, code, "not_applied", "never")
}

/// The lock `a` as it is shown with a place of this lease, or with fewer places than there are.
fn waited_for(lease: Option<&str>, count: u64) -> Value {
    let mut lock = shown("a", &[("l9", 3)], 1);
    let place = |lease| {
        json!({"position": 1, "owner": "", "lease": lease, "lease_name": "", "metadata": {}, "mode": "exclusive",
            "priority": 0, "queued_revision": 9, "wait_remaining_ms": 100})
    };
    lock["queue"] = lease.into_iter().map(place).collect();
    lock["queue_length"] = json!(count);
    lock
}

#[tokio::test(start_paused = true)]
async fn a_place_that_an_asking_took_while_it_was_being_left_is_left_too() {
    let check = async |shows: fn() -> Value, leaves: usize| {
        let tries = AtomicUsize::new(0);
        let (members, _, client) = but(move |got| match got.call.as_str() {
            ACQUIRE => Some(Does::Hangs),
            LEAVE => Some(match nth(&tries) {
                0 => refused(404, "not-held"),
                _ => left(),
            }),
            "GET /v1/locks/a" => Some(Does::Answers(200, shows())),
            _ => None,
        });
        let lease = granted(&client).await;
        let waiting = client.lock("a").on(&lease).wait(TTL);
        let told = waiting.acquire_unless(sleep(Duration::from_secs(1))).await;
        assert!(told.expect("it has left").is_none());
        assert_eq!(members.count(LEAVE), leaves);
        let again = client.lock("a").on(&lease).acquire_unless(async {}).await;
        assert!(again.expect("it is not claimed").is_none());
    };
    check(|| waited_for(Some("l0"), 1), 2).await;
    check(|| waited_for(Some("l8"), 1), 1).await;
    // It may be among those that are not shown.
    check(|| waited_for(Some("l8"), 101), 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_is_left_and_in_doubt_where_its_waiter_is_refused_in_a_way_that_says_nothing_of_it()
{
    let check = async |queued_before: bool, refusal: fn() -> Does, leaves: usize| {
        let tries = AtomicUsize::new(usize::from(!queued_before));
        let (members, _, client) = but(move |got| match got.call.as_str() {
            ACQUIRE => Some(match nth(&tries) {
                0 => Does::Answers(202, queued()),
                _ => refusal(),
            }),
            LEAVE => Some(left()),
            _ => None,
        });
        let lease = granted(&client).await;
        let waiting = client.lock("a").on(&lease).wait(TTL * 2).acquire();
        let told = waiting.await.expect_err("it is refused");
        let in_doubt = matches!(told, Error::Unknown(_));
        assert_eq!(in_doubt, leaves > 0, "{told}");
        sleep(Duration::from_millis(10)).await;
        assert_eq!(members.count(LEAVE), leaves, "{told}");
        let again = client.lock("a").on(&lease).acquire().await;
        let again = again.expect_err("it is refused again, and not by this program");
        assert_eq!(again.code(), told.code());
    };
    check(true, || refused(403, "forbidden"), 1).await;
    check(true, || refused(409, "wait-expired"), 0).await;
    check(false, || refused(403, "forbidden"), 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_may_not_be_left_is_given_up_with_what_it_became_once_that_is_allowed() {
    let allowed = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&allowed);
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| match got.call.as_str() {
        ACQUIRE if nth(&tries) == 0 => Some(Does::Answers(202, queued())),
        LEAVE if may.load(Ordering::SeqCst) => Some(refused(412, "fence-stale")),
        // Who may not lock may not look, either: what it became is seen on the lease.
        ACQUIRE | LEAVE | "GET /v1/locks/a" => Some(refused(403, "forbidden")),
        RENEW => Some(Does::Answers(200, renewed(got, 20))),
        LEASE => {
            let hold = json!({"resource": "locks/a", "owner": "", "state": "held", "fence": 19});
            Some(Does::Answers(200, lease("l0", &json!([hold]), 20)))
        }
        _ => None,
    });
    let lease = granted(&client).await;
    let waiting = client.lock("a").on(&lease).wait(TTL * 10).acquire();
    let told = waiting.await.expect_err("it is refused");
    assert!(matches!(told, Error::Unknown(_)), "{told}");
    sleep(TTL).await;
    assert!(members.count(LEAVE) > 2, "it is tried on");
    allowed.store(true, Ordering::SeqCst);
    let by_fence = format!("{LEAVE}&fence=19");
    assert_eq!(members.count(&by_fence), 0);
    sleep(TTL).await;
    assert_eq!(members.count(&by_fence), 1, "{:?}", members.got());
    assert_eq!(lease.state(), State::Held);
    let tried = members.count(LEAVE);
    sleep(TTL * 3).await;
    assert_eq!(members.count(LEAVE), tried, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_hold_among_more_holders_than_are_shown_is_given_back_by_the_fence_that_its_lease_shows()
{
    let (members, _, client) = but(|got| match got.call.as_str() {
        ACQUIRE => Some(Does::Hangs),
        LEAVE => Some(refused(412, "fence-stale")),
        "GET /v1/locks/a" => Some(Does::Answers(200, shown("a", &[("l9", 3)], 101))),
        LEASE => {
            let hold = json!({"resource": "locks/a", "owner": "", "state": "held", "fence": 8});
            Some(Does::Answers(200, lease("l0", &json!([hold]), 8)))
        }
        _ => None,
    });
    let lease = granted(&client).await;
    let waiting = client.lock("a").on(&lease).wait(TTL);
    let told = waiting.acquire_unless(sleep(Duration::from_secs(1))).await;
    assert!(told.expect("it is given back").is_none());
    let by_fence = format!("{LEAVE}&fence=8");
    assert_eq!(members.count(&by_fence), 1);
}

/// Members by which an asking that was repeated is carried out once more after its hold was released: from the second
/// renewal on the lease has changed at revision 20.
fn with_a_stray(late: fn() -> Value) -> (Arc<Members>, Arc<TestClock>, Client) {
    let (tries, renewals, ended) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    but(move |got| match got.call.as_str() {
        ACQUIRE => Some(match nth(&tries) {
            0 => Does::Breaks,
            _ => held(7),
        }),
        RENEW => {
            let at = if nth(&renewals) == 0 { 9 } else { 20 };
            Some(Does::Answers(200, renewed(got, at)))
        }
        LEASE if ended.load(Ordering::SeqCst) == 0 => {
            let attached = if renewals.load(Ordering::SeqCst) < 2 {
                json!([])
            } else {
                late()
            };
            let at = if renewals.load(Ordering::SeqCst) < 2 {
                9
            } else {
                20
            };
            Some(Does::Answers(200, lease("l0", &attached, at)))
        }
        LEASE => Some(Does::Answers(200, lease("l0", &json!([]), 21))),
        "GET /v1/locks/a" => Some(Does::Answers(200, shown("a", &[("l0", 19)], 1))),
        LEAVE if late()[0]["state"] == "queued" => {
            nth(&ended);
            Some(left())
        }
        LEAVE => Some(refused(412, "fence-stale")),
        call if call.ends_with("fence=19") => {
            nth(&ended);
            None
        }
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_late_asking_takes_after_its_hold_was_released_is_found_and_given_up() {
    let check = async |late: fn() -> Value, ends: &str| {
        let (members, _, client) = with_a_stray(late);
        let lease = granted(&client).await;
        let lock = locked(&client, &lease).await;
        lock.release().await.expect("it is released");
        sleep(TTL * 3).await;
        assert_eq!(members.count(ends), 1, "{:?}", members.got());
        assert_eq!(lease.state(), State::Held);
        let again = locked(&client, &lease).await;
        drop(again);
    };
    let hold = || json!([{"resource": "locks/a", "owner": "", "state": "held", "fence": 19}]);
    check(hold, &format!("{LEAVE}&fence=19")).await;
    let place = || json!([{"resource": "locks/a", "owner": "", "state": "queued"}]);
    check(place, LEAVE).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_program_hangs_on_a_lease_is_no_stray_nor_is_what_is_in_hand() {
    let other = || json!([{"resource": "locks/a", "owner": "other", "state": "held", "fence": 19}]);
    let (members, _, client) = with_a_stray(other);
    let lease = granted(&client).await;
    let lock = locked(&client, &lease).await;
    lock.release().await.expect("it is released");
    sleep(TTL * 3).await;
    let ends = |got: &Got| got.call.starts_with("DELETE");
    let ends = members.got().iter().filter(|got| ends(got)).count();
    assert_eq!(ends, 1, "the release");

    let mine = || json!([{"resource": "locks/a", "owner": "", "state": "held", "fence": 7}]);
    let (members, _, client) = with_a_stray(mine);
    let lease = granted(&client).await;
    let _lock = locked(&client, &lease).await;
    sleep(TTL / 2).await;
    let ends = |got: &Got| got.call.starts_with("DELETE");
    assert!(!members.got().iter().any(ends), "{:?}", members.got());
}

#[tokio::test(start_paused = true)]
async fn a_hold_on_which_a_renewal_contradicts_is_believed_on_only_once_it_is_seen() {
    let nothing_ever = |got: &Got| {
        let mut body = renewed(got, 0);
        for result in body["results"].as_array_mut().expect("they are results") {
            result["attached_revision"] = Value::Null;
        }
        Does::Answers(200, body)
    };
    fn hold() -> Option<Value> {
        Some(json!([{"resource": "locks/a", "owner": "", "state": "held", "fence": 7}]))
    }
    let check = async |shows: fn() -> Option<Value>, expected: Option<Loss>, after: Duration| {
        let (_, _, client) = but(move |got| match got.call.as_str() {
            RENEW => Some(nothing_ever(got)),
            LEASE => Some(match shows() {
                Some(attached) => Does::Answers(200, lease("l0", &attached, 9)),
                None => Does::Hangs,
            }),
            _ => None,
        });
        let lease = granted(&client).await;
        let lock = locked(&client, &lease).await;
        let start = Instant::now();
        match expected {
            None => {
                sleep(TTL * 3).await;
                assert_eq!(lock.state(), State::Held);
            }
            Some(loss) => {
                assert_eq!(lost(&lock).await, loss);
                assert!(start.elapsed() <= after, "{:?}", start.elapsed());
            }
        }
        assert_eq!(lease.state(), State::Held);
    };
    let a_little = Duration::from_millis(5);
    check(hold, None, TTL).await;
    check(|| Some(json!([])), Some(Loss::Broken), TTL / 2).await;
    check(|| None, Some(Loss::Deadline), BELIEVED + a_little).await;
}

fn resumable(got: &Got) -> Option<Does> {
    match got.call.as_str() {
        "POST /v1/leases/l0/renew" => Some(Does::Answers(200, lease("l0", &json!(null), 9))),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_in_hand_is_not_gone_on_with_a_second_time() {
    let (members, _, client) = but(resumable);
    let first = granted(&client).await;
    let check = async |client: &Client| {
        let told = client.clone().resume_lease("l0").await;
        let refused = told.expect_err("it is in hand");
        assert_eq!(refused.code(), Some(Code::AlreadyHeld));
        assert!(refused.to_string().contains("\"l0\""), "{refused}");
    };
    check(&client).await;
    let id = first.detach();
    let (one, other) = tokio::join!(client.resume_lease(&id), client.resume_lease(&id));
    let (resumed, refused) = match (one, other) {
        (Ok(resumed), Err(refused)) | (Err(refused), Ok(resumed)) => (resumed, refused),
        both => panic!("{both:?}"),
    };
    assert_eq!(refused.code(), Some(Code::AlreadyHeld));
    check(&client).await;
    sleep(TTL * 3).await;
    assert_eq!(resumed.state(), State::Held);
    assert_eq!(members.count("DELETE /v1/leases/l0"), 0, "nothing ended it");
    resumed.revoke().await.expect("it is ended");
    assert_eq!(members.count("DELETE /v1/leases/l0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guard_on_a_lease_that_was_let_go_of_ends_nothing_of_who_goes_on_with_it() {
    let (members, _, client) = but(resumable);
    let lease = granted(&client).await;
    let (dropped, released) = (locked(&client, &lease).await, async || {
        let lock = client.lock("a").on(&lease).owner("b").acquire().await;
        lock.expect("it is acquired")
    });
    let released = released().await;
    let id = lease.detach();
    assert_eq!(dropped.state(), State::Lost(Loss::GivenUp));
    let told = released.release().await;
    assert!(matches!(told, Err(Error::Lost(Loss::GivenUp))), "{told:?}");
    let lease = client.resume_lease(&id).await.expect("it lives");
    let early = client.lock("a").on(&lease).acquire().await;
    assert_eq!(
        early.expect_err("its old guard is there").code(),
        Some(Code::AlreadyHeld)
    );
    drop(dropped);
    let again = locked(&client, &lease).await;
    sleep(TTL).await;
    assert_eq!(again.state(), State::Held);
    let ends = |got: &Got| got.call.starts_with("DELETE");
    assert!(!members.got().iter().any(ends), "{:?}", members.got());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_on_its_way_when_its_lease_was_let_go_of_is_in_doubt_for_who_goes_on() {
    let (_, _, client) = but(|got| match got.call.as_str() {
        call if call.starts_with("DELETE /v1/locks") => Some(Does::Breaks),
        _ => resumable(got),
    });
    let lease = granted(&client).await;
    let told = locked(&client, &lease).await.release().await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    let id = lease.detach();
    let lease = client.resume_lease(&id).await.expect("it lives");
    let again = client.lock("a").on(&lease).acquire().await;
    assert_eq!(
        again.expect_err("it is in doubt").code(),
        Some(Code::AlreadyHeld)
    );
}

#[tokio::test(start_paused = true)]
async fn of_locks_that_are_held_together_one_whose_release_was_not_answered_is_released_with_the_rest()
 {
    let tries = AtomicUsize::new(0);
    let a = "DELETE /v1/locks/a?lease=l0&owner=&fence=7";
    let (members, _, client) = but(move |got| match got.call.as_str() {
        "POST /v1/locks" => {
            let lock = |name: &str| json!({"lock": name, "mode": "exclusive", "fence": 7});
            let locks = json!({"state": "held", "owner": "", "lease": "l0", "locks": [lock("a"), lock("b")],
                "remaining_ms": 10_000, "acquired_revision": 7, "revision": 7});
            Some(Does::Answers(200, locks))
        }
        call if call == a && nth(&tries) == 0 => Some(Does::Hangs),
        _ => None,
    });
    let lease = granted(&client).await;
    let locks = client.locks_together(["a", "b"]).on(&lease).acquire().await;
    let locks = locks.expect("they are acquired");
    timeout(Duration::from_millis(100), locks.release_one("a"))
        .await
        .expect_err("no answer comes");
    assert!(
        locks.part("a").is_none(),
        "it is not believed in any longer"
    );
    locks.release().await.expect("they are released");
    assert_eq!(members.count(a), 2);
    assert_eq!(
        members.count("DELETE /v1/locks/b?lease=l0&owner=&fence=7"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_give_up_and_then_dropped_still_ends_the_lease_of_its_asking() {
    let tries = AtomicUsize::new(0);
    let (members, _, client) = but(move |got| match got.call.as_str() {
        ACQUIRE => (nth(&tries) < 2).then_some(Does::Hangs),
        _ => None,
    });
    let stop = sleep(Duration::from_secs(1));
    let asking = client.lock("a").ttl(TTL).acquire_unless(stop);
    timeout(Duration::from_millis(1_500), asking)
        .await
        .expect_err("it is dropped while it gives up");
    sleep(Duration::from_millis(10)).await;
    let got = members.got();
    let calls: Vec<_> = got.iter().map(|got| got.call.as_str()).collect();
    assert_eq!(calls, [ACQUIRE, ACQUIRE, ACQUIRE, "DELETE /v1/leases/l0"]);
}

/// Members whose leases live for a second of real time.
fn for_a_second() -> Client {
    let (_, _, client) = but(|got| {
        let second = |body: &mut Value| {
            for field in ["ttl_ms", "remaining_ms"] {
                body[field] = json!(1_000);
            }
        };
        match got.call.as_str() {
            GRANT => {
                let mut granted = lease("l0", &json!([]), 5);
                second(&mut granted);
                Some(Does::Answers(201, granted))
            }
            RENEW => {
                let mut body = renewed(got, 0);
                second(&mut body["results"][0]);
                Some(Does::Answers(200, body))
            }
            "PUT /v1/keys/k" => Some(Does::Answers(200, written())),
            _ => None,
        }
    });
    client
}

/// Whether the lease outlives its TTL while only the second runtime runs, on which the client is used before the first
/// ends or is not run any more; or if it is not used there at all.
fn outlives(ends: bool, is_used: bool) -> bool {
    let runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build();
        runtime.expect("there is one")
    };
    let (first, second) = (runtime(), runtime());
    let client = for_a_second();
    let lease = first.block_on(async { client.lease(Duration::from_secs(1)).grant().await });
    let lease = lease.expect("it is granted");
    if is_used {
        let put = second.block_on(async { client.put("k", "v").await });
        put.expect("it is put");
    }
    let first = (!ends).then_some(first);
    second.block_on(async { sleep(Duration::from_millis(2_500)).await });
    drop(first);
    !matches!(lease.state(), State::Lost(Loss::Deadline))
}

#[test]
fn a_lease_is_renewed_on_whatever_runtime_uses_its_client_when_the_first_ends_or_stands_still() {
    let cases = [(true, true), (false, true), (true, false)];
    let told = cases.map(|(ends, is_used)| std::thread::spawn(move || outlives(ends, is_used)));
    let told = told.map(|told| told.join().expect("it runs"));
    assert_eq!(told, [true, true, false]);
}
