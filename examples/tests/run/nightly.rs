//! The nightly job: one host works, and the store takes nothing from a holder that was paused for too long.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::common::{Cluster, Process, SOON, Setup, acquire, grant, machine};
use crate::postgres::Postgres;
use crate::programs::{address, endpoints, guarded, program};

const LOCK: &str = "jobs/inventory";
const NIGHT: &str = "2026-11-30";
/// So short that a paused holder has soon lost, and so long that a busy machine renews in time.
const TTL_MS: &str = "3000";
/// In this time the test has stopped a holder that has just begun with a file.
const AT_LEAST_MS: &str = "3000";
const ITEMS: [(&str, &str); 3] = [("a.txt", "alpha"), ("b.txt", "beta"), ("c.txt", "")];

/// A cluster, a directory to make an inventory of, and a store.
struct Rig {
    cluster: Cluster,
    source: PathBuf,
    store: String,
    runs: u8,
}

impl Rig {
    fn new(cluster: Cluster, store: String) -> Rig {
        let source = cluster.dir().join("source");
        fs::create_dir_all(source.join("folders are left out")).expect("there is room for it");
        for (name, content) in ITEMS {
            fs::write(source.join(name), content).expect("there is room for it");
        }
        Rig {
            cluster,
            source,
            store,
            runs: 0,
        }
    }

    fn with_files() -> Rig {
        let cluster = Setup::of(1).start();
        let store = format!("file:{}", cluster.dir().join("store").display());
        Rig::new(cluster, store)
    }

    fn store_path(&self) -> &Path {
        Path::new(
            self.store
                .strip_prefix("file:")
                .expect("it is a store of files"),
        )
    }

    fn command(&self) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_nightly-job"), &endpoints(&self.cluster));
        command
            .args(["--night", NIGHT, "--store", &self.store, "--source"])
            .arg(&self.source);
        command
    }

    fn run(&mut self, arguments: &[&str]) -> Process {
        self.runs += 1;
        let log = self.cluster.dir().join(format!("run-{}.log", self.runs));
        Process::start(self.command().args(arguments), &log)
    }

    /// A holder that has written the first file and is in the middle of the second.
    fn holder_amid_its_work(&mut self) -> (Process, u64) {
        let mut holder = self.run(&["--ttl-ms", TTL_MS, "--at-least-ms", AT_LEAST_MS]);
        holder.wait_for_output("reading b.txt\n", SOON);
        let fence = fence(&holder);
        (holder, fence)
    }

    /// The next holder, which waits for the lock and does what is left.
    fn next_holder(&mut self) -> u64 {
        let mut next = self.run(&["--wait-ms", "60000"]);
        assert_eq!(next.exit_code(SOON), 0, "{}", next.output());
        assert!(
            !next.output().contains("a.txt"),
            "it was done already: {}",
            next.output()
        );
        fence(&next)
    }
}

fn fence(holder: &Process) -> u64 {
    let output = holder.output();
    let fence = output
        .lines()
        .find_map(|line| line.split_once(" held with fence ")?.1.parse().ok());
    fence.unwrap_or_else(|| panic!("there is a fence in {output}"))
}

/// Answers the fences of the paused holder and of the one after it.
fn a_paused_holder_is_refused(rig: &mut Rig) -> (u64, u64) {
    let (mut paused, stale) = rig.holder_amid_its_work();
    paused.signal(Signal::STOP);
    let highest = rig.next_holder();
    assert!(highest > stale, "{highest} after {stale}");
    paused.signal(Signal::CONT);
    assert_eq!(paused.exit_code(SOON), 76, "{}", paused.output());
    let refused = format!("refused: fence {stale} is stale, {highest} has been here");
    assert!(paused.output().contains(&refused), "{}", paused.output());

    let mut again = rig.run(&[]);
    assert_eq!(again.exit_code(SOON), 0, "{}", again.output());
    assert!(again.output().contains("done before"), "{}", again.output());
    (stale, highest)
}

#[test]
fn files_refuse_what_a_paused_holder_writes_when_it_goes_on() {
    let _machine = machine::shared();
    let mut rig = Rig::with_files();
    let (stale, highest) = a_paused_holder_is_refused(&mut rig);
    let night = rig.store_path().join(format!("night-{NIGHT}"));
    let read = |name: &str| fs::read_to_string(night.join(name)).expect("it is there");
    // crc32c of `alpha`, of `beta` and of nothing.
    assert_eq!(read("a.txt.item"), format!("5 78d92f81 fence {stale}\n"));
    assert_eq!(read("b.txt.item"), format!("4 f443cbb9 fence {highest}\n"));
    assert_eq!(read("c.txt.item"), format!("0 00000000 fence {highest}\n"));
    assert_eq!(read("finished"), format!("fence {highest}\n"));
    let kept = fs::read_dir(&night).expect("it is there").count();
    assert_eq!(kept, 4, "no file was left half-written");
}

