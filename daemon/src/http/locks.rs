//! Locks: acquiring, releasing and reading them (`api.md` §4).
//!
//! Owns how an acquire waits. A place in the queue belongs to its lease and owner, never to the request that waits for
//! it: whatever ends the request, the place stays.

use std::time::Duration;

use serde::Serialize;
use tenure_api::{self as api, AcquireLock, Code, MAX_POLL_MS, MAX_QUEUE_WAIT_MS, Mode};
use tenure_replica::Interest;
use tenure_state::{
    Acquire, Answer, Claim, Clock, Collection, Command, Contention, Fence, HoldView, HolderView,
    Kind, LeaseId, LeaveReason, NewLease, QueuedView, Refusal, Release, Resource, Share, Standing,
    WaiterView, Wanted,
};
use tokio::sync::OwnedSemaphorePermit;

use super::failure::{Failure, Purpose};
use super::leases::{self, labels, remaining_ms};
use super::poll::{Poll, Woken, jittered};
use super::reading::{Looked, Reading, Settled};
use super::reply::Reply;
use super::service::Context;
use super::text;
use crate::node::Waiter;

/// A poll is no longer than this unless it is asked to be.
const POLL_DEFAULT_MS: u64 = 30_000;
/// A request that waits for the end of its place is answered within this time after it, whatever the clock of the
/// cluster does (`api.md` §2: a write is answered within 5 s beyond its poll).
const PATIENCE: Duration = Duration::from_secs(5);

/// `POST /v1/locks/{name}`
pub(super) async fn acquire(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: AcquireLock = cx.json().await?;
    check(&asked)?;
    if asked.ttl_ms.is_some() && cx.headers.contains_key(api::header::IDEMPOTENCY_KEY) {
        return Err(Failure::later("the header `Idempotency-Key` with `ttl_ms`"));
    }
    let lease = asked.lease.as_deref().map(text::lease).transpose()?;
    // A place is taken only by a request that may wait for it: the bound is asked before anything is proposed.
    let permit = if asked.wait_ms > 0 {
        Some(cx.wait_permit()?)
    } else {
        None
    };
    for _ in 0..leases::DRAWS {
        let claim = claim(&asked, lease)?;
        let lease = claim.lease();
        let decided = cx
            .submit(
                Command::Acquire(command(&name, &asked, claim)),
                Purpose::RepeatableWrite,
            )
            .await?;
        return match decided.outcome {
            Ok(Answer::Held(view)) => held(&view),
            Ok(Answer::Queued(view)) => {
                Wait {
                    cx: &cx,
                    name: &name,
                    asked: &asked,
                    lease,
                }
                .run(view, permit)
                .await
            }
            Err(Refusal::LeaseIdTaken(_)) => continue,
            Ok(_) => Err(Failure::unexpected()),
            Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
        };
    }
    Err(Failure::new(
        Code::Overloaded,
        "no free id was drawn for the lease",
    ))
}

/// `DELETE /v1/locks/{name}`
pub(super) async fn release(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    let lease = text::lease(&cx.query.require("lease")?)?;
    let owner = cx.query.take("owner")?.unwrap_or_default();
    text::label("owner", &owner)?;
    let fence = cx
        .query
        .take("fence")?
        .map(|fence| text::revision("fence", &fence))
        .transpose()?
        .map(Fence);
    cx.finish_query()?;
    cx.no_body().await?;
    let release = Release {
        kind: Kind::Lock,
        name: name.clone(),
        lease,
        owner,
        fence,
    };
    let decided = cx
        .submit(Command::Release(release), Purpose::RepeatableWrite)
        .await?;
    match decided.outcome {
        Ok(Answer::Released { fence, revision }) => {
            let released = api::Released {
                lock: name,
                released: true,
                fence: fence.0,
                revision: revision.0,
            };
            Reply::json(200, revision, &released)
        }
        Ok(Answer::Left { revision }) => Reply::json(
            200,
            revision,
            &api::Left {
                lock: name,
                left: true,
                revision: revision.0,
            },
        ),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    }
}

