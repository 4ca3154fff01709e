//! The command line of `tenured`: what can be asked of it, for the program itself and for its manual pages.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{RecoverFlags, ReloadFlags, RestoreFlags, ServeFlags, VerifyFlags};

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
log_filter is taken over, and what lies in the files of certificates; what else differs is named, with when it takes effect.

Examples:
  tenured reload --config /etc/tenure/tenured.toml
  tenured reload --data-dir /var/lib/tenure/n1";

const RESTORE_HELP: &str = "The member is alone in a new cluster, with a new cluster id and revisions above all that were ever made; the others are
added to it. Keys are as they were in the backup. Every lease of the backup has ended, with all that hung on it; old
fences guard nothing, and old cursors are answered `410 compacted`. Members and clients that still know the old cluster
are refused.

Exit codes: 0 restored, 1 failed, 2 wrong usage or a directory with data, 3 the file is damaged, cut off or no backup.

Examples:
  tenured restore monday.backup --name n1 --data-dir /var/lib/tenure/n1
  tenured restore monday.backup --config /etc/tenure/tenured.toml
  tenured restore monday.backup --name n1 --data-dir ./n1 \\
      --client-advertise http://10.0.0.1:7379 --peer-advertise http://10.0.0.1:7380";

const VERIFY_HELP: &str = "Checks every checksum, loads the state, and applies the log to it, as a start would. Writes nothing. A directory on which
a member runs is refused: take a backup of it instead.

Exit codes: 0 whole, 1 it could not be looked at, 2 there is nothing there, 3 damaged, no backup at all, or of a newer
version.

Examples:
  tenured verify monday.backup
  tenured verify /var/lib/tenure/n1 --output json";

const RECOVER_HELP: &str = "For a cluster that has lost its quorum for good, or an entry that no member can apply. The member of this directory
becomes the only one of a new cluster, with what it has: its last checkpoint, and its log up to its end or up to
--before. Without --accept-loss it says what it would do and what would be lost, and changes nothing. The old files are
kept beside the new ones. Where there is a choice, take the member whose last entry has the greatest term, and among
equals the one whose last entry is greatest (`tenured verify`): a longer log of an older term may lack what was
acknowledged.

Exit codes: 0 recovered, 1 failed, 2 wrong usage or not accepted, 3 damaged, or an entry that cannot be applied.

Examples:
  tenured recover --data-dir /var/lib/tenure/n1
  tenured recover --data-dir /var/lib/tenure/n1 --accept-loss
  tenured recover --config /etc/tenure/tenured.toml --before 4120 --accept-loss";

const TOKEN_HELP: &str = "A token is an id and a secret of 256 random bits: 16 hex digits, a dot and 64 hex digits. A cluster that is formed with
one begins with access control on, and nobody but its owner may do anything. Give the same file to every member that
forms the cluster, as root_token_file; afterwards no member needs it, and the cluster keeps the SHA-256 of the secret
only. A file that is there is never written over.

Exit codes: 0 made, 1 failed.

Examples:
  tenured token --out root.token
  tenured serve --config /etc/tenure/tenured.toml --root-token-file root.token";

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
    /// Make the first member of a new cluster out of a backup
    #[command(after_help = RESTORE_HELP)]
    Restore(RestoreFlags),
    /// Check a data directory or a backup, and say what is in it
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyFlags),
    /// Make a cluster of one member out of what one member has left
    #[command(after_help = RECOVER_HELP)]
    Recover(RecoverFlags),
    /// Make a token that is to be the root of a new cluster with access control
    #[command(after_help = TOKEN_HELP)]
    Token(TokenFlags),
}

/// The flags of `tenured token`.
#[derive(Args)]
pub struct TokenFlags {
    /// Write it to this new file, which only its owner can read, instead of showing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
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
