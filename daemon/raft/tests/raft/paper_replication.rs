//! One test for each claim of the Raft paper (extended version) about the log, with its section.

use crate::common::*;
use tenure_raft::*;

/// Raft §5.3: a leader appends a proposal, sends it to all, and commits it when a majority has it.
#[test]
fn entry_is_committed_when_a_majority_has_it() {
    let check = |size: u64, acceptors: u64, commits: bool| {
        let mut group = Group::of(size);
        group.elect(1);
        group.propose(1, "x").unwrap();
        group.persist_all(1);
        group.deliver(|m| m.to.0 < 2 + acceptors);
        (2..2 + acceptors).for_each(|follower| group.persist_all(follower));
        group.deliver(|m| m.to == id(1));
        assert_eq!(
            group.commit_of(1),
            if commits { 3 } else { 2 },
            "{acceptors} acceptors of {size}"
        );
    };
    check(1, 0, true);
    check(3, 0, false);
    check(3, 1, true);
    check(5, 1, false);
    check(5, 2, true);
}

/// Thesis §10.2.1: the leader writes while it sends, and its own log counts only as far as it is durable.
#[test]
fn leader_sends_before_its_disk_and_counts_itself_after_it() {
    let mut group = Group::of(3);
    group.elect(1);
    group.propose(1, "x").unwrap();
    assert_eq!(
        group
            .network
            .iter()
            .filter(|m| matches!(m.body, Body::Append { .. }))
            .count(),
        2
    );
    group.deliver(|_| true);
    group.persist_all(2);
    group.deliver(|m| m.to == id(1));
    assert_eq!(
        group.commit_of(1),
        2,
        "one follower and a leader's unfinished write are no majority"
    );
    group.persist_all(3);
    group.deliver(|m| m.to == id(1));
    assert_eq!(group.commit_of(1), 3, "two followers are one");
    assert_eq!(
        group.raft(1).status().handed_out,
        LogIndex(2),
        "what is applied must be durable here"
    );
    group.persist_all(1);
    assert_eq!(group.raft(1).status().handed_out, LogIndex(3));
}

/// A single voter commits by its own disk, so nothing is committed before it has written.
#[test]
fn single_voter_commits_only_what_is_durable() {
    let mut group = Group::of(1);
    group.elect(1);
    group.propose(1, "x").unwrap();
    assert_eq!(group.commit_of(1), 2);
    group.persist_all(1);
    assert_eq!(group.commit_of(1), 3);
}

/// Raft §5.3: followers learn the commit index from the leader and apply in the order of the log.
#[test]
fn followers_apply_committed_entries_in_order() {
    let mut group = Group::of(3);
    group.elect(1);
    for text in ["a", "b", "c"] {
        group.propose(1, text).unwrap();
    }
    group.settle();
    let applied: Vec<u64> = group
        .node(3)
        .applied
        .iter()
        .map(|entry| entry.index.0)
        .collect();
    assert_eq!(applied, [2, 3, 4, 5]);
}

/// Raft §5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses".
#[test]
fn follower_refuses_entries_that_do_not_connect() {
    let check = |previous: LogPosition, expected: AppendResult| {
        let mut group = group_with_logs(&[&[1, 2], &[], &[]]);
        let answers = ask(&mut group, message(2, 1, 3, append(previous, vec![], 0)));
        assert_eq!(
            answers,
            [Body::AppendResponse {
                result: expected,
                round: 1
            }]
        );
    };
    let rejected = |previous, hint| AppendResult::Rejected {
        previous: LogIndex(previous),
        hint,
    };
    check(
        position(1, 1),
        AppendResult::Accepted {
            matched: LogIndex(1),
        },
    );
    check(
        position(2, 3),
        AppendResult::Accepted {
            matched: LogIndex(3),
        },
    );
    check(position(3, 3), rejected(3, position(2, 3)));
    check(position(1, 3), rejected(3, position(1, 2)));
    check(position(3, 7), rejected(7, position(2, 3)));
}

