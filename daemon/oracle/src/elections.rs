//! Elections: only who leads proclaims, by its fence, and what observers are shown is what was proclaimed last. A
//! leadership that is handed over goes, at one revision, to the candidate who was named.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Ask, Call, Event, Recording, Revision, Told};

/// Who leads: the fence and the value; none in a vacancy.
type Leader<'a> = Option<(u64, &'a str)>;

/// The leader of each election from each revision at which it changed.
type Leaders<'a> = BTreeMap<&'a str, BTreeMap<Revision, Leader<'a>>>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut leaders = Leaders::new();
    for event in history.events() {
        if !event.resource.starts_with("elections/") {
            continue;
        }
        let by_revision = leaders.entry(&event.resource).or_default();
        let present = by_revision.last_key_value().and_then(|(_, leader)| *leader);
        let fence = event.number("fence").unwrap_or_default();
        match event.kind.as_str() {
            "elected" => {
                if let Some(leader) = present {
                    return Err(format!("elected while {leader:?} leads: {event:?}"));
                }
                by_revision.insert(event.revision, Some((fence, event.text("value"))));
            }
            "proclaimed" | "resigned" if present.map(|(fence, _)| fence) != Some(fence) => {
                return Err(format!("{present:?} leads: {event:?}"));
            }
            "proclaimed" => {
                by_revision.insert(event.revision, Some((fence, event.text("value"))));
            }
            "resigned" => {
                by_revision.insert(event.revision, None);
            }
            _ => {}
        }
    }
    check_asked(recording, history)?;
    let mut judged = 0;
    for call in &recording.calls {
        judged += u64::from(check_told(call, history, &leaders)?);
    }
    Ok(judged)
}

fn at<'a>(leaders: &Leaders<'a>, resource: &str, revision: Revision) -> Leader<'a> {
    let by_revision = leaders.get(resource)?;
    by_revision
        .range(..=revision)
        .next_back()
        .and_then(|(_, leader)| *leader)
}

fn check_told(call: &Call, history: &History, leaders: &Leaders<'_>) -> Result<bool, String> {
    match (&call.ask, &call.told) {
        (
            Ask::Proclaim {
                resource,
                fence,
                value,
                ..
            },
            Told::Done { revision, .. },
        ) => {
            let proclaimed = history.at(*revision).iter().any(|event| {
                event.kind == "proclaimed"
                    && event.resource == *resource
                    && event.number("fence") == Some(*fence)
                    && event.text("value") == value
            });
            match proclaimed {
                true => Ok(true),
                false => Err(format!("the history has no such proclamation: {call:?}")),
            }
        }
        (
            Ask::Proclaim {
                resource, fence, ..
            },
            Told::Refused { revision, .. },
        ) => match at(leaders, resource, *revision) {
            Some((leads, _)) if leads == *fence => {
                Err(format!("its fence was the one that leads: {call:?}"))
            }
            _ => Ok(true),
        },
        (
            Ask::Holder { resource },
            Told::Holder {
                revision,
                fence,
                value,
            },
        ) if resource.starts_with("elections/") => {
            let leader = at(leaders, resource, *revision);
            match leader == fence.zip(value.as_deref()) {
                true => Ok(true),
                false => Err(format!("{leader:?} led: {call:?}")),
            }
        }
        (Ask::HandOver { .. }, _) => check_handed_over(call, history),
        _ => Ok(false),
    }
}

/// Nobody loses a leadership to another candidate but who asked for that.
fn check_asked(recording: &Recording, history: &History) -> Result<(), String> {
    let handed_over = |event: &&Event| event.text("reason") == "handed-over";
    for event in history.events().iter().filter(handed_over) {
        let asked = |call: &Call| match (&call.ask, &call.told) {
            (
                Ask::HandOver {
                    resource,
                    lease,
                    owner,
                    fence,
                    ..
                },
                told,
            ) => {
                let is_done = match told {
                    Told::HandedOver { revision, .. } => *revision == event.revision,
                    told => *told == Told::Unknown,
                };
                let is_it = event.resource == *resource
                    && event.who() == (lease, owner)
                    && event.number("fence") == Some(*fence);
                is_done && is_it
            }
            _ => false,
        };
        if !recording.calls.iter().any(asked) {
            return Err(format!("nobody handed this over: {event:?}"));
        }
    }
    Ok(())
}

fn check_handed_over(call: &Call, history: &History) -> Result<bool, String> {
    let Ask::HandOver {
        resource,
        lease,
        owner,
        fence,
        to,
    } = &call.ask
    else {
        return Ok(false);
    };
    match &call.told {
        Told::HandedOver {
            revision,
            lease: heir,
            fence: new,
        } => {
            let events = || {
                let at = history.at(*revision).iter();
                at.filter(|event| event.resource == *resource)
            };
            let resigned = events().any(|event| {
                event.text("reason") == "handed-over"
                    && event.who() == (lease, owner)
                    && event.number("fence") == Some(*fence)
            });
            let elected = events().any(|event| {
                event.kind == "elected"
                    && event.who() == (heir, to)
                    && event.number("fence") == Some(*new)
            });
            let waiting = waiting(history, resource, to, revision.before());
            let first = waiting.first().map(|place| place.lease);
            match resigned && elected && first == Some(heir) {
                true => Ok(true),
                false => Err(format!(
                    "the history has no such passing of the lead, for which {waiting:?} waited: {call:?}"
                )),
            }
        }
        // The revision is that after the entry that decided: what surely stood from the call to then speaks against it.
        Told::Refused { revision, .. } => {
            let known = |at: Revision| history.observed(at) < call.call;
            let holders = history.standing.holders(resource, *revision);
            let leads = holders
                .and_then(|holders| holders.get(&(lease.clone(), owner.clone())))
                .is_some_and(|held| held == fence && known(Revision(*held)));
            let heirs = waiting(history, resource, to, *revision);
            match heirs.iter().find(|place| known(place.queued)) {
                Some(heir) if leads => Err(format!("{heir:?} waited for who led: {call:?}")),
                _ => Ok(true),
            }
        }
        _ => Ok(false),
    }
}

/// A candidate who waits.
#[derive(Debug)]
struct Place<'a> {
    priority: i64,
    queued: Revision,
    lease: &'a str,
}

/// The candidates of a name who wait as of a revision, in the order of their places.
fn waiting<'a>(
    history: &'a History,
    resource: &str,
    candidate: &str,
    revision: Revision,
) -> Vec<Place<'a>> {
    let mut places: BTreeMap<&str, Place<'_>> = BTreeMap::new();
    let events = history.between(Revision(0), revision).iter();
    for event in events.filter(|event| event.resource == resource) {
        let (lease, name) = event.who();
        if name != candidate {
            continue;
        }
        if event.kind == "queued" {
            let priority = event.more.get("priority");
            let priority = priority.and_then(serde_json::Value::as_i64);
            let place = Place {
                priority: priority.unwrap_or_default(),
                queued: event.revision,
                lease,
            };
            places.insert(lease, place);
        } else {
            places.remove(lease);
        }
    }
    let mut places: Vec<Place<'_>> = places.into_values().collect();
    places.sort_by_key(|place| (-place.priority, place.queued));
    places
}
