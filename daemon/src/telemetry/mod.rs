//! What a member tells of itself to those who watch over it, beside its log: metrics, and traces of requests.
//!
//! Owns the names and units of what is counted as it happens ([`Metrics`]) and the page that shows it. Rooms count what
//! is theirs where it happens; what can be seen at any time is looked at when somebody asks (`http/metrics.rs`). Knows
//! nothing of the rest of the member. No label ever carries the name of a key, a lock or a caller: there would be as many
//! series as somebody likes.

mod clock_rate;
mod lately;
mod metrics;
mod page;
mod traces;

pub use clock_rate::{ClockRate, Seen, TOO_FAST};
pub use lately::Lately;
pub use metrics::{Backups, Metrics, Refusal, Request, Spans, StepDown};
pub(crate) use page::{Buckets, CONTENT_TYPE, Writer, page};
pub use traces::{Exporting, Ids, Kind, Span, Traces, Whose};

use std::sync::Arc;

/// All by which the rooms of a member tell what happens in them.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is told of single requests.
    pub traces: Traces,
}
