//! The bodies of frames, as they are on the wire.
//!
//! Owns field numbers and nothing else: these structs are converted by hand to and from the inside's own types in the
//! codec, so that the inside can change freely. A field's number and meaning never change; new ones are added behind.
//! Sender and receiver are not on the wire: the handshake of the stream says who they are, once for all its frames.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Position {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
}

/// `PreVote` and `Vote`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(message, required, tag = "2")]
    pub(super) last: Position,
    #[prost(bool, tag = "3")]
    pub(super) transfer: bool,
}

/// `PreVoteResponse` and `VoteResponse`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct VoteResponse {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(bool, tag = "2")]
    pub(super) granted: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Append {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(message, required, tag = "2")]
    pub(super) previous: Position,
    #[prost(message, repeated, tag = "3")]
    pub(super) entries: Vec<Entry>,
    #[prost(uint64, tag = "4")]
    pub(super) commit: u64,
    #[prost(uint64, tag = "5")]
    pub(super) round: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
    #[prost(uint64, tag = "3")]
    pub(super) stamp: u64,
    /// Absent in an entry that says nothing but its stamp.
    #[prost(oneof = "Payload", tags = "4, 5")]
    pub(super) payload: Option<Payload>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Payload {
    #[prost(bytes = "bytes", tag = "4")]
    Command(Bytes),
    #[prost(message, tag = "5")]
    Configuration(Configuration),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Configuration {
    #[prost(fixed64, repeated, tag = "1")]
    pub(super) voters: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    pub(super) outgoing: Vec<u64>,
    #[prost(fixed64, repeated, tag = "3")]
    pub(super) learners: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pub(super) info: Vec<MemberInfo>,
    #[prost(message, repeated, tag = "5")]
    pub(super) promoting: Vec<Promotion>,
    #[prost(fixed64, repeated, tag = "6")]
    pub(super) removed: Vec<u64>,
}

/// A learner on its way to a vote.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Promotion {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    /// Absent where it replaces nobody.
    #[prost(fixed64, optional, tag = "2")]
    pub(super) replaces: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MemberInfo {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) peer_url: String,
    #[prost(string, tag = "4")]
    pub(super) client_url: String,
    /// Absent while no start of it is logged.
    #[prost(fixed64, optional, tag = "5")]
    pub(super) start: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AppendResponse {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) round: u64,
    #[prost(oneof = "AppendResult", tags = "3, 4")]
    pub(super) result: Option<AppendResult>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum AppendResult {
    /// The matched index.
    #[prost(uint64, tag = "3")]
    Accepted(u64),
    #[prost(message, tag = "4")]
    Rejected(Rejected),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Rejected {
    #[prost(uint64, tag = "1")]
    pub(super) previous: u64,
    #[prost(message, required, tag = "2")]
    pub(super) hint: Position,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) commit: u64,
    #[prost(uint64, tag = "3")]
    pub(super) round: u64,
}

/// `HeartbeatResponse`: the round that is answered. `ReadIndex` and `ReadIndexRefused`: the batch.
/// `TimeoutNow`: nothing.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Numbered {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ReadIndexResponse {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) batch: u64,
    #[prost(uint64, tag = "3")]
    pub(super) index: u64,
    #[prost(uint64, tag = "4")]
    pub(super) stamp: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(message, required, tag = "2")]
    pub(super) file: SnapshotFile,
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: Bytes,
    #[prost(uint64, tag = "5")]
    pub(super) round: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotFile {
    #[prost(message, required, tag = "1")]
    pub(super) position: Position,
    #[prost(uint64, tag = "2")]
    pub(super) stamp: u64,
    #[prost(message, required, tag = "3")]
    pub(super) configuration: Configuration,
    #[prost(uint64, tag = "4")]
    pub(super) size: u64,
    #[prost(message, required, tag = "5")]
    pub(super) digest: Digest,
}

