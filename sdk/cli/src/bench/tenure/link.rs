//! One client's connection to one member.
//!
//! A connection of its own speaks HTTP/1.1 and is driven by the task that uses it, so that a request costs no hop
//! between tasks; one that clients share speaks HTTP/2. What was cut off in the middle of an answer is not used again.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;

use crate::bench::system::Failure;
use crate::settings::Access;

type Body = Full<Bytes>;
type Io = TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// What a connection speaks; over TLS the two agree on it first.
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// Where a member is, and how it is asked.
pub(crate) struct Member {
    pub(crate) url: String,
    authority: String,
    host: HeaderValue,
    /// Where it is asked by `https`.
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    authorization: Option<HeaderValue>,
}

impl Member {
    /// # Errors
    ///
    /// Where it is not `http://host:port` or `https://host:port`.
    pub(crate) fn new(url: &str, access: &Access) -> Result<Member, Failure> {
        let refused = |why: &str| {
            let detail = format!("{url:?} is not the URL of a member: {why}");
            Failure::new("invalid-url", detail)
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| refused("http://host:port is expected"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused("it must begin with http:// or https://")),
        };
        let authority = uri
            .authority()
            .filter(|authority| authority.port_u16().is_some())
            .ok_or_else(|| refused("it needs a host and a port"))?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(refused("nothing may follow http://host:port"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| refused("the host is not one"))?;
        let tls = access.tls.clone().filter(|_| is_secure);
        Ok(Member {
            url: url.trim_end_matches('/').to_owned(),
            host: HeaderValue::from_str(authority.as_str())
                .map_err(|_| refused("the host is not one"))?,
            authority: authority.to_string(),
            tls: tls.map(|tls| (name, tls)),
            authorization: access.authorization.clone(),
        })
    }

    async fn connect(&self, speaks: &[u8]) -> Result<Io, Failure> {
        let failed = |error| Failure::connection(format!("{}: {error}", self.url));
        let stream = TcpStream::connect(&self.authority).await.map_err(failed)?;
        // A small request leaves at once.
        stream.set_nodelay(true).map_err(failed)?;
        let Some((name, tls)) = &self.tls else {
            return Ok(TokioIo::new(Either::Left(stream)));
        };
        let mut tls = ClientConfig::clone(tls);
        tls.alpn_protocols = vec![speaks.to_vec()];
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(name.clone(), stream).await;
        Ok(TokioIo::new(Either::Right(Box::new(
            stream.map_err(failed)?,
        ))))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let mut told = format!("{}: {error}", self.url);
        let mut cause = error.source();
        while let Some(inner) = cause {
            told = format!("{told}: {inner}");
            cause = inner.source();
        }
        // Whoever asks for a certificate refuses after its side of the handshake, which may be seen as a broken connection only.
        let anonymous = self.tls.as_ref();
        if anonymous.is_some_and(|(_, tls)| !tls.client_auth_cert_resolver.has_certs()) {
            told += "; no client certificate was shown, which the member may ask for";
        }
        Failure::connection(told)
    }
}

/// A connection that several clients share; made when it is needed.
pub(crate) type Shared = Arc<Mutex<Option<http2::SendRequest<Body>>>>;

/// A client's way to its member.
pub(crate) struct Link {
    member: Arc<Member>,
    shared: Option<Shared>,
    carrier: Option<Carrier>,
}

impl Link {
    pub(crate) fn new(member: Arc<Member>, shared: Option<Shared>) -> Link {
        Link {
            member,
            shared,
            carrier: None,
        }
    }

