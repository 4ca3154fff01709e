//! Every command of the README but the two of `cargo`, against the built program, and what it promises.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::common::{Process, SOON, machine};

/// A command, and what it is said to answer.
#[derive(Default)]
struct Step {
    script: String,
    promised: Option<String>,
}

/// The blocks marked `bash`, each with the block marked `json` or `text` that follows it, if any does.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        match kind {
            "bash" => steps.push(Step {
                script: block,
                promised: None,
            }),
            "json" | "text" => {
                let step = steps.last_mut().expect("an answer follows a command");
                assert!(step.promised.is_none(), "two answers to {}", step.script);
                step.promised = Some(block);
            }
            // What the command line prints is compared in its own tests.
            "sh" | "console" => {}
            _ => panic!("a block of an unknown kind: {line}"),
        }
    }
    steps
}

/// Whether the text is the promised one, in which `…` stands for anything.
fn keeps(promised: &str, text: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (promised, text) = (plain(promised), plain(text));
    let parts: Vec<&str> = promised.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return promised == text;
    };
    let Some(mut rest) = text
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last))
    else {
        return false;
    };
    middle.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

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

/// A port below those that outgoing connections take, which is free together with the next.
fn free_port() -> u16 {
    let free = |port: &u16| {
        [*port, *port + 1]
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    // Tests of this binary run side by side: each begins to look where no other does.
    let next = || NEXT.fetch_add(16, Ordering::Relaxed);
    std::iter::repeat_with(next)
        .take_while(|port| *port < 32_000)
        .find(free)
        .expect("a port is free")
}

/// Where the next search for a port begins; below the ports that the system gives out by itself.
static NEXT: AtomicU16 = AtomicU16::new(20_000);

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
    let port = free_port().to_string();
    let mut dev = Process::start(
        &mut Process::tenured(["dev", "--client-port", &port]),
        &dir.path().join("dev.log"),
    );
    dev.wait_for_output(&format!("ready: http://127.0.0.1:{port}"), SOON);
    // One shell runs all of it; a marker that no answer holds ends each step.
    const MARKER: &str = "=== end of a step ===";
    let mut script = "set -e -o pipefail\n".to_owned();
    for step in &steps {
        script += &format!("{}\nprintf '\\n%s\\n' '{MARKER}'\n", step.script);
    }
    let script = script
        .replace(":7379", &format!(":{port}"))
        .replace("/tmp/", &format!("{}/", dir.path().display()));
    let output = Command::new("bash")
        .args(["-c", &script])
        .output()
        .expect("there is a bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{errors}\n{}",
        dev.output()
    );
    let answers: Vec<&str> = text.split(MARKER).collect();
    for (step, answer) in steps.iter().zip(&answers) {
        if let Some(promised) = &step.promised {
            assert!(
                keeps(promised, answer),
                "{}\npromises\n{promised}\nand answers\n{answer}",
                step.script
            );
        }
    }
}

#[test]
fn three_members_of_dev_serve_and_its_printed_lines_work() {
    let _machine = machine::shared();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let port = (free_port()..)
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
