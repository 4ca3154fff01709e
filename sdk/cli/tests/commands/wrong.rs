//! What is wrong is told with the value at fault, what is accepted, and what to do next.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::common::Setup;
use crate::support::{Ran, ran, run, tenure};

#[track_caller]
fn check(told: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(told.code, code, "{told:?}");
    for part in parts {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
}

#[test]
fn wrong_arguments_are_told_what_is_accepted() {
    let wrong = |arguments: &[&str], parts: &[&str]| {
        check(&run(&mut tenure(arguments)), 64, parts);
    };
    wrong(
        &["lock", "a", "--ttl", "15", "--", "true"],
        &["15 of what?", "15s"],
    );
    wrong(
        &["lock", "a", "--ttl", "500ms", "--", "true"],
        &["a TTL is 1s to 24h"],
    );
    wrong(
        &["lock", "a", "--wait", "soon", "--", "true"],
        &["soon", "'--wait <TIME>': write 500ms"],
    );
    wrong(
        &["watch", "keys/", "--exec", "echo a; env"],
        &["`a;`", "sh -c"],
    );
    wrong(
        &["lock", "a", "--on-lost", "env | mail ops", "--", "true"],
        &["`|`", "sh -c"],
    );
    wrong(
        &["lock", "a", "--wait", "25h", "--", "true"],
        &["0s (only try) to 24h"],
    );
    wrong(
        &["lock", "a", "--grace", "1m", "--", "true"],
        &["--grace 1m 0s is too long", "give at most"],
    );
    wrong(
        &["lock", "a", "--priority", "101", "--", "true"],
        &["101", "-100..=100"],
    );
    wrong(
        &["lock", "a", "--on-lost", "echo 'x", "--", "true"],
        &["is not closed"],
    );
    wrong(
        &["lock", "a", "true"],
        &["unexpected argument 'true'", "-- <CMD>"],
    );
    wrong(&["lock", "a"], &["<CMD>"]);
    wrong(
        &["lock", "a", "--note", "two\nlines", "--", "true"],
        &["without control characters"],
    );
    wrong(
        &[
            "semaphore",
            "s",
            "--limit",
            "1",
            "--lock-delay",
            "61s",
            "--",
            "true",
        ],
        &["61s is out of range: a lock delay is 0s to 1m"],
    );
    wrong(&["semaphore", "s", "--", "true"], &["--limit"]);
    wrong(&["semaphore", "s", "--limit", "0", "--", "true"], &["0"]);
    wrong(
        &["semaphore", "s", "--limit", "few", "--", "true"],
        &["'few' for '--limit <NUMBER>': a whole number is accepted"],
    );
    wrong(&["watch", "config/"], &["write keys/config/ for keys"]);
    wrong(&["put", "a", "1", "--guard", "lock"], &["lock=NAME"]);
    wrong(&["put", "a", "1", "--content-type", "\n"], &["text/plain"]);
    wrong(&["lokc", "a"], &["lokc", "lock"]);
    wrong(&["-o", "xml", "status"], &["xml", "table, json"]);
    wrong(
        &["--endpoints", "http://a:1", "--context", "b", "status"],
        &["--context"],
    );
    wrong(&["--timeout", "0s", "status"], &["100ms to 1h"]);
    wrong(
        &["--endpoints", "ftp://x", "status"],
        &["ftp://x", "write members as"],
    );
    wrong(
        &["--endpoints", "127.0.0.1:1", "status"],
        &["write http://127.0.0.1:1"],
    );
}

#[test]
fn a_cluster_that_is_away_is_told_by_its_own_code_and_also_as_json() {
    // Nobody listens where somebody just did.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let url = format!("http://{}", free.expect("there is a port"));
    for command in [
        &["get", "a"][..],
        &["status"],
        &["lock", "a", "--wait", "0s", "--", "true"],
        &["locks"],
    ] {
        let arguments = ["--timeout", "300ms", "--endpoints", &url].into_iter();
        let told = run(&mut tenure(arguments.chain(command.iter().copied())));
        check(&told, 69, &[&url, "tenure context"]);
    }
    let told = run(&mut tenure([
        "--timeout",
        "300ms",
        "--endpoints",
        &url,
        "-o",
        "json",
        "get",
        "a",
    ]));
    let problem: serde_json::Value = serde_json::from_str(&told.stderr).expect("it is JSON");
    assert_eq!(
        (problem["exit"].as_u64(), problem["outcome"].as_str()),
        (Some(69), Some("not_applied"))
    );
    assert!(problem["next"].is_string() && told.stdout.is_empty());
}

#[test]
fn what_the_cluster_refuses_is_told_with_its_code() {
    let cluster = Setup::of(1).start();
    let secure = format!("https://{}", cluster.members[0].client);
    check(
        &ran(
            &cluster,
            ["--timeout", "1s", "--endpoints", &secure, "get", "a"],
        ),
        69,
        &["does not speak TLS: write http://"],
    );
    let name = "x".repeat(1025);
    check(
        &ran(&cluster, ["lock", &name, "--wait", "0s", "--", "true"]),
        64,
        &["invalid-name", "1024"],
    );
    check(&ran(&cluster, ["put", &name, "1"]), 64, &["invalid-name"]);
    check(
        &ran(&cluster, ["lease", "show", "nonsense"]),
        64,
        &["`nonsense`", "16 lower-case hex digits"],
    );
    check(
        &ran(&cluster, ["get", "a", "--revision", "9999"]),
        1,
        &["revision-ahead"],
    );
    check(
        &ran(&cluster, ["-ojson", "get", "none"]),
        2,
        &["\"exit\":2"],
    );
    check(
        &ran(&cluster, ["put", "a", "--file", "/nonexistent"]),
        64,
        &["/nonexistent", "`-` for stdin"],
    );
    check(
        &ran(&cluster, ["txn", "/nonexistent"]),
        64,
        &["transaction from /nonexistent", "`-` for stdin"],
    );
    check(
        &ran(&cluster, ["get", "config/a/b"]),
        2,
        &["config/a/b", "`tenure ls config/a/`"],
    );
}

/// A typing error in an id would look like a lease that is well ended.
#[test]
fn a_lease_that_never_was_is_not_told_as_ended_or_lost() {
    let cluster = Setup::of(1).start();
    let never = "0000000000000001";
    for deed in ["revoke", "renew", "keep-alive", "show"] {
        let told = ran(&cluster, ["lease", deed, never]);
        check(&told, 2, &[never, "is not known", "tenure lease list"]);
        assert!(!told.stderr.contains("POST"), "{deed}: {}", told.stderr);
        assert_eq!(told.stdout, "", "{deed}");
    }
    let lease = ran(&cluster, ["lease", "grant"]).expect(0).stdout;
    let lease = lease.trim();
    let told = ran(&cluster, ["lease", "revoke", never, lease]);
    check(&told, 2, &[never, "is not known"]);
    assert_eq!(told.stdout, format!("{lease}  ended\n"), "the other one is");
    // One that has ended is done with, but cannot be renewed.
    ran(&cluster, ["lease", "revoke", lease]).expect(0);
    let told = ran(&cluster, ["lease", "renew", lease]);
    check(&told, 2, &[lease, "has ended"]);
}

#[test]
fn leases_that_were_done_with_before_another_failed_are_not_told_as_not_applied() {
    let cluster = Setup::of(1).start();
    let lease = ran(&cluster, ["lease", "grant"]).expect(0).stdout;
    let (lease, never) = (lease.trim(), "0000000000000001");
    for (deed, leases, outcome) in [
        ("renew", [lease, never], Value::Null),
        ("renew", [never, lease], "not_applied".into()),
        ("revoke", [never, lease], Value::Null),
        ("revoke", [never, never], "not_applied".into()),
    ] {
        let [first, second] = leases;
        let told = ran(&cluster, ["lease", deed, first, second, "-o", "json"]).expect(2);
        let problem: Value = serde_json::from_str(&told.stderr).expect("it is JSON");
        assert_eq!(problem["outcome"], outcome, "{deed} {leases:?}: {problem}");
    }
}

#[test]
fn a_condition_that_did_not_hold_is_told_by_the_flag_that_asked_for_it() {
    let cluster = Setup::of(1).start();
    let lease = ran(&cluster, ["lease", "grant"]).expect(0).stdout;
    let lease = lease.trim();
    ran(&cluster, ["put", "a", "1"]).expect(0);
    let at = "--if-revision asks for key a with revision 1, and it is there with revision";
    let absent = "--if-absent asks for key a to be absent, and it is there with revision";
    let guard = "lock x is not held by fence 3 any longer";
    for (arguments, part) in [
        ("put a 2 --if-absent", absent),
        ("put a 2 --if-revision 1", at),
        ("del a --if-revision 1", at),
        ("put b 2 --if-revision 1", "there is no such key"),
        ("put a 2 --guard lock=x --fence 3", guard),
        ("del a --guard lock=x --fence 3", guard),
        ("del a --guard lock=x --fence 3 --if-revision 1", at),
        ("put a 2 --guard lock=x --fence 3 --if-absent", absent),
    ] {
        let told = ran(&cluster, arguments.split(' '));
        check(&told, 2, &["nothing was changed", part]);
        assert!(!told.stderr.contains("If-"), "{}", told.stderr);
        assert_eq!(
            told.stderr.contains("lock x"),
            part == guard,
            "{}",
            told.stderr
        );
    }
    let told = ran(&cluster, ["put", "a", "2", "--if-absent", "--lease", lease]);
    check(&told, 2, &[absent]);
    assert_eq!(ran(&cluster, ["get", "a"]).expect(0).stdout, "1");
}

#[test]
fn who_deletes_a_key_that_others_begin_with_is_told_of_the_prefix() {
    let cluster = Setup::of(1).start();
    ran(&cluster, ["put", "many/1", "1"]).expect(0);
    ran(&cluster, ["put", "many/2", "1"]).expect(0);
    let told = ran(&cluster, ["del", "many/"]);
    check(
        &told,
        2,
        &["`tenure del --prefix many/` deletes the 2 keys"],
    );
    let told = ran(&cluster, ["del", "more/"]);
    check(&told, 2, &[]);
    assert_eq!(told.stderr, "");
}

#[test]
fn contexts_are_read_from_the_file_and_shown_with_who_said_so() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    fs::create_dir(dir.path().join("tenure")).expect("it is made");
    let file = dir.path().join("tenure/config.toml");
    let write = |text: &str| fs::write(&file, text).expect("it is written");
    let context = |arguments: &[&str]| run(tenure(arguments).env("XDG_CONFIG_HOME", dir.path()));
    write(
        "context = \"test\"\n[contexts.test]\nendpoints = [\"http://t:1\"]\n[contexts.prod]\nendpoints = [\"http://p:1\"]\n",
    );
    let shown = context(&["context", "-o", "json"]).expect(0).json();
    assert_eq!(
        (shown["context"].as_str(), shown["endpoints"][0].as_str()),
        (Some("test"), Some("http://t:1"))
    );
    assert!(
        shown["because"]
            .as_str()
            .is_some_and(|because| because.contains("config.toml"))
    );
    let shown = context(&["--context", "prod", "context"]).expect(0).stdout;
    assert!(
        shown.contains("http://p:1") && shown.contains("--context"),
        "{shown}"
    );
    write("context = \"gone\"\n[contexts.prod]\nendpoints = [\"http://p:1\"]\n");
    check(
        &context(&["get", "a"]),
        78,
        &["\"gone\" (`context` in /", "config.toml has prod"],
    );
    fs::remove_file(&file).expect("it is there");
    let listed = context(&["context", "--list"]).expect(0).stdout;
    assert!(listed.contains("no contexts: there is no"), "{listed}");
    let both = "http://a:1, http://b:1";
    let shown = context(&["--endpoints", both, "context"]).expect(0).stdout;
    assert!(shown.contains("http://a:1, http://b:1\n"), "{shown}");
    write(
        "context = \"test\"\n[contexts.test]\nendpoints = [\"http://t:1\"]\n[contexts.prod]\nendpoints = [\"http://p:1\"]\n",
    );
    let listed = context(&["context", "--list"]).expect(0).stdout;
    assert!(
        listed.contains("*  test") && listed.contains("prod"),
        "{listed}"
    );
    check(
        &context(&["--context", "nowhere", "context"]),
        78,
        &["nowhere", "prod, test"],
    );
    write("[contexts.test]\nendpoint = \"http://t:1\"\n");
    check(
        &context(&["context"]),
        78,
        &["config.toml", "line 2", "unknown field `endpoint`"],
    );
    write("[contexts.test]\nendpoints = [\"t:1\"]\n");
    check(
        &context(&["--context", "test", "status"]),
        78,
        &["t:1", "write http://t:1"],
    );
    write("[contexts.a]\nendpoints = [\"https://a:1\"]\nca_file = \"none.pem\"\n");
    let missing = dir.path().join("tenure/none.pem").display().to_string();
    check(
        &context(&["--context", "a", "status"]),
        78,
        &[&missing, "cannot be read"],
    );
    fs::write(dir.path().join("tenure/none.pem"), "no PEM").expect("it is written");
    check(
        &context(&["--context", "a", "status"]),
        78,
        &["has no certificate in it"],
    );
    write("[contexts.a]\nendpoints = [\"https://a:1\"]\nkey_file = \"a.key\"\n");
    check(
        &context(&["--context", "a", "status"]),
        78,
        &["belong together"],
    );
    write("[contexts.a]\nendpoints = [\"http://a:1\"]\ntoken_file = \"token\"\n");
    fs::write(dir.path().join("tenure/token"), "a b").expect("it is written");
    check(
        &context(&["--context", "a", "status"]),
        78,
        &["is no token"],
    );
}
