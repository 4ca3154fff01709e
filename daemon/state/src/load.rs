//! The state as rows, and rows as the state.
//!
//! Owns what a checkpoint takes and what a start or a snapshot brings back. Never trusts a row: whatever is missing,
//! doubled or without its other half is damage, and says which row.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tenure_mutants::{Mutant, mutated};

use crate::access::Access;
use crate::access_record::{self, IdentityRecord, RoleRecord, TokenRecord};
use crate::event::{Change, Event};
use crate::ids::{Clock, Fence, Kind, LeaseId, Revision};
use crate::keys::{Became, Keys, Version};
use crate::limits::Limits;
use crate::parts::{
    Asker, Called, Delay, Due, FREE, Hanging, History, Hold, Lease, PlaceId, Queue, QueueId,
    Recorded, Turn, Waiting, Want, permits,
};
use crate::record::{self, EndedRow, HoldRow, LeaseRow, PlaceRow, QueueRow, RepeatRow};
use crate::repeats::{RepeatKey, Repeats};
use crate::row::{Row, RowChange, Table};
use crate::rows::{self, AccessRow, BLOCK, Meta, RowId};
use crate::state::{State, cost};
use crate::verdicts;
use crate::version::{FIRST_STATE_VERSION, STATE_VERSION};

/// Why rows are not a state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// A row cannot be read.
    #[error("the row {key} of table {table:?} is damaged or of a newer version")]
    Row {
        /// Its table.
        table: Table,
        /// Its key in hex.
        key: String,
    },
    /// Rows do not fit together.
    #[error("the rows do not fit together: {0}")]
    Inconsistent(&'static str),
    /// The state follows rules that this version does not know.
    #[error(
        "the state follows the rules of state version {found}, and this program knows {FIRST_STATE_VERSION} to {STATE_VERSION}: a newer \
         program has written it, start that one"
    )]
    Rules {
        /// The version of the rules.
        found: u64,
    },
}

impl State {
    /// The rows that changed since the last call, as they are now. Costs as much as changed.
    pub fn take_changes(&mut self) -> Vec<RowChange> {
        let ledger = &mut self.ledger;
        let dirty = std::mem::take(&mut ledger.dirty);
        let blocks = std::mem::take(&mut ledger.dirty_blocks);
        let kept = std::mem::take(&mut ledger.kept);
        let dead = std::mem::take(&mut ledger.dead);
        let stored = std::mem::replace(&mut ledger.stored_through, self.revision);
        let mut changes: Vec<RowChange> = dirty
            .into_iter()
            .map(|id| RowChange {
                table: id.table(),
                key: id.key(),
                value: self.row(&id).map(|row| row.value),
            })
            .collect();
        changes.extend(blocks.into_iter().map(|block| RowChange {
            table: Table::Deadlines,
            key: block_key(block),
            value: rows::block_value(&self.leases.deadlines, block),
        }));
        changes.extend(dead.into_iter().map(|(revision, position)| RowChange {
            table: Table::History,
            key: rows::position_key(revision, position),
            value: None,
        }));
        let kept = kept.into_iter().filter_map(|((revision, position), key)| {
            let version = self.keys.version_at(&key, revision)?;
            let same = version.revision() == revision && version.position == position;
            same.then(|| version_row(version)).flatten()
        });
        let skipped =
            usize::try_from(stored.0.saturating_sub(self.history.base.0)).unwrap_or(usize::MAX);
        let recent = self
            .history
            .changes
            .iter()
            .skip(skipped)
            .flat_map(recorded_rows);
        let made = kept.chain(recent);
        changes.extend(made.map(|row| RowChange {
            table: row.table,
            key: row.key,
            value: Some(row.value),
        }));
        changes
    }

