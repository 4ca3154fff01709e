//! A second process that ends the command where this program cannot: because it was killed, or is stopped itself.
//!
//! Owns the last line of defence. It is told until when the hold is certain, and kills the command, with what descends
//! from it, when that moment is near and nothing later was told; and when the pipe breaks by which it is told, it ends them
//! at once. It says again and again that it watches: a command begins only when it has said so once, and a warden that falls
//! silent is replaced. It knows nothing of the cluster. When the program was killed, its orphans are nobody's: what left the
//! group is known by the last walk before, which is some 50 ms old.

use std::io::{self, BufRead, Read, Write, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as Nix};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, getpid, kill_process_group, test_kill_process_group};
use tokio::sync::watch::{self, Sender};

use super::Times;
use super::clock::{End, Until};
use super::gate::THIS_PROGRAM;
use super::group::Group;
use super::kin::{Kin, deaf, descend_from, found_nobody};
use super::voice::{finish, say};

/// The name under which it is run: nothing that a user types.
const NAME: &str = "tenure-warden";
/// Timers stand still while a machine is suspended: the clock is looked at this often.
const LONGEST_NAP: Duration = Duration::from_millis(50);
/// Between two blows at what must be gone.
const BETWEEN_BLOWS: Duration = Duration::from_millis(10);
/// A hold whose end has moved by less is not told anew.
const WORTH_TELLING: Duration = Duration::from_millis(20);
/// How often it says that it watches.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// How long it may take to begin to watch, also on a busy machine.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(5);

/// It, as the program sees it that started it.
pub(super) struct Warden {
    process: Child,
    kin: Kin,
    beats: watch::Receiver<()>,
    told: End,
}

