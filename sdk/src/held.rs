//! What every guard has inside: believing, running under it, giving it up.
//!
//! Owns the end of a hold. Belief always ends before the cluster is told, never after.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Method;
use tenure_api::Code;

use crate::belief::{Belief, State};
use crate::call::{Call, Effect};
use crate::claim::Claim;
use crate::client::Client;
use crate::clock::Moment;
use crate::error::{Error, Loss};
use crate::hold::{Hold, Kind, Part};
use crate::lease::{LAST_WORDS, Lease, Shared, has_ended};
use crate::name;

pub(crate) struct Held {
    pub(crate) hold: Arc<Hold>,
    pub(crate) client: Client,
    /// A lease that was granted for this hold alone ends with it.
    own: Option<Lease>,
    claims: Vec<Claim>,
    given_up: bool,
}

/// What a `200` to an asking said.
pub(crate) struct Grant {
    pub(crate) sent: Moment,
    pub(crate) remaining_ms: u64,
    pub(crate) parts: Vec<Part>,
    pub(crate) revision: u64,
}

impl Held {
    pub(crate) fn new(
        client: Client,
        of: (Kind, String),
        lease: &Arc<Shared>,
        (own, claims): (Option<Lease>, Vec<Claim>),
        grant: Grant,
    ) -> Held {
        lease.confirmed(grant.sent, grant.remaining_ms);
        let until = grant.sent.believed_until(grant.remaining_ms);
        let belief = Belief::new(Arc::clone(&client.inner.clock), lease.ttl, until);
        let hold = Hold::new(of, grant.parts, belief, lease, grant.revision);
        // The lease may have been lost before it knew this hold.
        lease.look();
        Held {
            hold,
            client,
            own,
            claims,
            given_up: false,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.hold.belief.look()
    }

    /// Runs a future that is dropped when little is left of the belief, and so before the deadline.
    ///
    /// Timers stand still while the machine is suspended, so the work may be the first to be woken after that: it is
    /// polled only where the clock says that it may go on.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let ttl = self.hold.lease.ttl;
        let reserve = (ttl / 50).clamp(Duration::from_millis(20), Duration::from_millis(500));
        let belief = &self.hold.belief;
        let mut work = pin!(work);
        let done = poll_fn(|cx| match belief.remaining() <= reserve {
            true => Poll::Ready(None),
            false => work.as_mut().poll(cx).map(Some),
        });
        let done = tokio::select! {
            biased;
            _ = belief.nearly_lost(reserve) => None,
            done = done => done,
        };
        done.ok_or_else(|| match belief.look() {
            State::Lost(loss) => Error::Lost(loss),
            State::Held | State::InJeopardy => Error::Lost(Loss::Deadline),
        })
    }

    pub(crate) async fn release(mut self) -> Result<(), Error> {
        let before = self.state();
        self.hold.belief.end(Loss::GivenUp);
        if self.hold.lease.is_detached() {
            return Err(Error::Lost(Loss::GivenUp));
        }
        let told = match self.own.take() {
            // One request ends the lease with the hold.
            Some(lease) => match lease.revoke().await {
                Err(Error::Lost(_)) => Ok(()),
                told => told,
            },
            None => {
                let told = release_all(&self.client, &self.hold).await;
                if is_certain(&told) {
                    self.free();
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

    /// Ends the belief for a call that may end the hold. Where that call was refused, [`Held::anew`] goes on.
    pub(crate) fn stop_believing(&self) -> Result<(), Error> {
        if let State::Lost(loss) = self.state() {
            return Err(Error::Lost(loss));
        }
        self.hold.belief.end(Loss::GivenUp);
        Ok(())
    }

    /// The same hold, as the cluster showed it after the belief in it had ended.
    pub(crate) fn anew(mut self, grant: Grant) -> Held {
        self.given_up = true;
        let of = (self.hold.kind, self.hold.owner.clone());
        let by = (self.own.take(), std::mem::take(&mut self.claims));
        Held::new(self.client.clone(), of, &self.hold.lease, by, grant)
    }

    /// It has ended in the cluster, and is not to be released.
    pub(crate) fn let_go(mut self) {
        self.given_up = true;
        self.free();
    }

    fn free(&mut self) {
        self.claims.drain(..).for_each(Claim::free);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold.belief.end(Loss::GivenUp);
        if self.given_up || self.own.is_some() {
            return;
        }
        // It is left to whoever goes on with the lease, and nothing is sent that could end it under them.
        if self.hold.lease.is_detached() {
            self.free();
            return;
        }
        let client = self.client.clone().with_patience(LAST_WORDS);
        let (hold, claims) = (Arc::clone(&self.hold), std::mem::take(&mut self.claims));
        self.client.in_background(async move {
            if is_certain(&release_all(&client, &hold).await) {
                claims.into_iter().for_each(Claim::free);
            }
        });
    }
}

fn is_certain(told: &Result<(), Error>) -> bool {
    matches!(told, Ok(()) | Err(Error::Lost(_)))
}

/// Releases every part of which it is not known that it is released, and answers the worst that was told of one.
async fn release_all(client: &Client, hold: &Hold) -> Result<(), Error> {
    let mut told = Ok(());
    for part in hold.parts.iter().filter(|part| !part.is_over()) {
        let this = release(client, hold, part).await;
        if is_certain(&told) && this.is_err() {
            told = this;
        }
    }
    told
}

/// Releases one part.
pub(crate) async fn release(client: &Client, hold: &Hold, part: &Part) -> Result<(), Error> {
    let fence = part.fence.to_string();
    let by = (hold.lease.id.as_str(), hold.owner.as_str());
    let told = match end(client, hold.kind, &part.name, by, Some(&fence)).await {
        Ok(()) => Ok(()),
        // An earlier try, whose answer did not come, has done it; or the lease has ended, and the hold with it.
        Err(Error::Unknown(failure)) if is_over(failure.code) => Ok(()),
        Err(Error::NotApplied(failure)) if has_ended(failure.code) => {
            Err(Error::Lost(Loss::LeaseEnded))
        }
        Err(Error::NotApplied(failure)) if is_over(failure.code) => Err(Error::Lost(Loss::Broken)),
        Err(error) => Err(error),
    };
    if is_certain(&told) {
        part.set_over();
    }
    told
}

/// Whether a hold that was meant is no more.
pub(crate) fn is_over(code: Option<Code>) -> bool {
    has_ended(code) || matches!(code, Some(Code::NotHeld | Code::FenceStale))
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
