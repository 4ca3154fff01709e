//! Random schedules in memory: loss, delay, doubling, reordering, crashes that lose what was not synced, compaction.
//!
//! The five properties of the Raft paper's figure 3 are checked as they can break (in `common`), and that reads miss nothing
//! that was applied before they were asked. The simulator of the whole cluster goes much further; this one needs
//! nothing but the core and runs in seconds.

use std::collections::BTreeMap;

use crate::common::*;
use tenure_raft::*;

struct Chaos {
    group: Group,
    rng: fastrand::Rng,
    /// For each read under way: what somebody had applied when it was asked.
    reads: BTreeMap<u64, (MemberId, LogIndex)>,
    next_read: u64,
    answered: usize,
    snapshots: usize,
    /// Whether the membership is changed, and how often it was.
    changes_members: bool,
    changes: usize,
    next_member: u64,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut rng = fastrand::Rng::with_seed(seed);
        let size = *rng.choice(&[1, 3, 3, 3, 5]).unwrap();
        let mut configuration = voters(1..=size);
        if rng.u8(..4) == 0 {
            configuration.learners.insert(id(size + 1));
        }
        if rng.u8(..4) == 0 && 1 < size {
            // A joint configuration from the start.
            configuration.outgoing = configuration.voters.clone();
            configuration.voters.pop_first();
        }
        let settings = Settings {
            max_append_bytes: rng.usize(1..200),
            max_inflight_messages: rng.usize(1..6),
            max_inflight_bytes: rng.usize(1..600),
            kept_entries: rng.u64(..12),
            piece_bytes: rng.u64(1..5),
            ..Settings::default()
        };
        let disks = configuration
            .members()
            .into_iter()
            .map(|id| (id, Disk::new(configuration.clone())))
            .collect();
        let next_member = 1 + configuration.members().len() as u64;
        let changes_members = rng.bool();
        let mut group = Group::new(disks, settings, seed);
        group.holds_installs = rng.bool();
        Chaos {
            group,
            rng,
            reads: BTreeMap::new(),
            next_read: 0,
            answered: 0,
            snapshots: 0,
            changes_members,
            changes: 0,
            next_member,
        }
    }

    fn applied_by_anybody(&self) -> LogIndex {
        self.group
            .history
            .last_key_value()
            .map_or(LogIndex(1), |(index, _)| *index)
    }

    fn step(&mut self) {
        let all: Vec<u64> = self.group.nodes.keys().map(|id| id.0).collect();
        let number = *self.rng.choice(&all).unwrap();
        let other = *self.rng.choice(&all).unwrap();
        if !self.group.node(number).is_up {
            if self.rng.u8(..8) == 0 {
                self.group.restart(number);
            }
            return;
        }
        match self.rng.u32(..1000) {
            0..250 => {
                let elapsed = if self.rng.u8(..100) == 0 {
                    400
                } else {
                    self.rng.u64(..30)
                };
                self.group.tick(number, ms(elapsed));
            }
            250..640 => self.deliver_any(),
            640..650 if self.changes_members => {
                // Often at somebody who leads, or who believes so.
                let leader = self.group.leader().filter(|_| self.rng.bool());
                self.change_members(leader.unwrap_or(number), other);
            }
            650..820 => drop(self.group.persist(number)),
            820..900 => drop(self.group.propose(number, "x")),
            900..940 => self.read(number),
            940..955 => self.group.checkpoint(number),
            955..960 => {
                self.group.crash(number);
                self.reads.retain(|_, (asked, _)| *asked != id(number));
            }
            960..965 => drop(
                self.group
                    .with_raft(number, |raft| raft.transfer_leadership(id(other))),
            ),
            965..970 => self
                .group
                .with_raft(number, |raft| raft.unreachable(id(other))),
            970..978 => drop(self.group.cut.insert((id(number), id(other)))),
            978..980 => self.group.heal(),
            980..987 => self.group.cut_off(number),
            987..990 => self
                .group
                .with_raft(number, |raft| raft.step_down(StepDown::DiskStalled)),
            990..995 => {
                self.group.install(id(number));
                self.group.turn(id(number));
            }
            _ => self.drop_any(),
        }
        self.check_reads();
    }

    /// Asks for a change of any kind.
    fn change_members(&mut self, at: u64, other: u64) {
        let newcomer = self.next_member;
        let info = MemberInfo::default();
        let change = match self.rng.u8(..5) {
            0 => Change::Add {
                id: id(newcomer),
                info,
                promote: self.rng.bool(),
            },
            1 => Change::Replace {
                old: id(other),
                id: id(newcomer),
                info,
            },
            2 => Change::Promote(id(other)),
            _ => Change::Remove(id(other)),
        };
        let is_new = matches!(change, Change::Add { .. } | Change::Replace { .. });
        let crowd = self.group.nodes.len();
        if is_new && 9 < crowd {
            return;
        }
        if self
            .group
            .with_raft(at, |raft| raft.change_membership(change))
            .is_ok()
        {
            self.changes += 1;
            if is_new {
                self.next_member += 1;
                self.group.join(newcomer);
            }
        }
    }

    fn deliver_any(&mut self) {
        if self.group.network.is_empty() {
            return;
        }
        // Mostly in order, sometimes from anywhere, sometimes twice.
        let far = self.rng.u8(..4) == 0;
        let at = if far {
            self.rng.usize(..self.group.network.len())
        } else {
            0
        };
        let message = if self.rng.u8(..20) == 0 {
            self.group.network[at].clone()
        } else {
            self.group.network.remove(at)
        };
        self.snapshots += usize::from(matches!(message.body, Body::Snapshot { .. }));
        self.group.receive(message);
    }

    fn drop_any(&mut self) {
        if !self.group.network.is_empty() {
            let at = self.rng.usize(..self.group.network.len());
            self.group.network.remove(at);
        }
    }

    fn read(&mut self, number: u64) {
        self.next_read += 1;
        let token = self.next_read;
        self.reads
            .insert(token, (id(number), self.applied_by_anybody()));
        self.group
            .with_raft(number, |raft| raft.read(ReadToken(token)));
    }

    fn check_reads(&mut self) {
        for node in self.group.nodes.values_mut() {
            for read in node.reads.drain(..) {
                let (_, applied) = self
                    .reads
                    .remove(&read.token.0)
                    .expect("a read is answered twice");
                if let Some(point) = read.point {
                    assert!(
                        applied <= point.index,
                        "a read at {} misses {applied}",
                        point.index
                    );
                    self.answered += 1;
                }
            }
        }
    }

    /// Without faults all must agree soon, write, and answer.
    fn converge(&mut self) {
        self.group.heal();
        self.group.holds_installs = false;
        for number in self.group.up() {
            self.group.install(id(number));
            self.group.turn(id(number));
        }
        let down: Vec<u64> = self
            .group
            .nodes
            .iter()
            .filter(|(_, node)| !node.is_up)
            .map(|(id, _)| id.0)
            .collect();
        down.into_iter()
            .for_each(|number| self.group.restart(number));
        self.group.pass(ms(3000));
        let leader = self.group.leader().unwrap_or_else(|| {
            let members = self.group.nodes.values();
            let shown: Vec<_> = members
                .map(|node| (node.raft.status(), node.raft.configuration()))
                .collect();
            panic!("no leader after ten election timeouts: {shown:#?}")
        });
        let position = self
            .group
            .propose(leader, "last")
            .expect("the leader takes proposals");
        self.group.pass(ms(500));
        let configuration = self.group.raft(leader).configuration().clone();
        assert!(!configuration.is_joint(), "{configuration:?}");
        assert!(configuration.promoting.is_empty(), "{configuration:?}");
        assert!(configuration.is_voter(id(leader)));
        for (id, node) in &self.group.nodes {
            if !configuration.contains(*id) {
                continue;
            }
            assert_eq!(*node.raft.configuration(), configuration, "{id}");
            assert_eq!(
                node.applied_meta.position,
                position,
                "{id} lags: {:#?}",
                node.raft.status()
            );
        }
        // Every read was answered, one way or another, but those whose member crashed.
        self.check_reads();
        assert!(
            self.reads.is_empty(),
            "reads without an answer: {:?}",
            self.reads
        );
    }
}

fn run(seed: u64, steps: usize) -> Chaos {
    let mut chaos = Chaos::new(seed);
    for step in 0..steps {
        chaos.step();
        if step % 64 == 0 {
            chaos.group.check_log_matching();
            chaos.group.trace.clear();
        }
    }
    chaos.converge();
    chaos
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how many schedules are tried is no setting of what is tested"
)]
fn random_schedules_keep_the_five_properties_and_converge() {
    /// `TENURE_RANDOM_SEEDS` asks for more.
    const SEEDS: u64 = 200;
    let seeds = std::env::var("TENURE_RANDOM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let (mut applied, mut answered, mut snapshots, mut changes) = (0, 0, 0, 0);
    for seed in 0..seeds {
        eprintln!("seed {seed}");
        let chaos = run(seed, 6000);
        applied += chaos.group.history.len();
        answered += chaos.answered;
        snapshots += chaos.snapshots;
        changes += chaos.changes;
    }
    // Schedules in which nothing happens would prove nothing.
    assert!(
        applied as u64 > 20 * seeds
            && answered as u64 > seeds
            && snapshots as u64 > seeds / 4
            && changes as u64 > seeds / 2,
        "{applied} {answered} {snapshots} {changes}"
    );
}
