//! What a member tells of itself to those who watch over it, beside its log: metrics.
//!
//! Owns the names and units of what is counted as it happens ([`Metrics`]) and the page that shows it. Rooms count what
//! is theirs where it happens; what can be seen at any time is looked at when somebody asks (`http/metrics.rs`). Knows
//! nothing of the rest of the member. No label ever carries the name of a key, a lock or a caller: there would be as many
//! series as somebody likes.

mod clock_rate;
mod lately;
mod metrics;
mod page;

pub use clock_rate::{ClockRate, Seen, TOO_FAST};
pub use lately::Lately;
pub use metrics::{Metrics, Refusal, Request, StepDown};
pub(crate) use page::{Buckets, CONTENT_TYPE, Writer, page};
