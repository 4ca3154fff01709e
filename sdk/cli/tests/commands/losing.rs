//! What happens to a command whose hold cannot be kept: it has ended before the next holder begins.
//!
//! All times are of one clock, that of this machine, as the commands themselves write them down.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{Cluster, Process, SOON, Setup, wait};
use crate::support::{at, begun, ran, text_of, wait_for_lock};

/// Writes down the time again and again; what is given is done first.
fn beats(first: &str) -> String {
    format!("{first} {BEAT}")
}

const BEAT: &str = "while :; do date +%s%N >> $BEATS; done";

/// The last time that was written whole.
fn last_beat(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).expect("it was written");
    let whole = &text[..=text.rfind('\n').expect("a line is whole")];
    let times = whole
        .lines()
        .map(|line| line.parse().expect("it is a number"));
    times.max().expect("there is a line")
}

/// A holder that asks one member only, and somebody who waits at the others.
struct Pair {
    cluster: Cluster,
    member: usize,
    holder: Process,
    next: Process,
}

impl Pair {
    fn start(first: &str, options: &[&str]) -> Pair {
        let cluster = Setup::of(3).start();
        let member = cluster.follower();
        let file = cluster.dir().join("beats");
        let url = format!("http://{}", cluster.members[member].client);
        let mut command = at(&cluster, ["--endpoints", &url, "--only-given", "lock", "a"]);
        command
            .args(options)
            .args(["--", "sh", "-c", &beats(first)]);
        command.env("BEATS", &file);
        let holder = Process::start(&mut command, &cluster.dir().join("holder"));
        text_of(&file);

        let other = format!("http://{}", cluster.members[(member + 1) % 3].client);
        let begins = format!("date +%s%N > {}", cluster.dir().join("begin").display());
        let arguments = [
            "--endpoints",
            &other,
            "--only-given",
            "lock",
            "a",
            "--ttl",
            "20s",
            "--",
            "sh",
            "-c",
            &begins,
        ];
        let next = begun(&cluster, "next", arguments);
        let mut pair = Pair {
            cluster,
            member,
            holder,
            next,
        };
        pair.wait_until_queued();
        pair
    }

    /// On a busy machine the holder may have lost before, and the next is granted already.
    fn wait_until_queued(&mut self) {
        wait::until("the next holder waits", SOON, || {
            let lock = crate::support::lock(&self.cluster, "a")?;
            (lock["queue_length"] == 1 || self.next.exit_status().is_some()).then_some(())
        });
    }

    /// How long after the last sign of life of the first command the next began.
    fn gap(&mut self) -> Duration {
        self.gap_after(76)
    }

    /// The same, where the holder ended in this way.
    fn gap_after(&mut self, code: i32) -> Duration {
        assert_eq!(
            self.holder.exit_code(SOON * 2),
            code,
            "{}",
            self.holder.output()
        );
        assert_eq!(self.next.exit_code(SOON * 2), 0, "{}", self.next.output());
        let last = last_beat(&self.cluster.dir().join("beats"));
        let begin = text_of(&self.cluster.dir().join("begin"));
        let begin: u64 = begin.trim().parse().expect("it is a number");
        assert!(
            begin > last,
            "the next began {} ns before the end",
            last - begin
        );
        Duration::from_nanos(begin - last)
    }
}

fn check_cut_off(first: &str, options: &[&str]) {
    let mut pair = Pair::start(first, options);
    pair.cluster.members[pair.member].pause();
    let gap = pair.gap();
    println!("{first:?} {options:?}: the next began {gap:?} after the last sign of life");
    pair.cluster.members[pair.member].resume();
    let said = pair.holder.output();
    assert!(
        said.contains("is lost") && said.contains("the command is stopped"),
        "{said}"
    );
}

#[test]
fn a_command_that_ignores_term_has_ended_before_the_next_holder_begins() {
    check_cut_off("trap '' TERM INT HUP;", &["--ttl", "3s"]);
}

#[test]
fn a_command_that_heeds_term_has_ended_before_the_next_holder_begins() {
    check_cut_off("", &["--ttl", "3s"]);
}

#[test]
fn a_command_with_the_shortest_ttl_has_ended_before_the_next_holder_begins() {
    check_cut_off("trap '' TERM;", &["--ttl", "1s"]);
}

#[test]
fn a_whole_family_that_ignores_term_has_ended_before_the_next_holder_begins() {
    // Children of children, one of which has lost its parent, write into the same file.
    check_cut_off(
        &format!("trap '' TERM; (sh -c '{BEAT}' & sh -c '{BEAT}' &);"),
        &["--ttl", "3s"],
    );
}

