//! Everything that can make the core of a running member act, in one place.

use tenure_raft::{MemberId, TransferError, WriteId};
use tenure_replica::Input;
use tokio::sync::oneshot;

use super::NodeError;
use super::stages::Synced;
use crate::transport::Received;

/// What the core thread is told.
pub(super) enum Event {
    /// Something for the core itself.
    Input(Input),
    /// A message of another member.
    Peer(Box<Received>),
    /// The log file has done a write, and all before it.
    Written {
        /// The last write of those that went into one sync.
        id: WriteId,
        /// How it came there.
        synced: Synced,
    },
    /// The state has a deadline that comes before the one it had, or can take entries that were kept back: the core's
    /// sleep may be too long.
    Applied,
    /// Hand over leadership.
    Transfer {
        /// To whom; to the one furthest ahead where nobody is named.
        to: Option<MemberId>,
        /// Who wants to know.
        reply: oneshot::Sender<Result<MemberId, TransferError>>,
    },
    /// Another member says that this one was removed from the cluster.
    Removed,
    /// Take no more requests of clients.
    StopAccepting,
    /// A thread of the member failed: nothing may go on.
    Failed(NodeError),
    /// End the loop.
    Stop,
    /// The apply thread has ended, and its last checkpoint is on disk.
    ApplyEnded,
}

impl Event {
    /// Whether it came by `Shared::ask_core`, which counts what waits.
    pub(super) fn is_asked(&self) -> bool {
        matches!(
            self,
            Event::Input(
                Input::Propose(_)
                    | Input::Renew { .. }
                    | Input::Traced { .. }
                    | Input::Read { .. }
                    | Input::AskProgress { .. }
                    | Input::Operate { .. }
            )
        )
    }
}
