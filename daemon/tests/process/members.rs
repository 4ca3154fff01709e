//! Members that come and go, over real clusters: grown, shrunk, replaced one by one under load, and what is refused.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, Cluster, Member, SOON, Setup, acquire, grant, machine, wait};

/// In this time a member that was added has caught up and votes, on a busy machine.
const PROMOTED: Duration = Duration::from_secs(60);

/// `GET /v1/cluster` of any member that runs.
fn cluster_of(cluster: &Cluster) -> Value {
    let answer = cluster.persist("a member shows the cluster", |client| {
        client.get("/v1/cluster")
    });
    answer.expect(200).json()
}

/// The member of a name, as the cluster shows it; of two, the one that does not leave.
fn shown(cluster: &Value, name: &str) -> Option<Value> {
    let members = cluster["members"].as_array().expect("it shows its members");
    let mut named = members.iter().filter(|member| member["name"] == name);
    named.next_back().cloned()
}

fn id_of(cluster: &Cluster, member: usize) -> String {
    let shown = shown(&cluster_of(cluster), &cluster.members[member].name);
    let id = shown.expect("it is a member")["id"].clone();
    id.as_str().expect("an id is text").to_owned()
}

/// Waits until exactly the members of these names belong to the cluster, and all of them vote.
fn wait_for_voters(cluster: &Cluster, names: &[&str]) {
    let what = format!("{names:?} are the voters");
    wait::until(&what, PROMOTED, || {
        let shown = cluster_of(cluster);
        let members = shown["members"].as_array()?;
        let is_voter = |name: &&str| {
            members
                .iter()
                .any(|member| member["name"] == **name && member["role"] == "voter")
        };
        let all = members.len() == names.len() && names.iter().all(is_voter);
        (all && shown["changing"] == false).then_some(())
    });
}

/// How a member is added, or takes a place.
fn as_asked(member: &Member) -> Value {
    json!({
        "name": member.name,
        "peer_url": format!("http://{}", member.peer),
        "client_url": format!("http://{}", member.client),
    })
}

/// A change of members, asked of one of them until it is decided: others may be under way, or a leader be elected.
fn decided(cluster: &Cluster, by: usize, method: &str, path: &str, body: &Value) -> Answer {
    wait::until(&format!("{method} {path} is decided"), SOON, || {
        let mut client = cluster.members[by].client();
        let answer = match body {
            Value::Null => client.call(method, path, &[], b""),
            body => client.json(method, path, body),
        };
        let answer = answer.ok()?;
        let again = answer.status >= 500 || answer.code() == "membership-busy";
        (!again).then_some(answer)
    })
}

/// Refused as unsafe, by a sentence with these parts.
fn check_unsafe(answer: Answer, parts: &[&str]) {
    let answer = answer.expect(409);
    assert_eq!(answer.code(), "membership-unsafe");
    let detail = answer.str("detail");
    for part in parts {
        assert!(detail.contains(part), "{part:?} is in {detail:?}");
    }
}

/// The same value again does no harm: a member may have sent the first on to a leader that was being killed.
fn put(cluster: &Cluster, key: &str) {
    let path = format!("/v1/keys/{key}");
    let put = || cluster.persist("a key is put", |client| client.put(&path, b"x"));
    let mut answer = put();
    if answer.status == 504 {
        assert_eq!(answer.code(), "outcome-unknown");
        answer = put();
    }
    assert!(answer.status < 300, "{}", answer.text());
}

