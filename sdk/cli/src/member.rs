//! `tenure member`: who belongs to the cluster, and how that is changed.
//!
//! Owns the waiting until a new member counts, and the steps at which an operator is asked to say `--yes`. Whether a
//! change is safe is for the cluster to say.

use std::time::Duration;

use serde_json::json;
use tenure::api::{AddMember, Cluster, Member as Shown, MemberRole, MemberState};
use tenure::{Client, Error};

use crate::exit::{Exit, Trouble};
use crate::output::{self, Cell, DIM, Output, Table, note};
use crate::settings::Session;
use crate::status::{role_in_words, state_in_words};

/// Between two looks at a member that catches up.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shows the members, adds, replaces, promotes and removes them, and says who leads
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Member {
    #[command(subcommand)]
    deed: Deed,
}

const EXAMPLES: &str = "\
Examples:
  tenure member list
  tenure member add n4 --peer-url http://10.0.0.4:7380 --client-url http://10.0.0.4:7379
  tenure member replace n2                    a new machine, or an empty disk, at the same addresses
  tenure member lead n1                       before the machine of the leader is restarted
  tenure member remove n4
A member is named by its id, 16 hex digits, or by its name. A change that could cost the quorum is refused with the reason.";

#[derive(clap::Subcommand, Debug)]
enum Deed {
    List(List),
    Add(Add),
    Replace(Replace),
    Promote(Promote),
    Remove(Remove),
    Lead(Lead),
}

impl Member {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self.deed {
            Deed::List(list) => list.run(session).await,
            Deed::Add(add) => add.run(session).await,
            Deed::Replace(replace) => replace.run(session).await,
            Deed::Promote(promote) => promote.run(session).await,
            Deed::Remove(remove) => remove.run(session).await,
            Deed::Lead(lead) => lead.run(session).await,
        }
    }
}

/// Shows the members with their ids and addresses, and what is under way
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure member list
  tenure member list -o json | jq -r '.members[] | select(.role == \"learner\") | .name'
`tenure status` also asks each member how it is.")]
struct List {}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let cluster = session.client.cluster().await?;
        match session.output {
            Output::Json => output::json(&cluster)?,
            Output::Table => output::text(&picture(&cluster))?,
        }
        Ok(Exit::DONE)
    }
}

fn picture(cluster: &Cluster) -> String {
    let mut table = Table::new(&[
        "MEMBER",
        "ID",
        "ROLE",
        "STATE",
        "LAG",
        "PEER URL",
        "CLIENT URL",
        "UNDER WAY",
    ]);
    for member in &cluster.members {
        let lag = member.lag;
        table.row(vec![
            member.name.as_str().into(),
            member.id.as_str().into(),
            role_in_words(member).into(),
            state_in_words(member).into(),
            lag.map_or_else(|| "-".into(), |lag| Cell::from(lag.to_string())),
            member.peer_url.as_str().into(),
            member.client_url.as_str().into(),
            under_way(cluster, member).unwrap_or_default().into(),
        ]);
    }
    let note = match cluster.changing {
        true => format!("{DIM}the voters are being changed{DIM:#}\n"),
        false => String::new(),
    };
    table.render() + &note
}

/// What becomes of a member by itself.
fn under_way(cluster: &Cluster, member: &Shown) -> Option<String> {
    if member.leaving {
        return Some("leaves".into());
    }
    if let Some(old) = &member.replaces {
        return Some(format!("takes the place of {}", name_of(cluster, old)));
    }
    member
        .promote
        .then(|| "gets a vote when it has caught up".into())
}

fn name_of(cluster: &Cluster, id: &str) -> String {
    let member = cluster.members.iter().find(|member| member.id == id);
    match member {
        Some(member) => called(member),
        None => id.to_owned(),
    }
}

/// `n2 (9c1b7d20e4a35f68)`
fn called(member: &Shown) -> String {
    format!("{} ({})", output::shown(&member.name), member.id)
}

/// What new members are added with.
#[derive(clap::Args, Debug)]
struct Waiting {
    /// Do not wait until it has caught up and votes
    #[arg(long)]
    no_wait: bool,
}

/// Adds a member, and waits until it has caught up and votes
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure member add n4 --peer-url http://10.0.0.4:7380 --client-url http://10.0.0.4:7379
  tenure member add n4 --peer-url http://10.0.0.4:7380 --client-url http://10.0.0.4:7379 --learner
