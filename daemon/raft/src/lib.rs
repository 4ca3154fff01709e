//! Raft without I/O: consensus as a pure state machine.
//!
//! Owns terms, votes, the replicated log, its configurations, and the leader's cluster clock. Input is a method call on
//! [`Raft`] (a message, a proposal, a tick, "this write is durable"); output is one [`Ready`] that says what to
//! persist, send, apply and answer. Must never read a clock, draw randomness of its own, touch a file or a socket, or look inside
//! a command. Names are those of the Raft paper (extended version) and of Ongaro's dissertation ("thesis").
//!
//! Left out: forwarding of proposals and the state machine (the caller's), and reads that rely on clocks (on purpose).

mod message;
mod ready;
mod types;

mod core;

mod clock;
mod election;
mod follower;
mod membership;
mod reads;
mod replication;
mod role;
mod snapshot;

mod admission;
mod configuration;
mod log;
mod progress;
mod quorum;
mod writes;

pub use crate::core::{
    Forgotten, ProposeError, Raft, RestoreError, Restored, Settings, TransferError,
};
pub use membership::{Busy, Change, ChangeError, ChangeFate, Unsafe};
pub use message::{AppendResult, Body, Message};
pub use ready::{
    PeerState, PeerStatus, ReadPoint, ReadResult, ReadToken, Ready, RoleChange, RoleName,
    SnapshotTask, Status, StepDown, Transferred, Write, WriteId,
};
pub use types::{
    Configuration, Entry, HardState, LogIndex, LogPosition, MemberId, MemberInfo, Payload,
    SnapshotFile, SnapshotMeta, Stamp, Term,
};
