//! Tokens: created, shown once, listed without their secrets, deleted.

use tenure_api::{self as api, Code, MAX_TOKEN_MS, header};
use tenure_state::{AccessChange, Token as Kept, TokenId};

use super::super::acquiring::in_range;
use super::super::audit::{Act, Audit};
use super::super::caller::unix_ms;
use super::super::failure::Failure;
use super::super::leases::DRAWS;
use super::super::reply::Reply;
use super::super::service::Context;
use super::super::text;
use super::{Paging, READ_MOST, Unchanged, changed, submitted};
use crate::token::Token;

/// A token that expires sooner could not be put to use.
const MIN_TOKEN_MS: u64 = 1_000;

/// `GET /v1/tokens`
pub(in crate::http) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let paging = Paging::of(&mut cx)?;
    let after = paging.start_after.as_deref();
    let after = after.map(|id| text::token_id("start_after", id));
    let after = after.transpose()?;
    let now_ms = unix_ms();
    let page = paging.read(&mut cx, |access, _| {
        let tokens = access.tokens();
        let count = tokens.len() as u64;
        let behind = tokens.skip_while(|(id, _)| after.is_some_and(|after| *id <= after));
        let shown = |(id, token): (TokenId, &Kept)| {
            let shown = api::Token {
                id: id.to_string(),
                identity: token.identity.to_string(),
                expires_in_ms: token.expires_unix_ms.map(|at| at.saturating_sub(now_ms)),
            };
            (id.to_string(), 0, shown)
        };
        (count, behind.take(READ_MOST).map(shown).collect())
    });
    let page = page.await?;
    page.answer(&api::TokenPage {
        tokens: page.items.clone(),
        more: page.next.is_some(),
        next: page.next.clone(),
        count: page.count,
        revision: page.revision.0,
    })
}

/// `POST /v1/tokens`
pub(in crate::http) async fn create(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    if cx.headers.contains_key(header::IDEMPOTENCY_KEY) {
        return Err(Failure::invalid(
            "the header `Idempotency-Key` does not apply to this call: the secret of a token is shown once, and a repeat could not \
             answer it; where an answer is lost, find the token in GET /v1/tokens, delete it and create another",
        ));
    }
    let asked: api::CreateToken = cx.json().await?;
    text::access_name("field `identity`", &asked.identity)?;
    if let Some(expires_in_ms) = asked.expires_in_ms {
        in_range("expires_in_ms", expires_in_ms, MIN_TOKEN_MS, MAX_TOKEN_MS)?;
    }
    for _ in 0..DRAWS {
        let token = Token::draw().map_err(|error| {
            let detail = format!("no random number for a token: {error}");
            Failure::new(Code::Overloaded, detail)
        })?;
        let now_unix_ms = unix_ms();
        let change = AccessChange::CreateToken {
            id: token.id(),
            identity: asked.identity.clone(),
            hash: token.hash(),
            expires_unix_ms: asked.expires_in_ms.map(|ms| now_unix_ms.saturating_add(ms)),
            now_unix_ms,
        };
        let what = "tokens";
        let in_words = format!("create {} for {:?}", token.id(), asked.identity);
        let audit = Audit::of(
            &cx,
            Act::Change {
                what,
                asked: in_words,
            },
        );
        let result = match submitted(&cx, change).await {
            Err(Unchanged::Taken) => {
                audit.tell(&Err::<(), _>(Unchanged::Taken.into_failure()), &[]);
                continue;
            }
            result => result.map_err(Unchanged::into_failure),
        };
        audit.tell(&result, &[]);
        let revision = result?;
        let created = api::TokenCreated {
            token: token.reveal(),
            id: token.id().to_string(),
            identity: asked.identity,
            expires_in_ms: asked.expires_in_ms,
            revision: revision.0,
        };
        return Reply::json(201, revision, &created);
    }
    Err(Unchanged::Taken.into_failure())
}

/// `DELETE /v1/tokens/{id}`
pub(in crate::http) async fn delete(mut cx: Context<'_>, id: TokenId) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let change = AccessChange::DeleteToken { id };
    let revision = changed(&cx, "tokens", format!("delete {id}"), change).await?;
    let deleted = api::TokenDeleted {
        id: id.to_string(),
        deleted: true,
        revision: revision.0,
    };
    Reply::json(200, revision, &deleted)
}

/// There is none of that id.
pub(in crate::http) fn not_found(id: TokenId) -> Failure {
    Failure::new(
        Code::TokenNotFound,
        format!("there is no token {id}; GET /v1/tokens shows which there are"),
    )
}
