//! Elections: campaigning, proclaiming, handing over, resigning, breaking, reading and listing them (`api.md` §5).
//!
//! Owns how a leadership is asked for and shown. A campaign waits as any acquire does, and ends with its lease.

use serde::Serialize;
use tenure_api::{self as api, Campaign, MAX_ELECTION_VALUE_BYTES, MAX_REVISION};
use tenure_state::{
    Answer, Clock, Command, Contention, Fence, HandOver, HoldView, HolderView, Kind, Proclaim,
    QueueView, QueuedView, Revision, Share, WaiterView, Wanted,
};

use super::acquiring::{self, Acquired, Terms, in_range, only};
use super::failure::{Failure, Purpose};
use super::leases::{elapsed_ms, remaining_ms};
use super::queues::{self, Page};
use super::releasing::{self, Ended};
use super::reply::Reply;
use super::service::Context;
use super::text;

/// `POST /v1/elections/{name}`
pub(super) async fn campaign(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: Campaign = cx.json().await?;
    check_value(&asked.value)?;
    let wanted = Wanted {
        name,
        share: Share::Exclusive,
    };
    let terms = Terms {
        lease: asked.lease,
        ttl_ms: asked.ttl_ms,
        owner: asked.candidate,
        wait_ms: asked.wait_ms,
        poll_ms: asked.poll_ms,
        priority: asked.priority,
        value: asked.value,
        ..Terms::default()
    };
    match acquiring::acquire(&cx, Kind::Election, vec![wanted], &terms).await? {
        Acquired::Held(views) => elected(only(views)?),
        Acquired::Queued(views) => queued(only(views)?),
    }
}

