//! The Rust client's calls against real clusters: transactions, lists, who holds what, several locks, elections.

use std::time::Duration;

use tenure::api::{Code, Mode};
use tenure::txn::{Did, Done};
use tenure::txn::{all_held, delete, delete_prefix, get, held, key, lives, put};
use tenure::{Error, Loss, State};

use crate::common::Setup;
use crate::sdk::{LONG_TTL, client, client_of, runtime, soon};

/// Looks again and again whether something holds; `soon` bounds it.
async fn until(holds: impl AsyncFn() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_transaction_does_one_branch_or_the_other_by_every_kind_of_condition() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let lease = soon(client.lease(LONG_TTL).grant())
            .await
            .expect("it is granted");
        let lock = soon(client.lock("l").ttl(LONG_TTL).acquire())
            .await
            .expect("it is acquired");
        let made = client
            .txn()
            .when(key("a").is_absent())
            .when(held(&lock))
            .when(lives(&lease))
            .then(put("a", "1").content_type("text/plain"))
            .then(put("b", &b"\xff\x00"[..]).lease(&lease))
            .then(get("a"));
        let made = soon(made.into_future()).await.expect("it is applied");
        assert!(made.succeeded);
        let [
            Did::Put { created: true, .. },
            Did::Put { .. },
            Did::Got(Some(got)),
        ] = made.results.as_slice()
        else {
            panic!("{made:?}");
        };
        assert_eq!(
            (&got.value[..], got.content_type.as_deref()),
            (&b"1"[..], Some("text/plain"))
        );
        let revision = made.revision;

        let holds = async |condition: tenure::txn::When| {
            let done = client.txn().when(condition).then(get("a")).into_future();
            soon(done).await.expect("it is applied").succeeded
        };
        assert!(holds(key("a").value().eq("1")).await);
        assert!(holds(key("b").value().gt("1")).await);
        assert!(!holds(key("b").value().eq("1")).await);
        assert!(holds(key("a").version().lt(2)).await);
        assert!(holds(key("a").create_revision().eq(revision)).await);
        assert!(!holds(key("a").mod_revision().ne(revision)).await);
        assert!(holds(key("b").lease().eq(lease.id())).await);
        assert!(holds(key("a").lease().eq(None)).await);
        assert!(!holds(tenure::txn::lock("l", lock.fence() + 1)).await);

        let Done {
            succeeded, results, ..
        } = soon(
            client
                .txn()
                .when(key("a").is_absent())
                .then(put("a", "2"))
                .otherwise(delete("a"))
                .otherwise(delete_prefix("b"))
                .otherwise(get("a"))
                .guard(&lock)
                .into_future(),
        )
        .await
        .expect("it is applied");
        assert!(!succeeded);
        assert_eq!(
            results,
            [
                Did::Delete { deleted: 1 },
                Did::Delete { deleted: 1 },
                Did::Got(None)
            ]
        );
    });
}

#[test]
fn a_transaction_that_is_repeated_under_its_key_is_told_what_was_decided_first() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let once = async || {
            let txn = client
                .txn()
                .when(key("a").is_absent())
                .then(put("a", "1"))
                .then(get("a"));
            soon(txn.idempotency_key("import-7").into_future())
                .await
                .expect("it is applied")
        };
        let (first, again) = (once().await, once().await);
        assert!(first.succeeded && again.succeeded);
        assert_eq!(first.results[0], again.results[0]);
        assert_eq!(again.results[1], Did::NotKept { key: "a".into() });
        let other = client.put("a", "2").idempotency_key("import-7");
        let refused = soon(other.into_future())
            .await
            .expect_err("it is another request");
        assert_eq!(refused.code(), Some(Code::IdempotencyMismatch));
        let wrong = client.put("a", "2").idempotency_key("a\nb");
        let refused = soon(wrong.into_future()).await.expect_err("it is none");
        assert!(refused.to_string().contains("\"a\\nb\""), "{refused}");
    });
}

