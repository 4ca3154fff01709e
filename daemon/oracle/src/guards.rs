//! Guards: a guarded write is done only while its fence is held, and is refused for its fence only where it is not.

use crate::Judged;
use crate::history::History;
use crate::record::{Ask, Call, Guard, Recording, Revision, Told};

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut judged = 0;
    for call in &recording.calls {
        if let Some(guard) = guard(&call.ask) {
            judged += u64::from(check_told(call, guard, history)?);
        }
    }
    Ok(judged)
}

fn guard(ask: &Ask) -> Option<&Guard> {
    match ask {
        Ask::Put { guard, .. }
        | Ask::Delete { guard, .. }
        | Ask::DeletePrefix { guard, .. }
        | Ask::Transact { guard, .. } => guard.as_ref(),
        _ => None,
    }
}

fn check_told(call: &Call, guard: &Guard, history: &History) -> Result<bool, String> {
    let is_held = |at: Revision| history.standing.is_held(guard, at);
    let was_held = match &call.told {
        Told::Done { revision, .. } => is_held(revision.before()),
        Told::Deleted {
            revision, deleted, ..
        } => is_held(match deleted {
            0 => *revision,
            _ => revision.before(),
        }),
        // One that changed nothing is of the present revision, which somebody else may have made.
        Told::Transacted { revision, .. } => is_held(revision.before()) || is_held(*revision),
        // A guard is looked at before any condition.
        Told::Refused {
            revision,
            replayed: false,
            ..
        } => is_held(*revision),
        Told::Stale {
            revision,
            fence,
            replayed: false,
        } => return check_stale(call, guard, history, (*revision, *fence)).map(|()| true),
        _ => return Ok(false),
    };
    match was_held {
        true => Ok(true),
        false => Err(format!("the fence that guards it was not held: {call:?}")),
    }
}

/// A refusal tells the revision after the entry that decided, so that only what surely stood from the call to then
/// speaks against it.
fn check_stale(
    call: &Call,
    guard: &Guard,
    history: &History,
    (revision, present): (Revision, Option<u64>),
) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{what}: {call:?}"));
    let known = |fence: u64| history.observed(Revision(fence)) < call.call;
    if known(guard.fence) && history.standing.is_held(guard, revision) {
        return wrong("the fence that guards it was held".to_owned());
    }
    let Some(present) = present else {
        let holders = history.standing.holders(&guard.resource, revision);
        let mut fences = holders.into_iter().flat_map(|holders| holders.values());
        return match fences.find(|fence| known(**fence)) {
            Some(fence) => wrong(format!("nobody is said to hold it, and fence {fence} did")),
            None => Ok(()),
        };
    };
    let shown = Guard {
        resource: guard.resource.clone(),
        fence: present,
    };
    let granted = Revision(present);
    if revision < granted || !history.standing.is_held(&shown, granted) {
        return wrong("the fence that is said to be held was never granted".to_owned());
    }
    match history.standing.end_of(&shown) {
        Some(end) if history.observed(end) < call.call => {
            wrong(format!("the fence that is said to be held ended at {end}"))
        }
        _ => Ok(()),
    }
}
