//! Configuration: one set of settings out of flags, the environment and a file, in this order of precedence.
//!
//! Owns the names of all settings and what they may be. Every value is checked here, once, and an error names the
//! setting, the value and what would be accepted.

mod checks;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod offline;
mod otel;
mod reload;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use tenure_state::Limits;

use crate::tls::{FileError, With};

pub use checks::limits;
use checks::{
    address, advertised, at_a_time, check_host, check_join, check_members, origin, state_version,
    timing,
};
pub(crate) use checks::{check_name, check_url};
pub use offline::{RecoverFlags, ReportForm, RestoreFlags, VerifyFlags};
pub use otel::{Certificates, Encoding, NamedFile, Roots, Sampling, TraceSettings};
pub use reload::{ReloadFlags, TakesEffect};
pub use tls::{TlsFlags, TlsSettings};
use tls::{check_scheme, check_token};

/// Where clients are served unless told otherwise.
const DEFAULT_CLIENT: &str = "127.0.0.1:7379";
/// Where members are served unless told otherwise.
const DEFAULT_PEER: &str = "127.0.0.1:7380";

/// A setting that cannot be used. The text names it, its value and what is accepted.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file cannot be understood.
    #[error("the configuration file {path} is not valid: {reason}")]
    Unparsable {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A setting has a value that is not accepted.
    #[error("{setting} is {value:?}: {accepted}")]
    Value {
        /// Which setting.
        setting: &'static str,
        /// What it was given.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A setting is missing.
    #[error("{setting} is missing: {needed}")]
    Missing {
        /// Which setting.
        setting: &'static str,
        /// Why it is needed and how to give it.
        needed: &'static str,
    },
    /// A file that a setting names cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings of `tenured serve` as flags; each is also an environment variable and a key of the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeFlags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "TENURED_CONFIG")]
    pub config: Option<PathBuf>,
    /// The name of this member, a label for people
    #[arg(long, value_name = "NAME", env = "TENURED_NAME")]
    pub name: Option<String>,
    /// Where this member keeps its data
    #[arg(long, value_name = "DIR", env = "TENURED_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Serve clients here [default: 127.0.0.1:7379]
    #[arg(long, value_name = "ADDRESS", env = "TENURED_CLIENT_LISTEN")]
    pub client_listen: Option<String>,
    /// Where clients reach this member [default: http:// or, with TLS, https:// and the address it listens on]
    #[arg(long, value_name = "URL", env = "TENURED_CLIENT_ADVERTISE")]
    pub client_advertise: Option<String>,
    /// A further host name by which clients may call this member (repeat, or separate by commas)
    #[arg(
        long = "client-host",
        value_name = "HOST",
        env = "TENURED_CLIENT_HOSTS",
        value_delimiter = ','
    )]
    pub client_hosts: Option<Vec<String>>,
    /// Serve other members here [default: 127.0.0.1:7380]
    #[arg(long, value_name = "ADDRESS", env = "TENURED_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// Where other members reach this member [default: its own URL among the initial members, or http:// (with TLS,
    /// https://) and the address it listens on]
    #[arg(long, value_name = "URL", env = "TENURED_PEER_ADVERTISE")]
    pub peer_advertise: Option<String>,
    /// A member that forms the cluster, as NAME=PEER-URL (repeat, or separate by commas; the same on every member)
    #[arg(
        long = "initial-member",
        value_name = "NAME=URL",
        env = "TENURED_INITIAL_MEMBERS",
        value_delimiter = ','
    )]
    pub initial_members: Option<Vec<String>>,
    /// A cluster that runs and that this member is to join, as the URL by which clients reach any of its members; of no
    /// effect once the member has data
    #[arg(
        long,
        value_name = "URL",
        env = "TENURED_JOIN",
        conflicts_with = "initial_members"
    )]
    pub join: Option<String>,
    /// A limit that a new cluster begins with, as NAME=VALUE, named as in `GET /v1/limits` (repeat, or separate by
    /// commas); of no effect once the cluster is formed, and those of the member with the least name count
    #[arg(
        long = "limit",
        value_name = "NAME=VALUE",
        env = "TENURED_LIMITS",
        value_delimiter = ','
    )]
    pub limits: Option<Vec<String>>,
    /// A file with one token, as `tenured token` makes it: a new cluster begins with access control on, and whoever has
    /// this token may do everything; the same on every member that forms it, and of no effect once it is formed
    #[arg(long, value_name = "FILE", env = "TENURED_ROOT_TOKEN_FILE")]
    pub root_token_file: Option<PathBuf>,
    /// The newest state version that this member follows, 1 or 2. A cluster in which one member says 1 stays at 1, so that
    /// the program of before there was access control can still be put back; once all members follow 2 it cannot [default: 2]
    #[arg(long, value_name = "VERSION", env = "TENURED_STATE_VERSION_AT_MOST")]
    pub state_version_at_most: Option<u64>,
    /// How many client connections this member serves at a time; more wait to be accepted [default: 10000]
    #[arg(long, value_name = "NUMBER", env = "TENURED_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,
    /// How many requests may wait at this member at a time; more are answered `429 too-many-waiters` [default: 20000]
    #[arg(long, value_name = "NUMBER", env = "TENURED_MAX_WAITS")]
    pub max_waits: Option<usize>,
    /// How often a leader is heard, in milliseconds [default: 50]
    #[arg(long, value_name = "MS", env = "TENURED_HEARTBEAT_INTERVAL_MS")]
    pub heartbeat_interval_ms: Option<u64>,
    /// How long a silent leader is waited for, in milliseconds [default: 300]
    #[arg(long, value_name = "MS", env = "TENURED_ELECTION_TIMEOUT_MS")]
    pub election_timeout_ms: Option<u64>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "FORMAT", env = "TENURED_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Which log lines are written, such as `info` or `tenured=debug`; those of the audit too, without `audit=off` [default: info]
    #[arg(long, value_name = "FILTER", env = "TENURED_LOG_FILTER")]
    pub log_filter: Option<String>,
    /// TLS
    #[command(flatten)]
    pub tls: TlsFlags,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    data_dir: Option<PathBuf>,
    client_listen: Option<String>,
    client_advertise: Option<String>,
    client_hosts: Option<Vec<String>>,
    peer_listen: Option<String>,
    peer_advertise: Option<String>,
    root_token_file: Option<PathBuf>,
    state_version_at_most: Option<u64>,
    max_connections: Option<usize>,
    max_waits: Option<usize>,
    heartbeat_interval_ms: Option<u64>,
    election_timeout_ms: Option<u64>,
    log_format: Option<LogFormat>,
    log_filter: Option<String>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_crl_file: Option<PathBuf>,
    client_cert_cn: Option<bool>,
    peer_cert_file: Option<PathBuf>,
    peer_key_file: Option<PathBuf>,
    peer_ca_file: Option<PathBuf>,
    peer_crl_file: Option<PathBuf>,
    join_ca_file: Option<PathBuf>,
    join_token_file: Option<PathBuf>,
    cluster: Option<Cluster>,
    limits: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    initial_members: Option<BTreeMap<String, String>>,
    join: Option<String>,
}

