//! The published contract as OpenAPI 3.1 (`api.md` §8), made from the wire types and the routes.
//!
//! Owns the document and its golden file `api/openapi.json`. `operations` matches on every family of routes, so a new
//! one fails to compile until somebody describes it; a test holds its methods to those that the routes allow.

mod operation;
mod operations;
mod security;
mod tighten;

use std::sync::LazyLock;

use bytes::Bytes;
use tenure_api::JSON;
use tenure_state::Kind;
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{PathItem, PathsBuilder};
use utoipa::openapi::{ComponentsBuilder, OpenApi, OpenApiBuilder};

use super::failure::Failure;
use super::reply::Reply;
use super::route::Family;
use super::service::Context;
use operation::Found;

/// `GET /v1/openapi.json`
pub(super) async fn read(mut cx: Context<'_>) -> Result<Reply, Failure> {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| text().into());
    cx.finish_query()?;
    cx.no_body().await?;
    Ok(Reply::new(200, JSON, DOCUMENT.clone()))
}

/// Every family of routes.
const FAMILIES: [Family; 36] = [
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
    Family::Members,
    Family::Member,
    Family::MemberReplacement,
    Family::MemberPromotion,
    Family::Leadership,
    Family::Limits,
    Family::Compact,
    Family::Backup,
    Family::Status,
    Family::Roles,
    Family::Role,
    Family::Identities,
    Family::Identity,
    Family::Tokens,
    Family::Token,
    Family::WhoAmI,
    Family::Access,
    Family::OpenApi,
    Family::Live,
    Family::Ready,
    Family::Metrics,
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
    tighten::tighten(&mut document);
    security::secure(&mut document);
    document
}

fn document() -> OpenApi {
    let mut found = Found::default();
    let mut paths = PathsBuilder::new();
    for family in FAMILIES {
        let mut item: Option<PathItem> = None;
        for (method, operation) in operations::of(family, &mut found) {
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
        .license(Some(
            LicenseBuilder::new().name("MIT OR Apache-2.0").build(),
        ))
        .build();
    let mut components = ComponentsBuilder::new();
    for (name, schema) in found.schemas {
        components = components.schema(name, schema);
    }
    for (name, response) in found.responses {
        components = components.response(name, response);
    }
    let headers = operation::answer_headers().into_iter();
    for (name, header) in headers.chain(operation::own_headers()) {
        components = components.header(name, header);
    }
    for (name, parameter) in operation::common_parameters() {
        components = components.parameter(name, parameter);
    }
    OpenApiBuilder::new()
        .info(info)
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Where the golden file lies, which is changed by `TENURE_REGENERATE_OPENAPI=1 cargo test -p tenured openapi`.
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/openapi.json");

    #[test]
    fn the_document_is_the_golden_file() {
        let text = text();
        if std::env::var_os("TENURE_REGENERATE_OPENAPI").is_some() {
            std::fs::write(GOLDEN, &text).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(GOLDEN).expect("the golden file is there");
        assert!(
            golden == text,
            "api/openapi.json is not what the code publishes; see this test for how to regenerate it, and review the \
             difference as a change of the contract"
        );
    }

    #[test]
    fn each_path_has_the_methods_that_its_route_allows() {
        let document = tightened();
        for family in FAMILIES {
            let item = document["paths"][family.template()]
                .as_object()
                .unwrap_or_else(|| panic!("{} is not described", family.template()));
            let described: BTreeSet<String> =
                item.keys().map(|method| method.to_uppercase()).collect();
            let allowed: BTreeSet<String> = family
                .allow()
                .split(", ")
                .filter(|method| !matches!(*method, "HEAD" | "OPTIONS"))
                .map(str::to_owned)
                .collect();
            assert_eq!(described, allowed, "{}", family.template());
        }
    }

    #[test]
    fn no_two_operations_share_an_id() {
        let document = tightened();
        let paths = document["paths"].as_object().expect("there are paths");
        let ids: Vec<&str> = paths
            .values()
            .flat_map(|item| item.as_object().expect("a path has operations").values())
            .map(|operation| {
                operation["operationId"]
                    .as_str()
                    .expect("an operation has an id")
            })
            .collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    }
}
