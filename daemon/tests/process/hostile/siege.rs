//! A cluster under attack, and what is watched meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::{Client, Cluster, PATIENCE, Setup, wait};

/// A write and a read of somebody else are answered within this time, whatever goes on beside them.
const SERVED_WITHIN: Duration = PATIENCE;
/// How often somebody else comes.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Members that share two cores with an attacker, and with one another, are given this time before they suspect their
/// leader; a single one suspects nobody.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(2_500);
const ELECTION_TIMEOUT_ALONE: Duration = Duration::from_millis(300);
/// What a member says of itself where its machine gave it no time: not the attack, and not its fault.
const STARVED: &str = "this process did not run for longer than an election timeout";

/// How much more memory an attack may make a member hold: at its height, and when it is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) top_mib: u64,
    pub(super) after_mib: u64,
}

/// A cluster under attack. Its leader is the one that is attacked.
pub(super) struct Siege {
    pub(super) cluster: Cluster,
    leader: usize,
    term: u64,
    before_kib: u64,
    began: Instant,
    watched: Arc<Watched>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads beside the attack have seen.
#[derive(Default)]
struct Watched {
    over: AtomicBool,
    top_kib: AtomicU64,
    probes: AtomicU64,
    slowest_us: AtomicU64,
    trouble: std::sync::Mutex<Vec<String>>,
}

impl Siege {
    /// A cluster of so many members, served and watched from now on.
    pub(super) fn of(members: u8) -> Siege {
        let election_timeout = match members {
            1 => ELECTION_TIMEOUT_ALONE,
            _ => ELECTION_TIMEOUT,
        };
        let cluster = Setup::of(members)
            .with("election-timeout-ms", election_timeout.as_millis())
            .start();
        let leader = cluster.leader();
        let status = cluster.members[leader]
            .status()
            .expect("the leader answers");
        let watched = Arc::new(Watched::default());
        let pid = cluster.members[leader].with(|process| process.id());
        let clients = cluster.members.iter().map(|member| member.client).collect();
        let threads = vec![
            std::thread::spawn({
                let watched = Arc::clone(&watched);
                move || watched.probe(clients)
            }),
            std::thread::spawn({
                let watched = Arc::clone(&watched);
                move || watched.weigh(pid)
            }),
        ];
        Siege {
            leader,
            term: status["term"].as_u64().expect("a status has a term"),
            before_kib: resident_kib(pid),
            began: Instant::now(),
            watched,
            threads,
            cluster,
        }
    }

    /// The same, which counts what is held from now on.
    pub(super) fn counting_from_now(mut self) -> Siege {
        self.before_kib = self.resident_kib();
        self
    }

    /// Where the attacked member serves clients.
    pub(super) fn address(&self) -> SocketAddr {
        self.cluster.members[self.leader].client
    }

    /// Where it listens to other members.
    pub(super) fn peer_address(&self) -> SocketAddr {
        self.cluster.members[self.leader].peer
    }

    pub(super) fn client(&self) -> Client {
        self.cluster.members[self.leader].client()
    }

    pub(super) fn pid(&self) -> u32 {
        self.cluster.members[self.leader].with(|process| process.id())
    }

    /// Its resident memory now, in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        resident_kib(self.pid())
    }

    /// How many files it has open.
    pub(super) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Says what came of the attack, and fails where anything did that must not.
    pub(super) fn end(mut self, what: &str, bound: Bound) {
        // An attack may be over before anybody else has come.
        let _ = wait::found(SERVED_WITHIN, || {
            (self.watched.probes.load(Ordering::SeqCst) > 0).then_some(())
        });
        // What the allocator gives back late, and connections that are being ended, are given a moment.
        let allowed = self.before_kib + (bound.after_mib << 10);
        let _ = wait::found(Duration::from_secs(10), || {
            (self.resident_kib() <= allowed).then_some(())
        });
        self.stop();
        let after = self.resident_kib();
        let top = self.watched.top_kib.load(Ordering::SeqCst).max(after);
        let before = self.before_kib;
        let probes = self.watched.probes.load(Ordering::SeqCst);
        eprintln!(
            "hostile: {what}; {:.1} s; resident {} -> {} -> {} MiB; {probes} writes and reads of others, slowest {} ms",
            self.began.elapsed().as_secs_f64(),
            before >> 10,
            top >> 10,
            after >> 10,
            self.watched.slowest_us.load(Ordering::SeqCst) / 1000,
        );
        let trouble = self.watched.trouble();
        assert!(trouble.is_empty(), "others were not served: {trouble:#?}");
        assert!(probes > 0, "nobody else asked for anything");
        assert!(
            top <= before + (bound.top_mib << 10),
            "the member held {top} KiB, {before} before, and {bound:?} is allowed"
        );
        assert!(
            after <= allowed,
            "the member still holds {after} KiB, {before} before, and {bound:?} is allowed"
        );
        self.check_members();
    }

