//! A place in a queue on a caller's lease: from before it is asked for until it is held, left or given back.
//!
//! Owns how it is left, whatever it has become meanwhile. An asking that nobody waits for any more may still be carried
//! out, so a place that is given up is remembered by its lease.

use std::sync::Arc;

use tenure_api::Code;

use crate::call::TRY;
use crate::claim::{Asked, Claim};
use crate::client::Client;
use crate::error::{Error, Failure};
use crate::held::{end, is_over};
use crate::hold::Kind;
use crate::lease::{LAST_WORDS, Shared, has_ended};
use crate::shown::{Shown, Within, look_at};

/// Each asking that may still come can make a place again, or a hold of it, while it is being left.
const GIVEN_BACK_IN: usize = 5;

/// A place on a caller's lease, or a hold of which its waiter does not know, which is given up when dropped.
pub(crate) struct Place {
    client: Client,
    asked: Asked,
    lease: Arc<Shared>,
    claims: Vec<Claim>,
}

impl Place {
    /// # Errors
    ///
    /// Where somebody in this program has one of its names in hand.
    pub(crate) fn take(client: &Client, asked: Asked, lease: &Arc<Shared>) -> Result<Place, Error> {
        let mut place = Place {
            client: client.clone(),
            asked,
            lease: Arc::clone(lease),
            claims: Vec::new(),
        };
        for name in &place.asked.names {
            let identity = (place.asked.kind, name.clone(), place.asked.owner.clone());
            match Claim::of(lease, identity) {
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

    /// There is neither a place nor a hold of it.
    pub(crate) fn free(&mut self) {
        self.claims.drain(..).for_each(Claim::free);
    }

    /// An asking for it may still be on its way.
    pub(crate) fn may_come(&self) {
        let now = self.client.inner.clock.now();
        self.lease.identities.may_come(self.asked.clone(), now);
    }

    /// It has become a hold, whose guard has the claims from now on.
    pub(crate) fn becomes_held(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims)
    }

    /// Leaves the queue for certain, or gives back what the place became.
    pub(crate) async fn leave(mut self) -> Result<(), Error> {
        let left = leave(&self.client, &self.asked, &self.lease.id).await;
        if left.is_ok() {
            self.free();
        }
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        self.may_come();
        // It is left to whoever goes on with the lease.
        if self.lease.is_detached() {
            self.free();
            return;
        }
        let client = self.client.clone().with_patience(LAST_WORDS);
        let (asked, lease) = (self.asked.clone(), Arc::clone(&self.lease));
        let claims = std::mem::take(&mut self.claims);
        self.client.in_background(async move {
            let left = leave(&client, &asked, &lease.id).await;
            // Where that is refused nothing is on its way that could end what is asked for later: the place, and what it may
            // become, are looked for as what a late asking takes is.
            if matches!(left, Ok(()) | Err(Error::NotApplied(_))) {
                claims.into_iter().for_each(Claim::free);
            }
            if left.is_err() {
                lease.is_to_be_searched();
            }
        });
    }
}

/// Leaves the queue, or gives back every hold that the place became.
async fn leave(client: &Client, asked: &Asked, lease: &str) -> Result<(), Error> {
    let by = (lease, asked.owner.as_str());
    // Leaving one queue leaves them all.
    let first = asked.names.first().map_or("", String::as_str);
    match end(client, asked.kind, first, by, None).await {
        Ok(()) => return Ok(()),
        Err(error) if has_ended(error.code()) => return Ok(()),
        Err(error) if is_over(error.code()) => {}
        Err(error) => return Err(error),
    }
    for name in &asked.names {
        give_back(client, (asked.kind, name), by).await?;
    }
    Ok(())
}

/// Ends what this lease and owner have of a name, by what the cluster shows: a hold by its fence, a place by leaving.
async fn give_back(
    client: &Client,
    (kind, name): (Kind, &str),
    by: (&str, &str),
) -> Result<(), Error> {
    for _ in 0..GIVEN_BACK_IN {
        let within = Within {
            patience: client.patience,
            each: TRY,
        };
        let shown = match look_at(&client.inner, (kind, name), by, within).await {
            Ok(seen) if seen.shown == Shown::Gone && !seen.may_wait => return Ok(()),
            Ok(seen) => seen.shown,
            // Who may not see the queue still sees what hangs on a lease of his own.
            Err(error) if error.code() == Some(Code::Forbidden) => Shown::Unclear,
            Err(error) => return Err(error),
        };
        let fence = match shown {
            Shown::Held { fence, .. } => Some(fence),
            Shown::Gone => None,
            Shown::Unclear => fence_on_lease(client, (kind, name), by).await?,
        };
        let fence = fence.map(|fence| fence.to_string());
        match end(client, kind, name, by, fence.as_deref()).await {
            Ok(()) => return Ok(()),
            Err(error) if has_ended(error.code()) => return Ok(()),
            // Without a fence, it is told of places and holds alike.
            Err(error) if error.code() == Some(Code::NotHeld) && fence.is_none() => return Ok(()),
            // Something else than was seen is there by now, or nothing.
            Err(error) if is_over(error.code()) => {}
            Err(error) => return Err(error),
        }
    }
    let detail = format!(
        "whether {} {name:?} is held or waited for changes as often as it is looked at",
        kind.word()
    );
    Err(Error::Unknown(Failure::local(detail)))
}

/// The fence of a hold that its name does not show, where its lease shows it; none where that shows that there is none.
async fn fence_on_lease(
    client: &Client,
    (kind, name): (Kind, &str),
    (lease, owner): (&str, &str),
) -> Result<Option<u64>, Error> {
    let shown = match client.inspect_lease(lease).await {
        Ok(shown) => shown,
        Err(error) if has_ended(error.code()) => return Ok(None),
        Err(error) => return Err(error),
    };
    let attached = shown.attached.as_deref().unwrap_or_default();
    let found = attached.iter().find(|thing| kind.is_of(name, owner, thing));
    if found.is_none() && u64::try_from(attached.len()) != Ok(shown.attached_count) {
        let detail = format!(
            "whether {} {name:?} is held cannot be seen: its holders are not all shown, nor is all that is on its lease",
            kind.word()
        );
        return Err(Error::Unknown(Failure::local(detail)));
    }
    Ok(found.and_then(|thing| thing.fence))
}
