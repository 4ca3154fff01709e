//! Semaphores as the log has them: never more permits held than there are, everybody is granted what was asked for, and
//! those who hold at one time agree on how many there are.

use std::collections::BTreeMap;

use crate::Judged;
use crate::askings::{Askings, Who};
use crate::history::History;
use crate::record::{Event, Recording, Share};
use crate::standing::{begins, ends};

/// The permits of each holder, and of how many.
type Holders<'a> = BTreeMap<Who<'a>, (u64, u64)>;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let askings = Askings::of(recording);
    let mut semaphores: BTreeMap<&str, Holders<'_>> = BTreeMap::new();
    let mut judged = 0;
    let events = history.events().iter();
    for event in events.filter(|event| event.resource.starts_with("semaphores/")) {
        let holders = semaphores.entry(&event.resource).or_default();
        if begins(event) {
            judged += 1;
            holders.insert(event.who(), granted(event, &askings)?);
            check_limit(event, holders)?;
        } else if ends(event) {
            holders.remove(&event.who());
        }
    }
    Ok(judged)
}

fn granted(event: &Event, askings: &Askings<'_>) -> Result<(u64, u64), String> {
    match askings.share(event) {
        Some(share @ Share::Permits { permits, limit }) if event.is_of(share) => {
            Ok((permits, limit))
        }
        asked => Err(format!("{asked:?} was asked for: {event:?}")),
    }
}

fn check_limit(event: &Event, holders: &Holders<'_>) -> Result<(), String> {
    let held: u64 = holders.values().map(|(permits, _)| permits).sum();
    let limit = holders.values().map(|(_, limit)| *limit).min();
    if limit.is_some_and(|limit| limit < held) {
        return Err(format!(
            "{held} permits are held: {event:?} beside {holders:?}"
        ));
    }
    match holders.values().any(|(_, other)| Some(*other) != limit) {
        true => Err(format!(
            "two limits at a time: {event:?} beside {holders:?}"
        )),
        false => Ok(()),
    }
}
