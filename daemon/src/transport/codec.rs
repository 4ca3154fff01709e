//! Messages to frames and back.
//!
//! Owns what a body must say to be a message: what passes here keeps every promise that the types make (entries
//! without gap, configurations that hold together, numbers that cannot overflow), because the core answers a broken
//! promise with an assertion, and bytes from a socket must never reach one. Never looks into a command.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tenure_raft::{
    AppendResult, Body, Entry, LogIndex, LogPosition, MemberId, Message, Payload, PeerState,
    PeerStatus, SnapshotFile, SnapshotMeta, Stamp, Term, Transferred,
};
use tenure_replica::{
    CanFollow, ForwardKind, ForwardedRequest, PeerMessage, ProgressReport, Refused, TraceContext,
};

use super::frame::{Frame, FrameTooLarge, append_frame};
use super::membership::{
    configuration_from_wire, configuration_to_wire, introduction_from_wire, introduction_to_wire,
    operate_from_wire, operate_to_wire, operated_from_wire, operated_to_wire,
};
use super::wire;

/// Numbers of terms, indexes, stamps and rounds stay below this, so that no arithmetic on one that arrived can overflow.
const NUMBER_LIMIT: u64 = 1 << 62;

/// The kinds of frame. A number is never used again for something else.
mod kind {
    pub(super) const PRE_VOTE: u8 = 1;
    pub(super) const PRE_VOTE_RESPONSE: u8 = 2;
    pub(super) const VOTE: u8 = 3;
    pub(super) const VOTE_RESPONSE: u8 = 4;
    pub(super) const APPEND: u8 = 5;
    pub(super) const APPEND_RESPONSE: u8 = 6;
    pub(super) const HEARTBEAT: u8 = 7;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 8;
    pub(super) const READ_INDEX: u8 = 9;
    pub(super) const READ_INDEX_RESPONSE: u8 = 10;
    pub(super) const READ_INDEX_REFUSED: u8 = 11;
    pub(super) const SNAPSHOT: u8 = 12;
    pub(super) const SNAPSHOT_RESPONSE: u8 = 13;
    pub(super) const TIMEOUT_NOW: u8 = 14;
    pub(super) const FORWARD: u8 = 32;
    pub(super) const REFUSED: u8 = 33;
    pub(super) const ASK_PROGRESS: u8 = 34;
    pub(super) const PROGRESS: u8 = 35;
    pub(super) const OPERATE: u8 = 36;
    pub(super) const OPERATED: u8 = 37;
    pub(super) const INTRODUCE: u8 = 38;
    pub(super) const WENT_BACK: u8 = 39;
    pub(super) const DIGEST: u8 = 40;
    pub(super) const AGREED: u8 = 41;
    pub(super) const ASK_VERSION: u8 = 42;
    pub(super) const CAN_FOLLOW: u8 = 43;
}

/// The newest kind that this build knows. Who takes a stream says so, since a frame of an unknown kind ends it.
pub(super) const NEWEST_KIND: u8 = kind::CAN_FOLLOW;
/// The newest kind that members know who say nothing of it.
pub(super) const KIND_OF_BEFORE: u8 = kind::PROGRESS;

/// Why a whole, undamaged frame is no message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// A kind that this build does not know.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// The body is not encoded as its kind is.
    #[error("frame of kind {kind} does not decode: {reason}")]
    Body {
        /// The kind.
        kind: u8,
        /// What the decoder says.
        reason: String,
    },
    /// The body decodes, and says what no member says.
    #[error("{0}")]
    Meaning(&'static str),
    /// A number that no cluster reaches.
    #[error("{what} is {value}, which no cluster reaches")]
    Number {
        /// What is counted.
        what: &'static str,
        /// What was received.
        value: u64,
    },
}

