//! The world: members, network, clients and the one heap of events that moves virtual time.
//!
//! Owns everything of a run. Events happen in the order of their time, and of their making where times are equal;
//! nothing else decides what comes next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{Configuration, MemberId, MemberInfo, SnapshotMeta, Stamp};
use tenure_replica::PeerMessage;
use tenure_state::State;

use crate::calls::{Call, CallId, Caller, Reply};
use crate::chance::Chance;
use crate::clients::Client;
use crate::faults::Faults;
use crate::member::Member;
use crate::network::{CutId, Fate, Network};
use crate::operator::Operator;
use crate::oracle::{Oracle, demand};
use crate::people::People;
use crate::plan::{ClockPlan, Plan};
use crate::recorded::Recorder;
use crate::time::{Moment, SimClock};
use crate::trace::Trace;
use crate::upgrades::Upgrades;
use crate::watchers::Watcher;

/// One start of a member: what was scheduled for an earlier one concerns nobody any more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Life(pub(crate) u64);

/// Everything that can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// The core of a member turns.
    Turn {
        member: usize,
        life: Life,
        number: u64,
    },
    /// A message arrives.
    Deliver {
        from: usize,
        to: usize,
        message: PeerMessage,
        sent: Moment,
        /// The lives of both when it was sent.
        lives: (Life, Life),
    },
    /// A sender hears that a message to `peer` was lost.
    Unreachable {
        member: usize,
        life: Life,
        peer: MemberId,
    },
    /// The log disk has finished a sync.
    Synced { member: usize, life: Life },
    /// The applier applies what waits.
    Apply { member: usize, life: Life },
    /// A checkpoint begins, if there is anything new.
    Checkpoint { member: usize, life: Life },
    /// A checkpoint is durable.
    Checkpointed { member: usize, life: Life },
    /// Snapshot work is done.
    Snapshot {
        member: usize,
        life: Life,
        /// Which piece of it.
        number: u64,
    },
    /// A call reaches its member.
    Ask { call: CallId },
    /// A member has held a call open long enough.
    PollEnd {
        member: usize,
        life: Life,
        call: CallId,
    },
    /// An answer reaches its client.
    Answer { call: CallId, reply: Reply },
    /// A client waits no longer.
    GiveUp { call: CallId },
    /// A client does something.
    Think { client: usize },
    /// A watcher asks.
    Look { watcher: usize },
    /// Something breaks.
    Fault,
    /// The operator asks for a change of the membership.
    Operate,
    /// The program of a member is replaced.
    Upgrade,
    /// Somebody is added who can follow the first rules only.
    AddOneBehind,
    /// A member gets the newer program.
    PutForward { member: usize },
    /// An operator asks, of this member.
    OperateAt { member: usize },
    /// A member is cut off from all others.
    CutOff { member: usize },
    /// A member hands its leadership on, if it has one.
    HandOn { member: usize },
    /// A cut is mended, or links that were slow.
    Mend { cut: CutId },
    /// A link that flaps changes.
    Flap {
        links: Vec<(usize, usize)>,
        cut: Option<CutId>,
        until: Moment,
    },
    /// A member starts.
    Restart { member: usize },
    /// A member that crashes again and again.
    CrashAgain {
        member: usize,
        life: Life,
        times: u64,
    },
    /// A pause ends.
    Resume { member: usize, pause: u64 },
    /// The pause of a client ends.
    ResumeClient { client: usize, pause: u64 },
}

struct Scheduled {
    at: Moment,
    number: u64,
    /// In a box, since the heap moves what it holds about, and events are large.
    event: Box<Event>,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A message that comes so much later is of another age.
const A_MINUTE: Duration = Duration::from_secs(60);
/// A run that has so many events goes in circles.
const MOST_EVENTS: u64 = 20_000_000;

pub(crate) struct World {
    pub(crate) now: Moment,
    heap: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) calls: BTreeMap<CallId, Call>,
    pub(crate) next_call: u64,
    pub(crate) faults: Faults,
    pub(crate) operator: Operator,
    pub(crate) people: People,
    pub(crate) upgrades: Upgrades,
    pub(crate) oracle: Oracle,
    pub(crate) recorder: Recorder,
    pub(crate) trace: Trace,
}

