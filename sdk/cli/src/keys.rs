//! `tenure get`, `put`, `del` and `ls`.
//!
//! Owns how single keys are read and written. A write that is guarded by a fence, or hangs on a lease that is not this program's,
//! is a transaction of one operation.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tenure::api::{Code, Encoding, Operation, PutKey};
use tenure::txn::{self, Did, When};
use tenure::{Client, Error, KeyValue};

use crate::exit::{Exit, Trouble};
use crate::input;
use crate::output::{self, Output, Table, note};
use crate::settings::Session;

/// Prints the value of a key
#[derive(clap::Args, Debug)]
#[command(after_help = GET)]
pub(crate) struct Get {
    /// Which
    key: String,
    /// As it was at this revision
    #[arg(long, value_name = "REVISION")]
    revision: Option<u64>,
}

const GET: &str = "\
Examples:
  tenure get config/api                     its value, byte for byte
  tenure get config/api -o json             with its revisions, version and lease
  tenure get config/api --revision 120      as it was then
It ends with 2 where there is no such key.";

impl Get {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let found = match self.revision {
            Some(revision) => session.client.get_at(&self.key, revision).await?,
            None => session.client.get(&self.key).await?,
        };
        let Some(found) = found else {
            let told = format!("there is no key {:?}", self.key);
            return Err(Trouble::new(Exit::ABSENT, told).then(neighbours(&self.key)));
        };
        match session.output {
            Output::Json => output::json(&entry(&found, true))?,
            Output::Table => {
                let mut value = found.value.to_vec();
                if std::io::stdout().is_terminal() && !value.ends_with(b"\n") {
                    value.push(b'\n');
                }
                output::bytes(&value)?;
            }
        }
        Ok(Exit::DONE)
    }
}

/// How to see which keys are near one that is not there.
fn neighbours(key: &str) -> String {
    let folder = key.rfind('/').map(|at| &key[..=at]);
    match folder.and_then(|folder| shlex::try_quote(folder).ok()) {
        Some(folder) => format!(
            "`tenure ls {}` shows which there are",
            output::shown(&folder)
        ),
        None => "`tenure ls PREFIX` shows which there are that begin so".into(),
    }
}

/// A key as the REST API writes it.
pub(crate) fn entry(key: &KeyValue, with_value: bool) -> Value {
    let (value, encoding) = match with_value {
        true => written(&key.value),
        false => (Value::Null, None),
    };
    json!({
        "key": key.key, "value": value, "encoding": encoding, "content_type": key.content_type,
        "create_revision": key.create_revision, "mod_revision": key.mod_revision,
        "version": key.version, "lease": key.lease,
    })
}

fn written(value: &[u8]) -> (Value, Option<Encoding>) {
    match std::str::from_utf8(value) {
        Ok(text) => (text.into(), Some(Encoding::Utf8)),
        Err(_) => (STANDARD.encode(value).into(), Some(Encoding::Base64)),
    }
}

/// What writes of keys have in common.
#[derive(clap::Args, Debug)]
pub(crate) struct Terms {
    /// Only where the last put of the key was at this revision
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    /// Only while this is held: lock=NAME, semaphore=NAME or election=NAME
    #[arg(long, value_name = "WHAT=NAME", value_parser = guard)]
    guard: Option<Guard>,
    /// The fence by which it is held [env: TENURE_FENCE, as `tenure lock` sets it]
    #[arg(long, value_name = "FENCE", requires = "guard")]
    fence: Option<u64>,
}

/// What a write is guarded by.
#[derive(Clone, Debug)]
struct Guard {
    word: &'static str,
    name: String,
}

fn guard(text: &str) -> Result<Guard, String> {
    let words = ["lock", "semaphore", "election"];
    let parted = text.split_once('=');
    let found = parted.and_then(|(word, name)| {
        let word = words.into_iter().find(|known| *known == word)?;
        (!name.is_empty()).then(|| Guard {
            word,
            name: name.to_owned(),
        })
    });
    found.ok_or_else(|| "write lock=NAME, semaphore=NAME or election=NAME".into())
}

impl Terms {
    fn fence(&self) -> Result<u64, Trouble> {
        self.fence.map_or_else(fence_of_environment, Ok)
    }

