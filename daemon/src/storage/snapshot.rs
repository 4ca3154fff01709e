//! The snapshot file: the whole state in a form that can be sent in pieces and checked block by block.
//!
//! | part | bytes |
//! | --- | --- |
//! | magic | `TENURSNP` |
//! | header | version (4), length (4), CRC32C over version, length and body (4), body: cluster id, what it covers, digest of the rows |
//! | block, repeated | length, not zero (4), CRC32C over its number (8), length and body (4), body: rows |
//! | row | table (1), length of key (4), length of value (4), key, value |
//! | end | zero (4), CRC32C over the two counts (4), blocks (8), rows (8), `TENUREND` |
//!
//! Numbers are little-endian, bodies of headers protobuf. A block is closed by the row that brings it to 1 MiB. The digest by which members name
//! a file is the XXH3-128 of all of it. Reading is total: no length in the file is believed before its bytes are there.

use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use tenure_raft::SnapshotMeta;
use tenure_state::{Row, Table};
use twox_hash::xxhash3_128::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};

use super::codec::{self, SnapshotMetaRecord};
use super::error::StorageError;
use super::identity::ClusterId;

const MAGIC: [u8; 8] = *b"TENURSNP";
const END: [u8; 8] = *b"TENUREND";
pub(super) const VERSION: u32 = 1;

/// A block is closed when it has so many bytes: few enough to check and resend, many enough to cost nothing.
const BLOCK: usize = 1 << 20;

/// No block is longer: it holds at most one row beyond [`BLOCK`], and no row comes near this.
const BLOCK_LIMIT: u32 = 64 << 20;

/// No header is longer: a configuration has a few dozen members at most.
pub(super) const HEADER_LIMIT: u32 = 1 << 20;

#[derive(Clone, PartialEq, Message)]
struct HeaderRecord {
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    meta: Option<SnapshotMetaRecord>,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) cluster: ClusterId,
    pub(super) meta: SnapshotMeta,
    pub(super) digest: u128,
}

/// The digest of a file's bytes, computed as they pass.
pub(super) struct FileDigest(RawHasher<&'static [u8; DEFAULT_SECRET_LENGTH]>);

impl FileDigest {
    pub(super) fn new() -> FileDigest {
        FileDigest(RawHasher::new(SecretBuffer::default()))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(super) fn finish(&self) -> u128 {
        self.0.finish_128()
    }
}

/// Writes a snapshot from its beginning to its end.
pub(super) struct SnapshotWriter<W> {
    out: W,
    digest: FileDigest,
    size: u64,
    block: Vec<u8>,
    blocks: u64,
    rows: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins the file.
    pub(super) fn new(out: W, header: &Header) -> io::Result<SnapshotWriter<W>> {
        let mut writer = SnapshotWriter {
            out,
            digest: FileDigest::new(),
            size: 0,
            block: Vec::new(),
            blocks: 0,
            rows: 0,
        };
        let body = HeaderRecord {
            cluster: codec::encode_cluster(header.cluster),
            meta: Some(SnapshotMetaRecord::from(&header.meta)),
            digest: header.digest.to_be_bytes().to_vec(),
        };
        let body = body.encode_to_vec();
        let (version, length) = (VERSION.to_le_bytes(), length_of(&body).to_le_bytes());
        let sum = checksum(&[&version, &length, &body]);
        for part in [&MAGIC[..], &version, &length, &sum, &body] {
            writer.put(part)?;
        }
        Ok(writer)
    }

    /// Adds a row. Answers how large the file is so far, what waits in the open block not counted.
    pub(super) fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<u64> {
        self.block.push(table as u8);
        self.block.extend_from_slice(&length_of(key).to_le_bytes());
        self.block
            .extend_from_slice(&length_of(value).to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.rows += 1;
        if self.block.len() >= BLOCK {
            self.close_block()?;
        }
        Ok(self.size)
    }

    /// Ends the file; answers the output, the size and the digest of all bytes.
    pub(super) fn finish(mut self) -> io::Result<(W, u64, u128)> {
        if !self.block.is_empty() {
            self.close_block()?;
        }
        let (length, blocks, rows) = (
            0u32.to_le_bytes(),
            self.blocks.to_le_bytes(),
            self.rows.to_le_bytes(),
        );
        let sum = checksum(&[&blocks, &rows]);
        for part in [&length[..], &sum, &blocks, &rows, &END] {
            self.put(part)?;
        }
        self.out.flush()?;
        Ok((self.out, self.size, self.digest.finish()))
    }

    fn close_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let length = length_of(&block).to_le_bytes();
        let sum = checksum(&[&self.blocks.to_le_bytes(), &length, &block]);
        for part in [&length[..], &sum, &block] {
            self.put(part)?;
        }
        self.blocks += 1;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// Why a snapshot cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk failed.
    Io(io::Error),
    /// It is not what was written.
    Bad(String),
    /// It is of a newer version.
    Newer(u32),
}

impl Fault {
    /// The error of a copy in transit.
    pub(super) fn at(self, path: &Path) -> StorageError {
        self.of(path, RESEND)
    }

    /// The error of a file about which this can be done.
    pub(super) fn of(self, path: &Path, remedy: &'static str) -> StorageError {
        match self {
            Fault::Io(error) => StorageError::io("read", path, error),
            Fault::Bad(reason) => StorageError::Damaged {
                path: path.to_owned(),
                reason,
                remedy,
            },
            Fault::Newer(found) => StorageError::Newer {
                path: path.to_owned(),
                found,
                supported: VERSION,
            },
        }
    }
}

/// What to do about a damaged snapshot in transit.
const RESEND: &str = "it is only a copy in transit and will be sent again";

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Bad("it is cut short".to_owned()),
            _ => Fault::Io(error),
        }
    }
}

