//! What the edges (REST, the command line's dev mode, tests) may ask of a running member.
//!
//! Owns the requests of clients that wait for an outcome, and nothing of the member itself: it sends inputs to the
//! core and hears from the applier. Every call ends: with an outcome, with a refusal that says that nothing was
//! applied, or, where a write was proposed and its fate was not learnt in time, with *unknown*.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tenure_raft::{
    Configuration, LogIndex, MemberId, ReadPoint, RoleName, Stamp, Status, Term, TransferError,
};
use tenure_replica::{
    AdminRequest, Applier, Decided, Input, Interest, Operated, Progress, ProgressReport, Refused,
};
use tenure_state::{
    Clock, Command, IdempotencyKey, LeaseId, Origin, Principal, Request, Revision, State,
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::event::Event;
use super::freshness::{FreshAt, Freshness};
use super::under_way::UnderWay;
use super::waiter::{Waiter, Waiters};
use crate::storage::{BackupError, Backups, MadeBackup};
use crate::telemetry::{self, Kind, Metrics, Span, Traces};

/// No read holds the state for more rows, or more history, than this at a time (`design.md`, State).
pub const PIECE: usize = 256;
/// A write is answered within this time beyond its poll (`api.md` §2, Waiting).
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// A linearizable read that no leader confirms within this time is refused (`api.md` §2: within a second).
const READ_PATIENCE: Duration = Duration::from_millis(900);
/// How long to wait before asking again for a read that an election cut short.
const READ_RETRY: Duration = Duration::from_millis(20);
/// An operation that the leader has not answered by then may have been done or not. The core gives up a little sooner.
const OPERATION_PATIENCE: Duration = Duration::from_secs(7);
/// How long a leader that stops waits for another to take over.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(2);
/// Renewals wait for others to share an entry with (`design.md`, Time): so long a part of their TTL, and of what is
/// left of it, but never less nor more than this.
const COMPANY_OF_TTL: u64 = 100;
const COMPANY_OF_REMAINING: u64 = 4;
/// A lease of which so little is left does not wait at all: the clock that says so is that of the last entry applied,
/// which may be half a second old.
const HURRY_MS: u64 = 600;
const LEAST_COMPANY: Duration = Duration::from_millis(20);
const MOST_COMPANY: Duration = Duration::from_millis(250);
/// Inputs that may wait for the core; beyond it clients are refused and peers' messages are dropped.
const CORE_QUEUE: usize = 65_536;

/// Why a request got no outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unserved {
    /// No leader is known here. Not applied.
    #[error("this member is not in contact with a leader")]
    NoLeader,
    /// Too much is waiting already. Not applied.
    #[error("too many requests are waiting")]
    Overloaded,
    /// Leadership is being handed over. Not applied.
    #[error("leadership is being handed over")]
    Transferring,
    /// The member is stopping. Not applied.
    #[error("this member is shutting down")]
    ShuttingDown,
    /// The rules that the cluster follows do not know it. Not applied.
    #[error("the members of this cluster do not all know this yet")]
    RulesTooOld,
    /// It was proposed, and what came of it was not learnt in time.
    #[error("the outcome was not learnt in time")]
    OutcomeUnknown,
}

impl From<Refused> for Unserved {
    fn from(refused: Refused) -> Unserved {
        match refused {
            Refused::NoLeader => Unserved::NoLeader,
            Refused::Overloaded => Unserved::Overloaded,
            Refused::Transferring => Unserved::Transferring,
            Refused::ShuttingDown => Unserved::ShuttingDown,
            Refused::RulesTooOld => Unserved::RulesTooOld,
        }
    }
}

/// Who this member is.
#[derive(Clone, Debug)]
pub struct MemberIdentity {
    /// Its id.
    pub id: MemberId,
    /// Its name, a label.
    pub name: String,
    /// The cluster it belongs to.
    pub cluster: u128,
    /// Where clients reach it.
    pub client_url: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// The version of this program.
    pub version: &'static str,
    /// When it started, for its uptime.
    pub started: Instant,
}

/// The leader as this member knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeaderView {
    /// The leader, while this member is in contact with it.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: Term,
    /// Where clients reach the leader.
    pub client_url: Option<String>,
}

