//! One test per claim of the Raft paper (extended version) and of the thesis, with its section.

#![allow(clippy::unwrap_used, reason = "a file of tests")]

mod common;

use bytes::Bytes;
use common::*;
use tenure_raft::*;

fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
    Message {
        from: id(from),
        to: id(to),
        term: Term(term),
        body,
    }
}

fn append(previous: LogPosition, entries: Vec<Entry>, commit: u64) -> Body {
    Body::Append {
        previous,
        entries,
        commit: LogIndex(commit),
        round: 1,
    }
}

/// A group of which each member's log holds entries of the terms given, behind the genesis.
fn group_with_logs(logs: &[&[u64]]) -> Group {
    let count = logs.len() as u64;
    let disks = (1..).zip(logs).map(|(number, terms)| {
        let mut disk = Disk::new(voters(1..=count));
        disk.entries = entries(terms);
        disk.hard_state.term = disk.last().term;
        (id(number), disk)
    });
    Group::new(disks.collect(), Settings::default(), 1)
}

/// The answers that a single member gave, its disk being fast.
fn answers(group: &mut Group, to: u64) -> Vec<Body> {
    group.persist_all(to);
    let answers = group
        .network
        .iter()
        .filter(|message| message.from == id(to))
        .map(|message| message.body.clone());
    let answers = answers.collect();
    group.network.clear();
    answers
}

fn ask(group: &mut Group, question: Message) -> Vec<Body> {
    let to = question.to.0;
    group.network.clear();
    group.receive(question);
    answers(group, to)
}

/// Raft §5.1: "If one server's current term is smaller than the other's, then it updates its current term to the larger value."
#[test]
fn member_of_any_role_adopts_a_higher_term_and_follows() {
    let check = |prepare: fn(&mut Group)| {
        let mut group = Group::of(3);
        prepare(&mut group);
        group.receive(message(2, 1, 9, append(position(1, 1), vec![], 1)));
        let status = group.raft(1).status();
        assert_eq!(
            (status.term, status.role, status.leader),
            (Term(9), RoleName::Follower, Some(id(2)))
        );
        assert_eq!(status.vote, None);
    };
    check(|_| {});
    check(|group| group.expire(1));
    check(|group| {
        group.expire(1);
        group.deliver(|_| true);
        group.deliver(|_| true);
        assert_eq!(group.raft(1).term(), Term(2), "a candidate");
    });
    check(|group| group.elect(1));
}

/// Raft §5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn requests_of_an_older_term_are_refused_with_the_newer() {
    let check = |body: Body, expected: Body| {
        let mut group = group_with_logs(&[&[4], &[], &[]]);
        group.receive(message(2, 1, 3, body));
        group.persist_all(1);
        assert_eq!(group.network, [message(1, 2, 4, expected)]);
    };
    let vote = Body::Vote {
        last: position(3, 9),
        transfer: false,
    };
    check(vote, Body::VoteResponse { granted: false });
    check(
        Body::PreVote {
            last: position(3, 9),
        },
        Body::PreVoteResponse { granted: false },
    );
    let rejected = |previous, hint, round| Body::AppendResponse {
        result: AppendResult::Rejected {
            previous: LogIndex(previous),
            hint,
        },
        round,
    };
    check(
        append(position(1, 1), vec![], 1),
        rejected(1, position(1, 1), 1),
    );
    check(
        Body::Heartbeat {
            commit: LogIndex(9),
            round: 3,
        },
        rejected(0, position(1, 1), 3),
    );
    check(
        Body::ReadIndex { batch: 3 },
        Body::ReadIndexRefused { batch: 3 },
    );
}

/// Raft §5.2: members start as followers, and begin an election when they hear nothing for an election timeout.
#[test]
fn member_starts_as_follower_and_campaigns_after_the_election_timeout() {
    let mut group = Group::of(3);
    assert_eq!(group.raft(1).status().role, RoleName::Follower);
    let due = group.raft(1).next_tick();
    group.tick(1, due - ms(1));
    assert_eq!(group.raft(1).status().role, RoleName::Follower);
    group.tick(1, ms(1));
    assert_eq!(group.raft(1).status().role, RoleName::Candidate);
    assert_eq!(
        group.raft(1).term(),
        Term(1),
        "it asks before it raises its term"
    );
}

