//! Acquires: one request that asks for a lock, some permits, a leadership or several locks, and may wait for it.
//!
//! Owns how an acquire waits. A place in the queue belongs to its lease and owner, never to the request that waits for
//! it: whatever ends the request, the place stays. What is asked for, and how the answer is told, is the business of
//! `locks`, `semaphores`, `elections` and `together`.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_api::{Code, MAX_LOCK_DELAY_MS, MAX_POLL_MS, MAX_PRIORITY, MAX_QUEUE_WAIT_MS};
use tenure_replica::Interest;
use tenure_state::{
    Acquire, Answer, Claim, Clock, Command, Contention, HoldView, Kind, LeaseId, LeaveReason,
    NewLease, QueuedView, Refusal, Standing, State, Wanted,
};

use super::failure::{Failure, Purpose};
use super::leases::{self, remaining_ms};
use super::poll::{Poll, Woken, jittered};
use super::service::{Context, WaitPermit};
use super::text;
use crate::node::Waiter;

/// A poll is no longer than this unless it is asked to be.
const POLL_DEFAULT_MS: u64 = 30_000;
/// A request that waits for the end of its place is answered within this time after it, whatever the clock of the
/// cluster does (`api.md` §2: a write is answered within 5 s beyond its poll).
const PATIENCE: Duration = Duration::from_secs(5);

/// What every acquire says beside what it wants, as it was sent. A field that a kind does not have is left at its
/// default.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) lease: Option<String>,
    pub(super) ttl_ms: Option<u64>,
    /// The owner; of an election the candidate.
    pub(super) owner: String,
    pub(super) wait_ms: u64,
    pub(super) poll_ms: Option<u64>,
    pub(super) priority: i32,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) lock_delay_ms: u64,
    /// What a leadership says.
    pub(super) value: String,
}

/// What an acquire got: one view for each name that it wants, in the order of names.
pub(super) enum Acquired {
    /// It holds them all.
    Held(Vec<HoldView>),
    /// Its place is in every queue.
    Queued(Vec<QueuedView>),
}

/// The one view of an acquire that wants one name.
///
/// # Errors
///
/// Where there is none, which cannot be.
pub(super) fn only<T>(views: Vec<T>) -> Result<T, Failure> {
    views.into_iter().next().ok_or_else(Failure::unexpected)
}

/// The name of the field and parameter that holds the owner.
pub(super) fn owner_field(kind: Kind) -> &'static str {
    match kind {
        Kind::Lock | Kind::Semaphore => "owner",
        Kind::Election => "candidate",
    }
}

/// Acquires what is wanted, and waits for it as long as the terms say.
///
/// # Errors
///
/// `invalid-request` for terms outside the contract; what the state machine refuses; `wait-expired` or `lease-expired`
/// where the place ended.
pub(super) async fn acquire(
    cx: &Context<'_>,
    kind: Kind,
    mut wanted: Vec<Wanted>,
    terms: &Terms,
) -> Result<Acquired, Failure> {
    let lease = terms.check(kind)?;
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    // A new place is taken only by a request that may wait for it: the bound is asked before anything is proposed. Who
    // holds or waits already is refused by no bound, for the asking renews the lease.
    let waits = terms.wait_ms > 0 && terms.poll_ms != Some(0);
    let is_known =
        || lease.is_some_and(|lease| standing(cx, kind, &wanted, lease, &terms.owner).is_some());
    let permit = match waits && !is_known() {
        true => permit_or_repeat(cx).await?,
        false => None,
    };
    for _ in 0..leases::DRAWS {
        let command = terms.command(kind, &wanted, terms.claim(lease)?);
        let purpose = purpose(&command.claim);
        let decided = cx.submit(Command::Acquire(command), purpose).await?;
        let queued = match decided.outcome {
            Ok(Answer::Held(view)) => return Ok(Acquired::Held(vec![view])),
            Ok(Answer::HeldTogether(views)) => return Ok(Acquired::Held(views)),
            Ok(Answer::Queued(view)) => vec![view],
            Ok(Answer::QueuedTogether(views)) => views,
            Err(Refusal::LeaseIdTaken(_)) => continue,
            Ok(_) => return Err(Failure::unexpected()),
            Err(refusal) => return Err(Failure::refused(refusal, decided.clock, decided.revision)),
        };
        // Where there is no room to wait in, the place is told at once, and when to ask again.
        let permit = match waits {
            true => permit.or_else(|| cx.wait_permit().ok()),
            false => None,
        };
        if waits && permit.is_none() {
            cx.ask_for_a_pause();
        }
        let waiting = Waiting::new(cx, kind, &wanted, terms, &queued)?;
        return waiting.run(queued, permit).await;
    }
    Err(Failure::new(
        Code::Overloaded,
        "no free id was drawn for the lease",
    ))
}

