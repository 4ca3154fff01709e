//! The core: one member's Raft as a value.
//!
//! Owns the state of figure 2 of the Raft paper and the calls by which input arrives and one [`Ready`] leaves. Every call
//! is a turn that ends in `check_invariants`; nothing is sent before the caller takes the `Ready`, so that all
//! that arrived in one turn of the caller's loop shares messages and one write.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tenure_mutants::{Mutant, mutated};
use thiserror::Error;

use crate::admission;
use crate::configuration;
use crate::log::Log;
use crate::message::{Body, Message};
use crate::ready::{PeerStatus, Ready, RoleName, Status, StepDown, WriteId};
use crate::role::{Following, Role};
use crate::types::{
    Configuration, Entry, HardState, LogIndex, LogPosition, MemberId, Payload, SnapshotFile,
    SnapshotMeta, Stamp, Term,
};
use crate::writes::Writes;

/// What can be tuned. The defaults suit members within a few milliseconds of each other.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A follower that hears no leader for a time drawn anew from once to twice this campaigns; a leader that hears no
    /// quorum for once this steps down.
    pub election_timeout: Duration,
    /// A leader sends heartbeats this often, and its clock advances by at most this in one tick.
    pub heartbeat_interval: Duration,
    /// The most bytes of entries in one append (one entry may be longer).
    pub max_append_bytes: usize,
    /// The most appends in flight to one member: enough to fill a long link, few enough to bound what a reset repeats.
    pub max_inflight_messages: usize,
    /// The most bytes in flight to one member.
    pub max_inflight_bytes: usize,
    /// A leader refuses proposals beyond this many uncommitted bytes: without a quorum they would pile up in memory.
    pub max_uncommitted_bytes: usize,
    /// A leader refuses proposals beyond this many bytes that its own disk has not taken: with a disk slower than those of
    /// the others, which commit without it, they would pile up in its memory and none of them could be applied here.
    pub max_unwritten_bytes: usize,
    /// The length of a piece of a snapshot.
    pub piece_bytes: u64,
    /// Compaction keeps at most this many entries behind the checkpoint, for members that were briefly away.
    pub kept_entries: u64,
    /// Compaction keeps at most this many bytes of entries behind the checkpoint.
    pub kept_bytes: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        const MIB: usize = 1 << 20;
        Settings {
            election_timeout: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(50),
            max_append_bytes: MIB,
            max_inflight_messages: 256,
            max_inflight_bytes: 8 * MIB,
            max_uncommitted_bytes: 64 * MIB,
            max_unwritten_bytes: 64 * MIB,
            piece_bytes: MIB as u64,
            kept_entries: 10_000,
            kept_bytes: 16 * MIB as u64,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), RestoreError> {
        let faults = [
            (
                self.heartbeat_interval.is_zero(),
                "the heartbeat interval is zero",
            ),
            (
                self.election_timeout <= self.heartbeat_interval,
                "the election timeout is not above the heartbeat interval",
            ),
            (
                self.max_inflight_messages == 0 || self.max_inflight_bytes == 0,
                "the window is zero",
            ),
            (self.piece_bytes == 0, "the piece length is zero"),
        ];
        match faults.into_iter().find(|(fault, _)| *fault) {
            Some((_, fault)) => Err(RestoreError::Settings(fault)),
            None => Ok(()),
        }
    }
}

/// What a member finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log file begins behind.
    pub base: SnapshotMeta,
    /// The entries of the log file.
    pub entries: Vec<Entry>,
    /// What the durable checkpoint of the state machine covers. It may lie beyond the log, or disagree with it, where a
    /// snapshot was installed and the log not yet reset: the log is then reset to it.
    pub applied: SnapshotMeta,
}

impl Restored {
    /// What every member of a new cluster finds.
    #[must_use]
    pub fn genesis(configuration: Configuration) -> Restored {
        let base = SnapshotMeta::genesis(configuration);
        Restored {
            hard_state: HardState {
                term: base.position.term,
                vote: None,
            },
            base: base.clone(),
            entries: Vec::new(),
            applied: base,
        }
    }
}

impl Restored {
    /// What a member finds that joins a group: a log that begins before everything, so that nothing but a snapshot can
    /// follow, and the configuration that it was told, in which it need not be.
    #[must_use]
    pub fn joining(configuration: Configuration) -> Restored {
        let base = SnapshotMeta {
            configuration: Arc::new(configuration),
            ..SnapshotMeta::default()
        };
        Restored {
            hard_state: HardState::default(),
            base: base.clone(),
            entries: Vec::new(),
            applied: base,
        }
    }
}

