//! The data directory as a whole: forming, restarting, and files that do not belong together.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use tenure_state::{Row, Table};
use tenured::storage::{ClusterId, DataDir, Opened, StorageError, form, open};

use super::model::meta;

const CLUSTER: ClusterId = ClusterId(0xc0ffee);
const FOUNDING: &[u8] = b"as it was offered";

fn genesis() -> Vec<Row> {
    vec![Row {
        table: Table::Meta,
        key: Bytes::from_static(b"revision"),
        value: Bytes::from_static(b"1"),
    }]
}

fn start(path: &Path) -> Result<Option<Opened>, StorageError> {
    open(&DataDir::open(path, "n1")?)
}

fn formed(path: &Path) {
    let dir = DataDir::open(path, "n1").expect("a data directory");
    assert!(
        open(&dir).expect("opens").is_none(),
        "it belongs to no cluster yet"
    );
    form(&dir, CLUSTER, &meta(1, 1), 9, &genesis(), FOUNDING).expect("formed");
}

#[test]
fn member_that_formed_a_cluster_finds_it_again() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    formed(temp.path());
    for _ in 0..2 {
        let opened = start(temp.path()).expect("opens").expect("formed");
        assert_eq!(opened.identity.cluster, CLUSTER);
        assert_eq!(
            (opened.contents.base, opened.contents.entries.len()),
            (meta(1, 1), 0)
        );
        assert_eq!(
            (opened.loaded.meta, opened.loaded.digest, opened.loaded.rows),
            (meta(1, 1), 9, genesis())
        );
        assert!(!opened.loaded.installed);
        assert_eq!(opened.contents.founding.as_deref(), Some(FOUNDING));
    }
    let dir = DataDir::open(temp.path(), "n1").expect("a data directory");
    let error =
        form(&dir, CLUSTER, &meta(1, 1), 9, &genesis(), FOUNDING).expect_err("once is enough");
    assert!(
        error.to_string().contains("belongs to a cluster already"),
        "{error}"
    );
}

#[test]
fn forming_that_was_cut_off_anywhere_leaves_a_member_that_can_form() {
    // The steps of forming, told by which names exist after each.
    for names in [
        &["log.redb.new"][..],
        &["log.redb.new", "state.redb.new"],
        &["log.redb.new", "state.redb"],
    ] {
        let whole = tempfile::tempdir().expect("a temporary directory");
        formed(whole.path());
        let cut = tempfile::tempdir().expect("a temporary directory");
        drop(DataDir::open(cut.path(), "n1").expect("a first start"));
        for name in names {
            fs::copy(
                whole.path().join(name.trim_end_matches(".new")),
                cut.path().join(name),
            )
            .expect("copied");
        }
        assert!(start(cut.path()).expect("starts").is_none(), "{names:?}");
        formed(cut.path());
        assert!(start(cut.path()).expect("opens").is_some(), "{names:?}");
    }
}

#[test]
fn log_or_state_that_is_gone_empty_or_senseless_is_damage() {
    for name in ["log.redb", "state.redb"] {
        for contents in [None, Some(&b""[..]), Some(b"not a database")] {
            let temp = tempfile::tempdir().expect("a temporary directory");
            formed(temp.path());
            drop(start(temp.path()).expect("opens"));
            let path = temp.path().join(name);
            match contents {
                None => fs::remove_file(&path).expect("removed"),
                Some(contents) => fs::write(&path, contents).expect("written"),
            }
            let error = start(temp.path()).expect_err("refused");
            assert_eq!(error.exit_code(), 3, "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn files_of_two_members_do_not_mix() {
    let (ours, theirs) = (
        tempfile::tempdir().expect("temporary"),
        tempfile::tempdir().expect("temporary"),
    );
    formed(ours.path());
    formed(theirs.path());
    for name in ["log.redb", "state.redb"] {
        let kept = fs::read(ours.path().join(name)).expect("read");
        fs::copy(theirs.path().join(name), ours.path().join(name)).expect("copied");
        let error = start(ours.path()).expect_err("refused");
        assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        fs::write(ours.path().join(name), kept).expect("put back");
    }
    assert!(start(ours.path()).expect("opens").is_some());
}
