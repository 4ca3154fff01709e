//! `tenure role`: verbs on resources, under a name.
//!
//! Owns how a grant is written on the command line. What a grant allows is for the cluster to say; here somebody is only
//! told of one that no call asks for.

use serde_json::json;
use tenure::api::{AccessVerb, GrantMatch, RoleGrant};

use crate::exit::{Exit, Trouble};
use crate::output::{self, Cell, Output, Table, note};
use crate::settings::Session;

/// Shows, makes and deletes roles: what may be done, on what
#[derive(clap::Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{GRANTS}"))]
pub(crate) struct Role {
    #[command(subcommand)]
    deed: Deed,
}

const EXAMPLES: &str = "\
Examples:
  tenure role put deploy --grant read,list,watch:keys/config/ --grant lock:locks/jobs/ --grant lease:leases/
  tenure role put admin --grant admin
  tenure role list
  tenure role get deploy
  tenure role delete deploy";

const GRANTS: &str = "\
A grant is VERBS:PREFIX, and is for all that begins so; an empty PREFIX is everything. The verbs:
  keys/        read, list, write, delete, watch
  locks/       read, list, watch, lock, break         `tenure lock` needs lock there, and lease
  semaphores/  the same                               `tenure semaphore` needs lock there, and lease
  elections/   read, list, watch, campaign, break     `tenure elect` needs campaign there, and lease
  leases/      read, list, watch, lease               of its own leases a program needs no right but to be granted them
  admin        everything, and the cluster itself: its members, limits, backups, roles, identities and tokens
Whoever may lock, campaign or read sees who holds and who waits.";

#[derive(clap::Subcommand, Debug)]
enum Deed {
    List(List),
    Get(Get),
    Put(Put),
    Delete(Delete),
}

impl Role {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self.deed {
            Deed::List(list) => list.run(session).await,
            Deed::Get(get) => get.run(session).await,
            Deed::Put(put) => put.run(session).await,
            Deed::Delete(delete) => delete.run(session).await,
        }
    }
}

const VERBS: [(&str, AccessVerb); 10] = [
    ("read", AccessVerb::Read),
    ("list", AccessVerb::List),
    ("write", AccessVerb::Write),
    ("delete", AccessVerb::Delete),
    ("lock", AccessVerb::Lock),
    ("break", AccessVerb::Break),
    ("campaign", AccessVerb::Campaign),
    ("lease", AccessVerb::Lease),
    ("watch", AccessVerb::Watch),
    ("admin", AccessVerb::Admin),
];

/// On what calls ask for verbs.
const ASKED_FOR: [(&str, &[AccessVerb]); 5] = {
    use AccessVerb::{Break, Campaign, Delete, Lease, List, Lock, Read, Watch, Write};
    [
        ("keys/", &[Read, List, Write, Delete, Watch]),
        ("locks/", &[Read, List, Watch, Lock, Break]),
        ("semaphores/", &[Read, List, Watch, Lock, Break]),
        ("elections/", &[Read, List, Watch, Campaign, Break]),
        ("leases/", &[Read, List, Watch, Lease]),
    ]
};

fn word(verb: AccessVerb) -> &'static str {
    let found = VERBS.iter().find(|(_, known)| *known == verb);
    found.expect("every verb has a word").0
}

fn words(verbs: &[AccessVerb]) -> String {
    let words: Vec<&str> = verbs.iter().map(|verb| word(*verb)).collect();
    words.join(",")
}

/// Reads `read,list:keys/config/`, and `admin`.
fn grant(text: &str, compared: GrantMatch) -> Result<RoleGrant, String> {
    let (verbs, resource) = match text.split_once(':') {
        Some(split) => split,
        None if text == "admin" => (text, ""),
        None => return Err("write VERBS:RESOURCE, as read,list:keys/config/, or admin".into()),
    };
    let verbs = verbs.split(',').map(verb).collect::<Result<Vec<_>, _>>()?;
    let collections = ASKED_FOR.map(|(collection, _)| collection);
    let begins = collections
        .iter()
        .any(|collection| resource.starts_with(collection));
    if !resource.is_empty() && !begins {
        return Err(format!(
            "a resource begins with {}, and {resource:?} does not; after the colon nothing is everything",
            collections.join(", ")
        ));
    }
    Ok(RoleGrant {
        verbs,
        resource: resource.to_owned(),
        compared,
    })
}

