//! Readers who stay with one member each and only read, so that they still ask when whoever writes there waits for an
//! answer that does not come: one who leads no longer, and does not know, must tell them nothing old.

use std::time::Duration;

use tenure_oracle::{Ask, How};

use super::{Worker, elections};

/// Short enough for a few reads in the time in which two take themselves for the leader.
const BREATHER: Duration = Duration::from_millis(15);

pub(super) fn work(worker: &mut Worker<'_>) {
    let member = worker.id % worker.run.rig.members.len();
    worker.caller.go_to(member);
    while !worker.stopped() {
        let ask = match worker.rng.u8(..4) {
            0 => Ask::Holder {
                resource: elections::RESOURCE.to_owned(),
            },
            1 => Ask::List {
                prefix: "k".to_owned(),
                how: How::Linearizable,
            },
            _ => Ask::Get {
                key: format!("k{}", worker.rng.u8(..10)),
                how: How::Linearizable,
            },
        };
        worker.caller.ask(ask);
        worker.pass(BREATHER);
    }
}
