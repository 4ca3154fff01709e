//! The way of spans out of the process: a bounded queue, and one task that sends what is in it.
//!
//! The library's own batch processor is not used: it exports from a thread of its own on which nothing of tokio can run,
//! and keeps to itself how many spans it drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector as _};
use opentelemetry_sdk::trace::{RandomIdGenerator, SpanData, SpanExporter as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::collector::{Collector, Heard, Listener};
use super::{Inner, Traces, sampler};
use crate::config::{Encoding, TraceSettings};
use crate::telemetry::{Metrics, Spans};

/// How long a member that stops waits at most for its last spans to be taken.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// It is told no more often than this that spans are lost.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Whose spans they are.
#[derive(Clone, Debug)]
pub struct Whose {
    /// The id of the member.
    pub member: String,
    /// Its name.
    pub name: String,
    /// The id of its cluster.
    pub cluster: String,
    /// The version of this program.
    pub version: &'static str,
}

/// The task that sends spans.
#[derive(Debug)]
pub struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
    queue: Queue,
}

/// Where spans wait to be sent.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    waiting: Sender<SpanData>,
    told: Arc<Told>,
}

/// What is counted and told of spans.
#[derive(Debug)]
struct Told {
    metrics: Arc<Metrics>,
    /// Where they are sent, as everybody may see it.
    endpoint: String,
    began: Instant,
    /// When it was last told that spans are lost, in milliseconds after the beginning, and one; 0 is never.
    last: AtomicU64,
    /// Whether the last that were sent were taken.
    taken: AtomicBool,
}

impl Traces {
    /// Begins to send the spans of a member, on the runtime that this is called on. What is lost is counted in
    /// `metrics`.
    ///
    /// # Errors
    ///
    /// Where the certificates of this machine, or a header in the environment, cannot be used.
    pub fn start(
        settings: &TraceSettings,
        whose: &Whose,
        metrics: Arc<Metrics>,
    ) -> Result<(Traces, Exporting), String> {
        let heard = Listener::default();
        let exporter = exporter(settings, whose, heard.clone())?;
        let (waiting, spans) = channel(settings.queue);
        let queue = Queue {
            waiting,
            told: Arc::new(Told {
                metrics,
                endpoint: settings.shown_endpoint(),
                began: Instant::now(),
                last: AtomicU64::new(0),
                taken: AtomicBool::new(true),
            }),
        };
        let stop = CancellationToken::new();
        let sending = Sending {
            spans,
            exporter,
            heard,
            settings: settings.clone(),
            told: Arc::clone(&queue.told),
            stop: stop.clone(),
        };
        let task = tokio::spawn(sending.run());
        tracing::info!(endpoint = settings.shown_endpoint(), "traces are sent");
        let scope = InstrumentationScope::builder("tenured").with_version(whose.version);
        let inner = Inner {
            sampler: sampler::of(settings.sampling),
            follows_callers: settings.follows_callers,
            ids: RandomIdGenerator::default(),
            scope: scope.build(),
            queue: queue.clone(),
        };
        let exporting = Exporting { task, stop, queue };
        Ok((Traces(Some(Arc::new(inner))), exporting))
    }
}

impl Exporting {
    /// Sends what waits and ends, within a second whatever the collector does; one that took nothing when it was last
    /// asked is not waited for at all.
    pub async fn end(mut self) {
        self.stop.cancel();
        let patience = match self.queue.told.taken.load(Ordering::Relaxed) {
            true => LAST_SPANS,
            false => Duration::ZERO,
        };
        if timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!(
                endpoint = self.queue.told.endpoint,
                "the last spans were not sent: they are not taken in time"
            );
        }
    }
}

impl Queue {
    /// Lets a span wait for its turn, or drops it.
    pub(super) fn put(&self, span: SpanData) {
        if self.waiting.try_send(span).is_err() {
            self.told.lost(Spans::Dropped, 1, "the queue is full");
        }
    }
}