#[test]
fn a_member_alone_grows_to_three_by_members_that_join_and_then_bears_its_loss() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(1).start();
    put(&cluster, "before");
    for _ in 0..2 {
        let joined = cluster.newcomer();
        cluster.members[joined].start();
        cluster.members[joined].wait_until_ready();
    }
    wait_for_voters(&cluster, &["n1", "n2", "n3"]);
    // Asked again, and by hand, it is as it is.
    let again = decided(
        &cluster,
        1,
        "POST",
        "/v1/cluster/members",
        &as_asked(&cluster.members[2]),
    );
    assert_eq!(again.expect(201).json()["member"]["role"], "voter");
    let mut without = as_asked(&cluster.members[2]);
    without["promote"] = json!(false);
    let refused = decided(&cluster, 1, "POST", "/v1/cluster/members", &without);
    check_unsafe(
        refused,
        &["promote is false", &cluster.members[2].name, "has a vote"],
    );
    put(&cluster, "between");
    cluster.wait_until_equal();

    cluster.members[0].kill();
    put(&cluster, "after");
    let mut client = cluster.members[2].client().persistent();
    let read = client.get("/v1/keys/before").expect("the member answers");
    assert_eq!(read.expect(200).text(), "x");
    // Whoever joined is found again without the member by which it joined.
    cluster.members[2].kill();
    cluster.members[2].start();
    cluster.members[2].wait_until_ready();
    cluster.wait_until_equal();
}

#[test]
fn a_machine_that_lost_its_disk_is_replaced_in_place_and_asking_again_is_harmless() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    put(&cluster, "kept");
    let (leader, lost) = (cluster.leader(), cluster.follower());
    let old = id_of(&cluster, lost);
    let replace = format!("/v1/cluster/members/{old}/replace");
    let body = as_asked(&cluster.members[lost]);
    // While it runs with its data, there is nothing to replace it by.
    let itself = decided(&cluster, leader, "POST", &replace, &body);
    check_unsafe(itself, &[&old, "itself", "empty data directory"]);

    cluster.members[lost].lose_disk();
    let nobody = decided(&cluster, leader, "POST", &replace, &body);
    check_unsafe(nobody, &["does not reach", &cluster.members[lost].name]);
    cluster.members[lost].start();
    let added = decided(&cluster, leader, "POST", "/v1/cluster/members", &body);
    check_unsafe(added, &[&old, "/replace"]);
    let replaced = decided(&cluster, leader, "POST", &replace, &body).expect(201);
    let new = replaced.json()["member"]["id"].clone();
    assert_ne!(new, old.as_str());
    let names: Vec<&str> = cluster.members.iter().map(|it| it.name.as_str()).collect();
    wait_for_voters(&cluster, &names);
    for _ in 0..2 {
        let again = decided(&cluster, leader, "POST", &replace, &body).expect(201);
        assert_eq!(again.json()["member"]["id"], new);
        assert_eq!(again.json()["member"]["role"], "voter");
    }
    cluster.members[lost].wait_until_ready();
    let mut client = cluster.members[lost].client().persistent();
    let read = client.get("/v1/keys/kept").expect("the member answers");
    read.expect(200);
    cluster.wait_until_equal();
}

#[test]
fn what_could_cost_the_quorum_is_refused_with_the_reason_and_changes_nothing() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    let (missing, alive) = (others[0], others[1]);
    let (missing_id, alive_id) = (id_of(&cluster, missing), id_of(&cluster, alive));
    let before = cluster_of(&cluster)["members"].clone();

    // Whoever is reached is not who is meant.
    let peer = |member: usize| format!("http://{}", cluster.members[member].peer);
    let asked = |name: &str, peer_url: String| json!({"name": name, "peer_url": peer_url, "client_url": "http://127.0.0.1:9"});
    let add = "/v1/cluster/members";
    let by_client_port = asked("n9", format!("http://{}", cluster.members[alive].client));
    let stranger = decided(&cluster, leader, "POST", add, &by_client_port);
    check_unsafe(stranger, &["no member that could be added", "peer_url"]);
    let other = decided(&cluster, leader, "POST", add, &asked("n9", peer(alive)));
    check_unsafe(other, &[&alive_id, "is a member already"]);
    let strangers = Setup::of(1).start();
    let body = as_asked(&strangers.members[0]);
    let foreign = decided(&cluster, leader, "POST", add, &body);
    check_unsafe(foreign, &["belongs to cluster", "empty data directory"]);
    let alone = id_of(&strangers, 0);
    let path = format!("{add}/{alone}");
    let last = decided(&strangers, 0, "DELETE", &path, &Value::Null);
    check_unsafe(last, &["n1", "last member with a vote"]);

    // With one member missing, the other two are all that there may be.
    let name = &cluster.members[missing].name;
    cluster.members[missing].kill();
    wait::until("the leader misses a member", SOON, || {
        (shown(&cluster_of(&cluster), name)?["state"] == "unreachable").then_some(())
    });
    let path = format!("{add}/{alive_id}");
    let refused = decided(&cluster, leader, "DELETE", &path, &Value::Null);
    check_unsafe(
        refused,
        &["2 members that would have votes", name, "bring it back"],
    );
    let lead = json!({ "member": name });
    let transferred = decided(&cluster, alive, "POST", "/v1/cluster/leader", &lead);
    check_unsafe(transferred, &[name, "does not answer"]);
    cluster.members[missing].start();
    cluster.wait_until_ready();
    let ids = |members: &Value| -> Vec<Value> {
        let members = members.as_array().expect("a list").iter();
        members.map(|member| member["id"].clone()).collect()
    };
    assert_eq!(ids(&cluster_of(&cluster)["members"]), ids(&before));

    // The one that is missing may go.
    cluster.members[missing].kill();
    let path = format!("{add}/{missing_id}");
    let removed = decided(&cluster, alive, "DELETE", &path, &Value::Null).expect(200);
    assert_eq!(removed.str("removed"), missing_id);
    let again = decided(&cluster, leader, "DELETE", &path, &Value::Null).expect(200);
    assert_eq!(again.str("removed"), missing_id);
    put(&cluster, "after");
}

