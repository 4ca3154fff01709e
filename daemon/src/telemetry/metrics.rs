//! What is counted as it happens.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::lately::{Lately, Worst};

/// From a page cache that lies to a disk that is dying.
const DISK_SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// From a read in memory to a long-poll.
const REQUEST_SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0,
];
const REVISIONS: [f64; 8] = [0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];

/// What a member counts as it happens. Counting takes microseconds at most, also beside somebody who reads the page.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sync_seconds: Histogram,
    log_bytes: Counter,
    log_writes: Counter,
    checkpoint_seconds: Histogram,
    checkpoint_rows: Counter,
    elections: Counter,
    leader_changes: Counter,
    pauses: Counter,
    step_downs: Family<StepDownLabel, Counter>,
    refusals: Family<RefusalLabel, Counter>,
    leader_clock_rate: Gauge<f64, AtomicU64>,
    requests: Family<Request, Histogram, fn() -> Histogram>,
    connections: Gauge<i64, AtomicI64>,
    watch_lag: Histogram,
    watch_resyncs: Counter,
    spans: Family<SpansLabel, Counter>,
    backups: Family<BackupsLabel, Counter>,
    last_backup: Gauge<f64, AtomicU64>,
    slow_sync: Worst,
    pause: Worst,
}

/// Why a member gave up leadership or its candidacy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StepDown {
    /// A higher term was seen.
    HigherTerm,
    /// Another member leads the term.
    LeaderFound,
    /// Too few members answered.
    QuorumLost,
    /// The process did not run.
    Paused,
    /// The disk does not answer.
    DiskStalled,
    /// It is no member any more.
    Removed,
}

/// Why a request was not proposed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// No leader is known.
    NoLeader,
    /// Too much waits.
    Overloaded,
    /// Leadership is being handed over.
    Transferring,
    /// The member is stopping.
    ShuttingDown,
    /// The rules in force do not know it.
    RulesTooOld,
}

/// What became of a span of a trace.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Spans {
    /// The collector took it.
    Exported,
    /// It found no room in the queue.
    Dropped,
    /// The collector did not take it.
    Failed,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SpansLabel {
    outcome: Spans,
}

