//! Bodies of requests: read within bounds of size and time, and understood.
//!
//! Owns the limits that protect the member from a body: its length, told or not, how slowly it may come, and how much
//! of all that come at a time is held until they are whole.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;
use tenure_api::Code;
use tokio::time::{Instant, timeout_at};

use super::budget::{Budget, Held, Sizes};
use super::failure::Failure;
use super::text;

/// The whole body must be here within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// And something of it within each of these.
const PROGRESS: Duration = Duration::from_secs(10);
/// A body that nobody wants is read to its end all the same, so that the answer is not lost in a reset connection
/// (RFC 9112 §9.6), but no further than this, and no longer.
const DRAIN_BYTES: usize = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Bytes of bodies that are not whole yet. One connection may have hundreds of them at a time (HTTP/2).
const ARRIVING: Sizes = Sizes {
    of_one: 16 << 20,
    of_all: 256 << 20,
    reserve: 64 << 20,
};

/// The bytes of bodies that are on their way to this member, and what of them is one connection's.
#[derive(Clone, Debug)]
pub(super) struct Arriving(Budget);

impl Arriving {
    /// The bytes of a member.
    pub(super) fn at_member() -> Arriving {
        Arriving(Budget::of_member(ARRIVING))
    }

    /// The bytes of one connection of the same member.
    pub(super) fn of_connection(&self) -> Arriving {
        Arriving(self.0.of_connection())
    }

    fn take(&self, bytes: usize) -> Result<Held, Failure> {
        self.0.take(bytes as u64).ok_or_else(|| {
            let detail = "bodies that are not whole yet take all the room there is; send fewer at a time, and each \
                without a pause";
            Failure::new(Code::Overloaded, detail)
        })
    }
}

/// A body that has not been read, or not to its end.
pub(super) struct Body {
    incoming: Incoming,
    arriving: Arriving,
    /// The client waits for `100 Continue` before it sends anything; reading would ask for it.
    expects: bool,
}

impl Body {
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap, arriving: Arriving) -> Body {
        Body {
            incoming,
            arriving,
            expects: headers.contains_key(EXPECT),
        }
    }

    /// How long it is said to be.
    pub(super) fn told_length(headers: &HeaderMap) -> Option<u64> {
        let told = headers.get(CONTENT_LENGTH)?;
        told.to_str().ok()?.parse().ok()
    }

    /// Reads it all, at most `allowed` bytes, as the limit of that name says.
    ///
    /// # Errors
    ///
    /// `too-large` by the length that is told or by counting; `invalid-request` where it comes too slowly or breaks
    /// off; `overloaded` where too much of others is on its way.
    pub(super) async fn read(
        &mut self,
        headers: &HeaderMap,
        limit: &str,
        allowed: usize,
    ) -> Result<Bytes, Failure> {
        let too_large = |asked| Failure::too_large(limit, allowed as u64, asked);
        let told = Body::told_length(headers);
        if told.is_some_and(|told| told > allowed as u64) {
            return Err(too_large(told));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut whole = Gathered::default();
        let mut held: Option<Held> = None;
        while let Some(frame) = self.frame(deadline).await? {
            if whole.len() + frame.len() > allowed {
                return Err(too_large(None));
            }
            let more = self.arriving.take(frame.len())?;
            match &mut held {
                Some(held) => held.join(more),
                None => held = Some(more),
            }
            // What the header says is an upper bound by now, so reserving it is bounded too.
            whole.push(frame, told.map_or(0, |told| told as usize));
        }
        Ok(whole.finish())
    }

    async fn frame(&mut self, deadline: Instant) -> Result<Option<Bytes>, Failure> {
        loop {
            let until = deadline.min(Instant::now() + PROGRESS);
            match timeout_at(until, self.incoming.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => {
                    return Err(Failure::invalid(format!("the body broke off: {error}")));
                }
                Ok(None) => return Ok(None),
                Err(_) => {
                    let (whole, part) = (PATIENCE.as_secs(), PROGRESS.as_secs());
                    let detail = format!(
                        "the body came too slowly; accepted are bodies that are whole within {whole} s and send \
                         something every {part} s"
                    );
                    return Err(Failure::invalid(detail));
                }
            }
        }
    }

    /// Refuses a body where the call takes none.
    ///
    /// # Errors
    ///
    /// `invalid-request` where there is one.
    pub(super) async fn refuse(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        if self.incoming.is_end_stream() {
            return Ok(());
        }
        match self.read(headers, "body", 0).await {
            Err(failure) if failure.code == Code::TooLarge => {
                Err(Failure::invalid("this call takes no body"))
            }
            other => other.map(drop),
        }
    }

    /// Reads and throws away what is left of a body whose request was refused, within bounds.
    pub(super) async fn drain(&mut self) {
        if self.expects || self.incoming.is_end_stream() {
            return;
        }
        let deadline = Instant::now() + DRAIN_TIME;
        let mut left = DRAIN_BYTES;
        while let Ok(Some(Ok(frame))) = timeout_at(deadline, self.incoming.frame()).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }
}

