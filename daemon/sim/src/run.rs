//! One run from its seed to its verdict.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::chance::Chance;
use crate::healing::end_of_chaos;
use crate::operator::Operator;
use crate::oracle::Violation;
use crate::people::People;
use crate::plan::Plan;
use crate::trace::{Counts, Trace};
use crate::upgrades::Upgrades;
use crate::world::World;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print what happens.
    pub trace: bool,
    /// No faults: the smallest test of everything.
    pub calm: bool,
    /// No fault but leaders lost between the proposal of a client's request and its answer, and these all the time.
    pub in_doubt: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// A hash over everything that happened.
    pub trace_hash: u64,
    /// What happened how often.
    pub counts: Counts,
    /// What was broken, if anything.
    pub violation: Option<Violation>,
}

thread_local! {
    static WHERE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a seed. A panic of the code under test is a violation like any other; install [`hush_panics`] so that it is not
/// printed besides.
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut chance = Chance::new(seed);
    let plan = Plan::draw(&mut chance);
    let plan = match options {
        Options { in_doubt: true, .. } => plan.in_doubt(),
        Options { calm: true, .. } => plan.calm(),
        _ => plan,
    };
    let operator = match options {
        Options { calm: true, .. } | Options { in_doubt: true, .. } => Operator::idle(seed),
        _ => Operator::new(seed),
    };
    let plan = match operator.plan() {
        Some(_) => plan.changing(),
        None => plan,
    };
    let trace = Trace::new(options.trace);
    let people = match options {
        Options { calm: true, .. } => People::nobody(seed),
        _ => People::new(seed),
    };
    let upgrades = match options {
        Options { calm: true, .. } | Options { in_doubt: true, .. } => Upgrades::none(seed),
        _ => Upgrades::new(seed, people.are_told_apart(), operator.plan().is_some()),
    };
    let mut world = World::new(plan, operator, (people, upgrades), chance, trace);
    world.trace.say(world.now, || format!("{:#?}", world.plan));
    let lived = catch_unwind(AssertUnwindSafe(|| {
        world.begin();
        world.run_until(end_of_chaos(&world), |_| false);
        world.heal_and_judge();
    }));
    let mut counts = world.trace.counts;
    counts.wild_clocks = u64::from(!world.plan.clocks.are_as_assumed());
    counts.virtual_ms = world.now.0 / 1_000_000;
    counts.grants = world.oracle.history.grants;
    let history = &world.oracle.history;
    counts.expired = history.expired;
    counts.shared = history.shared;
    counts.broken = history.broken;
    counts.handed_over = history.handed_over;
    counts.proclaimed = history.proclaimed;
    let unknown = world.oracle.calls.unknown();
    counts.unknown_applied += unknown.applied;
    counts.unknown_not_applied += unknown.not_applied;
    counts.in_doubt_applied = unknown.in_doubt_applied;
    counts.in_doubt_not_applied = unknown.in_doubt_not_applied;
    counts.judged = world.recorder.judged;
    counts.searched = world.recorder.searched;
    counts.guarded = u64::from(world.people.are_told_apart());
    (counts.denied, counts.access_changes, counts.claims) = history.access();
    let decisions = &world.oracle.decisions;
    counts.replays = decisions.replays;
    counts.mismatches = decisions.mismatches;
    counts.records_full = decisions.records_full;
    let violation = lived.err().map(|cause| read_panic(cause.as_ref()));
    Outcome {
        seed,
        trace_hash: world.trace.hash(),
        counts,
        violation,
    }
}

fn read_panic(cause: &(dyn Any + Send)) -> Violation {
    if let Some(violation) = cause.downcast_ref::<Violation>() {
        return violation.clone();
    }
    let words = cause.downcast_ref::<String>().cloned();
    let words = words.or_else(|| {
        cause
            .downcast_ref::<&str>()
            .map(|words| (*words).to_owned())
    });
    let place = WHERE.with(|place| place.borrow().clone());
    Violation {
        invariant: format!("panic at {place}"),
        detail: words.unwrap_or_default(),
    }
}

/// Panics of a run are its verdict: they are remembered for it, not printed.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        WHERE.with(|last| *last.borrow_mut() = place);
    }));
}
