//! What the quotas of bytes count, beside what memory really holds.
//!
//! One test in a binary of its own, since the allocator counts for the whole process. An allocation is taken for what was
//! asked and 16 bytes: the header and the rounding of a usual `malloc`.

#[path = "state/support/mod.rs"]
mod support;

use std::alloc::System;
use std::collections::BTreeMap;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{acquire, delete, keyed, lease, new_lease, put, request, transaction};
use tenure_state::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const DAY_MS: u64 = 86_400_000;

/// How many of a small thing.
const THINGS: u64 = 3000;

/// What an allocation takes beside what was asked.
const PER_ALLOCATION: usize = 16;

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
        + PER_ALLOCATION * (stats.allocations - stats.deallocations)
}

/// A state, and what was allocated before it.
struct Measured {
    state: State,
    before: usize,
}

impl Measured {
    fn new() -> Measured {
        let before = allocated();
        let limits = Limits {
            history_retention_ms: DAY_MS,
            history_bytes: 1 << 40,
            standing_bytes: 1 << 40,
            idempotency_records: 1 << 40,
            attached_per_lease: 1 << 40,
            waiters: 1 << 40,
            ..Limits::default()
        };
        let genesis = Genesis {
            limits,
            ..Genesis::default()
        };
        Measured {
            state: State::genesis(genesis),
            before,
        }
    }

