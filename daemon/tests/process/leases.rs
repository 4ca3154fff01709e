//! Leases: many renewed in one call, TTLs changed, pages, and what thousands of them cost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, Client, Cluster, SOON, Setup, acquire, grant, machine, wait};

const JSON: (&str, &str) = ("content-type", "application/json");

fn ok(answer: std::io::Result<Answer>, status: u16) -> Answer {
    answer.expect("the member answers").expect(status)
}

fn patch(client: &mut Client, lease: &str, ttl_ms: u64) -> Answer {
    let body = json!({ "ttl_ms": ttl_ms }).to_string();
    client
        .call(
            "PATCH",
            &format!("/v1/leases/{lease}"),
            &[JSON],
            body.as_bytes(),
        )
        .expect("the member answers")
}

fn renew_many(client: &mut Client, leases: &[String]) -> Answer {
    client
        .post("/v1/leases/renew", &json!({ "leases": leases }))
        .expect("the member answers")
}

fn commit_index(cluster: &Cluster, member: usize) -> u64 {
    let status = cluster.members[member]
        .status()
        .expect("the member answers");
    status["commit_index"].as_u64().expect("it is a number")
}

#[test]
fn a_dead_lease_among_many_does_not_fail_the_rest() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    let (first, second, ended) = (
        grant(&mut client, 30_000),
        grant(&mut client, 60_000),
        grant(&mut client, 30_000),
    );
    acquire(&mut client, "held", &second);
    ok(client.delete(&format!("/v1/leases/{ended}")), 200);
    let unknown = "0000000000000001".to_owned();
    let asked = [
        first.clone(),
        ended.clone(),
        second.clone(),
        unknown.clone(),
        first.clone(),
    ];
    let answer = renew_many(&mut client, &asked).expect(200);
    assert_eq!(answer.u64("revision"), answer.revision());
    let results = answer.json()["results"].clone();
    let results = results.as_array().expect("a result for each").clone();
    let leases: Vec<&str> = results.iter().filter_map(|r| r["lease"].as_str()).collect();
    assert_eq!(leases, asked, "in the order in which they were asked");
    for (index, ttl_ms) in [(0, 30_000), (2, 60_000), (4, 30_000)] {
        let remaining_ms = results[index]["remaining_ms"].as_u64();
        assert_eq!(remaining_ms, Some(ttl_ms), "{results:?}");
        assert!(results[index].get("error").is_none(), "{results:?}");
    }
    assert_eq!(results[0]["attached_revision"], Value::Null);
    assert!(results[2]["attached_revision"].is_u64(), "{results:?}");
    assert_eq!(
        results[1],
        json!({ "lease": ended, "error": "lease-expired" })
    );
    assert_eq!(
        results[3],
        json!({ "lease": unknown, "error": "lease-not-found" })
    );
}

#[test]
fn what_is_wrong_with_a_list_of_leases_is_named() {
    let _machine = machine::shared();
    let cluster = Setup::of(1).start();
    let mut client = cluster.members[0].client();
    let good = "00000000000000aa";
    let many = vec![good; 1001];
    let check = |client: &mut Client, body: Value, names: &[&str]| {
        let answer = ok(client.post("/v1/leases/renew", &body), 400);
        assert_eq!(answer.code(), "invalid-request", "{body}");
        assert!(answer.not_applied(), "{body}");
        for name in names {
            assert!(answer.text().contains(name), "{name}: {}", answer.text());
        }
    };
    check(
        &mut client,
        json!({ "leases": [good, "00000000000000AA"] }),
        &["leases[1]", "00000000000000AA", "16 lower-case hex digits"],
    );
    check(
        &mut client,
        json!({ "leases": ["0000000000000000"] }),
        &["leases[0]"],
    );
    check(
        &mut client,
        json!({ "leases": [] }),
        &["0 ids", "1 to 1000"],
    );
    check(&mut client, json!({ "leases": many }), &["1001 ids"]);
    check(&mut client, json!({ "leases": good }), &["leases"]);
    check(&mut client, json!({ "lease": [good] }), &["lease"]);
    let page = |client: &mut Client, query: &str| ok(client.get(query), 400).text();
    for limit in ["0", "1001", "x"] {
        let told = page(&mut client, &format!("/v1/leases?limit={limit}"));
        assert!(told.contains("1 to 1000"), "{told}");
    }
    let told = page(&mut client, "/v1/leases?start_after=7");
    assert!(told.contains("start_after"), "{told}");
}

