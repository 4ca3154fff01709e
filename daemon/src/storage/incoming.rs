//! The snapshot that this member is being sent.
//!
//! ```text
//! snapshots/incoming.json    which file: {"format":1,"term":3,"index":40,"size":1234,"digest":"<32 hex digits>"}
//! snapshots/incoming.part    its bytes so far, from the beginning without gap
//! ```
//!
//! A crash may lose pieces and never spoils any: at a start the blocks in the part are checked and what follows the
//! last good one is cut off. The whole file is checked again before it is used. Both files are copies in transit;
//! where one of them makes no sense, they are removed and the transfer begins anew.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tenure_raft::{LogIndex, LogPosition, SnapshotFile, SnapshotMeta, Term};
use tenure_state::Row;

use super::error::StorageError;
use super::files;
use super::identity::ClusterId;
use super::outgoing::same;
use super::snapshot::{Fault, FileDigest, SnapshotReader};

const FORMAT: u32 = 1;

/// The part is synced whenever so many bytes are new: a crash loses at most so much of a transfer.
const SYNC_EVERY: u64 = 4 << 20;

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Incoming {
    dir: PathBuf,
    cluster: ClusterId,
    current: Option<Part>,
}

#[derive(Debug)]
struct Part {
    /// Which file; only position, size and digest count.
    file: SnapshotFile,
    handle: File,
    stored: u64,
    synced: u64,
}

/// A snapshot that arrived whole and was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Received {
    pub(super) meta: SnapshotMeta,
    pub(super) digest: u128,
    pub(super) rows: Vec<Row>,
}

/// Why a whole snapshot is not used.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is damaged or not for us; it was removed.
    Rejected(StorageError),
    /// The disk failed.
    Failed(StorageError),
}

/// `incoming.json`.
#[derive(Deserialize, Serialize)]
struct Name {
    format: u32,
    term: u64,
    index: u64,
    size: u64,
    digest: String,
}

impl Incoming {
    /// Goes on where an earlier process stopped.
    pub(super) fn open(dir: &Path, cluster: ClusterId) -> Result<Incoming, StorageError> {
        let mut incoming = Incoming {
            dir: dir.to_owned(),
            cluster,
            current: None,
        };
        incoming.current = incoming.resume()?;
        if incoming.current.is_none() {
            incoming.discard()?;
        }
        Ok(incoming)
    }

    /// Stores a piece where it fits behind what is stored, and answers how much of this file is stored then. An empty
    /// piece only asks. A piece of another file begins that one anew.
    pub(super) fn store(
        &mut self,
        file: &SnapshotFile,
        offset: u64,
        data: &[u8],
    ) -> Result<u64, StorageError> {
        if !self
            .current
            .as_ref()
            .is_some_and(|part| same(&part.file, file))
        {
            // What is there is of no use any more, and the room may be that which it takes.
            if self.current.is_some() {
                self.discard()?;
            }
            // It is installed from this file to another.
            files::check_room(&self.dir, file.size.saturating_mul(2))?;
            self.begin(file)?;
        }
        let dir = self.dir.clone();
        let path = self.part();
        let Some(part) = &mut self.current else {
            return Ok(0);
        };
        let end = offset.saturating_add(data.len() as u64);
        if offset != part.stored || end > file.size || data.is_empty() {
            return Ok(part.stored);
        }
        if part.stored == part.synced {
            files::check_room(&dir, (file.size - part.stored).saturating_add(file.size))?;
        }
        part.handle
            .write_all_at(data, offset)
            .map_err(|e| StorageError::io("write", &path, e))?;
        part.stored = end;
        if part.stored - part.synced >= SYNC_EVERY || part.stored == file.size {
            part.handle
                .sync_data()
                .map_err(|e| StorageError::io("sync", &path, e))?;
            part.synced = part.stored;
        }
        Ok(part.stored)
    }

    /// Checks the whole file and reads its rows. One that is refused is removed, so that it can be sent again.
    pub(super) fn read(&mut self, file: &SnapshotFile) -> Result<Received, Refusal> {
        match self.check(file) {
            Ok(received) => Ok(received),
            Err(error) if is_fault_of_file(&error) => {
                self.discard().map_err(Refusal::Failed)?;
                Err(Refusal::Rejected(error))
            }
            Err(error) => Err(Refusal::Failed(error)),
        }
    }

    /// Forgets the file and removes what is stored of it.
    pub(super) fn discard(&mut self) -> Result<(), StorageError> {
        self.current = None;
        files::remove(&self.name())?;
        files::remove(&self.part())?;
        files::sync_dir(&self.dir)
    }

    fn begin(&mut self, file: &SnapshotFile) -> Result<(), StorageError> {
        // The name goes first and comes first, so that a part never lies under the name of another file.
        self.discard()?;
        let path = self.part();
        let handle = files::create(&path)?;
        files::replace(&self.name(), &encode_name(file))?;
        self.current = Some(Part {
            file: file.clone(),
            handle,
            stored: 0,
            synced: 0,
        });
        Ok(())
    }

