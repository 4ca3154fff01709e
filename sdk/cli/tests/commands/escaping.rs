//! Commands that get away from their process group, from signals, or from those who watch them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Cluster, Process, SOON, Setup, wait};
use crate::rights::{NOBODY, as_root};
use crate::support::{
    TENURE, at, bare, begun, lives, ran, text_of, urls, wait_for_lock, wait_until_ended,
};

#[test]
fn what_has_left_the_group_has_ended_before_the_lock_is_free() {
    let cluster = Setup::of(1).start();
    for (name, starts) in [("timeout", "timeout 60"), ("session", "setsid")] {
        let left = cluster.dir().join(name);
        let deaf = format!(
            "trap \"\" TERM; echo $$ > {}; while :; do sleep 0.05; done",
            left.display()
        );
        let script = format!(
            "{starts} sh -c '{deaf}' & until test -s {}; do sleep 0.01; done; exit 3",
            left.display()
        );
        let ended = ran(
            &cluster,
            [
                "lock", "a", "--ttl", "4s", "--grace", "300ms", "--", "sh", "-c", &script,
            ],
        );
        assert!(ended.expect(3).stderr.contains("the rest is stopped"));
        assert!(!lives(&text_of(&left)), "{starts}");
    }
}

#[test]
fn what_has_left_the_group_of_a_killed_holder_is_ended_by_the_warden() {
    let cluster = Setup::of(1).start();
    let left = cluster.dir().join("left");
    let deaf = format!(
        "trap \"\" TERM; echo $$ > {}; while :; do sleep 0.05; done",
        left.display()
    );
    // Its parent has ended: it is a child of the holder, and of nobody once that was killed.
    let script = format!("(setsid sh -c '{deaf}' &); sleep 60");
    let options = ["--ttl", "20s", "--grace", "300ms", "--"];
    let command = ["lock", "a"].into_iter().chain(options);
    let mut holder = begun(&cluster, "holder", command.chain(["sh", "-c", &script]));
    text_of(&left);
    // The warden looks each 50 ms.
    std::thread::sleep(Duration::from_secs(1));
    holder.signal(Signal::KILL);
    assert_eq!(holder.exit_code(SOON), -9);
    wait_until_ended(&left);
}

#[test]
fn a_command_is_ended_although_nobody_reads_what_is_said_of_it() {
    let cluster = Setup::of(1).start();
    let left = cluster.dir().join("left");
    // Its own stderr is the pipe, too, which it fills; what it does not write waits for a reader.
    let script = format!(
        "trap '' TERM; perl -e 'use Fcntl; fcntl(STDERR, F_SETFL, O_NONBLOCK); 1 while syswrite(STDERR, \"x\"); \
         fcntl(STDERR, F_SETFL, 0)'; echo $$ > {}; while :; do sleep 0.05; done",
        left.display()
    );
    let options = ["--ttl", "20s", "--grace", "300ms", "--"];
    let command = ["lock", "a"].into_iter().chain(options);
    let mut holder = at(&cluster, command.chain(["sh", "-c", &script]))
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    text_of(&left);
    holder.kill().expect("it lives");
    holder.wait().expect("it has ended");
    wait_until_ended(&left);
}

#[test]
fn an_asking_in_doubt_is_not_told_as_not_applied_where_its_lease_may_live() {
    let cluster = Setup::of(1).start();
    let mut holder = begun(&cluster, "holder", ["lock", "a", "--", "sleep", "60"]);
    wait_for_lock(&cluster, "a", 1, 0);
    let arguments = [
        "-o",
        "json",
        "--timeout",
        "2s",
        "lock",
        "a",
        "--wait",
        "3s",
        "--ttl",
        "1m",
        "--",
        "true",
    ];
    let mut waiter = begun(&cluster, "waiter", arguments);
    wait_for_lock(&cluster, "a", 1, 1);
    cluster.members[0].pause();
    assert_eq!(waiter.exit_code(SOON * 2), 74, "{}", waiter.output());
    let said = waiter.output();
    assert!(said.contains("\"unknown\""), "{said}");
    assert!(said.contains("tenure lease revoke"), "{said}");
    cluster.members[0].resume();
    holder.signal(Signal::TERM);
    assert_eq!(holder.exit_code(SOON), 143, "{}", holder.output());
}