`tenured serve --join CLUSTER-URL` must run there, with an empty data directory; most often it adds itself, and nothing is \
left to do here. Given again, it goes on waiting.")]
struct Add {
    /// What it is called: the `name` of its settings
    name: String,
    /// Where other members reach it
    #[arg(long, value_name = "URL")]
    peer_url: String,
    /// Where clients reach it
    #[arg(long, value_name = "URL")]
    client_url: String,
    /// It never votes, unless it is promoted by hand
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    waiting: Waiting,
}

impl Add {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let asked = AddMember {
            name: self.name,
            peer_url: self.peer_url,
            client_url: self.client_url,
            promote: !self.learner,
        };
        let added = session.client.add_member(&asked).await?;
        if self.waiting.no_wait || self.learner {
            let told = format!("{} is a {}", called(&added), role_in_words(&added));
            return tell(session, &added, &told);
        }
        until_it_votes(session, &added, None).await
    }
}

/// Puts a member in the place of another, and waits until it has caught up and votes
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure member replace n2
  tenure member replace 9c1b7d20e4a35f68 --name n4 --peer-url http://10.0.0.4:7380 --client-url http://10.0.0.4:7379
What is not given is as it was with the old one, so that a machine is replaced in place: stop what runs there, start \
`tenured serve` with an empty data directory under the same name and addresses, and give the first of these. The old member \
counts until the new one has caught up, and is removed at that moment.")]
struct Replace {
    /// Who leaves: its id or name
    old: String,
    /// What the new one is called [default: as the old one]
    #[arg(long)]
    name: Option<String>,
    /// Where other members reach the new one [default: as the old one]
    #[arg(long, value_name = "URL")]
    peer_url: Option<String>,
    /// Where clients reach the new one [default: as the old one]
    #[arg(long, value_name = "URL")]
    client_url: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Replace {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let cluster = session.client.cluster().await?;
        let old = found(&cluster, &self.old)?;
        let asked = AddMember {
            name: self.name.unwrap_or_else(|| old.name.clone()),
            peer_url: self.peer_url.unwrap_or_else(|| old.peer_url.clone()),
            client_url: self.client_url.unwrap_or_else(|| old.client_url.clone()),
            promote: true,
        };
        let new = session.client.replace_member(&old.id, &asked).await?;
        if self.waiting.no_wait {
            let told = format!(
                "{} takes the place of {} when it has caught up",
                called(&new),
                called(old)
            );
            return tell(session, &new, &told);
        }
        until_it_votes(session, &new, Some(old)).await
    }
}

/// The member that is meant. Of two of one name the one that is being replaced is, so that the same may be asked again.
fn found<'a>(cluster: &'a Cluster, text: &str) -> Result<&'a Shown, Trouble> {
    let replaced = |member: &&Shown| {
        let mut others = cluster.members.iter();
        others.any(|other| other.replaces.as_ref() == Some(&member.id))
    };
    let is_meant = |member: &&Shown| member.id == text || member.name == text;
    let meant: Vec<&Shown> = cluster.members.iter().filter(is_meant).collect();
    let replaced: Vec<&Shown> = meant.iter().copied().filter(|it| replaced(it)).collect();
    match (&meant[..], &replaced[..]) {
        ([one], _) | (_, [one]) => Ok(one),
        ([], _) => {
            let members: Vec<String> = cluster.members.iter().map(called).collect();
            let what = format!("{} is no member", output::shown(text));
            let next = format!("the members are {}", members.join(", "));
            Err(Trouble::new(Exit::ABSENT, what).then(next))
        }
        (several, _) => {
            let several: Vec<String> = several.iter().map(|member| called(member)).collect();
            let what = format!("{} may mean {}", output::shown(text), several.join(" or "));
            Err(Trouble::usage(what).then("give the id of the one that is meant"))
        }
    }
}

/// Gives a learner that has caught up its vote
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure member promote n4
A learner that was added without --learner is promoted by itself.")]
struct Promote {
    /// Its id or name
    member: String,
}

impl Promote {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let promoted = session.client.promote_member(&self.member).await?;
        tell(session, &promoted, &format!("{} votes", called(&promoted)))
    }
}

/// Removes a member for ever
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure member remove n4
  tenure member remove n1 --yes               though it leads, or only two would be left
