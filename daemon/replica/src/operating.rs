//! What operators ask of the leader, and what members tell it of themselves.
//!
//! Owns the way of an operation to the leader and of its answer back, and the introductions: each start of a member has a
//! number of its own, which the leader has logged in the configuration. A member whose disk does not know the number
//! that is logged for it runs on an old copy of that disk. An operation is sent at most once; whoever asked hears that it
//! was done, why it was not, or nothing, which means *unknown*.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_mutants::{Mutant, mutated};
use tenure_raft::{
    Change, ChangeError, ChangeFate, Configuration, LogPosition, MemberId, MemberInfo,
    TransferError,
};
use tenure_state::FIRST_STATE_VERSION;

use crate::core::Core;
use crate::peer::PeerMessage;

/// An operation that waits for its answer is given up after this time: its outcome is unknown then.
const PATIENCE: Duration = Duration::from_secs(5);
/// A member that the leader has not taken note of introduces itself so often.
const INTRODUCE_EVERY: Duration = Duration::from_millis(500);

/// What an operator wants done by the leader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AdminRequest {
    /// A change of the membership. Answered when it is committed, and no voters are being changed any more. Whoever becomes a
    /// member by it is taken to follow the first rules and no others.
    Change(Change),
    /// A change by which somebody becomes a member that has said which rules it can follow. Answered in the same way.
    Admit {
        /// [`Change::Add`] or [`Change::Replace`].
        change: Change,
        /// The newest version of the rules that the newcomer can follow.
        follows: u64,
    },
    /// Leadership goes to this member, or to the one that is furthest ahead. Answered as soon as that has begun.
    Transfer(Option<MemberId>),
}

/// What came of an operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operated {
    /// The membership is as asked.
    Changed,
    /// Leadership is on its way to this member.
    HandedTo(MemberId),
    /// Nothing was done: no leader is known, or the member asked is not it any more.
    NoLeader,
    /// Nothing was done: something must be done first, as the sentence says.
    Busy(String),
    /// Nothing was done: it would cost the quorum or break what members rely on, as the sentence says.
    Unsafe(String),
    /// Nothing was done: there is no such member.
    NoSuchMember(MemberId),
    /// It may have been done or not.
    Unknown,
}

/// What a member knows of its own starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Introduction {
    /// The number of this start.
    pub start: u64,
    /// The numbers of earlier starts that may be the one logged, this one included.
    pub known: Vec<u64>,
    /// Where clients reach the member now.
    pub client_url: String,
    /// Where other members reach it now; `None` where it does not say, and what is known stays.
    pub peer_url: Option<String>,
}

/// More starts of a member are never in doubt than this.
pub const KNOWN_STARTS: usize = 1024;

impl Introduction {
    /// What a member says of its next start, whose number is `drawn`: its disk knows the numbers in `known`, and
    /// `committed` is the configuration at the last entry that it certainly has applied. What was drawn before the number
    /// that is logged there can be forgotten. One in an entry that is not committed proves nothing: it may be rolled
    /// back, and the number before it would be the one that is logged. A member that starts again and again and is never
    /// heard of draws no more.
    #[must_use]
    pub fn next(
        id: MemberId,
        committed: &Configuration,
        mut known: Vec<u64>,
        drawn: u64,
        client_url: String,
        peer_url: Option<String>,
    ) -> Introduction {
        let logged = committed.info.get(&id).and_then(|info| info.start);
        if let Some(at) = known.iter().position(|start| Some(*start) == logged) {
            known.drain(..at);
        }
        if known.len() < KNOWN_STARTS {
            known.push(drawn);
        }
        Introduction {
            start: known.last().copied().unwrap_or(drawn),
            known,
            client_url,
            peer_url,
        }
    }
}

impl From<ChangeError> for Operated {
    fn from(error: ChangeError) -> Operated {
        match error {
            ChangeError::NotLeader { .. } => Operated::NoLeader,
            ChangeError::Busy(reason) => Operated::Busy(reason.to_string()),
            ChangeError::Unknown(id) => Operated::NoSuchMember(id),
            ChangeError::Unsafe(reason) => Operated::Unsafe(reason.to_string()),
        }
    }
}

impl From<TransferError> for Operated {
    fn from(error: TransferError) -> Operated {
        match error {
            TransferError::NotLeader => Operated::NoLeader,
            TransferError::InProgress { .. } => Operated::Busy(error.to_string()),
            TransferError::AlreadyLeader
            | TransferError::NotVoter(_)
            | TransferError::NoCandidate => Operated::Unsafe(error.to_string()),
        }
    }
}

