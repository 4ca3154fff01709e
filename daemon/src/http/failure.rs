//! Failures: why a call was not served, and how that is told.
//!
//! The one place that turns refusals of the state machine and of the node into problem codes, and codes into
//! responses. No match here has a wildcard, so that a new refusal fails to compile until somebody picks its code.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Map, Value, json};
use tenure_api::{Code, Outcome, PROBLEM_JSON, Problem, Retry};
use tenure_state::{Clock, Contention, Kind, LimitError, ReadError, Refusal, Revision, Share};

use super::reply::Reply;
use super::{elections, leases, locks, semaphores, text};
use crate::node::Unserved;

/// When to come back where nothing better is known: an election takes about so long.
const RETRY_AFTER_MS: u64 = 500;

/// What a request that got no outcome was doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// It only reads: whatever happened, nothing was applied.
    Read,
    /// It writes, and writing twice is not the same as writing once.
    Write,
    /// It writes, and who asks again gets the same (acquire, renew, release).
    RepeatableWrite,
}

/// Why a call was not served.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The code.
    pub(super) code: Code,
    /// A sentence that names the value at fault and what would be accepted.
    pub(super) detail: String,
    /// The field of the body that is at fault, by its path.
    field: Option<String>,
    outcome: Outcome,
    retry: Retry,
    fields: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    revision: Option<Revision>,
}