#[test]
fn a_thousand_leases_are_renewed_in_one_entry() {
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let leases = grant_many(&cluster, 1000, 60_000, false);
    for member in [follower, leader] {
        let mut client = cluster.members[member].client();
        // Counted at the leader: a follower may not know yet that the last grants are committed.
        let before = commit_index(&cluster, leader);
        let began = Instant::now();
        let answer = renew_many(&mut client, &leases).expect(200);
        let took = began.elapsed();
        let entries = commit_index(&cluster, leader) - before;
        let results = answer.json()["results"].clone();
        let results = results.as_array().expect("a result for each").clone();
        assert_eq!(results.len(), 1000);
        for result in &results {
            assert_eq!(result["remaining_ms"], 60_000, "{result}");
        }
        // While leases are there the clock is stamped twice a second, in entries of its own.
        let stamps = 2 + 2 * (took.as_millis() as u64).div_ceil(1000);
        println!("1000 renewals took {took:?} and {entries} entries, bare stamps included");
        // The starts of the three members may still be logged, an entry each.
        let starts = 3;
        assert!(
            entries <= 1 + stamps + starts,
            "{entries} entries in {took:?}"
        );
    }
}

#[test]
fn a_ttl_is_changed_and_no_deadline_moves_earlier() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    let lease = grant(&mut client, 20_000);
    let longer = patch(&mut client, &lease, 50_000).expect(200);
    assert_eq!(
        (longer.u64("ttl_ms"), longer.u64("remaining_ms")),
        (50_000, 50_000)
    );
    assert_eq!(
        longer.u64("mod_revision"),
        longer.u64("granted_revision"),
        "a TTL is no observable change"
    );
    let shorter = patch(&mut client, &lease, 5_000).expect(200);
    assert_eq!(shorter.u64("ttl_ms"), 5_000);
    assert!(
        shorter.u64("remaining_ms") > 40_000,
        "the deadline stands: {}",
        shorter.text()
    );
    let renewed = ok(
        client.post(&format!("/v1/leases/{lease}/renew"), &Value::Null),
        200,
    );
    assert!(
        renewed.u64("remaining_ms") > 40_000,
        "nor does a renewal move it earlier: {}",
        renewed.text()
    );
    for ttl_ms in [999, 86_400_001] {
        let refused = patch(&mut client, &lease, ttl_ms).expect(400);
        assert_eq!(refused.code(), "ttl-out-of-range");
        assert_eq!(
            (refused.u64("min_ms"), refused.u64("max_ms")),
            (1_000, 86_400_000)
        );
        assert!(
            refused.text().contains(&ttl_ms.to_string()),
            "{}",
            refused.text()
        );
    }
    ok(client.delete(&format!("/v1/leases/{lease}")), 200);
    assert_eq!(
        patch(&mut client, &lease, 5_000).expect(410).code(),
        "lease-expired"
    );
    let unknown = patch(&mut client, "0000000000000001", 5_000).expect(404);
    assert_eq!(unknown.code(), "lease-not-found");
}

#[test]
fn leases_are_listed_in_pages() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let mut client = cluster.members[cluster.follower()].client();
    let empty = ok(client.get("/v1/leases"), 200);
    let expected = json!({ "leases": [], "more": false, "next": null, "count": 0, "revision": empty.revision() });
    assert_eq!(empty.json(), expected);
    let mut granted: Vec<String> = (0..7).map(|_| grant(&mut client, 30_000)).collect();
    granted.sort();
    let mut listed = Vec::new();
    let mut path = "/v1/leases?limit=3".to_owned();
    for left in [4, 1, 0] {
        let page = ok(client.get(&path), 200).json();
        assert_eq!(
            (&page["count"], &page["more"]),
            (&json!(7), &json!(left > 0)),
            "{page}"
        );
        let leases = page["leases"].as_array().expect("a page").clone();
        for lease in &leases {
            assert!(lease.get("attached").is_none(), "{lease}");
            assert_eq!(lease["ttl_ms"], 30_000);
            listed.push(lease["lease"].as_str().expect("an id").to_owned());
        }
        assert_eq!(
            page["next"].as_str(),
            (left > 0).then(|| listed[listed.len() - 1].as_str())
        );
        path = format!(
            "/v1/leases?limit=3&start_after={}",
            listed[listed.len() - 1]
        );
    }
    assert_eq!(listed, granted);
    let local = ok(client.get("/v1/leases?consistency=local"), 200);
    assert_eq!(local.u64("count"), 7);
    assert!(local.header("tenure-staleness-ms").is_some());
}

