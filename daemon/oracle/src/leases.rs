//! Leases: none ends before its TTL has passed since the last renewal that succeeded was sent, each ends soon after
//! that and none lives on, and everything on it ends with it at one revision. Each has the TTL that it was last given,
//! and no renewal or change of it takes away time that it had.
//!
//! "Soon" is what `api.md` promises, plus the times in which nothing was acknowledged, plus what a watcher takes to be
//! told on a busy machine. A lease whose last renewal is unknown is not judged for being late, only for never ending.

use std::collections::{BTreeMap, BTreeSet};

use crate::Judged;
use crate::history::History;
use crate::made::drift_ppm;
use crate::owners::{self, Doing};
use crate::record::{Ask, Call, Event, Moment, Recording, Revision, Told};
use crate::stalls::Stalls;
use crate::standing::{begins, ends};
use crate::ttls::{Ttls, left};

/// Beyond this a call that was given up is no longer applied: a write is answered within 5 s.
const IN_DOUBT_MS: u64 = 10_000;

/// The life of a lease as the log has it.
struct Life {
    granted: Revision,
    ttl_ms: u64,
    ended: Option<(Revision, bool)>,
    attached: BTreeSet<String>,
}

pub(crate) fn check(recording: &Recording, history: &History) -> Judged {
    let lives = lives(history)?;
    let mut askings: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &recording.calls {
        if let Some(lease) = lease_of(call) {
            askings.entry(lease).or_default().push(call);
        }
    }
    owners::check(recording, history, Doing::Revoke)?;
    let run = Run::of(recording, history);
    for (lease, calls) in &askings {
        let life = lives.get(lease);
        for call in calls {
            check_told(call, lease, life, history)?;
        }
    }
    for (lease, life) in &lives {
        // One whose grant was never answered has nobody who asks for it.
        let calls = askings.get(lease).map_or(&[][..], Vec::as_slice);
        let ttls = Ttls::of(life.ttl_ms, calls);
        check_lefts(calls, &ttls, &run)?;
        check_times(lease, (life, &ttls), calls, history, &run)?;
    }
    Ok(lives.values().filter(|life| life.ended.is_some()).count() as u64)
}

/// The lease that an accepted asking keeps alive, or that is said to be lost.
pub(crate) fn lease_of(call: &Call) -> Option<&str> {
    match (&call.ask, &call.told) {
        (Ask::Grant { .. }, Told::Granted { lease, .. }) => Some(lease),
        (
            Ask::Renew { lease }
            | Ask::Change { lease, .. }
            | Ask::Acquire { lease, .. }
            | Ask::AcquireAll { lease, .. }
            | Ask::Revoke { lease },
            _,
        )
        | (
            Ask::Put {
                lease: Some(lease), ..
            },
            Told::Lost { .. },
        ) => Some(lease),
        _ => None,
    }
}

/// The lives of all leases; what hangs on each goes with it, and nothing is granted to the dead.
fn lives(history: &History) -> Result<BTreeMap<&str, Life>, String> {
    let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
    let mut key_leases: BTreeMap<&str, &str> = BTreeMap::new();
    for event in history.events() {
        let lease = event.text("lease");
        match event.kind.as_str() {
            "granted" => {
                let life = Life {
                    granted: event.revision,
                    ttl_ms: event.number("ttl_ms").unwrap_or_default(),
                    ended: None,
                    attached: BTreeSet::new(),
                };
                if lives.insert(lease, life).is_some() {
                    return Err(format!("granted twice: {event:?}"));
                }
            }
            "ended" => {
                let life = lives.get_mut(lease).filter(|life| life.ended.is_none());
                let life = life.ok_or_else(|| format!("nothing to end: {event:?}"))?;
                life.ended = Some((event.revision, event.text("reason") == "expired"));
            }
            _ => attach(event, &mut lives, &mut key_leases)?,
        }
    }
    check_nothing_left(&lives, history)?;
    Ok(lives)
}

