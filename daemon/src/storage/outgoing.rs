//! Snapshots that this member made for others.
//!
//! Each is one file, `snap-<term>-<index>.tsnap`, written from a read of the state file while checkpoints go on, and
//! streamed from disk, so that a slow follower pins no pages of the state and may resume anywhere. Owns who still
//! uses which file. They are copies: whatever is there at a start is removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tenure_raft::{LogIndex, MemberId, SnapshotFile};

use super::error::StorageError;
use super::files;
use super::identity::ClusterId;
use super::snapshot::{Header, SnapshotWriter};
use super::state_file::StateReader;

/// While a snapshot is written it is synced whenever so many bytes are new, so that a sync of the log never waits
/// behind hundreds of megabytes.
const SYNC_EVERY: u64 = 8 << 20;

/// No piece that is read is longer, whatever is asked for.
const PIECE_LIMIT: u64 = 16 << 20;

/// The snapshots being sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    dir: PathBuf,
    cluster: ClusterId,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    file: SnapshotFile,
    path: PathBuf,
    handle: File,
    users: BTreeSet<MemberId>,
}

impl Outgoing {
    /// Removes what an earlier process left behind.
    pub(super) fn open(dir: &Path, cluster: ClusterId) -> Result<Outgoing, StorageError> {
        let entries = fs::read_dir(dir).map_err(|e| StorageError::io("list", dir, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| StorageError::io("list", dir, e))?;
            if entry.file_name().to_string_lossy().starts_with("snap-") {
                files::remove(&entry.path())?;
            }
        }
        Ok(Outgoing {
            dir: dir.to_owned(),
            cluster,
            made: Vec::new(),
        })
    }

    /// Where they lie.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file for `to` at `at_least` or later that is there already.
    pub(super) fn reuse(
        &mut self,
        to: MemberId,
        at_least: LogIndex,
    ) -> Result<Option<SnapshotFile>, StorageError> {
        self.forget(to)?;
        let newest = self
            .made
            .iter_mut()
            .max_by_key(|made| made.file.meta.position);
        Ok(newest
            .filter(|made| made.file.meta.position.index >= at_least)
            .map(|made| {
                made.users.insert(to);
                made.file.clone()
            }))
    }

    /// Writes the state that `reader` sees to a file for `to`.
    pub(super) fn make(
        &mut self,
        to: MemberId,
        reader: StateReader,
    ) -> Result<SnapshotFile, StorageError> {
        // The pages of the state file are about what a snapshot takes, and rarely less.
        files::check_room(&self.dir, files::size(reader.path())?)?;
        let position = reader.covers().position;
        let path = self
            .dir
            .join(format!("snap-{}-{}.tsnap", position.term, position.index));
        let part = path.with_extension("part");
        let (handle, file) = dump(&part, self.cluster, reader).inspect_err(|_| {
            // The disk may be full, and half a snapshot is of no use to anybody. The first error is the one to tell.
            let _ = files::remove(&part);
        })?;
        files::rename(&part, &path)?;
        self.made.push(Made {
            file: file.clone(),
            path,
            handle,
            users: [to].into(),
        });
        Ok(file)
    }

    /// A piece of a file; shorter than asked for at its end, `None` where the file is not there any more.
    pub(super) fn piece(
        &self,
        file: &SnapshotFile,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StorageError> {
        let Some(made) = self.made.iter().find(|made| same(&made.file, file)) else {
            return Ok(None);
        };
        let length = length
            .min(PIECE_LIMIT)
            .min(file.size.saturating_sub(offset));
        let mut piece = vec![0; usize::try_from(length).expect("a piece is bounded")];
        made.handle
            .read_exact_at(&mut piece, offset)
            .map_err(|e| StorageError::io("read", &made.path, e))?;
        Ok(Some(piece.into()))
    }

    /// `to` needs the file no more; it is removed when nobody else does.
    pub(super) fn release(
        &mut self,
        to: MemberId,
        file: &SnapshotFile,
    ) -> Result<(), StorageError> {
        for made in self.made.iter_mut().filter(|made| same(&made.file, file)) {
            made.users.remove(&to);
        }
        self.remove_unused()
    }

    /// `to` asks anew, so it uses nothing that it asked for before.
    fn forget(&mut self, to: MemberId) -> Result<(), StorageError> {
        for made in &mut self.made {
            made.users.remove(&to);
        }
        self.remove_unused()
    }

    fn remove_unused(&mut self) -> Result<(), StorageError> {
        let mut result = Ok(());
        self.made.retain(|made| {
            let used = !made.users.is_empty();
            if !used {
                result = files::remove(&made.path).and(std::mem::replace(&mut result, Ok(())));
            }
            used
        });
        result
    }
}

/// Whether two names name the same file.
pub(super) fn same(a: &SnapshotFile, b: &SnapshotFile) -> bool {
    (a.meta.position, a.size, a.digest) == (b.meta.position, b.size, b.digest)
}

/// A long file on its way to the disk, which is not to be all there at once.
pub(super) struct Syncing<'a> {
    handle: &'a File,
    path: &'a Path,
    synced: u64,
}

impl<'a> Syncing<'a> {
    pub(super) fn of(handle: &'a File, path: &'a Path) -> Syncing<'a> {
        Syncing {
            handle,
            path,
            synced: 0,
        }
    }

    /// So many bytes were written so far. Others write as well, so that the room for it is looked at again and again.
    ///
    /// # Errors
    /// Where the disk has no room for more of it, or fails.
    pub(super) fn wrote(&mut self, size: u64) -> Result<(), StorageError> {
        if size - self.synced >= SYNC_EVERY {
            files::check_room(files::parent(self.path), SYNC_EVERY)?;
            self.handle
                .sync_data()
                .map_err(|e| StorageError::io("sync", self.path, e))?;
            self.synced = size;
        }
        Ok(())
    }
}

fn dump(
    path: &Path,
    cluster: ClusterId,
    reader: StateReader,
) -> Result<(File, SnapshotFile), StorageError> {
    let handle = files::create(path)?;
    let header = Header {
        cluster,
        meta: reader.covers().clone(),
        digest: reader.digest(),
    };
    let failed = |error: io::Error| StorageError::io("write", path, error);
    let mut writer = SnapshotWriter::new(BufWriter::new(&handle), &header).map_err(failed)?;
    let mut syncing = Syncing::of(&handle, path);
    reader.rows(|table, key, value| {
        let size = writer.row(table, key, value).map_err(failed)?;
        syncing.wrote(size)
    })?;
    drop(reader);
    let (mut out, size, digest) = writer.finish().map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(out);
    files::sync(&handle, path)?;
    Ok((
        handle,
        SnapshotFile {
            meta: header.meta,
            size,
            digest,
        },
    ))
}
