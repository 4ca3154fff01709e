//! Packets lost, connections refused and killed, between members only.

use std::time::Duration;

use fastrand::Rng;

use super::Evidence;
use crate::common::wait;
use crate::member::PEER_PORT;
use crate::round::Run;

/// Everybody loses a third of what it is sent.
pub(super) fn loss(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let network = &run.rig.network;
    for member in 0..run.rig.members.len() {
        for port in ["--dport", "--sport"] {
            let what = format!("-p tcp {port} {PEER_PORT}");
            let how = "-m statistic --mode random --probability 0.33 -j DROP";
            network.rule(member, &format!("{what} {how}"));
        }
    }
    wait::pass(Duration::from_millis(rng.u64(1_500..3_000)), || false);
    match network.heal() {
        0 => Err("no packet was lost".to_owned()),
        packets => Ok(format!("{packets} packets lost")),
    }
}

/// One member answers whatever others send to it with a reset.
pub(super) fn refuse(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let member = rng.usize(..run.rig.members.len());
    let network = &run.rig.network;
    let rule = format!("-p tcp --dport {PEER_PORT} -j REJECT --reject-with tcp-reset");
    network.rule(member, &rule);
    wait::pass(Duration::from_millis(rng.u64(500..2_000)), || false);
    match network.heal() {
        0 => Err("no packet was refused".to_owned()),
        packets => Ok(format!("n{} refused {packets} packets", member + 1)),
    }
}

/// The leader's connections with the others are killed again and again.
pub(super) fn kill_connections(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (leader, _) = run.rig.leader();
    let filter = format!("( sport = :{PEER_PORT} or dport = :{PEER_PORT} )");
    let mut arguments = vec!["-H", "-K", "-t", "state", "established"];
    arguments.extend(filter.split(' '));
    let mut killed = 0;
    for _ in 0..5 {
        let list = run.rig.network.run_at(leader, "ss", &arguments);
        killed += list.lines().count();
        wait::pass(Duration::from_millis(rng.u64(50..500)), || false);
    }
    match killed {
        0 => Err("no connection was killed".to_owned()),
        killed => Ok(format!("{killed} connections of n{} killed", leader + 1)),
    }
}
