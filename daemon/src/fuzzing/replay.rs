//! The committed inputs, run by every build.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::seeds::seeds;
use super::{TARGETS, Target};

/// Set to write the seeds anew: `TENURE_WRITE_SEEDS=1 cargo test -p tenured --lib fuzzing`.
const WRITE: &str = "TENURE_WRITE_SEEDS";

fn folder(kind: &str, target: &str) -> PathBuf {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    fuzz.join(kind).join(target)
}

/// The files in a folder by name; none where it is not there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a folder that can be read").path();
        let name = path.file_name().expect("it has a name");
        let contents = fs::read(&path).expect("a file that can be read");
        (name.to_string_lossy().into_owned(), contents)
    };
    entries.map(read).collect()
}

fn run(target: Target, kind: &str, name: &str) -> usize {
    let files = files(&folder(kind, name));
    for (file, contents) in &files {
        eprintln!("{kind}/{name}/{file}");
        target(contents);
    }
    files.len()
}

#[test]
fn seeds_are_those_that_are_written_and_keep_every_promise() {
    let made = seeds();
    assert!(made.keys().eq(TARGETS.iter().map(|(name, _)| name)));
    for (name, target) in TARGETS {
        let folder = folder("seeds", name);
        let made: BTreeMap<String, Vec<u8>> = made[name]
            .iter()
            .map(|(file, contents)| (file.clone(), contents.clone()))
            .collect();
        if std::env::var_os(WRITE).is_some() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a folder for seeds");
            for (file, contents) in &made {
                fs::write(folder.join(file), contents).expect("a seed is written");
            }
        }
        let found = files(&folder);
        assert!(
            found.keys().eq(made.keys()) && found == made,
            "the seeds of {name} are not those that are committed; write them anew with {WRITE}=1"
        );
        assert!(run(target, "seeds", name) >= 10, "{name} has few seeds");
    }
}

/// A seed that is refused teaches a fuzzer little; that happens where a call changes and its seed does not.
#[test]
fn most_calls_of_the_seeds_are_served() {
    let seeds = &seeds()["rest"];
    let all: Vec<u16> = seeds
        .iter()
        .flat_map(|(_, seed)| crate::http::fuzzing::statuses(seed))
        .collect();
    let served = all.iter().filter(|status| **status < 300).count();
    assert!(
        served >= 50,
        "{served} of {} are served: {all:?}",
        all.len()
    );
}

#[test]
fn finds_of_the_fuzzers_stay_mended() {
    let kept: usize = TARGETS
        .iter()
        .map(|(name, target)| run(*target, "finds", name))
        .sum();
    assert!(kept > 0, "finds are kept for ever");
}

/// Bytes of the seeds cut short, doubled, and with one byte changed: a few thousand inputs that a fuzzer begins with.
#[test]
fn seeds_that_are_cut_or_changed_keep_every_promise() {
    for (name, target) in TARGETS {
        for (seed, (_, contents)) in seeds()[name].iter().enumerate() {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            for _ in 0..20 {
                let mut changed = contents.clone();
                for _ in 0..=random.usize(..3) {
                    match (random.u8(..3), changed.len()) {
                        (0, 2..) => changed.truncate(random.usize(1..changed.len())),
                        (1, 1..) => {
                            let at = random.usize(..changed.len());
                            changed[at] = random.u8(..);
                        }
                        _ => changed.extend_from_within(..),
                    }
                }
                target(&changed);
            }
        }
    }
}
