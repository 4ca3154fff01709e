//! Access control on the wire: roles, identities, tokens, and whether it is on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What may be done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AccessVerb {
    /// To see one resource, and to wait for its changes.
    Read,
    /// To see which resources there are.
    List,
    /// To put keys.
    Write,
    /// To delete keys.
    Delete,
    /// To acquire and release locks and semaphores.
    Lock,
    /// To end holds of others.
    Break,
    /// To campaign, proclaim, hand over and resign.
    Campaign,
    /// To be granted leases.
    Lease,
    /// To see what happens.
    Watch,
    /// Everything; of the empty prefix only.
    Admin,
}

/// How the resource of a grant is compared.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrantMatch {
    /// Every resource that begins so.
    #[default]
    Prefix,
    /// That resource only.
    Exact,
}

/// Verbs on resources.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RoleGrant {
    /// What may be done: at least one.
    pub verbs: Vec<AccessVerb>,
    /// On what: a collection and a name, or the beginning of one, as `keys/config/`; the empty prefix is everything.
    pub resource: String,
    /// How it is compared.
    #[serde(default, rename = "match")]
    pub compared: GrantMatch,
}

/// `PUT /v1/roles/{name}`: the whole role.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutRole {
    /// What it grants.
    #[serde(deserialize_with = "crate::object::objects")]
    pub grants: Vec<RoleGrant>,
}

/// A role among others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoleSummary {
    /// Its name.
    pub role: String,
    /// What it grants.
    pub grants: Vec<RoleGrant>,
}

/// The answer of `GET` and `PUT /v1/roles/{name}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessRole {
    /// Its name.
    pub role: String,
    /// What it grants.
    pub grants: Vec<RoleGrant>,
    /// The revision that this reflects; a change of roles makes none.
    pub revision: u64,
}

/// The answer of `DELETE /v1/roles/{name}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoleDeleted {
    /// Which.
    pub role: String,
    /// `true`.
    pub deleted: bool,
    /// The present revision.
    pub revision: u64,
}

/// The answer of `GET /v1/roles`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolePage {
    /// Roles in the order of their names.
    pub roles: Vec<RoleSummary>,
    /// Whether there are more.
    pub more: bool,
    /// What to send as `start_after` for them.
    pub next: Option<String>,
    /// How many there are in all.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// How much an identity may have or ask for; what is `null` is not limited beyond the limits of the cluster.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IdentityQuota {
    /// The most leases that it was granted and that live.
    pub leases: Option<u64>,
    /// The most places in queues on its leases.
    pub places: Option<u64>,
    /// The most requests in a second, at each member. What renews, ends or releases nothing but leases of its own does not
    /// count.
    pub requests_per_second: Option<u64>,
}

/// `PUT /v1/identities/{name}`: the whole identity.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutIdentity {
    /// The roles that it has.
    pub roles: Vec<String>,
    /// The name in the client certificate by which it is known, beside its tokens: a URI or a DNS name.
    #[serde(default)]
    pub certificate: Option<String>,
    /// How much it may have.
    #[serde(default, deserialize_with = "crate::object::object")]
    pub quota: IdentityQuota,
}

/// An identity among others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IdentitySummary {
    /// Its name.
    pub identity: String,
    /// The roles that it has.
    pub roles: Vec<String>,
    /// The name in the client certificate by which it is known.
    pub certificate: Option<String>,
    /// How much it may have.
    pub quota: IdentityQuota,
}

/// The answer of `GET` and `PUT /v1/identities/{name}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// Its name.
    pub identity: String,
    /// The roles that it has.
    pub roles: Vec<String>,
    /// The name in the client certificate by which it is known.
    pub certificate: Option<String>,
    /// How much it may have.
    pub quota: IdentityQuota,
    /// The revision that this reflects; a change of identities makes none.
    pub revision: u64,
}

/// The answer of `DELETE /v1/identities/{name}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IdentityDeleted {
    /// Which.
    pub identity: String,
    /// `true`.
    pub deleted: bool,
    /// The present revision.
    pub revision: u64,
}

/// The answer of `GET /v1/identities`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IdentityPage {
    /// Identities in the order of their names.
    pub identities: Vec<IdentitySummary>,
    /// Whether there are more.
    pub more: bool,
    /// What to send as `start_after` for them.
    pub next: Option<String>,
    /// How many there are in all.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Whom it proves.
    pub identity: String,
    /// How long, by the wall clock of the member that looks at it; without, until it is deleted.
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
}

