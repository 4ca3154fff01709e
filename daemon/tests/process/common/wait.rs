//! Waiting for conditions with a deadline: the only place in which these tests let time pass.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

/// How often a condition is looked at: short against every time these tests measure.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the probe finds, as soon as it finds something; panics with the sentence when it does not in time.
pub(crate) fn until<T>(what: &str, within: Duration, probe: impl FnMut() -> Option<T>) -> T {
    found(within, probe).unwrap_or_else(|| panic!("waited {within:?} in vain: {what}"))
}

/// What the probe finds within the time; the last look is after its end.
pub(crate) fn found<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let late = Instant::now() >= deadline;
        if let Some(found) = probe() {
            return Some(found);
        }
        if late {
            return None;
        }
        park_timeout(LOOK_EVERY);
    }
}

/// Lets time pass in a workload (never to wait for something to happen); ends early where `stop` says so.
pub(crate) fn pass(time: Duration, stop: impl Fn() -> bool) {
    let _ = found(time, || stop().then_some(()));
}
