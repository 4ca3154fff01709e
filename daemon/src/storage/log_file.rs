//! `log.redb`: the log, the term and the vote.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `entries` | log index | a record, see `record.rs` |
//! | `meta` | `identity` | format version, cluster id, member id |
//! | `meta` | `hard_state` | term and vote |
//! | `meta` | `base` | what the log begins behind: term, index, stamp and configuration |
//! | `meta` | `starts` | the numbers of the member's starts that may be logged; absent before its first start |
//! | `meta` | `founding` | what the member was formed with, as it was given; absent where it was not formed |
//!
//! Values of `meta` are protobuf behind a CRC32C over their key and themselves.
//!
//! Owns the one synced transaction in which everything that queued up is written (one-phase with checksums: one sync).
//! After an error its outcome is unknown, so the file refuses everything after it. Never reads entries but at open:
//! the log lives in the core's memory.
//!
//! A commit is there whole or not at all, so there is no torn tail to cut: a record that does not check, the last one
//! too, is damage. What the format cannot tell apart is a last commit in one phase that is damaged after a crash from
//! one that was cut off by the crash; there the library goes back by one commit. Terms and votes are therefore written
//! in two phases, of which none goes back: a forgotten vote could elect two leaders. Elections are rare, so that the
//! second sync costs writes nothing. Against the loss of the last entries there are two witnesses: the checkpoint in
//! the state file (see [`open`](super::open)), and the leader that was told of them
//! ([`Forgotten`](tenure_raft::Forgotten)).

mod reclaim;

use std::path::{Path, PathBuf};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, WriteTransaction,
};
use tenure_raft::{
    Entry, HardState, LogIndex, LogPosition, MemberId, SnapshotMeta, Stamp, Term, Write, WriteId,
};

use super::codec;
use super::database::{self, Options, contained};
use super::error::StorageError;
use super::files;
use super::identity::{ClusterId, Identity};
use super::record;
use reclaim::Changed;
pub use reclaim::{LogCopy, LogCopying};

const ENTRIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const IDENTITY: &str = "identity";
const HARD_STATE: &str = "hard_state";
const BASE: &str = "base";
const FOUNDING: &str = "founding";
const STARTS: &str = "starts";
pub(super) const FORMAT: u32 = 1;

/// Entries are read only at open, so that the cache is for the inner pages of the tree alone. All pages are verified
/// at open: the log is bounded, and a lost tail would be an acknowledged write lost.
const OPTIONS: Options = Options {
    cache: 8 << 20,
    verify: true,
};

/// What the log file held when it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogContents {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log begins behind.
    pub base: SnapshotMeta,
    /// The entries behind it, in order and without gap.
    pub entries: Vec<Entry>,
    /// What the member was formed with, exactly as [`form`](super::form) was given it.
    pub founding: Option<Vec<u8>>,
    /// The numbers of the starts of this member that may be logged, the last one last.
    pub starts: Vec<u64>,
}

impl LogContents {
    /// The last entry, or what the log begins behind.
    pub fn last(&self) -> LogPosition {
        self.entries
            .last()
            .map_or(self.base.position, Entry::position)
    }
}

/// What one merged write did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// The last of the writes in it; it and all before it are durable.
    pub last: WriteId,
    /// How many there were.
    pub writes: usize,
    /// Bytes of the records in it.
    pub bytes: usize,
}

/// The open log file.
#[derive(Debug)]
pub struct LogFile {
    db: Database,
    path: PathBuf,
    ends: Ends,
    /// Set by the first error: what the disk holds is unknown from then on.
    failed: bool,
}

/// Where the log begins and ends, for refusing writes that do not fit.
#[derive(Clone, Copy, Debug)]
struct Ends {
    term: Term,
    base: LogPosition,
    last: LogPosition,
    changed: Changed,
}

