//! One member from its data directory to its listeners, and back.
//!
//! Owns the order in which things begin and end: files, peers, cluster, threads, clients; and at a stop clients first.
//! Used alike by `tenured serve` and `tenured dev`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tenure_raft::{Configuration, MemberId, MemberInfo, SnapshotMeta};
use tenure_state::{FIRST_STATE_VERSION, Genesis, Limits, State};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::TraceSettings;
use crate::forming::{Beginning, Belonging, Formed, FormingError, form_or_wait, keep_offering};
use crate::http;
use crate::joining::{Newcomer, join};
use crate::node::{FilePaths, Inbox, Label, Node, NodeError, NodeSettings};
use crate::root_token::{self, RootTokenError};
use crate::storage::{self, DataDir, Opened, StorageError};
use crate::supervision::{Supervisor, tell_standing};
use crate::telemetry::{Exporting, Telemetry, Traces, Whose};
use crate::tls::{Calling, CallingFiles, FileError, Tls};
use crate::transport::{Budgets, Identity, Transport};

/// How long open calls may take to end when a member stops (`api.md` §9: all of it within 10 s).
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Connections that wait in the kernel until they are accepted. With the usual 128, clients that come in a crowd are
/// made to knock again a second later, and everybody else with them.
const BACKLOG: u32 = 4_096;

/// What a member needs to know to start.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Its name.
    pub name: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Where clients reach it.
    pub client_advertise: String,
    /// How it serves clients.
    pub http: http::Settings,
    /// Where members reach it.
    pub peer_advertise: String,
    /// Who forms the cluster.
    pub initial_members: Option<BTreeMap<String, String>>,
    /// Where clients reach a member of the cluster that it joins.
    pub join: Option<String>,
    /// What calling that cluster needs.
    pub calling: CallingFiles,
    /// What secures its connections.
    pub tls: Tls,
    /// The limits of a cluster that it forms; of no effect afterwards.
    pub limits: Limits,
    /// Where the token lies with which a cluster that it forms begins; not looked at afterwards.
    pub root_token_file: Option<PathBuf>,
    /// Settings of its threads.
    pub settings: NodeSettings,
    /// Whether it hands leadership over when it stops; not where all members stop together.
    pub hand_over: bool,
    /// Who is told how it is.
    pub supervisor: Supervisor,
    /// Where its traces are sent, if they are.
    pub traces: Option<TraceSettings>,
}

/// Why a member does not run.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its files.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its threads.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {who}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// For whom.
        who: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// It has no data and was told of no cluster.
    #[error(
        "the data directory {0} holds no member yet, and nothing says how to form a cluster: give initial_members \
         (--initial-member NAME=URL for each member), or the URL of a cluster to join (--join URL), or try `tenured dev`"
    )]
    NoCluster(PathBuf),
    /// Nobody accepts clients any more.
    #[error("the listener for clients has ended")]
    ClientsUnserved,
    /// No cluster can be formed.
    #[error("{0}")]
    Forming(String),
    /// A file of its settings.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token with which its cluster was to begin.
    #[error(transparent)]
    RootToken(#[from] RootTokenError),
    /// Its traces cannot be sent as the environment says.
    #[error("traces cannot be sent: {0}")]
    Traces(String),
}

impl MemberError {
    /// The exit code that says what kind of failure it is (`api.md` §9).
    pub fn exit_code(&self) -> u8 {
        match self {
            MemberError::Storage(error) => error.exit_code(),
            MemberError::Node(error) => error.exit_code(),
            MemberError::Listen { .. } | MemberError::ClientsUnserved => 1,
            MemberError::NoCluster(_)
            | MemberError::Forming(_)
            | MemberError::File(_)
            | MemberError::RootToken(_)
            | MemberError::Traces(_) => 2,
        }
    }
}

/// A member with its listeners bound.
pub struct Member {
    config: MemberConfig,
    dir: DataDir,
    files: Option<Opened>,
    inbox: Inbox,
    transport: Transport,
    clients: TcpListener,
}

