//! Breaks, delays, proclaims and handovers, told one by one.

use crate::support::{
    acquire, apply_one, events_of, grant, hold, holders, lease, new_lease, queued, release, reload,
    renewals, requests, with_leases,
};
use tenure_state::*;

fn break_of(kind: Kind, name: &str, fence: Fence, now: bool) -> Command {
    Command::Break(Break {
        kind,
        name: name.to_owned(),
        fence,
        holder: None,
        now,
    })
}

fn campaign(name: &str, id: u64, candidate: &str, wait_ms: u64) -> Acquire {
    Acquire {
        kind: Kind::Election,
        owner: candidate.to_owned(),
        value: format!("http://{candidate}"),
        ..acquire(name, id, wait_ms)
    }
}

fn hand_over(id: u64, candidate: &str, fence: Fence, to: &str) -> Command {
    Command::HandOver(HandOver {
        name: "lead".to_owned(),
        lease: lease(id),
        candidate: candidate.to_owned(),
        fence,
        to: to.to_owned(),
    })
}

fn proclaim(id: u64, candidate: &str, fence: Fence, value: &str) -> Command {
    Command::Proclaim(Proclaim {
        name: "lead".to_owned(),
        lease: lease(id),
        candidate: candidate.to_owned(),
        fence,
        value: value.to_owned(),
    })
}

fn leader(state: &State) -> Option<HolderView> {
    state
        .queue(Kind::Election, "lead")
        .holders
        .into_iter()
        .next()
}

#[test]
fn after_a_break_nobody_is_granted_the_lock_while_the_broken_holder_may_believe() {
    let mut state = with_leases(&[1, 2, 3], 10_000);
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    queued(&mut state, 0, acquire("jobs", 2, 60_000));
    let broken = apply_one(
        &mut state,
        500,
        break_of(Kind::Lock, "jobs", held.fence, false),
    );
    let Ok(Answer::Broken {
        broken,
        delay_until,
        revision,
        ..
    }) = broken
    else {
        panic!("{broken:?}")
    };
    assert_eq!(
        (broken.len(), broken[0].fence, delay_until),
        (1, held.fence, Some(Clock(10_000)))
    );
    assert!(matches!(
        events_of(&state, revision)[..],
        [Event::Released {
            reason: ReleaseReason::Broken,
            ..
        }]
    ));
    // The broken holder renews, releases and asks in vain: what counts is the deadline as it stood.
    state.apply(Clock(9000), &renewals(&[1, 2, 3]));
    let late = apply_one(&mut state, 9000, release("jobs", 1, Some(held.fence.0)));
    assert_eq!(late, Err(Refusal::NotHeld));
    for id in [1, 3] {
        let refused = apply_one(&mut state, 9000, Command::Acquire(acquire("jobs", id, 0)));
        assert!(
            matches!(&refused, Err(Refusal::LockHeld(held)) if held.delay_until == Some(Clock(10_000))),
            "{refused:?}"
        );
    }
    state.apply(Clock(10_000), &Batch::default());
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [0u64; 0]);
    state.apply(Clock(10_001), &Batch::default());
    state.check_invariants();
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [2]);
    let next = &state.queue(Kind::Lock, "jobs").holders[0];
    assert!(held.fence < next.fence);
}

#[test]
fn a_break_now_grants_the_next_at_its_own_revision() {
    let mut state = with_leases(&[1, 2], 10_000);
    let held = hold(&mut state, 0, acquire("jobs", 1, 0));
    queued(&mut state, 0, acquire("jobs", 2, 60_000));
    let broken = apply_one(
        &mut state,
        500,
        break_of(Kind::Lock, "jobs", held.fence, true),
    );
    let Ok(Answer::Broken {
        delay_until: None,
        revision,
        ..
    }) = broken
    else {
        panic!("{broken:?}")
    };
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [2]);
    assert_eq!(
        state.queue(Kind::Lock, "jobs").last_fence,
        Some(Fence(revision.0))
    );
    let again = apply_one(
        &mut state,
        500,
        break_of(Kind::Lock, "jobs", held.fence, true),
    );
    assert_eq!(
        again,
        Err(Refusal::FenceStale {
            present: Some(Fence(revision.0))
        })
    );
}