impl LogFile {
    /// Makes a log that begins behind `base` with nothing in it. The file gets its name from the caller when all of
    /// it is durable.
    pub(super) fn create(
        path: &Path,
        identity: Identity,
        base: &SnapshotMeta,
        founding: &[u8],
    ) -> Result<(), StorageError> {
        let db = database::create(path, OPTIONS)?;
        LogFile::format(db, path, identity, base, Some(founding))?.close()?;
        files::sync_named(path)
    }

    /// Makes a log on a storage of the caller's, named `path` in messages.
    ///
    /// # Errors
    /// Any error of the backend.
    pub fn create_on(
        backend: impl StorageBackend,
        path: &Path,
        identity: Identity,
        base: &SnapshotMeta,
    ) -> Result<LogFile, StorageError> {
        LogFile::format(
            database::over(backend, path, OPTIONS)?,
            path,
            identity,
            base,
            None,
        )
    }

    /// Opens the log file and reads all of it.
    ///
    /// # Errors
    /// Damage, a newer format, or a file of another cluster or member: each names the file and the remedy.
    pub fn open(path: &Path, identity: Identity) -> Result<(LogFile, LogContents), StorageError> {
        LogFile::read(database::open(path, OPTIONS)?, path, identity)
    }

    /// Opens the log file of a member whose cluster may be known only from it.
    pub(super) fn open_as(
        path: &Path,
        member: MemberId,
        cluster: Option<ClusterId>,
    ) -> Result<(LogFile, Identity, LogContents), StorageError> {
        LogFile::read_as(database::open(path, OPTIONS)?, path, member, cluster)
    }

    /// Reads the log file of such a member, and writes nothing.
    pub(super) fn look_as(
        path: &Path,
        member: MemberId,
        cluster: Option<ClusterId>,
    ) -> Result<(Identity, LogContents), StorageError> {
        let db = database::look(path, OPTIONS)?;
        let (_, identity, contents) = LogFile::read_as(db, path, member, cluster)?;
        Ok((identity, contents))
    }

    fn read_as(
        db: Database,
        path: &Path,
        member: MemberId,
        cluster: Option<ClusterId>,
    ) -> Result<(LogFile, Identity, LogContents), StorageError> {
        let identity = contained(path, || read_identity(&db, path))?;
        let cluster = cluster.unwrap_or(identity.cluster);
        Identity { cluster, member }.check(path, identity)?;
        let (log, contents) = LogFile::read(db, path, identity)?;
        Ok((log, identity, contents))
    }

    /// Opens the log on a storage of the caller's, named `path` in messages.
    ///
    /// # Errors
    /// As [`LogFile::open`].
    pub fn open_on(
        backend: impl StorageBackend,
        path: &Path,
        identity: Identity,
    ) -> Result<(LogFile, LogContents), StorageError> {
        LogFile::read(database::over(backend, path, OPTIONS)?, path, identity)
    }

    fn format(
        db: Database,
        path: &Path,
        identity: Identity,
        base: &SnapshotMeta,
        founding: Option<&[u8]>,
    ) -> Result<LogFile, StorageError> {
        let transaction = database::begin_write(&db, path)?;
        transaction
            .open_table(ENTRIES)
            .map_err(|e| failed(path, e))?;
        put_meta(
            &transaction,
            path,
            IDENTITY,
            &codec::encode_identity(FORMAT, identity),
        )?;
        put_meta(
            &transaction,
            path,
            HARD_STATE,
            &codec::encode_hard_state(first_hard_state(base)),
        )?;
        put_meta(&transaction, path, BASE, &codec::encode_meta(base))?;
        if let Some(founding) = founding {
            put_meta(&transaction, path, FOUNDING, founding)?;
        }
        transaction.commit().map_err(|e| failed(path, e))?;
        let ends = Ends {
            term: base.position.term,
            base: base.position,
            last: base.position,
            changed: Changed::NOTHING,
        };
        Ok(LogFile {
            db,
            path: path.to_owned(),
            ends,
            failed: false,
        })
    }

