//! Keys: transactions and their conditions.

use bytes::Bytes;
use tenure_state::*;

use super::{Model, Said};

impl Model {
    pub(crate) fn transact(&mut self, transaction: &Transaction) -> Said {
        if [&transaction.then, &transaction.otherwise]
            .into_iter()
            .any(|branch| writes_twice(branch))
        {
            return Said::NotNow;
        }
        if let Some(guard) = &transaction.guard
            && !self.holds_fence(guard)
        {
            return Said::No;
        }
        let met = transaction
            .conditions
            .iter()
            .all(|condition| self.met(condition));
        let operations = if met {
            &transaction.then
        } else {
            &transaction.otherwise
        };
        let mut keys = self.keys.clone();
        let revision = Revision(self.revision + 1);
        for operation in operations {
            match operation {
                Operation::Put(put) => {
                    if put.lease.is_some_and(|id| self.lease(id).is_none()) {
                        return Said::No;
                    }
                    let old = keys
                        .iter()
                        .position(|key| key.key == put.key)
                        .map(|at| keys.remove(at));
                    let other = old
                        .as_ref()
                        .and_then(|old| old.lease)
                        .filter(|lease| Some(*lease) != put.lease);
                    if put.refuse_other_lease && put.lease.is_some() && other.is_some() {
                        return Said::No;
                    }
                    keys.push(KeyEntry {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        content_type: None,
                        create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                        mod_revision: revision,
                        version: old.map_or(1, |old| old.version + 1),
                        lease: put.lease,
                    });
                }
                Operation::Delete { key } => keys.retain(|entry| entry.key != key),
                Operation::DeleteRange { start, end } => {
                    keys.retain(|entry| !within(&entry.key, start, end.as_ref()))
                }
                Operation::Get { .. } => {}
            }
        }
        if keys != self.keys {
            self.keys = keys;
            self.revision += 1;
        }
        Said::Yes
    }

    pub(crate) fn met(&self, condition: &Condition) -> bool {
        let (key, field, compare) = match condition {
            Condition::Key {
                key,
                field,
                compare,
            } => (key, field, compare),
            Condition::LeaseLive(id) => return self.leases.iter().any(|lease| lease.id == *id),
            Condition::Held(guard) => return self.holds_fence(guard),
        };
        let entry = self.keys.iter().find(|entry| entry.key == key);
        let ordering = match field {
            Field::Value(value) => match entry {
                Some(entry) => entry.value.cmp(value),
                None => return *compare == Compare::NotEqual,
            },
            Field::Version(n) => entry.map_or(0, |entry| entry.version).cmp(n),
            Field::CreateRevision(n) => entry.map_or(0, |entry| entry.create_revision.0).cmp(n),
            Field::ModRevision(n) => entry.map_or(0, |entry| entry.mod_revision.0).cmp(n),
            Field::Lease(lease) => entry.and_then(|entry| entry.lease).cmp(lease),
        };
        match compare {
            Compare::Equal => ordering.is_eq(),
            Compare::NotEqual => ordering.is_ne(),
            Compare::Less => ordering.is_lt(),
            Compare::Greater => ordering.is_gt(),
        }
    }
}

fn within(key: &Bytes, start: &Bytes, end: Option<&Bytes>) -> bool {
    start <= key && end.is_none_or(|end| key < end)
}

fn writes_twice(operations: &[Operation]) -> bool {
    let puts = operations
        .iter()
        .enumerate()
        .filter_map(|(at, operation)| match operation {
            Operation::Put(put) => Some((at, &put.key)),
            _ => None,
        });
    puts.into_iter().any(|(at, key)| {
        operations
            .iter()
            .enumerate()
            .any(|(other, operation)| match operation {
                Operation::Put(put) => other != at && put.key == key,
                Operation::Delete { key: deleted } => deleted == key,
                Operation::DeleteRange { start, end } => within(key, start, end.as_ref()),
                Operation::Get { .. } => false,
            })
    })
}
