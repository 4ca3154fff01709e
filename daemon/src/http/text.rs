//! The texts of requests: decoded once and held to their grammar.
//!
//! Owns percent- and form-decoding, names, labels, metadata, ids and numbers. Nothing here normalises: a name is what
//! was sent, or it is refused (`api.md` §2, Names).

use std::collections::BTreeMap;

use tenure_api::{
    Code, MAX_ACCESS_NAME_BYTES, MAX_LABEL_BYTES, MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_REVISION,
};
use tenure_state::{LeaseId, TokenId};

use super::failure::Failure;

/// How bytes of a URI are decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Decoding {
    /// As in a path: a plus is a plus.
    Path,
    /// As in a query: a plus is a space.
    Form,
}

/// Decodes percent signs exactly once.
///
/// # Errors
///
/// A sentence's end that says what is wrong.
pub(super) fn decode(raw: &str, decoding: Decoding) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, decoding) {
            (b'%', _) => {
                let [high, low, behind @ ..] = rest else {
                    return Err("has a percent sign without two hex digits behind it");
                };
                let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) else {
                    return Err("has a percent sign without two hex digits behind it");
                };
                decoded.push(high << 4 | low);
                rest = behind;
            }
            (b'+', Decoding::Form) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| "is not UTF-8")
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A name out of a path or a query, as it was sent.
///
/// # Errors
///
/// `invalid-name`, saying what is accepted.
pub(super) fn name(raw: &str, decoding: Decoding) -> Result<String, Failure> {
    let decoded =
        decode(raw, decoding).map_err(|what| invalid_name(&format!("{} {what}", shown(raw))))?;
    valid_name(decoded)
}

/// A name that is decoded already.
///
/// # Errors
///
/// `invalid-name`, saying what is accepted.
pub(super) fn valid_name(name: String) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(invalid_name("is empty"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(invalid_name(&format!("has {} bytes", name.len())));
    }
    match control_in(&name) {
        Some(control) => Err(invalid_name(&format!(
            "{} has the control character U+{control:04X}",
            shown(&name)
        ))),
        None => Ok(name),
    }
}

fn invalid_name(what: &str) -> Failure {
    let accepted = format!("1 to {MAX_NAME_BYTES} bytes of UTF-8 without control characters");
    Failure::new(
        Code::InvalidName,
        format!("the name {what}; accepted are {accepted}"),
    )
}

/// A prefix of names, or a name to start after: like a name, and may be empty.
///
/// # Errors
///
/// `invalid-request`, naming the field.
pub(super) fn prefix(field: &str, text: String) -> Result<String, Failure> {
    bounded(field, &text, MAX_NAME_BYTES)?;
    Ok(text)
}

/// An owner or the label of a lease: bounded, and free of control characters, so that no log line can be forged.
///
/// # Errors
///
/// `invalid-request`, naming the field.
pub(super) fn label(field: &str, text: &str) -> Result<(), Failure> {
    bounded(field, text, MAX_LABEL_BYTES)
}

/// A metadata object.
///
/// # Errors
///
/// `invalid-request` for what is too large or has control characters.
pub(super) fn metadata(metadata: &BTreeMap<String, String>) -> Result<(), Failure> {
    let bytes: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > MAX_METADATA_BYTES {
        let detail = format!(
            "metadata has {bytes} bytes in its keys and values; at most {MAX_METADATA_BYTES} are accepted"
        );
        return Err(Failure::invalid(detail));
    }
    for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
        bounded("metadata", text, MAX_METADATA_BYTES)?;
    }
    Ok(())
}

/// Text of at most so many bytes without control characters.
///
/// # Errors
///
/// `invalid-request`, naming the field.
pub(super) fn bounded(field: &str, text: &str, most: usize) -> Result<(), Failure> {
    if text.len() > most {
        let detail = format!(
            "{field} has {} bytes; at most {most} are accepted",
            text.len()
        );
        return Err(Failure::invalid(detail));
    }
    match control_in(text) {
        Some(control) => {
            let detail =
                format!("{field} has the control character U+{control:04X}; none is accepted");
            Err(Failure::invalid(detail))
        }
        None => Ok(()),
    }
}

fn control_in(text: &str) -> Option<u32> {
    text.chars().find(|c| c.is_control()).map(u32::from)
}

/// The id of a lease.
///
/// # Errors
///
/// `invalid-request`, saying how an id is written.
pub(super) fn lease(text: &str) -> Result<LeaseId, Failure> {
    let written = text.len() == 16
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = written
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten();
    number.and_then(LeaseId::new).ok_or_else(|| {
        let accepted = "16 lower-case hex digits that make a positive 63-bit number";
        Failure::invalid(format!(
            "{} is not the id of a lease; accepted are {accepted}",
            shown(text)
        ))
    })
}

/// The name of a role or an identity.
///
/// # Errors
///
/// `invalid-name`, naming the field and what is accepted.
pub(super) fn access_name(field: &str, text: &str) -> Result<(), Failure> {
    let fits = (1..=MAX_ACCESS_NAME_BYTES).contains(&text.len()) && control_in(text).is_none();
    if fits {
        return Ok(());
    }
    Err(Failure::new(
        Code::InvalidName,
        format!(
            "{field} is {}; accepted are 1 to {MAX_ACCESS_NAME_BYTES} bytes of UTF-8 without control characters",
            shown(text)
        ),
    ))
}

