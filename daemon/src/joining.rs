//! A member without data becomes part of a cluster that runs.
//!
//! Owns the way from "told of a cluster" to "a learner of it": the member asks the cluster to add it, by the public API of
//! any member, or an operator has, and it looks who belongs to it. What it gets on its disk then begins before everything, so that nothing but
//! a snapshot of the leader's can follow; and it calls itself a learner whatever the cluster says of it, so that a
//! member that has nothing never campaigns. Never adds itself where the cluster knows its name under another id: that
//! member's data was here, and an operator must say that it is replaced. Left out: forming a cluster (`forming`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use tenure_api as api;
use tenure_raft::{Configuration, MemberId, MemberInfo, SnapshotMeta};

use crate::tls::Calling;
use crate::transport::{ClusterId, DialError, call_client, parse_member_id};

/// Pause between two askings.
const PAUSE: Duration = Duration::from_secs(1);
/// A cluster that says no is asked more rarely: an operator has to do something first.
const PAUSE_AFTER_NO: Duration = Duration::from_secs(5);
/// How often the same problem is said again.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// How long the cluster may take to answer: it probes this member before it adds it, and commits that.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// A cluster that has this member for a learner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Joined {
    /// Its id.
    pub cluster: ClusterId,
    /// Who belonged to it when it was asked, this member as a learner.
    pub configuration: Configuration,
}

impl Joined {
    /// What the log and the state of this member begin behind.
    pub fn base(&self) -> SnapshotMeta {
        SnapshotMeta {
            configuration: Arc::new(self.configuration.clone()),
            ..SnapshotMeta::default()
        }
    }
}

/// Who wants to join.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The id that its data directory drew.
    pub member: MemberId,
    /// What it is called.
    pub name: String,
    /// Where other members reach it.
    pub peer_url: String,
    /// Where clients reach it.
    pub client_url: String,
}

/// Why a cluster is not joined yet.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It could not be asked, or did not answer in time.
    #[error("{0}")]
    Unreachable(#[from] DialError),
    /// It cannot add anybody just now.
    #[error("{0}")]
    NotNow(String),
    /// It does not add this member.
    #[error("{0}")]
    Refused(String),
    /// It is no cluster of ours.
    #[error("its answer makes no sense: {0}")]
    Answer(String),
}

