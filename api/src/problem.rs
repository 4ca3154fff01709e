//! Problems: what every answer that is not a success says (RFC 9457).
//!
//! Owns the list of codes with their status, title and what a caller should do. The text of a detail is made where
//! the problem is found.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What went wrong, as a word that programs compare.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A request that makes no sense, or asks for what this version does not serve.
    InvalidRequest,
    /// A name outside the grammar.
    InvalidName,
    /// A TTL outside its limits.
    TtlOutOfRange,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// The key is absent.
    KeyNotFound,
    /// No such lease is known.
    LeaseNotFound,
    /// Neither a hold nor a place of this lease and owner.
    NotHeld,
    /// No such member.
    MemberNotFound,
    /// No such role.
    RoleNotFound,
    /// No such identity.
    IdentityNotFound,
    /// No such token.
    TokenNotFound,
    /// No such path.
    RouteNotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The answer cannot be had in a form that the caller accepts.
    NotAcceptable,
    /// A limit of size would be passed.
    TooLarge,
    /// The body is not of a type that the call takes.
    UnsupportedMediaType,
    /// The request is meant for another cluster.
    WrongCluster,
    /// Somebody else holds it, and the caller does not wait.
    LockHeld,
    /// This lease and owner already hold or wait for one of the names.
    AlreadyHeld,
    /// The whole wait is over.
    WaitExpired,
    /// Asked again in another way than it holds or waits.
    ModeMismatch,
    /// The semaphore is held with another limit.
    LimitMismatch,
    /// The key hangs on another live lease.
    KeyOnOtherLease,
    /// Another change of members is under way.
    MembershipBusy,
    /// The change could cost the quorum.
    MembershipUnsafe,
    /// Roles, identities and tokens would contradict each other, or nobody could administer any more.
    AccessConflict,
    /// History from the given revision is gone.
    Compacted,
    /// The cluster has never been at the given revision.
    RevisionAhead,
    /// The lease has ended.
    LeaseExpired,
    /// A condition does not hold.
    ConditionFailed,
    /// The fence is not that of a live hold.
    FenceStale,
    /// The same key was used for another request.
    IdempotencyMismatch,
    /// A quota would be passed.
    QuotaExceeded,
    /// Too many requests of this caller.
    TooManyRequests,
    /// Too many requests wait at this member.
    TooManyWaiters,
    /// This member has no contact with a leader.
    NoLeader,
    /// This member is behind.
    Lagging,
    /// This member or the leader has too much to do.
    Overloaded,
    /// This member is stopping.
    ShuttingDown,
    /// The write was proposed and its fate is not known.
    OutcomeUnknown,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 41] = [
        Code::InvalidRequest,
        Code::InvalidName,
        Code::TtlOutOfRange,
        Code::Unauthenticated,
        Code::Forbidden,
        Code::KeyNotFound,
        Code::LeaseNotFound,
        Code::NotHeld,
        Code::MemberNotFound,
        Code::RoleNotFound,
        Code::IdentityNotFound,
        Code::TokenNotFound,
        Code::RouteNotFound,
        Code::MethodNotAllowed,
        Code::NotAcceptable,
        Code::TooLarge,
        Code::UnsupportedMediaType,
        Code::WrongCluster,
        Code::LockHeld,
        Code::AlreadyHeld,
        Code::WaitExpired,
        Code::ModeMismatch,
        Code::LimitMismatch,
        Code::KeyOnOtherLease,
        Code::MembershipBusy,
        Code::MembershipUnsafe,
        Code::AccessConflict,
        Code::Compacted,
        Code::RevisionAhead,
        Code::LeaseExpired,
        Code::ConditionFailed,
        Code::FenceStale,
        Code::IdempotencyMismatch,
        Code::QuotaExceeded,
        Code::TooManyRequests,
        Code::TooManyWaiters,
        Code::NoLeader,
        Code::Lagging,
        Code::Overloaded,
        Code::ShuttingDown,
        Code::OutcomeUnknown,
    ];

    /// Its status, its word and its title.
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::InvalidRequest => (400, "invalid-request", "The request is not valid"),
            Code::InvalidName => (400, "invalid-name", "The name is not valid"),
            Code::TtlOutOfRange => (400, "ttl-out-of-range", "The TTL is outside its limits"),
            Code::Unauthenticated => (
                401,
                "unauthenticated",
                "Credentials are missing or not valid",
            ),
            Code::Forbidden => (403, "forbidden", "The request is not allowed"),
            Code::KeyNotFound => (404, "key-not-found", "There is no such key"),
            Code::LeaseNotFound => (404, "lease-not-found", "There is no such lease"),
            Code::NotHeld => (404, "not-held", "There is neither a hold nor a place"),
            Code::MemberNotFound => (404, "member-not-found", "There is no such member"),
            Code::RoleNotFound => (404, "role-not-found", "There is no such role"),
            Code::IdentityNotFound => (404, "identity-not-found", "There is no such identity"),
            Code::TokenNotFound => (404, "token-not-found", "There is no such token"),
            Code::RouteNotFound => (404, "route-not-found", "There is no such path"),
            Code::MethodNotAllowed => (
                405,
                "method-not-allowed",
                "The path does not take this method",
            ),
            Code::NotAcceptable => (
                406,
                "not-acceptable",
                "The answer has no form that is accepted",
            ),
            Code::TooLarge => (413, "too-large", "A limit of size would be passed"),
            Code::UnsupportedMediaType => {
                (415, "unsupported-media-type", "The body has another type")
            }
            Code::WrongCluster => (421, "wrong-cluster", "This is another cluster"),
            Code::LockHeld => (409, "lock-held", "It is held by somebody else"),
            Code::AlreadyHeld => (
                409,
                "already-held",
                "One of the names is already held or waited for",
            ),
            Code::WaitExpired => (409, "wait-expired", "The wait is over"),
            Code::ModeMismatch => (
                409,
                "mode-mismatch",
                "It is held or waited for in another way",
            ),
            Code::LimitMismatch => (409, "limit-mismatch", "It is held with another limit"),
            Code::KeyOnOtherLease => (409, "key-on-other-lease", "The key hangs on another lease"),
            Code::MembershipBusy => (
                409,
                "membership-busy",
                "Another change of members is under way",
            ),
            Code::MembershipUnsafe => {
                (409, "membership-unsafe", "The change could cost the quorum")
            }
            Code::AccessConflict => (
                409,
                "access-conflict",
                "Roles, identities and tokens would contradict each other",
            ),
            Code::Compacted => (410, "compacted", "The history is gone"),
            Code::RevisionAhead => (410, "revision-ahead", "The cluster has never been there"),
            Code::LeaseExpired => (410, "lease-expired", "The lease has ended"),
            Code::ConditionFailed => (412, "condition-failed", "A condition does not hold"),
            Code::FenceStale => (412, "fence-stale", "The fence is not that of a live hold"),
            Code::IdempotencyMismatch => (
                422,
                "idempotency-mismatch",
                "The key was used for another request",
            ),
            Code::QuotaExceeded => (429, "quota-exceeded", "A quota would be passed"),
            Code::TooManyRequests => (429, "too-many-requests", "There are too many requests"),
            Code::TooManyWaiters => (429, "too-many-waiters", "Too many requests are waiting"),
            Code::NoLeader => (503, "no-leader", "There is no contact with a leader"),
            Code::Lagging => (503, "lagging", "This member is behind"),
            Code::Overloaded => (503, "overloaded", "There is too much to do"),
            Code::ShuttingDown => (503, "shutting-down", "This member is stopping"),
            Code::OutcomeUnknown => (
                504,
                "outcome-unknown",
                "It is not known whether it was applied",
            ),
        }
    }

    /// The number of the HTTP status.
    pub fn status(self) -> u16 {
        self.facts().0
    }

    /// The code as it is written in `code` and at the end of `type`.
    pub fn as_str(self) -> &'static str {
        self.facts().1
    }

    /// A title for people, the same for every problem of this code.
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    /// What became of the request where nothing else is known.
    pub fn outcome(self) -> Outcome {
        match self {
            Code::OutcomeUnknown => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }

    /// What a caller should do where nothing else is known.
    pub fn retry(self) -> Retry {
        match self {
            Code::LockHeld | Code::WaitExpired => Retry::Same,
            Code::MembershipBusy
            | Code::QuotaExceeded
            | Code::TooManyRequests
            | Code::TooManyWaiters
            | Code::NoLeader
            | Code::Lagging
            | Code::Overloaded
            | Code::ShuttingDown => Retry::After,
            Code::InvalidRequest
            | Code::InvalidName
            | Code::TtlOutOfRange
            | Code::Unauthenticated
            | Code::Forbidden
            | Code::KeyNotFound
            | Code::LeaseNotFound
            | Code::NotHeld
            | Code::MemberNotFound
            | Code::RoleNotFound
            | Code::IdentityNotFound
            | Code::TokenNotFound
            | Code::RouteNotFound
            | Code::MethodNotAllowed
            | Code::NotAcceptable
            | Code::TooLarge
            | Code::UnsupportedMediaType
            | Code::WrongCluster
            | Code::AlreadyHeld
            | Code::ModeMismatch
            | Code::LimitMismatch
            | Code::KeyOnOtherLease
            | Code::MembershipUnsafe
            | Code::AccessConflict
            | Code::Compacted
            | Code::RevisionAhead
            | Code::LeaseExpired
            | Code::ConditionFailed
            | Code::FenceStale
            | Code::IdempotencyMismatch
            | Code::OutcomeUnknown => Retry::Never,
        }
    }
}

