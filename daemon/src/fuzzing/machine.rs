//! The state machine: whatever can be decoded can be applied, and members that apply the same come to the same.
//!
//! The input is a list of entries: how far the clock advances (2 bytes; the highest bit counts in seconds), the length
//! of the entry (2 bytes), the entry.

use tenure_state::{
    Batch, Clock, Genesis, Limits, Revision, Row, State, decode_batch, encode_batch,
};

use super::{Input, assert_says_something};

/// Entries of one input: each is applied twice and the state is copied before it.
const MOST_ENTRIES: usize = 24;

/// Apply is total and deterministic, also beside a member that has just loaded its rows; a snapshot of the state is the
/// state.
///
/// # Panics
/// Where that is not so.
pub fn machine(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut state = State::genesis(Genesis {
        first_revision: Revision(1),
        limits: small_limits(),
        ..Genesis::default()
    });
    let mut clock = 0u64;
    for _ in 0..MOST_ENTRIES {
        if input.is_empty() {
            break;
        }
        let advance = input.number::<2>();
        clock = clock.saturating_add(match advance & 0x8000 {
            0 => advance,
            _ => (advance & 0x7fff) * 1000,
        });
        let entry = input.sized();
        let batch = match decode_batch(entry) {
            Ok(batch) => batch,
            Err(error) => {
                assert_says_something(&error);
                continue;
            }
        };
        assert_eq!(
            decode_batch(&encode_batch(&batch)).as_ref(),
            Ok(&batch),
            "an entry does not survive its encoding"
        );
        apply_on_two(&mut state, Clock(clock), &batch);
    }
    assert!(reload(&state).take_changes().is_empty());
}

fn apply_on_two(state: &mut State, clock: Clock, batch: &Batch) {
    let mut other = reload(state);
    assert_eq!(other.next_deadline(), state.next_deadline());
    let before = state.revision();
    let applied = state.apply(clock, batch);
    state.check_invariants();
    let by_other = other.apply(clock, batch);
    assert_eq!(
        applied.outcomes.len(),
        batch.renewals.len() + batch.requests.len(),
        "everybody who asked is told"
    );
    assert_eq!(
        applied.outcomes, by_other.outcomes,
        "two members decided differently"
    );
    assert_eq!(
        state.digest(),
        other.digest(),
        "two members came to different states"
    );
    assert!(before <= state.revision(), "the revision went back");
}

fn reload(state: &State) -> State {
    let rows: Vec<Row> = state.rows().collect();
    let loaded = State::from_rows(rows.into_iter()).expect("the rows of a state load");
    assert_eq!(
        loaded.digest(),
        state.digest(),
        "a state and its rows differ"
    );
    loaded
}

/// Limits that a small input can reach.
fn small_limits() -> Limits {
    Limits {
        history_retention_ms: 3000,
        history_bytes: 6000,
        request_bytes: 4000,
        value_bytes: 2000,
        keys: 4,
        waiters: 5,
        attached_per_lease: 4,
        idempotency_records: 2,
        idempotency_retention_ms: 1500,
        ..Limits::default()
    }
}
