//! Roles: what a member is, and the only functions by which it becomes something else.
//!
//! Owns what exists only in one role, so that it cannot outlive it: a candidate's votes, a leader's view of the others,
//! a follower's questions to its leader. Leaving a role answers whoever still waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tenure_mutants::{Mutant, mutated};

use crate::clock::Clock;
use crate::core::Raft;
use crate::progress::Progress;
use crate::reads::{FollowerReads, LeaderReads};
use crate::ready::{RoleChange, SnapshotTask, StepDown, WriteId};
use crate::types::{HardState, LogIndex, LogPosition, MemberId, Payload, Term};

/// What a member is.
#[derive(Debug)]
pub(crate) enum Role {
    /// Follows a leader, or waits for one. Learners never leave this role.
    Follower {
        /// The leader of this term, once heard from.
        following: Option<Following>,
    },
    /// Asks whether it could win (thesis §9.6).
    PreCandidate {
        /// The answers so far, its own included.
        votes: BTreeMap<MemberId, bool>,
    },
    /// Campaigns (Raft §5.2).
    Candidate {
        /// The answers so far; its own once it is durable.
        votes: BTreeMap<MemberId, bool>,
        /// The write that makes its own vote durable.
        own_vote: WriteId,
    },
    /// Leads.
    Leader(Box<Leader>),
}

/// A follower's view of its leader.
#[derive(Debug)]
pub(crate) struct Following {
    /// Who leads.
    pub(crate) leader: MemberId,
    /// When it was last heard from.
    pub(crate) heard: Duration,
    /// The newest round heard of in this term. Answers that were long in the making never claim a newer one.
    pub(crate) round: u64,
    /// The last answer to an append, where it was a yes: up to where, and in which round.
    pub(crate) accepted: Option<(LogIndex, u64)>,
    /// Reads that wait for it.
    pub(crate) reads: FollowerReads,
}

/// What a leader keeps.
#[derive(Debug)]
pub(crate) struct Leader {
    /// When it was elected.
    pub(crate) elected: Duration,
    /// Every other member.
    pub(crate) progress: BTreeMap<MemberId, Progress>,
    /// The present round. Rounds only rise within a term.
    pub(crate) round: u64,
    /// When rounds began: (first round begun at that time, the time). Older than two election timeouts is forgotten.
    pub(crate) rounds: VecDeque<(u64, Duration)>,
    /// When the next heartbeat is due.
    pub(crate) heartbeat_due: Duration,
    /// The cluster clock.
    pub(crate) clock: Clock,
    /// The first entry of its own term: committed, it settles everything before it (Raft §8).
    pub(crate) first: LogIndex,
    /// Reads that wait for a confirmed round.
    pub(crate) reads: LeaderReads,
    /// A transfer of leadership under way.
    pub(crate) transfer: Option<Handover>,
}

/// A transfer of leadership (thesis §3.10).
#[derive(Debug)]
pub(crate) struct Handover {
    /// To whom.
    pub(crate) to: MemberId,
    /// When it is given up.
    pub(crate) deadline: Duration,
    /// The target was told to campaign.
    pub(crate) told: bool,
}

impl Leader {
    /// Begins a round, which confirms only what came before it.
    pub(crate) fn begin_round(&mut self, now: Duration, forget_before: Duration) {
        self.round += 1;
        if self.rounds.back().is_none_or(|(_, begun)| *begun < now) {
            self.rounds.push_back((self.round, now));
        }
        while self.rounds.len() > 1 && self.rounds[1].1 <= forget_before {
            self.rounds.pop_front();
        }
    }

    /// When `round` began, or a little before.
    pub(crate) fn round_begun(&self, round: u64) -> Option<Duration> {
        let newer = self.rounds.partition_point(|(first, _)| *first <= round);
        newer.checked_sub(1).map(|at| self.rounds[at].1)
    }

    pub(crate) fn check_invariants(&self, term: Term, last: LogPosition) {
        assert!(
            last.term == term,
            "a leader of term {term} ends in an entry of {}",
            last.term
        );
        for (id, progress) in &self.progress {
            assert!(
                progress.matched < progress.next,
                "{id} matches {} of {}",
                progress.matched,
                progress.next
            );
            assert!(
                progress.acked_round <= self.round,
                "{id} has answered round {} of {}",
                progress.acked_round,
                self.round
            );
            assert!(
                progress.matched <= last.index,
                "{id} matches {} beyond the log",
                progress.matched
            );
            assert!(
                progress.next <= last.index.next(),
                "{id} is sent {} beyond the log",
                progress.next
            );
        }
    }
}

