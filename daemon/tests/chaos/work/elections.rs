//! Candidates who campaign, proclaim and resign, hand over or die, and observers who ask who leads.

use tenure_oracle::{Ask, Share, Told};

use super::locks::{acquire, believed_until, grant};
use super::{Held, Worker, breaking, guarded};
use crate::asking::Manner;

const TTL_MS: u64 = 1_200;
pub(super) const RESOURCE: &str = "elections/chief";
/// Fewer than there are candidates, so that some go by one name.
const NAMES: usize = 2;
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
        let name = name(worker);
        let campaign = Ask::Acquire {
            resource: RESOURCE.to_owned(),
            lease: lease.clone(),
            owner: name.clone(),
            share: Share::Exclusive,
            priority: worker.rng.i64(0..=1),
            lock_delay_ms: 0,
        };
        let Some((answered, fence)) = acquire(worker, &campaign, MANNER) else {
            continue;
        };
        let until = believed_until(&answered);
        let hold = Held {
            resource: RESOURCE,
            lease: &lease,
            owner: &name,
            fence,
        };
        while worker.run.recorder.now() < until && !worker.stopped() {
            if worker.rng.u8(..4) == 0 {
                guarded::write(worker, &lease, hold.guard());
            } else {
                let told = proclaim(worker, &hold);
                worker.breathe(&told);
            }
            if worker.rng.u8(..4) == 0 {
                break;
            }
        }
        let stopped = worker.run.recorder.now().min(until);
        let habit = worker.rng.u8(..8);
        let believed = if habit < 2 { until } else { stopped };
        worker.believed(&hold, answered.ret, believed);
        match habit {
            // It dies.
            0..2 => continue,
            2..5 => hand_over(worker, &hold),
            _ => {}
        }
        worker.release(&hold);
        // One who does not lead any more is refused.
        let told = proclaim(worker, &hold);
        worker.breathe(&told);
    }
}

fn name(worker: &mut Worker<'_>) -> String {
    format!("host-{}", worker.rng.usize(..NAMES))
}

/// Hands over to any name, whether somebody waits by it or not.
fn hand_over(worker: &mut Worker<'_>, hold: &Held<'_>) {
    let to = name(worker);
    worker.caller.ask(Ask::HandOver {
        resource: hold.resource.to_owned(),
        lease: hold.lease.to_owned(),
        owner: hold.owner.to_owned(),
        fence: hold.fence,
        to,
    });
}

fn proclaim(worker: &mut Worker<'_>, hold: &Held<'_>) -> Told {
    let value = worker.value();
    let ask = Ask::Proclaim {
        resource: hold.resource.to_owned(),
        lease: hold.lease.to_owned(),
        owner: hold.owner.to_owned(),
        fence: hold.fence,
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
        if let Told::Holder {
            fence: Some(fence), ..
        } = told.told
            && resource == RESOURCE
            && worker.rng.u8(..20) == 0
        {
            breaking::end(worker, resource, fence, None);
        }
        worker.breathe(&told.told);
    }
}
