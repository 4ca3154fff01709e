//! Idempotency records as rows and back.
//!
//! Owns the conversion, by hand like every other. A row that cannot be read is damage, never a guess.

use bytes::Bytes;

use crate::ids::{Clock, Fence, LeaseId, Revision};
use crate::record::{
    self, BrokenHoldRecord, BrokenRecord, DoneGetRecord, DoneKind, DonePutRecord, DoneRecord,
    FenceRef, HandedOverRecord, LimitedRecord, RefusedKind, RefusedRecord, RepeatRow,
    RevisionsRecord, RevokedRecord, SeenRecord, VerdictRecord, WrittenRecord,
};
use crate::repeats::{BrokenHold, Done, Refused, Repeat, Seen, Verdict};
use crate::rows;

pub(crate) fn row(repeat: &Repeat) -> RepeatRow {
    RepeatRow {
        digest: Bytes::copy_from_slice(&repeat.digest.to_be_bytes()),
        deadline: repeat.deadline.0,
        verdict: Some(verdict_record(&repeat.verdict)),
    }
}

pub(crate) fn repeat(row: RepeatRow) -> Option<Repeat> {
    Some(Repeat {
        digest: u128::from_be_bytes(row.digest[..].try_into().ok()?),
        deadline: Clock(row.deadline),
        verdict: verdict(row.verdict?)?,
    })
}

fn verdict_record(verdict: &Verdict) -> VerdictRecord {
    match verdict {
        Verdict::Granted(lease) => VerdictRecord::Granted(lease.number()),
        Verdict::Revoked {
            ended_count,
            revision,
        } => VerdictRecord::Revoked(RevokedRecord {
            ended_count: *ended_count,
            revision: revision.0,
        }),
        Verdict::Written {
            succeeded,
            done,
            revision,
        } => VerdictRecord::Written(WrittenRecord {
            succeeded: *succeeded,
            done: done.iter().map(done_record).collect(),
            revision: revision.0,
        }),
        Verdict::Proclaimed { revision } => VerdictRecord::Proclaimed(revision.0),
        Verdict::HandedOver { lease, revision } => VerdictRecord::HandedOver(HandedOverRecord {
            lease: lease.number(),
            revision: revision.0,
        }),
        Verdict::Broken {
            broken,
            delay_until,
            revision,
        } => VerdictRecord::Broken(BrokenRecord {
            broken: broken.iter().map(broken_hold_record).collect(),
            delay_until: delay_until.map(|until| until.0),
            revision: revision.0,
        }),
        Verdict::Compacted {
            compact_revision,
            revision,
        } => VerdictRecord::Compacted(RevisionsRecord {
            revision: compact_revision.0,
            present: revision.0,
        }),
        Verdict::Limited { limits, revision } => VerdictRecord::Limited(LimitedRecord {
            limits: Some(rows::limits_row(limits)),
            revision: revision.0,
        }),
        Verdict::Refused(refused) => VerdictRecord::Refused(RefusedRecord {
            refused: Some(refused_record(*refused)),
        }),
    }
}

fn verdict(record: VerdictRecord) -> Option<Verdict> {
    Some(match record {
        VerdictRecord::Granted(lease) => Verdict::Granted(LeaseId::new(lease)?),
        VerdictRecord::Revoked(record) => Verdict::Revoked {
            ended_count: record.ended_count,
            revision: Revision(record.revision),
        },
        VerdictRecord::Written(record) => Verdict::Written {
            succeeded: record.succeeded,
            done: record.done.into_iter().map(done).collect::<Option<_>>()?,
            revision: Revision(record.revision),
        },
        VerdictRecord::Proclaimed(revision) => Verdict::Proclaimed {
            revision: Revision(revision),
        },
        VerdictRecord::HandedOver(record) => Verdict::HandedOver {
            lease: LeaseId::new(record.lease)?,
            revision: Revision(record.revision),
        },
        VerdictRecord::Broken(record) => Verdict::Broken {
            broken: record
                .broken
                .into_iter()
                .map(broken_hold)
                .collect::<Option<_>>()?,
            delay_until: record.delay_until.map(Clock),
            revision: Revision(record.revision),
        },
        VerdictRecord::Compacted(record) => Verdict::Compacted {
            compact_revision: Revision(record.revision),
            revision: Revision(record.present),
        },
        VerdictRecord::Limited(record) => Verdict::Limited {
            limits: Box::new(rows::limits_of(&record.limits?)?),
            revision: Revision(record.revision),
        },
        VerdictRecord::Refused(record) => Verdict::Refused(refused(record.refused?)?),
    })
}