/// Raft §5.2: "Raft uses randomized election timeouts": from [t, 2t), drawn anew each time.
#[test]
fn election_timeouts_are_drawn_anew_from_once_to_twice_the_setting() {
    let mut group = Group::of(3);
    group.cut_off(1);
    let drawn: Vec<_> = (0..100)
        .map(|_| {
            let due = group.raft(1).next_tick();
            group.tick(1, due);
            due
        })
        .collect();
    assert!(
        drawn.iter().all(|due| ms(300) <= *due && *due < ms(600)),
        "{drawn:?}"
    );
    assert!(
        drawn.iter().any(|due| *due < ms(350)) && drawn.iter().any(|due| ms(550) < *due),
        "{drawn:?}"
    );
}

/// Raft §5.2: a leader sends "periodic heartbeats to all followers", and they keep followers from campaigning.
#[test]
fn heartbeats_keep_followers_from_campaigning() {
    let mut group = Group::of(3);
    group.elect(1);
    group.pass(ms(5000));
    assert_eq!((group.leader(), group.raft(2).term()), (Some(1), Term(2)));
}

/// Raft §5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis".
#[test]
fn vote_goes_to_the_first_candidate_of_a_term_and_survives_a_restart() {
    let mut group = Group::of(3);
    let vote = Body::Vote {
        last: position(1, 1),
        transfer: false,
    };
    let granted = [Body::VoteResponse { granted: true }];
    let refused = [Body::VoteResponse { granted: false }];
    assert_eq!(ask(&mut group, message(2, 1, 2, vote.clone())), granted);
    assert_eq!(ask(&mut group, message(3, 1, 2, vote.clone())), refused);
    assert_eq!(
        ask(&mut group, message(2, 1, 2, vote.clone())),
        granted,
        "the same candidate may ask again"
    );
    group.crash(1);
    group.restart(1);
    assert_eq!(ask(&mut group, message(3, 1, 2, vote.clone())), refused);
    assert_eq!(ask(&mut group, message(3, 1, 3, vote)), granted);
}

/// Raft §5.2 and figure 2: term and vote are on disk before the vote is spoken of, a candidate's own vote too.
#[test]
fn votes_are_durable_before_they_count() {
    let mut group = Group::of(3);
    group.receive(message(
        2,
        1,
        2,
        Body::Vote {
            last: position(1, 1),
            transfer: false,
        },
    ));
    assert_eq!(group.network, []);
    group.persist_all(1);
    assert_eq!(
        group.network,
        [message(1, 2, 2, Body::VoteResponse { granted: true })]
    );

    let mut group = Group::of(1);
    group.expire(1);
    assert!(!group.raft(1).is_leader(), "its own vote is not durable");
    group.persist(1);
    assert!(group.raft(1).is_leader());
}

/// Raft §5.2: a candidate wins with a majority, and only then.
#[test]
fn candidate_wins_with_a_majority_of_votes() {
    let check = |size: u64, grants: u64, wins: bool| {
        let mut group = Group::of(size);
        group.expire(1);
        for voter in 2..=size {
            group.receive(message(
                voter,
                1,
                2,
                Body::PreVoteResponse { granted: true },
            ));
        }
        group.persist_all(1);
        for voter in 2..2 + grants {
            group.receive(message(voter, 1, 2, Body::VoteResponse { granted: true }));
            // A doubled answer counts once.
            group.receive(message(voter, 1, 2, Body::VoteResponse { granted: true }));
        }
        assert_eq!(group.raft(1).is_leader(), wins, "{grants} grants of {size}");
    };
    check(3, 0, false);
    check(3, 1, true);
    check(4, 1, false);
    check(4, 2, true);
    check(5, 1, false);
    check(5, 2, true);
}

/// Raft §5.2: a candidate that hears a leader of its own term "returns to follower state".
#[test]
fn candidate_follows_a_leader_of_its_own_term() {
    let mut group = Group::of(3);
    group.expire(1);
    group.receive(message(2, 1, 2, Body::PreVoteResponse { granted: true }));
    assert_eq!(group.raft(1).term(), Term(2));
    group.receive(message(3, 1, 2, append(position(1, 1), vec![], 1)));
    let status = group.raft(1).status();
    assert_eq!(
        (status.role, status.leader, status.vote),
        (RoleName::Follower, Some(id(3)), Some(id(1)))
    );
}

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

