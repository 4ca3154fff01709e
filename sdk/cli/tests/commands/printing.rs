//! What the commands print: values byte for byte, tables for people, JSON for programs.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::proxy::Proxy;
use crate::common::{Cluster, Process, SOON, Setup, wait};
use crate::support::{Ran, at, begun, ran, run, wait_for_lock};

/// Runs it with something on its stdin.
fn fed(cluster: &Cluster, arguments: &[&str], stdin: &[u8]) -> Ran {
    let file = cluster.dir().join("stdin");
    std::fs::write(&file, stdin).expect("it is written");
    let file = std::fs::File::open(&file).expect("it is there");
    run(at(cluster, arguments).stdin(file))
}

fn in_json(cluster: &Cluster, arguments: &[&str]) -> Value {
    ran(cluster, arguments.iter().copied().chain(["-o", "json"]))
        .expect(0)
        .json()
}

#[test]
fn keys_are_put_read_listed_and_deleted_on_conditions() {
    let cluster = Setup::of(1).start();
    ran(&cluster, ["put", "config/a", "-v"]).expect(0);
    assert_eq!(ran(&cluster, ["get", "config/a"]).expect(0).stdout, "-v");
    let binary = b"\x00\xff\n\x00";
    fed(&cluster, &["put", "config/b"], binary).expect(0);
    let mut get = at(&cluster, ["get", "config/b"]);
    assert_eq!(get.output().expect("it runs").stdout, binary);
    let whole = in_json(&cluster, &["get", "config/b"]);
    assert_eq!(
        (whole["value"].as_str(), whole["encoding"].as_str()),
        (Some("AP8KAA=="), Some("base64"))
    );

    let first = in_json(&cluster, &["get", "config/a"])["mod_revision"].to_string();
    ran(&cluster, ["put", "config/a", "2", "--if-absent"]).expect(2);
    ran(&cluster, ["put", "config/a", "2", "--if-revision", &first]).expect(0);
    ran(&cluster, ["put", "config/a", "3", "--if-revision", &first]).expect(2);
    assert_eq!(
        ran(&cluster, ["get", "config/a", "--revision", &first])
            .expect(0)
            .stdout,
        "-v"
    );
    ran(&cluster, ["get", "config/none"]).expect(2);

    assert_eq!(
        ran(&cluster, ["ls", "config/", "--names"]).expect(0).stdout,
        "config/a\nconfig/b\n"
    );
    let listed = in_json(&cluster, &["ls", "config/", "--reverse", "--limit", "1"]);
    assert_eq!(
        (listed["keys"][0]["key"].as_str(), listed["count"].as_u64()),
        (Some("config/b"), Some(2))
    );
    let table = ran(&cluster, ["ls"]).expect(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("KEY       BYTES  VERSION"), "{table}");

    ran(&cluster, ["del", "config/a", "--if-revision", &first]).expect(2);
    ran(&cluster, ["del", "config/a"]).expect(0);
    ran(&cluster, ["del", "config/a"]).expect(2);
    ran(&cluster, ["del", "--prefix", ""]).expect(64);
    assert_eq!(
        in_json(&cluster, &["del", "--prefix", "config/"]),
        json!({"deleted": 1})
    );
}

#[test]
fn a_write_under_a_lock_is_guarded_by_its_fence() {
    let cluster = Setup::of(1).start();
    let tenure = crate::support::TENURE;
    let script = format!(
        "{tenure} put result 42 --guard lock=$TENURE_LOCK && echo $TENURE_FENCE && {tenure} del result --guard lock=$TENURE_LOCK"
    );
    let under = ran(&cluster, ["lock", "a", "--", "sh", "-c", &script])
        .expect(0)
        .stdout;
    let fence = under.lines().nth(1).expect("it is the second line");
    let late = ran(
        &cluster,
        ["put", "result", "43", "--guard", "lock=a", "--fence", fence],
    )
    .expect(2);
    let told = format!("lock a is not held by fence {fence} any longer");
    assert!(late.stderr.contains(&told), "{}", late.stderr);
    ran(&cluster, ["get", "result"]).expect(2);
    let bare = ran(&cluster, ["put", "result", "43", "--guard", "lock=a"]).expect(64);
    assert!(bare.stderr.contains("--fence NUMBER"), "{}", bare.stderr);
    ran(&cluster, ["put", "result", "43", "--guard", "door=a"]).expect(64);
}

