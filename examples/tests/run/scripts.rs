//! The lock in `bash` with `curl`, and in Python: each ends its command before the lock is anybody else's.
//!
//! Commands write down when they run, by the clock of this machine that counts from its start.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::common::{Cluster, Process, SOON, Setup, acquire, grant, machine, wait};
use crate::programs::{endpoints, example, guarded, program};
use crate::rights::{NOBODY, as_root};

const LOCK: &str = "jobs/ä b";
const ENCODED: &str = "jobs%2F%C3%A4%20b";
/// Writes down its fence and the time.
const BEAT: &str = r#"read -r up _ </proc/uptime; echo "$TENURE_FENCE $up" >>"$0""#;
/// Does so every 20 ms and ignores TERM: it is killed, or ends when the script is gone, as after a failed test.
const WORKS: &str = r#"trap "" TERM; while kill -0 $PPID; do BEAT; sleep 0.02; done"#;

/// Both are held to the same.
const SCRIPTS: [&str; 2] = ["locked-job.sh", "locked_job.py"];

/// A script with a lock to work under.
struct Rig {
    cluster: Cluster,
    script: &'static str,
    runs: u8,
}

impl Rig {
    fn of(members: u8, script: &'static str) -> Rig {
        let cluster = Setup::of(members).start();
        Rig {
            cluster,
            script,
            runs: 0,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }

    fn start(&mut self, endpoints: &str, ttl_ms: u32, command: &[&str]) -> Process {
        self.runs += 1;
        let log = self.file(&format!("run-{}.log", self.runs));
        Process::start(self.command(endpoints, ttl_ms).args(command), &log)
    }

    fn command(&self, endpoints: &str, ttl_ms: u32) -> Command {
        let mut run = program(example(self.script), endpoints);
        run.env("TENURE_TTL_MS", ttl_ms.to_string())
            .env("TENURE_WAIT_MS", "60000")
            .arg(LOCK);
        run
    }

    /// Starts a command that works until it is killed, and waits until it works.
    fn worker(&mut self, endpoints: &str, ttl_ms: u32, file: &Path) -> Process {
        let run = self.command(endpoints, ttl_ms);
        self.works(run, file)
    }

    fn works(&mut self, mut run: Command, file: &Path) -> Process {
        let works = WORKS.replace("BEAT", BEAT);
        run.args(["bash", "-c", &works]).arg(file);
        let mut worker = Process::start(&mut run, &self.file("worker.log"));
        wait::until("it works", SOON, || {
            let ended = worker.exit_status().is_some();
            assert!(!ended, "it has ended: {}", worker.output());
            beats(file).first().map(drop)
        });
        worker
    }
}

/// Fences and times, in hundredths of a second, of a command that works.
fn beats(file: &Path) -> Vec<(u64, u64)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let beat = |line: &str| {
        let (fence, time) = line.split_once(' ')?;
        Some((fence.parse().ok()?, time.replace('.', "").parse().ok()?))
    };
    text.lines().filter_map(beat).collect()
}

#[track_caller]
fn has_lost(worker: &mut Process) {
    let code = worker.exit_code(SOON);
    let output = worker.output();
    assert_eq!(code, 76, "{output}");
    assert!(output.contains("the lock was lost"), "{output}");
}

fn keeps_what_its_command_is_given(script: &'static str) {
    let mut rig = Rig::of(1, script);
    let all = endpoints(&rig.cluster);
    let tells = r#"printf '%s|' "$TENURE_LOCK" "$TENURE_FENCE" "$@"; exit 7"#;
    let mut run = rig.start(
        &all,
        15_000,
        &["bash", "-c", tells, "x", "a  b", "*", "$HOME"],
    );
    assert_eq!(run.exit_code(SOON), 7, "{}", run.output());
    let output = run.output();
    let told: Vec<&str> = output.split('|').collect();
    assert_eq!(
        (told[0], &told[2..5]),
        (LOCK, &["a  b", "*", "$HOME"][..]),
        "{output}"
    );

    // It has given back everything: nobody waits for a TTL.
    let mut client = rig.cluster.members[0].client().persistent();
    assert_eq!(
        client.get("/v1/leases").expect("it answers").u64("count"),
        0
    );
    let lease = grant(&mut client, 60_000);
    let fence = acquire(&mut client, ENCODED, &lease);
    assert!(fence > told[1].parse().expect("it is a fence"), "{output}");
}

