//! Garbage on the port of members: nobody without the handshake of a member is listened to, and no message of one who
//! has it is believed beyond its bytes.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, get, greeting, head,
    open, parse, reset,
};
use super::wire::{Heard, Wire};
use super::{Siege, full, siege::Bound};
use crate::common::machine;

const FLOOD: Bound = Bound {
    top_mib: 128,
    after_mib: 64,
};
/// The lanes of `transport`.
const LANES: [&str; 3] = ["/raft/urgent", "/raft/append", "/raft/snapshot"];

/// What a member says of itself on its peer port.
fn hello(siege: &Siege) -> Value {
    let mut wire = open(siege.peer_address(), &[]);
    wire.send(&get(1, "/hello"));
    answer(&mut wire, 1)
}

/// The JSON that came on a stream.
fn answer(wire: &mut Wire, stream: u32) -> Value {
    let ended = |bytes: &[u8]| {
        parse(bytes).iter().any(|came| {
            came.stream == stream
                && matches!(came.kind, DATA | HEADERS)
                && came.flags & END_STREAM != 0
        })
    };
    body(&wire.listen_until(Duration::from_secs(5), ended), stream)
}

fn body(heard: &Heard, stream: u32) -> Value {
    let data: Vec<u8> = parse(&heard.bytes)
        .into_iter()
        .filter(|came| came.kind == DATA && came.stream == stream)
        .flat_map(|came| came.payload)
        .collect();
    serde_json::from_slice(&data).unwrap_or(Value::Null)
}

/// The head of a stream of messages.
fn stream(lane: &str, cluster: &str, from: &str, to: &str, version: &str) -> Vec<u8> {
    let headers = [
        ("tenure-cluster", cluster),
        ("tenure-from", from),
        ("tenure-to", to),
        ("tenure-wire-version", version),
    ];
    frame(HEADERS, END_HEADERS, 1, &block("POST", lane, &headers))
}

/// A message frame with a true checksum, whatever is in it (`transport::frame`).
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let counted = [&[1, kind], body].concat();
    let length = u32::try_from(counted.len()).expect("a frame is short");
    [
        &length.to_be_bytes()[..],
        &crc32c::crc32c(&counted).to_be_bytes()[..],
        &counted,
    ]
    .concat()
}

/// Bytes that are the same at every run.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    seed |= 1;
    (0..length)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_be_bytes()[3]
        })
        .collect()
}

#[test]
fn strangers_on_the_port_of_members_are_told_off_and_forgotten() {
    let _machine = machine::half();
    let siege = Siege::of(3);
    let address = siege.peer_address();
    let mut speech: Vec<Vec<u8>> = (0..300_usize).map(|n| noise(n * 13, n as u64)).collect();
    speech.extend([
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x00\xfa\x01\x00\x00\xf6\x03\x03".to_vec(),
        frames::PREFACE.to_vec(),
        [frames::PREFACE, &noise(50_000, 7)].concat(),
        [greeting(&[]), noise(50_000, 8)].concat(),
        [greeting(&[]), head((1 << 24) - 1, DATA, 0, 1)].concat(),
        [
            greeting(&[]),
            head((1 << 24) - 1, HEADERS, 4, 1),
            noise(100_000, 9),
        ]
        .concat(),
        [greeting(&[]), frame(DATA, 0, 1, &noise(1_000, 10))].concat(),
    ]);
    for bytes in &speech {
        let heard = Wire::open(address).send(bytes).finish().listen();
        assert!(heard.closed, "the connection ends");
    }
    // More than it takes, idle: the members among themselves are not kept out, or the leader would be lost.
    let idle: Vec<Wire> = (0..600).map(|_| Wire::open(address)).collect();
    let many = if full() { 20_000 } else { 4_000 };
    let mut sent = 0;
    while sent < many {
        let mut wire = open(address, &[]);
        for number in 0..many {
            let stream = 2 * number + 1;
            if wire
                .0
                .write_all(&[get(stream, "/hello"), reset(stream)].concat())
                .is_err()
            {
                break;
            }
            sent += 1;
        }
    }
    for payload in [&b""[..], &[0x7f; 16 << 10]] {
        let mut wire = open(address, &[]);
        wire.send(&frame(HEADERS, 0, 1, &block("GET", "/hello", &[])));
        let piece = frame(CONTINUATION, 0, 1, payload);
        let mut times = 0;
        while times < 10_000 && wire.0.write_all(&piece).is_ok() {
            times += 1;
        }
        assert!(
            wire.listen().closed,
            "a head without end ends its connection"
        );
    }
    drop(idle);
    let said = hello(&siege);
    assert!(said["member"].is_string(), "it still answers: {said}");
    siege.end(
        &format!(
            "{} speeches, 600 idle connections and {sent} resets on the port of members",
            speech.len()
        ),
        FLOOD,
    );
}