/// How this member is.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// What it is.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader it is in contact with.
    pub leader: Option<MemberId>,
    /// Its commit index.
    pub commit: LogIndex,
    /// The last index it has applied.
    pub applied: LogIndex,
    /// The last entry of its log.
    pub last: LogIndex,
    /// The bytes of its log file.
    pub log_bytes: u64,
    /// The bytes of its state file.
    pub state_bytes: u64,
    /// Who belongs to the cluster.
    pub configuration: Arc<Configuration>,
}

/// Entries that were applied, and what the state came to by them.
pub(super) struct Applied {
    /// The last of them.
    pub(super) index: LogIndex,
    pub(super) progress: Progress,
    revision: Revision,
    due: Option<Stamp>,
    /// The version of the rules that the state follows by them.
    version: u64,
    /// When it was begun, where anything is traced.
    began: Option<Instant>,
}

impl Applied {
    /// Of an applier that has just applied them.
    pub(super) fn of(applier: &Applier, progress: Progress, began: Option<Instant>) -> Applied {
        Applied {
            began,
            index: applier.applied().position.index,
            progress,
            revision: applier.state().revision(),
            due: applier.due(),
            version: applier.state().version(),
        }
    }
}

/// What the member shares with those who use it.
pub(super) struct Shared {
    pub(super) identity: MemberIdentity,
    pub(super) core: Sender<Event>,
    /// Events that the core has not yet taken.
    pub(super) queued: AtomicUsize,
    pub(super) applier: RwLock<Applier>,
    pub(super) applied: AtomicU64,
    /// For the core, which looks at it in every turn.
    reached: Mutex<Reached>,
    pub(super) waiters: Waiters,
    /// The revision of the state, told only while somebody waits for it.
    pub(super) revision: watch::Sender<Revision>,
    pub(super) freshness: Freshness,
    pub(super) leader: watch::Sender<LeaderView>,
    pub(super) status: Mutex<(Status, Arc<Configuration>)>,
    under_way: Mutex<UnderWay>,
    /// What members have said lately that they can follow, where this one leads.
    pub(super) versions: Mutex<Vec<(MemberId, u64)>>,
    pub(super) stopping: CancellationToken,
    pub(super) files: super::FilePaths,
    pub(super) metrics: Arc<Metrics>,
    /// Who makes its backups; nobody where it has no files.
    pub(super) backups: Option<Backups>,
    pub(super) traces: Traces,
    election_timeout: Duration,
    pending: Mutex<Pending>,
    next_token: AtomicU64,
}

#[derive(Default)]
struct Pending {
    writes: HashMap<u64, oneshot::Sender<Result<Settled, Unserved>>>,
    reads: HashMap<u64, oneshot::Sender<Result<Stamp, Unserved>>>,
    progress: HashMap<u64, oneshot::Sender<Result<ProgressReport, Unserved>>>,
    operations: HashMap<u64, oneshot::Sender<Operated>>,
}

/// What came of a write.
struct Settled {
    decided: Decided,
    /// When it was applied, from and to, where anything is traced.
    applied: Option<(Instant, Instant)>,
}

impl Shared {
    pub(super) fn new(
        identity: MemberIdentity,
        core: Sender<Event>,
        applier: Applier,
        status: (Status, Arc<Configuration>),
        files: super::FilePaths,
        election_timeout: Duration,
        first_token: u64,
    ) -> Shared {
        let applied = applier.applied().position.index.0;
        let revision = watch::Sender::new(applier.state().revision());
        let reached = Reached {
            index: LogIndex(applied),
            due: applier.due(),
            version: applier.state().version(),
            is_awaited: false,
        };
        Shared {
            identity,
            core,
            queued: AtomicUsize::new(0),
            applier: RwLock::new(applier),
            applied: AtomicU64::new(applied),
            reached: Mutex::new(reached),
            waiters: Waiters::default(),
            revision,
            freshness: Freshness::default(),
            leader: watch::Sender::new(LeaderView::default()),
            status: Mutex::new(status),
            under_way: Mutex::default(),
            versions: Mutex::default(),
            stopping: CancellationToken::new(),
            files,
            metrics: Arc::default(),
            backups: None,
            traces: Traces::default(),
            election_timeout,
            pending: Mutex::new(Pending::default()),
            next_token: AtomicU64::new(first_token),
        }
    }

