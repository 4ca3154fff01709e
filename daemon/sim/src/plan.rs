//! The plan of a run: everything that a seed decides before the first event.
//!
//! Owns the ranges. Every run turns on another mix of faults (swarm testing): a fault that is always on hides the bugs
//! that need its absence.

use std::time::Duration;

use tenure_raft::Settings;
use tenure_replica::CoreSettings;
use tenure_state::Limits;

use crate::chance::Chance;
use crate::time::{ASSUMED_RATE_PPM, WILD_RATE_PPM};

const MS: Duration = Duration::from_millis(1);
const US: Duration = Duration::from_micros(1);

/// The most keys that transactions write in any run, but for those beside them.
pub(crate) const MOST_KEYS: u64 = 12;

/// What a seed decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) members: usize,
    pub(crate) core: CoreSettings,
    /// Every second member keeps a longer log behind its checkpoint.
    pub(crate) keeps_apart: bool,
    pub(crate) limits: Limits,
    pub(crate) clocks: ClockPlan,
    /// How long a leader waits for its disk before it steps down.
    pub(crate) disk_patience: Duration,
    /// How late a turn may come after what caused it.
    pub(crate) turn_delay: Duration,
    pub(crate) network: NetworkPlan,
    pub(crate) disk: DiskPlan,
    pub(crate) apply: ApplyPlan,
    pub(crate) faults: FaultPlan,
    pub(crate) workload: WorkloadPlan,
    /// How long the first phase lasts.
    pub(crate) chaos: Duration,
    pub(crate) healing: Healing,
}

/// How members come and go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangePlan {
    /// How many there may be beside those of the beginning.
    pub(crate) newcomers: usize,
    /// The longest pause between two changes.
    pub(crate) every: Duration,
    /// How often something breaks when a change has just been appended, in parts of a million.
    pub(crate) breaks: u32,
}

impl ChangePlan {
    /// In every third run they do.
    pub(crate) fn draw(chance: &mut Chance) -> Option<ChangePlan> {
        if chance.number(0, 2) > 0 {
            return None;
        }
        Some(ChangePlan {
            newcomers: size(chance.number(1, 4)),
            every: chance.skewed_span(50 * MS, 5000 * MS),
            breaks: chance.pick(&[0, 200_000, 500_000]),
        })
    }
}

/// How wrong clocks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockPlan {
    /// The worst rate of any clock, of members and of clients, in parts of a million.
    pub(crate) worst_ppm: i64,
}

impl ClockPlan {
    /// Whether clocks are within what the product assumes, so that what clients believe must be true.
    pub(crate) fn are_as_assumed(self) -> bool {
        self.worst_ppm <= ASSUMED_RATE_PPM
    }
}

/// How messages travel.
#[derive(Clone, Debug)]
pub(crate) struct NetworkPlan {
    pub(crate) delay: (Duration, Duration),
    /// In parts of a million.
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    /// How often one arrives besides that no member of ours makes.
    pub(crate) spoilt: u32,
    pub(crate) late: u32,
    pub(crate) latest: Duration,
    /// Whether messages of one lane stay in order, as on a connection.
    pub(crate) ordered: bool,
    /// How often a sender is told that a message was lost.
    pub(crate) tells: u32,
}

/// How disks behave.
#[derive(Clone, Debug)]
pub(crate) struct DiskPlan {
    /// The longest that the installation of a snapshot takes beside that.
    pub(crate) install: Duration,
    pub(crate) sync: (Duration, Duration),
    pub(crate) slow: u32,
    pub(crate) slowest: Duration,
    /// The pause between two checkpoints.
    pub(crate) checkpoint_every: Duration,
    /// How often a snapshot is damaged on its way.
    pub(crate) damaged: u32,
    /// How often a snapshot cannot be made.
    pub(crate) no_snapshot: u32,
    /// How often a sync fails, which ends the member.
    pub(crate) fails: u32,
}

