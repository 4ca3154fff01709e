//! Whether the simulator notices: runs with a bug planted, until one is found.
//!
//! Owns how a bug is looked for: seed after seed, from a first one on, until a run breaks an invariant. Which seed finds it
//! does not depend on how many threads look. Never plants more than one at a time, and never takes for a find what
//! happens in the same seed without the bug.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub use tenure_mutants::Mutant;

use crate::run::{Options, Outcome, run};

/// Where and how long to look.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The first seed.
    pub start: u64,
    /// How many seeds at most.
    pub seeds: u64,
    /// How many threads look.
    pub threads: usize,
}

/// Runs a seed with a bug planted.
pub fn run_with(mutant: Mutant, seed: u64, options: Options) -> Outcome {
    tenure_mutants::with(mutant, || run(seed, options))
}

/// Whether the production code as it is holds in this seed: where it does not, what was found is not the planted bug.
fn holds_without(seed: u64) -> bool {
    run(seed, Options::default()).violation.is_none()
}

/// The run of the first seed that finds the bug; `None` where it survives all of them.
pub fn find(mutant: Mutant, search: Search) -> Option<Outcome> {
    let end = search.start.saturating_add(search.seeds);
    let next = AtomicU64::new(search.start);
    let first = AtomicU64::new(u64::MAX);
    let found = Mutex::new(BTreeMap::new());
    let look = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if end <= seed || first.load(Ordering::Relaxed) < seed {
                return;
            }
            let outcome = run_with(mutant, seed, Options::default());
            if outcome.violation.is_some() && holds_without(seed) {
                first.fetch_min(seed, Ordering::Relaxed);
                found
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .insert(seed, outcome);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..search.threads {
            scope.spawn(look);
        }
    });
    // Every seed before the first find was run to its end, since they are handed out in order.
    let found = found.into_inner();
    let (_, outcome) = found
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .pop_first()?;
    Some(outcome)
}
