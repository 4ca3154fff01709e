//! Space that the file has and does not use goes back to the file system.
//!
//! The library gives back only what is free at the very end of a file, and its own compaction needs the file to itself.
//! So where most of it is free, all that is in it is written to a new file, which takes its name as an installed snapshot
//! does. That happens on the thread that writes checkpoints, for which nothing waits but the next checkpoint. Owns the
//! decision and the copy. A copy that fails leaves everything as it was.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, WriteTransaction};
use tenure_state::Table;

use super::super::database::{self, contained};
use super::super::error::StorageError;
use super::super::{files, unfinished};
use super::{
    FORMAT, IDENTITY, OPTIONS, StateFile, begin, codec, commit, definition, failed, put_file,
    read_table,
};

/// Smaller files are left as they are: growing again takes more than they waste.
const LEAST: u64 = 64 << 20;
/// A file is written anew where what is in it takes less than one in so many parts of it.
const ONE_IN: u64 = 4;
/// Between two looks at how much of a file is used, each of which reads all of its tree.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// A copy is synced whenever it has so many more bytes, so that a sync of the log never waits behind hundreds of
/// megabytes, and rests for as long as that took, but no longer than this.
const PIECE: u64 = 8 << 20;
const LONGEST_REST: Duration = Duration::from_millis(100);
/// The first look after a start: whoever frees much and then restarts a member sees it soon.
const FIRST_LOOK: Duration = Duration::from_secs(60);

/// When the file is to be looked at again.
#[derive(Debug)]
pub(in super::super) struct Looks(Instant);

impl Looks {
    pub(in super::super) fn begin() -> Looks {
        Looks(Instant::now() + FIRST_LOOK)
    }

    /// Whether the time has come, which it then does not again for a while.
    pub(in super::super) fn is_due(&mut self) -> bool {
        let due = self.0 <= Instant::now();
        if due {
            self.0 = Instant::now() + LOOK_EVERY;
        }
        due
    }
}

/// How large the file was and is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reclaimed {
    /// Before, in bytes.
    pub before: u64,
    /// Since then.
    pub after: u64,
}

impl StateFile {
    /// Writes the file anew where most of it is free; `None` where it is left as it is.
    ///
    /// # Errors
    /// A bad record among those that are copied, or an error from the moment on at which the new file takes the name of
    /// the old one: the member must stop. A new file that cannot be written is only logged.
    pub fn reclaim(&mut self) -> Result<Option<Reclaimed>, StorageError> {
        self.reclaim_from(LEAST)
    }

    /// The same for files of at least so many bytes.
    ///
    /// # Errors
    /// As [`StateFile::reclaim`].
    pub fn reclaim_from(&mut self, least: u64) -> Result<Option<Reclaimed>, StorageError> {
        let before = files::size(&self.path)?;
        if before < least {
            return Ok(None);
        }
        let used = self.used()?;
        if before / ONE_IN <= used {
            return Ok(None);
        }
        let fresh = unfinished(&self.path);
        let copied = files::check_room(files::parent(&self.path), used)
            .and_then(|()| contained(&self.path, || self.copy(&fresh)));
        let db = match copied {
            Ok(db) => db,
            Err(error @ StorageError::Damaged { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a smaller state file cannot be written, the one in use stays");
                // What is left of it goes at the next start at the latest.
                let _ = files::remove(&fresh);
                return Ok(None);
            }
        };
        self.begin_failing()?;
        files::sync_named(&fresh)?;
        files::rename(&fresh, &self.path)?;
        self.become_file(StateFile {
            db: Arc::new(db),
            path: self.path.clone(),
            identity: self.identity,
            covered: self.covered.clone(),
            failed: false,
        });
        let after = files::size(&self.path)?;
        Ok(Some(Reclaimed { before, after }))
    }

    /// About how many bytes of the file are used.
    fn used(&self) -> Result<u64, StorageError> {
        contained(&self.path, || {
            let transaction = begin(&self.db, &self.path)?;
            let stats = transaction.stats().map_err(|e| failed(&self.path, e))?;
            transaction.abort().map_err(|e| failed(&self.path, e))?;
            Ok(stats.stored_bytes() + stats.metadata_bytes())
        })
    }

    /// A new file of this name with all that is in this one.
    fn copy(&self, fresh: &Path) -> Result<Database, StorageError> {
        let db = database::create(fresh, OPTIONS)?;
        let from = self.reader()?;
        for table in Table::ALL {
            let mut piece = Piece::default();
            read_table(&from.transaction, &self.path, table, |key, value| {
                piece.add(table, key, value);
                if piece.bytes < PIECE {
                    return Ok(());
                }
                let begun = Instant::now();
                files::check_room(files::parent(fresh), PIECE)?;
                let transaction = begin(&db, fresh)?;
                piece.put(&transaction, fresh, table)?;
                transaction.commit().map_err(|e| failed(fresh, e))?;
                // The log, whose syncs may wait behind this one, has the disk for as long.
                std::thread::sleep(begun.elapsed().min(LONGEST_REST));
                Ok(())
            })?;
            let transaction = begin(&db, fresh)?;
            piece.put(&transaction, fresh, table)?;
            transaction.commit().map_err(|e| failed(fresh, e))?;
        }
        let transaction = begin(&db, fresh)?;
        let identity = codec::encode_identity(FORMAT, self.identity);
        put_file(&transaction, fresh, IDENTITY, &identity)?;
        commit(transaction, fresh, &self.covered)?;
        Ok(db)
    }
}

/// Rows of a table that are written together, sealed.
#[derive(Default)]
struct Piece {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: u64,
}

impl Piece {
    fn add(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let mut sealed = Vec::new();
        codec::seal_into(&mut sealed, &[&[table as u8], key], value);
        self.bytes += (key.len() + sealed.len()) as u64;
        self.rows.push((key.to_vec(), sealed));
    }

    /// Puts the rows into their table, which is there afterwards, and forgets them.
    fn put(
        &mut self,
        transaction: &WriteTransaction,
        path: &Path,
        table: Table,
    ) -> Result<(), StorageError> {
        let mut into = transaction
            .open_table(definition(table))
            .map_err(|e| failed(path, e))?;
        for (key, sealed) in self.rows.drain(..) {
            into.insert(key.as_slice(), sealed.as_slice())
                .map_err(|e| failed(path, e))?;
        }
        self.bytes = 0;
        Ok(())
    }
}
