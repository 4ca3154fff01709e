//! What a grant covers, and what each command needs.

use super::*;

#[test]
fn a_grant_covers_what_lies_within_it_and_nothing_that_only_touches_it() {
    use Collection::{Keys, Locks};
    let one = |name: &'static str| Scope::One(Keys, name.as_bytes());
    let range = |start: &'static str, end: Option<&'static str>| Scope::Range {
        collection: Keys,
        start: start.as_bytes(),
        end: end.map(str::as_bytes),
    };
    let check = |resource: &str, exact: bool, inside: &[Scope<'_>], outside: &[Scope<'_>]| {
        let grant = right(&[Verb::Read], resource, exact);
        for (scopes, expected) in [(inside, true), (outside, false)] {
            for scope in scopes {
                let need = Need::new(&[Verb::Read], *scope);
                assert_eq!(grant.covers(&need), expected, "{grant:?}: {scope:?}");
                let other = Need::new(&[Verb::Write], *scope);
                assert!(
                    !grant.covers(&other),
                    "a verb that is not granted: {scope:?}"
                );
                let either = Need::new(&[Verb::Write, Verb::Read], *scope);
                assert_eq!(
                    grant.covers(&either),
                    expected,
                    "one of two verbs is enough"
                );
            }
        }
    };
    check(
        "keys/a",
        false,
        &[
            one("a"),
            one("ab"),
            one("a/b"),
            range("a", Some("b")),
            range("a", Some("a\0")),
            range("ab", Some("ac")),
            range("az", Some("b")),
            // Nothing lies in them, and they lie where they begin.
            range("a", Some("a")),
            range("ab", Some("a")),
        ],
        &[
            one("b"),
            one(""),
            one("A"),
            Scope::One(Locks, b"a"),
            range("a", Some("b\0")),
            range("a", Some("ba")),
            range("a", None),
            range("", Some("b")),
            range("", Some("a")),
            range("b", Some("b")),
            range("Z", Some("ab")),
            Scope::all(Keys),
            Scope::Range {
                collection: Locks,
                start: b"a",
                end: Some(b"b"),
            },
            Scope::Cluster,
        ],
    );
    check(
        "keys/a/",
        false,
        &[
            one("a/"),
            one("a/b"),
            range("a/", Some("a0")),
            range("a/x", Some("a/y")),
        ],
        &[
            one("a"),
            one("ab"),
            range("a", Some("a0")),
            range("a/", Some("a1")),
            range("a/", Some("b")),
        ],
    );
    check(
        "keys/a",
        true,
        &[one("a"), range("a", Some("a\0"))],
        &[
            one("ab"),
            one(""),
            range("a", Some("b")),
            range("a", Some("a")),
            range("a", None),
            range("a", Some("a\0\0")),
        ],
    );
    check(
        "keys/",
        false,
        &[
            one("a"),
            one(""),
            Scope::all(Keys),
            range("b", None),
            range("a", Some("z")),
        ],
        &[Scope::One(Locks, b"a"), Scope::all(Locks), Scope::Cluster],
    );
    check(
        "",
        false,
        &[
            one("a"),
            Scope::all(Keys),
            Scope::all(Locks),
            Scope::One(Locks, b""),
            Scope::Cluster,
        ],
        &[],
    );
    // The last byte of a prefix may be the greatest of its kind: the next name is one byte shorter.
    let grant = right(&[Verb::Read], "keys/\u{10ffff}", false);
    let name = "\u{10ffff}".as_bytes();
    let end = prefix_end(name).expect("something is greater");
    let of = |end| {
        grant.covers(&Need::new(
            &[Verb::Read],
            Scope::Range {
                collection: Keys,
                start: name,
                end,
            },
        ))
    };
    let beyond = [&end[..], &[0]].concat();
    assert!(of(Some(&end)) && !of(Some(&beyond)) && !of(None));
}

#[test]
fn a_need_is_covered_by_one_grant_and_never_by_two_halves() {
    let mut state = furnished();
    let halves = vec![
        right(&[Verb::Delete], "keys/a", false),
        right(&[Verb::Delete], "keys/b", false),
    ];
    assert!(put_role(&mut state, "s", halves).is_ok());
    let delete = |start: &'static str, end: &'static str| {
        transaction(vec![Operation::DeleteRange {
            start: Bytes::from_static(start.as_bytes()),
            end: Some(Bytes::from_static(end.as_bytes())),
        }])
    };
    assert!(ask(&mut state, &b(), delete("a", "b")).is_ok());
    assert!(ask(&mut state, &b(), delete("b", "c")).is_ok());
    assert!(is_forbidden(&ask(&mut state, &b(), delete("a", "c"))));
}

