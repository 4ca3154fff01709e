//! Since when members are on their way in or out, as this member sees it: what takes too long is worth a word.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tenure_raft::{Configuration, MemberId};

/// What is under way, and since when.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UnderWay {
    changing: Option<Instant>,
    promoting: BTreeMap<MemberId, Instant>,
}

impl UnderWay {
    /// Takes note of the configuration in force. What goes on keeps its beginning.
    pub(super) fn see(&mut self, configuration: &Configuration, now: Instant) {
        self.changing = configuration
            .is_joint()
            .then(|| self.changing.unwrap_or(now));
        let promoting = configuration.promotions().keys();
        self.promoting = promoting
            .map(|id| (*id, self.promoting.get(id).copied().unwrap_or(now)))
            .collect();
    }

    /// How long the voters have been changing.
    pub fn changing_for(&self) -> Option<Duration> {
        self.changing.map(|since| since.elapsed())
    }

    /// How long a learner that is to vote has been catching up.
    pub fn promoting_for(&self, id: MemberId) -> Option<Duration> {
        self.promoting.get(&id).map(Instant::elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_keeps_its_beginning_and_what_has_ended_is_forgotten() {
        let [one, two] = [1, 2].map(MemberId);
        let begun = Instant::now();
        let later = begun + Duration::from_secs(5);
        let mut configuration = Configuration {
            voters: [one].into(),
            learners: [two].into(),
            promoting: [(two, None)].into(),
            ..Configuration::default()
        };
        let mut under_way = UnderWay::default();
        under_way.see(&configuration, begun);
        under_way.see(&configuration, later);
        assert_eq!(under_way.promoting.get(&two), Some(&begun));
        assert_eq!(under_way.changing, None);
        configuration.promoting.clear();
        configuration.outgoing = [one].into();
        under_way.see(&configuration, later);
        under_way.see(&configuration, later + Duration::from_secs(1));
        assert_eq!(under_way.promoting_for(two), None);
        assert_eq!(under_way.changing, Some(later));
        configuration.outgoing.clear();
        under_way.see(&configuration, later);
        assert_eq!(under_way, UnderWay::default());
    }
}
