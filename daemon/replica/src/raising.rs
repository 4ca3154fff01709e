//! Which rules the cluster follows, and when it may follow newer ones (`design.md`, State).
//!
//! Owns what this member can, what a leader hears of the others, and the one moment at which a leader has the version of the
//! rules raised: every member of the configuration, learners too, has said in its present run that it can follow. Nothing
//! is remembered of an earlier run or of an earlier leader: a member of an older program says nothing, and may be what was
//! a newer one a moment ago. Two rounds of questions must have the same answers, of the same runs, and the second begins
//! when the first is answered by all: then there was a moment, between the two, at which every member could. One that is
//! put back to an older program after that moment stops at the entry, and says what to do.
//!
//! Nobody becomes a member beside such an entry, either: a newcomer is held against the rules of a state that has every entry
//! by which an earlier leader, or this one, has them raised. So a leader takes nobody before it has applied all that its log
//! had when it was elected, nor while an entry of its own that raises them waits or is not applied.
//!
//! Until the rules in force know a command it is refused here, by the member that is asked and by the leader, so that it
//! is in no entry that a member of an older program reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tenure_mutants::{Mutant, mutated};
use tenure_raft::{LogIndex, MemberId};
use tenure_state::{Command, Origin, Principal, Request, STATE_VERSION};

use crate::core::Core;
use crate::operating::Operated;
use crate::peer::{PeerMessage, Refused};

/// Members are asked so often what they can, while the cluster does not follow the newest rules that the leader knows of.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// What a member said so long ago is shown to nobody any more: it may run no longer.
const SAID_LATELY: Duration = Duration::from_secs(3);

/// The token of the entry that raises the version: nobody waits for it.
pub(crate) const NOBODY_WAITS: u64 = 0;

/// What a member can in its present run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CanFollow {
    /// The question that is answered.
    pub round: u64,
    /// The number of this start of the member.
    pub start: u64,
    /// The newest version of the rules that it can follow.
    pub version: u64,
}

/// What is known of versions of the rules.
#[derive(Debug)]
pub(crate) struct Raising {
    /// The newest version that this member can follow.
    most: u64,
    /// The version of the state here.
    in_force: u64,
    /// The number of the last round of questions; never used again.
    round: u64,
    asked_at: Option<Duration>,
    /// The answers of this round.
    answers: BTreeMap<MemberId, CanFollow>,
    /// The starts and versions of all members in the round before, where all answered.
    before: Option<BTreeMap<MemberId, (u64, u64)>>,
    /// What was said last, and when, to be shown.
    said: BTreeMap<MemberId, (u64, Duration)>,
    /// The entry by which this leader has the version raised.
    raise: Option<Raise>,
}

/// An entry of this leader's that raises the version. It is certain what becomes of it: a leader removes nothing from its log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Raise {
    /// It waits for its place in the log, among the requests of clients.
    Waits,
    /// It stands there.
    At(LogIndex),
}

impl Default for Raising {
    fn default() -> Raising {
        Raising {
            most: STATE_VERSION,
            in_force: STATE_VERSION,
            round: 0,
            asked_at: None,
            answers: BTreeMap::new(),
            before: None,
            said: BTreeMap::new(),
            raise: None,
        }
    }
}

impl Core {
    /// This member can follow rules up to `most`; its state follows `in_force`. Told once, behind [`Core::introduce`].
    pub fn can_follow(&mut self, most: u64, in_force: u64) {
        // Answers to a leader that this process was before it was restarted must fit no question of this one.
        let round = self.own_start() >> 1;
        self.raising = Raising {
            most,
            in_force,
            round,
            ..Raising::default()
        };
    }

    /// What each member has said lately that it can follow, at a leader of a cluster that does not follow the newest rules.
    pub fn versions_said(&self) -> Vec<(MemberId, u64)> {
        let lately = |(_, (_, at)): &(&MemberId, &(u64, Duration))| self.now - *at <= SAID_LATELY;
        let said = self.raising.said.iter().filter(lately);
        said.map(|(id, (version, _))| (*id, *version)).collect()
    }

    /// The state here follows these rules from now on.
    pub(crate) fn rules_in_force(&mut self, version: u64) {
        self.raising.in_force = version;
    }

    /// Whether a command may be in the log under the rules in force.
    pub(crate) fn check_is_known(&self, command: &Command) -> Result<(), Refused> {
        let is_ours_alone = matches!(command, Command::RaiseVersion { .. });
        let is_known = command.needs_version() <= self.raising.in_force;
        match (is_known || mutated(Mutant::NewerCommandProposed)) && !is_ours_alone {
            true => Ok(()),
            false => Err(Refused::RulesTooOld),
        }
    }

    /// Whether an entry of this leader's that raises the version waits, or is not applied here.
    fn is_raising(&self) -> bool {
        match self.raising.raise {
            None => false,
            Some(Raise::Waits) => true,
            Some(Raise::At(index)) => self.has_not_applied(index),
        }
    }

