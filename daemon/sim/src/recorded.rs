//! What clients and watchers of a run were told of keys, as a recording for the judges of `tenure-oracle`.
//!
//! Owns the translation. Nothing of what is known from inside goes into it, but the one history that all answers must
//! agree on. Left out are leases, locks and elections: `oracle` judges these, and from inside.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};
use tenure_oracle::{
    Ask as Asked, Call as Record, Condition as When, Event as Shown, How, Line, Moment as At,
    Operation as Part, Recording, Reply as Reported, Revision as Number, Seen, Told,
};
use tenure_state::{
    Answer, Change, Command, Compare, Condition, DeleteReason, Event, Field, IdempotencyKey,
    KeyEntry, Operation, OperationResult, Put, Refusal, Revision, Transaction,
};

use crate::calls::{Ask, Call, Caller, Reply};
use crate::oracle::{History, broken};
use crate::time::Moment;

/// The recording as it grows.
#[derive(Default)]
pub(crate) struct Recorder {
    recording: Recording,
    /// How often each watcher lost history and began anew: it is another one from there on.
    begun: BTreeMap<usize, u64>,
    /// How many things the judges judged.
    pub(crate) judged: u64,
    /// How many of them by search.
    pub(crate) searched: u64,
}

/// The number of whoever looks whether the healed cluster works, beside those of clients.
const PROBE: u64 = 1 << 32;
/// The number of the watcher of everything, and how far those of one watcher lie apart.
const ARCHIVE: u64 = 1 << 33;
const LIVES: u64 = 1 << 16;

impl Recorder {
    /// A caller was told something, or learns nothing any more.
    pub(crate) fn told(
        &mut self,
        now: Option<Moment>,
        call: &Call,
        reply: &Reply,
        history: &History,
    ) {
        let client = match call.caller {
            Caller::Client(client) => client as u64,
            Caller::Probe => PROBE,
            Caller::Watcher(watcher) => return self.watched(now, watcher, call, reply),
        };
        let Some((ask, told)) = translated(call, reply, history) else {
            return;
        };
        self.recording.push(Line::Call(Record {
            client,
            member: call.member,
            connection: 0,
            call: At(call.sent.0),
            ret: now.map_or(At::NEVER, |now| At(now.0)),
            ask,
            told,
        }));
    }

    fn watched(&mut self, now: Option<Moment>, watcher: usize, call: &Call, reply: &Reply) {
        let (
            Ask::Watch {
                after,
                stranger: false,
                ..
            },
            Some(now),
        ) = (&call.ask, now)
        else {
            return;
        };
        let life = self.begun.entry(watcher).or_default();
        match reply {
            Reply::Watched { changes, through } => {
                // What the others watch besides is judged from inside.
                let prefixes = match watcher {
                    0 => vec!["keys/".to_owned()],
                    1 => vec!["keys/k1".to_owned()],
                    _ => return,
                };
                self.recording.push(Line::Reply(Reported {
                    watcher: watcher as u64 + *life * LIVES,
                    archive: false,
                    member: call.member,
                    ret: At(now.0),
                    prefixes,
                    after: number(*after),
                    revision: number(*through),
                    events: changes.iter().flat_map(shown).collect(),
                    compacted: None,
                    previous: false,
                }));
            }
            Reply::Compacted { .. } => *life += 1,
            _ => {}
        }
    }

    /// Judges all that was told by the one history.
    pub(crate) fn judge(&mut self, history: &History) {
        let changes = history.changes();
        self.recording.push(Line::Reply(Reported {
            watcher: ARCHIVE,
            archive: true,
            member: 0,
            ret: At::NEVER,
            prefixes: vec![String::new()],
            after: Number(0),
            revision: changes
                .last()
                .map_or(Number(1), |last| number(last.revision)),
            events: changes.iter().flat_map(shown).collect(),
            compacted: None,
            previous: false,
        }));
        let verdict = tenure_oracle::judge(&self.recording);
        if let Some((checker, what)) = verdict.wrong.first() {
            broken("told", format!("{checker}: {what}"));
        }
        self.judged = verdict.judged.iter().map(|(_, count)| count).sum();
        self.searched = verdict.count("second");
    }
}

