//! Leases: granting, renewing, reading and revoking them (`api.md` §3).

use std::collections::BTreeMap;
use std::sync::Arc;

use tenure_api::{
    self as api, ChangeLease, GrantLease, MAX_RENEWED_TOGETHER, MAX_TTL_MS, MIN_TTL_MS,
    RenewLeases, RenewResult,
};
use tenure_replica::Decided;
use tenure_state::{
    Answer, Attached, Clock, Collection, Command, Denied, Kind, LeaseId, LeaseView, NewLease,
    Refusal, Resource, Revision, Scope, State,
};

use super::caller::Caller;
use super::failure::{Failure, Purpose};
use super::keys;
use super::reading::{Looked, Reading, Settled};
use super::reply::Reply;
use super::rights::{self, LIST, Needed, SEE_ATTACHED};
use super::service::Context;
use super::text;

/// Leases on a page: so many by default, and at most. They are read in one hold of the state, so that a page shows one
/// revision.
const PAGE_DEFAULT: u64 = 100;
const PAGE_MOST: u64 = 1000;
/// How many of the things on a lease are shown.
pub(super) const ATTACHED_SHOWN: usize = 100;
/// How often an id is drawn anew where it is in use. Out of 2^63 once is luck already.
pub(super) const DRAWS: usize = 3;

/// `POST /v1/leases`
pub(super) async fn grant(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: GrantLease = cx.json().await?;
    check_ttl(asked.ttl_ms)?;
    text::label("name", &asked.name)?;
    text::metadata(&asked.metadata)?;
    for _ in 0..DRAWS {
        let (name, metadata) = (asked.name.clone(), asked.metadata.clone());
        let new = NewLease {
            lease: draw()?,
            ttl_ms: asked.ttl_ms,
            name,
            metadata,
        };
        let decided = cx.submit(Command::GrantLease(new), Purpose::Write).await?;
        match decided.outcome {
            Ok(Answer::Lease(view)) => {
                return Reply::json(201, view.revision, &lease(&view, view.clock));
            }
            Err(Refusal::LeaseIdTaken(_)) => {}
            Ok(_) => return Err(Failure::unexpected()),
            Err(refusal) => return Err(Failure::refused(refusal, decided.clock, decided.revision)),
        }
    }
    Err(Failure::new(
        api::Code::Overloaded,
        "no free id was drawn for the lease",
    ))
}

/// `POST /v1/leases/{id}/renew`
pub(super) async fn renew(mut cx: Context<'_>, id: LeaseId) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_fields().await?;
    the_lease(cx.renew(id).await?)
}

