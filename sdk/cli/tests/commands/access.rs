//! Access control by its commands, and what others meet while it is on.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::authority::Authority;
use crate::common::offline::tenured;
use crate::common::{Cluster, Process, SOON, Setup, wait};
use crate::secure::with;
use crate::support::{Ran, TENURE, at, begun, ran, run, tenure, text_of};

/// Long enough for a busy machine.
const TTL: &str = "4s";

/// A cluster on which access control is on, and the token of somebody who may do everything.
struct Guarded {
    cluster: Cluster,
    admin: PathBuf,
}

impl Guarded {
    fn start() -> Guarded {
        let cluster = Setup::of(1).start();
        let admin = cluster.dir().join("admin.token");
        ran(&cluster, ["role", "put", "admin", "--grant", "admin"]).expect(0);
        ran(&cluster, ["identity", "put", "alice", "--role", "admin"]).expect(0);
        let file = admin.display().to_string();
        ran(&cluster, ["token", "create", "alice", "--out", &file]).expect(0);
        ran(&cluster, ["--token-file", &file, "access", "on"]).expect(0);
        Guarded { cluster, admin }
    }

    /// Runs it with a token.
    fn by(&self, token: &Path, arguments: &[&str]) -> Ran {
        let ran = run(at(&self.cluster, arguments).env("TENURE_TOKEN_FILE", token));
        let secret = secret_in(token);
        assert!(
            !ran.stderr.contains(&secret) && !ran.stdout.contains(&secret),
            "{ran:?}"
        );
        ran
    }

    fn admin(&self, arguments: &[&str]) -> Ran {
        self.by(&self.admin, arguments)
    }

    /// An identity with a role of these grants, and its token.
    fn somebody(&self, name: &str, grants: &[&str]) -> PathBuf {
        let mut role = vec!["role", "put", name];
        role.extend(grants.iter().flat_map(|grant| ["--grant", grant]));
        self.admin(&role).expect(0);
        self.admin(&["identity", "put", name, "--role", name])
            .expect(0);
        let file = self.cluster.dir().join(format!("{name}.token"));
        let out = file.display().to_string();
        self.admin(&["token", "create", name, "--out", &out])
            .expect(0);
        file
    }

    /// The ids of all tokens.
    fn tokens(&self) -> Vec<Value> {
        let listed = self
            .admin(&["token", "list", "-o", "json"])
            .expect(0)
            .json();
        let tokens = listed["tokens"].as_array().expect("it is a list").iter();
        tokens.map(|token| token["id"].clone()).collect()
    }
}

/// The id and the secret of the token in a file.
fn token_in(file: &Path) -> (String, String) {
    let text = fs::read_to_string(file).expect("it is there");
    let (id, secret) = text.trim().split_once('.').expect("it is a token");
    (id.to_owned(), secret.to_owned())
}

fn secret_in(file: &Path) -> String {
    token_in(file).1
}