/// `GET /v1/locks/{name}`
pub(super) async fn read(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    let reading = Reading::of_resource(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let resource = Resource {
        collection: Collection::Locks,
        name: name.clone().into(),
    };
    reading
        .answer(&cx, resource, |settled| look(&cx, &name, settled))
        .await
}

/// One lock as it is now.
fn look(cx: &Context<'_>, name: &str, settled: &Settled) -> Looked {
    let (view, clock, revision) = cx.handle().read(|state| {
        (
            state.queue(Kind::Lock, name),
            settled.clock(state),
            state.revision(),
        )
    });
    let lock = api::Lock {
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
    };
    Looked::there(view.mod_revision, Reply::json(200, revision, &lock))
}

/// GET /v1/locks
pub(super) async fn list(_cx: Context<'_>) -> Result<Reply, Failure> {
    Err(Failure::later("GET /v1/locks"))
}

/// Holds an acquire to the contract, and to what of it this version serves.
fn check(asked: &AcquireLock) -> Result<(), Failure> {
    match (&asked.lease, asked.ttl_ms) {
        (Some(_), None) => {}
        (None, Some(ttl_ms)) => leases::check_ttl(ttl_ms)?,
        (None, None) => {
            return Err(Failure::invalid(
                "field `lease` is missing; give it, or `ttl_ms` in its place",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Failure::invalid(
                "fields `lease` and `ttl_ms` exclude each other; give one",
            ));
        }
    }
    text::label("owner", &asked.owner)?;
    text::metadata(&asked.metadata)?;
    in_range("wait_ms", asked.wait_ms, MAX_QUEUE_WAIT_MS)?;
    in_range("poll_ms", asked.poll_ms.unwrap_or(0), MAX_POLL_MS)?;
    if asked.mode == Mode::Shared {
        return Err(Failure::later("mode `shared`"));
    }
    if asked.priority != 0 {
        return Err(Failure::later("a `priority` other than 0"));
    }
    if asked.lock_delay_ms != 0 {
        return Err(Failure::later("a `lock_delay_ms` other than 0"));
    }
    Ok(())
}

fn in_range(field: &str, value: u64, most: u64) -> Result<(), Failure> {
    if value <= most {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "field `{field}` is {value}; accepted are 0 to {most}"
    )))
}

fn claim(asked: &AcquireLock, lease: Option<LeaseId>) -> Result<Claim, Failure> {
    if let Some(lease) = lease {
        return Ok(Claim::Lease(lease));
    }
    let ttl_ms = asked.ttl_ms.unwrap_or_default();
    let new = NewLease {
        lease: leases::draw()?,
        ttl_ms,
        name: String::new(),
        metadata: Default::default(),
    };
    Ok(Claim::Grant(new))
}

fn command(name: &str, asked: &AcquireLock, claim: Claim) -> Acquire {
    let share = match asked.mode {
        Mode::Exclusive => Share::Exclusive,
        Mode::Shared => Share::Shared,
    };
    Acquire {
        kind: Kind::Lock,
        wanted: vec![Wanted {
            name: name.to_owned(),
            share,
        }],
        claim,
        owner: asked.owner.clone(),
        wait_ms: asked.wait_ms,
        priority: asked.priority,
        metadata: asked.metadata.clone(),
        lock_delay_ms: asked.lock_delay_ms,
        value: String::new(),
    }
}

/// An acquire whose place is in the queue.
struct Wait<'a, 'c> {
    cx: &'a Context<'c>,
    name: &'a str,
    asked: &'a AcquireLock,
    lease: LeaseId,
}

