//! Leases and what hangs on them: whose they are, and how those of nobody become somebody's.

use super::*;

#[test]
fn a_lease_is_used_renewed_changed_and_ended_by_whom_it_was_granted_and_by_administrators_only() {
    let mut state = furnished();
    assert!(ask(&mut state, &a(), grant(1, 60_000)).is_ok());
    assert_eq!(state.lease_identity(lease(1)), Some("a"));
    let mut renewed = crate::support::renewals(&[1]);
    let mut renew = |state: &mut State, who: &Principal| {
        renewed.renewals[0].principal = who.clone();
        only(state, 100, &renewed).outcome
    };
    assert!(is_forbidden(&renew(&mut state, &b())));
    assert_eq!(renew(&mut state, &Principal::anonymous()), UNKNOWN);
    assert!(renew(&mut state, &a()).is_ok());
    assert!(renew(&mut state, &root()).is_ok());
    let uses = [
        Command::Acquire(acquire("x", 1, 0)),
        release("x", 1, Some(1)),
        put("a", "v", Some(1)),
        Command::ChangeLease {
            lease: lease(1),
            ttl_ms: 9000,
        },
        Command::RevokeLease { lease: lease(1) },
    ];
    for command in uses {
        let outcome = ask_at(&mut state, 100, &b(), command.clone());
        let denied = Denied::Foreign { lease: lease(1) };
        assert_eq!(outcome, Err(Refusal::Denied(denied)), "{command:?}");
    }
    assert!(
        ask_at(
            &mut state,
            100,
            &root(),
            Command::RevokeLease { lease: lease(1) }
        )
        .is_ok()
    );
    // What is gone belongs to nobody: it is told that it is gone.
    let gone = ask_at(
        &mut state,
        100,
        &b(),
        Command::RevokeLease { lease: lease(1) },
    );
    assert_eq!(gone, Err(Refusal::LeaseExpired(lease(1))));
}

#[test]
fn what_hangs_on_ones_lease_is_given_up_also_without_the_right_to_have_it_again() {
    let mut state = furnished();
    assert!(ask(&mut state, &b(), grant(1, 60_000)).is_ok());
    assert!(ask(&mut state, &a(), grant(2, 60_000)).is_ok());
    assert!(ask(&mut state, &b(), Command::Acquire(acquire("x", 1, 0))).is_ok());
    let fence = state.revision().0;
    assert!(ask(&mut state, &a(), Command::Acquire(acquire("y", 2, 0))).is_ok());
    assert!(ask(&mut state, &b(), Command::Acquire(acquire("y", 1, 9000))).is_ok());
    assert!(ask(&mut state, &a(), Command::Acquire(acquire("x", 2, 9000))).is_ok());
    let only_leases = vec![right(&[Verb::Lease], "leases/", false)];
    assert!(put_role(&mut state, "s", only_leases).is_ok());
    let again = ask(&mut state, &b(), Command::Acquire(acquire("y", 1, 9000)));
    assert!(is_forbidden(&again), "{again:?}");
    let of_another = ask(&mut state, &b(), release("y", 2, Some(fence + 1)));
    let foreign = Err(Refusal::Denied(Denied::Foreign { lease: lease(2) }));
    assert_eq!(of_another, foreign);
    let left = ask(&mut state, &b(), release("y", 1, None));
    assert!(matches!(left, Ok(Answer::Left { .. })), "{left:?}");
    let released = ask(&mut state, &b(), release("x", 1, Some(fence)));
    assert!(
        matches!(released, Ok(Answer::Released { .. })),
        "{released:?}"
    );
    let next = ask(&mut state, &a(), Command::Acquire(acquire("x", 2, 9000)));
    assert!(matches!(next, Ok(Answer::Held(_))), "{next:?}");
    // Where nothing of his is there, he is told so, and nothing of others.
    assert_eq!(
        ask(&mut state, &b(), release("x", 1, Some(fence))),
        Err(Refusal::NotHeld)
    );
}

