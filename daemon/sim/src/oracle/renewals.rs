//! Renewals ride on the next entry, so that no leader ends a lease whose renewal it has.
//!
//! Owns when each leader began, and when it appended its last entry. A renewal that reached a leader before it appended an
//! entry must not stand behind that one.

use std::collections::BTreeMap;

use tenure_raft::{MemberId, Term};

use super::consensus::Committed;
use super::{Calls, demand};
use crate::time::Moment;

#[derive(Default)]
pub(super) struct Renewals {
    /// When the first entry of a term was appended.
    began: BTreeMap<Term, Moment>,
    /// When the last entry was, and in which term.
    last: Option<(Term, Moment)>,
}

impl Renewals {
    /// An entry is applied: none of its renewals waited at the leader when that appended the entry before.
    pub(super) fn entry(&mut self, committed: &Committed, calls: &Calls) {
        let began = *self
            .began
            .entry(committed.term)
            .or_insert(committed.appended);
        let last = self.last.replace((committed.term, committed.appended));
        let Some((_, before)) = last.filter(|(term, _)| *term == committed.term) else {
            return;
        };
        for renewal in &committed.batch.renewals {
            let at_leader = committed.leader == Some(MemberId(renewal.origin.member));
            let received = calls.received_at(renewal.origin).filter(|_| at_leader);
            demand!(
                received.is_none_or(|received| received <= began || before <= received),
                "renewals-first",
                "a renewal of {} reached its leader at {received:?} and stands behind an entry that was appended at {before}",
                renewal.lease
            );
        }
    }
}
