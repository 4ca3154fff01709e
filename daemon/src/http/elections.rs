//! Elections (`api.md` §5).

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;

/// POST /v1/elections/{name}
pub(super) async fn campaign(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("POST /v1/elections/{name}"))
}

/// DELETE /v1/elections/{name}
pub(super) async fn resign(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("DELETE /v1/elections/{name}"))
}

/// GET /v1/elections/{name}
pub(super) async fn read(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/elections/{name}"))
}

/// GET /v1/elections
pub(super) async fn list(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/elections"))
}

/// PUT /v1/elections/{name}
pub(super) async fn proclaim(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("PUT /v1/elections/{name}"))
}

/// PATCH /v1/elections/{name}
pub(super) async fn hand_over(_cx: Context<'_>, _name: String) -> Result<Reply, Failure> {
    Err(Failure::later("PATCH /v1/elections/{name}"))
}
