//! `tenure identity`: who there is, with which roles, and how much each may have.

use tenure::api::{Identity as Whole, IdentityQuota, PutIdentity};

use crate::exit::{Exit, Trouble};
use crate::output::{self, Output, Table};
use crate::role::{deleted, none};
use crate::settings::Session;

/// Shows, makes and deletes identities: who has which roles
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Identity {
    #[command(subcommand)]
    deed: Deed,
}

const EXAMPLES: &str = "\
Examples:
  tenure identity put ci --role deploy
  tenure identity put api --role reader --certificate spiffe://example.org/api --quota-leases 100
  tenure identity list
  tenure identity get ci
  tenure identity delete ci
An identity is proved by a token (`tenure token create ci`), or by a client certificate that has the name it was given.";

#[derive(clap::Subcommand, Debug)]
enum Deed {
    List(List),
    Get(Get),
    Put(Put),
    Delete(Delete),
}

impl Identity {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self.deed {
            Deed::List(list) => list.run(session).await,
            Deed::Get(get) => get.run(session).await,
            Deed::Put(put) => put.run(session).await,
            Deed::Delete(delete) => delete.run(session).await,
        }
    }
}

/// Shows all identities
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure identity list
  tenure identity list -o json | jq -r '.identities[] | select(.roles | index(\"admin\")) | .identity'")]
struct List {
    /// No more than so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let found = session.client.identities().limit(self.limit).await?;
        if session.output == Output::Json {
            output::found("identities", &found)?;
            return Ok(Exit::DONE);
        }
        let mut table = Table::new(&["IDENTITY", "ROLES", "CERTIFICATE", "QUOTA"]);
        for identity in &found.all {
            table.row(vec![
                identity.identity.as_str().into(),
                roles(&identity.roles).into(),
                identity.certificate.as_deref().unwrap_or("-").into(),
                quota(&identity.quota).into(),
            ]);
        }
        output::listed(&table, &found, "there are no identities")?;
        Ok(Exit::DONE)
    }
}

fn roles(roles: &[String]) -> String {
    match roles.is_empty() {
        true => "-".to_owned(),
        false => roles.join(", "),
    }
}

fn quota(quota: &IdentityQuota) -> String {
    let parts = [
        (quota.leases, "leases"),
        (quota.places, "places"),
        (quota.requests_per_second, "requests a second"),
    ];
    let parts = parts.into_iter();
    let parts = parts.filter_map(|(most, of)| most.map(|most| format!("{most} {of}")));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(", "),
    }
}

/// Shows an identity
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure identity get ci
  tenure identity get ci -o json | jq -r '.roles[]'
It ends with 2 where there is none. Its tokens are shown by `tenure token list --identity`.")]
struct Get {
    /// Which
    identity: String,
}

impl Get {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let Some(identity) = session.client.identity(&self.identity).await? else {
            return Err(none("identity", &self.identity));
        };
        show(session, &identity)
    }
}

fn show(session: &Session, identity: &Whole) -> Result<Exit, Trouble> {
    match session.output {
        Output::Json => output::json(identity)?,
        Output::Table => {
            let lines = [
                ("identity:", identity.identity.clone()),
                ("roles:", roles(&identity.roles)),
                (
                    "certificate:",
                    identity.certificate.clone().unwrap_or_else(|| "-".into()),
                ),
                ("quota:", quota(&identity.quota)),
            ];
            let line =
                |(name, value): (&str, String)| format!("{name:<13}{}\n", output::shown(&value));
            output::text(&lines.map(line).concat())?;
        }
    }
    Ok(Exit::DONE)
}

/// Makes an identity, or replaces all that one has
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure identity put ci --role deploy
  tenure identity put ci --role deploy --role reader --quota-leases 100 --quota-places 1000
  tenure identity put api --role reader --certificate spiffe://example.org/api
  tenure identity put api                     without any role: it may do nothing, at once
All that it has is given, also what it had before; its tokens stay. Roles must be there before (`tenure role put`). What is \
not limited by a quota is by the limits of the cluster alone; a quota ends nothing that is there already.")]
struct Put {
    /// What it is called: 1 to 128 bytes
    identity: String,
    /// A role that it has (repeat for more)
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The name in client certificates that prove it: a URI or a DNS name
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// The most leases that it has at a time
    #[arg(long, value_name = "NUMBER")]
    quota_leases: Option<u64>,
    /// The most places in queues that its leases have at a time
    #[arg(long, value_name = "NUMBER")]
    quota_places: Option<u64>,
    /// The most requests in a second, at each member
    #[arg(long, value_name = "NUMBER")]
    quota_requests_per_second: Option<u64>,
}

impl Put {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let whole = PutIdentity {
            roles: self.roles,
            certificate: self.certificate,
            quota: IdentityQuota {
                leases: self.quota_leases,
                places: self.quota_places,
                requests_per_second: self.quota_requests_per_second,
            },
        };
        let put = session.client.put_identity(&self.identity, &whole).await?;
        show(session, &put)
    }
}

/// Deletes an identity with all its tokens
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure identity delete ci
It ends with 2 where there is none. What it holds stands until its leases end, which it cannot renew any more: `tenure lease list` \
and `tenure lease revoke` end them at once.")]
struct Delete {
    /// Which
    identity: String,
}

impl Delete {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        session.client.delete_identity(&self.identity).await?;
        deleted(session, "identity", &self.identity)
    }
}
