//! Clients that ask for much at a time, or send much and never all of it: what a member holds for them is bounded.

use std::time::Duration;

use super::frames::{get, open};
use super::siege::Bound;
use super::wire::Wire;
use super::{Siege, full};
use crate::common::{SOON, machine, wait};

/// Bodies that are not whole yet take 256 MiB at most, wherever they come from.
#[test]
fn bodies_that_are_never_whole_take_the_room_of_bodies_and_no_more() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let many = if full() { 2_000 } else { 500 };
    let part = vec![b'v'; (1 << 20) - 1];
    let mut wires: Vec<Wire> = (0..many)
        .map(|number| {
            let mut wire = Wire::open(siege.address());
            let head = format!(
                "PUT /v1/keys/part/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                1 << 20
            );
            wire.send(head.as_bytes()).send(&part);
            wire
        })
        .collect();
    let answers: Vec<_> = wires
        .iter_mut()
        .map(|wire| wire.listen_until(Duration::from_millis(5), |bytes| !bytes.is_empty()))
        .filter(|heard| !heard.bytes.is_empty())
        .collect();
    // On a slow machine the first are given up before the last are there.
    let (refused, slow): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|heard| heard.status("a part of a body") == 503);
    for heard in &refused {
        heard.is_problem("a body without room", 503, "overloaded");
    }
    for heard in &slow {
        heard.is_problem("a body that does not come", 400, "invalid-request");
    }
    let refused = refused.len();
    assert!(refused > 0, "nobody was refused");
    drop(wires);
    siege.end(
        &format!("{many} bodies of 1 MiB less a byte, {refused} of them refused"),
        Bound {
            top_mib: 400,
            // The allocator of glibc keeps pages that lie between others; nothing of the bodies is in them.
            after_mib: 300,
        },
    );
}

/// A page of a watch is made when the one before it is on its way, so that hundreds of them are not made at once.
#[test]
fn pages_of_a_watch_that_nobody_takes_are_made_one_at_a_time() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    let value = vec![b'v'; 32 << 10];
    for number in 0..1_000 {
        let path = format!("/v1/keys/page/{}", number % 100);
        let put = client.put(&path, &value).expect("the member answers");
        assert!(put.status < 300, "{}", put.text());
    }
    // What it holds for the history is not the attack's.
    let siege = siege.counting_from_now();
    // No window: nothing of any body may be sent.
    let mut wires: Vec<Wire> = (0..4)
        .map(|_| {
            let mut wire = open(siege.address(), &[(4, 0)]);
            for number in 0..250 {
                let path = format!("/v1/watch?prefix=keys/&after={}", number + 2);
                wire.send(&get(2 * number + 1, &path));
            }
            wire
        })
        .collect();
    wait::pass(Duration::from_secs(3), || false);
    for wire in &mut wires {
        let heard = wire.listen_until(SOON, |bytes| !bytes.is_empty());
        assert!(!heard.bytes.is_empty(), "it was heard");
    }
    drop(wires);
    siege.end(
        "1000 pages of 4 MiB asked for at once over 4 connections",
        Bound {
            top_mib: 400,
            after_mib: 160,
        },
    );
}
