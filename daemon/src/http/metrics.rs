//! `GET /metrics`: how this member is, for Prometheus (`api.md` §8).
//!
//! Owns what is looked at when somebody asks; what is counted as it happens is in `telemetry`. Served without a leader,
//! and of this member only: what the state has gone through is told by every member alike, so take the greatest of them.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tenure_raft::{Configuration, MemberId, PeerState, RoleName, Status};
use tenure_state::{Kind, Limits, QueueTally, Revision, Spread, State, Tally};

use super::failure::Failure;
use super::reply::Reply;
use super::service::Context;
use crate::node::{Handle, NodeStatus};
use crate::telemetry::{self, Buckets, Writer};
use crate::tls::{Port, Tls};

const KINDS: [(Kind, &str); 3] = [
    (Kind::Lock, "lock"),
    (Kind::Semaphore, "semaphore"),
    (Kind::Election, "election"),
];

/// `GET /metrics`
pub(super) async fn read(mut cx: Context<'_>) -> Result<Reply, Failure> {
    cx.finish_query()?;
    cx.no_body().await?;
    let seen = Seen::now(&cx);
    let page = telemetry::page(cx.handle().metrics(), move |writer| seen.write(writer));
    Ok(Reply::new(200, telemetry::CONTENT_TYPE, Bytes::from(page)))
}

