//! Server-sent events (`api.md` §7): what a row of a table cannot say, because it goes on.

use std::time::Duration;

use serde_json::json;

use super::client;
use super::runner::Run;
use crate::common::Cluster;
use crate::common::events::{EventStream, Message};

/// Longer than the 15 s after which a quiet stream says something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A watch as a stream: its start, its changes, its resumption and its error.
pub(super) fn check(cluster: &Cluster, member: usize, run: &mut Run) {
    let told = [
        check_changes(cluster, member),
        check_resumed(cluster, member),
        check_snapshot(cluster, member),
        check_error(cluster, member),
    ];
    told.into_iter()
        .filter_map(Result::err)
        .for_each(|fault| run.fail(format!("streams.rs {fault}")));
}

fn check_changes(cluster: &Cluster, member: usize) -> Result<(), String> {
    let mut client = client(cluster, member);
    let address = cluster.members[member].client;
    let mut stream = open(EventStream::open(
        address,
        "/v1/watch?prefix=keys/streams/a/",
        None,
    ))?;
    let head = stream.head.to_ascii_lowercase();
    for header in [
        "content-type: text/event-stream",
        "x-accel-buffering: no",
        "cache-control: no-store",
    ] {
        must(
            head.contains(header),
            &format!("the head has {header}: {head}"),
        )?;
    }
    let start = message(&mut stream)?;
    must(
        start.event == "start",
        &format!("it begins with a start: {start:?}"),
    )?;
    let revision = start.json()["revision"].as_u64();
    must(
        revision.is_some()
            && start.id == revision
            && start.json() == json!({ "revision": revision }),
        &format!("the start tells its revision, and it alone: {start:?}"),
    )?;
    // Both keys change at one revision, and are one message.
    let both = json!({ "then": [
        { "put": { "key": "streams/a/1", "value": "x" } },
        { "put": { "key": "streams/a/2", "value": "y" } },
    ] });
    let written = client
        .post("/v1/txn", &both)
        .map_err(|error| error.to_string())?;
    let written = written.u64("revision");
    let change = loop {
        let next = message(&mut stream)?;
        if next.event == "change" {
            break next;
        }
    };
    let told = change.json();
    let keys: Vec<&serde_json::Value> = told["events"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| &event["key"])
        .collect();
    must(
        change.id == Some(written)
            && told["revision"] == written
            && keys == ["streams/a/1", "streams/a/2"],
        &format!("one change for each revision: {change:?}"),
    )
}

fn check_resumed(cluster: &Cluster, member: usize) -> Result<(), String> {
    let mut client = client(cluster, member);
    let mut revisions = Vec::new();
    for value in [b"1", b"2"] {
        let put = client
            .put("/v1/keys/streams/b", value)
            .map_err(|error| error.to_string())?;
        revisions.push(put.u64("revision"));
    }
    let path = "/v1/watch?resource=keys/streams/b&after=0";
    let address = cluster.members[member].client;
    let mut stream = open(EventStream::open(address, path, Some(revisions[0])))?;
    let start = message(&mut stream)?;
    must(
        start.event == "start" && start.id == Some(revisions[0]),
        &format!("Last-Event-ID goes before `after`: {start:?}"),
    )?;
    let change = message(&mut stream)?;
    must(
        change.event == "change" && change.id == Some(revisions[1]),
        &format!("it goes on behind that: {change:?}"),
    )
}

fn check_snapshot(cluster: &Cluster, member: usize) -> Result<(), String> {
    let mut client = client(cluster, member);
    client
        .put("/v1/keys/streams/c", b"x")
        .map_err(|error| error.to_string())?;
    let body = json!({ "resources": ["keys/streams/c"], "snapshot": true });
    let address = cluster.members[member].client;
    let mut stream = open(EventStream::post(address, "/v1/watch", &body))?;
    let start = message(&mut stream)?;
    let told = start.json();
    must(
        start.event == "start"
            && told["snapshot"][0]["resource"] == "keys/streams/c"
            && told["snapshot"][0]["state"]["value"] == "x"
            && told["revision"].as_u64() == start.id,
        &format!("the start holds the snapshot: {start:?}"),
    )
}

fn check_error(cluster: &Cluster, member: usize) -> Result<(), String> {
    let path = "/v1/watch?prefix=keys/&after=9007199254740000";
    let address = cluster.members[member].client;
    let mut stream = open(EventStream::open(address, path, None))?;
    let error = message(&mut stream)?;
    let problem = error.json();
    must(
        error.event == "error" && problem["code"] == "revision-ahead" && problem["status"] == 410,
        &format!("a 410 comes as an error: {error:?}"),
    )?;
    let next = stream.next(PATIENCE).map_err(|error| error.to_string())?;
    must(next.is_none(), &format!("the error ends it: {next:?}"))
}

fn open(stream: std::io::Result<EventStream>) -> Result<EventStream, String> {
    let stream = stream.map_err(|error| format!("the stream does not begin: {error}"))?;
    must(
        stream.status == 200,
        &format!("a stream begins: {}", stream.head),
    )?;
    Ok(stream)
}

fn message(stream: &mut EventStream) -> Result<Message, String> {
    match stream.next(PATIENCE) {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err("the stream has ended".into()),
        Err(error) => Err(format!("no message: {error}")),
    }
}

fn must(fine: bool, what: &str) -> Result<(), String> {
    if fine {
        Ok(())
    } else {
        Err(format!("is not so: {what}"))
    }
}
