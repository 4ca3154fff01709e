//! How often something may happen: failed proofs from one address, requests of one identity, lines of the audit log.
//!
//! Owns one rule for all three: what happens moves a time ahead by its share, and nothing may happen while that time is
//! too far ahead (the generic cell rate algorithm, ITU-T I.371). It takes one number for each of whatever is counted, so
//! a flood of callers costs neither memory nor work.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::network::Network;

/// Addresses share so many counters. Where two share one, both are counted together: only those who fail are counted, so
/// nobody with the right proof is kept out by a stranger.
const COUNTERS: usize = 1 << 12;
/// Identities whose rate is remembered before those who ask for less than it are forgotten.
const REMEMBERED: usize = 1 << 10;

/// A rate: a burst at once, and then one in each interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// So many in a second, and as many at once.
    pub(super) fn per_second(count: u64) -> Rate {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Rate {
            interval: Duration::from_secs(1) / count,
            burst: count,
        }
    }

    /// How many at once.
    #[cfg(test)]
    pub(super) fn burst(self) -> u32 {
        self.burst
    }

    /// One in each interval, and so many at once.
    pub(super) const fn new(interval: Duration, burst: u32) -> Rate {
        Rate { interval, burst }
    }
}

/// What has happened, as a time: when all of it would have happened at an even pace. `None` is long ago.
#[derive(Clone, Copy, Debug, Default)]
struct Pace(Option<Instant>);

impl Pace {
    /// Lets something happen now.
    ///
    /// # Errors
    ///
    /// Where it is too early: how long to wait. Then nothing is counted.
    fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let ahead = self
            .0
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let allowed = rate.interval * (rate.burst - 1);
        if allowed < ahead {
            return Err(ahead - allowed);
        }
        self.0 = Some(now + ahead + rate.interval);
        Ok(())
    }

    fn is_past(&self, now: Instant) -> bool {
        self.0.is_none_or(|at| at <= now)
    }
}

/// Counts what happens by address.
pub(super) struct ByAddress {
    rate: Rate,
    hasher: RandomState,
    paces: Mutex<Box<[Pace]>>,
}

impl ByAddress {
    /// At this rate from each address.
    pub(super) fn new(rate: Rate) -> ByAddress {
        ByAddress {
            rate,
            hasher: RandomState::new(),
            paces: Mutex::new(vec![Pace::default(); COUNTERS].into()),
        }
    }

    /// Counts something that happened.
    ///
    /// # Errors
    ///
    /// Where it happens too often: how long to wait.
    pub(super) fn take(&self, address: IpAddr) -> Result<(), Duration> {
        let at = self.hasher.hash_one(Network::of(address)) as usize % COUNTERS;
        locked(&self.paces)[at].take(self.rate, Instant::now())
    }
}

/// Counts requests by identity.
#[derive(Default)]
pub(super) struct ByIdentity(Mutex<HashMap<String, Pace>>);

impl ByIdentity {
    /// Counts a request of an identity that may ask so often.
    ///
    /// # Errors
    ///
    /// Where it asks too often: how long to wait.
    pub(super) fn take(&self, identity: &str, rate: Rate) -> Result<(), Duration> {
        let now = Instant::now();
        let mut paces = locked(&self.0);
        if let Some(pace) = paces.get_mut(identity) {
            return pace.take(rate, now);
        }
        if paces.len() >= REMEMBERED {
            paces.retain(|_, pace| !pace.is_past(now));
        }
        let mut pace = Pace::default();
        let taken = pace.take(rate, now);
        paces.insert(identity.to_owned(), pace);
        taken
    }
}

#[derive(Default)]
struct Written {
    pace: Pace,
    left_out: u64,
    /// Since when lines were left out that nobody was told of.
    since: Option<Instant>,
}

impl Written {
    fn tell_left_out(&mut self) -> u64 {
        self.since = None;
        std::mem::take(&mut self.left_out)
    }
}

/// Counts lines, and those that are left out.
pub(super) struct Lines {
    rate: Rate,
    state: Mutex<Written>,
}

impl Lines {
    /// At this rate.
    pub(super) fn new(rate: Rate) -> Lines {
        Lines {
            rate,
            state: Mutex::default(),
        }
    }

    /// Whether a line may be written, and how many were left out before it.
    pub(super) fn take(&self) -> Option<u64> {
        self.take_or(|| false)
    }

    /// The same of a line that may be written beyond the rate, too, where `anyway` says so.
    pub(super) fn take_or(&self, anyway: impl FnOnce() -> bool) -> Option<u64> {
        let (mut state, now) = (locked(&self.state), Instant::now());
        if state.pace.take(self.rate, now).is_ok() || anyway() {
            return Some(state.tell_left_out());
        }
        state.left_out += 1;
        state.since.get_or_insert(now);
        None
    }

    /// How many were left out, where nobody has been told of it for so long.
    pub(super) fn left_out_for(&self, long: Duration) -> Option<u64> {
        let mut state = locked(&self.state);
        let since = state.since?;
        (long <= since.elapsed()).then(|| state.tell_left_out())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_may_happen_at_once_and_then_one_in_each_interval() {
        let counted = ByAddress::new(Rate::new(Duration::from_secs(1), 3));
        let address = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..3 {
            assert_eq!(counted.take(address), Ok(()));
        }
        assert_eq!(counted.take(address), Err(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(400)).await;
        let wait = counted.take(address).expect_err("it is too early");
        assert_eq!(
            wait,
            Duration::from_millis(600),
            "what fails is not counted"
        );
        tokio::time::advance(wait).await;
        assert_eq!(counted.take(address), Ok(()));
        assert!(counted.take(address).is_err());
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_counted_together() {
        let counted = ByAddress::new(Rate::new(Duration::from_secs(60), 1));
        let of = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(counted.take(of("2001:db8::1")).is_ok());
        assert!(counted.take(of("2001:db8::2")).is_err());
        assert!(counted.take(of("10.0.0.1")).is_ok());
        assert!(counted.take(of("::ffff:10.0.0.1")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn identities_have_rates_of_their_own_and_those_that_rest_are_forgotten() {
        let counted = ByIdentity::default();
        let rate = Rate::per_second(2);
        assert!(counted.take("a", rate).is_ok() && counted.take("a", rate).is_ok());
        assert_eq!(counted.take("a", rate), Err(Duration::from_millis(500)));
        assert!(counted.take("b", rate).is_ok());
        for number in 0..10 * REMEMBERED {
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(counted.take(&number.to_string(), rate).is_ok());
            assert!(locked(&counted.0).len() <= REMEMBERED);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_are_left_out_are_counted_by_the_next_one() {
        let lines = Lines::new(Rate::new(Duration::from_secs(1), 2));
        assert_eq!((lines.take(), lines.take()), (Some(0), Some(0)));
        for _ in 0..5 {
            assert_eq!(lines.take(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(lines.take(), Some(5));
        // Where nothing more is to be told, what was left out is told all the same.
        assert_eq!(lines.take(), None);
        let long = Duration::from_secs(10);
        assert_eq!(lines.left_out_for(long), None);
        tokio::time::advance(long).await;
        assert_eq!(lines.left_out_for(long), Some(1));
        assert_eq!(lines.left_out_for(long), None);
        assert_eq!(lines.take(), Some(0));
    }
}
