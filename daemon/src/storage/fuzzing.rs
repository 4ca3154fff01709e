//! What is read from the disk, held to what the formats promise: records of the log, the small values beside them,
//! snapshots, and backups.

use tenure_raft::LogIndex;
use tenure_state::Row;

use super::backup::{Backup, BackupWriter, Origin};
use super::codec;
use super::record;
use super::snapshot::{Fault, SnapshotReader, SnapshotWriter};
use crate::fuzzing::{Input, assert_says_something};

/// A record or a value beside the log. The first byte says which: 0 a record as it is, 1 a record whose checksum is put
/// right first (a disk cannot do that, but the decoder behind the checksum is total all the same), 2 the values. Then
/// the log index (8 bytes), then the bytes.
///
/// # Panics
/// Where what decodes does not come back as it was, or a single changed bit goes unnoticed.
pub fn record(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let form = input.number::<1>();
    let index = LogIndex(input.number::<8>());
    let bytes = input.rest();
    match form {
        0 => entry(index, bytes),
        1 => entry(index, &with_checksum(index, bytes)),
        _ => values(bytes),
    }
}

fn with_checksum(index: LogIndex, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 5 {
        let sum = crc32c::crc32c(&index.0.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &bytes[..1]);
        let sum = crc32c::crc32c_append(sum, &bytes[5..]);
        bytes[1..5].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

fn entry(index: LogIndex, bytes: &[u8]) {
    let entry = match record::decode(index, bytes) {
        Ok(entry) => entry,
        Err(reason) => return assert_says_something(&reason),
    };
    assert_eq!(entry.index, index);
    let mut out = Vec::new();
    record::encode_into(&mut out, &entry);
    assert!(
        out.len() <= bytes.len(),
        "{} bytes became {}",
        bytes.len(),
        out.len()
    );
    assert_eq!(
        record::decode(index, &out),
        Ok(entry),
        "an entry does not survive its encoding"
    );
    let bit = index.0 as usize % (out.len() * 8);
    out[bit / 8] ^= 1 << (bit % 8);
    assert!(
        record::decode(index, &out).is_err(),
        "a changed bit goes unnoticed"
    );
}

fn values(bytes: &[u8]) {
    if let Some(meta) = codec::decode_meta(bytes) {
        assert_eq!(codec::decode_meta(&codec::encode_meta(&meta)), Some(meta));
    }
    if let Some(state) = codec::decode_hard_state(bytes) {
        let again = codec::decode_hard_state(&codec::encode_hard_state(state));
        assert_eq!(again, Some(state));
    }
    if let Some((format, identity)) = codec::decode_identity(bytes) {
        let again = codec::decode_identity(&codec::encode_identity(format, identity));
        assert_eq!(again, Some((format, identity)));
    }
    if let Some(configuration) = codec::decode_configuration(bytes) {
        let again = codec::decode_configuration(&codec::encode_configuration(&configuration));
        assert_eq!(again, Some(configuration));
    }
}

/// A snapshot. Where the first byte is zero, the rest is the file; else it says how many blocks there are at most, and
/// the rest is the body of the header and of each block (each behind two bytes of length), around which a file is built
/// that checks.
///
/// # Panics
/// Where what reads well does not come back as it was, or reads well in part.
pub fn snapshot(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let file = match input.number::<1>() {
        0 => input.rest().to_vec(),
        blocks => built(&mut input, blocks),
    };
    let (header, rows) = match read(&file) {
        Ok(read) => read,
        Err(fault) => return assert_says_something(&fault.at(std::path::Path::new("snap"))),
    };
    let held: usize = rows.iter().map(|row| row.key.len() + row.value.len()).sum();
    assert!(held <= file.len(), "rows came from nowhere");
    let mut writer = SnapshotWriter::new(Vec::new(), &header).expect("a Vec takes all");
    for row in &rows {
        let added = writer.row(row.table, &row.key, &row.value);
        added.expect("a Vec takes all");
    }
    let (again, size, _) = writer.finish().expect("a Vec takes all");
    assert_eq!(size, again.len() as u64);
    let came_back = read(&again).expect("what we write we read");
    assert_eq!(came_back, (header, rows));
    for cut in [file.len() / 2, file.len().saturating_sub(1)] {
        assert!(read(&file[..cut]).is_err(), "half a snapshot reads well");
    }
}

fn read(file: &[u8]) -> Result<(super::snapshot::Header, Vec<Row>), Fault> {
    let mut reader = SnapshotReader::new(file)?;
    let mut rows = Vec::new();
    loop {
        let good = reader.read();
        assert!(good <= file.len() as u64);
        if !reader.block(&mut rows)? {
            return Ok((reader.header().clone(), rows));
        }
        assert!(good < reader.read(), "a block of nothing");
    }
}

/// A file around these bodies, with every sum and count in order, so that what lies behind the sums is reached.
fn built(input: &mut Input<'_>, most: u64) -> Vec<u8> {
    let sum = |parts: &[&[u8]]| {
        let sum = parts
            .iter()
            .fold(0, |sum, part| crc32c::crc32c_append(sum, part));
        sum.to_le_bytes()
    };
    let header = input.sized();
    let (version, length) = (1u32.to_le_bytes(), (header.len() as u32).to_le_bytes());
    let mut file = b"TENURSNP".to_vec();
    for part in [&version, &length, &sum(&[&version, &length, header])] {
        file.extend_from_slice(part);
    }
    file.extend_from_slice(header);
    let (mut blocks, mut rows) = (0u64, 0u64);
    while blocks < most && !input.is_empty() {
        let block = input.sized();
        let length = (block.len() as u32).to_le_bytes();
        file.extend_from_slice(&length);
        file.extend_from_slice(&sum(&[&blocks.to_le_bytes(), &length, block]));
        file.extend_from_slice(block);
        blocks += 1;
        rows += rows_of(block);
    }
    let (blocks, rows) = (blocks.to_le_bytes(), rows.to_le_bytes());
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(&sum(&[&blocks, &rows]));
    for part in [&blocks[..], &rows, b"TENUREND"] {
        file.extend_from_slice(part);
    }
    file
}

/// How many rows a block has, as far as it has any.
fn rows_of(block: &[u8]) -> u64 {
    let mut input = Input::new(block);
    let mut rows = 0;
    while !input.is_empty() {
        input.bytes(1);
        let (key, value) = (input.number::<4>(), input.number::<4>());
        input.bytes(key as usize);
        input.bytes(value as usize);
        rows += 1;
    }
    rows
}

/// A backup. Where the first byte is zero, the rest is the file; else the body of its header (behind two bytes of length)
/// and what stands for the state in it, around which a file is built whose header and end check.
///
/// # Panics
/// Where what reads well does not come back as it was, or reads well in part.
pub fn backup(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let file = match input.number::<1>() {
        0 => input.rest().to_vec(),
        _ => enclosed(&mut input),
    };
    let read = match Backup::read(&file[..]) {
        Ok(read) => read,
        Err(fault) => return assert_says_something(&fault.at(std::path::Path::new("backup"))),
    };
    assert_eq!(read.size, file.len() as u64);
    let again = written(&read);
    let back = Backup::read(&again[..]).expect("what we write we read");
    assert_eq!(
        (
            &back.origin,
            back.cluster,
            &back.meta,
            back.digest,
            &back.rows
        ),
        (
            &read.origin,
            read.cluster,
            &read.meta,
            read.digest,
            &read.rows
        )
    );
    for cut in [file.len() / 2, file.len() - 1] {
        let half = Backup::read(&file[..cut]);
        assert!(half.is_err(), "half a backup reads well");
    }
}

fn written(backup: &Backup) -> Vec<u8> {
    let header = super::snapshot::Header {
        cluster: backup.cluster,
        meta: backup.meta.clone(),
        digest: backup.digest,
    };
    let mut file = Vec::new();
    let writer = BackupWriter::new(&mut file, &backup.origin, &header);
    let mut writer = writer.expect("a Vec takes all");
    for row in &backup.rows {
        let added = writer.row(row.table, &row.key, &row.value);
        added.expect("a Vec takes all");
    }
    let size = writer.finish().expect("a Vec takes all");
    assert_eq!(size, file.len() as u64);
    file
}

/// A file around these bytes, with the sum of its header and its end in order.
fn enclosed(input: &mut Input<'_>) -> Vec<u8> {
    let header = input.sized();
    let (version, length) = (1u32.to_le_bytes(), (header.len() as u32).to_le_bytes());
    let sum = super::snapshot::checksum(&[&version, &length, header]);
    let mut file = b"TENURBAK".to_vec();
    for part in [&version[..], &length, &sum, header, input.rest()] {
        file.extend_from_slice(part);
    }
    let digest = twox_hash::XxHash3_128::oneshot(&file);
    let length = file.len() as u64;
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&digest.to_be_bytes());
    file.extend_from_slice(b"TENUREOB");
    file
}

/// A backup of so many rows, as a file and as what is read of it.
#[cfg(test)]
pub(crate) fn backup_file(rows: usize) -> (Vec<u8>, Backup) {
    let mut backup = Backup {
        origin: Origin {
            member: tenure_raft::MemberId(7),
            name: "n1".to_owned(),
            program: "0.1.0".to_owned(),
            unix_ms: 1_700_000_000_000,
        },
        cluster: super::identity::ClusterId(9),
        meta: crate::fuzzing::seeds::meta(3, 40),
        digest: 77,
        rows: (0..rows).map(some_row).collect(),
        size: 0,
        file_digest: 0,
    };
    let file = written(&backup);
    backup.size = file.len() as u64;
    backup.file_digest = twox_hash::XxHash3_128::oneshot(&file[..file.len() - 32]);
    (file, backup)
}

/// Backups, as files and as what a file is built around.
#[cfg(test)]
pub(crate) fn backup_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for count in [0, 1, 2, 5, 20] {
        let (file, _) = backup_file(count);
        let header = u32::from_le_bytes(file[12..16].try_into().expect("four bytes")) as usize;
        let (header, rest) = file[20..file.len() - 32].split_at(header);
        let length = (header.len() as u16).to_le_bytes();
        seeds.push([&[0], &file[..]].concat());
        seeds.push([&[1], &length[..], header, rest].concat());
    }
    seeds
}

