//! What a test needs of the machine: to have it alone, to be root, to have a tool.

use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tests that measure time run alone; the others run beside one another.
static MACHINE: RwLock<()> = RwLock::new(());

/// Held by a test beside which others may run.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test beside which nothing may run.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
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

/// Says by name that a test cannot run here. In CI, where everything must be there, it fails instead.
pub(crate) fn skip(test: &str, reason: &str) {
    let strict = std::env::var_os("TENURE_TESTS_STRICT").is_some();
    assert!(!strict, "{test} cannot run here: {reason}");
    eprintln!("skipped: {test}: {reason}");
}
