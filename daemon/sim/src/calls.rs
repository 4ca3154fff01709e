//! Calls of clients, at the member that they reach.
//!
//! Owns what the REST edge does in production: a request becomes an input of the core, an outcome or a refusal becomes an
//! answer, a queued acquire and a watch are held open, a read waits until its index is applied. A call or its answer
//! may be lost or slow on the way.

use std::time::Duration;

use bytes::Bytes;
use tenure_raft::LogIndex;
use tenure_replica::{Decided, Input, Refused};
use tenure_state::{
    Answer, Attached, Change, Clock, Command, HoldView, IdempotencyKey, KeyEntry, Kind, LeaseId,
    LeaseView, Origin, Outcome, Principal, QueuedView, ReadError, Refusal, Request, Revision,
    SHOWN, Selector, Standing,
};

use crate::member::Running;
use crate::oracle::demand;
use crate::time::Moment;
use crate::watchers::OpenWatch;
use crate::world::{Event, World};

/// A call of a client.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct CallId(pub(crate) u64);

/// Who calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caller {
    Client(usize),
    Watcher(usize),
    /// Whoever looks whether the healed cluster works.
    Probe,
}

/// A call under way, as its caller knows it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) member: usize,
    pub(crate) ask: Ask,
    /// In whose name.
    principal: Principal,
    /// Before its first byte left.
    pub(crate) sent: Moment,
    /// What had been answered to anybody by then.
    pub(crate) floor: LogIndex,
    /// Leaders that had been elected by then.
    pub(crate) elections: u64,
    /// As what its member proposed it, once it has.
    pub(crate) origin: Option<Origin>,
}

/// What is asked.
#[expect(
    clippy::large_enum_variant,
    reason = "most asks are commands, and few are open at a time"
)]
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Command {
        command: Command,
        once: Option<IdempotencyKey>,
        poll: Duration,
    },
    Renew {
        lease: LeaseId,
        company: Duration,
    },
    ReadLease(LeaseId),
    ReadKey(Bytes),
    Watch {
        after: Revision,
        selectors: Vec<Selector>,
        wait: Duration,
        /// The most events of a page.
        most: usize,
        /// Whether its caller comes from elsewhere, with a revision that nobody here told it.
        stranger: bool,
    },
}

impl Ask {
    /// A command that is answered at once, and never a second time.
    pub(crate) fn command(command: Command) -> Ask {
        Ask::Command {
            command,
            once: None,
            poll: Duration::ZERO,
        }
    }

    /// Whether it changes anything, so that not to learn its outcome matters.
    fn is_write(&self) -> bool {
        matches!(self, Ask::Command { .. } | Ask::Renew { .. })
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Outcome {
        outcome: Outcome,
        replayed: bool,
        index: LogIndex,
    },
    /// A poll ended with the place granted.
    Held {
        holds: Vec<HoldView>,
        index: LogIndex,
    },
    /// A poll ended with the place kept.
    Queued {
        index: LogIndex,
    },
    /// A poll ended with the place gone.
    Gone {
        index: LogIndex,
    },
    /// Not applied, and never will be.
    Refused(Refused),
    /// The connection broke.
    Broken,
    Lease {
        lease: Result<LeaseView, Refusal>,
        attached: Vec<Attached>,
        index: LogIndex,
    },
    Key {
        key: Bytes,
        entry: Option<std::sync::Arc<KeyEntry>>,
        index: LogIndex,
    },
    Watched {
        changes: Vec<Change>,
        through: Revision,
    },
    Compacted {
        now: Revision,
    },
    /// A watch after a revision at which the cluster has never been.
    Ahead,
}

/// An acquire whose place is in the queue, held open.
#[derive(Clone, Debug)]
pub(crate) struct Poll {
    pub(crate) call: CallId,
    kind: Kind,
    /// All of them are granted at once.
    names: Vec<String>,
    lease: LeaseId,
    owner: String,
}

/// A member of a healed cluster that has settled answers within so many election timeouts.
const TIMEOUTS_TO_ANSWER: u32 = 10;

/// Pages of a watch, as the REST edge asks for them.
pub(crate) const EVENTS_A_REPLY: usize = 1000;
const BYTES_A_REPLY: usize = 4 << 20;
const SCANNED_A_REPLY: usize = 10_000;

impl World {
    /// A caller asks a member.
    pub(crate) fn call(
        &mut self,
        caller: Caller,
        member: usize,
        ask: Ask,
        patience: Duration,
    ) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.trace.counts.calls += 1;
        let floor = self.oracle.calls.floor();
        let principal = self.people.principal(caller, &ask);
        self.trace.say(self.now, || {
            let who = principal.name();
            format!(
                "{caller:?} ({who}) asks n{} as {}: {ask:?}",
                member + 1,
                id.0
            )
        });
        self.calls.insert(
            id,
            Call {
                caller,
                member,
                ask,
                principal,
                sent: self.now,
                floor,
                elections: self.trace.counts.elections,
                origin: None,
            },
        );
        if let Some(travel) = self.travel(caller) {
            self.after(travel, Event::Ask { call: id });
        }
        self.after(patience, Event::GiveUp { call: id });
        id
    }

