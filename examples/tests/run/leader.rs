//! The service of several instances: one is active, and others know where it is.

use std::net::SocketAddr;
use std::time::Instant;

use rustix::process::Signal;

use crate::common::{Answer, Client, Cluster, Process, SOON, Setup, machine, wait};
use crate::programs::{address, endpoints, program};

/// One instance.
struct Instance {
    process: Process,
    address: SocketAddr,
}

impl Instance {
    fn start(cluster: &Cluster, number: u8, ttl_ms: u64) -> Instance {
        let name = format!("i{number}");
        let address = address(cluster, 100 + number, 8080);
        let mut command = program(env!("CARGO_BIN_EXE_leader"), &endpoints(cluster));
        command.args([
            "--name",
            &name,
            "--listen",
            &address.to_string(),
            "--ttl-ms",
            &ttl_ms.to_string(),
        ]);
        let process = Process::start(&mut command, &cluster.dir().join(format!("{name}.log")));
        let mut instance = Instance { process, address };
        instance.process.wait_for_output("ready: http://", SOON);
        instance
    }

    fn get(&self, path: &str) -> Option<Answer> {
        Client::new(self.address).get(path).ok()
    }

    fn add(&self) -> Answer {
        let answer = Client::new(self.address).call("POST", "/count", &[], b"");
        answer.expect("the instance answers")
    }

    fn is_active(&self) -> bool {
        self.get("/count")
            .is_some_and(|answer| answer.status == 200)
    }

    /// Whether it sends clients to that one.
    fn redirects_to(&self, active: SocketAddr) -> bool {
        self.get("/count?a=b%20c").is_some_and(|answer| {
            let location = format!("http://{active}/count?a=b%20c");
            answer.status == 307 && answer.header("location") == Some(&location)
        })
    }
}

/// Starts three, and waits until one is active and the others say where it is; answers that one first.
fn three(cluster: &Cluster, ttl_ms: u64) -> (Instance, Vec<Instance>) {
    let mut instances: Vec<Instance> = (1..=3)
        .map(|number| Instance::start(cluster, number, ttl_ms))
        .collect();
    let active = wait::until("one instance is active", SOON, || {
        instances.iter().position(Instance::is_active)
    });
    let active = instances.swap_remove(active);
    wait_for_redirects(&instances, active.address);
    (active, instances)
}

fn wait_for_redirects(standbys: &[Instance], active: SocketAddr) {
    wait::until("standbys say where the active instance is", SOON, || {
        standbys
            .iter()
            .all(|standby| standby.redirects_to(active))
            .then_some(())
    });
}

fn successor(standbys: &mut Vec<Instance>) -> Instance {
    let next = wait::until("a standby becomes active", SOON, || {
        standbys.iter().position(Instance::is_active)
    });
    standbys.swap_remove(next)
}

#[test]
fn on_sigterm_another_instance_is_active_long_before_the_lease_would_have_ended() {
    const TTL_MS: u64 = 60_000;
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (mut active, mut standbys) = three(&cluster, TTL_MS);
    let first = active.add().expect(200);
    assert_eq!(first.u64("count"), 1);

    active.process.signal(Signal::TERM);
    let told = Instant::now();
    let next = successor(&mut standbys);
    eprintln!("handed over within {:?}", told.elapsed());
    assert!(
        active.redirects_to(next.address),
        "the old instance lingers to say where the new one is"
    );
    assert_eq!(
        active.process.exit_code(SOON),
        0,
        "{}",
        active.process.output()
    );
    assert!(
        active.process.output().contains("has handed over"),
        "{}",
        active.process.output()
    );
    // Far from the TTL, which a successor would have had to wait for otherwise.
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    wait_for_redirects(&standbys, next.address);
    let second = next.add().expect(200);
    assert_eq!(second.u64("count"), 2, "what was counted is there");
    assert!(second.u64("term") > first.u64("term"));
}

#[test]
fn an_instance_that_was_paused_sends_clients_to_its_successor_when_it_goes_on() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let (mut paused, mut standbys) = three(&cluster, 3_000);
    paused.add().expect(200);
    paused.process.signal(Signal::STOP);
    let next = successor(&mut standbys);
    next.add().expect(200);
    paused.process.signal(Signal::CONT);
    let first = paused.add();
    assert!(
        matches!(first.status, 307 | 503),
        "it counts nothing: {first:?}"
    );
    wait_for_redirects(&[paused], next.address);
    assert_eq!(next.get("/count").expect("it answers").u64("count"), 2);
}

/// As after a freeze between its look at the clock and its write: the instance believes that it leads, and does not.
#[test]
fn an_instance_that_believes_that_it_leads_counts_nothing_once_another_does() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let (old, mut standbys) = three(&cluster, 60_000);
    let term = old.add().expect(200).u64("term");
    let ended =
        format!("/v1/elections/service/counter?break=true&fence={term}&now=true&reason=test");
    let mut client = cluster.members[0].client();
    let ended = client.call("DELETE", &ended, &[], b"");
    ended.expect("the member answers").expect(200);
    let refused = old.add();
    assert!(matches!(refused.status, 307 | 503), "{refused:?}");
    if refused.status == 503 {
        let why = "another instance has taken over; nothing was counted";
        assert_eq!(refused.str("error"), why);
    }
    let next = successor(&mut standbys);
    assert_eq!(next.add().expect(200).u64("count"), 2);
}

#[test]
fn without_the_cluster_nobody_is_active_and_clients_are_told_to_ask_again() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (active, standbys) = three(&cluster, 3_000);
    for member in &cluster.members {
        member.pause();
    }
    wait::until("the active instance has stopped to be it", SOON, || {
        let health = active.get("/healthz")?.json();
        (health["role"] == "standby").then_some(())
    });
    let refused = active.get("/count").expect("it answers").expect(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        active.get("/healthz").expect("it answers").status,
        200,
        "a restart would mend nothing"
    );
    for member in &cluster.members {
        member.resume();
    }
    let mut all = standbys;
    all.push(active);
    let active = successor(&mut all);
    wait_for_redirects(&all, active.address);
}

#[test]
fn wrong_settings_are_named_with_what_would_be_right() {
    let _machine = machine::shared();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let check = |arguments: &[&str], code: i32, said: &str| {
        let mut command = program(env!("CARGO_BIN_EXE_leader"), "http://127.0.0.1:1");
        command.args(["--name", "i1"]).args(arguments);
        let mut run = Process::start(&mut command, &dir.path().join("log"));
        let found = (run.exit_code(SOON), run.output());
        assert!(
            found.0 == code && found.1.contains(said),
            "{arguments:?}: {found:?}"
        );
    };
    check(&["--listen", "here"], 2, "here");
    check(&["--listen", "192.0.2.1:80"], 1, "--listen 192.0.2.1:80");
    let advertise = ["--listen", "127.0.0.1:0", "--advertise", "i1:8080"];
    check(
        &advertise,
        1,
        "--advertise is \"i1:8080\"; it is a URL that begins with `http://`",
    );
}
