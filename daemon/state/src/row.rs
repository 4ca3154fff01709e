//! Rows: the form in which the state leaves memory, for checkpoints, snapshots and the digest.
//!
//! Owns the list of tables and the shape of a row. A row's value begins with nothing of ours: storage adds its own
//! checksum. Keys are ordered as bytes, so numbers in keys are big-endian.

use bytes::Bytes;

/// The tables. Numbers are part of the disk format: they are never changed nor used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Table {
    /// Single values: clock, revision, compact revision, limits, state version, cluster.
    Meta = 1,
    /// `(revision, position)` to what changed: the versions of keys, which stay while they are live, and other events.
    History = 2,
    /// Lease id to lease, less its deadline.
    Leases = 3,
    /// Block number to 1024 deadlines by slot.
    Deadlines = 4,
    /// `(kind, name)` to what outlives the holders of a lock, semaphore or election.
    Queues = 5,
    /// `(kind, name, lease, owner)` to a hold.
    Holds = 6,
    /// The request's revision and number to a place, which may stand in several queues.
    Places = 7,
    /// Leases that ended lately, by the revision of their end.
    Ended = 8,
    /// Idempotency records by identity and key.
    Idempotency = 9,
    /// Roles, identities and tokens, and whether access control is on.
    Access = 10,
}

impl Table {
    /// Every table, in the order of numbers.
    pub const ALL: [Table; 10] = [
        Table::Meta,
        Table::History,
        Table::Leases,
        Table::Deadlines,
        Table::Queues,
        Table::Holds,
        Table::Places,
        Table::Ended,
        Table::Idempotency,
        Table::Access,
    ];

    /// The table of a number, if there is one.
    pub fn from_number(number: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// A row as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Where it belongs.
    pub table: Table,
    /// Its key within the table.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// A row that changed since the last checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowChange {
    /// Where it belongs.
    pub table: Table,
    /// Its key within the table.
    pub key: Bytes,
    /// Its value now, or `None` where it is gone.
    pub value: Option<Bytes>,
}