/// Operations under way, and introductions.
#[derive(Debug, Default)]
pub(crate) struct Operating {
    /// Asked of the leader by this member: until when an answer is awaited.
    asked: BTreeMap<u64, (MemberId, Duration)>,
    /// Operations that have come in this turn. They are done at its end, when every renewal that came before them, or
    /// beside them, is known: what they append may end leases.
    wanted: Vec<(MemberId, u64, AdminRequest)>,
    /// Changes that this leader has appended, with whoever asked for them.
    appended: Vec<(LogPosition, MemberId, u64)>,
    /// What this member says of itself.
    introduction: Option<Introduction>,
    introduced: Option<Duration>,
    /// What others have said of themselves, to be logged.
    to_log: BTreeMap<MemberId, Introduction>,
    /// The number that is logged for this member and that its disk does not know.
    stranger: Option<u64>,
}

impl Core {
    /// What this member says of itself to leaders from now on.
    pub fn introduce(&mut self, introduction: Introduction) {
        self.operating.introduction = Some(introduction);
    }

    /// The number of this start of the member; 0 where it was not introduced.
    pub(crate) fn own_start(&self) -> u64 {
        let introduction = self.operating.introduction.as_ref();
        introduction.map_or(0, |introduction| introduction.start)
    }

    /// The number of a start that is logged for this member and of which its disk knows nothing: it is an old copy.
    pub fn disk_went_back(&self) -> Option<u64> {
        self.operating.stranger
    }

    pub(crate) fn operate(&mut self, token: u64, operation: AdminRequest) {
        let me = self.id;
        match self.raft.leader() {
            Some(leader) if leader == me => self.want_operation(me, token, operation),
            Some(leader) => {
                let until = self.now + PATIENCE;
                self.operating.asked.insert(token, (leader, until));
                self.out
                    .send
                    .push((leader, PeerMessage::Operate { token, operation }));
            }
            None => self.out.operated.push((token, Operated::NoLeader)),
        }
    }

    /// Has an operation done at the end of this turn.
    pub(crate) fn want_operation(&mut self, from: MemberId, token: u64, operation: AdminRequest) {
        self.operating.wanted.push((from, token, operation));
    }

    /// Does an operation here, if this is the leader, and answers unless that has to wait.
    fn do_operation(&mut self, from: MemberId, token: u64, operation: AdminRequest) {
        let (change, follows) = match operation {
            AdminRequest::Change(change) => (change, FIRST_STATE_VERSION),
            AdminRequest::Admit { change, follows } => (change, follows),
            AdminRequest::Transfer(to) => {
                let result = match self.transfer_leadership(to) {
                    Ok(to) => Operated::HandedTo(to),
                    Err(error) => error.into(),
                };
                return self.answer_operation(from, token, result);
            }
        };
        match self.append_change(change, follows) {
            Ok(position) => self.operating.appended.push((position, from, token)),
            Err(refused) => self.answer_operation(from, token, refused),
        }
    }

    /// Appends a change, if this is the leader and it may be made now; where it stands.
    fn append_change(&mut self, change: Change, follows: u64) -> Result<LogPosition, Operated> {
        if !self.raft.is_leader() {
            return Err(Operated::NoLeader);
        }
        if self.is_so(&change) {
            // Two have asked for one thing at once, as a newcomer and its operator may: both hear when it is done.
            return Ok(self.raft.configuration_position());
        }
        if let Some(taken) = self.name_is_taken(&change) {
            return Err(Operated::Unsafe(taken));
        }
        if let Change::Add { id, .. } | Change::Replace { id, .. } = &change {
            self.check_newcomer(*id, follows)?;
        }
        // Renewals that wait are logged for a change alone, not for one that is refused.
        if let Some(reason) = self.raft.change_waits_for() {
            return Err(Operated::Busy(reason.to_string()));
        }
        if !self.log_renewals() {
            let why = "the log takes nothing more just now";
            return Err(Operated::Busy(why.to_owned()));
        }
        Ok(self.raft.change_membership(change)?)
    }

