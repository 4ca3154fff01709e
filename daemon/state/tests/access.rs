//! Who may do what: the one function that says so, what changes its answers, and what outlives them.

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use support::{
    ROOT_TOKEN, acquire, furnish, grant, keyed, lease, put, release, reload, requests, rows_of,
    transaction,
};
use tenure_state::*;

fn root() -> Principal {
    Principal::of("root", Some(ROOT_TOKEN))
}

fn a() -> Principal {
    Principal::of("a", Some(TokenId(101)))
}

fn b() -> Principal {
    Principal::of("b", Some(TokenId(102)))
}

/// A cluster with access control on, and nobody in it but root.
fn guarded() -> State {
    let root = RootToken {
        id: ROOT_TOKEN,
        hash: [7; 32],
    };
    State::genesis(Genesis {
        root: Some(root),
        ..Genesis::default()
    })
}

/// With an identity `a` that may do everything but administer, and `b` that may do some of it.
fn furnished() -> State {
    let mut state = guarded();
    let applied = state.apply(Clock(0), &furnish());
    assert!(applied.outcomes.iter().all(|told| told.outcome.is_ok()));
    state
}

fn ask(state: &mut State, who: &Principal, command: Command) -> Outcome {
    ask_at(state, 0, who, command)
}

fn ask_at(state: &mut State, stamp: u64, who: &Principal, command: Command) -> Outcome {
    let mut batch = requests([command]);
    batch.requests[0].principal = who.clone();
    only(state, stamp, &batch).outcome
}

fn only(state: &mut State, stamp: u64, batch: &Batch) -> Decision {
    let applied = state.apply(Clock(stamp), batch);
    state.check_invariants();
    let mut outcomes = applied.outcomes.into_iter();
    outcomes.next().expect("one request has one outcome")
}

fn change(state: &mut State, change: AccessChange) -> Outcome {
    ask(state, &root(), Command::ChangeAccess(change))
}

fn put_role(state: &mut State, name: &str, grants: Vec<RoleGrant>) -> Outcome {
    let name = name.to_owned();
    change(state, AccessChange::PutRole { name, grants })
}

fn put_identity(state: &mut State, name: &str, identity: Identity) -> Outcome {
    let name = name.to_owned();
    change(state, AccessChange::PutIdentity { name, identity })
}

fn right(verbs: &[Verb], resource: &str, exact: bool) -> RoleGrant {
    RoleGrant {
        verbs: verbs.iter().copied().collect(),
        resource: resource.to_owned(),
        exact,
    }
}

fn with_roles(roles: &[&str]) -> Identity {
    Identity {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..Identity::default()
    }
}

fn is_forbidden(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(Refusal::Denied(
            Denied::Forbidden { .. } | Denied::Foreign { .. }
        ))
    )
}

