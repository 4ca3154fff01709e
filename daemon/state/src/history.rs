//! History as it is followed: what happened since a revision, whole, and what a key was before.
//!
//! Owns how much of it is read at a time. Whoever follows it selects and shows what concerns him outside of the state,
//! so that nothing waits for that.

use std::ops::Bound;
use std::sync::Arc;

use crate::answer::KeyEntry;
use crate::event::Change;
use crate::ids::Revision;
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

    /// A key as it was before a revision.
    ///
    /// # Errors
    ///
    /// Where that is compacted, or the revision is not reached.
    pub fn key_before(
        &self,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Arc<KeyEntry>>, ReadError> {
        let before = Revision(revision.0.saturating_sub(1));
        // The least key that is greater.
        let end = [key, &[0]].concat();
        let found = self.keys_at(before, Bound::Included(key), Some(&end), 1)?;
        Ok(found.into_iter().next())
    }
}
