//! Who may do what: principals, identities with their roles and tokens, and what a grant covers.
//!
//! Owns the shapes and the one comparison of a need with a grant. Never sees a secret: of a token it knows the hash, and
//! whoever asks was told apart from others at the edge. What a command needs is in `authorize`, what changes all this in
//! `change_access`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::event::{Collection, prefix_end};
use crate::ids::LeaseId;

/// The most roles.
pub const MAX_ROLES: u64 = 1000;
/// The most identities.
pub const MAX_IDENTITIES: u64 = 10_000;
/// The most tokens.
pub const MAX_TOKENS: u64 = 100_000;
/// The most grants of a role.
pub const MAX_GRANTS_PER_ROLE: u64 = 256;
/// The most roles of an identity.
pub const MAX_ROLES_PER_IDENTITY: u64 = 64;
/// The most bytes of the name of a role or an identity.
pub const MAX_ACCESS_NAME_BYTES: u64 = 128;

/// Whoever asks while access control is off; no identity has this name.
pub const ANONYMOUS: &str = "anonymous";

/// Who asks. Anonymous while access control is off. Cheap to clone, and one word long: thousands of renewals carry one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Principal(Option<Arc<Proven>>);

/// An identity, and by what it is known.
#[derive(Debug, Eq, PartialEq)]
struct Proven {
    identity: Arc<str>,
    token: Option<TokenId>,
}

impl Principal {
    /// Nobody in particular.
    pub fn anonymous() -> Principal {
        Principal::default()
    }

    /// An identity, and the token by which it proved who it is; without one it has a certificate.
    pub fn of(identity: &str, token: Option<TokenId>) -> Principal {
        let identity = identity.into();
        Principal(Some(Arc::new(Proven { identity, token })))
    }

    /// The name of the identity, or `anonymous`.
    pub fn name(&self) -> &str {
        self.identity().unwrap_or(ANONYMOUS)
    }

    /// The identity, if there is one.
    pub fn identity(&self) -> Option<&str> {
        self.0.as_deref().map(|proven| &*proven.identity)
    }

    /// The token by which it proved who it is.
    pub fn token(&self) -> Option<TokenId> {
        self.0.as_deref()?.token
    }

    /// The identity, to be kept.
    pub(crate) fn shared_identity(&self) -> Option<Arc<str>> {
        self.0.as_deref().map(|proven| Arc::clone(&proven.identity))
    }
}

/// The public half of a token, written as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenId(pub u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What can be granted on resources. Numbers are part of the formats: they are never changed nor used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Verb {
    /// Seeing a resource.
    Read = 1,
    /// Learning which resources there are.
    List = 2,
    /// Putting a key.
    Write = 3,
    /// Deleting a key.
    Delete = 4,
    /// Holding and waiting for a lock or semaphore.
    Lock = 5,
    /// Ending somebody else's hold.
    Break = 6,
    /// Being a candidate and leading.
    Campaign = 7,
    /// Having leases.
    Lease = 8,
    /// Following what changes.
    Watch = 9,
    /// Everything, and what belongs to the cluster.
    Admin = 10,
}

impl Verb {
    /// Every verb, in the order of numbers.
    pub const ALL: [Verb; 10] = [
        Verb::Read,
        Verb::List,
        Verb::Write,
        Verb::Delete,
        Verb::Lock,
        Verb::Break,
        Verb::Campaign,
        Verb::Lease,
        Verb::Watch,
        Verb::Admin,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::List => "list",
            Verb::Write => "write",
            Verb::Delete => "delete",
            Verb::Lock => "lock",
            Verb::Break => "break",
            Verb::Campaign => "campaign",
            Verb::Lease => "lease",
            Verb::Watch => "watch",
            Verb::Admin => "admin",
        }
    }

    /// The verb of a name, if there is one.
    pub fn parse(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.as_str() == name)
    }

    pub(crate) fn from_number(number: u32) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| *verb as u32 == number)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What something is done to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope<'a> {
    /// One resource, by its name within the collection.
    One(Collection, &'a [u8]),
    /// The resources whose names lie in a half-open range.
    Range {
        /// The collection.
        collection: Collection,
        /// From here, included.
        start: &'a [u8],
        /// To here, excluded; `None` is the end of all names.
        end: Option<&'a [u8]>,
    },
    /// What belongs to no resource.
    Cluster,
}

