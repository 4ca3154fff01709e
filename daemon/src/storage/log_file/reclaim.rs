//! Space that the log file has and does not use goes back to the file system while the member serves.
//!
//! Another thread copies the log as it was at one moment into a smaller file; the log goes on meanwhile. What was written since
//! then is carried over by the thread of the log, with the syncs of one more write and of a name, and the copy takes the name.
//! Owns the copy and what is carried over. The library verifies nothing that it reads, so every entry is checked, and that none
//! is missing: a tail that rotted away would be lost for good in a file that is whole. Whatever fails before the copy has the name leaves everything as it was, and is only logged: a
//! copy is worth nothing, and the log everything.

use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use tenure_raft::{LogIndex, LogPosition};

use super::super::database::{self, contained};
use super::super::error::StorageError;
use super::super::reclaiming::{LEAST, PIECE, Reclaimed, is_mostly_free, write_piece};
use super::super::{files, smaller};
use super::{ENTRIES, LogFile, META, OPTIONS, decode, failed, remove};

/// The most that is carried over: what the thread of the log does beside its writes takes hardly longer than one of them. A
/// copy that was overtaken by more is given up.
const CARRIED: u64 = 4 << 20;

/// What has changed since the last copy was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    /// Entries from here on are others.
    pub(super) from: LogIndex,
    /// Bytes of the records that were written.
    pub(super) bytes: u64,
}

impl Changed {
    pub(super) const NOTHING: Changed = Changed {
        from: LogIndex(u64::MAX),
        bytes: 0,
    };
}

/// The log as it was at one moment, to be copied.
pub struct LogCopying {
    from: ReadTransaction,
    path: PathBuf,
    before: u64,
    entries: Expected,
}

/// A copy of the log as it was at one moment.
#[derive(Debug)]
pub struct LogCopy {
    db: Database,
    fresh: PathBuf,
    before: u64,
}

/// Why there is no copy.
enum Ended {
    /// It is not worth it, or was not to go on.
    Needless,
    Failed(StorageError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Ended {
        Ended::Failed(error)
    }
}

/// The entries that come, one after the other.
#[derive(Clone, Copy, Debug)]
struct Expected {
    next: LogIndex,
    last: LogIndex,
}

impl Expected {
    fn behind(base: LogPosition, last: LogPosition) -> Expected {
        Expected {
            next: base.index.next(),
            last: last.index,
        }
    }

    /// Takes what was read as the next of them.
    fn take(&mut self, path: &Path, index: u64, record: &[u8]) -> Result<(), StorageError> {
        if index != self.next.0 || self.last < self.next {
            let reason = format!("entry {index} is where entry {} is to be", self.next);
            return Err(StorageError::damaged(path, reason));
        }
        decode(path, self.next, record)?;
        self.next = self.next.next();
        Ok(())
    }

    /// Whether all have come.
    fn end(self, path: &Path) -> Result<(), StorageError> {
        if self.next <= self.last {
            let reason = format!("entry {} is missing", self.next);
            return Err(StorageError::damaged(path, reason));
        }
        Ok(())
    }
}

impl LogFile {
    /// What is to be copied where the file is large; whether it is worth it, the copying finds out.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub fn copying(&mut self) -> Result<Option<LogCopying>, StorageError> {
        self.copying_from(LEAST)
    }

    /// The same for files of at least so many bytes.
    ///
    /// # Errors
    /// As [`LogFile::copying`].
    pub fn copying_from(&mut self, least: u64) -> Result<Option<LogCopying>, StorageError> {
        let before = files::size(&self.path)?;
        if before < least {
            return Ok(None);
        }
        let from = self
            .db
            .begin_read()
            .map_err(|e| StorageError::database("read", &self.path, e))?;
        self.ends.changed = Changed::NOTHING;
        Ok(Some(LogCopying {
            from,
            path: self.path.clone(),
            before,
            entries: Expected::behind(self.ends.base, self.ends.last),
        }))
    }

