//! Requests under an idempotency key, told one by one.

use crate::support::{
    acquire, apply_keyed, apply_one, delete, grant, hold, lease, new_lease, put, release, reload,
    transaction, with_leases,
};
use bytes::Bytes;
use tenure_state::*;

fn with_limits(limits: Limits) -> State {
    State::genesis(Genesis {
        limits,
        ..Genesis::default()
    })
}

fn records(state: &State) -> usize {
    let rows = state.rows();
    rows.filter(|row| row.table == Table::Idempotency).count()
}

fn version(state: &State, key: &str) -> Option<u64> {
    state.key(key.as_bytes()).map(|entry| entry.version)
}

#[test]
fn a_repeated_write_is_done_once_and_answered_as_it_was_less_values() {
    let mut state = State::genesis(Genesis::default());
    let first = apply_keyed(&mut state, 0, "k", put("a", "secret", None));
    assert!(apply_one(&mut state, 0, put("a", "other", None)).is_ok());
    let revision = state.revision();
    let repeat = apply_keyed(&mut state, 100, "k", put("a", "secret", None));
    assert_eq!((first.replayed, repeat.replayed), (false, true));
    assert_eq!(
        (state.revision(), version(&state, "a")),
        (revision, Some(2))
    );
    let Ok(Answer::Transaction {
        succeeded: true,
        results,
        revision: Revision(2),
    }) = repeat.outcome
    else {
        panic!("{repeat:?}")
    };
    let OperationResult::Put {
        entry,
        created: true,
    } = &results[0]
    else {
        panic!("{results:?}")
    };
    assert_eq!(
        (entry.mod_revision, entry.version, &entry.value),
        (Revision(2), 1, &Bytes::new())
    );
    let row = state
        .rows()
        .find(|row| row.table == Table::Idempotency)
        .expect("it is recorded");
    let text = String::from_utf8_lossy(&row.value).into_owned();
    assert!(!text.contains("secret"), "no value is recorded: {text}");
}

