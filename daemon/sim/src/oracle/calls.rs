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
