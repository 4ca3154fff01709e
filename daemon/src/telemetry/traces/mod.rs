//! Traces: spans of what a member does for requests that are sampled, sent to whoever collects them.
//!
//! Owns which requests are sampled, and what a span is from its beginning to its place in the queue. Nothing here waits
//! for anybody: where the queue is full a span is dropped and counted. Without an endpoint there is nothing but one
//! `None` to look at. No span ever carries the name of a key, a lock or a caller, nor a value or a token.

mod collector;
mod exporter;
mod sampler;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SamplingDecision, ShouldSample, SpanData,
};

use exporter::Queue;
pub use exporter::{Exporting, Whose};

const TRACEPARENT: &str = "traceparent";
/// A caller's `tracestate` is kept up to this length, which every vendor can rely on (W3C Trace Context, 3.3.1.5). More
/// would let callers decide how much memory the spans that wait need.
const MOST_STATE: usize = 512;

/// Begins spans, where any are to be sent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    sampler: Box<dyn ShouldSample>,
    follows_callers: bool,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    queue: Queue,
}

/// What kind of work a span is, by who waits for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Another process waits for it.
    Server,
    /// It waits for another process.
    Client,
    /// Work of this member alone.
    Internal,
}

/// Which span of which trace, as it is told to other members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// The flags of the trace.
    pub flags: u8,
}

/// A sampled span that has begun. It ends, and is sent, when it is dropped.
#[derive(Debug)]
pub struct Span {
    inner: Arc<Inner>,
    context: SpanContext,
    parent: SpanId,
    parent_is_remote: bool,
    kind: Kind,
    name: Cow<'static, str>,
    began: Instant,
    ended: Option<Instant>,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Traces {
    /// Whether anything is traced at all.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// The span of a request with these headers, if it is sampled: by who sent it, or by lot. What nobody wants to see by
    /// itself (`is_probe`) is traced only for a caller who traces it.
    pub fn request(
        &self,
        headers: &HeaderMap,
        is_probe: bool,
        name: impl FnOnce() -> String,
    ) -> Option<Span> {
        let inner = self.0.as_ref()?;
        let caller = inner.caller(headers);
        if is_probe && caller.is_none() {
            return None;
        }
        let trace = match &caller {
            Some(caller) => caller.span().span_context().trace_id(),
            None => inner.ids.new_trace_id(),
        };
        let sampled =
            inner
                .sampler
                .should_sample(caller.as_ref(), trace, "", &SpanKind::Server, &[], &[]);
        if sampled.decision != SamplingDecision::RecordAndSample {
            return None;
        }
        let parent = caller.map(|caller| caller.span().span_context().clone());
        let parent = parent.unwrap_or(SpanContext::NONE);
        let parent = Parent {
            trace,
            span: parent.span_id(),
            is_remote: parent.is_remote(),
            state: match sampled.trace_state {
                state if state.header().len() <= MOST_STATE => state,
                _ => TraceState::NONE,
            },
        };
        Some(inner.begin(parent, Kind::Server, name().into()))
    }

    /// A span under one that was told by its ids, which began at this moment.
    pub fn under(&self, ids: Ids, kind: Kind, name: &'static str, began: Instant) -> Option<Span> {
        let inner = self.0.as_ref()?;
        // Who tells of a span that is not sampled waits for no children.
        if !TraceFlags::new(ids.flags).is_sampled() {
            return None;
        }
        let parent = Parent {
            trace: TraceId::from_bytes(ids.trace),
            span: SpanId::from_bytes(ids.span),
            is_remote: kind == Kind::Server,
            state: TraceState::NONE,
        };
        let mut span = inner.begin(parent, kind, name.into());
        span.began = began;
        Some(span)
    }
}

/// What a span is a child of; its own id is invalid where it is of nothing.
struct Parent {
    trace: TraceId,
    span: SpanId,
    is_remote: bool,
    state: TraceState,
}

impl Inner {
    /// The span that a caller waits in, where it says so in words that can be understood.
    fn caller(&self, headers: &HeaderMap) -> Option<Context> {
        if !self.follows_callers || !headers.contains_key(TRACEPARENT) {
            return None;
        }
        let told = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        told.has_active_span().then_some(told)
    }

    fn begin(self: &Arc<Inner>, parent: Parent, kind: Kind, name: Cow<'static, str>) -> Span {
        let span = self.ids.new_span_id();
        Span {
            inner: Arc::clone(self),
            context: SpanContext::new(parent.trace, span, TraceFlags::SAMPLED, false, parent.state),
            parent: parent.span,
            parent_is_remote: parent.is_remote,
            kind,
            name,
            began: Instant::now(),
            ended: None,
            attributes: Vec::new(),
            status: Status::Unset,
        }
    }
}

impl Span {
    /// A span within this one. The state that a caller brought stays with the span of its request, as with those that
    /// are told by their ids.
    pub fn child(&self, kind: Kind, name: &'static str) -> Span {
        let parent = Parent {
            trace: self.context.trace_id(),
            span: self.context.span_id(),
            is_remote: false,
            state: TraceState::NONE,
        };
        self.inner.begin(parent, kind, name.into())
    }

    /// A span within this one that is over.
    pub fn record(&self, name: &'static str, began: Instant, ended: Instant) -> Span {
        let mut span = self.child(Kind::Internal, name);
        (span.began, span.ended) = (began, Some(ended));
        span
    }

    /// Says something of it. Never a name, a value or a secret of a caller.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    /// It has failed.
    pub fn fail(&mut self, why: impl Into<Cow<'static, str>>) {
        self.status = Status::error(why);
    }

    /// It was over at this moment.
    pub fn end_at(mut self, ended: Instant) {
        self.ended = Some(ended);
    }

    /// By which others may begin spans within it.
    pub fn ids(&self) -> Ids {
        Ids {
            trace: self.context.trace_id().to_bytes(),
            span: self.context.span_id().to_bytes(),
            flags: self.context.trace_flags().to_u8(),
        }
    }

    /// The trace that it belongs to, as it is written.
    pub fn trace_id(&self) -> String {
        self.context.trace_id().to_string()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Durations are those of a clock that nobody sets; only where on the calendar they lie is by the one that is set.
        let (wall, now) = (SystemTime::now(), Instant::now());
        let at = |moment: Instant| wall - now.saturating_duration_since(moment);
        let data = SpanData {
            span_context: self.context.clone(),
            parent_span_id: self.parent,
            parent_span_is_remote: self.parent_is_remote,
            span_kind: self.kind.into(),
            name: std::mem::take(&mut self.name),
            start_time: at(self.began),
            end_time: at(self.ended.unwrap_or(now)),
            attributes: std::mem::take(&mut self.attributes),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: std::mem::take(&mut self.status),
            instrumentation_scope: self.inner.scope.clone(),
        };
        self.inner.queue.put(data);
    }
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> SpanKind {
        match kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        }
    }
}
