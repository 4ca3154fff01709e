//! Opening redb so that neither ghosts in the page cache nor a damaged file can do harm.
//!
//! Owns the sorting of the library's errors and panics. The library verifies no checksum when it reads and may panic
//! on damaged pages, so all that reads a file at start runs inside [`contained`].

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableTable, StorageBackend, WriteTransaction};

use super::codec;
use super::error::StorageError;
use super::files;
use super::read_only::ReadOnly;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Bytes of the file that may be kept in memory.
    pub(super) cache: usize,
    /// Whether the library verifies all its pages first: for a file whose size is bounded.
    pub(super) verify: bool,
}

/// Opens the database in an existing file, reading from the disk and not from the page cache.
pub(super) fn open(path: &Path, options: Options) -> Result<Database, StorageError> {
    let file = existing(path, files::open(path)?)?;
    let backend = FileBackend::new(file).map_err(|e| StorageError::database("open", path, e))?;
    over(backend, path, options)
}

/// Opens the database in an existing file, of which nothing is written.
pub(super) fn look(path: &Path, options: Options) -> Result<Database, StorageError> {
    let file = existing(path, files::open_to_read(path)?)?;
    let backend = ReadOnly::new(file).map_err(|e| StorageError::io("look at", path, e))?;
    over(backend, path, options)
}

/// A file that is there, has something in it, and is read from the disk.
fn existing(path: &Path, file: Option<File>) -> Result<File, StorageError> {
    let Some(file) = file else {
        return Err(StorageError::damaged(path, "it is missing"));
    };
    let metadata = file
        .metadata()
        .map_err(|e| StorageError::io("look at", path, e))?;
    if metadata.len() == 0 {
        return Err(StorageError::damaged(path, "it is empty"));
    }
    files::drop_page_cache(&file, path)?;
    Ok(file)
}

/// Makes a new database in a file of this name, in place of what is there. A crash on the way leaves a file that can
/// never be opened: the caller gives the file its real name only when it is complete.
pub(super) fn create(path: &Path, options: Options) -> Result<Database, StorageError> {
    let file = files::create(path)?;
    let backend = FileBackend::new(file).map_err(|e| StorageError::database("create", path, e))?;
    over(backend, path, options)
}

/// Opens the database that lies on `backend`, or makes one where the backend is empty.
pub(super) fn over(
    backend: impl StorageBackend,
    path: &Path,
    options: Options,
) -> Result<Database, StorageError> {
    let mut builder = Database::builder();
    builder
        .set_cache_size(options.cache)
        .set_check_integrity_on_open(options.verify);
    contained(path, || {
        builder
            .create_with_backend(backend)
            .map_err(|e| StorageError::database("open", path, e))
    })
}

/// Begins a transaction that is on the disk when its commit returns.
pub(super) fn begin_write(db: &Database, path: &Path) -> Result<WriteTransaction, StorageError> {
    let mut transaction = db
        .begin_write()
        .map_err(|e| StorageError::database("begin a write to", path, e))?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(|e| StorageError::database("begin a write to", path, e))?;
    Ok(transaction)
}

/// Runs what may panic on a damaged file, and calls a panic damage.
pub(super) fn contained<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    // Whatever a panic left half done is dropped with the file's handle; nobody uses it again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(StorageError::damaged(
            path,
            format!("the database library panicked: {}", message(&*panic)),
        ))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "without a message"
    }
}

/// What was sealed under a key of a table that has one value of each kind.
pub(super) fn sealed<T>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    path: &Path,
    key: &str,
    decode: fn(&[u8]) -> Option<T>,
) -> Result<T, StorageError> {
    let value = table
        .get(key)
        .map_err(|e| StorageError::database("read", path, e))?;
    value
        .as_ref()
        .and_then(|value| decode(codec::unseal(&[key.as_bytes()], value.value())?))
        .ok_or_else(|| {
            StorageError::damaged(
                path,
                format!("its `{key}` is missing or has a bad checksum"),
            )
        })
}
