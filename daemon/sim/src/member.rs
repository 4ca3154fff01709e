//! A simulated member: the production core and applier, and around them what the binary's threads do.
//!
//! Owns when things happen: a turn of the core takes all that has arrived, applies come later, disks answer when they
//! are done. The order of calls is that of the binary's core thread.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{
    Entry, LogIndex, MemberId, Payload, ReadPoint, Restored, RoleName, SnapshotFile, SnapshotMeta,
    SnapshotTask, Stamp, StepDown, WriteId,
};
use tenure_replica::{Applier, Core, Decided, Input, Output, PeerMessage};
use tenure_state::{Origin, State, decode_batch};

use crate::calls::{CallId, Poll, Reply};
use crate::chance::Chance;
use crate::disk::{DurableLog, DurableState, LogDisk, StateDisk};
use crate::oracle::{Around, View, demand};
use crate::snapshot;
use crate::time::{Moment, SimClock};
use crate::watchers::OpenWatch;
use crate::world::{Event, Life, World};

/// How many events one turn takes, as in the binary.
const EVENTS_A_TURN: usize = 4096;
/// The loop turns at least this often, as in the binary.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// More inputs never wait than these: in the binary the queue is bounded and drops.
const MOST_INPUTS: usize = 200_000;
/// Entries applied in one go.
const ENTRIES_A_GO: usize = 256;

pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) clock: SimClock,
    pub(crate) log: LogDisk,
    pub(crate) state: StateDisk,
    pub(crate) running: Option<Running>,
    pub(crate) life: Life,
    /// The number of the pause that it is in.
    pub(crate) paused: Option<u64>,
    /// What it would have done while it was paused.
    pub(crate) deferred: Vec<Event>,
    /// It is not started again.
    pub(crate) down_for_good: bool,
    pub(crate) next_token: u64,
}

/// A member while it runs.
pub(crate) struct Running {
    pub(crate) core: Core,
    pub(crate) applier: Applier,
    inbox: VecDeque<Input>,
    last_turn: Duration,
    slept: Duration,
    turn: Option<Moment>,
    turns: u64,
    to_apply: VecDeque<Entry>,
    applying: bool,
    /// Snapshot work is done one after the other.
    snapshots_free: Moment,
    outgoing: Vec<(MemberId, SnapshotFile, Bytes)>,
    pub(crate) pending: BTreeMap<u64, CallId>,
    pub(crate) reads: Vec<(ReadPoint, CallId)>,
    pub(crate) polls: Vec<Poll>,
    pub(crate) watches: Vec<OpenWatch>,
    writing_since: Option<Duration>,
    handed: WriteId,
    pub(crate) term: u64,
    pub(crate) leads: bool,
}

/// Snapshot work that takes its time.
#[derive(Debug)]
pub(crate) enum SnapshotStep {
    Make {
        to: MemberId,
        at_least: LogIndex,
    },
    Read {
        to: MemberId,
        file: SnapshotFile,
        offset: u64,
        length: u64,
    },
    Store {
        file: SnapshotFile,
        offset: u64,
        data: Bytes,
        round: u64,
        from: MemberId,
    },
    Install {
        file: SnapshotFile,
    },
}

impl Member {
    /// A member of a cluster that has just been formed.
    pub(crate) fn formed(
        place: usize,
        clock: SimClock,
        token: u64,
        meta: &SnapshotMeta,
        state: &State,
    ) -> Member {
        let rows = state
            .rows()
            .map(|row| ((row.table, row.key), row.value))
            .collect();
        let durable = DurableLog {
            hard_state: tenure_raft::HardState {
                term: meta.position.term,
                vote: None,
            },
            base: meta.clone(),
            entries: VecDeque::new(),
        };
        Member {
            id: MemberId(place as u64 + 1),
            clock,
            log: LogDisk::holding(durable),
            state: StateDisk::holding(DurableState {
                meta: meta.clone(),
                digest: state.digest(),
                rows,
            }),
            running: None,
            life: Life(0),
            paused: None,
            deferred: Vec::new(),
            down_for_good: false,
            next_token: token,
        }
    }