#[test]
fn postgresql_refuses_what_a_paused_holder_writes_when_it_goes_on() {
    const NAME: &str = "postgresql_refuses_what_a_paused_holder_writes_when_it_goes_on";
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let postgres = match Postgres::start(address(&cluster, 200, 5432)) {
        Ok(postgres) => postgres,
        Err(reason) => return machine::skip(NAME, &reason),
    };
    let mut rig = Rig::new(cluster, postgres.url());
    let (stale, highest) = a_paused_holder_is_refused(&mut rig);
    assert_eq!(
        postgres.query("select item, bytes, to_hex(checksum), fence from inventory order by item"),
        format!("a.txt|5|78d92f81|{stale}\nb.txt|4|f443cbb9|{highest}\nc.txt|0|0|{highest}\n")
    );
    assert_eq!(
        postgres.query("select * from night"),
        format!("{NIGHT}|{highest}\n")
    );
    // The run that found it done has told its fence, too.
    let fence = format!("select lock, highest > {highest} from fence");
    assert_eq!(postgres.query(&fence), format!("{LOCK}|t\n"));
}

#[test]
fn what_a_dead_holder_has_done_is_not_done_again() {
    let _machine = machine::shared();
    let mut rig = Rig::with_files();
    let (mut dead, fence) = rig.holder_amid_its_work();
    dead.signal(Signal::KILL);
    let next = rig.next_holder();
    assert!(next > fence, "{next} after {fence}");
}

#[test]
fn a_host_that_comes_second_says_that_another_is_at_it_and_touches_nothing() {
    let _machine = machine::shared();
    let mut rig = Rig::with_files();
    let mut client = rig.cluster.members[0].client().persistent();
    let lease = grant(&mut client, 60_000);
    acquire(&mut client, LOCK, &lease);
    let mut second = rig.run(&[]);
    assert_eq!(second.exit_code(SOON), 75, "{}", second.output());
    assert!(
        second.output().contains("another host is at it"),
        "{}",
        second.output()
    );
    assert_eq!(
        fs::read_dir(rig.store_path()).expect("it is there").count(),
        0
    );
}

#[test]
fn a_host_says_who_it_is_by_a_token_where_that_is_asked() {
    let _machine = machine::shared();
    let mut rig = Rig::with_files();
    let tokens = guarded(&rig.cluster, &["lock:locks/jobs/", "lease:leases/"]);
    let mut nobody = rig.run(&[]);
    assert_eq!(nobody.exit_code(SOON), 1, "{}", nobody.output());
    assert!(
        nobody.output().contains("unauthenticated"),
        "{}",
        nobody.output()
    );
    let file = tokens.holder.display().to_string();
    let mut holder = rig.run(&["--token-file", &file]);
    assert_eq!(holder.exit_code(SOON), 0, "{}", holder.output());
}

#[test]
fn wrong_settings_are_named_with_what_would_be_right() {
    let _machine = machine::shared();
    let mut rig = Rig::with_files();
    let mut check = |arguments: &[&str], code: i32, said: &str| {
        let mut run = rig.run(arguments);
        let found = (run.exit_code(SOON), run.output());
        assert!(
            found.0 == code && found.1.contains(said),
            "{arguments:?}: {found:?}"
        );
    };
    check(&["--endpoints", "127.0.0.1"], 1, "\"127.0.0.1\"");
    check(
        &["--ttl-ms", "5"],
        1,
        "ttl_ms is 5; accepted are 1000 to 86400000",
    );
    check(&["--lock", ""], 1, "name");
    check(&["--at-least-ms", "soon"], 2, "soon");

    rig.store = "redis://x".into();
    let mut other = rig.run(&[]);
    assert_eq!(other.exit_code(SOON), 2, "{}", other.output());
    assert!(
        other.output().contains("`file:DIR` or `postgres://"),
        "{}",
        other.output()
    );
    rig.store = "postgres://nobody@127.0.0.1:1/none".into();
    let mut away = rig.run(&[]);
    assert_eq!(away.exit_code(SOON), 1, "{}", away.output());
    assert!(
        away.output().contains("the database: "),
        "{}",
        away.output()
    );
}