#[test]
fn access_control_is_set_up_used_and_switched_off_by_its_commands() {
    let cluster = Setup::of(1).start();
    let anybody = |arguments: &[&str]| ran(&cluster, arguments);
    let me = anybody(&["whoami", "-o", "json"]).expect(0).json();
    assert_eq!(
        (&me["identity"], &me["access"]),
        (&json!("anonymous"), &json!("off"))
    );
    // Nobody locks out everybody, or only himself without saying so.
    let told = anybody(&["access", "on"]).expect(64).stderr;
    assert!(told.contains("neither a token nor a certificate"), "{told}");
    let told = anybody(&["access", "on", "--yes"]).expect(1).stderr;
    assert!(told.contains("nobody could administer"), "{told}");
    drop(cluster);

    let guarded = Guarded::start();
    let ci = guarded.somebody(
        "ci",
        &[
            "read,list,watch:keys/config/",
            "lock:locks/jobs/",
            "lease:leases/",
        ],
    );
    let nobody = |arguments: &[&str]| ran(&guarded.cluster, arguments);
    let told = nobody(&["get", "config/a"]).expect(77).stderr;
    assert!(
        told.contains("(unauthenticated)") && told.contains("--token-file FILE"),
        "{told}"
    );
    nobody(&["whoami"]).expect(77);

    let told = guarded.by(&ci, &["whoami"]).expect(0).stdout;
    let (id, _) = token_in(&ci);
    assert!(
        told.contains("identity:  ci\nroles:     ci\n") && told.contains(&id),
        "{told}"
    );
    guarded.admin(&["put", "config/a", "1"]).expect(0);
    assert_eq!(guarded.by(&ci, &["get", "config/a"]).expect(0).stdout, "1");
    guarded.by(&ci, &["ls", "config/"]).expect(0);
    guarded.by(&ci, &["lock", "jobs/a", "--", "true"]).expect(0);
    let grants = ["campaign:elections/", "lock:semaphores/", "lease:leases/"];
    let runner = guarded.somebody("runner", &grants);
    let elect = ["elect", "services/a", "--", "true"];
    guarded.by(&runner, &elect).expect(0);
    let downloads = ["semaphore", "downloads", "--limit", "2", "--", "true"];
    guarded.by(&runner, &downloads).expect(0);
    let denied = |arguments: &[&str], what: &str, grant: &str| {
        let told = guarded.by(&ci, arguments).expect(77).stderr;
        assert!(told.contains(what) && told.contains(grant), "{told}");
    };
    denied(
        &["put", "config/a", "2"],
        "`write` on keys/config/a",
        "`--grant write:keys/config/a`",
    );
    denied(
        &["get", "other"],
        "`read` on keys/other",
        "`--grant read:keys/other`",
    );
    denied(&["ls"], "`list` on keys/", "`--grant list:keys/`");
    denied(
        &["watch", "locks/jobs/"],
        "`watch` on locks/jobs/",
        "`--grant watch:locks/jobs/`",
    );
    denied(
        &["lock", "other", "--", "true"],
        "`lock` on locks/other",
        "`--grant lock:locks/other`",
    );
    denied(
        &["role", "list"],
        "`admin` on the cluster",
        "`--grant admin`",
    );
    let told = guarded
        .by(&ci, &["put", "x", "y", "-o", "json"])
        .expect(77)
        .stderr;
    let told: Value = serde_json::from_str(&told).expect("it is JSON");
    assert_eq!(
        (&told["code"], &told["outcome"]),
        (&json!("forbidden"), &json!("not_applied"))
    );

    let told = guarded.admin(&["access", "off"]).expect(64).stderr;
    assert!(told.contains("give --yes"), "{told}");
    guarded.admin(&["access", "off", "--yes"]).expect(0);
    nobody(&["get", "config/a"]).expect(0);
    let shown = nobody(&["access", "show", "-o", "json"]).expect(0).json();
    assert_eq!(shown["enabled"], false);
}

#[test]
fn roles_and_identities_are_put_shown_listed_and_deleted() {
    let cluster = Setup::of(1).start();
    let run = |arguments: &str| ran(&cluster, arguments.split(' '));
    let put = run("role put deploy --grant read,list:keys/config/ --exact lock:locks/a:b -o json");
    let grants = json!([
        {"verbs": ["read", "list"], "resource": "keys/config/", "match": "prefix"},
        {"verbs": ["lock"], "resource": "locks/a:b", "match": "exact"},
    ]);
    assert_eq!(put.expect(0).json()["grants"], grants);
    run("role put a --no-grants").expect(0);
    let table = run("role list").expect(0).stdout;
    let expected = "ROLE    VERBS      RESOURCE      WHICH\n\
        a       none\n\
        deploy  read,list  keys/config/  all that begins so\n        lock       locks/a:b     exactly that\n";
    assert_eq!(table, expected);
    assert_eq!(
        run("role get deploy -o json").expect(0).json()["grants"],
        grants
    );
    run("role get none").expect(2);
    run("role delete none").expect(2);
    let told = run("role put odd --grant read,lock:keys/").expect(0).stderr;
    assert!(told.contains("lock on keys/ allows nothing"), "{told}");
    let told = run("role put vain --grant lock:keys/").expect(1).stderr;
    assert!(told.contains("lock on locks/, semaphores/"), "{told}");
    for (wrong, part) in [
        ("role put x", "--no-grants"),
        (
            "role put x --grant raed:keys/",
            "\"raed\" is no verb: read, list, write",
        ),
        (
            "role put x --grant read:config/",
            "begins with keys/, locks/",
        ),
        ("role put x --grant admin:keys/", "admin"),
    ] {
        let told = run(wrong).expect(64).stderr;
        assert!(told.contains(part), "{told}");
    }

    let told = run("identity put ci --role none").expect(1).stderr;
    assert!(
        told.contains("there is no role") && told.contains("none"),
        "{told}"
    );
    run("identity put ci --role deploy --certificate spiffe://example.org/ci --quota-leases 5")
        .expect(0);
    let shown = run("identity get ci -o json").expect(0).json();
    assert_eq!(
        shown["quota"],
        json!({"leases": 5, "places": null, "requests_per_second": null})
    );
    let table = run("identity list").expect(0).stdout;
    assert!(
        table.contains("ci        deploy  spiffe://example.org/ci  5 leases"),
        "{table}"
    );
    run("identity put ci").expect(0);
    let shown = run("identity get ci").expect(0).stdout;
    assert!(
        shown.contains("roles:       -\ncertificate: -\nquota:       -\n"),
        "{shown}"
    );
    let deleted = run("identity delete ci -o json").expect(0).json();
    assert_eq!(deleted, json!({"identity": "ci", "deleted": true}));
    run("identity get ci").expect(2);
    run("identity delete ci").expect(2);
    run("role delete deploy").expect(0);
}

