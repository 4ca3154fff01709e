//! Leases that are renewed for a while and then run out or are revoked, with keys that hang on them.

use std::time::Duration;

use tenure_oracle::{Ask, Told};

use super::Worker;
use super::locks::grant;

pub(super) fn work(worker: &mut Worker<'_>) {
    while !worker.stopped() {
        worker.roam();
        let ttl_ms = worker.rng.u64(1_000..2_000);
        let Some(lease) = grant(worker, ttl_ms) else {
            continue;
        };
        for number in 0..worker.rng.u8(..3) {
            let value = worker.value();
            worker.caller.ask(Ask::Put {
                key: format!("leased/{}/{number}", worker.id),
                value,
                only_if: None,
                absent: false,
                lease: Some(lease.clone()),
                once: None,
            });
        }
        for _ in 0..worker.rng.u8(..5) {
            let time = worker.rng.u64(50..ttl_ms / 2);
            worker.pass(Duration::from_millis(time));
            let told = worker.caller.ask(Ask::Renew {
                lease: lease.clone(),
            });
            if matches!(told.told, Told::Refused { .. }) {
                break;
            }
        }
        match worker.rng.u8(..3) {
            0 => {
                worker.caller.ask(Ask::Revoke { lease });
            }
            // It runs out, and is asked for when it must have.
            1 => {
                let time = ttl_ms + worker.rng.u64(..600);
                worker.pass(Duration::from_millis(time));
                worker.caller.ask(Ask::Renew { lease });
            }
            _ => {}
        }
    }
}