/// Why a member cannot start from what is on its disk.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RestoreError {
    /// The settings contradict each other.
    #[error("the settings cannot work: {0}")]
    Settings(&'static str),
    /// The log has a gap, or its terms or stamps fall.
    #[error("log entry {index} does not follow the entry before it")]
    BrokenLog {
        /// The entry at fault.
        index: LogIndex,
    },
    /// The log holds an entry of a term that the member does not remember.
    #[error("log entry {index} is of term {term}, but the stored term is {stored}")]
    TermBehindLog {
        /// The entry at fault.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// The term on disk.
        stored: Term,
    },
    /// The checkpoint does not reach to where the log begins, so entries between them are missing.
    #[error("the checkpoint covers the log up to {applied}, but the log begins behind {base}")]
    CheckpointBehindLog {
        /// What the checkpoint covers.
        applied: LogIndex,
        /// What the log begins behind.
        base: LogIndex,
    },
    /// A configuration has no voter, or a member that both votes and learns.
    #[error("the configuration at {index} is unsound")]
    UnsoundConfiguration {
        /// Where it stands.
        index: LogIndex,
    },
}

/// Why a proposal was refused. Nothing was appended.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ProposeError {
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<MemberId>,
    },
    /// Leadership is being handed over; it ends within an election timeout.
    #[error("leadership is being transferred to {to}")]
    Transferring {
        /// To whom.
        to: MemberId,
    },
    /// Too much waits to be committed already.
    #[error("{bytes} bytes wait to be committed")]
    TooMuchUncommitted {
        /// How much.
        bytes: u64,
    },
    /// Too much waits for this leader's own disk already, committed or not.
    #[error("{bytes} bytes wait to be written here")]
    TooMuchUnwritten {
        /// How much.
        bytes: u64,
    },
}

/// A leader of this term knows more of this member's log than is there.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "the log ends at entry {log_end}, and this member had acknowledged entry {acknowledged} to the leader {leader}"
)]
pub struct Forgotten {
    /// The leader.
    pub leader: MemberId,
    /// This member told the leader that entries up to here are durable, at least.
    pub acknowledged: LogIndex,
    /// Where the log ends.
    pub log_end: LogIndex,
}

/// Why leadership cannot be transferred.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TransferError {
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader,
    /// The target leads already.
    #[error("this member leads already")]
    AlreadyLeader,
    /// The target has no vote.
    #[error("{0} is not a voter")]
    NotVoter(MemberId),
    /// Nobody was named, and no other voter has answered this leader.
    #[error("no other voter can take over")]
    NoCandidate,
    /// Another transfer is under way.
    #[error("leadership is being transferred to {to}")]
    InProgress {
        /// To whom.
        to: MemberId,
    },
}

/// One member's Raft.
///
/// Invariants, checked after every call: `base <= handed_out <= min(commit, durable)`; `commit <= last`; the term is
/// not below that of the last entry; a candidate voted for itself; a leader's last entry is of its own term; nobody is
/// known to match beyond a leader's log, or to have answered a round that was not begun; who installs a snapshot follows.
#[derive(Debug)]
pub struct Raft {
    pub(crate) id: MemberId,
    pub(crate) settings: Settings,
    pub(crate) rng: Rng,
    /// Time as counted by ticks since this value was made.
    pub(crate) now: Duration,
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) writes: Writes,
    pub(crate) commit: LogIndex,
    pub(crate) handed_out: LogIndex,
    /// Nothing behind this is handed out yet.
    pub(crate) wanted: LogIndex,
    /// What the newest durable checkpoint covers.
    pub(crate) checkpoint: LogIndex,
    pub(crate) role: Role,
    /// When a member that does not lead takes its leader for lost.
    pub(crate) election_due: Duration,
    /// The snapshot whose installation the caller has been asked for.
    pub(crate) installing: Option<SnapshotFile>,
    /// What shows that this member's disk has lost what it had acknowledged.
    pub(crate) forgotten: Option<Forgotten>,
    /// The number of the next batch of reads that is sent to a leader.
    pub(crate) next_batch: u64,
    /// What leaves with the next `Ready`, but for its write and its committed entries.
    pub(crate) out: Ready,
}

