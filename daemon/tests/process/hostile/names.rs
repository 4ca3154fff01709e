//! Names with every odd character: what is accepted is what is read back, and nothing else happens to it.

use super::wire::{Heard, request, say, with_body};
use super::{Siege, siege::Bound};
use crate::common::machine;

const SMALL: Bound = Bound {
    top_mib: 64,
    after_mib: 64,
};

/// The names that must be refused, by the characters in them: Unicode's control characters, and what is no UTF-8.
fn is_accepted(name: &[u8]) -> bool {
    (1..=1024).contains(&name.len())
        && std::str::from_utf8(name).is_ok_and(|name| !name.contains(char::is_control))
}

fn encoded(name: &[u8]) -> String {
    name.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// Names that somebody's parser, proxy, file system, terminal or log has stumbled over.
fn odd_names() -> Vec<Vec<u8>> {
    let texts = [
        "/",
        "//",
        "///a",
        "a//b",
        "a/",
        ".",
        "..",
        "./a",
        "../../etc/passwd",
        "a/./b/../c",
        "%",
        "%25",
        "%2F",
        "%252F",
        "%00",
        "%zz",
        "+",
        "a+b",
        " ",
        " a ",
        "a b",
        "?",
        "a?b=c",
        "#",
        "a#b",
        "&",
        "a&b=c",
        "=",
        ";",
        "a;b",
        ":",
        "@",
        "'",
        "\"",
        "\\",
        "..\\..\\a",
        "<script>alert(1)</script>",
        "{}",
        "[]",
        "|",
        "^",
        "`",
        "~",
        "$(id)",
        "${HOME}",
        "*",
        "-",
        "--help",
        "CON",
        "aux.txt",
        "name",
        "prefix",
        "renew",
        "/v1/keys/x",
        "http://evil.test/",
        "null",
        "true",
        "0",
        "é",
        "e\u{301}",
        "ﬁ",
        "Straße",
        "İ",
        "ß",
        "\u{212b}",
        "日本語",
        "\u{1f600}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "\u{200b}",
        "a\u{200b}b",
        "\u{200e}",
        "\u{202e}gnp.exe",
        "\u{2066}a\u{2069}",
        "\u{feff}",
        "\u{feff}a",
        "\u{2028}",
        "\u{2029}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{10ffff}",
        "\u{e000}",
        "\u{ad}",
        "שלום",
        "مرحبا",
        "a\u{334}\u{335}\u{336}",
        "\u{a0}",
        "\u{3000}",
        "𝕬",
    ];
    let mut names: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let refused: [&[u8]; 14] = [
        b"\xff",
        b"\xc0\xaf",
        b"\xc3",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"a\xc0\x80b",
        "\u{85}".as_bytes(),
        "\u{9f}a".as_bytes(),
        b"\r\nSet-Cookie: a",
        b"\x1b[2J",
        b"",
    ];
    names.extend(refused.map(<[u8]>::to_vec));
    names.extend((0..=255).map(|byte| vec![byte]));
    names.extend((0..=255).map(|byte| vec![b'a', byte, b'z']));
    names.push(vec![b'x'; 1024]);
    names.push(vec![b'x'; 1025]);
    names.push("\u{1f600}".repeat(256).into_bytes());
    names.push("\u{1f600}".repeat(257).into_bytes());
    names.push(vec![b'/'; 1024]);
    names
}

#[test]
fn every_odd_name_is_read_back_as_it_was_sent_or_refused() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let mut accepted = 0;
    let names = odd_names();
    for name in &names {
        let in_path = format!("/v1/keys/{}", encoded(name));
        let in_query = format!("/v1/keys?name={}", encoded(name));
        for (put, read) in [(&in_path, &in_query), (&in_query, &in_path)] {
            let written = say(siege.address(), &with_body("PUT", put.as_bytes(), "", name));
            let of = format!("{put} ({:?})", String::from_utf8_lossy(name));
            if is_accepted(name) {
                assert!(
                    matches!(written.status(&of), 200 | 201),
                    "{of}: {}",
                    written.text()
                );
                check_shown(&written, name, &of);
                let read = say(siege.address(), &request("GET", read.as_bytes(), "", b""));
                assert_eq!(read.status(&of), 200, "{of}: {}", read.text());
                assert_eq!(read.body(), name, "{of}: the value of another key");
                accepted += 1;
            } else {
                // Behind `?` a text that is no UTF-8 is a parameter that cannot be decoded, before it is a name.
                let code = if put.contains('?') && std::str::from_utf8(name).is_err() {
                    "invalid-request"
                } else {
                    "invalid-name"
                };
                written.is_problem(&of, 400, code);
            }
        }
    }
    check_list(&siege, &names);
    siege.end(
        &format!(
            "{} names, {accepted} writes accepted and read back",
            names.len()
        ),
        SMALL,
    );
}

