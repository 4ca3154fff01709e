//! A small group in memory: real cores, disks that lose what was not synced, and a network whose every message is
//! held until it is delivered or dropped.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a module of tests")]

mod ask;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::*;

pub use ask::*;
pub use tell::*;

pub fn id(number: u64) -> MemberId {
    MemberId(number)
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn position(term: u64, index: u64) -> LogPosition {
    LogPosition {
        term: Term(term),
        index: LogIndex(index),
    }
}

pub fn voters(numbers: impl IntoIterator<Item = u64>) -> Configuration {
    Configuration {
        voters: numbers.into_iter().map(MemberId).collect(),
        ..Configuration::default()
    }
}

pub fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        stamp: Stamp(0),
        payload,
    }
}

pub fn command(term: u64, index: u64, text: &str) -> Entry {
    entry(
        term,
        index,
        Payload::Command(Bytes::copy_from_slice(text.as_bytes())),
    )
}

/// Entries behind the genesis, of the terms given.
pub fn entries(terms: &[u64]) -> Vec<Entry> {
    (2..)
        .zip(terms)
        .map(|(index, &term)| entry(term, index, Payload::Empty))
        .collect()
}

/// The disk of a member: what is durable.
#[derive(Clone, Debug)]
pub struct Disk {
    pub hard_state: HardState,
    pub base: SnapshotMeta,
    pub entries: Vec<Entry>,
    pub applied: SnapshotMeta,
}

impl Disk {
    pub fn new(configuration: Configuration) -> Disk {
        Disk::holding(Restored::genesis(configuration))
    }

    pub fn holding(restored: Restored) -> Disk {
        let Restored {
            hard_state,
            base,
            entries,
            applied,
        } = restored;
        Disk {
            hard_state,
            base,
            entries,
            applied,
        }
    }

    pub fn last(&self) -> LogPosition {
        self.entries
            .last()
            .map_or(self.base.position, Entry::position)
    }

    pub fn write(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            assert!(
                self.hard_state.term <= hard_state.term,
                "the stored term falls"
            );
            let same = self.hard_state.term == hard_state.term;
            assert!(
                !same || self.hard_state.vote.is_none() || self.hard_state.vote == hard_state.vote,
                "two votes"
            );
            self.hard_state = hard_state;
        }
        if let Some(base) = &write.reset_to {
            self.entries.clear();
            self.base = base.clone();
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        for entry in &write.append {
            assert_eq!(
                entry.index,
                self.last().index.next(),
                "the stored log has a gap"
            );
            assert!(
                entry.term <= self.hard_state.term,
                "an entry is stored before its term"
            );
            self.entries.push(entry.clone());
        }
        if let Some(base) = &write.compact_to {
            self.entries
                .retain(|entry| base.position.index < entry.index);
            self.base = base.clone();
        }
    }

    pub fn start(&self, id: MemberId, settings: &Settings, seed: u64) -> Raft {
        let Disk {
            hard_state,
            base,
            entries,
            applied,
        } = self.clone();
        Raft::new(
            id,
            settings.clone(),
            seed,
            Restored {
                hard_state,
                base,
                entries,
                applied,
            },
        )
        .unwrap()
    }
}

/// A member.
#[derive(Debug)]
pub struct Node {
    pub raft: Raft,
    pub disk: Disk,
    /// Writes under way, oldest first.
    pub writes: VecDeque<Write>,
    pub is_up: bool,
    /// Entries applied since the genesis or the last snapshot: index, term, and what they say.
    pub applied: Vec<Entry>,
    pub applied_meta: SnapshotMeta,
    pub reads: Vec<ReadResult>,
    /// Bytes of the snapshot that is being received.
    pub stored: BTreeMap<LogIndex, u64>,
    pub installs: VecDeque<SnapshotFile>,
}

/// A group.
#[derive(Debug)]
pub struct Group {
    pub nodes: BTreeMap<MemberId, Node>,
    pub settings: Settings,
    /// Messages under way, in the order in which they were sent.
    pub network: Vec<Message>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(MemberId, MemberId)>,
    pub trace: Vec<String>,
    pub snapshot_size: u64,
    /// Snapshots are installed only when asked for.
    pub holds_installs: bool,
    /// Every entry that anybody ever applied.
    pub history: BTreeMap<LogIndex, Entry>,
    /// Who led each term.
    pub leaders: BTreeMap<Term, MemberId>,
    seed: u64,
}

