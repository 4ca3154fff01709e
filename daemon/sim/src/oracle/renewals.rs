//! Renewals go before ends: no leader ends a lease whose renewal it has.
//!
//! Owns which entry ended a lease, and when each leader began. A renewal that reached a leader before it appended the end
//! of that lease must not stand behind it.

use std::collections::BTreeMap;

use tenure_raft::{MemberId, Term};
use tenure_state::LeaseId;

use super::consensus::Committed;
use super::{Calls, demand};
use crate::time::Moment;

/// The entry that ended a lease.
struct End {
    term: Term,
    leader: Option<MemberId>,
    appended: Moment,
}

#[derive(Default)]
pub(super) struct Renewals {
    /// When the first entry of a term was appended.
    began: BTreeMap<Term, Moment>,
    ends: BTreeMap<LeaseId, End>,
}

impl Renewals {
    /// An entry is applied: none of its renewals waited at a leader that ended their lease.
    pub(super) fn entry(&mut self, committed: &Committed, calls: &Calls) {
        let began = *self
            .began
            .entry(committed.term)
            .or_insert(committed.appended);
        for renewal in &committed.batch.renewals {
            let (Some(end), Some(received)) = (
                self.ends.get(&renewal.lease),
                calls.received_at(renewal.origin),
            ) else {
                continue;
            };
            let at_leader = end.leader == Some(MemberId(renewal.origin.member));
            demand!(
                !at_leader
                    || end.term != committed.term
                    || received <= began
                    || end.appended <= received,
                "renewals-first",
                "a renewal of {} reached its leader at {received}, which ended the lease at {}",
                renewal.lease,
                end.appended
            );
        }
    }

    /// A lease ran out.
    pub(super) fn ended(&mut self, lease: LeaseId, committed: &Committed) {
        let end = End {
            term: committed.term,
            leader: committed.leader,
            appended: committed.appended,
        };
        self.ends.insert(lease, end);
    }
}
