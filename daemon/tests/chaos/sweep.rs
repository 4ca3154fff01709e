//! A member killed at its K-th write or sync, for one K after another: while it takes writes, at a checkpoint, while it
//! receives a snapshot. Whatever it acknowledged is there afterwards.
//!
//! The first boot has a sweep of its own among the tests of processes. A few K of each kind are tried every day;
//! `TENURE_SWEEP=all` tries one after another until a session is survived.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::common::binary::tenured;
use crate::common::machine::{self, skip};
use crate::common::{Cluster, Member, Process, SOON, Setup, wait};
use crate::nemesis::Need;

/// Writes of a session: with a checkpoint in their midst.
const WRITES: usize = 24;
/// A checkpoint begins a second after the one before it.
const BETWEEN_WRITES: Duration = Duration::from_millis(70);
/// Nothing is written after the last for so long, so that the checkpoint of it is made.
const AFTER: Duration = Duration::from_millis(1_200);

/// Which K are tried: those given, or one after another from the first for as long as each is reached.
fn tries(few: &[usize]) -> Box<dyn Iterator<Item = usize> + '_> {
    match std::env::var("TENURE_SWEEP").is_ok_and(|which| which == "all") {
        true => Box::new(1..),
        false => Box::new(few.iter().copied()),
    }
}

#[test]
fn a_member_killed_at_any_write_or_sync_has_what_it_acknowledged() {
    const NAME: &str = "a_member_killed_at_any_write_or_sync_has_what_it_acknowledged";
    let _machine = machine::shared();
    if !Need::Strace.is_met() {
        return skip(NAME, "strace cannot inject signals");
    }
    let cluster = Setup::of(1).start();
    let mut acknowledged = BTreeMap::new();
    for (thread, call, few) in [
        ("tenured-log", "fdatasync", &[1, 2, 9][..]),
        ("tenured-log", "pwrite64", &[1, 4, 30][..]),
        ("tenured-state", "fdatasync", &[1, 2][..]),
        ("tenured-state", "pwrite64", &[1, 3, 7][..]),
    ] {
        let mut reached = Vec::new();
        for at in tries(few) {
            if !session_killed_at(&cluster, thread, call, at, &mut acknowledged) {
                break;
            }
            reached.push(at);
        }
        eprintln!("sweep: {thread} was killed at {call} {reached:?}");
        assert!(
            few[0] <= *reached.last().unwrap_or(&0),
            "{thread} made no {call}"
        );
    }
    assert!(
        acknowledged.len() > 20,
        "too few writes to prove anything: {}",
        acknowledged.len()
    );
}

/// Starts the member, kills it at the K-th call of a thread while it is written to, starts it and looks for all that it
/// ever acknowledged. Whether it came to the K-th call.
fn session_killed_at(
    cluster: &Cluster,
    thread: &str,
    call: &str,
    at: usize,
    acknowledged: &mut BTreeMap<String, u64>,
) -> bool {
    let member = &cluster.members[0];
    let mut strace = attach(
        cluster,
        thread,
        &format!("inject={call}:signal=KILL:when={at}"),
    );
    let mut client = member.client().with_patience(Duration::from_secs(2));
    for number in 0..WRITES {
        if !member.is_running() {
            break;
        }
        let key = format!("{thread}/{call}/{at}/{number}");
        if let Ok(answer) = client.put(&format!("/v1/keys/{key}"), key.as_bytes())
            && answer.status == 201
        {
            acknowledged.insert(key, answer.u64("mod_revision"));
        }
        wait::pass(BETWEEN_WRITES, || !member.is_running());
    }
    wait::pass(AFTER, || !member.is_running());
    let killed = !member.is_running();
    member.kill();
    strace.exit_code(SOON);
    member.start();
    cluster.wait_until_ready();
    let mut client = member.client();
    for (key, revision) in &*acknowledged {
        let answer = client
            .get(&format!("/v1/keys/{key}"))
            .expect("the member answers");
        let answer = answer.expect(200);
        assert_eq!(
            (&answer.text(), answer.header("tenure-mod-revision")),
            (key, Some(revision.to_string().as_str())),
            "after a kill at {call} {at} of {thread}"
        );
    }
    killed
}

/// Attaches to the thread of that name; returns when it is so.
fn attach(cluster: &Cluster, thread: &str, inject: &str) -> Process {
    let member = &cluster.members[0];
    let tasks = format!("/proc/{}/task", member.with(|process| process.id()));
    let id = wait::until("the thread is there", SOON, || {
        let mut ids = fs::read_dir(&tasks).ok()?.filter_map(|task| {
            let task = task.ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            (name.trim_end() == thread).then(|| task.file_name().display().to_string())
        });
        ids.next()
    });
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", inject, "-p", &id]);
    let strace = Process::start(&mut strace, &cluster.dir().join("strace.log"));
    wait::until("the thread is traced", SOON, || {
        let status = fs::read_to_string(format!("{tasks}/{id}/status")).ok()?;
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    strace
}

/// More than the log keeps for members that were away.
const AWAY_MIB: usize = 20;

#[test]
fn a_member_killed_at_any_sync_while_it_receives_a_snapshot_catches_up() {
    const NAME: &str = "a_member_killed_at_any_sync_while_it_receives_a_snapshot_catches_up";
    let _machine = machine::shared();
    if !Need::Strace.is_met() {
        return skip(NAME, "strace cannot inject signals");
    }
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let away = cluster.follower();
    let member = &cluster.members[away];
    let mut reached = Vec::new();
    for at in tries(&[1, 3]) {
        member.kill();
        leave_behind(&cluster, leader, at);
        if !receives_killed_at(member, at) {
            break;
        }
        reached.push(at);
        member.kill();
        member.start();
        cluster.wait_until_ready();
        cluster.wait_until_equal();
    }
    eprintln!("sweep: killed at syncs {reached:?} while a snapshot was due");
    assert!(!reached.is_empty(), "no sync was reached");
    let installed = fs::read_to_string(&member.log).unwrap_or_default();
    assert!(
        installed.contains("installed"),
        "no snapshot was ever received"
    );
}

/// Writes until the log of the leader no longer has what a member that is away lacks.
fn leave_behind(cluster: &Cluster, leader: usize, turn: usize) {
    let mut client = cluster.members[leader].client();
    let mut value = vec![b'x'; 1 << 20];
    for number in 0..AWAY_MIB {
        value[..16].copy_from_slice(format!("{turn:08}{number:08}").as_bytes());
        let put = client.put(&format!("/v1/keys/large/{number}"), &value);
        let answer = put.expect("the member answers");
        assert!(answer.status < 300, "{}", answer.text());
    }
    // The log is compacted behind a checkpoint, which begins a second after the one before it.
    for turn in 0..8 {
        wait::pass(Duration::from_millis(400), || false);
        let put = client.put(&format!("/v1/keys/turn/{turn}"), b"x");
        put.expect("the member answers");
    }
}

/// Starts a member that is killed at its K-th sync; whether it came to that before it had caught up.
fn receives_killed_at(member: &Member, at: usize) -> bool {
    let inject = format!("inject=fdatasync,fsync:signal=KILL:when={at}");
    let mut strace = Command::new("strace");
    // The tracer is a grandchild, so that our child is the member itself.
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject]);
    member.start_as(strace.arg(tenured()).args(member.arguments()));
    let mut killed = false;
    wait::until("it is killed or has caught up", SOON * 2, || {
        killed = !member.is_running();
        (killed || member.is_ready()).then_some(())
    });
    killed
}