    fn resume(&self) -> Result<Option<Part>, StorageError> {
        let Some(file) = files::read(&self.name())?.and_then(|json| decode_name(&json)) else {
            return Ok(None);
        };
        let path = self.part();
        let Some(handle) = files::open(&path)? else {
            return Ok(None);
        };
        files::drop_page_cache(&handle, &path)?;
        let stored = match good_prefix(&handle) {
            Ok(stored) if stored <= file.size => stored,
            Ok(_) => return Ok(None),
            Err(error) => return Err(StorageError::io("read", &path, error)),
        };
        let cut = handle.set_len(stored).and_then(|()| handle.sync_all());
        cut.map_err(|e| StorageError::io("cut", &path, e))?;
        Ok(Some(Part {
            file,
            handle,
            stored,
            synced: stored,
        }))
    }

    fn check(&self, file: &SnapshotFile) -> Result<Received, StorageError> {
        let path = self.part();
        let Some(part) = self.current.as_ref().filter(|part| same(&part.file, file)) else {
            return Err(
                Fault::Bad("it is not the file that was to be installed".to_owned()).at(&path),
            );
        };
        if part.stored != file.size {
            let reason = format!("{} of {} bytes are there", part.stored, file.size);
            return Err(Fault::Bad(reason).at(&path));
        }
        files::drop_page_cache(&part.handle, &path)?;
        let digest = digest(&part.handle).map_err(|e| StorageError::io("read", &path, e))?;
        if digest != file.digest {
            let reason = format!("its digest is {digest:032x}, not {:032x}", file.digest);
            return Err(Fault::Bad(reason).at(&path));
        }
        let received = self
            .read_rows(&part.handle)
            .map_err(|fault| fault.at(&path))?;
        if received.meta != file.meta {
            let reason = format!("it covers {:?}, not {:?}", received.meta, file.meta);
            return Err(Fault::Bad(reason).at(&path));
        }
        Ok(received)
    }

    fn read_rows(&self, handle: &File) -> Result<Received, Fault> {
        let mut reader = SnapshotReader::new(input(handle))?;
        let header = reader.header().clone();
        if header.cluster != self.cluster {
            return Err(Fault::Bad(format!(
                "it is of cluster {}, not {}",
                header.cluster, self.cluster
            )));
        }
        let mut rows = Vec::new();
        while reader.block(&mut rows)? {}
        Ok(Received {
            meta: header.meta,
            digest: header.digest,
            rows,
        })
    }

    fn name(&self) -> PathBuf {
        self.dir.join("incoming.json")
    }

    fn part(&self) -> PathBuf {
        self.dir.join("incoming.part")
    }
}

/// Whether another copy of the file could be good where this one is not.
fn is_fault_of_file(error: &StorageError) -> bool {
    error.exit_code() == 3
}

/// Bytes up to the end of the last block that is whole and checks.
fn good_prefix(handle: &File) -> io::Result<u64> {
    let mut reader = match SnapshotReader::new(input(handle)) {
        Ok(reader) => reader,
        Err(Fault::Io(error)) => return Err(error),
        Err(Fault::Bad(_) | Fault::Newer(_)) => return Ok(0),
    };
    let mut rows = Vec::new();
    loop {
        rows.clear();
        match reader.block(&mut rows) {
            Ok(true) => {}
            Err(Fault::Io(error)) => return Err(error),
            Ok(false) | Err(Fault::Bad(_) | Fault::Newer(_)) => return Ok(reader.read()),
        }
    }
}

fn digest(handle: &File) -> io::Result<u128> {
    let mut digest = FileDigest::new();
    let mut input = input(handle);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(digest.finish()),
            length => digest.update(&buffer[..length]),
        }
    }
}

/// Reads from the beginning, whatever was read before.
fn input(handle: &File) -> BufReader<FromStart<'_>> {
    BufReader::with_capacity(1 << 16, FromStart { handle, at: 0 })
}

struct FromStart<'a> {
    handle: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.handle.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

fn encode_name(file: &SnapshotFile) -> Vec<u8> {
    let LogPosition { term, index } = file.meta.position;
    let digest = format!("{:032x}", file.digest);
    let name = Name {
        format: FORMAT,
        term: term.0,
        index: index.0,
        size: file.size,
        digest,
    };
    serde_json::to_vec(&name).expect("numbers and a string have a JSON form")
}

fn decode_name(json: &[u8]) -> Option<SnapshotFile> {
    let name: Name = serde_json::from_slice(json)
        .ok()
        .filter(|name: &Name| name.format == FORMAT)?;
    let digest = u128::from_str_radix(&name.digest, 16).ok()?;
    let position = LogPosition {
        term: Term(name.term),
        index: LogIndex(name.index),
    };
    let meta = SnapshotMeta {
        position,
        ..SnapshotMeta::default()
    };
    Some(SnapshotFile {
        meta,
        size: name.size,
        digest,
    })
}
