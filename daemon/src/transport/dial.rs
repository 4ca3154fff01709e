//! Connections that this member makes: TCP, then HTTP/2 with prior knowledge.
//!
//! Owns reaching an address within a bounded time and noticing when it is gone. What is said on a connection is the
//! caller's. Follows no redirect, uses no proxy, and never waits without a limit.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::DropGuard;

use super::handshake::Refusal;
use super::tasks::Tasks;

/// The port of a peer URL that names none.
const DEFAULT_PORT: u16 = 7380;

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// From looking the name up to an established connection.
    pub(super) connect_timeout: Duration,
    /// Between pings.
    pub(super) ping_interval: Duration,
    /// How long an unanswered ping is waited for: then the connection is lost, though no packet said so.
    pub(super) ping_timeout: Duration,
}

/// The line of a single call, which has a limit of its own around it.
pub(super) const CALL: Line = Line {
    connect_timeout: Duration::from_secs(2),
    ping_interval: Duration::from_secs(1),
    ping_timeout: Duration::from_secs(3),
};

/// Why a member was not reached, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The peer URL cannot be used.
    #[error("peer URL {url:?} is not of the form http://host:port")]
    Url {
        /// As configured.
        url: String,
    },
    /// There is no connection to be had.
    #[error("{0}")]
    Connect(std::io::Error),
    /// It took longer than allowed.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection broke, or does not speak HTTP/2.
    #[error("{}", chain(.0))]
    Http(hyper::Error),
    /// The member answered, and will have nothing to do with this one.
    #[error("{0}")]
    Refused(Refusal),
    /// What came is no answer of a member.
    #[error("unusable answer: {0}")]
    Answer(String),
    /// The stream ended without a reason given.
    #[error("the stream was closed")]
    Closed,
}

/// An error with all its causes, because hyper says the interesting part in the last one.
fn chain(error: &hyper::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn Error), |error| (*error).source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// An HTTP/2 connection; dropping it closes it at once.
#[derive(Debug)]
pub(super) struct Connection<B> {
    sender: http2::SendRequest<B>,
    authority: Authority,
    _close: DropGuard,
}

/// Connects to the member at `peer_url`, with tasks of its own.
pub(super) async fn connect<B>(peer_url: &str, line: &Line) -> Result<Connection<B>, DialError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    connect_in(&Tasks::default(), peer_url, line).await
}

/// Connects to the member at `peer_url`; the tasks of the connection belong to `tasks`.
pub(super) async fn connect_in<B>(
    tasks: &Tasks,
    peer_url: &str,
    line: &Line,
) -> Result<Connection<B>, DialError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let authority = authority(peer_url)?;
    let tasks = tasks.child();
    let close = tasks.stop_on_drop();
    let work = async {
        let stream = connect_tcp(&authority).await.map_err(DialError::Connect)?;
        let handshake = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(line.ping_interval)
            .keep_alive_timeout(line.ping_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        handshake.await.map_err(DialError::Http)
    };
    let limit = line.connect_timeout;
    let (sender, driver) = tokio::time::timeout(limit, work)
        .await
        .map_err(|_| DialError::TimedOut(limit))??;
    hyper::rt::Executor::execute(&tasks, driver);
    Ok(Connection {
        sender,
        authority,
        _close: close,
    })
}

async fn connect_tcp(authority: &Authority) -> std::io::Result<TcpStream> {
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
    let stream = TcpStream::connect((host, port)).await?;
    // A heartbeat must not wait for company (Nagle).
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The address in a peer URL.
fn authority(peer_url: &str) -> Result<Authority, DialError> {
    let wrong = || DialError::Url {
        url: peer_url.to_owned(),
    };
    let uri: Uri = peer_url.parse().map_err(|_| wrong())?;
    let parts = uri.into_parts();
    let plain = parts.path_and_query.is_none_or(|path| path == "/");
    match parts.authority {
        Some(authority)
            if parts.scheme == Some(Scheme::HTTP) && plain && !authority.as_str().contains('@') =>
        {
            Ok(authority)
        }
        Some(_) | None => Err(wrong()),
    }
}

/// Says whether a text can be used as a peer URL.
///
/// # Errors
/// [`DialError::Url`] where it cannot.
pub fn check_peer_url(peer_url: &str) -> Result<(), DialError> {
    authority(peer_url).map(drop)
}

impl<B> Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The URI of a path on this connection.
    pub(super) fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, DialError> {
        self.sender
            .send_request(request)
            .await
            .map_err(DialError::Http)
    }
}

/// Reads the body of an answer, as far as `limit`.
pub(super) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, DialError> {
    let collected = Limited::new(body, limit).collect().await;
    collected
        .map(Collected::to_bytes)
        .map_err(|error| DialError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<&str>) {
        assert_eq!(
            authority(url).ok().as_ref().map(Authority::as_str),
            expected,
            "{url}"
        );
    }

    #[test]
    fn peer_urls_are_http_with_a_host_and_nothing_behind_it() {
        check("http://10.0.0.1:7380", Some("10.0.0.1:7380"));
        check("http://10.0.0.1:7380/", Some("10.0.0.1:7380"));
        check("http://[::1]:7380", Some("[::1]:7380"));
        check("http://n1.example", Some("n1.example"));
        for wrong in [
            "",
            "n1",
            "n1:7380",
            "https://n1:7380",
            "http://n1/x",
            "http://n1/?q",
            "http://a@n1:1",
            "http://",
        ] {
            check(wrong, None);
        }
    }
}
