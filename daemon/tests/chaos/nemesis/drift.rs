//! Clocks of members that run fast, by a preloaded library of our own: as fast as the contract allows.
//!
//! Members read their clocks past the C library, unless they, and these tests, are built with
//! `RUSTFLAGS="--cfg rustix_use_libc"`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use super::Evidence;
use crate::common::machine::succeeds;
use crate::common::wait;
use crate::round::Run;

/// What a clock may be off by (`api.md` §1), in millionths.
pub(crate) const MOST_PPM: u64 = 10_000;
/// What four seconds at this rate bring, less a moment in which the library does not look.
const LEAST_GAINED_NS: i64 = 30_000_000;
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/clock.c");

/// Whether members can be made to drift.
pub(crate) fn is_possible() -> bool {
    cfg!(rustix_use_libc) && succeeds("cc", &["--version"])
}

/// Compiles the library into a directory.
pub(crate) fn compile(dir: &Path) -> Option<PathBuf> {
    let library = dir.join("clock.so");
    let output = library.display().to_string();
    let arguments = [
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        &output,
        SOURCE,
        "-ldl",
        "-lpthread",
    ];
    succeeds("cc", &arguments).then_some(library)
}

/// All members' clocks run fast for a few lives of most leases. The library tells how far ahead they are.
pub(super) fn fast(run: &Run<'_>, rng: &mut Rng) -> Evidence {
    let rate = run
        .rig
        .clock_rate
        .as_ref()
        .ok_or("members run without the library")?;
    let ahead = || -> Vec<i64> {
        let traces = run
            .rig
            .members
            .iter()
            .map(|member| format!("{}.{}", rate.display(), member.id()));
        let read = |trace: String| std::fs::read_to_string(trace).ok()?.trim().parse().ok();
        traces
            .map(|trace| read(trace).unwrap_or_default())
            .collect()
    };
    let set = |ppm: u64| std::fs::write(rate, ppm.to_string()).map_err(|error| error.to_string());
    let before = ahead();
    set(MOST_PPM)?;
    wait::pass(Duration::from_millis(rng.u64(4_000..6_000)), || false);
    let gained: Vec<i64> = ahead()
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    set(0)?;
    match gained.iter().all(|gained| LEAST_GAINED_NS < *gained) {
        true => Ok(format!("clocks gained {gained:?} ns")),
        false => Err(format!("clocks gained {gained:?} ns only")),
    }
}
