//! Which rules the cluster follows, in words: who keeps it from following newer ones, and what to do.
//!
//! Owns sentences. Whether the version is raised, and when, is the leader's business alone (`tenure_replica`).

use tenure_api::Code;
use tenure_raft::{Configuration, MemberId};
use tenure_state::{ACCESS_STATE_VERSION, STATE_VERSION};

use super::failure::Failure;
use super::membership;
use super::service::Context;
use crate::node::Handle;
use crate::transport::Hello;

/// Refuses a change of who may do what while the cluster follows rules that do not know of it.
///
/// # Errors
///
/// `access-conflict`, with the members that hold the cluster back.
pub(super) async fn check_access_is_known(cx: &Context<'_>) -> Result<(), Failure> {
    let handle = cx.handle();
    let is_known = || ACCESS_STATE_VERSION <= handle.state_version().0;
    if is_known() {
        return Ok(());
    }
    // This member may be behind, or have no state yet.
    cx.barrier().await?;
    if is_known() {
        return Ok(());
    }
    let (in_force, _) = handle.state_version();
    let report = handle.progress().await;
    let because = match &report {
        Ok(report) if report.versions.is_empty() => format!(
            "the leader, {}, says nothing of versions: it runs a program of before there was access control, and is to be upgraded, or \
             has just had the version raised",
            membership::called(&handle.status().configuration, report.leader)
        ),
        Ok(report) => {
            let configuration = handle.status().configuration;
            because(&configuration, &report.versions, ACCESS_STATE_VERSION)
        }
        Err(_) => "no leader says which; look at `GET /v1/status` of each".to_owned(),
    };
    Err(Failure::new(
        Code::AccessConflict,
        format!(
            "nothing was changed: roles, identities, tokens and access control came with state version {ACCESS_STATE_VERSION}, and this \
             cluster follows {in_force} until every member can follow the newer one; {because}"
        ),
    ))
}

/// Refuses a member that could not follow the cluster it is to join.
///
/// # Errors
///
/// `membership-unsafe`, saying what to do.
pub(super) fn check_can_follow(hello: &Hello, in_force: u64) -> Result<(), Failure> {
    let most = hello.state_version_at_most;
    if in_force <= most {
        return Ok(());
    }
    Err(membership::not_safe(format!(
        "{} can follow up to state version {most}, and this cluster follows {in_force}: start a newer program there, or take \
         state_version_at_most out of its settings",
        super::text::shown(&hello.name)
    )))
}

/// What an operator should know where some members can follow newer rules and others cannot; a leader knows.
pub(super) fn warning(handle: &Handle) -> Option<String> {
    let (in_force, _) = handle.state_version();
    let said = handle.versions();
    let newest = said.iter().map(|(_, version)| *version).max()?;
    let (_, configuration) = handle.consensus();
    let is_held_back = in_force < newest && !holding_back(&configuration, &said, newest).is_empty();
    is_held_back.then(|| {
        format!(
            "state version: the cluster follows {in_force}, though some of its members can follow {newest}, and takes no changes of \
             roles, identities, tokens and access control before all can; {}",
            because(&configuration, &said, newest)
        )
    })
}

/// Who cannot follow `wanted`, and what to do about it.
fn because(configuration: &Configuration, said: &[(MemberId, u64)], wanted: u64) -> String {
    let holding_back = holding_back(configuration, said, wanted);
    match holding_back.is_empty() {
        true => "every member has said that it can, and the leader has it raised within moments: ask again".to_owned(),
        false => format!(
            "{}; upgrade these members, or take state_version_at_most out of their settings, and restart them one after the other",
            holding_back.join(", ")
        ),
    }
}

/// The members that have not said that they can follow `wanted`, each with what it said.
fn holding_back(
    configuration: &Configuration,
    said: &[(MemberId, u64)],
    wanted: u64,
) -> Vec<String> {
    let members = configuration.members().into_iter();
    let of_each = members.filter_map(|id| {
        let name = membership::called(configuration, id);
        match said.iter().find(|(member, _)| *member == id) {
            Some((_, version)) if wanted.min(STATE_VERSION) <= *version => None,
            Some((_, version)) => Some(format!("{name} can follow up to {version}")),
            None => Some(format!(
                "{name} has not said what it can (it does not answer, or runs a program of before there was access control)"
            )),
        }
    });
    of_each.collect()
}

#[cfg(test)]
mod tests {
    use tenure_raft::MemberInfo;

    use super::*;

    fn three() -> Configuration {
        let info = |name: &str| MemberInfo {
            name: name.to_owned(),
            ..MemberInfo::default()
        };
        Configuration {
            voters: [1, 2].map(MemberId).into(),
            learners: [3].map(MemberId).into(),
            info: [(1, "n1"), (2, "n2"), (3, "n3")]
                .map(|(id, name)| (MemberId(id), info(name)))
                .into(),
            ..Configuration::default()
        }
    }

    #[test]
    fn whoever_holds_the_cluster_back_is_named_and_nobody_else() {
        let check = |said: &[(u64, u64)], named: &[&str], unnamed: &[&str]| {
            let said: Vec<_> = said
                .iter()
                .map(|(id, most)| (MemberId(*id), *most))
                .collect();
            let text = because(&three(), &said, 2);
            assert!(named.iter().all(|part| text.contains(part)), "{text}");
            assert!(!unnamed.iter().any(|part| text.contains(part)), "{text}");
        };
        check(
            &[(1, 2), (2, 1)],
            &[
                "n2",
                "up to 1",
                "n3",
                "has not said",
                "state_version_at_most",
            ],
            &["n1"],
        );
        check(
            &[(1, 2), (2, 2), (3, 2)],
            &["ask again"],
            &["n1", "upgrade"],
        );
        check(&[], &["n1", "n2", "n3"], &["up to"]);
    }
}