    /// Connects now, in place of at the first request.
    pub(crate) async fn open(&mut self) -> Result<(), Failure> {
        if self.carrier.is_none() {
            self.carrier = Some(self.connect().await?);
        }
        Ok(())
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(
        &mut self,
        request: Request<Body>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut carrier = self.carrier().await?;
        let answer = carrier
            .exchange(request)
            .await
            .map_err(|error| self.member.broken(&error))?;
        self.carrier = (!carrier.is_closed()).then_some(carrier);
        Ok(answer)
    }

    /// Sends a request whose answer has no end. The connection goes with it.
    pub(crate) async fn stream(&mut self, request: Request<Body>) -> Result<Stream, Failure> {
        let mut carrier = self.carrier().await?;
        let (status, body) = carrier
            .begin(request)
            .await
            .map_err(|error| self.member.broken(&error))?;
        Ok(Stream {
            status,
            body,
            carrier,
            member: Arc::clone(&self.member),
        })
    }

    /// A request to this member; `target` is a path with a query.
    pub(crate) fn request(&self, method: Method, target: &str, body: Bytes) -> Request<Body> {
        let request = Request::builder().method(method);
        let request = match self.shared {
            None => request
                .uri(target)
                .header(http::header::HOST, &self.member.host),
            Some(_) => request.uri(format!("{}{target}", self.member.url)),
        };
        let request = match &self.member.authorization {
            Some(who) => request.header(http::header::AUTHORIZATION, who),
            None => request,
        };
        request
            .body(Full::new(body))
            .expect("names are made of letters, digits and slashes")
    }

    /// Taken out while it is used: where the future is dropped, what is half done goes with it.
    async fn carrier(&mut self) -> Result<Carrier, Failure> {
        match self.carrier.take() {
            Some(carrier) => Ok(carrier),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<Carrier, Failure> {
        let broken = |error| self.member.broken(&error);
        let Some(shared) = &self.shared else {
            let stream = self.member.connect(HTTP_1).await?;
            let (sender, driver) = http1::handshake(stream).await.map_err(broken)?;
            return Ok(Carrier::Own(Box::new(Own { sender, driver })));
        };
        let mut shared = shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Carrier::Shared(sender.clone()));
        }
        let stream = self.member.connect(HTTP_2).await?;
        let (sender, driver) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .map_err(broken)?;
        // It ends with the last sender; a failure of the connection is also one of each request on it.
        tokio::spawn(driver);
        *shared = Some(sender.clone());
        Ok(Carrier::Shared(sender))
    }
}

enum Carrier {
    Own(Box<Own>),
    Shared(http2::SendRequest<Body>),
}

struct Own {
    sender: http1::SendRequest<Body>,
    driver: http1::Connection<Io, Body>,
}

impl Carrier {
    fn is_closed(&self) -> bool {
        match self {
            Carrier::Own(own) => own.sender.is_closed(),
            Carrier::Shared(sender) => sender.is_closed(),
        }
    }

    async fn exchange(
        &mut self,
        request: Request<Body>,
    ) -> Result<(StatusCode, Bytes), hyper::Error> {
        match self {
            Carrier::Own(own) => {
                let Own { sender, driver } = &mut **own;
                sender_ready(sender, driver).await?;
                drive(driver, whole(sender.send_request(request))).await
            }
            Carrier::Shared(sender) => {
                sender.ready().await?;
                whole(sender.send_request(request)).await
            }
        }
    }

    async fn begin(
        &mut self,
        request: Request<Body>,
    ) -> Result<(StatusCode, Incoming), hyper::Error> {
        let answer = match self {
            Carrier::Own(own) => {
                let Own { sender, driver } = &mut **own;
                sender_ready(sender, driver).await?;
                drive(driver, sender.send_request(request)).await?
            }
            Carrier::Shared(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Ok((answer.status(), answer.into_body()))
    }
}

/// HTTP/1.1 takes the next request only when the last answer is done with, which the driver finds out.
async fn sender_ready(
    sender: &mut http1::SendRequest<Body>,
    driver: &mut http1::Connection<Io, Body>,
) -> Result<(), hyper::Error> {
    if sender.is_ready() {
        return Ok(());
    }
    drive(driver, sender.ready()).await
}

async fn whole(
    answer: impl Future<Output = Result<http::Response<Incoming>, hyper::Error>>,
) -> Result<(StatusCode, Bytes), hyper::Error> {
    let answer = answer.await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, body))
}

/// Runs a connection until something on it is done, in the task that waits for it.
async fn drive<T>(
    driver: &mut http1::Connection<Io, Body>,
    work: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, hyper::Error> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        ended = &mut *driver => ended?,
        done = &mut work => return done,
    }
    // The connection has ended in good order; what it had read is still to be had.
    work.await
}

/// An answer without an end.
pub(crate) struct Stream {
    pub(crate) status: StatusCode,
    body: Incoming,
    carrier: Carrier,
    member: Arc<Member>,
}

impl Stream {
    /// The next piece; none at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let next = async {
                match self.body.frame().await {
                    None => Ok(None),
                    Some(frame) => frame.map(Some),
                }
            };
            let frame = match &mut self.carrier {
                Carrier::Own(own) => drive(&mut own.driver, next).await,
                Carrier::Shared(_) => next.await,
            };
            match frame.map_err(|error| self.member.broken(&error))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_none_is_refused_with_what_would_be_one() {
        let access = Access {
            endpoints: Vec::new(),
            tls: None,
            authorization: None,
        };
        for (url, why) in [
            ("127.0.0.1:7379", "http://"),
            ("ftp://a:1", "must begin with http:// or https://"),
            ("http://a", "a host and a port"),
            ("http://a:1/v1", "nothing may follow"),
            ("", "http://host:port"),
        ] {
            let failure = Member::new(url, &access).err().expect("it is refused");
            assert!(failure.detail.contains(why), "{url}: {failure}");
        }
        let member = Member::new("http://127.0.0.1:7379/", &access).expect("it is one");
        assert_eq!(member.url, "http://127.0.0.1:7379");
        let member = Member::new("https://[::1]:7379", &access).expect("it is one");
        assert_eq!(member.authority, "[::1]:7379");
    }
}
