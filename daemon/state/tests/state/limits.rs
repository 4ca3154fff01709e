//! Limits changed by an entry, and a cluster that is full.

use std::collections::BTreeMap;

use crate::support::{
    acquire, apply_one, delete, grant, hold, lease, put, queued, release, reload, renewals,
};
use tenure_state::*;

fn change(changes: &[(&str, u64)]) -> Command {
    let changes = changes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    Command::ChangeLimits(changes.collect::<BTreeMap<_, _>>())
}

fn quota(limit: &'static str, allowed: u64, asked: u64) -> Outcome {
    Err(Refusal::QuotaExceeded {
        limit,
        allowed,
        asked,
    })
}

#[test]
fn limits_change_all_or_none_make_no_revision_and_outlive_a_restart() {
    let mut state = State::genesis(Genesis::default());
    let revision = state.revision();
    let answer = apply_one(&mut state, 0, change(&[("keys", 7), ("waiters", 9)]));
    let Ok(Answer::Limits {
        limits,
        revision: told,
    }) = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!((limits.keys, limits.waiters, told), (7, 9, revision));
    assert_eq!(state.revision(), revision);
    let digest = state.digest();
    let refused = [
        (change(&[("keys", 8), ("nonsense", 1)]), "nonsense"),
        (
            change(&[("keys", 8), ("leases", 0)]),
            "leases is 0; accepted are 1 to",
        ),
        (
            change(&[("keys", 8), ("value_bytes", 4 << 20)]),
            "value_bytes is 4194304",
        ),
    ];
    for (command, named) in refused {
        let Err(Refusal::Limits(error)) = apply_one(&mut state, 0, command) else {
            panic!("{named} is refused")
        };
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(
        state.digest(),
        digest,
        "nothing of what was refused is done"
    );
    assert_eq!(reload(&state).limits(), &limits);
}

#[test]
fn in_a_full_cluster_what_is_held_is_kept_renewed_and_given_back() {
    let mut state = State::genesis(Genesis::default());
    for id in 1..=4 {
        assert!(apply_one(&mut state, 0, grant(id, 10_000)).is_ok());
    }
    for key in ["a", "b"] {
        assert!(apply_one(&mut state, 0, put(key, "value", Some(1))).is_ok());
    }
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    queued(&mut state, 0, acquire("jobs", 2, 60_000));
    queued(&mut state, 0, acquire("jobs", 3, 60_000));
    let full = [
        ("keys", 1),
        ("key_bytes", 1 << 20),
        ("leases", 1),
        ("waiters", 1),
        ("attached_per_lease", 1),
        ("idempotency_records", 1),
    ];
    assert!(apply_one(&mut state, 0, change(&full)).is_ok());
    assert_eq!(
        apply_one(&mut state, 0, put("c", "", None)),
        quota("keys", 1, 3)
    );
    assert_eq!(
        apply_one(&mut state, 0, grant(9, 5000)),
        quota("leases", 1, 5)
    );
    let wait = Command::Acquire(acquire("jobs", 4, 60_000));
    assert_eq!(apply_one(&mut state, 0, wait), quota("waiters", 1, 3));
    let more = Command::Acquire(acquire("other", 1, 0));
    assert_eq!(
        apply_one(&mut state, 0, more),
        quota("attached_per_lease", 1, 4)
    );

    let renewed = state.apply(Clock(5000), &renewals(&[1, 2, 3, 4]));
    assert!(
        renewed
            .outcomes
            .iter()
            .all(|decision| decision.outcome.is_ok())
    );
    let again = hold(&mut state, 5000, acquire("jobs", 1, 0));
    assert_eq!(again.fence, held.fence, "asking again is no growth");
    queued(&mut state, 5000, acquire("jobs", 2, 60_000));
    let longer = Command::ChangeLease {
        lease: lease(1),
        ttl_ms: 20_000,
    };
    assert!(apply_one(&mut state, 5000, longer).is_ok());
    assert!(
        apply_one(&mut state, 5000, put("a", "v", Some(1))).is_ok(),
        "it shrinks"
    );
    assert!(
        apply_one(&mut state, 5000, put("a", "w", None)).is_ok(),
        "it is detached"
    );
    assert!(
        apply_one(&mut state, 5000, release("jobs", 3, None)).is_ok(),
        "it leaves"
    );
    assert!(apply_one(&mut state, 5000, release("jobs", 1, Some(held.fence.0))).is_ok());
    assert_eq!(
        crate::support::holders(&state, Kind::Lock, "jobs"),
        [2],
        "the next is granted"
    );
    assert!(apply_one(&mut state, 5000, delete("b")).is_ok());
    for id in 1..=4 {
        let revoke = Command::RevokeLease { lease: lease(id) };
        assert!(apply_one(&mut state, 5000, revoke).is_ok());
    }
    assert!(
        apply_one(&mut state, 5000, grant(9, 5000)).is_ok(),
        "it recovered by itself"
    );
}

#[test]
fn full_bytes_refuse_growth_only() {
    let mut state = State::genesis(Genesis::default());
    let big = "v".repeat(600 << 10);
    for key in ["a", "b"] {
        assert!(apply_one(&mut state, 0, put(key, &big, None)).is_ok());
    }
    assert!(apply_one(&mut state, 0, change(&[("key_bytes", 1 << 20)])).is_ok());
    let refused = quota("key_bytes", 1 << 20, 2 * (1 + (600 << 10)) + 1);
    assert_eq!(apply_one(&mut state, 0, put("c", "", None)), refused);
    assert_eq!(
        apply_one(&mut state, 0, put("a", &format!("{big}v"), None)),
        refused
    );
    assert!(
        apply_one(&mut state, 0, put("a", &big, None)).is_ok(),
        "it does not grow"
    );
    assert!(
        apply_one(&mut state, 0, put("a", &big[1..], None)).is_ok(),
        "it shrinks"
    );
    assert!(apply_one(&mut state, 0, delete("b")).is_ok());
    assert!(
        apply_one(&mut state, 0, put("c", "", None)).is_ok(),
        "there is room again"
    );
}

#[test]
fn history_that_a_lowered_limit_leaves_too_much_of_goes_a_bounded_piece_an_entry() {
    let mut state = State::genesis(Genesis::default());
    for number in 0..3000 {
        state.apply(
            Clock(number),
            &crate::support::requests([put("a", "v", None)]),
        );
    }
    let kept = |state: &State| state.events_after(Revision(0)).count();
    assert_eq!(kept(&state), 3000);
    assert!(apply_one(&mut state, 3000, change(&[("history_retention_ms", 1000)])).is_ok());
    assert_eq!(kept(&state), 2000);
    state.apply(Clock(3000), &Batch::default());
    assert_eq!(kept(&state), 1000);
    assert_eq!(state.key(b"a").map(|entry| entry.version), Some(3000));
    state.check_invariants();
}

#[test]
fn the_bytes_of_what_stands_beside_the_keys_are_bounded_and_only_growth_is_refused() {
    let mut state = State::genesis(Genesis {
        limits: Limits {
            standing_bytes: 8 << 20,
            attached_per_lease: 100_000,
            ..Limits::default()
        },
        ..Genesis::default()
    });
    assert!(apply_one(&mut state, 0, grant(1, 60_000)).is_ok());
    assert!(apply_one(&mut state, 0, grant(2, 60_000)).is_ok());
    let campaign = |number: u64, id: u64, wait_ms: u64| {
        Command::Acquire(Acquire {
            kind: Kind::Election,
            value: "v".repeat(MAX_ELECTION_VALUE_BYTES as usize),
            ..acquire(&format!("e{number}"), id, wait_ms)
        })
    };
    let led = (0..).find(|number| apply_one(&mut state, 0, campaign(*number, 1, 0)).is_err());
    let led = led.expect("it is full at last");
    assert!(
        (120..=128).contains(&led),
        "{led} values of 64 KiB in 8 MiB"
    );
    let full = |outcome: Outcome| match outcome {
        Err(Refusal::QuotaExceeded {
            limit,
            allowed,
            asked,
        }) => {
            assert_eq!((limit, allowed), ("standing_bytes", 8 << 20));
            assert!(allowed < asked);
        }
        other => panic!("{other:?}"),
    };
    full(apply_one(&mut state, 0, campaign(led, 1, 0)));
    full(apply_one(&mut state, 0, campaign(0, 2, 1000)));
    let Ok(Answer::Held(held)) = apply_one(&mut state, 0, campaign(0, 1, 0)) else {
        panic!("who asks again for what it holds is not refused")
    };
    assert!(
        state.apply(Clock(1), &renewals(&[1])).outcomes[0]
            .outcome
            .is_ok()
    );
    let proclaim = |value: &str| {
        Command::Proclaim(Proclaim {
            name: "e0".into(),
            lease: lease(1),
            candidate: String::new(),
            fence: held.fence,
            value: value.into(),
        })
    };
    assert!(apply_one(&mut state, 1, proclaim("short")).is_ok());
    assert!(
        apply_one(&mut state, 1, campaign(led, 1, 0)).is_ok(),
        "there is room again"
    );
    full(apply_one(&mut state, 1, campaign(0, 2, 1000)));
    assert!(apply_one(&mut state, 1, Command::RevokeLease { lease: lease(1) }).is_ok());
    assert!(apply_one(&mut state, 1, campaign(0, 2, 0)).is_ok());
}