/// A cluster in which nobody in particular did these things, before its access control was turned on.
fn guarded_after(done: impl IntoIterator<Item = Command>) -> State {
    let mut state = State::genesis(Genesis::default());
    let admin = AccessChange::PutRole {
        name: "root".to_owned(),
        grants: vec![right(&[Verb::Admin], "", false)],
    };
    let root_identity = AccessChange::PutIdentity {
        name: "root".to_owned(),
        identity: with_roles(&["root"]),
    };
    let steps = [
        admin,
        root_identity,
        token(ROOT_TOKEN.0, "root", None, 0),
        AccessChange::Enable { enabled: true },
    ];
    let steps = steps.map(Command::ChangeAccess);
    for command in done.into_iter().chain(steps) {
        let told = ask(&mut state, &Principal::anonymous(), command.clone());
        assert!(told.is_ok(), "{command:?}: {told:?}");
    }
    let applied = state.apply(Clock(0), &furnish());
    assert!(applied.outcomes.iter().all(|told| told.outcome.is_ok()));
    state
}

#[test]
fn a_lease_of_before_access_control_is_anybodys_who_may_have_leases_until_it_is_renewed() {
    let mut state = guarded_after([grant(1, 60_000)]);
    // Using it is not keeping it.
    assert!(ask(&mut state, &b(), put("a", "v", Some(1))).is_ok());
    assert!(ask(&mut state, &a(), put("a", "v", Some(1))).is_ok());
    assert_eq!(state.lease_identity(lease(1)), None);
    let only_keys = vec![right(&[Verb::Write], "keys/", false)];
    assert!(put_role(&mut state, "s", only_keys).is_ok());
    assert!(is_forbidden(&ask(&mut state, &b(), put("a", "v", Some(1)))));
    let mut renewal = crate::support::renewals(&[1]);
    let mut renewed_by = |state: &mut State, who: &Principal| {
        renewal.renewals[0].principal = who.clone();
        only(state, 0, &renewal).outcome
    };
    assert!(is_forbidden(&renewed_by(&mut state, &b())));
    assert_eq!(renewed_by(&mut state, &Principal::anonymous()), UNKNOWN);
    assert_eq!(
        state.lease_identity(lease(1)),
        None,
        "a refusal gives nothing"
    );
    assert!(renewed_by(&mut state, &a()).is_ok());
    assert_eq!(state.lease_identity(lease(1)), Some("a"));
    let everything = vec![right(&Verb::ALL[..9], "", false)];
    assert!(put_role(&mut state, "s", everything).is_ok());
    let foreign = Err(Refusal::Denied(Denied::Foreign { lease: lease(1) }));
    assert_eq!(renewed_by(&mut state, &b()), foreign);
    let revoke = Command::RevokeLease { lease: lease(1) };
    assert_eq!(ask(&mut state, &b(), revoke.clone()), foreign);
    // Administrators may use it, which makes it theirs no more than any other.
    assert!(renewed_by(&mut state, &root()).is_ok());
    assert_eq!(state.lease_identity(lease(1)), Some("a"));
    // It is so after a restart, too, and when access control was off meanwhile.
    let mut state = reload(&state);
    for enabled in [false, true] {
        assert!(change(&mut state, AccessChange::Enable { enabled }).is_ok());
    }
    assert_eq!(renewed_by(&mut state, &b()), foreign);
    assert!(ask(&mut state, &a(), revoke).is_ok());
}

#[test]
fn every_way_of_renewing_a_lease_of_nobody_claims_it_with_its_places_and_no_quota_refuses_that() {
    let waits = |names: &[&str], id, owner: &str| {
        let wanted = |name: &&str| Wanted {
            name: (*name).to_owned(),
            share: Share::Exclusive,
        };
        Command::Acquire(Acquire {
            wanted: names.iter().map(wanted).collect(),
            owner: owner.to_owned(),
            ..acquire("x", id, 60_000)
        })
    };
    let held = Command::Acquire(acquire("x", 1, 0));
    // Two places, one of them in two queues.
    let before = (1..5).map(|id| grant(id, 60_000)).chain([
        held.clone(),
        waits(&["x", "y"], 2, ""),
        waits(&["x"], 2, "o"),
    ]);
    let mut state = guarded_after(before);
    let few = Identity {
        quota: Quota {
            leases: Some(1),
            places: Some(2),
            requests_per_second: None,
        },
        ..with_roles(&["r"])
    };
    assert!(put_identity(&mut state, "a", few).is_ok());
    let exceeded = |quota, allowed, asked| {
        Err(Refusal::IdentityQuotaExceeded {
            identity: "a".to_owned(),
            quota,
            allowed,
            asked,
        })
    };
    let change_ttl = |id| Command::ChangeLease {
        lease: lease(id),
        ttl_ms: 50_000,
    };
    // What is asked for again, a TTL that is changed, and what is asked for anew.
    assert!(ask(&mut state, &a(), held).is_ok());
    assert!(ask(&mut state, &a(), change_ttl(2)).is_ok());
    let mut state = reload(&state);
    assert_eq!(
        ask(&mut state, &a(), waits(&["x"], 3, "")),
        exceeded("places", 2, 3),
        "those that came with the lease count"
    );
    assert_eq!(state.lease_identity(lease(3)), None);
    assert!(ask(&mut state, &a(), Command::Acquire(acquire("z", 3, 0))).is_ok());
    for id in [1, 2, 3] {
        assert_eq!(state.lease_identity(lease(id)), Some("a"));
    }
    assert_eq!(
        ask(&mut state, &a(), grant(9, 60_000)),
        exceeded("leases", 1, 4)
    );
    assert!(ask(&mut state, &b(), waits(&["x"], 4, "")).is_ok());
    assert_eq!(state.lease_identity(lease(4)), Some("b"));
}