#[test]
fn leases_are_granted_kept_shown_and_revoked_by_their_ids() {
    let cluster = Setup::of(1).start();
    let lease = ran(
        &cluster,
        [
            "lease",
            "grant",
            "--ttl",
            "30s",
            "--name",
            "worker-7",
            "--metadata",
            "zone=a",
        ],
    );
    let lease = lease.expect(0).stdout.trim().to_owned();
    ran(&cluster, ["put", "workers/7", "here", "--lease", &lease]).expect(0);
    ran(
        &cluster,
        [
            "put",
            "workers/7",
            "there",
            "--lease",
            &lease,
            "--if-absent",
        ],
    )
    .expect(2);
    let shown = in_json(&cluster, &["lease", "show", &lease]);
    assert_eq!(shown["metadata"], json!({"zone": "a"}));
    assert_eq!(shown["attached"][0]["resource"], "keys/workers/7");
    assert!(
        ran(&cluster, ["lease", "show", &lease])
            .expect(0)
            .stdout
            .contains("keys/workers/7")
    );
    assert_eq!(
        in_json(&cluster, &["lease", "renew", &lease])["lease"],
        lease.as_str()
    );
    assert_eq!(
        in_json(&cluster, &["lease", "list"])["leases"][0]["name"],
        "worker-7"
    );
    assert!(
        ran(&cluster, ["lease", "list"])
            .expect(0)
            .stdout
            .contains("worker-7")
    );
    ran(&cluster, ["lease", "revoke", &lease]).expect(0);
    ran(&cluster, ["get", "workers/7"]).expect(2);
    ran(&cluster, ["lease", "show", &lease]).expect(2);
    ran(&cluster, ["lease", "renew", &lease]).expect(2);
    ran(
        &cluster,
        ["lease", "grant", "--metadata", "a=1", "--metadata", "a=2"],
    )
    .expect(64);
}

#[test]
fn a_lease_is_kept_alive_until_it_is_ended() {
    let cluster = Setup::of(1).start();
    let lease = ran(&cluster, ["lease", "grant", "--ttl", "2s"])
        .expect(0)
        .stdout
        .trim()
        .to_owned();
    let mut keeper = begun(&cluster, "keeper", ["lease", "keep-alive", &lease]);
    // Beyond the TTL of what was granted.
    let granted = std::time::Instant::now();
    wait::until("it lives for longer than its TTL", SOON, || {
        ran(&cluster, ["lease", "show", &lease]).expect(0);
        (granted.elapsed() > std::time::Duration::from_secs(4)).then_some(())
    });
    ran(&cluster, ["lease", "revoke", &lease]).expect(0);
    assert_eq!(keeper.exit_code(SOON), 76, "{}", keeper.output());
}

#[test]
fn who_holds_and_who_waits_is_shown() {
    let cluster = Setup::of(1).start();
    let mut holder = begun(&cluster, "holder", ["lock", "jobs/a", "--", "sleep", "60"]);
    wait_for_lock(&cluster, "jobs/a", 1, 0);
    let _waiter = begun(
        &cluster,
        "waiter",
        ["lock", "jobs/a", "--shared", "--", "true"],
    );
    wait_for_lock(&cluster, "jobs/a", 1, 1);
    let table = ran(&cluster, ["locks", "jobs/"]).expect(0).stdout;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(
        lines[0],
        [
            "LOCK", "STATE", "WHO", "MODE", "FENCE", "SINCE", "LEFT", "LEASE"
        ]
    );
    assert_eq!(lines[1][..2], ["jobs/a", "held"], "{table}");
    assert!(
        lines[1][2].ends_with(&format!(":{}", holder.id())),
        "{table}"
    );
    assert_eq!(lines[1][3], "exclusive");
    assert_eq!((lines[1][6], lines[2][7]), ("ago", "ago"), "{table}");
    assert_eq!(lines[2][..3], ["jobs/a", "waits", "1"], "{table}");
    let wire = in_json(&cluster, &["locks", "jobs/a"]);
    assert_eq!(wire["locks"][0]["holders"][0]["mode"], "exclusive");
    assert_eq!(wire["locks"][0]["queue"][0]["mode"], "shared");
    assert!(wire["locks"][0].get("revision").is_none() && wire["revision"].is_u64());
    assert!(
        ran(&cluster, ["locks", "else/"])
            .expect(0)
            .stdout
            .contains("no lock is held or waited for among those that begin with else/")
    );
    holder.signal(rustix::process::Signal::TERM);
    holder.exit_code(SOON);

    let tenure = crate::support::TENURE;
    let inner = [tenure, "semaphores", "-o", "json"];
    let outer = ["semaphore", "s", "--limit", "5", "--permits", "2", "--"];
    let wire = ran(&cluster, outer.into_iter().chain(inner))
        .expect(0)
        .json();
    assert_eq!(
        (
            &wire["semaphores"][0]["limit"],
            &wire["semaphores"][0]["permits_held"]
        ),
        (&json!(5), &json!(2))
    );
    let table = ran(&cluster, outer.into_iter().chain([tenure, "semaphores"]))
        .expect(0)
        .stdout;
    assert!(table.contains("2 of 5 permits"), "{table}");

    let outer = [
        "elect",
        "e",
        "--candidate",
        "host-a",
        "--value",
        "http://a",
        "--",
    ];
    let wire = ran(
        &cluster,
        outer.into_iter().chain([tenure, "elections", "-o", "json"]),
    )
    .expect(0)
    .json();
    assert_eq!(wire["elections"][0]["leader"]["value"], "http://a");
    let table = ran(&cluster, outer.into_iter().chain([tenure, "elections"]))
        .expect(0)
        .stdout;
    let row = table.lines().nth(1).unwrap_or_default();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..2], ["e", "leads"], "{table}");
    assert!(row[2].ends_with("/host-a"), "{table}");
    assert_eq!(row[3], "http://a", "{table}");
    wait::until("nobody leads", SOON, || {
        let table = ran(&cluster, ["elections"]).expect(0).stdout;
        table
            .contains("nobody leads or would like to")
            .then_some(())
    });
    let table = ran(&cluster, ["semaphores"]).expect(0).stdout;
    assert!(
        table.contains("no permit of a semaphore is held"),
        "{table}"
    );
}

