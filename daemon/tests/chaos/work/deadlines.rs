//! Deadlines that fall together to the millisecond: the wait of a place is over when the lease of the holder is.
//!
//! A lease that keeps a far deadline shows the time of the cluster in each answer. With it, places are taken whose waits
//! end just before the lease of a holder who will not renew it, and one whose wait ends at the very millisecond: when
//! that lease runs out, the place is due and must not be granted. Around that moment the time is asked for as fast as
//! can be, so that whatever ends at its deadline, and not after it, is seen.

use std::time::Duration;

use tenure_oracle::{Ask, Left, Share, Told};

use super::Worker;
use super::locks::grant;
use crate::asking::Manner;

/// The far deadline, longer away than any round lasts.
const FAR_MS: u64 = 3_600_000;
/// What renews nothing before that.
const TTL_MS: u64 = 1_000;
/// How many places are tried for one that ends with the lease of the holder.
const TRIES: usize = 24;
/// No more is tried when so little is left of the lease of the holder.
const ENOUGH_MS: u64 = 150;
/// How long before the first end, and after the last, the time is asked for.
const AROUND_MS: i64 = 15;

pub(super) fn work(worker: &mut Worker<'_>) {
    let mut clock = None;
    while !worker.stopped() {
        worker.roam();
        let Some(lease) = clock.take().or_else(|| far_lease(worker)) else {
            continue;
        };
        // Whatever was not learnt is left to end by itself.
        attempt(worker, &lease);
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
    let told = worker.caller.ask(Ask::Change {
        lease: lease.to_owned(),
        ttl_ms: TTL_MS,
    });
    match told.told {
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

/// One holder who will not renew, and places whose waits end with its lease. Nothing where something was not learnt.
fn attempt(worker: &mut Worker<'_>, clock: &str) -> Option<()> {
    let short = grant(worker, TTL_MS)?;
    let resource = format!("locks/edge-{}", worker.value().replace(':', "-"));
    let held = worker.caller.ask(acquire(&resource, &short, ""));
    if !matches!(held.told, Told::Held { .. }) {
        return None;
    }
    let (mut first, mut last, mut now) = (i64::MAX, i64::MIN, i64::MIN);
    // About what passes from one asking to the next, as the last one shows.
    let (mut wait_ms, mut before_ms) = (TTL_MS - 20, None);
    for number in 0..TRIES {
        let owner = format!("p{number}");
        let manner = Manner {
            wait_ms,
            poll_ms: 0,
        };
        let asked = worker
            .caller
            .ask_so(acquire(&resource, clock, &owner), manner);
        let Told::Queued {
            times: Some(times), ..
        } = asked.told
        else {
            return None;
        };
        let left_ms = *times.holders.get(&short)?;
        now = time(times.remaining_ms)?;
        last = now + i64::try_from(left_ms).ok()?;
        if times.wait_ms > left_ms {
            // It would be granted, and rightly.
            worker.caller.ask(Ask::Leave {
                resource: resource.clone(),
                lease: clock.to_owned(),
                owner,
            });
        } else {
            first = first.min(now + i64::try_from(times.wait_ms).ok()?);
        }
        if times.wait_ms == left_ms || left_ms < ENOUGH_MS || worker.stopped() {
            break;
        }
        let passes_ms = before_ms.map_or(5, |before: u64| before.saturating_sub(left_ms));
        before_ms = Some(left_ms);
        wait_ms = left_ms.saturating_sub(passes_ms).max(1);
    }
    let sleep = first.min(last) - AROUND_MS - now;
    worker.pass(Duration::from_millis(sleep.try_into().unwrap_or(0)));
    while now <= last + AROUND_MS && !worker.stopped() {
        now = change(worker, clock)?;
    }
    Some(())
}
