//! What giving space back has in common for the log and the state: when a file is looked at, when it is worth it, and how
//! gently it is written anew.
//!
//! The library gives back only what is free at the very end of a file, and its own compaction needs the file to itself. So
//! where most of a file is free, all that is in it is written to a new one, which then takes its name.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::StorageError;
use super::files;

/// Smaller files are left as they are: growing again takes more than they waste.
pub(super) const LEAST: u64 = 64 << 20;
/// A file is written anew where what is in it takes less than one in so many parts of it.
const ONE_IN: u64 = 4;
/// Between two looks at how much of a file is used, each of which reads all of its tree.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// The first look after a start: whoever frees much and then restarts a member sees it soon.
const FIRST_LOOK: Duration = Duration::from_secs(60);
/// A copy is synced whenever it has so many more bytes, so that a sync of the log never waits behind hundreds of
/// megabytes, and rests for as long as that took, but no longer than this.
pub(super) const PIECE: u64 = 8 << 20;
const LONGEST_REST: Duration = Duration::from_millis(100);

/// How large a file was and is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reclaimed {
    /// Before, in bytes.
    pub before: u64,
    /// Since then.
    pub after: u64,
}

/// Whether so little of a file is used that it is written anew.
pub(super) fn is_mostly_free(size: u64, used: u64) -> bool {
    used < size / ONE_IN
}

/// Writes the next piece of a copy where the disk has room for it, and leaves the disk to the log, whose syncs may wait
/// behind this one, for as long as that took.
pub(super) fn write_piece(
    fresh: &Path,
    write: impl FnOnce() -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let begun = Instant::now();
    files::check_room(files::parent(fresh), PIECE)?;
    write()?;
    std::thread::sleep(begun.elapsed().min(LONGEST_REST));
    Ok(())
}

/// When a file is to be looked at again.
#[derive(Debug)]
pub(super) struct Looks(Instant);

impl Looks {
    pub(super) fn begin() -> Looks {
        Looks(Instant::now() + FIRST_LOOK)
    }

    /// Whether the time has come, which it then does not again for a while.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.0 <= Instant::now();
        if due {
            self.0 = Instant::now() + LOOK_EVERY;
        }
        due
    }
}
