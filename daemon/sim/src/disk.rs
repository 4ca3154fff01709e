//! Simulated disks: the log file and the state file of a member, and the pieces of a snapshot it is being sent.
//!
//! Owns what is durable and what is on its way there. A write is atomic and writes are done in order; a crash keeps any
//! prefix of those that were not yet durable. The two files are apart, so any combination of theirs can be left behind.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tenure_raft::{
    Entry, HardState, LogIndex, LogPosition, SnapshotFile, SnapshotMeta, Term, Write, WriteId,
};
use tenure_replica::Checkpoint;
use tenure_state::{Row, RowChange, Table};

use crate::chance::Chance;
use crate::time::Moment;

/// What the log file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct DurableLog {
    pub(crate) hard_state: HardState,
    pub(crate) base: SnapshotMeta,
    pub(crate) entries: VecDeque<Entry>,
}

impl DurableLog {
    pub(crate) fn last(&self) -> LogPosition {
        self.entries
            .back()
            .map_or(self.base.position, Entry::position)
    }

    /// The term of the entry at `index`, where the file holds it or begins behind it.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.position.index {
            return Some(self.base.position.term);
        }
        let offset = index.0.checked_sub(self.base.position.index.0 + 1)?;
        self.entries
            .get(usize::try_from(offset).ok()?)
            .map(|entry| entry.term)
    }

    /// Whether the entry at this place is safe here: in the file, or covered by what the file begins behind.
    pub(crate) fn holds(&self, position: LogPosition) -> bool {
        position.index < self.base.position.index
            || self.term_at(position.index) == Some(position.term)
    }

    fn keep_through(&mut self, index: LogIndex) {
        let kept = index.0.saturating_sub(self.base.position.index.0);
        self.entries
            .truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    fn begin_behind(&mut self, meta: SnapshotMeta) {
        let gone = meta
            .position
            .index
            .0
            .saturating_sub(self.base.position.index.0);
        let gone = usize::try_from(gone)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        self.entries.drain(..gone);
        self.base = meta;
    }
}

/// The log file and the writes on their way.
#[derive(Default)]
pub(crate) struct LogDisk {
    pub(crate) durable: DurableLog,
    queued: VecDeque<Write>,
    /// How many of `queued` are in the sync under way.
    syncing: usize,
    pub(crate) stalled_until: Moment,
}

impl LogDisk {
    pub(crate) fn holding(durable: DurableLog) -> LogDisk {
        LogDisk {
            durable,
            ..LogDisk::default()
        }
    }

    pub(crate) fn queue(&mut self, write: Write) {
        self.queued.push_back(write);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// Whether the entry at this place is safe here, and nothing that waits to be written removes it.
    pub(crate) fn keeps(&self, position: LogPosition) -> bool {
        let removes = |write: &Write| {
            let meta = write.reset_to.as_ref();
            meta.is_some_and(|meta| meta.position.index < position.index)
                || write
                    .truncate_from
                    .is_some_and(|from| from <= position.index)
        };
        self.durable.holds(position) && !self.queued.iter().any(removes)
    }

    /// Begins a sync of all that waits; false where one is under way or nothing waits.
    pub(crate) fn begin_sync(&mut self) -> bool {
        if self.syncing > 0 || self.queued.is_empty() {
            return false;
        }
        self.syncing = self.queued.len();
        true
    }

    /// The sync under way is done: its writes, oldest first, to be given to [`LogDisk::perform`].
    pub(crate) fn synced(&mut self) -> Vec<Write> {
        let done = std::mem::take(&mut self.syncing);
        self.queued.drain(..done).collect()
    }

    /// Crash: some of the writes under way made it, in order; the others never were.
    pub(crate) fn crash(&mut self, chance: &mut Chance) -> Vec<Write> {
        self.syncing = 0;
        let kept = chance.index(self.queued.len() + 1);
        self.queued.truncate(kept);
        std::mem::take(&mut self.queued).into()
    }

    /// Makes a write durable, in the order of its fields.
    pub(crate) fn perform(&mut self, write: Write) -> WriteId {
        let log = &mut self.durable;
        if let Some(hard_state) = write.hard_state {
            log.hard_state = hard_state;
        }
        if let Some(meta) = write.reset_to {
            log.entries.clear();
            log.base = meta;
        }
        if let Some(from) = write.truncate_from {
            log.keep_through(from.previous());
        }
        log.entries.extend(write.append);
        if let Some(meta) = write.compact_to {
            log.begin_behind(meta);
        }
        write.id
    }
}

/// The rows of the state file.
pub(crate) type Rows = BTreeMap<(Table, Bytes), Bytes>;

/// What the state file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct DurableState {
    pub(crate) meta: SnapshotMeta,
    pub(crate) digest: u128,
    pub(crate) rows: Rows,
}

