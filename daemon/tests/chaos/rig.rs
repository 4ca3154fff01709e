//! All that a round needs: the network, the disks, the members; undone when dropped, kept where the round failed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{SOON, wait};
use crate::disks::{Disk, Kind};
use crate::member::Member;
use crate::nemesis::{Need, drifting_clock};
use crate::network::Network;

/// A cluster and where it lives. Members go before their disks and networks.
pub(crate) struct Rig {
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    dir: Option<TempDir>,
    /// What the wall clocks of the members are told, where they can be told.
    pub(crate) wall_clock: Option<PathBuf>,
    /// How fast their other clocks run, where that can be changed.
    pub(crate) clock_rate: Option<PathBuf>,
}

impl Rig {
    /// Makes a cluster and waits until it serves.
    pub(crate) fn start(
        members: usize,
        kind: Kind,
        faketime: Option<&Path>,
    ) -> Result<Rig, String> {
        let dir = tempfile::Builder::new().prefix("tenure-chaos-").tempdir();
        let dir = dir.map_err(|error| error.to_string())?;
        let network = Network::make(members)?;
        let drift = Need::DriftingClocks
            .is_met()
            .then(|| drifting_clock(dir.path()));
        let drift = drift.flatten();
        let wall_clock = faketime.map(|_| dir.path().join("wall-clock"));
        let clock_rate = drift.as_ref().map(|_| dir.path().join("clock-rate"));
        for (file, text) in [(&wall_clock, "+0\n"), (&clock_rate, "0")] {
            if let Some(file) = file {
                std::fs::write(file, text).map_err(|error| error.to_string())?;
            }
        }
        let mut environment: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: String| environment.push((name.into(), value));
        let libraries = drift.iter().map(PathBuf::as_path).chain(faketime);
        let libraries: Vec<String> = libraries.map(|path| path.display().to_string()).collect();
        if !libraries.is_empty() {
            set("LD_PRELOAD", libraries.join(":"));
        }
        if let Some(file) = &clock_rate {
            set("TENURE_TEST_CLOCK", file.display().to_string());
        }
        if let Some(file) = &wall_clock {
            set("FAKETIME_TIMESTAMP_FILE", file.display().to_string());
            set("FAKETIME_NO_CACHE", "1".to_owned());
            set("DONT_FAKE_MONOTONIC", "1".to_owned());
        }
        let made: Result<Vec<Member>, String> = (0..members)
            .map(|number| {
                let disk = Disk::make(dir.path(), number, kind)?;
                let log = dir.path().join(format!("n{}.log", number + 1));
                Ok(Member::new(
                    (number, members),
                    disk,
                    log,
                    environment.clone(),
                ))
            })
            .collect();
        let rig = Rig {
            members: made?,
            network,
            dir: Some(dir),
            wall_clock,
            clock_rate,
        };
        rig.network.enter_hub();
        for member in &rig.members {
            member.start(&rig.network);
        }
        rig.wait_until_ready(SOON);
        Ok(rig)
    }

    /// Where the recording and the logs are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it is there to the end").path()
    }

    /// Waits until all members serve linearizable reads; how long that took.
    pub(crate) fn wait_until_ready(&self, within: Duration) -> Duration {
        let began = Instant::now();
        for member in &self.members {
            let left = within.saturating_sub(began.elapsed());
            let ready = wait::found(left, || member.is_ready().then_some(()));
            assert!(
                ready.is_some(),
                "{} is not ready within {within:?}",
                member.name
            );
        }
        began.elapsed()
    }

    /// The member that leads as most of those who answer say, and its term.
    pub(crate) fn leader(&self) -> (usize, u64) {
        wait::until("a member leads", SOON, || {
            let statuses: Vec<Option<Value>> = self.members.iter().map(Member::status).collect();
            let leading = statuses.iter().enumerate().filter_map(|(number, status)| {
                let status = status.as_ref()?;
                (status["role"] == "leader").then_some((number, status["term"].as_u64()?))
            });
            leading.max_by_key(|(_, term)| *term)
        })
    }

    /// The newest term of which a member that answers knows.
    pub(crate) fn term(&self) -> u64 {
        let statuses = self.members.iter().filter_map(Member::status);
        let terms = statuses.filter_map(|status| status["term"].as_u64());
        terms.max().unwrap_or_default()
    }

    /// Waits until another member than this leads in a newer term.
    pub(crate) fn wait_for_another(&self, old: usize, term: u64) -> Option<(usize, u64)> {
        wait::found(SOON, || {
            let others = self.members.iter().filter(|member| member.number != old);
            let mut leading = others.filter_map(|member| {
                let status = member.status()?;
                let newer = status["term"].as_u64().filter(|newer| term < *newer)?;
                (status["role"] == "leader").then_some((member.number, newer))
            });
            leading.next()
        })
    }

    /// Kills all members, with nothing in between.
    pub(crate) fn kill_all(&self) {
        for member in &self.members {
            member.signal(Signal::KILL);
        }
        for member in &self.members {
            member.kill();
        }
    }

    pub(crate) fn start_all(&self) {
        for member in &self.members {
            member.start(&self.network);
        }
    }

    /// Waits until all members have applied the same entries, and checks that they have the same state.
    pub(crate) fn check_equal(&self) {
        let statuses = wait::until("all members have applied the same entries", SOON, || {
            let statuses: Option<Vec<Value>> = self.members.iter().map(Member::status).collect();
            let statuses = statuses?;
            let first = statuses[0]["applied_index"].clone();
            let same = statuses
                .iter()
                .all(|status| status["applied_index"] == first);
            same.then_some(statuses)
        });
        let first = &statuses[0]["digest"];
        let equal = statuses.iter().all(|status| status["digest"] == *first);
        assert!(equal, "equal members have equal digests: {statuses:#?}");
    }

    /// Nothing in the logs that no fault explains.
    pub(crate) fn check_logs(&self) {
        for member in &self.members {
            let output = member.output();
            let panicked = output.lines().find(|line| line.contains("panicked at"));
            assert_eq!(panicked, None, "{} panicked", member.name);
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill_all();
        self.members.clear();
        let Some(dir) = self.dir.take() else { return };
        if std::thread::panicking() {
            let kept = dir.keep();
            eprintln!("the recording and the logs are kept in {}", kept.display());
        }
    }
}
