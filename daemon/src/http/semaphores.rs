//! Semaphores: acquiring, releasing, breaking, reading and listing them (`api.md` §4).
//!
//! Owns how permits are asked for and shown; all else is as for locks.

use serde::Serialize;
use tenure_api::{self as api, AcquireSemaphore, MAX_PERMITS};
use tenure_state::{
    Clock, Contention, HoldView, HolderView, Kind, QueueView, QueuedView, Revision, Share,
    WaiterView, Wanted,
};

use super::acquiring::{self, Acquired, Terms, in_range, only};
use super::failure::Failure;
use super::leases::{elapsed_ms, labels, remaining_ms};
use super::queues::{self, Page};
use super::releasing::{self, Ended};
use super::reply::Reply;
use super::service::Context;

/// `POST /v1/semaphores/{name}`
pub(super) async fn acquire(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: AcquireSemaphore = cx.json().await?;
    let share = share(asked.permits, asked.limit)?;
    let terms = Terms {
        lease: asked.lease,
        ttl_ms: asked.ttl_ms,
        owner: asked.owner,
        wait_ms: asked.wait_ms,
        poll_ms: asked.poll_ms,
        priority: asked.priority,
        metadata: asked.metadata,
        lock_delay_ms: asked.lock_delay_ms,
        ..Terms::default()
    };
    match acquiring::acquire(&cx, Kind::Semaphore, vec![Wanted { name, share }], &terms).await? {
        Acquired::Held(views) => held(only(views)?),
        Acquired::Queued(views) => queued(only(views)?),
    }
}

/// `DELETE /v1/semaphores/{name}`
pub(super) async fn release(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    match releasing::end(&mut cx, Kind::Semaphore, &name).await? {
        Ended::Released { fence, revision } => {
            let released = api::SemaphoreReleased {
                semaphore: name,
                released: true,
                fence: fence.0,
                revision: revision.0,
            };
            Reply::json(200, revision, &released)
        }
        Ended::Left { revision } => {
            let left = api::SemaphoreLeft {
                semaphore: name,
                left: true,
                revision: revision.0,
            };
            Reply::json(200, revision, &left)
        }
        Ended::Broken(ended) => {
            let broken = api::SemaphoreBroken {
                semaphore: name,
                broken: holders(&ended.holders, ended.clock),
                delay_remaining_ms: ended.delay_remaining_ms,
                revision: ended.revision.0,
            };
            Reply::json(200, ended.revision, &broken)
        }
    }
}

/// `GET /v1/semaphores/{name}`
pub(super) async fn read(cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    queues::read(cx, Kind::Semaphore, &name, |view, clock, revision| {
        Reply::json(200, revision, &shown(&name, view, clock, revision))
    })
    .await
}

/// `GET /v1/semaphores`
pub(super) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let page = Page::read(&mut cx, Kind::Semaphore).await?;
    let semaphores = page.queues.iter();
    let shown = api::SemaphorePage {
        semaphores: semaphores
            .map(|(name, view)| summary(name, view, page.clock))
            .collect(),
        more: page.next.is_some(),
        next: page.next.clone(),
        count: page.count,
        revision: page.revision.0,
    };
    Ok(page.answer(Reply::json(200, page.revision, &shown)?))
}

/// A semaphore as `GET` shows it.
pub(super) fn shown(
    name: &str,
    view: &QueueView,
    clock: Clock,
    revision: Revision,
) -> api::Semaphore {
    api::Semaphore {
        semaphore: name.to_owned(),
        holders: holders(&view.holders, clock),
        queue: view
            .queue
            .iter()
            .map(|place| waiter(place, clock))
            .collect(),
        holder_count: view.holder_count,
        queue_length: view.queue_length,
        limit: view.limit,
        permits_held: view.permits_held,
        last_fence: view.last_fence.map(|fence| fence.0),
        delay_remaining_ms: view.delay_until.map(|until| remaining_ms(until, clock)),
        mod_revision: view.mod_revision.0,
        revision: revision.0,
    }
}