#[test]
fn keys_are_listed_by_range_order_and_page_as_of_one_revision_and_deleted_by_prefix() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let many = (0..1_500).map(|number| put(format!("k/{number:04}"), "v"));
        let many: Vec<_> = many.collect();
        for some in many.chunks(100) {
            let txn = client.txn().then_all(some.to_vec());
            soon(txn.into_future()).await.expect("it is applied");
        }
        let all = soon(client.list("k/").into_future())
            .await
            .expect("they are listed");
        assert_eq!((all.keys.len(), all.count, all.more), (1_500, 1_500, false));
        let last = client
            .range("k/1000", "k/1200")
            .descending()
            .limit(3)
            .keys_only();
        let last = soon(last.into_future()).await.expect("they are listed");
        let names: Vec<_> = last.keys.iter().map(|key| key.key.as_str()).collect();
        assert_eq!(names, ["k/1199", "k/1198", "k/1197"]);
        assert_eq!((last.count, last.more), (200, true));
        assert!(last.keys.iter().all(|key| key.value.is_empty()));
        let behind = client.list("k/").start_after("k/1497");
        let behind = soon(behind.into_future()).await.expect("they are listed");
        assert_eq!(behind.keys.len(), 2);

        let deleted = soon(client.delete_prefix("k/1").into_future()).await;
        assert_eq!(deleted.expect("they are deleted"), 500);
        let before = client.list("k/1").at(all.revision);
        let before = soon(before.into_future()).await.expect("they are listed");
        assert_eq!(before.keys.len(), 500, "as they were");
        let old = soon(client.get_at("k/1000", all.revision)).await;
        assert!(old.expect("it is read").is_some());
        let none = soon(client.delete_prefix("").into_future()).await;
        assert_eq!(
            none.expect_err("it says too little").code(),
            Some(Code::InvalidRequest)
        );
        let deleted = soon(client.delete_all().into_future()).await;
        assert_eq!(deleted.expect("they are deleted"), 1_000);
    });
}

#[test]
fn who_holds_and_who_waits_is_shown_and_an_operator_ends_a_hold() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let lease = soon(client.lease(LONG_TTL).name("worker-7").grant()).await;
        let lease = lease.expect("it is granted");
        let lock = client.lock("jobs/a").on(&lease).metadata("host", "h1");
        let lock = soon(lock.acquire()).await.expect("it is acquired");
        let permits = client.semaphore("s", 3).on(&lease).permits(2);
        let permits = soon(permits.acquire()).await.expect("they are acquired");
        let shown = soon(client.inspect_lock("jobs/a"))
            .await
            .expect("it is read");
        let holder = &shown.holders[0];
        assert_eq!(
            (holder.lease_name.as_str(), holder.fence),
            ("worker-7", lock.fence())
        );
        assert_eq!(holder.metadata["host"], "h1");
        let shown = soon(client.inspect_semaphore("s"))
            .await
            .expect("it is read");
        assert_eq!((shown.permits_held, shown.limit), (2, Some(3)));
        let shown = soon(client.inspect_lease(lease.id()))
            .await
            .expect("it is read");
        assert_eq!(shown.attached_count, 2);
        let locks = soon(client.locks("jobs/").into_future())
            .await
            .expect("they are listed");
        assert_eq!((locks.all.len(), locks.count, locks.next), (1, 1, None));
        let leases = soon(client.leases().limit(1).into_future())
            .await
            .expect("they are listed");
        assert_eq!(leases.all.len(), 1);
        assert!(
            soon(client.elections("").into_future())
                .await
                .expect("they are listed")
                .all
                .is_empty()
        );
        assert_eq!(
            soon(client.semaphores("").into_future())
                .await
                .expect("they are listed")
                .count,
            1
        );

        let stale = client
            .break_lock("jobs/a", lock.fence() + 1, "test")
            .into_future();
        assert_eq!(
            soon(stale).await.expect_err("it is another").code(),
            Some(Code::FenceStale)
        );
        let broken = client
            .break_lock("jobs/a", lock.fence(), "test")
            .holder(lease.id(), "");
        let broken = soon(broken.into_future()).await.expect("it is broken");
        assert_eq!(broken.broken.len(), 1);
        assert!(
            broken.delay_remaining_ms.is_some(),
            "its holder may still believe"
        );
        assert_eq!(soon(lock.lost()).await, Loss::Broken);
        assert_eq!(
            permits.state(),
            State::Held,
            "what else is on the lease lives on"
        );
        let broken = client.break_semaphore("s", permits.fence(), "test").now();
        let broken = soon(broken.into_future()).await.expect("it is broken");
        assert_eq!(broken.delay_remaining_ms, None);
        soon(client.revoke_lease(lease.id()))
            .await
            .expect("it ends");
        assert_eq!(soon(lease.lost()).await, Loss::LeaseEnded);
    });
}

