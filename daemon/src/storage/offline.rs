//! Data directories that no member runs on: read without a write, founded, and replaced.
//!
//! ```text
//! <data dir>/recovering/                  the new files while they are made; nothing reads them
//! <data dir>/before-recovery-<time>/      the old ones afterwards, with all that lay in `snapshots`
//! ```
//!
//! Owns the order in which the files of a member that was made offline come to be: as in [`form`](super::form), a directory
//! belongs to a cluster wholly or not at all. Of a replacement that is cut off each file is the old one or the new one, and
//! a member that is started over a mixture refuses, because ids differ.

use std::path::{Path, PathBuf};

use tenure_raft::SnapshotMeta;
use tenure_state::State;

use super::data_dir::{DataDir, Held, LOG, Labelled, MEMBER, STATE};
use super::error::StorageError;
use super::files;
use super::identity::{ClusterId, Identity};
use super::log_file::{self, LogContents, LogFile};
use super::state_file::{self, Loaded, StateFile};

/// Where new files are made.
const FRESH: &str = "recovering";
/// Says, among them, where the old ones are kept.
const KEPT: &str = "kept";

/// What is in the files of a member, all of it checked.
#[derive(Debug)]
pub struct Offline {
    /// What `member.json` says.
    pub label: Labelled,
    /// Its log and state; `None` where it never belonged to a cluster.
    pub stored: Option<Stored>,
}

/// The log and the state of a member.
#[derive(Debug)]
pub struct Stored {
    /// Whose they are.
    pub identity: Identity,
    /// The log.
    pub log: LogContents,
    /// The state as of its last checkpoint.
    pub state: Loaded,
    /// Whether the log carries on where the state ends; else a snapshot was installed and nothing of the log counts.
    pub log_counts: bool,
}

impl Stored {
    /// The version of the format of the log file.
    pub const LOG_FORMAT: u32 = log_file::FORMAT;
    /// The version of the format of the state file.
    pub const STATE_FORMAT: u32 = state_file::FORMAT;
}

impl Offline {
    /// Reads the files of a member, and writes nothing. `None` where the directory has none.
    ///
    /// # Errors
    /// Damage, a newer format, or files that do not belong together.
    pub fn look(held: &Held) -> Result<Option<Offline>, StorageError> {
        let Some(label) = held.labelled()? else {
            return match held.has_data()? {
                true => Err(missing(&held.path.join(MEMBER))),
                false => Ok(None),
            };
        };
        let stored = read(&held.log(), &held.state(), &label)?;
        Ok(Some(Offline { label, stored }))
    }
}

fn read(log: &Path, state: &Path, label: &Labelled) -> Result<Option<Stored>, StorageError> {
    if !files::exists(log)? {
        return match label.cluster {
            Some(_) => Err(missing(log)),
            None => Ok(None),
        };
    }
    let (identity, contents) = LogFile::look_as(log, label.member, label.cluster)?;
    let loaded = StateFile::look(state, identity)?;
    super::check_pair(log, &contents, state, &loaded)?;
    let at = loaded.meta.position;
    Ok(Some(Stored {
        identity,
        log_counts: super::position_at(&contents, at) == Some(at),
        log: contents,
        state: loaded,
    }))
}

fn missing(path: &Path) -> StorageError {
    StorageError::damaged(path, "it is missing")
}

/// Makes a member that is alone in a new cluster: its log begins behind `base`, its state is `state`.
///
/// # Errors
/// Any error of the disk, or a member that belongs to a cluster already.
pub fn found(
    dir: &DataDir,
    cluster: ClusterId,
    base: &SnapshotMeta,
    state: &State,
) -> Result<(), StorageError> {
    let rows: Vec<_> = state.rows().collect();
    // Nobody else is to receive what it was formed with.
    super::form(dir, cluster, base, state.digest(), &rows, &[])?;
    dir.note_cluster(cluster)
}

/// Goes on with a replacement that was cut off while files were given their names, and says where the old ones are. The
/// new ones are all there from the first name on.
///
/// # Errors
/// Any error of the disk.
pub fn finish_replacing(dir: &DataDir) -> Result<Option<Moved>, StorageError> {
    let fresh = dir.path().join(FRESH);
    let began = files::exists(&fresh.join(LOG))? && !files::exists(&fresh.join(MEMBER))?;
    if !began {
        return Ok(None);
    }
    let kept = files::read(&fresh.join(KEPT))?.unwrap_or_default();
    let kept = dir.path().join(String::from_utf8_lossy(&kept).into_owned());
    give_names(dir, &fresh)?;
    Ok(Some(Moved(kept)))
}

/// From the first of these on, what is there belongs to two members, until the last one.
fn give_names(dir: &DataDir, fresh: &Path) -> Result<(), StorageError> {
    for file in [MEMBER, STATE, LOG] {
        let from = fresh.join(file);
        if files::exists(&from)? {
            files::rename(&from, &dir.path().join(file))?;
        }
    }
    files::remove_tree(fresh)
}

/// Where the files of before a replacement are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved(pub PathBuf);

/// Puts a member of its own, which `make` founds in an empty directory, in place of the one in `dir`, whose files are kept
/// beside, in a folder named by `label`.
///
/// # Errors
/// Any error of the disk or of `make`; the files that do not have their new contents by then have their old ones.
pub fn replace<E: From<StorageError>>(
    dir: &DataDir,
    name: &str,
    label: &str,
    make: impl FnOnce(&DataDir) -> Result<(), E>,
) -> Result<Moved, E> {
    let fresh = dir.path().join(FRESH);
    // What an earlier attempt left of itself before anything was replaced.
    files::remove_tree(&fresh)?;
    make(&DataDir::open(&fresh, name)?)?;
    let folder = format!("before-{label}");
    let kept = dir.path().join(&folder);
    files::replace(&fresh.join(KEPT), folder.as_bytes())?;
    files::create_dir(&kept)?;
    for file in [MEMBER, STATE, LOG] {
        files::link(&dir.path().join(file), &kept.join(file))?;
    }
    files::sync_dir(&kept)?;
    let snapshots = dir.snapshots();
    if files::exists(&snapshots)? {
        files::rename(&snapshots, &kept.join("snapshots"))?;
    }
    give_names(dir, &fresh)?;
    Ok(Moved(kept))
}