/// A place among the requests that wait; none where there is no room and the request repeats one that was decided: its
/// caller may know of its lease by this answer only.
///
/// # Errors
///
/// `too-many-waiters` for a new one.
async fn permit_or_repeat(cx: &Context<'_>) -> Result<Option<WaitPermit>, Failure> {
    match cx.wait_permit() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) if cx.is_decided().await? => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Who asks again with a lease is answered with the same hold or place; who has one granted would get another, and
/// stand behind the first.
fn purpose(claim: &Claim) -> Purpose {
    match claim {
        Claim::Lease(_) => Purpose::RepeatableWrite,
        Claim::Grant(_) => Purpose::Write,
    }
}

impl Terms {
    /// Holds them to the contract; the lease, unless one is to be granted.
    fn check(&self, kind: Kind) -> Result<Option<LeaseId>, Failure> {
        let lease = match (&self.lease, self.ttl_ms) {
            (Some(lease), None) => Some(text::lease(lease)?),
            (None, Some(ttl_ms)) => {
                leases::check_ttl(ttl_ms)?;
                None
            }
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
        };
        text::label(owner_field(kind), &self.owner)?;
        text::metadata(&self.metadata)?;
        in_range("wait_ms", self.wait_ms, 0, MAX_QUEUE_WAIT_MS)?;
        in_range("poll_ms", self.poll_ms.unwrap_or(0), 0, MAX_POLL_MS)?;
        in_range("priority", self.priority, -MAX_PRIORITY, MAX_PRIORITY)?;
        in_range("lock_delay_ms", self.lock_delay_ms, 0, MAX_LOCK_DELAY_MS)?;
        Ok(lease)
    }

    fn claim(&self, lease: Option<LeaseId>) -> Result<Claim, Failure> {
        if let Some(lease) = lease {
            return Ok(Claim::Lease(lease));
        }
        let new = NewLease {
            lease: leases::draw()?,
            ttl_ms: self.ttl_ms.unwrap_or_default(),
            name: String::new(),
            metadata: BTreeMap::new(),
        };
        Ok(Claim::Grant(new))
    }

    fn command(&self, kind: Kind, wanted: &[Wanted], claim: Claim) -> Acquire {
        Acquire {
            kind,
            wanted: wanted.to_vec(),
            claim,
            owner: self.owner.clone(),
            wait_ms: self.wait_ms,
            priority: self.priority,
            metadata: self.metadata.clone(),
            lock_delay_ms: self.lock_delay_ms,
            value: self.value.clone(),
        }
    }
}

/// Refuses a field outside its range.
///
/// # Errors
///
/// `invalid-request`, naming the field, its value and its range.
pub(super) fn in_range<N: PartialOrd + std::fmt::Display>(
    field: &str,
    value: N,
    least: N,
    most: N,
) -> Result<(), Failure> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "field `{field}` is {value}; accepted are {least} to {most}"
    )))
}

/// An acquire whose place is in the queue.
struct Waiting<'a, 'c> {
    cx: &'a Context<'c>,
    kind: Kind,
    /// In the order of names; there is at least one.
    wanted: &'a [Wanted],
    terms: &'a Terms,
    /// The lease of the place: with `ttl_ms` the one that was granted, which is another than was drawn where this
    /// request is a repeat.
    lease: LeaseId,
    /// The cluster clock at which the place ends.
    deadline: Clock,
    /// How long this request is held open.
    length: Length,
}

