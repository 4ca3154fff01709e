//! Several locks at once, or none: what was asked for together is queued, granted and given up at one revision, and
//! nobody is granted what was not asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::Judged;
use crate::askings::{Asking, Askings, Who};
use crate::exclusion::is_granted;
use crate::history::History;
use crate::record::{Ask, Call, Event, Recording, Told};
use crate::standing::begins;

/// What one asker gains or gives up at one revision, by kind of event.
type Group<'a> = BTreeMap<(Who<'a>, &'a str), Vec<&'a Event>>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let askings = Askings::of(recording);
    let mut judged = 0;
    for events in history.events().chunk_by(|a, b| a.revision == b.revision) {
        let mut groups = Group::new();
        for event in events.iter().filter(|event| is_of_queue(event)) {
            let group = groups.entry((event.who(), &event.kind)).or_default();
            group.push(event);
        }
        for ((who, _), group) in groups {
            check_whole(&group, askings.by(who))?;
            judged += u64::from(1 < group.len() && begins(group[0]));
        }
    }
    for call in &recording.calls {
        check_told(call, history)?;
    }
    Ok(judged)
}

fn is_of_queue(event: &Event) -> bool {
    begins(event) || matches!(event.kind.as_str(), "queued" | "left")
}

/// Each event belongs to something that was asked for, of which all is there and as it was asked for.
fn check_whole(group: &[&Event], askings: &[Asking<'_>]) -> Result<(), String> {
    let names: BTreeSet<&str> = group.iter().map(|event| event.resource.as_str()).collect();
    for event in group {
        let explains = |asking: &Asking<'_>| {
            let share = asking.names.get(event.resource.as_str());
            // An end does not tell how much there was.
            let as_asked = |share| event.kind == "left" || event.is_of(share);
            share.is_some_and(|share| as_asked(*share))
                && asking.names.keys().all(|name| names.contains(name))
        };
        if !askings.iter().any(explains) {
            return Err(format!(
                "{names:?} at once, which is none of what was asked for, {askings:?}: {event:?}"
            ));
        }
    }
    Ok(())
}

/// Who was told that it holds all of them was granted all of them at one revision.
fn check_told(call: &Call, history: &History) -> Result<(), String> {
    let (
        Ask::AcquireAll {
            locks,
            lease,
            owner,
            ..
        },
        Told::HeldAll { fences, .. },
    ) = (&call.ask, &call.told)
    else {
        return Ok(());
    };
    let wrong = |what: &str| Err(format!("{what}: {call:?}"));
    if !locks.keys().eq(fences.keys()) {
        return wrong("told of others than were asked for");
    }
    let different: BTreeSet<&u64> = fences.values().collect();
    if different.len() != 1 {
        return wrong("granted one by one");
    }
    let mut granted = fences.iter();
    match granted.all(|(name, fence)| is_granted(history, name, (lease, owner), *fence)) {
        true => Ok(()),
        false => wrong("the history has no such grant"),
    }
}