    /// Every row, in the order of tables and keys.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let row = |id: RowId| self.row(&id);
        let meta = Meta::ALL.into_iter().map(RowId::Meta).filter_map(row);
        let leases = self
            .leases
            .by_id
            .keys()
            .map(|lease| RowId::Lease(*lease))
            .filter_map(row);
        let blocks = (0..u32::try_from(self.leases.deadlines.len().div_ceil(BLOCK))
            .unwrap_or(u32::MAX))
            .filter_map(|block| {
                let value = rows::block_value(&self.leases.deadlines, block)?;
                Some(Row {
                    table: Table::Deadlines,
                    key: block_key(block),
                    value,
                })
            });
        let queues = self
            .queues
            .keys()
            .cloned()
            .map(RowId::Queue)
            .filter_map(row);
        let holds = self.queues.iter().flat_map(|(id, queue)| {
            queue
                .holds
                .keys()
                .map(|asker| RowId::Hold(id.clone(), asker.clone()))
        });
        let places = self
            .places
            .keys()
            .map(|place| RowId::Place(*place))
            .filter_map(row);
        let ended = self
            .ended
            .by_revision
            .keys()
            .map(|revision| RowId::Ended(*revision))
            .filter_map(row);
        let repeats = self
            .repeats
            .by_key
            .keys()
            .map(|id| RowId::Repeat(Arc::clone(id)))
            .filter_map(row);
        let access = self.access_rows().map(RowId::Access).filter_map(row);
        let history = self.old_versions().into_iter().filter_map(version_row);
        let history = history.chain(self.history.changes.iter().flat_map(recorded_rows));
        meta.chain(history)
            .chain(leases)
            .chain(blocks)
            .chain(queues)
            .chain(holds.filter_map(row))
            .chain(places)
            .chain(ended)
            .chain(repeats)
            .chain(access)
    }

    fn access_rows(&self) -> impl Iterator<Item = AccessRow> {
        let access = &self.access;
        let roles = access.roles.keys().cloned().map(AccessRow::Role);
        let identities = access.identities.keys().cloned().map(AccessRow::Identity);
        let tokens = access.tokens.keys().copied().map(AccessRow::Token);
        std::iter::once(AccessRow::Enabled)
            .chain(roles)
            .chain(identities)
            .chain(tokens)
    }

    /// Versions whose revisions are compacted, in the order of their rows.
    fn old_versions(&self) -> Vec<&Version> {
        let mut old: Vec<&Version> = self
            .keys
            .all()
            .filter(|version| version.revision() <= self.compact)
            .collect();
        old.sort_by_key(|version| (version.revision(), version.position));
        old
    }

    /// The state of some rows, which come in the order of [`State::rows`].
    ///
    /// # Errors
    ///
    /// Where they are not the rows of a state.
    pub fn from_rows(rows: impl Iterator<Item = Row>) -> Result<State, LoadError> {
        let mut loading = Loading::default();
        for row in rows {
            if loading.take(&row).is_none() {
                // Single values come first. What newer rules write in other rows is no damage.
                return Err(match loading.check_rules() {
                    Err(newer @ LoadError::Rules { .. }) => newer,
                    _ => damaged(&row),
                });
            }
        }
        loading.finish()
    }
}

fn damaged(row: &Row) -> LoadError {
    let key = row.key.iter().map(|byte| format!("{byte:02x}")).collect();
    LoadError::Row {
        table: row.table,
        key,
    }
}

fn block_key(block: u32) -> Bytes {
    Bytes::copy_from_slice(&block.to_be_bytes())
}

fn version_row(version: &Version) -> Option<Row> {
    match &version.became {
        Became::Put(entry) => Some(Row {
            table: Table::History,
            key: rows::position_key(version.revision(), version.position),
            value: rows::put_value(version.clock, entry),
        }),
        Became::Deleted(_) => None,
    }
}

fn recorded_rows(recorded: &Recorded) -> impl Iterator<Item = Row> {
    let revision = recorded.change.revision;
    let events = (0..).zip(recorded.change.events.iter());
    events
        .map(move |(position, event)| rows::history_row(revision, position, recorded.clock, event))
}

/// Rows on their way to a state.
#[derive(Default)]
struct Loading {
    meta: BTreeMap<Bytes, Bytes>,
    history: Vec<(Revision, u32, Clock, Event)>,
    leases: BTreeMap<LeaseId, Lease>,
    deadlines: Vec<u64>,
    queues: BTreeMap<QueueId, Queue>,
    places: BTreeMap<PlaceId, Waiting>,
    ended: Vec<(Revision, LeaseId, Clock)>,
    repeats: Repeats,
    access: Access,
    digest: u128,
}

