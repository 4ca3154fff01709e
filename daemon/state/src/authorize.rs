//! The one decision whether something is done for somebody.
//!
//! Owns what each command needs, and the judgement. Nothing here changes the state, so a member asks the same question
//! before it proposes a command that every member asks when it applies it; only the second answer counts. What was asked for
//! long ago and is granted only now is judged once more. While access control is off everything is allowed, and none of this
//! is looked at.
//!
//! Whoever may put a key may put it on a lease of its own, and the key ends with that lease: `write` with `lease` is in the
//! end a delete, and does not need `delete`. A put over the key could leave as little of it.

use tenure_mutants::{Mutant, mutated};

use crate::access::{Access, Denied, Need, Principal, Scope, Verb};
use crate::command::{Acquire, Claim, Command, Condition, Guard, Operation, Transaction};
use crate::event::Collection;
use crate::ids::{Kind, LeaseId};
use crate::parts::{QueueId, Waiting, Want};
use crate::state::State;

/// All that a command needs.
#[derive(Default)]
struct Needs<'a> {
    /// Each of them must be covered.
    needs: Vec<Need<'a>>,
    /// Leases that it uses as its own.
    leases: Vec<LeaseId>,
    /// Leases of which it learns whether they are live.
    seen: Vec<LeaseId>,
}

impl State {
    /// Who may do what.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether somebody has all of these rights. While access control is off everybody has every right. Without needs it
    /// asks only who that is.
    ///
    /// # Errors
    ///
    /// Why not, and which right is missing first.
    pub fn authorize(&self, principal: &Principal, needs: &[Need<'_>]) -> Result<(), Denied> {
        if !self.access.enabled {
            return Ok(());
        }
        let identity = self.access.authenticated(principal)?;
        let missing = needs.iter().find(|need| !self.access.meets(identity, need));
        missing.map_or(Ok(()), |need| Err(forbidden(need)))
    }

    /// Whether a command may be carried out for somebody: each operation and each branch of it, whatever is done in the
    /// end, and every lease that it uses is the caller's.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn authorize_command(
        &self,
        principal: &Principal,
        command: &Command,
    ) -> Result<(), Denied> {
        if !self.access.enabled {
            return Ok(());
        }
        let needed = Needs::of(command);
        self.authorize(principal, &needed.needs)?;
        for lease in needed.leases {
            self.authorize_lease(principal, lease)?;
        }
        for lease in needed.seen {
            let all = Need::new(&[Verb::Read], Scope::all(Collection::Leases));
            if self.authorize_lease(principal, lease).is_err() {
                self.authorize(principal, &[all])?;
            }
        }
        Ok(())
    }

    /// Whether somebody may use, renew, change and end a lease: whoever was granted it, and administrators. A lease that
    /// was granted while access control was off is nobody's, and whoever may have leases may use it, until somebody has
    /// renewed it (`claim`). Of an absent lease there is nothing to guard.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn authorize_lease(&self, principal: &Principal, lease: LeaseId) -> Result<(), Denied> {
        if !self.access.enabled {
            return Ok(());
        }
        let identity = self.access.authenticated(principal)?;
        let Some(present) = self.leases.by_id.get(&lease) else {
            return Ok(());
        };
        let all_leases = Need::new(&[Verb::Lease], Scope::all(Collection::Leases));
        let may_use = match &present.identity {
            Some(owner) => principal.identity() == Some(&**owner),
            None => self.access.meets(identity, &all_leases),
        };
        if may_use || self.access.is_admin(identity) || mutated(Mutant::LeaseOfAnotherUsed) {
            return Ok(());
        }
        match present.identity {
            Some(_) => Err(Denied::Foreign { lease }),
            None => Err(forbidden(&all_leases)),
        }
    }

    /// Whether whoever waits may hold now what it has asked for, by the rights of whom its lease belongs to: they may have
    /// been taken since. What nobody in particular waits for was asked for while access control was off, and is granted as it
    /// was then.
    pub(crate) fn may_be_granted(&self, place: &Waiting) -> bool {
        let Some(owner) = place.identity.as_ref().filter(|_| self.access.enabled) else {
            return true;
        };
        let may_hold = |identity, want: &Want| {
            let QueueId { kind, name } = &want.queue;
            let scope = Scope::One(Collection::of(*kind), name.as_bytes());
            let need = Need::new(holding(*kind), scope);
            self.access.meets(identity, &need)
        };
        let identity = self.access.identity(owner);
        identity.is_some_and(|identity| {
            let mut wanted = place.wanted.iter();
            wanted.all(|want| may_hold(identity, want))
        }) || mutated(Mutant::GrantedWithoutRight)
    }

    /// The identity that was granted a lease, or has claimed it, if there is one.
    pub fn lease_identity(&self, lease: LeaseId) -> Option<&str> {
        self.leases.by_id.get(&lease)?.identity.as_deref()
    }
}

