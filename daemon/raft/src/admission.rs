//! Which messages are looked at.
//!
//! Owns the checks that need no state: a message that fails them was not made by a member of ours, and nothing behind
//! this door has to fear for its arithmetic. What they pass may still be stale, doubled, or from a stranger.

use crate::configuration;
use crate::message::{AppendResult, Body, Message};
use crate::types::{Entry, LogIndex, LogPosition, MemberId, Payload, SnapshotFile, Stamp, Term};

/// No number of ours ever comes near this, so adding to a smaller one never overflows.
pub(crate) const LIMIT: u64 = 1 << 62;

/// Whether `message` is for `receiver` and within what a correct member can say.
pub(crate) fn is_plausible(message: &Message, receiver: MemberId) -> bool {
    message.to == receiver
        && message.from != receiver
        && message.term.0 < LIMIT
        && body_is_plausible(&message.body, message.term)
}

fn body_is_plausible(body: &Body, term: Term) -> bool {
    match body {
        Body::PreVote { last } | Body::Vote { last, .. } => position_is_plausible(*last, term),
        Body::Append {
            previous,
            entries,
            commit: _,
            round,
        } => {
            position_is_plausible(*previous, term)
                && *round < LIMIT
                && entries_are_plausible(*previous, entries, term)
        }
        Body::AppendResponse { result, round } => *round < LIMIT && result_is_plausible(*result),
        Body::Heartbeat { round, .. } | Body::HeartbeatResponse { round } => *round < LIMIT,
        Body::ReadIndexResponse { index, .. } => index.0 < LIMIT,
        Body::Snapshot {
            file,
            offset,
            data,
            round,
        } => {
            *round < LIMIT && file_is_plausible(file, term) && piece_fits(file, *offset, data.len())
        }
        Body::SnapshotResponse { round, .. } => *round < LIMIT,
        Body::PreVoteResponse { .. }
        | Body::VoteResponse { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexRefused { .. }
        | Body::TimeoutNow => true,
    }
}

fn position_is_plausible(position: LogPosition, term: Term) -> bool {
    position.index.0 < LIMIT && position.term <= term
}

fn result_is_plausible(result: AppendResult) -> bool {
    match result {
        AppendResult::Accepted { matched } => matched.0 < LIMIT,
        AppendResult::Rejected { previous, hint } => previous.0 < LIMIT && hint.index.0 < LIMIT,
    }
}

fn entries_are_plausible(previous: LogPosition, entries: &[Entry], term: Term) -> bool {
    let mut before = (previous, Stamp(0));
    for entry in entries {
        let (position, stamp) = before;
        let follows = entry.index == position.index.next()
            && position.term <= entry.term
            && entry.term <= term;
        if !follows || entry.index.0 >= LIMIT || entry.stamp < stamp || entry.stamp.0 >= LIMIT {
            return false;
        }
        if let Payload::Configuration(configuration) = &entry.payload
            && !configuration::is_sound(configuration)
        {
            return false;
        }
        before = (entry.position(), entry.stamp);
    }
    true
}

fn file_is_plausible(file: &SnapshotFile, term: Term) -> bool {
    let meta = &file.meta;
    position_is_plausible(meta.position, term)
        && LogIndex(0) < meta.position.index
        && meta.stamp.0 < LIMIT
        && configuration::is_sound(&meta.configuration)
}

fn piece_fits(file: &SnapshotFile, offset: u64, length: usize) -> bool {
    offset
        .checked_add(length as u64)
        .is_some_and(|end| end <= file.size)
}
