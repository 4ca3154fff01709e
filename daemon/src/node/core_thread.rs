//! The thread of the core: one loop over one `enum Event`.
//!
//! Owns the core. Nothing on it waits for a disk, a socket or an apply: what the core wants done goes into queues of
//! other threads. Only this loop makes heartbeats, so a member whose core does not turn sends none.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tenure_raft::{LogIndex, MemberId, RoleChange, StepDown, WriteId};
use tenure_replica::{Core, Diverged, Input, Operated, Output, Refused};
use tracing::{debug, info, warn};

use super::clock::{Moment, Passed};
use super::event::Event;
use super::handle::{LeaderView, Shared};
use super::outlets::Outlets;
use super::stages::{Stages, Synced};
use super::{NodeError, NodeSettings};
use crate::pulse::{Pace, Pulse};
use crate::telemetry;
use crate::transport::Received;

/// How many events one turn takes, so that time is looked at in between.
const EVENTS_A_TURN: usize = 4096;
/// The loop turns at least this often, so that a stalled disk and a pause are noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// A leader's loop turns so many times in a heartbeat, so that waking late costs its clock nothing: a turn makes up for at
/// most one heartbeat.
const TURNS_A_HEARTBEAT: u32 = 2;
/// How often the status that others see is renewed when nothing else happened.
const STATUS_EVERY: Duration = Duration::from_millis(50);

/// The loop's own state.
pub(super) struct CoreThread {
    core: Core,
    shared: Arc<Shared>,
    events: Receiver<Event>,
    outlets: Outlets,
    settings: NodeSettings,
    last_turn: Moment,
    last_status: Duration,
    /// When the oldest write that the disk has not finished was handed to it.
    writing_since: Option<Duration>,
    last_written: WriteId,
    last_handed: WriteId,
    slow_disk_told: Option<Duration>,
    last_leader: Option<MemberId>,
    /// Another member has said that this one was removed.
    is_told_removed: bool,
    undecided_told: Option<LogIndex>,
    /// When it was first known that this member was removed.
    removed_since: Option<Duration>,
    stages: Stages,
}

impl CoreThread {
    pub(super) fn new(
        core: Core,
        shared: Arc<Shared>,
        events: Receiver<Event>,
        outlets: Outlets,
        settings: NodeSettings,
    ) -> CoreThread {
        let stages = Stages::new(shared.traces.clone(), shared.identity.id);
        CoreThread {
            core,
            shared,
            events,
            outlets,
            settings,
            last_turn: Moment::now(),
            last_status: Duration::ZERO,
            writing_since: None,
            last_written: WriteId::default(),
            last_handed: WriteId::default(),
            slow_disk_told: None,
            last_leader: None,
            is_told_removed: false,
            undecided_told: None,
            removed_since: None,
            stages,
        }
    }

