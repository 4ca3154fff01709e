//! Floods of HTTP/2: resets by the thousand, heads without end, frames that cost the receiver more than the sender.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, get, head, heads, open, parse, reset, settled,
};
use super::wire::Wire;
use super::{Siege, full, siege::Bound};
use crate::common::{Client, grant, machine};

const FLOOD: Bound = Bound {
    top_mib: 96,
    after_mib: 64,
};
const PATIENCE: Duration = Duration::from_secs(20);

/// "Rapid reset" (CVE-2023-44487): each request is given up in the same breath, so that no limit of concurrent streams
/// ever bites while the server works for all of them.
#[test]
fn requests_that_are_reset_by_the_thousand_cost_nothing_that_lasts() {
    let _machine = machine::half();
    let siege = Siege::of(3);
    let (connections, resets) = if full() { (40_u32, 5_000) } else { (8, 2_000) };
    let crowd: Vec<_> = (0..connections)
        .map(|number| {
            let address = siege.address();
            std::thread::spawn(move || match number % 2 {
                0 => reset_in_haste(address, resets),
                _ => reset_in_step(address, resets),
            })
        })
        .collect();
    let (mut sent, mut opened) = (0_u32, 0_u32);
    for thread in crowd {
        let (of_one, connections) = thread.join().expect("a client ends");
        sent += of_one;
        opened += connections;
    }
    siege.end(
        &format!("{sent} requests reset over {opened} connections of HTTP/2"),
        // Each of the connections may have so many requests at a time, and what they took is kept for the next ones.
        Bound {
            top_mib: 8 + 8 * u64::from(connections),
            after_mib: 8 + 8 * u64::from(connections),
        },
    );
}

/// The `number`th request of a connection, and in the same breath that it is not wanted any more.
fn regretted(number: u32) -> Vec<u8> {
    const PATHS: [&str; 3] = [
        "/v1/watch?prefix=keys/&wait_ms=60000",
        "/v1/keys/probe/1",
        "/v1/keys?prefix=",
    ];
    let stream = 2 * number + 1;
    let path = PATHS[(number % 3) as usize];
    [get(stream, path), reset(stream)].concat()
}

/// As fast as bytes are taken: the member ends such connections, and new ones are opened. How many requests were sent,
/// and over how many connections.
fn reset_in_haste(address: SocketAddr, resets: u32) -> (u32, u32) {
    let (mut sent, mut opened) = (0, 0);
    while sent < resets {
        let mut wire = open(address, &[]);
        opened += 1;
        let mut number = 0;
        while sent < resets {
            let bytes: Vec<u8> = (number..number + 50).flat_map(regretted).collect();
            if wire.0.write_all(&bytes).is_err() {
                break;
            }
            number += 50;
            sent += 50;
            // Heard is only whether it hung up.
            if wire
                .listen_until(Duration::from_micros(200), |_| false)
                .closed
            {
                break;
            }
        }
    }
    (sent, opened)
}

/// So that no more are given up at a time than may be: each is begun and ended by the member.
fn reset_in_step(address: SocketAddr, resets: u32) -> (u32, u32) {
    let mut wire = open(address, &[]);
    for first in (0..resets).step_by(100) {
        let bytes: Vec<u8> = (first..first + 100).flat_map(regretted).collect();
        wire.send(&bytes);
        assert!(
            settled(&mut wire, PATIENCE),
            "a client that gives up 100 requests at a time was cut off"
        );
    }
    (resets, 1)
}

/// CONTINUATION flood (VU#421644): a head that never ends, over which nothing was ever asked.
#[test]
fn a_head_without_end_ends_its_connection() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let (connections, mib) = if full() { (64, 64) } else { (8, 16) };
    let crowd: Vec<_> = (0..connections)
        .map(|number: usize| {
            let address = siege.address();
            std::thread::spawn(move || {
                let mut wire = open(address, &[]);
                wire.send(&frame(HEADERS, END_STREAM, 1, &block("GET", "/v1/status", &[])));
                // Headers that are whole, headers that are never whole, and frames with nothing in them.
                let whole: Vec<u8> = (0..200).flat_map(|_| b"\0\x01x\x40yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy".to_vec()).collect();
                let payload: &[u8] = match number % 3 {
                    0 => &whole,
                    1 => &[0x7f; 16 << 10],
                    _ => b"",
                };
                let piece = frame(CONTINUATION, 0, 1, payload).repeat(if payload.is_empty() { 1_000 } else { 4 });
                let mut sent = 0;
                while sent < mib << 20 && wire.0.write_all(&piece).is_ok() {
                    sent += piece.len();
                }
                let heard = wire.listen();
                (sent, heard.closed)
            })
        })
        .collect();
    let mut sent = 0;
    for thread in crowd {
        let (of_one, closed) = thread.join().expect("a client ends");
        assert!(closed, "the connection ends");
        sent += of_one;
    }
    siege.end(
        &format!(
            "{connections} heads without end, {} KiB taken of them",
            sent >> 10
        ),
        FLOOD,
    );
}

