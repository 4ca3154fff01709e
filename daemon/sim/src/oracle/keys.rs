//! What transactions did, by an account of keys of its own.
//!
//! Owns every version of every key, from events alone. A transaction is done anew on it: its conditions, its results and
//! what it changed must come out as the state said. Never looks at the state.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tenure_state::{
    Change, Compare, Condition, Event, Field, KeyEntry, Operation, OperationResult, Put, Revision,
    Transaction,
};

use super::demand;

/// What a key became at a revision.
type Version = (Revision, Option<Arc<KeyEntry>>);

/// What the state says that a transaction did.
pub(super) struct Said<'a> {
    pub(super) succeeded: bool,
    pub(super) results: &'a [OperationResult],
    pub(super) revision: Revision,
}

#[derive(Default)]
pub(crate) struct Keys {
    versions: BTreeMap<Bytes, Vec<Version>>,
}

/// A transaction while it is done: what becomes of keys.
type Writes = BTreeMap<Bytes, Option<Arc<KeyEntry>>>;

impl Keys {
    /// Something happened.
    pub(super) fn note(&mut self, change: &Change) {
        for event in change.events.iter() {
            let (key, entry) = match event {
                Event::Put(entry) => (entry.key.clone(), Some(Arc::clone(entry))),
                Event::Delete { key, .. } => (key.clone(), None),
                _ => continue,
            };
            let versions = self.versions.entry(key).or_default();
            let is_live = versions.last().is_some_and(|(_, entry)| entry.is_some());
            let is_newer = versions
                .last()
                .is_none_or(|(last, _)| *last < change.revision);
            demand!(
                is_newer && (entry.is_some() || is_live),
                "keys",
                "{event:?} happens at {} to a key of which {:?} is the last",
                change.revision,
                versions.last()
            );
            versions.push((change.revision, entry));
        }
    }

    fn at(&self, key: &[u8], revision: Revision) -> Option<&Arc<KeyEntry>> {
        let versions = self.versions.get(key)?;
        let next = versions.partition_point(|(made, _)| *made <= revision);
        versions[..next].last()?.1.as_ref()
    }

    /// A reader is given this of a state at that revision.
    pub(crate) fn read(&self, key: &[u8], revision: Revision, given: Option<&Arc<KeyEntry>>) {
        demand!(
            given == self.at(key, revision),
            "read",
            "a read of {key:?} at {revision} is given {given:?}; it was {:?}",
            self.at(key, revision)
        );
    }

    /// A transaction was decided; `changes` has what happened at its revision.
    pub(super) fn judge(&self, asked: &Transaction, said: &Said<'_>, change: Option<&Change>) {
        let branch = if said.succeeded {
            &asked.then
        } else {
            &asked.otherwise
        };
        let puts = branch
            .iter()
            .any(|operation| matches!(operation, Operation::Put(_)));
        let deletes = said
            .results
            .iter()
            .any(|result| matches!(result, OperationResult::Deleted(count) if 0 < *count));
        // What changes nothing makes no revision, and is answered the last one.
        let before = match puts || deletes {
            true => Revision(said.revision.0.saturating_sub(1)),
            false => said.revision,
        };
        let met = asked
            .conditions
            .iter()
            .map(|condition| self.is_met(condition, before));
        let Some(met) = met.collect::<Option<Vec<bool>>>() else {
            return;
        };
        demand!(
            said.succeeded == met.iter().all(|met| *met),
            "conditions",
            "{asked:?} at {} succeeded: {}; of its conditions hold {met:?}",
            said.revision,
            said.succeeded
        );
        let (results, writes) = self.perform(branch, before, said.revision);
        demand!(
            results == said.results,
            "results",
            "{asked:?} at {} is answered {:?}; it is {results:?}",
            said.revision,
            said.results
        );
        if puts || deletes {
            self.judge_change(said.revision, before, &writes, change);
        }
    }

