//! Members that run out of file descriptors or of memory.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use super::Evidence;
use crate::common::machine::run as run_program;
use crate::common::{SOON, wait};
use crate::round::Run;

/// Where memory is limited.
pub(super) const MEMORY_CGROUPS: &str = "/sys/fs/cgroup/memory";

/// A member may open no more files while clients connect: it goes on serving whom it serves, and serves all again when
/// it may.
pub(super) fn descriptors(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    let id = member.id().to_string();
    let open = || fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
    let before = limit(&id);
    set_limit(&id, &open().to_string());
    let mut crowd: Vec<TcpStream> = Vec::new();
    let unanswered = wait::found(SOON, || {
        let timeout = Duration::from_millis(300);
        crowd.extend(TcpStream::connect_timeout(&member.client, timeout));
        let mut client = member.client().with_patience(timeout);
        client.get("/livez").err()
    });
    wait::pass(Duration::from_millis(rng.u64(500..2_000)), || false);
    let (used, crowd_size) = (open(), crowd.len());
    drop(crowd);
    set_limit(&id, &before);
    match unanswered {
        Some(_) => Ok(format!(
            "{} had {used} files open and left one of {crowd_size} newcomers waiting",
            member.name
        )),
        None => Err(format!(
            "{} answered all {crowd_size} newcomers",
            member.name
        )),
    }
}

/// The limit of a process on open files.
fn limit(id: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let line = line
        .unwrap_or_default()
        .trim_start_matches("Max open files");
    line.split_whitespace().next().unwrap_or("1024").to_owned()
}

fn set_limit(id: &str, soft: &str) {
    run_program("prlimit", &["--pid", id, &format!("--nofile={soft}:")]);
}

/// A group that limits memory; gone when dropped.
struct Group(PathBuf);

impl Group {
    fn make() -> Result<Group, String> {
        let path = Path::new(MEMORY_CGROUPS).join(format!("tenure-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        Ok(Group(path))
    }

    fn limit(&self, bytes: u64) -> bool {
        fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string()).is_ok()
    }

    /// Whatever the calling thread starts belongs to the group.
    fn enter(&self) {
        fs::write(self.0.join("tasks"), "0").expect("a thread may join a group");
    }

    fn used(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.usage_in_bytes")).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        wait::found(Duration::from_secs(5), || fs::remove_dir(&self.0).ok());
    }
}

/// A member is given less and less memory until the kernel ends it, which is a crash like any other.
pub(super) fn memory(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    let group = Group::make()?;
    group.limit(512 << 20);
    member.kill();
    member.start_where(&run.rig.network, || group.enter());
    wait::found(SOON, || member.is_ready().then_some(()));
    let (mut bytes, most) = (group.used(), group.used());
    let ended = wait::found(SOON, || {
        // Less than what cannot be reclaimed is refused: then what is used is all that it gets.
        let used = group.used();
        bytes = [used - used / 20, used]
            .into_iter()
            .find(|bytes| group.limit(*bytes))
            .unwrap_or(bytes);
        wait::found(Duration::from_millis(200), || {
            (!member.is_running()).then_some(())
        })
    });
    let code = match ended {
        Some(()) => member.exit_code(SOON),
        None => None,
    };
    if code.is_none() {
        member.kill();
    }
    member.start(&run.rig.network);
    match code {
        Some(-9) => Ok(format!(
            "{} used {} KiB and was ended at a limit of {} KiB",
            member.name,
            most >> 10,
            bytes >> 10
        )),
        code => Err(format!(
            "{} ended with {code:?} at {bytes} bytes",
            member.name
        )),
    }
}
