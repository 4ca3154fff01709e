//! The order of calls: what was refused was never applied, what was asked is applied at most once, and real time agrees
//! with the log.
//!
//! Owns the fate of every request by its origin. An answer carries the log index of its entry or of the state that it
//! was read from; every later call must come after it.

use std::collections::BTreeMap;

use tenure_raft::LogIndex;
use tenure_state::Origin;

use super::demand;
use crate::time::Moment;

#[derive(Default)]
struct Fate {
    /// What had been answered to anybody when it was sent.
    floor: LogIndex,
    /// When it reached a member.
    received: Moment,
    index: Option<LogIndex>,
    refused: bool,
    /// Its client never learnt what came of it.
    unlearnt: bool,
    /// Its leader died when it had been proposed and was not answered.
    in_doubt: bool,
}

/// What came of requests of which somebody had to say "unknown".
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unknown {
    pub(crate) applied: u64,
    pub(crate) not_applied: u64,
    /// Of those whose leader was lost between proposal and answer.
    pub(crate) in_doubt_applied: u64,
    pub(crate) in_doubt_not_applied: u64,
}

#[derive(Default)]
pub(crate) struct Calls {
    fates: BTreeMap<Origin, Fate>,
    /// The greatest index that an answer reflected.
    answered: LogIndex,
}

impl Calls {
    /// What has been answered to anybody up to now.
    pub(crate) fn floor(&self) -> LogIndex {
        self.answered
    }

    /// A request reached a member.
    pub(crate) fn received(&mut self, origin: Origin, floor: LogIndex, now: Moment) {
        let fate = Fate {
            floor,
            received: now,
            ..Fate::default()
        };
        let known = self.fates.insert(origin, fate).is_some();
        demand!(
            !known,
            "simulator",
            "the token {} is used twice",
            origin.token
        );
    }

    /// A request stands in a committed entry. Answers when it was received.
    pub(crate) fn committed(&mut self, origin: Origin, index: LogIndex) -> Moment {
        let Some(fate) = self.fates.get_mut(&origin) else {
            super::broken(
                "invented",
                format!("entry {index} carries {origin:?}, which nobody asked for"),
            )
        };
        demand!(
            fate.index.is_none(),
            "applied-once",
            "{origin:?} stands in {:?} and in {index}",
            fate.index
        );
        demand!(
            !fate.refused,
            "refused-applied",
            "{origin:?} was refused and stands in entry {index}"
        );
        demand!(
            fate.floor < index,
            "real-time-order",
            "{origin:?} was asked after {} was answered, and stands in entry {index}",
            fate.floor
        );
        fate.index = Some(index);
        fate.received
    }

    /// When a request reached its member.
    pub(super) fn received_at(&self, origin: Origin) -> Option<Moment> {
        self.fates.get(&origin).map(|fate| fate.received)
    }

    /// A member says that a request was not proposed and never will be.
    pub(crate) fn refused(&mut self, origin: Origin) {
        let fate = self.fates.entry(origin).or_default();
        demand!(
            fate.index.is_none(),
            "refused-applied",
            "{origin:?} is refused and stands in {:?}",
            fate.index
        );
        fate.refused = true;
    }

    /// A client is told what came of its request: it stands there, and nowhere else.
    pub(crate) fn told(&self, origin: Origin, index: LogIndex) {
        let stands = self.fates.get(&origin).and_then(|fate| fate.index);
        demand!(
            stands == Some(index),
            "told-applied",
            "{origin:?} is told that it was applied at {index}; it stands in {stands:?}"
        );
    }

    /// A client will not learn what came of its request.
    pub(crate) fn unlearnt(&mut self, origin: Origin) {
        if let Some(fate) = self.fates.get_mut(&origin) {
            fate.unlearnt = true;
        }
    }

    /// The leader of a request is lost before it was answered.
    pub(crate) fn in_doubt(&mut self, origin: Origin) {
        if let Some(fate) = self.fates.get_mut(&origin) {
            fate.in_doubt = true;
        }
    }

    /// What came of those of which somebody had to say "unknown": either may be, and both should happen.
    pub(crate) fn unknown(&self) -> Unknown {
        let mut unknown = Unknown::default();
        for fate in self.fates.values() {
            let applied = u64::from(fate.index.is_some());
            let (unlearnt, in_doubt) = (u64::from(fate.unlearnt), u64::from(fate.in_doubt));
            unknown.applied += unlearnt * applied;
            unknown.not_applied += unlearnt * (1 - applied);
            unknown.in_doubt_applied += in_doubt * applied;
            unknown.in_doubt_not_applied += in_doubt * (1 - applied);
        }
        unknown
    }

    /// A client has an answer that reflects the log up to there.
    pub(crate) fn answered(&mut self, index: LogIndex) {
        self.answered = self.answered.max(index);
    }

    /// A linearizable read is served from the state at `applied`.
    pub(crate) fn read(&self, floor: LogIndex, applied: LogIndex) {
        demand!(
            floor <= applied,
            "linearizable-read",
            "a read sees the log up to {applied}; {floor} had been answered before it was asked"
        );
    }
}
