//! The applier of a member: the state, and where in the log it stands.
//!
//! Owns the state and the position, stamp and configuration of the last entry applied. Applies every entry once, in
//! order, and answers those that this member's clients asked for. Never decides what is committed, and never reads a
//! clock: the stamp of the entry is the time.

use std::sync::Arc;

use crate::digests::COMPARED_EVERY;
use tenure_mutants::{Mutant, mutated};
use tenure_raft::{Entry, LogIndex, MemberId, Payload, SnapshotMeta, Stamp};
use tenure_state::{
    Batch, Clock, CodecError, Outcome, Revision, RowChange, STATE_VERSION, State, decode_batch,
};

use crate::raising::NOBODY_WAITS;

/// The state of a member and its place in the log.
pub struct Applier {
    me: MemberId,
    compared_every: u64,
    /// The newest version of the rules that it follows.
    most: u64,
    state: State,
    applied: SnapshotMeta,
}

/// What applying some entries brought about.
#[derive(Debug, Default)]
pub struct Progress {
    /// Outcomes of the requests that this member was asked, by token.
    pub decided: Vec<(u64, Decided)>,
    /// The revision before the first entry; everything after it up to the state's present one is new to watchers.
    pub before: Revision,
    /// How many leases ran out.
    pub leases_expired: u64,
    /// The digests of the state at the entries at which states are compared.
    pub digests: Vec<(LogIndex, u128)>,
}

/// The outcome of a request, and when it was decided.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What came of it.
    pub outcome: Outcome,
    /// Whether it was decided before and recorded (`api.md` §2, Exactly once).
    pub replayed: bool,
    /// The revision of the state right after its entry.
    pub revision: Revision,
    /// The stamp of its entry.
    pub clock: Clock,
}

/// The rows that changed since the last checkpoint, and what they amount to.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The last entry that they reflect.
    pub meta: SnapshotMeta,
    /// The digest of the whole state there.
    pub digest: u128,
    /// The rows.
    pub rows: Vec<RowChange>,
}

/// An entry that cannot be applied. The member must stop: the others decide what the entry means.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Its command cannot be decoded: it was written by a newer version, or is damaged.
    #[error(
        "the entry at index {index} cannot be decoded: {source}; a newer version wrote it, or it is damaged"
    )]
    Undecodable {
        /// Which entry.
        index: LogIndex,
        /// What is wrong with it.
        source: CodecError,
    },
    /// It raises the rules to a version that this member does not follow.
    #[error(
        "the entry at index {index} raises the cluster to state version {found}, and this member follows up to {most}: {}", remedy(*.most)
    )]
    NewerRules {
        /// Which entry.
        index: LogIndex,
        /// The version that it raises to.
        found: u64,
        /// The newest version that this member follows.
        most: u64,
    },
    /// It does not follow the last one applied.
    #[error("entry {index} does not follow the last one applied, {applied}")]
    OutOfOrder {
        /// Which entry came.
        index: LogIndex,
        /// The last one applied.
        applied: LogIndex,
    },
}

/// What an operator does with a member that meets rules that it does not follow.
pub fn remedy(most: u64) -> &'static str {
    match most < STATE_VERSION {
        true => "take state_version_at_most out of its settings, or raise it",
        false => "start a newer program over its data",
    }
}

impl Applier {
    /// An applier over a state that reflects everything up to `applied`.
    pub fn new(me: MemberId, state: State, applied: SnapshotMeta) -> Applier {
        Applier {
            me,
            compared_every: COMPARED_EVERY,
            most: STATE_VERSION,
            state,
            applied,
        }
    }

    /// Has states compared at other entries than is usual; the same ones on every member.
    #[must_use]
    pub fn compared_every(mut self, entries: u64) -> Applier {
        self.compared_every = entries.max(1);
        self
    }

    /// Follows no rules of a later version than this.
    #[must_use]
    pub fn follows_up_to(mut self, most: u64) -> Applier {
        self.most = most;
        self
    }

    /// The newest version of the rules that it follows.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Applies committed entries in order.
    ///
    /// # Errors
    ///
    /// Where an entry cannot be applied; those before it were.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Progress, EntryError> {
        let mut progress = Progress {
            before: self.state.revision(),
            ..Progress::default()
        };
        for entry in entries {
            self.apply_one(entry, &mut progress)?;
        }
        Ok(progress)
    }

    fn apply_one(&mut self, entry: &Entry, progress: &mut Progress) -> Result<(), EntryError> {
        let index = entry.index;
        if index != self.applied.position.index.next() {
            return Err(EntryError::OutOfOrder {
                index,
                applied: self.applied.position.index,
            });
        }
        let batch = match &entry.payload {
            Payload::Command(bytes) => {
                decode_batch(bytes).map_err(|source| EntryError::Undecodable { index, source })?
            }
            Payload::Configuration(configuration) => {
                self.applied.configuration = Arc::clone(configuration);
                Batch::default()
            }
            Payload::Empty => Batch::default(),
        };
        if let Some(found) = batch.raises_to().filter(|found| self.most < *found) {
            let most = self.most;
            return Err(EntryError::NewerRules { index, found, most });
        }
        let clock = Clock(entry.stamp.0);
        let applied = self.state.apply(clock, &batch);
        let before = self.applied.position.term;
        self.applied.position = entry.position();
        if mutated(Mutant::CheckpointTermOld) && entry.payload == Payload::Empty {
            self.applied.position.term = before;
        }
        self.applied.stamp = entry.stamp;
        progress.leases_expired += applied.leases_expired;
        if index.0.is_multiple_of(self.compared_every) {
            progress.digests.push((index, self.state.digest()));
        }
        let revision = self.state.revision();
        let ours = applied.outcomes.into_iter().filter(|decision| {
            let is_ours =
                decision.origin.member == self.me.0 && decision.origin.token != NOBODY_WAITS;
            is_ours || mutated(Mutant::AnswersForOthers)
        });
        progress.decided.extend(ours.map(|decision| {
            (
                decision.origin.token,
                Decided {
                    outcome: decision.outcome,
                    replayed: decision.replayed,
                    revision,
                    clock,
                },
            )
        }));
        Ok(())
    }

    /// What changed since the last call, for a checkpoint. Costs as much as changed, no more.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let mut meta = self.applied.clone();
        if mutated(Mutant::AppliedApartFromData) {
            meta.position.index = meta.position.index.previous();
        }
        Checkpoint {
            meta,
            digest: self.state.digest(),
            rows: self.state.take_changes(),
        }
    }

    /// Replaces everything by the state of a snapshot.
    pub fn install(&mut self, mut state: State, meta: SnapshotMeta) {
        state.continue_tally(&self.state);
        self.state = state;
        self.applied = meta;
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The last entry applied.
    pub fn applied(&self) -> &SnapshotMeta {
        &self.applied
    }

    /// The next deadline of anything in the state, as the core wants to hear it.
    pub fn due(&self) -> Option<Stamp> {
        self.state.next_deadline().map(|clock| Stamp(clock.0))
    }
}
