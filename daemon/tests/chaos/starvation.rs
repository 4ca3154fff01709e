//! How much of its time a busy machine keeps from whoever wants to work, by which limits in real time are widened.
//!
//! An election is a chain of short steps: a timer, a message, a synced write. A thread makes such steps all the while,
//! and what each took beyond what it takes on a machine at rest is what the machine, and nobody under test, was late by.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure_oracle::Moment;

use crate::round::Run;

/// A timer of this length, then a write of a page with a sync.
const SLEEP: Duration = Duration::from_millis(5);
/// What a step takes on a machine at rest, with room for a slow disk.
const STEP: Duration = Duration::from_millis(10);
const PAGE: [u8; 4096] = [7; 4096];

/// The steps that took too long: from when to when.
#[derive(Default)]
pub(crate) struct Starvation(Mutex<Vec<(Moment, Moment)>>);

impl Starvation {
    /// Steps until the round is over.
    pub(crate) fn measure(&self, run: &Run<'_>) {
        let file = File::create(run.rig.dir().join("steps")).expect("there is room for a file");
        while !run.is_given_up() && run.end().is_none() {
            let from = run.recorder.now();
            std::thread::sleep(SLEEP);
            file.write_all_at(&PAGE, 0)
                .expect("there is room for a page");
            file.sync_data().expect("the disk takes a page");
            let until = run.recorder.now();
            if STEP < Duration::from_nanos(until.since(from)) {
                let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                steps.push((from, until));
            }
        }
    }

    /// How much was lost between two moments.
    pub(crate) fn between(&self, from: Moment, until: Moment) -> Duration {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = steps.iter().map(|(begun, ended)| {
            let within = (*ended).min(until).since((*begun).max(from));
            Duration::from_nanos(within).saturating_sub(STEP)
        });
        lost.sum()
    }
}
