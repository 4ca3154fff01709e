//! The two clocks of a member: both monotonic, neither the wall's.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time as the hardware counts it, not slewed by anybody (`CLOCK_MONOTONIC_RAW`). What is measured with it decides
/// when leases end.
pub(super) fn monotonic_raw() -> Duration {
    let now = clock_gettime(ClockId::MonotonicRaw);
    let seconds = u64::try_from(now.tv_sec).expect("a monotonic clock is never negative");
    let nanos = u32::try_from(now.tv_nsec).expect("nanoseconds are below a second");
    Duration::new(seconds, nanos)
}