/// Asks the cluster at `url` to add this member until it has, and says what it waits for. Never gives up.
pub async fn join(calling: &Calling, url: &str, newcomer: &Newcomer) -> Joined {
    let mut said: Option<(String, tokio::time::Instant)> = None;
    loop {
        let trouble = match ask(calling, url, newcomer).await {
            Ok(joined) => return joined,
            Err(trouble) => trouble,
        };
        let text = trouble.to_string();
        let is_news = said
            .as_ref()
            .is_none_or(|(last, when)| *last != text || SAY_EVERY <= when.elapsed());
        if is_news {
            match &trouble {
                Trouble::Refused(_) | Trouble::Answer(_) => {
                    tracing::error!(
                        cluster = url,
                        "the cluster at {url} does not add {}: {text}; waiting",
                        newcomer.name
                    );
                }
                Trouble::Unreachable(_) | Trouble::NotNow(_) => {
                    tracing::info!(
                        cluster = url,
                        "waiting to join the cluster at {url}: {text}"
                    );
                }
            }
            said = Some((text, tokio::time::Instant::now()));
        }
        let pause = match trouble {
            Trouble::Unreachable(_) | Trouble::NotNow(_) => PAUSE,
            Trouble::Refused(_) | Trouble::Answer(_) => PAUSE_AFTER_NO,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn ask(calling: &Calling, url: &str, newcomer: &Newcomer) -> Result<Joined, Trouble> {
    let body = serde_json::json!({
        "name": newcomer.name,
        "peer_url": newcomer.peer_url,
        "client_url": newcomer.client_url,
    });
    let body = Bytes::from(body.to_string());
    let request = (Method::POST, "/v1/cluster/members", body);
    let (status, answer) = call_client(calling, url, request, ANSWER_PATIENCE).await?;
    match status {
        StatusCode::CREATED | StatusCode::OK => {}
        // Whoever may not have members added may see whether an operator has.
        StatusCode::FORBIDDEN => {
            let looked = look(calling, url, newcomer.member).await;
            let added = looked.ok().flatten();
            return added.ok_or_else(|| refusal(status, &answer));
        }
        _ => return Err(refusal(status, &answer)),
    }
    look(calling, url, newcomer.member).await?.ok_or_else(|| {
        Trouble::NotNow("it has added this member and does not show it yet".to_owned())
    })
}

/// The cluster at `url`, if this member belongs to it.
///
/// # Errors
/// Where it cannot be asked.
async fn look(calling: &Calling, url: &str, member: MemberId) -> Result<Option<Joined>, Trouble> {
    let request = (Method::GET, "/v1/cluster", Bytes::new());
    let (status, answer) = call_client(calling, url, request, ANSWER_PATIENCE).await?;
    if status != StatusCode::OK {
        return Err(refusal(status, &answer));
    }
    let cluster: api::Cluster =
        serde_json::from_slice(&answer).map_err(|error| Trouble::Answer(error.to_string()))?;
    joined(&cluster, member)
}

/// The cluster at `url`, if this member is a learner of it: one that lost its data and is being replaced learns so that
/// it has been admitted under the id that it has now.
///
/// # Errors
/// Where it cannot be looked at, in words.
pub async fn admitted(
    calling: &Calling,
    url: &str,
    member: MemberId,
) -> Result<Option<Joined>, String> {
    let looked = look(calling, url, member).await;
    looked.map_err(|error| error.to_string())
}

fn refusal(status: StatusCode, answer: &[u8]) -> Trouble {
    /// What of a problem is told.
    #[derive(Deserialize)]
    struct Said {
        code: String,
        detail: String,
    }
    let Ok(Said { code, detail }) = serde_json::from_slice(answer) else {
        return Trouble::Answer(format!("{status} without a problem that could be read"));
    };
    let printable = |text: &str| -> String {
        let shown = text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c });
        shown.take(512).collect()
    };
    let text = format!("{}: {}", printable(&code), printable(&detail));
    if status.is_server_error() || code == "membership-busy" {
        Trouble::NotNow(text)
    } else {
        Trouble::Refused(text)
    }
}

/// Who belongs to the cluster, with this member as a learner; `None` where it does not belong to it as one.
fn joined(cluster: &api::Cluster, me: MemberId) -> Result<Option<Joined>, Trouble> {
    let wrong = |what: &str| Trouble::Answer(format!("{what} is no id"));
    let id = cluster
        .cluster
        .parse()
        .map_err(|_| wrong(&cluster.cluster))?;
    let mut configuration = Configuration::default();
    let mut is_learner = false;
    for member in &cluster.members {
        let id = parse_member_id(&member.id).map_err(|_| wrong(&member.id))?;
        let info = MemberInfo {
            name: member.name.clone(),
            peer_url: member.peer_url.clone(),
            client_url: member.client_url.clone(),
            start: None,
        };
        configuration.info.insert(id, info);
        match member.role {
            api::MemberRole::Voter => configuration.voters.insert(id),
            api::MemberRole::Learner => configuration.learners.insert(id),
        };
        is_learner |= id == me && member.role == api::MemberRole::Learner;
    }
    if !is_learner {
        return Ok(None);
    }
    if configuration.voters.is_empty() {
        return Err(Trouble::Answer("it shows no voters".to_owned()));
    }
    Ok(Some(Joined {
        cluster: id,
        configuration,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(roles: &[(&str, api::MemberRole)]) -> api::Cluster {
        let member = |(id, role): &(&str, api::MemberRole)| api::Member {
            id: (*id).to_owned(),
            name: format!("n{id}"),
            peer_url: "http://a:1".to_owned(),
            client_url: "http://a:2".to_owned(),
            role: *role,
            promote: false,
            replaces: None,
            leaving: false,
            state: None,
            match_index: None,
            lag: None,
            last_contact_ms: None,
            snapshot_sent: None,
        };
        api::Cluster {
            cluster: format!("{:032x}", 9),
            leader: None,
            term: 1,
            revision: 1,
            commit_index: 1,
            changing: false,
            members: roles.iter().map(member).collect(),
        }
    }

    #[test]
    fn a_newcomer_takes_part_as_a_learner_or_not_at_all() {
        use api::MemberRole::{Learner, Voter};
        let (one, two) = ("0000000000000001", "0000000000000002");
        let me = MemberId(2);
        let joined_as = |roles: &[_]| joined(&cluster(roles), me).expect("it makes sense");
        let found = joined_as(&[(one, Voter), (two, Learner)]).expect("it belongs to it");
        assert_eq!(found.cluster, ClusterId(9));
        assert_eq!(found.configuration.voters, [MemberId(1)].into());
        assert_eq!(found.configuration.learners, [me].into());
        assert_eq!(found.base().position, Default::default());
        assert_eq!(joined_as(&[(one, Voter)]), None);
        assert_eq!(joined_as(&[(one, Voter), (two, Voter)]), None);
        for senseless in [cluster(&[(two, Learner)]), cluster(&[("2", Learner)])] {
            assert!(matches!(joined(&senseless, me), Err(Trouble::Answer(_))));
        }
    }

    #[test]
    fn a_refusal_says_whether_waiting_helps_and_cannot_forge_a_line() {
        let problem =
            |code: &str| format!("{{\"code\":\"{code}\",\"detail\":\"a\\nb\",\"status\":1}}");
        let of = |status, code: &str| refusal(status, problem(code).as_bytes());
        for (status, code) in [
            (StatusCode::CONFLICT, "membership-busy"),
            (StatusCode::SERVICE_UNAVAILABLE, "no-leader"),
        ] {
            assert!(matches!(of(status, code), Trouble::NotNow(_)), "{code}");
        }
        let Trouble::Refused(text) = of(StatusCode::CONFLICT, "membership-unsafe") else {
            panic!("it is refused");
        };
        assert_eq!(text, "membership-unsafe: a\u{fffd}b");
        assert!(matches!(
            refusal(StatusCode::NOT_FOUND, b"<html>"),
            Trouble::Answer(_)
        ));
    }
}
