//! Exactly once: whatever was sent with one idempotency key is decided once, and every answer says so.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::order::once;
use crate::record::{Ask, Call, Recording, Revision, Told};

/// What a decision is, apart from what ages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Decision {
    Done(Revision),
    Deleted(Revision, u64),
    Transacted(Revision, bool),
    Granted(Revision),
    Refused,
    Stale(Option<u64>),
}

pub(crate) fn check(recording: &Recording, _history: &History) -> Judged {
    let mut by_key: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &recording.calls {
        if let Some(key) = once(&call.ask) {
            by_key.entry(key).or_default().push(call);
        }
    }
    let mut judged = 0;
    for (key, calls) in by_key.iter().filter(|(_, calls)| calls.len() > 1) {
        judged += 1;
        check_one(key, calls)?;
    }
    Ok(judged)
}

fn check_one(key: &str, calls: &[&Call]) -> Result<(), String> {
    if let Some(other) = calls.iter().find(|call| call.ask != calls[0].ask) {
        return Err(format!(
            "the recording has two requests with {key}: {other:?} and {:?}",
            calls[0]
        ));
    }
    if let Some(call) = calls.iter().find(|call| call.told == Told::Mismatch) {
        return Err(format!("the same request is said to be another: {call:?}"));
    }
    let mut first: Option<(&Call, Decision)> = None;
    let mut decided: Option<&Call> = None;
    for call in calls {
        let (decision, replayed) = match &call.told {
            Told::Done { revision, replayed } => (Decision::Done(*revision), *replayed),
            Told::Deleted {
                revision,
                deleted,
                replayed,
            } => (Decision::Deleted(*revision, *deleted), *replayed),
            Told::Transacted {
                revision,
                succeeded,
                replayed,
                ..
            } => (Decision::Transacted(*revision, *succeeded), *replayed),
            Told::Granted {
                revision, replayed, ..
            } => (Decision::Granted(*revision), *replayed),
            // A grant that is told again is told as the lease is now: that it has ended is no other decision.
            Told::Refused { .. } if matches!(call.ask, Ask::Grant { .. }) => continue,
            Told::Refused { replayed, .. } => (Decision::Refused, *replayed),
            Told::Stale {
                fence, replayed, ..
            } => (Decision::Stale(*fence), *replayed),
            _ => continue,
        };
        if let Some((other, before)) = first
            && before != decision
        {
            return Err(format!("two decisions for {key}: {other:?} and {call:?}"));
        }
        first = Some((call, decision));
        if replayed {
            continue;
        }
        if let Some(other) = decided {
            return Err(format!("decided twice for {key}: {other:?} and {call:?}"));
        }
        decided = Some(call);
    }
    // Whoever is told a repeat was not the first to ask.
    let began = calls.iter().map(|call| call.call).min().unwrap_or_default();
    let early = calls.iter().find(|call| {
        let replayed = matches!(
            &call.told,
            Told::Done { replayed: true, .. }
                | Told::Transacted { replayed: true, .. }
                | Told::Granted { replayed: true, .. }
                | Told::Deleted { replayed: true, .. }
                | Told::Refused { replayed: true, .. }
                | Told::Stale { replayed: true, .. }
        );
        replayed
            && call.call == began
            && calls
                .iter()
                .all(|other| other.call >= call.ret || std::ptr::eq(*other, **call))
    });
    match early {
        Some(call) => Err(format!("the first to ask is told a repeat: {call:?}")),
        None => Ok(()),
    }
}
