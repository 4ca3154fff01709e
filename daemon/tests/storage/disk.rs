//! A disk that forgets: what was not synced is lost at a crash, or half of it, sector by sector.

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

#[derive(Debug, Default)]
struct Inner {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
    /// After so many changes and syncs the power goes.
    dies_in: Option<u64>,
    /// The next sync fails, once; what it should have written is gone all the same.
    sync_fails: bool,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(u64),
    Write(u64, Vec<u8>),
}

/// A shared handle on the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics inside")
    }

    /// The power goes after so many more writes and syncs.
    pub(crate) fn dies_in(&self, operations: u64) {
        self.inner().dies_in = Some(operations);
    }

    pub(crate) fn fail_next_sync(&self) {
        self.inner().sync_fails = true;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// The disk after a crash: of what was not synced any sectors may be there, in any mixture.
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
        Disk(Arc::new(Mutex::new(Inner {
            cached: bytes.clone(),
            durable: bytes,
            ..Inner::default()
        })))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.inner().cached.clone()
    }
}

impl Inner {
    fn step(&mut self) -> Result<()> {
        match &mut self.dies_in {
            Some(0) => Err(Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
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
        let inner = self.inner();
        let range = offset as usize..offset as usize + out.len();
        let bytes = inner
            .cached
            .get(range)
            .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.inner();
        inner.step()?;
        inner.cached.resize(len as usize, 0);
        inner.pending.push(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.step()?;
        inner.syncs += 1;
        let lost = std::mem::take(&mut inner.sync_fails);
        inner.pending.clear();
        if lost {
            return Err(Error::from_raw_os_error(5));
        }
        inner.durable = inner.cached.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut inner = self.inner();
        inner.step()?;
        put(&mut inner.cached, offset as usize, data);
        inner.pending.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
