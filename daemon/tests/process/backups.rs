//! Backups: what is in them, and what is so in the cluster that is made of one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::offline::{backup, restore, shown, tenured, verified};
use crate::common::queue::begin;
use crate::common::{Client, Cluster, Member, SOON, Setup, acquire, grant, machine, wait};

/// What members acknowledged: the mod revision of each key and its value.
type Written = BTreeMap<String, (u64, String)>;

/// Puts keys one after the other until it is told to stop.
fn write_until(stop: &AtomicBool, mut client: Client, who: usize, written: &Mutex<Written>) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let (key, value) = (format!("load/{who}/{number}"), format!("{who}-{number}"));
        let put = client.put(&format!("/v1/keys/{key}"), value.as_bytes());
        if let Ok(answer) = put
            && answer.status < 300
        {
            let mod_revision = answer.u64("mod_revision");
            let mut written = written.lock().expect("nobody panicked");
            written.insert(key, (mod_revision, value));
        }
        number += 1;
    }
}

/// A cluster of one member that is not there yet.
fn unmade() -> Cluster {
    Setup::of(1).prepare()
}

fn started(cluster: &Cluster) -> Client {
    let member = &cluster.members[0];
    member.start();
    member.wait_until_ready();
    member.client().persistent()
}

fn guarded(client: &mut Client, lock: &str, fence: u64) -> (u16, String) {
    let guard = format!("lock={lock}; fence={fence}");
    let headers = [("tenure-guard", guard.as_str())];
    let answer = client.call("PUT", "/v1/keys/guarded", &headers, b"x");
    let answer = answer.expect("the member answers");
    (answer.status, answer.code())
}

fn watched(client: &mut Client, after: u64) -> Value {
    let path = format!("/v1/watch?prefix=leases/&prefix=locks/&after={after}");
    let answer = client.get(&path).expect("the member answers");
    json!({"status": answer.status, "body": answer.json()})
}

