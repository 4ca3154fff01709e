//! What the runs came to, as tables for people and as JSON for programs.
//!
//! Owns medians over rounds and ratios between systems. A ratio is taken within a round and the middle of them is told,
//! with the least and the greatest: two systems in one round had the same neighbours on the machine.

use std::fmt::Write as _;

use serde::Serialize;

use super::tally::{Latency, Summary, median};
use super::work::Workload;
use crate::output::{Cell, Table};

/// All of it.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) machine: Machine,
    pub(crate) measurements: Vec<Measurement>,
}

/// Where it was measured.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    /// Of the minute before the first run, where the system tells.
    pub(crate) load_average: Option<f64>,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Machine {
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_average: load.and_then(|load| load.split(' ').next()?.parse().ok()),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cores", self.cores)?;
        match self.load_average {
            Some(load) => write!(f, ", load average {load:.2} before the first run"),
            None => Ok(()),
        }
    }
}

/// One workload with one number of clients.
#[derive(Serialize)]
pub(crate) struct Measurement {
    pub(crate) workload: Workload,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) value_bytes: usize,
    /// Of `renew` alone.
    pub(crate) leases: Option<usize>,
    /// Operations a second that were asked for.
    pub(crate) rate: Option<f64>,
    pub(crate) warmup_ms: u64,
    pub(crate) duration_ms: u64,
    /// In the order in which they were made.
    pub(crate) runs: Vec<Run>,
    pub(crate) medians: Vec<Median>,
    /// The first system beside the second.
    pub(crate) ratio: Option<Ratios>,
}

/// One system in one round.
#[derive(Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) system: String,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) writes: Option<Summary>,
    pub(crate) generator_cores: f64,
}

/// The middle of the rounds.
#[derive(Serialize)]
pub(crate) struct Median {
    pub(crate) system: String,
    pub(crate) per_second: f64,
    pub(crate) latency_us: Latency,
    pub(crate) generator_cores: f64,
    /// All of them, not the middle.
    pub(crate) errors: u64,
}

/// First divided by second: above 1, the first has more operations, or a longer latency.
#[derive(Serialize)]
pub(crate) struct Ratios {
    pub(crate) per_second: Spread,
    pub(crate) p50: Spread,
    pub(crate) p99: Spread,
}

/// Over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(ratios: &[f64]) -> Spread {
        Spread {
            median: median(ratios.iter().copied()),
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(0.0, f64::max),
        }
    }
}

impl Measurement {
    /// Works out what the runs come to together.
    pub(crate) fn conclude(&mut self) {
        let mut systems: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !systems.contains(&run.system.as_str()) {
                systems.push(&run.system);
            }
        }
        self.medians = systems
            .iter()
            .map(|system| middle(system, self.of(system)))
            .collect();
        self.ratio = match systems[..] {
            [first, second] => ratios(&self.of(first), &self.of(second)),
            _ => None,
        };
    }

    fn of(&self, system: &str) -> Vec<&Run> {
        let runs = self.runs.iter();
        runs.filter(|run| run.system == system).collect()
    }

    /// Whether each run did something.
    pub(crate) fn has_something(&self) -> bool {
        self.runs.iter().all(|run| run.summary.operations > 0)
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n", self.title());
        let counted = self.workload.counts();
        let mut table = Table::new(&[
            "ROUND",
            "SYSTEM",
            "PER SECOND",
            "P50",
            "P90",
            "P99",
            "P99.9",
            "MOST",
            "ERRORS",
            "OWN CORES",
        ]);
        for run in &self.runs {
            let errors = run.summary.errors.values().sum();
            let shown = (run.summary.per_second, &run.summary.latency_us, errors);
            let round = run.round.to_string();
            let of = (shown, run.summary.operations);
            table.row(row(&round, &run.system, of, run.generator_cores));
        }
        if self.runs.len() > self.medians.len() {
            for median in &self.medians {
                let shown = (median.per_second, &median.latency_us, median.errors);
                let of = self.of(&median.system).into_iter();
                let least = of.map(|run| run.summary.operations).min();
                let of = (shown, least.unwrap_or_default());
                table.row(row("median", &median.system, of, median.generator_cores));
            }
        }
        text.push_str(&table.render());
        if let Some(ratio) = &self.ratio {
            let _ = writeln!(
                text,
                "{} beside {}: {} {counted} a second, {} p50, {} p99",
                self.medians[0].system,
                self.medians[1].system,
                shown(ratio.per_second),
                shown(ratio.p50),
                shown(ratio.p99),
            );
        }
        for run in &self.runs {
            run.describe(&mut text);
        }
        text
    }

    fn title(&self) -> String {
        let mut title = format!(
            "{}: {}, {}",
            name(self.workload),
            count(self.clients, "client"),
            count(self.connections, "connection"),
        );
        if let Some(leases) = self.leases {
            let _ = write!(title, ", {}", count(leases, "lease"));
        }
        if self.workload.has_values() {
            let _ = write!(title, ", {} bytes", self.value_bytes);
        }
        if let Some(rate) = self.rate {
            let _ = write!(title, ", {rate:.0} a second asked for");
        }
        let _ = write!(
            title,
            ", {:.1} s after {:.1} s of warm-up\n{} counted, latency {}",
            self.duration_ms as f64 / 1000.0,
            self.warmup_ms as f64 / 1000.0,
            self.workload.counts(),
            self.workload.latency(),
        );
        title
    }
}