fn attach<'a>(
    event: &'a Event,
    lives: &mut BTreeMap<&'a str, Life>,
    key_leases: &mut BTreeMap<&'a str, &'a str>,
) -> Result<(), String> {
    let lease = event.text("lease");
    let with_lease = event.text("reason") == "lease-ended";
    let thing = format!("{} {}", event.resource, event.who().1);
    if event.key().is_some() {
        if let Some(old) = key_leases.remove(event.resource.as_str())
            && let Some(life) = lives.get_mut(old)
        {
            life.attached.remove(&thing);
        }
        if event.kind == "put" && !lease.is_empty() {
            key_leases.insert(&event.resource, lease);
        }
    }
    if lease.is_empty() {
        return Ok(());
    }
    let Some(life) = lives.get_mut(lease) else {
        return Err(format!("on a lease that was never granted: {event:?}"));
    };
    let ended = life.ended.map(|(at, _)| at);
    let begun = event.kind == "put" || event.kind == "queued" || begins(event);
    match ended {
        Some(_) if begun => return Err(format!("given to a lease that has ended: {event:?}")),
        Some(at) if at != event.revision => {
            return Err(format!(
                "outlived its lease, which ended at {at}: {event:?}"
            ));
        }
        None if with_lease => return Err(format!("its lease has not ended: {event:?}")),
        _ => {}
    }
    if begun {
        life.attached.insert(thing);
    } else if event.kind == "delete" || event.kind == "left" || ends(event) {
        life.attached.remove(&thing);
    }
    Ok(())
}

fn check_nothing_left(lives: &BTreeMap<&str, Life>, history: &History) -> Result<(), String> {
    for (lease, life) in lives {
        let Some((at, _)) = life.ended else { continue };
        if let Some(thing) = life.attached.first() {
            return Err(format!(
                "{lease} ended at {at} and {thing} is left of it, up to {}",
                history.end
            ));
        }
    }
    Ok(())
}

/// What was told of a lease agrees with its life.
fn check_told(
    call: &Call,
    lease: &str,
    life: Option<&Life>,
    history: &History,
) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {call:?}"));
    let ended = life.and_then(|life| life.ended);
    match &call.told {
        Told::Granted { revision, .. } => match life {
            Some(life) if life.granted == *revision => Ok(()),
            _ => wrong("the history has no such grant"),
        },
        Told::Done { revision, .. } if matches!(call.ask, Ask::Revoke { .. }) => match ended {
            Some((at, false)) if at == *revision => Ok(()),
            _ => wrong("the history has no such end"),
        },
        Told::Renewed { revision, .. }
        | Told::Held { revision, .. }
        | Told::HeldAll { revision, .. }
        | Told::Queued { revision, .. } => match ended {
            Some((at, _)) if at <= *revision => wrong("it had ended"),
            Some((at, _)) if history.observed(at) < call.call => {
                wrong("its end had been told before this was sent")
            }
            _ if life.is_none() => wrong("no such lease was granted"),
            _ => Ok(()),
        },
        // Lost while it lives: whoever is refused a lock that is held is told so in other words.
        Told::Refused { revision, .. } | Told::Lost { revision } => match ended {
            Some((at, _)) if at <= *revision => Ok(()),
            _ => Err(format!("{lease} lives and is said to be lost: {call:?}")),
        },
        _ => Ok(()),
    }
}

/// Whoever renewed or changed it is told the TTL that it has, at least that much time, and no less than it had.
fn check_lefts(calls: &[&Call], ttls: &Ttls<'_>, run: &Run) -> Result<(), String> {
    let mut told: Vec<(&Call, u64)> = Vec::new();
    for call in calls {
        let Some(left) = left(call) else { continue };
        if !ttls.at(call).contains(&left.ttl_ms) {
            return Err(format!(
                "its TTL can be one of {:?} ms: {call:?}",
                ttls.at(call)
            ));
        }
        if left.remaining_ms < left.ttl_ms {
            return Err(format!("renewed for less than its TTL: {call:?}"));
        }
        told.push((call, left.remaining_ms));
    }
    let mut by_ret = told.clone();
    by_ret.sort_by_key(|(call, _)| call.ret);
    told.sort_by_key(|(call, _)| call.call);
    let mut answered = by_ret.into_iter().peekable();
    // Until when it lives by all that was answered before, and by what.
    let mut due: Option<(Moment, &Call)> = None;
    for (call, remaining_ms) in told {
        while let Some((other, had_ms)) = answered.next_if(|(other, _)| other.ret < call.call) {
            let until = other.call.plus_ms(had_ms);
            if due.is_none_or(|(due, _)| due < until) {
                due = Some((until, other));
            }
        }
        let Some((due, other)) = due else { continue };
        // Stamps are rounded down, so that a millisecond may seem to have passed that has not.
        let drift_ns = call.ret.since(other.call) / 1_000_000 * run.drift_ppm;
        let until = call.ret.plus_ms(remaining_ms + 1);
        if until.0.saturating_add(drift_ns) < due.0 {
            return Err(format!(
                "it had {} us more by {other:?}: {call:?}",
                due.since(until) / 1000
            ));
        }
    }
    Ok(())
}

