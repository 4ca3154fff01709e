//! Versions of the rules that `apply` follows.
//!
//! Owns which version knows what. The version in force is a row of the state, raised by an entry that the leader appends when
//! every member has said that it can follow (`design.md`, State), so that two rule sets never meet at one index, and never
//! lowered. A version decides the bytes too: whatever came with a later one is in no entry and in no row before it is in
//! force, so that a program of before reads all of it and has the same digest. Raising changes the row that says so, and no
//! other: rows that were made before stay as they are.
//!
//! | version | what came with it |
//! | --- | --- |
//! | 1 | leases, locks, semaphores, elections, keys, limits |
//! | 2 | access control: roles, identities and tokens, who asks in every request and renewal, whose a lease is, since when a hold is held and a place waited for |

use crate::command::{Batch, Command};
use crate::state::State;

/// The rules of before there were versions.
pub const FIRST_STATE_VERSION: u64 = 1;
/// The rules that know access control, and since when something is held or waited for.
pub const ACCESS_STATE_VERSION: u64 = 2;
/// The newest rules that this program knows.
pub const STATE_VERSION: u64 = ACCESS_STATE_VERSION;

impl Command {
    /// The least version of the rules under which it may be in the log.
    pub fn needs_version(&self) -> u64 {
        match self {
            Command::ChangeAccess(_) => ACCESS_STATE_VERSION,
            // Whoever follows older rules stops at it, which is what it is for.
            Command::RaiseVersion { to: _ } => FIRST_STATE_VERSION,
            Command::GrantLease(_)
            | Command::RevokeLease { .. }
            | Command::Acquire(_)
            | Command::Release(_)
            | Command::ChangeLease { .. }
            | Command::Break(_)
            | Command::Proclaim(_)
            | Command::HandOver(_)
            | Command::Transaction(_)
            | Command::Compact { .. }
            | Command::ChangeLimits(_) => FIRST_STATE_VERSION,
        }
    }
}

impl Batch {
    /// The version to which this entry raises the rules, if it does.
    pub fn raises_to(&self) -> Option<u64> {
        let raised = self
            .requests
            .iter()
            .filter_map(|request| match request.command {
                Command::RaiseVersion { to } => Some(to),
                _ => None,
            });
        raised.max()
    }
}

impl State {
    /// The version of the rules in force.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether it is known under the rules in force since when something is held and waited for.
    pub(crate) fn knows_since(&self) -> bool {
        ACCESS_STATE_VERSION <= self.version
    }
}