    /// Turns until it is told to stop or a thread of the member fails. After a stop everything is on disk; after a
    /// failure nothing more is written.
    pub(super) fn run(mut self) -> Result<(), NodeError> {
        self.turn()?;
        self.outlets.stop();
        // What fails on the way out has failed all the same.
        while let Ok(event) = self.events.recv() {
            match event {
                Event::Failed(error) => return Err(error),
                Event::ApplyEnded => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), NodeError> {
        self.publish_status(true);
        let pulse = Pulse::of("core", Pace::Short);
        // It never rests: where nothing happens, it turns because time passes.
        let at_work = pulse.work();
        loop {
            at_work.step();
            let sleep = self.longest_sleep().min(self.core.next_turn());
            let mut events = match self.events.recv_timeout(sleep) {
                Ok(event) => vec![event],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if !events.is_empty() {
                events.extend(self.events.try_iter().take(EVENTS_A_TURN - 1));
                let ours = events.iter().filter(|event| event.is_asked()).count();
                self.shared.taken(ours);
            }
            // The clock is read after the events have arrived: an answer that carries it never shows a time from
            // before its question.
            self.pass_time(sleep);
            let applied = self.shared.reached();
            self.core.handle(applied.into());
            for event in events {
                if !self.take(event)? {
                    return Ok(());
                }
            }
            if let Some(forgotten) = self.core.raft().forgotten() {
                return Err(forgotten.into());
            }
            self.dispatch();
            self.check_belongs()?;
            if self.core.applier_is_behind() {
                self.shared.keep_back(applied);
            }
        }
    }

    /// Ends a member that was removed, once the others and its clients have had time to hear what it said last, and one
    /// that runs on an old copy of its disk.
    fn check_belongs(&mut self) -> Result<(), NodeError> {
        if let Some(logged) = self.core.disk_went_back() {
            return Err(NodeError::DiskWentBack { logged });
        }
        if let Some(Diverged {
            index,
            here,
            agreed,
        }) = self.core.diverged()
        {
            return Err(NodeError::Diverged {
                index,
                here,
                agreed,
            });
        }
        self.tell_undecided();
        if !self.core.raft().is_removed() && !self.is_told_removed {
            return Ok(());
        }
        let now = self.last_turn.running;
        let since = *self.removed_since.get_or_insert(now);
        if now.saturating_sub(since) < self.settings.core.raft.election_timeout {
            return Ok(());
        }
        Err(NodeError::Removed)
    }

    /// Without a majority nobody knows whose state is wrong, and nobody ends for it: somebody has to look.
    fn tell_undecided(&mut self) {
        let undecided = self.core.undecided_states();
        if undecided > self.undecided_told {
            self.undecided_told = undecided;
            tracing::error!(
                index = undecided.map(|index| index.0),
                "the states of the voters differ, and none of them has a majority: the cluster goes on, and what members answer may differ; make a backup of each member and look into it"
            );
        }
    }

    fn longest_sleep(&self) -> Duration {
        match self.core.is_leader() {
            true => self.settings.core.raft.heartbeat_interval / TURNS_A_HEARTBEAT,
            false => LONGEST_SLEEP,
        }
    }

    fn pass_time(&mut self, slept: Duration) {
        let now = Moment::now();
        let election_timeout = self.settings.core.raft.election_timeout;
        let passed = now.since(self.last_turn, slept, election_timeout);
        self.last_turn = now;
        match passed {
            Passed::Turned(elapsed) => {
                self.core.tick(elapsed);
                self.watch_disk(now.running);
            }
            Passed::Paused(paused) => {
                self.shared.metrics.paused(paused);
                // What the others did meanwhile is unknown: before anything that waits is looked at, leadership ends,
                // and the time slept counts for no timeout.
                warn!(
                    paused_ms = paused.as_millis(),
                    "this process, or the whole machine, did not run for longer than an election timeout"
                );
                self.core.handle(Input::StepDown(StepDown::Paused(paused)));
                self.core.tick(self.settings.core.raft.heartbeat_interval);
            }
        }
    }

    /// A leader whose disk answers nothing gives up leadership (`design.md`, Consensus): the others can commit without
    /// it, and it could not remember anything it learnt.
    fn watch_disk(&mut self, now: Duration) {
        let Some(since) = self.writing_since else {
            return;
        };
        let waited = now.saturating_sub(since);
        if waited < self.settings.disk_patience {
            return;
        }
        if self
            .slow_disk_told
            .is_none_or(|told| now.saturating_sub(told) > Duration::from_secs(5))
        {
            self.shared.metrics.slow_sync(waited);
            warn!(
                waited_ms = waited.as_millis(),
                "the disk has not finished a write of the log"
            );
            self.slow_disk_told = Some(now);
        }
        if self.core.is_leader() {
            self.core.handle(Input::StepDown(StepDown::DiskStalled));
        }
    }

    /// Takes one event; `false` ends the loop.
    fn take(&mut self, event: Event) -> Result<bool, NodeError> {
        match event {
            Event::Input(input) => self.core.handle(input),
            Event::Peer(received) => {
                let Received {
                    from,
                    message,
                    budget,
                } = *received;
                self.core.handle(Input::Peer { from, message });
                drop(budget);
            }
            Event::Written { id, synced } => self.written(id, synced),
            Event::Transfer { to, reply } => {
                let _ = reply.send(self.core.transfer_leadership(to));
            }
            // Looked at in every turn.
            Event::Applied => {}
            Event::Removed => self.is_told_removed = true,
            Event::StopAccepting => self.core.stop_accepting(),
            Event::Failed(error) => return Err(error),
            Event::Stop | Event::ApplyEnded => return Ok(false),
        }
        Ok(true)
    }

    fn written(&mut self, id: WriteId, synced: Synced) {
        let took = synced.took;
        if took > self.settings.slow_write {
            self.shared.metrics.slow_sync(took);
            warn!(
                took_ms = took.as_millis(),
                "slow disk: a synced write of the log took long"
            );
        }
        self.last_written = id;
        self.writing_since =
            (self.last_written < self.last_handed).then_some(self.last_turn.running);
        self.stages.synced(id, synced);
        self.core.handle(Input::Persisted(id));
    }

    /// Does what the turn wants done. Handing out may make more work (a single voter commits what it has written),
    /// never without an event in between, so once is enough.
    fn dispatch(&mut self) {
        let Output {
            write,
            send,
            apply,
            reads,
            refused,
            progress,
            changes,
            snapshots,
            operated,
            traced,
        } = self.core.output();
        // Others first: what they do with it takes longer than this member's own write of it.
        for (to, message) in send {
            let unsent = self.outlets.send(to, message);
            if let Some(token) = unsent.operation {
                self.shared.answer_operation(token, Operated::NoLeader);
            }
            self.shared.refuse(
                unsent
                    .requests
                    .into_iter()
                    .map(|token| (token, Refused::NoLeader))
                    .collect(),
            );
        }
        if let Some(write) = write {
            self.last_handed = write.id;
            self.writing_since.get_or_insert(self.last_turn.running);
            self.outlets.write(write);
        }
        self.stages.appended(traced, self.last_handed);
        if !apply.is_empty() {
            self.stages.committed(&apply);
            self.outlets.apply(apply);
        }
        for (token, point) in reads {
            match point {
                Ok(point) => self.outlets.read_at(&self.shared, token, point),
                Err(reason) => self.shared.answer_read(token, Err(reason.into())),
            }
        }
        self.shared.refuse(refused);
        for (token, report) in progress {
            self.shared.answer_progress(token, report);
        }
        for (token, result) in operated {
            self.shared.answer_operation(token, result);
        }
        for task in snapshots {
            self.outlets.snapshot(task);
        }
        if !self.core.is_leader() {
            self.stages.ended();
        }
        let changed = !changes.is_empty();
        for change in &changes {
            self.count(change);
            self.tell(change);
        }
        self.publish_status(changed);
    }

    fn count(&mut self, change: &RoleChange) {
        let metrics = &self.shared.metrics;
        let leader = match change {
            RoleChange::Leader { .. } => Some(self.shared.identity.id),
            RoleChange::Follower { leader, reason, .. } => {
                if let Some(reason) = reason {
                    metrics.stepped_down(as_counted(*reason));
                }
                *leader
            }
            RoleChange::Candidate { .. } => {
                metrics.campaigns();
                None
            }
            RoleChange::PreCandidate { .. } => None,
        };
        if leader.is_some() && leader != self.last_leader {
            metrics.leader_changed();
            self.last_leader = leader;
        }
    }

    /// What an operator reads of elections.
    fn tell(&self, change: &RoleChange) {
        let name = |id: MemberId| {
            self.core
                .configuration()
                .info
                .get(&id)
                .map_or("?", |info| info.name.as_str())
        };
        match change {
            RoleChange::Leader { term, last } => {
                info!(
                    term = term.0,
                    last_index = last.index.0,
                    "this member is the leader now"
                );
            }
            RoleChange::Follower {
                term,
                leader,
                reason: Some(reason),
            } => {
                let leader = leader.map_or("nobody yet", name);
                info!(
                    term = term.0,
                    leader,
                    reason = reason_in_words(*reason),
                    "stepped down"
                );
            }
            RoleChange::Follower {
                term,
                leader: Some(leader),
                reason: None,
            } => {
                info!(term = term.0, leader = name(*leader), "following a leader");
            }
            RoleChange::Follower {
                term,
                leader: None,
                reason: None,
            } => {
                info!(term = term.0, "no leader is known");
            }
            RoleChange::PreCandidate { term } => {
                debug!(term = term.0, "asking whether an election could be won")
            }
            RoleChange::Candidate { term } => info!(term = term.0, "campaigning"),
        }
    }

    /// Tells everybody who asks about this member what it is now.
    fn publish_status(&mut self, changed: bool) {
        let leader = self.core.raft().leader();
        let term = self.core.raft().term();
        self.shared.leader.send_if_modified(|view| {
            // By an entry it may come to be reached in another way.
            let info = leader.and_then(|leader| self.core.configuration().info.get(&leader));
            let client_url = info.map(|info| &info.client_url);
            if view.leader == leader && view.term == term && view.client_url.as_ref() == client_url
            {
                return false;
            }
            let client_url = client_url.cloned();
            *view = LeaderView {
                leader,
                term,
                client_url,
            };
            true
        });
        let now = self.last_turn.running;
        let is_due = now.saturating_sub(self.last_status) >= STATUS_EVERY;
        let is_news = self.outlets.is_news(self.core.configuration());
        if is_news {
            self.shared.tell_members(self.core.configuration());
        }
        if changed || is_due || is_news {
            self.last_status = now;
            *self
                .shared
                .versions
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = self.core.versions_said();
            let status = (self.core.status(), Arc::clone(self.core.configuration()));
            self.outlets
                .membership(&status.1, self.core.raft().committed_configuration());
            *self
                .shared
                .status
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = status;
        }
    }
}

fn as_counted(reason: StepDown) -> telemetry::StepDown {
    match reason {
        StepDown::HigherTerm => telemetry::StepDown::HigherTerm,
        StepDown::LeaderFound => telemetry::StepDown::LeaderFound,
        StepDown::QuorumLost => telemetry::StepDown::QuorumLost,
        StepDown::Paused(_) => telemetry::StepDown::Paused,
        StepDown::DiskStalled => telemetry::StepDown::DiskStalled,
        StepDown::Removed => telemetry::StepDown::Removed,
    }
}

fn reason_in_words(reason: StepDown) -> &'static str {
    match reason {
        StepDown::HigherTerm => "a higher term was seen",
        StepDown::LeaderFound => "another member leads this term",
        StepDown::QuorumLost => "too few members answered for an election timeout",
        StepDown::Paused(_) => {
            "this process, or the whole machine, did not run for longer than an election timeout"
        }
        StepDown::DiskStalled => "the disk does not answer",
        StepDown::Removed => "this member is no longer part of the cluster",
    }
}
