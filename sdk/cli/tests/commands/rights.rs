//! Programs that take the rights of another user, as `sudo` does, and a user with few rights who runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::machine::skip;

/// A user with few rights.
pub(crate) const NOBODY: u32 = 65534;

/// A program that gives its user all rights: `PROGRAM --reuid 0 COMMAND`. Everybody may then write to the directory that
/// it is in. Where these tests may not make one, that is said.
pub(crate) fn as_root(directory: &Path) -> Option<PathBuf> {
    let made = make(directory);
    if made.is_none() {
        skip(
            "what may not be signalled",
            "this needs root, setpriv and setuid programs",
        );
    }
    made
}

fn make(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("as-root");
    if !rustix::process::geteuid().is_root() || fs::copy("/usr/bin/setpriv", &program).is_err() {
        return None;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).ok()?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).ok()?;
    let mut check = Command::new(&program);
    let check = check.args(["--reuid", "0", "true"]).uid(NOBODY).gid(NOBODY);
    check
        .status()
        .is_ok_and(|status| status.success())
        .then_some(program)
}
