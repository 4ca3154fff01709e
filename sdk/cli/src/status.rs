//! `tenure status`: how the cluster is, at a glance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tenure::api::{Cluster, Code, Member, MemberRole, MemberState, Status as OfMember};
use tenure::{Client, Error};
use tokio::task::JoinSet;

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::{self, BAD, Cell, GOOD, Output, Table};
use crate::settings::Session;

/// How long a member may take to say how it is.
const ASKED_FOR: Duration = Duration::from_secs(2);
/// A member that is this many entries behind is not called well.
const MOST_LAG: u64 = 10_000;

/// Shows the members, who leads, how far behind each is, and whether the cluster serves
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure status
  tenure status -o json | jq '.members[] | select(.well | not)'
  tenure status > /dev/null || echo 'the cluster does not serve'
Below the members is what those that serve say is wrong, and what to do about it. A member is asked at the URL that it \
tells, with the token of this client: not by http, unless that URL was given, where there is a token or the URLs that were \
given are https, and not with --only-given. Then it says why, and `well` in -o json is null.
It ends with 0 where there is a leader, also while some members are not well: `well` in -o json says of each. It ends with \
69 where there is no leader, or no member answers.")]
pub(crate) struct Status {}

/// A member as the leader sees it, and as it sees itself.
struct Seen {
    member: Member,
    itself: Result<OfMember, Silent>,
}

/// Why there is nothing of what a member says of itself.
struct Silent {
    /// In the table.
    short: &'static str,
    why: String,
    /// Whether it was asked: of one that was not, nothing is said to be wrong.
    asked: bool,
}

impl From<Error> for Silent {
    fn from(error: Error) -> Silent {
        let short = match error.code() {
            Some(Code::WrongCluster) => STRANGE,
            Some(_) => "refuses to say how it is",
            None => "does not answer",
        };
        Silent {
            short,
            why: error.to_string(),
            asked: true,
        }
    }
}

const STRANGE: &str = "is of another cluster";
const UNASKED: &str = "was not asked";

impl Status {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let client = &session.client;
        let (cluster, why) = match client.cluster().await {
            Ok(cluster) => (cluster, None),
            // Without a leader a member still says what it knows.
            Err(error) => match client
                .clone()
                .with_patience(ASKED_FOR)
                .local_cluster()
                .await
            {
                Ok(cluster) => (cluster, Some(error)),
                Err(_) => return Err(error.into()),
            },
        };
        let members = ask_all(client, &cluster).await;
        match session.output {
            Output::Json => tell(&cluster, &members)?,
            Output::Table => show(&cluster, &members)?,
        }
        match (why, &cluster.leader) {
            (Some(error), _) => Err(error.into()),
            (None, None) => Err(no_leader()),
            (None, Some(_)) => Ok(Exit::DONE),
        }
    }
}

fn no_leader() -> Trouble {
    Trouble::new(Exit::UNREACHABLE, "the cluster has no leader")
        .then("more than half of the voters must run and reach one another; their logs say what keeps them")
}

/// What members say of themselves, each at the URL that it tells, where it may be asked there; else at one that was given.
async fn ask_all(client: &Client, cluster: &Cluster) -> Vec<Seen> {
    let told = cluster.members.iter().map(|member| &member.client_url);
    let (asked, unasked): (BTreeSet<&String>, BTreeSet<&String>) =
        told.partition(|url| client.may_ask(url).is_ok());
    let mut asked: BTreeSet<String> = asked.into_iter().cloned().collect();
    if !unasked.is_empty() {
        asked.extend(client.urls());
    }
    let mut asking = JoinSet::new();
    for url in asked {
        let client = client.clone().with_patience(ASKED_FOR);
        asking.spawn(async move {
            let itself = client.status_of(&url).await;
            (url, itself)
        });
    }
    let told: BTreeMap<String, Result<OfMember, Error>> =
        asking.join_all().await.into_iter().collect();
    let seen = cluster.members.iter().map(|member| Seen {
        member: member.clone(),
        itself: itself(client, &told, member)
            .and_then(|itself| of_this_cluster(itself, &member.id, &cluster.cluster)),
    });
    seen.collect()
}

