//! Commands under a lock, permits or a leadership: arguments, environment, exit codes, waiting.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::common::{SOON, Setup, wait};
use crate::support::{begun, lives, ran, text_of, wait_for_lock};

fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).expect("it is positive") * 1000
        + u64::try_from(now.tv_nsec).expect("it is positive") / 1_000_000
}

#[test]
fn a_command_has_its_arguments_as_they_were_given_and_keeps_its_exit_code() {
    let cluster = Setup::of(1).start();
    let printed = ran(
        &cluster,
        [
            "lock", "jobs/a b", "--", "printf", "%s|", "$HOME", "a  b", "", "*", "it's", "--wait",
            "-c", "ü", "\\n",
        ],
    );
    assert_eq!(
        printed.expect(0).stdout,
        "$HOME|a  b||*|it's|--wait|-c|ü|\\n|"
    );
    ran(&cluster, ["lock", "a", "--", "sh", "-c", "exit 7"]).expect(7);
    ran(&cluster, ["lock", "a", "--", "sh", "-c", "kill -9 $$"]).expect(137);
    ran(&cluster, ["lock", "a", "--", "sh", "-c", "kill -TERM $$"]).expect(143);
    let missing = ran(&cluster, ["lock", "a", "--", "/nonexistent/program"]).expect(127);
    assert!(
        missing
            .stderr
            .contains("cannot run \"/nonexistent/program\""),
        "{}",
        missing.stderr
    );
    let plain = cluster.dir().join("plain");
    fs::write(&plain, "no program").expect("it is written");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("it is changed");
    let plain = plain.display().to_string();
    ran(&cluster, ["lock", "a", "--", &plain]).expect(126);
    // Nothing of all that is held any longer.
    ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(0);
}

#[test]
fn a_command_finds_in_its_environment_what_it_holds() {
    let cluster = Setup::of(1).start();
    let before = boot_ms();
    let found = ran(
        &cluster,
        [
            "lock",
            "jobs/a",
            "--",
            "sh",
            "-c",
            "echo $TENURE_LOCK; echo $TENURE_FENCE; echo $TENURE_LEASE; echo $TENURE_DEADLINE",
        ],
    );
    let found = found.expect(0).stdout;
    let lines: Vec<&str> = found.lines().collect();
    let [name, fence, lease, deadline] = lines[..] else {
        panic!("{found}");
    };
    assert_eq!(name, "jobs/a");
    assert!(fence.parse::<u64>().is_ok_and(|fence| fence > 1), "{fence}");
    assert!(lease.len() == 16 && lease.bytes().all(|digit| digit.is_ascii_hexdigit()));
    // 98 % of 15 s less 50 ms after some moment between.
    let deadline: u64 = deadline.parse().expect("it is a number");
    let earliest = before + 14_650 - 5_000;
    assert!(
        (earliest..=boot_ms() + 14_650).contains(&deadline),
        "{deadline} after {before}"
    );

    let permits = ran(
        &cluster,
        [
            "semaphore",
            "s",
            "--limit",
            "3",
            "--permits",
            "2",
            "--",
            "sh",
            "-c",
            "echo $TENURE_SEMAPHORE $TENURE_PERMITS",
        ],
    );
    assert_eq!(permits.expect(0).stdout, "s 2\n");
    let leads = ran(
        &cluster,
        [
            "elect",
            "e",
            "--candidate",
            "host-a",
            "--",
            "sh",
            "-c",
            "echo $TENURE_ELECTION $TENURE_CANDIDATE",
        ],
    );
    assert_eq!(leads.expect(0).stdout, "e host-a\n");
}

