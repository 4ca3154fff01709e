//! Changes of roles, identities and tokens.
//!
//! Owns what is accepted as one, and that nobody locks everybody out: while access control is on there is an identity that
//! may administer and can prove who it is. None of it makes a revision: it is no resource that can be watched. Never
//! reads a clock: what the member that was asked says about the time decides which tokens are forgotten, and nothing
//! else.

use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::access::{
    ANONYMOUS, Access, AccessChange, Identity, MAX_ACCESS_NAME_BYTES, MAX_GRANTS_PER_ROLE,
    MAX_IDENTITIES, MAX_ROLES, MAX_ROLES_PER_IDENTITY, MAX_TOKENS, RoleGrant, RootToken, Token,
    TokenId, Verb,
};
use crate::answer::{Answer, Outcome, Refusal};
use crate::event::Collection;
use crate::limits::MAX_NAME_BYTES;
use crate::rows::{AccessRow, Meta, RowId};
use crate::state::State;
use crate::version::ACCESS_STATE_VERSION;

/// The role and the identity of a cluster that begins with access control on.
const ROOT: &str = "root";

/// How many expired tokens one entry forgets.
const MAX_TOKENS_FORGOTTEN: usize = 1000;

/// How long ago a token has expired before it is forgotten: the clock of the member that was asked may be ahead.
const FORGOTTEN_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

impl State {
    pub(crate) fn change_access(&mut self, change: &AccessChange) -> Outcome {
        match change {
            AccessChange::PutRole { name, grants } => self.put_role(name, grants)?,
            AccessChange::DeleteRole { name } => self.delete_role(name)?,
            AccessChange::PutIdentity { name, identity } => self.put_identity(name, identity)?,
            AccessChange::DeleteIdentity { name } => self.delete_identity(name)?,
            AccessChange::CreateToken {
                id,
                identity,
                hash,
                expires_unix_ms,
                now_unix_ms,
            } => {
                let expired = self.access.long_expired(*now_unix_ms);
                self.create_token(*id, identity, *hash, *expires_unix_ms, expired.len())?;
                for id in expired {
                    self.remove_token(id);
                }
            }
            AccessChange::DeleteToken { id } => self.delete_token(*id)?,
            AccessChange::Enable { enabled } => self.enable_access(*enabled)?,
        }
        self.access.changes = self.access.changes.wrapping_add(1);
        Ok(Answer::AccessChanged {
            revision: self.revision,
        })
    }

    /// A new cluster in which nobody but the owner of this token may do anything.
    pub(crate) fn begin_with_root(&mut self, root: &RootToken) {
        let everything = RoleGrant {
            verbs: [Verb::Admin].into(),
            resource: String::new(),
            exact: false,
        };
        let identity = Identity {
            roles: vec![ROOT.to_owned()],
            ..Identity::default()
        };
        let token = Token {
            identity: ROOT.into(),
            hash: root.hash,
            expires_unix_ms: None,
        };
        let rows = [
            AccessRow::Role(ROOT.into()),
            AccessRow::Identity(ROOT.into()),
            AccessRow::Token(root.id),
            AccessRow::Enabled,
        ];
        for row in rows {
            self.touch(RowId::Access(row));
        }
        self.access.set_role(ROOT, Some(vec![everything]));
        self.access.set_identity(ROOT, Some(identity));
        self.access.set_token(root.id, Some(token));
        self.access.enabled = true;
    }

    /// The way back for whoever has no administrator's token any more, of a state on which no member runs: access control
    /// is on, and the role `root`, the identity `root` and this token are what they are in a new cluster, whatever they
    /// were. Whoever else had a role of that name that granted less than everything has it no more.
    pub fn give_root(&mut self, root: &RootToken) {
        if self.version < ACCESS_STATE_VERSION {
            // The new cluster begins with this state, and nobody else's rules are to be waited for.
            self.touch(RowId::Meta(Meta::Rules));
            self.version = ACCESS_STATE_VERSION;
        }
        let was_admin = self
            .access
            .role(ROOT)
            .is_some_and(|grants| grants.iter().any(RoleGrant::is_admin));
        let had_it = |(name, identity): (&str, &Identity)| {
            let mut left = identity.clone();
            left.roles.retain(|role| role != ROOT);
            (left.roles.len() < identity.roles.len()).then(|| (name.to_owned(), left))
        };
        let others = self.access.identities().filter_map(had_it);
        let others: Vec<_> = others.filter(|_| !was_admin).collect();
        for (name, left) in others {
            self.touch(RowId::Access(AccessRow::Identity(name.as_str().into())));
            self.access.set_identity(&name, Some(left));
        }
        for id in self.access.tokens_of(ROOT) {
            self.remove_token(id);
        }
        self.begin_with_root(root);
        self.access.changes = self.access.changes.wrapping_add(1);
        self.settle();
    }