#[test]
fn a_break_of_holds_that_share_a_fence_ends_all_of_them_or_the_one_that_is_named() {
    let mut state = with_leases(&[1, 2, 3, 4], 10_000);
    let first = hold(&mut state, 0, acquire("jobs", 1, 0));
    for id in 2..=4 {
        let mut shared = acquire("jobs", id, 60_000);
        shared.wanted[0].share = Share::Shared;
        queued(&mut state, 0, shared);
    }
    assert!(apply_one(&mut state, 0, release("jobs", 1, Some(first.fence.0))).is_ok());
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [2, 3, 4]);
    let fence = Fence(state.revision().0);
    let one = Command::Break(Break {
        kind: Kind::Lock,
        name: "jobs".to_owned(),
        fence,
        holder: Some((lease(3), String::new())),
        now: true,
    });
    assert!(apply_one(&mut state, 0, one.clone()).is_ok());
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [2, 4]);
    assert_eq!(apply_one(&mut state, 0, one), Err(Refusal::NotHeld));
    assert!(apply_one(&mut state, 0, break_of(Kind::Lock, "jobs", fence, true)).is_ok());
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [0u64; 0]);
}

#[test]
fn a_break_while_a_delay_runs_cuts_neither_short_and_lets_nobody_through() {
    let mut state = with_leases(&[2, 3], 20_000);
    assert!(apply_one(&mut state, 0, grant(1, 1000)).is_ok());
    for id in [1, 2] {
        let mut shared = acquire("jobs", id, 0);
        shared.wanted[0].share = Share::Shared;
        shared.lock_delay_ms = 5000;
        hold(&mut state, 0, shared);
    }
    // The first holder's lease runs out: its lock delay lasts to 6001, for others than its name.
    state.apply(Clock(1001), &Batch::default());
    assert_eq!(
        state.queue(Kind::Lock, "jobs").delay_until,
        Some(Clock(6001))
    );
    let fence = state.queue(Kind::Lock, "jobs").holders[0].fence;
    let mut hasty = state.clone();
    let now = apply_one(&mut hasty, 1001, break_of(Kind::Lock, "jobs", fence, true));
    assert!(
        matches!(
            now,
            Ok(Answer::Broken {
                delay_until: Some(Clock(6001)),
                ..
            })
        ),
        "the delay of the first goes on: {now:?}"
    );
    assert!(apply_one(&mut state, 1001, break_of(Kind::Lock, "jobs", fence, false)).is_ok());
    assert_eq!(
        state.queue(Kind::Lock, "jobs").delay_until,
        Some(Clock(20_000))
    );
    let same_name = Command::GrantLease(NewLease {
        name: "w1".to_owned(),
        ..new_lease(9, 60_000)
    });
    assert!(apply_one(&mut state, 1001, same_name).is_ok());
    let refused = apply_one(&mut state, 1001, Command::Acquire(acquire("jobs", 9, 0)));
    assert!(
        matches!(refused, Err(Refusal::LockHeld(_))),
        "the broken holder may still believe"
    );
    state.apply(Clock(20_001), &Batch::default());
    hold(&mut state, 20_001, acquire("jobs", 9, 0));
}

#[test]
fn an_end_by_time_cuts_the_delay_of_a_break_short_for_nobody() {
    let mut state = with_leases(&[1], 20_000);
    state.apply(Clock(0), &requests([grant(2, 1000), grant(3, 60_000)]));
    let shared = |id, lock_delay_ms| {
        let mut shared = acquire("jobs", id, 0);
        shared.wanted[0].share = Share::Shared;
        Acquire {
            lock_delay_ms,
            ..shared
        }
    };
    let first = hold(&mut state, 0, shared(1, 0));
    hold(&mut state, 0, shared(2, 800));
    let broken = break_of(Kind::Lock, "jobs", first.fence, false);
    assert!(apply_one(&mut state, 0, broken).is_ok());
    state.apply(Clock(1001), &Batch::default());
    let same_name = Command::GrantLease(NewLease {
        name: "w2".to_owned(),
        ..new_lease(9, 60_000)
    });
    assert!(apply_one(&mut state, 1001, same_name).is_ok());
    for id in [3, 9] {
        let refused = apply_one(&mut state, 1001, Command::Acquire(shared(id, 0)));
        assert!(
            matches!(&refused, Err(Refusal::LockHeld(held)) if held.delay_until == Some(Clock(20_000))),
            "the broken holder may still believe: {refused:?}"
        );
    }
}

