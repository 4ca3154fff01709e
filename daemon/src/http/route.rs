//! Routes: which call a path and a method are.
//!
//! The raw path is split by hand, because names may hold any character, slashes and dots too, and are never
//! normalised.

use http::Method;
use tenure_state::{Kind, LeaseId, TokenId};

use super::failure::Failure;
use super::query::Query;
use super::text::{self, Decoding};

/// What a path leads to, before its name is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    /// `/v1/leases`
    Leases,
    /// `/v1/leases/renew`
    LeaseRenewals,
    /// `/v1/leases/{id}`
    Lease,
    /// `/v1/leases/{id}/renew`
    LeaseRenewal,
    /// `/v1/locks` or `/v1/semaphores` or `/v1/elections`
    Queues(Kind),
    /// `/v1/locks/{name}` or `/v1/semaphores/{name}` or `/v1/elections/{name}`
    Queue(Kind),
    /// `/v1/keys`
    Keys,
    /// `/v1/keys/{key}`
    Key,
    /// `/v1/txn`
    Transaction,
    /// `/v1/watch`
    Watch,
    /// `/v1/cluster`
    Cluster,
    /// `/v1/cluster/members`
    Members,
    /// `/v1/cluster/members/{id}`
    Member,
    /// `/v1/cluster/members/{id}/replace`
    MemberReplacement,
    /// `/v1/cluster/members/{id}/promote`
    MemberPromotion,
    /// `/v1/cluster/leader`
    Leadership,
    /// `/v1/limits`
    Limits,
    /// `/v1/compact`
    Compact,
    /// `/v1/backup`
    Backup,
    /// `/v1/status`
    Status,
    /// `/v1/roles`
    Roles,
    /// `/v1/roles/{name}`
    Role,
    /// `/v1/identities`
    Identities,
    /// `/v1/identities/{name}`
    Identity,
    /// `/v1/tokens`
    Tokens,
    /// `/v1/tokens/{id}`
    Token,
    /// `/v1/whoami`
    WhoAmI,
    /// `/v1/access`
    Access,
    /// `/v1/openapi.json`
    OpenApi,
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
}

/// What of its caller's a request keeps or gives back, where it asks for no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keeps {
    /// This lease, or what hangs on it.
    Lease(LeaseId),
    /// The leases that its body names.
    Named,
    /// It asks for something else.
    Nothing,
}

/// A path that leads somewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// Where.
    pub(super) family: Family,
    /// The name or id in it, as it was sent.
    raw: &'a str,
}

