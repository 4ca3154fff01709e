//! A model of the state that is simple enough to be believed: plain lists, and scans for everything.
//!
//! Owns what is there, the order within an entry, and what is decided once. What requests do is in the files beside.

mod access;
mod compare;
mod holds;
mod keys;
mod leases;
mod queues;

use access::MAccess;
pub(crate) use access::with_root;
pub(crate) use compare::as_repeated;
use tenure_state::*;

#[derive(Clone, Debug)]
pub(crate) struct MLease {
    pub(crate) id: LeaseId,
    pub(crate) ttl: u64,
    pub(crate) deadline: u64,
    pub(crate) called: Called,
}

/// The name of a lease, and the identity that was granted it.
pub(crate) type Called = (String, Option<String>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MStanding {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) lease: LeaseId,
    pub(crate) owner: String,
    pub(crate) share: Share,
    pub(crate) priority: i32,
    /// The revision of the grant or of the place.
    pub(crate) revision: u64,
    /// The clock of the same.
    pub(crate) since: u64,
    pub(crate) wait: u64,
    pub(crate) delay: u64,
    pub(crate) value: String,
}

/// Nobody is granted the name until then, but a lease of this name and identity.
#[derive(Clone, Debug)]
pub(crate) struct MDelay {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) until: u64,
    pub(crate) passes: Called,
}

/// What was decided under a key.
#[derive(Clone, Debug)]
pub(crate) struct MRepeat {
    pub(crate) key: IdempotencyKey,
    pub(crate) deadline: u64,
    pub(crate) accepted: bool,
    pub(crate) granted: Option<LeaseId>,
}

/// What comes of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Said {
    Yes,
    /// Refused, by how the state stands.
    No,
    /// Refused, and judged afresh when it is asked again.
    NotNow,
}

impl Said {
    pub(crate) fn or_no(accepted: bool) -> Said {
        if accepted { Said::Yes } else { Said::No }
    }
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) clock: u64,
    pub(crate) revision: u64,
    pub(crate) leases: Vec<MLease>,
    pub(crate) ended: Vec<LeaseId>,
    pub(crate) holds: Vec<MStanding>,
    pub(crate) places: Vec<MStanding>,
    pub(crate) keys: Vec<KeyEntry>,
    pub(crate) delays: Vec<MDelay>,
    pub(crate) repeats: Vec<MRepeat>,
    /// History up to here is gone, and history up to there was told to go.
    pub(crate) compact: u64,
    pub(crate) target: u64,
    pub(crate) access: MAccess,
    /// Who asks in the request that is being decided.
    pub(crate) who: Principal,
}

pub(crate) const RETENTION_MS: u64 = 3000;
pub(crate) const RECORDS: usize = 3;

impl Model {
    /// For each renewal and request, whether it was accepted, and whether that was decided before.
    pub(crate) fn apply(&mut self, stamp: u64, batch: &Batch) -> Vec<(bool, bool)> {
        self.clock = stamp;
        let before = self.revision;
        let mut said: Vec<(bool, bool)> = batch
            .renewals
            .iter()
            .map(|renewal| {
                self.who = renewal.principal.clone();
                let theirs = self.is_theirs(&renewal.principal, renewal.lease);
                (theirs && self.renew(renewal.lease), false)
            })
            .collect();
        self.end_due();
        for request in &batch.requests {
            said.push(self.request(request));
        }
        self.compact = self.compact.max(self.target.min(before));
        said
    }

    pub(crate) fn request(&mut self, request: &Request) -> (bool, bool) {
        let command = &request.command;
        self.who = request.principal.clone();
        if !self.allows(&request.principal, command) {
            return (false, false);
        }
        let granted = match command {
            Command::GrantLease(new) => Some(new.lease),
            Command::Acquire(acquire) => match &acquire.claim {
                Claim::Grant(new) => Some(new.lease),
                Claim::Lease(_) => None,
            },
            _ => None,
        };
        let recorded = match command {
            Command::Acquire(_) => granted.is_some(),
            Command::Release(_) | Command::ChangeLease { .. } | Command::ChangeAccess(_) => false,
            _ => true,
        };
        let Some(key) = request.idempotency.as_ref().filter(|_| recorded) else {
            return (self.decide(command) == Said::Yes, false);
        };
        let now = self.clock;
        self.repeats.retain(|repeat| now <= repeat.deadline);
        let known = self
            .repeats
            .iter()
            .find(|repeat| (&repeat.key.identity, &repeat.key.key) == (&key.identity, &key.key));
        if let Some(repeat) = known.cloned() {
            return match repeat.key.digest == key.digest {
                true => (self.again(command, &repeat), true),
                false => (false, false),
            };
        }
        if RECORDS <= self.repeats.len() {
            return (false, false);
        }
        let said = self.decide(command);
        let is_acquire = matches!(command, Command::Acquire(_));
        if said == Said::Yes || (said == Said::No && !is_acquire) {
            self.repeats.push(MRepeat {
                key: key.clone(),
                deadline: now + RETENTION_MS,
                accepted: said == Said::Yes,
                granted,
            });
        }
        (said == Said::Yes, false)
    }

    pub(crate) fn again(&mut self, command: &Command, repeat: &MRepeat) -> bool {
        match (command, repeat.granted) {
            (Command::Acquire(acquire), Some(lease)) => {
                let claim = Claim::Lease(lease);
                let again = Acquire {
                    claim,
                    ..acquire.clone()
                };
                self.is_theirs(&self.who, lease) && self.acquire(&again)
            }
            (_, Some(lease)) => self.lease(lease).is_some(),
            _ => repeat.accepted,
        }
    }

    pub(crate) fn decide(&mut self, command: &Command) -> Said {
        match command {
            Command::GrantLease(new) if self.grant(new) => Said::Yes,
            Command::GrantLease(_) => Said::NotNow,
            Command::RevokeLease { lease } => Said::or_no(self.end(*lease, false)),
            Command::ChangeLease { lease, ttl_ms } => Said::or_no(self.change(*lease, *ttl_ms)),
            Command::Acquire(acquire) => Said::or_no(self.acquire(acquire)),
            Command::Release(release) => Said::or_no(self.release(release)),
            Command::Break(broken) => Said::or_no(self.break_hold(broken)),
            Command::Proclaim(proclaim) => Said::or_no(self.proclaim(proclaim)),
            Command::HandOver(hand_over) => Said::or_no(self.hand_over(hand_over)),
            Command::Transaction(transaction) => self.transact(transaction),
            Command::Compact { revision } => {
                let known = revision.0 <= self.revision;
                if known {
                    self.target = self.target.max(revision.0);
                }
                Said::or_no(known)
            }
            Command::ChangeAccess(change) => Said::or_no(self.change_access(change)),
            Command::ChangeLimits(_) | Command::RaiseVersion { .. } => unreachable!("not drawn"),
        }
    }
}
