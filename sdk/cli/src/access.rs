//! `tenure access`: whether everybody must prove who they are.
//!
//! Owns the two questions before it is switched: that whoever does it can switch it back, and that everybody is let in only
//! where that is meant.

use serde_json::json;
use tenure::api::Access as Shown;

use crate::exit::{Exit, Trouble};
use crate::output::{self, Output, note};
use crate::settings::Session;

/// Shows whether access control is on, and switches it
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Access {
    #[command(subcommand)]
    deed: Deed,
}

const EXAMPLES: &str = "\
Examples:
  tenure access show
  tenure role put admin --grant admin                 what an administrator needs, before it is switched on
  tenure identity put alice --role admin
  tenure token create alice --out ~/.config/tenure/token
  tenure --token-file ~/.config/tenure/token access on
While it is on, whoever does not prove an identity, by a token or a client certificate, is refused everything. A cluster that \
was formed with `root_token_file` begins with it.";

#[derive(clap::Subcommand, Debug)]
enum Deed {
    Show(Show),
    On(On),
    Off(Off),
}

impl Access {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self.deed {
            Deed::Show(_) => tell(session, &session.client.access().await?),
            Deed::On(on) => on.run(session).await,
            Deed::Off(off) => off.run(session).await,
        }
    }
}

/// Shows whether access control is on
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure access show
  tenure access show -o json | jq .enabled
It needs the verb admin; `tenure whoami` tells it to everybody.")]
struct Show {}

/// Has everybody prove who they are from now on
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure --token-file ~/.config/tenure/token access on
It is refused unless somebody can administer the cluster then: an identity that has a role with the verb admin, and a token or a \
certificate. What is held then goes on: each lease becomes that of the first identity that renews it and has the verb lease. Give programs their token \
files first: a token is accepted, and not needed, while access control is off.")]
struct On {
    /// Also where this program itself has neither a token nor a certificate, and is refused everything afterwards
    #[arg(long)]
    yes: bool,
}

impl On {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        if !session.chosen.is_somebody() && !self.yes {
            let what = "this program has neither a token nor a certificate: it could not switch access control off again";
            return Err(Trouble::usage(what).then(
                "give --token-file FILE with a token of an administrator, or --yes where you have one elsewhere",
            ));
        }
        let access = session.client.set_access(true).await?;
        let exit = tell(session, &access)?;
        if session.chosen.is_somebody() {
            // It is done; that this program is nobody to it is better known now than in need.
            match session.client.whoami().await {
                Ok(me) => note(format!("you are {}", output::shown(&me.identity))),
                Err(error) => note(format!(
                    "but this program does not prove who it is: {error}"
                )),
            }
        }
        Ok(exit)
    }
}

/// Lets everybody who reaches a member do everything
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure access off --yes
Roles, identities and tokens stay, for when it is switched on again.")]
struct Off {
    /// Everybody who reaches a member is to be let in
    #[arg(long)]
    yes: bool,
}

impl Off {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        if !self.yes {
            let what = "without access control everybody who reaches a member may do everything";
            return Err(Trouble::usage(what).then("give --yes where that is meant"));
        }
        tell(session, &session.client.set_access(false).await?)
    }
}

fn tell(session: &Session, access: &Shown) -> Result<Exit, Trouble> {
    match (session.output, access.enabled) {
        (Output::Json, enabled) => {
            output::json(&json!({"enabled": enabled, "revision": access.revision}))?;
        }
        (Output::Table, true) => output::text("access control is on\n")?,
        (Output::Table, false) => {
            output::text("access control is off: everybody may do everything\n")?;
        }
    }
    Ok(Exit::DONE)
}
