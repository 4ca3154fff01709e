//! The command line of a build with bugs to plant: hunts each of them, and says what found it and how soon.

use std::process::ExitCode;
use std::time::Duration;

use tenure_sim::mutants::{Mutant, Search, find, run_with};
use tenure_sim::{Options, Outcome, hush_panics};

const USAGE: &str = "usage: tenure-sim --mutants [--only NAME,...] [--seeds N] [--start S] [--threads N]   look for each bug
       tenure-sim --mutant NAME --seed N [--trace]                              replay one find";

/// A bug that survives so many seeds shows that the simulator is blind to it.
const SEEDS: u64 = 2000;

enum Errand {
    Hunt {
        mutants: Vec<Mutant>,
        search: Search,
    },
    Replay {
        mutant: Mutant,
        seed: u64,
        options: Options,
    },
}

/// Does what was asked about bugs, if that was asked.
pub(crate) fn main() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words
        .iter()
        .any(|word| word == "--mutants" || word == "--mutant")
    {
        return None;
    }
    Some(match parse(&words) {
        Ok(errand) => {
            hush_panics();
            match errand {
                Errand::Hunt { mutants, search } => hunt(&mutants, search),
                Errand::Replay {
                    mutant,
                    seed,
                    options,
                } => replay(mutant, seed, options),
            }
        }
        Err(problem) => {
            eprintln!("tenure-sim: {problem}\n{USAGE}");
            ExitCode::from(2)
        }
    })
}

fn parse(words: &[String]) -> Result<Errand, String> {
    let mut search = Search {
        start: 0,
        seeds: SEEDS,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let mut mutants = Mutant::ALL.to_vec();
    let (mut mutant, mut seed, mut options) = (None, None, Options::default());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--mutants" => {}
            "--trace" => options.trace = true,
            "--only" => mutants = value()?.split(',').map(named).collect::<Result<_, _>>()?,
            "--mutant" => mutant = Some(named(value()?)?),
            "--seed" => seed = Some(number(value()?)?),
            "--seeds" => search.seeds = number(value()?)?,
            "--start" => search.start = number(value()?)?,
            "--threads" => {
                let threads = number(value()?)?.clamp(1, 256);
                search.threads = usize::try_from(threads).unwrap_or(1);
            }
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    match (mutant, seed) {
        (Some(mutant), Some(seed)) => Ok(Errand::Replay {
            mutant,
            seed,
            options,
        }),
        (None, None) => Ok(Errand::Hunt { mutants, search }),
        _ => Err("--mutant and --seed go together".to_owned()),
    }
}

fn named(name: &str) -> Result<Mutant, String> {
    Mutant::named(name).ok_or_else(|| format!("there is no mutant {name:?}"))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse()
        .map_err(|_| format!("{word:?} is not a number"))
}

fn hunt(mutants: &[Mutant], search: Search) -> ExitCode {
    println!("| mutant | seeds | virtual time of the find | found by | what is broken |");
    println!("| --- | --- | --- | --- | --- |");
    let mut survivors = Vec::new();
    for mutant in mutants {
        let name = mutant.name();
        match find(*mutant, search) {
            Some(outcome) => println!(
                "| {name} | {} | {} | {} | {} |",
                outcome.seed - search.start + 1,
                at(&outcome),
                by(&outcome),
                mutant.bug()
            ),
            None => {
                println!(
                    "| {name} | survived {} | | | {} |",
                    search.seeds,
                    mutant.bug()
                );
                survivors.push(name);
            }
        }
    }
    let found = mutants.len() - survivors.len();
    println!(
        "\n{found} of {} mutants found within {} seeds each",
        mutants.len(),
        search.seeds
    );
    if survivors.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "survivors, to which the simulator is blind: {}",
        survivors.join(", ")
    );
    ExitCode::FAILURE
}

fn at(outcome: &Outcome) -> String {
    format!("{:?}", Duration::from_millis(outcome.counts.virtual_ms))
}

fn by(outcome: &Outcome) -> String {
    let violation = outcome.violation.as_ref();
    let by = violation.map_or("", |violation| &violation.invariant);
    by.replace("daemon/", "")
}

fn replay(mutant: Mutant, seed: u64, options: Options) -> ExitCode {
    let outcome = run_with(mutant, seed, options);
    println!(
        "{} in seed {seed}: trace hash {:016x}",
        mutant.name(),
        outcome.trace_hash
    );
    let Some(violation) = &outcome.violation else {
        println!("not found");
        return ExitCode::FAILURE;
    };
    println!("found by {}: {}", violation.invariant, violation.detail);
    ExitCode::SUCCESS
}
