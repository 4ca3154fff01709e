//! One request to one member over HTTP/1.1.
//!
//! Owns connections, and when new ones are made since another certificate is to be shown. A long-poll has a connection of its own, so a renewal never waits behind one. Each runtime has
//! connections of its own: one that is not run any more would not carry what another sends. Knows nothing of retries or
//! deadlines.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::runtime::{Handle, Id};

use crate::certificate::{CertificateFiles, Shown};
use crate::tls::Speaking;

/// The longest answer that is read: four times what a member puts on one page of anything.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// Of so many runtimes connections are kept for the next request; of others they are made anew.
const MAX_RUNTIMES: usize = 8;

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends a request and reads the whole answer. Dropping the future gives the request up; a member may have it already.
pub(crate) trait Transport: Send + Sync {
    fn send(&self, request: Request<Bytes>) -> Boxed<'static, Result<Response<Bytes>, SendError>>;

    /// Sends a request and reads the head of its answer; the body, which may be of any length, is yet to come.
    fn open(
        &self,
        request: Request<Bytes>,
    ) -> Boxed<'static, Result<Response<Streamed>, SendError>>;

    /// The certificate that is shown now, where there may be another some time.
    fn shown(&self) -> Option<Shown> {
        None
    }

    /// Whoever showed this is refused: looks whether another is to be shown.
    ///
    /// # Errors
    ///
    /// Where none is, with what to add to the words of the refusal.
    fn renewed<'a>(&'a self, _refused: Option<&'a Shown>) -> Boxed<'a, Result<(), String>> {
        Box::pin(std::future::ready(Err(String::new())))
    }
}

/// A body that is read as it comes; what cuts it off is told in words.
pub(crate) type Streamed = UnsyncBoxBody<Bytes, String>;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum SendError {
    /// No connection was had: no member has seen the request.
    NotSent(String),
    /// The connection broke: a member may have seen it.
    Broken(String),
}

/// HTTP, over TLS where the URL says so.
pub(crate) struct Http {
    /// None where nothing of TLS was set up.
    tls: Option<Speaking>,
    kept: Mutex<Kept>,
}

/// The connections that are there for the next request.
#[derive(Default)]
struct Kept {
    /// What was shown when they were made, where that may become another.
    shown: Option<Shown>,
    /// By runtime; the one that was used last is the last.
    connections: Vec<(Option<Id>, Connections)>,
}

/// The connections of one runtime.
#[derive(Clone)]
enum Connections {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    /// `https` and `http` alike.
    Secure(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Http {
    pub(crate) fn plain() -> Http {
        Http {
            tls: None,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn secure(tls: Speaking) -> Http {
        Http {
            tls: Some(tls),
            kept: Mutex::default(),
        }
    }

    fn files(&self) -> Option<&Arc<CertificateFiles>> {
        self.tls.as_ref()?.files.as_ref()
    }

    /// Those of this runtime. Where another certificate is shown now, new ones are made: what is under way on the old ones
    /// goes on there.
    fn connections(&self) -> Connections {
        let runtime = Handle::try_current().ok().map(|runtime| runtime.id());
        let shown = self.shown();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.shown != shown {
            kept.connections.clear();
            kept.shown = shown;
        }
        let known = &mut kept.connections;
        let place = known.iter().position(|(of, _)| *of == runtime);
        let connections = match place {
            Some(place) => known.remove(place).1,
            None => Connections::new(self.tls.as_ref().map(|tls| &tls.config)),
        };
        known.push((runtime, connections.clone()));
        let surplus = known.len().saturating_sub(MAX_RUNTIMES);
        known.drain(..surplus);
        connections
    }
}

impl Connections {
    fn new(tls: Option<&ClientConfig>) -> Connections {
        let mut connector = connector();
        let Some(tls) = tls else {
            return Connections::Plain(builder().build(connector));
        };
        connector.enforce_http(false);
        let mut tls = tls.clone();
        // Members know who resumes a session by what he showed when it began.
        tls.resumption = Resumption::in_memory_sessions(SESSIONS);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Connections::Secure(builder().build(connector))
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    // A small request leaves at once.
    connector.set_nodelay(true);
    connector
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    builder
}

impl Transport for Http {
    fn shown(&self) -> Option<Shown> {
        self.files().map(|files| files.current())
    }

    fn renewed<'a>(&'a self, refused: Option<&'a Shown>) -> Boxed<'a, Result<(), String>> {
        match self.files() {
            Some(files) => Box::pin(files.renewed(refused)),
            None => Box::pin(std::future::ready(Err(String::new()))),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Boxed<'static, Result<Response<Bytes>, SendError>> {
        let answer = self.open(request);
        Box::pin(async move {
            let (head, body) = answer.await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| SendError::Broken(error.to_string()))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        })
    }

    fn open(
        &self,
        request: Request<Bytes>,
    ) -> Boxed<'static, Result<Response<Streamed>, SendError>> {
        let request = request.map(Full::new);
        let (answer, by_tls) = match self.connections() {
            Connections::Plain(pool) => (pool.request(request), false),
            Connections::Secure(pool) => (pool.request(request), true),
        };
        Box::pin(async move {
            let answer = answer.await.map_err(|error| {
                let mut text = with_causes(&error);
                if by_tls && text.contains(NEVER_READY) {
                    text += WHY_NOT_READY;
                }
                if error.is_connect() {
                    SendError::NotSent(text)
                } else {
                    SendError::Broken(text)
                }
            })?;
            Ok(answer.map(|body| body.map_err(|error| error.to_string()).boxed_unsync()))
        })
    }
}

/// Sessions that may be resumed: one for each member of a cluster, and more.
const SESSIONS: usize = 64;

/// How the library says that a connection was closed before anything could be sent. Its cause is lost: with TLS 1.3, whoever
/// does not show the certificate that the other side wants is told so only behind the handshake.
const NEVER_READY: &str = "connection was not ready";
const WHY_NOT_READY: &str =
    "; a member that wants a certificate of its clients closes connections so";

fn with_causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
