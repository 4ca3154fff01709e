//! The order of everything: every write is one change at the revision it was told, every change has an owner, refused
//! conditions did not hold, and revisions agree with real time.
//!
//! Decides strict serializability of all keys at once. What it cannot see is a cluster that lies consistently, to
//! watchers as well; final reads, the second opinion and the outside's fences are for that.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{
    Ask, Call, Condition, How, Moment, Operation, Recording, Revision, Seen, Told,
};

/// What a write does to keys: the value that each is left with, or none.
type Changes = BTreeMap<String, Option<String>>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut judged = 0;
    for call in &recording.calls {
        judged += u64::from(check_told(call, history)?);
    }
    check_owners(recording, history)?;
    check_one_write_a_revision(recording)?;
    check_real_time(recording, history)?;
    Ok(judged)
}

/// Whether the history agrees with what one call was told; false where it was told nothing about keys.
fn check_told(call: &Call, history: &History) -> Result<bool, String> {
    let wrong = |what: String| Err(format!("{what}: {call:?}"));
    match (&call.ask, &call.told) {
        (_, Told::Refused { replayed: true, .. }) => Ok(false),
        (
            Ask::Put {
                key,
                value,
                only_if,
                absent,
                ..
            },
            Told::Done { revision, .. },
        ) => {
            let before = history.get(key, revision.before());
            let modified = before.as_ref().map(|seen| seen.revision);
            if only_if.is_some() && modified != *only_if || *absent && modified.is_some() {
                return wrong(format!("it was done while the key was {before:?}"));
            }
            let changes = Changes::from([(key.clone(), Some(value.clone()))]);
            check_changes(call, history, *revision, &changes).map(|()| true)
        }
        (Ask::Delete { key, .. }, Told::Done { revision, .. }) => {
            let changes = Changes::from([(key.clone(), None)]);
            check_changes(call, history, *revision, &changes).map(|()| true)
        }
        (
            Ask::DeletePrefix { prefix, .. },
            Told::Deleted {
                revision, deleted, ..
            },
        ) => check_prefix(call, history, *revision, prefix, *deleted).map(|()| true),
        (Ask::Delete { key, .. }, Told::Refused { revision, .. }) => {
            match history.get(key, *revision) {
                Some(present) => wrong(format!("the key was there: {present:?}")),
                None => Ok(true),
            }
        }
        (
            Ask::Put {
                key,
                only_if,
                absent,
                ..
            },
            Told::Refused {
                revision, actual, ..
            },
        ) => {
            let present = history.get(key, *revision).map(|seen| seen.revision);
            let holds = match only_if {
                Some(_) => present == *only_if,
                None => !*absent || present.is_none(),
            };
            let told = actual.is_none_or(|actual| actual == present.unwrap_or_default());
            match holds || !told {
                true => wrong(format!("the key was last changed at {present:?}")),
                false => Ok(true),
            }
        }
        (
            Ask::Transact {
                when,
                then,
                otherwise,
                ..
            },
            Told::Transacted {
                revision,
                succeeded,
                gets,
                replayed,
            },
        ) => {
            let branch = if *succeeded { then } else { otherwise };
            let gets = (!*replayed).then_some(gets.as_slice());
            check_transaction(call, history, *revision, (when, *succeeded), branch, gets)
                .map(|()| true)
        }
        _ => Ok(false),
    }
}

/// All that a prefix had was deleted at a revision of its own; where it had nothing, there was nothing at that revision.
fn check_prefix(
    call: &Call,
    history: &History,
    revision: Revision,
    prefix: &str,
    deleted: u64,
) -> Result<(), String> {
    if deleted == 0 {
        let there = history.list(prefix, revision);
        return match there.is_empty() {
            true => Ok(()),
            false => Err(format!("there were {there:?}: {call:?}")),
        };
    }
    let there = history.list(prefix, revision.before());
    if there.len() as u64 != deleted {
        return Err(format!("{} keys were there: {call:?}", there.len()));
    }
    let changes = there.into_keys().map(|key| (key, None)).collect();
    check_changes(call, history, revision, &changes)
}

