//! Linearizable reads by ReadIndex (thesis §6.4), on any member.
//!
//! Owns the batches of reads that wait for a round, and for a leader. A read is confirmed only by a quorum of answers to a
//! round that the leader began after the read arrived; rounds are numbers of the leader's own, so that late and doubled answers,
//! and followers that repeat themselves, confirm nothing. No clock is relied on.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_mutants::{Mutant, mutated};

use crate::core::Raft;
use crate::message::Body;
use crate::quorum;
use crate::ready::{ReadPoint, ReadResult, ReadToken};
use crate::role::{Leader, Role};
use crate::types::{LogIndex, MemberId, Stamp};

/// Reads that share an answer.
#[derive(Debug, Default)]
struct Batch {
    /// Asked for on this member.
    local: Vec<ReadToken>,
    /// Asked for by other members: their batch. A member asks one at a time, so a newer one replaces it.
    remote: BTreeMap<MemberId, u64>,
    /// When the first of them arrived.
    since: Duration,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }
}

/// A leader's reads.
#[derive(Debug, Default)]
pub(crate) struct LeaderReads {
    waiting: Batch,
    in_flight: Option<InFlight>,
}

/// A batch that waits for its round.
#[derive(Debug)]
struct InFlight {
    round: u64,
    point: ReadPoint,
    batch: Batch,
}

impl LeaderReads {
    /// Whether a round should be begun: later reads wait while one is in flight, and share the next.
    pub(crate) fn want_round(&self) -> bool {
        self.in_flight.is_none() && !self.waiting.is_empty()
    }

    /// Binds the reads that wait to a round that has just been begun.
    pub(crate) fn begin(&mut self, round: u64, point: ReadPoint) {
        let batch = std::mem::take(&mut self.waiting);
        self.in_flight = Some(InFlight {
            round,
            point,
            batch,
        });
    }

    fn waiting_at(&mut self, now: Duration) -> &mut Batch {
        if self.waiting.is_empty() {
            self.waiting.since = now;
        }
        &mut self.waiting
    }

    /// Gives everything up: local reads as failed, and whom to refuse.
    pub(crate) fn abandon(self) -> (Vec<ReadResult>, BTreeMap<MemberId, u64>) {
        let (mut local, mut remote) = (Vec::new(), BTreeMap::new());
        for batch in self
            .in_flight
            .map(|read| read.batch)
            .into_iter()
            .chain([self.waiting])
        {
            local.extend(batch.local.into_iter().map(failed));
            remote.extend(batch.remote);
        }
        (local, remote)
    }
}

/// A follower's reads.
#[derive(Debug, Default)]
pub(crate) struct FollowerReads {
    /// To be asked with the next batch.
    waiting: Vec<ReadToken>,
    waiting_since: Duration,
    /// Asked, and not answered.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    batch: u64,
    tokens: Vec<ReadToken>,
    since: Duration,
}

impl FollowerReads {
    /// When the oldest of them arrived.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let waiting = (!self.waiting.is_empty()).then_some(self.waiting_since);
        self.asked.as_ref().map(|asked| asked.since).or(waiting)
    }

    fn push(&mut self, token: ReadToken, now: Duration) {
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        self.waiting.push(token);
    }

    /// Gives everything up.
    pub(crate) fn abandon(self) -> Vec<ReadResult> {
        let asked = self.asked.map(|asked| asked.tokens).unwrap_or_default();
        asked.into_iter().chain(self.waiting).map(failed).collect()
    }
}

fn failed(token: ReadToken) -> ReadResult {
    ReadResult { token, point: None }
}

impl Leader {
    /// Ends the batch in flight where a quorum has answered its round or a later one.
    fn take_confirmed(&mut self, confirmed: u64) -> Option<(ReadPoint, Batch)> {
        let read = self.reads.in_flight.take_if(|read| {
            let earlier = u64::from(mutated(Mutant::ReadRidesEarlierRound));
            read.round <= confirmed + earlier || mutated(Mutant::ReadWithoutRound)
        })?;
        Some((read.point, read.batch))
    }
}

impl Raft {
    /// Asks for the point at which a read is linearizable. It is always answered in [`Ready::reads`](crate::Ready::reads):
    /// with `None` where no leader is known, the leader is lost, or an election timeout passes.
    pub fn read(&mut self, token: ReadToken) {
        let now = self.now;
        let knows_leader = self.leader().is_some();
        match &mut self.role {
            Role::Leader(leader) => leader.reads.waiting_at(now).local.push(token),
            Role::Follower {
                following: Some(following),
            } if knows_leader => following.reads.push(token, now),
            _ => self.out.reads.push(failed(token)),
        }
        self.check_invariants();
    }