    /// A number for a request; never the same twice, across restarts too.
    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl World {
    /// Starts a member from its disks.
    pub(crate) fn restart(&mut self, place: usize) {
        let now = self.now;
        let member = &mut self.members[place];
        if member.running.is_some() || member.down_for_good {
            return;
        }
        let state = State::from_rows(member.state.durable.rows()).unwrap_or_else(|error| {
            crate::oracle::broken("restart", format!("n{}: {error}", place + 1))
        });
        let applied = member.state.durable.meta.clone();
        demand!(
            state.digest() == member.state.durable.digest,
            "checkpoint",
            "n{} reads another state than it wrote at {:?}",
            place + 1,
            applied.position
        );
        self.oracle
            .history
            .compare(place, applied.position.index, state.digest());
        let log = &member.log.durable;
        let restored = Restored {
            hard_state: log.hard_state,
            base: log.base.clone(),
            entries: log.entries.iter().cloned().collect(),
            applied: applied.clone(),
        };
        let core = Core::new(
            member.id,
            self.plan.core.clone(),
            self.chance.seed(),
            restored,
        )
        .unwrap_or_else(|error| {
            crate::oracle::broken("restart", format!("n{}: {error}", place + 1))
        });
        let applier = Applier::new(member.id, state, applied);
        let status = core.status();
        self.oracle.consensus.started(
            place,
            &View {
                raft: core.raft(),
                status: &status,
            },
        );
        let first = Input::Applied {
            index: applier.applied().position.index,
            due: applier.due(),
        };
        member.life.0 += 1;
        let life = member.life;
        member.running = Some(Running {
            core,
            applier,
            inbox: [first].into(),
            last_turn: member.clock.shows(now),
            slept: Duration::ZERO,
            turn: None,
            turns: 0,
            to_apply: VecDeque::new(),
            applying: false,
            snapshots_free: now,
            outgoing: Vec::new(),
            pending: BTreeMap::new(),
            reads: Vec::new(),
            polls: Vec::new(),
            watches: Vec::new(),
            writing_since: None,
            handed: WriteId::default(),
            term: status.term.0,
            leads: false,
        });
        self.trace
            .say(now, || format!("n{} starts: {status:?}", place + 1));
        self.request_turn(place, Duration::ZERO);
        let every = self.plan.disk.checkpoint_every;
        self.after(
            every,
            Event::Checkpoint {
                member: place,
                life,
            },
        );
    }

    /// Gives an input to a member that runs, and lets it turn soon.
    pub(crate) fn tell(&mut self, place: usize, input: Input) {
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        running.inbox.push_back(input);
        demand!(
            running.inbox.len() < MOST_INPUTS,
            "bounded",
            "n{} has {} inputs",
            place + 1,
            running.inbox.len()
        );
        let delay = self.chance.span(Duration::ZERO, self.plan.turn_delay);
        self.request_turn(place, delay);
    }

    fn request_turn(&mut self, place: usize, delay: Duration) {
        let at = self.now + delay;
        let member = &mut self.members[place];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        if running.turn.is_some_and(|planned| planned <= at) {
            return;
        }
        running.turn = Some(at);
        running.turns += 1;
        let number = running.turns;
        self.at(
            at,
            Event::Turn {
                member: place,
                life,
                number,
            },
        );
    }

    /// One turn of the core: time first, then what has arrived, then what comes of it.
    pub(crate) fn turn(&mut self, place: usize, number: u64) {
        let member = &mut self.members[place];
        let shows = member.clock.shows(self.now);
        let Some(running) = &mut member.running else {
            return;
        };
        if running.turns != number {
            return;
        }
        running.turn = None;
        running.pass_time(shows, &self.plan);
        let count = running.inbox.len().min(EVENTS_A_TURN);
        for input in running.inbox.drain(..count) {
            if let Input::Persisted(id) = &input {
                running.writing_since = (*id < running.handed).then_some(shows);
            }
            running.core.handle(input);
        }
        let output = running.core.output();
        self.carry_out(place, output);
        self.plan_turn(place);
        self.perhaps_crash(place);
    }

    fn plan_turn(&mut self, place: usize) {
        let member = &mut self.members[place];
        let Some(running) = &mut member.running else {
            return;
        };
        running.slept = running.core.next_turn().min(LONGEST_SLEEP);
        let sleep = if running.inbox.is_empty() {
            running.slept
        } else {
            Duration::ZERO
        };
        let sleep = member.clock.true_span(sleep);
        self.request_turn(place, sleep);
    }

    /// Does what the core wants done.
    fn carry_out(&mut self, place: usize, output: Output) {
        let Output {
            write,
            send,
            apply,
            reads,
            refused,
            progress: _,
            changes,
            snapshots,
        } = output;
        let mut proposed = Vec::new();
        for change in &changes {
            if matches!(change, tenure_raft::RoleChange::Leader { .. }) {
                self.trace.counts.elections += 1;
            }
            self.trace
                .say(self.now, || format!("n{} {change:?}", place + 1));
            self.oracle.consensus.changed(place, change);
        }
        if let Some(write) = write {
            self.oracle.consensus.wrote(self.now, place, &write);
            let shows = self.members[place].clock.shows(self.now);
            if let Some(running) = &mut self.members[place].running {
                running.handed = write.id;
                running.writing_since.get_or_insert(shows);
            }
            let appended = self.waiting_for(place, &write.append);
            // Before anybody else has heard of it.
            if self.chance.coin() && self.perhaps_lose_leader(place, appended.clone()) {
                return;
            }
            proposed.extend(appended);
            self.members[place].log.queue(write);
            self.begin_sync(place);
        }
        for (to, message) in send {
            if let PeerMessage::Raft(message) = &message {
                self.oracle
                    .consensus
                    .sent(place, message, &self.members[place].log.durable);
            }
            self.send(place, to, message);
        }
        self.judge_turn(place);
        proposed.extend(self.waiting_for(place, &apply));
        self.queue_apply(place, apply);
        for (token, point) in reads {
            self.read_decided(place, token, point);
        }
        for (token, reason) in refused {
            self.refused(place, token, reason);
        }
        for task in snapshots {
            self.snapshot_task(place, task);
        }
        // What was appended is on no disk yet; what is committed is not applied.
        self.perhaps_lose_leader(place, proposed);
    }

    fn judge_turn(&mut self, place: usize) {
        let disks: Vec<&DurableLog> = self
            .members
            .iter()
            .map(|member| &member.log.durable)
            .collect();
        let Some(running) = &self.members[place].running else {
            return;
        };
        let status = running.core.status();
        let view = View {
            raft: running.core.raft(),
            status: &status,
        };
        let before = self.oracle.consensus.commit();
        self.oracle.consensus.turned(place, &view, &disks);
        let member = &self.members[place];
        demand!(
            member.state.durable.meta.position.index <= running.applier.applied().position.index,
            "checkpoint",
            "n{} has a checkpoint beyond what it applied",
            place + 1
        );
        demand!(
            member.log.waiting() < 100_000,
            "bounded",
            "n{}: {} writes wait",
            place + 1,
            member.log.waiting()
        );
        let after = self.oracle.consensus.commit();
        self.trace.counts.commits += after.0 - before.0;
        for number in [status.term.0, status.commit.0, status.last.index.0] {
            self.trace.number(number);
        }
        if let Some(running) = &mut self.members[place].running {
            running.term = status.term.0;
            running.leads = status.role == RoleName::Leader;
        }
    }

    fn queue_apply(&mut self, place: usize, entries: Vec<Entry>) {
        let member = &mut self.members[place];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        running.to_apply.extend(entries);
        if running.applying || running.to_apply.is_empty() {
            return;
        }
        running.applying = true;
        let plan = &self.plan.apply;
        let delay = match self.chance.happens(plan.slow) {
            true => self
                .chance
                .skewed_span(plan.delay.1, plan.slowest.max(plan.delay.1)),
            false => self.chance.span(plan.delay.0, plan.delay.1),
        };
        self.after(
            delay,
            Event::Apply {
                member: place,
                life,
            },
        );
    }

    /// Applies what waits, answers those who wait for it, and tells the core.
    pub(crate) fn apply(&mut self, place: usize) {
        let mut answers: Vec<(CallId, LogIndex, Decided)> = Vec::new();
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        running.applying = false;
        let count = running.to_apply.len().min(ENTRIES_A_GO);
        for entry in running.to_apply.drain(..count) {
            let before = running.applier.state().revision();
            let progress = running
                .applier
                .apply(std::slice::from_ref(&entry))
                .unwrap_or_else(|error| {
                    crate::oracle::broken("apply", format!("n{}: {error}", place + 1))
                });
            let oracle = &mut self.oracle;
            let Some(committed) = oracle.consensus.committed(entry.index) else {
                crate::oracle::broken(
                    "apply",
                    format!("n{} applies {}, not committed", place + 1, entry.index),
                )
            };
            oracle.history.applied(
                (place, entry.index, before),
                committed,
                running.applier.state(),
                Around {
                    decisions: &mut oracle.decisions,
                    calls: &mut oracle.calls,
                    beliefs: &mut oracle.beliefs,
                },
            );
            self.trace.counts.applied += 1;
            for (token, decided) in progress.decided {
                let origin = Origin {
                    member: place as u64 + 1,
                    token,
                };
                oracle.decisions.told(origin, entry.index, &decided);
                if let Some(call) = running.pending.remove(&token) {
                    answers.push((call, entry.index, decided));
                }
            }
        }
        let applied = running.applier.applied().position.index;
        let due = running.applier.due();
        let unanswered = answers
            .iter()
            .filter_map(|(call, _, _)| self.calls.get(call)?.origin)
            .collect();
        if self.perhaps_lose_leader(place, unanswered) {
            return;
        }
        for (call, index, decided) in answers {
            self.decided(place, call, index, decided);
        }
        self.tell(
            place,
            Input::Applied {
                index: applied,
                due,
            },
        );
        self.serve_waiting(place);
        self.queue_apply(place, Vec::new());
        self.perhaps_crash(place);
    }

    fn begin_sync(&mut self, place: usize) {
        let delay = self.disk_delay();
        let member = &mut self.members[place];
        if member.log.begin_sync() {
            let (life, at) = (
                member.life,
                (self.now + delay).max(member.log.stalled_until),
            );
            self.at(
                at,
                Event::Synced {
                    member: place,
                    life,
                },
            );
        }
    }

    fn disk_delay(&mut self) -> Duration {
        let plan = &self.plan.disk;
        match self.chance.happens(plan.slow) {
            true => self
                .chance
                .skewed_span(plan.sync.1, plan.slowest.max(plan.sync.1)),
            false => self.chance.span(plan.sync.0, plan.sync.1),
        }
    }

    /// A sync of the log file is done.
    pub(crate) fn synced(&mut self, place: usize) {
        let member = &mut self.members[place];
        let stalled = member.log.stalled_until;
        if self.now < stalled {
            let life = member.life;
            return self.at(
                stalled,
                Event::Synced {
                    member: place,
                    life,
                },
            );
        }
        let writes = member.log.synced();
        let mut last = None;
        let mut durable = Vec::new();
        for write in writes {
            durable.extend(self.waiting_for(place, &write.append));
            last = Some(self.make_durable(place, write));
        }
        if let Some(id) = last {
            self.tell(place, Input::Persisted(id));
        }
        self.begin_sync(place);
        // What is on its disk is not committed by it yet.
        if !self.perhaps_lose_leader(place, durable) {
            self.perhaps_crash(place);
        }
    }

    fn make_durable(&mut self, place: usize, write: tenure_raft::Write) -> WriteId {
        let log = &mut self.members[place].log;
        self.oracle.consensus.synced(place, &log.durable, &write);
        log.perform(write)
    }

    /// Begins a checkpoint, if there is anything new.
    pub(crate) fn begin_checkpoint(&mut self, place: usize) {
        let delay = self.disk_delay();
        let member = &mut self.members[place];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        let fresh =
            member.state.durable.meta.position.index < running.applier.applied().position.index;
        if !fresh || member.state.is_writing() {
            let every = self.plan.disk.checkpoint_every;
            return self.after(
                every,
                Event::Checkpoint {
                    member: place,
                    life,
                },
            );
        }
        member.state.begin(running.applier.checkpoint());
        let at = (self.now + delay).max(member.state.stalled_until);
        self.at(
            at,
            Event::Checkpointed {
                member: place,
                life,
            },
        );
    }

    /// A checkpoint is durable.
    pub(crate) fn end_checkpoint(&mut self, place: usize) {
        let member = &mut self.members[place];
        let (life, stalled) = (member.life, member.state.stalled_until);
        if self.now < stalled {
            return self.at(
                stalled,
                Event::Checkpointed {
                    member: place,
                    life,
                },
            );
        }
        if let Some(meta) = member.state.written() {
            self.trace.counts.checkpoints += 1;
            self.tell(place, Input::Checkpointed(meta));
        }
        let every = self.plan.disk.checkpoint_every;
        self.after(
            every,
            Event::Checkpoint {
                member: place,
                life,
            },
        );
        self.perhaps_crash(place);
    }

    fn snapshot_task(&mut self, place: usize, task: SnapshotTask) {
        let step = match task {
            SnapshotTask::Make { to, at_least } => SnapshotStep::Make { to, at_least },
            SnapshotTask::Read {
                to,
                file,
                offset,
                length,
            } => SnapshotStep::Read {
                to,
                file,
                offset,
                length,
            },
            SnapshotTask::Store {
                file,
                offset,
                data,
                round,
                from,
            } => SnapshotStep::Store {
                file,
                offset,
                data,
                round,
                from,
            },
            SnapshotTask::Install { file } => SnapshotStep::Install { file },
            SnapshotTask::Release { to, file } => {
                if let Some(running) = &mut self.members[place].running {
                    running
                        .outgoing
                        .retain(|(reader, kept, _)| (*reader, kept) != (to, &file));
                }
                return;
            }
        };
        let delay = self.disk_delay();
        let member = &mut self.members[place];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        let at = running.snapshots_free.max(self.now) + delay;
        running.snapshots_free = at;
        self.at(
            at.max(self.members[place].state.stalled_until),
            Event::Snapshot {
                member: place,
                life,
                step,
            },
        );
    }

    /// Snapshot work is done.
    pub(crate) fn snapshot_step(&mut self, place: usize, step: SnapshotStep) {
        let input = match step {
            SnapshotStep::Make { to, at_least } => self.make_snapshot(place, to, at_least),
            SnapshotStep::Read {
                to,
                file,
                offset,
                length,
            } => self.read_piece(place, to, file, offset, length),
            SnapshotStep::Store {
                file,
                offset,
                data,
                round,
                from,
            } => {
                let stored = self.members[place].state.stage(&file, offset, &data);
                Input::PieceStored {
                    from,
                    file,
                    stored,
                    round,
                }
            }
            SnapshotStep::Install { file } => self.install(place, file),
        };
        self.tell(place, input);
        self.perhaps_crash(place);
    }

    fn make_snapshot(&mut self, place: usize, to: MemberId, at_least: LogIndex) -> Input {
        let member = &mut self.members[place];
        let covered = member.state.durable.meta.position.index;
        demand!(
            at_least <= covered,
            "compaction",
            "n{} began its log at {at_least}; its checkpoint covers {covered}",
            place + 1
        );
        let Some(running) = &mut member.running else {
            return Input::SnapshotFailed { to };
        };
        if self.chance.happens(self.plan.disk.no_snapshot) {
            return Input::SnapshotFailed { to };
        }
        let (file, bytes) = snapshot::encode(&member.state.durable);
        running.outgoing.push((to, file.clone(), bytes));
        demand!(
            running.outgoing.len() < 64,
            "bounded",
            "n{} keeps {} snapshots",
            place + 1,
            running.outgoing.len()
        );
        Input::SnapshotAvailable { to, file }
    }

    fn read_piece(
        &mut self,
        place: usize,
        to: MemberId,
        file: SnapshotFile,
        offset: u64,
        length: u64,
    ) -> Input {
        let outgoing = self.members[place]
            .running
            .as_ref()
            .map(|running| &running.outgoing);
        let kept = outgoing
            .into_iter()
            .flatten()
            .find(|(reader, kept, _)| (*reader, kept) == (to, &file));
        let Some((_, _, bytes)) = kept else {
            return Input::SnapshotFailed { to };
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = from
            .saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
            .min(bytes.len());
        let data = bytes.slice(from..end);
        Input::PieceRead {
            to,
            file,
            offset,
            data,
        }
    }

    fn install(&mut self, place: usize, file: SnapshotFile) -> Input {
        let damaged = self.chance.happens(self.plan.disk.damaged);
        let member = &mut self.members[place];
        let staged = member
            .state
            .staged
            .take()
            .filter(|staged| staged.file == file && !damaged);
        let state = staged.and_then(|staged| snapshot::decode(&file, &staged.bytes));
        let (Some(durable), Some(running)) = (state, &mut member.running) else {
            self.trace.counts.damaged += 1;
            return Input::SnapshotRejected(file);
        };
        let state = State::from_rows(durable.rows()).unwrap_or_else(|error| {
            crate::oracle::broken("install", format!("n{}: {error}", place + 1))
        });
        let index = durable.meta.position.index;
        demand!(
            running.applier.applied().position.index < index,
            "install",
            "n{} installs {index} over {}",
            place + 1,
            running.applier.applied().position.index
        );
        self.oracle.history.compare(place, index, state.digest());
        demand!(
            state.digest() == durable.digest,
            "install",
            "n{} installs another state than was sent",
            place + 1
        );
        member.state.replace(durable);
        running.to_apply.retain(|entry| index < entry.index);
        running.applier.install(state, file.meta.clone());
        self.trace.counts.snapshots += 1;
        let due = running.applier.due();
        self.trace.say(self.now, || {
            format!("n{} installs {:?}", place + 1, file.meta.position)
        });
        self.serve_waiting(place);
        Input::SnapshotInstalled {
            meta: file.meta,
            due,
        }
    }

    /// Ends a member at once. Its disks keep what they had, and some of what was on its way.
    pub(crate) fn crash(&mut self, place: usize) {
        let member = &mut self.members[place];
        let Some(running) = member.running.take() else {
            return;
        };
        self.trace
            .say(self.now, || format!("n{} crashes", place + 1));
        self.trace.counts.crashes += 1;
        member.life.0 += 1;
        member.deferred.clear();
        member.paused = None;
        member.clock.resume(self.now);
        member.state.crash(&mut self.chance);
        let kept = member.log.crash(&mut self.chance);
        for write in kept {
            self.make_durable(place, write);
        }
        let open = running
            .pending
            .into_values()
            .chain(running.reads.into_iter().map(|(_, call)| call));
        let open = open
            .chain(running.polls.into_iter().map(|poll| poll.call))
            .collect::<Vec<_>>();
        for call in open
            .into_iter()
            .chain(running.watches.into_iter().map(|watch| watch.call))
        {
            if self.chance.coin() {
                self.reply(place, call, Reply::Broken);
            }
        }
    }

    /// A request of a client of this member was not proposed.
    fn refused(&mut self, place: usize, token: u64, reason: tenure_replica::Refused) {
        let member = &mut self.members[place];
        self.oracle.calls.refused(Origin {
            member: member.id.0,
            token,
        });
        let call = member
            .running
            .as_mut()
            .and_then(|running| running.pending.remove(&token));
        if let Some(call) = call {
            self.reply(place, call, Reply::Refused(reason));
        }
    }

    fn read_decided(
        &mut self,
        place: usize,
        token: u64,
        point: Result<ReadPoint, tenure_replica::Refused>,
    ) {
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        let Some(call) = running.pending.remove(&token) else {
            return;
        };
        match point {
            Ok(point) => {
                running.reads.push((point, call));
                self.serve_waiting(place);
            }
            Err(reason) => self.reply(place, call, Reply::Refused(reason)),
        }
    }
}

impl Running {
    /// As the binary's core thread does it: a pause that was longer than an election timeout ends leadership before
    /// anything that waits is looked at, and counts for no timeout.
    fn pass_time(&mut self, shows: Duration, plan: &crate::plan::Plan) {
        let elapsed = shows.saturating_sub(self.last_turn);
        self.last_turn = shows;
        let raft = &plan.core.raft;
        if elapsed > self.slept + raft.election_timeout {
            self.core.handle(Input::StepDown(StepDown::Paused(elapsed)));
            self.core.tick(raft.heartbeat_interval);
            return;
        }
        self.core.tick(elapsed);
        let waited = self.writing_since.map(|since| shows.saturating_sub(since));
        if waited.is_some_and(|waited| plan.disk_patience <= waited) && self.core.is_leader() {
            self.core.handle(Input::StepDown(StepDown::DiskStalled));
        }
    }

    /// The stamp of what it has applied.
    pub(crate) fn stamp(&self) -> Stamp {
        self.applier.applied().stamp
    }
}

/// Where chance makes a member crash, it does so right there.
impl World {
    pub(crate) fn perhaps_crash(&mut self, place: usize) {
        if !self.faults.over && self.chance.happens(self.plan.faults.crash_at_event) {
            self.crash(place);
            self.restart_later(place);
        }
    }

    pub(crate) fn restart_later(&mut self, place: usize) {
        let after = downtime(&mut self.chance, self.plan.faults.longest);
        self.after(after, Event::Restart { member: place });
    }
}

/// Where a leader has proposed what a client waits for, and has not answered, it is lost at the worst of moments.
impl World {
    /// The requests in these entries that clients wait for, where this member leads and such moments are wanted.
    fn waiting_for(&self, place: usize, entries: &[Entry]) -> Vec<Origin> {
        let leads = |running: &Running| running.core.is_leader();
        let member = &self.members[place];
        if self.plan.faults.in_doubt == 0
            || self.faults.over
            || !member.running.as_ref().is_some_and(leads)
        {
            return Vec::new();
        }
        let commands = entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Command(bytes) => decode_batch(bytes).ok(),
            Payload::Configuration(_) | Payload::Empty => None,
        });
        commands
            .flat_map(|batch| batch.requests)
            .map(|request| request.origin)
            .filter(|origin| self.is_awaited(*origin))
            .collect()
    }

