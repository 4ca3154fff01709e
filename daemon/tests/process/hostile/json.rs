//! JSON that is deep, double, or at the edges of its numbers, and what is not JSON at all.

use super::wire::{Heard, say, with_body};
use super::{Siege, siege::Bound};
use crate::common::machine;

const SMALL: Bound = Bound {
    top_mib: 96,
    after_mib: 64,
};
const JSON: &str = "Content-Type: application/json\r\n";

fn grant(siege: &Siege, headers: &str, body: &[u8]) -> Heard {
    say(
        siege.address(),
        &with_body("POST", b"/v1/leases", headers, body),
    )
}

fn refused(siege: &Siege, of: &str, body: &[u8], names: &str) {
    let answer = grant(siege, JSON, body);
    answer.is_problem(of, 400, "invalid-request");
    let detail = answer.json()["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(detail.contains(names), "{of}: {detail}");
}

#[test]
fn a_number_at_the_edge_is_taken_exactly_or_refused() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let numbers = [
        ("15000.0", "`ttl_ms`"),
        ("1.5e4", "`ttl_ms`"),
        ("-0", "`ttl_ms`"),
        ("-1", "`ttl_ms`"),
        ("1e400", "number out of range"),
        ("1e-400", "`ttl_ms`"),
        ("18446744073709551616", "`ttl_ms`"),
        ("015000", "not JSON"),
        ("+15000", "not JSON"),
        ("0x3a98", "not JSON"),
        ("NaN", "not JSON"),
        ("Infinity", "not JSON"),
        ("\"15000\"", "`ttl_ms`"),
        ("null", "`ttl_ms`"),
        ("true", "`ttl_ms`"),
        ("[15000]", "`ttl_ms`"),
        ("{}", "`ttl_ms`"),
    ];
    for (number, names) in numbers {
        refused(
            &siege,
            number,
            format!("{{\"ttl_ms\":{number}}}").as_bytes(),
            names,
        );
    }
    let long = format!("{{\"ttl_ms\":1{}}}", "0".repeat(100_000));
    refused(
        &siege,
        "a number of 100001 digits",
        long.as_bytes(),
        "number out of range",
    );
    for number in [
        "0",
        "999",
        "86400001",
        "9007199254740992",
        "9007199254740993",
        "18446744073709551615",
    ] {
        let answer = grant(&siege, JSON, format!("{{\"ttl_ms\":{number}}}").as_bytes());
        answer.is_problem(number, 400, "ttl-out-of-range");
        let detail = answer.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            detail.contains(&format!("is {number};")),
            "{number} is not changed: {detail}"
        );
    }
    for number in [
        "9007199254740992",
        "-0",
        "1.0",
        "1e1",
        "18446744073709551616",
        "",
        "+1",
        " 1",
        "%2B1",
        "١",
    ] {
        let target = format!("/v1/watch?prefix=keys/&after={number}");
        let target = target.replace(' ', "%20");
        let heard = say(
            siege.address(),
            &super::wire::request("GET", target.as_bytes(), "", b""),
        );
        heard.is_problem(&target, 400, "invalid-request");
    }
    siege.end("numbers at the edge", SMALL);
}

#[test]
fn deep_wide_and_double_json_is_refused_by_name() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let deep = |open: &str, times: usize| {
        format!("{{\"ttl_ms\":15000,\"metadata\":{}", open.repeat(times))
    };
    refused(
        &siege,
        "deep arrays",
        deep("[", 1_000_000).as_bytes(),
        "`metadata`",
    );
    refused(
        &siege,
        "deep objects",
        deep("{\"a\":", 400_000).as_bytes(),
        "`metadata",
    );
    refused(
        &siege,
        "deep unknown",
        format!("{{\"x\":{}", "[".repeat(1_000_000)).as_bytes(),
        "unknown field `x`",
    );
    let wide: Vec<String> = (0..150_000)
        .map(|field| format!("\"f{field}\":1"))
        .collect();
    refused(
        &siege,
        "wide",
        format!("{{{}}}", wide.join(",")).as_bytes(),
        "unknown field `f0`",
    );
    let wide: Vec<String> = (0..150_000)
        .map(|field| format!("\"f{field}\":\"\""))
        .collect();
    let wide = format!("{{\"ttl_ms\":15000,\"metadata\":{{{}}}}}", wide.join(","));
    refused(&siege, "wide metadata", wide.as_bytes(), "at most 4096");
    let double = [
        (
            "{\"ttl_ms\":15000,\"ttl_ms\":15000}",
            "duplicate field `ttl_ms`",
        ),
        (
            "{\"ttl_ms\":15000,\"\\u0074tl_ms\":1000}",
            "duplicate field `ttl_ms`",
        ),
        (
            "{\"ttl_ms\":15000,\"metadata\":{\"a\":\"1\",\"a\":\"2\"}}",
            "`a`",
        ),
        (
            "{\"ttl_ms\":15000,\"metadata\":{\"a\":\"1\",\"\\u0061\":\"1\"}}",
            "`a`",
        ),
        (
            "{\"ttl_ms\":15000,\"__proto__\":{}}",
            "unknown field `__proto__`",
        ),
        ("{\"ttl_ms\":15000,\"TTL_MS\":1}", "unknown field `TTL_MS`"),
    ];
    for (body, names) in double {
        refused(&siege, body, body.as_bytes(), names);
    }
    siege.end("deep, wide and double JSON", SMALL);
}

#[test]
fn what_is_not_json_is_refused_whatever_it_says_it_is() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let bodies: [&[u8]; 22] = [
        b"",
        b" ",
        b"null",
        b"[]",
        b"\"{}\"",
        b"{",
        b"{}{}",
        b"{\"ttl_ms\":15000}x",
        b"{\"ttl_ms\":15000,}",
        b"{'ttl_ms':15000}",
        b"{ttl_ms:15000}",
        b"{\"ttl_ms\":15000/**/}",
        b"\xef\xbb\xbf{\"ttl_ms\":15000}",
        b"\xff\xfe{\0}\0",
        b"\x1f\x8b\x08\0",
        b"{\"ttl_ms\":15000,\"name\":\"\xff\"}",
        b"{\"ttl_ms\":15000,\"name\":\"\xc0\xaf\"}",
        b"{\"ttl_ms\":15000,\"name\":\"\\ud800\"}",
        b"{\"ttl_ms\":15000,\"name\":\"a\x01\"}",
        b"{\"ttl_ms\":15000,\"name\":\"a\\u0000\"}",
        b"{\"ttl_ms\":15000,\"name\":\"a\\n\"}",
        b"\0",
    ];
    for body in bodies {
        refused(&siege, &String::from_utf8_lossy(body), body, "");
    }
    let types = [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/json; charset=utf-16\r\n",
        "Content-Type: application/jsonx\r\n",
        "Content-Type: application/json, text/plain\r\n",
        "Content-Type: */*\r\n",
        "Content-Type: \r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ];
    for headers in types {
        let answer = grant(&siege, headers, b"{\"ttl_ms\":15000}");
        answer.is_problem(headers, 415, "unsupported-media-type");
    }
    let fine = grant(
        &siege,
        JSON,
        "{\"ttl_ms\":15000,\"name\":\"\\ud83d\\ude00\\u202e\"}".as_bytes(),
    );
    assert_eq!(fine.json()["name"], "\u{1f600}\u{202e}", "{}", fine.text());
    siege.end("what is not JSON", SMALL);
}
