//! Running the program: its exit code, what it printed, and processes that are never left behind.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::offline::{backup, restore};
use crate::common::{Cluster, Process, SOON, wait};

pub(crate) const TENURE: &str = env!("CARGO_BIN_EXE_tenure");

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Itself, where the exit code is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

pub(crate) fn urls(cluster: &Cluster) -> String {
    let urls = cluster
        .members
        .iter()
        .map(|member| format!("http://{}", member.client));
    urls.collect::<Vec<_>>().join(",")
}

/// The program with nothing of the settings of whoever runs the tests.
pub(crate) fn tenure<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(TENURE);
    bare(&mut command).args(arguments);
    command
}

/// Takes away what would tell the program of another cluster.
pub(crate) fn bare(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENURE_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("COLUMNS")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
}

/// The program, asking these members.
pub(crate) fn at<A: AsRef<OsStr>>(
    cluster: &Cluster,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = tenure(arguments);
    command.env("TENURE_ENDPOINTS", urls(cluster));
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs it against a cluster.
pub(crate) fn ran<A: AsRef<OsStr>>(
    cluster: &Cluster,
    arguments: impl IntoIterator<Item = A>,
) -> Ran {
    run(&mut at(cluster, arguments))
}

/// Starts it, with its output in a file of the cluster's directory.
pub(crate) fn begun<A: AsRef<OsStr>>(
    cluster: &Cluster,
    log: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Process {
    Process::start(&mut at(cluster, arguments), &cluster.dir().join(log))
}

/// Puts what a cluster of one member holds back as a backup of it had it: it is another cluster from then on.
pub(crate) fn restored(cluster: &Cluster) {
    let file = backup(cluster, 0, "before");
    let member = &cluster.members[0];
    member.lose_disk();
    restore(&file, member).expect(0);
    member.start();
    cluster.wait_until_ready();
}

/// Waits until a file has text in it, and answers that.
pub(crate) fn text_of(path: &Path) -> String {
    wait::until(&format!("{} is written", path.display()), SOON, || {
        let text = std::fs::read_to_string(path).ok()?;
        text.ends_with('\n').then_some(text)
    })
}

/// Waits until a lock has so many holders and waiters.
pub(crate) fn wait_for_lock(cluster: &Cluster, name: &str, holders: u64, waiting: u64) {
    let what = format!("{name} has {holders} holders and {waiting} who wait");
    wait::until(&what, SOON, || {
        let lock = lock(cluster, name)?;
        (lock["holder_count"] == holders && lock["queue_length"] == waiting).then_some(())
    });
}

/// A lock as the member says that runs.
pub(crate) fn lock(cluster: &Cluster, name: &str) -> Option<Value> {
    let member = cluster.members.iter().find(|member| member.runs())?;
    let mut client = member.client().with_patience(Duration::from_secs(2));
    let answer = client.get(&format!("/v1/locks/{name}")).ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// Whether a process is there, be it a zombie.
pub(crate) fn lives(process: &str) -> bool {
    Path::new("/proc").join(process.trim()).exists()
}

/// Waits until the process has ended whose number is in a file.
pub(crate) fn wait_until_ended(process: &Path) {
    let process = text_of(process);
    wait::until("the command has ended", SOON, || {
        (!lives(&process)).then_some(())
    });
}