#[test]
fn the_secret_of_a_token_is_in_a_private_file_or_on_stdout_and_revoked_where_neither_takes_it() {
    let guarded = Guarded::start();
    let ci = guarded.somebody("ci", &["read:keys/"]);
    let mode = fs::metadata(&ci).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let out = ci.display().to_string();
    let (first, _) = token_in(&ci);
    let told = guarded
        .admin(&["token", "create", "ci", "--out", &out])
        .expect(64)
        .stderr;
    assert!(told.contains("is there already"), "{told}");
    assert_eq!(guarded.tokens().len(), 2, "none was created");

    let replaced = guarded.admin(&[
        "token",
        "create",
        "ci",
        "--expires",
        "90d",
        "--out",
        &out,
        "--force",
        "-o",
        "json",
    ]);
    let replaced = replaced.expect(0);
    let (second, secret) = token_in(&ci);
    assert!(!replaced.stdout.contains(&secret), "{replaced:?}");
    assert_eq!(replaced.json()["id"], json!(second));
    assert!(
        replaced
            .stderr
            .contains(&format!("`tenure token revoke {first}`")),
        "{replaced:?}"
    );
    guarded.admin(&["token", "revoke", &first]).expect(0);
    guarded.admin(&["token", "revoke", &first]).expect(2);
    let again = guarded
        .admin(&["token", "create", "ci", "--out", &out, "--force"])
        .expect(0);
    assert!(again.stderr.contains(&second), "{again:?}");

    let printed = guarded.admin(&["token", "create", "ci"]).expect(0);
    assert_eq!((printed.stdout.len(), printed.stderr.as_str()), (82, ""));
    fs::write(&ci, &printed.stdout).expect("it is written");
    guarded.by(&ci, &["whoami"]).expect(0);

    let before = guarded.tokens();
    let full = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("it is there");
    let mut create = at(&guarded.cluster, ["token", "create", "ci"]);
    let told = run(create.env("TENURE_TOKEN_FILE", &guarded.admin).stdout(full))
        .expect(1)
        .stderr;
    assert!(told.contains("the token is revoked again"), "{told}");
    assert_eq!(guarded.tokens(), before);

    let whole = fs::read_to_string(&ci).expect("it is there");
    let told = guarded
        .admin(&["token", "revoke", whole.trim()])
        .expect(64)
        .stderr;
    assert!(told.contains("what is before its dot"), "{told}");
    let told = guarded
        .admin(&["token", "create", "nobody"])
        .expect(2)
        .stderr;
    assert!(told.contains("`tenure identity put"), "{told}");
    let listed = guarded
        .admin(&["token", "list", "--identity", "alice"])
        .expect(0)
        .stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

#[test]
fn a_token_file_that_cannot_be_used_is_told_by_its_name_and_who_named_it() {
    let cluster = Setup::of(1).start();
    let bad = cluster.dir().join("bad.token");
    fs::write(&bad, "ci 5ecre7").expect("it is written");
    let told = run(at(&cluster, ["whoami"]).env("TENURE_TOKEN_FILE", &bad))
        .expect(78)
        .stderr;
    assert!(
        told.contains("bad.token is no token") && told.contains("(TENURE_TOKEN_FILE)"),
        "{told}"
    );
    assert!(!told.contains("5ecre7"), "{told}");
    let told = ran(&cluster, ["--token-file", "/nonexistent/t", "whoami"])
        .expect(78)
        .stderr;
    assert!(
        told.contains("/nonexistent/t cannot be read") && told.contains("(--token-file)"),
        "{told}"
    );
    let shown = ran(&cluster, ["--token-file", "a/t", "context"])
        .expect(0)
        .stdout;
    assert!(shown.contains("/a/t (--token-file)"), "{shown}");
}

#[test]
fn what_is_held_goes_on_when_its_token_is_changed_and_is_lost_when_it_is_revoked() {
    let guarded = Guarded::start();
    let ci = guarded.somebody("ci", &["lock:locks/jobs/", "lease:leases/"]);
    let out = ci.display().to_string();
    let command = format!("{TENURE} whoami -o json && while :; do sleep 0.1; done");
    let held = [
        "--token-file",
        &out,
        "lock",
        "jobs/a",
        "--ttl",
        TTL,
        "--",
        "sh",
        "-c",
        &command,
    ];
    let mut holder = begun(&guarded.cluster, "holder", held);
    // What runs under it is the same identity.
    let me = text_of(&guarded.cluster.dir().join("holder"));
    let me: Value = serde_json::from_str(&me).expect("it is JSON");
    assert_eq!(me["identity"], "ci");

    let (old, _) = token_in(&ci);
    guarded
        .admin(&["token", "create", "ci", "--out", &out, "--force"])
        .expect(0);
    guarded.admin(&["token", "revoke", &old]).expect(0);
    let left = || {
        let shown = guarded
            .admin(&["locks", "jobs/a", "-o", "json"])
            .expect(0)
            .json();
        shown["locks"][0]["holders"][0]["remaining_ms"].as_u64()
    };
    let mut least = left().expect("it is held");
    wait::until("it is renewed by the new token", SOON, || {
        let now = left().expect("it is held");
        least = least.min(now);
        (now > least).then_some(())
    });

    let (new, _) = token_in(&ci);
    guarded.admin(&["token", "revoke", &new]).expect(0);
    assert_eq!(holder.exit_code(SOON), 76);
    let told = holder.output();
    assert!(
        told.contains("lock jobs/a is not renewed; the token"),
        "{told}"
    );
    assert!(
        told.contains("lock jobs/a is lost (the lease could not be renewed"),
        "{told}"
    );
    assert!(!told.contains(&secret_in(&ci)), "{told}");
    wait::until(
        "its lease has run out",
        SOON + Duration::from_secs(4),
        || left().is_none().then_some(()),
    );
}

#[test]
fn who_may_list_and_not_read_sees_how_many_wait_and_not_who() {
    let guarded = Guarded::start();
    let holder = guarded.somebody("holder", &["lock:locks/", "lease:leases/"]);
    let lister = guarded.somebody("lister", &["list:locks/"]);
    let _waiting: Vec<_> = ["holds", "waits"]
        .iter()
        .map(|log| {
            let mut command = at(&guarded.cluster, ["lock", "a", "--", "sleep", "60"]);
            let command = command.env("TENURE_TOKEN_FILE", &holder);
            Process::start(command, &guarded.cluster.dir().join(log))
        })
        .collect();
    let table = wait::until("one holds and one waits", SOON, || {
        let looked = guarded.by(&lister, &["locks"]);
        assert_eq!(looked.code, 0, "{looked:?}");
        looked.stdout.contains("waits").then_some(looked.stdout)
    });
    assert!(table.contains("1 more"), "{table}");
    let wire = guarded.by(&lister, &["locks", "-o", "json"]).expect(0);
    assert_eq!(wire.json()["locks"][0]["queue_length"], 1);
}

#[test]
fn the_token_that_a_cluster_is_formed_with_is_all_that_a_first_administrator_needs() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let file = dir.path().join("root.token");
    let out = file.display().to_string();
    tenured(&["token", "--out", &out]).expect(0);
    let cluster = Setup::of(1).with("root-token-file", &out).start();
    ran(&cluster, ["get", "a"]).expect(77);
    let by_root = |arguments: &[&str]| run(at(&cluster, arguments).env("TENURE_TOKEN_FILE", &file));
    let me = by_root(&["whoami", "-o", "json"]).expect(0).json();
    assert_eq!(
        (&me["identity"], &me["access"]),
        (&json!("root"), &json!("on"))
    );
    assert_eq!(me["token"], json!(token_in(&file).0));
    by_root(&["identity", "put", "alice", "--role", "root"]).expect(0);
    let alice = dir.path().join("alice.token").display().to_string();
    by_root(&["token", "create", "alice", "--out", &alice]).expect(0);
    // The first token is for the beginning only.
    let by_alice =
        |arguments: &[&str]| run(at(&cluster, arguments).env("TENURE_TOKEN_FILE", &alice));
    by_alice(&["identity", "delete", "root"]).expect(0);
    by_root(&["whoami"]).expect(77);
    let told = by_alice(&["identity", "delete", "alice"]).expect(1).stderr;
    assert!(told.contains("nobody could administer"), "{told}");
}