impl Group {
    pub fn new(disks: Vec<(MemberId, Disk)>, settings: Settings, seed: u64) -> Group {
        let mut group = Group {
            nodes: BTreeMap::new(),
            settings,
            network: Vec::new(),
            cut: BTreeSet::new(),
            trace: Vec::new(),
            snapshot_size: 3,
            holds_installs: false,
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            seed,
        };
        for (id, disk) in disks {
            group.boot(id, disk);
        }
        group
    }

    /// Members 1 to `count`, all voters.
    pub fn of(count: u64) -> Group {
        Group::with(count, Settings::default())
    }

    pub fn with(count: u64, settings: Settings) -> Group {
        let disks = (1..=count)
            .map(|n| (id(n), Disk::new(voters(1..=count))))
            .collect();
        Group::new(disks, settings, 1)
    }

    pub fn boot(&mut self, id: MemberId, disk: Disk) {
        self.seed += 1;
        let raft = disk.start(id, &self.settings, self.seed * 1000 + id.0);
        let applied_meta = disk.applied.clone();
        let node = Node {
            raft,
            disk,
            writes: VecDeque::new(),
            is_up: true,
            applied: Vec::new(),
            applied_meta,
            reads: Vec::new(),
            stored: BTreeMap::new(),
            installs: VecDeque::new(),
        };
        self.nodes.insert(id, node);
        self.turn(id);
    }

    /// A member that joins: it has nothing, and was told who votes.
    pub fn join(&mut self, number: u64) {
        let known = self.nodes.values().next().unwrap();
        let configuration = Configuration::clone(known.raft.configuration());
        let restored = Restored::joining(configuration);
        self.boot(id(number), Disk::holding(restored));
    }

    pub fn node(&self, number: u64) -> &Node {
        &self.nodes[&id(number)]
    }

    pub fn raft(&self, number: u64) -> &Raft {
        &self.node(number).raft
    }

    pub fn node_mut(&mut self, id: MemberId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// Calls the core of a member and does what it then wants done, but for its write and the delivery of messages.
    pub fn with_raft<T>(&mut self, number: u64, call: impl FnOnce(&mut Raft) -> T) -> T {
        let result = call(&mut self.node_mut(id(number)).raft);
        self.turn(id(number));
        result
    }

    pub fn turn(&mut self, id: MemberId) {
        loop {
            self.node_mut(id).raft.carry_changes_on();
            let ready = self.node_mut(id).raft.ready();
            self.record(id, &ready);
            self.check_changes(id, &ready.changes);
            let tasks = self.take_ready(id, ready);
            if tasks.is_empty() {
                return;
            }
            tasks
                .into_iter()
                .for_each(|task| self.snapshot_task(id, task));
        }
    }

    fn take_ready(&mut self, id: MemberId, ready: Ready) -> Vec<SnapshotTask> {
        let Ready {
            write,
            messages,
            committed,
            reads,
            changes: _,
            snapshots,
        } = ready;
        self.send(messages);
        let node = self.nodes.get_mut(&id).unwrap();
        node.writes.extend(write);
        node.reads.extend(reads);
        for entry in committed {
            // State Machine Safety (Raft figure 3).
            let known = self
                .history
                .entry(entry.index)
                .or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "{id} applies another entry");
            let node = self.nodes.get_mut(&id).unwrap();
            assert_eq!(
                entry.index,
                node.applied_meta.position.index.next(),
                "applied with a gap"
            );
            let stored = node
                .disk
                .entries
                .iter()
                .find(|stored| stored.index == entry.index);
            assert_eq!(
                stored,
                Some(&entry),
                "{id} applies what its disk does not hold"
            );
            if let Payload::Configuration(configuration) = &entry.payload {
                node.applied_meta.configuration = configuration.clone();
            }
            (node.applied_meta.position, node.applied_meta.stamp) = (entry.position(), entry.stamp);
            node.applied.push(entry);
        }
        snapshots
    }