/// The floods of 2019 (CVE-2019-9511 to -9518) and their kin: each frame is legal or nearly so.
#[test]
fn frames_that_cost_more_than_they_say_are_bounded() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let times = if full() { 200_000 } else { 20_000 };
    let body = frame(
        HEADERS,
        END_HEADERS,
        1,
        &block("PUT", "/v1/keys/flooded", &[]),
    );
    // An entry of 4 KiB is put into the table once and asked for a thousand times: a "bomb" (CVE-2016-6581).
    let mut bomb = block("GET", "/v1/status", &[]);
    bomb.extend(b"\x40\x01x\x7f\x81\x1e");
    bomb.extend(vec![b'y'; 127 + 128 * 30 + 1]);
    bomb.extend(vec![0xbe; 4_000]);
    let floods: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("pings", Vec::new(), frame(PING, 0, 0, b"12345678")),
        (
            "settings",
            Vec::new(),
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]),
        ),
        (
            "priorities",
            Vec::new(),
            frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 7]),
        ),
        (
            "windows",
            Vec::new(),
            frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        ),
        ("empty data", body.clone(), frame(DATA, 0, 1, b"")),
        (
            "padding",
            body.clone(),
            frame(DATA, 8, 1, &[vec![255], vec![0; 255]].concat()),
        ),
        (
            "unknown frames",
            Vec::new(),
            frame(0x77, 0xff, 0, &[7; 100]),
        ),
        (
            "bombs",
            Vec::new(),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb),
        ),
    ];
    for (what, first, flood) in floods {
        let mut wire = open(siege.address(), &[]);
        wire.send(&first);
        let piece = flood.repeat(100);
        let mut sent = 0;
        // Nothing is read meanwhile: what the member answers has nowhere to go.
        wire.0
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("a connection has options");
        while sent < times && wire.0.write_all(&piece).is_ok() {
            sent += 100;
        }
        eprintln!("hostile: {what}: {sent} frames taken");
    }
    siege.end("floods of small frames", FLOOD);
}

