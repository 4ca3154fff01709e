//! `/metrics`: what a member tells those who watch over it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::common::{Client, SOON, Setup, acquire, grant, machine, wait};

/// A page of metrics: series with their values, and the names that it describes, with the type of each.
pub(crate) struct Page {
    pub(crate) series: BTreeMap<String, f64>,
    pub(crate) types: BTreeMap<String, String>,
}

impl Page {
    /// Reads a page, and fails where it is not what Prometheus reads.
    pub(crate) fn of(client: &mut Client) -> Page {
        let answer = client.get("/metrics").expect("the member answers");
        let answer = answer.expect(200);
        assert_eq!(
            answer.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        let text = answer.text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let (mut series, mut types) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, kind) = described.split_once(' ').expect("a name and a type");
                let forms: &[&str] = match kind {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "info" => &["_info"],
                    "gauge" => &[""],
                    _ => panic!("{line}"),
                };
                for form in forms {
                    let before = types.insert(format!("{name}{form}"), kind.to_owned());
                    assert_eq!(before, None, "{name} is described twice");
                }
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a series and its value");
                let value: f64 = value.parse().expect("a value is a number");
                let of = name.split('{').next().unwrap_or_default();
                assert!(types.contains_key(of), "{name} is not described");
                let before = series.insert(name.to_owned(), value);
                assert_eq!(before, None, "{name} is told twice");
            }
        }
        Page { series, types }
    }

    fn get(&self, series: &str) -> f64 {
        let found = self.series.get(series);
        *found.unwrap_or_else(|| panic!("{series} is not told: {:#?}", self.series.keys()))
    }
}

#[test]
fn a_page_of_metrics_tells_what_was_done() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let mut client = cluster.members[leader].client();
    let before = Page::of(&mut client);
    let (holder, waiter) = (grant(&mut client, 60_000), grant(&mut client, 60_000));
    let fence = acquire(&mut client, "wanted", &holder);
    let asked = json!({ "lease": waiter, "wait_ms": 60_000, "poll_ms": 0 });
    let queued = client.post("/v1/locks/wanted", &asked);
    queued.expect("the member answers").expect(202);
    let renew = format!("/v1/leases/{holder}/renew");
    let renewed = client.post(&renew, &json!({}));
    renewed.expect("the member answers").expect(200);
    let put = client.put("/v1/keys/a", b"x");
    put.expect("the member answers").expect(201);
    let nowhere = client.get("/nowhere/secret-name");
    nowhere.expect("the member answers").expect(404);
    let odd = client.call("BREW", "/v1/keys/a", &[], b"");
    odd.expect("the member answers").expect(405);

    let page = Page::of(&mut client);
    let more = |series: &str| page.get(series) - before.series.get(series).unwrap_or(&0.0);
    assert_eq!(page.get("tenure_raft_role{role=\"leader\"}"), 1.0);
    assert_eq!(more("tenure_leases"), 2.0);
    // One by itself; and who asks for a lock renews its lease.
    assert_eq!(more("tenure_lease_renewals_total"), 3.0);
    assert_eq!(more("tenure_lease_renew_margin_seconds_count"), 3.0);
    assert_eq!(page.get("tenure_holds{kind=\"lock\"}"), 1.0);
    assert_eq!(page.get("tenure_waiters{kind=\"lock\"}"), 1.0);
    assert_eq!(more("tenure_key_puts_total"), 1.0);
    let puts = "tenure_http_request_duration_seconds_count{route=\"/v1/keys/{key}\",method=\"PUT\",status=\"201\"}";
    assert_eq!(more(puts), 1.0);
    let odd = "tenure_http_request_duration_seconds_count{route=\"/v1/keys/{key}\",method=\"other\",status=\"405\"}";
    assert_eq!(page.get(odd), 1.0);
    assert!(page.get("tenure_storage_sync_duration_seconds_count") > 0.0);
    assert!(page.get("process_resident_memory_bytes") > 1e6);
    for peer in &cluster.members {
        let name = &peer.name;
        let round_trip = format!("tenure_raft_peer_round_trip_seconds{{peer=\"{name}\"}}");
        let is_follower = *name != cluster.members[leader].name;
        assert_eq!(page.series.contains_key(&round_trip), is_follower, "{name}");
    }
    let told: Vec<&String> = page
        .series
        .keys()
        .filter(|name| name.contains("wanted") || name.contains("secret"))
        .collect();
    assert!(told.is_empty(), "names of callers are told: {told:?}");

    let path = format!("/v1/locks/wanted?lease={holder}&fence={fence}");
    let released = client.delete(&path);
    released.expect("the member answers").expect(200);
    let revoked = client.delete(&format!("/v1/leases/{waiter}"));
    revoked.expect("the member answers").expect(200);
    // Every member tells what the state has gone through.
    for member in [leader, follower] {
        let mut client = cluster.members[member].client();
        wait::until("the member has applied the revoke", SOON, || {
            let page = Page::of(&mut client);
            (page.get("tenure_waiters{kind=\"lock\"}") == 0.0
                && page.get("tenure_holds{kind=\"lock\"}") == 0.0)
                .then_some(())
        });
        let page = Page::of(&mut client);
        assert_eq!(page.get("tenure_grants_total{kind=\"lock\"}"), 2.0);
        assert_eq!(
            page.get("tenure_wait_duration_seconds_count{kind=\"lock\"}"),
            1.0
        );
        assert_eq!(
            page.get("tenure_hold_ends_total{kind=\"lock\",reason=\"released\"}"),
            1.0
        );
        assert_eq!(
            page.get("tenure_hold_ends_total{kind=\"lock\",reason=\"lease_ended\"}"),
            1.0
        );
        assert_eq!(page.get("tenure_holds{kind=\"lock\"}"), 0.0);
        assert_eq!(page.get("tenure_waiters{kind=\"lock\"}"), 0.0);
    }
}

