//! What is acknowledged survives every crash; what was never written does not appear.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use bytes::Bytes;
use tenure_raft::{HardState, LogIndex, Payload, Term, Write, WriteId};
use tenure_replica::Checkpoint;
use tenure_state::{RowChange, Table};
use tenured::storage::{LogContents, LogEvent, LogFile, LogThread, StateFile};

use super::disk::{Disk, Random};
use super::model::{IDENTITY, apply, entry, meta, path, random_write};

/// A new log, which knows the term that it begins behind.
fn empty() -> LogContents {
    let hard_state = HardState {
        term: Term(1),
        vote: None,
    };
    LogContents {
        hard_state,
        base: meta(1, 1),
        entries: Vec::new(),
        founding: None,
        starts: Vec::new(),
    }
}

/// Opens what a crash left; every other time the power goes again while it is being opened.
fn reopen(disk: &Disk, random: &mut Random) -> (LogFile, LogContents) {
    let mut disk = disk.after_crash(random);
    if random.below(2) == 0 {
        disk.dies_in(random.below(6));
        // It may fail or get through; either way the disk has to be good for another try.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            LogFile::open_on(disk.clone(), path(), IDENTITY).map(drop)
        }));
        disk = disk.after_crash(random);
    }
    LogFile::open_on(disk, path(), IDENTITY).expect("the log opens after a crash")
}

#[test]
fn log_equals_a_model_over_random_writes_and_restarts() {
    for seed in 0..15 {
        let mut random = Random::new(seed);
        let (disk, mut model) = (Disk::default(), empty());
        let mut log =
            LogFile::create_on(disk.clone(), path(), IDENTITY, &model.base).expect("created");
        for id in 1..60 {
            let mut writes = Vec::new();
            for _ in 0..=random.below(3) {
                let write = random_write(&mut random, &model, id);
                apply(&mut model, &write);
                writes.push(write);
            }
            let before = disk.syncs();
            let votes = writes.iter().any(|write| write.hard_state.is_some());
            let written = log.write(&writes).expect("written");
            assert_eq!((written.last, written.writes), (WriteId(id), writes.len()));
            assert!(
                disk.syncs() <= before + 2 + u64::from(votes),
                "one sync, one more where the file grows, and one for a term or a vote"
            );
            if random.below(10) == 0 {
                log.close().expect("closed");
                let (again, contents) =
                    LogFile::open_on(disk.clone(), path(), IDENTITY).expect("opens");
                assert!(
                    contents == model,
                    "seed {seed}, write {id}: the log differs from the model"
                );
                log = again;
            }
        }
    }
}

#[test]
fn acknowledged_writes_survive_any_crash_and_nothing_else_appears() {
    let mut in_flight = 0;
    for seed in 0..120 {
        let mut random = Random::new(seed);
        let (disk, mut acknowledged) = (Disk::default(), empty());
        let mut log = LogFile::create_on(disk.clone(), path(), IDENTITY, &acknowledged.base)
            .expect("created");
        disk.dies_in(random.below(250));
        let unknown = (1..).find_map(|id| {
            let write = random_write(&mut random, &acknowledged, id);
            let mut after = acknowledged.clone();
            apply(&mut after, &write);
            match log.write(&[write]) {
                Ok(_) => {
                    acknowledged = after;
                    None
                }
                Err(_) => Some(after),
            }
        });
        let unknown = unknown.expect("the power goes in the end");
        log.write(&[Write {
            append: vec![],
            ..Write::default()
        }])
        .expect_err("a file that failed takes no more");
        drop(log);
        let (_, contents) = reopen(&disk, &mut random);
        if contents == unknown && contents != acknowledged {
            in_flight += 1;
        } else {
            assert!(
                contents == acknowledged,
                "seed {seed}: neither what was acknowledged nor what was in flight"
            );
        }
    }
    assert!(in_flight > 0, "the disk keeps some of what was not synced");
}

