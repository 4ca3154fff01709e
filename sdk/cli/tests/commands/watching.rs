//! `tenure watch`: what is told, and commands that are run for it.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Process, SOON, Setup, wait};
use crate::support::{at, begun, ran, restored, run, tenure, text_of, urls};

fn lines(process: &Process) -> Vec<Value> {
    let output = process.output();
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let parsed = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    parsed.collect()
}

#[test]
fn a_watch_tells_what_is_and_then_every_change() {
    let cluster = Setup::of(1).start();
    ran(&cluster, ["put", "config/a", "1"]).expect(0);
    let mut people = begun(&cluster, "people", ["watch", "keys/config/", "locks"]);
    let programs = begun(
        &cluster,
        "programs",
        ["watch", "keys/config/", "locks/", "-o", "json"],
    );
    people.wait_for_output("is          keys/config/a  1", SOON);
    wait::until("the state is told", SOON, || {
        (!lines(&programs).is_empty()).then_some(())
    });
    ran(&cluster, ["put", "config/a", "two\nlines"]).expect(0);
    ran(&cluster, ["put", "elsewhere", "3"]).expect(0);
    ran(&cluster, ["lock", "jobs/a", "--", "true"]).expect(0);
    ran(&cluster, ["del", "config/a"]).expect(0);
    people.wait_for_output("delete      keys/config/a", SOON);
    let told = people.output();
    for part in [
        "put         keys/config/a  two\\nlines",
        "acquired    locks/jobs/a",
        "released    locks/jobs/a",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("elsewhere"), "{told}");
    let told = wait::until("all is told", SOON, || {
        let told = lines(&programs);
        (told.last()?["type"] == "delete").then_some(told)
    });
    let types: Vec<&str> = told
        .iter()
        .map(|line| line["type"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(types, ["resync", "put", "acquired", "released", "delete"]);
    let revisions: Vec<u64> = told
        .iter()
        .map(|line| line["revision"].as_u64().expect("it is a number"))
        .collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
}

#[test]
fn a_command_is_run_once_for_changes_that_come_together() {
    let cluster = Setup::of(1).start();
    let runs = cluster.dir().join("runs");
    let command = format!("sh -c 'wc -l >> {0}'", runs.display());
    let _watch = begun(
        &cluster,
        "watch",
        [
            "watch",
            "keys/config/",
            "--settle",
            "2s",
            "--exec",
            &command,
        ],
    );
    // At first for what there is, which is told in one line.
    assert_eq!(text_of(&runs).trim(), "1");
    for number in 0..5 {
        ran(&cluster, ["put", "config/a", &number.to_string()]).expect(0);
    }
    let text = wait::until("it is run for all of them", SOON, || {
        let text = std::fs::read_to_string(&runs).ok()?;
        let told: u64 = text
            .lines()
            .filter_map(|line| line.trim().parse::<u64>().ok())
            .sum();
        (told == 6).then_some(text)
    });
    // On a machine that is busy with other tests two puts may be more than two seconds apart.
    assert!(text.lines().count() <= 4, "{text}");
}

#[test]
fn a_cursor_follows_in_quiet_times_so_that_nothing_is_done_anew_when_history_is_gone() {
    let cluster = Setup::of(1).start();
    let path = |name: &str| cluster.dir().join(name);
    let (done, cursor) = (path("done"), path("cursor"));
    let shown = cursor.display().to_string();
    let command = format!("sh -c 'echo run >> {}'", done.display());
    let arguments = [
        "watch",
        "keys/mine/",
        "--settle",
        "10ms",
        "--cursor",
        &shown,
        "--exec",
        &command,
    ];
    let watch = begun(&cluster, "watch", arguments);
    let at_first: u64 = text_of(&cursor).trim().parse().expect("a revision");
    for round in 0..3 {
        ran(&cluster, ["put", "others/a", &round.to_string()]).expect(0);
    }
    wait::until("the cursor follows what others do", SOON, || {
        let text = std::fs::read_to_string(&cursor).ok()?;
        let revision: u64 = text.trim().parse().ok()?;
        (revision >= at_first + 3).then_some(())
    });
    drop(watch);
    // What it had not followed is gone.
    let body = serde_json::json!({"revision": at_first + 3});
    let mut client = cluster.members[0].client();
    let compacted = client.post("/v1/compact", &body).expect("it answers");
    assert!(compacted.status < 300, "{}", compacted.text());

    let _watch = begun(&cluster, "watch-again", arguments);
    ran(&cluster, ["put", "mine/a", "1"]).expect(0);
    let told = wait::until("the change is told", SOON, || {
        let text = std::fs::read_to_string(&done).ok()?;
        (text.lines().count() >= 2).then_some(text)
    });
    assert_eq!(told, "run\nrun\n", "at the beginning, and for the change");
}

#[test]
fn a_watch_goes_on_from_its_cursor_and_does_again_what_failed() {
    let cluster = Setup::of(1).start();
    let (cursor, seen, good) = (
        cluster.dir().join("cursor"),
        cluster.dir().join("seen"),
        cluster.dir().join("good"),
    );
    let file = cursor.display().to_string();
    // It fails as long as there is no `good`.
    let command = format!(
        "sh -c 'test -e {} && cat >> {}'",
        good.display(),
        seen.display()
    );
    let arguments = [
        "watch", "keys/", "--settle", "10ms", "--cursor", &file, "--exec", &command,
    ];
    let mut watch = begun(&cluster, "watch", arguments);
    watch.wait_for_output("it is run again in 1.0s", SOON);
    assert!(!cursor.exists());
    std::fs::write(&good, "").expect("it is written");
    assert!(text_of(&seen).contains("resync"));
    text_of(&cursor);
    drop(watch);

    // While nobody watches.
    ran(&cluster, ["put", "a", "1"]).expect(0);
    ran(&cluster, ["put", "b", "2"]).expect(0);
    let _watch = begun(&cluster, "watch-again", arguments);
    let told = wait::until("what happened meanwhile is told", SOON, || {
        let text = std::fs::read_to_string(&seen).ok()?;
        text.contains("keys/b").then_some(text)
    });
    assert_eq!(told.lines().count(), 3, "{told}");
    let revision = wait::until("the cursor moves", SOON, || {
        let text = std::fs::read_to_string(&cursor).ok()?;
        text.trim()
            .parse::<u64>()
            .ok()
            .filter(|revision| *revision > 2)
    });
    assert!(told.contains(&format!("\"revision\":{revision}")), "{told}");

    std::fs::write(&cursor, "yesterday").expect("it is written");
    let wrong = ran(&cluster, arguments).expect(78);
    assert!(
        wrong.stderr.contains("\"yesterday\" is no revision"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_command_that_failed_is_run_again_also_on_a_prefix_that_is_never_quiet() {
    let cluster = Setup::of(1).start();
    let (good, seen) = (cluster.dir().join("good"), cluster.dir().join("seen"));
    let command = format!(
        "sh -c 'test -e {} && cat >> {}'",
        good.display(),
        seen.display()
    );
    let arguments = ["watch", "keys/", "--settle", "100ms", "--exec", &command];
    let mut watch = begun(&cluster, "watch", arguments);
    watch.wait_for_output("it is run again in 1.0s", SOON);
    std::fs::write(&good, "").expect("it is written");
    let mut client = cluster.members[0].client();
    // One change after the other, each sooner than the pause after a failure or the time to settle.
    let text = wait::until("it is run again", SOON, || {
        let _ = client.put("/v1/keys/a", b"x");
        let text = std::fs::read_to_string(&seen).ok()?;
        text.contains("keys/a").then_some(text)
    });
    assert!(text.contains("resync"), "nothing is left out: {text}");
}

#[test]
fn a_command_that_is_run_for_changes_asks_the_same_members() {
    let cluster = Setup::of(1).start();
    ran(&cluster, ["put", "a", "1"]).expect(0);
    let seen = cluster.dir().join("seen");
    let url = urls(&cluster);
    let command = format!(
        "sh -c 'echo $TENURE_ENDPOINTS $TENURE_ONLY_GIVEN > {}'",
        seen.display()
    );
    let arguments = [
        "--endpoints",
        &url,
        "--only-given",
        "watch",
        "keys/",
        "--exec",
        &command,
    ];
    let _watch = Process::start(&mut tenure(arguments), &cluster.dir().join("watch"));
    assert_eq!(text_of(&seen), format!("{url} true\n"));
}

/// A wrong port, say: it once waited without a word, for ever.
#[test]
fn a_watch_that_never_reaches_a_member_ends_after_its_timeout_and_says_why() {
    for arguments in [
        &["watch", "keys/"][..],
        &["watch", "keys/", "--after", "7"],
        &["watch", "keys/", "--exec", "true"],
        &["locks", "--watch"],
    ] {
        let flags = ["--endpoints", "http://127.113.0.1:9", "--timeout", "1s"];
        let told = run(&mut tenure(flags.iter().chain(arguments))).expect(69);
        assert!(
            told.stderr
                .contains("no member of the cluster answered: http://127.113.0.1:9: "),
            "{arguments:?}: {}",
            told.stderr
        );
    }
}

#[test]
fn a_watch_says_that_nobody_answers_any_longer_and_when_somebody_does() {
    let cluster = Setup::of(1).start();
    ran(&cluster, ["put", "a", "1"]).expect(0);
    let mut watch = begun(&cluster, "watch", ["watch", "keys/"]);
    watch.wait_for_output("keys/a", SOON);
    cluster.kill_all();
    watch.wait_for_output("no member has answered for a while", SOON * 2);
    cluster.members[0].start();
    watch.wait_for_output("a member answers again: the watch goes on", SOON);
}

#[test]
fn a_watch_goes_on_after_the_whole_cluster_was_away() {
    let cluster = Setup::of(1).start();
    let mut watch = begun(&cluster, "watch", ["watch", "keys/"]);
    ran(&cluster, ["put", "a", "1"]).expect(0);
    watch.wait_for_output("keys/a", SOON);
    cluster.kill_all();
    cluster.members[0].start();
    cluster.wait_until_ready();
    let mut put = crate::support::at(&cluster, ["put", "b", "2"]);
    wait::until("it is put", SOON, || {
        (crate::support::run(&mut put).code == 0).then_some(())
    });
    watch.wait_for_output("put         keys/b  2", SOON + Duration::from_secs(15));
}

#[test]
fn a_command_that_runs_when_its_watch_ends_with_an_error_is_waited_for_and_counts_as_done() {
    let cluster = Setup::of(1).start();
    let path = |name: &str| cluster.dir().join(name).display().to_string();
    let (cursor, begins, go, ended) = (path("cursor"), path("begins"), path("go"), path("ended"));
    let command =
        format!("sh -c 'echo > {begins}; until test -e {go}; do sleep 0.01; done; cat > {ended}'");
    let mut other = begun(&cluster, "other", ["watch", "keys/"]);
    let arguments = [
        "watch", "keys/", "--settle", "10ms", "--cursor", &cursor, "--exec", &command,
    ];
    let mut watch = begun(&cluster, "watch", arguments);
    text_of(begins.as_ref());
    restored(&cluster);
    // By then this watch has been told, too, or is about to be.
    assert_eq!(other.exit_code(SOON), 78, "{}", other.output());
    assert!(watch.exit_status().is_none(), "{}", watch.output());
    std::fs::write(&go, "").expect("it is written");
    assert_eq!(watch.exit_code(SOON), 78, "{}", watch.output());
    let told = std::fs::read_to_string(&ended).expect("it has ended");
    assert!(told.contains("resync"), "{told}");
    assert!(std::fs::exists(&cursor).expect("it can be looked for"));
}

/// As in `tenure watch … | head -1`: nothing more happens that could be written.
#[test]
fn a_watch_ends_when_its_reader_has_gone_though_nothing_happens() {
    let cluster = Setup::of(1).start();
    ran(&cluster, ["put", "a", "1"]).expect(0);
    let (reader, writer) = std::io::pipe().expect("there is a pipe");
    let mut watch = at(&cluster, ["watch", "keys/"]);
    let mut watch = watch.stdout(writer).spawn().expect("it starts");
    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    reader
        .read_line(&mut line)
        .expect("it is told what there is");
    assert!(line.contains("keys/a"), "{line}");
    assert!(
        watch.try_wait().expect("it is ours").is_none(),
        "it goes on"
    );
    drop(reader);
    let ended = wait::found(SOON, || watch.try_wait().expect("it is ours"));
    if ended.is_none() {
        let _ = watch.kill().and_then(|()| watch.wait());
    }
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

#[test]
fn a_command_that_leaves_its_stdin_to_one_that_never_reads_it_is_done_when_it_has_ended() {
    let cluster = Setup::of(1).start();
    // More than a pipe holds.
    ran(&cluster, ["put", "config/a", &"x".repeat(100_000)]).expect(0);
    let runs = cluster.dir().join("runs");
    // What is started behind a shell in the background has no stdin but what it is given.
    let command = format!(
        "sh -c 'exec 3<&0; sleep 120 <&3 3<&- >/dev/null 2>&1 & echo $! >> {0}'",
        runs.display()
    );
    let arguments = [
        "watch",
        "keys/config/",
        "--settle",
        "10ms",
        "--exec",
        &command,
    ];
    let _watch = begun(&cluster, "watch", arguments);
    text_of(&runs);
    ran(&cluster, ["put", "config/b", "1"]).expect(0);
    let left = wait::until("it is run again", SOON, || {
        let text = std::fs::read_to_string(&runs).ok()?;
        (text.lines().count() >= 2).then_some(text)
    });
    for id in left.lines() {
        let _ = std::process::Command::new("kill").arg(id).status();
    }
}

#[test]
fn a_signal_to_a_watch_is_passed_on_to_its_command_which_is_waited_for() {
    let cluster = Setup::of(1).start();
    let path = |name: &str| cluster.dir().join(name);
    let (begins, ends) = (path("begins"), path("ends"));
    let command = format!(
        "sh -c 'trap \"sleep 0.5; echo ended > {1}; exit 0\" TERM; echo begun > {0}; while :; do sleep 0.1; done'",
        begins.display(),
        ends.display()
    );
    let arguments = [
        "watch",
        "keys/config/",
        "--settle",
        "10ms",
        "--exec",
        &command,
    ];
    let mut watch = begun(&cluster, "watch", arguments);
    text_of(&begins);
    watch.signal(rustix::process::Signal::TERM);
    assert_eq!(watch.exit_code(SOON), 143, "{}", watch.output());
    assert_eq!(
        std::fs::read_to_string(&ends).unwrap_or_default(),
        "ended\n"
    );
}
