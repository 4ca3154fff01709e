//! How members end: at any event, with any part of their last writes, and leaders at the worst of moments.

use std::time::Duration;

use tenure_raft::{Entry, MemberId, Payload};
use tenure_state::{Origin, decode_batch};

use crate::calls::Reply;
use crate::chance::Chance;
use crate::member::Running;
use crate::world::{Event, World};

impl World {
    /// Ends a member at once. Its disks keep what they had, and some of what was on its way.
    pub(crate) fn crash(&mut self, place: usize) {
        let member = &mut self.members[place];
        let Some(running) = member.running.take() else {
            return;
        };
        self.trace
            .say(self.now, || format!("n{} crashes", place + 1));
        self.trace.counts.crashes += 1;
        member.down_since = Some(self.now);
        member.life.0 += 1;
        member.deferred.clear();
        member.paused = None;
        member.clock.resume(self.now);
        member.state.crash(&mut self.chance);
        let kept = member.log.crash(&mut self.chance);
        for write in kept {
            self.make_durable(place, write);
        }
        self.judge_disks(place);
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
}

/// Where chance makes a member crash, it does so right there.
impl World {
    /// Says whether it crashed.
    pub(crate) fn perhaps_crash(&mut self, place: usize) -> bool {
        let crashes = !self.faults.over && self.chance.happens(self.plan.faults.crash_at_event);
        if crashes {
            self.crash(place);
            self.restart_later(place);
        }
        crashes
    }

    /// A write that is about to be done may fail, which ends the member: it never says anything that depends on it, and
    /// what of it is there after all, chance decides. Says whether it failed.
    pub(crate) fn perhaps_fail(&mut self, place: usize) -> bool {
        let fails = self.chance.happens(self.plan.disk.fails);
        let member = &mut self.members[place];
        let full = self.now < member.full_until;
        let fails = std::mem::take(&mut member.next_sync_fails) || fails;
        if !full && !fails {
            return false;
        }
        self.trace.say(self.now, || {
            let what = if full { "no room" } else { "a sync failed" };
            format!("n{}: {what}", place + 1)
        });
        let counts = &mut self.trace.counts;
        counts.without_room += u64::from(full);
        counts.sync_errors += u64::from(!full);
        self.crash(place);
        // Whoever starts it again waits a little, and tries again while there is no room.
        let down = self
            .chance
            .skewed_span(Duration::from_millis(50), Duration::from_secs(2));
        self.after(down, Event::Restart { member: place });
        true
    }

    pub(crate) fn restart_later(&mut self, place: usize) {
        let after = downtime(&mut self.chance, self.plan.faults.longest);
        self.after(after, Event::Restart { member: place });
    }
}

/// Where a leader has proposed what a client waits for, and has not answered, it is lost at the worst of moments.
impl World {
    /// The requests in these entries that clients wait for, where this member leads and such moments are wanted.
    pub(crate) fn waiting_for(&self, place: usize, entries: &[Entry]) -> Vec<Origin> {
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
    pub(crate) fn perhaps_lose_leader(&mut self, place: usize, in_doubt: Vec<Origin>) -> bool {
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
