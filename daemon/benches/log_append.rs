//! Appending to the log file: what one synced write costs, beside a plain synced write of one page to the same disk.
//!
//! The log holds as many entries as a running member keeps for the others, and its front is cut off as often as a
//! checkpoint comes, because the depth of the tree decides how many pages a commit writes: an empty file would flatter.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use tenure_raft::{
    Entry, LogIndex, LogPosition, Payload, Settings, SnapshotMeta, Stamp, Term, Write,
};
use tenured::storage::{ClusterId, DataDir, LogFile, form, open};

/// About as many writes as one client makes in the second between two checkpoints.
const WRITES_A_CHECKPOINT: u64 = 1_000;
/// Writes of each kind: several checkpoints, and enough for a p99 to mean something.
const SAMPLES: u32 = 5_000;

fn main() {
    divan::main();
}

/// What one write appends.
#[derive(Clone, Copy)]
struct Batch {
    entries: u64,
    bytes: usize,
}

/// One client's command; the commands of 64 clients, which a leader puts into one entry; 64 entries that queued up.
const BATCHES: [Batch; 3] = [
    Batch {
        entries: 1,
        bytes: 256,
    },
    Batch {
        entries: 1,
        bytes: 64 * 256,
    },
    Batch {
        entries: 64,
        bytes: 256,
    },
];

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} bytes", self.entries, self.bytes)
    }
}

/// The log of a member, with what it keeps.
struct Log {
    file: LogFile,
    first: u64,
    last: u64,
    writes: u64,
    kept: u64,
    _dir: (DataDir, TempDir),
}

impl Log {
    fn filled(bytes: usize) -> Log {
        let temp = temporary();
        let dir = DataDir::open(temp.path(), "bench").expect("a data directory");
        form(&dir, ClusterId(1), &meta(1), 0, &[]).expect("formed");
        let file = open(&dir).expect("opens").expect("formed").log;
        let settings = Settings::default();
        let kept = settings
            .kept_entries
            .min(settings.kept_bytes / bytes as u64);
        let mut log = Log {
            file,
            first: 1,
            last: 1,
            writes: 0,
            kept,
            _dir: (dir, temp),
        };
        let batch = Batch {
            entries: 100,
            bytes,
        };
        while log.last < kept {
            log.append(batch, &command(bytes));
        }
        log
    }

    /// One write, durable when this returns.
    fn append(&mut self, batch: Batch, command: &Payload) {
        self.writes += 1;
        let entry = |index| Entry {
            index: LogIndex(index),
            term: Term(1),
            stamp: Stamp(0),
            payload: command.clone(),
        };
        let append = (self.last + 1..=self.last + batch.entries).map(entry);
        let mut write = Write {
            append: append.collect(),
            ..Write::default()
        };
        self.last += batch.entries;
        let first = self.last.saturating_sub(self.kept);
        if self.writes.is_multiple_of(WRITES_A_CHECKPOINT) && self.first < first {
            write.compact_to = Some(meta(first));
            self.first = first;
        }
        self.file.write(&[write]).expect("written");
    }
}

fn command(bytes: usize) -> Payload {
    Payload::Command(Bytes::from(vec![7; bytes]))
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        position: LogPosition {
            term: Term(1),
            index: LogIndex(index),
        },
        ..SnapshotMeta::default()
    }
}

fn temporary() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

#[divan::bench(args = BATCHES, sample_count = SAMPLES, sample_size = 1)]
fn append(bencher: Bencher, batch: Batch) {
    let mut log = Log::filled(batch.bytes);
    let command = command(batch.bytes);
    bencher
        .counter(ItemsCount::new(batch.entries))
        .bench_local(|| log.append(batch, &command));
}

/// The yardstick: one page of a file that is long enough already, and its sync.
#[divan::bench(sample_count = SAMPLES, sample_size = 1)]
fn plain_page(bencher: Bencher) {
    const PAGES: u64 = 1024;
    let temp = temporary();
    let file = File::create(temp.path().join("plain")).expect("a file");
    let page = [7; 4096];
    for number in 0..PAGES {
        file.write_all_at(&page, number * 4096).expect("written");
    }
    file.sync_all().expect("synced");
    let mut number = 0;
    bencher.bench_local(|| {
        number = (number + 1) % PAGES;
        file.write_all_at(&page, number * 4096).expect("written");
        file.sync_data().expect("synced");
    });
}
