//! Reads of many things, in pieces.
//!
//! Nothing is applied while a read looks at the state, so each of these looks at a bounded number of rows and says where
//! to go on; whoever wants more lets entries be applied in between. Pieces of keys at one revision fit together, however
//! far the state has moved on, while that revision is not compacted.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::answer::{KeyEntry, LeaseView, QueueView};
use crate::event::prefix_end;
use crate::ids::{Clock, Kind, LeaseId, Revision};
use crate::reads::ReadError;
use crate::state::State;

/// The order of a read of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The least key first.
    Ascending,
    /// The greatest key first.
    Descending,
}

/// A half-open range of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyRange {
    /// From here, included.
    pub start: Bytes,
    /// To here, excluded; `None` is the end of all keys.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key that begins so.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        KeyRange {
            start: Bytes::copy_from_slice(prefix),
            end: prefix_end(prefix),
        }
    }

    /// What of it comes after a key, in this order.
    pub fn after(&self, key: &[u8], order: Order) -> KeyRange {
        let mut rest = self.clone();
        match order {
            Order::Ascending => {
                let mut next = BytesMut::with_capacity(key.len() + 1);
                next.put_slice(key);
                next.put_u8(0);
                rest.start = rest.start.max(next.freeze());
            }
            Order::Descending => {
                let key = Bytes::copy_from_slice(key);
                rest.end = Some(rest.end.map_or(key.clone(), |end| end.min(key)));
            }
        }
        rest
    }
}

/// A piece of a range of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeysPiece {
    /// The keys found, in the order asked for.
    pub keys: Vec<Arc<KeyEntry>>,
    /// What of the range was not looked at; `None` where all was.
    pub rest: Option<KeyRange>,
}

/// A piece of a count of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CountPiece {
    /// How many there are in what was looked at.
    pub count: u64,
    /// What of the range was not looked at; `None` where all was.
    pub rest: Option<KeyRange>,
}

/// A piece of the locks, semaphores or elections that are held or waited for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueuesPage {
    /// Their names and what they are, without their places.
    pub queues: Vec<(String, QueueView)>,
    /// How many match in all, not on the page.
    pub count: u64,
    /// Whether more follow the last one.
    pub more: bool,
}

impl State {
    /// Leases in the order of their ids; `clock` is that of the read. How many there are says [`State::lease_count`].
    pub fn leases_page(
        &self,
        start_after: Option<LeaseId>,
        limit: usize,
        clock: Clock,
    ) -> Vec<LeaseView> {
        let first = LeaseId::new(start_after.map_or(1, |lease| lease.number().saturating_add(1)));
        let leases = first
            .into_iter()
            .flat_map(|first| self.leases.by_id.range(first..));
        leases
            .take(limit)
            .filter_map(|(lease, _)| self.view_lease(*lease, clock).ok())
            .collect()
    }

    /// What of a kind is held or waited for, in the order of names: at most `limit` of them, fewer where they and their
    /// holders come to `max_rows`, but one at least.
    pub fn queues_page(
        &self,
        kind: Kind,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        max_rows: usize,
    ) -> QueuesPage {
        let (prefix, end) = (prefix.as_bytes(), prefix_end(prefix.as_bytes()));
        let is_before_end = |of: Kind, name: &[u8]| match &end {
            Some(end) => (of, name) < (kind, &end[..]),
            None => of <= kind,
        };
        let before_all = self
            .active
            .count_before(|id| (id.kind, id.name.as_bytes()) < (kind, prefix));
        let through_all = self
            .active
            .count_before(|id| is_before_end(id.kind, id.name.as_bytes()));
        let mut page = QueuesPage {
            count: through_all.saturating_sub(before_all) as u64,
            ..QueuesPage::default()
        };
        let following = self.active.after_point(|id| {
            let name = id.name.as_bytes();
            let was_seen =
                start_after.is_some_and(|seen| (id.kind, name) <= (kind, seen.as_bytes()));
            was_seen || (id.kind, name) < (kind, prefix)
        });
        let mut rows = 0;
        for id in following.take_while(|id| is_before_end(id.kind, id.name.as_bytes())) {
            if limit <= page.queues.len() || (max_rows <= rows && !page.queues.is_empty()) {
                page.more = true;
                return page;
            }
            let Some(queue) = self.queues.get(id) else {
                continue;
            };
            let view = self.view_queue_alone(queue);
            rows += 1 + view.holders.len();
            page.queues.push((id.name.to_string(), view));
        }
        page
    }

    /// A key as it was at a revision.
    ///
    /// # Errors
    ///
    /// Where the revision is compacted, or not reached.
    pub fn key_at(
        &self,
        revision: Revision,
        key: &[u8],
    ) -> Result<Option<Arc<KeyEntry>>, ReadError> {
        self.check_reachable(revision)?;
        Ok(self.keys.at(key, revision).cloned())
    }

    /// A key as it was before an event of a revision that is still told: what the event replaced or deleted.
    pub fn key_before(&self, revision: Revision, key: &[u8]) -> Option<Arc<KeyEntry>> {
        let before = Revision(revision.0.checked_sub(1)?);
        self.keys.at(key, before).cloned()
    }

    /// Keys of a range as they were at a revision: at most `max_keys`, having looked at no more than `max_rows`.
    ///
    /// # Errors
    ///
    /// Where the revision is compacted, or not reached.
    pub fn keys_piece(
        &self,
        revision: Revision,
        range: &KeyRange,
        order: Order,
        max_keys: usize,
        max_rows: usize,
    ) -> Result<KeysPiece, ReadError> {
        self.check_reachable(revision)?;
        let mut piece = KeysPiece::default();
        let mut last: Option<&[u8]> = None;
        for (rows, (key, entry)) in self.keys.walk(revision, range, order).enumerate() {
            if let Some(last) = last.filter(|_| max_rows <= rows || max_keys <= piece.keys.len()) {
                piece.rest = Some(range.after(last, order));
                return Ok(piece);
            }
            piece.keys.extend(entry.cloned());
            last = Some(key);
        }
        Ok(piece)
    }

    /// How many keys of a range there were at a revision. Where nothing of it changed since, that costs little however
    /// many there are; otherwise no more than `max_rows` are looked at, or what lies together where that is more.
    ///
    /// # Errors
    ///
    /// Where the revision is compacted, or not reached.
    pub fn count_piece(
        &self,
        revision: Revision,
        range: &KeyRange,
        max_rows: usize,
    ) -> Result<CountPiece, ReadError> {
        self.check_reachable(revision)?;
        if revision == self.revision {
            let end = range.end.as_ref().map(|end| &end[..]);
            let count = self
                .keys
                .count(std::ops::Bound::Included(&range.start), end);
            return Ok(CountPiece { count, rest: None });
        }
        let (count, next) = self.keys.count_at(revision, range, max_rows);
        let rest = next.map(|start| KeyRange {
            start,
            end: range.end.clone(),
        });
        Ok(CountPiece { count, rest })
    }
}
