//! What clients believe, in true time: the promise of `api.md` §1.
//!
//! Owns, for every lease, until when its client believes in it, and until when in each hold that hangs on it. A client
//! stops believing in a hold when it sends a release or hands it over, and in a lease when it sends a revoke. Whoever
//! breaks a hold with `now` accepts that it is still believed in; without it, nobody need accept that.

use std::collections::{BTreeMap, BTreeSet};

use tenure_state::{Fence, Kind, LeaseId, Share};

use super::demand;
use crate::plan::ClockPlan;
use crate::time::Moment;

/// Who holds what.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Holding {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) lease: LeaseId,
    pub(crate) owner: String,
}

/// How a client believes in a hold.
#[derive(Clone, Copy, Debug)]
struct Hold {
    fence: Fence,
    share: Share,
    until: Moment,
}

#[derive(Clone, Copy, Default)]
struct Belief {
    client: usize,
    until: Moment,
}

pub(crate) struct Beliefs {
    /// Whether what clients believe must be true: where clocks run further off than the product assumes, it need not.
    judged: bool,
    leases: BTreeMap<LeaseId, Belief>,
    holds: BTreeMap<Holding, Hold>,
    /// Holds that were broken with `now`.
    accepted: BTreeSet<(Holding, Fence)>,
}

impl Beliefs {
    pub(super) fn new(clocks: ClockPlan) -> Beliefs {
        Beliefs {
            judged: clocks.are_as_assumed(),
            leases: BTreeMap::new(),
            holds: BTreeMap::new(),
            accepted: BTreeSet::new(),
        }
    }

    /// A client learnt that it may believe in a lease until then.
    pub(crate) fn lease(&mut self, client: usize, lease: LeaseId, until: Moment) {
        let belief = self.leases.entry(lease).or_default();
        belief.client = client;
        belief.until = belief.until.max(until);
    }

    /// A client learnt that it holds something, and believes so until then.
    pub(crate) fn hold(
        &mut self,
        now: Moment,
        holding: Holding,
        (fence, share): (Fence, Share),
        until: Moment,
    ) {
        if !self.leases.contains_key(&holding.lease)
            || self.accepted.contains(&(holding.clone(), fence))
        {
            return;
        }
        let before = self.holds.get(&holding).filter(|hold| hold.fence == fence);
        let until = before.map_or(until, |before| before.until.max(until));
        let hold = Hold {
            fence,
            share,
            until,
        };
        self.holds.insert(holding.clone(), hold);
        if self.judged && now < until {
            self.demand_room(now, &holding, hold);
        }
    }

    /// All who believe at once could hold at once: one alone, many who share, or permits within the limit.
    fn demand_room(&self, now: Moment, mine: &Holding, hold: Hold) {
        let mut permits = taken(hold.share);
        let others = self.holds.iter().filter(|(other, theirs)| {
            now < theirs.until
                && *other != mine
                && (other.kind, &other.name) == (mine.kind, &mine.name)
        });
        for (other, theirs) in others {
            permits += taken(theirs.share);
            let fits = match (hold.share, theirs.share) {
                (Share::Shared, Share::Shared) => true,
                (Share::Permits { limit, .. }, Share::Permits { limit: theirs, .. }) => {
                    permits <= limit && limit == theirs
                }
                _ => false,
            };
            demand!(
                fits,
                "mutual-exclusion",
                "client {:?} believes {mine:?} with {hold:?}, client {:?} believes {other:?} with {theirs:?}",
                self.leases.get(&mine.lease).map(|belief| belief.client),
                self.leases.get(&other.lease).map(|belief| belief.client)
            );
        }
    }

    /// A client gives up a hold, if it has it.
    pub(crate) fn release(&mut self, holding: &Holding) {
        self.holds.remove(holding);
    }

    /// A hold was broken at once: its client may still believe in it, and that is accepted.
    pub(super) fn accept(&mut self, holding: Holding, fence: Fence) {
        self.holds.remove(&holding);
        self.accepted.insert((holding, fence));
    }

    /// A client gives up a lease: its own, after which it does not believe.
    pub(crate) fn revoke(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        self.holds.retain(|holding, _| holding.lease != lease);
    }

    /// A lease ran out by an entry that was appended then: nobody may believe in it any more.
    pub(crate) fn expired(&mut self, lease: LeaseId, appended: Moment) {
        self.holds.retain(|holding, _| holding.lease != lease);
        if let Some(belief) = self.leases.remove(&lease) {
            demand!(
                !self.judged || belief.until <= appended,
                "early-end",
                "lease {lease} ran out at {appended}; client {} believes in it until {}",
                belief.client,
                belief.until
            );
        }
    }
}

fn taken(share: Share) -> u64 {
    match share {
        Share::Exclusive | Share::Shared => 1,
        Share::Permits { permits, .. } => permits,
    }
}
