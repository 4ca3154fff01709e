//! The simulator itself: seeds hold, a seed is one run, and something happens in it.

use std::sync::atomic::{AtomicU64, Ordering};

use tenure_sim::{Counts, Options, run};

fn hold(seeds: std::ops::Range<u64>, options: Options) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let outcome = run(seed, options);
        assert_eq!(outcome.violation, None, "seed {seed}");
        counts.add(&outcome.counts);
    }
    counts
}

#[test]
fn a_calm_cluster_commits_grants_expires_and_is_watched() {
    let counts = hold(
        0..4,
        Options {
            calm: true,
            ..Options::default()
        },
    );
    assert_eq!(
        counts.lost,
        counts.lost.min(counts.messages / 10),
        "{counts:?}"
    );
    assert!(
        counts.commits > 300 && counts.grants > 20 && counts.expired > 10 && counts.reads > 20,
        "{counts:?}"
    );
}

/// How many seeds every build runs.
const SEEDS: u64 = 300;

#[test]
fn three_hundred_seeds_hold_and_every_kind_of_fault_happens_in_them() {
    let next = AtomicU64::new(0);
    let work = || {
        let mut counts = Counts::default();
        let mut run = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if SEEDS <= seed {
                return (run, counts);
            }
            counts.add(&hold(seed..seed + 1, Options::default()));
            run += 1;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (mut run, mut counts) = (0, Counts::default());
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in working {
            let (theirs, counted) = thread.join().expect("every seed holds");
            run += theirs;
            counts.add(&counted);
        }
    });
    assert_eq!(run, SEEDS);
    for (name, count) in counts.fields().into_iter().chain(counts.faults.by_name()) {
        assert!(
            count > 0,
            "{name}: nothing of the kind happened in {counts:?}"
        );
    }
}

/// What a client is told is true: what was refused is never applied, what is acknowledged stands in the log, a repeat
/// with the same key gets the first decision, and of what was left unknown some was applied and some was not.
#[test]
fn a_thousand_leaders_die_between_proposal_and_answer_and_nobody_is_told_an_untruth() {
    let in_doubt = Options {
        in_doubt: true,
        ..Options::default()
    };
    let mut counts = Counts::default();
    let mut seed = 0;
    while counts.killed_in_doubt < 1000 {
        counts.add(&hold(seed..seed + 1, in_doubt));
        seed += 1;
        assert!(seed < 400, "they die too rarely: {counts:?}");
    }
    assert!(
        counts.in_doubt_applied > 100
            && counts.in_doubt_not_applied > 100
            && counts.replays > 100
            && counts.mismatches > 10,
        "{counts:?}"
    );
}

#[test]
fn a_seed_is_the_same_run_on_every_thread_and_another_seed_is_another() {
    let here: Vec<u64> = (30..36)
        .map(|seed| run(seed, Options::default()).trace_hash)
        .collect();
    let there = std::thread::spawn(|| {
        (30..36)
            .map(|seed| run(seed, Options::default()).trace_hash)
            .collect()
    });
    let there: Vec<u64> = there.join().expect("runs catch their panics");
    assert_eq!(here, there);
    assert!(
        here.iter()
            .enumerate()
            .all(|(at, hash)| !here[..at].contains(hash)),
        "{here:x?}"
    );
}
