//! The watch over a command: its signals, its stops, its end, and the hold under which it runs.
//!
//! Owns the order of ends: nothing of the command is left before the local deadline, and before the hold is given up.

use std::ffi::OsString;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};
use tenure::{Guard as Hold, Holdable, Loss, State};

use super::asking::is_of_rights;
use super::clock::Until;
use super::ear::Ear;
use super::gate::Gate;
use super::group::{Group, News};
use super::kin::Kin;
use super::relief::Relief;
use super::signals::Signals;
use super::terminal::Terminal;
use super::voice::say;
use super::warden::Warden;
use super::{Times, What};
use crate::duration;
use crate::exit::Exit;

/// Timers stand still while a machine is suspended: the clock is looked at this often.
const LONGEST_NAP: Duration = Duration::from_millis(100);
/// Between two looks at what is left of a group.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For what a command has left behind to end by itself, as the rest of a pipeline does.
const AFTERMATH: Duration = Duration::from_millis(100);
/// How long `--on-lost` may go on after the command was stopped.
const LAST_DEED: Duration = Duration::from_secs(30);
/// Between two looks for what may not be signalled.
const LOOK_FOR_DEAF: Duration = Duration::from_secs(1);

pub(super) struct Guard<'a, W: Holdable> {
    what: &'a What,
    hold: &'a Hold<W>,
    group: Group,
    warden: Relief,
    terminal: Option<Terminal>,
    times: Times,
    /// Until when the hold was last known to be certain.
    until: Until,
    /// Whether it was told that renewals do not get through.
    warned: bool,
    /// Whether this program has stopped the group itself, of which it will be told.
    stopped: bool,
    /// When to look next for what may not be signalled; none once that was told.
    look_for_deaf: Option<Until>,
    /// Why the hold has ended, where the cluster told that before a renewal did.
    heard: Option<Loss>,
}

/// What a command is run with, once it is watched.
pub(super) struct Start {
    pub(super) group: Group,
    pub(super) gate: Gate,
    pub(super) warden: Warden,
    pub(super) times: Times,
    /// Whether it was told that this user may not stop the command.
    pub(super) warned_of_deaf: bool,
}

