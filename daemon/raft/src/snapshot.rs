//! Snapshots: sending one to a member whose place in the log is gone (Raft §7), and taking one in.
//!
//! Owns the order of things only: files are the caller's. A transfer has one piece in flight, goes on where the receiver
//! says, and is given up when nothing comes forward. A member that installs one neither campaigns nor touches its log.

use std::time::Duration;

use bytes::Bytes;

use tenure_mutants::{Mutant, mutated};

use crate::core::Raft;
use crate::message::Body;
use crate::progress::{Awaited, Probe, Progress, Replication, Sending, Stage, Transfer};
use crate::ready::{Ready, SnapshotTask};
use crate::replication::Speech;
use crate::role::Role;
use crate::types::{LogIndex, LogPosition, MemberId, SnapshotFile, SnapshotMeta};

/// A transfer that does not come forward for so many election timeouts is given up.
const PATIENCE: u32 = 10;

/// After so many heartbeat intervals without an answer the receiver is asked how far it is.
const ANSWER_INTERVALS: u32 = 2;

/// The leader's side.
impl Raft {
    /// The least index at which a snapshot under way connects to the log: compaction must not pass it.
    pub(crate) fn oldest_snapshot_in_use(&self) -> LogIndex {
        let Role::Leader(leader) = &self.role else {
            return LogIndex(u64::MAX);
        };
        let in_use = leader
            .progress
            .values()
            .filter_map(|progress| match &progress.state {
                Replication::Snapshot(transfer) => Some(transfer.connects_at),
                _ => None,
            });
        in_use.min().unwrap_or(LogIndex(u64::MAX))
    }

    /// The file that [`SnapshotTask::Make`] asked for is there.
    pub fn snapshot_available(&mut self, to: MemberId, file: SnapshotFile) {
        let (now, base) = (self.now, self.log.base().position.index);
        let progress = self.progress_of(to);
        match progress.map(|progress| &mut progress.state) {
            Some(Replication::Snapshot(
                transfer @ Transfer {
                    stage: Stage::Making,
                    ..
                },
            )) if base <= file.meta.position.index => {
                transfer.connects_at = file.meta.position.index;
                let sending = Sending {
                    file,
                    stored: 0,
                    awaited: Awaited::Nothing,
                    progressed: now,
                };
                transfer.stage = Stage::Sending(sending);
            }
            Some(Replication::Snapshot(Transfer {
                stage: Stage::Making,
                ..
            })) => {
                self.release(to, Some(file));
                self.abandon_snapshot(to);
            }
            // The member needs none any more, or this member leads no more.
            _ => self.release(to, Some(file)),
        }
        self.check_invariants();
    }

    /// The file for `to` cannot be made or read. Another is asked for after an election timeout.
    pub fn snapshot_failed(&mut self, to: MemberId) {
        self.abandon_snapshot(to);
        self.check_invariants();
    }

    fn abandon_snapshot(&mut self, to: MemberId) {
        let not_before = self.now + self.settings.election_timeout;
        let Some(progress) = self.progress_of(to) else {
            return;
        };
        if matches!(progress.state, Replication::Snapshot(_)) {
            progress.snapshot_not_before = not_before;
            let released = progress.become_probe(progress.next, Probe::default());
            self.release(to, released);
        }
    }

    pub(crate) fn release(&mut self, to: MemberId, file: Option<SnapshotFile>) {
        self.out
            .snapshots
            .extend(file.map(|file| SnapshotTask::Release { to, file }));
    }

