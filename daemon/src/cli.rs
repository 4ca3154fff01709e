//! The command line of `tenured`: what can be asked of it, for the program itself and for its manual pages.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{ReloadFlags, ServeFlags};

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

const RELOAD_HELP: &str = "A file with a mistake in it is refused, the member goes on as it was, and this command fails. Of the settings,
log_filter is taken over; what else differs is named, with when it takes effect.

Examples:
  tenured reload --config /etc/tenure/tenured.toml
  tenured reload --data-dir /var/lib/tenure/n1";

/// The Tenure daemon: locks, elections, leases and watched keys over HTTP.
#[derive(Parser)]
#[command(name = "tenured", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run a cluster on loopback, for trying out and for tests of applications
    Dev(DevFlags),
    /// Run a member of a cluster
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeFlags>),
    /// Make the member that runs on a data directory read its settings again
    #[command(after_help = RELOAD_HELP)]
    Reload(ReloadFlags),
}

/// The flags of `tenured dev`.
#[derive(Args)]
#[command(after_help = "Examples:\n  tenured dev\n  tenured dev --nodes 3 --client-port 8000")]
pub struct DevFlags {
    /// How many members: 1, 3 or 5
    #[arg(long, default_value_t = 1, value_parser = nodes)]
    pub nodes: u16,
    /// Keep the data here; without it the data is gone at the end
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The first member serves clients on this port of 127.0.0.1, and members on the next one
    #[arg(long, value_name = "PORT", default_value_t = 7379, value_parser = clap::value_parser!(u16).range(1..=65000))]
    pub client_port: u16,
    /// A limit that a new cluster begins with, as NAME=VALUE, named as in `GET /v1/limits` (repeat, or separate by commas)
    #[arg(
        long = "limit",
        value_name = "NAME=VALUE",
        env = "TENURED_LIMITS",
        value_delimiter = ','
    )]
    pub limits: Vec<String>,
    /// Which log lines are written, such as `info` or `tenured=debug`; those of the audit too, without `audit=off`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn",
        env = "TENURED_LOG_FILTER"
    )]
    pub log_filter: String,
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