/// How fast entries are applied.
#[derive(Clone, Debug)]
pub(crate) struct ApplyPlan {
    /// How many entries are applied in one go.
    pub(crate) entries_a_go: usize,
    pub(crate) delay: (Duration, Duration),
    pub(crate) slow: u32,
    pub(crate) slowest: Duration,
}

/// Which faults happen.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    pub(crate) kinds: Vec<FaultKind>,
    /// The longest pause between two.
    pub(crate) every: Duration,
    /// The longest that one lasts.
    pub(crate) longest: Duration,
    /// How often a member crashes at any event of its own, in parts of a million.
    pub(crate) crash_at_event: u32,
    /// How often a leader is lost at each step of a client's request between its proposal and its answer, in parts of a
    /// million.
    pub(crate) in_doubt: u32,
}

/// The faults that come and go.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum FaultKind {
    Crash,
    CrashLeader,
    CrashAll,
    RestartStorm,
    Pause,
    PauseLeader,
    Suspend,
    Split,
    Isolate,
    IsolateLeader,
    OneWay,
    Bridge,
    Ring,
    DeafLeader,
    MuteLeader,
    Flap,
    FlapMember,
    SlowLinks,
    LateToLeader,
    LogStall,
    LogStallLeader,
    StateStall,
    SyncError,
    DiskFull,
    DiskFullAll,
    Transfer,
    PauseClient,
    LoseClient,
}

impl FaultKind {
    pub(crate) const ALL: [FaultKind; 28] = [
        FaultKind::Crash,
        FaultKind::CrashLeader,
        FaultKind::CrashAll,
        FaultKind::RestartStorm,
        FaultKind::Pause,
        FaultKind::PauseLeader,
        FaultKind::Suspend,
        FaultKind::Split,
        FaultKind::Isolate,
        FaultKind::IsolateLeader,
        FaultKind::OneWay,
        FaultKind::Bridge,
        FaultKind::Ring,
        FaultKind::DeafLeader,
        FaultKind::MuteLeader,
        FaultKind::Flap,
        FaultKind::FlapMember,
        FaultKind::SlowLinks,
        FaultKind::LateToLeader,
        FaultKind::LogStall,
        FaultKind::LogStallLeader,
        FaultKind::StateStall,
        FaultKind::SyncError,
        FaultKind::DiskFull,
        FaultKind::DiskFullAll,
        FaultKind::Transfer,
        FaultKind::PauseClient,
        FaultKind::LoseClient,
    ];

    /// Its name in a summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FaultKind::Crash => "crash",
            FaultKind::CrashLeader => "crash of the leader",
            FaultKind::CrashAll => "crash of all",
            FaultKind::RestartStorm => "restart storm",
            FaultKind::Pause => "pause",
            FaultKind::PauseLeader => "pause of the leader",
            FaultKind::Suspend => "suspend",
            FaultKind::Split => "split",
            FaultKind::Isolate => "isolation",
            FaultKind::IsolateLeader => "isolation of the leader",
            FaultKind::OneWay => "one-way cut",
            FaultKind::Bridge => "bridge",
            FaultKind::Ring => "ring",
            FaultKind::DeafLeader => "deaf leader",
            FaultKind::MuteLeader => "mute leader",
            FaultKind::Flap => "flapping link",
            FaultKind::FlapMember => "flapping member",
            FaultKind::SlowLinks => "slow links",
            FaultKind::LateToLeader => "slow links to the leader",
            FaultKind::LogStall => "log stall",
            FaultKind::LogStallLeader => "log stall of the leader",
            FaultKind::StateStall => "state stall",
            FaultKind::SyncError => "sync error",
            FaultKind::DiskFull => "disk full",
            FaultKind::DiskFullAll => "all disks full",
            FaultKind::Transfer => "transfer",
            FaultKind::PauseClient => "paused client",
            FaultKind::LoseClient => "lost client",
        }
    }

    /// Whether it means anything where there is one member.
    fn concerns_one(self) -> bool {
        !matches!(
            self,
            FaultKind::Split
                | FaultKind::Isolate
                | FaultKind::IsolateLeader
                | FaultKind::OneWay
                | FaultKind::Bridge
                | FaultKind::Ring
                | FaultKind::DeafLeader
                | FaultKind::MuteLeader
                | FaultKind::Flap
                | FaultKind::FlapMember
                | FaultKind::SlowLinks
                | FaultKind::LateToLeader
                | FaultKind::Transfer
        )
    }
}