    /// The core has taken so many requests out of its queue.
    pub(super) fn taken(&self, requests: usize) {
        let _ = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
                Some(queued.saturating_sub(requests))
            });
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another configuration is in force.
    pub(super) fn tell_members(&self, configuration: &Configuration) {
        self.lock_under_way().see(configuration, Instant::now());
    }

    fn lock_under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the core an event that must not be lost.
    pub(super) fn tell_core(&self, event: Event) {
        // The core is gone only when the member has failed or stopped; its owner says so.
        let _ = self.core.send(event);
    }

    /// Sends the core an event that may be refused when too much waits.
    pub(super) fn ask_core(&self, event: Event) -> Result<(), Unserved> {
        if self.queued.load(Ordering::Relaxed) >= CORE_QUEUE {
            return Err(Unserved::Overloaded);
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.core.send(event).map_err(|_| Unserved::ShuttingDown)
    }

    /// Tells everybody of entries that were applied: whoever is answered or woken finds the state that it is told of.
    pub(super) fn tell_applied(&self, applied: Applied) {
        let Applied {
            index,
            progress,
            revision,
            due,
            version,
            began,
        } = applied;
        self.applied.store(index.0, Ordering::Release);
        self.tell_revision(revision);
        self.decide(progress.decided, began);
        self.reach(index, due, version);
        self.wake_places(progress.before);
    }

    /// Wakes those whose places ended after a revision.
    fn wake_places(&self, before: Revision) {
        if self.waiters.await_no_place() {
            return;
        }
        let applier = self.applier.read().unwrap_or_else(PoisonError::into_inner);
        let state = applier.state();
        // An entry may compact what an earlier one of the same hold granted: then it is not known who was.
        if before < state.compact_revision() {
            return self.waiters.notify_all();
        }
        self.waiters.notify_places(state.events_after(before));
    }

    fn decide(&self, decided: Vec<(u64, Decided)>, began: Option<Instant>) {
        if decided.is_empty() {
            return;
        }
        let applied = began.map(|began| (began, Instant::now()));
        let mut pending = self.pending();
        for (token, decided) in decided {
            if let Some(waiting) = pending.writes.remove(&token) {
                let _ = waiting.send(Ok(Settled { decided, applied }));
            }
        }
    }

    pub(super) fn refuse(&self, refused: Vec<(u64, Refused)>) {
        if refused.is_empty() {
            return;
        }
        let mut pending = self.pending();
        for (token, reason) in refused {
            self.metrics.refused(as_counted(reason));
            if let Some(waiting) = pending.writes.remove(&token) {
                let _ = waiting.send(Err(reason.into()));
            }
        }
    }

    pub(super) fn answer_read(&self, token: u64, answer: Result<Stamp, Unserved>) {
        if let Some(waiting) = self.pending().reads.remove(&token) {
            let _ = waiting.send(answer);
        }
    }

    pub(super) fn answer_progress(&self, token: u64, answer: Result<ProgressReport, Refused>) {
        if let Some(waiting) = self.pending().progress.remove(&token) {
            let _ = waiting.send(answer.map_err(Unserved::from));
        }
    }

    pub(super) fn answer_operation(&self, token: u64, result: Operated) {
        if let Some(waiting) = self.pending().operations.remove(&token) {
            let _ = waiting.send(result);
        }
    }

    /// Tells those who wait for it which revision the state has come to. Whoever begins to wait and looks at the state
    /// then misses nothing: this is called after the state was changed, and the lock of the state orders the two.
    pub(super) fn tell_revision(&self, revision: Revision) {
        // One listens always, for the watchers.
        if self.revision.receiver_count() > 1 || !self.waiters.watch_nothing() {
            self.revision.send_replace(revision);
        }
    }

    /// Whether the state has reached the point of a read.
    pub(super) fn has_applied(&self, point: ReadPoint) -> bool {
        self.applied.load(Ordering::Acquire) >= point.index.0
    }

    /// The state has come to `index`, and `due` is its next deadline. The core is woken only where that deadline is
    /// earlier than the one it knows, or where it keeps entries back: else it has nothing to do about it, and a wake-up
    /// for every entry would cost as much as the entry.
    pub(super) fn reach(&self, index: LogIndex, due: Option<Stamp>, version: u64) {
        let mut reached = self.lock_reached();
        let sooner = match (reached.due, due) {
            (Some(known), Some(due)) => due < known,
            (None, due) => due.is_some(),
            (Some(_), None) => false,
        };
        let is_raised = reached.version != version;
        (reached.index, reached.due, reached.version) = (index, due, version);
        let is_awaited = std::mem::take(&mut reached.is_awaited);
        drop(reached);
        if sooner || is_awaited || is_raised {
            self.tell_core(Event::Applied);
        }
    }

    /// How far the state has come, and its next deadline.
    pub(super) fn reached(&self) -> Reached {
        *self.lock_reached()
    }

    /// The core keeps committed entries back until the state comes further than `known`: it is woken then, at once where
    /// that has happened meanwhile.
    pub(super) fn keep_back(&self, known: Reached) {
        let mut reached = self.lock_reached();
        reached.is_awaited = reached.index == known.index;
        if !reached.is_awaited {
            drop(reached);
            self.tell_core(Event::Applied);
        }
    }

    fn lock_reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed)
    }
}

