//! A running member: the threads around the core and the applier, and the handle by which the edges use it.
//!
//! ```text
//! REST, other members ──> core thread ──> log thread (one sync for all that queued up)
//!                             │  ^  └───> transport
//!                             v  └──────── written, applied, checkpointed, arrived
//!                        apply thread ──> checkpoint and snapshot threads
//! ```
//!
//! Owns the threads: each has a queue, ends when told, and reports its failure to the core, which ends the member.
//! Nothing here decides anything about consensus or state; that is `tenure_replica`.

mod apply_thread;
mod clock;
mod core_thread;
mod event;
mod handle;
mod outlets;
mod waiter;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenure_raft::{LogIndex, MemberId, Restored};
use tenure_replica::{Applier, Core, CoreSettings, EntryError, Input};
use tenure_state::{LoadError, State};
use tokio::sync::oneshot;
use tracing::{info, warn};

pub use handle::{Handle, LeaderView, MemberIdentity, NodeStatus, Unserved};
pub use tenure_replica::{Decided, Interest};
pub use waiter::Waiter;

use crate::storage::{LogEvent, LogThread, MemberFiles, StateEvent, StateThreads, StorageError};
use crate::transport::{ClusterId, Incoming, Sink, Transport};
use apply_thread::ApplyThread;
use core_thread::CoreThread;
use event::Event;
use handle::Shared;
use outlets::{Apply, Outlets};

/// How long a leader that stops waits for another to take over.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(2);

/// Settings of a member's threads.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The core's.
    pub core: CoreSettings,
    /// A leader whose disk has not finished a write for so long gives up leadership.
    pub disk_patience: Duration,
    /// A synced write that takes longer is told to the operator.
    pub slow_write: Duration,
}

impl Default for NodeSettings {
    fn default() -> NodeSettings {
        let core = CoreSettings::default();
        let disk_patience = core.raft.election_timeout * 10;
        NodeSettings { core, disk_patience, slow_write: Duration::from_millis(500) }
    }
}

/// Why a member cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the disk holds cannot be the remains of a member.
    #[error("the log cannot be used: {0}")]
    Restore(#[from] tenure_raft::RestoreError),
    /// The rows of the state contradict each other or their digest.
    #[error("the state file {path} is damaged: {reason}; move the whole data directory away and replace this member")]
    State {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An entry cannot be applied.
    #[error("{0}; nothing was changed")]
    Entry(#[from] EntryError),
    /// The rules panicked at an entry, as they will on every member.
    #[error("applying the entry at index {index} panicked; nothing of it was saved")]
    ApplyPanicked {
        /// The first entry that was not applied.
        index: LogIndex,
    },
    /// The system gives no threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The core panicked.
    #[error("the core of this member panicked")]
    CorePanicked,
}

impl From<LoadError> for NodeError {
    fn from(error: LoadError) -> NodeError {
        NodeError::State { path: PathBuf::new(), reason: error.to_string() }
    }
}

impl NodeError {
    /// The exit code that says what kind of failure it is (`api.md` §9).
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::Storage(error) => error.exit_code(),
            NodeError::Restore(_)
            | NodeError::State { .. }
            | NodeError::Entry(_)
            | NodeError::ApplyPanicked { .. } => 3,
            NodeError::Thread(_) | NodeError::CorePanicked => 1,
        }
    }
}

/// Where the files of a member are, for their sizes.
#[derive(Clone, Debug)]
pub(crate) struct FilePaths {
    pub(crate) log: PathBuf,
    pub(crate) state: PathBuf,
}

/// The queue of the core, made before the member is there so that the transport can fill it.
pub struct Inbox {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        let (sender, receiver) = channel();
        Inbox { sender, receiver }
    }
}

