//! Configuration, held to what the checks promise.

use std::path::Path;

use clap::{Args, Command, FromArgMatches};

use super::{Config, ConfigError, File, LogFormat, ServeFlags, parse};
use crate::fuzzing::assert_says_something;

/// Settings: lines that are flags, a line `---`, and a file. Variables of the environment have the names and the values
/// of flags, and pass the same checks.
///
/// # Panics
/// Where what is accepted is not what the checks promise, would not be accepted when given as flags, or an error does
/// not name a setting.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (lines, file) = text.split_once("---\n").unwrap_or((&text, ""));
    let Some(flags) = flags(lines.lines().take(32)) else {
        return;
    };
    let merged = parse(Path::new("tenured.toml"), file).and_then(|file| Config::merge(flags, file));
    match merged {
        Ok(config) => accepted(&config),
        Err(error) => refused(&error),
    }
}

fn flags<'a>(lines: impl Iterator<Item = &'a str>) -> Option<ServeFlags> {
    let command = ServeFlags::augment_args(Command::new("serve").no_binary_name(true));
    let given = lines.filter(|line| !line.is_empty());
    let matches = command.try_get_matches_from(given).ok()?;
    let mut flags = ServeFlags::from_arg_matches(&matches).ok()?;
    // Which file is read is not for an input to say.
    flags.config = None;
    Some(flags)
}

fn accepted(config: &Config) {
    config.limits.check().expect("limits that were accepted");
    assert!(config.heartbeat_interval * 3 <= config.election_timeout);
    assert!(!config.heartbeat_interval.is_zero());
    assert!(config.max_connections > 0 && config.max_waits > 0);
    for url in [&config.client_advertise, &config.peer_advertise] {
        let url = url.to_lowercase();
        assert!(url.starts_with("http://") || url.starts_with("https://"));
        assert!(!url.contains(|c: char| c.is_control() || c.is_whitespace()));
    }
    if let Some(members) = &config.initial_members {
        assert!(members.contains_key(&config.name));
    }
    assert!(config.join.is_none() || config.initial_members.is_none());
    let again = Config::merge(as_flags(config), File::default());
    assert_eq!(again.as_ref(), Ok(config), "given again it is another");
}

/// What was accepted, as the flags that say the same.
fn as_flags(config: &Config) -> ServeFlags {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).ok();
    let members = config.initial_members.as_ref();
    let limits = config.limits.named();
    ServeFlags {
        config: None,
        name: Some(config.name.clone()),
        data_dir: Some(config.data_dir.clone()),
        client_listen: Some(config.client_listen.to_string()),
        client_advertise: Some(config.client_advertise.clone()),
        client_hosts: Some(config.client_hosts.clone()),
        peer_listen: Some(config.peer_listen.to_string()),
        peer_advertise: Some(config.peer_advertise.clone()),
        initial_members: members.map(|members| {
            let named = members.iter().map(|(name, url)| format!("{name}={url}"));
            named.collect()
        }),
        join: config.join.clone(),
        limits: Some(
            limits
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        root_token_file: config.root_token_file.clone(),
        state_version_at_most: Some(config.state_version_at_most),
        max_connections: Some(config.max_connections),
        max_waits: Some(config.max_waits),
        heartbeat_interval_ms: millis(config.heartbeat_interval),
        election_timeout_ms: millis(config.election_timeout),
        log_format: Some(match config.log_format {
            LogFormat::Text => LogFormat::Text,
            LogFormat::Json => LogFormat::Json,
        }),
        log_filter: Some(config.log_filter.clone()),
        tls: config.tls.as_flags(),
    }
}

fn refused(error: &ConfigError) {
    match error {
        ConfigError::Value { setting, .. } | ConfigError::Missing { setting, .. } => {
            assert_says_something(error);
            assert!(error.to_string().contains(setting));
        }
        // The sentence about a file shows the line of the file, and so has several.
        ConfigError::Unreadable { .. } | ConfigError::Unparsable { .. } => {
            assert!(error.to_string().contains("tenured.toml"));
        }
        ConfigError::File(_) => panic!("no file was looked into"),
    }
}
