//! `tenured`: the Tenure daemon.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tenured::cli::{Cli, Command, DevFlags};
use tenured::config::{self, Config, LogFormat, ReloadFlags, ServeFlags, TraceSettings};
use tenured::dev::{self, DevOptions};
use tenured::given_file;
use tenured::http;
use tenured::logging::{self, LogFilter};
use tenured::member::{Member, MemberConfig, MemberError, adopt, bind};
use tenured::node::{NodeError, NodeSettings};
use tenured::offline::{self, OfflineError};
use tenured::pulse::keep_stepping;
use tenured::root_token;
use tenured::supervision::{
    Control, ControlError, Inherited, Reloader, SocketError, Supervisor, ask_to_reload,
};
use tenured::tls::Tls;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Wrong usage or configuration (`api.md` §9).
const EXIT_USAGE: u8 = 2;
/// After a signal to stop, a member that has not ended by then ends all the same: everything acknowledged is on disk.
const STOP_WITHIN: Duration = Duration::from_secs(9);

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dev(flags) => run_dev(flags),
        Command::Serve(flags) => run_serve(*flags),
        Command::Reload(flags) => run_reload(flags),
        Command::Restore(flags) => told(offline::restore(flags, &mut std::io::stdout())),
        Command::Verify(flags) => told(offline::verify(&flags, &mut std::io::stdout())),
        Command::Recover(flags) => told(offline::recover(flags, &mut std::io::stdout())),
        Command::Token(flags) => root_token::make(flags.out.as_deref(), &mut std::io::stdout())
            .map_err(|error| (1, error.to_string())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            logging::tell_failure(&message);
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, String);

fn usage(error: impl std::fmt::Display) -> Failure {
    (EXIT_USAGE, error.to_string())
}