/// What clients do.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadPlan {
    pub(crate) clients: usize,
    pub(crate) watchers: usize,
    /// The longest pause between two calls.
    pub(crate) think: Duration,
    pub(crate) ttl_ms: (u64, u64),
    pub(crate) locks: usize,
    pub(crate) keys: usize,
    pub(crate) value_bytes: u64,
    /// How often a client that could do anything reads a key.
    pub(crate) reads: u32,
    /// How often a call or its answer is lost.
    pub(crate) lost: u32,
    /// The longest that a call or answer usually travels.
    pub(crate) travel: Duration,
    /// How often one travels for up to seconds.
    pub(crate) slow: u32,
    pub(crate) patience: Duration,
    /// How often a request whose decision is recorded carries an idempotency key.
    pub(crate) keyed: u32,
}

/// Who is healed at the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Healing {
    /// Everybody.
    All,
    /// A majority; the rest is down for good.
    RestDown,
    /// A majority; the rest is cut off.
    RestCutOff,
    /// A majority; the rest is heard and hears nothing.
    RestDeaf,
}

impl Plan {
    pub(crate) fn draw(chance: &mut Chance) -> Plan {
        let members = match chance.number(0, 99) {
            0..10 => 1,
            10..62 => 3,
            62..92 => 5,
            _ => 7,
        };
        let core = draw_core(chance);
        let plan = Plan {
            members,
            keeps_apart: chance.number(0, 3) == 0,
            clocks: ClockPlan {
                worst_ppm: match chance.number(0, 5) {
                    0 => WILD_RATE_PPM,
                    _ => ASSUMED_RATE_PPM,
                },
            },
            disk_patience: chance.span(500 * MS, 3000 * MS),
            turn_delay: if chance.coin() {
                50 * US
            } else {
                chance.skewed_span(50 * US, 2 * MS)
            },
            network: draw_network(chance),
            disk: draw_disk(chance),
            apply: draw_apply(chance),
            faults: draw_faults(chance, members),
            workload: draw_workload(chance),
            chaos: chance.span(4000 * MS, 15_000 * MS),
            healing: match chance.number(0, 9) {
                0..5 => Healing::All,
                5..7 => Healing::RestDown,
                7..9 => Healing::RestCutOff,
                _ => Healing::RestDeaf,
            },
            limits: draw_limits(chance),
            core,
        };
        let plan = match chance.number(0, 39) {
            0..5 => plan.turbulent(chance),
            5..7 => plan.long(chance),
            7..13 => plan.purged(chance),
            13..16 => plan.handed_on(chance),
            _ => plan,
        };
        plan.can_catch_up()
    }

    /// A log that is cut right behind every checkpoint, and sent an entry at a time, is cut faster than it is sent: who
    /// lags would be sent one snapshot after the other and never catch up (seed 1014532).
    fn can_catch_up(mut self) -> Plan {
        let raft = &mut self.core.raft;
        if raft.max_inflight_messages < 4 && raft.max_append_bytes < 1024 {
            raft.kept_entries = raft.kept_entries.max(100);
            raft.kept_bytes = raft.kept_bytes.max(1 << 20);
        }
        self
    }