    fn read(
        db: Database,
        path: &Path,
        identity: Identity,
    ) -> Result<(LogFile, LogContents), StorageError> {
        let contents = contained(path, || {
            identity.check(path, read_identity(&db, path)?)?;
            let transaction = db
                .begin_read()
                .map_err(|e| StorageError::database("read", path, e))?;
            read_contents(&transaction, path)
        })?;
        let base = contents.base.position;
        let ends = Ends {
            term: contents.hard_state.term.max(base.term),
            base,
            last: contents.last(),
            changed: Changed::NOTHING,
        };
        Ok((
            LogFile {
                db,
                path: path.to_owned(),
                ends,
                failed: false,
            },
            contents,
        ))
    }

    /// Remembers the numbers of this member's starts, in place of those before. When it returns, they are on the disk.
    ///
    /// # Errors
    /// As [`LogFile::write`].
    pub fn note_starts(&mut self, starts: &[u64]) -> Result<(), StorageError> {
        let mut transaction = database::begin_write(&self.db, &self.path)?;
        // As a vote: it must not go back with rot in the last commit.
        transaction.set_two_phase_commit(true);
        put_meta(
            &transaction,
            &self.path,
            STARTS,
            &codec::encode_starts(starts),
        )?;
        transaction.commit().map_err(|e| {
            self.failed = true;
            failed(&self.path, e)
        })
    }

    /// Does the writes in order, all in one transaction with one sync. When it returns, they are on the disk.
    ///
    /// # Errors
    /// Whether the writes are there is unknown after any error; the member must stop, and every later call fails.
    pub fn write(&mut self, writes: &[Write]) -> Result<Written, StorageError> {
        if self.failed {
            return Err(StorageError::contradiction(
                &self.path,
                "an earlier write failed",
            ));
        }
        self.failed = true;
        let written = contained(&self.path, || self.ends.write(&self.db, &self.path, writes))?;
        self.failed = false;
        Ok(written)
    }

    /// Closes the file so that the next open need not repair it.
    ///
    /// # Errors
    /// An error of the last, purely tidying writes. Everything acknowledged is durable all the same.
    pub fn close(self) -> Result<(), StorageError> {
        self.db
            .close()
            .map_err(|e| StorageError::database("close", &self.path, e))
    }
}

/// Nobody ever votes or leads in the term that the log begins behind.
fn first_hard_state(base: &SnapshotMeta) -> HardState {
    HardState {
        term: base.position.term,
        vote: None,
    }
}

impl Ends {
    fn write(
        &mut self,
        db: &Database,
        path: &Path,
        writes: &[Write],
    ) -> Result<Written, StorageError> {
        let mut written = Written {
            writes: writes.len(),
            ..Written::default()
        };
        written.last = writes.last().map(|write| write.id).unwrap_or_default();
        // Writes that only order messages behind earlier ones need no transaction: the earlier ones are durable.
        if writes.iter().all(is_empty) {
            return Ok(written);
        }
        let mut transaction = database::begin_write(db, path)?;
        transaction.set_two_phase_commit(writes.iter().any(|write| write.hard_state.is_some()));
        {
            let mut entries = transaction
                .open_table(ENTRIES)
                .map_err(|e| failed(path, e))?;
            for write in writes {
                written.bytes += self.apply(&transaction, &mut entries, path, write)?;
            }
        }
        transaction.commit().map_err(|e| failed(path, e))?;
        Ok(written)
    }

    /// One write, in the order that [`Write`] documents. Answers the bytes of its records.
    fn apply(
        &mut self,
        transaction: &WriteTransaction,
        entries: &mut Table<'_, u64, &'static [u8]>,
        path: &Path,
        write: &Write,
    ) -> Result<usize, StorageError> {
        if let Some(state) = write.hard_state {
            self.set_term(path, state.term)?;
            put_meta(
                transaction,
                path,
                HARD_STATE,
                &codec::encode_hard_state(state),
            )?;
        }
        if let Some(meta) = &write.reset_to {
            remove(entries, path, 0, u64::MAX)?;
            put_meta(transaction, path, BASE, &codec::encode_meta(meta))?;
            (self.base, self.last) = (meta.position, meta.position);
            self.changed.from = LogIndex(0);
        }
        if let Some(from) = write.truncate_from {
            self.truncate(entries, path, from)?;
        }
        let bytes = self.append(entries, path, &write.append)?;
        if let Some(meta) = &write.compact_to {
            self.compact(entries, path, meta)?;
            put_meta(transaction, path, BASE, &codec::encode_meta(meta))?;
        }
        Ok(bytes)
    }