/// Why something ended, and how often it did.
type Reason = (&'static str, fn(&QueueTally) -> u64);

/// What is seen of a member at one time.
struct Seen {
    handle: Handle,
    node: NodeStatus,
    core: Status,
    configuration: Arc<Configuration>,
    present: Present,
    watchers: u64,
    waiting_requests: u64,
    free_bytes: Option<u64>,
    process: Option<Process>,
    tls: Tls,
}

/// What is seen of the state.
struct Present {
    tally: Tally,
    leases: u64,
    keys: u64,
    key_bytes: u64,
    idempotency_records: u64,
    revision: Revision,
    compact_revision: Revision,
    standing_bytes: u64,
    history_bytes: u64,
    limits: Limits,
}

impl Seen {
    fn now(cx: &Context<'_>) -> Seen {
        let handle = cx.handle().clone();
        let (core, configuration) = handle.consensus();
        let free_bytes = handle.files().log.parent().and_then(free_bytes);
        Seen {
            node: handle.status(),
            core,
            configuration,
            present: handle.read(Present::of),
            watchers: cx.watchers().count(),
            waiting_requests: cx.waiting_requests(),
            free_bytes,
            process: Process::now(),
            tls: cx.tls().clone(),
            handle,
        }
    }

    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        self.identity(to)?;
        self.raft(to)?;
        self.peers(to)?;
        self.storage(to)?;
        self.present.write(to)?;
        gauge(
            to,
            "tenure_watchers",
            "Watches that wait or stream here",
            self.watchers,
        )?;
        gauge(
            to,
            "tenure_http_waiting_requests",
            "Requests that wait here: acquires, campaigns, watches and reads",
            self.waiting_requests,
        )?;
        self.secured(to)?;
        self.process
            .as_ref()
            .map_or(Ok(()), |process| process.write(to))
    }

    fn identity(&self, to: &mut Writer<'_>) -> fmt::Result {
        let member = self.handle.member();
        to.info(
            "tenure_build",
            "The program",
            &[("version", member.version)],
        )?;
        let labels = [
            ("cluster", super::cluster::cluster_id(member.cluster)),
            ("member", member.id.to_string()),
            ("name", member.name.clone()),
        ];
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        to.info("tenure_member", "Who this member is", &labels)
    }

    fn secured(&self, to: &mut Writer<'_>) -> fmt::Result {
        let of = |label, port: &Port| [(label, port.with().word())];
        let certificates: Vec<_> = self
            .tls
            .ports()
            .map(|port| (of("certificate", port), port.valid_until()))
            .collect();
        to.gauge(
            "tenure_tls_certificate_expiry_timestamp_seconds",
            "When the certificates in force end, in seconds since the epoch",
            certificates
                .iter()
                .map(|(labels, until)| (&labels[..], *until as f64)),
        )?;
        let failures: Vec<_> = self
            .tls
            .ports()
            .map(|port| (of("listener", port), port.failures()))
            .collect();
        to.counter(
            "tenure_tls_refused_connections",
            "Connections that were refused before a request: TLS that failed, or none where it is needed",
            failures
                .iter()
                .map(|(labels, failures)| (&labels[..], *failures)),
        )
    }

    fn raft(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (node, core) = (&self.node, &self.core);
        let role = match node.role {
            RoleName::Leader => "leader",
            RoleName::Follower => "follower",
            RoleName::Candidate => "candidate",
            RoleName::Learner => "learner",
        };
        let roles = ["leader", "follower", "candidate", "learner"].map(|name| [("role", name)]);
        to.gauge(
            "tenure_raft_role",
            "1 for what this member is",
            roles
                .iter()
                .map(|labels| (&labels[..], f64::from(u8::from(labels[0].1 == role)))),
        )?;
        let lag = node.commit.0.saturating_sub(node.applied.0);
        let (state_version, state_version_at_most) = self.handle.state_version();
        let (voters, is_led) = (self.configuration.voters.len(), node.leader.is_some());
        for (name, help, value) in [
            (
                "tenure_state_version",
                "The version of the rules that the state follows",
                state_version,
            ),
            (
                "tenure_state_version_at_most",
                "The newest version of the rules that this member can follow",
                state_version_at_most,
            ),
            ("tenure_raft_term", "The term", node.term.0),
            (
                "tenure_raft_has_leader",
                "1 while this member is in contact with a leader",
                u64::from(is_led),
            ),
            ("tenure_raft_voters", "Members that vote", voters as u64),
            (
                "tenure_raft_learners",
                "Members that receive the log and do not vote",
                self.configuration.learners.len() as u64,
            ),
            (
                "tenure_raft_voters_changing",
                "1 while the voters are being changed",
                u64::from(self.configuration.is_joint()),
            ),
            (
                "tenure_raft_commit_index",
                "The last entry known to be committed",
                node.commit.0,
            ),
            (
                "tenure_raft_applied_index",
                "The last entry applied to the state",
                node.applied.0,
            ),
            (
                "tenure_raft_last_index",
                "The last entry of the log",
                node.last.0,
            ),
            (
                "tenure_raft_durable_index",
                "The last entry that is on the disk",
                core.durable.0,
            ),
            (
                "tenure_raft_apply_lag_entries",
                "Committed entries that are not applied yet",
                lag,
            ),
            (
                "tenure_raft_log_memory_bytes",
                "Bytes of entries kept in memory",
                core.log_bytes,
            ),
        ] {
            gauge(to, name, help, value)?;
        }
        Ok(())
    }

    /// What only a leader knows.
    fn peers(&self, to: &mut Writer<'_>) -> fmt::Result {
        let name = |id: MemberId| {
            let all = &self.configuration.info;
            let Some(info) = all.get(&id) else {
                return id.to_string();
            };
            // While a member takes the place of another, both may have one name, and no series may be told twice.
            match all.values().filter(|other| other.name == info.name).count() {
                1 => info.name.clone(),
                _ => format!("{} {id}", info.name),
            }
        };
        let names: Vec<String> = self
            .core
            .progress
            .iter()
            .map(|peer| name(peer.id))
            .collect();
        let labels: Vec<[(&str, &str); 1]> =
            names.iter().map(|name| [("peer", name.as_str())]).collect();
        let peers = || {
            self.core
                .progress
                .iter()
                .zip(&labels)
                .map(|(peer, labels)| (&labels[..], peer))
        };
        let last = self.core.last.index.0;
        to.gauge(
            "tenure_raft_peer_match_index",
            "The last entry that a follower is known to have on its disk",
            peers().map(|(labels, peer)| (labels, peer.matched.0 as f64)),
        )?;
        to.gauge(
            "tenure_raft_peer_lag_entries",
            "Entries of the leader's log that a follower is not known to have",
            peers().map(|(labels, peer)| (labels, last.saturating_sub(peer.matched.0) as f64)),
        )?;
        to.gauge(
            "tenure_raft_peer_replicating",
            "1 while a follower is sent entries; 0 while it is probed or sent a snapshot",
            peers().map(|(labels, peer)| {
                (
                    labels,
                    f64::from(u8::from(peer.state == PeerState::Replicate)),
                )
            }),
        )?;
        to.gauge(
            "tenure_raft_peer_voter",
            "1 for a follower with a vote, 0 for a learner",
            peers().map(|(labels, peer)| {
                let is_voter = self.configuration.voters.contains(&peer.id);
                (labels, f64::from(u8::from(is_voter)))
            }),
        )?;
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        to.gauge(
            "tenure_raft_peer_silent_seconds",
            "How long ago a follower answered anything",
            peers().filter_map(|(labels, peer)| Some((labels, seconds(peer.silent_for)?))),
        )?;
        to.gauge(
            "tenure_raft_peer_round_trip_seconds",
            "How long the last heartbeat took to a follower and back",
            peers().filter_map(|(labels, peer)| Some((labels, seconds(peer.round_trip)?))),
        )?;
        to.gauge(
            "tenure_raft_peer_snapshot_stored_bytes",
            "How much of the snapshot that it is being sent a follower has",
            peers().filter_map(|(labels, peer)| Some((labels, peer.transferred?.stored as f64))),
        )?;
        to.gauge(
            "tenure_raft_peer_snapshot_bytes",
            "How long that snapshot is",
            peers().filter_map(|(labels, peer)| Some((labels, peer.transferred?.size as f64))),
        )
    }

    fn storage(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.gauge(
            "tenure_storage_file_bytes",
            "The length of the files of this member",
            [
                (&[("file", "log")][..], self.node.log_bytes as f64),
                (&[("file", "state")][..], self.node.state_bytes as f64),
            ],
        )?;
        let free = self.free_bytes.map(|free| (&[][..], free as f64));
        to.gauge(
            "tenure_storage_free_bytes",
            "What is left on the file system of the data",
            free,
        )
    }
}

