//! The backup file: a whole state, with who made it when, in a form that shows whether all of it is there.
//!
//! | part | bytes |
//! | --- | --- |
//! | magic | `TENURBAK` |
//! | header | version (4), length (4), CRC32C over version, length and body (4), body: member id and name, version of the program, time |
//! | state | a snapshot file as it is, with a version of its own: see `snapshot.rs` |
//! | end | length of all before it (8), XXH3-128 of all before it (16), `TENUREOB` |
//!
//! Numbers are little-endian, but the digest, which is written as it is read; the body of the header is protobuf. The
//! state inside covers all entries of the log up to the position that its header names, and nothing of later ones. A file
//! that was cut off anywhere lacks its end. Reading is total, as that of a snapshot.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use prost::Message;
use tenure_api::{BACKUP_END_BYTES, backup_end};
use tenure_raft::MemberId;
use tenure_state::{Row, Table};

use super::error::StorageError;
use super::snapshot::{
    self, Fault, FileDigest, HEADER_LIMIT, Header, SnapshotReader, SnapshotWriter, array, bad,
    bounded, checksum, length_of,
};

const MAGIC: [u8; 8] = *b"TENURBAK";
/// The version of this format.
pub const BACKUP_FORMAT: u32 = 1;

/// What to do about a damaged backup.
const OTHER: &str = "fetch it again, or use another backup";

#[derive(Clone, PartialEq, Message)]
struct HeaderRecord {
    #[prost(fixed64, tag = "1")]
    member: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    program: String,
    #[prost(uint64, tag = "4")]
    unix_ms: u64,
}

/// Who made a backup, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The member whose state it is.
    pub member: MemberId,
    /// That member's name.
    pub name: String,
    /// The version of the program.
    pub program: String,
    /// The time of that machine, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// Bytes as they pass, with their digest.
struct Digested<T> {
    inner: T,
    digest: FileDigest,
    length: u64,
}

impl<T> Digested<T> {
    fn new(inner: T) -> Digested<T> {
        Digested {
            inner,
            digest: FileDigest::new(),
            length: 0,
        }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// What the end of a file says of all that has passed.
    fn end(&self) -> [u8; BACKUP_END_BYTES] {
        backup_end(self.length, self.digest.finish())
    }
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.passed(&buffer[..length]);
        Ok(length)
    }
}

/// Writes a backup from its beginning to its end.
pub(super) struct BackupWriter<W: Write>(SnapshotWriter<Digested<BufWriter<W>>>);

impl<W: Write> BackupWriter<W> {
    /// Begins the file.
    pub(super) fn new(out: W, origin: &Origin, state: &Header) -> io::Result<BackupWriter<W>> {
        let mut out = Digested::new(BufWriter::new(out));
        let body = HeaderRecord {
            member: origin.member.0,
            name: origin.name.clone(),
            program: origin.program.clone(),
            unix_ms: origin.unix_ms,
        };
        let body = body.encode_to_vec();
        let (version, length) = (BACKUP_FORMAT.to_le_bytes(), length_of(&body).to_le_bytes());
        let sum = checksum(&[&version, &length, &body]);
        for part in [&MAGIC[..], &version, &length, &sum, &body] {
            out.write_all(part)?;
        }
        SnapshotWriter::new(out, state).map(BackupWriter)
    }

    /// Adds a row. Answers how large the state is so far, what waits in the open block not counted.
    pub(super) fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<u64> {
        self.0.row(table, key, value)
    }

    /// Ends the file; answers its size.
    pub(super) fn finish(self) -> io::Result<u64> {
        let (mut out, ..) = self.0.finish()?;
        let end = out.end();
        out.write_all(&end)?;
        out.flush()?;
        Ok(out.length)
    }
}

/// A backup that was read and checked whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Who made it.
    pub origin: Origin,
    /// The cluster whose state it is.
    pub cluster: super::ClusterId,
    /// The last entry that it covers, and the members then.
    pub meta: tenure_raft::SnapshotMeta,
    /// The digest that its rows had when they were written; whoever loads them recomputes it and compares.
    pub digest: u128,
    /// All rows, by table and key.
    pub rows: Vec<Row>,
    /// How many bytes the file has.
    pub size: u64,
    /// The digest of all bytes of the file but its end.
    pub file_digest: u128,
}