    /// Sends a piece that [`SnapshotTask::Read`] asked for.
    pub fn send_piece(&mut self, to: MemberId, file: &SnapshotFile, offset: u64, data: Bytes) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let round = leader.round;
        let sending = leader.progress.get_mut(&to).and_then(Progress::sending);
        let is_wanted = |sending: &&mut Sending| {
            sending.file == *file
                && sending.stored == offset
                && sending.awaited == Awaited::Read
                && !data.is_empty()
        };
        if let Some(sending) = sending.filter(is_wanted) {
            sending.awaited = Awaited::Piece { since: now, round };
            self.send(
                to,
                Body::Snapshot {
                    file: file.clone(),
                    offset,
                    data,
                    round,
                },
            );
        }
        self.check_invariants();
    }

    pub(crate) fn on_snapshot_response(
        &mut self,
        from: MemberId,
        position: LogPosition,
        digest: u128,
        stored: u64,
        round: u64,
    ) {
        if !self.acknowledge(from, round) {
            return;
        }
        self.confirm_reads();
        let (now, piece_bytes) = (self.now, self.settings.piece_bytes);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let present = leader.round;
        let Some(sending) = leader.progress.get_mut(&from).and_then(Progress::sending) else {
            return;
        };
        let size = sending.file.size;
        let is_this = sending.file.meta.position == position
            && sending.file.digest == digest
            && stored <= size;
        if !is_this || !sending.is_answered_by(stored, round) {
            return;
        }
        if stored < size && sending.stored == size {
            // The receiver had all of it and threw it away: this file will not do.
            return self.abandon_snapshot(from);
        }
        if sending.stored < stored || stored == size {
            // A receiver that has everything is busy with the installation, and says so as long as it is asked.
            sending.progressed = now;
        }
        sending.stored = stored;
        if stored == size {
            sending.awaited = Awaited::Extent {
                since: now,
                round: present,
            };
        } else {
            sending.awaited = Awaited::Read;
            let (file, length) = (sending.file.clone(), piece_bytes.min(size - stored));
            self.out.snapshots.push(SnapshotTask::Read {
                to: from,
                file,
                offset: stored,
                length,
            });
        }
    }

    /// Gives up transfers that do not come forward, so that the log can be compacted again.
    pub(crate) fn give_up_stuck_snapshots(&mut self) {
        let (now, patience) = (self.now, PATIENCE * self.settings.election_timeout);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let is_stuck = |progress: &mut Progress| {
            progress
                .sending()
                .is_some_and(|sending| patience <= now.saturating_sub(sending.progressed))
        };
        let stuck: Vec<MemberId> = leader
            .progress
            .iter_mut()
            .filter_map(|(&id, progress)| is_stuck(progress).then_some(id))
            .collect();
        for member in stuck {
            self.abandon_snapshot(member);
        }
    }
}

impl Sending {
    /// Whether an answer is one to what was sent last, and not late or doubled.
    fn is_answered_by(&self, stored: u64, round: u64) -> bool {
        match self.awaited {
            Awaited::Nothing | Awaited::Read => false,
            Awaited::Extent { round: sent, .. } => sent <= round || self.stored < stored,
            // An equal number is the answer to the question before the piece. A smaller one: pieces were lost.
            Awaited::Piece { round: sent, .. } => {
                self.stored < stored || (stored < self.stored && sent <= round)
            }
        }
    }

    fn is_silent(&self, now: Duration, limit: Duration) -> bool {
        match self.awaited {
            Awaited::Nothing => true,
            Awaited::Read => false,
            Awaited::Extent { since, .. } | Awaited::Piece { since, .. } => {
                limit <= now.saturating_sub(since)
            }
        }
    }
}

impl Speech<'_> {
    /// Asks how much the receiver has, at first and whenever it has not answered; the answers drive the rest.
    pub(crate) fn send_snapshot(&self, to: MemberId, progress: &mut Progress, out: &mut Ready) {
        let Some(sending) = progress.sending() else {
            return;
        };
        if sending.is_silent(
            self.now,
            ANSWER_INTERVALS * self.settings.heartbeat_interval,
        ) {
            sending.awaited = Awaited::Extent {
                since: self.now,
                round: self.round,
            };
            let (file, offset) = (sending.file.clone(), sending.stored);
            out.messages.push(self.message(
                to,
                Body::Snapshot {
                    file,
                    offset,
                    data: Bytes::new(),
                    round: self.round,
                },
            ));
        }
    }
}

