//! Versions of the rules: what the first one writes is what programs of before write, and what raising changes.

use crate::support::{
    acquire, apply_keyed, apply_one, arrange, entries, grant, hold, put, release, reload, renewals,
    requests, rows_of,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

fn of_version(version: u64) -> State {
    State::genesis(Genesis {
        version,
        ..Genesis::default()
    })
}

/// A short life of a cluster, with everything in it whose rows came to have more in version 2.
fn lived(mut state: State) -> State {
    let name = |ask: Acquire| Command::Acquire(ask);
    let keyed = [
        (0, "g", grant(1, 60_000)),
        (5, "h", grant(2, 60_000)),
        (6, "i", grant(3, 2_000)),
    ];
    for (stamp, key, command) in keyed {
        apply_keyed(&mut state, stamp, key, command);
    }
    let delayed = Acquire {
        lock_delay_ms: 5_000,
        ..acquire("delayed", 3, 0)
    };
    let jobs = hold(&mut state, 10, acquire("jobs", 1, 0));
    let commands = [
        (20, name(acquire("jobs", 2, 30_000))),
        (30, name(acquire("jobs", 3, 40_000))),
        (40, name(delayed)),
        (50, put("k", "v", Some(1))),
        (60, put("k", "w", None)),
        (70, release("jobs", 1, Some(jobs.fence.0))),
    ];
    for (stamp, command) in commands {
        apply_one(&mut state, stamp, command).expect("it is accepted");
    }
    let held = hold(&mut state, 80, acquire("others", 1, 0));
    let broken = Break {
        kind: Kind::Lock,
        name: "others".to_owned(),
        fence: held.fence,
        holder: None,
        now: false,
    };
    let told = apply_keyed(&mut state, 90, "b", Command::Break(broken));
    told.outcome.expect("it is held");
    state.apply(Clock(3_000), &renewals(&[1, 2]));
    state
}

/// The digest that the last program has that knew nothing of versions, after the same life.
#[test]
fn the_rows_of_the_first_version_are_those_of_programs_of_before() {
    let state = lived(of_version(1));
    state.check_invariants();
    assert_eq!(
        format!("{:032x}", state.digest()),
        "f5c72b0b0f87e5b16148dac90d4a6d62"
    );
    assert_eq!((state.revision(), state.rows().count()), (Revision(14), 35));
    assert_ne!(lived(of_version(2)).digest(), state.digest());
}

/// The bytes of an entry, as the same program writes them.
#[test]
fn an_entry_that_asks_for_nothing_newer_has_no_newer_field_in_it() {
    let batch = Batch {
        renewals: renewals(&[1, 2]).renewals,
        requests: requests([grant(7, 60_000)]).requests,
    };
    let bytes = encode_batch(&batch);
    assert_eq!(decode_batch(&bytes), Ok(batch));
    // Renewals have fields 1 to 3, requests those of their origin, key and command: 16 and 17 are two bytes of a tag.
    let newer: [&[u8]; 2] = [&[0x82, 0x01], &[0x89, 0x01]];
    for tag in newer {
        assert!(!bytes.windows(2).any(|two| two == tag), "{bytes:02x?}");
    }
}

fn raise(state: &mut State, to: u64) -> Outcome {
    apply_one(state, 4_000, Command::RaiseVersion { to })
}

#[test]
fn raising_changes_the_row_that_says_so_and_no_other() {
    let mut state = lived(of_version(1));
    let before = rows_of(&state);
    assert_eq!(
        raise(&mut state, 2),
        Ok(Answer::VersionRaised { version: 2 })
    );
    let after = rows_of(&state);
    let changed: Vec<_> = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value))
        .map(|((table, key), _)| (*table, key.to_vec()))
        .collect();
    assert_eq!(
        changed,
        [
            (Table::Meta, b"clock".to_vec()),
            (Table::Meta, b"rules".to_vec())
        ]
    );
    assert_eq!((state.version(), before.len()), (2, after.len()));
    assert_eq!(reload(&state).digest(), state.digest());
}

