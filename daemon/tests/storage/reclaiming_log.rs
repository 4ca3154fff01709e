//! A log file that is mostly free is replaced by a smaller one while it is written, and nothing in it changes.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;
use tenure_raft::{HardState, MemberId, Payload, Term, Write, WriteId};
use tenure_replica::Checkpoint;
use tenured::storage::{
    CheckpointOutcome, ClusterId, DataDir, Identity, LogContents, LogCopy, LogFile, form, open,
};

use super::disk::Random;
use super::model::{apply, entry, meta, random_write};

/// A file of the test is looked at from this size on.
const LEAST: u64 = 1 << 20;

/// A log that once held many entries of a kilobyte, and a vote, on a disk.
struct Grown {
    dir: TempDir,
    identity: Identity,
    contents: LogContents,
}

/// A log in use, and what is to be in it.
struct Used {
    log: LogFile,
    contents: LogContents,
    path: PathBuf,
    identity: Identity,
}

impl Grown {
    fn new() -> Grown {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open(dir.path(), "n1").expect("a data directory");
        form(&data, ClusterId(0xc0ffee), &meta(1, 1), 9, &[], b"founded").expect("formed");
        let opened = open(&data).expect("opens").expect("formed");
        let mut used = Used {
            log: opened.log,
            contents: opened.contents,
            path: dir.path().join("log.redb"),
            identity: opened.identity,
        };
        for many in 0..10 {
            let command = |index| Payload::Command(Bytes::from(vec![index as u8; 1000]));
            let entries = (2 + many * 500..).take(500);
            used.write(Write {
                append: entries.map(|n| entry(1, n, command(n))).collect(),
                ..Write::default()
            });
        }
        // A log is compacted behind a checkpoint.
        let checkpoint = Checkpoint {
            meta: meta(1, 4900),
            digest: 9,
            rows: Vec::new(),
        };
        let written = opened.state.lock().checkpoint(&checkpoint);
        assert_eq!(written.expect("it is written"), CheckpointOutcome::Written);
        opened.state.close().expect("closed");
        used.write(Write {
            compact_to: Some(checkpoint.meta),
            ..Write::default()
        });
        used.write(Write {
            hard_state: Some(HardState {
                term: Term(7),
                vote: Some(MemberId(8)),
            }),
            ..Write::default()
        });
        used.log.note_starts(&[3, 4]).expect("noted");
        used.contents.starts = vec![3, 4];
        used.log.close().expect("closed");
        Grown {
            dir,
            identity: opened.identity,
            contents: used.contents,
        }
    }

    /// The log in a directory of its own.
    fn used(&self) -> (TempDir, Used) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log.redb");
        fs::copy(self.dir.path().join("log.redb"), &path).expect("copied");
        let (log, contents) = LogFile::open(&path, self.identity).expect("it is whole");
        assert!(contents == self.contents);
        let identity = self.identity;
        let used = Used {
            log,
            contents,
            path,
            identity,
        };
        (dir, used)
    }
}

impl Used {
    fn write(&mut self, write: Write) {
        apply(&mut self.contents, &write);
        self.log.write(&[write]).expect("it is written");
    }

    fn append(&mut self, bytes: usize) {
        let command = Payload::Command(Bytes::from(vec![1; bytes]));
        let next = self.contents.last().index.0 + 1;
        self.write(Write {
            append: vec![entry(7, next, command)],
            ..Write::default()
        });
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).expect("it is there").len()
    }

    /// A copy of it as it is now.
    fn copy(&mut self) -> LogCopy {
        let copying = self.log.copying_from(LEAST).expect("no error");
        let copying = copying.expect("it is large");
        copying.copy(&|| true).expect("most of it is free")
    }

    fn fresh(&self) -> PathBuf {
        self.path.with_extension("redb.smaller")
    }

    /// The file of that name has what it is to have.
    fn check(self, what: &str) {
        self.log.close().expect("closed");
        let opened = LogFile::open(&self.path, self.identity);
        let (_, found) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(found == self.contents, "{what}: something else is there");
    }
}

#[test]
fn a_log_that_is_mostly_free_becomes_small_while_it_is_written_and_loses_nothing() {
    let grown = Grown::new();
    let mut carried = 0;
    for seed in 0..40 {
        let (_dir, used) = grown.used();
        let before = used.size();
        assert!(before > 4 << 20, "it holds its greatest size: {before}");
        let mut random = Random::new(seed);
        let used = RefCell::new(used);
        let mut id = 0;
        let mut some_writes = |random: &mut Random| {
            let mut used = used.borrow_mut();
            for _ in 0..random.below(6) {
                id += 1;
                let write = random_write(random, &used.contents, id);
                used.write(write);
                carried += 1;
            }
        };
        let copying = used.borrow_mut().log.copying_from(LEAST);
        let copying = copying.expect("no error").expect("it is large");
        some_writes(&mut random);
        let copy = copying.copy(&|| true).expect("most of it is free");
        some_writes(&mut random);
        let reclaimed = used.borrow_mut().log.become_copy(copy).expect("no error");
        let reclaimed = reclaimed.expect("little was written meanwhile");
        let now = used.borrow().size();
        assert_eq!((reclaimed.before, reclaimed.after), (before, now));
        assert!(now < before / 4, "{reclaimed:?}");
        some_writes(&mut random);
        used.into_inner().check(&format!("seed {seed}"));
    }
    assert!(carried > 100, "{carried} writes hardly try anything");
}

