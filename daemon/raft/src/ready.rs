//! What leaves the core: one value that says what to persist, send, apply and answer.
//!
//! Owns the shapes only. The order is part of the contract: see [`Ready`].

use std::time::Duration;

use bytes::Bytes;

use crate::message::Message;
use crate::types::{
    Entry, HardState, LogIndex, LogPosition, MemberId, SnapshotFile, SnapshotMeta, Stamp, Term,
};

/// A number for a write to the log file. Writes are done in the order of these, and may be merged.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct WriteId(pub u64);

/// A number that the caller gives a read, to know the answer by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ReadToken(pub u64);

/// Everything that one turn of the core wants done.
///
/// The caller hands `write` to the log file, sends `messages` at once (they may overtake the write), keeps
/// `Write::then` until the write is durable, gives `committed` to the state machine in order, and answers `reads`
/// once the state machine has applied their index.
#[derive(Debug, Default)]
pub struct Ready {
    /// One atomic write to the log file, if there is anything to remember.
    pub write: Option<Write>,
    /// Messages that depend on no write.
    pub messages: Vec<Message>,
    /// Entries that are committed and durable here, in order, each handed out exactly once.
    pub committed: Vec<Entry>,
    /// Reads that have been decided.
    pub reads: Vec<ReadResult>,
    /// What happened to this member's role, oldest first.
    pub changes: Vec<RoleChange>,
    /// Snapshot work for the caller, oldest first.
    pub snapshots: Vec<SnapshotTask>,
}

/// One atomic write to the log file: all of it is durable, or nothing. Done in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// Its number; the caller reports it by `Raft::persisted` once it is durable.
    pub id: WriteId,
    /// Term and vote, where they changed.
    pub hard_state: Option<HardState>,
    /// Throw away the whole log and begin behind this snapshot (it has been installed).
    pub reset_to: Option<SnapshotMeta>,
    /// Remove this index and everything after it before appending.
    pub truncate_from: Option<LogIndex>,
    /// Entries to append, in order and without gap.
    pub append: Vec<Entry>,
    /// Begin the log behind this position: entries up to it, itself included, are removed. It is covered by a
    /// durable checkpoint.
    pub compact_to: Option<SnapshotMeta>,
    /// Messages that may leave only when this write is durable. Those of an older term than the member's present one
    /// are dropped instead.
    pub then: Vec<Message>,
}

/// The fate of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadResult {
    /// The token it was asked with.
    pub token: ReadToken,
    /// The point it must reach, or `None` where no leader confirmed one: the caller may ask again.
    pub point: Option<ReadPoint>,
}

/// Where a linearizable read may be served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadPoint {
    /// The state machine must have applied this index.
    pub index: LogIndex,
    /// The leader's clock, read after the read was asked for.
    pub stamp: Stamp,
}

/// What became of a member's role, for logs, metrics and whoever waits for a leader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RoleChange {
    /// It follows a leader, or nobody yet.
    Follower {
        /// The term.
        term: Term,
        /// Whom it follows.
        leader: Option<MemberId>,
        /// Why, where it was leader or candidate before.
        reason: Option<StepDown>,
    },
    /// It asks whether it could win (thesis §9.6).
    PreCandidate {
        /// Its present term.
        term: Term,
    },
    /// It campaigns.
    Candidate {
        /// The term it campaigns in.
        term: Term,
    },
    /// It leads.
    Leader {
        /// The term it leads.
        term: Term,
        /// The last entry of its log when it was elected, before its own first one.
        last: LogPosition,
    },
}

/// Why a leader or candidate stepped down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepDown {
    /// It saw a higher term.
    HigherTerm,
    /// Another member leads this term.
    LeaderFound,
    /// Not enough members answered for an election timeout (thesis §6.2).
    QuorumLost,
    /// The caller asked: the process was paused for longer than an election timeout.
    Paused(Duration),
    /// The caller asked: the disk does not answer.
    DiskStalled,
    /// It left the configuration.
    Removed,
}