impl Told {
    fn lost(&self, how: Spans, count: usize, why: &str) {
        self.metrics.spans(how, count as u64);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) + 1;
        let (last, relaxed) = (&self.last, Ordering::Relaxed);
        let tell = |before: u64| {
            let due = before == 0 || before + (TOLD_EVERY.as_millis() as u64) < now;
            due.then_some(now)
        };
        if last.fetch_update(relaxed, relaxed, tell).is_ok() {
            tracing::warn!(
                endpoint = self.endpoint,
                why,
                "spans of traces are lost; tenure_trace_spans_total counts them, and nothing else is affected"
            );
        }
    }
}

/// What the task works with.
struct Sending {
    spans: Receiver<SpanData>,
    exporter: SpanExporter,
    /// What the collector said, which the exporter keeps to itself.
    heard: Listener,
    settings: TraceSettings,
    told: Arc<Told>,
    stop: CancellationToken,
}

impl Sending {
    async fn run(mut self) {
        loop {
            let batch = self.gather().await;
            if batch.is_empty() {
                // Nobody is left who could make a span, or the member stops and nothing waits.
                return;
            }
            self.send(batch).await;
        }
    }

    /// The next spans, as many as there are when the first of them has waited long enough, or when the member stops.
    async fn gather(&mut self) -> Vec<SpanData> {
        let most = self.settings.batch;
        let mut batch = Vec::new();
        let first = tokio::select! {
            biased;
            first = self.spans.recv() => first,
            () = self.stop.cancelled() => None,
        };
        let Some(first) = first else { return batch };
        batch.push(first);
        let deadline = tokio::time::Instant::now() + self.settings.delay;
        while batch.len() < most {
            let room = most - batch.len();
            let more = timeout_at(deadline, self.spans.recv_many(&mut batch, room));
            let more = tokio::select! {
                biased;
                more = more => more,
                () = self.stop.cancelled() => Ok(0),
            };
            if matches!(more, Ok(0) | Err(_)) {
                break;
            }
        }
        batch
    }

    async fn send(&self, batch: Vec<SpanData>) {
        let count = batch.len();
        let sent = timeout(self.settings.timeout, self.exporter.export(batch)).await;
        self.told
            .taken
            .store(matches!(sent, Ok(Ok(()))), Ordering::Relaxed);
        let Heard { trouble, rejected } = self.heard.take();
        match sent {
            Ok(Ok(())) => {
                let refused = rejected.count.min(count);
                let taken = (count - refused) as u64;
                self.told.metrics.spans(Spans::Exported, taken);
                if refused > 0 {
                    let why = format!(
                        "the collector rejected {refused} of {count}: {}",
                        rejected.why
                    );
                    self.told.lost(Spans::Failed, refused, &why);
                }
            }
            Ok(Err(error)) => {
                let why = trouble.unwrap_or_else(|| error.to_string());
                self.told.lost(Spans::Failed, count, &why);
            }
            Err(_) => {
                let before =
                    trouble.map_or_else(String::new, |trouble| format!(", after: {trouble}"));
                let why = format!("no answer in time{before}");
                self.told.lost(Spans::Failed, count, &why);
            }
        }
    }
}

fn exporter(
    settings: &TraceSettings,
    whose: &Whose,
    heard: Listener,
) -> Result<SpanExporter, String> {
    let client = Collector::of(settings, heard)?;
    let protocol = match settings.encoding {
        Encoding::Protobuf => Protocol::HttpBinary,
        Encoding::Json => Protocol::HttpJson,
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(&settings.endpoint)
        .with_protocol(protocol)
        .with_timeout(settings.timeout);
    let mut exporter = exporter.build().map_err(|error| error.to_string())?;
    exporter.set_resource(&resource(whose));
    Ok(exporter)
}

/// What the environment says of this process (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`), and beside it who this
/// member is.
fn resource(whose: &Whose) -> Resource {
    let said = EnvResourceDetector::new().detect();
    let is_named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    let ours = [
        ("service.name", "tenure"),
        ("service.instance.id", &whose.member),
        ("service.version", whose.version),
        ("tenure.member.name", &whose.name),
        ("tenure.cluster.id", &whose.cluster),
    ];
    let ours = ours
        .into_iter()
        .filter(|(key, _)| said.get(&Key::from_static_str(key)).is_none())
        .filter(|(key, _)| !(is_named && *key == "service.name"));
    let ours = ours.map(|(key, value)| KeyValue::new(key, value.to_owned()));
    Resource::builder().with_attributes(ours).build()
}
