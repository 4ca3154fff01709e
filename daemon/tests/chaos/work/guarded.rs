//! Locks with a delay, whose holders write keys under the guard of their fence and with conditions on it: while they hold
//! it, when they do not any more, and with the fences of others. Holders release, die with their lease or are broken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure_oracle::{Ask, Condition, Guard, Operation, Share};

use super::locks::{acquire, believed_until, grant_named};
use super::shares::{BOOK, POOL};
use super::{Held, Worker, breaking};
use crate::asking::Manner;

const DESKS: usize = 2;
/// A poll is no longer than a third of the TTL, so that asking keeps the lease.
const TTL_MS: u64 = 1_000;
const MANNER: Manner = Manner {
    wait_ms: 6_000,
    poll_ms: 300,
};
/// Long enough for a grant that comes too soon to be seen so, and short enough for the desk to be used.
const LOCK_DELAY_MS: std::ops::Range<u64> = 400..900;
/// The name of the leases that a delay lets through.
const CREW: &str = "crew";
/// How many keys a desk has.
const KEYS: u8 = 3;

/// Which desks had a holder who died and left a delay, and whether one was had again since.
#[derive(Default)]
pub(crate) struct Desks {
    delayed: [AtomicBool; DESKS],
    had_again: AtomicBool,
}

impl Desks {
    /// Whether somebody was granted a desk after a delay.
    pub(crate) fn were_delayed(&self) -> bool {
        self.had_again.load(Ordering::SeqCst)
    }

    fn dies(&self, desk: usize) {
        self.delayed[desk].store(true, Ordering::SeqCst);
    }

    fn is_had(&self, desk: usize) {
        if self.delayed[desk].swap(false, Ordering::SeqCst) {
            self.had_again.store(true, Ordering::SeqCst);
        }
    }
}

pub(super) fn work(worker: &mut Worker<'_>) {
    let mut last = None;
    while !worker.stopped() {
        worker.roam();
        if worker.rng.u8(..4) == 0 {
            let resource = match worker.rng.u8(..6) {
                0 => BOOK.to_owned(),
                1 => POOL.to_owned(),
                _ => desk(worker.rng.usize(..DESKS)),
            };
            breaking::look_and_end(worker, &resource);
        }
        let name = if worker.rng.bool() { CREW } else { "" };
        let Some(lease) = grant_named(worker, TTL_MS, name) else {
            continue;
        };
        let number = worker.rng.usize(..DESKS);
        let resource = desk(number);
        let lock_delay_ms = match worker.rng.bool() {
            true => worker.rng.u64(LOCK_DELAY_MS),
            false => 0,
        };
        let ask = Ask::Acquire {
            resource: resource.clone(),
            lease: lease.clone(),
            owner: String::new(),
            share: Share::Exclusive,
            priority: worker.rng.i64(0..=1),
            lock_delay_ms,
        };
        let Some((answered, fence)) = acquire(worker, &ask, MANNER) else {
            continue;
        };
        worker.run.desks.is_had(number);
        let until = believed_until(&answered);
        let hold = Held {
            resource: &resource,
            lease: &lease,
            owner: "",
            fence,
        };
        let guard = hold.guard();
        while worker.run.recorder.now() < until && !worker.stopped() {
            // Some write with a fence of another time and maybe of another desk.
            let other = last.clone().filter(|_| worker.rng.u8(..6) == 0);
            write(worker, &lease, other.unwrap_or(guard.clone()));
            if worker.rng.u8(..4) == 0 {
                break;
            }
        }
        let stopped = worker.run.recorder.now().min(until);
        // It dies with its lease, and with it the delay begins.
        let dies = worker.rng.u8(..5) < 2;
        worker.believed(&hold, answered.ret, if dies { until } else { stopped });
        if dies {
            if 0 < lock_delay_ms {
                worker.run.desks.dies(number);
            }
            worker.pass(Duration::from_millis(TTL_MS / 2));
        } else {
            worker.release(&hold);
            // One who has given it up is turned away.
            write(worker, &lease, guard.clone());
        }
        last = Some(guard);
    }
}

fn desk(number: usize) -> String {
    format!("locks/desk-{number}")
}

/// Writes a key of what is held under its guard, or on the condition that it is held; some of it twice, for the second to
/// be a repeat.
pub(super) fn write(worker: &mut Worker<'_>, lease: &str, guard: Guard) {
    let value = worker.value();
    let prefix = format!("under/{}/", guard.resource);
    let key = format!("{prefix}{}", worker.rng.u8(..KEYS));
    let once = (worker.rng.u8(..4) == 0).then(|| format!("guarded-{value}"));
    let repeats = once.is_some();
    let ask = match worker.rng.u8(..8) {
        0 => Ask::Delete {
            key,
            guard: Some(guard),
            once,
        },
        1 => Ask::DeletePrefix {
            prefix,
            guard: Some(guard),
            once,
        },
        2 => Ask::Put {
            key,
            value,
            only_if: None,
            absent: true,
            lease: None,
            guard: Some(guard),
            once,
        },
        choice @ 3..6 => transaction(worker, lease, (key, value), guard, once, choice == 3),
        _ => Ask::Put {
            key,
            value,
            only_if: None,
            absent: false,
            lease: None,
            guard: Some(guard),
            once,
        },
    };
    let told = worker.caller.ask(ask.clone()).told;
    if repeats {
        let member = worker.rng.usize(..worker.run.rig.members.len());
        worker.caller.go_to(member);
        worker.caller.ask(ask);
    }
    worker.breathe(&told);
}

/// With conditions on the fence and the lease, and maybe under the guard too.
fn transaction(
    worker: &mut Worker<'_>,
    lease: &str,
    (key, value): (String, String),
    guard: Guard,
    once: Option<String>,
    is_guarded: bool,
) -> Ask {
    let live = Condition::Live {
        lease: lease.to_owned(),
    };
    let mut when = vec![Condition::Held(guard.clone())];
    match worker.rng.u8(..3) {
        0 => when.push(live),
        1 => when = vec![live],
        _ => {}
    }
    let get = Operation::Get { key: key.clone() };
    Ask::Transact {
        when,
        then: vec![Operation::Put { key, value }, get.clone()],
        otherwise: vec![get],
        guard: is_guarded.then_some(guard),
        once,
    }
}