/// Snapshot work that needs a disk, done by the caller in its own time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotTask {
    /// Leader: `to` needs a snapshot at `at_least` or later. Answer with `Raft::snapshot_available` or
    /// `Raft::snapshot_failed`.
    Make {
        /// Who needs it.
        to: MemberId,
        /// The log begins behind this index: an older snapshot would not connect.
        at_least: LogIndex,
    },
    /// Leader: read a piece of the file and call `Raft::send_piece`.
    Read {
        /// Who gets it.
        to: MemberId,
        /// Of which file.
        file: SnapshotFile,
        /// From where.
        offset: u64,
        /// At most so many bytes.
        length: u64,
    },
    /// Leader: `to` needs the file no more; delete it when nobody else does.
    Release {
        /// Who had it.
        to: MemberId,
        /// Which file.
        file: SnapshotFile,
    },
    /// Follower: store a piece durably enough to resume behind it (a crash may lose pieces, never corrupt them), then
    /// call `Raft::piece_stored` with how much of this file is stored from its beginning. Where it does not fit
    /// behind what is stored, store nothing and say how much there is.
    Store {
        /// Of which file.
        file: SnapshotFile,
        /// Where the piece begins.
        offset: u64,
        /// The piece; empty only asks how much is stored.
        data: Bytes,
        /// To be handed back.
        round: u64,
        /// To be handed back: the leader that sent it.
        from: MemberId,
    },
    /// Follower: the whole file is stored. Verify it, make it the state of this member atomically, then call
    /// `Raft::snapshot_installed`, or `Raft::snapshot_rejected` where it is damaged.
    Install {
        /// Which file.
        file: SnapshotFile,
    },
}

/// A summary of the core for status pages and assertions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in it.
    pub vote: Option<MemberId>,
    /// What it is.
    pub role: RoleName,
    /// The leader it knows of and has heard from within an election timeout.
    pub leader: Option<MemberId>,
    /// The commit index.
    pub commit: LogIndex,
    /// The last index handed out as committed.
    pub handed_out: LogIndex,
    /// The last entry of the log.
    pub last: LogPosition,
    /// The last index that is durable in this member's log.
    pub durable: LogIndex,
    /// What the log begins behind.
    pub base: LogPosition,
    /// Bytes of the entries kept in memory.
    pub log_bytes: u64,
    /// Leader only: whether an entry of its own term is committed, so that it may serve reads.
    pub settled: bool,
    /// Leader only: how long ago it was elected.
    pub leads_for: Option<Duration>,
    /// Leader only: each other member's progress.
    pub progress: Vec<PeerStatus>,
}

/// The role of a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RoleName {
    /// Follows, with a vote.
    Follower,
    /// Follows, without a vote.
    Learner,
    /// Asks whether it could win, or campaigns.
    Candidate,
    /// Leads.
    Leader,
}

/// A leader's view of another member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Who.
    pub id: MemberId,
    /// How it is being replicated to.
    pub state: PeerState,
    /// The last index known to be equal and durable there.
    pub matched: LogIndex,
    /// The time since it last answered anything, as counted by ticks; `None` if never in this term.
    pub silent_for: Option<Duration>,
    /// How long the last heartbeat that it answered took there and back, turns of both members' loops included; `None`
    /// if it never answered one in this term.
    pub round_trip: Option<Duration>,
    /// How much of the snapshot that it is being sent it has.
    pub transferred: Option<Transferred>,
}

/// How far a snapshot is on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transferred {
    /// Bytes that the member has stored.
    pub stored: u64,
    /// Bytes of the whole file.
    pub size: u64,
}

/// How a leader replicates to a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerState {
    /// Looking for the place where the logs agree, one message at a time.
    Probe,
    /// Streaming entries ahead of the answers.
    Replicate,
    /// Being sent a snapshot.
    Snapshot,
}