/// A listener that was bound before this process was started.
///
/// # Errors
/// Where the system does not let it be waited for.
pub fn adopt(
    listener: std::net::TcpListener,
    address: SocketAddr,
    who: &'static str,
) -> Result<TcpListener, MemberError> {
    TcpListener::from_std(listener).map_err(|source| MemberError::Listen {
        address,
        who,
        source,
    })
}

/// Binds a listener.
///
/// # Errors
/// Where the address is in use or not ours.
pub async fn bind(address: SocketAddr, who: &'static str) -> Result<TcpListener, MemberError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| MemberError::Listen {
        address,
        who,
        source,
    })
}

impl Member {
    /// Opens the data directory and begins to listen to other members.
    ///
    /// # Errors
    /// Where the directory cannot be used, or it is empty and nothing says how to form a cluster.
    pub async fn open(
        mut config: MemberConfig,
        clients: TcpListener,
        peers: TcpListener,
    ) -> Result<Member, MemberError> {
        let (path, name) = (config.data_dir.clone(), config.name.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let dir = DataDir::open(&path, &name)?;
            let files = storage::open(&dir)?;
            Ok::<_, StorageError>((dir, files))
        });
        let (dir, files) = opened.await.map_err(|_| NodeError::CorePanicked)??;
        if files.is_none() && config.initial_members.is_none() && config.join.is_none() {
            return Err(MemberError::NoCluster(config.data_dir));
        }
        // Where none was given, it is called what it was called before.
        config.name = dir.name().to_owned();
        let inbox = Inbox::default();
        let identity = Identity {
            member: dir.member(),
            name: config.name.clone(),
            client_url: config.client_advertise.clone(),
            peer_url: config.peer_advertise.clone(),
            initial_members: config.initial_members.clone(),
            state_version_at_most: config.settings.state_version_at_most,
        };
        let tls = config.tls.members.clone();
        if let Some(port) = &tls {
            port.belongs_to(&config.name, &config.peer_advertise);
        }
        let transport = Transport::start(identity, peers, tls, Budgets::default(), inbox.sink())
            .map_err(NodeError::from)?;
        Ok(Member {
            config,
            dir,
            files,
            inbox,
            transport,
            clients,
        })
    }

    /// Runs until it is told to stop or fails.
    ///
    /// # Errors
    /// Where it fails; then it must not go on for even a moment longer.
    pub async fn run(self, stop: CancellationToken) -> Result<(), MemberError> {
        let Member {
            config,
            dir,
            files,
            inbox,
            transport,
            clients,
        } = self;
        let dir = Arc::new(dir);
        let began_formed = files.is_some();
        let supervisor = config.supervisor.clone();
        let files = match files {
            Some(files) => files,
            None => tokio::select! {
                files = async {
                    supervisor.status(
                        "WAITS to become part of a cluster, or to be replaced: the log says which",
                    );
                    supervisor.ready();
                    begin(&transport, &config, Arc::clone(&dir)).await
                } => files?,
                never = http::serve_waiting(&clients, config.tls.clients.as_ref()) => match never {},
                () = stop.cancelled() => {
                    transport.stop().await;
                    return Ok(());
                }
            },
        };
        let offering = first_configuration(&files);
        let port = config.tls.members.as_ref();
        let label = Label {
            is_at_peer_url: port
                .is_none_or(|port| port.is_of(&config.name, &config.peer_advertise).is_ok()),
            name: config.name,
            client_url: config.client_advertise,
            peer_url: config.peer_advertise,
        };
        let paths = FilePaths {
            log: dir.path().join("log.redb"),
            state: dir.path().join("state.redb"),
        };
        let (telemetry, exporting) = tell(config.traces.as_ref(), &files, &label)?;
        let mut node = Node::start(
            files,
            label,
            transport.clone(),
            inbox,
            config.settings,
            paths,
            telemetry,
        )?;
        if began_formed {
            node.handle()
                .read(|state| report_limits(&config.limits, state.limits()));
        }
        let ended = CancellationToken::new();
        let mut served = tokio::spawn(http::serve(
            clients,
            node.handle().clone(),
            config.http,
            ended.clone(),
        ));
        // First that it is ready: what it is comes after that.
        supervisor.ready();
        let standing = tokio::spawn(tell_standing(node.handle().clone(), supervisor.clone()));
        let offers = tokio::spawn(async move {
            if let Some((formed, members)) = offering {
                keep_offering(&transport, &formed, &members).await;
            }
        });
        tokio::select! {
            error = node.failed() => return Err(error.into()),
            _ = &mut served => return Err(MemberError::ClientsUnserved),
            () = stop.cancelled() => {}
        }
        info!("stopping");
        standing.abort();
        supervisor.stopping();
        let handle = node.handle().clone();
        tokio::select! {
            error = node.failed() => return Err(error.into()),
            () = async {
                handle.begin_stop(config.hand_over).await;
                ended.cancel();
                if tokio::time::timeout(DRAIN_PATIENCE, served).await.is_err() {
                    warn!("some calls did not end in time");
                }
            } => {}
        }
        offers.abort();
        node.stop().await?;
        if let Some(exporting) = exporting {
            exporting.end().await;
        }
        drop(dir);
        info!("stopped");
        Ok(())
    }
}

