//! The cluster and this member: who belongs to it, how they are, and whether this one can serve (`api.md` §8).

use std::time::Duration;

use bytes::Bytes;
use tenure_api::{self as api, MemberRole, MemberState, SnapshotSent};
use tenure_raft::{
    Configuration, LogIndex, MemberId, PeerState, PeerStatus, RoleName, Transferred,
};
use tenure_replica::ProgressReport;
use tenure_state::Revision;

use super::audit::{Act, Audit};
use super::failure::{Failure, Purpose};
use super::health;
use super::reading::Reading;
use super::reply::Reply;
use super::rights::{self, Needed};
use super::service::Context;
use crate::logging::AUDIT;

/// A member that has not answered its leader for so long is shown as unreachable. Heartbeats go out every 50 ms.
pub(super) const UNREACHABLE_AFTER: Duration = Duration::from_secs(1);
/// The bytes of a filter of log lines.
pub(super) const MOST_FILTER: usize = 1_024;

/// `GET /v1/cluster`
pub(super) async fn read(mut cx: Context<'_>) -> Result<Reply, Failure> {
    let reading = Reading::of(&mut cx)?;
    cx.finish_query()?;
    cx.no_body().await?;
    let report = match reading.is_local() {
        true => None,
        false => Some(ask_leader(&cx).await?),
    };
    let settled = reading.settle(&cx, &Needed::NOTHING).await?;
    let handle = cx.handle();
    let revision = cx.read(&Needed::NOTHING, |state| state.revision())?;
    let status = handle.status();
    let configuration = &status.configuration;
    let members = configuration
        .members()
        .into_iter()
        .map(|id| member(configuration, report.as_ref(), id))
        .collect();
    // What this member knows by itself; where the leader was asked, what it says of itself.
    let (leader, term, commit) = match &report {
        Some(report) => (Some(report.leader), report.term, report.commit),
        None => (status.leader, status.term, status.commit),
    };
    let cluster = api::Cluster {
        cluster: cluster_id(handle.member().cluster),
        leader: leader.map(|leader| leader.to_string()),
        term: term.0,
        revision: revision.0,
        commit_index: commit.0,
        changing: configuration.is_joint(),
        members,
    };
    Ok(settled.mark(Reply::json(200, revision, &cluster)?))
}

/// How the members are doing, as only the leader knows.
async fn ask_leader(cx: &Context<'_>) -> Result<ProgressReport, Failure> {
    let report = cx.handle().progress().await;
    report.map_err(|unserved| Failure::unserved(unserved, Purpose::Read))
}

/// `GET /v1/status`
pub(super) async fn status(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    itself(&cx).await
}

/// `PATCH /v1/status`
pub(super) async fn change_status(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    let asked: api::ChangeStatus = cx.json().await?;
    // A body may take long, and nothing judges this where it is applied.
    cx.may(&rights::admin(), true).await?;
    let act = Act::Change {
        what: "log_filter of this member",
        asked: asked.log_filter.chars().take(MOST_FILTER).collect(),
    };
    let audit = Audit::of(&cx, act);
    let wanted = log_filter(&asked.log_filter);
    // Told before it is in force, so that it does not drown in the lines that come with it.
    audit.tell(&wanted, &[]);
    let set = cx.log_filter().set(wanted?);
    set.map_err(|error| Failure::invalid(error.to_string()))?;
    itself(&cx).await
}

/// A filter of log lines as callers may set it: less than the settings take, because it comes from anybody who reaches
/// this address. A filter that looks at spans and their fields costs all others time, and what is told of what callers do
/// (the target `audit`) no caller may silence: only the settings may.
fn log_filter(text: &str) -> Result<&str, Failure> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let in_target = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    let is_directive = |directive: &str| {
        let (target, level) = directive.split_once('=').unwrap_or(("all", directive));
        !target.is_empty()
            && target != AUDIT
            && target.chars().all(in_target)
            && LEVELS.contains(&level)
    };
    if text.len() <= MOST_FILTER && text.split(',').all(is_directive) {
        return Ok(text);
    }
    let shown: String = text.chars().take(64).collect();
    Err(Failure::invalid(format!(
        "log_filter is {shown:?}: off, error, warn, info, debug or trace are accepted, each for all lines or after \
         TARGET= as in tenured=debug, separated by commas, in up to {MOST_FILTER} bytes; the target {AUDIT} is for the settings alone"
    )))
}

