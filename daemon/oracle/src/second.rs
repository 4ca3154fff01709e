//! The second opinion: a search over the calls of single keys, which does not look at the revisions of answers.
//!
//! A key is judged where only puts, deletes and reads of it alone were made, few enough for a search to end; others are
//! left to the order. Unknown writes are resolved from the history first, or good histories explode.

use std::collections::{BTreeMap, BTreeSet};

use crate::Judged;
use crate::history::History;
use crate::record::{Ask, Call, How, Moment, Operation as Part, Recording, Revision, Told};
use crate::search::{Action, Found, Operation, Value, search};

/// A key with more calls than this is not judged: whoever makes histories retires keys before.
pub const MOST_OPERATIONS: usize = 200;
/// A key with more unknown writes than this is not judged.
pub const MOST_UNKNOWN: usize = 4;
const MOST_STEPS: u64 = 20_000_000;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let (shared, cleared) = (shared(recording), cleared(recording));
    let mut by_key: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &recording.calls {
        if let Ask::Put { key, .. } | Ask::Delete { key, .. } | Ask::Get { key, .. } = &call.ask
            && !shared.contains(key.as_str())
            && !cleared.iter().any(|prefix| key.starts_with(*prefix))
        {
            by_key.entry(key).or_default().push(call);
        }
    }
    let mut judged = 0;
    for (key, calls) in by_key {
        let unknown = calls
            .iter()
            .filter(|call| writes(call) && call.told == Told::Unknown);
        if MOST_OPERATIONS < calls.len() || MOST_UNKNOWN < unknown.count() {
            continue;
        }
        let Some(operations) = operations(key, &calls, history) else {
            continue;
        };
        match search(&operations, MOST_STEPS) {
            Found::Order => judged += operations.len() as u64,
            Found::None => {
                return Err(format!(
                    "no order explains the {} calls of {key}: {calls:#?}",
                    calls.len()
                ));
            }
            Found::GaveUp => {
                return Err(format!(
                    "the search gave up on {} calls of {key}: the run was set up wrongly",
                    calls.len()
                ));
            }
        }
    }
    Ok(judged)
}

fn writes(call: &Call) -> bool {
    matches!(call.ask, Ask::Put { .. } | Ask::Delete { .. })
}

/// Keys that transactions touch, or that hang on leases: more than their own calls changes them.
fn shared(recording: &Recording) -> BTreeSet<&str> {
    let mut shared = BTreeSet::new();
    for call in &recording.calls {
        match &call.ask {
            Ask::Transact {
                then, otherwise, ..
            } => {
                for part in then.iter().chain(otherwise) {
                    match part {
                        Part::Put { key, .. } | Part::Delete { key } | Part::Get { key } => {
                            shared.insert(key.as_str());
                        }
                        Part::DeletePrefix { .. } => {}
                    }
                }
            }
            Ask::Put {
                key,
                lease: Some(_),
                ..
            } => {
                shared.insert(key);
            }
            _ => {}
        }
    }
    shared
}

/// Prefixes of which everything may be deleted by one call.
fn cleared(recording: &Recording) -> BTreeSet<&str> {
    let mut cleared = BTreeSet::new();
    for call in &recording.calls {
        match &call.ask {
            Ask::DeletePrefix { prefix, .. } => {
                cleared.insert(prefix.as_str());
            }
            Ask::Transact {
                then, otherwise, ..
            } => {
                let parts = then.iter().chain(otherwise);
                cleared.extend(parts.filter_map(|part| match part {
                    Part::DeletePrefix { prefix } => Some(prefix.as_str()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    cleared
}

/// The calls as operations of a register; none where one is unknown in a way that cannot be resolved.
fn operations(key: &str, calls: &[&Call], history: &History) -> Option<Vec<Operation>> {
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    for call in calls {
        if let Ask::Put { value, .. } = &call.ask {
            let next = u32::try_from(numbers.len()).ok()?;
            numbers.entry(value).or_insert(next);
        }
    }
    // A value that nobody wrote is none of the numbers.
    let number = |value: &str| numbers.get(value).copied().unwrap_or(u32::MAX);
    // At a revision at which the key was not set there is a value that no state has: its condition never holds.
    let at = |revision: Revision| -> Value {
        let seen = history.get(key, revision);
        let set = seen.filter(|seen| seen.revision == revision);
        Some(set.map_or(u32::MAX - 1, |seen| number(&seen.value)))
    };
    let mut operations: BTreeMap<String, Operation> = BTreeMap::new();
    for (place, call) in calls.iter().enumerate() {
        let (mut ret, mut name) = (call.ret, format!("{place:06}"));
        let action = match (&call.ask, &call.told) {
            (
                Ask::Get {
                    how: How::Linearizable | How::AtLeast(_),
                    ..
                },
                Told::Read { keys, .. },
            ) => Action::Read(keys.get(key).map(|seen| number(&seen.value))),
            (
                Ask::Put {
                    value,
                    only_if,
                    absent,
                    once,
                    ..
                },
                Told::Done { .. } | Told::Unknown,
            ) => {
                if call.told == Told::Unknown {
                    ret = applied(key, value, history)?;
                    if ret == Moment(0) {
                        continue;
                    }
                }
                if let Some(once) = once {
                    name = format!("once {once}");
                }
                match (only_if, absent) {
                    (Some(revision), _) => Action::Swap(at(*revision), Some(number(value))),
                    (None, true) => Action::Swap(None, Some(number(value))),
                    (None, false) => Action::Write(Some(number(value))),
                }
            }
            (
                Ask::Put {
                    only_if: Some(revision),
                    once: None,
                    ..
                },
                Told::Refused { .. },
            ) => Action::Not(at(*revision)),
            (
                Ask::Put {
                    absent: true,
                    once: None,
                    ..
                },
                Told::Refused { .. },
            ) => Action::Not(None),
            (Ask::Delete { once: None, .. }, Told::Done { .. }) => Action::Write(None),
            (Ask::Delete { once: None, .. }, Told::Refused { .. }) => Action::Read(None),
            // A deletion has no value by which it could be found in the history.
            (Ask::Delete { .. }, Told::Unknown | Told::Done { .. }) => return None,
            _ => continue,
        };
        let operation = Operation {
            call: call.call.0,
            ret: ret.0,
            action,
        };
        // The repeats of one write are one, from the first call to the first answer.
        operations
            .entry(name)
            .and_modify(|known| {
                known.call = known.call.min(operation.call);
                known.ret = known.ret.min(operation.ret);
            })
            .or_insert(operation);
    }
    Some(operations.into_values().collect())
}

/// When an unknown write was surely applied: when a watcher was told of it; 0 where it never was.
fn applied(key: &str, value: &str, history: &History) -> Option<Moment> {
    let found = history.events().iter().find(|event| {
        event.kind == "put" && event.key() == Some(key) && event.text("value") == value
    });
    Some(found.map_or(Moment(0), |event| history.observed(event.revision)))
}
