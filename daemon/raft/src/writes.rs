//! The writes to the log file: what waits to be issued, what is under way, and up to where the log is durable.
//!
//! Owns the only knowledge of durability. Writes are done in order, so a write that is durable says the same of all
//! before it; but a later write may already have truncated what an earlier one appended, and a completion must then not
//! raise the durable index over entries that are no longer those of the log. Keeping, for each write under
//! way, how much of the log before it survives it, is what excludes that.

use std::collections::VecDeque;

use tenure_mutants::{Mutant, mutated};

use crate::message::Message;
use crate::ready::{Write, WriteId};
use crate::types::{Entry, HardState, LogIndex, SnapshotMeta, Term};

/// Writes to come and under way.
#[derive(Debug)]
pub(crate) struct Writes {
    pending: Write,
    /// How much of the log before the pending write survives it, where it removes something.
    pending_floor: Option<LogIndex>,
    issued: VecDeque<Issued>,
    last_id: WriteId,
    durable: LogIndex,
}

#[derive(Debug)]
struct Issued {
    id: WriteId,
    /// The end of the log after it.
    last: LogIndex,
    /// How much of the log before it survives it, where it removes something.
    floor: Option<LogIndex>,
}

impl Writes {
    /// Nothing under way, and a log that is durable up to `durable`.
    pub(crate) fn new(durable: LogIndex) -> Writes {
        Writes {
            pending: Write::default(),
            pending_floor: None,
            issued: VecDeque::new(),
            last_id: WriteId(0),
            durable,
        }
    }

    /// The last index that is durable and still that of the log.
    pub(crate) fn durable(&self) -> LogIndex {
        self.durable
    }

    /// The number that the write being gathered will have.
    pub(crate) fn pending_id(&self) -> WriteId {
        WriteId(self.last_id.0 + 1)
    }

    /// Remembers term and vote.
    pub(crate) fn hard_state(&mut self, hard_state: HardState) {
        self.pending.hard_state = Some(hard_state);
    }

