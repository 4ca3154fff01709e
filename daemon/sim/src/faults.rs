//! Faults that come and go while the first phase lasts.
//!
//! Owns when and whom they hit. Each has an end: a member that crashed starts again, a cut is mended, a pause is over.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tenure_replica::Input;
use tenure_state::Revision;

use crate::calls::Reply;
use crate::clients::Client;
use crate::network::CutId;
use crate::plan::FaultKind;
use crate::time::Moment;
use crate::trace::Names;
use crate::world::{Event, Life, World};

/// What is broken, and what the end of a run needs to know.
#[derive(Default)]
pub(crate) struct Faults {
    /// Nothing breaks any more.
    pub(crate) over: bool,
    /// When that began.
    pub(crate) healed: Option<Moment>,
    /// Who was.
    pub(crate) healed_members: Option<Vec<usize>>,
    /// When all of those had caught up.
    pub(crate) settled: Option<Moment>,
    /// Clients are done.
    pub(crate) quiet: bool,
    pauses: u64,
    /// Answers to those who look whether the healed cluster works.
    pub(crate) probe: Vec<Reply>,
    /// The last write of each key that a client knows of: its revision and value, nothing where it was deleted.
    pub(crate) written: BTreeMap<Bytes, (Revision, Option<Bytes>)>,
}

impl Faults {
    /// A client was told that its write was done.
    pub(crate) fn acknowledged(&mut self, key: &Bytes, revision: Revision, value: Option<Bytes>) {
        let last = self.written.entry(key.clone()).or_default();
        if last.0 <= revision {
            *last = (revision, value);
        }
    }
}

impl World {
    pub(crate) fn schedule_fault(&mut self) {
        if self.plan.faults.kinds.is_empty() {
            return;
        }
        let pause = self
            .chance
            .skewed_span(Duration::from_millis(10), self.plan.faults.every);
        self.after(pause, Event::Fault);
    }

    /// Something breaks.
    pub(crate) fn fault(&mut self) {
        if self.faults.over {
            return;
        }
        let kind = self.chance.pick(&self.plan.faults.kinds);
        let member = self.chance.index(self.members.len());
        let leader = self
            .members
            .iter()
            .position(|m| m.running.as_ref().is_some_and(|running| running.leads));
        let leader = leader.unwrap_or(member);
        self.trace
            .say(self.now, || format!("fault: {}", kind.name()));
        self.trace.counts.faults.add(kind);
        match kind {
            FaultKind::Crash => self.crash_for_a_while(member),
            FaultKind::CrashLeader => self.crash_for_a_while(leader),
            FaultKind::CrashAll => {
                (0..self.members.len()).for_each(|member| self.crash_for_a_while(member))
            }
            FaultKind::RestartStorm => {
                let (life, times) = (self.members[member].life, self.chance.number(2, 10));
                self.crash_again(member, life, times);
            }
            FaultKind::Pause => self.pause(member, false),
            FaultKind::PauseLeader => self.pause(leader, false),
            FaultKind::Suspend => self.pause(member, true),
            FaultKind::Split => self.split(),
            FaultKind::Isolate => self.isolate(member),
            FaultKind::IsolateLeader => self.isolate(leader),
            FaultKind::OneWay => self.one_way(member),
            FaultKind::Bridge => self.bridge(member),
            FaultKind::Ring => self.ring(),
            FaultKind::DeafLeader => self.deaf_or_mute(leader, true),
            FaultKind::MuteLeader => self.deaf_or_mute(leader, false),
            FaultKind::Flap => self.begin_flap(member),
            FaultKind::FlapMember => self.begin_flap_of(member),
            FaultKind::SlowLinks => self.slow_links(member),
            FaultKind::LateToLeader => self.late_to_leader(leader),
            FaultKind::LogStall => self.stall(member, true),
            FaultKind::LogStallLeader => self.stall(leader, true),
            FaultKind::StateStall => self.stall(member, false),
            FaultKind::SyncError => self.members[member].next_sync_fails = true,
            FaultKind::DiskFull => self.fill(member),
            FaultKind::DiskFullAll => (0..self.members.len()).for_each(|member| self.fill(member)),
            FaultKind::Transfer => self.transfer(leader),
            FaultKind::PauseClient => self.pause_client(),
            FaultKind::LoseClient => self.lose_client(),
        }
        self.schedule_fault();
    }

    fn lasts(&mut self) -> Duration {
        self.chance
            .skewed_span(Duration::from_millis(20), self.plan.faults.longest)
    }

    pub(crate) fn crash_for_a_while(&mut self, member: usize) {
        if self.members[member].running.is_some() {
            self.crash(member);
            self.restart_later(member);
        }
    }

