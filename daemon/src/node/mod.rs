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
#[cfg(any(test, fuzzing))]
mod desk;
mod event;
mod freshness;
mod handle;
mod outlets;
mod stages;
mod under_way;
mod waiter;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenure_raft::{LogIndex, MemberId, MemberInfo, Restored};
use tenure_replica::{Applier, Core, CoreSettings, EntryError, Input, Introduction, remedy};
use tenure_state::{LoadError, Row, STATE_VERSION, State};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

#[cfg(any(test, fuzzing))]
pub(crate) use desk::Desk;
pub use freshness::FreshAt;
pub use handle::{Handle, LeaderView, MemberIdentity, NodeStatus, PIECE, Unserved};
pub use tenure_replica::{Decided, Interest};
pub use under_way::UnderWay;
pub use waiter::Waiter;

use crate::storage::{
    Backups, Loaded, LogEvent, LogThread, Opened, Origin, Reclaimed, SharedState, SnapshotEvent,
    SnapshotThread, Snapshots, StateEvent, StateThread, StorageError, Unfit,
};
use crate::telemetry::{Metrics, Telemetry};
use crate::tls::is_of_this_machine;
use crate::transport::{ClusterId, Incoming, Sink, Transport};
use apply_thread::ApplyThread;
use core_thread::CoreThread;
use event::Event;
use handle::Shared;
use outlets::{Apply, Outlets};
use stages::Synced;

/// Settings of a member's threads.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The core's.
    pub core: CoreSettings,
    /// A leader whose disk has not finished a write for so long gives up leadership.
    pub disk_patience: Duration,
    /// A synced write that takes longer is told to the operator.
    pub slow_write: Duration,
    /// The newest version of the rules of the state that this member follows.
    pub state_version_at_most: u64,
}

impl Default for NodeSettings {
    fn default() -> NodeSettings {
        let core = CoreSettings::default();
        let disk_patience = core.raft.election_timeout * 10;
        NodeSettings {
            core,
            disk_patience,
            slow_write: Duration::from_millis(500),
            state_version_at_most: STATE_VERSION,
        }
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
    #[error(
        "the state file is damaged: {0}; move the whole data directory away and replace this member"
    )]
    State(String),
    /// The state follows rules that this member does not.
    #[error(
        "the state on this disk follows state version {found}, and this member follows up to {most}: {}", remedy(*.most)
    )]
    NewerRules {
        /// The version of the state.
        found: u64,
        /// The newest version that this member follows.
        most: u64,
    },
    /// The disk of this member has lost what the member had told the leader to be on it.
    #[error(
        "{0}: the disk lost synced writes, or the files are of an earlier day; move the whole data directory away and replace this member"
    )]
    Forgotten(#[from] tenure_raft::Forgotten),
    /// The cluster has removed this member.
    #[error(
        "this member was removed from its cluster: it can come back only as a new member, with an empty data directory"
    )]
    Removed,
    /// The disk of this member is an old copy.
    #[error(
        "the cluster has logged start {logged:016x} of this member, of which this disk knows nothing: its files are an old copy, and what the member acknowledged since is lost; move the whole data directory away and replace this member"
    )]
    DiskWentBack {
        /// The number that is logged.
        logged: u64,
    },
    /// The state of this member is not that of the others.
    #[error(
        "the state of this member differs from that of a majority at entry {index}: its digest is {here:032x}, theirs {agreed:032x}; keep its files for whoever looks into this, and replace this member"
    )]
    Diverged {
        /// At which entry.
        index: LogIndex,
        /// Here.
        here: u128,
        /// There.
        agreed: u128,
    },
    /// An entry cannot be applied.
    #[error("{}; nothing was changed{}", .0, way_out_of(.0))]
    Entry(#[from] EntryError),
    /// The rules panicked at an entry, as they will on every member.
    #[error("applying the entry at index {index} panicked; nothing of it was saved{}", way_out(*.index))]
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
    /// The thread that applies panicked outside the rules of the state.
    #[error("the thread that applies entries panicked")]
    ApplyThreadPanicked,
    /// The thread that talks to the other members panicked.
    #[error("the thread that talks to the other members panicked")]
    TransportPanicked,
}

/// What an operator does where an entry can never be applied, by any member.
fn way_out(index: LogIndex) -> String {
    format!(
        "; where every member stops at it, and with the newest program too, `tenured recover --before {index}` makes a cluster \
         of the state before it"
    )
}

