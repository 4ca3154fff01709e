//! Who clients are: identities whose roles, quotas and tokens change while they ask.
//!
//! Owns what administrators do to access control in a run, and in whose name each call is made. Has chance of its own, so
//! that a run in which nobody is told apart is the same run with or without this. Never takes anything from `root`, so
//! that a run can always be healed and asked whether it is.

use tenure_state::{
    AccessChange, Batch, Clock, Command, Genesis, Identity, Limits, Origin, Principal, Quota,
    Request, Revision, RoleGrant, RootToken, State, TokenId, Verb,
};

use crate::calls::{Ask, Caller};
use crate::chance::Chance;

/// Identities of clients: several clients have one.
const NAMES: [&str; 3] = ["ana", "ben", "cyd"];
const ROLES: [&str; 3] = ["ops", "web", "job"];
const ROOT: &str = "root";
const ROOT_TOKEN: TokenId = TokenId(1);
const HASH: [u8; 32] = [7; 32];

/// Who asks in a run, and what they are given.
pub(crate) struct People {
    chance: Chance,
    guarded: bool,
    /// Access control was turned off last, as far as this one did it: then most clients prove nothing.
    open: bool,
    /// Every token that was ever made, with whose it is.
    tokens: Vec<(TokenId, &'static str)>,
}

impl People {
    /// In every third run people are told apart; in every third of these only once somebody has turned access control on, so that
    /// there are leases of nobody by then.
    pub(crate) fn new(seed: u64) -> People {
        let mut chance = Chance::new(seed ^ 0x7065_6f70_6c65);
        let guarded = chance.number(0, 2) == 0;
        let open = guarded && chance.number(0, 2) == 0;
        let numbered = (10..).map(TokenId).zip(NAMES);
        People {
            chance,
            guarded,
            open,
            tokens: numbered.collect(),
        }
    }

    /// Nobody is told apart.
    pub(crate) fn nobody(seed: u64) -> People {
        People {
            guarded: false,
            ..People::new(seed)
        }
    }

    /// Whether access control is on at any time.
    pub(crate) fn are_told_apart(&self) -> bool {
        self.guarded
    }

    /// The state with which the run begins.
    pub(crate) fn founding(&self, limits: &Limits, version: u64) -> State {
        let root = RootToken {
            id: ROOT_TOKEN,
            hash: HASH,
        };
        let mut state = State::genesis(Genesis {
            first_revision: Revision(1),
            limits: limits.clone(),
            root: self.guarded.then_some(root),
            version,
        });
        if self.guarded {
            let applied = state.apply(Clock(0), &first_changes(self.open));
            assert!(
                applied.outcomes.iter().all(|told| told.outcome.is_ok()),
                "the first identities are accepted"
            );
        }
        state
    }

    /// In whose name a client has a decision recorded.
    pub(crate) fn name_for(&mut self, place: usize, command: &Command) -> String {
        match (self.guarded, command) {
            (false, _) => format!("c{place}"),
            (
                true,
                Command::Compact { .. } | Command::ChangeLimits(_) | Command::ChangeAccess(_),
            ) if !self.chance.happens(150_000) => ROOT.to_owned(),
            (true, _) => NAMES[place % NAMES.len()].to_owned(),
        }
    }

    /// Who makes a call.
    pub(crate) fn principal(&mut self, caller: Caller, ask: &Ask) -> Principal {
        if !self.guarded {
            return Principal::anonymous();
        }
        let place = match caller {
            Caller::Probe => return Principal::of(ROOT, Some(ROOT_TOKEN)),
            Caller::Watcher(place) | Caller::Client(place) => place,
        };
        let name = match ask {
            Ask::Command {
                once: Some(once), ..
            } => once.identity.clone(),
            Ask::Command { command, .. } => self.name_for(place, command),
            _ => NAMES[place % NAMES.len()].to_owned(),
        };
        if name == ROOT {
            return Principal::of(ROOT, Some(ROOT_TOKEN));
        }
        match self.chance.number(0, 99) {
            0 => Principal::anonymous(),
            1..60 if self.open => Principal::anonymous(),
            1..12 => Principal::of(&name, None),
            // A token that may be gone, or another's.
            12..16 => Principal::of(&name, Some(self.some_token(|_| true))),
            _ => Principal::of(&name, Some(self.some_token(|whose| whose == name))),
        }
    }

    /// One of those that were made, a late one rather than an early one.
    fn some_token(&mut self, is_meant: impl Fn(&str) -> bool) -> TokenId {
        let meant = self.tokens.iter().filter(|(_, whose)| is_meant(whose));
        let late: Vec<TokenId> = meant.rev().take(2).map(|(id, _)| *id).collect();
        late[self.chance.index(late.len())]
    }

    /// Whether a client does what an administrator does next.
    pub(crate) fn administer(&mut self) -> Option<AccessChange> {
        (self.guarded && self.chance.happens(50_000)).then(|| self.change())
    }

