//! Files that an operator names in a setting.
//!
//! Owns that one is opened only where it is a file, and never waited for: to open a pipe lasts until somebody writes into it,
//! which may be for ever. What a file holds is the business of whoever reads it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Any user of the machine may read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Opens a file to read it.
///
/// # Errors
/// Where it cannot be opened, or is a directory, a pipe or a device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(
            "it is no file but a directory, a pipe or a device; a regular file is accepted",
        )),
    }
}

/// Whether any user of the machine may read it; not where it is not there.
pub fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & READABLE_BY_OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_opened_and_what_is_none_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        fs::write(&file, "words").expect("it is written");
        let mut text = String::new();
        let mut opened = open(&file).expect("it is a file");
        opened.read_to_string(&mut text).expect("it is read");
        assert_eq!(text, "words");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        for none in [dir.path(), &pipe, Path::new("/dev/zero")] {
            let error = open(none).expect_err("it is no file").to_string();
            assert!(
                error.contains("a regular file is accepted"),
                "{none:?}: {error}"
            );
        }
        let missing = open(&dir.path().join("none")).expect_err("it is not there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn whether_others_may_read_it_is_seen_by_its_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        assert!(!is_open_to_others(&path), "it is not there");
        fs::write(&path, "words").expect("it is written");
        for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            let wanted = fs::Permissions::from_mode(mode);
            fs::set_permissions(&path, wanted).expect("it is ours");
            assert_eq!(is_open_to_others(&path), is_open, "{mode:o}");
        }
    }
}
