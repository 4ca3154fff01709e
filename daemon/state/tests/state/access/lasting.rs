//! What of it outlives a restart, a restore and the binary of before.

use super::*;

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