async fn itself(cx: &Context<'_>) -> Result<Reply, Failure> {
    let handle = cx.handle();
    let status = handle.status();
    let (revision, compact_revision, digest): (Revision, Revision, u128) =
        handle.read(|state| (state.revision(), state.compact_revision(), state.digest()));
    let (state_version, state_version_at_most) = handle.state_version();
    let reasons = reasons(cx).await;
    let member = handle.member();
    let shown = api::Status {
        cluster: cluster_id(member.cluster),
        member: member.id.to_string(),
        name: member.name.clone(),
        version: member.version.to_owned(),
        role: match status.role {
            RoleName::Leader => api::Role::Leader,
            RoleName::Follower => api::Role::Follower,
            RoleName::Candidate => api::Role::Candidate,
            RoleName::Learner => api::Role::Learner,
        },
        term: status.term.0,
        leader: status.leader.map(|leader| leader.to_string()),
        commit_index: status.commit.0,
        applied_index: status.applied.0,
        revision: revision.0,
        compact_revision: compact_revision.0,
        digest: format!("{digest:032x}"),
        state_version,
        state_version_at_most,
        ready: reasons.is_empty(),
        reasons,
        warnings: health::warnings(handle, cx.tls(), cx.is_exposed()),
        log_filter: cx.log_filter().present(),
        log_bytes: status.log_bytes,
        state_bytes: status.state_bytes,
        uptime_ms: u64::try_from(member.started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    Reply::json(200, revision, &shown)
}

/// `GET /livez`
pub(super) async fn live(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    Ok(Reply::new(
        200,
        "text/plain; charset=utf-8",
        Bytes::from_static(b"ok\n"),
    ))
}

/// `GET /readyz`
pub(super) async fn ready(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let reasons = reasons(&cx).await;
    let status = if reasons.is_empty() { 200 } else { 503 };
    let revision = cx.handle().read(|state| state.revision());
    Reply::json(
        status,
        revision,
        &api::Readiness {
            ready: reasons.is_empty(),
            reasons,
        },
    )
}

/// Why this member cannot serve linearizable reads. It is tried, not guessed.
async fn reasons(cx: &Context<'_>) -> Vec<String> {
    if cx.handle().stopping().is_cancelled() {
        return vec!["shutting down".to_owned()];
    }
    match cx.handle().barrier().await {
        Ok(_) => Vec::new(),
        Err(_) if !cx.knows_leader() => vec!["no leader".to_owned()],
        Err(unserved) => vec![format!("no linearizable read: {unserved}")],
    }
}

/// The id of a cluster as it is written.
pub(super) fn cluster_id(cluster: u128) -> String {
    format!("{cluster:032x}")
}

/// A member, with what only the leader knows of it where that was asked.
pub(super) fn member(
    configuration: &Configuration,
    report: Option<&ProgressReport>,
    id: MemberId,
) -> api::Member {
    let info = configuration.info.get(&id).cloned().unwrap_or_default();
    let role = if configuration.is_voter(id) {
        MemberRole::Voter
    } else {
        MemberRole::Learner
    };
    let seen = report.and_then(|report| seen(report, id));
    let promotion = configuration.promotions().get(&id);
    api::Member {
        id: id.to_string(),
        name: info.name,
        peer_url: info.peer_url,
        client_url: info.client_url,
        role,
        promote: promotion.is_some(),
        replaces: promotion.copied().flatten().map(|old| old.to_string()),
        leaving: configuration.outgoing.contains(&id) && !configuration.voters.contains(&id),
        state: seen.as_ref().map(|seen| seen.state),
        match_index: seen.as_ref().map(|seen| seen.matched.0),
        lag: seen.as_ref().map(|seen| seen.lag),
        last_contact_ms: seen
            .as_ref()
            .and_then(|seen| seen.silent_for)
            .map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        snapshot_sent: seen.and_then(|seen| seen.sent).map(|sent| SnapshotSent {
            stored_bytes: sent.stored,
            bytes: sent.size,
        }),
    }
}

/// What only the leader knows of a member.
struct Seen {
    state: MemberState,
    matched: LogIndex,
    lag: u64,
    silent_for: Option<Duration>,
    sent: Option<Transferred>,
}

fn seen(report: &ProgressReport, id: MemberId) -> Option<Seen> {
    if id == report.leader {
        return Some(Seen {
            state: MemberState::Leader,
            matched: report.last,
            lag: 0,
            silent_for: Some(Duration::ZERO),
            sent: None,
        });
    }
    let peer = report.peers.iter().find(|peer| peer.id == id)?;
    Some(Seen {
        state: state(peer),
        matched: peer.matched,
        lag: report.last.0.saturating_sub(peer.matched.0),
        silent_for: peer.silent_for,
        sent: peer.transferred,
    })
}

fn state(peer: &PeerStatus) -> MemberState {
    if peer
        .silent_for
        .is_none_or(|silent| silent > UNREACHABLE_AFTER)
    {
        return MemberState::Unreachable;
    }
    match peer.state {
        PeerState::Probe => MemberState::Probing,
        PeerState::Replicate => MemberState::Replicating,
        PeerState::Snapshot => MemberState::Snapshot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_a_caller_is_levels_and_nothing_that_costs_others_time() {
        for filter in [
            "debug",
            "off",
            "warn,tenured=debug",
            "tenured::http=trace,auditor=off,error",
        ] {
            assert!(log_filter(filter).is_ok(), "{filter}");
            assert_eq!(crate::logging::check(filter), Ok(()), "{filter}");
        }
        let long = "debug,".repeat(200) + "debug";
        for filter in [
            "",
            "loud",
            "tenured",
            "=debug",
            "debug,",
            "[request]=debug",
            "tenured[request{id=/a+/}]=debug",
            "tenured=5",
            "DEBUG",
            "a b=info",
            "audit=off",
            "debug,audit=info",
            &long,
        ] {
            let refused = log_filter(filter).expect_err(filter);
            assert!(
                refused.detail.contains("tenured=debug"),
                "{}",
                refused.detail
            );
        }
    }
    use tenure_raft::{MemberInfo, Term};

    #[test]
    fn members_are_shown_as_their_leader_sees_them() {
        let peer = |id, state, matched, silent_ms: Option<u64>| PeerStatus {
            id: MemberId(id),
            state,
            matched: LogIndex(matched),
            silent_for: silent_ms.map(Duration::from_millis),
            round_trip: None,
            transferred: None,
        };
        let report = ProgressReport {
            leader: MemberId(1),
            term: Term(7),
            commit: LogIndex(99),
            last: LogIndex(100),
            peers: vec![
                peer(2, PeerState::Replicate, 90, Some(12)),
                peer(3, PeerState::Snapshot, 0, Some(5_000)),
                peer(4, PeerState::Probe, 0, None),
            ],
            versions: Vec::new(),
        };
        let configuration = Configuration {
            voters: [1, 2, 3].map(MemberId).into(),
            learners: [4, 5].map(MemberId).into(),
            info: [(
                MemberId(2),
                MemberInfo {
                    name: "n2".into(),
                    ..MemberInfo::default()
                },
            )]
            .into(),
            ..Configuration::default()
        };
        let check = |id, role, state, match_index, lag, last_contact_ms| {
            let shown = member(&configuration, Some(&report), MemberId(id));
            assert_eq!(
                (
                    shown.role,
                    shown.state,
                    shown.match_index,
                    shown.lag,
                    shown.last_contact_ms
                ),
                (role, state, match_index, lag, last_contact_ms),
                "{id}"
            );
        };
        use MemberRole::{Learner, Voter};
        check(
            1,
            Voter,
            Some(MemberState::Leader),
            Some(100),
            Some(0),
            Some(0),
        );
        check(
            2,
            Voter,
            Some(MemberState::Replicating),
            Some(90),
            Some(10),
            Some(12),
        );
        check(
            3,
            Voter,
            Some(MemberState::Unreachable),
            Some(0),
            Some(100),
            Some(5_000),
        );
        check(
            4,
            Learner,
            Some(MemberState::Unreachable),
            Some(0),
            Some(100),
            None,
        );
        check(5, Learner, None, None, None, None);
        let changing = Configuration {
            voters: [1, 2].map(MemberId).into(),
            outgoing: [1, 3].map(MemberId).into(),
            promoting: [(MemberId(4), None), (MemberId(5), Some(MemberId(2)))].into(),
            ..configuration.clone()
        };
        let under_way = |id| {
            let shown = member(&changing, None, MemberId(id));
            (shown.promote, shown.replaces, shown.leaving)
        };
        assert_eq!(under_way(1), (false, None, false));
        assert_eq!(under_way(3), (false, None, true), "it leaves");
        assert_eq!(under_way(4), (true, None, false));
        let replaced = Some(MemberId(2).to_string());
        assert_eq!(under_way(5), (true, replaced, false), "it takes a place");
        let unasked = member(&configuration, None, MemberId(2));
        assert_eq!(
            (unasked.name.as_str(), unasked.role, unasked.state),
            ("n2", Voter, None),
            "what only the leader knows is not guessed"
        );
    }
}
