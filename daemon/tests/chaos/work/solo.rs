//! Keys for the second opinion: touched by calls of their own only, and left behind before a search would not end.

use std::sync::atomic::Ordering;

use tenure_oracle::{Ask, How, MOST_OPERATIONS, Revision, Told};

use super::Worker;

/// How many calls a key gets: those who are about to call may add a few.
const RETIRED_AFTER: u64 = MOST_OPERATIONS as u64 - 40;

pub(super) fn work(worker: &mut Worker<'_>) {
    let (mut last, mut epoch) = (None, 0);
    while !worker.stopped() {
        worker.roam();
        let now = worker.run.solo_calls.fetch_add(1, Ordering::SeqCst) / RETIRED_AFTER;
        if now != epoch {
            (last, epoch) = (None, now);
        }
        let key = format!("solo/{epoch}");
        let put = |value: String, only_if: Option<Revision>, absent: bool| Ask::Put {
            key: key.clone(),
            value,
            only_if,
            absent,
            lease: None,
            guard: None,
            once: None,
        };
        let ask = match worker.rng.u8(..10) {
            0..2 => put(worker.value(), None, false),
            2..4 => put(worker.value(), last, false),
            4 => put(worker.value(), None, true),
            5 => Ask::Delete {
                key: key.clone(),
                guard: None,
                once: None,
            },
            _ => Ask::Get {
                key: key.clone(),
                how: How::Linearizable,
            },
        };
        let deletes = matches!(ask, Ask::Delete { .. });
        let answered = worker.caller.ask(ask);
        match &answered.told {
            Told::Done { revision, .. } if !deletes => last = Some(*revision),
            Told::Read { keys, .. } => last = keys.get(&key).map(|seen| seen.revision),
            // A few unknown writes and the key is of no use any more.
            Told::Unknown => {
                worker
                    .run
                    .solo_calls
                    .fetch_add(RETIRED_AFTER / 3, Ordering::SeqCst);
            }
            _ => {}
        }
        worker.breathe(&answered.told);
    }
}
