//! Watching: what happened since a revision, or will happen within a while (`api.md` §7).
//!
//! Owns the order of three steps on which the promise rests: the waiter is registered, then the history is read, then
//! it is waited. A watch never skips, repeats or reorders; `410` is the only way to lose history.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tenure_api::{self as api, Code, MAX_POLL_MS};
use tenure_replica::Interest;
use tenure_state::{Changes, Collection, ReadError, Resource, Revision, Selector};
use tokio::sync::OwnedSemaphorePermit;

use super::events;
use super::failure::{Failure, Purpose};
use super::poll::{Poll, Woken, jittered};
use super::reply::Reply;
use super::service::Context;
use super::text;
use crate::node::Unserved;

/// At least one selector, and at most this many.
const MOST_SELECTORS: usize = 1_000;
/// A reply ends after so many events, at the end of a revision.
const REPLY_EVENTS: usize = 1_000;
/// Or after so many bytes of them.
const REPLY_BYTES: usize = 4 << 20;
/// No read holds the state for more history than this.
const PIECE: usize = 256;

/// `GET /v1/watch`
pub(super) async fn watch(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let selectors = selectors(cx.query.take_all("prefix"), cx.query.take_all("resource"))?;
    let after = cx
        .query
        .take("after")?
        .map(|text| text::revision("after", &text))
        .transpose()?
        .map(Revision);
    let wait_ms = cx
        .query
        .take("wait_ms")?
        .map(|text| text::number("wait_ms", &text, 0, MAX_POLL_MS))
        .transpose()?;
    cx.finish_query()?;
    cx.no_body().await?;
    // `HEAD` never waits (`api.md` §2, HTTP manners).
    let wait = Duration::from_millis(if cx.head { 0 } else { wait_ms.unwrap_or(0) });
    let permit = if wait.is_zero() {
        None
    } else {
        Some(cx.wait_permit()?)
    };
    let mut watching = match after {
        Some(after) => Watching {
            cx: &cx,
            selectors,
            at: after,
        },
        None => {
            cx.barrier().await?;
            Watching {
                cx: &cx,
                selectors,
                at: cx.handle().read(|state| state.revision()),
            }
        }
    };
    watching.run(wait, permit, after.is_some()).await
}

/// POST /v1/watch
pub(super) async fn watch_many(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("POST /v1/watch"))
}

struct Watching<'a, 'c> {
    cx: &'a Context<'c>,
    selectors: Vec<Selector>,
    /// Everything up to here has been seen.
    at: Revision,
}

impl Watching<'_, '_> {
    async fn run(
        &mut self,
        wait: Duration,
        permit: Option<OwnedSemaphorePermit>,
        mut unconfirmed: bool,
    ) -> Result<Reply, Failure> {
        let handle = self.cx.handle();
        let waiter = permit
            .as_ref()
            .map(|_| handle.register(Interest::Watch(self.selectors.clone())));
        let until = self.cx.arrived + jittered(wait, self.cx.seed);
        let mut waiting = waiter
            .as_ref()
            .zip(permit.map(|permit| Poll::new(handle, until, permit)));
        loop {
            let lost = match self.look().await {
                Ok(changes) if !changes.changes.is_empty() => return reply(&changes),
                Ok(_) => None,
                Err(error @ ReadError::Compacted { .. }) => return Err(self.lost(error)),
                Err(error @ ReadError::Ahead) => Some(error),
            };
            // There is nothing at hand, or the caller has been where this member has not: before saying so, or waiting
            // for more, it is made sure that this member has not merely been left behind.
            if std::mem::take(&mut unconfirmed) {
                self.confirm(lost).await?;
                continue;
            }
            if let Some(error) = lost {
                return Err(self.lost(error));
            }
            let Some((waiter, poll)) = &mut waiting else {
                return nothing(self.at);
            };
            match poll.next(waiter).await {
                Woken::Changed => {}
                // Looked at once more, without waiting: then what was seen is told.
                Woken::TimeUp => waiting = None,
                Woken::Stopping => return self.at_hand_or(Unserved::ShuttingDown).await,
                Woken::Leaderless => return self.at_hand_or(Unserved::NoLeader).await,
            }
        }
    }

    /// What was selected since `at`, which moves on to where that has been seen.
    async fn look(&mut self) -> Result<Changes, ReadError> {
        loop {
            let changes = self.cx.handle().read(|state| {
                state.changes(self.at, &self.selectors, REPLY_EVENTS, REPLY_BYTES, PIECE)
            })?;
            self.at = self.at.max(changes.through);
            if !changes.more || !changes.changes.is_empty() {
                return Ok(changes);
            }
            // A long history in which nothing is selected: entries are applied in between.
            tokio::task::yield_now().await;
        }
    }

    /// Brings this member to a point at which its state is no older than the request.
    async fn confirm(&self, lost: Option<ReadError>) -> Result<(), Failure> {
        let ahead = matches!(lost, Some(ReadError::Ahead));
        match self.cx.handle().barrier().await {
            Ok(_) => Ok(()),
            // The leader is there, and what it has is not here yet.
            Err(Unserved::NoLeader) if ahead && self.cx.knows_leader() => {
                let detail = format!("this member has not reached revision {} in time", self.at);
                Err(Failure::new(Code::Lagging, detail))
            }
            Err(unserved) => Err(Failure::unserved(unserved, Purpose::Read)),
        }
    }

