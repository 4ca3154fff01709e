//! The clocks by which a command is stopped: those that the client believes by, which count suspended time.

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

    /// In milliseconds of `CLOCK_BOOTTIME`.
    pub(super) fn boot_ms(self) -> u128 {
        self.boot.as_millis()
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

    /// It in milliseconds of `CLOCK_BOOTTIME`.
    pub(super) fn boot_ms(self) -> u128 {
        (self.from.boot + self.length).as_millis()
    }
}