#[test]
fn a_log_in_which_there_is_nothing_to_gain_is_left_as_it_is() {
    let grown = Grown::new();
    let (_dir, mut used) = grown.used();
    assert!(
        used.log.copying().expect("no error").is_none(),
        "small files are left alone"
    );
    for _ in 0..3 {
        used.append(1 << 20);
    }
    let copying = used.log.copying_from(LEAST).expect("no error");
    assert!(copying.expect("it is large").copy(&|| true).is_none());
    assert!(!used.fresh().exists());
    used.check("as it was");
}

#[test]
fn a_copy_of_a_log_that_cannot_be_written_or_is_stopped_leaves_the_one_in_use() {
    let grown = Grown::new();
    let (_dir, mut used) = grown.used();
    // No file can have this name.
    fs::create_dir(used.fresh()).expect("made");
    let copying = used.log.copying_from(LEAST).expect("no error");
    assert!(copying.expect("it is large").copy(&|| true).is_none());
    fs::remove_dir(used.fresh()).expect("removed");
    used.append(10);
    let copying = used.log.copying_from(LEAST).expect("no error");
    assert!(copying.expect("it is large").copy(&|| false).is_none());
    assert!(!used.fresh().exists());
    // What cannot be finished is given up, too.
    let copy = used.copy();
    fs::remove_file(used.fresh()).expect("removed");
    assert_eq!(used.log.become_copy(copy).expect("nothing is lost"), None);
    used.append(10);
    used.check("as it was");
}

#[test]
fn a_copy_of_a_log_that_was_overtaken_by_much_is_given_up_and_the_next_is_not() {
    let grown = Grown::new();
    let (_dir, mut used) = grown.used();
    let copy = used.copy();
    for _ in 0..5 {
        used.append(1 << 20);
    }
    assert_eq!(used.log.become_copy(copy).expect("no error"), None);
    assert!(!used.fresh().exists());
    let last = used.contents.last();
    used.write(Write {
        compact_to: Some(meta(last.term.0, last.index.0)),
        ..Write::default()
    });
    let copy = used.copy();
    assert!(used.log.become_copy(copy).expect("no error").is_some());
    used.append(10);
    used.check("the copy");
}

#[test]
fn a_log_is_what_it_was_when_it_is_lost_beside_a_copy_of_it() {
    let grown = Grown::new();
    let (dir, mut used) = grown.used();
    let copy = used.copy();
    used.append(10);
    for left in [1 << 12, 1 << 20] {
        let again = tempfile::tempdir().expect("a temporary directory");
        for file in ["member.json", "state.redb"] {
            copied(grown.dir.path(), again.path(), file);
        }
        copied(dir.path(), again.path(), "log.redb");
        // Any part of the copy may be there.
        let begun = fs::read(used.fresh()).expect("read");
        let left = &begun[..begun.len().min(left)];
        fs::write(again.path().join("log.redb.smaller"), left).expect("written");
        let data = DataDir::open(again.path(), "n1").expect("a data directory");
        let opened = open(&data).expect("opens").expect("formed");
        assert!(opened.contents == used.contents);
        assert!(!again.path().join("log.redb.smaller").exists());
    }
    copy.discard();
    assert!(!used.fresh().exists());
    used.check("as it was");
}

fn copied(from: &Path, to: &Path, file: &str) {
    fs::copy(from.join(file), to.join(file)).expect("copied");
}

#[test]
fn a_copy_that_cannot_take_the_name_of_the_log_ends_the_member() {
    let grown = Grown::new();
    let (_dir, mut used) = grown.used();
    let copy = used.copy();
    // No file can take the name of a directory.
    fs::remove_file(&used.path).expect("removed");
    fs::create_dir(&used.path).expect("made");
    let error = used.log.become_copy(copy).expect_err("nobody knows");
    assert_eq!(error.exit_code(), 1, "{error}");
    let write = Write {
        id: WriteId(9),
        hard_state: Some(used.contents.hard_state),
        ..Write::default()
    };
    used.log
        .write(&[write])
        .expect_err("what the disk holds is unknown");
}
