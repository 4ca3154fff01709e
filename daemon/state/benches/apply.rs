//! What an entry costs the state machine. Each iteration applies one entry.

use std::collections::BTreeMap;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use tenure_state::{
    Acquire, Batch, Claim, Clock, Command, Fence, Genesis, KeyRange, Kind, LeaseId, NewLease,
    Operation, Origin, Put, Release, Renewal, Request, Share, State, Transaction, Wanted,
};

fn main() {
    divan::main();
}

const ORIGIN: Origin = Origin {
    member: 1,
    token: 1,
};

fn lease(id: u64) -> LeaseId {
    LeaseId::new(id).expect("it is positive")
}

fn batch(commands: Vec<Command>) -> Batch {
    let request = |command| Request {
        origin: ORIGIN,
        principal: tenure_state::Principal::anonymous(),
        idempotency: None,
        command,
    };
    Batch {
        renewals: Vec::new(),
        requests: commands.into_iter().map(request).collect(),
    }
}

fn with_leases(count: u64) -> State {
    let mut state = State::genesis(Genesis::default());
    let grant = |id| {
        let (name, metadata) = (String::new(), BTreeMap::new());
        Command::GrantLease(NewLease {
            lease: lease(id),
            ttl_ms: 86_400_000,
            name,
            metadata,
        })
    };
    state.apply(Clock(0), &batch((1..=count).map(grant).collect()));
    state.take_changes();
    state
}

fn put(number: u64) -> Command {
    let put = Put {
        key: format!("bench/{number:08}").into(),
        value: Bytes::from(vec![b'v'; 256]),
        content_type: None,
        lease: None,
        refuse_other_lease: false,
    };
    Command::Transaction(Transaction {
        then: vec![Operation::Put(put)],
        ..Transaction::default()
    })
}

/// Puts of 256 bytes over a hundred thousand keys, so many to an entry.
#[divan::bench(args = [1, 64])]
fn puts(bencher: Bencher, per_entry: u64) {
    let mut state = State::genesis(Genesis::default());
    let mut number = 0u64;
    bencher.counter(ItemsCount::new(per_entry)).bench_local(|| {
        let next = |at| put(number.wrapping_add(at).wrapping_mul(7_919) % 100_000);
        let entry = batch((0..per_entry).map(next).collect());
        number += per_entry;
        state.apply(Clock(number), &entry);
        if number % 16_384 < per_entry {
            divan::black_box(state.take_changes());
        }
    });
}

/// Puts of one key while history is full of so many of its versions: each takes the oldest away.
#[divan::bench(args = [1_000, 100_000])]
fn puts_of_a_busy_key(bencher: Bencher, versions: u64) {
    let mut state = State::genesis(Genesis::default());
    let mut number = 0u64;
    let mut put_once = |state: &mut State| {
        number += 1;
        state.apply(Clock(number), &batch(vec![put(0)]));
        if number.is_multiple_of(16_384) {
            divan::black_box(state.take_changes());
        }
    };
    state.apply(
        Clock(0),
        &batch(vec![Command::ChangeLimits(BTreeMap::from([(
            "history_retention_ms".to_owned(),
            versions,
        )]))]),
    );
    for _ in 0..2 * versions {
        put_once(&mut state);
    }
    bencher.bench_local(|| put_once(&mut state));
}

/// A lock taken and released, an entry each.
#[divan::bench]
fn acquire_and_release(bencher: Bencher) {
    let mut state = with_leases(1);
    let acquire = batch(vec![Command::Acquire(Acquire {
        kind: Kind::Lock,
        wanted: vec![Wanted {
            name: "jobs/nightly".to_owned(),
            share: Share::Exclusive,
        }],
        claim: Claim::Lease(lease(1)),
        owner: String::new(),
        wait_ms: 0,
        priority: 0,
        metadata: BTreeMap::new(),
        lock_delay_ms: 0,
        value: String::new(),
    })]);
    let mut clock = 0;
    bencher.bench_local(|| {
        clock += 1;
        state.apply(Clock(clock), &acquire);
        let release = Command::Release(Release {
            kind: Kind::Lock,
            name: "jobs/nightly".to_owned(),
            lease: lease(1),
            owner: String::new(),
            fence: Some(Fence(state.revision().0)),
        });
        state.apply(Clock(clock), &batch(vec![release]))
    });
}

/// A thousand renewals in an entry, of a hundred thousand leases.
#[divan::bench]
fn renewals(bencher: Bencher) {
    let mut state = with_leases(100_000);
    let mut clock = 0;
    bencher.counter(ItemsCount::new(1000u64)).bench_local(|| {
        let first = clock * 1000 % 100_000;
        let renewals = (first..first + 1000)
            .map(|id| Renewal {
                origin: ORIGIN,
                principal: tenure_state::Principal::anonymous(),
                lease: lease(id + 1),
            })
            .collect();
        clock += 1;
        state.apply(
            Clock(clock),
            &Batch {
                renewals,
                requests: Vec::new(),
            },
        )
    });
}

/// The count of half of a million keys.
#[divan::bench]
fn count_of_half_a_million(bencher: Bencher) {
    let mut state = State::genesis(Genesis::default());
    for number in 0..1_000_000 {
        state.apply(Clock(0), &batch(vec![put(number)]));
    }
    let half = KeyRange {
        start: Bytes::from_static(b"bench/00250000"),
        end: Some(Bytes::from_static(b"bench/00750000")),
    };
    bencher.bench_local(|| state.count_piece(state.revision(), &half, 256));
}
