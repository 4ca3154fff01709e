//! The file that says how far a watch came. It is written whole or not at all, when what it stands for is done with.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::exit::{Exit, Trouble};

/// How often it follows a watch in quiet times. What others change ages all the same, and a cursor that stood still would
/// one day point to what is gone: whoever begins there is told everything anew.
const FOLLOWS_EVERY: Duration = Duration::from_secs(10);

/// The file that says how far a watch came.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    written: Option<u64>,
    follows_at: Instant,
}

impl<'a> Cursor<'a> {
    pub(super) fn of(path: &'a Path) -> Cursor<'a> {
        Cursor {
            path,
            written: None,
            follows_at: Instant::now() + FOLLOWS_EVERY,
        }
    }

    /// Comes back when it is time to [`follow`](Cursor::follow).
    pub(super) async fn is_to_follow(cursor: &Option<Cursor<'_>>) {
        match cursor {
            Some(cursor) => sleep_until(cursor.follows_at).await,
            None => std::future::pending().await,
        }
    }

    /// Everything up to this revision is done with, as far as that is known.
    pub(super) fn follow(&mut self, revision: Option<u64>) -> Result<(), Trouble> {
        self.follows_at = Instant::now() + FOLLOWS_EVERY;
        match revision.filter(|revision| Some(*revision) > self.written) {
            Some(revision) => self.write(revision),
            None => Ok(()),
        }
    }

    pub(super) fn read(&self) -> Result<Option<u64>, Trouble> {
        match std::fs::read_to_string(self.path) {
            Ok(text) => match text.trim().parse() {
                Ok(revision) => Ok(Some(revision)),
                Err(_) => Err(self.wrong(&format!("{:?} is no revision", text.trim()))),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
        }
    }

    /// Whole or not at all, also where the machine goes down.
    pub(super) fn write(&mut self, revision: u64) -> Result<(), Trouble> {
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(".new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            writeln!(file, "{revision}")?;
            file.sync_all()?;
            std::fs::rename(&beside, self.path)
        };
        let wrong = |error| self.wrong(&format!("cannot be written: {error}"));
        write().map_err(|error| wrong(error).afterwards())?;
        self.written = Some(revision);
        Ok(())
    }

    fn wrong(&self, why: &str) -> Trouble {
        Trouble::new(
            Exit::CONFIG,
            format!("the cursor {}: {why}", self.path.display()),
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
        let mut cursor = Cursor::of(&path);
        assert_eq!(cursor.read().expect("it is absent"), None);
        cursor.write(41).expect("it is written");
        cursor.write(42).expect("it is written over");
        assert_eq!(cursor.read().expect("it is read"), Some(42));
        std::fs::write(&path, "forty-two").expect("it is written");
        let trouble = cursor.read().expect_err("it is no number");
        assert_eq!(trouble.exit, Exit::CONFIG);
    }
}
