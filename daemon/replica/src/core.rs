//! The core of a member: Raft, and what turns clients' requests into entries.
//!
//! Owns the requests that are not yet in the log, the messages that wait for a write, and the reads under way. Never
//! touches a disk, a socket, a clock or the state: it hears of the state's next deadline from the applier, and
//! everything it wants done leaves it as one [`Output`]. A request is proposed at most once, by whichever member
//! leads; one that was not proposed is refused in words, one that was is answered by the applier of the member that
//! was asked, or by nobody.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tenure_mutants::{Mutant, mutated};
use tenure_raft::{
    Configuration, LogIndex, LogPosition, MemberId, Message, Raft, ReadPoint, ReadToken,
    RestoreError, Restored, Settings, SnapshotFile, SnapshotMeta, Stamp, Status, StepDown, Term,
    TransferError, WriteId,
};
use tenure_state::{LeaseId, Origin, Principal, Renewal, Request, decode_request, encode_request};

use crate::digests::Digests;
use crate::leading::{Formed, Leading};
use crate::operating::{AdminRequest, Operated, Operating};
use crate::output::{Output, TracedEntry, TracedRequest};
use crate::peer::{
    ForwardKind, ForwardedRequest, PeerMessage, ProgressReport, Refused, TraceContext,
};
use crate::raising::Raising;
use crate::renewal::{decode_renewal, encode_renewal};
use crate::sizes::Sizes;

/// Settings of the core.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// Raft's.
    pub raft: Settings,
    /// The most bytes of requests that go into one entry.
    pub batch_bytes: usize,
    /// How many requests may wait for an entry; more are refused as overloaded.
    pub waiting_requests: usize,
    /// The bytes of requests that may wait for an entry.
    pub waiting_bytes: usize,
    /// How many renewals may wait. All of them go into one entry, so that none can end a lease whose renewal waits
    /// behind it.
    pub waiting_renewals: usize,
    /// How many committed entries the applier may be given and not have applied; later ones stay in the log until it
    /// comes forward. While more than these wait, commands are refused as overloaded; renewals go on.
    pub unapplied_entries: u64,
    /// How long requests wait at most for this member's own disk to finish a write, before they are sent to the
    /// others all the same.
    pub hold: Duration,
}

impl Default for CoreSettings {
    fn default() -> CoreSettings {
        CoreSettings {
            raft: Settings::default(),
            batch_bytes: 1 << 20,
            waiting_requests: 20_000,
            waiting_bytes: 64 << 20,
            waiting_renewals: 100_000,
            unapplied_entries: 4096,
            hold: Duration::from_millis(5),
        }
    }
}

