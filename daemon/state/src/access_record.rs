//! Roles, identities, tokens and their changes as protobuf. Tags are part of the wire and disk formats: never changed nor
//! used again.
//!
//! Owns shapes and conversions; entries and rows share them. What cannot be read is an error, never a guess: a right that
//! a newer version knows is not dropped in silence.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::access::{AccessChange, Identity, Quota, RoleGrant, Token, TokenId, Verb};

/// The grants of a role.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoleRecord {
    #[prost(message, repeated, tag = "1")]
    pub grants: Vec<GrantRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GrantRecord {
    #[prost(uint32, repeated, tag = "1")]
    pub verbs: Vec<u32>,
    #[prost(string, tag = "2")]
    pub resource: String,
    #[prost(bool, tag = "3")]
    pub exact: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IdentityRecord {
    #[prost(string, repeated, tag = "1")]
    pub roles: Vec<String>,
    #[prost(string, optional, tag = "2")]
    pub certificate: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    pub leases: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub places: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub requests_per_second: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TokenRecord {
    #[prost(string, tag = "1")]
    pub identity: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    #[prost(uint64, optional, tag = "3")]
    pub expires_unix_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangeAccessRecord {
    #[prost(oneof = "AccessChangeKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub change: Option<AccessChangeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum AccessChangeKind {
    #[prost(message, tag = "1")]
    PutRole(PutRoleRecord),
    #[prost(string, tag = "2")]
    DeleteRole(String),
    #[prost(message, tag = "3")]
    PutIdentity(PutIdentityRecord),
    #[prost(string, tag = "4")]
    DeleteIdentity(String),
    #[prost(message, tag = "5")]
    CreateToken(CreateTokenRecord),
    #[prost(fixed64, tag = "6")]
    DeleteToken(u64),
    #[prost(bool, tag = "7")]
    Enable(bool),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutRoleRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub role: Option<RoleRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutIdentityRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub identity: Option<IdentityRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateTokenRecord {
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub token: Option<TokenRecord>,
    #[prost(uint64, tag = "3")]
    pub now_unix_ms: u64,
}

pub(crate) fn role_record(grants: &[RoleGrant]) -> RoleRecord {
    let grant = |grant: &RoleGrant| GrantRecord {
        verbs: grant.verbs.iter().map(|verb| *verb as u32).collect(),
        resource: grant.resource.clone(),
        exact: grant.exact,
    };
    RoleRecord {
        grants: grants.iter().map(grant).collect(),
    }
}

pub(crate) fn role(record: RoleRecord) -> Option<Vec<RoleGrant>> {
    let grant = |grant: GrantRecord| {
        let verbs = grant.verbs.into_iter().map(Verb::from_number);
        Some(RoleGrant {
            verbs: verbs.collect::<Option<BTreeSet<Verb>>>()?,
            resource: grant.resource,
            exact: grant.exact,
        })
    };
    record.grants.into_iter().map(grant).collect()
}

pub(crate) fn identity_record(identity: &Identity) -> IdentityRecord {
    IdentityRecord {
        roles: identity.roles.clone(),
        certificate: identity.certificate.clone(),
        leases: identity.quota.leases,
        places: identity.quota.places,
        requests_per_second: identity.quota.requests_per_second,
    }
}

pub(crate) fn identity(record: IdentityRecord) -> Identity {
    Identity {
        roles: record.roles,
        certificate: record.certificate,
        quota: Quota {
            leases: record.leases,
            places: record.places,
            requests_per_second: record.requests_per_second,
        },
    }
}

pub(crate) fn token_record(token: &Token) -> TokenRecord {
    TokenRecord {
        identity: token.identity.to_string(),
        hash: Bytes::copy_from_slice(&token.hash),
        expires_unix_ms: token.expires_unix_ms,
    }
}

pub(crate) fn token(record: TokenRecord) -> Option<Token> {
    Some(Token {
        identity: record.identity.into(),
        hash: record.hash[..].try_into().ok()?,
        expires_unix_ms: record.expires_unix_ms,
    })
}

pub(crate) fn change_record(change: &AccessChange) -> ChangeAccessRecord {
    let change = match change {
        AccessChange::PutRole { name, grants } => AccessChangeKind::PutRole(PutRoleRecord {
            name: name.clone(),
            role: Some(role_record(grants)),
        }),
        AccessChange::DeleteRole { name } => AccessChangeKind::DeleteRole(name.clone()),
        AccessChange::PutIdentity { name, identity } => {
            AccessChangeKind::PutIdentity(PutIdentityRecord {
                name: name.clone(),
                identity: Some(identity_record(identity)),
            })
        }
        AccessChange::DeleteIdentity { name } => AccessChangeKind::DeleteIdentity(name.clone()),
        AccessChange::CreateToken {
            id,
            identity,
            hash,
            expires_unix_ms,
            now_unix_ms,
        } => AccessChangeKind::CreateToken(CreateTokenRecord {
            id: id.0,
            token: Some(TokenRecord {
                identity: identity.clone(),
                hash: Bytes::copy_from_slice(hash),
                expires_unix_ms: *expires_unix_ms,
            }),
            now_unix_ms: *now_unix_ms,
        }),
        AccessChange::DeleteToken { id } => AccessChangeKind::DeleteToken(id.0),
        AccessChange::Enable { enabled } => AccessChangeKind::Enable(*enabled),
    };
    ChangeAccessRecord {
        change: Some(change),
    }
}

pub(crate) fn change(record: ChangeAccessRecord) -> Option<AccessChange> {
    Some(match record.change? {
        AccessChangeKind::PutRole(record) => AccessChange::PutRole {
            name: record.name,
            grants: role(record.role?)?,
        },
        AccessChangeKind::DeleteRole(name) => AccessChange::DeleteRole { name },
        AccessChangeKind::PutIdentity(record) => AccessChange::PutIdentity {
            name: record.name,
            identity: identity(record.identity?),
        },
        AccessChangeKind::DeleteIdentity(name) => AccessChange::DeleteIdentity { name },
        AccessChangeKind::CreateToken(record) => {
            let given = token(record.token?)?;
            AccessChange::CreateToken {
                id: TokenId(record.id),
                identity: given.identity.to_string(),
                hash: given.hash,
                expires_unix_ms: given.expires_unix_ms,
                now_unix_ms: record.now_unix_ms,
            }
        }
        AccessChangeKind::DeleteToken(id) => AccessChange::DeleteToken { id: TokenId(id) },
        AccessChangeKind::Enable(enabled) => AccessChange::Enable { enabled },
    })
}
