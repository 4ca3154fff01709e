//! Real clusters under real faults: each member in a network namespace and on a file system of its own, clients that
//! record everything, nemeses that leave a trace, and oracles that demand one history for all of it.
//!
//! `cargo test -p tenured --test chaos` runs a fixed set of rounds. `TENURE_CAMPAIGN_SECONDS` runs rounds drawn from a
//! seed until the time is over; the seed is printed, and `TENURE_CAMPAIGN_SEED` gives it again;
//! `TENURE_CAMPAIGN_NEMESES="kill all,bridge"` has only these. A failed round keeps its recording, which `tenure-judge`
//! judges again.

mod asking;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other tests of processes, which use all of it"
)]
#[path = "../process/common/mod.rs"]
mod common;
mod disks;
mod forgotten;
mod member;
mod nemesis;
mod network;
mod plan;
mod recorder;
mod rig;
mod round;
mod starvation;
mod sweep;
mod work;

use std::time::{Duration, Instant};

use common::machine;
use plan::{Draw, fixed};
use round::Plan;

/// A number of the environment; none where it is not set.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var_os(name)?;
    let number = parsed(&value.to_string_lossy());
    Some(number.unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn parsed(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| format!("{text:?} is not a number of 0 or more, without a unit"))
}

#[test]
fn what_is_no_number_is_not_taken_for_nothing() {
    for text in ["1h", "x", "", "-1", "0x10", "3600 "] {
        let error = parsed(text).expect_err("it is no number");
        assert!(error.starts_with(&format!("{text:?}")), "{error}");
    }
    assert_eq!(parsed("3600"), Ok(3600));
}

/// The names of nemeses in the environment; none where it is not set.
fn names(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    let names = value.into_string();
    Some(names.unwrap_or_else(|value| panic!("{name}={} is not UTF-8", value.display())))
}

#[test]
fn one_history_explains_what_everybody_was_told_whatever_breaks() {
    const NAME: &str = "one_history_explains_what_everybody_was_told_whatever_breaks";
    let _machine = machine::shared();
    let seed = number("TENURE_CAMPAIGN_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let seconds = number("TENURE_CAMPAIGN_SECONDS");
    let only = names("TENURE_CAMPAIGN_NEMESES");
    eprintln!("chaos: TENURE_CAMPAIGN_SEED={seed}");
    let draw = Draw::new(seed, only.as_deref())
        .unwrap_or_else(|error| panic!("TENURE_CAMPAIGN_NEMESES: {error}"));
    for (nemesis, need) in draw.missing() {
        machine::skip(nemesis, &format!("this machine lacks {need:?}"));
    }
    if draw.has_nothing() {
        return machine::skip(NAME, "this machine lacks what each of the nemeses needs");
    }
    let began = Instant::now();
    let plans: Box<dyn Iterator<Item = Plan>> = match seconds.map(Duration::from_secs) {
        None => Box::new(fixed(&draw).into_iter()),
        Some(time) => Box::new(
            (0..)
                .take_while(move |_| began.elapsed() < time)
                .map(|number| draw.round(number)),
        ),
    };
    let mut rounds = 0;
    for plan in plans {
        match round::run(&plan) {
            Ok(()) => rounds += 1,
            Err(reason) if rounds == 0 => return machine::skip(NAME, &reason),
            // This machine can run rounds: what keeps it from the next is no reason to be content.
            Err(reason) => panic!("after {rounds} rounds, seed {}: {reason}", plan.seed),
        }
    }
    eprintln!("chaos: {rounds} rounds in {:?}", began.elapsed());
    assert!(
        0 < rounds,
        "no round was run: TENURE_CAMPAIGN_SECONDS={seconds:?} and TENURE_CAMPAIGN_NEMESES={only:?} leave none"
    );
}
