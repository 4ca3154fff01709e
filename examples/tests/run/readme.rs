//! Every command of the README but those of `cargo`, against the built programs, and what it promises.

use std::fs;
use std::path::Path;

use crate::common::printed::{self, steps};
use crate::common::{Process, SOON, Setup, machine};
use crate::programs::{address, example};

#[test]
fn every_command_of_the_readme_works_as_printed() {
    let _machine = machine::shared();
    let readme = fs::read_to_string(example("README.md")).expect("there is a README");
    let steps = steps(&readme);
    assert!(steps.iter().filter(|step| step.promised.is_some()).count() >= 7);

    // Never started: its addresses are what is wanted.
    let network = Setup::of(1).prepare();
    let instances = format!("{}:80", address(&network, 100, 0).ip());
    let port = printed::free_port().to_string();
    let mut dev = Process::start(
        &mut Process::tenured(["dev", "--client-port", &port]),
        &network.dir().join("dev.log"),
    );
    dev.wait_for_output(&format!("ready: http://127.0.0.1:{port}"), SOON);
    let programs = Path::new(env!("CARGO_BIN_EXE_leader"))
        .parent()
        .expect("it is in a folder");
    let replacements = [
        ("127.0.0.1:80", instances.as_str()),
        (":7379", &format!(":{port}")),
        ("/tmp/", &format!("{}/", network.dir().display())),
        ("target/debug/", &format!("{}/", programs.display())),
        ("examples/locked", &example("locked").display().to_string()),
    ];
    printed::run(&steps, &replacements, &|| dev.output());
}
