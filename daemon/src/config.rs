//! Configuration: one set of settings out of flags, the environment and a file, in this order of precedence.
//!
//! Owns the names of all settings and what they may be. Every value is checked here, once, and an error names the
//! setting, the value and what would be accepted.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod otel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use tenure_state::{LimitError, Limits};

pub use otel::{Encoding, Roots, Sampling, TraceSettings};

/// Where clients are served unless told otherwise.
const DEFAULT_CLIENT: &str = "127.0.0.1:7379";
/// Where members are served unless told otherwise.
const DEFAULT_PEER: &str = "127.0.0.1:7380";
const DEFAULT_HEARTBEAT_MS: u64 = 50;
const DEFAULT_ELECTION_MS: u64 = 300;
/// The longest election timeout: beyond it a dead leader would be missed for longer than most leases live.
const MOST_ELECTION_MS: u64 = 60_000;
const MOST_NAME_BYTES: usize = tenure_api::MAX_MEMBER_NAME_BYTES;
/// The most connections and waits that may be set: more than a process has file descriptors for.
const MOST_AT_A_TIME: usize = 1_000_000;

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
    /// Where clients reach this member [default: http:// and the address it listens on]
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
    /// Where other members reach this member [default: http:// and the address it listens on]
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
}

/// What `tenured reload` must know to find the member that it speaks to.
#[derive(Args, Clone, Debug, Default)]
pub struct ReloadFlags {
    /// The TOML file with which the member was started
    #[arg(long, value_name = "FILE", env = "TENURED_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where the member keeps its data, where no file says that
    #[arg(long, value_name = "DIR", env = "TENURED_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

impl ReloadFlags {
    /// Where the member keeps its data.
    ///
    /// # Errors
    ///
    /// Where the file cannot be used, or nothing says it.
    pub fn data_dir(self) -> Result<PathBuf, ConfigError> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        self.data_dir.or(file.data_dir).ok_or(ConfigError::Missing {
            setting: "data_dir",
            needed: "say which member is meant: --config FILE, --data-dir DIR, TENURED_CONFIG or TENURED_DATA_DIR",
        })
    }
}

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
    max_connections: Option<usize>,
    max_waits: Option<usize>,
    heartbeat_interval_ms: Option<u64>,
    election_timeout_ms: Option<u64>,
    log_format: Option<LogFormat>,
    log_filter: Option<String>,
    cluster: Option<Cluster>,
    limits: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    initial_members: Option<BTreeMap<String, String>>,
    join: Option<String>,
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
}

/// When a setting that is changed takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TakesEffect {
    /// When the settings are read again.
    AtOnce,
    /// When the member is started the next time.
    AtNextStart,
    /// Only in a cluster that is formed with it.
    AtForming,
}

impl Config {
    /// The settings that are others there, and when each would take effect.
    pub fn differences(&self, there: &Config) -> Vec<(&'static str, TakesEffect)> {
        use TakesEffect::{AtForming, AtNextStart, AtOnce};
        // Named one by one, so that no new setting is forgotten here.
        let Config {
            name,
            data_dir,
            client_listen,
            client_advertise,
            client_hosts,
            peer_listen,
            peer_advertise,
            initial_members,
            join,
            limits,
            max_connections,
            max_waits,
            heartbeat_interval,
            election_timeout,
            log_format,
            log_filter,
        } = there;
        let settings = [
            ("name", &self.name != name, AtNextStart),
            ("data_dir", &self.data_dir != data_dir, AtNextStart),
            (
                "client_listen",
                &self.client_listen != client_listen,
                AtNextStart,
            ),
            (
                "client_advertise",
                &self.client_advertise != client_advertise,
                AtNextStart,
            ),
            (
                "client_hosts",
                &self.client_hosts != client_hosts,
                AtNextStart,
            ),
            ("peer_listen", &self.peer_listen != peer_listen, AtNextStart),
            (
                "peer_advertise",
                &self.peer_advertise != peer_advertise,
                AtNextStart,
            ),
            (
                "initial_members",
                &self.initial_members != initial_members,
                AtForming,
            ),
            ("join", &self.join != join, AtForming),
            ("limits", &self.limits != limits, AtForming),
            (
                "max_connections",
                &self.max_connections != max_connections,
                AtNextStart,
            ),
            ("max_waits", &self.max_waits != max_waits, AtNextStart),
            (
                "heartbeat_interval_ms",
                &self.heartbeat_interval != heartbeat_interval,
                AtNextStart,
            ),
            (
                "election_timeout_ms",
                &self.election_timeout != election_timeout,
                AtNextStart,
            ),
            ("log_format", &self.log_format != log_format, AtNextStart),
            ("log_filter", &self.log_filter != log_filter, AtOnce),
        ];
        let differs = settings.into_iter().filter(|(_, differs, _)| *differs);
        differs.map(|(name, _, effect)| (name, effect)).collect()
    }

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

