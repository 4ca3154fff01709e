//! Every public type has an example, every public function is called in one, and every example is run against a member.

use std::path::Path;

/// The sources of the client, by name.
fn sources() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("it is text");
            sources.push((path.display().to_string(), text));
        }
    }
    sources
}

/// The public types and traits of a source that is documented without an example.
fn without_example(source: &str) -> Vec<&str> {
    let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
    let (mut found, mut has_example) = (Vec::new(), false);
    for line in source.lines() {
        if line.starts_with("/// ```") {
            has_example = true;
        } else if kinds.iter().any(|kind| line.starts_with(kind)) {
            found.extend((!has_example).then_some(line));
            has_example = false;
        } else if line.is_empty() || line.starts_with('}') {
            has_example = false;
        }
    }
    found
}

/// What stands in the examples of a source.
fn in_examples(source: &str) -> String {
    let mut inside = false;
    let mut found = String::new();
    for line in source.lines().map(str::trim_start) {
        let doc = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        match doc.map(str::trim_start) {
            None => inside = false,
            Some(fence) if fence.starts_with("```") => inside = !inside,
            Some(code) if inside => {
                found.push_str(code);
                found.push('\n');
            }
            Some(_) => {}
        }
    }
    found
}

/// The public functions and methods of a source that none of these examples calls. Of one name there may be several: it is
/// enough that one of them is shown.
fn without_call<'s>(source: &'s str, examples: &str) -> Vec<&'s str> {
    let declared = source.lines().filter_map(|line| {
        let line = line.trim_start().strip_prefix("pub ")?;
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")?.split(['(', '<']).next()
    });
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_called = |name: &str| {
        let calls = [format!("{name}("), format!("{name}::<")];
        calls.iter().any(|call| {
            let mut found = examples.match_indices(call);
            found.any(|(at, _)| !examples[..at].ends_with(is_name))
        })
    };
    declared.filter(|name| !is_called(name)).collect()
}

/// The asynchronous public functions whose documentation does not say what is left of them where their future is dropped.
fn without_word_of_drop(source: &str) -> Vec<&str> {
    let (mut found, mut says) = (Vec::new(), false);
    for line in source.lines().map(str::trim_start) {
        if let Some(doc) = line.strip_prefix("///") {
            says |= doc.to_lowercase().contains("drop");
        } else if line.starts_with("#[") {
            continue;
        } else {
            let declared = line.strip_prefix("pub async fn ").filter(|_| !says);
            found.extend(declared.and_then(|line| line.split(['(', '<']).next()));
            says = false;
        }
    }
    found
}

/// The first lines of examples that would not be run against a member, or are not to compile and not marked so.
fn not_run(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| {
        let line = line.trim_start();
        line.strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
    });
    examples(lines.map(|line| line.unwrap_or_default().trim()))
}

fn examples<'t>(mut lines: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let runs = match kind {
            "" | "rust" => body
                .iter()
                .any(|line| line.starts_with("# ") && line.contains("tenure_doctest::")),
            kind => kind.starts_with("compile_fail,E"),
        };
        found.extend((!runs).then(|| format!("```{kind} {}", body.join(" "))));
    }
    found
}

#[test]
fn every_public_type_has_an_example_every_function_is_in_one_and_every_example_is_run() {
    let sources = sources();
    assert!(sources.len() > 30, "they are read");
    let calls: String = sources
        .iter()
        .map(|(_, source)| in_examples(source))
        .collect();
    for (path, source) in &sources {
        assert_eq!(without_example(source), Vec::<&str>::new(), "{path}");
        assert_eq!(without_call(source, &calls), Vec::<&str>::new(), "{path}");
        assert_eq!(not_run(source), Vec::<String>::new(), "{path}");
        assert_eq!(without_word_of_drop(source), Vec::<&str>::new(), "{path}");
    }
    let readme = include_str!("../README.md").lines();
    assert_eq!(examples(readme), Vec::<String>::new(), "the README");
}

#[test]
fn a_type_without_an_example_and_an_example_that_is_not_run_are_noticed() {
    let lacks = "/// Words.\n#[derive(Debug)]\npub struct A;\n\n/// ```\n/// ```\npub struct B;\npub struct C;\n";
    assert_eq!(without_example(lacks), ["pub struct A;", "pub struct C;"]);
    let source = "/// ```\n/// # a.one();\n/// two::<u8>(3);\n/// ```\npub async fn one() {}\npub fn two<T>() {}\n\
        // three();\n    pub fn three(&self) {}\n";
    let examples = in_examples(source);
    assert_eq!(without_call(source, &examples), ["three"]);
    assert_eq!(without_call("pub fn ne() {}", &examples), ["ne"]);
    assert_eq!(
        without_call("pub fn wo() {}", &examples),
        ["wo"],
        "a part of a name is none"
    );
    let silent = "/// Dropped, it leaves nothing.\n#[must_use]\npub async fn a() {}\n/// Reads.\n\
        pub async fn b<T>() {}\npub fn c() {}\n";
    assert_eq!(without_word_of_drop(silent), ["b"]);
    let check = |text: &str, count: usize| assert_eq!(not_run(text).len(), count, "{text}");
    check("/// ```no_run\n/// a();\n/// ```", 1);
    check("    /// ```\n    /// fn example() {}\n    /// ```", 1);
    check("//! ```compile_fail,E0599\n//! a();\n//! ```", 0);
    check(
        "/// ```\n/// # tenure_doctest::run(|url| {\n/// # });\n/// ```",
        0,
    );
}
