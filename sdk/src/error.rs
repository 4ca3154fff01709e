//! What can go wrong, sorted by what the caller may conclude.
//!
//! Owns the one error of this crate. Whether a call may be sent again is decided in `call`, from what is read here.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use tenure_api::{Code, Outcome, Retry};

/// Why a call did not succeed.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Error, api::Code};
///
/// # let other = client.lock("jobs/nightly").acquire().await?;
/// match client.lock("jobs/nightly").acquire().await {
///     Ok(lock) => println!("held with fence {}", lock.fence()),
///     Err(Error::Unknown(failure)) => println!("perhaps acquired; it is being given up: {failure}"),
///     Err(error) if error.code() == Some(Code::LockHeld) => println!("somebody else is at it: {error}"),
///     Err(Error::NotApplied(failure)) => println!("not acquired: {failure}"),
///     Err(Error::Lost(loss)) => println!("acquired, but the answer came too late: {loss}"),
/// }
/// # other.release().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was changed by the call, nor will be: it was refused, or never reached a member.
    #[error("not applied: {0}")]
    NotApplied(Failure),
    /// The call may have been applied, or may yet be: no answer told.
    #[error("it is not known whether it was applied: {0}")]
    Unknown(Failure),
    /// What the call needed is not held any longer, as far as this client may believe.
    #[error("lost: {0}")]
    Lost(Loss),
}

impl Error {
    /// The code of the problem, where a member answered with one that this version knows.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::NotApplied(failure) | Error::Unknown(failure) => failure.code,
            Error::Lost(_) => None,
        }
    }

    /// Whether the same may be answered otherwise later: the cluster is away, or has too much to do. The client has tried
    /// for as long as its patience allowed.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// use std::time::Duration;
    /// # let patience = Duration::from_millis(100);
    /// // Nobody listens there.
    /// let away = tenure::Client::connect(["http://127.0.0.1:1"])?.with_patience(patience);
    /// assert!(away.get("config/colour").await.expect_err("nobody answers").may_pass());
    /// # let client = tenure::Client::connect([url])?;
    /// assert!(!client.get("").await.expect_err("that is no key").may_pass());
    /// # Ok(()) });
    /// ```
    pub fn may_pass(&self) -> bool {
        self.failure()
            .is_some_and(|failure| failure.code.is_none() || failure.retry == Retry::After)
    }

    /// What was answered; none for what was lost.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::NotApplied(failure) | Error::Unknown(failure) => Some(failure),
            Error::Lost(_) => None,
        }
    }
}

/// What a member answered, or what kept it from answering.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # let other = client.lock("jobs/nightly").metadata("host", "h1").acquire().await?;
/// let refused = client.lock("jobs/nightly").acquire().await.expect_err("somebody else is at it");
/// let failure = refused.failure().expect("a member answered");
/// println!("{failure}; it is held by {}", failure.fields["holders"][0]["metadata"]);
/// # assert_eq!(failure.fields["holders"][0]["metadata"]["host"], "h1");
/// # other.release().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    /// The code; none where no member answered, or with a code that this version does not know.
    pub code: Option<Code>,
    /// A sentence for people.
    pub detail: String,
    /// What a caller should do. The client has done it already as long as its own time allowed.
    pub retry: Retry,
    /// With [`Retry::After`]: when, if the member said so.
    pub retry_after: Option<Duration>,
    /// Fields of this code's own, as `holders` of `lock-held`.
    pub fields: Map<String, Value>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({})", self.detail, code.as_str()),
            None => f.write_str(&self.detail),
        }
    }
}

impl Failure {
    pub(crate) fn local(detail: impl Into<String>) -> Failure {
        Failure {
            code: None,
            detail: detail.into(),
            retry: Retry::Never,
            retry_after: None,
            fields: Map::new(),
        }
    }

    /// The same, with those who were asked too and are of another cluster.
    pub(crate) fn beside(mut self, strangers: &BTreeSet<String>) -> Failure {
        for member in strangers {
            self.detail += &format!("; {member} is a member of another cluster");
        }
        self
    }

    /// What a member answers with this code, in these words.
    pub(crate) fn of(code: Code, detail: String) -> Failure {
        Failure {
            code: Some(code),
            retry: code.retry(),
            ..Failure::local(detail)
        }
    }

    /// Reads a problem, also one whose code is newer than this crate; none where the body is no problem of ours.
    pub(crate) fn read(body: &[u8]) -> Option<(Failure, Outcome)> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
            return None;
        };
        let text = |field: Option<Value>| field.and_then(|value| value.as_str().map(str::to_owned));
        text(fields.remove("type"))?.strip_prefix("urn:tenure:problem:")?;
        let outcome = serde_json::from_value(fields.remove("outcome")?).ok()?;
        let code = fields
            .remove("code")
            .and_then(|code| serde_json::from_value(code).ok());
        let retry = fields
            .remove("retry")
            .and_then(|retry| serde_json::from_value(retry).ok());
        let retry_after = fields
            .remove("retry_after_ms")
            .and_then(|ms| ms.as_u64().map(Duration::from_millis));
        let title = text(fields.remove("title"));
        let detail = text(fields.remove("detail")).or(title).unwrap_or_default();
        fields.remove("status");
        let failure = Failure {
            code,
            detail,
            retry: retry.unwrap_or(Retry::Never),
            retry_after,
            fields,
        };
        Some((failure, outcome))
    }
}

/// Why something is not held any longer.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::Loss;
/// # let lock = client.lock("jobs/nightly").acquire().await?;
/// # client.revoke_lease(lock.lease_id()).await?;
///
/// match lock.lost().await {
///     Loss::Deadline => eprintln!("no renewal got through; perhaps the cluster can be reached again"),
///     Loss::LeaseEnded => eprintln!("the cluster has ended the lease"),
///     Loss::Broken => eprintln!("an operator has broken the hold"),
///     Loss::GivenUp => {}
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Loss {
    /// The lease was not renewed in time. It may still live in the cluster, but may not be believed in.
    #[error("the lease could not be renewed before its local deadline")]
    Deadline,
    /// The cluster said that the lease has ended.
    #[error("the cluster has ended the lease")]
    LeaseEnded,
    /// Somebody broke the hold, or it ended in another way while its lease lives.
    #[error("the hold was ended by somebody else")]
    Broken,
    /// This program gave it up.
    #[error("it was given up by this program")]
    GivenUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_with_a_code_from_the_future_still_tells_its_outcome() {
        let body = br#"{"type":"urn:tenure:problem:brand-new","title":"t","status":409,"detail":"d","code":"brand-new",
            "outcome":"not_applied","retry":"after","retry_after_ms":70,"more":1}"#;
        let (failure, outcome) = Failure::read(body).expect("it is a problem");
        assert_eq!((failure.code, outcome), (None, Outcome::NotApplied));
        assert_eq!(failure.retry_after, Some(Duration::from_millis(70)));
        assert_eq!(failure.fields.keys().collect::<Vec<_>>(), ["more"]);
    }

    #[test]
    fn what_a_proxy_answers_is_no_problem_of_ours() {
        let check = |body: &str| assert!(Failure::read(body.as_bytes()).is_none(), "{body}");
        check("<html>502 Bad Gateway</html>");
        check(r#"{"type":"about:blank","outcome":"not_applied","status":503}"#);
        check(r#"{"type":"urn:tenure:problem:no-leader","status":503}"#);
    }
}
