//! What holders did outside: where the outside looks at fences, nobody with an older fence was let in after a newer one.
//!
//! The control is an outside that looks at none. It is expected to be overtaken, or else fences were not needed and
//! nothing is proven.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Effect, Recording, Revision};
use crate::standing::begins;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut judged = 0;
    let mut greatest: BTreeMap<&str, u64> = BTreeMap::new();
    for effect in recording.effects.iter().filter(|effect| effect.fenced) {
        judged += 1;
        let greatest = greatest.entry(&effect.target).or_default();
        match (effect.accepted, effect.fence < *greatest) {
            (true, true) => {
                return Err(format!("let in after fence {greatest}: {effect:?}"));
            }
            (false, false) => {
                return Err(format!(
                    "turned away, though no fence is greater: {effect:?}"
                ));
            }
            _ => {}
        }
        *greatest = (*greatest).max(effect.fence);
        if !was_granted(effect, history) {
            return Err(format!("a fence that was never granted: {effect:?}"));
        }
    }
    Ok(judged)
}

/// Whether a hold of what the writer says it holds began with that fence.
fn was_granted(effect: &Effect, history: &History) -> bool {
    let events = history.at(Revision(effect.fence)).iter();
    let mut grants = events.filter(|event| begins(event) && event.resource == effect.resource);
    grants.any(|event| event.number("fence") == Some(effect.fence))
}

pub(crate) fn unfenced_overtakings(recording: &Recording) -> u64 {
    let mut greatest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut overtakings = 0;
    for effect in recording.effects.iter().filter(|effect| !effect.fenced) {
        let greatest = greatest.entry(&effect.target).or_default();
        overtakings += u64::from(effect.fence < *greatest);
        *greatest = (*greatest).max(effect.fence);
    }
    overtakings
}