/// What a member tells of itself, and what sends it.
fn tell(
    traces: Option<&TraceSettings>,
    files: &Opened,
    label: &Label,
) -> Result<(Telemetry, Option<Exporting>), MemberError> {
    let mut telemetry = Telemetry::default();
    let Some(settings) = traces else {
        return Ok((telemetry, None));
    };
    let whose = Whose {
        member: files.identity.member.to_string(),
        name: label.name.clone(),
        cluster: format!("{:032x}", files.identity.cluster.0),
        version: env!("CARGO_PKG_VERSION"),
    };
    let started = Traces::start(settings, &whose, Arc::clone(&telemetry.metrics));
    let (traces, exporting) = started.map_err(MemberError::Traces)?;
    telemetry.traces = traces;
    Ok((telemetry, Some(exporting)))
}

/// Becomes part of a cluster, and opens the files that say so.
async fn begin(
    transport: &Transport,
    config: &MemberConfig,
    dir: Arc<DataDir>,
) -> Result<Opened, MemberError> {
    let files = config.calling.clone();
    let calling = tokio::task::spawn_blocking(move || files.read()).await;
    let calling: Calling = calling.map_err(|_| NodeError::CorePanicked)??;
    match &config.join {
        Some(url) => {
            let newcomer = Newcomer {
                member: dir.member(),
                name: config.name.clone(),
                peer_url: config.peer_advertise.clone(),
                client_url: config.client_advertise.clone(),
            };
            let joined = join(&calling, url, &newcomer).await;
            info!(cluster = %joined.cluster, "joined a cluster as a learner");
            let writing = Arc::clone(&dir);
            let belonging = Belonging::Joined(joined);
            let written = tokio::task::spawn_blocking(move || write_first(&writing, &belonging));
            written.await.map_err(|_| NodeError::CorePanicked)??;
        }
        None => {
            let writing = Arc::clone(&dir);
            let formed = form_or_wait(
                transport,
                &calling,
                beginning(config).await?,
                move |belonging: &_| write_first(&writing, belonging),
            );
            match formed.await {
                Ok(_) => {}
                Err(FormingError::Persist(error)) => return Err(error.into()),
                Err(error @ (FormingError::Members(_) | FormingError::Stopped)) => {
                    return Err(MemberError::Forming(error.to_string()));
                }
            }
        }
    }
    let opened = tokio::task::spawn_blocking(move || storage::open(&dir));
    let files = opened.await.map_err(|_| NodeError::CorePanicked)??;
    files.ok_or_else(|| MemberError::Forming("the files of the new member are gone".to_owned()))
}