    /// Goes on with a copy of this file, of which there is one at a time, and with all that was written since; `None` where
    /// the file in use stays, since too much was, or the copy cannot be finished.
    ///
    /// # Errors
    /// A copy that cannot take the name: the member must stop, and every later write fails.
    pub fn become_copy(&mut self, copy: LogCopy) -> Result<Option<Reclaimed>, StorageError> {
        if self.failed {
            return Ok(None);
        }
        let fresh = copy.fresh.as_path();
        if self.ends.changed.bytes > CARRIED {
            return give_up(fresh, None);
        }
        if let Err(error) = contained(fresh, || self.carry_over(&copy.db, fresh)) {
            return give_up(fresh, Some(&error));
        }
        self.failed = true;
        files::rename(fresh, &self.path)?;
        self.db = copy.db;
        self.failed = false;
        Ok(Some(Reclaimed {
            before: copy.before,
            after: files::size(&self.path)?,
        }))
    }

    /// Brings a copy to where the log is; when it returns, all of it is on the disk.
    fn carry_over(&self, db: &Database, fresh: &Path) -> Result<(), StorageError> {
        let read = |e: redb::Error| StorageError::database("read", &self.path, e);
        let now = self.db.begin_read().map_err(|e| read(e.into()))?;
        let mut transaction = database::begin_write(db, fresh)?;
        // As a vote, which is in it.
        transaction.set_two_phase_commit(true);
        {
            let mut entries = transaction
                .open_table(ENTRIES)
                .map_err(|e| failed(fresh, e))?;
            let from = self.ends.changed.from.0;
            remove(&mut entries, fresh, from, u64::MAX)?;
            remove(&mut entries, fresh, 0, self.ends.base.index.0)?;
            let present = now.open_table(ENTRIES).map_err(|e| read(e.into()))?;
            let mut expected = Expected::behind(self.ends.base, self.ends.last);
            expected.next = expected.next.max(self.ends.changed.from);
            for row in present.range(from..).map_err(|e| read(e.into()))? {
                let (index, record) = row.map_err(|e| read(e.into()))?;
                expected.take(&self.path, index.value(), record.value())?;
                entries
                    .insert(index.value(), record.value())
                    .map_err(|e| failed(fresh, e))?;
            }
            expected.end(&self.path)?;
            let mut meta = transaction.open_table(META).map_err(|e| failed(fresh, e))?;
            let present = now.open_table(META).map_err(|e| read(e.into()))?;
            for row in present.iter().map_err(|e| read(e.into()))? {
                let (key, sealed) = row.map_err(|e| read(e.into()))?;
                meta.insert(key.value(), sealed.value())
                    .map_err(|e| failed(fresh, e))?;
            }
        }
        transaction.commit().map_err(|e| failed(fresh, e))?;
        files::sync_named(fresh)
    }
}

/// Leaves the file in use as it is. What is left of the copy goes at the next start at the latest.
fn give_up(fresh: &Path, error: Option<&StorageError>) -> Result<Option<Reclaimed>, StorageError> {
    let _ = files::remove(fresh);
    if let Some(error) = error {
        tracing::warn!(%error, "a smaller log file cannot be written, the one in use stays");
    }
    Ok(None)
}

impl LogCopy {
    /// Leaves the file in use as it is.
    pub fn discard(self) {
        let _ = give_up(&self.fresh, None);
    }
}

impl LogCopying {
    /// Copies the entries where most of the file is free; after every piece it is asked whether it `goes_on`. `None` where
    /// it is not worth it, was not to go on, or failed, which is logged.
    pub fn copy(self, goes_on: &dyn Fn() -> bool) -> Option<LogCopy> {
        let fresh = smaller(&self.path);
        let copied = contained(&fresh, || Ok(self.write(&fresh, goes_on)));
        match copied.unwrap_or_else(|panicked| Err(Ended::Failed(panicked))) {
            Ok(db) => Some(LogCopy {
                db,
                before: self.before,
                fresh,
            }),
            Err(ended) => {
                let error = match &ended {
                    Ended::Needless => None,
                    Ended::Failed(error) => Some(error),
                };
                let _ = give_up(&fresh, error);
                None
            }
        }
    }