/// What the core is told. Time comes by [`Core::tick`].
#[derive(Debug)]
pub enum Input {
    /// A message of another member, whose identity the transport has checked.
    Peer {
        /// Who sent it.
        from: MemberId,
        /// What it says.
        message: PeerMessage,
    },
    /// A client's request; its origin is this member.
    Propose(Request),
    /// Renewals that a client asked for together: one entry takes them all, or none of them is taken.
    Renew {
        /// Who asked.
        principal: Principal,
        /// This member's number for each, and which lease.
        renewals: Vec<(u64, LeaseId)>,
        /// How long they may wait for company.
        company: Duration,
    },
    /// A request or renewals that are traced; of renewals that were asked for together the first one is.
    Traced {
        /// Where in a trace they belong.
        context: TraceContext,
        /// `Propose` or `Renew`.
        input: Box<Input>,
    },
    /// A linearizable read.
    Read {
        /// This member's number for it.
        token: u64,
    },
    /// Somebody wants to know how the members are doing.
    AskProgress {
        /// This member's number for the question.
        token: u64,
    },
    /// An operator wants something done by the leader.
    Operate {
        /// This member's number for it.
        token: u64,
        /// What.
        operation: AdminRequest,
    },
    /// A write is durable, and all before it.
    Persisted(WriteId),
    /// The applier has applied everything up to here.
    Applied {
        /// The last index applied.
        index: LogIndex,
        /// The next deadline of the state after it.
        due: Option<Stamp>,
        /// The version of the rules that the state follows.
        version: u64,
    },
    /// The state at an entry at which states are compared.
    Digest {
        /// Which entry.
        index: LogIndex,
        /// The digest of the whole state behind it.
        digest: u128,
    },
    /// A checkpoint of the state is durable.
    Checkpointed(SnapshotMeta),
    /// A snapshot file can be sent.
    SnapshotAvailable {
        /// To whom.
        to: MemberId,
        /// Which.
        file: SnapshotFile,
    },
    /// No snapshot can be made just now.
    SnapshotFailed {
        /// Who needed it.
        to: MemberId,
    },
    /// A piece of a snapshot was read.
    PieceRead {
        /// For whom.
        to: MemberId,
        /// Of which file.
        file: SnapshotFile,
        /// From where.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// A piece was stored, or did not fit.
    PieceStored {
        /// The leader that sent it.
        from: MemberId,
        /// Of which file.
        file: SnapshotFile,
        /// How much of the file is stored from its beginning.
        stored: u64,
        /// As it came.
        round: u64,
    },
    /// The state is now that of a snapshot.
    SnapshotInstalled {
        /// Of which.
        meta: SnapshotMeta,
        /// The next deadline in it.
        due: Option<Stamp>,
        /// The version of the rules that it follows.
        version: u64,
    },
    /// A snapshot was damaged.
    SnapshotRejected(SnapshotFile),
    /// Messages to a member were lost.
    Unreachable(MemberId),
    /// Step down, for a reason that only the caller can see.
    StepDown(StepDown),
}

/// The core of a member.
///
/// Invariants: `leading` is there exactly while Raft leads; `held` is ordered by write.
pub struct Core {
    pub(crate) id: MemberId,
    settings: CoreSettings,
    pub(crate) raft: Raft,
    leading: Option<Leading>,
    /// The time since this core began, as counted by ticks.
    pub(crate) now: Duration,
    /// The next deadline of the state as last heard from the applier.
    due: Option<Stamp>,
    /// The last entry that the applier has applied.
    applied: LogIndex,
    /// Messages that wait for a write, oldest first.
    held: VecDeque<(WriteId, Vec<Message>)>,
    last_write: WriteId,
    persisted: WriteId,
    /// Requests for the leader, and when they are sent: commands in the turn in which they came, renewals after half
    /// of the time that they may wait for company.
    forwards: Vec<ForwardedRequest>,
    forward_at: Duration,
    /// Questions for progress that the leader has been asked, with the leader and the time.
    asked: BTreeMap<u64, (MemberId, Duration)>,
    /// Where the origins' requests stand in the log while they are not committed.
    appended: BTreeMap<LogIndex, (Term, Vec<Origin>)>,
    pub(crate) operating: Operating,
    pub(crate) digests: Digests,
    pub(crate) raising: Raising,
    /// The trace of the input that is being taken.
    tracing: Option<TraceContext>,
    /// Of the requests that wait here for an entry those that are traced, and since when. Empty while nobody traces.
    traced: BTreeMap<Origin, (TraceContext, Duration)>,
    pub(crate) out: Output,
    pub(crate) stopping: bool,
}

impl Core {
    /// A core over what the disk holds. `seed` decides its election timeouts and nothing else.
    ///
    /// # Errors
    ///
    /// Where what the disk holds cannot be the remains of a member.
    pub fn new(
        id: MemberId,
        settings: CoreSettings,
        seed: u64,
        restored: Restored,
    ) -> Result<Core, RestoreError> {
        let applied = restored.applied.position.index;
        let raft = Raft::new(id, settings.raft.clone(), seed, restored)?;
        let mut core = Core {
            id,
            settings,
            raft,
            leading: None,
            now: Duration::ZERO,
            due: None,
            applied,
            held: VecDeque::new(),
            last_write: WriteId::default(),
            persisted: WriteId::default(),
            forwards: Vec::new(),
            forward_at: Duration::ZERO,
            asked: BTreeMap::new(),
            appended: BTreeMap::new(),
            operating: Operating::default(),
            digests: Digests::default(),
            raising: Raising::default(),
            tracing: None,
            traced: BTreeMap::new(),
            out: Output::default(),
            stopping: false,
        };
        core.has_applied(applied);
        Ok(core)
    }