fn refuses_where_the_lock_is_held(script: &'static str) {
    let rig = Rig::of(1, script);
    let mut client = rig.cluster.members[0].client().persistent();
    let lease = grant(&mut client, 60_000);
    acquire(&mut client, ENCODED, &lease);
    let check = |set: (&str, &str), command: &[&str], code: i32, said: &str| {
        let mut run = rig.command(&endpoints(&rig.cluster), 15_000);
        let mut run = Process::start(
            run.env(set.0, set.1).args(command),
            &rig.file("refused.log"),
        );
        let found = (run.exit_code(SOON), run.output());
        assert!(
            found.0 == code && found.1.contains(said),
            "{set:?} {command:?}: {found:?}"
        );
    };
    check(("TENURE_WAIT_MS", "0"), &["true"], 75, "has 1 holder");
    check(("TENURE_WAIT_MS", "300"), &["true"], 75, "not acquired");
    check(("TENURE_WAIT_MS", "1m"), &["true"], 64, "1m");
    check(("TENURE_WAIT_MS", "0"), &[], 64, "usage:");
    check(
        ("TENURE_TTL_MS", "5"),
        &["true"],
        1,
        "ttl_ms is 5; accepted are 1000 to 86400000",
    );
    check(
        ("TENURE_WAIT_MS", "90000000"),
        &["true"],
        1,
        "is 90000000; accepted are 0 to 86400000",
    );
    check(
        ("TENURE_ENDPOINTS", "http://127.0.0.1:1"),
        &["true"],
        69,
        "http://127.0.0.1:1",
    );
    assert_eq!(
        client.get("/v1/leases").expect("it answers").u64("count"),
        1,
        "only the holder's is left"
    );
}

