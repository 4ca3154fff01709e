//! What changes when the settings of a running member are read again.
//!
//! Owns which setting takes effect when, and how the member that is to read them is found.

use std::path::PathBuf;

use clap::Args;

use super::{Config, ConfigError, File, read_file};

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
            root_token_file,
            state_version_at_most,
            max_connections,
            max_waits,
            heartbeat_interval,
            election_timeout,
            log_format,
            log_filter,
            tls,
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
                "root_token_file",
                &self.root_token_file != root_token_file,
                AtForming,
            ),
            (
                "state_version_at_most",
                &self.state_version_at_most != state_version_at_most,
                AtNextStart,
            ),
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
        let differs = differs.map(|(name, _, effect)| (name, effect));
        differs.chain(self.tls.differences(tls)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ServeFlags;
    use super::*;

    fn with(text: &str) -> Config {
        let flags = ServeFlags {
            data_dir: Some("/data".into()),
            ..ServeFlags::default()
        };
        let file = toml::from_str(text).expect("the file is well-formed");
        Config::merge(flags, file).expect("these settings are accepted")
    }

    #[test]
    fn a_setting_that_differs_is_named_with_the_moment_of_its_effect() {
        let running = with("");
        assert_eq!(running.differences(&running), []);
        let text = "log_filter = \"debug\"\nmax_waits = 7\nlimits = { keys_per_revision = 5000 }";
        let wanted = with(text);
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
}
