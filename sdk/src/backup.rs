//! Backups of the whole cluster, written as they come.
//!
//! Owns the check that all of a backup has come: its length, and the digest at its end. What it holds is for `tenured` to
//! read.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use tenure_api::{BACKUP_END_BYTES, Code, backup_end, header};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use twox_hash::xxhash3_128::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::{Error, Failure};
use crate::name;
use crate::transport::{SendError, Streamed};

/// A member makes a backup whole before it sends the first byte, and a large one takes minutes.
const MADE_WITHIN: Duration = Duration::from_secs(600);
/// A backup of which nothing comes for so long is given up.
const QUIET: Duration = Duration::from_secs(60);
/// Between two rounds of asking all members while there is no leader.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(200);

/// A backup that was written and checked.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let made = client.backup(&mut Vec::new(), |_| {}).await?;
/// println!("cluster {} at revision {}, as {} had it", made.cluster, made.revision, made.member);
/// # assert!(made.bytes > 0 && made.cluster.len() == 32 && made.member.len() == 16);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BackedUp {
    /// How many bytes it has.
    pub bytes: u64,
    /// The XXH3-128 of all of them but the end, which says it too.
    pub digest: u128,
    /// The cluster whose state it is.
    pub cluster: String,
    /// The member that made it.
    pub member: String,
    /// The revision of that state.
    pub revision: u64,
}

/// Why there is no backup. Whatever was written by then is none.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::BackupError;
///
/// # let mut small = [0; 8];
/// # let mut file = std::io::Cursor::new(&mut small[..]);
/// match client.backup(&mut file, |_| {}).await {
///     Ok(made) => println!("{} bytes", made.bytes),
///     Err(BackupError::Refused(error)) => println!("no member made one: {error}"),
///     Err(BackupError::Write(error)) => println!("there is no room for it: {error}"),
///     Err(error) => println!("take another: {error}"),
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// No member made one.
    #[error("{0}")]
    Refused(Error),
    /// It was cut off on its way.
    #[error("the backup was cut off after {got} of {length} bytes: {why}")]
    CutOff {
        /// What came.
        got: u64,
        /// What there is.
        length: u64,
        /// What cut it off.
        why: String,
    },
    /// What came is not what was made.
    #[error(
        "the backup was damaged on its way: its end does not fit what came before it; take another"
    )]
    Damaged,
    /// It could not be written.
    #[error("the backup could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// A backup on its way, as [`Client::backup`] tells of it.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::BackupProgress;
///
/// let told = |progress: BackupProgress| eprintln!("{} of {} bytes", progress.written, progress.length);
/// client.backup(&mut Vec::new(), told).await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// The bytes that were written.
    pub written: u64,
    /// All there are.
    pub length: u64,
}

impl Client {
    /// Writes a backup of everything: what `tenured restore` makes a new cluster of. It has every write that was
    /// acknowledged before this call. The members are asked in the order of their URLs until one makes it; `progress` is
    /// told of what has come. Where this fails, what was written is not a backup: write to a file of another name, and give
    /// it its name when this has succeeded, as `tenure backup` does.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// let client = tenure::Client::connect(["http://127.0.0.1:7379"])?;
    /// # let client = tenure::Client::connect([url])?;
    /// client.put("config/a", "1").await?;
    /// let mut file = Vec::new();                       // or a `tokio::fs::File`
    /// let made = client.backup(&mut file, |_| {}).await?;
    /// println!("{} bytes, revision {}, digest {:032x}", made.bytes, made.revision, made.digest);
    /// # assert_eq!(made.bytes, file.len() as u64);
    /// # Ok(()) });
    /// ```
    ///
    /// Dropping the future ends it; the member forgets what it made.
    ///
    /// # Errors
    ///
    /// [`BackupError`].
    pub async fn backup(
        &self,
        out: &mut (impl AsyncWrite + Unpin),
        progress: impl FnMut(BackupProgress),
    ) -> Result<BackedUp, BackupError> {
        self.take_backup("/v1/backup".into(), out, progress).await
    }

    /// The same of some member's own state, which may be old: also while there is no leader.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| {
    /// # let client = tenure::Client::connect([url])?;
    /// let mut file = Vec::new();
    /// let made = client.local_backup(&mut file, |_| {}).await?;
    /// println!("what {} has, perhaps not the newest: {} bytes", made.member, made.bytes);
    /// # assert_eq!(made.bytes, file.len() as u64);
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves in `out` what had come until then, which is no backup.
    ///
    /// # Errors
    ///
    /// [`BackupError`].
    pub async fn local_backup(
        &self,
        out: &mut (impl AsyncWrite + Unpin),
        progress: impl FnMut(BackupProgress),
    ) -> Result<BackedUp, BackupError> {
        let path = name::with_query("/v1/backup".into(), &[("consistency", "local")]);
        self.take_backup(path, out, progress).await
    }

    async fn take_backup(
        &self,
        path: String,
        out: &mut (impl AsyncWrite + Unpin),
        progress: impl FnMut(BackupProgress),
    ) -> Result<BackedUp, BackupError> {
        let call = Call::new(Method::GET, path, Effect::Read, MADE_WITHIN);
        let end = Instant::now() + self.patience;
        loop {
            match self.made_somewhere(&call).await {
                Ok(answer) => return receive(answer, out, progress).await,
                // A leader may be elected just now.
                Err(error) if error.code() == Some(Code::NoLeader) && Instant::now() < end => {
                    sleep(BETWEEN_ROUNDS).await;
                }
                Err(error) => return Err(BackupError::Refused(error)),
            }
        }
    }

