//! A log as plain as can be, and random writes that fit it.

use std::path::Path;

use bytes::Bytes;
use tenure_raft::{
    Configuration, Entry, HardState, LogIndex, LogPosition, MemberId, Payload, SnapshotMeta, Stamp,
    Term, Write, WriteId,
};
use tenured::storage::{ClusterId, Identity, LogContents};

use super::disk::Random;

pub(crate) const IDENTITY: Identity = Identity {
    cluster: ClusterId(0xc0ffee),
    member: MemberId(7),
};

pub(crate) fn path() -> &'static Path {
    Path::new("log.redb")
}

pub(crate) fn meta(term: u64, index: u64) -> SnapshotMeta {
    let configuration = Configuration {
        voters: [MemberId(7), MemberId(8)].into(),
        info: [
            (MemberId(7), Default::default()),
            (MemberId(8), Default::default()),
        ]
        .into(),
        ..Configuration::default()
    };
    SnapshotMeta {
        position: LogPosition {
            term: Term(term),
            index: LogIndex(index),
        },
        stamp: Stamp(index),
        configuration: configuration.into(),
    }
}

pub(crate) fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        stamp: Stamp(index),
        payload,
    }
}

/// What the write makes of the log, in the order that `Write` documents.
pub(crate) fn apply(log: &mut LogContents, write: &Write) {
    if let Some(state) = write.hard_state {
        log.hard_state = state;
    }
    if let Some(meta) = &write.reset_to {
        (log.base, log.entries) = (meta.clone(), Vec::new());
    }
    if let Some(from) = write.truncate_from {
        log.entries.retain(|entry| entry.index < from);
    }
    log.entries.extend(write.append.iter().cloned());
    if let Some(meta) = &write.compact_to {
        log.base = meta.clone();
        log.entries
            .retain(|entry| entry.index > meta.position.index);
    }
}

/// A random write that a core could want behind `log`.
pub(crate) fn random_write(random: &mut Random, log: &LogContents, id: u64) -> Write {
    let mut write = Write {
        id: WriteId(id),
        ..Write::default()
    };
    let mut after = log.clone();
    let mut term = log.hard_state.term.0.max(log.base.position.term.0);
    if random.below(4) == 0 {
        term += random.below(3);
        let vote = (random.below(2) == 0).then(|| MemberId(random.below(3)));
        write.hard_state = Some(HardState {
            term: Term(term),
            vote,
        });
    }
    if random.below(30) == 0 {
        write.reset_to = Some(meta(term, after.last().index.0 + random.below(5)));
    }
    apply(&mut after, &write);
    if random.below(5) == 0 && !after.entries.is_empty() {
        let back = random.below(after.entries.len() as u64);
        write.truncate_from = Some(LogIndex(after.last().index.0 - back));
        apply(
            &mut after,
            &Write {
                truncate_from: write.truncate_from,
                ..Write::default()
            },
        );
    }
    let mut last = after.last();
    for _ in 0..random.below(6) {
        let payload = match random.below(8) {
            0 => Payload::Empty,
            1 => Payload::Configuration(meta(1, 1).configuration),
            _ => Payload::Command(Bytes::from(vec![id as u8; random.below(3000) as usize])),
        };
        let entry = entry(term, last.index.0 + 1, payload);
        last = entry.position();
        write.append.push(entry);
    }
    apply(
        &mut after,
        &Write {
            append: write.append.clone(),
            ..Write::default()
        },
    );
    if random.below(5) == 0 && !after.entries.is_empty() {
        let to = after.entries[random.below(after.entries.len() as u64) as usize].position();
        write.compact_to = Some(meta(to.term.0, to.index.0));
    }
    write
}
