//! The disks of a member at work: syncs of the log file, and checkpoints of the state file.

use std::time::Duration;

use tenure_raft::WriteId;
use tenure_replica::Input;

use crate::oracle::disks;
use crate::world::{Event, World};

impl World {
    pub(crate) fn begin_sync(&mut self, place: usize) {
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

    pub(crate) fn disk_delay(&mut self) -> Duration {
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
        if self.perhaps_fail(place) {
            return;
        }
        let writes = self.members[place].log.synced();
        let mut last = None;
        let mut durable = Vec::new();
        for write in writes {
            durable.extend(self.waiting_for(place, &write.append));
            last = Some(self.make_durable(place, write));
        }
        if let Some(id) = last {
            self.tell(place, Input::Persisted(id));
        }
        let log = &self.members[place].log;
        if log.waiting() == 0 {
            self.oracle.consensus.rests(place, &log.durable);
        }
        self.begin_sync(place);
        // What is on its disk is not committed by it yet.
        if !self.perhaps_lose_leader(place, durable) {
            self.perhaps_crash(place);
        }
    }

    pub(crate) fn make_durable(&mut self, place: usize, write: tenure_raft::Write) -> WriteId {
        let member = &mut self.members[place];
        self.oracle
            .consensus
            .synced(place, &member.log.durable, &write);
        let id = member.log.perform(write);
        member.state.log_reaches(&member.log.durable);
        self.judge_disks(place);
        id
    }

    pub(crate) fn judge_disks(&self, place: usize) {
        let member = &self.members[place];
        disks::judge_order(place, &member.log.durable, &member.state);
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
        if !member.state.is_writing() || self.perhaps_fail(place) {
            return;
        }
        if let Some(meta) = self.members[place].state.written() {
            self.trace.counts.checkpoints += 1;
            self.judge_disks(place);
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
}
