//! Failures: why a call was not served, and how that is told.
//!
//! The one place that turns refusals of the state machine and of the node into problem codes, and codes into
//! responses. No match here has a wildcard, so that a new refusal fails to compile until somebody picks its code.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};
use tenure_api::{Code, Outcome, PROBLEM_JSON, Problem, Retry};
use tenure_replica::Decided;
use tenure_state::{
    Break, Clock, Command, Contention, Denied, Fence, Guard, HandOver, Kind, LeaseId, LimitError,
    Operation, ReadError, Refusal, Release, Revision, Share,
};

use super::reply::{Reply, Unsent};
use super::{access, elections, leases, locks, semaphores, text};
use crate::node::Unserved;
use crate::storage::BackupError;

/// When to come back where nothing better is known: an election takes about so long.
const RETRY_AFTER_MS: u32 = 500;

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

/// What a command names that its refusals do not, so that their sentences can (`api.md` §2, Errors). No sentence is made
/// before there is a refusal: most commands have none.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    what: What,
    /// The key under which its decision is recorded.
    idempotency_key: Option<String>,
}

#[derive(Clone, Debug)]
enum What {
    Release(Release),
    Break(Break),
    Proclaim {
        name: String,
        lease: LeaseId,
        candidate: String,
        fence: Fence,
    },
    HandOver(HandOver),
    Write {
        guard: Option<Guard>,
        /// The keys that are put on leases.
        puts: Vec<Bytes>,
    },
    /// Something whose refusals say it all.
    Other,
}

impl Asked {
    /// What a command names.
    pub(super) fn of(command: &Command) -> Asked {
        let what = match command {
            Command::Release(release) => What::Release(release.clone()),
            Command::Break(broken) => What::Break(broken.clone()),
            Command::Proclaim(proclaim) => What::Proclaim {
                name: proclaim.name.clone(),
                lease: proclaim.lease,
                candidate: proclaim.candidate.clone(),
                fence: proclaim.fence,
            },
            Command::HandOver(over) => What::HandOver(over.clone()),
            Command::Transaction(transaction) => What::Write {
                guard: transaction.guard.clone(),
                puts: put_on_leases(&transaction.then)
                    .chain(put_on_leases(&transaction.otherwise))
                    .collect(),
            },
            Command::GrantLease(_)
            | Command::RevokeLease { .. }
            | Command::ChangeLease { .. }
            | Command::Acquire(_)
            | Command::ChangeLimits(_)
            | Command::ChangeAccess(_)
            | Command::RaiseVersion { .. }
            | Command::Compact { .. } => What::Other,
        };
        Asked {
            what,
            idempotency_key: None,
        }
    }

    /// The same, whose decision is recorded under a key.
    pub(super) fn under(self, idempotency_key: Option<&str>) -> Asked {
        Asked {
            idempotency_key: idempotency_key.map(str::to_owned),
            ..self
        }
    }

    /// The failure of a refusal whose sentence needs what was asked; `None` where the refusal says it all.
    pub(super) fn refused(&self, decided: &Decided) -> Option<Failure> {
        let refusal = decided.outcome.as_ref().err()?;
        let detail = self.detail(refusal)?;
        let failure = Failure::refused(refusal.clone(), decided.clock, decided.revision);
        Some(Failure { detail, ..failure })
    }

