//! Both files of a member through many lives, each ended by the power or by an operation that fails: what was
//! acknowledged is there at the next start, and what was under way is there whole or not at all.

use std::collections::BTreeMap;

use super::disk::{Disk, EIO, ENOSPC, Fault, Operation, Random};
use super::life::{End, Life};

/// How many members live; `TENURE_STORAGE_SEEDS` for more.
pub(crate) fn seeds(few: u64) -> u64 {
    let given = std::env::var("TENURE_STORAGE_SEEDS").ok();
    given.map_or(few, |given| given.parse().expect("a number of seeds"))
}

/// Lives of one member.
const LIVES: usize = 5;
/// What a member does in a life where nothing happens to it.
const MOST_STEPS: usize = 60;

/// What was seen in all lives.
#[derive(Debug, Default)]
struct Seen {
    lives: u64,
    steps: u64,
    unharmed: u64,
    by_power: u64,
    in_install: u64,
    in_flight_was_there: u64,
    by_fault: BTreeMap<(Operation, i32), u64>,
    met_at_start: BTreeMap<Operation, u64>,
    power_lost_at_start: u64,
}

#[test]
fn acknowledged_log_and_state_survive_every_end_of_a_member() {
    let mut seen = Seen::default();
    let seeds = seeds(40);
    for seed in 0..seeds {
        live(seed, &mut seen);
    }
    eprintln!("{seeds} seeds: {seen:?}");
    assert!(seen.by_power > 0 && seen.in_flight_was_there > 0 && seen.power_lost_at_start > 0);
    for operation in [Operation::Write, Operation::Length, Operation::Sync] {
        let met = seen
            .by_fault
            .iter()
            .filter(|((what, _), _)| *what == operation);
        assert!(
            met.map(|(_, times)| times).sum::<u64>() > 0,
            "{operation:?}"
        );
    }
    assert!(seen.met_at_start.contains_key(&Operation::Read));
}

fn live(seed: u64, seen: &mut Seen) {
    let mut random = Random::new(seed);
    let mut life = Life::begin();
    for _ in 0..LIVES {
        seen.lives += 1;
        let fault = threaten(&life.disks, &mut random);
        let end = match until_the_end(life, &mut random, seen) {
            Ok(unharmed) => {
                life = unharmed;
                continue;
            }
            Err(end) => end,
        };
        note(&end, fault, seen, seed);
        life = start_again(&end, &mut random, seen, seed);
    }
}

/// Lets something happen to a member: the power goes, or an operation fails.
fn threaten(disks: &[Disk; 2], random: &mut Random) -> Option<Fault> {
    if random.below(2) == 0 {
        disks[0].dies_in(random.below(200));
        return None;
    }
    let fault = Fault {
        operation: Operation::ALL[1 + random.below(3) as usize],
        after: random.below(25),
        for_ever: random.below(2) == 0,
        errno: [EIO, ENOSPC][random.below(2) as usize],
    };
    disks[random.below(2) as usize].fails(fault);
    Some(fault)
}

/// As it is where nothing happened to it for long.
fn until_the_end(mut life: Life, random: &mut Random, seen: &mut Seen) -> Result<Life, Box<End>> {
    for _ in 0..MOST_STEPS {
        seen.steps += 1;
        life = life.step(random)?;
    }
    seen.unharmed += 1;
    Ok(life)
}

/// An operation that fails is told as that: with 1, by the name of the file.
fn note(end: &End, fault: Option<Fault>, seen: &mut Seen, seed: u64) {
    let text = end.error.to_string();
    assert_eq!(end.error.exit_code(), 1, "seed {seed}: {text}");
    assert!(
        text.contains("log.redb") || text.contains("state.redb"),
        "seed {seed}: {text}"
    );
    match fault.filter(|_| end.disks.iter().any(Disk::has_failed)) {
        Some(fault) => {
            *seen
                .by_fault
                .entry((fault.operation, fault.errno))
                .or_default() += 1;
        }
        None if fault.is_none() && text.contains("the power is gone") => seen.by_power += 1,
        None => seen.in_install += 1,
    }
}

/// The next start, which may be cut off by the power too, or meet an operation that fails. Either way the one after it
/// finds what was acknowledged, or that and all of what was under way.
fn start_again(end: &End, random: &mut Random, seen: &mut Seen, seed: u64) -> Life {
    let mut disks = after_crash(&end.disks, random);
    if random.below(2) == 0 {
        disks = start_badly(&disks, random, seen, seed);
    }
    let (life, found) =
        Life::open(disks).unwrap_or_else(|error| panic!("seed {seed}: it does not start: {error}"));
    if found != end.acknowledged {
        assert!(
            found == end.in_flight,
            "seed {seed}: neither what was acknowledged nor that and what was under way"
        );
        seen.in_flight_was_there += 1;
    }
    life
}

fn after_crash(disks: &[Disk; 2], random: &mut Random) -> [Disk; 2] {
    [&disks[0], &disks[1]].map(|disk| disk.after_crash(random))
}

/// A start in which something happens; the disks after it.
fn start_badly(disks: &[Disk; 2], random: &mut Random, seen: &mut Seen, seed: u64) -> [Disk; 2] {
    let which = random.below(2) as usize;
    let operation = Operation::ALL[random.below(4) as usize];
    let by_power = random.below(2) == 0;
    match by_power {
        true => disks[which].dies_in(random.below(6)),
        false => disks[which].fails(Fault {
            operation,
            after: random.below(12),
            for_ever: random.below(2) == 0,
            errno: EIO,
        }),
    }
    if let Err(error) = Life::open(disks.clone()).map(drop) {
        assert_eq!(error.exit_code(), 1, "seed {seed}: {error}");
        match by_power {
            true => seen.power_lost_at_start += 1,
            false => *seen.met_at_start.entry(operation).or_default() += 1,
        }
    }
    after_crash(disks, random)
}
