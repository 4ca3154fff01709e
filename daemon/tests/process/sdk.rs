//! The Rust client against real clusters: a guard says that it is lost before anybody else is granted.
//!
//! All times of a test are of one clock, that of this machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tenure::{Client, Error, Lock, Loss, State, Told};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::common::{Cluster, SOON, Setup, wait};

/// The shortest there is: what is looked at here is what comes after it.
const TTL: Duration = Duration::from_secs(1);
/// So long that a busy machine renews in time.
pub(crate) const LONG_TTL: Duration = Duration::from_secs(10);

pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("there are threads for it")
}

pub(crate) fn urls(cluster: &Cluster) -> Vec<String> {
    let members = cluster.members.iter();
    members
        .map(|member| format!("http://{}", member.client))
        .collect()
}

pub(crate) fn client(cluster: &Cluster) -> Client {
    Client::connect(urls(cluster)).expect("they are URLs")
}

/// Asks only this member, whoever leads.
pub(crate) fn client_of(cluster: &Cluster, member: usize) -> Client {
    let client = Client::connect([urls(cluster).swap_remove(member)]);
    client.expect("it is a URL").at_given_urls_only()
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let found = tokio::time::timeout(SOON, what).await;
    found.expect("it happens within the time in which a busy machine does it")
}

async fn lock(client: &Client, ttl: Duration, wait: Duration) -> Lock {
    let lock = client.lock("jobs/a").ttl(ttl).wait(wait).acquire();
    soon(lock).await.expect("it is acquired")
}

/// Waits for the lock that somebody else holds; as soon as it is granted, the other's guard is asked.
fn next_holder(runtime: &Runtime, client: Client, held: &Arc<Lock>) -> JoinHandle<(State, Lock)> {
    let held = Arc::clone(held);
    runtime.spawn(async move {
        let lock = lock(&client, LONG_TTL, SOON).await;
        (held.state(), lock)
    })
}

/// Waits until it has its place; on a busy machine the holder may have lost before, and it is granted already.
fn wait_until_queued(runtime: &Runtime, client: &Client, next: &JoinHandle<(State, Lock)>) {
    wait::until("the next holder waits", SOON, || {
        let watch = async { client.watch("locks/jobs/").begin().next().await };
        let Some(Ok(Told::Resync { state, .. })) = runtime.block_on(soon(watch)) else {
            return None;
        };
        let waits = state.first()?.state["queue_length"] == 1;
        (waits || next.is_finished()).then_some(())
    });
}

#[test]
fn a_lock_is_held_through_the_death_of_the_leader_and_guards_what_is_written() {
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let client = client(&cluster);
    let held = runtime.block_on(lock(&client, LONG_TTL, Duration::ZERO));
    let second = runtime.block_on(soon(client.lock("jobs/a").acquire()));
    let refused = second.expect_err("it is held");
    assert_eq!(refused.code(), Some(tenure::api::Code::LockHeld));

    let leader = cluster.leader();
    let deadline = Instant::now() + held.remaining();
    cluster.members[leader].kill();
    wait::until("a member that is left has renewed it", SOON, || {
        let later = Instant::now() + held.remaining();
        (later > deadline + Duration::from_secs(1)).then_some(())
    });
    assert_eq!(held.state(), State::Held);
    runtime.block_on(async {
        let put = soon(async { client.put("k", "v").guard(&held).await });
        put.await.expect("the fence is held");
        let read = soon(client.get("k")).await.expect("it is read");
        assert_eq!(read.expect("it is there").value, "v");
        soon(held.release()).await.expect("it is released");
        let next = lock(&client, LONG_TTL, Duration::ZERO).await;
        soon(next.release()).await.expect("it is released");
    });
}

/// A holder that asks one member only, which is hurt while somebody else waits for the lock at another.
fn loses_in_time_when(cluster: &Cluster, hurt: impl FnOnce(usize), heal: impl FnOnce(usize)) {
    let runtime = runtime();
    let member = cluster.follower();
    let other = client_of(cluster, (member + 1) % 3);
    let held = runtime.block_on(lock(&client_of(cluster, member), TTL, Duration::ZERO));
    let held = Arc::new(held);
    let next = next_holder(&runtime, other.clone(), &held);
    wait_until_queued(&runtime, &other, &next);
    hurt(member);
    let (believed, _next) = runtime.block_on(soon(next)).expect("it is granted");
    heal(member);
    assert!(matches!(believed, State::Lost(_)), "{believed:?}");
}

