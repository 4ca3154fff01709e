//! What ends a hold or a place: its owner's release or departure, and an operator's break.
//!
//! Owns the parameters of `DELETE` on a lock, a semaphore or an election.

use tenure_api::MAX_REVISION;
use tenure_state::{
    Answer, Break, Clock, Command, Fence, HolderView, Kind, LeaseId, Release, Revision,
};

use super::acquiring::owner_field;
use super::audit::{Act, Audit};
use super::failure::{Failure, Purpose};
use super::leases::remaining_ms;
use super::service::Context;
use super::text;

/// What a `DELETE` brought about.
pub(super) enum Ended {
    /// A hold was released.
    Released {
        /// Its fence.
        fence: Fence,
        /// At which revision.
        revision: Revision,
    },
    /// A place was given up.
    Left {
        /// At which revision.
        revision: Revision,
    },
    /// Somebody's holds were broken.
    Broken(Broken),
}

/// What a break brought about.
pub(super) struct Broken {
    /// The holds that ended, as they were.
    pub(super) holders: Vec<HolderView>,
    /// How long nobody is granted it, by the clock of the entry.
    pub(super) delay_remaining_ms: Option<u64>,
    /// That clock.
    pub(super) clock: Clock,
    /// At which revision.
    pub(super) revision: Revision,
}

/// Carries out a `DELETE`.
///
/// # Errors
///
/// `invalid-request` for parameters that are missing, wrong or contradict each other; what the state machine refuses.
pub(super) async fn end(cx: &mut Context<'_>, kind: Kind, name: &str) -> Result<Ended, Failure> {
    let breaks = cx.query.take("break")?;
    let breaks = breaks.map(|text| text::boolean("query parameter `break`", &text));
    if breaks.transpose()?.unwrap_or(false) {
        break_hold(cx, kind, name).await.map(Ended::Broken)
    } else {
        release(cx, kind, name).await
    }
}

async fn release(cx: &mut Context<'_>, kind: Kind, name: &str) -> Result<Ended, Failure> {
    for only_of_break in ["reason", "now"] {
        if cx.query.has(only_of_break) {
            return Err(Failure::invalid(format!(
                "query parameter `{only_of_break}` belongs to a break; give `break=true` too, or leave it out"
            )));
        }
    }
    let lease = text::lease(&cx.query.require("lease")?)?;
    let owner = owner(cx, kind)?.unwrap_or_default();
    let fence = fence(cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let release = Release {
        kind,
        name: name.to_owned(),
        lease,
        owner,
        fence,
    };
    let decided = cx
        .submit(Command::Release(release), Purpose::RepeatableWrite)
        .await?;
    match decided.outcome {
        Ok(Answer::Released { fence, revision }) => Ok(Ended::Released { fence, revision }),
        Ok(Answer::Left { revision }) => Ok(Ended::Left { revision }),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

fn owner(cx: &mut Context<'_>, kind: Kind) -> Result<Option<String>, Failure> {
    let field = owner_field(kind);
    let owner = cx.query.take(field)?;
    if let Some(owner) = &owner {
        text::label(field, owner)?;
    }
    Ok(owner)
}

fn fence(cx: &mut Context<'_>) -> Result<Option<Fence>, Failure> {
    let fence = cx.query.take("fence")?;
    let fence =
        fence.map(|text| text::number("query parameter `fence`", &text, 1, MAX_REVISION - 1));
    Ok(fence.transpose()?.map(Fence))
}

async fn break_hold(cx: &mut Context<'_>, kind: Kind, name: &str) -> Result<Broken, Failure> {
    let fence = fence(cx)?.ok_or_else(|| {
        Failure::invalid("query parameter `fence` is missing: it says which hold is to be broken")
    })?;
    // Whoever reads the audit line later has nothing else to understand it by.
    let reason = cx.query.take("reason")?.unwrap_or_default();
    if reason.trim().is_empty() {
        return Err(Failure::invalid(
            "query parameter `reason` is missing or blank: a break says why, for the audit log",
        ));
    }
    text::label("query parameter `reason`", &reason)?;
    let now = cx.query.take("now")?;
    let now = now.map(|text| text::boolean("query parameter `now`", &text));
    let asked = Break {
        kind,
        name: name.to_owned(),
        fence,
        holder: holder(cx, kind)?,
        now: now.transpose()?.unwrap_or(false),
    };
    cx.finish_query()?;
    cx.no_body().await?;
    let act = Act::Break {
        asked: &asked,
        reason: &reason,
    };
    let audit = Audit::of(cx, act);
    let result = submit_break(cx, asked.clone()).await;
    let ended = result.as_ref().map_or(&[][..], |broken| &broken.holders);
    audit.tell(&result, ended);
    result
}

/// The one hold that is meant, where the fence alone does not say it.
fn holder(cx: &mut Context<'_>, kind: Kind) -> Result<Option<(LeaseId, String)>, Failure> {
    let lease = cx.query.take("lease")?;
    let owner = owner(cx, kind)?;
    match (lease, owner) {
        (Some(lease), owner) => Ok(Some((text::lease(&lease)?, owner.unwrap_or_default()))),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let field = owner_field(kind);
            Err(Failure::invalid(format!(
                "query parameter `{field}` without `lease` names no hold; give both, or neither"
            )))
        }
    }
}

async fn submit_break(cx: &Context<'_>, asked: Break) -> Result<Broken, Failure> {
    let decided = cx.submit(Command::Break(asked), Purpose::Write).await?;
    match decided.outcome {
        Ok(Answer::Broken {
            broken,
            delay_until,
            clock,
            revision,
        }) => Ok(Broken {
            holders: broken,
            delay_remaining_ms: delay_until.map(|until| remaining_ms(until, clock)),
            clock,
            revision,
        }),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}