fn verb(text: &str) -> Result<AccessVerb, String> {
    let known = VERBS.iter().find(|(word, _)| *word == text);
    known.map(|(_, verb)| *verb).ok_or_else(|| {
        let words = VERBS.map(|(word, _)| word);
        format!("{text:?} is no verb: {} are", words.join(", "))
    })
}

fn by_prefix(text: &str) -> Result<RoleGrant, String> {
    grant(text, GrantMatch::Prefix)
}

fn exactly(text: &str) -> Result<RoleGrant, String> {
    grant(text, GrantMatch::Exact)
}

/// What of a grant no call asks for; the cluster takes it where another of its verbs can apply.
fn in_vain(grant: &RoleGrant) -> Option<String> {
    let (collection, asked) = ASKED_FOR
        .iter()
        .find(|(collection, _)| grant.resource.starts_with(collection))?;
    let vain = grant.verbs.iter().copied();
    let vain: Vec<AccessVerb> = vain.filter(|verb| !asked.contains(verb)).collect();
    if !vain.is_empty() {
        return Some(format!(
            "{} on {} allows nothing: what can be done there is {}",
            words(&vain),
            output::shown(&grant.resource),
            words(asked)
        ));
    }
    let is_whole = grant.resource == *collection && grant.compared == GrantMatch::Prefix;
    (grant.verbs.contains(&AccessVerb::Lease) && !is_whole).then(|| {
        format!(
            "lease on {} allows nothing: leases get their ids when they are granted, so the right is to leases/",
            output::shown(&grant.resource)
        )
    })
}

/// Shows all roles
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure role list
  tenure role list -o json | jq -r '.roles[] | select(.grants[].verbs | index(\"admin\")) | .role'")]
struct List {
    /// No more than so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let found = session.client.roles().limit(self.limit).await?;
        if session.output == Output::Json {
            output::found("roles", &found)?;
            return Ok(Exit::DONE);
        }
        let mut table = Table::new(&["ROLE", "VERBS", "RESOURCE", "WHICH"]);
        for role in &found.all {
            let mut name = role.role.as_str();
            for grant in &role.grants {
                // Named once.
                table.row(row(std::mem::take(&mut name), grant));
            }
            if role.grants.is_empty() {
                table.row(vec![name.into(), "none".into(), "".into(), "".into()]);
            }
        }
        output::listed(&table, &found, "there are no roles")?;
        Ok(Exit::DONE)
    }
}

fn row(role: &str, grant: &RoleGrant) -> Vec<Cell> {
    let (resource, which) = match (grant.resource.as_str(), grant.compared) {
        ("", _) => ("", "everything"),
        (resource, GrantMatch::Prefix) => (resource, "all that begins so"),
        (resource, GrantMatch::Exact) => (resource, "exactly that"),
    };
    vec![
        role.into(),
        words(&grant.verbs).into(),
        resource.into(),
        which.into(),
    ]
}

/// Shows a role
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure role get deploy
  tenure role get deploy -o json | jq .grants
It ends with 2 where there is none.")]
struct Get {
    /// Which
    role: String,
}

impl Get {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let Some(role) = session.client.role(&self.role).await? else {
            return Err(none("role", &self.role));
        };
        match session.output {
            Output::Json => output::json(&role)?,
            Output::Table => table(&role.role, &role.grants)?,
        }
        Ok(Exit::DONE)
    }
}

/// There is none of that name.
pub(crate) fn none(what: &str, name: &str) -> Trouble {
    let told = format!("there is no {what} {}", output::shown(name));
    Trouble::new(Exit::ABSENT, told).then(format!("`tenure {what} list` shows which there are"))
}

fn table(role: &str, grants: &[RoleGrant]) -> std::io::Result<()> {
    if grants.is_empty() {
        return output::text(&format!("{} grants nothing\n", output::shown(role)));
    }
    let mut table = Table::new(&["ROLE", "VERBS", "RESOURCE", "WHICH"]);
    let mut name = role;
    for grant in grants {
        table.row(row(std::mem::take(&mut name), grant));
    }
    output::text(&table.render())
}

/// Makes a role, or replaces all that one grants
#[derive(clap::Args, Debug)]
#[command(after_help = format!("\
Examples:
  tenure role put deploy --grant read,list,watch:keys/config/ --grant lock:locks/jobs/ --grant lease:leases/
  tenure role put reporter --exact write:keys/jobs/nightly/report
  tenure role put admin --grant admin
  tenure role put nothing --no-grants
