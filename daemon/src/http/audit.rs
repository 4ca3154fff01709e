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
use super::throttle::{ByIdentity, Lines, Rate};

/// Lines about refusals: so many at once, and then one in each interval.
const REFUSALS: Rate = Rate::new(Duration::from_millis(100), 50);

/// Lines about refusals of one identity, also where others have used up the rate of all: so many at once, and then one in
/// each interval.
const REFUSALS_OF_EACH: Rate = Rate::new(Duration::from_secs(10), 5);

/// What was left out is told so much later, if no line after it has told it before.
const LEFT_OUT: Duration = Duration::from_secs(10);

/// What is told of those who were refused. Those whom nobody knows have a rate of their own: anybody can be refused as often
/// as he likes, and must not drown what is told of a token in wrong hands. No more does one identity drown another: each
/// has some lines beyond the rate of all.
pub(super) struct Denials {
    known: Lines,
    of_each: ByIdentity,
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
            of_each: ByIdentity::default(),
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
        let identity = refused.caller.map(|caller| caller.principal().name());
        let Some(left_out) = self.take(identity) else {
            return;
        };
        let (method, route) = refused.call;
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

    /// Whether a line about an identity, or about somebody unknown, may be written, and how many were left out before it.
    fn take(&self, identity: Option<&str>) -> Option<u64> {
        let Some(identity) = identity else {
            return self.unknown.take();
        };
        let has_its_own = || self.of_each.take(identity, REFUSALS_OF_EACH).is_ok();
        self.known.take_or(has_its_own)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_identity_drowns_neither_another_nor_those_whom_nobody_knows() {
        let denials = Denials::new();
        let written = |identity: Option<&str>, asked: u32| {
            let lines = (0..asked).filter_map(|_| denials.take(identity));
            lines.collect::<Vec<u64>>()
        };
        let of_all = REFUSALS.burst() as usize;
        let of_each = REFUSALS_OF_EACH.burst() as usize;
        assert_eq!(written(Some("loud"), 1000).len(), of_all + of_each);
        let quiet = written(Some("quiet"), 1000);
        let left_out = 1000 - (of_all + of_each) as u64;
        assert_eq!(quiet.len(), of_each);
        assert_eq!(quiet[0], left_out, "the next line tells what was left out");
        assert_eq!(written(None, 1000).len(), of_all);
        // One that is refused now and then is told of whatever others do.
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(of_all < written(Some("loud"), 1000).len());
        assert_eq!(written(Some("quiet"), 1000).len(), 1);
    }
}