    /// Whether a leader may make somebody a member who said, when it was looked at, that it can follow rules up to `follows`.
    pub(crate) fn check_newcomer(&self, id: MemberId, follows: u64) -> Result<(), Operated> {
        let busy = |why: &str| Err(Operated::Busy(why.to_owned()));
        let of_before = self.raft.leads_from();
        if of_before.is_some_and(|first| self.has_not_applied(first))
            && !mutated(Mutant::NewcomerBesideRaise)
        {
            return busy(
                "the leader was just elected, and has not applied all that was logged before",
            );
        }
        if self.is_raising() && !mutated(Mutant::NewcomerBesideRaise) {
            return busy(
                "the version of the rules is being raised, and who joins now was not asked",
            );
        }
        let in_force = self.raising.in_force;
        if in_force <= follows || mutated(Mutant::NewcomerUnjudged) {
            return Ok(());
        }
        Err(Operated::Unsafe(format!(
            "{id} can follow up to state version {follows}, and this cluster follows {in_force} by now: start a newer program there, \
             or take state_version_at_most out of its settings"
        )))
    }

    /// An entry with the requests of these origins was appended here.
    pub(crate) fn note_raise(&mut self, index: LogIndex, origins: &[Origin]) {
        let is_raise = |origin: &Origin| self.is_own_raise(origin);
        if self.raising.raise == Some(Raise::Waits) && origins.iter().any(is_raise) {
            self.raising.raise = Some(Raise::At(index));
        }
    }

    /// The entry that raises the version found no room, or this member leads no longer.
    pub(crate) fn give_up_raise(&mut self) {
        self.raising.raise = None;
    }

    /// Whether a request is this member's own, which raises the version: nobody waits for it.
    pub(crate) fn is_own_raise(&self, origin: &Origin) -> bool {
        (origin.member, origin.token) == (self.id.0, NOBODY_WAITS)
    }

    /// A leader asks.
    pub(crate) fn answer_version(&mut self, to: MemberId, round: u64) {
        let said = self.own_version(round);
        self.out.send.push((to, PeerMessage::CanFollow(said)));
    }

    /// A member answers.
    pub(crate) fn hear_version(&mut self, from: MemberId, said: CanFollow) {
        if !self.raft.is_leader() || !self.raft.configuration().contains(from) {
            return;
        }
        let (now, raising) = (self.now, &mut self.raising);
        raising.said.insert(from, (said.version, now));
        if said.round == raising.round || mutated(Mutant::VersionsRemembered) {
            raising.answers.insert(from, said);
        }
    }

    /// Asks the members, and has the version raised when all of them can. Done in every turn.
    pub(crate) fn carry_version_on(&mut self) {
        if !self.raft.is_leader() || STATE_VERSION <= self.raising.in_force {
            return self.forget_versions();
        }
        let (now, raising) = (self.now, &mut self.raising);
        if raising.asked_at.is_none_or(|at| at + ASK_EVERY <= now) {
            raising.before = None;
            self.ask_versions();
        }
        // While members come and go, whoever comes was not asked.
        if self.is_raising() || self.stopping || self.raft.change_waits_for().is_some() {
            return;
        }
        let Some(all) = self.answered_by_all() else {
            return;
        };
        let versions = all.values().map(|(_, version)| *version);
        let to = versions.fold(self.raising.most, u64::min);
        if to <= self.raising.in_force {
            return;
        }
        if self.raising.before.as_ref() == Some(&all) || mutated(Mutant::VersionsRemembered) {
            return self.raise(to);
        }
        self.raising.before = Some(all);
        self.ask_versions();
    }

    fn forget_versions(&mut self) {
        let raising = &mut self.raising;
        raising.said.clear();
        (raising.asked_at, raising.before, raising.raise) = (None, None, None);
        if !mutated(Mutant::VersionsRemembered) {
            raising.answers.clear();
        }
    }

    fn ask_versions(&mut self) {
        let (now, me) = (self.now, self.id);
        let raising = &mut self.raising;
        raising.round = raising.round.wrapping_add(1);
        raising.asked_at = Some(now);
        if !mutated(Mutant::VersionsRemembered) {
            raising.answers.clear();
        }
        let round = raising.round;
        for member in self.raft.configuration().members() {
            if member != me {
                self.out
                    .send
                    .push((member, PeerMessage::AskVersion { round }));
            }
        }
        let said = self.own_version(round);
        self.hear_version(me, said);
    }

    fn own_version(&self, round: u64) -> CanFollow {
        let version = match mutated(Mutant::VersionOverstated) {
            true => STATE_VERSION,
            false => self.raising.most,
        };
        CanFollow {
            round,
            start: self.own_start(),
            version,
        }
    }

    /// The start and the version of every member, where all have answered this round.
    fn answered_by_all(&self) -> Option<BTreeMap<MemberId, (u64, u64)>> {
        let configuration = self.raft.configuration();
        let members: BTreeSet<MemberId> = match mutated(Mutant::RaisedWithoutLearners) {
            true => configuration.voters.clone(),
            false => configuration.members(),
        };
        let answer = |id| {
            let said: &CanFollow = self.raising.answers.get(&id)?;
            Some((id, (said.start, said.version)))
        };
        members.into_iter().map(answer).collect()
    }

    /// Has an entry raise the version. Where it finds no room, all are asked again.
    fn raise(&mut self, to: u64) {
        self.raising.before = None;
        self.raising.answers.clear();
        let request = Request {
            origin: Origin {
                member: self.id.0,
                token: NOBODY_WAITS,
            },
            principal: Principal::anonymous(),
            idempotency: None,
            command: Command::RaiseVersion { to },
        };
        if self.wait_for_entry(request).is_ok() {
            self.raising.raise = Some(Raise::Waits);
        }
    }
}
