//! `state.redb`: the state machine as of the last checkpoint.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `file` | `identity` | format version, cluster id, member id |
//! | `file` | `checkpoint` | what the rows cover (term, index, stamp, configuration), their digest, and whether a snapshot brought them |
//! | one for each table of the state | key of the row | value of the row |
//!
//! Values are behind a CRC32C over table, key and value; those of `file` are protobuf.
//!
//! Owns the one transaction in which changed rows and what they cover are written together: a state that says less or
//! more than it holds would apply entries twice or never (etcd 13766). Commits are two-phase with the allocator's
//! state in them (quick repair), so that opening after a crash does not walk the file. Also owns the replacement of
//! the whole file by an installed snapshot, which is one rename.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use prost::Message;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError, WriteTransaction,
};
use tenure_raft::SnapshotMeta;
use tenure_replica::Checkpoint;
use tenure_state::{Row, RowChange, Table};

use super::codec::{self, SnapshotMetaRecord};
use super::database::{self, Options, contained};
use super::error::StorageError;
use super::files;
use super::identity::Identity;
use super::unfinished;

mod reclaim;

const FILE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("file");
const IDENTITY: &str = "identity";
const CHECKPOINT: &str = "checkpoint";
pub(super) const FORMAT: u32 = 1;

/// Rows are read once, at start; checkpoints touch a few thousand pages. The library verifies nothing here, because
/// the file has no bound: the checksums and the digest of the rows do.
const OPTIONS: Options = Options {
    cache: 16 << 20,
    verify: false,
};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The name of a table of the state in the file. Part of the disk format.
fn definition(table: Table) -> Rows {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::History => "history",
        Table::Leases => "leases",
        Table::Deadlines => "deadlines",
        Table::Queues => "queues",
        Table::Holds => "holds",
        Table::Places => "places",
        Table::Ended => "ended",
        Table::Idempotency => "idempotency",
        Table::Access => "access",
    })
}

/// A whole state, as a file holds it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The digest that its rows had when they were written. Whoever loads them recomputes it and compares.
    pub digest: u128,
    /// Whether a snapshot brought it and nothing was applied since: only then may the log lag behind it.
    pub installed: bool,
    /// All rows, by table and key.
    pub rows: Vec<Row>,
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckpointOutcome {
    /// It is on the disk.
    Written,
    /// The file covers more already (a snapshot was installed meanwhile): nothing was written.
    Outdated,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointRecord {
    #[prost(message, optional, tag = "1")]
    meta: Option<SnapshotMetaRecord>,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(bool, tag = "3")]
    installed: bool,
}

/// What the rows in the file are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Covered {
    meta: SnapshotMeta,
    digest: u128,
    installed: bool,
}

/// The open state file.
#[derive(Debug)]
pub struct StateFile {
    db: Arc<Database>,
    path: PathBuf,
    identity: Identity,
    covered: Covered,
    /// Set by the first error: what the disk holds is unknown from then on.
    failed: bool,
}

/// The state file, shared by the thread that writes checkpoints and the one that makes and installs snapshots.
#[derive(Clone, Debug)]
pub struct SharedState(Arc<Mutex<StateFile>>);

impl SharedState {
    /// Shares a file.
    pub fn new(file: StateFile) -> SharedState {
        SharedState(Arc::new(Mutex::new(file)))
    }

    /// The file for somebody who does not keep it open.
    pub(super) fn watch(&self) -> WatchedState {
        WatchedState(Arc::downgrade(&self.0))
    }

    /// Takes the file for one operation.
    pub fn lock(&self) -> MutexGuard<'_, StateFile> {
        // A panic inside left the file marked as failed, so that it refuses everything.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the file if nobody else has it.
    ///
    /// # Errors
    /// As [`StateFile::close`].
    pub fn close(self) -> Result<(), StorageError> {
        let Some(file) = Arc::into_inner(self.0) else {
            return Ok(());
        };
        file.into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .close()
    }
}

/// The state file for as long as the threads of its member have it.
#[derive(Clone, Debug)]
pub(super) struct WatchedState(Weak<Mutex<StateFile>>);

impl WatchedState {
    /// A view of the whole state as of the last checkpoint; `None` where the member has stopped.
    pub(super) fn reader(&self) -> Result<Option<StateReader>, StorageError> {
        let Some(shared) = self.0.upgrade().map(SharedState) else {
            return Ok(None);
        };
        let reader = shared.lock().reader().map(Some);
        // Where the member has stopped meanwhile, this is the last to have it.
        let closed = shared.close();
        closed.and(reader)
    }
}