/// The follower's side.
impl Raft {
    pub(crate) fn on_snapshot(
        &mut self,
        from: MemberId,
        file: SnapshotFile,
        offset: u64,
        data: Bytes,
        round: u64,
    ) {
        let position = file.meta.position;
        if let Some(installing) = &self.installing {
            if *installing == file {
                self.send(from, stored_all(&file, round));
            }
        } else if position.index <= self.commit && !mutated(Mutant::SnapshotOverNewer) {
            self.accept(from, self.commit, round);
        } else if self.log.position_at(position.index) == Some(position) {
            // The log has all that the snapshot covers, and what a snapshot covers is committed.
            self.commit_to(position.index);
            self.accept(from, position.index, round);
        } else {
            self.out.snapshots.push(SnapshotTask::Store {
                file,
                offset,
                data,
                round,
                from,
            });
        }
    }

    /// Takes note that `stored` bytes of `file` are stored from its beginning, after [`SnapshotTask::Store`].
    pub fn piece_stored(&mut self, from: MemberId, file: SnapshotFile, stored: u64, round: u64) {
        if let Some(heard) = self.round_heard_of(from)
            && self.installing.is_none()
        {
            // Storing took time, perhaps into another term of the same leader: what is claimed to be answered must have
            // been heard in this one, or a read could be confirmed by an answer to another round.
            self.answer_piece(from, file, stored, round.min(heard));
        }
        self.check_invariants();
    }

    fn round_heard_of(&self, from: MemberId) -> Option<u64> {
        match &self.role {
            Role::Follower {
                following: Some(following),
            } if following.leader == from => Some(following.round),
            _ => None,
        }
    }

    fn answer_piece(&mut self, from: MemberId, file: SnapshotFile, stored: u64, round: u64) {
        if file.meta.position.index <= self.commit && !mutated(Mutant::SnapshotOverNewer) {
            return self.accept(from, self.commit, round);
        }
        if stored < file.size {
            let SnapshotFile {
                meta: SnapshotMeta { position, .. },
                digest,
                ..
            } = file;
            return self.send(
                from,
                Body::SnapshotResponse {
                    position,
                    digest,
                    stored,
                    round,
                },
            );
        }
        self.send(from, stored_all(&file, round));
        self.installing = Some(file.clone());
        self.out.snapshots.push(SnapshotTask::Install { file });
    }

    /// The snapshot is the durable state of this member now: the log begins anew behind it.
    ///
    /// The whole log goes. Had it held the snapshot's last entry, nothing would have been installed; so whatever lies
    /// behind may conflict with the snapshot, and would be taken for its continuation after a restart.
    pub fn snapshot_installed(&mut self, meta: SnapshotMeta) {
        let expected = self.installing.take().map(|file| file.meta.position);
        assert!(
            expected == Some(meta.position),
            "{:?} was installed, not {expected:?}",
            meta.position
        );
        let index = meta.position.index;
        assert!(
            self.commit < index,
            "a snapshot up to {index} was installed over a commit of {}",
            self.commit
        );
        self.writes.reset(meta.clone());
        self.log.reset(meta);
        (self.commit, self.handed_out, self.checkpoint) = (index, index, index);
        if let Role::Follower {
            following: Some(following),
        } = &self.role
        {
            let (leader, round) = (following.leader, following.round);
            self.accept(leader, index, round);
        }
        self.check_invariants();
    }

    /// The snapshot was damaged, and the caller has thrown the file away.
    pub fn snapshot_rejected(&mut self, file: SnapshotFile) {
        self.installing.take_if(|installing| *installing == file);
        if let Role::Follower {
            following: Some(following),
        } = &self.role
        {
            let (leader, round) = (following.leader, following.round);
            let SnapshotFile {
                meta: SnapshotMeta { position, .. },
                digest,
                ..
            } = file;
            self.send(
                leader,
                Body::SnapshotResponse {
                    position,
                    digest,
                    stored: 0,
                    round,
                },
            );
        }
        self.check_invariants();
    }
}

fn stored_all(file: &SnapshotFile, round: u64) -> Body {
    Body::SnapshotResponse {
        position: file.meta.position,
        digest: file.digest,
        stored: file.size,
        round,
    }
}
