//! Majorities, simple and joint (thesis §4.3).
//!
//! Owns the arithmetic only. In a joint configuration every decision needs a majority of the incoming and one of the
//! outgoing voters; learners never count.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use tenure_mutants::{Mutant, mutated};

use crate::types::{Configuration, MemberId};

/// What an election has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tally {
    /// A quorum said yes.
    Won,
    /// So many said no that no quorum can say yes.
    Lost,
    /// Neither yet.
    Open,
}

/// The greatest value that a quorum has reached, given each voter's own; `None` where there are no voters.
pub(crate) fn reached<T: Copy + Ord>(
    configuration: &Configuration,
    value: impl Fn(MemberId) -> T,
) -> Option<T> {
    let incoming = majority_reached(&counted(configuration), &value);
    if decides_alone(configuration) {
        return incoming;
    }
    // `None` sorts below every value, so a half without voters decides nothing.
    incoming.min(majority_reached(&configuration.outgoing, &value))
}

/// Whether the incoming half decides alone.
fn decides_alone(configuration: &Configuration) -> bool {
    configuration.outgoing.is_empty() || mutated(Mutant::OutgoingForgotten)
}

fn counted(configuration: &Configuration) -> Cow<'_, BTreeSet<MemberId>> {
    if mutated(Mutant::LearnersCount) {
        return Cow::Owned(&configuration.voters | &configuration.learners);
    }
    Cow::Borrowed(&configuration.voters)
}

fn majority_reached<T: Copy + Ord>(
    voters: &BTreeSet<MemberId>,
    value: impl Fn(MemberId) -> T,
) -> Option<T> {
    let mut values: Vec<T> = voters.iter().map(|&voter| value(voter)).collect();
    if !mutated(Mutant::QuorumUnsorted) {
        values.sort_unstable_by(|a, b| b.cmp(a));
    }
    let fewer = usize::from(mutated(Mutant::MajorityTooSmall));
    // Of n voters, n/2 + 1 have at least the value at position n/2 from the top.
    values
        .get((values.len() / 2).saturating_sub(fewer))
        .copied()
}

/// Counts an election: `votes` holds the answers so far.
pub(crate) fn tally(configuration: &Configuration, votes: &BTreeMap<MemberId, bool>) -> Tally {
    let incoming = majority_tally(&counted(configuration), votes);
    if decides_alone(configuration) {
        return incoming;
    }
    match (incoming, majority_tally(&configuration.outgoing, votes)) {
        (Tally::Won, Tally::Won) => Tally::Won,
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        _ => Tally::Open,
    }
}

fn majority_tally(voters: &BTreeSet<MemberId>, votes: &BTreeMap<MemberId, bool>) -> Tally {
    let fewer = usize::from(mutated(Mutant::ElectionByHalf) && 1 < voters.len());
    let needed = voters.len() / 2 + 1 - fewer;
    let yes = voters
        .iter()
        .filter(|voter| votes.get(voter) == Some(&true))
        .count();
    let no = voters
        .iter()
        .filter(|voter| votes.get(voter) == Some(&false))
        .count();
    if yes >= needed {
        Tally::Won
    } else if voters.len() - no < needed {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(bits: u8) -> BTreeSet<MemberId> {
        (0..7)
            .filter(|bit| bits & (1 << bit) != 0)
            .map(MemberId)
            .collect()
    }

    fn joint(incoming: u8, outgoing: u8) -> Configuration {
        Configuration {
            voters: set(incoming),
            outgoing: set(outgoing),
            ..Configuration::default()
        }
    }

    /// The definition: a set is a quorum if it holds more than half of each half that is in force.
    fn is_quorum(configuration: &Configuration, members: &BTreeSet<MemberId>) -> bool {
        let holds = |half: &BTreeSet<MemberId>| 2 * half.intersection(members).count() > half.len();
        holds(&configuration.voters)
            && (configuration.outgoing.is_empty() || holds(&configuration.outgoing))
    }

    #[test]
    fn majority_of_even_groups_is_more_than_half() {
        for (voters, needed) in [
            (0b1, 1),
            (0b11, 2),
            (0b111, 2),
            (0b1111, 3),
            (0b1_1111, 3),
            (0b11_1111, 4),
            (0b111_1111, 4),
        ] {
            let configuration = joint(voters, 0);
            let yes = |count: u64| {
                (0..count)
                    .map(|id| (MemberId(id), true))
                    .collect::<BTreeMap<_, _>>()
            };
            assert_eq!(tally(&configuration, &yes(needed)), Tally::Won);
            assert_eq!(tally(&configuration, &yes(needed - 1)), Tally::Open);
        }
    }

    proptest! {
        #[test]
        fn reached_agrees_with_trying_every_quorum(incoming in 1u8..128, outgoing in 0u8..128, values in prop::array::uniform7(0u64..6)) {
            let configuration = joint(incoming, outgoing);
            let value = |member: MemberId| values[usize::try_from(member.0).unwrap()];
            let best = (0u8..128)
                .map(set)
                .filter(|members| is_quorum(&configuration, members))
                .filter_map(|members| {
                    let all = configuration.voters.union(&configuration.outgoing).copied().collect();
                    members.intersection(&all).map(|&m| value(m)).min()
                })
                .max();
            prop_assert_eq!(reached(&configuration, value), best);
        }

        #[test]
        fn tally_agrees_with_trying_every_completion(incoming in 1u8..128, outgoing in 0u8..128, yes in 0u8..128, no in 0u8..128) {
            let configuration = joint(incoming, outgoing);
            let no = no & !yes;
            let mut votes: BTreeMap<MemberId, bool> = set(yes).into_iter().map(|m| (m, true)).collect();
            votes.extend(set(no).into_iter().map(|m| (m, false)));
            let expected = if is_quorum(&configuration, &set(yes)) {
                Tally::Won
            } else if is_quorum(&configuration, &set(!no)) {
                Tally::Open
            } else {
                Tally::Lost
            };
            prop_assert_eq!(tally(&configuration, &votes), expected);
        }
    }
}