/// Appends the frame of `message` to `out`. Sender and receiver of a Raft message are not written: the stream says
/// who they are.
///
/// # Errors
/// Where the message is greater than a frame may be; `out` is then as before.
pub fn encode(message: &PeerMessage, out: &mut BytesMut) -> Result<(), FrameTooLarge> {
    match message {
        PeerMessage::Raft(message) => encode_raft(message, out),
        PeerMessage::Forward(requests) => {
            let requests = requests.iter().map(request_to_wire).collect();
            put(out, kind::FORWARD, &wire::Forward { requests })
        }
        PeerMessage::Refused { tokens, reason } => put(
            out,
            kind::REFUSED,
            &wire::Refused {
                tokens: tokens.clone(),
                reason: reason_to_wire(*reason) as i32,
            },
        ),
        PeerMessage::AskProgress { token } => put(
            out,
            kind::ASK_PROGRESS,
            &wire::AskProgress { token: *token },
        ),
        PeerMessage::Progress { token, report } => {
            put(out, kind::PROGRESS, &progress_to_wire(*token, report))
        }
        PeerMessage::Operate { token, operation } => {
            put(out, kind::OPERATE, &operate_to_wire(*token, operation))
        }
        PeerMessage::Operated { token, result } => {
            put(out, kind::OPERATED, &operated_to_wire(*token, result))
        }
        PeerMessage::Introduce(introduction) => {
            put(out, kind::INTRODUCE, &introduction_to_wire(introduction))
        }
        PeerMessage::Digest { index, digest } => {
            put(out, kind::DIGEST, &state_digest_to_wire(*index, *digest))
        }
        PeerMessage::Agreed { index, digest } => {
            put(out, kind::AGREED, &state_digest_to_wire(*index, *digest))
        }
        PeerMessage::WentBack { logged } => {
            put(out, kind::WENT_BACK, &wire::WentBack { logged: *logged })
        }
        PeerMessage::AskVersion { round } => {
            put(out, kind::ASK_VERSION, &wire::AskVersion { round: *round })
        }
        PeerMessage::CanFollow(said) => {
            let CanFollow {
                round,
                start,
                version,
            } = *said;
            let said = wire::CanFollow {
                round,
                start,
                version,
            };
            put(out, kind::CAN_FOLLOW, &said)
        }
    }
}

/// The kind of a message's frame where it came after [`KIND_OF_BEFORE`]; of the others that one.
pub(super) fn newest_kind(message: &PeerMessage) -> u8 {
    match message {
        PeerMessage::Raft(_)
        | PeerMessage::Forward(_)
        | PeerMessage::Refused { .. }
        | PeerMessage::AskProgress { .. }
        | PeerMessage::Progress { .. } => KIND_OF_BEFORE,
        PeerMessage::Operate { .. } => kind::OPERATE,
        PeerMessage::Operated { .. } => kind::OPERATED,
        PeerMessage::Introduce(_) => kind::INTRODUCE,
        PeerMessage::WentBack { .. } => kind::WENT_BACK,
        PeerMessage::Digest { .. } => kind::DIGEST,
        PeerMessage::Agreed { .. } => kind::AGREED,
        PeerMessage::AskVersion { .. } => kind::ASK_VERSION,
        PeerMessage::CanFollow(_) => kind::CAN_FOLLOW,
    }
}

