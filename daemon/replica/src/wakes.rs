//! Who waits for which change, so that only they are woken.
//!
//! Owns the interests of waiters, and nothing of their state: whoever is woken looks for itself. A waiter registers
//! first and looks then, so that no change falls between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tenure_state::{Collection, Event, Kind, LeaseId, LeaveReason, Resource, Selector};

/// A registered interest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WakeId(u64);

/// What somebody waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Interest {
    /// Any change of what is selected.
    Watch(Vec<Selector>),
    /// A change of a lease, or of what hangs on it.
    Lease(LeaseId),
    /// The end of a place: its grant, or its end without one.
    Place {
        /// Of what kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// The lease.
        lease: LeaseId,
        /// The owner.
        owner: String,
    },
}

/// Why somebody is woken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wake {
    /// Something that is waited for changed.
    Changed,
    /// The place is a hold now.
    Granted,
    /// The place ended without a grant.
    Left(LeaveReason),
}

type PlaceKey = (Kind, String, LeaseId, String);

/// Everybody who waits.
#[derive(Debug, Default)]
pub struct Wakes {
    next: u64,
    interests: BTreeMap<WakeId, Interest>,
    exact: BTreeMap<Resource, BTreeSet<WakeId>>,
    /// By collection, then by prefix. Looked up once for each length that some prefix has.
    prefixes: BTreeMap<Collection, BTreeMap<Bytes, BTreeSet<WakeId>>>,
    lengths: BTreeMap<Collection, BTreeMap<usize, usize>>,
    leases: BTreeMap<LeaseId, BTreeSet<WakeId>>,
    places: BTreeMap<PlaceKey, BTreeSet<WakeId>>,
}

impl Wakes {
    /// Registers an interest.
    pub fn register(&mut self, interest: Interest) -> WakeId {
        let id = WakeId(self.next);
        self.next += 1;
        match &interest {
            Interest::Watch(selectors) => selectors
                .iter()
                .for_each(|selector| self.select(id, selector)),
            Interest::Lease(lease) => {
                self.leases.entry(*lease).or_default().insert(id);
            }
            Interest::Place {
                kind,
                name,
                lease,
                owner,
            } => {
                let key = (*kind, name.clone(), *lease, owner.clone());
                self.places.entry(key).or_default().insert(id);
            }
        }
        self.interests.insert(id, interest);
        id
    }

    /// Forgets an interest.
    pub fn unregister(&mut self, id: WakeId) {
        match self.interests.remove(&id) {
            Some(Interest::Watch(selectors)) => selectors
                .iter()
                .for_each(|selector| self.unselect(id, selector)),
            Some(Interest::Lease(lease)) => remove_from(&mut self.leases, &lease, id),
            Some(Interest::Place {
                kind,
                name,
                lease,
                owner,
            }) => {
                remove_from(&mut self.places, &(kind, name, lease, owner), id);
            }
            None => {}
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.interests.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.interests.is_empty()
    }

    /// Whose place an event ends, and how.
    pub fn woken_by(&self, event: &Event, woken: &mut BTreeMap<WakeId, Wake>) {
        self.wake_places(event, woken);
    }

    /// Adds those who watch a resource to `woken`; somebody with several selectors may be added more than once.
    pub fn watchers_of(&self, resource: &Resource, woken: &mut Vec<WakeId>) {
        let exact = self.exact.get(resource).into_iter().flatten();
        let by_prefix = self
            .lengths
            .get(&resource.collection)
            .into_iter()
            .flat_map(|lengths| lengths.keys());
        let by_prefix = by_prefix
            .take_while(|length| **length <= resource.name.len())
            .filter_map(|length| {
                self.prefixes
                    .get(&resource.collection)?
                    .get(&resource.name[..*length])
            })
            .flatten();
        woken.extend(exact.chain(by_prefix));
    }

    /// Whether anybody waits for a lease, so that the leases of events are worth looking at.
    pub fn await_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Adds those who wait for a lease to `woken`.
    pub fn waiters_of_lease(&self, lease: LeaseId, woken: &mut Vec<WakeId>) {
        woken.extend(self.leases.get(&lease).into_iter().flatten());
    }

    /// Everybody, where what changed is not known (a snapshot was installed).
    pub fn all(&self) -> Vec<WakeId> {
        self.interests.keys().copied().collect()
    }

    fn wake_places(&self, event: &Event, woken: &mut BTreeMap<WakeId, Wake>) {
        if self.places.is_empty() {
            return;
        }
        let (key, wake) = match event {
            Event::Granted(grant) => (
                (
                    grant.kind,
                    grant.name.clone(),
                    grant.lease,
                    grant.owner.clone(),
                ),
                Wake::Granted,
            ),
            Event::Left {
                kind,
                name,
                owner,
                lease,
                reason,
            } => (
                (*kind, name.clone(), *lease, owner.clone()),
                Wake::Left(*reason),
            ),
            Event::Put(_)
            | Event::Delete { .. }
            | Event::Queued { .. }
            | Event::Proclaimed { .. }
            | Event::Released { .. }
            | Event::LeaseGranted { .. }
            | Event::LeaseEnded { .. } => return,
        };
        for id in self.places.get(&key).into_iter().flatten() {
            woken.insert(*id, wake);
        }
    }

    fn select(&mut self, id: WakeId, selector: &Selector) {
        match selector {
            Selector::Exact(resource) => {
                self.exact.entry(resource.clone()).or_default().insert(id);
            }
            Selector::Prefix(Resource { collection, name }) => {
                let ids = self
                    .prefixes
                    .entry(*collection)
                    .or_default()
                    .entry(name.clone())
                    .or_default();
                if ids.is_empty() {
                    *self
                        .lengths
                        .entry(*collection)
                        .or_default()
                        .entry(name.len())
                        .or_default() += 1;
                }
                ids.insert(id);
            }
        }
    }

    fn unselect(&mut self, id: WakeId, selector: &Selector) {
        match selector {
            Selector::Exact(resource) => remove_from(&mut self.exact, resource, id),
            Selector::Prefix(Resource { collection, name }) => {
                let Some(prefixes) = self.prefixes.get_mut(collection) else {
                    return;
                };
                let had = prefixes.contains_key(name);
                remove_from(prefixes, name, id);
                if had && !prefixes.contains_key(name) {
                    self.forget_length(*collection, name.len());
                }
                if self
                    .prefixes
                    .get(collection)
                    .is_some_and(BTreeMap::is_empty)
                {
                    self.prefixes.remove(collection);
                }
            }
        }
    }

    fn forget_length(&mut self, collection: Collection, length: usize) {
        let Some(lengths) = self.lengths.get_mut(&collection) else {
            return;
        };
        if let Some(count) = lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&length);
            }
        }
    }
}

