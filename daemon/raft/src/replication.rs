//! The leader's side of replication: rounds, heartbeats, appends, and what the answers prove.
//!
//! Owns when a leader speaks and what is committed (Raft §5.3, §5.4.2). Nothing is sent the moment it arises: one turn
//! of the caller's loop ends in one `speak`, so that proposals share appends, and commits share their announcements.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use tenure_mutants::{Mutant, mutated};

use crate::core::{ProposeError, Raft, Settings};
use crate::log::Log;
use crate::message::{AppendResult, Body, Message};
use crate::progress::{Probe, Progress, Replication};
use crate::quorum;
use crate::ready::{Ready, SnapshotTask, StepDown};
use crate::role::{Leader, Role};
use crate::types::{Configuration, Entry, LogIndex, LogPosition, MemberId, Payload, Term};

/// What every message of a leader in one turn is made of.
pub(crate) struct Speech<'a> {
    pub(crate) id: MemberId,
    pub(crate) term: Term,
    pub(crate) now: Duration,
    pub(crate) commit: LogIndex,
    pub(crate) round: u64,
    pub(crate) log: &'a Log,
    pub(crate) settings: &'a Settings,
}

impl Raft {
    /// Appends a command to the log of a leader. That it returns a position says nothing of its fate: it is done when
    /// the entry of this index *and term* is applied.
    ///
    /// # Errors
    ///
    /// Where this member does not lead, leadership is being handed over, or too much is uncommitted or not yet written
    /// here.
    pub fn propose(&mut self, command: Bytes) -> Result<LogPosition, ProposeError> {
        self.propose_payload(Payload::Command(command))
    }

    /// Appends an entry that says nothing but its stamp.
    ///
    /// # Errors
    ///
    /// As [`Raft::propose`].
    pub fn propose_empty(&mut self) -> Result<LogPosition, ProposeError> {
        self.propose_payload(Payload::Empty)
    }

