//! History that goes away right behind those who watch it.

use std::time::Duration;

use fastrand::Rng;
use serde_json::json;

use super::Evidence;
use crate::common::wait;
use crate::round::Run;

/// How much history is left: watchers that are connected are nearer to its end, those that wander into the past may not
/// be.
const LEFT: u64 = 60;

/// Compacts ten times a second, at any member.
pub(super) fn compact(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let (mut compacted, mut times) = (0, 0);
    for _ in 0..12 {
        let member = &run.rig.members[rng.usize(..run.rig.members.len())];
        let revision = member
            .status()
            .and_then(|status| status["revision"].as_u64());
        let target = revision.unwrap_or_default().saturating_sub(LEFT);
        let mut client = member.client().with_patience(Duration::from_secs(2));
        if let Ok(answer) = client.post("/v1/compact", &json!({ "revision": target }))
            && answer.status == 200
        {
            compacted = answer.u64("compact_revision");
            times += 1;
        }
        wait::pass(Duration::from_millis(100), || false);
    }
    // Whoever asks for what is gone is told so.
    let mut client = run.rig.members[0]
        .client()
        .with_patience(Duration::from_secs(2));
    let asked = client.get("/v1/watch?prefix=keys/&after=1");
    let told = asked.map_or(0, |answer| answer.status);
    match (times, told) {
        (2.., 410) => Ok(format!("compacted {times} times, up to {compacted}")),
        _ => Err(format!("compacted {times} times; what is gone is {told}")),
    }
}
