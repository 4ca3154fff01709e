//! The few operations on files and directories that a crash must not be able to spoil.
//!
//! A new file gets its name only when its contents are on disk, and a name counts only when its directory is synced
//! (ALICE, OSDI'14). Everything is private to the user of the daemon.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};

use super::error::StorageError;

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// A copy is written only where it leaves so many bytes of the disk free: the log must never find it full, since a member
/// that cannot write its log stops.
pub(super) const LEFT_FREE: u64 = 64 << 20;

/// Whether a copy of about so many bytes, or what is left to be written of one, has room in a directory.
///
/// # Errors
/// [`StorageError::NoRoom`] where it has not, or the disk does not say.
pub(super) fn check_room(dir: &Path, needed: u64) -> Result<(), StorageError> {
    let free = rustix::fs::statvfs(dir)
        .map_err(|e| StorageError::io("look at the disk of", dir, e.into()))?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    match free < needed.saturating_add(LEFT_FREE) {
        true => Err(StorageError::NoRoom {
            path: dir.to_owned(),
            free,
            needed,
        }),
        false => Ok(()),
    }
}

/// The size of a file in bytes.
pub(super) fn size(path: &Path) -> Result<u64, StorageError> {
    let metadata = fs::metadata(path).map_err(|e| StorageError::io("look at", path, e))?;
    Ok(metadata.len())
}

/// Opens an existing file for reading and writing; `None` where there is none. Never follows a symbolic link.
pub(super) fn open(path: &Path) -> Result<Option<File>, StorageError> {
    match options().open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open", path, error)),
    }
}

/// Opens an existing file for reading alone; `None` where there is none. Never follows a symbolic link.
pub(super) fn open_to_read(path: &Path) -> Result<Option<File>, StorageError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("open", path, error)),
    }
}

/// Gives a file a second name.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::hard_link(from, to).map_err(|e| StorageError::io("give a second name to", from, e))
}

/// Makes a new empty file, in place of what has the name.
pub(super) fn create(path: &Path) -> Result<File, StorageError> {
    options()
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|e| StorageError::io("create", path, e))
}

/// Opens a file, or makes it where there is none; what is in it stays.
pub(super) fn open_or_create(path: &Path) -> Result<File, StorageError> {
    options()
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| StorageError::io("open", path, e))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(PRIVATE_FILE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Makes a directory, and those above it, and syncs its name.
pub(super) fn create_dir(path: &Path) -> Result<(), StorageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR)
        .create(path)
        .map_err(|e| StorageError::io("create the directory", path, e))?;
    sync_dir(parent(path))
}

/// Makes names that were added to, changed in or removed from a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    let dir = File::open(path).map_err(|e| StorageError::io("open the directory", path, e))?;
    dir.sync_all()
        .map_err(|e| StorageError::io("sync the directory", path, e))
}

/// Makes the contents of a file durable.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), StorageError> {
    file.sync_all()
        .map_err(|e| StorageError::io("sync", path, e))
}

/// The same for a file that is not open here.
pub(super) fn sync_named(path: &Path) -> Result<(), StorageError> {
    let file = File::open(path).map_err(|e| StorageError::io("open", path, e))?;
    sync(&file, path)
}

/// Gives a synced file its name and makes the name durable.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(|e| StorageError::io("rename to", to, e))?;
    sync_dir(parent(to))
}

/// Replaces a small file as a whole: after a crash it is the old one or the new one.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), StorageError> {
    let fresh = path.with_extension("new");
    let mut file = create(&fresh)?;
    file.write_all(contents)
        .map_err(|e| StorageError::io("write", &fresh, e))?;
    sync(&file, &fresh)?;
    rename(&fresh, path)
}

/// Reads a small file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("read", path, error)),
    }
}

/// Removes a file if it is there. The caller syncs the directory where that matters.
pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    absent_is_fine(fs::remove_file(path)).map_err(|e| StorageError::io("remove", path, e))
}

/// Removes a directory and all in it, if it is there.
pub(super) fn remove_tree(path: &Path) -> Result<(), StorageError> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(|e| StorageError::io("remove", path, e))
}

/// Whether something has this name.
pub(super) fn exists(path: &Path) -> Result<bool, StorageError> {
    path.try_exists()
        .map_err(|e| StorageError::io("look for", path, e))
}

/// Forgets what the page cache holds of a file, so that it is read from the disk. After a failed sync the cache shows
/// pages that were never written, and a new process would read them, sync "successfully", and vote by them.
pub(super) fn drop_page_cache(file: &File, path: &Path) -> Result<(), StorageError> {
    fadvise(file, 0, None, Advice::DontNeed)
        .map_err(|e| StorageError::io("drop the cached pages of", path, io::Error::from(e)))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The directory of a file.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
