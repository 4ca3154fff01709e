//! A hold on a lease: of a lock, of several, of permits or of a leadership.
//!
//! Owns the rule of when a hold may be believed in beside its lease. The lease may live on after its hold was broken, so
//! a renewal prolongs the belief in a hold only where it says that nothing on the lease has changed since the hold was
//! last seen. Else the hold keeps the deadline that it had, which the cluster waits for too, until it is seen again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tenure_api::{Attached, AttachedState, Mode};

use crate::belief::{Belief, State};
use crate::clock::Deadline;
use crate::error::Loss;
use crate::lease::Shared;
use crate::shown::Shown;

/// What a hold is of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    Lock,
    Semaphore,
    Election,
}

impl Kind {
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Kind::Lock => "locks",
            Kind::Semaphore => "semaphores",
            Kind::Election => "elections",
        }
    }

    /// The name of the parameter that has the owner.
    pub(crate) fn owner_field(self) -> &'static str {
        match self {
            Kind::Lock | Kind::Semaphore => "owner",
            Kind::Election => "candidate",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Election => "election",
        }
    }

    /// Whether a thing that hangs on a lease is a hold or a place of this name and owner.
    pub(crate) fn is_of(self, name: &str, owner: &str, thing: &Attached) -> bool {
        let resource = thing.resource.strip_prefix(self.collection());
        let resource = resource.and_then(|rest| rest.strip_prefix('/'));
        let by = match self {
            Kind::Election => &thing.candidate,
            Kind::Lock | Kind::Semaphore => &thing.owner,
        };
        resource == Some(name) && by.as_deref().unwrap_or_default() == owner
    }
}

/// What was granted together is believed in together: where one part is broken, all is lost.
pub(crate) struct Hold {
    pub(crate) kind: Kind,
    /// One, but for several locks taken together.
    pub(crate) parts: Vec<Part>,
    /// The owner; of an election the candidate.
    pub(crate) owner: String,
    pub(crate) belief: Belief,
    pub(crate) lease: Arc<Shared>,
    /// The revision at which the cluster last showed it as held.
    seen: AtomicU64,
}

/// One name of a hold.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) fence: u64,
    /// Of a lock.
    pub(crate) mode: Mode,
    given_up: AtomicBool,
    /// The cluster has it no more.
    over: AtomicBool,
}

impl Part {
    pub(crate) fn new(name: String, fence: u64, mode: Mode) -> Part {
        Part {
            name,
            fence,
            mode,
            given_up: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// From now on it is not believed in, and its absence says nothing of the others.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// The cluster said that it is released, or is no more.
    pub(crate) fn set_over(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether it need not be released any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Hold {
    pub(crate) fn new(
        (kind, owner): (Kind, String),
        parts: Vec<Part>,
        belief: Belief,
        lease: &Arc<Shared>,
        seen: u64,
    ) -> Arc<Hold> {
        let hold = Arc::new(Hold {
            kind,
            parts,
            owner,
            belief,
            lease: Arc::clone(lease),
            seen: AtomicU64::new(seen),
        });
        lease.attach(&hold);
        hold
    }

    /// The parts that were not given up.
    pub(crate) fn live_parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| !part.is_given_up())
    }

    /// A renewal was answered. Answers whether the hold has to be looked at before more is believed of it: also where
    /// nothing is said to have ever hung on the lease, which contradicts the hold.
    pub(crate) fn lease_renewed(&self, until: Deadline, attached_revision: Option<u64>) -> bool {
        if matches!(self.belief.look(), State::Lost(_)) {
            return false;
        }
        let seen = self.seen.load(Ordering::SeqCst);
        let doubtful = attached_revision.is_none_or(|attached| attached > seen);
        if !doubtful {
            self.belief.extend(until);
        }
        doubtful
    }

    /// The cluster showed at a revision what hangs on the lease, `whole` or the beginning of it. Answers whether that
    /// says nothing of this hold.
    pub(crate) fn lease_seen(
        &self,
        until: Deadline,
        attached: &[Attached],
        whole: bool,
        at: u64,
    ) -> bool {
        let is_shown = |part: &Part| attached.iter().any(|thing| self.is(part, thing));
        let is_seen = self.live_parts().all(is_shown);
        if is_seen {
            self.was_seen(until, at);
        } else if whole {
            self.was_missing(at);
        }
        !is_seen && !whole
    }

    /// The cluster showed its parts by themselves, as of this revision or a later one.
    pub(crate) fn parts_seen(&self, until: Deadline, shown: &[(&Part, Shown)], at: u64) {
        let is_held = |(part, shown): &(&Part, Shown)| {
            part.is_given_up() || matches!(shown, Shown::Held { fence, .. } if *fence == part.fence)
        };
        let is_unclear = |(_, shown): &(&Part, Shown)| matches!(shown, Shown::Unclear);
        if shown.iter().all(is_held) {
            self.was_seen(until, at);
        } else if shown.iter().any(|part| !is_held(part) && !is_unclear(part)) {
            self.was_missing(at);
        }
    }

    fn was_seen(&self, until: Deadline, at: u64) {
        self.seen.fetch_max(at, Ordering::SeqCst);
        self.belief.extend(until);
    }

    fn was_missing(&self, at: u64) {
        if at >= self.seen.load(Ordering::SeqCst) {
            self.belief.end(Loss::Broken);
        }
    }

    fn is(&self, part: &Part, thing: &Attached) -> bool {
        self.kind.is_of(&part.name, &self.owner, thing)
            && thing.state == Some(AttachedState::Held)
            && thing.fence == Some(part.fence)
    }
}
