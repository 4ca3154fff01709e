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

use tenure_raft::{LogPosition, SnapshotMeta};
use tenure_state::State;

use super::data_dir::{DataDir, Held, LOG, Labelled, MEMBER, STATE};
use super::error::StorageError;
use super::files;
use super::identity::{ClusterId, Identity};
use super::log_file::{self, LogContents, LogFile};
use super::state_file::{self, Loaded, StateFile};

/// Where new files are made.
const FRESH: &str = "recovering";
/// Says, among them, where the old ones are kept; there once both are whole.
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

    /// The last entry that counts, in the log or covered by the checkpoint. Of two members the one where it is greater, by
    /// term and only then by index, has all that was committed if one of them has it (Raft §5.4.1).
    #[must_use]
    pub fn last(&self) -> LogPosition {
        let covered = self.state.meta.position;
        match self.log_counts {
            true => self.log.last().max(covered),
            false => covered,
        }
    }
}

impl Offline {
    /// Reads the files of a member, and writes nothing. `None` where the directory has none.
    ///
    /// # Errors
    /// Damage, a newer format, or files that do not belong together.
    pub fn look(held: &Held) -> Result<Option<Offline>, StorageError> {
        check_replaced(&held.path)?;
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
    if !has_begun(&fresh)? {
        return Ok(None);
    }
    let kept = files::read(&fresh.join(KEPT))?.unwrap_or_default();
    let kept = dir.path().join(String::from_utf8_lossy(&kept).into_owned());
    give_names(dir, &fresh)?;
    Ok(Some(Moved(kept)))
}

/// Whether a replacement was cut off while files were given their names, so that only its end is left to be done.
///
/// # Errors
/// Any error of the disk.
pub fn is_half_replaced(dir: &DataDir) -> Result<bool, StorageError> {
    has_begun(&dir.path().join(FRESH))
}

/// Whether some of the new files have their names, and not all of them. Only of new files that are whole it is said where
/// the old ones are kept.
fn has_begun(fresh: &Path) -> Result<bool, StorageError> {
    let is_whole = files::exists(&fresh.join(KEPT))?;
    Ok(is_whole && files::exists(&fresh.join(LOG))? && !files::exists(&fresh.join(MEMBER))?)
}

/// Removes what an earlier attempt left of itself before anything was replaced. What is left of that, where this is cut
/// off, must not be taken for new files of which some have their names.
fn remove_attempt(fresh: &Path) -> Result<(), StorageError> {
    if files::exists(fresh)? {
        files::remove(&fresh.join(KEPT))?;
        files::sync_dir(fresh)?;
    }
    files::remove_tree(fresh)
}

/// Refuses a directory in which a replacement was cut off: its files belong to two members.
pub(super) fn check_replaced(dir: &Path) -> Result<(), StorageError> {
    match has_begun(&dir.join(FRESH))? {
        false => Ok(()),
        true => Err(StorageError::Damaged {
            path: dir.to_owned(),
            reason: "`tenured recover` was cut off while it replaced the files".to_owned(),
            remedy: "run it again with --accept-loss, which finishes that",
        }),
    }
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
    remove_attempt(&fresh)?;
    make(&DataDir::open(&fresh, name)?)?;
    let folder = format!("before-{label}");
    let kept = dir.path().join(&folder);
    files::create_dir(&kept)?;
    for file in [MEMBER, STATE, LOG] {
        files::link(&dir.path().join(file), &kept.join(file))?;
    }
    files::sync_dir(&kept)?;
    files::replace(&fresh.join(KEPT), folder.as_bytes())?;
    let snapshots = dir.snapshots();
    if files::exists(&snapshots)? {
        files::rename(&snapshots, &kept.join("snapshots"))?;
    }
    give_names(dir, &fresh)?;
    Ok(Moved(kept))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tenure_raft::Configuration;
    use tenure_state::Genesis;

    use super::*;

    const OLD: ClusterId = ClusterId(1);
    const NEW: ClusterId = ClusterId(2);

    fn founded(dir: &DataDir, cluster: ClusterId) -> Result<(), StorageError> {
        let base = SnapshotMeta::genesis(Configuration::default());
        found(dir, cluster, &base, &State::genesis(Genesis::default()))
    }

    fn cluster_of(path: &Path) -> Result<Option<ClusterId>, StorageError> {
        let opened = super::super::open(&DataDir::open(path, "n1")?)?;
        Ok(opened.map(|opened| opened.identity.cluster))
    }

    /// A replaced member, as it was when so many files had their new contents.
    fn cut_off_after(path: &Path, names: usize) -> Moved {
        let dir = DataDir::open(path, "n1").expect("a directory");
        founded(&dir, OLD).expect("a member");
        fs::create_dir(dir.snapshots()).expect("snapshots");
        fs::write(dir.snapshots().join("snap-1"), b"").expect("a snapshot");
        let kept = replace(&dir, "n1", "test", |fresh| founded(fresh, NEW)).expect("replaced");
        let fresh = path.join(FRESH);
        fs::create_dir(&fresh).expect("there is none");
        fs::write(fresh.join(KEPT), "before-test").expect("a file");
        for file in &[MEMBER, STATE, LOG][names..] {
            fs::rename(path.join(file), fresh.join(file)).expect("the new one");
            fs::copy(kept.0.join(file), path.join(file)).expect("the old one");
        }
        kept
    }

    #[test]
    fn member_that_was_replaced_is_the_new_one_and_the_old_one_lies_beside_it_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        let kept = cut_off_after(&path, 3);
        assert_eq!(cluster_of(&path).expect("it opens"), Some(NEW));
        let held = Held::of(&kept.0).expect("a directory");
        let old = Offline::look(&held).expect("whole").expect("a member");
        let stored = old.stored.expect("it has a log");
        assert_eq!((stored.identity.cluster, stored.log_counts), (OLD, true));
        assert!(kept.0.join("snapshots/snap-1").exists());
        assert!(!path.join("snapshots/snap-1").exists());
    }

