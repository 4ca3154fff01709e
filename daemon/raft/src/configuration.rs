//! The configurations of the log: which is in force at which index.
//!
//! Owns a stack with one element for the log's base and one for each configuration entry behind it. A configuration is
//! in force from the moment its entry is appended, committed or not (thesis §4.1), so truncating the log rolls it
//! back. Must never be changed apart from the log that it describes.

use std::sync::Arc;

use tenure_mutants::{Mutant, mutated};

use crate::types::{Configuration, LogIndex};

/// The configurations along a log. Invariants: never empty, and the indexes rise.
#[derive(Debug)]
pub(crate) struct Configurations {
    stack: Vec<(LogIndex, Arc<Configuration>)>,
}

impl Configurations {
    /// Those of an empty log that begins behind `base`.
    pub(crate) fn new(base: LogIndex, configuration: Arc<Configuration>) -> Configurations {
        Configurations {
            stack: vec![(base, configuration)],
        }
    }

    /// The one in force, committed or not.
    pub(crate) fn current(&self) -> &Arc<Configuration> {
        if mutated(Mutant::ConfigurationAdoptedLate) && 1 < self.stack.len() {
            return &self.stack[self.stack.len() - 2].1;
        }
        &self.newest().1
    }

    /// Where the one in force stands in the log.
    pub(crate) fn current_index(&self) -> LogIndex {
        self.newest().0
    }

    fn newest(&self) -> &(LogIndex, Arc<Configuration>) {
        self.stack
            .last()
            .expect("the base's configuration is never removed")
    }

    /// The one in force at `index`, which must not lie before the base.
    pub(crate) fn at(&self, index: LogIndex) -> &Arc<Configuration> {
        let newer = self.stack.partition_point(|(at, _)| *at <= index);
        assert!(newer > 0, "no configuration is known at {index}");
        &self.stack[newer - 1].1
    }

    /// The one in force at `index`, and all later ones.
    pub(crate) fn from(&self, index: LogIndex) -> impl Iterator<Item = &Arc<Configuration>> {
        let newer = self.stack.partition_point(|(at, _)| *at <= index);
        let first = newer.saturating_sub(1);
        self.stack[first..].iter().map(|(_, known)| known)
    }

    /// Adopts the configuration of an entry that is appended at `index`.
    pub(crate) fn push(&mut self, index: LogIndex, configuration: Arc<Configuration>) {
        assert!(
            self.current_index() < index || mutated(Mutant::ConfigurationNotRolledBack),
            "configuration at {index} is not behind {}",
            self.current_index()
        );
        self.stack.push((index, configuration));
    }

    /// Rolls back those of entries at or after `from`.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        while self.stack.len() > 1
            && from <= self.current_index()
            && !mutated(Mutant::ConfigurationNotRolledBack)
        {
            self.stack.pop();
        }
    }

    /// Forgets those that were replaced at or before `base`.
    pub(crate) fn compact(&mut self, base: LogIndex) {
        let newer = self.stack.partition_point(|(at, _)| *at <= base);
        let kept = if mutated(Mutant::CompactionLosesConfiguration) {
            self.stack.drain(1..newer);
            1
        } else {
            newer
        };
        self.stack.drain(..kept.saturating_sub(1));
        self.stack[0].0 = base;
    }
}

/// Whether a configuration from outside can be worked with: somebody votes, nobody both votes and learns, only learners
/// are to be promoted, and nobody who was removed is a member.
pub(crate) fn is_sound(configuration: &Configuration) -> bool {
    let Configuration {
        voters,
        outgoing: _,
        learners,
        promoting,
        removed,
        info: _,
    } = configuration;
    !voters.is_empty()
        && !learners
            .iter()
            .any(|&learner| configuration.is_voter(learner))
        && promoting.keys().all(|id| learners.contains(id))
        && !removed.iter().any(|&gone| configuration.contains(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MemberId;

    fn of(voter: u64) -> Arc<Configuration> {
        Arc::new(Configuration {
            voters: [MemberId(voter)].into(),
            ..Configuration::default()
        })
    }

    #[test]
    fn configurations_roll_back_in_order_and_keep_the_base() {
        let mut configurations = Configurations::new(LogIndex(4), of(1));
        configurations.push(LogIndex(6), of(2));
        configurations.push(LogIndex(9), of(3));
        assert_eq!(*configurations.current(), of(3));
        assert_eq!(*configurations.at(LogIndex(8)), of(2));
        assert_eq!(*configurations.at(LogIndex(5)), of(1));
        configurations.truncate(LogIndex(9));
        assert_eq!(*configurations.current(), of(2));
        configurations.truncate(LogIndex(5));
        assert_eq!(
            (configurations.current_index(), configurations.current()),
            (LogIndex(4), &of(1))
        );
    }

    #[test]
    fn compaction_keeps_the_configuration_in_force_at_the_new_base() {
        let mut configurations = Configurations::new(LogIndex(1), of(1));
        configurations.push(LogIndex(6), of(2));
        configurations.push(LogIndex(9), of(3));
        configurations.compact(LogIndex(7));
        assert_eq!(*configurations.at(LogIndex(7)), of(2));
        assert_eq!(*configurations.current(), of(3));
        configurations.truncate(LogIndex(8));
        assert_eq!(*configurations.current(), of(2));
    }

    #[test]
    fn unsound_configurations_are_told() {
        let sound = Configuration {
            voters: [MemberId(1)].into(),
            learners: [MemberId(2)].into(),
            ..Configuration::default()
        };
        assert!(is_sound(&sound));
        assert!(!is_sound(&Configuration::default()));
        assert!(!is_sound(&Configuration {
            outgoing: [MemberId(2)].into(),
            ..sound.clone()
        }));
        assert!(!is_sound(&Configuration {
            promoting: [(MemberId(1), None)].into(),
            ..sound.clone()
        }));
        assert!(!is_sound(&Configuration {
            removed: [MemberId(2)].into(),
            ..sound
        }));
    }
}