/// Reads a snapshot block by block, checking all of it.
pub(super) struct SnapshotReader<R> {
    input: R,
    header: Header,
    blocks: u64,
    rows: u64,
    read: u64,
    is_followed: bool,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the header of a snapshot that something else follows, which its reader leaves where it is.
    pub(super) fn followed(input: R) -> Result<SnapshotReader<R>, Fault> {
        let mut reader = SnapshotReader::new(input)?;
        reader.is_followed = true;
        Ok(reader)
    }

    /// What follows it, once all of it was read.
    pub(super) fn into_input(self) -> R {
        self.input
    }

    /// Reads the header.
    pub(super) fn new(mut input: R) -> Result<SnapshotReader<R>, Fault> {
        if array(&mut input)? != MAGIC {
            return Err(bad("it is not a snapshot of Tenure"));
        }
        let (version, length, sum): ([u8; 4], [u8; 4], [u8; 4]) =
            (array(&mut input)?, array(&mut input)?, array(&mut input)?);
        if u32::from_le_bytes(version) > VERSION {
            return Err(Fault::Newer(u32::from_le_bytes(version)));
        }
        let body = bounded(&mut input, u32::from_le_bytes(length), HEADER_LIMIT)?;
        if sum != checksum(&[&version, &length, &body]) {
            return Err(bad("its header has a bad checksum"));
        }
        let header = decode_header(&body).ok_or_else(|| bad("its header makes no sense"))?;
        let read = (MAGIC.len() + 12 + body.len()) as u64;
        Ok(SnapshotReader {
            input,
            header,
            blocks: 0,
            rows: 0,
            read,
            is_followed: false,
        })
    }

    /// What the snapshot says of itself.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of what has been read and checked.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Reads the next block into `rows`; `false` at the end, which has been checked too.
    pub(super) fn block(&mut self, rows: &mut Vec<Row>) -> Result<bool, Fault> {
        let (length, sum): ([u8; 4], [u8; 4]) = (array(&mut self.input)?, array(&mut self.input)?);
        if length == [0; 4] {
            return self.end(sum).map(|()| false);
        }
        let body = bounded(&mut self.input, u32::from_le_bytes(length), BLOCK_LIMIT)?;
        if sum != checksum(&[&self.blocks.to_le_bytes(), &length, &body]) {
            return Err(Fault::Bad(format!(
                "block {} has a bad checksum",
                self.blocks
            )));
        }
        let before = rows.len();
        decode_rows(&body, rows)
            .ok_or_else(|| Fault::Bad(format!("block {} makes no sense", self.blocks)))?;
        self.blocks += 1;
        self.rows += (rows.len() - before) as u64;
        self.read += 8 + body.len() as u64;
        Ok(true)
    }

    fn end(&mut self, sum: [u8; 4]) -> Result<(), Fault> {
        let (blocks, rows, end): ([u8; 8], [u8; 8], [u8; 8]) = (
            array(&mut self.input)?,
            array(&mut self.input)?,
            array(&mut self.input)?,
        );
        if end != END || sum != checksum(&[&blocks, &rows]) {
            return Err(bad("its end has a bad checksum"));
        }
        if (u64::from_le_bytes(blocks), u64::from_le_bytes(rows)) != (self.blocks, self.rows) {
            return Err(bad("blocks or rows are missing"));
        }
        if !self.is_followed && self.input.read(&mut [0])? != 0 {
            return Err(bad("something follows its end"));
        }
        self.read += 8 + 24;
        Ok(())
    }
}

