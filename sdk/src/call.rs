//! One call: tries on one member after the other, until there is an answer or no time left.
//!
//! Owns the rule of when a request may be sent again. Nearly every call of this crate is harmless when it is repeated: a
//! read, idempotent by who asks, or recorded under an `Idempotency-Key` that is the same on every try; one that is not is
//! not sent again where a member may have seen it. What is never concluded here: that a try without an answer was not
//! applied.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tenure_api::{Code, Outcome, Retry, header};
use tokio::time::{Instant, timeout};

use crate::client::Inner;
use crate::clock::Moment;
use crate::endpoint::{Chosen, Prefer, backoff};
use crate::error::{Error, Failure};
use crate::traced;
use crate::transport::SendError;

/// How long one try of a call that does not wait is given: a member answers a write within 5 s or says that it does
/// not know, and one that is cut off says so at once.
pub(crate) const TRY: Duration = Duration::from_secs(3);
/// How much longer than its poll a request is waited for. A member never answers a poll late.
pub(crate) const BEYOND_POLL: Duration = Duration::from_secs(2);
/// A recorded call is not repeated for longer than this, suspended time included: records are kept for 60 s unless an
/// operator changed it.
const RECORDED: Duration = Duration::from_secs(45);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// A cluster that elects is found again within this time.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(header::IDEMPOTENCY_KEY);

/// What a repetition does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// Nothing is ever changed.
    Read,
    /// Doing it twice is the same as doing it once, but the second answer is of the present.
    Repeatable,
    /// Doing it twice is not the same as doing it once, and nothing is recorded: what may have been done is not repeated.
    Once,
    /// The first decision is recorded and told again.
    Recorded,
    /// A lease is granted by it. Only that is recorded and told again: a refusal is of the present, and an earlier try
    /// that is still on its way may be granted what a later one was refused.
    Granting,
}

impl Effect {
    fn has_key(self) -> bool {
        matches!(self, Effect::Recorded | Effect::Granting)
    }
}

/// A request, and how long to go on with it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    effect: Effect,
    prefer: Prefer,
    try_for: Duration,
    patience: Duration,
    /// When a request was first sent under its key, where that was before this call.
    keyed_since: Option<Moment>,
}

/// A success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// The moment before the first byte of the request that was answered: of this try, not of the first.
    pub(crate) sent: Moment,
    /// Whether there was a try before whose fate is not known: it may yet be carried out.
    pub(crate) doubted: bool,
}

impl Answer {
    /// # Errors
    ///
    /// Where the body is not what was expected: what became of the call is then not known.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let detail = format!("a member answered what this version cannot read: {error}");
            Error::Unknown(Failure::local(detail))
        })
    }
}

impl Call {
    pub(crate) fn new(method: Method, target: String, effect: Effect, patience: Duration) -> Call {
        let mut headers = Vec::new();
        let mut patience = patience;
        if effect.has_key() {
            headers.push((IDEMPOTENCY_KEY, drawn_key()));
            patience = patience.min(RECORDED);
        }
        Call {
            method,
            target,
            headers,
            body: Bytes::new(),
            effect,
            prefer: Prefer::Leader,
            try_for: TRY,
            patience,
            keyed_since: None,
        }
    }

    pub(crate) fn read(target: String, patience: Duration) -> Call {
        let mut call = Call::new(Method::GET, target, Effect::Read, patience);
        call.prefer = Prefer::Any;
        call
    }

    pub(crate) fn with_json(mut self, body: &impl Serialize) -> Call {
        let body = serde_json::to_vec(body).expect("wire types have a form in JSON");
        self = self.with_header(http::header::CONTENT_TYPE, tenure_api::JSON);
        self.body = body.into();
        self
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Call {
        self.body = body;
        self
    }

    /// The value must be one; those that come from a caller are checked before.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Call {
        let value = HeaderValue::from_str(value).expect("it was made of visible ASCII");
        self.headers.push((name, value));
        self
    }

    /// Records the decision under this key, in place of the one that was drawn.
    pub(crate) fn with_idempotency_key(mut self, key: &str) -> Call {
        self.headers.retain(|(name, _)| *name != IDEMPOTENCY_KEY);
        self.with_header(IDEMPOTENCY_KEY, key)
    }

    /// Under a key that no other request has, sent from now on.
    pub(crate) fn with_new_key(mut self, now: Moment) -> Call {
        self.headers.retain(|(name, _)| *name != IDEMPOTENCY_KEY);
        self.headers.push((IDEMPOTENCY_KEY, drawn_key()));
        self.keyed_since = Some(now);
        self
    }