impl<'a, W: Holdable> Guard<'a, W> {
    /// Lets the command run.
    pub(super) fn new(what: &'a What, hold: &'a Hold<W>, start: Start) -> Guard<'a, W> {
        let mut guard = Guard {
            what,
            hold,
            group: start.group,
            warden: Relief::of(start.warden),
            terminal: Terminal::in_foreground(),
            times: start.times,
            until: Until::after(Duration::ZERO),
            warned: false,
            stopped: false,
            look_for_deaf: (!start.warned_of_deaf).then(|| Until::after(LOOK_FOR_DEAF)),
            heard: None,
        };
        guard.look();
        guard.go_on();
        start.gate.open();
        guard
    }

    /// Watches until nothing of the command is left.
    pub(super) async fn run(
        &mut self,
        signals: &mut Signals,
        ear: &mut Ear,
        hook: Option<&[OsString]>,
        environment: &[(&'static str, OsString)],
    ) -> Exit {
        let ended = self.watch(signals, ear).await;
        let exit = match ended {
            Some(exit) => {
                self.clear_up(ear).await;
                exit
            }
            None => {
                self.lose(ear, hook, environment).await;
                Exit::LOST
            }
        };
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
            if self.group.was_killed() {
                terminal.restore();
            }
        }
        self.warden.dismiss();
        exit
    }

    /// Whether the cluster has told that the hold has ended: then there is nothing to be released.
    pub(super) fn has_heard_the_end(&self) -> bool {
        self.heard.is_some()
    }

    /// Until the command has ended, with its code, or must be stopped.
    async fn watch(&mut self, signals: &mut Signals, ear: &mut Ear) -> Option<Exit> {
        let mut changes = self.hold.watch();
        loop {
            let left = self.look().saturating_sub(self.times.stop_before());
            if left.is_zero() {
                return self.ended_unheard().await;
            }
            self.warden.keep(&mut self.group, self.times, self.until);
            self.look_for_deaf();
            let nap = left.min(LONGEST_NAP);
            tokio::select! {
                biased;
                news = self.group.next() => match news {
                    News::Ended => return self.ended(),
                    News::Stopped(signal) => self.command_stopped(signal),
                    News::Other(process) => self.warden.other_ended(process),
                },
                signal = signals.next() => self.pass_on(signal),
                loss = ear.hears() => self.heard = Some(loss),
                _ = changes.changed() => {}
                () = tokio::time::sleep(nap) => self.warden.waited(nap),
            }
        }
    }

    /// The same, where the command has ended by itself and the news of that is on its way: both come at once to a program that
    /// was stopped meanwhile.
    async fn ended_unheard(&mut self) -> Option<Exit> {
        if Kin::look(self.group.id()).is_some() {
            return None;
        }
        let news = async {
            loop {
                match self.group.next().await {
                    News::Ended => return,
                    News::Stopped(_) => {}
                    News::Other(process) => self.warden.other_ended(process),
                }
            }
        };
        tokio::time::timeout(LONGEST_NAP, news).await.ok()?;
        self.ended()
    }

    /// The code of the command, unless it was the warden that ended it: which kills what this program, had it not been
    /// stopped itself, would have stopped before.
    fn ended(&mut self) -> Option<Exit> {
        let killed = Exit::by_signal(Signal::KILL.as_raw());
        let lost = self.look() <= self.times.stop_before();
        self.group.exit().filter(|exit| !(lost && *exit == killed))
    }

    /// What is left of the hold; tells, once, that renewals do not get through.
    fn look(&mut self) -> Duration {
        if self.heard.is_some() {
            return Duration::ZERO;
        }
        let left = self.hold.remaining();
        let (word, name) = (self.what.word, &self.what.name);
        match self.hold.state() {
            State::Held if self.warned => {
                say(format!("{word} {name} is renewed again"));
                self.warned = false;
            }
            State::InJeopardy if !self.warned => {
                let stop = left.saturating_sub(self.times.stop_before());
                let stop = duration::shown(stop);
                let why = self.refusal();
                say(format!(
                    "{word} {name} is not renewed{why}: the command is stopped in {stop} unless it is"
                ));
                self.warned = true;
            }
            State::Held | State::InJeopardy | State::Lost(_) => {}
        }
        if !left.is_zero() {
            self.until = Until::after(left);
            self.warden.tell(self.until);
        }
        left
    }

    /// What members say of who asks, where that is why it is not renewed.
    fn refusal(&self) -> String {
        let refused = self.hold.trouble().filter(is_of_rights);
        let refused = refused.and_then(|error| error.failure().map(ToString::to_string));
        refused.map_or_else(String::new, |why| format!("; {why}"))
    }

    /// Says once, before it matters, that something of the command cannot be stopped.
    fn look_for_deaf(&mut self) {
        if self.look_for_deaf.is_none_or(|at| !at.left().is_zero()) {
            return;
        }
        self.look_for_deaf = Some(Until::after(LOOK_FOR_DEAF));
        if let Some(deaf) = self.group.deaf() {
            self.look_for_deaf = None;
            let (word, name) = (self.what.word, &self.what.name);
            say(format!(
                "this user may not stop {deaf}: it would run on if {word} {name} were lost"
            ));
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::TSTP {
            // A command that went on while its lease is not renewed would outlive it.
            self.group.signal(Signal::STOP);
            self.stopped = true;
            self.rest();
        } else {
            self.group.signal(signal);
            if let Some(deaf) = self.group.deaf() {
                say(format!(
                    "{signal:?} could not be passed on: this user may not signal {deaf}"
                ));
            }
        }
    }

    fn command_stopped(&mut self, signal: i32) {
        let wants_terminal = [Signal::TTIN.as_raw(), Signal::TTOU.as_raw()].contains(&signal);
        if std::mem::take(&mut self.stopped) || self.terminal.is_none() {
            // Either this program did it, or somebody who will let it go on.
        } else if wants_terminal {
            self.go_on();
        } else {
            self.rest();
        }
    }

    /// Stops with the command, as the user wants who has typed Ctrl-Z, and goes on with it when told to, if it may.
    fn rest(&mut self) {
        if let Some(terminal) = &self.terminal {
            terminal.take_back();
        }
        suspend();
        self.terminal = Terminal::in_foreground();
        if !self.look().is_zero() {
            self.go_on();
        }
    }

    /// Lets the command run, with the terminal where there is one.
    fn go_on(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.give(self.group.id());
        }
        self.group.signal(Signal::CONT);
    }

    /// The command has ended: what it left running may not go on without the hold.
    async fn clear_up(&mut self, ear: &mut Ear) {
        if self.wait_while_held(Until::after(AFTERMATH), ear).await {
            return;
        }
        say("the command has ended, but not all that it started: the rest is stopped");
        self.stop(self.times.grace, ear).await;
    }

    /// The hold is lost, or will be before the command could be stopped later.
    async fn lose(
        &mut self,
        ear: &mut Ear,
        hook: Option<&[OsString]>,
        environment: &[(&'static str, OsString)],
    ) {
        let why = match (self.heard, self.hold.state()) {
            (Some(loss), _) | (None, State::Lost(loss)) => loss,
            (None, State::Held | State::InJeopardy) => Loss::Deadline,
        };
        // Others may hold it already when it was ended by somebody else: then each moment of grace is one too many.
        let grace = match why {
            Loss::Deadline => self.times.grace,
            Loss::LeaseEnded | Loss::Broken | Loss::GivenUp => {
                self.group.signal_all(Signal::KILL);
                Duration::ZERO
            }
        };
        let refusal = match why {
            // Told once, when renewals began not to get through.
            Loss::Deadline if !self.warned => self.refusal(),
            _ => String::new(),
        };
        say(format!(
            "{} {} is lost ({why}{refusal}): the command is stopped",
            self.what.word, self.what.name
        ));
        // Before anything that may take time: a program may lie on a file system that does not answer.
        self.ask_to_end(grace);
        let hook = hook.and_then(|command| last_deed(command, environment, why));
        if let Some(hook) = hook {
            self.group.spare(hook);
            self.warden.spare(hook);
        }
        self.see_end(grace, ear).await;
        // The number of the group may soon be another's.
        self.warden.dismiss();
        if let Some(hook) = hook {
            self.wait_for(hook).await;
        }
    }

    /// TERM, and KILL where that was not enough in time or the hold has ended meanwhile, until nothing is left.
    async fn stop(&mut self, grace: Duration, ear: &mut Ear) {
        self.ask_to_end(grace);
        self.see_end(grace, ear).await;
    }

    fn ask_to_end(&mut self, grace: Duration) {
        if !grace.is_zero() && !self.is_over() {
            self.group.signal_all(Signal::TERM);
            self.group.signal_all(Signal::CONT);
        }
    }

    /// KILL where what was asked to end has not in time, until nothing is left.
    async fn see_end(&mut self, grace: Duration, ear: &mut Ear) {
        let was_asked = !grace.is_zero() && !self.is_over();
        if was_asked && self.wait_while_held(Until::after(grace), ear).await {
            return;
        }
        // A process that the system does not end is waited for, and not given up while it may still work.
        let (mut told, mut overrun) = (false, false);
        loop {
            self.group.signal_all(Signal::KILL);
            if self.wait_until_gone(Until::after(LONGEST_NAP)).await {
                return;
            }
            let left = self.look();
            self.tell_what_runs_on(left, (&mut told, &mut overrun));
        }
    }

    /// Says once what may not be signalled, and once that the hold is over while something runs.
    fn tell_what_runs_on(&self, left: Duration, (told, overrun): (&mut bool, &mut bool)) {
        let (word, name) = (self.what.word, &self.what.name);
        let deaf = self.group.deaf();
        if let Some(deaf) = deaf.as_ref().filter(|_| !*told) {
            *told = true;
            say(format!(
                "this user may not stop {deaf}, which runs on: {word} {name} is not given up before it has ended"
            ));
        }
        if left.is_zero() && !*overrun {
            *overrun = true;
            let who = deaf.unwrap_or_else(|| "a process that the system does not end".to_owned());
            say(format!(
                "DANGER: others may hold {word} {name} from now on, and {who} still runs: stop it by hand"
            ));
        }
    }

    /// Whether nothing of the command may run any longer.
    fn is_over(&mut self) -> bool {
        self.look() <= self.times.reserve
    }

    /// Waits until nothing is left, for so long; no longer where others may hold, or may soon.
    async fn wait_while_held(&mut self, end: Until, ear: &mut Ear) -> bool {
        loop {
            let nap = Until::after(end.left().min(LONGEST_NAP));
            let gone = tokio::select! {
                biased;
                loss = ear.hears(), if self.heard.is_none() => {
                    self.heard = Some(loss);
                    false
                }
                gone = self.wait_until_gone(nap) => gone,
            };
            if gone || end.left().is_zero() || self.is_over() {
                return gone;
            }
        }
    }

    async fn wait_until_gone(&mut self, end: Until) -> bool {
        loop {
            if self.group.is_gone() {
                return true;
            }
            self.warden.keep(&mut self.group, self.times, self.until);
            let left = end.left();
            if left.is_zero() {
                return false;
            }
            let nap = left.min(LOOK_EVERY);
            tokio::select! {
                news = self.group.next() => if let News::Other(process) = news {
                    self.warden.other_ended(process);
                },
                () = tokio::time::sleep(nap) => self.warden.waited(nap),
            }
        }
    }

    /// Waits for `--on-lost`, but not for ever.
    async fn wait_for(&mut self, hook: Pid) {
        let end = Until::after(LAST_DEED);
        while rustix::process::test_kill_process(hook).is_ok() {
            if end.left().is_zero() {
                say(format!(
                    "--on-lost has not ended in {}: it is killed",
                    duration::shown(LAST_DEED)
                ));
                let _ = kill_process_group(hook, Signal::KILL);
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Starts `--on-lost`; one that cannot be run keeps nobody from stopping the command.
fn last_deed(
    command: &[OsString],
    environment: &[(&'static str, OsString)],
    why: Loss,
) -> Option<Pid> {
    let mut environment = environment.to_vec();
    environment.push(("TENURE_LOSS", why.to_string().into()));
    match Group::start_beside(command, &environment) {
        Ok(process) => Some(process),
        Err(trouble) => {
            say(format!("--on-lost: {trouble}"));
            None
        }
    }
}

/// Stops this program, as its default for Ctrl-Z is, until it is told to go on.
pub(super) fn suspend() {
    let _ = kill_process(getpid(), Signal::STOP);
}
