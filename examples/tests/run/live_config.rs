//! The service with live settings: it runs with the last good ones, whatever is put and whoever is away.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Client, Cluster, Process, SOON, Setup, machine, wait};
use crate::programs::{address, endpoints, program};

const LIMITS: &str = "config/live/limits";
const GREETING: &str = "config/live/greeting";

struct Service {
    process: Process,
    address: SocketAddr,
}

impl Service {
    fn start(cluster: &Cluster) -> Service {
        let address = address(cluster, 150, 8090);
        let mut command = program(env!("CARGO_BIN_EXE_live-config"), &endpoints(cluster));
        command.args(["--listen", &address.to_string(), "--wait-ms", "1000"]);
        let log = cluster.dir().join("live-config.log");
        let mut process = Process::start(&mut command, &log);
        process.wait_for_output("ready: http://", SOON);
        Service { process, address }
    }

    fn config(&self) -> Value {
        let answer = Client::new(self.address).get("/config");
        answer.expect("the service answers").expect(200).json()
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = wait::found(SOON, || {
            last = self.config();
            holds(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("waited in vain: {what}: {last}\n{}", self.process.output()))
    }

    fn greeting(&self) -> (u16, String) {
        let answer = Client::new(self.address)
            .get("/")
            .expect("the service answers");
        (answer.status, answer.text())
    }
}

fn put(cluster: &Cluster, key: &str, value: &str) -> u64 {
    let path = format!("/v1/keys/{key}");
    let put = cluster.persist("it is put", |client| client.put(&path, value.as_bytes()));
    put.u64("mod_revision")
}

#[test]
fn a_value_that_is_wrong_is_told_of_and_the_last_good_one_stays_in_force() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    put(&cluster, GREETING, r#"{"text":"good morning"}"#);
    let mut service = Service::start(&cluster);
    assert_eq!(service.greeting(), (200, "good morning\n".into()));
    assert_eq!(
        service.config()["running"]["limits"]["requests_per_second"],
        100,
        "the default"
    );

    let wrong = put(&cluster, GREETING, r#"{"text":"good"#);
    let config = service.wait_for("it is told of", |config| {
        config["bad"]["greeting"]["since_revision"] == wrong
    });
    assert_eq!(config["running"]["greeting"]["text"], "good morning");
    let other = put(&cluster, LIMITS, r#"{"requests_per_second":0}"#);
    let config = service.wait_for("it is told of", |config| config["revision"] == other);
    assert_eq!(
        config["bad"]["limits"]["why"],
        "requests_per_second is 0; it is 1 to 10000"
    );
    assert_eq!(service.greeting(), (200, "good morning\n".into()));

    put(&cluster, GREETING, r#"{"text":"good evening"}"#);
    let config = service.wait_for("it is mended", |config| config["bad"]["greeting"].is_null());
    assert_eq!(config["running"]["greeting"]["text"], "good evening");
    let path = format!("/v1/keys/{GREETING}");
    cluster
        .persist("it is deleted", |client| client.delete(&path))
        .expect(200);
    service.wait_for("the default is in force", |config| {
        config["running"]["greeting"]["text"] == "hello"
    });

    let output = service.process.output();
    assert!(output.contains("greeting stays as it was: EOF"), "{output}");
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit_code(SOON), 0);
}

#[test]
fn a_limit_is_in_force_as_soon_as_it_is_seen() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let service = Service::start(&cluster);
    put(&cluster, LIMITS, r#"{"requests_per_second":1}"#);
    service.wait_for("it is seen", |config| {
        config["running"]["limits"]["requests_per_second"] == 1
    });
    // Whichever second it is, one of many fast requests is too many.
    wait::until("one is refused", SOON, || {
        (service.greeting().0 == 429).then_some(())
    });
}

#[test]
fn without_the_cluster_it_runs_on_and_catches_up_when_the_cluster_is_back() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    put(&cluster, GREETING, r#"{"text":"before"}"#);
    let service = Service::start(&cluster);
    assert_eq!(service.greeting(), (200, "before\n".into()));
    cluster.kill_all();
    let stale = |config: &Value| {
        config["stale_ms"]
            .as_u64()
            .is_some_and(|stale| stale > 2_000)
    };
    service.wait_for("it notices", stale);
    assert_eq!(service.greeting(), (200, "before\n".into()));
    for member in &cluster.members {
        member.start();
    }
    cluster.wait_until_ready();
    put(&cluster, GREETING, r#"{"text":"after"}"#);
    service.wait_for("it catches up", |config| {
        config["running"]["greeting"]["text"] == "after"
    });
    service.wait_for("it is confirmed again", |config| !stale(config));
}

#[test]
fn it_begins_with_the_defaults_where_the_cluster_is_away() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).prepare();
    let service = Service::start(&cluster);
    assert!(
        service.process.output().contains("the cluster is away"),
        "{}",
        service.process.output()
    );
    assert_eq!(service.greeting(), (200, "hello\n".into()));
    assert_eq!(service.config()["revision"], Value::Null);
    cluster.members[0].start();
    cluster.wait_until_ready();
    put(&cluster, GREETING, r#"{"text":"there"}"#);
    let found = service.wait_for("it is seen", |config| {
        config["running"]["greeting"]["text"] == "there"
    });
    assert!(
        found["stale_ms"]
            .as_u64()
            .is_some_and(|stale| Duration::from_millis(stale) < SOON)
    );
}