/// A way to read the whole state beside checkpoints. A reader pins every page that is freed while it reads, so it is
/// to be dropped as soon as it has been read.
pub(super) struct StateReader {
    transaction: ReadTransaction,
    path: PathBuf,
    covered: Covered,
    /// The file stays open as long as it is read, also where a snapshot takes its place.
    db: Arc<Database>,
}

impl StateFile {
    /// Makes a state file with these rows. It gets its name from the caller when all of it is durable.
    pub(super) fn create(
        path: &Path,
        identity: Identity,
        meta: &SnapshotMeta,
        digest: u128,
        rows: &[Row],
    ) -> Result<(), StorageError> {
        let covered = Covered {
            meta: meta.clone(),
            digest,
            installed: false,
        };
        StateFile::fill(
            database::create(path, OPTIONS)?,
            path,
            identity,
            covered,
            rows,
        )?
        .close()?;
        files::sync_named(path)
    }

    /// Makes a state file on a storage of the caller's, named `path` in messages.
    ///
    /// # Errors
    /// Any error of the backend.
    pub fn create_on(
        backend: impl StorageBackend,
        path: &Path,
        identity: Identity,
        meta: &SnapshotMeta,
        digest: u128,
        rows: &[Row],
    ) -> Result<StateFile, StorageError> {
        let covered = Covered {
            meta: meta.clone(),
            digest,
            installed: false,
        };
        StateFile::fill(
            database::over(backend, path, OPTIONS)?,
            path,
            identity,
            covered,
            rows,
        )
    }

    /// Opens the state file and reads all of it.
    ///
    /// # Errors
    /// Damage, a newer format, or a file of another cluster or member: each names the file and the remedy.
    pub fn open(path: &Path, identity: Identity) -> Result<(StateFile, Loaded), StorageError> {
        StateFile::read(database::open(path, OPTIONS)?, path, identity)
    }

    /// Reads all of a state file, and writes nothing.
    pub(super) fn look(path: &Path, identity: Identity) -> Result<Loaded, StorageError> {
        let (_, loaded) = StateFile::read(database::look(path, OPTIONS)?, path, identity)?;
        Ok(loaded)
    }

    /// Opens the state on a storage of the caller's, named `path` in messages.
    ///
    /// # Errors
    /// As [`StateFile::open`].
    pub fn open_on(
        backend: impl StorageBackend,
        path: &Path,
        identity: Identity,
    ) -> Result<(StateFile, Loaded), StorageError> {
        StateFile::read(database::over(backend, path, OPTIONS)?, path, identity)
    }

    fn fill(
        db: Database,
        path: &Path,
        identity: Identity,
        covered: Covered,
        rows: &[Row],
    ) -> Result<StateFile, StorageError> {
        let transaction = begin(&db, path)?;
        put_file(
            &transaction,
            path,
            IDENTITY,
            &codec::encode_identity(FORMAT, identity),
        )?;
        for table in Table::ALL {
            transaction
                .open_table(definition(table))
                .map_err(|e| failed(path, e))?;
        }
        put_rows(
            &transaction,
            path,
            rows.iter()
                .map(|row| (row.table, &row.key, Some(&row.value))),
        )?;
        commit(transaction, path, &covered)?;
        Ok(StateFile {
            db: Arc::new(db),
            path: path.to_owned(),
            identity,
            covered,
            failed: false,
        })
    }

    fn read(
        db: Database,
        path: &Path,
        identity: Identity,
    ) -> Result<(StateFile, Loaded), StorageError> {
        let (covered, rows) = contained(path, || {
            let transaction = db
                .begin_read()
                .map_err(|e| StorageError::database("read", path, e))?;
            let covered = read_covered(&transaction, path, identity)?;
            let mut rows = Vec::new();
            read_rows(&transaction, path, |table, key, value| {
                let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                rows.push(Row { table, key, value });
                Ok(())
            })?;
            Ok((covered, rows))
        })?;
        let Covered {
            meta,
            digest,
            installed,
        } = covered.clone();
        let file = StateFile {
            db: Arc::new(db),
            path: path.to_owned(),
            identity,
            covered,
            failed: false,
        };
        Ok((
            file,
            Loaded {
                meta,
                digest,
                installed,
                rows,
            },
        ))
    }

    /// Whose file it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// What the rows in the file cover.
    pub fn covers(&self) -> &SnapshotMeta {
        &self.covered.meta
    }