/// Thesis §3.10: the target of a transfer gets everything first, then campaigns at once, and nothing is proposed meanwhile.
#[test]
fn leadership_is_handed_to_a_complete_log_without_waiting() {
    let mut group = Group::of(3);
    group.elect(1);
    group.propose(1, "x").unwrap();
    group
        .with_raft(1, |raft| raft.transfer_leadership(id(2)))
        .unwrap();
    assert!(
        !group.network.iter().any(|m| m.body == Body::TimeoutNow),
        "n2 has not got everything"
    );
    assert_eq!(
        group.propose(1, "y"),
        Err(ProposeError::Transferring { to: id(2) })
    );
    group.settle();
    assert_eq!((group.leader(), group.raft(2).term()), (Some(2), Term(3)));
    assert_eq!(group.terms_of(1), [2, 2, 3]);
}

/// Thesis §3.10: "If leadership transfer does not complete after about an election timeout, the prior leader aborts".
#[test]
fn transfer_that_does_not_happen_is_given_up() {
    let mut group = Group::of(3);
    group.elect(1);
    group
        .with_raft(1, |raft| raft.transfer_leadership(id(2)))
        .unwrap();
    let again = group.with_raft(1, |raft| raft.transfer_leadership(id(3)));
    assert_eq!(again, Err(TransferError::InProgress { to: id(2) }));
    group.drop_messages(|m| m.body == Body::TimeoutNow);
    group.pass(ms(250));
    assert_eq!(
        group.propose(1, "y"),
        Err(ProposeError::Transferring { to: id(2) })
    );
    group.pass(ms(50));
    assert!(group.propose(1, "y").is_ok());
}

/// Thesis §4.2.3: who hears a leader gives no vote to a member that was cut off, and keeps its term.
#[test]
fn member_that_hears_a_leader_ignores_other_candidates() {
    let mut group = Group::of(3);
    group.elect(1);
    let vote = |transfer| {
        message(
            3,
            2,
            9,
            Body::Vote {
                last: position(9, 99),
                transfer,
            },
        )
    };
    assert_eq!(ask(&mut group, vote(false)), []);
    assert_eq!(group.raft(2).term(), Term(2));
    assert_eq!(
        ask(
            &mut group,
            message(
                3,
                1,
                9,
                Body::Vote {
                    last: position(9, 99),
                    transfer: false
                }
            )
        ),
        []
    );
    assert!(group.raft(1).is_leader());
    // The leader itself asked for this one.
    assert_eq!(
        ask(&mut group, vote(true)),
        [Body::VoteResponse { granted: true }]
    );
}

/// Thesis §6.2: a leader steps down when an election timeout passes without a round of heartbeats to a majority.
#[test]
fn leader_without_a_quorum_steps_down() {
    let mut group = Group::of(3);
    group.elect(1);
    group.pass(ms(100));
    group.cut_off(1);
    group.pass(ms(200));
    assert!(group.raft(1).is_leader());
    group.pass(ms(100));
    assert!(!group.raft(1).is_leader());
}

/// Thesis §6.2, and what is meant by it: answers to old heartbeats are no contact, however recently they arrive.
#[test]
fn late_answers_do_not_keep_a_leader() {
    let mut group = Group::of(3);
    group.elect(1);
    group.tick(1, ms(50));
    group.deliver(|_| true);
    let answers: Vec<Message> = std::mem::take(&mut group.network);
    assert!(!answers.is_empty());
    for _ in 0..5 {
        group.tick(1, ms(50));
        group.network.clear();
        answers
            .iter()
            .for_each(|answer| group.receive(answer.clone()));
    }
    assert!(group.raft(1).is_leader());
    group.tick(1, ms(50));
    assert!(
        !group.raft(1).is_leader(),
        "nothing that it sent in the last 300 ms was answered"
    );
}

