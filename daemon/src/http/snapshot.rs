//! Snapshots: everything that a watch selects, as of one revision, to go on from (`api.md` §7).
//!
//! Owns how a state that is too large to be looked at in one go is shown as of one revision: it is read in pieces while
//! entries are applied in between, and then what changed meanwhile, as the history tells, is read again until nothing is
//! left. What has not changed since it was read is as it was. Must never hold the state for more than a piece.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tenure_api::{self as api, Code};
use tenure_state::{
    Attached, Clock, Collection, KeyEntry, KeyRange, Kind, LeaseId, LeaseView, Order, QueueView,
    ReadError, Resource, Revision, State, resource_of,
};

use super::caller::Caller;
use super::failure::Failure;
use super::following::join;
use super::reading::Settled;
use super::rights::Needed;
use super::selection::Selection;
use super::service::Context;
use super::{elections, keys, leases, locks, semaphores};
use crate::node::{Handle, PIECE};

/// A snapshot is no longer than this (`api.md` §7).
const MOST_BYTES: usize = 8 << 20;
/// How often a snapshot is begun anew where history was compacted under it.
const TRIES: usize = 3;

/// What there is at a revision.
pub(super) struct Snapshot {
    /// When.
    pub(super) revision: Revision,
    /// The array of [`api::Resource`], in the order of resources.
    pub(super) json: Bytes,
}