    /// The condition that the guard is.
    fn guarded(&self) -> Result<Option<When>, Trouble> {
        let Some(guard) = &self.guard else {
            return Ok(None);
        };
        let fence = self.fence()?;
        Ok(Some(match guard.word {
            "lock" => txn::lock(&guard.name, fence),
            "semaphore" => txn::semaphore(&guard.name, fence),
            _ => txn::election(&guard.name, fence),
        }))
    }
}

fn fence_of_environment() -> Result<u64, Trouble> {
    let given = std::env::var("TENURE_FENCE").unwrap_or_default();
    given.parse().map_err(|_| {
        let told = match given.as_str() {
            "" => "--guard needs a fence".to_owned(),
            given => format!("TENURE_FENCE={given} is no fence"),
        };
        Trouble::usage(told)
            .then("give --fence NUMBER, or run this under `tenure lock`, which sets TENURE_FENCE")
    })
}

/// Sets a key
#[derive(clap::Args, Debug)]
#[command(after_help = PUT)]
pub(crate) struct Put {
    /// Which
    key: String,
    /// Its value; read from stdin where there is none, or `-`
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// The file that has the value
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Only where there is no such key
    #[arg(long, conflicts_with = "if_revision")]
    if_absent: bool,
    /// The lease that it ends with
    #[arg(long, value_name = "LEASE")]
    lease: Option<String>,
    /// The type that is kept with the value
    #[arg(long, value_name = "TYPE", value_parser = content_type)]
    content_type: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

const PUT: &str = "\
Examples:
  tenure put config/colour green
  tenure put config/api --file api.toml --content-type application/toml
  date | tenure put last/run
  tenure put config/colour red --if-revision 132      only if nobody changed it since
  tenure put owners/7 host-a --if-absent --lease 3f9c2a7b5d1e8046
  tenure lock jobs/a -- sh -c 'tenure put result 42 --guard lock=$TENURE_LOCK'
It ends with 2 where a condition did not hold.";

fn content_type(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let given = visible && !text.trim().is_empty();
    given
        .then(|| text.to_owned())
        .ok_or_else(|| "write a type as text/plain".into())
}

/// What a put made.
struct Made {
    mod_revision: u64,
    version: u64,
}

impl Put {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let value = self.value()?;
        let guard = self.terms.guarded()?;
        let made = if guard.is_some() || self.lease.is_some() {
            self.in_transaction(&session.client, value, guard).await?
        } else {
            self.alone(&session.client, value).await?
        };
        match session.output {
            Output::Json => {
                output::json(&json!({"key": self.key, "mod_revision": made.mod_revision,
                "version": made.version, "revision": made.mod_revision}))?
            }
            Output::Table => {
                let told = format!(
                    "{}  revision {}\n",
                    output::shown(&self.key),
                    made.mod_revision
                );
                output::text(&told)?;
            }
        }
        Ok(Exit::DONE)
    }

    fn value(&self) -> Result<Vec<u8>, Trouble> {
        let file = self.file.as_deref();
        match self.value.as_deref() {
            Some(value) if value != "-" => Ok(value.as_bytes().to_vec()),
            given => {
                let named = file.or_else(|| given.map(Path::new));
                input::read("value", named).map(|(value, _)| value)
            }
        }
    }

    async fn alone(&self, client: &Client, value: Vec<u8>) -> Result<Made, Trouble> {
        let mut put = client.put(&self.key, value);
        if let Some(content_type) = &self.content_type {
            put = put.content_type(content_type);
        }
        if self.if_absent {
            put = put.if_absent();
        }
        if let Some(revision) = self.terms.if_revision {
            put = put.if_revision(revision);
        }
        let conditions = self.conditions();
        let written = put.await.map_err(|error| conditions.refused(error))?;
        Ok(Made {
            mod_revision: written.mod_revision,
            version: written.version,
        })
    }

    async fn in_transaction(
        &self,
        client: &Client,
        value: Vec<u8>,
        guard: Option<When>,
    ) -> Result<Made, Trouble> {
        let (value, encoding) = written(&value);
        let put = Operation::Put(PutKey {
            key: self.key.clone(),
            value: value.as_str().unwrap_or_default().to_owned(),
            encoding,
            content_type: self.content_type.clone(),
            lease: self.lease.clone(),
        });
        let conditions = self.conditions();
        let done = client
            .txn()
            .when_all(guard.into_iter().chain(conditions.of_key()))
            .then(put)
            .otherwise(txn::get(&self.key))
            .await?;
        match done.results.first() {
            Some(Did::Put {
                mod_revision,
                version,
                ..
            }) => Ok(Made {
                mod_revision: *mod_revision,
                version: *version,
            }),
            other => Err(conditions.not_written(other)),
        }
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions {
            key: &self.key,
            absent: self.if_absent,
            terms: &self.terms,
        }
    }
}

