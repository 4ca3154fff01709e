//! Locks whose holders write to files outside: one that looks at fences and one that does not.
//!
//! Some holders oversleep their lease and write again without looking, as a process does that was stopped: the first
//! file turns them away, the second lets them in, which is what shows that fences are needed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure_oracle::{Ask, Effect, Line, Moment, Share, Told};

use super::{Held, Worker};
use crate::asking::{Answered, Manner};
use crate::round::Run;

const LOCKS: usize = 2;
const TTL_MS: u64 = 1_000;
/// A poll is no longer than a third of the TTL, so that asking keeps the lease.
const MANNER: Manner = Manner {
    wait_ms: 8_000,
    poll_ms: 300,
};

/// The files, and the greatest fence that each has seen.
pub(crate) struct Outside {
    dir: PathBuf,
    greatest: Mutex<BTreeMap<String, u64>>,
    overtaken: AtomicBool,
}

impl Outside {
    pub(crate) fn new(dir: &Path) -> Outside {
        Outside {
            dir: dir.to_owned(),
            greatest: Mutex::new(BTreeMap::new()),
            overtaken: AtomicBool::new(false),
        }
    }

    /// Whether somebody was let in after a greater fence, where nobody looks.
    pub(crate) fn was_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::SeqCst)
    }

    /// A holder writes. What comes first is decided, and recorded, while nobody else writes.
    fn write(&self, run: &Run<'_>, hold: &Held<'_>, target: &str, fenced: bool) {
        let fence = hold.fence;
        let mut greatest = self.greatest.lock().unwrap_or_else(PoisonError::into_inner);
        let most = greatest.entry(target.to_owned()).or_default();
        let accepted = !fenced || *most <= fence;
        if accepted {
            let path = self.dir.join(target);
            let file = OpenOptions::new().create(true).append(true).open(path);
            let mut file = file.expect("there is room for a file");
            writeln!(file, "{fence}").expect("there is room for a line");
        }
        if accepted && fence < *most {
            self.overtaken.store(true, Ordering::SeqCst);
        }
        *most = (*most).max(fence);
        run.recorder.record(Line::Effect(Effect {
            target: target.to_owned(),
            resource: hold.resource.to_owned(),
            fenced,
            fence,
            at: run.recorder.now(),
            accepted,
        }));
    }
}

pub(super) fn work(worker: &mut Worker<'_>) {
    while !worker.stopped() {
        worker.roam();
        let lock = worker.rng.usize(..LOCKS);
        let Some(lease) = grant(worker, TTL_MS) else {
            continue;
        };
        let ask = Ask::Acquire {
            resource: format!("locks/outside-{lock}"),
            lease: lease.clone(),
            owner: String::new(),
            share: Share::Exclusive,
            priority: worker.rng.i64(-1..=1),
            lock_delay_ms: 0,
        };
        if let Some((answered, fence)) = acquire(worker, &ask, MANNER) {
            hold(worker, lock, &lease, fence, &answered);
        }
    }
}

/// A new lease.
pub(super) fn grant(worker: &mut Worker<'_>, ttl_ms: u64) -> Option<String> {
    grant_named(worker, ttl_ms, "")
}

/// A new lease with a name.
pub(super) fn grant_named(worker: &mut Worker<'_>, ttl_ms: u64, name: &str) -> Option<String> {
    let answered = worker.caller.ask(Ask::Grant {
        ttl_ms,
        name: name.to_owned(),
        once: None,
    });
    match answered.told {
        Told::Granted { lease, .. } => Some(lease),
        told => {
            worker.breathe(&told);
            None
        }
    }
}

/// Asks again and again until it holds, or never will. Answers the fence: of several locks at once it is one.
pub(super) fn acquire(
    worker: &mut Worker<'_>,
    ask: &Ask,
    manner: Manner,
) -> Option<(Answered, u64)> {
    while !worker.stopped() {
        let answered = worker.caller.ask_so(ask.clone(), manner);
        match &answered.told {
            Told::Held { fence, .. } => {
                let fence = *fence;
                return Some((answered, fence));
            }
            Told::HeldAll { fences, .. } => {
                let fence = *fences.values().next()?;
                return Some((answered, fence));
            }
            Told::Queued { .. } => {}
            Told::Refused { .. } => return None,
            // Its wait may be over or its place unknown: asking again tells which.
            told => {
                let code = answered.body["code"].as_str().unwrap_or_default();
                let over = matches!(code, "wait-expired" | "limit-mismatch");
                worker.breathe(told);
                if over {
                    return None;
                }
            }
        }
    }
    None
}

/// Until when a holder may believe (`api.md` §1).
pub(super) fn believed_until(answered: &Answered) -> Moment {
    let remaining_ms = answered.body["remaining_ms"].as_u64().unwrap_or_default();
    let usable_ns = remaining_ms.saturating_mul(980_000);
    Moment((answered.call.0 + usable_ns).saturating_sub(50_000_000))
}

fn hold(worker: &mut Worker<'_>, lock: usize, lease: &str, fence: u64, answered: &Answered) {
    let run = worker.run;
    let until = believed_until(answered);
    let (fenced, control) = (format!("fenced-{lock}"), format!("control-{lock}"));
    let resource = format!("locks/outside-{lock}");
    let hold = Held {
        resource: &resource,
        lease,
        owner: "",
        fence,
    };
    let write = |run: &Run<'_>| {
        run.outside.write(run, &hold, &fenced, true);
        run.outside.write(run, &hold, &control, false);
    };
    while run.recorder.now() < until && !worker.stopped() {
        write(run);
        let time = worker.rng.u64(2..15);
        worker.pass(Duration::from_millis(time));
        if worker.rng.u8(..3) == 0 {
            break;
        }
    }
    let habit = worker.rng.u8(..8);
    let stopped = run.recorder.now().min(until);
    let believed = if habit < 2 { until } else { stopped };
    worker.believed(&hold, answered.ret, believed);
    match habit {
        // It dies with its lease.
        0 => {}
        // It oversleeps, and does not notice.
        1 => {
            let left = until.since(run.recorder.now());
            let over = Duration::from_millis(worker.rng.u64(300..900));
            worker.pass(Duration::from_nanos(left) + over);
            write(run);
        }
        _ => {
            worker.release(&hold);
            worker.caller.ask(Ask::Revoke {
                lease: lease.to_owned(),
            });
        }
    }
}
