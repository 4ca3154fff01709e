//! `tenure bench`: loads a running cluster and says how fast it answered.
//!
//! Owns the arguments and the order of the runs. `README.md` beside this file says how a comparison is made.

mod busy;
mod drive;
#[cfg(feature = "etcd")]
mod etcd;
mod progress;
mod report;
mod system;
mod tally;
mod target;
mod tenure;
mod work;

use std::time::Duration;

use tokio::sync::watch;

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::{self, Output};
use crate::settings::Access;

use self::drive::{Stop, Timing};
use self::progress::Progress;
use self::report::{Machine, Measurement, Report, Run};
use self::system::Failure;
use self::target::{Against, Target};
use self::work::{Plan, Workload};

/// A transaction deletes at most 10000 keys, and each client may have one.
const MAX_CLIENTS: u64 = 10_000;
const MAX_VALUE: u64 = 1 << 20;
const MAX_LEASES: u64 = 1_000_000;
/// Leases that are not renewed outlast a run, and a lease lasts a day at most.
const MAX_TIME: Duration = Duration::from_secs(6 * 3600);
/// How often a lease is renewed within its TTL.
const RENEWALS_IN_TTL: f64 = 3.0;

const EXAMPLES: &str = "\
Each client has one request under way at a time. The first connection goes to the leader, the next to the other members \
in turn. What is prepared is cleaned up: keys below `bench/` are deleted, leases revoked, also after Ctrl-C. Errors are \
counted by their code, never as successes, and nothing is retried. OWN CORES is what this program itself used. Members are \
asked by `https`, with a certificate and a token, where the context says so. With access control its identity needs, without a \
quota of requests:
  tenure role put bench --grant read,list,write,delete,watch:keys/bench/ --grant lock:locks/bench/ \\
    --grant campaign:elections/bench/ --grant lease:leases/

Examples:
  tenure bench put
  tenure bench put get get-local --clients 1,64,256 --duration 30s
  tenure bench handoff election --clients 64
  tenure bench watch --clients 1000 --rate 50
  tenure bench renew --leases 100000 --ttl 10s --clients 64
  tenure bench lock --output json | jq '.measurements[].medians'
  tenure bench put lock --clients 64 --rounds 5 \\
    --against etcd=http://127.0.0.1:2379,http://127.0.0.2:2379,http://127.0.0.3:2379

`--against etcd=` gives the same work to a cluster of etcd, in turns, and tells the ratios. It needs a build with \
`--features etcd`, which needs protobuf-compiler. Three members of etcd on this machine, with synced disks:
  sdk/cli/src/bench/three-members.sh etcd DIRECTORY

Exit codes: 0 measured, 1 a workload could not be run or had no success, 64 wrong usage, 69 nobody answered, \
77 not allowed, 130 interrupted.";

/// What is measured, and how.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// What to do, one after the other
    #[arg(value_enum, required = true, value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
    /// How many clients work at once; a measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "64", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    clients: Vec<u64>,
    /// Connections in all: HTTP/1.1 and one for each client, unless they are fewer, which clients share over HTTP/2
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    connections: Option<u64>,
    /// Bytes of a value; `watch` needs 32 of them
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=MAX_VALUE))]
    value_size: u64,
    /// How long each run is measured
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// How long each run goes on before it is measured
    #[arg(long, default_value = "2s", value_parser = duration::parse)]
    warmup: Duration,
    /// How often each is run; the middle is told
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000), default_value = "1", default_value_if("against", clap::builder::ArgPredicate::IsPresent, "3"))]
    rounds: u64,
    /// Operations a second of all clients together (of `watch`: writes), or `max`; who is late counts from when it was due [default: max; of `renew`: each lease three times in its TTL]
    #[arg(long, value_parser = rate)]
    rate: Option<Rate>,
    /// How many leases `renew` keeps alive
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=MAX_LEASES))]
    leases: u64,
    /// The TTL of the leases of `renew`
    #[arg(long, default_value = "10s", value_parser = duration::ttl)]
    ttl: Duration,
    /// Do the same to another system, in turns: etcd=URL,URL,…
    #[arg(long, value_name = "SYSTEM=URLS")]
    against: Option<Against>,
    /// Threads of this program; more than one where it has a machine of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    Max,
    PerSecond(f64),
}

