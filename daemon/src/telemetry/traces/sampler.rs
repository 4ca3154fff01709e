//! Which requests are traced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::trace::{Link, SpanKind, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use crate::config::{Roots, Sampling};

/// The sampler that settings ask for.
pub(super) fn of(sampling: Sampling) -> Box<dyn ShouldSample> {
    let roots: Box<dyn ShouldSample> = match sampling.roots {
        Roots::All => Box::new(Sampler::AlwaysOn),
        Roots::None => Box::new(Sampler::AlwaysOff),
        Roots::Part(part) => Box::new(Sampler::TraceIdRatioBased(part)),
        Roots::AtMostASecond(most) => Box::new(AtMostASecond::new(most)),
    };
    match sampling.by_parent {
        true => Box::new(Sampler::ParentBased(roots)),
        false => roots,
    }
}

/// The first of each second.
#[derive(Clone, Debug)]
struct AtMostASecond {
    most: u32,
    began: Instant,
    /// The second in its upper half, how many were taken in it in the lower.
    taken: Arc<AtomicU64>,
}

impl AtMostASecond {
    fn new(most: u32) -> AtMostASecond {
        AtMostASecond {
            most,
            began: Instant::now(),
            taken: Arc::default(),
        }
    }

    fn takes(&self, second: u64) -> bool {
        let next = |taken: u64| {
            let count = match taken >> 32 == second {
                true => taken & u64::from(u32::MAX),
                false => 0,
            };
            (count < u64::from(self.most)).then_some(second << 32 | (count + 1))
        };
        let (taken, relaxed) = (&self.taken, Ordering::Relaxed);
        taken.fetch_update(relaxed, relaxed, next).is_ok()
    }
}

impl ShouldSample for AtMostASecond {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let decision = match self.takes(self.began.elapsed().as_secs()) {
            true => SamplingDecision::RecordAndSample,
            false => SamplingDecision::Drop,
        };
        SamplingResult {
            decision,
            attributes: Vec::new(),
            trace_state: TraceState::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_second_are_taken() {
        let sampler = AtMostASecond::new(2);
        let taken = [0, 0, 0, 7, 7, 7, 8].map(|second| sampler.takes(second));
        assert_eq!(taken, [true, true, false, true, true, false, true]);
        assert!(!AtMostASecond::new(0).takes(0));
    }
}