#[test]
fn a_holder_at_a_member_that_is_cut_off_has_lost_before_the_next_is_granted() {
    let cluster = Setup::of(3).with_relays().start();
    let cut = |member: usize| cluster.relays[member].cut();
    loses_in_time_when(&cluster, cut, |member| cluster.relays[member].heal());
}

#[test]
fn a_holder_at_a_member_that_froze_has_lost_before_the_next_is_granted() {
    let cluster = Setup::of(3).start();
    let freeze = |member: usize| cluster.members[member].pause();
    loses_in_time_when(&cluster, freeze, |member| cluster.members[member].resume());
}

#[test]
fn a_holder_goes_on_at_other_members_when_the_one_that_it_asks_freezes() {
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let leader = cluster.leader();
    let held = runtime.block_on(lock(&client(&cluster), LONG_TTL, Duration::ZERO));
    let deadline = Instant::now() + held.remaining();
    // The leader is whom a client asks.
    cluster.members[leader].pause();
    wait::until("a member that answers has renewed it", SOON, || {
        let later = Instant::now() + held.remaining();
        (later > deadline + Duration::from_secs(1)).then_some(())
    });
    cluster.members[leader].resume();
    runtime
        .block_on(soon(held.release()))
        .expect("it was held all the time");
}

#[test]
fn a_holder_that_was_paused_beyond_its_ttl_does_not_believe_when_it_goes_on() {
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    // The holder has one thread, which does nothing for longer than the TTL: neither its renewals nor its timers run.
    let paused = Builder::new_current_thread().enable_all().build();
    let paused = paused.expect("there is a thread for it");
    let held = paused.block_on(lock(&client(&cluster), TTL, Duration::ZERO));
    let held = Arc::new(held);
    let next = next_holder(&runtime, client(&cluster), &held);
    let (believed, next) = runtime.block_on(soon(next)).expect("it is granted");
    assert_eq!(believed, State::Lost(Loss::Deadline));
    assert!(held.remaining().is_zero());
    let client = client(&cluster);
    paused.block_on(async {
        let mut works = false;
        let ran = held.run(async { works = true }).await;
        assert!(matches!(ran, Err(Error::Lost(Loss::Deadline))), "{ran:?}");
        assert!(!works);
        let write = client.put("k", "old").guard(&*held).await;
        assert!(
            matches!(write, Err(Error::Lost(Loss::Deadline))),
            "{write:?}"
        );
    });
    assert!(next.is_held());
}

#[test]
fn a_cluster_that_is_away_is_lost_at_the_deadline_and_work_has_ended_before() {
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let client = client(&cluster);
    let held = runtime.block_on(lock(&client, TTL, Duration::ZERO));
    let held = Arc::new(held);
    /// Says when it was dropped, and what was left of the belief then.
    struct Work(Arc<Lock>, Arc<Mutex<Option<(Instant, Duration)>>>);
    impl Drop for Work {
        fn drop(&mut self) {
            let ended = (Instant::now(), self.0.remaining());
            *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        }
    }
    let ended = Arc::new(Mutex::new(None));
    let work = Work(Arc::clone(&held), Arc::clone(&ended));
    let working = Arc::clone(&held);
    let ran = runtime.spawn(async move {
        let ran = working.run(async move {
            let _work = work;
            std::future::pending::<()>().await;
        });
        let ran = ran.await;
        (ran, working.lost().await, Instant::now())
    });
    cluster.kill_all();
    let (ran, loss, lost) = runtime.block_on(soon(ran)).expect("it ends");
    assert!(matches!(ran, Err(Error::Lost(Loss::Deadline))), "{ran:?}");
    assert_eq!(loss, Loss::Deadline);
    let (stopped, left) = ended
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .expect("it was dropped");
    assert!(!left.is_zero(), "the work ended before the deadline");
    // Two clocks of one machine may differ by a hair.
    let deadline = stopped + left;
    assert!(
        deadline <= lost + Duration::from_millis(2),
        "lost {:?} before the deadline",
        deadline.saturating_duration_since(lost)
    );
    let write = runtime.block_on(async { client.with_patience(TTL).put("k", "v").await });
    assert!(
        matches!(write, Err(Error::NotApplied(_) | Error::Unknown(_))),
        "{write:?}"
    );
}

