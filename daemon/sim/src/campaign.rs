//! Many seeds, one after the other on every core: what they found, and what happened in them.
//!
//! Owns the order of what is said: outcomes are looked at in the order of seeds, so that nothing that is reported depends
//! on which thread was faster. The last line is for machines.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tenure_sim::{Counts, Options, Outcome, Violation, run};

/// Which seeds are run, and how.
pub(crate) struct Campaign {
    pub(crate) seeds: u64,
    pub(crate) start: u64,
    pub(crate) threads: usize,
    /// Whether to go on after a find.
    pub(crate) keep_going: bool,
    /// Whether to print the trace hash of every seed.
    pub(crate) hashes: bool,
    pub(crate) options: Options,
}

/// Progress is shown so often at most, and a hundred times in a long campaign.
const LEAST_SHOWN: u64 = 100;

impl Campaign {
    pub(crate) fn run(&self) -> ExitCode {
        let end = self.start.saturating_add(self.seeds);
        let next = AtomicU64::new(self.start);
        let tally = Mutex::new(Tally::new(self));
        let stop_at = AtomicU64::new(u64::MAX);
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if end <= seed || stop_at.load(Ordering::Relaxed) < seed {
                    return;
                }
                let outcome = run(seed, self.options);
                if outcome.violation.is_some() && !self.keep_going {
                    stop_at.fetch_min(seed, Ordering::Relaxed);
                }
                tally
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .add(outcome);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let tally = tally
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tally.print();
        match tally.broken.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

/// The sum of what has been run.
struct Tally<'a> {
    campaign: &'a Campaign,
    began: Instant,
    next: u64,
    waiting: BTreeMap<u64, Outcome>,
    seeds: u64,
    broken: Vec<(u64, String)>,
    /// Over the trace hashes of all seeds, in their order.
    hash: u64,
    counts: Counts,
}

impl Tally<'_> {
    fn new(campaign: &Campaign) -> Tally<'_> {
        #[expect(
            clippy::disallowed_methods,
            reason = "how fast it goes is shown to whoever waits, and nothing depends on it"
        )]
        let began = Instant::now();
        Tally {
            campaign,
            began,
            next: campaign.start,
            waiting: BTreeMap::new(),
            seeds: 0,
            broken: Vec::new(),
            hash: 0,
            counts: Counts::default(),
        }
    }

    fn add(&mut self, outcome: Outcome) {
        self.waiting.insert(outcome.seed, outcome);
        while let Some(outcome) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.seeds += 1;
            self.hash = self.hash.rotate_left(7) ^ outcome.trace_hash;
            self.counts.add(&outcome.counts);
            if self.campaign.hashes {
                println!(
                    "seed {}: trace hash {:016x}",
                    outcome.seed, outcome.trace_hash
                );
            }
            if let Some(violation) = &outcome.violation {
                self.broken
                    .push((outcome.seed, violation.invariant.clone()));
                print_violation(outcome.seed, violation);
            }
            if self
                .seeds
                .is_multiple_of(LEAST_SHOWN.max(self.campaign.seeds / 100))
            {
                self.show_progress();
            }
        }
    }

    fn show_progress(&self) {
        let rate = self.seeds * 1000
            / u64::try_from(self.began.elapsed().as_millis())
                .unwrap_or(1)
                .max(1);
        println!(
            "{} of {} seeds ({rate}/s), {} virtual s, {} events, {} found",
            self.seeds,
            self.campaign.seeds,
            self.counts.virtual_ms / 1000,
            self.counts.events,
            self.broken.len()
        );
    }

    fn print(&self) {
        println!("{} seeds run, from {}", self.seeds, self.campaign.start);
        print_counts(&self.counts);
        for (seed, invariant) in &self.broken {
            println!("found: seed {seed} broke {invariant}");
        }
        println!("{}", self.machine_readable());
    }

    /// One line of JSON: what was run, what was found, and every count by its name.
    fn machine_readable(&self) -> String {
        let found: Vec<String> = self
            .broken
            .iter()
            .map(|(seed, invariant)| format!("{{\"seed\":{seed},\"invariant\":{invariant:?}}}"))
            .collect();
        let named = |(name, count): (&str, u64)| format!("\"{}\":{count}", name.replace(' ', "_"));
        let counts: Vec<String> = self.counts.fields().into_iter().map(named).collect();
        let faults: Vec<String> = self.counts.faults.by_name().map(named).collect();
        format!(
            "{{\"seeds\":{},\"start\":{},\"found\":[{}],\"trace_hash\":\"{:016x}\",\"seconds\":{},\"counts\":{{{}}},\"faults\":{{{}}}}}",
            self.seeds,
            self.campaign.start,
            found.join(","),
            self.hash,
            self.began.elapsed().as_secs(),
            counts.join(","),
            faults.join(",")
        )
    }
}

/// What was broken, and how to see it again.
pub(crate) fn print_violation(seed: u64, violation: &Violation) {
    println!(
        "seed {seed} broke {}: {}",
        violation.invariant, violation.detail
    );
    println!("replay: cargo run --release -p tenure-sim -- --seed {seed} --trace");
}

pub(crate) fn print_counts(counts: &Counts) {
    let words = |named: Vec<(&'static str, u64)>| {
        let words: Vec<String> = named
            .into_iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        words.join(", ")
    };
    println!("{}", words(counts.fields()));
    println!("faults: {}", words(counts.faults.by_name().collect()));
    println!(
        "leader killed between proposal and answer: {} ({} more were cut off there); of the {} requests caught so, {} \
         were applied and {} were not",
        counts.killed_in_doubt,
        counts.cut_in_doubt,
        counts.in_doubt_applied + counts.in_doubt_not_applied,
        counts.in_doubt_applied,
        counts.in_doubt_not_applied
    );
    println!(
        "of the outcomes that were not learnt, {} were applied and {} were not",
        counts.unknown_applied, counts.unknown_not_applied
    );
}
