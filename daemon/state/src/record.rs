//! The protobuf structs of entries and rows. Tags are part of the wire and disk formats: never changed nor used again.
//!
//! Owns shapes and the two small conversions that entries and rows share; `codec` and `rows` convert the rest.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::access_record::ChangeAccessRecord;
use crate::command::Share;
use crate::ids::Kind;

/// The kind of a number.
pub(crate) fn kind(number: u32) -> Option<Kind> {
    [Kind::Lock, Kind::Semaphore, Kind::Election]
        .into_iter()
        .find(|kind| *kind as u32 == number)
}

/// A share as it is written.
pub(crate) fn share_record(share: Share) -> ShareRecord {
    match share {
        Share::Exclusive => ShareRecord {
            how: 1,
            permits: 0,
            limit: 0,
        },
        Share::Shared => ShareRecord {
            how: 2,
            permits: 0,
            limit: 0,
        },
        Share::Permits { permits, limit } => ShareRecord {
            how: 3,
            permits,
            limit,
        },
    }
}

/// The share that is written.
pub(crate) fn share(record: ShareRecord) -> Option<Share> {
    match record.how {
        1 => Some(Share::Exclusive),
        2 => Some(Share::Shared),
        3 => Some(Share::Permits {
            permits: record.permits,
            limit: record.limit,
        }),
        _ => None,
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShareRecord {
    #[prost(uint32, tag = "1")]
    pub how: u32,
    #[prost(uint64, tag = "2")]
    pub permits: u64,
    #[prost(uint64, tag = "3")]
    pub limit: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchRecord {
    #[prost(message, repeated, tag = "1")]
    pub renewals: Vec<RenewalsRecord>,
    #[prost(message, repeated, tag = "2")]
    pub requests: Vec<RequestRecord>,
}

/// Renewals of one identity that came through one member, in their order: thousands of them are a few kilobytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RenewalsRecord {
    #[prost(fixed64, tag = "1")]
    pub member: u64,
    #[prost(fixed64, repeated, tag = "2")]
    pub tokens: Vec<u64>,
    #[prost(fixed64, repeated, tag = "3")]
    pub leases: Vec<u64>,
    #[prost(string, optional, tag = "4")]
    pub identity: Option<String>,
    #[prost(fixed64, optional, tag = "5")]
    pub credential: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestRecord {
    #[prost(fixed64, tag = "1")]
    pub member: u64,
    #[prost(fixed64, tag = "2")]
    pub token: u64,
    #[prost(message, optional, tag = "3")]
    pub idempotency: Option<IdempotencyRecord>,
    #[prost(
        oneof = "CommandRecord",
        tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 18"
    )]
    pub command: Option<CommandRecord>,
    /// Who asked; absent is nobody in particular.
    #[prost(string, optional, tag = "16")]
    pub identity: Option<String>,
    /// The token of the identity, if it proved itself by one.
    #[prost(fixed64, optional, tag = "17")]
    pub credential: Option<u64>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CommandRecord {
    #[prost(message, tag = "4")]
    GrantLease(NewLeaseRecord),
    #[prost(fixed64, tag = "5")]
    RevokeLease(u64),
    #[prost(message, tag = "6")]
    Acquire(AcquireRecord),
    #[prost(message, tag = "7")]
    Release(ReleaseRecord),
    #[prost(message, tag = "8")]
    Transaction(TransactionRecord),
    #[prost(message, tag = "9")]
    ChangeLease(ChangeLeaseRecord),
    #[prost(message, tag = "10")]
    Break(BreakRecord),
    #[prost(message, tag = "11")]
    Proclaim(ProclaimRecord),
    #[prost(message, tag = "12")]
    HandOver(HandOverRecord),
    #[prost(uint64, tag = "13")]
    Compact(u64),
    #[prost(message, tag = "14")]
    ChangeLimits(ChangeLimitsRecord),
    #[prost(message, tag = "15")]
    ChangeAccess(ChangeAccessRecord),
    /// A program that does not know the version, or nothing of versions, stops here.
    #[prost(uint64, tag = "18")]
    RaiseVersion(u64),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangeLimitsRecord {
    #[prost(btree_map = "string, uint64", tag = "1")]
    pub limits: BTreeMap<String, u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangeLeaseRecord {
    #[prost(fixed64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub ttl_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BreakRecord {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub fence: u64,
    /// With `owner`, the one hold that ends.
    #[prost(fixed64, optional, tag = "4")]
    pub lease: Option<u64>,
    #[prost(string, tag = "5")]
    pub owner: String,
    #[prost(bool, tag = "6")]
    pub now: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProclaimRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(fixed64, tag = "2")]
    pub lease: u64,
    #[prost(string, tag = "3")]
    pub candidate: String,
    #[prost(uint64, tag = "4")]
    pub fence: u64,
    #[prost(string, tag = "5")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandOverRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(fixed64, tag = "2")]
    pub lease: u64,
    #[prost(string, tag = "3")]
    pub candidate: String,
    #[prost(uint64, tag = "4")]
    pub fence: u64,
    #[prost(string, tag = "5")]
    pub to: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IdempotencyRecord {
    #[prost(string, tag = "1")]
    pub identity: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub digest: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NewLeaseRecord {
    #[prost(fixed64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub ttl_ms: u64,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WantedRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub share: Option<ShareRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AcquireRecord {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(message, repeated, tag = "2")]
    pub wanted: Vec<WantedRecord>,
    #[prost(oneof = "ClaimRecord", tags = "3, 4")]
    pub claim: Option<ClaimRecord>,
    #[prost(string, tag = "5")]
    pub owner: String,
    #[prost(uint64, tag = "6")]
    pub wait_ms: u64,
    #[prost(sint32, tag = "7")]
    pub priority: i32,
    #[prost(btree_map = "string, string", tag = "8")]
    pub metadata: BTreeMap<String, String>,
    #[prost(uint64, tag = "9")]
    pub lock_delay_ms: u64,
    #[prost(string, tag = "10")]
    pub value: String,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ClaimRecord {
    #[prost(fixed64, tag = "3")]
    Lease(u64),
    #[prost(message, tag = "4")]
    Grant(NewLeaseRecord),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseRecord {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(fixed64, tag = "3")]
    pub lease: u64,
    #[prost(string, tag = "4")]
    pub owner: String,
    #[prost(uint64, optional, tag = "5")]
    pub fence: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TransactionRecord {
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<ConditionRecord>,
    #[prost(message, repeated, tag = "2")]
    pub then: Vec<OperationRecord>,
    #[prost(message, repeated, tag = "3")]
    pub otherwise: Vec<OperationRecord>,
    #[prost(message, optional, tag = "4")]
    pub guard: Option<GuardRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GuardRecord {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub fence: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConditionRecord {
    #[prost(oneof = "ConditionKind", tags = "1, 2, 3")]
    pub condition: Option<ConditionKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ConditionKind {
    #[prost(message, tag = "1")]
    Key(KeyConditionRecord),
    #[prost(message, tag = "2")]
    Held(GuardRecord),
    #[prost(fixed64, tag = "3")]
    LeaseLive(u64),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyConditionRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(uint32, tag = "2")]
    pub compare: u32,
    #[prost(oneof = "FieldRecord", tags = "3, 4, 5, 6, 7")]
    pub field: Option<FieldRecord>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum FieldRecord {
    #[prost(bytes = "bytes", tag = "3")]
    Value(Bytes),
    #[prost(uint64, tag = "4")]
    Version(u64),
    #[prost(uint64, tag = "5")]
    CreateRevision(u64),
    #[prost(uint64, tag = "6")]
    ModRevision(u64),
    #[prost(message, tag = "7")]
    Lease(LeaseRef),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRef {
    #[prost(fixed64, optional, tag = "1")]
    pub lease: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperationRecord {
    #[prost(oneof = "OperationKind", tags = "1, 2, 3, 4")]
    pub operation: Option<OperationKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum OperationKind {
    #[prost(message, tag = "1")]
    Put(PutRecord),
    #[prost(bytes = "bytes", tag = "2")]
    Delete(Bytes),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeRecord),
    #[prost(bytes = "bytes", tag = "4")]
    Get(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(string, optional, tag = "3")]
    pub content_type: Option<String>,
    #[prost(fixed64, optional, tag = "4")]
    pub lease: Option<u64>,
    #[prost(bool, tag = "5")]
    pub refuse_other_lease: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteRangeRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub end: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LimitsRow {
    #[prost(uint64, repeated, tag = "1")]
    pub values: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRow {
    #[prost(uint64, tag = "1")]
    pub ttl_ms: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
    #[prost(uint64, tag = "4")]
    pub granted_revision: u64,
    #[prost(uint64, optional, tag = "5")]
    pub attached_revision: Option<u64>,
    #[prost(uint32, tag = "6")]
    pub slot: u32,
    #[prost(string, optional, tag = "7")]
    pub identity: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueueRow {
    #[prost(uint64, optional, tag = "1")]
    pub last_fence: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub exclusive_fence: Option<u64>,
    #[prost(uint64, tag = "3")]
    pub mod_revision: u64,
    #[prost(uint64, optional, tag = "4")]
    pub delay_until: Option<u64>,
    #[prost(string, tag = "5")]
    pub delay_name: String,
    #[prost(string, optional, tag = "6")]
    pub delay_identity: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HoldRow {
    #[prost(message, optional, tag = "1")]
    pub share: Option<ShareRecord>,
    #[prost(uint64, tag = "2")]
    pub fence: u64,
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
    #[prost(uint64, tag = "4")]
    pub lock_delay_ms: u64,
    #[prost(string, tag = "5")]
    pub value: String,
    #[prost(uint64, optional, tag = "6")]
    pub acquired_at: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PlaceRow {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(message, repeated, tag = "2")]
    pub wanted: Vec<WantedRecord>,
    #[prost(fixed64, tag = "3")]
    pub lease: u64,
    #[prost(string, tag = "4")]
    pub owner: String,
    #[prost(sint32, tag = "5")]
    pub priority: i32,
    #[prost(uint64, tag = "6")]
    pub wait_deadline: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    pub metadata: BTreeMap<String, String>,
    #[prost(uint64, tag = "8")]
    pub lock_delay_ms: u64,
    #[prost(string, tag = "9")]
    pub value: String,
    #[prost(uint64, optional, tag = "10")]
    pub queued_at: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EndedRow {
    #[prost(fixed64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub clock: u64,
}

/// A row of history. The revision is in the row's key; the clock is that of the entry, for retention.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistoryRow {
    #[prost(uint64, tag = "1")]
    pub clock: u64,
    #[prost(oneof = "EventRecord", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub event: Option<EventRecord>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum EventRecord {
    #[prost(message, tag = "2")]
    Put(KeyRecord),
    #[prost(message, tag = "3")]
    Delete(DeleteRecord),
    #[prost(message, tag = "4")]
    Granted(StandingRecord),
    #[prost(message, tag = "5")]
    Queued(StandingRecord),
    #[prost(message, tag = "6")]
    Released(GoneRecord),
    #[prost(message, tag = "7")]
    Left(GoneRecord),
    #[prost(message, tag = "8")]
    LeaseGranted(NewLeaseRecord),
    #[prost(message, tag = "9")]
    LeaseEnded(LeaseEndRecord),
    #[prost(message, tag = "10")]
    Proclaimed(ProclaimedRecord),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProclaimedRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub candidate: String,
    #[prost(uint64, tag = "3")]
    pub fence: u64,
    #[prost(string, tag = "4")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(string, optional, tag = "3")]
    pub content_type: Option<String>,
    #[prost(uint64, tag = "4")]
    pub create_revision: u64,
    #[prost(uint64, tag = "5")]
    pub version: u64,
    #[prost(fixed64, optional, tag = "6")]
    pub lease: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(fixed64, optional, tag = "2")]
    pub lease: Option<u64>,
    #[prost(uint32, tag = "3")]
    pub reason: u32,
}

/// A grant or a place: what is held or waited for, and by whom.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StandingRecord {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub owner: String,
    #[prost(fixed64, tag = "4")]
    pub lease: u64,
    #[prost(string, tag = "5")]
    pub lease_name: String,
    #[prost(btree_map = "string, string", tag = "6")]
    pub metadata: BTreeMap<String, String>,
    #[prost(message, optional, tag = "7")]
    pub share: Option<ShareRecord>,
    #[prost(uint64, tag = "8")]
    pub fence: u64,
    #[prost(sint32, tag = "9")]
    pub priority: i32,
    #[prost(string, tag = "10")]
    pub value: String,
}

/// A hold or a place that ended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GoneRecord {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub owner: String,
    #[prost(fixed64, tag = "4")]
    pub lease: u64,
    #[prost(uint64, tag = "5")]
    pub fence: u64,
    #[prost(uint32, tag = "6")]
    pub reason: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseEndRecord {
    #[prost(fixed64, tag = "1")]
    pub lease: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint32, tag = "3")]
    pub reason: u32,
}

/// An idempotency record. Its identity and key are in the row's key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatRow {
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: Bytes,
    #[prost(uint64, tag = "2")]
    pub deadline: u64,
    #[prost(oneof = "VerdictRecord", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub verdict: Option<VerdictRecord>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum VerdictRecord {
    #[prost(fixed64, tag = "3")]
    Granted(u64),
    #[prost(message, tag = "4")]
    Revoked(RevokedRecord),
    #[prost(message, tag = "5")]
    Written(WrittenRecord),
    #[prost(uint64, tag = "6")]
    Proclaimed(u64),
    #[prost(message, tag = "7")]
    HandedOver(HandedOverRecord),
    #[prost(message, tag = "8")]
    Broken(BrokenRecord),
    #[prost(message, tag = "9")]
    Compacted(RevisionsRecord),
    #[prost(message, tag = "10")]
    Limited(LimitedRecord),
    #[prost(message, tag = "11")]
    Refused(RefusedRecord),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RevokedRecord {
    #[prost(uint64, tag = "1")]
    pub ended_count: u64,
    #[prost(uint64, tag = "2")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WrittenRecord {
    #[prost(bool, tag = "1")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "2")]
    pub done: Vec<DoneRecord>,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DoneRecord {
    #[prost(oneof = "DoneKind", tags = "1, 2, 3")]
    pub done: Option<DoneKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum DoneKind {
    #[prost(message, tag = "1")]
    Put(DonePutRecord),
    #[prost(uint64, tag = "2")]
    Deleted(u64),
    #[prost(message, tag = "3")]
    Got(DoneGetRecord),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DonePutRecord {
    #[prost(uint64, tag = "1")]
    pub create_revision: u64,
    #[prost(uint64, tag = "2")]
    pub version: u64,
    #[prost(bool, tag = "3")]
    pub created: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DoneGetRecord {
    #[prost(message, optional, tag = "1")]
    pub seen: Option<SeenRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SeenRecord {
    #[prost(uint64, tag = "1")]
    pub create_revision: u64,
    #[prost(uint64, tag = "2")]
    pub mod_revision: u64,
    #[prost(uint64, tag = "3")]
    pub version: u64,
    #[prost(fixed64, optional, tag = "4")]
    pub lease: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandedOverRecord {
    #[prost(fixed64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BrokenRecord {
    #[prost(message, repeated, tag = "1")]
    pub broken: Vec<BrokenHoldRecord>,
    #[prost(uint64, optional, tag = "2")]
    pub delay_until: Option<u64>,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BrokenHoldRecord {
    #[prost(string, tag = "1")]
    pub owner: String,
    #[prost(fixed64, tag = "2")]
    pub lease: u64,
    #[prost(string, tag = "3")]
    pub lease_name: String,
    #[prost(message, optional, tag = "4")]
    pub share: Option<ShareRecord>,
    #[prost(uint64, tag = "5")]
    pub fence: u64,
    #[prost(uint64, tag = "6")]
    pub deadline: u64,
    #[prost(uint64, optional, tag = "7")]
    pub acquired_at: Option<u64>,
}

/// A revision asked for or reached, and the present one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RevisionsRecord {
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    #[prost(uint64, tag = "2")]
    pub present: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LimitedRecord {
    #[prost(message, optional, tag = "1")]
    pub limits: Option<LimitsRow>,
    #[prost(uint64, tag = "2")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RefusedRecord {
    #[prost(oneof = "RefusedKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub refused: Option<RefusedKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum RefusedKind {
    #[prost(fixed64, tag = "1")]
    LeaseNotFound(u64),
    #[prost(fixed64, tag = "2")]
    LeaseExpired(u64),
    #[prost(message, tag = "3")]
    NotHeld(()),
    #[prost(message, tag = "4")]
    FenceStale(FenceRef),
    #[prost(uint64, tag = "5")]
    ConditionFailed(u64),
    #[prost(fixed64, tag = "6")]
    KeyOnOtherLease(u64),
    #[prost(message, tag = "7")]
    KeyNotFound(()),
    #[prost(message, tag = "8")]
    RevisionAhead(RevisionsRecord),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FenceRef {
    #[prost(uint64, optional, tag = "1")]
    pub fence: Option<u64>,
}