#[test]
fn frames_that_break_the_rules_end_their_connection_or_their_stream() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let request = get(1, "/v1/status");
    let upper = block("GET", "/v1/status", &[("X-Upper", "a")]);
    let connection = block("GET", "/v1/status", &[("connection", "close")]);
    let encoding = block("POST", "/v1/leases", &[("transfer-encoding", "chunked")]);
    let lengths = block("PUT", "/v1/keys/hidden", &[("content-length", "1")]);
    let forged = block(
        "PUT",
        "/v1/keys/hidden",
        &[("x", "a\r\nContent-Length: 0\r\n\r\nDELETE /")],
    );
    let spaced = block("PUT", "/v1/keys/hidden", &[("x y", "a")]);
    let wrongs: Vec<(&str, Vec<u8>)> = vec![
        ("a frame of 16 MiB", head((1 << 24) - 1, DATA, 0, 1)),
        ("data without a stream", frame(DATA, 0, 0, b"x")),
        (
            "data on a stream never opened",
            frame(DATA, END_STREAM, 9, b"x"),
        ),
        ("a head on an even stream", get(2, "/v1/status")),
        ("a head on stream 0", get(0, "/v1/status")),
        (
            "the same stream twice",
            [request.clone(), request.clone()].concat(),
        ),
        (
            "a stream that goes back",
            [get(5, "/v1/status"), get(3, "/v1/status")].concat(),
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
        ),
        (
            "something between a head and its end",
            [
                frame(HEADERS, 0, 1, b"\x82"),
                frame(PING, 0, 0, b"12345678"),
            ]
            .concat(),
        ),
        (
            "a table index that is not there",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[0xff, 0xff, 0xff, 0x7f],
            ),
        ),
        (
            "an integer without end",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 64]),
        ),
        (
            "a string longer than the block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x7f\xff\xff\x7f"),
        ),
        (
            "bad Huffman",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                b"\0\x84\xff\xff\xff\xff\x01a",
            ),
        ),
        (
            "a table grown beyond its limit",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                b"\x3f\xff\xff\xff\x07",
            ),
        ),
        (
            "no pseudo-headers",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b"),
        ),
        (
            "an empty head",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b""),
        ),
        (
            "upper case",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &upper),
        ),
        (
            "a header of connections",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &connection),
        ),
        (
            "chunks",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &encoding),
        ),
        (
            "a line break in a header",
            [
                frame(HEADERS, END_HEADERS, 1, &forged),
                frame(DATA, END_STREAM, 1, b"x"),
            ]
            .concat(),
        ),
        (
            "a space in a name",
            [
                frame(HEADERS, END_HEADERS, 1, &spaced),
                frame(DATA, END_STREAM, 1, b"x"),
            ]
            .concat(),
        ),
        (
            "more data than told",
            [
                frame(HEADERS, END_HEADERS, 1, &lengths),
                frame(DATA, END_STREAM, 1, b"xx"),
            ]
            .concat(),
        ),
        (
            "less data than told",
            [
                frame(HEADERS, END_HEADERS, 1, &lengths),
                frame(DATA, END_STREAM, 1, b""),
            ]
            .concat(),
        ),
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window too large",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2),
        ),
        ("settings of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        (
            "a window of 4 GiB in settings",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "a frame size of nothing",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 0]),
        ),
        ("a ping of 7 bytes", frame(PING, 0, 0, &[0; 7])),
        ("a reset of nothing", frame(RST_STREAM, 0, 0, &[0; 4])),
        ("a reset of an idle stream", reset(7)),
        ("a good-bye with garbage", frame(GOAWAY, 0, 0, &[0xff; 100])),
        (
            "padding longer than the frame",
            frame(DATA, 8, 1, &[255, 0]),
        ),
        (
            "priority of itself",
            frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 0]),
        ),
        ("push", frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
    ];
    for (what, bytes) in &wrongs {
        let mut wire = open(siege.address(), &[]);
        wire.send(bytes).finish();
        let heard = wire.listen();
        assert!(heard.closed, "{what}: the connection ends");
        let server_errors = parse(&heard.bytes)
            .iter()
            .filter(|came| came.kind == HEADERS)
            // `:status 500` in the static table.
            .any(|came| came.payload.first() == Some(&0x8e));
        assert!(!server_errors, "{what}");
    }
    let read = siege
        .client()
        .get("/v1/keys/hidden")
        .expect("the member answers");
    assert_eq!(
        read.status,
        404,
        "a torn write was applied: {}",
        read.text()
    );
    siege.end(&format!("{} frames against the rules", wrongs.len()), FLOOD);
}

/// Puts four values of 1 MiB, which are pages of 4 MiB and snapshots of as much.
fn put_four_large(client: &mut Client) {
    for number in 0..4 {
        let value = vec![b'v'; 1 << 20];
        client
            .put(&format!("/v1/keys/large/{number}"), &value)
            .expect("the member answers")
            .expect(201);
    }
}

/// CVE-2019-9517 and its kin: large answers are asked for and no room is given to send them.
#[test]
fn answers_that_nobody_takes_do_not_pile_up() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    put_four_large(&mut client);
    // Whoever asks for a page makes the member write it out: that takes a build without optimisation a while.
    let (connections, pages) = if full() { (4, 100) } else { (1, 100) };
    let path = "/v1/keys?prefix=large/1";
    let mut wires: Vec<Wire> = Vec::new();
    for _ in 0..connections {
        // No window: nothing of any body may be sent.
        let mut wire = open(siege.address(), &[(4, 0)]);
        for number in 0..pages {
            wire.send(&get(2 * number + 1, path));
        }
        wires.push(wire);
    }
    let mut answered = 0;
    for wire in &mut wires {
        // It may be a while: each page is read and written out, and those without room are thrown away.
        let heard = wire.listen_until(4 * PATIENCE, |bytes| heads(bytes) >= pages);
        answered += heads(&heard.bytes);
    }
    eprintln!("hostile: {answered} heads of answers came, and no body");
    // A small thing is still to be had, over the same connections too.
    let mut other = open(siege.address(), &[]);
    other.send(&get(1, "/v1/status"));
    assert!(settled(&mut other, PATIENCE));
    drop(wires);
    siege.end(
        &format!(
            "{} pages of 1 MiB asked for over {connections} connections and not taken",
            connections * pages,
        ),
        Bound {
            top_mib: if full() { 400 } else { 80 },
            after_mib: if full() { 300 } else { 128 },
        },
    );
}

