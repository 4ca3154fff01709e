//! A cluster of real `tenured serve` processes on loopback, each with its own data directory.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Client, Secure};
use super::process::Process;
use super::proxy::Proxy;
use super::wait;

/// In this time a cluster on a busy machine has formed, elected or caught up.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How long a silent leader is waited for at least: greater than the default, because tests share their machine.
pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
const CLIENT_PORT: u16 = 7379;
const PEER_PORT: u16 = 7380;
const RELAY_PORT: u16 = 7381;

/// What a cluster is made of.
pub(crate) struct Setup {
    members: u8,
    relays: bool,
    data_dirs: Vec<PathBuf>,
    settings: Vec<(&'static str, String)>,
}

impl Setup {
    pub(crate) fn of(members: u8) -> Setup {
        Setup {
            members,
            relays: false,
            data_dirs: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// A setting of every member, as a flag.
    pub(crate) fn with(mut self, flag: &'static str, value: impl ToString) -> Setup {
        self.settings.push((flag, value.to_string()));
        self
    }

    /// Members reach one another through relays.
    pub(crate) fn with_relays(mut self) -> Setup {
        self.relays = true;
        self
    }

    /// Where each member keeps its data, in place of a temporary directory.
    pub(crate) fn with_data_dirs(mut self, data_dirs: Vec<PathBuf>) -> Setup {
        self.data_dirs = data_dirs;
        self
    }

    /// The cluster, none of whose members has been started.
    pub(crate) fn prepare(self) -> Cluster {
        let dir = tempfile::Builder::new()
            .prefix("tenure-test-")
            .tempdir()
            .expect("there is room for a directory");
        let network = free_network();
        let members: Vec<Member> = (1..=self.members)
            .map(|number| {
                let data_dir = self.data_dirs.get(usize::from(number) - 1).cloned();
                Member::new(network, number, dir.path(), data_dir, self.relays)
            })
            .collect();
        let relays = members.iter().filter(|_| self.relays);
        let relays = relays
            .map(|member| Proxy::start(member.peer_advertised, member.peer))
            .collect();
        let mut cluster = Cluster {
            members,
            relays,
            dir: Some(dir),
        };
        let list = cluster.initial_members();
        for member in &mut cluster.members {
            member.initial_members.clone_from(&list);
            member.settings.clone_from(&self.settings);
        }
        cluster
    }

    /// The cluster, formed and with a leader.
    pub(crate) fn start(self) -> Cluster {
        let cluster = self.prepare();
        for member in &cluster.members {
            member.start();
        }
        cluster.wait_until_ready();
        cluster
    }
}

/// The members and where they live. Processes end and files go when it is dropped; after a failure files stay.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) relays: Vec<Proxy>,
    dir: Option<TempDir>,
}

impl Cluster {
    pub(crate) fn initial_members(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url()))
            .collect()
    }

    /// One more member, which has nothing on its disk and joins the cluster by the first member. It is not started.
    pub(crate) fn newcomer(&mut self) -> usize {
        let first = &self.members[0];
        let IpAddr::V4(address) = first.client.ip() else {
            panic!("members of tests have addresses of IPv4");
        };
        let [_, first_byte, second_byte, _] = address.octets();
        let number = u8::try_from(self.members.len() + 1).expect("a test has few members");
        let network = [first_byte, second_byte];
        let mut member = Member::new(network, number, self.dir(), None, false);
        member.settings.clone_from(&first.settings);
        member.join = Some(format!("http://{}", first.client));
        self.members.push(member);
        self.members.len() - 1
    }

