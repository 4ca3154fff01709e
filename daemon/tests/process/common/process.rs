//! One process of the built program: started, signalled by its id, and never left behind.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::binary::tenured;
use super::wait;

/// A process whose output goes to a file; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// How long the file was when this process was started.
    log_start: u64,
    /// How it ended, once it was seen to end.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command; what it writes to stdout and stderr is appended to the file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Process {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log file can be opened");
        let log_start = file.metadata().expect("the log file has a size").len();
        let clone =
            |file: &File| Stdio::from(file.try_clone().expect("the log file has another handle"));
        command
            .stdin(Stdio::null())
            .stdout(clone(&file))
            .stderr(clone(&file));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Process {
            child,
            log: log.to_owned(),
            log_start,
            ended: None,
        }
    }

    /// A command of the program, with an environment of its own.
    pub(crate) fn tenured<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(tenured());
        clean(&mut command).args(arguments);
        command
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, unless it has ended and been seen to.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// How it ended; none while it runs.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .expect("the process is a child of this one");
        }
        self.ended
    }

    /// Waits until it has ended, and answers its exit code; minus the signal where one ended it.
    pub(crate) fn exit_code(&mut self, within: Duration) -> i32 {
        let what = format!("the process {} has ended\n{}", self.id(), self.output());
        let status = wait::until(&what, within, || self.exit_status());
        status
            .code()
            .unwrap_or_else(|| -status.signal().unwrap_or_default())
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start)
            .unwrap_or_default()
            .min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    /// Waits until it has written a text.
    pub(crate) fn wait_for_output(&mut self, text: &str, within: Duration) {
        let found = wait::found(within, || {
            let ended = self.exit_status();
            let written = self.output().contains(text);
            (written || ended.is_some()).then_some(written)
        });
        let output = self.output();
        assert_eq!(
            found,
            Some(true),
            "{text:?} is not in the output within {within:?} ({:?}):\n{output}",
            self.ended
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Nothing of the caller's settings may reach a member.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("TENURED_") || text.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG")
}
