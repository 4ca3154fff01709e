//! Leases that are renewed for a while, some with another TTL from then on, and then run out or are revoked, with keys
//! that hang on them.

use std::time::Duration;

use tenure_oracle::{Ask, Told};

use super::Worker;
use super::locks::grant;

const TTL_MS: std::ops::Range<u64> = 1_000..2_000;

pub(super) fn work(worker: &mut Worker<'_>) {
    while !worker.stopped() {
        worker.roam();
        let mut ttl_ms = worker.rng.u64(TTL_MS);
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
                guard: None,
                once: None,
            });
        }
        for _ in 0..worker.rng.u8(..5) {
            let time = worker.rng.u64(50..ttl_ms / 2);
            worker.pass(Duration::from_millis(time));
            let (lease, changed) = (lease.clone(), worker.rng.u64(TTL_MS));
            let changes = worker.rng.u8(..3) == 0;
            let told = worker.caller.ask(match changes {
                true => Ask::Change {
                    lease,
                    ttl_ms: changed,
                },
                false => Ask::Renew { lease },
            });
            match told.told {
                Told::Refused { .. } => break,
                Told::Renewed { .. } if changes => ttl_ms = changed,
                // Whether it was changed is not known: the next renewal comes in time for either.
                _ if changes => ttl_ms = ttl_ms.min(changed),
                _ => {}
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