/// What was asked of a key before it may be written, to say which of it did not hold.
struct Conditions<'a> {
    key: &'a str,
    absent: bool,
    terms: &'a Terms,
}

impl Conditions<'_> {
    /// As conditions of a transaction.
    fn of_key(&self) -> impl Iterator<Item = When> {
        let absent = self.absent.then(|| txn::key(self.key).is_absent());
        let revision = self.terms.if_revision;
        let unchanged = revision.map(|revision| txn::key(self.key).mod_revision().eq(revision));
        absent.into_iter().chain(unchanged)
    }

    /// A refusal of the cluster in the words of this program, whose flags are no headers.
    fn refused(&self, error: Error) -> Trouble {
        let failure = error.failure();
        let failure = failure.filter(|failure| failure.code == Some(Code::ConditionFailed));
        let found = failure.and_then(|failure| failure.fields.get("mod_revision")?.as_u64());
        let told = found.and_then(|found| self.broken(found));
        let trouble = Trouble::from(error);
        match told {
            Some(told) => trouble.saying(told),
            None => trouble,
        }
    }

    /// What kept a transaction from being applied, which read the key where its conditions did not hold.
    fn not_written(&self, did: Option<&Did>) -> Trouble {
        let found = match did {
            Some(Did::Got(found)) => {
                let found = found.as_ref().map_or(0, |found| found.mod_revision);
                self.broken(found)
            }
            _ => None,
        };
        if let Some(told) = found {
            return Trouble::new(Exit::ABSENT, told).then("read it again, then decide anew");
        }
        let guard = self.terms.guard.as_ref();
        let (word, name) = guard.map_or(("lock", "NAME"), |guard| (guard.word, &*guard.name));
        let (fence, name) = (self.terms.fence().unwrap_or_default(), output::shown(name));
        Trouble::new(
            Exit::ABSENT,
            format!("nothing was changed: {word} {name} is not held by fence {fence} any longer"),
        )
        .then(format!(
            "somebody else may hold it by now: do not write under this fence again; `tenure {word}s {name}` shows the present one"
        ))
    }

    /// The condition that a key with this revision does not fulfil; 0 is that of none.
    fn broken(&self, found: u64) -> Option<String> {
        let key = output::shown(self.key);
        let is = match found {
            0 => "there is no such key".to_owned(),
            found => format!("it is there with revision {found}"),
        };
        match self.terms.if_revision {
            Some(wanted) if wanted != found => Some(format!(
                "nothing was changed: --if-revision asks for key {key} with revision {wanted}, and {is}"
            )),
            _ if self.absent && found != 0 => Some(format!(
                "nothing was changed: --if-absent asks for key {key} to be absent, and {is}"
            )),
            _ => None,
        }
    }
}

/// Deletes a key, or all keys of a prefix
#[derive(clap::Args, Debug)]
#[command(after_help = DEL)]
pub(crate) struct Del {
    /// Which, or how they begin
    key: String,
    /// Delete every key that begins so
    #[arg(long, conflicts_with = "if_revision")]
    prefix: bool,
    #[command(flatten)]
    terms: Terms,
}

const DEL: &str = "\
Examples:
  tenure del config/colour
  tenure del config/colour --if-revision 132      only if nobody changed it since
  tenure del --prefix sessions/
It ends with 2 where there was nothing to delete, or a condition did not hold.";