impl Bench {
    /// Runs the workloads against the members to which there is access.
    ///
    /// # Errors
    ///
    /// Where the arguments do not go together, or a workload could not be run.
    pub(crate) fn run(self, access: Access, output: Output) -> Result<Exit, Trouble> {
        self.check().map_err(Trouble::usage)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.threads as usize)
            .enable_all()
            .build()
            .map_err(|error| Trouble::new(Exit::FAILED, format!("no threads: {error}")))?;
        let mut targets = vec![Target::Tenure(access)];
        targets.extend(self.against.iter().map(Against::target));
        // Spawned, so that what leads a run is on the threads that were asked for.
        runtime.block_on(async move {
            let leading = tokio::spawn(async move { self.measure_all(&targets, output).await });
            leading.await.expect("a run does not panic")
        })
    }

    /// What the arguments cannot say one by one.
    fn check(&self) -> Result<(), String> {
        let whole = self.warmup + self.duration;
        if self.duration.is_zero() || whole > MAX_TIME {
            return Err(format!(
                "--warmup and --duration are {whole:?} together; more than 0s and at most 6h is accepted"
            ));
        }
        let most = self.clients.iter().max().copied().unwrap_or_default();
        if self.workloads.contains(&Workload::Renew) && self.leases < most {
            return Err(format!(
                "--leases is {}; at least one for each of {most} clients is needed",
                self.leases
            ));
        }
        let whole_seconds = self.ttl.subsec_nanos() == 0;
        if self.against.is_some() && !whole_seconds {
            return Err(format!(
                "--ttl is {:?}; etcd takes whole seconds only",
                self.ttl
            ));
        }
        Ok(())
    }

    async fn measure_all(&self, targets: &[Target], output: Output) -> Result<Exit, Trouble> {
        let (asks_to_stop, stop) = watch::channel(false);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                let _ = asks_to_stop.send(true);
            } else {
                std::future::pending::<()>().await;
            }
        });
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here(),
            measurements: Vec::new(),
        };
        if output == Output::Table {
            output::text(&format!("{}\n\n", report.machine))?;
        }
        let mut failed = None;
        'all: for workload in &self.workloads {
            for clients in &self.clients {
                let measured = self.measure(*workload, *clients as usize, targets, &stop);
                let measurement = match measured.await {
                    Ok(measurement) => measurement,
                    Err(failure) => {
                        failed = Some(trouble(&failure));
                        break 'all;
                    }
                };
                if output == Output::Table {
                    output::text(&format!("{}\n", measurement.table()))?;
                }
                report.measurements.push(measurement);
            }
        }
        // What was measured before it failed, or was to stop, is told all the same.
        if output == Output::Json && (failed.is_none() || !report.measurements.is_empty()) {
            output::json(&report)?;
        }
        if let Some(trouble) = failed {
            return Err(trouble);
        }
        if report.measurements.iter().all(Measurement::has_something) {
            return Ok(Exit::DONE);
        }
        Err(Trouble::new(Exit::FAILED, "a run had no success at all")
            .afterwards()
            .then("its errors are counted by their codes above; `tenure status` shows the members"))
    }

    /// One workload with one number of clients, on each system in each round.
    async fn measure(
        &self,
        workload: Workload,
        clients: usize,
        targets: &[Target],
        stop: &Stop,
    ) -> Result<Measurement, Failure> {
        let timing = self.timing(workload);
        let connections = self.connections.unwrap_or(clients as u64) as usize;
        let mut measurement = Measurement {
            workload,
            clients,
            connections: connections.min(clients),
            value_bytes: self.value_size as usize,
            leases: (workload == Workload::Renew).then_some(self.leases as usize),
            rate: timing.rate,
            warmup_ms: millis(self.warmup),
            duration_ms: millis(self.duration),
            runs: Vec::new(),
            medians: Vec::new(),
            ratio: None,
        };
        for round in 1..=self.rounds as usize {
            for target in targets {
                let progress = Progress::new(format!(
                    "{}, {clients} clients, {}, round {round} of {}",
                    report::name(workload),
                    target.name(),
                    self.rounds
                ));
                let plan = self.plan(workload, clients);
                let (system, measured) = target
                    .run(connections, plan, timing, stop, &progress)
                    .await?;
                measurement.runs.push(Run {
                    round,
                    system,
                    summary: measured.summary,
                    writes: measured.writes,
                    generator_cores: measured.generator_cores,
                });
            }
        }
        measurement.conclude();
        Ok(measurement)
    }

    fn timing(&self, workload: Workload) -> Timing {
        let rate = match (self.rate, workload) {
            (Some(Rate::Max), _) => None,
            (Some(Rate::PerSecond(rate)), _) => Some(rate),
            (None, Workload::Renew) => {
                Some(self.leases as f64 * RENEWALS_IN_TTL / self.ttl.as_secs_f64())
            }
            (None, _) => None,
        };
        Timing {
            warmup: self.warmup,
            duration: self.duration,
            rate,
        }
    }

    fn plan(&self, workload: Workload, clients: usize) -> Plan {
        // Whole seconds, for etcd.
        let outlasting = Duration::from_secs(2 * (self.warmup + self.duration).as_secs() + 60);
        let ttl = match workload {
            Workload::Renew => self.ttl,
            _ => outlasting,
        };
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let run = format!(
            "bench/{:x}-{:x}",
            std::process::id(),
            now.unwrap_or_default().as_nanos()
        );
        let value_size = self.value_size as usize;
        Plan::new(
            workload,
            clients,
            value_size,
            self.leases as usize,
            ttl,
            run,
        )
    }
}