    /// A directory for other files of the test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir
            .as_ref()
            .expect("the directory is there until the end")
            .path()
    }

    /// Waits until every running member serves.
    pub(crate) fn wait_until_ready(&self) {
        for member in self.members.iter().filter(|member| member.runs()) {
            member.wait_until_ready();
        }
    }

    /// Waits until the members that run and are not stopped know one leader among them, and answers which.
    pub(crate) fn leader(&self) -> usize {
        self.new_leader(None)
    }

    /// The same, where the leader is not the one that is given.
    pub(crate) fn new_leader(&self, old: Option<usize>) -> usize {
        wait::until("the running members agree on a leader", SOON, || {
            let running = || {
                self.members
                    .iter()
                    .enumerate()
                    .filter(|(_, member)| member.runs())
            };
            let leads = |member: &Member| {
                member
                    .status()
                    .is_some_and(|status| status["role"] == "leader")
            };
            let (leader, member) =
                running().find(|(number, member)| Some(*number) != old && leads(member))?;
            let id = member.status()?["member"].clone();
            running()
                .all(|(_, member)| member.status().is_some_and(|s| s["leader"] == id))
                .then_some(leader)
        })
    }

    /// A running member that does not lead.
    pub(crate) fn follower(&self) -> usize {
        let leader = self.leader();
        let mut running = (0..self.members.len()).filter(|number| self.members[*number].runs());
        running
            .find(|number| *number != leader)
            .expect("more than one member runs")
    }

    /// Kills all members that run, with nothing in between.
    pub(crate) fn kill_all(&self) {
        for member in &self.members {
            member.signal(Signal::KILL);
        }
        for member in &self.members {
            member.kill();
        }
    }

    /// What the probe finds, for as long as some member applies entries: how long a disk takes for many bytes is no
    /// matter of this project. Panics with the sentence where nothing moves, and after ten times [`SOON`].
    pub(crate) fn wait_while_it_moves<T>(
        &self,
        what: &str,
        mut probe: impl FnMut() -> Option<T>,
    ) -> T {
        let applied = || -> u64 {
            let statuses = self.members.iter().filter_map(Member::status);
            statuses
                .filter_map(|status| status["applied_index"].as_u64())
                .sum()
        };
        for _ in 0..10 {
            let before = applied();
            if let Some(found) = wait::found(SOON, &mut probe) {
                return found;
            }
            let after = applied();
            assert!(before < after, "nothing is applied, and in vain: {what}");
        }
        panic!("waited ten times {SOON:?} in vain, though entries are applied: {what}");
    }

    /// Waits until all running members have applied the same entries, and checks that they have the same state.
    pub(crate) fn wait_until_equal(&self) {
        let statuses =
            self.wait_while_it_moves("all members have applied the same entries", || {
                let running = self.members.iter().filter(|member| member.runs());
                let statuses: Option<Vec<Value>> = running.map(Member::status).collect();
                let statuses = statuses?;
                let same = |field: &str| {
                    statuses
                        .iter()
                        .all(|status| status[field] == statuses[0][field])
                };
                (same("applied_index") && same("revision")).then_some(statuses)
            });
        for status in &statuses {
            assert_eq!(
                status["digest"], statuses[0]["digest"],
                "equal members have equal digests: {statuses:#?}"
            );
        }
    }

    /// A call that is repeated, on the members in turn, while the answer says that it was not applied.
    pub(crate) fn persist(
        &self,
        what: &str,
        mut call: impl FnMut(&mut Client) -> std::io::Result<Answer>,
    ) -> Answer {
        let mut turn = 0;
        wait::until(what, SOON, || {
            turn += 1;
            let member = &self.members[turn % self.members.len()];
            if !member.runs() {
                return None;
            }
            let answer = call(&mut member.client()).ok()?;
            let again = answer.status == 503 && answer.not_applied();
            (!again).then_some(answer)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        self.relays.clear();
        let Some(dir) = self.dir.take() else { return };
        if std::thread::panicking() {
            let kept = dir.keep();
            eprintln!(
                "logs and data of the members are kept in {}",
                kept.display()
            );
            for member in &self.members {
                eprintln!(
                    "--- the end of {}:\n{}",
                    member.log.display(),
                    tail(&member.log)
                );
            }
        }
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// A member: its addresses, its files and, while it runs, its process.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) client: SocketAddr,
    pub(crate) peer: SocketAddr,
    peer_advertised: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) initial_members: Vec<String>,
    /// The client URL of the cluster that it joins, in place of forming one.
    pub(crate) join: Option<String>,
    pub(crate) settings: Vec<(&'static str, String)>,
    /// How clients of the test know whom they call, where it serves them by TLS.
    pub(crate) secure: Option<Secure>,
    /// Whether it speaks TLS with other members.
    pub(crate) peers_by_tls: bool,
    process: Mutex<Option<Process>>,
    stopped: AtomicBool,
}

impl Member {
    fn new(
        network: [u8; 2],
        number: u8,
        dir: &Path,
        data_dir: Option<PathBuf>,
        relayed: bool,
    ) -> Member {
        let name = format!("n{number}");
        let address = IpAddr::V4(Ipv4Addr::new(127, network[0], network[1], number));
        Member {
            client: SocketAddr::new(address, CLIENT_PORT),
            peer: SocketAddr::new(address, PEER_PORT),
            peer_advertised: SocketAddr::new(address, if relayed { RELAY_PORT } else { PEER_PORT }),
            data_dir: data_dir.unwrap_or_else(|| dir.join(&name)),
            log: dir.join(format!("{name}.log")),
            initial_members: Vec::new(),
            join: None,
            settings: Vec::new(),
            secure: None,
            peers_by_tls: false,
            process: Mutex::new(None),
            stopped: AtomicBool::new(false),
            name,
        }
    }

    /// Other members reach it at another port from its next start on.
    pub(crate) fn move_peer_to(&mut self, port: u16) {
        self.peer.set_port(port);
        self.peer_advertised.set_port(port);
    }

    /// Where other members reach it.
    pub(crate) fn peer_url(&self) -> String {
        let scheme = if self.peers_by_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.peer_advertised)
    }

    /// The arguments of `tenured` for this member.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = vec!["serve".into()];
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("name", self.name.clone());
        flag("data-dir", self.data_dir.display().to_string());
        flag("client-listen", self.client.to_string());
        flag("peer-listen", self.peer.to_string());
        flag("peer-advertise", self.peer_url());
        let election_timeout = (
            "election-timeout-ms",
            ELECTION_TIMEOUT.as_millis().to_string(),
        );
        let given = |name: &str| self.settings.iter().any(|(flag, _)| *flag == name);
        let usual = (!given(election_timeout.0)).then_some(&election_timeout);
        for (name, value) in self.settings.iter().chain(usual) {
            flag(name, value.clone());
        }
        for member in &self.initial_members {
            flag("initial-member", member.clone());
        }
        if let Some(cluster) = &self.join {
            flag("join", cluster.clone());
        }
        arguments
    }

    /// Starts it and waits until its listeners are bound.
    pub(crate) fn start(&self) {
        self.start_as(&mut Process::tenured(self.arguments()));
        self.with(|process| process.wait_for_output("ready: http", SOON));
    }

    /// Starts it by another command, without waiting.
    pub(crate) fn start_as(&self, command: &mut Command) {
        let mut process = self.slot();
        assert!(process.is_none(), "{} runs already", self.name);
        *process = Some(Process::start(command, &self.log));
        self.stopped.store(false, Ordering::SeqCst);
    }

    /// Ends it without warning, and takes its disk away.
    pub(crate) fn lose_disk(&self) {
        self.kill();
        std::fs::remove_dir_all(&self.data_dir).expect("its data can be removed");
    }

    /// Ends it without warning; a member that does not run stays so.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        let process = self.slot().take();
        if let Some(mut process) = process {
            process.exit_code(SOON);
        }
    }

    /// Waits until it has ended by itself, and answers its exit code.
    pub(crate) fn exit_code(&self, within: Duration) -> i32 {
        let process = self.slot().take();
        process
            .unwrap_or_else(|| panic!("{} runs", self.name))
            .exit_code(within)
    }

    /// Whether its process has not ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        self.with(|process| process.exit_status().is_none())
    }

    /// Sends it a signal; a member that does not run gets none.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.slot().as_mut() {
            process.signal(signal);
        }
    }

    /// Stops it, as a debugger or a frozen machine does.
    pub(crate) fn pause(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.with(|process| process.id()));
        wait::until("the member has stopped", SOON, || {
            let stat = std::fs::read_to_string(&stat).ok()?;
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            (state == 'T').then_some(())
        });
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
        self.stopped.store(false, Ordering::SeqCst);
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something of the process, which must have been started.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&mut Process) -> T) -> T {
        ask(self
            .slot()
            .as_mut()
            .unwrap_or_else(|| panic!("{} runs", self.name)))
    }

    /// What the process has written since it was started.
    pub(crate) fn output(&self) -> String {
        self.with(|process| process.output())
    }

    /// Whether it was started and neither ended by the test nor stopped.
    pub(crate) fn runs(&self) -> bool {
        !self.stopped.load(Ordering::SeqCst) && self.slot().is_some()
    }

    pub(crate) fn client(&self) -> Client {
        let client = Client::new(self.client);
        match &self.secure {
            Some(secure) => client.over(Arc::clone(secure)),
            None => client,
        }
    }

    /// `GET /v1/status`; none while it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let answer = self
            .client()
            .with_patience(Duration::from_secs(2))
            .get("/v1/status")
            .ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Whether it says that it serves linearizable reads.
    pub(crate) fn is_ready(&self) -> bool {
        let answer = self
            .client()
            .with_patience(Duration::from_secs(2))
            .get("/readyz");
        answer.is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) fn wait_until_ready(&self) {
        let ready = wait::found(SOON, || self.is_ready().then_some(()));
        let output = self.output();
        assert!(
            ready.is_some(),
            "{} is not ready within {SOON:?}:\n{output}",
            self.name
        );
    }

    /// The size of one of its files; 0 where there is none.
    pub(crate) fn file_size(&self, name: &str) -> u64 {
        std::fs::metadata(self.data_dir.join(name)).map_or(0, |metadata| metadata.len())
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let id = self.slot().as_ref().map_or(0, Process::id);
        let path = format!("/proc/{id}/status");
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap_or_default()
    }
}

