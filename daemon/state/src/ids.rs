//! The numbers and names of the state machine as types that cannot be swapped.

use std::fmt;
use std::num::NonZeroU64;

/// A change that can be observed. Begins at 1 for the empty state and only rises.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

/// The cluster clock in milliseconds, as stamped on the entry being applied.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Clock(pub u64);

/// A lease: a positive 63-bit number, written as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseId(NonZeroU64);

impl LeaseId {
    /// No id comes before it.
    pub(crate) const LEAST: LeaseId = LeaseId(NonZeroU64::MIN);

    /// The id of a number from 1 to 2^63 − 1.
    pub fn new(number: u64) -> Option<LeaseId> {
        NonZeroU64::new(number)
            .filter(|number| number.get() < 1 << 63)
            .map(LeaseId)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The revision of a grant. Fences of one name only rise; a fence comes out of a grant or out of a request that
/// claims to hold one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fence(pub u64);

impl From<Revision> for Fence {
    fn from(revision: Revision) -> Fence {
        Fence(revision.0)
    }
}

/// Which kind of thing a queue serves. Numbers are part of the disk format.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Kind {
    /// A lock.
    Lock = 1,
    /// A semaphore.
    Semaphore = 2,
    /// An election.
    Election = 3,
}

/// The member and the number by which it knows a request of its clients. No two requests of a member have the same
/// number, across restarts too (they begin at a random one).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// The member that the client asked.
    pub member: u64,
    /// Its number for the request.
    pub token: u64,
}
