//! Whether the members' states are one state (`design.md`, State).
//!
//! Owns what members report of their states' digests at the same entries, and what follows: the leader, who hears all of
//! them, tells whoever differs from a majority of the voters, itself too; that member must end, since nobody knows what
//! else of it is wrong. Without a majority nobody can say who is wrong: nobody ends, and it is told. Reports may be lost,
//! with a leader too: there will be others.

use std::collections::{BTreeMap, BTreeSet};

use tenure_mutants::{Mutant, mutated};
use tenure_raft::{LogIndex, MemberId};

use crate::core::Core;
use crate::peer::PeerMessage;

/// States are compared at every entry whose index is a multiple of this.
pub const COMPARED_EVERY: u64 = 4096;
/// So many of the newest entries are remembered: a member that is further behind is compared at a later one.
const REMEMBERED: usize = 8;

/// A member's state differs from that of a majority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Diverged {
    /// At which entry.
    pub index: LogIndex,
    /// The digest of the state here.
    pub here: u128,
    /// The digest that a majority of the voters has.
    pub agreed: u128,
}

/// What is known of digests.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    own: BTreeMap<LogIndex, u128>,
    /// At a leader: who has reported what.
    reported: BTreeMap<LogIndex, BTreeMap<MemberId, u128>>,
    diverged: Option<Diverged>,
    /// The last entry at which all have reported and no majority agrees.
    undecided: Option<LogIndex>,
}

impl Core {
    /// What shows that this member's state is not that of the others. It must end.
    pub fn diverged(&self) -> Option<Diverged> {
        self.digests.diverged
    }

    /// The last entry at which the voters' states differ so much that none has a majority.
    pub fn undecided_states(&self) -> Option<LogIndex> {
        self.digests.undecided
    }

    /// The state here has this digest at this entry.
    pub(crate) fn state_digest(&mut self, index: LogIndex, digest: u128) {
        remember(&mut self.digests.own, index, digest);
        match self.raft.leader() {
            Some(leader) if leader == self.id => self.hear_digest(self.id, index, digest),
            Some(leader) => {
                let message = PeerMessage::Digest { index, digest };
                self.out.send.push((leader, message));
            }
            None => {}
        }
    }

    /// A member reports its state; the leader compares.
    pub(crate) fn hear_digest(&mut self, from: MemberId, index: LogIndex, digest: u128) {
        if !self.raft.is_leader() || !self.raft.configuration().contains(from) {
            return self.digests.reported.clear();
        }
        let reported = &mut self.digests.reported;
        reported.entry(index).or_default().insert(from, digest);
        while REMEMBERED < reported.len() {
            reported.pop_first();
        }
        let Some(reports) = reported.get(&index) else {
            return;
        };
        let voters = &self.raft.configuration().voters;
        let Some(agreed) = majority(reports, voters) else {
            let have_all_reported = voters.iter().all(|voter| reports.contains_key(voter));
            if have_all_reported {
                self.digests.undecided = Some(index);
            }
            return;
        };
        let differs = |(_, digest): &(&MemberId, &u128)| **digest != agreed;
        let strangers: Vec<MemberId> = reports.iter().filter(differs).map(|(id, _)| *id).collect();
        for member in strangers {
            if member == self.id {
                self.hear_agreed(self.id, index, agreed);
            } else {
                let message = PeerMessage::Agreed {
                    index,
                    digest: agreed,
                };
                self.out.send.push((member, message));
            }
        }
    }

    /// The leader says what a majority has at this entry.
    pub(crate) fn hear_agreed(&mut self, from: MemberId, index: LogIndex, agreed: u128) {
        if self.raft.leader() != Some(from) || mutated(Mutant::DivergedGoesOn) {
            return;
        }
        if let Some(here) = self.digests.own.get(&index).copied()
            && here != agreed
        {
            self.digests.diverged = Some(Diverged {
                index,
                here,
                agreed,
            });
        }
    }
}

fn remember(own: &mut BTreeMap<LogIndex, u128>, index: LogIndex, digest: u128) {
    own.insert(index, digest);
    while REMEMBERED < own.len() {
        own.pop_first();
    }
}

/// The digest that more than half of the voters have reported.
fn majority(reports: &BTreeMap<MemberId, u128>, voters: &BTreeSet<MemberId>) -> Option<u128> {
    let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
    for (member, digest) in reports {
        if voters.contains(member) {
            *counts.entry(*digest).or_default() += 1;
        }
    }
    let agreed = counts
        .into_iter()
        .find(|(_, count)| voters.len() < 2 * *count);
    agreed.map(|(digest, _)| digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(digests: &[u128]) -> BTreeMap<MemberId, u128> {
        (1..).map(MemberId).zip(digests.iter().copied()).collect()
    }

    #[test]
    fn only_more_than_half_of_the_voters_agree_on_a_state() {
        let voters = |count: u64| (1..=count).map(MemberId).collect::<BTreeSet<_>>();
        assert_eq!(majority(&reports(&[7, 7]), &voters(3)), Some(7));
        assert_eq!(majority(&reports(&[7, 8, 8]), &voters(3)), Some(8));
        assert_eq!(majority(&reports(&[7, 8, 9]), &voters(3)), None);
        assert_eq!(majority(&reports(&[7, 8]), &voters(2)), None);
        assert_eq!(majority(&reports(&[7, 7]), &voters(4)), None);
        // Members 3 and 4 have no vote.
        assert_eq!(majority(&reports(&[7, 7, 8, 8]), &voters(2)), Some(7));
        assert_eq!(majority(&reports(&[5]), &voters(1)), Some(5));
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let mut own = BTreeMap::new();
        for index in 1..=20 {
            remember(&mut own, LogIndex(index), 7);
        }
        assert_eq!(own.len(), REMEMBERED);
        assert!(own.contains_key(&LogIndex(20)) && !own.contains_key(&LogIndex(1)));
    }
}
