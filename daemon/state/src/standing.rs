//! What stands beside the keys: the memory of leases, holds and places.
//!
//! Owns their account and its quota, `standing_bytes`. The account follows from the rows and is none itself. Only what
//! makes it grow is refused; a place counts as the holds that it may become, so that a grant never fails for its size.
//!
//! Counted are the bytes that clients gave, and a flat share for the rest that is about what memory holds: most things
//! are small, and the nodes of the trees in which they stand are many times their text. `tests/memory.rs` holds the
//! account against the allocator for things of many shapes, as they were made and as they were loaded.

use std::collections::BTreeMap;

use crate::answer::Refusal;
use crate::command::NewLease;
use crate::parts::{Hold, Lease, QueueId, Waiting};
use crate::state::State;

/// A lease less its text: its entries by id and by deadline, and the node for what hangs on it.
const LEASE: usize = 448;
/// A hold less its text, with the queue that is there because of it.
const HOLD: usize = 1280;
/// The first node of a tree of labels.
const LABELS: usize = 384;
/// A label less its text: its place in a node, and two allocations that are larger than a short text.
const LABEL: usize = 128;

/// What labels count for.
pub(crate) fn labels(metadata: &BTreeMap<String, String>) -> usize {
    let each = metadata
        .iter()
        .map(|(key, value)| LABEL + key.len() + value.len());
    match metadata.is_empty() {
        true => 0,
        false => LABELS + each.sum::<usize>(),
    }
}

fn hold_bytes(
    queue: &QueueId,
    owner: &str,
    metadata: &BTreeMap<String, String>,
    value: &str,
) -> u64 {
    (HOLD + queue.name.len() + owner.len() + labels(metadata) + value.len()) as u64
}

/// What a lease counts for.
pub(crate) fn of_lease(lease: &Lease) -> u64 {
    (LEASE + lease.name.len() + labels(&lease.metadata)) as u64
}

/// What a lease will count for.
pub(crate) fn of_new_lease(new: &NewLease) -> u64 {
    (LEASE + new.name.len() + labels(&new.metadata)) as u64
}

/// What a hold counts for.
pub(crate) fn of_hold(queue: &QueueId, owner: &str, hold: &Hold) -> u64 {
    hold_bytes(queue, owner, &hold.metadata, &hold.value)
}

/// What a request counts for, whether it waits or holds.
pub(crate) fn of_request(request: &Waiting) -> u64 {
    let (owner, metadata) = (&request.asker.owner, &request.metadata);
    let wanted = request.wanted.iter();
    wanted
        .map(|want| hold_bytes(&want.queue, owner, metadata, &request.value))
        .sum()
}

impl State {
    /// Refuses what would make the account grow beyond its quota.
    pub(crate) fn check_standing(&self, added: u64) -> Result<(), Refusal> {
        let allowed = self.limits.standing_bytes;
        let asked = self.standing.saturating_add(added);
        match added == 0 || asked <= allowed {
            true => Ok(()),
            false => Err(Refusal::QuotaExceeded {
                limit: "standing_bytes",
                allowed,
                asked,
            }),
        }
    }

    /// The account as the parts of the state give it.
    pub(crate) fn counted_standing(&self) -> u64 {
        let leases = self.leases.by_id.values().map(of_lease).sum::<u64>();
        let places = self.places.values().map(of_request).sum::<u64>();
        let holds = self.queues.iter().flat_map(|(id, queue)| {
            queue
                .holds
                .iter()
                .map(|(asker, hold)| of_hold(id, &asker.owner, hold))
        });
        leases + places + holds.sum::<u64>()
    }
}