/// The same where it is the entry that is to blame.
fn way_out_of(error: &EntryError) -> String {
    match error {
        EntryError::Undecodable { index, .. } => way_out(*index),
        EntryError::NewerRules { .. } | EntryError::OutOfOrder { .. } => String::new(),
    }
}

impl NodeError {
    /// The exit code that says what kind of failure it is (`api.md` §9).
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::Storage(error) => error.exit_code(),
            NodeError::Restore(_)
            | NodeError::State(_)
            | NodeError::NewerRules { .. }
            | NodeError::Forgotten(_)
            | NodeError::Removed
            | NodeError::DiskWentBack { .. }
            | NodeError::Diverged { .. }
            | NodeError::Entry(_)
            | NodeError::ApplyPanicked { .. } => 3,
            NodeError::Thread(_)
            | NodeError::CorePanicked
            | NodeError::ApplyThreadPanicked
            | NodeError::TransportPanicked => 1,
        }
    }
}

/// Where the files of a member are, for their sizes.
#[derive(Clone, Debug)]
pub struct FilePaths {
    /// The log file.
    pub log: PathBuf,
    /// The state file.
    pub state: PathBuf,
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
                Incoming::Removed => Event::Removed,
                Incoming::Panicked => Event::Failed(NodeError::TransportPanicked),
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
    /// Whether the others would take it for this member there: where they ask for certificates, its own must say so.
    pub is_at_peer_url: bool,
}

impl Label {
    /// The peer URL that the cluster is to know this member by from now on, if it is not to stay what it was. A loopback
    /// address never takes the place of another: it is what a member without settings says, and nobody else's way to it.
    fn announced(&self, known: &MemberInfo) -> Option<String> {
        let hides = is_of_this_machine(&self.peer_url)
            && !is_of_this_machine(&known.peer_url)
            && !known.peer_url.is_empty();
        (self.is_at_peer_url && !hides).then(|| self.peer_url.clone())
    }
}

/// A running member.
pub struct Node {
    handle: Handle,
    transport: Transport,
    threads: Threads,
    failure: oneshot::Receiver<NodeError>,
}

struct Threads {
    core: JoinHandle<()>,
    apply: JoinHandle<()>,
}

impl Node {
    /// Starts a member over its files. It takes part in consensus when this returns.
    ///
    /// # Errors
    /// Where the files contradict each other, or the system gives no threads.
    pub fn start(
        files: Opened,
        label: Label,
        transport: Transport,
        inbox: Inbox,
        settings: NodeSettings,
        paths: FilePaths,
        telemetry: Telemetry,
    ) -> Result<Node, NodeError> {
        let cluster = ClusterId(files.identity.cluster.0);
        let id = files.identity.member;
        let (mut core, applier) = restore(id, &files, &settings)?;
        let covered = applier.applied().position.index;
        let Opened {
            mut log,
            state,
            snapshots,
            contents,
            ..
        } = files;
        let introduction = Introduction::next(
            id,
            core.raft().committed_configuration(),
            contents.starts,
            random_u64(),
            label.client_url.clone(),
            core.configuration()
                .info
                .get(&id)
                .and_then(|known| label.announced(known)),
        );
        log.note_starts(&introduction.known)?;
        core.introduce(introduction);
        let most = settings.state_version_at_most;
        core.can_follow(most, applier.state().version());
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
        let status = (core.status(), Arc::clone(core.configuration()));
        let origin = Origin {
            member: id,
            name: identity.name.clone(),
            program: identity.version.to_owned(),
            unix_ms: 0,
        };
        let backups = Backups::new(
            &state,
            &paths.state,
            snapshots.dir(),
            files.identity.cluster,
            origin,
        );
        let mut shared = Shared::new(
            identity,
            sender.clone(),
            applier,
            status,
            paths,
            settings.core.raft.election_timeout,
            random_u64(),
        );
        shared.backups = Some(backups);
        shared.metrics = telemetry.metrics;
        shared.traces = telemetry.traces;
        let shared = Arc::new(shared);
        let metrics = Arc::clone(&shared.metrics);

        let (apply, apply_queue) = channel();
        let log = start_log(log, sender.clone(), Arc::clone(&metrics))?;
        let taken = (state.clone(), snapshots);
        let snapshots = start_snapshots(taken, most, sender.clone(), apply.clone())?;
        let state = start_state(state, sender.clone(), apply.clone(), metrics)?;
        let outlets = Outlets {
            log,
            snapshots,
            apply: apply.clone(),
            transport: transport.clone(),
            cluster,
            told: None,
        };
        let applying = ApplyThread::new(Arc::clone(&shared), apply_queue, state, covered);
        let applying = std::thread::Builder::new()
            .name("apply".to_owned())
            .spawn(move || applying.run())?;
        let (failed, failure) = oneshot::channel();
        let turning = CoreThread::new(core, Arc::clone(&shared), receiver, outlets, settings);
        let turning = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || {
                let ended =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turning.run()));
                if let Err(error) = ended.unwrap_or(Err(NodeError::CorePanicked)) {
                    let _ = failed.send(error);
                }
            })?;
        let threads = Threads {
            core: turning,
            apply: applying,
        };
        Ok(Node {
            handle: Handle(shared),
            transport,
            threads,
            failure,
        })
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

    /// Ends every thread; what was written is on the disk when this returns.
    ///
    /// # Errors
    /// What failed on the way out. Everything acknowledged is on disk all the same.
    pub async fn stop(self) -> Result<(), NodeError> {
        let Node {
            handle,
            transport,
            threads,
            mut failure,
        } = self;
        handle.0.stopping.cancel();
        handle.0.tell_core(Event::Stop);
        transport.stop().await;
        let ended =
            tokio::task::spawn_blocking(move || threads.core.join().and(threads.apply.join()));
        if !matches!(ended.await, Ok(Ok(()))) {
            return Err(NodeError::CorePanicked);
        }
        failure.try_recv().map_or(Ok(()), Err)
    }
}

