//! Every message comes back as it was sent, and nothing else comes in.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use tenure_raft::{
    AppendResult, Body, Change, Configuration, Entry, LogIndex, LogPosition, MemberId, MemberInfo,
    Message, Payload, PeerState, PeerStatus, SnapshotFile, SnapshotMeta, Stamp, Term, Transferred,
};
use tenure_replica::{
    AdminRequest, ForwardKind, ForwardedRequest, Introduction, Operated, PeerMessage,
    ProgressReport, Refused, TraceContext,
};

use super::*;
use crate::transport::frame::FrameDecoder;

const FROM: MemberId = MemberId(0xa1);
const TO: MemberId = MemberId(0xb2);

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100, 0..NUMBER_LIMIT - 1000]
}

fn position() -> impl Strategy<Value = LogPosition> {
    (small(), small()).prop_map(|(term, index)| LogPosition {
        term: Term(term),
        index: LogIndex(index),
    })
}

fn payload_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn configuration() -> impl Strategy<Value = Configuration> {
    prop::collection::btree_map(any::<u64>(), (0u8..4, ".{0,12}"), 1..6).prop_map(|members| {
        let mut configuration = Configuration::default();
        for (place, (id, (part, name))) in members.into_iter().enumerate() {
            let id = MemberId(id);
            let info = MemberInfo {
                name: name.clone(),
                peer_url: format!("http://{name}"),
                client_url: String::new(),
                start: id.0.is_multiple_of(3).then_some(id.0),
            };
            configuration.info.insert(id, info);
            match part {
                _ if place == 0 => drop(configuration.voters.insert(id)),
                0 => drop(configuration.voters.insert(id)),
                1 => drop(configuration.outgoing.insert(id)),
                2 => {
                    configuration.learners.insert(id);
                    if id.0.is_multiple_of(2) {
                        let replaces = id.0.is_multiple_of(4).then_some(MemberId(id.0 / 4));
                        configuration.promoting.insert(id, replaces);
                    }
                }
                _ => drop((
                    configuration.voters.insert(id),
                    configuration.outgoing.insert(id),
                )),
            }
        }
        let gone = MemberId(configuration.info.len() as u64);
        if !configuration.contains(gone) {
            configuration.removed.insert(gone);
        }
        configuration
    })
}

fn operation() -> impl Strategy<Value = PeerMessage> {
    let info =
        ("[a-z]{0,9}", "[a-z:/]{0,9}", any::<Option<u64>>()).prop_map(|(name, peer_url, start)| {
            MemberInfo {
                name,
                peer_url,
                client_url: "http://c:1".to_owned(),
                start,
            }
        });
    let follows = any::<Option<u64>>();
    (any::<(u64, u64, u64, bool)>(), info, 0u8..7, follows).prop_map(
        |((token, id, old, promote), info, kind, follows)| {
            let (id, old) = (MemberId(id), MemberId(old));
            let coming = |change| match follows {
                Some(follows) => AdminRequest::Admit { change, follows },
                None => AdminRequest::Change(change),
            };
            let operation = match kind {
                0 => AdminRequest::Transfer(None),
                1 => AdminRequest::Transfer(Some(id)),
                2 => AdminRequest::Change(Change::Promote(id)),
                3 => AdminRequest::Change(Change::Remove(id)),
                4 => coming(Change::Replace { old, id, info }),
                5 => AdminRequest::Change(Change::Update { id, info }),
                _ => coming(Change::Add { id, info, promote }),
            };
            PeerMessage::Operate { token, operation }
        },
    )
}

fn operated() -> impl Strategy<Value = PeerMessage> {
    let result = prop_oneof![
        Just(Operated::Changed),
        any::<u64>().prop_map(|id| Operated::HandedTo(MemberId(id))),
        Just(Operated::NoLeader),
        "[a-z ]{0,30}".prop_map(Operated::Busy),
        "[a-z ]{0,30}".prop_map(Operated::Unsafe),
        any::<u64>().prop_map(|id| Operated::NoSuchMember(MemberId(id))),
        Just(Operated::Unknown),
    ];
    (any::<u64>(), result).prop_map(|(token, result)| PeerMessage::Operated { token, result })
}

