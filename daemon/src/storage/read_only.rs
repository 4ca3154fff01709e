//! A file that is read as a database and never written.
//!
//! The database library may have to repair what a crash left before it reads. Here it repairs a copy: what it writes
//! stays in memory, page by page, and the file is opened for reading alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What is kept in memory at a time.
const PAGE: u64 = 4096;

/// The file, and what was written over it.
#[derive(Debug)]
pub(super) struct ReadOnly {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    length: u64,
    /// Up to here the file is what it was; beyond it there are zeros.
    of_file: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl ReadOnly {
    /// A file that was opened for reading.
    pub(super) fn new(file: File) -> Result<ReadOnly> {
        let length = file.metadata()?.len();
        let over = Over {
            length,
            of_file: length,
            pages: BTreeMap::new(),
        };
        Ok(ReadOnly {
            file,
            over: Mutex::new(over),
        })
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each page of a range to `each`, with its number, and where the range lies in it and in the whole.
    fn pages(
        &self,
        over: &Over,
        offset: u64,
        length: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>, usize) -> Result<()>,
    ) -> Result<()> {
        let end = offset
            .checked_add(length as u64)
            .filter(|end| *end <= over.length)
            .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        let mut at = offset;
        while at < end {
            let (page, within) = (at / PAGE, at % PAGE);
            let part = (PAGE - within).min(end - at);
            let range = within as usize..(within + part) as usize;
            each(page, range, (at - offset) as usize)?;
            at += part;
        }
        Ok(())
    }

    /// Reads a part of the file as it was, and zeros beyond its end.
    fn read_file(&self, over: &Over, offset: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        let there = over.of_file.saturating_sub(offset).min(out.len() as u64) as usize;
        self.file.read_exact_at(&mut out[..there], offset)
    }
}

impl StorageBackend for ReadOnly {
    fn len(&self) -> Result<u64> {
        Ok(self.over().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let over = self.over();
        let length = out.len();
        self.pages(&over, offset, length, |page, range, at| {
            let out = &mut out[at..at + range.len()];
            match over.pages.get(&page) {
                Some(written) => out.copy_from_slice(&written[range]),
                None => self.read_file(&over, page * PAGE + range.start as u64, out)?,
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> Result<()> {
        let mut over = self.over();
        if length < over.length {
            over.of_file = over.of_file.min(length);
            over.pages.split_off(&length.div_ceil(PAGE));
            if let Some(last) = over.pages.get_mut(&(length / PAGE)) {
                last[(length % PAGE) as usize..].fill(0);
            }
        }
        over.length = length;
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut over = self.over();
        let mut changed = Vec::new();
        self.pages(&over, offset, data.len(), |page, range, at| {
            let mut bytes = match over.pages.get(&page) {
                Some(written) => written.clone(),
                None => {
                    let mut bytes = vec![0; PAGE as usize];
                    self.read_file(&over, page * PAGE, &mut bytes)?;
                    bytes
                }
            };
            let length = range.len();
            bytes[range].copy_from_slice(&data[at..at + length]);
            changed.push((page, bytes));
            Ok(())
        })?;
        over.pages.extend(changed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Length(u64),
        Read(u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let at = || 0..3 * PAGE;
        let step = prop_oneof![
            (at(), prop::collection::vec(any::<u8>(), 0..5000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            at().prop_map(Step::Length),
            (at(), 0..9000usize).prop_map(|(at, length)| Step::Read(at, length)),
        ];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_reads_as_a_file_that_was_written_and_the_file_stays_as_it_was(steps in steps(), length in 0..2 * PAGE) {
            let original: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(&original).expect("it is written");
            let backend = ReadOnly::new(File::open(file.path()).expect("it opens")).expect("it has a length");
            let mut model = original.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let end = at as usize + data.len();
                        let written = backend.write(at, &data);
                        prop_assert_eq!(written.is_ok(), end <= model.len());
                        if end <= model.len() {
                            model[at as usize..end].copy_from_slice(&data);
                        }
                    }
                    Step::Length(length) => {
                        backend.set_len(length).expect("any length");
                        model.resize(length as usize, 0);
                    }
                    Step::Read(at, length) => {
                        let mut out = vec![9; length];
                        let read = backend.read(at, &mut out).ok().map(|()| out);
                        let expected = model.get(at as usize..at as usize + length).map(<[u8]>::to_vec);
                        prop_assert_eq!(read, expected);
                    }
                }
                prop_assert_eq!(backend.len().expect("it has one"), model.len() as u64);
            }
            prop_assert_eq!(std::fs::read(file.path()).expect("it reads"), original);
        }
    }
}