/// A few connections that ask for much and take nothing of it leave room for the answers of others.
#[test]
fn connections_that_take_nothing_of_large_values_leave_room_for_the_values_of_others() {
    const CONNECTIONS: usize = 11;
    const VALUES: u32 = 40;
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    let value = vec![b'v'; 900 << 10];
    client
        .put("/v1/keys/large", &value)
        .expect("the member answers")
        .expect(201);
    let mut wires: Vec<Wire> = (0..CONNECTIONS)
        .map(|_| open(siege.address(), &[(4, 0)]))
        .collect();
    for wire in &mut wires {
        for number in 0..VALUES {
            wire.send(&get(2 * number + 1, "/v1/keys/large"));
        }
        let heard = wire.listen_until(PATIENCE, |bytes| heads(bytes) >= VALUES);
        assert_eq!(heads(&heard.bytes), VALUES);
    }
    for _ in 0..5 {
        let answer = siege.client().get("/v1/keys/large");
        let answer = answer.expect("the member answers").expect(200);
        assert_eq!(answer.text().len(), value.len());
    }
    drop(wires);
    siege.end(
        &format!("{VALUES} values of 900 KiB not taken on each of {CONNECTIONS} connections"),
        Bound {
            top_mib: 96,
            after_mib: 96,
        },
    );
}

/// A connection has one turn at making pages at a time, and what does not have its turn soon is refused.
#[test]
fn whoever_asks_for_hundreds_of_pages_is_refused_most_of_them_and_holds_up_nobody_else() {
    const PAGES: u32 = 250;
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    put_four_large(&mut client);
    let began = Instant::now();
    let page = client.get("/v1/keys?prefix=large/");
    page.expect("the member answers").expect(200);
    let one = began.elapsed();
    let mut wire = open(siege.address(), &[(4, 0)]);
    let began = Instant::now();
    for number in 0..PAGES {
        wire.send(&get(2 * number + 1, "/v1/keys?prefix=large/"));
    }
    let page = client
        .get("/v1/keys?prefix=large/&keys_only=true")
        .expect("the member answers")
        .expect(200);
    assert_eq!(page.u64("count"), 4);
    let served = began.elapsed();
    let heard = wire.listen_until(4 * PATIENCE, |bytes| heads(bytes) >= PAGES);
    assert_eq!(heads(&heard.bytes), PAGES);
    let answered = began.elapsed();
    eprintln!(
        "hostile: one page takes {one:?}; another's came after {served:?}, and all {PAGES} heads after {answered:?}"
    );
    // To make them all takes far longer, the more the busier the machine is; a turn comes within a second, or not.
    let all = PAGES * one;
    assert!(served < (all / 4).max(Duration::from_secs(1)), "{served:?}");
    assert!(
        answered < (all / 2).max(Duration::from_secs(4)),
        "{answered:?}"
    );
    drop(wire);
    siege.end(
        &format!("{PAGES} pages of 4 MiB asked for at once over one connection"),
        Bound {
            top_mib: 96,
            after_mib: 96,
        },
    );
}

/// CVE-2019-9517 with streams of events, whose first message is all there is.
#[test]
fn snapshots_on_streams_that_nobody_takes_do_not_pile_up() {
    const STREAMS: u32 = 40;
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    put_four_large(&mut client);
    let mut wire = open(siege.address(), &[(4, 0)]);
    let path = "/v1/watch?prefix=keys/large/&snapshot=true";
    for number in 0..STREAMS {
        let block = block("GET", path, &[("accept", "text/event-stream")]);
        let stream = 2 * number + 1;
        wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
    }
    // Some are opened, and the others refused.
    let heard = wire.listen_until(4 * PATIENCE, |bytes| heads(bytes) >= STREAMS);
    assert_eq!(heads(&heard.bytes), STREAMS);
    let mut other = open(siege.address(), &[]);
    other.send(&get(1, "/v1/status"));
    assert!(settled(&mut other, PATIENCE));
    drop(wire);
    siege.end(
        &format!("{STREAMS} snapshots of 4 MiB asked for as streams and not taken"),
        Bound {
            top_mib: 96,
            after_mib: 96,
        },
    );
}