fn trouble(failure: &Failure) -> Trouble {
    let exit = match failure.code.as_str() {
        "interrupted" => {
            return Trouble::new(Exit::by_signal(2), failure.to_string()).afterwards();
        }
        "connection" | "no-answer" | "no-leader" | "unavailable" => Exit::UNREACHABLE,
        "invalid-url" => Exit::CONFIG,
        "unauthenticated" | "forbidden" => Exit::DENIED,
        _ => Exit::FAILED,
    };
    let next = match failure.code.as_str() {
        "unauthenticated" | "forbidden" => {
            "give --token-file FILE of an identity with the role that --help shows"
        }
        "too-many-requests" | "quota-exceeded" => {
            "what is measured is the quota of this identity (`tenure identity get NAME`), or a limit of the cluster"
        }
        _ => "`tenure status` shows which members are well; --endpoints names others",
    };
    Trouble::new(exit, failure.to_string())
        .afterwards()
        .then(next)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(Rate::PerSecond(rate)),
        _ => Err("`max` or a number from 0.001 to 1000000000 is accepted".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Bench,
    }

    fn parse(arguments: &str) -> Result<Bench, String> {
        let words = std::iter::once("bench").chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.bench.check()?;
        Ok(cli.bench)
    }

    #[test]
    fn wrong_arguments_are_told_with_what_is_accepted() {
        for (arguments, told) in [
            ("", "WORKLOAD"),
            ("puts", "get-local"),
            ("put --clients 0", "1..=10000"),
            ("put --duration 5", "write 5ms, 5s, 5m or 5h"),
            ("put --duration 0s", "more than 0s"),
            ("put --duration 7h", "at most 6h"),
            ("put --rate 0", "`max` or a number"),
            ("put --rate NaN", "`max` or a number"),
            ("renew --ttl 10ms", "a TTL is 1s to 24h"),
            ("renew --leases 10", "one for each of 64 clients"),
            ("put --value-size 2000000", "1048576"),
            ("put --against consul=http://a:1", "etcd=URL"),
            ("put --against etcd=", "etcd=URL"),
        ] {
            let error = parse(arguments).err();
            let error = error.unwrap_or_else(|| panic!("{arguments} is accepted"));
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }

    #[test]
    fn leases_are_renewed_three_times_in_their_ttl_unless_told_otherwise() {
        let rate = |arguments: &str, workload| {
            let bench = parse(arguments).expect("they are right");
            bench.timing(workload).rate
        };
        let renew = "renew --leases 6000 --ttl 10s";
        assert_eq!(rate(renew, Workload::Renew), Some(1800.0));
        assert_eq!(rate("renew --rate max", Workload::Renew), None);
        assert_eq!(rate("put", Workload::Put), None);
        assert_eq!(rate("put --rate 50", Workload::Put), Some(50.0));
    }
}
