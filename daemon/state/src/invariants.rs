//! What always holds, as assertions.

use crate::command::Share;
use crate::ids::Kind;
use crate::parts::{Due, FREE, Hanging};
use crate::row::Table;
use crate::rows;
use crate::state::State;

impl State {
    /// Checks what the documentation of [`State`] lists.
    ///
    /// # Panics
    ///
    /// Where it does not hold. Costs as much as the whole state; for tests and the simulator.
    pub fn check_invariants(&self) {
        self.keys.check_invariants();
        self.check_leases();
        self.check_queues();
        self.check_places();
        self.check_agenda();
        self.check_history();
        self.repeats.check_invariants();
        self.access.check_invariants();
        assert_eq!(
            self.usage,
            self.counted_usage(),
            "what identities use, as counted"
        );
        assert_eq!(
            self.standing,
            self.counted_standing(),
            "the bytes of leases, holds and places"
        );
        for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
            let tally = self.tally.of(kind);
            assert_eq!(
                (tally.held, tally.waiting),
                self.present(kind),
                "{kind:?}: what is held and waited for, as counted"
            );
        }
        assert_eq!(
            self.ledger.digest,
            self.recomputed_digest(),
            "the digest drifted from the rows"
        );
    }

    fn recomputed_digest(&self) -> u128 {
        let rows = self.rows().filter(|row| row.table != Table::Deadlines);
        let rows = rows
            .map(|row| rows::hash(row.table, &row.key, &row.value))
            .fold(0, u128::wrapping_add);
        let deadlines = (0u32..)
            .zip(&self.leases.deadlines)
            .filter(|(_, deadline)| **deadline != FREE);
        deadlines
            .map(|(slot, deadline)| rows::hash_deadline(slot, *deadline))
            .fold(rows, u128::wrapping_add)
    }

    fn check_leases(&self) {
        let used = self
            .leases
            .deadlines
            .iter()
            .filter(|deadline| **deadline != FREE)
            .count();
        assert_eq!(used, self.leases.by_id.len(), "deadlines and leases");
        let mut hanging = 0;
        for (id, lease) in &self.leases.by_id {
            hanging += lease.attached.len();
            for thing in &lease.attached {
                let there = match thing {
                    Hanging::Key(key) => self
                        .keys
                        .get(key)
                        .is_some_and(|entry| entry.lease == Some(*id)),
                    Hanging::Hold(queue, owner) => self
                        .queues
                        .get(queue)
                        .is_some_and(|q| q.holds.contains_key(&State::asker(*id, owner))),
                    Hanging::Place(queue, owner) => self
                        .queues
                        .get(queue)
                        .is_some_and(|q| q.askers.contains_key(&State::asker(*id, owner))),
                };
                assert!(there, "lease {id} carries {thing:?}, which is not there");
            }
        }
        let keys = self
            .keys
            .live_range(std::ops::Bound::Unbounded, None)
            .filter(|entry| entry.lease.is_some());
        let standing: usize = self
            .queues
            .values()
            .map(|queue| queue.holds.len() + queue.askers.len())
            .sum();
        assert_eq!(
            hanging,
            keys.count() + standing,
            "things on leases, and things with a lease"
        );
    }

    fn check_places(&self) {
        for place in self.places.values() {
            let lease = self.leases.by_id.get(&place.asker.lease);
            let owner = lease.and_then(|lease| lease.identity.as_ref());
            assert_eq!(
                place.identity.as_ref(),
                owner,
                "whose a place is, and whose its lease"
            );
        }
    }

    fn check_queues(&self) {
        let used = self.queues.iter().filter(|(_, queue)| queue.is_used());
        assert!(
            self.active.iter().eq(used.map(|(id, _)| id)),
            "what is held or waited for"
        );
        for (id, queue) in &self.queues {
            let holds: Vec<_> = queue.holds.values().collect();
            let exclusive = holds
                .iter()
                .filter(|hold| hold.share == Share::Exclusive)
                .count();
            assert!(
                exclusive == 0 || holds.len() == 1,
                "{id:?} is held exclusively and by others"
            );
            assert!(
                holds
                    .iter()
                    .all(|hold| Some(hold.fence) <= queue.last_fence),
                "a fence of {id:?} is ahead"
            );
            if let Some(limit) = queue.limit() {
                assert!(
                    queue.taken <= limit,
                    "{} permits of {limit} are held",
                    queue.taken
                );
            }
            assert_eq!(
                queue.places.len(),
                queue.askers.len(),
                "places and askers of {id:?}"
            );
            let together = queue
                .holds
                .iter()
                .filter(|(_, hold)| hold.share != Share::Exclusive)
                .map(|(asker, hold)| (hold.fence, asker.clone()));
            assert_eq!(
                queue.together,
                together.collect(),
                "holds of {id:?} by fence"
            );
            let candidates = queue.places.iter().filter_map(|turn| {
                let place = &self.places[&turn.place];
                let owner = std::sync::Arc::clone(&place.asker.owner);
                place.can_be_handed_it().then_some((owner, *turn))
            });
            assert_eq!(
                queue.candidates,
                candidates.collect(),
                "places of {id:?} by candidate"
            );
            let both = queue
                .askers
                .keys()
                .find(|asker| queue.holds.contains_key(asker));
            assert!(both.is_none(), "{both:?} holds {id:?} and waits for it");
            if let Some(first) = queue.places.first() {
                assert!(
                    !self.could_have(first.place),
                    "{first:?} of {id:?} could be granted and is not"
                );
            }
        }
        for (id, first) in &self.firsts {
            assert_eq!(
                *first,
                self.find_first(id),
                "what is known of {id:?} is old"
            );
        }
        for (id, place) in &self.places {
            for want in &place.wanted {
                let stands = self
                    .queues
                    .get(&want.queue)
                    .and_then(|queue| queue.askers.get(&place.asker));
                assert_eq!(
                    stands,
                    Some(id),
                    "the place does not stand in {:?}",
                    want.queue
                );
            }
        }
    }

    fn could_have(&self, place: crate::parts::PlaceId) -> bool {
        let waiting = &self.places[&place];
        self.is_awake(waiting)
            && waiting.wanted.iter().all(|want| {
                let queue = &self.queues[&want.queue];
                let first = queue.places.first().is_some_and(|turn| turn.place == place);
                first && queue.delay.is_none() && queue.has_room_for(want.share)
            })
    }

    fn check_agenda(&self) {
        let delays = self
            .queues
            .values()
            .filter(|queue| queue.delay.is_some())
            .count();
        assert_eq!(
            self.agenda.len(),
            self.leases.by_id.len() + self.places.len() + delays,
            "the agenda"
        );
        for (armed, due) in &self.agenda {
            match due {
                Due::Lease(id) => {
                    let lease = &self.leases.by_id[id];
                    assert!(
                        lease.armed == *armed && *armed <= self.leases.deadline(lease),
                        "lease {id} on the agenda"
                    );
                }
                Due::Place(id) => assert_eq!(
                    self.places[id].wait_deadline, *armed,
                    "place {id:?} on the agenda"
                ),
                Due::Delay(id) => {
                    assert_eq!(
                        self.queues[id].delay.as_ref().map(|delay| delay.until),
                        Some(*armed),
                        "delay of {id:?}"
                    );
                }
            }
        }
        if let Some((armed, Due::Lease(id))) = self.agenda.first() {
            assert_eq!(Some(*armed), self.deadline_of(*id), "the next deadline");
        }
        assert!(
            self.starved.is_empty() && self.ledger.touched.is_empty(),
            "an entry was not ended"
        );
    }

    fn check_history(&self) {
        assert_eq!(
            self.history.base,
            self.compact.max(self.first),
            "where history begins"
        );
        let mut revision = self.history.base;
        for recorded in &self.history.changes {
            assert_eq!(
                recorded.change.revision.0,
                revision.0 + 1,
                "history has a gap"
            );
            assert!(
                !recorded.change.events.is_empty(),
                "revision {revision} is empty"
            );
            revision = recorded.change.revision;
        }
        assert_eq!(revision, self.revision, "where history ends");
    }
}
