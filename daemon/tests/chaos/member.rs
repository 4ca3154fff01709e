//! A member in its own namespace, on its own file system.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Client, Process, SOON, wait};
use crate::disks::Disk;
use crate::network::Network;

/// What it writes when its listeners are bound.
const READY: &str = "ready: http://";
const CLIENT_PORT: u16 = 7379;
pub(crate) const PEER_PORT: u16 = 7380;
/// Short, so that faults bring elections; long enough that a busy machine alone brings few.
pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// That of a member who campaigns long before a leader with the usual one gives up: at least three heartbeats.
const IMPATIENT: Duration = Duration::from_millis(200);

/// A member: where it lives and, while it runs, its process.
pub(crate) struct Member {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) client: SocketAddr,
    pub(crate) disk: Disk,
    pub(crate) log: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Mutex<Option<Process>>,
}

impl Member {
    pub(crate) fn new(
        (number, of): (usize, usize),
        disk: Disk,
        log: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Member {
        let name = format!("n{}", number + 1);
        let at = |port: u16| SocketAddr::new(Network::address(number).into(), port);
        let mut arguments = vec!["serve".to_owned()];
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("name", name.clone());
        flag("data-dir", disk.path().join("data").display().to_string());
        flag("client-listen", at(CLIENT_PORT).to_string());
        flag("peer-listen", at(PEER_PORT).to_string());
        flag(
            "election-timeout-ms",
            ELECTION_TIMEOUT.as_millis().to_string(),
        );
        for other in 0..of {
            let address = Network::address(other);
            flag(
                "initial-member",
                format!("n{}=http://{address}:{PEER_PORT}", other + 1),
            );
        }
        Member {
            number,
            name,
            client: at(CLIENT_PORT),
            disk,
            log,
            arguments,
            environment,
            process: Mutex::new(None),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it and waits until its listeners are bound.
    pub(crate) fn start(&self, network: &Network) {
        self.start_where(network, || {});
    }

    /// The same, where the thread that starts it prepares something that processes inherit.
    pub(crate) fn start_where(&self, network: &Network, prepare: impl FnOnce() + Send) {
        self.start_as(network, &self.arguments, prepare);
    }

    /// The same, with an election timeout that is shorter than that of the others.
    pub(crate) fn start_impatient(&self, network: &Network) {
        let usual = ELECTION_TIMEOUT.as_millis().to_string();
        let arguments = self.arguments.iter().map(|argument| {
            let is_timeout = *argument == usual;
            match is_timeout {
                true => IMPATIENT.as_millis().to_string(),
                false => argument.clone(),
            }
        });
        self.start_as(network, &arguments.collect::<Vec<_>>(), || {});
    }

    fn start_as(&self, network: &Network, arguments: &[String], prepare: impl FnOnce() + Send) {
        let mut slot = self.slot();
        assert!(slot.is_none(), "{} runs already", self.name);
        let mut process = self.begin(network, arguments, prepare);
        process.wait_for_output(READY, SOON);
        *slot = Some(process);
    }

    /// Starts it and waits until its listeners are bound, or it has ended: with this code.
    pub(crate) fn start_or_end(&self, network: &Network) -> Result<(), i32> {
        let mut slot = self.slot();
        let mut process = self.begin(network, &self.arguments, || {});
        wait::until("it starts, or ends", SOON, || {
            let is_bound = process.output().contains(READY);
            (is_bound || process.exit_status().is_some()).then_some(())
        });
        if process.exit_status().is_some() {
            return Err(process.exit_code(SOON));
        }
        *slot = Some(process);
        Ok(())
    }

    fn begin(
        &self,
        network: &Network,
        arguments: &[String],
        prepare: impl FnOnce() + Send,
    ) -> Process {
        network.within(self.number, || {
            prepare();
            let mut command = Process::tenured(arguments);
            command.envs(self.environment.iter().cloned());
            Process::start(&mut command, &self.log)
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.slot().as_mut() {
            process.signal(signal);
        }
    }

    /// Ends it without warning; answers its exit code, minus the signal where one ended it.
    pub(crate) fn kill(&self) -> Option<i32> {
        self.signal(Signal::KILL);
        self.exit_code(SOON)
    }

    /// Waits until it has ended, and answers how.
    pub(crate) fn exit_code(&self, within: Duration) -> Option<i32> {
        let process = self.slot().take();
        process.map(|mut process| process.exit_code(within))
    }

    /// Whether its process has not ended, by itself or otherwise.
    pub(crate) fn is_running(&self) -> bool {
        self.slot()
            .as_mut()
            .is_some_and(|process| process.exit_status().is_none())
    }

    pub(crate) fn id(&self) -> u32 {
        self.slot().as_ref().map_or(0, Process::id)
    }

    /// Stops it and waits until all of its threads stand still: whatever they had asked of the system is answered.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.id());
        let stands = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            // The second is how one stands that is traced.
            Some(matches!(state, 'T' | 't'))
        };
        wait::until("the member has stopped", SOON, || {
            let mut tasks = std::fs::read_dir(&tasks).ok()?.flatten();
            tasks.all(|task| stands(task).unwrap_or(true)).then_some(())
        });
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What it has written since it was first started.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.client)
    }

    /// `GET /v1/status`; none while it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut client = self.client().with_patience(Duration::from_secs(1));
        let answer = client.get("/v1/status").ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Whether it says that it serves linearizable reads.
    pub(crate) fn is_ready(&self) -> bool {
        let mut client = self.client().with_patience(Duration::from_secs(1));
        client
            .get("/readyz")
            .is_ok_and(|answer| answer.status == 200)
    }
}
