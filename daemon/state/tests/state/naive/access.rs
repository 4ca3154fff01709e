//! Access: who may do what, by plain lists and by names as text.

use tenure_state::*;

use super::{Called, MStanding, Model};

#[derive(Default)]
pub(crate) struct MAccess {
    pub(crate) enabled: bool,
    pub(crate) roles: Vec<(String, Vec<RoleGrant>)>,
    pub(crate) identities: Vec<(String, Identity)>,
    /// With whose it is, and when it expires.
    pub(crate) tokens: Vec<(TokenId, String, Option<u64>)>,
}

/// What somebody wants of a name, or of all that begin so.
struct Wants {
    any_of: Vec<Verb>,
    name: String,
    beginning: bool,
}

fn one(any_of: &[Verb], name: String) -> Wants {
    Wants {
        any_of: any_of.to_vec(),
        name,
        beginning: false,
    }
}

fn beginning(any_of: &[Verb], name: String) -> Wants {
    Wants {
        beginning: true,
        ..one(any_of, name)
    }
}

fn place(kind: Kind) -> &'static str {
    match kind {
        Kind::Lock => "locks/",
        Kind::Semaphore => "semaphores/",
        Kind::Election => "elections/",
    }
}

fn holder(kind: Kind) -> Verb {
    match kind {
        Kind::Election => Verb::Campaign,
        _ => Verb::Lock,
    }
}

fn key(key: &[u8]) -> String {
    format!(
        "keys/{}",
        std::str::from_utf8(key).expect("keys here are text")
    )
}

impl MAccess {
    pub(crate) fn identity(&self, name: &str) -> Option<&Identity> {
        let mut all = self.identities.iter();
        all.find(|(other, _)| other == name).map(|(_, it)| it)
    }

    fn role(&self, name: &str) -> Option<&Vec<RoleGrant>> {
        let mut all = self.roles.iter();
        all.find(|(other, _)| other == name).map(|(_, it)| it)
    }

    fn grants(&self, who: &str) -> Vec<RoleGrant> {
        let roles = &self.identity(who).expect("it is known").roles;
        let grants = roles
            .iter()
            .map(|role| self.role(role).expect("it is there"));
        grants.flatten().cloned().collect()
    }

    fn administers(&self, who: &str) -> bool {
        let grants = self.grants(who);
        grants
            .iter()
            .any(|grant| grant.verbs.contains(&Verb::Admin))
    }

    fn may(&self, who: &str, wants: &Wants) -> bool {
        self.administers(who)
            || self.grants(who).iter().any(|grant| {
                let named = match (grant.exact, wants.beginning) {
                    (true, true) => false,
                    (true, false) => wants.name == grant.resource,
                    (false, _) => wants.name.starts_with(&grant.resource),
                };
                named && wants.any_of.iter().any(|verb| grant.verbs.contains(verb))
            })
    }

    /// Who that is, where it is who it says.
    fn known(&self, who: &Principal) -> Option<String> {
        let name = who.identity()?.to_owned();
        self.identity(&name)?;
        let proven = who.token().is_none_or(|id| {
            let mut tokens = self.tokens.iter();
            tokens.any(|(other, owner, _)| (*other, owner) == (id, &name))
        });
        proven.then_some(name)
    }

    fn could_administer(&self) -> bool {
        self.identities.iter().any(|(name, identity)| {
            let mut tokens = self.tokens.iter();
            let proves = identity.certificate.is_some()
                || tokens.any(|(_, owner, expires)| owner == name && expires.is_none());
            proves && self.administers(name)
        })
    }
}

impl Model {
    /// Whether somebody may have a lease renewed, changed, ended or used.
    pub(crate) fn is_theirs(&self, who: &Principal, lease: LeaseId) -> bool {
        if !self.access.enabled {
            return true;
        }
        let Some(name) = self.access.known(who) else {
            return false;
        };
        let Some(lease) = self.leases.iter().find(|other| other.id == lease) else {
            return true;
        };
        let all = beginning(&[Verb::Lease], "leases/".to_owned());
        match &lease.called.1 {
            Some(owner) => *owner == name || self.access.administers(&name),
            None => self.access.may(&name, &all),
        }
    }