fn done_record(done: &Done) -> DoneRecord {
    let done = match done {
        Done::Put {
            create_revision,
            version,
            created,
        } => DoneKind::Put(DonePutRecord {
            create_revision: create_revision.0,
            version: *version,
            created: *created,
        }),
        Done::Deleted(count) => DoneKind::Deleted(*count),
        Done::Got(seen) => DoneKind::Got(DoneGetRecord {
            seen: seen.map(|seen| SeenRecord {
                create_revision: seen.create_revision.0,
                mod_revision: seen.mod_revision.0,
                version: seen.version,
                lease: seen.lease.map(LeaseId::number),
            }),
        }),
    };
    DoneRecord { done: Some(done) }
}

fn done(record: DoneRecord) -> Option<Done> {
    Some(match record.done? {
        DoneKind::Put(put) => Done::Put {
            create_revision: Revision(put.create_revision),
            version: put.version,
            created: put.created,
        },
        DoneKind::Deleted(count) => Done::Deleted(count),
        DoneKind::Got(DoneGetRecord { seen: None }) => Done::Got(None),
        DoneKind::Got(DoneGetRecord { seen: Some(seen) }) => Done::Got(Some(Seen {
            create_revision: Revision(seen.create_revision),
            mod_revision: Revision(seen.mod_revision),
            version: seen.version,
            lease: rows::optional_lease(seen.lease)?,
        })),
    })
}

fn broken_hold_record(hold: &BrokenHold) -> BrokenHoldRecord {
    BrokenHoldRecord {
        owner: hold.owner.clone(),
        lease: hold.lease.number(),
        lease_name: hold.lease_name.clone(),
        share: Some(record::share_record(hold.share)),
        fence: hold.fence.0,
        deadline: hold.deadline.0,
        acquired_at: hold.acquired_at.map(|clock| clock.0),
    }
}

fn broken_hold(record: BrokenHoldRecord) -> Option<BrokenHold> {
    Some(BrokenHold {
        owner: record.owner,
        lease: LeaseId::new(record.lease)?,
        lease_name: record.lease_name,
        share: rows::share(record.share)?,
        fence: Fence(record.fence),
        acquired_at: record.acquired_at.map(Clock),
        deadline: Clock(record.deadline),
    })
}

fn refused_record(refused: Refused) -> RefusedKind {
    match refused {
        Refused::LeaseNotFound(lease) => RefusedKind::LeaseNotFound(lease.number()),
        Refused::LeaseExpired(lease) => RefusedKind::LeaseExpired(lease.number()),
        Refused::NotHeld => RefusedKind::NotHeld(()),
        Refused::FenceStale(present) => RefusedKind::FenceStale(FenceRef {
            fence: present.map(|fence| fence.0),
        }),
        Refused::ConditionFailed(revision) => RefusedKind::ConditionFailed(revision.0),
        Refused::KeyOnOtherLease(lease) => RefusedKind::KeyOnOtherLease(lease.number()),
        Refused::KeyNotFound => RefusedKind::KeyNotFound(()),
        Refused::RevisionAhead { asked, present } => RefusedKind::RevisionAhead(RevisionsRecord {
            revision: asked.0,
            present: present.0,
        }),
    }
}

fn refused(record: RefusedKind) -> Option<Refused> {
    Some(match record {
        RefusedKind::LeaseNotFound(lease) => Refused::LeaseNotFound(LeaseId::new(lease)?),
        RefusedKind::LeaseExpired(lease) => Refused::LeaseExpired(LeaseId::new(lease)?),
        RefusedKind::NotHeld(()) => Refused::NotHeld,
        RefusedKind::FenceStale(present) => Refused::FenceStale(present.fence.map(Fence)),
        RefusedKind::ConditionFailed(revision) => Refused::ConditionFailed(Revision(revision)),
        RefusedKind::KeyOnOtherLease(lease) => Refused::KeyOnOtherLease(LeaseId::new(lease)?),
        RefusedKind::KeyNotFound(()) => Refused::KeyNotFound,
        RefusedKind::RevisionAhead(record) => Refused::RevisionAhead {
            asked: Revision(record.revision),
            present: Revision(record.present),
        },
    })
}
