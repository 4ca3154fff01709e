//! An answer beside itself: what its headers tell, what is said where there is no room for it, and its line in the log,
//! which must never have a name, a value or a header of a caller.

use http::{HeaderValue, Method, StatusCode};
use tenure_api::Code;
use tokio::time::Instant;

use crate::http::caller::Caller;
use crate::http::reply::Unsent;
use crate::telemetry::{self, Metrics, Span};

/// An answer beside itself: what is said where there is no room for it, and its line in the log.
pub(in crate::http) struct Answered {
    pub(super) id: HeaderValue,
    pub(super) method: Method,
    pub(super) route: &'static str,
    pub(super) arrived: Instant,
    pub(super) code: Option<Code>,
    pub(super) unsent: Unsent,
    pub(super) span: Option<Span>,
    pub(super) tells: Tells,
}

/// What the headers of an answer tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tells {
    /// Which member of which cluster answers, who leads it, and how far it is.
    OfTheCluster,
    /// Nothing of that.
    Nothing,
}

/// What the headers of an answer tell: nothing of the cluster where somebody has to prove who asks, and has not.
pub(super) fn tells(caller: &Caller, is_open: bool, code: Option<Code>) -> Tells {
    let is_known = is_open || caller.principal().identity().is_some();
    match code {
        Some(Code::Unauthenticated) => Tells::Nothing,
        _ if !is_known => Tells::Nothing,
        _ => Tells::OfTheCluster,
    }
}

/// The method, if any path takes it: there must not be as many as callers think of.
pub(super) fn known(method: &Method) -> &'static str {
    const KNOWN: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    const NAMES: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let at = KNOWN.iter().position(|known| known == method);
    at.map_or("other", |at| NAMES[at])
}

impl Answered {
    /// Counts it, and writes one line for it; what a server's fault is, an operator sees without asking for it.
    pub(in crate::http) fn note(&mut self, status: StatusCode, metrics: &Metrics) {
        let (id, method, route) = (self.id.to_str().unwrap_or(""), &self.method, self.route);
        let took = self.arrived.elapsed();
        let request = telemetry::Request {
            route,
            method: known(method),
            status: status.as_u16(),
        };
        metrics.answered(&request, took);
        let code = self.code.map_or("", Code::as_str);
        let status = status.as_u16();
        let trace = self.span.as_ref().map(Span::trace_id);
        if let Some(mut span) = self.span.take() {
            span.set("http.request.method", known(method));
            span.set("http.route", route);
            span.set("http.response.status_code", i64::from(status));
            if !code.is_empty() {
                span.set("tenure.problem", code);
            }
            // What a caller did wrong is no failure of a server (OpenTelemetry, HTTP spans).
            if status >= 500 {
                span.fail(code);
            }
        }
        // A probe that finds a member not ready has its answer; nobody was refused.
        if status >= 500 && self.code.is_some() {
            tracing::warn!(request = id, %method, route, status, code, ?took, trace, "request was not served");
        } else {
            tracing::debug!(request = id, %method, route, status, code, ?took, trace, "request was answered");
        }
    }
}