    /// Election Safety and Leader Completeness (Raft figure 3).
    fn check_changes(&mut self, id: MemberId, changes: &[RoleChange]) {
        for change in changes {
            let RoleChange::Leader { term, .. } = change else {
                continue;
            };
            let leader = *self.leaders.entry(*term).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {term}");
            let raft = &self.nodes[&id].raft;
            let base = raft.status().base.index;
            for (index, entry) in self.history.range(base..) {
                assert_eq!(
                    raft.term_at(*index),
                    Some(entry.term),
                    "{id} leads {term} without {index}"
                );
            }
        }
    }

    /// Log Matching (Raft figure 3), on all pairs.
    pub fn check_log_matching(&self) {
        for a in self.nodes.values() {
            for b in self.nodes.values() {
                let entries = |node: &Node| node.raft.log_entries().cloned().collect::<Vec<_>>();
                let (a, b) = (entries(a), entries(b));
                let Some(agreed) = a
                    .iter()
                    .rev()
                    .find(|entry| b.iter().any(|e| e.position() == entry.position()))
                else {
                    continue;
                };
                let first = a[0].index.max(b[0].index);
                let prefix = |log: &[Entry]| -> Vec<Entry> {
                    log.iter()
                        .filter(|e| first <= e.index && e.index <= agreed.index)
                        .cloned()
                        .collect()
                };
                assert_eq!(
                    prefix(&a),
                    prefix(&b),
                    "logs agree at {} and differ before",
                    agreed.index
                );
            }
        }
    }

    pub fn send(&mut self, messages: Vec<Message>) {
        messages
            .iter()
            .for_each(|message| self.check_release(message));
        let cut = &self.cut;
        self.network.extend(
            messages
                .into_iter()
                .filter(|m| !cut.contains(&(m.from, m.to))),
        );
    }

    fn snapshot_task(&mut self, id: MemberId, task: SnapshotTask) {
        let size = self.snapshot_size;
        let node = self.node_mut(id);
        match task {
            SnapshotTask::Make { to, at_least } => {
                let meta = node.disk.applied.clone();
                assert!(
                    at_least <= meta.position.index,
                    "the checkpoint is older than the log"
                );
                node.raft.snapshot_available(
                    to,
                    SnapshotFile {
                        meta,
                        size,
                        digest: 7,
                    },
                );
            }
            SnapshotTask::Read {
                to,
                file,
                offset,
                length,
            } => {
                let data = Bytes::from(vec![0; usize::try_from(length).unwrap()]);
                node.raft.send_piece(to, &file, offset, data);
            }
            SnapshotTask::Release { .. } => {}
            SnapshotTask::Store {
                file,
                offset,
                data,
                round,
                from,
            } => {
                let stored = node.stored.entry(file.meta.position.index).or_default();
                if *stored == offset {
                    *stored += data.len() as u64;
                }
                node.raft.piece_stored(from, file, *stored, round);
            }
            SnapshotTask::Install { file } => {
                node.installs.push_back(file);
                if !self.holds_installs {
                    self.install(id);
                }
            }
        }
    }

    /// Makes the snapshot received the durable state of a member, and tells its core.
    pub fn install(&mut self, id: MemberId) {
        let node = self.node_mut(id);
        let Some(file) = node.installs.pop_front() else {
            return;
        };
        node.disk.applied = file.meta.clone();
        node.applied_meta = file.meta.clone();
        node.raft.snapshot_installed(file.meta);
    }

    /// Makes the oldest write of a member durable.
    pub fn persist(&mut self, number: u64) -> bool {
        let node = self.node_mut(id(number));
        let Some(write) = node.writes.pop_front() else {
            return false;
        };
        node.disk.write(&write);
        let term = node.raft.term();
        let released: Vec<Message> = write
            .then
            .into_iter()
            .filter(|message| term <= message.term)
            .collect();
        node.raft.persisted(write.id);
        for message in &released {
            self.trace
                .push(format!("n{number} sends {}", tell_message(message)));
        }
        self.send(released);
        self.turn(id(number));
        true
    }

    /// What depends on the disk is said only when the disk has it.
    fn check_release(&self, message: &Message) {
        let disk = &self.nodes[&message.from].disk;
        match message.body {
            Body::VoteResponse { granted: true } => {
                assert_eq!(
                    disk.hard_state,
                    HardState {
                        term: message.term,
                        vote: Some(message.to)
                    }
                );
            }
            Body::AppendResponse {
                result: AppendResult::Accepted { matched },
                ..
            } => {
                assert!(
                    matched <= disk.last().index.max(disk.applied.position.index),
                    "claims more than is durable"
                );
            }
            _ => {}
        }
    }