    fn put_role(&mut self, name: &str, grants: &[RoleGrant]) -> Result<(), Refusal> {
        check_name("role", name)?;
        check_count("a role with", grants.len(), MAX_GRANTS_PER_ROLE, "grants")?;
        grants.iter().try_for_each(check_grant)?;
        if self.access.role(name).is_none() {
            check_count(
                "a cluster with",
                self.access.roles.len() + 1,
                MAX_ROLES,
                "roles",
            )?;
        }
        if !mutated(Mutant::RoleNotSaved) {
            self.touch(RowId::Access(AccessRow::Role(name.into())));
        }
        let before = self.access.set_role(name, Some(grants.to_vec()));
        let was_admin = before
            .as_ref()
            .is_some_and(|grants| grants.iter().any(RoleGrant::is_admin));
        if was_admin && self.access.is_locked_out() {
            self.access.set_role(name, before);
            return Err(locked_out());
        }
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), Refusal> {
        if self.access.role(name).is_none() {
            return Err(Refusal::RoleNotFound(name.to_owned()));
        }
        let has_it =
            |(_, identity): &(&str, &Identity)| identity.roles.iter().any(|role| role == name);
        if let Some((identity, _)) = self.access.identities().find(has_it) {
            return Err(Refusal::AccessInvalid(format!(
                "identity {identity:?} has the role {name:?}; take it from every identity first"
            )));
        }
        self.touch(RowId::Access(AccessRow::Role(name.into())));
        self.access.set_role(name, None);
        Ok(())
    }

    fn put_identity(&mut self, name: &str, identity: &Identity) -> Result<(), Refusal> {
        self.check_identity(name, identity)?;
        self.touch(RowId::Access(AccessRow::Identity(name.into())));
        let before = self.access.set_identity(name, Some(identity.clone()));
        if before.is_some() && self.access.is_locked_out() {
            self.access.set_identity(name, before);
            return Err(locked_out());
        }
        Ok(())
    }

    fn check_identity(&self, name: &str, identity: &Identity) -> Result<(), Refusal> {
        check_name("identity", name)?;
        if name == ANONYMOUS {
            return Err(Refusal::AccessInvalid(format!(
                "{name:?} is what nobody in particular is called; choose another name"
            )));
        }
        let roles = &identity.roles;
        check_count(
            "an identity with",
            roles.len(),
            MAX_ROLES_PER_IDENTITY,
            "roles",
        )?;
        for (number, role) in roles.iter().enumerate() {
            if self.access.role(role).is_none() {
                return Err(Refusal::AccessInvalid(format!(
                    "there is no role {role:?}; make it before it is given to an identity"
                )));
            }
            if roles[..number].contains(role) {
                return Err(Refusal::AccessInvalid(format!(
                    "the role {role:?} is given twice"
                )));
            }
        }
        if let Some(certificate) = &identity.certificate {
            check_text("certificate name", certificate, MAX_NAME_BYTES)?;
            let other = self.access.identity_of_certificate(certificate);
            if let Some(other) = other.filter(|other| *other != name) {
                return Err(Refusal::AccessInvalid(format!(
                    "the certificate name {certificate:?} is that of identity {other:?}"
                )));
            }
        }
        if self.access.identity(name).is_none() {
            check_count(
                "a cluster with",
                self.access.identities.len() + 1,
                MAX_IDENTITIES,
                "identities",
            )?;
        }
        Ok(())
    }

    fn delete_identity(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(before) = self.access.set_identity(name, None) else {
            return Err(Refusal::IdentityNotFound(name.to_owned()));
        };
        // Its tokens prove nothing without it.
        let locks_out = self.access.is_locked_out();
        self.access.set_identity(name, Some(before));
        if locks_out {
            return Err(locked_out());
        }
        for id in self.access.tokens_of(name) {
            self.remove_token(id);
        }
        self.touch(RowId::Access(AccessRow::Identity(name.into())));
        self.access.set_identity(name, None);
        Ok(())
    }

