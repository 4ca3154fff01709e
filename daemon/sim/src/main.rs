//! The simulator's command line: runs seeds, says what happened, and replays one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure_sim::{Counts, Options, Outcome, hush_panics, run};

const USAGE: &str =
    "usage: tenure-sim [--seeds N] [--start S] [--threads N] [--keep-going]   run N seeds from S on
       tenure-sim --seed N [--trace]                                replay one
       with either, --calm: no faults; --in-doubt: leaders lost between proposal and answer, and nothing else";

struct Arguments {
    seeds: u64,
    start: u64,
    seed: Option<u64>,
    threads: usize,
    keep_going: bool,
    options: Options,
}

fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut arguments = Arguments {
        seeds: 100,
        start: 0,
        seed: None,
        threads,
        keep_going: false,
        options: Options::default(),
    };
    let mut words = words;
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a number"))?;
            value
                .parse::<u64>()
                .map_err(|_| format!("{word} takes a number, not {value:?}"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--start" => arguments.start = number()?,
            "--seed" => arguments.seed = Some(number()?),
            "--threads" => {
                arguments.threads = usize::try_from(number()?.clamp(1, 256)).unwrap_or(1)
            }
            "--keep-going" => arguments.keep_going = true,
            "--trace" => arguments.options.trace = true,
            "--calm" => arguments.options.calm = true,
            "--in-doubt" => arguments.options.in_doubt = true,
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("tenure-sim: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    hush_panics();
    match arguments.seed {
        Some(seed) => replay(seed, arguments.options),
        None => campaign(&arguments),
    }
}

fn replay(seed: u64, options: Options) -> ExitCode {
    let outcome = run(seed, options);
    println!("seed {seed}: trace hash {:016x}", outcome.trace_hash);
    print_counts(&outcome.counts);
    verdict(&outcome)
}

fn verdict(outcome: &Outcome) -> ExitCode {
    let Some(violation) = &outcome.violation else {
        return ExitCode::SUCCESS;
    };
    println!(
        "seed {} broke {}: {}",
        outcome.seed, violation.invariant, violation.detail
    );
    println!(
        "replay: cargo run --release -p tenure-sim -- --seed {} --trace",
        outcome.seed
    );
    ExitCode::FAILURE
}

/// Runs seeds on all cores. Outcomes are looked at in the order of seeds, so that what is reported does not depend on
/// which thread was faster.
fn campaign(arguments: &Arguments) -> ExitCode {
    let end = arguments.start.saturating_add(arguments.seeds);
    let next = AtomicU64::new(arguments.start);
    let tally = Mutex::new(Tally::new(arguments.start));
    let stop_at = AtomicU64::new(u64::MAX);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if end <= seed || stop_at.load(Ordering::Relaxed) < seed {
                return;
            }
            let outcome = run(seed, arguments.options);
            if outcome.violation.is_some() && !arguments.keep_going {
                stop_at.fetch_min(seed, Ordering::Relaxed);
            }
            tally
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .add(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(work);
        }
    });
    let tally = tally
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{} seeds run, from {}", tally.seeds, arguments.start);
    print_counts(&tally.counts);
    if tally.broken > 0 {
        println!("{} seeds broke an invariant", tally.broken);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The sum of what has been run.
struct Tally {
    next: u64,
    waiting: BTreeMap<u64, Outcome>,
    seeds: u64,
    broken: u64,
    counts: Counts,
}

impl Tally {
    fn new(start: u64) -> Tally {
        Tally {
            next: start,
            waiting: BTreeMap::new(),
            seeds: 0,
            broken: 0,
            counts: Counts::default(),
        }
    }

    fn add(&mut self, outcome: Outcome) {
        self.waiting.insert(outcome.seed, outcome);
        while let Some(outcome) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.seeds += 1;
            self.counts.add(&outcome.counts);
            if outcome.violation.is_some() {
                self.broken += 1;
                verdict(&outcome);
            }
            if self.seeds.is_multiple_of(100) {
                println!(
                    "{} seeds, {} virtual s, {} commits",
                    self.seeds,
                    self.counts.virtual_ms / 1000,
                    self.counts.commits
                );
            }
        }
    }
}

fn print_counts(counts: &Counts) {
    let words: Vec<String> = counts
        .fields()
        .into_iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("{}", words.join(", "));
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
