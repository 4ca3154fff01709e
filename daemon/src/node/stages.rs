//! What traced entries go through at the leader: the wait for an entry, the write of its log, replication.
//!
//! Owns the moments of those that are under way; their spans are made when both the own disk and a majority have them,
//! or leadership ends. Nothing is kept, and no clock is read, where nothing is traced.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tenure_raft::{Entry, LogPosition, MemberId, WriteId};
use tenure_replica::{TraceContext, TracedEntry, TracedRequest};

use crate::telemetry::{Ids, Kind, Span, Traces};

/// More traced entries than this are not followed at a time; a log that stands still must not gather them.
const MOST: usize = 1_024;

/// The traced entries that are under way.
pub(super) struct Stages {
    traces: Traces,
    me: MemberId,
    under_way: VecDeque<Stage>,
}

struct Stage {
    entry: TracedEntry,
    write: WriteId,
    appended: Instant,
    synced: Option<Synced>,
    committed: Option<Instant>,
}

/// How the log came to the disk.
#[derive(Clone, Copy)]
pub(super) struct Synced {
    /// When the write was done.
    pub(super) at: Instant,
    /// How long it took, with its sync.
    pub(super) took: Duration,
    /// How many writes it was.
    pub(super) writes: usize,
}

impl Stages {
    pub(super) fn new(traces: Traces, me: MemberId) -> Stages {
        Stages {
            traces,
            me,
            under_way: VecDeque::new(),
        }
    }

    /// Entries are appended, and in this write of the log.
    pub(super) fn appended(&mut self, entries: Vec<TracedEntry>, write: WriteId) {
        if entries.is_empty() || !self.traces.are_on() {
            return;
        }
        let appended = Instant::now();
        let room = MOST.saturating_sub(self.under_way.len());
        self.under_way
            .extend(entries.into_iter().take(room).map(|entry| Stage {
                entry,
                write,
                appended,
                synced: None,
                committed: None,
            }));
    }

    /// Everything up to this write is on the disk.
    pub(super) fn synced(&mut self, write: WriteId, synced: Synced) {
        if self.under_way.is_empty() {
            return;
        }
        for stage in &mut self.under_way {
            if stage.write <= write && stage.synced.is_none() {
                stage.synced = Some(synced);
            }
        }
        self.tell();
    }

    /// These entries are committed.
    pub(super) fn committed(&mut self, entries: &[Entry]) {
        let (false, Some(first), Some(last)) =
            (self.under_way.is_empty(), entries.first(), entries.last())
        else {
            return;
        };
        let now = Instant::now();
        for stage in &mut self.under_way {
            let position = stage.entry.position;
            if first.index <= position.index && position.index <= last.index {
                stage.committed.get_or_insert(now);
            }
        }
        self.tell();
    }

    /// This member leads no longer: what becomes of its entries is decided by others.
    pub(super) fn ended(&mut self) {
        for stage in std::mem::take(&mut self.under_way) {
            self.tell_of(&stage);
        }
    }

    /// Tells of those that are done, which they are in their order, or nearly.
    fn tell(&mut self) {
        let done = |stage: &Stage| stage.synced.is_some() && stage.committed.is_some();
        while self.under_way.front().is_some_and(done) {
            let stage = self.under_way.pop_front().expect("there is a front");
            self.tell_of(&stage);
        }
    }

    fn tell_of(&self, stage: &Stage) {
        for request in &stage.entry.traced {
            self.tell_of_request(stage, request);
        }
    }

    fn tell_of_request(&self, stage: &Stage, request: &TracedRequest) {
        let arrived = stage
            .appended
            .checked_sub(request.waited)
            .unwrap_or(stage.appended);
        let ids = Ids::from(request.context);
        // A request of this member's own clients waits in a span that tells of the whole.
        let proposed = match request.origin.member == self.me.0 {
            true => None,
            false => self.traces.under(ids, Kind::Server, "propose", arrived),
        };
        let within = proposed.as_ref().map_or(ids, Span::ids);
        let LogPosition { term, index } = stage.entry.position;
        let span = |name, began| self.traces.under(within, Kind::Internal, name, began);
        if let Some(mut waited) = span("wait for an entry", arrived) {
            waited.set("tenure.entry.requests", stage.entry.requests as i64);
            waited.end_at(stage.appended);
        }
        if let (Some(synced), Some(mut wrote)) =
            (stage.synced, span("write the log", stage.appended))
        {
            wrote.set("tenure.log.sync_us", synced.took.as_micros() as i64);
            wrote.set("tenure.log.writes_in_sync", synced.writes as i64);
            wrote.end_at(synced.at);
        }
        if let Some(mut replicated) = span("replicate", stage.appended) {
            replicated.set("tenure.raft.term", term.0 as i64);
            replicated.set("tenure.raft.index", index.0 as i64);
            match stage.committed {
                Some(committed) => replicated.end_at(committed),
                None => replicated.fail("leadership ended before it was committed"),
            }
        }
        if let Some(proposed) = proposed {
            let ends = [stage.committed, stage.synced.map(|synced| synced.at)];
            match ends.into_iter().flatten().max() {
                Some(end) => proposed.end_at(end),
                None => drop(proposed),
            }
        }
    }
}

impl From<TraceContext> for Ids {
    fn from(context: TraceContext) -> Ids {
        let TraceContext { trace, span, flags } = context;
        Ids { trace, span, flags }
    }
}

impl From<Ids> for TraceContext {
    fn from(ids: Ids) -> TraceContext {
        let Ids { trace, span, flags } = ids;
        TraceContext { trace, span, flags }
    }
}
