//! Space that the file has and does not use goes back to the file system.
//!
//! Where most of it is free, all that is in it is written to a new file, which takes its name as an installed snapshot
//! does. That happens on the thread that writes checkpoints, for which nothing waits but the next checkpoint: backups are
//! begun and snapshots made and installed meanwhile. Owns the decision and the copy. A copy that fails, or that a snapshot
//! overtook, leaves everything as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::Database;
use tenure_state::Table;

use super::super::database::{self, contained};
use super::super::error::StorageError;
use super::super::reclaiming::{LEAST, PIECE, Reclaimed, is_mostly_free, write_piece};
use super::super::{files, smaller};
use super::{
    FORMAT, IDENTITY, OPTIONS, SharedState, StateFile, StateReader, begin, codec, commit,
    definition, failed, put_file, read_table,
};
use crate::storage::identity::Identity;

/// All that is to be copied, as it was when that began.
struct Copying {
    from: StateReader,
    fresh: PathBuf,
    identity: Identity,
    /// Bytes of the file.
    before: u64,
    /// About how many of them are used.
    used: u64,
}

impl SharedState {
    /// Writes the file anew where most of it is free; `None` where it is left as it is. Nobody else waits for the file
    /// while it is copied. After every piece it is asked whether it `goes_on`; where not, it ends at once.
    ///
    /// # Errors
    /// A bad record among those that are copied, a file whose use cannot be looked up, or an error from the moment on at
    /// which the new file takes the name of the old one: the member must stop. A new file that cannot be written is only
    /// logged.
    pub fn reclaim(&self, goes_on: &dyn Fn() -> bool) -> Result<Option<Reclaimed>, StorageError> {
        self.reclaim_from(LEAST, goes_on)
    }

    /// The same for files of at least so many bytes.
    ///
    /// # Errors
    /// As [`SharedState::reclaim`].
    pub fn reclaim_from(
        &self,
        least: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<Reclaimed>, StorageError> {
        let Some(copying) = self.lock().mostly_free(least)? else {
            return Ok(None);
        };
        let copied = files::check_room(files::parent(&copying.fresh), copying.used);
        let copied = match copied {
            Ok(()) => contained(&copying.fresh, || Ok(copying.copy(goes_on)))
                .unwrap_or_else(|panicked| Err(Ended::Failed(panicked))),
            Err(error) => Err(Ended::Failed(error)),
        };
        let reclaimed = match copied {
            Ok(db) => self.lock().become_copy(db, &copying)?,
            Err(Ended::Stopped) => None,
            Err(Ended::Failed(StorageError::Damaged {
                path,
                reason,
                remedy,
            })) if path == copying.from.path => {
                return Err(StorageError::Damaged {
                    path,
                    reason,
                    remedy,
                });
            }
            Err(Ended::Failed(error)) => {
                tracing::warn!(%error, "a smaller state file cannot be written, the one in use stays");
                None
            }
        };
        if reclaimed.is_none() {
            // What is left of it goes at the next start at the latest.
            let _ = files::remove(&copying.fresh);
        }
        Ok(reclaimed)
    }
}

impl StateFile {
    /// What is to be copied, where most of the file is free.
    fn mostly_free(&self, least: u64) -> Result<Option<Copying>, StorageError> {
        let before = files::size(&self.path)?;
        if before < least {
            return Ok(None);
        }
        let used = self.used()?;
        if !is_mostly_free(before, used) {
            return Ok(None);
        }
        Ok(Some(Copying {
            from: self.reader()?,
            fresh: smaller(&self.path),
            identity: self.identity,
            before,
            used,
        }))
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

    /// Goes on with the copy; `None` where there is another file by now than the one that was copied.
    fn become_copy(
        &mut self,
        db: Database,
        copying: &Copying,
    ) -> Result<Option<Reclaimed>, StorageError> {
        if !Arc::ptr_eq(&copying.from.db, &self.db) || copying.from.covered != self.covered {
            return Ok(None);
        }
        self.begin_failing()?;
        files::sync_named(&copying.fresh)?;
        files::rename(&copying.fresh, &self.path)?;
        self.become_file(StateFile {
            db: Arc::new(db),
            path: self.path.clone(),
            identity: self.identity,
            covered: self.covered.clone(),
            failed: false,
        });
        Ok(Some(Reclaimed {
            before: copying.before,
            after: files::size(&self.path)?,
        }))
    }
}

/// Why a copy is not whole.
enum Ended {
    /// It was not to go on.
    Stopped,
    Failed(StorageError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Ended {
        Ended::Failed(error)
    }
}

impl Copying {
    /// A new file with all of it.
    fn copy(&self, goes_on: &dyn Fn() -> bool) -> Result<Database, Ended> {
        let (from, fresh) = (&self.from, self.fresh.as_path());
        let db = database::create(fresh, OPTIONS)?;
        for table in Table::ALL {
            let mut piece = Piece::default();
            read_table(&from.transaction, &from.path, table, |key, value| {
                piece.add(table, key, value);
                if piece.bytes < PIECE {
                    return Ok(());
                }
                if !goes_on() {
                    return Err(Ended::Stopped);
                }
                Ok(write_piece(fresh, || piece.write(&db, fresh, table))?)
            })?;
            if !goes_on() {
                return Err(Ended::Stopped);
            }
            piece.write(&db, fresh, table)?;
        }
        let transaction = begin(&db, fresh)?;
        let identity = codec::encode_identity(FORMAT, self.identity);
        put_file(&transaction, fresh, IDENTITY, &identity)?;
        commit(transaction, fresh, &from.covered)?;
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

    /// Writes the rows into their table, which is there afterwards, and forgets them.
    fn write(&mut self, db: &Database, path: &Path, table: Table) -> Result<(), StorageError> {
        let transaction = begin(db, path)?;
        let mut into = transaction
            .open_table(definition(table))
            .map_err(|e| failed(path, e))?;
        for (key, sealed) in self.rows.drain(..) {
            into.insert(key.as_slice(), sealed.as_slice())
                .map_err(|e| failed(path, e))?;
        }
        drop(into);
        self.bytes = 0;
        transaction.commit().map_err(|e| failed(path, e))
    }
}