#[test]
fn a_failed_condition_is_repeated_with_the_revision_that_it_met() {
    let mut state = State::genesis(Genesis::default());
    let key = Bytes::from_static(b"a");
    let only_if_absent = Command::Transaction(Transaction {
        conditions: vec![Condition::Key {
            key: key.clone(),
            field: Field::ModRevision(0),
            compare: Compare::Equal,
        }],
        then: vec![Operation::Put(Put {
            key: key.clone(),
            value: key.clone(),
            content_type: None,
            lease: None,
            refuse_other_lease: false,
        })],
        otherwise: vec![Operation::Get { key }],
        guard: None,
    });
    assert!(apply_one(&mut state, 0, put("a", "v", None)).is_ok());
    let seen = |decision: &Decision| match &decision.outcome {
        Ok(Answer::Transaction {
            succeeded: false,
            results,
            ..
        }) => match &results[..] {
            [OperationResult::Got(Some(entry))] => entry.mod_revision,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let first = apply_keyed(&mut state, 0, "k", only_if_absent.clone());
    assert!(apply_one(&mut state, 0, delete("a")).is_ok());
    let repeat = apply_keyed(&mut state, 0, "k", only_if_absent);
    assert_eq!(
        (seen(&first), seen(&repeat), repeat.replayed),
        (Revision(2), Revision(2), true)
    );
    assert_eq!(
        version(&state, "a"),
        None,
        "the condition holds by now, and is not looked at"
    );
}

#[test]
fn a_repeat_after_a_restart_is_known_and_one_after_its_time_is_a_new_request() {
    let mut state = State::genesis(Genesis::default());
    apply_keyed(&mut state, 0, "k", put("a", "v", None));
    let mut state = reload(&state);
    let last = apply_keyed(&mut state, 60_000, "k", put("a", "v", None));
    assert!(last.replayed, "it is kept to the last millisecond");
    assert_eq!(version(&state, "a"), Some(1));
    assert_eq!(state.next_deadline(), None, "records keep no clock ticking");
    let late = apply_keyed(&mut state, 60_001, "k", put("a", "v", None));
    assert!(!late.replayed);
    assert_eq!((version(&state, "a"), records(&state)), (Some(2), 1));
    let repeat = apply_keyed(&mut state, 120_001, "k", put("a", "v", None));
    assert!(
        repeat.replayed,
        "the new request is recorded for its own time"
    );
    state.apply(Clock(120_002), &Batch::default());
    assert_eq!(records(&state), 0);
    state.check_invariants();
}

#[test]
fn a_key_of_another_request_is_refused_and_nothing_is_done() {
    let mut state = State::genesis(Genesis::default());
    apply_keyed(&mut state, 0, "k", put("a", "v", None));
    let (revision, digest) = (state.revision(), state.digest());
    let other = apply_keyed(&mut state, 0, "k", put("a", "w", None));
    assert_eq!(
        (other.outcome, other.replayed),
        (Err(Refusal::IdempotencyMismatch), false)
    );
    assert_eq!((state.revision(), state.digest()), (revision, digest));
    let mut other_identity = crate::support::keyed("k", put("b", "w", None));
    if let Some(key) = &mut other_identity.idempotency {
        key.identity = "ci".to_owned();
    }
    let batch = Batch {
        requests: vec![other_identity],
        ..Batch::default()
    };
    assert!(
        state.apply(Clock(0), &batch).outcomes[0].outcome.is_ok(),
        "keys are an identity's own"
    );
    // The first request is still known, whoever came between.
    assert!(apply_keyed(&mut state, 0, "k", put("a", "v", None)).replayed);
}

#[test]
fn full_records_refuse_new_keys_only_until_one_has_expired() {
    let mut state = with_limits(Limits {
        idempotency_records: 2,
        idempotency_retention_ms: 1000,
        ..Limits::default()
    });
    apply_keyed(&mut state, 0, "a", put("a", "", None));
    apply_keyed(&mut state, 500, "b", put("b", "", None));
    let full = Err(Refusal::QuotaExceeded {
        limit: "idempotency_records",
        allowed: 2,
        asked: 3,
    });
    let revision = state.revision();
    assert_eq!(
        apply_keyed(&mut state, 1000, "c", put("c", "", None)).outcome,
        full
    );
    assert_eq!(
        (state.revision(), version(&state, "c")),
        (revision, None),
        "nothing was applied"
    );
    assert!(
        apply_keyed(&mut state, 1000, "a", put("a", "", None)).replayed,
        "repeats are answered"
    );
    assert!(
        apply_one(&mut state, 1000, put("d", "", None)).is_ok(),
        "and so is who has no key"
    );
    let again = Command::ChangeLease {
        lease: lease(1),
        ttl_ms: 5000,
    };
    assert_ne!(
        apply_keyed(&mut state, 1000, "c", again).outcome,
        full,
        "no record is needed"
    );
    let room = apply_keyed(&mut state, 1001, "c", put("c", "", None));
    assert!(room.outcome.is_ok() && !room.replayed, "{room:?}");
    assert_eq!(records(&state), 2);
}

#[test]
fn a_record_of_much_counts_as_many_so_that_the_quota_bounds_memory() {
    let mut state = with_limits(Limits {
        idempotency_records: 20,
        idempotency_retention_ms: 1000,
        ..Limits::default()
    });
    let many = || transaction(vec![Operation::Get { key: "a".into() }; 128]);
    apply_keyed(&mut state, 0, "small", put("a", "", None));
    assert_eq!(state.repeats_kept(), 1);
    apply_keyed(&mut state, 500, "large", many());
    let large = state.repeats_kept() - 1;
    assert!(
        (8..=16).contains(&large),
        "128 results take a few KiB: {large}"
    );
    let mut state = reload(&state);
    assert_eq!(state.repeats_kept(), 1 + large, "loading counts anew");
    assert!(
        apply_keyed(&mut state, 500, "larger", many())
            .outcome
            .is_ok(),
        "there was room when it came"
    );
    let full = |stamp: u64, state: &mut State, asked: u64| {
        let refused = Err(Refusal::QuotaExceeded {
            limit: "idempotency_records",
            allowed: 20,
            asked,
        });
        let outcome = apply_keyed(state, stamp, "more", put("b", "", None)).outcome;
        assert_eq!(outcome, refused);
    };
    full(500, &mut state, 2 + 2 * large);
    assert_eq!(version(&state, "b"), None, "nothing was applied");
    assert!(apply_keyed(&mut state, 500, "larger", many()).replayed);
    assert!(apply_one(&mut state, 500, put("c", "", None)).is_ok());
    full(1001, &mut state, 1 + 2 * large);
    let room = apply_keyed(&mut state, 1501, "more", put("b", "", None));
    assert!(room.outcome.is_ok() && !room.replayed, "{room:?}");
    assert_eq!(state.repeats_kept(), 1, "what expired is forgotten");
}

#[test]
fn a_key_is_decided_until_the_last_millisecond_of_its_record_and_only_its_own() {
    let mut state = with_limits(Limits {
        idempotency_retention_ms: 1000,
        ..Limits::default()
    });
    let key = |name: &str, value: &str| {
        let request = crate::support::keyed(name, put("a", value, None));
        request.idempotency.expect("it has a key")
    };
    assert!(!state.is_decided(&key("k", "v")));
    apply_keyed(&mut state, 0, "k", put("a", "v", None));
    assert!(state.is_decided(&key("k", "v")));
    assert!(
        state.is_decided(&key("k", "w")),
        "another request is told that it is another"
    );
    let mut of_other = key("k", "v");
    of_other.identity = "ci".to_owned();
    let refused = [key("l", "v"), key("", "v"), key(&"k".repeat(129), "v")];
    for other in refused.iter().chain([&of_other]) {
        assert!(!state.is_decided(other), "{other:?}");
    }
    state.apply(Clock(1000), &Batch::default());
    assert!(state.is_decided(&key("k", "v")));
    // More has expired than an entry forgets, so that the record is still there.
    let batch = Batch {
        requests: (0..4000)
            .map(|n| crate::support::keyed(&format!("a{n}"), put("a", "", None)))
            .collect(),
        ..Batch::default()
    };
    state.apply(Clock(1000), &batch);
    apply_keyed(&mut state, 1000, "z", put("a", "v", None));
    assert!(state.is_decided(&key("z", "v")));
    state.apply(Clock(2001), &Batch::default());
    assert!(0 < records(&state) && !state.is_decided(&key("z", "v")));
}

#[test]
fn expired_records_are_forgotten_a_bounded_number_an_entry_and_do_not_count_meanwhile() {
    let mut state = with_limits(Limits {
        idempotency_records: 5000,
        idempotency_retention_ms: 1000,
        ..Limits::default()
    });
    let batch = |from: u64| Batch {
        requests: (from..from + 5000)
            .map(|n| crate::support::keyed(&n.to_string(), put("a", "", None)))
            .collect(),
        ..Batch::default()
    };
    let refused = |applied: Applied| {
        applied
            .outcomes
            .iter()
            .filter(|decision| decision.outcome.is_err())
            .count()
    };
    assert_eq!(refused(state.apply(Clock(0), &batch(0))), 0);
    assert_eq!(
        (
            records(&state),
            refused(state.apply(Clock(0), &batch(5000)))
        ),
        (5000, 5000)
    );
    let lower = Command::ChangeLimits([("idempotency_records".to_owned(), 1)].into());
    assert!(apply_one(&mut state, 1001, lower).is_ok());
    let left = records(&state);
    assert!(0 < left && left < 5000, "{left} are left after an entry");
    let fresh = apply_keyed(&mut state, 1001, "fresh", put("b", "", None));
    assert!(
        fresh.outcome.is_ok(),
        "what expired does not count: {fresh:?}"
    );
    let mut entries = 0;
    while 1 < records(&state) {
        state.apply(Clock(1001), &Batch::default());
        entries += 1;
    }
    assert!(entries < 5, "it took {entries} entries");
    state.check_invariants();
}

#[test]
fn a_repeated_grant_is_the_lease_as_it_is_now() {
    let mut state = State::genesis(Genesis::default());
    let first = apply_keyed(&mut state, 0, "k", grant(1, 5000));
    let Ok(Answer::Lease(first)) = first.outcome else {
        panic!("it is granted")
    };
    // Another id is drawn for each try; the digest is of what the caller sent.
    let again = |state: &mut State, stamp| {
        let mut request = crate::support::keyed("k", grant(1, 5000));
        request.command = Command::GrantLease(new_lease(77, 5000));
        let batch = Batch {
            requests: vec![request],
            ..Batch::default()
        };
        state.apply(Clock(stamp), &batch).outcomes.remove(0)
    };
    assert!(apply_one(&mut state, 1000, Command::Acquire(acquire("jobs", 1, 0))).is_ok());
    let repeat = again(&mut state, 2000);
    let Ok(Answer::Lease(now)) = &repeat.outcome else {
        panic!("{repeat:?}")
    };
    assert_eq!(
        (now.lease, now.granted_revision),
        (first.lease, first.granted_revision)
    );
    assert_eq!(
        (now.attached_count, now.deadline),
        (1, Clock(6000)),
        "as it is now, and not renewed"
    );
    assert_eq!((repeat.replayed, state.lease_count()), (true, 1));
    let late = again(&mut state, 6001);
    assert_eq!(
        (late.outcome, late.replayed),
        (Err(Refusal::LeaseExpired(lease(1))), true)
    );
    assert_eq!(state.lease_count(), 0);
}

#[test]
fn an_acquire_that_granted_a_lease_asks_again_with_it() {
    let mut state = with_leases(&[1], 60_000);
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    let ask = |id, wait_ms| {
        let claim = Claim::Grant(new_lease(id, 5000));
        Command::Acquire(Acquire {
            claim,
            ..acquire("jobs", id, wait_ms)
        })
    };
    let refused = apply_keyed(&mut state, 0, "try", ask(8, 0));
    assert!(
        matches!(refused.outcome, Err(Refusal::LockHeld(_))),
        "{refused:?}"
    );
    assert_eq!(
        records(&state),
        0,
        "no lease was granted, so nothing is recorded"
    );
    let first = apply_keyed(&mut state, 0, "k", ask(2, 60_000));
    assert!(matches!(first.outcome, Ok(Answer::Queued(_))), "{first:?}");
    assert!(apply_one(&mut state, 1000, release("jobs", 1, Some(held.fence.0))).is_ok());
    let repeat = apply_keyed(&mut state, 2000, "k", ask(2, 60_000));
    let Ok(Answer::Held(view)) = &repeat.outcome else {
        panic!("{repeat:?}")
    };
    assert_eq!(
        (view.lease, view.deadline, state.lease_count()),
        (lease(2), Clock(7000), 2)
    );
    state.apply(Clock(7001), &Batch::default());
    let late = apply_keyed(&mut state, 7001, "k", ask(2, 60_000));
    assert_eq!(
        late.outcome,
        Err(Refusal::LeaseExpired(lease(2))),
        "a replay revives no dead lock"
    );
    assert_eq!(state.queue(Kind::Lock, "jobs").holder_count, 0);
}

#[test]
fn a_refusal_by_how_the_state_stood_is_repeated_and_one_that_may_pass_is_not() {
    let mut state = with_limits(Limits {
        keys: 1,
        ..Limits::default()
    });
    let revoke = Command::RevokeLease { lease: lease(1) };
    let first = apply_keyed(&mut state, 0, "r", revoke.clone());
    assert!(apply_one(&mut state, 0, grant(1, 9000)).is_ok());
    let repeat = apply_keyed(&mut state, 0, "r", revoke);
    assert_eq!(first.outcome, Err(Refusal::LeaseNotFound(lease(1))));
    assert_eq!((repeat.outcome, repeat.replayed), (first.outcome, true));
    assert_eq!(
        state.lease_count(),
        1,
        "the lease that was granted since is not revoked"
    );
    assert!(apply_one(&mut state, 0, put("a", "", None)).is_ok());
    let full = apply_keyed(&mut state, 0, "p", put("b", "", None));
    assert!(matches!(
        full.outcome,
        Err(Refusal::QuotaExceeded { limit: "keys", .. })
    ));
    assert!(apply_one(&mut state, 0, delete("a")).is_ok());
    let later = apply_keyed(&mut state, 0, "p", put("b", "", None));
    assert!(later.outcome.is_ok() && !later.replayed, "{later:?}");
}

#[test]
fn a_key_on_a_release_is_ignored_so_that_a_late_repeat_is_told_the_truth() {
    let mut state = with_leases(&[1], 60_000);
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    let give_back = release("jobs", 1, Some(held.fence.0));
    assert!(
        apply_keyed(&mut state, 0, "k", give_back.clone())
            .outcome
            .is_ok()
    );
    let repeat = apply_keyed(&mut state, 0, "k", give_back);
    assert_eq!(
        (repeat.outcome, repeat.replayed, records(&state)),
        (Err(Refusal::NotHeld), false, 0)
    );
}

#[test]
fn a_repeated_break_proclaim_or_handover_changes_nothing() {
    let mut state = with_leases(&[1, 2], 60_000);
    let campaign = |id, candidate: &str, wait_ms| Acquire {
        kind: Kind::Election,
        owner: candidate.to_owned(),
        value: "v".to_owned(),
        ..acquire("lead", id, wait_ms)
    };
    let first = hold(&mut state, 0, campaign(1, "a", 0));
    crate::support::queued(&mut state, 0, campaign(2, "b", 9000));
    let name = "lead".to_owned();
    let candidate = "a".to_owned();
    let proclaim = Command::Proclaim(Proclaim {
        name: name.clone(),
        lease: lease(1),
        candidate: candidate.clone(),
        fence: first.fence,
        value: "w".to_owned(),
    });
    let hand_over = Command::HandOver(HandOver {
        name: name.clone(),
        lease: lease(1),
        candidate,
        fence: first.fence,
        to: "b".to_owned(),
    });
    let told = apply_keyed(&mut state, 0, "p", proclaim.clone()).outcome;
    let handed = apply_keyed(&mut state, 0, "h", hand_over.clone()).outcome;
    let Ok(Answer::HandedOver { leader, .. }) = &handed else {
        panic!("{handed:?}")
    };
    let break_it = Command::Break(Break {
        kind: Kind::Election,
        name,
        fence: leader.fence,
        holder: None,
        now: false,
    });
    let now = state.revision();
    let Ok(Answer::Held(first)) = &told else {
        panic!("{told:?}")
    };
    let repeat = apply_keyed(&mut state, 0, "p", proclaim);
    let Ok(Answer::Held(again)) = &repeat.outcome else {
        panic!("{repeat:?}")
    };
    assert_eq!(
        (again.revision, &again.value, again.fence),
        (first.revision, &first.value, first.fence)
    );
    let repeat = apply_keyed(&mut state, 0, "h", hand_over.clone());
    assert_eq!(repeat.outcome, handed);
    assert_eq!(state.revision(), now);
    let broken = apply_keyed(&mut state, 0, "b", break_it.clone()).outcome;
    let now = state.revision();
    let mut state = reload(&state);
    let repeat = apply_keyed(&mut state, 10, "b", break_it.clone());
    let holds = |outcome: &Outcome| match outcome {
        Ok(Answer::Broken {
            broken,
            delay_until,
            revision,
            ..
        }) => {
            let holds: Vec<_> = broken
                .iter()
                .map(|hold| (hold.lease, hold.owner.clone(), hold.fence))
                .collect();
            (holds, *delay_until, *revision)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(holds(&repeat.outcome), holds(&broken));
    let repeat = apply_keyed(&mut state, 10, "h", hand_over);
    let Ok(Answer::HandedOver { leader: gone, .. }) = &repeat.outcome else {
        panic!("{repeat:?}")
    };
    assert_eq!(
        (gone.lease, gone.fence),
        (leader.lease, leader.fence),
        "though it leads no more"
    );
    assert_eq!(state.revision(), now);
    // What remains is told as it is now, not as it was: the record outlives the delay here.
    let late = apply_keyed(&mut state, 60_000, "b", break_it.clone());
    let Ok(Answer::Broken { clock, .. }) = late.outcome else {
        panic!("{late:?}")
    };
    assert_eq!(clock, Clock(60_000));
    let retained = Command::ChangeLimits([("idempotency_retention_ms".to_owned(), 600_000)].into());
    let mut state = with_leases(&[1], 60_000);
    assert!(crate::support::apply_one(&mut state, 0, retained).is_ok());
    let held = hold(&mut state, 0, acquire("x", 1, 0));
    let break_it = Command::Break(Break {
        kind: Kind::Lock,
        name: "x".to_owned(),
        fence: held.fence,
        holder: None,
        now: false,
    });
    let delay = |state: &mut State, at| match apply_keyed(state, at, "b", break_it.clone()).outcome
    {
        Ok(Answer::Broken { delay_until, .. }) => delay_until,
        other => panic!("{other:?}"),
    };
    assert_eq!(delay(&mut state, 0), Some(Clock(60_000)));
    assert_eq!(delay(&mut state, 60_000), Some(Clock(60_000)));
    assert_eq!(delay(&mut state, 60_001), None);
}
