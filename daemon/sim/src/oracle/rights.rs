//! Nothing is done for anybody who may not have it done, and nothing is refused to who may, by the rights of that very
//! entry.
//!
//! Owns an account of roles, identities and tokens, kept from the changes that were accepted, and of whose each lease is.
//! It knows names as text and asks of each whether some grant names it: no range is compared, since the keys of a run
//! can be counted.

use std::collections::{BTreeMap, BTreeSet};

use tenure_raft::LogIndex;
use tenure_state::{
    AccessChange, Batch, Claim, Command, Condition, Decision, Denied, Guard, Identity, Kind,
    LeaseId, Operation, Outcome, Principal, Refusal, Request, RoleGrant, State, TokenId, Verb,
};

use super::decisions::lease_of;
use super::demand;
use crate::asking::all_keys;

#[derive(Default)]
pub(super) struct Rights {
    on: bool,
    roles: BTreeMap<String, Vec<RoleGrant>>,
    identities: BTreeMap<String, Identity>,
    tokens: BTreeMap<TokenId, String>,
    /// Whose each lease is that was ever granted; nobody's in particular where it is none's.
    owners: BTreeMap<LeaseId, Option<String>>,
    pub(super) denied: u64,
    pub(super) changed: u64,
    /// Something of it changed in the last entry: then it is not known by which rights each part of that entry was done.
    moved: bool,
    /// Leases of nobody that became somebody's.
    pub(super) claims: u64,
    /// Those of the last entry, with whose they are.
    claimed: BTreeMap<LeaseId, String>,
}

/// What the account says of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum May {
    Yes,
    /// But for a lease that is not theirs: where that has ended, they are told so instead.
    ButForLease,
    No,
}

/// Names, one verb of which is enough, as text.
type Wants = Vec<(Vec<Verb>, String)>;

impl Rights {
    pub(super) fn new(founding: &State) -> Rights {
        let access = founding.access();
        Rights {
            on: access.enabled(),
            roles: access
                .roles()
                .map(|(name, grants)| (name.to_owned(), grants.to_vec()))
                .collect(),
            identities: access
                .identities()
                .map(|(name, identity)| (name.to_owned(), identity.clone()))
                .collect(),
            tokens: access
                .tokens()
                .map(|(id, token)| (id, token.identity.to_string()))
                .collect(),
            ..Rights::default()
        }
    }

    /// An entry is applied, and this was decided; `ended` says of a lease whether it is no more. Answers which leases of
    /// nobody became somebody's.
    pub(super) fn judge(
        &mut self,
        index: LogIndex,
        batch: &Batch,
        decided: &[Decision],
        ended: impl Fn(LeaseId) -> bool,
    ) -> BTreeMap<LeaseId, String> {
        let (renewals, requests) = decided.split_at(batch.renewals.len());
        let changed_before = self.changed;
        for (renewal, decision) in batch.renewals.iter().zip(renewals) {
            let may = match self.known(&renewal.principal) {
                Some(name) if self.may_use(&name, renewal.lease) => May::Yes,
                Some(_) => May::ButForLease,
                None => May::No,
            };
            self.compare(index, &renewal, may, &decision.outcome);
            if decision.outcome.is_ok() {
                self.renewed(&renewal.principal, renewal.lease);
            }
        }
        for (request, decision) in batch.requests.iter().zip(requests) {
            // What was done once, when everybody might, is told again: of a lease that is gone nothing is left to guard.
            let guarded = |lease| !(decision.replayed && ended(lease));
            let may = self.may(&request.principal, &request.command, &guarded);
            // Where a condition fails, a lease that is gone is not used.
            let may = match &request.command {
                Command::Transaction(asked)
                    if may == May::ButForLease && !asked.conditions.is_empty() =>
                {
                    continue;
                }
                _ => may,
            };
            if self.is_asked_again_for_another(request, decision) {
                self.denied += 1;
                continue;
            }
            self.compare(index, &request, may, &decision.outcome);
            match (&decision.outcome, decision.replayed) {
                (Ok(_), false) => self.note(&request.principal, &request.command),
                // It has asked again with the lease that it was granted, and renewed it.
                (outcome @ Ok(_), true) if matches!(request.command, Command::Acquire(_)) => {
                    if let Some(lease) = lease_of(outcome) {
                        self.renewed(&request.principal, lease);
                    }
                }
                _ => {}
            }
        }
        self.moved = self.changed != changed_before;
        std::mem::take(&mut self.claimed)
    }

    /// Whether whom a lease belongs to might hold something throughout the last entry; `None` where that is not known.
    pub(super) fn might_hold(&self, lease: LeaseId, kind: Kind, name: &str) -> Option<bool> {
        if self.moved {
            return None;
        }
        let owner = self.owners.get(&lease)?.as_ref();
        let Some(owner) = owner.filter(|_| self.on) else {
            return Some(true);
        };
        let (verbs, resource) = holding(kind, name);
        Some(self.has(owner, &verbs, &resource))
    }

