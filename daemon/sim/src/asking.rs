//! What clients ask: every command there is, in proportions, and the same again where an outcome was not learnt.
//!
//! Owns the workload. What clients make of the answers is in `clients`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tenure_replica::Refused;
use tenure_state::{
    Acquire, Break, Claim, Command, Compare, Condition, Field, HandOver, IdempotencyKey, Kind,
    LeaseId, NewLease, Operation, Proclaim, Put, Release, Share, Transaction, Wanted,
};

use crate::calls::{Ask, Caller, Reply};
use crate::chance::as_nanos;
use crate::clients::Known;
use crate::plan::MOST_KEYS;
use crate::world::{World, unique_value};

/// Some locks are kept for a while for whoever comes back under the same name, when their holder's lease ran out.
pub(crate) fn lock_delay_ms(name: &str) -> u64 {
    if name.starts_with("delayed") { 600 } else { 0 }
}

/// A request with a key, until its outcome is learnt.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    ask: Ask,
    tries: u32,
}

/// A client that did not learn an outcome asks so often at most.
const MOST_TRIES: u32 = 8;

impl World {
    /// A client does something, one call at a time.
    pub(crate) fn think(&mut self, place: usize) {
        if self.faults.quiet {
            return;
        }
        let member = self.chance.index(self.members.len());
        let (ask, tries) = match self.again(place) {
            Some(Again { ask, tries }) => {
                self.trace.counts.retried += 1;
                (ask, tries)
            }
            None => {
                let ask = self.choose(place);
                (self.keyed(place, ask), 0)
            }
        };
        self.clients[place].tries = tries;
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

    /// What is to be asked again, unless the client gives it up for good.
    fn again(&mut self, place: usize) -> Option<Again> {
        let mut again = self.clients[place].again.take()?;
        if MOST_TRIES <= again.tries || self.chance.happens(50_000) {
            return None;
        }
        // The member that is asked draws the id of a lease to grant: another one each time.
        if let Ask::Command {
            command:
                Command::GrantLease(new)
                | Command::Acquire(Acquire {
                    claim: Claim::Grant(new),
                    ..
                }),
            ..
        } = &mut again.ask
        {
            new.lease = self.fresh_lease();
        }
        Some(again)
    }

    /// Gives a request a key, now and then one that another request had.
    fn keyed(&mut self, place: usize, ask: Ask) -> Ask {
        let Ask::Command { command, poll, .. } = ask else {
            return ask;
        };
        if !command.is_recorded() || !self.chance.happens(self.plan.workload.keyed) {
            return Ask::Command {
                command,
                once: None,
                poll,
            };
        }
        let number = self.next_call;
        let reused = self.chance.happens(50_000);
        let used = self.clients[place].used_key.clone().filter(|_| reused);
        let once = IdempotencyKey {
            identity: self.people.name_for(place, &command),
            key: used.unwrap_or_else(|| format!("r{number}")),
            digest: u128::from(number),
        };
        Ask::Command {
            command,
            once: Some(once),
            poll,
        }
    }

    /// Whether the client asks the same again: always where it did not learn the outcome, sometimes where it did.
    pub(crate) fn remember_to_ask_again(&mut self, place: usize, ask: &Ask, reply: &Reply) {
        let Ask::Command {
            once: Some(once), ..
        } = ask
        else {
            return;
        };
        let tries = self.clients[place].tries + 1;
        let learnt = !matches!(
            reply,
            Reply::Broken
                | Reply::Refused(
                    Refused::NoLeader
                        | Refused::Transferring
                        | Refused::Overloaded
                        | Refused::ShuttingDown
                )
        );
        if !learnt || self.chance.happens(150_000) {
            self.clients[place].again = Some(Again {
                ask: ask.clone(),
                tries,
            });
        } else {
            self.clients[place].used_key = Some(once.key.clone());
        }
    }

    fn choose(&mut self, place: usize) -> Ask {
        if let Some(change) = self.people.administer() {
            return Ask::command(Command::ChangeAccess(change));
        }
        if self.chance.happens(self.plan.workload.reads) {
            return Ask::ReadKey(self.some_key());
        }
        let Some(lease) = self.clients[place].lease else {
            return self.without_lease(place);
        };
        if self.people.trespass()
            && let Some(ask) = self.use_lease_of_another(place)
        {
            return ask;
        }
        let left = lease.until - self.now;
        let hurry = as_nanos(left) / 1_000_000 < lease.ttl_ms * 6 / 10;
        if hurry && self.chance.happens(700_000) {
            // A read says besides what still hangs on it.
            return match self.chance.happens(800_000) {
                true => renewal(lease),
                false => Ask::ReadLease(lease.id),
            };
        }
        let leads = |((kind, _, _), _): (&(Kind, String, String), _)| *kind == Kind::Election;
        if self.clients[place].holds.iter().any(leads) && self.chance.happens(150_000) {
            return self.lead(place, lease);
        }
        match self.chance.number(0, 99) {
            0..29 => self.acquire(place, Claim::Lease(lease.id), lease.ttl_ms),
            29..33 => self.acquire_again(place, lease),
            33..49 => self.release(place, lease),
            49..71 => self.write(place, Some(lease.id)),
            71..77 => Ask::ReadLease(lease.id),
            77..83 => Ask::ReadKey(self.some_key()),
            83..85 => Ask::ReadKey(self.plain_key()),
            85..91 => renewal(lease),
            91..93 => Ask::command(Command::RevokeLease { lease: lease.id }),
            93..95 => self.break_rival(place, lease),
            95 => self.change_ttl(lease),
            96 => self.administer(place),
            _ => {
                // It forgets the lease, which runs out by itself; what it believes, it believes.
                let client = &mut self.clients[place];
                client.lease = None;
                client.holds.clear();
                self.without_lease(place)
            }
        }
    }

    fn fresh_lease(&mut self) -> LeaseId {
        LeaseId::new((self.chance.seed() >> 1).max(1)).expect("it is positive and below 2^63")
    }

    fn without_lease(&mut self, place: usize) -> Ask {
        let (least, most) = self.plan.workload.ttl_ms;
        let ttl_ms = self.chance.number(least, most);
        let new = NewLease {
            lease: self.fresh_lease(),
            ttl_ms,
            name: self.chance.pick(&["", "", "w0", "w1"]).to_owned(),
            metadata: BTreeMap::new(),
        };
        match self.chance.number(0, 3) {
            0 => self.acquire(place, Claim::Grant(new), ttl_ms),
            _ => Ask::command(Command::GrantLease(new)),
        }
    }

    /// What is wanted, and whether it is a lock, a semaphore or an election.
    fn wish(&mut self) -> (Kind, Vec<Wanted>) {
        let locks = self.plan.workload.locks;
        let one = |name: String, share| vec![Wanted { name, share }];
        let share = match self.chance.number(0, 3) {
            0 => Share::Shared,
            _ => Share::Exclusive,
        };
        match self.chance.number(0, 19) {
            0..3 => {
                // The limit of whoever comes first stands, so that another one is refused at times.
                let limit = if self.chance.happens(100_000) { 2 } else { 3 };
                let permits = self.chance.number(1, 2);
                let name = format!("sem{}", self.chance.number(0, 1));
                (
                    Kind::Semaphore,
                    one(name, Share::Permits { permits, limit }),
                )
            }
            3..7 => {
                let name = format!("vote{}", self.chance.number(0, 1));
                (Kind::Election, one(name, Share::Exclusive))
            }
            7..9 if 2 < locks => {
                let wanted = |name: &str, share| Wanted {
                    name: name.to_owned(),
                    share,
                };
                let both = vec![wanted("lock0", share), wanted("lock2", Share::Exclusive)];
                (Kind::Lock, both)
            }
            _ => {
                let lock = self.chance.index(locks);
                (Kind::Lock, one(lock_name(lock), share))
            }
        }
    }

    fn acquire(&mut self, place: usize, claim: Claim, ttl_ms: u64) -> Ask {
        let (kind, wanted) = self.wish();
        let wait_ms = match (kind, self.chance.coin()) {
            // A leadership is worth waiting for.
            (Kind::Election, _) => self.chance.skewed(500, 10_000),
            (Kind::Lock | Kind::Semaphore, true) => 0,
            (Kind::Lock | Kind::Semaphore, false) => self.chance.skewed(10, 5000),
        };
        let longest = Duration::from_millis(wait_ms.min(ttl_ms / 3));
        let poll = if self.chance.happens(800_000) {
            longest
        } else {
            Duration::ZERO
        };
        let owner = match kind {
            // Candidates have names by which a leadership is handed to them.
            Kind::Election => format!("c{place}"),
            Kind::Lock | Kind::Semaphore if self.chance.happens(100_000) => "other".to_owned(),
            Kind::Lock | Kind::Semaphore => String::new(),
        };
        let priority = self.chance.pick(&[0, 0, 0, 0, 0, 0, 1, -1, 100, -100]);
        let delays: Vec<u64> = wanted
            .iter()
            .map(|wanted| lock_delay_ms(&wanted.name))
            .collect();
        let number = self.next_call;
        let command = Command::Acquire(Acquire {
            kind,
            wanted,
            claim,
            owner,
            wait_ms,
            priority,
            metadata: BTreeMap::new(),
            lock_delay_ms: delays.into_iter().max().unwrap_or(0),
            value: match kind {
                Kind::Election => format!("{number} campaigns"),
                Kind::Lock | Kind::Semaphore => String::new(),
            },
        });
        Ask::Command {
            command,
            once: None,
            poll,
        }
    }

    /// Asks again for what it holds, to be sure of it.
    fn acquire_again(&mut self, place: usize, lease: Known) -> Ask {
        let count = self.clients[place].holds.len().max(1);
        let which = self.chance.index(count);
        let Some(((kind, name, owner), hold)) = self.clients[place].holds.iter().nth(which) else {
            return self.acquire(place, Claim::Lease(lease.id), lease.ttl_ms);
        };
        Ask::command(Command::Acquire(Acquire {
            kind: *kind,
            wanted: vec![Wanted {
                name: name.clone(),
                share: hold.share,
            }],
            claim: Claim::Lease(lease.id),
            owner: owner.clone(),
            wait_ms: 0,
            priority: 0,
            metadata: BTreeMap::new(),
            lock_delay_ms: lock_delay_ms(name),
            value: String::new(),
        }))
    }

    fn release(&mut self, place: usize, lease: Known) -> Ask {
        let count = self.clients[place].holds.len();
        if count == 0 {
            return renewal(lease);
        }
        let which = self.chance.index(count);
        let Some(((kind, name, owner), hold)) = self.clients[place].holds.iter().nth(which) else {
            return renewal(lease);
        };
        Ask::command(Command::Release(Release {
            kind: *kind,
            name: name.clone(),
            lease: lease.id,
            owner: owner.clone(),
            fence: Some(hold.fence),
        }))
    }

    /// Does what a leader does, if it leads something.
    fn lead(&mut self, place: usize, lease: Known) -> Ask {
        let leads = self.clients[place]
            .holds
            .iter()
            .find(|((kind, _, _), _)| *kind == Kind::Election);
        let Some(((_, name, candidate), hold)) = leads else {
            return self.acquire(place, Claim::Lease(lease.id), lease.ttl_ms);
        };
        let (name, candidate, fence) = (name.clone(), candidate.clone(), hold.fence);
        if self.chance.coin() {
            let to = self.some_candidate(&name);
            return Ask::command(Command::HandOver(HandOver {
                name,
                lease: lease.id,
                candidate,
                fence,
                to,
            }));
        }
        let number = self.next_call;
        Ask::command(Command::Proclaim(Proclaim {
            name,
            lease: lease.id,
            candidate,
            fence,
            value: format!("{number} leads"),
        }))
    }

    /// Who waits for a leadership, as some member knows it; somebody who may not, where that one knows of none.
    fn some_candidate(&mut self, name: &str) -> String {
        let member = self.chance.index(self.members.len());
        let anybody = self.chance.index(self.clients.len());
        let running = self.members[member].running.as_ref();
        let view = running.map(|running| running.applier.state().queue(Kind::Election, name));
        let first = view.and_then(|view| view.queue.into_iter().next());
        first.map_or_else(|| format!("c{anybody}"), |place| place.owner)
    }

    /// Breaks a hold that was in its way.
    fn break_rival(&mut self, place: usize, lease: Known) -> Ask {
        let Some((holding, fence)) = self.clients[place].rival.take() else {
            return self.acquire(place, Claim::Lease(lease.id), lease.ttl_ms);
        };
        let one = self.chance.coin();
        Ask::command(Command::Break(Break {
            kind: holding.kind,
            name: holding.name,
            fence,
            holder: one.then_some((holding.lease, holding.owner)),
            now: self.chance.coin(),
        }))
    }

    /// Names the lease of somebody else as its own.
    fn use_lease_of_another(&mut self, place: usize) -> Option<Ask> {
        let other = self.chance.index(self.clients.len());
        let lease = self.clients[other].lease.filter(|_| other != place)?;
        let key = self.some_key();
        let number = self.next_call;
        Some(match self.chance.number(0, 3) {
            0 | 1 => renewal(lease),
            2 => Ask::command(Command::ChangeLease {
                lease: lease.id,
                ttl_ms: lease.ttl_ms,
            }),
            _ => Ask::command(Command::Transaction(Transaction {
                then: vec![Operation::Put(Put {
                    key,
                    value: unique_value(&mut self.chance, number, self.plan.workload.value_bytes),
                    content_type: None,
                    lease: Some(lease.id),
                    refuse_other_lease: false,
                })],
                ..Transaction::default()
            })),
        })
    }

    fn change_ttl(&mut self, lease: Known) -> Ask {
        let (least, most) = self.plan.workload.ttl_ms;
        Ask::command(Command::ChangeLease {
            lease: lease.id,
            ttl_ms: self.chance.number(least, most),
        })
    }

    fn administer(&mut self, place: usize) -> Ask {
        if self.chance.coin() {
            let seen = self.clients[place].revision;
            return Ask::command(Command::Compact { revision: seen });
        }
        let (name, value) = match self.chance.number(0, 7) {
            0 => ("idempotency_retention_ms", self.chance.skewed(1000, 60_000)),
            1 => ("idempotency_records", self.chance.skewed(5, 100)),
            2 | 3 => ("idempotency_records", 1_000_000),
            4 => ("waiters", self.chance.skewed(1, 10)),
            5 => ("leases", self.chance.skewed(2, 20)),
            6 => ("leases", 1_000_000),
            _ => ("waiters", 100_000),
        };
        Ask::command(Command::ChangeLimits([(name.to_owned(), value)].into()))
    }

    fn some_key(&mut self) -> Bytes {
        let key = self.chance.index(self.plan.workload.keys);
        key_name(u64::try_from(key).unwrap_or(0))
    }

    /// A key for two seconds, of which no transaction knows: a search can judge what was told of it.
    fn plain_key(&self) -> Bytes {
        format!("plain{}", self.now.0 / 2_000_000_000).into()
    }

    fn write_plainly(&mut self, value: Bytes) -> Ask {
        let key = self.plain_key();
        let operation = match self.chance.number(0, 3) {
            0 => Operation::Delete { key },
            _ => Operation::Put(Put {
                key,
                value,
                content_type: None,
                lease: None,
                refuse_other_lease: false,
            }),
        };
        Ask::command(Command::Transaction(Transaction {
            then: vec![operation],
            ..Transaction::default()
        }))
    }

    fn write(&mut self, place: usize, lease: Option<LeaseId>) -> Ask {
        let key = self.some_key();
        let number = self.next_call;
        let value = unique_value(&mut self.chance, number, self.plan.workload.value_bytes);
        if self.chance.happens(150_000) {
            return self.write_plainly(value);
        }
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
                let beside = beside(&key);
                transaction.then.extend([
                    put(key.clone(), value.clone()),
                    put(beside, value),
                    Operation::Get { key },
                ]);
            }
        }
        Ask::command(Command::Transaction(transaction))
    }
}

fn key_name(number: u64) -> Bytes {
    format!("k{number}").into()
}

fn beside(key: &Bytes) -> Bytes {
    [&key[..], b"/beside"].concat().into()
}

/// Every key that transactions write.
pub(crate) fn all_keys() -> impl Iterator<Item = Bytes> {
    let keys = (0..MOST_KEYS).map(key_name);
    keys.flat_map(|key| [beside(&key), key])
}

fn lock_name(number: usize) -> String {
    match number % 2 {
        0 => format!("lock{number}"),
        _ => format!("delayed{number}"),
    }
}

fn renewal(lease: Known) -> Ask {
    let company = Duration::from_millis((lease.ttl_ms / 100).clamp(20, 250));
    Ask::Renew {
        lease: lease.id,
        company,
    }
}
