//! Clients: they take leases and locks, write keys, read, and count time by clocks of their own.
//!
//! Owns what a client knows. It believes in a lease as `api.md` §1 says, stops believing in a hold before it asks for
//! its release, and takes what it did not learn for unknown. Some forget their leases, some pause longer than a TTL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tenure_replica::Refused;
use tenure_state::{
    Acquire, Answer, Claim, Clock, Command, Compare, Condition, Fence, Field, HoldView, Kind,
    LeaseId, LeaseView, NewLease, Operation, OperationResult, Outcome, Put, Refusal, Release,
    Revision, Share, Transaction, Wanted,
};

use crate::calls::{Ask, Call, Caller, Reply};
use crate::chance::as_nanos;
use crate::oracle::demand;
use crate::time::{Moment, SimClock};
use crate::world::{Event, World, unique_value};

pub(crate) struct Client {
    clock: SimClock,
    lease: Option<Known>,
    /// Fences of holds that it knows, by lock and owner.
    holds: BTreeMap<(String, String), Fence>,
    /// Holds that it asked to release once. Whatever it is told later, the request may still arrive.
    given_up: BTreeSet<(String, Fence)>,
    /// Revisions of keys as it last saw them.
    seen: BTreeMap<Bytes, Revision>,
}

#[derive(Clone, Copy)]
struct Known {
    id: LeaseId,
    ttl_ms: u64,
    /// Until when it believes, in true time.
    until: Moment,
}

