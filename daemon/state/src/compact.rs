//! Compaction by hand: history that is told to go.
//!
//! Owns the target. What takes history away, a bounded piece in each entry, is where history ends by itself (`ends`).

use crate::answer::{Answer, Outcome, Refusal};
use crate::ids::Revision;
use crate::rows::{Meta, RowId};
use crate::state::State;

impl State {
    /// From here on nobody reads what lies before `revision`. A revision that is compacted already is no error: what
    /// was asked for is so.
    pub(crate) fn compact_by_hand(&mut self, revision: Revision) -> Outcome {
        let present = self.revision;
        if present < revision {
            return Err(Refusal::RevisionAhead {
                asked: revision,
                present,
            });
        }
        if self.compact_revision() < revision {
            self.touch(RowId::Meta(Meta::CompactTarget));
            self.compact_target = revision;
        }
        Ok(Answer::Compacted {
            compact_revision: self.compact_revision(),
            revision: present,
        })
    }
}
