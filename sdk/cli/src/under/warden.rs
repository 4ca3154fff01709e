//! A second process that ends the command where this program cannot: because it was killed, or is stopped itself.
//!
//! Owns the last line of defence. It is told until when the hold is certain, and kills the group of the command when that
//! moment is near and nothing later was told; and when the pipe breaks by which it is told, it ends the group at once.
//! It knows nothing of the cluster.

use std::io::{BufRead, Write, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Nix};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::Times;
use super::clock::{Moment, Until};
use crate::output::note;

/// The name under which it is run: nothing that a user types.
const NAME: &str = "tenure-warden";
/// Timers stand still while a machine is suspended: the clock is looked at this often.
const LONGEST_NAP: Duration = Duration::from_millis(50);
/// A hold whose end has moved by less is not told anew.
const WORTH_TELLING_MS: u128 = 20;

/// It, as the program sees it that started it.
pub(super) struct Warden {
    process: Option<Child>,
    told_ms: u128,
}

impl Warden {
    /// Starts it for a group that is about to be started. Where that fails, the command is watched by this program alone.
    pub(super) fn start() -> Warden {
        let process = Command::new("/proc/self/exe")
            .arg0(NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn();
        if let Err(error) = &process {
            note(format!(
                "no warden could be started ({error}): if this program is killed, the command goes on"
            ));
        }
        Warden {
            process: process.ok(),
            told_ms: 0,
        }
    }

    /// Which group it is, and how it is to be ended.
    pub(super) fn watch(&mut self, group: Pid, times: Times) {
        let (grace, reserve) = (times.grace.as_millis(), times.reserve.as_millis());
        self.say(&format!("{} {grace} {reserve}", group.as_raw_pid()));
    }

    /// The hold is certain until then.
    pub(super) fn tell(&mut self, until: Until) {
        let at = until.boot_ms();
        if at.abs_diff(self.told_ms) >= WORTH_TELLING_MS {
            self.say(&at.to_string());
            self.told_ms = at;
        }
    }

    /// Nothing of the group is left, so that its number may soon be another's.
    pub(super) fn dismiss(&mut self) {
        self.say("end");
        self.process = None;
    }

    fn say(&mut self, line: &str) {
        let stdin = self
            .process
            .as_mut()
            .and_then(|process| process.stdin.as_mut());
        if let Some(stdin) = stdin {
            // One that is gone is not missed while this program runs.
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// Whether this process was started as a warden.
pub(crate) fn is_meant() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// What the warden was told to do.
struct Order {
    group: Pid,
    grace: Duration,
    reserve: Duration,
}

/// The life of a warden.
pub(crate) fn run() -> ExitCode {
    // What ends or stops everything around it is no reason to leave the command unwatched.
    let mut deaf = SigSet::empty();
    for signal in [
        Nix::SIGTERM,
        Nix::SIGINT,
        Nix::SIGHUP,
        Nix::SIGQUIT,
        Nix::SIGTSTP,
    ] {
        deaf.add(signal);
    }
    let _ = deaf.thread_block();
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    if let Some(order) = lines.recv().ok().as_deref().and_then(order) {
        watch(&order, &lines);
    }
    ExitCode::SUCCESS
}

fn order(line: &str) -> Option<Order> {
    let numbers: Vec<u64> = line
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    let [group, grace, reserve] = numbers[..] else {
        return None;
    };
    Some(Order {
        group: Pid::from_raw(i32::try_from(group).ok()?)?,
        grace: Duration::from_millis(grace),
        reserve: Duration::from_millis(reserve),
    })
}

fn watch(order: &Order, lines: &Receiver<String>) {
    let mut until_ms: Option<u128> = None;
    loop {
        match lines.recv_timeout(LONGEST_NAP) {
            Ok(line) if line == "end" => return,
            Ok(line) => until_ms = line.parse().ok().or(until_ms),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                note("the program that held the lock was killed: the command is stopped");
                return end(order, until_ms);
            }
        }
        // The program itself kills at twice this distance; whoever is later than that is stopped, or starved.
        let late = until_ms.is_some_and(|until| left(until) <= order.reserve / 2);
        if late {
            let _ = kill_process_group(order.group, Signal::KILL);
        }
    }
}

fn left(until_ms: u128) -> Duration {
    let left = until_ms.saturating_sub(Moment::now().boot_ms());
    Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
}

/// TERM, and KILL after the grace or before the end of the hold. Nobody is there any more to be told.
fn end(order: &Order, until_ms: Option<u128>) {
    let before_end = until_ms
        .map_or(Duration::ZERO, left)
        .saturating_sub(order.reserve);
    let limit = Until::after(order.grace.min(before_end));
    let _ = kill_process_group(order.group, Signal::TERM);
    let _ = kill_process_group(order.group, Signal::CONT);
    while !limit.left().is_zero() {
        if test_kill_process_group(order.group).is_err() {
            return;
        }
        thread::sleep(limit.left().min(LONGEST_NAP / 5));
    }
    let _ = kill_process_group(order.group, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_three_numbers() {
        let order = order("4711 3750 750").expect("it is one");
        assert_eq!(order.group.as_raw_pid(), 4711);
        assert_eq!(order.grace, Duration::from_millis(3_750));
        assert_eq!(order.reserve, Duration::from_millis(750));
        for wrong in ["", "0 1 1", "4711", "end", "-1 3 4", "99999999999 1 1"] {
            assert!(super::order(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_is_counted_on_the_clock_that_counts_suspensions() {
        let now = Moment::now().boot_ms();
        let ahead = left(now + 10_000);
        assert!(
            ahead <= Duration::from_secs(10) && ahead > Duration::from_secs(5),
            "{ahead:?}"
        );
        assert!(left(now.saturating_sub(1)).is_zero());
    }
}
