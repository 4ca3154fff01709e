//! Bytes that a member holds for its clients, shared among their connections.
//!
//! Owns the rule by which they share: a connection has so many at most, all of them together have so many, and some of
//! these are kept for whoever holds none yet. Says only yes or no: what to do without room is its user's to know.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// No connection holds more than one part in so many of what is left, so that a few that are slow leave room for
/// everybody else.
const SHARE: usize = 4;

/// How many bytes there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// For one connection.
    pub(super) of_one: u32,
    /// For all together.
    pub(super) of_all: usize,
    /// What of these is left for connections that hold nothing yet.
    pub(super) reserve: usize,
}

/// The bytes of one connection, beside those of all others of its member.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    sizes: Sizes,
    one: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Budget {
    /// The budget of a member.
    pub(super) fn of_member(sizes: Sizes) -> Budget {
        let all = Arc::new(Semaphore::new(sizes.of_all));
        Budget::within(sizes, all)
    }

    /// The budget of one connection of the same member.
    pub(super) fn of_connection(&self) -> Budget {
        Budget::within(self.sizes, Arc::clone(&self.all))
    }

    fn within(sizes: Sizes, all: Arc<Semaphore>) -> Budget {
        Budget {
            sizes,
            one: Arc::new(Semaphore::new(sizes.of_one as usize)),
            all,
        }
    }

    /// Takes so many bytes, if they are there. What is more than all that a connection may hold is given alone.
    pub(super) fn take(&self, bytes: u64) -> Option<Held> {
        let most = self.sizes.of_one;
        let needed = u32::try_from(bytes).map_or(most, |bytes| bytes.min(most));
        let held = self.held();
        let left = self.all.available_permits();
        let reserved = if held == 0 { 0 } else { self.sizes.reserve };
        if held + needed as usize > left.saturating_sub(reserved) / SHARE {
            return None;
        }
        let of = |bytes: &Arc<Semaphore>| Arc::clone(bytes).try_acquire_many_owned(needed).ok();
        Some(Held {
            _of_connection: of(&self.one)?,
            _of_member: of(&self.all)?,
        })
    }

    /// What this connection holds.
    pub(super) fn held(&self) -> usize {
        self.sizes.of_one as usize - self.one.available_permits()
    }

    /// What all connections hold.
    #[cfg(test)]
    pub(super) fn held_by_all(&self) -> usize {
        self.sizes.of_all - self.all.available_permits()
    }
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _of_connection: OwnedSemaphorePermit,
    _of_member: OwnedSemaphorePermit,
}

impl Held {
    /// Holds what the other does too.
    pub(super) fn join(&mut self, other: Held) {
        self._of_connection.merge(other._of_connection);
        self._of_member.merge(other._of_member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        of_one: 32 << 20,
        of_all: 256 << 20,
        reserve: 64 << 20,
    };

    #[test]
    fn a_connection_holds_so_much_and_what_is_dropped_is_there_again() {
        let connection = Budget::of_member(SIZES).of_connection();
        let page = 4 << 20;
        let mut held: Vec<Held> = (0..8).filter_map(|_| connection.take(page)).collect();
        assert_eq!((held.len(), connection.held()), (8, 32 << 20));
        assert!(connection.take(1).is_none());
        let (mut first, second) = (held.remove(0), held.remove(0));
        first.join(second);
        assert_eq!(connection.held(), 32 << 20);
        drop(first);
        assert_eq!(connection.held(), 24 << 20);
        drop(held);
        assert!(
            connection.take(u64::MAX).is_some(),
            "the largest is given alone"
        );
    }

    #[test]
    fn connections_that_take_all_they_get_leave_room_for_one_that_holds_nothing() {
        let member = Budget::of_member(SIZES);
        let value = 900 << 10;
        let mut held = Vec::new();
        for _ in 0..20 {
            let greedy = member.of_connection();
            held.extend(std::iter::from_fn(|| greedy.take(value)));
        }
        assert!(
            SIZES.of_all / 2 < member.held_by_all(),
            "room is there to be used: {}",
            member.held_by_all()
        );
        for _ in 0..10 {
            let modest = member.of_connection();
            let first = modest.take(8 << 20);
            assert!(first.is_some(), "the longest answer there is");
            assert!(modest.take(value).is_none(), "and no second one");
        }
    }
}