fn introduction() -> impl Strategy<Value = PeerMessage> {
    let known = prop::collection::vec(any::<u64>(), 0..9);
    let peer_url = prop::option::of("[a-z:/]{0,20}");
    let said = (any::<u64>(), known, "[a-z:/]{0,20}", peer_url);
    said.prop_map(|(start, known, client_url, peer_url)| {
        PeerMessage::Introduce(Introduction {
            start,
            known,
            client_url,
            peer_url,
        })
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        payload_bytes().prop_map(Payload::Command),
        configuration().prop_map(|configuration| Payload::Configuration(Arc::new(configuration))),
    ]
}

/// A run of entries as a leader sends it, and the least term of that leader.
fn append() -> impl Strategy<Value = (u64, Body)> {
    let steps = prop::collection::vec((0u64..3, 0u64..1000, payload()), 0..8);
    (position(), steps, small(), small(), 1u64..50).prop_map(
        |(previous, steps, commit, round, ahead)| {
            let (mut term, mut stamp) = (previous.term.0.max(1), 0);
            let entries = steps.into_iter().zip(previous.index.0 + 1..).map(
                |((terms, later, payload), index)| {
                    term += terms;
                    stamp += later;
                    Entry {
                        index: LogIndex(index),
                        term: Term(term),
                        stamp: Stamp(stamp),
                        payload,
                    }
                },
            );
            let entries: Vec<_> = entries.collect();
            (
                term + ahead,
                Body::Append {
                    previous,
                    entries,
                    commit: LogIndex(commit),
                    round,
                },
            )
        },
    )
}

fn snapshot() -> impl Strategy<Value = Body> {
    (
        position(),
        small(),
        configuration(),
        any::<u128>(),
        payload_bytes(),
        0u64..1 << 40,
        0u64..9000,
        small(),
    )
        .prop_map(
            |(position, stamp, configuration, digest, data, offset, rest, round)| {
                let meta = SnapshotMeta {
                    position,
                    stamp: Stamp(stamp),
                    configuration: Arc::new(configuration),
                };
                let size = offset + data.len() as u64 + rest;
                Body::Snapshot {
                    file: SnapshotFile { meta, size, digest },
                    offset,
                    data,
                    round,
                }
            },
        )
}

fn append_result() -> impl Strategy<Value = AppendResult> {
    prop_oneof![
        small().prop_map(|matched| AppendResult::Accepted {
            matched: LogIndex(matched)
        }),
        (small(), position()).prop_map(|(index, hint)| AppendResult::Rejected {
            previous: LogIndex(index),
            hint
        }),
    ]
}

fn other_bodies() -> impl Strategy<Value = Body> {
    prop_oneof![
        position().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteResponse { granted }),
        (position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteResponse { granted }),
        (append_result(), small())
            .prop_map(|(result, round)| Body::AppendResponse { result, round }),
        (small(), small()).prop_map(|(commit, round)| Body::Heartbeat {
            commit: LogIndex(commit),
            round
        }),
        small().prop_map(|round| Body::HeartbeatResponse { round }),
        any::<u64>().prop_map(|batch| Body::ReadIndex { batch }),
        (any::<u64>(), small(), small()).prop_map(|(batch, index, stamp)| {
            Body::ReadIndexResponse {
                batch,
                index: LogIndex(index),
                stamp: Stamp(stamp),
            }
        }),
        any::<u64>().prop_map(|batch| Body::ReadIndexRefused { batch }),
        snapshot(),
        (position(), any::<u128>(), small(), small()).prop_map(
            |(position, digest, stored, round)| Body::SnapshotResponse {
                position,
                digest,
                stored,
                round
            }
        ),
        Just(Body::TimeoutNow),
    ]
}

fn raft() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![append(), (small(), other_bodies())].prop_map(|(term, body)| {
        PeerMessage::Raft(Message {
            from: FROM,
            to: TO,
            term: Term(term.min(NUMBER_LIMIT - 1)),
            body,
        })
    })
}

fn forwarded() -> impl Strategy<Value = ForwardedRequest> {
    let trace = prop::option::of(
        (1u8.., 1u8.., any::<u8>()).prop_map(|(trace, span, flags)| TraceContext {
            trace: [trace; 16],
            span: [span; 8],
            flags,
        }),
    );
    (any::<u64>(), any::<bool>(), payload_bytes(), trace).prop_map(
        |(token, renewal, request, trace)| {
            let kind = if renewal {
                ForwardKind::Renewal
            } else {
                ForwardKind::Command
            };
            ForwardedRequest {
                token,
                kind,
                request,
                trace,
            }
        },
    )
}

fn refused() -> impl Strategy<Value = PeerMessage> {
    let reasons = [
        Refused::NoLeader,
        Refused::Overloaded,
        Refused::Transferring,
        Refused::ShuttingDown,
        Refused::RulesTooOld,
    ];
    (
        prop::collection::vec(any::<u64>(), 0..9),
        prop::sample::select(reasons.to_vec()),
    )
        .prop_map(|(tokens, reason)| PeerMessage::Refused { tokens, reason })
}

