//! Signals that reach this program and are meant for the command.

use std::process::Command;

use rustix::process::Signal;

use crate::common::{Process, SOON, Setup};
use crate::support::{TENURE, bare, begun, text_of, urls, wait_for_lock};

#[test]
fn signals_reach_all_of_the_command_and_its_exit_code_is_kept() {
    let cluster = Setup::of(1).start();
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let ready = cluster.dir().join(format!("{name}-ready"));
        let heard = cluster.dir().join(format!("{name}-heard"));
        // Both the shell and what it waits for are told. A shell in the background ignores INT and QUIT, hence perl.
        let inner = format!(
            "perl -e '$SIG{{{name}}} = sub {{ open F, \">\", \"{}\"; print F \"heard\\n\"; close F; exit 0 }}; \
             open R, \">\", \"{}\"; print R \"ready\\n\"; close R; sleep 60 while 1'",
            heard.display(),
            ready.display()
        );
        let script = format!("trap 'wait; exit 5' {name}; {inner} & wait; wait");
        let mut holder = begun(&cluster, name, ["lock", "a", "--", "sh", "-c", &script]);
        text_of(&ready);
        holder.signal(signal);
        assert_eq!(holder.exit_code(SOON), 5, "{name}: {}", holder.output());
        assert_eq!(text_of(&heard), "heard\n", "{name}");
    }
}

#[test]
fn who_waits_and_is_told_to_end_leaves_the_queue() {
    let cluster = Setup::of(1).start();
    let mut holder = begun(&cluster, "holder", ["lock", "a", "--", "sleep", "60"]);
    wait_for_lock(&cluster, "a", 1, 0);
    let mut waiter = begun(&cluster, "waiter", ["lock", "a", "--", "echo", "never"]);
    wait_for_lock(&cluster, "a", 1, 1);
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.exit_code(SOON), 143, "{}", waiter.output());
    assert_eq!(waiter.output(), "");
    wait_for_lock(&cluster, "a", 1, 0);
    holder.signal(Signal::TERM);
    assert_eq!(holder.exit_code(SOON), 143);
    wait_for_lock(&cluster, "a", 0, 0);
}

#[test]
fn a_signal_that_is_ignored_from_the_start_is_ignored_by_the_command_too() {
    let cluster = Setup::of(1).start();
    let (ready, done) = (cluster.dir().join("ready"), cluster.dir().join("done"));
    let script = format!(
        "echo yes > {}; until test -e {}; do sleep 0.01; done; exit 4",
        ready.display(),
        done.display()
    );
    // As `nohup` does.
    let outer = format!("trap '' HUP; exec {TENURE} lock a -- sh -c '{script}'");
    let mut shell = Command::new("sh");
    bare(&mut shell)
        .args(["-c", &outer])
        .env("TENURE_ENDPOINTS", urls(&cluster));
    let mut holder = Process::start(&mut shell, &cluster.dir().join("holder"));
    text_of(&ready);
    holder.signal(Signal::HUP);
    // Had it been passed on, the command would not live to see this.
    std::fs::write(&done, "").expect("it is written");
    assert_eq!(holder.exit_code(SOON), 4, "{}", holder.output());
}
