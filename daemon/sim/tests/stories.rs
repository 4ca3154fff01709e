//! Bugs that the simulator found, each told by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tenure_raft::{
    Configuration, HardState, LogIndex, LogPosition, MemberId, MemberInfo, Restored, Settings,
    SnapshotMeta, Stamp, Term,
};
use tenure_replica::{Core, CoreSettings, Input};
use tenure_state::{Command, Operation, Origin, Put, Request, Transaction};

fn formed(settings: Settings) -> Core {
    let id = MemberId(1);
    let configuration = Configuration {
        voters: [id].into(),
        info: [(id, MemberInfo::default())].into(),
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
            term: Term(1),
            vote: None,
        },
        base: base.clone(),
        entries: Vec::new(),
        applied: base,
    };
    let settings = CoreSettings {
        raft: settings,
        ..CoreSettings::default()
    };
    Core::new(id, settings, 7, restored).expect("it has just been formed")
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
        idempotency: None,
        command,
    })
}

/// Seed 124. An entry that was due, while the log took none, stayed due: the core wanted its next turn at once, for ever,
/// and its thread spun until a follower or a disk came back.
#[test]
fn a_leader_whose_log_is_full_does_not_turn_without_pause() {
    let mut core = formed(Settings {
        max_uncommitted_bytes: 1,
        ..Settings::default()
    });
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
