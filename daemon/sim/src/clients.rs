//! Clients: what they make of answers, counting time by clocks of their own.
//!
//! Owns what a client knows. It believes in a lease as `api.md` §1 says, and in a hold as long as nothing says that the
//! lease has lost something since it last saw the hold; it stops believing in a hold before it asks for its release, and
//! takes what it did not learn for unknown. Some forget their leases, some pause longer than a TTL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tenure_replica::Refused;
use tenure_state::{
    Acquire, Answer, Attached, Claim, Command, Fence, HoldView, HolderView, Kind, LeaseId,
    LeaseView, Operation, OperationResult, Outcome, Refusal, Revision, Share,
};

use crate::asking::Again;
use crate::calls::{Ask, Call, Reply};
use crate::oracle::{Holding, demand};
use crate::time::{Moment, SimClock};
use crate::world::{Event, World};

/// Of what kind, of which name, and as which owner.
type HoldKey = (Kind, String, String);

pub(crate) struct Client {
    clock: SimClock,
    pub(crate) lease: Option<Known>,
    pub(crate) holds: BTreeMap<HoldKey, KnownHold>,
    /// Holds that it asked to end once. Whatever it is told later, the request may still arrive.
    given_up: BTreeSet<(HoldKey, Fence)>,
    /// A hold that was in its way.
    pub(crate) rival: Option<(Holding, Fence)>,
    /// Revisions of keys as it last saw them.
    pub(crate) seen: BTreeMap<Bytes, Revision>,
    /// The greatest revision that an answer spoke of.
    pub(crate) revision: Revision,
    /// What it asks again next.
    pub(crate) again: Option<Again>,
    /// How often it has asked before what it asks now.
    pub(crate) tries: u32,
    /// A key of a request that is done with.
    pub(crate) used_key: Option<String>,
    /// The number of the pause that it is in.
    pub(crate) paused: Option<u64>,
    /// What would have happened to it while it was paused.
    pub(crate) deferred: Vec<Event>,
    /// It is gone for good.
    pub(crate) is_gone: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: LeaseId,
    pub(crate) ttl_ms: u64,
    /// Until when it believes, in true time.
    pub(crate) until: Moment,
}

/// A hold that a client knows.
#[derive(Clone, Copy)]
pub(crate) struct KnownHold {
    pub(crate) fence: Fence,
    pub(crate) share: Share,
    /// The revision of the state that last showed it.
    shown: Revision,
}

