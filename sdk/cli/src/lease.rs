//! `tenure lease`: leases by their ids, for programs that renew them by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tenure::api::{Attached, AttachedState, Code};
use tenure::{Error, Lease as Renewed};

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::{self, Cell, Output, Table};
use crate::settings::Session;

/// Grants, renews, shows and revokes leases
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Lease {
    #[command(subcommand)]
    deed: Deed,
}

const EXAMPLES: &str = "\
Examples:
  lease=$(tenure lease grant --ttl 1m --name worker-7)
  tenure put workers/7 here --lease $lease
  tenure lease keep-alive $lease &
  tenure lease show $lease
  tenure lease revoke $lease";

#[derive(clap::Subcommand, Debug)]
enum Deed {
    Grant(Grant),
    Renew(Renew),
    KeepAlive(KeepAlive),
    Show(Show),
    List(List),
    Revoke(Revoke),
}

impl Lease {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self.deed {
            Deed::Grant(grant) => grant.run(session).await,
            Deed::Renew(renew) => renew.run(session).await,
            Deed::KeepAlive(keep) => keep.run(session).await,
            Deed::Show(show) => show.run(session).await,
            Deed::List(list) => list.run(session).await,
            Deed::Revoke(revoke) => revoke.run(session).await,
        }
    }
}

/// Grants a lease that nobody renews yet, and prints its id
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure lease grant --ttl 1m --name worker-7
  tenure lease grant --metadata zone=a --metadata rack=12 -o json")]
struct Grant {
    /// How long it lives without being renewed: 1s to 24h
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration::ttl)]
    ttl: Duration,
    /// A label for people
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// More labels
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    metadata: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Grant {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let mut grant = session.client.lease(self.ttl).name(self.name);
        let mut labels = BTreeMap::new();
        for (name, value) in self.metadata {
            if labels.insert(name.clone(), value.clone()).is_some() {
                return Err(Trouble::usage(format!("--metadata {name} is given twice"))
                    .then("give each name one value"));
            }
            grant = grant.metadata(name, value);
        }
        let lease = grant.grant().await?.detach();
        match session.output {
            Output::Json => output::json(&shown(session, &lease).await?)?,
            Output::Table => output::text(&format!("{lease}\n"))?,
        }
        Ok(Exit::DONE)
    }
}

/// Renews leases, once
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure lease renew 3f9c2a7b5d1e8046
It ends with 2 where one of them has ended.")]
struct Renew {
    /// Which
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<String>,
}

impl Renew {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        for (before, lease) in self.leases.iter().enumerate() {
            let renewed = resume(session, lease).await;
            let renewed = renewed.map_err(|trouble| trouble.after(before > 0))?;
            let left = duration::shown(renewed.remaining());
            let lease = renewed.detach();
            match session.output {
                Output::Json => output::json(&shown(session, &lease).await?)?,
                Output::Table => output::text(&format!("{lease}  {left} left\n"))?,
            }
        }
        Ok(Exit::DONE)
    }
}

/// Renews a lease until it is told to end, or the lease has ended
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure lease keep-alive $lease &
It ends with 76 when the lease is lost. It does not revoke the lease when it is told to end.")]
struct KeepAlive {
    /// Which
    lease: String,
}

impl KeepAlive {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let lease = resume(session, &self.lease).await?;
        let loss = lease.lost().await;
        Err(
            Trouble::new(Exit::LOST, format!("lease {} is lost: {loss}", self.lease))
                .afterwards()
                .then("what hangs on it ends with it; `tenure lease grant` makes another"),
        )
    }
}

/// A lease that was granted or renewed already, whatever becomes of this.
async fn shown(session: &Session, lease: &str) -> Result<tenure::api::Lease, Trouble> {
    let shown = session.client.inspect_lease(lease).await;
    shown.map_err(|error| Trouble::from(error).afterwards())
}

/// Renews a lease. One that has ended before is told as one that is not there: nothing was held here that could be lost.
async fn resume(session: &Session, lease: &str) -> Result<Renewed, Trouble> {
    match session.client.resume_lease(lease).await {
        Ok(renewed) => Ok(renewed),
        Err(error @ Error::Lost(_)) => match session.client.inspect_lease(lease).await {
            Err(why) => Err(why.into()),
            // It lives, but the answer took longer than it was granted for.
            Ok(_) => Err(Trouble::from(error).ending(Exit::ABSENT)),
        },
        Err(error) => Err(error.into()),
    }
}

