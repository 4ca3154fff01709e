//! Transactions: the one command that writes keys.
//!
//! Owns the conditions, the plan and its execution. All is decided on a plan before anything changes, so a refusal
//! leaves nothing behind. Never puts a key twice, and makes no revision where nothing changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use tenure_mutants::{Mutant, mutated};

use crate::answer::{Answer, KeyEntry, OperationResult, Outcome, Refusal};
use crate::command::{Compare, Condition, Field, Operation, Put, Transaction};
use crate::ends::check_size;
use crate::event::{DeleteReason, Event};
use crate::ids::{LeaseId, Revision};
use crate::keys::bytes_of;
use crate::limits::MAX_NAME_BYTES;
use crate::parts::{Hanging, QueueId};
use crate::state::{Revising, State};

/// What a transaction will do, decided in full before it is done.
#[derive(Default)]
struct Plan {
    results: Vec<OperationResult>,
    /// What becomes of keys: a new entry, or none.
    writes: BTreeMap<Bytes, Option<Arc<KeyEntry>>>,
}

impl State {
    pub(crate) fn transact(&mut self, transaction: &Transaction) -> Outcome {
        self.check_transaction(transaction)?;
        if let Some(guard) = transaction
            .guard
            .as_ref()
            .filter(|guard| !self.is_held(guard))
        {
            let queue = self.queues.get(&QueueId::new(guard.kind, &guard.name));
            let present = queue
                .and_then(|queue| queue.holds.values().next())
                .map(|hold| hold.fence);
            return Err(Refusal::FenceStale { present });
        }
        let succeeded = transaction
            .conditions
            .iter()
            .all(|condition| self.is_met(condition) || mutated(Mutant::ConditionsIgnored));
        let operations = if succeeded {
            &transaction.then
        } else {
            &transaction.otherwise
        };
        let plan = self.plan(operations)?;
        self.check_plan(&plan)?;
        let results = self.carry_out(plan);
        Ok(Answer::Transaction {
            succeeded,
            results,
            revision: self.revision,
        })
    }

