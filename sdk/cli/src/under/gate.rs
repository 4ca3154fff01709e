//! A gate before a command: it is a process already, in a group that can be watched, but runs nothing yet.
//!
//! Owns the moment at which a command begins. Whoever killed this program between the start of a command and the watch over
//! it would leave a command that nobody ends. So what is started is this program once more: it turns into the command when
//! it is told to, and ends where nobody is left who could tell it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::ValueEnum;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use super::group::{cannot_run, words_of};
use crate::exit::{Exit, Trouble};
use crate::output::Output;

/// The name under which it is run: nothing that a user types.
const NAME: &str = "tenure-gate";
/// This program, also where its file was replaced or removed since it was started.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// What holds a command back. Dropped, the command is never run.
pub(super) struct Gate(PipeWriter);

impl Gate {
    /// Starts a command behind it, in a group of its own, with more in its environment. What does not start is told by
    /// itself, in this form, and by its exit code.
    pub(super) fn before(
        command: &[OsString],
        environment: &[(&'static str, OsString)],
        output: Output,
    ) -> io::Result<(Pid, Gate)> {
        let (wait, gate) = io::pipe()?;
        // Only what is started next inherits it, and closes it before it turns into the command.
        fcntl_setfd(&wait, FdFlags::empty())?;
        let child = Command::new(THIS_PROGRAM)
            .arg0(NAME)
            .arg(wait.as_raw_fd().to_string())
            .arg(word(output))
            .args(command)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .spawn()?;
        Ok((Pid::from_child(&child), Gate(gate)))
    }

    /// Lets the command run.
    pub(super) fn open(mut self) {
        // Where nobody waits any more, its end is told by whoever reaps it.
        let _ = self.0.write_all(b"!");
    }
}

fn word(output: Output) -> String {
    let word = output.to_possible_value();
    word.map_or_else(String::new, |word| word.get_name().to_owned())
}

/// Whether this process was started to wait before a command.
pub(crate) fn is_meant() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// Waits, and turns into the command; answers only where that did not come to be.
pub(crate) fn run() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (gate, output) = (arguments.next(), arguments.next());
    let output = output.and_then(|output| Output::from_str(output.to_str()?, false).ok());
    let (Some(gate), Some(output)) = (gate, output) else {
        return Exit::USAGE.into();
    };
    let command: Vec<OsString> = arguments.collect();
    let trouble = match was_opened(&gate) {
        Ok(true) => {
            let (program, arguments) = words_of(&command);
            cannot_run(&command, &Command::new(program).args(arguments).exec())
        }
        // There is nobody to be told anything.
        Ok(false) => return Exit::CANNOT_RUN.into(),
        Err(error) => Trouble::new(
            Exit::CANNOT_RUN,
            format!("the command was not run: what holds it back cannot be read: {error}"),
        ),
    };
    trouble.tell(output);
    trouble.exit.into()
}

/// Waits until the gate is opened, or until nobody is left to open it.
fn was_opened(gate: &OsStr) -> io::Result<bool> {
    let number: i32 = gate
        .to_str()
        .and_then(|gate| gate.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{gate:?} is no number of a file")))?;
    // Opened anew, it is not passed on to the command; the number would be.
    let mut pipe = File::open(format!("/proc/self/fd/{number}"))?;
    nix::unistd::close(number)?;
    Ok(pipe.read(&mut [0])? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_answers_is_told_by_the_word_that_it_is_read_by() {
        for output in [Output::Table, Output::Json] {
            assert_eq!(Output::from_str(&word(output), false), Ok(output));
        }
    }
}
