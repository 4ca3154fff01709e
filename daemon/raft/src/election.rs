//! Elections: pre-votes, votes, timers, loyalty to a leader, and the hand-over of leadership.
//!
//! Owns who may campaign and who gets a vote (Raft §5.2, §5.4.1; thesis §3.10, §4.2.3, §9.6). Must never let a vote be
//! spoken of, or a member's own be counted, before it is durable.

use std::time::Duration;

use tenure_mutants::{Mutant, mutated};

use crate::admission;
use crate::core::{Raft, TransferError};
use crate::message::Body;
use crate::quorum::{self, Tally};
use crate::ready::{StepDown, WriteId};
use crate::role::{Handover, Role};
use crate::types::{HardState, LogPosition, MemberId, Term};

impl Raft {
    /// A timeout drawn anew each time from [t, 2t), so that split votes do not repeat themselves (Raft §5.2).
    pub(crate) fn redraw_election_timer(&mut self) {
        let least = self.settings.election_timeout;
        let nanos = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
        self.election_due = self.now + least + Duration::from_nanos(self.rng.u64(..nanos));
    }

    /// Whether it may campaign: it has a vote, is not in the middle of replacing its state, and terms are not used up.
    ///
    /// A member without a vote in a configuration that may not be committed still campaigns where it has one in any
    /// before it that may be the last that is (thesis §4.2.2): it may be the only one whose log is long enough to win. After
    /// a restart that are many, since nothing is known to be committed behind the checkpoint.
    fn may_campaign(&self) -> bool {
        let has_vote = self.configuration().is_voter(self.id)
            || self
                .log
                .configurations_from(self.commit)
                .any(|known| known.is_voter(self.id))
                && !mutated(Mutant::RemovedNeverCampaigns);
        has_vote
            && (self.installing.is_none() || mutated(Mutant::CampaignDuringInstall))
            && self.term().0 + 1 < admission::LIMIT
    }

