//! What an entry costs the core: proposed, replicated to two followers and committed by all three, with disks and a
//! network that take no time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use tenure_raft::{Configuration, MemberId, Message, Raft, Restored, Settings, SnapshotMeta};

fn main() {
    divan::main();
}

struct Group {
    members: BTreeMap<MemberId, Raft>,
    network: Vec<Message>,
    applied: BTreeMap<MemberId, SnapshotMeta>,
}

impl Group {
    fn new() -> Group {
        let ids: Vec<MemberId> = (1..=3).map(MemberId).collect();
        let configuration = Configuration {
            voters: ids.iter().copied().collect(),
            ..Configuration::default()
        };
        let restored = Restored::genesis(configuration);
        let start = |&id: &MemberId| {
            let raft = Raft::new(id, Settings::default(), id.0, restored.clone())
                .expect("the genesis is sound");
            (id, raft)
        };
        let members = ids.iter().map(start).collect();
        let applied = ids
            .iter()
            .map(|&id| (id, restored.applied.clone()))
            .collect();
        let mut group = Group {
            members,
            network: Vec::new(),
            applied,
        };
        group.leader().tick(Duration::from_secs(1));
        group.settle();
        assert!(group.leader().is_leader(), "the first member leads");
        group
    }

    fn leader(&mut self) -> &mut Raft {
        self.members.get_mut(&MemberId(1)).expect("it is a member")
    }

    /// Delivers and persists until nothing is under way.
    fn settle(&mut self) {
        loop {
            for (id, raft) in &mut self.members {
                loop {
                    let ready = raft.ready();
                    let Some(write) = ready.write else {
                        self.network.extend(ready.messages);
                        note(self.applied.get_mut(id), &ready.committed);
                        break;
                    };
                    raft.persisted(write.id);
                    self.network
                        .extend(ready.messages.into_iter().chain(write.then));
                    note(self.applied.get_mut(id), &ready.committed);
                }
            }
            if self.network.is_empty() {
                return;
            }
            for message in self.network.drain(..) {
                if let Some(raft) = self.members.get_mut(&message.to) {
                    raft.receive(message);
                }
            }
        }
    }

    /// Compacts, so that a long run measures a log of the length that it has in service.
    fn checkpoint(&mut self) {
        for (id, raft) in &mut self.members {
            raft.checkpointed(self.applied[id].clone());
        }
    }
}

fn note(applied: Option<&mut SnapshotMeta>, committed: &[tenure_raft::Entry]) {
    if let (Some(applied), Some(last)) = (applied, committed.last()) {
        (applied.position, applied.stamp) = (last.position(), last.stamp);
    }
}

/// Entries of 256 bytes that are proposed together: one for a lone client, more under load.
#[divan::bench(args = [1, 16, 256])]
fn propose_replicate_commit(bencher: Bencher<'_, '_>, together: usize) {
    let mut group = Group::new();
    let command = Bytes::from(vec![0; 256]);
    bencher.counter(ItemsCount::new(together)).bench_local(|| {
        for _ in 0..together {
            group
                .leader()
                .propose(command.clone())
                .expect("the leader takes proposals");
        }
        group.settle();
        group.checkpoint();
    });
}