/// It ended neither early nor late, and where it has not ended its time is not over.
fn check_times(
    lease: &str,
    (life, ttls): (&Life, &Ttls<'_>),
    calls: &[&Call],
    history: &History,
    run: &Run,
) -> Result<(), String> {
    let ended = match life.ended {
        Some((_, false)) => return Ok(()),
        Some((at, true)) => Some((at, history.observed(at))),
        None => None,
    };
    let kept: Vec<&Call> = calls.iter().copied().filter(keeps).collect();
    let due = kept
        .iter()
        .map(|call| (call.call.plus_ms(ttls.least_ms(call)), call));
    let drift_ns = ttls.longest() * run.drift_ppm;
    if let (Some((at, observed)), Some((due, call))) = (ended, due.max_by_key(|(due, _)| *due))
        && observed.0.saturating_add(drift_ns) < due.0
    {
        return Err(format!(
            "{lease} ended at {at}, observed {} us before it was due by {call:?}",
            due.since(observed) / 1000
        ));
    }
    // Where nobody was told of the grant, it was made before it was seen.
    let granted = history.observed(life.granted);
    let last_call = kept.iter().map(|call| call.call).max().unwrap_or(granted);
    let due = kept
        .iter()
        .map(|call| call.ret.plus_ms(ttls.most_ms(call)))
        .max();
    let due = due.unwrap_or(granted.plus_ms(ttls.longest()));
    let doubts = calls.iter().filter(|call| call.told == Told::Unknown);
    let doubts: Vec<Moment> = doubts.map(|call| call.ret.plus_ms(IN_DOUBT_MS)).collect();
    let (until, due) = match ended {
        Some((_, Moment::NEVER)) => return Ok(()),
        Some(_) if doubts.iter().any(|until| last_call <= *until) => return Ok(()),
        Some((_, observed)) => (observed, due),
        // A call in doubt may have renewed it, but not for ever.
        None => {
            let doubts = doubts
                .into_iter()
                .map(|until| until.plus_ms(ttls.longest()));
            (run.lived, doubts.fold(due, Moment::max))
        }
    };
    let allowed_ns = drift_ns + run.stalls.allowance(last_call, until);
    let late = until.since(due);
    if allowed_ns < late {
        return Err(format!(
            "{lease} {}: {} ms after it was due, where {} ms are allowed",
            if ended.is_some() {
                "ended late"
            } else {
                "has not ended"
            },
            late / 1_000_000,
            allowed_ns / 1_000_000
        ));
    }
    Ok(())
}

/// Whether a call was told that it kept its lease alive.
pub(crate) fn keeps(call: &&Call) -> bool {
    matches!(
        call.told,
        // A grant that is told again renews nothing.
        Told::Granted {
            replayed: false,
            ..
        } | Told::Renewed { .. }
            | Told::Held { .. }
            | Told::HeldAll { .. }
            | Told::Queued { .. }
    )
}

/// What is the same for all leases of a run.
struct Run {
    stalls: Stalls,
    /// By how many millionths clocks were off.
    drift_ppm: u64,
    /// Whatever has not ended in the history had not ended then: a write that came later is in it.
    lived: Moment,
}

impl Run {
    fn of(recording: &Recording, history: &History) -> Run {
        let written = recording.calls.iter().filter(|call| match call.told {
            Told::Done {
                revision,
                replayed: false,
            } => revision <= history.end,
            _ => false,
        });
        Run {
            stalls: Stalls::of(recording),
            drift_ppm: drift_ppm(recording),
            lived: written.map(|call| call.call).max().unwrap_or_default(),
        }
    }
}