fn number(revision: Revision) -> Number {
    Number(revision.0)
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A value as text: its number and its length.
fn value_text(value: &Bytes) -> String {
    let number = value
        .first_chunk::<8>()
        .map(|first| u64::from_be_bytes(*first));
    format!("{number:?} in {} bytes", value.len())
}

fn seen(entry: &KeyEntry) -> Seen {
    Seen {
        value: value_text(&entry.value),
        revision: number(entry.mod_revision),
    }
}

/// What a change shows of keys.
fn shown(change: &Change) -> Vec<Shown> {
    let revision = number(change.revision);
    let key = |kind: &str, key: &Bytes, field: &str, value: String| Shown {
        revision,
        kind: kind.to_owned(),
        resource: format!("keys/{}", text(key)),
        more: Map::from_iter([(field.to_owned(), Value::String(value))]),
    };
    let keys = change.events.iter().filter_map(|event| match event {
        Event::Put(entry) => Some(key("put", &entry.key, "value", value_text(&entry.value))),
        Event::Delete {
            key: of, reason, ..
        } => {
            let reason = match reason {
                DeleteReason::Deleted => "deleted",
                DeleteReason::LeaseEnded => "lease-ended",
            };
            Some(key("deleted", of, "reason", reason.to_owned()))
        }
        _ => None,
    });
    keys.collect()
}

/// A call of keys and what it was told; nothing where it was of something else.
fn translated(call: &Call, reply: &Reply, history: &History) -> Option<(Asked, Told)> {
    match &call.ask {
        Ask::ReadKey(key) => {
            let ask = Asked::Get {
                key: text(key),
                how: How::Linearizable,
            };
            let told = match reply {
                Reply::Key { entry, index, .. } => Told::Read {
                    revision: number(history.revision_at(*index)?),
                    keys: entry.iter().map(|entry| (text(key), seen(entry))).collect(),
                },
                Reply::Refused(_) => Told::Failed,
                _ => Told::Unknown,
            };
            Some((ask, told))
        }
        Ask::Command {
            command: Command::Transaction(transaction),
            once,
            ..
        } => Some(transaction_told(transaction, once.as_ref(), reply)),
        _ => None,
    }
}

fn transaction_told(
    transaction: &Transaction,
    once: Option<&IdempotencyKey>,
    reply: &Reply,
) -> (Asked, Told) {
    // A key that another request had is no key of this one.
    let once = once.map(|once| format!("{}/{}/{}", once.identity, once.key, once.digest));
    let (outcome, replayed) = match reply {
        Reply::Outcome {
            outcome, replayed, ..
        } => (outcome, *replayed),
        Reply::Refused(_) => return (asked(transaction, once), Told::Failed),
        _ => return (asked(transaction, once), Told::Unknown),
    };
    match outcome {
        Ok(Answer::Transaction {
            succeeded,
            results,
            revision,
        }) => match (asked(transaction, once), results.as_slice()) {
            (ask @ Asked::Delete { .. }, [OperationResult::Deleted(0)]) => {
                let told = Told::Refused {
                    revision: number(*revision),
                    actual: None,
                    replayed,
                };
                (ask, told)
            }
            (ask @ (Asked::Put { .. } | Asked::Delete { .. }), _) => {
                let revision = number(*revision);
                (ask, Told::Done { revision, replayed })
            }
            (ask, results) => {
                let told = Told::Transacted {
                    revision: number(*revision),
                    succeeded: *succeeded,
                    gets: gets(results),
                    replayed,
                };
                (ask, told)
            }
        },
        Err(Refusal::IdempotencyMismatch) => (asked(transaction, None), Told::Failed),
        // Whoever may not know is not told whether it was done before.
        Err(Refusal::Denied(_)) if once.is_some() => (asked(transaction, once), Told::Unknown),
        _ => (asked(transaction, once), Told::Failed),
    }
}

fn gets(results: &[OperationResult]) -> Vec<Option<Seen>> {
    let gets = results.iter().filter_map(|result| match result {
        OperationResult::Got(entry) => Some(entry.as_ref().map(|entry| seen(entry))),
        _ => None,
    });
    gets.collect()
}

/// The plainest words for what is asked: one put or one delete is no transaction.
fn asked(transaction: &Transaction, once: Option<String>) -> Asked {
    match (
        transaction.conditions.as_slice(),
        transaction.then.as_slice(),
    ) {
        (
            [],
            [
                Operation::Put(Put {
                    key, value, lease, ..
                }),
            ],
        ) => Asked::Put {
            key: text(key),
            value: value_text(value),
            only_if: None,
            absent: false,
            lease: lease.map(|lease| lease.to_string()),
            guard: None,
            once,
        },
        ([], [Operation::Delete { key }]) => Asked::Delete {
            key: text(key),
            guard: None,
            once,
        },
        _ => transact(transaction, once),
    }
}

fn transact(transaction: &Transaction, once: Option<String>) -> Asked {
    let parts = |operations: &[Operation]| operations.iter().flat_map(parts_of).collect();
    Asked::Transact {
        when: transaction.conditions.iter().map(when).collect(),
        then: parts(&transaction.then),
        otherwise: parts(&transaction.otherwise),
        guard: None,
        once,
    }
}

fn when(condition: &Condition) -> When {
    match condition {
        Condition::Key {
            key,
            field: Field::ModRevision(revision),
            compare: Compare::Equal,
        } => When::Modified {
            key: text(key),
            revision: Number(*revision),
        },
        other => broken("simulator", format!("nobody here asks for {other:?}")),
    }
}

/// A deletion of a range is one of each key that there may be in it.
fn parts_of(operation: &Operation) -> Vec<Part> {
    match operation {
        Operation::Put(put) => vec![Part::Put {
            key: text(&put.key),
            value: value_text(&put.value),
        }],
        Operation::Get { key } => vec![Part::Get { key: text(key) }],
        Operation::Delete { key } => vec![Part::Delete { key: text(key) }],
        Operation::DeleteRange { start, end } => {
            let names = crate::asking::all_keys();
            let inside =
                names.filter(|key| start <= key && end.as_ref().is_none_or(|end| key < end));
            inside.map(|key| Part::Delete { key: text(&key) }).collect()
        }
    }
}