impl Present {
    fn of(state: &State) -> Present {
        Present {
            tally: state.tally().clone(),
            leases: state.lease_count(),
            keys: state.key_count(),
            key_bytes: state.key_bytes(),
            idempotency_records: state.repeats_kept(),
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            standing_bytes: state.standing_bytes(),
            history_bytes: state.history_bytes(),
            limits: state.limits().clone(),
        }
    }

    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        for (name, help, value) in [
            (
                "tenure_revision",
                "The revision of the state",
                self.revision.0,
            ),
            (
                "tenure_compact_revision",
                "History up to here is gone",
                self.compact_revision.0,
            ),
            (
                "tenure_history_bytes",
                "What history counts for in its limit",
                self.history_bytes,
            ),
            (
                "tenure_standing_bytes",
                "What leases, holds and places count for in their limit",
                self.standing_bytes,
            ),
            ("tenure_leases", "Leases that are live", self.leases),
            ("tenure_keys", "Keys that are live", self.keys),
            (
                "tenure_key_bytes",
                "What keys and their values count for in their limit",
                self.key_bytes,
            ),
            (
                "tenure_idempotency_records",
                "What idempotency records count for in their limit",
                self.idempotency_records,
            ),
        ] {
            gauge(to, name, help, value)?;
        }
        let limits: Vec<_> = self.limits.named().collect();
        let limits = limits
            .iter()
            .map(|(name, value)| ([("limit", *name)], *value as f64));
        let limits: Vec<_> = limits.collect();
        to.gauge(
            "tenure_limit",
            "The limits in force, by their names in GET /v1/limits",
            limits.iter().map(|(labels, value)| (&labels[..], *value)),
        )?;
        let tally = &self.tally;
        for (name, help, value) in [
            (
                "tenure_events",
                "Events that watchers may be told of",
                tally.events,
            ),
            ("tenure_key_puts", "Keys put", tally.keys_put),
            (
                "tenure_key_deletions",
                "Keys deleted, with their leases too",
                tally.keys_deleted,
            ),
            (
                "tenure_lease_grants",
                "Leases granted",
                tally.leases_granted,
            ),
            (
                "tenure_lease_renewals",
                "Renewals of live leases, by whoever asks for a lock with one too",
                tally.leases_renewed,
            ),
            (
                "tenure_lease_renewals_at_the_edge",
                "Renewals with less than a tenth of the TTL left",
                tally.leases_renewed_at_the_edge,
            ),
            (
                "tenure_lease_expirations",
                "Leases that ran out",
                tally.leases_expired,
            ),
            (
                "tenure_lease_revocations",
                "Leases that were revoked",
                tally.leases_revoked,
            ),
        ] {
            to.counter(name, help, [(&[][..], value)])?;
        }
        to.seconds(
            "tenure_lease_renew_margin",
            "What was left of leases when they were renewed",
            [(&[][..], buckets(&tally.renewal_margin))],
        )?;
        to.seconds(
            "tenure_lease_end_lateness",
            "How long after their deadline leases ended that ran out, by the clock of the cluster, which stands still without a leader",
            [(&[][..], buckets(&tally.end_lateness))],
        )?;
        self.queues(to)
    }

    fn queues(&self, to: &mut Writer<'_>) -> fmt::Result {
        let each = KINDS.map(|(kind, name)| ([("kind", name)], self.tally.of(kind)));
        let some = |value: fn(&QueueTally) -> u64| {
            each.iter()
                .map(move |(labels, tally)| (&labels[..], value(tally)))
        };
        to.gauge(
            "tenure_holds",
            "Locks, permits or leaderships that are held; one for each holder",
            some(|tally| tally.held).map(|(labels, value)| (labels, value as f64)),
        )?;
        to.gauge(
            "tenure_waiters",
            "Places in queues; a request has one in each that it waits in",
            some(|tally| tally.waiting).map(|(labels, value)| (labels, value as f64)),
        )?;
        to.counter(
            "tenure_grants",
            "Holds granted",
            some(|tally| tally.granted),
        )?;
        to.counter("tenure_waits", "Places taken", some(|tally| tally.queued))?;
        let reasons = |reasons: &[Reason]| {
            let mut series = Vec::new();
            for (labels, tally) in &each {
                for (reason, value) in reasons {
                    series.push(([labels[0], ("reason", *reason)], value(tally)));
                }
            }
            series
        };
        let ends = reasons(&[
            ("released", |tally| tally.released),
            ("lease_ended", |tally| tally.lost),
            ("broken", |tally| tally.broken),
            ("handed_over", |tally| tally.handed_over),
        ]);
        let ends = ends.iter().map(|(labels, value)| (&labels[..], *value));
        to.counter("tenure_hold_ends", "Holds that ended, and why", ends)?;
        let left = reasons(&[
            ("wait_expired", |tally| tally.wait_expired),
            ("left", |tally| tally.left),
        ]);
        let left = left.iter().map(|(labels, value)| (&labels[..], *value));
        to.counter(
            "tenure_wait_ends",
            "Places that ended without a grant, and why",
            left,
        )?;
        to.seconds(
            "tenure_wait_duration",
            "How long those waited who were granted what they waited for",
            each.iter()
                .map(|(labels, tally)| (&labels[..], buckets(&tally.wait))),
        )?;
        to.seconds(
            "tenure_hold_duration",
            "How long holds lasted; what is older than history counts as long as history lasts",
            each.iter()
                .map(|(labels, tally)| (&labels[..], buckets(&tally.hold))),
        )
    }
}