fn encode_raft(message: &Message, out: &mut BytesMut) -> Result<(), FrameTooLarge> {
    let term = message.term.0;
    let numbered = |number| wire::Numbered { term, number };
    match &message.body {
        Body::PreVote { last } => put(
            out,
            kind::PRE_VOTE,
            &wire::Vote {
                term,
                last: position_to_wire(*last),
                transfer: false,
            },
        ),
        Body::PreVoteResponse { granted } => put(
            out,
            kind::PRE_VOTE_RESPONSE,
            &wire::VoteResponse {
                term,
                granted: *granted,
            },
        ),
        Body::Vote { last, transfer } => put(
            out,
            kind::VOTE,
            &wire::Vote {
                term,
                last: position_to_wire(*last),
                transfer: *transfer,
            },
        ),
        Body::VoteResponse { granted } => put(
            out,
            kind::VOTE_RESPONSE,
            &wire::VoteResponse {
                term,
                granted: *granted,
            },
        ),
        Body::Append {
            previous,
            entries,
            commit,
            round,
        } => {
            let previous = position_to_wire(*previous);
            let entries = entries.iter().map(entry_to_wire).collect();
            put(
                out,
                kind::APPEND,
                &wire::Append {
                    term,
                    previous,
                    entries,
                    commit: commit.0,
                    round: *round,
                },
            )
        }
        Body::AppendResponse { result, round } => {
            let result = Some(result_to_wire(*result));
            put(
                out,
                kind::APPEND_RESPONSE,
                &wire::AppendResponse {
                    term,
                    round: *round,
                    result,
                },
            )
        }
        Body::Heartbeat { commit, round } => put(
            out,
            kind::HEARTBEAT,
            &wire::Heartbeat {
                term,
                commit: commit.0,
                round: *round,
            },
        ),
        Body::HeartbeatResponse { round } => put(out, kind::HEARTBEAT_RESPONSE, &numbered(*round)),
        Body::ReadIndex { batch } => put(out, kind::READ_INDEX, &numbered(*batch)),
        Body::ReadIndexResponse {
            batch,
            index,
            stamp,
        } => put(
            out,
            kind::READ_INDEX_RESPONSE,
            &wire::ReadIndexResponse {
                term,
                batch: *batch,
                index: index.0,
                stamp: stamp.0,
            },
        ),
        Body::ReadIndexRefused { batch } => put(out, kind::READ_INDEX_REFUSED, &numbered(*batch)),
        Body::Snapshot {
            file,
            offset,
            data,
            round,
        } => {
            let (file, data) = (file_to_wire(file), data.clone());
            put(
                out,
                kind::SNAPSHOT,
                &wire::Snapshot {
                    term,
                    file,
                    offset: *offset,
                    data,
                    round: *round,
                },
            )
        }
        Body::SnapshotResponse {
            position,
            digest,
            stored,
            round,
        } => put(
            out,
            kind::SNAPSHOT_RESPONSE,
            &wire::SnapshotResponse {
                term,
                position: position_to_wire(*position),
                digest: digest_to_wire(*digest),
                stored: *stored,
                round: *round,
            },
        ),
        Body::TimeoutNow => put(out, kind::TIMEOUT_NOW, &numbered(0)),
    }
}

fn put(out: &mut BytesMut, kind: u8, body: &impl prost::Message) -> Result<(), FrameTooLarge> {
    append_frame(out, kind, |out| {
        body.encode(out).expect("a buffer that grows has room")
    })
}

/// Reads the message of a frame that `from` sent to `to`.
///
/// # Errors
/// Where the frame is no message, or one that breaks what the types promise.
pub fn decode(frame: Frame, from: MemberId, to: MemberId) -> Result<PeerMessage, CodecError> {
    match frame.kind {
        kind::FORWARD => {
            let wire::Forward { requests } = body(frame)?;
            requests
                .into_iter()
                .map(request_from_wire)
                .collect::<Result<_, _>>()
                .map(PeerMessage::Forward)
        }
        kind::REFUSED => {
            let wire::Refused { tokens, reason } = body(frame)?;
            Ok(PeerMessage::Refused {
                tokens,
                reason: reason_from_wire(reason)?,
            })
        }
        kind::ASK_PROGRESS => Ok(PeerMessage::AskProgress {
            token: body::<wire::AskProgress>(frame)?.token,
        }),
        kind::PROGRESS => progress_from_wire(body(frame)?),
        kind::OPERATE => operate_from_wire(body(frame)?),
        kind::OPERATED => operated_from_wire(body(frame)?),
        kind::INTRODUCE => introduction_from_wire(body(frame)?).map(PeerMessage::Introduce),
        kind::DIGEST => {
            let (index, digest) = state_digest_from_wire(body(frame)?)?;
            Ok(PeerMessage::Digest { index, digest })
        }
        kind::AGREED => {
            let (index, digest) = state_digest_from_wire(body(frame)?)?;
            Ok(PeerMessage::Agreed { index, digest })
        }
        kind::WENT_BACK => Ok(PeerMessage::WentBack {
            logged: body::<wire::WentBack>(frame)?.logged,
        }),
        kind::ASK_VERSION => Ok(PeerMessage::AskVersion {
            round: body::<wire::AskVersion>(frame)?.round,
        }),
        kind::CAN_FOLLOW => {
            let wire::CanFollow {
                round,
                start,
                version,
            } = body(frame)?;
            Ok(PeerMessage::CanFollow(CanFollow {
                round,
                start,
                version,
            }))
        }
        _ => {
            let (term, body) = decode_raft(frame)?;
            Ok(PeerMessage::Raft(Message {
                from,
                to,
                term: Term(number("term", term)?),
                body,
            }))
        }
    }
}

