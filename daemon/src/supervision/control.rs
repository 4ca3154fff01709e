//! The socket in the data directory by which `tenured reload` speaks to the member that runs there.
//!
//! Owns the socket and its few words: a line with what is asked, and a line of JSON that answers it. Who may use the
//! data directory may use the socket, and nobody else. That there is an answer is why this is not only a signal:
//! `systemctl reload` must fail where the settings are refused.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::reload::{Reloaded, Reloader};

const NAME: &str = "control.sock";
const RELOAD: &str = "reload\n";
/// What is asked and answered is at most so long.
const LONGEST: u64 = 64 << 10;
/// Whoever connects asks within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever asks is answered within this time: some files are read.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The socket, bound. It is gone when this is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    dir: File,
    /// Which file it is: by then another process may have bound one of its own.
    bound: (u64, u64),
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The settings were read again.
    Reloaded(Reloaded),
    /// They are refused, and nothing has changed.
    Refused(String),
}

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers.
    #[error(
        "no member answers at {path}: {source}; does one run on this data directory, and may you use it?"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The answer makes no sense.
    #[error(
        "the member answers {0:?}, which this program does not understand: are they of one version?"
    )]
    Unintelligible(String),
    /// The settings are refused.
    #[error("{0}")]
    Refused(String),
}

impl Control {
    /// Binds the socket in a data directory that this process has locked, so that whoever bound it before is gone.
    ///
    /// # Errors
    /// Where the file system knows no sockets, or denies it.
    pub fn bind(data_dir: &Path) -> io::Result<Control> {
        let dir = File::open(data_dir)?;
        let path = short(&dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = blocking::UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let bound = which(&path)?;
        Ok(Control {
            listener: UnixListener::from_std(listener)?,
            dir,
            bound,
        })
    }

    /// Answers until it is dropped, one after the other.
    pub async fn serve(self, reloader: Arc<Reloader>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = answer(stream, &reloader).await {
                        tracing::debug!(%error, "whoever asked on the control socket is gone");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot be used");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let path = short(&self.dir);
        if which(&path).is_ok_and(|found| found == self.bound) {
            // Where it stays, whoever comes next takes it away.
            let _ = fs::remove_file(&path);
        }
    }
}

fn which(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

async fn answer(mut stream: UnixStream, reloader: &Arc<Reloader>) -> io::Result<()> {
    let mut asked = [0; RELOAD.len()];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut asked));
    read.await.map_err(|_| io::ErrorKind::TimedOut)??;
    let answer = if asked == *RELOAD.as_bytes() {
        let reloader = Arc::clone(reloader);
        let reloaded = tokio::task::spawn_blocking(move || reloader.reload()).await;
        match reloaded.map_err(io::Error::other)? {
            Ok(reloaded) => Answer::Reloaded(reloaded),
            Err(error) => Answer::Refused(error.to_string()),
        }
    } else {
        let asked = String::from_utf8_lossy(&asked);
        Answer::Refused(format!(
            "this member is asked {asked:?} and knows only {RELOAD:?}"
        ))
    };
    let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    line.push(b'\n');
    let written = tokio::time::timeout(PATIENCE, stream.write_all(&line));
    written.await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Asks the member that runs on a data directory to read its settings again.
///
/// # Errors
/// Where none runs there, or it refuses them.
pub fn ask_to_reload(data_dir: &Path) -> Result<Reloaded, ControlError> {
    let line = ask(data_dir).map_err(|source| ControlError::Unreachable {
        path: data_dir.join(NAME),
        source,
    })?;
    match serde_json::from_str(&line) {
        Ok(Answer::Reloaded(reloaded)) => Ok(reloaded),
        Ok(Answer::Refused(why)) => Err(ControlError::Refused(why)),
        Err(_) => Err(ControlError::Unintelligible(line)),
    }
}

fn ask(data_dir: &Path) -> io::Result<String> {
    let dir = File::open(data_dir)?;
    let mut stream = blocking::UnixStream::connect(short(&dir))?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.write_all(RELOAD.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// The path of the socket by way of its open directory: the path of a socket has at most 107 bytes, and that of a data
/// directory may have more.
fn short(dir: &File) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_bound_and_found_however_long_the_path_of_its_directory_is() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let deep = dir.path().join("x".repeat(200));
        fs::create_dir(&deep).expect("it can be made");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let _entered = runtime.enter();
        for _ in 0..2 {
            // As after `kill -9`, the socket of another is in the way.
            let left =
                blocking::UnixListener::bind(short(&File::open(&deep).expect("it is there")));
            drop(left.expect("it can be bound"));
            let control = Control::bind(&deep).expect("it is bound");
            let answering = std::thread::spawn({
                let deep = deep.clone();
                move || ask_to_reload(&deep)
            });
            runtime.block_on(async {
                let (mut stream, _) = control.listener.accept().await.expect("somebody asks");
                let mut asked = [0; RELOAD.len()];
                stream.read_exact(&mut asked).await.expect("it is asked");
                assert_eq!(asked, *RELOAD.as_bytes());
                let answer = b"{\"refused\":\"log_filter is \\\"x\\\"\"}\n";
                stream.write_all(answer).await.expect("it is answered");
            });
            let answered = answering.join().expect("it does not panic");
            let error = answered.expect_err("it is refused");
            assert_eq!(error.to_string(), "log_filter is \"x\"");
            // One that was bound after it is not its to remove.
            let after = Control::bind(&deep).expect("it is bound");
            drop(control);
            assert!(deep.join(NAME).exists());
            drop(after);
            assert!(!deep.join(NAME).exists());
        }
    }

    #[test]
    fn without_a_member_it_is_said_where_none_answers() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let error = ask_to_reload(dir.path()).expect_err("nobody is there");
        let text = error.to_string();
        let socket = dir.path().join(NAME);
        assert!(text.contains(&socket.display().to_string()), "{text}");
        assert!(text.contains("does one run"), "{text}");
    }
}