impl File {
    /// Its settings of TLS, taken out of it.
    fn tls(&mut self) -> TlsFlags {
        TlsFlags {
            client_cert_file: self.client_cert_file.take(),
            client_key_file: self.client_key_file.take(),
            client_ca_file: self.client_ca_file.take(),
            client_crl_file: self.client_crl_file.take(),
            client_cert_cn: self.client_cert_cn.take(),
            peer_cert_file: self.peer_cert_file.take(),
            peer_key_file: self.peer_key_file.take(),
            peer_ca_file: self.peer_ca_file.take(),
            peer_crl_file: self.peer_crl_file.take(),
            join_ca_file: self.join_ca_file.take(),
            join_token_file: self.join_token_file.take(),
        }
    }
}

/// The settings of a member, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Its name; empty where none was given and its data directory knows it.
    pub name: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Where it serves clients.
    pub client_listen: SocketAddr,
    /// Where clients reach it.
    pub client_advertise: String,
    /// Further names by which clients may call it.
    pub client_hosts: Vec<String>,
    /// Where it serves members.
    pub peer_listen: SocketAddr,
    /// Where members reach it.
    pub peer_advertise: String,
    /// Who forms the cluster, by name.
    pub initial_members: Option<BTreeMap<String, String>>,
    /// Where clients reach a member of the cluster that it joins.
    pub join: Option<String>,
    /// The limits of a cluster that it forms.
    pub limits: Limits,
    /// Where the token lies with which a cluster that it forms begins.
    pub root_token_file: Option<PathBuf>,
    /// The newest version of the rules of the state that it follows.
    pub state_version_at_most: u64,
    /// How many client connections it serves at a time.
    pub max_connections: usize,
    /// How many requests may wait at it at a time.
    pub max_waits: usize,
    /// How often a leader is heard.
    pub heartbeat_interval: Duration,
    /// How long a silent leader is waited for at least.
    pub election_timeout: Duration,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: String,
    /// Which files secure its connections.
    pub tls: TlsSettings,
}

