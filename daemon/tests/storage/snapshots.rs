//! A snapshot from one member to another, cut off on the way.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use bytes::Bytes;
use tenure_raft::{LogIndex, MemberId, Payload, SnapshotFile, Write};
use tenure_replica::Checkpoint;
use tenure_state::{Row, RowChange, Table};
use tenured::storage::{
    ClusterId, DataDir, LogContents, LogFile, SnapshotEvent, SnapshotRequest, SnapshotThread,
    StateEvent, StateThread, StorageError, form, open,
};

use super::model::{entry, meta};

const PEER: MemberId = MemberId(2);
pub(crate) const PIECE: u64 = 1 << 20;

/// Why a snapshot was not installed.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) StorageError);

/// A member with the threads for its state and snapshots.
pub(crate) struct Member {
    _dir: DataDir,
    log: LogFile,
    contents: LogContents,
    pub(crate) loaded: tenured::storage::Loaded,
    state: StateThread,
    checkpoints: Receiver<StateEvent>,
    snapshots: SnapshotThread,
    events: Receiver<SnapshotEvent>,
}

impl Member {
    pub(crate) fn start(path: &Path) -> Result<Member, StorageError> {
        let dir = DataDir::open(path, "n1")?;
        let opened = match open(&dir)? {
            Some(opened) => opened,
            None => {
                form(&dir, ClusterId(0xc0ffee), &meta(1, 1), 0, &[], &[])?;
                open(&dir)?.expect("just formed")
            }
        };
        let (send, checkpoints) = mpsc::channel();
        let state = StateThread::start(opened.state.clone(), move |event| drop(send.send(event)))
            .expect("a thread");
        let (send, events) = mpsc::channel();
        let snapshots = SnapshotThread::start(
            opened.state,
            opened.snapshots,
            Box::new(|_, _| Ok(())),
            move |event| drop(send.send(event)),
        )
        .expect("a thread");
        let (log, contents, loaded) = (opened.log, opened.contents, opened.loaded);
        Ok(Member {
            _dir: dir,
            log,
            contents,
            loaded,
            state,
            checkpoints,
            snapshots,
            events,
        })
    }

    /// Asks for what may be left without an answer: the next so many, in the order in which they were asked for.
    pub(crate) fn ask_all(
        &self,
        requests: [SnapshotRequest; 2],
        answers: usize,
    ) -> Vec<SnapshotEvent> {
        for request in requests {
            self.snapshots.request(request);
        }
        let answer = || self.events.recv().expect("an answer");
        std::iter::repeat_with(answer).take(answers).collect()
    }

    fn ask(&self, request: SnapshotRequest) -> SnapshotEvent {
        self.snapshots.request(request);
        self.events.recv().expect("an answer")
    }

    pub(crate) fn checkpoint(&self, index: u64, rows: &[Row]) -> StateEvent {
        let change = |row: &Row| RowChange {
            table: row.table,
            key: row.key.clone(),
            value: Some(row.value.clone()),
        };
        let rows = rows.iter().map(change).collect();
        self.state.checkpoint(Checkpoint {
            meta: meta(1, index),
            digest: 77,
            rows,
        });
        self.checkpoints.recv().expect("an answer")
    }

    pub(crate) fn make(&self, at_least: u64) -> SnapshotFile {
        match self.ask(SnapshotRequest::Make {
            to: PEER,
            at_least: LogIndex(at_least),
        }) {
            SnapshotEvent::Made { file, .. } => file,
            event => panic!("{event:?}"),
        }
    }

    fn piece(&self, file: &SnapshotFile, offset: u64) -> Bytes {
        match self.ask(SnapshotRequest::Read {
            to: PEER,
            file: file.clone(),
            offset,
            length: PIECE,
        }) {
            SnapshotEvent::Piece { data, .. } => data,
            event => panic!("{event:?}"),
        }
    }

    pub(crate) fn store(&self, file: &SnapshotFile, offset: u64, data: Bytes) -> u64 {
        match self.ask(SnapshotRequest::Store {
            file: file.clone(),
            offset,
            data,
            round: 5,
            from: PEER,
        }) {
            SnapshotEvent::Stored {
                stored,
                round: 5,
                from: PEER,
                ..
            } => stored,
            event => panic!("{event:?}"),
        }
    }

