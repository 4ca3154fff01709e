//! Locks between real clients: the hand-over, the place in the queue, the lease that ends.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Client, SOON, Setup, acquire, grant, machine, wait};

/// What a busy machine may add to a time that is promised.
const ROOM: Duration = Duration::from_millis(750);

#[test]
fn a_waiter_is_granted_when_the_holders_lease_ends_and_not_before_its_ttl() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let ttl = Duration::from_millis(2_000);
    for member in 0..3 {
        let mut client = cluster.members[member].client();
        let name = format!("expiring-{member}");
        let dying = grant(&mut client, 2_000);
        let waiting = grant(&mut client, 60_000);
        // An acquire renews the lease: its TTL counts from here on at the earliest.
        let renewed_from = Instant::now();
        let fence = acquire(&mut client, &name, &dying);
        let renewed_by = Instant::now();
        let body = json!({ "lease": waiting, "wait_ms": 30_000, "poll_ms": 20_000 });
        let mut client = client.with_patience(SOON);
        let held = client
            .post(&format!("/v1/locks/{name}"), &body)
            .expect("the member answers")
            .expect(200);
        let (most, least) = (renewed_from.elapsed(), renewed_by.elapsed());
        assert!(
            most >= ttl,
            "granted {most:?} after the holder's last renewal was sent, within its TTL of {ttl:?}"
        );
        let latest = ttl + Duration::from_millis(250) + ROOM;
        assert!(
            least <= latest,
            "granted only {least:?} after the holder's last renewal was answered"
        );
        assert!(held.u64("fence") > fence);
        let ended = client
            .get(&format!("/v1/leases/{dying}"))
            .expect("the member answers")
            .expect(410);
        assert_eq!(ended.code(), "lease-expired");
    }
}

#[test]
fn renewals_keep_a_lease_alive_and_its_end_comes_a_ttl_after_the_last() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client();
    let lease = grant(&mut client, 1_000);
    acquire(&mut client, "renewed", &lease);
    let start = Instant::now();
    let mut last = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        last = Instant::now();
        let answer = client
            .post(&format!("/v1/leases/{lease}/renew"), &Value::Null)
            .expect("the member answers");
        let remaining = answer.expect(200).u64("remaining_ms");
        assert!(
            (500..=1_000).contains(&remaining),
            "{remaining} ms remain after a renewal"
        );
        wait::pass(Duration::from_millis(200), || false);
    }
    let after = client
        .get("/v1/locks/renewed")
        .expect("the member answers")
        .expect(200)
        .revision();
    let path = format!("/v1/watch?resource=leases/{lease}&after={after}&wait_ms=10000");
    let events = client
        .with_patience(SOON)
        .get(&path)
        .expect("the member answers")
        .expect(200)
        .json();
    let waited = last.elapsed();
    assert_eq!(events["events"][0]["type"], "ended", "{events}");
    assert_eq!(events["events"][0]["reason"], "expired", "{events}");
    assert!(
        waited >= Duration::from_millis(1_000),
        "the lease ended {waited:?} after its last renewal was sent"
    );
    assert!(
        waited <= Duration::from_millis(1_500) + ROOM,
        "the lease ended only {waited:?} after its last renewal"
    );
}

