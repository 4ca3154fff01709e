//! What the cluster shows of one hold: the holders of its name, and who waits for it, looked at for one lease and owner.
//!
//! A lease shows the first 100 things that hang on it; a hold beyond those is found here. Of a name with more than 100
//! holders, which only semaphores and shared locks have, or with more than 100 who wait, some are not shown: of these
//! nothing is concluded.

use std::time::Duration;

use serde::Deserialize;

use crate::call::{Call, perform};
use crate::client::Inner;
use crate::clock::Moment;
use crate::error::Error;
use crate::hold::Kind;
use crate::name;

/// What became of a hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shown {
    Held {
        fence: u64,
        remaining_ms: u64,
    },
    Gone,
    /// There are more holders than are shown.
    Unclear,
}

/// What was seen, by a request that was sent at a moment, as of a revision.
pub(crate) struct Seen {
    pub(crate) shown: Shown,
    /// Whether a place is shown, or may be among those that are not.
    pub(crate) may_wait: bool,
    pub(crate) sent: Moment,
    pub(crate) revision: u64,
}

/// What matters here of a lock, a semaphore or an election.
#[derive(Deserialize)]
struct Queue {
    #[serde(default)]
    holders: Vec<Holder>,
    #[serde(default)]
    holder_count: u64,
    leader: Option<Holder>,
    #[serde(default, alias = "candidates")]
    queue: Vec<Waiter>,
    #[serde(default, alias = "candidate_count")]
    queue_length: u64,
    revision: u64,
}

#[derive(Deserialize)]
struct Waiter {
    #[serde(alias = "candidate")]
    owner: String,
    lease: String,
}

#[derive(Deserialize)]
struct Holder {
    #[serde(alias = "candidate")]
    owner: String,
    lease: String,
    fence: u64,
    remaining_ms: u64,
}

/// How long to look, all tries together and each.
#[derive(Clone, Copy)]
pub(crate) struct Within {
    pub(crate) patience: Duration,
    pub(crate) each: Duration,
}

/// Looks for the hold of this lease and owner.
pub(crate) async fn look_at(
    client: &Inner,
    (kind, name): (Kind, &str),
    (lease, owner): (&str, &str),
    within: Within,
) -> Result<Seen, Error> {
    let path = name::path(kind.collection(), name);
    let call = Call::read(path, within.patience).with_tries_of(within.each);
    let answer = perform(client, &call).await?;
    let queue: Queue = answer.json()?;
    let is_whole = |shown: usize, count: u64| u64::try_from(shown) == Ok(count);
    let unshown = !is_whole(queue.holders.len(), queue.holder_count);
    let mut waiters = queue.queue.iter();
    let may_wait = waiters.any(|waiter| waiter.lease == lease && waiter.owner == owner)
        || !is_whole(queue.queue.len(), queue.queue_length);
    let mut holders = queue.holders.into_iter().chain(queue.leader);
    let found = holders.find(|holder| holder.lease == lease && holder.owner == owner);
    let shown = match found {
        Some(Holder {
            fence,
            remaining_ms,
            ..
        }) => Shown::Held {
            fence,
            remaining_ms,
        },
        None if unshown => Shown::Unclear,
        None => Shown::Gone,
    };
    Ok(Seen {
        shown,
        may_wait,
        sent: answer.sent,
        revision: queue.revision,
    })
}