fn progress() -> impl Strategy<Value = PeerMessage> {
    let states = prop::sample::select(vec![
        PeerState::Probe,
        PeerState::Replicate,
        PeerState::Snapshot,
    ]);
    let silence = prop::option::of((0u64..1 << 50).prop_map(Duration::from_micros));
    let peer = (
        any::<u64>(),
        states,
        small(),
        silence.clone(),
        silence,
        prop::option::of((small(), small())),
    )
        .prop_map(
            |(id, state, matched, silent_for, round_trip, transferred)| PeerStatus {
                id: MemberId(id),
                state,
                matched: LogIndex(matched),
                silent_for,
                round_trip,
                transferred: transferred.map(|(stored, size)| Transferred { stored, size }),
            },
        );
    (
        any::<u64>(),
        any::<u64>(),
        small(),
        small(),
        small(),
        prop::collection::vec(peer, 0..5),
        prop::collection::vec((any::<u64>().prop_map(MemberId), any::<u64>()), 0..4),
    )
        .prop_map(|(token, leader, term, commit, last, peers, versions)| {
            let (commit, last) = (LogIndex(commit), LogIndex(last));
            PeerMessage::Progress {
                token,
                report: ProgressReport {
                    leader: MemberId(leader),
                    term: Term(term),
                    commit,
                    last,
                    peers,
                    versions,
                },
            }
        })
}

fn message() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        6 => raft(),
        1 => prop::collection::vec(forwarded(), 0..6).prop_map(PeerMessage::Forward),
        1 => refused(),
        1 => any::<u64>().prop_map(|token| PeerMessage::AskProgress { token }),
        1 => progress(),
        1 => operation(),
        1 => operated(),
        1 => introduction(),
        1 => (small(), any::<u128>()).prop_map(|(index, digest)| PeerMessage::Digest {
            index: LogIndex(index),
            digest,
        }),
        1 => (small(), any::<u128>()).prop_map(|(index, digest)| PeerMessage::Agreed {
            index: LogIndex(index),
            digest,
        }),
        1 => any::<u64>().prop_map(|logged| PeerMessage::WentBack { logged }),
        1 => any::<u64>().prop_map(|round| PeerMessage::AskVersion { round }),
        1 => any::<(u64, u64, u64)>().prop_map(|(round, start, version)| {
            PeerMessage::CanFollow(CanFollow { round, start, version })
        }),
    ]
}

fn encoded(message: &PeerMessage) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, &mut out).expect("small messages fit");
    out.freeze()
}

fn decoded(bytes: Bytes) -> Result<PeerMessage, CodecError> {
    let mut decoder = FrameDecoder::default();
    decoder.push(bytes);
    decode(
        decoder.next_frame().expect("a frame").expect("a whole one"),
        FROM,
        TO,
    )
}

/// Encodes a message that keeps no promise, and says how it is refused.
fn check_refused(body: Body, term: u64, expected: &str) {
    let message = PeerMessage::Raft(Message {
        from: FROM,
        to: TO,
        term: Term(term),
        body,
    });
    let error = decoded(encoded(&message))
        .expect_err("must be refused")
        .to_string();
    assert!(error.contains(expected), "{error}");
}

fn entry(index: u64, term: u64, stamp: u64) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        stamp: Stamp(stamp),
        payload: Payload::Empty,
    }
}

fn append_of(entries: Vec<Entry>) -> Body {
    let previous = LogPosition {
        term: Term(2),
        index: LogIndex(7),
    };
    Body::Append {
        previous,
        entries,
        commit: LogIndex(0),
        round: 0,
    }
}

#[test]
fn appends_that_no_log_could_hold_are_refused() {
    check_refused(append_of(vec![entry(9, 2, 1)]), 3, "do not follow");
    check_refused(
        append_of(vec![entry(8, 2, 1), entry(10, 2, 1)]),
        3,
        "do not follow",
    );
    check_refused(append_of(vec![entry(8, 1, 1)]), 3, "out of order");
    check_refused(append_of(vec![entry(8, 4, 1)]), 3, "out of order");
    check_refused(
        append_of(vec![entry(8, 2, 5), entry(9, 2, 4)]),
        3,
        "stamps fall",
    );
}

#[test]
fn numbers_that_could_overflow_are_refused() {
    check_refused(Body::TimeoutNow, u64::MAX, "term");
    check_refused(
        Body::Heartbeat {
            commit: LogIndex(u64::MAX),
            round: 0,
        },
        1,
        "log index",
    );
    let previous = LogPosition {
        term: Term(1),
        index: LogIndex(u64::MAX),
    };
    check_refused(
        Body::Append {
            previous,
            entries: Vec::new(),
            commit: LogIndex(0),
            round: 0,
        },
        1,
        "log index",
    );
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    let with = |configuration| {
        let mut entry = entry(8, 2, 1);
        entry.payload = Payload::Configuration(Arc::new(configuration));
        append_of(vec![entry])
    };
    check_refused(with(Configuration::default()), 3, "without voters");
    let info: BTreeMap<_, _> = [(FROM, MemberInfo::default())].into();
    let both = Configuration {
        voters: [FROM].into(),
        learners: [FROM].into(),
        info,
        ..Configuration::default()
    };
    check_refused(with(both.clone()), 3, "voter and learner");
    let nameless = Configuration {
        learners: [TO].into(),
        ..both.clone()
    };
    check_refused(with(nameless), 3, "descriptions differ");
    let sound = Configuration {
        voters: [FROM].into(),
        learners: [].into(),
        ..both
    };
    let promoted = Configuration {
        promoting: [(FROM, None)].into(),
        ..sound.clone()
    };
    check_refused(with(promoted), 3, "who is no learner");
    let gone = Configuration {
        removed: [FROM].into(),
        ..sound
    };
    check_refused(with(gone), 3, "that was removed");
}