/// Thesis §6.4: a read is served at the commit index of its arrival, once a majority confirms the leader after it.
#[test]
fn read_waits_for_a_round_begun_after_it() {
    let mut group = Group::of(3);
    group.elect(1);
    group.pass(ms(100));
    group.tick(1, ms(50));
    group.deliver(|_| true);
    // The answers to the heartbeat before the read are under way.
    group.with_raft(1, |raft| raft.read(ReadToken(1)));
    let earlier = |m: &Message| matches!(m.body, Body::HeartbeatResponse { .. });
    group.deliver(earlier);
    assert_eq!(group.last_read(1), None, "those confirm nothing");
    group.deliver(|m| matches!(m.body, Body::Heartbeat { .. }) && m.to == id(2));
    group.deliver(earlier);
    let point = group.last_read(1).and_then(|read| read.point).unwrap();
    assert_eq!(point.index, LogIndex(2));
}

/// Thesis §6.4: followers ask the leader; reads that arrive meanwhile share the next question.
#[test]
fn followers_serve_reads_at_the_leaders_index() {
    let mut group = Group::of(3);
    group.elect(1);
    (1..=3).for_each(|token| group.with_raft(2, |raft| raft.read(ReadToken(token))));
    assert_eq!(
        group
            .network
            .iter()
            .filter(|m| matches!(m.body, Body::ReadIndex { .. }))
            .count(),
        1
    );
    group.settle();
    assert!(
        group
            .node(2)
            .reads
            .iter()
            .all(|read| read.point.is_some_and(|point| point.index == LogIndex(2)))
    );
    assert_eq!(group.node(2).reads.len(), 3);
}

/// Thesis §6.4: a leader that was deposed cannot confirm a read, whatever arrives late or twice.
#[test]
fn deposed_leader_confirms_no_read() {
    let mut group = Group::of(3);
    group.elect(1);
    group.tick(1, ms(50));
    group.deliver(|_| true);
    let late: Vec<Message> = group.network.clone();
    group.settle();
    group.cut_off(1);
    group.tick(3, ms(300));
    group.elect(2);
    group.propose(2, "x").unwrap();
    group.settle();
    group.with_raft(1, |raft| raft.read(ReadToken(1)));
    late.into_iter().for_each(|answer| group.receive(answer));
    assert_eq!(group.last_read(1), None);
    group.pass(ms(400));
    assert_eq!(
        group.last_read(1),
        Some(ReadResult {
            token: ReadToken(1),
            point: None
        })
    );
}

/// Reads end in an answer: without a leader at once, and without its word after an election timeout.
#[test]
fn reads_fail_where_no_leader_answers() {
    let mut group = Group::of(3);
    group.with_raft(2, |raft| raft.read(ReadToken(1)));
    assert_eq!(group.last_read(2).unwrap().point, None);
    group.elect(1);
    group.with_raft(2, |raft| raft.read(ReadToken(2)));
    group.network.clear();
    (0..6).for_each(|_| {
        group.receive(message(
            1,
            2,
            2,
            Body::Heartbeat {
                commit: LogIndex(2),
                round: 9,
            },
        ));
        group.tick(2, ms(50));
    });
    assert_eq!(
        group.last_read(2),
        Some(ReadResult {
            token: ReadToken(2),
            point: None
        })
    );
}

/// Thesis §9.6: a member that cannot win changes nobody's term, and does not depose a leader when it returns.
#[test]
fn member_that_was_cut_off_does_not_disturb() {
    let mut group = Group::of(3);
    group.elect(1);
    group.cut_off(3);
    group.propose(1, "x").unwrap();
    group.pass(ms(5000));
    assert_eq!(group.raft(3).term(), Term(2));
    group.heal();
    group.pass(ms(1000));
    assert_eq!((group.leader(), group.raft(1).term()), (Some(1), Term(2)));
    assert_eq!(group.node(3).applied_meta.position, position(2, 3));
}

/// Thesis §9.6 with §4.2.3: a member whose term is higher than its leader's is not ignored for ever.
#[test]
fn member_of_a_higher_term_is_taken_back() {
    let mut disk = Disk::new(voters(1..=3));
    disk.hard_state.term = Term(7);
    let others = (1..=2).map(|n| (id(n), Disk::new(voters(1..=3))));
    let mut group = Group::new(
        others.chain([(id(3), disk)]).collect(),
        Settings::default(),
        1,
    );
    group.cut_off(3);
    group.elect(1);
    group.heal();
    group.pass(ms(2000));
    let leader = group.leader().unwrap();
    assert!(Term(7) < group.raft(leader).term());
    assert!((1..=3).all(|n| group.raft(n).leader() == Some(id(leader))));
}

