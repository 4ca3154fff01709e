//! Locks that are shared, permits of a semaphore, and several locks at once, with holders who release, leave the queue,
//! and die.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_oracle::{Ask, Share, Told};

use super::locks::{acquire, believed_until, grant};
use super::{Held, Worker, guarded};
use crate::asking::{Answered, Manner};

const TTL_MS: u64 = 1_000;
/// A poll is no longer than a third of the TTL, so that asking keeps the lease.
const MANNER: Manner = Manner {
    wait_ms: 5_000,
    poll_ms: 300,
};
pub(super) const BOOK: &str = "locks/book";
pub(super) const POOL: &str = "semaphores/pool";
/// How many permits there are, as most say.
const LIMIT: u64 = 4;
/// How many locks there are of which some are taken at once.
const FORKS: usize = 4;

pub(super) fn work(worker: &mut Worker<'_>) {
    while !worker.stopped() {
        worker.roam();
        if worker.rng.u8(..8) == 0 {
            look(worker);
        }
        let Some(lease) = grant(worker, TTL_MS) else {
            continue;
        };
        let ask = choose(worker, &lease);
        // Some leave the queue after one look.
        if worker.rng.u8(..8) == 0 {
            try_and_leave(worker, &ask, &lease);
        } else if let Some((answered, fence)) = acquire(worker, &ask, MANNER) {
            hold(worker, &names(&ask), &lease, fence, &answered);
        }
    }
}

/// Who all hold something, read from any member.
fn look(worker: &mut Worker<'_>) {
    let resource = match worker.rng.u8(..3) {
        0 => BOOK.to_owned(),
        1 => POOL.to_owned(),
        _ => fork(worker.rng.usize(..FORKS)),
    };
    let answered = worker.caller.ask(Ask::Holders { resource });
    worker.breathe(&answered.told);
}

fn fork(number: usize) -> String {
    format!("locks/fork-{number}")
}

/// Shared two times of three.
fn mode(worker: &mut Worker<'_>) -> Share {
    match worker.rng.u8(..3) {
        0 => Share::Exclusive,
        _ => Share::Shared,
    }
}

fn choose(worker: &mut Worker<'_>, lease: &str) -> Ask {
    let priority = worker.rng.i64(-1..=1);
    let one = |resource: String, share: Share| Ask::Acquire {
        resource,
        lease: lease.to_owned(),
        owner: String::new(),
        share,
        priority,
        lock_delay_ms: 0,
    };
    match worker.rng.u8(..8) {
        0..3 => one(BOOK.to_owned(), mode(worker)),
        3..5 => {
            let share = Share::Permits {
                permits: worker.rng.u64(1..LIMIT),
                // Who says another limit is refused, unless all is free.
                limit: LIMIT + u64::from(worker.rng.u8(..6) == 0),
            };
            one(POOL.to_owned(), share)
        }
        // A single one among those who want several.
        5 => {
            let number = worker.rng.usize(..FORKS);
            one(fork(number), mode(worker))
        }
        _ => {
            let first = worker.rng.usize(..FORKS);
            let count = worker.rng.usize(2..FORKS);
            let forks = (first..first + count).map(|number| fork(number % FORKS));
            Ask::AcquireAll {
                locks: forks.map(|name| (name, mode(worker))).collect(),
                lease: lease.to_owned(),
                owner: String::new(),
                priority,
            }
        }
    }
}

/// All that was asked for.
fn names(ask: &Ask) -> Vec<String> {
    let of_all = |locks: &BTreeMap<String, Share>| locks.keys().cloned().collect();
    match ask {
        Ask::Acquire { resource, .. } => vec![resource.clone()],
        Ask::AcquireAll { locks, .. } => of_all(locks),
        _ => Vec::new(),
    }
}

/// Asks once, and leaves the queue where it must wait: of several, by any of the names. One who was granted it meanwhile
/// is refused, and its lease ends.
fn try_and_leave(worker: &mut Worker<'_>, ask: &Ask, lease: &str) {
    let manner = Manner {
        poll_ms: 20,
        ..MANNER
    };
    let answered = worker.caller.ask_so(ask.clone(), manner);
    if matches!(answered.told, Told::Queued { .. }) {
        let names = names(ask);
        let leave = Ask::Leave {
            resource: names[worker.rng.usize(..names.len())].clone(),
            lease: lease.to_owned(),
            owner: String::new(),
        };
        worker.caller.ask(leave);
    }
    worker.breathe(&answered.told);
}

/// Holds all of it for a while; what is released is released one by one.
fn hold(worker: &mut Worker<'_>, names: &[String], lease: &str, fence: u64, answered: &Answered) {
    let until = believed_until(answered);
    let time = Duration::from_millis(worker.rng.u64(2..60));
    worker.pass(time);
    let dies = worker.rng.u8(..6) == 0;
    for name in names {
        let stopped = worker.run.recorder.now().min(until);
        let hold = Held {
            resource: name,
            lease,
            owner: "",
            fence,
        };
        worker.believed(&hold, answered.ret, if dies { until } else { stopped });
        // In time or too late.
        if worker.rng.u8(..8) == 0 {
            guarded::write(worker, lease, hold.guard());
        }
        if !dies {
            worker.release(&hold);
        }
    }
}