#[test]
fn a_command_is_not_started_when_its_hold_is_over_after_a_pause() {
    let cluster = Setup::of(1).start();
    let mut holder = begun(&cluster, "holder", ["lock", "a", "--", "sleep", "60"]);
    wait_for_lock(&cluster, "a", 1, 0);
    let ran_it = cluster.dir().join("ran");
    let script = format!("echo yes > {}", ran_it.display());
    let options = ["lock", "a", "--ttl", "2s", "--", "sh", "-c", &script];
    let mut waiter = begun(&cluster, "waiter", options);
    wait_for_lock(&cluster, "a", 1, 1);
    waiter.signal(Signal::STOP);
    holder.signal(Signal::TERM);
    assert_eq!(holder.exit_code(SOON), 143, "{}", holder.output());
    // Either it was granted and has ended with its lease, or its place has.
    wait_for_lock(&cluster, "a", 0, 0);
    waiter.signal(Signal::CONT);
    let code = waiter.exit_code(SOON);
    assert!([69, 76].contains(&code), "{code}: {}", waiter.output());
    assert!(!ran_it.exists(), "{}", waiter.output());
}

/// Starts a command under a lock as a user with few rights.
fn as_nobody(cluster: &Cluster, command: &[&str]) -> Process {
    let tenure = cluster.dir().join("tenure");
    fs::copy(TENURE, &tenure).expect("it is copied");
    let mut under = Command::new(&tenure);
    bare(&mut under)
        .args(["lock", "a", "--ttl", "4s", "--grace", "300ms", "--"])
        .args(command)
        .env("TENURE_ENDPOINTS", urls(cluster))
        .uid(NOBODY)
        .gid(NOBODY);
    Process::start(&mut under, &cluster.dir().join("holder"))
}

#[test]
fn who_may_not_stop_a_command_is_told_so_before_that_matters() {
    let cluster = Setup::of(1).start();
    let Some(as_root) = as_root(cluster.dir()) else {
        return;
    };
    let as_root = as_root.display().to_string();
    let mut holder = as_nobody(&cluster, &[&as_root, "--reuid", "0", "true"]);
    assert_eq!(holder.exit_code(SOON), 0, "{}", holder.output());
    let told = format!("{as_root} runs as another user, whom this one may not stop");
    assert!(holder.output().contains(&told), "{}", holder.output());

    // Hidden in a script, it is seen when it runs.
    let script = format!("{as_root} --reuid 0 sleep 60; exit 5");
    let mut holder = as_nobody(&cluster, &["sh", "-c", &script]);
    holder.wait_for_output("(sleep): it would run on if lock a were lost", SOON);
    let said = holder.output();
    let job = said
        .split("may not stop ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let job = job.and_then(|job| Pid::from_raw(job.parse().ok()?));
    kill_process(job.expect("it is named"), Signal::KILL).expect("it lives");
    assert_eq!(holder.exit_code(SOON), 5, "{}", holder.output());
    assert_eq!(said.matches("may not stop").count(), 1, "{said}");
}

#[test]
fn a_lock_is_not_given_up_while_a_process_runs_that_may_not_be_signalled() {
    let cluster = Setup::of(1).start();
    let Some(as_root) = as_root(cluster.dir()) else {
        return;
    };
    let left = cluster.dir().join("left");
    let script = format!(
        "{} --reuid 0 sh -c 'echo $$ > {}; exec sleep 60' & until test -s {}; do sleep 0.01; done",
        as_root.display(),
        left.display(),
        left.display()
    );
    let mut holder = as_nobody(&cluster, &["sh", "-c", &script]);
    let job = text_of(&left);
    wait::until("it is told", SOON, || {
        holder.output().contains("may not stop").then_some(())
    });
    ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(75);
    assert!(lives(&job) && holder.exit_status().is_none());
    let job = Pid::from_raw(job.trim().parse().expect("it is a number"));
    kill_process(job.expect("it is not zero"), Signal::KILL).expect("it lives");
    assert_eq!(holder.exit_code(SOON), 0, "{}", holder.output());
    ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(0);
}