    fn create_token(
        &mut self,
        id: TokenId,
        identity: &str,
        hash: [u8; 32],
        expires_unix_ms: Option<u64>,
        forgotten: usize,
    ) -> Result<(), Refusal> {
        let Some((identity, _)) = self.access.identities.get_key_value(identity) else {
            return Err(Refusal::IdentityNotFound(identity.to_owned()));
        };
        let identity = Arc::clone(identity);
        if self.access.token(id).is_some() {
            return Err(Refusal::TokenIdTaken);
        }
        check_count(
            "a cluster with",
            self.access.tokens.len() + 1 - forgotten,
            MAX_TOKENS,
            "tokens",
        )?;
        self.touch(RowId::Access(AccessRow::Token(id)));
        let token = Token {
            identity,
            hash,
            expires_unix_ms,
        };
        self.access.set_token(id, Some(token));
        Ok(())
    }

    fn delete_token(&mut self, id: TokenId) -> Result<(), Refusal> {
        self.touch(RowId::Access(AccessRow::Token(id)));
        let before = self
            .access
            .set_token(id, None)
            .ok_or(Refusal::TokenNotFound(id))?;
        let identity = self.access.identity(&before.identity);
        let was_admin = identity.is_some_and(|identity| self.access.is_admin(identity));
        if was_admin && self.access.is_locked_out() {
            self.access.set_token(id, Some(before));
            return Err(locked_out());
        }
        Ok(())
    }

    fn remove_token(&mut self, id: TokenId) {
        self.touch(RowId::Access(AccessRow::Token(id)));
        self.access.set_token(id, None);
    }

    fn enable_access(&mut self, enabled: bool) -> Result<(), Refusal> {
        self.touch(RowId::Access(AccessRow::Enabled));
        let before = std::mem::replace(&mut self.access.enabled, enabled);
        if self.access.is_locked_out() {
            self.access.enabled = before;
            return Err(locked_out());
        }
        Ok(())
    }
}

/// By what at least one administrator proves who it is for good.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Administered {
    /// A token that does not expire.
    pub by_token: bool,
    /// A name in client certificates, at members that take them.
    pub by_certificate: bool,
}

impl Administered {
    /// Whether nothing but certificates proves it.
    pub fn needs_certificates(self) -> bool {
        self.by_certificate && !self.by_token
    }
}

impl Access {
    /// Whether access control is on and nobody could change anything in the end. No clock is asked, so a token counts
    /// only where it never expires: whatever has expired by now, or will, lets nobody in for good.
    fn is_locked_out(&self) -> bool {
        let lasts = |id: &TokenId| {
            let token = self.tokens.get(id);
            token.is_some_and(|token| token.expires_unix_ms.is_none())
        };
        let can_administer = |(name, identity): (&Arc<str>, &Identity)| {
            let mut tokens = self.tokens_of.get(name).into_iter().flatten();
            let can_prove_it = identity.certificate.is_some() || tokens.any(lasts);
            can_prove_it && self.is_admin(identity)
        };
        self.enabled && !self.identities.iter().any(can_administer)
    }

    /// By what administrators prove who they are for good, with a change made or as it is. Which certificates a member takes
    /// is its own affair, and no entry knows it: whoever proposes a change asks this before.
    pub fn administered(&self, after: Option<&AccessChange>) -> Administered {
        let (mut put, mut replaced, mut gone) = (None, None, None);
        match after {
            Some(AccessChange::PutIdentity { name, identity }) => {
                put = Some((name.as_str(), identity));
                replaced = Some(name.as_str());
            }
            Some(AccessChange::DeleteIdentity { name }) => replaced = Some(name.as_str()),
            Some(AccessChange::DeleteToken { id }) => gone = Some(*id),
            Some(
                AccessChange::PutRole { .. }
                | AccessChange::DeleteRole { .. }
                | AccessChange::CreateToken { .. }
                | AccessChange::Enable { .. },
            )
            | None => {}
        }
        let grants_admin = |role: &String| match after {
            Some(AccessChange::PutRole { name, grants }) if name == role => {
                grants.iter().any(RoleGrant::is_admin)
            }
            _ => {
                let grants = self.role(role).unwrap_or_default();
                grants.iter().any(RoleGrant::is_admin)
            }
        };
        let lasts = |id: &TokenId| {
            let token = self.token(*id).filter(|_| gone != Some(*id));
            token.is_some_and(|token| token.expires_unix_ms.is_none())
        };
        let is_given_one = |name: &str| matches!(after, Some(AccessChange::CreateToken { identity, expires_unix_ms: None, .. }) if identity == name);
        let others = self
            .identities()
            .filter(|(name, _)| replaced != Some(*name));
        let mut administered = Administered::default();
        for (name, identity) in others.chain(put) {
            if !identity.roles.iter().any(grants_admin) {
                continue;
            }
            let mut tokens = self.tokens_of.get(name).into_iter().flatten();
            administered.by_token |= is_given_one(name) || tokens.any(lasts);
            administered.by_certificate |= identity.certificate.is_some();
        }
        administered
    }