#[test]
fn a_piece_beyond_the_end_of_its_snapshot_is_refused() {
    let configuration = Configuration {
        voters: [FROM].into(),
        info: [(FROM, MemberInfo::default())].into(),
        ..Configuration::default()
    };
    let meta = SnapshotMeta {
        configuration: Arc::new(configuration),
        ..SnapshotMeta::default()
    };
    let file = SnapshotFile {
        meta,
        size: 10,
        digest: 0,
    };
    check_refused(
        Body::Snapshot {
            file,
            offset: 8,
            data: Bytes::from_static(b"abc"),
            round: 0,
        },
        1,
        "beyond its end",
    );
}

#[test]
fn an_unknown_kind_is_named() {
    let frame = Frame {
        kind: 200,
        body: Bytes::new(),
    };
    assert_eq!(decode(frame, FROM, TO), Err(CodecError::Kind(200)));
}

#[test]
fn the_payload_of_an_entry_is_not_copied() {
    let mut entry = entry(8, 2, 1);
    entry.payload = Payload::Command(Bytes::from(vec![7; 4096]));
    let message = PeerMessage::Raft(Message {
        from: FROM,
        to: TO,
        term: Term(2),
        body: append_of(vec![entry]),
    });
    let bytes = encoded(&message);
    let range = bytes.as_ptr_range();
    let Ok(PeerMessage::Raft(Message {
        body: Body::Append { entries, .. },
        ..
    })) = decoded(bytes.clone())
    else {
        panic!("an append");
    };
    let Payload::Command(payload) = &entries[0].payload else {
        panic!("a command")
    };
    assert!(range.contains(&payload.as_ptr()));
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was_sent(message in message()) {
        prop_assert_eq!(decoded(encoded(&message)), Ok(message));
    }

    #[test]
    fn bodies_of_garbage_never_panic(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Frame { kind, body: body.into() }, FROM, TO);
    }

    /// Damage that a checksum does not find (because whoever sends it computes it) is decoded or refused, never worse;
    /// and what is decoded can be sent again.
    #[test]
    fn mutated_bodies_never_panic(
        message in message(), kind in prop::option::of(1u8..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut decoder = FrameDecoder::default();
        decoder.push(encoded(&message));
        let frame = decoder.next_frame().expect("a frame").expect("a whole one");
        let mut body = frame.body.to_vec();
        for (place, value) in changes {
            if !body.is_empty() {
                let place = place.index(body.len());
                body[place] = value;
            }
        }
        let frame = Frame { kind: kind.unwrap_or(frame.kind), body: body.into() };
        if let Ok(message) = decode(frame, FROM, TO) {
            prop_assert_eq!(decoded(encoded(&message)), Ok(message));
        }
    }
}

/// A newer member may have more to say of a trace, and a broken one anything: the request is proposed all the same.
#[test]
fn a_trace_that_is_none_is_left_out_and_its_request_is_not() {
    let traced = |trace: Vec<u8>| {
        let request = wire::ForwardedRequest {
            token: 5,
            kind: wire::ForwardKind::Command as i32,
            request: Bytes::from_static(b"request"),
            trace: trace.into(),
        };
        request_from_wire(request).map(|request| (request.token, request.trace))
    };
    let whole = [vec![1; 16], vec![2; 8], vec![1]].concat();
    let context = TraceContext {
        trace: [1; 16],
        span: [2; 8],
        flags: 1,
    };
    assert_eq!(traced(whole.clone()), Ok((5, Some(context))));
    let longer = [whole.clone(), vec![0]].concat();
    let shorter = whole[..24].to_vec();
    let no_trace = [vec![0; 16], vec![2; 8], vec![1]].concat();
    let no_span = [vec![1; 16], vec![0; 8], vec![1]].concat();
    for garbage in [
        Vec::new(),
        longer,
        shorter,
        no_trace,
        no_span,
        vec![9; 100_000],
    ] {
        assert_eq!(traced(garbage), Ok((5, None)));
    }
}