    /// Sends pieces until at least `until` bytes are stored.
    pub(crate) fn receive(&self, sender: &Member, file: &SnapshotFile, until: u64) {
        let mut stored = self.store(file, 0, Bytes::new());
        while stored < until.min(file.size) {
            stored = self.store(file, stored, sender.piece(file, stored));
        }
    }

    pub(crate) fn install(&self, file: &SnapshotFile) -> Result<(), Refused> {
        match self.ask(SnapshotRequest::Install { file: file.clone() }) {
            SnapshotEvent::Installed { .. } => Ok(()),
            SnapshotEvent::Rejected { error, .. } => Err(Refused(error)),
            event => panic!("{event:?}"),
        }
    }

    pub(crate) fn stop(self) {
        self.state.stop().expect("stops");
        self.snapshots.stop().expect("stops");
        self.log.close().expect("closes");
    }
}

/// Some ten megabytes.
pub(crate) fn rows() -> Vec<Row> {
    let row = |n: u32| Row {
        table: Table::History,
        key: Bytes::copy_from_slice(&n.to_be_bytes()),
        value: Bytes::from(vec![n as u8; 2500]),
    };
    (0..4000).map(row).collect()
}

/// A sender with a checkpoint at entry 50, its log reaching there.
pub(crate) fn sender(path: &Path) -> Member {
    let mut member = Member::start(path).expect("starts");
    let append = (2..=50)
        .map(|index| entry(1, index, Payload::Empty))
        .collect();
    member
        .log
        .write(&[Write {
            append,
            ..Write::default()
        }])
        .expect("written");
    assert!(matches!(
        member.checkpoint(50, &rows()),
        StateEvent::Checkpointed { rows: 4000, .. }
    ));
    member
}

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn snapshot_is_resumed_after_a_restart_and_becomes_the_state() {
    let (here, there) = (temp(), temp());
    let sender = sender(here.path());
    let old = sender.ask(SnapshotRequest::Make {
        to: PEER,
        at_least: LogIndex(51),
    });
    assert!(
        matches!(
            old,
            SnapshotEvent::TooOld {
                have: LogIndex(50),
                ..
            }
        ),
        "{old:?}"
    );
    let file = sender.make(50);
    assert!(file.size > 9 << 20, "{} bytes", file.size);

    let receiver = Member::start(there.path()).expect("starts");
    receiver.receive(&sender, &file, 5 << 20);
    let stored = receiver.store(&file, 3, Bytes::from_static(b"does not fit"));
    assert!((5 << 20..file.size).contains(&stored));
    receiver.stop();
    // A crash may leave anything behind the last sync.
    let part = there.path().join("snapshots/incoming.part");
    let mut bytes = std::fs::read(&part).expect("the part");
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    std::fs::write(&part, &bytes).expect("written");

    let receiver = Member::start(there.path()).expect("starts again");
    let kept = receiver.store(&file, 0, Bytes::new());
    assert!(
        kept > 3 << 20 && kept < stored,
        "whole blocks are kept, {kept} of {stored}"
    );
    receiver.receive(&sender, &file, file.size);
    match receiver.ask(SnapshotRequest::Install { file: file.clone() }) {
        SnapshotEvent::Installed { loaded, .. } => {
            assert_eq!(
                (&loaded.meta, loaded.digest, loaded.installed),
                (&meta(1, 50), 77, true)
            );
            assert!(loaded.rows == rows());
        }
        event => panic!("{event:?}"),
    }
    // A checkpoint of the old state that was under way comes too late and does no harm.
    assert!(matches!(
        receiver.checkpoint(40, &[]),
        StateEvent::Outdated { .. }
    ));
    // The log's reset is cut off: the state is ahead of the log, and both are handed out.
    receiver.stop();
    let mut receiver = Member::start(there.path()).expect("starts with the log behind");
    assert!(receiver.loaded.installed && receiver.loaded.rows == rows());
    assert_eq!(receiver.contents.last(), meta(1, 1).position);
    receiver
        .log
        .write(&[Write {
            reset_to: Some(meta(1, 50)),
            ..Write::default()
        }])
        .expect("reset");
    receiver.stop();
    let receiver = Member::start(there.path()).expect("starts with both");
    assert_eq!(receiver.contents.base, meta(1, 50));
    assert!(!there.path().join("snapshots/incoming.part").exists());
}