fn decode_raft(frame: Frame) -> Result<(u64, Body), CodecError> {
    match frame.kind {
        kind::PRE_VOTE => {
            let wire::Vote {
                term,
                last,
                transfer: _,
            } = body(frame)?;
            Ok((
                term,
                Body::PreVote {
                    last: position(last)?,
                },
            ))
        }
        kind::PRE_VOTE_RESPONSE => {
            let wire::VoteResponse { term, granted } = body(frame)?;
            Ok((term, Body::PreVoteResponse { granted }))
        }
        kind::VOTE => {
            let wire::Vote {
                term,
                last,
                transfer,
            } = body(frame)?;
            Ok((
                term,
                Body::Vote {
                    last: position(last)?,
                    transfer,
                },
            ))
        }
        kind::VOTE_RESPONSE => {
            let wire::VoteResponse { term, granted } = body(frame)?;
            Ok((term, Body::VoteResponse { granted }))
        }
        kind::APPEND => append_from_wire(body(frame)?),
        kind::APPEND_RESPONSE => {
            let wire::AppendResponse {
                term,
                round,
                result,
            } = body(frame)?;
            Ok((
                term,
                Body::AppendResponse {
                    result: result_from_wire(result)?,
                    round: number("round", round)?,
                },
            ))
        }
        kind::HEARTBEAT => {
            let wire::Heartbeat {
                term,
                commit,
                round,
            } = body(frame)?;
            Ok((
                term,
                Body::Heartbeat {
                    commit: index(commit)?,
                    round: number("round", round)?,
                },
            ))
        }
        kind::HEARTBEAT_RESPONSE => {
            let wire::Numbered {
                term,
                number: round,
            } = body(frame)?;
            Ok((
                term,
                Body::HeartbeatResponse {
                    round: number("round", round)?,
                },
            ))
        }
        kind::READ_INDEX => {
            let wire::Numbered {
                term,
                number: batch,
            } = body(frame)?;
            Ok((term, Body::ReadIndex { batch }))
        }
        kind::READ_INDEX_RESPONSE => {
            let wire::ReadIndexResponse {
                term,
                batch,
                index: at,
                stamp,
            } = body(frame)?;
            Ok((
                term,
                Body::ReadIndexResponse {
                    batch,
                    index: index(at)?,
                    stamp: stamp_from_wire(stamp)?,
                },
            ))
        }
        kind::READ_INDEX_REFUSED => {
            let wire::Numbered {
                term,
                number: batch,
            } = body(frame)?;
            Ok((term, Body::ReadIndexRefused { batch }))
        }
        kind::SNAPSHOT => snapshot_from_wire(body(frame)?),
        kind::SNAPSHOT_RESPONSE => {
            let wire::SnapshotResponse {
                term,
                position: at,
                digest,
                stored,
                round,
            } = body(frame)?;
            let (position, digest) = (position(at)?, digest_from_wire(digest));
            let (stored, round) = (number("snapshot offset", stored)?, number("round", round)?);
            Ok((
                term,
                Body::SnapshotResponse {
                    position,
                    digest,
                    stored,
                    round,
                },
            ))
        }
        kind::TIMEOUT_NOW => Ok((body::<wire::Numbered>(frame)?.term, Body::TimeoutNow)),
        unknown => Err(CodecError::Kind(unknown)),
    }
}