#[test]
fn what_is_missing_is_said_first_to_last_and_as_it_was_written() {
    let state = furnished();
    let denied = |needs: &[Need<'_>]| state.authorize(&b(), needs).expect_err("it is denied");
    let key = Need::new(
        &[Verb::Write, Verb::Read],
        Scope::One(Collection::Keys, b"x\n\xff"),
    );
    let all = Need::new(&[Verb::List], Scope::all(Collection::Elections));
    let mine = Need::new(&[Verb::Lock], Scope::One(Collection::Locks, b"x"));
    let forbidden = |verb, resource: &str| Denied::Forbidden {
        verb,
        resource: resource.to_owned(),
    };
    assert_eq!(
        denied(&[mine, key, all]),
        forbidden(Verb::Write, "keys/x\\n\\xff")
    );
    assert_eq!(denied(&[all]), forbidden(Verb::List, "elections/*"));
    let cluster = Need::new(&[Verb::Admin], Scope::Cluster);
    assert_eq!(denied(&[cluster]), forbidden(Verb::Admin, "the cluster"));
    assert_eq!(state.authorize(&b(), &[mine]), Ok(()));
    assert_eq!(state.authorize(&b(), &[]), Ok(()), "it is known who asks");
}

#[test]
fn while_access_control_is_off_anybody_may_do_anything_and_on_only_who_is_known() {
    let mut state = State::genesis(Genesis::default());
    assert!(!state.access().enabled());
    assert!(ask(&mut state, &Principal::anonymous(), grant(1, 5000)).is_ok());
    let mut state = guarded();
    let nobody = [
        Principal::anonymous(),
        Principal::of("a", None),
        Principal::of("anonymous", None),
        Principal::of("", None),
        Principal::of("root", Some(TokenId(101))),
        Principal::of("a", Some(ROOT_TOKEN)),
    ];
    for who in &nobody {
        assert_eq!(ask(&mut state, who, grant(1, 5000)), UNKNOWN, "{who:?}");
        assert_eq!(state.authorize(who, &[]), Err(Denied::Unauthenticated));
        let lease = state.authorize_lease(who, lease(9));
        assert_eq!(
            lease,
            Err(Denied::Unauthenticated),
            "not even that it is not there"
        );
    }
    assert!(ask(&mut state, &root(), grant(1, 5000)).is_ok());
    // A certificate is proof by itself: the member that was asked has seen it.
    assert!(ask(&mut state, &Principal::of("root", None), grant(2, 5000)).is_ok());
}

/// Every command, with one that needs something of whoever asks. Without a wildcard: a new one must be added here.
fn samples(state: &mut State) -> Vec<Command> {
    let queue = Acquire {
        kind: Kind::Election,
        ..acquire("x", 1, 0)
    };
    let all = vec![
        grant(7, 5000),
        Command::RevokeLease { lease: lease(1) },
        Command::ChangeLease {
            lease: lease(1),
            ttl_ms: 6000,
        },
        Command::Acquire(queue),
        release("x", 1, Some(2)),
        Command::Break(Break {
            kind: Kind::Lock,
            name: "x".to_owned(),
            fence: Fence(2),
            holder: None,
            now: true,
        }),
        Command::Proclaim(Proclaim {
            name: "x".to_owned(),
            lease: lease(1),
            candidate: String::new(),
            fence: Fence(2),
            value: String::new(),
        }),
        Command::HandOver(HandOver {
            name: "x".to_owned(),
            lease: lease(1),
            candidate: String::new(),
            fence: Fence(2),
            to: String::new(),
        }),
        put("k", "v", None),
        Command::Compact {
            revision: state.revision(),
        },
        Command::ChangeLimits([("keys".to_owned(), 9)].into()),
        Command::ChangeAccess(AccessChange::Enable { enabled: false }),
    ];
    let number = |command: &Command| match command {
        Command::GrantLease(_) => 0,
        Command::RevokeLease { .. } => 1,
        Command::ChangeLease { .. } => 2,
        Command::Acquire(_) => 3,
        Command::Release(_) => 4,
        Command::Break(_) => 5,
        Command::Proclaim(_) => 6,
        Command::HandOver(_) => 7,
        Command::Transaction(_) => 8,
        Command::Compact { .. } => 9,
        Command::ChangeLimits(_) => 10,
        Command::ChangeAccess(_) => 11,
        Command::RaiseVersion { .. } => unreachable!("nobody asks for it"),
    };
    let numbers: Vec<usize> = all.iter().map(number).collect();
    assert_eq!(numbers, (0..12).collect::<Vec<_>>());
    all
}

#[test]
fn no_command_is_forgotten() {
    let mut state = furnished();
    assert!(ask(&mut state, &a(), grant(1, 60_000)).is_ok());
    assert!(put_identity(&mut state, "b", Identity::default()).is_ok());
    let before = (state.revision(), state.digest());
    for command in samples(&mut state) {
        let outcome = ask(&mut state, &b(), command.clone());
        assert!(is_forbidden(&outcome), "{command:?}: {outcome:?}");
        let nobody = ask(&mut state, &Principal::anonymous(), command.clone());
        assert_eq!(nobody, UNKNOWN, "{command:?}");
        assert_eq!((state.revision(), state.digest()), before, "{command:?}");
    }
}

#[test]
fn each_part_of_a_transaction_is_judged_whichever_branch_is_taken() {
    let mut state = furnished();
    // `b` may do things with keys that begin with a, with locks and with leases of its own.
    let most = &Verb::ALL[..9];
    let grants = vec![
        right(most, "keys/a", false),
        right(most, "locks/", false),
        right(&[Verb::Lease], "leases/", false),
    ];
    assert!(put_role(&mut state, "s", grants).is_ok());
    assert!(ask(&mut state, &a(), grant(1, 60_000)).is_ok());
    assert!(ask(&mut state, &b(), grant(2, 60_000)).is_ok());
    let key = |name: &'static str| Bytes::from_static(name.as_bytes());
    let put_on = |name: &'static str, id: Option<u64>| {
        Operation::Put(Put {
            key: key(name),
            value: Bytes::new(),
            content_type: None,
            lease: id.map(lease),
            refuse_other_lease: false,
        })
    };
    let guard = |kind, name: &str| Guard {
        kind,
        name: name.to_owned(),
        fence: Fence(1),
    };
    let condition = |name: &'static str| Condition::Key {
        key: key(name),
        field: Field::Version(0),
        compare: Compare::Equal,
    };
    let mine = || Transaction {
        conditions: vec![
            condition("a"),
            Condition::LeaseLive(lease(2)),
            Condition::LeaseLive(lease(9)),
        ],
        then: vec![put_on("a1", Some(2)), Operation::Get { key: key("a") }],
        otherwise: vec![Operation::Delete { key: key("ab") }],
        guard: None,
    };
    let with = |change: &dyn Fn(&mut Transaction)| {
        let mut transaction = mine();
        change(&mut transaction);
        Command::Transaction(transaction)
    };
    assert!(ask(&mut state, &b(), with(&|_| {})).is_ok());
    let guarded = with(&|it| it.guard = Some(guard(Kind::Lock, "x")));
    assert!(matches!(
        ask(&mut state, &b(), guarded),
        Err(Refusal::FenceStale { .. })
    ));
    let denied: [&dyn Fn(&mut Transaction); 12] = [
        &|it| it.conditions.push(condition("k")),
        &|it| it.conditions.push(Condition::LeaseLive(lease(1))),
        &|it| {
            it.conditions
                .push(Condition::Held(guard(Kind::Election, "x")))
        },
        &|it| it.guard = Some(guard(Kind::Semaphore, "x")),
        &|it| it.then.push(put_on("k", None)),
        &|it| it.then.push(put_on("a2", Some(1))),
        &|it| it.then.push(Operation::Get { key: key("k") }),
        &|it| it.then.push(Operation::Delete { key: key("k") }),
        &|it| {
            it.then.push(Operation::DeleteRange {
                start: key("a"),
                end: None,
            })
        },
        &|it| it.otherwise.push(put_on("k", None)),
        &|it| it.otherwise.push(put_on("a2", Some(1))),
        &|it| it.otherwise.push(Operation::Get { key: key("") }),
    ];
    let before = state.digest();
    for change in denied {
        let command = with(change);
        let outcome = ask(&mut state, &b(), command.clone());
        assert!(is_forbidden(&outcome), "{command:?}: {outcome:?}");
        assert_eq!(state.digest(), before);
    }
    // Whoever may read all leases may know of any.
    let grants = vec![right(&[Verb::Read, Verb::Write, Verb::Delete], "", false)];
    assert!(put_role(&mut state, "s", grants).is_ok());
    let seen = with(&|it| it.conditions.push(Condition::LeaseLive(lease(1))));
    assert!(ask(&mut state, &b(), seen).is_ok());
}