/// A member that serves clients by TLS and lets them show certificates, and contexts by which it is asked.
fn secure_member() -> Cluster {
    let mut cluster = Setup::of(1).prepare();
    let settings = cluster.dir().join("tenure");
    fs::create_dir(&settings).expect("it is made");
    let write = |name: &str, text: &str| {
        let path = settings.join(name);
        fs::write(&path, text).expect("it is written");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).expect("it is ours");
        path.display().to_string()
    };
    let (authority, clients) = (Authority::new(), Authority::new());
    let address = cluster.members[0].client;
    let (member, worker) = (
        authority.issue(&address.ip().to_string()),
        clients.issue("worker.example.org"),
    );
    write("ca.pem", &authority.pem);
    write("worker.pem", &worker.chain);
    write("worker.key", &worker.key);
    let context = |name: &str, more: &str| {
        format!(
            "[contexts.{name}]\nendpoints = [\"https://{address}\"]\nca_file = \"ca.pem\"\n{more}"
        )
    };
    let shown = "certificate_file = \"worker.pem\"\nkey_file = \"worker.key\"\n";
    let contexts = [
        context("nobody", ""),
        context("worker", shown),
        context("alice", "token_file = \"alice.token\"\n"),
        context("both", &format!("{shown}token_file = \"alice.token\"\n")),
    ];
    write("config.toml", &contexts.concat());
    let settings = [
        ("client-cert-file", write("member.pem", &member.chain)),
        ("client-key-file", write("member.key", &member.key)),
        ("client-ca-file", write("clients.pem", &clients.pem)),
    ];
    cluster.members[0].settings.extend(settings);
    cluster.members[0].start();
    wait::until("the member serves", SOON, || {
        (with(&cluster, "nobody", "status").code == 0).then_some(())
    });
    cluster
}