    fn apply(&mut self, request: Request) {
        let batch = Batch {
            requests: vec![request],
            ..Batch::default()
        };
        let applied = self.state.apply(Clock(0), &batch);
        let outcome = &applied.outcomes[0].outcome;
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// What is held, less what waits for a checkpoint.
    fn held(&mut self) -> usize {
        self.state.take_changes();
        allocated() - self.before
    }

    /// The same without history.
    fn held_without_history(&mut self) -> usize {
        let compact = Command::Compact {
            revision: self.state.revision(),
        };
        self.apply(request(compact));
        while 0 < self.state.events_after(Revision(0)).count() {
            self.state.apply(Clock(0), &Batch::default());
        }
        self.held()
    }
}

fn check(shape: &str, accounted: u64, held: usize) {
    let percent = 100 * accounted / held as u64;
    println!("{shape}: {accounted} accounted, {held} held, {percent} %");
    assert!(70 <= percent, "{shape}: {accounted} of {held}");
}

/// Things that stand, as they were made and as they were loaded.
fn standing(shape: &str, commands: impl Iterator<Item = Command>) {
    let mut measured = Measured::new();
    commands.for_each(|command| measured.apply(request(command)));
    let held = measured.held_without_history();
    check(shape, measured.state.standing_bytes(), held);
    let before = allocated();
    let loaded = State::from_rows(measured.state.rows()).expect("its rows are a state");
    let held = allocated() - before;
    check(&format!("{shape}, loaded"), loaded.standing_bytes(), held);
}

/// What happened, less what is there because of it.
fn history(shape: &str, commands: impl Iterator<Item = Command>) {
    let mut measured = Measured::new();
    commands.for_each(|command| measured.apply(request(command)));
    let (held, accounted) = (measured.held(), measured.state.history_bytes());
    let rest = measured.held_without_history();
    check(shape, accounted, held - rest);
}

/// Records of decisions, which go at their own time: what is held less what is held without them.
fn repeats(shape: &str, commands: impl Iterator<Item = Command>) {
    let mut measured = Measured::new();
    for (n, command) in (0..).zip(commands) {
        let key = format!("6f1f4c7e-0d1b-4c52-9f70-{n:012}");
        measured.apply(keyed(&key, command));
    }
    let held = measured.held_without_history();
    let kept = measured.state.repeats_kept();
    let entries = 2 + kept / 2000;
    for _ in 0..entries {
        measured.state.apply(Clock(60_001), &Batch::default());
    }
    assert_eq!(measured.state.repeats_kept(), 0, "they are forgotten");
    check(shape, 512 * kept, held - measured.held_without_history());
}

fn labels(count: usize, bytes: usize) -> BTreeMap<String, String> {
    (0..count)
        .map(|n| (format!("{n:x}"), "v".repeat(bytes)))
        .collect()
}

fn lease_with(id: u64, metadata: BTreeMap<String, String>) -> Command {
    Command::GrantLease(NewLease {
        metadata,
        ..new_lease(id, DAY_MS)
    })
}

fn leases(count: u64) -> impl Iterator<Item = Command> {
    (1..=count).map(|id| lease_with(id, BTreeMap::new()))
}

/// Holds of one lease, a name each.
fn locks(
    name: impl Fn(u64) -> String,
    metadata: BTreeMap<String, String>,
) -> impl Iterator<Item = Command> {
    let each = (1..=THINGS).map(move |n| {
        Command::Acquire(Acquire {
            metadata: metadata.clone(),
            ..acquire(&name(n), 1, 0)
        })
    });
    leases(1).chain(each)
}

/// Leases that all want one name.
fn all_want(kind: Kind, share: Share, value: &str) -> impl Iterator<Item = Command> {
    let wanted = vec![Wanted {
        name: "x".to_owned(),
        share,
    }];
    let each = (1..=THINGS).map(move |id| {
        Command::Acquire(Acquire {
            kind,
            wanted: wanted.clone(),
            value: value.to_owned(),
            ..acquire("", id, DAY_MS)
        })
    });
    leases(THINGS).chain(each)
}

/// Leases that each want 64 names at once.
fn together(name: impl Fn(u64, u64) -> String) -> impl Iterator<Item = Command> {
    let each = (1..=100).map(move |id| {
        let wanted = (0..MAX_NAMES_TOGETHER).map(|n| Wanted {
            name: name(n, id),
            share: Share::Exclusive,
        });
        Command::Acquire(Acquire {
            wanted: wanted.collect(),
            ..acquire("", id, DAY_MS)
        })
    });
    leases(100).chain(each)
}

/// Holds that are broken at once: the fence is the revision of the grant, and a lease was granted before.
fn held_once(name: impl Fn(u64) -> String) -> impl Iterator<Item = Command> {
    let each = (1..=THINGS).flat_map(move |n| {
        let broken = Command::Break(Break {
            kind: Kind::Lock,
            name: name(n),
            fence: Fence(2 * n + 1),
            holder: None,
            now: true,
        });
        [Command::Acquire(acquire(&name(n), 1, 0)), broken]
    });
    leases(1).chain(each)
}

#[test]
fn what_is_accounted_is_no_less_than_seven_tenths_of_what_memory_holds() {
    let name = |n: u64| n.to_string();
    let tiny = (0..0x80).chain(0x80..0x7c0).filter_map(char::from_u32);
    let tiny: BTreeMap<_, _> = tiny.map(|key| (key.to_string(), String::new())).collect();
    let of_labels = |count, metadata: BTreeMap<String, String>| {
        (1..=count).map(move |id| lease_with(id, metadata.clone()))
    };
    standing("leases", leases(THINGS));
    standing("leases with 1984 labels", of_labels(20, tiny));
    standing("leases with 1000 labels", of_labels(20, labels(1000, 1)));
    standing("leases with some labels", of_labels(THINGS, labels(4, 30)));
    standing("leases with one label", of_labels(THINGS, labels(1, 1)));
    standing("leases with 4 KiB", of_labels(THINGS, labels(1, 4000)));

    let own = |n: u64| Command::Acquire(acquire(&n.to_string(), n, 0));
    let permits = Share::Permits {
        permits: 1,
        limit: THINGS,
    };
    standing("locks", locks(name, BTreeMap::new()));
    standing(
        "locks with long names",
        locks(|n| format!("{n:01024}"), BTreeMap::new()),
    );
    standing("locks with labels", locks(name, labels(40, 5)));
    standing(
        "locks of a lease each",
        leases(THINGS).chain((1..=THINGS).map(own)),
    );
    standing("shared holds", all_want(Kind::Lock, Share::Shared, ""));
    standing("permits", all_want(Kind::Semaphore, permits, ""));
    standing("places", all_want(Kind::Lock, Share::Exclusive, ""));
    standing(
        "candidates",
        all_want(Kind::Election, Share::Exclusive, &"v".repeat(1000)),
    );
    standing("places of 64 names", together(|n, _| n.to_string()));
    standing("holds of 64 names", together(|n, id| format!("{n} {id}")));

    repeats("records of a put", (0..THINGS).map(|_| put("a", "v", None)));
    let gets = vec![Operation::Get { key: "a".into() }; 128];
    repeats(
        "records of 128 operations",
        (0..500).map(|_| transaction(gets.clone())),
    );
    repeats("records of breaks", held_once(|_| "x".to_owned()));

    history("puts", (0..2 * THINGS).map(|_| put("a", "v", None)));
    let come_and_go = |key: String| [put(&key, "v", None), delete(&key)];
    history(
        "a key that comes and goes",
        (0..THINGS).flat_map(|_| come_and_go("a".to_owned())),
    );
    history(
        "keys that come and go",
        (0..THINGS).flat_map(|n| come_and_go(n.to_string())),
    );
    let granted = |id| {
        let lease = lease(id);
        [
            lease_with(id, BTreeMap::new()),
            Command::RevokeLease { lease },
        ]
    };
    history("leases that come and go", (1..=THINGS).flat_map(granted));
    history("a lock that is held often", held_once(|_| "x".to_owned()));
    history("locks that are held once", held_once(name));
}
