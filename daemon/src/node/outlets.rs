//! Where the core's wishes go: the queues of the other threads, and the transport.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tenure_raft::{Configuration, Entry, MemberId, ReadPoint, SnapshotTask, Stamp, Write};
use tenure_replica::PeerMessage;
use tenure_state::State;

use super::handle::Shared;
use crate::storage::{LogThread, SnapshotThread};
use crate::transport::{ClusterId, Transport};

/// What the apply thread is told.
pub(super) enum Apply {
    /// Committed entries, in order.
    Entries(Vec<Entry>),
    /// A read that may be served once this index is applied.
    Read {
        /// Whose.
        token: u64,
        /// When.
        point: ReadPoint,
    },
    /// The state is replaced by that of a snapshot.
    Install {
        /// What it covers.
        meta: tenure_raft::SnapshotMeta,
        /// The state.
        state: Box<State>,
    },
    /// The last checkpoint handed over is done.
    CheckpointDone,
    /// A checkpoint of everything, then the end.
    Stop,
}

/// The tokens of what was certainly not sent.
#[derive(Default)]
pub(super) struct Unsent {
    /// Of forwarded requests.
    pub(super) requests: Vec<u64>,
    /// Of an operation of the membership.
    pub(super) operation: Option<u64>,
}

/// The queues.
pub(super) struct Outlets {
    pub(super) log: LogThread,
    pub(super) snapshots: SnapshotThread,
    pub(super) apply: Sender<Apply>,
    pub(super) transport: Transport,
    pub(super) cluster: ClusterId,
    /// The configuration that the transport was told of, and the committed one.
    pub(super) told: Option<[Arc<Configuration>; 2]>,
}

impl Outlets {
    pub(super) fn write(&self, write: Write) {
        self.log.write(write);
    }

    /// Sends a message, or loses it, as messages may be.
    pub(super) fn send(&self, to: MemberId, message: PeerMessage) -> Unsent {
        send(&self.transport, to, message)
    }

    /// Ends the threads that only the core uses, and tells the apply thread to end: what was handed over is on disk
    /// when this returns.
    pub(super) fn stop(self) {
        let _ = self.apply.send(Apply::Stop);
        for (what, result) in [("log", self.log.stop()), ("state", self.snapshots.stop())] {
            if let Err(error) = result {
                tracing::warn!(%error, "the {what} file was not tidied up at the end; the next start repairs it");
            }
        }
    }

    pub(super) fn apply(&self, entries: Vec<Entry>) {
        // The apply thread ends only by its own failure, which it has reported.
        let _ = self.apply.send(Apply::Entries(entries));
    }

    /// Answers a read at once where the state has come so far, which is the rule at a leader.
    pub(super) fn read_at(&self, shared: &Shared, token: u64, point: ReadPoint) {
        if shared.has_applied(point) {
            shared.answer_read(token, Ok(Stamp(point.stamp.0)));
        } else {
            let _ = self.apply.send(Apply::Read { token, point });
        }
    }

    pub(super) fn snapshot(&self, task: SnapshotTask) {
        self.snapshots.request(task);
    }

    /// Whether the transport was not told of this configuration.
    pub(super) fn is_news(&self, configuration: &Arc<Configuration>) -> bool {
        let told = self.told.as_ref();
        told.is_none_or(|[told, _]| !Arc::ptr_eq(told, configuration))
    }

    /// Tells the transport who belongs to the cluster, when that changes.
    pub(super) fn membership(
        &mut self,
        configuration: &Arc<Configuration>,
        committed: &Arc<Configuration>,
    ) {
        let now = [configuration, committed];
        let is_told = |told: &[Arc<Configuration>; 2]| {
            std::iter::zip(told, now).all(|(told, now)| Arc::ptr_eq(told, now))
        };
        if self.told.as_ref().is_some_and(is_told) {
            return;
        }
        self.transport
            .update(self.cluster, configuration, committed);
        self.told = Some(now.map(Arc::clone));
    }
}

/// Sends a message, or loses it. Answers what was in it that somebody waits for, where it was certainly not sent.
fn send(transport: &Transport, to: MemberId, message: PeerMessage) -> Unsent {
    let awaited = match &message {
        PeerMessage::Forward(requests) => Unsent {
            requests: requests.iter().map(|request| request.token).collect(),
            operation: None,
        },
        PeerMessage::Operate { token, .. } => Unsent {
            requests: Vec::new(),
            operation: Some(*token),
        },
        _ => Unsent::default(),
    };
    match transport.send(to, message) {
        true => Unsent::default(),
        false => awaited,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tenure_raft::Change;
    use tenure_replica::{AdminRequest, ForwardKind, ForwardedRequest};
    use tokio::net::TcpListener;

    use super::*;
    use crate::transport::{Budgets, Identity, Incoming};

    /// Whoever asked is told *not applied*, at once, and does not wait to hear that nothing is known.
    #[tokio::test]
    async fn what_is_for_a_member_that_is_not_connected_is_known_to_be_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let identity = Identity {
            member: MemberId(1),
            name: "n1".to_owned(),
            client_url: String::new(),
            peer_url: String::new(),
            initial_members: None,
            state_version_at_most: 2,
        };
        let sink = Arc::new(|_: Incoming| {});
        let transport = Transport::start(identity, listener, None, Budgets::default(), sink);
        let transport = transport.expect("it starts");
        let unsent = |message| {
            let unsent = send(&transport, MemberId(2), message);
            (unsent.requests, unsent.operation)
        };
        let operation = AdminRequest::Change(Change::Remove(MemberId(3)));
        let operate = PeerMessage::Operate {
            token: 7,
            operation,
        };
        assert_eq!(unsent(operate), (vec![], Some(7)));
        let forwarded = |token| ForwardedRequest {
            token,
            kind: ForwardKind::Command,
            request: Bytes::new(),
            trace: None,
        };
        let forward = PeerMessage::Forward(vec![forwarded(8), forwarded(9)]);
        assert_eq!(unsent(forward), (vec![8, 9], None));
        let question = PeerMessage::AskProgress { token: 10 };
        assert_eq!(unsent(question), (vec![], None), "it is asked again anyway");
        transport.stop().await;
    }
}
