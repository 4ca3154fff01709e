//! What one turn of the core wants done.

use std::time::Duration;

use tenure_raft::{Entry, LogPosition, MemberId, ReadPoint, RoleChange, SnapshotTask, Write};
use tenure_state::Origin;

use crate::operating::Operated;
use crate::peer::{PeerMessage, ProgressReport, Refused, TraceContext};

/// Everything that one turn of the core wants done. The fields are independent of each other, except that `write`s
/// are done in order and `apply` is applied in order.
#[derive(Debug, Default)]
pub struct Output {
    /// One atomic write to the log file. Its `then` is empty: the core keeps those messages until
    /// [`crate::Input::Persisted`].
    pub write: Option<Write>,
    /// Messages that may leave now.
    pub send: Vec<(MemberId, PeerMessage)>,
    /// Committed entries for the applier.
    pub apply: Vec<Entry>,
    /// Reads that have been decided, by token: where they may be served, or why not.
    pub reads: Vec<(u64, Result<ReadPoint, Refused>)>,
    /// Requests of this member's clients that were not proposed and never will be, by token.
    pub refused: Vec<(u64, Refused)>,
    /// Answers to questions for progress, by token.
    pub progress: Vec<(u64, Result<ProgressReport, Refused>)>,
    /// Answers to operations, by token.
    pub operated: Vec<(u64, Operated)>,
    /// What happened to this member's role, oldest first.
    pub changes: Vec<RoleChange>,
    /// Snapshot work, oldest first.
    pub snapshots: Vec<SnapshotTask>,
    /// Entries that were appended in this turn and carry traced requests.
    pub traced: Vec<TracedEntry>,
}

/// An entry that carries traced requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TracedEntry {
    /// Where in the log it is.
    pub position: LogPosition,
    /// How many requests it carries in all, renewals included.
    pub requests: usize,
    /// Those that are traced.
    pub traced: Vec<TracedRequest>,
}

/// A traced request that has become a part of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TracedRequest {
    /// Whose it is.
    pub origin: Origin,
    /// Where in a trace it belongs.
    pub context: TraceContext,
    /// How long it has waited here for the entry.
    pub waited: Duration,
}