    /// Whether it has reason to believe that a leader other than `from` works (thesis §4.2.3). A leader that asks for
    /// votes says itself that it leads no more.
    pub(crate) fn is_loyal(&self, from: MemberId) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower {
                following: Some(following),
            } => following.leader != from && self.is_fresh(following),
            _ => false,
        }
    }

    /// No leader was heard from for long enough.
    pub(crate) fn election_timeout_passed(&mut self) {
        if self.may_campaign() {
            self.become_pre_candidate();
            let last = self.log.last_position();
            let next = Term(self.term().0 + 1);
            for voter in self.other_voters() {
                let mut message = self.message(voter, Body::PreVote { last });
                message.term = next;
                self.out.messages.push(message);
            }
            self.count_pre_votes();
        } else if matches!(self.role, Role::Follower { following: None }) {
            self.redraw_election_timer();
        } else {
            self.become_follower(self.term(), None, None);
        }
    }

    fn other_voters(&self) -> Vec<MemberId> {
        let configuration = self.configuration();
        configuration
            .members()
            .into_iter()
            .filter(|&id| id != self.id && configuration.is_voter(id))
            .collect()
    }

    /// Campaigns. With `transfer` the leader itself asked for it.
    fn campaign(&mut self, transfer: bool) {
        self.become_candidate();
        let last = self.log.last_position();
        for voter in self.other_voters() {
            // Held back until term, own vote and the log up to `last` are durable: whoever grants a vote must
            // find all three again after this member restarts.
            let message = self.message(voter, Body::Vote { last, transfer });
            if mutated(Mutant::CampaignUnsynced) {
                self.out.messages.push(message);
            } else {
                self.writes.hold_with_pending(message);
            }
        }
    }

    /// Answers whether it would vote, and changes nothing.
    pub(crate) fn on_pre_vote(&mut self, from: MemberId, term: Term, last: LogPosition) {
        let granted = self.term() < term && self.is_up_to_date(last) && !self.is_loyal(from);
        let mut message = self.message(from, Body::PreVoteResponse { granted });
        if granted {
            message.term = term;
        }
        self.out.messages.extend(self.writes.hold(message));
    }

    pub(crate) fn on_pre_vote_response(&mut self, from: MemberId, term: Term, granted: bool) {
        let answers_this = if granted {
            term.0 == self.term().0 + 1
        } else {
            term == self.term()
        };
        if let Role::PreCandidate { votes } = &mut self.role
            && answers_this
        {
            votes.entry(from).or_insert(granted);
            self.count_pre_votes();
        }
    }

    fn count_pre_votes(&mut self) {
        if let Role::PreCandidate { votes } = &self.role
            && quorum::tally(self.configuration(), votes) == Tally::Won
        {
            self.campaign(false);
        }
    }

    /// Grants its one vote of the term to the first candidate whose log is at least as up to date (Raft §5.4.1).
    /// Learners vote too when asked: they may have been made voters and not know it yet (thesis §4.2.2).
    pub(crate) fn on_vote(&mut self, from: MemberId, last: LogPosition) {
        let is_free = match self.hard_state.vote {
            Some(vote) => vote == from,
            None => matches!(
                self.role,
                Role::Follower { following: None } | Role::PreCandidate { .. }
            ),
        };
        let refuses =
            mutated(Mutant::LearnerRefusesVote) && !self.configuration().is_voter(self.id);
        let granted = is_free && self.is_up_to_date(last) && !refuses;
        if granted {
            self.grant_vote(from);
        }
        if mutated(Mutant::VoteUnsynced) {
            return self.send(from, Body::VoteResponse { granted });
        }
        self.send_after_writes(from, Body::VoteResponse { granted });
    }

    /// Whether a log that ends there has all that this one has, as far as it may be committed (Raft §5.4.1).
    fn is_up_to_date(&self, last: LogPosition) -> bool {
        let mine = self.log.last_position();
        if mutated(Mutant::LogsComparedApart) {
            return mine.term <= last.term && mine.index <= last.index;
        }
        mine <= last || mutated(Mutant::VoteIgnoresLog)
    }

    fn grant_vote(&mut self, candidate: MemberId) {
        if self.hard_state.vote.is_none() {
            self.store_hard_state(HardState {
                term: self.term(),
                vote: Some(candidate),
            });
        }
        if matches!(self.role, Role::PreCandidate { .. }) {
            self.become_follower(self.term(), None, None);
        }
        self.redraw_election_timer();
    }

    /// The first answer of each member counts; a candidate that has lost waits for its timer (Raft §5.2).
    pub(crate) fn on_vote_response(&mut self, from: MemberId, granted: bool) {
        if let Role::Candidate { votes, .. } = &mut self.role {
            votes.entry(from).or_insert(granted);
            self.count_votes();
        }
    }

    /// A candidate's own vote counts once it is durable, like everybody's.
    pub(crate) fn count_own_vote(&mut self, persisted: WriteId) {
        if let Role::Candidate { votes, own_vote } = &mut self.role
            && *own_vote <= persisted
        {
            votes.insert(self.id, true);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        if let Role::Candidate { votes, .. } = &self.role
            && quorum::tally(self.configuration(), votes) == Tally::Won
        {
            self.become_leader();
        }
    }

    /// Hands leadership to `to` once its log is complete (thesis §3.10). Proposals are refused meanwhile, or another
    /// member could end up with the longer log; after an election timeout without success they are taken again.
    ///
    /// # Errors
    ///
    /// Where this member does not lead, `to` leads already or has no vote, or another transfer is under way.
    pub fn transfer_leadership(&mut self, to: MemberId) -> Result<(), TransferError> {
        let deadline = self.now + self.settings.election_timeout;
        // Who is on the way out would have to hand it on at once.
        let is_voter = self.configuration().voters.contains(&to);
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferError::NotLeader);
        };
        if to == self.id {
            return Err(TransferError::AlreadyLeader);
        }
        if !is_voter {
            return Err(TransferError::NotVoter(to));
        }
        if let Some(under_way) = &leader.transfer {
            return Err(TransferError::InProgress { to: under_way.to });
        }
        leader.transfer = Some(Handover {
            to,
            deadline,
            told: false,
        });
        self.check_invariants();
        Ok(())
    }

    /// Tells the target of a transfer to campaign, once it has everything.
    pub(crate) fn hand_over(&mut self) {
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(handover) = leader.transfer.as_mut().filter(|handover| !handover.told) else {
            return;
        };
        let to = handover.to;
        if leader
            .progress
            .get(&to)
            .is_some_and(|progress| progress.matched == last)
        {
            handover.told = true;
            self.send(to, Body::TimeoutNow);
        }
    }

    /// The leader wants this member to lead: no pre-vote, since the others are still loyal to that leader.
    pub(crate) fn on_timeout_now(&mut self) {
        if matches!(self.role, Role::Follower { .. }) && self.may_campaign() {
            self.campaign(true);
        }
    }

    /// Gives up leadership or candidacy, because the caller knows that it cannot be filled. Nothing happens to a follower.
    pub fn step_down(&mut self, reason: StepDown) {
        if !matches!(self.role, Role::Follower { .. }) {
            self.become_follower(self.term(), None, Some(reason));
        }
        self.check_invariants();
    }
}