/// What became of a backup that somebody asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Backups {
    /// The connection of its caller took the last byte of it.
    Sent,
    /// Its caller went away or may not have it any more, the member stopped, or its file could not be read.
    CutOff,
    /// Others were being made, or the member was stopping.
    Refused,
    /// It could not be made.
    Failed,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BackupsLabel {
    result: Backups,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StepDownLabel {
    reason: StepDown,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RefusalLabel {
    reason: Refusal,
}

/// What kind of request was answered how.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Request {
    /// The template of its path.
    pub route: &'static str,
    /// Its method; `other` where it is none that any path takes.
    pub method: &'static str,
    /// The status.
    pub status: u16,
}

impl EncodeLabelValue for StepDown {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

impl StepDown {
    const ALL: [StepDown; 6] = [
        StepDown::HigherTerm,
        StepDown::LeaderFound,
        StepDown::QuorumLost,
        StepDown::Paused,
        StepDown::DiskStalled,
        StepDown::Removed,
    ];

    fn label(self) -> &'static str {
        match self {
            StepDown::HigherTerm => "higher_term",
            StepDown::LeaderFound => "leader_found",
            StepDown::QuorumLost => "quorum_lost",
            StepDown::Paused => "paused",
            StepDown::DiskStalled => "disk_stalled",
            StepDown::Removed => "removed",
        }
    }
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

impl Refusal {
    const ALL: [Refusal; 5] = [
        Refusal::NoLeader,
        Refusal::Overloaded,
        Refusal::Transferring,
        Refusal::ShuttingDown,
        Refusal::RulesTooOld,
    ];

    fn label(self) -> &'static str {
        match self {
            Refusal::NoLeader => "no_leader",
            Refusal::Overloaded => "overloaded",
            Refusal::Transferring => "transferring",
            Refusal::ShuttingDown => "shutting_down",
            Refusal::RulesTooOld => "rules_too_old",
        }
    }
}

impl EncodeLabelValue for Spans {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

impl Spans {
    const ALL: [Spans; 3] = [Spans::Exported, Spans::Dropped, Spans::Failed];

    fn label(self) -> &'static str {
        match self {
            Spans::Exported => "exported",
            Spans::Dropped => "dropped",
            Spans::Failed => "failed",
        }
    }
}

impl EncodeLabelValue for Backups {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

impl Backups {
    const ALL: [Backups; 4] = [
        Backups::Sent,
        Backups::CutOff,
        Backups::Refused,
        Backups::Failed,
    ];

    fn label(self) -> &'static str {
        match self {
            Backups::Sent => "sent",
            Backups::CutOff => "cut_off",
            Backups::Refused => "refused",
            Backups::Failed => "failed",
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// A member's metrics, all at nothing.
    pub fn new() -> Metrics {
        let mut of = Names(Registry::default());
        let disk = || Histogram::new(DISK_SECONDS);
        let requests: fn() -> Histogram = || Histogram::new(REQUEST_SECONDS);
        let (step_downs, refusals, spans) =
            (Family::default(), Family::default(), Family::default());
        let backups = Family::default();
        // What never happened is told as 0, so that its first time is seen as a rise.
        for reason in StepDown::ALL {
            let _: Counter = step_downs.get_or_create_owned(&StepDownLabel { reason });
        }
        for reason in Refusal::ALL {
            let _: Counter = refusals.get_or_create_owned(&RefusalLabel { reason });
        }
        for outcome in Spans::ALL {
            let _: Counter = spans.get_or_create_owned(&SpansLabel { outcome });
        }
        for result in Backups::ALL {
            let _: Counter = backups.get_or_create_owned(&BackupsLabel { result });
        }
        Metrics {
            sync_seconds: of.seconds(
                "tenure_storage_sync_duration",
                "How long transactions of the log took with their sync; one covers all that had queued up",
                disk(),
            ),
            log_bytes: of.count(
                "tenure_storage_log_written_bytes",
                "Bytes of records written to the log",
                Counter::default(),
            ),
            log_writes: of.count(
                "tenure_storage_log_writes",
                "Writes of the log that shared these syncs",
                Counter::default(),
            ),
            checkpoint_seconds: of.seconds(
                "tenure_storage_checkpoint_duration",
                "How long checkpoints of the state took; nothing waits for them",
                disk(),
            ),
            checkpoint_rows: of.count(
                "tenure_storage_checkpoint_rows",
                "Rows written by checkpoints",
                Counter::default(),
            ),
            elections: of.count(
                "tenure_raft_elections",
                "Elections in which this member stood",
                Counter::default(),
            ),
            leader_changes: of.count(
                "tenure_raft_leader_changes",
                "How often this member learnt of a leader other than the one before",
                Counter::default(),
            ),
            pauses: of.count(
                "tenure_raft_pauses",
                "How often this process, or the whole machine, did not run for longer than an election timeout",
                Counter::default(),
            ),
            step_downs: of.count(
                "tenure_raft_step_downs",
                "How often this member gave up leadership or candidacy",
                step_downs,
            ),
            refusals: of.count(
                "tenure_raft_refusals",
                "Requests that were not proposed; none of them was applied",
                refusals,
            ),
            leader_clock_rate: of.count(
                "tenure_raft_leader_clock_rate",
                "How fast the leader's clock runs by the clock of this member: 1 is alike, 0 unknown as yet",
                Gauge::default(),
            ),
            requests: of.seconds(
                "tenure_http_request_duration",
                "How long requests took from their head to their answer, waits of long-polls included",
                Family::new_with_constructor(requests),
            ),
            connections: of.count(
                "tenure_http_connections",
                "Connections of clients",
                Gauge::default(),
            ),
            watch_lag: of.count(
                "tenure_watch_lag_revisions",
                "How many revisions watchers were behind the state when they were told of some",
                Histogram::new(REVISIONS),
            ),
            watch_resyncs: of.count(
                "tenure_watch_resyncs",
                "How often watchers were told that what they asked for is compacted",
                Counter::default(),
            ),
            spans: of.count(
                "tenure_trace_spans",
                "Spans of traces by what became of them; nothing waits for those that are lost",
                spans,
            ),
            backups: of.count(
                "tenure_backups",
                "Backups that this member was asked for, by what became of them",
                backups,
            ),
            last_backup: of.seconds(
                "tenure_backup_last_success_timestamp",
                "When this member sent the last byte of a backup, since 1970; 0 where it has sent none since its start",
                Gauge::default(),
            ),
            slow_sync: Worst::default(),
            pause: Worst::default(),
            registry: of.0,
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A transaction of the log is synced.
    pub fn log_synced(&self, took: Duration, writes: usize, bytes: usize) {
        self.sync_seconds.observe(took.as_secs_f64());
        self.log_writes.inc_by(writes as u64);
        self.log_bytes.inc_by(bytes as u64);
    }

    /// A checkpoint is on the disk.
    pub fn checkpointed(&self, took: Duration, rows: usize) {
        self.checkpoint_seconds.observe(took.as_secs_f64());
        self.checkpoint_rows.inc_by(rows as u64);
    }

    /// This member stands in an election.
    pub fn campaigns(&self) {
        self.elections.inc();
    }

    /// Another member than before leads, or this one does.
    pub fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// The process did not run for longer than an election timeout.
    pub fn paused(&self, paused: Duration) {
        self.pauses.inc();
        self.pause.note(Instant::now(), paused);
    }

    /// A synced write of the log took longer than an operator should have to hear of.
    pub fn slow_sync(&self, took: Duration) {
        self.slow_sync.note(Instant::now(), took);
    }

    /// What happened in the last five minutes.
    pub fn lately(&self) -> Lately {
        let now = Instant::now();
        Lately {
            slow_sync: self.slow_sync.at(now),
            pause: self.pause.at(now),
            leader_clock_rate: self.leader_clock_rate.get(),
        }
    }

    /// Leadership or candidacy was given up.
    pub fn stepped_down(&self, reason: StepDown) {
        self.step_downs
            .get_or_create(&StepDownLabel { reason })
            .inc();
    }

    /// A request was not proposed.
    pub fn refused(&self, reason: Refusal) {
        self.refusals.get_or_create(&RefusalLabel { reason }).inc();
    }

    /// Spans of traces were taken or lost.
    pub fn spans(&self, outcome: Spans, count: u64) {
        self.spans
            .get_or_create(&SpansLabel { outcome })
            .inc_by(count);
    }

    /// A backup was sent, or was not.
    pub fn backup(&self, result: Backups) {
        self.backups.get_or_create(&BackupsLabel { result }).inc();
        if result == Backups::Sent {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
            self.last_backup
                .set(since_1970.unwrap_or_default().as_secs_f64());
        }
    }

    /// How fast the leader's clock runs by this member's.
    pub fn leader_clock_rate(&self, rate: f64) {
        self.leader_clock_rate.set(rate);
    }

    /// A request was answered.
    pub fn answered(&self, request: &Request, took: Duration) {
        self.requests
            .get_or_create(request)
            .observe(took.as_secs_f64());
    }

    /// A connection of a client; it counts until the guard is dropped.
    pub fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// A watcher is told of something, so many revisions after the state came to it.
    pub fn watcher_told(&self, revisions_behind: u64) {
        self.watch_lag.observe(revisions_behind as f64);
    }

    /// A watcher is told that what it asked for is compacted.
    pub fn watcher_lost_history(&self) {
        self.watch_resyncs.inc();
    }
}

/// A connection that counts.
#[derive(Debug)]
pub struct Connected(Gauge<i64, AtomicI64>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Gives names to metrics.
struct Names(Registry);

impl Names {
    fn count<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0
            .register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}