fn body<M: prost::Message + Default>(frame: Frame) -> Result<M, CodecError> {
    M::decode(frame.body).map_err(|error| CodecError::Body {
        kind: frame.kind,
        reason: error.to_string(),
    })
}

fn number(what: &'static str, value: u64) -> Result<u64, CodecError> {
    if value < NUMBER_LIMIT {
        Ok(value)
    } else {
        Err(CodecError::Number { what, value })
    }
}

fn index(value: u64) -> Result<LogIndex, CodecError> {
    number("log index", value).map(LogIndex)
}

fn term(value: u64) -> Result<Term, CodecError> {
    number("term", value).map(Term)
}

fn stamp_from_wire(value: u64) -> Result<Stamp, CodecError> {
    number("stamp", value).map(Stamp)
}

fn position(wire: wire::Position) -> Result<LogPosition, CodecError> {
    Ok(LogPosition {
        term: term(wire.term)?,
        index: index(wire.index)?,
    })
}

fn position_to_wire(position: LogPosition) -> wire::Position {
    wire::Position {
        term: position.term.0,
        index: position.index.0,
    }
}

fn digest_to_wire(digest: u128) -> wire::Digest {
    wire::Digest {
        high: (digest >> 64) as u64,
        low: digest as u64,
    }
}

fn state_digest_to_wire(index: LogIndex, digest: u128) -> wire::StateDigest {
    wire::StateDigest {
        index: index.0,
        digest: digest_to_wire(digest),
    }
}

fn state_digest_from_wire(wire: wire::StateDigest) -> Result<(LogIndex, u128), CodecError> {
    Ok((index(wire.index)?, digest_from_wire(wire.digest)))
}

fn digest_from_wire(wire: wire::Digest) -> u128 {
    u128::from(wire.high) << 64 | u128::from(wire.low)
}

fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let payload = match &entry.payload {
        Payload::Empty => None,
        Payload::Command(bytes) => Some(wire::Payload::Command(bytes.clone())),
        Payload::Configuration(configuration) => Some(wire::Payload::Configuration(
            configuration_to_wire(configuration),
        )),
    };
    wire::Entry {
        index: entry.index.0,
        term: entry.term.0,
        stamp: entry.stamp.0,
        payload,
    }
}

fn entry_from_wire(wire: wire::Entry) -> Result<Entry, CodecError> {
    let payload = match wire.payload {
        None => Payload::Empty,
        Some(wire::Payload::Command(bytes)) => Payload::Command(bytes),
        Some(wire::Payload::Configuration(configuration)) => {
            Payload::Configuration(Arc::new(configuration_from_wire(configuration)?))
        }
    };
    Ok(Entry {
        index: index(wire.index)?,
        term: term(wire.term)?,
        stamp: stamp_from_wire(wire.stamp)?,
        payload,
    })
}

fn append_from_wire(wire: wire::Append) -> Result<(u64, Body), CodecError> {
    let previous = position(wire.previous)?;
    let entries = wire
        .entries
        .into_iter()
        .map(entry_from_wire)
        .collect::<Result<Vec<_>, _>>()?;
    check_run(previous, &entries, wire.term)?;
    let (commit, round) = (index(wire.commit)?, number("round", wire.round)?);
    Ok((
        wire.term,
        Body::Append {
            previous,
            entries,
            commit,
            round,
        },
    ))
}

/// Entries follow `previous` without gap; along a log neither terms nor stamps fall, and a leader has no entry of a
/// term after its own (Raft §5.3).
fn check_run(previous: LogPosition, entries: &[Entry], leader_term: u64) -> Result<(), CodecError> {
    let mut last = previous;
    let mut stamp = Stamp(0);
    for entry in entries {
        if entry.index != last.index.next() {
            return Err(CodecError::Meaning(
                "append whose entries do not follow one another",
            ));
        }
        if entry.term < last.term || leader_term < entry.term.0 || entry.term == Term(0) {
            return Err(CodecError::Meaning("append whose terms are out of order"));
        }
        if entry.stamp < stamp {
            return Err(CodecError::Meaning("append whose stamps fall"));
        }
        last = entry.position();
        stamp = entry.stamp;
    }
    Ok(())
}

