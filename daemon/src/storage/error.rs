//! What can go wrong with a member's files, and what a person can do about it.
//!
//! Owns one distinction above all: a file that is damaged or not ours must be looked at by a person (exit code 3),
//! an operation that failed may work again after a restart (exit code 1). After either the member stops: an error of
//! a write or a sync leaves it unknown what the disk holds, so nothing is ever tried a second time.

use std::io;
use std::path::{Path, PathBuf};

use tenure_replica::remedy;

use super::files::LEFT_FREE;

/// Why a file of this member cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused an operation on a file, or the disk failed it.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database library failed an operation. Whether the transaction in hand took effect is unknown until the file
    /// is opened again.
    #[error("cannot {action} {}: {source}", .path.display())]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: Box<redb::Error>,
    },
    /// The file is not what was written there: a bad checksum, a gap, a missing part.
    #[error("{} is damaged: {reason}; {remedy}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The file was written by a newer version of Tenure.
    #[error(
        "{} has format {found} and this version reads up to {supported}: start the newer version that wrote it",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// A snapshot of the leader's follows rules that this member does not: without it, it cannot go on.
    #[error(
        "the leader sends a state of state version {found}, and this member follows up to {most}: {}", remedy(*.most)
    )]
    NewerRules {
        /// The version of the rules.
        found: u64,
        /// The newest version that this member follows.
        most: u64,
    },
    /// The file belongs to another cluster or member.
    #[error(
        "{} belongs to {kind} {found}, not to {expected}: files of different members were mixed up, put back the data \
         directory that belongs here",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `cluster` or `member`.
        kind: &'static str,
        /// What the file says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Another process works on the data directory.
    #[error(
        "the data directory {} is in use by {}: stop that process or choose another directory",
        .path.display(), holder(.pid)
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The process that has it, where its lock file says so.
        pid: Option<u32>,
    },
    /// The data directory is a symbolic link or no directory.
    #[error("{} is {found}: name a real directory", .path.display())]
    NotADirectory {
        /// The path as configured.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The disk has too little room for a copy that may as well be made later.
    #[error(
        "{free} bytes are free on the disk of {}, and what is to be written there needs about {needed}, and leaves \
         {LEFT_FREE} to the log",
        .path.display()
    )]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// About what it needs, in bytes.
        needed: u64,
    },
    /// What was to be written contradicts what the file holds: a defect of the program, noticed before it did harm.
    #[error("refused to write to {}: {reason}", .path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// What to do about a damaged file of the log or state: the rest of the cluster has its contents.
pub(super) const REPLACE: &str = "do not delete it alone: move the whole data directory away and replace this member, \
     or restore a backup of the cluster";

/// What to do about a damaged file that only names the member.
pub(super) const RESTORE: &str =
    "put back the file, or move the whole data directory away and replace this member";

impl StorageError {
    /// The exit code that fits: 3 for what is damaged or not ours, 1 for what failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            StorageError::Damaged { .. }
            | StorageError::Newer { .. }
            | StorageError::NewerRules { .. }
            | StorageError::Foreign { .. } => 3,
            StorageError::Io { .. }
            | StorageError::Database { .. }
            | StorageError::InUse { .. }
            | StorageError::NotADirectory { .. }
            | StorageError::NoRoom { .. }
            | StorageError::Contradiction { .. } => 1,
        }
    }

    /// Whether the disk had no room for the operation.
    pub fn is_out_of_space(&self) -> bool {
        let error = match self {
            StorageError::Io { source, .. } => source,
            StorageError::Database { source, .. } => match &**source {
                redb::Error::Io(error) => error,
                _ => return false,
            },
            StorageError::NoRoom { .. } => return true,
            _ => return false,
        };
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> StorageError {
        StorageError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> StorageError {
        StorageError::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
            remedy: REPLACE,
        }
    }

    /// A thread that owns files panicked: what it left undone is unknown.
    pub(super) fn panicked(thread: &str) -> StorageError {
        StorageError::contradiction(Path::new(thread), "the thread of this name panicked")
    }

    pub(super) fn contradiction(path: &Path, reason: impl Into<String>) -> StorageError {
        StorageError::Contradiction {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// Sorts an error of the database library into damage and failure.
    pub(super) fn database(
        action: &'static str,
        path: &Path,
        source: impl Into<redb::Error>,
    ) -> StorageError {
        let source = source.into();
        match &source {
            redb::Error::Io(error) if is_damage(error.kind()) => {
                StorageError::damaged(path, format!("the database library says: {error}"))
            }
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_) => {
                StorageError::damaged(path, format!("the database library says: {source}"))
            }
            redb::Error::DatabaseAlreadyOpen => StorageError::InUse {
                path: path.to_owned(),
                pid: None,
            },
            // The library's list of errors is open-ended; what is not known to be damage is a failure.
            _ => StorageError::Database {
                action,
                path: path.to_owned(),
                source: Box::new(source),
            },
        }
    }
}

/// Whether an I/O error of the database library speaks of the contents: not a database at all, or cut short.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
    )
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}