/// The core and the applier out of what the disk holds.
fn restore(
    id: MemberId,
    files: &Opened,
    settings: &NodeSettings,
) -> Result<(Core, Applier), NodeError> {
    let loaded = &files.loaded;
    let most = settings.state_version_at_most;
    let state = followed(rebuild(loaded)?, most)?;
    let (last, applied) = (files.contents.last().index, loaded.meta.position.index);
    info!(
        applied = applied.0,
        log_end = last.0,
        revision = state.revision().0,
        state_version = state.version(),
        "recovered"
    );
    let restored = Restored {
        hard_state: files.contents.hard_state,
        base: files.contents.base.clone(),
        entries: files.contents.entries.clone(),
        applied: loaded.meta.clone(),
    };
    let core = Core::new(id, settings.core.clone(), random_u64(), restored)?;
    let applier = Applier::new(id, state, loaded.meta.clone()).follows_up_to(most);
    Ok((core, applier))
}

fn start_log(
    log: crate::storage::LogFile,
    core: Sender<Event>,
    metrics: Arc<Metrics>,
) -> Result<LogThread, NodeError> {
    let report = move |event| {
        let event = match event {
            LogEvent::Persisted {
                id,
                took,
                writes,
                bytes,
                ..
            } => {
                metrics.log_synced(took, writes, bytes);
                let at = Instant::now();
                let synced = Synced { at, took, writes };
                Event::Written { id, synced }
            }
            LogEvent::Reclaimed(Reclaimed { before, after }) => {
                info!(
                    before_bytes = before,
                    after_bytes = after,
                    "the log file was mostly free and is another now, which is smaller"
                );
                return;
            }
            LogEvent::Failed(error) => Event::Failed(error.into()),
        };
        let _ = core.send(event);
    };
    Ok(LogThread::start(log, report)?)
}

fn start_state(
    state: SharedState,
    core: Sender<Event>,
    apply: Sender<Apply>,
    metrics: Arc<Metrics>,
) -> Result<StateThread, NodeError> {
    let report = move |event| {
        let event = match event {
            StateEvent::Checkpointed { meta, took, rows } => {
                metrics.checkpointed(took, rows);
                debug!(
                    index = meta.position.index.0,
                    rows,
                    took_ms = took.as_millis(),
                    "checkpoint written"
                );
                let _ = apply.send(Apply::CheckpointDone);
                Event::Input(Input::Checkpointed(meta))
            }
            StateEvent::Outdated { .. } => {
                let _ = apply.send(Apply::CheckpointDone);
                return;
            }
            StateEvent::Reclaimed(Reclaimed { before, after }) => {
                info!(
                    before_bytes = before,
                    after_bytes = after,
                    "the state file was mostly free and is written anew"
                );
                return;
            }
            StateEvent::Failed(error) => Event::Failed(error.into()),
        };
        let _ = core.send(event);
    };
    Ok(StateThread::start(state, report)?)
}

