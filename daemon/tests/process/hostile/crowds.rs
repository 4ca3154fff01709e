//! Crowds: more connections than anybody needs, and thousands of waiting requests whose clients go away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::frames::{get, open, post, settled};
use super::wire::Wire;
use super::{Siege, full, siege::Bound};
use crate::common::{SOON, acquire, grant, machine, wait};

/// Connections that a member takes at a time by default (`http::Settings`).
const CONNECTIONS: u64 = 10_000;
/// What this process and the member need beside the connections.
const OTHER_FILES: u64 = 600;
/// Requests at a time on one connection of HTTP/2.
const STREAMS: u32 = 250;
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets this process, and the members that it starts, have so many files, or as many as they may; answers how many.
fn limit_files(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let given = wanted.min(limit.maximum.unwrap_or(wanted));
    let changed = Rlimit {
        current: Some(given),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, changed)
        .expect("a process may change its own limit up to its maximum");
    given
}

const MANY_FILES: u64 = 1 << 16;

#[test]
fn a_member_that_may_open_few_files_keeps_some_for_itself_and_its_peers() {
    // For a moment all that this process starts may open few files.
    let _machine = machine::alone();
    let few = limit_files(700);
    let siege = Siege::of(3);
    limit_files(MANY_FILES);
    let mut most = 0;
    let crowd: Vec<Wire> = (0..2_000)
        .map(|number| {
            let mut wire = Wire::open(siege.address());
            wire.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
            if number % 50 == 0 {
                most = most.max(siege.open_files());
            }
            wire
        })
        .collect();
    siege
        .client()
        .put("/v1/keys/newcomer", b"x")
        .expect("a newcomer is served")
        .expect(201);
    drop(crowd);
    for member in &siege.cluster.members {
        let log = member.output();
        assert!(!log.contains("cannot accept"), "{log}");
    }
    siege.end(
        &format!("2000 connections where {few} files are allowed, {most} of them open at most"),
        Bound {
            top_mib: 96,
            after_mib: 96,
        },
    );
}

#[test]
fn as_many_idle_connections_as_the_files_allow_keep_nobody_out() {
    let _machine = machine::half();
    let files = limit_files(MANY_FILES);
    let wanted = if full() { CONNECTIONS } else { 6_000 };
    let many = wanted.min(files.saturating_sub(OTHER_FILES));
    if many < 5_000 {
        machine::skip(
            "as_many_idle_connections_as_the_files_allow_keep_nobody_out",
            "the limit of open files is too low",
        );
        return;
    }
    let siege = Siege::of(3);
    let address = siege.address();
    let began = Instant::now();
    // Of ten one says nothing, one speaks HTTP/2 and asks for nothing, and the others were served once and stay.
    let mut crowd: Vec<Wire> = Vec::new();
    for number in 0..many {
        let mut wire = Wire::open(address);
        match number % 10 {
            0 => {}
            1 => {
                wire.send(&super::frames::greeting(&[]));
            }
            _ => {
                wire.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
            }
        }
        crowd.push(wire);
    }
    let opened = began.elapsed();
    let held = wait::until("the member holds most of them", SOON, || {
        let held = siege.open_files();
        (held >= 5_000).then_some(held)
    });
    let top = siege.resident_kib();
    // One more, with as many there as the member takes: the probe of the siege is such a one too.
    let mut client = siege.client();
    client
        .put("/v1/keys/newcomer", b"x")
        .expect("a newcomer is served")
        .expect(201);
    eprintln!(
        "hostile: {many} connections opened in {opened:?} where {files} files are allowed; the member had {held} files open and {} MiB",
        top >> 10
    );
    drop(crowd);
    wait::until("the member has closed what its clients left", SOON, || {
        (siege.open_files() < 200).then_some(())
    });
    siege.end(
        &format!("{many} idle connections"),
        Bound {
            top_mib: 500,
            // The allocator of glibc keeps pages that lie between others; nothing of the connections is in them.
            after_mib: 300,
        },
    );
}

/// Opens long-polls over HTTP/2: `poll` makes the request of a number on a stream.
fn waiting_crowd(address: SocketAddr, polls: u32, poll: impl Fn(u32, u32) -> Vec<u8>) -> Vec<Wire> {
    let mut wires = Vec::new();
    for first in (0..polls).step_by(STREAMS as usize) {
        let mut wire = open(address, &[]);
        let last = polls.min(first + STREAMS);
        let bytes: Vec<u8> = (first..last)
            .flat_map(|number| poll(2 * (number - first) + 1, number))
            .collect();
        wire.send(&bytes);
        wires.push(wire);
    }
    for wire in &mut wires {
        assert!(
            settled(wire, PATIENCE),
            "a connection of patient clients was ended"
        );
    }
    wires
}