#[test]
fn a_read_of_a_lease_waits_for_what_is_attached_and_for_its_end() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let member = &cluster.members[cluster.follower()];
    let mut client = member.client();
    let lease = grant(&mut client, 60_000);
    let path = format!("/v1/leases/{lease}");
    let revision = ok(client.get(&path), 200).u64("mod_revision");
    let wait = |after: u64| {
        member
            .client()
            .begin(
                "GET",
                &format!("{path}?after={after}&wait_ms=20000"),
                &Value::Null,
            )
            .expect("it is sent")
    };
    let waiting = wait(revision);
    ok(client.put(&format!("/v1/keys/on?lease={lease}"), b"x"), 201);
    acquire(&mut client, "lock", &lease);
    let woken = waiting.answer(SOON).expect("it ends").expect(200);
    assert!(woken.u64("mod_revision") > revision, "{}", woken.text());
    let shown = ok(client.get(&path), 200);
    let fence = ok(client.get("/v1/locks/lock"), 200).u64("last_fence");
    assert_eq!(
        shown.json()["attached"],
        json!([
            { "resource": "keys/on" },
            { "resource": "locks/lock", "owner": "", "state": "held", "fence": fence },
        ])
    );
    assert_eq!(
        (shown.u64("attached_count"), shown.u64("mod_revision")),
        (2, fence)
    );
    let waiting = wait(fence);
    ok(client.delete(&path), 200);
    let gone = waiting.answer(SOON).expect("it ends").expect(410);
    assert_eq!(gone.code(), "lease-expired");
}

/// A call that may be made twice, made again while it got no outcome: on a busy machine a leader may be lost.
fn again(client: &mut Client, method: &str, path: &str, body: &Value) -> Answer {
    wait::until("the call is answered", SOON, || {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = client.call(method, path, &[JSON], body.as_bytes()).ok()?;
        let unserved = [503, 504].contains(&answer.status);
        (!unserved).then_some(answer)
    })
}

/// Grants leases through all members at once, a key on each tenth where `keys` says so, and keeps them alive meanwhile;
/// their ids.
fn grant_many(cluster: &Cluster, count: usize, ttl_ms: u64, keys: bool) -> Vec<String> {
    const TASKS: usize = 24;
    let all = Mutex::new(Vec::new());
    let granting = std::sync::atomic::AtomicUsize::new(TASKS);
    thread::scope(|scope| {
        for task in 0..TASKS {
            let (all, granting) = (&all, &granting);
            let member = &cluster.members[task % cluster.members.len()];
            scope.spawn(move || {
                let mut client = member.client();
                let mut mine = Vec::new();
                let mut renewed = Instant::now();
                let share = count / TASKS + usize::from(task < count % TASKS);
                loop {
                    if mine.len() < share {
                        let asked = json!({ "ttl_ms": ttl_ms });
                        let granted = again(&mut client, "POST", "/v1/leases", &asked);
                        let lease = granted.expect(201).str("lease");
                        if keys && mine.len() % 10 == 0 {
                            let path = format!("/v1/keys/on/{lease}?lease={lease}");
                            again(&mut client, "PUT", &path, &Value::Null);
                        }
                        mine.push(lease);
                        if mine.len() == share {
                            granting.fetch_sub(1, Ordering::SeqCst);
                        }
                    } else if granting.load(Ordering::SeqCst) == 0 {
                        break;
                    } else {
                        wait::pass(Duration::from_millis(50), || false);
                    }
                    if renewed.elapsed() > Duration::from_millis(ttl_ms / 4) && !mine.is_empty() {
                        let asked = json!({ "leases": mine });
                        again(&mut client, "POST", "/v1/leases/renew", &asked).expect(200);
                        renewed = Instant::now();
                    }
                }
                all.lock().expect("nobody panicked").extend(mine);
            });
        }
    });
    all.into_inner().expect("nobody panicked")
}

