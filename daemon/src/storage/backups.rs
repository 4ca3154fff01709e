//! Backups being made: from a read of the state file to a file of their own, on threads of their own.
//!
//! Owns how many there are at a time and how much of the machine they may have. A backup is written to the disk first
//! and sent from there, as snapshots are, so that a caller who takes it slowly pins no pages of the state. Its file has no
//! name but for a moment, so that nothing of it is left when the process ends. Never touches the member's own files:
//! whatever fails here, the member goes on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tenure_raft::LogIndex;
use tenure_state::Table;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::backup::{BackupWriter, Origin};
use super::error::StorageError;
use super::files;
use super::identity::ClusterId;
use super::outgoing::Syncing;
use super::snapshot::Header;
use super::state_file::{SharedState, StateReader, WatchedState};
use crate::pulse::{AtWork, Pace, Pulse};

/// Backups of a member that are made or sent at a time: one that is scheduled, and one that somebody needs now.
const AT_A_TIME: usize = 2;
/// A checkpoint begins a second after the last one ended; where none has come to an end for so long, the disk is the
/// one to be looked at.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the checkpoint has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After so many bytes the thread rests for as long as they took it, so that it has half of a core at most, and not for
/// longer than this.
const REST_AFTER: u64 = 1 << 20;
const LONGEST_REST: Duration = Duration::from_millis(100);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Others are made already.
    #[error("{AT_A_TIME} backups are being made or sent by this member already")]
    Busy,
    /// The member is stopping, or whoever asked has gone.
    #[error("the member is shutting down")]
    Stopped,
    /// The disk has not finished a checkpoint.
    #[error(
        "no checkpoint up to entry {wanted} has come to an end within {} s, the last one covers {have}",
        CHECKPOINT_PATIENCE.as_secs()
    )]
    NoCheckpoint {
        /// What it is to cover.
        wanted: LogIndex,
        /// What the last one covers.
        have: LogIndex,
    },
    /// The disk has too little room.
    #[error(
        "{free} bytes are free on the disk of the data directory, and a backup is made there first: it needs about {needed}, \
         and leaves {} to the log",
        files::LEFT_FREE
    )]
    NoRoom {
        /// What is free.
        free: u64,
        /// About what it needs.
        needed: u64,
    },
    /// A file failed.
    #[error(transparent)]
    Storage(StorageError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<StorageError> for BackupError {
    fn from(error: StorageError) -> BackupError {
        match error {
            StorageError::NoRoom { free, needed, .. } => BackupError::NoRoom { free, needed },
            error => BackupError::Storage(error),
        }
    }
}

/// Makes the backups of a member. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backups(Arc<Source>);

#[derive(Debug)]
struct Source {
    state: WatchedState,
    /// The state file, for its size.
    state_path: PathBuf,
    dir: PathBuf,
    cluster: ClusterId,
    origin: Origin,
    places: Arc<Semaphore>,
    next: AtomicU64,
}

/// A backup that lies on the disk. Another may be made in its place when it is dropped.
#[derive(Debug)]
pub struct MadeBackup {
    file: File,
    /// How many bytes it has.
    pub size: u64,
    /// The last entry of the log that it covers.
    pub covers: LogIndex,
    /// The revision of the state in it.
    pub revision: u64,
    _place: OwnedSemaphorePermit,
}

impl MadeBackup {
    /// A piece of it; shorter than asked for at its end.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn piece(&self, offset: u64, length: u64) -> std::io::Result<Bytes> {
        let length = length.min(self.size.saturating_sub(offset));
        let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut piece, offset)?;
        Ok(piece.into())
    }
}

impl Backups {
    /// Those of a member whose state this is. `dir` is where its snapshots lie: what is left there is removed at a
    /// start.
    pub fn new(
        state: &SharedState,
        state_path: &Path,
        dir: &Path,
        cluster: ClusterId,
        origin: Origin,
    ) -> Backups {
        Backups(Arc::new(Source {
            state: state.watch(),
            state_path: state_path.to_owned(),
            dir: dir.to_owned(),
            cluster,
            origin,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            next: AtomicU64::new(0),
        }))
    }

