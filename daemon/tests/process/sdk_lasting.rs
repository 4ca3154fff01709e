//! The Rust client against real clusters: what lasts through trouble, and what does not last beyond its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tenure::api::{Change, Event, ResignReason};
use tenure::{Client, Loss, State, Told};

use tokio::runtime::Builder;

use crate::common::machine;
use crate::common::{SOON, Setup, wait};
use crate::sdk::{LONG_TTL, client, client_of, runtime, soon, urls};

/// The shortest there is.
const TTL: Duration = Duration::from_secs(1);

#[test]
fn a_lock_is_acquired_with_the_least_ttl_though_a_member_froze() {
    const CLIENTS: usize = 9;
    let _shares = machine::half();
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let frozen = cluster.follower();
    cluster.members[frozen].pause();
    let all = urls(&cluster);
    for number in 0..CLIENTS {
        // Each begins at a member that is drawn by lot.
        let client = Client::connect(all.clone()).expect("they are URLs");
        let asked = client.lock(format!("l/{number}")).ttl(TTL).acquire();
        let (asked_at, lock) = (Instant::now(), runtime.block_on(soon(asked)));
        let took = asked_at.elapsed();
        let lock = lock.unwrap_or_else(|error| panic!("after {took:?}: {error}"));
        assert!(lock.is_held(), "it is believed in when it is answered");
        drop(lock);
    }
    cluster.members[frozen].resume();
}