#[test]
fn checkpoint_is_there_whole_or_not_at_all() {
    let path = std::path::Path::new("state.redb");
    let rows = |n: u64| {
        let row = |key: u64| RowChange {
            table: Table::ALL[key as usize % Table::ALL.len()],
            key: Bytes::copy_from_slice(&key.to_be_bytes()),
            value: (!(n + key).is_multiple_of(3)).then(|| Bytes::from(vec![n as u8; 200])),
        };
        (0..80).map(row).collect::<Vec<_>>()
    };
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        let mut state = StateFile::create_on(disk.clone(), path, IDENTITY, &meta(1, 1), 1, &[])
            .expect("created");
        disk.dies_in(random.below(400));
        let failed = (2..)
            .find(|n| {
                let checkpoint = Checkpoint {
                    meta: meta(1, *n),
                    digest: u128::from(*n),
                    rows: rows(*n),
                };
                state.checkpoint(&checkpoint).is_err()
            })
            .expect("the power goes in the end");
        drop(state);
        let disk = disk.after_crash(&mut random);
        let (_, loaded) =
            StateFile::open_on(disk, path, IDENTITY).expect("the state opens after a crash");
        let at = loaded.meta.position.index.0;
        assert!(
            at == failed || at == failed - 1,
            "seed {seed}: {at}, the checkpoint at {failed} failed"
        );
        assert_eq!(loaded.digest, u128::from(at));
        let mut expected: Vec<_> = if at == 1 { Vec::new() } else { rows(at) };
        expected.sort_by(|a, b| (a.table as u8, &a.key).cmp(&(b.table as u8, &b.key)));
        let expected: Vec<_> = expected
            .into_iter()
            .filter_map(|row| Some((row.table, row.key, row.value?)))
            .collect();
        let found: Vec<_> = loaded
            .rows
            .into_iter()
            .map(|row| (row.table, row.key, row.value))
            .collect();
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn nothing_is_acknowledged_after_a_sync_that_failed() {
    let disk = Disk::default();
    let log = LogFile::create_on(disk.clone(), path(), IDENTITY, &meta(1, 1)).expect("created");
    let (events, received) = mpsc::channel();
    let thread = LogThread::start(log, move |event| {
        events.send(event).expect("the test listens")
    })
    .expect("starts");
    let write = |index: u64| Write {
        id: WriteId(index),
        append: vec![entry(1, index, Payload::Empty)],
        ..Write::default()
    };
    thread.write(write(2));
    let first = received.recv().expect("an event");
    assert!(
        matches!(first, LogEvent::Persisted { id: WriteId(2), .. }),
        "{first:?}"
    );
    disk.fail_next_sync();
    thread.write(write(3));
    match received.recv().expect("an event") {
        LogEvent::Failed(error) => assert_eq!(error.exit_code(), 1, "{error}"),
        event => panic!("{event:?}"),
    }
    thread.write(write(4));
    received
        .recv()
        .expect_err("the thread has ended and says nothing more");
}

#[test]
fn write_that_contradicts_the_log_is_refused() {
    let check = |write: Write, expected: &str| {
        let mut log =
            LogFile::create_on(Disk::default(), path(), IDENTITY, &meta(3, 10)).expect("created");
        let append = vec![entry(3, 11, Payload::Empty), entry(3, 12, Payload::Empty)];
        log.write(&[Write {
            append,
            ..Write::default()
        }])
        .expect("written");
        let error = log.write(&[write]).expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let append = |term, index| Write {
        append: vec![entry(term, index, Payload::Empty)],
        ..Write::default()
    };
    check(
        append(3, 14),
        "entry 14 of term 3 would follow entry 12 of term 3",
    );
    check(
        append(3, 12),
        "entry 12 of term 3 would follow entry 12 of term 3",
    );
    check(append(2, 13), "entry 13 of term 2 would follow");
    check(append(4, 13), "in term 3");
    check(
        Write {
            truncate_from: Some(LogIndex(10)),
            ..Write::default()
        },
        "truncation from 10 reaches into the log's base 10",
    );
    check(
        Write {
            compact_to: Some(meta(3, 13)),
            ..Write::default()
        },
        "compaction to 13 of a log from 10 to 12",
    );
    let lower = HardState {
        term: Term(2),
        vote: None,
    };
    check(
        Write {
            hard_state: Some(lower),
            ..Write::default()
        },
        "term 2 would follow term 3",
    );
}
