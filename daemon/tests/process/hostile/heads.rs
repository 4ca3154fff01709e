//! Heads of requests: huge ones, many headers, odd methods and targets, another protocol altogether, and many requests
//! at once.

use std::time::Duration;

use super::wire::{Wire, request, say, with_body};
use super::{Siege, siege::Bound};
use crate::common::machine;

const SMALL: Bound = Bound {
    top_mib: 64,
    after_mib: 64,
};

#[test]
fn a_head_beyond_its_limits_is_refused_and_one_within_them_is_served() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let headers = |count: usize| -> String { (0..count).map(|n| format!("X{n}: y\r\n")).collect() };
    let one = |bytes: usize| format!("X: {}\r\n", "y".repeat(bytes));
    let check = |of: &str, headers: &str, expected: u16| {
        let heard = say(
            siege.address(),
            &request("GET", b"/v1/status", headers, b""),
        );
        assert_eq!(heard.status(of), expected, "{of}: {}", heard.text());
    };
    check("90 headers", &headers(90), 200);
    check("100 headers", &headers(100), 431);
    check("1000 headers", &headers(1_000), 431);
    check("a header of 15000 bytes", &one(15_000), 200);
    check("a header of 16 KiB", &one(16 << 10), 431);
    check("a header of 100 kB", &one(100_000), 431);
    for bytes in [1_025_usize, 8_000, 16_000] {
        let target = format!("/v1/keys/{}", "a".repeat(bytes));
        let heard = say(siege.address(), &request("GET", target.as_bytes(), "", b""));
        heard.is_problem("a long name", 400, "invalid-name");
    }
    let heard = say(
        siege.address(),
        &request(
            "GET",
            format!("/v1/keys/{}", "a".repeat(70_000)).as_bytes(),
            "",
            b"",
        ),
    );
    assert_eq!(heard.statuses(), [431]);
    let many = format!("/v1/watch?after=0{}", "&prefix=keys/a".repeat(1_100));
    let heard = say(siege.address(), &request("GET", many.as_bytes(), "", b""));
    assert!(
        matches!(heard.status("many parameters"), 200 | 400 | 431),
        "{}",
        heard.text()
    );
    // A head without end: the answer may be lost in the reset that follows it.
    let endless: Vec<_> = (0..8)
        .map(|_| {
            let address = siege.address();
            std::thread::spawn(move || {
                let mut wire = Wire::open(address);
                wire.send(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: ");
                for _ in 0..256 {
                    wire.send(&[b'y'; 64 << 10]);
                }
                wire.listen()
            })
        })
        .collect();
    for thread in endless {
        let heard = thread.join().expect("a client ends");
        assert!(heard.closed && heard.statuses().iter().all(|status| *status == 431));
    }
    siege.end("heads beyond their limits", SMALL);
}

#[test]
fn odd_methods_versions_and_targets_are_refused_and_change_nothing() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    for method in [
        "FOO", "get", "TRACE", "CONNECT", "PRI", "PUT", "PROPFIND", "M-SEARCH", "*",
    ] {
        let heard = say(
            siege.address(),
            &request(method, b"/v1/status", "Content-Length: 0\r\n", b""),
        );
        heard.is_problem(method, 405, "method-not-allowed");
        assert!(
            heard.text().contains("allow: GET, HEAD, PATCH, OPTIONS"),
            "{method}: {}",
            heard.text()
        );
    }
    let long = "A".repeat(20_000);
    for method in ["", "G E T", "G\0T", "GET\t", "GÉT", "(GET)", &long] {
        let heard = say(siege.address(), &request(method, b"/v1/status", "", b""));
        assert!(
            matches!(heard.status(method), 400 | 431),
            "{method}: {}",
            heard.text()
        );
    }
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/3.0",
        "http/1.1",
        "HTTP/1.1 x",
        "HTTP/11",
        "ICY/1.0",
        "",
    ] {
        let bytes = format!("GET /v1/status {version}\r\nHost: localhost\r\n\r\n");
        let heard = say(siege.address(), bytes.as_bytes());
        assert_eq!(heard.statuses(), [400], "{version}");
    }
    let nowhere: [&[u8]; 9] = [
        b"*",
        b"/",
        b"//v1/status",
        b"/v1//status",
        b"/v1/./status",
        b"/v1/../v1/status",
        b"/v1/status/",
        b"/V1/status",
        b"/v1/%73tatus",
    ];
    for target in nowhere {
        let of = String::from_utf8_lossy(target).into_owned();
        say(siege.address(), &request("GET", target, "", b"")).is_problem(
            &of,
            404,
            "route-not-found",
        );
    }
    let malformed: [&[u8]; 5] = [
        b"",
        b"?",
        b"v1/status",
        b"http:///v1/status",
        b"/v1/keys/\"<>",
    ];
    for target in malformed {
        let heard = say(siege.address(), &request("GET", target, "", b""));
        assert_eq!(
            heard.statuses(),
            [400],
            "{}",
            String::from_utf8_lossy(target)
        );
    }
    let overridden = "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nX-Original-URL: /v1/keys/a\r\n";
    say(siege.address(), &with_body("PUT", b"/v1/keys/a", "", b"x"));
    let heard = say(
        siege.address(),
        &request("GET", b"/v1/keys/a?entry=true", overridden, b""),
    );
    assert_eq!(heard.json()["value"], "x", "{}", heard.text());
    siege.end("odd methods, versions and targets", SMALL);
}