#[test]
fn a_waiter_whose_connection_is_cut_and_who_asks_again_has_the_same_place() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let follower = cluster.follower();
    let mut client = cluster.members[leader].client();
    let leases: Vec<String> = (0..3).map(|_| grant(&mut client, 60_000)).collect();
    acquire(&mut client, "queue", &leases[0]);
    let place_of = |client: &mut Client, lease: &str| {
        let lock = client.get("/v1/locks/queue").ok()?.json();
        let queue = lock["queue"].as_array()?;
        queue.iter().find(|place| place["lease"] == lease).cloned()
    };
    let body = |lease: &str, poll_ms: u64| json!({ "lease": lease, "wait_ms": 600_000, "poll_ms": poll_ms });

    let first = cluster.members[follower].client();
    let place = {
        // The connection ends when the request is known to have made its place.
        let mut place = None;
        let asked = first.send_and_hang_up("/v1/locks/queue", &body(&leases[1], 30_000), || {
            place = Some(wait::until("the first waiter has a place", SOON, || {
                place_of(&mut client, &leases[1])
            }));
        });
        asked.expect("it is sent");
        place.expect("it was found")
    };
    let second = client
        .post("/v1/locks/queue", &body(&leases[2], 0))
        .expect("the member answers")
        .expect(202);
    assert_eq!((second.u64("position"), second.u64("queue_length")), (2, 2));

    // It asks again at another member, and then has its connection cut a second time.
    let mut other = cluster.members[leader].client();
    let again = other
        .post("/v1/locks/queue", &body(&leases[1], 0))
        .expect("the member answers")
        .expect(202);
    assert_eq!((again.u64("position"), again.u64("queue_length")), (1, 2));
    assert_eq!(again.json()["queued_revision"], place["queued_revision"]);
    let hung_up = first.send_and_hang_up("/v1/locks/queue", &body(&leases[1], 30_000), || {});
    hung_up.expect("it is sent");
    let kept = place_of(&mut client, &leases[1]).expect("the place is kept");
    assert_eq!(kept["queued_revision"], place["queued_revision"]);

    // The grant comes although nobody is connected, and asking again finds it.
    let lock = client
        .get("/v1/locks/queue")
        .expect("the member answers")
        .expect(200)
        .json();
    let fence = lock["holders"][0]["fence"].as_u64().expect("it is held");
    let release = format!("/v1/locks/queue?lease={}&fence={fence}", leases[0]);
    let released = client
        .delete(&release)
        .expect("the member answers")
        .expect(200);
    let held = other
        .post("/v1/locks/queue", &body(&leases[1], 0))
        .expect("the member answers")
        .expect(200);
    assert_eq!(
        held.u64("fence"),
        released.u64("revision"),
        "granted at the revision of the release"
    );
}

#[test]
fn of_64_waiters_each_hand_over_answers_exactly_one() {
    const WAITERS: usize = 64;
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let mut client = cluster.members[0].client();
    let holder = grant(&mut client, 300_000);
    let mut fence = acquire(&mut client, "crowd", &holder);
    let mut lease = holder;
    let (answers, answered) = mpsc::channel();
    let mut order = Vec::new();
    for number in 0..WAITERS {
        let waiter = cluster.members[number % 3]
            .client()
            .with_patience(Duration::from_secs(150));
        let own = grant(&mut client, 300_000);
        let body = json!({ "lease": own, "wait_ms": 600_000, "poll_ms": 90_000 });
        let pending = waiter
            .begin("POST", "/v1/locks/crowd", &body)
            .expect("it is sent");
        wait::until("the waiter has its place", SOON, || {
            let lock = client.get("/v1/locks/crowd").ok()?;
            (lock.u64("queue_length") == number as u64 + 1).then_some(())
        });
        let answers = answers.clone();
        thread::spawn(move || answers.send((number, pending.answer(Duration::from_secs(150)))));
        order.push(own);
    }
    for (number, own) in order.iter().enumerate() {
        let release = format!("/v1/locks/crowd?lease={lease}&fence={fence}");
        client
            .delete(&release)
            .expect("the member answers")
            .expect(200);
        let (who, answer) = answered.recv_timeout(SOON).expect("a waiter is answered");
        let answer = answer.expect("the answer arrives").expect(200);
        assert_eq!(who, number, "first come first served");
        assert!(answer.u64("fence") > fence, "fences rise");
        // A linearizable read after the hand-over gives every other wake the time of a round to arrive.
        let lock = client
            .get("/v1/locks/crowd")
            .expect("the member answers")
            .expect(200);
        assert_eq!(lock.u64("queue_length"), (WAITERS - number - 1) as u64);
        assert!(
            answered.try_recv().is_err(),
            "one hand-over answered two waiters"
        );
        fence = answer.u64("fence");
        lease.clone_from(own);
    }
}
