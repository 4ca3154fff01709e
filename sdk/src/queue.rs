//! Asking, and waiting in a queue: again and again with the same body, which keeps the place.
//!
//! Owns the loop that locks, semaphores and elections share, and what happens to the place when its waiter goes away. A
//! place is given up by leaving the queue, or with the lease that was granted for it. A lease of its own is granted by
//! the first asking, which is recorded: however often it is sent, there is one lease.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use tenure_api::{Code, Mode, Retry};
use tokio::time::Instant;

use crate::ask::{Acquire, Holdable};
use crate::call::{Answer, BEYOND_POLL, Call, Effect, TRY};
use crate::claim::Claim;
use crate::client::Client;
use crate::error::{Error, Failure, Loss};
use crate::held::{Grant, Held, end};
use crate::hold::{Kind, Part};
use crate::lease::{LAST_WORDS, Lease, Shared, millis, revoke};
use crate::name;
use crate::shown::{Shown, Within, look_at};

/// How long one asking is held open: a member that stopped answering is left after this and a little more.
const LONGEST_POLL: Duration = Duration::from_secs(10);
/// Between askings that could not be made.
const PAUSE: Duration = Duration::from_millis(100);
/// The least that members grant.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// One asking that overtakes another is all that there can be.
const TAKEN_BACK_IN: usize = 3;

/// What a `200` or `202` says that matters here.
#[derive(Deserialize)]
struct Said {
    lease: String,
    remaining_ms: u64,
    revision: u64,
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
        let mut place = Place::take(&asking, &lease.shared)?;
        return tokio::select! {
            biased;
            waited = wait_on(&asking, &lease.shared, end) => {
                let grant = place.judge(&lease.shared, waited)?;
                let claims = std::mem::take(&mut place.claims);
                hold(&asking, &lease.shared, (None, claims), grant).map(Some)
            }
            () = &mut stop => place.leave().await.map(|()| None),
        };
    }
    let mut first = First::of(&asking);
    let (lease, granted) = tokio::select! {
        biased;
        granted = first.ask(&asking.names) => granted?,
        () = &mut stop => {
            let Some(call) = first.call.take() else { return Ok(None) };
            return take_back(&asking.client, &call).await.map(|()| None);
        }
    };
    let grant = match granted {
        Some(grant) => grant,
        None => tokio::select! {
            biased;
            waited = wait_on(&asking, &lease.shared, end) => lease_is_judge(&lease.shared, waited)?,
            () = &mut stop => return lease.revoke().await.map(|()| None),
        },
    };
    let shared = Arc::clone(&lease.shared);
    hold(&asking, &shared, (Some(lease), Vec::new()), grant).map(Some)
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
    call: Option<Call>,
}

impl First {
    fn of<W: Holdable>(asking: &Acquire<'_, W>) -> First {
        let patience = asking.client.patience.max(asking.wait);
        let call = Call::new(Method::POST, path(asking), Effect::Granting, patience);
        let call = call.with_json(&asking.body_by(None, Duration::ZERO));
        First {
            client: asking.client.clone(),
            ttl: asking.ttl,
            call: Some(call),
        }
    }