impl Scope<'_> {
    /// Every resource of a collection.
    pub fn all(collection: Collection) -> Scope<'static> {
        Scope::Range {
            collection,
            start: b"",
            end: None,
        }
    }

    /// The resource as it is shown to people: what is no text, and control characters, are escaped.
    pub fn shown(&self) -> String {
        match self {
            Scope::One(collection, name) => format!("{}{}", collection.prefix(), shown(name)),
            Scope::Range {
                collection,
                start,
                end,
            } => {
                let prefix = collection.prefix();
                match end {
                    _ if prefix_end(start).as_deref() == *end => {
                        format!("{prefix}{}*", shown(start))
                    }
                    None => format!("{prefix}{} and beyond", shown(start)),
                    Some(end) => format!("{prefix}{} to {prefix}{}", shown(start), shown(end)),
                }
            }
            Scope::Cluster => "the cluster".to_owned(),
        }
    }
}

fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => name.escape_ascii().to_string(),
    }
}

/// What somebody must have been granted: one of some verbs, on all of a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Need<'a> {
    /// One of these is enough; the first one is named where all are missing.
    pub any_of: &'static [Verb],
    /// On what.
    pub scope: Scope<'a>,
}

impl<'a> Need<'a> {
    /// A need of verbs on a scope.
    pub fn new(any_of: &'static [Verb], scope: Scope<'a>) -> Need<'a> {
        Need { any_of, scope }
    }
}

/// Why something is not done for somebody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Denied {
    /// It is not known who asks: nobody, an identity that is gone, or a token that is.
    Unauthenticated,
    /// Who asks has no right to it.
    Forbidden {
        /// What is missing.
        verb: Verb,
        /// On what, as the caller wrote it, escaped for people.
        resource: String,
    },
    /// The lease was granted to another identity, and no grant of a verb makes it this one's.
    Foreign {
        /// Which lease.
        lease: LeaseId,
    },
}

/// A right: verbs on one resource, or on all whose names begin so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleGrant {
    /// Which verbs; one at least.
    pub verbs: BTreeSet<Verb>,
    /// A collection and a name or the beginning of names, as in `keys/jobs/`; empty is everything, and the cluster.
    pub resource: String,
    /// Only this resource, not those that begin so.
    pub exact: bool,
}

impl RoleGrant {
    /// Whether it lets its owner do anything at all.
    pub fn is_admin(&self) -> bool {
        self.verbs.contains(&Verb::Admin)
    }

    /// Whether it covers all of a need.
    pub fn covers(&self, need: &Need<'_>) -> bool {
        if self.is_admin() {
            return true;
        }
        need.any_of.iter().any(|verb| self.verbs.contains(verb)) && self.reaches(&need.scope)
    }

    /// Whether all of a scope lies within its resource.
    fn reaches(&self, scope: &Scope<'_>) -> bool {
        let whole = self.resource.is_empty() && !self.exact;
        match *scope {
            Scope::Cluster => whole,
            Scope::One(collection, name) => {
                whole
                    || self
                        .name_within(collection)
                        .is_some_and(|own| match self.exact {
                            true => own == name,
                            false if mutated(Mutant::PrefixOffByOne) => {
                                name.starts_with(&own[..own.len().saturating_sub(1)])
                            }
                            false => name.starts_with(own),
                        })
            }
            Scope::Range {
                collection,
                start,
                end,
            } => {
                whole
                    || self
                        .name_within(collection)
                        .is_some_and(|own| match self.exact {
                            _ if mutated(Mutant::RangeJudgedByStart) => start.starts_with(own),
                            // No name lies between a name and the same with a zero byte behind it.
                            true => start == own && end == Some(&[own, &[0]].concat()[..]),
                            false => range_begins_with(start, end, own),
                        })
            }
        }
    }