/// Thesis §4.1: a configuration is in force from the moment it is appended, and goes with its entry.
#[test]
fn configuration_is_adopted_at_append_and_rolled_back_with_its_entry() {
    let mut group = Group::of(3);
    let joined = std::sync::Arc::new(voters(1..=4));
    let added = entry(2, 2, Payload::Configuration(joined.clone()));
    group.receive(message(2, 1, 2, append(position(1, 1), vec![added], 1)));
    assert_eq!(*group.raft(1).configuration(), joined);
    group.receive(message(3, 1, 3, append(position(1, 1), entries(&[3]), 1)));
    assert_eq!(**group.raft(1).configuration(), voters(1..=3));
}

/// Thesis §4.2.2: a learner gets the log, never campaigns, and votes when asked, since it may have been made a voter.
#[test]
fn learner_replicates_and_votes_when_asked_but_never_campaigns() {
    let mut configuration = voters(1..=3);
    configuration.learners.insert(id(4));
    let disks = (1..=4).map(|n| (id(n), Disk::new(configuration.clone())));
    let mut group = Group::new(disks.collect(), Settings::default(), 1);
    group.expire(4);
    group.expire(4);
    assert_eq!(
        (group.raft(4).status().role, group.network.len()),
        (RoleName::Learner, 0)
    );
    group.elect(1);
    assert_eq!(group.node(4).applied_meta.position, position(2, 2));
    let vote = Body::Vote {
        last: position(2, 2),
        transfer: true,
    };
    assert_eq!(
        ask(&mut group, message(2, 4, 3, vote)),
        [Body::VoteResponse { granted: true }]
    );
}

/// Thesis §4.3: while a configuration is joint, elections and commits need a majority of both halves.
#[test]
fn joint_configuration_needs_both_majorities() {
    let mut configuration = voters(1..=3);
    configuration.outgoing = [1, 4, 5].map(id).into();
    let disks = (1..=5).map(|n| (id(n), Disk::new(configuration.clone())));
    let mut group = Group::new(disks.collect(), Settings::default(), 1);
    group.crash(4);
    group.crash(5);
    group.expire(1);
    group.settle();
    assert!(
        !group.raft(1).is_leader(),
        "1, 2 and 3 are no majority of 1, 4 and 5"
    );
    group.restart(4);
    group.expire(1);
    group.settle();
    assert!(group.raft(1).is_leader());
    group.crash(2);
    group.crash(3);
    group.propose(1, "x").unwrap();
    group.settle();
    assert_eq!(
        group.commit_of(1),
        2,
        "1 and 4 are no majority of 1, 2 and 3"
    );
    group.restart(2);
    group.pass(ms(100));
    assert_eq!(group.commit_of(1), 3);
}

/// Three leaders overwrite one index while the first write of it is under way: the end of an earlier write must not pass
/// for that of a later one, nor its answer be given.
#[test]
fn end_of_an_overwritten_write_makes_nothing_durable() {
    let mut group = Group::of(3);
    for (term, leader) in [(2, 2), (3, 3), (4, 2)] {
        group.receive(message(
            leader,
            1,
            term,
            append(position(1, 1), entries(&[term]), 1),
        ));
    }
    let durable = |group: &Group| group.raft(1).status().durable.0;
    for expected in [1, 1, 2] {
        group.persist(1);
        assert_eq!(durable(&group), expected);
    }
    let result = AppendResult::Accepted {
        matched: LogIndex(2),
    };
    let answer = Body::AppendResponse { result, round: 1 };
    assert_eq!(group.network, [message(1, 2, 4, answer)]);
}

/// A leader refuses what would wait for a quorum without bound, and takes proposals again once it is committed.
#[test]
fn proposals_beyond_the_bound_are_refused() {
    let mut group = Group::with(
        3,
        Settings {
            max_uncommitted_bytes: 100,
            ..Settings::default()
        },
    );
    group.elect(1);
    let long = Bytes::from(vec![0; 200]);
    group.with_raft(1, |raft| raft.propose(long)).unwrap();
    assert_eq!(
        group.propose(1, "x"),
        Err(ProposeError::TooMuchUncommitted { bytes: 232 })
    );
    group.settle();
    assert!(group.propose(1, "x").is_ok());
}

