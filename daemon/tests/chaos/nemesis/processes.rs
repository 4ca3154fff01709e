//! Processes killed and stopped.

use std::time::Duration;

use fastrand::Rng;

use super::Evidence;
use crate::common::{SOON, wait};
use crate::round::Run;

pub(super) fn kill_one(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    let code = member.kill();
    wait::pass(Duration::from_millis(rng.u64(100..1_500)), || false);
    member.start(&run.rig.network);
    match code {
        Some(-9) => Ok(format!("{} ended with -9", member.name)),
        code => Err(format!("{} ended with {code:?}", member.name)),
    }
}

pub(super) fn kill_leader(run: &Run<'_>, _rng: &mut Rng) -> Evidence {
    let (leader, term) = run.rig.leader();
    run.rig.members[leader].kill();
    let another = run.rig.wait_for_another(leader, term);
    run.rig.members[leader].start(&run.rig.network);
    succession(run, leader, term, another)
}

/// That the lead passed on.
pub(super) fn succession(
    run: &Run<'_>,
    old: usize,
    term: u64,
    another: Option<(usize, u64)>,
) -> Evidence {
    let name = |member: usize| &run.rig.members[member].name;
    match another {
        Some((new, newer)) => Ok(format!(
            "{} led in term {term}, {} in term {newer}",
            name(old),
            name(new)
        )),
        None => Err(format!("nobody but {} leads after term {term}", name(old))),
    }
}

pub(super) fn kill_all(run: &Run<'_>, _rng: &mut Rng) -> Evidence {
    let before = run.rig.term();
    run.rig.kill_all();
    run.rig.start_all();
    run.heals();
    new_term(run, before, "all ended")
}

/// That there is a leader again, in another term.
pub(super) fn new_term(run: &Run<'_>, before: u64, what: &str) -> Evidence {
    let term = wait::found(SOON, || {
        let (_, term) = run.rig.leader();
        (before < term).then_some(term)
    });
    match term {
        Some(term) => Ok(format!("{what}; the term went from {before} to {term}")),
        None => Err(format!("{what}; the term is still {before}")),
    }
}

pub(super) fn stop_leader(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (leader, term) = run.rig.leader();
    let member = &run.rig.members[leader];
    member.pause();
    let another = run.rig.wait_for_another(leader, term);
    // The lease of many a holder ends meanwhile, of which the stopped one knows nothing.
    wait::pass(Duration::from_millis(rng.u64(..1_500)), || false);
    member.resume();
    succession(run, leader, term, another)
}

pub(super) fn stop_minority(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let mut numbers: Vec<usize> = (0..run.rig.members.len()).collect();
    rng.shuffle(&mut numbers);
    numbers.truncate((run.rig.members.len() - 1) / 2);
    numbers
        .iter()
        .for_each(|number| run.rig.members[*number].pause());
    let time = Duration::from_millis(rng.u64(500..2_500));
    wait::pass(time, || false);
    numbers
        .iter()
        .for_each(|number| run.rig.members[*number].resume());
    Ok(format!("{numbers:?} stood still for {time:?}"))
}

pub(super) fn stop_all(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let before = run.rig.term();
    run.rig
        .members
        .iter()
        .for_each(crate::member::Member::pause);
    let time = Duration::from_millis(rng.u64(800..2_500));
    wait::pass(time, || false);
    run.rig
        .members
        .iter()
        .for_each(crate::member::Member::resume);
    run.heals();
    // A leader that was paused for longer than an election timeout steps down first.
    new_term(run, before, &format!("all stood still for {time:?}"))
}
