//! Who asks: a token that was given, or one in a file that may get another at any time.
//!
//! Owns what is sent (`reread` when the file is looked at). Nothing here is ever shown.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;

use crate::error::{Error, Failure};
use crate::reread::Reread;

/// Of a file that is longer than any token not even the beginning is one.
const MOST_BYTES: u64 = 4096;

/// By what a client says who it is, beside a certificate.
pub(crate) enum Credential {
    /// By nothing.
    None,
    Token(HeaderValue),
    File(TokenFile),
}

/// A file with a token in it.
pub(crate) struct TokenFile {
    path: PathBuf,
    token: Arc<Reread<HeaderValue>>,
}

impl Credential {
    /// # Errors
    ///
    /// Where that is no token. It is not shown.
    pub(crate) fn token(token: &str) -> Result<Credential, Error> {
        let token = bearer(token).ok_or_else(|| refused(format!("the token is none: {FORM}")))?;
        Ok(Credential::Token(token))
    }

    /// # Errors
    ///
    /// Where the file cannot be read or what is in it is no token.
    pub(crate) fn file(path: PathBuf) -> Result<Credential, Error> {
        let of_file = path.clone();
        let token = Reread::new(move || read(&of_file)).map_err(refused)?;
        Ok(Credential::File(TokenFile { path, token }))
    }

    pub(crate) fn is_secret(&self) -> bool {
        !matches!(self, Credential::None)
    }

    /// What to send now. Must be called on a runtime.
    pub(crate) fn current(&self) -> Option<HeaderValue> {
        match self {
            Credential::None => None,
            Credential::Token(token) => Some(token.clone()),
            Credential::File(file) => Some(file.token.current()),
        }
    }

    /// What was sent is refused: reads the file again, and answers whether there is another token now.
    ///
    /// # Errors
    ///
    /// Where there is none, with what to add to the words of the refusal.
    pub(crate) async fn renewed(&self, sent: Option<&HeaderValue>) -> Result<(), String> {
        let Credential::File(file) = self else {
            return Err(String::new());
        };
        let is_another = || sent != Some(&file.token.known());
        if is_another() {
            return Ok(());
        }
        let shown = file.path.display();
        match file.token.again().await {
            Some(Ok(())) if is_another() => Ok(()),
            Some(Ok(())) => Err(format!("; there is no other token in {shown}")),
            Some(Err(why)) => Err(format!("; {why}")),
            None => Err(format!("; {shown} could not be read again in time")),
        }
    }
}

const FORM: &str = "visible ASCII characters without blanks are accepted, as <id>.<secret>";

fn read(path: &Path) -> Result<HeaderValue, String> {
    let shown = path.display();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("the token file {shown} cannot be read: {error}"))?;
    bearer(text.trim())
        .ok_or_else(|| format!("what is in the token file {shown} is no token: {FORM}"))
}

/// None where that is no token: it may be a secret with a slip in it.
fn bearer(token: &str) -> Option<HeaderValue> {
    let graphic = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = graphic.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let mut value = value.flatten()?;
    value.set_sensitive(true);
    Some(value)
}

fn refused(detail: String) -> Error {
    Error::NotApplied(Failure::local(detail))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reread::READ_EVERY;

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("there is room for a file");
        std::fs::write(file.path(), text).expect("it is written");
        file
    }

    fn sent(credential: &Credential) -> String {
        let token = credential.current().expect("there is a token");
        token.to_str().expect("it is text").to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn another_token_in_the_file_is_sent_soon_and_a_bad_one_never() {
        let file = written(" a.1\n");
        let credential = Credential::file(file.path().to_owned()).expect("there is a token");
        let all_read = async || {
            tokio::time::sleep(READ_EVERY).await;
            sent(&credential);
            // The clock goes on only when what reads has ended.
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(sent(&credential), "Bearer a.1");
        std::fs::write(file.path(), "a.2\n").expect("it is written");
        all_read().await;
        assert_eq!(sent(&credential), "Bearer a.2");
        // As a writer leaves it that does not write beside and rename.
        std::fs::write(file.path(), "").expect("it is written");
        all_read().await;
        assert_eq!(sent(&credential), "Bearer a.2");
    }

    #[tokio::test]
    async fn after_a_refusal_the_file_is_read_and_what_is_wrong_with_it_told_without_the_secret() {
        let file = written("a.1");
        let credential = Credential::file(file.path().to_owned()).expect("there is a token");
        let first = credential.current();
        let why = credential
            .renewed(first.as_ref())
            .await
            .expect_err("it is the same");
        assert!(why.contains("no other token"), "{why}");
        std::fs::write(file.path(), "a 5ecre7").expect("it is written");
        let why = credential
            .renewed(first.as_ref())
            .await
            .expect_err("it is none");
        assert!(
            why.contains("is no token") && !why.contains("5ecre7"),
            "{why}"
        );
        std::fs::write(file.path(), "a.2").expect("it is written");
        credential
            .renewed(first.as_ref())
            .await
            .expect("there is another");
        assert_eq!(sent(&credential), "Bearer a.2");
        std::fs::remove_file(file.path()).expect("it is removed");
        let why = credential.renewed(credential.current().as_ref()).await;
        assert!(why.expect_err("it is gone").contains("cannot be read"));
    }

    #[test]
    fn what_is_no_token_is_refused_at_once_and_not_shown() {
        let check = |told: Result<Credential, Error>, part: &str| {
            let told = told.err().expect("it is refused").to_string();
            assert!(told.contains(part) && !told.contains("5ecre7"), "{told}");
        };
        check(Credential::token("a 5ecre7"), "visible ASCII");
        check(Credential::token(""), "visible ASCII");
        check(
            Credential::file("/nonexistent/token".into()),
            "/nonexistent/token",
        );
        let long = written(&format!("5ecre7{}", "\n".repeat(5000)));
        assert!(Credential::file(long.path().to_owned()).is_ok());
        let blank = written(&"\n".repeat(5000));
        check(Credential::file(blank.path().to_owned()), "is no token");
    }
}