/// A place belongs to its lease (`api.md` §1.3): clients that go away leave it, and leave nothing else.
#[test]
fn ten_thousand_polls_whose_clients_go_away_keep_their_places_and_nothing_else() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let address = siege.address();
    let mut client = siege.client();
    let (holder, waiter) = (grant(&mut client, 600_000), grant(&mut client, 600_000));
    let fence = acquire(&mut client, "wanted", &holder);
    let before = siege.resident_kib();

    const PLACES: u32 = 5_000;
    let body = |number: u32| {
        format!(
            "{{\"lease\":\"{waiter}\",\"owner\":\"o{number}\",\"wait_ms\":3600000,\"poll_ms\":600000}}"
        )
    };
    let acquires = waiting_crowd(address, PLACES, |stream, number| {
        post(stream, "/v1/locks/wanted", &body(number))
    });
    let watches = waiting_crowd(address, 10_000 - PLACES, |stream, number| {
        get(
            stream,
            &format!("/v1/watch?resource=keys/w{number}&wait_ms=600000"),
        )
    });
    wait::until("every acquire has its place", SOON, || {
        let lock = client.get("/v1/locks/wanted").ok()?;
        (lock.u64("queue_length") == u64::from(PLACES)).then_some(())
    });
    let top = siege.resident_kib();
    drop((acquires, watches));

    // Their table of waiters has 20000 places: five more crowds of watches find room only if each is forgotten.
    for _ in 0..5 {
        let refused = wait::until("a poll finds room", SOON, || {
            let crowd = waiting_crowd(address, 9_000, |stream, number| {
                get(
                    stream,
                    &format!("/v1/watch?resource=keys/w{number}&wait_ms=600000"),
                )
            });
            drop(crowd);
            let answer = client.get("/v1/watch?prefix=keys/none&wait_ms=1").ok()?;
            // A member that was given no time may know no leader for a moment.
            (answer.status != 503).then_some(answer.status)
        });
        assert_eq!(refused, 200, "polls of clients that are gone still count");
    }
    wait::until("the member has closed what its clients left", SOON, || {
        (siege.open_files() < 100).then_some(())
    });
    let after = siege.resident_kib();
    eprintln!(
        "hostile: 5000 acquires and 5000 watches: resident {} -> {} MiB, {} once their clients were gone and 45000 more had come and gone",
        before >> 10,
        top >> 10,
        after >> 10,
    );
    let lock = client.get("/v1/locks/wanted").expect("the member answers");
    assert_eq!(lock.u64("queue_length"), u64::from(PLACES), "places stay");
    // And they are places still: the next is granted the lock, though its client is gone, and all end with their lease.
    client
        .delete(&format!("/v1/locks/wanted?lease={holder}&fence={fence}"))
        .expect("the member answers")
        .expect(200);
    let lock = client
        .get("/v1/locks/wanted")
        .expect("the member answers")
        .json();
    assert_eq!(
        lock["holders"][0]["lease"],
        waiter.as_str(),
        "{}",
        lock["holders"]
    );
    client
        .delete(&format!("/v1/leases/{waiter}"))
        .expect("the member answers")
        .expect(200);
    let lock = client.get("/v1/locks/wanted").expect("the member answers");
    assert_eq!(lock.u64("queue_length"), 0);
    // A poll costs some 18 KiB here, and on a busy machine the crowds overlap until 20000 stand at a time: 360 MiB, which
    // the allocator of glibc may keep. Were anything kept of all 55000, it would be beyond 900.
    siege.end(
        "10000 polls whose clients went away",
        Bound {
            top_mib: 600,
            after_mib: 600,
        },
    );
}

/// A body may have 2 MiB of which a few bytes matter, and its request may wait for ten minutes: it is read, and let go.
#[test]
fn requests_that_wait_keep_nothing_of_their_bodies() {
    let _machine = machine::half();
    const PADDING: usize = 2_000_000;
    const ACQUIRES: usize = 60;
    const WATCHES: usize = 20;
    let siege = Siege::of(1);
    let mut client = siege.client();
    let (holder, waiter) = (grant(&mut client, 600_000), grant(&mut client, 600_000));
    acquire(&mut client, "wanted", &holder);
    let ask = |path: &str, body: &str| {
        let mut wire = Wire::open(siege.address());
        let length = body.len() + PADDING;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        wire.send(head.as_bytes()).send(&vec![b' '; PADDING]);
        wire
    };
    let mut waiting = Vec::new();
    for number in 0..ACQUIRES {
        let body = format!(
            "{{\"lease\":\"{waiter}\",\"owner\":\"o{number}\",\"wait_ms\":3600000,\"poll_ms\":190000}}"
        );
        waiting.push(ask("/v1/locks/wanted", &body));
        // One after the other: what is read at a time is another bound.
        wait::until("the acquire has its place", SOON, || {
            let lock = client.get("/v1/locks/wanted").ok()?;
            (lock.u64("queue_length") == number as u64 + 1).then_some(())
        });
    }
    for number in 0..WATCHES {
        let body = format!("{{\"resources\":[\"keys/w{number}\"],\"wait_ms\":600000}}");
        let mut wire = ask("/v1/watch", &body);
        let heard = wire.listen_until(Duration::from_millis(200), |bytes| !bytes.is_empty());
        assert!(heard.bytes.is_empty() && !heard.closed, "it waits");
        waiting.push(wire);
    }
    siege.end(
        &format!("{ACQUIRES} acquires and {WATCHES} watches that wait, each with {PADDING} bytes"),
        Bound {
            top_mib: 48,
            after_mib: 48,
        },
    );
    drop(waiting);
}
