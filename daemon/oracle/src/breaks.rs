//! Breaks: what an operator is told that he ended is what ended, and nothing else was ended so.

use crate::history::History;
use crate::record::{Ask, Call, Event, Recording, Told};
use crate::standing::ends;

/// Whether an event tells of a hold that was broken.
pub(crate) fn is_broken(event: &Event) -> bool {
    ends(event) && event.text("reason") == "broken"
}

/// The calls that may have broken a hold: the one that was told so, or else those of which nobody knows what came.
pub(crate) fn breakers<'a>(recording: &'a Recording, event: &Event) -> Vec<&'a Call> {
    let asked = |call: &&Call| match &call.ask {
        Ask::Break {
            resource,
            fence,
            holder,
            ..
        } => {
            let is_meant = holder
                .as_ref()
                .is_none_or(|(lease, owner)| event.who() == (lease, owner));
            *resource == event.resource && event.number("fence") == Some(*fence) && is_meant
        }
        _ => false,
    };
    let calls: Vec<&Call> = recording.calls.iter().filter(asked).collect();
    let told = |call: &&&Call| matches!(&call.told, Told::Broken { revision, .. } if *revision == event.revision);
    match calls.iter().find(told) {
        Some(call) => vec![call],
        None => {
            let unknown = calls.into_iter().filter(|call| call.told == Told::Unknown);
            unknown.collect()
        }
    }
}

/// Every break of the history was asked for, and every answer tells what was broken.
pub(crate) fn check(recording: &Recording, history: &History) -> Result<(), String> {
    for event in history.events().iter().filter(|event| is_broken(event)) {
        if breakers(recording, event).is_empty() {
            return Err(format!("nobody broke this: {event:?}"));
        }
    }
    for call in &recording.calls {
        check_told(call, history)?;
    }
    Ok(())
}

fn check_told(call: &Call, history: &History) -> Result<(), String> {
    let Ask::Break {
        resource,
        fence,
        holder,
        ..
    } = &call.ask
    else {
        return Ok(());
    };
    let is_meant = |lease: &str, owner: &str, held: u64| {
        let named = holder
            .as_ref()
            .is_none_or(|(named, of)| named == lease && of == owner);
        held == *fence && named
    };
    match &call.told {
        Told::Broken { revision, holders } => {
            let before = history.standing.holders(resource, revision.before());
            let meant = before
                .into_iter()
                .flatten()
                .filter(|((lease, owner), held)| is_meant(lease, owner, **held));
            let meant = meant.map(|((lease, owner), held)| (lease.clone(), owner.clone(), *held));
            let broken = history.at(*revision).iter();
            let broken = broken
                .filter(|event| is_broken(event) && event.resource == *resource)
                .map(|event| {
                    let (lease, owner) = event.who();
                    let held = event.number("fence").unwrap_or_default();
                    (lease.to_owned(), owner.to_owned(), held)
                });
            let is_right = broken.collect::<std::collections::BTreeSet<_>>() == *holders
                && meant.collect::<std::collections::BTreeSet<_>>() == *holders
                && !holders.is_empty();
            match is_right {
                true => Ok(()),
                false => Err(format!("the history has no such break: {call:?}")),
            }
        }
        // The revision is that after the entry that decided, so that a hold which began with it is no argument.
        Told::Refused { revision, .. } => {
            let present = history.standing.holders(resource, *revision);
            let mut meant = present
                .into_iter()
                .flatten()
                .filter(|((lease, owner), held)| is_meant(lease, owner, **held));
            let known = |held: u64| history.observed(crate::record::Revision(held)) < call.call;
            match meant.any(|(_, held)| known(*held)) {
                true => Err(format!("there was something to break: {call:?}")),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
