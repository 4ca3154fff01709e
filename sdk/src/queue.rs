//! Asking, and waiting in a queue: again and again with the same body, which keeps the place.
//!
//! Owns the loop that locks, semaphores and elections share, and the asking that grants a lease. A place is given up by
//! leaving the queue (`place`), or with the lease that was granted for it. A lease of its own is granted by the first
//! asking, which is recorded: however often it is sent, there is one lease.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use tenure_api::{Code, Mode, Retry};
use tokio::time::Instant;

use crate::ask::{Acquire, Holdable};
use crate::call::{Answer, BEYOND_POLL, Call, Effect};
use crate::claim::Claim;
use crate::client::Client;
use crate::error::{Error, Failure, Loss};
use crate::held::{Grant, Held};
use crate::hold::Part;
use crate::lease::{
    Had, LAST_WORDS, Lease, SHORTEST_TTL, Shared, before_anew, has_ended, millis, revoke, try_for,
};
use crate::name;
use crate::place::Place;

/// How long one asking is held open: a member that stopped answering is left after this and a little more.
const LONGEST_POLL: Duration = Duration::from_secs(10);
/// For so long it is tried to make the first asking.
const FIRST_WITHIN: Duration = Duration::from_secs(45);
/// Between askings that could not be made.
const PAUSE: Duration = Duration::from_millis(100);
/// One asking that overtakes another is all that there can be.
const TAKEN_BACK_IN: usize = 3;

/// What a `200` or `202` says that matters here.
#[derive(Deserialize)]
struct Said {
    lease: String,
    remaining_ms: u64,
    revision: u64,
    /// Of a place.
    wait_remaining_ms: Option<u64>,
    fence: Option<u64>,
    #[serde(default)]
    mode: Mode,
    /// Of several that were asked for together.
    #[serde(default)]
    locks: Vec<SaidLock>,
}

#[derive(Deserialize)]
struct SaidLock {
    lock: String,
    mode: Mode,
    fence: Option<u64>,
}

impl Said {
    /// What was granted, where the answer says that something was.
    fn grant(self, answer: &Answer, names: &[String]) -> Result<Option<Grant>, Error> {
        if answer.status != StatusCode::OK {
            return Ok(None);
        }
        let named = |lock: SaidLock| Some(Part::new(lock.lock, lock.fence?, lock.mode));
        let parts: Option<Vec<Part>> = match (self.locks.is_empty(), names) {
            (true, [name]) => self
                .fence
                .map(|fence| vec![Part::new(name.clone(), fence, self.mode)]),
            _ => self.locks.into_iter().map(named).collect(),
        };
        let parts = parts.filter(|parts| parts.len() == names.len());
        let parts = parts.ok_or_else(|| {
            let detail = "a member granted something without a fence for each name";
            Error::Unknown(Failure::local(detail))
        })?;
        Ok(Some(Grant {
            sent: answer.sent,
            remaining_ms: self.remaining_ms,
            parts,
            revision: self.revision,
        }))
    }
}

/// How long one asking is to be held open.
fn poll(wait: Duration, ttl: Duration) -> Duration {
    wait.min(ttl / 3).min(LONGEST_POLL)
}

/// What is known of the end of a place.
struct Ending {
    wait: Duration,
    left: Duration,
    since: Instant,
}

impl Ending {
    /// How long one asking may take. A poll that would end in the last twentieth of a wait lasts until the place ends, if
    /// that is within two thirds of the TTL. All of it is less than what is believed of a lease, so that a member which
    /// does not answer is left while the lease, and what was granted meanwhile, may still be believed in when another is
    /// asked.
    fn try_for(&self, poll: Duration, ttl: Duration) -> Duration {
        // The clock of the cluster may have stood still since, or be a little behind.
        let at_least = self.left.saturating_sub(self.since.elapsed() + PAUSE);
        let longest = (ttl / 3 * 2).min(poll.saturating_add(self.wait / 20));
        let held_open = match at_least <= longest {
            true => poll.max(self.left.min(longest)),
            false => poll,
        };
        (held_open + BEYOND_POLL.min(ttl / 4)).max(try_for(ttl))
    }
}

