//! Changes of the membership: who may join, vote and leave, and when (thesis §4).
//!
//! Owns which configuration may follow which. One change at a time, and only while an entry of the leader's own term and
//! the configuration in force are committed, or two changes could go on from different ones (the flaw of the thesis'
//! first edition). Whatever changes voters goes through a joint configuration (thesis §4.3), which the leader ends by
//! itself as soon as it is committed, whichever leader that is. Must never let a change be appended after which the
//! members that are known to be alive are no quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};
use thiserror::Error;

use crate::core::Raft;
use crate::message::Body;
use crate::progress::{Progress, Replication};
use crate::ready::SnapshotTask;
use crate::role::{Leader, Role};
use crate::types::{Configuration, LogIndex, LogPosition, MemberId, MemberInfo, Payload};

/// A member that has not answered so many heartbeats is not counted on when the membership is changed.
const LATELY_HEARTBEATS: u32 = 3;

/// A change of the membership.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A new learner.
    Add {
        /// Who; an id that was never a member's.
        id: MemberId,
        /// How it is called and reached.
        info: MemberInfo,
        /// Whether it is made a voter by itself once it has caught up.
        promote: bool,
    },
    /// A new learner that takes the place of another member once it has caught up.
    Replace {
        /// Who leaves.
        old: MemberId,
        /// Who comes; an id that was never a member's.
        id: MemberId,
        /// How it is called and reached.
        info: MemberInfo,
    },
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member leaves, and its id is never a member's again.
    Remove(MemberId),
    /// A member is called or reached in another way, or has started anew.
    Update {
        /// Who.
        id: MemberId,
        /// All that is known of it from now on.
        info: MemberInfo,
    },
}

/// Why the membership was not changed. Nothing was appended.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ChangeError {
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<MemberId>,
    },
    /// Something must be done first; it will be, while there is a quorum.
    #[error("{0}")]
    Busy(Busy),
    /// There is no such member.
    #[error("{0} is not a member")]
    Unknown(MemberId),
    /// The change would cost the quorum, or break what members rely on.
    #[error("{0}")]
    Unsafe(Unsafe),
}

/// What a change has to wait for.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Busy {
    /// The leader has not committed an entry of its own term.
    #[error("the leader was just elected")]
    Unsettled,
    /// Another change is not committed.
    #[error("another change of the membership, entry {0} of the log, is not committed yet")]
    Uncommitted(LogIndex),
    /// The voters are being changed.
    #[error("another change of the voters is under way")]
    Joint,
    /// Leadership is being handed over.
    #[error("leadership is being transferred to {0}")]
    Transferring(MemberId),
}

/// What a change would break.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Unsafe {
    /// The id is a member's.
    #[error("{0} is a member already")]
    AlreadyMember(MemberId),
    /// The id was a member's, which may have forgotten what it acknowledged.
    #[error("{0} was a member and was removed: an id is never used again")]
    Removed(MemberId),
    /// Only learners are promoted.
    #[error("{0} has a vote already")]
    AlreadyVoter(MemberId),
    /// A learner that lags would count and not be able to acknowledge anything soon.
    #[error("{id} has caught up to entry {matched} of {commit} only")]
    LagsBehind {
        /// Who.
        id: MemberId,
        /// The last entry that it is known to have.
        matched: LogIndex,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// A member that does not answer would be needed.
    #[error("{0} does not answer")]
    Silent(MemberId),
    /// Nobody would be left.
    #[error("{0} is the last member with a vote")]
    LastVoter(MemberId),
    /// Too few of those who would have votes are alive.
    #[error(
        "of the {voters} members that would have votes {alive} answer, and {needed} are needed"
    )]
    QuorumLost {
        /// How many would have votes.
        voters: usize,
        /// How many of them answer.
        alive: usize,
        /// How many are needed to decide anything.
        needed: usize,
    },
}

/// What became of a change that was appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeFate {
    /// It is committed, and no voters are being changed any more.
    Done,
    /// Neither is known yet.
    Undecided,
    /// Another entry is committed in its place.
    RolledBack,
}

impl From<Unsafe> for ChangeError {
    fn from(reason: Unsafe) -> ChangeError {
        ChangeError::Unsafe(reason)
    }
}