    fn check_transaction(&self, transaction: &Transaction) -> Result<(), Refusal> {
        check_size(
            "txn_conditions",
            transaction.conditions.len(),
            self.limits.txn_conditions,
        )?;
        for branch in [&transaction.then, &transaction.otherwise] {
            check_size("txn_operations", branch.len(), self.limits.txn_operations)?;
            let mut put = BTreeSet::new();
            for operation in branch {
                if let Operation::Put(operation) = operation {
                    self.check_put(operation)?;
                    if !put.insert(&operation.key) {
                        return Err(Refusal::Unsupported("a key that is put twice"));
                    }
                }
            }
            for operation in branch {
                let deleted = match operation {
                    Operation::Delete { key } => put.contains(key),
                    Operation::DeleteRange { start, end } => put
                        .range::<Bytes, _>(start..)
                        .next()
                        .is_some_and(|key| end.as_ref().is_none_or(|end| *key < end)),
                    Operation::Put(_) | Operation::Get { .. } => false,
                };
                if deleted {
                    return Err(Refusal::Unsupported("a key that is put and also deleted"));
                }
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        if put.key.is_empty() {
            return Err(Refusal::Unsupported("an empty key"));
        }
        check_size("name_bytes", put.key.len(), MAX_NAME_BYTES)?;
        check_size(
            "content_type_bytes",
            put.content_type.as_ref().map_or(0, String::len),
            MAX_NAME_BYTES,
        )?;
        check_size("value_bytes", put.value.len(), self.limits.value_bytes)
    }

    fn is_met(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Held(guard) => self.is_held(guard),
            Condition::LeaseLive(lease) => self.leases.by_id.contains_key(lease),
            Condition::Key {
                key,
                field,
                compare,
            } => {
                let entry = self.keys.get(key);
                let number = |of: fn(&KeyEntry) -> u64| entry.map_or(0, |entry| of(entry));
                match field {
                    // Of an absent key it is false for every comparison but the one for difference.
                    Field::Value(value) => match entry {
                        Some(entry) => compares(*compare, entry.value.cmp(value)),
                        None => *compare == Compare::NotEqual,
                    },
                    Field::Version(version) => {
                        compares(*compare, number(|entry| entry.version).cmp(version))
                    }
                    Field::CreateRevision(revision) => compares(
                        *compare,
                        number(|entry| entry.create_revision.0).cmp(revision),
                    ),
                    Field::ModRevision(revision) => {
                        compares(*compare, number(|entry| entry.mod_revision.0).cmp(revision))
                    }
                    Field::Lease(lease) => {
                        compares(*compare, entry.and_then(|entry| entry.lease).cmp(lease))
                    }
                }
            }
        }
    }

    fn plan(&self, operations: &[Operation]) -> Result<Plan, Refusal> {
        let revision = self.revise().revision;
        let mut plan = Plan::default();
        for operation in operations {
            let result = match operation {
                Operation::Put(put) => self.plan_put(put, revision, &mut plan)?,
                Operation::Get { key } => OperationResult::Got(self.planned(&plan, key)),
                Operation::Delete { key } => {
                    let entry = self.planned(&plan, key);
                    if let Some(entry) = &entry {
                        plan.writes.insert(entry.key.clone(), None);
                    }
                    OperationResult::Deleted(u64::from(entry.is_some()))
                }
                Operation::DeleteRange { start, end } => {
                    self.plan_delete_range(start, end.as_ref(), &mut plan)?
                }
            };
            plan.results.push(result);
        }
        Ok(plan)
    }

    fn planned(&self, plan: &Plan, key: &[u8]) -> Option<Arc<KeyEntry>> {
        if mutated(Mutant::GetMissesOwnWrites) {
            return self.keys.get(key).cloned();
        }
        plan.writes
            .get(key)
            .cloned()
            .unwrap_or_else(|| self.keys.get(key).cloned())
    }

    fn plan_put(
        &self,
        put: &Put,
        revision: Revision,
        plan: &mut Plan,
    ) -> Result<OperationResult, Refusal> {
        if let Some(lease) = put
            .lease
            .filter(|lease| !self.leases.by_id.contains_key(lease))
        {
            return Err(self.no_lease(lease));
        }
        let present = self.keys.get(&put.key);
        let other = present
            .and_then(|entry| entry.lease)
            .filter(|lease| Some(*lease) != put.lease);
        if let Some(lease) = other.filter(|_| put.refuse_other_lease && put.lease.is_some()) {
            return Err(Refusal::KeyOnOtherLease { lease });
        }
        let entry = Arc::new(KeyEntry {
            // Copies of their own: what was decoded may share the buffer of a whole entry and would keep it alive.
            key: Bytes::copy_from_slice(&put.key),
            value: Bytes::copy_from_slice(&put.value),
            content_type: put.content_type.clone(),
            create_revision: present.map_or(revision, |entry| entry.create_revision),
            mod_revision: revision,
            version: match mutated(Mutant::VersionStands) {
                true => 1,
                false => present.map_or(0, |entry| entry.version).saturating_add(1),
            },
            lease: put.lease,
        });
        plan.writes
            .insert(put.key.clone(), Some(Arc::clone(&entry)));
        Ok(OperationResult::Put {
            entry,
            created: present.is_none(),
        })
    }

    fn plan_delete_range(
        &self,
        start: &Bytes,
        end: Option<&Bytes>,
        plan: &mut Plan,
    ) -> Result<OperationResult, Refusal> {
        let including = end.filter(|_| mutated(Mutant::RangeEndIncluded));
        let including = including.map(|end| [&end[..], &[0]].concat());
        let end = including.as_deref().or(end.map(|end| &end[..]));
        let matching = self.keys.count(Bound::Included(start), end);
        self.check_keys_changed(matching)?;
        let mut deleted = 0;
        for entry in self.keys.live_range(Bound::Included(start), end) {
            if plan.writes.insert(entry.key.clone(), None).is_none() {
                deleted += 1;
            }
        }
        Ok(OperationResult::Deleted(deleted))
    }

    fn check_keys_changed(&self, asked: u64) -> Result<(), Refusal> {
        let allowed = self.limits.keys_per_revision;
        match asked <= allowed {
            true => Ok(()),
            false => Err(Refusal::TooLarge {
                limit: "keys_per_revision",
                allowed,
                asked,
            }),
        }
    }

    /// Bounds of the whole; only growth is refused.
    fn check_plan(&self, plan: &Plan) -> Result<(), Refusal> {
        self.check_keys_changed(plan.writes.len() as u64)?;
        let (mut keys, mut bytes) = (i128::from(self.keys.live), i128::from(self.keys.live_bytes));
        let mut attached: BTreeMap<LeaseId, i64> = BTreeMap::new();
        for (key, write) in &plan.writes {
            let before = self.keys.get(key);
            keys += i128::from(write.is_some()) - i128::from(before.is_some());
            let size = |entry: Option<&Arc<KeyEntry>>| {
                entry.map_or(0, |entry| i128::from(bytes_of(entry)))
            };
            bytes += size(write.as_ref()) - size(before);
            if let Some(lease) = before.and_then(|entry| entry.lease) {
                *attached.entry(lease).or_default() -= 1;
            }
            if let Some(lease) = write.as_ref().and_then(|entry| entry.lease) {
                *attached.entry(lease).or_default() += 1;
            }
        }
        let quota = |limit, allowed: u64, before: u64, after: i128| match i128::from(before) < after
            && i128::from(allowed) < after
        {
            true => Err(Refusal::QuotaExceeded {
                limit,
                allowed,
                asked: u64::try_from(after).unwrap_or(u64::MAX),
            }),
            false => Ok(()),
        };
        quota("keys", self.limits.keys, self.keys.live, keys)?;
        quota(
            "key_bytes",
            self.limits.key_bytes,
            self.keys.live_bytes,
            bytes,
        )?;
        for (lease, grown) in attached {
            let before = self
                .leases
                .by_id
                .get(&lease)
                .map_or(0, |lease| lease.attached.len() as u64);
            quota(
                "attached_per_lease",
                self.limits.attached_per_lease,
                before,
                i128::from(before) + i128::from(grown),
            )?;
        }
        Ok(())
    }

    fn carry_out(&mut self, mut plan: Plan) -> Vec<OperationResult> {
        if mutated(Mutant::TransactionTorn) && 1 < plan.writes.len() {
            plan.writes.pop_last();
        }
        let mut revising = self.revise();
        for (key, write) in plan.writes {
            let before = self.keys.get(&key).cloned();
            let old = before.as_ref().and_then(|entry| entry.lease);
            let new = write.as_ref().and_then(|entry| entry.lease);
            match (write, before) {
                (Some(entry), _) => self.write_key(entry, old, new, &mut revising),
                (None, Some(entry)) => {
                    let key = entry.key.clone();
                    self.move_key(&key, old, None, &revising);
                    revising.deleted.push(Event::Delete {
                        key,
                        lease: old,
                        reason: DeleteReason::Deleted,
                    });
                }
                (None, None) => {}
            }
        }
        self.seal(revising);
        plan.results
    }

    fn write_key(
        &mut self,
        entry: Arc<KeyEntry>,
        old: Option<LeaseId>,
        new: Option<LeaseId>,
        revising: &mut Revising,
    ) {
        self.move_key(&entry.key, old, new, revising);
        revising.put.push(Event::Put(entry));
    }

    /// Moves a key from one lease to another.
    fn move_key(
        &mut self,
        key: &Bytes,
        old: Option<LeaseId>,
        new: Option<LeaseId>,
        revising: &Revising,
    ) {
        if old == new {
            return;
        }
        if let Some(lease) = old {
            self.detach(lease, &Hanging::Key(key.clone()), revising);
        }
        if let Some(lease) = new {
            self.attach(lease, Hanging::Key(key.clone()), revising);
        }
    }
}

fn compares(compare: Compare, ordering: Ordering) -> bool {
    match compare {
        Compare::Equal => ordering.is_eq(),
        Compare::NotEqual => ordering.is_ne(),
        Compare::Less => ordering.is_lt(),
        Compare::Greater => ordering.is_gt(),
    }
}