#[test]
fn who_only_tries_is_told_who_holds_and_who_waits_long_enough_is_granted() {
    let cluster = Setup::of(1).start();
    let release = cluster.dir().join("release");
    let wait_for = format!("until test -e {}; do sleep 0.01; done", release.display());
    let mut holder = begun(
        &cluster,
        "holder",
        ["lock", "a", "--", "sh", "-c", &wait_for],
    );
    wait_for_lock(&cluster, "a", 1, 0);

    let refused = ran(
        &cluster,
        ["lock", "a", "--wait", "0s", "--", "echo", "held"],
    )
    .expect(75);
    assert_eq!(refused.stdout, "");
    let holder_label = format!(":{}", holder.id());
    for part in ["lock a is held by", holder_label.as_str(), "--wait 1m"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let begin = Instant::now();
    ran(&cluster, ["lock", "a", "--wait", "600ms", "--", "true"]).expect(75);
    // A wait may end up to 5 % early.
    assert!(
        begin.elapsed() >= Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
    ran(
        &cluster,
        ["lock", "a", "--wait", "0s", "--shared", "--", "true"],
    )
    .expect(75);

    let mut next = begun(&cluster, "next", ["lock", "a", "--", "echo", "granted"]);
    wait_for_lock(&cluster, "a", 1, 1);
    fs::write(&release, "").expect("it is written");
    assert_eq!(holder.exit_code(SOON), 0, "{}", holder.output());
    assert_eq!(next.exit_code(SOON), 0, "{}", next.output());
    assert_eq!(next.output(), "granted\n");
}

#[test]
fn shared_holders_hold_together_and_permits_are_held_by_as_many_as_there_are() {
    let cluster = Setup::of(1).start();
    let inner = [
        "lock", "a", "--shared", "--wait", "0s", "--", "echo", "both",
    ];
    let outer = ["lock", "a", "--shared", "--", crate::support::TENURE]
        .into_iter()
        .chain(inner);
    assert_eq!(ran(&cluster, outer).expect(0).stdout, "both\n");

    let inner = ["semaphore", "s", "--limit", "3", "--wait", "0s"];
    let outer = |permits: &'static str| {
        [
            "semaphore",
            "s",
            "--limit",
            "3",
            "--permits",
            "2",
            "--",
            crate::support::TENURE,
        ]
        .into_iter()
        .chain(inner)
        .chain(["--permits", permits, "--", "echo", "granted"])
    };
    assert_eq!(ran(&cluster, outer("1")).expect(0).stdout, "granted\n");
    ran(&cluster, outer("2")).expect(75);
    let more = ran(
        &cluster,
        [
            "semaphore",
            "s",
            "--limit",
            "2",
            "--permits",
            "3",
            "--",
            "true",
        ],
    );
    assert!(
        more.expect(64)
            .stderr
            .contains("--permits 3 is more than --limit 2")
    );
}

#[test]
fn what_a_command_leaves_running_has_ended_before_the_lock_is_free() {
    let cluster = Setup::of(1).start();
    let left = cluster.dir().join("left");
    // It ignores TERM, and its parent is gone.
    let script = format!(
        "(trap '' TERM; while :; do sleep 0.05; done) & echo $! > {}; exit 3",
        left.display()
    );
    let ended = ran(
        &cluster,
        [
            "lock", "a", "--ttl", "4s", "--grace", "300ms", "--", "sh", "-c", &script,
        ],
    );
    assert!(ended.expect(3).stderr.contains("the rest is stopped"));
    assert!(!lives(&text_of(&left)));
    ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(0);
}

#[test]
fn who_holds_says_what_for_to_those_who_look_and_who_are_refused() {
    let cluster = Setup::of(1).start();
    let note = ["--note", "adding host-b", "--", "sleep", "60"];
    for (what, all) in [
        (&["lock", "a"][..], "locks"),
        (&["semaphore", "s", "--limit", "1"], "semaphores"),
    ] {
        let command = what.iter().copied().chain(note);
        let mut holder = begun(&cluster, all, command);
        let told = wait::until("it is shown", SOON, || {
            let table = ran(&cluster, [all]).expect(0).stdout;
            table.contains("  held  ").then_some(table)
        });
        assert!(
            told.contains(&format!(":{} (adding host-b)", holder.id())),
            "{told}"
        );
        let refused = what.iter().copied().chain(["--wait", "0s", "--", "true"]);
        let refused = ran(&cluster, refused).expect(75).stderr;
        assert!(refused.contains("(adding host-b) (fence"), "{refused}");
        holder.signal(rustix::process::Signal::TERM);
        holder.exit_code(SOON);
    }
}

/// What it was at may still be under way elsewhere: the delay is time for that.
#[test]
fn a_lock_whose_holder_died_is_granted_to_nobody_for_the_lock_delay() {
    let cluster = Setup::of(1).start();
    let arguments = [
        "lock",
        "a",
        "--ttl",
        "1s",
        "--lock-delay",
        "10s",
        "--",
        "sleep",
        "60",
    ];
    let mut holder = begun(&cluster, "holder", arguments);
    wait_for_lock(&cluster, "a", 1, 0);
    holder.signal(rustix::process::Signal::KILL);
    holder.exit_code(SOON);
    wait_for_lock(&cluster, "a", 0, 0);
    ran(&cluster, ["lock", "a", "--wait", "0s", "--", "true"]).expect(75);
    let mut waiter = begun(&cluster, "waiter", ["lock", "a", "--", "true"]);
    wait_for_lock(&cluster, "a", 0, 1);
    let looked = ran(&cluster, ["locks"]).expect(0).stdout;
    assert!(looked.contains("a: free for others in "), "{looked}");
    assert_eq!(waiter.exit_code(SOON), 0, "{}", waiter.output());
}