/// The pieces of a body; a single one is not copied.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    rest: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len().max(self.rest.len())
    }

    fn push(&mut self, piece: Bytes, expected: usize) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.rest.is_empty() {
            self.rest
                .reserve(expected.max(self.first.len() + piece.len()));
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&piece);
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        }
    }
}

/// Understands a body as a JSON object.
///
/// # Errors
///
/// `unsupported-media-type` where it is not sent as JSON, saying which header to add; `invalid-request` naming the
/// field that is unknown, missing or of the wrong type.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Failure> {
    let sent: Vec<&HeaderValue> = headers.get_all(CONTENT_TYPE).iter().collect();
    if !matches!(sent.as_slice(), [one] if is_json(one)) {
        let texts: Vec<_> = sent
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let sent = match texts.as_slice() {
            [] => "nothing".to_owned(),
            texts => text::shown(&texts.join(", ")),
        };
        let detail =
            format!("the content type is {sent}; send the header `Content-Type: application/json`");
        return Err(Failure::new(Code::UnsupportedMediaType, detail));
    }
    // A struct would also be read from an array of its fields, which is nobody's intent.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Failure::invalid("the body is not a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        Failure::invalid(in_words(&path, error.inner()))
    })?;
    deserializer
        .end()
        .map(|()| read)
        .map_err(|error| Failure::invalid(in_words(WHOLE, &error)))
}

/// The path of the whole body.
const WHOLE: &str = ".";

fn is_json(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(tenure_api::JSON)
        && parts
            .filter(|part| !part.is_empty())
            .all(|part| match part.split_once('=') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                    value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
                }
                _ => true,
            })
}

/// What serde found, the place in the text, and the path to it where what serde says does not name it alone.
fn in_words(path: &str, error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let what = whole
        .rsplit_once(" at line ")
        .map_or(whole.as_str(), |(what, _)| what);
    // The message quotes what was sent: a control character in it must not reach a log.
    let what: Vec<char> = what
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    let what = shortened(&what);
    let place = format!("line {} column {}", error.line(), error.column());
    if !error.is_data() {
        return format!("the body is not JSON: {what} at {place}");
    }
    let names_it = ["unknown field", "duplicate field"]
        .iter()
        .any(|start| what.starts_with(start));
    let outermost = !path.contains(['.', '[']);
    if path == WHOLE || (names_it && outermost) {
        format!("{what} at {place}")
    } else {
        format!("field {}: {what} at {place}", text::shown(path))
    }
}

