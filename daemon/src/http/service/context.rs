//! What a handler works with: one request, who asks it, and the member that serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tenure_api::{Code, Outcome, Retry};
use tenure_replica::{AdminRequest, Decided, Operated};
use tenure_state::{Clock, Command, IdempotencyKey, LeaseId, Limits, Refusal, State};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::Service;
use crate::http::body::{self, Body};
use crate::http::caller::{Caller, Changes, Gate, Use};
use crate::http::failure::{Asked, Failure, Purpose};
use crate::http::following::Watchers;
use crate::http::idempotency::Recording;
use crate::http::key_ranges::Counts;
use crate::http::query::Query;
use crate::http::reply::{Reply, Unsent};
use crate::http::rights::{self, Needed};
use crate::http::shares::Share;
use crate::logging::LogFilter;
use crate::node::Handle;
use crate::telemetry::{self, Span};
use crate::tls::Tls;
use crate::transport::{DialError, Hello};

/// A turn that has not come by then does not come: like every open read, one that waits here ends within a second
/// (`api.md` §2).
const TURN_PATIENCE: Duration = Duration::from_millis(900);

/// What a handler works with.
pub(in crate::http) struct Context<'a> {
    pub(super) service: &'a Service,
    /// The method of the request, as it is told.
    pub(in crate::http) method: &'static str,
    /// Its headers.
    pub(in crate::http) headers: &'a HeaderMap,
    /// Its parameters that nobody has taken yet.
    pub(in crate::http) query: Query,
    pub(super) body: &'a mut Body,
    /// Who asks.
    pub(super) caller: &'a Caller,
    pub(super) own_turn: OwnTurn,
    /// What of it but its body decides the result, if it carries a key.
    pub(super) recording: Option<Recording>,
    /// Where its decision is recorded, if it carries a key. The body is not kept for that: a request may wait for long.
    pub(super) recorded_at: Option<IdempotencyKey>,
    /// What became of it on the way.
    pub(super) course: &'a Course,
    /// In which it is traced, if it is.
    pub(super) span: Option<&'a Span>,
    /// When its head had arrived.
    pub(in crate::http) arrived: Instant,
    /// Whether it is a `HEAD`, which never waits.
    pub(in crate::http) head: bool,
    /// A number that differs from request to request.
    pub(in crate::http) seed: u64,
    /// The id of the request.
    pub(in crate::http) id: &'a str,
}

/// What is to be known of a request when its answer is sent, or cannot be.
#[derive(Default)]
pub(super) struct Course {
    /// Something was proposed for it.
    pub(super) proposed: AtomicBool,
    /// Something that must not be proposed twice.
    pub(super) once: AtomicBool,
    /// A decision made before is being told.
    pub(super) replayed: AtomicBool,
    /// It may be asked again, but not at once.
    pub(super) pause: AtomicBool,
}

impl Course {
    fn proposes(&self, purpose: Purpose) {
        match purpose {
            Purpose::Read => return,
            Purpose::Write => self.once.store(true, Ordering::Relaxed),
            Purpose::RepeatableWrite => {}
        }
        self.proposed.store(true, Ordering::Relaxed);
    }

    /// What whoever does not get the answer has to know.
    pub(super) fn unsent(&self, reply: &Reply) -> Unsent {
        match &reply.unsent {
            Some(known) => *known,
            None if !self.proposed.load(Ordering::Relaxed) => Unsent::NOT_APPLIED,
            None => Unsent {
                outcome: Outcome::Unknown,
                retry: match self.once.load(Ordering::Relaxed) {
                    true => Retry::Never,
                    false => Retry::Same,
                },
            },
        }
    }
}