    /// Whether the configuration in force is what the change would make of it.
    fn is_so(&self, change: &Change) -> bool {
        let configuration = self.raft.configuration();
        let (id, info, replaces) = match change {
            Change::Add { id, info, .. } => (id, info, None),
            Change::Replace { old, id, info } => (id, info, Some(Some(*old))),
            Change::Promote(_) | Change::Remove(_) | Change::Update { .. } => return false,
        };
        let is_called = |known: &MemberInfo| {
            (&known.name, &known.peer_url, &known.client_url)
                == (&info.name, &info.peer_url, &info.client_url)
        };
        configuration.info.get(id).is_some_and(is_called)
            && replaces.is_none_or(|old| configuration.promoting.get(id) == Some(&old))
    }

    /// Names are labels, and people go by them: whoever comes has one that nobody has but whom it replaces. The leader looks,
    /// since two may be added at once at two members.
    fn name_is_taken(&self, change: &Change) -> Option<String> {
        let (newcomer, info, replaces) = match change {
            Change::Add { id, info, .. } => (id, info, None),
            Change::Replace { old, id, info } => (id, info, Some(*old)),
            Change::Promote(_) | Change::Remove(_) | Change::Update { .. } => return None,
        };
        let configuration = self.raft.configuration();
        let is_replaced = |id: &MemberId| {
            replaces.is_some()
                && (Some(*id) == replaces || configuration.promoting.get(id) == Some(&replaces))
        };
        let mut others = configuration.info.iter();
        let (id, _) = others.find(|(id, other)| {
            !other.name.is_empty() && other.name == info.name && *id != newcomer && !is_replaced(id)
        })?;
        Some(format!("member {id} is called {} already", info.name))
    }

    pub(crate) fn answer_operation(&mut self, to: MemberId, token: u64, result: Operated) {
        if to == self.id {
            self.out.operated.push((token, result));
        } else {
            let message = PeerMessage::Operated { token, result };
            self.out.send.push((to, message));
        }
    }

    pub(crate) fn hear_operated(&mut self, from: MemberId, token: u64, result: Operated) {
        let is_awaited = |(leader, _): &(MemberId, Duration)| *leader == from;
        if self.operating.asked.get(&token).is_some_and(is_awaited) {
            self.operating.asked.remove(&token);
            self.out.operated.push((token, result));
        }
    }

    /// A member says which start of it this is.
    pub(crate) fn hear_introduction(&mut self, from: MemberId, introduction: Introduction) {
        let Some(info) = self.raft.configuration().info.get(&from) else {
            return;
        };
        if !self.raft.is_leader() {
            return;
        }
        match info.start {
            Some(logged)
                if !introduction.known.contains(&logged) && !mutated(Mutant::OldCopyWelcome) =>
            {
                self.out.send.push((from, PeerMessage::WentBack { logged }));
            }
            _ => {
                self.operating.to_log.insert(from, introduction);
            }
        }
    }

    /// The leader says that it has logged a start of this member that this member knows nothing of.
    pub(crate) fn hear_went_back(&mut self, from: MemberId, logged: u64) {
        let Some(introduction) = &self.operating.introduction else {
            return;
        };
        if self.raft.leader() == Some(from) && !introduction.known.contains(&logged) {
            self.operating.stranger = Some(logged);
        }
    }

    /// What time and the log bring about: answers, introductions, and the numbers of starts that are to be logged.
    pub(crate) fn carry_operations_on(&mut self) {
        for (from, token, operation) in std::mem::take(&mut self.operating.wanted) {
            self.do_operation(from, token, operation);
        }
        self.give_up_operations();
        self.answer_changes();
        self.check_own_start();
        self.introduce_itself();
        self.log_starts();
        if self.raft.has_change_due() && self.log_renewals() {
            self.raft.carry_changes_on();
        }
    }

    fn give_up_operations(&mut self) {
        let now = self.now;
        let asked = &mut self.operating.asked;
        let late = asked.iter().filter(|(_, (_, until))| *until <= now);
        let late: Vec<u64> = late.map(|(token, _)| *token).collect();
        asked.retain(|token, _| !late.contains(token));
        self.out
            .operated
            .extend(late.into_iter().map(|token| (token, Operated::Unknown)));
    }

    fn answer_changes(&mut self) {
        let appended = std::mem::take(&mut self.operating.appended);
        for (position, from, token) in appended {
            match self.raft.change_fate(position) {
                ChangeFate::Done => self.answer_operation(from, token, Operated::Changed),
                ChangeFate::Undecided if self.raft.is_leader() => {
                    self.operating.appended.push((position, from, token));
                }
                ChangeFate::Undecided => self.answer_operation(from, token, Operated::Unknown),
                ChangeFate::RolledBack => self.answer_operation(from, token, Operated::NoLeader),
            }
        }
    }

