//! Copies that may as well be made later leave a disk that is nearly full to the log.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use tenure_raft::{LogIndex, MemberId, SnapshotTask};
use tenure_state::{Row, Table};
use tenured::storage::{SnapshotEvent, StorageError};

use super::snapshots::Member;

const PEER: MemberId = MemberId(2);
/// What copies leave free, in bytes.
const LEFT_FREE: u64 = 64 << 20;

/// A small file system in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing can be mounted.
    fn mount(path: &Path, bytes: u64) -> Option<SmallDisk> {
        fs::create_dir(path).ok()?;
        let options = format!("size={bytes}");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        done.then(|| SmallDisk(path.to_owned()))
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    }

    /// Takes all but so many bytes of it.
    fn leave(&self, bytes: u64) {
        let file = File::create(self.0.join("filler")).expect("there is room");
        let length = self.free() - bytes;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)
            .expect("there is room");
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn rows(bytes: u64) -> Vec<Row> {
    let row = |number: u64| Row {
        table: Table::History,
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value: Bytes::from(number.to_le_bytes().repeat(1 << 13)),
    };
    (0..bytes >> 16).map(row).collect()
}

fn make() -> SnapshotTask {
    SnapshotTask::Make {
        to: PEER,
        at_least: LogIndex(2),
    }
}

#[test]
fn a_snapshot_is_neither_made_nor_received_where_it_would_leave_the_log_no_room() {
    const NAME: &str =
        "a_snapshot_is_neither_made_nor_received_where_it_would_leave_the_log_no_room";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = SmallDisk::mount(&dir.path().join("small"), 256 << 20);
    let Some(disk) = disk else {
        let strict = std::env::var_os("TENURE_TESTS_STRICT").is_some();
        assert!(!strict, "{NAME} cannot run here: nothing can be mounted");
        return eprintln!("skipped: {NAME}: nothing can be mounted");
    };
    let sender = Member::start(&dir.path().join("sender")).expect("it starts");
    let member = Member::start(&disk.0.join("data")).expect("it starts");
    for member in [&sender, &member] {
        member.checkpoint(2, &rows(8 << 20));
    }
    let file = sender.make(2);
    let store = || SnapshotTask::Store {
        file: file.clone(),
        offset: 0,
        data: Bytes::new(),
        round: 5,
        from: PEER,
    };
    disk.leave(LEFT_FREE + (4 << 20));
    // A piece for which there is no room is as lost on its way, and the member goes on.
    let events = member.ask_all([store(), make()], 1);
    let [SnapshotEvent::MakeFailed { error, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(matches!(error, StorageError::NoRoom { .. }), "{error}");
    assert!(error.is_out_of_space(), "{error}");
    assert!(
        LEFT_FREE < disk.free(),
        "nothing of it is left: {}",
        disk.free()
    );
    disk.clear();
    let events = member.ask_all([store(), make()], 2);
    let [
        SnapshotEvent::Stored { stored: 0, .. },
        SnapshotEvent::Made { .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
}
