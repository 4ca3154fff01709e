//! The published contract as OpenAPI 3.1 (`api.md` §8), made from the wire types and the routes.
//!
//! Owns the document and its golden file `api/openapi.json`. `operations` matches on every family of routes, so a new
//! one fails to compile until somebody describes it; a test holds its methods to those that the routes allow.

mod examples;
mod operation;
mod operations;

use std::sync::LazyLock;

use bytes::Bytes;
use tenure_api::JSON;
use tenure_state::Kind;
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{HttpMethod, PathItem, PathsBuilder};
use utoipa::openapi::{ComponentsBuilder, OpenApi, OpenApiBuilder};

use super::failure::Failure;
use super::reply::Reply;
use super::route::Family;
use super::service::Context;
use operation::Schemas;

/// `GET /v1/openapi.json`
pub(super) async fn read(mut cx: Context<'_>) -> Result<Reply, Failure> {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| text().into());
    cx.finish_query()?;
    cx.no_body().await?;
    Ok(Reply::new(200, JSON, DOCUMENT.clone()))
}

/// Every family of routes.
const FAMILIES: [Family; 21] = [
    Family::Leases,
    Family::LeaseRenewals,
    Family::Lease,
    Family::LeaseRenewal,
    Family::Queues(Kind::Lock),
    Family::Queue(Kind::Lock),
    Family::Queues(Kind::Semaphore),
    Family::Queue(Kind::Semaphore),
    Family::Queues(Kind::Election),
    Family::Queue(Kind::Election),
    Family::Keys,
    Family::Key,
    Family::Transaction,
    Family::Watch,
    Family::Cluster,
    Family::Limits,
    Family::Compact,
    Family::Status,
    Family::OpenApi,
    Family::Live,
    Family::Ready,
];

/// The document as it is served.
fn text() -> String {
    let mut text = serde_json::to_string_pretty(&tightened()).unwrap_or_default();
    text.push('\n');
    text
}

/// The document, with what the wire types cannot say of themselves.
fn tightened() -> serde_json::Value {
    let mut document = serde_json::to_value(document()).unwrap_or_default();
    operations::tighten(&mut document);
    document
}

fn document() -> OpenApi {
    let mut schemas = Schemas::new();
    let mut paths = PathsBuilder::new();
    for family in FAMILIES {
        let mut item: Option<PathItem> = None;
        for (method, operation) in operations::of(family, &mut schemas) {
            let next = PathItem::new(method, operation);
            match &mut item {
                Some(item) => item.merge_operations(next),
                None => item = Some(next),
            }
        }
        if let Some(item) = item {
            paths = paths.path(family.template(), item);
        }
    }
    let info = InfoBuilder::new()
        .title("Tenure")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(operations::ABOUT))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas {
        components = components.schema(name, schema);
    }
    OpenApiBuilder::new()
        .info(info)
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

/// The word of a method as OpenAPI has it, upper-case.
#[cfg(test)]
fn word(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Put => "PUT",
        HttpMethod::Post => "POST",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Head => "HEAD",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Trace => "TRACE",
        _ => "another",
    }
}
