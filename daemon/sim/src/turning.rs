//! The turns of a member's core: time first, then what has arrived, then what comes of it.
//!
//! Owns the order of these, which is that of the binary's core thread.

use std::time::Duration;

use tenure_raft::{Body, Message, ReadPoint, RoleName, StepDown};
use tenure_replica::{Input, Output, PeerMessage};
use tenure_state::Origin;

use crate::calls::Reply;
use crate::disk::LogDisk;
use crate::member::Running;
use crate::oracle::{View, bounds, demand};
use crate::world::World;

/// How many events one turn takes, as in the binary.
const EVENTS_A_TURN: usize = 4096;
/// The loop turns at least this often, as in the binary.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// A leader's loop turns so many times in a heartbeat, as in the binary.
const TURNS_A_HEARTBEAT: u32 = 2;

impl World {
    /// One turn of the core: time first, then what has arrived, then what comes of it.
    pub(crate) fn turn(&mut self, place: usize, number: u64) {
        let member = &mut self.members[place];
        let shows = member.clock.shows(self.now);
        let real = member.clock.shows_real(self.now);
        let Some(running) = &mut member.running else {
            return;
        };
        if running.turns != number {
            return;
        }
        running.turn = None;
        self.trace.counts.paused_leaders += u64::from(running.pass_time(shows, real, &self.plan));
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
        self.end_removed(place);
        self.perhaps_crash(place);
    }

