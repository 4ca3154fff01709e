//! `tenure watch`: tells what happens, or runs a command when things have changed and are quiet again.
//!
//! Owns what is told, and how a watch goes on after a restart: its cursor is written only when what it stands for is done
//! with, so a change may be told twice around a crash, and is never passed over.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tenure::Told;
use tenure::api::{Event, Resource};

use crate::duration;
use crate::events::line;
use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Session;
use crate::under::{Words, words};

mod cursor;
mod executing;
mod listening;

use cursor::Cursor;
use executing::{Executing, Way};
use listening::Listening;

const COLLECTIONS: [&str; 5] = ["keys/", "locks/", "semaphores/", "elections/", "leases/"];

/// Tells what happens to keys, locks, elections and leases, or runs a command for it
#[derive(clap::Args, Debug)]
#[command(
    after_help = format!("{ABOUT}\n\n{EXAMPLES}"),
)]
pub(crate) struct Watch {
    /// How their resources begin: keys/config/, locks/jobs/, semaphores/, elections/, leases/
    #[arg(required = true, value_name = "PREFIX", value_parser = prefix)]
    prefixes: Vec<String>,
    /// Begin behind this revision, in place of telling first what there is
    #[arg(long, value_name = "REVISION")]
    after: Option<u64>,
    /// Keep in this file how far it came, and go on from there
    #[arg(long, value_name = "FILE", conflicts_with = "after")]
    cursor: Option<PathBuf>,
    /// Run this, in words split as a shell does, in place of telling
    #[arg(long, value_name = "CMD", value_parser = words)]
    exec: Option<Words>,
    /// How long nothing may have changed before the command is run: 0s to 1h
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration::settle, requires = "exec")]
    settle: Duration,
}

const ABOUT: &str = "\
It tells what there is, and then what happens to it: every change once and in order, over the loss of members and \
leaders. Where history is gone, what there is is told anew. Where no member answers at first, it ends with 69 after --timeout; \
later it waits, and says so on stderr after half a minute and when one answers again.

With --exec, a command is run in place of that: once at the beginning, and whenever something has changed and nothing \
more did for --settle, or 25 times that where it never comes to rest. It runs without a shell and never twice at a time. It finds the changes on its stdin, as lines of \
JSON, at first one of type resync with what there is, and TENURE_REVISION in its environment. One that fails is run again, with what has changed meanwhile, after a pause that grows to a minute. \
TERM and INT are passed on to a command that runs, which is waited for, and the watch ends with 128 and the number of the signal. \
With --after, or a --cursor that is there already, it is not told what there is and not run at the beginning, but for the \
first change behind that revision.";

const EXAMPLES: &str = "\
Examples:
  tenure watch keys/config/
  tenure watch locks/jobs/ elections/ -o json
  tenure watch keys/config/api/ --exec 'systemctl reload api'
  tenure watch keys/hosts/ --exec './make-hosts --from-stdin' --cursor /var/lib/hosts/cursor
  tenure watch keys/ --after 131 -o json | while read -r change; do …; done";

fn prefix(text: &str) -> Result<String, String> {
    if COLLECTIONS
        .iter()
        .any(|collection| text.starts_with(collection))
    {
        return Ok(text.to_owned());
    }
    if COLLECTIONS
        .iter()
        .any(|collection| collection.trim_end_matches('/') == text)
    {
        return Ok(format!("{text}/"));
    }
    Err(format!(
        "write keys/{text} for keys, or locks/…, semaphores/…, elections/… or leases/…"
    ))
}

impl Watch {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let cursor = self.cursor.as_deref().map(Cursor::of);
        let after = match &cursor {
            Some(cursor) => cursor.read()?,
            None => self.after,
        };
        let (first, more) = self
            .prefixes
            .split_first()
            .expect("at least one is required");
        let mut watching = session.client.watch(first);
        for prefix in more {
            watching = watching.and(prefix);
        }
        if let Some(after) = after {
            watching = watching.after(after);
        }
        let watch = Listening::to(watching.begin());
        match &self.exec {
            Some(command) => {
                let environment = session.chosen.environment();
                let way = Way {
                    command: &command.0,
                    environment: &environment,
                    settle: self.settle,
                };
                Executing::of(watch, way, cursor)?.run().await
            }
            None => tell(watch, session.output, cursor).await,
        }
    }
}

/// Tells everything, one line for each change.
async fn tell(
    mut watch: Listening,
    output: Output,
    mut cursor: Option<Cursor<'_>>,
) -> Result<Exit, Trouble> {
    let mut abandoned = pin!(output::abandoned());
    loop {
        let told = tokio::select! {
            told = watch.next() => told?,
            () = &mut abandoned => None,
            () = Cursor::is_to_follow(&cursor) => {
                if let Some(cursor) = &mut cursor {
                    cursor.follow(watch.revision())?;
                }
                continue;
            }
        };
        let Some(told) = told else {
            return Ok(Exit::DONE);
        };
        let revision = match told {
            Told::Resync { state, revision } => {
                let lines = match output {
                    Output::Json => resync(&state, revision),
                    Output::Table => state.iter().map(|is| shown(is, revision)).collect(),
                };
                output::text(&lines)?;
                revision
            }
            Told::Changes { events, revision } => {
                let lines: String = match output {
                    Output::Json => events.iter().map(wire).collect(),
                    Output::Table => events.iter().map(|event| line(event) + "\n").collect(),
                };
                output::text(&lines)?;
                revision
            }
        };
        if let Some(cursor) = &mut cursor {
            cursor.write(revision)?;
        }
    }
}

/// As `131  is  keys/config/colour  {…}`.
fn shown(is: &Resource, revision: u64) -> String {
    let value = is.state.get("value").and_then(|value| value.as_str());
    let state = value.map_or_else(|| is.state.to_string(), str::to_owned);
    let (resource, state) = (output::shown(&is.resource), output::shown(&state));
    format!("{revision}  {:<10}  {resource}  {state}\n", "is")
}

fn resync(state: &[Resource], revision: u64) -> String {
    json!({"type": "resync", "revision": revision, "state": state}).to_string() + "\n"
}

fn wire(event: &Event) -> String {
    serde_json::to_string(event).expect("wire types have a form in JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_its_collection() {
        assert_eq!(prefix("keys/config/"), Ok("keys/config/".into()));
        assert_eq!(prefix("locks"), Ok("locks/".into()));
        let told = prefix("config/").expect_err("it is refused");
        assert!(told.contains("write keys/config/ for keys"), "{told}");
    }
}
