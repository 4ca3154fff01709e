//! A member's log and state at work on two disks, beside a model of what was acknowledged.
//!
//! Does at random what a member does in its order: entries are appended and cut off, votes kept, checkpoints written
//! behind what the log holds, the log compacted behind checkpoints, and now and then the whole state replaced by a
//! snapshot and the log reset to it. Whatever fails ends the life, as it ends a member.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_raft::{HardState, LogIndex, LogPosition, MemberId, Payload, Term, Write, WriteId};
use tenure_replica::Checkpoint;
use tenure_state::{Row, RowChange, Table};
use tenured::storage::{
    CheckpointOutcome, Loaded, LogContents, LogFile, Pair, StateFile, StorageError, open_on,
};

use super::disk::{Disk, EIO, Fault, Operation, Random};
use super::model::{IDENTITY, apply, entry, meta};

/// What the two files hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Truth {
    pub(crate) log: LogContents,
    pub(crate) state: Loaded,
}

/// A life that ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) error: StorageError,
    /// What was acknowledged.
    pub(crate) acknowledged: Truth,
    /// The same with what was under way.
    pub(crate) in_flight: Truth,
    /// The disks of the log and of the state.
    pub(crate) disks: [Disk; 2],
}

/// A member that runs.
pub(crate) struct Life {
    pub(crate) disks: [Disk; 2],
    pair: Pair,
    pub(crate) truth: Truth,
    next: u64,
}

impl Life {
    /// A member that has just been formed.
    pub(crate) fn begin() -> Life {
        let log = Disk::default();
        let state = log.beside();
        let base = meta(1, 1);
        let rows = vec![row(0, 0)];
        LogFile::create_on(log.clone(), "log.redb".as_ref(), IDENTITY, &base)
            .and_then(LogFile::close)
            .expect("a log");
        let path = "state.redb".as_ref();
        StateFile::create_on(state.clone(), path, IDENTITY, &base, 1, &rows)
            .and_then(StateFile::close)
            .expect("a state");
        let truth = Truth {
            log: LogContents {
                hard_state: HardState {
                    term: Term(1),
                    vote: None,
                },
                base: base.clone(),
                ..LogContents::default()
            },
            state: Loaded {
                meta: base,
                digest: 1,
                installed: false,
                rows,
            },
        };
        let (life, found) = Life::open([log, state]).expect("opens");
        assert!(found == truth, "what was formed is there");
        life
    }

    /// A member that starts, and what it found. Where a snapshot was installed and the log not yet reset to it, that is
    /// done first.
    pub(crate) fn open(disks: [Disk; 2]) -> Result<(Life, Truth), StorageError> {
        let [log, state] = disks.clone();
        let pair = open_on(log, state, IDENTITY)?;
        let truth = Truth {
            log: pair.contents.clone(),
            state: pair.loaded.clone(),
        };
        let life = Life {
            disks,
            pair,
            truth: truth.clone(),
            next: 1,
        };
        Ok((life, truth))
    }

    /// Does something; an error is the end.
    pub(crate) fn step(self, random: &mut Random) -> Result<Life, Box<End>> {
        let at = self.truth.state.meta.position;
        if self.truth.state.installed && !holds(&self.truth.log, at) {
            let reset = Write {
                reset_to: Some(self.truth.state.meta.clone()),
                hard_state: Some(HardState {
                    term: self.truth.log.hard_state.term.max(at.term),
                    vote: None,
                }),
                ..Write::default()
            };
            return self.write(vec![reset]);
        }
        match random.below(20) {
            0 => self.install(random),
            1 | 2 => self.restart(),
            3..=8 => self.checkpoint(random),
            _ => {
                let mut writes = Vec::new();
                let mut log = self.truth.log.clone();
                for _ in 0..=random.below(3) {
                    let write = self.random_write(random, &log);
                    apply(&mut log, &write);
                    writes.push(write);
                }
                self.write(writes)
            }
        }
    }

    fn write(mut self, mut writes: Vec<Write>) -> Result<Life, Box<End>> {
        let mut after = self.truth.clone();
        for write in &mut writes {
            write.id = WriteId(self.next);
            self.next += 1;
            apply(&mut after.log, write);
        }
        match self.pair.log.write(&writes) {
            Ok(written) => {
                assert_eq!(written.last, WriteId(self.next - 1));
                self.truth = after;
                Ok(self)
            }
            Err(error) => {
                self.pair
                    .log
                    .write(&writes)
                    .expect_err("a log that failed takes no more");
                Err(self.end(error, after))
            }
        }
    }

    fn checkpoint(mut self, random: &mut Random) -> Result<Life, Box<End>> {
        let (log, had) = (&self.truth.log, self.truth.state.meta.position.index);
        let ahead = log.last().index.0 - had.0;
        let index = LogIndex(had.0 + random.below(ahead + 1));
        let covers = position(log, index);
        let mut rows: BTreeMap<(u8, Bytes), Row> =
            self.truth.state.rows.iter().map(keyed).collect();
        let mut changes = BTreeMap::new();
        for _ in 0..random.below(60) {
            let row = row(random.below(200), random.below(400));
            let value = (random.below(3) != 0).then(|| row.value.clone());
            match &value {
                Some(_) => rows.insert((row.table as u8, row.key.clone()), row.clone()),
                None => rows.remove(&(row.table as u8, row.key.clone())),
            };
            let change = RowChange {
                table: row.table,
                key: row.key.clone(),
                value,
            };
            changes.insert((row.table as u8, row.key), change);
        }
        let checkpoint = Checkpoint {
            meta: meta(covers.term.0, covers.index.0),
            digest: u128::from(random.below(u64::MAX)),
            rows: changes.into_values().collect(),
        };
        let mut after = self.truth.clone();
        after.state = Loaded {
            installed: self.truth.state.installed && covers == self.truth.state.meta.position,
            meta: checkpoint.meta.clone(),
            digest: checkpoint.digest,
            rows: rows.into_values().collect(),
        };
        match self.pair.state.checkpoint(&checkpoint) {
            Ok(outcome) => {
                assert_eq!(outcome, CheckpointOutcome::Written);
                self.truth = after;
                Ok(self)
            }
            Err(error) => {
                self.pair
                    .state
                    .checkpoint(&checkpoint)
                    .expect_err("a state that failed takes no more");
                Err(self.end(error, after))
            }
        }
    }

