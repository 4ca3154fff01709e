//! Histories made by hand, good and bad: each checker lets the good ones pass and notices what is wrong with the bad.
//!
//! A file for each checker. Its base is a good history; every other one is the base with a few edits, so that each shows
//! what it is about. An event of the history is written `REVISION@TIME TYPE RESOURCE FIELD=VALUE…`, everything else as
//! the JSON line of a recording. Edits name lines of the base, from 1: `- 3` removes, `= 3 LINE` replaces, `+ 3 LINE`
//! adds behind, `~ 3 THIS => THAT` replaces text in it. `acknowledged FROM-UNTIL` stands for writes every 40 ms,
//! `LARGE` for 2 MiB.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tenure_oracle::{CHECKERS, History, Line, Recording, judge};

/// A history: whether it is good, what it is about, its lines.
struct Case {
    good: bool,
    name: String,
    lines: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let (mut base, mut cases): (Vec<String>, Vec<Case>) = (Vec::new(), Vec::new());
    let mut edits: Vec<(bool, String, Vec<&str>)> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.split_once(' ') {
            Some(("good", name)) => edits.push((true, name.to_owned(), Vec::new())),
            Some(("bad", name)) => edits.push((false, name.to_owned(), Vec::new())),
            _ => match edits.last_mut() {
                Some((_, _, edits)) => edits.push(line),
                None => base.push(line.to_owned()),
            },
        }
    }
    cases.push(Case {
        good: true,
        name: "the base".to_owned(),
        lines: base.clone(),
    });
    for (good, name, edits) in edits {
        let lines = edit(&base, &edits);
        assert!(lines != base, "{name} is no other than the base");
        cases.push(Case { good, name, lines });
    }
    cases
}

/// The base with some edits.
fn edit(base: &[String], edits: &[&str]) -> Vec<String> {
    let mut lines: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for (number, line) in base.iter().enumerate() {
        lines.insert((number + 1, 0), line.clone());
    }
    for (turn, edit) in edits.iter().enumerate() {
        let (what, rest) = edit.split_once(' ').expect("an edit and a line");
        let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let number: usize = number.parse().expect("the number of a line");
        let line = lines.get(&(number, 0));
        let line = line
            .unwrap_or_else(|| panic!("there is a line {number}"))
            .clone();
        match what {
            "-" => drop(lines.remove(&(number, 0))),
            "=" => drop(lines.insert((number, 0), text.to_owned())),
            "+" => drop(lines.insert((number, turn + 1), text.to_owned())),
            "~" => {
                let (this, that) = text.split_once(" => ").expect("this and that");
                assert!(line.contains(this), "{this} is in line {number}");
                lines.insert((number, 0), line.replacen(this, that, 1));
            }
            _ => panic!("no edit: {edit}"),
        }
    }
    lines.into_values().collect()
}

/// An event, and when it was told.
fn event(line: &str) -> Option<(u64, u64, Value)> {
    let mut words = line.split(' ');
    let (revision, at) = words.next()?.split_once('@')?;
    let (revision, at): (u64, u64) = (revision.parse().ok()?, at.parse().ok()?);
    let mut event =
        json!({ "revision": revision, "type": words.next()?, "resource": words.next()? });
    for word in words {
        let (field, value) = word.split_once('=')?;
        event[field] = value
            .parse::<u64>()
            .map_or(json!(value), |number| json!(number));
    }
    Some((revision, at, event))
}

fn recording(lines: &[String]) -> Recording {
    let mut recording = Recording::default();
    let mut events: BTreeMap<u64, (u64, Vec<Value>)> = BTreeMap::new();
    for line in lines {
        let line = &line.replace("LARGE", &"x".repeat(2 << 20));
        if let Some((revision, at, event)) = event(line) {
            let told = events.entry(revision).or_insert((at, Vec::new()));
            told.1.push(event);
        } else if let Some(times) = line.strip_prefix("acknowledged ") {
            acknowledge(&mut recording, times);
        } else {
            let line: Line =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            recording.push(line);
        }
    }
    let mut after = 0;
    for (revision, (at, events)) in events {
        let reply = json!({ "reply": { "watcher": 0, "archive": true, "member": 0, "ret": at, "prefixes": [""],
            "after": after, "revision": revision, "events": events } });
        recording.push(serde_json::from_value(reply).expect("a reply"));
        after = revision;
    }
    recording
}

