//! Watchers: they follow the history from where they are, on whatever member answers, and lose nothing.

use std::time::Duration;

use bytes::Bytes;
use tenure_state::{Collection, Resource, Revision, Selector};

use crate::calls::{Ask, Call, CallId, Caller, EVENTS_A_REPLY, Reply};
use crate::oracle::{demand, everything};
use crate::world::{Event, World};

pub(crate) struct Watcher {
    after: Revision,
    selectors: Vec<Selector>,
}

/// A watch that a member holds open.
#[derive(Clone, Debug)]
pub(crate) struct OpenWatch {
    pub(crate) call: CallId,
    pub(crate) after: Revision,
    pub(crate) selectors: Vec<Selector>,
    /// The most events of its page.
    pub(crate) most: usize,
    /// The member has come to a point that is no older than the call.
    pub(crate) settled: bool,
}

impl Watcher {
    /// The first watches everything, the others less.
    pub(crate) fn new(place: usize) -> Watcher {
        let some = |collection, name: &'static [u8]| Resource {
            collection,
            name: Bytes::from_static(name),
        };
        let selectors = match place {
            0 => everything(),
            1 => vec![
                Selector::Prefix(some(Collection::Keys, b"k1")),
                Selector::Prefix(some(Collection::Leases, b"")),
            ],
            _ => vec![Selector::Exact(some(Collection::Locks, b"lock0"))],
        };
        Watcher {
            after: Revision(1),
            selectors,
        }
    }
}

impl World {
    /// A watcher asks some member what is new.
    pub(crate) fn look(&mut self, place: usize) {
        let member = self.chance.index(self.members.len());
        let wait = self
            .chance
            .skewed_span(Duration::from_millis(1), Duration::from_secs(2));
        // A page ends within a burst only where it is small.
        let most = match self.chance.coin() {
            true => EVENTS_A_REPLY,
            false => self.chance.index(20) + 1,
        };
        // Some come from a cluster that was further, or was another.
        let beyond = match self.chance.happens(80_000) {
            true => self.chance.skewed(1, 1000),
            false => 0,
        };
        let watcher = &self.watchers[place];
        let ask = Ask::Watch {
            after: Revision(watcher.after.0 + beyond),
            selectors: watcher.selectors.clone(),
            wait,
            most,
            stranger: 0 < beyond,
        };
        self.call(
            Caller::Watcher(place),
            member,
            ask,
            wait + Duration::from_secs(1),
        );
    }

    pub(crate) fn watcher_answered(&mut self, place: usize, call: &Call, reply: Reply) {
        let Ask::Watch {
            after,
            selectors,
            stranger,
            ..
        } = &call.ask
        else {
            return;
        };
        match reply {
            Reply::Ahead => {
                self.trace.counts.ahead += 1;
                let known = self.oracle.history.revision_at(call.floor);
                demand!(
                    *stranger && known.is_none_or(|known| known < *after),
                    "revision-ahead",
                    "a watch after {after} is told that the cluster has never been there; {known:?} had been answered"
                );
            }
            Reply::Watched { changes, through } => {
                self.oracle
                    .history
                    .watched(*after, through, selectors, &changes);
                self.trace.counts.watched += changes
                    .iter()
                    .map(|change| change.events.len() as u64)
                    .sum::<u64>();
                self.go_on(place, *stranger, through);
            }
            // It reads the present state and goes on from there.
            Reply::Compacted { now } => {
                self.trace.counts.compacted += 1;
                self.go_on(place, *stranger, now.max(*after));
            }
            _ => {}
        }
        if !self.faults.quiet {
            let pause = self
                .chance
                .skewed_span(Duration::from_millis(1), Duration::from_millis(500));
            self.after(pause, Event::Look { watcher: place });
        }
    }
    /// A stranger's answers are no part of what this watcher follows.
    fn go_on(&mut self, place: usize, stranger: bool, after: Revision) {
        if !stranger {
            self.watchers[place].after = after;
        }
    }
}