    /// Whether somebody may have a command carried out.
    pub(crate) fn allows(&self, who: &Principal, command: &Command) -> bool {
        if !self.access.enabled {
            return true;
        }
        let Some(name) = self.access.known(who) else {
            return false;
        };
        let (mut wants, mut own, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        let grant = || beginning(&[Verb::Lease], "leases/".to_owned());
        let fence = |guard: &Guard| {
            let name = format!("{}{}", place(guard.kind), guard.name);
            one(&[Verb::Read, holder(guard.kind)], name)
        };
        match command {
            Command::GrantLease(_) => wants.push(grant()),
            Command::RevokeLease { lease }
            | Command::ChangeLease { lease, .. }
            | Command::Release(Release { lease, .. }) => own.push(*lease),
            Command::Acquire(acquire) => {
                for wanted in &acquire.wanted {
                    let name = format!("{}{}", place(acquire.kind), wanted.name);
                    wants.push(one(&[holder(acquire.kind)], name));
                }
                match &acquire.claim {
                    Claim::Lease(lease) => own.push(*lease),
                    Claim::Grant(_) => wants.push(grant()),
                }
            }
            Command::Break(broken) => {
                let name = format!("{}{}", place(broken.kind), broken.name);
                wants.push(one(&[Verb::Break], name));
            }
            Command::Proclaim(Proclaim { name, lease, .. })
            | Command::HandOver(HandOver { name, lease, .. }) => {
                wants.push(one(&[Verb::Campaign], format!("elections/{name}")));
                own.push(*lease);
            }
            Command::Transaction(transaction) => {
                wants.extend(transaction.guard.iter().map(fence));
                for condition in &transaction.conditions {
                    match condition {
                        Condition::Key { key: name, .. } => {
                            wants.push(one(&[Verb::Read], key(name)))
                        }
                        Condition::Held(guard) => wants.push(fence(guard)),
                        Condition::LeaseLive(lease) => seen.push(*lease),
                    }
                }
                for operation in transaction.then.iter().chain(&transaction.otherwise) {
                    wants.push(match operation {
                        Operation::Put(put) => {
                            own.extend(put.lease);
                            one(&[Verb::Write], key(&put.key))
                        }
                        Operation::Delete { key: name } => one(&[Verb::Delete], key(name)),
                        Operation::Get { key: name } => one(&[Verb::Read], key(name)),
                        Operation::DeleteRange { start, end } => {
                            assert_eq!(*end, prefix_end(start), "ranges here are prefixes");
                            beginning(&[Verb::Delete], key(start))
                        }
                    });
                }
            }
            Command::Compact { .. }
            | Command::ChangeLimits(_)
            | Command::ChangeAccess(_)
            | Command::RaiseVersion { .. } => {
                return self.access.administers(&name);
            }
        }
        let all = beginning(&[Verb::Read], "leases/".to_owned());
        let may_see = |lease: &LeaseId| self.is_theirs(who, *lease) || self.access.may(&name, &all);
        wants.iter().all(|wants| self.access.may(&name, wants))
            && own.iter().all(|lease| self.is_theirs(who, *lease))
            && seen.iter().all(may_see)
    }

    /// Whether whoever waits may hold what it waits for, where anybody in particular does.
    pub(crate) fn may_still_hold(&self, waiting: &MStanding) -> bool {
        let owner = self.called(waiting.lease).1;
        let Some(owner) = owner.filter(|_| self.access.enabled) else {
            return true;
        };
        let name = format!("{}{}", place(waiting.kind), waiting.name);
        self.access.identity(&owner).is_some()
            && self.access.may(&owner, &one(&[holder(waiting.kind)], name))
    }

    /// What a lease that is asked about is called, and whose it is.
    pub(crate) fn called(&self, lease: LeaseId) -> Called {
        let lease = self.leases.iter().find(|other| other.id == lease);
        lease.map(|lease| lease.called.clone()).unwrap_or_default()
    }

    fn quota(&self, who: Option<&str>) -> Quota {
        let known = who.filter(|_| self.access.enabled);
        let identity = known.and_then(|who| self.access.identity(who));
        identity.map(|identity| identity.quota).unwrap_or_default()
    }

    /// Whether somebody may have one more lease.
    pub(crate) fn may_have_lease(&self, who: Option<&str>) -> bool {
        let theirs = self
            .leases
            .iter()
            .filter(|lease| lease.called.1.as_deref() == who);
        self.quota(who)
            .leases
            .is_none_or(|most| (theirs.count() as u64) < most)
    }

    /// Whether somebody may have one more place.
    pub(crate) fn may_have_place(&self, who: Option<&str>) -> bool {
        let theirs = self
            .places
            .iter()
            .filter(|place| self.called(place.lease).1.as_deref() == who);
        self.quota(who)
            .places
            .is_none_or(|most| (theirs.count() as u64) < most)
    }

    /// Carries out a change, unless it is refused; says whether it was carried out.
    pub(crate) fn change_access(&mut self, change: &AccessChange) -> bool {
        let before = MAccess {
            enabled: self.access.enabled,
            roles: self.access.roles.clone(),
            identities: self.access.identities.clone(),
            tokens: self.access.tokens.clone(),
        };
        let access = &mut self.access;
        let accepted = match change {
            AccessChange::PutRole { name, grants } => {
                access.roles.retain(|(other, _)| other != name);
                access.roles.push((name.clone(), grants.clone()));
                grants.iter().all(|grant| {
                    let admin = grant.verbs.contains(&Verb::Admin);
                    let everything = grant.resource.is_empty();
                    !grant.verbs.is_empty()
                        && (everything || grant.resource.contains('/'))
                        && !(everything && grant.exact)
                        && (!admin || everything)
                        && (everything || can_apply(grant))
                })
            }
            AccessChange::DeleteRole { name } => {
                let count = access.roles.len();
                access.roles.retain(|(other, _)| other != name);
                let used = access
                    .identities
                    .iter()
                    .any(|(_, it)| it.roles.contains(name));
                access.roles.len() < count && !used
            }
            AccessChange::PutIdentity { name, identity } => {
                access.identities.retain(|(other, _)| other != name);
                let known = identity
                    .roles
                    .iter()
                    .all(|role| access.role(role).is_some());
                let alone = identity.certificate.is_none()
                    || access
                        .identities
                        .iter()
                        .all(|(_, other)| other.certificate != identity.certificate);
                access.identities.push((name.clone(), identity.clone()));
                known && alone
            }
            AccessChange::DeleteIdentity { name } => {
                let count = access.identities.len();
                access.identities.retain(|(other, _)| other != name);
                access.tokens.retain(|(_, owner, _)| owner != name);
                access.identities.len() < count
            }
            AccessChange::CreateToken {
                id,
                identity,
                expires_unix_ms,
                now_unix_ms,
                ..
            } => {
                // What expired a day ago is forgotten once the new one is in.
                let expired = |expires: &Option<u64>| {
                    expires.is_some_and(|at| at + 86_400_000 <= *now_unix_ms)
                };
                let fits = access.identity(identity).is_some()
                    && access.tokens.iter().all(|(other, ..)| other != id);
                if fits {
                    access.tokens.retain(|(_, _, expires)| !expired(expires));
                    access
                        .tokens
                        .push((*id, identity.clone(), *expires_unix_ms));
                }
                return fits;
            }
            AccessChange::DeleteToken { id } => {
                let count = access.tokens.len();
                access.tokens.retain(|(other, ..)| other != id);
                access.tokens.len() < count
            }
            AccessChange::Enable { enabled } => {
                access.enabled = *enabled;
                true
            }
        };
        let accepted = accepted && (!self.access.enabled || self.access.could_administer());
        if !accepted {
            self.access = before;
        }
        accepted
    }
}

/// Whether anything ever asks for a verb of a grant on a part of what there is.
fn can_apply(grant: &RoleGrant) -> bool {
    let resource = &grant.resource;
    grant.verbs.iter().any(|verb| match verb {
        Verb::Read | Verb::List | Verb::Watch => true,
        Verb::Write | Verb::Delete => resource.starts_with("keys/"),
        Verb::Lock => resource.starts_with("locks/") || resource.starts_with("semaphores/"),
        Verb::Campaign => resource.starts_with("elections/"),
        Verb::Break => !resource.starts_with("keys/") && !resource.starts_with("leases/"),
        Verb::Lease => resource == "leases/" && !grant.exact,
        Verb::Admin => false,
    })
}

/// A cluster that begins with access control on, as the model has it.
pub(crate) fn with_root(token: TokenId) -> MAccess {
    let grant = RoleGrant {
        verbs: [Verb::Admin].into(),
        resource: String::new(),
        exact: false,
    };
    let identity = Identity {
        roles: vec!["root".to_owned()],
        ..Identity::default()
    };
    MAccess {
        enabled: true,
        roles: vec![("root".to_owned(), vec![grant])],
        identities: vec![("root".to_owned(), identity)],
        tokens: vec![(token, "root".to_owned(), None)],
    }
}
