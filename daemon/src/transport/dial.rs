//! Connections that this member makes: TCP, TLS where it has certificates, then HTTP/2 with prior knowledge.
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
use crate::tls::{Calling, MemberCertificate, Port, Trouble, Wire, is_secure};

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
    #[error("peer URL {url:?} is not of the form http://host:port or https://host:port")]
    Url {
        /// As configured.
        url: String,
    },
    /// There is no connection to be had.
    #[error("{0}")]
    Connect(std::io::Error),
    /// Whoever is there is not who was meant, or this side is not trusted there.
    #[error("{0}")]
    Distrust(String),
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
    scheme: Scheme,
    /// That of the other side, where it had to show one.
    certificate: Option<MemberCertificate>,
    _close: DropGuard,
}

/// Who is to be reached, which decides how the connection is secured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom<'a> {
    /// Another member: by TLS where this one has certificates for that, whatever its URL says, since a cluster that has
    /// changed to TLS remembers the URLs from before; and never otherwise.
    Member(Option<&'a Port>),
    /// A member as clients reach it: as its URL says.
    AsClient(&'a Calling),
}

/// Connects to the member at `peer_url`, with tasks of its own.
pub(super) async fn connect<B>(
    peer_url: &str,
    whom: Whom<'_>,
    line: &Line,
) -> Result<Connection<B>, DialError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    connect_in(&Tasks::default(), peer_url, whom, line).await
}

/// Connects to the member at `peer_url`; the tasks of the connection belong to `tasks`.
pub(super) async fn connect_in<B>(
    tasks: &Tasks,
    peer_url: &str,
    whom: Whom<'_>,
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
        let (stream, certificate) = secure(stream, peer_url, &authority, whom).await?;
        let scheme = match stream.is_secure() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        };
        let handshake = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(line.ping_interval)
            .keep_alive_timeout(line.ping_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        let (sender, driver) = handshake.await.map_err(DialError::Http)?;
        Ok((sender, driver, scheme, certificate))
    };
    let limit = line.connect_timeout;
    let (sender, driver, scheme, certificate) = tokio::time::timeout(limit, work)
        .await
        .map_err(|_| DialError::TimedOut(limit))??;
    hyper::rt::Executor::execute(&tasks, driver);
    Ok(Connection {
        sender,
        authority,
        scheme,
        certificate,
        _close: close,
    })
}

/// Secures a connection as it must be.
async fn secure(
    stream: TcpStream,
    url: &str,
    authority: &Authority,
    whom: Whom<'_>,
) -> Result<(Wire, Option<MemberCertificate>), DialError> {
    match whom {
        Whom::AsClient(calling) => {
            let wire = calling.secure(stream, url).await;
            wire.map(|wire| (wire, None)).map_err(unsecured)
        }
        Whom::Member(Some(port)) => {
            let dialled = port.dial(stream, host(authority)).await;
            let (wire, certificate) = dialled.map_err(unsecured)?;
            Ok((wire, Some(MemberCertificate::of(&certificate))))
        }
        Whom::Member(None) if is_secure(url) => Err(DialError::Distrust(format!(
            "{url} is https, and this member has no certificate to show there: set peer_cert_file, peer_key_file and peer_ca_file"
        ))),
        Whom::Member(None) => Ok((Wire::Plain(stream), None)),
    }
}

/// A connection that breaks while it is being secured says nothing about who is there.
fn unsecured(trouble: Trouble) -> DialError {
    match trouble {
        Trouble::Distrust(why) => DialError::Distrust(why),
        other => DialError::Connect(std::io::Error::other(other)),
    }
}

/// The host of an authority, an address without its brackets.
fn host(authority: &Authority) -> &str {
    let host = authority.host();
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn connect_tcp(authority: &Authority) -> std::io::Result<TcpStream> {
    let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
    let stream = TcpStream::connect((host(authority), port)).await?;
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
            if matches!(&parts.scheme, Some(scheme) if [Scheme::HTTP, Scheme::HTTPS].contains(scheme))
                && plain
                && !authority.as_str().contains('@') =>
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
        format!("{}://{}{path}", self.scheme, self.authority)
    }

    /// Makes sure that the other side is the member of this name, which is reached at this URL; anybody is where nothing is
    /// secured.
    ///
    /// # Errors
    /// [`DialError::Distrust`] where its certificate is not that member's.
    pub(super) fn check(&self, name: &str, peer_url: &str) -> Result<(), DialError> {
        let certificate = self.certificate.as_ref();
        let checked = certificate.map_or(Ok(()), |shown| shown.is_of(name, peer_url));
        checked.map_err(|why| {
            DialError::Distrust(format!("whoever is at {peer_url} is not {name}: {why}"))
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, DialError> {
        let sent = self.sender.send_request(request).await;
        sent.map_err(|error| {
            let words = chain(&error);
            // With TLS 1.3 the other side looks at our certificate only after our side of the handshake is done.
            match self.certificate.is_some() && words.contains("alert") {
                true => DialError::Distrust(format!(
                    "it does not accept the certificate of this member: {words}"
                )),
                false => DialError::Http(error),
            }
        })
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
        check("https://n1:7380", Some("n1:7380"));
        for wrong in [
            "",
            "n1",
            "n1:7380",
            "ftp://n1:7380",
            "http://n1/x",
            "http://n1/?q",
            "http://a@n1:1",
            "http://",
        ] {
            check(wrong, None);
        }
    }
}
