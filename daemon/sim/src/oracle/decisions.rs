//! What was decided on every request: once for each idempotency key, the same on every member, and its effects once.
//!
//! Owns a state that goes straight through the log: it never restarts and is never sent, so a member that answers
//! otherwise lost something on the way. Owns also an account of idempotency records of its own, kept from requests,
//! stamps and limits alone, and of the effects that events show. Whether a repeat was one is judged by that account;
//! whether it did anything, by the events.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_raft::LogIndex;
use tenure_replica::Decided;
use tenure_state::{
    Answer, Batch, Clock, Command, Decision, Event, HolderView, LeaseId, OperationResult, Origin,
    Outcome, Refusal, Request, Revision, State,
};

use super::demand;
use super::rights::is_denied;

/// An identity and its key.
type Key = (String, String);

/// A request that was decided and is recorded.
struct Record {
    digest: u128,
    deadline: Clock,
    command: Command,
    first: Outcome,
}

struct Told {
    index: LogIndex,
    outcome: Outcome,
    replayed: bool,
}

pub(crate) struct Decisions {
    state: State,
    told: BTreeMap<Origin, Told>,
    records: BTreeMap<Key, Record>,
    retention_ms: u64,
    most_records: u64,
    /// Of which key the request was that writes this, by where and what: values are never used twice.
    writers: BTreeMap<(Bytes, Bytes), Key>,
    /// Until when what was written must not be written again: for ever, where no key was given.
    written: BTreeMap<(Bytes, Bytes), Clock>,
    /// Of which key the request was that grants this lease. Every attempt brings an id of its own.
    granters: BTreeMap<LeaseId, Key>,
    granted: BTreeMap<Key, Clock>,
    /// A request with a key came when the decision on an earlier one had been forgotten.
    pub(crate) forgotten: bool,
    pub(crate) replays: u64,
    pub(crate) mismatches: u64,
    pub(crate) records_full: u64,
}

impl Decisions {
    pub(super) fn new(founding: &State) -> Decisions {
        let limits = founding.limits();
        Decisions {
            state: founding.clone(),
            told: BTreeMap::new(),
            records: BTreeMap::new(),
            retention_ms: limits.idempotency_retention_ms,
            most_records: limits.idempotency_records,
            writers: BTreeMap::new(),
            written: BTreeMap::new(),
            granters: BTreeMap::new(),
            granted: BTreeMap::new(),
            forgotten: false,
            replays: 0,
            mismatches: 0,
            records_full: 0,
        }
    }

    /// An entry is applied by the first member that does so, which has this digest after it. Answers the outcomes.
    pub(super) fn applied(
        &mut self,
        index: LogIndex,
        clock: Clock,
        batch: &Batch,
        digest: u128,
    ) -> Vec<Decision> {
        let decisions = self.state.apply(clock, batch).outcomes;
        demand!(
            self.state.digest() == digest,
            "equal-states",
            "the first member to apply {index} has digest {digest:x}; straight through the log it is {:x}",
            self.state.digest()
        );
        let requests = batch
            .requests
            .iter()
            .zip(decisions.iter().skip(batch.renewals.len()));
        for (request, decision) in requests {
            self.judge(index, clock, request, decision);
        }
        for decision in &decisions {
            let told = Told {
                index,
                outcome: decision.outcome.clone(),
                replayed: decision.replayed,
            };
            self.told.insert(decision.origin, told);
        }
        decisions
    }

    /// A member tells its client what came of a request: what came of it everywhere.
    pub(crate) fn told(&self, origin: Origin, index: LogIndex, decided: &Decided) {
        let due = self.told.get(&origin);
        let same = due.is_some_and(|due| {
            due.index == index && due.replayed == decided.replayed && due.outcome == decided.outcome
        });
        demand!(
            same,
            "equal-outcomes",
            "{origin:?} at {index} is told {decided:?}; decided was {:?}",
            due.map(|due| (due.index, due.replayed, &due.outcome))
        );
    }

