//! One test for each claim of the Raft paper (extended version) about terms, votes and elections, with its section.

use crate::common::*;
use tenure_raft::*;

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