    /// For how much longer the record is certain to be kept that a request under its key has made.
    pub(crate) fn is_recorded_for(&self, now: Moment) -> Duration {
        let since = self.keyed_since.unwrap_or(now);
        since.after(RECORDED).remaining(now)
    }

    /// Under the key of another request, so that members decide but one of the two.
    pub(crate) fn with_key_of(mut self, other: &Call) -> Call {
        self.headers.retain(|(name, _)| *name != IDEMPOTENCY_KEY);
        let keys = other
            .headers
            .iter()
            .filter(|(name, _)| *name == IDEMPOTENCY_KEY);
        self.headers.extend(keys.cloned());
        self.keyed_since = other.keyed_since;
        self
    }

    /// The request is held open for this long before it is answered.
    pub(crate) fn held_for(self, poll: Duration) -> Call {
        self.with_tries_of(poll + BEYOND_POLL)
    }

    pub(crate) fn with_tries_of(mut self, try_for: Duration) -> Call {
        self.try_for = try_for;
        self
    }

    pub(crate) fn with_patience(mut self, patience: Duration) -> Call {
        self.patience = patience;
        self
    }

    pub(crate) fn at_any_member(mut self) -> Call {
        self.prefer = Prefer::Any;
        self
    }

    pub(crate) fn request(
        &self,
        member: &str,
        client: &Inner,
        who: Option<&HeaderValue>,
    ) -> Result<Request<Bytes>, Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{member}{}", self.target));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(cluster) = client.cluster.get() {
            request = request.header(header::CLUSTER, cluster);
        }
        // That it may be read on the way to this member was seen to when it became one that is asked.
        if let Some(who) = who {
            request = request.header(http::header::AUTHORIZATION, who);
        }
        request.body(self.body.clone()).map_err(|error| {
            Error::NotApplied(Failure::local(format!("this is no request: {error}")))
        })
    }
}

/// A key that no other request has: asked of the system each time, since a generator within the process goes on alike in
/// every copy of it (a cloned machine, a restored checkpoint, a fork), and two copies would be answered with one hold.
fn drawn_key() -> HeaderValue {
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).expect("the system has random numbers");
    let key = format!("{:032x}", u128::from_be_bytes(drawn));
    HeaderValue::try_from(key).expect("hex digits are a header value")
}

/// What one try came to.
enum Tried {
    Answered(Response<Bytes>),
    /// Another try makes sense.
    Again {
        failure: Failure,
        unknown: bool,
    },
    /// By a member of another cluster, which says nothing of ours.
    Elsewhere,
    /// Another try would be refused alike.
    Refused(Failure),
}

/// Makes the call.
pub(crate) async fn perform(client: &Inner, call: &Call) -> Result<Answer, Error> {
    let span = traced::Call::begin(&call.method, &call.target);
    let result = go_on(client, call, &span).await;
    span.end(&result);
    result
}

async fn go_on(client: &Inner, call: &Call, span: &traced::Call) -> Result<Answer, Error> {
    let end = Instant::now() + call.patience;
    // The clock of the runtime may stand still while the machine is suspended; records age all the same.
    let now = client.clock.now();
    let recorded = now.after(call.is_recorded_for(now));
    let is_forgotten = || call.effect.has_key() && recorded.has_passed(client.clock.now());
    let mut doubted = false;
    let mut tries = 0;
    let mut last: Option<Failure> = None;
    let mut strangers = BTreeSet::new();
    let mut who = client.credential.current();
    loop {
        // Under a key of one identity nothing is recorded that another did: what is in doubt is repeated by who began it.
        let may_change = !(doubted && call.effect.has_key());
        if may_change {
            who = client.credential.current();
        }
        let (chosen, member) = client.endpoints.choose(call.prefer, Instant::now());
        let mut request = call.request(&member, client, who.as_ref())?;
        let attempt = span.attempt(&mut request, tries);
        let left = end.saturating_duration_since(Instant::now());
        let shown = client.transport.shown();
        let sent = client.clock.now();
        let answer = timeout(call.try_for.min(left), client.transport.send(request)).await;
        attempt.end(answer.as_ref().ok());
        let was_cut = answer.is_err() && left < call.try_for;
        let (failure, pause) = match judge(client, chosen, &member, answer) {
            Tried::Answered(answer) => {
                let status = answer.status();
                let body = answer.into_body();
                return Ok(Answer {
                    status,
                    body,
                    sent,
                    doubted,
                });
            }
            Tried::Refused(mut failure) => {
                if failure.code == Some(Code::Unauthenticated) && may_change {
                    match client.renewed(who.as_ref(), shown.as_ref()).await {
                        Ok(()) if Instant::now() < end => continue,
                        Ok(()) => {}
                        Err(why) => failure.detail.push_str(&why),
                    }
                }
                let told = !doubted || tells_of_earlier(call.effect, &failure) && !is_forgotten();
                return Err(given_up(!told, failure));
            }
            Tried::Again { failure, unknown } => {
                doubted |= unknown && call.effect != Effect::Read;
                if doubted && call.effect == Effect::Once {
                    return Err(given_up(doubted, failure));
                }
                let pause = pause(client, &failure, tries);
                // A try that the end of the patience cut short says less than the one before.
                let before = last.take().filter(|_| was_cut);
                (before.unwrap_or(failure), pause)
            }
            Tried::Elsewhere => {
                strangers.insert(member);
                let failure = last.take().unwrap_or_else(|| {
                    Failure::local("no member of the cluster that answered first was reached")
                });
                let pause = pause(client, &failure, tries);
                (failure, pause)
            }
        };
        let given_up = |failure: Failure| given_up(doubted, failure.beside(&strangers));
        if Instant::now() + pause >= end {
            return Err(given_up(failure));
        }
        tokio::time::sleep(pause).await;
        // Without its record, an earlier try would be done a second time.
        if doubted && is_forgotten() {
            return Err(given_up(failure));
        }
        last = Some(failure);
        tries += 1;
    }
}

