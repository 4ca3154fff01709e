//! `tenured recover`: a cluster out of what one member has left.

use std::fs;

use serde_json::{Value, json};

use crate::common::offline::{Ran, shown, tenured, verified};
use crate::common::{Cluster, Member, SOON, Setup, acquire, grant, machine, wait};

fn recover(member: &Member, more: &[&str]) -> Ran {
    let given = ["recover", "--data-dir", shown(&member.data_dir)];
    tenured(&[&given[..], more].concat())
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a number, not {value}"))
}

fn read(cluster: &Cluster, member: usize, key: &str) -> Option<String> {
    let mut client = cluster.members[member].client().persistent();
    let read = client.get(&format!("/v1/keys/{key}")).expect("an answer");
    (read.status == 200).then(|| read.text())
}

#[test]
fn a_member_that_lost_its_quorum_for_good_goes_on_alone_with_what_it_has() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[0].client().persistent();
    client
        .put("/v1/keys/a", b"1")
        .expect("an answer")
        .expect(201);
    let lease = grant(&mut client, 60_000);
    let fence = acquire(&mut client, "jobs", &lease);
    cluster.wait_until_equal();
    let old = cluster.members[0].status().expect("it answers");
    let member = &cluster.members[0];
    recover(member, &["--accept-loss"])
        .expect(1)
        .telling(&["in use by process"]);
    cluster.kill_all();

    let plan = recover(member, &[])
        .expect(2)
        .telling(&["nothing was changed", "--accept-loss"]);
    for part in [
        "lost are",
        "n2 ",
        "n3 ",
        old["cluster"].as_str().unwrap_or_default(),
    ] {
        assert!(plan.out.contains(part), "{part:?} is not in {plan:?}");
    }
    assert_eq!(verified(&member.data_dir)["cluster"], old["cluster"]);
    let ran = recover(member, &["--accept-loss"]).expect(0);
    member.start();
    member.wait_until_ready();
    let new = member.status().expect("it answers");
    assert_ne!(
        (&new["cluster"], &new["member"]),
        (&old["cluster"], &old["member"])
    );
    assert_eq!(read(&cluster, 0, "a").as_deref(), Some("1"));
    let mut client = member.client().persistent();
    let shown_members = client.get("/v1/cluster").expect("an answer").json();
    assert_eq!(shown_members["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        shown_members["members"][0]["client_url"],
        json!(format!("http://{}", member.client))
    );
    let lock = client.get("/v1/locks/jobs").expect("an answer").json();
    assert_eq!(
        (&lock["holder_count"], &lock["last_fence"]),
        (&json!(0), &json!(fence))
    );
    let compacted = client.get(&format!("/v1/watch?prefix=locks/&after={fence}"));
    assert_eq!(compacted.expect("an answer").code(), "compacted");
    let lease = grant(&mut client, 60_000);
    assert!(number(&old["revision"]) << 1 < acquire(&mut client, "jobs", &lease));

    // What it was is kept beside it, whole.
    let kept = fs::read_dir(&member.data_dir).expect("it can be listed");
    let mut kept = kept.filter_map(|entry| Some(entry.ok()?.path()));
    let kept = kept
        .find(|path| shown(path).contains("before-recovery-"))
        .expect("it is kept");
    assert!(ran.out.contains(shown(&kept)), "{ran:?}");
    assert_eq!(verified(&kept)["cluster"], old["cluster"]);
}

/// Ends a member whose log has a last write that no checkpoint covers, and tells that write's key and entry.
fn killed_behind_its_checkpoint(cluster: &Cluster) -> (String, u64) {
    let member = &cluster.members[0];
    for attempt in 0..20 {
        let mut client = member.client().persistent();
        wait::until("there is a checkpoint of everything", SOON, || {
            member.output().contains("checkpoint written").then_some(())
        });
        let key = format!("last/{attempt}");
        client
            .put(&format!("/v1/keys/{key}"), b"x")
            .expect("an answer")
            .expect(201);
        member.kill();
        let report = verified(&member.data_dir);
        let last = number(&report["log"]["last"]);
        if number(&report["state"]["applied_index"]) < last {
            return (key, last);
        }
        member.start();
        member.wait_until_ready();
    }
    panic!("every one of twenty writes was in a checkpoint when its member was killed");
}

#[test]
fn the_state_before_an_entry_becomes_a_cluster_and_what_came_after_is_left_out() {
    let _machine = machine::shared();
    let cluster = Setup::of(1)
        .with("log-filter", "info,tenured=debug")
        .start();
    let member = &cluster.members[0];
    let mut client = member.client().persistent();
    client
        .put("/v1/keys/a", b"1")
        .expect("an answer")
        .expect(201);
    let (key, last) = killed_behind_its_checkpoint(&cluster);
    let refused = |before: u64, part: &str| {
        let before = before.to_string();
        let ran = recover(member, &["--accept-loss", "--before", &before]);
        ran.expect(2)
            .telling(&[&format!("--before {before}"), part]);
    };
    refused(1, "cannot go back");
    refused(last + 2, &format!("ends with entry {last}"));
    let before = last.to_string();
    let ran = recover(member, &["--before", &before, "--accept-loss"]).expect(0);
    assert!(
        ran.out.contains(&format!("after entry {}", last - 1)),
        "{ran:?}"
    );
    member.start();
    member.wait_until_ready();
    assert_eq!(read(&cluster, 0, "a").as_deref(), Some("1"));
    assert_eq!(read(&cluster, 0, &key), None);
}

#[test]
fn there_is_nothing_to_recover_from_a_directory_without_a_member() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).prepare();
    let path = cluster.dir().join("empty");
    fs::create_dir(&path).expect("there is room");
    let ran = tenured(&["recover", "--data-dir", shown(&path), "--accept-loss"]);
    ran.expect(2).telling(&["nothing to recover from"]);
    assert_eq!(fs::read_dir(&path).expect("it can be listed").count(), 0);
    tenured(&["recover"]).expect(2).telling(&["data_dir"]);
}