    fn propose_payload(&mut self, payload: Payload) -> Result<LogPosition, ProposeError> {
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader {
                leader: self.leader(),
            });
        };
        if let Some(handover) = &leader.transfer {
            return Err(ProposeError::Transferring { to: handover.to });
        }
        let bytes_after = |index| self.log.bytes_between(index, self.log.last_index());
        let committed = if mutated(Mutant::UncommittedNeverFalls) {
            self.log.base().position.index
        } else {
            self.commit
        };
        let bytes = bytes_after(committed);
        if self.settings.max_uncommitted_bytes as u64 <= bytes {
            return Err(ProposeError::TooMuchUncommitted { bytes });
        }
        let bytes = bytes_after(self.writes.durable());
        if self.settings.max_unwritten_bytes as u64 <= bytes {
            return Err(ProposeError::TooMuchUnwritten { bytes });
        }
        let position = self.append_as_leader(payload);
        self.check_invariants();
        Ok(position)
    }

    /// Stamps and appends an entry of this leader's term.
    pub(crate) fn append_as_leader(&mut self, payload: Payload) -> LogPosition {
        let Role::Leader(leader) = &self.role else {
            panic!("only a leader appends entries of its own")
        };
        let stamp = leader.clock.stamp();
        let entry = Entry {
            index: self.log.last_index().next(),
            term: self.term(),
            stamp,
            payload,
        };
        let position = entry.position();
        self.append(entry);
        position
    }

    pub(crate) fn tick_leader(&mut self, elapsed: Duration) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader
            .clock
            .advance(elapsed, self.settings.heartbeat_interval);
        leader
            .transfer
            .take_if(|handover| handover.deadline <= self.now);
        if self.has_lost_quorum() {
            self.become_follower(self.term(), None, Some(StepDown::QuorumLost));
        } else {
            self.expire_leader_reads();
            self.give_up_stuck_snapshots();
        }
    }

    /// Whether no quorum has answered anything that was *sent* within the last election timeout (thesis §6.2): the time at
    /// which an answer arrives says nothing, it may have been under way for minutes.
    fn has_lost_quorum(&self) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        let contact = |member| {
            if member == self.id {
                self.now
            } else {
                leader
                    .progress
                    .get(&member)
                    .map_or(Duration::ZERO, |p| p.acked_sent)
            }
        };
        let contact = quorum::reached(self.configuration(), contact).unwrap_or_default();
        self.settings.election_timeout <= self.now.saturating_sub(contact)
            && !mutated(Mutant::QuorumNeverLost)
    }

    /// Says everything that has come up in this turn.
    pub(crate) fn speak(&mut self) {
        match self.role {
            Role::Leader(_) => {
                self.begin_round_if_due();
                self.replicate();
                self.hand_over();
            }
            Role::Follower { .. } => self.ask_leader(),
            Role::PreCandidate { .. } | Role::Candidate { .. } => {}
        }
    }

    /// Begins a round and sends heartbeats for it, where the time has come or reads wait for one.
    fn begin_round_if_due(&mut self) {
        let reads_wait =
            self.is_settled() && matches!(&self.role, Role::Leader(l) if l.reads.want_round());
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if self.now < leader.heartbeat_due && !reads_wait {
            return;
        }
        leader.begin_round(
            self.now,
            self.now.saturating_sub(2 * self.settings.election_timeout),
        );
        leader.heartbeat_due = self.now + self.settings.heartbeat_interval;
        let (term, round) = (self.hard_state.term, leader.round);
        for (&to, progress) in &leader.progress {
            let commit = if mutated(Mutant::HeartbeatCommitsUnmatched) {
                self.commit
            } else {
                self.commit.min(progress.matched)
            };
            let body = Body::Heartbeat { commit, round };
            self.out.messages.push(Message {
                from: self.id,
                to,
                term,
                body,
            });
        }
        if reads_wait {
            let Role::Leader(leader) = &self.role else {
                return;
            };
            let point = self.read_point(leader);
            let Role::Leader(leader) = &mut self.role else {
                return;
            };
            leader.reads.begin(round, point);
            // A single voter is a quorum by itself.
            self.confirm_reads();
        }
    }

    /// Sends to each member what its state asks for.
    fn replicate(&mut self) {
        let Raft {
            id,
            hard_state,
            now,
            commit,
            log,
            settings,
            out,
            role,
            ..
        } = self;
        let Role::Leader(leader) = role else { return };
        let Leader {
            progress, round, ..
        } = leader.as_mut();
        let speech = Speech {
            id: *id,
            term: hard_state.term,
            now: *now,
            commit: *commit,
            round: *round,
            log,
            settings,
        };
        for (&to, progress) in progress {
            speech.replicate_to(to, progress, out);
        }
    }

    /// Takes note that `from` answers. Says no where there is no such member, or no such round yet.
    pub(crate) fn acknowledge(&mut self, from: MemberId, round: u64) -> bool {
        let Role::Leader(leader) = &mut self.role else {
            return false;
        };
        let begun = leader.round_begun(round);
        let is_known = round <= leader.round || mutated(Mutant::StaleRoundCounted);
        let Some(progress) = leader.progress.get_mut(&from).filter(|_| is_known) else {
            return false;
        };
        progress.heard = Some(self.now);
        progress.acked_round = progress.acked_round.max(round);
        progress.acked_sent = progress.acked_sent.max(begun.unwrap_or_default());
        true
    }

    /// Takes note of how long a heartbeat was under way. Appends wait for disks and tell nothing of the network.
    fn measure(&mut self, from: MemberId, round: u64) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let begun = leader.round_begun(round);
        if let (Some(begun), Some(progress)) = (begun, leader.progress.get_mut(&from)) {
            progress.round_trip = Some(now.saturating_sub(begun));
        }
    }

    pub(crate) fn progress_of(&mut self, member: MemberId) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.progress.get_mut(&member),
            _ => None,
        }
    }

    pub(crate) fn on_append_response(&mut self, from: MemberId, result: AppendResult, round: u64) {
        if !self.acknowledge(from, round) {
            return;
        }
        match result {
            AppendResult::Accepted { matched } => self.on_accepted(from, matched),
            AppendResult::Rejected { previous, hint } => self.on_rejected(from, previous, hint),
        }
        self.advance_commit();
        self.confirm_reads();
    }

    fn on_accepted(&mut self, from: MemberId, matched: LogIndex) {
        let (base, last) = (self.log.base().position.index, self.log.last_index());
        let Some(progress) = self.progress_of(from).filter(|_| matched <= last) else {
            return;
        };
        progress.match_through(matched);
        let released = match &progress.state {
            Replication::Probe(_) if progress.matched == matched => progress.become_replicate(),
            // However it got there, the member's log connects to this one: the snapshot has no purpose any more.
            Replication::Snapshot(_)
                if base <= progress.matched && !mutated(Mutant::StuckInSnapshot) =>
            {
                progress.become_replicate()
            }
            _ => None,
        };
        self.release(from, released);
    }

    fn on_rejected(&mut self, from: MemberId, previous: LogIndex, hint: LogPosition) {
        // Where this log cannot agree at all behind its base, the probe falls before it, and a snapshot is due.
        let agreed = self.log.last_not_above(hint.index.min(previous), hint.term);
        let next = agreed.map_or(self.log.base().position.index, |agreed| agreed.index.next());
        let Some(progress) = self.progress_of(from) else {
            return;
        };
        // A member that once matched does not unlearn it: such an answer is an old one.
        if previous <= progress.matched && !mutated(Mutant::NextBelowMatch) {
            return;
        }
        let next = match &progress.state {
            Replication::Probe(_) if mutated(Mutant::ProbeNeverFallsBack) => progress.next,
            Replication::Probe(_) if progress.next.previous() == previous => next.min(previous),
            Replication::Replicate(_) => progress.matched.next(),
            // Late, or of no interest while a snapshot is under way.
            Replication::Probe(_) | Replication::Snapshot(_) => return,
        };
        let released = progress.become_probe(next, Probe::default());
        self.release(from, released);
    }

    /// A heartbeat's answer says only that the member is there; but where it should have more to say, something was lost.
    pub(crate) fn on_heartbeat_response(&mut self, from: MemberId, round: u64) {
        if !self.acknowledge(from, round) {
            return;
        }
        self.measure(from, round);
        let (now, last, interval) = (
            self.now,
            self.log.last_index(),
            self.settings.heartbeat_interval,
        );
        let is_due = |since: Option<Duration>| {
            since.is_none_or(|since| interval <= now.saturating_sub(since))
        };
        let Some(progress) = self.progress_of(from) else {
            return;
        };
        match &mut progress.state {
            Replication::Probe(probe)
                if probe.awaited_since.is_some()
                    && is_due(probe.awaited_since)
                    && !mutated(Mutant::ProbeNotResumed) =>
            {
                *probe = Probe {
                    awaited_since: None,
                    bare: true,
                };
            }
            Replication::Replicate(window) if progress.matched < last && is_due(window.nudged) => {
                window.nudge = true;
                window.nudged = Some(now);
            }
            _ => {}
        }
        self.confirm_reads();
    }

    /// The transport lost its connection to `peer`, so what is in flight may be lost. Waits for a sign of life before
    /// sending more than heartbeats.
    pub fn unreachable(&mut self, peer: MemberId) {
        let now = self.now;
        if let Some(progress) = self.progress_of(peer)
            && matches!(progress.state, Replication::Replicate(_))
        {
            let next = progress.matched.next();
            progress.become_probe(
                next,
                Probe {
                    awaited_since: Some(now),
                    bare: true,
                },
            );
        }
        self.check_invariants();
    }

    /// The configuration whose majorities commit.
    fn deciders(&self) -> Arc<Configuration> {
        let mut deciders = self.configuration().clone();
        if mutated(Mutant::RemovedLeaderCounts) {
            Arc::make_mut(&mut deciders).voters.insert(self.id);
        }
        deciders
    }

    /// Commits what a quorum has on disk. A majority holding an entry of an earlier term does not commit it, since a later
    /// leader could still replace it (Raft §5.4.2, figure 8); an entry of our own term commits everything before it.
    /// The leader's own log counts as far as it is durable, like everybody's.
    pub(crate) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let durable = if mutated(Mutant::LeaderCountsUnwritten) {
            self.log.last_index()
        } else {
            self.writes.durable()
        };
        let matched = |member| {
            if member == self.id {
                durable
            } else {
                leader
                    .progress
                    .get(&member)
                    .map_or(LogIndex(0), |p| p.matched)
            }
        };
        let Some(index) = quorum::reached(&self.deciders(), matched) else {
            return;
        };
        let is_own = self.log.term_at(index) == Some(self.term());
        if self.commit < index && (is_own || mutated(Mutant::OldTermCommitted)) {
            self.commit_to(index);
            self.step_down_if_removed();
        }
    }
}

