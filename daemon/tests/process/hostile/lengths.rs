//! Bodies that are cut off, and lengths that are wrong or contradict each other. What one server takes for the end of
//! a request and another for its middle is how requests are smuggled (CWE-444): here a request that can be read in two
//! ways is refused, or is the last of its connection.

use super::wire::{Wire, request, say};
use super::{Siege, siege::Bound};
use crate::common::machine;

const SMALL: Bound = Bound {
    top_mib: 64,
    after_mib: 64,
};

/// A request that keeps the connection.
fn put(key: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("PUT /v1/keys/{key} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn smuggled() -> Vec<u8> {
    put("smuggled", "Content-Length: 1\r\n", b"x")
}

fn is_absent(siege: &Siege, key: &str) {
    let read = say(
        siege.address(),
        &request("GET", format!("/v1/keys/{key}").as_bytes(), "", b""),
    );
    assert_eq!(read.status(key), 404, "{}", read.text());
}

#[test]
fn a_second_request_cannot_be_hidden_behind_contradicting_lengths() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let both = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: Chunked\r\n",
    ];
    for headers in both {
        let mut bytes = put("visible", headers, b"0\r\n\r\n");
        bytes.extend(smuggled());
        let heard = say(siege.address(), &bytes);
        assert!(
            heard.closed,
            "{headers}: the connection ends: {}",
            heard.text()
        );
        assert_eq!(heard.statuses().len(), 1, "{headers}: {}", heard.text());
    }
    let refused = [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1.0\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length : 1\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked\u{b}\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: a\r\n folded: b\r\nContent-Length: 1\r\n",
        "X: a\rContent-Length: 1\r\n",
        "X: a\0b\r\n",
        ": a\r\n",
    ];
    for headers in refused {
        let mut bytes = put("hidden", headers, b"1\r\nx\r\n0\r\n\r\n");
        bytes.extend(smuggled());
        let heard = say(siege.address(), &bytes);
        assert!(
            heard.closed,
            "{headers:?}: the connection ends: {}",
            heard.text()
        );
        assert_eq!(heard.statuses(), [400], "{headers:?}: {}", heard.text());
    }
    let old = b"PUT /v1/keys/hidden HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!(say(siege.address(), old).statuses(), [400]);
    is_absent(&siege, "hidden");
    is_absent(&siege, "smuggled");
    siege.end("contradicting lengths", SMALL);
}

#[test]
fn a_body_that_is_cut_off_or_torn_writes_nothing() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let torn: [(&str, &[u8]); 14] = [
        ("Content-Length: 10\r\n", b"hello"),
        ("Content-Length: 1048576\r\n", b""),
        (chunked, b""),
        (chunked, b"5\r\nhello\r\n"),
        (chunked, b"5\r\nhello\r\n0\r\n"),
        (chunked, b"5\r\nhel"),
        (chunked, b"g\r\nhello\r\n0\r\n\r\n"),
        (chunked, b"-5\r\nhello\r\n0\r\n\r\n"),
        (chunked, b"0x5\r\nhello\r\n0\r\n\r\n"),
        (chunked, b" 5\r\nhello\r\n0\r\n\r\n"),
        (chunked, b"5\r\nhelloX\r\n0\r\n\r\n"),
        (chunked, b"5\nhello\n0\n\n"),
        (chunked, b"FFFFFFFFFFFFFFFFF\r\nhello"),
        (chunked, b"ffffffffffffffff\r\nhello"),
    ];
    for (headers, body) in torn {
        let of = format!("{headers:?} {:?}", String::from_utf8_lossy(body));
        let heard = Wire::open(siege.address())
            .send(&put("torn", headers, body))
            .finish()
            .listen();
        assert!(heard.closed, "{of}: the connection ends");
        heard.is_problem(&of, 400, "invalid-request");
    }
    let endless = [
        [b"1;".as_slice(), &[b'e'; 40_000], b"\r\nx\r\n0\r\n\r\n"].concat(),
        [b"0\r\n".as_slice(), &b"T: y\r\n".repeat(5_000), b"\r\n"].concat(),
    ];
    for body in endless {
        let heard = say(siege.address(), &put("torn", chunked, &body));
        assert!(
            heard.closed && heard.statuses() == [400],
            "{}",
            heard.text()
        );
    }
    is_absent(&siege, "torn");
    siege.end("torn bodies", SMALL);
}

#[test]
fn a_body_without_end_is_cut_at_the_limit_and_never_held() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x1_0000], b"\r\n"].concat();
    let crowd: Vec<_> = (0..8)
        .map(|number| {
            let (address, piece) = (siege.address(), piece.clone());
            std::thread::spawn(move || {
                let mut wire = Wire::open(address);
                wire.send(&put(
                    &format!("endless/{number}"),
                    "Transfer-Encoding: chunked\r\n",
                    b"",
                ));
                // 64 MiB, of which a value takes one.
                for _ in 0..1_024 {
                    wire.send(&piece);
                }
                wire.listen()
            })
        })
        .collect();
    for thread in crowd {
        let heard = thread.join().expect("a client ends");
        // The answer may be lost in the reset that follows it; nothing else may be said.
        assert!(heard.closed, "the connection ends");
        assert!(
            heard.statuses().iter().all(|status| *status == 413),
            "{}",
            heard.text()
        );
    }
    for number in 0..8 {
        is_absent(&siege, &format!("endless/{number}"));
    }
    let claims = [
        "Content-Length: 1048577\r\n",
        "Content-Length: 9007199254740992\r\n",
        "Content-Length: 9223372036854775807\r\n",
    ];
    for headers in claims {
        let heard = Wire::open(siege.address())
            .send(&put("claimed", headers, b"x"))
            .finish()
            .listen();
        heard.is_problem(headers, 413, "too-large");
    }
    is_absent(&siege, "claimed");
    siege.end(
        "8 bodies without end",
        Bound {
            top_mib: 96,
            after_mib: 64,
        },
    );
}

#[test]
fn a_body_that_nobody_asked_for_is_refused_and_its_bytes_are_no_request() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let inner = String::from_utf8(smuggled()).expect("it is text");
    for method in ["GET", "DELETE", "OPTIONS", "HEAD"] {
        let bytes = format!(
            "{method} /v1/keys/absent HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        );
        let heard = say(siege.address(), bytes.as_bytes());
        assert_eq!(heard.statuses().len(), 1, "{method}: {}", heard.text());
    }
    is_absent(&siege, "smuggled");
    siege.end("bodies where none is taken", SMALL);
}
