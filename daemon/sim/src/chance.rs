//! Chance: the one stream of random numbers from which a run draws everything.
//!
//! Owns the generator. Integers only, so that no machine's arithmetic of floats can make two runs of a seed differ.

use std::time::Duration;

/// A seeded source of decisions.
pub(crate) struct Chance {
    rng: fastrand::Rng,
}

/// One million: probabilities are given in parts of it.
pub(crate) const ALWAYS: u32 = 1_000_000;

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        // Neighbouring seeds must not give neighbouring runs: the first outputs of the generator are thrown away.
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7465_6e75_7265_2173);
        for _ in 0..8 {
            rng.u64(..);
        }
        Chance { rng }
    }

    /// Any number.
    pub(crate) fn seed(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// A number between the two, both included.
    pub(crate) fn number(&mut self, from: u64, to: u64) -> u64 {
        self.rng.u64(from..=to.max(from))
    }

    /// A position in something of `length` elements.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.rng.usize(..length)
    }

    /// True in so many of a million cases.
    pub(crate) fn happens(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.rng.u32(..ALWAYS) < per_million
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.rng.bool()
    }

    /// A number between the two, small ones as likely as large ones: each doubling has the same chance.
    pub(crate) fn skewed(&mut self, from: u64, to: u64) -> u64 {
        let from = from.max(1);
        if to <= from {
            return from;
        }
        let octaves = (to / from).ilog2() + 1;
        let low = from << self.rng.u32(..octaves);
        self.rng.u64(low..=(low.saturating_mul(2) - 1).min(to))
    }

    /// A duration between the two.
    pub(crate) fn span(&mut self, from: Duration, to: Duration) -> Duration {
        nanos(self.number(as_nanos(from), as_nanos(to)))
    }

    /// A duration between the two, skewed as numbers are.
    pub(crate) fn skewed_span(&mut self, from: Duration, to: Duration) -> Duration {
        nanos(self.skewed(as_nanos(from), as_nanos(to)))
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, of: &mut [T]) {
        self.rng.shuffle(of);
    }
}

/// Nanoseconds as a duration.
pub(crate) fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// A duration in nanoseconds; virtual time never comes near the end of 64 bits.
pub(crate) fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skewed_numbers_stay_within_their_bounds_and_reach_every_octave() {
        let mut chance = Chance::new(1);
        let mut octaves = [0; 11];
        for _ in 0..10_000 {
            let number = chance.skewed(1, 1500);
            assert!((1..=1500).contains(&number));
            octaves[number.ilog2() as usize] += 1;
        }
        assert!(octaves.iter().all(|count| *count > 500), "{octaves:?}");
    }
}
