//! Bugs that the simulator found, each told by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{
    AppendResult, Body, Configuration, Entry, HardState, LogIndex, LogPosition, MemberId,
    MemberInfo, Message, Payload, Restored, Settings, SnapshotMeta, Stamp, Term,
};
use tenure_replica::{Core, CoreSettings, Input, Output, PeerMessage};
use tenure_sim::{Options, hush_panics, run};
use tenure_state::{Command, Operation, Origin, Put, Request, Transaction};

const ME: MemberId = MemberId(1);

/// The first of so many members, with these entries behind the first on its disk.
fn member(of: u64, settings: Settings, entries: Vec<Entry>) -> Core {
    let voters = (1..=of).map(MemberId);
    let configuration = Configuration {
        voters: voters.clone().collect(),
        info: voters.map(|id| (id, MemberInfo::default())).collect(),
        ..Configuration::default()
    };
    let base = SnapshotMeta {
        position: LogPosition {
            term: Term(1),
            index: LogIndex(1),
        },
        stamp: Stamp(0),
        configuration: Arc::new(configuration),
    };
    let restored = Restored {
        hard_state: HardState {
            term: entries.last().map_or(Term(1), |entry| entry.term),
            vote: None,
        },
        base: base.clone(),
        entries,
        applied: base,
    };
    let settings = CoreSettings {
        raft: settings,
        ..CoreSettings::default()
    };
    Core::new(ME, settings, 7, restored).expect("it has just been formed")
}

/// Turns until it leads and has nothing left to write.
fn lead(core: &mut Core) {
    let mut writes = VecDeque::new();
    for _ in 0..100 {
        core.tick(Duration::from_millis(50));
        if let Some(id) = writes.pop_front() {
            core.handle(Input::Persisted(id));
        }
        writes.extend(core.output().write.map(|write| write.id));
        if core.is_leader() && core.status().settled && writes.is_empty() {
            return;
        }
    }
    panic!("it does not lead: {:?}", core.status());
}

fn put(token: u64) -> Input {
    let put = Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from(vec![b'x'; 2000]),
        content_type: None,
        lease: None,
        refuse_other_lease: false,
    };
    let command = Command::Transaction(Transaction {
        then: vec![Operation::Put(put)],
        ..Transaction::default()
    });
    Input::Propose(Request {
        origin: Origin { member: 1, token },
        principal: tenure_state::Principal::anonymous(),
        idempotency: None,
        command,
    })
}

/// Seed 124. An entry that was due, while the log took none, stayed due: the core wanted its next turn at once, for ever,
/// and its thread spun until a follower or a disk came back.
#[test]
fn a_leader_whose_log_is_full_does_not_turn_without_pause() {
    let settings = Settings {
        max_uncommitted_bytes: 1,
        ..Settings::default()
    };
    let mut core = member(1, settings, Vec::new());
    lead(&mut core);
    // The disk answers nothing from here on, so nothing more is committed.
    for token in 0..4 {
        core.handle(put(token));
        core.tick(Duration::from_millis(20));
        core.output();
    }
    core.tick(Duration::from_millis(20));
    core.output();
    assert!(core.is_leader());
    assert!(
        Duration::from_millis(1) <= core.next_turn(),
        "the next turn is in {:?}",
        core.next_turn()
    );
}

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        stamp: Stamp(index),
        payload: Payload::Empty,
    }
}

/// The leader of a term sends entries that follow one of term 5.
fn append(core: &mut Core, leader: u64, term: u64, behind: u64, entries: Vec<Entry>) -> Output {
    let commit = entries.last().map_or(LogIndex(0), |last| last.index);
    let message = Message {
        from: MemberId(leader),
        to: ME,
        term: Term(term),
        body: Body::Append {
            previous: LogPosition {
                term: Term(5),
                index: LogIndex(behind),
            },
            // What leads term 6 commits nothing.
            commit: if term == 6 { LogIndex(0) } else { commit },
            entries,
            round: 1,
        },
    };
    let (from, message) = (message.from, PeerMessage::Raft(message));
    core.handle(Input::Peer { from, message });
    core.output()
}

/// Up to where this says that its log is the leader's.
fn acknowledged(output: &Output) -> Option<LogIndex> {
    let accepted = |(_, message): &(MemberId, PeerMessage)| match message {
        PeerMessage::Raft(Message {
            body:
                Body::AppendResponse {
                    result: AppendResult::Accepted { matched },
                    ..
                },
            ..
        }) => Some(*matched),
        _ => None,
    };
    output.send.iter().filter_map(accepted).max()
}

/// Seed 2008226. A leader of term 6 has a follower remove entry 3 of term 5; the follower's disk stalls. A leader of term 7
/// that has the entry commits it meanwhile with the others, and the removal lands after that. Nothing is lost: the
/// follower acknowledges neither leader before its disk has caught up, and ends with the entry that is committed.
#[test]
fn a_removal_that_a_stalled_disk_does_late_costs_nothing_that_others_commit_meanwhile() {
    let mut core = member(5, Settings::default(), vec![entry(2, 5), entry(3, 5)]);
    let removal = append(&mut core, 2, 6, 2, vec![entry(3, 6)]);
    let removal = removal.write.expect("it replaces an entry");
    assert_eq!(removal.truncate_from, Some(LogIndex(3)));

    // It no longer has what the next leader sends behind, says so, and is sent what it lacks.
    let refusal = append(&mut core, 3, 7, 3, vec![entry(4, 7)]);
    assert_eq!(acknowledged(&refusal), None);
    let again = append(&mut core, 3, 7, 2, vec![entry(3, 5), entry(4, 7)]);
    assert_eq!(acknowledged(&again), None);
    let restored = again.write.expect("it replaces the entry back");
    assert_eq!(restored.truncate_from, Some(LogIndex(3)));

    // The removal lands, late.
    core.handle(Input::Persisted(removal.id));
    let late = core.output();
    assert_eq!(acknowledged(&late), None);
    core.handle(Input::Persisted(restored.id));
    let done = core.output();
    assert_eq!(acknowledged(&done), Some(LogIndex(4)));
    let outputs = [refusal.apply, again.apply, late.apply, done.apply];
    let applied: Vec<Entry> = outputs.into_iter().flatten().collect();
    assert_eq!(applied, [entry(2, 5), entry(3, 5), entry(4, 7)]);
}

/// What was found once. A seed is good for one build, and another run in the next: it costs nothing to hold on to them.
#[test]
fn seeds_that_found_something_once_hold() {
    hush_panics();
    for seed in [
        124, 100_373, 1_014_532, 2_008_226, 70_002_052, 80_002_729, 80_013_865,
    ] {
        let violation = run(seed, Options::default()).violation;
        assert_eq!(violation, None, "seed {seed}");
    }
}
