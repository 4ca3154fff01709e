//! Limits and compaction (`api.md` §8).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// GET /v1/limits
pub(super) async fn read_limits(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/limits"))
}

/// PATCH /v1/limits
pub(super) async fn change_limits(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("PATCH /v1/limits"))
}

/// POST /v1/compact
pub(super) async fn compact(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("POST /v1/compact"))
}