#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_and_no_hold_of_it_lives_on() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let follower = cluster.follower();
    let mut client = cluster.members[follower].client().persistent();
    let (first, second) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    let fence = acquire(&mut client, "jobs", &first);
    assert_eq!(guarded(&mut client, "jobs", fence).0, 201);
    // A waiter, whose place is another's hold as soon as the first lease ends.
    let asking = json!({"lease": second, "wait_ms": 60_000, "poll_ms": 60_000});
    let _waiting = begin(&cluster, follower, "/v1/locks/jobs", &asking, 1);
    let on_lease = format!("/v1/keys/on-lease?lease={first}");
    client.put(&on_lease, b"x").expect("an answer").expect(201);
    let once = [("idempotency-key", "once")];
    let put = |client: &mut Client| client.call("PUT", "/v1/keys/once", &once, b"1");
    put(&mut client).expect("an answer").expect(201);
    let old_cluster = cluster.members[0].status().expect("it answers")["cluster"].clone();

    let (stop, written) = (AtomicBool::new(false), Mutex::new(Written::new()));
    let (before, file) = thread::scope(|scope| {
        for who in 0..3 {
            let client = cluster.members[who].client().persistent();
            let (stop, written) = (&stop, &written);
            scope.spawn(move || write_until(stop, client, who, written));
        }
        wait::until("enough is written", SOON, || {
            (written.lock().expect("nobody panicked").len() > 200).then_some(())
        });
        let before = written.lock().expect("nobody panicked").clone();
        let file = backup(&cluster, follower, "under-load");
        stop.store(true, Ordering::SeqCst);
        (before, file)
    });
    let old_cursor = client.get("/v1/keys").expect("an answer").revision();
    let report = verified(&file);
    assert_eq!(report["cluster"], old_cluster);
    assert_eq!(
        (&report["state"]["leases"], &report["state"]["waiting"]),
        (&json!(2), &json!(1)),
        "{report}"
    );

    let mut new = unmade();
    let ran = restore(&file, &new.members[0]).expect(0);
    let base = verified(&new.members[0].data_dir)["state"]["compact_revision"].as_u64();
    let base = base.expect("it is a number");
    assert!(ran.out.contains(&base.to_string()), "{ran:?}");
    let mut client = started(&new);
    for (key, (mod_revision, value)) in &before {
        let path = format!("/v1/keys/{key}?entry=true");
        let entry = client.get(&path).expect("an answer").expect(200).json();
        let found = (&entry["mod_revision"], &entry["value"]);
        assert_eq!(found, (&json!(mod_revision), &json!(value)), "{key}");
    }
    let gone = client.get("/v1/keys/on-lease").expect("an answer");
    assert_eq!(gone.code(), "key-not-found");

    let lock = client.get("/v1/locks/jobs").expect("an answer").json();
    assert_eq!(
        (
            &lock["holder_count"],
            &lock["queue_length"],
            &lock["last_fence"]
        ),
        (&json!(0), &json!(0), &json!(fence)),
        "{lock}"
    );
    assert_eq!(
        guarded(&mut client, "jobs", fence),
        (412, "fence-stale".into())
    );
    for lease in [&first, &second] {
        let renewed = client.post(&format!("/v1/leases/{lease}/renew"), &Value::Null);
        assert_eq!(renewed.expect("an answer").code(), "lease-expired");
    }

    let lost = watched(&mut client, old_cursor);
    assert_eq!(
        (&lost["status"], &lost["body"]["compact_revision"]),
        (&json!(410), &json!(base))
    );
    let told = watched(&mut client, base);
    let events = told["body"]["events"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut leases = [first.clone(), second.clone()];
    leases.sort();
    let ended: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "ended")
        .collect();
    let seen: Vec<(&Value, &Value, &Value)> = ended
        .iter()
        .map(|event| (&event["lease"], &event["reason"], &event["revision"]))
        .collect();
    let (reason, revisions) = (json!("restored"), [json!(base + 1), json!(base + 2)]);
    let ids = leases.map(|lease| json!(lease));
    assert_eq!(
        seen,
        [
            (&ids[0], &reason, &revisions[0]),
            (&ids[1], &reason, &revisions[1])
        ]
    );
    let types: Vec<&str> = events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert!(
        !types.contains(&"acquired"),
        "nobody was granted on the way: {types:?}"
    );

    let again = put(&mut client).expect("an answer");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let lease = grant(&mut client, 60_000);
    let next = acquire(&mut client, "jobs", &lease);
    assert!(base < next, "{base} {next}");
    assert_eq!(guarded(&mut client, "jobs", next).0, 200);
    let headers = [("tenure-cluster", old_cluster.as_str().unwrap_or_default())];
    let wrong = client
        .call("GET", "/v1/keys", &headers, b"")
        .expect("an answer");
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (421, "wrong-cluster")
    );

    // It is a cluster like any other: others join, and bear its loss.
    for _ in 0..2 {
        let joined = new.newcomer();
        new.members[joined].start();
        new.members[joined].wait_until_ready();
    }
    new.wait_until_equal();
    let voters = || {
        let shown = new.members[1].client().get("/v1/cluster").ok()?.json();
        let members = shown["members"].as_array()?.clone();
        let all = members.iter().all(|member| member["role"] == "voter");
        (members.len() == 3 && all && shown["changing"] == false).then_some(())
    };
    wait::until("those that joined vote", SOON * 2, voters);
    new.members[0].kill();
    let mut client = new.members[1].client().persistent();
    let read = client.get("/v1/keys/once").expect("an answer");
    assert_eq!(read.expect(200).text(), "1");
}

