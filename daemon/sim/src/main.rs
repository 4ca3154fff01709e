//! The simulator's command line: runs seeds, says what happened, and replays one.

mod campaign;

use std::process::ExitCode;

use tenure_sim::{Options, hush_panics, run};

use crate::campaign::{Campaign, print_counts, print_violation};

#[cfg(feature = "mutants")]
mod hunt;

const USAGE: &str =
    "usage: tenure-sim [--seeds N] [--start S] [--threads N] [--keep-going] [--hashes]   run N seeds from S on
       tenure-sim --seed N [--trace]                                           replay one
       with either, --calm: no faults; --in-doubt: leaders lost between proposal and answer, and nothing else";

struct Arguments {
    seed: Option<u64>,
    campaign: Campaign,
}

fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut arguments = Arguments {
        seed: None,
        campaign: Campaign {
            seeds: 100,
            start: 0,
            threads,
            keep_going: false,
            hashes: false,
            options: Options::default(),
        },
    };
    let campaign = &mut arguments.campaign;
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
            "--seeds" => campaign.seeds = number()?,
            "--start" => campaign.start = number()?,
            "--seed" => arguments.seed = Some(number()?),
            "--threads" => campaign.threads = usize::try_from(number()?.clamp(1, 256)).unwrap_or(1),
            "--keep-going" => campaign.keep_going = true,
            "--hashes" => campaign.hashes = true,
            "--trace" => campaign.options.trace = true,
            "--calm" => campaign.options.calm = true,
            "--in-doubt" => campaign.options.in_doubt = true,
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    #[cfg(feature = "mutants")]
    if let Some(code) = hunt::main() {
        return code;
    }
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("tenure-sim: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    hush_panics();
    match arguments.seed {
        Some(seed) => replay(seed, arguments.campaign.options),
        None => arguments.campaign.run(),
    }
}

fn replay(seed: u64, options: Options) -> ExitCode {
    let outcome = run(seed, options);
    println!("seed {seed}: trace hash {:016x}", outcome.trace_hash);
    print_counts(&outcome.counts);
    match &outcome.violation {
        Some(violation) => {
            print_violation(seed, violation);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
