//! What happened in a run: how often, how fast, and what went wrong.
//!
//! Owns the counting. Only what ended within the measured time counts, an error is never a success, and a latency is
//! kept to three digits however long the run is. One tally is shared by all clients: at a hundred thousand operations
//! a second the lock costs less than a hundredth of a core, and its memory does not grow with the clients.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::system::{Done, Failure};

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Shared by the clients of a run.
pub(crate) struct Tally {
    measured: RangeInclusive<Instant>,
    counted: Mutex<Counted>,
}

struct Counted {
    latencies: Histogram<u64>,
    operations: u64,
    errors: BTreeMap<String, u64>,
    /// One of each kind in words, for people.
    examples: BTreeMap<String, String>,
    /// Also what came before the measured time, to show that something happens.
    seen: u64,
    /// How many errors among them.
    seen_errors: u64,
}

impl Tally {
    /// Counts what ends between these moments.
    pub(crate) fn new(measured: RangeInclusive<Instant>) -> Tally {
        let counted = Counted {
            latencies: Histogram::new(DIGITS).expect("three digits are allowed"),
            operations: 0,
            errors: BTreeMap::new(),
            examples: BTreeMap::new(),
            seen: 0,
            seen_errors: 0,
        };
        Tally {
            measured,
            counted: Mutex::new(counted),
        }
    }

    /// Counts operations that have just ended together, after this time unless they say another.
    pub(crate) fn succeeded(&self, now: Instant, took: Duration, done: Done) {
        let mut counted = self.counted();
        counted.seen += done.operations;
        for (code, times) in &done.refused {
            counted.seen_errors += times;
            if self.measured.contains(&now) {
                *counted.errors.entry(code.clone()).or_default() += times;
            }
        }
        if !self.measured.contains(&now) {
            return;
        }
        counted.operations += done.operations;
        let took = done.took.unwrap_or(took);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The histogram grows with what it is told; it refuses nothing below 2^63.
        counted
            .latencies
            .record_n(micros.clamp(1, u64::MAX >> 2), done.operations)
            .expect("the histogram resizes itself");
    }

    /// Counts an operation that did not succeed.
    pub(crate) fn failed(&self, now: Instant, failure: Failure) {
        let mut counted = self.counted();
        counted.seen_errors += 1;
        if self.measured.contains(&now) {
            *counted.errors.entry(failure.code.clone()).or_default() += 1;
        }
        let example = counted.examples.entry(failure.code);
        example.or_insert(failure.detail);
    }

    /// How many operations and how many errors there were so far, before the measured time too.
    pub(crate) fn seen(&self) -> (u64, u64) {
        let counted = self.counted();
        (counted.seen, counted.seen_errors)
    }

    /// What it comes to for a measured time of this length.
    pub(crate) fn summary(&self, measured: Duration) -> Summary {
        let counted = self.counted();
        Summary {
            operations: counted.operations,
            per_second: counted.operations as f64 / measured.as_secs_f64(),
            latency_us: Latency::of(&counted.latencies),
            errors: counted.errors.clone(),
            examples: counted.examples.clone(),
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a tally comes to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Successes within the measured time.
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) latency_us: Latency,
    /// How many of each code; none of them is among the operations.
    pub(crate) errors: BTreeMap<String, u64>,
    /// One detail of each code, of the warm-up too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) examples: BTreeMap<String, String>,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) min: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency {
            mean: histogram.mean(),
            min: histogram.min(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

/// The middle of some numbers; the mean of the two in the middle where their count is even. Zero of none.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        count if count % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(start: Instant) -> Tally {
        Tally::new(start..=start + Duration::from_secs(60))
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        for (numbers, expected) in [
            (vec![], 0.0),
            (vec![7.0], 7.0),
            (vec![9.0, 1.0, 5.0], 5.0),
            (vec![10.0, 2.0, 4.0, 100.0], 7.0),
        ] {
            assert_eq!(median(numbers.clone()), expected, "{numbers:?}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_numbers_to_three_digits() {
        let start = Instant::now();
        let tally = from(start);
        for millis in 1..=1000 {
            tally.succeeded(start, Duration::from_millis(millis), Done::one());
        }
        let summary = tally.summary(Duration::from_secs(4));
        assert_eq!(summary.operations, 1000);
        assert_eq!(summary.per_second, 250.0);
        let latency = summary.latency_us;
        for (shown, exact) in [
            (latency.min, 1_000),
            (latency.p50, 500_000),
            (latency.p90, 900_000),
            (latency.p99, 990_000),
            (latency.p999, 999_000),
            (latency.max, 1_000_000),
        ] {
            assert!(shown.abs_diff(exact) <= exact / 1000, "{shown} for {exact}");
        }
        assert!((latency.mean - 500_500.0).abs() < 501.0, "{latency:?}");
    }

    #[test]
    fn an_error_is_no_success_and_has_no_latency() {
        let start = Instant::now();
        let tally = from(start);
        tally.succeeded(start, Duration::from_millis(1), Done::one());
        tally.failed(start, Failure::new("no-leader", "who knows"));
        tally.failed(start, Failure::new("no-leader", "nobody knows"));
        let mut renewed = Done::many(8);
        renewed.refused.push(("lease-expired".into(), 2));
        tally.succeeded(start, Duration::from_millis(1), renewed);
        let summary = tally.summary(Duration::from_secs(1));
        assert_eq!(summary.operations, 9);
        assert_eq!(summary.errors["no-leader"], 2);
        assert_eq!(summary.errors["lease-expired"], 2);
        assert_eq!(summary.examples["no-leader"], "who knows");
        assert!(summary.latency_us.max < 1_010, "{summary:?}");
        assert_eq!(tally.seen(), (9, 4));
    }

    #[test]
    fn what_ends_in_the_warm_up_or_too_late_does_not_count() {
        let start = Instant::now();
        let measured = start + Duration::from_secs(2);
        let tally = from(measured);
        tally.succeeded(start, Duration::from_secs(1), Done::one());
        tally.failed(start, Failure::new("connection", "reset"));
        tally.succeeded(measured, Duration::from_millis(2), Done::one());
        let late = measured + Duration::from_secs(61);
        tally.succeeded(late, Duration::from_secs(9), Done::one());
        let summary = tally.summary(Duration::from_secs(1));
        assert_eq!((summary.operations, summary.errors.len()), (1, 0));
        assert!(summary.latency_us.max < 2_010, "{summary:?}");
        assert_eq!(tally.seen(), (3, 1));
    }

    #[test]
    fn a_tally_of_nothing_is_all_zero() {
        let summary = from(Instant::now()).summary(Duration::from_secs(1));
        assert_eq!(summary.operations, 0);
        assert_eq!(summary.latency_us, Latency::default());
    }
}