    /// Tokens that may be forgotten: they prove nothing any more, whoever had them. None where every administrator's
    /// token expires, which an older version let happen: a clock that is ahead would lock them out.
    fn long_expired(&self, now_unix_ms: u64) -> Vec<TokenId> {
        if self.is_locked_out() {
            return Vec::new();
        }
        let expired = self
            .expiring
            .iter()
            .take_while(|(expires, _)| expires.saturating_add(FORGOTTEN_AFTER_MS) <= now_unix_ms);
        let oldest = expired.take(MAX_TOKENS_FORGOTTEN);
        oldest.map(|(_, id)| *id).collect()
    }

    fn tokens_of(&self, identity: &str) -> Vec<TokenId> {
        let tokens = self.tokens_of.get(identity);
        tokens.into_iter().flatten().copied().collect()
    }

    /// Sets what a role is, or takes it away; returns what it was.
    pub(crate) fn set_role(
        &mut self,
        name: &str,
        grants: Option<Vec<RoleGrant>>,
    ) -> Option<Vec<RoleGrant>> {
        match grants {
            Some(grants) => self.roles.insert(name.into(), grants),
            None => self.roles.remove(name),
        }
    }

    /// The same of an identity.
    pub(crate) fn set_identity(
        &mut self,
        name: &str,
        identity: Option<Identity>,
    ) -> Option<Identity> {
        let before = self.identities.remove(name);
        if let Some(certificate) = before.as_ref().and_then(|it| it.certificate.as_ref()) {
            self.by_certificate.remove(certificate);
        }
        if let Some(identity) = identity {
            let name: Arc<str> = name.into();
            if let Some(certificate) = &identity.certificate {
                self.by_certificate
                    .insert(certificate.clone(), Arc::clone(&name));
            }
            self.identities.insert(name, identity);
        }
        before
    }

    /// The same of a token.
    pub(crate) fn set_token(&mut self, id: TokenId, token: Option<Token>) -> Option<Token> {
        let before = self.tokens.remove(&id);
        if let Some(before) = &before {
            if let Some(expires) = before.expires_unix_ms {
                self.expiring.remove(&(expires, id));
            }
            if let Some(of_identity) = self.tokens_of.get_mut(&before.identity) {
                of_identity.remove(&id);
                if of_identity.is_empty() {
                    self.tokens_of.remove(&before.identity);
                }
            }
        }
        if let Some(token) = token {
            if let Some(expires) = token.expires_unix_ms {
                self.expiring.insert((expires, id));
            }
            let of_identity = self.tokens_of.entry(Arc::clone(&token.identity));
            of_identity.or_default().insert(id);
            self.tokens.insert(id, token);
        }
        before
    }

    /// Checks that the indexes are those of the identities and tokens, and that what is named is there.
    pub(crate) fn check_invariants(&self) {
        let mut again = Access::default();
        for (name, identity) in self.identities() {
            for role in &identity.roles {
                assert!(self.role(role).is_some(), "{name}: there is no role {role}");
            }
            again.set_identity(name, Some(identity.clone()));
        }
        for (id, token) in self.tokens() {
            assert!(
                self.identity(&token.identity).is_some(),
                "token {id}: there is no identity {}",
                token.identity
            );
            again.set_token(id, Some(token.clone()));
        }
        assert_eq!(
            self.by_certificate, again.by_certificate,
            "identities by certificate"
        );
        assert_eq!(self.tokens_of, again.tokens_of, "tokens by identity");
        assert_eq!(self.expiring, again.expiring, "tokens that expire");
    }
}

