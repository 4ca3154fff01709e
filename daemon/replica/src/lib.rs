//! Raft and the state machine joined, without I/O: production and the simulator run exactly this.

mod peer;

pub use peer::{ForwardKind, ForwardedRequest, Lane, PeerMessage, ProgressReport, Refused};