#[test]
fn a_hold_that_an_operator_broke_is_lost_before_the_next_is_granted() {
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let client = client(&cluster);
    let lease = runtime.block_on(soon(client.lease(Duration::from_secs(6)).grant()));
    let lease = lease.expect("it is granted");
    let held = runtime.block_on(soon(client.lock("jobs/a").on(&lease).acquire()));
    let held = Arc::new(held.expect("it is acquired"));
    let next = next_holder(&runtime, client.clone(), &held);
    wait_until_queued(&runtime, &client, &next);
    let path = format!(
        "/v1/locks/jobs/a?break=true&fence={}&reason=test",
        held.fence()
    );
    let broken = cluster.persist("it is broken", |client| client.delete(&path));
    broken.expect(200);
    let (believed, _next) = runtime.block_on(soon(next)).expect("it is granted");
    assert!(
        matches!(believed, State::Lost(Loss::Broken | Loss::Deadline)),
        "{believed:?}"
    );
    assert!(
        !matches!(lease.state(), State::Lost(_)),
        "the lease lives on"
    );
}

#[test]
fn a_watch_tells_every_change_once_over_kills_of_every_member() {
    const ROUNDS: u64 = 9;
    let cluster = Setup::of(3).start();
    let runtime = runtime();
    let client = client(&cluster);
    let mut watch = client.watch("keys/w/").begin();
    let first = runtime.block_on(soon(watch.next()));
    assert!(
        matches!(first, Some(Ok(Told::Resync { ref state, .. })) if state.is_empty()),
        "{first:?}"
    );
    let watching = runtime.spawn(async move {
        let mut versions = Vec::new();
        let mut last = 0;
        while versions.len() < usize::try_from(ROUNDS).expect("it is small") {
            match watch.next().await {
                Some(Ok(Told::Changes { events, revision })) => {
                    assert!(revision > last, "{revision} after {last}");
                    last = revision;
                    versions.extend(events.iter().map(|event| event.revision));
                }
                other => panic!("{other:?}"),
            }
        }
        versions
    });
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        let member = usize::try_from(round % 3).expect("it is small");
        cluster.members[member].kill();
        let put = client.clone().with_patience(SOON);
        let put = runtime.block_on(soon(async { put.put("w/k", round.to_string()).await }));
        written.push(put.expect("it is put").mod_revision);
        cluster.members[member].start();
        cluster.wait_until_ready();
    }
    let told = runtime.block_on(soon(watching)).expect("the watch goes on");
    assert_eq!(told, written);
}

#[test]
fn a_leadership_passes_to_the_next_candidate_with_a_greater_fence() {
    let cluster = Setup::of(1).start();
    let runtime = runtime();
    let client = client(&cluster);
    runtime.block_on(async {
        let first = soon(client.campaign("e", "a").ttl(LONG_TTL).lead()).await;
        let first = first.expect("it leads");
        let second = tokio::spawn(client.campaign("e", "b").ttl(LONG_TTL).lead());
        soon(first.proclaim("http://a")).await.expect("it leads");
        let shown = soon(client.election("e")).await.expect("it is read");
        assert_eq!(shown.leader.expect("somebody leads").value, "http://a");
        let fence = first.fence();
        soon(first.resign()).await.expect("it leads until now");
        let second = soon(second).await.expect("it runs").expect("it leads");
        assert!(second.fence() > fence);
        drop(second);
        let vacant = async {
            while client
                .election("e")
                .await
                .expect("it is read")
                .leader
                .is_some()
            {
                tokio::task::yield_now().await;
            }
        };
        soon(vacant).await;
    });
}

#[test]
fn permits_are_held_by_as_many_as_there_are_and_guard_writes() {
    let cluster = Setup::of(1).start();
    let runtime = runtime();
    let client = client(&cluster);
    runtime.block_on(async {
        let take = |count| {
            client
                .semaphore("s", 3)
                .permits(count)
                .ttl(LONG_TTL)
                .acquire()
        };
        let two = soon(take(2)).await.expect("there are three");
        let refused = soon(take(2)).await.expect_err("one is left");
        assert_eq!(refused.code(), Some(tenure::api::Code::LockHeld));
        let one = soon(take(1)).await.expect("one is left");
        let put = soon(async { client.put("k", "v").guard(&one).await });
        put.await.expect("the fence is held");
        soon(two.release()).await.expect("they are released");
        let two = soon(take(2)).await.expect("they are free again");
        assert!(two.fence() > one.fence());
    });
}