/// Shows a lease and what hangs on it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure lease show 3f9c2a7b5d1e8046
  tenure lease show 3f9c2a7b5d1e8046 -o json | jq -r '.attached[].resource'")]
struct Show {
    /// Which
    lease: String,
}

impl Show {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let lease = session.client.inspect_lease(&self.lease).await?;
        if session.output == Output::Json {
            output::json(&lease)?;
            return Ok(Exit::DONE);
        }
        let mut text = format!(
            "lease:    {}\nname:     {}\nTTL:      {}\nleft:     {}\ngranted:  revision {}\n",
            lease.lease,
            output::shown(&lease.name),
            duration::shown_ms(lease.ttl_ms),
            duration::shown_ms(lease.remaining_ms),
            lease.granted_revision
        );
        for (name, value) in &lease.metadata {
            text += &format!("label:    {}\n", output::shown(&format!("{name}={value}")));
        }
        let attached = lease.attached.unwrap_or_default();
        let mut table = Table::new(&["RESOURCE", "WHO", "STATE", "FENCE"]);
        attached.iter().for_each(|thing| table.row(row(thing)));
        if !attached.is_empty() {
            text += &format!("\n{}", table.render());
        }
        let shown = u64::try_from(attached.len()).unwrap_or(u64::MAX);
        if shown < lease.attached_count {
            text += &format!("and {} more\n", lease.attached_count - shown);
        }
        output::text(&text)?;
        Ok(Exit::DONE)
    }
}

fn row(thing: &Attached) -> Vec<Cell> {
    let who = thing.owner.as_deref().or(thing.candidate.as_deref());
    let state = thing.state.map_or("", |state| match state {
        AttachedState::Held => "held",
        AttachedState::Queued => "waits",
    });
    let fence = thing
        .fence
        .map_or_else(String::new, |fence| fence.to_string());
    vec![
        thing.resource.as_str().into(),
        who.unwrap_or_default().into(),
        state.into(),
        fence.into(),
    ]
}

/// Lists the leases that live
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure lease list
  tenure lease list -o json | jq '.leases | map(select(.attached_count == 0))'")]
struct List {
    /// No more than so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let found = session.client.leases().limit(self.limit).await?;
        if session.output == Output::Json {
            output::found("leases", &found)?;
            return Ok(Exit::DONE);
        }
        let mut table = Table::new(&["LEASE", "NAME", "TTL", "LEFT", "HOLDS"]);
        for lease in &found.all {
            table.row(vec![
                lease.lease.as_str().into(),
                lease.name.as_str().into(),
                duration::shown_ms(lease.ttl_ms).into(),
                duration::shown_ms(lease.remaining_ms).into(),
                lease.attached_count.to_string().into(),
            ]);
        }
        output::listed(&table, &found, "no lease lives")?;
        Ok(Exit::DONE)
    }
}

/// Revokes leases: what hangs on one ends with it, at one revision
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure lease revoke 3f9c2a7b5d1e8046
It ends with 2 where one of them is not known: those that are known are revoked, and one that has ended already is done with. \
A holder that did not revoke its lease by itself may still believe in it for as long as it had left.")]
struct Revoke {
    /// Which
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<String>,
}

impl Revoke {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let (mut unknown, mut some_ended) = (None, false);
        for lease in self.leases {
            // To end what never was is no error for the client, but a typing error here.
            let ended = match session.client.inspect_lease(&lease).await {
                Err(error) if error.code() == Some(Code::LeaseNotFound) => {
                    unknown = unknown.or(Some(error));
                    continue;
                }
                Err(error) if error.code() != Some(Code::LeaseExpired) => Err(error),
                _ => session.client.revoke_lease(&lease).await,
            };
            ended.map_err(|error| Trouble::from(error).after(some_ended))?;
            some_ended = true;
            match session.output {
                Output::Json => output::json(&json!({"lease": lease, "ended": true}))?,
                Output::Table => output::text(&format!("{}  ended\n", output::shown(&lease)))?,
            }
        }
        unknown.map_or(Ok(Exit::DONE), |error| {
            Err(Trouble::from(error).after(some_ended))
        })
    }
}