impl Config {
    /// The settings out of flags (which already hold the environment) and the file they name.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, or a setting is missing or not accepted.
    pub fn load(flags: ServeFlags) -> Result<Config, ConfigError> {
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        Config::merge(flags, file)
    }

    fn merge(flags: ServeFlags, mut file: File) -> Result<Config, ConfigError> {
        let tls = flags.tls.or(file.tls()).check()?;
        let client_listen = address(
            "client_listen",
            flags.client_listen.or(file.client_listen),
            DEFAULT_CLIENT,
        )?;
        let peer_listen = address(
            "peer_listen",
            flags.peer_listen.or(file.peer_listen),
            DEFAULT_PEER,
        )?;
        let name = flags.name.or(file.name).unwrap_or_default();
        let (initial_members, join) = origin(
            flags.initial_members.as_deref(),
            flags.join,
            file.cluster.unwrap_or_default(),
        )?;
        check_join(&name, join.as_deref())?;
        check_members(&name, initial_members.as_ref())?;
        for url in initial_members.iter().flat_map(BTreeMap::values) {
            check_scheme("initial_members", url, With::Members, tls.members.is_some())?;
        }
        check_token(&tls.calling, join.as_deref(), tls.members.is_some())?;
        let (heartbeat_interval, election_timeout) = timing(
            flags.heartbeat_interval_ms.or(file.heartbeat_interval_ms),
            flags.election_timeout_ms.or(file.election_timeout_ms),
        )?;
        let limits = limits(
            file.limits.unwrap_or_default(),
            &flags.limits.unwrap_or_default(),
        )?;
        // The others know it by what they are told, which is what it is to say of itself.
        let peer_advertise = flags
            .peer_advertise
            .or(file.peer_advertise)
            .or_else(|| initial_members.as_ref()?.get(&name).cloned());
        let defaults = crate::http::Settings::default();
        let client_hosts = flags.client_hosts.or(file.client_hosts).unwrap_or_default();
        client_hosts.iter().try_for_each(|host| check_host(host))?;
        Ok(Config {
            name,
            data_dir: flags.data_dir.or(file.data_dir).ok_or(ConfigError::Missing {
                setting: "data_dir",
                needed: "say where this member keeps its data: --data-dir DIR, TENURED_DATA_DIR or data_dir in the file",
            })?,
            client_advertise: advertised(
                "client_advertise",
                flags.client_advertise.or(file.client_advertise),
                client_listen,
                (With::Clients, tls.clients.is_some()),
            )?,
            client_listen,
            client_hosts,
            peer_advertise: advertised(
                "peer_advertise",
                peer_advertise,
                peer_listen,
                (With::Members, tls.members.is_some()),
            )?,
            peer_listen,
            initial_members,
            join,
            limits,
            root_token_file: flags.root_token_file.or(file.root_token_file),
            state_version_at_most: state_version(
                flags.state_version_at_most.or(file.state_version_at_most),
            )?,
            max_connections: at_a_time(
                "max_connections",
                flags.max_connections.or(file.max_connections),
                defaults.connections,
            )?,
            max_waits: at_a_time("max_waits", flags.max_waits.or(file.max_waits), defaults.waits)?,
            heartbeat_interval,
            election_timeout,
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            log_filter: flags.log_filter.or(file.log_filter).unwrap_or_else(|| "info".to_owned()),
            tls,
        })
    }
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Unparsable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> ServeFlags {
        ServeFlags {
            data_dir: Some("/data".into()),
            ..ServeFlags::default()
        }
    }

    fn file(text: &str) -> Result<File, toml::de::Error> {
        toml::from_str(text)
    }

