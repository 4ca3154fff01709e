//! What a leader tells the members whose requests it gives back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{hear, member_of_three};
use tenure_raft::{Body, Change, MemberId, Message, Term};
use tenure_replica::{
    AdminRequest, Core, CoreSettings, ForwardKind, ForwardedRequest, Input, Operated, PeerMessage,
    Refused,
};
use tenure_state::{Command, LeaseId, Origin, Request, encode_request};

/// A member of three that was elected by the second, and whose disk has not written the first entry of its term.
fn leader() -> Core {
    let mut core = member_of_three(CoreSettings::default());
    while !core.is_leader() {
        core.tick(Duration::from_millis(10));
        let out = core.output();
        if let Some(write) = out.write {
            core.handle(Input::Persisted(write.id));
        }
        for (_, message) in out.send.into_iter().chain(core.output().send) {
            elect(&mut core, message);
        }
    }
    core
}

/// The second member grants its vote.
fn elect(core: &mut Core, message: PeerMessage) {
    let PeerMessage::Raft(Message { to, term, body, .. }) = message else {
        return;
    };
    let body = match body {
        Body::PreVote { .. } => Body::PreVoteResponse { granted: true },
        Body::Vote { .. } => Body::VoteResponse { granted: true },
        _ => return,
    };
    if to == MemberId(2) {
        hear(core, to, term, body);
    }
}

fn forwarded(member: u64, tokens: std::ops::Range<u64>) -> PeerMessage {
    let forward = |token| {
        let request = Request {
            origin: Origin { member, token },
            principal: tenure_state::Principal::anonymous(),
            idempotency: None,
            command: Command::RevokeLease {
                lease: LeaseId::new(1).expect("it is positive"),
            },
        };
        ForwardedRequest {
            token,
            kind: ForwardKind::Command,
            request: encode_request(&request),
            trace: None,
        }
    };
    PeerMessage::Forward(tokens.map(forward).collect())
}

#[test]
fn a_leader_that_steps_down_gives_back_what_waits_in_one_message_to_each_member() {
    let mut core = leader();
    for (member, tokens) in [(2, 0..500), (3, 0..300), (2, 500..1000)] {
        let message = forwarded(member, tokens);
        let from = MemberId(member);
        core.handle(Input::Peer { from, message });
    }
    let newer = Term(core.status().term.0 + 1);
    hear(
        &mut core,
        MemberId(3),
        newer,
        Body::VoteResponse { granted: false },
    );
    assert!(!core.is_leader(), "it has heard of a newer term");
    let mut told: BTreeMap<MemberId, Vec<Vec<u64>>> = BTreeMap::new();
    for (to, message) in core.output().send {
        if let PeerMessage::Refused { tokens, reason } = message {
            assert_eq!(reason, Refused::NoLeader);
            told.entry(to).or_default().push(tokens);
        }
    }
    let expected = BTreeMap::from([
        (MemberId(2), vec![(0..1000).collect()]),
        (MemberId(3), vec![(0..300).collect()]),
    ]);
    assert_eq!(told, expected);
}

/// Its certificate may be of the right authority: whoever is no member has no clients to speak for, and is no operator.
#[test]
fn whoever_is_no_member_forwards_nothing_and_orders_nothing() {
    let stranger = MemberId(9);
    for from in [MemberId(2), stranger] {
        let mut core = leader();
        core.output();
        let operation = AdminRequest::Change(Change::Remove(MemberId(3)));
        for message in [
            forwarded(from.0, 0..2),
            PeerMessage::Operate {
                token: 7,
                operation,
            },
            PeerMessage::AskProgress { token: 8 },
        ] {
            core.handle(Input::Peer { from, message });
        }
        let out = core.output();
        let answers = || out.send.iter().filter(|(to, _)| *to == from);
        let refused = answers().any(|(_, message)| {
            matches!(message, PeerMessage::Refused { tokens, reason: Refused::NoLeader } if *tokens == [0, 1])
        });
        let turned_away = answers().any(|(_, message)| {
            matches!(
                message,
                PeerMessage::Operated {
                    token: 7,
                    result: Operated::NoLeader
                }
            )
        });
        let told =
            answers().any(|(_, message)| matches!(message, PeerMessage::Progress { token: 8, .. }));
        let is_stranger = from == stranger;
        assert_eq!(
            (refused, turned_away, told),
            (is_stranger, is_stranger, !is_stranger),
            "{from}: {:?}",
            out.send
        );
    }
}
