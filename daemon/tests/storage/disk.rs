//! A disk that forgets and fails: what was not synced is lost at a crash, or half of it, sector by sector, and any
//! operation may be the one that fails.
//!
//! Of the writes to one sector the newest that survives is what is there, so that losing any of them one by one makes
//! every order in which they could have reached the disk.
//!
//! Traps of the library: what it has read once it keeps (8 MiB of the log, 16 MiB of the state), so that a read that
//! fails is met at open and hardly ever later; an empty backend is a new database and no error; a backend is closed when
//! its database is dropped, which is why a disk is looked at through [`Disk::after_crash`], a copy, and never opened
//! twice. Its lock on the file belongs to the backend for files, so that nothing here is locked.

use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// Numbers that only a seed decides.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Operation {
    Read,
    Write,
    Length,
    Sync,
}

impl Operation {
    pub(crate) const ALL: [Operation; 4] = [
        Operation::Read,
        Operation::Write,
        Operation::Length,
        Operation::Sync,
    ];
}

/// Errors as the kernel gives them.
pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// An operation that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) operation: Operation,
    /// So many of them get through first.
    pub(crate) after: u64,
    /// Whether all that follow fail too.
    pub(crate) for_ever: bool,
    pub(crate) errno: i32,
}

#[derive(Debug, Default)]
struct Inner {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    /// What was done since the last sync, and what a sync that failed should have written.
    pending: Vec<Change>,
    /// So many of those belong to a sync that failed: no later sync writes them.
    doubtful: usize,
    fault: Option<Fault>,
    /// Whether the fault was met.
    failed: bool,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(u64),
    Write(u64, Vec<u8>),
}

/// A shared handle on the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    inner: Arc<Mutex<Inner>>,
    /// After so many changes and syncs the power goes, for all disks that hang on it.
    power: Arc<Mutex<Option<u64>>>,
}

impl Disk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics inside")
    }

    /// Another disk of the same machine, empty.
    pub(crate) fn beside(&self) -> Disk {
        Disk {
            inner: Arc::default(),
            power: Arc::clone(&self.power),
        }
    }

    /// The power goes after so many more writes and syncs.
    pub(crate) fn dies_in(&self, operations: u64) {
        *self.power.lock().expect("no test panics inside") = Some(operations);
    }

    pub(crate) fn fails(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    pub(crate) fn fail_next_sync(&self) {
        self.fails(Fault {
            operation: Operation::Sync,
            after: 0,
            for_ever: false,
            errno: EIO,
        });
    }

    /// Whether its fault was met.
    pub(crate) fn has_failed(&self) -> bool {
        self.inner().failed
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// The disk after a crash, or after a sync that failed: of what was not synced any sectors may be there, in any
    /// mixture. It has power and no fault.
    pub(crate) fn after_crash(&self, random: &mut Random) -> Disk {
        let inner = self.inner();
        let mut bytes = inner.durable.clone();
        let sector = [64, 512, 4096][random.below(3) as usize];
        // From one crash to the next, half of it is lost, or a little, or hardly anything.
        let odds = [2, 16, 10_000][random.below(3) as usize];
        for change in &inner.pending {
            match change {
                Change::Length(length) if random.below(odds) != 0 => {
                    bytes.resize(*length as usize, 0)
                }
                Change::Length(_) => {}
                Change::Write(offset, data) => {
                    for (number, part) in data.chunks(sector).enumerate() {
                        if random.below(odds) != 0 {
                            put(&mut bytes, *offset as usize + number * sector, part);
                        }
                    }
                }
            }
        }
        Disk::of(bytes)
    }

    /// A healthy disk with these bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Disk {
        let disk = Disk::default();
        *disk.inner() = Inner {
            cached: bytes.clone(),
            durable: bytes,
            ..Inner::default()
        };
        disk
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.inner().cached.clone()
    }

    /// Counts one operation; it may be the one that fails.
    fn step(&self, operation: Operation) -> Result<MutexGuard<'_, Inner>> {
        if operation != Operation::Read {
            let mut power = self.power.lock().expect("no test panics inside");
            match power.as_mut() {
                Some(0) => return Err(Error::other("the power is gone")),
                Some(left) => *left -= 1,
                None => {}
            }
        }
        let mut inner = self.inner();
        match inner.fault.as_mut() {
            Some(fault) if fault.operation == operation => {
                if fault.after > 0 {
                    fault.after -= 1;
                    return Ok(inner);
                }
                let errno = fault.errno;
                if !fault.for_ever {
                    inner.fault = None;
                }
                inner.failed = true;
                if operation == Operation::Sync {
                    inner.doubtful = inner.pending.len();
                }
                Err(Error::from_raw_os_error(errno))
            }
            _ => Ok(inner),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.inner().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let inner = self.step(Operation::Read)?;
        let range = offset as usize..offset as usize + out.len();
        let bytes = inner
            .cached
            .get(range)
            .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.step(Operation::Length)?;
        inner.cached.resize(len as usize, 0);
        inner.pending.push(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut inner = self.step(Operation::Sync)?;
        inner.syncs += 1;
        // After a sync that failed the kernel calls its pages clean, and a later one "succeeds" without them.
        let doubtful = inner.doubtful;
        let written: Vec<Change> = inner.pending.drain(doubtful..).collect();
        for change in written {
            match change {
                Change::Length(length) => inner.durable.resize(length as usize, 0),
                Change::Write(offset, data) => put(&mut inner.durable, offset as usize, &data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut inner = self.step(Operation::Write)?;
        put(&mut inner.cached, offset as usize, data);
        inner.pending.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