impl Inbox {
    /// What the transport reports to.
    pub fn sink(&self) -> Sink {
        let sender = self.sender.clone();
        Arc::new(move |incoming| {
            let event = match incoming {
                Incoming::Message(received) => Event::Peer(Box::new(received)),
                Incoming::Unreachable(peer) => Event::Input(Input::Unreachable(peer)),
            };
            // The core is gone only when the member ends.
            let _ = sender.send(event);
        })
    }
}

/// Who a member is, beside what its files say.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Where other members reach it.
    pub peer_url: String,
}

/// A running member.
pub struct Node {
    handle: Handle,
    transport: Transport,
    apply: Sender<Apply>,
    threads: Threads,
    failure: oneshot::Receiver<NodeError>,
}

struct Threads {
    core: JoinHandle<()>,
    apply: JoinHandle<()>,
    log: LogThread,
    state: StateThreads,
}

impl Node {
    /// Starts a member over its files. It takes part in consensus when this returns.
    ///
    /// # Errors
    /// Where the files contradict each other, or the system gives no threads.
    pub fn start(
        files: MemberFiles,
        label: Label,
        transport: Transport,
        inbox: Inbox,
        settings: NodeSettings,
    ) -> Result<Node, NodeError> {
        let cluster = ClusterId(files.identity.cluster.0);
        let id = files.identity.member;
        let (core, applier) = restore(id, &files, &settings)?;
        let covered = applier.applied().position.index;
        let MemberFiles { log, state, log_path, state_path, snapshots, .. } = files;
        let Inbox { sender, receiver } = inbox;
        let identity = MemberIdentity {
            id,
            name: label.name,
            cluster: cluster.0,
            client_url: label.client_url,
            peer_url: label.peer_url,
            version: env!("CARGO_PKG_VERSION"),
            started: Instant::now(),
        };
        let paths = FilePaths { log: log_path, state: state_path };
        let status = (core.status(), Arc::clone(core.configuration()));
        let shared = Arc::new(Shared::new(identity, sender.clone(), applier, status, paths, random_u64()));

        let (apply, apply_queue) = channel();
        let log = start_log(log, sender.clone())?;
        let state = start_state(state, snapshots, sender.clone(), apply.clone())?;
        let outlets = Outlets {
            log: log.sender(),
            state: state.sender(),
            apply: apply.clone(),
            transport: transport.clone(),
            cluster,
            told: None,
        };
        let applying = ApplyThread::new(Arc::clone(&shared), apply_queue, state.sender(), covered);
        let applying = std::thread::Builder::new().name("apply".to_owned()).spawn(move || applying.run())?;
        let (failed, failure) = oneshot::channel();
        let turning = CoreThread::new(core, Arc::clone(&shared), receiver, outlets, settings);
        let turning = std::thread::Builder::new().name("core".to_owned()).spawn(move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turning.run()));
            if let Err(error) = ended.unwrap_or(Err(NodeError::CorePanicked)) {
                let _ = failed.send(error);
            }
        })?;
        let threads = Threads { core: turning, apply: applying, log, state };
        Ok(Node { handle: Handle(shared), transport, apply, threads, failure })
    }

    /// The handle by which it is used.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns when the member has failed and must not go on.
    pub async fn failed(&mut self) -> NodeError {
        match (&mut self.failure).await {
            Ok(error) => error,
            // The core ended without failing: the member is being stopped, and its owner waits for that elsewhere.
            Err(_) => std::future::pending().await,
        }
    }

    /// Begins to stop: takes no new requests, hands leadership over, tells the long-polls to end.
    pub async fn begin_stop(&self) {
        self.handle.0.tell_core(Event::StopAccepting);
        if self.handle.is_leader() {
            match self.handle.transfer_leadership(None).await {
                Ok(to) => self.wait_for_successor(to).await,
                Err(error) => info!(%error, "leadership is not handed over"),
            }
        }
        self.handle.0.stopping.cancel();
    }

    async fn wait_for_successor(&self, to: MemberId) {
        let mut leader = self.handle.leader_watch();
        let me = self.handle.member().id;
        let gone = leader.wait_for(|view| view.leader.is_some_and(|leader| leader != me));
        match tokio::time::timeout(HANDOVER_PATIENCE, gone).await {
            Ok(_) => info!(to = %to, "leadership handed over"),
            Err(_) => warn!(to = %to, "leadership was not taken over in time"),
        }
    }

    /// Ends every thread; what was written is on the disk when this returns.
    pub async fn stop(self) {
        let Node { handle, transport, apply, threads, .. } = self;
        handle.0.stopping.cancel();
        handle.0.tell_core(Event::Stop);
        transport.stop().await;
        let ended = tokio::task::spawn_blocking(move || {
            let _ = threads.core.join();
            let _ = apply.send(Apply::Stop);
            drop(apply);
            let _ = threads.apply.join();
            threads.log.join();
            threads.state.join();
        });
        let _ = ended.await;
    }
}