#[test]
fn raising_again_or_lower_changes_nothing_and_beyond_what_is_known_is_refused() {
    let mut state = of_version(2);
    let digest = |state: &State| (state.digest(), state.version());
    raise(&mut state, 2).expect("it is in force already");
    let before = digest(&state);
    for to in [0, 1, 2] {
        assert_eq!(
            raise(&mut state, to),
            Ok(Answer::VersionRaised { version: 2 })
        );
    }
    assert!(matches!(raise(&mut state, 3), Err(Refusal::Unsupported(_))));
    assert_eq!(digest(&state), before);
}

/// Since when the lock is held and waited for, as far as it is known.
fn since(state: &State) -> (Vec<Option<Clock>>, Vec<Option<Clock>>) {
    let view = state.queue(Kind::Lock, "jobs");
    let held = view.holders.iter().map(|holder| holder.acquired_at);
    let waits = view.queue.iter().map(|waiter| waiter.queued_at);
    (held.collect(), waits.collect())
}

#[test]
fn since_when_is_known_of_what_began_under_rules_that_know_it() {
    let mut state = of_version(1);
    for id in [1, 2, 3] {
        apply_one(&mut state, 0, grant(id, 60_000)).expect("it is granted");
    }
    hold(&mut state, 10, acquire("jobs", 1, 0));
    let wait = |state: &mut State, stamp, id| {
        let asked = Command::Acquire(acquire("jobs", id, 50_000));
        apply_one(state, stamp, asked).expect("it waits");
    };
    wait(&mut state, 20, 2);
    assert_eq!(since(&state), (vec![None], vec![None]));
    raise(&mut state, 2).expect("it is known");
    wait(&mut state, 5_000, 3);
    let late = Some(Clock(5_000));
    assert_eq!(since(&state), (vec![None], vec![None, late]));
    let held = state.queue(Kind::Lock, "jobs").holders[0].fence;
    apply_one(&mut state, 6_000, release("jobs", 1, Some(held.0))).expect("it is held");
    assert_eq!(since(&state), (vec![Some(Clock(6_000))], vec![late]));
    assert_eq!(reload(&state).digest(), state.digest());
}

#[test]
fn access_is_not_changed_under_rules_that_do_not_know_it() {
    let mut state = of_version(1);
    let change = || {
        Command::ChangeAccess(AccessChange::PutRole {
            name: "ops".to_owned(),
            grants: Vec::new(),
        })
    };
    let before = rows_of(&state);
    let refused = apply_one(&mut state, 0, change());
    assert!(
        matches!(refused, Err(Refusal::Unsupported(_))),
        "{refused:?}"
    );
    assert_eq!(rows_of(&state), before);
    raise(&mut state, 2).expect("it is known");
    apply_one(&mut state, 4_000, change()).expect("it is known now");
}

#[test]
fn a_command_says_which_rules_it_needs() {
    let change = Command::ChangeAccess(AccessChange::Enable { enabled: true });
    assert_eq!(change.needs_version(), ACCESS_STATE_VERSION);
    assert_eq!(put("k", "v", None).needs_version(), FIRST_STATE_VERSION);
    let batch = requests([
        put("k", "v", None),
        Command::RaiseVersion { to: 2 },
        Command::RaiseVersion { to: 3 },
    ]);
    assert_eq!(batch.raises_to(), Some(3));
    assert_eq!(requests([put("k", "v", None)]).raises_to(), None);
    assert_eq!(decode_batch(&encode_batch(&batch)), Ok(batch));
}

#[test]
fn a_cluster_that_begins_with_a_root_token_begins_with_rules_that_know_it() {
    let root = RootToken {
        id: TokenId(1),
        hash: [7; 32],
    };
    let state = State::genesis(Genesis {
        root: Some(root),
        version: 1,
        ..Genesis::default()
    });
    assert_eq!(state.version(), ACCESS_STATE_VERSION);
}

