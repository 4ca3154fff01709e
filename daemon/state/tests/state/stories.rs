//! Traps that others fell into, told one by one.

use crate::support::{
    acquire, apply_one, delete, events_of, everything, grant, hold, lease, new_lease, put, queued,
    release, renewals, requests, with_leases,
};
use bytes::Bytes;
use tenure_state::*;

fn fresh() -> State {
    State::genesis(Genesis::default())
}

fn holders(state: &State, name: &str) -> Vec<u64> {
    crate::support::holders(state, Kind::Lock, name)
}

#[test]
fn a_lock_passes_on_at_the_revision_at_which_the_holders_lease_ends() {
    let mut state = with_leases(&[1, 2], 10_000);
    let first = hold(&mut state, 0, acquire("jobs", 1, 0));
    queued(&mut state, 5000, acquire("jobs", 2, 60_000));
    state.apply(Clock(10_000), &Batch::default());
    assert_eq!(
        holders(&state, "jobs"),
        [1],
        "a lease lives at its deadline"
    );
    let applied = state.apply(Clock(10_001), &Batch::default());
    assert_eq!(
        (applied.leases_expired, holders(&state, "jobs")),
        (1, vec![2])
    );
    let second = state.queue(Kind::Lock, "jobs").holders[0].clone();
    assert!(first.fence < second.fence && second.fence.0 == state.revision().0);
    let events = events_of(&state, state.revision());
    assert!(
        matches!(
            &events[..],
            [
                Event::LeaseEnded { .. },
                Event::Released { .. },
                Event::Granted(_)
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn nothing_is_granted_to_a_waiter_whose_lease_or_wait_is_due() {
    for dead_by_wait in [false, true] {
        let mut state = with_leases(&[1], 1000);
        state.apply(
            Clock(0),
            &requests([
                grant(2, if dead_by_wait { 9000 } else { 1000 }),
                grant(3, 9000),
            ]),
        );
        hold(&mut state, 0, acquire("jobs", 1, 0));
        queued(
            &mut state,
            0,
            acquire("jobs", 2, if dead_by_wait { 1000 } else { 60_000 }),
        );
        queued(&mut state, 0, acquire("jobs", 3, 60_000));
        state.apply(Clock(1001), &Batch::default());
        state.check_invariants();
        assert_eq!(holders(&state, "jobs"), [3]);
        let granted = state
            .changes(Revision(1), &everything(), 100, 1 << 20, 100)
            .expect("it is kept")
            .changes;
        let to_two =
            |event: &Event| matches!(event, Event::Granted(grant) if grant.lease == lease(2));
        assert!(
            !granted
                .iter()
                .flat_map(|change| change.events.iter())
                .any(to_two)
        );
    }
}

#[test]
fn a_renewal_in_the_entry_that_would_end_the_lease_saves_it() {
    let mut state = with_leases(&[1], 1000);
    let applied = state.apply(Clock(5000), &renewals(&[1]));
    assert_eq!(applied.leases_expired, 0);
    let Ok(Answer::Lease(view)) = &applied.outcomes[0].outcome else {
        panic!("{:?}", applied.outcomes)
    };
    assert_eq!(view.deadline, Clock(6000));
}

#[test]
fn a_renewal_after_the_end_is_refused_and_revives_nothing() {
    let mut state = with_leases(&[1], 1000);
    hold(&mut state, 0, acquire("jobs", 1, 0));
    state.apply(Clock(1001), &Batch::default());
    let revision = state.revision();
    let applied = state.apply(Clock(1001), &renewals(&[1]));
    assert_eq!(
        applied.outcomes[0].outcome,
        Err(Refusal::LeaseExpired(lease(1)))
    );
    assert_eq!(
        apply_one(&mut state, 1001, Command::Acquire(acquire("jobs", 1, 0))),
        Err(Refusal::LeaseExpired(lease(1)))
    );
    assert_eq!(
        (state.revision(), holders(&state, "jobs").len()),
        (revision, 0)
    );
    state.apply(Clock(1002 + ENDED_RETENTION_MS), &Batch::default());
    let applied = state.apply(Clock(1002 + ENDED_RETENTION_MS), &renewals(&[1]));
    assert_eq!(
        applied.outcomes[0].outcome,
        Err(Refusal::LeaseNotFound(lease(1)))
    );
}

#[test]
fn asking_again_is_the_same_hold_or_place_and_renews_the_lease() {
    let mut state = with_leases(&[1, 2], 10_000);
    let first = hold(&mut state, 0, acquire("jobs", 1, 0));
    let again = hold(&mut state, 4000, acquire("jobs", 1, 0));
    assert_eq!((first.fence, again.deadline), (again.fence, Clock(14_000)));
    let place = queued(&mut state, 4000, acquire("jobs", 2, 20_000));
    let later = queued(&mut state, 9000, acquire("jobs", 2, 60_000));
    assert_eq!(
        (later.queued_revision, later.wait_deadline),
        (place.queued_revision, Clock(24_000))
    );
    assert_eq!((later.deadline, later.position), (Clock(19_000), 1));
    let revision = state.revision();
    let mut other = acquire("jobs", 1, 0);
    other.wanted[0].share = Share::Shared;
    let present = Share::Exclusive;
    let mismatch = Refusal::ModeMismatch {
        name: "jobs".to_owned(),
        present,
    };
    assert_eq!(
        apply_one(&mut state, 9000, Command::Acquire(other)),
        Err(mismatch)
    );
    assert_eq!(state.revision(), revision);
}

#[test]
fn two_owners_on_one_lease_exclude_one_another() {
    let mut state = with_leases(&[1], 10_000);
    hold(&mut state, 0, acquire("jobs", 1, 0));
    let other = Acquire {
        owner: "second".to_owned(),
        ..acquire("jobs", 1, 0)
    };
    let refused = apply_one(&mut state, 0, Command::Acquire(other));
    assert!(
        matches!(
            refused,
            Err(Refusal::LockHeld(Contention {
                holder_count: 1,
                ..
            }))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_late_release_cannot_free_a_later_hold() {
    let mut state = with_leases(&[1], 10_000);
    let old = hold(&mut state, 0, acquire("jobs", 1, 0));
    assert!(apply_one(&mut state, 0, release("jobs", 1, Some(old.fence.0))).is_ok());
    let new = hold(&mut state, 0, acquire("jobs", 1, 0));
    let late = apply_one(&mut state, 0, release("jobs", 1, Some(old.fence.0)));
    assert_eq!(
        late,
        Err(Refusal::FenceStale {
            present: Some(new.fence)
        })
    );
    assert_eq!(
        apply_one(&mut state, 0, release("jobs", 1, None)),
        Err(Refusal::FenceStale {
            present: Some(new.fence)
        }),
        "without a fence a hold stays, and is not said to be gone"
    );
    assert_eq!(holders(&state, "jobs"), [1]);
}

#[test]
fn a_refused_try_with_a_ttl_leaves_no_lease_behind() {
    let mut state = with_leases(&[1], 10_000);
    hold(&mut state, 0, acquire("jobs", 1, 0));
    let claim = Claim::Grant(new_lease(2, 5000));
    let refused = apply_one(
        &mut state,
        0,
        Command::Acquire(Acquire {
            claim: claim.clone(),
            ..acquire("jobs", 2, 0)
        }),
    );
    assert!(matches!(refused, Err(Refusal::LockHeld(_))), "{refused:?}");
    assert_eq!(state.lease_count(), 1);
    let place = queued(
        &mut state,
        0,
        Acquire {
            claim,
            ..acquire("jobs", 2, 1000)
        },
    );
    assert_eq!((place.lease, state.lease_count()), (lease(2), 2));
}

#[test]
fn a_storm_of_leases_ends_some_in_each_entry_and_those_not_reached_are_alive() {
    let ids: Vec<u64> = (1..=10_000).collect();
    let mut state = with_leases(&ids, 1000);
    let (mut entries, mut ended) = (0, 0);
    let last = [10_000];
    while state
        .next_deadline()
        .is_some_and(|deadline| deadline < Clock(1001))
    {
        let renewal = if entries == 3 {
            renewals(&last)
        } else {
            Batch::default()
        };
        ended += state.apply(Clock(1001), &renewal).leases_expired;
        entries += 1;
        assert!(ended <= entries * MAX_ENDS_PER_ENTRY);
    }
    assert_eq!(
        (entries, ended, state.lease_count()),
        (10_000 / MAX_ENDS_PER_ENTRY, 9999, 1),
        "the last one was renewed in time"
    );
    assert_eq!(state.next_deadline(), Some(Clock(2001)));
    state.check_invariants();
}

#[test]
fn a_waiter_that_was_passed_over_as_due_and_renewed_is_granted() {
    let waits = MAX_ENDS_PER_ENTRY + 1;
    let ids: Vec<u64> = (1..=waits).collect();
    let mut state = with_leases(&ids, 1000);
    hold(&mut state, 0, acquire("jobs", 1, 0));
    queued(&mut state, 0, acquire("jobs", waits, 60_000));
    state.apply(Clock(1001), &Batch::default());
    state.check_invariants();
    assert_eq!(
        (holders(&state, "jobs").len(), state.lease_count()),
        (0, 1),
        "the waiter is due and not reached"
    );
    state.apply(Clock(1001), &renewals(&[waits]));
    state.check_invariants();
    assert_eq!(holders(&state, "jobs"), [waits]);
}

#[test]
fn the_end_of_a_lease_tells_deletions_in_the_order_of_keys_and_departures_by_resource() {
    let mut state = with_leases(&[1, 2], 1000);
    let mut keep = acquire("held", 2, 0);
    keep.claim = Claim::Lease(lease(2));
    hold(&mut state, 0, keep);
    for key in ["b", "a", "c"] {
        assert!(apply_one(&mut state, 0, put(key, "v", Some(1))).is_ok());
    }
    hold(&mut state, 0, acquire("z", 1, 0));
    queued(&mut state, 0, acquire("held", 1, 9000));
    state.apply(Clock(900), &renewals(&[2]));
    state.apply(Clock(1001), &Batch::default());
    state.check_invariants();
    let told: Vec<String> = events_of(&state, state.revision())
        .iter()
        .map(|event| String::from_utf8(resource_of(event).name.to_vec()).expect("names are text"))
        .collect();
    assert_eq!(told, ["0000000000000001", "a", "b", "c", "held", "z"]);
    assert_eq!(state.key(b"a"), None);
}

#[test]
fn a_deletion_at_the_edge_of_compaction_is_told_or_refused_but_never_skipped() {
    let limits = Limits {
        history_retention_ms: 1000,
        ..Limits::default()
    };
    let mut state = State::genesis(Genesis {
        first_revision: Revision(1),
        limits,
        ..Genesis::default()
    });
    assert!(apply_one(&mut state, 0, put("a", "v", None)).is_ok());
    assert!(apply_one(&mut state, 500, delete("a")).is_ok());
    assert!(apply_one(&mut state, 1000, put("b", "v", None)).is_ok());
    state.apply(Clock(1200), &Batch::default());
    assert_eq!(state.compact_revision(), Revision(2));
    assert!(matches!(
        events_of(&state, Revision(3))[..],
        [Event::Delete { .. }]
    ));
    let at_edge =
        crate::support::keys_at(&state, Revision(2)).expect("the compact revision is served");
    assert_eq!(
        at_edge.len(),
        1,
        "the put before the edge is still seen at the edge"
    );
    let before = state.changes(Revision(1), &everything(), 10, 1000, 10);
    assert_eq!(
        before,
        Err(ReadError::Compacted {
            compact_revision: Revision(2)
        })
    );
    state.apply(Clock(1700), &Batch::default());
    assert_eq!(state.compact_revision(), Revision(3));
    assert_eq!(
        state
            .rows()
            .filter(|row| row.table == Table::History)
            .count(),
        1,
        "only b is left"
    );
    state.check_invariants();
}

#[test]
fn a_failed_condition_does_the_other_branch_and_makes_no_revision() {
    let mut state = fresh();
    assert!(apply_one(&mut state, 0, put("a", "v", None)).is_ok());
    let key = Bytes::from_static(b"a");
    let refused = Transaction {
        conditions: vec![Condition::Key {
            key: key.clone(),
            field: Field::ModRevision(7),
            compare: Compare::Equal,
        }],
        then: vec![Operation::Delete { key: key.clone() }],
        otherwise: vec![Operation::Get { key }],
        guard: None,
    };
    let Ok(Answer::Transaction {
        succeeded,
        results,
        revision,
    }) = apply_one(&mut state, 0, Command::Transaction(refused))
    else {
        panic!("a failed condition is an answer")
    };
    assert_eq!((succeeded, revision), (false, Revision(2)));
    assert!(
        matches!(&results[..], [OperationResult::Got(Some(entry))] if entry.mod_revision == Revision(2))
    );
}

#[test]
fn a_guard_lets_pass_only_while_its_fence_is_held() {
    let mut state = with_leases(&[1], 10_000);
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    let Command::Transaction(write) = put("a", "v", None) else {
        unreachable!("a put is a transaction")
    };
    let guarded = |fence| {
        let guard = Some(Guard {
            kind: Kind::Lock,
            name: "jobs".to_owned(),
            fence,
        });
        Command::Transaction(Transaction {
            guard,
            ..write.clone()
        })
    };
    assert!(apply_one(&mut state, 0, guarded(held.fence)).is_ok());
    assert!(apply_one(&mut state, 0, release("jobs", 1, Some(held.fence.0))).is_ok());
    assert_eq!(
        apply_one(&mut state, 0, guarded(held.fence)),
        Err(Refusal::FenceStale { present: None })
    );
}

/// The lease of the first holder, named `w1`, has run out at 1001, and the lock is delayed until 1801: somebody waits for
/// it with lease 2 of another name, and lease 3 has the name.
fn delayed(waiting: Acquire) -> State {
    let mut state = fresh();
    let named = |id, name: &str| {
        Command::GrantLease(NewLease {
            name: name.to_owned(),
            ..new_lease(id, 5000)
        })
    };
    state.apply(
        Clock(0),
        &requests([grant(1, 1000), named(2, "other"), named(3, "w1")]),
    );
    hold(
        &mut state,
        0,
        Acquire {
            lock_delay_ms: 800,
            ..acquire("jobs", 1, 0)
        },
    );
    queued(&mut state, 0, waiting);
    state.apply(Clock(1001), &Batch::default());
    state.check_invariants();
    assert_eq!(holders(&state, "jobs").len(), 0);
    assert_eq!(
        state.queue(Kind::Lock, "jobs").delay_until,
        Some(Clock(1801))
    );
    state
}

#[test]
fn only_a_lease_of_the_same_name_has_the_lock_while_it_is_delayed() {
    let mut state = delayed(acquire("jobs", 2, 60_000));
    let mut waiting = state.clone();
    waiting.apply(Clock(1802), &Batch::default());
    waiting.check_invariants();
    assert_eq!(holders(&waiting, "jobs"), [2], "the delay is over");
    hold(&mut state, 1001, acquire("jobs", 3, 0));
}

/// Found by the model, which did not know it: those who can share wait for nothing but the delay.
#[test]
fn whoever_a_delay_lets_through_ends_it_for_those_who_can_share_with_him() {
    let shared = |id, wait_ms| {
        let mut shared = acquire("jobs", id, wait_ms);
        shared.wanted[0].share = Share::Shared;
        shared
    };
    let mut state = delayed(shared(2, 60_000));
    hold(&mut state, 1001, shared(3, 0));
    state.check_invariants();
    assert_eq!(holders(&state, "jobs"), [2, 3]);
    assert_eq!(state.queue(Kind::Lock, "jobs").delay_until, None);
}

#[test]
fn several_names_are_had_at_once_or_not_at_all() {
    let mut state = with_leases(&[1, 2, 3], 10_000);
    let held = hold(&mut state, 0, acquire("b", 1, 0));
    let wanted = ["a", "b"]
        .map(|name| Wanted {
            name: name.to_owned(),
            share: Share::Exclusive,
        })
        .to_vec();
    let both = Acquire {
        wanted,
        ..acquire("a", 2, 60_000)
    };
    let waiting = apply_one(&mut state, 0, Command::Acquire(both.clone()));
    assert!(
        matches!(&waiting, Ok(Answer::QueuedTogether(places)) if places.len() == 2),
        "{waiting:?}"
    );
    assert!(matches!(
        apply_one(&mut state, 0, Command::Acquire(acquire("a", 3, 0))),
        Err(Refusal::LockHeld(_))
    ));
    assert!(apply_one(&mut state, 0, release("b", 1, Some(held.fence.0))).is_ok());
    assert_eq!(
        (holders(&state, "a"), holders(&state, "b")),
        (vec![2], vec![2])
    );
    let again = apply_one(&mut state, 0, Command::Acquire(both));
    assert!(
        matches!(&again, Ok(Answer::HeldTogether(holds)) if holds[0].fence == holds[1].fence),
        "{again:?}"
    );
}

#[test]
fn a_shared_request_does_not_pass_a_waiting_exclusive_one() {
    let mut state = with_leases(&[1, 2, 3], 10_000);
    let shared = |id, wait_ms| {
        let mut ask = acquire("jobs", id, wait_ms);
        ask.wanted[0].share = Share::Shared;
        ask
    };
    let first = hold(&mut state, 0, shared(1, 0));
    queued(&mut state, 0, acquire("jobs", 2, 60_000));
    queued(&mut state, 0, shared(3, 60_000));
    assert!(apply_one(&mut state, 0, release("jobs", 1, Some(first.fence.0))).is_ok());
    assert_eq!(holders(&state, "jobs"), [2]);
}

#[test]
fn a_lock_that_is_free_for_longer_than_history_leaves_nothing_behind() {
    let limits = Limits {
        history_retention_ms: 1000,
        ..Limits::default()
    };
    let mut state = State::genesis(Genesis {
        first_revision: Revision(1),
        limits,
        ..Genesis::default()
    });
    assert!(apply_one(&mut state, 0, grant(1, 60_000)).is_ok());
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    assert!(apply_one(&mut state, 0, release("jobs", 1, Some(held.fence.0))).is_ok());
    assert_eq!(state.queue(Kind::Lock, "jobs").last_fence, Some(held.fence));
    state.apply(Clock(1001), &Batch::default());
    state.check_invariants();
    assert_eq!(state.queue(Kind::Lock, "jobs"), QueueView::default());
    assert_eq!(
        state
            .rows()
            .filter(|row| row.table == Table::Queues)
            .count(),
        0
    );
}

#[test]
fn a_put_without_a_lease_detaches_the_key() {
    let mut state = with_leases(&[1], 1000);
    assert!(apply_one(&mut state, 0, put("a", "1", Some(1))).is_ok());
    assert!(apply_one(&mut state, 0, put("a", "2", None)).is_ok());
    state.apply(Clock(1001), &Batch::default());
    state.check_invariants();
    assert_eq!(
        state.key(b"a").map(|entry| (entry.version, entry.lease)),
        Some((2, None))
    );
}

#[test]
fn too_much_is_refused_and_nothing_of_it_is_done() {
    let limits = Limits {
        keys_per_revision: 2,
        attached_per_lease: 2,
        keys: 3,
        ..Limits::default()
    };
    let mut state = State::genesis(Genesis {
        first_revision: Revision(1),
        limits,
        ..Genesis::default()
    });
    state.apply(
        Clock(0),
        &requests([
            grant(1, 9000),
            put("a", "", Some(1)),
            put("b", "", Some(1)),
            put("c", "", None),
        ]),
    );
    let revision = state.revision();
    let quota = |limit, allowed| {
        Err(Refusal::QuotaExceeded {
            limit,
            allowed,
            asked: allowed + 1,
        })
    };
    assert_eq!(
        apply_one(&mut state, 0, put("d", "", None)),
        quota("keys", 3)
    );
    assert_eq!(
        apply_one(&mut state, 0, put("c", "", Some(1))),
        quota("attached_per_lease", 2)
    );
    assert_eq!(
        apply_one(&mut state, 0, Command::Acquire(acquire("x", 1, 0))),
        quota("attached_per_lease", 2)
    );
    let all = crate::support::transaction(vec![Operation::DeleteRange {
        start: Bytes::new(),
        end: None,
    }]);
    let too_large = Refusal::TooLarge {
        limit: "keys_per_revision",
        allowed: 2,
        asked: 3,
    };
    assert_eq!(apply_one(&mut state, 0, all), Err(too_large));
    assert_eq!(state.revision(), revision);
}

#[test]
fn a_missing_or_torn_row_is_refused_or_shows_in_the_digest() {
    let mut state = with_leases(&[1], 9000);
    hold(&mut state, 0, acquire("jobs", 1, 0));
    assert!(apply_one(&mut state, 0, put("a", "v", Some(1))).is_ok());
    let rows: Vec<Row> = state.rows().collect();
    for (index, row) in rows.iter().enumerate() {
        let without = rows
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index)
            .map(|(_, row)| row.clone());
        let loaded = State::from_rows(without);
        assert!(
            loaded.is_err() || loaded.is_ok_and(|other| other.digest() != state.digest()),
            "{row:?} is missing"
        );
        let mut torn = rows.clone();
        torn[index].key = row.key.slice(..row.key.len() - 1);
        let loaded = State::from_rows(torn.into_iter());
        assert!(
            loaded.is_err() || loaded.is_ok_and(|other| other.digest() != state.digest()),
            "{row:?} is torn"
        );
    }
}

#[test]
fn compaction_by_hand_takes_history_a_bounded_piece_at_a_time_and_is_believed_at_once() {
    let mut state = fresh();
    for number in 0..3500 {
        state.apply(
            Clock(0),
            &requests([put(&format!("k{}", number % 10), "v", None)]),
        );
    }
    let present = state.revision();
    let target = Revision(present.0 - 10);
    let compact = |revision| Command::Compact { revision };
    assert!(apply_one(&mut state, 0, compact(target)).is_ok());
    let compacted = ReadError::Compacted {
        compact_revision: target,
    };
    let early = Revision(target.0 - 1);
    assert_eq!(state.key_at(early, b"k0"), Err(compacted));
    assert_eq!(state.changes(early, &everything(), 1, 1, 1), Err(compacted));
    assert!(state.key_at(target, b"k0").is_ok_and(|key| key.is_some()));
    let mut entries = 1;
    let kept = |state: &State| state.events_after(Revision(0)).count();
    while state.next_deadline().is_some() {
        let before = kept(&state);
        let reloaded = crate::support::reload(&state);
        assert_eq!(reloaded.next_deadline(), state.next_deadline());
        state.apply(Clock(0), &Batch::default());
        let taken = before - kept(&state);
        assert!(
            0 < taken && taken <= 1000,
            "an entry took {taken} revisions"
        );
        entries += 1;
    }
    state.check_invariants();
    assert_eq!((entries, kept(&state)), (4, 10));
    let ahead = Refusal::RevisionAhead {
        asked: Revision(present.0 + 1),
        present,
    };
    assert_eq!(
        apply_one(&mut state, 0, compact(Revision(present.0 + 1))),
        Err(ahead)
    );
    let again = apply_one(&mut state, 0, compact(Revision(1)));
    assert!(
        matches!(again, Ok(Answer::Compacted { compact_revision, .. }) if compact_revision == target),
        "what is gone stays gone: {again:?}"
    );
}

#[test]
fn a_new_cluster_that_is_compacted_by_hand_is_idle() {
    let mut state = fresh();
    let compact = Command::Compact {
        revision: Revision(1),
    };
    assert!(apply_one(&mut state, 0, compact).is_ok());
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn a_shorter_ttl_moves_no_deadline_earlier_and_counts_from_the_next_renewal_that_passes_it() {
    let mut state = with_leases(&[1], 60_000);
    let change = |ttl_ms| Command::ChangeLease {
        lease: lease(1),
        ttl_ms,
    };
    let deadline = |outcome: &Outcome| match outcome {
        Ok(Answer::Lease(view)) => (view.deadline.0, view.ttl_ms),
        other => panic!("{other:?}"),
    };
    let revision = state.revision();
    let shorter = apply_one(&mut state, 1000, change(2000));
    assert_eq!(deadline(&shorter), (60_000, 2000), "not earlier");
    let renewed = state.apply(Clock(50_000), &renewals(&[1]));
    assert_eq!(deadline(&renewed.outcomes[0].outcome), (60_000, 2000));
    let renewed = state.apply(Clock(59_000), &renewals(&[1]));
    assert_eq!(deadline(&renewed.outcomes[0].outcome), (61_000, 2000));
    assert_eq!(state.next_deadline(), Some(Clock(61_000)));
    let longer = apply_one(&mut state, 59_000, change(30_000));
    assert_eq!(deadline(&longer), (89_000, 30_000));
    assert_eq!(state.revision(), revision, "a renewal is no revision");
    let refused = apply_one(&mut state, 59_000, change(999));
    assert!(
        matches!(refused, Err(Refusal::TtlOutOfRange { ttl_ms: 999, .. })),
        "{refused:?}"
    );
    state.apply(Clock(89_001), &Batch::default());
    assert_eq!(
        apply_one(&mut state, 89_001, change(5000)),
        Err(Refusal::LeaseExpired(lease(1)))
    );
}

#[test]
fn history_keeps_to_its_bytes_while_every_entry_makes_thousands_of_revisions() {
    const WRITES: u64 = 4000;
    let mut state = State::genesis(Genesis::default());
    let small = [
        ("request_bytes", 128 << 10),
        ("value_bytes", 1024),
        ("history_bytes", 1 << 20),
    ];
    let small = small.map(|(name, value)| (name.to_owned(), value));
    assert!(crate::support::apply_one(&mut state, 0, Command::ChangeLimits(small.into())).is_ok());
    let value = "v".repeat(500);
    for _ in 0..5 {
        let writes = (0..WRITES).map(|_| crate::support::put("k", &value, None));
        state.apply(Clock(0), &requests(writes));
    }
    // What the last entry made is more than its bytes, and is there for whoever follows.
    assert_eq!(state.revision().0 - state.compact_revision().0, WRITES);
}
