//! What clients see: greetings, and what the service runs with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tenure::ConfigMirror;

use crate::pace::Pace;
use crate::settings::{Running, Setting};

pub(crate) struct Service {
    pub(crate) mirror: ConfigMirror<Setting>,
    pace: Pace,
}

impl Service {
    pub(crate) fn new(mirror: ConfigMirror<Setting>) -> Service {
        Service {
            mirror,
            pace: Pace::new(Instant::now()),
        }
    }

    fn running(&self) -> Running {
        self.mirror
            .view()
            .map_or_else(Running::default, |view| Running::of(&view))
    }
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(greet))
        .route("/config", get(config))
        .with_state(service)
}

async fn greet(State(service): State<Arc<Service>>) -> Response {
    let running = service.running();
    if service
        .pace
        .admits(Instant::now(), running.limits.requests_per_second)
    {
        return format!("{}\n", running.greeting.text).into_response();
    }
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response()
}

/// What is in force, as of when, and what is not because it is wrong. `stale_ms` is how long ago the cluster last
/// confirmed it: more than some ten seconds say that the cluster is away.
async fn config(State(service): State<Arc<Service>>) -> Response {
    let view = service.mirror.view();
    let bad = view.iter().flat_map(|view| &view.bad);
    let bad: BTreeMap<&String, serde_json::Value> = bad
        .map(|(name, bad)| {
            (
                name,
                json!({"why": bad.why, "since_revision": bad.mod_revision}),
            )
        })
        .collect();
    let stale = service.mirror.staleness();
    let config = json!({
        "running": service.running(),
        "revision": view.as_ref().map(|view| view.revision),
        "bad": bad,
        "stale_ms": stale.map(|stale| u64::try_from(stale.as_millis()).unwrap_or(u64::MAX)),
        "trouble": service.mirror.trouble().map(|error| error.to_string()),
    });
    Json(config).into_response()
}
