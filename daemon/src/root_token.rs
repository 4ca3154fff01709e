//! The token with which a new cluster begins, as a file.
//!
//! Owns how `tenured token` makes one and how a member that forms a cluster reads it. Never shows a secret in an error or
//! a log line, and never writes over a file: the token of a cluster that runs would be lost with it.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tenure_state::RootToken;

use crate::given_file;
use crate::token::{TOKEN_FORM, Token};

/// A token and the end of its line; whatever is longer is something else.
const MOST_BYTES: u64 = 100;

/// Why there is no root token. The text names the file, and says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum RootTokenError {
    /// The file cannot be read.
    #[error("root_token_file is {path}, which cannot be read: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file holds something else.
    #[error(
        "root_token_file is {path}, which does not hold {TOKEN_FORM}, alone on one line; `tenured token --out FILE` makes one"
    )]
    NoToken {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be made.
    #[error("cannot make {path} for a token: {reason}; accepted is a file that is not there yet")]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The token cannot be shown.
    #[error("cannot write the token: {0}")]
    Output(io::Error),
    /// There are no random numbers.
    #[error("the system has no random numbers for a token: {0}")]
    Random(#[from] getrandom::Error),
}

/// What a cluster that is formed with this file begins with.
///
/// # Errors
///
/// Where the file cannot be read or holds no token.
pub fn read(path: &Path) -> Result<RootToken, RootTokenError> {
    let unreadable = |reason| RootTokenError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let mut text = Vec::new();
    let file = given_file::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let token = Token::parse(line).map_err(|_| RootTokenError::NoToken {
        path: path.to_owned(),
    })?;
    Ok(RootToken {
        id: token.id(),
        hash: token.hash(),
    })
}

/// Makes a token: into a new file that only this user can read, or onto `shown`.
///
/// # Errors
///
/// Where there are no random numbers, the file is there already or cannot be written, or nobody reads what is shown.
pub fn make(out: Option<&Path>, shown: &mut impl Write) -> Result<(), RootTokenError> {
    let token = Token::draw()?;
    let line = format!("{}\n", token.reveal());
    let Some(path) = out else {
        let written = shown.write_all(line.as_bytes());
        return written
            .and_then(|()| shown.flush())
            .map_err(RootTokenError::Output);
    };
    write_new(path, line.as_bytes()).map_err(|reason| RootTokenError::Unwritable {
        path: path.to_owned(),
        reason,
    })
}

fn write_new(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(line).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a token is none, and would be in the way of the next try.
        let _ = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_made_is_read_and_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("root");
        let mut shown = Vec::new();
        make(Some(&path), &mut shown).expect("it is new");
        assert_eq!(shown, b"");
        let mode = std::fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("it is text");
        let token = Token::parse(text.trim_end().as_bytes()).expect("a token");
        let root = read(&path).expect("a token");
        assert_eq!((root.id, root.hash), (token.id(), token.hash()));
        make(None, &mut shown).expect("it is shown");
        std::fs::write(&path, shown.trim_ascii_end()).expect("it is written");
        assert_ne!(read(&path).expect("without an end of line").id, root.id);
    }

    #[test]
    fn a_file_that_is_there_is_never_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("root");
        std::fs::write(&path, "mine").expect("it is written");
        let error = make(Some(&path), &mut Vec::new()).expect_err("it is there");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert_eq!(std::fs::read(&path).expect("it is there"), b"mine");
    }

    #[test]
    fn a_file_that_holds_no_token_is_named_and_its_content_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("root");
        let good = format!("{}.{}", "a".repeat(16), "b".repeat(64));
        let nearly = [
            "",
            "\n",
            &good[1..],
            &format!("{good}\n\n"),
            &format!(" {good}"),
            &good.repeat(2),
        ];
        for text in nearly {
            std::fs::write(&path, text).expect("it is written");
            let error = read(&path).expect_err("it is no token").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(
                !error.contains("bbbb") && !error.contains("aaaa"),
                "{error}"
            );
        }
        std::fs::write(&path, format!("{good}\r\n")).expect("it is written");
        assert!(read(&path).is_ok(), "an editor's end of line");
        let error = read(&dir.path().join("none")).expect_err("it is not there");
        assert!(error.to_string().contains("none"), "{error}");
        let error = read(dir.path()).expect_err("it is a directory").to_string();
        assert!(error.contains("a regular file is accepted"), "{error}");
    }
}