/// What a member said of itself, of all that was told at the URLs that were asked.
fn itself(
    client: &Client,
    told: &BTreeMap<String, Result<OfMember, Error>>,
    member: &Member,
) -> Result<OfMember, Silent> {
    let why = match (
        told.get(&member.client_url),
        client.may_ask(&member.client_url),
    ) {
        (Some(itself), _) => return itself.clone().map_err(Silent::from),
        (None, Err(why)) => why.to_string(),
        (None, Ok(())) => "the task that was to ask it has ended".into(),
    };
    let mut elsewhere = told.values().flatten();
    let found = elsewhere.find(|itself| itself.member == member.id);
    found.cloned().ok_or(Silent {
        short: UNASKED,
        why,
        asked: false,
    })
}

/// Whoever answers at the URL of a member may be somebody else: then how that one is says nothing.
fn of_this_cluster(itself: OfMember, member: &str, cluster: &str) -> Result<OfMember, Silent> {
    match strange(&itself, member, cluster) {
        None => Ok(itself),
        Some((short, why)) => Err(Silent {
            short,
            why,
            asked: true,
        }),
    }
}

/// Who answers in place of a member of a cluster, in short and in a sentence; none where that is who answers.
pub(crate) fn strange(
    itself: &OfMember,
    member: &str,
    cluster: &str,
) -> Option<(&'static str, String)> {
    let told =
        |what: &str, meant: &str, is: &str| format!("at its URL answers {what} {is}, not {meant}");
    if itself.cluster != cluster {
        return Some((STRANGE, told("cluster", cluster, &itself.cluster)));
    }
    (itself.member != member).then(|| {
        let why = told("member", member, &itself.member);
        ("another member answers", why)
    })
}

impl Seen {
    /// Whether it is well, where it was asked.
    fn is_well(&self) -> Option<bool> {
        let was_asked = self
            .itself
            .as_ref()
            .map_or_else(|silent| silent.asked, |_| true);
        was_asked.then(|| self.trouble().is_none())
    }

    /// What is wrong with it, or not known of it; nothing with one that is well.
    fn trouble(&self) -> Option<String> {
        let itself = match &self.itself {
            Ok(itself) => itself,
            Err(silent) => return Some(silent.short.into()),
        };
        if !itself.ready {
            return Some(itself.reasons.join(", "));
        }
        match (self.member.state, self.member.lag) {
            (Some(MemberState::Unreachable), _) => Some("the leader does not reach it".into()),
            (Some(MemberState::Snapshot), _) => Some("is sent a snapshot".into()),
            (_, Some(lag)) if lag > MOST_LAG => Some("is behind".into()),
            _ => None,
        }
    }
}

fn tell(cluster: &Cluster, members: &[Seen]) -> Result<(), Trouble> {
    let members = members.iter().map(|seen| {
        let (itself, error) = match &seen.itself {
            Ok(itself) => (Some(itself), None),
            Err(silent) => (None, Some(&silent.why)),
        };
        let mut told = serde_json::to_value(&seen.member).expect("wire types have a form in JSON");
        let more = json!({"status": itself, "error": error, "well": seen.is_well(),
            "trouble": seen.trouble()});
        if let (Some(told), Some(more)) = (told.as_object_mut(), more.as_object()) {
            told.extend(more.clone());
        }
        told
    });
    output::json(&json!({
        "cluster": cluster.cluster, "leader": cluster.leader, "term": cluster.term,
        "revision": cluster.revision, "commit_index": cluster.commit_index,
        "members": members.collect::<Vec<_>>(),
    }))?;
    Ok(())
}

fn show(cluster: &Cluster, members: &[Seen]) -> Result<(), Trouble> {
    let count = |is: Option<bool>| members.iter().filter(|seen| seen.is_well() == is).count();
    let (well, unasked) = (count(Some(true)), count(None));
    let style = if well + unasked == members.len() && cluster.leader.is_some() {
        GOOD
    } else {
        BAD
    };
    let unasked = match unasked {
        0 => String::new(),
        unasked => format!(", {unasked} not asked"),
    };
    let leader = cluster.leader.as_ref().and_then(|id| {
        let member = members.iter().find(|seen| seen.member.id == *id)?;
        Some(format!("{} leads", member.member.name))
    });
    let leader = leader.unwrap_or_else(|| "nobody leads".into());
    let mut table = Table::new(&[
        "MEMBER",
        "CLIENT URL",
        "ROLE",
        "STATE",
        "LAG",
        "CONTACT",
        "VERSION",
        "UP",
        "HEALTH",
    ]);
    members.iter().for_each(|seen| table.row(row(seen)));
    output::text(&format!(
        "{style}{well} of {} members are well{unasked}, {}{style:#}, term {}, revision {}, cluster {}\n\n{}{}{}",
        members.len(),
        output::shown(&leader),
        cluster.term,
        cluster.revision,
        cluster.cluster,
        table.render(),
        versions(members),
        warnings(members)
    ))?;
    Ok(())
}