impl Loading {
    fn take(&mut self, row: &Row) -> Option<()> {
        if row.table != Table::Deadlines {
            self.digest = self
                .digest
                .wrapping_add(rows::hash(row.table, &row.key, &row.value));
        }
        match row.table {
            Table::Meta => {
                self.meta.insert(row.key.clone(), row.value.clone());
            }
            Table::History => {
                let (revision, position) = split_position(&row.key)?;
                let (clock, event) = rows::event(revision, &row.value)?;
                self.history.push((revision, position, clock, event));
            }
            Table::Leases => self.take_lease(row)?,
            Table::Deadlines => self.take_block(row)?,
            Table::Queues => self.take_queue(row)?,
            Table::Holds => self.take_hold(row)?,
            Table::Places => self.take_place(row)?,
            Table::Ended => {
                let ended = EndedRow::decode(&row.value[..]).ok()?;
                let revision = Revision(u64::from_be_bytes(row.key[..].try_into().ok()?));
                self.ended
                    .push((revision, LeaseId::new(ended.lease)?, Clock(ended.clock)));
            }
            Table::Idempotency => self.take_repeat(row)?,
            Table::Access => self.take_access(row)?,
        }
        Some(())
    }

    fn take_lease(&mut self, row: &Row) -> Option<()> {
        let id = LeaseId::new(u64::from_be_bytes(row.key[..].try_into().ok()?))?;
        let lease = LeaseRow::decode(&row.value[..]).ok()?;
        let lease = Lease {
            ttl_ms: lease.ttl_ms,
            name: lease.name,
            identity: lease
                .identity
                .filter(|_| !mutated(Mutant::OwnersForgotten))
                .map(Arc::from),
            metadata: Arc::new(lease.metadata),
            granted_revision: Revision(lease.granted_revision),
            attached_revision: lease.attached_revision.map(Revision),
            slot: lease.slot,
            armed: Clock(0),
            attached: Default::default(),
        };
        self.leases.insert(id, lease).is_none().then_some(())
    }

    fn take_block(&mut self, row: &Row) -> Option<()> {
        let block = u32::from_be_bytes(row.key[..].try_into().ok()?) as usize;
        // Blocks come in order; those between are free. More than there are leases is damage, not a reason to allocate.
        if row.value.len() != BLOCK * 8
            || (1 << 22) <= block
            || block * BLOCK < self.deadlines.len()
        {
            return None;
        }
        self.deadlines.resize(block * BLOCK, FREE);
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(FREE);
        self.deadlines.extend(row.value.chunks_exact(8).map(number));
        Some(())
    }

    fn take_queue(&mut self, row: &Row) -> Option<()> {
        let (kind, name) = row.key.split_first()?;
        let id = QueueId::new(
            record::kind(u32::from(*kind))?,
            std::str::from_utf8(name).ok()?,
        );
        let queue = QueueRow::decode(&row.value[..]).ok()?;
        let queue = Queue {
            last_fence: queue.last_fence.map(Fence),
            exclusive_fence: queue.exclusive_fence.map(Fence),
            mod_revision: Revision(queue.mod_revision),
            delay: queue.delay_until.map(|until| Delay {
                until: Clock(until),
                passes: Called {
                    name: queue.delay_name,
                    identity: queue.delay_identity.map(Arc::from),
                },
            }),
            ..Queue::default()
        };
        self.queues.insert(id, queue).is_none().then_some(())
    }

    fn take_hold(&mut self, row: &Row) -> Option<()> {
        let (id, asker) = split_hold(&row.key)?;
        let hold = HoldRow::decode(&row.value[..]).ok()?;
        let share = rows::share(hold.share)?;
        let queue = self.queues.get_mut(&id)?;
        queue.taken.checked_add(permits(share))?;
        let hold = Hold {
            share,
            fence: Fence(hold.fence),
            acquired_at: hold.acquired_at.map(Clock),
            metadata: Arc::new(hold.metadata),
            lock_delay_ms: hold.lock_delay_ms,
            value: hold.value,
        };
        queue.add_hold(&asker, hold);
        let lease = self.leases.get_mut(&asker.lease)?;
        lease
            .attached
            .insert(Hanging::Hold(id, asker.owner))
            .then_some(())
    }