/// Loopback addresses that nobody else uses, so that fixed ports are free and stay so while a member is down: the
/// source of a connection to 127.0.0.0/8 is always 127.0.0.1.
fn free_network() -> [u8; 2] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    static FIRST: OnceLock<(u8, File)> = OnceLock::new();
    let (first, _lock) = FIRST.get_or_init(claim_networks);
    loop {
        let second = NEXT.fetch_add(1, Ordering::Relaxed);
        let first_member = Ipv4Addr::new(127, *first, second, 1);
        if TcpListener::bind((first_member, CLIENT_PORT)).is_ok() {
            return [*first, second];
        }
    }
}

/// The second byte of all addresses of this process. Whether an address is free now says nothing of a member of
/// another test process that is just down: so each process holds a lock on what is its own, until it ends.
fn claim_networks() -> (u8, File) {
    for first in 20..=249 {
        let path = std::env::temp_dir().join(format!("tenure-tests-127.{first}.lock"));
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        if lock.try_lock().is_ok() {
            return (first, lock);
        }
    }
    panic!("all of 127.20.0.0 to 127.249.0.0 is claimed by other test processes");
}

/// Grants a lease and answers its id.
pub(crate) fn grant(client: &mut Client, ttl_ms: u64) -> String {
    let answer = client
        .post("/v1/leases", &json!({ "ttl_ms": ttl_ms }))
        .expect("the member answers");
    answer.expect(201).str("lease")
}

/// Takes a lock that is free and answers its fence.
pub(crate) fn acquire(client: &mut Client, lock: &str, lease: &str) -> u64 {
    let answer = client
        .post(&format!("/v1/locks/{lock}"), &json!({ "lease": lease }))
        .expect("the member answers");
    answer.expect(200).u64("fence")
}