#[test]
fn leadership_goes_where_it_is_asked_to_from_any_member() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    let to = json!({ "member": cluster.members[others[0]].name });
    let led = decided(&cluster, others[1], "POST", "/v1/cluster/leader", &to).expect(200);
    assert_eq!(led.str("leader"), id_of(&cluster, others[0]));
    let status = cluster.members[others[1]]
        .status()
        .expect("the member answers");
    assert_eq!(status["leader"], led.str("leader").as_str());
    assert!(led.u64("term") <= status["term"].as_u64().expect("a number"));
    let anybody = decided(&cluster, leader, "POST", "/v1/cluster/leader", &json!({}));
    let anybody = anybody.expect(200);
    assert_ne!(anybody.str("leader"), led.str("leader"));
    put(&cluster, "after");
}

#[test]
fn a_leader_that_is_removed_hands_over_and_ends_with_3_also_when_it_is_started_again() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    put(&cluster, "kept");
    let (leader, other) = (cluster.leader(), cluster.follower());
    let id = id_of(&cluster, leader);
    let path = format!("/v1/cluster/members/{id}");
    // Not asked again: the first answer is that it was done, though the leader goes.
    let removed = wait::until("no other change is under way", SOON, || {
        let answer = cluster.members[other]
            .client()
            .call("DELETE", &path, &[], b"");
        let answer = answer.expect("the member answers");
        (answer.code() != "membership-busy").then_some(answer)
    });
    assert_eq!(removed.expect(200).str("removed"), id);
    let says = |member: &Member| {
        let output = member.output();
        assert!(output.contains("was removed from its cluster"), "{output}");
    };
    let gone = &cluster.members[leader];
    wait::until("it says that it was removed", SOON, || {
        gone.output()
            .contains("was removed from its cluster")
            .then_some(())
    });
    says(gone);
    assert_eq!(gone.exit_code(SOON), 3);
    put(&cluster, "after");
    let again = decided(&cluster, other, "DELETE", &path, &Value::Null).expect(200);
    assert_eq!(again.str("removed"), id);

    gone.start_as(&mut crate::common::Process::tenured(gone.arguments()));
    wait::until("it says so again", SOON, || {
        gone.output()
            .contains("was removed from its cluster")
            .then_some(())
    });
    assert_eq!(gone.exit_code(SOON), 3);
    put(&cluster, "still");
    cluster.wait_until_equal();
}

