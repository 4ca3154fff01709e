//! An operator's interventions: ending a hold that its holder does not end.
//!
//! Owns which holds a break ends, and how long the next grant waits: the broken holder may believe until the deadline
//! of its lease as it stood, so nobody is granted the name before that, unless the operator accepts it.

use tenure_mutants::{Mutant, mutated};

use crate::answer::{Answer, HolderView, Outcome, Refusal};
use crate::command::Break;
use crate::event::ReleaseReason;
use crate::ids::Fence;
use crate::limits::SHOWN;
use crate::parts::{Asker, Called, Queue, QueueId};
use crate::state::State;

impl State {
    pub(crate) fn break_hold(&mut self, broken: &Break) -> Outcome {
        let id = QueueId::new(broken.kind, &broken.name);
        let queue = self.queues.get(&id).ok_or(Refusal::NotHeld)?;
        let askers = broken_askers(queue, broken)?;
        let views: Vec<HolderView> = askers
            .iter()
            .take(SHOWN)
            .filter_map(|asker| Some(self.holder_view(asker, queue.holds.get(asker)?)))
            .collect();
        let deadlines = askers.iter().map(|asker| self.deadline_of(asker.lease));
        let deadline = deadlines.max().flatten();
        let mut revising = self.revise();
        for asker in &askers {
            self.remove_hold(&id, asker, ReleaseReason::Broken, &mut revising);
        }
        let until = deadline.filter(|until| !broken.now && self.clock < *until);
        let until = until.filter(|_| !mutated(Mutant::BreakWithoutDelay));
        if let Some(until) = until {
            self.delay_until(&id, until, Called::default());
        }
        self.serve(&mut revising);
        self.seal(revising);
        // Also where a delay was running before, which `now` does not cut short.
        let delay = self.queues.get(&id).and_then(|queue| queue.delay.as_ref());
        Ok(Answer::Broken {
            broken: views,
            delay_until: delay.map(|delay| delay.until),
            clock: self.clock,
            revision: self.revision,
        })
    }
}

fn broken_askers(queue: &Queue, broken: &Break) -> Result<Vec<Asker>, Refusal> {
    let stale = |present: Option<Fence>| Err(Refusal::FenceStale { present });
    if let Some((lease, owner)) = &broken.holder {
        let asker = State::asker(*lease, owner);
        let hold = queue.holds.get(&asker).ok_or(Refusal::NotHeld)?;
        return match hold.fence == broken.fence {
            true => Ok(vec![asker]),
            false => stale(Some(hold.fence)),
        };
    }
    let askers: Vec<Asker> = queue.holders_with(broken.fence).cloned().collect();
    match (askers.is_empty(), queue.holds.values().next()) {
        (false, _) => Ok(askers),
        (true, Some(hold)) => stale(Some(hold.fence)),
        (true, None) => Err(Refusal::NotHeld),
    }
}