#[test]
fn nobody_is_listened_to_without_the_handshake_of_a_member() {
    let _machine = machine::shared();
    let siege = Siege::of(3);
    let said = hello(&siege);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (cluster, own) = (text(&said["cluster"]), text(&said["member"]));
    let other = said["known_names"]
        .as_object()
        .and_then(|names| names.values().map(text).find(|id| *id != own))
        .expect("there are others");
    let zeros = "0".repeat(32);
    let long = "f".repeat(10_000);
    let check = |cluster: &str, from: &str, to: &str, version: &str, expected: &str| {
        for lane in LANES {
            let mut wire = open(siege.peer_address(), &[]);
            wire.send(&stream(lane, cluster, from, to, version));
            wire.send(&frame(DATA, 0, 1, &message(1, &noise(100, 3))));
            let refusal = answer(&mut wire, 1);
            assert_eq!(
                refusal["code"], expected,
                "{cluster} {from} {to} {version}: {refusal}"
            );
        }
    };
    check(&zeros, &other, &own, "1", "wrong-cluster");
    check(&cluster, &other, &other, "1", "wrong-member");
    check(&cluster, &own, &own, "1", "unknown-member");
    check(&cluster, "00000000000000aa", &own, "1", "unknown-member");
    check(&cluster, &other, &own, "2", "unsupported-wire-version");
    check(&cluster, &other, &own, "", "unsupported-wire-version");
    check("x", &other, &own, "1", "invalid-handshake");
    check(&long, &other, &own, "1", "invalid-handshake");
    check(&cluster, "", &own, "1", "invalid-handshake");
    for (method, path, json) in [
        ("POST", "/form", "{}"),
        ("POST", "/form", "[[[[["),
        (
            "POST",
            "/form",
            "{\"cluster\":\"00000000000000000000000000000001\",\"members\":[]}",
        ),
        ("DELETE", "/hello", ""),
        ("POST", "/raft/other", ""),
    ] {
        let mut wire = open(siege.peer_address(), &[]);
        wire.send(&frame(HEADERS, END_HEADERS, 1, &block(method, path, &[])));
        wire.send(&frame(DATA, END_STREAM, 1, json.as_bytes()));
        let refusal = answer(&mut wire, 1);
        assert!(refusal["code"].is_string(), "{method} {path}: {refusal}");
    }
    // An offer without end is not held.
    let mut wire = open(siege.peer_address(), &[]);
    wire.send(&frame(
        HEADERS,
        END_HEADERS,
        1,
        &block("POST", "/form", &[]),
    ));
    for _ in 0..200 {
        wire.send(&frame(DATA, 0, 1, &[b'['; 16 << 10]));
    }
    drop(wire);
    assert_eq!(hello(&siege)["cluster"], said["cluster"]);
    siege.end("handshakes that are none", FLOOD);
}

/// Whoever knows the ids can pass for a member while there are no certificates: its garbage must do no more than end
/// its own stream.
#[test]
fn garbage_behind_a_good_handshake_ends_its_stream_and_nothing_else() {
    let _machine = machine::shared();
    let siege = Siege::of(3);
    let said = hello(&siege);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (cluster, own) = (text(&said["cluster"]), text(&said["member"]));
    let other = said["known_names"]
        .as_object()
        .and_then(|names| names.values().map(text).find(|id| *id != own))
        .expect("there are others");
    let mut garbage: Vec<Vec<u8>> = vec![
        noise(1_000, 1),
        vec![0; 64],
        vec![0xff; 64],
        // A length that no sender writes, and the greatest one that is possible with nothing behind it.
        (u32::MAX).to_be_bytes().to_vec(),
        (16_u32 << 20).to_be_bytes().to_vec(),
        message(200, b"of a kind that is not known"),
    ];
    for kind in 0..32 {
        garbage.push(message(kind, &noise(200, u64::from(kind) + 5)));
        garbage.push(message(kind, &[0xff; 12]));
    }
    for (number, bytes) in garbage.iter().enumerate() {
        // The snapshot lane is the one whose loss is felt least by the two whose names are used.
        let mut wire = open(siege.peer_address(), &[]);
        wire.send(&stream("/raft/snapshot", &cluster, &other, &own, "1"));
        wire.send(&frame(DATA, END_STREAM, 1, bytes));
        let last_words = answer(&mut wire, 1);
        let code = last_words["code"].as_str().unwrap_or_default();
        assert!(
            matches!(code, "corrupt-frame" | "superseded" | ""),
            "garbage {number}: {last_words}"
        );
    }
    // Half of a frame of the greatest size, over and over: what does not arrive is not waited for in memory.
    let mut wires: Vec<Wire> = Vec::new();
    for _ in 0..8 {
        let mut wire = open(siege.peer_address(), &[]);
        wire.send(&stream("/raft/snapshot", &cluster, &other, &own, "1"));
        let claim = [&(16_u32 << 20).to_be_bytes()[..], &[0; 1_000]].concat();
        wire.send(&frame(DATA, 0, 1, &claim));
        wires.push(wire);
    }
    drop(wires);
    siege.cluster.wait_until_equal();
    siege.end(&format!("{} messages of garbage", garbage.len()), FLOOD);
}