    pub fn persist_all(&mut self, number: u64) {
        while self.persist(number) {}
    }

    /// Delivers the messages that `wanted` picks, in order; what is said in reply stays under way.
    pub fn deliver(&mut self, wanted: impl Fn(&Message) -> bool) -> usize {
        let (chosen, rest) = std::mem::take(&mut self.network)
            .into_iter()
            .partition(|message| wanted(message));
        self.network = rest;
        let chosen: Vec<Message> = chosen;
        let count = chosen.len();
        chosen.into_iter().for_each(|message| self.receive(message));
        count
    }

    pub fn receive(&mut self, message: Message) {
        let to = message.to;
        if self.nodes.get(&to).is_some_and(|node| node.is_up) {
            self.node_mut(to).raft.receive(message);
            self.turn(to);
        }
    }

    pub fn drop_messages(&mut self, unwanted: impl Fn(&Message) -> bool) {
        self.network.retain(|message| !unwanted(message));
    }

    /// Delivers and persists until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let writes: usize = self
                .up()
                .into_iter()
                .map(|n| usize::from(self.persist(n)))
                .sum();
            if writes + self.deliver(|_| true) == 0 {
                return;
            }
        }
        panic!("the group does not come to rest");
    }

    pub fn up(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.is_up)
            .map(|(id, _)| id.0)
            .collect()
    }

    pub fn tick(&mut self, number: u64, elapsed: Duration) {
        self.with_raft(number, |raft| raft.tick(elapsed));
    }

    /// Lets time pass for all, settling at each heartbeat interval.
    pub fn pass(&mut self, total: Duration) {
        let step = self.settings.heartbeat_interval;
        let mut passed = Duration::ZERO;
        while passed < total {
            self.up()
                .into_iter()
                .for_each(|number| self.tick(number, step));
            self.settle();
            passed += step;
        }
    }

    /// Lets the election timer of one member run out.
    pub fn expire(&mut self, number: u64) {
        let due = self.raft(number).next_tick();
        self.tick(number, due);
    }

    /// Makes a member leader of a group that has none.
    pub fn elect(&mut self, number: u64) {
        self.expire(number);
        self.settle();
        assert!(self.raft(number).is_leader(), "n{number} was not elected");
    }

    pub fn leader(&self) -> Option<u64> {
        self.up()
            .into_iter()
            .filter(|&n| self.raft(n).is_leader())
            .max_by_key(|&n| self.raft(n).term())
    }

    pub fn propose(&mut self, number: u64, text: &str) -> Result<LogPosition, ProposeError> {
        let text = Bytes::copy_from_slice(text.as_bytes());
        self.with_raft(number, |raft| raft.propose(text))
    }

    pub fn cut_off(&mut self, number: u64) {
        let others: Vec<MemberId> = self
            .nodes
            .keys()
            .copied()
            .filter(|&other| other != id(number))
            .collect();
        for other in others {
            self.cut.extend([(id(number), other), (other, id(number))]);
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Loses what was not synced.
    pub fn crash(&mut self, number: u64) {
        let node = self.node_mut(id(number));
        node.is_up = false;
        node.writes.clear();
        node.installs.clear();
    }

    pub fn restart(&mut self, number: u64) {
        let disk = self.node(number).disk.clone();
        self.boot(id(number), disk);
    }

    /// Makes what a member has applied durable in its state machine.
    pub fn checkpoint(&mut self, number: u64) {
        let node = self.node_mut(id(number));
        let meta = node.applied_meta.clone();
        node.disk.applied = meta.clone();
        self.with_raft(number, |raft| raft.checkpointed(meta));
    }

    pub fn commit_of(&self, number: u64) -> u64 {
        self.raft(number).status().commit.0
    }

    pub fn terms_of(&self, number: u64) -> Vec<u64> {
        self.raft(number)
            .log_entries()
            .map(|entry| entry.term.0)
            .collect()
    }

    pub fn last_read(&self, number: u64) -> Option<ReadResult> {
        self.node(number).reads.last().copied()
    }

    fn record(&mut self, id: MemberId, ready: &Ready) {
        let lines = tell_ready(ready);
        self.trace
            .extend(lines.into_iter().map(|line| format!("n{} {line}", id.0)));
    }
}
