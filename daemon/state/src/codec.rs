//! Entries and forwarded requests as bytes.
//!
//! Owns the wire form of commands: a version byte, then protobuf. Conversion is by hand, so that the inside can change
//! freely; decoding is total: whatever the bytes, it ends in a batch or an error. Never looks at the state.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::access::{Principal, TokenId};
use crate::access_record;
use crate::command::{
    Acquire, Batch, Break, Claim, Command, Compare, Condition, Field, Guard, HandOver,
    IdempotencyKey, NewLease, Operation, Proclaim, Put, Release, Renewal, Request, Transaction,
    Wanted,
};
use crate::ids::{Fence, LeaseId, Origin, Revision};
use crate::record::{
    self, AcquireRecord, BatchRecord, BreakRecord, ChangeLeaseRecord, ChangeLimitsRecord,
    ConditionRecord, DeleteRangeRecord, GuardRecord, HandOverRecord, IdempotencyRecord,
    KeyConditionRecord, LeaseRef, NewLeaseRecord, OperationRecord, ProclaimRecord, PutRecord,
    ReleaseRecord, RenewalsRecord, RequestRecord, TransactionRecord, WantedRecord,
};

/// The version of the form, first of all bytes.
const VERSION: u8 = 1;

/// Why bytes are not an entry or a request of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// There is nothing.
    #[error("a command of no bytes")]
    Empty,
    /// A newer or older version wrote it.
    #[error("a command in format {found}, where {VERSION} is known")]
    Version {
        /// The version found.
        found: u8,
    },
    /// The bytes are not of the form.
    #[error("a damaged command: {0}")]
    Malformed(String),
    /// A value is outside what it may be.
    #[error("a command with an invalid {0}")]
    Invalid(&'static str),
}

/// The bytes of an entry.
pub fn encode_batch(batch: &Batch) -> Bytes {
    let mut renewals: Vec<RenewalsRecord> = Vec::new();
    let mut last_principal = None;
    for renewal in &batch.renewals {
        let is_of_last = |last: &&mut RenewalsRecord| {
            last.member == renewal.origin.member && last_principal == Some(&renewal.principal)
        };
        match renewals.last_mut().filter(is_of_last) {
            Some(last) => {
                last.tokens.push(renewal.origin.token);
                last.leases.push(renewal.lease.number());
            }
            None => {
                let (identity, credential) = principal_record(&renewal.principal);
                last_principal = Some(&renewal.principal);
                renewals.push(RenewalsRecord {
                    member: renewal.origin.member,
                    tokens: vec![renewal.origin.token],
                    leases: vec![renewal.lease.number()],
                    identity,
                    credential,
                });
            }
        }
    }
    encode(&BatchRecord {
        renewals,
        requests: batch.requests.iter().map(request_record).collect(),
    })
}

/// The entry of some bytes.
///
/// # Errors
///
/// Where they are not an entry of this version.
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, CodecError> {
    let record: BatchRecord = decode(bytes)?;
    let mut batch = Batch::default();
    for group in record.renewals {
        if group.tokens.len() != group.leases.len() {
            return Err(CodecError::Invalid("group of renewals"));
        }
        let principal = principal(group.identity.as_deref(), group.credential)?;
        for (token, lease) in group.tokens.into_iter().zip(group.leases) {
            batch.renewals.push(Renewal {
                origin: Origin {
                    member: group.member,
                    token,
                },
                principal: principal.clone(),
                lease: lease_id(lease)?,
            });
        }
    }
    batch.requests = record
        .requests
        .into_iter()
        .map(request)
        .collect::<Result<_, _>>()?;
    Ok(batch)
}

/// The bytes of a request that is forwarded to the leader.
pub fn encode_request(request: &Request) -> Bytes {
    encode(&request_record(request))
}

/// The request of some bytes.
///
/// # Errors
///
/// Where they are not a request of this version.
pub fn decode_request(bytes: &[u8]) -> Result<Request, CodecError> {
    request(decode(bytes)?)
}

fn encode(record: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + record.encoded_len());
    out.put_u8(VERSION);
    record.encode_raw(&mut out);
    out.freeze()
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, body)) => {
            M::decode(body).map_err(|error| CodecError::Malformed(error.to_string()))
        }
        Some((&found, _)) => Err(CodecError::Version { found }),
    }
}

fn lease_id(number: u64) -> Result<LeaseId, CodecError> {
    LeaseId::new(number).ok_or(CodecError::Invalid("lease id"))
}

fn principal_record(principal: &Principal) -> (Option<String>, Option<u64>) {
    let identity = principal.identity().map(str::to_owned);
    (identity, principal.token().map(|token| token.0))
}