#[test]
fn of_two_clusters_made_of_one_backup_neither_accepts_a_fence_or_a_cursor_of_the_other() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    client
        .put("/v1/keys/a", b"1")
        .expect("an answer")
        .expect(201);
    let file = backup(&cluster, 0, "once");
    let (one, two) = (unmade(), unmade());
    restore(&file, &one.members[0]).expect(0);
    restore(&file, &two.members[0]).expect(0);
    let (mut first, mut second) = (started(&one), started(&two));
    let mut fences = [&mut first, &mut second].map(|client| {
        let lease = grant(client, 60_000);
        let fence = acquire(client, "jobs", &lease);
        (fence, client.get("/v1/keys").expect("an answer").revision())
    });
    fences.sort();
    let [(earlier, cursor), (later, _)] = fences;
    assert!(cursor < later, "revisions of the two lie apart: {fences:?}");
    assert_eq!(
        guarded(&mut second, "jobs", earlier),
        (412, "fence-stale".into())
    );
    assert_eq!(
        guarded(&mut first, "jobs", later),
        (412, "fence-stale".into())
    );
    assert_eq!(watched(&mut second, cursor)["body"]["code"], "compacted");
    assert_eq!(watched(&mut first, later)["body"]["code"], "revision-ahead");
}

#[test]
fn a_member_restored_without_addresses_is_found_at_those_that_it_is_started_with() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    let put = client.put("/v1/keys/a", b"1").expect("an answer");
    put.expect(201);
    let file = backup(&cluster, 0, "short");
    let mut new = unmade();
    let (name, data_dir) = (&new.members[0].name, &new.members[0].data_dir);
    let given = ["restore", shown(&file), "--name", name, "--data-dir"];
    let ran = tenured(&[&given[..], &[shown(data_dir)]].concat()).expect(0);
    assert!(ran.out.contains("http://127.0.0.1:7380"), "{ran:?}");
    started(&new);
    let joined = new.newcomer();
    new.members[joined].start();
    new.members[joined].wait_until_ready();
    wait::until("the one that joined votes", SOON * 2, || {
        let shown = new.members[joined].client().get("/v1/cluster").ok()?.json();
        let members = shown["members"].as_array()?.clone();
        let all = members.iter().all(|member| member["role"] == "voter");
        (members.len() == 2 && all).then_some(())
    });
    let shown = new.members[joined].client().get("/v1/cluster");
    let shown = shown.expect("an answer").json();
    let urls = new.members.iter().map(|member| json!(member.peer_url()));
    let mut known: Vec<&Value> = shown["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| &member["peer_url"])
        .collect();
    known.sort_by_key(|url| url.to_string());
    assert_eq!(
        known.into_iter().cloned().collect::<Vec<_>>(),
        urls.collect::<Vec<_>>()
    );
}

/// The names and contents of all files in a directory, so that a write to any is seen.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => {
                // Sockets are of the process that has gone.
                if let Ok(bytes) = fs::read(&path) {
                    found.insert(path, bytes);
                }
            }
        }
    }
    found
}

#[test]
fn whatever_is_no_whole_backup_is_refused_with_a_sentence_and_nothing_is_made_of_it() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client().persistent();
    for number in 0..50 {
        let key = format!("/v1/keys/k/{number}");
        client.put(&key, b"value").expect("an answer").expect(201);
    }
    let whole = fs::read(backup(&cluster, 0, "whole")).expect("it is there");
    let new = unmade();
    let file = cluster.dir().join("damaged");
    let check = |bytes: &[u8], part: &str| {
        fs::write(&file, bytes).expect("there is room");
        tenured(&["verify", shown(&file)])
            .expect(3)
            .telling(&["damaged", part]);
        restore(&file, &new.members[0])
            .expect(3)
            .telling(&["damaged", part]);
        assert!(
            !new.members[0].data_dir.exists(),
            "{part}: nothing was made"
        );
    };
    for length in [
        0,
        7,
        8,
        19,
        40,
        whole.len() / 2,
        whole.len() - 33,
        whole.len() - 1,
    ] {
        check(&whole[..length], "cut short");
    }
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    check(&flipped(0), "not a backup of Tenure");
    check(&flipped(whole.len() / 2), "bad checksum");
    check(&flipped(whole.len() - 20), "its end does not fit");
    check(&[&whole[..], b"more"].concat(), "something follows its end");
    check(
        b"PK\x03\x04 of something else entirely",
        "not a backup of Tenure",
    );
    let mut newer = whole.clone();
    newer[8] = 9;
    fs::write(&file, &newer).expect("there is room");
    let newer = ["has format 9", "reads up to 1"];
    tenured(&["verify", shown(&file)]).expect(3).telling(&newer);
    restore(&file, &new.members[0]).expect(3).telling(&newer);
    tenured(&["verify", "no/such/file"])
        .expect(2)
        .telling(&["no/such/file", "is not there"]);
    tenured(&["restore", shown(&file), "--data-dir", "x"])
        .expect(2)
        .telling(&["name"]);
}