#[test]
fn a_command_whose_holder_is_stopped_itself_has_ended_before_the_next_holder_begins() {
    let mut pair = Pair::start("trap '' TERM;", &["--ttl", "3s"]);
    // A debugger, or a hand: only the program that renews is stopped, not the command.
    pair.holder.signal(Signal::STOP);
    assert_eq!(pair.next.exit_code(SOON), 0, "{}", pair.next.output());
    pair.holder.signal(Signal::CONT);
    let gap = pair.gap();
    println!("the holder was stopped: the next began {gap:?} after the last sign of life");
}

#[test]
fn a_command_that_ended_well_while_its_holder_was_stopped_is_not_told_as_lost() {
    // The news of the end and of the deadline come at once: by lot, which is the first.
    const HOLDERS: usize = 8;
    let cluster = Setup::of(1).start();
    let path = |name: &str| cluster.dir().join(name).display().to_string();
    let (end, lost) = (path("end"), path("lost"));
    let on_lost = format!("sh -c 'echo >> {lost}'");
    let names: Vec<String> = (0..HOLDERS).map(|n| format!("a{n}")).collect();
    let holder = |name: &String| {
        let ready = path(name);
        let script = format!("echo > {ready}; until test -e {end}; do sleep 0.01; done");
        let options = [
            "--ttl",
            "4s",
            "--on-lost",
            &on_lost,
            "--",
            "sh",
            "-c",
            &script,
        ];
        let arguments = ["lock", name].into_iter().chain(options);
        let holder = begun(&cluster, &format!("holder-{name}"), arguments);
        text_of(Path::new(&ready));
        holder
    };
    let mut holders: Vec<Process> = names.iter().map(holder).collect();
    for holder in &mut holders {
        holder.signal(Signal::STOP);
    }
    std::fs::write(&end, "").expect("it is written");
    for name in &names {
        wait_for_lock(&cluster, name, 0, 0);
    }
    for holder in &mut holders {
        holder.signal(Signal::CONT);
    }
    for holder in &mut holders {
        assert_eq!(holder.exit_code(SOON), 0, "{}", holder.output());
    }
    assert!(!Path::new(&lost).exists(), "nothing was lost");
}

#[test]
fn a_command_whose_holder_was_killed_has_ended_before_the_next_holder_begins() {
    // So long that it is not lost before, also where the machine is busy.
    let mut pair = Pair::start("trap '' TERM;", &["--ttl", "20s", "--grace", "500ms"]);
    pair.holder.signal(Signal::KILL);
    assert_eq!(pair.holder.exit_code(SOON), -9);
    let gap = pair.gap_after(-9);
    println!("the holder was killed: the next began {gap:?} after the last sign of life");
    assert!(
        pair.holder.output().contains("was killed"),
        "{}",
        pair.holder.output()
    );
}

#[test]
fn a_command_is_stopped_before_its_deadline_when_the_whole_cluster_freezes() {
    const TTL: Duration = Duration::from_secs(3);
    let cluster = Setup::of(3).start();
    let file = cluster.dir().join("beats");
    let script = beats("trap '' TERM;");
    let mut command = at(
        &cluster,
        ["lock", "a", "--ttl", "3s", "--", "sh", "-c", &script],
    );
    let command = command.env("BEATS", &file);
    let mut holder = Process::start(command, &cluster.dir().join("holder"));
    text_of(&file);
    for member in &cluster.members {
        member.pause();
    }
    // No renewal is received after this moment; one received before it holds for the TTL at most.
    let frozen = last_beat(&file);
    assert_eq!(holder.exit_code(SOON), 76, "{}", holder.output());
    let last = last_beat(&file);
    let ran_on = Duration::from_nanos(last.saturating_sub(frozen));
    println!("the command ran on for {ran_on:?} of {TTL:?}");
    assert!(ran_on < TTL, "{ran_on:?}");
    for member in &cluster.members {
        member.resume();
    }
    cluster.wait_until_ready();
    ran(&cluster, ["lock", "a", "--wait", "1m", "--", "true"]).expect(0);
}

#[test]
fn a_hold_survives_an_outage_that_is_shorter_than_its_lease() {
    let cluster = Setup::of(3).start();
    let done = cluster.dir().join("done");
    let script = format!(
        "until test -e {}; do sleep 0.01; done; exit 9",
        done.display()
    );
    let mut holder = begun(
        &cluster,
        "holder",
        ["lock", "a", "--ttl", "20s", "--", "sh", "-c", &script],
    );
    wait_for_lock(&cluster, "a", 1, 0);
    cluster.kill_all();
    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    wait_for_lock(&cluster, "a", 1, 0);
    std::fs::write(&done, "").expect("it is written");
    assert_eq!(holder.exit_code(SOON), 9, "{}", holder.output());
}