fn failed(error: &MemberError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn told(result: Result<(), OfflineError>) -> Result<(), Failure> {
    result.map_err(|error| (error.exit_code(), error.to_string()))
}

fn run_dev(flags: DevFlags) -> Result<(), Failure> {
    let log_filter = logging::start(LogFormat::Text, &flags.log_filter, "").map_err(usage)?;
    let limits = config::limits(BTreeMap::new(), &flags.limits).map_err(usage)?;
    let options = DevOptions {
        nodes: flags.nodes,
        data_dir: flags.data_dir,
        client_port: flags.client_port,
        limits,
        log_filter,
        traces: TraceSettings::of_environment().map_err(usage)?,
    };
    run_to_end(async {
        let stop = stop_on_signals()?;
        dev::run(options, stop, &mut std::io::stdout())
            .await
            .map_err(|error| failed(&error))
    })
}

fn run_serve(flags: ServeFlags) -> Result<(), Failure> {
    let config = Config::load(flags.clone()).map_err(usage)?;
    let filter =
        logging::start(config.log_format, &config.log_filter, &config.name).map_err(usage)?;
    let traces = TraceSettings::of_environment().map_err(usage)?;
    let inherited = Inherited::of_this_process().map_err(usage)?;
    let supervisor = Supervisor::of_this_process()
        .map_err(|error| (1, format!("cannot start a thread: {error}")))?;
    let settings = &config.tls;
    let tls = Tls::open(
        settings.clients.as_ref(),
        settings.members.as_ref(),
        settings.common_name,
    );
    let tls = tls.map_err(usage)?;
    tls.warn();
    let reloader = Reloader::new(
        flags,
        config.clone(),
        filter.clone(),
        supervisor.clone(),
        tls.clone(),
    );
    run_to_end(async {
        let stop = stop_on_signals()?;
        let listeners = listen(&config, inherited).await?;
        let telling = (filter, traces);
        let served = serve(
            config,
            tls,
            listeners,
            supervisor,
            Arc::new(reloader),
            telling,
            stop,
        );
        served.await.map_err(|error| failed(&error))
    })
}

fn run_reload(flags: ReloadFlags) -> Result<(), Failure> {
    let data_dir = flags.data_dir().map_err(usage)?;
    match ask_to_reload(&data_dir) {
        Ok(reloaded) => {
            println!("{reloaded}");
            Ok(())
        }
        Err(error @ ControlError::Refused(_)) => Err(usage(error)),
        Err(error) => Err((1, error.to_string())),
    }
}

/// The listeners for clients and for members: those that the service manager has bound, and the others.
async fn listen(
    config: &Config,
    inherited: Inherited,
) -> Result<(TcpListener, TcpListener), Failure> {
    warn_if_open(config);
    warn_of_open_tokens(config);
    let (clients, peers) = inherited
        .split(config.client_listen, config.peer_listen)
        .map_err(|error: SocketError| usage(error))?;
    let or_bind = async |listener, address, who| match listener {
        Some(listener) => adopt(listener, address, who),
        None => bind(address, who).await,
    };
    let clients = or_bind(clients, config.client_listen, "clients").await;
    let peers = or_bind(peers, config.peer_listen, "members").await;
    Ok((
        clients.map_err(|error| failed(&error))?,
        peers.map_err(|error| failed(&error))?,
    ))
}

async fn serve(
    config: Config,
    tls: Tls,
    (clients, peers): (TcpListener, TcpListener),
    supervisor: Supervisor,
    reloader: Arc<Reloader>,
    (log_filter, traces): (LogFilter, Option<TraceSettings>),
    stop: CancellationToken,
) -> Result<(), MemberError> {
    tokio::spawn(keep_stepping("edge"));
    let mut settings = NodeSettings::default();
    settings.core.raft.heartbeat_interval = config.heartbeat_interval;
    settings.core.raft.election_timeout = config.election_timeout;
    settings.disk_patience = config.election_timeout * 10;
    settings.state_version_at_most = config.state_version_at_most;
    let ready = config.client_advertise.clone();
    let data_dir = config.data_dir.clone();
    let member = MemberConfig {
        name: config.name,
        data_dir: config.data_dir,
        client_advertise: config.client_advertise,
        http: http::Settings {
            client_hosts: config.client_hosts,
            connections: config.max_connections,
            waits: config.max_waits,
            log_filter,
            tls: tls.clone(),
            ..http::Settings::default()
        },
        peer_advertise: config.peer_advertise,
        initial_members: config.initial_members,
        join: config.join,
        calling: config.tls.calling,
        tls: tls.clone(),
        limits: config.limits,
        root_token_file: config.root_token_file,
        settings,
        hand_over: true,
        supervisor: supervisor.clone(),
        traces,
    };
    // Listened for from the beginning: nobody listening, it would end the process.
    let hang_up = signal(SignalKind::hangup()).map_err(NodeError::from)?;
    supervisor.recovering();
    let member = Member::open(member, clients, peers).await?;
    eprintln!("ready: {ready}");
    // From here on the data directory is locked, and with it the socket in it is this process's.
    let reloading = tokio::spawn(reload_when_asked(
        hang_up,
        Control::bind(&data_dir),
        reloader,
    ));
    let looking = tokio::spawn(tls.keep_looking());
    let ran = member.run(stop).await;
    looking.abort();
    reloading.abort();
    ran
}

/// Reloads whenever somebody asks for it, by the socket or by a signal.
async fn reload_when_asked(
    mut hang_up: Signal,
    control: std::io::Result<Control>,
    reloader: Arc<Reloader>,
) {
    let by_signal = async {
        while hang_up.recv().await.is_some() {
            let reloader = Arc::clone(&reloader);
            // What came of it is in the log, the only place where whoever sent a signal can look.
            let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        }
    };
    let by_socket = async {
        match control {
            Ok(control) => control.serve(Arc::clone(&reloader)).await,
            Err(error) => {
                tracing::warn!(%error, "no control socket: `tenured reload` cannot be answered, send SIGHUP");
            }
        }
    };
    tokio::join!(by_signal, by_socket);
}

/// Says what is served to others than this machine without protection, and what would protect it.
fn warn_if_open(config: &Config) {
    let (clients, members) = (&config.tls.clients, &config.tls.members);
    let address = config.client_listen;
    if !address.ip().is_loopback() && clients.is_none() {
        tracing::warn!(%address, "clients are served without encryption: whoever is on the way reads and changes what they say; give client_cert_file and client_key_file");
    }
    let address = config.peer_listen;
    if !address.ip().is_loopback() && members.is_none() {
        tracing::warn!(%address, "members are served without encryption and without certificates: anybody who reaches this address may speak as a member; give peer_cert_file, peer_key_file and peer_ca_file");
    }
}

/// Says which files of tokens others may read. It is looked at each start, also where the token was needed once only: it may
/// be good still.
fn warn_of_open_tokens(config: &Config) {
    for (setting, path) in [
        ("root_token_file", &config.root_token_file),
        ("join_token_file", &config.tls.calling.token),
    ] {
        if let Some(path) = path
            .as_deref()
            .filter(|path| given_file::is_open_to_others(path))
        {
            tracing::warn!(
                "token readable by everybody: {setting} {} can be read by any user of this machine; make it mode 0640, and draw a new token where others use the machine",
                path.display()
            );
        }
    }
}

/// Runs to the end, and waits no longer than a moment for what nobody needs any more.
fn run_to_end(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("edge")
        .build();
    built.map_err(|error| (1, format!("cannot start the runtime: {error}")))
}

/// A token that ends at SIGTERM or SIGINT; a second signal, or a stop that takes too long, ends the process at once.
fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let unusable = |error: std::io::Error| (1, format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stopping.cancelled() => {}
        }
        stopping.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(STOP_WITHIN) => tracing::warn!("stopping took too long, ending now"),
        }
        std::process::exit(0);
    });
    Ok(stop)
}
