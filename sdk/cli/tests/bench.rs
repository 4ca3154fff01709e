//! `tenure bench` against a real member: every workload does work, errors are errors, and nothing is left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const TENURE: &str = env!("CARGO_BIN_EXE_tenure");
/// However busy the machine is.
const SOON: Duration = Duration::from_secs(60);

/// `tenured dev` with one member; killed when dropped.
struct Dev {
    process: Child,
    port: u16,
}

/// The daemon of the same build; built here where only this package is tested.
fn tenured() -> PathBuf {
    let beside = PathBuf::from(TENURE).with_file_name("tenured");
    if !beside.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "tenured", "--bin", "tenured"])
            .status();
        assert!(built.is_ok_and(|built| built.success()), "tenured is built");
    }
    beside
}

/// A port that is free, and the next one too.
fn two_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = first.local_addr().expect("it has an address").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

impl Dev {
    fn start() -> Dev {
        let port = two_ports();
        let mut process = Command::new(tenured())
            .args(["dev", "--client-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tenured starts");
        let stdout = process.stdout.take().expect("its output is piped");
        let ready = BufReader::new(stdout).lines().next();
        let dev = Dev { process, port };
        let ready = ready.expect("it says something").expect("in UTF-8");
        assert_eq!(ready, format!("ready: {}", dev.url()));
        dev
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn call(&self, method: &str, target: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn assert_empty(&self) {
        let keys = self.call("GET", "/v1/keys?prefix=bench/&keys_only=true", "");
        assert_eq!(keys["count"], 0, "{keys}");
        let leases = self.call("GET", "/v1/leases", "");
        assert_eq!(leases["count"], 0, "{leases}");
    }

    fn bench(&self, arguments: &str) -> Command {
        bench(&self.url(), arguments)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn bench(url: &str, arguments: &str) -> Command {
    let mut command = Command::new(TENURE);
    command
        .args(["bench", "--endpoints", url])
        .args(arguments.split_whitespace())
        .env_remove("TENURE_ENDPOINTS")
        .env_remove("TENURE_CONTEXT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("tenure starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The measurements of a run that succeeded.
fn measured(output: &Output) -> Vec<Value> {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON alone");
    let measurements = report["measurements"].as_array();
    measurements.expect("it has measurements").clone()
}

/// One run that did what it says, without errors.
fn check(run: &Value, seconds: f64) {
    let system = run["system"].as_str().expect("it has a name");
    assert!(system.starts_with("tenure "), "{run}");
    let operations = run["operations"].as_f64().expect("a number");
    assert!(operations > 0.0, "{run}");
    let per_second = run["per_second"].as_f64().expect("a number");
    assert!((per_second * seconds - operations).abs() < 1.0, "{run}");
    assert_eq!(run["errors"], serde_json::json!({}), "{run}");
    let latency = |name: &str| run["latency_us"][name].as_u64().expect("a number");
    let rising = ["min", "p50", "p90", "p99", "p999", "max"].map(latency);
    assert!(rising[0] > 0 && rising.is_sorted(), "{run}");
    // Nothing takes longer than it was measured and prepared.
    assert!(rising[5] < 60_000_000, "{run}");
}

#[test]
fn every_workload_does_work_without_errors_and_leaves_nothing_behind() {
    let dev = Dev::start();
    let output = run(dev.bench(
        "put get get-local lock handoff election watch renew --clients 3 --duration 1s --warmup 200ms \
         --leases 90 --ttl 2s --output json",
    ));
    let measurements = measured(&output);
    let names: Vec<&str> = measurements
        .iter()
        .filter_map(|measurement| measurement["workload"].as_str())
        .collect();
    let all = "put get get-local lock handoff election watch renew";
    assert_eq!(names.join(" "), all);
    for measurement in &measurements {
        assert_eq!(measurement["clients"], 3);
        check(&measurement["runs"][0], 1.0);
        assert_eq!(
            measurement["medians"][0]["per_second"],
            measurement["runs"][0]["per_second"]
        );
    }
    let watch = &measurements[6]["runs"][0];
    let count = |of: &Value| of["operations"].as_u64().expect("a number");
    let (told, written) = (count(watch), count(&watch["writes"]));
    // Every write reaches all three before the next; only the first and the last may be counted in part.
    assert!(told.abs_diff(3 * written) <= 6, "{told} of {written}");
    let renew = &measurements[7];
    assert_eq!(renew["rate"], 135.0, "each lease three times in its TTL");
    assert!(count(&renew["runs"][0]) <= 180, "{renew}");
    dev.assert_empty();
}

#[test]
fn clients_share_connections_and_rounds_have_a_median() {
    let dev = Dev::start();
    let output = run(dev.bench(
        "put handoff watch --clients 8 --connections 2 --value-size 5000 --rounds 3 --duration 500ms \
         --warmup 100ms --output json",
    ));
    for measurement in measured(&output) {
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
    dev.assert_empty();
}

#[test]
fn a_rate_is_kept() {
    let dev = Dev::start();
    let output =
        run(dev.bench("put --clients 4 --rate 40 --duration 2s --warmup 500ms --output json"));
    let measurements = measured(&output);
    let run = &measurements[0]["runs"][0];
    check(run, 2.0);
    let operations = run["operations"].as_u64().expect("a number");
    assert!((60..=90).contains(&operations), "80 were due: {run}");
}

#[test]
fn a_member_that_dies_is_counted_as_errors_and_what_is_left_behind_is_told() {
    let mut dev = Dev::start();
    let child = dev
        .bench("lock --clients 4 --duration 4s --warmup 0s --output json")
        .spawn()
        .expect("tenure starts");
    let began = Instant::now();
    while dev.call("GET", "/v1/locks?prefix=bench/", "")["count"] == 0 {
        assert!(began.elapsed() < SOON, "locks are taken");
    }
    sleep(Duration::from_millis(500));
    dev.process.kill().expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let told = text(&output.stderr);
    assert!(told.contains("4 leases are left behind"), "{told}");
    let run = &measured(&output)[0]["runs"][0];
    assert!(run["operations"].as_u64() > Some(0), "{run}");
    assert!(run["errors"]["connection"].as_u64() >= Some(4), "{run}");
}

#[test]
fn what_cannot_be_prepared_is_told_by_its_code_and_cleaned_up() {
    let dev = Dev::start();
    dev.call("PATCH", "/v1/limits", r#"{"value_bytes":1024}"#);
    let output = run(dev.bench("put --value-size 2000 --duration 1s"));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("too-large"), "{told}");
    dev.assert_empty();
}

#[test]
fn nobody_there_is_told_by_url() {
    let url = format!("http://127.0.0.1:{}", two_ports());
    let output = run(bench(&url, "put --duration 1s"));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains(&url), "{told}");
}

#[test]
fn an_interrupt_ends_it_and_cleans_up() {
    let dev = Dev::start();
    let child = dev
        .bench("put lock --clients 4 --duration 50s")
        .spawn()
        .expect("tenure starts");
    let began = Instant::now();
    while dev.call("GET", "/v1/keys?prefix=bench/", "")["count"] != 4 {
        assert!(began.elapsed() < SOON, "keys are written");
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert!(began.elapsed() < SOON, "it does not go on to its end");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    dev.assert_empty();
}

#[test]
fn a_table_for_people_says_what_was_measured() {
    let dev = Dev::start();
    let output = run(dev.bench("get --clients 1,2 --duration 300ms --warmup 100ms"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for part in [
        "cores",
        "get: 1 client, 1 connection, 256 bytes, 0.3 s after 0.1 s of warm-up",
        "get: 2 clients, 2 connections",
        "P99.9",
        "OWN CORES",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
}

#[cfg(not(feature = "etcd"))]
#[test]
fn a_build_without_etcd_says_how_to_get_one_with_it() {
    let output = run(bench(
        "http://127.0.0.1:1",
        "put --against etcd=http://127.0.0.1:2379",
    ));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("--features etcd"), "{told}");
    assert!(told.contains("protobuf-compiler"), "{told}");
}
