//! Messages that no member of ours makes: numbers beyond all that is ever counted, and entries that do not follow.
//!
//! Owns how a message is spoilt. Whoever receives one must take it for none at all: nothing may come of it, and nothing
//! may break. What a stranger could say that sounds right is not made here; against him there is TLS.

use tenure_raft::{AppendResult, Body, LogIndex, Message, Stamp, Term};
use tenure_replica::{ForwardedRequest, PeerMessage};

use crate::chance::Chance;

/// A message of the same sender that is spoilt somewhere.
pub(crate) fn spoilt(message: &PeerMessage, chance: &mut Chance) -> PeerMessage {
    match message {
        PeerMessage::Raft(message) => PeerMessage::Raft(spoilt_raft(message.clone(), chance)),
        PeerMessage::Forward(requests) => {
            PeerMessage::Forward(requests.iter().map(garbled).collect())
        }
        other => other.clone(),
    }
}

fn spoilt_raft(mut message: Message, chance: &mut Chance) -> Message {
    let in_body = chance.coin() && spoil_body(&mut message.body, chance);
    match chance.number(0, 3) {
        _ if in_body => {}
        0 => message.to = message.from,
        _ => message.term = Term(u64::MAX),
    }
    message
}

/// Spoils what a body says; false where this kind of body has nothing to spoil.
fn spoil_body(body: &mut Body, chance: &mut Chance) -> bool {
    match body {
        Body::Append { entries, round, .. } => match entries.len() {
            0 => *round = u64::MAX,
            count => {
                let entry = &mut entries[chance.index(count)];
                match chance.number(0, 2) {
                    0 => entry.index = LogIndex(entry.index.0 + chance.number(1, 100)),
                    1 => entry.term = Term(u64::MAX),
                    _ => entry.stamp = Stamp(u64::MAX),
                }
            }
        },
        Body::AppendResponse { result, round } => match result {
            AppendResult::Accepted { matched } => *matched = LogIndex(u64::MAX),
            AppendResult::Rejected { .. } => *round = u64::MAX,
        },
        Body::Heartbeat { round, .. }
        | Body::HeartbeatResponse { round }
        | Body::SnapshotResponse { round, .. } => *round = u64::MAX,
        Body::Vote { last, .. } | Body::PreVote { last } => last.index = LogIndex(u64::MAX),
        Body::Snapshot { offset, data, .. } => {
            // An empty piece fits behind the end of any file.
            if data.is_empty() {
                return false;
            }
            *offset = u64::MAX;
        }
        Body::ReadIndexResponse { index, .. } => *index = LogIndex(u64::MAX),
        _ => return false,
    }
    true
}

/// A request of which nothing can be read, under a number that nobody waits for: a number that somebody waits for could
/// be refused in answer.
fn garbled(request: &ForwardedRequest) -> ForwardedRequest {
    ForwardedRequest {
        token: u64::MAX,
        kind: request.kind,
        request: bytes::Bytes::from_static(b"\xff"),
        trace: None,
    }
}
