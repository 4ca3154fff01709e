//! A PostgreSQL server for one test, where the machine has the program.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::common::{Process, SOON, machine, wait};

/// The user that the server runs as where the test is root, which it refuses to be.
const USER: &str = "postgres";
/// It ends by itself soon; a server that is left behind would keep its directory.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Postgres {
    server: Process,
    programs: PathBuf,
    address: SocketAddr,
    _directory: TempDir,
}

impl Postgres {
    /// Starts one with trust in whoever connects; says why it cannot.
    pub(crate) fn start(address: SocketAddr) -> Result<Postgres, String> {
        let programs = programs().ok_or("there is no /usr/lib/postgresql/*/bin/initdb")?;
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let path = directory.path().display().to_string();
        if is_root() {
            machine::run("chown", &[USER, &path]);
        }
        let data = format!("{path}/data");
        let mut initdb = as_user(&programs.join("initdb"));
        initdb.args([
            "--auth=trust",
            "--no-sync",
            "--username",
            USER,
            "--pgdata",
            &data,
        ]);
        let made = initdb
            .output()
            .map_err(|error| format!("{initdb:?}: {error}"))?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        let mut serve = as_user(&programs.join("postgres"));
        serve.args([
            "-D",
            &data,
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
        ]);
        serve.args(["-c", "unix_socket_directories="]);
        let log = directory.path().join("server.log");
        let mut server = Process::start(&mut serve, &log);
        server.wait_for_output("ready to accept connections", SOON);
        Ok(Postgres {
            server,
            programs,
            address,
            _directory: directory,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}@{}/postgres", self.address)
    }

    /// What a statement answers: a line for each row, its values separated by `|`.
    pub(crate) fn query(&self, statement: &str) -> String {
        let psql = self.programs.join("psql");
        machine::run(
            psql.to_str().expect("it was found under a plain name"),
            &[
                "--no-align",
                "--tuples-only",
                "--dbname",
                &self.url(),
                "--command",
                statement,
            ],
        )
    }
}

impl Drop for Postgres {
    /// Its children end with it only where it is asked to end.
    fn drop(&mut self) {
        self.server.signal(rustix::process::Signal::QUIT);
        let _ = wait::found(STOPS_WITHIN, || self.server.exit_status());
    }
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs
        .filter(|programs| programs.join("initdb").exists())
        .max()
}

fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"])
        .arg(program);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