impl Raft {
    /// A member that goes on from what is on its disk, as a follower. `seed` must differ between members and between
    /// starts of one member: election timeouts and the numbers of its reads come out of it.
    ///
    /// # Errors
    ///
    /// Says which of the things restored do not fit each other; nothing is repaired but what a crash can leave behind.
    pub fn new(
        id: MemberId,
        settings: Settings,
        seed: u64,
        restored: Restored,
    ) -> Result<Raft, RestoreError> {
        settings.check()?;
        let Restored {
            hard_state,
            base,
            entries,
            applied,
        } = restored;
        let log = restore_log(base, entries, hard_state.term)?;
        check_configuration(&applied.configuration, applied.position.index)?;
        let base = log.base().position.index;
        if applied.position.index < base {
            return Err(RestoreError::CheckpointBehindLog {
                applied: applied.position.index,
                base,
            });
        }
        let mut rng = Rng::with_seed(seed);
        let next_batch = rng.u64(..admission::LIMIT);
        let mut raft = Raft {
            id,
            settings,
            rng,
            now: Duration::ZERO,
            hard_state,
            writes: Writes::new(log.last_index()),
            log,
            commit: applied.position.index,
            handed_out: applied.position.index,
            wanted: LogIndex(u64::MAX),
            checkpoint: applied.position.index,
            role: Role::Follower { following: None },
            election_due: Duration::ZERO,
            installing: None,
            forgotten: None,
            next_batch,
            out: Ready::default(),
        };
        raft.adopt_checkpoint(applied);
        raft.redraw_election_timer();
        raft.check_invariants();
        Ok(raft)
    }

    /// A crash may fall between the installation of a snapshot and the write that resets the log behind it.
    fn adopt_checkpoint(&mut self, applied: SnapshotMeta) {
        if self.hard_state.term < applied.position.term {
            // The leader's term was on its way to the log file when the snapshot, on another, was already installed.
            self.store_hard_state(HardState {
                term: applied.position.term,
                vote: None,
            });
        }
        if self.log.position_at(applied.position.index) != Some(applied.position)
            && !mutated(Mutant::RestartKeepsLog)
        {
            self.writes.reset(applied.clone());
            self.log.reset(applied);
        }
    }

    /// Lets time pass: `elapsed` is the real time since the last tick, however long that was.
    pub fn tick(&mut self, elapsed: Duration) {
        self.now = self.now.saturating_add(elapsed);
        match self.role {
            Role::Leader(_) => self.tick_leader(elapsed),
            _ => self.tick_without_lead(),
        }
        self.check_invariants();
    }

    fn tick_without_lead(&mut self) {
        self.expire_follower_reads();
        if self.election_due <= self.now {
            self.election_timeout_passed();
        }
    }

    /// Takes a message from another member. Whatever it contains, it is answered, used or ignored.
    pub fn receive(&mut self, message: Message) {
        let is_plausible =
            admission::is_plausible(&message, self.id) || mutated(Mutant::ImpossibleBelieved);
        if is_plausible && self.settle_term(&message) {
            self.step(message);
        }
        self.check_invariants();
    }

    /// Compares terms (Raft §5.1), and says whether the message still speaks to this member.
    fn settle_term(&mut self, message: &Message) -> bool {
        let from_leader = match &message.body {
            // Pre-votes change nothing and carry a term that nobody has yet (thesis §9.6).
            Body::PreVote { .. } | Body::PreVoteResponse { granted: true } => return true,
            // A member that was cut off must not depose a leader that works (thesis §4.2.3).
            Body::Vote {
                transfer: false, ..
            } if self.term() < message.term && self.is_loyal(message.from) => {
                return false;
            }
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => true,
            _ => false,
        };
        if message.term < self.term() {
            let is_counted = match message.body {
                Body::AppendResponse { .. } => mutated(Mutant::StaleAckCounted),
                Body::HeartbeatResponse { .. } => mutated(Mutant::StaleRoundCounted),
                _ => false,
            };
            if !mutated(Mutant::StaleLeaderNotTold) {
                self.refuse_stale(message);
            }
            return is_counted;
        }
        if mutated(Mutant::HigherTermIgnored) && self.is_leader() && !from_leader {
            return message.term == self.term();
        }
        if self.term() < message.term {
            self.become_follower(
                message.term,
                from_leader.then_some(message.from),
                Some(StepDown::HigherTerm),
            );
        }
        true
    }

