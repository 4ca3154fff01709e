//! Several locks at once, or none (`api.md` §4).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// POST /v1/locks
pub(super) async fn acquire(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("POST /v1/locks"))
}