#[test]
fn a_directory_with_data_is_not_restored_into_and_one_that_a_member_runs_on_is_left_alone() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let mut client = member.client().persistent();
    client
        .put("/v1/keys/a", b"1")
        .expect("an answer")
        .expect(201);
    let file = backup(&cluster, 0, "whole");
    let running = ["in use by process", shown(&member.data_dir)];
    tenured(&["verify", shown(&member.data_dir)])
        .expect(1)
        .telling(&running);
    restore(&file, member).expect(1).telling(&running);
    member.kill();
    let before = contents(&member.data_dir);
    restore(&file, member)
        .expect(2)
        .telling(&["holds a member already"]);
    let report = verified(&member.data_dir);
    assert_eq!(report["name"], "n1");
    assert_eq!(before, contents(&member.data_dir), "looking writes nothing");

    // One that waited to form a cluster has drawn an id, and nobody has counted on it.
    let waiting = Setup::of(3).prepare();
    waiting.members[0].start();
    waiting.members[0].kill();
    assert!(waiting.members[0].data_dir.join("member.json").exists());
    restore(&file, &waiting.members[0]).expect(0);

    let path = member.data_dir.join("state.redb");
    let mut bytes = fs::read(&path).expect("it is there");
    // Pages that are not in use any more hold it, too.
    let rows: Vec<usize> = (0..bytes.len() - 8)
        .filter(|at| &bytes[*at..at + 8] == b"revision")
        .collect();
    assert!(!rows.is_empty(), "the row of the revision is there");
    rows.into_iter().for_each(|at| bytes[at] ^= 1);
    fs::write(&path, &bytes).expect("there is room");
    let damaged = ["state.redb", "damaged"];
    tenured(&["verify", shown(&member.data_dir)])
        .expect(3)
        .telling(&damaged);
    fs::remove_file(member.data_dir.join("member.json")).expect("it is there");
    let missing = ["member.json", "missing"];
    tenured(&["verify", shown(&member.data_dir)])
        .expect(3)
        .telling(&missing);
    let empty = cluster.dir().join("empty");
    fs::create_dir(&empty).expect("there is room");
    tenured(&["verify", shown(&empty)])
        .expect(2)
        .telling(&["no files of a member"]);
}

#[test]
fn members_of_the_old_cluster_that_still_run_neither_join_nor_hear_the_new_one() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[0].client().persistent();
    client
        .put("/v1/keys/a", b"1")
        .expect("an answer")
        .expect(201);
    let file = backup(&cluster, 0, "whole");
    let old = cluster.members[0].status().expect("it answers")["cluster"].clone();
    let first = &cluster.members[0];
    first.kill();
    let kept = cluster.dir().join("old-n1");
    fs::rename(&first.data_dir, &kept).expect("it can be moved");
    restore(&file, first).expect(0);
    // The same name, the same addresses: the others call it all the time.
    first.start();
    first.wait_until_ready();
    let refused = |member: &Member| member.output().contains("belongs to cluster");
    wait::until(
        "an old member is told that this is another cluster",
        SOON,
        || cluster.members[1..].iter().any(refused).then_some(()),
    );
    let new = first.status().expect("it answers");
    assert_ne!(new["cluster"], old);
    for (member, members, value) in [(first, 1, b"new"), (&cluster.members[1], 3, b"old")] {
        let mut client = member.client().persistent();
        client
            .put("/v1/keys/a", value)
            .expect("an answer")
            .expect(200);
        let shown = client.get("/v1/cluster").expect("an answer").json();
        assert_eq!(shown["members"].as_array().map(Vec::len), Some(members));
        assert_eq!(shown["cluster"] == old, members == 3);
    }
    for (member, value) in [(first, "new"), (&cluster.members[2], "old")] {
        let read = member
            .client()
            .persistent()
            .get("/v1/keys/a")
            .expect("an answer");
        assert_eq!(read.text(), value, "{}", member.name);
    }
}

