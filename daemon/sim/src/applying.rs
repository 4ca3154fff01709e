//! How a member applies what is committed, and answers those who wait for it.

use tenure_raft::{Entry, LogIndex, Payload};
use tenure_replica::{Decided, Input};
use tenure_state::{Batch, Origin, decode_batch};

use crate::calls::CallId;
use crate::oracle::{Around, bounds};
use crate::world::{Event, World};

impl World {
    pub(crate) fn queue_apply(&mut self, place: usize, entries: Vec<Entry>) {
        let member = &mut self.members[place];
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        running.to_apply.extend(entries);
        bounds::judge_applier(place, running.to_apply.len(), &self.plan.core);
        if running.applying || running.to_apply.is_empty() {
            return;
        }
        running.applying = true;
        let plan = &self.plan.apply;
        let delay = match self.chance.happens(plan.slow) {
            true => self
                .chance
                .skewed_span(plan.delay.1, plan.slowest.max(plan.delay.1)),
            false => self.chance.span(plan.delay.0, plan.delay.1),
        };
        self.after(
            delay,
            Event::Apply {
                member: place,
                life,
            },
        );
    }

    /// Applies what waits, answers those who wait for it, and tells the core.
    pub(crate) fn apply(&mut self, place: usize) {
        let mut compared = Vec::new();
        let mut answers: Vec<(CallId, LogIndex, Decided)> = Vec::new();
        let Some(running) = &mut self.members[place].running else {
            return;
        };
        running.applying = false;
        let count = running.to_apply.len().min(self.plan.apply.entries_a_go);
        let (mut meets_newer, mut is_raised) = (false, false);
        for entry in running.to_apply.drain(..count) {
            let batch = match &entry.payload {
                Payload::Command(bytes) => decode_batch(bytes).unwrap_or_default(),
                Payload::Configuration(_) | Payload::Empty => Batch::default(),
            };
            if batch
                .raises_to()
                .is_some_and(|to| running.applier.most() < to)
            {
                meets_newer = true;
                break;
            }
            let raises = self.upgrades.judge(&running.applier, &batch);
            self.trace.counts.raised += u64::from(raises);
            is_raised |= raises;
            let before = running.applier.state().revision();
            let progress = running
                .applier
                .apply(std::slice::from_ref(&entry))
                .unwrap_or_else(|error| {
                    crate::oracle::broken("apply", format!("n{}: {error}", place + 1))
                });
            let oracle = &mut self.oracle;
            let Some(committed) = oracle.consensus.committed(entry.index) else {
                crate::oracle::broken(
                    "apply",
                    format!("n{} applies {}, not committed", place + 1, entry.index),
                )
            };
            oracle.history.applied(
                (place, entry.index, before),
                committed,
                running.applier.state(),
                Around {
                    decisions: &mut oracle.decisions,
                    calls: &mut oracle.calls,
                    beliefs: &mut oracle.beliefs,
                },
            );
            self.trace.counts.applied += 1;
            compared.extend(progress.digests);
            for (token, decided) in progress.decided {
                let origin = Origin {
                    member: place as u64 + 1,
                    token,
                };
                oracle.decisions.told(origin, entry.index, &decided);
                if let Some(call) = running.pending.remove(&token) {
                    answers.push((call, entry.index, decided));
                }
            }
        }
        if meets_newer {
            self.meets_newer_rules(place);
        }
        let rots = self.operator.rotten == Some(place);
        let applied = running.applier.applied().position.index;
        let (due, version) = (running.applier.due(), running.applier.state().version());
        if is_raised {
            self.add_near_raise();
        }
        let unanswered = answers
            .iter()
            .filter_map(|(call, _, _)| self.calls.get(call)?.origin)
            .collect();
        if self.perhaps_lose_leader(place, unanswered) {
            return;
        }
        for (call, index, decided) in answers {
            self.decided(place, call, index, decided);
        }
        self.tell(
            place,
            Input::Applied {
                index: applied,
                due,
                version,
            },
        );
        for (index, digest) in compared {
            // What rots in memory shows in the digest, whatever it is.
            let digest = if rots { !digest } else { digest };
            self.tell(place, Input::Digest { index, digest });
        }
        self.serve_waiting(place);
        self.queue_apply(place, Vec::new());
        self.perhaps_crash(place);
    }
}
