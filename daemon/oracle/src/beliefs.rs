//! Exclusion as clients have it: no two of them believed at one moment to hold one name.
//!
//! Counts by true time, that of the recorder, from the moment at which a client learnt of its hold.

use std::collections::BTreeMap;

use crate::Judged;
use crate::exclusion::begins;
use crate::history::History;
use crate::record::{Belief, Recording, Revision};

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    for belief in &recording.beliefs {
        let granted = history.at(Revision(belief.fence)).iter().any(|event| {
            begins(event)
                && event.resource == belief.resource
                && event.who().0 == belief.lease
                && event.number("fence") == Some(belief.fence)
        });
        if !granted {
            return Err(format!("a hold that was never granted: {belief:?}"));
        }
    }
    // An answer may come so late that the hold was over, for its client, before it learnt of it: it never believed it.
    let held = |belief: &&Belief| belief.from < belief.until;
    let mut by_name: BTreeMap<&str, Vec<&Belief>> = BTreeMap::new();
    for belief in recording.beliefs.iter().filter(held) {
        by_name.entry(&belief.resource).or_default().push(belief);
    }
    let mut judged = 0;
    for beliefs in by_name.values_mut() {
        beliefs.sort_by_key(|belief| belief.from);
        judged += beliefs.len() as u64;
        let mut longest: Option<&Belief> = None;
        for belief in beliefs {
            if let Some(other) = longest
                && belief.from < other.until
                && belief.fence != other.fence
            {
                return Err(format!("two holders at a time: {other:?} and {belief:?}"));
            }
            if longest.is_none_or(|other| other.until < belief.until) {
                longest = Some(belief);
            }
        }
    }
    Ok(judged)
}
