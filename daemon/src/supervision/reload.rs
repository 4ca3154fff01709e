//! Reading the settings again while the member runs.
//!
//! Owns which of them are taken over. Everything is checked before anything is changed: a file with a mistake anywhere
//! in it leaves the member as it is, and whoever asked is told.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::config::{Config, ConfigError, ServeFlags, TakesEffect};
use crate::logging::{self, LogFilter};
use crate::tls::Tls;

/// Reads the settings again, from where they were read first.
#[derive(Debug)]
pub struct Reloader {
    flags: ServeFlags,
    running: Mutex<Config>,
    filter: LogFilter,
    supervisor: Supervisor,
    tls: Tls,
}

/// What came of the settings that differ from those in force.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reloaded {
    /// They are in force now.
    pub now: Vec<String>,
    /// They will be when the member is started the next time.
    pub at_next_start: Vec<String>,
    /// They only say what a new cluster begins with.
    pub at_forming: Vec<String>,
}

impl Reloader {
    /// For a member that runs with these settings, which came from these flags.
    pub fn new(
        flags: ServeFlags,
        running: Config,
        filter: LogFilter,
        supervisor: Supervisor,
        tls: Tls,
    ) -> Reloader {
        Reloader {
            flags,
            running: Mutex::new(running),
            filter,
            supervisor,
            tls,
        }
    }

    /// Reads the settings again and takes over what can be.
    ///
    /// # Errors
    /// Where one of them is not accepted; then nothing has changed.
    pub fn reload(&self) -> Result<Reloaded, ConfigError> {
        self.supervisor.reloading();
        let reloaded = self.take_over();
        self.supervisor.reloaded();
        match &reloaded {
            Ok(reloaded) => tracing::info!(
                now = ?reloaded.now,
                at_next_start = ?reloaded.at_next_start,
                at_forming = ?reloaded.at_forming,
                "the settings were read again"
            ),
            Err(error) => {
                tracing::error!(%error, "the settings were read again and are refused; those in force stay");
            }
        }
        reloaded
    }

    fn take_over(&self) -> Result<Reloaded, ConfigError> {
        let wanted = Config::load(self.flags.clone())?;
        logging::check(&wanted.log_filter)?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have been changed since by a call: the file has the last word.
        running.log_filter = self.filter.present();
        let mut reloaded = Reloaded::of(running.differences(&wanted));
        reloaded.now.extend(self.tls.reload()?);
        self.filter.set(&wanted.log_filter)?;
        running.log_filter = wanted.log_filter;
        Ok(reloaded)
    }
}

impl Reloaded {
    fn of(differences: Vec<(&'static str, TakesEffect)>) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for (setting, effect) in differences {
            let settings = match effect {
                TakesEffect::AtOnce => &mut reloaded.now,
                TakesEffect::AtNextStart => &mut reloaded.at_next_start,
                TakesEffect::AtForming => &mut reloaded.at_forming,
            };
            settings.push(setting.to_owned());
        }
        reloaded
    }
}

impl std::fmt::Display for Reloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = [
            ("in force now", &self.now),
            ("at the next start", &self.at_next_start),
            ("only when a cluster is formed", &self.at_forming),
        ];
        let mut lines = told.iter().filter(|(_, settings)| !settings.is_empty());
        let Some((when, settings)) = lines.next() else {
            return write!(f, "no setting differs from those in force");
        };
        write!(f, "{when}: {}", settings.join(", "))?;
        lines.try_for_each(|(when, settings)| write!(f, "\n{when}: {}", settings.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_told_under_the_moment_of_its_effect() {
        let reloaded = Reloaded::of(vec![
            ("log_filter", TakesEffect::AtOnce),
            ("max_waits", TakesEffect::AtNextStart),
            ("peer_listen", TakesEffect::AtNextStart),
            ("limits", TakesEffect::AtForming),
        ]);
        assert_eq!(
            reloaded.to_string(),
            "in force now: log_filter\nat the next start: max_waits, peer_listen\nonly when a cluster is formed: limits"
        );
        assert_eq!(
            Reloaded::default().to_string(),
            "no setting differs from those in force"
        );
    }
}