    /// Appends an entry.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.pending.append.push(entry);
    }

    /// Removes `from` and all after it.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        let kept = self
            .pending
            .append
            .iter()
            .take_while(|entry| entry.index < from)
            .count();
        self.pending.append.truncate(kept);
        if kept == 0 && !mutated(Mutant::TruncationUnwritten) {
            let lowest = self
                .pending
                .truncate_from
                .map_or(from, |earlier| earlier.min(from));
            self.pending.truncate_from = Some(lowest);
        }
        self.lower_floor(from.previous());
    }

    /// Throws the log away and begins behind `base`, which an installed snapshot makes durable.
    pub(crate) fn reset(&mut self, base: SnapshotMeta) {
        self.lower_floor(base.position.index);
        self.durable = base.position.index;
        self.pending.truncate_from = None;
        self.pending.append.clear();
        self.pending.compact_to = None;
        if !mutated(Mutant::ResetUnwritten) {
            self.pending.reset_to = Some(base);
        }
    }

    /// Begins the log behind `base`. Alone it is no reason to write: it rides on the next write.
    pub(crate) fn compact(&mut self, base: SnapshotMeta) {
        self.pending.compact_to = Some(base);
    }

    /// Holds a message back until everything written or gathered so far is durable; gives it back where nothing is.
    pub(crate) fn hold(&mut self, message: Message) -> Option<Message> {
        let gathers = self.has_pending() && !mutated(Mutant::AckForgetsGathered);
        if self.issued.is_empty() && !gathers {
            return Some(message);
        }
        self.pending.then.push(message);
        None
    }

    /// Holds a message back until the write being gathered is durable.
    pub(crate) fn hold_with_pending(&mut self, message: Message) {
        self.pending.then.push(message);
    }

    /// Drops messages not yet issued that belong to terms before `term`.
    pub(crate) fn drop_held_before(&mut self, term: Term) {
        self.pending.then.retain(|message| term <= message.term);
    }

    fn has_pending(&self) -> bool {
        let write = &self.pending;
        write.hard_state.is_some()
            || write.reset_to.is_some()
            || write.truncate_from.is_some()
            || !write.append.is_empty()
            || !write.then.is_empty()
    }

    fn lower_floor(&mut self, floor: LogIndex) {
        self.pending_floor = Some(
            self.pending_floor
                .map_or(floor, |earlier| earlier.min(floor)),
        );
        self.durable = self.durable.min(floor);
    }

    /// Issues what has been gathered; `last` is the end of the log after it.
    pub(crate) fn issue(&mut self, last: LogIndex) -> Option<Write> {
        if !self.has_pending() {
            return None;
        }
        let mut write = std::mem::take(&mut self.pending);
        if mutated(Mutant::HardStateLostBesideEntries) && !write.append.is_empty() {
            write.hard_state = None;
        }
        self.last_id = WriteId(self.last_id.0 + 1);
        write.id = self.last_id;
        self.issued.push_back(Issued {
            id: write.id,
            last,
            floor: self.pending_floor.take(),
        });
        Some(write)
    }

    /// Takes note that all writes up to `id` are durable; `base` is what the log begins behind.
    pub(crate) fn persisted(&mut self, id: WriteId, base: LogIndex) {
        assert!(id <= self.last_id, "write {} was never issued", id.0);
        let done = self.issued.partition_point(|write| write.id <= id);
        let Some(end) = self
            .issued
            .drain(..done)
            .next_back()
            .map(|write| write.last)
        else {
            return;
        };
        let floors = self
            .issued
            .iter()
            .filter_map(|write| write.floor)
            .chain(self.pending_floor)
            .filter(|_| !mutated(Mutant::AbaCompletion));
        // What the base covers is durable in another place, so no earlier write's completion can take it back.
        self.durable = floors.fold(end, LogIndex::min).max(base);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{LogPosition, Payload, Stamp};

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Append,
        Truncate(u64),
        Reset,
        Issue,
        Persist(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Append),
            2 => (0u64..4).prop_map(Step::Truncate),
            1 => Just(Step::Reset),
            5 => Just(Step::Issue),
            3 => (1usize..4).prop_map(Step::Persist),
        ]
    }

    /// A log as its base and entries, each with a term of its own, so that no two are ever equal.
    #[derive(Clone, Default)]
    struct Image {
        base: u64,
        entries: Vec<Entry>,
    }

    impl Image {
        fn last(&self) -> LogIndex {
            LogIndex(self.base + self.entries.len() as u64)
        }

        fn write(&mut self, write: Write) {
            if let Some(base) = write.reset_to {
                *self = Image {
                    base: base.position.index.0,
                    entries: Vec::new(),
                };
            }
            if let Some(from) = write.truncate_from {
                self.entries.retain(|entry| entry.index < from);
            }
            self.entries.extend(write.append);
        }

        fn at(&self, index: u64) -> Option<&Entry> {
            self.entries.iter().find(|entry| entry.index.0 == index)
        }
    }

    #[derive(Default)]
    struct Member {
        memory: Image,
        disk: Image,
        under_way: VecDeque<Write>,
        term: u64,
    }

    impl Member {
        fn take(&mut self, writes: &mut Writes, step: Step) {
            match step {
                Step::Append => {
                    self.term += 1;
                    let index = self.memory.last().next();
                    let entry = Entry {
                        index,
                        term: Term(self.term),
                        stamp: Stamp(0),
                        payload: Payload::Empty,
                    };
                    self.memory.entries.push(entry.clone());
                    writes.append(entry);
                }
                Step::Truncate(back) => {
                    let from = LogIndex(self.memory.last().0.saturating_sub(back))
                        .max(LogIndex(self.memory.base + 1));
                    self.memory.entries.retain(|entry| entry.index < from);
                    writes.truncate(from);
                }
                Step::Reset => {
                    self.memory = Image {
                        base: self.memory.last().0 + 2,
                        entries: Vec::new(),
                    };
                    let position = LogPosition {
                        term: Term(self.term),
                        index: LogIndex(self.memory.base),
                    };
                    writes.reset(SnapshotMeta {
                        position,
                        ..SnapshotMeta::default()
                    });
                }
                Step::Issue => self.under_way.extend(writes.issue(self.memory.last())),
                Step::Persist(count) => self.persist(writes, count),
            }
        }

        /// Several writes may become durable in one transaction, and are reported once.
        fn persist(&mut self, writes: &mut Writes, count: usize) {
            let done: Vec<Write> = self
                .under_way
                .drain(..count.min(self.under_way.len()))
                .collect();
            let Some(last) = done.last().map(|write| write.id) else {
                return;
            };
            done.into_iter().for_each(|write| self.disk.write(write));
            writes.persisted(last, LogIndex(self.memory.base));
        }
    }

    proptest! {
        #[test]
        fn durable_is_what_disk_and_memory_have_in_common(steps in prop::collection::vec(step(), 1..60)) {
            let (mut member, mut writes) = (Member::default(), Writes::new(LogIndex(0)));
            for step in steps {
                member.take(&mut writes, step);
                let durable = writes.durable();
                prop_assert!(durable <= member.memory.last());
                for index in member.memory.base + 1..=durable.0 {
                    prop_assert_eq!(member.disk.at(index), member.memory.at(index), "index {}", index);
                }
            }
            member.take(&mut writes, Step::Issue);
            member.persist(&mut writes, usize::MAX);
            prop_assert_eq!(writes.durable(), member.memory.last());
        }
    }
}
