//! The second process that ends a command where `tenure` cannot: without one nothing begins, and one that is lost is
//! replaced.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use crate::common::machine::{skip, succeeds};
use crate::common::{Process, SOON, Setup, wait};
use crate::support::{TENURE, bare, begun, lives, ran, run, text_of, urls, wait_until_ended};

/// The children of a process that have this name.
fn children(parent: u32, name: &str) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let ids: String = texts.collect();
    let is_meant = |id: &&str| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.starts_with(name.as_bytes())
    };
    let ids = ids.split_whitespace().filter(is_meant);
    ids.filter_map(|id| Pid::from_raw(id.parse().ok()?))
        .collect()
}

fn wardens_of(holder: &Process) -> Vec<Pid> {
    children(holder.id(), "tenure-warden")
}

/// A warden that is treated so is replaced, which is told, and the next one does its work.
fn check_replaced(signal: Signal, told: &str) {
    let cluster = Setup::of(1).start();
    let left = cluster.dir().join("left");
    let script = format!(
        "trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done",
        left.display()
    );
    let options = ["--ttl", "20s", "--grace", "300ms", "--"];
    let command = ["lock", "a"].into_iter().chain(options);
    let mut holder = begun(&cluster, "holder", command.chain(["sh", "-c", &script]));
    text_of(&left);
    let first = wait::until("there is a warden", SOON, || {
        wardens_of(&holder).first().copied()
    });
    kill_process(first, signal).expect("it lives");
    holder.wait_for_output(told, SOON);
    wait::until("another warden stands in its place", SOON, || {
        let wardens = wardens_of(&holder);
        (wardens.len() == 1 && wardens[0] != first).then_some(())
    });
    // It has its order a moment later.
    thread::sleep(Duration::from_millis(500));
    holder.signal(Signal::KILL);
    assert_eq!(holder.exit_code(SOON), -9);
    wait_until_ended(&left);
}

#[test]
fn a_warden_that_was_killed_is_replaced_and_the_next_does_its_work() {
    check_replaced(Signal::KILL, "has ended: another is started");
}

#[test]
fn a_warden_that_hangs_is_replaced_and_the_next_does_its_work() {
    check_replaced(Signal::STOP, "does not answer: another is started");
}

#[test]
fn a_command_is_not_begun_where_no_warden_can_be_started() {
    let without_proc = "umount -l /proc && exec \"$@\"";
    let within = ["-m", "sh", "-c", without_proc, "sh"];
    if !succeeds("unshare", &[&within[..], &["true"]].concat()) {
        skip("a machine without /proc", "this needs root and unshare");
        return;
    }
    let cluster = Setup::of(1).start();
    let begins = cluster.dir().join("begins");
    let mut command = Command::new("unshare");
    bare(&mut command)
        .args(within)
        .env("TENURE_ENDPOINTS", urls(&cluster));
    command
        .args([TENURE, "lock", "a", "--", "touch"])
        .arg(&begins);
    let ran_it = run(&mut command).expect(126);
    for part in [
        "cannot be watched",
        "no warden could be started",
        "nothing was run",
    ] {
        assert!(ran_it.stderr.contains(part), "{part}: {}", ran_it.stderr);
    }
    assert!(!begins.exists(), "it has begun");
    ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(0);
}

/// Between its start and the watch over it nobody would end it.
#[test]
fn a_holder_that_is_killed_at_any_moment_of_its_start_leaves_no_command_behind() {
    let cluster = Setup::of(1).start();
    let mut begun_ones = 0;
    let files = (0..24).map(|round| {
        let file = cluster.dir().join(format!("begins-{round}"));
        let name = format!("a{round}");
        let script = format!("trap '' TERM; echo $$ > {}; exec sleep 60", file.display());
        let arguments = ["lock", &name, "--grace", "0s", "--", "sh", "-c", &script];
        let mut holder = begun(&cluster, &format!("holder-{round}"), arguments);
        thread::sleep(Duration::from_millis(2 * round));
        holder.signal(Signal::KILL);
        assert_eq!(holder.exit_code(SOON), -9, "{}", holder.output());
        file
    });
    let files: Vec<_> = files.collect();
    // What was let go on in the last moment has begun by now.
    thread::sleep(Duration::from_secs(1));
    for file in files.iter().filter(|file| file.exists()) {
        begun_ones += 1;
        wait_until_ended(file);
    }
    println!(
        "of {} commands {begun_ones} had begun, and have ended",
        files.len()
    );
}

/// Starts what waits before a command; answers its way to be told, and what it comes to.
fn before_a_gate(command: &[&str]) -> (std::io::PipeWriter, std::process::Child) {
    let (waits, gate) = std::io::pipe().expect("there is a pipe");
    fcntl_setfd(&waits, FdFlags::empty()).expect("it is ours");
    let number = waits.as_raw_fd().to_string();
    let mut program = Command::new(TENURE);
    bare(&mut program)
        .arg0("tenure-gate")
        .args([&number, "json"]);
    let child = program.args(command).stderr(Stdio::piped()).spawn();
    (gate, child.expect("it starts"))
}

