//! History as it is followed: what happened since a revision, whole.
//!
//! Owns how much of it is read at a time. Whoever follows it selects and shows what concerns him outside of the state,
//! so that nothing waits for that.

use std::collections::BTreeSet;

use crate::event::{Change, Event};
use crate::ids::{LeaseId, Revision};
use crate::reads::ReadError;
use crate::state::State;

/// A piece of history.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// Every revision of it, whole, in order.
    pub changes: Vec<Change>,
    /// Everything up to here was seen.
    pub through: Revision,
    /// Whether there is more.
    pub more: bool,
}

impl State {
    /// What happened after a revision: whole revisions, until there are `most` events or more. At least one revision is
    /// told where there is one, so that whoever asks gets on.
    ///
    /// # Errors
    ///
    /// Where history from there on is compacted, or the revision is not reached.
    pub fn history(&self, after: Revision, most: usize) -> Result<Span, ReadError> {
        self.check_reachable(after)?;
        let mut span = Span {
            through: after,
            ..Span::default()
        };
        let mut events = 0;
        let skipped =
            usize::try_from(after.0.saturating_sub(self.history.base.0)).unwrap_or(usize::MAX);
        for recorded in self.history.changes.iter().skip(skipped) {
            if most <= events {
                span.more = true;
                return Ok(span);
            }
            events += recorded.change.events.len();
            span.through = recorded.change.revision;
            span.changes.push(recorded.change.clone());
        }
        span.through = self.revision();
        Ok(span)
    }

    /// The leases that these changes concern: those that they name, and those that lost a key to a put, which names only
    /// the lease that the key hangs on from then on.
    pub fn leases_of(&self, changes: &[Change]) -> BTreeSet<LeaseId> {
        let mut leases = BTreeSet::new();
        for change in changes {
            for event in change.events.iter() {
                leases.extend(lease_of(event));
                if let Event::Put(entry) = event
                    && entry.version > 1
                    && let Some(before) = self.key_before(change.revision, &entry.key)
                {
                    leases.extend(before.lease);
                }
            }
        }
        leases
    }
}

fn lease_of(event: &Event) -> Option<LeaseId> {
    match event {
        Event::Put(entry) => entry.lease,
        Event::Delete { lease, .. } => *lease,
        Event::Granted(grant) => Some(grant.lease),
        Event::Queued { place } => Some(place.lease),
        Event::Proclaimed { .. } => None,
        Event::Released { lease, .. }
        | Event::Left { lease, .. }
        | Event::LeaseGranted { lease, .. }
        | Event::LeaseEnded { lease, .. } => Some(*lease),
    }
}