/// The rows of a state, with other rules.
fn with_rules(state: &State, version: u64) -> Vec<Row> {
    let rows = state.rows().map(|mut row| {
        if (row.table, &row.key[..]) == (Table::Meta, b"rules") {
            row.value = version.to_be_bytes().to_vec().into();
        }
        row
    });
    rows.collect()
}

#[test]
fn rows_of_newer_rules_are_told_from_damage_by_both_versions() {
    let state = lived(of_version(1));
    for version in [0, 3, u64::MAX] {
        let error = State::from_rows(with_rules(&state, version).into_iter());
        let error = error.expect_err("it is not known");
        assert_eq!(error, LoadError::Rules { found: version });
        let text = error.to_string();
        assert!(
            text.contains(&version.to_string()) && text.contains("1 to 2"),
            "{text}"
        );
    }
    // What newer rules write in a row that this program cannot read is not called damage.
    let mut rows = with_rules(&state, 3);
    let lease = rows.iter_mut().find(|row| row.table == Table::Leases);
    lease.expect("there are leases").value = b"\xff\xff"[..].into();
    let error = State::from_rows(rows.clone().into_iter()).expect_err("it is not known");
    assert_eq!(error, LoadError::Rules { found: 3 });
    for row in &mut rows {
        if &row.key[..] == b"rules" {
            row.value = 1u64.to_be_bytes().to_vec().into();
        }
    }
    let error = State::from_rows(rows.into_iter()).expect_err("it is damaged");
    assert!(matches!(error, LoadError::Row { .. }), "{error}");
}

#[test]
fn whoever_lost_all_tokens_gets_in_under_rules_that_know_tokens() {
    let mut state = lived(of_version(1));
    state.give_root(&RootToken {
        id: TokenId(1),
        hash: [7; 32],
    });
    state.check_invariants();
    assert_eq!(
        (state.version(), state.access().enabled()),
        (ACCESS_STATE_VERSION, true)
    );
    assert_eq!(reload(&state).digest(), state.digest());
}

#[test]
fn a_restored_state_follows_the_rules_that_it_followed() {
    for version in [1, 2] {
        let restored = lived(of_version(version)).restored(Revision(1 << 40));
        assert_eq!(restored.expect("it is far above").state.version(), version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens before, nothing that came with version 2 is in any row, and after it the digest is that of the rows.
    #[test]
    fn under_the_first_rules_no_row_has_anything_newer(
        before in vec((entries(3), any::<Option<prop::sample::Index>>()), 1..40),
        after in vec((entries(3), any::<Option<prop::sample::Index>>()), 0..20),
    ) {
        let mut state = of_version(1);
        let (mut clock, mut sent) = (0, Vec::new());
        let mut live = |state: &mut State, ((advance, mut batch), repeat): ((u64, Batch), _)| {
            clock += advance;
            arrange(state, &mut batch, &repeat, &mut sent);
            state.apply(Clock(clock), &batch);
            state.check_invariants();
            clock
        };
        for entry in before {
            live(&mut state, entry);
        }
        assert!(state.rows().all(|row| row.table != Table::Access));
        for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
            for name in ["x", "y", "z"] {
                let view = state.queue(kind, name);
                assert!(view.holders.iter().all(|holder| holder.acquired_at.is_none()));
                assert!(view.queue.iter().all(|waiter| waiter.queued_at.is_none()));
            }
        }
        let now = state.clock();
        state.apply(now, &requests([Command::RaiseVersion { to: 2 }]));
        state.check_invariants();
        assert_eq!(reload(&state).digest(), state.digest());
        for entry in after {
            live(&mut state, entry);
        }
        assert_eq!(reload(&state).digest(), state.digest());
        assert_eq!(state.version(), 2);
    }
}
