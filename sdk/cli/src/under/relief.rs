//! The wardens of a command, one after the other.
//!
//! Owns when one is replaced: when it has ended, and when it says nothing while this program runs. That there is none for a
//! while is told, and is no reason to stop a command that this program watches itself.

use std::time::Duration;

use rustix::process::Pid;

use super::Times;
use super::clock::Until;
use super::group::Group;
use super::voice::say;
use super::warden::Warden;

/// A warden that says nothing for so long does not watch.
const MOST_SILENCE: Duration = Duration::from_secs(5);
/// After one has ended, for the case that whatever ended it ends the next one, too.
const AFTER_AN_END: Duration = Duration::from_millis(100);
/// After one could not be started.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);

pub(super) struct Relief {
    warden: Warden,
    /// When it is replaced, where that is due.
    due: Option<Until>,
    /// For how long of this program's own waiting it has said nothing. Time in which this program was stopped itself, or the
    /// machine suspended, says nothing of a warden.
    silence: Duration,
    /// Whether it was told that there is none.
    told: bool,
}

impl Relief {
    pub(super) fn of(warden: Warden) -> Relief {
        Relief {
            warden,
            due: None,
            silence: Duration::ZERO,
            told: false,
        }
    }

    /// This program has waited for so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.silence += time;
    }

    /// A process has ended that is not the command: perhaps the warden.
    pub(super) fn other_ended(&mut self, process: Pid) {
        if self.warden.id() == process {
            say("the warden of the command has ended: another is started");
            self.due = Some(Until::after(AFTER_AN_END));
        }
    }

    /// Replaces the warden where that is due.
    pub(super) fn keep(&mut self, group: &mut Group, times: Times, until: Until) {
        if self.warden.has_beaten() {
            self.silence = Duration::ZERO;
        }
        if self.silence >= MOST_SILENCE && self.due.is_none() {
            say("the warden of the command does not answer: another is started");
            self.replace(group, times, until);
        }
        if self.due.is_some_and(|at| at.left().is_zero()) {
            self.replace(group, times, until);
        }
    }

    fn replace(&mut self, group: &mut Group, times: Times, until: Until) {
        (self.due, self.silence) = (None, Duration::ZERO);
        match Warden::start() {
            Ok(warden) => {
                // The one before may only have been stopped.
                self.warden.dismiss();
                self.warden = warden;
                self.told = false;
                group.spare(self.warden.id());
                self.warden.watch(group, times, until);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    say(format!(
                        "no warden could be started ({error}): until one can be, the command goes on if this program is killed"
                    ));
                }
                self.due = Some(Until::after(AFTER_A_FAILURE));
            }
        }
    }

    /// A process that is not of the command.
    pub(super) fn spare(&mut self, process: Pid) {
        self.warden.spare(process);
    }

    /// The hold is certain until then.
    pub(super) fn tell(&mut self, until: Until) {
        self.warden.tell(until);
    }

    /// Nothing of the command is left.
    pub(super) fn dismiss(&mut self) {
        self.warden.dismiss();
    }
}