    fn detail(&self, refusal: &Refusal) -> Option<String> {
        match refusal {
            Refusal::NotHeld => self.what.not_held(),
            Refusal::FenceStale { present } => self.what.stale(*present),
            Refusal::KeyOnOtherLease { lease } => {
                let keys = match &self.what {
                    What::Write { puts, .. } if puts.len() == 1 => {
                        format!("key {:?} hangs", String::from_utf8_lossy(&puts[0]))
                    }
                    What::Write { .. }
                    | What::Release(_)
                    | What::Break(_)
                    | What::Proclaim { .. }
                    | What::HandOver(_)
                    | What::Other => "a key that was to be put on a lease hangs".to_owned(),
                };
                Some(format!(
                    "{keys} on lease {lease}, which is alive; accepted are that lease, none, or If-Match with its mod_revision to move it"
                ))
            }
            Refusal::IdempotencyMismatch => {
                let key = self.idempotency_key.as_deref()?;
                Some(format!(
                    "Idempotency-Key {} was used for another request; use a new key for a new request",
                    text::shown(key)
                ))
            }
            Refusal::LeaseNotFound(_)
            | Refusal::LeaseExpired(_)
            | Refusal::LeaseIdTaken(_)
            | Refusal::TtlOutOfRange { .. }
            | Refusal::LockHeld(_)
            | Refusal::WaitExpired(_)
            | Refusal::ModeMismatch { .. }
            | Refusal::LimitMismatch { .. }
            | Refusal::AlreadyHeld { .. }
            | Refusal::ConditionFailed { .. }
            | Refusal::KeyNotFound
            | Refusal::TooLarge { .. }
            | Refusal::RevisionAhead { .. }
            | Refusal::QuotaExceeded { .. }
            | Refusal::IdentityQuotaExceeded { .. }
            | Refusal::Limits(_)
            | Refusal::Denied(_)
            | Refusal::RoleNotFound(_)
            | Refusal::IdentityNotFound(_)
            | Refusal::TokenNotFound(_)
            | Refusal::TokenIdTaken
            | Refusal::AccessInvalid(_)
            | Refusal::Unsupported(_) => None,
        }
    }
}

impl What {
    /// The lock, semaphore or election it is about, and the fence that was given for it.
    fn thing(&self) -> Option<(String, Option<Fence>)> {
        let (kind, name, fence) = match self {
            What::Release(release) => (release.kind, &release.name, release.fence),
            What::Break(broken) => (broken.kind, &broken.name, Some(broken.fence)),
            What::Proclaim { name, fence, .. } => (Kind::Election, name, Some(*fence)),
            What::HandOver(over) => (Kind::Election, &over.name, Some(over.fence)),
            What::Write { guard, .. } => {
                let guard = guard.as_ref()?;
                (guard.kind, &guard.name, Some(guard.fence))
            }
            What::Other => return None,
        };
        Some((thing(kind, name), fence))
    }

    /// The lease and owner that ask.
    fn by(&self) -> Option<String> {
        match self {
            What::Release(release) => Some(asker(release.kind, release.lease, &release.owner)),
            What::Break(broken) => {
                let holder = broken.holder.as_ref();
                holder.map(|(lease, owner)| asker(broken.kind, *lease, owner))
            }
            What::Proclaim {
                lease, candidate, ..
            } => Some(asker(Kind::Election, *lease, candidate)),
            What::HandOver(over) => Some(asker(Kind::Election, over.lease, &over.candidate)),
            What::Write { .. } | What::Other => None,
        }
    }

    /// What is so where it finds no hold.
    fn not_held(&self) -> Option<String> {
        let (thing, _) = self.thing()?;
        let by = self.by();
        let asker = by.as_deref().unwrap_or("nobody");
        match self {
            What::Release(release) => {
                let lacks = match (release.kind, release.fence) {
                    (Kind::Lock | Kind::Semaphore, Some(_)) => {
                        "has neither a hold of nor a place for"
                    }
                    (Kind::Lock | Kind::Semaphore, None) => "has no place in the queue of",
                    (Kind::Election, Some(_)) => "neither leads nor is a candidate of",
                    (Kind::Election, None) => "is no candidate of",
                };
                Some(format!("{asker} {lacks} {thing}"))
            }
            What::Break(_) => {
                let lacks = match by {
                    Some(_) => "does not hold",
                    None => "holds",
                };
                Some(format!(
                    "{asker} {lacks} {thing}; there is nothing to break"
                ))
            }
            What::Proclaim { .. } => Some(format!("{asker} does not lead {thing}")),
            What::HandOver(over) => Some(format!(
                "either {asker} does not lead {thing}, or no candidate {:?} waits in it; the leader can hand over to a \
                 candidate that waits",
                over.to
            )),
            What::Write { .. } | What::Other => None,
        }
    }

