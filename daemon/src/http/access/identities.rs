//! Identities: who asks, by which roles and within which quota.

use tenure_api::{
    self as api, Code, MAX_CERTIFICATE_NAME_BYTES, MAX_REVISION, MAX_ROLES_OF_IDENTITY,
};
use tenure_state::{AccessChange, Identity, Quota};

use super::super::failure::Failure;
use super::super::reading::Reading;
use super::super::reply::Reply;
use super::super::service::Context;
use super::super::text;
use super::{Paging, admin, behind, changed};

/// `GET /v1/identities`
pub(in crate::http) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let paging = Paging::of(&mut cx)?;
    let page = paging.read(&mut cx, |access, after| {
        let identities = access.identities();
        let count = identities.len() as u64;
        let summary = |(name, identity): (&str, &Identity)| {
            let summary = api::IdentitySummary {
                identity: name.to_owned(),
                roles: identity.roles.clone(),
                certificate: identity.certificate.clone(),
                quota: shown(identity.quota),
            };
            (name.to_owned(), identity.roles.len(), summary)
        };
        (count, behind(identities, after).map(summary).collect())
    });
    let page = page.await?;
    page.answer(&api::IdentityPage {
        identities: page.items.clone(),
        more: page.next.is_some(),
        next: page.next.clone(),
        count: page.count,
        revision: page.revision.0,
    })
}

/// `GET /v1/identities/{name}`
pub(in crate::http) async fn read(mut cx: Context<'_>, name: &str) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let settled = admin(&cx, reading).await?;
    let (identity, revision) = cx.handle().read(|state| {
        let identity = state.access().identity(name).cloned();
        (identity, state.revision())
    });
    let Some(identity) = identity else {
        return Err(settled.mark_failure(not_found(name).at(revision)));
    };
    let identity = whole(name, identity, revision.0);
    Ok(settled.mark(Reply::json(200, revision, &identity)?))
}

/// `PUT /v1/identities/{name}`
pub(in crate::http) async fn put(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::PutIdentity = cx.json().await?;
    let identity = understood(asked)?;
    let in_words = format!(
        "put {name:?}: roles {:?}, certificate {:?}, quota {:?}",
        identity.roles, identity.certificate, identity.quota
    );
    let change = AccessChange::PutIdentity {
        name: name.clone(),
        identity: identity.clone(),
    };
    let revision = changed(&cx, "identities", in_words, change).await?;
    Reply::json(200, revision, &whole(&name, identity, revision.0))
}

/// `DELETE /v1/identities/{name}`
pub(in crate::http) async fn delete(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let change = AccessChange::DeleteIdentity { name: name.clone() };
    let asked = format!("delete {name:?} with its tokens");
    let revision = changed(&cx, "identities", asked, change).await?;
    let deleted = api::IdentityDeleted {
        identity: name,
        deleted: true,
        revision: revision.0,
    };
    Reply::json(200, revision, &deleted)
}

/// There is none of that name.
pub(in crate::http) fn not_found(name: &str) -> Failure {
    let name = text::shown(name);
    Failure::new(
        Code::IdentityNotFound,
        format!("there is no identity {name}; GET /v1/identities shows which there are"),
    )
}

fn understood(asked: api::PutIdentity) -> Result<Identity, Failure> {
    if MAX_ROLES_OF_IDENTITY < asked.roles.len() {
        let detail = format!(
            "field `roles` has {} names; accepted are at most {MAX_ROLES_OF_IDENTITY}",
            asked.roles.len()
        );
        return Err(Failure::invalid(detail));
    }
    for (number, role) in asked.roles.iter().enumerate() {
        let place = format!("roles[{number}]");
        text::access_name("it", role).map_err(|failure| failure.in_body(&place))?;
        if asked.roles[..number].contains(role) {
            let detail = format!("{} is named twice; name each role once", text::shown(role));
            return Err(Failure::invalid(detail).in_body(&place));
        }
    }
    if let Some(certificate) = &asked.certificate {
        let named = text::bounded("it", certificate, MAX_CERTIFICATE_NAME_BYTES);
        named.map_err(|failure| failure.in_body("certificate"))?;
        if certificate.is_empty() {
            let detail = "it is empty; accepted is a URI or a DNS name of a certificate, or `null`";
            return Err(Failure::invalid(detail).in_body("certificate"));
        }
    }
    let quota = asked.quota;
    for (field, given) in [
        ("leases", quota.leases),
        ("places", quota.places),
        ("requests_per_second", quota.requests_per_second),
    ] {
        let least = u64::from(field == "requests_per_second");
        if given.is_some_and(|given| given < least || MAX_REVISION <= given) {
            let detail = format!(
                "it is {}; accepted are {least} to {}, and `null` for no quota",
                given.unwrap_or_default(),
                MAX_REVISION - 1
            );
            return Err(Failure::invalid(detail).in_body(field).in_body("quota"));
        }
    }
    Ok(Identity {
        roles: asked.roles,
        certificate: asked.certificate,
        quota: Quota {
            leases: quota.leases,
            places: quota.places,
            requests_per_second: quota.requests_per_second,
        },
    })
}

fn shown(quota: Quota) -> api::IdentityQuota {
    let Quota {
        leases,
        places,
        requests_per_second,
    } = quota;
    api::IdentityQuota {
        leases,
        places,
        requests_per_second,
    }
}

fn whole(name: &str, identity: Identity, revision: u64) -> api::Identity {
    api::Identity {
        identity: name.to_owned(),
        roles: identity.roles,
        certificate: identity.certificate,
        quota: shown(identity.quota),
        revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(roles: &[&str], certificate: Option<&str>) -> api::PutIdentity {
        api::PutIdentity {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            certificate: certificate.map(str::to_owned),
            quota: api::IdentityQuota::default(),
        }
    }

    #[test]
    fn identities_are_held_to_the_contract() {
        let refused = |asked: api::PutIdentity, expected: &str| {
            let failure = understood(asked).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        assert!(understood(identity(&[], None)).is_ok());
        assert!(understood(identity(&["a", "b"], Some("spiffe://example/ci"))).is_ok());
        refused(identity(&["a", "a"], None), "`a` is named twice");
        refused(identity(&[""], None), "1 to 128 bytes");
        refused(identity(&[], Some("")), "it is empty");
        refused(identity(&[], Some("a\nb")), "control character");
        refused(identity(&["a"; 65], None), "has 65 names");
        let never = api::PutIdentity {
            quota: api::IdentityQuota {
                requests_per_second: Some(0),
                ..api::IdentityQuota::default()
            },
            ..identity(&[], None)
        };
        refused(never, "it is 0; accepted are 1 to");
    }
}
