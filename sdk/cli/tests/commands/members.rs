//! `tenure member`: who belongs to the cluster, changed by one command each.

use serde_json::Value;

use crate::common::{Cluster, SOON, Setup, wait};
use crate::support::ran;

fn listed(cluster: &Cluster) -> Value {
    let list = ran(cluster, ["member", "list", "-o", "json"]);
    list.expect(0).json()
}

fn id_of(cluster: &Cluster, member: usize) -> String {
    let listed = listed(cluster);
    let name = cluster.members[member].name.as_str();
    let members = listed["members"].as_array().expect("it is a list");
    let member = members.iter().find(|member| member["name"] == name);
    let id = member.expect("it is listed")["id"].as_str();
    id.expect("an id is text").to_owned()
}

#[test]
fn a_machine_that_lost_its_disk_is_replaced_in_place_by_one_command() {
    let cluster = Setup::of(3).start();
    ran(&cluster, ["put", "kept", "x"]).expect(0);
    let lost = cluster.follower();
    let name = cluster.members[lost].name.as_str();
    let old = id_of(&cluster, lost);
    let alive = ran(&cluster, ["member", "replace", name]).expect(1);
    assert!(
        alive.stderr.contains("empty data directory"),
        "{}",
        alive.stderr
    );
    cluster.members[lost].lose_disk();
    cluster.members[lost].start();
    let replaced = ran(&cluster, ["member", "replace", name]).expect(0);
    let told = format!("{name} ({old}) is no member any more");
    assert!(replaced.stdout.contains("votes"), "{}", replaced.stdout);
    assert!(replaced.stdout.contains(&told), "{}", replaced.stdout);
    let members = listed(&cluster)["members"].clone();
    let members = members.as_array().expect("it is a list");
    let votes = |member: &Value| member["role"] == "voter" && member["id"] != old.as_str();
    assert!(
        members.len() == 3 && members.iter().all(votes),
        "{members:?}"
    );
    cluster.wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn a_member_that_joins_is_waited_for_until_it_votes() {
    let mut cluster = Setup::of(1).start();
    let new = cluster.newcomer();
    let member = &cluster.members[new];
    let (peer, client) = (
        format!("http://{}", member.peer),
        format!("http://{}", member.client),
    );
    let add = [
        "member",
        "add",
        &member.name,
        "--peer-url",
        &peer,
        "--client-url",
        &client,
    ];
    let nobody = ran(&cluster, add).expect(1);
    assert!(
        nobody.stderr.contains("does not reach n2"),
        "{}",
        nobody.stderr
    );
    member.start();
    // It adds itself, too: whoever comes second finds it as it is.
    let added = ran(&cluster, add).expect(0);
    assert!(added.stdout.contains("votes"), "{}", added.stdout);
    let table = ran(&cluster, ["member", "list"]).expect(0).stdout;
    assert!(table.starts_with("MEMBER  ID"), "{table}");
    assert_eq!(table.matches("voter").count(), 2, "{table}");
}

#[test]
fn what_makes_the_cluster_bear_less_wants_to_be_meant() {
    let cluster = Setup::of(3).start();
    let (leader, other) = (cluster.leader(), cluster.follower());
    let name = cluster.members[other].name.as_str();
    let led = ran(&cluster, ["member", "lead", name]).expect(0);
    assert!(led.stdout.contains(&format!("{name} (")), "{}", led.stdout);
    assert!(led.stdout.contains("leads, term"), "{}", led.stdout);
    assert_eq!(cluster.leader(), other);
    let refused = ran(&cluster, ["member", "remove", name]).expect(64);
    for part in ["it leads", "2 are left", "--yes", "member replace"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let old = cluster.members[leader].name.as_str();
    let id = id_of(&cluster, leader);
    for who in [old, id.as_str()] {
        let gone = ran(&cluster, ["member", "remove", who, "--yes"]).expect(0);
        assert!(
            gone.stdout.contains("is no member any more"),
            "{}",
            gone.stdout
        );
    }
    assert_eq!(cluster.members[leader].exit_code(SOON), 3);
    wait::until("two are left", SOON, || {
        (listed(&cluster)["members"].as_array()?.len() == 2).then_some(())
    });
    let nobody = ran(&cluster, ["member", "promote", "nobody"]).expect(2);
    assert!(nobody.stderr.contains("16 hex digits"), "{}", nobody.stderr);
}