impl World {
    /// A cluster that has just been formed, with nobody started yet.
    pub(crate) fn new(
        plan: Plan,
        operator: Operator,
        (people, mut upgrades): (People, Upgrades),
        mut chance: Chance,
        trace: Trace,
    ) -> World {
        let founding = people.founding(&plan.limits, upgrades.founding_version());
        let newcomers = operator.plan().map_or(0, |changes| changes.newcomers);
        let newcomers = newcomers + upgrades.newcomers();
        let places = plan.members + newcomers;
        upgrades.begin(plan.members, newcomers);
        let mut world = World {
            now: Moment(0),
            heap: BinaryHeap::new(),
            scheduled: 0,
            members: Vec::new(),
            network: Network::new(places, plan.network.clone()),
            clients: Vec::new(),
            watchers: Vec::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            faults: Faults::default(),
            operator,
            people,
            upgrades,
            oracle: Oracle::new(&plan, places, &founding),
            trace,
            recorder: Recorder::default(),
            chance: Chance::new(chance.seed()),
            plan,
        };
        world.form(&mut chance, &founding);
        world
    }

    /// All members begin behind the same entry, with the same state and configuration.
    fn form(&mut self, chance: &mut Chance, state: &State) {
        let meta = SnapshotMeta {
            position: crate::oracle::FIRST_BASE,
            stamp: Stamp(0),
            configuration: Arc::new(configuration(self.plan.members)),
        };
        for place in 0..self.plan.members {
            let clock = clock(chance, self.plan.clocks);
            let token = chance.seed() >> 1;
            self.members
                .push(Member::formed(place, clock, token, &meta, state));
        }
        let newcomers = self.operator.plan().map_or(0, |changes| changes.newcomers);
        let newcomers = newcomers + self.upgrades.newcomers();
        for place in self.plan.members..self.plan.members + newcomers {
            let clock = clock(&mut self.operator.chance, self.plan.clocks);
            let token = self.operator.chance.seed() >> 1;
            let mut newcomer = Member::formed(place, clock, token, &meta, state);
            newcomer.down_for_good = true;
            self.members.push(newcomer);
        }
        for place in 0..self.plan.workload.clients {
            let clock = clock(chance, self.plan.clocks);
            self.clients.push(Client::new(place, clock));
        }
        for place in 0..self.plan.workload.watchers {
            self.watchers.push(Watcher::new(place));
        }
    }

    /// Begins the first phase.
    pub(crate) fn begin(&mut self) {
        for member in 0..self.members.len() {
            let after = self.chance.span(Duration::ZERO, Duration::from_millis(50));
            self.after(after, Event::Restart { member });
        }
        for client in 0..self.clients.len() {
            let after = self.chance.span(Duration::ZERO, Duration::from_millis(500));
            self.after(after, Event::Think { client });
        }
        for watcher in 0..self.watchers.len() {
            let after = self.chance.span(Duration::ZERO, Duration::from_millis(500));
            self.after(after, Event::Look { watcher });
        }
        self.schedule_fault();
        self.schedule_change();
        self.schedule_upgrade();
    }

    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    pub(crate) fn at(&mut self, at: Moment, event: Event) {
        self.scheduled += 1;
        let number = self.scheduled;
        self.heap.push(Reverse(Scheduled {
            at: at.max(self.now),
            number,
            event: Box::new(event),
        }));
    }