/// Raft §5.3: "If an existing entry conflicts with a new one, delete the existing entry and all that follow it", and only then.
#[test]
fn follower_overwrites_conflicts_and_leaves_the_rest() {
    let check = |sent: &[u64], expected: &[u64]| {
        let mut group = group_with_logs(&[&[2, 2, 2], &[], &[]]);
        group.receive(message(2, 1, 4, append(position(1, 1), entries(sent), 0)));
        assert_eq!(group.terms_of(1), expected);
        group.persist_all(1);
        assert_eq!(
            group
                .node(1)
                .disk
                .entries
                .iter()
                .map(|e| e.term.0)
                .collect::<Vec<_>>(),
            expected
        );
    };
    check(&[], &[2, 2, 2]);
    check(&[2], &[2, 2, 2]);
    check(&[2, 2, 2, 4], &[2, 2, 2, 4]);
    check(&[2, 3], &[2, 3]);
    check(&[3, 4], &[3, 4]);
}

/// Raft §5.3, figure 7: a leader makes every log equal its own.
#[test]
fn leader_brings_the_logs_of_figure_7_to_agree() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        // The figure begins with the election for term 8; the third member's empty log lets the leader win it.
        let mut group = group_with_logs(&[leader, follower, &[]]);
        for number in [1, 3] {
            group.node_mut(id(number)).disk.hard_state.term = Term(7);
            group.restart(number);
        }
        group.crash(2);
        group.elect(1);
        group.restart(2);
        group.pass(ms(2000));
        let agreed = group.terms_of(1);
        assert_eq!(group.terms_of(2), agreed);
        assert_eq!(group.terms_of(3), agreed);
        assert!(agreed.starts_with(leader), "{agreed:?}");
    }
}

/// Raft §5.3, end: the search for agreement skips whole terms, so that one message a term is enough.
#[test]
fn search_for_agreement_skips_whole_terms() {
    let ours: Vec<u64> = [vec![1; 3], vec![5; 60]].concat();
    let theirs: Vec<u64> = [vec![1; 3], vec![2; 30], vec![3; 30]].concat();
    let mut group = group_with_logs(&[&ours, &theirs, &[]]);
    group.elect(1);
    let probes = group
        .trace
        .iter()
        .filter(|line| line.starts_with("n2") && line.contains("rejected"))
        .count();
    assert!(probes <= 3, "{probes} rejections");
    assert_eq!(group.terms_of(2), group.terms_of(1));
}

/// Raft §5.4.1: "the voter denies its vote if its own log is more up-to-date", by the last term, then by length.
#[test]
fn vote_is_denied_to_a_log_that_is_less_up_to_date() {
    let check = |own: &[u64], last: LogPosition, granted: bool| {
        let mut group = group_with_logs(&[own, &[], &[]]);
        let vote = Body::Vote {
            last,
            transfer: false,
        };
        assert_eq!(
            ask(&mut group, message(2, 1, 9, vote)),
            [Body::VoteResponse { granted }],
            "{own:?} {last:?}"
        );
        let mut group = group_with_logs(&[own, &[], &[]]);
        assert_eq!(
            ask(&mut group, message(2, 1, 9, Body::PreVote { last })),
            [Body::PreVoteResponse { granted }]
        );
    };
    check(&[1], position(1, 2), true);
    check(&[1], position(1, 3), true);
    check(&[1], position(2, 1), true);
    check(&[2], position(1, 9), false);
    check(&[1, 1], position(1, 2), false);
    check(&[1, 2], position(2, 2), false);
}

/// Raft §5.4.2, figure 8: an entry of an earlier term is committed only through one of the leader's own.
#[test]
fn entries_of_earlier_terms_are_not_committed_by_counting() {
    let mut group = group_with_logs(&[&[2], &[2], &[2]]);
    group.expire(1);
    while !group.raft(1).is_leader() {
        group.persist_all(1);
        group.persist_all(2);
        group.deliver(|_| true);
    }
    assert_eq!(group.raft(1).term(), Term(3));
    group.network.clear();
    // Both followers have entry 2 of term 2; the leader's own entry 3 has reached nobody.
    for follower in [2, 3] {
        let result = AppendResult::Accepted {
            matched: LogIndex(2),
        };
        group.receive(message(
            follower,
            1,
            3,
            Body::AppendResponse { result, round: 1 },
        ));
    }
    group.persist_all(1);
    assert_eq!(
        group.commit_of(1),
        1,
        "a majority has 2@2, and it may still be replaced"
    );
    let result = AppendResult::Accepted {
        matched: LogIndex(3),
    };
    group.receive(message(2, 1, 3, Body::AppendResponse { result, round: 1 }));
    assert_eq!(group.commit_of(1), 3);
}