fn remove_from<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<WakeId>>, key: &K, id: WakeId) {
    if let Some(ids) = sets.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tenure_state::{EndReason, KeyEntry, Revision, resource_of};

    fn put(key: &str) -> Event {
        Event::Put(Arc::new(KeyEntry {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::new(),
            content_type: None,
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: None,
        }))
    }

    fn key(name: &str) -> Resource {
        Resource {
            collection: Collection::Keys,
            name: Bytes::copy_from_slice(name.as_bytes()),
        }
    }

    fn watching(wakes: &Wakes, event: &Event) -> Vec<WakeId> {
        let mut woken = Vec::new();
        wakes.watchers_of(&resource_of(event), &mut woken);
        woken.sort();
        woken
    }

    fn woken(wakes: &Wakes, event: &Event) -> BTreeMap<WakeId, Wake> {
        let mut woken = BTreeMap::new();
        wakes.woken_by(event, &mut woken);
        woken
    }

    #[test]
    fn only_those_whose_selectors_match_are_woken() {
        let mut wakes = Wakes::default();
        let exact = wakes.register(Interest::Watch(vec![Selector::Exact(key("config/a"))]));
        let prefix = wakes.register(Interest::Watch(vec![Selector::Prefix(key("config/"))]));
        let all = wakes.register(Interest::Watch(vec![Selector::Prefix(key(""))]));
        let other = wakes.register(Interest::Watch(vec![Selector::Exact(key("config"))]));
        let ids = |event: &Event| watching(&wakes, event);
        assert_eq!(ids(&put("config/a")), [exact, prefix, all]);
        assert_eq!(ids(&put("config/b")), [prefix, all]);
        assert_eq!(ids(&put("config")), [all, other]);
        let lease = LeaseId::new(7).expect("it is positive");
        assert!(
            ids(&Event::LeaseEnded {
                lease,
                name: String::new(),
                reason: EndReason::Expired
            })
            .is_empty()
        );
    }

    #[test]
    fn a_watcher_that_left_is_not_woken_and_leaves_nothing_behind() {
        let mut wakes = Wakes::default();
        let first = wakes.register(Interest::Watch(vec![
            Selector::Prefix(key("a")),
            Selector::Exact(key("ab")),
        ]));
        let second = wakes.register(Interest::Watch(vec![Selector::Prefix(key("a"))]));
        wakes.unregister(first);
        assert_eq!(watching(&wakes, &put("ab")), [second]);
        wakes.unregister(second);
        assert!(wakes.is_empty() && wakes.prefixes.is_empty() && wakes.exact.is_empty());
        assert!(wakes.lengths.values().all(BTreeMap::is_empty));
    }

    #[test]
    fn who_waits_for_a_lease_is_woken_by_its_id_and_leaves_nothing_behind() {
        let lease = |number| LeaseId::new(number).expect("it is positive");
        let mut wakes = Wakes::default();
        let one = wakes.register(Interest::Lease(lease(1)));
        let two = wakes.register(Interest::Lease(lease(2)));
        let mut woken = Vec::new();
        wakes.waiters_of_lease(lease(2), &mut woken);
        assert_eq!(woken, [two]);
        wakes.unregister(two);
        assert!(wakes.await_leases());
        wakes.unregister(one);
        assert!(!wakes.await_leases() && wakes.is_empty());
    }

    #[test]
    fn a_grant_wakes_the_place_that_was_granted_and_no_other_of_the_queue() {
        let mut wakes = Wakes::default();
        let lease = |number| LeaseId::new(number).expect("it is positive");
        let place = |number| Interest::Place {
            kind: Kind::Lock,
            name: "jobs".to_owned(),
            lease: lease(number),
            owner: String::new(),
        };
        let first = wakes.register(place(1));
        let second = wakes.register(place(2));
        let left = Event::Left {
            kind: Kind::Lock,
            name: "jobs".to_owned(),
            owner: String::new(),
            lease: lease(2),
            reason: LeaveReason::WaitExpired,
        };
        assert_eq!(
            woken(&wakes, &left).into_iter().collect::<Vec<_>>(),
            [(second, Wake::Left(LeaveReason::WaitExpired))]
        );
        wakes.unregister(first);
        wakes.unregister(second);
        assert!(wakes.places.is_empty());
    }
}