    /// Logs are compacted to their end, on some members sooner than on others, and snapshots take long: leaders are lost
    /// while a follower installs one, those that follow may have what it lacks in their logs, or not, and pieces come late.
    fn purged(mut self, chance: &mut Chance) -> Plan {
        self.members = self.members.max(3);
        self.core.raft.kept_entries = chance.number(0, 3);
        self.keeps_apart = chance.coin();
        self.disk.checkpoint_every = chance.span(10 * MS, 300 * MS);
        self.disk.install = chance.skewed_span(20 * MS, 2000 * MS);
        self.network.late = self.network.late.max(20_000);
        self.network.latest = chance.span(50 * MS, 3000 * MS);
        if chance.coin() {
            // A file is one message, which comes again when the log behind it has moved on.
            self.core.raft.piece_bytes = 64 << 10;
            self.network.doubled = self.network.doubled.max(200_000);
        }
        self.faults.kinds = vec![
            FaultKind::CrashLeader,
            FaultKind::IsolateLeader,
            FaultKind::Isolate,
            FaultKind::Crash,
            FaultKind::Transfer,
        ];
        self.faults.every = chance.span(200 * MS, 1500 * MS);
        self.faults.longest = chance.span(300 * MS, 3000 * MS);
        self
    }

    /// Leaderships are handed on between two heartbeats, while what was said to the old leader before is still on its
    /// way to it; meanwhile everybody reads what everybody has just written.
    fn handed_on(mut self, chance: &mut Chance) -> Plan {
        self.members = self.members.max(3);
        let raft = &mut self.core.raft;
        raft.election_timeout = chance.span(200 * MS, 500 * MS);
        raft.heartbeat_interval = raft.election_timeout / 3;
        self.network.delay = (20 * US, chance.span(100 * US, 3 * MS));
        self.disk.sync = (20 * US, chance.span(100 * US, 3 * MS));
        self.faults.kinds = vec![FaultKind::LateToLeader, FaultKind::Transfer];
        self.faults.every = chance.span(200 * MS, 1000 * MS);
        self.faults.longest = chance.span(500 * MS, 3000 * MS);
        if chance.coin() {
            // Answers come twice, the second time when another is waited for.
            self.network.doubled = 300_000;
            self.network.latest = chance.span(5 * MS, 100 * MS);
        }
        self.workload.clients = 10;
        self.workload.think = chance.span(MS, 20 * MS);
        self.workload.travel = chance.span(100 * US, 3 * MS);
        self.workload.reads = 300_000;
        self
    }

    /// Minutes in which little happens, so that messages can be minutes late and arrive in another life of both ends.
    fn long(mut self, chance: &mut Chance) -> Plan {
        self.chaos = chance.span(60_000 * MS, 240_000 * MS);
        self.network.late = u32::try_from(chance.skewed(1000, 50_000)).unwrap_or(0);
        self.network.latest = chance.span(60_000 * MS, 300_000 * MS);
        self.core.raft.election_timeout = self.core.raft.election_timeout.max(300 * MS);
        self.core.raft.heartbeat_interval = self.core.raft.election_timeout / 4;
        self.faults.every = chance.span(2000 * MS, 20_000 * MS);
        self.faults.longest = chance.span(2000 * MS, 30_000 * MS);
        self.workload.clients = self.workload.clients.min(4);
        self.workload.think = chance.span(200 * MS, 2000 * MS);
        self
    }

    /// Leaders come and go faster than they can replicate what those before them left, an entry at a time: the
    /// weather of figure 8 of the Raft paper.
    fn turbulent(mut self, chance: &mut Chance) -> Plan {
        self.members = 5;
        self.core.raft.election_timeout = chance.span(100 * MS, 200 * MS);
        self.core.raft.heartbeat_interval = self.core.raft.election_timeout / 5;
        self.core.raft.max_append_bytes = 1;
        self.core.raft.max_inflight_messages = size(chance.number(1, 2));
        self.network.delay = (MS, chance.span(2 * MS, 30 * MS));
        self.disk.sync = (100 * US, chance.span(MS, 20 * MS));
        self.faults.kinds = vec![
            FaultKind::CrashLeader,
            FaultKind::IsolateLeader,
            FaultKind::Split,
        ];
        self.faults.every = chance.span(50 * MS, 500 * MS);
        self.faults.longest = chance.span(100 * MS, 800 * MS);
        self.workload.clients = 8;
        self.workload.think = chance.span(2 * MS, 20 * MS);
        self
    }