/// What a cluster begins with that this member forms.
async fn beginning(config: &MemberConfig) -> Result<Beginning, MemberError> {
    let root = match config.root_token_file.clone() {
        Some(path) => {
            let read = tokio::task::spawn_blocking(move || root_token::read(&path)).await;
            Some(read.map_err(|_| NodeError::CorePanicked)??)
        }
        None => None,
    };
    Ok(Beginning {
        limits: config.limits.clone(),
        root,
        state_version_at_most: config.settings.state_version_at_most,
    })
}

/// Writes the files of a member that has just become part of a cluster: those of its first entry, or of one that begins
/// before everything.
fn write_first(dir: &DataDir, belonging: &Belonging) -> Result<(), StorageError> {
    let (base, genesis, founding) = match belonging {
        Belonging::Formed(formed) => (
            SnapshotMeta::genesis(formed.configuration.clone()),
            Genesis {
                limits: formed.limits.clone(),
                root: formed.root.clone(),
                version: formed.state_version,
                ..Genesis::default()
            },
            formed.to_bytes(),
        ),
        // A snapshot of the leader's takes the place of this state; until then it follows rules that every member can.
        Belonging::Joined(joined) => (joined.base(), nothing_yet(), Vec::new()),
    };
    let state = State::genesis(genesis);
    let rows: Vec<_> = state.rows().collect();
    let cluster = storage::ClusterId(belonging.cluster().0);
    storage::form(dir, cluster, &base, state.digest(), &rows, &founding)
}

/// The state of a member that has received nothing.
fn nothing_yet() -> Genesis {
    Genesis {
        version: FIRST_STATE_VERSION,
        ..Genesis::default()
    }
}

/// Says which limits were set and are not in force: an operator who changes them in the file is to know that the file
/// only seeds a new cluster.
fn report_limits(set: &Limits, in_force: &Limits) {
    let defaults = Limits::default();
    let named = set.named().zip(defaults.named()).zip(in_force.named());
    for (((name, set), (_, default)), (_, in_force)) in named {
        if set != default && set != in_force {
            info!(
                "{name} is {in_force} in this cluster; the setting {set} was for its first start and changes nothing now"
            );
        }
    }
}

/// The first configuration, and those of its members that still are members: every other one offers it to those that have
/// not received it, however long they were away. Whoever is given it has voted for nobody and acknowledged nothing, like a
/// voter that has been down ever since.
fn first_configuration(files: &Opened) -> Option<(Formed, BTreeMap<MemberId, MemberInfo>)> {
    let formed = Formed::from_bytes(files.contents.founding.as_deref()?)?;
    let entries = files.contents.entries.iter().rev();
    let newest = entries.filter_map(|entry| match &entry.payload {
        tenure_raft::Payload::Configuration(configuration) => Some(configuration),
        _ => None,
    });
    let checkpointed = &files.loaded.meta.configuration;
    let newest = { newest }.next().unwrap_or(checkpointed);
    let left = still_members(&formed.configuration, newest);
    Some((formed, left))
}

/// The members of the first configuration who still are, as they are reached now.
fn still_members(first: &Configuration, newest: &Configuration) -> BTreeMap<MemberId, MemberInfo> {
    let known = newest.info.iter();
    let stayed = known.filter(|(id, _)| first.contains(**id) && newest.contains(**id));
    stayed.map(|(id, info)| (*id, info.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_configuration_is_offered_to_those_of_it_who_still_are_members_where_they_are_now()
    {
        let info = |url: &str| MemberInfo {
            peer_url: url.to_owned(),
            ..MemberInfo::default()
        };
        let of = |members: &[(u64, &str)]| Configuration {
            voters: members.iter().map(|(id, _)| MemberId(*id)).collect(),
            info: members
                .iter()
                .map(|(id, url)| (MemberId(*id), info(url)))
                .collect(),
            ..Configuration::default()
        };
        let first = of(&[(1, "a"), (2, "b"), (3, "c")]);
        // One left, one came, one moved.
        let newest = of(&[(1, "a"), (3, "elsewhere"), (4, "d")]);
        let expected = of(&[(1, "a"), (3, "elsewhere")]).info;
        assert_eq!(still_members(&first, &newest), expected);
        assert_eq!(still_members(&first, &first), first.info);
    }
}
