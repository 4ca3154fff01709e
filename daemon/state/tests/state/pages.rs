//! Reads in pieces against the whole.

use crate::support::{acquire, apply_one, delete, entries, grant, keys_at, lease, put, requests};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

const NAMES: [&str; 3] = ["x", "y", "z"];

fn used(state: &State, kind: Kind, prefix: &str) -> Vec<(String, QueueView)> {
    let names = NAMES.iter().filter(|name| name.starts_with(prefix));
    let views = names.map(|name| (name.to_string(), state.queue(kind, name)));
    views
        .filter(|(_, view)| 0 < view.holder_count + view.queue_length)
        .map(|(name, view)| {
            let queue = Vec::new();
            (name, QueueView { queue, ..view })
        })
        .collect()
}

fn all_pages(state: &State, kind: Kind, prefix: &str, limit: usize) -> Vec<(String, QueueView)> {
    let mut all: Vec<(String, QueueView)> = Vec::new();
    loop {
        let after = all.last().map(|(name, _)| name.clone());
        let page = state.queues_page(kind, prefix, after.as_deref(), limit, 2);
        assert!(!page.more || !page.queues.is_empty(), "a page gets on");
        all.extend(page.queues);
        if !page.more {
            assert_eq!(page.count as usize, all.len(), "the count is of all");
            return all;
        }
    }
}

fn keys_in_pieces(
    state: &State,
    revision: Revision,
    range: &KeyRange,
    order: Order,
) -> Vec<KeyEntry> {
    let (mut all, mut rest) = (Vec::new(), Some(range.clone()));
    while let Some(range) = rest {
        let piece = state
            .keys_piece(revision, &range, order, 2, 3)
            .expect("it is kept");
        assert!(piece.keys.len() <= 2);
        all.extend(piece.keys.iter().map(|key| (**key).clone()));
        rest = piece.rest;
    }
    all
}

fn count_in_pieces(state: &State, revision: Revision, range: &KeyRange, max_rows: usize) -> u64 {
    let (mut count, mut rest) = (0, Some(range.clone()));
    while let Some(range) = rest {
        let piece = state
            .count_piece(revision, &range, max_rows)
            .expect("it is kept");
        count += piece.count;
        rest = piece.rest;
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_together_are_what_is_held_or_waited_for(entries in vec(entries(3), 1..30)) {
        let mut state = State::genesis(Genesis::default());
        let mut clock = 0;
        for (advance, batch) in entries {
            clock += advance;
            state.apply(Clock(clock), &batch);
            for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
                for prefix in ["", "y", "yy"] {
                    prop_assert_eq!(all_pages(&state, kind, prefix, 2), used(&state, kind, prefix));
                }
            }
        }
    }

    #[test]
    fn pieces_of_keys_are_the_range_at_their_revision(
        entries in vec(entries(1), 1..30),
        start in "[a-c]{0,1}",
        end in prop::option::of("[a-d]{1,2}"),
    ) {
        let mut state = State::genesis(Genesis::default());
        let range = KeyRange { start: start.into(), end: end.map(Bytes::from) };
        let (mut clock, mut revisions) = (0, vec![Revision(1)]);
        for (advance, batch) in entries {
            clock += advance;
            state.apply(Clock(clock), &batch);
            revisions.push(state.revision());
        }
        for revision in revisions {
            if revision < state.compact_revision() {
                let refused = Err(ReadError::Compacted { compact_revision: state.compact_revision() });
                prop_assert_eq!(state.keys_piece(revision, &range, Order::Ascending, 2, 3), refused);
                continue;
            }
            let all = keys_at(&state, revision).expect("it is kept");
            let within = |key: &KeyEntry| range.start <= key.key && range.end.as_ref().is_none_or(|end| key.key < end);
            let mut whole: Vec<KeyEntry> = all.into_iter().filter(within).collect();
            prop_assert_eq!(count_in_pieces(&state, revision, &range, 1), whole.len() as u64);
            for key in &whole {
                let read = state.key_at(revision, &key.key).expect("it is kept");
                prop_assert_eq!(read.as_deref(), Some(key));
            }
            prop_assert_eq!(&keys_in_pieces(&state, revision, &range, Order::Ascending), &whole);
            whole.reverse();
            prop_assert_eq!(keys_in_pieces(&state, revision, &range, Order::Descending), whole);
        }
    }
}