    fn merge(flags: ServeFlags, file: File) -> Result<Config, ConfigError> {
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
        let (heartbeat_interval, election_timeout) = timing(
            flags.heartbeat_interval_ms.or(file.heartbeat_interval_ms),
            flags.election_timeout_ms.or(file.election_timeout_ms),
        )?;
        let limits = limits(
            file.limits.unwrap_or_default(),
            &flags.limits.unwrap_or_default(),
        )?;
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
            )?,
            client_listen,
            client_hosts,
            peer_advertise: advertised(
                "peer_advertise",
                flags.peer_advertise.or(file.peer_advertise),
                peer_listen,
            )?,
            peer_listen,
            initial_members,
            join,
            limits,
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

fn address(
    setting: &'static str,
    given: Option<String>,
    default: &str,
) -> Result<SocketAddr, ConfigError> {
    let value = given.unwrap_or_else(|| default.to_owned());
    value.parse().map_err(|_| ConfigError::Value {
        setting,
        value,
        accepted: format!("an IP address and a port, such as {default} or [::1]:7379"),
    })
}

fn advertised(
    setting: &'static str,
    given: Option<String>,
    listen: SocketAddr,
) -> Result<String, ConfigError> {
    match given {
        Some(url) => check_url(setting, &url).map(|()| url.trim_end_matches('/').to_owned()),
        None if listen.ip().is_unspecified() => Err(ConfigError::Value {
            setting,
            value: String::new(),
            accepted: format!(
                "this member listens on every address ({listen}), so it must be told the URL at which others reach it"
            ),
        }),
        None => Ok(format!("http://{listen}")),
    }
}

/// A URL of the form `http://host:port`, with nothing behind it.
pub(crate) fn check_url(setting: &'static str, url: &str) -> Result<(), ConfigError> {
    let wrong = || ConfigError::Value {
        setting,
        value: url.to_owned(),
        accepted: "a URL of the form http://HOST:PORT is needed".to_owned(),
    };
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let plain = uri.scheme_str() == Some("http")
        && uri.port_u16().is_some_and(|port| port != 0)
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.path() == "/"
        && uri.query().is_none()
        && !url.contains(['@', '#']);
    if plain { Ok(()) } else { Err(wrong()) }
}

fn check_host(host: &str) -> Result<(), ConfigError> {
    let plain = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if plain {
        return Ok(());
    }
    Err(ConfigError::Value {
        setting: "client_hosts",
        value: host.to_owned(),
        accepted: "a host name or address is needed, without scheme or path".to_owned(),
    })
}

/// The initial members, or the URL of a cluster to join; a member with data needs neither.
type Origin = (Option<BTreeMap<String, String>>, Option<String>);

/// How a member without data comes to a cluster: what is said by flags or the environment wins over the file, of which
/// only one may be said.
fn origin(
    members: Option<&[String]>,
    join: Option<String>,
    file: Cluster,
) -> Result<Origin, ConfigError> {
    let members = members.map(named_urls).transpose()?;
    let (members, join) = match (members, join) {
        (None, None) => (file.initial_members, file.join),
        given => given,
    };
    match (&members, &join) {
        (Some(_), Some(join)) => Err(ConfigError::Value {
            setting: "join",
            value: join.clone(),
            accepted: "it is said beside initial_members, and a member either forms a cluster or joins one"
                .to_owned(),
        }),
        _ => Ok((members, join)),
    }
}

fn check_join(name: &str, join: Option<&str>) -> Result<(), ConfigError> {
    let Some(join) = join else {
        return Ok(());
    };
    check_url("join", join)?;
    if name.is_empty() {
        return Err(ConfigError::Missing {
            setting: "name",
            needed: "a member that joins a cluster needs a name that no other member has: --name NAME",
        });
    }
    Ok(())
}

fn named_urls(members: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut urls = BTreeMap::new();
    for member in members {
        let (name, url) = member.split_once('=').ok_or_else(|| ConfigError::Value {
            setting: "initial_members",
            value: member.clone(),
            accepted: "each is written NAME=URL, such as n1=http://10.0.0.1:7380".to_owned(),
        })?;
        if urls.insert(name.to_owned(), url.to_owned()).is_some() {
            return Err(ConfigError::Value {
                setting: "initial_members",
                value: member.clone(),
                accepted: format!("the name {name:?} is given twice, and names must differ"),
            });
        }
    }
    Ok(urls)
}

/// The limits that a new cluster begins with: those of the file, each of which may be given again as `NAME=VALUE`.
///
/// # Errors
///
/// Where a name or a value is not accepted.
pub fn limits(file: BTreeMap<String, u64>, given: &[String]) -> Result<Limits, ConfigError> {
    let mut values = file;
    let mut named = BTreeSet::new();
    for text in given {
        let wrong = |accepted: &str| ConfigError::Value {
            setting: "limits",
            value: text.clone(),
            accepted: accepted.to_owned(),
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("each is written NAME=VALUE, such as history_bytes=67108864"))?;
        let value = value
            .parse()
            .map_err(|_| wrong("the value is a whole number, without unit"))?;
        if !named.insert(name) {
            return Err(wrong("this limit is given twice, and once is accepted"));
        }
        values.insert(name.to_owned(), value);
    }
    let mut limits = Limits::default();
    for (name, value) in &values {
        limits
            .set(name, *value)
            .map_err(|error| wrong_limit(format!("{name}={value}"), &error))?;
    }
    limits.check().map_err(|error| {
        let given: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        wrong_limit(given.join(","), &error)
    })?;
    Ok(limits)
}

fn wrong_limit(value: String, error: &LimitError) -> ConfigError {
    ConfigError::Value {
        setting: "limits",
        value,
        accepted: error.to_string(),
    }
}

fn at_a_time(
    setting: &'static str,
    given: Option<usize>,
    default: usize,
) -> Result<usize, ConfigError> {
    let value = given.unwrap_or(default);
    if (1..=MOST_AT_A_TIME).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value {
        setting,
        value: value.to_string(),
        accepted: format!("1 to {MOST_AT_A_TIME} are accepted"),
    })
}

