//! Waiters: who is woken when something changes.
//!
//! Owns the wake-up of each waiter; who is woken by what is decided by `Wakes`. A waiter is told that it should look,
//! never what it will see.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tenure_replica::{Interest, Wake, WakeId, Wakes};
use tenure_state::{Event, LeaveReason};
use tokio::sync::Notify;

use super::handle::Shared;

/// All waiters of a member.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Table>);

#[derive(Default)]
struct Table {
    wakes: Wakes,
    sleepers: HashMap<WakeId, Arc<Sleeper>>,
}

#[derive(Default)]
struct Sleeper {
    notify: Notify,
    left: OnceLock<LeaveReason>,
}

impl Waiters {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.table().sleepers.len()
    }

    /// Whether nobody waits, so that no event need be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.table().wakes.is_empty()
    }

    /// Wakes those whom these events concern.
    pub(super) fn notify<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        let table = self.table();
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
        for sleeper in self.table().sleepers.values() {
            sleeper.wake(Wake::Changed);
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
    id: WakeId,
    sleeper: Arc<Sleeper>,
}

impl Waiter {
    pub(super) fn register(shared: Arc<Shared>, interest: Interest) -> Waiter {
        let sleeper = Arc::new(Sleeper::default());
        let id = {
            let mut table = shared.waiters.table();
            let id = table.wakes.register(interest);
            table.sleepers.insert(id, Arc::clone(&sleeper));
            id
        };
        Waiter {
            shared,
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
        let mut table = self.shared.waiters.table();
        table.wakes.unregister(self.id);
        table.sleepers.remove(&self.id);
    }
}