#[cfg(test)]
fn some_row(number: usize) -> Row {
    use bytes::Bytes;
    use tenure_state::Table;
    Row {
        table: Table::ALL[number % Table::ALL.len()],
        key: Bytes::from(vec![number as u8; number]),
        value: Bytes::from(vec![b'v'; number * 7]),
    }
}

/// Records and values, one of each kind.
#[cfg(test)]
pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    use crate::fuzzing::seeds::{entries, meta};
    let mut seeds = Vec::new();
    for entry in entries(300) {
        let mut record = Vec::new();
        record::encode_into(&mut record, &entry);
        let index = entry.index.0.to_le_bytes();
        for form in [0, 1] {
            seeds.push([&[form], &index[..], &record].concat());
        }
    }
    let hard_state = |vote: Option<u64>| {
        codec::encode_hard_state(tenure_raft::HardState {
            term: tenure_raft::Term(5),
            vote: vote.map(tenure_raft::MemberId),
        })
    };
    let identity = super::identity::Identity {
        cluster: super::identity::ClusterId(9),
        member: tenure_raft::MemberId(7),
    };
    let values = [
        codec::encode_meta(&meta(3, 40)),
        hard_state(None),
        hard_state(Some(7)),
        codec::encode_identity(1, identity),
        codec::encode_configuration(&meta(3, 40).configuration),
    ];
    seeds.extend(values.map(|value| [&[2; 9][..], &value].concat()));
    seeds
}

/// Snapshots, as files and as what a file is built around.
#[cfg(test)]
pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    use crate::fuzzing::seeds::meta;
    let header = super::snapshot::Header {
        cluster: super::identity::ClusterId(9),
        meta: meta(3, 40),
        digest: 77,
    };
    let mut seeds = Vec::new();
    for count in [0, 1, 2, 5, 9, 20] {
        let mut writer = SnapshotWriter::new(Vec::new(), &header).expect("a Vec takes all");
        for row in (0..count).map(some_row) {
            let added = writer.row(row.table, &row.key, &row.value);
            added.expect("a Vec takes all");
        }
        let (file, ..) = writer.finish().expect("a Vec takes all");
        // The header has 20 bytes before its body, a block 8, the end 32.
        let body = u32::from_le_bytes(file[12..16].try_into().expect("four bytes")) as usize;
        let (body, rest) = file[20..].split_at(body);
        let mut parts = vec![9];
        for part in [body, rest.get(8..rest.len() - 32).unwrap_or_default()] {
            parts.extend_from_slice(&(part.len() as u16).to_le_bytes());
            parts.extend_from_slice(part);
        }
        seeds.push([&[0], &file[..]].concat());
        seeds.push(parts);
    }
    seeds
}