/// As a proxy answers whose member is away.
fn asks_the_next_where_a_proxy_has_no_member(script: &'static str) {
    let mut rig = Rig::of(1, script);
    let proxy = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let first = format!("http://{}", proxy.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for mut stream in proxy.incoming().flatten() {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(
                b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    let both = format!("{first},{}", endpoints(&rig.cluster));
    let mut run = rig.start(&both, 15_000, &["bash", "-c", "exit 7"]);
    assert_eq!(run.exit_code(SOON), 7, "{}", run.output());
}

fn says_who_it_is_by_a_token_where_that_is_asked(script: &'static str) {
    let rig = Rig::of(1, script);
    let tokens = guarded(&rig.cluster, &["lock:locks/jobs/", "lease:leases/"]);
    let check = |token: Option<&Path>, code: i32, said: &str| {
        let mut run = rig.command(&endpoints(&rig.cluster), 15_000);
        run.envs(token.map(|file| ("TENURE_TOKEN_FILE", file)));
        let mut run = Process::start(run.arg("true"), &rig.file("run.log"));
        let found = (run.exit_code(SOON), run.output());
        assert!(
            found.0 == code && found.1.contains(said),
            "{token:?}: {found:?}"
        );
    };
    check(Some(&tokens.holder), 0, "");
    check(None, 1, "the header `Authorization` is missing");
    check(
        Some(Path::new("/nonexistent/token")),
        64,
        "/nonexistent/token",
    );
    // It has given everything back, which its right to its own lease allows.
    let admin = fs::read_to_string(&tokens.admin).expect("it is there");
    let mut client = rig.cluster.members[0].client().with_token(&admin);
    let left = client.get("/v1/leases").expect("it answers").expect(200);
    assert_eq!(left.u64("count"), 0);
}

fn asks_seldom_while_it_is_refused(script: &'static str) {
    let mut rig = Rig::of(1, script);
    let tokens = guarded(&rig.cluster, &["lock:locks/jobs/", "lease:leases/"]);
    let admin = fs::read_to_string(&tokens.admin).expect("it is there");
    let mut client = rig.cluster.members[0].client().with_token(&admin);
    let mut run = rig.command(&endpoints(&rig.cluster), 8_000);
    run.env("TENURE_TOKEN_FILE", &tokens.holder);
    let file = rig.file("work");
    let mut worker = rig.works(run, &file);
    let leases_alone = json!({"grants": [{"verbs": ["lease"], "resource": "leases/"}]});
    let changed = client.json("PUT", "/v1/roles/holder", &leases_alone);
    changed.expect("it answers").expect(200);
    has_lost(&mut worker);
    let page = client.get("/metrics").expect("it answers").expect(200);
    let page = page.text();
    let refused = page.lines().filter(|line| {
        let of_these = [r#"method="POST""#, r#"status="403""#];
        line.starts_with("tenure_http_request_duration_seconds_count")
            && of_these.iter().all(|part| line.contains(part))
    });
    let refused: u32 = refused
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
        .sum();
    assert!((1..=8).contains(&refused), "{refused} refusals: {page}");
    // It may give back what it may not have again.
    let left = client.get("/v1/leases").expect("it answers").expect(200);
    assert_eq!(left.u64("count"), 0);
}

fn passes_signals_on_and_leaves_nothing_behind(script: &'static str) {
    let mut rig = Rig::of(1, script);
    let all = endpoints(&rig.cluster);
    let traps = r#"trap "exit 9" HUP; sleep 60 & echo "left behind: $!"; while kill -0 $PPID; do sleep 0.05; done"#;
    let mut run = rig.start(&all, 15_000, &["bash", "-c", traps]);
    run.wait_for_output("left behind: ", SOON);
    let mut waits = rig.start(&all, 15_000, &["true"]);
    let mut client = rig.cluster.members[0].client().persistent();
    wait::until("the second waits", SOON, || {
        let lock = client.get(&format!("/v1/locks/{ENCODED}")).ok()?;
        (lock.u64("queue_length") == 1).then_some(())
    });
    waits.signal(Signal::TERM);
    assert_eq!(waits.exit_code(SOON), 143, "{}", waits.output());
    assert_eq!(run.exit_status(), None, "{}", run.output());

    run.signal(Signal::HUP);
    assert_eq!(run.exit_code(SOON), 9, "{}", run.output());
    let output = run.output();
    let left = output
        .trim()
        .rsplit(' ')
        .next()
        .expect("it is the last word");
    let runs = Path::new("/proc").join(left).join("exe");
    wait::until("what it left behind has ended", SOON, || {
        fs::read_link(&runs).err()
    });
    assert_eq!(
        client.get("/v1/leases").expect("it answers").u64("count"),
        0
    );
}

/// The worker asks one member, which is stopped; who waits asks the others.
fn has_ended_its_command_before_the_next_begins(script: &'static str) {
    let mut rig = Rig::of(3, script);
    let frozen = rig.cluster.follower();
    let one = format!("http://{}", rig.cluster.members[frozen].client);
    let others = format!(
        "http://{}",
        rig.cluster.members[rig.cluster.leader()].client
    );
    let (first, second) = (rig.file("first"), rig.file("second"));
    let mut worker = rig.worker(&one, 4_000, &first);
    let begins = ["bash", "-c", BEAT, &second.display().to_string()];
    let mut next = rig.start(&others, 15_000, &begins);
    rig.cluster.members[frozen].pause();
    has_lost(&mut worker);
    assert_eq!(next.exit_code(SOON), 0, "{}", next.output());
    rig.cluster.members[frozen].resume();

    let (first, second) = (beats(&first), beats(&second));
    let (last, begin) = (first[first.len() - 1], second[0]);
    assert!(
        last.1 < begin.1 && last.0 < begin.0,
        "fences and times: {last:?}, then {begin:?}"
    );
    eprintln!(
        "{script}: {} ms between the last work of one and the first of the next",
        (begin.1 - last.1) * 10
    );
}

fn holds_on_when_the_leader_dies(script: &'static str) {
    const TTL: Duration = Duration::from_secs(10);
    let mut rig = Rig::of(3, script);
    let all = endpoints(&rig.cluster);
    let file = rig.file("work");
    let ttl_ms = u32::try_from(TTL.as_millis()).expect("it is short");
    let mut worker = rig.worker(&all, ttl_ms, &file);
    let begun = beats(&file).len();
    rig.cluster.members[rig.cluster.leader()].kill();
    // Longer than its lease would have lasted without renewals.
    wait::pass(TTL + TTL / 2, || false);
    assert_eq!(worker.exit_status(), None, "{}", worker.output());
    let work = beats(&file);
    assert!(
        work.len() > begun && work.iter().all(|beat| beat.0 == work[0].0),
        "under one fence"
    );
}

fn ends_its_command_when_an_operator_breaks_the_hold(script: &'static str) {
    let mut rig = Rig::of(1, script);
    let all = endpoints(&rig.cluster);
    let file = rig.file("work");
    let mut worker = rig.worker(&all, 4_000, &file);
    let fence = beats(&file)[0].0;
    let path = format!("/v1/locks/{ENCODED}?break=true&fence={fence}&reason=test");
    let mut client = rig.cluster.members[0].client().persistent();
    client.delete(&path).expect("it answers").expect(200);
    has_lost(&mut worker);
    let count = beats(&file).len();
    wait::pass(Duration::from_millis(200), || false);
    assert_eq!(beats(&file).len(), count, "nothing works on");
}

/// Runs a command as a user with few rights, whom a part of it takes those of root: `$ROOT COMMAND`. None where these
/// tests may not do so.
fn as_nobody(rig: &mut Rig, ttl_ms: u32, command: &str) -> Option<Process> {
    let root = as_root(rig.cluster.dir())?;
    let script = rig.file(rig.script);
    fs::copy(example(rig.script), &script).expect("it is copied");
    let mut run = program(script, &endpoints(&rig.cluster));
    run.env("TENURE_TTL_MS", ttl_ms.to_string())
        .env("ROOT", format!("{} --reuid 0", root.display()))
        .env("JOB", rig.file("job"))
        .args([LOCK, "bash", "-c", command])
        .uid(NOBODY)
        .gid(NOBODY);
    Some(Process::start(&mut run, &rig.file("nobody.log")))
}

/// Why the lock was last given free.
fn freed(rig: &Rig) -> String {
    let mut client = rig.cluster.members[0].client().persistent();
    wait::until("the lock is free again", SOON, || {
        let watch = format!("/v1/watch?resource=locks/{ENCODED}&after=0");
        let told = client.get(&watch).ok()?.json();
        let event = told["events"].as_array()?.last()?.clone();
        let reason = (event["type"] == "released").then(|| event["reason"].as_str());
        reason.flatten().map(str::to_owned)
    })
}

fn renews_for_a_command_that_no_signal_reaches(script: &'static str) {
    let mut rig = Rig::of(1, script);
    // Longer than a lease that is not renewed.
    let Some(mut run) = as_nobody(&mut rig, 2_000, "exec $ROOT bash -c 'sleep 4; exit 5'") else {
        return;
    };
    assert_eq!(run.exit_code(SOON), 5, "{}", run.output());
    assert_eq!(freed(&rig), "released");
}

fn gives_nothing_back_while_something_runs_that_it_cannot_end(script: &'static str) {
    let mut rig = Rig::of(1, script);
    let left = r#"$ROOT bash -c 'echo $$ >"$JOB"; exec sleep 60' & until test -s "$JOB"; do sleep 0.01; done; exit 3"#;
    let Some(mut run) = as_nobody(&mut rig, 3_000, left) else {
        return;
    };
    assert_eq!(run.exit_code(SOON), 3, "{}", run.output());
    let job = fs::read_to_string(rig.file("job")).expect("it has begun");
    let job = Pid::from_raw(job.trim().parse().expect("it is a number"));
    kill_process(job.expect("it is not zero"), Signal::KILL).expect("it lives");
    assert!(
        run.output()
            .contains("cannot be ended: the lock is left to its lease"),
        "{}",
        run.output()
    );
    assert_eq!(freed(&rig), "lease-ended");
}

/// Each claim is a test for each script.
macro_rules! claims {
    ($($claim:ident: $bash:ident, $python:ident;)*) => {$(
        #[test]
        fn $bash() {
            let _machine = machine::shared();
            $claim(SCRIPTS[0]);
        }

        #[test]
        fn $python() {
            let _machine = machine::shared();
            $claim(SCRIPTS[1]);
        }
    )*};
}

claims! {
    keeps_what_its_command_is_given: bash_keeps_what_its_command_is_given, python_keeps_what_its_command_is_given;
    refuses_where_the_lock_is_held: bash_refuses_where_the_lock_is_held, python_refuses_where_the_lock_is_held;
    asks_the_next_where_a_proxy_has_no_member:
        bash_asks_the_next_where_a_proxy_has_no_member, python_asks_the_next_where_a_proxy_has_no_member;
    says_who_it_is_by_a_token_where_that_is_asked:
        bash_says_who_it_is_by_a_token_where_that_is_asked, python_says_who_it_is_by_a_token_where_that_is_asked;
    asks_seldom_while_it_is_refused: bash_asks_seldom_while_it_is_refused, python_asks_seldom_while_it_is_refused;
    passes_signals_on_and_leaves_nothing_behind:
        bash_passes_signals_on_and_leaves_nothing_behind, python_passes_signals_on_and_leaves_nothing_behind;
    has_ended_its_command_before_the_next_begins:
        bash_has_ended_its_command_before_the_next_begins, python_has_ended_its_command_before_the_next_begins;
    holds_on_when_the_leader_dies: bash_holds_on_when_the_leader_dies, python_holds_on_when_the_leader_dies;
    renews_for_a_command_that_no_signal_reaches:
        bash_renews_for_a_command_that_no_signal_reaches, python_renews_for_a_command_that_no_signal_reaches;
    gives_nothing_back_while_something_runs_that_it_cannot_end:
        bash_gives_nothing_back_while_something_runs_that_it_cannot_end,
        python_gives_nothing_back_while_something_runs_that_it_cannot_end;
    ends_its_command_when_an_operator_breaks_the_hold:
        bash_ends_its_command_when_an_operator_breaks_the_hold, python_ends_its_command_when_an_operator_breaks_the_hold;
}
