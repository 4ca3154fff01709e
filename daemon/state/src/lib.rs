//! The replicated state machine: leases, locks, elections and keys; pure and deterministic.

mod answer;
mod command;
mod event;
mod ids;
mod row;

pub use answer::{
    Answer, Applied, Attached, Contention, HoldView, HolderView, KeyEntry, LeaseView, OperationResult, Outcome,
    QueueView, QueuedView, Refusal, WaiterView,
};
pub use command::{
    Acquire, Batch, Claim, Command, Compare, Condition, Field, Guard, IdempotencyKey, NewLease, Operation, Put,
    Release, Renewal, Request, Share, Transaction, Wanted,
};
pub use event::{
    Change, Collection, DeleteReason, EndReason, Event, Grant, LeaveReason, Place, ReleaseReason, Resource, Selector,
};
pub use ids::{Clock, Fence, Kind, LeaseId, Origin, Revision};
pub use row::{Row, RowChange, Table};
