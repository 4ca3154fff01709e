//! `tenure context`: which cluster is meant, and why.

use serde_json::json;

use crate::exit::{Exit, Trouble};
use crate::output::{self, DIM, GOOD, Output, Table};
use crate::settings::Chosen;

/// Shows which members are asked, and who said so; or which contexts there are
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Context {
    /// Show all contexts of the configuration file
    #[arg(long)]
    list: bool,
}

const EXAMPLES: &str = "\
Examples:
  tenure context                     which members are asked, and why
  tenure context --list              which contexts there are
  tenure --context prod status       use another one for one command
  export TENURE_CONTEXT=prod         use another one in this shell

The file is $XDG_CONFIG_HOME/tenure/config.toml, or ~/.config/tenure/config.toml:
  context = \"test\"                   used where no other is named
  [contexts.test]
  endpoints = [\"http://127.0.0.1:7379\"]
  [contexts.prod]
  endpoints = [\"https://10.0.0.1:7379\", \"https://10.0.0.2:7379\", \"https://10.0.0.3:7379\"]
  only_given = true                  ask no leader at another address than these
  ca_file = \"ca.pem\"               who issued the certificates of the members
  certificate_file = \"client.pem\"  with key_file = \"client.key\", where members ask for one
  token_file = \"token\"             who asks: `tenure token create --out` writes such a file
A flag wins over the environment (TENURE_ENDPOINTS, then TENURE_CONTEXT), and that over the file. Where both are set and \
TENURE_ENDPOINTS has the endpoints of that context, the context counts: so commands that `tenure` runs find them. The token file is \
that of --token-file; then, unless --context names a cluster with its own, that of TENURE_TOKEN_FILE; then that of the context.";

impl Context {
    pub(crate) fn run(self, chosen: &Chosen, output: Output) -> Result<Exit, Trouble> {
        if self.list {
            list(chosen, output)?;
        } else {
            show(chosen, output)?;
        }
        Ok(Exit::DONE)
    }
}

fn show(chosen: &Chosen, output: Output) -> Result<(), Trouble> {
    let cluster = &chosen.cluster;
    let file = chosen.file.as_ref().map(|file| file.display().to_string());
    match output {
        Output::Json => output::json(&json!({
            "context": chosen.name, "endpoints": cluster.endpoints, "only_given": cluster.only_given,
            "because": chosen.because, "file": file,
            "token_file": chosen.token.as_ref().map(|token| token.path.display().to_string()),
        }))?,
        Output::Table => {
            let name = chosen.name.as_deref().unwrap_or("none");
            let file = file.as_deref().unwrap_or("none");
            let only = if cluster.only_given {
                ", and no others"
            } else {
                ""
            };
            let endpoints = cluster.endpoints.join(", ");
            let token = chosen.token.as_ref().map_or_else(
                || "none".to_owned(),
                |token| format!("{} ({})", token.path.display(), token.because),
            );
            output::text(&format!(
                "context:    {name}\nendpoints:  {endpoints}{only}\nbecause of: {}\nfile:       {file}\ntoken file: {token}\n",
                chosen.because
            ))?;
        }
    }
    Ok(())
}

fn list(chosen: &Chosen, output: Output) -> Result<(), Trouble> {
    let in_force = |name: &String| chosen.name.as_ref() == Some(name);
    match output {
        Output::Json => {
            let contexts = chosen.contexts.iter().map(|(name, context)| {
                json!({"context": name, "endpoints": context.endpoints,
                    "only_given": context.only_given, "in_force": in_force(name)})
            });
            output::json(&contexts.collect::<Vec<_>>())?;
        }
        Output::Table => {
            let mut table = Table::new(&["", "CONTEXT", "ENDPOINTS"]);
            for (name, context) in &chosen.contexts {
                let mark = if in_force(name) { "*" } else { "" };
                table.row(vec![
                    output::Cell::styled(mark, GOOD),
                    name.into(),
                    context.endpoints.join(", ").into(),
                ]);
            }
            let mut text = table.render();
            if chosen.contexts.is_empty() {
                let place = chosen.file.as_ref();
                let why = place.map_or_else(
                    || "there is no configuration file".to_owned(),
                    |file| format!("{} has none", file.display()),
                );
                text = format!(
                    "{DIM}no contexts: {why}; `tenure context --help` shows how it is written{DIM:#}\n"
                );
            }
            output::text(&text)?;
        }
    }
    Ok(())
}