    fn take_place(&mut self, row: &Row) -> Option<()> {
        let (revision, number) = split_position(&row.key)?;
        let place = PlaceRow::decode(&row.value[..]).ok()?;
        let id = PlaceId { revision, number };
        let kind: Kind = record::kind(place.kind)?;
        let asker = Asker {
            lease: LeaseId::new(place.lease)?,
            owner: place.owner.into(),
        };
        let wanted = place.wanted.into_iter().map(|want| {
            Some(Want {
                queue: QueueId::new(kind, &want.name),
                share: rows::share(want.share)?,
            })
        });
        let lease = self.leases.get_mut(&asker.lease)?;
        let waiting = Waiting {
            wanted: wanted.collect::<Option<_>>()?,
            asker,
            priority: place.priority,
            queued_at: place.queued_at.map(Clock),
            wait_deadline: Clock(place.wait_deadline),
            metadata: Arc::new(place.metadata),
            lock_delay_ms: place.lock_delay_ms,
            value: place.value,
            identity: lease.identity.clone(),
        };
        let asker = &waiting.asker;
        let turn = Turn {
            priority: Reverse(waiting.priority),
            place: id,
        };
        for want in &waiting.wanted {
            let queue = self.queues.get_mut(&want.queue)?;
            queue.add_place(turn, asker, waiting.can_be_handed_it());
            let owner = Arc::clone(&asker.owner);
            lease
                .attached
                .insert(Hanging::Place(want.queue.clone(), owner));
        }
        self.places.insert(id, waiting).is_none().then_some(())
    }

    fn take_repeat(&mut self, row: &Row) -> Option<()> {
        let (length, rest) = row.key.split_at_checked(2)?;
        let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
        let (identity, key) = rest.split_at_checked(length)?;
        std::str::from_utf8(identity).ok()?;
        std::str::from_utf8(key).ok()?;
        let repeat = verdicts::repeat(RepeatRow::decode(&row.value[..]).ok()?)?;
        let id: RepeatKey = row.key[..].into();
        if self.repeats.by_key.contains_key(&id) {
            return None;
        }
        self.repeats.add(id, repeat);
        Some(())
    }

    /// Rows come in the order of their keys: roles before identities, and those before tokens.
    fn take_access(&mut self, row: &Row) -> Option<()> {
        let access = &mut self.access;
        let value = &row.value[..];
        match AccessRow::of_key(&row.key)? {
            AccessRow::Enabled => {
                access.enabled = true;
                (value == rows::ENABLED).then_some(())
            }
            AccessRow::Role(name) => {
                let grants = access_record::role(RoleRecord::decode(value).ok()?)?;
                access.set_role(&name, Some(grants)).is_none().then_some(())
            }
            AccessRow::Identity(name) => {
                let identity = access_record::identity(IdentityRecord::decode(value).ok()?);
                let mut roles = identity.roles.iter();
                if !roles.all(|role| access.role(role).is_some()) {
                    return None;
                }
                let certificate = identity.certificate.as_ref();
                if certificate.is_some_and(|name| access.by_certificate.contains_key(name)) {
                    return None;
                }
                let before = access.set_identity(&name, Some(identity));
                before.is_none().then_some(())
            }
            AccessRow::Token(id) => {
                let token = access_record::token(TokenRecord::decode(value).ok()?)?;
                access.identity(&token.identity)?;
                access.set_token(id, Some(token)).is_none().then_some(())
            }
        }
    }

