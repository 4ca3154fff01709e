//! `tenure bench`: every workload does work, errors are errors, and nothing is left behind.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{Cluster, SOON, Setup, wait};
use crate::support::{Ran, begun, ran, run, tenure};

/// Runs `tenure bench` with these words.
fn bench(cluster: &Cluster, arguments: &str) -> Ran {
    ran(cluster, words(arguments))
}

fn words(arguments: &str) -> Vec<&str> {
    let bench = std::iter::once("bench");
    bench.chain(arguments.split_whitespace()).collect()
}

/// The measurements of a run that was to succeed.
fn measured(cluster: &Cluster, arguments: &str) -> Vec<Value> {
    let report = bench(cluster, &format!("{arguments} -o json"))
        .expect(0)
        .json();
    let measurements = report["measurements"].as_array();
    measurements.expect("it has measurements").clone()
}

/// Whatever hangs on the cluster that a bench could have put there.
fn left_behind(cluster: &Cluster, target: &str) -> u64 {
    let answer = cluster.members[0].client().get(target);
    let answer = answer.expect("the member answers").expect(200);
    answer.u64("count")
}

const KEYS: &str = "/v1/keys?prefix=bench/&keys_only=true";
const LEASES: &str = "/v1/leases";
const LOCKS: &str = "/v1/locks?prefix=bench/";

fn assert_empty(cluster: &Cluster) {
    assert_eq!(left_behind(cluster, KEYS), 0, "keys are deleted");
    assert_eq!(left_behind(cluster, LEASES), 0, "leases are revoked");
}

fn count(of: &Value) -> u64 {
    of["operations"].as_u64().expect("a number")
}

/// One run that did what it says, without errors.
fn check(run: &Value, seconds: f64) {
    let system = run["system"].as_str().expect("it has a name");
    assert!(system.starts_with("tenure "), "{run}");
    assert!(count(run) > 0, "{run}");
    let per_second = run["per_second"].as_f64().expect("a number");
    let difference = per_second * seconds - count(run) as f64;
    assert!(difference.abs() < 1.0, "{run}");
    assert_eq!(run["errors"], json!({}), "{run}");
    let latency = |name: &str| run["latency_us"][name].as_u64().expect("a number");
    let rising = ["min", "p50", "p90", "p99", "p999", "max"].map(latency);
    assert!(rising[0] > 0 && rising.is_sorted(), "{run}");
    assert!(u128::from(rising[5]) < SOON.as_micros(), "{run}");
}

#[test]
fn every_workload_of_bench_does_work_without_errors_and_leaves_nothing_behind() {
    let cluster = Setup::of(3).start();
    let measurements = measured(
        &cluster,
        "put get get-local lock handoff election watch renew --clients 3 --duration 1s \
         --warmup 200ms --leases 90 --ttl 3s",
    );
    let names: Vec<&str> = measurements
        .iter()
        .filter_map(|measurement| measurement["workload"].as_str())
        .collect();
    let all = "put get get-local lock handoff election watch renew";
    assert_eq!(names.join(" "), all);
    for measurement in &measurements {
        assert_eq!(measurement["clients"], 3);
        let run = &measurement["runs"][0];
        check(run, 1.0);
        let median = &measurement["medians"][0];
        assert_eq!(median["per_second"], run["per_second"]);
    }
    let watch = &measurements[6]["runs"][0];
    let (told, written) = (count(watch), count(&watch["writes"]));
    // Every write reaches all three before the next; only the first and the last may be counted in part.
    assert!(told.abs_diff(3 * written) <= 6, "{told} of {written}");
    let renew = &measurements[7];
    assert_eq!(renew["rate"], 90.0, "each lease three times in its TTL");
    assert_empty(&cluster);
}

#[test]
fn clients_of_bench_share_connections_and_rounds_have_a_median() {
    let cluster = Setup::of(1).start();
    let measurements = measured(
        &cluster,
        "put handoff watch --clients 8 --connections 2 --value-size 5000 --rounds 3 \
         --duration 500ms --warmup 100ms",
    );
    for measurement in measurements {
        assert_eq!(measurement["connections"], 2);
        let runs = measurement["runs"].as_array().expect("a list");
        assert_eq!(runs.len(), 3);
        let mut speeds: Vec<f64> = Vec::new();
        for run in runs {
            check(run, 0.5);
            speeds.extend(run["per_second"].as_f64());
        }
        speeds.sort_by(f64::total_cmp);
        assert_eq!(measurement["medians"][0]["per_second"], speeds[1]);
        assert!(measurement["ratio"].is_null(), "there is nothing beside it");
    }
    assert_empty(&cluster);
}

