//! Every command of the README but the two of `cargo`, against the built program, and what it promises.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::common::printed::{self, keeps, steps};
use crate::common::{Process, SOON, machine};

#[test]
fn a_promise_with_gaps_is_kept_only_by_what_has_its_parts_in_order() {
    assert!(keeps("{\"a\":…,\"b\":1}", "{\"a\":7,\"b\":1}"));
    assert!(!keeps("{\"a\":…,\"b\":1}", "{\"a\":7,\"b\":2}"));
    assert!(!keeps(
        "{\"a\":…,\"b\":…,\"c\":1}",
        "{\"b\":1,\"a\":2,\"c\":1}"
    ));
    assert!(keeps("hello", "hello\n"));
    assert!(!keeps("hello", "hello world"));
}

#[test]
fn every_command_of_the_readme_works_as_printed() {
    let _machine = machine::shared();
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))
        .expect("there is a README");
    assert!(
        readme.contains("```sh\ncargo run --release -- dev\ncargo test --workspace\n```"),
        "it opens with the two"
    );
    let steps = steps(&readme);
    assert!(steps.len() >= 10 && steps.iter().filter(|step| step.promised.is_some()).count() >= 10);

    let dir = tempfile::tempdir().expect("there is room for a directory");
    let port = printed::free_port().to_string();
    let mut dev = Process::start(
        &mut Process::tenured(["dev", "--client-port", &port]),
        &dir.path().join("dev.log"),
    );
    dev.wait_for_output(&format!("ready: http://127.0.0.1:{port}"), SOON);
    let own = format!("{}/", dir.path().display());
    printed::run(
        &steps,
        &[(":7379", &format!(":{port}")), ("/tmp/", &own)],
        &|| dev.output(),
    );
}

#[test]
fn three_members_of_dev_serve_and_its_printed_lines_work() {
    let _machine = machine::shared();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let port = (printed::free_port()..)
        .find(|port| (*port..port + 6).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()));
    let port = port.expect("six ports are free");
    let arguments = ["dev", "--nodes", "3", "--client-port", &port.to_string()];
    let mut dev = Process::start(
        &mut Process::tenured(arguments),
        &dir.path().join("dev.log"),
    );
    for member in 0..3 {
        dev.wait_for_output(
            &format!("ready: http://127.0.0.1:{}\n", port + 2 * member),
            SOON,
        );
    }
    dev.wait_for_output("curl", SOON);
    let output = dev.output();
    let lines: Vec<&str> = output
        .lines()
        .filter_map(|line| Some(&line[line.find("curl ")?..]))
        .collect();
    assert_eq!(lines.len(), 3, "{output}");
    for line in lines {
        let script = format!("curl() {{ command curl --fail-with-body \"$@\"; }}; {line}");
        machine::run("timeout", &["30", "bash", "-c", &script]);
    }
}