    fn judge(&mut self, index: LogIndex, clock: Clock, request: &Request, decision: &Decision) {
        let outcome = &decision.outcome;
        if is_denied(decision) {
            // Whoever may not know is told nothing of what was decided, and nothing is recorded of it.
            demand!(
                !decision.replayed,
                "exactly-once",
                "{:?} at {index} is denied and replayed",
                request.command
            );
            return;
        }
        let Some(asked) = &request.idempotency else {
            demand!(
                !decision.replayed,
                "exactly-once",
                "{:?} at {index} is replayed and has no key",
                request.command
            );
            return self.note_limits(outcome);
        };
        let key = (asked.identity.clone(), asked.key.clone());
        self.note_effects(&key, &request.command);
        let known = self.records.get(&key);
        let Some(known) = known.filter(|known| clock <= known.deadline) else {
            return self.judge_first(index, clock, key, request, decision);
        };
        if known.digest != asked.digest {
            self.mismatches += 1;
            demand!(
                *outcome == Err(Refusal::IdempotencyMismatch) && !decision.replayed,
                "exactly-once",
                "{key:?} is used at {index} for another request, which is answered {outcome:?}"
            );
            return;
        }
        self.replays += 1;
        demand!(
            decision.replayed,
            "exactly-once",
            "{key:?} is asked again at {index} and decided again: {outcome:?} after {:?}",
            known.first
        );
        demand!(
            is_first_decision(&known.command, &known.first, outcome),
            "first-decision",
            "{key:?} is asked again at {index} and answered {outcome:?}; first it was {:?}",
            known.first
        );
    }

    fn judge_first(
        &mut self,
        index: LogIndex,
        clock: Clock,
        key: Key,
        request: &Request,
        decision: &Decision,
    ) {
        let outcome = &decision.outcome;
        self.forgotten |= self.records.contains_key(&key);
        demand!(
            !decision.replayed && *outcome != Err(Refusal::IdempotencyMismatch),
            "exactly-once",
            "{key:?} is new at {index} and answered {outcome:?}, replayed: {}",
            decision.replayed
        );
        let live = self
            .records
            .values()
            .filter(|record| clock <= record.deadline);
        let full = self.most_records <= live.clone().count() as u64;
        // Of these what is kept may be long enough to count for more than one (512 bytes each).
        let is_heavy = |record: &Record| matches!(record.command, Command::Transaction(_));
        let may_be_full = full || live.clone().any(is_heavy);
        let said = matches!(
            outcome,
            Err(Refusal::QuotaExceeded {
                limit: "idempotency_records",
                ..
            })
        );
        demand!(
            if said { may_be_full } else { !full },
            "records-bounded",
            "{key:?} at {index} is answered {outcome:?}; full of {} records: {full}",
            self.most_records
        );
        self.records_full += u64::from(said);
        // A request that changes limits is let in by those before it and kept by its own.
        self.note_limits(outcome);
        if let (Some(asked), true) = (&request.idempotency, is_recorded(&request.command, outcome))
        {
            let record = Record {
                digest: asked.digest,
                deadline: Clock(clock.0 + self.retention_ms),
                command: request.command.clone(),
                first: outcome.clone(),
            };
            self.records.insert(key, record);
        }
    }

    fn note_limits(&mut self, outcome: &Outcome) {
        if let Ok(Answer::Limits { limits, .. }) = outcome {
            self.retention_ms = limits.idempotency_retention_ms;
            self.most_records = limits.idempotency_records;
        }
    }

    /// What a request with a key would do, if it did it.
    fn note_effects(&mut self, key: &Key, command: &Command) {
        match command {
            Command::GrantLease(new) => {
                self.granters.insert(new.lease, key.clone());
            }
            Command::Acquire(acquire) => {
                self.granters.insert(acquire.claim.lease(), key.clone());
            }
            Command::Transaction(transaction) => {
                for operation in transaction.then.iter().chain(&transaction.otherwise) {
                    if let tenure_state::Operation::Put(put) = operation {
                        let written = (put.key.clone(), put.value.clone());
                        self.writers.insert(written, key.clone());
                    }
                }
            }
            Command::Proclaim(proclaim) => {
                let written = proclaimed(&proclaim.name, &proclaim.value);
                self.writers.insert(written, key.clone());
            }
            _ => {}
        }
    }