    /// How long a call or an answer is on its way; `None` where it is lost.
    fn travel(&mut self, caller: Caller) -> Option<Duration> {
        let plan = &self.plan.workload;
        if caller == Caller::Probe {
            return Some(Duration::from_micros(200));
        }
        if self.chance.happens(plan.lost) {
            return None;
        }
        let slow = self.chance.happens(plan.slow);
        let longest = if slow {
            Duration::from_secs(4)
        } else {
            plan.travel
        };
        Some(self.chance.skewed_span(Duration::from_micros(20), longest))
    }

    /// A call reaches its member.
    pub(crate) fn ask(&mut self, id: CallId) {
        let Some(Call {
            member: place,
            ask,
            principal,
            floor,
            ..
        }) = self.calls.get(&id).cloned()
        else {
            return;
        };
        if self.members[place].running.is_none() {
            return self.reply(place, id, Reply::Refused(Refused::ShuttingDown));
        }
        let member = &mut self.members[place];
        let token = member.token();
        let origin = Origin {
            member: member.id.0,
            token,
        };
        let input = match ask {
            Ask::Command { command, once, .. } => Input::Propose(Request {
                origin,
                principal,
                idempotency: once,
                command,
            }),
            Ask::Renew { lease, company } => Input::Renew {
                principal,
                renewals: vec![(token, lease)],
                company,
            },
            Ask::ReadLease(_) | Ask::ReadKey(_) => Input::Read { token },
            Ask::Watch {
                after,
                selectors,
                wait,
                most,
                ..
            } => {
                let watch = OpenWatch {
                    call: id,
                    after,
                    selectors,
                    most,
                    settled: false,
                };
                self.open_watch(place, watch, wait);
                // Where nothing was at hand, the member makes sure that it has not merely been left behind.
                let waits = |running: &Running| running.watches.iter().any(|open| open.call == id);
                if !self.members[place].running.as_ref().is_some_and(waits) {
                    return;
                }
                Input::Read { token }
            }
        };
        if matches!(input, Input::Propose(_) | Input::Renew { .. }) {
            self.oracle.calls.received(origin, floor, self.now);
            if let Some(call) = self.calls.get_mut(&id) {
                call.origin = Some(origin);
            }
        }
        if let Some(running) = &mut self.members[place].running {
            running.pending.insert(token, id);
        }
        self.tell(place, input);
    }

    fn open_watch(&mut self, place: usize, watch: OpenWatch, wait: Duration) {
        let member = &mut self.members[place];
        let (life, call) = (member.life, watch.call);
        let Some(running) = &mut member.running else {
            return;
        };
        running.watches.push(watch);
        self.after(
            wait,
            Event::PollEnd {
                member: place,
                life,
                call,
            },
        );
        self.serve_waiting(place);
    }

    /// The state has decided a request of this member.
    pub(crate) fn decided(&mut self, place: usize, id: CallId, index: LogIndex, decided: Decided) {
        let poll = match self.calls.get(&id).map(|call| &call.ask) {
            Some(Ask::Command { poll, .. }) => *poll,
            _ => Duration::ZERO,
        };
        let Decided {
            outcome, replayed, ..
        } = decided;
        let places: &[QueuedView] = match &outcome {
            Ok(Answer::Queued(place)) => std::slice::from_ref(place),
            Ok(Answer::QueuedTogether(places)) => places,
            _ => &[],
        };
        if let (Some(first), false) = (places.first(), poll.is_zero()) {
            let member = &mut self.members[place];
            let life = member.life;
            let Some(running) = &mut member.running else {
                return;
            };
            running.polls.push(Poll {
                call: id,
                kind: first.kind,
                names: places.iter().map(|place| place.name.clone()).collect(),
                lease: first.lease,
                owner: first.owner.clone(),
            });
            return self.after(
                poll,
                Event::PollEnd {
                    member: place,
                    life,
                    call: id,
                },
            );
        }
        self.reply(
            place,
            id,
            Reply::Outcome {
                outcome,
                replayed,
                index,
            },
        );
    }

