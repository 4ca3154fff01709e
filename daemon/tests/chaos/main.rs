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

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn one_history_explains_what_everybody_was_told_whatever_breaks() {
    const NAME: &str = "one_history_explains_what_everybody_was_told_whatever_breaks";
    let _machine = machine::shared();
    let seed = number("TENURE_CAMPAIGN_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("chaos: TENURE_CAMPAIGN_SEED={seed}");
    let only = std::env::var("TENURE_CAMPAIGN_NEMESES").ok();
    let draw = Draw::new(seed, only.as_deref());
    for (nemesis, need) in draw.missing() {
        machine::skip(nemesis, &format!("this machine lacks {need:?}"));
    }
    let Some(seconds) = number("TENURE_CAMPAIGN_SECONDS") else {
        for plan in fixed(&draw) {
            if let Err(reason) = round::run(&plan) {
                return machine::skip(NAME, &reason);
            }
        }
        return;
    };
    let (began, time) = (Instant::now(), Duration::from_secs(seconds));
    let mut rounds = 0;
    while began.elapsed() < time {
        if let Err(reason) = round::run(&draw.round(rounds)) {
            return machine::skip(NAME, &reason);
        }
        rounds += 1;
    }
    eprintln!("chaos: {rounds} rounds in {:?}", began.elapsed());
}
