//! Raft and the state machine joined, without I/O: production and the simulator run exactly this.
//!
//! [`Core`] decides: it owns Raft, forms entries out of what clients ask, forwards to the leader, answers reads.
//! [`Applier`] carries out: it owns the state and applies what is committed. They share nothing but values, so that
//! the core never waits for a long apply; the binary gives each a thread, the simulator a place in virtual time.
//! `digests` is whether members have one state. `operating` is what operators ask of the leader and what members tell it of themselves.
//! `raising` is which rules the cluster follows, and when it may follow newer ones.
//! [`Wakes`] knows who waits for which change.
//!
//! Left out: disks, sockets, clocks, threads. All of them are inputs and outputs.

mod applier;
mod core;
mod digests;
mod leading;
mod operating;
mod output;
mod peer;
mod raising;
mod renewal;
mod size;
mod sizes;
mod wakes;

pub use applier::{Applier, Checkpoint, Decided, EntryError, Progress, remedy};
pub use core::{Core, CoreSettings, Input};
pub use digests::{COMPARED_EVERY, Diverged};
pub use operating::{AdminRequest, Introduction, KNOWN_STARTS, Operated};
pub use output::{Output, TracedEntry, TracedRequest};
pub use peer::{
    ForwardKind, ForwardedRequest, Lane, PeerMessage, ProgressReport, Refused, TraceContext,
};
pub use raising::CanFollow;
pub use sizes::Sizes;
pub use wakes::{Interest, Wake, WakeId, Wakes};