#[test]
fn a_lock_delay_follows_an_end_by_time_only() {
    for revoked in [true, false] {
        let mut state = with_leases(&[1, 2], 10_000);
        let delayed = Acquire {
            lock_delay_ms: 5000,
            ..acquire("jobs", 1, 0)
        };
        let held = hold(&mut state, 0, delayed);
        let end = match revoked {
            true => Command::RevokeLease { lease: lease(1) },
            false => release("jobs", 1, Some(held.fence.0)),
        };
        assert!(apply_one(&mut state, 0, end).is_ok());
        assert_eq!(state.queue(Kind::Lock, "jobs").delay_until, None);
        hold(&mut state, 0, acquire("jobs", 2, 0));
    }
}

/// Seed 764 of the simulator. Whoever a delay lets through ends it; somebody else who could share the lock waited on, for
/// nothing, until its next release.
#[test]
fn who_can_share_is_granted_when_the_one_comes_back_for_whom_a_delay_runs() {
    let mut state = with_leases(&[2], 60_000);
    assert!(apply_one(&mut state, 0, grant(1, 1000)).is_ok());
    let shared = |id, wait_ms| {
        let mut shared = acquire("jobs", id, wait_ms);
        shared.wanted[0].share = Share::Shared;
        shared.lock_delay_ms = 5000;
        shared
    };
    hold(&mut state, 0, shared(1, 0));
    state.apply(Clock(1001), &Batch::default());
    queued(&mut state, 1001, shared(2, 60_000));
    let same_name = Command::GrantLease(NewLease {
        name: "w1".to_owned(),
        ..new_lease(9, 60_000)
    });
    assert!(apply_one(&mut state, 1001, same_name).is_ok());
    hold(&mut state, 1001, shared(9, 0));
    assert_eq!(holders(&state, Kind::Lock, "jobs"), [2, 9]);
    state.check_invariants();
}

#[test]
fn a_lease_without_a_name_is_let_through_no_delay() {
    let mut state = with_leases(&[2], 60_000);
    let nameless = |id, ttl_ms| {
        Command::GrantLease(NewLease {
            name: String::new(),
            ..new_lease(id, ttl_ms)
        })
    };
    state.apply(
        Clock(0),
        &requests([nameless(1, 1000), nameless(3, 60_000)]),
    );
    hold(
        &mut state,
        0,
        Acquire {
            lock_delay_ms: 5000,
            ..acquire("jobs", 1, 0)
        },
    );
    queued(&mut state, 0, acquire("jobs", 3, 60_000));
    state.apply(Clock(1001), &Batch::default());
    assert_eq!(
        holders(&state, Kind::Lock, "jobs"),
        [0u64; 0],
        "nor who waits with one"
    );
    for id in [2, 3] {
        let mut other = acquire("jobs", id, 0);
        other.owner = "other".to_owned();
        let refused = apply_one(&mut state, 1001, Command::Acquire(other));
        assert!(matches!(refused, Err(Refusal::LockHeld(_))), "{refused:?}");
    }
    assert!(apply_one(&mut state, 1001, release("jobs", 3, None)).is_ok());
    state.apply(Clock(6002), &Batch::default());
    hold(&mut state, 6002, acquire("jobs", 2, 0));
}