impl Run {
    /// What the columns do not say.
    fn describe(&self, text: &mut String) {
        let who = format!("round {}, {}", self.round, self.system);
        if let Some(writes) = &self.writes {
            let latency = &writes.latency_us;
            let _ = writeln!(
                text,
                "{who}: {:.0} writes/s, p50 {}, p99 {}",
                writes.per_second,
                known(writes.operations, 2, latency.p50),
                known(writes.operations, 100, latency.p99)
            );
        }
        let of_writes = self.writes.iter();
        for summary in std::iter::once(&self.summary).chain(of_writes) {
            for (code, times) in &summary.errors {
                let example = summary.examples.get(code);
                let example =
                    example.map_or_else(String::new, |detail| format!(", such as: {detail}"));
                let _ = writeln!(text, "{who}: {times} × {code}{example}");
            }
        }
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// As it is written on the command line.
pub(crate) fn name(workload: Workload) -> String {
    clap::ValueEnum::to_possible_value(&workload)
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn middle(system: &str, runs: Vec<&Run>) -> Median {
    let of = |number: fn(&Run) -> f64| median(runs.iter().map(|run| number(run)));
    let micros = |number: fn(&Latency) -> u64| {
        median(
            runs.iter()
                .map(|run| number(&run.summary.latency_us) as f64),
        ) as u64
    };
    Median {
        system: system.to_owned(),
        per_second: of(|run| run.summary.per_second),
        latency_us: Latency {
            mean: of(|run| run.summary.latency_us.mean),
            min: micros(|latency| latency.min),
            p50: micros(|latency| latency.p50),
            p90: micros(|latency| latency.p90),
            p99: micros(|latency| latency.p99),
            p999: micros(|latency| latency.p999),
            max: micros(|latency| latency.max),
        },
        generator_cores: of(|run| run.generator_cores),
        errors: runs
            .iter()
            .flat_map(|run| run.summary.errors.values())
            .sum(),
    }
}

/// None where a round of one of them did nothing, for there is nothing to divide by.
fn ratios(first: &[&Run], second: &[&Run]) -> Option<Ratios> {
    let spread = |number: fn(&Run) -> f64| {
        let mut ratios = Vec::new();
        for (first, second) in first.iter().zip(second) {
            ratios.push(number(first) / number(second));
        }
        let sane = !ratios.is_empty() && ratios.iter().all(|ratio| ratio.is_finite());
        sane.then(|| Spread::of(&ratios))
    };
    Some(Ratios {
        per_second: spread(|run| run.summary.per_second)?,
        p50: spread(|run| run.summary.latency_us.p50 as f64)?,
        p99: spread(|run| run.summary.latency_us.p99 as f64)?,
    })
}

fn row(
    what: &str,
    system: &str,
    ((per_second, latency, errors), operations): ((f64, &Latency, u64), u64),
    cores: f64,
) -> Vec<Cell> {
    let known = |least: u64, micros: u64| known(operations, least, micros);
    let cells = [
        what.to_owned(),
        system.to_owned(),
        format!("{per_second:.0}"),
        known(2, latency.p50),
        known(10, latency.p90),
        known(100, latency.p99),
        known(1000, latency.p999),
        time(latency.max),
        errors.to_string(),
        format!("{cores:.2}"),
    ];
    cells.into_iter().map(Cell::from).collect()
}

/// A percentile, where there were operations enough: among fewer it is but the longest under another name.
fn known(operations: u64, least: u64, micros: u64) -> String {
    match least <= operations {
        true => time(micros),
        false => "-".to_owned(),
    }
}

fn shown(spread: Spread) -> String {
    if spread.least == spread.most {
        return format!("{:.2} ×", spread.median);
    }
    let Spread {
        median,
        least,
        most,
    } = spread;
    format!("{median:.2} × ({least:.2} to {most:.2})")
}

fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn run(round: usize, system: &str, per_second: f64, p99: u64) -> Run {
        let latency_us = Latency {
            p50: p99 / 2,
            p99,
            ..Latency::default()
        };
        let summary = Summary {
            operations: per_second as u64,
            per_second,
            latency_us,
            errors: BTreeMap::new(),
            examples: BTreeMap::new(),
        };
        Run {
            round,
            system: system.into(),
            summary,
            writes: None,
            generator_cores: 0.25,
        }
    }

    fn concluded(runs: Vec<Run>) -> Measurement {
        let mut measurement = Measurement {
            workload: Workload::GetLocal,
            clients: 4,
            connections: 4,
            value_bytes: 256,
            leases: None,
            rate: None,
            warmup_ms: 500,
            duration_ms: 1000,
            runs,
            medians: Vec::new(),
            ratio: None,
        };
        measurement.conclude();
        measurement
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let measurement = concluded(vec![
            run(1, "a", 100.0, 1000),
            run(1, "b", 50.0, 2000),
            run(2, "a", 20.0, 4000),
            run(2, "b", 5.0, 4000),
            run(3, "a", 90.0, 1000),
            run(3, "b", 90.0, 4000),
        ]);
        let [a, b] = &measurement.medians[..] else {
            panic!("two systems")
        };
        assert_eq!((a.per_second, b.per_second), (90.0, 50.0));
        assert_eq!((a.latency_us.p99, b.latency_us.p99), (1000, 4000));
        let ratio = measurement.ratio.as_ref().expect("there are two systems");
        let expected = Spread {
            median: 2.0,
            least: 1.0,
            most: 4.0,
        };
        assert_eq!(ratio.per_second, expected);
        assert_eq!(ratio.p99.median, 0.5);
        let table = measurement.table();
        assert!(
            table.contains("a beside b: 2.00 × (1.00 to 4.00) reads a second"),
            "{table}"
        );
        assert!(table.starts_with("get-local: 4 clients"), "{table}");
    }

    #[test]
    fn a_round_without_a_success_has_no_ratio_and_is_seen() {
        let measurement = concluded(vec![run(1, "a", 100.0, 1000), run(1, "b", 0.0, 0)]);
        assert!(measurement.ratio.is_none());
        assert!(!measurement.has_something());
        let json = serde_json::to_value(&measurement).expect("it has a form in JSON");
        assert_eq!(json["workload"], "get-local");
        assert!(json["ratio"].is_null());
    }

    #[test]
    fn one_system_has_medians_and_no_ratio() {
        let mut failed = run(1, "a", 10.0, 100);
        failed.summary.errors.insert("no-leader".into(), 3);
        failed
            .summary
            .examples
            .insert("no-leader".into(), "gone".into());
        let measurement = concluded(vec![failed, run(2, "a", 30.0, 300)]);
        assert!(measurement.ratio.is_none());
        assert_eq!(measurement.medians[0].per_second, 20.0);
        assert_eq!(measurement.medians[0].errors, 3);
        let table = measurement.table();
        assert!(
            table.contains("round 1, a: 3 × no-leader, such as: gone"),
            "{table}"
        );
    }

    #[test]
    fn percentiles_that_need_more_operations_than_there_were_are_left_out() {
        let rows = |operations: f64| -> Vec<String> {
            let table = concluded(vec![run(1, "a", operations, 1000)]).table();
            let table = anstream::adapter::strip_str(&table).to_string();
            let row = table.lines().find(|line| line.starts_with("1 "));
            let row = row.expect("the round has a row").replace(" µs", "µs");
            let row = row.replace(" ms", "ms");
            row.split_whitespace()
                .skip(3)
                .take(4)
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(rows(25.0), ["500µs", "0µs", "-", "-"]);
        assert_eq!(rows(999.0), ["500µs", "0µs", "1.00ms", "-"]);
        assert_eq!(rows(1000.0), ["500µs", "0µs", "1.00ms", "0µs"]);
        assert_eq!(rows(0.0), ["-", "-", "-", "-"]);
    }

    #[test]
    fn times_are_shown_in_units_that_fit() {
        for (micros, expected) in [
            (7, "7 µs"),
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (46_500, "46.5 ms"),
            (2_500_000, "2.50 s"),
        ] {
            assert_eq!(time(micros), expected);
        }
    }
}
