//! Limits and compaction (`api.md` §8).

use tenure_api::{self as api, ChangeLimits, MAX_REVISION};
use tenure_state::{Answer, Command, Limits, Revision};

use super::acquiring::in_range;
use super::audit::{Act, Audit};
use super::failure::{Failure, Purpose};
use super::reading::Reading;
use super::reply::Reply;
use super::rights::Needed;
use super::service::Context;

/// `GET /v1/limits`
pub(super) async fn read_limits(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let settled = reading.settle(&cx, &Needed::NOTHING).await?;
    let (limits, revision) = cx.read(&Needed::NOTHING, |state| {
        (state.limits().clone(), state.revision())
    })?;
    Ok(settled.mark(in_force(&limits, revision)?))
}

/// `PATCH /v1/limits`
pub(super) async fn change_limits(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: ChangeLimits = cx.json().await?;
    let asked = asked.given();
    // What no cluster accepts is not proposed. Whether limits agree with those in force is decided where they are.
    let mut probe = Limits::default();
    for (name, value) in &asked {
        probe
            .set(name, *value)
            .map_err(|error| Failure::limits(&error))?;
    }
    let in_words: Vec<String> = asked
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let act = Act::Change {
        what: "limits",
        asked: in_words.join(", "),
    };
    let audit = Audit::of(&cx, act);
    let changes = asked
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let command = Command::ChangeLimits(changes.collect());
    let decided = cx.submit(command, Purpose::Write).await;
    let result = decided.and_then(|decided| match decided.outcome {
        Ok(Answer::Limits { limits, revision }) => Ok((limits, revision)),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    });
    audit.tell(&result, &[]);
    let (limits, revision) = result?;
    in_force(&limits, revision)
}

/// `POST /v1/compact`
pub(super) async fn compact(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::Compact = cx.json().await?;
    in_range("revision", asked.revision, 0, MAX_REVISION - 1)?;
    let revision = Revision(asked.revision);
    let act = Act::Change {
        what: "compaction",
        asked: format!("to revision {revision}"),
    };
    let audit = Audit::of(&cx, act);
    let decided = cx
        .submit(Command::Compact { revision }, Purpose::Write)
        .await;
    let result = decided.and_then(|decided| match decided.outcome {
        Ok(Answer::Compacted {
            compact_revision,
            revision,
        }) => Ok((compact_revision, revision)),
        Ok(_) => Err(Failure::unexpected()),
        Err(refusal) => Err(Failure::refused(refusal, decided.clock, decided.revision)),
    });
    audit.tell(&result, &[]);
    let (compact_revision, revision) = result?;
    let compacted = api::Compacted {
        compact_revision: compact_revision.0,
        revision: revision.0,
    };
    Reply::json(200, revision, &compacted)
}

fn in_force(limits: &Limits, revision: Revision) -> Result<Reply, Failure> {
    let shown = api::LimitsInForce {
        limits: shown(limits),
        revision: revision.0,
    };
    Reply::json(200, revision, &shown)
}

/// Limits as they are written. Each is named, so that one that is added is not forgotten here.
fn shown(limits: &Limits) -> api::Limits {
    let Limits {
        value_bytes,
        request_bytes,
        keys_per_revision,
        attached_per_lease,
        txn_conditions,
        txn_operations,
        history_retention_ms,
        history_bytes,
        idempotency_retention_ms,
        idempotency_records,
        keys,
        key_bytes,
        leases,
        waiters,
        watchers,
        standing_bytes,
    } = *limits;
    api::Limits {
        value_bytes,
        request_bytes,
        keys_per_revision,
        attached_per_lease,
        txn_conditions,
        txn_operations,
        history_retention_ms,
        history_bytes,
        idempotency_retention_ms,
        idempotency_records,
        keys,
        key_bytes,
        leases,
        waiters,
        watchers,
        standing_bytes,
    }
}