    fn number(&self, meta: Meta) -> Result<u64, LoadError> {
        let value = self
            .meta
            .get(meta.name().as_bytes())
            .ok_or(LoadError::Inconsistent("a single value is missing"))?;
        let bytes = value[..]
            .try_into()
            .map_err(|_| LoadError::Inconsistent("a single value is no number"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn limits(&self) -> Result<Limits, LoadError> {
        let value = self.meta.get(Meta::Limits.name().as_bytes());
        value
            .and_then(|value| rows::limits(value))
            .ok_or(LoadError::Inconsistent("the limits are missing"))
    }

    /// The version of the rules, where they are known.
    fn check_rules(&self) -> Result<u64, LoadError> {
        let found = self.number(Meta::Rules)?;
        match (FIRST_STATE_VERSION..=STATE_VERSION).contains(&found) {
            true => Ok(found),
            false => Err(LoadError::Rules { found }),
        }
    }

    fn finish(mut self) -> Result<State, LoadError> {
        let found = self.check_rules()?;
        let mut state = State::empty(found, self.limits()?, Revision(self.number(Meta::First)?));
        state.clock = Clock(self.number(Meta::Clock)?);
        state.revision = Revision(self.number(Meta::Revision)?);
        state.compact = Revision(self.number(Meta::Compact)?);
        state.compact_target = Revision(self.number(Meta::CompactTarget)?);
        if self.meta.len() != Meta::ALL.len() {
            return Err(LoadError::Inconsistent("a single value is unknown"));
        }
        state.ledger.digest = self.digest;
        state.ledger.stored_through = state.revision;
        state.queues = std::mem::take(&mut self.queues);
        state.repeats = std::mem::take(&mut self.repeats);
        state.access = std::mem::take(&mut self.access);
        state.places = std::mem::take(&mut self.places);
        self.share_identities(&state.access, &mut state.places);
        let used = state.queues.iter().filter(|(_, queue)| queue.is_used());
        state.active = used.map(|(id, _)| id.clone()).collect();
        for (revision, lease, clock) in std::mem::take(&mut self.ended) {
            state.ended.by_revision.insert(revision, (lease, clock));
            state.ended.by_lease.insert(lease, revision);
        }
        self.finish_leases(&mut state)?;
        self.finish_history(&mut state)?;
        arm(&mut state);
        state.standing = state.counted_standing();
        state.usage = state.counted_usage();
        state.count_present();
        Ok(state)
    }

    /// The name of an identity is in memory once, whatever it has.
    fn share_identities(&mut self, access: &Access, places: &mut BTreeMap<PlaceId, Waiting>) {
        let of_leases = self.leases.values_mut().map(|lease| &mut lease.identity);
        let of_places = places.values_mut().map(|place| &mut place.identity);
        for name in of_leases.chain(of_places).flatten() {
            if let Some((shared, _)) = access.identities.get_key_value(name) {
                *name = Arc::clone(shared);
            }
        }
    }

    fn finish_leases(&mut self, state: &mut State) -> Result<(), LoadError> {
        let mut deadlines = std::mem::take(&mut self.deadlines);
        let used = deadlines
            .iter()
            .rposition(|deadline| *deadline != FREE)
            .map_or(0, |last| last + 1);
        deadlines.truncate(used);
        let mut free: std::collections::BTreeSet<u32> = (0..).take(used).collect();
        for lease in self.leases.values_mut() {
            let deadline = deadlines
                .get(lease.slot as usize)
                .copied()
                .filter(|deadline| *deadline != FREE);
            lease.armed =
                Clock(deadline.ok_or(LoadError::Inconsistent("a lease has no deadline"))?);
            if !free.remove(&lease.slot) {
                return Err(LoadError::Inconsistent("two leases have one deadline"));
            }
            let hash = rows::hash_deadline(lease.slot, lease.armed.0);
            state.ledger.digest = state.ledger.digest.wrapping_add(hash);
        }
        if free.iter().any(|slot| deadlines[*slot as usize] != FREE) {
            return Err(LoadError::Inconsistent("a deadline has no lease"));
        }
        state.leases.by_id = std::mem::take(&mut self.leases);
        state.leases.deadlines = deadlines;
        state.leases.free = free;
        Ok(())
    }

    /// History from the compact revision on, and the versions of keys, which are in older rows too.
    fn finish_history(&mut self, state: &mut State) -> Result<(), LoadError> {
        let mut history = History {
            base: state.compact.max(state.first),
            ..History::default()
        };
        let mut versions: Vec<(Box<[u8]>, Version)> = Vec::with_capacity(self.history.len());
        let mut events: Vec<Event> = Vec::new();
        let mut rows = std::mem::take(&mut self.history).into_iter().peekable();
        while let Some((revision, position, clock, event)) = rows.next() {
            match &event {
                Event::Put(entry) => versions.push((
                    entry.key[..].into(),
                    Version {
                        became: Became::Put(Arc::clone(entry)),
                        position,
                        clock,
                    },
                )),
                Event::Delete { key, .. } => {
                    versions.push((
                        key[..].into(),
                        Version {
                            became: Became::Deleted(revision),
                            position,
                            clock,
                        },
                    ));
                }
                _ => {}
            }
            if revision <= history.base {
                if !matches!(event, Event::Put(_)) || state.compact < revision {
                    return Err(LoadError::Inconsistent("history has what is compacted"));
                }
                continue;
            }
            let expected = history
                .base
                .0
                .saturating_add(1 + history.changes.len() as u64);
            if revision.0 != expected || position as usize != events.len() {
                return Err(LoadError::Inconsistent("history has a gap"));
            }
            history.bytes = history.bytes.saturating_add(cost(&event));
            events.push(event);
            if rows.peek().is_none_or(|next| next.0 != revision) {
                let bytes = events.iter().map(cost).sum();
                let change = Change {
                    revision,
                    events: std::mem::take(&mut events).into(),
                };
                history.changes.push_back(Recorded {
                    change,
                    clock,
                    bytes,
                });
            }
        }
        if history.base.0.saturating_add(history.changes.len() as u64) != state.revision.0 {
            return Err(LoadError::Inconsistent(
                "history does not end at the revision",
            ));
        }
        state.history = history;
        // Rows came by revision; a stable sort keeps that order within a key.
        versions.sort_by(|a, b| a.0.cmp(&b.0));
        state.keys = Keys::from_sorted(versions.into_iter());
        self.attach_keys(state)
    }

    fn attach_keys(&self, state: &mut State) -> Result<(), LoadError> {
        let live = state.keys.live_range(std::ops::Bound::Unbounded, None);
        for (lease, key) in live.filter_map(|entry| Some((entry.lease?, &entry.key))) {
            let lease = state.leases.by_id.get_mut(&lease);
            let lease = lease.ok_or(LoadError::Inconsistent(
                "a key hangs on a lease that is not there",
            ))?;
            lease.attached.insert(Hanging::Key(key.clone()));
        }
        Ok(())
    }
}

/// Puts everything with a deadline on the agenda.
fn arm(state: &mut State) {
    let leases = state
        .leases
        .by_id
        .iter()
        .map(|(id, lease)| (lease.armed, Due::Lease(*id)));
    let places = state
        .places
        .iter()
        .map(|(id, place)| (place.wait_deadline, Due::Place(*id)));
    let delays = state
        .queues
        .iter()
        .filter_map(|(id, queue)| Some((queue.delay.as_ref()?.until, Due::Delay(id.clone()))));
    state.agenda = leases.chain(places).chain(delays).collect();
}

fn split_position(key: &[u8]) -> Option<(Revision, u32)> {
    let (revision, position) = key.split_at_checked(8)?;
    Some((
        Revision(u64::from_be_bytes(revision.try_into().ok()?)),
        u32::from_be_bytes(position.try_into().ok()?),
    ))
}

fn split_hold(key: &[u8]) -> Option<(QueueId, Asker)> {
    let (kind, rest) = key.split_first()?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let (lease, owner) = rest.split_at_checked(8)?;
    let id = QueueId::new(
        record::kind(u32::from(*kind))?,
        std::str::from_utf8(name).ok()?,
    );
    let lease = LeaseId::new(u64::from_be_bytes(lease.try_into().ok()?))?;
    Some((
        id,
        Asker {
            lease,
            owner: std::str::from_utf8(owner).ok()?.into(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Principal, RootToken, TokenId};
    use crate::command::{Acquire, Batch, Claim, Command, NewLease, Request, Share, Wanted};
    use crate::ids::Origin;
    use crate::limits::Genesis;

    #[test]
    fn the_name_of_an_identity_is_loaded_once_for_its_leases_and_its_places() {
        let root = RootToken {
            id: TokenId(1),
            hash: [7; 32],
        };
        let mut state = State::genesis(Genesis {
            root: Some(root),
            ..Genesis::default()
        });
        let lease = |id| LeaseId::new(id).expect("it is positive");
        let grant = |id| {
            Command::GrantLease(NewLease {
                lease: lease(id),
                ttl_ms: 60_000,
                name: String::new(),
                metadata: BTreeMap::new(),
            })
        };
        let acquire = |id| {
            Command::Acquire(Acquire {
                kind: Kind::Lock,
                wanted: vec![Wanted {
                    name: "x".to_owned(),
                    share: Share::Exclusive,
                }],
                claim: Claim::Lease(lease(id)),
                owner: String::new(),
                wait_ms: 60_000,
                priority: 0,
                metadata: BTreeMap::new(),
                lock_delay_ms: 0,
                value: String::new(),
            })
        };
        let request = |command| Request {
            origin: Origin {
                member: 1,
                token: 1,
            },
            principal: Principal::of("root", Some(TokenId(1))),
            idempotency: None,
            command,
        };
        let commands = [grant(1), grant(2), acquire(1), acquire(2)];
        let batch = Batch {
            renewals: Vec::new(),
            requests: commands.map(request).into(),
        };
        let applied = state.apply(Clock(1), &batch);
        assert!(applied.outcomes.iter().all(|told| told.outcome.is_ok()));
        let loaded = State::from_rows(state.rows()).expect("its own rows load");
        let (name, _) = loaded
            .access
            .identities
            .get_key_value("root")
            .expect("it is there");
        let leases = loaded.leases.by_id.values().map(|lease| &lease.identity);
        let places = loaded.places.values().map(|place| &place.identity);
        let owners: Vec<_> = leases.chain(places).flatten().collect();
        assert_eq!(owners.len(), 3, "two leases and a place");
        assert!(owners.iter().all(|owner| Arc::ptr_eq(owner, name)));
    }
}
