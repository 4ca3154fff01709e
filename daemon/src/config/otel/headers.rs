//! What is sent to a collector beside spans, which may be a secret: no value is shown, not even by `Debug`.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers that a variable names, as `NAME=VALUE,NAME=VALUE`. A value is percent-encoded where it must be
/// (OpenTelemetry, Protocol Exporter).
///
/// # Errors
///
/// The place of the first that is none, from 1 on.
pub(super) fn parse(text: &str) -> Result<HeaderMap, usize> {
    let mut headers = HeaderMap::new();
    for (place, header) in text.split(',').enumerate() {
        let (name, value) = header_of(header).ok_or(place + 1)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// A name and a value that can be sent as they are. What the library would leave out in silence is none.
fn header_of(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once('=')?;
    let value = decoded(value.trim()).filter(|value| !value.is_empty())?;
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(name.trim()).ok()?, value))
}

/// Without its percent signs, each of which has two hex digits behind it.
fn decoded(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        // A sign before a digit would be taken for a number too.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_will_be_sent_and_shown_without_their_values() {
        let headers =
            parse("authorization=Bearer%20s3cret%2520, X-a = b=c,x-a=d").expect("they are");
        assert_eq!(headers["authorization"], "Bearer s3cret%20");
        let both: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(both, ["b=c", "d"]);
        assert!(!format!("{headers:?}").contains("s3cret"), "{headers:?}");
    }

    #[test]
    fn what_would_not_be_sent_as_it_is_written_is_none() {
        for (text, place) in [
            ("a=b,bearer s3cret", 2),
            ("api-key=", 1),
            ("api-key=%", 1),
            ("api-key=%+1", 1),
            ("api-key=%XX", 1),
            ("a=1,b=%0A", 2),
            ("a=%FF", 1),
            ("=x", 1),
            ("a b=x", 1),
            ("a=1,", 2),
        ] {
            assert_eq!(parse(text), Err(place), "{text}");
        }
    }
}
