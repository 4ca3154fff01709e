//! `tenure txn`: a transaction that was written as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};
use tenure::api::Transact;
use tenure::txn::{Did, Done};

use crate::exit::{Exit, Trouble};
use crate::input;
use crate::keys::entry;
use crate::output::{self, Output};
use crate::settings::Session;

/// Does all of a transaction, or nothing
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Txn {
    /// The file that has it, as JSON; stdin where there is none, or `-`
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

const EXAMPLES: &str = r#"Examples:
  tenure txn move.json
  tenure txn <<'EOF'
  {"if":   [{"key":"limit","field":"version","op":"=","value":0},
            {"lock":"jobs/nightly","fence":121}],
   "then": [{"put":{"key":"limit","value":"10"}}, {"delete":{"prefix":"old/"}}],
   "else": [{"get":{"key":"limit"}}]}
  EOF
`field` is value, version, create_revision, mod_revision or lease; `op` is =, !=, < or >.
Conditions also name a semaphore or election with a fence, or a lease.
It ends with 2 where a condition did not hold: then `else` was done."#;

impl Txn {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let wanted = self.read()?;
        let done = session
            .client
            .txn()
            .when_all(wanted.conditions)
            .then_all(wanted.then)
            .otherwise_all(wanted.otherwise)
            .await?;
        match session.output {
            Output::Json => output::json(&told(&done))?,
            Output::Table => output::text(&shown(&done))?,
        }
        Ok(if done.succeeded {
            Exit::DONE
        } else {
            Exit::ABSENT
        })
    }

    fn read(&self) -> Result<Transact, Trouble> {
        let (text, from) = input::read("transaction", self.file.as_deref())?;
        serde_json::from_slice(&text).map_err(|error| {
            Trouble::usage(format!("{from} is no transaction: {error}"))
                .then("`tenure txn --help` has an example of each part")
        })
    }
}

/// As the REST API writes it.
fn told(done: &Done) -> Value {
    let result = |did: &Did| match did {
        Did::Put {
            key,
            created,
            mod_revision,
            version,
        } => {
            json!({"put": {"key": key, "created": created, "mod_revision": mod_revision, "version": version}})
        }
        Did::Delete { deleted } => json!({"delete": {"deleted": deleted}}),
        Did::Got(found) => json!({"get": {"entry": found.as_ref().map(|key| entry(key, true))}}),
        Did::NotKept { key } => json!({"get": {"key": key, "replayed": true}}),
    };
    let results: Vec<Value> = done.results.iter().map(result).collect();
    json!({"succeeded": done.succeeded, "results": results, "revision": done.revision})
}

fn shown(done: &Done) -> String {
    let branch = if done.succeeded {
        "all conditions held: `then` was done"
    } else {
        "a condition did not hold: `else` was done"
    };
    let mut text = format!("{branch}, revision {}\n", done.revision);
    for did in &done.results {
        let line = match did {
            Did::Put { key, version, .. } => format!("put {key}, version {version}"),
            Did::Delete { deleted } => format!("deleted {deleted}"),
            Did::Got(None) => "got nothing: the key is absent".to_owned(),
            Did::Got(Some(key)) => {
                format!("got {} = {}", key.key, String::from_utf8_lossy(&key.value))
            }
            Did::NotKept { key } => {
                format!("got {key}, in a try whose answer was lost: read it again")
            }
        };
        text += &format!("{}\n", output::shown(&line));
    }
    text
}