/// `GET /v1/leases/{id}`
pub(super) async fn read(mut cx: Context<'_>, id: LeaseId) -> Result<Reply, Failure> {
    let reading = Reading::of_resource(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let resource = Resource {
        collection: Collection::Leases,
        name: id.to_string().into(),
    };
    reading
        .answer(&cx, (resource, &Needed::Lease(id)), |settled| {
            look(&cx, id, settled)
        })
        .await
}

/// One lease as it is now.
fn look(cx: &Context<'_>, id: LeaseId, settled: &Settled) -> Result<Looked, Failure> {
    let (view, attached, clock, revision) = cx.read(&Needed::Lease(id), |state| {
        let clock = settled.clock(state);
        let attached = attached(state, cx.caller(), id);
        (state.lease(id, clock), attached, clock, state.revision())
    })?;
    let view = match view {
        Ok(view) => view,
        Err(refusal) => return Ok(Looked::Gone(Failure::refused(refusal, clock, revision))),
    };
    let shown = shown(&view, attached, clock, revision);
    Ok(Looked::there(
        Revision(shown.mod_revision),
        Reply::json(200, revision, &shown),
    ))
}

/// What hangs on a lease, as far as it is shown to whoever asks: all of it to whoever has the lease, and what else may be
/// seen to others.
pub(super) fn attached(state: &State, caller: &Caller, id: LeaseId) -> Vec<Attached> {
    let mut attached = state.attached(id, ATTACHED_SHOWN);
    if caller.owns(state, id) {
        return attached;
    }
    attached.retain(|attached| {
        let (collection, name) = match attached {
            Attached::Key(key) => (Collection::Keys, &key[..]),
            Attached::Hold { kind, name, .. } | Attached::Place { kind, name, .. } => {
                (Collection::of(*kind), name.as_bytes())
            }
        };
        let needed = Needed::on(SEE_ATTACHED, Scope::One(collection, name));
        caller.may(state, &needed).is_ok()
    });
    attached
}

/// A lease as `GET` shows it.
pub(super) fn shown(
    view: &LeaseView,
    attached: Vec<Attached>,
    clock: Clock,
    revision: Revision,
) -> api::Lease {
    api::Lease {
        attached: Some(attached.into_iter().map(thing).collect()),
        revision: revision.0,
        ..lease(view, clock)
    }
}

/// `DELETE /v1/leases/{id}`
pub(super) async fn revoke(mut cx: Context<'_>, id: LeaseId) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let decided = cx
        .submit(Command::RevokeLease { lease: id }, Purpose::Write)
        .await?;
    match decided.outcome {
        Ok(Answer::LeaseEnded {
            lease,
            ended_count,
            revision,
        }) => {
            let ended = api::LeaseEnded {
                lease: lease.to_string(),
                ended: true,
                ended_count,
                revision: revision.0,
            };
            Reply::json(200, revision, &ended)
        }
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

/// `GET /v1/leases`
pub(super) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let limit = cx.query.take("limit")?;
    let limit = limit.map(|text| text::number("limit", &text, 1, PAGE_MOST));
    let limit = usize::try_from(limit.transpose()?.unwrap_or(PAGE_DEFAULT)).unwrap_or(usize::MAX);
    let after = cx.query.take("start_after")?;
    let after = after.map(|id| text::lease(&id).map_err(|failure| failure.at_place("start_after")));
    let after = after.transpose()?;
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let needed = rights::all_leases(LIST);
    let settled = reading.settle(&cx, &needed).await?;
    let (mut views, count, clock, revision) = cx.read(&needed, |state| {
        let clock = settled.clock(state);
        let views = state.leases_page(after, limit + 1, clock);
        (views, state.lease_count(), clock, state.revision())
    })?;
    let more = limit < views.len();
    views.truncate(limit);
    let next = views
        .last()
        .filter(|_| more)
        .map(|view| view.lease.to_string());
    let page = api::LeasePage {
        leases: views.iter().map(|view| lease(view, clock)).collect(),
        more,
        next,
        count,
        revision: revision.0,
    };
    Ok(settled.mark(Reply::json(200, revision, &page)?))
}

/// `POST /v1/leases/renew`
pub(super) async fn renew_many(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let named = named(&mut cx).await;
    let leases = named.as_ref().map_or(&[][..], Vec::as_slice);
    cx.count_unless_own(leases).await?;
    let ids = named?;
    let decided = cx.renew_many(&ids).await?;
    let revision = decided.iter().flatten().map(|decided| decided.revision);
    let revision = revision.max();
    let revision = revision.ok_or_else(Failure::unexpected)?;
    let results = ids.iter().zip(decided).map(|(id, decided)| match decided {
        Some(decided) => renewed(*id, decided),
        None => Ok(lost(*id, api::Code::Forbidden)),
    });
    let renewed = api::LeasesRenewed {
        results: results.collect::<Result<_, Failure>>()?,
        revision: revision.0,
    };
    let refused = refused(&renewed.results);
    Ok(Reply::json(200, revision, &renewed)?.refusing(refused))
}

/// The leases that a body names.
async fn named(cx: &mut Context<'_>) -> Result<Vec<LeaseId>, Failure> {
    cx.finish_query()?;
    let asked: RenewLeases = cx.json().await?;
    let count = asked.leases.len();
    if !(1..=MAX_RENEWED_TOGETHER).contains(&count) {
        let detail = format!("leases has {count} ids; accepted are 1 to {MAX_RENEWED_TOGETHER}");
        return Err(Failure::invalid(detail));
    }
    let ids = asked.leases.iter().enumerate().map(|(index, id)| {
        text::lease(id).map_err(|failure| failure.at_place(&format!("leases[{index}]")))
    });
    ids.collect()
}

/// What the audit is told where some leases among many are somebody else's: whoever loses what it had is told of there.
fn refused(results: &[RenewResult]) -> Option<String> {
    let mut foreign = results.iter().filter_map(|result| match result {
        RenewResult::Lost {
            lease,
            error: api::Code::Forbidden,
        } => Some(lease),
        RenewResult::Lost { .. } | RenewResult::Renewed { .. } => None,
    });
    let first = foreign.next()?;
    let count = 1 + foreign.count();
    let all = results.len();
    Some(format!(
        "{count} of {all} leases are not the caller's, first {first}"
    ))
}

/// What came of one lease among many: a dead one is no failure of the rest.
fn renewed(lease: LeaseId, decided: Decided) -> Result<RenewResult, Failure> {
    let lost = |error| Ok(lost(lease, error));
    match decided.outcome {
        Ok(Answer::Lease(view)) => Ok(RenewResult::Renewed {
            lease: lease.to_string(),
            remaining_ms: remaining_ms(view.deadline, view.clock),
            attached_revision: view.attached_revision.map(|revision| revision.0),
        }),
        Ok(_) => Err(Failure::unexpected()),
        Err(Refusal::LeaseExpired(_)) => lost(api::Code::LeaseExpired),
        Err(Refusal::LeaseNotFound(_)) => lost(api::Code::LeaseNotFound),
        // Taken away since it was looked at before all of them were proposed.
        Err(Refusal::Denied(Denied::Forbidden { .. } | Denied::Foreign { .. })) => {
            lost(api::Code::Forbidden)
        }
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

fn lost(lease: LeaseId, error: api::Code) -> RenewResult {
    RenewResult::Lost {
        lease: lease.to_string(),
        error,
    }
}

/// `PATCH /v1/leases/{id}`
pub(super) async fn change(mut cx: Context<'_>, id: LeaseId) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: ChangeLease = cx.json().await?;
    check_ttl(asked.ttl_ms)?;
    let command = Command::ChangeLease {
        lease: id,
        ttl_ms: asked.ttl_ms,
    };
    let decided = cx.submit(command, Purpose::RepeatableWrite).await?;
    the_lease(decided)
}

/// A lease that was renewed or changed, as it is now.
fn the_lease(decided: Decided) -> Result<Reply, Failure> {
    match decided.outcome {
        Ok(Answer::Lease(view)) => Reply::json(200, view.revision, &lease(&view, view.clock)),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

/// Refuses a TTL outside the limits of the contract before anything is proposed.
pub(super) fn check_ttl(ttl_ms: u64) -> Result<(), Failure> {
    if (MIN_TTL_MS..=MAX_TTL_MS).contains(&ttl_ms) {
        return Ok(());
    }
    Err(Failure::ttl_out_of_range(ttl_ms, MIN_TTL_MS, MAX_TTL_MS))
}

/// Draws the id of a lease. It is random, so that nobody renews another's by counting.
pub(super) fn draw() -> Result<LeaseId, Failure> {
    let failed = |error| {
        Failure::new(
            api::Code::Overloaded,
            format!("no random number for an id: {error}"),
        )
    };
    loop {
        if let Some(id) = LeaseId::new(getrandom::u64().map_err(failed)? >> 1) {
            return Ok(id);
        }
    }
}

/// What is left until a deadline.
pub(super) fn remaining_ms(deadline: Clock, clock: Clock) -> u64 {
    deadline.0.saturating_sub(clock.0)
}

/// How long something has stood, where it is known since when.
pub(super) fn elapsed_ms(since: Option<Clock>, clock: Clock) -> Option<u64> {
    since.map(|since| clock.0.saturating_sub(since.0))
}

/// Metadata as it is written.
pub(super) fn labels(metadata: &Arc<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    BTreeMap::clone(metadata)
}

fn lease(view: &LeaseView, clock: Clock) -> api::Lease {
    let attached_revision = view.attached_revision.map(|revision| revision.0);
    api::Lease {
        lease: view.lease.to_string(),
        name: view.name.clone(),
        metadata: labels(&view.metadata),
        ttl_ms: view.ttl_ms,
        remaining_ms: remaining_ms(view.deadline, clock),
        granted_revision: view.granted_revision.0,
        attached_count: view.attached_count,
        attached_revision,
        mod_revision: attached_revision.unwrap_or(0).max(view.granted_revision.0),
        attached: None,
        revision: view.revision.0,
    }
}

fn thing(attached: Attached) -> api::Attached {
    match attached {
        Attached::Key(key) => {
            let resource = format!("keys/{}", keys::text_of(&key).0);
            api::Attached {
                resource,
                owner: None,
                candidate: None,
                state: None,
                fence: None,
            }
        }
        Attached::Hold {
            kind,
            name,
            owner,
            fence,
        } => standing(kind, &name, owner, api::AttachedState::Held, Some(fence.0)),
        Attached::Place { kind, name, owner } => {
            standing(kind, &name, owner, api::AttachedState::Queued, None)
        }
    }
}

fn standing(
    kind: Kind,
    name: &str,
    owner: String,
    state: api::AttachedState,
    fence: Option<u64>,
) -> api::Attached {
    let (owner, candidate) = match kind {
        Kind::Lock | Kind::Semaphore => (Some(owner), None),
        Kind::Election => (None, Some(owner)),
    };
    let resource = format!("{}/{name}", collection(kind));
    api::Attached {
        resource,
        owner,
        candidate,
        state: Some(state),
        fence,
    }
}

/// The collection that things of a kind belong to.
pub(super) fn collection(kind: Kind) -> &'static str {
    match kind {
        Kind::Lock => "locks",
        Kind::Semaphore => "semaphores",
        Kind::Election => "elections",
    }
}
