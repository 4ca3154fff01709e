//! Slow clients: a byte a second of a head, a body that trickles, an answer that is never read.

use std::time::{Duration, Instant};

use super::frames::{get, open};
use super::wire::Wire;
use super::{Siege, full, siege::Bound};
use crate::common::{machine, wait};

const DRIP: Duration = Duration::from_secs(1);

/// Sends a byte of `bytes` in each second over each connection until all are cut; answers when the last one was.
fn drip(wires: &mut Vec<Wire>, bytes: &[u8], within: Duration) -> Duration {
    let began = Instant::now();
    for byte in bytes.iter().cycle() {
        wires.retain_mut(|wire| {
            wire.send(&[*byte]);
            !wire
                .listen_until(Duration::from_micros(100), |_| false)
                .closed
        });
        if wires.is_empty() {
            return began.elapsed();
        }
        assert!(
            began.elapsed() < within,
            "{} connections still drip after {within:?}",
            wires.len()
        );
        wait::pass(DRIP, || false);
    }
    unreachable!("a cycle has no end")
}

#[test]
fn heads_that_drip_are_cut_within_seconds() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let many = if full() { 2_000 } else { 300 };
    let mut wires: Vec<Wire> = (0..many)
        .map(|number| {
            let mut wire = Wire::open(siege.address());
            match number % 4 {
                // The beginning of a first request, of a second one, of HTTP/2, and nothing at all.
                0 => wire.send(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: "),
                1 => wire.send(
                    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nX: ",
                ),
                2 => wire.send(b"PRI * HTTP/2.0\r\n\r\nSM"),
                _ => &mut wire,
            };
            wire
        })
        .collect();
    // 10 s for a first request, looked at every 5 s, and a busy machine.
    let took = drip(&mut wires, b"y", Duration::from_secs(25));
    siege.end(
        &format!(
            "{many} heads that drip, the last cut after {} s",
            took.as_secs()
        ),
        Bound {
            top_mib: 96,
            after_mib: 64,
        },
    );
}

#[test]
fn an_answer_that_is_never_read_holds_little_and_nobody_up() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    client
        .put("/v1/keys/large", &vec![b'v'; 1 << 20])
        .expect("the member answers")
        .expect(201);
    // Where each is to be cut, there are so few that there is room for what all of them ask for: without it they would
    // be told so in a few words, which lie in the kernel and harm nobody.
    let many = if full() { 12 } else { 40 };
    let ask = b"GET /v1/keys/large HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let mut wires: Vec<Wire> = (0..many)
        .map(|number| {
            if number % 2 == 0 {
                let mut wire = Wire::open(siege.address());
                wire.send(&ask);
                wire
            } else {
                let mut wire = open(siege.address(), &[]);
                for stream in 0..100 {
                    wire.send(&get(2 * stream + 1, "/v1/keys/large"));
                }
                wire
            }
        })
        .collect();
    let linger = if full() {
        Duration::from_secs(45)
    } else {
        Duration::from_secs(2)
    };
    wait::pass(linger, || false);
    if full() {
        // 30 s unread, looked at every 5 s: by now each is cut, and what had been sent before is all there is.
        for wire in &mut wires {
            assert!(
                wire.listen().closed,
                "a connection that reads nothing is still open"
            );
        }
    }
    drop(wires);
    siege.end(
        &format!("{many} clients that asked for 100 MiB each and read nothing"),
        Bound {
            top_mib: 400,
            after_mib: 128,
        },
    );
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let _machine = machine::shared();
    if !full() {
        // 30 s, the time that a body may take, are more than a run in CI may.
        return;
    }
    let siege = Siege::of(1);
    let mut wires: Vec<Wire> = (0..500)
        .map(|number| {
            let mut wire = Wire::open(siege.address());
            let head = format!(
                "PUT /v1/keys/trickle/{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
            );
            wire.send(head.as_bytes());
            wire
        })
        .collect();
    let took = drip(&mut wires, b"y", Duration::from_secs(50));
    let list = siege
        .client()
        .get("/v1/keys?prefix=trickle/")
        .expect("the member answers");
    assert_eq!(list.u64("count"), 0);
    siege.end(
        &format!(
            "500 bodies that trickle, the last given up after {} s",
            took.as_secs()
        ),
        Bound {
            top_mib: 96,
            after_mib: 64,
        },
    );
}