    /// Tells the sender of an older term what the term is, where it could otherwise go on for ever. A leader that is
    /// ignored by a member of a higher term, and keeps it from campaigning through the loyalty of the rest, would be the
    /// deadlock of pre-vote with check-quorum: the answer makes it step down.
    fn refuse_stale(&mut self, message: &Message) {
        let body = match message.body {
            Body::Append {
                ref previous,
                round,
                ..
            } => self.rejection(*previous, round),
            Body::Heartbeat { round, .. } | Body::Snapshot { round, .. } => {
                self.rejection(LogPosition::default(), round)
            }
            Body::Vote { .. } => Body::VoteResponse { granted: false },
            Body::ReadIndex { batch } => Body::ReadIndexRefused { batch },
            _ => return,
        };
        self.send_after_writes(message.from, body);
    }

    fn step(&mut self, message: Message) {
        let Message {
            from, term, body, ..
        } = message;
        match body {
            Body::PreVote { last } => self.on_pre_vote(from, term, last),
            Body::PreVoteResponse { granted } => self.on_pre_vote_response(from, term, granted),
            Body::Vote { last, transfer: _ } => self.on_vote(from, last),
            Body::VoteResponse { granted } => self.on_vote_response(from, granted),
            Body::TimeoutNow => self.on_timeout_now(),
            Body::Append {
                previous,
                entries,
                commit,
                round,
            } => {
                if self.hear_leader(from, round) {
                    self.on_append(from, previous, entries, commit, round);
                }
            }
            Body::Heartbeat { commit, round } => {
                if self.hear_leader(from, round) {
                    self.on_heartbeat(from, commit, round);
                }
            }
            Body::Snapshot {
                file,
                offset,
                data,
                round,
            } => {
                if self.hear_leader(from, round) {
                    self.on_snapshot(from, file, offset, data, round);
                }
            }
            Body::AppendResponse { result, round } => self.on_append_response(from, result, round),
            Body::HeartbeatResponse { round } => self.on_heartbeat_response(from, round),
            Body::SnapshotResponse {
                position,
                digest,
                stored,
                round,
            } => {
                self.on_snapshot_response(from, position, digest, stored, round);
            }
            Body::ReadIndex { batch } => self.on_read_index(from, batch),
            Body::ReadIndexResponse {
                batch,
                index,
                stamp,
            } => self.on_read_index_response(from, batch, Some((index, stamp))),
            Body::ReadIndexRefused { batch } => self.on_read_index_response(from, batch, None),
        }
    }

    /// Takes note that the write `id`, and so every one before it, is durable.
    pub fn persisted(&mut self, id: WriteId) {
        self.writes.persisted(id, self.log.base().position.index);
        self.count_own_vote(id);
        self.advance_commit();
        self.check_invariants();
    }

    /// Takes note that a checkpoint of the state machine at `meta` is durable, and compacts the log behind it but for a
    /// tail, and never past a snapshot on its way to a member.
    pub fn checkpointed(&mut self, meta: SnapshotMeta) {
        let index = meta.position.index;
        assert!(
            index <= self.handed_out,
            "a checkpoint covers {index}, beyond {}",
            self.handed_out
        );
        if index <= self.checkpoint {
            return;
        }
        self.checkpoint = index;
        let tail = self
            .log
            .tail_start(index, self.settings.kept_entries, self.settings.kept_bytes);
        let to = if mutated(Mutant::CompactsPastTransfer) {
            tail
        } else {
            tail.min(self.oldest_snapshot_in_use())
        };
        if self.log.base().position.index < to {
            let base = self.log.compact(to).clone();
            self.writes.compact(base);
        }
        self.check_invariants();
    }

    /// Hands out committed entries up to here and no further, until more is wanted. What is committed behind it stays in
    /// the log, where it is anyway. Without this call, everything is handed out as soon as it is committed.
    pub fn want_committed(&mut self, through: LogIndex) {
        self.wanted = through;
    }

    /// The last index that may be applied: committed, and durable here.
    pub fn applicable(&self) -> LogIndex {
        self.commit.min(self.writes.durable())
    }

    /// Everything that has come up since the last call. Cheap where nothing has.
    pub fn ready(&mut self) -> Ready {
        self.speak();
        let committed = self.take_committed();
        let write = self.writes.issue(self.log.last_index());
        self.check_invariants();
        Ready {
            write,
            committed,
            ..std::mem::take(&mut self.out)
        }
    }