/// A call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// `POST /v1/leases`
    GrantLease,
    /// `GET /v1/leases`
    ListLeases,
    /// `POST /v1/leases/renew`
    RenewLeases,
    /// `GET /v1/leases/{id}`
    ReadLease(LeaseId),
    /// `POST /v1/leases/{id}/renew`
    RenewLease(LeaseId),
    /// `PATCH /v1/leases/{id}`
    ChangeLease(LeaseId),
    /// `DELETE /v1/leases/{id}`
    RevokeLease(LeaseId),
    /// `POST /v1/locks`
    AcquireTogether,
    /// `POST` of a lock, a semaphore or (a campaign) an election
    Acquire(Kind, String),
    /// `GET` of a lock, a semaphore or an election
    ReadQueue(Kind, String),
    /// `GET` of their collections
    ListQueues(Kind),
    /// `DELETE` of a lock, a semaphore or (resigning) an election
    Release(Kind, String),
    /// `PUT /v1/elections/{name}`
    Proclaim(String),
    /// `PATCH /v1/elections/{name}`
    HandOver(String),
    /// `PUT /v1/keys/{key}`
    PutKey(String),
    /// `GET /v1/keys/{key}`
    ReadKey(String),
    /// `GET /v1/keys`
    ListKeys,
    /// `DELETE /v1/keys/{key}`
    DeleteKey(String),
    /// `DELETE /v1/keys`
    DeleteKeys,
    /// `POST /v1/txn`
    Transact,
    /// `GET /v1/watch`
    Watch,
    /// `POST /v1/watch`
    WatchMany,
    /// `GET /v1/cluster`
    ReadCluster,
    /// `POST /v1/cluster/members`
    AddMember,
    /// `DELETE /v1/cluster/members/{id}`
    RemoveMember(String),
    /// `POST /v1/cluster/members/{id}/replace`
    ReplaceMember(String),
    /// `POST /v1/cluster/members/{id}/promote`
    PromoteMember(String),
    /// `POST /v1/cluster/leader`
    TransferLeadership,
    /// `GET /v1/limits`
    ReadLimits,
    /// `PATCH /v1/limits`
    ChangeLimits,
    /// `POST /v1/compact`
    Compact,
    /// `GET /v1/backup`
    TakeBackup,
    /// `GET /v1/status`
    ReadStatus,
    /// `PATCH /v1/status`
    ChangeStatus,
    /// `GET /v1/roles`
    ListRoles,
    /// `GET /v1/roles/{name}`
    ReadRole(String),
    /// `PUT /v1/roles/{name}`
    PutRole(String),
    /// `DELETE /v1/roles/{name}`
    DeleteRole(String),
    /// `GET /v1/identities`
    ListIdentities,
    /// `GET /v1/identities/{name}`
    ReadIdentity(String),
    /// `PUT /v1/identities/{name}`
    PutIdentity(String),
    /// `DELETE /v1/identities/{name}`
    DeleteIdentity(String),
    /// `GET /v1/tokens`
    ListTokens,
    /// `POST /v1/tokens`
    CreateToken,
    /// `DELETE /v1/tokens/{id}`
    DeleteToken(TokenId),
    /// `GET /v1/whoami`
    WhoAmI,
    /// `GET /v1/access`
    ReadAccess,
    /// `PATCH /v1/access`
    ChangeAccess,
    /// `GET /v1/openapi.json`
    ReadOpenApi,
    /// `GET /livez`
    Live,
    /// `GET /readyz`
    Ready,
    /// `GET /metrics`
    ReadMetrics,
}

impl Call {
    /// What it is called on: the family with the name in its path, and the name, wherever that was sent.
    pub(super) fn resource(&self) -> (Family, Option<String>) {
        match self {
            Call::GrantLease | Call::ListLeases => (Family::Leases, None),
            Call::RenewLeases => (Family::LeaseRenewals, None),
            Call::ReadLease(id) | Call::ChangeLease(id) | Call::RevokeLease(id) => {
                (Family::Lease, Some(id.to_string()))
            }
            Call::RenewLease(id) => (Family::LeaseRenewal, Some(id.to_string())),
            Call::AcquireTogether => (Family::Queues(Kind::Lock), None),
            Call::ListQueues(kind) => (Family::Queues(*kind), None),
            Call::Acquire(kind, name) | Call::ReadQueue(kind, name) | Call::Release(kind, name) => {
                (Family::Queue(*kind), Some(name.clone()))
            }
            Call::Proclaim(name) | Call::HandOver(name) => {
                (Family::Queue(Kind::Election), Some(name.clone()))
            }
            Call::PutKey(name) | Call::ReadKey(name) | Call::DeleteKey(name) => {
                (Family::Key, Some(name.clone()))
            }
            Call::ListKeys | Call::DeleteKeys => (Family::Keys, None),
            Call::Transact => (Family::Transaction, None),
            Call::Watch | Call::WatchMany => (Family::Watch, None),
            Call::ReadCluster => (Family::Cluster, None),
            Call::AddMember => (Family::Members, None),
            Call::RemoveMember(member) => (Family::Member, Some(member.clone())),
            Call::ReplaceMember(member) => (Family::MemberReplacement, Some(member.clone())),
            Call::PromoteMember(member) => (Family::MemberPromotion, Some(member.clone())),
            Call::TransferLeadership => (Family::Leadership, None),
            Call::ReadLimits | Call::ChangeLimits => (Family::Limits, None),
            Call::Compact => (Family::Compact, None),
            Call::TakeBackup => (Family::Backup, None),
            Call::ReadStatus | Call::ChangeStatus => (Family::Status, None),
            Call::ListRoles => (Family::Roles, None),
            Call::ReadRole(name) | Call::PutRole(name) | Call::DeleteRole(name) => {
                (Family::Role, Some(name.clone()))
            }
            Call::ListIdentities => (Family::Identities, None),
            Call::ReadIdentity(name) | Call::PutIdentity(name) | Call::DeleteIdentity(name) => {
                (Family::Identity, Some(name.clone()))
            }
            Call::ListTokens | Call::CreateToken => (Family::Tokens, None),
            Call::DeleteToken(id) => (Family::Token, Some(id.to_string())),
            Call::WhoAmI => (Family::WhoAmI, None),
            Call::ReadAccess | Call::ChangeAccess => (Family::Access, None),
            Call::ReadOpenApi => (Family::OpenApi, None),
            Call::Live => (Family::Live, None),
            Call::Ready => (Family::Ready, None),
            Call::ReadMetrics => (Family::Metrics, None),
        }
    }

