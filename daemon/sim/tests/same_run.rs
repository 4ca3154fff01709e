//! A seed is one run: in another process, from another directory, under load, alone or among others.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// These include short and long runs, one member and several.
const SEEDS: std::ops::Range<u64> = 40..52;

fn start(arguments: &[&str], directory: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tenure-sim"))
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the simulator starts")
}

/// The lines that tell a trace hash.
fn hashes(child: Child) -> Vec<String> {
    let output = child.wait_with_output().expect("the simulator ends");
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).expect("it speaks UTF-8");
    let hashes = output.lines().filter(|line| line.contains(": trace hash "));
    hashes.map(str::to_owned).collect()
}

fn alone(seed: u64, directory: &Path) -> Child {
    start(&["--seed", &seed.to_string()], directory)
}

#[test]
fn a_seed_has_one_trace_hash_in_every_process_and_directory_and_under_load() {
    let (here, there) = (Path::new("."), std::env::temp_dir());
    let first: Vec<String> = SEEDS.flat_map(|seed| hashes(alone(seed, here))).collect();
    assert_eq!(first.len(), SEEDS.count());
    // All at once, which is more than there are cores, each of them twice.
    let together: Vec<(Child, Child)> = SEEDS
        .map(|seed| (alone(seed, &there), alone(seed, here)))
        .collect();
    for ((one, other), first) in together.into_iter().zip(&first) {
        assert_eq!(hashes(one), std::slice::from_ref(first));
        assert_eq!(hashes(other), std::slice::from_ref(first));
    }
}

#[test]
fn a_seed_has_the_same_trace_hash_alone_and_among_others_on_any_number_of_threads() {
    let here = Path::new(".");
    let alone: Vec<String> = SEEDS.flat_map(|seed| hashes(alone(seed, here))).collect();
    let (from, count) = (SEEDS.start.to_string(), SEEDS.count().to_string());
    for threads in ["1", "3"] {
        let among = start(
            &[
                "--start",
                &from,
                "--seeds",
                &count,
                "--threads",
                threads,
                "--hashes",
            ],
            here,
        );
        assert_eq!(hashes(among), alone, "{threads} threads");
    }
}