#[test]
fn leadership_is_handed_to_the_first_candidate_of_the_name_past_the_others() {
    let mut state = with_leases(&[1, 2, 3, 4], 10_000);
    let first = hold(&mut state, 0, campaign("lead", 1, "a", 0));
    for (id, candidate) in [(2, "b"), (3, "c"), (4, "c")] {
        queued(&mut state, 0, campaign("lead", id, candidate, 60_000));
    }
    let answer = apply_one(&mut state, 0, hand_over(1, "a", first.fence, "c"));
    let Ok(Answer::HandedOver {
        leader: told,
        revision,
        ..
    }) = answer
    else {
        panic!("{answer:?}")
    };
    let now = leader(&state).expect("somebody leads");
    assert_eq!(
        (now.lease, &now.owner, now.fence),
        (lease(3), &"c".to_owned(), Fence(revision.0))
    );
    assert_eq!((told, &now.value), (now.clone(), &"http://c".to_owned()));
    let events = events_of(&state, revision);
    assert!(
        matches!(
            &events[..],
            [Event::Released { reason: ReleaseReason::HandedOver, .. }, Event::Granted(grant)] if grant.lease == lease(3)
        ),
        "{events:?}"
    );
    let waiting: Vec<_> = state
        .queue(Kind::Election, "lead")
        .queue
        .iter()
        .map(|place| place.lease)
        .collect();
    assert_eq!(
        waiting,
        [lease(2), lease(4)],
        "the others keep their places"
    );
    let attached = Attached::Hold {
        kind: Kind::Election,
        name: "lead".to_owned(),
        owner: "c".to_owned(),
        fence: now.fence,
    };
    assert_eq!(state.attached(lease(3), 10), [attached]);
    assert_eq!(state.attached(lease(1), 10), []);
    let late = apply_one(&mut state, 0, hand_over(1, "a", first.fence, "b"));
    assert_eq!(
        late,
        Err(Refusal::FenceStale {
            present: Some(now.fence)
        })
    );
}

#[test]
fn leadership_is_handed_to_nobody_who_is_not_there_or_whose_place_or_lease_is_due() {
    // As many ends of other leases as an entry makes hold the place and lease of the candidate at "due and not reached".
    let many: Vec<u64> = (1000..1000 + MAX_ENDS_PER_ENTRY).collect();
    let mut state = with_leases(&many, 1000);
    state.apply(
        Clock(0),
        &requests([grant(1, 60_000), grant(2, 60_000), grant(3000, 1000)]),
    );
    let first = hold(&mut state, 0, campaign("lead", 1, "a", 0));
    queued(&mut state, 0, campaign("lead", 2, "place-due", 1000));
    queued(&mut state, 0, campaign("lead", 3000, "lease-due", 60_000));
    let revision = state.revision();
    for to in ["nobody", "a"] {
        let refused = apply_one(&mut state, 0, hand_over(1, "a", first.fence, to));
        assert_eq!(refused, Err(Refusal::NotHeld));
    }
    assert_eq!(state.revision(), revision);
    let batch = requests(["place-due", "lease-due"].map(|to| hand_over(1, "a", first.fence, to)));
    let applied = state.apply(Clock(1001), &batch);
    state.check_invariants();
    assert_eq!(applied.leases_expired, MAX_ENDS_PER_ENTRY);
    let refused: Vec<_> = applied
        .outcomes
        .iter()
        .map(|decision| decision.outcome.clone())
        .collect();
    assert_eq!(refused, [Err(Refusal::NotHeld), Err(Refusal::NotHeld)]);
    assert_eq!(leader(&state).map(|leader| leader.lease), Some(lease(1)));
}