#[test]
fn a_request_for_somebody_else_is_refused_however_it_names_them() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let check = |bytes: &str, status: u16, code: &str| {
        say(siege.address(), bytes.as_bytes()).is_problem(bytes, status, code);
    };
    let get = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
    };
    check(&get("/v1/status", "Host: evil.test\r\n"), 403, "forbidden");
    check(
        &get("/v1/status", "Host: localhost.evil.test\r\n"),
        403,
        "forbidden",
    );
    check(
        &get("/v1/status", "Host: localhost@evil.test\r\n"),
        403,
        "forbidden",
    );
    check(&get("/v1/status", "Host: \r\n"), 403, "forbidden");
    check(
        &get("http://evil.test/v1/status", "Host: localhost\r\n"),
        403,
        "forbidden",
    );
    check(
        &get("/v1/status", "Host: localhost\r\nHost: localhost\r\n"),
        400,
        "invalid-request",
    );
    check(
        &get(
            "/v1/status",
            "Host: localhost\r\nOrigin: http://evil.test\r\n",
        ),
        403,
        "forbidden",
    );
    check(
        &get("/v1/status", "Host: localhost\r\nOrigin: null\r\n"),
        403,
        "forbidden",
    );
    // RFC 9112 §3.2: a request of HTTP/1.1 without `Host` is answered 400.
    check(&get("/v1/status", ""), 400, "invalid-request");
    siege.end("requests for somebody else", SMALL);
}

#[test]
fn another_protocol_on_the_port_of_clients_is_told_off_and_forgotten() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let hello = [
        b"\x16\x03\x01\x00\xfa\x01\x00\x00\xf6\x03\x03".as_slice(),
        &[0x55; 240],
    ]
    .concat();
    let mut speech: Vec<Vec<u8>> = vec![
        hello,
        b"\x16\x03\x01".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"EHLO localhost\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        b"\0\0\0\x17\x81\x80".to_vec(),
        vec![0; 4_096],
        vec![0xff; 100_000],
        b"\r\n".repeat(20_000),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &[0xff; 10_000],
        ]
        .concat(),
        b"PRI * HTTP/1.1\r\n\r\n".to_vec(),
    ];
    // The same bytes at every run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..300 {
        let random = (0..length * 7).map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[0]
        });
        speech.push(random.collect());
    }
    for bytes in &speech {
        let heard = Wire::open(siege.address()).send(bytes).finish().listen();
        assert!(heard.closed, "the connection ends");
        assert!(
            heard
                .statuses()
                .iter()
                .all(|status| (400..500).contains(status)),
            "{}",
            heard.text()
        );
    }
    siege.end(
        &format!("{} speeches in other protocols", speech.len()),
        SMALL,
    );
}

#[test]
fn requests_that_come_all_at_once_are_answered_in_order() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    const MANY: usize = 1_000;
    let mut bytes = Vec::new();
    for number in 0..MANY {
        let value = number.to_string();
        bytes.extend(
            format!(
                "PUT /v1/keys/pipelined HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{value}\
                 GET /v1/keys/pipelined HTTP/1.1\r\nHost: localhost\r\n\r\n",
                value.len()
            )
            .bytes(),
        );
    }
    bytes.extend(request("GET", b"/livez", "", b""));
    let mut wire = Wire::open(siege.address());
    let mut sending = Wire(wire.0.try_clone().expect("a connection has another handle"));
    let sender = std::thread::spawn(move || {
        sending.send(&bytes);
    });
    let heard = wire.listen_until(Duration::from_secs(30), |_| false);
    sender.join().expect("the sender ends");
    let statuses = heard.statuses();
    assert_eq!(statuses.len(), 2 * MANY + 1, "each has an answer");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 201)));
    let text = String::from_utf8_lossy(&heard.bytes);
    let read: Vec<usize> = text
        .split("HTTP/1.1 200 OK\r\n")
        .filter(|answer| answer.contains("application/octet-stream"))
        .filter_map(|answer| answer.rsplit_once("\r\n\r\n")?.1.parse().ok())
        .collect();
    assert_eq!(
        read,
        (0..MANY).collect::<Vec<_>>(),
        "each read sees the write before it"
    );
    siege.end(&format!("{} requests in one breath", 2 * MANY), SMALL);
}
