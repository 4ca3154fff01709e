//! The thread for all that is long: making, sending, storing and installing snapshots.
//!
//! Owns the snapshot files. Takes the state's lock only to begin a read and while it puts a received state in place
//! of the old one, so that no checkpoint waits behind the dump of a million rows.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
/// What the thread can be asked: the tasks of the core.
pub use tenure_raft::SnapshotTask as SnapshotRequest;
use tenure_raft::{LogIndex, MemberId, SnapshotFile};
use tenure_state::Row;

use super::error::StorageError;
use super::files;
use super::identity::ClusterId;
use super::incoming::{Incoming, Refusal};
use super::outgoing::Outgoing;
use super::state_file::{Loaded, SharedState};
use super::worker::Worker;
use crate::pulse::{AtWork, Pace};
use crate::throttle::Throttle;

/// Snapshots in transit.
#[derive(Debug)]
pub struct Snapshots {
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Snapshots {
    /// Removes what was being sent, goes on with what was being received.
    pub(super) fn open(dir: &Path, cluster: ClusterId) -> Result<Snapshots, StorageError> {
        files::create_dir(dir)?;
        Ok(Snapshots {
            outgoing: Outgoing::open(dir, cluster)?,
            incoming: Incoming::open(dir, cluster)?,
        })
    }

    /// Where they lie.
    pub fn dir(&self) -> &Path {
        self.outgoing.dir()
    }
}

/// What the thread says.
#[derive(Debug)]
pub enum SnapshotEvent {
    /// The snapshot asked for is there.
    Made {
        /// Who needs it.
        to: MemberId,
        /// The file.
        file: SnapshotFile,
    },
    /// The last checkpoint is older than asked for: ask again behind the next one.
    TooOld {
        /// Who needs it.
        to: MemberId,
        /// What the last checkpoint covers.
        have: LogIndex,
    },
    /// The snapshot could not be made, for example because the disk is full. The member's own files are unharmed.
    MakeFailed {
        /// Who needs it.
        to: MemberId,
        /// Why.
        error: StorageError,
    },
    /// A piece.
    Piece {
        /// Who gets it.
        to: MemberId,
        /// Of which file.
        file: SnapshotFile,
        /// From where.
        offset: u64,
        /// The bytes; fewer than asked for at the end.
        data: Bytes,
    },
    /// The file is not there any more, or its disk failed.
    ReadFailed {
        /// Who should have got it.
        to: MemberId,
        /// Which file.
        file: SnapshotFile,
        /// Why, unless the file was simply removed.
        error: Option<StorageError>,
    },
    /// So much of the file is stored from its beginning.
    Stored {
        /// Of which file.
        file: SnapshotFile,
        /// So many bytes.
        stored: u64,
        /// As it was asked.
        round: u64,
        /// As it was asked.
        from: MemberId,
    },
    /// The file is the state of this member, durably; what the log holds is void where it does not connect.
    Installed {
        /// Which file.
        file: SnapshotFile,
        /// The state to go on with.
        loaded: Loaded,
    },
    /// The file is damaged or not for this member, or there is no room to install it. It was removed and can be sent again.
    Rejected {
        /// Which file.
        file: SnapshotFile,
        /// Why.
        error: StorageError,
    },
    /// A write failed. The thread has ended; the member must stop.
    Failed(StorageError),
}

/// The thread and the way to it.
#[derive(Debug)]
pub struct SnapshotThread(Worker<SnapshotRequest, Files>);

struct Files {
    state: SharedState,
    snapshots: Snapshots,
    check: CheckRows,
    no_room: Throttle,
}

/// Says what is wrong with the rows of a snapshot whose header claims this digest, before they take the place of good ones.
pub type CheckRows = Box<dyn Fn(&[Row], u128) -> Result<(), Unfit> + Send>;

/// Why the rows of a snapshot are not the state of this member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// They are not what was sent, and can be sent again.
    Damaged(String),
    /// They follow rules that this member does not, and will however often they are sent.
    NewerRules {
        /// The version of the rules.
        found: u64,
        /// The newest version that this member follows.
        most: u64,
    },
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("state", &self.state)
            .field("snapshots", &self.snapshots)
            .finish_non_exhaustive()
    }
}

