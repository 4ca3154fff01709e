//! What stands beside the keys: the bytes that clients gave with leases, holds and places.
//!
//! Owns their account and its quota, `standing_bytes`. The account follows from the rows and is none itself. Only what
//! makes it grow is refused; a place counts as the holds that it may become, so that a grant never fails for its size.

use std::collections::BTreeMap;

use crate::answer::Refusal;
use crate::command::NewLease;
use crate::parts::{Hold, Lease, QueueId, Waiting};
use crate::state::State;

fn labels(metadata: &BTreeMap<String, String>) -> usize {
    metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

fn hold_bytes(
    queue: &QueueId,
    owner: &str,
    metadata: &BTreeMap<String, String>,
    value: &str,
) -> u64 {
    (queue.name.len() + owner.len() + labels(metadata) + value.len()) as u64
}

/// What a lease counts for.
pub(crate) fn of_lease(lease: &Lease) -> u64 {
    (lease.name.len() + labels(&lease.metadata)) as u64
}

/// What a lease will count for.
pub(crate) fn of_new_lease(new: &NewLease) -> u64 {
    (new.name.len() + labels(&new.metadata)) as u64
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
