//! `tenure backup`: a copy of everything, in a file.
//!
//! Owns that under the name that was asked for there is a whole backup or nothing of ours: it is checked before it is given
//! that name.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tenure::{BackedUp, BackupError, BackupProgress};
use tokio::io::AsyncWrite;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Trouble};
use crate::fresh::Fresh;
use crate::output::{self, Output};
use crate::settings::Session;

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