#[test]
fn an_older_count_over_many_keys_is_right_and_dear_only_where_something_changed() {
    let mut state = State::genesis(Genesis::default());
    let puts = (0..5000).map(|number| put(&format!("k{number:05}"), "", None));
    state.apply(Clock(0), &requests(puts));
    let then = state.revision();
    for key in ["k00000", "k02500", "k04999"] {
        assert!(apply_one(&mut state, 0, delete(key)).is_ok());
    }
    assert!(apply_one(&mut state, 0, put("k02500x", "", None)).is_ok());
    let all = KeyRange::prefix(b"k");
    assert_eq!(count_in_pieces(&state, then, &all, 256), 5000);
    assert_eq!(count_in_pieces(&state, state.revision(), &all, 256), 4998);
    let some = KeyRange {
        start: Bytes::from_static(b"k01000"),
        end: Some(Bytes::from_static(b"k04000")),
    };
    assert_eq!(count_in_pieces(&state, then, &some, 256), 3000);
    let piece = state.count_piece(then, &some, 1200).expect("it is kept");
    assert_eq!(piece.rest, None, "whole chunks are a row each: {piece:?}");
    let early = state
        .count_piece(Revision(10), &all, 256)
        .expect("it is kept");
    assert!(early.rest.is_some(), "it is bounded: {early:?}");
    assert_eq!(count_in_pieces(&state, Revision(10), &all, 256), 9);
}

#[test]
fn a_key_before_an_event_is_what_the_event_replaced() {
    let mut state = State::genesis(Genesis::default());
    let mut before = None;
    for value in ["1", "2"] {
        assert!(apply_one(&mut state, 0, put("a", value, None)).is_ok());
        assert_eq!(state.key_before(state.revision(), b"a"), before);
        before = state.key(b"a");
    }
    assert!(apply_one(&mut state, 0, delete("a")).is_ok());
    assert_eq!(state.key_before(state.revision(), b"a"), before);
    assert_eq!(state.key(b"a"), None);
    assert_eq!(state.key_at(Revision(99), b"a"), Err(ReadError::Ahead));
}

#[test]
fn leases_come_in_pages_by_their_ids() {
    let mut state = State::genesis(Genesis::default());
    state.apply(Clock(0), &requests((1..=5).map(|id| grant(id * 3, 9000))));
    let page = |after: Option<u64>, limit| -> Vec<u64> {
        let page = state.leases_page(after.map(lease), limit, Clock(100));
        assert!(page.iter().all(|view| view.clock == Clock(100)));
        page.iter().map(|view| view.lease.number()).collect()
    };
    assert_eq!(page(None, 2), [3, 6]);
    assert_eq!(page(Some(6), 10), [9, 12, 15]);
    assert_eq!(page(Some(15), 10), [0u64; 0]);
    assert_eq!(page(Some((1 << 63) - 1), 10), [0u64; 0]);
}

#[test]
fn a_semaphore_shows_its_limit_while_it_is_used_and_what_is_held_of_it() {
    let mut state = State::genesis(Genesis::default());
    state.apply(Clock(0), &requests([grant(1, 9000), grant(2, 9000)]));
    let ask = |id, permits| {
        let mut ask = acquire("pool", id, 60_000);
        ask.kind = Kind::Semaphore;
        ask.wanted[0].share = Share::Permits { permits, limit: 4 };
        Command::Acquire(ask)
    };
    assert!(apply_one(&mut state, 0, ask(1, 3)).is_ok());
    assert!(apply_one(&mut state, 0, ask(2, 2)).is_ok());
    let view = state.queue(Kind::Semaphore, "pool");
    assert_eq!((view.limit, view.permits_held), (Some(4), 3));
    let attached = state.attached(lease(2), 10);
    let place = Attached::Place {
        kind: Kind::Semaphore,
        name: "pool".to_owned(),
        owner: String::new(),
    };
    assert_eq!(attached, [place]);
    for id in [1, 2] {
        let revoke = Command::RevokeLease { lease: lease(id) };
        assert!(apply_one(&mut state, 0, revoke).is_ok());
    }
    let view = state.queue(Kind::Semaphore, "pool");
    assert_eq!((view.limit, view.permits_held), (None, 0));
    assert_eq!(
        state.queues_page(Kind::Semaphore, "", None, 10, 10).count,
        0
    );
}