/// A crash between the installation of a snapshot and the write that resets the log leaves a member that starts.
#[test]
fn restart_after_an_installed_snapshot_resets_the_log() {
    let check = |log: &[u64], applied: LogPosition, reset: bool| {
        let mut disk = Disk::new(voters(1..=3));
        disk.entries = entries(log);
        disk.hard_state = HardState {
            term: Term(3),
            vote: Some(id(2)),
        };
        disk.applied.position = applied;
        let mut group = Group::new(vec![(id(1), disk)], Settings::default(), 1);
        group.persist_all(1);
        let status = group.raft(1).status();
        let expected = if reset { applied } else { position(1, 1) };
        assert_eq!(
            (status.base, group.node(1).disk.base.position),
            (expected, expected)
        );
        assert_eq!(
            (status.commit, status.handed_out),
            (applied.index, applied.index)
        );
        assert_eq!(status.term, applied.term.max(Term(3)));
    };
    check(&[1, 2, 2], position(2, 3), false);
    check(&[1, 2, 2], position(3, 9), true);
    check(&[1, 2, 2], position(3, 3), true);
    check(&[], position(5, 9), true);
}

/// A log that cannot be is refused at the start, and said why.
#[test]
fn broken_logs_are_refused_at_start() {
    let check = |change: fn(&mut Disk), expected: RestoreError| {
        let mut disk = Disk::new(voters(1..=3));
        disk.entries = entries(&[1, 2, 2]);
        disk.hard_state.term = Term(2);
        change(&mut disk);
        let Disk {
            hard_state,
            base,
            entries,
            applied,
        } = disk;
        let restored = Restored {
            hard_state,
            base,
            entries,
            applied,
        };
        assert_eq!(
            Raft::new(id(1), Settings::default(), 1, restored).unwrap_err(),
            expected
        );
    };
    check(
        |disk| drop(disk.entries.remove(1)),
        RestoreError::BrokenLog { index: LogIndex(4) },
    );
    check(
        |disk| disk.entries[0].term = Term(3),
        RestoreError::TermBehindLog {
            index: LogIndex(2),
            term: Term(3),
            stored: Term(2),
        },
    );
    check(
        |disk| disk.entries[0].stamp = Stamp(3),
        RestoreError::BrokenLog { index: LogIndex(3) },
    );
    check(
        |disk| disk.base.configuration = Default::default(),
        RestoreError::UnsoundConfiguration { index: LogIndex(1) },
    );
    check(
        |disk| disk.applied.position = position(0, 0),
        RestoreError::CheckpointBehindLog {
            applied: LogIndex(0),
            base: LogIndex(1),
        },
    );
}

/// Entries are stamped by the leader's clock, which goes on from its log and makes up no pause (design, Time).
#[test]
fn stamps_go_on_from_the_log_and_never_make_up_a_pause() {
    let mut group = Group::of(3);
    group.elect(1);
    group.pass(ms(1000));
    group.propose(1, "x").unwrap();
    group.settle();
    let stamp = group.raft(1).log_entries().last().unwrap().stamp;
    assert_eq!(stamp, Stamp(1000));
    group.crash(1);
    group.tick(3, ms(300));
    group.elect(2);
    assert_eq!(
        group.raft(2).clock(),
        Some(stamp),
        "the time without a leader is not counted"
    );
    group.tick(2, ms(250));
    assert_eq!(group.raft(2).clock(), Some(Stamp(1050)));
}

/// A group whose third member needs a snapshot, and has been sent a first question about it.
fn group_with_a_snapshot_on_its_way() -> Group {
    let settings = Settings {
        kept_entries: 0,
        piece_bytes: 2,
        ..Settings::default()
    };
    let mut group = Group::with(3, settings);
    group.elect(1);
    group.cut_off(3);
    group.propose(1, "a").unwrap();
    group.pass(ms(50));
    group.checkpoint(1);
    group.heal();
    for _ in 0..4 {
        group.tick(1, ms(50));
        group.deliver(|m| !matches!(m.body, Body::Snapshot { .. }));
        group.up().into_iter().for_each(|n| group.persist_all(n));
        group.deliver(|m| !matches!(m.body, Body::Snapshot { .. }));
    }
    assert_eq!(
        group.raft(1).status().progress[1].state,
        PeerState::Snapshot
    );
    group
}

