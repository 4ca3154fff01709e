//! The second phase: what is healed must work again.
//!
//! Owns what is demanded of a healed majority: a leader soon, new writes, equal states, every acknowledged write, and
//! that leases nobody renews end.

use std::time::Duration;

use bytes::Bytes;
use tenure_raft::LogIndex;
use tenure_state::{Answer, Command, Operation, Put, Transaction};

use crate::calls::{Ask, Caller, Reply};
use crate::oracle::{broken, demand};
use crate::plan::Healing;
use crate::time::Moment;
use crate::world::{Event, World};

/// A leader is there within so many election timeouts as they are set; those that members draw are up to twice as long.
const TIMEOUTS_TO_LEADER: u32 = 10;

/// A snapshot is waited for so many times.
const MOST_PATIENCE: u32 = 100;

/// So long clients go on in the healed cluster, and every one of them is answered.
const GOES_ON: Duration = Duration::from_secs(2);

impl World {
    /// Ends the faults, heals a majority or all, and holds the cluster to its promises.
    pub(crate) fn heal_and_judge(&mut self) {
        let healed = self.heal();
        let timeout = self.plan.core.raft.election_timeout;
        let by = self.now + timeout * TIMEOUTS_TO_LEADER;
        let elected = self.run_until(by, |world| world.settled_leader(&healed).is_some());
        demand!(
            elected || self.settles_behind_a_snapshot(&healed),
            "leader-after-healing",
            "no leader among {healed:?} in {:?}",
            timeout * TIMEOUTS_TO_LEADER
        );
        let healed = self.settle_membership(&healed);
        self.faults.healed_members = Some(healed.clone());
        for member in &healed {
            self.demand_write(*member, &healed);
        }
        self.demand_convergence(&healed, "clients go on");
        self.demand_newest_rules(&healed);
        self.faults.settled = Some(self.now);
        self.run_until(self.now + GOES_ON, |_| false);
        self.faults.quiet = true;
        self.demand_leases_end(&healed);
        self.demand_convergence(&healed, "clients are done");
        self.leave_one_behind(&healed);
        for member in &healed {
            self.judge_member(*member);
        }
        self.judge_what_was_told();
        let mut healed = healed;
        self.rot_one(&mut healed);
        self.put_back_old_copy(&healed);
    }

    /// Judges what clients were told, as far as nothing of it may be forgotten: where a key outlived its record, what it
    /// was for is rightly done again.
    fn judge_what_was_told(&mut self) {
        for call in self.calls.values() {
            let history = &self.oracle.history;
            self.recorder.told(None, call, &Reply::Broken, history);
        }
        if !self.oracle.decisions.forgotten {
            self.recorder.judge(&self.oracle.history);
        }
    }

    /// One is cut off, the others write and compact, and nothing more is asked of anybody: it must catch up all the same,
    /// by a snapshot where the log is gone, without a new entry that would wake whoever forgot it.
    fn leave_one_behind(&mut self, healed: &[usize]) {
        let Some(leader) = self.settled_leader(healed) else {
            return;
        };
        let others: Vec<usize> = healed.iter().copied().filter(|m| *m != leader).collect();
        // Without it there must be a quorum.
        if others.is_empty() {
            return;
        }
        let behind = others[self.chance.index(others.len())];
        let Some(running) = &self.members[leader].running else {
            return;
        };
        let voters = &running.core.configuration().voters;
        let left = healed
            .iter()
            .filter(|place| **place != behind && voters.contains(&self.members[**place].id));
        if left.count() <= voters.len() / 2 {
            return;
        }
        let links = (0..self.members.len())
            .filter(|other| *other != behind)
            .flat_map(|other| [(behind, other), (other, behind)])
            .collect();
        let cut = self.network.cut(links);
        for _ in 0..self.chance.number(1, 5) {
            self.demand_write(leader, healed);
        }
        // By then what was written is in a checkpoint, and the log is compacted behind it.
        let saved = self.plan.disk.checkpoint_every * 4 + Duration::from_millis(500);
        self.run_until(self.now + saved, |_| false);
        self.network.mend(cut);
        self.demand_convergence(healed, "one was left behind");
    }