fn result_to_wire(result: AppendResult) -> wire::AppendResult {
    match result {
        AppendResult::Accepted { matched } => wire::AppendResult::Accepted(matched.0),
        AppendResult::Rejected { previous, hint } => wire::AppendResult::Rejected(wire::Rejected {
            previous: previous.0,
            hint: position_to_wire(hint),
        }),
    }
}

fn result_from_wire(wire: Option<wire::AppendResult>) -> Result<AppendResult, CodecError> {
    match wire {
        None => Err(CodecError::Meaning("answer to an append without result")),
        Some(wire::AppendResult::Accepted(matched)) => Ok(AppendResult::Accepted {
            matched: index(matched)?,
        }),
        Some(wire::AppendResult::Rejected(wire::Rejected { previous, hint })) => {
            Ok(AppendResult::Rejected {
                previous: index(previous)?,
                hint: position(hint)?,
            })
        }
    }
}

fn file_to_wire(file: &SnapshotFile) -> wire::SnapshotFile {
    wire::SnapshotFile {
        position: position_to_wire(file.meta.position),
        stamp: file.meta.stamp.0,
        configuration: configuration_to_wire(&file.meta.configuration),
        size: file.size,
        digest: digest_to_wire(file.digest),
    }
}

fn snapshot_from_wire(wire: wire::Snapshot) -> Result<(u64, Body), CodecError> {
    let meta = SnapshotMeta {
        position: position(wire.file.position)?,
        stamp: stamp_from_wire(wire.file.stamp)?,
        configuration: Arc::new(configuration_from_wire(wire.file.configuration)?),
    };
    let size = number("snapshot size", wire.file.size)?;
    let file = SnapshotFile {
        meta,
        size,
        digest: digest_from_wire(wire.file.digest),
    };
    let offset = number("snapshot offset", wire.offset)?;
    if size < offset + wire.data.len() as u64 {
        return Err(CodecError::Meaning(
            "piece of a snapshot that lies beyond its end",
        ));
    }
    Ok((
        wire.term,
        Body::Snapshot {
            file,
            offset,
            data: wire.data,
            round: number("round", wire.round)?,
        },
    ))
}

fn request_to_wire(request: &ForwardedRequest) -> wire::ForwardedRequest {
    let kind = match request.kind {
        ForwardKind::Command => wire::ForwardKind::Command,
        ForwardKind::Renewal => wire::ForwardKind::Renewal,
    };
    wire::ForwardedRequest {
        token: request.token,
        kind: kind as i32,
        request: request.request.clone(),
        trace: request.trace.map_or_else(Bytes::new, trace_to_wire),
    }
}

fn request_from_wire(wire: wire::ForwardedRequest) -> Result<ForwardedRequest, CodecError> {
    let kind = match wire.kind() {
        wire::ForwardKind::Command => ForwardKind::Command,
        wire::ForwardKind::Renewal => ForwardKind::Renewal,
        wire::ForwardKind::Unspecified => {
            return Err(CodecError::Meaning("forwarded request of unknown kind"));
        }
    };
    Ok(ForwardedRequest {
        token: wire.token,
        kind,
        request: wire.request,
        trace: trace_from_wire(&wire.trace),
    })
}

fn trace_to_wire(context: TraceContext) -> Bytes {
    let mut bytes = BytesMut::with_capacity(25);
    bytes.extend_from_slice(&context.trace);
    bytes.extend_from_slice(&context.span);
    bytes.extend_from_slice(&[context.flags]);
    bytes.freeze()
}

/// What is no context is none: a request is not refused for what nothing depends on. Neither number may be 0 (W3C
/// Trace Context §3.2.2).
fn trace_from_wire(bytes: &[u8]) -> Option<TraceContext> {
    let (trace, rest) = bytes.split_first_chunk::<16>()?;
    let (span, rest) = rest.split_first_chunk::<8>()?;
    let [flags] = rest else { return None };
    let valid = *trace != [0; 16] && *span != [0; 8];
    valid.then_some(TraceContext {
        trace: *trace,
        span: *span,
        flags: *flags,
    })
}

