//! The published contract (`api.md` §8).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// GET /v1/openapi.json
pub(super) async fn read(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/openapi.json"))
}