impl Raft {
    /// Follows `leader`, or nobody yet, in `term`. `reason` says why a leader or candidate gives up.
    ///
    /// The vote of the present term is kept: a member that forgot it could vote twice.
    pub(crate) fn become_follower(
        &mut self,
        term: Term,
        leader: Option<MemberId>,
        reason: Option<StepDown>,
    ) {
        if self.hard_state.term < term {
            self.store_hard_state(HardState { term, vote: None });
        } else if mutated(Mutant::VoteForgotten) {
            self.hard_state.vote = None;
            self.writes.hard_state(self.hard_state);
        }
        let leader = match mutated(Mutant::LeaderFollowsItself) && self.is_leader() {
            true => leader.or(Some(self.id)),
            false => leader,
        };
        let following = leader.map(|leader| Following {
            leader,
            heard: self.now,
            round: 0,
            accepted: None,
            reads: FollowerReads::default(),
        });
        let was_follower = matches!(self.role, Role::Follower { .. });
        self.leave(Role::Follower { following });
        self.redraw_election_timer();
        let reason = reason.filter(|_| !was_follower);
        self.out.changes.push(RoleChange::Follower {
            term,
            leader,
            reason,
        });
    }

    /// Asks the others whether it could win; its term stays (thesis §9.6).
    pub(crate) fn become_pre_candidate(&mut self) {
        assert!(!self.is_leader(), "a leader does not campaign");
        if !matches!(self.role, Role::PreCandidate { .. }) {
            self.out
                .changes
                .push(RoleChange::PreCandidate { term: self.term() });
        }
        self.leave(Role::PreCandidate {
            votes: [(self.id, true)].into(),
        });
        self.redraw_election_timer();
    }

    /// Campaigns in the next term, with a vote for itself (Raft §5.2).
    pub(crate) fn become_candidate(&mut self) {
        assert!(!self.is_leader(), "a leader does not campaign");
        let term = Term(self.term().0 + 1);
        self.store_hard_state(HardState {
            term,
            vote: Some(self.id),
        });
        self.leave(Role::Candidate {
            votes: BTreeMap::new(),
            own_vote: self.writes.pending_id(),
        });
        self.redraw_election_timer();
        self.out.changes.push(RoleChange::Candidate { term });
    }

    /// Leads the present term, and appends its first entry.
    pub(crate) fn become_leader(&mut self) {
        assert!(
            matches!(self.role, Role::Candidate { .. }),
            "only a candidate becomes leader"
        );
        let last = self.log.last_position();
        let others = self
            .configuration()
            .members()
            .into_iter()
            .filter(|member| *member != self.id);
        let leader = Leader {
            elected: self.now,
            progress: others
                .map(|member| (member, Progress::new(last.index, self.now)))
                .collect(),
            round: 0,
            rounds: VecDeque::new(),
            heartbeat_due: self.now,
            clock: self.new_clock(),
            first: last.index.next(),
            reads: LeaderReads::default(),
            transfer: None,
        };
        self.leave(Role::Leader(Box::new(leader)));
        self.out.changes.push(RoleChange::Leader {
            term: self.term(),
            last,
        });
        // An entry of its own term tells a leader what is committed, and commits what earlier leaders left (Raft §8).
        self.append_as_leader(Payload::Empty);
    }

    /// It goes on from the last entry of this log: what passed since then without a leader is never made up.
    fn new_clock(&self) -> Clock {
        let mut clock = Clock::starting_at(self.log.last_stamp());
        if mutated(Mutant::ClockMakesUpElections) {
            let timeout = self.settings.election_timeout;
            clock.advance(timeout, timeout);
        }
        clock
    }

    /// Puts `role` in place of the present one, whose dependants are told.
    fn leave(&mut self, role: Role) {
        match std::mem::replace(&mut self.role, role) {
            Role::Follower {
                following: Some(following),
            } => self.out.reads.extend(following.reads.abandon()),
            Role::Leader(leader) => self.leave_lead(*leader),
            Role::Follower { following: None }
            | Role::PreCandidate { .. }
            | Role::Candidate { .. } => {}
        }
    }

    fn leave_lead(&mut self, leader: Leader) {
        let (local, remote) = leader.reads.abandon();
        self.out.reads.extend(local);
        for (member, batch) in remote {
            self.refuse_read(member, batch);
        }
        for (to, mut progress) in leader.progress {
            if let Some(file) = progress.take_sending() {
                self.out.snapshots.push(SnapshotTask::Release { to, file });
            }
        }
    }
}