fn start_snapshots(
    (state, snapshots): (SharedState, Snapshots),
    most: u64,
    core: Sender<Event>,
    apply: Sender<Apply>,
) -> Result<SnapshotThread, NodeError> {
    let report = move |event| {
        if let Some(event) = after_snapshot_work(event, &apply) {
            let _ = core.send(event);
        }
    };
    let check = move |rows: &[Row], digest: u128| check_rows(rows, digest, most);
    Ok(SnapshotThread::start(
        state,
        snapshots,
        Box::new(check),
        report,
    )?)
}

/// What the core hears of snapshot work; an installed state goes to the apply thread first, in its place among the
/// entries.
fn after_snapshot_work(event: SnapshotEvent, apply: &Sender<Apply>) -> Option<Event> {
    let input = match event {
        SnapshotEvent::Made { to, file } => Input::SnapshotAvailable { to, file },
        SnapshotEvent::TooOld { to, .. } => Input::SnapshotFailed { to },
        SnapshotEvent::MakeFailed { to, error } => {
            warn!(%error, "no snapshot could be made");
            Input::SnapshotFailed { to }
        }
        SnapshotEvent::Piece {
            to,
            file,
            offset,
            data,
        } => Input::PieceRead {
            to,
            file,
            offset,
            data,
        },
        SnapshotEvent::ReadFailed { to, error, .. } => {
            if let Some(error) = error {
                warn!(%error, "a snapshot could not be read");
            }
            Input::SnapshotFailed { to }
        }
        SnapshotEvent::Stored {
            file,
            stored,
            round,
            from,
        } => Input::PieceStored {
            from,
            file,
            stored,
            round,
        },
        SnapshotEvent::Installed { loaded, .. } => {
            return match rebuild(&loaded) {
                Ok(state) => {
                    let _ = apply.send(Apply::Install {
                        meta: loaded.meta,
                        state: Box::new(state),
                    });
                    None
                }
                Err(error) => Some(Event::Failed(error)),
            };
        }
        SnapshotEvent::Rejected { file, error } => {
            warn!(%error, "a snapshot that arrived is not used; it is asked for again");
            Input::SnapshotRejected(file)
        }
        SnapshotEvent::Failed(error) => return Some(Event::Failed(error.into())),
    };
    Some(Event::Input(input))
}

/// Whether the rows of a snapshot make a state of the digest that was sent with them, of rules that are followed here.
fn check_rows(rows: &[Row], digest: u128, most: u64) -> Result<(), Unfit> {
    let state = match State::from_rows(rows.iter().cloned()) {
        Ok(state) => state,
        Err(LoadError::Rules { found }) => return Err(Unfit::NewerRules { found, most }),
        Err(error) => return Err(Unfit::Damaged(error.to_string())),
    };
    if state.digest() != digest {
        let reason = "its rows do not have the digest that was sent with them";
        return Err(Unfit::Damaged(reason.to_owned()));
    }
    match state.version() {
        found if most < found => Err(Unfit::NewerRules { found, most }),
        _ => Ok(()),
    }
}

/// The state out of its rows, which must have the digest that was written with them.
///
/// # Errors
/// Where they are no state, or another, or follow rules that this program does not know.
pub fn rebuild(loaded: &Loaded) -> Result<State, NodeError> {
    let state = match State::from_rows(loaded.rows.iter().cloned()) {
        Ok(state) => state,
        Err(LoadError::Rules { found }) => {
            let most = STATE_VERSION;
            return Err(NodeError::NewerRules { found, most });
        }
        Err(error) => return Err(NodeError::State(error.to_string())),
    };
    if state.digest() != loaded.digest {
        return Err(NodeError::State(
            "its rows do not have the digest that was written with them".to_owned(),
        ));
    }
    Ok(state)
}

/// A state that this member follows.
fn followed(state: State, most: u64) -> Result<State, NodeError> {
    match state.version() {
        found if most < found => Err(NodeError::NewerRules { found, most }),
        _ => Ok(state),
    }
}