/// The answer of `POST /v1/tokens`: the only time that its secret is shown.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    /// What to send as `Authorization: Bearer …`: the id, a dot and the secret. Nobody can show it again.
    pub token: String,
    /// Its id, which is no secret.
    pub id: String,
    /// Whom it proves.
    pub identity: String,
    /// How long.
    pub expires_in_ms: Option<u64>,
    /// The present revision.
    pub revision: u64,
}

/// Without the secret, so that nobody logs it by accident.
impl fmt::Debug for TokenCreated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenCreated")
            .field("id", &self.id)
            .field("identity", &self.identity)
            .field("expires_in_ms", &self.expires_in_ms)
            .finish_non_exhaustive()
    }
}

/// A token among others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// Its id.
    pub id: String,
    /// Whom it proves.
    pub identity: String,
    /// How much longer, by the wall clock of the member that answers: 0 where it has expired.
    pub expires_in_ms: Option<u64>,
}

/// The answer of `GET /v1/tokens`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenPage {
    /// Tokens in the order of their ids.
    pub tokens: Vec<Token>,
    /// Whether there are more.
    pub more: bool,
    /// What to send as `start_after` for them.
    pub next: Option<String>,
    /// How many there are in all.
    pub count: u64,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The answer of `DELETE /v1/tokens/{id}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenDeleted {
    /// Which.
    pub id: String,
    /// `true`.
    pub deleted: bool,
    /// The present revision.
    pub revision: u64,
}

/// Whether access control is on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AccessSwitch {
    /// Everybody proves who they are.
    On,
    /// Everybody is `anonymous` and may do everything.
    Off,
}

/// The answer of `GET /v1/whoami`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// Who asks; `anonymous` while access control is off.
    pub identity: String,
    /// The roles that it has.
    pub roles: Vec<String>,
    /// Whether access control is on.
    pub access: AccessSwitch,
    /// The id of the token that proved it; `null` where a certificate did, or nothing had to.
    pub token: Option<String>,
    /// How much longer that token proves it.
    pub expires_in_ms: Option<u64>,
    /// The revision that this reflects.
    pub revision: u64,
}

/// The answer of `GET` and `PATCH /v1/access`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Access {
    /// Whether access control is on.
    pub enabled: bool,
    /// The revision that this reflects.
    pub revision: u64,
}

/// `PATCH /v1/access`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeAccess {
    /// Whether it is to be on. That takes somebody who may administer then: an identity with the verb `admin` and a
    /// token that has not expired, or a certificate.
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_logged_by_accident_does_not_show_its_secret() {
        let created = TokenCreated {
            token: "00000000000000a1.c0ffee".to_owned(),
            id: "00000000000000a1".to_owned(),
            identity: "ci".to_owned(),
            expires_in_ms: None,
            revision: 7,
        };
        let logged = format!("{created:?}");
        assert!(logged.contains("00000000000000a1") && !logged.contains("c0ffee"));
        let sent = serde_json::to_string(&created).expect("it has a form");
        assert!(sent.contains("c0ffee"), "it is shown to whoever asked");
    }

    #[test]
    fn what_is_an_object_is_not_read_from_an_array_of_its_fields() {
        let role = |text: &str| serde_json::from_str::<PutRole>(text);
        assert!(role(r#"{"grants":[{"verbs":["read"],"resource":"keys/"}]}"#).is_ok());
        let refused = role(r#"{"grants":[[["read"],"keys/","prefix"]]}"#).expect_err("an array");
        assert!(
            refused.to_string().contains("expected an object"),
            "{refused}"
        );
        let identity = |text: &str| serde_json::from_str::<PutIdentity>(text);
        assert!(identity(r#"{"roles":[],"quota":{"leases":1}}"#).is_ok());
        assert!(identity(r#"{"roles":[],"quota":[1,null,null]}"#).is_err());
        assert!(identity(r#"{"roles":[],"quota":null}"#).is_err());
    }

    #[test]
    fn a_grant_is_of_a_prefix_unless_it_says_otherwise() {
        let read = |text: &str| serde_json::from_str::<RoleGrant>(text);
        let plain = read(r#"{"verbs":["read"],"resource":"keys/a/"}"#).expect("a grant");
        assert_eq!(plain.compared, GrantMatch::Prefix);
        let exact = read(r#"{"verbs":["read"],"resource":"keys/a","match":"exact"}"#);
        assert_eq!(exact.expect("a grant").compared, GrantMatch::Exact);
        assert!(read(r#"{"verbs":["fly"],"resource":""}"#).is_err());
        assert!(read(r#"{"verbs":["read"],"resource":"","prefix":true}"#).is_err());
    }
}
