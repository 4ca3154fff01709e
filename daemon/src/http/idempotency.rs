//! Exactly once: the key under which a decision is recorded, and what makes one request the same as another
//! (`api.md` §2).
//!
//! Owns the header `Idempotency-Key` and the digest of a request. Must never decide whether a request is a repeat: that
//! is the state machine's, which every member agrees with.

use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method};
use tenure_api::header;
use tenure_state::IdempotencyKey;
use twox_hash::XxHash3_128;

use super::caller::Caller;
use super::failure::Failure;
use super::query::Query;
use super::route::Call;

/// The most characters of a key.
const MOST_KEY_BYTES: usize = 128;

/// A request that carries a key: what of it is known before its body has been read.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    key: String,
    /// Whose the key is.
    identity: String,
    /// What decides the result, but for the body, in a form that no two different requests share.
    head: Vec<u8>,
}

impl Recording {
    /// That of a request, if it carries a key.
    ///
    /// # Errors
    ///
    /// `invalid-request`, saying what a key is.
    pub(super) fn of(
        method: &Method,
        call: &Call,
        query: &Query,
        (headers, caller): (&HeaderMap, &Caller),
    ) -> Result<Option<Recording>, Failure> {
        let Some(key) = key(headers)? else {
            return Ok(None);
        };
        let (family, name) = call.resource();
        let mut head = Parts::default();
        head.add(method.as_str().as_bytes());
        head.add(family.template().as_bytes());
        head.add(name.unwrap_or_default().as_bytes());
        for (name, value) in query.sorted() {
            head.add(name.as_bytes());
            head.add(value.as_bytes());
        }
        for name in deciding_headers(call) {
            head.add(name.as_str().as_bytes());
            for value in headers.get_all(name) {
                head.add(value.as_bytes());
            }
        }
        Ok(Some(Recording {
            key,
            identity: caller.principal().name().to_owned(),
            head: head.0,
        }))
    }

    /// Where the decision on this request is recorded; `body` is what was sent.
    pub(super) fn with_body(&self, body: &[u8]) -> IdempotencyKey {
        let mut parts = Parts(self.head.clone());
        // The body's own digest in its place: a value is not copied to be hashed.
        parts.add(&(body.len() as u64).to_be_bytes());
        parts.add(&XxHash3_128::oneshot(body).to_be_bytes());
        IdempotencyKey {
            identity: self.identity.clone(),
            key: self.key.clone(),
            digest: XxHash3_128::oneshot(&parts.0),
        }
    }
}

/// Byte strings one after another, each behind its length: no two lists of strings look alike.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.extend((part.len() as u64).to_be_bytes());
        self.0.extend(part);
    }
}

