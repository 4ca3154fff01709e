//! Whole Tenure clusters in one process on virtual time.
//!
//! Owns a world of simulated clocks, disks, networks and clients around the production code of `raft`, `state` and
//! `replica`, and the oracles that watch it. One seed decides everything that happens in a run; the same seed gives
//! the same run, event for event. Time, disks and the network are replaced, nothing else.
//!
//! Left out: the REST edge, redb and HTTP/2, which have tests of their own with real processes.

mod chance;
mod time;

mod applying;
mod asking;
mod calls;
mod clients;
mod crashing;
mod disk;
mod faults;
mod forging;
mod healing;
mod member;
mod network;
mod people;
mod plan;
mod recorded;
mod snapshot;
mod snapshot_work;
mod turning;
mod watchers;
mod world;
mod writing;

mod operator;
mod oracle;
mod run;
mod trace;
mod upgrades;

#[cfg(feature = "mutants")]
pub mod mutants;

pub use oracle::Violation;
pub use run::{Options, Outcome, hush_panics, run};
pub use trace::{Counts, FaultCounts};