    fn set_term(&mut self, path: &Path, term: Term) -> Result<(), StorageError> {
        if term < self.term {
            let reason = format!("term {term} would follow term {}", self.term);
            return Err(StorageError::contradiction(path, reason));
        }
        self.term = term;
        Ok(())
    }

    fn truncate(
        &mut self,
        entries: &mut Table<'_, u64, &'static [u8]>,
        path: &Path,
        from: LogIndex,
    ) -> Result<(), StorageError> {
        if from <= self.base.index {
            let reason = format!(
                "truncation from {from} reaches into the log's base {}",
                self.base.index
            );
            return Err(StorageError::contradiction(path, reason));
        }
        if from > self.last.index {
            return Ok(());
        }
        remove(entries, path, from.0, u64::MAX)?;
        self.changed.from = self.changed.from.min(from);
        let previous = from.previous();
        self.last = if previous == self.base.index {
            self.base
        } else {
            LogPosition {
                term: term_at(entries, path, previous)?,
                index: previous,
            }
        };
        Ok(())
    }

    fn append(
        &mut self,
        entries: &mut Table<'_, u64, &'static [u8]>,
        path: &Path,
        append: &[Entry],
    ) -> Result<usize, StorageError> {
        let mut bytes = 0;
        let mut record = Vec::new();
        for entry in append {
            if entry.index != self.last.index.next()
                || entry.term < self.last.term
                || entry.term > self.term.max(self.base.term)
            {
                let reason = format!(
                    "entry {} of term {} would follow entry {} of term {} in term {}",
                    entry.index, entry.term, self.last.index, self.last.term, self.term
                );
                return Err(StorageError::contradiction(path, reason));
            }
            record::encode_into(&mut record, entry);
            bytes += record.len();
            entries
                .insert(entry.index.0, record.as_slice())
                .map_err(|e| failed(path, e))?;
            self.last = entry.position();
            self.changed.from = self.changed.from.min(entry.index);
        }
        self.changed.bytes += bytes as u64;
        Ok(bytes)
    }

    fn compact(
        &mut self,
        entries: &mut Table<'_, u64, &'static [u8]>,
        path: &Path,
        meta: &SnapshotMeta,
    ) -> Result<(), StorageError> {
        let to = meta.position.index;
        if to < self.base.index || to > self.last.index {
            let reason = format!(
                "compaction to {to} of a log from {} to {}",
                self.base.index, self.last.index
            );
            return Err(StorageError::contradiction(path, reason));
        }
        remove(entries, path, 0, to.0)?;
        self.base = meta.position;
        Ok(())
    }
}

fn is_empty(write: &Write) -> bool {
    write.hard_state.is_none()
        && write.reset_to.is_none()
        && write.truncate_from.is_none()
        && write.append.is_empty()
        && write.compact_to.is_none()
}

fn remove(
    entries: &mut Table<'_, u64, &'static [u8]>,
    path: &Path,
    from: u64,
    to: u64,
) -> Result<(), StorageError> {
    entries
        .retain_in(from..=to, |_, _| false)
        .map_err(|e| failed(path, e))
}

fn term_at(
    entries: &Table<'_, u64, &'static [u8]>,
    path: &Path,
    index: LogIndex,
) -> Result<Term, StorageError> {
    let record = entries.get(index.0).map_err(|e| failed(path, e))?;
    let record =
        record.ok_or_else(|| StorageError::damaged(path, format!("entry {index} is missing")))?;
    Ok(decode(path, index, record.value())?.term)
}