fn summary(name: &str, view: &QueueView, clock: Clock) -> api::SemaphoreSummary {
    api::SemaphoreSummary {
        semaphore: name.to_owned(),
        holders: holders(&view.holders, clock),
        holder_count: view.holder_count,
        queue_length: view.queue_length,
        limit: view.limit,
        permits_held: view.permits_held,
        last_fence: view.last_fence.map(|fence| fence.0),
        delay_remaining_ms: view.delay_until.map(|until| remaining_ms(until, clock)),
        mod_revision: view.mod_revision.0,
    }
}

/// Who is in the way, as the fields of a problem.
pub(super) fn contention(contention: &Contention, clock: Clock) -> impl Serialize + use<> {
    api::SemaphoreContention {
        holders: holders(&contention.holders, clock),
        holder_count: contention.holder_count,
        queue_length: contention.queue_length,
        delay_remaining_ms: contention
            .delay_until
            .map(|until| remaining_ms(until, clock)),
        lease: contention.lease.map(|lease| lease.to_string()),
        revision: contention.revision.0,
    }
}

/// Holds what is wanted to the contract.
fn share(permits: u64, limit: u64) -> Result<Share, Failure> {
    in_range("limit", limit, 1, MAX_PERMITS)?;
    if (1..=limit).contains(&permits) {
        return Ok(Share::Permits { permits, limit });
    }
    Err(Failure::invalid(format!(
        "field `permits` is {permits}; accepted are 1 to the `limit`, which is {limit}"
    )))
}

/// The permits of a semaphore's share.
fn permits(share: Share) -> u64 {
    match share {
        Share::Permits { permits, .. } => permits,
        // Modes are of locks.
        Share::Exclusive | Share::Shared => 0,
    }
}

fn held(view: HoldView) -> Result<Reply, Failure> {
    let held = api::SemaphoreHeld {
        semaphore: view.name,
        state: api::LockState::Held,
        permits: permits(view.share),
        owner: view.owner,
        lease: view.lease.to_string(),
        fence: view.fence.0,
        remaining_ms: remaining_ms(view.deadline, view.clock),
        acquired_revision: view.acquired_revision.0,
        revision: view.revision.0,
    };
    Reply::json(200, view.revision, &held)
}

fn queued(view: QueuedView) -> Result<Reply, Failure> {
    let queued = api::SemaphoreQueued {
        semaphore: view.name,
        state: api::LockState::Queued,
        permits: permits(view.share),
        owner: view.owner,
        lease: view.lease.to_string(),
        position: view.position,
        queue_length: view.queue_length,
        queued_revision: view.queued_revision.0,
        holders: holders(&view.holders, view.clock),
        wait_remaining_ms: remaining_ms(view.wait_deadline, view.clock),
        remaining_ms: remaining_ms(view.deadline, view.clock),
        revision: view.revision.0,
    };
    Reply::json(202, view.revision, &queued)
}

fn holders(views: &[HolderView], clock: Clock) -> Vec<api::SemaphoreHolder> {
    let holder = |view: &HolderView| api::SemaphoreHolder {
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        metadata: labels(&view.metadata),
        permits: permits(view.share),
        fence: view.fence.0,
        acquired_revision: view.acquired_revision.0,
        held_ms: elapsed_ms(view.acquired_at, clock),
        remaining_ms: remaining_ms(view.deadline, clock),
    };
    views.iter().map(holder).collect()
}

fn waiter(view: &WaiterView, clock: Clock) -> api::SemaphorePlace {
    api::SemaphorePlace {
        position: view.position,
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        metadata: labels(&view.metadata),
        permits: permits(view.share),
        priority: view.priority,
        queued_revision: view.queued_revision.0,
        queued_ms: elapsed_ms(view.queued_at, clock),
        wait_remaining_ms: remaining_ms(view.wait_deadline, clock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_at_least_one_and_at_most_the_limit() {
        let check = |permits, limit, expected: &str| {
            let failure = share(permits, limit).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        let all = Share::Permits {
            permits: 3,
            limit: 3,
        };
        assert_eq!(share(3, 3).expect("all of them"), all);
        assert!(share(1, MAX_PERMITS).is_ok());
        check(
            0,
            3,
            "`permits` is 0; accepted are 1 to the `limit`, which is 3",
        );
        check(4, 3, "`permits` is 4");
        check(1, 0, "`limit` is 0; accepted are 1 to 9007199254740991");
        check(1, MAX_PERMITS + 1, "`limit` is 9007199254740992");
    }
}
