//! What was asked of queues: by each asker, which names at once, how much of each, and before whom.
//!
//! The history tells what was granted; only the calls tell what was wanted.

use std::collections::BTreeMap;

use crate::record::{Ask, Event, Recording, Share};

/// Who asks: a lease and an owner or candidate.
pub(crate) type Who<'a> = (&'a str, &'a str);

/// What one call asks for.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) names: BTreeMap<&'a str, Share>,
    priority: i64,
    lock_delay_ms: u64,
}

/// What everybody asked for, whatever came of it.
pub(crate) struct Askings<'a>(BTreeMap<Who<'a>, Vec<Asking<'a>>>);

impl<'a> Askings<'a> {
    pub(crate) fn of(recording: &'a Recording) -> Askings<'a> {
        let mut askings: BTreeMap<Who<'_>, Vec<Asking<'_>>> = BTreeMap::new();
        for call in &recording.calls {
            let Some((who, asking)) = asking(&call.ask) else {
                continue;
            };
            let known = askings.entry(who).or_default();
            // A queued one asks again and again.
            if known.iter().all(|other| other.names != asking.names) {
                known.push(asking);
            }
        }
        Askings(askings)
    }

    /// All that somebody asked for.
    pub(crate) fn by<'b>(&'b self, who: Who<'b>) -> &'b [Asking<'b>] {
        self.0.get(&who).map_or(&[], Vec::as_slice)
    }

    fn for_it<'b>(&'b self, event: &'b Event) -> Option<&'b Asking<'b>> {
        let mut askings = self.by(event.who()).iter();
        askings.find(|asking| asking.names.contains_key(event.resource.as_str()))
    }

    /// How much was asked for of what an event tells of.
    pub(crate) fn share(&self, event: &Event) -> Option<Share> {
        let asking = self.for_it(event)?;
        asking.names.get(event.resource.as_str()).copied()
    }

    /// The priority at which it was asked for; 0 where nobody says.
    pub(crate) fn priority(&self, event: &Event) -> i64 {
        self.for_it(event).map_or(0, |asking| asking.priority)
    }

    /// The lock delay that was asked for with it; 0 where nobody says.
    pub(crate) fn lock_delay_ms(&self, event: &Event) -> u64 {
        self.for_it(event).map_or(0, |asking| asking.lock_delay_ms)
    }
}

fn asking(ask: &Ask) -> Option<(Who<'_>, Asking<'_>)> {
    let (lease, owner, names, priority, lock_delay_ms) = match ask {
        Ask::Acquire {
            resource,
            lease,
            owner,
            share,
            priority,
            lock_delay_ms,
        } => {
            let names = BTreeMap::from([(resource.as_str(), *share)]);
            (lease, owner, names, *priority, *lock_delay_ms)
        }
        Ask::AcquireAll {
            locks,
            lease,
            owner,
            priority,
        } => {
            let names = locks.iter().map(|(name, share)| (name.as_str(), *share));
            (lease, owner, names.collect(), *priority, 0)
        }
        _ => return None,
    };
    let asking = Asking {
        names,
        priority,
        lock_delay_ms,
    };
    Some(((lease, owner), asking))
}
