//! `tenured verify`: whether a data directory or a backup is whole, and what is in it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use tenure_raft::{LogIndex, SnapshotMeta};
use tenure_state::{Kind, State};

use super::{OfflineError, members, replay, state_of_backup, utc};
use crate::config::{ReportForm, VerifyFlags};
use crate::storage::{
    BACKUP_FORMAT, Backup, ClusterId, Held, Offline, STATE_IN_BACKUP_FORMAT, Stored,
};

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    kind: &'static str,
    /// Always true: what is damaged has no report.
    whole: bool,
    cluster: Option<String>,
    member: String,
    name: String,
    /// The versions of the formats of its parts.
    formats: BTreeMap<&'static str, u32>,
    made: Option<Made>,
    log: Option<LogReport>,
    state: Option<StateReport>,
}

/// Of a backup.
#[derive(Debug, Serialize)]
struct Made {
    at: String,
    /// The version of the program that made it.
    by_version: String,
}

#[derive(Debug, Serialize)]
struct LogReport {
    /// What its first entry follows: whatever comes before is only in the state.
    begins_behind: u64,
    /// The last entry that counts, which the checkpoint may cover.
    last: u64,
    /// The term of that entry. Of two members the one with the greater term here has the better log, and among equals
    /// the one whose last entry is greater (Raft §5.4.1).
    last_term: u64,
    /// The newest term that the member has heard of, which says nothing of what it has.
    term: u64,
    /// The revision to which the state comes by all of them, committed or not.
    revision: u64,
    /// The version of the rules to which it comes by all of them.
    state_version: u64,
}

#[derive(Debug, Serialize)]
struct StateReport {
    applied_index: u64,
    applied_term: u64,
    clock_ms: u64,
    revision: u64,
    compact_revision: u64,
    digest: String,
    /// The version of the rules that it follows.
    state_version: u64,
    keys: u64,
    leases: u64,
    locks_held: u64,
    semaphores_held: u64,
    elections_held: u64,
    waiting: u64,
    idempotency_records: u64,
    history_bytes: u64,
    members: Vec<MemberReport>,
}

#[derive(Debug, Serialize)]
struct MemberReport {
    name: String,
    member: String,
}

/// Checks files and says what is in them. Writes nothing but what it says.
///
/// # Errors
///
/// Where there is nothing of ours, it is damaged, or a member runs on it.
pub fn verify(flags: &VerifyFlags, out: &mut impl Write) -> Result<(), OfflineError> {
    let path = &flags.path;
    let report = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => data_dir(path)?,
        Ok(_) => backup(path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(nothing(path, "is not there"));
        }
        // Whatever keeps it from being looked at keeps it from being opened, and is told then.
        Err(_) => backup(path)?,
    };
    match flags.output {
        ReportForm::Text => write_text(&report, out)?,
        ReportForm::Json => {
            let json = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
            writeln!(out, "{json}")?;
        }
    }
    Ok(())
}

fn nothing(path: &Path, what: &'static str) -> OfflineError {
    OfflineError::Nothing {
        path: path.to_owned(),
        what,
    }
}

fn backup(path: &Path) -> Result<Report, OfflineError> {
    let backup = Backup::open(path)?;
    let state = state_of_backup(path, backup.rows, backup.digest)?;
    Ok(Report {
        path: path.display().to_string(),
        kind: "backup",
        whole: true,
        cluster: Some(backup.cluster.to_string()),
        member: backup.origin.member.to_string(),
        name: backup.origin.name,
        formats: [("backup", BACKUP_FORMAT), ("state", STATE_IN_BACKUP_FORMAT)].into(),
        made: Some(Made {
            at: utc(backup.origin.unix_ms / 1000),
            by_version: backup.origin.program,
        }),
        log: None,
        state: Some(StateReport::of(&state, &backup.meta)),
    })
}

