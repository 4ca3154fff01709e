//! Locks: acquiring, releasing, breaking, reading and listing them (`api.md` §4).
//!
//! Owns how a lock is asked for and shown. How an acquire waits is in `acquiring`, what ends a hold in `releasing`.

use serde::Serialize;
use tenure_api::{self as api, AcquireLock, Mode};
use tenure_state::{
    Clock, Contention, HoldView, HolderView, Kind, QueueView, QueuedView, Revision, Share,
    WaiterView, Wanted,
};

use super::acquiring::{self, Acquired, Terms, only};
use super::failure::Failure;
use super::leases::{elapsed_ms, labels, remaining_ms};
use super::queues::{self, Page};
use super::releasing::{self, Ended};
use super::reply::Reply;
use super::service::Context;

/// `POST /v1/locks/{name}`
pub(super) async fn acquire(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: AcquireLock = cx.json().await?;
    let share = share(asked.mode);
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
    match acquiring::acquire(&cx, Kind::Lock, vec![Wanted { name, share }], &terms).await? {
        Acquired::Held(views) => held(only(views)?),
        Acquired::Queued(views) => queued(only(views)?),
    }
}

/// `DELETE /v1/locks/{name}`
pub(super) async fn release(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    match releasing::end(&mut cx, Kind::Lock, &name).await? {
        Ended::Released { fence, revision } => {
            let released = api::LockReleased {
                lock: name,
                released: true,
                fence: fence.0,
                revision: revision.0,
            };
            Reply::json(200, revision, &released)
        }
        Ended::Left { revision } => {
            let left = api::LockLeft {
                lock: name,
                left: true,
                revision: revision.0,
            };
            Reply::json(200, revision, &left)
        }
        Ended::Broken(ended) => {
            let broken = api::LockBroken {
                lock: name,
                broken: holders(&ended.holders, ended.clock),
                delay_remaining_ms: ended.delay_remaining_ms,
                revision: ended.revision.0,
            };
            Reply::json(200, ended.revision, &broken)
        }
    }
}

/// `GET /v1/locks/{name}`
pub(super) async fn read(cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    queues::read(cx, Kind::Lock, &name, |view, clock, revision| {
        Reply::json(200, revision, &shown(&name, view, clock, revision))
    })
    .await
}

/// `GET /v1/locks`
pub(super) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let page = Page::read(&mut cx, Kind::Lock).await?;
    let locks = page.queues.iter();
    let shown = api::LockPage {
        locks: locks
            .map(|(name, view)| summary(name, view, page.clock))
            .collect(),
        more: page.next.is_some(),
        next: page.next.clone(),
        count: page.count,
        revision: page.revision.0,
    };
    Ok(page.answer(Reply::json(200, page.revision, &shown)?))
}

/// A lock as `GET` shows it.
pub(super) fn shown(name: &str, view: &QueueView, clock: Clock, revision: Revision) -> api::Lock {
    api::Lock {
        lock: name.to_owned(),
        holders: holders(&view.holders, clock),
        queue: view
            .queue
            .iter()
            .map(|place| waiter(place, clock))
            .collect(),
        holder_count: view.holder_count,
        queue_length: view.queue_length,
        last_fence: view.last_fence.map(|fence| fence.0),
        exclusive_fence: view.exclusive_fence.map(|fence| fence.0),
        delay_remaining_ms: view.delay_until.map(|until| remaining_ms(until, clock)),
        mod_revision: view.mod_revision.0,
        revision: revision.0,
    }
}

fn summary(name: &str, view: &QueueView, clock: Clock) -> api::LockSummary {
    api::LockSummary {
        lock: name.to_owned(),
        holders: holders(&view.holders, clock),
        holder_count: view.holder_count,
        queue_length: view.queue_length,
        last_fence: view.last_fence.map(|fence| fence.0),
        exclusive_fence: view.exclusive_fence.map(|fence| fence.0),
        delay_remaining_ms: view.delay_until.map(|until| remaining_ms(until, clock)),
        mod_revision: view.mod_revision.0,
    }
}

/// Who is in the way, as the fields of a problem.
pub(super) fn contention(contention: &Contention, clock: Clock) -> impl Serialize + use<> {
    api::LockContention {
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

/// The share of a mode.
pub(super) fn share(mode: Mode) -> Share {
    match mode {
        Mode::Exclusive => Share::Exclusive,
        Mode::Shared => Share::Shared,
    }
}

/// The mode of a lock's share.
pub(super) fn mode(share: Share) -> Mode {
    match share {
        Share::Exclusive => Mode::Exclusive,
        // Permits are of semaphores; of a lock they would be held together with others.
        Share::Shared | Share::Permits { .. } => Mode::Shared,
    }
}

fn held(view: HoldView) -> Result<Reply, Failure> {
    let held = api::LockHeld {
        lock: view.name,
        state: api::LockState::Held,
        mode: mode(view.share),
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
    let queued = api::LockQueued {
        lock: view.name,
        state: api::LockState::Queued,
        mode: mode(view.share),
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

fn holders(views: &[HolderView], clock: Clock) -> Vec<api::LockHolder> {
    let holder = |view: &HolderView| api::LockHolder {
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        metadata: labels(&view.metadata),
        mode: mode(view.share),
        fence: view.fence.0,
        acquired_revision: view.acquired_revision.0,
        held_ms: elapsed_ms(view.acquired_at, clock),
        remaining_ms: remaining_ms(view.deadline, clock),
    };
    views.iter().map(holder).collect()
}

fn waiter(view: &WaiterView, clock: Clock) -> api::LockPlace {
    api::LockPlace {
        position: view.position,
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        metadata: labels(&view.metadata),
        mode: mode(view.share),
        priority: view.priority,
        queued_revision: view.queued_revision.0,
        queued_ms: elapsed_ms(view.queued_at, clock),
        wait_remaining_ms: remaining_ms(view.wait_deadline, clock),
    }
}