    /// Whether it may change something.
    pub(super) fn writes(&self) -> bool {
        match self {
            Call::GrantLease
            | Call::RenewLeases
            | Call::RenewLease(_)
            | Call::ChangeLease(_)
            | Call::RevokeLease(_)
            | Call::AcquireTogether
            | Call::Acquire(..)
            | Call::Release(..)
            | Call::Proclaim(_)
            | Call::HandOver(_)
            | Call::PutKey(_)
            | Call::DeleteKey(_)
            | Call::DeleteKeys
            | Call::Transact
            | Call::AddMember
            | Call::RemoveMember(_)
            | Call::ReplaceMember(_)
            | Call::PromoteMember(_)
            | Call::TransferLeadership
            | Call::ChangeLimits
            | Call::Compact
            | Call::PutRole(_)
            | Call::DeleteRole(_)
            | Call::PutIdentity(_)
            | Call::DeleteIdentity(_)
            | Call::CreateToken
            | Call::DeleteToken(_)
            | Call::ChangeAccess
            | Call::ChangeStatus => true,
            Call::ListLeases
            | Call::ReadLease(_)
            | Call::ReadQueue(..)
            | Call::ListQueues(_)
            | Call::ReadKey(_)
            | Call::ListKeys
            | Call::Watch
            | Call::WatchMany
            | Call::ReadCluster
            | Call::ReadLimits
            | Call::TakeBackup
            | Call::ReadStatus
            | Call::ListRoles
            | Call::ReadRole(_)
            | Call::ListIdentities
            | Call::ReadIdentity(_)
            | Call::ListTokens
            | Call::WhoAmI
            | Call::ReadAccess
            | Call::ReadOpenApi
            | Call::Live
            | Call::Ready
            | Call::ReadMetrics => false,
        }
    }

    /// Whether it writes keys, and so may be guarded by a fence.
    pub(super) fn writes_keys(&self) -> bool {
        matches!(
            self,
            Call::PutKey(_) | Call::DeleteKey(_) | Call::DeleteKeys | Call::Transact
        )
    }
}