    /// Whether a repeat of an asking that granted a lease is refused, since the lease is somebody else's by now.
    fn is_asked_again_for_another(&self, request: &Request, decision: &Decision) -> bool {
        let Err(Refusal::Denied(Denied::Foreign { lease })) = &decision.outcome else {
            return false;
        };
        let known = self.known(&request.principal);
        decision.replayed && known.is_some_and(|name| !self.may_use(&name, *lease))
    }

    /// How many leases and places each identity may have; nothing where there is no such bound, or all is allowed.
    pub(super) fn quotas(&self) -> BTreeMap<String, (u64, u64)> {
        let bounded = self.identities.iter().filter(|_| self.on);
        let quota = bounded.map(|(name, identity)| {
            let quota = identity.quota;
            let most = (
                quota.leases.unwrap_or(u64::MAX),
                quota.places.unwrap_or(u64::MAX),
            );
            (name.clone(), most)
        });
        quota.collect()
    }

    fn compare(
        &mut self,
        index: LogIndex,
        asked: &dyn std::fmt::Debug,
        may: May,
        outcome: &Outcome,
    ) {
        let denied = matches!(outcome, Err(Refusal::Denied(_)));
        self.denied += u64::from(denied);
        let fits = match may {
            May::Yes => !denied,
            May::ButForLease => outcome.is_err(),
            May::No => denied,
        };
        demand!(
            fits,
            "rights",
            "{asked:?} at {index} is answered {outcome:?}; by the account it may be done: {may:?}"
        );
    }

    /// Who that is; `None` where it is not known. While access control is off, everybody is.
    fn known(&self, who: &Principal) -> Option<String> {
        let name = who.identity().map(str::to_owned);
        if !self.on {
            return Some(name.unwrap_or_default());
        }
        let name = name.filter(|name| self.identities.contains_key(name))?;
        let own = who
            .token()
            .is_none_or(|id| self.tokens.get(&id) == Some(&name));
        own.then_some(name)
    }

    fn grants(&self, name: &str) -> impl Iterator<Item = &RoleGrant> {
        let identity = self.identities.get(name).into_iter();
        let roles = identity.flat_map(|identity| &identity.roles);
        roles.filter_map(|role| self.roles.get(role)).flatten()
    }

    fn administers(&self, name: &str) -> bool {
        !self.on
            || self
                .grants(name)
                .any(|grant| grant.verbs.contains(&Verb::Admin))
    }

    fn has(&self, name: &str, verbs: &[Verb], resource: &str) -> bool {
        self.administers(name)
            || self.grants(name).any(|grant| {
                let names_it = match grant.exact {
                    true => grant.resource == resource,
                    false => resource.starts_with(&grant.resource),
                };
                names_it && verbs.iter().any(|verb| grant.verbs.contains(verb))
            })
    }

    fn may_use(&self, name: &str, lease: LeaseId) -> bool {
        match self.owners.get(&lease) {
            _ if self.administers(name) => true,
            Some(Some(owner)) => owner == name,
            Some(None) => self.has(name, &[Verb::Lease], "leases/"),
            None => true,
        }
    }

    fn may(&self, who: &Principal, command: &Command, guarded: &dyn Fn(LeaseId) -> bool) -> May {
        let Some(name) = self.known(who) else {
            return May::No;
        };
        let (mut wants, mut leases) = (Wants::new(), Vec::new());
        if asks_for_cluster(command) {
            return match self.administers(&name) {
                true => May::Yes,
                false => May::No,
            };
        }
        self.list(&name, command, &mut wants, &mut leases);
        if !wants
            .iter()
            .all(|(verbs, resource)| self.has(&name, verbs, resource))
        {
            return May::No;
        }
        let mut used = leases.iter().filter(|lease| guarded(**lease));
        match used.all(|lease| self.may_use(&name, *lease)) {
            true => May::Yes,
            false => May::ButForLease,
        }
    }

    fn list(&self, name: &str, command: &Command, wants: &mut Wants, leases: &mut Vec<LeaseId>) {
        let all_leases = |verb| (vec![verb], "leases/".to_owned());
        match command {
            Command::GrantLease(_) => wants.push(all_leases(Verb::Lease)),
            Command::RevokeLease { lease } | Command::ChangeLease { lease, .. } => {
                leases.push(*lease)
            }
            // What one has is given up without the right to have it.
            Command::Release(release) => leases.push(release.lease),
            Command::Acquire(acquire) => {
                let names = acquire.wanted.iter().map(|wanted| &wanted.name);
                wants.extend(names.map(|name| holding(acquire.kind, name)));
                match &acquire.claim {
                    Claim::Lease(lease) => leases.push(*lease),
                    Claim::Grant(_) => wants.push(all_leases(Verb::Lease)),
                }
            }
            Command::Break(broken) => {
                wants.push((vec![Verb::Break], resource(broken.kind, &broken.name)));
            }
            Command::Proclaim(proclaim) => {
                wants.push(holding(Kind::Election, &proclaim.name));
                leases.push(proclaim.lease);
            }
            Command::HandOver(hand_over) => {
                wants.push(holding(Kind::Election, &hand_over.name));
                leases.push(hand_over.lease);
            }
            Command::Transaction(transaction) => {
                wants.extend(transaction.guard.iter().map(fence));
                for condition in &transaction.conditions {
                    match condition {
                        Condition::Key { key, .. } => wants.push((vec![Verb::Read], of_key(key))),
                        Condition::Held(guard) => wants.push(fence(guard)),
                        Condition::LeaseLive(lease) if self.may_use(name, *lease) => {}
                        Condition::LeaseLive(_) => wants.push(all_leases(Verb::Read)),
                    }
                }
                for operation in transaction.then.iter().chain(&transaction.otherwise) {
                    want_operation(operation, wants, leases);
                }
            }
            Command::Compact { .. }
            | Command::ChangeLimits(_)
            | Command::ChangeAccess(_)
            | Command::RaiseVersion { .. } => {}
        }
    }