fn principal(identity: Option<&str>, credential: Option<u64>) -> Result<Principal, CodecError> {
    match (identity, credential) {
        (Some(identity), token) => Ok(Principal::of(identity, token.map(TokenId))),
        (None, None) => Ok(Principal::anonymous()),
        (None, Some(_)) => Err(CodecError::Invalid("token of nobody")),
    }
}

fn request_record(request: &Request) -> RequestRecord {
    use record::CommandRecord as Record;
    let command = match &request.command {
        Command::GrantLease(new) => Record::GrantLease(new_lease_record(new)),
        Command::RevokeLease { lease } => Record::RevokeLease(lease.number()),
        Command::Acquire(acquire) => Record::Acquire(acquire_record(acquire)),
        Command::Release(release) => Record::Release(ReleaseRecord {
            kind: release.kind as u32,
            name: release.name.clone(),
            lease: release.lease.number(),
            owner: release.owner.clone(),
            fence: release.fence.map(|fence| fence.0),
        }),
        Command::Transaction(transaction) => Record::Transaction(transaction_record(transaction)),
        Command::ChangeLease { lease, ttl_ms } => Record::ChangeLease(ChangeLeaseRecord {
            lease: lease.number(),
            ttl_ms: *ttl_ms,
        }),
        Command::Break(broken) => Record::Break(break_record(broken)),
        Command::Proclaim(proclaim) => Record::Proclaim(ProclaimRecord {
            name: proclaim.name.clone(),
            lease: proclaim.lease.number(),
            candidate: proclaim.candidate.clone(),
            fence: proclaim.fence.0,
            value: proclaim.value.clone(),
        }),
        Command::HandOver(hand_over) => Record::HandOver(HandOverRecord {
            name: hand_over.name.clone(),
            lease: hand_over.lease.number(),
            candidate: hand_over.candidate.clone(),
            fence: hand_over.fence.0,
            to: hand_over.to.clone(),
        }),
        Command::Compact { revision } => Record::Compact(revision.0),
        Command::ChangeLimits(limits) => Record::ChangeLimits(ChangeLimitsRecord {
            limits: limits.clone(),
        }),
        Command::ChangeAccess(change) => Record::ChangeAccess(access_record::change_record(change)),
        Command::RaiseVersion { to } => Record::RaiseVersion(*to),
    };
    let (identity, credential) = principal_record(&request.principal);
    RequestRecord {
        member: request.origin.member,
        token: request.origin.token,
        idempotency: request.idempotency.as_ref().map(|key| IdempotencyRecord {
            identity: key.identity.clone(),
            key: key.key.clone(),
            digest: Bytes::copy_from_slice(&key.digest.to_be_bytes()),
        }),
        command: Some(command),
        identity,
        credential,
    }
}

fn request(record: RequestRecord) -> Result<Request, CodecError> {
    use record::CommandRecord as Record;
    let command = match record
        .command
        .ok_or(CodecError::Invalid("request without a known command"))?
    {
        Record::GrantLease(new) => Command::GrantLease(new_lease(new)?),
        Record::RevokeLease(lease) => Command::RevokeLease {
            lease: lease_id(lease)?,
        },
        Record::Acquire(record) => Command::Acquire(acquire(record)?),
        Record::Release(release) => Command::Release(Release {
            kind: record::kind(release.kind).ok_or(CodecError::Invalid("kind"))?,
            name: release.name,
            lease: lease_id(release.lease)?,
            owner: release.owner,
            fence: release.fence.map(Fence),
        }),
        Record::Transaction(record) => Command::Transaction(transaction(record)?),
        Record::ChangeLease(record) => Command::ChangeLease {
            lease: lease_id(record.lease)?,
            ttl_ms: record.ttl_ms,
        },
        Record::Break(record) => Command::Break(broken(record)?),
        Record::Proclaim(record) => Command::Proclaim(Proclaim {
            name: record.name,
            lease: lease_id(record.lease)?,
            candidate: record.candidate,
            fence: Fence(record.fence),
            value: record.value,
        }),
        Record::HandOver(record) => Command::HandOver(HandOver {
            name: record.name,
            lease: lease_id(record.lease)?,
            candidate: record.candidate,
            fence: Fence(record.fence),
            to: record.to,
        }),
        Record::Compact(revision) => Command::Compact {
            revision: Revision(revision),
        },
        Record::ChangeLimits(record) => Command::ChangeLimits(record.limits),
        Record::ChangeAccess(record) => Command::ChangeAccess(
            access_record::change(record).ok_or(CodecError::Invalid("change of access"))?,
        ),
        Record::RaiseVersion(to) => Command::RaiseVersion { to },
    };
    Ok(Request {
        origin: Origin {
            member: record.member,
            token: record.token,
        },
        principal: principal(record.identity.as_deref(), record.credential)?,
        idempotency: record.idempotency.map(idempotency).transpose()?,
        command,
    })
}

