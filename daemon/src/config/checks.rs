//! What each setting may be.
//!
//! Owns the sentences that say what is accepted. Every check is made once, where flags, environment and file have become
//! one set of settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tenure_state::{FIRST_STATE_VERSION, LimitError, Limits, STATE_VERSION};

use super::tls::check_scheme;
use super::{Cluster, ConfigError};
use crate::tls::With;

const DEFAULT_HEARTBEAT_MS: u64 = 50;
const DEFAULT_ELECTION_MS: u64 = 300;
/// The longest election timeout: beyond it a dead leader would be missed for longer than most leases live.
const MOST_ELECTION_MS: u64 = 60_000;
const MOST_NAME_BYTES: usize = tenure_api::MAX_MEMBER_NAME_BYTES;
/// The most connections and waits that may be set: more than a process has file descriptors for.
const MOST_AT_A_TIME: usize = 1_000_000;

pub(super) fn address(
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

pub(super) fn advertised(
    setting: &'static str,
    given: Option<String>,
    listen: SocketAddr,
    (with, by_tls): (With, bool),
) -> Result<String, ConfigError> {
    match given {
        Some(url) => {
            check_url(setting, &url)?;
            check_scheme(setting, &url, with, by_tls)?;
            Ok(url.trim_end_matches('/').to_owned())
        }
        None if listen.ip().is_unspecified() => Err(ConfigError::Value {
            setting,
            value: String::new(),
            accepted: format!(
                "this member listens on every address ({listen}), so it must be told the URL at which others reach it"
            ),
        }),
        None if by_tls => Ok(format!("https://{listen}")),
        None => Ok(format!("http://{listen}")),
    }
}

/// A URL of the form `http://host:port` or `https://host:port`, with nothing behind it.
pub(crate) fn check_url(setting: &'static str, url: &str) -> Result<(), ConfigError> {
    let wrong = || ConfigError::Value {
        setting,
        value: url.to_owned(),
        accepted: "a URL of the form http://HOST:PORT or https://HOST:PORT is needed".to_owned(),
    };
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.port_u16().is_some_and(|port| port != 0)
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.path() == "/"
        && uri.query().is_none()
        && !url.contains(['@', '#']);
    if plain { Ok(()) } else { Err(wrong()) }
}

pub(super) fn check_host(host: &str) -> Result<(), ConfigError> {
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
pub(super) fn origin(
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

pub(super) fn check_join(name: &str, join: Option<&str>) -> Result<(), ConfigError> {
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

pub(super) fn named_urls(members: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
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

pub(super) fn wrong_limit(value: String, error: &LimitError) -> ConfigError {
    ConfigError::Value {
        setting: "limits",
        value,
        accepted: error.to_string(),
    }
}

pub(super) fn at_a_time(
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

/// The newest state version that is followed: that of this program, unless it is held back.
pub(super) fn state_version(given: Option<u64>) -> Result<u64, ConfigError> {
    let value = given.unwrap_or(STATE_VERSION);
    if (FIRST_STATE_VERSION..=STATE_VERSION).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value {
        setting: "state_version_at_most",
        value: value.to_string(),
        accepted: format!("{FIRST_STATE_VERSION} to {STATE_VERSION} are accepted"),
    })
}

pub(super) fn check_members(
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

pub(super) fn timing(
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