fn check_shown(written: &Heard, name: &[u8], of: &str) {
    let shown = written.json()["key"]
        .as_str()
        .map(|key| key.as_bytes().to_vec());
    assert_eq!(
        shown.as_deref(),
        Some(name),
        "{of} is shown as another name"
    );
}

/// All of them are there, each once and under its own name: no two were taken for the same.
fn check_list(siege: &Siege, names: &[Vec<u8>]) {
    let mut expected: Vec<&[u8]> = names
        .iter()
        .map(Vec::as_slice)
        .filter(|name| is_accepted(name))
        .collect();
    expected.sort_unstable();
    expected.dedup();
    let list = say(
        siege.address(),
        &request("GET", b"/v1/keys?prefix=", "", b""),
    );
    let list = list.json();
    let keys = list["keys"].as_array().expect("a list has keys");
    let found: Vec<&[u8]> = keys
        .iter()
        .filter_map(|entry| entry["key"].as_str())
        .map(str::as_bytes)
        .filter(|key| !key.starts_with(b"probe/"))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn raw_bytes_in_a_path_are_the_name_or_refused_and_a_plus_is_a_plus() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let check = |target: &[u8], expected: Option<&str>| {
        let of = String::from_utf8_lossy(target).into_owned();
        let written = say(siege.address(), &with_body("PUT", target, "", b"x"));
        match expected {
            Some(name) => {
                assert!(
                    matches!(written.status(&of), 200 | 201),
                    "{of}: {}",
                    written.text()
                );
                assert_eq!(written.json()["key"], name, "{of}");
            }
            None => assert_eq!(written.status(&of), 400, "{of}: {}", written.text()),
        }
    };
    check(b"/v1/keys/a+b", Some("a+b"));
    check(b"/v1/keys?name=a+b", Some("a b"));
    check(b"/v1/keys?name=a%2Bb", Some("a+b"));
    check(b"/v1/keys//", Some("/"));
    check(b"/v1/keys/a//b/../c/.", Some("a//b/../c/."));
    check(b"/v1/keys/%2e%2E/%2F", Some("..//"));
    check(b"/v1/keys/%252F", Some("%2F"));
    check("/v1/keys/é".as_bytes(), Some("é"));
    check("/v1/keys?name=é".as_bytes(), Some("é"));
    check(b"/v1/keys/a;x=y", Some("a;x=y"));
    check(b"/v1/keys/a&b=c", Some("a&b=c"));
    check(b"/v1/keys/a\\b", Some("a\\b"));
    check(b"/v1/keys/%", None);
    check(b"/v1/keys/%4", None);
    check(b"/v1/keys/a%", None);
    check(b"/v1/keys/%u0061", None);
    check(b"/v1/keys/%%", None);
    check(b"/v1/keys/\xff", None);
    check(b"/v1/keys/a\x00b", None);
    check(b"/v1/keys/a\tb", None);
    check(b"/v1/keys/a\x7fb", None);
    check(b"/v1/keys/a b", None);
    check(b"/v1/keys/", None);
    check(b"/v1/keys?name=", None);
    check(b"/v1/keys?name", None);
    check(b"/v1/keys?name=a&name=a", None);
    check(b"/v1/keys/a?name=b", None);
    check(b"/v1/keys", None);
    siege.end("raw bytes in paths", SMALL);
}

#[test]
fn locks_take_the_same_odd_names_as_keys() {
    let _machine = machine::shared();
    let siege = Siege::of(1);
    let mut client = siege.client();
    let lease = crate::common::grant(&mut client, 60_000);
    let names = odd_names();
    for name in &names {
        let path = format!("/v1/locks/{}", encoded(name));
        let body = format!("{{\"lease\":\"{lease}\"}}");
        let answer = say(
            siege.address(),
            &with_body(
                "POST",
                path.as_bytes(),
                "Content-Type: application/json\r\n",
                body.as_bytes(),
            ),
        );
        if is_accepted(name) {
            assert_eq!(answer.status(&path), 200, "{path}: {}", answer.text());
            let shown = answer.json()["lock"]
                .as_str()
                .map(|lock| lock.as_bytes().to_vec());
            assert_eq!(shown.as_deref(), Some(name.as_slice()), "{path}");
        } else {
            answer.is_problem(&path, 400, "invalid-name");
        }
    }
    siege.end(&format!("{} names of locks", names.len()), SMALL);
}