    /// Makes one that covers the entries up to `at_least`, which this member has applied, and maybe more. Ends early
    /// where `stopped` says so.
    ///
    /// # Errors
    /// Where others are made already, or it cannot be made.
    ///
    /// Cancelling it ends the making and leaves nothing.
    pub async fn make(
        &self,
        at_least: LogIndex,
        stopped: impl Fn() -> bool + Send + 'static,
    ) -> Result<MadeBackup, BackupError> {
        let place = Arc::clone(&self.0.places)
            .try_acquire_owned()
            .map_err(|_| BackupError::Busy)?;
        let source = Arc::clone(&self.0);
        let (reply, made) = oneshot::channel();
        std::thread::Builder::new()
            .name("tenured-backup".to_owned())
            .spawn(move || {
                let pulse = Pulse::of("tenured-backup", Pace::Long);
                let result = Making {
                    source: &source,
                    at_work: pulse.work(),
                    stopped: &|| stopped() || reply.is_closed(),
                }
                .run(at_least, place);
                // Whoever asked may have gone.
                let _ = reply.send(result);
            })?;
        made.await.map_err(|_| BackupError::Stopped)?
    }
}

/// One backup on its way to the disk.
struct Making<'a> {
    source: &'a Source,
    at_work: AtWork<'a>,
    stopped: &'a dyn Fn() -> bool,
}

impl Making<'_> {
    fn run(
        &self,
        at_least: LogIndex,
        place: OwnedSemaphorePermit,
    ) -> Result<MadeBackup, BackupError> {
        self.check_room()?;
        let reader = self.reader(at_least)?;
        let number = self.source.next.fetch_add(1, Ordering::Relaxed);
        let path = self.source.dir.join(format!("snap-backup-{number}.part"));
        let file = files::create(&path)?;
        // From here on only this process can find it.
        files::remove(&path)?;
        let covers = reader.covers().position.index;
        let (size, revision) = self.write(&file, &path, &reader)?;
        Ok(MadeBackup {
            file,
            size,
            covers,
            revision,
            _place: place,
        })
    }

    /// The pages of the state file are about what a backup takes, and rarely less.
    fn check_room(&self) -> Result<(), BackupError> {
        let needed = files::size(&self.source.state_path)?;
        Ok(files::check_room(&self.source.dir, needed)?)
    }

    /// Waits for the checkpoint that covers `at_least`: it is written anyway.
    fn reader(&self, at_least: LogIndex) -> Result<StateReader, BackupError> {
        let begun = Instant::now();
        loop {
            if (self.stopped)() {
                return Err(BackupError::Stopped);
            }
            // The lock is held only for as long as it takes to begin to read.
            let reader = self.source.state.reader()?.ok_or(BackupError::Stopped)?;
            let have = reader.covers().position.index;
            if at_least <= have {
                return Ok(reader);
            }
            drop(reader);
            if CHECKPOINT_PATIENCE < begun.elapsed() {
                let wanted = at_least;
                return Err(BackupError::NoCheckpoint { wanted, have });
            }
            self.at_work.step();
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Writes the file; answers its size and the revision in it.
    fn write(
        &self,
        file: &File,
        path: &Path,
        reader: &StateReader,
    ) -> Result<(u64, u64), BackupError> {
        let failed = |error: std::io::Error| StorageError::io("write", path, error);
        let header = Header {
            cluster: self.source.cluster,
            meta: reader.covers().clone(),
            digest: reader.digest(),
        };
        let origin = Origin {
            unix_ms: unix_ms(),
            ..self.source.origin.clone()
        };
        let mut writer = BackupWriter::new(file, &origin, &header).map_err(failed)?;
        let mut syncing = Syncing::of(file, path);
        let (mut rested, mut begun, mut revision, mut is_cut) = (0, Instant::now(), 0, false);
        let written = reader.rows(|table, key, value| {
            if table == Table::Meta && key == b"revision" {
                revision = value.try_into().map_or(0, u64::from_be_bytes);
            }
            let size = writer.row(table, key, value).map_err(failed)?;
            syncing.wrote(size)?;
            if size - rested >= REST_AFTER {
                if (self.stopped)() {
                    is_cut = true;
                    return Err(StorageError::contradiction(
                        path,
                        "nobody wants it any more",
                    ));
                }
                self.at_work.step();
                std::thread::sleep(begun.elapsed().min(LONGEST_REST));
                (rested, begun) = (size, Instant::now());
            }
            Ok(())
        });
        match written {
            Err(_) if is_cut => return Err(BackupError::Stopped),
            written => written?,
        }
        let size = writer.finish().map_err(failed)?;
        Ok((size, revision))
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