    fn is_awaited(&self, origin: Origin) -> bool {
        let asked = &self.members[crate::oracle::place_of(MemberId(origin.member))];
        let pending = asked
            .running
            .as_ref()
            .and_then(|running| running.pending.get(&origin.token));
        pending.is_some_and(|call| self.calls.contains_key(call))
    }

    /// Kills this leader, or cuts it off; says whether it was killed.
    fn perhaps_lose_leader(&mut self, place: usize, in_doubt: Vec<Origin>) -> bool {
        let leads = |running: &Running| running.core.is_leader();
        let here = self.members[place].running.as_ref().is_some_and(leads);
        if in_doubt.is_empty()
            || !here
            || self.faults.over
            || !self.chance.happens(self.plan.faults.in_doubt)
        {
            return false;
        }
        self.trace.say(self.now, || {
            format!(
                "n{} is lost with {in_doubt:?} proposed and not answered",
                place + 1
            )
        });
        for origin in in_doubt {
            self.oracle.calls.in_doubt(origin);
        }
        if self.members.len() > 1 && self.chance.number(0, 3) == 0 {
            self.trace.counts.cut_in_doubt += 1;
            self.isolate(place);
            return false;
        }
        self.trace.counts.killed_in_doubt += 1;
        self.crash(place);
        // It comes back soon: often, and with what its disk kept, rather than for long.
        let down = self
            .chance
            .skewed_span(Duration::from_millis(1), Duration::from_millis(300));
        self.after(down, Event::Restart { member: place });
        true
    }
}

fn downtime(chance: &mut Chance, longest: Duration) -> Duration {
    chance.skewed_span(Duration::from_millis(1), longest)
}