/// The changes of keys at a revision are those, and there are some.
fn check_changes(
    call: &Call,
    history: &History,
    revision: Revision,
    changes: &Changes,
) -> Result<(), String> {
    let made = changes_at(history, revision);
    match made == *changes {
        true => Ok(()),
        false => Err(format!(
            "at {revision} the history has {made:?}, not what was done: {call:?}"
        )),
    }
}

fn changes_at(history: &History, revision: Revision) -> Changes {
    let events = history.at(revision).iter();
    let changed = events.filter_map(|event| {
        let value = (event.kind == "put").then(|| event.text("value").to_owned());
        Some((event.key()?.to_owned(), value))
    });
    changed.collect()
}

fn check_transaction(
    call: &Call,
    history: &History,
    revision: Revision,
    (when, succeeded): (&[Condition], bool),
    branch: &[Operation],
    gets: Option<&[Option<Seen>]>,
) -> Result<(), String> {
    let before = outcome(history, revision.before(), branch);
    let puts = branch
        .iter()
        .any(|operation| matches!(operation, Operation::Put { .. }));
    let read_as = |reading| {
        let conditions = (when, succeeded);
        check_as(call, history, (revision, reading), conditions, branch, gets)
    };
    if puts {
        read_as(Reading::Made)
    } else if before.is_empty() || changes_at(history, revision) != before {
        read_as(Reading::ChangedNothing)
    } else {
        // Somebody else may have made the revision, and have left nothing to delete.
        read_as(Reading::Made).or_else(|wrong| read_as(Reading::ChangedNothing).map_err(|_| wrong))
    }
}

/// What the revision of a transaction is to it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Reading {
    /// It has made it.
    Made,
    /// One that changes nothing makes no revision: it is a read of the present one.
    ChangedNothing,
}

fn check_as(
    call: &Call,
    history: &History,
    (revision, reading): (Revision, Reading),
    (when, succeeded): (&[Condition], bool),
    branch: &[Operation],
    gets: Option<&[Option<Seen>]>,
) -> Result<(), String> {
    let base = match reading {
        Reading::Made => revision.before(),
        Reading::ChangedNothing => revision,
    };
    let holds = |condition: &Condition| match condition {
        Condition::Modified { key, revision } => {
            history
                .get(key, base)
                .map(|seen| seen.revision)
                .unwrap_or_default()
                == *revision
        }
        Condition::Value { key, value } => history
            .get(key, base)
            .is_some_and(|seen| seen.value == *value),
        Condition::Held(guard) => history.standing.is_held(guard, base),
        Condition::Live { lease } => history.standing.is_live(lease, base),
    };
    if when.iter().all(holds) != succeeded {
        return Err(format!(
            "its conditions were {} as of {base}: {call:?}",
            !succeeded
        ));
    }
    let changes = outcome(history, base, branch);
    if reading == Reading::Made {
        check_changes(call, history, revision, &changes)?;
    } else if !changes.is_empty() {
        return Err(format!("it changed nothing at {revision}: {call:?}"));
    }
    match gets {
        Some(gets) => check_gets(call, history, (base, revision), branch, gets),
        None => Ok(()),
    }
}

/// What a branch leaves of the keys that it changes.
fn outcome(history: &History, base: Revision, branch: &[Operation]) -> Changes {
    let mut changed = Changes::new();
    for operation in branch {
        match operation {
            Operation::Put { key, value } => {
                changed.insert(key.clone(), Some(value.clone()));
            }
            Operation::Delete { key } => {
                changed.extend(history.get(key, base).map(|_| (key.clone(), None)));
            }
            Operation::DeletePrefix { prefix } => {
                let there = history.list(prefix, base).into_keys();
                changed.extend(there.map(|key| (key, None)));
            }
            Operation::Get { .. } => {}
        }
    }
    changed
}