/// Asks for a backup and takes no more of it than its head.
fn begin_backup(member: &Member) -> TcpStream {
    let mut stream = TcpStream::connect(member.client).expect("the member listens");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    let request = format!("GET /v1/backup HTTP/1.1\r\nhost: {}\r\n\r\n", member.client);
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("the answer begins");
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

fn unix_seconds() -> f64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.expect("it is after 1970").as_secs_f64()
}

#[test]
fn a_third_backup_at_a_time_is_refused_until_a_caller_goes_away_and_a_stop_waits_for_none() {
    const MIB: usize = 1 << 20;
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let member = &cluster.members[0];
    let mut client = member.client().persistent();
    for number in 0..24 {
        let key = format!("/v1/keys/large/{number}");
        client
            .put(&key, &vec![b'x'; MIB])
            .expect("an answer")
            .expect(201);
    }
    let of_backups = |client: &mut Client, series: &str| {
        let page = client.get("/metrics").expect("an answer").expect(200);
        let page = page.text();
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("tenure_backup{series} ")));
        let value = value.unwrap_or_else(|| panic!("tenure_backup{series} is told"));
        value.parse::<f64>().expect("it is a number")
    };
    const LAST: &str = "_last_success_timestamp_seconds";
    assert_eq!(of_backups(&mut client, LAST), 0.0);
    let began = unix_seconds();
    let (first, mut second) = (begin_backup(member), begin_backup(member));
    let third = client.get("/v1/backup").expect("an answer");
    assert_eq!(
        (third.status, third.code().as_str()),
        (429, "too-many-requests")
    );
    assert!(third.header("retry-after").is_some() && third.not_applied());
    assert!(third.text().contains("2 backups"), "{}", third.text());
    drop(first);
    wait::until("the place of a caller that went away is free", SOON, || {
        (client.get("/v1/backup").ok()?.status == 200).then_some(())
    });
    // What became of each: one was sent, one was cut off, at least one was refused, and one is still on its way.
    let counted = |client: &mut Client, result: &str| {
        of_backups(client, &format!("s_total{{result=\"{result}\"}}"))
    };
    wait::until("the backup that was sent is counted", SOON, || {
        (counted(&mut client, "sent") == 1.0).then_some(())
    });
    assert_eq!(counted(&mut client, "cut_off"), 1.0);
    assert!(counted(&mut client, "refused") >= 1.0);
    assert_eq!(counted(&mut client, "failed"), 0.0);
    let last = of_backups(&mut client, LAST);
    assert!((began..=unix_seconds()).contains(&last), "{last}");
    let left = fs::read_dir(member.data_dir.join("snapshots")).expect("it can be listed");
    assert_eq!(left.count(), 0, "a backup has no name on the disk");
    let output = member.output();
    assert!(output.contains("an operator takes a backup"), "{output}");

    member.signal(Signal::TERM);
    let mut rest = Vec::new();
    let read = second.read_to_end(&mut rest);
    assert!(rest.len() < 24 * MIB, "{read:?}: it is cut off");
    assert_eq!(member.exit_code(Duration::from_secs(10)), 0);
}
