//! Waiting in a queue: asking again and again with the same body, which keeps the place.
//!
//! Owns the loop that locks, semaphores and elections share, and what happens to the place when its waiter goes away. A place is
//! given up by leaving the queue, or with the lease that was granted for it.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tenure_api::{Code, Retry};
use tokio::time::Instant;

use crate::call::{BEYOND_POLL, Call, Effect};
use crate::claim::Claim;
use crate::client::Client;
use crate::error::{Error, Failure, Loss};
use crate::held::{Grant, Held, end};
use crate::hold::Kind;
use crate::lease::{LAST_WORDS, Lease, Shared, in_background};
use crate::name;

/// How long one asking is held open: a member that stopped answering is left after this and a little more.
const LONGEST_POLL: Duration = Duration::from_secs(10);
/// Between askings that could not be made.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked for. The body is the same on every asking.
pub(crate) struct Asking<'a, B> {
    pub(crate) client: Client,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) wait: Duration,
    pub(crate) lease: LeaseOf<'a>,
    pub(crate) body: B,
}

/// Whose lease it is.
pub(crate) enum LeaseOf<'a> {
    /// Granted for this, and ended with it.
    Own(Lease),
    /// The caller's, on which more may hang.
    Callers(&'a Lease),
}

impl LeaseOf<'_> {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        match self {
            LeaseOf::Own(lease) => &lease.shared,
            LeaseOf::Callers(lease) => &lease.shared,
        }
    }
}

/// What a `200` or `202` says that matters here.
#[derive(Deserialize)]
struct Said {
    remaining_ms: u64,
    revision: u64,
    fence: Option<u64>,
}

/// How long one asking is to be held open.
pub(crate) fn poll(wait: Duration, ttl: Duration) -> Duration {
    wait.min(ttl / 3).min(LONGEST_POLL)
}

/// Asks until it is held or may not be waited for any longer.
pub(crate) async fn acquire<B: Serialize>(asking: Asking<'_, B>) -> Result<Held, Error> {
    let shared = Arc::clone(asking.lease.shared());
    let of = (asking.kind, asking.name.clone(), asking.owner.clone());
    let mut place = Place {
        client: asking.client.clone(),
        claim: Some(Claim::of(&shared, of.clone())?),
        ends_with_lease: matches!(asking.lease, LeaseOf::Own(_)),
    };
    let granted = tokio::select! {
        biased;
        loss = shared.belief.lost() => Err(Error::Lost(loss)),
        granted = ask_on(&asking.client, &of, &shared, asking.wait, &asking.body) => granted,
    };
    let grant = match granted {
        Ok(grant) => grant,
        Err(error) => {
            // Refused for good: there is neither a place nor a hold that nobody knows of.
            let refused =
                |failure: &Failure| failure.code.is_some() && failure.retry != Retry::After;
            if matches!(&error, Error::NotApplied(failure) if refused(failure)) {
                place.claim.take().into_iter().for_each(Claim::free);
            }
            if matches!(error.code(), Some(Code::LeaseExpired | Code::LeaseNotFound)) {
                shared.end(Loss::LeaseEnded);
                return Err(Error::Lost(Loss::LeaseEnded));
            }
            return Err(error);
        }
    };
    let claim = place.claim.take();
    let own = match asking.lease {
        LeaseOf::Own(lease) => Some(lease),
        LeaseOf::Callers(_) => None,
    };
    let held = Held::new(asking.client.clone(), of, &shared, (own, claim), &grant);
    match held.state() {
        // The answer was so late that nothing may be believed; dropping the guard gives the hold back.
        crate::State::Lost(loss) => Err(Error::Lost(loss)),
        crate::State::Held | crate::State::InJeopardy => Ok(held),
    }
}

async fn ask_on<B: Serialize>(
    client: &Client,
    of: &(Kind, String, String),
    lease: &Shared,
    wait: Duration,
    body: &B,
) -> Result<Grant, Error> {
    let poll = poll(wait, lease.ttl);
    let path = name::path(of.0.collection(), &of.1);
    let patience = client.patience + poll + BEYOND_POLL;
    let call = Call::new(Method::POST, path, Effect::Repeatable, patience)
        .with_json(body)
        .held_for(poll);
    let end = Instant::now().checked_add(wait);
    loop {
        match client.perform(&call).await {
            Ok(answer) => {
                let said: Said = answer.json()?;
                if answer.status == StatusCode::OK {
                    let fence = said.fence.ok_or_else(|| {
                        Error::Unknown(Failure::local("a member granted something without a fence"))
                    })?;
                    return Ok(Grant {
                        sent: answer.sent,
                        remaining_ms: said.remaining_ms,
                        fence,
                        revision: said.revision,
                    });
                }
                lease.confirmed(answer.sent, said.remaining_ms);
            }
            Err(error) => {
                // A cluster that is away takes no place from anybody: as long as the caller would wait, it is asked.
                let decided = error
                    .failure()
                    .is_none_or(|failure| failure.code.is_some() && failure.retry != Retry::After);
                if decided || end.is_none_or(|end| Instant::now() >= end) {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A place, or a hold of which its waiter does not know, which is given up when dropped.
struct Place {
    client: Client,
    claim: Option<Claim>,
    ends_with_lease: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take().filter(|_| !self.ends_with_lease) else {
            return;
        };
        let client = self.client.clone().with_patience(LAST_WORDS);
        in_background(async move {
            let (kind, name, owner) = claim.of_what();
            let by = (claim.lease_id(), owner.as_str());
            if end(&client, *kind, name, by, None).await.is_ok()
                || give_back(&client, *kind, name, by).await
            {
                claim.free();
            }
        });
    }
}

/// The place may have become a hold that nobody was told of: it is released by the fence that the cluster shows.
/// Answers whether nothing is left.
async fn give_back(client: &Client, kind: Kind, name: &str, (lease, owner): (&str, &str)) -> bool {
    let path = name::path("leases", lease);
    let Ok(answer) = client.perform(&Call::read(path, client.patience)).await else {
        return false;
    };
    let Ok(shown) = answer.json::<tenure_api::Lease>() else {
        return false;
    };
    let attached = shown.attached.unwrap_or_default();
    let whole = u64::try_from(attached.len()) == Ok(shown.attached_count);
    let resource = format!("{}/{name}", kind.collection());
    let fence = attached.into_iter().find_map(|thing| {
        let by = thing.owner.or(thing.candidate).unwrap_or_default();
        thing
            .fence
            .filter(|_| thing.resource == resource && by == owner)
    });
    match fence {
        Some(fence) => {
            let fence = fence.to_string();
            end(client, kind, name, (lease, owner), Some(&fence))
                .await
                .is_ok()
        }
        None => whole,
    }
}