/// Each get of a branch saw what the operations before it left.
fn check_gets(
    call: &Call,
    history: &History,
    (base, revision): (Revision, Revision),
    branch: &[Operation],
    gets: &[Option<Seen>],
) -> Result<(), String> {
    let mut written: BTreeMap<String, Option<Seen>> = BTreeMap::new();
    let mut told = gets.iter();
    for operation in branch {
        match operation {
            Operation::Put { key, value } => {
                let value = value.clone();
                written.insert(key.clone(), Some(Seen { value, revision }));
            }
            Operation::Delete { key } => {
                written.insert(key.clone(), None);
            }
            Operation::DeletePrefix { prefix } => {
                let there = history.list(prefix, base).into_keys();
                written.extend(there.map(|key| (key, None)));
            }
            Operation::Get { key } => {
                let there = written.get(key).cloned();
                let there = there.unwrap_or_else(|| history.get(key, base));
                if told.next() != Some(&there) {
                    return Err(format!("its get of {key} had to see {there:?}: {call:?}"));
                }
            }
        }
    }
    Ok(())
}

/// The values that a call may have written, and their keys.
fn values(ask: &Ask) -> Vec<(&str, &str)> {
    let put = |operation: &'_ Operation| matches!(operation, Operation::Put { .. });
    match ask {
        Ask::Put { key, value, .. } => vec![(key, value)],
        Ask::Transact {
            then, otherwise, ..
        } => then
            .iter()
            .chain(otherwise)
            .filter(|operation| put(operation))
            .filter_map(|operation| match operation {
                Operation::Put { key, value } => Some((key.as_str(), value.as_str())),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a call may have deleted a key.
fn may_delete(ask: &Ask, deleted: &str) -> bool {
    match ask {
        Ask::Delete { key, .. } => key == deleted,
        Ask::DeletePrefix { prefix, .. } => deleted.starts_with(prefix),
        Ask::Transact {
            then, otherwise, ..
        } => then
            .iter()
            .chain(otherwise)
            .any(|operation| match operation {
                Operation::Delete { key } => key == deleted,
                Operation::DeletePrefix { prefix } => deleted.starts_with(prefix),
                Operation::Put { .. } | Operation::Get { .. } => false,
            }),
        _ => false,
    }
}

/// The revision at which a write says that it was done.
fn done(told: &Told) -> Option<Revision> {
    match told {
        Told::Done { revision, .. }
        | Told::Deleted { revision, .. }
        | Told::Transacted { revision, .. } => Some(*revision),
        _ => None,
    }
}

/// Every change of the history was asked for by somebody who was not told that it was not done; no value was written
/// twice; and there are no more deletions than calls that may have made them.
fn check_owners(recording: &Recording, history: &History) -> Result<(), String> {
    let mut writers: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
    for call in &recording.calls {
        for wrote in values(&call.ask) {
            writers.entry(wrote).or_default().push(call);
        }
    }
    let mut written = BTreeMap::new();
    let mut unowned: BTreeMap<&str, usize> = BTreeMap::new();
    for event in history.events() {
        let Some(key) = event.key() else { continue };
        if event.kind != "put" {
            let owned = recording
                .calls
                .iter()
                .any(|call| done(&call.told) == Some(event.revision) && may_delete(&call.ask, key));
            if !owned && event.text("reason") != "lease-ended" {
                *unowned.entry(key).or_default() += 1;
            }
            continue;
        }
        let value = event.text("value");
        if let Some(before) = written.insert((key, value), event.revision) {
            return Err(format!(
                "applied twice, at {before} and at {}: {event:?}",
                event.revision
            ));
        }
        let Some(calls) = writers.get(&(key, value)) else {
            return Err(format!("a write that nobody sent: {event:?}"));
        };
        let owns = |call: &&Call| match &call.told {
            Told::Unknown => true,
            told => done(told) == Some(event.revision),
        };
        if !calls.iter().any(owns) {
            return Err(format!(
                "{event:?} was told {:?}",
                calls.iter().map(|call| &call.told).collect::<Vec<_>>()
            ));
        }
    }
    for (key, deletions) in unowned {
        let unknown = recording.calls.iter();
        let unknown = unknown
            .filter(|call| call.told == Told::Unknown && may_delete(&call.ask, key))
            .count();
        if deletions > unknown {
            return Err(format!(
                "{key} was deleted {deletions} times by nobody, and {unknown} calls may have done so"
            ));
        }
    }
    Ok(())
}

/// No two writes are told the same revision, but repeats of one.
fn check_one_write_a_revision(recording: &Recording) -> Result<(), String> {
    let mut owners: BTreeMap<Revision, &Call> = BTreeMap::new();
    for call in &recording.calls {
        let writes = match (&call.ask, &call.told) {
            (Ask::Put { .. } | Ask::Delete { .. }, Told::Done { .. }) => true,
            (Ask::Grant { .. }, Told::Granted { .. }) => true,
            (_, Told::Broken { .. } | Told::HandedOver { .. }) => true,
            // One that changes nothing shares the revision of another's change.
            (_, Told::Deleted { deleted, .. }) => 0 < *deleted,
            _ => false,
        };
        let revision = match &call.told {
            Told::Done { revision, .. }
            | Told::Deleted { revision, .. }
            | Told::Granted { revision, .. }
            | Told::Broken { revision, .. }
            | Told::HandedOver { revision, .. }
                if writes =>
            {
                *revision
            }
            _ => continue,
        };
        if let Some(other) = owners.insert(revision, call)
            && (once(&other.ask).is_none() || once(&other.ask) != once(&call.ask))
        {
            return Err(format!(
                "one revision for two writes: {other:?} and {call:?}"
            ));
        }
    }
    Ok(())
}

/// The idempotency key of a call.
pub(crate) fn once(ask: &Ask) -> Option<&str> {
    match ask {
        Ask::Put { once, .. }
        | Ask::Delete { once, .. }
        | Ask::DeletePrefix { once, .. }
        | Ask::Transact { once, .. }
        | Ask::Grant { once, .. } => once.as_deref(),
        _ => None,
    }
}

/// Something that took effect at one moment between its call and its answer, and at a revision.
struct Step<'a> {
    call: Moment,
    ret: Moment,
    revision: Revision,
    writes: bool,
    what: &'a Call,
}

/// No answer is older than one that had been given before its call, and no write as old.
fn check_real_time(recording: &Recording, history: &History) -> Result<(), String> {
    let mut steps = steps(recording, history);
    let mut by_ret: Vec<(Moment, Revision, &Call)> = steps
        .iter()
        .map(|step| (step.ret, step.revision, step.what))
        .collect();
    by_ret.sort_by_key(|(ret, ..)| *ret);
    steps.sort_by_key(|step| step.call);
    let mut returned = by_ret.into_iter().peekable();
    let mut newest: Option<(Revision, &Call)> = None;
    for step in steps {
        while let Some((_, revision, what)) = returned.next_if(|(ret, ..)| *ret < step.call) {
            if newest.is_none_or(|(most, _)| most < revision) {
                newest = Some((revision, what));
            }
        }
        let Some((most, before)) = newest else {
            continue;
        };
        if step.revision < most || (step.writes && step.revision == most) {
            return Err(format!(
                "{:?} (at {}) began after {before:?} had been answered, and is not newer",
                step.what, step.revision
            ));
        }
    }
    Ok(())
}

/// What is known to have taken effect. The repeats of one write are one, from the first call to the first answer.
fn steps<'a>(recording: &'a Recording, history: &History) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = Vec::new();
    let mut repeated: BTreeMap<&str, usize> = BTreeMap::new();
    let applied = applied(history);
    let began = began(recording);
    for call in &recording.calls {
        let Some((ret, revision, writes)) = effect(call, &applied) else {
            continue;
        };
        let first = once(&call.ask).filter(|_| writes);
        let first = first.and_then(|key| began.get(key).copied());
        let step = Step {
            call: first.unwrap_or(call.call),
            ret,
            revision,
            writes,
            what: call,
        };
        let same = once(&call.ask).filter(|_| writes).map(|key| {
            let at = *repeated.entry(key).or_insert(steps.len());
            (at, at < steps.len())
        });
        match same {
            Some((at, true)) => {
                steps[at].call = steps[at].call.min(step.call);
                steps[at].ret = steps[at].ret.min(step.ret);
            }
            _ => steps.push(step),
        }
    }
    steps
}

/// When each idempotency key was first used by a request that may have been done: one whose answer was lost may have
/// been, long before its repeat.
fn began(recording: &Recording) -> BTreeMap<&str, Moment> {
    let mut began = BTreeMap::new();
    for call in &recording.calls {
        if let (Some(key), false) = (once(&call.ask), call.told == Told::Failed) {
            let first = began.entry(key).or_insert(call.call);
            *first = call.call.min(*first);
        }
    }
    began
}

/// The revision of every value that was written.
fn applied(history: &History) -> BTreeMap<(&str, &str), Revision> {
    let puts = history.events().iter().filter(|event| event.kind == "put");
    puts.filter_map(|event| Some(((event.key()?, event.text("value")), event.revision)))
        .collect()
}

/// When a call was answered, at which revision it took effect, and whether it wrote.
fn effect(
    call: &Call,
    applied: &BTreeMap<(&str, &str), Revision>,
) -> Option<(Moment, Revision, bool)> {
    // These are as old as they please, or as they are asked to be.
    let old = matches!(
        &call.ask,
        Ask::Get {
            how: How::Local | How::At(_),
            ..
        } | Ask::List {
            how: How::Local | How::At(_),
            ..
        }
    );
    match &call.told {
        _ if old => None,
        Told::Unknown => {
            let revision = values(&call.ask)
                .iter()
                .find_map(|wrote| applied.get(wrote));
            revision.map(|revision| (Moment::NEVER, *revision, true))
        }
        Told::Done { revision, .. } => {
            let writes = matches!(&call.ask, Ask::Put { .. } | Ask::Delete { .. });
            Some((call.ret, *revision, writes))
        }
        Told::Deleted {
            revision,
            deleted,
            replayed,
        } => {
            let writes = 0 < *deleted;
            (writes || !*replayed).then_some((call.ret, *revision, writes))
        }
        Told::Transacted { revision, .. } => {
            let mut written = values(&call.ask).into_iter();
            let writes = written.any(|wrote| applied.get(&wrote) == Some(revision));
            // A repeat of one that wrote nothing is of the moment of the first.
            let replayed = matches!(&call.told, Told::Transacted { replayed: true, .. });
            (writes || !replayed).then_some((call.ret, *revision, writes))
        }
        Told::Granted { revision, .. }
        | Told::Broken { revision, .. }
        | Told::HandedOver { revision, .. } => Some((call.ret, *revision, true)),
        Told::Read { revision, .. }
        | Told::Renewed { revision, .. }
        | Told::Lost { revision }
        | Told::Holder { revision, .. }
        | Told::Holders { revision, .. } => Some((call.ret, *revision, false)),
        Told::Refused {
            revision, replayed, ..
        }
        | Told::Stale {
            revision, replayed, ..
        } => (!*replayed).then_some((call.ret, *revision, false)),
        // An acquire answers by what it waited for, which may be older than what others were told meanwhile.
        Told::Held { .. }
        | Told::HeldAll { .. }
        | Told::Queued { .. }
        | Told::Mismatch
        | Told::Failed => None,
    }
}