impl From<Busy> for ChangeError {
    fn from(reason: Busy) -> ChangeError {
        ChangeError::Busy(reason)
    }
}

impl Raft {
    /// Changes the membership. The change is done when the entry of this position is committed, and those that change
    /// voters when a later configuration is that is not joint.
    ///
    /// # Errors
    ///
    /// Where this member does not lead, something else is under way, or the change cannot be made safely.
    pub fn change_membership(&mut self, change: Change) -> Result<LogPosition, ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader {
                leader: self.leader(),
            });
        }
        self.check_may_change()?;
        let next = self.changed(change)?;
        let position = self.append_configuration(next);
        self.check_invariants();
        Ok(position)
    }

    /// What a change of the membership would have to wait for now, at a leader.
    pub fn change_waits_for(&self) -> Option<Busy> {
        self.check_may_change().err()
    }

    fn check_may_change(&self) -> Result<(), Busy> {
        let Role::Leader(leader) = &self.role else {
            return Err(Busy::Unsettled);
        };
        if let Some(handover) = &leader.transfer {
            return Err(Busy::Transferring(handover.to));
        }
        if !self.is_settled() {
            return Err(Busy::Unsettled);
        }
        let at = self.log.configuration_index();
        if mutated(Mutant::ChangeUncommitted) {
            return Ok(());
        }
        if self.commit < at {
            return Err(Busy::Uncommitted(at));
        }
        if self.configuration().is_joint() {
            return Err(Busy::Joint);
        }
        Ok(())
    }

    /// The configuration that a change makes of the one in force.
    fn changed(&self, change: Change) -> Result<Configuration, ChangeError> {
        let mut next = Configuration::clone(self.configuration());
        match change {
            Change::Add { id, info, promote } => {
                check_is_new(&next, id)?;
                next.learners.insert(id);
                next.info.insert(id, info);
                if promote {
                    next.promoting.insert(id, None);
                }
            }
            Change::Replace { old, id, info } => {
                check_is_member(&next, old)?;
                check_is_new(&next, id)?;
                // Who was on the way into that place has not arrived.
                let late: Vec<MemberId> = next
                    .promoting
                    .iter()
                    .filter(|(_, replaced)| **replaced == Some(old))
                    .map(|(learner, _)| *learner)
                    .collect();
                late.into_iter().for_each(|learner| next.forget(learner));
                next.learners.insert(id);
                next.info.insert(id, info);
                match (next.is_voter(old), next.promoting.get(&old).copied()) {
                    (true, _) => drop(next.promoting.insert(id, Some(old))),
                    // A learner has nothing that has to be handed over: the newcomer is what it was.
                    (false, inherited) => {
                        next.forget(old);
                        if let Some(replaced) = inherited {
                            next.promoting.insert(id, replaced);
                        }
                    }
                }
            }
            Change::Promote(id) => {
                check_is_member(&next, id)?;
                if next.is_voter(id) {
                    return Err(Unsafe::AlreadyVoter(id).into());
                }
                return Ok(self.promoted(id)?);
            }
            Change::Remove(id) => {
                check_is_member(&next, id)?;
                if next.is_voter(id) {
                    let mut voters = next.voters.clone();
                    voters.remove(&id);
                    if voters.is_empty() {
                        return Err(Unsafe::LastVoter(id).into());
                    }
                    return Ok(self.joint(voters)?);
                }
                next.forget(id);
            }
            Change::Update { id, info } => {
                check_is_member(&next, id)?;
                next.info.insert(id, info);
            }
        }
        Ok(next)
    }

    /// The joint configuration in which a learner is on its way to a vote, and whom it replaces on the way out.
    fn promoted(&self, id: MemberId) -> Result<Configuration, Unsafe> {
        self.check_caught_up(id)?;
        let configuration = self.configuration();
        let mut voters = configuration.voters.clone();
        voters.insert(id);
        if let Some(Some(old)) = configuration.promoting.get(&id) {
            voters.remove(old);
        }
        let mut next = self.joint(voters)?;
        next.learners.remove(&id);
        next.promoting.remove(&id);
        Ok(next)
    }

    /// The configuration between the voters in force and `voters` (thesis §4.3).
    fn joint(&self, voters: BTreeSet<MemberId>) -> Result<Configuration, Unsafe> {
        let alive = voters.iter().filter(|id| self.is_alive(**id)).count();
        let needed = voters.len() / 2 + 1;
        if alive < needed && !mutated(Mutant::QuorumChangedAway) {
            return Err(Unsafe::QuorumLost {
                voters: voters.len(),
                alive,
                needed,
            });
        }
        let configuration = Configuration::clone(self.configuration());
        let joint = Configuration {
            outgoing: configuration.voters.clone(),
            voters,
            ..configuration
        };
        if mutated(Mutant::JointSkipped) {
            return Ok(joint.left());
        }
        Ok(joint)
    }

    /// Whether a member has answered something that was sent within the last heartbeats. What is decided by this must not
    /// count on somebody who died a moment ago: that a sound member is passed over costs only another try.
    fn is_alive(&self, id: MemberId) -> bool {
        let lately = |progress: &Progress| {
            let heartbeats = self.settings.heartbeat_interval * LATELY_HEARTBEATS;
            let round_trip = progress.round_trip.unwrap_or_default();
            (heartbeats + round_trip).min(self.settings.election_timeout)
        };
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        id == self.id
            || leader.progress.get(&id).is_some_and(|progress| {
                progress.heard.is_some()
                    && self.now.saturating_sub(progress.acked_sent) <= lately(progress)
            })
    }

    /// Whether a learner would be of use as a voter at once: it answers, and lacks less than one append of what is
    /// committed (thesis §4.2.1).
    fn check_caught_up(&self, id: MemberId) -> Result<(), Unsafe> {
        if !self.is_alive(id) {
            return Err(Unsafe::Silent(id));
        }
        let Role::Leader(leader) = &self.role else {
            return Err(Unsafe::Silent(id));
        };
        let progress = &leader.progress[&id];
        let lacks = self.log.bytes_between(progress.matched, self.commit);
        let is_streaming = matches!(progress.state, Replication::Replicate(_));
        if is_streaming && lacks <= self.settings.max_append_bytes as u64 {
            return Ok(());
        }
        Err(Unsafe::LagsBehind {
            id,
            matched: progress.matched,
            commit: self.commit,
        })
    }

    /// Whether [`Raft::carry_changes_on`] would append something now.
    pub fn has_change_due(&self) -> bool {
        self.change_due().is_some()
    }

    /// Goes on with what was begun, whichever leader began it: leaves a joint configuration that is committed, and
    /// promotes a learner that has caught up. The caller calls it in every turn, after it has appended what must stand in
    /// the log before any other entry.
    pub fn carry_changes_on(&mut self) {
        if let Some(next) = self.change_due() {
            self.append_configuration(next);
            self.check_invariants();
        }
    }

    fn change_due(&self) -> Option<Configuration> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        let configuration = self.configuration();
        if leader.transfer.is_some() {
            return None;
        }
        if configuration.is_joint() {
            let is_committed = self.log.configuration_index() <= self.commit
                || mutated(Mutant::JointLeftUncommitted);
            // The entry that settles this term also commits a joint configuration of an earlier one.
            let is_due = is_committed && self.is_settled() && !self.leaves_joint_behind();
            return is_due.then(|| configuration.left());
        }
        if configuration.promoting.is_empty() || self.check_may_change().is_err() {
            return None;
        }
        let mut learners = configuration.promoting.keys();
        learners.find_map(|id| self.promoted(*id).ok())
    }

    /// Whether the joint configuration is another leader's and, by mistake, nobody's business.
    fn leaves_joint_behind(&self) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        mutated(Mutant::JointNeverLeft) && self.log.configuration_index() < leader.first
    }

    /// Appends a configuration, which is in force from now on.
    fn append_configuration(&mut self, configuration: Configuration) -> LogPosition {
        assert!(
            crate::configuration::is_sound(&configuration),
            "an unsound configuration is to be appended: {configuration:?}"
        );
        let position = self.append_as_leader(Payload::Configuration(Arc::new(configuration)));
        self.follow_configuration();
        // A group of one commits by itself, and what it has on disk may now be enough.
        self.advance_commit();
        position
    }

    /// Looks after every member of the configuration in force, and nobody else.
    fn follow_configuration(&mut self) {
        let members = self.configuration().members();
        let (now, id, last) = (self.now, self.id, self.log.last_index());
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        for member in members.iter().filter(|member| **member != id) {
            leader
                .progress
                .entry(*member)
                .or_insert_with(|| Progress::new(last, now));
        }
        let gone = |member: &MemberId| !members.contains(member);
        let left: Vec<MemberId> = leader.progress.keys().copied().filter(gone).collect();
        for to in left {
            let progress = leader.progress.remove(&to);
            if let Some(sending) = progress.and_then(|mut progress| progress.take_sending()) {
                self.out
                    .snapshots
                    .push(SnapshotTask::Release { to, file: sending });
            }
        }
    }

    /// A leader that a committed configuration leaves without a vote has done its last service (thesis §4.2.2), but for
    /// asking whoever has all of its log to go on.
    pub(crate) fn step_down_if_removed(&mut self) {
        let is_committed = self.log.configuration_index() <= self.commit;
        if !is_committed || self.configuration().is_voter(self.id) {
            return;
        }
        if let Role::Leader(leader) = &self.role
            && let Some(to) = most_advanced(leader, self.configuration())
        {
            self.send(to, Body::TimeoutNow);
        }
        self.become_follower(self.term(), None, Some(crate::ready::StepDown::Removed));
    }

    /// Where the configuration in force stands in the log.
    pub fn configuration_position(&self) -> LogPosition {
        let index = self.log.configuration_index();
        let base = self.log.base().position;
        self.log.position_at(index).unwrap_or(base)
    }

    /// What became of a change that this member appended when it led.
    pub fn change_fate(&self, position: LogPosition) -> ChangeFate {
        match self.log.term_at(position.index) {
            // An entry that gave way here may still be committed by others (Raft §5.4.2, figure 8), until another is.
            Some(term) if term != position.term && position.index <= self.commit => {
                ChangeFate::RolledBack
            }
            Some(term) if term != position.term => ChangeFate::Undecided,
            None if self.log.base().position < position => ChangeFate::Undecided,
            _ if self.commit < position.index || self.committed_configuration().is_joint() => {
                ChangeFate::Undecided
            }
            _ => ChangeFate::Done,
        }
    }

    /// The configuration as far as this member knows it to be committed.
    pub fn committed_configuration(&self) -> &Arc<Configuration> {
        self.log.configuration_at(self.commit)
    }

    /// Whether this member was removed, by a configuration that is committed as far as this member knows.
    pub fn is_removed(&self) -> bool {
        self.committed_configuration().removed.contains(&self.id)
    }
}