#[test]
fn a_command_is_run_when_its_gate_is_opened_and_never_where_nobody_is_left_to_open_it() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let begins = dir.path().join("begins");
    let script = format!("ls -l /proc/self/fd > {}; exit 7", begins.display());
    let (gate, mut child) = before_a_gate(&["sh", "-c", &script]);
    drop(gate);
    assert_eq!(child.wait().expect("it is ours").code(), Some(126));
    assert!(!begins.exists(), "it was run");

    let (mut gate, mut child) = before_a_gate(&["sh", "-c", &script]);
    gate.write_all(b"!").expect("it waits");
    assert_eq!(child.wait().expect("it is ours").code(), Some(7));
    let files = fs::read_to_string(&begins).expect("it was run");
    assert!(
        !files.contains(&format!("pipe:[{}]", inode(&gate))),
        "{files}"
    );

    let (mut gate, child) = before_a_gate(&["/nonexistent/program"]);
    gate.write_all(b"!").expect("it waits");
    let told = child.wait_with_output().expect("it is ours");
    let problem: serde_json::Value = serde_json::from_slice(&told.stderr).expect("it is JSON");
    assert_eq!(told.status.code(), Some(127), "{problem}");
    assert_eq!(problem["outcome"], "not_applied");
}

fn inode(file: &impl AsRawFd) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let link = link.expect("it is open").display().to_string();
    link.trim_start_matches("pipe:[")
        .trim_end_matches(']')
        .to_owned()
}

/// A warden of a job, told the order that comes behind the numbers of its group, its grace and its reserve.
struct Watched {
    job: Child,
    warden: Child,
    order: Option<ChildStdin>,
    /// The end of the hold, on the clock that counts suspensions.
    end: Duration,
}

impl Watched {
    /// With a hold that is certain for so long, and this much of it kept for the end.
    fn start(certain_for: Duration, reserve: Duration) -> Watched {
        let job = Command::new("sleep").arg("60").process_group(0).spawn();
        let job = job.expect("it starts");
        let mut warden = Command::new(TENURE);
        let warden = bare(&mut warden).arg0("tenure-warden");
        let warden = warden.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut warden = warden.expect("it starts");
        let mut says = warden.stdout.take().expect("it is piped");
        let mut order = warden.stdin.take().expect("it is piped");
        let clocks = [ClockId::Boottime, ClockId::MonotonicRaw];
        let ends = clocks.map(|clock| shows(clock) + certain_for);
        // The job stands for its holder, too: what descends from this process is of other tests.
        let (reserve, [boot, raw]) = (reserve.as_millis(), ends.map(|end| end.as_millis()));
        writeln!(order, "{0} 1000 {reserve} {0} {boot} {raw}", job.id()).expect("it reads");
        says.read_exact(&mut [0]).expect("it watches");
        Watched {
            job,
            warden,
            order: Some(order),
            end: ends[0],
        }
    }

    fn job_has_ended(&mut self) {
        let ended = wait::until("the group has ended", SOON, || {
            self.job.try_wait().expect("it is ours")
        });
        assert!(!ended.success());
    }
}

fn shows(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(
        u64::try_from(now.tv_sec).expect("it only rises"),
        u32::try_from(now.tv_nsec).expect("a second has fewer"),
    )
}

#[test]
fn a_warden_says_that_it_watches_and_ends_a_group_of_which_it_hears_nothing_more() {
    let mut watched = Watched::start(Duration::from_secs(600), Duration::from_millis(500));
    let lives_on = watched.job.try_wait().expect("it is ours").is_none();
    assert!(lives_on, "it runs on");
    watched.order = None;
    watched.job_has_ended();
    assert!(watched.warden.wait().expect("it is ours").success());
    assert!(!lives(&watched.job.id().to_string()));
}

/// The reserve of a hold for a second, of which the warden once slept all that was left to it.
#[test]
fn a_warden_kills_with_time_to_spare_before_the_end_of_the_shortest_hold() {
    const CERTAIN: Duration = Duration::from_millis(400);
    const ROUNDS: usize = 9;
    let spare = (0..ROUNDS).map(|_| {
        let mut watched = Watched::start(CERTAIN, Duration::from_millis(100));
        let ended = watched.job.wait().expect("it is ours");
        assert!(!ended.success());
        let spare = watched.end.saturating_sub(shows(ClockId::Boottime));
        watched.order = None;
        watched.warden.wait().expect("it is ours");
        spare
    });
    let mut spare: Vec<Duration> = spare.collect();
    spare.sort();
    println!("ended before the end of the hold by {spare:?}");
    // A machine that is busy with other tests may be late now and then.
    let median = spare[ROUNDS / 2];
    assert!(
        median > Duration::from_millis(40) && median < Duration::from_millis(100),
        "{spare:?}"
    );
}