fn gauge(to: &mut Writer<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.gauge(name, help, [(&[][..], value as f64)])
}

/// A spread in milliseconds, in seconds.
fn buckets(spread: &Spread) -> Buckets {
    let bounds = Spread::BOUNDS_MS.iter().map(|ms| *ms as f64 / 1000.0);
    let bounds = bounds.chain([f64::INFINITY]);
    Buckets {
        counts: bounds.zip(spread.counts().iter().copied()).collect(),
        sum: spread.sum_ms() as f64 / 1000.0,
    }
}

/// What is left on the file system of a directory for whoever is not root.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(dir).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

/// When the machine was started, since 1970: by two clocks, because a process to which `/proc` shows only processes
/// (`ProcSubset=pid`) is not told by the file that says it. Taken once, so that it does not move with the clock.
static BOOTED: LazyLock<f64> = LazyLock::new(|| {
    let seconds = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    seconds(ClockId::Realtime) - seconds(ClockId::Boottime)
});

/// What the kernel knows of this process.
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
    open_files: u64,
    most_files: Option<u64>,
    started: f64,
}

impl Process {
    fn now() -> Option<Process> {
        let me = procfs::process::Process::myself().ok()?;
        let stat = me.stat().ok()?;
        let ticks = procfs::ticks_per_second() as f64;
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Some(Process {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            threads: u64::try_from(stat.num_threads).unwrap_or_default(),
            open_files: me.fd_count().unwrap_or_default() as u64,
            most_files: most,
            started: *BOOTED + stat.starttime as f64 / ticks,
        })
    }

    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.counter(
            "process_cpu_seconds",
            "Time of the processors that was used",
            [(&[][..], self.cpu_seconds)],
        )?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that is in use",
                self.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Memory that is mapped",
                self.virtual_bytes,
            ),
            ("process_threads", "Threads", self.threads),
            (
                "process_open_fds",
                "Files and connections that are open",
                self.open_files,
            ),
        ] {
            gauge(to, name, help, value)?;
        }
        let most = self.most_files.map(|most| (&[][..], most as f64));
        to.gauge(
            "process_max_fds",
            "Files and connections that may be open",
            most,
        )?;
        to.gauge(
            "process_start_time_seconds",
            "When the process began, since 1970",
            [(&[][..], self.started)],
        )
    }
}