    fn heal(&mut self) -> Vec<usize> {
        self.trace.say(self.now, || "healing".to_owned());
        self.faults.over = true;
        self.faults.healed = Some(self.now);
        self.network.heal();
        let mut members: Vec<usize> = (0..self.members.len()).collect();
        self.chance.shuffle(&mut members);
        let rest = match self.plan.healing {
            Healing::All => {
                if let Some(place) = self.dispensable() {
                    self.crash(place);
                    self.members[place].down_for_good = true;
                }
                members.retain(|place| !self.members[*place].down_for_good);
                Vec::new()
            }
            _ => members.split_off(members.len() / 2 + 1),
        };
        members.sort_unstable();
        self.faults.healed_members = Some(members.clone());
        self.leave_out(&members, &rest);
        self.speed_up();
        self.upgrade_all(&members);
        for member in &members {
            self.wake(*member);
        }
        for client in 0..self.clients.len() {
            if let Some(pause) = self.clients[client].paused {
                self.resume_client(client, pause);
            }
        }
        members
    }

    fn leave_out(&mut self, healed: &[usize], rest: &[usize]) {
        for member in rest {
            if self.plan.healing == Healing::RestDown {
                self.crash(*member);
                self.members[*member].down_for_good = true;
                continue;
            }
            for other in healed {
                self.network.cut(vec![(*other, *member)]);
                if self.plan.healing == Healing::RestCutOff {
                    self.network.cut(vec![(*member, *other)]);
                }
            }
        }
    }

    /// Disks, applies and clients are quick and reliable from now on.
    fn speed_up(&mut self) {
        let disk = &mut self.plan.disk;
        (disk.slow, disk.damaged, disk.no_snapshot, disk.fails) = (0, 0, 0, 0);
        disk.checkpoint_every = disk.checkpoint_every.min(Duration::from_millis(500));
        disk.install = Duration::from_millis(1);
        self.plan.apply.slow = 0;
        (self.plan.workload.lost, self.plan.workload.slow) = (0, 0);
    }

    fn wake(&mut self, place: usize) {
        let now = self.now;
        if let Some(pause) = self.members[place].paused {
            self.resume(place, pause);
        }
        let member = &mut self.members[place];
        (member.log.stalled_until, member.state.stalled_until) = (now, now);
        (member.full_until, member.next_sync_fails) = (now, false);
        let life = member.life;
        if member.running.is_none() {
            return self.restart(place);
        }
        // A sync, an apply or snapshot work that was to take long is done at once.
        self.end_snapshot_work_at(place, now + Duration::from_millis(1));
        self.after(
            Duration::from_millis(1),
            Event::Checkpointed {
                member: place,
                life,
            },
        );
        self.after(
            Duration::from_millis(1),
            Event::Synced {
                member: place,
                life,
            },
        );
        self.after(
            Duration::from_millis(1),
            Event::Apply {
                member: place,
                life,
            },
        );
    }

    /// Whether a leader that must bring somebody a snapshot before a majority has its entries commits one of its own
    /// term. That takes as long as the pieces and their installation take: something must move all the while.
    fn settles_behind_a_snapshot(&mut self, healed: &[usize]) -> bool {
        let patience = self.plan.core.raft.election_timeout * 2 + self.plan.disk.install * 2;
        let mut before = None;
        for _ in 0..MOST_PATIENCE {
            let stored = self.stored_of_snapshots(healed);
            if stored.is_none() || stored == before {
                return false;
            }
            before = stored;
            let by = self.now + patience;
            if self.run_until(by, |world| world.settled_leader(healed).is_some()) {
                return true;
            }
        }
        false
    }

    /// How much the others have of the snapshots that whoever leads brings them; `None` where there are none.
    fn stored_of_snapshots(&self, of: &[usize]) -> Option<u64> {
        let mut running = of
            .iter()
            .filter_map(|place| self.members[*place].running.as_ref());
        let leader = running.rfind(|running| running.leads)?;
        let status = leader.core.status();
        let transferred = status.progress.iter().filter_map(|peer| peer.transferred);
        transferred
            .map(|transferred| transferred.stored)
            .reduce(|all, one| all + one)
    }

    /// The leader among these that has committed an entry of its own term.
    pub(crate) fn settled_leader(&self, of: &[usize]) -> Option<usize> {
        let settled = |place: &usize| {
            let running = self.members[*place]
                .running
                .as_ref()
                .filter(|running| running.leads);
            running.is_some_and(|running| running.core.status().settled)
        };
        of.iter().copied().find(|place| settled(place))
    }