impl<'a, 'c> Waiting<'a, 'c> {
    fn new(
        cx: &'a Context<'c>,
        kind: Kind,
        wanted: &'a [Wanted],
        terms: &'a Terms,
        places: &[QueuedView],
    ) -> Result<Waiting<'a, 'c>, Failure> {
        // The place is one, whatever the number of its queues.
        let place = places.first().ok_or_else(Failure::unexpected)?;
        let lease = place.lease;
        let ttl_ms = terms.ttl_ms.unwrap_or_else(|| {
            let read = |state: &State| state.lease(lease, state.clock());
            cx.handle().read(read).map_or(0, |view| view.ttl_ms)
        });
        let asking = Asking {
            wait_ms: terms.wait_ms,
            poll_ms: terms.poll_ms,
            ttl_ms,
            grants: terms.ttl_ms.is_some(),
            place_ms: remaining_ms(place.wait_deadline, place.clock),
        };
        Ok(Waiting {
            cx,
            kind,
            wanted,
            terms,
            lease,
            deadline: place.wait_deadline,
            length: asking.length(),
        })
    }

    async fn run(
        self,
        places: Vec<QueuedView>,
        permit: Option<WaitPermit>,
    ) -> Result<Acquired, Failure> {
        let (Some(permit), Some(until)) = (permit, self.until()) else {
            return Ok(Acquired::Queued(places));
        };
        let handle = self.cx.handle();
        let mut poll = Poll::new(self.cx, until, permit);
        // Registered before the state is read, so that no grant falls in between. One queue tells of all: the place is
        // granted, or ends, in all of them at one revision.
        let waiter = handle.register(Interest::Place {
            kind: self.kind,
            name: self.first_name().to_owned(),
            lease: self.lease,
            owner: self.terms.owner.clone(),
        });
        let asked = self
            .terms
            .command(self.kind, self.wanted, Claim::Lease(self.lease));
        let asked = Command::Acquire(asked);
        let mut ended = false;
        loop {
            // The place stays where rights are taken away; only whoever has none any more is told nothing of it.
            let allowed = handle.read(|state| self.cx.caller().may_submit(state, &asked));
            allowed.map_err(Failure::after_it_was_done)?;
            match standing(
                self.cx,
                self.kind,
                self.wanted,
                self.lease,
                &self.terms.owner,
            ) {
                Some(Acquired::Held(views)) => return Ok(Acquired::Held(views)),
                Some(Acquired::Queued(views)) if ended => return Ok(Acquired::Queued(views)),
                Some(Acquired::Queued(_)) => {}
                None => return Err(self.gone(&waiter)),
            }
            match poll.next(&waiter).await {
                Woken::Changed => {}
                Woken::TimeUp | Woken::Stopping | Woken::Leaderless => ended = true,
            }
        }
    }

    fn first_name(&self) -> &str {
        self.wanted
            .first()
            .map_or("", |wanted| wanted.name.as_str())
    }