    fn write(&self, fresh: &Path, goes_on: &dyn Fn() -> bool) -> Result<Database, Ended> {
        let read = |e: redb::Error| StorageError::database("read", &self.path, e);
        let entries = self.from.open_table(ENTRIES).map_err(|e| read(e.into()))?;
        let stats = entries.stats().map_err(|e| read(e.into()))?;
        let used = stats.stored_bytes() + stats.metadata_bytes();
        if !is_mostly_free(self.before, used) {
            return Err(Ended::Needless);
        }
        files::check_room(files::parent(fresh), used)?;
        let db = database::create(fresh, OPTIONS)?;
        let mut rows = entries.iter().map_err(|e| read(e.into()))?.peekable();
        let mut expected = self.entries;
        loop {
            write_piece(fresh, || {
                let transaction = database::begin_write(&db, fresh)?;
                let mut into = transaction
                    .open_table(ENTRIES)
                    .map_err(|e| failed(fresh, e))?;
                let mut bytes = 0;
                while bytes < PIECE
                    && let Some(row) = rows.next()
                {
                    let (index, record) = row.map_err(|e| read(e.into()))?;
                    expected.take(&self.path, index.value(), record.value())?;
                    bytes += record.value().len() as u64;
                    into.insert(index.value(), record.value())
                        .map_err(|e| failed(fresh, e))?;
                }
                drop(into);
                transaction.commit().map_err(|e| failed(fresh, e))
            })?;
            if !goes_on() {
                return Err(Ended::Needless);
            }
            if rows.peek().is_none() {
                expected.end(&self.path)?;
                return Ok(db);
            }
        }
    }
}

impl std::fmt::Debug for LogCopying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogCopying")
            .field("path", &self.path)
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Entry, Payload, Stamp, Term};

    use super::super::record;
    use super::*;

    fn position(index: u64) -> LogPosition {
        LogPosition {
            term: Term(1),
            index: LogIndex(index),
        }
    }

    fn record(index: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let entry = Entry {
            index: LogIndex(index),
            term: Term(1),
            stamp: Stamp(index),
            payload: Payload::Empty,
        };
        record::encode_into(&mut bytes, &entry);
        bytes
    }

    /// What comes of a log that is to have entries 5 to 7.
    fn copied(records: &[(u64, Vec<u8>)]) -> Result<(), StorageError> {
        let path = Path::new("log.redb");
        let mut expected = Expected::behind(position(4), position(7));
        for (index, record) in records {
            expected.take(path, *index, record)?;
        }
        expected.end(path)
    }

    #[test]
    fn nothing_is_copied_as_whole_of_which_an_entry_rotted_away_or_changed() {
        let all = |indexes: &[u64]| -> Vec<(u64, Vec<u8>)> {
            indexes
                .iter()
                .map(|index| (*index, record(*index)))
                .collect()
        };
        assert!(copied(&all(&[5, 6, 7])).is_ok());
        for wrong in [&[][..], &[5, 6], &[6, 7], &[5, 7], &[5, 6, 7, 8], &[5, 5]] {
            let error = copied(&all(wrong)).expect_err("something is wrong");
            assert_eq!(error.exit_code(), 3, "{wrong:?}: {error}");
        }
        let mut changed = all(&[5, 6, 7]);
        *changed[1].1.last_mut().expect("it is not empty") ^= 1;
        assert!(copied(&changed).is_err());
        let mut swapped = all(&[5, 6, 7]);
        swapped[1].1 = record(5);
        assert!(copied(&swapped).is_err());
        let empty = Expected::behind(position(7), position(7));
        assert!(empty.end(Path::new("log.redb")).is_ok());
    }
}