    fn note(&mut self, who: &Principal, command: &Command) {
        let owner = || who.identity().map(str::to_owned);
        match command {
            Command::GrantLease(new) => {
                self.owners.insert(new.lease, owner());
            }
            Command::Acquire(acquire) => match &acquire.claim {
                Claim::Grant(new) => {
                    self.owners.insert(new.lease, owner());
                }
                Claim::Lease(lease) => self.renewed(who, *lease),
            },
            Command::ChangeLease { lease, .. } => self.renewed(who, *lease),
            Command::ChangeAccess(change) => {
                self.changed += 1;
                self.change(change);
            }
            _ => {}
        }
    }

    /// Somebody has kept a lease alive: while people are told apart, it is his from then on if it was nobody's.
    fn renewed(&mut self, who: &Principal, lease: LeaseId) {
        let who = who.identity().filter(|_| self.on);
        if let (Some(owner @ None), Some(who)) = (self.owners.get_mut(&lease), who) {
            *owner = Some(who.to_owned());
            self.claims += 1;
            self.claimed.insert(lease, who.to_owned());
        }
    }

    fn change(&mut self, change: &AccessChange) {
        match change {
            AccessChange::PutRole { name, grants } => {
                self.roles.insert(name.clone(), grants.clone());
            }
            AccessChange::DeleteRole { name } => {
                self.roles.remove(name);
            }
            AccessChange::PutIdentity { name, identity } => {
                self.identities.insert(name.clone(), identity.clone());
            }
            AccessChange::DeleteIdentity { name } => {
                self.identities.remove(name);
                self.tokens.retain(|_, owner| owner != name);
            }
            AccessChange::CreateToken { id, identity, .. } => {
                self.tokens.insert(*id, identity.clone());
            }
            AccessChange::DeleteToken { id } => {
                self.tokens.remove(id);
            }
            AccessChange::Enable { enabled } => self.on = *enabled,
        }
    }
}

/// Whether what is asked was denied.
pub(super) fn is_denied(decision: &Decision) -> bool {
    matches!(
        decision.outcome,
        Err(Refusal::Denied(
            Denied::Unauthenticated | Denied::Forbidden { .. } | Denied::Foreign { .. }
        ))
    )
}

fn asks_for_cluster(command: &Command) -> bool {
    matches!(
        command,
        Command::Compact { .. } | Command::ChangeLimits(_) | Command::ChangeAccess(_)
    )
}

fn resource(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Lock => format!("locks/{name}"),
        Kind::Semaphore => format!("semaphores/{name}"),
        Kind::Election => format!("elections/{name}"),
    }
}

fn holding(kind: Kind, name: &str) -> (Vec<Verb>, String) {
    let verb = match kind {
        Kind::Lock | Kind::Semaphore => Verb::Lock,
        Kind::Election => Verb::Campaign,
    };
    (vec![verb], resource(kind, name))
}

fn fence(guard: &Guard) -> (Vec<Verb>, String) {
    let (mut verbs, name) = holding(guard.kind, &guard.name);
    verbs.push(Verb::Read);
    (verbs, name)
}

fn of_key(key: &[u8]) -> String {
    format!("keys/{}", String::from_utf8_lossy(key))
}

fn want_operation(operation: &Operation, wants: &mut Wants, leases: &mut Vec<LeaseId>) {
    match operation {
        Operation::Put(put) => {
            wants.push((vec![Verb::Write], of_key(&put.key)));
            leases.extend(put.lease);
        }
        Operation::Get { key } => wants.push((vec![Verb::Read], of_key(key))),
        Operation::Delete { key } => wants.push((vec![Verb::Delete], of_key(key))),
        Operation::DeleteRange { start, end } => {
            let within =
                |key: &bytes::Bytes| start <= key && end.as_ref().is_none_or(|end| key < end);
            let keys: BTreeSet<_> = all_keys().filter(within).chain([start.clone()]).collect();
            wants.extend(keys.iter().map(|key| (vec![Verb::Delete], of_key(key))));
            // Names that nobody uses lie in it too, so that the right to one name is none to a range.
            wants.push((vec![Verb::Delete], format!("{}\0", of_key(start))));
        }
    }
}
