//! What members say to each other: Raft's messages, and the few that carry clients' calls to the leader.
//!
//! Owns the shapes only; the transport encodes them. `Forward` and `Operate` must be delivered at most once (a transport never
//! sends a frame again), because a command applied twice would be two commands; everything else may be lost, doubled,
//! delayed and reordered at will.

use bytes::Bytes;
use tenure_raft::{LogIndex, MemberId, Message, PeerStatus, Term};

use crate::operating::{AdminRequest, Introduction, Operated};
use crate::raising::CanFollow;

/// A message on the wire between members.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// Consensus.
    Raft(Message),
    /// Commands of this member's clients, for the leader to propose.
    Forward(Vec<ForwardedRequest>),
    /// The leader did not propose these, and never will: their outcome is *not applied*.
    Refused {
        /// The tokens of their origins.
        tokens: Vec<u64>,
        /// Why.
        reason: Refused,
    },
    /// Asks the leader how the members are doing.
    AskProgress {
        /// To know the answer by.
        token: u64,
    },
    /// The leader's answer.
    Progress {
        /// The token it was asked with.
        token: u64,
        /// The members as the leader sees them.
        report: ProgressReport,
    },
    /// An operation for the leader. Like `Forward` it is delivered at most once.
    Operate {
        /// To know the answer by.
        token: u64,
        /// What is wanted.
        operation: AdminRequest,
    },
    /// The leader's answer.
    Operated {
        /// The token it was asked with.
        token: u64,
        /// What came of it.
        result: Operated,
    },
    /// A member tells the leader what its state is at an entry at which states are compared.
    Digest {
        /// Which entry.
        index: LogIndex,
        /// The digest of the whole state behind it.
        digest: u128,
    },
    /// The leader tells a member whose state differs what a majority has there.
    Agreed {
        /// Which entry.
        index: LogIndex,
        /// The digest that a majority of the voters has.
        digest: u128,
    },
    /// A member tells the leader which start of it this is.
    Introduce(Introduction),
    /// The leader tells a member that its disk is an old copy: the start that is logged for it is not one that it knows.
    WentBack {
        /// The number of the start that is logged.
        logged: u64,
    },
    /// The leader asks a member which rules it can follow.
    AskVersion {
        /// To know the answer by.
        round: u64,
    },
    /// The member's answer.
    CanFollow(CanFollow),
}

impl PeerMessage {
    /// The connection this message travels on: bulk data must never delay what keeps a leader alive.
    pub fn lane(&self) -> Lane {
        use tenure_raft::Body;
        match self {
            PeerMessage::Raft(message) => match message.body {
                Body::Append { .. } => Lane::Append,
                Body::Snapshot { .. } => Lane::Snapshot,
                Body::PreVote { .. }
                | Body::PreVoteResponse { .. }
                | Body::Vote { .. }
                | Body::VoteResponse { .. }
                | Body::AppendResponse { .. }
                | Body::Heartbeat { .. }
                | Body::HeartbeatResponse { .. }
                | Body::ReadIndex { .. }
                | Body::ReadIndexResponse { .. }
                | Body::ReadIndexRefused { .. }
                | Body::SnapshotResponse { .. }
                | Body::TimeoutNow => Lane::Urgent,
            },
            PeerMessage::Forward(_) | PeerMessage::Operate { .. } => Lane::Append,
            PeerMessage::Operated { .. }
            | PeerMessage::Introduce(_)
            | PeerMessage::WentBack { .. }
            | PeerMessage::AskVersion { .. }
            | PeerMessage::CanFollow(_)
            | PeerMessage::Digest { .. }
            | PeerMessage::Agreed { .. }
            | PeerMessage::Refused { .. }
            | PeerMessage::AskProgress { .. }
            | PeerMessage::Progress { .. } => Lane::Urgent,
        }
    }
}

/// The separate connections between two members.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// Heartbeats, votes, reads, acknowledgements: small, and late ones cost a leader its office.
    Urgent,
    /// Entries and forwarded commands.
    Append,
    /// Pieces of snapshots.
    Snapshot,
}

/// A command of a client of another member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardedRequest {
    /// The origin's own number for it.
    pub token: u64,
    /// Whether it is a renewal, which may wait for company; then `command` is the encoded lease id alone.
    pub kind: ForwardKind,
    /// The encoded request.
    pub request: Bytes,
    /// Where in a trace it belongs, if it is traced.
    pub trace: Option<TraceContext>,
}

/// Where in a trace a request belongs (W3C Trace Context): what is done for it is told as children of that span. Carried
/// for whoever tells it; nothing here is decided by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    /// The trace.
    pub trace: [u8; 16],
    /// The span that waits for the request.
    pub span: [u8; 8],
    /// The flags of the trace.
    pub flags: u8,
}

/// How the leader queues a forwarded request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardKind {
    /// A command, proposed with the next entry.
    Command,
    /// A renewal, which rides on the next entry or waits for company.
    Renewal,
}

/// Why a request was not proposed. Its outcome is *not applied*.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refused {
    /// No leader is known, or the member asked is not it any more.
    NoLeader,
    /// Too much is waiting already.
    Overloaded,
    /// Leadership is being handed over: ask again at once.
    Transferring,
    /// The member is stopping.
    ShuttingDown,
    /// The rules in force do not know the command: some member cannot follow newer ones.
    RulesTooOld,
}

/// How the members are doing, as their leader sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgressReport {
    /// The leader.
    pub leader: MemberId,
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub commit: LogIndex,
    /// The last entry of its log.
    pub last: LogIndex,
    /// The others.
    pub peers: Vec<PeerStatus>,
    /// The newest rules that each member has said lately that it can follow, the leader too; empty where the cluster follows the
    /// newest rules that the leader knows, and from a leader of an older program.
    pub versions: Vec<(MemberId, u64)>,
}