/// Asks one member once, and once more where it refuses a token or certificate in place of which there is another now. Whether
/// it answers says nothing about whom other calls ask. Of a change that was sent and not answered by a member, nothing is known.
pub(crate) async fn ask(client: &Inner, call: &Call, member: &str) -> Result<Answer, Error> {
    let (who, shown) = (client.credential.current(), client.transport.shown());
    match ask_as(client, call, member, who.as_ref()).await {
        Err(Error::NotApplied(mut failure)) if failure.code == Some(Code::Unauthenticated) => {
            match client.renewed(who.as_ref(), shown.as_ref()).await {
                Ok(()) => {
                    let who = client.credential.current();
                    ask_as(client, call, member, who.as_ref()).await
                }
                Err(why) => {
                    failure.detail.push_str(&why);
                    Err(Error::NotApplied(failure))
                }
            }
        }
        told => told,
    }
}

async fn ask_as(
    client: &Inner,
    call: &Call,
    member: &str,
    who: Option<&HeaderValue>,
) -> Result<Answer, Error> {
    let request = call.request(member, client, who)?;
    let sent = client.clock.now();
    let within = call.try_for.min(call.patience);
    let changes = call.effect != Effect::Read;
    let failed = |why: String, sent: bool| {
        let failure = Failure::local(format!("{member}: {why}"));
        Err(given_up(sent && changes, failure))
    };
    match timeout(within, client.transport.send(request)).await {
        Err(_) => failed("no answer came in time".into(), true),
        Ok(Err(SendError::NotSent(why))) => failed(why, false),
        Ok(Err(SendError::Broken(why))) => failed(why, true),
        Ok(Ok(answer)) if answer.status().is_success() => {
            let status = answer.status();
            let body = answer.into_body();
            Ok(Answer {
                status,
                body,
                sent,
                doubted: false,
            })
        }
        Ok(Ok(answer)) => match Failure::read(answer.body()) {
            Some((failure, outcome)) => {
                Err(given_up(outcome == Outcome::Unknown && changes, failure))
            }
            None => {
                let why = format!("{} without a word of Tenure's", answer.status());
                failed(why, true)
            }
        },
    }
}

type Sent = Result<Result<Response<Bytes>, SendError>, tokio::time::error::Elapsed>;