    fn stale(&self, present: Option<Fence>) -> Option<String> {
        let (thing, asked) = self.thing()?;
        Some(match (asked, present) {
            (Some(asked), Some(present)) => format!(
                "fence {} was given for {thing}, and its present fence is {}; nothing was changed",
                asked.0, present.0
            ),
            (Some(asked), None) => format!(
                "fence {} was given for {thing}, and nobody holds it; nothing was changed",
                asked.0
            ),
            (None, Some(present)) => format!(
                "{} holds {thing} with fence {}, and no fence was given: it is required to release a hold; nothing was \
                 changed",
                self.by()?,
                present.0
            ),
            (None, None) => return None,
        })
    }
}

fn thing(kind: Kind, name: &str) -> String {
    let kind = match kind {
        Kind::Lock => "lock",
        Kind::Semaphore => "semaphore",
        Kind::Election => "election",
    };
    format!("{kind} {name:?}")
}

fn asker(kind: Kind, lease: LeaseId, owner: &str) -> String {
    let field = match kind {
        Kind::Lock | Kind::Semaphore => "owner",
        Kind::Election => "candidate",
    };
    format!("lease {lease} with {field} {owner:?}")
}

fn put_on_leases(operations: &[Operation]) -> impl Iterator<Item = Bytes> {
    operations.iter().filter_map(|operation| match operation {
        Operation::Put(put) => put.lease.map(|_| put.key.clone()),
        Operation::Delete { .. } | Operation::DeleteRange { .. } | Operation::Get { .. } => None,
    })
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
    /// With `retry` `after`: when.
    retry_after_ms: u32,
    /// Its `asked` counts what everybody has.
    counts_all: bool,
}

