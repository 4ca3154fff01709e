//! What clients are told while this member belongs to no cluster yet.
//!
//! Owns three answers: it is alive, it is not ready, and it serves nothing else. There is no state to answer from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tenure_api::{Code, header};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::service::made_id;
use super::{manners, secured};
use crate::tls::{Port, Wire};

/// Connections at a time: there is nothing to be had here yet.
const CONNECTIONS: usize = 256;
const HEADER_PATIENCE: Duration = Duration::from_secs(5);
/// A cluster may form at any moment.
const RETRY_AFTER_MS: u64 = 1_000;
const DETAIL: &str = "this member belongs to no cluster yet: it waits for the other initial members, or to be added to \
    the cluster that it is to join, or must be replaced; its log says which";

/// Answers every client until it is dropped, which ends its connections.
pub(crate) async fn serve(listener: &TcpListener, tls: Option<&Arc<Port>>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, address)) => {
                    let tls = tls.cloned();
                    connections.spawn(async move {
                        let wire = match tls {
                            None => Wire::Plain(stream),
                            Some(port) => match secured::secure(&port, stream, address, true).await {
                                Some((wire, _)) => wire,
                                None => return,
                            },
                        };
                        let serving = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEADER_PATIENCE)
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(wire), service_fn(answer));
                        // A client that goes away is no news.
                        let _ = serving.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept clients");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let given_id = manners::request_id(request.headers()).ok().flatten();
    let id = given_id.unwrap_or_else(|| made_id(getrandom::u64().unwrap_or_default()));
    let (status, content_type, body) = match request.uri().path() {
        "/livez" => (
            StatusCode::OK,
            "text/plain; charset=utf-8",
            "ok\n".to_owned(),
        ),
        "/readyz" => {
            let body = json!({ "ready": false, "reasons": ["no cluster yet"] });
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "application/json",
                body.to_string(),
            )
        }
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "application/problem+json",
            problem(),
        ),
    };
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(CACHE_CONTROL, "no-store")
        .header(CONNECTION, "close")
        .header(header::REQUEST_ID, id)
        .header(RETRY_AFTER, RETRY_AFTER_MS / 1_000)
        .body(Full::from(body));
    Ok(response.expect("the parts are constant"))
}

fn problem() -> String {
    let code = Code::NoLeader;
    json!({
        "type": format!("urn:tenure:problem:{}", code.as_str()),
        "title": code.title(),
        "status": code.status(),
        "detail": DETAIL,
        "code": code.as_str(),
        "outcome": code.outcome(),
        "retry": code.retry(),
        "retry_after_ms": RETRY_AFTER_MS,
    })
    .to_string()
}
