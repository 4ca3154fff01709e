//! Writes that are sent again with the same idempotency key, to the same member and to others, whatever came of them.

use tenure_oracle::{Ask, Condition, Operation, Revision};

use super::Worker;

pub(super) fn work(worker: &mut Worker<'_>) {
    while !worker.stopped() {
        let ask = choose(worker);
        let mut answered = worker.caller.ask(ask.clone());
        for _ in 0..worker.rng.u8(..4) {
            worker.breathe(&answered.told);
            let member = worker.rng.usize(..worker.run.rig.members.len());
            worker.caller.go_to(member);
            answered = worker.caller.ask(ask.clone());
        }
        worker.breathe(&answered.told);
    }
}

fn choose(worker: &mut Worker<'_>) -> Ask {
    let value = worker.value();
    let once = Some(format!("once-{value}"));
    let key = format!("o{}", worker.rng.u8(..4));
    match worker.rng.u8(..6) {
        0 => Ask::Transact {
            when: vec![Condition::Modified {
                key: format!("o{}", worker.rng.u8(..4)),
                revision: Revision(0),
            }],
            then: vec![Operation::Put {
                key: key.clone(),
                value: format!("{value}+"),
            }],
            otherwise: vec![Operation::Delete { key }],
            guard: None,
            once,
        },
        1 => match worker.rng.bool() {
            true => Ask::Delete {
                key,
                guard: None,
                once,
            },
            false => Ask::DeletePrefix {
                prefix: key,
                guard: None,
                once,
            },
        },
        // Nobody renews it: told again after a second, it has ended.
        2 => Ask::Grant {
            ttl_ms: 1_000,
            name: String::new(),
            once,
        },
        choice => Ask::Put {
            key,
            value,
            only_if: None,
            absent: choice == 3,
            lease: None,
            guard: None,
            once,
        },
    }
}
