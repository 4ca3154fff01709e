//! `tenure member`: who belongs to the cluster, changed by one command each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::common::{Cluster, Process, SOON, Setup, wait};
use crate::support::{ran, tenure};

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

/// A member that adds others, and tells this caller nothing of the cluster; its URL. Its thread ends with the test.
fn taciturn() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address is free");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = answer(&stream);
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut asked = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        if asked.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let line = head[start..].to_ascii_lowercase();
        if let Some(told) = line.strip_prefix("content-length:") {
            length = told.trim().parse().expect("it is a number");
        }
    }
    asked.read_exact(&mut vec![0; length])?;
    let (status, body) = match head.starts_with("POST ") {
        true => {
            let member = json!({"id": "00000000000000a4", "name": "n4", "peer_url": "http://10.0.0.4:7380",
                "client_url": "http://10.0.0.4:7379", "role": "learner", "promote": true, "replaces": null,
                "leaving": false, "state": null, "match_index": null, "lag": null, "last_contact_ms": null});
            (200, json!({"member": member, "revision": 7}))
        }
        false => (
            403,
            json!({"type": "urn:tenure:problem:forbidden", "title": "t", "status": 403,
                "detail": "the cluster is shown to operators", "code": "forbidden", "outcome": "not_applied",
                "retry": "never"}),
        ),
    };
    let (body, kind) = (body.to_string(), "content-type: application/json");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Told\r\n{kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[test]
fn a_new_member_of_which_nothing_will_be_told_is_not_waited_for_without_end() {
    let cluster = Setup::of(1).prepare();
    let arguments = [
        "--endpoints",
        &taciturn(),
        "member",
        "add",
        "n4",
        "--peer-url",
        "http://10.0.0.4:7380",
        "--client-url",
        "http://10.0.0.4:7379",
        "-o",
        "json",
    ];
    let mut adding = Process::start(&mut tenure(arguments), &cluster.dir().join("adding"));
    assert_eq!(adding.exit_code(SOON), 77, "{}", adding.output());
    let told = adding.output();
    let told: Value = serde_json::from_str(told.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {told}"));
    // It was added before.
    assert_eq!(told.get("outcome"), Some(&Value::Null), "{told}");
}