#[test]
fn only_the_leader_proclaims_and_only_with_its_fence() {
    let mut state = with_leases(&[1, 2], 10_000);
    assert_eq!(
        apply_one(&mut state, 0, proclaim(1, "a", Fence(2), "x")),
        Err(Refusal::NotHeld),
        "nobody leads"
    );
    let old = hold(&mut state, 0, campaign("lead", 1, "a", 0));
    let Ok(Answer::Held(view)) = apply_one(&mut state, 0, proclaim(1, "a", old.fence, "new"))
    else {
        panic!("the leader proclaims")
    };
    assert_eq!(
        (view.value.as_str(), view.fence, view.revision),
        ("new", old.fence, state.revision())
    );
    assert!(matches!(
        &events_of(&state, state.revision())[..],
        [Event::Proclaimed { value, fence, .. }] if value == "new" && *fence == old.fence
    ));
    assert_eq!(
        apply_one(&mut state, 0, proclaim(2, "b", old.fence, "mine")),
        Err(Refusal::NotHeld),
        "with the leader's fence, but not the leader"
    );
    queued(&mut state, 0, campaign("lead", 2, "b", 60_000));
    let resign = Command::Release(Release {
        kind: Kind::Election,
        name: "lead".to_owned(),
        lease: lease(1),
        owner: "a".to_owned(),
        fence: Some(old.fence),
    });
    assert!(apply_one(&mut state, 0, resign).is_ok());
    let present = leader(&state).map(|leader| leader.fence);
    let revision = state.revision();
    for id in [1, 2] {
        let candidate = ["a", "b"][id as usize - 1];
        let stale = apply_one(&mut state, 0, proclaim(id, candidate, old.fence, "late"));
        assert_eq!(stale, Err(Refusal::FenceStale { present }));
    }
    let large = "v".repeat(MAX_ELECTION_VALUE_BYTES as usize + 1);
    let refused = apply_one(
        &mut state,
        0,
        proclaim(2, "b", present.expect("b leads"), &large),
    );
    assert!(matches!(
        refused,
        Err(Refusal::TooLarge {
            limit: "election_value_bytes",
            ..
        })
    ));
    assert_eq!(state.revision(), revision);
    assert_eq!(
        leader(&state).map(|leader| leader.value),
        Some("http://b".to_owned())
    );
}

#[test]
fn among_many_candidates_leadership_goes_to_the_first_of_the_name_also_after_a_restart() {
    let ids: Vec<u64> = (1..=270).collect();
    let mut state = with_leases(&ids, 60_000);
    let held = hold(&mut state, 0, campaign("lead", 1, "host-0", 0));
    for id in 2..=270 {
        let candidate = format!("host-{}", id % 90);
        let priority = i32::from(id == 187);
        let ask = Acquire {
            priority,
            ..campaign("lead", id, &candidate, 60_000)
        };
        queued(&mut state, 0, ask);
    }
    let mut state = reload(&state);
    state.check_invariants();
    let nobody = hand_over(1, "host-0", held.fence, "host-");
    assert_eq!(apply_one(&mut state, 0, nobody), Err(Refusal::NotHeld));
    // Of host-7, 7 is the oldest and 187 goes before it.
    for to in [187, 7] {
        let old = leader(&state).expect("somebody leads");
        let passed = hand_over(old.lease.number(), &old.owner, old.fence, "host-7");
        assert!(apply_one(&mut state, 0, passed).is_ok());
        let new = leader(&state).expect("somebody leads");
        assert_eq!((new.lease, &*new.owner), (lease(to), "host-7"));
    }
    state.check_invariants();
}

#[test]
fn a_fence_of_a_semaphore_is_known_while_any_of_its_holders_is_there() {
    let mut state = with_leases(&[1, 2, 3], 60_000);
    let permit = |id, permits| Acquire {
        kind: Kind::Semaphore,
        wanted: vec![Wanted {
            name: "pool".to_owned(),
            share: Share::Permits { permits, limit: 2 },
        }],
        ..acquire("", id, 60_000)
    };
    // All permits go at once, so that two places are granted at one revision.
    let all = hold(&mut state, 0, permit(1, 2));
    queued(&mut state, 0, permit(2, 1));
    queued(&mut state, 0, permit(3, 1));
    let guarded = |state: &mut State, fence| {
        let guard = Some(Guard {
            kind: Kind::Semaphore,
            name: "pool".to_owned(),
            fence,
        });
        let transaction = Transaction {
            guard,
            ..Transaction::default()
        };
        apply_one(state, 0, Command::Transaction(transaction)).is_ok()
    };
    assert!(guarded(&mut state, all.fence));
    let revoke = |id| Command::RevokeLease { lease: lease(id) };
    assert!(apply_one(&mut state, 0, revoke(1)).is_ok());
    assert!(!guarded(&mut state, all.fence));
    let shared = state.queue(Kind::Semaphore, "pool").holders[0].fence;
    let mut state = reload(&state);
    assert!(guarded(&mut state, shared));
    assert!(apply_one(&mut state, 0, revoke(2)).is_ok());
    assert!(guarded(&mut state, shared), "3 holds with it");
    assert!(apply_one(&mut state, 0, revoke(3)).is_ok());
    assert!(!guarded(&mut state, shared));
}