    /// What it says of names in a collection, where it is about that collection.
    fn name_within(&self, collection: Collection) -> Option<&[u8]> {
        let name = self.resource.strip_prefix(collection.prefix())?;
        Some(name.as_bytes())
    }
}

/// Whether every name of a half-open range begins with `prefix`. A range that ends before it begins lies where it begins.
fn range_begins_with(start: &[u8], end: Option<&[u8]>, prefix: &[u8]) -> bool {
    let Some(last) = prefix_end(prefix) else {
        // Nothing is greater than what begins so.
        return start.starts_with(prefix);
    };
    start.starts_with(prefix) && end.is_some_and(|end| end <= &last[..])
}

/// How much of something an identity may use; `None` is as much as the cluster lets everybody.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Leases.
    pub leases: Option<u64>,
    /// Places in queues.
    pub places: Option<u64>,
    /// Requests in a second to each member, which judges that by itself.
    pub requests_per_second: Option<u64>,
}

/// Somebody who asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// The names of its roles.
    pub roles: Vec<String>,
    /// A name in a client certificate by which it is known.
    pub certificate: Option<String>,
    /// How much it may use.
    pub quota: Quota,
}

/// A token, less its secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    /// Whose it is.
    pub identity: Arc<str>,
    /// The SHA-256 of its secret.
    pub hash: [u8; 32],
    /// When it is no longer accepted, in milliseconds since 1970; `None` is never.
    pub expires_unix_ms: Option<u64>,
}

impl fmt::Debug for Token {
    /// Without the hash, which no log is to have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("identity", &self.identity)
            .field("expires_unix_ms", &self.expires_unix_ms)
            .finish_non_exhaustive()
    }
}

/// A change of who may do what.
#[derive(Clone, Eq, PartialEq)]
pub enum AccessChange {
    /// Makes a role, or gives it other grants.
    PutRole {
        /// Its name.
        name: String,
        /// All of its grants.
        grants: Vec<RoleGrant>,
    },
    /// Deletes a role that no identity has.
    DeleteRole {
        /// Its name.
        name: String,
    },
    /// Makes an identity, or makes it another.
    PutIdentity {
        /// Its name.
        name: String,
        /// All that is known of it.
        identity: Identity,
    },
    /// Deletes an identity with its tokens. What it holds stands until its leases end.
    DeleteIdentity {
        /// Its name.
        name: String,
    },
    /// Gives an identity a token.
    CreateToken {
        /// Its id, drawn at random by the member asked.
        id: TokenId,
        /// Whose it is.
        identity: String,
        /// The SHA-256 of its secret.
        hash: [u8; 32],
        /// When it is no longer accepted, in milliseconds since 1970; `None` is never.
        expires_unix_ms: Option<u64>,
        /// The time of the member asked: tokens that expired a day before it are forgotten.
        now_unix_ms: u64,
    },
    /// Deletes a token.
    DeleteToken {
        /// Which.
        id: TokenId,
    },
    /// Turns access control on or off.
    Enable {
        /// Whether it is on from now on.
        enabled: bool,
    },
}

impl fmt::Debug for AccessChange {
    /// Without hashes, which no log is to have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessChange::PutRole { name, .. } => write!(f, "PutRole({name:?})"),
            AccessChange::DeleteRole { name } => write!(f, "DeleteRole({name:?})"),
            AccessChange::PutIdentity { name, identity } => {
                write!(f, "PutIdentity({name:?}, {identity:?})")
            }
            AccessChange::DeleteIdentity { name } => write!(f, "DeleteIdentity({name:?})"),
            AccessChange::CreateToken { id, identity, .. } => {
                write!(f, "CreateToken({id}, {identity:?})")
            }
            AccessChange::DeleteToken { id } => write!(f, "DeleteToken({id})"),
            AccessChange::Enable { enabled } => write!(f, "Enable({enabled})"),
        }
    }
}

