//! Whether the leader's clock runs as fast as the clock of this member.
//!
//! Leases end by the leader's clock, and holders count by their own: where the leader's runs too fast, a lease ends
//! before its holder expects it (`api.md` §1 allows 1 %). A leader only ever falls behind real time by what pauses took,
//! so a clock that runs slow tells nothing; one that runs fast is wrong, or this member's is slow.
//!
//! A stamp arrives late, never early. The least delay seen in a while is about the same at any time, so it is the least
//! delays at the two ends of a long window that are compared. A member that was behind and has caught up sees stamps come
//! sooner than before, once: of two windows in succession the slower one counts.

use std::time::Duration;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);
/// How long the least delay is looked for at each end of it.
const END: Duration = Duration::from_secs(10);
/// A leader whose clock runs faster than this is told to the operator.
pub const TOO_FAST: f64 = 1.01;

/// Compares the stamps of one leader with a clock of this member.
#[derive(Debug, Default)]
pub struct ClockRate {
    window: Option<Window>,
    /// What the window before said, of the same leader.
    before: Option<f64>,
}

/// What an entry told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// It is of another leader than those before: nothing is known of its clock.
    Anew,
    /// Nothing yet.
    Nothing,
    /// How fast the leader's clock runs by this one.
    Rate(f64),
}

#[derive(Debug)]
struct Window {
    term: u64,
    began: Duration,
    /// Nanoseconds by which this clock is ahead of the stamps, at least, at either end.
    first: i128,
    last: Option<i128>,
}

impl ClockRate {
    /// An entry of `term` with a stamp of so many milliseconds was seen at `now`, by a clock that counts suspends too and is
    /// not slewed.
    pub fn seen(&mut self, term: u64, stamp_ms: u64, now: Duration) -> Seen {
        let ahead = nanos(now) - i128::from(stamp_ms) * 1_000_000;
        let anew = Window {
            term,
            began: now,
            first: ahead,
            last: None,
        };
        let Some(window) = self.window.as_mut().filter(|window| window.term == term) else {
            self.window = Some(anew);
            self.before = None;
            return Seen::Anew;
        };
        let passed = now.saturating_sub(window.began);
        if passed <= END {
            window.first = window.first.min(ahead);
            return Seen::Nothing;
        }
        if passed < WINDOW {
            return Seen::Nothing;
        }
        let last = window.last.map_or(ahead, |last| last.min(ahead));
        window.last = Some(last);
        if passed < WINDOW + END {
            return Seen::Nothing;
        }
        // Between the two least delays lies about so much: more than a window, where entries are rare.
        let between = passed.saturating_sub(END);
        let gained = (window.first - last) as f64;
        let rate = 1.0 + gained / nanos(between) as f64;
        self.window = Some(anew);
        match self.before.replace(rate) {
            Some(before) => Seen::Rate(rate.min(before)),
            None => Seen::Nothing,
        }
    }

    /// What comes next is not to be compared with what came before: this member leads. Answers whether there was anything.
    pub fn forget(&mut self) -> bool {
        std::mem::take(self).window.is_some()
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of a leader whose clock runs at `rate` when its entries come every 500 ms and take up to 400 ms, in
    /// turns; a long delay comes at the beginning.
    fn found(rate: f64, terms: impl Fn(u64) -> u64) -> Vec<f64> {
        found_behind(rate, Duration::ZERO, terms)
    }

    /// The same, where this member is so far behind for the first quarter of a minute.
    fn found_behind(rate: f64, behind: Duration, terms: impl Fn(u64) -> u64) -> Vec<f64> {
        let mut clock_rate = ClockRate::default();
        let mut found = Vec::new();
        for number in 0..400_u64 {
            let sent = Duration::from_millis(500 * number);
            let stamp_ms = (sent.as_secs_f64() * 1000.0 * rate) as u64;
            let delay = Duration::from_millis([400, 3, 90, 7, 250][number as usize % 5]);
            let delay = delay + if number < 30 { behind } else { Duration::ZERO };
            if let Seen::Rate(rate) = clock_rate.seen(terms(number), stamp_ms, sent + delay) {
                found.push(rate);
            }
        }
        found
    }

    #[test]
    fn delays_do_not_look_like_a_fast_clock() {
        let found = found(1.0, |_| 7);
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|rate| (rate - 1.0).abs() < 0.001),
            "{found:?}"
        );
    }

    #[test]
    fn a_clock_that_gains_two_percent_is_seen() {
        let found = found(1.02, |_| 7);
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|rate| TOO_FAST < *rate && *rate < 1.03),
            "{found:?}"
        );
    }

    #[test]
    fn a_member_that_catches_up_does_not_take_its_leader_for_fast() {
        let found = found_behind(1.0, Duration::from_secs(5), |_| 7);
        assert!(!found.is_empty());
        assert!(found.iter().all(|rate| *rate < 1.001), "{found:?}");
    }

    #[test]
    fn a_quiet_cluster_is_not_taken_for_one_with_a_fast_clock() {
        let mut clock_rate = ClockRate::default();
        let mut found = 0;
        for number in 0..20_u64 {
            // An entry in six hours, by a clock that gains 30 parts in a million.
            let now = Duration::from_secs(6 * 3600 * number);
            let stamp_ms = (now.as_secs_f64() * 1000.0 * (1.0 + 30e-6)) as u64;
            if let Seen::Rate(rate) = clock_rate.seen(7, stamp_ms, now) {
                assert!(rate < 1.001, "{rate}");
                found += 1;
            }
        }
        assert!(found > 0);
    }

    #[test]
    fn another_leader_is_known_nothing_of() {
        let mut clock_rate = ClockRate::default();
        let at = Duration::from_secs;
        assert!(!clock_rate.forget());
        assert_eq!(clock_rate.seen(7, 0, at(0)), Seen::Anew);
        assert_eq!(clock_rate.seen(7, 1000, at(1)), Seen::Nothing);
        assert_eq!(clock_rate.seen(8, 2000, at(2)), Seen::Anew);
        assert!(clock_rate.forget());
        assert_eq!(clock_rate.seen(8, 3000, at(3)), Seen::Anew);
    }

    #[test]
    fn leaders_are_not_compared_with_one_another() {
        // A term of 50 s is shorter than a window.
        assert!(found(1.02, |number| number / 100).is_empty());
    }
}