    /// Whether a client names the lease of another next.
    pub(crate) fn trespass(&mut self) -> bool {
        self.guarded && self.chance.happens(40_000)
    }

    fn change(&mut self) -> AccessChange {
        // It stays open for a while, in which leases are granted, and these are still there when it ends.
        if self.open && self.chance.happens(200_000) {
            return self.switch(true);
        }
        let name = NAMES[self.chance.index(NAMES.len())];
        let role = ROLES[self.chance.index(ROLES.len())];
        match self.chance.number(0, 99) {
            0..35 => AccessChange::PutRole {
                name: role.to_owned(),
                grants: self.grants(),
            },
            35..60 => AccessChange::PutIdentity {
                name: name.to_owned(),
                identity: self.identity(role),
            },
            60..64 => AccessChange::DeleteIdentity {
                name: name.to_owned(),
            },
            64..78 => {
                let id = TokenId(self.chance.seed());
                self.tokens.push((id, name));
                AccessChange::CreateToken {
                    id,
                    identity: name.to_owned(),
                    hash: HASH,
                    expires_unix_ms: None,
                    now_unix_ms: 0,
                }
            }
            78..90 => AccessChange::DeleteToken {
                id: self.some_token(|_| true),
            },
            90..92 => AccessChange::DeleteRole {
                name: role.to_owned(),
            },
            92..96 => self.switch(false),
            _ => self.switch(true),
        }
    }

    fn switch(&mut self, enabled: bool) -> AccessChange {
        self.open = !enabled;
        AccessChange::Enable { enabled }
    }

    fn identity(&mut self, role: &str) -> Identity {
        let mut roles = vec![role.to_owned()];
        let other = ROLES[self.chance.index(ROLES.len())];
        if other != role {
            roles.push(other.to_owned());
        }
        let quota = |chance: &mut Chance| chance.happens(250_000).then(|| chance.number(0, 3));
        Identity {
            roles,
            certificate: None,
            quota: Quota {
                leases: quota(&mut self.chance),
                places: quota(&mut self.chance),
                requests_per_second: None,
            },
        }
    }

    /// Mostly wide rights, here and there narrow ones.
    fn grants(&mut self) -> Vec<RoleGrant> {
        let collections = [
            (
                "keys/",
                &["keys/k0", "keys/k1", "keys/k2", "keys/k", "keys/k3/beside"][..],
            ),
            ("locks/", &["locks/lock0", "locks/del", "locks/lock2"]),
            ("semaphores/", &["semaphores/sem1"]),
            ("elections/", &["elections/vote0"]),
            ("leases/", &["leases/0"]),
        ];
        let mut grants = Vec::new();
        for (all, parts) in collections {
            let (resource, exact) = match self.chance.number(0, 9) {
                0..7 => (all, false),
                7..9 => (self.chance.pick(parts), self.chance.happens(300_000)),
                _ => continue,
            };
            let verbs = match self.chance.number(0, 4) {
                0 => Verb::ALL[..9]
                    .iter()
                    .copied()
                    .filter(|_| self.chance.coin())
                    .collect(),
                _ => Verb::ALL[..9].to_vec(),
            };
            if !verbs.is_empty() {
                grants.push(grant(&verbs, resource, exact));
            }
        }
        grants
    }
}

fn grant(verbs: &[Verb], resource: &str, exact: bool) -> RoleGrant {
    RoleGrant {
        verbs: verbs.iter().copied().collect(),
        resource: resource.to_owned(),
        exact,
    }
}

/// What root does before anybody comes: everybody may do everything but administer, and everything where access control is
/// turned off at last.
fn first_changes(open: bool) -> Batch {
    let roles = ROLES.map(|name| AccessChange::PutRole {
        name: name.to_owned(),
        grants: vec![grant(&Verb::ALL[..9], "", false)],
    });
    let identities = NAMES
        .iter()
        .zip(ROLES)
        .map(|(name, role)| AccessChange::PutIdentity {
            name: (*name).to_owned(),
            identity: Identity {
                roles: vec![role.to_owned()],
                ..Identity::default()
            },
        });
    let tokens = NAMES
        .iter()
        .zip(10..)
        .map(|(name, id)| AccessChange::CreateToken {
            id: TokenId(id),
            identity: (*name).to_owned(),
            hash: HASH,
            expires_unix_ms: None,
            now_unix_ms: 0,
        });
    let opened = open.then_some(AccessChange::Enable { enabled: false });
    let changes = roles
        .into_iter()
        .chain(identities)
        .chain(tokens)
        .chain(opened);
    let request = |change| Request {
        origin: Origin::default(),
        principal: Principal::of(ROOT, Some(ROOT_TOKEN)),
        idempotency: None,
        command: Command::ChangeAccess(change),
    };
    Batch {
        renewals: Vec::new(),
        requests: changes.map(request).collect(),
    }
}