    #[test]
    fn replacement_cut_off_between_two_names_is_refused_at_a_start_and_finished_by_the_next() {
        for names in [1, 2] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("n1");
            let kept = cut_off_after(&path, names);
            let refused = cluster_of(&path).expect_err("a mixture");
            assert_eq!(refused.exit_code(), 3, "{refused}");
            let held = Held::of(&path).expect("nobody runs on it");
            let looked = Offline::look(&held).expect_err("a mixture");
            drop(held);
            for text in [refused.to_string(), looked.to_string()] {
                assert!(text.contains("run it again"), "{text}");
            }
            let dir = DataDir::open(&path, "n1").expect("a directory");
            assert_eq!(finish_replacing(&dir).expect("it can be done"), Some(kept));
            assert_eq!(finish_replacing(&dir).expect("it is done"), None);
            drop(dir);
            assert_eq!(cluster_of(&path).expect("it opens"), Some(NEW));
        }
    }

    #[test]
    fn replacement_cut_off_before_the_first_name_changes_nothing_and_begins_anew() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        cut_off_after(&path, 0);
        assert_eq!(cluster_of(&path).expect("it opens"), Some(OLD));
        let dir = DataDir::open(&path, "n1").expect("a directory");
        assert_eq!(finish_replacing(&dir).expect("nothing to do"), None);
        replace(&dir, "n1", "again", |fresh| founded(fresh, NEW)).expect("replaced");
        drop(dir);
        assert_eq!(cluster_of(&path).expect("it opens"), Some(NEW));
    }

    /// Of an attempt that ended before anything was replaced, whatever else of it has been removed again.
    #[test]
    fn remains_of_an_attempt_are_never_given_the_names_of_the_only_files() {
        for gone in [&[KEPT, MEMBER][..], &[KEPT, STATE, MEMBER], &[KEPT]] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("n1");
            cut_off_after(&path, 0);
            for file in gone {
                fs::remove_file(path.join(FRESH).join(file)).expect("it is there");
            }
            assert_eq!(cluster_of(&path).expect("it opens"), Some(OLD));
            let dir = DataDir::open(&path, "n1").expect("a directory");
            assert!(!is_half_replaced(&dir).expect("it can be seen"));
            assert_eq!(finish_replacing(&dir).expect("nothing to do"), None);
            replace(&dir, "n1", "again", |fresh| founded(fresh, NEW)).expect("replaced");
        }
    }

    #[test]
    fn looking_at_a_member_that_was_killed_writes_nothing_and_sees_what_a_start_sees() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("n1");
        let data = DataDir::open(&path, "n1").expect("a directory");
        founded(&data, OLD).expect("a member");
        let opened = super::super::open(&data)
            .expect("it opens")
            .expect("formed");
        // As a killed process leaves it: not closed.
        std::mem::forget((opened.log, opened.state));
        let before = fs::read(path.join(STATE)).expect("it is there");
        let offline = Offline::look(&data.held())
            .expect("whole")
            .expect("a member");
        let stored = offline.stored.expect("it has a log");
        assert_eq!(stored.state.rows, opened.loaded.rows);
        assert_eq!(stored.log, opened.contents);
        assert_eq!(fs::read(path.join(STATE)).expect("it is there"), before);
    }
}