    /// Committed is not enough: a single voter commits by its own disk, and what is applied must survive a restart.
    fn take_committed(&mut self) -> Vec<Entry> {
        let through = match () {
            () if mutated(Mutant::HandsOutUnwritten) => self.commit,
            () if mutated(Mutant::AppliesUncommitted) => self.writes.durable(),
            () => self.applicable().min(self.wanted),
        };
        if self.installing.is_some() || through <= self.handed_out {
            return Vec::new();
        }
        let mut entries = self.log.entries_between(self.handed_out, through);
        if mutated(Mutant::CommittedSkipped) {
            entries.truncate(3);
        }
        self.handed_out = through;
        entries
    }

    /// How long until a tick has something to do.
    pub fn next_tick(&self) -> Duration {
        let due = match &self.role {
            Role::Leader(leader) => leader.heartbeat_due,
            Role::Follower {
                following: Some(following),
            } => {
                let expiry = following
                    .reads
                    .oldest()
                    .map(|asked| asked + self.settings.election_timeout);
                expiry.map_or(self.election_due, |expiry| expiry.min(self.election_due))
            }
            _ => self.election_due,
        };
        due.saturating_sub(self.now)
    }

    /// What shows that this member's disk has lost what the member had acknowledged: a sync that was a lie, or the files
    /// of an earlier day. Such a member may have forgotten a vote as well, so it must not go on.
    pub fn forgotten(&self) -> Option<Forgotten> {
        self.forgotten
    }

    /// A summary.
    pub fn status(&self) -> Status {
        Status {
            id: self.id,
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            role: self.role_name(),
            leader: self.leader(),
            commit: self.commit,
            handed_out: self.handed_out,
            last: self.log.last_position(),
            durable: self.writes.durable(),
            base: self.log.base().position,
            log_bytes: self.log.bytes(),
            settled: self.is_settled(),
            leads_for: match &self.role {
                Role::Leader(leader) => Some(self.now.saturating_sub(leader.elected)),
                _ => None,
            },
            progress: self.peer_statuses(),
        }
    }

    /// The most messages, and the most bytes, that are on their way to one member and not acknowledged.
    pub fn fullest_window(&self) -> (usize, usize) {
        let Role::Leader(leader) = &self.role else {
            return (0, 0);
        };
        let taken = leader
            .progress
            .values()
            .map(crate::progress::Progress::in_flight);
        taken.fold((0, 0), |most, taken| {
            (most.0.max(taken.0), most.1.max(taken.1))
        })
    }

    fn role_name(&self) -> RoleName {
        match self.role {
            Role::Follower { .. } if self.configuration().is_voter(self.id) => RoleName::Follower,
            Role::Follower { .. } => RoleName::Learner,
            Role::PreCandidate { .. } | Role::Candidate { .. } => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let Role::Leader(leader) = &self.role else {
            return Vec::new();
        };
        let status = |(&id, progress): (&MemberId, &crate::progress::Progress)| PeerStatus {
            id,
            state: progress.peer_state(),
            matched: progress.matched,
            silent_for: progress.heard.map(|heard| self.now.saturating_sub(heard)),
            round_trip: progress.round_trip,
            transferred: progress.transferred(),
        };
        leader.progress.iter().map(status).collect()
    }

    /// The configuration in force, committed or not.
    pub fn configuration(&self) -> &Arc<Configuration> {
        self.log.configuration()
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The first entry of its own term, where this member leads: everything before it is from earlier leaders, and it is from
    /// none.
    pub fn leads_from(&self) -> Option<LogIndex> {
        match &self.role {
            Role::Leader(leader) => Some(leader.first),
            _ => None,
        }
    }

    /// The leader of the present term: this member, or one heard from within an election timeout.
    pub fn leader(&self) -> Option<MemberId> {
        match &self.role {
            Role::Leader(_) => Some(self.id),
            Role::Follower {
                following: Some(following),
            } if self.is_fresh(following) => Some(following.leader),
            _ => None,
        }
    }

    pub(crate) fn is_fresh(&self, following: &Following) -> bool {
        self.now.saturating_sub(following.heard) < self.settings.election_timeout
    }

    /// The term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The entries of the log behind its base, committed or not.
    pub fn log_entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter()
    }

    /// The term of the entry at `index`; `None` where it is compacted or not there.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The leader's clock; `None` where this member does not lead.
    pub fn clock(&self) -> Option<Stamp> {
        match &self.role {
            Role::Leader(leader) => Some(leader.clock.stamp()),
            _ => None,
        }
    }

    pub(crate) fn store_hard_state(&mut self, hard_state: HardState) {
        assert!(
            self.hard_state.term <= hard_state.term,
            "the term falls from {}",
            self.hard_state.term
        );
        if self.hard_state.term < hard_state.term {
            self.writes.drop_held_before(hard_state.term);
        } else {
            assert!(
                self.hard_state.vote.is_none(),
                "a second vote in term {}",
                hard_state.term
            );
        }
        self.hard_state = hard_state;
        self.writes.hard_state(hard_state);
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.log.append(entry.clone());
        self.writes.append(entry);
    }

    pub(crate) fn truncate(&mut self, from: LogIndex) {
        assert!(
            self.commit < from,
            "entries from {from} are to be removed, but {} is committed",
            self.commit
        );
        self.log.truncate(from);
        self.writes.truncate(from);
    }

    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        assert!(
            index <= self.log.last_index(),
            "commit of {index} beyond the log's end"
        );
        self.commit = self.commit.max(index);
    }

