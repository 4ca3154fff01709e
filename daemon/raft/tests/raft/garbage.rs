//! Whatever arrives over the network, the core answers, uses or ignores it: it never panics.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::*;
use bytes::Bytes;
use proptest::prelude::*;
use tenure_raft::*;

/// Small numbers, which meet what the member has, and the extremes.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..9, 1 => Just(u64::MAX), 1 => Just((1 << 62) - 1), 1 => Just(1 << 62), 1 => any::<u64>()]
}

fn position() -> impl Strategy<Value = LogPosition> {
    (number(), number()).prop_map(|(term, index)| LogPosition {
        term: Term(term),
        index: LogIndex(index),
    })
}

fn configuration() -> impl Strategy<Value = Arc<Configuration>> {
    let members = || prop::collection::btree_set((0u64..6).prop_map(MemberId), 0..4);
    let gone = prop::collection::btree_set((0u64..9).prop_map(MemberId), 0..2);
    (members(), members(), members(), members(), gone).prop_map(
        |(voters, outgoing, learners, promoting, removed)| {
            Arc::new(Configuration {
                voters,
                outgoing,
                learners,
                promoting: promoting.into_iter().map(|id| (id, None)).collect(),
                removed,
                info: BTreeMap::new(),
            })
        },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        3 => Just(Payload::Empty),
        2 => prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Payload::Command(Bytes::from(bytes))),
        1 => configuration().prop_map(Payload::Configuration),
    ]
}

/// Entries that mostly follow each other.
fn appended() -> impl Strategy<Value = (LogPosition, Vec<Entry>)> {
    let payloads = prop::collection::vec((payload(), 0u64..2, number()), 0..4);
    (position(), payloads, any::<bool>()).prop_map(|(previous, payloads, is_sound)| {
        let (mut term, mut index) = (previous.term.0, previous.index.0);
        let mut entries = Vec::new();
        for (payload, rise, stamp) in payloads {
            (term, index) = (term.saturating_add(rise), index.saturating_add(1));
            let (index, stamp) = if is_sound {
                (index, 5)
            } else {
                (index.wrapping_add(stamp % 2), stamp)
            };
            entries.push(Entry {
                index: LogIndex(index),
                term: Term(term),
                stamp: Stamp(stamp),
                payload,
            });
        }
        (previous, entries)
    })
}

fn file() -> impl Strategy<Value = SnapshotFile> {
    (position(), number(), configuration(), number()).prop_map(
        |(position, stamp, configuration, size)| SnapshotFile {
            meta: SnapshotMeta {
                position,
                stamp: Stamp(stamp),
                configuration,
            },
            size,
            digest: 7,
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let accepted = number().prop_map(|matched| AppendResult::Accepted {
        matched: LogIndex(matched),
    });
    let rejected = (number(), position()).prop_map(|(previous, hint)| AppendResult::Rejected {
        previous: LogIndex(previous),
        hint,
    });
    let pieces = prop::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
    prop_oneof![
        position().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteResponse { granted }),
        (position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteResponse { granted }),
        (appended(), number(), number()).prop_map(|((previous, entries), commit, round)| {
            Body::Append {
                previous,
                entries,
                commit: LogIndex(commit),
                round,
            }
        }),
        (prop_oneof![accepted, rejected], number())
            .prop_map(|(result, round)| Body::AppendResponse { result, round }),
        (number(), number()).prop_map(|(commit, round)| Body::Heartbeat {
            commit: LogIndex(commit),
            round
        }),
        number().prop_map(|round| Body::HeartbeatResponse { round }),
        number().prop_map(|batch| Body::ReadIndex { batch }),
        (number(), number(), number()).prop_map(|(batch, index, stamp)| Body::ReadIndexResponse {
            batch,
            index: LogIndex(index),
            stamp: Stamp(stamp)
        }),
        number().prop_map(|batch| Body::ReadIndexRefused { batch }),
        (file(), number(), pieces, number()).prop_map(|(file, offset, data, round)| {
            Body::Snapshot {
                file,
                offset,
                data,
                round,
            }
        }),
        (position(), number(), number()).prop_map(|(position, stored, round)| {
            Body::SnapshotResponse {
                position,
                digest: 7,
                stored,
                round,
            }
        }),
        Just(Body::TimeoutNow),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (
        0u64..6,
        prop_oneof![9 => Just(1u64), 1 => number()],
        number(),
        body(),
    )
        .prop_map(|(from, to, term, body)| Message {
            from: MemberId(from),
            to: MemberId(to),
            term: Term(term),
            body,
        })
}

/// What befalls a member besides messages.
#[derive(Clone, Debug)]
enum Event {
    Receive(Message),
    Tick(u64),
    Persist,
    Propose,
    Read,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => message().prop_map(Event::Receive),
        2 => (0u64..700).prop_map(Event::Tick),
        3 => Just(Event::Persist),
        1 => Just(Event::Propose),
        1 => Just(Event::Read),
    ]
}

/// A caller that does nothing but what it is asked, with a disk of its own.
fn endure(settings: Settings, is_alone: bool, events: Vec<Event>) {
    let configuration = if is_alone {
        voters([1])
    } else {
        voters([1, 2, 3])
    };
    let mut raft = Disk::new(configuration).start(id(1), &settings, 3);
    let mut writes = std::collections::VecDeque::new();
    for event in events {
        match event {
            Event::Receive(message) => raft.receive(message),
            Event::Tick(millis) => raft.tick(ms(millis)),
            Event::Persist => writes.drain(..).for_each(|write| raft.persisted(write)),
            Event::Propose => drop(raft.propose(Bytes::from_static(b"x"))),
            Event::Read => raft.read(ReadToken(1)),
        }
        let ready = raft.ready();
        writes.extend(ready.write.map(|write| write.id));
        for task in ready.snapshots {
            match task {
                SnapshotTask::Make { to, .. } => raft.snapshot_failed(to),
                SnapshotTask::Store {
                    file,
                    offset,
                    data,
                    round,
                    from,
                } => {
                    let stored = offset + data.len() as u64;
                    raft.piece_stored(from, file, stored, round);
                }
                SnapshotTask::Install { file } => raft.snapshot_installed(file.meta),
                SnapshotTask::Read { .. } | SnapshotTask::Release { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_message_makes_a_member_panic(is_alone in any::<bool>(), events in prop::collection::vec(event(), 1..60)) {
        endure(Settings::default(), is_alone, events);
    }
}