/// Which rules the cluster follows, and what each member can, where that is not all the same.
fn versions(members: &[Seen]) -> String {
    let told = members.iter().filter_map(|seen| {
        let itself = seen.itself.as_ref().ok()?;
        let versions = (itself.state_version, itself.state_version_at_most);
        Some((seen.member.name.as_str(), versions))
    });
    let told: Vec<_> = told.collect();
    match versions_in_words(&told) {
        Some(line) => format!("\n{}\n", output::shown(&line)),
        None => String::new(),
    }
}

/// Of each member the version that it follows and the newest one that it can; 0 where it is of before there were versions.
fn versions_in_words(told: &[(&str, (u64, u64))]) -> Option<String> {
    let in_force = told.iter().map(|(_, (version, _))| *version).max()?;
    let is_usual = |(_, versions): &(&str, (u64, u64))| *versions == (in_force, in_force);
    if in_force == 0 || told.iter().all(is_usual) {
        return None;
    }
    let can = told.iter().map(|(name, (_, at_most))| match at_most {
        0 => format!("{name} does not say what it can"),
        at_most => format!("{name} can follow {at_most}"),
    });
    let can: Vec<String> = can.collect();
    Some(format!(
        "state version: the cluster follows {in_force}; {}",
        can.join(", ")
    ))
}

/// What members that serve say is wrong, and what to do about it; and why a member was not asked.
fn warnings(members: &[Seen]) -> String {
    let mut lines = String::new();
    for seen in members {
        let words: &[String] = match &seen.itself {
            Ok(itself) => &itself.warnings,
            Err(silent) if !silent.asked => std::slice::from_ref(&silent.why),
            Err(_) => &[],
        };
        for words in words {
            let line = format!("{}: {words}", seen.member.name);
            lines.push_str(&format!("\n{}", output::shown(&line)));
        }
    }
    match lines.is_empty() {
        true => lines,
        false => lines + "\n",
    }
}

fn row(seen: &Seen) -> Vec<Cell> {
    let unknown = || "-".to_owned();
    let member = &seen.member;
    let itself = seen.itself.as_ref().ok();
    let health = match (seen.trouble(), seen.is_well()) {
        (None, _) => Cell::styled("well", GOOD),
        (Some(unknown), None) => unknown.into(),
        (Some(trouble), Some(_)) => Cell::styled(trouble, BAD),
    };
    vec![
        member.name.as_str().into(),
        member.client_url.as_str().into(),
        role_in_words(member).into(),
        state_in_words(member).into(),
        member
            .lag
            .map_or_else(unknown, |lag| lag.to_string())
            .into(),
        member
            .last_contact_ms
            .map_or_else(unknown, duration::shown_ms)
            .into(),
        itself
            .map_or_else(unknown, |itself| itself.version.clone())
            .into(),
        itself
            .map_or_else(unknown, |itself| duration::shown_ms(itself.uptime_ms))
            .into(),
        health,
    ]
}

/// Whether a member votes.
pub(crate) fn role_in_words(member: &Member) -> &'static str {
    match member.role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
    }
}

/// How a member is being replicated to, where that is known.
pub(crate) fn state_in_words(member: &Member) -> &'static str {
    member.state.map_or("-", |state| match state {
        MemberState::Leader => "leader",
        MemberState::Replicating => "replicating",
        MemberState::Probing => "probing",
        MemberState::Snapshot => "snapshot",
        MemberState::Unreachable => "unreachable",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shown_where_members_differ_or_the_cluster_is_held_back() {
        let check = |told: &[(&str, (u64, u64))], words: Option<&str>| {
            assert_eq!(versions_in_words(told).as_deref(), words);
        };
        check(&[("n1", (2, 2)), ("n2", (2, 2))], None);
        check(&[("n1", (0, 0)), ("n2", (0, 0))], None);
        check(&[], None);
        check(
            &[("n1", (1, 2)), ("n2", (1, 1)), ("n3", (0, 0))],
            Some(
                "state version: the cluster follows 1; n1 can follow 2, n2 can follow 1, n3 does not say what it can",
            ),
        );
        check(
            &[("n1", (1, 2)), ("n2", (1, 2))],
            Some("state version: the cluster follows 1; n1 can follow 2, n2 can follow 2"),
        );
    }
}
