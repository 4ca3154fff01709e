//! The replicated log as this member has it: everything behind a base that a durable checkpoint or snapshot covers.
//!
//! Owns the entries, their sizes and the configurations among them, so that all three are truncated by the same
//! function. Knows nothing of what is durable or committed, and never answers for an index that it does not hold: a
//! wrong term for a compacted index would match an entry that is not there.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::configuration::Configurations;
use crate::types::{
    Configuration, Entry, LogIndex, LogPosition, Payload, SnapshotMeta, Stamp, Term,
};

/// The log in memory.
///
/// Invariants: indexes follow each other without gap from the base; terms and stamps never fall.
#[derive(Debug)]
pub(crate) struct Log {
    base: SnapshotMeta,
    slots: VecDeque<Slot>,
    /// Bytes of all entries that were ever appended up to the base, so that sizes of ranges are differences.
    base_bytes: u64,
    configurations: Configurations,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Bytes of all entries up to this one, itself included.
    bytes: u64,
}

impl Log {
    /// An empty log that begins behind `base`.
    pub(crate) fn new(base: SnapshotMeta) -> Log {
        let configurations = Configurations::new(base.position.index, base.configuration.clone());
        Log {
            base,
            slots: VecDeque::new(),
            base_bytes: 0,
            configurations,
        }
    }

    /// What it begins behind.
    pub(crate) fn base(&self) -> &SnapshotMeta {
        &self.base
    }

    /// The index of the last entry, or of the base where there is none.
    pub(crate) fn last_index(&self) -> LogIndex {
        LogIndex(self.base.position.index.0 + self.slots.len() as u64)
    }

    /// The last entry's place, or the base's.
    pub(crate) fn last_position(&self) -> LogPosition {
        self.slots
            .back()
            .map_or(self.base.position, |slot| slot.entry.position())
    }

    /// The last entry's stamp, or the base's.
    pub(crate) fn last_stamp(&self) -> Stamp {
        self.slots
            .back()
            .map_or(self.base.stamp, |slot| slot.entry.stamp)
    }