    /// Writes the changed rows, and what all rows then cover, in one synced transaction. The caller has the last
    /// entry that they cover durable in its log.
    ///
    /// # Errors
    /// What the file holds is unknown after any error; the member must stop, and every later call fails.
    pub fn checkpoint(
        &mut self,
        checkpoint: &Checkpoint,
    ) -> Result<CheckpointOutcome, StorageError> {
        let (had, meta) = (self.covered.meta.position, &checkpoint.meta);
        if meta.position.index < had.index {
            return Ok(CheckpointOutcome::Outdated);
        }
        // Until something was applied behind an installed snapshot, the log's reset may still be on its way.
        let installed = self.covered.installed && meta.position == had;
        let covered = Covered {
            meta: meta.clone(),
            digest: checkpoint.digest,
            installed,
        };
        self.begin_failing()?;
        contained(&self.path, || {
            let transaction = begin(&self.db, &self.path)?;
            put_rows(&transaction, &self.path, in_order(&checkpoint.rows))?;
            commit(transaction, &self.path, &covered)
        })?;
        self.covered = covered;
        self.failed = false;
        Ok(CheckpointOutcome::Written)
    }

    /// Puts the state of a snapshot in place of the whole file. A crash at any point leaves the old file or the new
    /// one, and it may be called again.
    ///
    /// # Errors
    /// A snapshot that covers less than the file is refused. After any other error the member must stop.
    pub fn install(
        &mut self,
        meta: &SnapshotMeta,
        digest: u128,
        rows: &[Row],
    ) -> Result<(), StorageError> {
        self.begin_install(meta)?;
        let fresh = unfinished(&self.path);
        let database = || database::create(&fresh, OPTIONS);
        let file = self.installed(&fresh, database, meta, digest, rows)?;
        // The commit synced its data; this also covers the file's size and other metadata.
        files::sync_named(&fresh)?;
        files::rename(&fresh, &self.path)?;
        self.become_file(file);
        Ok(())
    }

    /// The same on an empty storage of the caller's, which takes the place of the one in use when this returns.
    ///
    /// # Errors
    /// As [`StateFile::install`].
    pub fn install_on(
        &mut self,
        backend: impl StorageBackend,
        meta: &SnapshotMeta,
        digest: u128,
        rows: &[Row],
    ) -> Result<(), StorageError> {
        self.begin_install(meta)?;
        let database = || database::over(backend, &self.path, OPTIONS);
        let file = self.installed(&self.path, database, meta, digest, rows)?;
        self.become_file(file);
        Ok(())
    }

    fn begin_install(&mut self, meta: &SnapshotMeta) -> Result<(), StorageError> {
        let had = self.covered.meta.position.index;
        if meta.position.index < had {
            let reason = format!(
                "a snapshot at entry {} would replace the state at {had}",
                meta.position.index
            );
            return Err(StorageError::contradiction(&self.path, reason));
        }
        self.begin_failing()
    }

    /// A new file, named `path` in messages, that holds what a snapshot brought.
    fn installed(
        &self,
        path: &Path,
        database: impl FnOnce() -> Result<Database, StorageError>,
        meta: &SnapshotMeta,
        digest: u128,
        rows: &[Row],
    ) -> Result<StateFile, StorageError> {
        let covered = Covered {
            meta: meta.clone(),
            digest,
            installed: true,
        };
        contained(&self.path, || {
            StateFile::fill(database()?, path, self.identity, covered, rows)
        })
    }

    fn become_file(&mut self, file: StateFile) {
        (self.db, self.covered) = (file.db, file.covered);
        self.failed = false;
    }

    /// A view of the whole state as of the last checkpoint.
    pub(super) fn reader(&self) -> Result<StateReader, StorageError> {
        let transaction = self
            .db
            .begin_read()
            .map_err(|e| StorageError::database("read", &self.path, e))?;
        let covered = self.covered.clone();
        Ok(StateReader {
            transaction,
            path: self.path.clone(),
            covered,
            db: Arc::clone(&self.db),
        })
    }

    /// Closes the file so that the next open need not repair it.
    ///
    /// # Errors
    /// An error of the last, purely tidying writes. Every checkpoint is durable all the same.
    pub fn close(self) -> Result<(), StorageError> {
        // A reader that still has the file closes it when it is dropped.
        let Some(db) = Arc::into_inner(self.db) else {
            return Ok(());
        };
        db.close()
            .map_err(|e| StorageError::database("close", &self.path, e))
    }

    fn begin_failing(&mut self) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::contradiction(
                &self.path,
                "an earlier write failed",
            ));
        }
        self.failed = true;
        Ok(())
    }
}

impl StateReader {
    /// The file that is read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the rows cover.
    pub(super) fn covers(&self) -> &SnapshotMeta {
        &self.covered.meta
    }

    /// The digest of the rows.
    pub(super) fn digest(&self) -> u128 {
        self.covered.digest
    }