Its process says that it was removed and ends with 3. To put another in its place, `tenure member replace` is safer: the \
cluster is never without one of them.")]
struct Remove {
    /// Its id or name
    member: String,
    /// Also where it leads, or where the cluster would bear the loss of fewer members afterwards
    #[arg(long)]
    yes: bool,
}

impl Remove {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let who = match session.client.cluster().await {
            Ok(cluster) => match found(&cluster, &self.member) {
                Ok(member) if !self.yes => {
                    check_harmless(&cluster, member)?;
                    Some(member.clone())
                }
                Ok(member) => Some(member.clone()),
                // The cluster may know the id as that of one that was removed.
                Err(trouble) if trouble.exit != Exit::ABSENT => return Err(trouble),
                Err(_) => None,
            },
            Err(error) => return Err(error.into()),
        };
        let id = who.as_ref().map_or(&self.member, |member| &member.id);
        let removed = session.client.remove_member(id).await?;
        match session.output {
            Output::Json => output::json(&removed)?,
            Output::Table => {
                let who = who.as_ref().map_or_else(|| id.clone(), called);
                output::text(&format!("{who} is no member any more\n"))?;
            }
        }
        Ok(Exit::DONE)
    }
}

/// What costs an election, or leaves a cluster that bears less, is done only where that is said.
fn check_harmless(cluster: &Cluster, member: &Shown) -> Result<(), Trouble> {
    let mut costs = Vec::new();
    if cluster.leader.as_ref() == Some(&member.id) {
        costs.push("it leads, and another has to be elected".to_owned());
    }
    let is_voter = |member: &&Shown| member.role == MemberRole::Voter && !member.leaving;
    let voters = cluster.members.iter().filter(is_voter).count();
    let bears = |voters: usize| voters.saturating_sub(1) / 2;
    if is_voter(&member) && bears(voters - 1) < bears(voters) {
        costs.push(format!(
            "of {voters} voters {} are left, and the cluster stops when {} of them {} lost",
            voters - 1,
            bears(voters - 1) + 1,
            if bears(voters - 1) == 0 { "is" } else { "are" }
        ));
    }
    if costs.is_empty() {
        return Ok(());
    }
    let what = format!(
        "{} is not removed without --yes: {}",
        called(member),
        costs.join("; ")
    );
    let next = format!(
        "`tenure member replace {0}` puts another in its place, `tenure member remove {0} --yes` removes it all the same",
        member.id
    );
    Err(Trouble::usage(what).then(next))
}

/// Has a member lead
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure member lead n1
  tenure member lead                          whoever of the others is furthest ahead
Nothing that is held changes by that. `tenure status` shows who leads.")]
struct Lead {
    /// Its id or name; whoever of the others is furthest ahead where it is left out
    member: Option<String>,
}

impl Lead {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let client = &session.client;
        let led = client.transfer_leadership(self.member.as_deref()).await?;
        match session.output {
            Output::Json => output::json(&led)?,
            Output::Table => {
                // Leadership is where it should be; how the member is called is told where it can be learnt.
                let cluster = client.cluster().await.ok();
                let who =
                    cluster.map_or_else(|| led.leader.clone(), |it| name_of(&it, &led.leader));
                output::text(&format!("{who} leads, term {}\n", led.term))?;
            }
        }
        Ok(Exit::DONE)
    }
}

/// Tells what a member is now.
fn tell(session: &Session, member: &Shown, told: &str) -> Result<Exit, Trouble> {
    match session.output {
        Output::Json => output::json(&json!({ "member": member }))?,
        Output::Table => output::text(&format!("{told}\n"))?,
    }
    Ok(Exit::DONE)
}

