//! Exclusion as clients have it: no two of them believed at one moment to hold one name, but those who share it; and
//! never more permits than there are.
//!
//! Whoever breaks a hold for the next to have it at once accepts that its holder still believes: from then on that belief
//! does not count. Counts by true time, that of the recorder, from the moment at which a client learnt of its hold.

use std::collections::BTreeMap;

use crate::Judged;
use crate::askings::Askings;
use crate::breaks::{breakers, is_broken};
use crate::history::History;
use crate::record::{Ask, Belief, Call, Event, Moment, Recording, Revision, Share};
use crate::standing::begins;

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let askings = Askings::of(recording);
    let mut by_name: BTreeMap<&str, Vec<(&Belief, Share)>> = BTreeMap::new();
    let beliefs = counted(recording, history);
    for belief in &beliefs {
        let grant = grant(belief, history)
            .ok_or_else(|| format!("a hold that was never granted: {belief:?}"))?;
        let share = share(grant, &askings)?;
        // An answer may come so late that the hold was over, for its client, before it learnt of it: it never believed it.
        if belief.from < belief.until {
            let beliefs = by_name.entry(&belief.resource).or_default();
            beliefs.push((belief, share));
        }
    }
    let mut judged = 0;
    for beliefs in by_name.values_mut() {
        beliefs.sort_by_key(|(belief, _)| belief.from);
        judged += beliefs.len() as u64;
        let mut present: Vec<(&Belief, Share)> = Vec::new();
        for (belief, share) in beliefs {
            present.retain(|(other, _)| belief.from < other.until);
            check_beside(belief, *share, &present)?;
            present.push((belief, *share));
        }
    }
    Ok(judged)
}

/// All beliefs as far as they count.
fn counted(recording: &Recording, history: &History) -> Vec<Belief> {
    let mut until: BTreeMap<(&str, &str, u64), Moment> = BTreeMap::new();
    for event in history.events().iter().filter(|event| is_broken(event)) {
        let accepts = |call: &&Call| matches!(call.ask, Ask::Break { now: true, .. });
        let calls = breakers(recording, event).into_iter().filter(accepts);
        if let (Some(asked), Some(fence)) =
            (calls.map(|call| call.call).min(), event.number("fence"))
        {
            until.insert((&event.resource, event.text("lease"), fence), asked);
        }
    }
    let beliefs = recording.beliefs.iter().cloned().map(|mut belief| {
        let broken = until.get(&(
            belief.resource.as_str(),
            belief.lease.as_str(),
            belief.fence,
        ));
        belief.until = broken.map_or(belief.until, |asked| belief.until.min(*asked));
        belief
    });
    beliefs.collect()
}

/// The grant of what a client believed to hold.
fn grant<'a>(belief: &Belief, history: &'a History) -> Option<&'a Event> {
    history.at(Revision(belief.fence)).iter().find(|event| {
        begins(event)
            && event.resource == belief.resource
            && event.who().0 == belief.lease
            && event.number("fence") == Some(belief.fence)
    })
}

/// How much was granted. Of how many permits only their asker knows.
fn share(grant: &Event, askings: &Askings<'_>) -> Result<Share, String> {
    let plain = [Share::Exclusive, Share::Shared];
    let plain = plain.into_iter().find(|share| grant.is_of(*share));
    plain
        .or_else(|| askings.share(grant))
        .ok_or_else(|| format!("nobody asked for these permits: {grant:?}"))
}

/// Whether a belief goes together with those that others have when it begins.
fn check_beside(belief: &Belief, share: Share, present: &[(&Belief, Share)]) -> Result<(), String> {
    let hold = |belief: &Belief| (belief.lease.clone(), belief.fence);
    let others: BTreeMap<_, _> = present
        .iter()
        .filter(|(other, _)| hold(other) != hold(belief))
        .map(|(other, share)| (hold(other), (*other, *share)))
        .collect();
    let fits = match share {
        Share::Exclusive => others.is_empty(),
        Share::Shared => others.values().all(|(_, other)| *other == Share::Shared),
        Share::Permits { permits, limit } => {
            let held = others.values().map(|(_, other)| match other {
                Share::Permits { permits, .. } => *permits,
                _ => limit,
            });
            permits + held.sum::<u64>() <= limit
        }
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "more holders than may be at a time: {belief:?} with {share:?} beside {:?}",
            others.values()
        )),
    }
}