impl Wait<'_, '_> {
    async fn run(
        self,
        place: QueuedView,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Reply, Failure> {
        let length = self.length(&place);
        let (Some(permit), Some(until)) = (permit, self.until(length)) else {
            return queued(&place);
        };
        let handle = self.cx.handle();
        let mut poll = Poll::new(handle, until, permit);
        let (name, owner) = (self.name.to_owned(), self.asked.owner.clone());
        // Registered before the state is read, so that no grant falls in between.
        let waiter = handle.register(Interest::Place {
            kind: Kind::Lock,
            name,
            lease: self.lease,
            owner,
        });
        let mut ended = false;
        loop {
            match self.standing() {
                Some(Standing::Held(view)) => return held(&view),
                Some(Standing::Queued(view)) if ended => return queued(&view),
                Some(Standing::Queued(_)) => {}
                None => return Err(self.gone(&waiter, place.wait_deadline)),
            }
            match poll.next(&waiter).await {
                Woken::Changed => {}
                Woken::TimeUp | Woken::Stopping | Woken::Leaderless => ended = true,
            }
        }
    }

    fn standing(&self) -> Option<Standing> {
        let owner = &self.asked.owner;
        self.cx
            .handle()
            .read(|state| state.standing(Kind::Lock, self.name, self.lease, owner, state.clock()))
    }

    fn length(&self, place: &QueuedView) -> Length {
        let ttl_ms = match self.asked.ttl_ms {
            Some(ttl_ms) => ttl_ms,
            None => {
                let read = |state: &tenure_state::State| state.lease(self.lease, state.clock());
                self.cx.handle().read(read).map_or(0, |view| view.ttl_ms)
            }
        };
        Asking {
            wait_ms: self.asked.wait_ms,
            poll_ms: self.asked.poll_ms,
            ttl_ms,
            grants: self.asked.ttl_ms.is_some(),
            place_ms: remaining_ms(place.wait_deadline, place.clock),
        }
        .length()
    }

    fn until(&self, length: Length) -> Option<tokio::time::Instant> {
        match length {
            Length::None => None,
            Length::Poll(ms) => {
                Some(self.cx.arrived + jittered(Duration::from_millis(ms), self.cx.seed))
            }
            Length::UntilPlaceEnds(ms) => {
                Some(self.cx.arrived + Duration::from_millis(ms) + PATIENCE)
            }
        }
    }

    /// Why there is neither hold nor place any more.
    fn gone(&self, waiter: &Waiter, wait_deadline: Clock) -> Failure {
        let (lease, contention, clock, revision) = self.cx.handle().read(|state| {
            let clock = state.clock();
            (
                state.lease(self.lease, clock),
                state.contention(Kind::Lock, self.name),
                clock,
                state.revision(),
            )
        });
        if lease.is_err() {
            return Failure::lease_expired(self.lease).at(revision);
        }
        let contention = Contention {
            lease: Some(self.lease),
            ..contention
        };
        match waiter.left() {
            Some(LeaveReason::LeaseEnded) => Failure::lease_expired(self.lease).at(revision),
            Some(LeaveReason::WaitExpired) => {
                Failure::contended(Code::WaitExpired, &contention, clock)
            }
            None if clock > wait_deadline => {
                Failure::contended(Code::WaitExpired, &contention, clock)
            }
            // Another request of the same lease and owner gave the place up, or was granted and has released.
            Some(LeaveReason::Withdrawn) | None => {
                let detail =
                    "the place was given up by another request of the same lease and owner";
                Failure::new(Code::NotHeld, detail).at(revision)
            }
        }
    }
}

/// What decides how long an acquire is held open.
#[derive(Clone, Copy, Debug)]
struct Asking {
    wait_ms: u64,
    poll_ms: Option<u64>,
    ttl_ms: u64,
    /// The lease is granted with the place, and the caller knows it only by the answer.
    grants: bool,
    /// What is left of the place.
    place_ms: u64,
}

/// How long an acquire is held open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Length {
    /// Not at all.
    None,
    /// So many milliseconds.
    Poll(u64),
    /// Until the place ends, which is in so many milliseconds.
    UntilPlaceEnds(u64),
}

impl Asking {
    fn length(self) -> Length {
        let third = self.ttl_ms / 3;
        let poll_ms = self
            .poll_ms
            .unwrap_or_else(|| self.wait_ms.min(POLL_DEFAULT_MS).min(third));
        let poll_ms = if self.grants {
            poll_ms.min(third)
        } else {
            poll_ms
        };
        if poll_ms == 0 {
            return Length::None;
        }
        // A poll that would end in the last twentieth of the place lasts until the place ends, so that its caller is
        // told rather than made to ask once more: but never so long that the lease runs out under a caller who has
        // nothing but this request to renew it.
        let longest = if self.grants {
            third
        } else {
            poll_ms.max(2 * third)
        };
        let almost = self.place_ms <= poll_ms + self.wait_ms / 20;
        if almost && self.place_ms <= longest {
            Length::UntilPlaceEnds(self.place_ms)
        } else {
            Length::Poll(poll_ms)
        }
    }
}

fn held(view: &HoldView) -> Result<Reply, Failure> {
    let held = api::LockHeld {
        lock: view.name.clone(),
        state: api::LockState::Held,
        mode: mode(view.share),
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        fence: view.fence.0,
        remaining_ms: remaining_ms(view.deadline, view.clock),
        acquired_revision: view.acquired_revision.0,
        revision: view.revision.0,
    };
    Reply::json(200, view.revision, &held)
}