fn acknowledge(recording: &mut Recording, times: &str) {
    let (from, until) = times.split_once('-').expect("two times");
    let (from, until): (u64, u64) = (from.parse().expect("ms"), until.parse().expect("ms"));
    for ms in (from..until).step_by(40) {
        let call = json!({ "call": { "client": 99, "member": 0, "call": ms * 1_000_000, "ret": ms * 1_000_000 + 1,
            "ask": { "put": { "key": "filler", "value": ms.to_string() } }, "told": { "done": { "revision": 1 } } } });
        recording.push(serde_json::from_value(call).expect("a call"));
    }
}

#[test]
fn every_checker_lets_good_histories_pass_and_notices_what_is_wrong_with_bad_ones() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut failures = Vec::new();
    for (checker, check) in CHECKERS {
        let path = directory.join(format!("{checker}.txt"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cases = cases(&text);
        let good = cases.iter().filter(|case| case.good).count();
        let bad = cases.len() - good;
        assert!(
            good >= 3 && bad >= 10,
            "{checker} has {good} good and {bad} bad histories"
        );
        for case in &cases {
            let recording = recording(&case.lines);
            let judged = History::of(&recording).and_then(|history| check(&recording, &history));
            match (case.good, judged) {
                (true, Err(what)) => failures.push(format!("{checker}: {}: {what}", case.name)),
                (false, Ok(count)) => {
                    failures.push(format!(
                        "{checker}: {}: not noticed ({count} judged)",
                        case.name
                    ));
                }
                (true, Ok(0)) => failures.push(format!("{checker}: {}: nothing judged", case.name)),
                _ => {}
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn watchers_of_everything_that_disagree_are_noticed() {
    let saw = |watcher: u64, events: &str, after: u64, revision: u64| {
        let line = format!(
            r#"{{"reply":{{"watcher":{watcher},"archive":true,"member":0,"ret":1,"prefixes":[""],"after":{after},"revision":{revision},"events":[{events}]}}}}"#
        );
        serde_json::from_str::<Line>(&line).expect("a reply")
    };
    let put = |revision: u64, value: &str| {
        format!(r#"{{"revision":{revision},"type":"put","resource":"keys/k","value":"{value}"}}"#)
    };
    let of = |lines: Vec<Line>| {
        let mut recording = Recording::default();
        lines.into_iter().for_each(|line| recording.push(line));
        History::of(&recording).map(drop)
    };
    let both = format!("{},{}", put(2, "a"), put(3, "b"));
    let whole = || saw(0, &both, 0, 3);
    assert_eq!(of(vec![whole(), saw(1, &both, 0, 3)]), Ok(()));
    assert_eq!(of(vec![whole(), saw(1, &put(2, "a"), 0, 2)]), Ok(()));
    for (what, lines) in [
        ("nobody watched", vec![]),
        ("another value", vec![whole(), saw(1, &put(2, "c"), 0, 2)]),
        (
            "an event too few",
            vec![whole(), saw(1, &put(2, "a"), 0, 3)],
        ),
        (
            "an event too many",
            vec![
                whole(),
                saw(1, &format!("{},{}", put(2, "a"), put(2, "a")), 0, 2),
            ],
        ),
        (
            "a gap",
            vec![saw(0, &put(2, "a"), 0, 2), saw(0, &put(4, "b"), 3, 4)],
        ),
        (
            "back in time",
            vec![saw(0, &format!("{},{}", put(3, "a"), put(2, "b")), 0, 3)],
        ),
    ] {
        assert!(of(lines).is_err(), "{what} was not noticed");
    }
}

#[test]
fn a_recording_reads_as_it_was_written_and_is_judged_the_same() {
    let text = include_str!("histories/order.txt");
    for case in cases(text) {
        let first = recording(&case.lines);
        let lines = first.calls.iter().cloned().map(Line::Call);
        let lines = lines.chain(first.replies.iter().cloned().map(Line::Reply));
        let written: String = lines
            .map(|line| serde_json::to_string(&line).expect("a line can be written") + "\n")
            .collect();
        let second = Recording::read(written.as_bytes()).expect("it can be read");
        assert_eq!(first.calls, second.calls, "{}", case.name);
        assert_eq!(first.replies, second.replies, "{}", case.name);
        let (first, second) = (judge(&first), judge(&second));
        assert_eq!(first.wrong, second.wrong, "{}", case.name);
        let noticed = first.wrong.iter().any(|(name, _)| *name == "order");
        assert_eq!(noticed, !case.good, "{}", case.name);
    }
}

#[test]
fn a_line_that_is_none_is_named() {
    let lines = "\n{\"call\":{}}\n";
    let error = Recording::read(lines.as_bytes()).expect_err("it is no call");
    assert!(
        error.to_string().starts_with("line 2 is no line"),
        "{error}"
    );
}