fn check_members(
    name: &str,
    members: Option<&BTreeMap<String, String>>,
) -> Result<(), ConfigError> {
    if !name.is_empty() {
        check_name("name", name)?;
    }
    let Some(members) = members else {
        return Ok(());
    };
    for (member, url) in members {
        check_name("initial_members", member)?;
        check_url("initial_members", url)?;
    }
    if name.is_empty() {
        return Err(ConfigError::Missing {
            setting: "name",
            needed: "with initial_members a member must know which of them it is: --name NAME",
        });
    }
    if !members.contains_key(name) {
        return Err(ConfigError::Value {
            setting: "name",
            value: name.to_owned(),
            accepted: format!(
                "it must be one of the initial members: {}",
                members.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        });
    }
    let mut urls: Vec<&str> = members
        .values()
        .map(|url| url.trim_end_matches('/'))
        .collect();
    urls.sort_unstable();
    match urls.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ConfigError::Value {
            setting: "initial_members",
            value: pair[0].to_owned(),
            accepted: "two members have this URL, and each needs its own".to_owned(),
        }),
        None => Ok(()),
    }
}

/// A name of a member.
pub(crate) fn check_name(setting: &'static str, name: &str) -> Result<(), ConfigError> {
    let plain = (1..=MOST_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if plain {
        return Ok(());
    }
    Err(ConfigError::Value {
        setting,
        value: name.to_owned(),
        accepted: format!(
            "a member's name has 1 to {MOST_NAME_BYTES} letters, digits, '-', '.' and '_'"
        ),
    })
}

fn timing(
    heartbeat_ms: Option<u64>,
    election_ms: Option<u64>,
) -> Result<(Duration, Duration), ConfigError> {
    let heartbeat = heartbeat_ms.unwrap_or(DEFAULT_HEARTBEAT_MS);
    let election = election_ms.unwrap_or(DEFAULT_ELECTION_MS);
    if heartbeat == 0 {
        return Err(ConfigError::Value {
            setting: "heartbeat_interval_ms",
            value: heartbeat.to_string(),
            accepted: "at least 1 millisecond is needed".to_owned(),
        });
    }
    if !(heartbeat.saturating_mul(3)..=MOST_ELECTION_MS).contains(&election) {
        return Err(ConfigError::Value {
            setting: "election_timeout_ms",
            value: election.to_string(),
            accepted: format!(
                "at least three heartbeats of {heartbeat} ms and at most {MOST_ELECTION_MS} ms are needed"
            ),
        });
    }
    Ok((
        Duration::from_millis(heartbeat),
        Duration::from_millis(election),
    ))
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

    #[test]
    fn a_setting_that_differs_is_named_with_the_moment_of_its_effect() {
        let running = merged(flags(), "").expect("these settings are accepted");
        assert_eq!(running.differences(&running), []);
        let text = "log_filter = \"debug\"\nmax_waits = 7\nlimits = { keys_per_revision = 5000 }";
        let wanted = merged(flags(), text).expect("these settings are accepted");
        assert_eq!(
            running.differences(&wanted),
            [
                ("limits", TakesEffect::AtForming),
                ("max_waits", TakesEffect::AtNextStart),
                ("log_filter", TakesEffect::AtOnce),
            ]
        );
    }

    #[test]
    fn the_member_that_is_to_reload_is_found_by_flag_or_file() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let path = dir.path().join("tenured.toml");
        std::fs::write(&path, "data_dir = \"/of/the/file\"").expect("it can be written");
        let by = |config: Option<&Path>, data_dir: Option<&str>| {
            let (config, data_dir) = (config.map(Into::into), data_dir.map(Into::into));
            ReloadFlags { config, data_dir }.data_dir()
        };
        assert_eq!(by(Some(&path), None), Ok("/of/the/file".into()));
        assert_eq!(by(Some(&path), Some("/given")), Ok("/given".into()));
        assert!(matches!(
            by(None, None),
            Err(ConfigError::Missing {
                setting: "data_dir",
                ..
            })
        ));
        std::fs::write(&path, "data_dirr = \"/x\"").expect("it can be written");
        let error = by(Some(&path), None).expect_err("there is no such key");
        assert!(error.to_string().contains("data_dirr"), "{error}");
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
