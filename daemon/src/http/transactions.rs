//! Transactions on keys (`api.md` §6).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// POST /v1/txn
pub(super) async fn transact(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("POST /v1/txn"))
}