/// A message that quotes at its beginning what was sent, however long, and says at its end what would be accepted.
fn shortened(what: &[char]) -> String {
    const BEGINNING: usize = 200;
    const END: usize = 500;
    if what.len() <= BEGINNING + END {
        return what.iter().collect();
    }
    let (beginning, end) = (&what[..BEGINNING], &what[what.len() - END..]);
    beginning.iter().chain(&['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_api::AcquireLock;

    fn typed(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_str(content_type).expect("a header"),
        );
        headers
    }

    #[test]
    fn only_json_in_utf_8_is_json() {
        for accepted in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
            "application/json;",
        ] {
            assert!(
                json::<AcquireLock>(&typed(accepted), b"{}").is_ok(),
                "{accepted}"
            );
        }
        for refused in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "application/jsonx",
            "",
        ] {
            let failure = json::<AcquireLock>(&typed(refused), b"{}").expect_err(refused);
            assert_eq!(failure.code, Code::UnsupportedMediaType);
            assert!(
                failure.detail.contains("`Content-Type: application/json`"),
                "{}",
                failure.detail
            );
        }
        assert!(json::<AcquireLock>(&HeaderMap::new(), b"{}").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_body_names_the_field() {
        let check = |body: &str, expected: &str| {
            let failure =
                json::<AcquireLock>(&typed("application/json"), body.as_bytes()).expect_err(body);
            assert_eq!(failure.code, Code::InvalidRequest, "{body}");
            assert!(
                failure.detail.contains(expected),
                "{body}: {}",
                failure.detail
            );
            assert!(
                !failure.detail.contains(char::is_control),
                "{}",
                failure.detail
            );
        };
        check("", "not a JSON object");
        check("[]", "not a JSON object");
        check("null", "not a JSON object");
        check("{", "the body is not JSON: EOF");
        check("{} {}", "the body is not JSON: trailing characters");
        check(
            r#"{"leese":"x"}"#,
            "unknown field `leese`, expected one of `lease`",
        );
        check(r#"{"lease":"x","lease":"y"}"#, "duplicate field `lease`");
        check(
            r#"{"metadata":{"a":"1","b":"2","\u0061":"1"}}"#,
            "duplicate field `a`",
        );
        check(
            r#"{"metadata":{"\u001b":"1","\u001b":"1"}}"#,
            "duplicate field `\u{fffd}`",
        );
        check(
            r#"{"wait_ms":"5"}"#,
            r#"field `wait_ms`: invalid type: string "5", expected u64"#,
        );
        check(
            r#"{"wait_ms":-5}"#,
            "field `wait_ms`: invalid value: integer `-5`",
        );
        check(
            r#"{"wait_ms":1.5}"#,
            "field `wait_ms`: invalid type: floating point",
        );
        check(
            "{\n\"owner\":\"a,{\\\"b\\\":\",\n \"metadata\":{\"a\":[1]}}",
            "field `metadata.a`: invalid type: sequence",
        );
        check(
            r#"{"mode":"exclusiv"}"#,
            "field `mode`: unknown variant `exclusiv`",
        );
        check("{\"\\u001b[2J\":1}", "unknown field");
        check(
            &format!("{}{}", "{\"metadata\":", "[".repeat(100_000)),
            "field `metadata`",
        );
    }

    #[test]
    fn a_field_of_any_length_is_quoted_in_part_and_all_that_are_accepted_are_named() {
        for length in [1, 10_000] {
            let body = format!("{{\"{}\":1}}", "é".repeat(length));
            let failure =
                json::<tenure_api::ChangeLimits>(&typed("application/json"), body.as_bytes())
                    .expect_err("there is no such limit");
            let detail = &failure.detail;
            assert!(detail.starts_with("unknown field `é"), "{detail}");
            for limit in ["`value_bytes`", "`standing_bytes`"] {
                assert!(detail.contains(limit), "{detail}");
            }
            assert!(detail.chars().count() < 800, "{detail}");
        }
    }

    #[test]
    fn what_is_wrong_deep_in_a_body_is_named_by_its_path() {
        let check = |body: &str, expected: &str| {
            let read = json::<tenure_api::Transact>(&typed("application/json"), body.as_bytes());
            let failure = read.expect_err(body);
            assert!(
                failure.detail.starts_with(expected),
                "{body}: {}",
                failure.detail
            );
        };
        check(
            r#"{"then":[{"get":{"key":"a"}},{"put":{"key":"a","vlaue":"x"}}]}"#,
            "field `then[1].put.vlaue`: unknown field `vlaue`, expected one of `key`, `value`",
        );
        check(
            r#"{"else":[{"put":{"key":"a"}}]}"#,
            "field `else[0].put`: missing field `value`",
        );
        check(
            r#"{"if":[{"key":"a","op":"=="}]}"#,
            "field `if[0].op`: unknown variant `==`, expected one of `=`, `!=`, `<`, `>`",
        );
        check(
            r#"{"if":[{"lock":"a","fence":"7"}]}"#,
            "field `if[0].fence`: invalid type: string \"7\"",
        );
        check(
            r#"{"then":[{"patch":{}}]}"#,
            "field `then[0].patch`: unknown field `patch`, expected one of `put`, `delete`, `get`",
        );
        check(
            r#"{"then":[{"put":{"key":"a","value":"x"},"get":{"key":"a"}}]}"#,
            "field `then[0]`: invalid length 2, expected an object with one of `put`, `delete` and `get`",
        );
        check(r#"{"then":[{}]}"#, "field `then[0]`: invalid length 0");
        check(r#"{"then":{}}"#, "field `then`: invalid type: map");
    }

    #[test]
    fn pieces_of_a_body_are_put_together() {
        let gather = |pieces: &[&'static str]| {
            let mut whole = Gathered::default();
            pieces
                .iter()
                .for_each(|piece| whole.push(Bytes::from_static(piece.as_bytes()), 4));
            (whole.len(), whole.finish())
        };
        assert_eq!(gather(&[]), (0, Bytes::new()));
        assert_eq!(gather(&["ab"]), (2, "ab".into()));
        assert_eq!(gather(&["", "ab", "", "cde", "f"]), (6, "abcdef".into()));
    }
}
