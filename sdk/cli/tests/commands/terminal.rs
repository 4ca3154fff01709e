//! A command that reads the terminal, Ctrl-C and Ctrl-Z, on a real pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::{Cluster, SOON, Setup, wait};
use crate::support::{TENURE, bare, text_of, urls, wait_for_lock};

/// A session of its own on a terminal of its own.
struct Session {
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
    shell: Child,
}

impl Session {
    /// Runs a shell script as if it were typed by somebody at a terminal.
    fn start(cluster: &Cluster, shell: &[&str]) -> Session {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there is a terminal");
        grantpt(&keys)
            .and_then(|()| unlockpt(&keys))
            .expect("it is ours");
        let name = ptsname(&keys, Vec::new()).expect("it has a name");
        let terminal = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let terminal = terminal.expect("it can be opened");
        let file =
            |terminal: &OwnedFd| Stdio::from(terminal.try_clone().expect("it has another handle"));
        let mut command = Command::new("setsid");
        bare(&mut command)
            .args(["--ctty", "--wait"])
            .args(shell)
            .env("TENURE_ENDPOINTS", urls(cluster))
            .env("TENURE", TENURE)
            .env("PS1", "prompt> ")
            .stdin(file(&terminal))
            .stdout(file(&terminal))
            .stderr(file(&terminal));
        let shell = command.spawn().expect("setsid is there");
        let keys = File::from(keys);
        let mut screen = keys.try_clone().expect("it has another handle");
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = screen.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Session {
            keys,
            shown,
            text: String::new(),
            shell,
        }
    }

    fn type_in(&mut self, text: &str) {
        self.keys
            .write_all(text.as_bytes())
            .expect("the terminal takes it");
    }