/// The headers that take part in deciding what a call does.
fn deciding_headers(call: &Call) -> Vec<HeaderName> {
    let mut names = vec![
        IF_MATCH,
        IF_NONE_MATCH,
        HeaderName::from_static(header::GUARD),
    ];
    if matches!(call, Call::PutKey(_)) {
        // It is kept with the value; elsewhere it only says how to read the body.
        names.push(CONTENT_TYPE);
    }
    names
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all(header::IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let refused = |what: String| {
        Err(Failure::invalid(format!(
            "the header `Idempotency-Key` {what}; accepted are 1 to {MOST_KEY_BYTES} printable ASCII characters, once"
        )))
    };
    if values.next().is_some() {
        return refused("is given more than once".into());
    }
    if !(1..=MOST_KEY_BYTES).contains(&bytes.len()) {
        return refused(format!("has {} bytes", bytes.len()));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
            Ok(Some(text.to_owned()))
        }
        Ok(_) | Err(_) => refused("has other characters".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    fn digest(
        method: &Method,
        uri: &str,
        pairs: &[(&'static str, &str)],
        body: &[u8],
    ) -> IdempotencyKey {
        let (path, query) = uri
            .split_once('?')
            .map_or((uri, None), |(path, query)| (path, Some(query)));
        let mut query = Query::parse(query).expect(uri);
        let target = super::super::route::find(path).expect(uri);
        let call = target.call(method, &mut query).expect(uri);
        let mut headers = headers(pairs);
        headers.insert(header::IDEMPOTENCY_KEY, HeaderValue::from_static("k"));
        let caller = Caller::anonymous([127, 0, 0, 1].into());
        let recording = Recording::of(method, &call, &query, (&headers, &caller)).expect(uri);
        recording.expect("there is a key").with_body(body)
    }

    #[test]
    fn a_repeat_has_the_digest_of_the_first_however_it_is_written() {
        let put = |uri: &str, pairs: &[(&'static str, &str)]| {
            digest(&Method::PUT, uri, pairs, b"value").digest
        };
        let first = put("/v1/keys/a%2Fb?lease=3f9c2a7b5d1e8046&x=1", &[]);
        for same in [
            "/v1/keys/a/b?lease=3f9c2a7b5d1e8046&x=1",
            "/v1/keys/a/b?x=1&lease=3f9c2a7b5d1e8046",
            "/v1/keys?x=1&name=a%2Fb&lease=3f9c2a7b5d1e8046",
        ] {
            assert_eq!(put(same, &[]), first, "{same}");
        }
        assert_eq!(
            put(
                "/v1/keys/a/b?lease=3f9c2a7b5d1e8046&x=1",
                &[("tenure-request-id", "7"), ("accept", "*/*")]
            ),
            first
        );
        let json = [("content-type", "application/json")];
        assert_eq!(
            digest(&Method::POST, "/v1/txn", &json, b"{}"),
            digest(&Method::POST, "/v1/txn", &[], b"{}"),
            "how a body is read does not decide what is done"
        );
    }

    #[test]
    fn whatever_decides_the_result_is_in_the_digest() {
        let first = digest(&Method::PUT, "/v1/keys/a?lease=1", &[], b"value").digest;
        type Sent<'a> = (&'a Method, &'a str, &'a [(&'static str, &'a str)], &'a [u8]);
        let others: [Sent<'_>; 11] = [
            (&Method::DELETE, "/v1/keys/a?lease=1", &[], b"value"),
            (&Method::PUT, "/v1/keys/b?lease=1", &[], b"value"),
            (&Method::PUT, "/v1/elections/a?lease=1", &[], b"value"),
            (&Method::PUT, "/v1/keys/a?lease=2", &[], b"value"),
            (&Method::PUT, "/v1/keys/a?leas=e1", &[], b"value"),
            (&Method::PUT, "/v1/keys/a", &[], b"value"),
            (&Method::PUT, "/v1/keys/a?lease=1", &[], b"valu"),
            (
                &Method::PUT,
                "/v1/keys/a?lease=1",
                &[("if-match", "\"1\"")],
                b"value",
            ),
            (
                &Method::PUT,
                "/v1/keys/a?lease=1",
                &[("if-none-match", "*")],
                b"value",
            ),
            (
                &Method::PUT,
                "/v1/keys/a?lease=1",
                &[("content-type", "text/plain")],
                b"value",
            ),
            (
                &Method::PUT,
                "/v1/keys/a?lease=1",
                &[("tenure-guard", "lock=a; fence=1")],
                b"value",
            ),
        ];
        let mut seen = std::collections::BTreeSet::from([first]);
        for (method, uri, pairs, body) in others {
            let other = digest(method, uri, pairs, body).digest;
            assert!(seen.insert(other), "{method} {uri} {pairs:?}");
        }
    }

    #[test]
    fn a_key_is_printable_ascii_and_given_once() {
        let long = "k".repeat(129);
        for (pairs, named) in [
            (&[("idempotency-key", "")][..], "has 0 bytes"),
            (&[("idempotency-key", long.as_str())], "has 129 bytes"),
            (&[("idempotency-key", "é")], "has other characters"),
            (&[("idempotency-key", "a\tb")], "has other characters"),
            (
                &[("idempotency-key", "a"), ("idempotency-key", "a")],
                "more than once",
            ),
        ] {
            let failure = key(&headers(pairs)).expect_err(named);
            assert!(failure.detail.contains(named), "{}", failure.detail);
            assert!(failure.detail.contains("1 to 128"), "{}", failure.detail);
        }
        assert_eq!(key(&headers(&[])).expect("none"), None);
        let fine = "a key ~ of \"128\"".to_owned() + &"k".repeat(112);
        assert_eq!(
            key(&headers(&[("idempotency-key", &fine)])).expect("a key"),
            Some(fine)
        );
    }
}