    /// The settings of one member.
    pub(crate) fn core_of(&self, place: usize) -> CoreSettings {
        let mut core = self.core.clone();
        if self.keeps_apart && place % 2 == 1 {
            (core.raft.kept_entries, core.raft.kept_bytes) = (400, 16 << 20);
        }
        core
    }

    /// A run in which members come and go: a majority of those that there are in the end is not known before, so that all
    /// are healed.
    pub(crate) fn changing(mut self) -> Plan {
        self.healing = Healing::All;
        self
    }

    /// A run without faults, for the first test of everything.
    pub(crate) fn calm(mut self) -> Plan {
        self.network = NetworkPlan {
            lost: 0,
            doubled: 0,
            spoilt: 0,
            late: 0,
            ..self.network
        };
        self.disk = DiskPlan {
            slow: 0,
            damaged: 0,
            no_snapshot: 0,
            fails: 0,
            ..self.disk
        };
        self.apply.slow = 0;
        self.faults = FaultPlan {
            kinds: Vec::new(),
            crash_at_event: 0,
            in_doubt: 0,
            ..self.faults
        };
        self.workload = WorkloadPlan {
            lost: 0,
            slow: 0,
            ..self.workload
        };
        self
    }
}

impl Plan {
    /// A run in which leaders are lost between proposal and answer, and nothing else breaks, so that it happens often.
    /// Whoever does not learn an outcome asks again with the same key.
    pub(crate) fn in_doubt(self) -> Plan {
        let mut plan = self.calm();
        plan.faults.in_doubt = 100_000;
        plan.chaos = plan.chaos.min(15_000 * MS);
        plan.core.raft.election_timeout = 150 * MS;
        plan.core.raft.heartbeat_interval = 30 * MS;
        plan.workload.clients = plan.workload.clients.max(5);
        plan.workload.think = plan.workload.think.min(50 * MS);
        plan.workload.keyed = 1_000_000;
        plan
    }
}