    /// Something happened: at most once for each key while its record is kept, and at most once without a key.
    pub(super) fn happened(&mut self, revision: Revision, clock: Clock, event: &Event) {
        let written = match event {
            Event::Put(entry) => (entry.key.clone(), entry.value.clone()),
            Event::Proclaimed { name, value, .. } => proclaimed(name, value),
            Event::LeaseGranted { lease, .. } => {
                return self.lease_granted(revision, clock, *lease);
            }
            _ => return,
        };
        let until = match self.writers.get(&written) {
            Some(key) => self
                .records
                .get(key)
                .map_or(Clock(u64::MAX), |record| record.deadline),
            None => Clock(u64::MAX),
        };
        let again = self.written.insert(written, until);
        demand!(
            again.is_none_or(|until| until < clock),
            "done-twice",
            "{event:?} happens again at {revision}, at the clock {}; its record is kept until {again:?}",
            clock.0
        );
    }

    fn lease_granted(&mut self, revision: Revision, clock: Clock, lease: LeaseId) {
        let Some(key) = self.granters.get(&lease) else {
            return;
        };
        let until = self
            .records
            .get(key)
            .map_or(Clock(u64::MAX), |record| record.deadline);
        let again = self.granted.insert(key.clone(), until);
        demand!(
            again.is_none_or(|until| until < clock),
            "done-twice",
            "{key:?} is granted a second lease, {lease}, at {revision}; its record is kept until {again:?}"
        );
    }
}

fn proclaimed(name: &str, value: &str) -> (Bytes, Bytes) {
    (
        format!("elections/{name}").into(),
        value.as_bytes().to_vec().into(),
    )
}

/// Which decisions are recorded (`api.md` §2): what was done, and refusals that tell how the state stood.
fn is_recorded(command: &Command, outcome: &Outcome) -> bool {
    match (command, outcome) {
        (_, Ok(_)) => true,
        (Command::Acquire(_), Err(_)) => false,
        (_, Err(refusal)) => matches!(
            refusal,
            Refusal::LeaseNotFound(_)
                | Refusal::LeaseExpired(_)
                | Refusal::NotHeld
                | Refusal::FenceStale { .. }
                | Refusal::ConditionFailed { .. }
                | Refusal::KeyOnOtherLease { .. }
                | Refusal::KeyNotFound
                | Refusal::RevisionAhead { .. }
        ),
    }
}

