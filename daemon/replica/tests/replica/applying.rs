//! What a member gives its applier, and how much of it at a time.

use crate::common::{hear, member_of_three};
use tenure_raft::{Body, Entry, LogIndex, LogPosition, MemberId, Payload, Stamp, Term};
use tenure_replica::{Core, CoreSettings, Input, Refused};
use tenure_state::{Command, LeaseId, Origin, Request};

const LEADER: MemberId = MemberId(2);
const TERM: Term = Term(2);
/// So many entries the applier may have before it.
const BOUND: u64 = 10;
/// The first of them stands behind the one that every log begins behind.
const FIRST: u64 = 2;
const LAST: u64 = 101;

/// A follower that has written a hundred committed entries and applied none of them.
fn follower_far_behind() -> Core {
    let mut core = member_of_three(CoreSettings {
        unapplied_entries: BOUND,
        ..CoreSettings::default()
    });
    let entry = |index| Entry {
        index: LogIndex(index),
        term: TERM,
        stamp: Stamp(index),
        payload: Payload::Empty,
    };
    let append = Body::Append {
        previous: LogPosition {
            term: Term(1),
            index: LogIndex(FIRST - 1),
        },
        entries: (FIRST..=LAST).map(entry).collect(),
        commit: LogIndex(LAST),
        round: 1,
    };
    hear(&mut core, LEADER, TERM, append);
    let write = core.output().write.expect("it has entries to write");
    core.handle(Input::Persisted(write.id));
    core
}

fn put(core: &mut Core, token: u64) -> Vec<(u64, Refused)> {
    core.handle(Input::Propose(Request {
        origin: Origin { member: 1, token },
        principal: tenure_state::Principal::anonymous(),
        idempotency: None,
        command: Command::RevokeLease {
            lease: LeaseId::new(1).expect("it is positive"),
        },
    }));
    core.output().refused
}

/// A follower whose applier stands still, or is slower than the cluster, would queue whatever the others commit, beside
/// the log that has it anyway.
#[test]
fn a_follower_with_a_slow_applier_gives_it_no_more_than_the_bound_and_in_the_end_all_of_it() {
    let mut core = follower_far_behind();
    let (mut waiting, mut applied) = (Vec::new(), FIRST - 1);
    while applied < LAST {
        waiting.extend(core.output().apply);
        assert!(
            !waiting.is_empty() && waiting.len() as u64 <= BOUND,
            "{} wait after {applied}",
            waiting.len()
        );
        let behind = BOUND < LAST - applied;
        assert_eq!(core.applier_is_behind(), behind, "after {applied}");
        // It is slow: some at a time, as many as there are or fewer.
        for entry in waiting.drain(..waiting.len().min(3)) {
            applied += 1;
            assert_eq!(entry.index, LogIndex(applied), "in order and without a gap");
        }
        core.handle(Input::Applied {
            index: LogIndex(applied),
            due: None,
            version: tenure_state::STATE_VERSION,
        });
    }
    assert!(core.output().apply.is_empty() && waiting.is_empty());
}

#[test]
fn commands_are_refused_while_more_waits_to_be_applied_than_the_bound() {
    let mut core = follower_far_behind();
    core.output();
    assert_eq!(put(&mut core, 1), [(1, Refused::Overloaded)]);
    core.handle(Input::Applied {
        index: LogIndex(LAST - BOUND),
        due: None,
        version: tenure_state::STATE_VERSION,
    });
    assert_eq!(put(&mut core, 2), []);
}