/// Takes a snapshot.
///
/// # Errors
///
/// `too-large`, and `overloaded` where history is compacted faster than a snapshot is taken.
pub(super) async fn take(
    cx: &Context<'_>,
    selection: &Selection,
    (settled, needed): (&Settled, &Needed<'_>),
) -> Result<Snapshot, Failure> {
    let handle = cx.handle();
    for _ in 0..TRIES {
        let mut taking = Taking {
            handle,
            caller: cx.caller(),
            needed,
            selection,
            settled,
            seen: handle.read(State::revision),
            judged_at: handle.read(|state| state.access().changes()),
            shown: BTreeMap::new(),
            bytes: 0,
        };
        taking.read_all().await?;
        match taking.catch_up().await {
            Ok(()) => return taking.finish(),
            Err(Stale::History) => {}
            Err(Stale::Failure(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(
        Code::Overloaded,
        "the history was compacted under this snapshot again and again",
    ))
}

/// Why a snapshot was not brought up to date.
enum Stale {
    /// The history of what changed meanwhile is gone.
    History,
    /// It cannot be had at all.
    Failure(Failure),
}

impl From<ReadError> for Stale {
    fn from(_: ReadError) -> Stale {
        Stale::History
    }
}

impl From<Failure> for Stale {
    fn from(failure: Failure) -> Stale {
        Stale::Failure(failure)
    }
}

/// A resource as the state has it; shown outside.
enum Found {
    Key(Arc<KeyEntry>),
    Queue(Kind, String, QueueView),
    Lease(LeaseView, Vec<Attached>),
}

impl Found {
    /// How many rows were copied for it, beside its own.
    fn rows(&self) -> usize {
        match self {
            Found::Key(_) => 0,
            Found::Queue(_, _, view) => view.holders.len() + view.queue.len(),
            Found::Lease(_, attached) => attached.len(),
        }
    }
}

/// A snapshot that is being taken.
struct Taking<'a> {
    handle: &'a Handle,
    caller: &'a Caller,
    needed: &'a Needed<'a>,
    selection: &'a Selection,
    settled: &'a Settled,
    /// What was read shows every change up to here.
    seen: Revision,
    /// The changes of rights by which was judged what is shown of the things on leases.
    judged_at: u64,
    /// By resource: its element of the array.
    shown: BTreeMap<String, Bytes>,
    bytes: usize,
}

impl Taking<'_> {
    async fn read_all(&mut self) -> Result<(), Failure> {
        for prefix in self.selection.prefixes() {
            match prefix.collection {
                Collection::Keys => self.read_keys(&prefix.name).await?,
                Collection::Locks => self.read_queues(Kind::Lock, &prefix.name).await?,
                Collection::Semaphores => self.read_queues(Kind::Semaphore, &prefix.name).await?,
                Collection::Elections => self.read_queues(Kind::Election, &prefix.name).await?,
                Collection::Leases => self.read_leases(&prefix.name).await?,
            }
        }
        for resource in self.selection.exact() {
            let (found, clock) = self.handle.read(|state| {
                let clock = self.settled.clock(state);
                (self.find(state, resource, clock), clock)
            });
            self.show(resource, found, clock)?;
        }
        Ok(())
    }

    async fn read_keys(&mut self, prefix: &[u8]) -> Result<(), Failure> {
        let mut range = KeyRange::prefix(prefix);
        loop {
            let piece = self.handle.read(|state| {
                state.keys_piece(state.revision(), &range, Order::Ascending, PIECE, PIECE)
            });
            // The present revision is always there.
            let Ok(piece) = piece else {
                return Ok(());
            };
            for entry in piece.keys {
                let resource = Resource {
                    collection: Collection::Keys,
                    name: entry.key.clone(),
                };
                self.show(&resource, Some(Found::Key(entry)), Clock(0))?;
            }
            let Some(rest) = piece.rest else {
                return Ok(());
            };
            range = rest;
            tokio::task::yield_now().await;
        }
    }

    async fn read_queues(&mut self, kind: Kind, prefix: &[u8]) -> Result<(), Failure> {
        let prefix = String::from_utf8_lossy(prefix);
        let mut after: Option<String> = None;
        loop {
            let (views, more, clock) = self.handle.read(|state| {
                let page = state.queues_page(kind, &prefix, after.as_deref(), PIECE, PIECE);
                let (mut views, mut more, mut rows) = (Vec::new(), page.more, 0);
                for (name, _) in page.queues {
                    if PIECE <= rows {
                        more = true;
                        break;
                    }
                    let view = state.queue(kind, &name);
                    rows += 1 + view.holders.len() + view.queue.len();
                    views.push((name, view));
                }
                (views, more, self.settled.clock(state))
            });
            after = views.last().map(|(name, _)| name.clone());
            for (name, view) in views {
                let resource = Resource {
                    collection: Collection::of(kind),
                    name: name.clone().into(),
                };
                self.show(&resource, Some(Found::Queue(kind, name, view)), clock)?;
            }
            if !more || after.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn read_leases(&mut self, prefix: &[u8]) -> Result<(), Failure> {
        let Some(mut after) = before_first(prefix) else {
            return Ok(());
        };
        loop {
            let (views, more, clock) = self.handle.read(|state| {
                let clock = self.settled.clock(state);
                let page = state.leases_page(after, PIECE, clock);
                let (mut views, mut more, mut rows) = (Vec::new(), page.len() == PIECE, 0);
                for view in page {
                    if PIECE <= rows {
                        more = true;
                        break;
                    }
                    let attached = leases::attached(state, self.caller, view.lease);
                    rows += 1 + attached.len();
                    views.push((view, attached));
                }
                (views, more, clock)
            });
            let Some((last, _)) = views.last() else {
                return Ok(());
            };
            after = Some(last.lease);
            for (view, attached) in views {
                let resource = lease_resource(view.lease);
                if !resource.name.starts_with(prefix) {
                    return Ok(());
                }
                self.show(&resource, Some(Found::Lease(view, attached)), clock)?;
            }
            if !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// The leases that were found: which of the things on them are shown is judged with each.
    fn leases_shown(&self) -> Vec<Resource> {
        let prefix = Collection::Leases.prefix();
        let from = self.shown.range(prefix.to_owned()..);
        let names = from.map_while(|(name, _)| name.strip_prefix(prefix));
        let resource = |name: &str| Resource {
            collection: Collection::Leases,
            name: Bytes::copy_from_slice(name.as_bytes()),
        };
        names.map(resource).collect()
    }

    /// Reads again what changed since it was read, and leases where rights have, until everything is as of one revision:
    /// until all that changed is found while nothing else can change.
    async fn catch_up(&mut self) -> Result<(), Stale> {
        loop {
            let (through, mut changed, found, clock, more, judged_at) =
                self.handle.read(|state| {
                    // Nothing is told before the last of these looks: then it is what the caller may see.
                    self.caller.may(state, self.needed)?;
                    let judged_at = state.access().changes();
                    let again = (judged_at != self.judged_at).then(|| self.leases_shown());
                    let span = state.history(self.seen, PIECE)?;
                    let clock = self.settled.clock(state);
                    let events = span.changes.iter().flat_map(|change| change.events.iter());
                    let leases = state.leases_of(&span.changes);
                    let changed: BTreeSet<Resource> = events
                        .map(resource_of)
                        .chain(leases.into_iter().map(lease_resource))
                        .filter(|resource| self.selection.selects(resource))
                        .chain(again.into_iter().flatten())
                        .collect();
                    let mut changed = changed.into_iter().peekable();
                    let found = self.find_some(state, &mut changed, clock);
                    Ok::<_, Stale>((span.through, changed, found, clock, span.more, judged_at))
                })?;
            self.judged_at = judged_at;
            self.show_all(found, clock)?;
            let at_once = changed.peek().is_none();
            while changed.peek().is_some() {
                tokio::task::yield_now().await;
                let (found, clock) = self.handle.read(|state| {
                    let clock = self.settled.clock(state);
                    (self.find_some(state, &mut changed, clock), clock)
                });
                self.show_all(found, clock)?;
            }
            self.seen = through;
            if at_once && !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// The next of these resources, about a piece of rows.
    fn find_some(
        &self,
        state: &State,
        resources: &mut impl Iterator<Item = Resource>,
        clock: Clock,
    ) -> Vec<(Resource, Option<Found>)> {
        let (mut some, mut rows) = (Vec::new(), 0);
        while rows < PIECE
            && let Some(resource) = resources.next()
        {
            let found = self.find(state, &resource, clock);
            rows += 1 + found.as_ref().map_or(0, Found::rows);
            some.push((resource, found));
        }
        some
    }

    /// A resource, where it exists, is held or is waited for.
    fn find(&self, state: &State, resource: &Resource, clock: Clock) -> Option<Found> {
        let kind = match resource.collection {
            Collection::Keys => return state.key(&resource.name).map(Found::Key),
            Collection::Leases => {
                let id = std::str::from_utf8(&resource.name).ok()?;
                let id = super::text::lease(id).ok()?;
                let view = state.lease(id, clock).ok()?;
                let attached = leases::attached(state, self.caller, id);
                return Some(Found::Lease(view, attached));
            }
            Collection::Locks => Kind::Lock,
            Collection::Semaphores => Kind::Semaphore,
            Collection::Elections => Kind::Election,
        };
        let name = std::str::from_utf8(&resource.name).ok()?;
        let view = state.queue(kind, name);
        let used = view.holder_count > 0 || view.queue_length > 0;
        used.then(|| Found::Queue(kind, name.to_owned(), view))
    }

    fn show_all(
        &mut self,
        found: Vec<(Resource, Option<Found>)>,
        clock: Clock,
    ) -> Result<(), Failure> {
        for (resource, found) in found {
            self.show(&resource, found, clock)?;
        }
        Ok(())
    }

    /// Puts a resource in its place, or takes it away where there is nothing.
    fn show(
        &mut self,
        resource: &Resource,
        found: Option<Found>,
        clock: Clock,
    ) -> Result<(), Failure> {
        let name = resource_name(resource);
        let json = found.map(|found| element(&name, found, clock));
        let before = match json {
            Some(json) => {
                self.bytes += json.len() + 1;
                self.shown.insert(name, json)
            }
            None => self.shown.remove(&name),
        };
        self.bytes -= before.map_or(0, |before| before.len() + 1);
        if self.bytes <= MOST_BYTES {
            return Ok(());
        }
        let at = self.handle.read(State::revision);
        let detail = format!(
            "what is selected has more than {MOST_BYTES} bytes; page GET /v1/keys?revision={at} and watch after={at}, \
             or select less"
        );
        Err(Failure::new(Code::TooLarge, detail)
            .with("limit", "snapshot_bytes")
            .with("allowed", MOST_BYTES as u64)
            .at(at))
    }

    fn finish(self) -> Result<Snapshot, Failure> {
        let mut json = Vec::with_capacity(self.bytes + 2);
        json.push(b'[');
        join(&mut json, self.shown.values());
        json.push(b']');
        Ok(Snapshot {
            revision: self.seen,
            json: Bytes::from(json),
        })
    }
}

fn element(resource: &str, found: Found, clock: Clock) -> Bytes {
    let at = Revision(0);
    let state = match found {
        Found::Key(entry) => value(&keys::shown(&entry)),
        Found::Queue(Kind::Lock, name, view) => value(&locks::shown(&name, &view, clock, at)),
        Found::Queue(Kind::Semaphore, name, view) => {
            value(&semaphores::shown(&name, &view, clock, at))
        }
        Found::Queue(Kind::Election, name, view) => {
            value(&elections::shown(&name, &view, clock, at))
        }
        Found::Lease(view, attached) => value(&leases::shown(&view, attached, clock, at)),
    };
    let element = api::Resource {
        resource: resource.to_owned(),
        state,
    };
    let json = serde_json::to_vec(&element);
    Bytes::from(json.expect("a resource has only strings for the names of its fields"))
}

/// What `GET` answers, less the revision: the snapshot has one for all.
fn value(shown: &impl Serialize) -> Value {
    let mut value =
        serde_json::to_value(shown).expect("a view has only strings for the names of its fields");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("revision");
    }
    value
}

fn resource_name(resource: &Resource) -> String {
    let collection = match resource.collection {
        Collection::Elections => "elections",
        Collection::Keys => "keys",
        Collection::Leases => "leases",
        Collection::Locks => "locks",
        Collection::Semaphores => "semaphores",
    };
    format!("{collection}/{}", keys::text_of(&resource.name).0)
}

fn lease_resource(lease: LeaseId) -> Resource {
    Resource {
        collection: Collection::Leases,
        name: lease.to_string().into(),
    }
}

/// After which lease those begin whose ids begin so; `None` where there can be none.
fn before_first(prefix: &[u8]) -> Option<Option<LeaseId>> {
    const DIGITS: usize = 16;
    let prefix = std::str::from_utf8(prefix).ok()?;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if DIGITS < prefix.len() || !prefix.bytes().all(is_hex) {
        return None;
    }
    let first = u64::from_str_radix(&format!("{prefix:0<DIGITS$}"), 16).ok()?;
    match first.checked_sub(1) {
        None | Some(0) => Some(None),
        // Ids have 63 bits: there is none behind those.
        Some(before) => LeaseId::new(before).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_begin_so_begin_after_the_id_before_them() {
        let check = |prefix: &str, expected: Option<Option<u64>>| {
            let expected = expected.map(|id| id.and_then(LeaseId::new));
            assert_eq!(before_first(prefix.as_bytes()), expected, "{prefix}");
        };
        check("", Some(None));
        check("0000000000000001", Some(None));
        check("0000000000000002", Some(Some(1)));
        check("3f", Some(Some(0x3eff_ffff_ffff_ffff)));
        check("3f9c2a7b5d1e8046", Some(Some(0x3f9c_2a7b_5d1e_8045)));
        check("f", None);
        check("3F", None);
        check("x", None);
        check("3f9c2a7b5d1e80461", None);
    }
}