#[test]
fn quotas_of_an_identity_refuse_growth_and_are_given_back() {
    let mut state = furnished();
    let quota = |leases, places| Identity {
        quota: Quota {
            leases,
            places,
            requests_per_second: Some(5),
        },
        ..with_roles(&["r"])
    };
    assert!(put_identity(&mut state, "a", quota(Some(2), Some(1))).is_ok());
    assert!(ask(&mut state, &a(), grant(1, 60_000)).is_ok());
    let granting = Acquire {
        claim: Claim::Grant(crate::support::new_lease(2, 60_000)),
        ..acquire("x", 2, 0)
    };
    assert!(ask(&mut state, &a(), Command::Acquire(granting)).is_ok());
    let exceeded = |quota, allowed, asked| {
        Err(Refusal::IdentityQuotaExceeded {
            identity: "a".to_owned(),
            quota,
            allowed,
            asked,
        })
    };
    assert_eq!(
        ask(&mut state, &a(), grant(3, 60_000)),
        exceeded("leases", 2, 3)
    );
    assert!(
        ask(&mut state, &root(), grant(3, 60_000)).is_ok(),
        "a quota is one identity's"
    );
    // Both want what the other has: one place is allowed.
    assert!(ask(&mut state, &a(), Command::Acquire(acquire("x", 1, 5000))).is_ok());
    assert!(ask(&mut state, &root(), Command::Acquire(acquire("y", 3, 0))).is_ok());
    let waits = Command::Acquire(acquire("y", 1, 5000));
    assert_eq!(
        ask(&mut state, &a(), waits.clone()),
        exceeded("places", 1, 2)
    );
    let mut state = reload(&state);
    assert_eq!(
        ask(&mut state, &a(), waits.clone()),
        exceeded("places", 1, 2)
    );
    // A lower quota takes nothing away; what ends makes room.
    assert!(put_identity(&mut state, "a", quota(Some(0), Some(2))).is_ok());
    assert!(ask(&mut state, &a(), waits).is_ok());
    assert_eq!(
        ask(&mut state, &a(), grant(4, 60_000)),
        exceeded("leases", 0, 3)
    );
    assert!(put_identity(&mut state, "a", quota(Some(2), None)).is_ok());
    assert!(ask(&mut state, &a(), Command::RevokeLease { lease: lease(2) }).is_ok());
    assert!(ask(&mut state, &a(), grant(4, 60_000)).is_ok());
}

