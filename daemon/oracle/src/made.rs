//! When entries were made, as far as calls tell: not before what they contain was asked for.
//!
//! Stamps of the cluster's clock never lie further apart than the moments at which they were made, and an entry is
//! stamped when it is made. So between the stamps of two revisions there is no more time than between the earliest
//! moment at which the first may have been made and the moment at which the second was seen.

use std::collections::BTreeMap;

use crate::history::History;
use crate::record::{Moment, Recording, Revision, Told};

/// From each revision on: not made before this moment.
pub(crate) struct Made {
    not_before: BTreeMap<Revision, Moment>,
    /// By how many millionths clocks were off.
    drift_ppm: u64,
}

impl Made {
    pub(crate) fn of(recording: &Recording) -> Made {
        let mut not_before: BTreeMap<Revision, Moment> = BTreeMap::new();
        for call in &recording.calls {
            // What is told again was made long before it was asked for again.
            let revision = match &call.told {
                Told::Done {
                    revision,
                    replayed: false,
                }
                | Told::Granted {
                    revision,
                    replayed: false,
                    ..
                }
                | Told::Broken { revision, .. }
                | Told::HandedOver { revision, .. } => *revision,
                _ => continue,
            };
            let moment = not_before.entry(revision).or_default();
            *moment = call.call.max(*moment);
        }
        let mut latest = Moment::default();
        for moment in not_before.values_mut() {
            latest = latest.max(*moment);
            *moment = latest;
        }
        Made {
            not_before,
            drift_ppm: drift_ppm(recording),
        }
    }

    /// When a revision was made at the earliest.
    pub(crate) fn not_before(&self, revision: Revision) -> Moment {
        let made = self.not_before.range(..=revision).next_back();
        made.map_or(Moment::default(), |(_, moment)| *moment)
    }

    /// Whether so much time of the cluster cannot have passed between a moment before an entry was made and the first
    /// sight of a later revision.
    pub(crate) fn is_too_soon(
        &self,
        from: Moment,
        ms: u64,
        later: Revision,
        history: &History,
    ) -> bool {
        let least_ns = ms * 1_000_000;
        let drift_ns = ms * self.drift_ppm;
        history.observed(later).since(from) + drift_ns < least_ns
    }
}

/// By how many millionths clocks of members were off, at most.
pub(crate) fn drift_ppm(recording: &Recording) -> u64 {
    let drifts = recording.faults.iter().map(|fault| fault.drift_ppm);
    drifts.max().unwrap_or_default()
}
