//! A member's files: its log, votes, state and snapshots.
//!
//! ```text
//! <data dir>/lock                          held by the running process
//! <data dir>/member.json                   who the member is; see `data_dir.rs`
//! <data dir>/log.redb                      log, term and vote; see `log_file.rs`
//! <data dir>/state.redb                    the state as of the last checkpoint; see `state_file.rs`
//! <data dir>/*.redb.new                    a forming or installation that was cut off: removed at start
//! <data dir>/*.redb.smaller                a copy of a file that was mostly free, cut off: removed at start
//! <data dir>/snapshots/snap-*.tsnap        snapshots for others; see `snapshot.rs`
//! <data dir>/snapshots/incoming.{json,part}  the snapshot being received; see `incoming.rs`
//! <data dir>/recovering, before-recovery-*   the files of a replaced member; see `offline.rs`
//! ```
//!
//! Owns every byte that must outlive the process, and the order in which bytes become durable. Everything blocks, on
//! threads of its own: [`LogThread`] for the one sync that a write costs, [`StateThread`] for checkpoints,
//! [`SnapshotThread`] for all that is long. Never retries: after an error of a write or a sync nobody knows what the
//! disk holds, so the file refuses everything after it and the member must stop.
//!
//! The log is the last file to get its name, so a member belongs to a cluster wholly or not at all. Formats carry a version;
//! every file carries the cluster and the member it belongs to, and a checksum in every record and row, because the
//! database library verifies nothing when it reads. Left out: repairing a damaged file, which is what the other
//! members are for.

mod error;

mod data_dir;
mod files;
mod identity;

mod codec;
mod database;
mod log_file;
mod reclaiming;
mod record;
mod state_file;

mod incoming;
mod outgoing;
mod snapshot;

mod backup;
mod backups;

mod offline;
mod read_only;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

mod log_thread;
mod snapshot_thread;
mod state_thread;
mod worker;

use std::path::{Path, PathBuf};

use redb::StorageBackend;
use tenure_raft::{LogPosition, SnapshotMeta};
use tenure_state::Row;

pub use backup::{BACKUP_FORMAT, Backup, Origin, STATE_IN_BACKUP_FORMAT};
pub use backups::{BackupError, Backups, MadeBackup};
pub use data_dir::{DataDir, Held, Labelled};
pub use error::StorageError;
pub use identity::{ClusterId, Identity};
pub use log_file::{LogContents, LogCopy, LogCopying, LogFile, Written};
pub use log_thread::{LogEvent, LogThread};
pub use offline::{Moved, Offline, Stored, finish_replacing, found, is_half_replaced, replace};
pub use reclaiming::Reclaimed;
pub use snapshot_thread::{
    CheckRows, SnapshotEvent, SnapshotRequest, SnapshotThread, Snapshots, Unfit,
};
pub use state_file::{CheckpointOutcome, Loaded, SharedState, StateFile};
pub use state_thread::{StateEvent, StateThread};

/// The open files of a formed member, and what was in them.
#[derive(Debug)]
pub struct Opened {
    /// The cluster and the member.
    pub identity: Identity,
    /// The log, for a [`LogThread`].
    pub log: LogFile,
    /// What was in the log.
    pub contents: LogContents,
    /// The state, for a [`StateThread`] and a [`SnapshotThread`].
    pub state: SharedState,
    /// What was in the state. Where it is ahead of the log, or at odds with it, a snapshot was installed and the log
    /// is to be reset to it; [`open`] has checked that nothing else explains it.
    pub loaded: Loaded,
    /// Snapshots in transit, for a [`SnapshotThread`].
    pub snapshots: Snapshots,
}

/// Opens the files of a member, or `None` where it belongs to no cluster yet.
///
/// # Errors
/// Damage, a newer format, files of another cluster or member, or files that do not belong together.
pub fn open(dir: &DataDir) -> Result<Option<Opened>, StorageError> {
    offline::check_replaced(dir.path())?;
    files::remove(&unfinished(&dir.log()))?;
    files::remove(&unfinished(&dir.state()))?;
    files::remove(&smaller(&dir.log()))?;
    files::remove(&smaller(&dir.state()))?;
    if !files::exists(&dir.log())? {
        return not_formed(dir);
    }
    let (log, identity, contents) = LogFile::open_as(&dir.log(), dir.member(), dir.cluster())?;
    if dir.cluster().is_none() {
        dir.note_cluster(identity.cluster)?;
    }
    let (state, loaded) = StateFile::open(&dir.state(), identity)?;
    check_pair(&dir.log(), &contents, &dir.state(), &loaded)?;
    let snapshots = Snapshots::open(&dir.snapshots(), identity.cluster)?;
    Ok(Some(Opened {
        identity,
        log,
        contents,
        state: SharedState::new(state),
        loaded,
        snapshots,
    }))
}

