//! Exclusion as the log has it: one exclusive holder of a name at a time, or some who share it, with fences that rise,
//! and every grant and every holder that a client was told is one.

use std::collections::{BTreeMap, BTreeSet};

use crate::Judged;
use crate::history::History;
use crate::owners::{self, Doing};
use crate::record::{Ask, Call, Event, Recording, Revision, Share, Told};
use crate::standing::{begins, ends};

/// Who holds a name, and the last fence of it.
#[derive(Default)]
struct Name<'a> {
    holders: BTreeMap<(&'a str, &'a str), (u64, bool)>,
    last: u64,
    granted_at: Revision,
}

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut names: BTreeMap<&str, Name<'_>> = BTreeMap::new();
    let mut judged = 0;
    for event in history.events() {
        let name = names.entry(&event.resource).or_default();
        if begins(event) {
            judged += 1;
            grant(name, event)?;
        } else if ends(event) {
            let held = name.holders.remove(&event.who());
            if held.map(|(fence, _)| Some(fence)) != Some(event.number("fence")) {
                return Err(format!("an end of {held:?}: {event:?}"));
            }
        }
    }
    owners::check(recording, history, Doing::Release)?;
    for call in &recording.calls {
        check_told(call, history)?;
    }
    Ok(judged)
}

fn grant<'a>(name: &mut Name<'a>, event: &'a Event) -> Result<(), String> {
    // Permits are shared as far as there are some, which is judged elsewhere.
    let shared = !event.is_of(Share::Exclusive);
    let others = name.holders.values();
    let excluded = others
        .clone()
        .any(|(_, held_shared)| !(shared && *held_shared));
    if excluded {
        return Err(format!(
            "granted while held by {:?}: {event:?}",
            name.holders
        ));
    }
    let fence = event.number("fence").unwrap_or_default();
    // Shared holds granted at one revision have one fence.
    let together = shared && name.granted_at == event.revision && fence == name.last;
    if Revision(fence) != event.revision || (fence <= name.last && !together) {
        return Err(format!("a fence after {}: {event:?}", name.last));
    }
    name.last = fence;
    name.granted_at = event.revision;
    name.holders.insert(event.who(), (fence, shared));
    Ok(())
}

/// Grants and ends that a client was told are in the history.
fn check_told(call: &Call, history: &History) -> Result<(), String> {
    let found = match (&call.ask, &call.told) {
        (
            Ask::Acquire {
                resource,
                lease,
                owner,
                ..
            },
            Told::Held { fence, .. },
        ) => is_granted(history, resource, (lease, owner), *fence),
        (
            Ask::Release {
                resource,
                lease,
                owner,
                fence,
            },
            Told::Done { revision, .. },
        ) => history.at(*revision).iter().any(|event| {
            ends(event)
                && event.resource == *resource
                && event.who() == (lease, owner)
                && event.text("reason") != "broken"
                && event.number("fence") == Some(*fence)
        }),
        // It is said not to be held so.
        (
            Ask::Release {
                resource,
                lease,
                owner,
                fence,
            },
            Told::Refused { revision, .. },
        ) => {
            let holders = holders(history, resource, *revision);
            !holders.contains(&(lease.clone(), owner.clone(), *fence))
        }
        (
            Ask::Holder { resource },
            Told::Holder {
                revision, fence, ..
            },
        ) => holder(history, resource, *revision) == *fence,
        (Ask::Holders { resource }, Told::Holders { revision, holders }) => {
            self::holders(history, resource, *revision) == *holders
        }
        _ => true,
    };
    match found {
        true => Ok(()),
        false => Err(format!("the history has nothing of this: {call:?}")),
    }
}

/// The fence of the hold of a name that has one holder, as of a revision.
fn holder(history: &History, resource: &str, revision: Revision) -> Option<u64> {
    let holders = history.standing.holders(resource, revision)?;
    holders.values().copied().max()
}

/// Whether a hold of a name by somebody began with this fence.
pub(crate) fn is_granted(history: &History, resource: &str, who: (&str, &str), fence: u64) -> bool {
    history.at(Revision(fence)).iter().any(|event| {
        begins(event)
            && event.resource == resource
            && event.who() == who
            && event.number("fence") == Some(fence)
    })
}

/// All who hold a name as of a revision: the lease, the owner and the fence of each.
fn holders(
    history: &History,
    resource: &str,
    revision: Revision,
) -> BTreeSet<(String, String, u64)> {
    let holders = history.standing.holders(resource, revision);
    let each = holders.into_iter().flatten();
    each.map(|((lease, owner), fence)| (lease.clone(), owner.clone(), *fence))
        .collect()
}