impl Family {
    /// The path as it stands in logs: never with a name in it.
    pub(super) fn template(self) -> &'static str {
        match self {
            Family::Leases => "/v1/leases",
            Family::LeaseRenewals => "/v1/leases/renew",
            Family::Lease => "/v1/leases/{id}",
            Family::LeaseRenewal => "/v1/leases/{id}/renew",
            Family::Queues(Kind::Lock) => "/v1/locks",
            Family::Queue(Kind::Lock) => "/v1/locks/{name}",
            Family::Queues(Kind::Semaphore) => "/v1/semaphores",
            Family::Queue(Kind::Semaphore) => "/v1/semaphores/{name}",
            Family::Queues(Kind::Election) => "/v1/elections",
            Family::Queue(Kind::Election) => "/v1/elections/{name}",
            Family::Keys => "/v1/keys",
            Family::Key => "/v1/keys/{key}",
            Family::Transaction => "/v1/txn",
            Family::Watch => "/v1/watch",
            Family::Cluster => "/v1/cluster",
            Family::Members => "/v1/cluster/members",
            Family::Member => "/v1/cluster/members/{id}",
            Family::MemberReplacement => "/v1/cluster/members/{id}/replace",
            Family::MemberPromotion => "/v1/cluster/members/{id}/promote",
            Family::Leadership => "/v1/cluster/leader",
            Family::Limits => "/v1/limits",
            Family::Compact => "/v1/compact",
            Family::Backup => "/v1/backup",
            Family::Status => "/v1/status",
            Family::Roles => "/v1/roles",
            Family::Role => "/v1/roles/{name}",
            Family::Identities => "/v1/identities",
            Family::Identity => "/v1/identities/{name}",
            Family::Tokens => "/v1/tokens",
            Family::Token => "/v1/tokens/{id}",
            Family::WhoAmI => "/v1/whoami",
            Family::Access => "/v1/access",
            Family::OpenApi => "/v1/openapi.json",
            Family::Live => "/livez",
            Family::Ready => "/readyz",
            Family::Metrics => "/metrics",
        }
    }

    /// What `Allow` says.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Family::Leases | Family::Watch | Family::Tokens => "GET, HEAD, POST, OPTIONS",
            Family::LeaseRenewals
            | Family::LeaseRenewal
            | Family::Transaction
            | Family::Members
            | Family::MemberReplacement
            | Family::MemberPromotion
            | Family::Leadership
            | Family::Compact => "POST, OPTIONS",
            Family::Member | Family::Token => "DELETE, OPTIONS",
            Family::Lease => "GET, HEAD, PATCH, DELETE, OPTIONS",
            Family::Queues(Kind::Election) | Family::Queue(Kind::Election) => {
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
            }
            Family::Queues(Kind::Lock | Kind::Semaphore)
            | Family::Queue(Kind::Lock | Kind::Semaphore) => "GET, HEAD, POST, DELETE, OPTIONS",
            Family::Keys | Family::Key | Family::Role | Family::Identity => {
                "GET, HEAD, PUT, DELETE, OPTIONS"
            }
            Family::Limits | Family::Status | Family::Access => "GET, HEAD, PATCH, OPTIONS",
            Family::Cluster
            | Family::Roles
            | Family::Identities
            | Family::WhoAmI
            | Family::Backup
            | Family::OpenApi
            | Family::Live
            | Family::Ready
            | Family::Metrics => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether nobody has to prove who asks: whoever watches over a member has no secrets.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Family::Live | Family::Ready)
    }

    /// Whether the method is one of those; `OPTIONS` is answered before this is asked.
    pub(super) fn allows(self, method: &Method) -> bool {
        self.allow()
            .split(", ")
            .any(|allowed| allowed == method.as_str())
    }
}

/// Where a raw path leads, if anywhere.
pub(super) fn find(path: &str) -> Option<Target<'_>> {
    let plain = |family| Some(Target { family, raw: "" });
    match path {
        "/v1/leases" => plain(Family::Leases),
        "/v1/leases/renew" => plain(Family::LeaseRenewals),
        "/v1/locks" => plain(Family::Queues(Kind::Lock)),
        "/v1/semaphores" => plain(Family::Queues(Kind::Semaphore)),
        "/v1/elections" => plain(Family::Queues(Kind::Election)),
        "/v1/keys" => plain(Family::Keys),
        "/v1/txn" => plain(Family::Transaction),
        "/v1/watch" => plain(Family::Watch),
        "/v1/cluster" => plain(Family::Cluster),
        "/v1/cluster/members" => plain(Family::Members),
        "/v1/cluster/leader" => plain(Family::Leadership),
        "/v1/limits" => plain(Family::Limits),
        "/v1/compact" => plain(Family::Compact),
        "/v1/backup" => plain(Family::Backup),
        "/v1/status" => plain(Family::Status),
        "/v1/roles" => plain(Family::Roles),
        "/v1/identities" => plain(Family::Identities),
        "/v1/tokens" => plain(Family::Tokens),
        "/v1/whoami" => plain(Family::WhoAmI),
        "/v1/access" => plain(Family::Access),
        "/v1/openapi.json" => plain(Family::OpenApi),
        "/livez" => plain(Family::Live),
        "/readyz" => plain(Family::Ready),
        "/metrics" => plain(Family::Metrics),
        _ => named(path),
    }
}

