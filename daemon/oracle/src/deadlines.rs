//! Deadlines by the clock of the cluster itself: nothing ends before the clock has passed its deadline, and no place is
//! granted after it has.
//!
//! A lease whose TTL was changed to a short one keeps the far deadline that it had, whatever renews it: from then on each
//! answer that tells what is left of it tells the time of the cluster to the millisecond. What is told in one answer is of
//! one moment, so a place on such a lease tells the deadlines of its wait and of the holders by that time. No clock but
//! the cluster's is needed, and no network makes this inexact.

use std::collections::BTreeMap;

use crate::Judged;
use crate::history::History;
use crate::record::{Ask, Call, Event, Moment, Recording, Revision, Told};
use crate::standing::begins;

/// Milliseconds of the cluster's clock, from the deadline of the lease that shows them.
type Time = i64;

/// A deadline, and what ended at it.
struct Passed {
    deadline: Time,
    at: Revision,
    what: String,
}

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let mut by_lease: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &recording.calls {
        if let Ask::Change { lease, .. } | Ask::Renew { lease } | Ask::Acquire { lease, .. } =
            &call.ask
        {
            by_lease.entry(lease).or_default().push(call);
        }
    }
    let mut judged = 0;
    for calls in by_lease.values() {
        if let Some(shown) = Shown::of(calls) {
            judged += shown.check(history)?;
        }
    }
    Ok(judged)
}

/// What the calls of a lease that shows the time tell.
struct Shown<'a> {
    /// The state that an answer reflects, the time that it tells, and whether that is the stamp of an entry.
    readings: Vec<(Revision, Time, bool, &'a Call)>,
    /// The answers that tell of a place.
    places: Vec<(Revision, Time, &'a Call)>,
}

impl<'a> Shown<'a> {
    /// None where the lease shows no time.
    fn of(calls: &[&'a Call]) -> Option<Shown<'a>> {
        let changes = calls.iter().filter_map(|call| match &call.ask {
            Ask::Change { ttl_ms, .. } => Some((*call, *ttl_ms)),
            _ => None,
        });
        let changes: Vec<(&Call, u64)> = changes.collect();
        let done = changes
            .iter()
            .filter(|(call, _)| matches!(call.told, Told::Renewed { .. }));
        let since: Moment = done.map(|(call, _)| call.ret).min()?;
        // Whoever has more left than any renewal since may have given it has its deadline from before.
        let longest = changes.iter().map(|(_, ttl_ms)| *ttl_ms).max()?;
        let mut shown = Shown {
            readings: Vec::new(),
            places: Vec::new(),
        };
        for call in calls.iter().filter(|call| since < call.call) {
            let (revision, remaining_ms, is_stamp) = match &call.told {
                Told::Renewed {
                    revision,
                    left: Some(left),
                } => {
                    let is_stamp = matches!(call.ask, Ask::Change { .. });
                    (*revision, left.remaining_ms, is_stamp)
                }
                Told::Queued {
                    revision,
                    times: Some(times),
                } => (*revision, times.remaining_ms, false),
                _ => continue,
            };
            if longest < remaining_ms {
                let now = -Time::try_from(remaining_ms).ok()?;
                shown.readings.push((revision, now, is_stamp, call));
                if !is_stamp && matches!(call.told, Told::Queued { .. }) {
                    shown.places.push((revision, now, call));
                }
            }
        }
        shown.readings.sort_by_key(|(revision, ..)| *revision);
        Some(shown)
    }

    fn check(&self, history: &History) -> Result<u64, String> {
        let passed = self.passed(history);
        for end in &passed {
            let from = self.readings.partition_point(|(at, ..)| *at < end.at);
            let after = self.readings[from..].iter();
            if let Some((at, now, _, call)) = after.min_by_key(|(_, now, ..)| *now)
                && *now <= end.deadline
            {
                return Err(format!(
                    "{} ended at {}, and {} ms before its deadline was over the state was at {at} by {call:?}",
                    end.what,
                    end.at,
                    end.deadline - now
                ));
            }
        }
        for (revision, now, call) in &self.places {
            let Some((deadline, grant)) = granted(*revision, *now, call, history) else {
                continue;
            };
            let due = passed
                .iter()
                .find(|end| end.at <= grant.revision && deadline <= end.deadline);
            if let Some(end) = due {
                return Err(format!(
                    "granted when its wait was over, as that of {} was, which ended at {}: {grant:?}, of {call:?}",
                    end.what, end.at
                ));
            }
            let stamped = |(at, now, is_stamp, _): &&(Revision, Time, bool, &Call)| {
                *is_stamp && *at < grant.revision && deadline < *now
            };
            if let Some((at, now, ..)) = self.readings.iter().find(stamped) {
                return Err(format!(
                    "granted though its wait was over for {} ms at {at}: {grant:?}, of {call:?}",
                    now - deadline
                ));
            }
        }
        Ok(passed.len() as u64)
    }

    /// Everything that ended because it was due, and whose deadline is known.
    fn passed(&self, history: &History) -> Vec<Passed> {
        let mut passed = Vec::new();
        let mut leases: BTreeMap<&str, Time> = BTreeMap::new();
        for (revision, now, call) in &self.places {
            let Told::Queued {
                times: Some(times), ..
            } = &call.told
            else {
                continue;
            };
            // What has nothing left may be due for long.
            for (lease, left_ms) in times.holders.iter().filter(|(_, left)| 0 < **left) {
                let deadline = *now + Time::try_from(*left_ms).unwrap_or(Time::MAX / 2);
                let known = leases.entry(lease).or_insert(deadline);
                *known = deadline.max(*known);
            }
            let next = next_of(*revision, call, history);
            if let (Some(event), Some(deadline)) = (next, wait_over(*now, call))
                && event.kind == "left"
                && event.text("reason") == "wait-expired"
            {
                passed.push(Passed {
                    deadline,
                    at: event.revision,
                    what: format!("the wait of {:?} for {}", event.who(), event.resource),
                });
            }
        }
        let ends = history.events().iter();
        let ends = ends.filter(|end| end.kind == "ended" && end.text("reason") == "expired");
        passed.extend(ends.filter_map(|end| {
            Some(Passed {
                deadline: *leases.get(end.text("lease"))?,
                at: end.revision,
                what: end.resource.clone(),
            })
        }));
        passed
    }
}

/// When the wait of a place is over.
fn wait_over(now: Time, call: &Call) -> Option<Time> {
    match &call.told {
        Told::Queued {
            times: Some(times), ..
        } if 0 < times.wait_ms => Some(now + Time::try_from(times.wait_ms).ok()?),
        _ => None,
    }
}

/// What became of the place that was told of at a revision.
fn next_of<'a>(revision: Revision, call: &Call, history: &'a History) -> Option<&'a Event> {
    let Ask::Acquire {
        resource,
        lease,
        owner,
        ..
    } = &call.ask
    else {
        return None;
    };
    let mut later = history.between(revision, history.end).iter();
    later.find(|event| event.resource == *resource && event.who() == (lease, owner))
}

/// The grant of a place, and when its wait was over.
fn granted<'a>(
    revision: Revision,
    now: Time,
    call: &Call,
    history: &'a History,
) -> Option<(Time, &'a Event)> {
    let grant = next_of(revision, call, history).filter(|event| begins(event))?;
    Some((wait_over(now, call)?, grant))
}