    /// Real time has passed since the last tick. Called first in every turn, after the inputs of the turn have
    /// arrived, so that a clock read in this turn was read after each of them.
    pub fn tick(&mut self, elapsed: Duration) {
        self.now += elapsed;
        self.raft.tick(elapsed);
        self.collect();
        self.give_up_questions();
    }

    /// Takes one input. What comes of it is in the next [`Core::output`].
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Peer { from, message } => self.hear(from, message),
            Input::Propose(request) => self.accept(request),
            Input::Renew {
                principal,
                renewals,
                company,
            } => self.renew(&principal, &renewals, company),
            Input::Traced { context, input } => {
                self.tracing = Some(context);
                self.handle(*input);
                self.tracing = None;
            }
            Input::Read { token } if mutated(Mutant::ReadServedLocally) => {
                let (index, stamp) = (self.applied, Stamp::default());
                self.out.reads.push((token, Ok(ReadPoint { index, stamp })));
            }
            Input::Read { token } => self.raft.read(ReadToken(token)),
            Input::AskProgress { token } => self.ask_progress(token),
            Input::Operate { token, operation } => self.operate(token, operation),
            Input::Persisted(write) => self.release(write),
            Input::Applied {
                index,
                due,
                version,
            } => {
                self.has_applied(self.applied.max(index));
                self.due = due;
                self.rules_in_force(version);
            }
            Input::Digest { index, digest } => self.state_digest(index, digest),
            Input::Checkpointed(meta) => self.raft.checkpointed(meta),
            Input::SnapshotAvailable { to, file } => self.raft.snapshot_available(to, file),
            Input::SnapshotFailed { to } => self.raft.snapshot_failed(to),
            Input::PieceRead {
                to,
                file,
                offset,
                data,
            } => self.raft.send_piece(to, &file, offset, data),
            Input::PieceStored {
                from,
                file,
                stored,
                round,
            } => self.raft.piece_stored(from, file, stored, round),
            Input::SnapshotInstalled { meta, due, version } => {
                self.has_applied(meta.position.index);
                self.due = due;
                self.rules_in_force(version);
                self.appended = self.appended.split_off(&meta.position.index.next());
                self.raft.snapshot_installed(meta);
            }
            Input::SnapshotRejected(file) => self.raft.snapshot_rejected(file),
            Input::Unreachable(peer) => self.raft.unreachable(peer),
            Input::StepDown(reason) => self.raft.step_down(reason),
        }
        self.collect();
    }

    /// Everything that this turn wants done.
    pub fn output(&mut self) -> Output {
        self.form_entries();
        self.send_forwards();
        self.carry_operations_on();
        self.carry_version_on();
        self.collect();
        let mut out = std::mem::take(&mut self.out);
        if let Some(write) = &mut out.write {
            let then = std::mem::take(&mut write.then);
            self.last_write = write.id;
            if !then.is_empty() {
                self.held.push_back((write.id, then));
            }
        }
        out
    }

    /// How long until the core has something to do without being told anything.
    pub fn next_turn(&self) -> Duration {
        let mut raft = self.raft.next_tick();
        if !self.forwards.is_empty() {
            raft = raft.min(self.forward_at.saturating_sub(self.now));
        }
        match (&self.leading, self.raft.clock()) {
            (Some(leading), Some(clock)) => {
                raft.min(leading.next_turn(self.now, clock, self.due, self.disk_busy()))
            }
            _ => raft,
        }
    }

    /// Hands leadership to the member that is furthest ahead, or to the one named.
    ///
    /// # Errors
    ///
    /// Where this member does not lead, or nobody can take over.
    pub fn transfer_leadership(&mut self, to: Option<MemberId>) -> Result<MemberId, TransferError> {
        let to = to
            .or_else(|| self.best_successor())
            .ok_or(TransferError::NoCandidate)?;
        self.raft.transfer_leadership(to)?;
        self.collect();
        Ok(to)
    }

    /// Takes no more requests of clients: the member is stopping. Consensus goes on.
    pub fn stop_accepting(&mut self) {
        self.stopping = true;
        self.forward_at = self.now;
    }

    /// A summary of Raft.
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// Raft itself, for assertions.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// How much waits here, for assertions.
    pub fn sizes(&self) -> Sizes {
        let (window_messages, window_bytes) = self.raft.fullest_window();
        let (requests, request_bytes, renewals) =
            self.leading.as_ref().map_or((0, 0, 0), Leading::sizes);
        Sizes {
            requests,
            request_bytes,
            renewals,
            forwards: self.forwards.len(),
            window_messages,
            window_bytes,
        }
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Arc<Configuration> {
        self.raft.configuration()
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    fn best_successor(&self) -> Option<MemberId> {
        let configuration = self.raft.configuration();
        let status = self.raft.status();
        let voters = status
            .progress
            .iter()
            .filter(|peer| configuration.voters.contains(&peer.id));
        // Who was heard of long ago may be ahead of nobody by now, and be gone: of those who are equal it is the last.
        let heard = voters.filter_map(|peer| Some((peer, peer.silent_for?)));
        let is_silent = |silent: Duration| self.settings.raft.election_timeout <= silent;
        heard
            .max_by_key(|(peer, silent)| (!is_silent(*silent), peer.matched, Reverse(*silent)))
            .map(|(peer, _)| peer.id)
    }

    fn hear(&mut self, from: MemberId, message: PeerMessage) {
        if !self.may_ask(from) {
            // A leader's configuration has every member. Whoever is not in it may send what Raft judges by terms, since it
            // may be this member that was away; but it has no clients to speak for.
            match message {
                PeerMessage::Forward(requests) => {
                    let origin = |request: ForwardedRequest| Origin {
                        member: from.0,
                        token: request.token,
                    };
                    let origins = requests.into_iter().map(origin);
                    return self.refuse(origins.map(|origin| (origin, Refused::NoLeader)));
                }
                PeerMessage::Operate { token, .. } => {
                    return self.answer_operation(from, token, Operated::NoLeader);
                }
                PeerMessage::AskProgress { .. } => return,
                _ => {}
            }
        }
        match message {
            PeerMessage::Raft(message) if message.from == from => self.raft.receive(message),
            // Somebody speaks in another's name: never.
            PeerMessage::Raft(_) => {}
            PeerMessage::Forward(requests) => self.accept_forwarded(from, requests),
            PeerMessage::Refused { tokens, reason } => {
                self.out
                    .refused
                    .extend(tokens.into_iter().map(|token| (token, reason)));
            }
            PeerMessage::Operate { token, operation } => {
                self.want_operation(from, token, operation)
            }
            PeerMessage::Operated { token, result } => self.hear_operated(from, token, result),
            PeerMessage::Digest { index, digest } => self.hear_digest(from, index, digest),
            PeerMessage::Agreed { index, digest } => self.hear_agreed(from, index, digest),
            PeerMessage::Introduce(introduction) => self.hear_introduction(from, introduction),
            PeerMessage::WentBack { logged } => self.hear_went_back(from, logged),
            PeerMessage::AskVersion { round } => self.answer_version(from, round),
            PeerMessage::CanFollow(said) => self.hear_version(from, said),
            PeerMessage::AskProgress { token } => {
                if let Some(report) = self.progress_report() {
                    self.out
                        .send
                        .push((from, PeerMessage::Progress { token, report }));
                }
            }
            PeerMessage::Progress { token, report } => {
                if self
                    .asked
                    .get(&token)
                    .is_some_and(|(leader, _)| *leader == from)
                {
                    self.asked.remove(&token);
                    self.out.progress.push((token, Ok(report)));
                }
            }
        }
    }

    /// Whether somebody's requests may be done here: a member's.
    fn may_ask(&self, from: MemberId) -> bool {
        self.raft.configuration().info.contains_key(&from)
    }

    fn accept(&mut self, request: Request) {
        let token = request.origin.token;
        if self.stopping {
            return self.out.refused.push((token, Refused::ShuttingDown));
        }
        if self.applier_is_behind() {
            return self.out.refused.push((token, Refused::Overloaded));
        }
        if let Err(reason) = self.check_is_known(&request.command) {
            return self.out.refused.push((token, reason));
        }
        match &self.leading {
            Some(_) => {
                let origin = request.origin;
                match self.wait_for_entry(request) {
                    Ok(()) => {
                        let context = self.tracing.take();
                        self.trace(origin, context);
                    }
                    Err(reason) => self.out.refused.push((token, reason)),
                }
            }
            None => self.forward(token, ForwardKind::Command, Duration::ZERO, || {
                encode_request(&request)
            }),
        }
    }

    /// A request of this member's own, or one that it was asked, waits for an entry here.
    pub(crate) fn wait_for_entry(&mut self, request: Request) -> Result<(), Refused> {
        let leading = self.leading.as_mut().ok_or(Refused::NoLeader)?;
        leading.wait_for_entry(request, self.now, &self.settings)
    }

    fn renew(&mut self, principal: &Principal, renewals: &[(u64, LeaseId)], company: Duration) {
        let refused = if self.stopping {
            Some(Refused::ShuttingDown)
        } else if let Some(leading) = &mut self.leading {
            let member = self.id.0;
            let renewals = renewals.iter().map(|(token, lease)| Renewal {
                origin: Origin {
                    member,
                    token: *token,
                },
                principal: principal.clone(),
                lease: *lease,
            });
            let first = renewals.clone().next().map(|renewal| renewal.origin);
            let until = self.now + company;
            let waits = leading.wait_for_company(renewals, until, &self.settings);
            if let (Ok(()), Some(origin)) = (waits, first) {
                let context = self.tracing.take();
                self.trace(origin, context);
            }
            waits.err()
        } else {
            // The leader needs the other half, for the renewals of other members to come.
            let hold = company / 2;
            for (token, lease) in renewals {
                self.forward(*token, ForwardKind::Renewal, hold, || {
                    encode_renewal(*lease, company - hold, principal)
                });
            }
            None
        };
        if let Some(reason) = refused {
            let tokens = renewals.iter().map(|(token, _)| (*token, reason));
            self.out.refused.extend(tokens);
        }
    }

    /// Has a request sent to the leader, `hold` from now at the latest.
    fn forward(
        &mut self,
        token: u64,
        kind: ForwardKind,
        hold: Duration,
        request: impl FnOnce() -> Bytes,
    ) {
        if self.raft.leader().is_none() {
            return self.out.refused.push((token, Refused::NoLeader));
        }
        let send_at = self.now + hold;
        self.forward_at = if self.forwards.is_empty() {
            send_at
        } else {
            self.forward_at.min(send_at)
        };
        self.forwards.push(ForwardedRequest {
            token,
            kind,
            request: request(),
            trace: self.tracing.take(),
        });
    }

    /// A request waits for an entry from now on; remembers its trace, if it has one.
    fn trace(&mut self, origin: Origin, context: Option<TraceContext>) {
        if let Some(context) = context {
            self.traced.insert(origin, (context, self.now));
        }
    }

    /// What of a new entry is traced.
    fn traced_in(&mut self, position: LogPosition, origins: &[Origin]) {
        if self.traced.is_empty() {
            return;
        }
        let (now, requests) = (self.now, origins.len());
        let of_entry = origins.iter().filter_map(|origin| {
            let (context, since) = self.traced.remove(origin)?;
            Some(TracedRequest {
                origin: *origin,
                context,
                waited: now - since,
            })
        });
        let traced: Vec<_> = of_entry.collect();
        if !traced.is_empty() {
            self.out.traced.push(TracedEntry {
                position,
                requests,
                traced,
            });
        }
    }

    /// Sends what is to be forwarded, when it is time. The leader may have changed since the requests came: those of a
    /// member that has become the leader itself are its own, and without a leader none of them waits for one.
    fn send_forwards(&mut self) {
        let leader = self.raft.leader();
        let waits = leader.is_some_and(|leader| leader != self.id)
            && self.now < self.forward_at
            && self.forwards.len() < self.settings.waiting_renewals;
        if self.forwards.is_empty() || waits {
            return;
        }
        let forwards = std::mem::take(&mut self.forwards);
        if self.leading.is_some() {
            return self.accept_forwarded(self.id, forwards);
        }
        let Some(leader) = leader else {
            self.out
                .refused
                .extend(forwards.into_iter().map(|f| (f.token, Refused::NoLeader)));
            return;
        };
        for batch in in_pieces(forwards, self.settings.batch_bytes) {
            if mutated(Mutant::ForwardedTwice) {
                self.out
                    .send
                    .push((leader, PeerMessage::Forward(batch.clone())));
            }
            self.out.send.push((leader, PeerMessage::Forward(batch)));
        }
    }

    /// Requests of another member's clients. What cannot be decoded is dropped: no member of ours sends it, and in
    /// the log it would stop everybody.
    fn accept_forwarded(&mut self, from: MemberId, requests: Vec<ForwardedRequest>) {
        let mut refused = Vec::new();
        for forwarded in requests {
            let origin = Origin {
                member: from.0,
                token: forwarded.token,
            };
            if let Err(reason) = self.accept_one(from, forwarded) {
                refused.push((origin, reason));
            }
        }
        self.refuse(refused);
    }

    /// The applier has come so far, and may be given as much again as it may have before it.
    fn has_applied(&mut self, index: LogIndex) {
        self.applied = index;
        if !mutated(Mutant::AppliesUnbounded) {
            let through = index.0.saturating_add(self.settings.unapplied_entries);
            self.raft.want_committed(LogIndex(through));
        }
    }

    /// Whether the state here is older than this entry.
    pub(crate) fn has_not_applied(&self, index: LogIndex) -> bool {
        self.applied < index
    }

    /// Whether more waits to be applied here than the applier is given, so that more would only wait longer.
    pub fn applier_is_behind(&self) -> bool {
        let waits = self.raft.applicable().0.saturating_sub(self.applied.0);
        self.settings.unapplied_entries < waits
    }

    fn accept_one(&mut self, from: MemberId, forwarded: ForwardedRequest) -> Result<(), Refused> {
        if self.stopping {
            // This member stops, the one that was asked does not.
            return Err(Refused::Transferring);
        }
        if self.applier_is_behind() && forwarded.kind == ForwardKind::Command {
            return Err(Refused::Overloaded);
        }
        let now = self.now;
        let leading = self.leading.as_mut().ok_or(Refused::NoLeader)?;
        let origin = Origin {
            member: from.0,
            token: forwarded.token,
        };
        match forwarded.kind {
            ForwardKind::Command => match decode_request(&forwarded.request) {
                Ok(request) if request.origin == origin => {
                    self.check_is_known(&request.command)?;
                    self.wait_for_entry(request)?;
                }
                Ok(_) | Err(_) => return Ok(()),
            },
            ForwardKind::Renewal => match decode_renewal(&forwarded.request) {
                Some((lease, company, principal)) => leading.wait_for_company(
                    std::iter::once(Renewal {
                        origin,
                        principal,
                        lease,
                    }),
                    now + company,
                    &self.settings,
                )?,
                None => return Ok(()),
            },
        }
        self.trace(origin, forwarded.trace);
        Ok(())
    }

    fn ask_progress(&mut self, token: u64) {
        if let Some(report) = self.progress_report() {
            return self.out.progress.push((token, Ok(report)));
        }
        match self.raft.leader() {
            Some(leader) => {
                self.asked.insert(token, (leader, self.now));
                self.out
                    .send
                    .push((leader, PeerMessage::AskProgress { token }));
            }
            None => self.out.progress.push((token, Err(Refused::NoLeader))),
        }
    }

    fn progress_report(&self) -> Option<ProgressReport> {
        if !self.raft.is_leader() {
            return None;
        }
        let status = self.raft.status();
        Some(ProgressReport {
            leader: self.id,
            term: status.term,
            commit: status.commit,
            last: status.last.index,
            peers: status.progress,
            versions: self.versions_said(),
        })
    }

    /// A question that the leader has not answered for two election timeouts is answered with what we know: nothing.
    fn give_up_questions(&mut self) {
        let patience = self.settings.raft.election_timeout * 2;
        let late: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, (_, at))| self.now - *at > patience)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.asked.remove(&token);
            self.out.progress.push((token, Err(Refused::NoLeader)));
        }
    }

    fn disk_busy(&self) -> bool {
        self.persisted < self.last_write
    }

    /// Writes are durable in their order: lets go of what waited for them. A message of an older term would say what
    /// this member no longer stands for, so it is dropped.
    fn release(&mut self, write: WriteId) {
        self.persisted = self.persisted.max(write);
        while self.held.front().is_some_and(|(id, _)| *id <= write) {
            let (_, messages) = self.held.pop_front().expect("there is a front");
            let term = self.raft.term();
            let is_current =
                |message: &Message| message.term >= term || mutated(Mutant::StaleHeldSpoken);
            let current = messages.into_iter().filter(is_current);
            self.out
                .send
                .extend(current.map(|message| (message.to, PeerMessage::Raft(message))));
        }
        self.raft.persisted(write);
    }

    /// Logs the renewals that wait at a leader, so that an entry that Raft makes may follow. Says whether it may.
    pub(crate) fn log_renewals(&mut self) -> bool {
        let Some(leading) = &mut self.leading else {
            return true;
        };
        let mut formed = Formed::default();
        let are_logged =
            leading.append_renewals(&mut self.raft, self.now, &self.settings, &mut formed);
        self.take_formed(formed);
        are_logged
    }

    fn take_formed(&mut self, formed: Formed) {
        for (position, origins) in formed.appended {
            self.note_raise(position.index, &origins);
            self.traced_in(position, &origins);
            self.appended
                .insert(position.index, (position.term, origins));
        }
        self.refuse(formed.refused);
    }

    /// Turns what waits at a leader into entries. An entry takes everything that is there, so the next one forms
    /// while the disk writes this one (group commit).
    fn form_entries(&mut self) {
        let busy = self.disk_busy();
        let Some(leading) = &mut self.leading else {
            return;
        };
        let formed = leading.form_entries(&mut self.raft, self.now, self.due, busy, &self.settings);
        self.take_formed(formed);
    }

    /// Tells each origin. A member hears of all its requests that have one reason in one message: a leader that steps
    /// down may have a hundred thousand of them.
    fn refuse(&mut self, refused: impl IntoIterator<Item = (Origin, Refused)>) {
        let mut of_others: BTreeMap<(u64, Refused), Vec<u64>> = BTreeMap::new();
        for (origin, reason) in refused {
            self.traced.remove(&origin);
            if self.is_own_raise(&origin) {
                self.give_up_raise();
                continue;
            }
            if origin.member == self.id.0 {
                self.out.refused.push((origin.token, reason));
            } else {
                let tokens = of_others.entry((origin.member, reason)).or_default();
                tokens.push(origin.token);
            }
        }
        for ((member, reason), tokens) in of_others {
            let message = PeerMessage::Refused { tokens, reason };
            self.out.send.push((MemberId(member), message));
        }
    }

    /// Moves what Raft wants done into the output, and follows its role.
    fn collect(&mut self) {
        let ready = self.raft.ready();
        if let Some(write) = ready.write {
            merge_write(&mut self.out.write, write, &mut self.held);
        }
        self.out.send.extend(
            ready
                .messages
                .into_iter()
                .map(|m| (m.to, PeerMessage::Raft(m))),
        );
        self.settle(&ready.committed);
        self.out.apply.extend(ready.committed);
        let reads = ready
            .reads
            .into_iter()
            .map(|r| (r.token.0, r.point.ok_or(Refused::NoLeader)));
        self.out.reads.extend(reads);
        self.out.snapshots.extend(ready.snapshots);
        let changed = !ready.changes.is_empty();
        self.out.changes.extend(ready.changes);
        if changed {
            self.follow_role();
        }
    }

    fn follow_role(&mut self) {
        let term = self.raft.term();
        let stale = self
            .leading
            .as_ref()
            .is_some_and(|leading| leading.term() != term);
        if (!self.raft.is_leader() || stale)
            && let Some(leading) = self.leading.take()
        {
            self.give_up_raise();
            let waiting = leading.into_waiting().into_iter();
            self.refuse(waiting.map(|origin| (origin, Refused::NoLeader)));
            if mutated(Mutant::RefusedThoughAppended) {
                let appended = std::mem::take(&mut self.appended).into_values();
                let origins: Vec<_> = appended.flat_map(|(_, origins)| origins).collect();
                self.refuse(
                    origins
                        .into_iter()
                        .map(|origin| (origin, Refused::NoLeader)),
                );
            }
        }
        if self.raft.is_leader() && self.leading.is_none() {
            let clock = self.raft.clock().expect("a leader has a clock");
            self.leading = Some(Leading::new(term, clock));
        }
    }

    /// Committed entries decide the fate of what this member appended: at an index that another term's entry took,
    /// the requests were not applied and never will be.
    fn settle(&mut self, committed: &[tenure_raft::Entry]) {
        let mut lost = Vec::new();
        for entry in committed {
            while let Some(first) = self.appended.first_entry() {
                if *first.key() > entry.index {
                    break;
                }
                let (index, (term, origins)) = first.remove_entry();
                if index == entry.index && term != entry.term {
                    // Of a raise nobody waits to hear; it was given up with that term, and there may be another by now.
                    let origins = origins
                        .into_iter()
                        .filter(|origin| !self.is_own_raise(origin));
                    lost.extend(origins.map(|origin| (origin, Refused::NoLeader)));
                }
            }
        }
        self.refuse(lost);
    }
}

