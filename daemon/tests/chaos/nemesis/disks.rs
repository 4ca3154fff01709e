//! Disks that lose power, fail, fill up, slow down and hang.

use std::time::Duration;

use fastrand::Rng;
use tenure_oracle::{Ask, Told};

use super::Evidence;
use super::processes::{new_term, succession};
use super::tampering::Tampering;
use crate::asking::Caller;
use crate::common::{SOON, wait};
use crate::disks::lose_power;
use crate::member::Member;
use crate::round::Run;

/// Takes the power from members, which stand still from then on.
///
/// They are stopped first: ext4 lets a sync that is under way while it is shut down return as if it were done (about
/// one time of four), and a member would tell so, which a machine without power does not.
pub(super) fn take_power(members: &[&Member]) {
    members.iter().for_each(|member| member.pause());
    let disks: Vec<_> = members.iter().map(|member| &member.disk).collect();
    lose_power(&disks);
}

pub(super) fn power_loss_of_one(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = &run.rig.members[rng.usize(..run.rig.members.len())];
    take_power(&[member]);
    member.resume();
    // It ends itself at the next sync.
    let code = member.exit_code(SOON);
    member.disk.mount_again();
    member.start(&run.rig.network);
    match code {
        Some(1) => Ok(format!("{} ended with 1 on a dead disk", member.name)),
        code => Err(format!(
            "{} ended with {code:?} on a dead disk",
            member.name
        )),
    }
}

pub(super) fn power_loss_of_all(run: &Run<'_>, _rng: &mut Rng) -> Evidence {
    let before = run.rig.term();
    let members: Vec<&Member> = run.rig.members.iter().collect();
    take_power(&members);
    run.rig.kill_all();
    members.iter().for_each(|member| member.disk.mount_again());
    run.rig.start_all();
    run.heals();
    new_term(run, before, "all disks at once")
}

/// The syncs of some take a fifth of a second when the power of all goes, so that much is on its way to the disks; and
/// whoever comes back first goes on without the others. What was acknowledged before a majority had it is lost then.
pub(super) fn power_loss_of_slow(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (leader, before) = run.rig.leader();
    let mut numbers: Vec<usize> = (0..run.rig.members.len()).collect();
    rng.shuffle(&mut numbers);
    if rng.bool() {
        // Whether a leader waits for the others shows best where it alone is fast, and is not asked afterwards.
        numbers.retain(|number| *number != leader);
        numbers.push(leader);
    }
    let majority = numbers.len() / 2 + 1;
    let (first, rest) = numbers.split_at(majority);
    let slow = "inject=fdatasync,fsync:delay_enter=200000";
    let slow = first
        .iter()
        .map(|number| Tampering::with(run, *number, slow));
    let slow: Vec<Tampering> = slow.collect();
    wait::pass(Duration::from_millis(rng.u64(800..2_000)), || false);
    let members: Vec<&Member> = run.rig.members.iter().collect();
    take_power(&members);
    run.rig.kill_all();
    let syncs: usize = slow.into_iter().map(Tampering::end).sum();
    members.iter().for_each(|member| member.disk.mount_again());
    let start = |number: &usize| run.rig.members[*number].start(&run.rig.network);
    first.iter().for_each(start);
    let another = run.rig.leader();
    rest.iter().for_each(start);
    run.heals();
    match syncs {
        0 => Err("no sync was slow".to_owned()),
        syncs => new_term(
            run,
            before,
            &format!(
                "all disks at once, {syncs} syncs of {first:?} slow before, n{} led before the rest came back",
                another.0 + 1
            ),
        ),
    }
}

pub(super) fn sync_error(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let number = rng.usize(..run.rig.members.len());
    let member = &run.rig.members[number];
    let tampering = Tampering::with(run, number, "inject=fdatasync,fsync:error=EIO");
    let code = member.exit_code(SOON);
    let failed = tampering.end();
    member.start(&run.rig.network);
    match (code, failed) {
        (Some(1), 1..) => Ok(format!(
            "{} ended with 1 after {failed} failed syncs",
            member.name
        )),
        (code, failed) => Err(format!(
            "{} ended with {code:?} after {failed} failed syncs",
            member.name
        )),
    }
}

/// Values of this size make files grow.
const BALLAST_BYTES: usize = 32 << 10;

pub(super) fn full(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let number = rng.usize(..run.rig.members.len());
    let member = &run.rig.members[number];
    member.disk.fill();
    let left = member.disk.left();
    let other = (number + 1) % run.rig.members.len();
    let mut caller = Caller::new(run, other, Duration::from_secs(7));
    let mut ballast = 0;
    let ended = wait::found(SOON, || {
        ballast += 1;
        let value = format!(
            "{}:{number}:{}:{ballast}",
            "x".repeat(BALLAST_BYTES),
            run.recorder.now().0
        );
        caller.ask(Ask::put(format!("ballast/{}", ballast % 20), value));
        (!member.is_running()).then_some(())
    });
    let code = match ended {
        Some(()) => member.exit_code(SOON),
        None => member.kill(),
    };
    member.disk.empty();
    member.start(&run.rig.network);
    match code {
        Some(1) => Ok(format!(
            "{left} bytes left; {} ended with 1 after {ballast} writes",
            member.name
        )),
        code => Err(format!(
            "{left} bytes left; {} ended with {code:?}",
            member.name
        )),
    }
}

/// Each sync of the leader takes a twentieth of a second longer.
pub(super) fn slow(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (leader, term) = run.rig.leader();
    let tampering = Tampering::with(run, leader, "inject=fdatasync,fsync:delay_enter=50000");
    wait::pass(Duration::from_millis(rng.u64(1_500..3_000)), || false);
    match tampering.end() {
        0 => Err("no sync was delayed".to_owned()),
        syncs => Ok(format!(
            "{syncs} syncs of n{} delayed by 50 ms in term {term}",
            leader + 1
        )),
    }
}

/// The leader's syncs do not come back: it must give up leadership, and the others go on.
pub(super) fn hung(run: &Run<'_>, _rng: &mut Rng) -> Evidence {
    let (leader, term) = run.rig.leader();
    let tampering = Tampering::with(run, leader, "inject=fdatasync,fsync:delay_enter=60000000");
    // A write brings a sync, if nobody else does.
    let mut caller = Caller::new(run, leader, Duration::from_millis(300));
    let value = format!("hung:{}", run.recorder.now().0);
    let told = caller.ask(Ask::put("ballast/hung", value));
    let another = run.rig.wait_for_another(leader, term);
    drop(tampering);
    let said = match told.told {
        Told::Done { .. } => "a write was still answered",
        _ => "a write was not answered",
    };
    succession(run, leader, term, another).map(|evidence| format!("{evidence}; {said}"))
}
