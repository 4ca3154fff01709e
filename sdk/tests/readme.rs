//! The README names tests as evidence: each must be there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of functions that are declared as tests.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let mut files = Vec::new();
    sources(root.expect("the crate is in the workspace"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it is text");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
                is_test = false;
            }
        }
    }
    names
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| "));
    let evidence = rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once("| "));
    let names = evidence.flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2));
    let named: BTreeSet<&str> = names.filter(|name| name.contains('_')).collect();
    assert!(named.len() > 40, "the table is read: {named:?}");
    let tests = tests();
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