impl Warden {
    /// Starts it, for a group that it is told next.
    pub(super) fn start() -> io::Result<Warden> {
        let mut process = Command::new(THIS_PROGRAM)
            .arg0(NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        // Nobody who has to stop a command waits for a warden that does not read.
        process.stdin.as_ref().map_or(Ok(()), nonblocking)?;
        let (beat, beats) = watch::channel(());
        if let Some(stdout) = process.stdout.take() {
            thread::spawn(move || listen(stdout, &beat));
        }
        Ok(Warden {
            kin: Kin::of_child(Pid::from_child(&process)),
            process,
            beats,
            told: End::default(),
        })
    }

    /// Its process.
    pub(super) fn id(&self) -> Pid {
        self.kin.id
    }

    /// Which group it is, how it is to be ended, and until when the hold is certain.
    pub(super) fn watch(&mut self, group: &Group, times: Times, until: Until) {
        let (grace, reserve) = (times.grace.as_millis(), times.reserve.as_millis());
        let (leader, holder) = (group.id().as_raw_pid(), getpid().as_raw_pid());
        self.told = until.end();
        let spared = group.spared().iter();
        let spared: String = spared
            .map(|kin| format!(" {}", kin.id.as_raw_pid()))
            .collect();
        let until = self.told;
        self.say(&format!(
            "{leader} {grace} {reserve} {holder} {until}{spared}"
        ));
    }

    /// Waits until it watches; answers whether it does.
    pub(super) async fn is_watching(&mut self) -> bool {
        let beat = tokio::time::timeout(READY_WITHIN, self.beats.changed());
        matches!(beat.await, Ok(Ok(())))
    }

    /// Whether it has given a sign of life since this was last asked.
    pub(super) fn has_beaten(&mut self) -> bool {
        let news = self.beats.has_changed().unwrap_or(false);
        if news {
            self.beats.mark_unchanged();
        }
        news
    }

    /// A process that is not of the command.
    pub(super) fn spare(&mut self, process: Pid) {
        self.say(&format!("spare {}", process.as_raw_pid()));
    }

    /// The hold is certain until then.
    pub(super) fn tell(&mut self, until: Until) {
        let end = until.end();
        if end.differs_by(self.told) >= WORTH_TELLING {
            self.say(&end.to_string());
            self.told = end;
        }
    }

    /// Nothing of the group is left, or another warden watches it. One that was stopped may not wake up later, when the
    /// number of the group is another's.
    pub(super) fn dismiss(&mut self) {
        self.say("end");
        self.kin.signal(Signal::KILL);
    }

    fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.process.stdin {
            // That it is gone or silent is told by its end, and by its silence.
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }
}

fn nonblocking(pipe: impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(ioctl_fionbio(pipe, true)?)
}

/// Passes on that it has said something, until it has ended.
fn listen(mut stdout: ChildStdout, beat: &Sender<()>) {
    let mut said = [0; 64];
    while matches!(stdout.read(&mut said), Ok(count) if count > 0) {
        if beat.send(()).is_err() {
            return;
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
    /// Until when its hold is certain.
    until: End,
    /// Its children that are not of the command.
    spared: Vec<Kin>,
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
    // It watches on where nobody listens to that.
    let _ = nonblocking(stdout());
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
    let numbers = numbers(line)?;
    let [group, grace, reserve, holder, boot_ms, raw_ms, spared @ ..] = &numbers[..] else {
        return None;
    };
    let process = |number: &u64| Pid::from_raw(i32::try_from(*number).ok()?);
    let spared = spared.iter().filter_map(process);
    Some(Order {
        group: process(group)?,
        holder: process(holder)?,
        spared: spared.filter_map(Kin::look).collect(),
        grace: Duration::from_millis(*grace),
        reserve: Duration::from_millis(*reserve),
        until: End {
            boot_ms: *boot_ms,
            raw_ms: *raw_ms,
        },
    })
}

fn numbers(line: &str) -> Option<Vec<u64>> {
    line.split(' ').map(|number| number.parse().ok()).collect()
}

fn watch(mut order: Order, lines: &Receiver<String>) {
    order.spared.extend(Kin::look(getpid()));
    let holder = Kin::look(order.holder);
    let mut known = Vec::new();
    let mut beat: Option<Instant> = None;
    loop {
        let root = holder.filter(Kin::lives).map(|holder| holder.id);
        walk(&order, root, &mut known);
        if beat.is_none_or(|beat| beat.elapsed() >= BEAT_EVERY) {
            // What nobody reads is not said.
            let _ = rustix::io::write(stdout(), b".");
            beat = Some(Instant::now());
        }
        // The moment to kill is not slept over.
        let nap = match order.before_the_last_moment() {
            Duration::ZERO => BETWEEN_BLOWS,
            left => left.min(LONGEST_NAP),
        };
        match lines.recv_timeout(nap) {
            Ok(line) if line == "end" => return,
            Ok(line) => order.heed(&line, &mut known),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return end(&order, known),
        }
        if order.before_the_last_moment().is_zero() {
            signal_all(&order, &known, Signal::KILL);
        }
    }
}

impl Order {
    /// How long until what is left of the command is killed. The program itself kills at `reserve` before the end of the hold:
    /// whoever is later than a quarter of that is stopped, or starved, and the rest is for this process to do it in.
    fn before_the_last_moment(&self) -> Duration {
        self.until.left().saturating_sub(self.reserve / 4 * 3)
    }

    /// Heeds what was told later.
    fn heed(&mut self, line: &str, known: &mut Vec<Kin>) {
        match line.strip_prefix("spare ") {
            Some(spared) => {
                let spared = spared.parse().ok().and_then(Pid::from_raw);
                known.retain(|kin| Some(kin.id) != spared);
                self.spared.extend(spared.map(Kin::of_child));
            }
            None => {
                if let Some([boot_ms, raw_ms]) = numbers(line).as_deref() {
                    (self.until.boot_ms, self.until.raw_ms) = (*boot_ms, *raw_ms);
                }
            }
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

/// TERM, and KILL after the grace or before the end of the hold, until nothing is left that can be ended.
fn end(order: &Order, mut known: Vec<Kin>) {
    let before_end = order.until.left().saturating_sub(order.reserve);
    let limit = Until::after(order.grace.min(before_end));
    // The group is found from its leader, too, while that lives.
    walk(order, Some(order.group), &mut known);
    signal_all(order, &known, Signal::TERM);
    signal_all(order, &known, Signal::CONT);
    say("the program that held for the command was killed: the command is stopped");
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
                    "DANGER: this user may not stop {deaf}, which runs on while others may hold: stop it by hand"
                ));
            }
        }
        thread::sleep(BETWEEN_BLOWS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_six_numbers_and_those_to_be_spared() {
        let own = getpid().as_raw_pid();
        let order = order(&format!("4711 3750 750 4700 86400000 500 {own}")).expect("it is one");
        assert_eq!(order.group.as_raw_pid(), 4711);
        assert_eq!(order.holder.as_raw_pid(), 4700);
        assert_eq!(order.until.to_string(), "86400000 500");
        let mut order = order;
        order.heed("86400100 600", &mut Vec::new());
        order.heed("86400200", &mut Vec::new());
        assert_eq!(order.until.to_string(), "86400100 600");
        assert_eq!(order.spared.len(), 1);
        assert_eq!(order.spared[0].id, getpid());
        assert_eq!(order.grace, Duration::from_millis(3_750));
        assert_eq!(order.reserve, Duration::from_millis(750));
        for wrong in [
            "",
            "0 1 1 4 5 6",
            "4711 1 1 4 5",
            "end",
            "-1 3 4 5 6 7",
            "4711 1 1 4 5 x",
            "99999999999 1 1 4 5 6",
        ] {
            assert!(super::order(wrong).is_none(), "{wrong}");
        }
    }
}