All that it grants is given, also what it granted before; whoever has it may do that from then on, and nothing else.

{GRANTS}"))]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
struct Put {
    /// What it is called: 1 to 128 bytes
    role: String,
    /// Verbs on all that begins so (repeat for more)
    #[arg(long, value_name = "VERBS:PREFIX", value_parser = by_prefix, group = "what")]
    grant: Vec<RoleGrant>,
    /// Verbs on one resource (repeat for more)
    #[arg(long, value_name = "VERBS:RESOURCE", value_parser = exactly, group = "what")]
    exact: Vec<RoleGrant>,
    /// It is to grant nothing
    #[arg(long, conflicts_with_all = ["grant", "exact"], group = "what")]
    no_grants: bool,
}

impl Put {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let grants: Vec<RoleGrant> = self.grant.into_iter().chain(self.exact).collect();
        let role = session.client.put_role(&self.role, &grants).await?;
        match session.output {
            Output::Json => output::json(&role)?,
            Output::Table => table(&role.role, &role.grants)?,
        }
        grants.iter().filter_map(in_vain).for_each(note);
        Ok(Exit::DONE)
    }
}

/// Deletes a role that no identity has
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure role delete deploy
It ends with 2 where there is none, and is refused where identities have it: put them without it first.")]
struct Delete {
    /// Which
    role: String,
}

impl Delete {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        session.client.delete_role(&self.role).await?;
        deleted(session, "role", &self.role)
    }
}

/// Tells that something is no more.
pub(crate) fn deleted(session: &Session, what: &str, name: &str) -> Result<Exit, Trouble> {
    match session.output {
        Output::Json => output::json(&json!({what: name, "deleted": true}))?,
        Output::Table => output::text(&format!("{}  deleted\n", output::shown(name)))?,
    }
    Ok(Exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_written_as_verbs_and_a_resource() {
        let check = |text: &str, verbs: &[AccessVerb], resource: &str| {
            let grant = by_prefix(text).expect("it is one");
            assert_eq!(
                (grant.verbs.as_slice(), grant.resource.as_str()),
                (verbs, resource)
            );
            assert_eq!(in_vain(&grant), None);
        };
        check(
            "read,list:keys/a:b",
            &[AccessVerb::Read, AccessVerb::List],
            "keys/a:b",
        );
        check("watch:", &[AccessVerb::Watch], "");
        check("lease:leases/", &[AccessVerb::Lease], "leases/");
        check("lease:", &[AccessVerb::Lease], "");
        check("admin", &[AccessVerb::Admin], "");
        check("admin:", &[AccessVerb::Admin], "");
        let exact = exactly("read:keys/a").expect("it is one");
        assert_eq!(exact.compared, GrantMatch::Exact);
    }

    #[test]
    fn what_is_no_grant_is_told_what_would_be_one() {
        let check = |text: &str, part: &str| {
            let told = by_prefix(text).expect_err("it is none");
            assert!(told.contains(part), "{told}");
        };
        check("read", "write VERBS:RESOURCE");
        check("keys/a", "write VERBS:RESOURCE");
        check(
            "raed:keys/",
            "\"raed\" is no verb: read, list, write, delete, lock",
        );
        check("read,:keys/", "\"\" is no verb");
        check("Read:keys/", "\"Read\" is no verb");
        check(
            "read:config/",
            "begins with keys/, locks/, semaphores/, elections/, leases/",
        );
        check("read:*", "begins with keys/");
    }

    #[test]
    fn a_grant_that_no_call_asks_for_is_told() {
        let check = |told: Option<String>, part: &str| {
            let told = told.expect("it is told");
            assert!(told.contains(part), "{told}");
        };
        let prefix = |text| in_vain(&by_prefix(text).expect("it is one"));
        check(
            prefix("read,lock:keys/a"),
            "lock on keys/a allows nothing: what can be done there is read,list,write",
        );
        check(prefix("lease:leases/3f9c"), "the right is to leases/");
        check(prefix("write:elections/"), "read,list,watch,campaign,break");
        check(
            in_vain(&exactly("lease:leases/").expect("it is one")),
            "the right is to leases/",
        );
    }
}