#[test]
fn renewals_of_many_clients_share_entries() {
    const LEASES: usize = 2000;
    const TASKS: usize = 96;
    const EVERY: Duration = Duration::from_secs(3);
    const ROUNDS: usize = 4;
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let leader = cluster.leader();
    let leases = grant_many(&cluster, LEASES, 10_000, false);
    let before = commit_index(&cluster, leader);
    let began = Instant::now();
    let slowest = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (task, leases) in leases.chunks(LEASES.div_ceil(TASKS)).enumerate() {
            let member = &cluster.members[task % 3];
            let slowest = &slowest;
            scope.spawn(move || {
                let mut client = member.client();
                let mut took = Vec::new();
                for round in 0..ROUNDS {
                    for (index, lease) in leases.iter().enumerate() {
                        // Each lease has its moment in the three seconds, as those of many clients would.
                        let share = (index * TASKS + task) as u32;
                        let due =
                            EVERY * round as u32 + EVERY * share / (TASKS * leases.len()) as u32;
                        wait::pass(due.saturating_sub(began.elapsed()), || false);
                        let sent = Instant::now();
                        let path = format!("/v1/leases/{lease}/renew");
                        again(&mut client, "POST", &path, &Value::Null).expect(200);
                        took.push(sent.elapsed());
                    }
                }
                slowest.lock().expect("nobody panicked").extend(took);
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let entries = commit_index(&cluster, leader) - before;
    let mut took = slowest.into_inner().expect("nobody panicked");
    took.sort();
    let renewals = took.len();
    let rate = entries as f64 / seconds;
    println!(
        "{renewals} single renewals of {LEASES} leases at TTL 10 s in {seconds:.1} s: {entries} entries, {rate:.1} a \
         second; renewals took {:?} at the median, {:?} at p99",
        took[renewals / 2],
        took[renewals * 99 / 100],
    );
    assert_eq!(renewals, LEASES * ROUNDS);
    // A renewal at TTL 10 s waits at most 100 ms for company, and half of it where a follower has gathered it before.
    assert!(rate < 60.0, "{rate} entries a second");
}

#[test]
fn ten_thousand_leases_that_fall_due_together_end_soon_and_writes_go_on() {
    const LEASES: usize = 10_000;
    const TTL: Duration = Duration::from_secs(15);
    let _machine = machine::half();
    let cluster = Setup::of(3).start();
    let leases = grant_many(&cluster, LEASES, TTL.as_millis() as u64, true);
    let mut client = cluster.members[cluster.follower()].client();
    // All of them in ten calls: their deadlines lie a few seconds apart at most.
    let mut last_deadline = Instant::now();
    for some in leases.chunks(1000) {
        let asked = json!({ "leases": some });
        let answer = again(&mut client, "POST", "/v1/leases/renew", &asked).expect(200);
        let answer = answer.json();
        last_deadline = Instant::now() + TTL;
        let results = answer["results"].as_array().expect("results").iter();
        let lost = results.filter(|result| result.get("error").is_some());
        assert_eq!(lost.count(), 0, "all of them were alive");
    }
    let hanging = again(&mut client, "GET", "/v1/keys?prefix=on/", &Value::Null);
    println!("{} keys hang on them", hanging.u64("count"));
    assert!(hanging.u64("count") >= 1000, "{}", hanging.text());
    let storm = last_deadline - Duration::from_secs(2);
    let (writes, ended) = write_until(&cluster, || {
        let mut client = cluster.members[1].client();
        let ended = wait::found(TTL + SOON, || {
            let page = client.get("/v1/leases?limit=1").ok()?;
            (page.status == 200 && page.u64("count") == 0).then(Instant::now)
        });
        ended.expect("all of them end")
    });
    let late = ended.saturating_duration_since(last_deadline);
    let (before, during): (Vec<_>, Vec<_>) = writes.into_iter().partition(|(at, _)| *at < storm);
    let (before, during) = (p99(before), p99(during));
    println!(
        "{LEASES} leases had ended {late:?} after the last deadline; p99 of writes {before:?} before and {during:?} \
         while they ended"
    );
    assert_eq!(ok(client.get("/v1/keys?prefix=on/"), 200).u64("count"), 0);
    // 5 s are promised; the rest is for a machine that is busy with other things.
    assert!(
        late < Duration::from_secs(10),
        "they had ended {late:?} after their deadline"
    );
    assert!(
        during < Duration::from_secs(2),
        "writes took {during:?} meanwhile"
    );
    cluster.wait_until_equal();
}

/// Twelve clients write while something is done: when each write began and how long it took, and what came of it.
fn write_until<T: Send>(
    cluster: &Cluster,
    work: impl FnOnce() -> T + Send,
) -> (Vec<(Instant, Duration)>, T) {
    let done = AtomicBool::new(false);
    let writes = Mutex::new(Vec::new());
    let result = thread::scope(|scope| {
        for writer in 0..12 {
            let (done, writes) = (&done, &writes);
            let member = &cluster.members[writer % cluster.members.len()];
            scope.spawn(move || {
                let mut client = member.client();
                let mut mine = Vec::new();
                let path = format!("/v1/keys/writer-{writer}");
                while !done.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    let answer = again(&mut client, "PUT", &path, &Value::Null);
                    assert!([200, 201].contains(&answer.status), "{}", answer.text());
                    mine.push((began, began.elapsed()));
                    wait::pass(Duration::from_millis(10), || false);
                }
                writes.lock().expect("nobody panicked").extend(mine);
            });
        }
        let result = work();
        done.store(true, Ordering::SeqCst);
        result
    });
    (writes.into_inner().expect("nobody panicked"), result)
}

fn p99(writes: Vec<(Instant, Duration)>) -> Duration {
    assert!(writes.len() >= 50, "enough were measured: {}", writes.len());
    let mut took: Vec<Duration> = writes.into_iter().map(|(_, took)| took).collect();
    took.sort();
    took[took.len() * 99 / 100]
}
