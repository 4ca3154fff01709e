//! The simulator notices: some of the bugs that can be planted, each of another kind and each found within a few seeds.
//! `-- --mutants` hunts all of them.
#![cfg(feature = "mutants")]

use tenure_sim::mutants::{Mutant, Search, find};
use tenure_sim::{Options, hush_panics, run};

/// One for each of the seven things that must never happen, and some that undermine all of them.
const QUICK: [Mutant; 12] = [
    Mutant::SharedBesideExclusive,
    Mutant::FenceRepeats,
    Mutant::RepeatDecidedAgain,
    Mutant::ReadServedLocally,
    Mutant::WatchSkipsMixed,
    Mutant::EndsAtDeadline,
    Mutant::CompactionFollowsDisk,
    Mutant::ImpossibleBelieved,
    Mutant::AckReceived,
    Mutant::MajorityTooSmall,
    Mutant::QueueOvertaken,
    Mutant::ConditionsIgnored,
];

#[test]
fn a_dozen_planted_bugs_are_found_within_thirty_seeds_each() {
    hush_panics();
    let search = Search {
        start: 0,
        seeds: 30,
        threads: 2,
    };
    let survivors: Vec<&str> = QUICK
        .into_iter()
        .filter(|mutant| find(*mutant, search).is_none())
        .map(Mutant::name)
        .collect();
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

/// A build in which bugs can be planted is the same as one in which they cannot, as long as none is.
#[test]
fn without_a_planted_bug_nothing_is_found() {
    for seed in 0..5 {
        assert_eq!(run(seed, Options::default()).violation, None, "seed {seed}");
    }
}