const UNKNOWN: Outcome = Err(Refusal::Denied(Denied::Unauthenticated));

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
fn a_lease_is_used_renewed_changed_and_ended_by_whom_it_was_granted_and_by_administrators_only() {
    let mut state = furnished();
    assert!(ask(&mut state, &a(), grant(1, 60_000)).is_ok());
    assert_eq!(state.lease_identity(lease(1)), Some("a"));
    let mut renewed = support::renewals(&[1]);
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
    let mut renewal = support::renewals(&[1]);
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
            ..support::new_lease(id, 1000)
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
        claim: Claim::Grant(support::new_lease(2, 60_000)),
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

#[test]
fn a_change_that_makes_no_sense_is_refused_with_what_is_accepted_and_changes_nothing() {
    let mut state = furnished();
    let long = "n".repeat(129);
    let role = |name: &str, grants: Vec<RoleGrant>| AccessChange::PutRole {
        name: name.to_owned(),
        grants,
    };
    let identity = |name: &str, identity: Identity| AccessChange::PutIdentity {
        name: name.to_owned(),
        identity,
    };
    let certified = |name: &str| Identity {
        certificate: Some(name.to_owned()),
        ..Identity::default()
    };
    assert!(change(&mut state, identity("c", certified("spiffe://c"))).is_ok());
    let read = || right(&[Verb::Read], "keys/", false);
    let many: Vec<String> = (0..65).map(|n| format!("r{n}")).collect();
    let refused = vec![
        (role("", vec![]), "1 to 128"),
        (role(&long, vec![]), "129 bytes"),
        (role("a\tb", vec![]), "control"),
        (role("x", vec![right(&[], "keys/", false)]), "no verbs"),
        (
            role("x", vec![right(&[Verb::Read], "key", false)]),
            "elections/, keys/, leases/",
        ),
        (
            role("x", vec![right(&[Verb::Read], "keys", false)]),
            "\"keys\"",
        ),
        (role("x", vec![right(&[Verb::Read], "", true)]), "exact"),
        (
            role("x", vec![right(&[Verb::Admin], "keys/", false)]),
            "admin",
        ),
        (role("x", vec![right(&[Verb::Admin], "", true)]), "admin"),
        (
            role(
                "x",
                vec![right(
                    &[Verb::Read],
                    &format!("keys/{}", "n".repeat(1100)),
                    false,
                )],
            ),
            "1105 bytes",
        ),
        (role("x", vec![read(); 257]), "257 grants"),
        (
            role("x", vec![right(&[Verb::Lock], "keys/jobs/", false)]),
            "lock on locks/, semaphores/,",
        ),
        (
            role(
                "x",
                vec![right(&[Verb::Write, Verb::Campaign], "locks/a", true)],
            ),
            "write on keys/; campaign on elections/,",
        ),
        (
            role("x", vec![right(&[Verb::Lease], "leases/3f", false)]),
            "lease on all of leases/,",
        ),
        (
            role("x", vec![right(&[Verb::Lease], "leases/", true)]),
            "lease on all of leases/,",
        ),
        (identity("", Identity::default()), "1 to 128"),
        (identity("anonymous", Identity::default()), "another name"),
        (identity("x", with_roles(&["none"])), "no role \"none\""),
        (identity("x", with_roles(&["r", "r"])), "twice"),
        (
            identity(
                "x",
                Identity {
                    roles: many,
                    ..Identity::default()
                },
            ),
            "65 roles",
        ),
        (identity("x", certified("spiffe://c")), "identity \"c\""),
        (identity("x", certified("")), "1 to 1024"),
        (
            AccessChange::DeleteRole {
                name: "r".to_owned(),
            },
            "identity \"a\" has",
        ),
    ];
    let mixed = vec![
        right(&[Verb::Lock, Verb::Read], "keys/jobs/", false),
        right(&[Verb::Lock], "", false),
        right(&[Verb::Lease], "leases/", false),
    ];
    assert!(change(&mut state, role("mixed", mixed)).is_ok());
    let before = rows_of(&state);
    for (wrong, part) in refused {
        match change(&mut state, wrong.clone()) {
            Err(Refusal::AccessInvalid(text)) => assert!(text.contains(part), "{wrong:?}: {text}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
        assert_eq!(rows_of(&state), before, "{wrong:?}");
    }
    let unknown = [
        (
            AccessChange::DeleteRole {
                name: "x".to_owned(),
            },
            Refusal::RoleNotFound("x".to_owned()),
        ),
        (
            AccessChange::DeleteIdentity {
                name: "x".to_owned(),
            },
            Refusal::IdentityNotFound("x".to_owned()),
        ),
        (
            AccessChange::DeleteToken { id: TokenId(9) },
            Refusal::TokenNotFound(TokenId(9)),
        ),
        (
            token(9, "x", None, 0),
            Refusal::IdentityNotFound("x".to_owned()),
        ),
        (token(101, "b", None, 0), Refusal::TokenIdTaken),
    ];
    for (wrong, refusal) in unknown {
        assert_eq!(change(&mut state, wrong), Err(refusal));
        assert_eq!(rows_of(&state), before);
    }
}

fn token(id: u64, identity: &str, expires_unix_ms: Option<u64>, now_unix_ms: u64) -> AccessChange {
    AccessChange::CreateToken {
        id: TokenId(id),
        identity: identity.to_owned(),
        hash: [7; 32],
        expires_unix_ms,
        now_unix_ms,
    }
}

#[test]
fn nobody_locks_everybody_out() {
    let mut state = furnished();
    let delete_token = AccessChange::DeleteToken { id: ROOT_TOKEN };
    let delete_identity = AccessChange::DeleteIdentity {
        name: "root".to_owned(),
    };
    let harmless = AccessChange::PutRole {
        name: "root".to_owned(),
        grants: vec![],
    };
    let without_role = AccessChange::PutIdentity {
        name: "root".to_owned(),
        identity: with_roles(&["r"]),
    };
    let all = [
        delete_token.clone(),
        delete_identity,
        harmless,
        without_role,
    ];
    let before = rows_of(&state);
    for wrong in all.clone() {
        match change(&mut state, wrong.clone()) {
            Err(Refusal::AccessInvalid(text)) => {
                assert!(text.contains("nobody could administer"), "{text}")
            }
            other => panic!("{wrong:?}: {other:?}"),
        }
        assert_eq!(rows_of(&state), before, "{wrong:?}");
    }
    // Another administrator who can prove it: each of them may go.
    let certified = Identity {
        certificate: Some("admin.example".to_owned()),
        ..with_roles(&["admins"])
    };
    assert!(put_role(&mut state, "admins", vec![right(&[Verb::Admin], "", false)]).is_ok());
    assert!(put_identity(&mut state, "c", certified).is_ok());
    for fine in all {
        assert!(change(&mut state.clone(), fine.clone()).is_ok(), "{fine:?}");
    }
    // Off, nobody is needed; and it is not turned on again without one.
    assert!(change(&mut state, AccessChange::Enable { enabled: false }).is_ok());
    let nobody = Principal::anonymous();
    for name in ["root", "c"] {
        let gone = AccessChange::DeleteIdentity {
            name: name.to_owned(),
        };
        assert!(ask(&mut state, &nobody, Command::ChangeAccess(gone)).is_ok());
    }
    assert_eq!(
        state.access().token(ROOT_TOKEN),
        None,
        "its tokens went with it"
    );
    assert_eq!(
        state.access().identity_of_certificate("admin.example"),
        None
    );
    let on = Command::ChangeAccess(AccessChange::Enable { enabled: true });
    assert!(matches!(
        ask(&mut state, &nobody, on),
        Err(Refusal::AccessInvalid(_))
    ));
    assert!(!state.access().enabled());
}

#[test]
fn a_token_that_is_gone_proves_nothing_from_the_next_command_on() {
    let mut state = furnished();
    let second = change(&mut state, token(200, "a", Some(5000), 1000));
    assert!(second.is_ok());
    let other = Principal::of("a", Some(TokenId(200)));
    assert!(ask(&mut state, &other, grant(1, 60_000)).is_ok());
    // One entry: the token goes, and what comes behind it is refused.
    let mut batch = requests([
        Command::ChangeAccess(AccessChange::DeleteToken { id: TokenId(200) }),
        grant(2, 60_000),
        grant(3, 60_000),
    ]);
    for (request, who) in batch.requests.iter_mut().zip([root(), other.clone(), a()]) {
        request.principal = who;
    }
    let applied = state.apply(Clock(0), &batch);
    let outcomes: Vec<_> = applied
        .outcomes
        .into_iter()
        .map(|told| told.outcome)
        .collect();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert_eq!(outcomes[1], UNKNOWN);
    assert!(!state.access().tokens().any(|(id, _)| id == TokenId(200)));
}

const DAY_MS: u64 = 86_400_000;

fn token_ids(state: &State) -> Vec<u64> {
    state.access().tokens().map(|(id, _)| id.0).collect()
}

#[test]
fn tokens_are_forgotten_a_day_after_they_expired_once_another_is_in() {
    let mut state = furnished();
    for (id, expires) in [(200, Some(1000)), (201, Some(2000)), (202, None)] {
        assert!(change(&mut state, token(id, "a", expires, 0)).is_ok());
    }
    let late = 1999 + DAY_MS;
    let changes = state.access().changes();
    for refused in [token(202, "a", None, late), token(203, "x", None, late)] {
        assert!(change(&mut state, refused).is_err());
        assert_eq!(token_ids(&state), [100, 101, 102, 200, 201, 202]);
    }
    assert_eq!(state.access().changes(), changes);
    // What comes in is not forgotten by the same entry, however old it is.
    assert!(change(&mut state, token(203, "a", Some(5), late)).is_ok());
    assert_eq!(token_ids(&state), [100, 101, 102, 201, 202, 203]);
    assert!(change(&mut state, token(204, "a", None, late + 1)).is_ok());
    assert_eq!(token_ids(&state), [100, 101, 102, 202, 204]);
}

#[test]
fn an_administrator_whose_token_expires_does_not_let_the_last_lasting_one_go() {
    let mut state = furnished();
    let mut second = state.clone();
    assert!(change(&mut state, token(200, "root", Some(u64::MAX), 0)).is_ok());
    let gone = AccessChange::DeleteToken { id: ROOT_TOKEN };
    match change(&mut state, gone.clone()) {
        Err(Refusal::AccessInvalid(text)) => {
            assert!(text.contains("token without an expiry"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(change(&mut second, token(200, "root", None, 0)).is_ok());
    assert!(change(&mut second, gone.clone()).is_ok());
    // Nor is access control turned on where every administrator is let in for a while only.
    let nobody = Principal::anonymous();
    assert!(change(&mut state, AccessChange::Enable { enabled: false }).is_ok());
    assert!(ask(&mut state, &nobody, Command::ChangeAccess(gone)).is_ok());
    let on = || Command::ChangeAccess(AccessChange::Enable { enabled: true });
    let refused = ask(&mut state, &nobody, on());
    assert!(matches!(refused, Err(Refusal::AccessInvalid(_))));
    // A state of before that rule: a clock that is far ahead forgets nobody's token.
    let enabled = Row {
        table: Table::Access,
        key: Bytes::from_static(b"\x00"),
        value: Bytes::from_static(b"\x01"),
    };
    let rows: Vec<Row> = state.rows().chain([enabled]).collect();
    let mut state = State::from_rows(rows.into_iter()).expect("it is a state");
    let who = Principal::of("root", Some(TokenId(200)));
    for (id, expires) in [(201, Some(1000)), (202, Some(1000))] {
        let new = Command::ChangeAccess(token(id, "a", expires, u64::MAX));
        assert!(ask(&mut state, &who, new).is_ok());
    }
    assert_eq!(token_ids(&state), [101, 102, 200, 201, 202]);
    let lasting = Command::ChangeAccess(token(203, "root", None, 0));
    assert!(ask(&mut state, &who, lasting).is_ok());
    let ahead = Command::ChangeAccess(token(204, "a", None, 1000 + DAY_MS));
    assert!(ask(&mut state, &who, ahead).is_ok());
    assert_eq!(token_ids(&state), [101, 102, 200, 203, 204]);
}

#[test]
fn a_state_that_gets_a_root_has_it_as_a_new_cluster_does_and_nobody_else_gains_by_it() {
    let token = RootToken {
        id: TokenId(300),
        hash: [9; 32],
    };
    // The role of that name was another's, of little weight, and the administrators were called something else.
    let mut state = furnished();
    let admins = vec![right(&[Verb::Admin], "", false)];
    assert!(put_role(&mut state, "admins", admins).is_ok());
    assert!(put_identity(&mut state, "c", with_roles(&["admins"])).is_ok());
    let lasting = Command::ChangeAccess(self::token(200, "c", None, 0));
    assert!(ask(&mut state, &root(), lasting).is_ok());
    let c = Principal::of("c", Some(TokenId(200)));
    let small = vec![right(&[Verb::Read], "keys/small/", false)];
    for change in [
        AccessChange::PutIdentity {
            name: "a".to_owned(),
            identity: with_roles(&["r", "root"]),
        },
        AccessChange::PutRole {
            name: "root".to_owned(),
            grants: small,
        },
    ] {
        assert!(ask(&mut state, &c, Command::ChangeAccess(change)).is_ok());
    }
    let mut off = State::genesis(Genesis::default());
    for state in [&mut state, &mut off] {
        state.give_root(&token);
        state.check_invariants();
        assert_eq!(reload(state).digest(), state.digest());
        assert!(state.access().enabled());
        let who = Principal::of("root", Some(TokenId(300)));
        let limits = || Command::ChangeLimits([("keys".to_owned(), 9)].into());
        assert!(ask(state, &who, limits()).is_ok());
        assert_eq!(ask(state, &root(), limits()), UNKNOWN, "the lost token");
        assert!(ask(state, &a(), limits()).is_err());
    }
    let roles = &state.access().identity("a").expect("it is there").roles;
    assert_eq!(*roles, ["r"]);
    assert!(ask(&mut state, &c, grant(1, 5000)).is_ok());
}

#[test]
fn no_change_of_access_makes_a_revision_and_all_of_it_outlives_a_restart_and_a_restore() {
    let mut state = furnished();
    let before = state.revision();
    let certified = Identity {
        certificate: Some("c.example".to_owned()),
        quota: Quota {
            leases: Some(3),
            places: None,
            requests_per_second: Some(9),
        },
        ..with_roles(&["r", "s"])
    };
    assert_eq!(
        put_identity(&mut state, "c", certified.clone()),
        Ok(Answer::AccessChanged { revision: before })
    );
    assert_eq!(state.revision(), before);
    let shown = |state: &State| {
        let access = state.access();
        let roles: Vec<_> = access
            .roles()
            .map(|(name, grants)| (name.to_owned(), grants.to_vec()))
            .collect();
        let identities: Vec<_> = access
            .identities()
            .map(|(name, it)| (name.to_owned(), it.clone()))
            .collect();
        let tokens: Vec<_> = access
            .tokens()
            .map(|(id, token)| (id, token.clone()))
            .collect();
        (access.enabled(), roles, identities, tokens)
    };
    let mut loaded = reload(&state);
    assert_eq!(shown(&loaded), shown(&state));
    assert_eq!(loaded.digest(), state.digest());
    assert!(ask(&mut loaded, &Principal::of("c", None), grant(1, 60_000)).is_ok());
    assert_eq!(
        loaded.access().identity_of_certificate("c.example"),
        Some("c")
    );
    let restored = state
        .clone()
        .restored(Revision(1 << 40))
        .expect("it is above");
    assert_eq!(shown(&restored.state), shown(&state));
    restored.state.check_invariants();
    // A checkpoint has what changed, and what went.
    state.take_changes();
    assert!(
        change(
            &mut state,
            AccessChange::DeleteIdentity {
                name: "a".to_owned()
            }
        )
        .is_ok()
    );
    let changed = state.take_changes();
    let gone: BTreeSet<Bytes> = changed
        .iter()
        .filter(|row| row.table == Table::Access && row.value.is_none())
        .map(|row| row.key.clone())
        .collect();
    let token_key = [&[3][..], &101u64.to_be_bytes()].concat();
    assert_eq!(
        gone,
        BTreeSet::from([Bytes::from_static(b"\x02a"), token_key.into()])
    );
}

#[test]
fn rows_of_access_that_do_not_fit_together_are_damage() {
    let state = furnished();
    let without = |table_key: &[u8]| {
        let rows = state
            .rows()
            .filter(|row| row.table != Table::Access || row.key != table_key);
        State::from_rows(rows.collect::<Vec<_>>().into_iter())
    };
    for key in [&b"\x01r"[..], b"\x02a"] {
        assert!(
            matches!(
                without(key),
                Err(LoadError::Row {
                    table: Table::Access,
                    ..
                })
            ),
            "{key:?}"
        );
    }
    for (key, value) in [
        (&b"\x04x"[..], &b""[..]),
        (b"\x00", b"\x02"),
        (b"\x00x", b"\x01"),
        (b"\x03a", b""),
    ] {
        let row = Row {
            table: Table::Access,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
        };
        let rows = state.rows().chain([row]).collect::<Vec<_>>();
        assert!(State::from_rows(rows.into_iter()).is_err(), "{key:?}");
    }
}

/// Entries that were written before there was access control: renewals, grants of leases and a write under a key.
#[test]
fn an_entry_of_before_is_read_as_one_of_nobody_in_particular_and_is_written_as_it_was() {
    const GRANT: &str = "01122e090100000000000000110100000000000000221a09010000000000000010d00f1a017722090a04686f7374120168";
    const RENEWALS: &str = "010a3d0901000000000000001218010000000000000002000000000000000900000000000000\
        1a18010000000000000002000000000000000900000000000000";
    const KEYED: &str = "0112580901000000000000001101000000000000001a230a09616e6f6e796d6f757312046f6e63651a10\
        00000000000000000000000000000007421f12180a160a016b120576616c75651a0a746578742f706c61696e1a0322016b";
    let mut state = State::genesis(Genesis::default());
    for hex in [GRANT, RENEWALS, KEYED] {
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        let bytes: Result<Vec<u8>, _> = digits.chunks(2).map(byte).collect();
        let bytes = bytes.expect("digits");
        let batch = decode_batch(&bytes).expect("an entry");
        assert_eq!(encode_batch(&batch), bytes);
        let renewed = batch.renewals.iter().map(|renewal| &renewal.principal);
        let asked = batch.requests.iter().map(|request| &request.principal);
        for who in renewed.chain(asked) {
            assert_eq!(*who, Principal::anonymous());
        }
        let applied = state.apply(Clock(0), &batch);
        assert!(applied.outcomes[0].outcome.is_ok(), "{applied:?}");
    }
    assert_eq!(state.lease_identity(lease(1)), None);
    // Nor have rows anything that members of before would not know.
    let lease_row = state.rows().find(|row| row.table == Table::Leases);
    let value = lease_row.expect("there is a lease").value;
    assert_eq!(
        &value[..],
        b"\x08\xd0\x0f\x12\x01w\x1a\x09\x0a\x04host\x12\x01h\x20\x02"
    );
    assert!(state.rows().all(|row| row.table != Table::Access));
}
