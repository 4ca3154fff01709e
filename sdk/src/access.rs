//! Access control, as an administrator sees it: who asks, roles, identities, tokens, and whether it is on.
//!
//! Owns that the secret of a new token is shown by nothing but [`NewToken::expose`]. All of it takes the verb `admin`, but
//! for [`Client::whoami`]. Changes are not recorded for repeats: putting and deleting the same again is harmless, and a
//! token is asked for once.

use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tenure_api::{
    Access, AccessRole, ChangeAccess, Code, CreateToken, Identity, IdentityDeleted, IdentityPage,
    IdentitySummary, PutIdentity, PutRole, RoleDeleted, RoleGrant, RolePage, RoleSummary, Token,
    TokenCreated, TokenDeleted, TokenPage, WhoAmI,
};

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::{Error, Failure};
use crate::holders::{Listing, listable};
use crate::lease::millis;
use crate::name::encoded;

listable!(RoleSummary, RolePage, roles, "roles");
listable!(IdentitySummary, IdentityPage, identities, "identities");
listable!(Token, TokenPage, tokens, "tokens");

/// A token that was created, with its secret, which no member can show again.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # use tenure::api::PutIdentity;
/// # let nobody = PutIdentity { roles: Vec::new(), certificate: None, quota: Default::default() };
/// # client.put_identity("ci", &nobody).await?;
/// let token = client.create_token("ci", None).await?;
/// println!("{token:?} proves {}", token.identity());       // without the secret
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("token");
/// std::fs::write(path, token.expose())?;                   // in a file that nobody else may read
/// # assert!(!format!("{token:?}").contains(token.expose()));
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct NewToken {
    created: TokenCreated,
}

impl NewToken {
    /// All of it, to be given to [`ClientBuilder::token`](crate::ClientBuilder::token) or written to a file for
    /// [`ClientBuilder::token_file`](crate::ClientBuilder::token_file): whoever has it is the identity. It is not for logs.
    pub fn expose(&self) -> &str {
        &self.created.token
    }

    /// Its id, which is no secret: 16 hex digits, what is before the dot.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # use tenure::api::PutIdentity;
    /// # use std::time::Duration;
    /// # let nobody = PutIdentity { roles: Vec::new(), certificate: None, quota: Default::default() };
    /// # client.put_identity("ci", &nobody).await?;
    /// let token = client.create_token("ci", Some(Duration::from_secs(90 * 86_400))).await?;
    /// println!("{} lasts {:?}", token.id(), token.expires_in());
    /// client.revoke_token(token.id()).await?;
    /// # assert_eq!(token.expires_in(), Some(Duration::from_secs(7_776_000)));
    /// # Ok(()) });
    /// ```
    pub fn id(&self) -> &str {
        &self.created.id
    }

    /// Whom it proves.
    pub fn identity(&self) -> &str {
        &self.created.identity
    }

    /// How long it lasts; until it is revoked, where that is none.
    pub fn expires_in(&self) -> Option<Duration> {
        self.created.expires_in_ms.map(Duration::from_millis)
    }
}