impl Context<'_> {
    /// The member.
    pub(in crate::http) fn handle(&self) -> &Handle {
        &self.service.handle
    }

    /// Who asks.
    pub(in crate::http) fn caller(&self) -> &Caller {
        self.caller
    }

    /// Changes of rights that concern who asks, from now on.
    pub(in crate::http) fn changes(&self) -> Changes {
        self.service.gate.changes(self.caller)
    }

    /// What tells of refusals.
    pub(in crate::http) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.service.gate)
    }

    /// Whether clients on other machines may reach this member.
    pub(in crate::http) fn is_exposed(&self) -> bool {
        self.service.exposed
    }

    /// Looks at the state, where whoever asks has these rights in that same state: what is answered of it is what the
    /// caller may see when it is seen.
    ///
    /// # Errors
    ///
    /// `unauthenticated` and `forbidden`.
    pub(in crate::http) fn read<T>(
        &self,
        needed: &Needed<'_>,
        look: impl FnOnce(&State) -> T,
    ) -> Result<T, Failure> {
        self.handle().read(|state| {
            self.caller.may(state, needed)?;
            Ok(look(state))
        })
    }

    /// Refuses whoever has not these rights, before anything is done for it. A right that this member does not know of
    /// may have been given a moment ago: that is looked at once more behind a read barrier, but for a read of this member's
    /// own state.
    ///
    /// # Errors
    ///
    /// `unauthenticated` and `forbidden`; `no-leader` where no leader confirms either.
    pub(in crate::http) async fn may(
        &self,
        needed: &Needed<'_>,
        is_local: bool,
    ) -> Result<(), Failure> {
        let judge = |state: &State| self.caller.may(state, needed);
        self.judged(judge, is_local).await
    }

    /// The same for leases that whoever asks is to have been granted, before a renewal of them is proposed: of each, whether
    /// it may be. That one is not there, as one that is refused, is certain only behind a read barrier. For one that is not there
    /// the others do not wait: an entry is written for them anyway, which tells of it.
    async fn may_renew(&self, leases: &[LeaseId]) -> Result<Vec<Use>, Failure> {
        if self.is_let_through() {
            return Ok(vec![Use::Allowed; leases.len()]);
        }
        let judge = |state: &State| self.caller.may_use(state, leases);
        match self.handle().read(judge) {
            Ok(uses) if uses.contains(&Use::Allowed) && !uses.contains(&Use::Refused) => {
                Ok(vec![Use::Allowed; leases.len()])
            }
            Ok(_) | Err(_) => {
                self.barrier().await?;
                self.handle().read(judge)
            }
        }
    }

    /// Counts a request that keeps leases, unless all of them are the caller's.
    ///
    /// # Errors
    ///
    /// As [`Gate::count_unless_own`].
    pub(in crate::http) async fn count_unless_own(
        &self,
        leases: &[LeaseId],
    ) -> Result<(), Failure> {
        let gate = &self.service.gate;
        gate.count_unless_own(self.handle(), self.caller, leases)
            .await
    }

    /// What comes of a command about a lease that is not there, if it is about one: it changes nothing, so that no entry is
    /// written for it. Otherwise whoever has no right at all could fill the log. A lease that this member has not heard of
    /// yet is there behind a read barrier; what was decided under a key is told where it is applied.
    async fn of_absent_lease(&self, command: &Command) -> Result<Option<Decided>, Failure> {
        let (lease, refusal) = match command {
            Command::RevokeLease { lease } | Command::ChangeLease { lease, .. } => (*lease, None),
            Command::Release(release) => (release.lease, Some(Refusal::NotHeld)),
            _ => return Ok(None),
        };
        let is_there = |state: &State| state.has_lease(lease);
        if self.is_let_through() || self.handle().read(is_there) {
            return Ok(None);
        }
        self.barrier().await?;
        let recorded_at = self.recorded_at.as_ref();
        let recorded_at = recorded_at.filter(|_| command.is_recorded());
        Ok(self.handle().read(|state| {
            if recorded_at.is_some_and(|at| state.is_decided(at)) {
                return None;
            }
            let absent = absent(state, lease)?;
            Some(Decided {
                outcome: refusal.map_or(absent.outcome.clone(), Err),
                ..absent
            })
        }))
    }

    /// The same for a command, before it is proposed.
    async fn may_propose(&self, command: &Command) -> Result<(), Failure> {
        match self.is_let_through() {
            true => Ok(()),
            false => self.may_submit(command).await,
        }
    }

    /// Whether a command is proposed unseen: while nobody proves who asks, what each may do is not looked at before where it
    /// counts, which is where it is applied.
    fn is_let_through(&self) -> bool {
        self.caller.principal().identity().is_none()
    }

    /// The same for a command. What is decided in the end is decided where it is applied.
    ///
    /// # Errors
    ///
    /// As [`Context::may`].
    pub(in crate::http) async fn may_submit(&self, command: &Command) -> Result<(), Failure> {
        let judge = |state: &State| self.caller.may_submit(state, command);
        self.judged(judge, false).await
    }

    async fn judged(
        &self,
        judge: impl Fn(&State) -> Result<(), Failure>,
        is_local: bool,
    ) -> Result<(), Failure> {
        match self.handle().read(&judge) {
            Ok(()) => Ok(()),
            Err(failure) if is_local => Err(failure),
            Err(_) => {
                self.barrier().await?;
                self.handle().read(&judge)
            }
        }
    }

    /// What secures connections.
    pub(in crate::http) fn tls(&self) -> &Tls {
        &self.service.tls
    }

    /// Refuses parameters that the handler has not taken.
    ///
    /// # Errors
    ///
    /// `invalid-request`, naming the first.
    pub(in crate::http) fn finish_query(&mut self) -> Result<(), Failure> {
        std::mem::take(&mut self.query).finish()
    }

    /// Reads a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Body::read`] and [`body::json`].
    pub(in crate::http) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let sent = self
            .read_body("request_bytes", |limits| limits.request_bytes)
            .await?;
        body::json(self.headers, &sent)
    }

    /// Reads a body that may be left out, and has no fields.
    ///
    /// # Errors
    ///
    /// As [`Context::json`].
    pub(in crate::http) async fn no_fields(&mut self) -> Result<(), Failure> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let sent = self
            .read_body("request_bytes", |limits| limits.request_bytes)
            .await?;
        if sent.is_empty() {
            Ok(())
        } else {
            body::json(self.headers, &sent).map(|Nothing {}| ())
        }
    }

    /// Reads a body that is the value of a key.
    ///
    /// # Errors
    ///
    /// As [`Body::read`].
    pub(in crate::http) async fn value(&mut self) -> Result<Bytes, Failure> {
        let value_first = self
            .handle()
            .read(|state| state.limits().value_bytes <= state.limits().request_bytes);
        if value_first {
            self.read_body("value_bytes", |limits| limits.value_bytes)
                .await
        } else {
            self.read_body("request_bytes", |limits| limits.request_bytes)
                .await
        }
    }

    /// Reads the body, within a limit of that name.
    async fn read_body(
        &mut self,
        name: &str,
        limit: impl Fn(&Limits) -> u64,
    ) -> Result<Bytes, Failure> {
        let mut allowed = self.handle().read(|state| limit(state.limits()));
        let fits = Body::told_length(self.headers).is_some_and(|told| told <= allowed);
        if !fits && self.is_decided().await? {
            allowed = limit(&Limits::most());
        }
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        let sent = self.body.read(self.headers, name, allowed).await?;
        let recording = self.recording.as_ref();
        self.recorded_at = recording.map(|recording| recording.with_body(&sent));
        Ok(sent)
    }

    /// Refuses a body.
    ///
    /// # Errors
    ///
    /// `invalid-request` where there is one.
    pub(in crate::http) async fn no_body(&mut self) -> Result<(), Failure> {
        self.body.refuse(self.headers).await
    }

    /// Whether something was decided under the key of this request. Then it is to be told that, and must not be refused
    /// for what was changed since: limits, or how large a value is. To be asked where it would be refused.
    ///
    /// # Errors
    ///
    /// `no-leader` where no leader confirms that this member knows all that was decided.
    pub(in crate::http) async fn is_decided(&self) -> Result<bool, Failure> {
        let Some(at) = &self.recorded_at else {
            return Ok(false);
        };
        self.barrier().await?;
        Ok(self.handle().read(|state| state.is_decided(at)))
    }

    /// Carries out a command; where the request carries a key and the command is one that records, exactly once. Read
    /// the body first: it is a part of what makes a request the same as another.
    ///
    /// # Errors
    ///
    /// Where it got no outcome, or was refused for a reason that only what was asked explains.
    pub(in crate::http) async fn submit(
        &self,
        command: Command,
        purpose: Purpose,
    ) -> Result<Decided, Failure> {
        self.may_propose(&command).await?;
        let absent = self.of_absent_lease(&command).await?;
        let recorded_at = self.recorded_at.as_ref();
        let idempotency = recorded_at.filter(|_| command.is_recorded()).cloned();
        let asked = Asked::of(&command).under(idempotency.as_ref().map(|at| at.key.as_str()));
        // A call whose decision is recorded may be sent again as it is.
        let purpose = match (&idempotency, purpose) {
            (Some(_), Purpose::Write) => Purpose::RepeatableWrite,
            (_, purpose) => purpose,
        };
        let decided = match absent {
            Some(decided) => decided,
            None => {
                self.course.proposes(purpose);
                let who = self.caller.principal().clone();
                self.handle()
                    .submit(who, command, idempotency, self.span)
                    .await
                    .map_err(|unserved| Failure::unserved(unserved, purpose))?
            }
        };
        if decided.replayed {
            self.course.replayed.store(true, Ordering::Relaxed);
        }
        match asked.refused(&decided) {
            Some(failure) => Err(failure),
            None => Ok(decided),
        }
    }

    /// Tells the caller, who will ask again, to do so after a pause: there is no room to let it wait here.
    pub(in crate::http) fn ask_for_a_pause(&self) {
        self.course.pause.store(true, Ordering::Relaxed);
    }

    /// Whether a decision made before is being told.
    pub(in crate::http) fn is_replayed(&self) -> bool {
        self.course.replayed.load(Ordering::Relaxed)
    }

    /// Renews a lease.
    ///
    /// # Errors
    ///
    /// Where it got no outcome.
    pub(in crate::http) async fn renew(&self, lease: LeaseId) -> Result<Decided, Failure> {
        let is_absent = self.may_renew(&[lease]).await?.contains(&Use::Absent);
        if is_absent && let Some(absent) = self.handle().read(|state| absent(state, lease)) {
            return Ok(absent);
        }
        self.course.proposes(Purpose::RepeatableWrite);
        self.handle()
            .renew(self.caller.principal().clone(), lease, self.span)
            .await
            .map_err(|unserved| Failure::unserved(unserved, Purpose::RepeatableWrite))
    }

    /// Renews leases together; what came of each, and nothing of those that the caller may not renew: one that is not its
    /// own, or is not there, is no reason to lose the others.
    ///
    /// # Errors
    ///
    /// `forbidden` where it may renew none of them; where they got no outcome.
    pub(in crate::http) async fn renew_many(
        &self,
        leases: &[LeaseId],
    ) -> Result<Vec<Option<Decided>>, Failure> {
        let uses = self.may_renew(leases).await?;
        // Each with what is told of it, where nothing is to be proposed.
        let found: Vec<(LeaseId, Use, Option<Decided>)> = self.handle().read(|state| {
            let found = leases.iter().zip(&uses).map(|(lease, found)| {
                let absent = (*found == Use::Absent).then(|| absent(state, *lease));
                (*lease, *found, absent.flatten())
            });
            found.collect()
        });
        let is_asked = |(_, found, absent): &(LeaseId, Use, Option<Decided>)| {
            *found != Use::Refused && absent.is_none()
        };
        let asked = found.iter().filter(|found| is_asked(found));
        let asked: Vec<LeaseId> = asked.map(|(lease, ..)| *lease).collect();
        let decided = self.renew_each(&asked).await?;
        let mut decided = decided.into_iter();
        let of = |found: (LeaseId, Use, Option<Decided>)| match is_asked(&found) {
            true => decided.next(),
            false => found.2,
        };
        Ok(found.into_iter().map(of).collect())
    }

    /// Proposes renewals; what came of each.
    async fn renew_each(&self, leases: &[LeaseId]) -> Result<Vec<Decided>, Failure> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.course.proposes(Purpose::RepeatableWrite);
        self.handle()
            .renew_many(self.caller.principal().clone(), leases, self.span)
            .await
            .map_err(|unserved| Failure::unserved(unserved, Purpose::RepeatableWrite))
    }

    /// Has the leader do something; what came of it. Asking again for the same is harmless, by what members are made
    /// to be and not by a record. Judged once more by a state that is no older than this moment: a body, or the member that
    /// is to be reached, may have taken long, and the leader is not told who asks.
    ///
    /// # Errors
    ///
    /// `unauthenticated` or `forbidden` where the caller administers no longer; `no-leader`.
    pub(in crate::http) async fn operate(
        &self,
        operation: AdminRequest,
    ) -> Result<Operated, Failure> {
        self.barrier().await?;
        self.handle()
            .read(|state| self.caller.may(state, &rights::admin()))?;
        self.course.proposes(Purpose::RepeatableWrite);
        Ok(self.handle().operate(operation).await)
    }

    /// Asks whoever is reached at a peer URL who it is.
    ///
    /// # Errors
    ///
    /// Where nobody is reached, or it is no member.
    pub(in crate::http) async fn probe(&self, peer_url: &str) -> Result<Hello, DialError> {
        (self.service.probe)(peer_url.to_owned(), self.tls().members.clone()).await
    }

    /// Waits until a read of this member's state is linearizable; the leader's clock.
    ///
    /// # Errors
    ///
    /// `no-leader` within a second where no leader confirms it.
    pub(in crate::http) async fn barrier(&self) -> Result<Clock, Failure> {
        let _traced = self
            .span
            .map(|span| span.child(telemetry::Kind::Internal, "confirm a read"));
        self.handle()
            .barrier()
            .await
            .map_err(|unserved| Failure::unserved(unserved, Purpose::Read))
    }

    /// Waits for a turn at making a page, first come first served; it ends when this is dropped. A connection has one at
    /// a time, so that nobody who asks for hundreds of pages makes all the others wait for them.
    ///
    /// # Errors
    ///
    /// `overloaded` where it does not come within the patience of a read: nobody who waits here notices anything else.
    pub(in crate::http) async fn turn(&self) -> Result<Turn<'_>, Failure> {
        self.turn_of(true).await
    }

    /// A turn at making an answer that is mostly short: a connection has one at a time, so that hundreds of them that are
    /// not short do not grow at once, and others are not waited for.
    ///
    /// # Errors
    ///
    /// As [`Context::turn`].
    pub(in crate::http) async fn short_turn(&self) -> Result<Turn<'_>, Failure> {
        self.turn_of(false).await
    }

    async fn turn_of(&self, is_long: bool) -> Result<Turn<'_>, Failure> {
        let taken = async {
            let of_connection = Arc::clone(&self.own_turn.0).acquire_owned().await.ok();
            let of_member = match is_long {
                true => self.service.pages.acquire().await.ok(),
                false => None,
            };
            Turn {
                _of_connection: of_connection,
                _of_member: of_member,
            }
        };
        timeout(TURN_PATIENCE, taken).await.map_err(|_| {
            let detail = "others make pages and snapshots of this member's state, and the turn of this request did \
                not come within a second; ask again later, or another member, and for fewer at a time";
            Failure::new(Code::Overloaded, detail)
        })
    }

    /// Whether this member is in contact with a leader.
    pub(in crate::http) fn knows_leader(&self) -> bool {
        self.service.leader.borrow().leader.is_some()
    }

    /// What the lists of keys of this member share.
    pub(in crate::http) fn counts(&self) -> &Counts {
        &self.service.counts
    }

    /// Which log lines this process writes.
    pub(in crate::http) fn log_filter(&self) -> &LogFilter {
        &self.service.log_filter
    }

    /// What the watchers of this member share.
    pub(in crate::http) fn watchers(&self) -> &Arc<Watchers> {
        &self.service.watchers
    }

    /// How many requests wait at this member.
    pub(in crate::http) fn waiting_requests(&self) -> u64 {
        let free = self.service.waits.available_permits();
        self.service.most_waits.saturating_sub(free) as u64
    }

    /// A place among the requests that wait.
    ///
    /// # Errors
    ///
    /// `too-many-waiters`.
    pub(in crate::http) fn wait_permit(&self) -> Result<WaitPermit, Failure> {
        let all = (self.service.most_waits as u64, "waiting_requests");
        let shares = &self.service.wait_shares;
        let share = self.sharer().map(|identity| shares.take(identity, all));
        let share = share.transpose()?;
        let place = Arc::clone(&self.service.waits)
            .try_acquire_owned()
            .map_err(|_| {
                let most = self.service.most_waits;
                let detail =
                    format!("{most} requests wait at this member already; ask another, or later");
                Failure::new(Code::TooManyWaiters, detail)
            })?;
        Ok(WaitPermit {
            _place: place,
            _share: share,
        })
    }

    /// Who asks, where it has a share only of what all have.
    pub(in crate::http) fn sharer(&self) -> Option<&str> {
        let identity = self.caller.principal().identity()?;
        let shares = |state: &State| self.caller.shares(state.access());
        self.handle().read(shares).then_some(identity)
    }
}