#[test]
fn a_member_without_a_leader_still_tells_its_metrics() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    cluster.leader();
    let follower = cluster.follower();
    for member in (0..3).filter(|member| *member != follower) {
        cluster.members[member].kill();
    }
    let mut client = cluster.members[follower].client();
    wait::until("the member knows that it has no leader", SOON, || {
        let page = Page::of(&mut client);
        (page.get("tenure_raft_has_leader") == 0.0).then_some(())
    });
    assert_eq!(
        Page::of(&mut client).get("tenure_raft_role{role=\"leader\"}"),
        0.0
    );
}

#[test]
fn a_leader_says_in_words_which_member_is_missing_and_that_none_is_left_to_lose() {
    let _machine = machine::shared();
    let cluster = Setup::of(3).start();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    // Leadership may change on a busy machine: whoever leads says it.
    let warnings = |member: usize| {
        let status = cluster.members[member].status()?;
        let warnings = status["warnings"].as_array()?.iter();
        let words = warnings.filter_map(|words| words.as_str().map(str::to_owned));
        Some(words.collect::<Vec<_>>())
    };
    let about_members = |words: &String| words.contains("member") && !words.contains("disk");
    let before = warnings(leader).expect("the leader answers");
    assert!(!before.iter().any(about_members), "{before:#?}");
    cluster.members[follower].kill();
    let name = &cluster.members[follower].name;
    let after = wait::until("the leader misses the member", SOON, || {
        let told = (0..3)
            .filter(|member| *member != follower)
            .filter_map(warnings);
        told.into_iter()
            .find(|words| words.iter().any(about_members))
    });
    let missing = format!("member missing: {name} has not answered for ");
    assert!(
        after.iter().any(|words| words.starts_with(&missing)),
        "{after:#?}"
    );
    let lost = "one from losing quorum: 2 of 3 voters answer";
    assert!(
        after.iter().any(|words| words.starts_with(lost)),
        "{after:#?}"
    );
}

#[test]
fn a_learner_is_told_as_a_follower_that_answers_and_has_no_vote() {
    let _machine = machine::shared();
    let mut cluster = Setup::of(1).start();
    let number = cluster.newcomer();
    // It asks nobody to add it until it was added without a vote.
    let nowhere = Some("http://127.0.0.1:9".to_owned());
    let first = std::mem::replace(&mut cluster.members[number].join, nowhere);
    let learner = &cluster.members[number];
    learner.start();
    let asked = json!({
        "name": learner.name,
        "peer_url": learner.peer_url(),
        "client_url": format!("http://{}", learner.client),
        "promote": false,
    });
    let mut client = cluster.members[0].client();
    let added = client.post("/v1/cluster/members", &asked);
    added.expect("the member answers").expect(201);
    learner.kill();
    cluster.members[number].join = first;
    cluster.members[number].start();
    let of_peer = |what: &str| format!("tenure_raft_peer_{what}{{peer=\"n2\"}}");
    let page = wait::until("the learner has answered", SOON, || {
        let page = Page::of(&mut client);
        let silent = page.series.get(&of_peer("silent_seconds"));
        silent.is_some_and(|silent| *silent < 5.0).then_some(page)
    });
    // By these alone the rule TenureOneFromLosingQuorum tells it from a voter.
    assert_eq!(page.get(&of_peer("voter")), 0.0);
    assert_eq!(page.get("tenure_raft_voters"), 1.0);
    assert_eq!(page.get("tenure_raft_learners"), 1.0);
}
