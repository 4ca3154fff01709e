//! Members that come to a cluster with access control on.

use serde_json::json;

use super::{Guarded, done};
use crate::authority::write;
use crate::common::{SOON, Setup, machine, wait};

#[test]
fn a_newcomer_is_added_by_its_token_or_by_an_operator_and_never_by_nobody() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(1).start();
    let (root, weak, strong) = {
        let guarded = Guarded::of(&cluster);
        let everything = json!([{"verbs": ["admin"], "resource": ""}]);
        (
            guarded.root.clone(),
            guarded.identity("looker", &json!([])),
            guarded.identity("joining", &everything),
        )
    };
    let mut at_first = cluster.members[0].client().with_token(&root).persistent();
    done(at_first.put("/v1/keys/a", b"x"), 201);
    let number = cluster.newcomer();
    let waits_for = |cluster: &crate::common::Cluster, number: usize, words: &str| {
        let member = &cluster.members[number];
        let what = format!("{} says {words:?}", member.name);
        wait::until(&what, SOON, || {
            let output = member.output();
            let refused = |line: &str| line.contains("does not add") && line.contains(words);
            output.lines().any(refused).then_some(())
        });
        assert!(!member.is_ready());
    };
    // Nobody, and one that may do nothing.
    cluster.members[number].start();
    waits_for(&cluster, number, "unauthenticated");
    cluster.members[number].kill();
    let file = write(cluster.dir(), "join-token", &weak);
    let setting = ("join-token-file", file.display().to_string());
    cluster.members[number].settings.push(setting);
    cluster.members[number].start();
    waits_for(&cluster, number, "forbidden");
    let known = done(at_first.get("/v1/cluster"), 200).json();
    assert_eq!(
        known["members"].as_array().map(Vec::len),
        Some(1),
        "{known}"
    );

    // An operator adds it, as by `tenure member add`: it may see that, which is enough.
    let newcomer = &cluster.members[number];
    let asked = json!({
        "name": newcomer.name,
        "peer_url": newcomer.peer_url(),
        "client_url": format!("http://{}", newcomer.client),
    });
    let added = at_first.post("/v1/cluster/members", &asked);
    done(added, 201);
    newcomer.wait_until_ready();
    let who = |token: &str| newcomer.client().with_token(token).persistent();
    assert_eq!(done(who(&root).get("/v1/keys/a"), 200).text(), "x");
    done(newcomer.client().get("/v1/keys/a"), 401);
    done(who(&weak).get("/v1/keys/a"), 403);

    // Another adds itself by a token that may, alone.
    wait::until("nothing is being changed", SOON, || {
        let shown = at_first.get("/v1/cluster").ok()?.json();
        let voters = shown["members"].as_array()?;
        let all = voters.iter().all(|member| member["role"] == "voter");
        (all && shown["changing"] == false).then_some(())
    });
    let second = cluster.newcomer();
    let file = write(cluster.dir(), "second-join-token", &strong);
    let setting = ("join-token-file", file.display().to_string());
    cluster.members[second].settings.push(setting);
    cluster.members[second].start();
    let second = &cluster.members[second];
    second.wait_until_ready();
    let read = second
        .client()
        .with_token(&root)
        .persistent()
        .get("/v1/keys/a");
    assert_eq!(done(read, 200).text(), "x");
    for member in &cluster.members {
        for token in [&weak, &strong, &root] {
            let secret = token.split('.').nth(1).expect("a secret");
            assert!(!member.output().contains(secret), "{}", member.name);
        }
    }
}
