//! The oracles: what must hold after every event, judged by someone who sees everything.
//!
//! Own the history of the whole cluster: who led when, what is committed, what clients were told and what they
//! believe. Never change the world, and never ask the code under test whether it is right.

mod beliefs;
pub(crate) mod bounds;
mod calls;
mod consensus;
mod decisions;
pub(crate) mod disks;
mod history;
mod keys;
mod queues;
mod renewals;
mod rights;

pub(crate) use beliefs::{Beliefs, Holding};
pub(crate) use calls::Calls;
pub(crate) use consensus::{Consensus, FIRST_BASE, View, place_of};
pub(crate) use decisions::Decisions;
pub(crate) use history::{Around, History, everything};

use tenure_state::State;

use crate::plan::Plan;

/// An invariant that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which: a short name, or where a panic of the code under test was.
    pub invariant: String,
    /// What happened.
    pub detail: String,
}

/// Ends the run: an invariant is broken.
pub(crate) fn broken(invariant: &'static str, detail: String) -> ! {
    std::panic::panic_any(Violation {
        invariant: invariant.to_owned(),
        detail,
    })
}

/// Demands a condition, or ends the run with the name of the invariant and what was found.
macro_rules! demand {
    ($condition:expr, $invariant:literal, $($detail:tt)+) => {
        if !$condition {
            $crate::oracle::broken($invariant, format!($($detail)+));
        }
    };
}
pub(crate) use demand;

/// All oracles of a run.
pub(crate) struct Oracle {
    pub(crate) consensus: Consensus,
    pub(crate) history: History,
    pub(crate) decisions: Decisions,
    pub(crate) calls: Calls,
    pub(crate) beliefs: Beliefs,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan, places: usize, founding: &State) -> Oracle {
        Oracle {
            consensus: Consensus::new(places, plan.clocks),
            history: History::new(founding, plan.clocks),
            decisions: Decisions::new(founding),
            calls: Calls::default(),
            beliefs: Beliefs::new(plan.clocks),
        }
    }
}