impl Client {
    pub(crate) fn new(_place: usize, clock: SimClock) -> Client {
        Client {
            clock,
            lease: None,
            holds: BTreeMap::new(),
            given_up: BTreeSet::new(),
            rival: None,
            seen: BTreeMap::new(),
            revision: Revision(1),
            again: None,
            tries: 0,
            used_key: None,
            paused: None,
            deferred: Vec::new(),
            is_gone: false,
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

/// What an answer says of a lease.
#[derive(Clone, Copy)]
struct Leased {
    lease: LeaseId,
    remaining_ms: u64,
    /// Its TTL, where the answer may be of a lease that the client did not know.
    ttl_ms: Option<u64>,
}

impl World {
    /// Before the first byte of a release or a revoke leaves, the client believes no more.
    pub(crate) fn stop_believing(&mut self, place: usize, ask: &Ask) {
        let Ask::Command { command, .. } = ask else {
            return;
        };
        match command {
            Command::Release(release) => {
                let key = (release.kind, release.name.clone(), release.owner.clone());
                self.clients[place].holds.remove(&key);
                self.give_hold_up(place, release.lease, key, release.fence);
            }
            Command::HandOver(hand_over) => {
                let (name, candidate) = (hand_over.name.clone(), hand_over.candidate.clone());
                let key = (Kind::Election, name, candidate);
                self.give_hold_up(place, hand_over.lease, key, Some(hand_over.fence));
            }
            Command::RevokeLease { lease } => {
                let client = &mut self.clients[place];
                if client.lease.is_some_and(|known| known.id == *lease) {
                    client.lease = None;
                    client.holds.clear();
                }
                self.oracle.beliefs.revoke(*lease);
            }
            Command::GrantLease(_)
            | Command::ChangeLease { .. }
            | Command::Acquire(_)
            | Command::Break(_)
            | Command::Proclaim(_)
            | Command::Transaction(_)
            | Command::Compact { .. }
            | Command::ChangeLimits(_)
            | Command::ChangeAccess(_)
            | Command::RaiseVersion { .. } => {}
        }
    }

    fn give_hold_up(&mut self, place: usize, lease: LeaseId, key: HoldKey, fence: Option<Fence>) {
        self.oracle.beliefs.release(&holding(lease, &key));
        let given_up = &mut self.clients[place].given_up;
        given_up.extend(fence.map(|fence| (key, fence)));
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
        self.remember_to_ask_again(place, &call.ask, &reply);
        match reply {
            Reply::Outcome {
                outcome, replayed, ..
            } => self.outcome(place, call, outcome, replayed),
            Reply::Held { holds, .. } => self.held(place, call, &holds),
            Reply::Lease {
                lease: Ok(view),
                attached,
                ..
            } => {
                self.looked(place, &view, &attached);
                self.leased(place, call.sent, &view);
            }
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
            | Reply::Compacted { .. }
            | Reply::Ahead => {}
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

    fn outcome(&mut self, place: usize, call: &Call, outcome: Outcome, replayed: bool) {
        match outcome {
            Ok(Answer::Lease(view)) => self.leased(place, call.sent, &view),
            Ok(Answer::Held(hold)) => {
                let asked = matches!(
                    &call.ask,
                    Ask::Command {
                        command: Command::Acquire(_),
                        ..
                    }
                );
                // That a value was proclaimed once does not say that whoever did it still leads.
                if asked {
                    self.held(place, call, &[hold]);
                }
            }
            Ok(Answer::HeldTogether(holds)) => self.held(place, call, &holds),
            Ok(Answer::Queued(queued)) => {
                self.note_rival(place, queued.kind, &queued.name, &queued.holders);
                let remaining_ms = queued.deadline.0.saturating_sub(queued.clock.0);
                self.believe(place, call, leased(call, queued.lease, remaining_ms));
            }
            Ok(Answer::QueuedTogether(places)) => {
                if let Some(queued) = places.first() {
                    let remaining_ms = queued.deadline.0.saturating_sub(queued.clock.0);
                    self.believe(place, call, leased(call, queued.lease, remaining_ms));
                }
            }
            Ok(Answer::Transaction {
                succeeded,
                results,
                revision,
            }) => {
                self.wrote(place, call, (succeeded, replayed), &results, revision);
            }
            Ok(_) => {}
            Err(refusal) => {
                if let Refusal::LockHeld(contention) | Refusal::WaitExpired(contention) = &refusal {
                    self.note_rival(
                        place,
                        contention.kind,
                        &contention.name,
                        &contention.holders,
                    );
                }
                self.lost(place, &refusal);
            }
        }
    }

    fn note_rival(&mut self, place: usize, kind: Kind, name: &str, holders: &[HolderView]) {
        if let Some(holder) = holders.first() {
            let key = (kind, name.to_owned(), holder.owner.clone());
            self.clients[place].rival = Some((holding(holder.lease, &key), holder.fence));
        }
    }

    /// An answer about a lease. A hold on it is believed in as long where nothing on the lease changed since the hold
    /// was shown; otherwise the client looks before it believes on (`api.md` §3).
    fn leased(&mut self, place: usize, sent: Moment, view: &LeaseView) {
        let remaining_ms = view.deadline.0.saturating_sub(view.clock.0);
        let said = Leased {
            lease: view.lease,
            remaining_ms,
            ttl_ms: Some(view.ttl_ms),
        };
        let Some(until) = self.believe_lease(place, sent, said) else {
            return;
        };
        let client = &mut self.clients[place];
        if let Some(known) = &mut client.lease {
            known.ttl_ms = view.ttl_ms;
        }
        client.revision = client.revision.max(view.revision);
        let changed = view.attached_revision.unwrap_or_default();
        let holds = client
            .holds
            .iter()
            .filter(|(_, hold)| changed <= hold.shown);
        let holds: Vec<(HoldKey, KnownHold)> =
            holds.map(|(key, hold)| (key.clone(), *hold)).collect();
        for (key, hold) in holds {
            self.believe_hold(place, view.lease, key, hold, until);
        }
    }

    /// The client has looked at what hangs on its lease: what it holds, and what it holds no more.
    fn looked(&mut self, place: usize, view: &LeaseView, attached: &[Attached]) {
        let client = &mut self.clients[place];
        if client.lease.is_none_or(|known| known.id != view.lease) {
            return;
        }
        let mut gone = Vec::new();
        client.holds.retain(|key, hold| {
            let there = attached.iter().any(|thing| {
                matches!(thing, Attached::Hold { kind, name, owner, fence }
                    if (kind, name, owner) == (&key.0, &key.1, &key.2) && *fence == hold.fence)
            });
            if there {
                hold.shown = hold.shown.max(view.revision);
            } else {
                gone.push(key.clone());
            }
            there
        });
        for key in gone {
            self.oracle.beliefs.release(&holding(view.lease, &key));
        }
    }

    /// Until when the client believes in a lease, if it is its own or it has none.
    fn believe_lease(&mut self, place: usize, sent: Moment, said: Leased) -> Option<Moment> {
        let client = &mut self.clients[place];
        let until = client.believes_until(sent, said.remaining_ms);
        match (&mut client.lease, said.ttl_ms) {
            (Some(known), _) if known.id == said.lease => known.until = known.until.max(until),
            (None, Some(ttl_ms)) => {
                client.lease = Some(Known {
                    id: said.lease,
                    ttl_ms,
                    until,
                })
            }
            // The answer to a question about a lease that it gave up.
            _ => return None,
        }
        self.oracle.beliefs.lease(place, said.lease, until);
        Some(until)
    }

    fn believe(&mut self, place: usize, call: &Call, said: Leased) -> Option<Moment> {
        self.believe_lease(place, call.sent, said)
    }

    fn believe_hold(
        &mut self,
        place: usize,
        lease: LeaseId,
        key: HoldKey,
        hold: KnownHold,
        until: Moment,
    ) {
        let given_up = &self.clients[place].given_up;
        if !given_up.contains(&(key.clone(), hold.fence)) {
            let (now, what) = (self.now, (hold.fence, hold.share));
            self.oracle
                .beliefs
                .hold(now, holding(lease, &key), what, until);
        }
    }

    fn held(&mut self, place: usize, call: &Call, holds: &[HoldView]) {
        for hold in holds {
            let remaining_ms = hold.deadline.0.saturating_sub(hold.clock.0);
            let said = leased(call, hold.lease, remaining_ms);
            let Some(until) = self.believe(place, call, said) else {
                return;
            };
            let key = (hold.kind, hold.name.clone(), hold.owner.clone());
            let known = KnownHold {
                fence: hold.fence,
                share: hold.share,
                shown: hold.revision,
            };
            let client = &mut self.clients[place];
            client.revision = client.revision.max(hold.revision);
            client.holds.insert(key.clone(), known);
            self.believe_hold(place, hold.lease, key, known, until);
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
        (succeeded, replayed): (bool, bool),
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
        self.clients[place].revision = self.clients[place].revision.max(revision);
        for (operation, result) in branch.iter().zip(results) {
            match (operation, result) {
                (Operation::Put(put), OperationResult::Put { entry, .. }) => {
                    demand!(
                        // What was recorded of a put has no value.
                        (entry.value == put.value || replayed && entry.value.is_empty())
                            && entry.mod_revision == revision,
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

fn holding(lease: LeaseId, (kind, name, owner): &HoldKey) -> Holding {
    Holding {
        kind: *kind,
        name: name.clone(),
        lease,
        owner: owner.clone(),
    }
}

/// An answer to an acquire, which may have granted a lease.
fn leased(call: &Call, lease: LeaseId, remaining_ms: u64) -> Leased {
    let ttl_ms = match &call.ask {
        Ask::Command {
            command:
                Command::Acquire(Acquire {
                    claim: Claim::Grant(new),
                    ..
                }),
            ..
        } => Some(new.ttl_ms),
        _ => None,
    };
    Leased {
        lease,
        remaining_ms,
        ttl_ms,
    }
}
