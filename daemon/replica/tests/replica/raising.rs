//! When a leader has the version of the rules raised, and what it refuses before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{hear, member_of_three};
use tenure_raft::{
    AppendResult, Body, Change, Configuration, LogIndex, MemberId, MemberInfo, Message, Payload,
    Stamp,
};
use tenure_replica::{
    AdminRequest, CanFollow, Core, CoreSettings, ForwardKind, ForwardedRequest, Input, Operated,
    PeerMessage, Refused,
};
use tenure_state::{
    AccessChange, Command, Origin, Principal, Request, STATE_VERSION, decode_batch, encode_request,
};

/// What a member answers to a question about versions: the number of its start, and what it can.
type Answers = BTreeMap<MemberId, (u64, u64)>;

/// A member of three whose state follows the first rules, and the world around it.
struct World {
    core: Core,
    answers: Answers,
    /// To what the version was raised, by entries of this leader.
    raised: Vec<u64>,
    /// How many questions were asked.
    asked: u64,
    /// What became of operations that this member was asked.
    operated: Vec<Operated>,
}

impl World {
    fn new(most: u64, answers: &[(u64, (u64, u64))]) -> World {
        let mut core = member_of_three(CoreSettings::default());
        core.can_follow(most, 1);
        let answers = answers.iter().map(|(id, said)| (MemberId(*id), *said));
        World {
            core,
            answers: answers.collect(),
            raised: Vec::new(),
            asked: 0,
            operated: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 10 {
            self.core.tick(Duration::from_millis(10));
            self.turn();
        }
    }

    /// Everybody answers at once, and every disk is done at once.
    fn turn(&mut self) {
        loop {
            let out = self.core.output();
            if let Some(write) = &out.write {
                for entry in &write.append {
                    if let Payload::Command(bytes) = &entry.payload {
                        let batch = decode_batch(bytes).expect("it is an entry");
                        self.raised.extend(batch.raises_to());
                    }
                }
                self.core.handle(Input::Persisted(write.id));
            }
            self.operated
                .extend(out.operated.into_iter().map(|(_, result)| result));
            let sent = out.send;
            if sent.is_empty() && out.write.is_none() {
                return;
            }
            for (to, message) in sent {
                self.answer(to, message);
            }
        }
    }

    fn answer(&mut self, to: MemberId, message: PeerMessage) {
        match message {
            PeerMessage::AskVersion { round } => {
                self.asked += 1;
                if let Some((start, version)) = self.answers.get(&to).copied() {
                    let said = CanFollow {
                        round,
                        start,
                        version,
                    };
                    let message = PeerMessage::CanFollow(said);
                    self.core.handle(Input::Peer { from: to, message });
                }
            }
            PeerMessage::Raft(Message { term, body, .. }) => {
                let answer = match body {
                    Body::PreVote { .. } => Body::PreVoteResponse { granted: true },
                    Body::Vote { .. } => Body::VoteResponse { granted: true },
                    Body::Append {
                        previous,
                        entries,
                        round,
                        ..
                    } => Body::AppendResponse {
                        result: AppendResult::Accepted {
                            matched: LogIndex(previous.index.0 + entries.len() as u64),
                        },
                        round,
                    },
                    Body::Heartbeat { round, .. } => Body::HeartbeatResponse { round },
                    _ => return,
                };
                hear(&mut self.core, to, term, answer);
            }
            _ => {}
        }
    }

    fn lead(&mut self) {
        while !self.core.is_leader() {
            self.pass(Duration::from_millis(10));
        }
    }

    /// The state here follows these rules, and has all that is committed.
    fn apply_all(&mut self, version: u64) {
        self.apply(self.core.status().commit, version);
    }

    fn apply(&mut self, index: LogIndex, version: u64) {
        self.core.handle(Input::Applied {
            index,
            due: None,
            version,
        });
        self.turn();
    }

    /// Asks this member to add somebody who can follow rules up to `follows`; what is known at once of what came of it.
    fn add(&mut self, id: u64, follows: u64) -> Option<Operated> {
        let change = Change::Add {
            id: MemberId(id),
            info: MemberInfo {
                name: format!("n{id}"),
                ..MemberInfo::default()
            },
            promote: false,
        };
        let operation = AdminRequest::Admit { change, follows };
        let token = 1;
        self.operated.clear();
        self.core.handle(Input::Operate { token, operation });
        self.turn();
        self.operated.pop()
    }

    fn is_member(&self, id: u64) -> bool {
        let configuration: &Configuration = self.core.configuration();
        configuration.contains(MemberId(id))
    }
}

fn check_busy(told: Option<Operated>, because: &str) {
    match told {
        Some(Operated::Busy(why)) => assert!(why.contains(because), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_version_is_raised_once_by_a_leader_to_whom_all_say_that_they_can() {
    let mut world = World::new(2, &[(2, (7, 2)), (3, (8, 2))]);
    world.lead();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.raised, [2]);
    world.core.handle(Input::Applied {
        index: LogIndex(3),
        due: None,
        version: 2,
    });
    let asked = world.asked;
    world.pass(Duration::from_secs(10));
    assert_eq!(
        (&world.raised[..], world.asked),
        (&[2][..], asked),
        "nobody is asked any more"
    );
    assert_eq!(world.core.versions_said(), []);
}

#[test]
fn whoever_says_nothing_or_less_keeps_the_version_where_it_is_and_is_known() {
    let check = |most, answers: &[(u64, (u64, u64))], said: &[(u64, u64)]| {
        let mut world = World::new(most, answers);
        world.lead();
        world.pass(Duration::from_secs(20));
        assert_eq!(world.raised, [], "{answers:?}");
        let shown: Vec<_> = said
            .iter()
            .map(|(id, version)| (MemberId(*id), *version))
            .collect();
        assert_eq!(world.core.versions_said(), shown);
    };
    check(2, &[(2, (7, 2)), (3, (8, 1))], &[(1, 2), (2, 2), (3, 1)]);
    check(2, &[(2, (7, 2))], &[(1, 2), (2, 2)]);
    check(1, &[(2, (7, 2)), (3, (8, 2))], &[(1, 1), (2, 2), (3, 2)]);
}

#[test]
fn a_member_that_is_started_anew_in_between_is_asked_again() {
    let mut world = World::new(2, &[(2, (7, 2))]);
    world.lead();
    // It is another run of the third in every turn: no two rounds have the same answers.
    for start in 100..400 {
        world.answers.insert(MemberId(3), (start, 2));
        world.core.tick(Duration::from_millis(10));
        // One round of questions a turn.
        let out = world.core.output();
        if let Some(write) = out.write {
            world.core.handle(Input::Persisted(write.id));
        }
        for (to, message) in out.send {
            world.answer(to, message);
        }
    }
    assert_eq!(world.raised, []);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.raised, [2], "it stays as it is");
}

#[test]
fn answers_to_an_earlier_question_count_for_nothing() {
    let mut world = World::new(2, &[(2, (7, 2))]);
    world.lead();
    for round in 0..200 {
        let message = PeerMessage::CanFollow(CanFollow {
            round,
            start: 8,
            version: 2,
        });
        // All questions of the past, and none of those that are asked now.
        world.pass(Duration::from_millis(20));
        if round + 1 < world.asked / 2 {
            let from = MemberId(3);
            world.core.handle(Input::Peer { from, message });
        }
    }
    assert_eq!(world.raised, []);
}

fn change(member: u64, token: u64, command: Command) -> Request {
    Request {
        origin: Origin { member, token },
        principal: Principal::anonymous(),
        idempotency: None,
        command,
    }
}

fn newer() -> Command {
    Command::ChangeAccess(AccessChange::Enable { enabled: true })
}

#[test]
fn what_only_newer_rules_know_is_refused_here_and_for_others_until_they_are_in_force() {
    let mut world = World::new(2, &[]);
    let raise = Command::RaiseVersion { to: 2 };
    let refused = |world: &mut World, token| {
        world.core.handle(Input::Propose(change(1, token, newer())));
        world.core.output().refused
    };
    assert_eq!(
        refused(&mut world, 1),
        [(1, Refused::RulesTooOld)],
        "without a leader, too"
    );
    world.lead();
    assert_eq!(refused(&mut world, 2), [(2, Refused::RulesTooOld)]);
    for command in [newer(), raise] {
        let forwarded = ForwardedRequest {
            token: 5,
            kind: ForwardKind::Command,
            request: encode_request(&change(2, 5, command)),
            trace: None,
        };
        let message = PeerMessage::Forward(vec![forwarded]);
        let from = MemberId(2);
        world.core.handle(Input::Peer { from, message });
        let told: Vec<_> = world
            .core
            .output()
            .send
            .into_iter()
            .filter_map(|(to, message)| match message {
                PeerMessage::Refused { tokens, reason } => Some((to, tokens, reason)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [(from, vec![5], Refused::RulesTooOld)]);
    }
    world.core.handle(Input::Applied {
        index: LogIndex(1),
        due: Some(Stamp(u64::MAX)),
        version: STATE_VERSION,
    });
    assert_eq!(refused(&mut world, 3), []);
}

#[test]
fn a_member_says_what_it_can_in_this_run() {
    for most in [1, 2] {
        let mut world = World::new(most, &[]);
        let (from, round) = (MemberId(2), 77);
        let message = PeerMessage::AskVersion { round };
        world.core.handle(Input::Peer { from, message });
        let said = CanFollow {
            round,
            start: 0,
            version: most,
        };
        let sent = world.core.output().send;
        assert!(
            sent.contains(&(from, PeerMessage::CanFollow(said))),
            "{sent:?}"
        );
    }
}

#[test]
fn whoever_was_looked_at_before_the_version_was_raised_is_judged_by_the_one_in_force() {
    let mut world = World::new(2, &[(2, (7, 2)), (3, (8, 2))]);
    world.lead();
    world.apply_all(2);
    match world.add(4, 1) {
        Some(Operated::Unsafe(why)) => {
            let parts = ["0000000000000004", "up to state version 1", "follows 2"];
            assert!(parts.iter().all(|part| why.contains(part)), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!world.is_member(4));
    assert_eq!(world.add(4, 2), Some(Operated::Changed));
    assert!(world.is_member(4));
}

#[test]
fn nobody_becomes_a_member_while_an_entry_of_this_leader_that_raises_the_version_is_not_applied() {
    let mut world = World::new(2, &[(2, (7, 2)), (3, (8, 2))]);
    world.lead();
    let first = world.core.raft().leads_from().expect("it leads");
    world.apply(first, 1);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.raised, [2]);
    // However long its applier takes.
    world.pass(Duration::from_secs(60));
    for follows in [1, 2] {
        check_busy(world.add(4, follows), "is being raised");
    }
    assert_eq!((world.is_member(4), &world.raised[..]), (false, &[2][..]));
    world.apply_all(2);
    assert_eq!(world.add(4, 2), Some(Operated::Changed));
}

#[test]
fn a_new_leader_takes_nobody_before_it_has_applied_what_earlier_leaders_logged() {
    let mut world = World::new(2, &[]);
    world.lead();
    // An entry of an earlier leader may raise the version, for all that its state can tell.
    check_busy(world.add(4, 1), "just elected");
    assert!(!world.is_member(4));
    world.apply_all(1);
    assert_eq!(world.add(4, 1), Some(Operated::Changed));
}

#[test]
fn whoever_comes_and_can_follow_less_keeps_the_version_where_it_is() {
    let mut world = World::new(2, &[(2, (7, 2))]);
    world.lead();
    world.apply_all(1);
    assert_eq!(world.add(4, 1), Some(Operated::Changed));
    world.answers.insert(MemberId(3), (8, 2));
    world.answers.insert(MemberId(4), (9, 1));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.raised, []);
    world.answers.insert(MemberId(4), (10, 2));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.raised, [2]);
}