    /// Whether an entry of this leader's term is committed, so that it knows all that is (Raft §8).
    pub(crate) fn is_settled(&self) -> bool {
        matches!(&self.role, Role::Leader(leader)
            if leader.first <= self.commit || mutated(Mutant::ReadBeforeNoop))
    }

    /// A follower sends its next batch once the last is answered.
    pub(crate) fn ask_leader(&mut self) {
        let Role::Follower {
            following: Some(following),
        } = &mut self.role
        else {
            return;
        };
        let reads = &mut following.reads;
        if reads.asked.is_some() || reads.waiting.is_empty() {
            return;
        }
        let (batch, leader) = (self.next_batch, following.leader);
        self.next_batch += 1;
        let tokens = std::mem::take(&mut reads.waiting);
        reads.asked = Some(Asked {
            batch,
            tokens,
            since: reads.waiting_since,
        });
        self.send(leader, Body::ReadIndex { batch });
    }

    pub(crate) fn on_read_index(&mut self, from: MemberId, batch: u64) {
        let now = self.now;
        match &mut self.role {
            Role::Leader(leader) if leader.progress.contains_key(&from) => {
                leader.reads.waiting_at(now).remote.insert(from, batch);
            }
            _ => self.refuse_read(from, batch),
        }
    }

    pub(crate) fn refuse_read(&mut self, member: MemberId, batch: u64) {
        self.send(member, Body::ReadIndexRefused { batch });
    }

    /// Answers a batch. Any other than the one asked last is long given up.
    pub(crate) fn on_read_index_response(
        &mut self,
        from: MemberId,
        batch: u64,
        answer: Option<(LogIndex, Stamp)>,
    ) {
        let Role::Follower {
            following: Some(following),
        } = &mut self.role
        else {
            return;
        };
        if following.leader != from {
            return;
        }
        let is_asked =
            |asked: &mut Asked| asked.batch == batch || mutated(Mutant::ReadKeyedByCaller);
        let Some(asked) = following.reads.asked.take_if(is_asked) else {
            return;
        };
        let point = answer.map(|(index, stamp)| ReadPoint { index, stamp });
        self.out.reads.extend(
            asked
                .tokens
                .into_iter()
                .map(|token| ReadResult { token, point }),
        );
    }

    /// Where reads that arrived before now are linearizable, once a round begun now is confirmed.
    pub(crate) fn read_point(&self, leader: &Leader) -> ReadPoint {
        ReadPoint {
            index: self.commit,
            stamp: leader.clock.stamp(),
        }
    }

    /// Answers the reads whose round a quorum has answered. The leader itself always has.
    pub(crate) fn confirm_reads(&mut self) {
        let configuration = self.log.configuration();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let round = leader.round;
        let acked = |member| {
            if member == self.id {
                round
            } else {
                leader.progress.get(&member).map_or(0, |p| p.acked_round)
            }
        };
        let Some(confirmed) = quorum::reached(configuration, acked) else {
            return;
        };
        let Some((point, batch)) = leader.take_confirmed(confirmed) else {
            return;
        };
        self.out
            .reads
            .extend(batch.local.into_iter().map(|token| ReadResult {
                token,
                point: Some(point),
            }));
        for (member, batch) in batch.remote {
            self.send(
                member,
                Body::ReadIndexResponse {
                    batch,
                    index: point.index,
                    stamp: point.stamp,
                },
            );
        }
    }

    /// Gives up a leader's reads that have waited for an election timeout.
    pub(crate) fn expire_leader_reads(&mut self) {
        let Some(oldest_allowed) = self.now.checked_sub(self.settings.election_timeout) else {
            return;
        };
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let reads = &mut leader.reads;
        let in_flight = reads
            .in_flight
            .take_if(|read| read.batch.since <= oldest_allowed)
            .map(|read| read.batch);
        let is_late = !reads.waiting.is_empty() && reads.waiting.since <= oldest_allowed;
        let waiting = is_late.then(|| std::mem::take(&mut reads.waiting));
        for batch in in_flight.into_iter().chain(waiting) {
            self.out.reads.extend(batch.local.into_iter().map(failed));
            for (member, batch) in batch.remote {
                self.refuse_read(member, batch);
            }
        }
    }

    /// Gives up a follower's reads that have waited for an election timeout.
    pub(crate) fn expire_follower_reads(&mut self) {
        let Some(oldest_allowed) = self.now.checked_sub(self.settings.election_timeout) else {
            return;
        };
        let Role::Follower {
            following: Some(following),
        } = &mut self.role
        else {
            return;
        };
        let reads = &mut following.reads;
        if let Some(asked) = reads.asked.take_if(|asked| asked.since <= oldest_allowed) {
            self.out.reads.extend(asked.tokens.into_iter().map(failed));
        }
        if reads.waiting_since <= oldest_allowed {
            self.out.reads.extend(reads.waiting.drain(..).map(failed));
        }
    }
}
