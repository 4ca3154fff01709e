//! Ranges of keys: listing and deleting them (`api.md` §6).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// DELETE /v1/keys
pub(super) async fn delete(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("DELETE /v1/keys"))
}

/// `GET /v1/keys`
pub(super) async fn list(cx: Context<'_>) -> Result<Reply, Failure> {
    super::keys::list(cx).await
}