#[test]
fn an_answer_without_room_says_what_was_done_and_whether_to_ask_again() {
    let _machine = machine::half();
    let siege = Siege::of(1);
    let mut client = siege.client();
    let put = |client: &mut Client, key: &str, length: usize| {
        let answer = client.put(&format!("/v1/keys/{key}"), &vec![b'v'; length]);
        answer.expect("the member answers").expect(201);
    };
    put(&mut client, "large", 1 << 20);
    put(&mut client, "less", 100 << 10);
    let lease = grant(&mut client, 600_000);
    for owner in 0..40 {
        let share = json!({ "lease": lease, "owner": owner.to_string(), "mode": "shared",
            "metadata": { "why": "x".repeat(4000) } });
        let held = client.post("/v1/locks/l", &share);
        held.expect("the member answers").expect(200);
    }

    // No window: nothing of any body may be sent, until its stream has one.
    let mut wire = open(siege.address(), &[(4, 0)]);
    let mut stream = 1;
    let mut ask = |wire: &mut Wire, path: &str, times: u32| {
        for number in 0..times {
            wire.send(&get(stream + 2 * number, path));
        }
        stream += 2 * times;
        wire.listen_until(4 * PATIENCE, |bytes| heads(bytes) >= times);
    };
    ask(&mut wire, "/v1/keys/large", 60);
    ask(&mut wire, "/v1/keys/less", 20);

    let mut stream = 1_001;
    let mut told = |method: &str, path: &str, headers: &[(&str, &str)], body: &Value| {
        let mut sent = vec![("content-type", "application/json")];
        sent.extend(headers);
        let (flags, with_body) = match body.is_null() {
            true => (END_HEADERS | END_STREAM, false),
            false => (END_HEADERS, true),
        };
        let head = match with_body {
            true => block(method, path, &sent),
            false => block(method, path, headers),
        };
        wire.send(&frame(HEADERS, flags, stream, &head));
        if with_body {
            let body = body.to_string();
            wire.send(&frame(DATA, END_STREAM, stream, body.as_bytes()));
        }
        wire.listen_until(PATIENCE, |bytes| {
            let mut came = parse(bytes).into_iter();
            came.any(|came| came.kind == HEADERS && came.stream == stream)
        });
        let window = (64_u32 << 10) - 1;
        wire.send(&frame(WINDOW_UPDATE, 0, stream, &window.to_be_bytes()));
        let data = |bytes: &[u8]| -> Vec<u8> {
            let came = parse(bytes).into_iter();
            let data = came.filter(|came| came.kind == DATA && came.stream == stream);
            data.flat_map(|came| came.payload).collect()
        };
        let is_whole = |bytes: &[u8]| serde_json::from_slice::<Value>(&data(bytes)).is_ok();
        let heard = wire.listen_until(PATIENCE, is_whole);
        let problem: Value = serde_json::from_slice(&data(&heard.bytes)).expect("a problem came");
        stream += 2;
        ["code", "outcome", "retry"].map(|field| problem[field].as_str().unwrap_or("").to_owned())
    };
    let writes = json!({ "then": [{ "put": { "key": "n", "value": "x" } },
        { "get": { "key": "large" } }] });
    let unknown = |retry| ["outcome-unknown", "unknown", retry];
    let overloaded = ["overloaded", "not_applied", "after"];
    let key = ("idempotency-key", "k");
    assert_eq!(told("POST", "/v1/txn", &[], &writes), unknown("never"));
    assert_eq!(told("POST", "/v1/txn", &[key], &writes), unknown("same"));
    assert_eq!(told("GET", "/v1/keys/large", &[], &Value::Null), overloaded);
    // Refused with all its holders: nothing was done.
    let refused = json!({ "lease": lease, "owner": "other" });
    assert_eq!(told("POST", "/v1/locks/l", &[], &refused), overloaded);

    let answer = client.call(
        "POST",
        "/v1/txn",
        &[("content-type", "application/json"), key],
        writes.to_string().as_bytes(),
    );
    let answer = answer.expect("the member answers").expect(200);
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    drop(wire);
    siege.end("answers without room", FLOOD);
}

#[test]
fn a_frame_cut_anywhere_is_no_frame() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let whole = [
        frames::greeting(&[]),
        frame(HEADERS, END_HEADERS, 1, &block("PUT", "/v1/keys/cut", &[])),
        frame(DATA, END_STREAM, 1, b"whole"),
    ]
    .concat();
    for end in 0..whole.len() {
        let mut wire = Wire::open(siege.address());
        wire.send(&whole[..end]).finish();
        assert!(wire.listen().closed, "cut at {end}");
    }
    let read = siege
        .client()
        .get("/v1/keys/cut")
        .expect("the member answers");
    assert_eq!(
        read.status,
        404,
        "a torn write was applied: {}",
        read.text()
    );
    siege.end("requests cut anywhere", FLOOD);
}
