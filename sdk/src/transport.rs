//! One request to one member over HTTP/1.1.
//!
//! Owns connections. A long-poll has a connection of its own, so a renewal never waits behind one. Knows nothing of
//! retries or deadlines.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

/// The longest answer that is read: four times what a member puts on one page of anything.
const MAX_ANSWER_BYTES: usize = 32 << 20;

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends a request and reads the whole answer. Dropping the future gives the request up; a member may have it already.
pub(crate) trait Transport: Send + Sync {
    fn send(&self, request: Request<Bytes>) -> Boxed<'static, Result<Response<Bytes>, SendError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum SendError {
    /// No connection was had: no member has seen the request.
    NotSent(String),
    /// The connection broke: a member may have seen it.
    Broken(String),
}

/// HTTP, over TLS where the URL says so.
pub(crate) enum Http {
    /// Nothing of TLS was set up.
    Plain(Pool<HttpConnector, Full<Bytes>>),
    /// `https` and `http` alike.
    Secure(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Http {
    pub(crate) fn plain() -> Http {
        Http::Plain(builder().build(connector()))
    }

    pub(crate) fn secure(tls: ClientConfig) -> Http {
        let mut connector = connector();
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Http::Secure(builder().build(connector))
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
    fn send(&self, request: Request<Bytes>) -> Boxed<'static, Result<Response<Bytes>, SendError>> {
        let request = request.map(Full::new);
        let answer = match self {
            Http::Plain(pool) => pool.request(request),
            Http::Secure(pool) => pool.request(request),
        };
        Box::pin(async move {
            let answer = answer.await.map_err(|error| {
                let text = with_causes(&error);
                if error.is_connect() {
                    SendError::NotSent(text)
                } else {
                    SendError::Broken(text)
                }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| SendError::Broken(error.to_string()))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        })
    }
}

fn with_causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