/// The id of a token. What is none may be a whole token with its secret, so it is not told again.
///
/// # Errors
///
/// `invalid-request`, saying how an id is written.
pub(super) fn token_id(field: &str, text: &str) -> Result<TokenId, Failure> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_written = text.len() == 16 && text.bytes().all(is_digit);
    let number = is_written.then(|| u64::from_str_radix(text, 16).ok());
    number.flatten().map(TokenId).ok_or_else(|| {
        Failure::invalid(format!(
            "{field} is written in another way; accepted are 16 lower-case hex digits: what is before the dot in a token"
        ))
    })
}

/// A whole number without sign.
///
/// # Errors
///
/// `invalid-request`, naming the field and its range.
pub(super) fn number(field: &str, text: &str, least: u64, most: u64) -> Result<u64, Failure> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u64>().ok()).flatten();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Failure::invalid(format!(
                "{field} is {}; accepted are whole numbers from {least} to {most}",
                shown(text)
            ))
        })
}

/// A revision or a fence.
///
/// # Errors
///
/// `invalid-request`, naming the field.
pub(super) fn revision(field: &str, text: &str) -> Result<u64, Failure> {
    number(field, text, 0, MAX_REVISION - 1)
}

/// `true` or `false`.
///
/// # Errors
///
/// `invalid-request`, naming the field.
pub(super) fn boolean(field: &str, text: &str) -> Result<bool, Failure> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Failure::invalid(format!(
            "{field} is {}; accepted are true and false",
            shown(text)
        ))),
    }
}

/// A caller's text as it may stand in a detail: quoted, short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_path_is_decoded_once_and_never_normalised() {
        let check = |raw: &str, expected: &str| {
            assert_eq!(name(raw, Decoding::Path).expect(raw), expected, "{raw}");
        };
        check("jobs/nightly", "jobs/nightly");
        check("a//b/./../c/", "a//b/./../c/");
        check("a+b", "a+b");
        check("%2e%2e%2F", "../");
        check("100%25", "100%");
        check("%2525", "%25");
        check("caf%C3%A9", "café");
        check("café", "café");
        check("a b", "a b");
        check("%E2%80%A8", "\u{2028}");
        check(&"x".repeat(1024), &"x".repeat(1024));
    }

    #[test]
    fn a_name_outside_the_grammar_is_refused_with_what_is_accepted() {
        let long = "x".repeat(1025);
        let cases = [
            "", "%", "%4", "%zz", "%+1", "a%00b", "a%0ab", "%1B", "%7f", "%C2%85", "%ff", "%C3",
            "\t", &long,
        ];
        for raw in cases {
            let failure = name(raw, Decoding::Path).expect_err(raw);
            assert_eq!(failure.code, Code::InvalidName, "{raw}");
            assert!(
                failure.detail.contains("1 to 1024 bytes"),
                "{}",
                failure.detail
            );
        }
    }

    #[test]
    fn a_query_is_form_decoded() {
        assert_eq!(decode("a+b%2Bc", Decoding::Form), Ok("a b+c".into()));
        assert_eq!(decode("a+b%2Bc", Decoding::Path), Ok("a+b+c".into()));
    }

    #[test]
    fn ids_of_leases_are_sixteen_lower_case_hex_digits_of_a_positive_number() {
        assert_eq!(
            lease("3f9c2a7b5d1e8046").expect("an id").number(),
            0x3f9c_2a7b_5d1e_8046
        );
        for text in [
            "",
            "3F9C2A7B5D1E8046",
            "0000000000000000",
            "8000000000000000",
            "3f9c",
            "+f9c2a7b5d1e8046",
        ] {
            assert_eq!(
                lease(text).expect_err(text).code,
                Code::InvalidRequest,
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_have_digits_only_and_a_range() {
        assert_eq!(number("n", "007", 1, 9).expect("a number"), 7);
        for text in [
            "",
            "+1",
            "-1",
            "1.0",
            "1e3",
            " 1",
            "10",
            "0",
            "99999999999999999999999",
        ] {
            let failure = number("limit", text, 1, 9).expect_err(text);
            assert!(
                failure.detail.contains("limit is") && failure.detail.contains("from 1 to 9"),
                "{}",
                failure.detail
            );
        }
    }

    #[test]
    fn texts_of_users_cannot_forge_a_line() {
        for text in ["a\nb", "a\tb", "\u{1b}[2J", "a\u{85}b", "\0"] {
            assert!(label("owner", text).is_err(), "{text:?}");
            assert!(
                metadata(&BTreeMap::from([("k".into(), text.into())])).is_err(),
                "{text:?}"
            );
            assert!(
                metadata(&BTreeMap::from([(text.into(), "v".into())])).is_err(),
                "{text:?}"
            );
            assert!(!shown(text).contains(char::is_control), "{text:?}");
        }
        assert!(label("owner", &"x".repeat(1024)).is_ok());
        assert!(label("owner", &"x".repeat(1025)).is_err());
        assert!(metadata(&BTreeMap::from([("k".into(), "x".repeat(4096))])).is_err());
    }
}
