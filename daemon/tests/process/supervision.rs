//! A member under a service manager: what it says, when it is ready, when it is killed, and how it is told to reload.
//!
//! Here the service manager is a socket; `systemd/test.sh` has a real one.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::machine::{can_inject, skip};
use crate::common::{Cluster, Member, Process, SOON, Setup, machine, wait};

/// The socket of a service manager.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn in_dir(dir: &Path) -> Manager {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("the socket can be bound");
        socket.set_nonblocking(true).expect("it need not wait");
        Manager { path, socket }
    }

    /// Starts a member under it, with a watchdog that waits for so long.
    fn start(&self, member: &Member, watchdog: Duration) {
        let mut command = Command::new("sh");
        // The watchdog is meant for one process, whose id only it knows.
        command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]);
        let tenured = Process::tenured(member.arguments());
        command.arg(tenured.get_program()).args(tenured.get_args());
        command.env("NOTIFY_SOCKET", &self.path);
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        member.start_as(&mut command);
    }

    /// The next thing it is told.
    fn heard(&self) -> Option<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    /// What it is told up to something that has this text.
    fn hear_until(&self, text: &str) -> Vec<String> {
        self.hear_until_one_of(&[text])
    }

    /// What it is told up to something that has one of these texts.
    fn hear_until_one_of(&self, texts: &[&str]) -> Vec<String> {
        let mut heard = Vec::new();
        let found = wait::found(SOON, || {
            let message = self.heard()?;
            let is_it = texts.iter().any(|text| message.contains(text));
            heard.push(message);
            is_it.then_some(())
        });
        assert!(found.is_some(), "none of {texts:?} was said: {heard:#?}");
        heard
    }
}

fn one_member() -> (Cluster, Manager) {
    let cluster = Setup::of(1).prepare();
    let manager = Manager::in_dir(cluster.dir());
    (cluster, manager)
}

fn has(messages: &[String], text: &str) -> bool {
    messages.iter().any(|message| message.contains(text))
}

#[test]
fn a_member_is_ready_and_fed_without_a_quorum_and_says_that_there_is_none() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.kill_all();
    let manager = Manager::in_dir(cluster.dir());
    let alone = &cluster.members[0];
    manager.start(alone, Duration::from_secs(2));
    let before = manager.hear_until("READY=1");
    assert!(before[0].contains("STATUS=recovering"), "{before:?}");
    assert!(!has(&before, "WATCHDOG=1"), "{before:?}");
    manager.hear_until("STATUS=NO LEADER");
    // Fed again and again, for longer than the watchdog waits.
    for _ in 0..8 {
        manager.hear_until("WATCHDOG=1");
    }
    cluster.members[1].start();
    manager.hear_until_one_of(&["STATUS=leads in term", "STATUS=follows n2 in term"]);
    alone.signal(Signal::TERM);
    manager.hear_until("STOPPING=1");
    assert_eq!(alone.exit_code(Duration::from_secs(10)), 0);
}

#[test]
fn a_member_whose_log_is_stuck_feeds_no_watchdog_until_it_moves_again() {
    const NAME: &str = "a_member_whose_log_is_stuck_feeds_no_watchdog_until_it_moves_again";
    let _machine = machine::shared();
    if !can_inject() {
        return skip(NAME, "strace cannot delay calls");
    }
    let (cluster, manager) = one_member();
    let member = &cluster.members[0];
    manager.start(member, Duration::from_secs(3));
    manager.hear_until("STATUS=leads");
    manager.hear_until("WATCHDOG=1");
    let id = member.with(|process| process.id()).to_string();
    let inject = "inject=fdatasync,fsync:delay_enter=6000000:when=1";
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", inject, "-p", &id]);
    let mut strace = Process::start(&mut strace, &cluster.dir().join("strace.log"));
    strace.wait_for_output("attached", SOON);
    let mut client = member.client();
    let put = std::thread::spawn(move || client.put("/v1/keys/slow", b"x"));
    manager.hear_until("STATUS=STUCK: tenured-log has not moved for 2 s");
    let fed = manager.hear_until("WATCHDOG=1");
    let (moves_again, stuck) = fed.split_last().expect("it is told at least that");
    assert!(moves_again.contains("STATUS="), "{fed:?}");
    assert!(!has(stuck, "WATCHDOG"), "{fed:?}");
    // Its write was only slow.
    let put = put.join().expect("the client does not panic");
    put.expect("the member answers");
    strace.signal(Signal::TERM);
    let log = member.output();
    assert!(log.contains("STUCK: tenured-log"), "{log}");
    assert!(log.contains("every thread moves again"), "{log}");
}

fn reload(config: &Path) -> Output {
    let mut command = Process::tenured(["reload", "--config"]);
    let output = command.arg(config).output();
    output.expect("tenured can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_reload_takes_over_what_it_can_refuses_a_mistake_and_is_answered_either_way() {
    let _machine = machine::shared();
    let (mut cluster, manager) = one_member();
    let config = cluster.dir().join("tenured.toml");
    let data_dir = cluster.members[0].data_dir.display().to_string();
    let write = |more: &str| {
        let written = format!("data_dir = {data_dir:?}\n{more}\n");
        fs::write(&config, written).expect("the file can be written");
    };
    write("log_filter = \"info\"");
    let refused = reload(&config);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("no member answers at"), "{told}");

    cluster.members[0]
        .settings
        .push(("config", config.display().to_string()));
    let member = &cluster.members[0];
    manager.start(member, Duration::from_secs(30));
    manager.hear_until("READY=1");
    member.wait_until_ready();

    write("log_filter = \"debug\"\nmax_waits = 9\nlimits = { keys_per_revision = 5000 }");
    let reloaded = reload(&config);
    let told = text(&reloaded.stdout);
    assert_eq!(
        reloaded.status.code(),
        Some(0),
        "{}",
        text(&reloaded.stderr)
    );
    assert_eq!(
        told,
        "in force now: log_filter\nat the next start: max_waits\nonly when a cluster is formed: limits\n"
    );
    manager.hear_until("RELOADING=1\nMONOTONIC_USEC=");
    manager.hear_until("READY=1");
    let debug = || member.output().matches("DEBUG").count();
    let lines_of = |before: usize| (debug() > before).then_some(());
    wait::until("lines of the new filter are written", SOON, || {
        let _ = member.client().get("/v1/status");
        lines_of(0)
    });

    // A mistake that only the member can see, and one that whoever asks sees already.
    for (mistake, named) in [
        (
            "log_filter = \"tenured=loud\"",
            "log_filter is \"tenured=loud\"",
        ),
        ("max_waits = 0\nlog_filter = \"off\"", "max_waits is \"0\""),
        ("log_filterr = \"info\"", "log_filterr"),
        ("log_filter = ", "is not valid"),
    ] {
        write(mistake);
        let refused = reload(&config);
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{mistake}: {told}");
        assert!(told.contains(named), "{mistake}: {told}");
    }
    let before = debug();
    wait::until(
        "the filter is still that of the last good file",
        SOON,
        || {
            let _ = member.client().get("/v1/status");
            lines_of(before)
        },
    );

    write("log_filter = \"warn\"");
    member.signal(Signal::HUP);
    manager.hear_until("RELOADING=1");
    // `info` is off when this is over, so that the member says nothing of it; a second time nothing differs.
    wait::until("the signal has done the same", SOON, || {
        let again = reload(&config);
        (text(&again.stdout) == "no setting differs from those in force\n").then_some(())
    });
    assert!(member.is_running());
}