    /// Answers the reads, polls and watches that the state of this member can answer now.
    pub(crate) fn serve_waiting(&mut self, place: usize) {
        let replies = self.ready_replies(place);
        for (call, reply) in replies {
            self.reply(place, call, reply);
        }
    }

    fn ready_replies(&mut self, place: usize) -> Vec<(CallId, Reply)> {
        let Some(running) = &mut self.members[place].running else {
            return Vec::new();
        };
        let (index, clock) = (
            running.applier.applied().position.index,
            Clock(running.stamp().0),
        );
        let state = running.applier.state();
        let mut replies = Vec::new();
        running.polls.retain(|poll| {
            let mut holds = Vec::new();
            for name in &poll.names {
                match state.standing(poll.kind, name, poll.lease, &poll.owner, clock) {
                    Some(Standing::Queued(_)) => return true,
                    Some(Standing::Held(hold)) => holds.push(hold),
                    None => {}
                }
            }
            let reply = match holds.is_empty() {
                true => Reply::Gone { index },
                false => Reply::Held { holds, index },
            };
            replies.push((poll.call, reply));
            false
        });
        let calls = &self.calls;
        let oracle = &self.oracle;
        running.reads.retain(|(point, id)| {
            if index < point.index {
                return true;
            }
            let Some(call) = calls.get(id) else {
                return false;
            };
            oracle.calls.read(call.floor, index);
            // A linearizable answer counts by the leader's clock, or by the newer one of what is applied here.
            let clock = Clock(point.stamp.0).max(clock);
            let reply = match &call.ask {
                Ask::ReadLease(lease) => Reply::Lease {
                    lease: state.lease(*lease, clock),
                    attached: state.attached(*lease, SHOWN),
                    index,
                },
                Ask::ReadKey(key) => {
                    let entry = state.key(key);
                    let versions = &oracle.history.versions;
                    versions.read(key, state.revision(), entry.as_ref());
                    Reply::Key {
                        key: key.clone(),
                        entry,
                        index,
                    }
                }
                Ask::Watch { .. } => {
                    let watch = running.watches.iter_mut().find(|watch| watch.call == *id);
                    watch.into_iter().for_each(|watch| watch.settled = true);
                    return false;
                }
                Ask::Command { .. } | Ask::Renew { .. } => return false,
            };
            replies.push((*id, reply));
            false
        });
        running.watches.retain(|watch| {
            let page = state.changes(
                watch.after,
                &watch.selectors,
                watch.most,
                BYTES_A_REPLY,
                SCANNED_A_REPLY,
            );
            let reply = match page {
                Ok(page) if page.changes.is_empty() && !page.more => return true,
                Err(ReadError::Ahead) if watch.settled => Reply::Ahead,
                Ok(page) => Reply::Watched {
                    changes: page.changes,
                    through: page.through,
                },
                // A member that lags behind has not seen that revision yet: it waits.
                Err(ReadError::Ahead) => return true,
                Err(ReadError::Compacted { .. }) => {
                    self.oracle.history.lost(watch.after);
                    Reply::Compacted {
                        now: state.revision(),
                    }
                }
            };
            replies.push((watch.call, reply));
            false
        });
        replies
    }

    /// A member has held a call open for as long as it was asked to.
    pub(crate) fn end_poll(&mut self, place: usize, id: CallId) {
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        let index = running.applier.applied().position.index;
        if let Some(at) = running.polls.iter().position(|poll| poll.call == id) {
            running.polls.remove(at);
            return self.reply(place, id, Reply::Queued { index });
        }
        if let Some(at) = running.watches.iter().position(|watch| watch.call == id) {
            let watch = running.watches.remove(at);
            let state = running.applier.state();
            let page = state.changes(
                watch.after,
                &watch.selectors,
                watch.most,
                BYTES_A_REPLY,
                SCANNED_A_REPLY,
            );
            let reply = match page {
                Ok(page) => Reply::Watched {
                    changes: page.changes,
                    through: page.through,
                },
                // It lags, as far as it knows.
                Err(ReadError::Ahead) => Reply::Refused(Refused::NoLeader),
                Err(ReadError::Compacted { .. }) => {
                    self.oracle.history.lost(watch.after);
                    Reply::Compacted {
                        now: state.revision(),
                    }
                }
            };
            self.reply(place, id, reply);
        }
    }