    fn check_members(&self) {
        let mut starved = false;
        for member in &self.cluster.members {
            assert!(member.is_running(), "{} has ended", member.name);
            let log = member.output();
            assert!(
                !log.contains("panicked"),
                "{} panicked:\n{log}",
                member.name
            );
            starved |= log.contains(STARVED);
        }
        let term = wait::until("the attacked member says its term", SERVED_WITHIN, || {
            self.cluster.members[self.leader].status()?["term"].as_u64()
        });
        if starved {
            eprintln!("hostile: the machine gave a member no time, so its term says nothing");
        } else {
            assert_eq!(term, self.term, "the leader lost its leadership");
        }
    }

    fn stop(&mut self) {
        self.watched.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // What it has seen is judged by the test; that it failed is trouble too.
            if thread.join().is_err() {
                self.watched.report("a thread of the test failed".into());
            }
        }
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watched {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn report(&self, trouble: String) {
        self.trouble
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(trouble);
    }

    fn trouble(&self) -> Vec<String> {
        self.trouble
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Somebody else, who writes and reads at the members in turn.
    fn probe(&self, members: Vec<SocketAddr>) {
        for number in 0_usize.. {
            if self.is_over() {
                return;
            }
            let began = Instant::now();
            // A member that is given no time by its machine may refuse for a moment, and says so.
            let member = members[number % members.len()];
            let asked = wait::found(SERVED_WITHIN, || match ask(member, number) {
                Err(trouble) if trouble.contains("not_applied") && !self.is_late(began) => None,
                other => Some(other),
            });
            if let Some(Err(trouble)) = asked {
                let after = began.elapsed();
                self.report(format!(
                    "write and read {number} after {after:?}: {trouble}"
                ));
            }
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.slowest_us.fetch_max(took, Ordering::SeqCst);
            self.probes.fetch_add(1, Ordering::SeqCst);
            wait::pass(PROBE_EVERY, || self.is_over());
        }
    }

    fn is_late(&self, began: Instant) -> bool {
        began.elapsed() >= SERVED_WITHIN || self.is_over()
    }

    /// Notes the most that a process holds.
    fn weigh(&self, pid: u32) {
        while !self.is_over() {
            self.top_kib.fetch_max(resident_kib(pid), Ordering::SeqCst);
            wait::pass(LOOK_EVERY, || self.is_over());
        }
    }
}

/// A write and a read of what was written, over a connection of their own.
fn ask(member: SocketAddr, number: usize) -> Result<(), String> {
    let mut client = Client::new(member).with_patience(SERVED_WITHIN);
    let path = format!("/v1/keys/probe/{}", number % 7);
    let value = number.to_string();
    let failed = |error: std::io::Error| error.to_string();
    let written = client.put(&path, value.as_bytes()).map_err(failed)?;
    if !matches!(written.status, 200 | 201) {
        return Err(format!("the write: {}", written.text()));
    }
    let read = client.get(&path).map_err(failed)?;
    if read.body != value.as_bytes() {
        return Err(format!("the read: {}", read.text()));
    }
    Ok(())
}

/// The resident memory of a process in KiB; 0 once it has ended.
pub(super) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap_or_default().trim().trim_end_matches(" kB");
    number.parse().unwrap_or_default()
}
