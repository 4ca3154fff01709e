//! `tenure backup`: a copy of everything, in a file.
//!
//! Owns the rule that under the name that was asked for there is a whole backup or nothing of ours: it is written under
//! another name beside it, checked, synced, and only then given its own.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tenure::{BackedUp, BackupError, BackupProgress};
use tokio::io::AsyncWrite;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Session;

/// A backup has every value in it, and is for nobody else.
const PRIVATE: u32 = 0o600;
const REDRAWN_EVERY: Duration = Duration::from_millis(100);

/// Writes a backup of the whole cluster to a file
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It has everything that was acknowledged before. The file appears when it is whole, checked and on the disk; what was cut off is no \
backup. `tenured verify` says what is in one, `tenured restore` makes a new cluster of it: keys as they were, every lease and hold \
ended.

Examples:
  tenure backup monday.backup
  tenure backup - | ssh vault 'cat > monday.backup'       check it there: tenured verify monday.backup
  tenure --endpoints http://10.0.0.3:7379 backup --local last.backup    what one member has, without a leader")]
pub(crate) struct Backup {
    /// Where it goes; `-` is stdout
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// What the first member that answers has by itself, which may be old: also while there is no leader
    #[arg(long)]
    local: bool,
}

impl Backup {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let made = tokio::select! {
            made = self.take(session) => made?,
            number = stopped() => {
                // What was written has no name yet, and is removed as its writer is dropped.
                return Err(Trouble::new(Exit::by_signal(number), "stopped before the backup was whole; no file was made"));
            }
        };
        let whole = format!(
            "backup of cluster {} at revision {}: {} bytes, digest {:032x}",
            made.cluster, made.revision, made.bytes, made.digest
        );
        match (self.is_stdout(), session.output) {
            (true, _) => output::note(whole),
            (false, Output::Table) => output::text(&format!("{whole}\n"))?,
            (false, Output::Json) => output::json(&json!({
                "file": self.file.to_string_lossy(),
                "cluster": made.cluster,
                "member": made.member,
                "revision": made.revision,
                "bytes": made.bytes,
                "digest": format!("{:032x}", made.digest),
            }))?,
        }
        Ok(Exit::DONE)
    }

    fn is_stdout(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    async fn take(&self, session: &Session) -> Result<BackedUp, Trouble> {
        if self.is_stdout() {
            return self.receive(session, &mut tokio::io::stdout()).await;
        }
        let fresh = Fresh::beside(&self.file, self.force)?;
        let file = fresh
            .file
            .try_clone()
            .map_err(|error| fresh.failed(error))?;
        let made = self
            .receive(session, &mut tokio::fs::File::from_std(file))
            .await?;
        tokio::task::spawn_blocking(move || fresh.give_name())
            .await
            .map_err(|_| {
                Trouble::new(
                    Exit::FAILED,
                    "the thread that gives the file its name ended",
                )
            })??;
        Ok(made)
    }

    async fn receive(
        &self,
        session: &Session,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<BackedUp, Trouble> {
        let bar = Bar::default();
        let progress = |progress| bar.tell(progress);
        let made = match self.local {
            true => session.client.local_backup(out, progress).await,
            false => session.client.backup(out, progress).await,
        };
        bar.end();
        made.map_err(trouble)
    }
}

/// The signal that ends it.
async fn stopped() -> i32 {
    let wait = async |kind: SignalKind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // It then ends the process, and leaves the file of the other name.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => SignalKind::interrupt().as_raw_value(),
        () = wait(SignalKind::terminate()) => SignalKind::terminate().as_raw_value(),
        () = wait(SignalKind::hangup()) => SignalKind::hangup().as_raw_value(),
    }
}

fn trouble(error: BackupError) -> Trouble {
    match error {
        BackupError::Refused(error) => Trouble::from(error),
        BackupError::Write(error) => Trouble::from(error).ending(Exit::FAILED),
        other => Trouble::new(Exit::FAILED, other.to_string())
            .then("try again, or another member with --endpoints"),
    }
}

/// A file that is written under another name until it is whole; without its name it is removed.
struct Fresh {
    file: File,
    path: PathBuf,
    name: PathBuf,
    force: bool,
}

impl Fresh {
    fn beside(name: &Path, force: bool) -> Result<Fresh, Trouble> {
        let Some(own) = name.file_name() else {
            let what = format!("{} is no name of a file", name.display());
            return Err(
                Trouble::usage(what).then("name a file that is to be made, or - for stdout")
            );
        };
        match name.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let what = format!("{} is a directory", name.display());
                return Err(Trouble::usage(what).then("name a file in it"));
            }
            Ok(_) if !force => return Err(there_already(name)),
            Ok(_) | Err(_) => {}
        }
        let own = own.to_string_lossy();
        let path = name.with_file_name(format!(".{own}.{}.part", std::process::id()));
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(&path);
        let file = opened.map_err(|error| cannot("make", &path, &error))?;
        Ok(Fresh {
            file,
            path,
            name: name.to_owned(),
            force,
        })
    }

    fn failed(&self, error: io::Error) -> Trouble {
        cannot("write", &self.path, &error)
    }

    /// On the disk first, then by its name, then the name on the disk.
    fn give_name(self) -> Result<(), Trouble> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let named = match self.force {
            true => std::fs::rename(&self.path, &self.name),
            // A second name is refused where the file has come to be meanwhile; the first one goes at the end.
            false => std::fs::hard_link(&self.path, &self.name),
        };
        named.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => there_already(&self.name),
            _ => cannot("give its name to", &self.name, &error),
        })?;
        let folder = match self.name.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| cannot("sync", folder, &error))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Where it has its name by now, there is nothing of the other.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn there_already(name: &Path) -> Trouble {
    let what = format!("{} is there already", name.display());
    Trouble::usage(what).then("choose another name, or replace it with --force")
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Trouble {
    Trouble::new(
        Exit::FAILED,
        format!("cannot {what} {}: {error}", path.display()),
    )
}

/// What has come, for whoever looks at a terminal.
#[derive(Default)]
struct Bar(std::cell::OnceCell<ProgressBar>);

impl Bar {
    fn tell(&self, progress: BackupProgress) {
        if !io::stderr().is_terminal() {
            return;
        }
        let bar = self.0.get_or_init(|| {
            let bar = ProgressBar::new(progress.length);
            let style = ProgressStyle::with_template(
                "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go",
            );
            bar.set_style(style.expect("the template is one"));
            bar.enable_steady_tick(REDRAWN_EVERY);
            bar
        });
        bar.set_position(progress.written);
    }

    fn end(&self) {
        if let Some(bar) = self.0.get() {
            bar.finish_and_clear();
        }
    }
}
