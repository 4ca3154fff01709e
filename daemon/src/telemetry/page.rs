//! The page of metrics: what was counted, then what is seen now.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

/// The form of the page: OpenMetrics 1.0, which Prometheus asks for.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page. `present` writes what is seen now.
pub(crate) fn page(
    metrics: &Metrics,
    present: impl Fn(&mut Writer<'_>) -> fmt::Result + Send + Sync + 'static,
) -> String {
    let mut seen = Registry::default();
    seen.register_collector(Box::new(Present(present)));
    let mut page = String::with_capacity(32 << 10);
    let written = encode_registry(&mut page, metrics.registry())
        .and_then(|()| encode_registry(&mut page, &seen))
        .and_then(|()| encode_eof(&mut page));
    debug_assert!(written.is_ok(), "a string takes everything");
    page
}

struct Present<F>(F);

impl<F> fmt::Debug for Present<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

impl<F: Fn(&mut Writer<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Present<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Writer(encoder))
    }
}

/// The labels of a series.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// A histogram as it is now.
pub(crate) struct Buckets {
    /// Upper bounds, the last of them infinite, and how many lie in each and not below.
    pub(crate) counts: Vec<(f64, u64)>,
    /// The sum of all.
    pub(crate) sum: f64,
}

/// Writes what is seen now: each metric with all its series at a time.
pub(crate) struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// What may rise and fall.
    pub(crate) fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let series = series.into_iter();
        self.write(
            name,
            help,
            None,
            MetricType::Gauge,
            series,
            |metric, value| metric.encode_gauge(&value),
        )
    }

    /// What only rises; the name is given without `_total`.
    pub(crate) fn counter<'l, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        let series = series.into_iter();
        self.write(
            name,
            help,
            None,
            MetricType::Counter,
            series,
            |metric, value| metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        )
    }

    /// How durations are spread; the name is given without `_seconds`.
    pub(crate) fn seconds<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, Buckets)>,
    ) -> fmt::Result {
        let (series, unit) = (series.into_iter(), Some(Unit::Seconds));
        self.write(
            name,
            help,
            unit,
            MetricType::Histogram,
            series,
            |metric, buckets| {
                let count = buckets.counts.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(buckets.sum, count, &buckets.counts, None)
            },
        )
    }

    /// What does not change while the process runs; the name is given without `_info`.
    pub(crate) fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        metric.encode_info(&labels)
    }

    fn write<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        metric_type: MetricType,
        series: impl Iterator<Item = (Labels<'l>, V)>,
        put: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit.as_ref(), metric_type)?;
        for (labels, value) in series {
            match labels {
                [] => put(&mut metric, value)?,
                _ => put(&mut metric.encode_family(&labels)?, value)?,
            }
        }
        Ok(())
    }
}