#[test]
fn a_list_goes_on_over_pages() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let lease = soon(client.lease(LONG_TTL).grant())
            .await
            .expect("it is granted");
        let mut locks = Vec::new();
        for round in 0..5 {
            let names = (0..60).map(|number| format!("l/{:04}", round * 60 + number));
            let together = client.locks_together(names).on(&lease).acquire();
            locks.push(soon(together).await.expect("they are acquired"));
        }
        // A member puts 256 rows on a page at the most.
        let all = soon(client.locks("l/").into_future())
            .await
            .expect("they are listed");
        let names: std::collections::BTreeSet<_> = all.all.iter().map(|lock| &lock.lock).collect();
        assert_eq!((all.all.len(), names.len(), all.count), (300, 300, 300));
        let some = soon(
            client
                .locks("l/")
                .limit(7)
                .start_after("l/0009")
                .into_future(),
        )
        .await;
        let some = some.expect("they are listed");
        let names: Vec<_> = some.all.iter().map(|lock| lock.lock.as_str()).collect();
        assert_eq!((names.len(), names[0], names[6]), (7, "l/0010", "l/0016"));
        assert_eq!(some.next.as_deref(), Some("l/0016"));

        // What hangs on the lease is more than it shows, and other things on it change: every hold is believed on.
        soon(client.put("k", "v").lease(&lease).into_future())
            .await
            .expect("it is put");
        let deadline = std::time::Instant::now() + locks[4].remaining();
        let is_believed_on = async || {
            deadline + Duration::from_secs(4) <= std::time::Instant::now() + locks[4].remaining()
        };
        soon(until(is_believed_on)).await;
        assert!(locks.iter().all(|locks| locks.state() == State::Held));
    });
}

#[test]
fn a_ttl_that_is_not_granted_is_refused_with_what_would_be() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        for (ttl, shown) in [
            (Duration::from_millis(900), "900"),
            (Duration::from_secs(90_000), "90000000"),
        ] {
            let lease = soon(client.lease(ttl).grant()).await.map(drop);
            let lock = soon(client.lock("a").ttl(ttl).acquire()).await.map(drop);
            for refused in [lease, lock] {
                let refused = refused.expect_err("it is not granted");
                assert_eq!(refused.code(), Some(Code::TtlOutOfRange));
                let text = refused.to_string();
                assert!(
                    text.contains(shown) && text.contains("1000") && text.contains("86400000"),
                    "{text}"
                );
            }
        }
        let lease = soon(client.lease(Duration::from_secs(1)).grant()).await;
        assert_eq!(lease.expect("it is granted").ttl(), Duration::from_secs(1));
    });
}

#[test]
fn several_locks_are_had_all_or_none_and_released_one_by_one() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let b = soon(client.lock("b").ttl(LONG_TTL).acquire())
            .await
            .expect("it is acquired");
        let both = || {
            client
                .locks_together(["b", "a"])
                .and("c", Mode::Shared)
                .ttl(LONG_TTL)
        };
        let refused = soon(both().acquire()).await.expect_err("one is held");
        assert_eq!(refused.code(), Some(Code::LockHeld));
        let a = soon(client.inspect_lock("a")).await.expect("it is read");
        assert_eq!(a.holder_count, 0, "none was taken");

        let waiting = tokio::spawn(both().wait(Duration::from_secs(60)).acquire());
        let queued = async {
            let lock = async || soon(client.inspect_lock("b")).await.expect("it is read");
            until(async || lock().await.queue_length > 0).await;
        };
        soon(queued).await;
        soon(b.release()).await.expect("it is held");
        let locks = soon(waiting)
            .await
            .expect("it runs")
            .expect("they are acquired");
        let parts: Vec<_> = locks
            .parts()
            .map(|part| (part.name().to_owned(), part.mode()))
            .collect();
        let expected = [
            ("a", Mode::Exclusive),
            ("b", Mode::Exclusive),
            ("c", Mode::Shared),
        ];
        assert_eq!(parts, expected.map(|(name, mode)| (name.to_owned(), mode)));
        let a = locks.part("a").expect("it is held");
        soon(client.put("k", "1").guard(&a).into_future())
            .await
            .expect("the fence is held");
        let txn = client
            .txn()
            .when_all(all_held(&locks))
            .then(put("k", "2"))
            .into_future();
        assert!(soon(txn).await.expect("it is applied").succeeded);

        soon(locks.release_one("a")).await.expect("it is released");
        let a = soon(client.lock("a").ttl(LONG_TTL).acquire()).await;
        let a = a.expect("it is free");
        let refused = soon(client.lock("b").acquire()).await;
        assert_eq!(
            refused.expect_err("it is held").code(),
            Some(Code::LockHeld)
        );
        soon(locks.release()).await.expect("they are held");
        for name in ["b", "c"] {
            let lock = soon(client.lock(name).acquire()).await.expect("it is free");
            drop(lock);
        }
        drop(a);
    });
}

