//! The contract, row by row: for each call the good answer, each refusal with its code, and the sentence a person reads.
//!
//! The rows are tables beside this file, one for each part of the contract, in the language that `table.rs` explains. They
//! are read when the tests run and asked twice: of a single member, and of a follower of three, where every one of them
//! is forwarded or confirmed by a leader. What cannot be said in a row (streams of events) is in `streams.rs`.
//!
//! Left out are codes that no quiet cluster answers, and the good answers of calls that change who is a member, which
//! `members.rs` has.

mod pattern;
mod runner;
mod streams;
mod table;

use std::collections::BTreeSet;

use serde_json::Value;
use tenure_api::Code;

use crate::common::{Client, Cluster, Setup, machine};

use runner::Run;
pub(crate) use runner::check_problem;

/// The tables, in the order of the contract, but for the one that tells what makes no revision: it comes before there are
/// leases that may end meanwhile.
const PARTS: [&str; 10] = [
    "access",
    "conventions",
    "leases",
    "locks",
    "semaphores",
    "elections",
    "keys",
    "transactions",
    "watching",
    "cluster",
];

/// The codes that no quiet cluster answers, and what shows each of them.
const SHOWN_ELSEWHERE: [(Code, &str); 7] = [
    (Code::MembershipBusy, "members.rs"),
    (Code::NoLeader, "reads.rs, streams.rs"),
    (Code::Overloaded, "overload.rs"),
    (Code::OutcomeUnknown, "burdened.rs"),
    (Code::ShuttingDown, "stopping.rs"),
    (Code::TooManyWaiters, "overload.rs"),
    (Code::TooManyRequests, "backups.rs"),
];

/// The calls whose good answers would leave the cluster another one than the rows that follow are about: `members.rs`
/// makes them.
const CALLED_ELSEWHERE: [(&str, &str); 3] = [
    ("POST", "/v1/cluster/members"),
    ("DELETE", "/v1/cluster/members/{id}"),
    ("POST", "/v1/cluster/members/{id}/replace"),
];

/// Asks every row of one member. All that differs is told together.
fn check_contract(cluster: &Cluster, member: usize) {
    let client = cluster.members[member].client().persistent();
    let mut run = Run::new(client);
    for part in PARTS {
        run.ask_all(part, &table::read(part));
    }
    streams::check(cluster, member, &mut run);
    let document = cluster.members[member]
        .client()
        .get("/v1/openapi.json")
        .expect("the member answers");
    check_nothing_is_missing(&mut run, &document.expect(200).json());
    run.finish();
}

/// Every code and every call of the contract has a row.
fn check_nothing_is_missing(run: &mut Run, document: &Value) {
    let excused: Vec<Code> = SHOWN_ELSEWHERE.iter().map(|(code, _)| *code).collect();
    for code in Code::ALL {
        if !excused.contains(&code) && !run.has_shown_code(code.as_str()) {
            run.fail(format!("no row is refused with {}", code.as_str()));
        }
    }
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let templates: Vec<&String> = paths.keys().collect();
    let shown: BTreeSet<(String, String)> = run.shown_calls(&templates);
    for (path, operations) in &paths {
        for method in operations
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys())
        {
            let method = method.to_uppercase();
            let is_elsewhere = CALLED_ELSEWHERE.contains(&(&method, path));
            if !is_elsewhere && !shown.contains(&(method.clone(), path.clone())) {
                run.fail(format!("no row shows a good answer of {method} {path}"));
            }
        }
    }
}

#[test]
fn a_single_member_answers_as_the_contract_says() {
    let _machine = machine::shared();
    let cluster = patient(1).start();
    check_contract(&cluster, 0);
}

#[test]
fn a_follower_of_three_answers_as_the_contract_says() {
    let _machine = machine::shared();
    let cluster = patient(3).start();
    check_contract(&cluster, cluster.follower());
    cluster.wait_until_equal();
}

/// A cluster whose members bear a machine that is busy with other tests: the rows are not about elections.
fn patient(members: u8) -> Setup {
    Setup::of(members).with("election-timeout-ms", 2000)
}

/// A client that asks again where a leader is lost all the same.
fn client(cluster: &Cluster, member: usize) -> Client {
    cluster.members[member].client().persistent()
}