fn reason_to_wire(reason: Refused) -> wire::RefusedReason {
    match reason {
        Refused::NoLeader => wire::RefusedReason::NoLeader,
        Refused::Overloaded => wire::RefusedReason::Overloaded,
        Refused::Transferring => wire::RefusedReason::Transferring,
        Refused::ShuttingDown => wire::RefusedReason::ShuttingDown,
        Refused::RulesTooOld => wire::RefusedReason::RulesTooOld,
    }
}

fn reason_from_wire(reason: i32) -> Result<Refused, CodecError> {
    match wire::RefusedReason::try_from(reason) {
        Ok(wire::RefusedReason::NoLeader) => Ok(Refused::NoLeader),
        Ok(wire::RefusedReason::Overloaded) => Ok(Refused::Overloaded),
        Ok(wire::RefusedReason::Transferring) => Ok(Refused::Transferring),
        Ok(wire::RefusedReason::ShuttingDown) => Ok(Refused::ShuttingDown),
        Ok(wire::RefusedReason::RulesTooOld) => Ok(Refused::RulesTooOld),
        Ok(wire::RefusedReason::Unspecified) | Err(_) => {
            Err(CodecError::Meaning("refusal without known reason"))
        }
    }
}

fn progress_to_wire(token: u64, report: &ProgressReport) -> wire::Progress {
    let peers = report.peers.iter().map(|peer| {
        let state = match peer.state {
            PeerState::Probe => wire::PeerState::Probe,
            PeerState::Replicate => wire::PeerState::Replicate,
            PeerState::Snapshot => wire::PeerState::Snapshot,
        };
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let transferred = peer.transferred.map(|transferred| wire::Transferred {
            stored: transferred.stored,
            size: transferred.size,
        });
        wire::PeerStatus {
            id: peer.id.0,
            state: state as i32,
            matched: peer.matched.0,
            silent_for_us: peer.silent_for.map(micros),
            round_trip_us: peer.round_trip.map(micros),
            transferred,
        }
    });
    wire::Progress {
        token,
        leader: report.leader.0,
        term: report.term.0,
        commit: report.commit.0,
        last: report.last.0,
        peers: peers.collect(),
        versions: report.versions.iter().map(version_to_wire).collect(),
    }
}

fn version_to_wire((member, version): &(MemberId, u64)) -> wire::VersionOf {
    wire::VersionOf {
        id: member.0,
        version: *version,
    }
}

fn progress_from_wire(wire: wire::Progress) -> Result<PeerMessage, CodecError> {
    let report = ProgressReport {
        leader: MemberId(wire.leader),
        term: term(wire.term)?,
        commit: index(wire.commit)?,
        last: index(wire.last)?,
        peers: wire
            .peers
            .into_iter()
            .map(peer_from_wire)
            .collect::<Result<_, _>>()?,
        versions: wire
            .versions
            .into_iter()
            .map(|of| (MemberId(of.id), of.version))
            .collect(),
    };
    Ok(PeerMessage::Progress {
        token: wire.token,
        report,
    })
}

fn peer_from_wire(wire: wire::PeerStatus) -> Result<PeerStatus, CodecError> {
    let state = match wire.state() {
        wire::PeerState::Probe => PeerState::Probe,
        wire::PeerState::Replicate => PeerState::Replicate,
        wire::PeerState::Snapshot => PeerState::Snapshot,
        wire::PeerState::Unspecified => {
            return Err(CodecError::Meaning(
                "progress of a member in no known state",
            ));
        }
    };
    let silent_for = wire.silent_for_us.map(Duration::from_micros);
    Ok(PeerStatus {
        id: MemberId(wire.id),
        state,
        matched: index(wire.matched)?,
        silent_for,
        round_trip: wire.round_trip_us.map(Duration::from_micros),
        transferred: wire.transferred.map(|transferred| Transferred {
            stored: transferred.stored,
            size: transferred.size,
        }),
    })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
