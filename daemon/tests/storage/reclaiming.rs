//! A state file that is mostly free is written anew, and nothing in it changes.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use tenure_replica::Checkpoint;
use tenure_state::{Row, RowChange, Table};
use tenured::storage::{
    CheckpointOutcome, ClusterId, DataDir, Loaded, SharedState, StateFile, form, open,
};

use super::model::meta;

const CLUSTER: ClusterId = ClusterId(0xc0ffee);
/// So many rows of a kilobyte.
const MANY: u64 = 6_000;
/// A file of the test is looked at from this size on.
const LEAST: u64 = 1 << 20;

fn row(number: u64) -> Row {
    let value = Bytes::from(number.to_le_bytes().repeat(128));
    Row {
        table: Table::History,
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value,
    }
}

fn changed(row: Row, stays: bool) -> RowChange {
    RowChange {
        table: row.table,
        key: row.key,
        value: stays.then_some(row.value),
    }
}

fn checkpoint(file: &SharedState, index: u64, rows: Vec<RowChange>) {
    let checkpoint = Checkpoint {
        meta: meta(1, index),
        digest: u128::from(index),
        rows,
    };
    let outcome = file.lock().checkpoint(&checkpoint).expect("it is written");
    assert_eq!(outcome, CheckpointOutcome::Written);
}

fn size(dir: &Path) -> u64 {
    fs::metadata(dir.join("state.redb"))
        .expect("it is there")
        .len()
}

/// The state file of a member that has just formed its cluster.
fn formed(dir: &Path) -> SharedState {
    let data = DataDir::open(dir, "n1").expect("a data directory");
    form(&data, CLUSTER, &meta(1, 1), 9, &[], b"").expect("formed");
    let identity = open(&data).expect("opens").expect("formed").identity;
    let (file, _) = StateFile::open(&dir.join("state.redb"), identity).expect("opens");
    SharedState::new(file)
}

/// A member's state with many rows, of which all but every hundredth went.
fn mostly_free(dir: &Path) -> SharedState {
    let state = formed(dir);
    checkpoint(
        &state,
        2,
        (0..MANY).map(|n| changed(row(n), true)).collect(),
    );
    let gone = (0..MANY).filter(|n| n % 100 != 0);
    checkpoint(&state, 3, gone.map(|n| changed(row(n), false)).collect());
    state
}

/// What is in the file when it is opened again.
fn reopened(file: SharedState, dir: &Path) -> Loaded {
    let identity = file.lock().identity();
    file.close().expect("closed");
    let (_, loaded) = StateFile::open(&dir.join("state.redb"), identity).expect("opens");
    loaded
}

/// What is in it after all that.
fn left(more: &[u64]) -> Vec<Row> {
    let kept = (0..MANY).filter(|n| n % 100 == 0);
    kept.chain(more.iter().copied()).map(row).collect()
}

#[test]
fn a_file_that_is_mostly_free_becomes_small_and_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = mostly_free(dir.path());
    let before = size(dir.path());
    let reclaimed = file.reclaim_from(LEAST, &|| true).expect("no error");
    let reclaimed = reclaimed.expect("most of it was free");
    assert_eq!(
        (reclaimed.before, reclaimed.after),
        (before, size(dir.path()))
    );
    assert!(reclaimed.after < before / 4, "{reclaimed:?}");
    assert_eq!(file.lock().covers(), &meta(1, 3));
    // There is nothing more to gain, and small files are left alone.
    assert_eq!(file.reclaim_from(LEAST, &|| true).expect("no error"), None);
    assert_eq!(file.reclaim(&|| true).expect("no error"), None);
    // What comes then is in the file of that name.
    checkpoint(&file, 4, vec![changed(row(MANY), true)]);
    let loaded = reopened(file, dir.path());
    assert_eq!((loaded.meta, loaded.digest), (meta(1, 4), 4));
    assert!(loaded.rows == left(&[MANY]), "the rows are what they were");
}

#[test]
fn a_smaller_file_that_cannot_be_written_leaves_the_one_in_use() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = mostly_free(dir.path());
    let before = size(dir.path());
    // No file can have this name.
    let fresh = dir.path().join("state.redb.smaller");
    fs::create_dir(&fresh).expect("made");
    assert_eq!(
        file.reclaim_from(LEAST, &|| true).expect("nothing is lost"),
        None
    );
    assert_eq!(size(dir.path()), before);
    checkpoint(&file, 4, vec![changed(row(MANY), true)]);
    fs::remove_dir(&fresh).expect("removed");
    let loaded = reopened(file, dir.path());
    assert_eq!(loaded.meta, meta(1, 4));
    assert!(loaded.rows == left(&[MANY]), "the rows are what they were");
}

#[test]
fn a_file_that_is_used_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = formed(dir.path());
    checkpoint(
        &state,
        2,
        (0..MANY).map(|n| changed(row(n), true)).collect(),
    );
    assert_eq!(state.reclaim_from(LEAST, &|| true).expect("no error"), None);
}

#[test]
fn a_snapshot_is_installed_while_a_file_is_copied_and_is_what_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = mostly_free(dir.path());
    let brought: Vec<Row> = (7..9).map(row).collect();
    let installs = std::cell::Cell::new(0);
    // Asked for in the middle of the copy: nobody waits for its end.
    let install = || {
        if installs.replace(installs.get() + 1) == 0 {
            let installed = file.lock().install(&meta(2, 9), 9, &brought);
            installed.expect("it is installed");
        }
        true
    };
    assert_eq!(file.reclaim_from(LEAST, &install).expect("no error"), None);
    assert!(!dir.path().join("state.redb.smaller").exists());
    let loaded = reopened(file, dir.path());
    assert_eq!((loaded.meta, loaded.digest), (meta(2, 9), 9));
    assert!(loaded.rows == brought, "the rows are those of the snapshot");
}

#[test]
fn a_copy_that_is_not_to_go_on_ends_at_once_and_leaves_the_file_in_use() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = mostly_free(dir.path());
    let before = size(dir.path());
    let asked = std::cell::Cell::new(0);
    let stops = || {
        asked.set(asked.get() + 1);
        false
    };
    assert_eq!(file.reclaim_from(LEAST, &stops).expect("no error"), None);
    assert_eq!(asked.get(), 1);
    assert_eq!(size(dir.path()), before);
    assert!(!dir.path().join("state.redb.smaller").exists());
    let loaded = reopened(file, dir.path());
    assert!(loaded.rows == left(&[]), "the rows are what they were");
}