impl SnapshotThread {
    /// Starts it. `on_event` is called on the thread and must not block.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        state: SharedState,
        snapshots: Snapshots,
        check: CheckRows,
        on_event: impl Fn(SnapshotEvent) + Send + Sync + 'static,
    ) -> io::Result<SnapshotThread> {
        let on_event = Arc::new(on_event);
        let panicked = Arc::clone(&on_event);
        let on_panic = move || {
            panicked(SnapshotEvent::Failed(StorageError::panicked(
                "tenured-snap",
            )))
        };
        let work =
            move |files: &mut Files, request, _: &Receiver<SnapshotRequest>, _: &AtWork<'_>| {
                let event = files
                    .handle(request)
                    .unwrap_or_else(|error| Some(SnapshotEvent::Failed(error)));
                let flow = match event {
                    Some(SnapshotEvent::Failed(_)) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                };
                if let Some(event) = event {
                    on_event(event);
                }
                flow
            };
        Worker::start(
            ("tenured-snap", Pace::Long),
            Files {
                state,
                snapshots,
                check,
                no_room: Throttle::default(),
            },
            work,
            on_panic,
        )
        .map(SnapshotThread)
    }

    /// Queues a request; all but a release are answered by an event.
    pub fn request(&self, request: SnapshotRequest) {
        self.0.send(request);
    }

    /// Does what is queued and ends the thread.
    ///
    /// # Errors
    /// An error while closing the state file, where this was its last user.
    pub fn stop(self) -> Result<(), StorageError> {
        self.0.stop().map_or(Ok(()), |files| files.state.close())
    }
}

impl Files {
    /// The event that answers a request; an error is one after which the member must stop.
    fn handle(&mut self, request: SnapshotRequest) -> Result<Option<SnapshotEvent>, StorageError> {
        Ok(Some(match request {
            SnapshotRequest::Make { to, at_least } => self
                .make(to, at_least)
                .unwrap_or_else(|error| SnapshotEvent::MakeFailed { to, error }),
            SnapshotRequest::Read {
                to,
                file,
                offset,
                length,
            } => self.read(to, file, offset, length),
            SnapshotRequest::Release { to, file } => {
                self.snapshots.outgoing.release(to, &file)?;
                return Ok(None);
            }
            SnapshotRequest::Store {
                file,
                offset,
                data,
                round,
                from,
            } => {
                let stored = match self.snapshots.incoming.store(&file, offset, &data) {
                    // As if it were lost on the way: it is sent again, and there may be room then.
                    Err(error @ StorageError::NoRoom { .. }) => {
                        self.no_room.warn(|held_back| {
                            tracing::warn!(%error, held_back, "the snapshot by which this member is to catch up waits for room");
                        });
                        return Ok(None);
                    }
                    stored => stored?,
                };
                SnapshotEvent::Stored {
                    file,
                    stored,
                    round,
                    from,
                }
            }
            SnapshotRequest::Install { file } => self.install(file)?,
        }))
    }

    fn make(&mut self, to: MemberId, at_least: LogIndex) -> Result<SnapshotEvent, StorageError> {
        if let Some(file) = self.snapshots.outgoing.reuse(to, at_least)? {
            return Ok(SnapshotEvent::Made { to, file });
        }
        // The lock is held only for as long as it takes to begin to read.
        let reader = self.state.lock().reader()?;
        let have = reader.covers().position.index;
        if have < at_least {
            return Ok(SnapshotEvent::TooOld { to, have });
        }
        let file = self.snapshots.outgoing.make(to, reader)?;
        Ok(SnapshotEvent::Made { to, file })
    }

    fn read(&self, to: MemberId, file: SnapshotFile, offset: u64, length: u64) -> SnapshotEvent {
        match self.snapshots.outgoing.piece(&file, offset, length) {
            Ok(Some(data)) => SnapshotEvent::Piece {
                to,
                file,
                offset,
                data,
            },
            Ok(None) => SnapshotEvent::ReadFailed {
                to,
                file,
                error: None,
            },
            Err(error) => SnapshotEvent::ReadFailed {
                to,
                file,
                error: Some(error),
            },
        }
    }

    /// Every step may be cut off: until the rename the old state counts and the file is still there to be installed,
    /// after it the new one counts, and a start finds the log behind it.
    fn install(&mut self, file: SnapshotFile) -> Result<SnapshotEvent, StorageError> {
        let received = match self.snapshots.incoming.read(&file) {
            Ok(received) => received,
            Err(Refusal::Rejected(error)) => return Ok(SnapshotEvent::Rejected { file, error }),
            Err(Refusal::Failed(error)) => return Err(error),
        };
        let unfit = (self.check)(&received.rows, received.digest).err();
        if let Some(unfit) = unfit {
            self.snapshots.incoming.discard()?;
            let reason = match unfit {
                Unfit::Damaged(reason) => reason,
                Unfit::NewerRules { found, most } => {
                    return Err(StorageError::NewerRules { found, most });
                }
            };
            let error = StorageError::contradiction(Path::new("incoming snapshot"), reason);
            return Ok(SnapshotEvent::Rejected { file, error });
        }
        // About as much as it took on its way; what is free is free again when that is gone.
        if let Err(error @ StorageError::NoRoom { .. }) =
            files::check_room(self.snapshots.dir(), file.size)
        {
            self.snapshots.incoming.discard()?;
            return Ok(SnapshotEvent::Rejected { file, error });
        }
        self.state
            .lock()
            .install(&received.meta, received.digest, &received.rows)?;
        self.snapshots.incoming.discard()?;
        let loaded = Loaded {
            meta: received.meta,
            digest: received.digest,
            installed: true,
            rows: received.rows,
        };
        Ok(SnapshotEvent::Installed { file, loaded })
    }
}
