//! Roles: verbs on resources, under a name.

use std::collections::BTreeSet;

use tenure_api::{self as api, AccessVerb, Code, GrantMatch, MAX_GRANTS};
use tenure_state::{AccessChange, Collection, RoleGrant, Verb};

use super::super::failure::Failure;
use super::super::reading::Reading;
use super::super::reply::Reply;
use super::super::service::Context;
use super::super::text;
use super::{Paging, admin, behind, changed};

/// `GET /v1/roles`
pub(in crate::http) async fn list(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let paging = Paging::of(&mut cx)?;
    let page = paging.read(&mut cx, |access, after| {
        let roles = access.roles();
        let count = roles.len() as u64;
        let summary = |(name, grants): (&str, &[RoleGrant])| {
            let summary = api::RoleSummary {
                role: name.to_owned(),
                grants: shown(grants),
            };
            (name.to_owned(), grants.len(), summary)
        };
        (count, behind(roles, after).map(summary).collect())
    });
    let page = page.await?;
    page.answer(&api::RolePage {
        roles: page.items.clone(),
        more: page.next.is_some(),
        next: page.next.clone(),
        count: page.count,
        revision: page.revision.0,
    })
}

/// `GET /v1/roles/{name}`
pub(in crate::http) async fn read(mut cx: Context<'_>, name: &str) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let settled = admin(&cx, reading).await?;
    let (grants, revision) = cx.handle().read(|state| {
        let grants = state.access().role(name).map(shown);
        (grants, state.revision())
    });
    let Some(grants) = grants else {
        return Err(settled.mark_failure(not_found(name).at(revision)));
    };
    let role = api::AccessRole {
        role: name.to_owned(),
        grants,
        revision: revision.0,
    };
    Ok(settled.mark(Reply::json(200, revision, &role)?))
}

/// `PUT /v1/roles/{name}`
pub(in crate::http) async fn put(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::PutRole = cx.json().await?;
    let grants = understood(&asked.grants)?;
    let (in_words, shown) = (in_words(&grants), shown(&grants));
    let change = AccessChange::PutRole {
        name: name.clone(),
        grants,
    };
    let asked = format!("put {name:?}: {in_words}");
    let revision = changed(&cx, "roles", asked, change).await?;
    let role = api::AccessRole {
        role: name,
        grants: shown,
        revision: revision.0,
    };
    Reply::json(200, revision, &role)
}

/// `DELETE /v1/roles/{name}`
pub(in crate::http) async fn delete(mut cx: Context<'_>, name: String) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let change = AccessChange::DeleteRole { name: name.clone() };
    let revision = changed(&cx, "roles", format!("delete {name:?}"), change).await?;
    let deleted = api::RoleDeleted {
        role: name,
        deleted: true,
        revision: revision.0,
    };
    Reply::json(200, revision, &deleted)
}

/// There is none of that name.
pub(in crate::http) fn not_found(name: &str) -> Failure {
    let name = text::shown(name);
    Failure::new(
        Code::RoleNotFound,
        format!("there is no role {name}; GET /v1/roles shows which there are"),
    )
}

/// Grants as the state machine has them.
fn understood(grants: &[api::RoleGrant]) -> Result<Vec<RoleGrant>, Failure> {
    if MAX_GRANTS < grants.len() {
        let detail = format!(
            "field `grants` has {} grants; accepted are at most {MAX_GRANTS}",
            grants.len()
        );
        return Err(Failure::invalid(detail));
    }
    let one = |(number, grant): (usize, &api::RoleGrant)| {
        grant_of(grant).map_err(|failure| failure.in_body(&format!("grants[{number}]")))
    };
    grants.iter().enumerate().map(one).collect()
}

fn grant_of(grant: &api::RoleGrant) -> Result<RoleGrant, Failure> {
    let verbs: BTreeSet<Verb> = grant.verbs.iter().copied().map(verb).collect();
    if verbs.is_empty() {
        let all: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        let detail = format!(
            "it is empty; accepted is at least one of {}",
            all.join(", ")
        );
        return Err(Failure::invalid(detail).in_body("verbs"));
    }
    let resource = &grant.resource;
    let exact = grant.compared == GrantMatch::Exact;
    check_resource(resource, exact).map_err(|failure| failure.in_body("resource"))?;
    if verbs.contains(&Verb::Admin) && (exact || !resource.is_empty()) {
        let shown = text::shown(resource);
        let detail = format!(
            "`admin` on {shown} makes no sense: it is everything; accepted is the empty resource with `prefix`"
        );
        return Err(Failure::invalid(detail).in_body("verbs"));
    }
    Ok(RoleGrant {
        verbs,
        resource: resource.clone(),
        exact,
    })
}

