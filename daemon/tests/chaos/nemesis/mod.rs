//! What is broken: each nemesis does one thing to a running cluster, undoes it, and tells by which trace it took effect.

mod clocks;
mod compaction;
mod delays;
mod disks;
mod drift;
mod lies;
mod packets;
mod partitions;
mod processes;
mod replacing;
mod resources;
mod tampering;

use std::path::Path;

use fastrand::Rng;

use crate::common::machine::succeeds;
use crate::round::Run;

pub(crate) use clocks::faketime;
pub(crate) use drift::compile as drifting_clock;

/// The trace that a nemesis left, or why there is none.
pub(crate) type Evidence = Result<String, String>;

/// What a machine must offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    Nothing,
    Iptables,
    PacketQueue,
    SocketKill,
    Strace,
    Perl,
    StraceAndPerl,
    Faketime,
    DriftingClocks,
    Prlimit,
    MemoryCgroup,
}

impl Need {
    /// Whether this machine offers it.
    pub(crate) fn is_met(self) -> bool {
        match self {
            Need::Nothing => true,
            Need::Iptables => succeeds("iptables", &["-w", "-m", "statistic", "-h"]),
            Need::PacketQueue => Need::Iptables.is_met() && delays::is_possible(),
            Need::SocketKill => succeeds("ss", &["-H", "-K", "dst", "203.0.113.1"]),
            Need::Strace => {
                let inject = [
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    "inject=fdatasync:error=EIO",
                    "true",
                ];
                succeeds("strace", &inject)
            }
            Need::StraceAndPerl => Need::Strace.is_met() && Need::Perl.is_met(),
            Need::Perl => succeeds("perl", &["-e", "1"]),
            Need::Faketime => faketime().is_some(),
            Need::DriftingClocks => drift::is_possible(),
            Need::Prlimit => succeeds("prlimit", &["--version"]),
            Need::MemoryCgroup => Path::new(resources::MEMORY_CGROUPS).join("tasks").exists(),
        }
    }
}

/// A nemesis: its name, what it needs, the fewest members that it makes sense for, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Nemesis {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    pub(crate) least_members: usize,
    /// By how many millionths it makes clocks run wrong.
    pub(crate) drift_ppm: u64,
    pub(crate) strike: fn(&Run<'_>, &mut Rng) -> Evidence,
}

const fn nemesis(
    name: &'static str,
    need: Need,
    strike: fn(&Run<'_>, &mut Rng) -> Evidence,
) -> Nemesis {
    Nemesis {
        name,
        need,
        least_members: 3,
        drift_ppm: 0,
        strike,
    }
}

/// All of them.
pub(crate) const ALL: [Nemesis; 33] = [
    nemesis("kill one", Need::Nothing, processes::kill_one),
    nemesis("kill the leader", Need::Nothing, processes::kill_leader),
    nemesis("kill all", Need::Nothing, processes::kill_all),
    nemesis("stop the leader", Need::Nothing, processes::stop_leader),
    nemesis("stop a minority", Need::Nothing, processes::stop_minority),
    nemesis("stop all", Need::Nothing, processes::stop_all),
    nemesis(
        "isolate the leader",
        Need::Iptables,
        partitions::isolate_leader,
    ),
    nemesis(
        "impatient followers",
        Need::Iptables,
        partitions::impatient_followers,
    ),
    nemesis("halves", Need::Iptables, partitions::halves),
    Nemesis {
        least_members: 5,
        ..nemesis("ring", Need::Iptables, partitions::ring)
    },
    nemesis("deaf leader", Need::Iptables, partitions::deaf_leader),
    nemesis("mute leader", Need::Iptables, partitions::mute_leader),
    nemesis("bridge", Need::Iptables, partitions::bridge),
    nemesis("flapping link", Need::Iptables, partitions::flapping),
    nemesis("packet loss", Need::Iptables, packets::loss),
    nemesis("connections refused", Need::Iptables, packets::refuse),
    nemesis(
        "connections killed",
        Need::SocketKill,
        packets::kill_connections,
    ),
    nemesis(
        "packets late and reordered",
        Need::PacketQueue,
        delays::delay,
    ),
    nemesis("compaction", Need::Nothing, compaction::compact),
    nemesis("power loss of one", Need::Perl, disks::power_loss_of_one),
    nemesis("power loss of all", Need::Perl, disks::power_loss_of_all),
    nemesis(
        "power loss of all with slow disks",
        Need::StraceAndPerl,
        disks::power_loss_of_slow,
    ),
    nemesis("disk wiped", Need::Nothing, replacing::wiped_disk),
    nemesis("disk put back", Need::Nothing, replacing::disk_put_back),
    nemesis("sync error", Need::Strace, disks::sync_error),
    nemesis("lying disk", Need::StraceAndPerl, lies::lying_disk),
    nemesis("full disk", Need::Nothing, disks::full),
    nemesis("slow disk of the leader", Need::Strace, disks::slow),
    nemesis("hung disk of the leader", Need::Strace, disks::hung),
    Nemesis {
        drift_ppm: drift::MOST_PPM,
        ..nemesis("clocks run fast", Need::DriftingClocks, drift::fast)
    },
    nemesis("wall clocks jump", Need::Faketime, clocks::jump),
    nemesis(
        "file descriptors exhausted",
        Need::Prlimit,
        resources::descriptors,
    ),
    nemesis("memory exhausted", Need::MemoryCgroup, resources::memory),
];