    /// Lets things happen until `until`, or until `done` says so, and says whether it did.
    pub(crate) fn run_until(
        &mut self,
        until: Moment,
        mut done: impl FnMut(&World) -> bool,
    ) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let next = self.heap.peek().map(|Reverse(next)| next.at);
            if next.is_none_or(|at| until < at) {
                self.now = until;
                return false;
            }
            let Some(Reverse(Scheduled { at, event, .. })) = self.heap.pop() else {
                return false;
            };
            self.now = at;
            self.trace.counts.events += 1;
            demand!(
                self.trace.counts.events < MOST_EVENTS,
                "livelock",
                "{MOST_EVENTS} events have happened"
            );
            self.happen(*event);
        }
    }

    fn happen(&mut self, event: Event) {
        self.trace.number(self.now.0);
        if let Some(event) = self.hold_back(event) {
            self.dispatch(event);
        }
    }

    /// What a paused member would do waits until it runs again; what a dead one would have done never happens.
    fn hold_back(&mut self, event: Event) -> Option<Event> {
        let (member, life) = match &event {
            Event::Turn { member, life, .. }
            | Event::Apply { member, life }
            | Event::Checkpoint { member, life }
            | Event::Snapshot { member, life, .. }
            | Event::PollEnd { member, life, .. }
            | Event::Unreachable { member, life, .. } => (*member, *life),
            // A disk goes on while the process is stopped.
            Event::Synced { member, life } | Event::Checkpointed { member, life } => {
                return (self.members[*member].life == *life).then_some(event);
            }
            Event::Answer { call, .. } | Event::GiveUp { call } => {
                let caller = self.calls.get(call).map(|call| call.caller);
                let Some(Caller::Client(client)) = caller else {
                    return Some(event);
                };
                return self.hold_back_client(client, event);
            }
            Event::Think { client } => {
                let client = *client;
                return self.hold_back_client(client, event);
            }
            _ => return Some(event),
        };
        let member = &mut self.members[member];
        if member.life != life || member.running.is_none() {
            return None;
        }
        if member.paused.is_some() {
            member.deferred.push(event);
            return None;
        }
        Some(event)
    }

    /// What happens to a paused client waits until it runs again; what happens to one that is gone is learnt by nobody.
    fn hold_back_client(&mut self, place: usize, event: Event) -> Option<Event> {
        let client = &mut self.clients[place];
        if client.is_gone {
            if let Event::Answer { call, .. } | Event::GiveUp { call } = event {
                self.never_learnt(call);
            }
            return None;
        }
        if client.paused.is_some() {
            client.deferred.push(event);
            return None;
        }
        Some(event)
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Turn { member, number, .. } => self.turn(member, number),
            Event::Deliver {
                from,
                to,
                message,
                sent,
                lives,
            } => self.deliver((from, to), message, sent, lives),
            Event::Unreachable { member, peer, .. } => {
                self.tell(member, tenure_replica::Input::Unreachable(peer));
            }
            Event::Synced { member, .. } => self.synced(member),
            Event::Apply { member, .. } => self.apply(member),
            Event::Checkpoint { member, .. } => self.begin_checkpoint(member),
            Event::Checkpointed { member, .. } => self.end_checkpoint(member),
            Event::Snapshot { member, number, .. } => self.snapshot_step(member, number),
            Event::Ask { call } => self.ask(call),
            Event::PollEnd { member, call, .. } => self.end_poll(member, call),
            Event::Answer { call, reply } => self.answer(call, reply),
            Event::GiveUp { call } => self.give_up(call),
            Event::Think { client } => self.think(client),
            Event::Look { watcher } => self.look(watcher),
            Event::Fault => self.fault(),
            Event::Operate => self.operate(),
            Event::Upgrade => self.upgrade(),
            Event::AddOneBehind => self.add_one_behind(),
            Event::PutForward { member } => self.put_this_forward(member),
            Event::OperateAt { member } => self.ask_for_change(member),
            Event::CutOff { member } => self.isolate(member),
            Event::HandOn { member } => self.transfer(member),
            Event::Mend { cut } => self.network.mend(cut),
            Event::Flap { links, cut, until } => self.flap(links, cut, until),
            Event::Restart { member } => self.restart(member),
            Event::CrashAgain {
                member,
                life,
                times,
            } => self.crash_again(member, life, times),
            Event::Resume { member, pause } => self.resume(member, pause),
            Event::ResumeClient { client, pause } => self.resume_client(client, pause),
        }
    }

    /// Hands a message to the network.
    pub(crate) fn send(&mut self, from: usize, to: MemberId, message: PeerMessage) {
        let to = crate::oracle::place_of(to);
        demand!(
            to < self.members.len() && to != from,
            "addressee",
            "n{} writes to n{}",
            from + 1,
            to + 1
        );
        self.trace.counts.messages += 1;
        match self
            .network
            .carry(&mut self.chance, self.now, (from, to), &message)
        {
            Fate::Lost { told } => self.lose(from, to, told),
            Fate::Arrives { at, late } => {
                self.trace.counts.late += u64::from(late);
                self.trace.counts.doubled += at.len() as u64 - 1;
                let lives = (self.members[from].life, self.members[to].life);
                let (last, others) = at.split_last().expect("it arrives at least once");
                for at in others {
                    self.at(
                        *at,
                        Event::Deliver {
                            from,
                            to,
                            message: message.clone(),
                            sent: self.now,
                            lives,
                        },
                    );
                }
                let sent = self.now;
                self.at(
                    *last,
                    Event::Deliver {
                        from,
                        to,
                        message,
                        sent,
                        lives,
                    },
                );
            }
        }
    }

    fn lose(&mut self, from: usize, to: usize, told: bool) {
        self.trace.counts.lost += 1;
        if told {
            let (life, peer) = (self.members[from].life, self.members[to].id);
            let after = self
                .chance
                .span(Duration::from_micros(100), Duration::from_millis(20));
            self.after(
                after,
                Event::Unreachable {
                    member: from,
                    life,
                    peer,
                },
            );
        }
    }

    fn deliver(
        &mut self,
        (from, to): (usize, usize),
        message: PeerMessage,
        sent: Moment,
        lives: (Life, Life),
    ) {
        // In a healed network nothing is on its way for long. What a leader sent before it was cut off would go on
        // arriving for as long as messages may be late, and would keep its followers from electing another (seed 100373).
        let held_back = |healed: Moment| {
            sent < healed && healed + self.plan.core.raft.election_timeout < self.now
        };
        if self.faults.healed.is_some_and(held_back) {
            return self.lose(from, to, false);
        }
        if self.members[to].running.is_none() {
            let told = self.chance.happens(self.plan.network.tells);
            return self.lose(from, to, told);
        }
        let counts = &mut self.trace.counts;
        counts.of_earlier_lives +=
            u64::from(lives != (self.members[from].life, self.members[to].life));
        counts.minutes_late += u64::from(A_MINUTE <= self.now - sent);
        self.trace.number((from * 8 + to) as u64);
        self.trace.say(self.now, || {
            format!("n{} -> n{} {}", from + 1, to + 1, describe(&message))
        });
        let from = self.members[from].id;
        self.owe_term(to, &message);
        if self.chance.happens(self.plan.network.spoilt) {
            self.trace.counts.spoilt += 1;
            let message = crate::forging::spoilt(&message, &mut self.chance);
            self.tell(to, tenure_replica::Input::Peer { from, message });
        }
        self.tell(to, tenure_replica::Input::Peer { from, message });
        self.perhaps_crash(to);
    }
}