    /// A member learns from the log, too, that it runs on an old copy, whoever leads.
    fn check_own_start(&mut self) {
        let committed = self.raft.committed_configuration();
        let logged = committed.info.get(&self.id).and_then(|info| info.start);
        if let (Some(logged), Some(introduction)) = (logged, &self.operating.introduction)
            && !introduction.known.contains(&logged)
            && !mutated(Mutant::OldCopyWelcome)
        {
            self.operating.stranger = Some(logged);
        }
    }

    fn introduce_itself(&mut self) {
        let (Some(introduction), Some(leader)) = (&self.operating.introduction, self.raft.leader())
        else {
            return;
        };
        let Some(info) = self.raft.configuration().info.get(&self.id) else {
            return;
        };
        let said = introduction.peer_url.as_ref();
        let is_known = info.start == Some(introduction.start)
            && info.client_url == introduction.client_url
            && said.is_none_or(|url| *url == info.peer_url);
        let is_due = self
            .operating
            .introduced
            .is_none_or(|said| said + INTRODUCE_EVERY <= self.now);
        if is_known || !is_due {
            return;
        }
        let introduction = introduction.clone();
        self.operating.introduced = Some(self.now);
        if leader == self.id {
            self.operating.to_log.insert(self.id, introduction);
        } else {
            self.out
                .send
                .push((leader, PeerMessage::Introduce(introduction)));
        }
    }

    /// Two members are not reached at one address: whoever says so has the settings of the other.
    fn is_reached_by_another(&self, id: MemberId, peer_url: &str) -> bool {
        let mut known = self.raft.configuration().info.iter();
        known.any(|(other, info)| *other != id && info.peer_url == peer_url)
    }

    /// One at a time, as members change; what finds the membership busy waits, and is said again anyway.
    fn log_starts(&mut self) {
        if !self.raft.is_leader() {
            return self.operating.to_log.clear();
        }
        let Some((id, introduction)) = self.operating.to_log.pop_first() else {
            return;
        };
        let Some(mut info) = self.raft.configuration().info.get(&id).cloned() else {
            return;
        };
        info.start = Some(introduction.start);
        info.client_url.clone_from(&introduction.client_url);
        if let Some(url) = &introduction.peer_url
            && !self.is_reached_by_another(id, url)
        {
            info.peer_url.clone_from(url);
        }
        if self.raft.configuration().info.get(&id) == Some(&info) {
            return;
        }
        let update = Change::Update { id, info };
        let is_busy = self.raft.change_waits_for().is_some()
            || !self.log_renewals()
            || matches!(
                self.raft.change_membership(update),
                Err(ChangeError::Busy(_))
            );
        if is_busy {
            self.operating.to_log.insert(id, introduction);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_start(start: Option<u64>) -> Configuration {
        let info = MemberInfo {
            start,
            ..MemberInfo::default()
        };
        Configuration {
            voters: [MemberId(1)].into(),
            info: [(MemberId(1), info)].into(),
            ..Configuration::default()
        }
    }

    fn next(committed: Option<u64>, known: &[u64], drawn: u64) -> Vec<u64> {
        let configuration = with_start(committed);
        let known = known.to_vec();
        let id = MemberId(1);
        let next = Introduction::next(id, &configuration, known, drawn, String::new(), None);
        assert_eq!(Some(&next.start), next.known.last());
        next.known
    }

    #[test]
    fn starts_are_remembered_until_a_later_one_is_certainly_logged() {
        assert_eq!(next(None, &[], 7), [7]);
        // Nobody has heard of 7 and 8, or somebody has and this member does not know.
        assert_eq!(next(None, &[7, 8], 9), [7, 8, 9]);
        assert_eq!(next(Some(8), &[7, 8], 9), [8, 9]);
        // An old copy: the number that is logged is unknown here, and nothing is forgotten.
        assert_eq!(next(Some(6), &[7, 8], 9), [7, 8, 9]);
    }

    #[test]
    fn a_member_that_is_never_heard_of_does_not_draw_for_ever() {
        let known: Vec<u64> = (0..KNOWN_STARTS as u64).collect();
        assert_eq!(next(None, &known, 5000), known);
    }
}