#[test]
fn a_command_whose_lease_was_revoked_is_stopped_and_on_lost_is_run_with_the_reason() {
    let cluster = Setup::of(1).start();
    let (ready, lost) = (cluster.dir().join("ready"), cluster.dir().join("lost"));
    let script = format!("echo $TENURE_LEASE > {}; sleep 60", ready.display());
    let on_lost = format!(
        "sh -c 'echo \"$TENURE_LOCK: $TENURE_LOSS\" > {}'",
        lost.display()
    );
    let options = [
        "lock",
        "a",
        "--ttl",
        "2s",
        "--on-lost",
        &on_lost,
        "--",
        "sh",
        "-c",
        &script,
    ];
    let mut holder = begun(&cluster, "holder", options);
    let lease = text_of(&ready);
    ran(&cluster, ["lease", "revoke", lease.trim()]).expect(0);
    assert_eq!(holder.exit_code(SOON), 76, "{}", holder.output());
    assert_eq!(text_of(&lost), "a: the cluster has ended the lease\n");
}

#[test]
fn a_command_that_nothing_renews_for_is_stopped_and_on_lost_is_run_where_it_can_be() {
    let cluster = Setup::of(1).start();
    let path = |cluster: &Cluster, name: &str| cluster.dir().join(name);
    let lost = path(&cluster, "lost");
    let on_lost = format!(
        "sh -c 'echo \"$TENURE_LOCK: $TENURE_LOSS\" > {}'",
        lost.display()
    );
    let mut holders = Vec::new();
    for (name, on_lost) in [("a", on_lost.as_str()), ("b", "/no/such/program")] {
        let ready = path(&cluster, name);
        let script = format!("echo > {}; exec sleep 60", ready.display());
        let options = [
            "lock",
            name,
            "--ttl",
            "2s",
            "--on-lost",
            on_lost,
            "--",
            "sh",
            "-c",
            &script,
        ];
        holders.push(begun(&cluster, &format!("holder-{name}"), options));
        text_of(&ready);
    }
    cluster.members[0].kill();
    for holder in &mut holders {
        assert_eq!(holder.exit_code(SOON), 76, "{}", holder.output());
    }
    assert_eq!(
        text_of(&lost),
        "a: the lease could not be renewed before its local deadline\n"
    );
    let told = holders[1].output();
    assert!(
        told.contains("--on-lost: cannot run \"/no/such/program\""),
        "{told}"
    );
}

#[test]
fn a_broken_hold_is_told_in_two_steps_and_its_command_is_stopped() {
    let cluster = Setup::of(1).start();
    let ready = cluster.dir().join("ready");
    let script = format!("echo $TENURE_FENCE > {}; sleep 60", ready.display());
    let mut holder = begun(
        &cluster,
        "holder",
        ["lock", "a", "--ttl", "3s", "--", "sh", "-c", &script],
    );
    let fence = text_of(&ready);
    let fence = fence.trim();
    let which = ran(&cluster, ["break", "lock", "a"]).expect(0);
    let line = format!("tenure break lock a --fence {fence} --reason");
    assert!(which.stdout.contains(&line), "{}", which.stdout);
    let wire = ran(&cluster, ["break", "lock", "a", "-o", "json"]).expect(0);
    assert_eq!(wire.json()["holders"][0]["fence"].to_string(), fence);
    assert!(
        holder.exit_status().is_none(),
        "nothing was broken by asking"
    );
    ran(
        &cluster,
        ["break", "lock", "a", "--fence", "1", "--reason", "a test"],
    )
    .expect(2);
    let why = ran(&cluster, ["break", "lock", "a", "--fence", fence]).expect(64);
    assert!(why.stderr.contains("--reason"), "{}", why.stderr);
    let broken = ran(
        &cluster,
        ["break", "lock", "a", "--fence", fence, "--reason", "a test"],
    );
    let broken = broken.expect(0).stdout;
    assert!(broken.contains("1 hold ended, free for others"), "{broken}");
    assert_eq!(holder.exit_code(SOON), 76, "{}", holder.output());
    ran(&cluster, ["lock", "a", "--wait", "1m", "--", "true"]).expect(0);
    ran(&cluster, ["break", "lock", "a"]).expect(2);
}

#[test]
fn a_leader_that_lost_its_cluster_is_stopped_and_somebody_else_leads() {
    let cluster = Setup::of(1).start();
    let ready = cluster.dir().join("ready");
    let script = format!(
        "trap '' TERM; echo yes > {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let mut leads = begun(
        &cluster,
        "leads",
        [
            "elect", "e", "--ttl", "2s", "--value", "a", "--", "sh", "-c", &script,
        ],
    );
    text_of(&ready);
    cluster.members[0].pause();
    assert_eq!(leads.exit_code(SOON), 76, "{}", leads.output());
    cluster.members[0].resume();
    cluster.wait_until_ready();
    ran(&cluster, ["elect", "e", "--wait", "1m", "--", "true"]).expect(0);
    leads.signal(Signal::TERM);
}
