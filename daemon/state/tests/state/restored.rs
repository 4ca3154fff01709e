//! A state in a new cluster: what stays as it was, and what has ended.

use std::collections::BTreeSet;

use crate::support::{
    acquire, apply_keyed, apply_one, arrange, entries, events_of, grant, hold, keys_at, lease, put,
    queued, requests, rows_of, small_limits, with_leases,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

const BASE: Revision = Revision(1_700_000_000 << 20);

fn restored(state: &State) -> Restored {
    let restored = state.clone().restored(BASE).expect("it is far above");
    restored.state.check_invariants();
    restored
}

fn leases_of(state: &State) -> Vec<LeaseId> {
    let page = state.leases_page(None, 1000, Clock(0));
    page.iter().map(|lease| lease.lease).collect()
}

fn all_keys(state: &State) -> Vec<KeyEntry> {
    keys_at(state, state.revision()).expect("the present is there")
}

/// Every name of a kind that is held, waited for or remembered.
fn fences(state: &State) -> Vec<Option<Fence>> {
    let kinds = [Kind::Lock, Kind::Semaphore, Kind::Election];
    let of = |kind| ["a", "b", "jobs"].map(|name| state.queue(kind, name).last_fence);
    kinds.into_iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_keys_stay_and_nothing_that_hung_on_a_lease_does(
        before in vec((entries(3), any::<Option<prop::sample::Index>>()), 1..40),
        after in vec((entries(3), any::<Option<prop::sample::Index>>()), 0..10),
        small in any::<bool>(),
    ) {
        let limits = if small { small_limits() } else { Limits::default() };
        let mut state = State::genesis(Genesis { limits, ..Genesis::default() });
        let (mut clock, mut sent) = (0, Vec::new());
        for ((advance, mut batch), repeat) in before {
            clock += advance;
            arrange(&state, &mut batch, &repeat, &mut sent);
            state.apply(Clock(clock), &batch);
        }
        let leases: Vec<LeaseId> = leases_of(&state);
        let made = restored(&state);
        let mut new = made.state;

        let (gone, kept): (Vec<_>, Vec<_>) = all_keys(&state).into_iter().partition(|key| key.lease.is_some());
        prop_assert_eq!(all_keys(&new), kept.clone());
        prop_assert_eq!(made.keys, gone.len() as u64);
        prop_assert_eq!(keys_at(&new, BASE).expect("it is where history begins").len(), kept.len() + gone.len());

        prop_assert_eq!(new.revision().0, BASE.0 + leases.len() as u64);
        prop_assert_eq!(made.leases, leases.len() as u64);
        prop_assert_eq!(leases_of(&new), vec![]);
        prop_assert_eq!(new.limits(), state.limits());
        let access = |state: &State| rows_of(state).into_iter().filter(|((table, _), _)| *table == Table::Access).collect::<Vec<_>>();
        prop_assert_eq!(access(&new), access(&state));
        prop_assert_eq!(new.clock(), state.clock());
        let mut deleted = BTreeSet::new();
        for (number, lease) in leases.iter().enumerate() {
            let events = events_of(&new, Revision(BASE.0 + 1 + number as u64));
            let ended = matches!(&events[0], Event::LeaseEnded { lease: ended, reason: EndReason::Restored, .. } if ended == lease);
            prop_assert!(ended, "{:?}", events);
            for event in &events[1..] {
                match event {
                    Event::Delete { key, lease: on, reason: DeleteReason::LeaseEnded } if *on == Some(*lease) => {
                        prop_assert!(deleted.insert(key.clone()));
                    }
                    Event::Released { lease: on, reason: ReleaseReason::LeaseEnded, .. }
                    | Event::Left { lease: on, reason: LeaveReason::LeaseEnded, .. } if on == lease => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        prop_assert_eq!(deleted, gone.iter().map(|key| key.key.clone()).collect::<BTreeSet<Bytes>>());
        let compacted = Err(ReadError::Compacted { compact_revision: BASE });
        for old in [Revision(0), state.revision(), Revision(BASE.0 - 1)] {
            prop_assert_eq!(new.history(old, 10).map(|_| ()), compacted);
        }
        prop_assert_eq!(rows_of(&new), rows_of(&restored(&state).state), "it is a function of the state");

        let was = fences(&new);
        for ((advance, mut batch), repeat) in after {
            clock += advance;
            arrange(&new, &mut batch, &repeat, &mut sent);
            let from = new.revision();
            new.apply(Clock(clock), &batch);
            new.check_invariants();
            prop_assert!(from <= new.revision());
        }
        for (was, is) in was.into_iter().zip(fences(&new)) {
            let rises = is.is_none() || is == was || is.is_some_and(|is| BASE.0 < is.0);
            prop_assert!(rises, "{:?} became {:?}", was, is);
        }
    }
}

#[test]
fn whoever_waits_for_what_the_end_of_a_lease_frees_is_not_granted_it_on_the_way_to_the_new_cluster()
{
    let mut state = with_leases(&[1, 2], 10_000);
    hold(&mut state, 0, acquire("jobs", 1, 0));
    queued(&mut state, 0, acquire("jobs", 2, 60_000));
    let made = restored(&state);
    assert_eq!((made.leases, made.holds, made.places), (2, 1, 1));
    for revision in [BASE.0 + 1, BASE.0 + 2] {
        let events = events_of(&made.state, Revision(revision));
        let granted = events
            .iter()
            .any(|event| matches!(event, Event::Granted(_)));
        assert!(!granted, "{events:?}");
    }
    let queue = made.state.queue(Kind::Lock, "jobs");
    assert!(queue.holders.is_empty() && queue.queue.is_empty());
}

#[test]
fn a_fence_of_before_guards_nothing_and_the_next_one_is_greater() {
    let mut state = with_leases(&[1], 10_000);
    let old = hold(&mut state, 0, acquire("jobs", 1, 0)).fence;
    let mut new = restored(&state).state;
    let guarded = |fence| {
        let Command::Transaction(transaction) = put("k", "v", None) else {
            panic!("a put is a transaction")
        };
        Command::Transaction(Transaction {
            guard: Some(Guard {
                kind: Kind::Lock,
                name: "jobs".to_owned(),
                fence,
            }),
            ..transaction
        })
    };
    let refused = apply_one(&mut new, 1, guarded(old));
    assert!(
        matches!(refused, Err(Refusal::FenceStale { .. })),
        "{refused:?}"
    );
    let ended = apply_one(&mut new, 1, Command::Acquire(acquire("jobs", 1, 0)));
    assert_eq!(ended, Err(Refusal::LeaseExpired(lease(1))));
    apply_one(&mut new, 1, grant(9, 10_000)).expect("it is new");
    let fence = hold(&mut new, 1, acquire("jobs", 9, 0)).fence;
    assert!(BASE.0 < fence.0 && old < fence);
    apply_one(&mut new, 1, guarded(fence)).expect("it is held");
}

#[test]
fn a_write_recorded_under_a_key_is_not_applied_again_by_its_repeat_in_the_new_cluster() {
    let mut state = State::genesis(Genesis::default());
    let first = apply_keyed(&mut state, 0, "once", put("k", "v", None));
    let mut new = restored(&state).state;
    let again = apply_keyed(&mut new, 1, "once", put("k", "v", None));
    assert!(again.replayed && !first.replayed);
    assert_eq!(new.revision(), BASE);
    assert_eq!(all_keys(&new)[0].version, 1);
}

#[test]
fn a_delay_that_runs_goes_on_where_it_stood() {
    let mut state = with_leases(&[1], 1000);
    let mut ask = acquire("jobs", 1, 0);
    ask.lock_delay_ms = 5000;
    hold(&mut state, 0, ask);
    state.apply(Clock(1001), &Batch::default());
    let mut new = restored(&state).state;
    new.apply(Clock(1002), &requests([grant(9, 20_000)]));
    queued(&mut new, 1002, acquire("jobs", 9, 60_000));
    new.apply(Clock(6002), &Batch::default());
    new.check_invariants();
    assert_eq!(crate::support::holders(&new, Kind::Lock, "jobs"), [9]);
}

#[test]
fn a_base_that_is_not_above_all_or_leaves_no_room_is_refused_with_both_numbers() {
    let state = with_leases(&[1], 1000);
    let check = |base, parts: &[&str]| {
        let error = state
            .clone()
            .restored(Revision(base))
            .expect_err("it is refused");
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    check(state.revision().0, &["revision 2", "behind"]);
    check(0, &["revision 2", "begin at 0"]);
    check(
        MAX_REVISION - 1,
        &[&(MAX_REVISION - 1).to_string(), "ahead"],
    );
    check(u64::MAX, &["ahead"]);
    assert_eq!(revision_base(1_700_000_000), BASE);
    assert_eq!(revision_base(u64::MAX), Revision(u64::MAX));
    state.restored(Revision(3)).expect("one above is enough");
}