/// Raft figure 2: a follower commits min(leader's commit, index of the last *new* entry): what it has beyond may be stale.
#[test]
fn follower_commits_no_more_than_the_message_proves() {
    let check = |previous: LogPosition, sent: Vec<Entry>, commit: u64, expected: u64| {
        let mut group = group_with_logs(&[&[1, 1, 1], &[], &[]]);
        group.receive(message(2, 1, 2, append(previous, sent, commit)));
        assert_eq!(group.commit_of(1), expected);
    };
    check(position(1, 1), vec![], 4, 1);
    check(position(1, 2), vec![], 4, 2);
    check(position(1, 1), entries(&[1]), 4, 2);
    check(position(1, 4), vec![], 9, 4);
    check(position(1, 4), vec![], 3, 3);
}

/// Raft §5.5: requests may be repeated, since handling them twice changes nothing.
#[test]
fn repeated_and_late_appends_change_nothing() {
    let mut group = Group::of(3);
    let first = message(2, 1, 2, append(position(1, 1), entries(&[2]), 1));
    group.receive(first.clone());
    group.receive(message(
        2,
        1,
        2,
        append(position(2, 2), vec![command(2, 3, "x")], 2),
    ));
    group.receive(first);
    assert_eq!(
        group.terms_of(1),
        [2, 2],
        "a late message must not remove what came after it"
    );
    group.persist_all(1);
    assert_eq!(group.node(1).disk.entries.len(), 2);
}

/// Raft §7: a follower whose place in the leader's log is gone is sent a snapshot, and goes on behind it.
#[test]
fn follower_behind_the_log_is_sent_a_snapshot() {
    let settings = Settings {
        kept_entries: 0,
        piece_bytes: 2,
        ..Settings::default()
    };
    let mut group = Group::with(3, settings);
    group.elect(1);
    group.cut_off(3);
    for text in ["a", "b", "c"] {
        group.propose(1, text).unwrap();
        group.pass(ms(50));
    }
    group.checkpoint(1);
    group.heal();
    group.propose(1, "d").unwrap();
    group.pass(ms(1000));
    assert_eq!(group.raft(3).status().base, position(2, 5));
    assert_eq!(group.node(3).applied_meta.position, position(2, 6));
    assert_eq!(
        group.raft(1).status().progress[1].state,
        PeerState::Replicate
    );
    group.crash(3);
    group.restart(3);
    assert_eq!(
        (group.raft(3).status().base, group.raft(3).status().last),
        (position(2, 5), position(2, 6))
    );
}

/// Raft §8: a leader commits an entry of its own term first, and serves no read before.
#[test]
fn leader_appends_an_empty_entry_and_serves_no_read_before_it_is_committed() {
    let mut group = group_with_logs(&[&[2], &[2], &[2]]);
    group.expire(1);
    while !group.raft(1).is_leader() {
        group.persist_all(1);
        group.persist_all(2);
        group.deliver(|_| true);
    }
    let last = group.raft(1).log_entries().last().unwrap().clone();
    assert_eq!(
        (last.position(), last.payload),
        (position(3, 3), Payload::Empty)
    );
    group.with_raft(1, |raft| raft.read(ReadToken(1)));
    // Heartbeats are answered, appends are not.
    group.drop_messages(|m| matches!(m.body, Body::Append { .. }));
    group.deliver(|_| true);
    group.deliver(|_| true);
    assert_eq!(group.last_read(1), None);
    assert!(!group.raft(1).status().settled);
}