/// The core and the applier out of what the disk holds.
fn restore(id: MemberId, files: &MemberFiles, settings: &NodeSettings) -> Result<(Core, Applier), NodeError> {
    let damaged = |reason: String| NodeError::State { path: files.state_path.clone(), reason };
    let loaded = &files.loaded;
    let state = State::from_rows(loaded.rows.iter().cloned()).map_err(|error| damaged(error.to_string()))?;
    if state.digest() != loaded.digest {
        return Err(damaged("its rows do not have the digest that was written with them".to_owned()));
    }
    let (last, applied) = (files.contents.last().index, loaded.meta.position.index);
    if last < applied && !loaded.installed {
        return Err(damaged(format!("it covers entries up to {applied}, and the log ends at {last}")));
    }
    info!(applied = applied.0, log_end = last.0, revision = state.revision().0, "recovered");
    let restored = Restored {
        hard_state: files.contents.hard_state,
        base: files.contents.base.clone(),
        entries: files.contents.entries.clone(),
        applied: loaded.meta.clone(),
    };
    let core = Core::new(id, settings.core.clone(), random_u64(), restored)?;
    Ok((core, Applier::new(id, state, loaded.meta.clone())))
}

fn start_log(log: crate::storage::LogFile, core: Sender<Event>) -> Result<LogThread, NodeError> {
    let report = move |event| {
        let event = match event {
            LogEvent::Persisted { id, took } => Event::Written { id, took },
            LogEvent::Failed(error) => Event::Failed(error.into()),
        };
        let _ = core.send(event);
    };
    Ok(LogThread::start(log, report)?)
}

fn start_state(
    state: crate::storage::StateFile,
    snapshots: PathBuf,
    core: Sender<Event>,
    apply: Sender<Apply>,
) -> Result<StateThreads, NodeError> {
    let report = move |event| {
        let input = match event {
            StateEvent::Checkpointed(meta) => {
                let _ = apply.send(Apply::CheckpointDone);
                Input::Checkpointed(meta)
            }
            StateEvent::Outdated => {
                let _ = apply.send(Apply::CheckpointDone);
                return;
            }
            StateEvent::Available { to, file } => Input::SnapshotAvailable { to, file },
            StateEvent::Unavailable { to } => Input::SnapshotFailed { to },
            StateEvent::PieceRead { to, file, offset, data } => Input::PieceRead { to, file, offset, data },
            StateEvent::PieceStored { from, file, stored, round } => {
                Input::PieceStored { from, file, stored, round }
            }
            StateEvent::Installed { meta, state } => {
                let _ = apply.send(Apply::Install { meta, state });
                return;
            }
            StateEvent::Rejected { file, reason } => {
                warn!(reason, "a snapshot was damaged on its way; it is asked for again");
                Input::SnapshotRejected(file)
            }
            StateEvent::Failed(error) => {
                let _ = core.send(Event::Failed(error.into()));
                return;
            }
        };
        let _ = core.send(Event::Input(input));
    };
    Ok(StateThreads::start(state, snapshots, report)?)
}

fn random_u64() -> u64 {
    getrandom::u64().expect("the system has random numbers")
}