    /// Waits until it is shown behind what was waited for before.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let found = wait::found(SOON, || {
            while let Ok(bytes) = self.shown.try_recv() {
                self.text += &String::from_utf8_lossy(&bytes);
            }
            let at = self.text.find(text)?;
            self.text.drain(..at + text.len());
            Some(())
        });
        assert!(found.is_some(), "{text:?} is not shown: {:?}", self.text);
    }

    fn code(&mut self) -> i32 {
        let status = wait::until("the session has ended", SOON, || {
            self.shell.try_wait().expect("it is ours")
        });
        status.code().unwrap_or(-1)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whatever still runs there is told that its terminal is gone.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_command_reads_the_terminal_and_so_does_the_script_behind_it() {
    let cluster = Setup::of(1).start();
    let script = "$TENURE lock a -- sh -c 'read line; echo \"inner $line.\"'; echo ended $?; read line; echo \"outer $line.\"";
    let mut session = Session::start(&cluster, &["sh", "-c", script]);
    wait_for_lock(&cluster, "a", 1, 0);
    session.type_in("one\n");
    session.wait_for("inner one.");
    session.wait_for("ended 0");
    session.type_in("two\n");
    session.wait_for("outer two.");
    assert_eq!(session.code(), 0);
}

#[test]
fn who_waits_at_a_terminal_is_told_for_what() {
    let cluster = Setup::of(1).start();
    let script = "$TENURE lock a -- $TENURE lock a --wait 3s -- true; echo ended $?";
    let mut session = Session::start(&cluster, &["sh", "-c", script]);
    session.wait_for("waiting for lock a: `tenure locks a` shows who holds it");
    session.wait_for("ended 75");
}

#[test]
fn a_value_at_a_terminal_is_asked_for_and_its_line_is_ended_when_it_is_shown() {
    let cluster = Setup::of(1).start();
    let script = "$TENURE put a; $TENURE get a; echo ended $?";
    let mut session = Session::start(&cluster, &["sh", "-c", script]);
    session.wait_for("reading the value from the terminal: end it with Ctrl-D");
    // The first ends the line that was begun, the second the file.
    session.type_in("hello\u{4}\u{4}");
    session.wait_for("a  revision ");
    session.wait_for("hello\r\nended 0");
}

#[test]
fn ctrl_c_ends_the_command_and_frees_the_lock() {
    let cluster = Setup::of(1).start();
    // No shell: dash forgets a Ctrl-C until its next command has ended, where it comes while it starts that one.
    let script = "$TENURE lock a -- cat; echo ended $?";
    // Of the shells, only one with job control sets the script apart from what it runs.
    let mut session = Session::start(
        &cluster,
        &["bash", "--norc", "-c", &format!("set -m; {script}")],
    );
    session.type_in("begun\n");
    // The terminal shows it once, and once more whoever reads it.
    session.wait_for("begun\r\n");
    session.wait_for("begun\r\n");
    session.type_in("\u{3}");
    session.wait_for("ended 130");
    wait_for_lock(&cluster, "a", 0, 0);
}

#[test]
fn ctrl_z_stops_both_and_the_lock_is_kept_when_they_go_on_in_time() {
    let cluster = Setup::of(1).start();
    let mut session = Session::start(&cluster, &["bash", "--norc", "--noediting", "-i"]);
    session.wait_for("prompt> ");
    session.type_in(
        "$TENURE lock a --ttl 20s -- sh -c 'echo be\"\"gun; read line; echo \"got $line.\"'\n",
    );
    session.wait_for("begun");
    session.type_in("\u{1a}");
    session.wait_for("Stopped");
    session.wait_for("prompt> ");
    session.type_in("fg\n");
    session.type_in("one\n");
    session.wait_for("got one.");
    session.wait_for("prompt> ");
    session.type_in("echo code $?\n");
    session.wait_for("code 0");
    session.type_in("exit\n");
    assert_eq!(session.code(), 0);
    wait_for_lock(&cluster, "a", 0, 0);
}

#[test]
fn a_command_that_was_stopped_for_longer_than_its_lease_does_not_go_on() {
    let cluster = Setup::of(1).start();
    let mut session = Session::start(&cluster, &["bash", "--norc", "--noediting", "-i"]);
    session.wait_for("prompt> ");
    let ticks = "while :; do sleep 0.01; echo ti\"\"ck; done";
    // Not by a shell that starts programs by vfork: one that was stopped before it is a program keeps its shell from stopping.
    session.type_in(&format!("$TENURE lock a --ttl 1s -- bash -c '{ticks}'\n"));
    session.wait_for("tick");
    session.type_in("\u{1a}");
    session.wait_for("Stopped");
    session.wait_for("prompt> ");
    // It ends with its lease.
    wait_for_lock(&cluster, "a", 0, 0);
    session.type_in("fg\n");
    session.wait_for("is lost");
    session.wait_for("prompt> ");
    let after = session.text.clone();
    session.type_in("echo code $?\n");
    session.wait_for("code 76");
    assert!(!after.contains("tick"), "{after:?}");
}

#[test]
fn a_terminal_is_set_as_before_when_the_command_was_killed() {
    let cluster = Setup::of(1).start();
    let script = "$TENURE lock a -- sh -c 'stty -echo; kill -9 $$'; echo ended $?; stty -a";
    let mut session = Session::start(&cluster, &["sh", "-c", script]);
    session.wait_for("ended 137");
    // Not "-echo echoe".
    session.wait_for(" echo echoe ");
    assert_eq!(session.code(), 0);
}

/// A watch at a terminal, with its stdin from elsewhere or not, whose command tells how often it was interrupted; and the
/// process of the watch.
fn watch(cluster: &Cluster, redirected: &str) -> (Session, String) {
    let (command, watch) = (cluster.dir().join("count.pl"), cluster.dir().join("watch"));
    let counts = format!(
        "$| = 1; my $n = 0; $SIG{{INT}} = sub {{ $n++ }}; open W, '>', '{}'; print W getppid, \"\\n\"; close W; \
         sleep 60 while !$n; my $end = time + 2; select undef, undef, undef, 0.1 while time < $end; \
         print \"$n in all\\n\"",
        watch.display()
    );
    std::fs::write(&command, counts).expect("it is written");
    let script = format!(
        "set -m; $TENURE watch keys/ --exec 'perl {}' {redirected}; echo ended $?",
        command.display()
    );
    let session = Session::start(cluster, &["bash", "--norc", "-c", &script]);
    let watch = text_of(&watch).trim().to_owned();
    (session, watch)
}

#[test]
fn ctrl_c_reaches_the_command_of_a_watch_once_wherever_its_stdin_comes_from() {
    let cluster = Setup::of(1).start();
    for redirected in ["", "</dev/null"] {
        let (mut session, _) = watch(&cluster, redirected);
        session.type_in("\u{3}");
        session.wait_for("1 in all");
        session.wait_for("ended 130");
        std::fs::remove_file(cluster.dir().join("watch")).expect("it was written");
    }
}

#[test]
fn who_interrupts_a_watch_at_a_terminal_from_elsewhere_is_heard_when_he_asks_again() {
    let cluster = Setup::of(1).start();
    let (mut session, watch) = watch(&cluster, "");
    let ended = wait::found(SOON, || {
        let _ = Command::new("kill").args(["-INT", &watch]).status();
        thread::sleep(std::time::Duration::from_millis(100));
        session.shell.try_wait().expect("it is ours")
    });
    assert!(ended.is_some(), "the command was never told");
    session.wait_for("in all");
    session.wait_for("ended 130");
}
