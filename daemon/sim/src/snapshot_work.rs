//! Snapshot work of a member: making a file, reading its pieces, storing them, and installing it.
//!
//! Owns when it is done: one piece of work after the other. What stands in the file is `snapshot`.

use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{LogIndex, MemberId, SnapshotFile, SnapshotTask};
use tenure_replica::Input;
use tenure_state::State;

use crate::oracle::{demand, disks};
use crate::snapshot;
use crate::time::Moment;
use crate::world::{Event, World};

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

impl World {
    pub(crate) fn snapshot_task(&mut self, place: usize, task: SnapshotTask) {
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
        if let Some(running) = &mut self.members[place].running {
            running.snapshot_work.push_back(step);
            demand!(
                running.snapshot_work.len() < 1000,
                "bounded",
                "n{} has {} pieces of snapshot work",
                place + 1,
                running.snapshot_work.len()
            );
            if running.snapshot_work.len() == 1 {
                self.begin_snapshot_work(place);
            }
        }
    }

    fn begin_snapshot_work(&mut self, place: usize) {
        let mut at = self.now + self.disk_delay();
        let next = self.members[place]
            .running
            .as_ref()
            .and_then(|running| running.snapshot_work.front());
        if matches!(next, Some(SnapshotStep::Install { .. })) {
            let longest = self.plan.disk.install;
            at = at + self.chance.skewed_span(Duration::from_micros(100), longest);
        }
        let at = at.max(self.members[place].state.stalled_until);
        self.end_snapshot_work_at(place, at);
    }

    /// The work under way is done then, unless it is done before.
    pub(crate) fn end_snapshot_work_at(&mut self, place: usize, at: Moment) {
        let member = &self.members[place];
        let Some(running) = &member.running else {
            return;
        };
        let (life, number) = (member.life, running.snapshot_work_done);
        self.at(
            at,
            Event::Snapshot {
                member: place,
                life,
                number,
            },
        );
    }

    /// Snapshot work is done.
    pub(crate) fn snapshot_step(&mut self, place: usize, number: u64) {
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        if running.snapshot_work_done != number {
            return;
        }
        let Some(step) = running.snapshot_work.pop_front() else {
            return;
        };
        running.snapshot_work_done += 1;
        if !running.snapshot_work.is_empty() {
            self.begin_snapshot_work(place);
        }
        let writes = matches!(
            step,
            SnapshotStep::Store { .. } | SnapshotStep::Install { .. }
        );
        if writes && self.perhaps_fail(place) {
            return;
        }
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
        // One that cannot be made for another is only told.
        if self.now < member.full_until || self.chance.happens(self.plan.disk.no_snapshot) {
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

    pub(crate) fn install(&mut self, place: usize, file: SnapshotFile) -> Input {
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
        if running.applier.most() < state.version() {
            self.meets_newer_rules(place);
        }
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
        disks::judge_order(place, &member.log.durable, &member.state);
        let (due, version) = (running.applier.due(), running.applier.state().version());
        self.trace.say(self.now, || {
            format!("n{} installs {:?}", place + 1, file.meta.position)
        });
        self.serve_waiting(place);
        Input::SnapshotInstalled {
            meta: file.meta,
            due,
            version,
        }
    }
}