#[test]
fn damaged_snapshot_is_rejected_and_can_be_sent_again() {
    let (here, there) = (temp(), temp());
    let (sender, receiver) = (
        sender(here.path()),
        Member::start(there.path()).expect("starts"),
    );
    let file = sender.make(2);
    receiver.receive(&sender, &file, file.size - PIECE);
    let offset = receiver.store(&file, 0, Bytes::new());
    let mut piece = sender.piece(&file, offset).to_vec();
    piece[100] ^= 1;
    receiver.store(&file, offset, piece.into());
    receiver.receive(&sender, &file, file.size);
    match receiver.ask(SnapshotRequest::Install { file: file.clone() }) {
        SnapshotEvent::Rejected { error, .. } => {
            assert!(error.to_string().contains("its digest is"), "{error}")
        }
        event => panic!("{event:?}"),
    }
    assert_eq!(receiver.store(&file, 0, Bytes::new()), 0, "it begins anew");
    receiver.receive(&sender, &file, file.size);
    let event = receiver.ask(SnapshotRequest::Install { file });
    assert!(
        matches!(event, SnapshotEvent::Installed { .. }),
        "{event:?}"
    );
}

#[test]
fn installation_that_was_cut_off_before_its_rename_leaves_the_old_state() {
    let (here, there) = (temp(), temp());
    let (sender, receiver) = (
        sender(here.path()),
        Member::start(there.path()).expect("starts"),
    );
    let file = sender.make(2);
    receiver.receive(&sender, &file, file.size);
    receiver.stop();
    std::fs::write(there.path().join("state.redb.new"), b"half a file").expect("written");
    let receiver = Member::start(there.path()).expect("starts");
    assert!(receiver.loaded.rows.is_empty() && !there.path().join("state.redb.new").exists());
    assert_eq!(
        receiver.store(&file, 0, Bytes::new()),
        file.size,
        "all of it is still there"
    );
    let event = receiver.ask(SnapshotRequest::Install { file });
    assert!(
        matches!(event, SnapshotEvent::Installed { .. }),
        "{event:?}"
    );
}

#[test]
fn another_file_begins_anew_and_a_file_that_nobody_uses_is_removed() {
    let (here, there) = (temp(), temp());
    let (sender, receiver) = (
        sender(here.path()),
        Member::start(there.path()).expect("starts"),
    );
    let file = sender.make(2);
    assert_eq!(sender.make(2), file, "the file that is there serves again");
    receiver.receive(&sender, &file, 2 << 20);
    let other = SnapshotFile {
        digest: file.digest ^ 1,
        ..file.clone()
    };
    assert_eq!(receiver.store(&other, 0, Bytes::new()), 0);
    assert_eq!(receiver.store(&file, 0, Bytes::new()), 0);
    let made = here.path().join("snapshots/snap-1-50.tsnap");
    assert!(made.exists());
    sender.snapshots.request(SnapshotRequest::Release {
        to: PEER,
        file: file.clone(),
    });
    let gone = sender.ask(SnapshotRequest::Read {
        to: PEER,
        file,
        offset: 0,
        length: PIECE,
    });
    assert!(
        matches!(gone, SnapshotEvent::ReadFailed { error: None, .. }),
        "{gone:?}"
    );
    assert!(!made.exists());
}

#[test]
fn log_that_lost_what_a_checkpoint_covers_is_damage() {
    let here = temp();
    let log_file = here.path().join("log.redb");
    Member::start(here.path()).expect("starts").stop();
    let old = std::fs::read(&log_file).expect("read");
    sender(here.path()).stop();
    std::fs::write(&log_file, old).expect("an old copy is put back");
    let error = Member::start(here.path()).err().expect("refused");
    assert_eq!(error.exit_code(), 3);
    assert!(
        error
            .to_string()
            .contains("does not hold entry 50 of term 1, which the state covers"),
        "{error}"
    );
}