    /// A snapshot from beyond the log; the reset of the log is the next step.
    fn install(mut self, random: &mut Random) -> Result<Life, Box<End>> {
        let log = &self.truth.log;
        let term = log.hard_state.term.max(log.base.position.term).0 + random.below(2);
        let covers = meta(term, log.last().index.0 + 1 + random.below(5));
        let rows: BTreeMap<_, _> = (0..random.below(100))
            .map(|_| keyed(&row(random.below(200), random.below(400))))
            .collect();
        let rows: Vec<Row> = rows.into_values().collect();
        let digest = u128::from(random.below(u64::MAX));
        let fresh = self.disks[1].beside();
        if random.below(10) == 0 {
            fresh.fails(Fault {
                operation: Operation::ALL[1 + random.below(3) as usize],
                after: random.below(12),
                for_ever: random.below(2) == 0,
                errno: EIO,
            });
        }
        let mut after = self.truth.clone();
        after.state = Loaded {
            meta: covers.clone(),
            digest,
            installed: true,
            rows: rows.clone(),
        };
        let installed = self
            .pair
            .state
            .install_on(fresh.clone(), &covers, digest, &rows);
        match installed {
            // The name is given when all is synced: a crash before it leaves the old file, one after it the new.
            Ok(()) => {
                self.disks[1] = fresh;
                self.truth = after;
                Ok(self)
            }
            Err(error) => {
                let refused = self
                    .pair
                    .state
                    .install_on(Disk::default(), &covers, digest, &rows);
                refused.expect_err("a state that failed takes no more");
                let acknowledged = self.truth.clone();
                Err(self.end(error, acknowledged))
            }
        }
    }

    /// A clean end and a start, after which all is as it was. Either may meet what the disks have in store.
    fn restart(self) -> Result<Life, Box<End>> {
        let (disks, truth) = (self.disks.clone(), self.truth.clone());
        let started = self.close().and_then(|()| Life::open(disks.clone()));
        match started {
            Ok((life, found)) => {
                assert!(found == truth, "a restart changed something");
                Ok(life)
            }
            Err(error) => Err(Box::new(End {
                error,
                in_flight: truth.clone(),
                acknowledged: truth,
                disks,
            })),
        }
    }

    pub(crate) fn close(self) -> Result<(), StorageError> {
        let log = self.pair.log.close();
        self.pair.state.close().and(log)
    }

    fn end(self, error: StorageError, in_flight: Truth) -> Box<End> {
        Box::new(End {
            error,
            acknowledged: self.truth,
            in_flight,
            disks: self.disks,
        })
    }

    /// A write that a core could want: nothing that a checkpoint covers is cut off, nothing else is compacted.
    fn random_write(&self, random: &mut Random, log: &LogContents) -> Write {
        let floor = self.truth.state.meta.position.index;
        let mut write = Write::default();
        let mut term = log.hard_state.term.max(log.base.position.term).0;
        if random.below(4) == 0 {
            term += random.below(3);
            let vote = (random.below(2) == 0).then(|| MemberId(random.below(3)));
            write.hard_state = Some(HardState {
                term: Term(term),
                vote,
            });
        }
        let mut last = log.last();
        let free = last.index.0 - floor.0.max(log.base.position.index.0).min(last.index.0);
        if random.below(5) == 0 && free > 0 {
            let from = LogIndex(last.index.0 - random.below(free));
            write.truncate_from = Some(from);
            last = position(log, from.previous());
        }
        for _ in 0..random.below(6) {
            let payload = match random.below(8) {
                0 => Payload::Empty,
                1 => Payload::Configuration(meta(1, 1).configuration),
                _ => Payload::Command(Bytes::from(vec![
                    random.below(256) as u8;
                    random.below(3000) as usize
                ])),
            };
            let entry = entry(term, last.index.0 + 1, payload);
            last = entry.position();
            write.append.push(entry);
        }
        let base = log.base.position.index.0;
        if random.below(5) == 0 && base < floor.0 {
            let to = position(log, LogIndex(base + 1 + random.below(floor.0 - base)));
            write.compact_to = Some(meta(to.term.0, to.index.0));
        }
        write
    }
}

/// What the log has at an index that it holds, or begins behind.
fn position(log: &LogContents, index: LogIndex) -> LogPosition {
    match index.0 - log.base.position.index.0 {
        0 => log.base.position,
        behind => log.entries[behind as usize - 1].position(),
    }
}

fn holds(log: &LogContents, at: LogPosition) -> bool {
    let (base, last) = (log.base.position.index, log.last().index);
    (base..=last).contains(&at.index) && position(log, at.index) == at
}

fn row(number: u64, length: u64) -> Row {
    Row {
        table: Table::ALL[number as usize % Table::ALL.len()],
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value: Bytes::from(vec![length as u8; length as usize]),
    }
}

fn keyed(row: &Row) -> ((u8, Bytes), Row) {
    ((row.table as u8, row.key.clone()), row.clone())
}