fn break_record(broken: &Break) -> BreakRecord {
    let (lease, owner) = match &broken.holder {
        Some((lease, owner)) => (Some(lease.number()), owner.clone()),
        None => (None, String::new()),
    };
    BreakRecord {
        kind: broken.kind as u32,
        name: broken.name.clone(),
        fence: broken.fence.0,
        lease,
        owner,
        now: broken.now,
    }
}

fn broken(record: BreakRecord) -> Result<Break, CodecError> {
    let lease = record.lease.map(lease_id).transpose()?;
    Ok(Break {
        kind: record::kind(record.kind).ok_or(CodecError::Invalid("kind"))?,
        name: record.name,
        fence: Fence(record.fence),
        holder: lease.map(|lease| (lease, record.owner)),
        now: record.now,
    })
}

fn idempotency(record: IdempotencyRecord) -> Result<IdempotencyKey, CodecError> {
    let digest = record.digest[..]
        .try_into()
        .map_err(|_| CodecError::Invalid("digest of a request"))?;
    Ok(IdempotencyKey {
        identity: record.identity,
        key: record.key,
        digest: u128::from_be_bytes(digest),
    })
}

fn new_lease_record(new: &NewLease) -> NewLeaseRecord {
    NewLeaseRecord {
        lease: new.lease.number(),
        ttl_ms: new.ttl_ms,
        name: new.name.clone(),
        metadata: new.metadata.clone(),
    }
}

fn new_lease(record: NewLeaseRecord) -> Result<NewLease, CodecError> {
    Ok(NewLease {
        lease: lease_id(record.lease)?,
        ttl_ms: record.ttl_ms,
        name: record.name,
        metadata: record.metadata,
    })
}

fn acquire_record(acquire: &Acquire) -> AcquireRecord {
    use record::ClaimRecord;
    let wanted = acquire.wanted.iter();
    AcquireRecord {
        kind: acquire.kind as u32,
        wanted: wanted
            .map(|wanted| WantedRecord {
                name: wanted.name.clone(),
                share: Some(record::share_record(wanted.share)),
            })
            .collect(),
        claim: Some(match &acquire.claim {
            Claim::Lease(lease) => ClaimRecord::Lease(lease.number()),
            Claim::Grant(new) => ClaimRecord::Grant(new_lease_record(new)),
        }),
        owner: acquire.owner.clone(),
        wait_ms: acquire.wait_ms,
        priority: acquire.priority,
        metadata: acquire.metadata.clone(),
        lock_delay_ms: acquire.lock_delay_ms,
        value: acquire.value.clone(),
    }
}

fn acquire(record: AcquireRecord) -> Result<Acquire, CodecError> {
    use record::ClaimRecord;
    let claim = match record
        .claim
        .ok_or(CodecError::Invalid("acquire without a lease"))?
    {
        ClaimRecord::Lease(lease) => Claim::Lease(lease_id(lease)?),
        ClaimRecord::Grant(new) => Claim::Grant(new_lease(new)?),
    };
    let wanted = record.wanted.into_iter().map(|wanted| {
        let share = wanted
            .share
            .and_then(record::share)
            .ok_or(CodecError::Invalid("share"))?;
        Ok(Wanted {
            name: wanted.name,
            share,
        })
    });
    Ok(Acquire {
        kind: record::kind(record.kind).ok_or(CodecError::Invalid("kind"))?,
        wanted: wanted.collect::<Result<_, CodecError>>()?,
        claim,
        owner: record.owner,
        wait_ms: record.wait_ms,
        priority: record.priority,
        metadata: record.metadata,
        lock_delay_ms: record.lock_delay_ms,
        value: record.value,
    })
}

fn transaction_record(transaction: &Transaction) -> TransactionRecord {
    TransactionRecord {
        conditions: transaction
            .conditions
            .iter()
            .map(condition_record)
            .collect(),
        then: transaction.then.iter().map(operation_record).collect(),
        otherwise: transaction.otherwise.iter().map(operation_record).collect(),
        guard: transaction.guard.as_ref().map(guard_record),
    }
}

fn transaction(record: TransactionRecord) -> Result<Transaction, CodecError> {
    let operations = |records: Vec<OperationRecord>| {
        records
            .into_iter()
            .map(operation)
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Transaction {
        conditions: record
            .conditions
            .into_iter()
            .map(condition)
            .collect::<Result<_, _>>()?,
        then: operations(record.then)?,
        otherwise: operations(record.otherwise)?,
        guard: record.guard.map(guard).transpose()?,
    })
}

