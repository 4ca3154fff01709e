//! Rows: the state as it leaves memory and comes back.
//!
//! Owns the form of every row, the list of those that changed, and the digest. The digest is the wrapping sum of a hash
//! of every row, a deadline counting as a row of its own, so that a change costs two hashes.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | meta | its name | a number in 8 bytes, or the limits |
//! | history | revision, position (8 + 4 bytes) | clock and event |
//! | leases | lease (8) | lease less its deadline |
//! | deadlines | block (4) | 1024 deadlines of 8 bytes, little-endian; all ones where free |
//! | queues | kind (1), name | fences, delay |
//! | holds | kind (1), name, 0, lease (8), owner | hold |
//! | places | revision, number (8 + 4) | place |
//! | ended | revision (8) | lease and clock |
//! | idempotency | length of the identity (2), identity, key | digest, deadline and what was decided |
//! | access | 0, alone | one byte, there while access control is on |
//! | access | 1, name of a role | its grants |
//! | access | 2, name of an identity | its roles, certificate and quotas |
//! | access | 3, token (8) | identity, hash, expiry |
//!
//! Numbers in keys are big-endian; names have no zero byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use twox_hash::XxHash3_128;

use crate::access::{Access, TokenId};
use crate::access_record;
use crate::answer::KeyEntry;
use crate::command::Share;
use crate::event::{DeleteReason, EndReason, Event, Grant, LeaveReason, Place, ReleaseReason};
use crate::ids::{Clock, Fence, Kind, LeaseId, Revision};
use crate::limits::Limits;
use crate::parts::{Asker, Hold, Lease, PlaceId, Queue, QueueId, Waiting};
use crate::record::{
    self, DeleteRecord, EndedRow, EventRecord, GoneRecord, HistoryRow, HoldRow, LeaseEndRecord,
    LeaseRow, LimitsRow, NewLeaseRecord, PlaceRow, ProclaimedRecord, QueueRow, StandingRecord,
    WantedRecord,
};
use crate::repeats::{Repeat, RepeatKey};
use crate::row::{Row, Table};
use crate::verdicts;

/// How many deadlines are in a block.
pub(crate) const BLOCK: usize = 1024;

/// A single value.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Meta {
    Clock,
    Compact,
    CompactTarget,
    First,
    Limits,
    Revision,
    Rules,
}

impl Meta {
    /// In the order of their names.
    pub(crate) const ALL: [Meta; 7] = [
        Meta::Clock,
        Meta::Compact,
        Meta::CompactTarget,
        Meta::First,
        Meta::Limits,
        Meta::Revision,
        Meta::Rules,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Meta::Clock => "clock",
            Meta::Compact => "compact",
            Meta::CompactTarget => "compact-target",
            Meta::First => "first",
            Meta::Limits => "limits",
            Meta::Revision => "revision",
            Meta::Rules => "rules",
        }
    }
}

/// A row that can change, other than deadlines and history.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum RowId {
    Meta(Meta),
    Lease(LeaseId),
    Queue(QueueId),
    Hold(QueueId, Asker),
    Place(PlaceId),
    Ended(Revision),
    Repeat(RepeatKey),
    Access(AccessRow),
}

/// A row of the table of access, in the order of their keys.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum AccessRow {
    /// There while access control is on.
    Enabled,
    Role(Arc<str>),
    Identity(Arc<str>),
    Token(TokenId),
}

impl AccessRow {
    fn key(&self) -> Bytes {
        match self {
            AccessRow::Enabled => Bytes::from_static(&[0]),
            AccessRow::Role(name) => [&[1], name.as_bytes()].concat().into(),
            AccessRow::Identity(name) => [&[2], name.as_bytes()].concat().into(),
            AccessRow::Token(id) => [&[3], &id.0.to_be_bytes()[..]].concat().into(),
        }
    }

    /// The row of a key.
    pub(crate) fn of_key(key: &[u8]) -> Option<AccessRow> {
        let (kind, name) = key.split_first()?;
        let text = || Some(std::str::from_utf8(name).ok()?.into());
        match kind {
            0 if name.is_empty() => Some(AccessRow::Enabled),
            1 => Some(AccessRow::Role(text()?)),
            2 => Some(AccessRow::Identity(text()?)),
            3 => Some(AccessRow::Token(TokenId(u64::from_be_bytes(
                name.try_into().ok()?,
            )))),
            _ => None,
        }
    }
}

