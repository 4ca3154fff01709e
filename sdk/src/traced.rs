//! Traces of calls, by OpenTelemetry: a span for a call, and one within it for each try, which the member that is asked
//! goes on with (W3C Trace Context).
//!
//! Owns the names of the spans and what they may say: never the name of a key, a lock or an owner. Which spans are
//! recorded is decided by the tracer provider of the program; without one, what a caller came with is passed on.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use tenure_api::Code;

use crate::call::Answer;
use crate::error::Error;
use crate::transport::SendError;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of a call. It ends when this is dropped, at the latest.
pub(crate) struct Call(Context);

/// The span of one try.
pub(crate) struct Try(Context);

impl Call {
    pub(crate) fn begin(method: &Method, target: &str) -> Call {
        let name = format!("tenure {method} {}", family(target));
        Call(begun(&Context::current(), name, SpanKind::Internal))
    }

    /// A try begins: the request says within what.
    pub(crate) fn attempt(&self, request: &mut Request<Bytes>, tries: u32) -> Try {
        let name = request.method().as_str().to_owned();
        let attempt = begun(&self.0, name, SpanKind::Client);
        let span = attempt.span();
        let uri = request.uri();
        if let Some(host) = uri.host() {
            span.set_attribute(KeyValue::new("server.address", host.to_owned()));
        }
        if let Some(port) = uri.port_u16() {
            span.set_attribute(KeyValue::new("server.port", i64::from(port)));
        }
        let method = request.method().as_str().to_owned();
        span.set_attribute(KeyValue::new("http.request.method", method));
        if tries > 0 {
            let resends = i64::from(tries);
            span.set_attribute(KeyValue::new("http.request.resend_count", resends));
        }
        inject(&attempt, request);
        Try(attempt)
    }

    pub(crate) fn end(self, result: &Result<Answer, Error>) {
        let Err(error) = result else { return };
        let why = error.code().map_or("unanswered", |code| code.as_str());
        let span = self.0.span();
        span.set_attribute(KeyValue::new("tenure.problem", why));
        if !error.code().is_some_and(is_an_answer) {
            span.set_status(Status::error(why));
        }
    }
}

impl Try {
    /// What came of it; none where no answer came in time.
    pub(crate) fn end(self, answer: Option<&Result<Response<Bytes>, SendError>>) {
        let span = self.0.span();
        match answer {
            Some(Ok(answer)) => {
                let status = answer.status();
                let code = i64::from(status.as_u16());
                span.set_attribute(KeyValue::new("http.response.status_code", code));
                if !may_be_an_answer(status) {
                    span.set_status(Status::error(""));
                }
            }
            Some(Err(SendError::NotSent(_))) => span.set_status(Status::error("not sent")),
            Some(Err(SendError::Broken(_))) => span.set_status(Status::error("broken off")),
            None => span.set_status(Status::error("no answer came in time")),
        }
    }
}

fn begun(parent: &Context, name: String, kind: SpanKind) -> Context {
    let tracer = global::tracer("tenure");
    let builder = tracer.span_builder(name).with_kind(kind);
    parent.with_span(builder.start_with_context(&tracer, parent))
}

/// Whether a problem says how things are, as whoever reads a key, tries a lock or states a condition wants to know: no error.
fn is_an_answer(code: Code) -> bool {
    matches!(
        code,
        Code::KeyNotFound
            | Code::LockHeld
            | Code::WaitExpired
            | Code::ConditionFailed
            | Code::NotHeld
            | Code::MemberNotFound
            | Code::RoleNotFound
            | Code::IdentityNotFound
            | Code::TokenNotFound
    )
}

/// Whether an answer with this status is no error of the try: the span of its call tells what it says.
fn may_be_an_answer(status: StatusCode) -> bool {
    !(status.is_client_error() || status.is_server_error())
        || matches!(
            status,
            StatusCode::NOT_FOUND
                | StatusCode::CONFLICT
                | StatusCode::GONE
                | StatusCode::PRECONDITION_FAILED
        )
}

/// The path without what callers named.
fn family(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    let end = path
        .match_indices('/')
        .nth(2)
        .map_or(path.len(), |(at, _)| at);
    &path[..end]
}

/// Tells the member within which span it is asked.
fn inject(within: &Context, request: &mut Request<Bytes>) {
    let span = within.span();
    let context = span.span_context();
    if !context.is_valid() {
        return;
    }
    let (trace, span) = (context.trace_id(), context.span_id());
    let parent = format!("00-{trace}-{span}-{:02x}", context.trace_flags());
    let headers = request.headers_mut();
    let state = context.trace_state().header();
    for (name, value) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value.as_str())) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_and_a_lock_that_is_held_are_no_errors() {
        let answers: Vec<&str> = Code::ALL
            .into_iter()
            .filter(|code| is_an_answer(*code))
            .map(|code| code.as_str())
            .collect();
        assert!(answers.contains(&"key-not-found") && answers.contains(&"lock-held"));
        for code in Code::ALL {
            let status = StatusCode::from_u16(code.status()).expect("it is one");
            assert!(!is_an_answer(code) || may_be_an_answer(status), "{code:?}");
        }
        for code in [Code::Forbidden, Code::LeaseExpired, Code::FenceStale] {
            assert!(!is_an_answer(code), "{code:?}");
        }
        let check = |status: u16, expected: bool| {
            let status = StatusCode::from_u16(status).expect("it is one");
            assert_eq!(may_be_an_answer(status), expected, "{status}");
        };
        check(200, true);
        check(404, true);
        check(403, false);
        check(503, false);
    }

    #[test]
    fn no_name_of_a_caller_is_in_the_name_of_a_span() {
        for (target, expected) in [
            ("/v1/keys/secret/name?lease=1", "/v1/keys"),
            ("/v1/keys?name=secret", "/v1/keys"),
            ("/v1/leases/3f9c2a7b5d1e8046/renew", "/v1/leases"),
            ("/v1/txn", "/v1/txn"),
            ("/readyz", "/readyz"),
        ] {
            assert_eq!(family(target), expected);
        }
    }
}
