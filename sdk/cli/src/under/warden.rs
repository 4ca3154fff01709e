//! A second process that ends the command where this program cannot: because it was killed, or is stopped itself.
//!
//! Owns the last line of defence. It is told until when the hold is certain, and kills the command, with what descends
//! from it, when that moment is near and nothing later was told; and when the pipe breaks by which it is told, it ends them
//! at once. It knows nothing of the cluster. When the program was killed, its orphans are nobody's: what left the group is
//! known by the last walk before, which is some 50 ms old.

use std::io::{BufRead, Write, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Nix};
use rustix::process::{Pid, Signal, getpid, kill_process_group, test_kill_process_group};

use super::Times;
use super::clock::{Moment, Until};
use super::group::Group;
use super::kin::{Kin, deaf, descend_from, found_nobody};
use super::voice::{finish, say};

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
            say(format!(
                "no warden could be started ({error}): if this program is killed, the command goes on"
            ));
        }
        Warden {
            process: process.ok(),
            told_ms: 0,
        }
    }

    /// Its process, where there is one.
    pub(super) fn id(&self) -> Option<Pid> {
        self.process.as_ref().map(Pid::from_child)
    }

    /// Which group it is, and how it is to be ended.
    pub(super) fn watch(&mut self, group: &Group, times: Times) {
        let (grace, reserve) = (times.grace.as_millis(), times.reserve.as_millis());
        let (leader, holder) = (group.id().as_raw_pid(), getpid().as_raw_pid());
        let spared = group.spared().iter();
        let spared: String = spared
            .map(|process| format!(" {}", process.as_raw_pid()))
            .collect();
        self.say(&format!("{leader} {grace} {reserve} {holder}{spared}"));
    }

    /// A process that is not of the command.
    pub(super) fn spare(&mut self, process: Pid) {
        self.say(&format!("spare {}", process.as_raw_pid()));
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
            // That it is gone is told by its end.
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
    /// The program that holds.
    holder: Pid,
    /// Its children that are not of the command.
    spared: Vec<Pid>,
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
        watch(order, &lines);
    }
    finish();
    ExitCode::SUCCESS
}

fn order(line: &str) -> Option<Order> {
    let numbers: Vec<u64> = line
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    let [group, grace, reserve, holder, spared @ ..] = &numbers[..] else {
        return None;
    };
    let process = |number: &u64| Pid::from_raw(i32::try_from(*number).ok()?);
    let (grace, reserve) = (*grace, *reserve);
    Some(Order {
        group: process(group)?,
        holder: process(holder)?,
        spared: spared.iter().filter_map(process).collect(),
        grace: Duration::from_millis(grace),
        reserve: Duration::from_millis(reserve),
    })
}

fn watch(mut order: Order, lines: &Receiver<String>) {
    order.spared.push(getpid());
    let holder = Kin::look(order.holder);
    let mut known = Vec::new();
    let mut until_ms: Option<u128> = None;
    loop {
        match lines.recv_timeout(LONGEST_NAP) {
            Ok(line) if line == "end" => return,
            Ok(line) => match line.strip_prefix("spare ") {
                Some(spared) => {
                    let spared = spared.parse().ok().and_then(Pid::from_raw);
                    known.retain(|kin: &Kin| Some(kin.id) != spared);
                    order.spared.extend(spared);
                }
                None => until_ms = line.parse().ok().or(until_ms),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return end(&order, known, until_ms),
        }
        let root = holder.filter(Kin::lives).map(|holder| holder.id);
        walk(&order, root, &mut known);
        // The program itself kills at twice this distance; whoever is later than that is stopped, or starved.
        let late = until_ms.is_some_and(|until| left(until) <= order.reserve / 2);
        if late {
            signal_all(&order, &known, Signal::KILL);
        }
    }
}

/// Brings up to date what is known of the command: what descends from a process, and from what was known before.
fn walk(order: &Order, root: Option<Pid>, known: &mut Vec<Kin>) {
    known.retain(Kin::lives);
    let roots: Vec<Pid> = known.iter().map(|kin| kin.id).chain(root).collect();
    for root in roots {
        for kin in descend_from(root, &order.spared) {
            if !known.contains(&kin) {
                // What changed its parent or group meanwhile is known by the same number.
                known.retain(|old| old.id != kin.id);
                known.push(kin);
            }
        }
    }
}

fn signal_all(order: &Order, known: &[Kin], signal: Signal) {
    let _ = kill_process_group(order.group, signal);
    let elsewhere = known
        .iter()
        .filter(|kin| kin.group != order.group.as_raw_pid());
    elsewhere.for_each(|kin| kin.signal(signal));
}

fn left(until_ms: u128) -> Duration {
    let left = until_ms.saturating_sub(Moment::now().boot_ms());
    Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
}

/// TERM, and KILL after the grace or before the end of the hold, until nothing is left that can be ended.
fn end(order: &Order, mut known: Vec<Kin>, until_ms: Option<u128>) {
    let before_end = until_ms
        .map_or(Duration::ZERO, left)
        .saturating_sub(order.reserve);
    let limit = Until::after(order.grace.min(before_end));
    // The group is found from its leader, too, while that lives.
    walk(order, Some(order.group), &mut known);
    signal_all(order, &known, Signal::TERM);
    signal_all(order, &known, Signal::CONT);
    say("the program that held the lock was killed: the command is stopped");
    loop {
        walk(order, None, &mut known);
        let group_is_gone = found_nobody(test_kill_process_group(order.group));
        if group_is_gone && known.is_empty() {
            return;
        }
        if limit.left().is_zero() {
            signal_all(order, &known, Signal::KILL);
            if let Some(deaf) = deaf(&known).filter(|_| known.iter().all(Kin::is_deaf)) {
                return say(format!(
                    "DANGER: this user may not stop {deaf}, which runs on without the lock: stop it by hand"
                ));
            }
        }
        thread::sleep(LONGEST_NAP / 5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_four_numbers_and_those_to_be_spared() {
        let order = order("4711 3750 750 4700 4709").expect("it is one");
        assert_eq!(order.group.as_raw_pid(), 4711);
        assert_eq!(order.holder.as_raw_pid(), 4700);
        assert_eq!(order.spared.len(), 1);
        assert_eq!(order.grace, Duration::from_millis(3_750));
        assert_eq!(order.reserve, Duration::from_millis(750));
        for wrong in [
            "",
            "0 1 1 4",
            "4711 1 1",
            "end",
            "-1 3 4 5",
            "99999999999 1 1 4",
        ] {
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