    /// Bytes of all entries held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_between(self.base.position.index, self.last_index())
    }

    /// The configuration in force.
    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        self.configurations.current()
    }

    /// The configuration that is in force at `index`, which must not lie before the base.
    pub(crate) fn configuration_at(&self, index: LogIndex) -> &Arc<Configuration> {
        self.configurations.at(index)
    }

    /// The configurations of which any may be the last that is committed, where everything up to `index` is.
    pub(crate) fn configurations_from(
        &self,
        index: LogIndex,
    ) -> impl Iterator<Item = &Arc<Configuration>> {
        self.configurations.from(index)
    }

    /// Where the configuration in force stands.
    pub(crate) fn configuration_index(&self) -> LogIndex {
        self.configurations.current_index()
    }

    /// All entries held, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().map(|slot| &slot.entry)
    }

    fn slot(&self, index: LogIndex) -> Option<&Slot> {
        let offset = index
            .0
            .checked_sub(self.base.position.index.0)?
            .checked_sub(1)?;
        self.slots.get(usize::try_from(offset).ok()?)
    }

    /// The place of the entry at `index`; the base has one too. `None` where the index is compacted or not there yet.
    pub(crate) fn position_at(&self, index: LogIndex) -> Option<LogPosition> {
        if index == self.base.position.index {
            return Some(self.base.position);
        }
        self.slot(index).map(|slot| slot.entry.position())
    }

    /// The term of the entry at `index`, as for [`Log::position_at`].
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.position_at(index).map(|position| position.term)
    }

    /// The stamp of the entry at `index`, as for [`Log::position_at`].
    pub(crate) fn stamp_at(&self, index: LogIndex) -> Option<Stamp> {
        if index == self.base.position.index {
            return Some(self.base.stamp);
        }
        self.slot(index).map(|slot| slot.entry.stamp)
    }

    /// Bytes of the entries after `after` up to `through`, both within the log.
    pub(crate) fn bytes_between(&self, after: LogIndex, through: LogIndex) -> u64 {
        let bytes = |index| self.slot(index).map_or(self.base_bytes, |slot| slot.bytes);
        bytes(through).saturating_sub(bytes(after))
    }

    /// The entries after `after` up to `through`.
    pub(crate) fn entries_between(&self, after: LogIndex, through: LogIndex) -> Vec<Entry> {
        assert!(
            self.base.position.index <= after,
            "entries after {after} are compacted"
        );
        let from = usize::try_from(after.0 - self.base.position.index.0).unwrap_or(usize::MAX);
        let count = usize::try_from(through.0.saturating_sub(after.0)).unwrap_or(usize::MAX);
        let from = from.min(self.slots.len());
        let end = from.saturating_add(count).min(self.slots.len());
        self.slots
            .range(from..end)
            .map(|slot| slot.entry.clone())
            .collect()
    }

    /// The entries after `after` that fit into `max_bytes`, but one at least where there is one.
    pub(crate) fn entries_after(&self, after: LogIndex, max_bytes: usize) -> Vec<Entry> {
        let last = self.last_index();
        if last <= after {
            return Vec::new();
        }
        let start = self.slot(after).map_or(self.base_bytes, |slot| slot.bytes);
        let limit = start.saturating_add(max_bytes as u64);
        let fitting = self.slots.partition_point(|slot| slot.bytes <= limit) as u64;
        let through = LogIndex(self.base.position.index.0 + fitting).max(after.next());
        self.entries_between(after, through)
    }

    /// The last place at or below `index` whose term is at most `term`. Both sides of a conflict search with it
    /// (Raft §5.3, the optimization at its end): whole terms are skipped, not single entries.
    pub(crate) fn last_not_above(&self, index: LogIndex, term: Term) -> Option<LogPosition> {
        let base = self.base.position;
        if index < base.index || term < base.term {
            return None;
        }
        let of_term = self.slots.partition_point(|slot| slot.entry.term <= term) as u64;
        self.position_at(LogIndex(base.index.0 + of_term).min(index))
    }

    /// Appends an entry, which must follow the last.
    pub(crate) fn append(&mut self, entry: Entry) {
        let last = self.last_position();
        assert!(
            entry.index == last.index.next(),
            "entry {} does not follow {}",
            entry.index,
            last.index
        );
        assert!(
            last.term <= entry.term,
            "entry {} of term {} is behind one of {}",
            entry.index,
            entry.term,
            last.term
        );
        assert!(
            self.last_stamp() <= entry.stamp,
            "stamp {:?} falls at {}",
            entry.stamp,
            entry.index
        );
        if let Payload::Configuration(configuration) = &entry.payload {
            self.configurations.push(entry.index, configuration.clone());
        }
        let before = self.slots.back().map_or(self.base_bytes, |slot| slot.bytes);
        self.slots.push_back(Slot {
            bytes: before + entry.size() as u64,
            entry,
        });
    }

    /// Removes the entry at `from` and all after it, with their configurations.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        assert!(
            self.base.position.index < from,
            "cannot truncate from {from}: it is compacted"
        );
        let kept = usize::try_from(from.0 - self.base.position.index.0 - 1).unwrap_or(usize::MAX);
        self.slots.truncate(kept);
        self.configurations.truncate(from);
    }

    /// Throws all away and begins behind `base`.
    pub(crate) fn reset(&mut self, base: SnapshotMeta) {
        *self = Log::new(base);
    }

    /// Begins behind `to`, which it holds, and says what that is.
    pub(crate) fn compact(&mut self, to: LogIndex) -> &SnapshotMeta {
        let (Some(position), Some(stamp)) = (self.position_at(to), self.stamp_at(to)) else {
            panic!(
                "cannot compact to {to}: the log holds {} to {}",
                self.base.position.index,
                self.last_index()
            );
        };
        let configuration = self.configurations.at(to).clone();
        self.base_bytes += self.bytes_between(self.base.position.index, to);
        let removed = usize::try_from(to.0 - self.base.position.index.0).unwrap_or(usize::MAX);
        self.slots.drain(..removed);
        self.configurations.compact(to);
        self.base = SnapshotMeta {
            position,
            stamp,
            configuration,
        };
        &self.base
    }

    /// How far the log may be compacted so that behind it and up to `through` at most `entries` entries and `bytes`
    /// bytes are kept.
    pub(crate) fn tail_start(&self, through: LogIndex, entries: u64, bytes: u64) -> LogIndex {
        let end = self
            .slot(through)
            .map_or(self.base_bytes, |slot| slot.bytes);
        let dropped =
            self.slots
                .partition_point(|slot| slot.bytes.saturating_add(bytes) < end) as u64;
        // The slot found last still has more than `bytes` behind it, so the one after it must go too, if any went.
        let by_bytes = if end - self.base_bytes <= bytes {
            0
        } else {
            dropped + 1
        };
        let by_bytes = LogIndex(self.base.position.index.0 + by_bytes);
        by_bytes
            .max(LogIndex(through.0.saturating_sub(entries)))
            .min(through)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::types::MemberId;

    fn meta(index: u64) -> SnapshotMeta {
        let configuration = Arc::new(voter(0));
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(index),
        };
        SnapshotMeta {
            position,
            stamp: Stamp(0),
            configuration,
        }
    }

    fn voter(id: u64) -> Configuration {
        Configuration {
            voters: [MemberId(id)].into(),
            ..Configuration::default()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append { term_rise: u64, payload: Payload },
        Truncate(u64),
        Compact(u64),
        Reset,
    }

    fn step() -> impl Strategy<Value = Step> {
        let payload = prop_oneof![
            Just(Payload::Empty),
            (0usize..50).prop_map(|length| Payload::Command(Bytes::from(vec![0; length]))),
            (1u64..9).prop_map(|id| Payload::Configuration(Arc::new(voter(id)))),
        ];
        prop_oneof![
            8 => (0u64..2, payload).prop_map(|(term_rise, payload)| Step::Append { term_rise, payload }),
            2 => (0u64..9).prop_map(Step::Truncate),
            1 => (0u64..9).prop_map(Step::Compact),
            1 => Just(Step::Reset),
        ]
    }

    /// The log as nothing but its base and a list, whose every question is answered by looking at all of it.
    struct Model {
        base: SnapshotMeta,
        entries: Vec<Entry>,
    }

    impl Model {
        fn positions(&self) -> Vec<LogPosition> {
            [self.base.position]
                .into_iter()
                .chain(self.entries.iter().map(Entry::position))
                .collect()
        }

        fn last(&self) -> LogPosition {
            self.entries
                .last()
                .map_or(self.base.position, Entry::position)
        }

        fn configuration_at(&self, index: LogIndex) -> Arc<Configuration> {
            let of = |entry: &Entry| match &entry.payload {
                Payload::Configuration(configuration) => Some(configuration.clone()),
                _ => None,
            };
            let newest = self
                .entries
                .iter()
                .filter(|entry| entry.index <= index)
                .filter_map(of)
                .last();
            newest.unwrap_or_else(|| self.base.configuration.clone())
        }

        fn take(&mut self, log: &mut Log, step: Step) {
            let (base, last) = (self.base.position.index.0, self.last());
            match step {
                Step::Append { term_rise, payload } => {
                    let (index, term) = (last.index.next(), Term(last.term.0 + term_rise));
                    let entry = Entry {
                        index,
                        term,
                        stamp: Stamp(term.0),
                        payload,
                    };
                    log.append(entry.clone());
                    self.entries.push(entry);
                }
                Step::Truncate(back) if base < last.index.0 => {
                    let from = LogIndex((last.index.0.saturating_sub(back)).max(base + 1));
                    log.truncate(from);
                    self.entries.retain(|entry| entry.index < from);
                }
                Step::Compact(on) => {
                    let to = LogIndex((base + on).min(last.index.0));
                    let position = self.positions()[usize::try_from(to.0 - base).unwrap()];
                    let stamp = if to.0 == base {
                        self.base.stamp
                    } else {
                        Stamp(position.term.0)
                    };
                    self.base = SnapshotMeta {
                        position,
                        stamp,
                        configuration: self.configuration_at(to),
                    };
                    assert_eq!(*log.compact(to), self.base);
                    self.entries.retain(|entry| to < entry.index);
                }
                Step::Reset => {
                    self.base = meta(last.index.0 + 3);
                    self.base.position.term = last.term;
                    self.entries.clear();
                    log.reset(self.base.clone());
                }
                Step::Truncate(_) => {}
            }
        }

        fn compare(&self, log: &Log) {
            assert_eq!((log.base(), log.last_position()), (&self.base, self.last()));
            assert_eq!(log.iter().cloned().collect::<Vec<_>>(), self.entries);
            assert_eq!(
                *log.configuration(),
                self.configuration_at(self.last().index)
            );
            assert_eq!(
                log.bytes(),
                self.entries
                    .iter()
                    .map(|entry| entry.size() as u64)
                    .sum::<u64>()
            );
            for index in 0..self.last().index.0 + 3 {
                self.compare_at(log, LogIndex(index));
            }
        }

        fn compare_at(&self, log: &Log, index: LogIndex) {
            let positions = self.positions();
            assert_eq!(
                log.position_at(index),
                positions
                    .iter()
                    .copied()
                    .find(|position| position.index == index)
            );
            for term in 0..self.last().term.0 + 2 {
                let last = positions
                    .iter()
                    .rev()
                    .find(|p| p.index <= index && p.term <= Term(term));
                // Behind a compacted index nothing is known, whatever the terms are.
                assert_eq!(
                    log.last_not_above(index, Term(term)),
                    last.copied(),
                    "{index} {term}"
                );
            }
            if self.base.position.index <= index {
                let behind: Vec<Entry> = self
                    .entries
                    .iter()
                    .filter(|entry| index < entry.index)
                    .cloned()
                    .collect();
                for max in [0, 40, 100, 1000] {
                    assert_eq!(log.entries_after(index, max), fitting(&behind, max));
                }
            }
        }

        fn tail_start(&self, through: LogIndex, entries: u64, bytes: u64) -> LogIndex {
            let size = |after: LogIndex| -> u64 {
                let kept = self
                    .entries
                    .iter()
                    .filter(|entry| after < entry.index && entry.index <= through);
                kept.map(|entry| entry.size() as u64).sum()
            };
            let fits = |start: &LogIndex| through.0 - start.0 <= entries && size(*start) <= bytes;
            (self.base.position.index.0..=through.0)
                .map(LogIndex)
                .find(fits)
                .unwrap()
        }
    }

    fn fitting(entries: &[Entry], max: usize) -> Vec<Entry> {
        let mut left = max;
        let fit = |entry: &&Entry| {
            left.checked_sub(entry.size())
                .map(|rest| left = rest)
                .is_some()
        };
        let count = entries.iter().take_while(fit).count();
        entries[..count.max(1).min(entries.len())].to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn log_agrees_with_a_list(
            steps in prop::collection::vec(step(), 1..40),
            kept in 0u64..12,
            bytes in 0u64..400,
            back in 0u64..4,
        ) {
            let mut log = Log::new(meta(1));
            let mut model = Model { base: meta(1), entries: Vec::new() };
            for step in steps {
                model.take(&mut log, step);
                model.compare(&log);
                let base = model.base.position.index;
                let through = LogIndex(model.last().index.0.saturating_sub(back)).max(base);
                prop_assert_eq!(log.tail_start(through, kept, bytes), model.tail_start(through, kept, bytes));
            }
        }
    }
}
