//! The traces of requests: carried to the leader, told with the entry, and forgotten with a request that is refused.

use std::time::Duration;

use crate::common::{hear, member_of_three};
use tenure_raft::{Body, LogIndex, MemberId, Message, StepDown, Term};
use tenure_replica::{
    Core, CoreSettings, ForwardKind, ForwardedRequest, Input, PeerMessage, TraceContext,
};
use tenure_state::{Command, LeaseId, Origin, Request, encode_request};

const OTHER: MemberId = MemberId(2);
const CONTEXT: TraceContext = TraceContext {
    trace: [7; 16],
    span: [8; 8],
    flags: 1,
};

fn request(member: u64, token: u64) -> Request {
    Request {
        origin: Origin { member, token },
        principal: tenure_state::Principal::anonymous(),
        idempotency: None,
        command: Command::RevokeLease {
            lease: LeaseId::new(1).expect("it is positive"),
        },
    }
}

fn traced(input: Input) -> Input {
    Input::Traced {
        context: CONTEXT,
        input: Box::new(input),
    }
}

/// A member of three that the second has elected.
fn leader() -> Core {
    let mut core = member_of_three(CoreSettings::default());
    elect(&mut core);
    core
}

fn elect(core: &mut Core) {
    while !core.is_leader() {
        core.tick(Duration::from_millis(10));
        let out = core.output();
        if let Some(write) = out.write {
            core.handle(Input::Persisted(write.id));
        }
        for (to, message) in out.send.into_iter().chain(core.output().send) {
            if let PeerMessage::Raft(Message { term, body, .. }) = message
                && to == OTHER
            {
                match body {
                    Body::PreVote { .. } => {
                        hear(core, to, term, Body::PreVoteResponse { granted: true });
                    }
                    Body::Vote { .. } => {
                        hear(core, to, term, Body::VoteResponse { granted: true });
                    }
                    _ => {}
                }
            }
        }
    }
    let first = core.output().write.expect("the first entry of its term");
    core.handle(Input::Persisted(first.id));
}

#[test]
fn an_entry_says_which_of_its_requests_are_traced_and_how_long_they_have_waited() {
    let mut core = leader();
    core.handle(Input::Propose(request(1, 1)));
    core.handle(traced(Input::Propose(request(1, 2))));
    let trace = Some(CONTEXT);
    let of_another = [(8, trace), (9, None)].map(|(token, trace)| ForwardedRequest {
        token,
        kind: ForwardKind::Command,
        request: encode_request(&request(OTHER.0, token)),
        trace,
    });
    core.handle(Input::Peer {
        from: OTHER,
        message: PeerMessage::Forward(of_another.to_vec()),
    });
    core.tick(Duration::from_millis(3));
    let told = core.output().traced;
    let [entry] = told.as_slice() else {
        panic!("one entry takes all of it: {told:?}");
    };
    assert_eq!(entry.requests, 4);
    let origins = entry.traced.iter().map(|traced| traced.origin);
    let expected = [(1, 2), (OTHER.0, 8)].map(|(member, token)| Origin { member, token });
    assert!(origins.eq(expected), "{entry:?}");
    for traced in &entry.traced {
        assert_eq!(traced.context, CONTEXT);
        assert_eq!(traced.waited, Duration::from_millis(3));
    }
    assert!(core.output().traced.is_empty(), "it is told once");
}

#[test]
fn a_follower_sends_the_trace_with_the_request_and_with_no_other() {
    let mut core = member_of_three(CoreSettings::default());
    let heartbeat = Body::Heartbeat {
        commit: LogIndex(1),
        round: 1,
    };
    hear(&mut core, OTHER, Term(2), heartbeat);
    core.handle(traced(Input::Propose(request(1, 1))));
    core.handle(Input::Propose(request(1, 2)));
    let sent = core.output().send.into_iter();
    let forwarded: Vec<_> = sent
        .filter_map(|(_, message)| match message {
            PeerMessage::Forward(requests) => Some(requests),
            _ => None,
        })
        .flatten()
        .map(|request| (request.token, request.trace))
        .collect();
    assert_eq!(forwarded, [(1, Some(CONTEXT)), (2, None)]);
}

#[test]
fn of_a_request_that_is_refused_nothing_is_remembered() {
    let mut core = leader();
    // Its disk is busy, so that the second request waits.
    core.handle(Input::Propose(request(1, 1)));
    let busy = core.output().write.expect("the first request");
    core.handle(traced(Input::Propose(request(1, 2))));
    core.handle(Input::StepDown(StepDown::DiskStalled));
    let refused = core.output().refused;
    assert!(refused.iter().any(|(token, _)| *token == 2), "{refused:?}");
    core.handle(Input::Persisted(busy.id));
    elect(&mut core);
    // The same number again, without a trace.
    core.handle(Input::Propose(request(1, 2)));
    let out = core.output();
    assert!(out.write.is_some(), "it is in an entry");
    assert!(out.traced.is_empty(), "{:?}", out.traced);
}
