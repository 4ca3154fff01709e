//! The flags of what is done to files while no member runs on them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ServeFlags;

/// The flags of `tenured restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreFlags {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Read the member's settings from this TOML file, as `tenured serve` will
    #[arg(long, value_name = "FILE", env = "TENURED_CONFIG")]
    pub config: Option<PathBuf>,
    /// The name of the member, a label for people
    #[arg(long, value_name = "NAME", env = "TENURED_NAME")]
    pub name: Option<String>,
    /// Where the member will keep its data: an empty directory, or one that is not there
    #[arg(long, value_name = "DIR", env = "TENURED_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients will reach the member [default: as for `tenured serve`]
    #[arg(long, value_name = "URL", env = "TENURED_CLIENT_ADVERTISE")]
    pub client_advertise: Option<String>,
    /// Where other members will reach the member [default: as for `tenured serve`]
    #[arg(long, value_name = "URL", env = "TENURED_PEER_ADVERTISE")]
    pub peer_advertise: Option<String>,
    /// A file with one token, as `tenured token` makes it: access control will be on, and whoever has this token may do
    /// everything; the role root and the identity root become what they are in a new cluster
    #[arg(long, value_name = "FILE")]
    pub root_token_file: Option<PathBuf>,
}

impl From<RestoreFlags> for ServeFlags {
    fn from(flags: RestoreFlags) -> ServeFlags {
        ServeFlags {
            config: flags.config,
            name: flags.name,
            data_dir: flags.data_dir,
            client_advertise: flags.client_advertise,
            peer_advertise: flags.peer_advertise,
            ..ServeFlags::default()
        }
    }
}

/// The flags of `tenured recover`.
#[derive(Args, Clone, Debug, Default)]
pub struct RecoverFlags {
    /// The TOML file with which the member was started
    #[arg(long, value_name = "FILE", env = "TENURED_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where the member keeps its data, where no file says that
    #[arg(long, value_name = "DIR", env = "TENURED_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Leave out the entry of this index and all later ones
    #[arg(long, value_name = "INDEX")]
    pub before: Option<u64>,
    /// A file with one token, as `tenured token` makes it: access control will be on, and whoever has this token may do
    /// everything; the role root and the identity root become what they are in a new cluster
    #[arg(long, value_name = "FILE")]
    pub root_token_file: Option<PathBuf>,
    /// Do it: without this, it is only said what would be done and what would be lost
    #[arg(long)]
    pub accept_loss: bool,
}

/// The flags of `tenured verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyFlags {
    /// A data directory or a backup
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// How it is told
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: ReportForm,
}

/// How a report is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ReportForm {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}