fn put_meta(
    transaction: &WriteTransaction,
    path: &Path,
    key: &str,
    body: &[u8],
) -> Result<(), StorageError> {
    let mut sealed = Vec::new();
    codec::seal_into(&mut sealed, &[key.as_bytes()], body);
    let mut table = transaction.open_table(META).map_err(|e| failed(path, e))?;
    table
        .insert(key, sealed.as_slice())
        .map_err(|e| failed(path, e))?;
    Ok(())
}

fn read_contents(transaction: &ReadTransaction, path: &Path) -> Result<LogContents, StorageError> {
    let meta = transaction
        .open_table(META)
        .map_err(|e| StorageError::database("read", path, e))?;
    let hard_state = database::sealed(&meta, path, HARD_STATE, codec::decode_hard_state)?;
    let base = database::sealed(&meta, path, BASE, codec::decode_meta)?;
    let entries = read_entries(transaction, path, &base)?;
    let founding = sealed_if_any(&meta, path, FOUNDING, |bytes| Some(bytes.to_vec()))?;
    let starts = sealed_if_any(&meta, path, STARTS, codec::decode_starts)?;
    let contents = LogContents {
        hard_state,
        base,
        entries,
        founding,
        starts: starts.unwrap_or_default(),
    };
    // An entry can only be stored by a member that knows its term (openraft, "IO ordering").
    if contents.last().term > hard_state.term.max(contents.base.position.term) {
        let reason = format!(
            "its last entry is of term {}, its term is {}",
            contents.last().term,
            hard_state.term
        );
        return Err(StorageError::damaged(path, reason));
    }
    Ok(contents)
}

fn read_identity(db: &Database, path: &Path) -> Result<Identity, StorageError> {
    let transaction = db
        .begin_read()
        .map_err(|e| StorageError::database("read", path, e))?;
    let meta = transaction
        .open_table(META)
        .map_err(|e| StorageError::database("read", path, e))?;
    let (format, identity) = database::sealed(&meta, path, IDENTITY, codec::decode_identity)?;
    if format > FORMAT {
        return Err(StorageError::Newer {
            path: path.to_owned(),
            found: format,
            supported: FORMAT,
        });
    }
    Ok(identity)
}

/// The same, of what need not be there.
fn sealed_if_any<T>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    path: &Path,
    key: &str,
    decode: fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, StorageError> {
    match table.get(key) {
        Ok(None) => Ok(None),
        // Looked at again where there is something, or an error.
        Ok(Some(_)) | Err(_) => database::sealed(table, path, key, decode).map(Some),
    }
}

fn read_entries(
    transaction: &ReadTransaction,
    path: &Path,
    base: &SnapshotMeta,
) -> Result<Vec<Entry>, StorageError> {
    let table = transaction
        .open_table(ENTRIES)
        .map_err(|e| StorageError::database("read", path, e))?;
    let mut entries = Vec::new();
    let mut before = (base.position, base.stamp);
    for row in table
        .iter()
        .map_err(|e| StorageError::database("read", path, e))?
    {
        let (key, record) = row.map_err(|e| StorageError::database("read", path, e))?;
        let entry = decode(path, LogIndex(key.value()), record.value())?;
        check_order(path, before, &entry)?;
        before = (entry.position(), entry.stamp);
        entries.push(entry);
    }
    Ok(entries)
}

fn decode(path: &Path, index: LogIndex, record: &[u8]) -> Result<Entry, StorageError> {
    record::decode(index, record).map_err(|reason| {
        StorageError::damaged(path, format!("the record of entry {index} {reason}"))
    })
}

/// Log indexes have no gap; terms and stamps never fall.
fn check_order(
    path: &Path,
    before: (LogPosition, Stamp),
    entry: &Entry,
) -> Result<(), StorageError> {
    let (position, stamp) = before;
    if entry.index == position.index.next() && entry.term >= position.term && entry.stamp >= stamp {
        return Ok(());
    }
    let reason = format!(
        "entry {} of term {} and stamp {} follows entry {} of term {} and stamp {}",
        entry.index, entry.term, entry.stamp.0, position.index, position.term, stamp.0
    );
    Err(StorageError::damaged(path, reason))
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StorageError {
    StorageError::database("write", path, error)
}