impl DurableState {
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().map(|((table, key), value)| Row {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        })
    }

    fn change(&mut self, rows: Vec<RowChange>) {
        for RowChange { table, key, value } in rows {
            match value {
                Some(value) => drop(self.rows.insert((table, key), value)),
                None => drop(self.rows.remove(&(table, key))),
            }
        }
    }
}

/// The state file, the checkpoint on its way, and the snapshot being received.
#[derive(Default)]
pub(crate) struct StateDisk {
    pub(crate) durable: DurableState,
    /// What it holds came as a snapshot, which the log does not reach yet.
    installed: bool,
    writing: Option<Checkpoint>,
    pub(crate) staged: Option<Staged>,
    pub(crate) stalled_until: Moment,
}

/// The part of a snapshot that has been received.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) file: SnapshotFile,
    pub(crate) bytes: Vec<u8>,
}

impl StateDisk {
    pub(crate) fn holding(durable: DurableState) -> StateDisk {
        StateDisk {
            durable,
            ..StateDisk::default()
        }
    }

    pub(crate) fn begin(&mut self, checkpoint: Checkpoint) {
        self.writing = Some(checkpoint);
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// The checkpoint under way is durable: what it covers.
    pub(crate) fn written(&mut self) -> Option<SnapshotMeta> {
        let Checkpoint { meta, digest, rows } = self.writing.take()?;
        self.durable.change(rows);
        self.durable.meta = meta.clone();
        self.durable.digest = digest;
        Some(meta)
    }

    /// Puts a snapshot's state in place of everything.
    pub(crate) fn replace(&mut self, state: DurableState) {
        self.writing = None;
        self.installed = true;
        self.durable = state;
    }

    /// Whether a snapshot was installed which the log does not reach yet.
    pub(crate) fn is_installed(&self) -> bool {
        self.installed
    }

    /// Once the log has come to the snapshot, it never ends before what this covers again. A log that is longer and another
    /// one has not come to it (seed 5542).
    pub(crate) fn log_reaches(&mut self, log: &DurableLog) {
        self.installed &= !log.holds(self.durable.meta.position);
    }

    /// Adds a piece where it fits behind what is there, and says how much there is.
    pub(crate) fn stage(&mut self, file: &SnapshotFile, offset: u64, data: &[u8]) -> u64 {
        if self
            .staged
            .as_ref()
            .is_none_or(|staged| staged.file != *file)
        {
            self.staged = Some(Staged {
                file: file.clone(),
                bytes: Vec::new(),
            });
        }
        let staged = self.staged.as_mut().expect("it was just put there");
        if offset == staged.bytes.len() as u64 {
            staged.bytes.extend_from_slice(data);
        }
        staged.bytes.len() as u64
    }

    /// Crash: the checkpoint under way made it or not, and the end of what was received may be gone.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        if chance.coin() {
            self.written();
        }
        self.writing = None;
        if let Some(staged) = &mut self.staged {
            let kept = chance.index(staged.bytes.len() + 1);
            staged.bytes.truncate(kept);
        }
    }
}