fn data_dir(path: &Path) -> Result<Report, OfflineError> {
    let held = Held::of(path)?;
    let Some(Offline { label, stored }) = Offline::look(&held)? else {
        return Err(nothing(path, "has no files of a member"));
    };
    let mut formats = BTreeMap::from([("member", label.format)]);
    let (mut log, mut state) = (None, None);
    let mut cluster: Option<ClusterId> = label.cluster;
    if let Some(stored) = stored {
        formats.extend([("log", Stored::LOG_FORMAT), ("state", Stored::STATE_FORMAT)]);
        cluster = Some(stored.identity.cluster);
        // The checkpoint itself, then all of the log: what a start would do.
        let checkpoint = replay(&stored, LogIndex(0))?;
        state = Some(StateReport::of(checkpoint.state(), checkpoint.applied()));
        drop(checkpoint);
        let whole = replay(&stored, LogIndex(u64::MAX))?;
        log = Some(LogReport {
            begins_behind: stored.log.base.position.index.0,
            last: stored.last().index.0,
            last_term: stored.last().term.0,
            term: stored.log.hard_state.term.0,
            revision: whole.state().revision().0,
            state_version: whole.state().version(),
        });
    }
    Ok(Report {
        path: path.display().to_string(),
        kind: "data directory",
        whole: true,
        cluster: cluster.map(|cluster| cluster.to_string()),
        member: label.member.to_string(),
        name: label.name,
        formats,
        made: None,
        log,
        state,
    })
}

impl StateReport {
    fn of(state: &State, meta: &SnapshotMeta) -> StateReport {
        let tally = |kind| state.tally().of(kind);
        let kinds = [Kind::Lock, Kind::Semaphore, Kind::Election];
        let member = |(name, id): (String, tenure_raft::MemberId)| MemberReport {
            name,
            member: id.to_string(),
        };
        StateReport {
            applied_index: meta.position.index.0,
            applied_term: meta.position.term.0,
            clock_ms: state.clock().0,
            revision: state.revision().0,
            compact_revision: state.compact_revision().0,
            digest: format!("{:032x}", state.digest()),
            state_version: state.version(),
            keys: state.key_count(),
            leases: state.lease_count(),
            locks_held: tally(Kind::Lock).held,
            semaphores_held: tally(Kind::Semaphore).held,
            elections_held: tally(Kind::Election).held,
            waiting: kinds.into_iter().map(|kind| tally(kind).waiting).sum(),
            idempotency_records: state.repeat_count(),
            history_bytes: state.history_bytes(),
            members: members(&meta.configuration)
                .into_iter()
                .map(member)
                .collect(),
        }
    }
}

fn write_text(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let formats: Vec<String> = report
        .formats
        .iter()
        .map(|(what, version)| format!("{what} {version}"))
        .collect();
    writeln!(out, "{} is whole", report.path)?;
    let mut line = |what: &str, value: String| writeln!(out, "  {what:<10} {value}");
    line(
        "kind",
        format!("{}, formats: {}", report.kind, formats.join(", ")),
    )?;
    let cluster = report.cluster.as_deref();
    line("cluster", cluster.unwrap_or("none yet").to_owned())?;
    line("member", format!("{} {}", report.name, report.member))?;
    if let Some(made) = &report.made {
        line(
            "made",
            format!("{} by version {}", made.at, made.by_version),
        )?;
    }
    if let Some(state) = &report.state {
        let names: Vec<&str> = state.members.iter().map(|m| m.name.as_str()).collect();
        line("members", names.join(", "))?;
        line(
            "state",
            format!(
                "entry {} of term {}, revision {}, compacted to {}, state version {}, digest {}",
                state.applied_index,
                state.applied_term,
                state.revision,
                state.compact_revision,
                state.state_version,
                state.digest
            ),
        )?;
        line(
            "holds",
            format!(
                "{} keys, {} leases, {} locks, {} semaphores and {} elections held, {} waiting, {} idempotency records, {} bytes of \
                 history",
                state.keys,
                state.leases,
                state.locks_held,
                state.semaphores_held,
                state.elections_held,
                state.waiting,
                state.idempotency_records,
                state.history_bytes
            ),
        )?;
    }
    if let Some(log) = &report.log {
        line(
            "log",
            format!(
                "{} entries, behind {} up to {} of term {}, in term {}; revision {} and state version {} if all were committed",
                log.last.saturating_sub(log.begins_behind),
                log.begins_behind,
                log.last,
                log.last_term,
                log.term,
                log.revision,
                log.state_version
            ),
        )?;
    }
    Ok(())
}