/// Waits until a new member counts, and says how far it is whenever that has changed.
async fn until_it_votes(
    session: &Session,
    new: &Shown,
    old: Option<&Shown>,
) -> Result<Exit, Trouble> {
    let mut said = String::new();
    loop {
        let (progress, member) = match look(&session.client, &new.id, old).await {
            Ok(Look::Done(member)) => {
                let told = match old {
                    Some(old) => format!(
                        "{} votes, {} is no member any more",
                        called(&member),
                        called(old)
                    ),
                    None => format!("{} votes", called(&member)),
                };
                return tell(session, &member, &told);
            }
            Ok(Look::Under(progress, member)) => (progress, member),
            Ok(Look::Gone) => {
                let what = format!("{} was removed before it had caught up", called(new));
                return Err(Trouble::new(Exit::FAILED, what).afterwards());
            }
            // It goes on whether somebody looks or not.
            Err(error) if error.may_pass() => (error.to_string(), new.clone()),
            // The member was added; how far it is will not be told to this caller.
            Err(error) => return Err(Trouble::from(error).afterwards()),
        };
        if progress != said {
            note(format!("{}: {progress}", output::shown(&member.name)));
            said = progress;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far a new member is.
enum Look {
    Done(Shown),
    Under(String, Shown),
    Gone,
}

async fn look(client: &Client, id: &str, old: Option<&Shown>) -> Result<Look, Error> {
    let cluster = client.cluster().await?;
    let is_there = |id: &str| cluster.members.iter().any(|member| member.id == id);
    let Some(member) = cluster.members.iter().find(|member| member.id == id) else {
        return Ok(Look::Gone);
    };
    let is_alone = old.is_none_or(|old| !is_there(&old.id));
    if member.role == MemberRole::Voter && !cluster.changing && is_alone {
        return Ok(Look::Done(member.clone()));
    }
    Ok(Look::Under(progress(member), member.clone()))
}

/// How far a member is, in words.
fn progress(member: &Shown) -> String {
    if member.role == MemberRole::Voter {
        return "has caught up; the change of voters is being finished".into();
    }
    if member
        .state
        .is_none_or(|state| state == MemberState::Unreachable)
    {
        return "the leader does not reach it; look whether tenured runs there, and what it says"
            .into();
    }
    if let Some(sent) = &member.snapshot_sent {
        let percent = 100 * sent.stored_bytes / sent.bytes.max(1);
        return format!(
            "is sent a snapshot, {percent} % of {} KiB",
            sent.bytes.div_ceil(1024)
        );
    }
    match member.lag {
        Some(0) => "has caught up; it is about to vote".into(),
        Some(lag) => format!("is {lag} entries behind"),
        None => "is catching up".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, role: MemberRole) -> Shown {
        Shown {
            id: format!("{:0>16}", name.trim_start_matches('n')),
            name: name.to_owned(),
            peer_url: format!("http://{name}:7380"),
            client_url: format!("http://{name}:7379"),
            role,
            promote: role == MemberRole::Learner,
            replaces: None,
            leaving: false,
            state: Some(MemberState::Replicating),
            match_index: Some(1),
            lag: Some(0),
            last_contact_ms: Some(1),
            snapshot_sent: None,
        }
    }

    fn cluster(voters: &[&str]) -> Cluster {
        let members = voters.iter().map(|name| member(name, MemberRole::Voter));
        Cluster {
            cluster: "c".to_owned(),
            leader: Some(member(voters[0], MemberRole::Voter).id),
            term: 1,
            revision: 1,
            commit_index: 1,
            changing: false,
            members: members.collect(),
        }
    }

    #[test]
    fn what_makes_the_cluster_bear_less_is_not_done_without_being_meant() {
        let check = |voters: &[&str], name: &str, costs: &[&str]| {
            let cluster = cluster(voters);
            let member = found(&cluster, name).expect("it is a member");
            match check_harmless(&cluster, member) {
                Ok(()) => assert!(costs.is_empty(), "{name} of {voters:?}"),
                Err(trouble) => {
                    let told = trouble.to_string();
                    assert!(!costs.is_empty(), "{told}");
                    for part in costs {
                        assert!(told.contains(part), "{part} is in {told}");
                    }
                }
            }
        };
        check(&["n1", "n2", "n3"], "n2", &["2 are left", "1 of them is"]);
        check(&["n1", "n2", "n3", "n4"], "n2", &[]);
        check(&["n1", "n2", "n3", "n4"], "n1", &["it leads"]);
        check(&["n1", "n2", "n3", "n4", "n5"], "n5", &["2 of them are"]);
        check(&["n1", "n2"], "n2", &[]);
    }

    #[test]
    fn of_two_of_one_name_the_one_that_is_replaced_is_meant() {
        let mut both = cluster(&["n1", "n2"]);
        both.members.push(Shown {
            id: "9".repeat(16),
            ..member("n2", MemberRole::Learner)
        });
        assert!(found(&both, "n2").is_err());
        both.members[2].replaces = Some(both.members[1].id.clone());
        let old = found(&both, "n2").expect("one is replaced");
        assert_eq!(old.id, both.members[1].id);
        assert!(found(&both, "n9").is_err());
    }
}