    pub(crate) fn message(&self, to: MemberId, body: Body) -> Message {
        Message {
            from: self.id,
            to,
            term: self.hard_state.term,
            body,
        }
    }

    /// Sends what depends on no write.
    pub(crate) fn send(&mut self, to: MemberId, body: Body) {
        let message = self.message(to, body);
        self.out.messages.push(message);
    }

    /// Sends what is true only once everything written so far is durable.
    pub(crate) fn send_after_writes(&mut self, to: MemberId, body: Body) {
        let message = self.message(to, body);
        self.out.messages.extend(self.writes.hold(message));
    }

    pub(crate) fn check_invariants(&self) {
        let (base, last, durable) = (
            self.log.base().position.index,
            self.log.last_position(),
            self.writes.durable(),
        );
        assert!(
            base <= self.checkpoint,
            "the log begins behind {base}, the checkpoint covers {}",
            self.checkpoint
        );
        assert!(
            self.checkpoint <= self.handed_out,
            "a checkpoint covers more than was handed out"
        );
        assert!(
            self.handed_out <= self.commit.min(durable),
            "{} handed out of {durable} durable",
            self.handed_out
        );
        assert!(
            self.commit <= last.index,
            "commit {} is beyond the last entry {}",
            self.commit,
            last.index
        );
        assert!(
            durable <= last.index,
            "durable {durable} is beyond the last entry {}",
            last.index
        );
        assert!(
            last.term <= self.term(),
            "an entry of term {} in term {}",
            last.term,
            self.term()
        );
        match &self.role {
            Role::Follower { .. } => {}
            Role::PreCandidate { .. } => assert!(
                self.installing.is_none(),
                "campaigns during an installation"
            ),
            Role::Candidate { .. } => {
                assert!(
                    self.installing.is_none(),
                    "campaigns during an installation"
                );
                assert!(
                    self.hard_state.vote == Some(self.id),
                    "a candidate did not vote for itself"
                );
            }
            Role::Leader(leader) => {
                assert!(self.installing.is_none(), "leads during an installation");
                leader.check_invariants(self.term(), last);
            }
        }
    }
}

fn restore_log(base: SnapshotMeta, entries: Vec<Entry>, stored: Term) -> Result<Log, RestoreError> {
    check_configuration(&base.configuration, base.position.index)?;
    if stored < base.position.term {
        let LogPosition { term, index } = base.position;
        return Err(RestoreError::TermBehindLog {
            index,
            term,
            stored,
        });
    }
    let mut log = Log::new(base);
    for entry in entries {
        let last = log.last_position();
        if entry.index != last.index.next()
            || entry.term < last.term
            || entry.stamp < log.last_stamp()
        {
            return Err(RestoreError::BrokenLog { index: entry.index });
        }
        if stored < entry.term {
            return Err(RestoreError::TermBehindLog {
                index: entry.index,
                term: entry.term,
                stored,
            });
        }
        if let Payload::Configuration(configuration) = &entry.payload {
            check_configuration(configuration, entry.index)?;
        }
        log.append(entry);
    }
    Ok(log)
}

fn check_configuration(configuration: &Configuration, index: LogIndex) -> Result<(), RestoreError> {
    if configuration::is_sound(configuration) {
        Ok(())
    } else {
        Err(RestoreError::UnsoundConfiguration { index })
    }
}
