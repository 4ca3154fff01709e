//! The work itself: which files there are, and what is in them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file of the directory.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) checksum: u32,
}

/// The names of the regular files in a directory, in order.
pub(crate) fn items(source: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("--source {}: {error}", source.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(source).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_file() {
            continue;
        }
        let name = entry.file_name().into_string().map_err(|name| {
            format!(
                "--source {}: the name {name:?} is not UTF-8",
                source.display()
            )
        })?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

impl Item {
    /// Reads a file. This is plain computing, which does not yield.
    pub(crate) fn read(source: &Path, name: &str, at_least: Duration) -> Result<Item, String> {
        let began = Instant::now();
        let path = source.join(name);
        let item =
            checksummed(&path, name).map_err(|error| format!("{}: {error}", path.display()))?;
        std::thread::sleep(at_least.saturating_sub(began.elapsed()));
        Ok(item)
    }
}

fn checksummed(path: &Path, name: &str) -> std::io::Result<Item> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut item = Item {
        name: name.to_owned(),
        bytes: 0,
        checksum: 0,
    };
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(item);
        }
        item.checksum = crc32c::crc32c_append(item.checksum, &buffer[..count]);
        item.bytes += count as u64;
    }
}