fn most_advanced(leader: &Leader, configuration: &Configuration) -> Option<MemberId> {
    let voters = leader
        .progress
        .iter()
        .filter(|(id, _)| configuration.voters.contains(id));
    voters
        .max_by_key(|(_, progress)| progress.matched)
        .map(|(id, _)| *id)
}

fn check_is_member(configuration: &Configuration, id: MemberId) -> Result<(), ChangeError> {
    if configuration.contains(id) {
        return Ok(());
    }
    Err(ChangeError::Unknown(id))
}

fn check_is_new(configuration: &Configuration, id: MemberId) -> Result<(), Unsafe> {
    if configuration.contains(id) && !mutated(Mutant::AddedTwice) {
        return Err(Unsafe::AlreadyMember(id));
    }
    if configuration.removed.contains(&id) && !mutated(Mutant::RemovedIdReturns) {
        return Err(Unsafe::Removed(id));
    }
    Ok(())
}

impl Configuration {
    /// Whether it is joint: every decision needs a majority of both halves.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What a joint configuration becomes: the incoming half alone. Who is in no half any more was removed.
    #[must_use]
    pub fn left(&self) -> Configuration {
        let mut next = self.clone();
        let outgoing = std::mem::take(&mut next.outgoing);
        for gone in outgoing.difference(&self.voters) {
            next.forget(*gone);
        }
        next
    }

    /// Takes a member out, for ever.
    fn forget(&mut self, id: MemberId) {
        self.learners.remove(&id);
        self.info.remove(&id);
        self.promoting.remove(&id);
        for replaced in self.promoting.values_mut() {
            replaced.take_if(|replaced| *replaced == id);
        }
        self.removed.insert(id);
    }

    /// Whom a learner on its way to a vote will replace, and which learners are on that way.
    pub fn promotions(&self) -> &BTreeMap<MemberId, Option<MemberId>> {
        &self.promoting
    }
}