fn random_u64() -> u64 {
    getrandom::u64().expect("the system has random numbers")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use tenure_raft::{Configuration, SnapshotMeta};
    use tenure_state::{Genesis, Table};

    use super::*;
    use crate::storage::{ClusterId, DataDir, SnapshotRequest, form, open};

    #[test]
    fn a_member_tells_where_it_is_but_for_a_loopback_address_that_would_take_the_place_of_another()
    {
        let announced = |own: &str, known: &str, is_at_peer_url| {
            let label = Label {
                name: "n1".to_owned(),
                client_url: String::new(),
                peer_url: own.to_owned(),
                is_at_peer_url,
            };
            let known = MemberInfo {
                peer_url: known.to_owned(),
                ..MemberInfo::default()
            };
            label.announced(&known)
        };
        let (far, near) = ("http://10.0.0.1:7380", "http://127.0.0.1:7380");
        for (own, known) in [(far, near), (near, near), (far, far), (near, ""), (far, "")] {
            assert_eq!(announced(own, known, true).as_deref(), Some(own));
            assert_eq!(announced(own, known, false), None);
        }
        assert_eq!(announced(near, far, true), None);
    }

    /// A member that is alone, whose state is empty, covers entries up to `index` and says that it follows these rules.
    struct Follower {
        dir: DataDir,
        snapshots: SnapshotThread,
        events: mpsc::Receiver<SnapshotEvent>,
    }

    impl Follower {
        fn of_rules(path: &Path, version: u64, index: u64) -> Follower {
            let dir = DataDir::open(path, "n1").expect("a directory");
            let state = State::genesis(Genesis::default());
            let rows = state.rows().map(|mut row| {
                if (row.table, &row.key[..]) == (Table::Meta, b"rules") {
                    row.value = version.to_be_bytes().to_vec().into();
                }
                row
            });
            let rows: Vec<Row> = rows.collect();
            let configuration = Configuration {
                voters: [dir.member()].into(),
                info: [(dir.member(), MemberInfo::default())].into(),
                ..Configuration::default()
            };
            let mut base = SnapshotMeta::genesis(configuration);
            base.position.index = LogIndex(index);
            form(&dir, ClusterId(7), &base, state.digest(), &rows, &[]).expect("a member");
            let opened = open(&dir).expect("it opens").expect("it was formed");
            let (send, events) = mpsc::channel();
            let check = |rows: &[Row], digest| check_rows(rows, digest, STATE_VERSION);
            let told = move |event| drop(send.send(event));
            let snapshots =
                SnapshotThread::start(opened.state, opened.snapshots, Box::new(check), told);
            let snapshots = snapshots.expect("a thread");
            Follower {
                dir,
                snapshots,
                events,
            }
        }

        fn ask(&self, request: SnapshotRequest) -> SnapshotEvent {
            self.snapshots.request(request);
            self.events.recv().expect("an answer")
        }
    }

    #[test]
    fn a_snapshot_of_newer_rules_ends_a_member_with_3_which_says_what_to_do_and_keeps_its_state() {
        let dirs = tempfile::tempdir().expect("there is room for a directory");
        let newer = Follower::of_rules(&dirs.path().join("newer"), STATE_VERSION + 1, 9);
        let older = Follower::of_rules(&dirs.path().join("older"), STATE_VERSION, 1);
        let (to, from) = (older.dir.member(), newer.dir.member());
        let at_least = LogIndex(9);
        let made = newer.ask(SnapshotRequest::Make { to, at_least });
        let SnapshotEvent::Made { file, .. } = made else {
            panic!("{made:?}");
        };
        let (offset, length) = (0, file.size);
        let read = newer.ask(SnapshotRequest::Read {
            to,
            file: file.clone(),
            offset,
            length,
        });
        let SnapshotEvent::Piece { data, .. } = read else {
            panic!("{read:?}");
        };
        let stored = older.ask(SnapshotRequest::Store {
            file: file.clone(),
            offset,
            data,
            round: 1,
            from,
        });
        assert!(matches!(stored, SnapshotEvent::Stored { stored, .. } if stored == length));
        let failed = older.ask(SnapshotRequest::Install { file });
        let SnapshotEvent::Failed(error) = failed else {
            panic!("{failed:?}");
        };
        let error = NodeError::from(error);
        assert_eq!(error.exit_code(), 3);
        let told = error.to_string();
        for part in ["state version 3", "up to 2", "start a newer program"] {
            assert!(told.contains(part), "{part:?} is not in {told:?}");
        }
        older.snapshots.stop().expect("it ends");
        let kept = open(&older.dir).expect("it opens").expect("it was formed");
        let state = rebuild(&kept.loaded).expect("it is what it was");
        assert_eq!(state.version(), STATE_VERSION);
        newer.snapshots.stop().expect("it ends");
    }
}