fn path<W: Holdable>(asking: &Acquire<'_, W>) -> String {
    match asking.names.as_slice() {
        [name] if !asking.is_together() => name::path(W::KIND.collection(), name),
        _ => format!("/v1/{}", W::KIND.collection()),
    }
}

/// Asks until it is held, may not be waited for any longer, or is to be given up.
pub(crate) async fn acquire<W: Holdable>(
    asking: Acquire<'_, W>,
    stop: impl Future<Output = ()>,
) -> Result<Option<Held>, Error> {
    if asking.is_together() {
        crate::multi::check(&asking.names)?;
    }
    let mut stop = pin!(stop);
    let end = Instant::now().checked_add(asking.wait);
    if let Some(lease) = asking.lease {
        let mut place = Place::take(&asking.client, asking.asked(), &lease.shared)?;
        return tokio::select! {
            biased;
            waited = wait_on(&asking, &lease.shared, end, false) => {
                if waited.as_ref().is_err_and(leaves_no_place) {
                    place.free();
                }
                let grant = lease_is_judge(&lease.shared, waited)?;
                hold(&asking, &lease.shared, (None, place.becomes_held()), grant).map(Some)
            }
            () = &mut stop => {
                place.may_come();
                given_up(place.leave().await)
            }
        };
    }
    let mut first = First::of(&asking);
    let (lease, granted) = tokio::select! {
        biased;
        granted = first.ask(&asking.names) => granted?,
        () = &mut stop => {
            let Some(call) = first.call.clone() else { return Ok(None) };
            let taken_back = take_back(&asking.client, &call).await;
            // Dropped before this, or where it failed, it is taken back in the background.
            if taken_back.is_ok() {
                first.call = None;
            }
            return given_up(taken_back);
        }
    };
    let grant = match granted {
        Some(grant) => grant,
        None => tokio::select! {
            biased;
            waited = wait_on(&asking, &lease.shared, end, true) => {
                lease_is_judge(&lease.shared, waited)?
            }
            () = &mut stop => return given_up(lease.revoke().await),
        },
    };
    let shared = Arc::clone(&lease.shared);
    hold(&asking, &shared, (Some(lease), Vec::new()), grant).map(Some)
}

/// What is told to whoever gave up an asking. Where that failed, the place stays or what was asked for may have been
/// granted, whatever a later answer said: that the giving up was refused is not that nothing was applied.
fn given_up(told: Result<(), Error>) -> Result<Option<Held>, Error> {
    match told {
        Ok(()) => Ok(None),
        Err(Error::NotApplied(failure)) => Err(Error::Unknown(failure)),
        Err(error) => Err(error),
    }
}

fn hold<W: Holdable>(
    asking: &Acquire<'_, W>,
    lease: &Arc<Shared>,
    by: (Option<Lease>, Vec<Claim>),
    grant: Grant,
) -> Result<Held, Error> {
    let of = (W::KIND, asking.owner_name());
    let held = Held::new(asking.client.clone(), of, lease, by, grant);
    match held.state() {
        // The answer was so late that nothing may be believed; dropping the guard gives the hold back.
        crate::State::Lost(loss) => Err(Error::Lost(loss)),
        crate::State::Held | crate::State::InJeopardy => Ok(held),
    }
}

/// The first asking without a lease: it is answered at once, so that the lease is soon known. Dropped before that, it
/// is sent again with the same key, to learn which lease there is to be ended. So it is where a try is in doubt.
struct First {
    client: Client,
    ttl: Duration,
    /// As it is sent, but for its key.
    asked: Call,
    until: Instant,
    /// What may have been granted something of which nobody knows.
    call: Option<Call>,
}

impl First {
    fn of<W: Holdable>(asking: &Acquire<'_, W>) -> First {
        let patience = asking.client.patience.max(asking.wait).min(FIRST_WITHIN);
        let call = Call::new(Method::POST, path(asking), Effect::Granting, patience);
        First {
            client: asking.client.clone(),
            ttl: asking.ttl,
            asked: call
                .with_json(&asking.body_by(None, Duration::ZERO))
                .with_tries_of(try_for(asking.ttl)),
            until: Instant::now() + patience,
            call: None,
        }
    }