#[test]
fn a_look_that_is_repeated_sees_what_changes() {
    let cluster = Setup::of(1).start();
    let mut looks = begun(&cluster, "looks", ["locks", "--watch", "--every", "100ms"]);
    looks.wait_for_output("no lock is held or waited for, at revision", SOON);
    let mut holder = begun(&cluster, "holder", ["lock", "jobs/a", "--", "sleep", "60"]);
    looks.wait_for_output("jobs/a  held", SOON);
    wait::until("it is held for a second and more", SOON, || {
        let shown = looks.output();
        let line = |part: &str| shown.lines().rfind(|line| line.contains(part));
        let (head, row) = (line("SINCE")?, line("  held  ")?);
        let since = row.get(head.find("SINCE")?..)?.split_whitespace().next()?;
        let is_whole = since.ends_with('s') && !since.ends_with("ms");
        is_whole.then_some(())
    });
    holder.signal(rustix::process::Signal::TERM);
    holder.exit_code(SOON);
    assert!(looks.exit_status().is_none());
}

#[test]
fn who_leads_and_since_when_is_seen_anew_at_each_look() {
    let cluster = Setup::of(1).start();
    let mut looks = begun(
        &cluster,
        "looks",
        ["elections", "--watch", "--every", "100ms"],
    );
    looks.wait_for_output("nobody leads or would like to", SOON);
    let arguments = ["elect", "boss", "--value", "here", "--", "sleep", "60"];
    let mut leader = begun(&cluster, "leader", arguments);
    looks.wait_for_output("  leads  ", SOON);
    wait::until("it leads for a second and more", SOON, || {
        let shown = looks.output();
        let line = |part: &str| shown.lines().rfind(|line| line.contains(part));
        let (head, row) = (line("SINCE")?, line("  leads  ")?);
        let since = row.get(head.find("SINCE")?..)?.split_whitespace().next()?;
        (since.ends_with('s') && !since.ends_with("ms")).then_some(())
    });
    leader.signal(rustix::process::Signal::TERM);
    leader.exit_code(SOON);
    assert!(looks.exit_status().is_none());
}