fn decode_header(body: &[u8]) -> Option<Header> {
    let record = HeaderRecord::decode(body).ok()?;
    Some(Header {
        cluster: codec::decode_cluster(&record.cluster)?,
        meta: record.meta?.decode_into()?,
        digest: u128::from_be_bytes(record.digest.try_into().ok()?),
    })
}

fn decode_rows(mut block: &[u8], rows: &mut Vec<Row>) -> Option<()> {
    while !block.is_empty() {
        let (&[table], rest) = block.split_first_chunk()?;
        let (&key, rest) = rest.split_first_chunk()?;
        let (&value, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(key) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(value) as usize)?;
        // Copies, because a slice would keep a whole block in memory for as long as one row of it lives.
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        rows.push(Row {
            table: Table::from_number(table)?,
            key,
            value,
        });
        block = rest;
    }
    Some(())
}

pub(super) fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads so many bytes, but not more than `limit`; memory is taken only as bytes arrive.
pub(super) fn bounded(input: &mut impl Read, length: u32, limit: u32) -> Result<Vec<u8>, Fault> {
    if length > limit {
        return Err(Fault::Bad(format!(
            "a length of {length} is beyond {limit}"
        )));
    }
    let mut bytes = Vec::new();
    input.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}

pub(super) fn bad(reason: &str) -> Fault {
    Fault::Bad(reason.to_owned())
}

pub(super) fn checksum(parts: &[&[u8]]) -> [u8; 4] {
    parts
        .iter()
        .fold(0, |sum, part| crc32c::crc32c_append(sum, part))
        .to_le_bytes()
}

pub(super) fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len())
        .expect("requests, and so keys and values, are bounded far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_raft::{LogIndex, LogPosition, Stamp, Term};

    fn header() -> Header {
        let position = LogPosition {
            term: Term(3),
            index: LogIndex(40),
        };
        let meta = SnapshotMeta {
            position,
            stamp: Stamp(99),
            configuration: Default::default(),
        };
        Header {
            cluster: ClusterId(7 << 100),
            meta,
            digest: 1 << 127,
        }
    }

    fn rows(count: u32) -> Vec<Row> {
        let row = |n: u32| Row {
            table: Table::ALL[n as usize * Table::ALL.len() / count as usize],
            key: Bytes::copy_from_slice(&n.to_be_bytes()),
            value: Bytes::from(vec![n as u8; (n as usize * 37) % 3000]),
        };
        (0..count).map(row).collect()
    }

    fn write(rows: &[Row]) -> (Vec<u8>, u128) {
        let mut writer = SnapshotWriter::new(Vec::new(), &header()).expect("a Vec takes all");
        for row in rows {
            writer
                .row(row.table, &row.key, &row.value)
                .expect("a Vec takes all");
        }
        let (bytes, size, digest) = writer.finish().expect("a Vec takes all");
        assert_eq!(bytes.len() as u64, size);
        (bytes, digest)
    }

    fn read(bytes: &[u8]) -> Result<(Header, Vec<Row>), Fault> {
        let mut reader = SnapshotReader::new(bytes)?;
        let mut rows = Vec::new();
        while reader.block(&mut rows)? {}
        assert_eq!(reader.read(), bytes.len() as u64);
        Ok((reader.header().clone(), rows))
    }

    #[test]
    fn snapshot_of_no_row_one_block_or_many_comes_back_as_it_was() {
        for count in [0, 1, 100, 5000] {
            let rows = rows(count);
            let (bytes, digest) = write(&rows);
            assert_eq!(digest, twox_hash::XxHash3_128::oneshot(&bytes));
            assert_eq!(read(&bytes).expect("sound"), (header(), rows));
        }
        assert!(write(&rows(5000)).0.len() > 3 * BLOCK, "several blocks");
    }

    #[test]
    fn row_longer_than_a_block_is_carried_whole() {
        let rows = [Row {
            table: Table::History,
            key: Bytes::new(),
            value: Bytes::from(vec![5; 3 * BLOCK]),
        }];
        assert_eq!(read(&write(&rows).0).expect("sound").1, rows);
    }

    #[test]
    fn snapshot_with_any_bit_changed_cut_short_or_continued_is_refused() {
        let (bytes, _) = write(&rows(6));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(read(&longer).is_err());
    }

    #[test]
    fn lengths_that_were_never_written_take_no_memory() {
        let (mut bytes, _) = write(&rows(6));
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&bytes), Err(Fault::Bad(_))));
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        assert!(matches!(read(&bytes), Err(Fault::Newer(2))));
    }
}