impl Speech<'_> {
    fn replicate_to(&self, to: MemberId, progress: &mut Progress, out: &mut Ready) {
        match &progress.state {
            Replication::Probe(_) => self.probe(to, progress, out),
            Replication::Replicate(_) => self.stream(to, progress, out),
            Replication::Snapshot(_) => self.send_snapshot(to, progress, out),
        }
    }

    /// One message at a time until the place is found where the logs agree.
    fn probe(&self, to: MemberId, progress: &mut Progress, out: &mut Ready) {
        let Some(previous) = self.log.position_at(progress.next.previous()) else {
            return self.want_snapshot(to, progress, out);
        };
        let Replication::Probe(probe) = &mut progress.state else {
            return;
        };
        if probe.awaited_since.is_some() {
            return;
        }
        let entries = if probe.bare {
            Vec::new()
        } else {
            self.log
                .entries_after(previous.index, self.settings.max_append_bytes)
        };
        probe.awaited_since = Some(self.now);
        progress.told_commit = self.commit;
        out.messages.push(self.append(to, previous, entries));
    }

    /// Sends ahead of the answers, as far as the window allows; if there is nothing to send but news of a commit, or
    /// something may have been lost, an empty append.
    fn stream(&self, to: MemberId, progress: &mut Progress, out: &mut Ready) {
        let (max_messages, max_bytes) = (
            self.settings.max_inflight_messages,
            self.settings.max_inflight_bytes,
        );
        let Replication::Replicate(window) = &mut progress.state else {
            return;
        };
        let mut is_silent = true;
        while progress.next <= self.log.last_index() && !window.is_full(max_messages, max_bytes) {
            let Some(previous) = self.log.position_at(progress.next.previous()) else {
                return self.want_snapshot(to, progress, out);
            };
            let entries = self
                .log
                .entries_after(previous.index, self.settings.max_append_bytes);
            let Some(last) = entries.last().map(|entry| entry.index) else {
                break;
            };
            window.push(last, entries.iter().map(Entry::size).sum());
            progress.next = last.next();
            is_silent = false;
            out.messages.push(self.append(to, previous, entries));
        }
        let has_news =
            progress.told_commit < self.commit && !window.is_full(max_messages, max_bytes);
        if is_silent && (has_news || window.nudge) {
            let Some(previous) = self.log.position_at(progress.next.previous()) else {
                return self.want_snapshot(to, progress, out);
            };
            out.messages.push(self.append(to, previous, Vec::new()));
            is_silent = false;
        }
        if !is_silent {
            window.nudge = false;
            progress.told_commit = self.commit;
        }
    }

    /// Asks for a snapshot, where the member answers at all: one is costly, and keeps the log from being compacted.
    fn want_snapshot(&self, to: MemberId, progress: &mut Progress, out: &mut Ready) {
        if mutated(Mutant::PurgedLogSilent)
            && self.log.last_index() == self.log.base().position.index
        {
            return;
        }
        if progress.is_alive(self.now, self.settings.election_timeout)
            && progress.snapshot_not_before <= self.now
        {
            let at_least = self.log.base().position.index;
            progress.become_snapshot(at_least);
            out.snapshots.push(SnapshotTask::Make { to, at_least });
        }
    }

    fn append(&self, to: MemberId, previous: LogPosition, entries: Vec<Entry>) -> Message {
        self.message(
            to,
            Body::Append {
                previous,
                entries,
                commit: self.commit,
                round: self.round,
            },
        )
    }

    pub(crate) fn message(&self, to: MemberId, body: Body) -> Message {
        Message {
            from: self.id,
            to,
            term: self.term,
            body,
        }
    }
}
