//! A command and all that it starts: a process group of its own, and whatever descends from it in other groups.
//!
//! Owns every `wait` of this program. The program adopts orphans, so that a process can neither hide from being ended and
//! waited for nor stay as a zombie where nobody else reaps (a container whose first process this is).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, set_child_subreaper,
    test_kill_process_group, wait,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::gate::Gate;
use super::kin::{Kin, deaf, descend_from, found_nobody};
use crate::exit::{Exit, Trouble};
use crate::output::Output;

/// Between two looks for children where there is none.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A command that was started.
pub(super) struct Group {
    leader: Pid,
    ended: Option<WaitStatus>,
    /// Whether the group was seen without anybody, so that its number may be another's.
    deserted: bool,
    /// Children of this program that are not of the command.
    spared: Vec<Kin>,
    reaped: UnboundedReceiver<(Pid, WaitStatus)>,
}

/// What became of the command.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// It has ended; what it has started may run on.
    Ended,
    /// It was stopped by this signal.
    Stopped(i32),
    /// Something else has ended.
    Other(Pid),
}

impl Group {
    /// Starts it with more in its environment, in a group of its own, with the files of this program: behind a gate, so
    /// that it can be watched before anything of it runs.
    pub(super) fn start(
        command: &[OsString],
        environment: &[(&'static str, OsString)],
        output: Output,
    ) -> io::Result<(Group, Gate)> {
        // Where this is refused, orphans are reaped by whoever else adopts them.
        let _ = set_child_subreaper(Some(getpid()));
        // The warden, and what a shell has left to this program that it turned into by `exec`.
        let spared = descend_from(getpid(), &[]);
        let (leader, gate) = Gate::before(command, environment, output)?;
        let (sender, reaped) = unbounded_channel();
        thread::spawn(move || reap(&sender));
        let group = Group {
            leader,
            ended: None,
            deserted: false,
            spared,
            reaped,
        };
        Ok((group, gate))
    }

    /// Starts another command beside it, which is waited for by [`Group::next`] too, but is not of the group.
    pub(super) fn start_beside(
        command: &[OsString],
        environment: &[(&'static str, OsString)],
    ) -> Result<Pid, Trouble> {
        spawn(command, environment).map_err(|error| cannot_run(command, &error))
    }

    pub(super) fn id(&self) -> Pid {
        self.leader
    }

    /// A child of this program that is not of the command.
    pub(super) fn spare(&mut self, process: Pid) {
        self.spared.push(Kin::of_child(process));
    }

    /// Those that are spared.
    pub(super) fn spared(&self) -> &[Kin] {
        &self.spared
    }

    /// Sends a signal to all of the group.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.deserted {
            // It is no failure that nobody is left; who may not be signalled is told by `deaf`.
            let _ = kill_process_group(self.leader, signal);
        }
    }

    /// Sends a signal to all of the group and to what has left it.
    pub(super) fn signal_all(&self, signal: Signal) {
        self.signal(signal);
        let all = self.kin().into_iter();
        all.filter(|kin| kin.group != self.leader.as_raw_pid())
            .for_each(|kin| kin.signal(signal));
    }

    /// Those of them that this program may not signal, in words.
    pub(super) fn deaf(&self) -> Option<String> {
        deaf(&self.kin())
    }

    fn kin(&self) -> Vec<Kin> {
        descend_from(getpid(), &self.spared)
    }

    /// What happens next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> News {
        loop {
            let Some((process, status)) = self.reaped.recv().await else {
                return std::future::pending().await;
            };
            match status.stopping_signal() {
                Some(signal) if process == self.leader => return News::Stopped(signal),
                // A warden that was stopped falls silent.
                Some(_) => {}
                None if process == self.leader => {
                    self.ended = Some(status);
                    return News::Ended;
                }
                None => return News::Other(process),
            }
        }
    }

    /// Whether nothing of it is left, in its group or elsewhere.
    pub(super) fn is_gone(&mut self) -> bool {
        // Until the command has been reaped its id cannot be another's.
        if self.ended.is_some() && found_nobody(test_kill_process_group(self.leader)) {
            self.deserted = true;
        }
        // An orphan that was adopted during the first walk is a child of this program in the second.
        self.deserted && self.kin().is_empty() && self.kin().is_empty()
    }

    /// Whether the command was ended by a signal.
    pub(super) fn was_killed(&self) -> bool {
        self.ended.is_some_and(WaitStatus::signaled)
    }

    /// How the command ended, as an exit code.
    pub(super) fn exit(&self) -> Option<Exit> {
        let status = self.ended?;
        let code = status
            .exit_status()
            .and_then(|code| u8::try_from(code).ok());
        Some(match (code, status.terminating_signal()) {
            (Some(code), _) => Exit(code),
            (None, signal) => Exit::by_signal(signal.unwrap_or_default()),
        })
    }
}

/// The program of a command, and its arguments.
pub(super) fn words_of(command: &[OsString]) -> (&OsStr, &[OsString]) {
    let words = command.split_first();
    words.map_or((OsStr::new(""), &[]), |(program, rest)| {
        (program.as_os_str(), rest)
    })
}

fn spawn(command: &[OsString], environment: &[(&'static str, OsString)]) -> io::Result<Pid> {
    let (program, arguments) = words_of(command);
    let child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .spawn()?;
    Ok(Pid::from_child(&child))
}

/// What is told where a program does not start.
pub(crate) fn cannot_run(command: &[OsString], error: &io::Error) -> Trouble {
    let program = command
        .first()
        .map_or("".into(), |program| program.to_string_lossy());
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NO_SUCH_COMMAND,
        _ => Exit::CANNOT_RUN,
    };
    Trouble::new(exit, format!("cannot run {program:?}: {error}"))
        .then("no shell is used: give a program and its arguments, or `sh -c '…'`")
}

fn reap(told: &UnboundedSender<(Pid, WaitStatus)>) {
    loop {
        match wait(WaitOptions::UNTRACED) {
            Ok(Some(news)) => {
                if told.send(news).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            // Interrupted, or there is no child at this moment.
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}
