//! `tenured`: the Tenure daemon.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tenured::config::{self, Config, LogFormat, ServeFlags};
use tenured::dev::{self, DevOptions};
use tenured::http;
use tenured::member::{Member, MemberConfig, MemberError, bind};
use tenured::node::NodeSettings;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Wrong usage or configuration (`api.md` §9).
const EXIT_USAGE: u8 = 2;
/// Who broke, changed or compacted what is told however few lines an operator wants, unless the filter names `audit`.
const AUDIT: &str = "audit=info";
/// After a signal to stop, a member that has not ended by then ends all the same: everything acknowledged is on disk.
const STOP_WITHIN: Duration = Duration::from_secs(9);

const EXAMPLES: &str = "Examples:
  tenured dev                                   a cluster of one on loopback, for trying out
  tenured dev --nodes 3 --data-dir ./cluster    three members that keep their data
  tenured serve --config /etc/tenure/tenured.toml";

const SERVE_EXAMPLES: &str = "Examples:
  tenured serve --name n1 --data-dir /var/lib/tenure \\
      --client-listen 10.0.0.1:7379 --peer-listen 10.0.0.1:7380 \\
      --initial-member n1=http://10.0.0.1:7380 \\
      --initial-member n2=http://10.0.0.2:7380 \\
      --initial-member n3=http://10.0.0.3:7380
  tenured serve --config /etc/tenure/tenured.toml --log-filter debug

Every setting is a flag, an environment variable and a key of the file, which is named as the variable without
TENURED_ and in lower case. Flags win over the environment, the environment over the file.";

/// The Tenure daemon: locks, elections, leases and watched keys over HTTP.
#[derive(Parser)]
#[command(name = "tenured", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster on loopback, for trying out and for tests of applications
    Dev(DevFlags),
    /// Run a member of a cluster
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeFlags>),
}

#[derive(Args)]
#[command(after_help = "Examples:\n  tenured dev\n  tenured dev --nodes 3 --client-port 8000")]
struct DevFlags {
    /// How many members: 1, 3 or 5
    #[arg(long, default_value_t = 1, value_parser = nodes)]
    nodes: u16,
    /// Keep the data here; without it the data is gone at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The first member serves clients on this port of 127.0.0.1, and members on the next one
    #[arg(long, value_name = "PORT", default_value_t = 7379, value_parser = clap::value_parser!(u16).range(1..=65000))]
    client_port: u16,
    /// A limit that a new cluster begins with, as NAME=VALUE, named as in `GET /v1/limits` (repeat, or separate by commas)
    #[arg(
        long = "limit",
        value_name = "NAME=VALUE",
        env = "TENURED_LIMITS",
        value_delimiter = ','
    )]
    limits: Vec<String>,
    /// Which log lines are written, such as `info` or `tenured=debug`; those of the audit too, without `audit=off`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn",
        env = "TENURED_LOG_FILTER"
    )]
    log_filter: String,
}

/// An even number would only cost more than the odd one below it.
fn nodes(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("1, 3 or 5 members are accepted".to_owned()),
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dev(flags) => run_dev(flags),
        Command::Serve(flags) => run_serve(*flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("tenured: {message}");
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

fn run_dev(flags: DevFlags) -> Result<(), Failure> {
    start_logging(LogFormat::Text, &flags.log_filter)?;
    let limits = config::limits(BTreeMap::new(), &flags.limits).map_err(usage)?;
    let options = DevOptions {
        nodes: flags.nodes,
        data_dir: flags.data_dir,
        client_port: flags.client_port,
        limits,
    };
    run_to_end(async {
        let stop = stop_on_signals()?;
        dev::run(options, stop, &mut std::io::stdout())
            .await
            .map_err(|error| failed(&error))
    })
}

fn run_serve(flags: ServeFlags) -> Result<(), Failure> {
    let config = Config::load(flags).map_err(usage)?;
    start_logging(config.log_format, &config.log_filter)?;
    run_to_end(async {
        let stop = stop_on_signals()?;
        serve(config, stop).await.map_err(|error| failed(&error))
    })
}

async fn serve(config: Config, stop: CancellationToken) -> Result<(), MemberError> {
    warn_if_open(config.client_listen, "clients");
    warn_if_open(config.peer_listen, "members");
    let clients = bind(config.client_listen, "clients").await?;
    let peers = bind(config.peer_listen, "members").await?;
    let mut settings = NodeSettings::default();
    settings.core.raft.heartbeat_interval = config.heartbeat_interval;
    settings.core.raft.election_timeout = config.election_timeout;
    settings.disk_patience = config.election_timeout * 10;
    let ready = config.client_advertise.clone();
    let member = MemberConfig {
        name: config.name,
        data_dir: config.data_dir,
        client_advertise: config.client_advertise,
        http: http::Settings {
            client_hosts: config.client_hosts,
            connections: config.max_connections,
            waits: config.max_waits,
            ..http::Settings::default()
        },
        peer_advertise: config.peer_advertise,
        initial_members: config.initial_members,
        limits: config.limits,
        settings,
        hand_over: true,
    };
    let member = Member::open(member, clients, peers).await?;
    eprintln!("ready: {ready}");
    member.run(stop).await
}

fn warn_if_open(address: SocketAddr, who: &str) {
    let loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback() && ip != Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if !loopback {
        tracing::warn!(%address, "{who} are served without encryption and without access control: anybody who reaches this address may use it");
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

/// Whether a filter says itself what becomes of the lines on the target `audit`.
fn names_audit(filter: &str) -> bool {
    filter.split(',').any(|directive| {
        let target = directive.trim().split(['=', '[']).next();
        target == Some("audit")
    })
}

fn start_logging(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        usage(format!(
            "log_filter is {filter:?}: {error}; write `info` or `tenured=debug`"
        ))
    };
    let mut chosen = EnvFilter::try_new(filter).map_err(|error| refused(&error))?;
    if !names_audit(filter) {
        chosen = chosen.add_directive(AUDIT.parse().map_err(|error| refused(&error))?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(chosen)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    let _ = std::io::stderr().flush();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_filter_that_names_the_audit_decides_on_it() {
        for names in [
            "audit=off",
            "warn,audit=warn",
            "warn, audit",
            "audit[broken]=info",
        ] {
            assert!(names_audit(names), "{names}");
        }
        for other in [
            "",
            "warn",
            "off",
            "tenured=debug",
            "auditor=off",
            "tenured::audit=off",
        ] {
            assert!(!names_audit(other), "{other}");
        }
    }
}
