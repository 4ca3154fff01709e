//! What guards of locks, semaphores and elections have in common: believing, running under it, giving it up.
//!
//! Owns the end of a hold. Belief always ends before the cluster is told, never after.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tenure_api::Code;
use tokio::sync::watch;

use crate::belief::{Belief, State};
use crate::call::{Call, Effect};
use crate::claim::{Claim, Identity};
use crate::client::Client;
use crate::clock::Moment;
use crate::error::{Error, Loss};
use crate::hold::{Hold, Kind};
use crate::lease::{LAST_WORDS, Lease, Shared, in_background};
use crate::name;

pub(crate) struct Held {
    pub(crate) hold: Arc<Hold>,
    pub(crate) client: Client,
    /// A lease that was granted for this hold alone ends with it.
    own: Option<Lease>,
    claim: Option<Claim>,
    given_up: bool,
}

/// What a `200` to an asking said.
pub(crate) struct Grant {
    pub(crate) sent: Moment,
    pub(crate) remaining_ms: u64,
    pub(crate) fence: u64,
    pub(crate) revision: u64,
}

impl Held {
    pub(crate) fn new(
        client: Client,
        of: Identity,
        lease: &Arc<Shared>,
        (own, claim): (Option<Lease>, Option<Claim>),
        grant: &Grant,
    ) -> Held {
        lease.confirmed(grant.sent, grant.remaining_ms);
        let until = grant.sent.believed_until(grant.remaining_ms);
        let belief = Belief::new(Arc::clone(&client.inner.clock), lease.ttl, until);
        let lease = Arc::clone(lease);
        let hold = Hold::new(of, grant.fence, belief, Arc::clone(&lease), grant.revision);
        // The lease may have been lost before it knew this hold.
        lease.look();
        Held {
            hold,
            client,
            own,
            claim,
            given_up: false,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.hold.belief.look()
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.hold.belief.remaining()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.hold.belief.watch()
    }

    pub(crate) async fn lost(&self) -> Loss {
        self.hold.belief.lost().await
    }

    /// Runs a future that is dropped when little is left of the belief, and so before the deadline.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let ttl = self.hold.lease.ttl;
        let reserve = (ttl / 50).clamp(Duration::from_millis(20), Duration::from_millis(500));
        tokio::select! {
            biased;
            loss = self.hold.belief.nearly_lost(reserve) => {
                Err(Error::Lost(loss.unwrap_or(Loss::Deadline)))
            }
            done = work => Ok(done),
        }
    }

    pub(crate) async fn release(mut self) -> Result<(), Error> {
        let before = self.state();
        self.hold.belief.end(Loss::GivenUp);
        let told = match self.own.take() {
            // One request ends the lease with the hold.
            Some(lease) => match lease.revoke().await {
                Err(Error::Lost(_)) => Ok(()),
                told => told,
            },
            None => {
                let told = release(&self.client, &self.hold).await;
                if matches!(told, Ok(()) | Err(Error::Lost(_))) {
                    self.claim.take().into_iter().for_each(Claim::free);
                }
                told
            }
        };
        self.given_up = true;
        match before {
            State::Lost(loss) => Err(Error::Lost(loss)),
            State::Held | State::InJeopardy => told,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold.belief.end(Loss::GivenUp);
        if self.given_up || self.own.is_some() {
            return;
        }
        let client = self.client.clone().with_patience(LAST_WORDS);
        let (hold, claim) = (Arc::clone(&self.hold), self.claim.take());
        in_background(async move {
            let told = release(&client, &hold).await;
            if matches!(told, Ok(()) | Err(Error::Lost(_))) {
                claim.into_iter().for_each(Claim::free);
            }
        });
    }
}

async fn release(client: &Client, hold: &Hold) -> Result<(), Error> {
    let fence = hold.fence.to_string();
    match end(
        client,
        hold.kind,
        &hold.name,
        (&hold.lease.id, &hold.owner),
        Some(&fence),
    )
    .await
    {
        Ok(()) => Ok(()),
        // An earlier try, whose answer did not come, has done it; or the lease has ended, and the hold with it.
        Err(Error::Unknown(failure)) if is_over(failure.code) => Ok(()),
        Err(Error::NotApplied(failure)) if is_over(failure.code) => Err(Error::Lost(Loss::Broken)),
        Err(error) => Err(error),
    }
}

fn is_over(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(Code::NotHeld | Code::FenceStale | Code::LeaseExpired | Code::LeaseNotFound)
    )
}

/// Ends a hold, which takes its fence, or leaves the queue.
pub(crate) async fn end(
    client: &Client,
    kind: Kind,
    name: &str,
    (lease, owner): (&str, &str),
    fence: Option<&str>,
) -> Result<(), Error> {
    let mut parameters = vec![("lease", lease), (kind.owner_field(), owner)];
    parameters.extend(fence.map(|fence| ("fence", fence)));
    let path = name::with_query(name::path(kind.collection(), name), &parameters);
    let call = Call::new(Method::DELETE, path, Effect::Repeatable, client.patience);
    client.perform(&call).await.map(drop)
}