#[test]
fn a_transaction_is_read_from_a_file_or_stdin_and_its_branch_told() {
    let cluster = Setup::of(1).start();
    let text = br#"{"if":[{"key":"limit","field":"version","op":"=","value":0}],
        "then":[{"put":{"key":"limit","value":"10"}},{"delete":{"prefix":"old/"}}],"else":[{"get":{"key":"limit"}}]}"#;
    let first = fed(&cluster, &["txn", "-o", "json"], text).expect(0).json();
    assert_eq!(first["results"][0]["put"]["created"], true);
    let file = cluster.dir().join("txn.json");
    std::fs::File::create(&file)
        .and_then(|mut file| file.write_all(text))
        .expect("it is written");
    let again = ran(&cluster, ["txn", &file.display().to_string(), "-o", "json"])
        .expect(2)
        .json();
    assert_eq!(
        (
            &again["succeeded"],
            &again["results"][0]["get"]["entry"]["value"]
        ),
        (&json!(false), &json!("10"))
    );
    assert!(
        fed(&cluster, &["txn"], text)
            .expect(2)
            .stdout
            .contains("got limit = 10")
    );
    let wrong = fed(&cluster, &["txn"], br#"{"then":[{"pot":{}}]}"#).expect(64);
    assert!(
        wrong.stderr.contains("pot") && wrong.stderr.contains("line 1"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn the_status_of_a_cluster_says_which_members_are_well() {
    let cluster = Setup::of(3).start();
    // A member that has just started may not have caught up yet.
    let table = wait::until("all members are well", SOON, || {
        let table = ran(&cluster, ["status"]).stdout;
        table
            .starts_with("3 of 3 members are well")
            .then_some(table)
    });
    let leader = cluster.leader();
    let leads = format!("{} leads", cluster.members[leader].name);
    assert!(table.contains(&leads), "{table}");
    let dead = (leader + 1) % 3;
    cluster.members[dead].kill();
    let wire = in_json(&cluster, &["status"]);
    let member = |number: usize| {
        let members = wire["members"].as_array().expect("it is a list");
        let name = cluster.members[number].name.as_str();
        members
            .iter()
            .find(|member| member["name"] == name)
            .expect("it is listed")
            .clone()
    };
    assert_eq!(
        (&member(dead)["well"], &member(leader)["well"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(member(leader)["status"]["role"], "leader");
    assert!(
        ran(&cluster, ["status"])
            .expect(0)
            .stdout
            .contains("2 of 3 members are well")
    );
    let missing = format!("member missing: {} has not", cluster.members[dead].name);
    wait::until(
        "the leader says who is missing and what to do",
        SOON,
        || {
            let told = ran(&cluster, ["status"]).stdout;
            let all = [missing.as_str(), "one from losing quorum: 2 of 3 voters"];
            all.iter().all(|words| told.contains(words)).then_some(())
        },
    );
    cluster.members[(leader + 2) % 3].kill();
    wait::until("no leader is left", SOON, || {
        let status = ran(&cluster, ["--timeout", "1s", "status"]);
        (status.code == 69 && status.stdout.contains("nobody leads")).then_some(())
    });
}

/// As where a member was made anew with the wrong settings, or its address was given to somebody else.
#[test]
fn whoever_answers_for_a_member_and_is_of_another_cluster_is_not_called_well() {
    let cluster = Setup::of(3).start();
    let stray = &cluster.members[cluster.follower()];
    stray.kill();
    let peer = format!("{}:7399", stray.peer.ip());
    let data = cluster.dir().join("stranger").display().to_string();
    let client = stray.client.to_string();
    let itself = format!("stranger=http://{peer}");
    let arguments = [
        ["--name", "stranger"],
        ["--data-dir", &data],
        ["--client-listen", &client],
        ["--peer-listen", &peer],
        ["--initial-member", &itself],
    ];
    let arguments = std::iter::once("serve").chain(arguments.into_iter().flatten());
    let log = cluster.dir().join("stranger.log");
    let mut stranger = Process::start(&mut Process::tenured(arguments), &log);
    stranger.wait_for_output("is the leader now", SOON);

    let others = cluster.members.iter().filter(|member| member.runs());
    let others: Vec<String> = others
        .map(|member| format!("http://{}", member.client))
        .collect();
    let others = others.join(",");
    let asked = ["--endpoints", &others, "status"];
    let table = ran(&cluster, asked).expect(0).stdout;
    assert!(table.starts_with("2 of 3 members are well"), "{table}");
    let row = table.lines().find(|line| line.contains(&client));
    let row = row.expect("it is listed");
    assert!(row.trim_end().ends_with("is of another cluster"), "{table}");
    let wire = in_json(&cluster, &asked);
    let members = wire["members"].as_array().expect("it is a list").iter();
    let told: Vec<_> = members
        .filter(|member| member["name"] == stray.name)
        .map(|member| (&member["well"], &member["trouble"]))
        .collect();
    assert_eq!(told, [(&json!(false), &json!("is of another cluster"))]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cluster = Setup::of(1).start();
    for number in 0..40 {
        ran(&cluster, ["put", &format!("k/{number}"), &"x".repeat(4000)]).expect(0);
    }
    for arguments in [
        ["ls", "k/"],
        ["-ojson", "ls"],
        ["status", "-ojson"],
        ["completion", "bash"],
        ["watch", "keys"],
    ] {
        let (reader, writer) = std::io::pipe().expect("there is a pipe");
        drop(reader);
        let mut child = at(&cluster, arguments);
        let child = child
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), errors.as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn what_cannot_be_told_on_stderr_is_no_reason_to_stop() {
    let cluster = Setup::of(1).start();
    let left = "(trap '' TERM; sleep 0.5) & exit 3";
    for (arguments, code) in [
        (&["get", "none"][..], 2),
        (&["lock", "a", "--ttl", "nonsense"], 64),
        (&["lock", "a", "--", "sh", "-c", left], 3),
    ] {
        let (reader, writer) = std::io::pipe().expect("there is a pipe");
        drop(reader);
        let status = at(&cluster, arguments).stderr(writer).status();
        assert_eq!(status.expect("it runs").code(), Some(code), "{arguments:?}");
    }
}

/// Who takes it for not applied would do it again.
#[test]
fn a_write_whose_answer_cannot_be_written_is_not_told_as_not_applied() {
    let cluster = Setup::of(1).start();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let put = at(&cluster, ["put", "a", "1", "-o", "json"])
        .stdout(full.expect("it can be written to"))
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let told: Value = serde_json::from_slice(&put.stderr).expect("it is JSON");
    assert_eq!(put.status.code(), Some(1), "{told}");
    assert_eq!(told.get("outcome"), Some(&Value::Null), "{told}");
    assert_eq!(ran(&cluster, ["get", "a"]).expect(0).stdout, "1");
}

#[test]
fn there_are_no_colours_but_on_a_terminal() {
    let cluster = Setup::of(1).start();
    let plain = ran(&cluster, ["status"]).expect(0).stdout;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let forced = run(at(&cluster, ["status"]).env("CLICOLOR_FORCE", "1"))
        .expect(0)
        .stdout;
    assert!(forced.contains('\u{1b}'), "colours can be had: {forced:?}");
    let both = run(at(&cluster, ["status"]).env("NO_COLOR", "1"))
        .expect(0)
        .stdout;
    assert_eq!(both.lines().count(), plain.lines().count());
    assert!(!both.contains('\u{1b}'));
}

#[test]
fn log_filters_are_changed_of_one_member_or_of_all() {
    let cluster = Setup::of(3).start();
    let of_one = ran(&cluster, ["log-filter", "debug", "--member", "n2"]).expect(0);
    assert_eq!(of_one.stdout, "n2: debug\n");
    let filter =
        |member: usize| cluster.members[member].status().expect("it answers")["log_filter"].clone();
    assert_eq!([filter(0), filter(1), filter(2)], ["info", "debug", "info"]);
    let of_all = ran(&cluster, ["log-filter", "warn,tenured=info"]).expect(0);
    let mut lines: Vec<&str> = of_all.stdout.lines().collect();
    lines.sort_unstable();
    let expected = [
        "n1: warn,tenured=info",
        "n2: warn,tenured=info",
        "n3: warn,tenured=info",
    ];
    assert_eq!(lines, expected);
    let nobody = ran(&cluster, ["log-filter", "info", "--member", "n9"]).expect(2);
    assert!(
        nobody.stderr.contains("\"n9\"") && nobody.stderr.contains("n2"),
        "{}",
        nobody.stderr
    );
    let refused = ran(&cluster, ["log-filter", "loud", "--member", "n1"]);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("tenured=debug"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_log_filter_that_some_members_took_is_not_told_as_if_nothing_had_been_done_nor_set_of_another()
{
    let cluster = Setup::of(3).start();
    let (away, other) = (&cluster.members[2], &cluster.members[0]);
    let filter = || other.status().expect("it answers")["log_filter"].clone();
    away.kill();
    let failed = ran(&cluster, ["log-filter", "debug", "-o", "json"]).expect(69);
    let told = failed.stderr.lines().last().unwrap_or_default();
    let told: Value = serde_json::from_str(told).expect("it is JSON");
    assert_eq!(told.get("outcome"), Some(&Value::Null), "{told}");
    assert_eq!(filter(), "debug");
    let failed = ["log-filter", "warn", "--member", &away.name, "-o", "json"];
    let failed = ran(&cluster, failed).expect(69);
    let told = failed.stderr.lines().last().unwrap_or_default();
    let told: Value = serde_json::from_str(told).expect("it is JSON");
    assert_eq!(told["outcome"], "not_applied", "{told}");

    let _in_its_place = Proxy::start(away.client, other.client);
    let refused = ran(&cluster, ["log-filter", "warn", "--member", &away.name]).expect(1);
    assert!(
        refused.stderr.contains("at its URL answers member"),
        "{}",
        refused.stderr
    );
    assert_eq!(filter(), "debug");
}