    fn plan_turn(&mut self, place: usize) {
        let member = &mut self.members[place];
        let Some(running) = &mut member.running else {
            return;
        };
        let longest = match running.core.is_leader() {
            true => self.plan.core.raft.heartbeat_interval / TURNS_A_HEARTBEAT,
            false => LONGEST_SLEEP,
        };
        running.slept = running.core.next_turn().min(longest);
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
            operated,
            traced: _,
        } = output;
        let mut proposed = Vec::new();
        let writes = write.is_some();
        let mut changes_members = false;
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
            let changes = |entry: &tenure_raft::Entry| {
                matches!(entry.payload, tenure_raft::Payload::Configuration(_))
            };
            changes_members = write.append.iter().any(changes);
            let leads = self.members[place]
                .running
                .as_ref()
                .is_some_and(|running| running.core.is_leader());
            if leads && self.upgrades.are_raised_by(&write.append) {
                changes_members = true;
                self.add_near_raise();
            }
            for entry in &write.append {
                if let tenure_raft::Payload::Configuration(configuration) = &entry.payload {
                    self.judge_change(place, configuration);
                }
            }
            // Before anybody else has heard of it.
            if self.chance.coin() && self.perhaps_lose_leader(place, appended.clone()) {
                return;
            }
            proposed.extend(appended);
            self.members[place].log.queue(write);
            self.begin_sync(place);
            if self.perhaps_crash(place) {
                return;
            }
        }
        // Before anybody else has heard of it, or when some have.
        let heard = self.break_at_change(place, changes_members, send.len());
        for (number, (to, message)) in send.into_iter().enumerate() {
            if heard == Some(number) {
                self.lose_at_change(place);
                if self.members[place].running.is_none() {
                    return;
                }
            }
            // Some of what a turn sends may have left when it crashes.
            if self.perhaps_crash(place) {
                return;
            }
            if let PeerMessage::Raft(message) = &message {
                self.oracle
                    .consensus
                    .sent(place, message, &self.members[place].log.durable);
                self.tell_term(place, message);
            }
            self.send(place, to, message);
        }
        self.judge_turn(place);
        self.judge_owed(place, writes);
        proposed.extend(self.waiting_for(place, &apply));
        self.queue_apply(place, apply);
        for (token, point) in reads {
            self.read_decided(place, token, point);
        }
        for (token, reason) in refused {
            self.refused(place, token, reason);
        }
        for (_, result) in operated {
            self.operated(place, &result);
        }
        for task in snapshots {
            self.snapshot_task(place, task);
        }
        self.judge_snapshots(place);
        // What was appended is on no disk yet; what is committed is not applied.
        self.perhaps_lose_leader(place, proposed);
    }

    fn judge_turn(&mut self, place: usize) {
        let disks: Vec<&LogDisk> = self.members.iter().map(|member| &member.log).collect();
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
        bounds::judge(place, &running.core, &self.plan.core);
        if status.role == RoleName::Leader {
            bounds::judge_log(place, running.core.raft(), &status, &self.plan.core);
        }
        let member = &self.members[place];
        demand!(
            status.base.index <= running.applier.applied().position.index
                && running.applier.applied().position.index <= status.commit
                && status.handed_out <= status.durable
                && status.commit <= status.last.index,
            "order",
            "n{} has applied {}; {status:?}",
            place + 1,
            running.applier.applied().position.index
        );
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

    /// What a leader sends connects to its log, and covers nothing that its disk does not have.
    fn judge_snapshots(&self, place: usize) {
        let member = &self.members[place];
        let Some(running) = member.running.as_ref().filter(|r| !r.outgoing.is_empty()) else {
            return;
        };
        let base = running.core.status().base.index;
        let covered = member.state.durable.meta.position.index;
        for (to, file, _) in &running.outgoing {
            let sent = file.meta.position.index;
            demand!(
                (base <= sent || !running.core.is_leader()) && sent <= covered,
                "disk-order",
                "n{} sends n{to} a snapshot of {sent}; its log begins behind {base}, its checkpoint covers {covered}",
                place + 1
            );
        }
    }

    /// Who asks for something in an older term, as leader or as candidate, must hear of the newer one (Raft §5.1).
    pub(crate) fn owe_term(&mut self, place: usize, message: &PeerMessage) {
        let PeerMessage::Raft(message) = message else {
            return;
        };
        let asks = matches!(
            message.body,
            Body::Append { .. }
                | Body::Heartbeat { .. }
                | Body::Snapshot { .. }
                | Body::Vote { .. }
                | Body::ReadIndex { .. }
        );
        if let Some(running) = &mut self.members[place].running {
            let term = running.core.raft().term();
            if asks && message.term < term {
                running.owed_term.insert(message.from, term);
            }
        }
    }

    fn tell_term(&mut self, place: usize, message: &Message) {
        if let Some(running) = &mut self.members[place].running {
            running
                .owed_term
                .retain(|to, term| *to != message.to || message.term < *term);
        }
    }

    /// Where nothing is on its way to the disk that the answer could wait for, it has left. Who has moved on to a later
    /// term drops what it wanted to say before.
    fn judge_owed(&mut self, place: usize, writes: bool) {
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        let present = running.core.raft().term();
        running.owed_term.retain(|_, term| *term == present);
        let waits = writes || running.writing_since.is_some() || !running.inbox.is_empty();
        if let Some((to, term)) = running.owed_term.first_key_value() {
            demand!(
                waits,
                "newer-term-told",
                "n{} has heard n{to} speak in a term before {term}, and does not tell it",
                place + 1
            );
        }
    }

    /// A request of a client of this member was not proposed.
    pub(crate) fn refused(&mut self, place: usize, token: u64, reason: tenure_replica::Refused) {
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
            Err(reason) => {
                running.watches.retain(|watch| watch.call != call);
                self.reply(place, call, Reply::Refused(reason));
            }
        }
    }
}

impl Running {
    /// As the binary's core thread does it: a pause that was longer than an election timeout ends leadership before
    /// anything that waits is looked at, and counts for no timeout. A suspend is one too, though it shows only on the
    /// clock that goes on meanwhile. Says whether that ended a leadership.
    fn pass_time(&mut self, shows: Duration, real: Duration, plan: &crate::plan::Plan) -> bool {
        let elapsed = shows.saturating_sub(self.last_turn.0);
        let really = real.saturating_sub(self.last_turn.1).max(elapsed);
        self.last_turn = (shows, real);
        let raft = &plan.core.raft;
        if really > self.slept + raft.election_timeout {
            let led = self.core.is_leader();
            self.core.handle(Input::StepDown(StepDown::Paused(really)));
            self.core.tick(raft.heartbeat_interval);
            return led;
        }
        self.core.tick(elapsed);
        let waited = self.writing_since.map(|since| shows.saturating_sub(since));
        if waited.is_some_and(|waited| plan.disk_patience <= waited) && self.core.is_leader() {
            self.core.handle(Input::StepDown(StepDown::DiskStalled));
        }
        false
    }
}
