//! What members do, as the lines of a trace.

use super::*;

/// A `Ready` as the lines of a trace.
pub fn tell_ready(ready: &Ready) -> Vec<String> {
    let mut lines: Vec<String> = ready.changes.iter().map(tell_change).collect();
    lines.extend(
        ready
            .messages
            .iter()
            .map(|message| format!("sends {}", tell_message(message))),
    );
    lines.extend(ready.write.iter().map(tell_write));
    lines.extend(
        ready
            .committed
            .iter()
            .map(|entry| format!("applies {}", tell_entry(entry))),
    );
    lines.extend(ready.reads.iter().map(|read| match read.point {
        Some(point) => format!("answers read {} at {}", read.token.0, point.index),
        None => format!("fails read {}", read.token.0),
    }));
    lines.extend(ready.snapshots.iter().map(tell_task));
    lines
}

fn tell_change(change: &RoleChange) -> String {
    match change {
        RoleChange::Follower {
            term,
            leader,
            reason,
        } => {
            let leader = leader.map_or("nobody".to_owned(), |leader| format!("n{}", leader.0));
            let reason = reason
                .map(|reason| format!(" ({reason:?})"))
                .unwrap_or_default();
            format!("follows {leader} in term {term}{reason}")
        }
        RoleChange::PreCandidate { term } => format!("asks for pre-votes in term {term}"),
        RoleChange::Candidate { term } => format!("campaigns in term {term}"),
        RoleChange::Leader { term, last } => {
            format!("leads term {term} from {}", tell_position(*last))
        }
    }
}

pub fn tell_position(position: LogPosition) -> String {
    format!("{}@{}", position.index, position.term)
}

fn tell_entry(entry: &Entry) -> String {
    let payload = match &entry.payload {
        Payload::Empty => "empty".to_owned(),
        Payload::Command(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Payload::Configuration(configuration) => tell_configuration(configuration),
    };
    format!("{} {payload}", tell_position(entry.position()))
}

fn tell_entries(entries: &[Entry]) -> String {
    entries
        .iter()
        .map(tell_entry)
        .collect::<Vec<_>>()
        .join(", ")
}

pub fn tell_configuration(configuration: &Configuration) -> String {
    let list = |members: &BTreeSet<MemberId>| {
        members
            .iter()
            .map(|member| member.0.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut text = format!("voters {}", list(&configuration.voters));
    if !configuration.outgoing.is_empty() {
        text += &format!(" outgoing {}", list(&configuration.outgoing));
    }
    if !configuration.learners.is_empty() {
        text += &format!(" learners {}", list(&configuration.learners));
    }
    text
}

fn tell_write(write: &Write) -> String {
    let mut parts = Vec::new();
    if let Some(HardState { term, vote }) = write.hard_state {
        let vote = vote.map_or("no vote".to_owned(), |vote| format!("vote n{}", vote.0));
        parts.push(format!("term {term} {vote}"));
    }
    parts.extend(
        write
            .reset_to
            .iter()
            .map(|base| format!("reset to {}", tell_position(base.position))),
    );
    parts.extend(
        write
            .truncate_from
            .iter()
            .map(|from| format!("truncate from {from}")),
    );
    if !write.append.is_empty() {
        parts.push(format!("append {}", tell_entries(&write.append)));
    }
    parts.extend(
        write
            .compact_to
            .iter()
            .map(|base| format!("compact to {}", tell_position(base.position))),
    );
    if !write.then.is_empty() {
        parts
            .push(format!("then {} messages", write.then.len()).replace("1 messages", "1 message"));
    }
    format!("write {}: {}", write.id.0, parts.join("; "))
}

fn tell_task(task: &SnapshotTask) -> String {
    let place = |file: &SnapshotFile| tell_position(file.meta.position);
    match task {
        SnapshotTask::Make { to, at_least } => {
            format!("wants a snapshot at {at_least} or later for n{}", to.0)
        }
        SnapshotTask::Read {
            to,
            file,
            offset,
            length,
        } => {
            format!(
                "reads {length} bytes at {offset} of snapshot {} for n{}",
                place(file),
                to.0
            )
        }
        SnapshotTask::Release { to, file } => {
            format!("releases snapshot {} for n{}", place(file), to.0)
        }
        SnapshotTask::Store {
            file, offset, data, ..
        } => {
            format!(
                "stores {} bytes at {offset} of snapshot {}",
                data.len(),
                place(file)
            )
        }
        SnapshotTask::Install { file } => format!("installs snapshot {}", place(file)),
    }
}

pub fn tell_message(message: &Message) -> String {
    format!(
        "n{} {}, term {}",
        message.to.0,
        tell_body(&message.body),
        message.term
    )
}

fn tell_body(body: &Body) -> String {
    let answer = |granted: bool| if granted { "granted" } else { "refused" };
    match body {
        Body::PreVote { last } => format!("pre-vote? last {}", tell_position(*last)),
        Body::PreVoteResponse { granted } => format!("pre-vote {}", answer(*granted)),
        Body::Vote { last, transfer } => {
            format!(
                "vote? last {}{}",
                tell_position(*last),
                if *transfer { " (transfer)" } else { "" }
            )
        }
        Body::VoteResponse { granted } => format!("vote {}", answer(*granted)),
        Body::Append {
            previous,
            entries,
            commit,
            round,
        } => {
            let entries = if entries.is_empty() {
                "nothing".to_owned()
            } else {
                tell_entries(entries)
            };
            format!(
                "append after {}: {entries}; commit {commit}, round {round}",
                tell_position(*previous)
            )
        }
        Body::AppendResponse {
            result: AppendResult::Accepted { matched },
            round,
        } => {
            format!("accepted to {matched}, round {round}")
        }
        Body::AppendResponse {
            result: AppendResult::Rejected { previous, hint },
            round,
        } => {
            format!(
                "rejected {previous}, hint {}, round {round}",
                tell_position(*hint)
            )
        }
        Body::Heartbeat { commit, round } => format!("heartbeat commit {commit}, round {round}"),
        Body::HeartbeatResponse { round } => format!("heartbeat answer, round {round}"),
        Body::ReadIndex { .. } => "read index?".to_owned(),
        Body::ReadIndexResponse { index, .. } => format!("read index {index}"),
        Body::ReadIndexRefused { .. } => "read index refused".to_owned(),
        Body::Snapshot {
            file,
            offset,
            data,
            round,
        } => {
            let (place, length) = (tell_position(file.meta.position), data.len());
            format!(
                "snapshot {place}: {length} bytes at {offset} of {}, round {round}",
                file.size
            )
        }
        Body::SnapshotResponse {
            position,
            stored,
            round,
            ..
        } => {
            format!(
                "snapshot {}: {stored} bytes stored, round {round}",
                tell_position(*position)
            )
        }
        Body::TimeoutNow => "campaign now".to_owned(),
    }
}