impl Del {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let deleted = self.delete(&session.client).await?;
        match session.output {
            Output::Json => output::json(&json!({"deleted": deleted}))?,
            Output::Table => {
                output::text(&format!("deleted {deleted}\n"))?;
                if deleted == 0 && !self.prefix {
                    self.hint(&session.client).await;
                }
            }
        }
        Ok(if deleted == 0 {
            Exit::ABSENT
        } else {
            Exit::DONE
        })
    }

    /// Who named no key, but how some begin, is told how those are deleted. Nothing is lost where that is not learnt.
    async fn hint(&self, client: &Client) {
        let listed = client.list(&self.key).keys_only().limit(1).await;
        let count = listed.map_or(0, |listed| listed.count);
        if let (1.., Ok(key)) = (count, shlex::try_quote(&self.key)) {
            let (key, keys) = (output::shown(&key), if count == 1 { "key" } else { "keys" });
            note(format!(
                "there is no such key; `tenure del --prefix {key}` deletes the {count} {keys} that begin so"
            ));
        }
    }

    async fn delete(&self, client: &Client) -> Result<u64, Trouble> {
        if self.prefix && self.key.is_empty() {
            return Err(
                Trouble::usage("an empty prefix would delete every key").then(
                    "name a prefix, as sessions/; all keys are deleted one prefix after the other",
                ),
            );
        }
        let conditions = Conditions {
            key: &self.key,
            absent: false,
            terms: &self.terms,
        };
        match self.terms.guarded()? {
            Some(guard) => {
                let what = if self.prefix {
                    txn::delete_prefix(&self.key)
                } else {
                    txn::delete(&self.key)
                };
                let done = client
                    .txn()
                    .when_all([guard].into_iter().chain(conditions.of_key()))
                    .then(what)
                    .otherwise(txn::get(&self.key))
                    .await?;
                match done.results.first() {
                    Some(Did::Delete { deleted }) => Ok(*deleted),
                    other => Err(conditions.not_written(other)),
                }
            }
            None if self.prefix => Ok(client.delete_prefix(&self.key).await?),
            None => {
                let delete = client.delete(&self.key);
                let delete = match self.terms.if_revision {
                    Some(revision) => delete.if_revision(revision),
                    None => delete,
                };
                let deleted = delete.await.map_err(|error| conditions.refused(error))?;
                Ok(u64::from(deleted))
            }
        }
    }
}

/// Lists keys
#[derive(clap::Args, Debug)]
#[command(after_help = LS)]
pub(crate) struct Ls {
    /// How they begin; all keys where it is left out
    #[arg(default_value = "")]
    prefix: String,
    /// No more than so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// From the last to the first
    #[arg(long)]
    reverse: bool,
    /// As they were at this revision
    #[arg(long, value_name = "REVISION")]
    revision: Option<u64>,
    /// Only their names, one a line
    #[arg(long)]
    names: bool,
}

const LS: &str = "\
Examples:
  tenure ls config/
  tenure ls --names sessions/ | wc -l
  tenure ls jobs/ --reverse --limit 10
  tenure ls config/ -o json | jq -r '.keys[].value'";

impl Ls {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let mut list = session.client.list(self.prefix);
        if self.names {
            list = list.keys_only();
        }
        if self.reverse {
            list = list.descending();
        }
        if let Some(limit) = self.limit {
            list = list.limit(limit);
        }
        if let Some(revision) = self.revision {
            list = list.at(revision);
        }
        let listed = list.await?;
        match session.output {
            Output::Json => {
                let keys = listed.keys.iter().map(|key| entry(key, !self.names));
                output::json(
                    &json!({"keys": keys.collect::<Vec<_>>(), "more": listed.more,
                    "count": listed.count, "revision": listed.revision}),
                )?;
            }
            Output::Table if self.names => {
                let lines = listed
                    .keys
                    .iter()
                    .map(|key| format!("{}\n", output::shown(&key.key)));
                output::text(&lines.collect::<String>())?;
            }
            Output::Table => {
                let mut table = Table::new(&["KEY", "BYTES", "VERSION", "REVISION", "LEASE"]);
                for key in &listed.keys {
                    table.row(vec![
                        key.key.as_str().into(),
                        key.value.len().to_string().into(),
                        key.version.to_string().into(),
                        key.mod_revision.to_string().into(),
                        key.lease.as_deref().unwrap_or("-").into(),
                    ]);
                }
                output::text(&table.render())?;
                let left = listed
                    .count
                    .saturating_sub(u64::try_from(listed.keys.len()).unwrap_or(u64::MAX));
                if listed.more && left > 0 {
                    output::text(&format!(
                        "and {left} more: --limit says how many are shown\n"
                    ))?;
                }
            }
        }
        Ok(Exit::DONE)
    }
}
