//! Changes of who may do what: what is refused, what lets nobody in any more, and tokens.

use super::*;

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