fn forbidden(need: &Need<'_>) -> Denied {
    Denied::Forbidden {
        verb: need.any_of.first().copied().unwrap_or(Verb::Admin),
        resource: need.scope.shown(),
    }
}

/// What the holder of a thing of this kind may do.
fn holding(kind: Kind) -> &'static [Verb] {
    match kind {
        Kind::Lock | Kind::Semaphore => &[Verb::Lock],
        Kind::Election => &[Verb::Campaign],
    }
}

impl<'a> Needs<'a> {
    fn of(command: &'a Command) -> Needs<'a> {
        let mut needs = Needs::default();
        match command {
            Command::GrantLease(_) => needs.grant(),
            Command::RevokeLease { lease } | Command::ChangeLease { lease, ttl_ms: _ } => {
                needs.leases.push(*lease);
            }
            Command::Acquire(acquire) => needs.acquire(acquire),
            // Less than the end of the whole lease: who has lost the right gives up what he has, and nobody else waits for
            // him until his lease ends.
            Command::Release(release) => needs.leases.push(release.lease),
            Command::Break(broken) => needs.queue(&[Verb::Break], broken.kind, &broken.name),
            Command::Proclaim(proclaim) => {
                needs.queue(&[Verb::Campaign], Kind::Election, &proclaim.name);
                needs.leases.push(proclaim.lease);
            }
            Command::HandOver(hand_over) => {
                needs.queue(&[Verb::Campaign], Kind::Election, &hand_over.name);
                needs.leases.push(hand_over.lease);
            }
            Command::Transaction(transaction) => needs.transaction(transaction),
            Command::Compact { revision: _ }
            | Command::ChangeLimits(_)
            | Command::ChangeAccess(_)
            // Nobody asks for it: it is not judged where it is applied.
            | Command::RaiseVersion { to: _ } => {
                needs.needs.push(Need::new(&[Verb::Admin], Scope::Cluster));
            }
        }
        needs
    }

    fn queue(&mut self, any_of: &'static [Verb], kind: Kind, name: &'a str) {
        let scope = Scope::One(Collection::of(kind), name.as_bytes());
        self.needs.push(Need::new(any_of, scope));
    }

    fn key(&mut self, any_of: &'static [Verb], key: &'a [u8]) {
        let scope = Scope::One(Collection::Keys, key);
        self.needs.push(Need::new(any_of, scope));
    }

    fn grant(&mut self) {
        let scope = Scope::all(Collection::Leases);
        self.needs.push(Need::new(&[Verb::Lease], scope));
    }

    fn acquire(&mut self, acquire: &'a Acquire) {
        for wanted in &acquire.wanted {
            self.queue(holding(acquire.kind), acquire.kind, &wanted.name);
        }
        match &acquire.claim {
            Claim::Lease(lease) => self.leases.push(*lease),
            Claim::Grant(_) => self.grant(),
        }
    }

    /// Both branches, whichever is taken: which one it was would tell of what may not be read.
    fn transaction(&mut self, transaction: &'a Transaction) {
        if let Some(guard) = &transaction.guard {
            self.fence(guard);
        }
        for condition in &transaction.conditions {
            match condition {
                Condition::Key { key, .. } => self.key(&[Verb::Read], key),
                Condition::Held(guard) => self.fence(guard),
                Condition::LeaseLive(lease) => self.seen.push(*lease),
            }
        }
        let otherwise = transaction.otherwise.iter();
        let otherwise = otherwise.filter(|_| !mutated(Mutant::OtherBranchUnjudged));
        for operation in transaction.then.iter().chain(otherwise) {
            match operation {
                Operation::Put(put) => {
                    self.key(&[Verb::Write], &put.key);
                    self.leases.extend(put.lease);
                }
                Operation::Delete { key } => self.key(&[Verb::Delete], key),
                Operation::DeleteRange { start, end } => {
                    let scope = Scope::Range {
                        collection: Collection::Keys,
                        start,
                        end: end.as_deref(),
                    };
                    self.needs.push(Need::new(&[Verb::Delete], scope));
                }
                Operation::Get { key } => self.key(&[Verb::Read], key),
            }
        }
    }

    /// Whether a fence is held may know who may read the thing, and who may hold it.
    fn fence(&mut self, guard: &'a Guard) {
        let any_of: &[Verb] = match guard.kind {
            Kind::Lock | Kind::Semaphore => &[Verb::Read, Verb::Lock],
            Kind::Election => &[Verb::Read, Verb::Campaign],
        };
        self.queue(any_of, guard.kind, &guard.name);
    }
}