#[test]
fn a_member_that_is_removed_while_it_is_down_hears_so_from_the_others_and_ends_with_3() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let gone = cluster.follower();
    let path = format!("/v1/cluster/members/{}", id_of(&cluster, gone));
    let member = &cluster.members[gone];
    member.kill();
    decided(&cluster, cluster.leader(), "DELETE", &path, &Value::Null).expect(200);
    member.start_as(&mut crate::common::Process::tenured(member.arguments()));
    wait::until("it says that it was removed", SOON, || {
        member
            .output()
            .contains("was removed from its cluster")
            .then_some(())
    });
    assert_eq!(member.exit_code(SOON), 3);
    put(&cluster, "after");
}

/// Raft takes messages from members outside of one's own configuration (thesis §4.1), and so must the transport: whoever
/// was away has not heard of those who came, and nobody else may be left to tell it.
#[test]
fn a_member_that_was_away_is_taken_back_by_one_of_whom_it_never_heard() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).start();
    put(&cluster, "before");
    let leader = cluster.leader();
    let away = (1..3)
        .find(|member| *member != leader)
        .expect("there are two");
    cluster.members[away].kill();
    let came = cluster.newcomer();
    cluster.members[came].start();
    cluster.members[came].wait_until_ready();
    wait_for_voters(&cluster, &["n1", "n2", "n3", "n4"]);
    let known: Vec<usize> = (0..3).filter(|member| *member != away).collect();
    let path = format!("/v1/cluster/members/{}", id_of(&cluster, known[0]));
    decided(&cluster, came, "DELETE", &path, &Value::Null).expect(200);
    put(&cluster, "between");
    cluster.members[known[1]].kill();
    // Of the three that vote, one is gone; of the others neither is known to the one that was away.
    cluster.members[away].start();
    put(&cluster, "after");
    let mut client = cluster.members[away].client();
    let read = wait::until("it serves what it missed", SOON, || {
        let answer = client.get("/v1/keys/between").ok()?;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(read.text(), "x");
}

/// Where the cluster knows a member to be.
fn peer_url_of(cluster: &Cluster, name: &str) -> Value {
    shown(&cluster_of(cluster), name).expect("it is a member")["peer_url"].clone()
}

#[test]
fn a_member_that_comes_back_at_another_peer_address_is_found_there_and_its_vote_counts() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).start();
    put(&cluster, "before");
    let leader = cluster.leader();
    let (moved, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.members[moved].kill();
    put(&cluster, "meanwhile");
    let was = cluster.members[moved].peer_url();
    let port = cluster.members[moved].peer.port() + 10;
    cluster.members[moved].move_peer_to(port);
    let now = cluster.members[moved].peer_url();
    assert_ne!(was, now);
    cluster.members[moved].start();
    cluster.members[moved].wait_until_ready();
    let name = cluster.members[moved].name.clone();
    wait::until("the cluster knows where it is", SOON, || {
        (peer_url_of(&cluster, &name) == now.as_str()).then_some(())
    });
    cluster.wait_until_equal();
    // Without it there is no quorum; and it is found after all have been away, when nobody remembers what it said.
    cluster.members[other].kill();
    put(&cluster, "by-its-vote");
    cluster.kill_all();
    for member in [moved, other] {
        cluster.members[member].start();
    }
    put(&cluster, "found-again");
    let status = cluster.members[moved].status().expect("it answers");
    assert_eq!(status["warnings"], json!([]), "{status}");
}

/// Nobody is where anybody knows it to be, and nobody leads to whom that could be said.
#[test]
fn members_that_have_all_moved_at_once_find_each_other_where_their_settings_have_them() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(3).start();
    put(&cluster, "before");
    cluster.kill_all();
    for member in &mut cluster.members {
        let port = member.peer.port() + 10;
        member.move_peer_to(port);
    }
    let settings = cluster.initial_members();
    for member in &mut cluster.members {
        member.initial_members.clone_from(&settings);
        member.start();
    }
    cluster.wait_until_ready();
    put(&cluster, "after");
    for member in &cluster.members {
        let now = member.peer_url();
        wait::until("the cluster knows where it is", SOON, || {
            (peer_url_of(&cluster, &member.name) == now.as_str()).then_some(())
        });
    }
    cluster.wait_until_equal();
    for member in &cluster.members {
        let status = member.status().expect("it answers");
        assert_eq!(status["warnings"], json!([]), "{status}");
    }
}