    /// A member that crashes soon after each start.
    pub(crate) fn crash_again(&mut self, member: usize, life: Life, times: u64) {
        if self.faults.over || times == 0 {
            return;
        }
        if self.members[member].running.is_some() && life.0 <= self.members[member].life.0 {
            self.crash(member);
            let down = self
                .chance
                .skewed_span(Duration::from_millis(1), Duration::from_millis(50));
            self.after(down, Event::Restart { member });
        }
        let up = self
            .chance
            .skewed_span(Duration::from_millis(2), Duration::from_millis(800));
        self.after(
            up,
            Event::CrashAgain {
                member,
                life,
                times: times - 1,
            },
        );
    }

    fn pause(&mut self, member: usize, suspended: bool) {
        if self.members[member].running.is_none() || self.members[member].paused.is_some() {
            return;
        }
        self.trace.counts.pauses += 1;
        self.faults.pauses += 1;
        let (pause, lasts, now) = (self.faults.pauses, self.lasts(), self.now);
        self.members[member].paused = Some(pause);
        if suspended {
            self.members[member].clock.suspend(now);
        }
        self.after(lasts, Event::Resume { member, pause });
    }

    /// A pause is over: what should have happened in it happens now.
    pub(crate) fn resume(&mut self, place: usize, pause: u64) {
        let now = self.now;
        let member = &mut self.members[place];
        if member.paused != Some(pause) {
            return;
        }
        member.paused = None;
        member.clock.resume(now);
        for event in std::mem::take(&mut member.deferred) {
            self.at(now, event);
        }
    }

    fn cut_for_a_while(&mut self, links: Vec<(usize, usize)>) {
        if links.is_empty() {
            return;
        }
        self.trace.counts.cuts += 1;
        let cut = self.network.cut(links);
        let lasts = self.lasts();
        self.after(lasts, Event::Mend { cut });
    }

    /// Two groups that do not hear each other.
    pub(crate) fn split(&mut self) {
        let mut members: Vec<usize> = (0..self.members.len()).collect();
        self.chance.shuffle(&mut members);
        let at = if members.len() > 1 {
            1 + self.chance.index(members.len() - 1)
        } else {
            1
        };
        let (left, right) = members.split_at(at);
        self.trace
            .say(self.now, || format!("{} | {}", Names(left), Names(right)));
        let links = between(left, right, true);
        self.cut_for_a_while(links);
    }

    pub(crate) fn isolate(&mut self, member: usize) {
        if self.faults.over {
            return;
        }
        let others = self.others(member);
        self.cut_for_a_while(between(&[member], &others, true));
    }

    /// One member is not heard by some, or does not hear them.
    fn one_way(&mut self, member: usize) {
        let mut others = self.others(member);
        self.chance.shuffle(&mut others);
        let count = 1 + self.chance.index(others.len().max(1));
        others.truncate(count);
        let links = match self.chance.coin() {
            true => between(&[member], &others, false),
            false => between(&others, &[member], false),
        };
        self.cut_for_a_while(links);
    }

    /// Two groups that only one member connects.
    fn bridge(&mut self, member: usize) {
        let mut others = self.others(member);
        self.chance.shuffle(&mut others);
        let (left, right) = others.split_at(others.len() / 2);
        self.cut_for_a_while(between(left, right, true));
    }

    /// Everybody hears two others only.
    fn ring(&mut self) {
        let count = self.members.len();
        let mut order: Vec<usize> = (0..count).collect();
        self.chance.shuffle(&mut order);
        let apart = |(from, to): &(usize, usize)| {
            let steps = (from + count - to) % count;
            steps != 0 && steps != 1 && steps != count - 1
        };
        let links = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let links = links
            .filter(apart)
            .map(|(from, to)| (order[from], order[to]))
            .collect();
        self.cut_for_a_while(links);
    }

    /// A leader that is heard by all and hears nobody, or the other way round.
    fn deaf_or_mute(&mut self, leader: usize, deaf: bool) {
        let others: Vec<usize> = self.others(leader);
        self.cut_for_a_while(match deaf {
            true => between(&others, &[leader], false),
            false => between(&[leader], &others, false),
        });
    }

    /// What a member says or hears, or both, takes long on some of its links.
    fn slow_links(&mut self, member: usize) {
        let mut others = self.others(member);
        self.chance.shuffle(&mut others);
        let count = 1 + self.chance.index(others.len().max(1));
        others.truncate(count);
        let links = match self.chance.number(0, 2) {
            0 => between(&[member], &others, false),
            1 => between(&others, &[member], false),
            _ => between(&[member], &others, true),
        };
        let lag = self
            .chance
            .skewed_span(Duration::from_millis(5), Duration::from_secs(2));
        self.slow_down_for_a_while(links, lag);
    }

    /// A leader is heard at once and hears late, by no more than an election timeout, so that it goes on; often it hands
    /// its leadership on meanwhile.
    fn late_to_leader(&mut self, leader: usize) {
        let timeout = self.plan.core.raft.election_timeout;
        let others = self.others(leader);
        let lag = self.chance.span(timeout / 20, timeout);
        self.slow_down_for_a_while(between(&others, &[leader], false), lag);
        if self.chance.coin() {
            let after = self.chance.span(Duration::ZERO, timeout * 2);
            self.after(after, Event::HandOn { member: leader });
        }
    }