/// Raft may want several writes within one turn. They keep their order: the later one's number covers both.
fn merge_write(
    into: &mut Option<tenure_raft::Write>,
    write: tenure_raft::Write,
    held: &mut VecDeque<(WriteId, Vec<Message>)>,
) {
    let Some(first) = into else {
        *into = Some(write);
        return;
    };
    // The first one's messages wait for its own number, which is durable no later than the merged write.
    let then = std::mem::take(&mut first.then);
    if !then.is_empty() {
        held.push_back((first.id, then));
    }
    first.id = write.id;
    first.then = write.then;
    if write.hard_state.is_some()
        && !(mutated(Mutant::MergedVoteLost) && first.hard_state.is_some())
    {
        first.hard_state = write.hard_state;
    }
    if let Some(meta) = write.reset_to {
        first.append.clear();
        first.truncate_from = None;
        first.compact_to = None;
        first.reset_to = Some(meta);
    }
    if let Some(from) = write.truncate_from {
        first.append.retain(|entry| entry.index < from);
        first.truncate_from = Some(
            first
                .truncate_from
                .map_or(from, |earlier| earlier.min(from)),
        );
    }
    first.append.extend(write.append);
    if write.compact_to.is_some() {
        first.compact_to = write.compact_to;
    }
}

fn in_pieces(requests: Vec<ForwardedRequest>, bytes: usize) -> Vec<Vec<ForwardedRequest>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut size = 0;
    for request in requests {
        size += request.request.len() + request.trace.map_or(0, |_| TRACE_BYTES);
        piece.push(request);
        if size >= bytes {
            pieces.push(std::mem::take(&mut piece));
            size = 0;
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// What a trace adds to a forwarded request on its way.
const TRACE_BYTES: usize = 27;