/// A 128-bit digest in two halves.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Digest {
    #[prost(fixed64, tag = "1")]
    pub(super) high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) low: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct SnapshotResponse {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(message, required, tag = "2")]
    pub(super) position: Position,
    #[prost(message, required, tag = "3")]
    pub(super) digest: Digest,
    #[prost(uint64, tag = "4")]
    pub(super) stored: u64,
    #[prost(uint64, tag = "5")]
    pub(super) round: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Forward {
    #[prost(message, repeated, tag = "1")]
    pub(super) requests: Vec<ForwardedRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ForwardedRequest {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
    #[prost(enumeration = "ForwardKind", tag = "2")]
    pub(super) kind: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) request: Bytes,
    /// 16 bytes of the trace, 8 of the span, and its flags; empty where it is not traced.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) trace: Bytes,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ForwardKind {
    Unspecified = 0,
    Command = 1,
    Renewal = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Refused {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) tokens: Vec<u64>,
    #[prost(enumeration = "RefusedReason", tag = "2")]
    pub(super) reason: i32,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum RefusedReason {
    Unspecified = 0,
    NoLeader = 1,
    Overloaded = 2,
    Transferring = 3,
    ShuttingDown = 4,
    RulesTooOld = 5,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AskProgress {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Progress {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) leader: u64,
    #[prost(uint64, tag = "3")]
    pub(super) term: u64,
    #[prost(uint64, tag = "4")]
    pub(super) commit: u64,
    #[prost(uint64, tag = "5")]
    pub(super) last: u64,
    #[prost(message, repeated, tag = "6")]
    pub(super) peers: Vec<PeerStatus>,
    #[prost(message, repeated, tag = "7")]
    pub(super) versions: Vec<VersionOf>,
}

/// The newest rules that a member can follow.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct VersionOf {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct PeerStatus {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(enumeration = "PeerState", tag = "2")]
    pub(super) state: i32,
    #[prost(uint64, tag = "3")]
    pub(super) matched: u64,
    /// Absent where it never answered in this term.
    #[prost(uint64, optional, tag = "4")]
    pub(super) silent_for_us: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) round_trip_us: Option<u64>,
    /// Absent where it is sent no snapshot.
    #[prost(message, optional, tag = "6")]
    pub(super) transferred: Option<Transferred>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Transferred {
    #[prost(uint64, tag = "1")]
    pub(super) stored: u64,
    #[prost(uint64, tag = "2")]
    pub(super) size: u64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum PeerState {
    Unspecified = 0,
    Probe = 1,
    Replicate = 2,
    Snapshot = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operate {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
    #[prost(enumeration = "OperationKind", tag = "2")]
    pub(super) kind: i32,
    /// Whom it is about; absent in a transfer to whoever is furthest ahead.
    #[prost(fixed64, optional, tag = "3")]
    pub(super) member: Option<u64>,
    /// How a member is called and reached that comes or has moved.
    #[prost(message, optional, tag = "4")]
    pub(super) info: Option<MemberInfo>,
    #[prost(bool, tag = "5")]
    pub(super) promote: bool,
    #[prost(fixed64, optional, tag = "6")]
    pub(super) replaces: Option<u64>,
    /// The newest version of the rules that whoever comes can follow; absent where nobody comes. Members that do not know this
    /// field skip it.
    #[prost(uint64, optional, tag = "7")]
    pub(super) follows: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum OperationKind {
    Unspecified = 0,
    Add = 1,
    Replace = 2,
    Promote = 3,
    Remove = 4,
    Update = 5,
    Transfer = 6,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operated {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
    #[prost(enumeration = "OperatedKind", tag = "2")]
    pub(super) kind: i32,
    /// Zero where none is spoken of.
    #[prost(fixed64, tag = "3")]
    pub(super) member: u64,
    #[prost(string, tag = "4")]
    pub(super) detail: String,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum OperatedKind {
    Unspecified = 0,
    Changed = 1,
    HandedTo = 2,
    NoLeader = 3,
    Busy = 4,
    Unsafe = 5,
    NoSuchMember = 6,
    Unknown = 7,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Introduce {
    #[prost(fixed64, tag = "1")]
    pub(super) start: u64,
    #[prost(fixed64, repeated, tag = "2")]
    pub(super) known: Vec<u64>,
    #[prost(string, tag = "3")]
    pub(super) client_url: String,
    /// Members that do not know this field skip it.
    #[prost(string, optional, tag = "4")]
    pub(super) peer_url: Option<String>,
}

/// `Digest` and `Agreed`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StateDigest {
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    #[prost(message, required, tag = "2")]
    pub(super) digest: Digest,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct WentBack {
    #[prost(fixed64, tag = "1")]
    pub(super) logged: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AskVersion {
    #[prost(fixed64, tag = "1")]
    pub(super) round: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CanFollow {
    #[prost(fixed64, tag = "1")]
    pub(super) round: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) start: u64,
    #[prost(uint64, tag = "3")]
    pub(super) version: u64,
}