fn judge(client: &Inner, chosen: Chosen, member: &str, answer: Sent) -> Tried {
    let rest = |at_least: Duration| {
        client.endpoints.failed(chosen, at_least, Instant::now());
    };
    let unanswered = |why: String, unknown: bool| {
        rest(Duration::ZERO);
        Tried::Again {
            failure: Failure::local(format!("{member}: {why}")),
            unknown,
        }
    };
    let answer = match answer {
        Err(_) => return unanswered("no answer came in time".into(), true),
        Ok(Err(SendError::NotSent(why))) => return unanswered(why, false),
        Ok(Err(SendError::Broken(why))) => return unanswered(why, true),
        Ok(Ok(answer)) => answer,
    };
    if answer.status().is_success() {
        client.learn(chosen, answer.headers());
        return Tried::Answered(answer);
    }
    let Some((failure, outcome)) = Failure::read(answer.body()) else {
        let why = format!("{} without a word of Tenure's", answer.status());
        return unanswered(why, true);
    };
    if outcome == Outcome::Unknown {
        rest(Duration::ZERO);
        return Tried::Again {
            failure,
            unknown: true,
        };
    }
    let is_stranger = failure.code == Some(Code::WrongCluster);
    client.endpoints.set_stranger(chosen, is_stranger);
    match failure.code {
        // It is the member that is in trouble: another may do better at once.
        Some(
            Code::NoLeader
            | Code::Lagging
            | Code::ShuttingDown
            | Code::Overloaded
            | Code::TooManyWaiters,
        ) => {
            rest(failure.retry_after.unwrap_or_default());
            Tried::Again {
                failure,
                unknown: false,
            }
        }
        // Its leader is none of ours. Where all are of another cluster, that is told at once.
        Some(Code::WrongCluster) => {
            rest(Duration::ZERO);
            match client.endpoints.all_are_strangers() {
                false => Tried::Elsewhere,
                true => Tried::Refused(failure),
            }
        }
        // Time alone does not make room.
        Some(Code::QuotaExceeded) => Tried::Refused(failure),
        _ if failure.retry == Retry::After => Tried::Again {
            failure,
            unknown: false,
        },
        _ => {
            client.learn(chosen, answer.headers());
            Tried::Refused(failure)
        }
    }
}

/// Nothing, while there is a member that has not failed lately; else what was asked for, or a growing time by lot.
fn pause(client: &Inner, failure: &Failure, tries: u32) -> Duration {
    let drawn = backoff(FIRST_PAUSE, tries, LONGEST_PAUSE);
    let by_all = matches!(
        failure.code,
        Some(Code::TooManyRequests | Code::MembershipBusy)
    );
    match failure.retry_after {
        Some(asked) if by_all => asked.max(drawn),
        _ if client.endpoints.any_is_rested(Instant::now()) && tries < 32 => Duration::ZERO,
        _ => drawn,
    }
}

fn given_up(doubted: bool, failure: Failure) -> Error {
    if doubted {
        Error::Unknown(failure)
    } else {
        Error::NotApplied(failure)
    }
}

/// Whether a refusal tells the fate of earlier tries, too: only a recorded decision does. Any other refusal is of the
/// present, and an earlier try may have been applied or may yet be.
fn tells_of_earlier(effect: Effect, failure: &Failure) -> bool {
    effect == Effect::Recorded && failure.code.is_some_and(is_recorded)
}

/// Whether members record a refusal with this code. Each code is named, so that a new one has to be thought of.
fn is_recorded(code: Code) -> bool {
    match code {
        Code::KeyNotFound
        | Code::LeaseNotFound
        | Code::NotHeld
        | Code::KeyOnOtherLease
        | Code::RevisionAhead
        | Code::LeaseExpired
        | Code::ConditionFailed
        | Code::FenceStale => true,
        Code::InvalidRequest
        | Code::InvalidName
        | Code::TtlOutOfRange
        | Code::Unauthenticated
        | Code::Forbidden
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
        | Code::LockHeld
        | Code::AlreadyHeld
        | Code::WaitExpired
        | Code::ModeMismatch
        | Code::LimitMismatch
        | Code::MembershipBusy
        | Code::MembershipUnsafe
        | Code::AccessConflict
        | Code::Compacted
        | Code::IdempotencyMismatch
        | Code::QuotaExceeded
        | Code::TooManyRequests
        | Code::TooManyWaiters
        | Code::NoLeader
        | Code::Lagging
        | Code::Overloaded
        | Code::ShuttingDown
        | Code::OutcomeUnknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    /// The keys of two requests that a copy of this process makes, as it goes on from the same point.
    fn keys_of_a_copy() -> [Call; 2] {
        fastrand::seed(7);
        let first = Call::new(
            Method::POST,
            "/v1/locks/a".into(),
            Effect::Granting,
            RECORDED,
        );
        let second = first.clone().with_new_key(SystemClock.now());
        [first, second]
    }

    #[test]
    fn copies_of_a_process_do_not_send_the_same_idempotency_keys() {
        let key = |call: &Call| {
            let mut keys = call.headers.iter();
            let (_, key) = keys
                .find(|(name, _)| *name == IDEMPOTENCY_KEY)
                .expect("it has a key");
            assert_eq!(key.len(), 32, "{key:?}");
            key.clone()
        };
        let all: Vec<HeaderValue> = [keys_of_a_copy(), keys_of_a_copy()]
            .iter()
            .flatten()
            .map(key)
            .collect();
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{all:?}");
        }
    }
}
