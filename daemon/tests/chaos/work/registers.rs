//! Keys that everybody writes and reads in every way: puts, conditions, deletions, transactions, reads of all kinds.

use tenure_oracle::{Ask, Condition, How, Operation, Revision, Told};

use super::Worker;

const KEYS: usize = 10;

/// What was last learnt of each key: its value and when it was changed.
type Known = Vec<Option<(String, Revision)>>;

pub(super) fn work(worker: &mut Worker<'_>) {
    let mut known: Known = vec![None; KEYS];
    let mut newest = Revision(1);
    while !worker.stopped() {
        worker.roam();
        let number = worker.rng.usize(..KEYS);
        let ask = choose(worker, number, &known, newest);
        let answered = worker.caller.ask(ask.clone());
        learn(&mut known, number, &ask, &answered.told);
        newest = newest.max(revision(&answered.told));
        worker.breathe(&answered.told);
    }
}

fn key(number: usize) -> String {
    format!("k{number}")
}

fn choose(worker: &mut Worker<'_>, number: usize, known: &Known, newest: Revision) -> Ask {
    let last = known[number].as_ref().map(|(_, revision)| *revision);
    let put = |value: String, only_if: Option<Revision>, absent: bool| Ask::Put {
        key: key(number),
        value,
        only_if,
        absent,
        lease: None,
        guard: None,
        once: None,
    };
    let get = |how: How| Ask::Get {
        key: key(number),
        how,
    };
    match worker.rng.u8(..21) {
        // Of one key, or now and then of all.
        20 => Ask::DeletePrefix {
            prefix: match worker.rng.u8(..4) {
                0 => "k".to_owned(),
                _ => key(number),
            },
            guard: None,
            once: None,
        },
        0..4 => put(worker.value(), None, false),
        4..7 => put(worker.value(), last, false),
        7 => put(worker.value(), None, true),
        8 => Ask::Delete {
            key: key(number),
            guard: None,
            once: None,
        },
        9..12 => transaction(worker, number, known),
        12..15 => get(How::Linearizable),
        15 => get(How::Local),
        16 => {
            let back = worker.rng.u64(..20);
            get(How::At(Revision(newest.0.saturating_sub(back).max(1))))
        }
        17 => get(How::AtLeast(newest)),
        18 => Ask::List {
            prefix: "k".to_owned(),
            how: How::Linearizable,
        },
        _ => Ask::List {
            prefix: "k".to_owned(),
            how: match worker.rng.bool() {
                true => How::Local,
                false => How::AtLeast(newest),
            },
        },
    }
}

/// Over two to four keys: what it writes depends on what it knows of one of them.
fn transaction(worker: &mut Worker<'_>, number: usize, known: &Known) -> Ask {
    let condition = match &known[number] {
        Some((value, _)) if worker.rng.bool() => Condition::Value {
            key: key(number),
            value: value.clone(),
        },
        Some((_, revision)) => Condition::Modified {
            key: key(number),
            revision: *revision,
        },
        None => Condition::Modified {
            key: key(number),
            revision: Revision(0),
        },
    };
    let others = 1 + worker.rng.usize(..3);
    let mut then = vec![Operation::Get { key: key(number) }];
    for step in 0..others {
        let key = key((number + step) % KEYS);
        then.push(match worker.rng.u8(..5) {
            0 => Operation::Delete { key },
            _ => Operation::Put {
                key,
                value: worker.value(),
            },
        });
    }
    if worker.rng.u8(..6) == 0 {
        // Further on than whatever it puts.
        let prefix = key((number + 4) % KEYS);
        then.push(Operation::DeletePrefix { prefix });
    }
    then.push(Operation::Get { key: key(number) });
    let otherwise = match worker.rng.bool() {
        true => vec![Operation::Get { key: key(number) }],
        false => vec![Operation::Put {
            key: key(number),
            value: worker.value(),
        }],
    };
    Ask::Transact {
        when: vec![condition],
        then,
        otherwise,
        guard: None,
        once: None,
    }
}

fn learn(known: &mut Known, number: usize, ask: &Ask, told: &Told) {
    match (ask, told) {
        (Ask::Put { value, .. }, Told::Done { revision, .. }) => {
            known[number] = Some((value.clone(), *revision));
        }
        (Ask::Get { key, how }, Told::Read { keys, .. }) if !matches!(how, How::At(_)) => {
            let seen = keys.get(key);
            known[number] = seen.map(|seen| (seen.value.clone(), seen.revision));
        }
        (Ask::Delete { .. }, Told::Done { .. } | Told::Refused { .. })
        | (Ask::DeletePrefix { .. }, Told::Deleted { .. }) => known[number] = None,
        _ => {}
    }
}

fn revision(told: &Told) -> Revision {
    match told {
        Told::Done { revision, .. }
        | Told::Deleted { revision, .. }
        | Told::Read { revision, .. }
        | Told::Transacted { revision, .. }
        | Told::Refused { revision, .. } => *revision,
        _ => Revision(0),
    }
}