#[test]
fn a_client_certificate_proves_an_identity_and_a_token_beside_it_counts_more() {
    let cluster = secure_member();
    let with = |context: &str, arguments: &str| with(&cluster, context, arguments);
    with("nobody", "role put admin --grant admin").expect(0);
    with("nobody", "identity put alice --role admin").expect(0);
    let alice = cluster.dir().join("tenure/alice.token");
    let create = format!("token create alice --out {}", alice.display());
    with("nobody", &create).expect(0);
    with(
        "alice",
        "role put worker --grant lock:locks/jobs/ --grant lease:leases/",
    )
    .expect(0);
    with(
        "alice",
        "identity put worker --role worker --certificate worker.example.org",
    )
    .expect(0);
    with("alice", "access on").expect(0);

    with("nobody", "whoami").expect(77);
    let told = with("worker", "whoami").expect(0).stdout;
    assert!(told.contains("identity:  worker\n"), "{told}");
    assert!(told.contains("proved by: a client certificate\n"), "{told}");
    with("worker", &format!("lock jobs/a -- {TENURE} whoami")).expect(0);
    let told = with("worker", "put a b").expect(77).stderr;
    assert!(told.contains("needs `write` on keys/a"), "{told}");
    let told = with("both", "whoami").expect(0).stdout;
    assert!(told.contains("identity:  alice\n"), "{told}");
    // The certificate is as good as ever, and the identity has another one.
    with("alice", "identity put worker --role worker").expect(0);
    let told = with("worker", "whoami").expect(77).stderr;
    assert!(told.contains("worker.example.org"), "{told}");
}

#[test]
fn a_bench_needs_no_more_than_its_help_says() {
    let guarded = Guarded::start();
    let help = run(&mut tenure(["bench", "--help"])).expect(0).stdout;
    let role = help.split("tenure role put bench ").nth(1);
    let role = role.and_then(|role| role.split("\n\n").next());
    let words = role.expect("it is shown").split_whitespace();
    let grants: Vec<&str> = words.filter(|word| word.contains(':')).collect();
    assert_eq!(grants.len(), 4, "{grants:?}");
    let token = guarded.somebody("bench", &grants);
    let all = "bench put get get-local lock handoff election watch renew --clients 4 --leases 20 --duration 200ms \
        --warmup 0s -o json";
    let all: Vec<&str> = all.split(' ').collect();
    let report = guarded.by(&token, &all).expect(0).json();
    let measurements = report["measurements"].as_array().expect("it is a list");
    assert_eq!(measurements.len(), 8);
    for measurement in measurements {
        let errors = &measurement["runs"][0]["errors"];
        assert_eq!(*errors, json!({}), "{measurement}");
    }
    let nobody = guarded.somebody("nobody", &["read:keys/other/"]);
    let told = guarded
        .by(&nobody, &["bench", "put", "--duration", "200ms"])
        .expect(77)
        .stderr;
    assert!(
        told.contains("`write` on keys/bench/") && told.contains("the role that --help shows"),
        "{told}"
    );
}
