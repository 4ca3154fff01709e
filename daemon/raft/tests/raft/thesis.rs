//! One test for each claim of the thesis that goes beyond the paper, with its section; and what is Tenure's own.

use crate::common::*;
use bytes::Bytes;
use tenure_raft::*;

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
    for _ in 0..20 {
        if group.raft(1).is_leader() {
            break;
        }
        group.up().into_iter().for_each(|n| group.persist_all(n));
        group.deliver(|_| true);
    }
    assert!(group.raft(1).is_leader());
    group.crash(2);
    group.crash(3);
    group.settle();
    assert_eq!(
        group.commit_of(1),
        1,
        "1 and 4 are no majority of 1, 2 and 3"
    );
    group.restart(2);
    group.pass(ms(100));
    // Its first entry, and the end of the joint configuration.
    assert_eq!(group.commit_of(1), 3);
    assert_eq!(**group.raft(1).configuration(), {
        let removed = [4, 5].map(id).into();
        Configuration {
            removed,
            ..voters(1..=3)
        }
    });
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

/// A leader whose own disk is slow, while the others commit without it, refuses what would wait for that disk without
/// bound, and takes proposals again once the disk has come after.
#[test]
fn proposals_beyond_what_the_leaders_own_disk_has_taken_are_refused() {
    let mut group = Group::with(
        3,
        Settings {
            max_unwritten_bytes: 100,
            ..Settings::default()
        },
    );
    group.elect(1);
    group.settle();
    let before = group.commit_of(1);
    let long = Bytes::from(vec![0; 200]);
    group.with_raft(1, |raft| raft.propose(long)).unwrap();
    for _ in 0..3 {
        group.deliver(|_| true);
        group.persist_all(2);
        group.persist_all(3);
    }
    assert_eq!(group.commit_of(1), before + 1);
    assert_eq!(
        group.propose(1, "x"),
        Err(ProposeError::TooMuchUnwritten { bytes: 232 })
    );
    group.persist_all(1);
    assert!(group.propose(1, "x").is_ok());
}

/// News of a commit follows every entry: an answer that would repeat the one to the entry itself is spared, but not in a
/// later round, since the earlier one may be lost, nor after a rejection.
#[test]
fn answer_to_news_of_a_commit_is_given_once_in_a_round() {
    let mut group = Group::of(3);
    let append_in = |previous, entries, commit, round| {
        let body = Body::Append {
            previous,
            entries,
            commit: LogIndex(commit),
            round,
        };
        message(2, 1, 2, body)
    };
    let accepted = |index, round| Body::AppendResponse {
        result: AppendResult::Accepted {
            matched: LogIndex(index),
        },
        round,
    };
    let two = append_in(position(1, 1), vec![entry(2, 2, Payload::Empty)], 1, 1);
    assert_eq!(ask(&mut group, two.clone()), [accepted(2, 1)]);
    let news = |round| append_in(position(2, 2), Vec::new(), 2, round);
    assert_eq!(ask(&mut group, news(1)), []);
    assert_eq!(group.commit_of(1), 2, "the news is heard all the same");
    assert_eq!(
        ask(&mut group, two),
        [accepted(2, 1)],
        "an entry is always answered"
    );
    assert_eq!(ask(&mut group, news(2)), [accepted(2, 2)]);
    let beyond = append_in(position(2, 3), Vec::new(), 2, 2);
    assert_eq!(ask(&mut group, beyond).len(), 1, "a rejection");
    assert_eq!(ask(&mut group, news(2)), [accepted(2, 2)]);
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
        ..SnapshotMeta::genesis(voters(1..=3))
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

/// A leader never claims more than what a member told it. One whose disk came back without it must not go on: it may
/// have forgotten a vote as well. (Without this it would wait in silence, since a leader takes its refusals for old ones.)
#[test]
fn a_member_that_has_lost_what_it_acknowledged_is_told_so_by_the_leader() {
    let mut group = Group::of(3);
    group.receive(message(
        2,
        1,
        2,
        append(position(1, 1), entries(&[2, 2]), 2),
    ));
    group.persist_all(1);
    let heartbeat = |commit| {
        let commit = LogIndex(commit);
        message(2, 1, 2, Body::Heartbeat { commit, round: 7 })
    };
    group.receive(heartbeat(3));
    assert_eq!(group.raft(1).forgotten(), None);
    assert_eq!(group.raft(1).status().commit, LogIndex(3));
    group.network.clear();
    group.receive(heartbeat(4));
    let forgotten = group.raft(1).forgotten().expect("the log ends at 3");
    assert_eq!(forgotten.leader, id(2));
    assert_eq!(
        (forgotten.acknowledged, forgotten.log_end),
        (LogIndex(4), LogIndex(3))
    );
    assert!(group.network.is_empty(), "it does not speak any more");
    assert_eq!(group.raft(1).status().commit, LogIndex(3));
}

/// Between the request to install a snapshot and its end nothing is handed out: the state is being replaced.
#[test]
fn nothing_is_applied_while_a_snapshot_is_installed() {
    let mut group = Group::of(3);
    group.holds_installs = true;
    group.receive(message(2, 1, 2, append(position(1, 1), entries(&[2]), 2)));
    let meta = SnapshotMeta {
        position: position(2, 9),
        ..SnapshotMeta::genesis(voters(1..=3))
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