/// `PUT /v1/elections/{name}`
pub(super) async fn proclaim(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::Proclaim = cx.json().await?;
    check_value(&asked.value)?;
    text::label("candidate", &asked.candidate)?;
    let proclaim = Proclaim {
        name,
        lease: text::lease(&asked.lease)?,
        candidate: asked.candidate,
        fence: fence(asked.fence)?,
        value: asked.value,
    };
    let decided = cx
        .submit(Command::Proclaim(proclaim), Purpose::Write)
        .await?;
    match decided.outcome {
        Ok(Answer::Held(view)) => elected(view),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

/// `PATCH /v1/elections/{name}`
pub(super) async fn hand_over(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::HandOver = cx.json().await?;
    text::label("candidate", &asked.candidate)?;
    text::label("handover_to", &asked.handover_to)?;
    let hand_over = HandOver {
        name: name.clone(),
        lease: text::lease(&asked.lease)?,
        candidate: asked.candidate,
        fence: fence(asked.fence)?,
        to: asked.handover_to,
    };
    let decided = cx
        .submit(Command::HandOver(hand_over), Purpose::Write)
        .await?;
    match decided.outcome {
        Ok(Answer::HandedOver {
            leader: heir,
            clock,
            revision,
        }) => {
            let handed_over = api::HandedOver {
                election: name,
                leader: leader(&heir, clock),
                revision: revision.0,
            };
            Reply::json(200, revision, &handed_over)
        }
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

/// `DELETE /v1/elections/{name}`
pub(super) async fn resign(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    match releasing::end(&mut cx, Kind::Election, &name).await? {
        Ended::Released { fence: _, revision } => {
            let resigned = api::Resigned {
                election: name,
                resigned: true,
                revision: revision.0,
            };
            Reply::json(200, revision, &resigned)
        }
        Ended::Left { revision } => {
            let withdrawn = api::Withdrawn {
                election: name,
                left: true,
                revision: revision.0,
            };
            Reply::json(200, revision, &withdrawn)
        }
        Ended::Broken(ended) => {
            let broken = api::ElectionBroken {
                election: name,
                broken: leaders(&ended.holders, ended.clock),
                delay_remaining_ms: ended.delay_remaining_ms,
                revision: ended.revision.0,
            };
            Reply::json(200, ended.revision, &broken)
        }
    }
}

/// `GET /v1/elections/{name}`
pub(super) async fn read(cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    queues::read(cx, Kind::Election, &name, |view, clock, revision| {
        Reply::json(200, revision, &shown(&name, view, clock, revision))
    })
    .await
}

/// `GET /v1/elections`
pub(super) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let page = Page::read(&mut cx, Kind::Election).await?;
    let summary = |(name, view): &(String, QueueView)| api::ElectionSummary {
        election: name.clone(),
        leader: view.holders.first().map(|view| leader(view, page.clock)),
        candidate_count: view.queue_length,
        mod_revision: view.mod_revision.0,
    };
    let shown = api::ElectionPage {
        elections: page.queues.iter().map(summary).collect(),
        more: page.next.is_some(),
        next: page.next.clone(),
        count: page.count,
        revision: page.revision.0,
    };
    Ok(page.answer(Reply::json(200, page.revision, &shown)?))
}

/// An election as `GET` shows it.
pub(super) fn shown(
    name: &str,
    view: &QueueView,
    clock: Clock,
    revision: Revision,
) -> api::Election {
    api::Election {
        election: name.to_owned(),
        leader: view.holders.first().map(|view| leader(view, clock)),
        candidates: view
            .queue
            .iter()
            .map(|view| candidate(view, clock))
            .collect(),
        candidate_count: view.queue_length,
        delay_remaining_ms: view.delay_until.map(|until| remaining_ms(until, clock)),
        mod_revision: view.mod_revision.0,
        revision: revision.0,
    }
}

/// Who is in the way, as the fields of a problem.
pub(super) fn contention(contention: &Contention, clock: Clock) -> impl Serialize + use<> {
    api::ElectionContention {
        leader: contention.holders.first().map(|view| leader(view, clock)),
        holders: leaders(&contention.holders, clock),
        holder_count: contention.holder_count,
        queue_length: contention.queue_length,
        delay_remaining_ms: contention
            .delay_until
            .map(|until| remaining_ms(until, clock)),
        lease: contention.lease.map(|lease| lease.to_string()),
        revision: contention.revision.0,
    }
}

fn check_value(value: &str) -> Result<(), Failure> {
    let (asked, allowed) = (value.len() as u64, MAX_ELECTION_VALUE_BYTES as u64);
    if asked <= allowed {
        return Ok(());
    }
    Err(Failure::too_large(
        "election_value_bytes",
        allowed,
        Some(asked),
    ))
}

fn fence(fence: u64) -> Result<Fence, Failure> {
    in_range("fence", fence, 1, MAX_REVISION - 1)?;
    Ok(Fence(fence))
}

fn elected(view: HoldView) -> Result<Reply, Failure> {
    let elected = api::Elected {
        election: view.name,
        state: api::CampaignState::Leader,
        candidate: view.owner,
        fence: view.fence.0,
        value: view.value,
        remaining_ms: remaining_ms(view.deadline, view.clock),
        lease: view.lease.to_string(),
        revision: view.revision.0,
    };
    Reply::json(200, view.revision, &elected)
}

fn queued(view: QueuedView) -> Result<Reply, Failure> {
    let present = view.holders.first();
    let queued = api::CandidateQueued {
        election: view.name,
        state: api::CampaignState::Candidate,
        candidate: view.owner,
        lease: view.lease.to_string(),
        position: view.position,
        queue_length: view.queue_length,
        queued_revision: view.queued_revision.0,
        leader: present.map(|present| leader(present, view.clock)),
        wait_remaining_ms: remaining_ms(view.wait_deadline, view.clock),
        remaining_ms: remaining_ms(view.deadline, view.clock),
        revision: view.revision.0,
    };
    Reply::json(202, view.revision, &queued)
}

fn leaders(views: &[HolderView], clock: Clock) -> Vec<api::Leader> {
    views.iter().map(|view| leader(view, clock)).collect()
}

fn leader(view: &HolderView, clock: Clock) -> api::Leader {
    api::Leader {
        candidate: view.owner.clone(),
        value: view.value.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        fence: view.fence.0,
        elected_revision: view.acquired_revision.0,
        held_ms: elapsed_ms(view.acquired_at, clock),
        remaining_ms: remaining_ms(view.deadline, clock),
    }
}

fn candidate(view: &WaiterView, clock: Clock) -> api::Candidate {
    api::Candidate {
        position: view.position,
        candidate: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        value: view.value.clone(),
        priority: view.priority,
        queued_revision: view.queued_revision.0,
        queued_ms: elapsed_ms(view.queued_at, clock),
        wait_remaining_ms: remaining_ms(view.wait_deadline, clock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_api::Code;

    #[test]
    fn a_fence_is_a_revision_of_a_grant_so_0_is_none() {
        for none in [0, MAX_REVISION, u64::MAX] {
            let failure = fence(none).expect_err("it is none");
            assert_eq!(failure.code, Code::InvalidRequest);
        }
        assert_eq!(fence(1).expect("it is one"), Fence(1));
    }
}
