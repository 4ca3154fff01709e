//! The follower's side of replication: what it takes from a leader, and what it says of it.
//!
//! Owns the consistency check (Raft §5.3). Must never remove a committed entry, commit more than a message has proved
//! to equal the leader's log, or say that it has what is not durable: answers about the log wait for every
//! write before them.

use tenure_mutants::{Mutant, mutated};

use crate::core::{Forgotten, Raft};
use crate::message::{AppendResult, Body};
use crate::ready::StepDown;
use crate::role::Role;
use crate::types::{Entry, LogIndex, LogPosition, MemberId};

impl Raft {
    /// Takes note that `from` leads this term. Says no where it cannot: a term has one leader.
    pub(crate) fn hear_leader(&mut self, from: MemberId, round: u64) -> bool {
        match &mut self.role {
            Role::Leader(_) => return false,
            Role::Follower {
                following: Some(following),
            } if following.leader != from => return false,
            Role::Follower {
                following: Some(following),
            } => following.heard = self.now,
            Role::Follower { following: None } => {
                self.become_follower(self.term(), Some(from), None)
            }
            Role::PreCandidate { .. } | Role::Candidate { .. } => {
                self.become_follower(self.term(), Some(from), Some(StepDown::LeaderFound));
            }
        }
        if let Role::Follower {
            following: Some(following),
        } = &mut self.role
        {
            following.round = following.round.max(round);
        }
        self.redraw_election_timer();
        true
    }

    pub(crate) fn on_append(
        &mut self,
        from: MemberId,
        previous: LogPosition,
        entries: Vec<Entry>,
        commit: LogIndex,
        round: u64,
    ) {
        if self.installing.is_some() && !mutated(Mutant::AppendDuringInstall) {
            // The log is about to be replaced, so nothing true can be said of it.
            return;
        }
        if previous.index < self.commit {
            // What is committed here equals every later leader's log (Raft §5.4), so there is no need to look.
            self.accept(from, self.commit, round);
        } else if !self.is_equal(previous) {
            let body = self.rejection(previous, round);
            self.remember_accepted(None);
            self.send_after_writes(from, body);
        } else {
            // Only so far do the logs agree for certain: what this log has beyond may be another leader's.
            let proved = LogIndex(previous.index.0 + entries.len() as u64);
            let is_told = entries.is_empty() && self.has_accepted(proved, round);
            if self.adopt(entries) {
                self.commit_to(commit.min(self.proved(proved)));
                if !is_told {
                    self.accept(from, proved, round);
                }
            }
        }
    }

    /// Whether this log has this very entry.
    fn is_equal(&self, previous: LogPosition) -> bool {
        let present = self.log.position_at(previous.index);
        present == Some(previous) || mutated(Mutant::MissingEntryMatches) && present.is_none()
    }

    fn proved(&self, proved: LogIndex) -> LogIndex {
        if mutated(Mutant::FollowerCommitsUnproved) {
            return self.log.last_index();
        }
        proved
    }

    /// Whether the last answer said the same. News of a commit follows every entry, and an answer that repeats the one
    /// to the entry itself would only wake the leader. Where that was lost, the leader asks again, in a later round.
    fn has_accepted(&self, matched: LogIndex, round: u64) -> bool {
        matches!(&self.role, Role::Follower { following: Some(following) }
            if following.accepted == Some((matched, round))
                || mutated(Mutant::LostAckNotRepeated) && following.accepted.is_some_and(|(last, _)| last == matched))
    }

    fn remember_accepted(&mut self, accepted: Option<(LogIndex, u64)>) {
        if let Role::Follower {
            following: Some(following),
        } = &mut self.role
        {
            following.accepted = accepted;
        }
    }

    /// Makes the log contain `entries`. Those that it has are left alone, since a late message must not remove what
    /// came after them; at the first that differs the rest gives way (Raft §5.3). Says no to what no leader sends.
    fn adopt(&mut self, mut entries: Vec<Entry>) -> bool {
        let is_new = |entry: &Entry| {
            self.log.term_at(entry.index) != Some(entry.term)
                || mutated(Mutant::EqualEntriesRewritten)
        };
        let Some(at) = entries.iter().position(is_new) else {
            return true;
        };
        let first = &entries[at];
        if self
            .log
            .stamp_at(first.index.previous())
            .is_none_or(|before| first.stamp < before)
        {
            return false;
        }
        if first.index <= self.log.last_index() {
            self.truncate(first.index);
        }
        for entry in entries.drain(at..) {
            self.append(entry);
        }
        true
    }

    /// Says that the log equals the leader's up to `matched`, once that is durable.
    pub(crate) fn accept(&mut self, leader: MemberId, matched: LogIndex, round: u64) {
        self.remember_accepted(Some((matched, round)));
        let matched = if mutated(Mutant::AckBeyondMatch) {
            self.log.last_index()
        } else {
            matched
        };
        let result = AppendResult::Accepted { matched };
        let body = Body::AppendResponse { result, round };
        if mutated(Mutant::AckReceived) {
            return self.send(leader, body);
        }
        self.send_after_writes(leader, body);
    }

    /// Says that there is no entry equal to `previous`, and where the logs may agree: skipping all of the terms that the
    /// leader cannot have there saves it from going back entry by entry (Raft §5.3).
    pub(crate) fn rejection(&self, previous: LogPosition, round: u64) -> Body {
        let end = previous.index.min(self.log.last_index());
        let hint = self
            .log
            .last_not_above(end, previous.term)
            .unwrap_or(self.log.base().position);
        Body::AppendResponse {
            result: AppendResult::Rejected {
                previous: previous.index,
                hint,
            },
            round,
        }
    }

    /// The leader claims no more than what this member has told it to be durable, so the index may be believed; the
    /// answer says nothing of the log and waits for nothing. A log that ends before that index has lost something: what
    /// a leader of this term has been told of cannot have been replaced since.
    pub(crate) fn on_heartbeat(&mut self, from: MemberId, commit: LogIndex, round: u64) {
        if self.installing.is_none() {
            let log_end = self.log.last_index();
            if log_end < commit {
                self.forgotten = Some(Forgotten {
                    leader: from,
                    acknowledged: commit,
                    log_end,
                });
                return;
            }
            self.commit_to(commit);
        }
        self.send(from, Body::HeartbeatResponse { round });
    }
}