    /// The lease, and what was granted where it is not to be waited for.
    async fn ask(&mut self, names: &[String]) -> Result<(Lease, Option<Grant>), Error> {
        let call = self.call.as_ref().expect("it is asked once");
        let answer = match self.client.perform(call).await {
            Ok(answer) => answer,
            Err(error) => {
                // Refused, and no earlier try is in doubt: neither a lease nor a place is left, nor will be.
                if matches!(error, Error::NotApplied(_)) {
                    self.call = None;
                }
                return Err(error);
            }
        };
        let said: Said = answer.json()?;
        self.call = None;
        let (id, remaining_ms) = (said.lease.clone(), said.remaining_ms);
        let lease = Lease::kept(&self.client, id, self.ttl, answer.sent, remaining_ms)?;
        Ok((lease, said.grant(&answer, names)?))
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let client = self.client.clone();
            let call = call.with_patience(LAST_WORDS);
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
/// refused for its key as long as records are kept.
async fn take_back(client: &Client, asked: &Call) -> Result<(), Error> {
    let mut before = None;
    for _ in 0..TAKEN_BACK_IN {
        match client.perform(asked).await {
            Ok(answer) => return revoke(client, &answer.json::<Said>()?.lease).await,
            Err(error) if error.code() == Some(Code::IdempotencyMismatch) => return Ok(()),
            Err(error) if !is_decided(&error) => return Err(error),
            Err(_) => {}
        }
        let path = "/v1/leases".to_owned();
        let nothing = Call::new(Method::POST, path, Effect::Granting, client.patience)
            .with_json(&serde_json::json!({"ttl_ms": millis(SHORTEST_TTL)}))
            .with_key_of(asked);
        match client.perform(&nothing).await {
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

/// Asks with a lease until it is held or may not be waited for any longer.
async fn wait_on<W: Holdable>(
    asking: &Acquire<'_, W>,
    lease: &Shared,
    end: Option<Instant>,
) -> Result<Grant, Error> {
    tokio::select! {
        biased;
        loss = lease.belief.lost() => Err(Error::Lost(loss)),
        granted = ask_on(asking, lease, end) => granted,
    }
}

async fn ask_on<W: Holdable>(
    asking: &Acquire<'_, W>,
    lease: &Shared,
    end: Option<Instant>,
) -> Result<Grant, Error> {
    let client = &asking.client;
    let poll = poll(asking.wait, lease.ttl);
    let patience = client.patience + poll + BEYOND_POLL;
    let call = Call::new(Method::POST, path(asking), Effect::Repeatable, patience)
        .with_json(&asking.body_by(Some(&lease.id), poll))
        .held_for(poll);
    // A request whose fate is not known may be carried out after all later ones were answered, and take a new place.
    let mut doubted = false;
    loop {
        match client.perform(&call).await {
            Ok(answer) => {
                doubted |= answer.doubted;
                let said: Said = answer.json()?;
                let remaining_ms = said.remaining_ms;
                if let Some(grant) = said.grant(&answer, &asking.names)? {
                    return Ok(grant);
                }
                lease.confirmed(answer.sent, remaining_ms);
            }
            Err(error) => {
                doubted |= matches!(error, Error::Unknown(_));
                // A cluster that is away takes no place from anybody: as long as the caller would wait, it is asked.
                if is_decided(&error) || end.is_none_or(|end| Instant::now() >= end) {
                    return Err(match error {
                        Error::NotApplied(failure) if doubted => Error::Unknown(failure),
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

/// What is told of a wait: an end of the lease is a loss.
fn lease_is_judge(lease: &Shared, waited: Result<Grant, Error>) -> Result<Grant, Error> {
    let Err(error) = &waited else { return waited };
    if matches!(error.code(), Some(Code::LeaseExpired | Code::LeaseNotFound)) {
        lease.end(Loss::LeaseEnded);
        return Err(Error::Lost(Loss::LeaseEnded));
    }
    waited
}

/// A place on a caller's lease, or a hold of which its waiter does not know, which is given up when dropped.
struct Place {
    client: Client,
    kind: Kind,
    names: Vec<String>,
    owner: String,
    lease: Arc<Shared>,
    claims: Vec<Claim>,
}

impl Place {
    fn take<W: Holdable>(asking: &Acquire<'_, W>, lease: &Arc<Shared>) -> Result<Place, Error> {
        let owner = asking.owner_name();
        let mut place = Place {
            client: asking.client.clone(),
            kind: W::KIND,
            names: asking.names.clone(),
            owner: owner.clone(),
            lease: Arc::clone(lease),
            claims: Vec::new(),
        };
        for name in &asking.names {
            match Claim::of(lease, (W::KIND, name.clone(), owner.clone())) {
                Ok(claim) => place.claims.push(claim),
                Err(error) => {
                    // Nothing was asked yet.
                    place.free();
                    return Err(error);
                }
            }
        }
        Ok(place)
    }

    fn free(&mut self) {
        self.claims.drain(..).for_each(Claim::free);
    }

    /// Where it was refused for good, there is neither a place nor a hold that nobody knows of.
    fn judge(&mut self, lease: &Shared, waited: Result<Grant, Error>) -> Result<Grant, Error> {
        if matches!(&waited, Err(error @ Error::NotApplied(_)) if is_decided(error)) {
            self.free();
        }
        lease_is_judge(lease, waited)
    }

    /// Leaves the queue for certain.
    async fn leave(mut self) -> Result<(), Error> {
        let left = self.leave_by(&self.client.clone()).await;
        if left.is_ok() {
            self.free();
        }
        left
    }

    async fn leave_by(&self, client: &Client) -> Result<(), Error> {
        let by = (self.lease.id.as_str(), self.owner.as_str());
        // Leaving one queue leaves them all.
        let first = self.names.first().map_or("", String::as_str);
        match end(client, self.kind, first, by, None).await {
            Ok(()) => return Ok(()),
            Err(error) => match error.code() {
                Some(Code::NotHeld | Code::FenceStale) => {}
                Some(Code::LeaseExpired | Code::LeaseNotFound) => return Ok(()),
                _ => return Err(error),
            },
        }
        // The place may have become a hold that nobody was told of: it is released by the fence that the cluster shows.
        for name in &self.names {
            give_back(client, (self.kind, name), by).await?;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        let client = self.client.clone().with_patience(LAST_WORDS);
        let place = Place {
            client: client.clone(),
            kind: self.kind,
            names: std::mem::take(&mut self.names),
            owner: std::mem::take(&mut self.owner),
            lease: Arc::clone(&self.lease),
            claims: Vec::new(),
        };
        let claims = std::mem::take(&mut self.claims);
        self.client.in_background(async move {
            if place.leave_by(&client).await.is_ok() {
                claims.into_iter().for_each(Claim::free);
            }
        });
    }
}

/// Releases a hold of this lease and owner by the fence that the cluster shows, where there is one.
async fn give_back(
    client: &Client,
    (kind, name): (Kind, &str),
    by: (&str, &str),
) -> Result<(), Error> {
    let within = Within {
        patience: client.patience,
        each: TRY,
    };
    match look_at(&client.inner, (kind, name), by, within)
        .await?
        .shown
    {
        Shown::Held { fence, .. } => end(client, kind, name, by, Some(&fence.to_string())).await,
        Shown::Gone => Ok(()),
        Shown::Unclear => {
            let detail = format!(
                "whether {} {name:?} is held cannot be seen: it has more holders than are shown",
                kind.word()
            );
            Err(Error::Unknown(Failure::local(detail)))
        }
    }
}
