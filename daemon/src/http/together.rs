//! Several locks at once, or none (`api.md` §4).
//!
//! Owns how they are asked for and shown; each is released on its own, as any lock.

use std::collections::BTreeSet;

use tenure_api::{self as api, AcquireTogether, MAX_LOCKS_TOGETHER, WantedLock};
use tenure_state::{HoldView, Kind, QueuedView, Wanted};

use super::acquiring::{self, Acquired, Terms};
use super::failure::Failure;
use super::leases::remaining_ms;
use super::locks;
use super::reply::Reply;
use super::service::Context;
use super::text;

/// `POST /v1/locks`
pub(super) async fn acquire(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: AcquireTogether = cx.json().await?;
    let wanted = wanted(asked.locks)?;
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
    match acquiring::acquire(&cx, Kind::Lock, wanted, &terms).await? {
        Acquired::Held(views) => held(&views),
        Acquired::Queued(views) => queued(&views),
    }
}

/// Holds the list of locks to the contract.
fn wanted(locks: Vec<WantedLock>) -> Result<Vec<Wanted>, Failure> {
    let count = locks.len();
    if !(1..=MAX_LOCKS_TOGETHER).contains(&count) {
        return Err(Failure::invalid(format!(
            "field `locks` names {count} locks; accepted are 1 to {MAX_LOCKS_TOGETHER}"
        )));
    }
    let mut names = BTreeSet::new();
    let mut wanted = Vec::with_capacity(count);
    for (number, lock) in locks.into_iter().enumerate() {
        let name = text::valid_name(lock.name)
            .map_err(|failure| failure.at_place(&format!("field `locks[{number}].name`")))?;
        if !names.insert(name.clone()) {
            return Err(Failure::invalid(format!(
                "field `locks` names {} more than once; name each lock once",
                text::shown(&name)
            )));
        }
        let share = locks::share(lock.mode);
        wanted.push(Wanted { name, share });
    }
    Ok(wanted)
}

fn held(views: &[HoldView]) -> Result<Reply, Failure> {
    let first = views.first().ok_or_else(Failure::unexpected)?;
    let lock = |view: &HoldView| api::HeldLock {
        lock: view.name.clone(),
        mode: locks::mode(view.share),
        fence: view.fence.0,
    };
    let acquired = views.iter().map(|view| view.acquired_revision.0).max();
    let held = api::TogetherHeld {
        state: api::LockState::Held,
        owner: first.owner.clone(),
        lease: first.lease.to_string(),
        locks: views.iter().map(lock).collect(),
        remaining_ms: remaining_ms(first.deadline, first.clock),
        acquired_revision: acquired.unwrap_or_default(),
        revision: first.revision.0,
    };
    Reply::json(200, first.revision, &held)
}

fn queued(views: &[QueuedView]) -> Result<Reply, Failure> {
    let first = views.first().ok_or_else(Failure::unexpected)?;
    let lock = |view: &QueuedView| api::QueuedLock {
        lock: view.name.clone(),
        mode: locks::mode(view.share),
        position: view.position,
        queue_length: view.queue_length,
    };
    let queued = api::TogetherQueued {
        state: api::LockState::Queued,
        owner: first.owner.clone(),
        lease: first.lease.to_string(),
        locks: views.iter().map(lock).collect(),
        queued_revision: first.queued_revision.0,
        wait_remaining_ms: remaining_ms(first.wait_deadline, first.clock),
        remaining_ms: remaining_ms(first.deadline, first.clock),
        revision: first.revision.0,
    };
    Reply::json(202, first.revision, &queued)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_api::Mode;
    use tenure_state::Share;

    fn lock(name: &str) -> WantedLock {
        WantedLock {
            name: name.to_owned(),
            mode: Mode::Shared,
        }
    }

    #[test]
    fn the_locks_of_one_acquire_are_held_to_the_contract() {
        let check = |locks: Vec<WantedLock>, expected: &str| {
            let failure = wanted(locks).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        let numbered = |count: usize| (0..count).map(|number| lock(&number.to_string())).collect();
        assert_eq!(wanted(numbered(64)).expect("64 are accepted").len(), 64);
        check(numbered(65), "names 65 locks; accepted are 1 to 64");
        check(Vec::new(), "names 0 locks");
        check(
            vec![lock("a"), lock("b"), lock("a")],
            "names `a` more than once",
        );
        check(
            vec![lock("a"), lock("")],
            "`locks[1].name`: the name is empty",
        );
        check(vec![lock("a\nb")], "`locks[0].name`");
        let shares: Vec<Share> = wanted(vec![lock("a")])
            .expect("one is accepted")
            .into_iter()
            .map(|wanted| wanted.share)
            .collect();
        assert_eq!(shares, [Share::Shared]);
    }
}