fn draw_core(chance: &mut Chance) -> CoreSettings {
    let election_timeout = chance.span(100 * MS, 500 * MS);
    let raft = Settings {
        election_timeout,
        heartbeat_interval: election_timeout / u32::try_from(chance.number(3, 8)).unwrap_or(3),
        max_append_bytes: size(chance.skewed(64, 1 << 20)),
        max_inflight_messages: size(chance.skewed(1, 256)),
        max_inflight_bytes: size(chance.skewed(256, 8 << 20)),
        max_uncommitted_bytes: size(chance.skewed(1 << 10, 64 << 20)),
        max_unwritten_bytes: size(chance.skewed(16 << 10, 64 << 20)),
        piece_bytes: chance.skewed(256, 16 << 10),
        kept_entries: if chance.coin() {
            chance.number(0, 5)
        } else {
            chance.skewed(1, 400)
        },
        kept_bytes: chance.skewed(256, 16 << 20),
    };
    CoreSettings {
        raft,
        batch_bytes: size(chance.skewed(64, 1 << 20)),
        // So few that a handful of clients meet the bound, at times.
        waiting_requests: match chance.number(0, 3) {
            0 => size(chance.number(1, 3)),
            _ => size(chance.skewed(4, 20_000)),
        },
        waiting_bytes: size(chance.skewed(1 << 10, 64 << 20)),
        waiting_renewals: size(chance.skewed(4, 100_000)),
        unapplied_entries: match chance.number(0, 3) {
            0 => chance.skewed(8, 256),
            _ => 4096,
        },
        hold: chance.span(Duration::ZERO, 10 * MS),
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// With an even chance none, else up to `most` parts of a million.
fn sometimes(chance: &mut Chance, most: u64) -> u32 {
    match chance.coin() {
        true => 0,
        false => u32::try_from(chance.skewed(1000.min(most), most)).unwrap_or(0),
    }
}

fn draw_network(chance: &mut Chance) -> NetworkPlan {
    let least = chance.skewed_span(20 * US, 5 * MS);
    NetworkPlan {
        delay: (least, least + chance.skewed_span(20 * US, 20 * MS)),
        lost: sometimes(chance, 150_000),
        doubled: sometimes(chance, 200_000),
        spoilt: sometimes(chance, 10_000),
        late: sometimes(chance, 20_000),
        latest: chance.skewed_span(50 * MS, 120_000 * MS),
        ordered: chance.coin(),
        tells: sometimes(chance, 500_000),
    }
}

fn draw_disk(chance: &mut Chance) -> DiskPlan {
    let least = chance.skewed_span(20 * US, 2 * MS);
    DiskPlan {
        install: chance.skewed_span(MS, 200 * MS),
        sync: (least, least + chance.skewed_span(20 * US, 10 * MS)),
        slow: sometimes(chance, 20_000),
        slowest: chance.skewed_span(20 * MS, 8000 * MS),
        checkpoint_every: chance.skewed_span(20 * MS, 3000 * MS),
        damaged: sometimes(chance, 300_000),
        no_snapshot: sometimes(chance, 200_000),
        fails: match chance.number(0, 3) {
            0 => u32::try_from(chance.skewed(100, 5000)).unwrap_or(0),
            _ => 0,
        },
    }
}

fn draw_apply(chance: &mut Chance) -> ApplyPlan {
    ApplyPlan {
        entries_a_go: size(chance.skewed(1, 256)),
        delay: (10 * US, chance.skewed_span(20 * US, 5 * MS)),
        slow: sometimes(chance, 20_000),
        slowest: chance.skewed_span(10 * MS, 5000 * MS),
    }
}

fn draw_faults(chance: &mut Chance, members: usize) -> FaultPlan {
    let calm = chance.number(0, 19) == 0;
    let wanted = if calm { 0 } else { chance.number(1, 10) };
    let mut kinds = FaultKind::ALL.to_vec();
    chance.shuffle(&mut kinds);
    kinds.truncate(size(wanted));
    if members == 1 {
        kinds.retain(|kind| kind.concerns_one());
    }
    FaultPlan {
        kinds,
        every: chance.skewed_span(200 * MS, 8000 * MS),
        longest: chance.skewed_span(100 * MS, 8000 * MS),
        crash_at_event: if calm || chance.coin() {
            0
        } else {
            u32::try_from(chance.skewed(10, 1000)).unwrap_or(0)
        },
        in_doubt: if calm || chance.coin() {
            0
        } else {
            u32::try_from(chance.skewed(10_000, 200_000)).unwrap_or(0)
        },
    }
}

fn draw_workload(chance: &mut Chance) -> WorkloadPlan {
    let ttl = chance.number(1000, 4000);
    WorkloadPlan {
        clients: size(chance.number(1, 10)),
        watchers: size(chance.number(0, 3)),
        think: chance.skewed_span(MS, 200 * MS),
        ttl_ms: (1000, ttl),
        locks: size(chance.number(1, 4)),
        keys: size(chance.number(1, MOST_KEYS)),
        value_bytes: chance.skewed(8, 2000),
        reads: sometimes(chance, 500_000),
        lost: sometimes(chance, 50_000),
        travel: chance.skewed_span(50 * US, 20 * MS),
        slow: sometimes(chance, 30_000),
        patience: chance.skewed_span(200 * MS, 5000 * MS),
        keyed: chance.pick(&[0, 500_000, 1_000_000]),
    }
}

fn draw_limits(chance: &mut Chance) -> Limits {
    let mut limits = Limits::default();
    if chance.coin() {
        limits.history_retention_ms = chance.skewed(200, 10_000);
    }
    if chance.coin() {
        limits.history_bytes = chance.skewed(1 << 10, 1 << 20);
    }
    if chance.coin() {
        limits.idempotency_retention_ms = chance.skewed(200, 20_000);
    }
    if chance.number(0, 7) == 0 {
        limits.idempotency_records = chance.skewed(1, 100);
    }
    limits
}