/// A message in few words.
fn describe(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Raft(message) => {
            let body = match &message.body {
                tenure_raft::Body::Append {
                    previous,
                    entries,
                    commit,
                    round,
                } => {
                    format!(
                        "append {} behind {previous:?}, commit {commit}, round {round}",
                        entries.len()
                    )
                }
                tenure_raft::Body::Snapshot {
                    file,
                    offset,
                    data,
                    round,
                } => {
                    format!(
                        "piece {offset}+{} of {:?}, round {round}",
                        data.len(),
                        file.meta.position
                    )
                }
                other => format!("{other:?}"),
            };
            format!("term {} {body}", message.term)
        }
        PeerMessage::Forward(requests) => format!("forward {}", requests.len()),
        other => format!("{other:?}"),
    }
}

/// A clock that began anywhere, whose error is often the worst that is allowed.
pub(crate) fn clock(chance: &mut Chance, plan: ClockPlan) -> SimClock {
    let worst = plan.worst_ppm;
    let began = Duration::from_millis(chance.number(0, 1 << 40));
    let ppm = match chance.number(0, 3) {
        0 => worst,
        1 => -worst,
        _ => i64::try_from(chance.number(0, 2 * worst.unsigned_abs())).unwrap_or(0) - worst,
    };
    SimClock::new(ppm, began)
}

fn configuration(members: usize) -> Configuration {
    let voters = (1..=members as u64)
        .map(MemberId)
        .collect::<std::collections::BTreeSet<_>>();
    let info = voters.iter().map(|id| {
        (
            *id,
            MemberInfo {
                name: format!("n{}", id.0),
                ..MemberInfo::default()
            },
        )
    });
    let info = info.collect();
    Configuration {
        voters,
        info,
        ..Configuration::default()
    }
}

/// A value that nobody else puts, so that a write lost or done twice shows.
pub(crate) fn unique_value(chance: &mut Chance, number: u64, bytes: u64) -> Bytes {
    let length = usize::try_from(chance.skewed(8, bytes.max(8))).unwrap_or(8);
    let mut value = number.to_be_bytes().to_vec();
    value.resize(length, b'.');
    value.into()
}
