//! The file that says how far a watch came. It is written whole or not at all, when what it stands for is done with.

use std::io::Write;
use std::path::Path;

use crate::exit::{Exit, Trouble};

/// The file that says how far a watch came.
pub(super) struct Cursor<'a>(pub(super) &'a Path);

impl Cursor<'_> {
    pub(super) fn read(&self) -> Result<Option<u64>, Trouble> {
        match std::fs::read_to_string(self.0) {
            Ok(text) => match text.trim().parse() {
                Ok(revision) => Ok(Some(revision)),
                Err(_) => Err(self.wrong(&format!("{:?} is no revision", text.trim()))),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
        }
    }

    /// Whole or not at all, also where the machine goes down.
    pub(super) fn write(&self, revision: u64) -> Result<(), Trouble> {
        let mut beside = self.0.as_os_str().to_owned();
        beside.push(".new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            writeln!(file, "{revision}")?;
            file.sync_all()?;
            std::fs::rename(&beside, self.0)
        };
        let wrong = |error| self.wrong(&format!("cannot be written: {error}"));
        write().map_err(|error| wrong(error).afterwards())
    }

    fn wrong(&self, why: &str) -> Trouble {
        Trouble::new(
            Exit::CONFIG,
            format!("the cursor {}: {why}", self.0.display()),
        )
        .then("remove the file to begin anew, or name another one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_taken_for_one() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let path = dir.path().join("cursor");
        let cursor = Cursor(&path);
        assert_eq!(cursor.read().expect("it is absent"), None);
        cursor.write(41).expect("it is written");
        cursor.write(42).expect("it is written over");
        assert_eq!(cursor.read().expect("it is read"), Some(42));
        std::fs::write(&path, "forty-two").expect("it is written");
        let trouble = cursor.read().expect_err("it is no number");
        assert_eq!(trouble.exit, Exit::CONFIG);
    }
}