#[test]
fn a_hold_is_renewed_while_history_is_compacted_and_everything_is_read() {
    const VALUES: usize = 50;
    let _shares = machine::half();
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let client = client(&cluster);
    let ttl = TTL * 3;
    let held = runtime.block_on(soon(client.lock("l").ttl(ttl).acquire()));
    let held = Arc::new(held.expect("it is acquired"));
    let end = Arc::new(AtomicBool::new(false));
    // The least that was ever left: a renewal is due when a third of the TTL has passed.
    let (watched, ended) = (Arc::clone(&held), Arc::clone(&end));
    let least = std::thread::spawn(move || {
        let mut least = watched.remaining();
        while !ended.load(Ordering::SeqCst) {
            least = least.min(watched.remaining());
            wait::pass(Duration::from_millis(2), || false);
        }
        least
    });
    let value = vec![b'x'; 64 << 10];
    let written = Arc::new(AtomicUsize::new(0));
    let (writer, ended, count) = (client.clone(), Arc::clone(&end), Arc::clone(&written));
    let writing = runtime.spawn(async move {
        while !ended.load(Ordering::SeqCst) {
            let key = format!("m/{}", count.load(Ordering::SeqCst) % VALUES);
            writer.put(key, value.clone()).await.expect("it is put");
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (begun, mut rounds) = (Instant::now(), 0);
    // So long that something is left to be compacted also on a busy machine.
    while begun.elapsed() < ttl * 3 || written.load(Ordering::SeqCst) < VALUES {
        let all = runtime.block_on(soon(client.list("m/").into_future()));
        let revision = all.expect("they are listed").revision;
        let compacted = runtime.block_on(soon(client.compact(revision)));
        compacted.expect("it is compacted");
        rounds += 1;
    }
    end.store(true, Ordering::SeqCst);
    runtime.block_on(soon(writing)).expect("it runs");
    let least = least.join().expect("it runs");
    eprintln!(
        "{} values written, {rounds} times everything read and compacted; of a TTL of {ttl:?} at least {least:?} was left",
        written.load(Ordering::SeqCst)
    );
    assert!(!least.is_zero() && held.is_held(), "it was never lost");
}

#[test]
fn a_lease_that_fell_due_while_nobody_could_end_it_ends_as_soon_as_somebody_can() {
    /// One more than the tries after which others give up.
    const TRIES: usize = 7;
    let _shares = machine::shared();
    let cluster = Setup::of(1).start();
    let runtime = runtime();
    let client = client(&cluster);
    runtime.block_on(async {
        let lease = soon(client.lease(TTL).grant()).await;
        let lease = lease.expect("it is granted");
        let put = soon(client.put("k", "v").lease(&lease).into_future()).await;
        put.expect("it is put");
        lease.detach();
    });
    cluster.kill_all();
    wait::pass(TTL, || false);
    for _ in 0..TRIES {
        cluster.members[0].start();
        cluster.members[0].kill();
    }
    cluster.members[0].start();
    cluster.wait_until_ready();
    wait::until("the lease ends with its key", SOON, || {
        let read = runtime.block_on(soon(client.get("k"))).ok()?;
        read.is_none().then_some(())
    });
}

/// Where each leader counted anew, it would never end: there is another one before its TTL has passed. What a change costs is
/// the time without a leader and at most half a second more, so each leads for longer than that.
#[test]
fn a_lease_that_nobody_renews_ends_though_leaders_change_all_the_while() {
    const TTL: Duration = Duration::from_secs(6);
    const LEADS_FOR: Duration = Duration::from_millis(1_200);
    const LEAST_CHANGES: usize = 2;
    let _shares = machine::shared();
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let client = client(&cluster);
    let granted = Instant::now();
    runtime.block_on(async {
        let lease = soon(client.lease(TTL).grant()).await;
        let lease = lease.expect("it is granted");
        let put = soon(client.put("k", "v").lease(&lease).into_future()).await;
        put.expect("it is put");
        lease.detach();
    });
    let has_ended = || {
        let read = runtime.block_on(soon(client.get("k")));
        read.expect("it is read").is_none()
    };
    let (mut changes, mut longest) = (0, Duration::ZERO);
    let mut led_since = granted;
    while wait::found(LEADS_FOR, || has_ended().then_some(())).is_none() {
        let leader = cluster.leader();
        cluster.members[leader].kill();
        cluster.new_leader(Some(leader));
        (changes, longest) = (changes + 1, longest.max(led_since.elapsed()));
        led_since = Instant::now();
        cluster.members[leader].start();
        cluster.wait_until_ready();
        let lives = granted.elapsed();
        assert!(
            lives < SOON * 2,
            "it lives on after {lives:?} and {changes} changes"
        );
    }
    let lived = granted.elapsed();
    println!("it ended after {lived:?} and {changes} changes of leader");
    longest = longest.max(led_since.elapsed());
    assert!(
        longest < TTL,
        "one has led for {longest:?}, in which it could end anyway"
    );
    assert!(
        lived >= TTL && changes >= LEAST_CHANGES,
        "{lived:?}, {changes}"
    );
}

#[test]
fn a_candidate_leads_at_the_revision_at_which_the_leader_ends_and_at_once_where_that_was_long_ago()
{
    let _shares = machine::shared();
    let cluster = Setup::of(1).start();
    let runtime = runtime();
    let client = client(&cluster);
    let changes = |told| match told {
        Some(Ok(Told::Changes { events, .. })) => events,
        told => panic!("{told:?}"),
    };
    runtime.block_on(async {
        // A leader that is gone: nobody renews its lease, and nobody says that it has ended.
        let lease = soon(client.lease(TTL * 3).grant())
            .await
            .expect("it is granted");
        let campaign = client.campaign("e", "a").on(&lease);
        let leader = soon(campaign.lead()).await.expect("it leads");
        let fence = leader.fence();
        let waits = client.campaign("e", "b").ttl(LONG_TTL);
        let waits = tokio::spawn(waits.lead());
        let mut watch = client.watch_one("elections/e").after(fence).begin();
        let queued = changes(soon(watch.next()).await);
        assert!(
            matches!(
                queued[..],
                [Event {
                    change: Change::Queued { .. },
                    ..
                }]
            ),
            "{queued:?}"
        );
        lease.detach();
        let passed = changes(soon(watch.next()).await);
        let at_once = matches!(
            passed[..],
            [
                Event {
                    change: Change::Resigned {
                        reason: ResignReason::LeaseEnded,
                        ..
                    },
                    ..
                },
                Event {
                    change: Change::Elected { .. },
                    ..
                },
            ]
        );
        assert!(at_once, "{passed:?}");
        let next = soon(waits).await.expect("it runs").expect("it leads");
        soon(next.resign()).await.expect("it leads until now");

        // Whoever comes to a vacancy waits for nobody's lease, least of all for as long as its own.
        let begun = Instant::now();
        let last = client.campaign("e", "c").ttl(LONG_TTL);
        let last = soon(last.lead()).await.expect("it leads");
        assert!(begun.elapsed() < LONG_TTL / 2, "{:?}", begun.elapsed());
        soon(last.resign()).await.expect("it leads until now");
    });
}

#[test]
fn what_a_frozen_member_carries_out_late_is_not_left_on_the_lease() {
    let _shares = machine::shared();
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let ttl = TTL * 6;
    let follower = cluster.follower();
    let by_frozen = client_of(&cluster, follower);
    let other = client_of(&cluster, cluster.leader());
    let lease = runtime.block_on(soon(by_frozen.lease(ttl).grant()));
    let lease = lease.expect("it is granted");
    cluster.members[follower].pause();
    runtime.block_on(async {
        let asked = by_frozen.lock("l").on(&lease).acquire();
        let told = tokio::time::timeout(Duration::from_millis(300), asked).await;
        assert!(told.is_err(), "no answer comes: {told:?}");
    });
    wait::pass(TTL / 2, || false);
    cluster.members[follower].resume();
    let is_free = || {
        let lock = runtime.block_on(soon(other.inspect_lock("l"))).ok()?;
        (lock.holder_count == 0 && lock.queue_length == 0).then_some(())
    };
    wait::until("the asking was given up", SOON, is_free);
    // As the cluster is concerned, this is what the network, or the member, has held back.
    let mut late = cluster.members[cluster.leader()].client();
    crate::common::acquire(&mut late, "l", lease.id());
    wait::until("what was carried out late is given up", SOON, is_free);
    runtime.block_on(async {
        assert!(!matches!(lease.state(), State::Lost(_)), "it lives on");
        // Whoever asks by it now is neither refused nor taken for somebody else.
        let lock = soon(by_frozen.lock("l").on(&lease).acquire()).await;
        soon(lock.expect("it is acquired").release())
            .await
            .expect("it is released");
    });
}

#[test]
fn a_hold_is_renewed_by_the_runtime_that_is_left() {
    let _shares = machine::shared();
    let cluster = Setup::of(1).start();
    let (first, second) = (runtime(), runtime());
    let client = client(&cluster);
    let held = first.block_on(soon(client.lock("l").ttl(LONG_TTL).acquire()));
    let held = held.expect("it is acquired");
    let read = second.block_on(soon(client.get("k")));
    read.expect("it is read");
    first.shutdown_background();
    let deadline = Instant::now() + held.remaining();
    wait::until("the other runtime renews it", SOON, || {
        let later = Instant::now() + held.remaining();
        (later > deadline + TTL).then_some(())
    });
    assert_eq!(held.state(), State::Held);
    let released = second.block_on(soon(held.release()));
    released.expect("it was held all the time");
}

#[test]
fn a_runtime_that_is_not_run_any_more_holds_up_nothing_that_another_asks() {
    let _shares = machine::shared();
    let cluster = Setup::of(1).start();
    let alone = || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("there is a thread")
    };
    let (first, second) = (alone(), alone());
    let client = client(&cluster);
    let put = first.block_on(soon(client.put("k", "v").into_future()));
    put.expect("it is put");
    // The connection is kept for the next request, and nobody reads from it.
    let begun = Instant::now();
    let read = second.block_on(soon(client.get("k"))).expect("it is read");
    assert!(read.is_some());
    assert!(
        begun.elapsed() < TTL * 2,
        "a try that is not answered takes longer: {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_lease_is_gone_on_with_by_one_at_a_time_and_what_it_holds_is_taken_up_with_its_fence() {
    let _shares = machine::shared();
    let cluster = Setup::of(1).start();
    let client = client(&cluster);
    runtime().block_on(async {
        let lease = soon(client.lease(LONG_TTL).grant()).await;
        let lease = lease.expect("it is granted");
        let lock = soon(client.lock("l").on(&lease).acquire()).await;
        let lock = lock.expect("it is acquired");
        let fence = lock.fence();
        let twice = soon(client.resume_lease(lease.id())).await;
        let refused = twice.expect_err("it is in hand");
        assert_eq!(refused.code(), Some(tenure::api::Code::AlreadyHeld));
        let id = lease.detach();
        assert_eq!(lock.state(), State::Lost(Loss::GivenUp));
        drop(lock);
        let lease = soon(client.resume_lease(&id)).await.expect("it lives");
        let lock = soon(client.lock("l").on(&lease).acquire()).await;
        let lock = lock.expect("it is held");
        assert_eq!(lock.fence(), fence, "the hold was let go of, not ended");
        soon(lock.release()).await.expect("it is released");
    });
}
