//! What disks hold, compared with what members make of it.
//!
//! Owns two demands: the order of what is compacted, snapshot, applied and logged on the disks of one member, and that a
//! leader takes nothing for matched that is not on the other's disk.

use tenure_raft::{LogIndex, LogPosition};

use super::consensus::{View, place_of};
use super::demand;
use crate::disk::{DurableLog, LogDisk, StateDisk};

/// On the disks of a member the log begins behind nothing that the checkpoint does not cover, and the checkpoint covers
/// nothing that is not in the log; a snapshot that was just installed goes ahead of the log, which is reset to it next.
pub(crate) fn judge_order(member: usize, log: &DurableLog, state: &StateDisk) {
    let (base, last) = (log.base.position.index, log.last().index);
    let covered = state.durable.meta.position.index;
    demand!(
        base <= covered,
        "disk-order",
        "n{} begins its log behind {base}; its checkpoint covers {covered}",
        member + 1
    );
    demand!(
        covered <= last || state.is_installed(),
        "disk-order",
        "n{} has a checkpoint of {covered}; its log ends at {last}",
        member + 1
    );
    demand!(
        log.entries
            .iter()
            .map(|entry| entry.term)
            .is_sorted_by(|a, b| a <= b)
            && log.last().term <= log.hard_state.term,
        "disk-order",
        "n{} has a log that ends at {:?} and the term {}",
        member + 1,
        log.last(),
        log.hard_state.term
    );
}

/// What a leader takes for matched is durable at the other, as long as that one knows of no later term.
pub(super) fn judge_matched(member: usize, view: &View<'_>, disks: &[&LogDisk]) {
    for peer in &view.status.progress {
        let Some(disk) = disks.get(place_of(peer.id)).map(|disk| &disk.durable) else {
            continue;
        };
        if peer.matched == LogIndex(0) || view.status.term < disk.hard_state.term {
            continue;
        }
        let there = match view.raft.term_at(peer.matched) {
            Some(term) => disk.holds(LogPosition {
                term,
                index: peer.matched,
            }),
            None => peer.matched <= disk.last().index,
        };
        demand!(
            there && disk.hard_state.term == view.status.term,
            "matched-durable",
            "n{} leads term {} and takes {} for matched at {:?}; its disk ends at {:?} and is of term {}",
            member + 1,
            view.status.term,
            peer.matched,
            peer.id,
            disk.last(),
            disk.hard_state.term
        );
    }
}