/// A snapshot that does not come forward is given up, so that the log can be compacted, and begun again when the member
/// is back.
#[test]
fn snapshot_that_is_not_taken_is_given_up_and_begun_again() {
    let mut group = group_with_a_snapshot_on_its_way();
    group.cut_off(3);
    group.network.clear();
    group.propose(1, "b").unwrap();
    group.pass(ms(2500));
    group.checkpoint(1);
    assert_eq!(
        group.raft(1).status().base,
        position(2, 3),
        "the snapshot at 3 still connects"
    );
    group.pass(ms(600));
    assert_eq!(group.raft(1).status().progress[1].state, PeerState::Probe);
    group.propose(1, "c").unwrap();
    group.settle();
    group.checkpoint(1);
    assert_eq!(group.raft(1).status().base, position(2, 5));
    group.heal();
    group.pass(ms(1000));
    assert_eq!(group.node(3).applied_meta.position, position(2, 5));
}

/// Raft §7: who replaces its state by a snapshot does not campaign, takes no entries, and hands out none.
#[test]
fn member_that_installs_a_snapshot_neither_campaigns_nor_appends() {
    let mut group = group_with_a_snapshot_on_its_way();
    group.holds_installs = true;
    group.pass(ms(500));
    assert_eq!(group.node(3).installs.len(), 1);
    group.cut_off(3);
    for _ in 0..3 {
        group.expire(3);
        assert_eq!(group.raft(3).status().role, RoleName::Follower);
    }
    assert_eq!(group.network, []);
    let entry = message(1, 3, 2, append(position(1, 1), entries(&[2]), 2));
    assert_eq!(ask(&mut group, entry), []);
    group.install(id(3));
    group.turn(id(3));
    group.heal();
    group.pass(ms(500));
    assert_eq!(
        group.node(3).applied_meta.position,
        group.node(1).applied_meta.position
    );
}

/// A piece that took long to store is answered in another term of the same leader: its round is of no value there.
#[test]
fn late_answer_to_a_piece_claims_no_round_of_another_term() {
    let mut group = Group::of(3);
    let meta = SnapshotMeta {
        position: position(2, 9),
        ..genesis(voters(1..=3))
    };
    let file = SnapshotFile {
        meta,
        size: 9,
        digest: 1,
    };
    let heartbeat = |term, round| {
        let commit = LogIndex(1);
        message(2, 1, term, Body::Heartbeat { commit, round })
    };
    group.receive(heartbeat(2, 50));
    group.receive(heartbeat(4, 3));
    group.network.clear();
    group.with_raft(1, |raft| raft.piece_stored(id(2), file, 4, 50));
    let Body::SnapshotResponse { round, stored, .. } = group.network[0].body else {
        panic!("{:?}", group.network);
    };
    assert_eq!((round, stored), (3, 4));
}

/// Between the request to install a snapshot and its end nothing is handed out: the state is being replaced.
#[test]
fn nothing_is_applied_while_a_snapshot_is_installed() {
    let mut group = Group::of(3);
    group.holds_installs = true;
    group.receive(message(2, 1, 2, append(position(1, 1), entries(&[2]), 2)));
    let meta = SnapshotMeta {
        position: position(2, 9),
        ..genesis(voters(1..=3))
    };
    let file = SnapshotFile {
        meta,
        size: 3,
        digest: 7,
    };
    let data = Bytes::from_static(b"abc");
    let piece = Body::Snapshot {
        file,
        offset: 0,
        data,
        round: 1,
    };
    group.receive(message(2, 1, 2, piece));
    assert_eq!(group.node(1).installs.len(), 1);
    group.persist_all(1);
    assert_eq!(group.raft(1).status().durable, LogIndex(2));
    assert_eq!(group.node(1).applied, []);
    group.install(id(1));
    group.turn(id(1));
    group.persist_all(1);
    assert_eq!(group.raft(1).status().handed_out, LogIndex(9));
}