    /// The answer of the first member that makes one; else of what the members said what tells most.
    async fn made_somewhere(&self, call: &Call) -> Result<Response<Streamed>, Error> {
        let mut told = refused("no URL of a member is known".to_owned());
        for url in self.urls() {
            match self.made_at(call, &url).await {
                Ok(answer) => return Ok(answer),
                Err(error) if weight(&told) <= weight(&error) => told = error,
                Err(_) => {}
            }
        }
        Err(told)
    }

    async fn made_at(&self, call: &Call, url: &str) -> Result<Response<Streamed>, Error> {
        // Whether it is there at all is known soon; how long a backup takes to make is not.
        self.status_of(url).await?;
        let who = self.inner.credential.current();
        let request = call.request(url, &self.inner, who.as_ref())?;
        self.open(url, request).await
    }

    /// The answer of a member that makes a backup, of which the body is yet to come.
    async fn open(&self, url: &str, request: Request<Bytes>) -> Result<Response<Streamed>, Error> {
        let answer = match timeout(MADE_WITHIN, self.inner.transport.open(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(SendError::NotSent(why) | SendError::Broken(why))) => {
                return Err(refused(format!("{url}: {why}")));
            }
            Err(_) => return Err(refused(format!("{url}: no answer came in time"))),
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = timeout(QUIET, answer.into_body().collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let problem = body.as_ref().and_then(|body| Failure::read(body));
        Err(match problem {
            Some((failure, _)) => Error::NotApplied(failure),
            None => refused(format!("{url}: {status} without a word of Tenure's")),
        })
    }
}

/// How much a refusal tells: a member that is not reached less than one that answers, and what may pass less than what
/// does not.
fn weight(error: &Error) -> u8 {
    u8::from(error.code().is_some()) + u8::from(!error.may_pass())
}

fn refused(why: String) -> Error {
    Error::NotApplied(Failure::local(why))
}

/// Writes what comes, and checks that it is all and what was made.
async fn receive(
    answer: Response<Streamed>,
    out: &mut (impl AsyncWrite + Unpin),
    mut progress: impl FnMut(BackupProgress),
) -> Result<BackedUp, BackupError> {
    let (head, mut body) = answer.into_parts();
    let text = |name: &str| text_of(&head.headers, name);
    let number = |name: &str| text(name).parse().ok();
    let length: u64 = number(http::header::CONTENT_LENGTH.as_str()).ok_or_else(|| {
        BackupError::Refused(refused(
            "what answers is no member, or a proxy that takes the length away".to_owned(),
        ))
    })?;
    let mut end = Ending::default();
    loop {
        let got = end.seen;
        let cut_off = |why: String| BackupError::CutOff { got, length, why };
        let frame = match timeout(QUIET, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(why))) => return Err(cut_off(why)),
            Err(_) => return Err(cut_off(format!("nothing came for {} s", QUIET.as_secs()))),
        };
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        end.take(&bytes);
        out.write_all(&bytes).await?;
        progress(BackupProgress {
            written: end.seen,
            length,
        });
    }
    out.flush().await?;
    if end.seen != length {
        let (got, why) = (end.seen, "the member ended it".to_owned());
        return Err(BackupError::CutOff { got, length, why });
    }
    let digest = end.digest().ok_or(BackupError::Damaged)?;
    Ok(BackedUp {
        bytes: length,
        digest,
        cluster: text(header::CLUSTER),
        member: text(header::MEMBER),
        revision: number(header::REVISION).unwrap_or_default(),
    })
}

fn text_of(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// The last bytes of what has come, and the digest of all before them.
struct Ending {
    seen: u64,
    hasher: RawHasher<&'static [u8; DEFAULT_SECRET_LENGTH]>,
    last: Vec<u8>,
}

impl Default for Ending {
    fn default() -> Ending {
        Ending {
            seen: 0,
            hasher: RawHasher::new(SecretBuffer::default()),
            last: Vec::new(),
        }
    }
}

impl Ending {
    fn take(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        self.last.extend_from_slice(bytes);
        let passed = self.last.len().saturating_sub(BACKUP_END_BYTES);
        self.hasher.write(&self.last[..passed]);
        self.last.drain(..passed);
    }

    /// The digest, where the end says the same.
    fn digest(&self) -> Option<u128> {
        let digest = self.hasher.finish_128();
        let before = self.seen.checked_sub(BACKUP_END_BYTES as u64)?;
        (self.last[..] == backup_end(before, digest)).then_some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(parts: &[&[u8]]) -> Option<u128> {
        let mut end = Ending::default();
        parts.iter().for_each(|part| end.take(part));
        end.digest()
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come_and_nothing_else_is_taken_for_it() {
        let body: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        let digest = twox_hash::XxHash3_128::oneshot(&body);
        let whole = [&body[..], &backup_end(1000, digest)].concat();
        for at in [1, 31, 32, 33, 500, 1000, 1001, 1031] {
            let (first, rest) = whole.split_at(at);
            assert_eq!(ending(&[first, rest]), Some(digest), "{at}");
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(ending(&bytes), Some(digest));
        for at in [0, 999, 1000, 1007, 1008, 1023, 1024, 1031] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert_eq!(ending(&[&flipped]), None, "{at}");
        }
        assert_eq!(ending(&[&whole[..1031]]), None);
        assert_eq!(ending(&[b"short"]), None);
        assert_eq!(ending(&[]), None);
    }
}
