//! How names travel in a URL.

use std::fmt::Write;

/// The path of a named thing. A name that a proxy could squash (`//`, `.`, `..`) goes into the query instead.
pub(crate) fn path(collection: &str, name: &str) -> String {
    let squashable = name
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."));
    if squashable {
        format!("/v1/{collection}?name={}", encoded(name, false))
    } else {
        format!("/v1/{collection}/{}", encoded(name, true))
    }
}

/// Adds parameters to a path.
pub(crate) fn with_query(mut path: String, parameters: &[(&str, &str)]) -> String {
    for (name, value) in parameters {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(name);
        path.push('=');
        path.push_str(&encoded(value, false));
    }
    path
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and slashes where they may stay.
pub(crate) fn encoded(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (keep_slashes && byte == b'/');
        if plain {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_to_a_member() {
        let check = |name: &str, expected: &str| assert_eq!(path("locks", name), expected);
        check("jobs/nightly", "/v1/locks/jobs/nightly");
        check("a b+c?d=é", "/v1/locks/a%20b%2Bc%3Fd%3D%C3%A9");
        check("a//b", "/v1/locks?name=a%2F%2Fb");
        check("/a", "/v1/locks?name=%2Fa");
        check("a/../b", "/v1/locks?name=a%2F..%2Fb");
        check("..a/b..", "/v1/locks/..a/b..");
    }

    #[test]
    fn parameters_follow_a_name_in_the_query_too() {
        let path = with_query(path("locks", "a/"), &[("lease", "00ff"), ("owner", "x&y")]);
        assert_eq!(path, "/v1/locks?name=a%2F&lease=00ff&owner=x%26y");
    }
}
