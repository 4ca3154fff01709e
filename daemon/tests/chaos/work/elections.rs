//! Candidates who campaign, proclaim and resign or die, and observers who ask who leads.

use tenure_oracle::{Ask, Share, Told};

use super::locks::{acquire, believed_until, grant};
use super::{Held, Worker};
use crate::asking::Manner;

const TTL_MS: u64 = 1_200;
const RESOURCE: &str = "elections/chief";
const MANNER: Manner = Manner {
    wait_ms: 20_000,
    poll_ms: 350,
};

pub(super) fn work(worker: &mut Worker<'_>) {
    // One of four only looks.
    if worker.id.is_multiple_of(4) {
        return observe(worker);
    }
    while !worker.stopped() {
        worker.roam();
        let Some(lease) = grant(worker, TTL_MS) else {
            continue;
        };
        let campaign = Ask::Acquire {
            resource: RESOURCE.to_owned(),
            lease: lease.clone(),
            owner: lease.clone(),
            share: Share::Exclusive,
            priority: 0,
        };
        let Some((answered, fence)) = acquire(worker, &campaign, MANNER) else {
            continue;
        };
        let until = believed_until(&answered);
        while worker.run.recorder.now() < until && !worker.stopped() {
            let told = proclaim(worker, &lease, fence);
            worker.breathe(&told);
            if worker.rng.u8(..4) == 0 {
                break;
            }
        }
        let stopped = worker.run.recorder.now().min(until);
        let dies = worker.rng.u8(..4) == 0;
        let hold = Held {
            resource: RESOURCE,
            lease: &lease,
            fence,
        };
        worker.believed(&hold, answered.ret, if dies { until } else { stopped });
        if !dies {
            worker.release(&hold);
            // One who does not lead any more is refused.
            let told = proclaim(worker, &lease, fence);
            worker.breathe(&told);
        }
    }
}

fn proclaim(worker: &mut Worker<'_>, lease: &str, fence: u64) -> Told {
    let value = worker.value();
    let ask = Ask::Proclaim {
        resource: RESOURCE.to_owned(),
        lease: lease.to_owned(),
        owner: lease.to_owned(),
        fence,
        value,
    };
    worker.caller.ask(ask).told
}

fn observe(worker: &mut Worker<'_>) {
    while !worker.stopped() {
        worker.roam();
        let resource = match worker.rng.u8(..3) {
            0 => "locks/outside-0",
            1 => "locks/outside-1",
            _ => RESOURCE,
        };
        let told = worker.caller.ask(Ask::Holder {
            resource: resource.to_owned(),
        });
        worker.breathe(&told.told);
    }
}