/// A log and a state that belong together.
#[derive(Debug)]
pub struct Pair {
    /// The log.
    pub log: LogFile,
    /// What was in the log.
    pub contents: LogContents,
    /// The state.
    pub state: StateFile,
    /// What was in the state; see [`Opened::loaded`].
    pub loaded: Loaded,
}

/// Opens a log and a state on storages of the caller's, as [`open`] does with those of a data directory.
///
/// # Errors
/// As [`open`].
pub fn open_on(
    log: impl StorageBackend,
    state: impl StorageBackend,
    identity: Identity,
) -> Result<Pair, StorageError> {
    let (log_path, state_path) = (Path::new("log.redb"), Path::new("state.redb"));
    let (log, contents) = LogFile::open_on(log, log_path, identity)?;
    let (state, loaded) = StateFile::open_on(state, state_path, identity)?;
    check_pair(log_path, &contents, state_path, &loaded)?;
    Ok(Pair {
        log,
        contents,
        state,
        loaded,
    })
}

/// Makes a member part of a cluster: its log begins behind `base`, its state is `rows`. When it returns, all of it is
/// durable; cut off at any point, it leaves a member that belongs to no cluster, and may be called again. `founding` is
/// what the cluster is formed with, in the words of the caller; it is kept as it is for as long as the member lives.
///
/// # Errors
/// Any error of the disk, or a member that belongs to a cluster already.
pub fn form(
    dir: &DataDir,
    cluster: ClusterId,
    base: &SnapshotMeta,
    digest: u128,
    rows: &[Row],
    founding: &[u8],
) -> Result<(), StorageError> {
    if files::exists(&dir.log())? {
        return Err(StorageError::contradiction(
            &dir.log(),
            "the member belongs to a cluster already",
        ));
    }
    let identity = Identity {
        cluster,
        member: dir.member(),
    };
    let (log, state) = (unfinished(&dir.log()), unfinished(&dir.state()));
    LogFile::create(&log, identity, base, founding)?;
    StateFile::create(&state, identity, base, digest, rows)?;
    files::rename(&state, &dir.state())?;
    files::rename(&log, &dir.log())
}

/// There is no log: either the member was never part of a cluster, or its memory of votes is lost.
fn not_formed(dir: &DataDir) -> Result<Option<Opened>, StorageError> {
    if dir.cluster().is_some() {
        return Err(StorageError::damaged(&dir.log(), "it is missing"));
    }
    // A forming was cut off before the log got its name: nothing was said or voted for by this state.
    files::remove(&dir.state())?;
    Ok(None)
}

/// The name of a file while it is being made.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// The name of a file while all that is in another is copied into it. A snapshot may be installed meanwhile.
fn smaller(path: &Path) -> PathBuf {
    path.with_extension("redb.smaller")
}

/// Whether the log carries on where the state ends. A log that ends before a checkpoint, or disagrees with it, has
/// lost what was durable, unless a snapshot was installed and the log's reset was cut off.
fn check_pair(
    log_path: &Path,
    log: &LogContents,
    state_path: &Path,
    state: &Loaded,
) -> Result<(), StorageError> {
    let (at, base) = (state.meta.position, log.base.position);
    if at.index < base.index {
        let reason = format!(
            "it covers entries up to {}, and the log begins behind {}",
            at.index, base.index
        );
        return Err(StorageError::damaged(state_path, reason));
    }
    if state.installed || position_at(log, at) == Some(at) {
        return Ok(());
    }
    let reason = format!(
        "it ends at entry {} of term {} and does not hold entry {} of term {}, which the state covers",
        log.last().index,
        log.last().term,
        at.index,
        at.term
    );
    Err(StorageError::damaged(log_path, reason))
}

/// What the log has at an index at or behind its base.
fn position_at(log: &LogContents, at: LogPosition) -> Option<LogPosition> {
    let behind = at.index.0.checked_sub(log.base.position.index.0)?;
    match usize::try_from(behind).ok()?.checked_sub(1) {
        None => Some(log.base.position),
        Some(offset) => log.entries.get(offset).map(tenure_raft::Entry::position),
    }
}
