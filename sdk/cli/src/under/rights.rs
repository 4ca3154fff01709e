//! Whether this user may stop what a command is, as far as its file tells.
//!
//! Owns the warning before a command begins. A program that takes the rights of another user, as `sudo` does, cannot be
//! signalled by who started it: nobody could end it when the hold is lost.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::geteuid;

use super::group::words_of;

const SETUID: u32 = 0o4000;
const EXECUTABLE: u32 = 0o111;

/// The file of a command that takes the rights of another user, where it does and this user has not all rights.
pub(super) fn takes_others(command: &[OsString]) -> Option<PathBuf> {
    if geteuid().is_root() {
        return None;
    }
    let path = env::var_os("PATH");
    let (program, _) = words_of(command);
    let (file, is) = found(program, path.as_deref().unwrap_or_default())?;
    (is.mode() & SETUID != 0 && is.uid() != geteuid().as_raw()).then_some(file)
}

/// The file that is run for a name, as `execvp` looks for it.
fn found(program: &OsStr, path: &OsStr) -> Option<(PathBuf, Metadata)> {
    let file = |file: PathBuf| {
        let is = fs::metadata(&file).ok()?;
        (is.is_file() && is.mode() & EXECUTABLE != 0).then_some((file, is))
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return file(program.into());
    }
    env::split_paths(path).find_map(|directory| file(directory.join(program)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_found_as_the_system_finds_it() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        for (place, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(place).expect("it is made");
            fs::write(place.join("job"), "").expect("it is written");
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(place.join("job"), mode).expect("it is changed");
        }
        let path = env::join_paths([&first, &second]).expect("they have no colon");
        let found = |name: &OsStr| found(name, &path).map(|(file, _)| file);
        let job = second.join("job");
        assert_eq!(
            found(OsStr::new("job")),
            Some(job.clone()),
            "what cannot be run is passed over"
        );
        assert_eq!(found(job.as_os_str()), Some(job));
        assert_eq!(
            found(OsStr::new("second/job")),
            None,
            "a path is not looked for"
        );
        assert_eq!(found(OsStr::new("none")), None);
    }
}