    /// A member answers a call.
    pub(crate) fn reply(&mut self, place: usize, call: CallId, reply: Reply) {
        let Some(Call { caller, .. }) = self.calls.get(&call) else {
            return;
        };
        let caller = *caller;
        self.trace.say(self.now, || {
            format!("n{} answers {}: {reply:?}", place + 1, call.0)
        });
        if let Some(travel) = self.travel(caller) {
            self.after(travel, Event::Answer { call, reply });
        }
    }

    /// An answer reaches its caller, who may have given up.
    pub(crate) fn answer(&mut self, id: CallId, reply: Reply) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let counts = &mut self.trace.counts;
        match &reply {
            Reply::Refused(_) => counts.refused += 1,
            Reply::Broken => counts.unknown += 1,
            Reply::Lease { .. } | Reply::Key { .. } => counts.reads += 1,
            _ => counts.answered += 1,
        }
        if let (Reply::Outcome { index, .. }, Some(origin)) = (&reply, call.origin) {
            self.oracle.calls.told(origin, *index);
        }
        let (now, history) = (Some(self.now), &self.oracle.history);
        self.recorder.told(now, &call, &reply, history);
        if matches!(reply, Reply::Broken) {
            self.unlearnt(&call);
        }
        match &reply {
            Reply::Outcome { index, .. }
            | Reply::Held { index, .. }
            | Reply::Queued { index }
            | Reply::Gone { index }
            | Reply::Lease { index, .. }
            | Reply::Key { index, .. } => self.oracle.calls.answered(*index),
            Reply::Refused(_)
            | Reply::Broken
            | Reply::Watched { .. }
            | Reply::Compacted { .. }
            | Reply::Ahead => {}
        }
        match call.caller {
            Caller::Client(client) => self.client_answered(client, &call, reply),
            Caller::Watcher(watcher) => self.watcher_answered(watcher, &call, reply),
            Caller::Probe => self.faults.probe.push(reply),
        }
    }

    /// A caller waits no longer: the outcome stays unknown to it.
    pub(crate) fn give_up(&mut self, id: CallId) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        self.demand_answer(&call);
        self.record_unlearnt(&call);
        self.trace.counts.unknown += 1;
        self.unlearnt(&call);
        match call.caller {
            Caller::Client(client) => self.client_answered(client, &call, Reply::Broken),
            Caller::Watcher(watcher) => self.watcher_answered(watcher, &call, Reply::Broken),
            Caller::Probe => {}
        }
    }

    fn record_unlearnt(&mut self, call: &Call) {
        let (now, history) = (Some(self.now), &self.oracle.history);
        self.recorder.told(now, call, &Reply::Broken, history);
    }

    /// A healed cluster answers: nobody who asked a member of it, and for whom no leader changed, waits in vain.
    fn demand_answer(&self, call: &Call) {
        let Some(healed) = &self.faults.healed_members else {
            return;
        };
        let held_open = match &call.ask {
            Ask::Command { poll, .. } => *poll,
            Ask::Watch { wait, .. } => *wait,
            Ask::Renew { company, .. } => *company,
            Ask::ReadLease(_) | Ask::ReadKey(_) => Duration::ZERO,
        };
        let timeouts = self.plan.core.raft.election_timeout * TIMEOUTS_TO_ANSWER;
        let settled = self.faults.settled.is_some_and(|since| since <= call.sent)
            && call.elections == self.trace.counts.elections;
        demand!(
            !settled
                || !healed.contains(&call.member)
                || self.now - call.sent < held_open + timeouts,
            "answered",
            "{:?} asked n{} at {} and is not answered at {}: {:?}",
            call.caller,
            call.member + 1,
            call.sent,
            self.now,
            call.ask
        );
    }

    /// A caller is gone that waited for this.
    pub(crate) fn never_learnt(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(&id) {
            self.record_unlearnt(&call);
            self.trace.counts.unknown += 1;
            self.unlearnt(&call);
        }
    }

    /// The outcome of a write stays unknown: it may be applied or not.
    fn unlearnt(&mut self, call: &Call) {
        match call.origin {
            Some(origin) => self.oracle.calls.unlearnt(origin),
            // It never reached its member.
            None if call.ask.is_write() => self.trace.counts.unknown_not_applied += 1,
            None => {}
        }
    }
}