fn as_counted(reason: Refused) -> telemetry::Refusal {
    match reason {
        Refused::NoLeader => telemetry::Refusal::NoLeader,
        Refused::Overloaded => telemetry::Refusal::Overloaded,
        Refused::Transferring => telemetry::Refusal::Transferring,
        Refused::ShuttingDown => telemetry::Refusal::ShuttingDown,
        Refused::RulesTooOld => telemetry::Refusal::RulesTooOld,
    }
}

/// How far the state has come.
#[derive(Clone, Copy)]
pub(super) struct Reached {
    /// The last index applied.
    index: LogIndex,
    /// The next deadline after it.
    due: Option<Stamp>,
    /// The version of the rules that it follows.
    version: u64,
    /// The core wants to hear when it comes further.
    is_awaited: bool,
}

impl From<Reached> for Input {
    fn from(reached: Reached) -> Input {
        Input::Applied {
            index: reached.index,
            due: reached.due,
            version: reached.version,
        }
    }
}

/// A running member, as seen by those who use it. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl Handle {
    /// Proposes a command for somebody, forwarding it to the leader where that is another member, and waits until this member has
    /// applied it. With `idempotency`, what apply decides is recorded for repeats; `within` is the span in which it is
    /// traced, if it is.
    ///
    /// Cancellation: the command may be applied all the same.
    ///
    /// # Errors
    ///
    /// Every error but [`Unserved::OutcomeUnknown`] means that it was not applied and never will be.
    pub async fn submit(
        &self,
        principal: Principal,
        command: Command,
        idempotency: Option<IdempotencyKey>,
        within: Option<&Span>,
    ) -> Result<Decided, Unserved> {
        let token = self.0.token();
        let origin = Origin {
            member: self.0.identity.id.0,
            token,
        };
        let request = Request {
            origin,
            principal,
            idempotency,
            command,
        };
        let input = Input::Propose(request);
        let mut decided = self.write(vec![token], input, within).await?;
        decided.pop().ok_or(Unserved::OutcomeUnknown)
    }

    /// Renews a lease. The renewal waits a hundredth of the TTL for company, 20 to 250 ms.
    ///
    /// Cancellation and errors as for [`Handle::submit`].
    ///
    /// # Errors
    ///
    /// As for [`Handle::submit`].
    pub async fn renew(
        &self,
        principal: Principal,
        lease: LeaseId,
        within: Option<&Span>,
    ) -> Result<Decided, Unserved> {
        let mut decided = self.renew_many(principal, &[lease], within).await?;
        decided.pop().ok_or(Unserved::OutcomeUnknown)
    }

    /// Renews leases together: they are in one entry, if this member leads or nothing is lost on their way to the one
    /// that does. Answers what came of each, in their order; one that is named twice is answered twice.
    ///
    /// Cancellation as for [`Handle::submit`].
    ///
    /// # Errors
    ///
    /// As for [`Handle::submit`]; where some were renewed and others refused it is [`Unserved::OutcomeUnknown`].
    pub async fn renew_many(
        &self,
        principal: Principal,
        leases: &[LeaseId],
        within: Option<&Span>,
    ) -> Result<Vec<Decided>, Unserved> {
        let company = self.company(leases);
        let renewals: Vec<(u64, LeaseId)> = leases
            .iter()
            .map(|lease| (self.0.token(), *lease))
            .collect();
        let tokens = renewals.iter().map(|(token, _)| *token).collect();
        let input = Input::Renew {
            principal,
            renewals,
            company,
        };
        self.write(tokens, input, within).await
    }

    /// How long renewals of these leases wait for company: shorter where one is about to end, so that it does not end
    /// on its way.
    fn company(&self, leases: &[LeaseId]) -> Duration {
        let remaining = self.read(|state| {
            let clock = state.clock();
            let views = leases
                .iter()
                .filter_map(|lease| state.lease(*lease, clock).ok());
            let company = views.map(|view| {
                let remaining_ms = view.deadline.0.saturating_sub(clock.0);
                let of_ttl = view.ttl_ms / COMPANY_OF_TTL;
                (
                    of_ttl.min(remaining_ms / COMPANY_OF_REMAINING),
                    remaining_ms,
                )
            });
            company.reduce(|one, other| (one.0.min(other.0), one.1.min(other.1)))
        });
        match remaining {
            Some((_, remaining_ms)) if remaining_ms < HURRY_MS => Duration::ZERO,
            Some((company_ms, _)) => {
                Duration::from_millis(company_ms).clamp(LEAST_COMPANY, MOST_COMPANY)
            }
            None => LEAST_COMPANY,
        }
    }

    /// Sends the core an input and waits for what comes of each of its tokens.
    async fn write(
        &self,
        tokens: Vec<u64>,
        input: Input,
        within: Option<&Span>,
    ) -> Result<Vec<Decided>, Unserved> {
        let Some(within) = within else {
            return self.settle(tokens, input, None).await;
        };
        let mut span = self.asking(within);
        let input = Input::Traced {
            context: span.ids().into(),
            input: Box::new(input),
        };
        let decided = self.settle(tokens, input, Some(&span)).await;
        if let Err(unserved) = &decided {
            span.fail(unserved.to_string());
        }
        decided
    }

    /// The span of what this member asks of the cluster: by itself, or by its leader.
    fn asking(&self, within: &Span) -> Span {
        let leader = self.0.leader.borrow().leader;
        if leader == Some(self.0.identity.id) {
            return within.child(Kind::Internal, "propose");
        }
        let mut span = within.child(Kind::Client, "forward");
        if let Some(leader) = leader {
            span.set("tenure.leader", leader.to_string());
        }
        span
    }

    async fn settle(
        &self,
        tokens: Vec<u64>,
        input: Input,
        span: Option<&Span>,
    ) -> Result<Vec<Decided>, Unserved> {
        let deadline = tokio::time::Instant::now() + WRITE_PATIENCE;
        let receivers: Vec<_> = {
            let mut pending = self.0.pending();
            let waits = tokens.iter().map(|token| {
                let (sender, receiver) = oneshot::channel();
                pending.writes.insert(*token, sender);
                receiver
            });
            waits.collect()
        };
        let _forget = Forget {
            shared: &self.0,
            tokens,
        };
        self.0.ask_core(Event::Input(input))?;
        let mut decided = Vec::with_capacity(receivers.len());
        let mut refused = None;
        for receiver in receivers {
            match tokio::time::timeout_at(deadline, receiver).await {
                Ok(Ok(Ok(settled))) => {
                    if let (Some(span), Some((began, ended)), true) =
                        (span, settled.applied, decided.is_empty())
                    {
                        drop(span.record("apply", began, ended));
                    }
                    decided.push(settled.decided);
                }
                Ok(Ok(Err(reason))) => refused = Some(reason),
                Ok(Err(_)) | Err(_) => return Err(Unserved::OutcomeUnknown),
            }
        }
        match refused {
            None => Ok(decided),
            Some(reason) if decided.is_empty() => Err(reason),
            Some(_) => Err(Unserved::OutcomeUnknown),
        }
    }

    /// Waits until this member's state has reached a point at which reads are linearizable, and tells the leader's
    /// clock, read after this call.
    ///
    /// # Errors
    ///
    /// [`Unserved::NoLeader`] within a second where no leader confirms one.
    pub async fn barrier(&self) -> Result<Clock, Unserved> {
        let deadline = tokio::time::Instant::now() + READ_PATIENCE;
        loop {
            let began = FreshAt::now();
            match tokio::time::timeout_at(deadline, self.try_barrier()).await {
                Ok(Ok(clock)) => {
                    self.0.freshness.note(began);
                    return Ok(clock);
                }
                Ok(Err(Unserved::NoLeader)) if self.0.leader.borrow().leader.is_some() => {
                    if tokio::time::Instant::now() + READ_RETRY >= deadline {
                        return Err(Unserved::NoLeader);
                    }
                    tokio::time::sleep(READ_RETRY).await;
                }
                Ok(answer) => return answer,
                Err(_) => return Err(Unserved::NoLeader),
            }
        }
    }

    async fn try_barrier(&self) -> Result<Clock, Unserved> {
        let token = self.0.token();
        let (sender, receiver) = oneshot::channel();
        self.0.pending().reads.insert(token, sender);
        let _forget = Forget {
            shared: &self.0,
            tokens: vec![token],
        };
        self.0.ask_core(Event::Input(Input::Read { token }))?;
        let stamp = receiver.await.map_err(|_| Unserved::ShuttingDown)??;
        Ok(Clock(stamp.0))
    }

    /// The newest moment at which this member had applied everything then committed, as far as it is known: `None`
    /// until the first barrier since the start has succeeded. Ask before reading the state, which is then no older.
    /// Where what is known is old, a newer moment is asked for meanwhile; nobody waits for that, it ends within the
    /// patience of a barrier, and there is one at a time.
    pub fn fresh_at(&self) -> Option<FreshAt> {
        if self.0.freshness.begin_refresh() {
            let handle = self.clone();
            tokio::spawn(async move {
                let _asking = Refreshing(&handle.0.freshness);
                // Without a leader there is no newer moment; whoever reads next asks again.
                let _ = handle.barrier().await;
            });
        }
        self.0.freshness.newest()
    }

    /// The revision of this member's state, and every change of it. Subscribe first, then read the state, then wait:
    /// what is seen at first may be old.
    pub fn revision_watch(&self) -> watch::Receiver<Revision> {
        self.0.revision.subscribe()
    }

    /// Reads the state as this member has it. Keep it short: nothing is applied meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let applier = self
            .0
            .applier
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        read(applier.state())
    }

    /// Registers an interest. Register first, then read, then wait: no wake is lost. Dropping it unregisters.
    pub fn register(&self, interest: Interest) -> Waiter {
        Waiter::register(self, interest)
    }

    /// How many waiters there are.
    pub fn waiting(&self) -> usize {
        self.0.waiters.len()
    }

    /// The leader as this member knows it, and every change of that.
    pub fn leader_watch(&self) -> watch::Receiver<LeaderView> {
        self.0.leader.subscribe()
    }

    /// Where spans of requests begin.
    pub fn traces(&self) -> &Traces {
        &self.0.traces
    }

    /// What this member counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// How this member replicates, as its core sees it.
    pub fn consensus(&self) -> (Status, Arc<Configuration>) {
        let status = self.0.status.lock();
        status.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who belonged to the cluster at the last entry that this member has applied: after a barrier, no less than what
    /// was committed before it. What is in force, committed or not, is in the status.
    pub fn members(&self) -> Arc<Configuration> {
        let applier = self.0.applier.read();
        let applier = applier.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&applier.applied().configuration)
    }

    /// The version of the rules that the state here follows, and the newest one that this member can.
    pub fn state_version(&self) -> (u64, u64) {
        let applier = self.0.applier.read();
        let applier = applier.unwrap_or_else(PoisonError::into_inner);
        (applier.state().version(), applier.most())
    }

    /// The newest rules that each member has said lately that it can follow, where this one leads a cluster that does not follow
    /// the newest that it knows; else nothing.
    pub fn versions(&self) -> Vec<(MemberId, u64)> {
        let versions = self.0.versions.lock();
        versions.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Since when members are on their way in or out.
    pub fn under_way(&self) -> UnderWay {
        self.0.lock_under_way().clone()
    }

    /// Where its files are.
    pub fn files(&self) -> &super::FilePaths {
        &self.0.files
    }

    /// How long this member waits for a silent leader at least; at most twice as long.
    pub fn election_timeout(&self) -> Duration {
        self.0.election_timeout
    }

    /// How the members are doing, as the leader sees it.
    ///
    /// # Errors
    ///
    /// [`Unserved::NoLeader`] within a second where no leader answers.
    pub async fn progress(&self) -> Result<ProgressReport, Unserved> {
        let token = self.0.token();
        let (sender, receiver) = oneshot::channel();
        self.0.pending().progress.insert(token, sender);
        let _forget = Forget {
            shared: &self.0,
            tokens: vec![token],
        };
        self.0
            .ask_core(Event::Input(Input::AskProgress { token }))?;
        match tokio::time::timeout(READ_PATIENCE, receiver).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) | Err(_) => Err(Unserved::NoLeader),
        }
    }

    /// Has the leader do something, whichever member that is, and says what came of it. It goes on where this call is
    /// dropped.
    ///
    /// Answers within some seconds.
    pub async fn operate(&self, operation: AdminRequest) -> Operated {
        let token = self.0.token();
        let (sender, receiver) = oneshot::channel();
        self.0.pending().operations.insert(token, sender);
        let _forget = Forget {
            shared: &self.0,
            tokens: vec![token],
        };
        let asking = Event::Input(Input::Operate { token, operation });
        if self.0.ask_core(asking).is_err() {
            return Operated::NoLeader;
        }
        match tokio::time::timeout(OPERATION_PATIENCE, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Operated::Unknown,
        }
    }

    /// Hands leadership to the named member, or to the one that is furthest ahead. Answers as soon as the hand-over
    /// has begun.
    ///
    /// # Errors
    ///
    /// Where this member does not lead, or the other cannot take over.
    pub async fn transfer_leadership(
        &self,
        to: Option<MemberId>,
    ) -> Result<MemberId, TransferError> {
        let (reply, receiver) = oneshot::channel();
        self.0.tell_core(Event::Transfer { to, reply });
        receiver.await.unwrap_or(Err(TransferError::NotLeader))
    }

    /// Makes a backup of this member's state as it is now, or a moment later. After a barrier it has everything that was
    /// acknowledged before that.
    ///
    /// # Errors
    ///
    /// Where others are made already, or it cannot be made.
    ///
    /// Cancelling it ends the making and leaves nothing.
    pub async fn backup(&self) -> Result<MadeBackup, BackupError> {
        let backups = self.0.backups.as_ref().ok_or(BackupError::Busy)?;
        let applied = LogIndex(self.0.applied.load(Ordering::Acquire));
        let stopping = self.stopping();
        backups.make(applied, move || stopping.is_cancelled()).await
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.0.leader.borrow().leader == Some(self.0.identity.id)
    }

    /// Begins to stop: takes no new requests, hands leadership over where asked to, tells the long-polls to end.
    pub async fn begin_stop(&self, hand_over: bool) {
        self.0.tell_core(Event::StopAccepting);
        if hand_over && self.is_leader() {
            match self.transfer_leadership(None).await {
                Ok(to) => self.wait_for_successor(to).await,
                Err(error) => info!(%error, "leadership is not handed over"),
            }
        }
        self.0.stopping.cancel();
    }

    async fn wait_for_successor(&self, to: MemberId) {
        let mut leader = self.leader_watch();
        let me = self.member().id;
        let gone = leader.wait_for(|view| view.leader.is_some_and(|leader| leader != me));
        match tokio::time::timeout(HANDOVER_PATIENCE, gone).await {
            Ok(_) => info!(to = %to, "leadership handed over"),
            Err(_) => warn!(to = %to, "leadership was not taken over in time"),
        }
    }

    /// Who this member is.
    pub fn member(&self) -> &MemberIdentity {
        &self.0.identity
    }

    /// How this member is.
    pub fn status(&self) -> NodeStatus {
        let (status, configuration) = self.consensus();
        let leader = self.0.leader.borrow().clone();
        let bytes =
            |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        NodeStatus {
            role: status.role,
            term: status.term,
            leader: leader.leader,
            commit: status.commit,
            applied: LogIndex(self.0.applied.load(Ordering::Acquire)),
            last: status.last.index,
            log_bytes: bytes(&self.0.files.log),
            state_bytes: bytes(&self.0.files.state),
            configuration,
        }
    }

    /// Ends when the member begins to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }
}

/// One asks for a newer moment; whatever ends that, another may ask.
struct Refreshing<'a>(&'a Freshness);

impl Drop for Refreshing<'_> {
    fn drop(&mut self) {
        self.0.end_refresh();
    }
}

/// Forgets requests when their caller is gone.
struct Forget<'a> {
    shared: &'a Shared,
    tokens: Vec<u64>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut pending = self.shared.pending();
        for token in &self.tokens {
            pending.writes.remove(token);
            pending.reads.remove(token);
            pending.progress.remove(token);
            pending.operations.remove(token);
        }
    }
}
