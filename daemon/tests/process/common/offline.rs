//! `tenured` on files that no member runs on, and the members that come of it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cluster::{Cluster, Member};
use super::process::Process;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Itself, where it ended with this code.
    pub(crate) fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Itself, where what went wrong is told with all of these.
    pub(crate) fn telling(self, parts: &[&str]) -> Ran {
        let told = parts.iter().all(|part| self.err.contains(part));
        assert!(told, "{parts:?} is not in {self:?}");
        self
    }
}

/// Runs `tenured` to its end.
pub(crate) fn tenured(arguments: &[&str]) -> Ran {
    let output = Process::tenured(arguments)
        .output()
        .expect("tenured can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// A path as an argument.
pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// What `tenured verify` says of files that are whole.
pub(crate) fn verified(path: &Path) -> Value {
    let ran = tenured(&["verify", shown(path), "--output", "json"]).expect(0);
    serde_json::from_str(&ran.out).expect("it is JSON")
}

/// A backup that this member gives, in a file.
pub(crate) fn backup(cluster: &Cluster, member: usize, name: &str) -> PathBuf {
    let answer = cluster.members[member].client().persistent();
    let answer = { answer }.get("/v1/backup").expect("the member answers");
    let path = cluster.dir().join(name);
    std::fs::write(&path, answer.expect(200).body).expect("there is room for it");
    path
}

/// Restores a backup to where a member keeps its data.
pub(crate) fn restore(file: &Path, to: &Member) -> Ran {
    let url = |address: std::net::SocketAddr| format!("http://{address}");
    tenured(&[
        "restore",
        shown(file),
        "--name",
        &to.name,
        "--data-dir",
        shown(&to.data_dir),
        "--client-advertise",
        &url(to.client),
        "--peer-advertise",
        &url(to.peer),
    ])
}