    /// Gives every row to `each`, by table and key, as table, key and value; ends with the first error.
    pub(super) fn rows(
        &self,
        each: impl FnMut(Table, &[u8], &[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        contained(&self.path, || {
            read_rows(&self.transaction, &self.path, each)
        })
    }
}

fn begin(db: &Database, path: &Path) -> Result<WriteTransaction, StorageError> {
    let mut transaction = database::begin_write(db, path)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn commit(
    transaction: WriteTransaction,
    path: &Path,
    covered: &Covered,
) -> Result<(), StorageError> {
    let record = CheckpointRecord {
        meta: Some(SnapshotMetaRecord::from(&covered.meta)),
        digest: covered.digest.to_be_bytes().to_vec(),
        installed: covered.installed,
    };
    put_file(&transaction, path, CHECKPOINT, &record.encode_to_vec())?;
    transaction.commit().map_err(|e| failed(path, e))
}

/// Changes by table and key: neighbours share pages, and each table is opened once.
fn in_order(rows: &[RowChange]) -> impl Iterator<Item = (Table, &Bytes, Option<&Bytes>)> {
    let mut rows: Vec<&RowChange> = rows.iter().collect();
    rows.sort_by(|a, b| (a.table as u8, &a.key).cmp(&(b.table as u8, &b.key)));
    rows.into_iter()
        .map(|row| (row.table, &row.key, row.value.as_ref()))
}

fn put_rows<'a>(
    transaction: &WriteTransaction,
    path: &Path,
    rows: impl Iterator<Item = (Table, &'a Bytes, Option<&'a Bytes>)>,
) -> Result<(), StorageError> {
    let mut sealed = Vec::new();
    let mut open = None;
    for (table, key, value) in rows {
        // A table can be open only once at a time, so the one before is closed first.
        let mut into = match open.take() {
            Some((number, into)) if number == table => into,
            other => {
                drop(other);
                transaction
                    .open_table(definition(table))
                    .map_err(|e| failed(path, e))?
            }
        };
        match value {
            Some(value) => {
                codec::seal_into(&mut sealed, &[&[table as u8], key], value);
                into.insert(&key[..], sealed.as_slice())
                    .map_err(|e| failed(path, e))?;
            }
            None => {
                into.remove(&key[..]).map_err(|e| failed(path, e))?;
            }
        }
        open = Some((table, into));
    }
    Ok(())
}

fn put_file(
    transaction: &WriteTransaction,
    path: &Path,
    key: &str,
    body: &[u8],
) -> Result<(), StorageError> {
    let mut sealed = Vec::new();
    codec::seal_into(&mut sealed, &[key.as_bytes()], body);
    let mut table = transaction.open_table(FILE).map_err(|e| failed(path, e))?;
    table
        .insert(key, sealed.as_slice())
        .map_err(|e| failed(path, e))?;
    Ok(())
}

fn read_covered(
    transaction: &ReadTransaction,
    path: &Path,
    identity: Identity,
) -> Result<Covered, StorageError> {
    let table = transaction
        .open_table(FILE)
        .map_err(|e| StorageError::database("read", path, e))?;
    let (format, found) = database::sealed(&table, path, IDENTITY, codec::decode_identity)?;
    if format > FORMAT {
        return Err(StorageError::Newer {
            path: path.to_owned(),
            found: format,
            supported: FORMAT,
        });
    }
    identity.check(path, found)?;
    database::sealed(&table, path, CHECKPOINT, |body| {
        let record = CheckpointRecord::decode(body).ok()?;
        let digest = u128::from_be_bytes(record.digest.try_into().ok()?);
        Some(Covered {
            meta: record.meta?.decode_into()?,
            digest,
            installed: record.installed,
        })
    })
}

fn read_rows(
    transaction: &ReadTransaction,
    path: &Path,
    mut each: impl FnMut(Table, &[u8], &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    for table in Table::ALL {
        read_table(transaction, path, table, |key, value| {
            each(table, key, value)
        })?;
    }
    Ok(())
}

fn read_table<E: From<StorageError>>(
    transaction: &ReadTransaction,
    path: &Path,
    table: Table,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let rows = match transaction.open_table(definition(table)) {
        Ok(rows) => rows,
        // Files of before there was access control have no such table, and none of its rows.
        Err(TableError::TableDoesNotExist(_)) if table == Table::Access => return Ok(()),
        Err(error) => return Err(StorageError::database("read", path, error).into()),
    };
    for row in rows
        .iter()
        .map_err(|e| StorageError::database("read", path, e))?
    {
        let (key, value) = row.map_err(|e| StorageError::database("read", path, e))?;
        let (key, value) = (key.value(), value.value());
        let value = codec::unseal(&[&[table as u8], key], value).ok_or_else(|| {
            let key = key.escape_ascii();
            StorageError::damaged(
                path,
                format!("the row `{key}` of {table:?} has a bad checksum"),
            )
        })?;
        each(key, value)?;
    }
    Ok(())
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StorageError {
    StorageError::database("write", path, error)
}