/// What became of a request that was not answered with success.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was changed by it, nor will be.
    NotApplied,
    /// It may have been applied, or may yet be.
    Unknown,
}

/// What a caller should do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request will fail again, or must not be sent again.
    Never,
    /// The same request may be sent again at once.
    Same,
    /// The same request may be sent again after `retry_after_ms`, to this member or another.
    After,
}

/// The body of a problem.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:tenure:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A title for people.
    pub title: String,
    /// The number of the HTTP status.
    pub status: u16,
    /// A sentence that names the value at fault and what would be accepted.
    pub detail: String,
    /// The code.
    pub code: Code,
    /// What became of the request.
    pub outcome: Outcome,
    /// What to do.
    pub retry: Retry,
    /// With `retry` `after`: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Fields of this code's own.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_written_in_json_as_in_its_type() {
        for code in Code::ALL {
            let json = serde_json::to_value(code).expect("a code has a form in JSON");
            assert_eq!(json, Value::from(code.as_str()));
        }
    }

    #[test]
    fn no_code_is_listed_twice_and_each_status_is_an_error() {
        let words: std::collections::BTreeSet<_> =
            Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(
            Code::ALL
                .iter()
                .all(|code| (400..=504).contains(&code.status()))
        );
    }

    #[test]
    fn a_problem_keeps_its_own_fields_beside_the_common_ones() {
        let text = r#"{"type":"urn:tenure:problem:compacted","title":"t","status":410,"detail":"d","code":"compacted",
            "outcome":"not_applied","retry":"never","compact_revision":7}"#;
        let problem: Problem = serde_json::from_str(text).expect("the text is a problem");
        assert_eq!(problem.fields["compact_revision"], 7);
        assert_eq!(problem.retry_after_ms, None);
        let again = serde_json::to_value(&problem).expect("a problem has a form in JSON");
        assert_eq!(
            again,
            serde_json::from_str::<Value>(text).expect("the text is JSON")
        );
    }
}
