//! Watches: ordered, unique, whole, without gap, resumable, and bookmarks that hold.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Event, Recording, Reply, Revision};

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut judged = 0;
    let mut seen: BTreeMap<u64, Revision> = BTreeMap::new();
    for reply in &recording.replies {
        if let Some(compacted) = reply.compacted {
            if compacted <= reply.after {
                return Err(format!(
                    "told that history is gone which is not: {}",
                    head(reply)
                ));
            }
            seen.remove(&reply.watcher);
            continue;
        }
        check_place(reply, &mut seen)?;
        check_events(reply, history)?;
        judged += reply.events.len() as u64;
    }
    Ok(judged)
}

/// A reply without its events.
fn head(reply: &Reply) -> String {
    let events = reply.events.len();
    format!(
        "watcher {} at member {}, from {} to {}, {events} events",
        reply.watcher, reply.member, reply.after, reply.revision
    )
}

/// Each reply goes on where the one before it ended, and says how far it goes.
fn check_place(reply: &Reply, seen: &mut BTreeMap<u64, Revision>) -> Result<(), String> {
    let before = seen.insert(reply.watcher, reply.revision);
    if let Some(before) = before.filter(|before| *before != reply.after) {
        return Err(format!(
            "resumed elsewhere than at {before}: {}",
            head(reply)
        ));
    }
    if reply.revision < reply.after {
        return Err(format!("went back: {}", head(reply)));
    }
    let outside = |event: &&Event| event.revision <= reply.after || reply.revision < event.revision;
    if let Some(event) = reply.events.iter().find(outside) {
        return Err(format!("{event:?} is outside of {}", head(reply)));
    }
    let mut pairs = reply.events.windows(2);
    if let Some(pair) = pairs.find(|pair| pair[1].revision < pair[0].revision) {
        return Err(format!("out of order: {pair:?} in {}", head(reply)));
    }
    Ok(())
}

/// The events are those of the history, all of them, each once.
fn check_events(reply: &Reply, history: &History) -> Result<(), String> {
    let selected = |event: &&Event| {
        let mut prefixes = reply.prefixes.iter();
        prefixes.any(|prefix| event.resource.starts_with(prefix))
    };
    if history.end < reply.revision {
        return Err(format!(
            "the history ends at {}: {}",
            history.end,
            head(reply)
        ));
    }
    let there: Vec<&Event> = history
        .between(reply.after, reply.revision)
        .iter()
        .filter(selected)
        .collect();
    for at in 0..there.len().max(reply.events.len()) {
        match (there.get(at), reply.events.get(at)) {
            (Some(event), Some(told)) if same(event, told) => {
                check_previous(told, history)?;
            }
            (event, told) => {
                let what = match (event, told) {
                    (Some(_), None) => "an event is missing",
                    (None, Some(told)) | (Some(_), Some(told))
                        if reply.events[..at].contains(told) =>
                    {
                        "an event is told twice"
                    }
                    (Some(event), Some(told)) if event.revision < told.revision => {
                        "an event is skipped"
                    }
                    _ => "an event that did not happen so",
                };
                return Err(format!(
                    "{what}: told {told:?} where the history has {event:?}, {}",
                    head(reply)
                ));
            }
        }
    }
    Ok(())
}

/// Equal but for the entry before, which only some watchers ask for.
fn same(event: &Event, told: &Event) -> bool {
    if !told.more.contains_key("previous") {
        return event == told;
    }
    let mut plain = told.clone();
    plain.more.remove("previous");
    *event == plain
}

/// The entry before, where it is shown, is the one that was there.
fn check_previous(told: &Event, history: &History) -> Result<(), String> {
    let (Some(previous), Some(key)) = (told.more.get("previous"), told.key()) else {
        return Ok(());
    };
    if previous["omitted"] == true {
        return Ok(());
    }
    let before = history.get(key, told.revision.before());
    let shown = previous["value"]
        .as_str()
        .zip(previous["mod_revision"].as_u64());
    let there = before
        .as_ref()
        .map(|seen| (seen.value.as_str(), seen.revision.0));
    match shown == there {
        true => Ok(()),
        false => Err(format!("{key} was {there:?} before: {told:?}")),
    }
}
