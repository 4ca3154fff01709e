//! `tenure whoami`: who the cluster takes this program for.

use tenure::api::AccessSwitch;

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Session;

/// Shows who this program is to the cluster, and which roles it has
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure whoami
  tenure --token-file ci.token whoami -o json | jq -r .identity
It ends with 77 where the cluster knows nobody by this token or certificate. `tenure context` shows which token file counts.")]
pub(crate) struct WhoAmI {}

impl WhoAmI {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let me = session.client.whoami().await?;
        if session.output == Output::Json {
            output::json(&me)?;
            return Ok(Exit::DONE);
        }
        let access = match me.access {
            AccessSwitch::On => "on",
            AccessSwitch::Off => "off: everybody may do everything",
        };
        let proved = match (&me.token, me.expires_in_ms, me.access) {
            (Some(token), Some(left), _) => {
                format!("token {token}, {} left", duration::shown_ms(left))
            }
            (Some(token), None, _) => format!("token {token}, until it is revoked"),
            (None, _, AccessSwitch::On) => "a client certificate".to_owned(),
            (None, _, AccessSwitch::Off) => "nothing".to_owned(),
        };
        let roles = match me.roles.is_empty() {
            true => "none".to_owned(),
            false => output::shown(&me.roles.join(", ")),
        };
        output::text(&format!(
            "identity:  {}\nroles:     {roles}\nproved by: {proved}\naccess:    {access}\n",
            output::shown(&me.identity)
        ))?;
        Ok(Exit::DONE)
    }
}
