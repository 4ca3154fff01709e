//! Commands that a page shows, run as they are printed, and what the page says that they answer.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// A command, and what it is said to answer.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) script: String,
    pub(crate) promised: Option<String>,
}

/// The blocks marked `bash`, each with the block marked `json` or `text` that follows it, if any does.
pub(crate) fn steps(readme: &str) -> Vec<Step> {
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
            // Not to be run here, or no commands.
            // What the command line prints is compared in its own tests.
            "sh" | "sql" | "console" => {}
            _ => panic!("a block of an unknown kind: {line}"),
        }
    }
    steps
}

/// Whether the text is the promised one, in which `…` stands for anything.
pub(crate) fn keeps(promised: &str, text: &str) -> bool {
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

/// Runs all of it in one shell, which stops at the first command that fails, with other texts in place of those that
/// belong to whoever reads the page. What else is of interest after a failure is asked for then.
pub(crate) fn run(steps: &[Step], replacements: &[(&str, &str)], context: &dyn Fn() -> String) {
    // A marker that no answer holds ends each step.
    const MARKER: &str = "=== end of a step ===";
    // What was started in the background ends with it, also where a command fails: asked to first, so that it can end
    // what it has started itself.
    let mut script = "set -e -o pipefail
        trap 'left=$(jobs -p); [ -z \"$left\" ] || { kill $left; kill -CONT $left; sleep 3; kill -KILL $left; } || true' EXIT\n"
        .to_owned();
    for step in steps {
        script += &format!("{}\nprintf '\\n%s\\n' '{MARKER}'\n", step.script);
    }
    for (printed, own) in replacements {
        script = script.replace(printed, own);
    }
    // Files and not pipes, which last as long as anybody has them. A page whose condition never holds fails: it does not
    // wait for ever.
    let file = || tempfile::tempfile().expect("there is room for a file");
    let (mut out, mut errors) = (file(), file());
    let clone = |file: &File| file.try_clone().expect("a file has another handle");
    let status = Command::new("timeout")
        .args(["300", "bash", "-c", &script])
        .stdout(clone(&out))
        .stderr(clone(&errors))
        .status()
        .expect("there is a bash");
    let (text, errors) = (written(&mut out), written(&mut errors));
    assert!(status.success(), "{text}\n{errors}\n{}", context());
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

fn written(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("it begins again");
    file.read_to_end(&mut bytes).expect("it is read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A port below those that outgoing connections take, which is free together with the next.
pub(crate) fn free_port() -> u16 {
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
