//! Tampering with the calls of a running member.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::common::{Process, SOON, wait};
use crate::round::Run;

/// A tracer that is attached to all threads of a member.
pub(super) struct Tampering {
    strace: Process,
    trace: PathBuf,
}

impl Tampering {
    /// Attaches, with what `strace` is to inject; returns when it is so, or when the member has ended of what was injected
    /// into the first of its threads.
    pub(super) fn with(run: &Run<'_>, member: usize, inject: &str) -> Tampering {
        let member = &run.rig.members[member];
        let id = member.id();
        let trace = run.rig.dir().join(format!("strace-{id}"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "signal=none", "-e", inject, "-o"]);
        strace.arg(&trace).args(["-p", &id.to_string()]);
        let strace = Process::start(&mut strace, &run.rig.dir().join("strace.log"));
        wait::until("all threads of the member are traced", SOON, || {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
            let traced = |task: std::fs::DirEntry| {
                let status = std::fs::read_to_string(task.path().join("status"));
                status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
            };
            let traced = tasks.is_ok_and(|tasks| tasks.flatten().all(traced));
            (traced || !member.is_running()).then_some(())
        });
        Tampering { strace, trace }
    }

    /// Lets go of the member; how many calls were tampered with.
    pub(super) fn end(mut self) -> usize {
        self.strace.signal(Signal::TERM);
        self.strace.exit_code(SOON);
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        trace
            .lines()
            .filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)"))
            .count()
    }
}
