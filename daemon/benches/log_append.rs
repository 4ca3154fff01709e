//! Appending to the log file: what one synced write costs, for one entry and for sixty-four.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use tenure_raft::{Entry, LogIndex, LogPosition, Payload, SnapshotMeta, Stamp, Term, Write};
use tenured::storage::{ClusterId, DataDir, form, open};

fn main() {
    divan::main();
}

/// Entries of 256 bytes, all of one write durable before the next; the front is cut off every 1000 writes, as it is
/// in a running member.
#[divan::bench(args = [1, 64], max_time = 5)]
fn append(bencher: Bencher, entries: u64) {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let dir = DataDir::open(temp.path(), "bench").expect("a data directory");
    let meta = |index: u64| SnapshotMeta {
        position: LogPosition {
            term: Term(1),
            index: LogIndex(index),
        },
        ..SnapshotMeta::default()
    };
    form(&dir, ClusterId(1), &meta(1), 0, &[], &[]).expect("formed");
    let mut log = open(&dir).expect("opens").expect("formed").log;
    let command = Payload::Command(Bytes::from(vec![7; 256]));
    let (mut last, mut writes) = (1, 0);
    bencher.counter(ItemsCount::new(entries)).bench_local(|| {
        let entry = |index: u64| Entry {
            index: LogIndex(index),
            term: Term(1),
            stamp: Stamp(0),
            payload: command.clone(),
        };
        writes += 1;
        let compact_to = (writes % 1000 == 0).then(|| meta(last));
        let append = (last + 1..=last + entries).map(entry).collect();
        last += entries;
        log.write(&[Write {
            append,
            compact_to,
            ..Write::default()
        }])
        .expect("written")
    });
}
