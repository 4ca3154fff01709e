//! The replicated state machine: leases, locks, elections and keys; pure and deterministic.

mod row;

pub use row::{Row, RowChange, Table};