#[test]
fn a_delay_lets_pass_only_the_same_name_of_the_same_identity() {
    let named = |id| {
        Command::GrantLease(NewLease {
            name: "worker".to_owned(),
            ..crate::support::new_lease(id, 1000)
        })
    };
    let mut state = furnished();
    let with_delay = |id| Acquire {
        lock_delay_ms: 50_000,
        ..acquire("x", id, 0)
    };
    assert!(ask(&mut state, &a(), named(1)).is_ok());
    assert!(ask(&mut state, &a(), Command::Acquire(with_delay(1))).is_ok());
    // The lease ends by time, and others of its name come.
    assert!(ask_at(&mut state, 1001, &a(), named(2)).is_ok());
    assert!(ask_at(&mut state, 1001, &b(), named(3)).is_ok());
    let mut reloaded = reload(&state);
    for state in [&mut state, &mut reloaded] {
        let other = ask_at(state, 1001, &b(), Command::Acquire(acquire("x", 3, 0)));
        assert!(matches!(other, Err(Refusal::LockHeld(_))), "{other:?}");
        let waits = ask_at(state, 1001, &b(), Command::Acquire(acquire("x", 3, 900)));
        assert!(matches!(waits, Ok(Answer::Queued(_))), "{waits:?}");
        let again = ask_at(state, 1001, &a(), Command::Acquire(acquire("x", 2, 0)));
        assert!(matches!(again, Ok(Answer::Held(_))), "{again:?}");
    }
}

/// What `b` may do, in a role of its own.
fn b_may(state: &mut State, grants: Vec<RoleGrant>) {
    assert!(put_role(state, "s", grants).is_ok());
}

/// A state in which `a` holds the lock `x`, then `b` waits for it, and then `a` with another lease; and `a` leads `e`, for
/// which `b` waits as `heir`.
fn queued() -> State {
    let mut state = furnished();
    b_may(&mut state, what_b_needs());
    for (who, id) in [(a(), 1), (b(), 2), (a(), 3)] {
        assert!(ask(&mut state, &who, grant(id, 60_000)).is_ok());
        let told = ask(
            &mut state,
            &who,
            Command::Acquire(acquire("x", id, 500_000)),
        );
        assert!(told.is_ok(), "{told:?}");
    }
    for (who, id, candidate) in [(a(), 1, "first"), (b(), 2, "heir")] {
        let campaign = Acquire {
            kind: Kind::Election,
            owner: candidate.to_owned(),
            ..acquire("e", id, 500_000)
        };
        let told = ask(&mut state, &who, Command::Acquire(campaign));
        assert!(told.is_ok(), "{told:?}");
    }
    state
}

fn what_b_needs() -> Vec<RoleGrant> {
    vec![
        right(&[Verb::Lock], "locks/x", true),
        right(&[Verb::Campaign], "elections/", false),
        right(&[Verb::Lease], "leases/", false),
    ]
}

/// With which leases a lock is held, and with which it is waited for.
fn standing(state: &State, kind: Kind, name: &str) -> (Vec<LeaseId>, Vec<LeaseId>) {
    let view = state.queue(kind, name);
    (
        view.holders.iter().map(|holder| holder.lease).collect(),
        view.queue.iter().map(|place| place.lease).collect(),
    )
}