/// What an observer is told next, by candidate and value.
async fn next(seats: &mut tenure::Observe) -> Option<(String, String)> {
    let seat = soon(seats.next()).await.expect("it goes on");
    let leader = seat.expect("nothing fails").leader;
    leader.map(|leader| (leader.candidate, leader.value))
}

#[test]
fn an_observer_is_told_every_leader_and_every_vacancy_also_over_a_compaction() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let led = |who: &str, value: &str| Some((who.to_owned(), value.to_owned()));
        let mut seats = client.observe("e");
        assert_eq!(next(&mut seats).await, None, "a vacancy is told");
        let campaign = |name: &str| client.campaign("e", name).ttl(LONG_TTL).value(name).lead();
        let a = soon(campaign("a")).await.expect("it leads");
        assert_eq!(next(&mut seats).await, led("a", "a"));
        soon(a.proclaim("at work")).await.expect("it leads");
        assert_eq!(next(&mut seats).await, led("a", "at work"));

        let b = tokio::spawn(campaign("b"));
        let waits = async {
            let election = async || soon(client.election("e")).await.expect("it is read");
            until(async || election().await.candidate_count > 0).await;
        };
        soon(waits).await;
        let refused = soon(a.hand_over("nobody"))
            .await
            .expect_err("nobody of that name waits");
        assert_eq!(refused.error.code(), Some(Code::NotHeld));
        let a = refused.leadership.expect("it leads on");
        let fence = a.fence();
        let passed = soon(a.hand_over("b")).await.expect("it waits");
        assert_eq!(passed.leader.candidate, "b");
        let b = soon(b).await.expect("it runs").expect("it leads");
        assert!(b.fence() > fence);
        assert_eq!(
            next(&mut seats).await,
            led("b", "b"),
            "with no vacancy in between"
        );
        soon(b.resign()).await.expect("it leads");
        assert_eq!(next(&mut seats).await, None);

        let c = soon(campaign("c")).await.expect("it leads");
        let revision = soon(client.election("e"))
            .await
            .expect("it is read")
            .revision;
        soon(client.compact(revision))
            .await
            .expect("it is compacted");
        assert_eq!(next(&mut seats).await, led("c", "c"));
        drop(c);
    });
}

#[test]
fn a_candidacy_is_withdrawn_and_a_place_is_left_when_that_is_told() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let leader = soon(client.campaign("e", "a").ttl(LONG_TTL).lead()).await;
        let _leader = leader.expect("it leads");
        let waits = async |count: u64| {
            let election = async || soon(client.election("e")).await.expect("it is read");
            until(async || election().await.candidate_count == count).await;
        };
        let second = client.campaign("e", "b").ttl(LONG_TTL);
        let told = soon(second.acquire_unless(waits(1))).await;
        assert!(told.expect("it is withdrawn").is_none());
        let shown = soon(client.election("e")).await.expect("it is read");
        assert_eq!(shown.candidate_count, 0, "by the time that this is told");
        let leases = soon(client.leases().into_future())
            .await
            .expect("they are listed");
        assert_eq!(leases.count, 1, "its lease has ended");
    });
}

#[test]
fn a_hold_is_taken_up_again_by_its_lease_after_a_restart() {
    let cluster = Setup::of(1).start();
    let before = client(&cluster);
    let after = client(&cluster);
    runtime().block_on(async {
        let lease = soon(before.lease(LONG_TTL).grant())
            .await
            .expect("it is granted");
        let lock = soon(before.lock("a").on(&lease).acquire())
            .await
            .expect("it is acquired");
        let fence = lock.fence();
        // What a process that dies does: it neither releases nor revokes.
        std::mem::forget(lock);
        let id = lease.detach();
        let lease = soon(after.resume_lease(&id)).await.expect("it lives");
        let lock = soon(after.lock("a").on(&lease).acquire())
            .await
            .expect("it is held");
        assert_eq!(lock.fence(), fence);
        let unknown = soon(after.resume_lease("00000000000000ff")).await;
        assert!(
            matches!(unknown, Err(Error::Lost(Loss::LeaseEnded))),
            "{unknown:?}"
        );
    });
}