fn check_resource(resource: &str, exact: bool) -> Result<(), Failure> {
    if resource.is_empty() && !exact {
        return Ok(());
    }
    let prefixes = Collection::ALL.map(Collection::prefix);
    let name = prefixes
        .iter()
        .find_map(|prefix| resource.strip_prefix(prefix));
    let Some(name) = name else {
        let prefixes: Vec<String> = prefixes
            .iter()
            .map(|prefix| format!("`{prefix}`"))
            .collect();
        return Err(Failure::invalid(format!(
            "{} begins with no collection; accepted are {}, each with a name or the beginning of one, and the empty \
             prefix for everything",
            text::shown(resource),
            prefixes.join(", ")
        )));
    };
    if exact && name.is_empty() {
        return Err(Failure::invalid(format!(
            "{} names nothing in its collection; with `exact` accepted is a whole name",
            text::shown(resource)
        )));
    }
    text::prefix("the name in it", name.to_owned()).map(drop)
}

fn verb(verb: AccessVerb) -> Verb {
    match verb {
        AccessVerb::Read => Verb::Read,
        AccessVerb::List => Verb::List,
        AccessVerb::Write => Verb::Write,
        AccessVerb::Delete => Verb::Delete,
        AccessVerb::Lock => Verb::Lock,
        AccessVerb::Break => Verb::Break,
        AccessVerb::Campaign => Verb::Campaign,
        AccessVerb::Lease => Verb::Lease,
        AccessVerb::Watch => Verb::Watch,
        AccessVerb::Admin => Verb::Admin,
    }
}

fn shown_verb(verb: Verb) -> AccessVerb {
    match verb {
        Verb::Read => AccessVerb::Read,
        Verb::List => AccessVerb::List,
        Verb::Write => AccessVerb::Write,
        Verb::Delete => AccessVerb::Delete,
        Verb::Lock => AccessVerb::Lock,
        Verb::Break => AccessVerb::Break,
        Verb::Campaign => AccessVerb::Campaign,
        Verb::Lease => AccessVerb::Lease,
        Verb::Watch => AccessVerb::Watch,
        Verb::Admin => AccessVerb::Admin,
    }
}

fn shown(grants: &[RoleGrant]) -> Vec<api::RoleGrant> {
    let one = |grant: &RoleGrant| api::RoleGrant {
        verbs: grant.verbs.iter().copied().map(shown_verb).collect(),
        resource: grant.resource.clone(),
        compared: match grant.exact {
            true => GrantMatch::Exact,
            false => GrantMatch::Prefix,
        },
    };
    grants.iter().map(one).collect()
}

/// For the audit.
fn in_words(grants: &[RoleGrant]) -> String {
    /// A line of the audit is for people.
    const MOST: usize = 20;
    let one = |grant: &RoleGrant| {
        let verbs: Vec<&str> = grant.verbs.iter().map(|verb| verb.as_str()).collect();
        let exactly = if grant.exact { "exactly " } else { "" };
        format!("{} on {exactly}{:?}", verbs.join("+"), grant.resource)
    };
    let mut words: Vec<String> = grants.iter().take(MOST).map(one).collect();
    if MOST < grants.len() {
        words.push(format!("and {} more", grants.len() - MOST));
    }
    match words.is_empty() {
        true => "no grants".to_owned(),
        false => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(verbs: &[AccessVerb], resource: &str, compared: GrantMatch) -> api::RoleGrant {
        api::RoleGrant {
            verbs: verbs.to_vec(),
            resource: resource.to_owned(),
            compared,
        }
    }

    #[test]
    fn grants_are_held_to_the_contract() {
        use AccessVerb::{Admin, Read};
        use GrantMatch::{Exact, Prefix};
        let refused = |grant: api::RoleGrant, expected: &str| {
            let failure = understood(&[grant]).expect_err(expected);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        };
        for fine in [
            grant(&[Read, Read], "keys/", Prefix),
            grant(&[Read], "", Prefix),
            grant(&[Admin], "", Prefix),
            grant(&[Read], "leases/3f9c2a7b5d1e8046", Exact),
            grant(&[Read], &format!("keys/{}", "x".repeat(1024)), Exact),
        ] {
            assert!(understood(std::slice::from_ref(&fine)).is_ok(), "{fine:?}");
        }
        refused(grant(&[], "keys/", Prefix), "at least one of read, list");
        refused(grant(&[Read], "key/", Prefix), "begins with no collection");
        refused(grant(&[Read], "keys", Prefix), "begins with no collection");
        refused(grant(&[Read], "", Exact), "begins with no collection");
        refused(grant(&[Read], "keys/", Exact), "names nothing");
        refused(grant(&[Read], "keys/a\n", Prefix), "control character");
        refused(grant(&[Admin], "keys/", Prefix), "`admin` on `keys/`");
        let many = vec![grant(&[Read], "", Prefix); MAX_GRANTS + 1];
        let failure = understood(&many).expect_err("too many");
        assert!(
            failure.detail.contains("has 257 grants"),
            "{}",
            failure.detail
        );
    }

    #[test]
    fn every_verb_has_one_name_on_the_wire_and_in_the_state() {
        for known in Verb::ALL {
            assert_eq!(verb(shown_verb(known)), known);
            let written = serde_json::to_value(shown_verb(known)).expect("it has a form");
            assert_eq!(written, known.as_str());
        }
    }
}
