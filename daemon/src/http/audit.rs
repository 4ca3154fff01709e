//! The audit: who broke, changed, compacted or copied what (`api.md` §8).
//!
//! Owns the lines on the log target `audit`. What an operator asks for ends or changes what is everybody's, so each
//! attempt is told, whatever came of it, and whether it was only told again what was decided before.

use tenure_api::Code;
use tenure_state::{Break, HolderView};

use super::failure::Failure;
use super::leases;
use super::service::Context;

/// What an operator asks for.
pub(super) enum Act<'a> {
    /// To end holds that belong to somebody else.
    Break {
        /// Which.
        asked: &'a Break,
        /// Why, for whoever reads the line.
        reason: &'a str,
    },
    /// To change something of the cluster.
    Change {
        /// What.
        what: &'static str,
        /// How.
        asked: String,
    },
    /// To have a copy of everything.
    Backup,
}

/// The line of one attempt. Where its caller goes away before it is decided, it may be carried out all the same, and is
/// told when this is dropped.
pub(super) struct Audit<'a, 'c> {
    cx: &'a Context<'c>,
    act: Act<'a>,
    told: bool,
}

impl<'a, 'c> Audit<'a, 'c> {
    /// Of an attempt that begins.
    pub(super) fn of(cx: &'a Context<'c>, act: Act<'a>) -> Audit<'a, 'c> {
        Audit {
            cx,
            act,
            told: false,
        }
    }

    /// Tells what came of it; `ended` are the holds that ended.
    pub(super) fn tell<T>(mut self, result: &Result<T, Failure>, ended: &[HolderView]) {
        match (result, &self.act) {
            (Ok(_), Act::Break { .. }) => self.write("broken", ended),
            (Ok(_), Act::Change { .. } | Act::Backup) => self.write("done", ended),
            (Err(failure), _) => self.write(failure.code.as_str(), ended),
        }
    }

    /// What callers wrote is escaped, so that no line can be forged with it.
    fn write(&mut self, outcome: &str, ended: &[HolderView]) {
        self.told = true;
        let (member, request) = (self.cx.handle().member().id, self.cx.id);
        let replayed = self.cx.is_replayed();
        match &self.act {
            Act::Break { asked, reason } => {
                let who = |view: &HolderView| format!("{} {:?}", view.lease, view.owner);
                let broken: Vec<String> = ended.iter().map(who).collect();
                tracing::info!(
                    target: "audit",
                    %member,
                    request,
                    kind = leases::collection(asked.kind),
                    name = ?asked.name,
                    fence = asked.fence.0,
                    now = asked.now,
                    ?reason,
                    outcome,
                    replayed,
                    broken = broken.join(", "),
                    "an operator breaks a hold"
                );
            }
            Act::Change { what, asked } => tracing::info!(
                target: "audit",
                %member,
                request,
                change = what,
                asked,
                outcome,
                replayed,
                "an operator changes the cluster"
            ),
            Act::Backup => tracing::info!(
                target: "audit",
                %member,
                request,
                outcome,
                "an operator takes a backup of everything"
            ),
        }
    }
}

impl Drop for Audit<'_, '_> {
    fn drop(&mut self) {
        if !self.told {
            self.write(Code::OutcomeUnknown.as_str(), &[]);
        }
    }
}