impl Client {
    pub(crate) fn new(_place: usize, clock: SimClock) -> Client {
        Client {
            clock,
            lease: None,
            holds: BTreeMap::new(),
            given_up: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    /// `sent + 0.98 × remaining − 50 ms` by its own clock, as a point in true time.
    fn believes_until(&self, sent: Moment, remaining_ms: u64) -> Moment {
        let counted =
            Duration::from_micros(remaining_ms * 980).checked_sub(Duration::from_millis(50));
        // Where that is before it sent, it believes nothing.
        counted.map_or(Moment(0), |counted| sent + self.clock.true_span(counted))
    }
}

impl World {
    /// A client does something, one call at a time.
    pub(crate) fn think(&mut self, place: usize) {
        if self.faults.quiet {
            return;
        }
        let member = self.chance.index(self.members.len());
        let ask = self.choose(place);
        self.stop_believing(place, &ask);
        let poll = if let Ask::Command { poll, .. } = &ask {
            *poll
        } else {
            Duration::ZERO
        };
        let patience = self
            .chance
            .skewed_span(Duration::from_millis(100), self.plan.workload.patience)
            + poll;
        self.call(Caller::Client(place), member, ask, patience);
    }

    fn choose(&mut self, place: usize) -> Ask {
        let Some(lease) = self.clients[place].lease else {
            return self.without_lease();
        };
        let left = lease.until - self.now;
        let hurry = as_nanos(left) / 1_000_000 < lease.ttl_ms * 6 / 10;
        if hurry && self.chance.happens(700_000) {
            return renewal(lease);
        }
        match self.chance.number(0, 99) {
            0..30 => self.acquire(Claim::Lease(lease.id), lease.ttl_ms),
            30..48 => self.release(place, lease),
            48..75 => self.write(place, Some(lease.id)),
            75..80 => Ask::ReadLease(lease.id),
            80..90 => Ask::ReadKey(self.some_key()),
            90..96 => renewal(lease),
            96..98 => Ask::Command {
                command: Command::RevokeLease { lease: lease.id },
                poll: Duration::ZERO,
            },
            _ => {
                // It forgets the lease, which runs out by itself; what it believes, it believes.
                let client = &mut self.clients[place];
                client.lease = None;
                client.holds.clear();
                self.without_lease()
            }
        }
    }

    fn without_lease(&mut self) -> Ask {
        let (least, most) = self.plan.workload.ttl_ms;
        let lease =
            LeaseId::new((self.chance.seed() >> 1).max(1)).expect("it is positive and below 2^63");
        let ttl_ms = self.chance.number(least, most);
        let new = NewLease {
            lease,
            ttl_ms,
            name: String::new(),
            metadata: BTreeMap::new(),
        };
        match self.chance.number(0, 3) {
            0 => self.acquire(Claim::Grant(new), ttl_ms),
            _ => Ask::Command {
                command: Command::GrantLease(new),
                poll: Duration::ZERO,
            },
        }
    }

    fn acquire(&mut self, claim: Claim, ttl_ms: u64) -> Ask {
        let lock = self.chance.index(self.plan.workload.locks);
        let wait_ms = if self.chance.coin() {
            0
        } else {
            self.chance.skewed(10, 5000)
        };
        let longest = Duration::from_millis(wait_ms.min(ttl_ms / 3));
        let poll = if self.chance.happens(800_000) {
            longest
        } else {
            Duration::ZERO
        };
        let owner = if self.chance.happens(100_000) {
            "other"
        } else {
            ""
        };
        let command = Command::Acquire(Acquire {
            kind: Kind::Lock,
            wanted: vec![Wanted {
                name: format!("lock{lock}"),
                share: Share::Exclusive,
            }],
            claim,
            owner: owner.to_owned(),
            wait_ms,
            priority: 0,
            metadata: BTreeMap::new(),
            lock_delay_ms: 0,
            value: String::new(),
        });
        Ask::Command { command, poll }
    }

    fn release(&mut self, place: usize, lease: Known) -> Ask {
        let client = &self.clients[place];
        let count = client.holds.len();
        if count == 0 {
            return renewal(lease);
        }
        let which = self.chance.index(count);
        let Some(((name, owner), fence)) = self.clients[place].holds.iter().nth(which) else {
            return renewal(lease);
        };
        let (name, owner, fence) = (name.clone(), owner.clone(), Some(*fence));
        let command = Command::Release(Release {
            kind: Kind::Lock,
            name,
            lease: lease.id,
            owner,
            fence,
        });
        Ask::Command {
            command,
            poll: Duration::ZERO,
        }
    }

    fn some_key(&mut self) -> Bytes {
        format!("k{}", self.chance.index(self.plan.workload.keys)).into()
    }

    fn write(&mut self, place: usize, lease: Option<LeaseId>) -> Ask {
        let key = self.some_key();
        let number = self.next_call;
        let value = unique_value(&mut self.chance, number, self.plan.workload.value_bytes);
        let lease = lease.filter(|_| self.chance.happens(250_000));
        let put = |key, value| {
            Operation::Put(Put {
                key,
                value,
                content_type: None,
                lease,
                refuse_other_lease: false,
            })
        };
        let condition = |key: &Bytes, revision: u64| Condition::Key {
            key: key.clone(),
            field: Field::ModRevision(revision),
            compare: Compare::Equal,
        };
        let mut transaction = Transaction::default();
        match self.chance.number(0, 9) {
            0..5 => transaction.then.push(put(key, value)),
            5..7 => {
                let revision = self.clients[place]
                    .seen
                    .get(&key)
                    .map_or(0, |revision| revision.0);
                transaction.conditions.push(condition(&key, revision));
                transaction.then.push(put(key.clone(), value));
                transaction.otherwise.push(Operation::Get { key });
            }
            7 => transaction.then.push(Operation::Delete { key }),
            8 => transaction.then.push(Operation::DeleteRange {
                start: key,
                end: Some(Bytes::from_static(b"k5")),
            }),
            _ => {
                let beside: Bytes = [&key[..], b"/beside"].concat().into();
                transaction.then.extend([
                    put(key.clone(), value.clone()),
                    put(beside, value),
                    Operation::Get { key },
                ]);
            }
        }
        Ask::Command {
            command: Command::Transaction(transaction),
            poll: Duration::ZERO,
        }
    }

    /// Before the first byte of a release or a revoke leaves, the client believes no more.
    fn stop_believing(&mut self, place: usize, ask: &Ask) {
        let Ask::Command { command, .. } = ask else {
            return;
        };
        let client = &mut self.clients[place];
        match command {
            Command::Release(release) => {
                client
                    .holds
                    .remove(&(release.name.clone(), release.owner.clone()));
                client
                    .given_up
                    .extend(release.fence.map(|fence| (release.name.clone(), fence)));
                self.oracle
                    .beliefs
                    .release(release.lease, &release.name, &release.owner);
            }
            Command::RevokeLease { lease } => {
                client.lease = None;
                client.holds.clear();
                self.oracle.beliefs.revoke(*lease);
            }
            Command::GrantLease(_)
            | Command::ChangeLease { .. }
            | Command::Acquire(_)
            | Command::Break(_)
            | Command::Proclaim(_)
            | Command::HandOver(_)
            | Command::Transaction(_)
            | Command::Compact { .. }
            | Command::ChangeLimits(_) => {}
        }
    }

    /// A client has an answer, or knows that it will have none.
    pub(crate) fn client_answered(&mut self, place: usize, call: &Call, reply: Reply) {
        let least = match &reply {
            Reply::Refused(Refused::Transferring) => Duration::from_millis(2),
            // Who is refused asks again soon, but leaves others a chance.
            Reply::Refused(Refused::NoLeader | Refused::Overloaded | Refused::ShuttingDown) => {
                Duration::from_millis(10)
            }
            _ => Duration::from_micros(100),
        };
        match reply {
            Reply::Outcome { outcome, .. } => self.outcome(place, call, outcome),
            Reply::Held { hold, .. } => self.held(place, call, &hold),
            Reply::Lease {
                lease: Ok(view), ..
            } => self.leased(place, call.sent, &view),
            Reply::Lease {
                lease: Err(refusal),
                ..
            } => self.lost(place, &refusal),
            Reply::Key { key, entry, .. } => {
                let revision = entry.map_or(Revision(0), |entry| entry.mod_revision);
                self.clients[place].seen.insert(key, revision);
            }
            Reply::Queued { .. }
            | Reply::Gone { .. }
            | Reply::Refused(_)
            | Reply::Broken
            | Reply::Watched { .. }
            | Reply::Compacted { .. } => {}
        }
        let think = if self.chance.happens(20_000) {
            Duration::from_secs(4)
        } else {
            self.plan.workload.think
        };
        let pause = match self.faults.over {
            // The healed cluster works, but not at the edge of what it can: a member that needs a snapshot must be able
            // to catch up, however small this plan makes the window and the kept tail.
            true => self
                .chance
                .span(Duration::from_millis(200), Duration::from_secs(1)),
            false => self.chance.skewed_span(least, think.max(least)),
        };
        self.after(pause, Event::Think { client: place });
    }

    fn outcome(&mut self, place: usize, call: &Call, outcome: Outcome) {
        match outcome {
            Ok(Answer::Lease(view)) => self.leased(place, call.sent, &view),
            Ok(Answer::Held(hold)) => self.held(place, call, &hold),
            Ok(Answer::Queued(queued)) => {
                self.believe(place, call, queued.lease, queued.deadline, queued.clock);
            }
            Ok(Answer::Transaction {
                succeeded,
                results,
                revision,
            }) => {
                self.wrote(place, call, succeeded, &results, revision);
            }
            Ok(_) => {}
            Err(refusal) => self.lost(place, &refusal),
        }
    }

    fn leased(&mut self, place: usize, sent: Moment, view: &LeaseView) {
        let client = &mut self.clients[place];
        let until = client.believes_until(sent, view.deadline.0.saturating_sub(view.clock.0));
        match &mut client.lease {
            Some(known) if known.id == view.lease => known.until = known.until.max(until),
            None => {
                client.lease = Some(Known {
                    id: view.lease,
                    ttl_ms: view.ttl_ms,
                    until,
                })
            }
            // The answer to a question about a lease that it gave up.
            Some(_) => return,
        }
        self.oracle
            .beliefs
            .lease(self.now, place, view.lease, until);
    }

    fn believe(
        &mut self,
        place: usize,
        call: &Call,
        lease: LeaseId,
        deadline: Clock,
        clock: Clock,
    ) -> bool {
        let ttl_ms = match &call.ask {
            Ask::Command {
                command:
                    Command::Acquire(Acquire {
                        claim: Claim::Grant(new),
                        ..
                    }),
                ..
            } => new.ttl_ms,
            _ => 0,
        };
        let client = &mut self.clients[place];
        let until = client.believes_until(call.sent, deadline.0.saturating_sub(clock.0));
        match &mut client.lease {
            Some(known) if known.id == lease => known.until = known.until.max(until),
            None if ttl_ms > 0 => {
                client.lease = Some(Known {
                    id: lease,
                    ttl_ms,
                    until,
                })
            }
            _ => return false,
        }
        self.oracle.beliefs.lease(self.now, place, lease, until);
        true
    }

    fn held(&mut self, place: usize, call: &Call, hold: &HoldView) {
        if self.believe(place, call, hold.lease, hold.deadline, hold.clock) {
            self.clients[place]
                .holds
                .insert((hold.name.clone(), hold.owner.clone()), hold.fence);
            if !self.clients[place]
                .given_up
                .contains(&(hold.name.clone(), hold.fence))
            {
                self.oracle
                    .beliefs
                    .hold(self.now, hold.lease, &hold.name, &hold.owner, hold.fence);
            }
        }
    }

    /// A client that is told that its lease is gone takes it for lost, with all that hung on it.
    fn lost(&mut self, place: usize, refusal: &Refusal) {
        let (Refusal::LeaseExpired(lease) | Refusal::LeaseNotFound(lease)) = refusal else {
            return;
        };
        let client = &mut self.clients[place];
        if client.lease.is_some_and(|known| known.id == *lease) {
            client.lease = None;
            client.holds.clear();
        }
    }

    fn wrote(
        &mut self,
        place: usize,
        call: &Call,
        succeeded: bool,
        results: &[OperationResult],
        revision: Revision,
    ) {
        let Ask::Command {
            command: Command::Transaction(asked),
            ..
        } = &call.ask
        else {
            return;
        };
        let branch = if succeeded {
            &asked.then
        } else {
            &asked.otherwise
        };
        demand!(
            branch.len() == results.len(),
            "results",
            "{} results of {} operations",
            results.len(),
            branch.len()
        );
        for (operation, result) in branch.iter().zip(results) {
            match (operation, result) {
                (Operation::Put(put), OperationResult::Put { entry, .. }) => {
                    demand!(
                        entry.value == put.value && entry.mod_revision == revision,
                        "results",
                        "a put of {:?} at {revision} is answered {entry:?}",
                        put.key
                    );
                    self.clients[place].seen.insert(put.key.clone(), revision);
                    self.faults
                        .acknowledged(&put.key, revision, Some(put.value.clone()));
                }
                (Operation::Delete { key }, OperationResult::Deleted(count)) if *count > 0 => {
                    self.clients[place].seen.insert(key.clone(), Revision(0));
                    self.faults.acknowledged(key, revision, None);
                }
                (Operation::Get { key }, OperationResult::Got(entry)) => {
                    let seen = entry
                        .as_ref()
                        .map_or(Revision(0), |entry| entry.mod_revision);
                    self.clients[place].seen.insert(key.clone(), seen);
                }
                _ => {}
            }
        }
    }
}

fn renewal(lease: Known) -> Ask {
    let company = Duration::from_millis((lease.ttl_ms / 100).clamp(20, 250));
    Ask::Renew {
        lease: lease.id,
        company,
    }
}