#[test]
fn bench_keeps_the_rate_that_it_is_given() {
    let cluster = Setup::of(1).start();
    let put = "put --clients 4 --rate 40 --duration 2s --warmup 500ms";
    let run = &measured(&cluster, put)[0]["runs"][0];
    check(run, 2.0);
    // 80 are due within the time, and what was late at its beginning comes on top.
    assert!((60..=100).contains(&count(run)), "{run}");
}

#[test]
fn a_member_that_dies_is_counted_as_errors_of_bench_and_what_stays_is_told() {
    let cluster = Setup::of(1).start();
    let ran = thread::scope(|scope| {
        // Long enough that a busy machine kills the member before the end.
        let lock = "lock --clients 4 --duration 8s --warmup 0s -o json";
        let running = scope.spawn(|| bench(&cluster, lock));
        wait::until("locks are taken", SOON, || {
            (left_behind(&cluster, LOCKS) > 0).then_some(())
        });
        thread::sleep(Duration::from_millis(500));
        cluster.members[0].kill();
        running.join().expect("it runs")
    });
    let ran = ran.expect(0);
    assert!(
        ran.stderr.contains("4 leases are left behind"),
        "{}",
        ran.stderr
    );
    let report = ran.json();
    let run = &report["measurements"][0]["runs"][0];
    assert!(run["errors"]["connection"].as_u64() >= Some(4), "{run}");
}

#[test]
fn what_bench_cannot_prepare_is_told_by_its_code_and_cleaned_up() {
    let cluster = Setup::of(1).start();
    let limits = json!({ "value_bytes": 1024 });
    let limited = cluster.members[0]
        .client()
        .json("PATCH", "/v1/limits", &limits);
    limited.expect("the member answers").expect(200);
    let ran = bench(&cluster, "put --value-size 2000 --duration 1s").expect(1);
    assert!(ran.stderr.contains("too-large"), "{}", ran.stderr);
    assert_empty(&cluster);
}

#[test]
fn bench_says_who_does_not_answer_and_is_ended_with_its_own_code() {
    let cluster = Setup::of(1).prepare();
    let ran = bench(&cluster, "put --duration 1s").expect(69);
    let address = cluster.members[0].client.to_string();
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

#[test]
fn an_interrupt_ends_bench_which_cleans_up() {
    let cluster = Setup::of(1).start();
    let began = Instant::now();
    let put = words("put lock --clients 4 --duration 5m");
    let mut bench = begun(&cluster, "bench.log", put);
    wait::until("keys are written", SOON, || {
        (left_behind(&cluster, KEYS) == 4).then_some(())
    });
    bench.signal(Signal::INT);
    assert_eq!(bench.exit_code(SOON), 130, "{}", bench.output());
    assert!(began.elapsed() < SOON * 3, "it does not go on to its end");
    assert_empty(&cluster);
}

#[test]
fn what_was_measured_before_an_interrupt_is_told_as_json_too() {
    let cluster = Setup::of(1).start();
    let both = words("put lock --clients 4 --duration 2s --warmup 100ms -o json");
    let mut bench = begun(&cluster, "bench.log", both);
    wait::until("locks are taken", SOON, || {
        (left_behind(&cluster, LOCKS) > 0).then_some(())
    });
    bench.signal(Signal::INT);
    assert_eq!(bench.exit_code(SOON), 130, "{}", bench.output());
    let told = bench.output();
    assert!(told.contains("\"workload\":\"put\""), "{told}");
    assert!(!told.contains("\"workload\":\"lock\""), "{told}");
    assert_empty(&cluster);
}

#[test]
fn the_table_of_bench_says_what_was_measured() {
    let cluster = Setup::of(1).start();
    let table = bench(
        &cluster,
        "get --clients 1,2 --duration 300ms --warmup 100ms",
    )
    .expect(0);
    for part in [
        "cores",
        "get: 1 client, 1 connection, 256 bytes, 0.3 s after 0.1 s of warm-up",
        "get: 2 clients, 2 connections",
        "P99.9",
        "OWN CORES",
    ] {
        let table = &table.stdout;
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
}

#[test]
fn wrong_words_of_bench_are_refused_before_anything_is_asked() {
    let wrong = |arguments: &str, told: &str| {
        let ran = run(&mut tenure(words(arguments))).expect(64);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    };
    wrong("puts", "get-local");
    wrong(
        "renew --leases 10 --clients 64",
        "one for each of 64 clients",
    );
    if cfg!(not(feature = "etcd")) {
        wrong(
            "put --against etcd=http://127.0.0.1:2379",
            "--features etcd",
        );
    }
}