/// Without the secret.
impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken")
            .field("id", &self.created.id)
            .field("identity", &self.created.identity)
            .field("expires_in", &self.expires_in())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Who this client is, and which roles it has; while access control is off everybody is `anonymous` and may do
    /// everything. Dropping the future changes nothing; that holds for every read here.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::AccessSwitch;
    /// let me = client.whoami().await?;
    /// match me.access {
    ///     AccessSwitch::On => println!("{} with the roles {:?}", me.identity, me.roles),
    ///     AccessSwitch::Off => println!("everybody may do everything"),
    /// }
    /// # assert_eq!(me.identity, "anonymous");
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::Unauthenticated`] where it is nobody that the cluster knows.
    pub async fn whoami(&self) -> Result<WhoAmI, Error> {
        let call = Call::read("/v1/whoami".into(), self.patience);
        self.perform(&call).await?.json()
    }

    /// Makes a role, or gives one other grants in place of all that it had: in force at once for whoever has it. A name
    /// has 1 to 128 bytes, a role up to 256 grants, a cluster up to 1000 roles. Dropped before it is done, it may have been
    /// applied or may yet be; that holds for every change here.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::{AccessVerb, GrantMatch, RoleGrant};
    /// let grant = |verbs: &[AccessVerb], resource: &str| RoleGrant {
    ///     verbs: verbs.to_vec(),
    ///     resource: resource.to_owned(),
    ///     compared: GrantMatch::Prefix,
    /// };
    /// // What a program needs that reads its configuration and takes locks on leases of its own.
    /// let grants = [
    ///     grant(&[AccessVerb::Read, AccessVerb::List, AccessVerb::Watch], "keys/config/"),
    ///     grant(&[AccessVerb::Lock], "locks/jobs/"),
    ///     grant(&[AccessVerb::Lease], "leases/"),
    /// ];
    /// let role = client.put_role("deploy", &grants).await?;
    /// assert_eq!(role.grants, grants);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::InvalidRequest`] where a grant makes no sense, with [`Code::AccessConflict`] where
    /// nobody could administer afterwards; [`Error::Unknown`].
    pub async fn put_role(&self, role: &str, grants: &[RoleGrant]) -> Result<AccessRole, Error> {
        let grants = grants.to_vec();
        self.put_whole(path("roles", role), &PutRole { grants })
            .await
    }

    /// A role, if there is one of that name.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # client.put_role("empty", &[]).await?;
    /// if let Some(role) = client.role("deploy").await? {
    ///     println!("{:?}", role.grants);
    /// }
    /// # assert!(client.role("empty").await?.is_some() && client.role("deploy").await?.is_none());
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn role(&self, role: &str) -> Result<Option<AccessRole>, Error> {
        self.one(path("roles", role), Code::RoleNotFound).await
    }

    /// All roles, by their names.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # client.put_role("deploy", &[]).await?;
    /// for role in client.roles().await?.all {
    ///     println!("{}: {} grants", role.role, role.grants.len());
    ///     # assert_eq!(role.role, "deploy");
    /// }
    /// # Ok(()) });
    /// ```
    pub fn roles(&self) -> Listing<'_, RoleSummary> {
        Listing::new(self, None)
    }

    /// Deletes a role that no identity has any more.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # client.put_role("deploy", &[]).await?;
    /// client.delete_role("deploy").await?;
    /// # assert!(client.role("deploy").await?.is_none());
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it may have been applied or may yet be.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::RoleNotFound`] where there is none, and [`Code::AccessConflict`] where identities
    /// have it; [`Error::Unknown`].
    pub async fn delete_role(&self, role: &str) -> Result<(), Error> {
        let path = path("roles", role);
        self.delete_one::<RoleDeleted>(path, Code::RoleNotFound)
            .await
    }

    /// Makes an identity, or changes all of one: its roles, the name in the client certificate by which it is known, and how
    /// much it may have. Its tokens stay. A name has 1 to 128 bytes, an identity up to 64 roles, a cluster up to 10000
    /// identities.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # client.put_role("deploy", &[]).await?;
    /// use tenure::api::{IdentityQuota, PutIdentity};
    /// let ci = PutIdentity {
    ///     roles: vec!["deploy".to_owned()],
    ///     certificate: Some("spiffe://example.org/ci".to_owned()),
    ///     quota: IdentityQuota { leases: Some(100), ..IdentityQuota::default() },
    /// };
    /// let identity = client.put_identity("ci", &ci).await?;
    /// assert_eq!(identity.quota.leases, Some(100));
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it may have been applied or may yet be.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::AccessConflict`] where it has a role that is not there, or a certificate that
    /// another has, or nobody could administer afterwards; [`Error::Unknown`].
    pub async fn put_identity(
        &self,
        identity: &str,
        whole: &PutIdentity,
    ) -> Result<Identity, Error> {
        self.put_whole(path("identities", identity), whole).await
    }

    /// An identity, if there is one of that name.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// if let Some(identity) = client.identity("ci").await? {
    ///     println!("{:?}", identity.roles);
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn identity(&self, identity: &str) -> Result<Option<Identity>, Error> {
        let path = path("identities", identity);
        self.one(path, Code::IdentityNotFound).await
    }

    /// All identities, by their names.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let all = client.identities().await?;
    /// println!("{} identities, the first of them {:?}", all.count, all.all.first());
    /// # Ok(()) });
    /// ```
    pub fn identities(&self) -> Listing<'_, IdentitySummary> {
        Listing::new(self, None)
    }

    /// Deletes an identity with all its tokens. What hangs on its leases stands until they end; it cannot renew them.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # use tenure::api::PutIdentity;
    /// # let nobody = PutIdentity { roles: Vec::new(), certificate: None, quota: Default::default() };
    /// # client.put_identity("ci", &nobody).await?;
    /// client.delete_identity("ci").await?;
    /// # assert!(client.identity("ci").await?.is_none());
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it may have been applied or may yet be.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::IdentityNotFound`] where there is none, and [`Code::AccessConflict`] where nobody
    /// could administer afterwards; [`Error::Unknown`].
    pub async fn delete_identity(&self, identity: &str) -> Result<(), Error> {
        let path = path("identities", identity);
        self.delete_one::<IdentityDeleted>(path, Code::IdentityNotFound)
            .await
    }

    /// Creates a token that proves an identity: for a second to ten years by the wall clocks of the members, or until it is
    /// revoked. To change one, create another, put it in the place of the old one, and revoke that.
    ///
    /// It is not repeated where it is not known whether it was done.
    ///
    /// Dropped, it may leave a live token whose secret nobody knows: [`Client::tokens`] shows it, and [`Client::revoke_token`]
    /// ends it.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::IdentityNotFound`] where there is no such identity; [`Error::Unknown`] where no
    /// answer came: a token may be there that nobody has the secret of, which [`Client::tokens`] shows.
    pub async fn create_token(
        &self,
        identity: &str,
        expires_in: Option<Duration>,
    ) -> Result<NewToken, Error> {
        let path = "/v1/tokens".to_owned();
        let call = Call::new(Method::POST, path, Effect::Once, self.patience);
        let asked = CreateToken {
            identity: identity.to_owned(),
            expires_in_ms: expires_in.map(millis),
        };
        let answer = self.perform(&call.with_json(&asked)).await?;
        // What cannot be read may have the secret in it, so nothing of it is told.
        let created = serde_json::from_slice(&answer.body).map_err(|_| {
            let detail = "a member answered what this version cannot read in place of a token";
            Error::Unknown(Failure::local(detail))
        })?;
        Ok(NewToken { created })
    }

    /// All tokens, by their ids, without their secrets.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// // Of one that was lost, say.
    /// for token in client.tokens().await?.all {
    ///     if token.identity == "ci" {
    ///         client.revoke_token(&token.id).await?;
    ///     }
    /// }
    /// # Ok(()) });
    /// ```
    pub fn tokens(&self) -> Listing<'_, Token> {
        Listing::new(self, None)
    }

    /// Deletes a token, by its id: it proves nobody from then on. What its identity holds stands.
    ///
    /// Dropped, it may have been revoked or may yet be: until that was answered, the token is to be taken for live.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::TokenNotFound`] where there is none, and [`Code::AccessConflict`] where nobody
    /// could administer afterwards; [`Error::Unknown`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), Error> {
        // Whoever gives all of a token by mistake does not find its secret in the log of a proxy.
        let digits = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits || id.len() != 16 {
            let detail = "the id of a token is 16 hex digits: what is before its dot";
            return Err(Error::NotApplied(Failure::of(
                Code::InvalidRequest,
                detail.to_owned(),
            )));
        }
        let path = path("tokens", &id.to_ascii_lowercase());
        self.delete_one::<TokenDeleted>(path, Code::TokenNotFound)
            .await
    }

    /// Whether access control is on.
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn access(&self) -> Result<Access, Error> {
        let call = Call::read("/v1/access".into(), self.patience);
        self.perform(&call).await?.json()
    }

    /// Switches access control on or off. Once it is on, whoever does not prove who it is is refused everything; what is
    /// held then goes on, and each lease becomes that of whoever renews it first and has the right to leases.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use tenure::api::Code;
    /// assert!(!client.access().await?.enabled);
    /// let refused = client.set_access(true).await.expect_err("nobody could switch it off again");
    /// assert_eq!(refused.code(), Some(Code::AccessConflict));
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it may have been applied or may yet be: [`Client::access`] shows what came of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::AccessConflict`] where nobody could administer: an identity that has a role with the
    /// verb `admin`, and a token that does not expire, or a certificate where members take them, must be there before;
    /// [`Error::Unknown`].
    pub async fn set_access(&self, enabled: bool) -> Result<Access, Error> {
        let path = "/v1/access".to_owned();
        let call = Call::new(Method::PATCH, path, Effect::Repeatable, self.patience);
        self.perform(&call.with_json(&ChangeAccess { enabled }))
            .await?
            .json()
    }

    async fn put_whole<T: DeserializeOwned>(
        &self,
        path: String,
        whole: &impl Serialize,
    ) -> Result<T, Error> {
        let call = Call::new(Method::PUT, path, Effect::Repeatable, self.patience);
        self.perform(&call.with_json(whole)).await?.json()
    }

    async fn one<T: DeserializeOwned>(&self, path: String, none: Code) -> Result<Option<T>, Error> {
        match self.perform(&Call::read(path, self.patience)).await {
            Ok(answer) => answer.json().map(Some),
            Err(error) if error.code() == Some(none) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete_one<T: DeserializeOwned>(&self, path: String, none: Code) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, path, Effect::Repeatable, self.patience);
        match self.perform(&call).await {
            Ok(answer) => answer.json::<T>().map(drop),
            // An earlier try has deleted it, or it was never there: it is not, which is all that was wanted.
            Err(Error::Unknown(failure)) if failure.code == Some(none) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Its slashes are encoded, too: these names are of people and programs, not paths.
fn path(collection: &str, name: &str) -> String {
    format!("/v1/{collection}/{}", encoded(name, false))
}