    fn slow_down_for_a_while(&mut self, links: Vec<(usize, usize)>, lag: Duration) {
        if links.is_empty() {
            return;
        }
        self.trace.counts.slowed += 1;
        self.trace
            .say(self.now, || format!("{links:?} are slower by {lag:?}"));
        let slow = self.network.slow_down(links, lag);
        let lasts = self.lasts();
        self.after(lasts, Event::Mend { cut: slow });
    }

    fn others(&self, member: usize) -> Vec<usize> {
        (0..self.members.len())
            .filter(|other| *other != member)
            .collect()
    }

    fn begin_flap(&mut self, member: usize) {
        let other = self.chance.index(self.members.len());
        if other == member {
            return;
        }
        let until = self.now + self.lasts();
        self.flap(between(&[member], &[other], true), None, until);
    }

    /// All links of a member come and go together.
    fn begin_flap_of(&mut self, member: usize) {
        let until = self.now + self.lasts();
        let others = self.others(member);
        self.flap(between(&[member], &others, true), None, until);
    }

    /// A link that comes and goes.
    pub(crate) fn flap(&mut self, links: Vec<(usize, usize)>, cut: Option<CutId>, until: Moment) {
        if let Some(cut) = cut {
            self.network.mend(cut);
        }
        if self.faults.over || until <= self.now {
            return;
        }
        let cut = match cut {
            Some(_) => None,
            None => {
                self.trace.counts.cuts += 1;
                Some(self.network.cut(links.clone()))
            }
        };
        let pause = self
            .chance
            .span(Duration::from_millis(50), Duration::from_millis(900));
        self.after(pause, Event::Flap { links, cut, until });
    }

    fn stall(&mut self, member: usize, log: bool) {
        self.trace.counts.stalls += 1;
        let until = self.now + self.lasts();
        let member = &mut self.members[member];
        let stalled = if log {
            &mut member.log.stalled_until
        } else {
            &mut member.state.stalled_until
        };
        *stalled = until.max(*stalled);
    }

    /// A disk without room: whatever is written meanwhile fails and ends the member, which is started again and again.
    fn fill(&mut self, member: usize) {
        let until = self.now + self.lasts();
        let member = &mut self.members[member];
        member.full_until = until.max(member.full_until);
    }

    /// A client stops in the middle of whatever it does, with a call under way or not.
    fn pause_client(&mut self) {
        let client = self.chance.index(self.clients.len());
        if self.clients[client].paused.is_some() || self.clients[client].is_gone {
            return;
        }
        self.faults.pauses += 1;
        let (pause, lasts) = (self.faults.pauses, self.lasts());
        self.clients[client].paused = Some(pause);
        self.after(lasts, Event::ResumeClient { client, pause });
    }

    /// What a client was told meanwhile it hears now; what it gave up meanwhile it gives up now.
    pub(crate) fn resume_client(&mut self, place: usize, pause: u64) {
        let now = self.now;
        let client = &mut self.clients[place];
        if client.paused != Some(pause) {
            return;
        }
        client.paused = None;
        for event in std::mem::take(&mut client.deferred) {
            self.at(now, event);
        }
    }

    /// A client is gone for good, with whatever it holds and without a word. Another one comes in its place.
    fn lose_client(&mut self) {
        let client = self.chance.index(self.clients.len());
        if self.clients[client].is_gone {
            return;
        }
        self.clients[client].is_gone = true;
        let clock = crate::world::clock(&mut self.chance, self.plan.clocks);
        let next = self.clients.len();
        self.clients.push(Client::new(next, clock));
        let after = self.lasts();
        self.after(after, Event::Think { client: next });
    }

    pub(crate) fn transfer(&mut self, leader: usize) {
        if self.faults.over || self.members[leader].paused.is_some() {
            return;
        }
        let to = self
            .chance
            .coin()
            .then(|| self.chance.index(self.members.len()))
            .map(|to| self.members[to].id);
        let Some(running) = &mut self.members[leader].running else {
            return;
        };
        let begun = running.core.transfer_leadership(to).is_ok();
        self.trace.counts.transfers += u64::from(begun);
        if begun && self.chance.number(0, 2) == 0 {
            // Its heir is elected at once, whatever the others think of the old leader, which does not hear of it.
            let after = self
                .chance
                .skewed_span(Duration::from_micros(100), Duration::from_millis(10));
            self.after(after, Event::CutOff { member: leader });
        }
        // Whatever comes of it leaves with the next turn, which any input brings about.
        let me = self.members[leader].id;
        self.tell(leader, Input::Unreachable(me));
    }
}

fn between(left: &[usize], right: &[usize], both_ways: bool) -> Vec<(usize, usize)> {
    let there = left
        .iter()
        .flat_map(|from| right.iter().map(|to| (*from, *to)));
    let back = there
        .clone()
        .map(|(from, to)| (to, from))
        .filter(|_| both_ways);
    there.chain(back).collect()
}
