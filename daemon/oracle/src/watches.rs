//! Watches: ordered, unique, whole, without gap, resumable, and bookmarks that hold.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Event, Recording, Reply, Revision, Seen};

/// How much of what was before one reply shows (`api.md` §7).
const PREVIOUS_BYTES: usize = 8 << 20;
/// How many bytes of JSON a byte becomes at most.
const MOST_ESCAPED: usize = 6;
/// What an entry takes beside its key and its value, at most.
const OTHER_BYTES: usize = 1 << 10;

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
    let mut room = Room(PREVIOUS_BYTES);
    for at in 0..there.len().max(reply.events.len()) {
        match (there.get(at), reply.events.get(at)) {
            (Some(event), Some(told)) if same(event, told) => {
                check_previous(reply.previous, told, history, &mut room)?;
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

/// The entry before is shown to who asked for it, and is the one that was there; its value may be left out only where
/// there was no room for it.
fn check_previous(
    asked: bool,
    told: &Event,
    history: &History,
    room: &mut Room,
) -> Result<(), String> {
    let (key, previous) = match (told.key(), told.more.get("previous")) {
        (Some(key), Some(previous)) if asked => (key, previous),
        (Some(_), None) if asked => {
            return Err(format!("what was before is not told: {told:?}"));
        }
        (_, Some(_)) => return Err(format!("what was before is told unasked: {told:?}")),
        _ => return Ok(()),
    };
    let before = history.get(key, told.revision.before());
    let fits = room.takes(key, before.as_ref());
    let omitted = previous["omitted"] == true;
    if omitted && fits {
        return Err(format!(
            "{key} was {before:?} before, for which there was room: {told:?}"
        ));
    }
    let value = previous["value"].as_str().filter(|_| !omitted);
    let shown = previous["mod_revision"].as_u64().map(|at| (value, at));
    let there = before.as_ref().map(|seen| {
        let value = Some(seen.value.as_str()).filter(|_| !omitted);
        (value, seen.revision.0)
    });
    match shown == there {
        true => Ok(()),
        false => Err(format!("{key} was {there:?} before: {told:?}")),
    }
}

/// How much of what was before one reply still has room for, at least.
struct Room(usize);

impl Room {
    /// Whether there was surely room for this, of which some is taken then.
    fn takes(&mut self, key: &str, before: Option<&Seen>) -> bool {
        let size = before.map_or(0, |seen| {
            OTHER_BYTES + MOST_ESCAPED * (key.len() + seen.value.len())
        });
        let left = self.0.checked_sub(size);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}