    pub(crate) fn demand_write(&mut self, member: usize, healed: &[usize]) {
        let timeout = self.plan.core.raft.election_timeout * 2;
        let by = self.now + timeout * 30 + Duration::from_secs(3);
        let key: Bytes = format!("probe/{}", member + 1).into();
        while self.now < by {
            // No value is written twice.
            let value: Bytes = self.next_call.to_be_bytes().to_vec().into();
            let put = Put {
                key: key.clone(),
                value,
                content_type: None,
                lease: None,
                refuse_other_lease: false,
            };
            let then = vec![Operation::Put(put)];
            let command = Command::Transaction(Transaction {
                then,
                ..Transaction::default()
            });
            self.faults.probe.clear();
            self.call(Caller::Probe, member, Ask::command(command), timeout * 10);
            self.run_until(by.min(self.now + timeout * 10), |world| {
                !world.faults.probe.is_empty()
            });
            match self.faults.probe.pop() {
                Some(Reply::Outcome {
                    outcome: Ok(Answer::Transaction { .. }),
                    ..
                }) => return,
                Some(Reply::Outcome { outcome, .. }) => broken(
                    "write-after-healing",
                    format!("n{} answers {outcome:?} to a put", member + 1),
                ),
                _ => {}
            }
            self.run_until(self.now + timeout / 2, |_| false);
        }
        let leader = self.settled_leader(healed).map(|leader| leader + 1);
        broken(
            "write-after-healing",
            format!("n{} took no write; the leader is {leader:?}", member + 1),
        )
    }

    /// All that are healed apply all that is committed. Equal digests are judged at every index.
    fn demand_convergence(&mut self, healed: &[usize], when: &str) {
        let target = self.oracle.consensus.commit();
        let timeout = self.plan.core.raft.election_timeout * 2;
        let by = self.now + timeout * 60 + Duration::from_secs(20);
        let arrived = self.run_until(by, |world| {
            healed.iter().all(|place| target <= world.applied(*place))
        });
        let applied: Vec<LogIndex> = healed.iter().map(|place| self.applied(*place)).collect();
        demand!(
            arrived,
            "convergence",
            "{when}: {healed:?} have applied {applied:?} of {target}"
        );
    }

    fn applied(&self, place: usize) -> LogIndex {
        let running = self.members[place].running.as_ref();
        running.map_or(LogIndex(0), |running| {
            running.applier.applied().position.index
        })
    }

    /// Leases that nobody renews end, and everything that hangs on them.
    fn demand_leases_end(&mut self, healed: &[usize]) {
        // Calls under way are answered or given up, then the longest TTL passes, then what is added at leader changes.
        let patience = self.plan.workload.patience + Duration::from_secs(6);
        let longest = Duration::from_millis(self.plan.workload.ttl_ms.1 * 102 / 100);
        let by = self.now + patience + longest + Duration::from_secs(2);
        let ended = self.run_until(by, |world| {
            world.calls.is_empty() && world.live_leases(healed) == 0
        });
        demand!(
            ended,
            "leases-end",
            "{} leases are left on {healed:?} in the end",
            self.live_leases(healed)
        );
    }

    fn live_leases(&self, healed: &[usize]) -> u64 {
        let count = |place: &usize| {
            let running = self.members[*place].running.as_ref();
            running.map_or(0, |running| running.applier.state().lease_count())
        };
        healed.iter().map(count).max().unwrap_or(0)
    }

    fn judge_member(&mut self, place: usize) {
        let Some(running) = &self.members[place].running else {
            return;
        };
        let state = running.applier.state();
        state.check_invariants();
        self.oracle.history.compare(
            place,
            running.applier.applied().position.index,
            state.digest(),
        );
        for (key, (revision, value)) in &self.faults.written {
            let entry = state.key(key);
            let now = entry.as_ref().map(|entry| entry.mod_revision);
            demand!(
                now.is_none_or(|now| *revision <= now || value.is_none()),
                "acknowledged-kept",
                "n{} has {key:?} of {now:?}; a write at {revision} was acknowledged",
                place + 1
            );
            if now == Some(*revision) {
                demand!(
                    entry.map(|entry| entry.value.clone()) == *value,
                    "acknowledged-kept",
                    "n{} has another value of {key:?} than was acknowledged at {revision}",
                    place + 1
                );
            } else if now.is_none() && value.is_some() {
                demand!(
                    self.oracle.history.deletes_after(key, *revision),
                    "acknowledged-kept",
                    "n{} has no {key:?}; a write at {revision} was acknowledged and nothing deleted it",
                    place + 1
                );
            }
        }
    }
}

/// How long a run lasts before it is healed.
pub(crate) fn end_of_chaos(world: &World) -> Moment {
    Moment(0) + world.plan.chaos
}