fn locked_out() -> Refusal {
    Refusal::AccessInvalid(
        "nobody could administer then: access control needs an identity with a role that grants admin on everything and \
         with a token that does not expire, or a certificate; keep one administrator's token without an expiry, or a \
         certificate"
            .to_owned(),
    )
}

fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    check_text(&format!("{what} name"), name, MAX_ACCESS_NAME_BYTES)
}

fn check_text(what: &str, text: &str, most: u64) -> Result<(), Refusal> {
    if text.is_empty() || most < text.len() as u64 {
        return Err(Refusal::AccessInvalid(format!(
            "a {what} of {} bytes; accepted are 1 to {most}",
            text.len()
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::AccessInvalid(format!(
            "the {what} {text:?} has control characters; accepted is text without them"
        )));
    }
    Ok(())
}

fn check_count(of: &str, count: usize, most: u64, what: &str) -> Result<(), Refusal> {
    match count as u64 <= most {
        true => Ok(()),
        false => Err(Refusal::AccessInvalid(format!(
            "{of} {count} {what}; accepted are at most {most}"
        ))),
    }
}

fn check_grant(grant: &RoleGrant) -> Result<(), Refusal> {
    let RoleGrant {
        verbs,
        resource,
        exact,
    } = grant;
    let refuse = |problem: String| Err(Refusal::AccessInvalid(problem));
    if verbs.is_empty() {
        return refuse(format!("the grant on {resource:?} has no verbs"));
    }
    if verbs.contains(&Verb::Admin) && (*exact || !resource.is_empty()) {
        return refuse(format!(
            "the grant on {resource:?} has admin, which is granted on everything only, with an empty prefix"
        ));
    }
    if *exact && resource.is_empty() {
        return refuse(
            "an exact grant without a resource; it names one, as in keys/jobs/a".to_owned(),
        );
    }
    let most = MAX_NAME_BYTES + 16;
    if most < resource.len() as u64 {
        return refuse(format!(
            "a grant on a resource of {} bytes; accepted are at most {most}",
            resource.len()
        ));
    }
    let mut collections = Collection::ALL.into_iter();
    let named = collections.find(|collection| resource.starts_with(collection.prefix()));
    if let Some(collection) = named {
        return check_verbs(grant, collection);
    }
    if !resource.is_empty() {
        let known = Collection::ALL.map(Collection::prefix).join(", ");
        return refuse(format!(
            "the grant on {resource:?} names no collection; a resource begins with one of {known}, and everything is the \
             empty prefix"
        ));
    }
    Ok(())
}

/// Refuses a grant that nothing ever asks for: the operator would see a right where there is none. One verb that means
/// something is enough, so that a list of verbs may be granted on each collection alike.
fn check_verbs(grant: &RoleGrant, collection: Collection) -> Result<(), Refusal> {
    let RoleGrant {
        verbs,
        resource,
        exact,
    } = grant;
    let part_of_leases = *exact || resource != Collection::Leases.prefix();
    let means_something = |verb: &Verb| match verb {
        // A lease has no name before it is granted, so nothing less than all of them is ever asked for.
        Verb::Lease => collection == Collection::Leases && !part_of_leases,
        _ => taking(*verb).contains(&collection),
    };
    if verbs.iter().any(means_something) {
        return Ok(());
    }
    let each = verbs.iter().map(|verb| {
        let taking: Vec<_> = taking(*verb).iter().map(|it| it.prefix()).collect();
        let all = match verb {
            Verb::Lease => "all of ",
            _ => "",
        };
        format!("{} on {all}{}", verb.as_str(), taking.join(", "))
    });
    let each: Vec<String> = each.collect();
    Err(Refusal::AccessInvalid(format!(
        "the grant on {resource:?} can never apply; accepted are {}, and any verb on everything, with an empty prefix",
        each.join("; ")
    )))
}

/// The collections of which a verb is ever asked for.
fn taking(verb: Verb) -> &'static [Collection] {
    use Collection::{Elections, Keys, Leases, Locks, Semaphores};
    match verb {
        Verb::Read | Verb::List | Verb::Watch => &[Elections, Keys, Leases, Locks, Semaphores],
        Verb::Write | Verb::Delete => &[Keys],
        Verb::Lock => &[Locks, Semaphores],
        Verb::Campaign => &[Elections],
        Verb::Break => &[Elections, Locks, Semaphores],
        Verb::Lease => &[Leases],
        // On everything only, which is judged before.
        Verb::Admin => &[],
    }
}
