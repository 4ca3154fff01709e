//! Hostile bytes and hostile clients: what anybody who reaches a port can send, and what must come of it.
//!
//! In every test here somebody else is served all the while (a probe writes and reads with a deadline, each time over
//! a new connection), memory stays within a bound that the test names, nobody panics, and the leader stays the leader.
//! The figures are printed: `cargo test -p tenured --test process hostile -- --nocapture`. `TENURE_HOSTILE=full` makes
//! the crowds larger and waits for the slowest limits.

mod crowds;
mod frames;
mod greedy;
mod heads;
mod http2;
mod impostors;
mod json;
mod lengths;
mod names;
mod peers;
mod siege;
mod slow;
mod wire;

use siege::Siege;

/// Whether the long variants are asked for.
fn full() -> bool {
    std::env::var("TENURE_HOSTILE").is_ok_and(|value| value == "full")
}