    fn merged(flags: ServeFlags, text: &str) -> Result<Config, ConfigError> {
        Config::merge(flags, file(text).expect("the file is well-formed"))
    }

    /// Found by a fuzzer: the sentence repeated the name as it was, and so could clear a terminal or forge a line.
    #[test]
    fn name_with_control_characters_that_is_given_twice_is_shown_escaped() {
        let members = ["a\u{1b}[2J=http://a:1", "a\u{1b}[2J=http://b:1"].map(str::to_owned);
        let flags = ServeFlags {
            initial_members: Some(members.into()),
            ..flags()
        };
        let error = merged(flags, "").expect_err("a name is given twice");
        let text = error.to_string();
        assert!(text.contains("is given twice"), "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = ServeFlags {
            election_timeout_ms: Some(900),
            ..flags()
        };
        let config = merged(
            flags,
            "election_timeout_ms = 600\nheartbeat_interval_ms = 70\n",
        )
        .expect("it is valid");
        assert_eq!(config.election_timeout, Duration::from_millis(900));
        assert_eq!(config.heartbeat_interval, Duration::from_millis(70));
        assert_eq!(config.client_advertise, "http://127.0.0.1:7379");
        assert_eq!(config.log_filter, "info");
    }

    #[test]
    fn the_file_and_the_environment_name_the_same_members() {
        let text = "name = \"n1\"\n[cluster]\ninitial_members = { n1 = \"http://10.0.0.1:7380\", n2 = \"http://10.0.0.2:7380\" }\n";
        let by_file = merged(flags(), text).expect("it is valid").initial_members;
        let members = vec![
            "n1=http://10.0.0.1:7380".to_owned(),
            "n2=http://10.0.0.2:7380".to_owned(),
        ];
        let by_flags = ServeFlags {
            name: Some("n1".into()),
            initial_members: Some(members),
            ..flags()
        };
        assert_eq!(
            by_file,
            merged(by_flags, "").expect("it is valid").initial_members
        );
    }

    #[test]
    fn a_limit_of_the_file_stays_unless_the_same_one_is_given_by_flag() {
        let flags = ServeFlags {
            limits: Some(vec!["keys=7".into(), "leases=8".into()]),
            ..flags()
        };
        let config = merged(flags, "[limits]\nkeys = 5\nwaiters = 6\n").expect("it is valid");
        let expected = Limits {
            keys: 7,
            leases: 8,
            waiters: 6,
            ..Limits::default()
        };
        assert_eq!(config.limits, expected);
    }