fn named(path: &str) -> Option<Target<'_>> {
    let (collection, raw) = path.strip_prefix("/v1/")?.split_once('/')?;
    let family = match collection {
        "locks" => Family::Queue(Kind::Lock),
        "semaphores" => Family::Queue(Kind::Semaphore),
        "elections" => Family::Queue(Kind::Election),
        "keys" => Family::Key,
        "roles" => Family::Role,
        "identities" => Family::Identity,
        "tokens" => Family::Token,
        "leases" => {
            return match raw.split_once('/') {
                None => Some(Target {
                    family: Family::Lease,
                    raw,
                }),
                Some((raw, "renew")) => Some(Target {
                    family: Family::LeaseRenewal,
                    raw,
                }),
                Some(_) => None,
            };
        }
        "cluster" => {
            let raw = raw.strip_prefix("members/")?;
            let (family, raw) = match raw.split_once('/') {
                None => (Family::Member, raw),
                Some((raw, "replace")) => (Family::MemberReplacement, raw),
                Some((raw, "promote")) => (Family::MemberPromotion, raw),
                Some(_) => return None,
            };
            return Some(Target { family, raw });
        }
        _ => return None,
    };
    Some(Target { family, raw })
}

impl Target<'_> {
    /// The call of a method that the family allows. `HEAD` is the `GET` of the same.
    ///
    /// # Errors
    ///
    /// `invalid-name` or `invalid-request` for a name or id that is none, or is missing.
    pub(super) fn call(&self, method: &Method, query: &mut Query) -> Result<Call, Failure> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let deletes = *method == Method::DELETE;
        let patches = *method == Method::PATCH;
        let is_named = query.has("name");
        Ok(match self.family {
            Family::Leases if reads => Call::ListLeases,
            Family::Leases => Call::GrantLease,
            Family::LeaseRenewals => Call::RenewLeases,
            Family::Lease if deletes => Call::RevokeLease(text::lease(self.raw)?),
            Family::Lease if patches => Call::ChangeLease(text::lease(self.raw)?),
            Family::Lease => Call::ReadLease(text::lease(self.raw)?),
            Family::LeaseRenewal => Call::RenewLease(text::lease(self.raw)?),
            Family::Queues(kind) if reads && !is_named => Call::ListQueues(kind),
            Family::Queues(Kind::Lock) if *method == Method::POST && !is_named => {
                Call::AcquireTogether
            }
            Family::Queues(kind) | Family::Queue(kind) => {
                let name = self.name(query)?;
                match *method {
                    Method::GET | Method::HEAD => Call::ReadQueue(kind, name),
                    Method::DELETE => Call::Release(kind, name),
                    Method::PUT => Call::Proclaim(name),
                    Method::PATCH => Call::HandOver(name),
                    _ => Call::Acquire(kind, name),
                }
            }
            Family::Keys if reads && !is_named => Call::ListKeys,
            Family::Keys if deletes && !is_named => Call::DeleteKeys,
            Family::Keys | Family::Key if reads => Call::ReadKey(self.name(query)?),
            Family::Keys | Family::Key if deletes => Call::DeleteKey(self.name(query)?),
            Family::Keys | Family::Key => Call::PutKey(self.name(query)?),
            Family::Transaction => Call::Transact,
            Family::Watch if reads => Call::Watch,
            Family::Watch => Call::WatchMany,
            Family::Cluster => Call::ReadCluster,
            Family::Members => Call::AddMember,
            Family::Member => Call::RemoveMember(self.name(query)?),
            Family::MemberReplacement => Call::ReplaceMember(self.name(query)?),
            Family::MemberPromotion => Call::PromoteMember(self.name(query)?),
            Family::Leadership => Call::TransferLeadership,
            Family::Limits if reads => Call::ReadLimits,
            Family::Limits => Call::ChangeLimits,
            Family::Compact => Call::Compact,
            Family::Backup => Call::TakeBackup,
            Family::Status if reads => Call::ReadStatus,
            Family::Status => Call::ChangeStatus,
            Family::Roles => Call::ListRoles,
            Family::Role if reads => Call::ReadRole(self.access_name()?),
            Family::Role if deletes => Call::DeleteRole(self.access_name()?),
            Family::Role => Call::PutRole(self.access_name()?),
            Family::Identities => Call::ListIdentities,
            Family::Identity if reads => Call::ReadIdentity(self.access_name()?),
            Family::Identity if deletes => Call::DeleteIdentity(self.access_name()?),
            Family::Identity => Call::PutIdentity(self.access_name()?),
            Family::Tokens if reads => Call::ListTokens,
            Family::Tokens => Call::CreateToken,
            Family::Token => Call::DeleteToken(text::token_id("the id of a token", self.raw)?),
            Family::WhoAmI => Call::WhoAmI,
            Family::Access if reads => Call::ReadAccess,
            Family::Access => Call::ChangeAccess,
            Family::OpenApi => Call::ReadOpenApi,
            Family::Live => Call::Live,
            Family::Ready => Call::Ready,
            Family::Metrics => Call::ReadMetrics,
        })
    }

    /// What of its caller's a request keeps or gives back.
    pub(super) fn keeps(&self, method: &Method, query: Option<&str>) -> Keeps {
        let call = Query::parse(query).and_then(|mut query| {
            let call = self.family.allows(method).then_some(());
            let call = call.map(|()| self.call(method, &mut query)).transpose()?;
            Ok((call, query))
        });
        match call {
            Ok((Some(Call::RenewLease(lease) | Call::RevokeLease(lease)), _)) => {
                Keeps::Lease(lease)
            }
            Ok((Some(Call::RenewLeases), _)) => Keeps::Named,
            Ok((Some(Call::Release(..)), mut query)) if !query.has("break") => {
                let lease = query.take("lease").ok().flatten();
                let lease = lease.and_then(|lease| text::lease(&lease).ok());
                lease.map_or(Keeps::Nothing, Keeps::Lease)
            }
            _ => Keeps::Nothing,
        }
    }

    /// The name of a role or an identity.
    fn access_name(&self) -> Result<String, Failure> {
        let name = text::name(self.raw, Decoding::Path)?;
        text::access_name("the name", &name)?;
        Ok(name)
    }

    /// The name: in the path, or on the collection in `?name=`, for those behind proxies that squash paths.
    fn name(&self, query: &mut Query) -> Result<String, Failure> {
        match self.family {
            Family::Queues(_) | Family::Keys => match query.take("name")? {
                Some(name) => text::valid_name(name),
                None => Err(Failure::invalid(
                    "the name is missing: give it in the path or as `?name=`",
                )),
            },
            _ => text::name(self.raw, Decoding::Path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_api::Code;

    fn call(method: &Method, uri: &str) -> Result<Call, Failure> {
        let (path, query) = uri
            .split_once('?')
            .map_or((uri, None), |(path, query)| (path, Some(query)));
        let target = find(path).expect(uri);
        assert!(target.family.allows(method), "{uri}");
        target.call(method, &mut Query::parse(query)?)
    }

    #[test]
    fn a_method_and_a_path_are_one_call() {
        let check = |method: Method, uri: &str, expected: Call| {
            assert_eq!(call(&method, uri).expect(uri), expected, "{uri}");
        };
        let lease = LeaseId::new(0x3f9c_2a7b_5d1e_8046).expect("positive");
        check(Method::POST, "/v1/leases", Call::GrantLease);
        check(
            Method::GET,
            "/v1/leases/3f9c2a7b5d1e8046",
            Call::ReadLease(lease),
        );
        check(
            Method::HEAD,
            "/v1/leases/3f9c2a7b5d1e8046",
            Call::ReadLease(lease),
        );
        check(
            Method::DELETE,
            "/v1/leases/3f9c2a7b5d1e8046",
            Call::RevokeLease(lease),
        );
        check(
            Method::POST,
            "/v1/leases/3f9c2a7b5d1e8046/renew",
            Call::RenewLease(lease),
        );
        check(
            Method::POST,
            "/v1/locks/jobs/nightly",
            Call::Acquire(Kind::Lock, "jobs/nightly".into()),
        );
        check(
            Method::POST,
            "/v1/locks?name=jobs%2Fa+b",
            Call::Acquire(Kind::Lock, "jobs/a b".into()),
        );
        check(
            Method::DELETE,
            "/v1/locks//a/../b/",
            Call::Release(Kind::Lock, "/a/../b/".into()),
        );
        check(
            Method::GET,
            "/v1/locks/a+b",
            Call::ReadQueue(Kind::Lock, "a+b".into()),
        );
        check(
            Method::PUT,
            "/v1/keys/a/renew",
            Call::PutKey("a/renew".into()),
        );
        check(
            Method::PUT,
            "/v1/keys?name=%252e",
            Call::PutKey("%2e".into()),
        );
        check(Method::GET, "/v1/keys/%2e%2e", Call::ReadKey("..".into()));
        check(Method::GET, "/v1/keys?name=x", Call::ReadKey("x".into()));
        check(Method::GET, "/v1/keys?prefix=x", Call::ListKeys);
        check(
            Method::DELETE,
            "/v1/keys/a%3Fb",
            Call::DeleteKey("a?b".into()),
        );
        check(Method::DELETE, "/v1/keys?prefix=x", Call::DeleteKeys);
        check(Method::GET, "/v1/leases", Call::ListLeases);
        check(Method::POST, "/v1/leases/renew", Call::RenewLeases);
        check(
            Method::PATCH,
            "/v1/leases/3f9c2a7b5d1e8046",
            Call::ChangeLease(lease),
        );
        check(Method::POST, "/v1/locks", Call::AcquireTogether);
        check(
            Method::GET,
            "/v1/locks?prefix=a",
            Call::ListQueues(Kind::Lock),
        );
        check(
            Method::POST,
            "/v1/semaphores/s/1",
            Call::Acquire(Kind::Semaphore, "s/1".into()),
        );
        check(
            Method::GET,
            "/v1/elections?name=a%2Fb",
            Call::ReadQueue(Kind::Election, "a/b".into()),
        );
        check(Method::PUT, "/v1/elections/e", Call::Proclaim("e".into()));
        check(Method::PATCH, "/v1/elections/e", Call::HandOver("e".into()));
        check(Method::POST, "/v1/txn", Call::Transact);
        check(Method::POST, "/v1/watch", Call::WatchMany);
        check(Method::GET, "/v1/limits", Call::ReadLimits);
        check(Method::PATCH, "/v1/limits", Call::ChangeLimits);
        check(Method::PATCH, "/v1/status", Call::ChangeStatus);
        check(Method::POST, "/v1/compact", Call::Compact);
        check(Method::GET, "/v1/openapi.json", Call::ReadOpenApi);
        check(Method::GET, "/v1/watch", Call::Watch);
        check(Method::GET, "/v1/roles", Call::ListRoles);
        check(Method::PUT, "/v1/roles/a%2Fb", Call::PutRole("a/b".into()));
        check(
            Method::DELETE,
            "/v1/identities/ci",
            Call::DeleteIdentity("ci".into()),
        );
        check(Method::POST, "/v1/tokens", Call::CreateToken);
        check(
            Method::DELETE,
            "/v1/tokens/00000000000000a1",
            Call::DeleteToken(TokenId(0xa1)),
        );
        check(Method::HEAD, "/v1/whoami", Call::WhoAmI);
        check(Method::PATCH, "/v1/access", Call::ChangeAccess);
        check(Method::GET, "/v1/cluster", Call::ReadCluster);
        check(Method::GET, "/v1/backup", Call::TakeBackup);
        check(Method::POST, "/v1/cluster/members", Call::AddMember);
        check(
            Method::DELETE,
            "/v1/cluster/members/n1",
            Call::RemoveMember("n1".into()),
        );
        check(
            Method::POST,
            "/v1/cluster/members/3f9c2a7b5d1e8046/replace",
            Call::ReplaceMember("3f9c2a7b5d1e8046".into()),
        );
        check(
            Method::POST,
            "/v1/cluster/members/n%31/promote",
            Call::PromoteMember("n1".into()),
        );
        check(Method::POST, "/v1/cluster/leader", Call::TransferLeadership);
        check(Method::GET, "/v1/status", Call::ReadStatus);
        check(Method::GET, "/livez", Call::Live);
        check(Method::GET, "/readyz", Call::Ready);
    }

    #[test]
    fn what_keeps_or_gives_back_names_a_lease_and_breaks_nothing() {
        let check = |method: Method, uri: &str, expected: Keeps| {
            let (path, query) = uri
                .split_once('?')
                .map_or((uri, None), |(path, query)| (path, Some(query)));
            let target = find(path).expect(uri);
            assert_eq!(target.keeps(&method, query), expected, "{method} {uri}");
        };
        let lease = Keeps::Lease(LeaseId::new(7).expect("positive"));
        check(Method::POST, "/v1/leases/renew", Keeps::Named);
        check(Method::GET, "/v1/leases/renew", Keeps::Nothing);
        check(Method::POST, "/v1/leases/0000000000000007/renew", lease);
        check(Method::DELETE, "/v1/leases/0000000000000007", lease);
        check(Method::GET, "/v1/leases/0000000000000007", Keeps::Nothing);
        check(Method::PATCH, "/v1/leases/0000000000000007", Keeps::Nothing);
        check(Method::DELETE, "/v1/leases/seven", Keeps::Nothing);
        for path in ["/v1/locks/a", "/v1/semaphores/a", "/v1/elections/a"] {
            let with = |query: &str| format!("{path}?lease=0000000000000007{query}");
            check(Method::DELETE, &with("&fence=1"), lease);
            check(Method::DELETE, &with("&break=true"), Keeps::Nothing);
            check(Method::POST, &with(""), Keeps::Nothing);
            check(Method::DELETE, path, Keeps::Nothing);
        }
        check(
            Method::DELETE,
            "/v1/locks?name=a&lease=0000000000000007",
            lease,
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_is_no_route() {
        for path in [
            "",
            "*",
            "/",
            "/v1",
            "/v1/",
            "/v2/keys/a",
            "/v1/key/a",
            "//v1/keys/a",
            "/v1//keys/a",
            "/V1/keys/a",
            "/v1/leases/3f9c2a7b5d1e8046/renew/",
            "/v1/leases/3f9c2a7b5d1e8046/",
            "/v1/watch/",
            "/v1/status/x",
            "/livez/",
            "/v1/semaphore/a",
            "/v1/txn/",
            "/v1/limits/value_bytes",
            "/v1/cluster/",
            "/v1/cluster/n1",
            "/v1/cluster/members/n1/demote",
            "/v1/cluster/leader/n1",
            "/v1/%6beys/a",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn names_and_ids_are_checked_after_the_route() {
        let check = |method: Method, uri: &str, code: Code| {
            assert_eq!(call(&method, uri).expect_err(uri).code, code, "{uri}");
        };
        check(Method::GET, "/v1/keys/", Code::InvalidName);
        check(Method::GET, "/v1/keys?name=", Code::InvalidName);
        check(Method::GET, "/v1/keys?name=a%00", Code::InvalidName);
        check(Method::GET, "/v1/keys?name=a&name=b", Code::InvalidRequest);
        check(Method::PUT, "/v1/keys/%ff", Code::InvalidName);
        check(Method::PUT, "/v1/keys", Code::InvalidRequest);
        check(Method::POST, "/v1/semaphores", Code::InvalidRequest);
        check(Method::DELETE, "/v1/locks", Code::InvalidRequest);
        check(Method::PUT, "/v1/elections", Code::InvalidRequest);
        check(Method::GET, "/v1/leases/xyz", Code::InvalidRequest);
        check(Method::GET, "/v1/leases/", Code::InvalidRequest);
        check(Method::DELETE, "/v1/cluster/members/", Code::InvalidName);
        check(Method::DELETE, "/v1/tokens/xyz", Code::InvalidRequest);
        check(Method::GET, "/v1/roles/", Code::InvalidName);
        let long = format!("/v1/identities/{}", "x".repeat(129));
        check(Method::GET, &long, Code::InvalidName);
    }

    #[test]
    fn methods_that_a_path_does_not_take_are_told_from_those_it_takes() {
        for (path, method) in [
            ("/v1/leases", Method::PUT),
            ("/v1/leases/1", Method::POST),
            ("/v1/leases/renew", Method::GET),
            ("/v1/watch", Method::DELETE),
            ("/v1/semaphores/a", Method::PUT),
            ("/v1/txn", Method::GET),
            ("/v1/openapi.json", Method::POST),
            ("/v1/keys/a", Method::POST),
            ("/v1/locks/a", Method::PUT),
            ("/v1/cluster/members", Method::GET),
            ("/v1/cluster/members/n1", Method::POST),
            ("/v1/cluster/leader", Method::PUT),
            ("/livez", Method::DELETE),
        ] {
            assert!(
                !find(path).expect(path).family.allows(&method),
                "{method} {path}"
            );
        }
    }
}