/// Limits of what one request or lease has, and not of what everybody has together.
const OF_ONE: [&str; 2] = ["attached_per_lease", "keys_per_revision"];

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
            retry_after_ms: RETRY_AFTER_MS,
            counts_all: false,
        }
    }

    /// Without the count of what everybody has, if it tells one: that is for those who administer the cluster. That a limit
    /// is reached, and which, everybody has to know who is refused for it.
    pub(super) fn without_counts(mut self) -> Failure {
        if !std::mem::take(&mut self.counts_all) {
            return self;
        }
        self.fields.remove("asked");
        let field = |name| self.fields.get(name);
        let limit = field("limit").and_then(Value::as_str).unwrap_or_default();
        let allowed = field("allowed").and_then(Value::as_u64).unwrap_or_default();
        self.detail = format!(
            "{limit} is {allowed} for all together, which leaves no room for this; make room first, or have that limit raised"
        );
        self
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

    /// Says whether the same may be asked again, where the code alone does not know.
    pub(super) fn retried(self, retry: Retry) -> Failure {
        Failure { retry, ..self }
    }

    /// Says when the same may be asked again.
    /// Where its outcome is unknown, what was asked must not be asked again.
    pub(super) fn not_twice(self) -> Failure {
        match self.code {
            Code::OutcomeUnknown => self.retried(Retry::Never),
            _ => self,
        }
    }

    pub(super) fn retried_after(self, wait: Duration) -> Failure {
        let wait_ms = wait.as_nanos().div_ceil(1_000_000);
        Failure {
            retry: Retry::After,
            retry_after_ms: u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1),
            ..self
        }
    }

    /// Says that something was done before it came to this.
    pub(super) fn after_it_was_done(self) -> Failure {
        Failure {
            outcome: Outcome::Unknown,
            ..self
        }
    }

    /// Something that is not done for whoever asks. It names what is missing, and nothing of what there is.
    pub(super) fn denied(denied: &Denied) -> Failure {
        match denied {
            Denied::Unauthenticated => Failure::new(
                Code::Unauthenticated,
                "whoever asks is nobody any more: the identity, or the token that proved it, was deleted, or access control was \
                 turned on since; ask again with a token of an identity",
            )
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Denied::Forbidden { verb, resource } => {
                let detail = format!("needs `{verb}` on {resource}");
                Failure::new(Code::Forbidden, detail)
                    .with("verb", verb.as_str())
                    .with("resource", resource.as_str())
            }
            Denied::Foreign { lease } => Failure::new(
                Code::Forbidden,
                format!(
                    "lease {lease} was granted to another identity; only that one and administrators use it"
                ),
            ),
        }
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
            Unserved::RulesTooOld => failure(Code::AccessConflict),
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

    /// A backup that is not made.
    pub(super) fn backup(error: &BackupError) -> Failure {
        let code = match error {
            BackupError::Busy => Code::TooManyRequests,
            BackupError::Stopped => Code::ShuttingDown,
            BackupError::NoCheckpoint { .. }
            | BackupError::NoRoom { .. }
            | BackupError::Storage(_)
            | BackupError::Thread(_) => Code::Overloaded,
        };
        Failure::new(code, format!("no backup is made: {error}"))
    }

    /// A command that the state machine refused, at `revision` and by the `clock` of its entry.
    pub(super) fn refused(refusal: Refusal, clock: Clock, revision: Revision) -> Failure {
        let invalid = |code, detail: String| Failure::new(code, detail);
        let failure = match refusal {
            Refusal::LeaseNotFound(lease) => {
                invalid(Code::LeaseNotFound, format!("lease {lease} is not known: it was never granted, or ended long ago; grant one with POST /v1/leases"))
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
                    format!("this lease and owner hold or wait for {name:?} {present}; ask again in that way, or release it first"),
                )
            }
            Refusal::LimitMismatch { name, limit } => invalid(
                Code::LimitMismatch,
                format!("semaphore {name:?} is in use with the limit {limit}; accepted is that limit, or another when all is free"),
            )
            .with("limit", limit),
            Refusal::AlreadyHeld { name } => invalid(
                Code::AlreadyHeld,
                format!("this lease and owner already hold or wait for {name:?}; release it first, or ask as another owner"),
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
            Refusal::ConditionFailed { mod_revision } => {
                Failure::condition_failed("a condition on the key does not hold", mod_revision)
            }
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
            Refusal::QuotaExceeded {
                limit,
                allowed,
                asked,
            } => Failure {
                counts_all: !OF_ONE.contains(&limit),
                ..invalid(
                    Code::QuotaExceeded,
                    format!(
                        "{limit} is {allowed} and this would make it {asked}; make room first, or raise that limit"
                    ),
                )
                .with("limit", limit)
                .with("allowed", allowed)
                .with("asked", asked)
            },
            Refusal::IdentityQuotaExceeded {
                identity,
                quota,
                allowed,
                asked,
            } => invalid(
                Code::QuotaExceeded,
                format!(
                    "the quota `{quota}` of identity {identity:?} is {allowed} and this would make it {asked}; make room \
                     first, or have that quota raised"
                ),
            )
            .with("limit", quota)
            .with("allowed", allowed)
            .with("asked", asked),
            Refusal::Limits(error) => Failure::limits(&error),
            Refusal::Denied(denied) => Failure::denied(&denied),
            Refusal::RoleNotFound(name) => access::roles::not_found(&name),
            Refusal::IdentityNotFound(name) => access::identities::not_found(&name),
            Refusal::TokenNotFound(id) => access::tokens::not_found(id),
            // Ids are drawn at random, as those of leases.
            Refusal::TokenIdTaken => invalid(
                Code::Overloaded,
                "the id drawn for the token is in use; ask again".into(),
            ),
            Refusal::AccessInvalid(problem) => invalid(Code::AccessConflict, problem),
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

    /// A condition on a key that does not hold; `asked` is what it says.
    pub(super) fn condition_failed(asked: &str, mod_revision: Revision) -> Failure {
        let detail = match mod_revision.0 {
            0 => format!("{asked}, and it is absent"),
            present => format!("{asked}, and its mod_revision is {present}"),
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
        let mut failure =
            Failure::new(code, in_the_way(code, contention, clock)).at(contention.revision);
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
        let retry_after_ms = (self.retry == Retry::After).then(|| u64::from(self.retry_after_ms));
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
        reply.refused = match self.code {
            Code::Unauthenticated | Code::Forbidden => Some((self.code, problem.detail)),
            _ => None,
        };
        reply.unsent = Some(match self.outcome {
            Outcome::NotApplied => Unsent::NOT_APPLIED,
            Outcome::Unknown => Unsent {
                outcome: self.outcome,
                retry: self.retry,
            },
        });
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

/// Who or what is in the way, and what to ask instead.
fn in_the_way(code: Code, contention: &Contention, clock: Clock) -> String {
    let thing = thing(contention.kind, &contention.name);
    let waiting = contention.queue_length;
    let busy = match (contention.holder_count, contention.delay_until) {
        (0, Some(until)) => format!(
            "{thing} has no holder, but is kept for {} ms more, because its last holder did not release it and may \
             not know that it ended; {waiting} waiting",
            leases::remaining_ms(until, clock)
        ),
        (1, _) => format!("{thing} has 1 holder and {waiting} waiting"),
        (holders, _) => format!("{thing} has {holders} holders and {waiting} waiting"),
    };
    match code {
        Code::WaitExpired => format!("the wait is over: {busy}; whoever asks again waits anew"),
        _ => format!("{busy}; with `wait_ms` above 0 the request waits for it"),
    }
}

fn share_in_words(share: Share) -> String {
    match share {
        Share::Exclusive => "in exclusive mode".to_owned(),
        Share::Shared => "in shared mode".to_owned(),
        Share::Permits { permits, limit } => format!("with {permits} permits of {limit}"),
    }
}

#[cfg(test)]
mod tests {
    use tenure_state::{Put, Transaction};

    use super::*;

    fn lease() -> LeaseId {
        LeaseId::new(7).expect("7 is the number of a lease")
    }

    fn release(fence: Option<u64>) -> Command {
        Command::Release(Release {
            kind: Kind::Lock,
            name: "jobs/a".to_owned(),
            lease: lease(),
            owner: "w1".to_owned(),
            fence: fence.map(Fence),
        })
    }

    fn check(command: &Command, refusal: Refusal, code: Code, parts: &[&str]) {
        let decided = Decided {
            outcome: Err(refusal),
            replayed: false,
            revision: Revision(9),
            clock: Clock(0),
        };
        let failure = Asked::of(command).refused(&decided);
        let failure = failure.expect("its sentence needs what was asked");
        assert_eq!((failure.code, failure.revision), (code, Some(Revision(9))));
        let named = parts.iter().all(|part| failure.detail.contains(part));
        assert!(named, "{parts:?} are in {:?}", failure.detail);
    }

    #[test]
    fn who_holds_nothing_is_told_what_was_asked_for() {
        let parts = ["0000000000000007", "\"w1\"", "lock \"jobs/a\""];
        check(&release(Some(5)), Refusal::NotHeld, Code::NotHeld, &parts);
        check(&release(None), Refusal::NotHeld, Code::NotHeld, &parts);
        let broken = Command::Break(Break {
            kind: Kind::Semaphore,
            name: "pool".to_owned(),
            fence: Fence(5),
            holder: None,
            now: false,
        });
        let parts = ["nobody holds semaphore \"pool\""];
        check(&broken, Refusal::NotHeld, Code::NotHeld, &parts);
    }

    #[test]
    fn a_stale_fence_is_told_beside_the_present_one() {
        let stale = |present: Option<u64>| Refusal::FenceStale {
            present: present.map(Fence),
        };
        let (code, asked) = (Code::FenceStale, release(Some(5)));
        check(
            &asked,
            stale(Some(8)),
            code,
            &["fence 5", "lock \"jobs/a\"", "is 8"],
        );
        check(&asked, stale(None), code, &["fence 5", "nobody holds it"]);
        let guarded = Command::Transaction(Transaction {
            guard: Some(Guard {
                kind: Kind::Election,
                name: "boss".to_owned(),
                fence: Fence(6),
            }),
            ..Transaction::default()
        });
        check(
            &guarded,
            stale(Some(8)),
            code,
            &["fence 6", "election \"boss\""],
        );
    }

    #[test]
    fn a_key_on_another_lease_is_named() {
        let put = Put {
            key: Bytes::from_static(b"config/a"),
            value: Bytes::new(),
            content_type: None,
            lease: Some(lease()),
            refuse_other_lease: true,
        };
        let transaction = Command::Transaction(Transaction {
            then: vec![Operation::Put(put)],
            ..Transaction::default()
        });
        let refusal = Refusal::KeyOnOtherLease { lease: lease() };
        let parts = ["\"config/a\"", "0000000000000007", "If-Match"];
        check(&transaction, refusal, Code::KeyOnOtherLease, &parts);
    }
}