#[test]
fn an_old_copy_of_a_disk_is_told_that_it_went_back() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let back = cluster.follower();
    let member = &cluster.members[back];
    put(&cluster, "first");
    member.kill();
    let copy = cluster.dir().join("copy");
    copied(&member.data_dir, &copy).expect("its data can be copied");
    // Another start. That it is logged takes up to a second, where what it says of itself is lost beside a connection that is
    // not there yet; no other entry comes, since nothing has a deadline.
    let applied = |member: &Member| member.status()?["applied_index"].as_u64();
    let leader = &cluster.members[cluster.leader()];
    let before = applied(leader).expect("the leader answers");
    member.start();
    member.wait_until_ready();
    wait::until("its start is logged", SOON, || {
        (before < applied(leader)?).then_some(())
    });
    put(&cluster, "second");
    cluster.wait_until_equal();
    member.lose_disk();
    // A leader that has not heard of it since knows its starts, and nothing of what it acknowledged.
    decided(
        &cluster,
        cluster.leader(),
        "POST",
        "/v1/cluster/leader",
        &json!({}),
    )
    .expect(200);
    copied(&copy, &member.data_dir).expect("the copy can be put back");
    member.start_as(&mut crate::common::Process::tenured(member.arguments()));
    wait::until("it says that its disk went back", SOON, || {
        member
            .output()
            .contains("its files are an old copy")
            .then_some(())
    });
    assert_eq!(member.exit_code(SOON), 3);
    put(&cluster, "third");
}