fn guard_record(guard: &Guard) -> GuardRecord {
    GuardRecord {
        kind: guard.kind as u32,
        name: guard.name.clone(),
        fence: guard.fence.0,
    }
}

fn guard(record: GuardRecord) -> Result<Guard, CodecError> {
    let kind = record::kind(record.kind).ok_or(CodecError::Invalid("kind"))?;
    Ok(Guard {
        kind,
        name: record.name,
        fence: Fence(record.fence),
    })
}

fn condition_record(condition: &Condition) -> ConditionRecord {
    use record::ConditionKind;
    ConditionRecord {
        condition: Some(match condition {
            Condition::Key {
                key,
                field,
                compare,
            } => ConditionKind::Key(KeyConditionRecord {
                key: key.clone(),
                compare: match compare {
                    Compare::Equal => 1,
                    Compare::NotEqual => 2,
                    Compare::Less => 3,
                    Compare::Greater => 4,
                },
                field: Some(field_record(field)),
            }),
            Condition::Held(guard) => ConditionKind::Held(guard_record(guard)),
            Condition::LeaseLive(lease) => ConditionKind::LeaseLive(lease.number()),
        }),
    }
}

fn condition(record: ConditionRecord) -> Result<Condition, CodecError> {
    use record::ConditionKind;
    Ok(
        match record.condition.ok_or(CodecError::Invalid("condition"))? {
            ConditionKind::Key(record) => Condition::Key {
                key: record.key,
                field: field(record.field.ok_or(CodecError::Invalid("field"))?)?,
                compare: match record.compare {
                    1 => Compare::Equal,
                    2 => Compare::NotEqual,
                    3 => Compare::Less,
                    4 => Compare::Greater,
                    _ => return Err(CodecError::Invalid("comparison")),
                },
            },
            ConditionKind::Held(record) => Condition::Held(guard(record)?),
            ConditionKind::LeaseLive(lease) => Condition::LeaseLive(lease_id(lease)?),
        },
    )
}

fn field_record(field: &Field) -> record::FieldRecord {
    use record::FieldRecord as Record;
    match field {
        Field::Value(value) => Record::Value(value.clone()),
        Field::Version(version) => Record::Version(*version),
        Field::CreateRevision(revision) => Record::CreateRevision(*revision),
        Field::ModRevision(revision) => Record::ModRevision(*revision),
        Field::Lease(lease) => Record::Lease(LeaseRef {
            lease: lease.map(LeaseId::number),
        }),
    }
}

fn field(record: record::FieldRecord) -> Result<Field, CodecError> {
    use record::FieldRecord as Record;
    Ok(match record {
        Record::Value(value) => Field::Value(value),
        Record::Version(version) => Field::Version(version),
        Record::CreateRevision(revision) => Field::CreateRevision(revision),
        Record::ModRevision(revision) => Field::ModRevision(revision),
        Record::Lease(LeaseRef { lease }) => Field::Lease(lease.map(lease_id).transpose()?),
    })
}

fn operation_record(operation: &Operation) -> OperationRecord {
    use record::OperationKind;
    OperationRecord {
        operation: Some(match operation {
            Operation::Put(put) => OperationKind::Put(PutRecord {
                key: put.key.clone(),
                value: put.value.clone(),
                content_type: put.content_type.clone(),
                lease: put.lease.map(LeaseId::number),
                refuse_other_lease: put.refuse_other_lease,
            }),
            Operation::Delete { key } => OperationKind::Delete(key.clone()),
            Operation::DeleteRange { start, end } => {
                OperationKind::DeleteRange(DeleteRangeRecord {
                    start: start.clone(),
                    end: end.clone(),
                })
            }
            Operation::Get { key } => OperationKind::Get(key.clone()),
        }),
    }
}

fn operation(record: OperationRecord) -> Result<Operation, CodecError> {
    use record::OperationKind;
    Ok(
        match record.operation.ok_or(CodecError::Invalid("operation"))? {
            OperationKind::Put(put) => Operation::Put(Put {
                key: put.key,
                value: put.value,
                content_type: put.content_type,
                lease: put.lease.map(lease_id).transpose()?,
                refuse_other_lease: put.refuse_other_lease,
            }),
            OperationKind::Delete(key) => Operation::Delete { key },
            OperationKind::DeleteRange(range) => Operation::DeleteRange {
                start: range.start,
                end: range.end,
            },
            OperationKind::Get(key) => Operation::Get { key },
        },
    )
}
