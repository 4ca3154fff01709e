//! Who holds what, and which leases live, as of each revision of the history.
//!
//! Owns that index. What it takes from events is only where holds and leases begin and end; whether that is right is
//! judged elsewhere.

use std::collections::BTreeMap;

use crate::record::{Event, Guard, Revision};

/// The fence of each hold of a name, by lease and owner.
pub(crate) type Holders = BTreeMap<(String, String), u64>;

/// What stands, by revision.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The holders of each name from each revision at which they changed.
    holders: BTreeMap<String, BTreeMap<Revision, Holders>>,
    /// When each lease was granted, and when it ended.
    leases: BTreeMap<String, (Revision, Option<Revision>)>,
}

/// Whether an event begins a hold.
pub(crate) fn begins(event: &Event) -> bool {
    matches!(event.kind.as_str(), "acquired" | "elected")
}

/// Whether an event ends a hold.
pub(crate) fn ends(event: &Event) -> bool {
    matches!(event.kind.as_str(), "released" | "resigned")
}

impl Standing {
    pub(crate) fn of(events: &[Event]) -> Standing {
        let mut standing = Standing::default();
        for event in events {
            if begins(event) || ends(event) {
                standing.change(event);
            }
            match event.kind.as_str() {
                "granted" => {
                    let life = (event.revision, None);
                    standing.leases.insert(event.text("lease").to_owned(), life);
                }
                "ended" => {
                    if let Some((_, ended)) = standing.leases.get_mut(event.text("lease")) {
                        ended.get_or_insert(event.revision);
                    }
                }
                _ => {}
            }
        }
        standing
    }

    fn change(&mut self, event: &Event) {
        let by_revision = self.holders.entry(event.resource.clone()).or_default();
        let last = by_revision.last_key_value();
        let mut holders = last.map_or_else(Holders::new, |(_, holders)| holders.clone());
        let (lease, owner) = event.who();
        let who = (lease.to_owned(), owner.to_owned());
        match begins(event) {
            true => holders.insert(who, event.number("fence").unwrap_or_default()),
            false => holders.remove(&who),
        };
        by_revision.insert(event.revision, holders);
    }

    /// All who hold a name as of a revision.
    pub(crate) fn holders(&self, resource: &str, revision: Revision) -> Option<&Holders> {
        let by_revision = self.holders.get(resource)?;
        let (_, holders) = by_revision.range(..=revision).next_back()?;
        Some(holders)
    }

    /// Whether somebody holds it with that fence as of a revision.
    pub(crate) fn is_held(&self, guard: &Guard, revision: Revision) -> bool {
        let holders = self.holders(&guard.resource, revision);
        holders.is_some_and(|holders| holders.values().any(|fence| *fence == guard.fence))
    }

    /// When the last hold with that fence ended; none where one stands, or there never was one.
    pub(crate) fn end_of(&self, guard: &Guard) -> Option<Revision> {
        let by_revision = self.holders.get(&guard.resource)?;
        let has = |holders: &Holders| holders.values().any(|fence| *fence == guard.fence);
        let mut from = by_revision.range(Revision(guard.fence)..);
        let ended = from.find(|(_, holders)| !has(holders));
        ended.map(|(at, _)| *at)
    }

    /// Whether a lease lives as of a revision.
    pub(crate) fn is_live(&self, lease: &str, revision: Revision) -> bool {
        let life = self.leases.get(lease);
        life.is_some_and(|(granted, ended)| {
            *granted <= revision && ended.is_none_or(|ended| revision < ended)
        })
    }
}