    fn lost(&self, error: ReadError) -> Failure {
        Failure::unreadable(
            error,
            self.at,
            self.cx.handle().read(|state| state.revision()),
        )
    }

    async fn at_hand_or(&mut self, unserved: Unserved) -> Result<Reply, Failure> {
        match self.look().await {
            Ok(changes) if !changes.changes.is_empty() => reply(&changes),
            Ok(_) => Err(Failure::unserved(unserved, Purpose::Read)),
            Err(error) => Err(self.lost(error)),
        }
    }
}

fn reply(changes: &Changes) -> Result<Reply, Failure> {
    let events = changes.changes.iter().flat_map(events::of_change).collect();
    let shown = api::Events {
        events,
        revision: changes.through.0,
        more: changes.more,
    };
    Reply::json(200, changes.through, &shown)
}

fn nothing(seen: Revision) -> Result<Reply, Failure> {
    Reply::json(
        200,
        seen,
        &api::Events {
            events: Vec::new(),
            revision: seen.0,
            more: false,
        },
    )
}

/// The selectors of a query, each once.
fn selectors(prefixes: Vec<String>, resources: Vec<String>) -> Result<Vec<Selector>, Failure> {
    let prefixes = prefixes
        .into_iter()
        .map(|text| resource(&text, true).map(Selector::Prefix));
    let resources = resources
        .into_iter()
        .map(|text| resource(&text, false).map(Selector::Exact));
    let selectors = prefixes
        .chain(resources)
        .collect::<Result<BTreeSet<Selector>, Failure>>()?;
    match selectors.len() {
        1..=MOST_SELECTORS => Ok(selectors.into_iter().collect()),
        n => {
            let detail = format!(
                "there are {n} selectors; accepted are 1 to {MOST_SELECTORS}, as `prefix=keys/config/`"
            );
            Err(Failure::invalid(detail))
        }
    }
}

/// A collection and a name, or the beginning of one.
fn resource(text: &str, is_prefix: bool) -> Result<Resource, Failure> {
    const COLLECTIONS: &str = "`keys/`, `locks/`, `semaphores/`, `elections/` and `leases/`";
    let unknown = || {
        Failure::invalid(format!(
            "selector {} begins with no collection; there are {COLLECTIONS}",
            text::shown(text)
        ))
    };
    let (collection, name) = text.split_once('/').ok_or_else(unknown)?;
    let collection = match collection {
        "keys" => Collection::Keys,
        "locks" => Collection::Locks,
        "semaphores" => Collection::Semaphores,
        "elections" => Collection::Elections,
        "leases" => Collection::Leases,
        _ => return Err(unknown()),
    };
    let name = match (is_prefix, collection) {
        (true, _) => text::prefix("prefix", name.to_owned())?,
        (false, Collection::Leases) => text::lease(name)?.to_string(),
        (false, _) => text::valid_name(name.to_owned())?,
    };
    Ok(Resource {
        collection,
        name: Bytes::from(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(prefixes: &[&str], resources: &[&str]) -> Result<Vec<Selector>, Failure> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        selectors(owned(prefixes), owned(resources))
    }

    fn named(collection: Collection, name: &'static str) -> Resource {
        Resource {
            collection,
            name: Bytes::from_static(name.as_bytes()),
        }
    }

    #[test]
    fn selectors_name_a_collection_and_what_is_in_it() {
        let check = |prefixes: &[&str], resources: &[&str], expected: &[Selector]| {
            assert_eq!(selected(prefixes, resources).expect("accepted"), expected);
        };
        check(
            &["keys/"],
            &[],
            &[Selector::Prefix(named(Collection::Keys, ""))],
        );
        check(
            &["keys//a/"],
            &[],
            &[Selector::Prefix(named(Collection::Keys, "/a/"))],
        );
        check(
            &["locks/a", "locks/a"],
            &[],
            &[Selector::Prefix(named(Collection::Locks, "a"))],
        );
        check(
            &[],
            &["leases/3f9c2a7b5d1e8046"],
            &[Selector::Exact(named(
                Collection::Leases,
                "3f9c2a7b5d1e8046",
            ))],
        );
        check(
            &["semaphores/s"],
            &["elections/e"],
            &[
                Selector::Exact(named(Collection::Elections, "e")),
                Selector::Prefix(named(Collection::Semaphores, "s")),
            ],
        );
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        let check = |prefixes: &[&str], resources: &[&str], expected: &str| {
            let failure = selected(prefixes, resources).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        check(&[], &[], "there are 0 selectors");
        check(&["keys"], &[], "begins with no collection");
        check(&[""], &[], "begins with no collection");
        check(&["key/a"], &[], "begins with no collection");
        check(&["keys/a\n"], &[], "control character");
        check(&[], &["keys/"], "the name is empty");
        check(&[], &["leases/xyz"], "not the id of a lease");
    }
}
