//! A file that is damaged or not ours is found, whatever was changed in it.

use bytes::Bytes;
use tenure_raft::{MemberId, Payload, Write};
use tenure_state::{Row, Table};
use tenured::storage::{ClusterId, Identity, LogFile, StateFile, StorageError};

use super::disk::{Disk, Random};
use super::model::{IDENTITY, entry, meta, path};

fn log() -> (Disk, tenured::storage::LogContents) {
    let disk = Disk::default();
    let mut log = LogFile::create_on(disk.clone(), path(), IDENTITY, &meta(1, 1)).expect("created");
    let append = (2..40)
        .map(|index| match index % 10 {
            0 => entry(1, index, Payload::Configuration(meta(1, 1).configuration)),
            _ => entry(1, index, Payload::Command(Bytes::from(vec![b'v'; 300]))),
        })
        .collect();
    log.write(&[Write {
        append,
        ..Write::default()
    }])
    .expect("written");
    log.close().expect("closed");
    let (log, contents) = LogFile::open_on(disk.clone(), path(), IDENTITY).expect("opens");
    log.close().expect("closed");
    (disk, contents)
}

/// Flips one bit in places all over the file, and checks that each is found or changes nothing.
fn flip_bits<T: PartialEq + std::fmt::Debug>(
    disk: &Disk,
    sound: &T,
    open: impl Fn(Disk) -> Result<T, StorageError>,
) -> u32 {
    let bytes = disk.bytes();
    let mut random = Random::new(1);
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut found = 0;
    for _ in 0..400 {
        let at = used[random.below(used.len() as u64) as usize];
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.below(8);
        match open(Disk::of(flipped)) {
            Ok(contents) => assert_eq!(&contents, sound, "a flip at {at} went unnoticed"),
            Err(error) => {
                assert_eq!(error.exit_code(), 3, "a flip at {at}: {error}");
                found += 1;
            }
        }
    }
    found
}

#[test]
fn flipped_bit_in_the_log_is_found() {
    let (disk, contents) = log();
    let found = flip_bits(&disk, &contents, |disk| {
        LogFile::open_on(disk, path(), IDENTITY).map(|(_, contents)| contents)
    });
    assert!(
        found > 60,
        "free pages hold old bytes, but many flips matter: {found}"
    );
}

#[test]
fn flipped_bit_in_a_row_of_the_state_is_found() {
    let path = std::path::Path::new("state.redb");
    let disk = Disk::default();
    let row = |n: u32| Row {
        table: Table::ALL[n as usize / 10],
        key: Bytes::copy_from_slice(&n.to_be_bytes()),
        value: Bytes::from(vec![b'v'; 300]),
    };
    let rows: Vec<Row> = (0..90).map(row).collect();
    let state =
        StateFile::create_on(disk.clone(), path, IDENTITY, &meta(1, 1), 5, &rows).expect("created");
    state.close().expect("closed");
    // Pages of the library's own are covered by the digest, which whoever loads the rows recomputes; values are ours.
    let bytes = disk.bytes();
    let values: Vec<usize> = bytes
        .windows(100)
        .enumerate()
        .filter(|(_, w)| *w == [b'v'; 100])
        .map(|(at, _)| at)
        .collect();
    assert!(values.len() > 90 * 100, "the values are in the file");
    for at in values.into_iter().step_by(997) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        let error = StateFile::open_on(Disk::of(flipped), path, IDENTITY).expect_err("found");
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(error.to_string().contains("has a bad checksum"), "{error}");
    }
}

#[test]
fn file_of_another_cluster_or_member_is_refused_by_name() {
    let (disk, _) = log();
    let other_cluster = Identity {
        cluster: ClusterId(0xbad),
        ..IDENTITY
    };
    let other_member = Identity {
        member: MemberId(8),
        ..IDENTITY
    };
    for (identity, expected) in [
        (
            other_cluster,
            "belongs to cluster 00000000000000000000000000c0ffee, not to 00000000000000000000000000000bad",
        ),
        (
            other_member,
            "belongs to member 0000000000000007, not to 0000000000000008",
        ),
    ] {
        let error = LogFile::open_on(disk.clone(), path(), identity).expect_err("refused");
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// A file of before there was access control has no table for it. It is no damage, and the first checkpoint makes one.
#[test]
fn a_state_of_before_access_control_opens_and_takes_rows_of_it() {
    let path = std::path::Path::new("state.redb");
    let disk = Disk::default();
    let row = |table, key: &'static [u8]| Row {
        table,
        key: Bytes::from_static(key),
        value: Bytes::from_static(b"v"),
    };
    let old = [row(Table::Leases, b"l"), row(Table::Idempotency, b"i")];
    let state =
        StateFile::create_on(disk.clone(), path, IDENTITY, &meta(1, 1), 5, &old).expect("created");
    state.close().expect("closed");
    let table = redb::TableDefinition::<&[u8], &[u8]>::new("access");
    let database = redb::Database::builder().create_with_backend(disk.clone());
    let database = database.expect("it opens");
    let transaction = database.begin_write().expect("it begins");
    assert!(
        transaction.delete_table(table).expect("it is deleted"),
        "it was there"
    );
    transaction.commit().expect("it is committed");
    drop(database);

    let (mut state, loaded) = StateFile::open_on(disk.clone(), path, IDENTITY).expect("it opens");
    assert_eq!(loaded.rows, old);
    let new = row(Table::Access, b"\x00");
    let change = tenure_state::RowChange {
        table: new.table,
        key: new.key.clone(),
        value: Some(new.value.clone()),
    };
    let checkpoint = tenure_replica::Checkpoint {
        meta: meta(1, 2),
        digest: 6,
        rows: vec![change],
    };
    state.checkpoint(&checkpoint).expect("it is written");
    state.close().expect("closed");
    let (_, loaded) = StateFile::open_on(disk, path, IDENTITY).expect("it opens");
    assert_eq!(loaded.rows, [&old[..], &[new]].concat());
}