/// The token with which a new cluster begins, when it begins with access control on.
#[derive(Clone, Eq, PartialEq)]
pub struct RootToken {
    /// Its id.
    pub id: TokenId,
    /// The SHA-256 of its secret.
    pub hash: [u8; 32],
}

impl fmt::Debug for RootToken {
    /// Without the hash, which no log is to have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootToken({})", self.id)
    }
}

/// Roles, identities and tokens, and whether they count.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub(crate) enabled: bool,
    pub(crate) roles: BTreeMap<Arc<str>, Vec<RoleGrant>>,
    pub(crate) identities: BTreeMap<Arc<str>, Identity>,
    pub(crate) tokens: BTreeMap<TokenId, Token>,
    /// Identities by the names in their certificates.
    pub(crate) by_certificate: BTreeMap<String, Arc<str>>,
    /// Tokens by identity.
    pub(crate) tokens_of: BTreeMap<Arc<str>, BTreeSet<TokenId>>,
    /// Tokens that expire, the next one first.
    pub(crate) expiring: BTreeSet<(u64, TokenId)>,
    /// How often something of this changed while this member had it in memory.
    pub(crate) changes: u64,
}

impl Access {
    /// Whether access control is on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// A number that moves with every change, and when another state takes the place of this one: whoever remembers a
    /// judgement and the number need not judge again until it moves. Counted in memory; no member's is another's.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The grants of a role.
    pub fn role(&self, name: &str) -> Option<&[RoleGrant]> {
        self.roles.get(name).map(Vec::as_slice)
    }

    /// Every role, in the order of names.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = (&str, &[RoleGrant])> {
        self.roles
            .iter()
            .map(|(name, grants)| (&**name, grants.as_slice()))
    }

    /// An identity.
    pub fn identity(&self, name: &str) -> Option<&Identity> {
        self.identities.get(name)
    }

    /// Every identity, in the order of names.
    pub fn identities(&self) -> impl ExactSizeIterator<Item = (&str, &Identity)> {
        self.identities
            .iter()
            .map(|(name, identity)| (&**name, identity))
    }

    /// A token.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// Every token, in the order of ids.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = (TokenId, &Token)> {
        self.tokens.iter().map(|(id, token)| (*id, token))
    }

    /// Whose certificate has this name.
    pub fn identity_of_certificate(&self, name: &str) -> Option<&str> {
        self.by_certificate.get(name).map(|identity| &**identity)
    }

    /// Whether one of the roles of an identity lets it do anything at all.
    pub fn is_admin(&self, identity: &Identity) -> bool {
        self.grants_of(identity).any(RoleGrant::is_admin)
    }

    /// The identity of who asks, if it is there and has the token by which it is known.
    pub(crate) fn authenticated(&self, principal: &Principal) -> Result<&Identity, Denied> {
        let name = principal.identity().ok_or(Denied::Unauthenticated)?;
        let identity = self.identities.get(name).ok_or(Denied::Unauthenticated)?;
        let is_its_own = |id| {
            self.tokens
                .get(&id)
                .is_some_and(|token| *token.identity == *name)
        };
        let proven = principal.token().is_none_or(is_its_own) || mutated(Mutant::RevokedTokenUsed);
        proven.then_some(identity).ok_or(Denied::Unauthenticated)
    }

    /// Whether one grant of an identity covers a need.
    pub(crate) fn meets(&self, identity: &Identity, need: &Need<'_>) -> bool {
        self.grants_of(identity).any(|grant| grant.covers(need))
    }

    fn grants_of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a RoleGrant> {
        let roles = identity.roles.iter();
        roles.filter_map(|role| self.roles.get(&**role)).flatten()
    }
}