/// What is told of a lease that is not there, as it would be by an entry; `None` where it is.
fn absent(state: &State, lease: LeaseId) -> Option<Decided> {
    let clock = state.clock();
    let refusal = state.lease(lease, clock).err()?;
    Some(Decided {
        outcome: Err(refusal),
        replayed: false,
        revision: state.revision(),
        clock,
    })
}

/// A place among the requests that wait, given back when it is dropped.
pub(in crate::http) struct WaitPermit {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// What a connection has of turns at making pages.
#[derive(Clone)]
pub(in crate::http) struct OwnTurn(Arc<Semaphore>);

impl OwnTurn {
    /// One turn at a time.
    pub(in crate::http) fn new() -> OwnTurn {
        OwnTurn(Arc::new(Semaphore::new(1)))
    }
}

/// A turn at making a page, until it is dropped. The semaphores are never closed.
pub(in crate::http) struct Turn<'a> {
    _of_connection: Option<OwnedSemaphorePermit>,
    _of_member: Option<SemaphorePermit<'a>>,
}

/// Pages are made by half of the threads at most: a page of 4 MiB keeps one busy for milliseconds, and whoever asks for
/// hundreds of them must not make everybody else wait for all.
pub(super) fn pages_at_a_time() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| (threads.get() / 2).max(1))
}
