//! Semaphores: acquiring, releasing, reading and listing them (`api.md` §4).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// POST /v1/semaphores/{name}
pub(super) async fn acquire(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("POST /v1/semaphores/{name}"))
}

/// DELETE /v1/semaphores/{name}
pub(super) async fn release(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("DELETE /v1/semaphores/{name}"))
}

/// GET /v1/semaphores/{name}
pub(super) async fn read(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/semaphores/{name}"))
}

/// GET /v1/semaphores
pub(super) async fn list(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/semaphores"))
}
