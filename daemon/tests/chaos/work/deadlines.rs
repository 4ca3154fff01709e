//! Deadlines known to the millisecond: of places whose waits end one after the other, and of one whose wait is over when
//! the lease of the holder is.
//!
//! A lease that keeps a far deadline shows the time of the cluster in each answer. By it, places are taken whose waits
//! end within a few milliseconds, and the time is asked for as fast as can be while they do: whatever ends at its
//! deadline, and not after it, is seen. Or the wait of one ends at the very millisecond at which the lease of the holder
//! does: when that lease runs out, the place is due and must not be granted.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tenure_oracle::{Ask, Left, Share, Told};

use super::Worker;
use super::locks::grant;
use crate::asking::{Caller, Manner};

/// The far deadline, longer away than any round lasts.
const FAR_MS: u64 = 3_600_000;
/// What renews nothing before that.
const TTL_MS: u64 = 1_000;
/// How many places are a crowd.
const PLACES: usize = 24;
/// How often it is tried to have two things end at one millisecond.
const TRIES: usize = 8;
/// How long a holder waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// In how long the waits of a crowd are over.
const CROWD_MS: i64 = 1_000;
/// No more join a crowd when so little is left until the end.
const ENOUGH_MS: i64 = 150;
/// How long before the first end, and after the last, the time is asked for.
const AROUND_MS: i64 = 10;

pub(super) fn work(worker: &mut Worker<'_>) {
    let mut clock = None;
    while !worker.stopped() {
        worker.roam();
        let Some(lease) = clock.take().or_else(|| far_lease(worker)) else {
            continue;
        };
        // Whatever was not learnt is left to end by itself.
        match worker.rng.bool() {
            true => crowd(worker, &lease),
            false => edge(worker, &lease),
        };
        clock = Some(lease).filter(|_| worker.rng.u8(..16) != 0);
    }
}

/// A lease whose deadline no renewal moves.
fn far_lease(worker: &mut Worker<'_>) -> Option<String> {
    let lease = grant(worker, FAR_MS)?;
    let told = change(worker, &lease);
    told.map(|_| lease)
}

/// Asks for the time: what is left of the far lease. The change goes out at once, which a renewal does not.
fn change(worker: &mut Worker<'_>, lease: &str) -> Option<i64> {
    match worker.caller.ask(changed(lease)).told {
        Told::Renewed {
            left: Some(Left { remaining_ms, .. }),
            ..
        } => time(remaining_ms),
        told => {
            worker.breathe(&told);
            None
        }
    }
}

fn changed(lease: &str) -> Ask {
    Ask::Change {
        lease: lease.to_owned(),
        ttl_ms: TTL_MS,
    }
}

/// The time of the cluster, counted from the far deadline.
fn time(remaining_ms: u64) -> Option<i64> {
    i64::try_from(remaining_ms).ok().map(|left| -left)
}

fn acquire(resource: &str, lease: &str, owner: &str) -> Ask {
    Ask::Acquire {
        resource: resource.to_owned(),
        lease: lease.to_owned(),
        owner: owner.to_owned(),
        share: Share::Exclusive,
        priority: 0,
        lock_delay_ms: 0,
    }
}

/// A lock of nobody else, held on a lease.
fn own_lock(worker: &mut Worker<'_>, lease: &str) -> Option<String> {
    let resource = format!("locks/edge-{}", worker.value().replace(':', "-"));
    let held = worker.caller.ask(acquire(&resource, lease, "holder"));
    matches!(held.told, Told::Held { .. }).then_some(resource)
}

/// Takes a place on the far lease: the time, and when its wait is over; and how long the lease of the holder has.
fn place(
    worker: &mut Worker<'_>,
    (resource, clock, owner): (&str, &str, &str),
    wait_ms: i64,
) -> Option<(i64, i64, u64)> {
    let manner = Manner {
        wait_ms: wait_ms.max(1).try_into().ok()?,
        poll_ms: 0,
    };
    let ask = acquire(resource, clock, owner);
    let Told::Queued {
        times: Some(times), ..
    } = worker.caller.ask_so(ask, manner).told
    else {
        return None;
    };
    let now = time(times.remaining_ms)?;
    let holder_ms = times.holders.values().next()?;
    Some((now, now + i64::try_from(times.wait_ms).ok()?, *holder_ms))
}

/// Asks for the time while things end, from the first to the last.
fn watch(worker: &mut Worker<'_>, clock: &str, (first, last): (i64, i64), from: i64) -> Option<()> {
    let sleep = first - AROUND_MS - from;
    worker.pass(Duration::from_millis(sleep.try_into().unwrap_or(0)));
    let mut now = from;
    while now <= last + AROUND_MS && !worker.stopped() {
        now = change(worker, clock)?;
    }
    worker.run.deadlines.fetch_add(1, Ordering::SeqCst);
    Some(())
}

/// Many places whose waits are over at about one moment, each at a millisecond of its own. Nothing where something was
/// not learnt.
fn crowd(worker: &mut Worker<'_>, clock: &str) -> Option<()> {
    let resource = own_lock(worker, clock)?;
    let mut now = change(worker, clock)?;
    let target = now + CROWD_MS;
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for number in 0..PLACES {
        let owner = format!("c{number}");
        let (taken, over, _) = place(worker, (&resource, clock, &owner), target - now)?;
        (first, last, now) = (first.min(over), last.max(over), taken);
        if target - now < ENOUGH_MS || worker.stopped() {
            break;
        }
    }
    watch(worker, clock, (first, last), now)
}

/// One holder, and a place whose wait ends with its lease: both begin anew in one entry, or in two of one millisecond,
/// since they are asked for at once. Nothing where something was not learnt.
fn edge(worker: &mut Worker<'_>, clock: &str) -> Option<()> {
    let short = grant(worker, TTL_MS)?;
    let resource = own_lock(worker, &short)?;
    let wait_ms = i64::try_from(TTL_MS).ok()?;
    let (mut first, mut due, mut now) = (i64::MAX, i64::MIN, i64::MIN);
    let mut holder = Caller::new(worker.run, worker.caller.member, PATIENCE);
    for number in 0..TRIES {
        let owner = format!("p{number}");
        thread::scope(|scope| {
            let renewed = scope.spawn(|| holder.ask(changed(&short)).told);
            place(worker, (&resource, clock, &owner), wait_ms)?;
            let renewed = renewed.join().expect("the holder is answered");
            matches!(renewed, Told::Renewed { .. }).then_some(())
        })?;
        // What it was told first may have been of the moment before the renewal.
        let (taken, over, holder_ms) = place(worker, (&resource, clock, &owner), wait_ms)?;
        (now, due) = (taken, taken + i64::try_from(holder_ms).ok()?);
        if over <= due {
            first = first.min(over);
        } else {
            // It would be granted, and rightly.
            worker.caller.ask(Ask::Leave {
                resource: resource.clone(),
                lease: clock.to_owned(),
                owner,
            });
        }
        if over == due || worker.stopped() {
            break;
        }
    }
    watch(worker, clock, (first.min(due), due), now)
}
