//! What a test needs of the machine: to have it alone, to be root, to have a tool.

use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What the machine has to give. More tests than that never run at a time, whatever `RUST_TEST_THREADS` says.
const SHARES: u32 = 6;

static MACHINE: Machine = Machine {
    queue: Mutex::new(Queue {
        free: SHARES,
        next: 0,
        served: 0,
    }),
    changed: Condvar::new(),
};

/// Shares are given in the order in which tests asked, so that whoever needs many is not passed over for ever.
struct Machine {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    free: u32,
    next: u64,
    served: u64,
}

impl Machine {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&'static self, shares: u32) -> Shares {
        let mut queue = self.queue();
        let turn = queue.next;
        queue.next += 1;
        while queue.served < turn || queue.free < shares {
            let waited = self.changed.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
        queue.served += 1;
        queue.free -= shares;
        self.changed.notify_all();
        Shares(shares)
    }
}

/// A part of the machine, until it is dropped.
pub(crate) struct Shares(u32);

impl Drop for Shares {
    fn drop(&mut self) {
        MACHINE.queue().free += self.0;
        MACHINE.changed.notify_all();
    }
}

/// Held by a test that mostly waits.
pub(crate) fn shared() -> Shares {
    MACHINE.take(1)
}

/// Held by a test that works a member hard, and whose bounds bear somebody else who does.
pub(crate) fn half() -> Shares {
    MACHINE.take(SHARES / 2)
}

/// Held by a test that measures time.
pub(crate) fn alone() -> Shares {
    MACHINE.take(SHARES)
}

/// Whether a command runs and succeeds.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runs a command that must succeed, and answers what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether `strace` can tamper with the calls of a process here.
pub(crate) fn can_inject() -> bool {
    succeeds(
        "strace",
        &[
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=fdatasync:error=EIO",
            "true",
        ],
    )
}

/// Says by name that a test cannot run here. In CI, where everything must be there, it fails instead.
pub(crate) fn skip(test: &str, reason: &str) {
    let strict = std::env::var_os("TENURE_TESTS_STRICT").is_some();
    assert!(!strict, "{test} cannot run here: {reason}");
    eprintln!("skipped: {test}: {reason}");
}