/// What is in the row that is there while access control is on.
pub(crate) const ENABLED: &[u8] = &[1];

/// A row of the table of access as it is now, if it is there.
pub(crate) fn access_value(access: &Access, row: &AccessRow) -> Option<Bytes> {
    Some(match row {
        AccessRow::Enabled => access.enabled.then(|| Bytes::from_static(ENABLED))?,
        AccessRow::Role(name) => access_record::role_record(access.role(name)?)
            .encode_to_vec()
            .into(),
        AccessRow::Identity(name) => access_record::identity_record(access.identity(name)?)
            .encode_to_vec()
            .into(),
        AccessRow::Token(id) => access_record::token_record(access.token(*id)?)
            .encode_to_vec()
            .into(),
    })
}

impl RowId {
    pub(crate) fn table(&self) -> Table {
        match self {
            RowId::Meta(_) => Table::Meta,
            RowId::Lease(_) => Table::Leases,
            RowId::Queue(_) => Table::Queues,
            RowId::Hold(..) => Table::Holds,
            RowId::Place(_) => Table::Places,
            RowId::Ended(_) => Table::Ended,
            RowId::Repeat(_) => Table::Idempotency,
            RowId::Access(_) => Table::Access,
        }
    }

    pub(crate) fn key(&self) -> Bytes {
        match self {
            RowId::Meta(meta) => Bytes::from_static(meta.name().as_bytes()),
            RowId::Lease(lease) => Bytes::copy_from_slice(&lease.number().to_be_bytes()),
            RowId::Queue(queue) => [&[queue.kind as u8], queue.name.as_bytes()].concat().into(),
            RowId::Hold(queue, asker) => {
                let lease = asker.lease.number().to_be_bytes();
                let parts: [&[u8]; 5] = [
                    &[queue.kind as u8],
                    queue.name.as_bytes(),
                    &[0],
                    &lease,
                    asker.owner.as_bytes(),
                ];
                parts.concat().into()
            }
            RowId::Place(place) => position_key(place.revision, place.number),
            RowId::Ended(revision) => Bytes::copy_from_slice(&revision.0.to_be_bytes()),
            RowId::Repeat(id) => Bytes::copy_from_slice(id),
            RowId::Access(row) => row.key(),
        }
    }
}

/// The key of a row of history, or of a place.
pub(crate) fn position_key(revision: Revision, position: u32) -> Bytes {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&revision.0.to_be_bytes());
    key[8..].copy_from_slice(&position.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

/// What a row adds to the digest.
pub(crate) fn hash(table: Table, key: &[u8], value: &[u8]) -> u128 {
    let seed = XxHash3_128::oneshot_with_seed(u64::from(table as u8), key) as u64;
    XxHash3_128::oneshot_with_seed(seed, value)
}

/// What a deadline adds to the digest.
pub(crate) fn hash_deadline(slot: u32, deadline: u64) -> u128 {
    hash(
        Table::Deadlines,
        &slot.to_be_bytes(),
        &deadline.to_be_bytes(),
    )
}

/// What changed since the last checkpoint, and the digest of everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub digest: u128,
    /// Rows whose old form was taken out of the digest in this entry.
    pub touched: BTreeSet<RowId>,
    pub dirty: BTreeSet<RowId>,
    pub dirty_blocks: BTreeSet<u32>,
    /// Rows of history up to here were given to a checkpoint.
    pub stored_through: Revision,
    /// Versions made since and already compacted out of history, which stay because their keys are live.
    pub kept: BTreeMap<(Revision, u32), Bytes>,
    /// Rows of history that are gone.
    pub dead: BTreeSet<(Revision, u32)>,
}

pub(crate) fn limits_value(limits: &Limits) -> Bytes {
    limits_row(limits).encode_to_vec().into()
}

pub(crate) fn limits_row(limits: &Limits) -> LimitsRow {
    LimitsRow {
        values: vec![
            limits.value_bytes,
            limits.request_bytes,
            limits.keys_per_revision,
            limits.attached_per_lease,
            limits.txn_conditions,
            limits.txn_operations,
            limits.history_retention_ms,
            limits.history_bytes,
            limits.idempotency_retention_ms,
            limits.idempotency_records,
            limits.keys,
            limits.key_bytes,
            limits.leases,
            limits.waiters,
            limits.watchers,
            limits.standing_bytes,
        ],
    }
}