    /// The lease, and what was granted where it is not to be waited for.
    async fn ask(&mut self, names: &[String]) -> Result<(Lease, Option<Grant>), Error> {
        let answer = loop {
            match self.ask_anew().await {
                Err(error) if has_ended(error.code()) => before_anew(self.until).await?,
                told => break told?,
            }
        };
        let said: Said = answer.json()?;
        self.call = None;
        let by = (Had::Granted, answer.sent, said.remaining_ms);
        let lease = Lease::kept(&self.client, said.lease.clone(), self.ttl, by)?;
        Ok((lease, said.grant(&answer, names)?))
    }

    /// Asks under a key of its own.
    async fn ask_anew(&mut self) -> Result<Answer, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        let now = self.client.inner.clock.now();
        let call = self.asked.clone().with_patience(left).with_new_key(now);
        let call = self.call.insert(call);
        let told = self.client.perform(call).await;
        // Refused, and no earlier try is in doubt: neither a lease nor a place is left, nor will be. Nor is there any
        // where the lease has ended that a try was granted.
        let is_over =
            |error: &Error| matches!(error, Error::NotApplied(_)) || has_ended(error.code());
        if told.as_ref().is_err_and(is_over) {
            self.call = None;
        }
        told
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let client = self.client.clone().with_patience(LAST_WORDS);
            self.client.in_background(async move {
                let _ = take_back(&client, &call).await;
            });
        }
    }
}

/// Ends the lease that an asking was answered with, or is now, or sees to it that there will be none.
///
/// A refusal is not recorded, so it does not keep an earlier try, which the network held back, from being granted. What
/// does is another request under the same key: a lease that hangs nothing, ended at once. A try that comes after it is
/// refused for its key as long as records are kept. Where the record of the first try may be gone, nothing is concluded:
/// what it was granted would be refused to its repeat as another's.
async fn take_back(client: &Client, asked: &Call) -> Result<(), Error> {
    let while_recorded = |call: &Call| {
        let left = call.is_recorded_for(client.inner.clock.now());
        match left.is_zero() {
            true => Err(Error::Unknown(Failure::local(
                "what was asked for first is so old that no member can be relied on to remember it: what it was \
                 granted, if anything, ends with its lease",
            ))),
            false => Ok(call.clone().with_patience(client.patience.min(left))),
        }
    };
    let mut before = None;
    for _ in 0..TAKEN_BACK_IN {
        match client.perform(&while_recorded(asked)?).await {
            Ok(answer) => return revoke(client, &answer.json::<Said>()?.lease).await,
            // It has ended, or there will be none.
            Err(error) if has_ended(error.code()) => return Ok(()),
            Err(error) if error.code() == Some(Code::IdempotencyMismatch) => return Ok(()),
            Err(error) if !is_decided(&error) => return Err(error),
            Err(_) => {}
        }
        let path = "/v1/leases".to_owned();
        let nothing = Call::new(Method::POST, path, Effect::Granting, client.patience)
            .with_json(&serde_json::json!({"ttl_ms": millis(SHORTEST_TTL)}))
            .with_key_of(asked);
        match client.perform(&while_recorded(&nothing)?).await {
            Ok(answer) => return revoke(client, &answer.json::<Said>()?.lease).await,
            // Meanwhile the earlier try was granted something: asking again tells what.
            Err(error) if error.code() == Some(Code::IdempotencyMismatch) => before = Some(error),
            Err(error) => return Err(error),
        }
    }
    let failure = before.and_then(|error| error.failure().cloned());
    let failure = failure.unwrap_or_else(|| Failure::local("it could not be taken back"));
    Err(Error::Unknown(failure))
}