fn held_at(state: &State, kind: Kind, name: &str) -> Fence {
    state.queue(kind, name).holders[0].fence
}

#[test]
fn whoever_has_lost_the_right_is_granted_nothing_when_its_turn_comes_and_its_place_ends() {
    let hand_over = |state: &State| {
        Command::HandOver(HandOver {
            name: "e".to_owned(),
            lease: lease(1),
            candidate: "first".to_owned(),
            fence: held_at(state, Kind::Election, "e"),
            to: "heir".to_owned(),
        })
    };
    let mut state = queued();
    b_may(&mut state, vec![right(&[Verb::Lease], "leases/", false)]);
    // Nothing happens before its turn, and what it may not have is not handed to it either.
    let both = (vec![lease(1)], vec![lease(2), lease(3)]);
    assert_eq!(standing(&state, Kind::Lock, "x"), both);
    let heir = hand_over(&state);
    assert_eq!(ask(&mut state, &a(), heir), Err(Refusal::NotHeld));
    let mut reloaded = reload(&state);
    for state in [&mut state, &mut reloaded] {
        let before = state.revision();
        let fence = held_at(state, Kind::Lock, "x").0;
        assert!(ask(state, &a(), release("x", 1, Some(fence))).is_ok());
        assert_eq!(
            standing(state, Kind::Lock, "x"),
            (vec![lease(3)], Vec::new())
        );
        let left: Vec<_> = state
            .events_after(before)
            .filter_map(|event| match event {
                Event::Left { lease, reason, .. } => Some((*lease, *reason)),
                _ => None,
            })
            .collect();
        assert_eq!(left, [(lease(2), LeaveReason::Withdrawn)]);
        assert_eq!(state.revision(), Revision(before.0 + 1));
    }
    assert_eq!(state.digest(), reloaded.digest());
    // Whoever has it back by then is granted it, and what is held is kept.
    let mut state = queued();
    b_may(&mut state, Vec::new());
    b_may(&mut state, what_b_needs());
    let heir = hand_over(&state);
    assert!(ask(&mut state, &a(), heir).is_ok());
    let fence = held_at(&state, Kind::Lock, "x").0;
    assert!(ask(&mut state, &a(), release("x", 1, Some(fence))).is_ok());
    b_may(&mut state, Vec::new());
    let mut renewal = crate::support::renewals(&[2]);
    renewal.renewals[0].principal = b();
    assert!(only(&mut state, 1000, &renewal).outcome.is_ok());
    for (kind, name) in [(Kind::Lock, "x"), (Kind::Election, "e")] {
        assert_eq!(standing(&state, kind, name).0, [lease(2)]);
    }
}

#[test]
fn all_that_an_identity_has_ends_by_time_once_it_is_deleted_and_nothing_is_granted_to_it() {
    let mut state = queued();
    let name = "b".to_owned();
    assert!(change(&mut state, AccessChange::DeleteIdentity { name }).is_ok());
    let mut renewal = crate::support::renewals(&[2]);
    renewal.renewals[0].principal = b();
    assert_eq!(only(&mut state, 1000, &renewal).outcome, UNKNOWN);
    let fence = held_at(&state, Kind::Lock, "x").0;
    let released = ask_at(&mut state, 1000, &a(), release("x", 1, Some(fence)));
    assert!(released.is_ok());
    assert_eq!(standing(&state, Kind::Lock, "x").0, [lease(3)]);
    let waits_for_e = standing(&state, Kind::Election, "e").1;
    assert_eq!(waits_for_e, [lease(2)], "until its lease ends");
    state.apply(Clock(60_001), &Batch::default());
    state.check_invariants();
    assert_eq!(state.lease_identity(lease(2)), None);
    assert!(standing(&state, Kind::Election, "e").1.is_empty());
}

#[test]
fn what_nobody_in_particular_waits_for_is_granted_after_access_control_was_turned_on() {
    let waits = |id| Command::Acquire(acquire("x", id, 50_000));
    let mut state = guarded_after([grant(1, 60_000), grant(2, 60_000), waits(1), waits(2)]);
    let revoke = Command::RevokeLease { lease: lease(1) };
    assert!(ask(&mut state, &a(), revoke).is_ok());
    assert_eq!(standing(&state, Kind::Lock, "x").0, [lease(2)]);
}
