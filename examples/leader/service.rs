//! What clients see: the active instance answers, the others say where it is.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::json;
use tenure::Leadership;

use crate::counter::{self, CountError};
use crate::instance::Instance;

/// Seconds after which a client should ask again where nobody is active.
const RETRY_SECONDS: &str = "1";

pub(crate) fn router(instance: Arc<Instance>) -> Router {
    Router::new()
        .route("/count", get(count).post(add))
        .route_layer(from_fn_with_state(Arc::clone(&instance), only_the_leader))
        .route("/healthz", get(health))
        .with_state(instance)
}

/// Works on a request while this instance leads, and no longer: shortly before the leadership could be another's, the
/// work is dropped.
async fn only_the_leader(
    State(instance): State<Arc<Instance>>,
    mut request: Request,
    next: Next,
) -> Response {
    let uri = request.uri().clone();
    let term = instance.term.read().await;
    let Some(leadership) = term.as_ref().filter(|leadership| leadership.is_held()) else {
        drop(term);
        return elsewhere(&instance, &uri);
    };
    request
        .extensions_mut()
        .insert(Term(Arc::downgrade(leadership)));
    match leadership.run(next.run(request)).await {
        Ok(response) => response,
        Err(_) => vacant("the leadership was lost while this was worked on: it may have been done"),
    }
}

/// The leadership by which a request is worked on. It does not keep it: whoever hands over must have it for itself.
#[derive(Clone)]
struct Term(std::sync::Weak<Leadership>);

async fn count(
    State(instance): State<Arc<Instance>>,
    Extension(term): Extension<Term>,
) -> Response {
    let counted = counter::read(&instance.client, &instance.election).await;
    answer(&instance, &term, counted)
}

async fn add(State(instance): State<Arc<Instance>>, Extension(term): Extension<Term>) -> Response {
    let Some(leadership) = term.0.upgrade() else {
        return vacant("this instance does not lead any longer");
    };
    let counted = counter::add(&instance.client, &instance.election, &leadership).await;
    answer(&instance, &term, counted)
}

fn answer(instance: &Instance, term: &Term, counted: Result<u64, CountError>) -> Response {
    let term = term.0.upgrade().map(|leadership| leadership.fence());
    match counted {
        Ok(count) => {
            Json(json!({"count": count, "by": instance.name, "term": term})).into_response()
        }
        Err(CountError::NotLeading) => {
            vacant("another instance has taken over; nothing was counted")
        }
        Err(CountError::Unreadable(detail)) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({"error": detail})),
        )
            .into_response(),
        Err(CountError::Tenure(error)) => vacant(&error.to_string()),
    }
}

/// Tells a load balancer that the instance is well, and people which role it has.
async fn health(State(instance): State<Arc<Instance>>) -> Response {
    let term = instance.term.read().await;
    let leads = term.as_ref().filter(|leadership| leadership.is_held());
    let health = json!({
        "name": instance.name,
        "role": if leads.is_some() { "active" } else { "standby" },
        "term": leads.map(|leadership| leadership.fence()),
        "leader": *instance.leader.borrow(),
    });
    Json(health).into_response()
}

/// 307 keeps the method and the body of a request. An instance never sends a client to itself.
fn elsewhere(instance: &Instance, uri: &Uri) -> Response {
    let leader = instance.leader.borrow().clone();
    let Some(leader) = leader.filter(|leader| is_url(leader) && *leader != instance.url) else {
        return vacant("no instance is active");
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = format!("{}{path}", leader.trim_end_matches('/'));
    match HeaderValue::try_from(location) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(_) => vacant("the active instance says nothing of where it is"),
    }
}

fn vacant(detail: &str) -> Response {
    let retry = [(RETRY_AFTER, RETRY_SECONDS)];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry,
        Json(json!({"error": detail})),
    )
        .into_response()
}

/// Whether clients can be sent there: anybody who may stand for the election says there what he likes.
pub(crate) fn is_url(text: &str) -> bool {
    let uri = text.parse::<Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}
