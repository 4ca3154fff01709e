//! What members say to each other.
//!
//! Owns the shapes only. Messages may be lost, delayed by minutes, doubled and reordered: nothing here assumes a
//! connection. How they are encoded is the transport's business.

use bytes::Bytes;

use crate::types::{Entry, LogIndex, LogPosition, MemberId, SnapshotFile, Stamp, Term};

/// A message from one member to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Who says it.
    pub from: MemberId,
    /// Whom it is for.
    pub to: MemberId,
    /// The sender's term; in a pre-vote the term that it would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// The kinds of message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// "Would you vote for me?" (thesis §9.6): changes nothing at the receiver.
    PreVote {
        /// The end of the candidate's log.
        last: LogPosition,
    },
    /// The answer to a pre-vote. Where granted, the message's term is the one asked about.
    PreVoteResponse {
        /// Whether the receiver would vote for it.
        granted: bool,
    },
    /// RequestVote (Raft §5.2).
    Vote {
        /// The end of the candidate's log (Raft §5.4.1).
        last: LogPosition,
        /// The leader itself asked for this election (thesis §3.10), so leader stickiness does not apply.
        transfer: bool,
    },
    /// The answer to a vote request.
    VoteResponse {
        /// Whether the vote is the candidate's.
        granted: bool,
    },
    /// AppendEntries with entries, or an empty probe (Raft §5.3).
    Append {
        /// The entry before the first one sent.
        previous: LogPosition,
        /// What follows it, in order and without gap.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
        /// The leader's replication round; the response echoes it, for check-quorum and reads.
        round: u64,
    },
    /// The answer to an append.
    AppendResponse {
        /// What came of it.
        result: AppendResult,
        /// The round of the append that is answered.
        round: u64,
    },
    /// "I am the leader": carries the commit index, never more than the receiver is known to match.
    Heartbeat {
        /// min(commit, match index of the receiver).
        commit: LogIndex,
        /// A number chosen by the leader that only rises within its term.
        round: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatResponse {
        /// The round that is answered.
        round: u64,
    },
    /// A follower asks for the index at which its reads are linearizable (thesis §6.4).
    ReadIndex {
        /// The follower's own number for this batch of reads. Never used as a round.
        batch: u64,
    },
    /// The leader's answer, sent after it has confirmed its leadership in a round begun after the request arrived.
    ReadIndexResponse {
        /// The batch that is answered.
        batch: u64,
        /// Reads at or after this index are linearizable.
        index: LogIndex,
        /// The leader's clock, read after the request arrived.
        stamp: Stamp,
    },
    /// The leader cannot answer a read now (it has not committed in its term, or lost the quorum): ask again.
    ReadIndexRefused {
        /// The batch that is refused.
        batch: u64,
    },
    /// One piece of a snapshot (Raft §7).
    Snapshot {
        /// Which file it is a piece of.
        file: SnapshotFile,
        /// Where the piece begins.
        offset: u64,
        /// The piece; empty asks "how far are you?".
        data: Bytes,
        /// As in a heartbeat.
        round: u64,
    },
    /// How much of a snapshot the receiver has safely stored.
    SnapshotResponse {
        /// The position of the snapshot spoken of.
        position: LogPosition,
        /// Its digest.
        digest: u128,
        /// Bytes stored from its beginning; the next piece wanted starts here.
        stored: u64,
        /// The round of the piece that is answered.
        round: u64,
    },
    /// The leader asks the receiver to campaign at once (thesis §3.10).
    TimeoutNow,
}

/// What came of an append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AppendResult {
    /// The receiver's log is durable and equal to the leader's up to here.
    Accepted {
        /// The last index known to be equal and durable.
        matched: LogIndex,
    },
    /// The receiver has no entry equal to `previous`.
    Rejected {
        /// The `previous.index` of the append that is refused.
        previous: LogIndex,
        /// The receiver's best guess: its last entry at or below `previous` whose term is not above the leader's
        /// `previous.term`.
        hint: LogPosition,
    },
}