impl Failure {
    /// A failure with what its code says by itself.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Failure {
        Failure {
            code,
            detail: detail.into(),
            field: None,
            outcome: code.outcome(),
            retry: code.retry(),
            fields: Map::new(),
            headers: Vec::new(),
            revision: None,
        }
    }

    /// Says where in the request the value at fault is.
    pub(super) fn at_place(self, place: &str) -> Failure {
        Failure {
            detail: format!("{place}: {}", self.detail),
            ..self
        }
    }

    /// Says in which field of the body the value at fault is, from the inside outwards.
    pub(super) fn in_body(mut self, field: &str) -> Failure {
        self.field = Some(match self.field.take() {
            Some(inner) => format!("{field}.{inner}"),
            None => field.to_owned(),
        });
        self
    }

    /// A request that makes no sense.
    pub(super) fn invalid(detail: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidRequest, detail)
    }

    /// Limits that are not accepted.
    pub(super) fn limits(error: &LimitError) -> Failure {
        let failure = Failure::invalid(error.to_string());
        match error {
            LimitError::OutOfRange {
                name,
                value,
                min,
                max,
            } => failure
                .with("limit", *name)
                .with("value", *value)
                .with("min", *min)
                .with("max", *max),
            LimitError::Unknown { .. } | LimitError::Contradiction { .. } => failure,
        }
    }

    /// A request for something that the contract has and this version does not.
    pub(super) fn later(what: &str) -> Failure {
        Failure::invalid(format!(
            "{what} is part of the contract, but this version does not serve it yet"
        ))
    }

    /// A limit of size that would be passed.
    pub(super) fn too_large(limit: &str, allowed: u64, asked: Option<u64>) -> Failure {
        let asked_text = asked.map_or("more".to_owned(), |asked| asked.to_string());
        Failure::new(
            Code::TooLarge,
            format!("{limit} is {allowed} and this needs {asked_text}"),
        )
        .with("limit", limit)
        .with("allowed", allowed)
        .with("asked", asked)
    }

    /// Adds a field of the code's own.
    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Failure {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// Says in which part of the request the value at fault is.
    pub(super) fn within(mut self, part: &str) -> Failure {
        self.detail = format!("{part}: {}", self.detail);
        self
    }

    /// Adds a header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Failure {
        self.headers.push((name, value));
        self
    }

    /// Says which revision the failure reflects.
    pub(super) fn at(mut self, revision: Revision) -> Failure {
        self.revision = Some(revision);
        self
    }

    /// A request that got no outcome.
    pub(super) fn unserved(unserved: Unserved, purpose: Purpose) -> Failure {
        let failure = |code| Failure::new(code, unserved.to_string());
        match unserved {
            Unserved::NoLeader => failure(Code::NoLeader),
            Unserved::Overloaded => failure(Code::Overloaded),
            Unserved::Transferring => failure(Code::NoLeader),
            Unserved::ShuttingDown => failure(Code::ShuttingDown),
            Unserved::OutcomeUnknown => match purpose {
                Purpose::Read => failure(Code::Lagging),
                Purpose::Write => failure(Code::OutcomeUnknown),
                Purpose::RepeatableWrite => Failure {
                    retry: Retry::Same,
                    ..failure(Code::OutcomeUnknown)
                },
            },
        }
    }

    /// A command that the state machine refused, at `revision` and by the `clock` of its entry.
    pub(super) fn refused(refusal: Refusal, clock: Clock, revision: Revision) -> Failure {
        let invalid = |code, detail: String| Failure::new(code, detail);
        let failure = match refusal {
            Refusal::LeaseNotFound(lease) => {
                invalid(Code::LeaseNotFound, format!("lease {lease} is not known"))
                    .with("lease", lease.to_string())
            }
            Refusal::LeaseExpired(lease) => Failure::lease_expired(lease),
            // Ids are drawn at random out of 2^63: whoever asks again draws another.
            Refusal::LeaseIdTaken(lease) => invalid(
                Code::Overloaded,
                format!("the id {lease} drawn for the lease is in use; ask again"),
            ),
            Refusal::TtlOutOfRange {
                ttl_ms,
                min_ms,
                max_ms,
            } => Failure::ttl_out_of_range(ttl_ms, min_ms, max_ms),
            Refusal::LockHeld(contention) => Failure::contended(Code::LockHeld, &contention, clock),
            Refusal::WaitExpired(contention) => {
                Failure::contended(Code::WaitExpired, &contention, clock)
            }
            Refusal::ModeMismatch { name, present } => {
                let present = share_in_words(present);
                invalid(
                    Code::ModeMismatch,
                    format!("this lease and owner hold or wait for {name:?} {present}"),
                )
            }
            Refusal::LimitMismatch { name, limit } => invalid(
                Code::LimitMismatch,
                format!("{name:?} is in use with the limit {limit}"),
            )
            .with("limit", limit),
            Refusal::AlreadyHeld { name } => invalid(
                Code::AlreadyHeld,
                format!("this lease and owner already hold or wait for {name:?}"),
            ),
            Refusal::NotHeld => invalid(
                Code::NotHeld,
                "this lease and owner have neither a hold nor a place here".into(),
            ),
            Refusal::FenceStale { present } => {
                let present = present.map(|fence| fence.0);
                let detail = match present {
                    Some(fence) => {
                        format!("the fence of the present hold is {fence}; nothing was changed")
                    }
                    None => "nobody holds it; nothing was changed".to_owned(),
                };
                invalid(Code::FenceStale, detail).with("fence", present)
            }
            Refusal::ConditionFailed { mod_revision } => Failure::condition_failed(mod_revision),
            Refusal::KeyOnOtherLease { lease } => {
                let detail =
                    format!("the key hangs on lease {lease}; with If-Match, or a condition of a transaction on it, it is moved");
                invalid(Code::KeyOnOtherLease, detail).with("lease", lease.to_string())
            }
            Refusal::KeyNotFound => invalid(Code::KeyNotFound, "the key is absent".into()),
            Refusal::TooLarge {
                limit,
                allowed,
                asked,
            } => Failure::too_large(limit, allowed, Some(asked)),
            Refusal::IdempotencyMismatch => invalid(
                Code::IdempotencyMismatch,
                "this Idempotency-Key was used for another request; use a new key for a new request"
                    .into(),
            ),
            Refusal::RevisionAhead { asked, present } => {
                Failure::unreadable(ReadError::Ahead, asked, present)
            }
            Refusal::QuotaExceeded { limit, allowed } => invalid(
                Code::QuotaExceeded,
                format!("{limit} is {allowed} and would be passed"),
            )
            .with("limit", limit)
            .with("allowed", allowed),
            Refusal::Limits(error) => Failure::limits(&error),
            Refusal::Unsupported(what) => Failure::invalid(what),
        };
        match failure.revision {
            Some(_) => failure,
            None => failure.at(revision),
        }
    }

    /// An answer that does not belong to the command. It cannot be; if it is, it is not known what was done.
    pub(super) fn unexpected() -> Failure {
        tracing::error!("the state machine answered another command than was asked");
        Failure::new(
            Code::OutcomeUnknown,
            "the answer does not belong to the command",
        )
    }

    /// A read of a revision that this member cannot answer.
    pub(super) fn unreadable(error: ReadError, asked: Revision, present: Revision) -> Failure {
        match error {
            ReadError::Compacted { compact_revision } => {
                let detail = format!(
                    "history from {asked} is gone, the compact revision is {compact_revision}; read the present state \
                     and go on from its revision"
                );
                Failure::new(Code::Compacted, detail)
                    .with("compact_revision", compact_revision.0)
                    .at(present)
            }
            ReadError::Ahead => {
                let detail = format!("the cluster is at {present} and has never been at {asked}");
                Failure::new(Code::RevisionAhead, detail)
                    .with("revision", present.0)
                    .at(present)
            }
        }
    }

    /// A lease that ended.
    pub(super) fn lease_expired(lease: tenure_state::LeaseId) -> Failure {
        let detail = format!("lease {lease} has ended, and everything on it");
        Failure::new(Code::LeaseExpired, detail).with("lease", lease.to_string())
    }

    /// A TTL outside its limits.
    pub(super) fn ttl_out_of_range(ttl_ms: u64, min_ms: u64, max_ms: u64) -> Failure {
        let detail = format!("ttl_ms is {ttl_ms}; accepted are {min_ms} to {max_ms}");
        Failure::new(Code::TtlOutOfRange, detail)
            .with("min_ms", min_ms)
            .with("max_ms", max_ms)
    }

    /// A condition on a key that does not hold.
    pub(super) fn condition_failed(mod_revision: Revision) -> Failure {
        let detail = match mod_revision.0 {
            0 => "the key is absent".to_owned(),
            present => format!("the key's mod_revision is {present}"),
        };
        Failure::new(Code::ConditionFailed, detail).with("mod_revision", mod_revision.0)
    }

    /// Somebody else is in the way, or a delay is.
    pub(super) fn contended(code: Code, contention: &Contention, clock: Clock) -> Failure {
        let fields = match contention.kind {
            Kind::Lock => serde_json::to_value(locks::contention(contention, clock)),
            Kind::Semaphore => serde_json::to_value(semaphores::contention(contention, clock)),
            Kind::Election => serde_json::to_value(elections::contention(contention, clock)),
        };
        let mut failure = Failure::new(code, in_the_way(contention, clock)).at(contention.revision);
        if let Ok(Value::Object(fields)) = fields {
            failure.fields = fields;
        }
        failure
    }

    /// As a response.
    pub(super) fn into_reply(self) -> Reply {
        let detail = match &self.field {
            Some(field) => format!("field {}: {}", text::shown(field), self.detail),
            None => self.detail,
        };
        let retry_after_ms = (self.retry == Retry::After).then_some(RETRY_AFTER_MS);
        let problem = Problem {
            kind: format!("urn:tenure:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status(),
            detail,
            code: self.code,
            outcome: self.outcome,
            retry: self.retry,
            retry_after_ms,
            fields: self.fields,
        };
        let body =
            serde_json::to_vec(&problem).unwrap_or_else(|_| json!({}).to_string().into_bytes());
        let mut reply = Reply::new(self.code.status(), PROBLEM_JSON, Bytes::from(body));
        reply.code = Some(self.code);
        reply.revision = self.revision;
        reply.headers = self.headers;
        if let Some(after_ms) = retry_after_ms {
            // The header counts whole seconds (RFC 9110 §10.2.3).
            reply
                .headers
                .push((RETRY_AFTER, HeaderValue::from(after_ms.div_ceil(1000))));
        }
        reply
    }
}

fn in_the_way(contention: &Contention, clock: Clock) -> String {
    let (name, holders, waiting) = (
        &contention.name,
        contention.holder_count,
        contention.queue_length,
    );
    match contention.delay_until {
        Some(until) if holders == 0 => format!(
            "{name:?} has no holder, but is kept for {} ms more, because its last holder did not release it and may \
             not know that it ended; {waiting} wait",
            leases::remaining_ms(until, clock)
        ),
        Some(_) | None => format!("{name:?} has {holders} holders and {waiting} wait"),
    }
}

fn share_in_words(share: Share) -> String {
    match share {
        Share::Exclusive => "in exclusive mode".to_owned(),
        Share::Shared => "in shared mode".to_owned(),
        Share::Permits { permits, limit } => format!("with {permits} permits of {limit}"),
    }
}