/// Asks with a lease until it is held or may not be waited for any longer; `queued` where a member has told of a place
/// already. What is not applied then has left no place.
async fn wait_on<W: Holdable>(
    asking: &Acquire<'_, W>,
    lease: &Shared,
    end: Option<Instant>,
    queued: bool,
) -> Result<Grant, Error> {
    tokio::select! {
        biased;
        loss = lease.belief.lost() => Err(Error::Lost(loss)),
        granted = ask_on(asking, lease, end, queued) => granted,
    }
}

async fn ask_on<W: Holdable>(
    asking: &Acquire<'_, W>,
    lease: &Shared,
    end: Option<Instant>,
    mut queued: bool,
) -> Result<Grant, Error> {
    let client = &asking.client;
    let poll = poll(asking.wait, lease.ttl);
    let (effect, patience) = (Effect::Repeatable, client.patience);
    let asked = Call::new(Method::POST, path(asking), effect, patience)
        .with_json(&asking.body_by(Some(&lease.id), poll));
    // A request whose fate is not known may be carried out after all later ones were answered, and take a new place.
    let mut doubted = false;
    let mut ending = Ending {
        wait: asking.wait,
        left: asking.wait,
        since: Instant::now(),
    };
    loop {
        let try_for = ending.try_for(poll, lease.ttl);
        let call = asked.clone().with_tries_of(try_for);
        match client
            .perform(&call.with_patience(patience + try_for))
            .await
        {
            Ok(answer) => {
                doubted |= answer.doubted;
                let said: Said = answer.json()?;
                let (remaining_ms, left) = (said.remaining_ms, said.wait_remaining_ms);
                if let Some(grant) = said.grant(&answer, &asking.names)? {
                    if doubted {
                        lease.identities.may_come(asking.asked(), answer.sent);
                    }
                    return Ok(grant);
                }
                queued = true;
                lease.confirmed(answer.sent, remaining_ms);
                if let Some(left) = left {
                    ending.left = Duration::from_millis(left);
                    ending.since = Instant::now();
                }
            }
            Err(error) => {
                doubted |= matches!(error, Error::Unknown(_));
                // A cluster that is away takes no place from anybody: as long as the caller would wait, it is asked.
                if is_decided(&error) || end.is_none_or(|end| Instant::now() >= end) {
                    return Err(match error {
                        Error::NotApplied(failure)
                            if doubted || queued && !says_that_no_place_is_left(&failure) =>
                        {
                            Error::Unknown(failure)
                        }
                        error => error,
                    });
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_decided(error: &Error) -> bool {
    error
        .failure()
        .is_none_or(|failure| failure.code.is_some() && failure.retry != Retry::After)
}

/// Whether there is neither a place nor a hold that nobody knows of.
fn leaves_no_place(error: &Error) -> bool {
    matches!(error, Error::NotApplied(_)) && is_decided(error)
}

/// Whether a refusal of who waits says that the place is no more. Each code is named, so that a new one has to be thought
/// of: who may not ask any longer, say, waits on, and so does who reached nobody.
fn says_that_no_place_is_left(failure: &Failure) -> bool {
    let Some(code) = failure.code else {
        return false;
    };
    match code {
        Code::LockHeld
        | Code::WaitExpired
        | Code::NotHeld
        | Code::LeaseExpired
        | Code::LeaseNotFound
        // Something else stands in its place, which is not given up for it.
        | Code::AlreadyHeld
        | Code::ModeMismatch
        | Code::LimitMismatch => true,
        Code::InvalidRequest
        | Code::InvalidName
        | Code::TtlOutOfRange
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::KeyNotFound
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
        | Code::KeyOnOtherLease
        | Code::MembershipBusy
        | Code::MembershipUnsafe
        | Code::AccessConflict
        | Code::Compacted
        | Code::RevisionAhead
        | Code::ConditionFailed
        | Code::FenceStale
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

/// What is told of a wait: an end of the lease is a loss.
fn lease_is_judge(lease: &Shared, waited: Result<Grant, Error>) -> Result<Grant, Error> {
    let Err(error) = &waited else { return waited };
    if has_ended(error.code()) {
        lease.end(Loss::LeaseEnded);
        return Err(Error::Lost(Loss::LeaseEnded));
    }
    waited
}
