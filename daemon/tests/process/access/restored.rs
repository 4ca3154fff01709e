//! What becomes of tokens in a cluster that is made of a backup.

use std::fs;

use serde_json::json;

use super::{Guarded, done};
use crate::common::offline::{Ran, backup, shown, tenured};
use crate::common::{Client, Cluster, Setup, machine};

fn restore(file: &str, to: &Cluster, more: &[&str]) -> Ran {
    let member = &to.members[0];
    let (client, peer) = (
        format!("http://{}", member.client),
        format!("http://{}", member.peer),
    );
    let given = [
        "restore",
        file,
        "--name",
        &member.name,
        "--data-dir",
        shown(&member.data_dir),
        "--client-advertise",
        &client,
        "--peer-advertise",
        &peer,
    ];
    tenured(&[&given[..], more].concat())
}

/// What a token is told by a cluster of one.
fn told(cluster: &Cluster, token: &str) -> u16 {
    let mut client = cluster.members[0].client().with_token(token).persistent();
    client.get("/v1/whoami").expect("an answer").status
}

#[test]
fn a_restore_with_a_root_token_lets_its_owner_in_and_the_old_roots_tokens_no_more() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let guarded = Guarded::of(&cluster);
    let ci = guarded.identity("ci", &json!([{"verbs": ["read"], "resource": "keys/"}]));
    done(guarded.root().put("/v1/keys/a", b"x"), 201);
    let revoked = guarded.token("ci");
    let file = {
        let bytes = done(guarded.root().get("/v1/backup"), 200).body;
        let path = cluster.dir().join("guarded");
        fs::write(&path, bytes).expect("there is room");
        path
    };
    // Taken back since: the backup does not know.
    let id = revoked.split('.').next().expect("an id");
    done(guarded.root().delete(&format!("/v1/tokens/{id}")), 200);

    let key = cluster.dir().join("root-token");
    tenured(&["token", "--out", shown(&key)]).expect(0);
    let new = fs::read_to_string(&key).expect("it is written");
    let new = new.trim();
    let made = Setup::of(1).prepare();
    let ran = restore(shown(&file), &made, &["--root-token-file", shown(&key)]).expect(0);
    assert!(!format!("{ran:?}").contains(new.split('.').nth(1).expect("a secret")));
    let member = &made.members[0];
    member.start();
    member.wait_until_ready();
    let nobody = member.client().persistent().get("/v1/keys/a");
    done(nobody, 401);
    let mut root = member.client().with_token(new).persistent();
    assert_eq!(done(root.get("/v1/keys/a"), 200).text(), "x");
    assert_eq!(done(root.get("/v1/access"), 200).json()["enabled"], true);
    assert_eq!(told(&made, &guarded.root), 401, "the old root's is gone");
    // As the page for operators says: the others are what they were in the file, and are looked through.
    assert_eq!((told(&made, &ci), told(&made, &revoked)), (200, 200));
    let listed = done(root.get("/v1/tokens"), 200).json();
    assert_eq!(listed["count"], 3, "{listed}");
    done(root.delete(&format!("/v1/tokens/{id}")), 200);
    assert_eq!((told(&made, &ci), told(&made, &revoked)), (200, 401));

    // Without one, whoever could administer can.
    let other = Setup::of(1).prepare();
    restore(shown(&file), &other, &[]).expect(0);
    other.members[0].start();
    other.members[0].wait_until_ready();
    assert_eq!((told(&other, &guarded.root), told(&other, new)), (200, 401));
}

#[test]
fn a_backup_of_an_open_cluster_becomes_a_guarded_one_by_a_root_token() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client: Client = cluster.members[0].client().persistent();
    done(client.put("/v1/keys/a", b"x"), 201);
    let file = backup(&cluster, 0, "open");
    let key = cluster.dir().join("root-token");
    tenured(&["token", "--out", shown(&key)]).expect(0);
    let token = fs::read_to_string(&key).expect("it is written");
    let made = Setup::of(1).prepare();
    restore(shown(&file), &made, &["--root-token-file", shown(&key)]).expect(0);
    let member = &made.members[0];
    member.start();
    member.wait_until_ready();
    done(member.client().persistent().get("/v1/keys/a"), 401);
    let mut root = member.client().with_token(token.trim()).persistent();
    assert_eq!(done(root.get("/v1/keys/a"), 200).text(), "x");
}