#[test]
fn what_was_decided_once_is_told_only_to_whom_it_may_be_told_now() {
    let mut state = furnished();
    let mut write = Batch {
        requests: vec![keyed("k", put("a", "v", None))],
        ..Batch::default()
    };
    let asked_by = |write: &mut Batch, who: &Principal, identity: &str| {
        write.requests[0].principal = who.clone();
        let key = write.requests[0]
            .idempotency
            .as_mut()
            .expect("it has a key");
        identity.clone_into(&mut key.identity);
    };
    asked_by(&mut write, &b(), "b");
    let first = only(&mut state, 0, &write);
    assert!(first.outcome.is_ok() && !first.replayed);
    assert!(only(&mut state, 0, &write).replayed);
    // Another token of the same identity, or a certificate: the same caller.
    asked_by(&mut write, &Principal::of("b", None), "b");
    assert!(only(&mut state, 0, &write).replayed);
    // Somebody else under the same key decides anew, and nobody asks in another's name.
    asked_by(&mut write, &a(), "a");
    assert!(!only(&mut state, 0, &write).replayed);
    asked_by(&mut write, &a(), "b");
    let forged = only(&mut state, 0, &write);
    assert!(matches!(forged.outcome, Err(Refusal::Unsupported(_))) && !forged.replayed);
    // The right is gone, and comes back: what was decided is still known.
    asked_by(&mut write, &b(), "b");
    assert!(put_role(&mut state, "s", vec![]).is_ok());
    let denied = only(&mut state, 0, &write);
    assert!(is_forbidden(&denied.outcome) && !denied.replayed);
    assert!(put_role(&mut state, "s", vec![right(&[Verb::Write], "keys/a", true)]).is_ok());
    let again = only(&mut state, 0, &write);
    assert!(again.outcome.is_ok() && again.replayed);
}

/// Seed 80002729 of the simulator: an account took this for a use of another's lease.
#[test]
fn what_was_done_with_anothers_lease_while_all_might_is_told_again_once_that_lease_is_gone() {
    let mut state = furnished();
    assert!(ask(&mut state, &root(), grant(1, 1000)).is_ok());
    let enable = |state: &mut State, enabled| change(state, AccessChange::Enable { enabled });
    assert!(enable(&mut state, false).is_ok());
    let mut write = Batch {
        requests: vec![keyed("k", put("a", "v", Some(1)))],
        ..Batch::default()
    };
    let request = &mut write.requests[0];
    request.principal = a();
    let key = request.idempotency.as_mut().expect("it has a key");
    "a".clone_into(&mut key.identity);
    let first = only(&mut state, 0, &write);
    assert!(first.outcome.is_ok() && !first.replayed);
    assert!(enable(&mut state, true).is_ok());
    // While the lease lives, it is used by nobody else, and nothing of it is told.
    let denied = only(&mut state, 1000, &write);
    assert!(is_forbidden(&denied.outcome) && !denied.replayed);
    let again = only(&mut state, 1001, &write);
    assert_eq!(state.lease_count(), 0);
    assert!(again.outcome.is_ok() && again.replayed);
}