    /// All of it happened at its revision, and nothing else.
    fn judge_change(
        &self,
        revision: Revision,
        before: Revision,
        writes: &Writes,
        change: Option<&Change>,
    ) {
        let mut due: Writes = writes.clone();
        due.retain(|key, write| write.is_some() || self.at(key, before).is_some());
        let happened: Writes = change
            .into_iter()
            .flat_map(|change| change.events.iter())
            .filter_map(|event| match event {
                Event::Put(entry) => Some((entry.key.clone(), Some(Arc::clone(entry)))),
                Event::Delete { key, .. } => Some((key.clone(), None)),
                _ => None,
            })
            .collect();
        demand!(
            due == happened,
            "all-or-nothing",
            "a transaction at {revision} was to do {due:?}, and did {happened:?}"
        );
    }

    fn perform(
        &self,
        branch: &[Operation],
        before: Revision,
        revision: Revision,
    ) -> (Vec<OperationResult>, Writes) {
        let mut writes = Writes::new();
        let results = branch
            .iter()
            .map(|operation| match operation {
                Operation::Put(put) => {
                    let present = self.at(&put.key, before);
                    let entry = Arc::new(put_entry(put, present, revision));
                    writes.insert(put.key.clone(), Some(Arc::clone(&entry)));
                    OperationResult::Put {
                        entry,
                        created: present.is_none(),
                    }
                }
                Operation::Get { key } => {
                    let written = writes.get(key).cloned();
                    OperationResult::Got(written.unwrap_or_else(|| self.at(key, before).cloned()))
                }
                Operation::Delete { key } => {
                    let is_there = match writes.get(key) {
                        Some(written) => written.is_some(),
                        None => self.at(key, before).is_some(),
                    };
                    if is_there {
                        writes.insert(key.clone(), None);
                    }
                    OperationResult::Deleted(u64::from(is_there))
                }
                Operation::DeleteRange { start, end } => {
                    let deleted = self.delete_range((start, end.as_ref()), before, &mut writes);
                    OperationResult::Deleted(deleted)
                }
            })
            .collect();
        (results, writes)
    }

    fn delete_range(
        &self,
        (start, end): (&Bytes, Option<&Bytes>),
        before: Revision,
        writes: &mut Writes,
    ) -> u64 {
        let mut deleted = 0;
        for key in self.versions.range::<Bytes, _>(start..).map(|(key, _)| key) {
            if end.is_some_and(|end| end <= key) {
                break;
            }
            let is_new = !writes.contains_key(key);
            if is_new && self.at(key, before).is_some() {
                writes.insert(key.clone(), None);
                deleted += 1;
            }
        }
        deleted
    }

    /// Whether a condition holds; `None` where it is not one about keys.
    fn is_met(&self, condition: &Condition, before: Revision) -> Option<bool> {
        let Condition::Key {
            key,
            field,
            compare,
        } = condition
        else {
            return None;
        };
        let entry = self.at(key, before);
        let number = |of: fn(&KeyEntry) -> u64| entry.map_or(0, |entry| of(entry));
        let ordering = match field {
            Field::Value(value) => match entry {
                Some(entry) => entry.value.cmp(value),
                None => return Some(*compare == Compare::NotEqual),
            },
            Field::Version(version) => number(|entry| entry.version).cmp(version),
            Field::CreateRevision(made) => number(|entry| entry.create_revision.0).cmp(made),
            Field::ModRevision(made) => number(|entry| entry.mod_revision.0).cmp(made),
            Field::Lease(lease) => entry.and_then(|entry| entry.lease).cmp(lease),
        };
        Some(match compare {
            Compare::Equal => ordering == Ordering::Equal,
            Compare::NotEqual => ordering != Ordering::Equal,
            Compare::Less => ordering == Ordering::Less,
            Compare::Greater => ordering == Ordering::Greater,
        })
    }
}

fn put_entry(put: &Put, present: Option<&Arc<KeyEntry>>, revision: Revision) -> KeyEntry {
    KeyEntry {
        key: put.key.clone(),
        value: put.value.clone(),
        content_type: put.content_type.clone(),
        create_revision: present.map_or(revision, |entry| entry.create_revision),
        mod_revision: revision,
        version: present.map_or(1, |entry| entry.version + 1),
        lease: put.lease,
    }
}
