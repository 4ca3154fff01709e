//! Partitions of every shape. Clients reach everybody all the while.

use std::time::Duration;

use fastrand::Rng;

use super::Evidence;
use super::processes::succession;
use crate::common::{SOON, wait};
use crate::member::Member;
use crate::network::{Deafness, Network};
use crate::round::Run;

/// Long enough for elections, and for many a lease to end.
fn some_time(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(1_200..2_800))
}

/// Both ways between each of the ones and each of the others.
fn between(ones: &[usize], others: &[usize]) -> Vec<Deafness> {
    let pairs = ones
        .iter()
        .flat_map(|one| others.iter().map(move |other| (*one, *other)));
    pairs
        .flat_map(|(one, other)| [(one, other), (other, one)])
        .collect()
}

/// Cuts for some time; the packets that did not pass are the trace.
fn cut_for(run: &Run<'_>, links: &[Deafness], time: Duration) -> Evidence {
    run.rig.network.cut(links);
    wait::pass(time, || false);
    stopped(run.rig.network.heal(), &format!("{links:?} for {time:?}"))
}

fn stopped(packets: u64, what: &str) -> Evidence {
    match packets {
        0 => Err(format!("no packet was stopped: {what}")),
        packets => Ok(format!("{packets} packets stopped: {what}")),
    }
}

fn others(run: &Run<'_>, one: usize) -> Vec<usize> {
    (0..run.rig.members.len())
        .filter(|other| *other != one)
        .collect()
}

/// Cuts a leader off until another leads.
fn cut_leader(run: &Run<'_>, links: impl Fn(usize) -> Vec<Deafness>, rng: &mut Rng) -> Evidence {
    let (leader, term) = run.rig.leader();
    run.rig.network.cut(&links(leader));
    let another = run.rig.wait_for_another(leader, term);
    wait::pass(Duration::from_millis(rng.u64(..1_500)), || false);
    let packets = run.rig.network.heal();
    let succession = succession(run, leader, term, another)?;
    stopped(packets, &succession)
}

pub(super) fn isolate_leader(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    cut_leader(run, |leader| between(&[leader], &others(run, leader)), rng)
}

/// The others campaign long before the leader that they lose gives up: for a while there are two who take themselves for
/// it, and only one may answer.
pub(super) fn impatient_followers(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (leader, _) = run.rig.leader();
    let followers = others(run, leader);
    restart_each(run, &followers, Member::start_impatient);
    let links = |leader| between(&[leader], &others(run, leader));
    let evidence = cut_leader(run, links, rng);
    restart_each(run, &followers, Member::start);
    evidence
}

/// One after another, so that a majority is there all the while.
fn restart_each(run: &Run<'_>, members: &[usize], start: fn(&Member, &Network)) {
    for member in members.iter().map(|number| &run.rig.members[*number]) {
        member.kill();
        start(member, &run.rig.network);
        wait::until("a member is ready again", SOON, || {
            member.is_ready().then_some(())
        });
    }
}

/// It hears nobody, and is heard: its heartbeats must not keep the others quiet for ever.
pub(super) fn deaf_leader(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let links = |leader| {
        others(run, leader)
            .iter()
            .map(|other| (leader, *other))
            .collect()
    };
    cut_leader(run, links, rng)
}

pub(super) fn mute_leader(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let links = |leader| {
        others(run, leader)
            .iter()
            .map(|other| (*other, leader))
            .collect()
    };
    cut_leader(run, links, rng)
}

pub(super) fn halves(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let mut numbers: Vec<usize> = (0..run.rig.members.len()).collect();
    rng.shuffle(&mut numbers);
    let (ones, rest) = numbers.split_at(numbers.len() / 2);
    cut_for(run, &between(ones, rest), some_time(rng))
}

/// Each hears its two neighbours only: a majority with itself, another one for each.
pub(super) fn ring(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let count = run.rig.members.len();
    let neighbours = |one: usize, other: usize| {
        let apart = one.abs_diff(other);
        apart <= 1 || apart == count - 1
    };
    let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
    let links: Vec<Deafness> = pairs
        .filter(|(one, other)| !neighbours(*one, *other))
        .collect();
    cut_for(run, &links, some_time(rng))
}

/// Two halves that only one member in the midst hears both of.
pub(super) fn bridge(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let mut numbers: Vec<usize> = (0..run.rig.members.len()).collect();
    rng.shuffle(&mut numbers);
    let half = numbers.len() / 2;
    let links = between(&numbers[..half], &numbers[half + 1..]);
    cut_for(run, &links, some_time(rng))
}

pub(super) fn flapping(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let mut numbers: Vec<usize> = (0..run.rig.members.len()).collect();
    rng.shuffle(&mut numbers);
    let links = between(&numbers[..1], &numbers[1..2]);
    let (mut packets, times) = (0, 5);
    for _ in 0..times {
        run.rig.network.cut(&links);
        wait::pass(Duration::from_millis(rng.u64(100..900)), || false);
        packets += run.rig.network.heal();
        wait::pass(Duration::from_millis(rng.u64(100..400)), || false);
    }
    stopped(packets, &format!("{links:?}, {times} times"))
}
