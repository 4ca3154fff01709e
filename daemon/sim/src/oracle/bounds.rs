//! Everything that can grow, against its limit.
//!
//! Owns the comparison of each queue of a member with the setting that bounds it, after every turn. Where one element may
//! go beyond a bound in bytes, the largest that there can be is granted on top.

use tenure_raft::{Raft, Status};
use tenure_replica::{Core, CoreSettings};

use super::demand;

/// More than any one request or entry of these runs has beyond its share of a batch.
const ONE_MORE: usize = 64 << 10;

pub(crate) fn judge(member: usize, core: &Core, settings: &CoreSettings) {
    let sizes = core.sizes();
    let raft = &settings.raft;
    let bounds = [
        ("requests", sizes.requests, settings.waiting_requests),
        (
            "bytes of requests",
            sizes.request_bytes,
            settings.waiting_bytes + ONE_MORE,
        ),
        ("renewals", sizes.renewals, settings.waiting_renewals),
        // They are sent in the turn in which there are so many.
        ("forwards", sizes.forwards, settings.waiting_renewals),
        (
            "messages in flight",
            sizes.window_messages,
            raft.max_inflight_messages,
        ),
        (
            "bytes in flight",
            sizes.window_bytes,
            raft.max_inflight_bytes + raft.max_append_bytes + settings.batch_bytes + ONE_MORE,
        ),
    ];
    for (what, count, bound) in bounds {
        demand!(
            count <= bound,
            "bounded",
            "n{} has {count} {what}; the bound is {bound}",
            member + 1
        );
    }
}

/// What is committed waits in the log, and only so much of it before the applier.
pub(crate) fn judge_applier(member: usize, waiting: usize, settings: &CoreSettings) {
    demand!(
        waiting as u64 <= settings.unapplied_entries,
        "bounded",
        "n{} has {waiting} entries to apply; the bound is {}",
        member + 1,
        settings.unapplied_entries
    );
}

/// What a leader has proposed and nobody has committed is bounded, and so is what its own disk has not taken.
pub(crate) fn judge_log(member: usize, raft: &Raft, status: &Status, settings: &CoreSettings) {
    let bytes_after = |index| -> usize {
        let after = raft.log_entries().skip_while(|entry| entry.index <= index);
        // What it took over may be more: a new leader does not know how much of that is committed (seed 40273).
        let own = after.filter(|entry| entry.term == status.term);
        own.map(tenure_raft::Entry::size).sum()
    };
    // An entry carries all renewals that wait, and one batch.
    let most_entry = settings.batch_bytes + settings.waiting_renewals.min(4096) * 32 + ONE_MORE;
    // A change of the membership is appended whatever waits, and so is the one that ends a joint configuration.
    let changes = 2 * (raft.configuration().size() + 64);
    let bounds = [
        (
            "uncommitted bytes",
            bytes_after(status.commit),
            settings.raft.max_uncommitted_bytes,
        ),
        (
            "unwritten bytes",
            bytes_after(status.durable),
            settings.raft.max_unwritten_bytes,
        ),
    ];
    for (what, bytes, bound) in bounds {
        demand!(
            bytes <= bound + most_entry + changes,
            "bounded",
            "n{} leads with {bytes} {what}; the bound is {bound}",
            member + 1
        );
    }
}
