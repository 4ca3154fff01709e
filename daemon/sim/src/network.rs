//! The simulated network: which links are cut, and how long a message travels.
//!
//! Owns the cuts and the order of lanes. Messages may be lost, delayed by minutes, doubled and overtaken; only
//! requests that are forwarded are never doubled, as the contract of the peer protocol says.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_replica::{Lane, PeerMessage};

use crate::chance::Chance;
use crate::plan::NetworkPlan;
use crate::time::Moment;

/// A cut that can be mended by its number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct CutId(u64);

pub(crate) struct Network {
    plan: NetworkPlan,
    next_cut: u64,
    /// Links, from and to, that do not carry; a link may be cut more than once.
    cuts: BTreeMap<CutId, Vec<(usize, usize)>>,
    cut: Vec<Vec<u32>>,
    /// Links that are slow, and by how much.
    lags: BTreeMap<CutId, (Vec<(usize, usize)>, Duration)>,
    /// When the last message of a lane arrives, where lanes are ordered.
    last: BTreeMap<(usize, usize, Lane), Moment>,
}

/// What becomes of a message.
pub(crate) enum Fate {
    Lost {
        /// The sender hears that it was.
        told: bool,
    },
    /// Arrives at each of these times.
    Arrives { at: Vec<Moment>, late: bool },
}

impl Network {
    pub(crate) fn new(members: usize, plan: NetworkPlan) -> Network {
        let cut = vec![vec![0; members]; members];
        Network {
            plan,
            next_cut: 0,
            cuts: BTreeMap::new(),
            cut,
            lags: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    pub(crate) fn cut(&mut self, links: Vec<(usize, usize)>) -> CutId {
        let id = CutId(self.next_cut);
        self.next_cut += 1;
        for (from, to) in &links {
            self.cut[*from][*to] += 1;
        }
        self.cuts.insert(id, links);
        id
    }

    /// Makes links slow until they are mended.
    pub(crate) fn slow_down(&mut self, links: Vec<(usize, usize)>, lag: Duration) -> CutId {
        let id = CutId(self.next_cut);
        self.next_cut += 1;
        self.lags.insert(id, (links, lag));
        id
    }

    fn lag(&self, link: (usize, usize)) -> Duration {
        let slow = self
            .lags
            .values()
            .filter(|(links, _)| links.contains(&link));
        slow.map(|(_, lag)| *lag).max().unwrap_or_default()
    }

    pub(crate) fn mend(&mut self, id: CutId) {
        self.lags.remove(&id);
        for (from, to) in self.cuts.remove(&id).into_iter().flatten() {
            self.cut[from][to] -= 1;
        }
    }

    /// Mends everything, and carries quickly and safely from now on.
    pub(crate) fn heal(&mut self) {
        let cuts: Vec<CutId> = self.cuts.keys().copied().collect();
        cuts.into_iter().for_each(|id| self.mend(id));
        self.plan = NetworkPlan {
            delay: (Duration::from_micros(100), Duration::from_millis(2)),
            lost: 0,
            doubled: 0,
            late: 0,
            ..self.plan
        };
        self.last.clear();
        self.lags.clear();
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from][to] > 0
    }

    /// Decides the fate of a message.
    pub(crate) fn carry(
        &mut self,
        chance: &mut Chance,
        now: Moment,
        (from, to): (usize, usize),
        message: &PeerMessage,
    ) -> Fate {
        if self.is_cut(from, to) || chance.happens(self.plan.lost) {
            return Fate::Lost {
                told: chance.happens(self.plan.tells),
            };
        }
        let late = chance.happens(self.plan.late);
        let mut at = vec![self.arrival(chance, now, (from, to, message.lane()), late)];
        let once = matches!(
            message,
            PeerMessage::Forward(_) | PeerMessage::Operate { .. }
        );
        if !once && chance.happens(self.plan.doubled) {
            let later = chance.coin();
            at.push(self.arrival(chance, now, (from, to, message.lane()), later));
        }
        Fate::Arrives { at, late }
    }

    fn arrival(
        &mut self,
        chance: &mut Chance,
        now: Moment,
        link: (usize, usize, Lane),
        late: bool,
    ) -> Moment {
        let (least, most) = self.plan.delay;
        let now = now + self.lag((link.0, link.1));
        if late {
            // A late message is one that a broken connection held back: it blocks nobody behind it.
            return now + chance.skewed_span(most, self.plan.latest.max(most));
        }
        let at = now + chance.span(least, most);
        if !self.plan.ordered {
            return at;
        }
        let last = self.last.entry(link).or_default();
        *last = at.max(*last);
        *last
    }
}