/// Copies a directory with what is in it.
fn copied(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()? {
            kind if kind.is_dir() => copied(&source, &target)?,
            kind if kind.is_file() => drop(std::fs::copy(&source, &target)?),
            // A socket is made anew by whoever listens.
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn a_change_that_comes_while_leadership_is_on_its_way_is_told_to_wait() {
    let _machine = machine::shared();
    // So long is leadership on its way to a member that does not take it.
    let cluster = Setup::of(3).with("election-timeout-ms", 5000).start();
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    let (paused, other) = (others[0], others[1]);
    let path = format!("/v1/cluster/members/{}", id_of(&cluster, other));
    let to = json!({ "member": cluster.members[paused].name });
    cluster.members[paused].pause();
    let client = cluster.members[leader].client();
    let on_its_way = client.begin("POST", "/v1/cluster/leader", &to);
    let on_its_way = on_its_way.expect("it is sent");
    let mut client = cluster.members[leader].client();
    wait::until("leadership is on its way", SOON, || {
        let put = client.put("/v1/keys/a", b"x").ok()?;
        put.text().contains("handed over").then_some(())
    });
    let busy = client
        .delete(&path)
        .expect("the member answers")
        .expect(409);
    assert_eq!(busy.code(), "membership-busy");
    assert_eq!(busy.json()["retry"], "after");
    assert_eq!(busy.header("retry-after"), Some("1"));
    let (detail, name) = (busy.str("detail"), &cluster.members[paused].name);
    assert!(detail.contains("being transferred to"), "{detail}");
    assert!(detail.contains(name.as_str()), "{detail}");
    cluster.members[paused].resume();
    let led = on_its_way.answer(SOON).expect("it is answered").expect(200);
    assert_eq!(led.str("leader"), id_of(&cluster, paused));
}

/// A write that is not answered by then is sent again, to another member.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// A load on whatever members serve: how often it wrote, and the longest time that one write took.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    written: AtomicU64,
    longest_ms: AtomicU64,
}

impl Load {
    /// Writes one key after the other until it is told to stop. A member that goes away breaks connections, and one
    /// that has no leader says so and applies nothing: both are asked again, elsewhere. Anything else is a failure.
    fn write(&self, members: &[std::net::SocketAddr], name: &str) {
        let mut clients: Vec<_> = members
            .iter()
            // A write that went to a leader which is gone is answered after 5 s: whoever can repeat it asks another.
            .map(|address| crate::common::Client::new(*address).with_patience(GIVEN_UP))
            .collect();
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let path = format!("/v1/keys/{name}/{}", self.written.load(Ordering::Relaxed));
            wait::until(&format!("{path} is written"), SOON, || {
                turn += 1;
                let client = &mut clients[turn % members.len()];
                let answer = client.put(&path, b"x").ok()?;
                match answer.status {
                    200 | 201 => Some(()),
                    503 | 504 => None,
                    _ => panic!("a write failed: {}", answer.text()),
                }
            });
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.longest_ms.fetch_max(took, Ordering::Relaxed);
            self.written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Ends a load when it is dropped.
struct StopsAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many keys have a name that begins so.
fn keys_under(cluster: &Cluster, name: &str) -> u64 {
    let path = format!("/v1/keys?prefix={name}/&limit=1");
    let counted = cluster.persist("keys are counted", |client| client.get(&path));
    counted.expect(200).u64("count")
}

#[test]
fn all_three_are_replaced_one_by_one_under_load_without_a_failed_write_or_a_lost_lock() {
    let _machine = machine::alone();
    let cluster = Setup::of(3).start();
    let ttl = 10_000;
    let mut client = cluster.members[cluster.leader()].client();
    let lease = grant(&mut client, ttl);
    let fence = acquire(&mut client, "held", &lease);
    let addresses: Vec<_> = cluster.members.iter().map(|member| member.client).collect();
    let load = Load::default();
    let names: Vec<&str> = cluster.members.iter().map(|it| it.name.as_str()).collect();
    thread::scope(|scope| {
        // Also where a step fails, or those who wait for the others would wait for ever.
        let _stop = StopsAtTheEnd(&load.stop);
        scope.spawn(|| load.write(&addresses, "a"));
        scope.spawn(|| load.write(&addresses, "b"));
        scope.spawn(|| {
            // The holder: a renewal that is not answered in time would lose the lease.
            while !load.stop.load(Ordering::Relaxed) {
                let renew = format!("/v1/leases/{lease}/renew");
                let renewed = cluster.persist("the lease is renewed", |client| {
                    client.post(&renew, &json!({}))
                });
                renewed.expect(200);
                wait::pass(Duration::from_millis(ttl / 10), || {
                    load.stop.load(Ordering::Relaxed)
                });
            }
        });
        for replaced in 0..3 {
            let old = id_of(&cluster, replaced);
            let before = load.written.load(Ordering::Relaxed);
            cluster.members[replaced].lose_disk();
            cluster.members[replaced].start();
            let by = (replaced + 1) % 3;
            let path = format!("/v1/cluster/members/{old}/replace");
            let body = as_asked(&cluster.members[replaced]);
            decided(&cluster, by, "POST", &path, &body).expect(201);
            wait_for_voters(&cluster, &names);
            cluster.members[replaced].wait_until_ready();
            wait::until("the load goes on", SOON, || {
                (before + 10 < load.written.load(Ordering::Relaxed)).then_some(())
            });
        }
    });
    let held = cluster.persist("the lock is shown", |client| client.get("/v1/locks/held"));
    let held = held.expect(200).json();
    assert_eq!(held["holders"][0]["lease"], lease.as_str());
    assert_eq!(held["holders"][0]["fence"], fence);
    println!(
        "{} writes, the longest took {} ms",
        load.written.load(Ordering::Relaxed),
        load.longest_ms.load(Ordering::Relaxed)
    );
    // A leader that dies is missed after at most two election timeouts, and another is elected in one more.
    let most = 8 * u64::try_from(crate::common::ELECTION_TIMEOUT.as_millis()).expect("it is short");
    assert!(
        load.longest_ms.load(Ordering::Relaxed) < most,
        "a write took longer than a change of leader"
    );
    // What was acknowledged is there, whoever it was that acknowledged it.
    let kept: u64 = ["a", "b"]
        .map(|name| keys_under(&cluster, name))
        .iter()
        .sum();
    assert_eq!(kept, load.written.load(Ordering::Relaxed));
    cluster.wait_until_equal();
}
