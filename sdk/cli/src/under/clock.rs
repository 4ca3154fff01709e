//! The clocks by which a command is stopped: those that the client believes by. One counts suspended time, the other is
//! slewed by nobody, and whichever shows more counts.

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A moment on both clocks of the contract.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    boot: Duration,
    raw: Duration,
}

impl Moment {
    pub(super) fn now() -> Moment {
        let time = |clock| {
            let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
            let seconds = Duration::from_secs(u64::try_from(tv_sec).unwrap_or_default());
            seconds + Duration::from_nanos(u64::try_from(tv_nsec).unwrap_or_default())
        };
        Moment {
            boot: time(ClockId::Boottime),
            raw: time(ClockId::MonotonicRaw),
        }
    }

    /// The greater of what the clocks show since then.
    fn elapsed(self) -> Duration {
        let now = Moment::now();
        let boot = now.boot.saturating_sub(self.boot);
        boot.max(now.raw.saturating_sub(self.raw))
    }
}

/// A length of time from a moment on.
#[derive(Clone, Copy)]
pub(super) struct Until {
    from: Moment,
    length: Duration,
}

impl Until {
    pub(super) fn after(length: Duration) -> Until {
        Until {
            from: Moment::now(),
            length,
        }
    }

    pub(super) fn left(self) -> Duration {
        self.length.saturating_sub(self.from.elapsed())
    }

    /// Its end, as another process of this machine may read it.
    pub(super) fn end(self) -> End {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        End {
            boot_ms: ms(self.from.boot + self.length),
            raw_ms: ms(self.from.raw + self.length),
        }
    }
}

/// A moment in the future, on both clocks: it has come when one of them shows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct End {
    /// In milliseconds of `CLOCK_BOOTTIME`.
    pub(super) boot_ms: u64,
    /// In milliseconds of `CLOCK_MONOTONIC_RAW`.
    pub(super) raw_ms: u64,
}

impl End {
    pub(super) fn left(self) -> Duration {
        self.left_at(Moment::now())
    }

    fn left_at(self, now: Moment) -> Duration {
        let boot = Duration::from_millis(self.boot_ms).saturating_sub(now.boot);
        boot.min(Duration::from_millis(self.raw_ms).saturating_sub(now.raw))
    }

    /// How far another one is away, on the clock on which it is further.
    pub(super) fn differs_by(self, other: End) -> Duration {
        let boot = self.boot_ms.abs_diff(other.boot_ms);
        Duration::from_millis(boot.max(self.raw_ms.abs_diff(other.raw_ms)))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.boot_ms, self.raw_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_come_when_either_clock_shows_it() {
        let at = |boot: u64, raw: u64| Moment {
            boot: Duration::from_millis(boot),
            raw: Duration::from_millis(raw),
        };
        let until = Until {
            from: at(5_000, 700),
            length: Duration::from_millis(900),
        };
        let end = until.end();
        assert_eq!(end.to_string(), "5900 1600");
        let check = |now: Moment, left: u64| {
            assert_eq!(end.left_at(now), Duration::from_millis(left));
        };
        check(at(5_100, 800), 800);
        // The machine was suspended; or the keeper of the wall clock makes one slower.
        check(at(5_850, 800), 50);
        check(at(5_100, 1_590), 10);
        check(at(5_901, 800), 0);
        let later = Until {
            from: at(5_000, 730),
            ..until
        };
        assert_eq!(end.differs_by(later.end()), Duration::from_millis(30));
    }

    #[test]
    fn what_is_left_until_an_end_is_what_is_left_of_its_time() {
        let end = Until::after(Duration::from_secs(10)).end();
        let left = end.left();
        assert!(
            left <= Duration::from_secs(10) && left > Duration::from_secs(5),
            "{left:?}"
        );
        assert!(Until::after(Duration::ZERO).end().left().is_zero());
    }
}
