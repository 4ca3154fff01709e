//! The audit: who broke, changed, compacted or copied what, and who was refused what (`api.md` §8).
//!
//! Owns the lines on the log target `audit`. What an operator asks for ends or changes what is everybody's, so each
//! attempt is told, whatever came of it, and whether it was only told again what was decided before. Refusals are told
//! within a rate, and those that were left out are counted, so that a flood of them fills no disk. Every text that a caller
//! or an administrator has chosen is escaped, so that no line can be forged with it.

use std::net::IpAddr;
use std::time::Duration;

use tenure_api::Code;
use tenure_state::{Break, HolderView};

use super::caller::{Caller, token_shown};
use super::failure::Failure;
use super::leases;
use super::service::Context;
use super::throttle::{Lines, Rate};

/// Lines about refusals: so many at once, and then one in each interval.
const REFUSALS: Rate = Rate::new(Duration::from_millis(100), 50);

/// What was left out is told so much later, if no line after it has told it before.
const LEFT_OUT: Duration = Duration::from_secs(10);

/// What is told of those who were refused. Those whom nobody knows have a rate of their own: anybody can be refused as often
/// as he likes, and must not drown what is told of a token in wrong hands.
pub(super) struct Denials {
    known: Lines,
    unknown: Lines,
}

/// A request that was refused.
pub(super) struct Refused<'a> {
    /// Who asked, where that is known.
    pub(super) caller: Option<&'a Caller>,
    /// From where.
    pub(super) address: IpAddr,
    /// The id of the request.
    pub(super) request: &'a str,
    /// Its method and its path without names.
    pub(super) call: (&'a str, &'static str),
}

impl Denials {
    pub(super) fn new() -> Denials {
        Denials {
            known: Lines::new(REFUSALS),
            unknown: Lines::new(REFUSALS),
        }
    }

    /// Tells how many lines were left out, where none has been written since that would have told it. To be asked from
    /// time to time.
    pub(super) fn tell_left_out(&self) {
        for (of, lines) in [("known", &self.known), ("unknown", &self.unknown)] {
            if let Some(left_out) = lines.left_out_for(LEFT_OUT) {
                tracing::warn!(target: "audit", callers = of, left_out, "requests were refused");
            }
        }
    }

    /// Tells that something was refused, and why.
    pub(super) fn tell(&self, refused: &Refused<'_>, code: Code, why: &str) {
        let lines = match refused.caller {
            Some(_) => &self.known,
            None => &self.unknown,
        };
        let Some(left_out) = lines.take() else {
            return;
        };
        let (method, route) = refused.call;
        let identity = refused.caller.map(|caller| caller.principal().name());
        let token = refused.caller.and_then(|caller| caller.principal().token());
        tracing::warn!(
            target: "audit",
            identity,
            token = token_shown(token),
            address = %refused.address,
            request = refused.request,
            method,
            route,
            code = code.as_str(),
            why,
            left_out,
            "a request was refused"
        );
    }
}

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
        let caller = self.cx.caller();
        let (identity, address) = (caller.principal().name(), caller.address());
        let token = token_shown(caller.principal().token());
        match &self.act {
            Act::Break { asked, reason } => {
                let who = |view: &HolderView| format!("{} {:?}", view.lease, view.owner);
                let broken: Vec<String> = ended.iter().map(who).collect();
                tracing::info!(
                    target: "audit",
                    identity,
                    token,
                    %address,
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
                identity,
                token,
                %address,
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
                identity,
                token,
                %address,
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
