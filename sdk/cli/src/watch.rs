//! `tenure watch`: tells what happens, or runs a command when things have changed and are quiet again.
//!
//! Owns the cursor of a watch that goes on after a restart. It is written only when what it stands for is done with, so a
//! change may be told twice around a crash, and is never passed over.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tenure::api::{Event, Resource};
use tenure::{Told, Watch as Stream};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::Instant;

use crate::duration;
use crate::events::line;
use crate::exit::{Exit, Trouble};
use crate::output::{self, Output, note};
use crate::settings::Session;
use crate::under::{Words, cannot_run, words};

/// After a command that failed, and how far the pause grows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What changes again and again is told after this many times of `--settle`, though it is not quiet.
const LONGEST_SETTLE: u32 = 25;
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
    /// How long nothing may have changed before the command is run
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration::parse, requires = "exec")]
    settle: Duration,
}

const ABOUT: &str = "\
It tells what there is, and then what happens to it: every change once and in order, over the loss of members and \
leaders. Where history is gone, what there is is told anew.

With --exec, a command is run in place of that: once at the beginning, and whenever something has changed and nothing \
more did for --settle. It runs without a shell and never twice at a time. It finds the changes on its stdin, as lines of \
JSON, at first one of type resync with what there is, and TENURE_REVISION in its environment. One that fails is run again, after a pause that grows to a minute.";

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
        let cursor = self.cursor.as_deref().map(Cursor);
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
        let stream = watching.begin();
        match &self.exec {
            Some(command) => execute(stream, &command.0, self.settle, cursor).await,
            None => tell(stream, session.output, cursor).await,
        }
    }
}

/// Tells everything, one line for each change.
async fn tell(
    mut stream: Stream,
    output: Output,
    cursor: Option<Cursor<'_>>,
) -> Result<Exit, Trouble> {
    let mut abandoned = pin!(output::abandoned());
    loop {
        let told = tokio::select! {
            told = stream.next() => told,
            () = &mut abandoned => None,
        };
        let Some(told) = told else {
            return Ok(Exit::DONE);
        };
        let revision = match told? {
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
        if let Some(cursor) = &cursor {
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

/// What has changed since the command was last run with success.
#[derive(Default)]
struct Due {
    lines: String,
    revision: Option<u64>,
    /// Since when.
    since: Option<Instant>,
}

impl Due {
    fn add(&mut self, told: Told) {
        self.since.get_or_insert_with(Instant::now);
        match told {
            Told::Resync { state, revision } => {
                // What was before is gone with its history.
                self.lines = resync(&state, revision);
                self.revision = Some(revision);
            }
            Told::Changes { events, revision } => {
                self.lines.extend(events.iter().map(wire));
                self.revision = Some(revision);
            }
        }
    }
}

impl Due {
    /// How long to wait for quiet: what never comes to rest is not waited for without end.
    fn quiet_in(&self, settle: Duration) -> Duration {
        let waited = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        settle.min((settle * LONGEST_SETTLE).saturating_sub(waited))
    }
}

/// Runs the command for what has changed, once it is quiet.
async fn execute(
    mut stream: Stream,
    command: &[OsString],
    settle: Duration,
    cursor: Option<Cursor<'_>>,
) -> Result<Exit, Trouble> {
    let mut due = Due::default();
    let mut pause = None;
    loop {
        // A change that comes meanwhile begins the wait anew; a failure is not forgotten for it.
        let wait = pause.unwrap_or_else(|| due.quiet_in(settle));
        let quiet = async {
            match due.revision {
                Some(_) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = stream.next() => match told {
                Some(told) => due.add(told?),
                None => return Ok(Exit::DONE),
            },
            () = quiet => {
                let doing = std::mem::take(&mut due);
                let ended = {
                    // What happens while it runs is for the next time.
                    let mut running = pin!(run(command, &doing));
                    loop {
                        tokio::select! {
                            ended = &mut running => break ended?,
                            told = stream.next() => match told {
                                Some(told) => due.add(told?),
                                None => return Ok(Exit::DONE),
                            },
                        }
                    }
                };
                pause = match ended {
                    None => {
                        if let (Some(cursor), Some(revision)) = (&cursor, doing.revision) {
                            cursor.write(revision)?;
                        }
                        None
                    }
                    Some(why) => {
                        let next = pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
                        note(format!("the command {why}: it is run again in {}", duration::shown(next)));
                        due = Due {
                            revision: due.revision.or(doing.revision),
                            since: doing.since,
                            lines: doing.lines + &due.lines,
                        };
                        Some(next)
                    }
                };
            }
        }
    }
}

/// Runs it to its end; answers what was wrong where it did not succeed.
async fn run(command: &[OsString], due: &Due) -> Result<Option<String>, Trouble> {
    let program = command.first().map(OsString::as_os_str).unwrap_or_default();
    let revision = due.revision.unwrap_or_default().to_string();
    let child = Command::new(program)
        .args(command.iter().skip(1))
        .env("TENURE_REVISION", revision)
        .stdin(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| cannot_run(command, &error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command may end without reading it.
        let _ = stdin.write_all(due.lines.as_bytes()).await;
    }
    let status = child.wait().await?;
    Ok((!status.success()).then(|| format!("ended with {status}")))
}

/// The file that says how far a watch came.
struct Cursor<'a>(&'a Path);

impl Cursor<'_> {
    fn read(&self) -> Result<Option<u64>, Trouble> {
        match std::fs::read_to_string(self.0) {
            Ok(text) => match text.trim().parse() {
                Ok(revision) => Ok(Some(revision)),
                Err(_) => Err(self.wrong(&format!("{:?} is no revision", text.trim()))),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
        }
    }

    /// Whole or not at all, also where the machine goes down.
    fn write(&self, revision: u64) -> Result<(), Trouble> {
        let mut beside = self.0.as_os_str().to_owned();
        beside.push(".new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            writeln!(file, "{revision}")?;
            file.sync_all()?;
            std::fs::rename(&beside, self.0)
        };
        let wrong = |error| self.wrong(&format!("cannot be written: {error}"));
        write().map_err(|error| wrong(error).afterwards())
    }

    fn wrong(&self, why: &str) -> Trouble {
        Trouble::new(
            Exit::CONFIG,
            format!("the cursor {}: {why}", self.0.display()),
        )
        .then("remove the file to begin anew, or name another one")
    }
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

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_taken_for_one() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let path = dir.path().join("cursor");
        let cursor = Cursor(&path);
        assert_eq!(cursor.read().expect("it is absent"), None);
        cursor.write(41).expect("it is written");
        cursor.write(42).expect("it is written over");
        assert_eq!(cursor.read().expect("it is read"), Some(42));
        std::fs::write(&path, "forty-two").expect("it is written");
        let trouble = cursor.read().expect_err("it is no number");
        assert_eq!(trouble.exit, Exit::CONFIG);
    }

    #[test]
    fn a_resync_stands_for_all_that_was_due_before() {
        let mut due = Due::default();
        let resync = |revision| Told::Resync {
            state: Vec::new(),
            revision,
        };
        due.add(resync(7));
        due.add(resync(9));
        assert_eq!(due.lines.lines().count(), 1);
        assert_eq!(due.revision, Some(9));
    }
}