    #[test]
    fn every_wrong_limit_is_named_together_with_what_is_accepted() {
        let check = |text: &str, given: &[&str], parts: &[&str]| {
            let limits = Some(given.iter().map(|limit| (*limit).to_owned()).collect());
            let error = merged(ServeFlags { limits, ..flags() }, text)
                .expect_err("it is not accepted")
                .to_string();
            let named = parts.iter().all(|part| error.contains(part));
            assert!(error.starts_with("limits is") && named, "{error}");
        };
        check("", &["keys"], &["keys", "NAME=VALUE"]);
        check("", &["keys=1k"], &["keys=1k", "whole number"]);
        check("", &["keys=-1"], &["keys=-1", "whole number"]);
        check("", &["keys=1", "keys=2"], &["keys=2", "twice"]);
        check("", &["key=1"], &["\"key\"", "history_bytes, "]);
        check("", &["keys=0"], &["keys is 0", "1 to 1000000000"]);
        check("[limits]\nmoons = 1\n", &[], &["moons", "value_bytes"]);
        check(
            "[limits]\nvalue_bytes = 1\n",
            &[],
            &["value_bytes is 1;", "1024 to 8388608"],
        );
        check(
            "[limits]\nvalue_bytes = 4194304\n",
            &[],
            &["request_bytes is 2097152"],
        );
        let error = file("[limits]\nkeys = \"many\"\n")
            .expect_err("it is no number")
            .to_string();
        assert!(error.contains("many") && error.contains("keys"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = file("data_dri = \"/x\"\n")
            .expect_err("the key is unknown")
            .to_string();
        assert!(error.contains("data_dri"), "{error}");
        let error = file("[cluster]\nseeds = 3\n")
            .expect_err("the key is unknown")
            .to_string();
        assert!(error.contains("seeds"), "{error}");
    }

    #[test]
    fn a_member_says_that_it_is_where_the_initial_members_have_it_unless_it_is_told_otherwise() {
        let members = |own: &str| {
            format!(
                "name = \"n1\"\npeer_listen = \"10.0.0.1:7380\"\n[cluster.initial_members]\n{own} = \"http://n1.example:7380/\"\n"
            )
        };
        let advertised = |given: Option<&str>, text: &str| {
            let flags = ServeFlags {
                peer_advertise: given.map(str::to_owned),
                ..flags()
            };
            merged(flags, text).map(|config| config.peer_advertise)
        };
        let own = advertised(None, &members("n1")).expect("it is fine");
        assert_eq!(own, "http://n1.example:7380");
        let given = advertised(Some("http://x:1"), &members("n1")).expect("it is fine");
        assert_eq!(given, "http://x:1");
        let listens = advertised(None, "peer_listen = \"10.0.0.1:7380\"").expect("it is fine");
        assert_eq!(listens, "http://10.0.0.1:7380");
    }

    #[test]
    fn every_wrong_value_is_named_together_with_what_is_accepted() {
        let members =
            |list: &[&str]| Some(list.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>());
        let table: Vec<(ServeFlags, &str, &str)> = vec![
            (
                ServeFlags {
                    client_listen: Some("localhost".into()),
                    ..flags()
                },
                "client_listen",
                "localhost",
            ),
            (
                ServeFlags {
                    peer_listen: Some("0.0.0.0:7380".into()),
                    ..flags()
                },
                "peer_advertise",
                "0.0.0.0:7380",
            ),
            (
                ServeFlags {
                    client_advertise: Some("https://x:1".into()),
                    ..flags()
                },
                "client_advertise",
                "https://x:1",
            ),
            (
                ServeFlags {
                    client_advertise: Some("http://x:1/a".into()),
                    ..flags()
                },
                "client_advertise",
                "/a",
            ),
            (
                ServeFlags {
                    name: Some("a b".into()),
                    ..flags()
                },
                "name",
                "a b",
            ),
            (
                ServeFlags {
                    heartbeat_interval_ms: Some(0),
                    ..flags()
                },
                "heartbeat_interval_ms",
                "0",
            ),
            (
                ServeFlags {
                    election_timeout_ms: Some(100),
                    ..flags()
                },
                "election_timeout_ms",
                "100",
            ),
            (
                ServeFlags {
                    client_hosts: Some(vec!["http://a".into()]),
                    ..flags()
                },
                "client_hosts",
                "http://a",
            ),
            (
                ServeFlags {
                    initial_members: members(&["n1=http://a:1"]),
                    ..flags()
                },
                "name",
                "--name",
            ),
            (
                ServeFlags {
                    name: Some("n9".into()),
                    initial_members: members(&["n1=http://a:1"]),
                    ..flags()
                },
                "name",
                "n1",
            ),
            (
                ServeFlags {
                    name: Some("n1".into()),
                    initial_members: members(&["n1"]),
                    ..flags()
                },
                "initial_members",
                "NAME=URL",
            ),
            (
                ServeFlags {
                    name: Some("n1".into()),
                    initial_members: members(&["n1=http://a:1", "n1=http://b:1"]),
                    ..flags()
                },
                "initial_members",
                "twice",
            ),
            (
                ServeFlags {
                    name: Some("n1".into()),
                    initial_members: members(&["n1=http://a:1", "n2=http://a:1/"]),
                    ..flags()
                },
                "initial_members",
                "http://a:1",
            ),
            (
                ServeFlags {
                    state_version_at_most: Some(3),
                    ..flags()
                },
                "state_version_at_most",
                "1 to 2",
            ),
            (
                ServeFlags {
                    max_waits: Some(0),
                    ..flags()
                },
                "max_waits",
                "1 to 1000000",
            ),
            (
                ServeFlags {
                    max_connections: Some(1_000_001),
                    ..flags()
                },
                "max_connections",
                "1000001",
            ),
            (ServeFlags::default(), "data_dir", "--data-dir"),
        ];
        for (flags, setting, part) in table {
            let error = merged(flags.clone(), "")
                .expect_err("it is not accepted")
                .to_string();
            assert!(
                error.starts_with(setting) && error.contains(part),
                "{flags:?}: {error}"
            );
        }
    }
}
