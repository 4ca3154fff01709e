//! `tenured dev`: a cluster of one or more members in one process on loopback, for trying out and for tests.
//!
//! Owns the ports and directories of its members and nothing else: each of them is what `tenured serve` runs.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tenure_state::Limits;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::TraceSettings;
use crate::http;
use crate::logging::LogFilter;
use crate::member::{Member, MemberConfig, MemberError, bind};
use crate::node::NodeSettings;
use crate::supervision::Supervisor;
use crate::tls::{CallingFiles, Tls};

/// How long the cluster may take to be ready before it is said that it takes long.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// How many members.
    pub nodes: u16,
    /// Where their data is kept; gone at the end where it is not given.
    pub data_dir: Option<PathBuf>,
    /// The client port of the first member; member i has this + 2 (i − 1), and its peer port is one above.
    pub client_port: u16,
    /// The limits that a new cluster begins with.
    pub limits: Limits,
    /// Which log lines the process writes.
    pub log_filter: LogFilter,
    /// Where traces are sent, if they are.
    pub traces: Option<TraceSettings>,
}

/// Runs the cluster until it is told to stop. Says on `out` where it is reached and what to try.
///
/// # Errors
/// Where a port or directory cannot be used, or a member fails.
pub async fn run(
    options: DevOptions,
    stop: CancellationToken,
    out: &mut (impl Write + Send),
) -> Result<(), MemberError> {
    let (dir, _temporary) = match &options.data_dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let dir = TemporaryDir::make()?;
            (dir.0.clone(), Some(dir))
        }
    };
    let mut running = JoinSet::new();
    for member in open_members(&options, &dir).await? {
        let stop = stop.clone();
        running.spawn(member.run(stop));
    }
    let client = format!("http://{}", client_address(&options, 1));
    tokio::select! {
        () = announce(&options, out) => {}
        ended = running.join_next() => return finish(ended, &stop),
        () = stop.cancelled() => {}
    }
    tracing::info!(%client, nodes = options.nodes, "ready");
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        result = result.and(finish(Some(ended), &stop));
    }
    result
}

type Ended = Result<Result<(), MemberError>, tokio::task::JoinError>;

/// One member that fails ends all of them: half a cluster would be a puzzle to whoever tries it out.
fn finish(ended: Option<Ended>, stop: &CancellationToken) -> Result<(), MemberError> {
    stop.cancel();
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(MemberError::Forming(format!("a member panicked: {error}"))),
        None => Ok(()),
    }
}

fn name(member: u16) -> String {
    format!("n{member}")
}

fn client_address(options: &DevOptions, member: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, options.client_port + 2 * (member - 1)).into()
}

fn peer_address(options: &DevOptions, member: u16) -> SocketAddr {
    (
        Ipv4Addr::LOCALHOST,
        options.client_port + 2 * (member - 1) + 1,
    )
        .into()
}

async fn open_members(options: &DevOptions, dir: &Path) -> Result<Vec<Member>, MemberError> {
    let initial_members: BTreeMap<String, String> = (1..=options.nodes)
        .map(|m| (name(m), format!("http://{}", peer_address(options, m))))
        .collect();
    let mut members = Vec::new();
    for member in 1..=options.nodes {
        let clients = bind(client_address(options, member), "clients").await?;
        let peers = bind(peer_address(options, member), "members").await?;
        let config = MemberConfig {
            name: name(member),
            data_dir: dir.join(name(member)),
            client_advertise: format!("http://{}", client_address(options, member)),
            peer_advertise: format!("http://{}", peer_address(options, member)),
            initial_members: Some(initial_members.clone()),
            join: None,
            calling: CallingFiles::default(),
            tls: Tls::default(),
            limits: options.limits.clone(),
            root_token_file: None,
            http: http::Settings {
                log_filter: options.log_filter.clone(),
                ..http::Settings::default()
            },
            settings: NodeSettings::default(),
            hand_over: false,
            supervisor: Supervisor::default(),
            traces: options.traces.clone(),
        };
        members.push(Member::open(config, clients, peers).await?);
    }
    Ok(members)
}

/// Waits until every member serves, then says so.
async fn announce(options: &DevOptions, out: &mut (impl Write + Send)) {
    let began = tokio::time::Instant::now();
    let mut told = false;
    for member in 1..=options.nodes {
        let address = client_address(options, member);
        while !is_ready(address).await {
            if !told && began.elapsed() > READY_PATIENCE {
                tracing::warn!(%address, "a member is not ready yet");
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut text = String::new();
    for member in 1..=options.nodes {
        text.push_str(&format!(
            "ready: http://{}\n",
            client_address(options, member)
        ));
    }
    let url = format!("http://{}", client_address(options, 1));
    text.push_str(&format!(
        "\nTry:\n  curl -X PUT {url}/v1/keys/greeting -d 'hello'\n  curl {url}/v1/keys/greeting\n  \
         curl {url}/v1/locks/jobs/nightly -H 'Content-Type: application/json' -d '{{\"ttl_ms\":15000}}'\n"
    ));
    // Where nobody reads it, the cluster runs all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Asks `/readyz` as anybody would.
async fn is_ready(address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    let answered = tokio::time::timeout(Duration::from_secs(1), asked).await;
    matches!(answered, Ok(Ok(head)) if &head == b"HTTP/1.1 200")
}

/// A directory that is gone when this is.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn make() -> Result<TemporaryDir, MemberError> {
        let suffix = getrandom::u64().expect("the system has random numbers");
        let path = std::env::temp_dir().join(format!("tenured-dev-{suffix:016x}"));
        Ok(TemporaryDir(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "the temporary data could not be removed");
        }
    }
}