impl Backup {
    /// Whether a file begins as a backup does; what follows may be anything.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_one(path: &Path) -> Result<bool, StorageError> {
        let mut file = open(path)?;
        let mut magic = [0; 8];
        match file.read_exact(&mut magic) {
            Ok(()) => Ok(magic == MAGIC),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(StorageError::io("read", path, error)),
        }
    }

    /// Reads a backup and checks all of it.
    ///
    /// # Errors
    /// A file that cannot be read, is no backup, is damaged or cut off, or of a newer version.
    pub fn open(path: &Path) -> Result<Backup, StorageError> {
        let input = BufReader::with_capacity(1 << 20, open(path)?);
        Backup::read(input).map_err(|fault| fault.of(path, OTHER))
    }

    /// The same of any bytes.
    pub(super) fn read(input: impl Read) -> Result<Backup, Fault> {
        let mut input = Digested::new(input);
        let origin = read_header(&mut input)?;
        let mut state = SnapshotReader::followed(input).map_err(inside)?;
        let mut rows = Vec::new();
        while state.block(&mut rows)? {}
        let header = state.header().clone();
        let mut input = state.into_input();
        let (expected, file_digest) = (input.end(), input.digest.finish());
        if array::<BACKUP_END_BYTES>(&mut input)? != expected {
            return Err(bad("its end does not fit what comes before it"));
        }
        let size = input.length;
        if input.read(&mut [0])? != 0 {
            return Err(bad("something follows its end"));
        }
        Ok(Backup {
            origin,
            cluster: header.cluster,
            meta: header.meta,
            digest: header.digest,
            rows,
            size,
            file_digest,
        })
    }
}

fn open(path: &Path) -> Result<File, StorageError> {
    File::open(path).map_err(|e| StorageError::io("open", path, e))
}

fn read_header(input: &mut impl Read) -> Result<Origin, Fault> {
    if array(input)? != MAGIC {
        return Err(bad("it is not a backup of Tenure"));
    }
    let (version, length, sum): ([u8; 4], [u8; 4], [u8; 4]) =
        (array(input)?, array(input)?, array(input)?);
    if u32::from_le_bytes(version) > BACKUP_FORMAT {
        return Err(Fault::Newer(u32::from_le_bytes(version)));
    }
    let body = bounded(input, u32::from_le_bytes(length), HEADER_LIMIT)?;
    if sum != checksum(&[&version, &length, &body]) {
        return Err(bad("its header has a bad checksum"));
    }
    let header = HeaderRecord::decode(&body[..]).map_err(|_| bad("its header makes no sense"))?;
    Ok(Origin {
        member: MemberId(header.member),
        name: header.name,
        program: header.program,
        unix_ms: header.unix_ms,
    })
}

/// What is wrong with the state inside, which a reader of the whole must not take for the whole.
fn inside(fault: Fault) -> Fault {
    match fault {
        Fault::Bad(reason) => Fault::Bad(format!("of the state in it: {reason}")),
        other => other,
    }
}

/// The version of the format of the state inside.
pub const STATE_IN_BACKUP_FORMAT: u32 = snapshot::VERSION;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fuzzing::backup_file;

    fn read(bytes: &[u8]) -> Result<Backup, Fault> {
        Backup::read(bytes)
    }

    #[test]
    fn backup_comes_back_as_it_was_with_its_size_and_digest() {
        for count in [0, 1, 30] {
            let (bytes, expected) = backup_file(count);
            let read = read(&bytes).expect("sound");
            assert_eq!(read, expected);
            let (before_the_end, end) = bytes.split_at(bytes.len() - 32);
            assert_eq!(
                read.file_digest,
                twox_hash::XxHash3_128::oneshot(before_the_end)
            );
            assert_eq!(end[8..24], read.file_digest.to_be_bytes());
        }
    }

    #[test]
    fn backup_with_any_bit_changed_cut_short_or_continued_is_refused() {
        let (bytes, _) = backup_file(6);
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
    fn file_that_is_no_backup_or_a_newer_one_is_told_apart_from_a_damaged_one() {
        let check = |bytes: &[u8], expected: &str| {
            let error = read(bytes).expect_err("refused");
            let text = error.of(Path::new("b.tenure"), OTHER).to_string();
            assert!(text.contains(expected), "{text}");
        };
        let (bytes, _) = backup_file(3);
        check(b"TENURSNP and so on", "not a backup of Tenure");
        check(&bytes[..7], "cut short");
        check(&bytes[..bytes.len() - 1], "cut short");
        let mut newer = bytes;
        newer[8] = 2;
        check(&newer, "has format 2 and this version reads up to 1");
    }
}