#[test]
fn the_cluster_and_each_member_are_shown() {
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let (all, client) = (client(&cluster), client_of(&cluster, cluster.follower()));
    runtime().block_on(async {
        let shown = soon(client.cluster()).await.expect("it is read");
        assert_eq!(shown.members.len(), 3);
        let local = soon(client.local_cluster()).await.expect("it is read");
        assert_eq!(local.cluster, shown.cluster);
        let url = format!("http://{}", cluster.members[leader].client);
        let status = soon(all.status_of(&url)).await.expect("it answers");
        assert_eq!(Some(status.member), shown.leader);
        // This one was told to ask no others than the one that it was given.
        let refused = soon(client.status_of(&url)).await;
        let refused = refused.expect_err("it is not asked").to_string();
        assert!(
            refused.contains("only the URLs that were given"),
            "{refused}"
        );
        let wrong = soon(client.status_of("127.0.0.1"))
            .await
            .expect_err("it is none");
        assert!(wrong.to_string().contains("127.0.0.1"), "{wrong}");
        let limits = soon(client.limits()).await.expect("they are read").limits;
        let change = tenure::api::ChangeLimits {
            watchers: Some(limits.watchers + 1),
            ..Default::default()
        };
        let changed = soon(client.change_limits(&change))
            .await
            .expect("they are changed");
        assert_eq!(changed.limits.watchers, limits.watchers + 1);
        assert_eq!(client.urls().len(), 1);
    });
}

#[test]
fn a_mirror_lives_through_a_cluster_that_is_away_and_a_state_too_large_for_one_answer() {
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    let runtime = runtime();
    let mirror = runtime.block_on(async {
        let large = format!("\"{}\"", "x".repeat(1 << 20).split_off(2));
        for number in 0..9 {
            let put = client
                .put(format!("m/large/{number}"), large.clone())
                .into_future();
            soon(put).await.expect("it is put");
        }
        soon(client.put("m/rate", "10").into_future())
            .await
            .expect("it is put");
        let mirror = client
            .mirror::<String>("m/")
            .decode_with(|_, value| Ok::<_, String>(value.len()));
        mirror.begin()
    });
    let view = runtime
        .block_on(soon(mirror.ready()))
        .expect("there is a view");
    assert_eq!((view.values.len(), *view.values["large/8"]), (10, 1 << 20));
    cluster.kill_all();
    crate::common::wait::until(
        "it is told for how long that is",
        crate::common::SOON,
        || (mirror.staleness()? > Duration::from_secs(2)).then_some(()),
    );
    assert_eq!(
        mirror.get("rate").as_deref(),
        Some(&2),
        "what was seen stays"
    );
    cluster.members[0].start();
    cluster.wait_until_ready();
    let put = runtime.block_on(soon(client.put("m/rate", "100").into_future()));
    put.expect("it is put");
    crate::common::wait::until("the change is mirrored", crate::common::SOON, || {
        (*mirror.get("rate")? == 3).then_some(())
    });
}

#[test]
fn a_program_without_a_runtime_holds_on_while_it_does_something_else_and_gives_up_what_it_drops() {
    let cluster = Setup::of(1).start();
    let async_client = client(&cluster);
    let client = tenure::blocking::Client::over(async_client.clone()).expect("there is a thread");
    let held = client.wait(client.lock("a").ttl(Duration::from_secs(2)).acquire());
    let held = held.expect("it is acquired");
    client
        .wait(client.put("k", "v").guard(&held))
        .expect("the fence is held");
    let renewed = std::time::Instant::now() + held.remaining() + Duration::from_secs(1);
    crate::common::wait::until(
        "it is renewed while nobody waits",
        crate::common::SOON,
        || (std::time::Instant::now() + held.remaining() > renewed).then_some(()),
    );
    drop(held);
    let other = runtime();
    crate::common::wait::until(
        "what was dropped is given back",
        crate::common::SOON,
        || {
            let lock = other.block_on(soon(async_client.inspect_lock("a"))).ok()?;
            (lock.holder_count == 0).then_some(())
        },
    );
    let mirror = client.wait(async { client.mirror_key::<String>("k").decode_with(text).begin() });
    let view = client.wait(mirror.ready()).expect("there is a view");
    assert_eq!(view.values[""].as_str(), "v");
    client.wait(client.put("k", "w")).expect("it is put");
    crate::common::wait::until("the change is mirrored", crate::common::SOON, || {
        (mirror.value()?.as_str() == "w").then_some(())
    });
}

fn text(_: &str, value: &[u8]) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|error| error.to_string())
}
