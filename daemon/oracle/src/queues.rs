//! Queues: places are granted in the order of priority and arrival, and none is lost while its lease lives.
//!
//! Who was handed a leadership, and whom a delay lets through, is served ahead of the others. A place that is due may be passed over before it is ended, which comes soon: one that is passed over and waits on
//! starves. Nor does anything stand free while somebody waits for it alone, but for a delay.

use std::collections::{BTreeMap, BTreeSet};

use crate::Judged;
use crate::askings::{Asking, Askings};
use crate::breaks::is_broken;
use crate::delays::admitted;
use crate::history::History;
use crate::owners::{self, Doing};
use crate::record::{Ask, Call, Event, Recording, Revision, Told};
use crate::stalls::Stalls;
use crate::standing::{begins, ends};

/// The order in which places are served: the greatest priority first, then the oldest.
type Rank = (i64, Revision);

/// A place that waits.
struct Place {
    rank: Rank,
    /// The first grant that passed it over, which is right only where the place was due and leaves soon without a
    /// grant.
    passed_by: Option<(Revision, String)>,
}

type Queue<'a> = BTreeMap<(&'a str, &'a str), Place>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let askings = Askings::of(recording);
    let mut queues: BTreeMap<&str, Queue<'_>> = BTreeMap::new();
    let (stalls, admitted) = (Stalls::of(recording), admitted(recording, history));
    let mut judged = 0;
    let mut handed_over: Option<(Revision, &str)> = None;
    let mut delayed: BTreeSet<&str> = BTreeSet::new();
    let mut events = history.events().iter().peekable();
    while let Some(event) = events.next() {
        let queue = queues.entry(&event.resource).or_default();
        if event.text("reason") == "handed-over" {
            handed_over = Some((event.revision, &event.resource));
        }
        match event.kind.as_str() {
            "queued" => {
                let priority = event
                    .more
                    .get("priority")
                    .and_then(serde_json::Value::as_i64);
                let place = Place {
                    rank: (-priority.unwrap_or_default(), event.revision),
                    passed_by: None,
                };
                if queue.insert(event.who(), place).is_some() {
                    return Err(format!("a second place of one asker: {event:?}"));
                }
            }
            "left" => leave(queue, event, history, &stalls)?,
            _ if ends(event) && may_delay(event, &askings) => {
                delayed.insert(&event.resource);
            }
            _ if begins(event) => {
                judged += 1;
                delayed.remove(event.resource.as_str());
                let at = (event.revision, event.resource.as_str());
                let chosen = handed_over == Some(at) || admitted.contains(&at);
                // Somebody who did not wait comes after all of its priority who do.
                let newcomer = (-askings.priority(event), event.revision);
                serve(queue, event, newcomer, chosen)?;
            }
            _ => {}
        }
        if events
            .peek()
            .is_none_or(|next| next.revision != event.revision)
        {
            // Whoever leaves makes room as well: it may have stood first without being able to take this alone.
            let makes_room = |event: &&Event| ends(event) || event.kind == "left";
            for event in history.at(event.revision).iter().filter(makes_room) {
                let resource = event.resource.as_str();
                let holders = history.standing.holders(resource, event.revision);
                let is_free = holders.is_none_or(BTreeMap::is_empty);
                if is_free && !delayed.contains(resource) {
                    pass_by_all(queues.entry(resource).or_default(), &askings, event);
                }
            }
        }
    }
    owners::check(recording, history, Doing::Leave)?;
    for call in &recording.calls {
        check_left(call, history)?;
    }
    // A place that was due is ended with the entry that passed it over.
    for (resource, queue) in &queues {
        for (who, place) in queue {
            if let Some((_, grant)) = &place.passed_by {
                return Err(format!(
                    "{who:?} waits for {resource} and was passed over by {grant}"
                ));
            }
        }
    }
    Ok(judged)
}

fn leave<'a>(
    queue: &mut Queue<'a>,
    event: &'a Event,
    history: &History,
    stalls: &Stalls,
) -> Result<(), String> {
    let place = queue.remove(&event.who());
    let place = place.ok_or_else(|| format!("there was no such place: {event:?}"))?;
    let Some((at, grant)) = place.passed_by else {
        return Ok(());
    };
    // It may have been due when it was passed over; it was not if its owner left by itself, or long afterwards.
    let (passed, left) = (history.observed(at), history.observed(event.revision));
    let took = left.since(passed);
    if event.text("reason") == "withdrawn" || stalls.allowance(passed, left) < took {
        return Err(format!(
            "a place that lived was passed over by {grant}, {} ms before: {event:?}",
            took / 1_000_000
        ));
    }
    Ok(())
}

/// Whether nobody may be granted it for a while after the end of a hold.
fn may_delay(event: &Event, askings: &Askings<'_>) -> bool {
    let with_lease = event.text("reason") == "lease-ended";
    is_broken(event) || with_lease && 0 < askings.lock_delay_ms(event)
}

/// What stands free passes the first place by, where that waits for nothing else.
fn pass_by_all(queue: &mut Queue<'_>, askings: &Askings<'_>, event: &Event) {
    let first = queue.iter_mut().min_by_key(|(_, place)| place.rank);
    let Some((who, place)) = first else { return };
    let waits_for_more = |asking: &Asking<'_>| {
        asking.names.contains_key(event.resource.as_str()) && 1 < asking.names.len()
    };
    if !askings.by(*who).iter().any(waits_for_more) {
        let end = || (event.revision, format!("{event:?}, which is free since"));
        place.passed_by.get_or_insert_with(end);
    }
}

/// Whoever was told that it left the queue did.
fn check_left(call: &Call, history: &History) -> Result<(), String> {
    let (
        Ask::Leave {
            resource,
            lease,
            owner,
        },
        Told::Done { revision, .. },
    ) = (&call.ask, &call.told)
    else {
        return Ok(());
    };
    let left = history.at(*revision).iter().any(|event| {
        event.kind == "left"
            && event.text("reason") == "withdrawn"
            && event.resource == *resource
            && event.who() == (lease, owner)
    });
    match left {
        true => Ok(()),
        false => Err(format!("the history has nothing of this: {call:?}")),
    }
}

/// A grant to the first place, or to somebody who found nobody waiting.
fn serve<'a>(
    queue: &mut Queue<'a>,
    event: &'a Event,
    newcomer: Rank,
    chosen: bool,
) -> Result<(), String> {
    let place = queue.remove(&event.who());
    if let Some((_, grant)) = place.as_ref().and_then(|place| place.passed_by.as_ref()) {
        return Err(format!(
            "a place that lived was passed over by {grant}: {event:?}"
        ));
    }
    if chosen {
        return Ok(());
    }
    let rank = place.map_or(newcomer, |place| place.rank);
    let text = format!("{event:?}");
    for other in queue.values_mut().filter(|other| other.rank < rank) {
        let passed = || (event.revision, text.clone());
        other.passed_by.get_or_insert_with(passed);
    }
    Ok(())
}
