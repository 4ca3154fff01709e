//! Waiters: who is woken when something changes.
//!
//! Owns the wake-up of each waiter; who is woken by what is decided by `Wakes`. A waiter is told that it should look,
//! never what it will see. There are two groups. Whoever waits for a place is woken by the thread that applies, because
//! a lock is handed over by it. Watchers may be thousands for one key: they are woken by a task of their own, which
//! follows the history, so that applying never waits for them and a burst of changes wakes each of them once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tenure_replica::{Interest, Wake, WakeId, Wakes};
use tenure_state::{
    Change, Event, LeaseId, LeaveReason, Resource, Revision, Span, State, resource_of,
};
use tokio::sync::Notify;

use super::handle::{Handle, PIECE, Shared};

/// All waiters of a member.
#[derive(Default)]
pub(super) struct Waiters {
    places: Group,
    watchers: Group,
}

#[derive(Default)]
struct Group(Mutex<Table>);

#[derive(Default)]
struct Table {
    wakes: Wakes,
    sleepers: HashMap<WakeId, Arc<Sleeper>>,
    /// Of watchers: who is registered has been woken for everything up to here.
    seen: Revision,
}

#[derive(Default)]
struct Sleeper {
    notify: Notify,
    left: OnceLock<LeaveReason>,
}

impl Group {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn wake_all(&self) {
        for sleeper in self.sleepers.values() {
            sleeper.wake(Wake::Changed);
        }
    }

    /// Wakes those whom a piece of history concerns: each once, however much of it does.
    fn wake_for(&self, changes: &[Change], leases: &BTreeSet<LeaseId>) {
        let events = || changes.iter().flat_map(|change| change.events.iter());
        let mut woken = Vec::new();
        let resources: BTreeSet<Resource> = events().map(resource_of).collect();
        for resource in &resources {
            self.wakes.watchers_of(resource, &mut woken);
        }
        for lease in leases {
            self.wakes.waiters_of_lease(*lease, &mut woken);
        }
        woken.sort_unstable();
        woken.dedup();
        for id in woken {
            if let Some(sleeper) = self.sleepers.get(&id) {
                sleeper.wake(Wake::Changed);
            }
        }
    }
}

impl Waiters {
    fn group(&self, watches: bool) -> &Group {
        match watches {
            true => &self.watchers,
            false => &self.places,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.table().sleepers.len() + self.watchers.table().sleepers.len()
    }

    /// Whether nobody waits for a place, so that no event need be looked at.
    pub(super) fn await_no_place(&self) -> bool {
        self.places.table().wakes.is_empty()
    }

    /// Whether nobody watches, so that nobody need be told of a new revision.
    pub(super) fn watch_nothing(&self) -> bool {
        self.watchers.table().wakes.is_empty()
    }

    /// Wakes those whose places these events end.
    pub(super) fn notify_places<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        let table = self.places.table();
        let mut woken = BTreeMap::new();
        for event in events {
            table.wakes.woken_by(event, &mut woken);
        }
        for (id, wake) in woken {
            if let Some(sleeper) = table.sleepers.get(&id) {
                sleeper.wake(wake);
            }
        }
    }

    /// Wakes everybody: the state was replaced.
    pub(super) fn notify_all(&self) {
        self.places.table().wake_all();
        self.watchers.table().wake_all();
    }
}

impl Handle {
    /// Wakes watchers as history grows. Never ends; who serves watchers runs it beside them.
    pub async fn wake_watchers(&self) {
        let mut revisions = self.revision_watch();
        loop {
            while self.wake_some() {
                tokio::task::yield_now().await;
            }
            if revisions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Wakes for one piece of history; whether there is more.
    fn wake_some(&self) -> bool {
        let watchers = &self.0.waiters.watchers;
        let (from, await_leases) = {
            let table = watchers.table();
            if table.wakes.is_empty() {
                return false;
            }
            (table.seen, table.wakes.await_leases())
        };
        let (span, leases) = self.read(|state| {
            let span = state.history(from, PIECE);
            let leases = match (&span, await_leases) {
                (Ok(span), true) => state.leases_of(&span.changes),
                (Ok(_) | Err(_), _) => BTreeSet::new(),
            };
            // What cannot be read any more, or not yet (the state was replaced), concerns everybody.
            (span.map_err(|_| state.revision()), leases)
        });
        let mut table = watchers.table();
        match span {
            Ok(Span {
                changes,
                through,
                more,
            }) => {
                table.wake_for(&changes, &leases);
                table.seen = table.seen.max(through);
                more
            }
            Err(present) => {
                table.wake_all();
                table.seen = present;
                false
            }
        }
    }
}

impl Sleeper {
    fn wake(&self, wake: Wake) {
        if let Wake::Left(reason) = wake {
            let _ = self.left.set(reason);
        }
        self.notify.notify_one();
    }
}

/// A registered waiter; dropping it unregisters.
pub struct Waiter {
    shared: Arc<Shared>,
    watches: bool,
    id: WakeId,
    sleeper: Arc<Sleeper>,
}

impl Waiter {
    pub(super) fn register(handle: &Handle, interest: Interest) -> Waiter {
        let shared = Arc::clone(&handle.0);
        let watches = match &interest {
            Interest::Watch(_) | Interest::Lease(_) => true,
            Interest::Place { .. } => false,
        };
        // Whoever looks after this sees at least so much by himself.
        let present = handle.read(State::revision);
        let sleeper = Arc::new(Sleeper::default());
        let id = {
            let mut table = shared.waiters.group(watches).table();
            if table.wakes.is_empty() {
                table.seen = present;
            }
            let id = table.wakes.register(interest);
            table.sleepers.insert(id, Arc::clone(&sleeper));
            id
        };
        Waiter {
            shared,
            watches,
            id,
            sleeper,
        }
    }

    /// Waits until something that this waiter is interested in has changed since the last call, or since it was
    /// registered. Cancellation loses nothing.
    pub async fn woken(&self) {
        self.sleeper.notify.notified().await;
    }

    /// Why the place ended without a grant, if it did.
    pub fn left(&self) -> Option<LeaveReason> {
        self.sleeper.left.get().copied()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.shared.waiters.group(self.watches).table();
        table.wakes.unregister(self.id);
        table.sleepers.remove(&self.id);
    }
}