fn queued(view: &QueuedView) -> Result<Reply, Failure> {
    let queued = api::LockQueued {
        lock: view.name.clone(),
        state: api::LockState::Queued,
        mode: mode(view.share),
        owner: view.owner.clone(),
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

/// Who is in the way, as the fields of a problem.
pub(super) fn contention(contention: &Contention, clock: Clock) -> impl Serialize + use<> {
    api::Contention {
        holders: holders(&contention.holders, clock),
        holder_count: contention.holder_count,
        queue_length: contention.queue_length,
        lease: contention.lease.map(|lease| lease.to_string()),
        revision: contention.revision.0,
    }
}

fn holders(views: &[HolderView], clock: Clock) -> Vec<api::Holder> {
    let holder = |view: &HolderView| api::Holder {
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        metadata: labels(&view.metadata),
        mode: mode(view.share),
        fence: view.fence.0,
        acquired_revision: view.acquired_revision.0,
        remaining_ms: remaining_ms(view.deadline, clock),
    };
    views.iter().map(holder).collect()
}

fn waiter(view: &WaiterView, clock: Clock) -> api::Place {
    api::Place {
        position: view.position,
        owner: view.owner.clone(),
        lease: view.lease.to_string(),
        lease_name: view.lease_name.clone(),
        metadata: labels(&view.metadata),
        mode: mode(view.share),
        priority: view.priority,
        queued_revision: view.queued_revision.0,
        wait_remaining_ms: remaining_ms(view.wait_deadline, clock),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_keeps_the_lease_alive_and_tells_the_end_of_the_place() {
        let check = |wait_ms, poll_ms, ttl_ms, grants, place_ms, expected: Length| {
            let asking = Asking {
                wait_ms,
                poll_ms,
                ttl_ms,
                grants,
                place_ms,
            };
            assert_eq!(asking.length(), expected, "{asking:?}");
        };
        // The default is the least of the wait, 30 s and a third of the TTL.
        check(600_000, None, 15_000, false, 600_000, Length::Poll(5_000));
        check(600_000, None, 300_000, false, 600_000, Length::Poll(30_000));
        check(
            2_000,
            None,
            15_000,
            false,
            2_000,
            Length::UntilPlaceEnds(2_000),
        );
        // What is asked for is given.
        check(
            600_000,
            Some(60_000),
            15_000,
            false,
            600_000,
            Length::Poll(60_000),
        );
        check(600_000, Some(0), 15_000, false, 600_000, Length::None);
        // A lease that only the answer names is told of within a third of its TTL.
        check(
            600_000,
            Some(60_000),
            15_000,
            true,
            600_000,
            Length::Poll(5_000),
        );
        check(
            5_100,
            Some(60_000),
            15_000,
            true,
            5_100,
            Length::Poll(5_000),
        );
        // A poll that ends in the last twentieth of the place lasts until its end.
        check(
            10_000,
            Some(9_600),
            60_000,
            false,
            10_000,
            Length::UntilPlaceEnds(10_000),
        );
        check(
            10_000,
            Some(9_400),
            60_000,
            false,
            10_000,
            Length::Poll(9_400),
        );
        check(
            10_000,
            Some(1_000),
            60_000,
            false,
            400,
            Length::UntilPlaceEnds(400),
        );
        // But never beyond what the lease can bear.
        check(3_600_000, None, 15_000, false, 60_000, Length::Poll(5_000));
        check(
            3_600_000,
            None,
            15_000,
            false,
            9_000,
            Length::UntilPlaceEnds(9_000),
        );
    }

    #[test]
    fn an_acquire_is_held_to_the_contract() {
        let lease = || AcquireLock {
            lease: Some("3f9c2a7b5d1e8046".into()),
            ..AcquireLock::default()
        };
        assert!(check(&lease()).is_ok());
        let refused = [
            (AcquireLock::default(), "`lease` is missing"),
            (
                AcquireLock {
                    ttl_ms: Some(5_000),
                    ..lease()
                },
                "exclude each other",
            ),
            (
                AcquireLock {
                    lease: None,
                    ttl_ms: Some(999),
                    ..lease()
                },
                "1000 to 86400000",
            ),
            (
                AcquireLock {
                    wait_ms: 86_400_001,
                    ..lease()
                },
                "`wait_ms` is 86400001",
            ),
            (
                AcquireLock {
                    poll_ms: Some(600_001),
                    ..lease()
                },
                "`poll_ms` is 600001",
            ),
            (
                AcquireLock {
                    owner: "a\n".into(),
                    ..lease()
                },
                "owner has the control character",
            ),
            (
                AcquireLock {
                    mode: Mode::Shared,
                    ..lease()
                },
                "mode `shared`",
            ),
            (
                AcquireLock {
                    priority: 1,
                    ..lease()
                },
                "`priority`",
            ),
            (
                AcquireLock {
                    lock_delay_ms: 1,
                    ..lease()
                },
                "`lock_delay_ms`",
            ),
        ];
        for (asked, expected) in refused {
            let failure = check(&asked).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        }
    }
}
