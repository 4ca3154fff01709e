//! Completion in a real bash, manual pages, help, and the README that shows it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{TENURE, bare, run, tenure};

/// What bash would offer after these words, the last of which is being written.
fn offered(words: &[&str]) -> Vec<String> {
    let line = words.join(" ");
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "PATH={}:$PATH; source <(tenure completion bash); complete -p tenure >&2 || exit 9\n\
         COMP_WORDS=({}); COMP_CWORD={}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n\
         f=$(complete -p tenure | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         $f tenure \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        Path::new(TENURE)
            .parent()
            .expect("it is in a directory")
            .display(),
        quoted.join(" "),
        words.len() - 1
    );
    let ran = run(bare(&mut Command::new("bash")).args(["--norc", "-c", &script]));
    let ran = ran.expect(0);
    assert!(
        ran.stderr.contains("complete") && ran.stderr.contains("tenure"),
        "{}",
        ran.stderr
    );
    ran.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered(&["tenure", "sema"]), ["semaphore", "semaphores"]);
    let options = offered(&["tenure", "lock", "--"]);
    for option in ["--shared", "--ttl", "--wait", "--on-lost", "--endpoints"] {
        assert!(
            options.iter().any(|offer| offer == option),
            "{option}: {options:?}"
        );
    }
    assert_eq!(offered(&["tenure", "--output", ""]), ["table", "json"]);
    assert_eq!(offered(&["tenure", "lease", "keep"]), ["keep-alive"]);
}

#[test]
fn completions_of_other_shells_and_manual_pages_are_made() {
    for shell in ["zsh", "fish"] {
        let script = run(&mut tenure(["completion", shell])).expect(0).stdout;
        assert!(
            script.contains("tenure") && script.contains("semaphore"),
            "{shell}"
        );
    }
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let man = dir.path().join("man/man1");
    run(&mut tenure(["man", &man.display().to_string()])).expect(0);
    for page in [
        "tenure",
        "tenure-lock",
        "tenure-lease-grant",
        "tenure-watch",
    ] {
        let text = fs::read_to_string(man.join(format!("{page}.1"))).expect("the page is made");
        assert!(text.contains(".TH") && text.contains("Examples:"), "{page}");
    }
    let text = fs::read_to_string(man.join("tenure.1")).expect("the page is made");
    assert!(
        text.contains("not acquired"),
        "the exit codes are in the manual"
    );
}

/// The names of the commands that a help lists.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn the_help_of_every_command_has_examples_and_says_how_it_ends() {
    let top = run(&mut tenure(["--help"])).expect(0).stdout;
    let names = commands(&top);
    assert!(names.len() >= 15, "{names:?}");
    assert!(top.contains("Exit codes:"), "{top}");
    for name in names.iter().filter(|name| **name != "help") {
        for flag in ["--help", "-h"] {
            let help = run(&mut tenure([name, flag])).expect(0).stdout;
            assert!(help.contains("Examples:"), "{name} {flag}:\n{help}");
        }
        let help = run(&mut tenure([*name, "--help"])).expect(0).stdout;
        for inner in commands(&help).iter().filter(|inner| **inner != "help") {
            let help = run(&mut tenure([*name, *inner, "--help"])).expect(0).stdout;
            assert!(help.contains("Examples:"), "{name} {inner}:\n{help}");
        }
    }
    let bare = tenure(["--version"])
        .stderr(Stdio::null())
        .output()
        .expect("it runs");
    assert!(bare.status.success());
}

#[test]
fn the_readme_shows_the_help_as_it_is() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("there is a README");
    let mut shown = 0;
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("the block ends");
        let (command, answer) = block.split_once('\n').expect("there is an answer");
        let words = command
            .strip_prefix("$ tenure ")
            .expect("it is a command of ours");
        let help = run(&mut tenure(words.split_whitespace())).expect(0).stdout;
        assert_eq!(
            answer.trim_end(),
            help.trim_end(),
            "{command}: paste what it prints now"
        );
        shown += 1;
    }
    assert!(shown >= 4, "`tenure --help` and three commands are shown");
}
