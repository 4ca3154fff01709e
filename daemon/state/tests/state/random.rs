//! What holds for every sequence of entries.

use std::collections::BTreeMap;

use crate::support::{
    ROOT_TOKEN, acquires, arrange, commands, entries, everything, furnish, reload, rows_of,
    small_limits,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

fn start(limits: Limits) -> State {
    State::genesis(Genesis {
        limits,
        ..Genesis::default()
    })
}

/// One in which people are told apart, or not.
fn start_with_people(limits: Limits, guarded: bool) -> State {
    if !guarded {
        return start(limits);
    }
    let hash = [7; 32];
    let root = Some(RootToken {
        id: ROOT_TOKEN,
        hash,
    });
    let mut state = State::genesis(Genesis {
        limits,
        root,
        ..Genesis::default()
    });
    state.apply(Clock(0), &furnish());
    state
}

fn take_into(stored: &mut BTreeMap<(Table, Bytes), Bytes>, state: &mut State) {
    for change in state.take_changes() {
        match change.value {
            Some(value) => stored.insert((change.table, change.key), value),
            None => stored.remove(&(change.table, change.key)),
        };
    }
}

fn load(stored: &BTreeMap<(Table, Bytes), Bytes>) -> State {
    let rows = stored.iter().map(|((table, key), value)| Row {
        table: *table,
        key: key.clone(),
        value: value.clone(),
    });
    State::from_rows(rows).expect("a checkpoint loads")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_rows_come_back_as_the_same_state(
        entries in vec((entries(3), any::<Option<prop::sample::Index>>()), 1..40),
        small in any::<bool>(),
        guarded in any::<bool>(),
    ) {
        let mut state = start_with_people(if small { small_limits() } else { Limits::default() }, guarded);
        let (mut clock, mut sent) = (0, Vec::new());
        for ((advance, mut batch), repeat) in entries {
            clock += advance;
            arrange(&state, &mut batch, &repeat, &mut sent);
            let mut other = reload(&state);
            prop_assert_eq!(other.digest(), state.digest());
            prop_assert_eq!(other.next_deadline(), state.next_deadline());
            let applied = state.apply(Clock(clock), &batch);
            state.check_invariants();
            let after_reload = other.apply(Clock(clock), &batch);
            prop_assert_eq!(applied.outcomes, after_reload.outcomes);
            prop_assert_eq!(state.digest(), other.digest());
            prop_assert_eq!(rows_of(&state), rows_of(&other));
        }
    }

    #[test]
    fn a_checkpoint_at_any_entry_is_the_state(
        entries in vec((entries(3), any::<bool>(), any::<Option<prop::sample::Index>>()), 1..40),
        guarded in any::<bool>(),
    ) {
        let mut state = start_with_people(small_limits(), guarded);
        let mut stored = BTreeMap::new();
        let (mut clock, mut sent) = (0, Vec::new());
        for ((advance, mut batch), checkpoint, repeat) in entries {
            clock += advance;
            arrange(&state, &mut batch, &repeat, &mut sent);
            state.apply(Clock(clock), &batch);
            if checkpoint {
                take_into(&mut stored, &mut state);
                prop_assert_eq!(&stored, &rows_of(&state));
                let mut loaded = load(&stored);
                prop_assert_eq!(loaded.digest(), state.digest());
                loaded.check_invariants();
                prop_assert!(loaded.take_changes().is_empty());
            }
        }
    }

    #[test]
    fn a_watcher_sees_every_revision_once_or_is_told_that_it_cannot(
        entries in vec(entries(1), 1..40),
        max_events in 1usize..4,
    ) {
        let mut state = start(small_limits());
        let (mut clock, mut seen, mut truth) = (0, Revision(0), BTreeMap::new());
        for (advance, batch) in entries {
            clock += advance;
            let before = state.revision();
            state.apply(Clock(clock), &batch);
            // An entry keeps its own, unless it was told to forget it.
            let kept = before.max(state.compact_revision());
            let made = state.changes(kept, &everything(), 1 << 20, 1 << 30, 1 << 20).expect("it is kept");
            for change in made.changes {
                truth.insert(change.revision, change.events);
            }
            let told = truth.keys().last().copied().unwrap_or(Revision(1));
            prop_assert_eq!(told.max(state.compact_revision()), state.revision());
            match state.changes(seen, &everything(), max_events, 1 << 20, 1 << 20) {
                Ok(page) => {
                    let expected: Vec<_> = truth.range(seen..).filter(|(at, _)| seen < **at && **at <= page.through).collect();
                    let got: Vec<_> = page.changes.iter().map(|change| (&change.revision, &change.events)).collect();
                    prop_assert_eq!(expected, got);
                    prop_assert_eq!(page.more, page.through < state.revision());
                    seen = page.through;
                }
                Err(error) => {
                    prop_assert_eq!(error, ReadError::Compacted { compact_revision: state.compact_revision() });
                    prop_assert!(seen < state.compact_revision());
                    seen = state.compact_revision();
                }
            }
            let ahead = state.changes(Revision(state.revision().0 + 1), &everything(), 10, 10, 10);
            prop_assert_eq!(ahead, Err(ReadError::Ahead));
        }
    }

    #[test]
    fn entries_survive_their_encoding(batch in entries(3)) {
        prop_assert_eq!(decode_batch(&encode_batch(&batch.1)), Ok(batch.1));
    }

    #[test]
    fn requests_survive_their_encoding(command in commands(3)) {
        let request = crate::support::request(command);
        prop_assert_eq!(decode_request(&encode_request(&request)), Ok(request));
    }

    #[test]
    fn whatever_can_be_decoded_can_be_applied(
        batch in entries(3),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        noise in vec(any::<u8>(), 0..60),
        stamp in any::<u64>(),
    ) {
        let mut bytes = encode_batch(&batch.1).to_vec();
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let mut state = start(small_limits());
        for bytes in [bytes, [&[1], &noise[..]].concat(), noise] {
            if let Ok(batch) = decode_batch(&bytes) {
                state.apply(Clock(stamp), &batch);
                state.check_invariants();
            }
            let _ = decode_request(&bytes);
        }
    }

    #[test]
    fn extreme_numbers_end_in_refusals_or_saturate(
        mut acquire in acquires(3),
        wait_ms in any::<u64>(),
        stamp in any::<u64>(),
        permits in any::<u64>(),
    ) {
        acquire.wait_ms = wait_ms;
        acquire.wanted[0].share = Share::Permits { permits, limit: u64::MAX };
        acquire.kind = Kind::Semaphore;
        let mut state = start(Limits::default());
        let batch = crate::support::requests([crate::support::grant(1, 1000), Command::Acquire(acquire.clone()), Command::Acquire(acquire)]);
        state.apply(Clock(stamp), &batch);
        state.check_invariants();
        state.apply(Clock(u64::MAX), &Batch::default());
        state.check_invariants();
    }
}