pub(crate) fn limits(value: &[u8]) -> Option<Limits> {
    limits_of(&LimitsRow::decode(value).ok()?)
}

pub(crate) fn limits_of(row: &LimitsRow) -> Option<Limits> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = row.values[..] else {
        return None;
    };
    Some(Limits {
        value_bytes: a,
        request_bytes: b,
        keys_per_revision: c,
        attached_per_lease: d,
        txn_conditions: e,
        txn_operations: f,
        history_retention_ms: g,
        history_bytes: h,
        idempotency_retention_ms: i,
        idempotency_records: j,
        keys: k,
        key_bytes: l,
        leases: m,
        waiters: n,
        watchers: o,
        standing_bytes: p,
    })
}

pub(crate) fn lease_value(lease: &Lease) -> Bytes {
    LeaseRow {
        ttl_ms: lease.ttl_ms,
        name: lease.name.clone(),
        metadata: (*lease.metadata).clone(),
        granted_revision: lease.granted_revision.0,
        attached_revision: lease.attached_revision.map(|revision| revision.0),
        slot: lease.slot,
        identity: lease.identity.as_deref().map(str::to_owned),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn queue_value(queue: &Queue) -> Bytes {
    QueueRow {
        last_fence: queue.last_fence.map(|fence| fence.0),
        exclusive_fence: queue.exclusive_fence.map(|fence| fence.0),
        mod_revision: queue.mod_revision.0,
        delay_until: queue.delay.as_ref().map(|delay| delay.until.0),
        delay_name: queue
            .delay
            .as_ref()
            .map(|delay| delay.passes.name.clone())
            .unwrap_or_default(),
        delay_identity: queue
            .delay
            .as_ref()
            .and_then(|delay| Some(delay.passes.identity.as_deref()?.to_owned())),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn hold_value(hold: &Hold) -> Bytes {
    HoldRow {
        share: Some(record::share_record(hold.share)),
        fence: hold.fence.0,
        acquired_at: hold.acquired_at.map(|clock| clock.0),
        metadata: (*hold.metadata).clone(),
        lock_delay_ms: hold.lock_delay_ms,
        value: hold.value.clone(),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn place_value(place: &Waiting) -> Bytes {
    let wanted = place.wanted.iter().map(|want| WantedRecord {
        name: want.queue.name.to_string(),
        share: Some(record::share_record(want.share)),
    });
    PlaceRow {
        kind: place
            .wanted
            .first()
            .map_or(0, |want| want.queue.kind as u32),
        wanted: wanted.collect(),
        lease: place.asker.lease.number(),
        owner: place.asker.owner.to_string(),
        priority: place.priority,
        queued_at: place.queued_at.map(|clock| clock.0),
        wait_deadline: place.wait_deadline.0,
        metadata: (*place.metadata).clone(),
        lock_delay_ms: place.lock_delay_ms,
        value: place.value.clone(),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn repeat_value(repeat: &Repeat) -> Bytes {
    verdicts::row(repeat).encode_to_vec().into()
}

pub(crate) fn ended_value(lease: LeaseId, clock: Clock) -> Bytes {
    EndedRow {
        lease: lease.number(),
        clock: clock.0,
    }
    .encode_to_vec()
    .into()
}

/// The row of a block of deadlines; `None` where all are free.
pub(crate) fn block_value(deadlines: &[u64], block: u32) -> Option<Bytes> {
    let start = block as usize * BLOCK;
    let slots = deadlines.get(start..)?;
    let slots = &slots[..slots.len().min(BLOCK)];
    if slots.iter().all(|deadline| *deadline == crate::parts::FREE) {
        return None;
    }
    let mut value = vec![0xff; BLOCK * 8];
    for (bytes, deadline) in value.chunks_exact_mut(8).zip(slots) {
        bytes.copy_from_slice(&deadline.to_le_bytes());
    }
    Some(value.into())
}

/// The value of a row of history.
pub(crate) fn history_value(clock: Clock, event: &Event) -> Bytes {
    match event {
        Event::Put(entry) => put_value(clock, entry),
        other => HistoryRow {
            clock: clock.0,
            event: event_record(other),
        }
        .encode_to_vec()
        .into(),
    }
}

/// `HistoryRow` with a `KeyRecord`, written by hand: the struct would need owners of the key and the value, which costs
/// every key two allocations for good.
pub(crate) fn put_value(clock: Clock, entry: &KeyEntry) -> Bytes {
    let mut body = Vec::with_capacity(entry.key.len() + entry.value.len() + 64);
    put_bytes(1, &entry.key, &mut body);
    put_bytes(2, &entry.value, &mut body);
    if let Some(content_type) = &entry.content_type {
        encode_key(3, WireType::LengthDelimited, &mut body);
        encode_varint(content_type.len() as u64, &mut body);
        body.put_slice(content_type.as_bytes());
    }
    encode_key(4, WireType::Varint, &mut body);
    encode_varint(entry.create_revision.0, &mut body);
    encode_key(5, WireType::Varint, &mut body);
    encode_varint(entry.version, &mut body);
    if let Some(lease) = entry.lease {
        encode_key(6, WireType::SixtyFourBit, &mut body);
        body.put_u64_le(lease.number());
    }
    let mut row = Vec::with_capacity(body.len() + 20);
    encode_key(1, WireType::Varint, &mut row);
    encode_varint(clock.0, &mut row);
    encode_key(2, WireType::LengthDelimited, &mut row);
    encode_varint(body.len() as u64, &mut row);
    row.extend_from_slice(&body);
    row.into()
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

fn event_record(event: &Event) -> Option<EventRecord> {
    Some(match event {
        Event::Put(_) => return None,
        Event::Delete { key, lease, reason } => EventRecord::Delete(DeleteRecord {
            key: key.clone(),
            lease: lease.map(LeaseId::number),
            reason: match reason {
                DeleteReason::Deleted => 1,
                DeleteReason::LeaseEnded => 2,
            },
        }),
        Event::Granted(grant) => EventRecord::Granted(StandingRecord {
            kind: grant.kind as u32,
            name: grant.name.clone(),
            owner: grant.owner.clone(),
            lease: grant.lease.number(),
            lease_name: grant.lease_name.clone(),
            metadata: (*grant.metadata).clone(),
            share: Some(record::share_record(grant.share)),
            fence: grant.fence.0,
            priority: 0,
            value: grant.value.clone(),
        }),
        Event::Queued { place } => EventRecord::Queued(StandingRecord {
            kind: place.kind as u32,
            name: place.name.clone(),
            owner: place.owner.clone(),
            lease: place.lease.number(),
            lease_name: place.lease_name.clone(),
            metadata: (*place.metadata).clone(),
            share: Some(record::share_record(place.share)),
            fence: 0,
            priority: place.priority,
            value: place.value.clone(),
        }),
        Event::Proclaimed {
            name,
            candidate,
            fence,
            value,
        } => EventRecord::Proclaimed(ProclaimedRecord {
            name: name.clone(),
            candidate: candidate.clone(),
            fence: fence.0,
            value: value.clone(),
        }),
        Event::Released {
            kind,
            name,
            owner,
            lease,
            fence,
            reason,
        } => {
            let reason = match reason {
                ReleaseReason::Released => 1,
                ReleaseReason::LeaseEnded => 2,
                ReleaseReason::Broken => 3,
                ReleaseReason::HandedOver => 4,
            };
            EventRecord::Released(gone(*kind, name, owner, *lease, fence.0, reason))
        }
        Event::Left {
            kind,
            name,
            owner,
            lease,
            reason,
        } => {
            let reason = match reason {
                LeaveReason::Withdrawn => 1,
                LeaveReason::WaitExpired => 2,
                LeaveReason::LeaseEnded => 3,
            };
            EventRecord::Left(gone(*kind, name, owner, *lease, 0, reason))
        }
        Event::LeaseGranted {
            lease,
            name,
            metadata,
            ttl_ms,
        } => EventRecord::LeaseGranted(NewLeaseRecord {
            lease: lease.number(),
            ttl_ms: *ttl_ms,
            name: name.clone(),
            metadata: (**metadata).clone(),
        }),
        Event::LeaseEnded {
            lease,
            name,
            reason,
        } => EventRecord::LeaseEnded(LeaseEndRecord {
            lease: lease.number(),
            name: name.clone(),
            reason: match reason {
                EndReason::Expired => 1,
                EndReason::Revoked => 2,
                EndReason::Restored => 3,
            },
        }),
    })
}

fn gone(
    kind: Kind,
    name: &str,
    owner: &str,
    lease: LeaseId,
    fence: u64,
    reason: u32,
) -> GoneRecord {
    GoneRecord {
        kind: kind as u32,
        name: name.to_owned(),
        owner: owner.to_owned(),
        lease: lease.number(),
        fence,
        reason,
    }
}

/// The clock and event of a row of history.
pub(crate) fn event(revision: Revision, value: &[u8]) -> Option<(Clock, Event)> {
    let row = HistoryRow::decode(value).ok()?;
    let event = match row.event? {
        EventRecord::Put(put) => Event::Put(Arc::new(KeyEntry {
            key: put.key,
            value: put.value,
            content_type: put.content_type,
            create_revision: Revision(put.create_revision),
            mod_revision: revision,
            version: put.version,
            lease: optional_lease(put.lease)?,
        })),
        EventRecord::Delete(record) => Event::Delete {
            key: record.key,
            lease: optional_lease(record.lease)?,
            reason: match record.reason {
                1 => DeleteReason::Deleted,
                2 => DeleteReason::LeaseEnded,
                _ => return None,
            },
        },
        EventRecord::Granted(record) => Event::Granted(Box::new(Grant {
            kind: record::kind(record.kind)?,
            name: record.name,
            owner: record.owner,
            lease: LeaseId::new(record.lease)?,
            lease_name: record.lease_name,
            metadata: Arc::new(record.metadata),
            share: share(record.share)?,
            fence: Fence(record.fence),
            value: record.value,
        })),
        EventRecord::Queued(record) => Event::Queued {
            place: Box::new(Place {
                kind: record::kind(record.kind)?,
                name: record.name,
                owner: record.owner,
                lease: LeaseId::new(record.lease)?,
                lease_name: record.lease_name,
                metadata: Arc::new(record.metadata),
                share: share(record.share)?,
                priority: record.priority,
                value: record.value,
            }),
        },
        EventRecord::Proclaimed(record) => Event::Proclaimed {
            name: record.name,
            candidate: record.candidate,
            fence: Fence(record.fence),
            value: record.value,
        },
        EventRecord::Released(record) => Event::Released {
            kind: record::kind(record.kind)?,
            name: record.name,
            owner: record.owner,
            lease: LeaseId::new(record.lease)?,
            fence: Fence(record.fence),
            reason: match record.reason {
                1 => ReleaseReason::Released,
                2 => ReleaseReason::LeaseEnded,
                3 => ReleaseReason::Broken,
                4 => ReleaseReason::HandedOver,
                _ => return None,
            },
        },
        EventRecord::Left(record) => Event::Left {
            kind: record::kind(record.kind)?,
            name: record.name,
            owner: record.owner,
            lease: LeaseId::new(record.lease)?,
            reason: match record.reason {
                1 => LeaveReason::Withdrawn,
                2 => LeaveReason::WaitExpired,
                3 => LeaveReason::LeaseEnded,
                _ => return None,
            },
        },
        EventRecord::LeaseGranted(record) => Event::LeaseGranted {
            lease: LeaseId::new(record.lease)?,
            name: record.name,
            metadata: Arc::new(record.metadata),
            ttl_ms: record.ttl_ms,
        },
        EventRecord::LeaseEnded(record) => Event::LeaseEnded {
            lease: LeaseId::new(record.lease)?,
            name: record.name,
            reason: match record.reason {
                1 => EndReason::Expired,
                2 => EndReason::Revoked,
                3 => EndReason::Restored,
                _ => return None,
            },
        },
    };
    Some((Clock(row.clock), event))
}

pub(crate) fn optional_lease(number: Option<u64>) -> Option<Option<LeaseId>> {
    match number {
        None => Some(None),
        Some(number) => LeaseId::new(number).map(Some),
    }
}

pub(crate) fn share(record: Option<record::ShareRecord>) -> Option<Share> {
    record.and_then(record::share)
}

/// A row of history.
pub(crate) fn history_row(revision: Revision, position: u32, clock: Clock, event: &Event) -> Row {
    Row {
        table: Table::History,
        key: position_key(revision, position),
        value: history_value(clock, event),
    }
}