    fn until(&self) -> Option<tokio::time::Instant> {
        match self.length {
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
    fn gone(&self, waiter: &Waiter) -> Failure {
        let (lease, contention, clock, revision) = self.cx.handle().read(|state| {
            let clock = state.clock();
            let lease = state.lease(self.lease, clock);
            (lease, self.in_the_way(state), clock, state.revision())
        });
        if lease.is_err() {
            return Failure::lease_expired(self.lease).at(revision);
        }
        match waiter.left() {
            Some(LeaveReason::LeaseEnded) => Failure::lease_expired(self.lease).at(revision),
            Some(LeaveReason::WaitExpired) => {
                Failure::contended(Code::WaitExpired, &contention, clock)
            }
            None if clock > self.deadline => {
                Failure::contended(Code::WaitExpired, &contention, clock)
            }
            // Another request of the same lease and owner withdrew, the place was granted and the hold has ended since, or
            // the right to hold it was taken for a while.
            Some(LeaveReason::Withdrawn) | None => {
                let detail = "the place is gone: another request of the same lease and owner gave it up, it was granted \
                    and has ended since, or the right to hold it was taken when its turn came";
                Failure::new(Code::NotHeld, detail).at(revision)
            }
        }
    }

    /// Who is in the way: of several names, at the first where somebody is.
    fn in_the_way(&self, state: &State) -> Contention {
        let mut contentions = self
            .wanted
            .iter()
            .map(|wanted| state.contention(self.kind, &wanted.name));
        let is_busy = |contention: &Contention| {
            contention.holder_count != 0
                || contention.queue_length != 0
                || contention.delay_until.is_some()
        };
        let busy = contentions.find(is_busy);
        let contention = busy.unwrap_or_else(|| state.contention(self.kind, self.first_name()));
        Contention {
            lease: Some(self.lease),
            ..contention
        }
    }
}

/// How a lease and owner stand with what they want, as this member's state shows it; none where they do not hold all of
/// it, nor wait for all of it.
fn standing(
    cx: &Context<'_>,
    kind: Kind,
    wanted: &[Wanted],
    lease: LeaseId,
    owner: &str,
) -> Option<Acquired> {
    let (mut held, mut queued) = (Vec::new(), Vec::new());
    cx.handle().read(|state| {
        let clock = state.clock();
        for wanted in wanted {
            match state.standing(kind, &wanted.name, lease, owner, clock)? {
                Standing::Held(view) => held.push(view),
                Standing::Queued(view) => queued.push(view),
            }
        }
        Some(())
    })?;
    match (held.is_empty(), queued.is_empty()) {
        (false, true) => Some(Acquired::Held(held)),
        (true, false) => Some(Acquired::Queued(queued)),
        (true, true) | (false, false) => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_acquire_that_names_its_lease_may_be_asked_again_where_its_outcome_is_not_known() {
        let terms = Terms {
            ttl_ms: Some(15_000),
            ..Terms::default()
        };
        let granted = terms.claim(None).expect("an id is drawn");
        assert_eq!(purpose(&granted), Purpose::Write);
        let named = terms.claim(LeaseId::new(7)).expect("it is named");
        assert_eq!(purpose(&named), Purpose::RepeatableWrite);
    }

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
    fn the_terms_of_an_acquire_are_held_to_the_contract() {
        let fine = || Terms {
            lease: Some("3f9c2a7b5d1e8046".into()),
            ..Terms::default()
        };
        let check = |terms: Terms, expected: &str| {
            let failure = terms.check(Kind::Lock).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        assert!(fine().check(Kind::Lock).is_ok());
        let most = Terms {
            wait_ms: 86_400_000,
            poll_ms: Some(600_000),
            priority: -100,
            lock_delay_ms: 60_000,
            ..fine()
        };
        assert!(most.check(Kind::Election).is_ok());
        check(Terms::default(), "`lease` is missing");
        let both = Terms {
            ttl_ms: Some(5_000),
            ..fine()
        };
        check(both, "exclude each other");
        let short = Terms {
            lease: None,
            ttl_ms: Some(999),
            ..Terms::default()
        };
        check(short, "1000 to 86400000");
        let wait_ms = 86_400_001;
        check(Terms { wait_ms, ..fine() }, "`wait_ms` is 86400001");
        let poll_ms = Some(600_001);
        check(Terms { poll_ms, ..fine() }, "`poll_ms` is 600001");
        let owner = "a\n".to_owned();
        check(Terms { owner, ..fine() }, "owner has the control character");
        let priority = 101;
        check(
            Terms { priority, ..fine() },
            "`priority` is 101; accepted are -100 to 100",
        );
        let lock_delay_ms = 60_001;
        let late = Terms {
            lock_delay_ms,
            ..fine()
        };
        check(late, "`lock_delay_ms` is 60001; accepted are 0 to 60000");
        let candidate = Terms {
            owner: "a\u{7}".to_owned(),
            ..fine()
        };
        let failure = candidate.check(Kind::Election).expect_err("a bell");
        assert!(
            failure.detail.contains("candidate has"),
            "{}",
            failure.detail
        );
    }
}