/// Whether a repeat is answered with the first decision: never with values, and what ages may be of the present.
fn is_first_decision(command: &Command, first: &Outcome, again: &Outcome) -> bool {
    if matches!(command, Command::Acquire(_)) {
        // It asks again with the lease that was granted, and with no other.
        let lease = lease_of(first);
        return lease.is_some() && lease_of(again).is_none_or(|again| lease == Some(again));
    }
    let (first, again) = match (first, again) {
        (Ok(first), Ok(again)) => (first, again),
        // A lease that has ended since.
        (Ok(Answer::Lease(first)), Err(Refusal::LeaseExpired(lease))) => {
            return first.lease == *lease;
        }
        (first, again) => return first == again,
    };
    match (first, again) {
        (Answer::Lease(first), Answer::Lease(again)) => {
            (first.lease, first.granted_revision) == (again.lease, again.granted_revision)
        }
        (
            Answer::Transaction {
                succeeded,
                results,
                revision,
            },
            Answer::Transaction {
                succeeded: succeeded_again,
                results: results_again,
                revision: revision_again,
            },
        ) => {
            (succeeded, revision, results.len())
                == (succeeded_again, revision_again, results_again.len())
                && results
                    .iter()
                    .zip(results_again)
                    .all(|(first, again)| is_first_result(first, again))
        }
        // A proclaim.
        (Answer::Held(first), Answer::Held(again)) => {
            (
                &first.name,
                first.lease,
                first.fence,
                &first.value,
                first.revision,
            ) == (
                &again.name,
                again.lease,
                again.fence,
                &again.value,
                again.revision,
            )
        }
        (
            Answer::HandedOver {
                leader, revision, ..
            },
            Answer::HandedOver {
                leader: leader_again,
                revision: revision_again,
                ..
            },
        ) => revision == revision_again && is_same_holder(leader, leader_again),
        (
            Answer::Broken {
                broken,
                delay_until,
                revision,
                ..
            },
            Answer::Broken {
                broken: broken_again,
                delay_until: delay_again,
                revision: revision_again,
                clock,
            },
        ) => {
            // A delay that is over is none any more.
            let delay = delay_until.filter(|until| clock <= until);
            (delay, *revision, broken.len()) == (*delay_again, *revision_again, broken_again.len())
                && broken
                    .iter()
                    .zip(broken_again)
                    .all(|(first, again)| is_same_holder(first, again))
        }
        (first, again) => first == again,
    }
}

fn is_same_holder(first: &HolderView, again: &HolderView) -> bool {
    (first.lease, &first.owner, first.fence) == (again.lease, &again.owner, again.fence)
}

fn is_first_result(first: &OperationResult, again: &OperationResult) -> bool {
    match (first, again) {
        (
            OperationResult::Put { entry, created },
            OperationResult::Put {
                entry: entry_again,
                created: created_again,
            },
        ) => {
            created == created_again
                && (entry.mod_revision, entry.create_revision, entry.version)
                    == (
                        entry_again.mod_revision,
                        entry_again.create_revision,
                        entry_again.version,
                    )
                && entry_again.value.is_empty()
        }
        (OperationResult::Got(first), OperationResult::Got(again)) => {
            let seen = |entry: &Option<std::sync::Arc<tenure_state::KeyEntry>>| {
                entry
                    .as_ref()
                    .map(|entry| (entry.mod_revision, entry.version))
            };
            seen(first) == seen(again) && again.as_ref().is_none_or(|again| again.value.is_empty())
        }
        (first, again) => first == again,
    }
}

/// The lease that an outcome names, if it names one.
pub(super) fn lease_of(outcome: &Outcome) -> Option<LeaseId> {
    match outcome {
        Ok(Answer::Lease(view)) => Some(view.lease),
        Ok(Answer::Held(view)) => Some(view.lease),
        Ok(Answer::Queued(view)) => Some(view.lease),
        Ok(Answer::HeldTogether(views)) => views.first().map(|view| view.lease),
        Ok(Answer::QueuedTogether(views)) => views.first().map(|view| view.lease),
        Err(Refusal::LeaseExpired(lease) | Refusal::LeaseNotFound(lease)) => Some(*lease),
        Err(Refusal::WaitExpired(contention)) => contention.lease,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(delay_until: Option<u64>, clock: u64) -> Outcome {
        Ok(Answer::Broken {
            broken: Vec::new(),
            delay_until: delay_until.map(Clock),
            clock: Clock(clock),
            revision: Revision(7),
        })
    }

    /// A client that paused asked again when the delay was over, and was told rightly that there is none.
    #[test]
    fn a_break_that_is_repeated_when_its_delay_is_over_is_told_of_none() {
        let command = Command::RevokeLease {
            lease: LeaseId::new(1).expect("it is positive"),
        };
        let first = broken(Some(100), 50);
        let agrees = |again| is_first_decision(&command, &first, &again);
        assert!(agrees(broken(Some(100), 100)) && agrees(broken(None, 101)));
        assert!(!agrees(broken(None, 100)) && !agrees(broken(Some(100), 101)));
    }
}
