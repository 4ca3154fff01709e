//! The state compared with the model.

use bytes::Bytes;
use proptest::prelude::*;
use tenure_state::*;

use super::Model;
use crate::support::keys_at;

impl Model {
    pub(crate) fn check(&mut self, state: &State) -> Result<(), TestCaseError> {
        prop_assert_eq!(state.revision().0, self.revision);
        prop_assert_eq!(state.lease_count() as usize, self.leases.len());
        for lease in &self.leases {
            let view = state
                .lease(lease.id, state.clock())
                .expect("the model has it");
            prop_assert_eq!(view.deadline.0, lease.deadline);
            prop_assert_eq!(state.lease_identity(lease.id), lease.called.1.as_deref());
            let standing = self
                .holds
                .iter()
                .chain(&self.places)
                .filter(|s| s.lease == lease.id)
                .count();
            let keys = self
                .keys
                .iter()
                .filter(|key| key.lease == Some(lease.id))
                .count();
            prop_assert_eq!(view.attached_count as usize, standing + keys);
        }
        for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
            for name in ["x", "y", "z"] {
                self.check_queue(state, kind, name)?;
            }
        }
        self.keys.sort_by(|a, b| a.key.cmp(&b.key));
        prop_assert_eq!(keys_at(state, state.revision()), Ok(self.keys.clone()));
        let count = state.count_piece(state.revision(), &KeyRange::default(), 1);
        let count = count.expect("it is the present").count;
        prop_assert_eq!(count as usize, self.keys.len());
        let next = self
            .leases
            .iter()
            .map(|lease| lease.deadline)
            .chain(self.places.iter().map(|place| place.wait))
            .chain(self.delays.iter().map(|delay| delay.until))
            .chain((self.compact < self.target).then(|| self.clock.saturating_sub(1)))
            .min();
        prop_assert_eq!(state.next_deadline().map(|clock| clock.0), next);
        let access = state.access();
        prop_assert_eq!(access.enabled(), self.access.enabled);
        let tokens = access
            .tokens()
            .map(|(id, token)| (id, token.identity.to_string()));
        let mut expected: Vec<_> = self
            .access
            .tokens
            .iter()
            .map(|(id, owner, _)| (*id, owner.clone()))
            .collect();
        expected.sort();
        prop_assert_eq!(tokens.collect::<Vec<_>>(), expected);
        Ok(())
    }

    pub(crate) fn check_queue(
        &self,
        state: &State,
        kind: Kind,
        name: &str,
    ) -> Result<(), TestCaseError> {
        let view = state.queue(kind, name);
        let mut holders: Vec<_> = self
            .holds
            .iter()
            .filter(|s| s.kind == kind && s.name == name)
            .collect();
        holders.sort_by_key(|hold| (hold.lease, hold.owner.clone()));
        let expected: Vec<_> = holders
            .iter()
            .map(|h| {
                let value = h.value.clone();
                (
                    h.lease,
                    h.owner.clone(),
                    h.share,
                    h.revision,
                    Some(Clock(h.since)),
                    value,
                )
            })
            .collect();
        let got: Vec<_> = view
            .holders
            .iter()
            .map(|h| {
                let value = h.value.clone();
                (
                    h.lease,
                    h.owner.clone(),
                    h.share,
                    h.fence.0,
                    h.acquired_at,
                    value,
                )
            })
            .collect();
        prop_assert_eq!(expected, got);
        let mut places: Vec<_> = self
            .places
            .iter()
            .filter(|s| s.kind == kind && s.name == name)
            .collect();
        places.sort_by_key(|place| (-place.priority, place.revision));
        let expected: Vec<_> = places
            .iter()
            .map(|p| {
                (
                    p.lease,
                    p.owner.clone(),
                    p.revision,
                    Some(Clock(p.since)),
                    p.wait,
                )
            })
            .collect();
        let got: Vec<_> = view
            .queue
            .iter()
            .map(|p| {
                (
                    p.lease,
                    p.owner.clone(),
                    p.queued_revision.0,
                    p.queued_at,
                    p.wait_deadline.0,
                )
            })
            .collect();
        prop_assert_eq!(expected, got);
        let delay = self.delay_of(kind, name).map(|delay| Clock(delay.until));
        prop_assert_eq!(view.delay_until, delay);
        Ok(())
    }
}

/// What a repeat at `now` is told: the first decision without values, but what remains of a delay as it is. `None` where
/// it is of the present.
pub(crate) fn as_repeated(outcome: &Outcome, now: Clock) -> Option<Outcome> {
    let bare = |entry: &std::sync::Arc<KeyEntry>| {
        std::sync::Arc::new(KeyEntry {
            value: Bytes::new(),
            ..(**entry).clone()
        })
    };
    match outcome {
        Ok(Answer::Transaction {
            succeeded,
            results,
            revision,
        }) => {
            let results = results.iter().map(|result| match result {
                OperationResult::Put { entry, created } => OperationResult::Put {
                    entry: bare(entry),
                    created: *created,
                },
                OperationResult::Got(entry) => OperationResult::Got(entry.as_ref().map(bare)),
                OperationResult::Deleted(count) => OperationResult::Deleted(*count),
            });
            Some(Ok(Answer::Transaction {
                succeeded: *succeeded,
                results: results.collect(),
                revision: *revision,
            }))
        }
        Ok(Answer::Broken {
            broken,
            delay_until,
            revision,
            ..
        }) => Some(Ok(Answer::Broken {
            broken: broken.clone(),
            delay_until: delay_until.filter(|until| now <= *until),
            clock: now,
            revision: *revision,
        })),
        Ok(Answer::LeaseEnded { .. } | Answer::Compacted { .. }) => Some(outcome.clone()),
        Ok(_) => None,
        Err(_) => Some(outcome.clone()),
    }
}
