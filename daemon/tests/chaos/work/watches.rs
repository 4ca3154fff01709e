//! Watchers: of everything at one member, which make the history; of some things, by polls that go from member to member
//! and by streams that break and resume.

use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use tenure_oracle::{Event, Line, Reply, Revision};

use crate::common::events::EventStream;
use crate::common::{Client, SOON, wait};
use crate::round::Run;

const EVERYTHING: [&str; 5] = ["keys/", "locks/", "semaphores/", "leases/", "elections/"];
const PATIENCE: Duration = Duration::from_secs(3);
const SETBACK: Duration = Duration::from_millis(60);

/// Where a watcher is.
struct Cursor<'a> {
    run: &'a Run<'a>,
    watcher: u64,
    archive: bool,
    prefixes: Vec<String>,
    /// Whether it asks for what keys were before.
    previous: bool,
    after: Revision,
}

impl<'a> Cursor<'a> {
    fn new(run: &'a Run<'a>, prefixes: &[&str], archive: bool, after: Revision) -> Cursor<'a> {
        Cursor {
            run,
            watcher: run.recorder.new_client(),
            archive,
            prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            previous: false,
            after,
        }
    }

    fn with_previous(mut self, previous: bool) -> Cursor<'a> {
        self.previous = previous;
        self
    }

    fn path(&self, more: &str) -> String {
        let selectors: String = self
            .prefixes
            .iter()
            .map(|prefix| format!("prefix={prefix}&"))
            .collect();
        let previous = if self.previous { "&previous=true" } else { "" };
        format!("/v1/watch?{selectors}after={}{previous}{more}", self.after)
    }

    /// Records what was told and goes on from there.
    fn told(&mut self, member: usize, revision: Revision, events: &Value) {
        let events: Vec<Event> = match serde_json::from_value(events.clone()) {
            Ok(events) => events,
            Err(error) => {
                self.run.surprise(format!("no events: {error}: {events}"));
                return;
            }
        };
        self.run.recorder.record(Line::Reply(Reply {
            watcher: self.watcher,
            archive: self.archive,
            member,
            ret: self.run.recorder.now(),
            prefixes: self.prefixes.clone(),
            previous: self.previous,
            after: self.after,
            revision,
            events,
            compacted: None,
        }));
        self.after = revision;
    }

    /// Records that history is gone and begins anew where it is not. A watcher of everything must never come to that.
    fn lost(&mut self, member: usize, compacted: Revision) {
        self.run.recorder.record(Line::Reply(Reply {
            watcher: self.watcher,
            archive: self.archive,
            member,
            ret: self.run.recorder.now(),
            prefixes: self.prefixes.clone(),
            previous: self.previous,
            after: self.after,
            revision: self.after,
            events: Vec::new(),
            compacted: Some(compacted),
        }));
        self.watcher = self.run.recorder.new_client();
        self.after = compacted;
    }

    /// Asks a member once; whether it told anything.
    fn poll(&mut self, client: &mut Client, member: usize, more: &str) -> bool {
        let Ok(answer) = client.get(&self.path(more)) else {
            return false;
        };
        let body = answer.json();
        match (answer.status, body["revision"].as_u64()) {
            (200, Some(revision)) => {
                self.told(member, Revision(revision), &body["events"]);
                true
            }
            (503, _) => false,
            (410, _) if body["code"] == "compacted" => {
                let compacted = body["compact_revision"].as_u64().unwrap_or_default();
                self.lost(member, Revision(compacted));
                true
            }
            _ => {
                self.run.surprise(format!(
                    "a watcher was answered {}: {}",
                    answer.status,
                    answer.text()
                ));
                false
            }
        }
    }
}

/// Watches everything at one member until the end of the round is known and seen.
pub(super) fn archive(run: &Run<'_>, member: usize) {
    let mut cursor = Cursor::new(run, &EVERYTHING, true, Revision(0));
    let mut client = run.rig.members[member].client().with_patience(PATIENCE);
    while !run.is_given_up() && run.end().is_none_or(|end| cursor.after < end) {
        if !cursor.poll(&mut client, member, "&wait_ms=1000") {
            client = run.rig.members[member].client().with_patience(PATIENCE);
            wait::pass(SETBACK, || false);
        }
    }
}

/// Reads the whole history of a member anew.
pub(crate) fn watch_all(run: &Run<'_>, member: usize, end: Revision) {
    let mut cursor = Cursor::new(run, &EVERYTHING, false, Revision(0));
    let mut client = run.rig.members[member].client().with_patience(PATIENCE);
    wait::until("the whole history is told", SOON, || {
        if !cursor.poll(&mut client, member, "&wait_ms=100") {
            client = run.rig.members[member].client().with_patience(PATIENCE);
        }
        (end <= cursor.after).then_some(())
    });
}

const SOME: [&[&str]; 3] = [
    &["keys/k", "locks/"],
    &["keys/", "elections/", "semaphores/"],
    &["leases/", "keys/leased/"],
];

/// Follows some things from member to member, and now and then begins somewhere in the past.
pub(super) fn poll(run: &Run<'_>, id: usize) {
    let mut rng = Rng::with_seed(run.seed.wrapping_add(1000 + id as u64));
    let members = run.rig.members.len();
    let start = |after: Revision| Cursor::new(run, SOME[id], false, after).with_previous(id == 0);
    let mut cursor = start(Revision(0));
    while !run.stopped() {
        if rng.u8(..20) == 0 {
            let back = rng.u64(..100);
            let after = Revision(cursor.after.0.saturating_sub(back));
            cursor = start(after);
        }
        let member = rng.usize(..members);
        let mut client = run.rig.members[member].client().with_patience(PATIENCE);
        let more = format!("&wait_ms={}", rng.u64(..400));
        for _ in 0..rng.u8(1..6) {
            if !cursor.poll(&mut client, member, &more) {
                wait::pass(SETBACK, || run.stopped());
                break;
            }
        }
    }
}

/// Follows some things by streams, hangs up now and then, and resumes.
pub(super) fn stream(run: &Run<'_>, id: usize) {
    let mut rng = Rng::with_seed(run.seed.wrapping_add(2000 + id as u64));
    let members = run.rig.members.len();
    let cursor = Cursor::new(run, SOME[id], false, Revision(0));
    let mut cursor = cursor.with_previous(id == 1);
    while !run.stopped() {
        let member = if id == 0 { 0 } else { rng.usize(..members) };
        let address = run.rig.members[member].client;
        let last = (cursor.after > Revision(0)).then_some(cursor.after.0);
        let opened = EventStream::open(address, &cursor.path(""), last);
        match opened {
            Ok(stream) if stream.status == 200 => {
                let until = Instant::now() + Duration::from_millis(rng.u64(200..3_000));
                follow(&mut cursor, member, stream, until);
            }
            // The poll is told what is gone.
            Ok(stream) if stream.status == 410 => {
                let mut client = run.rig.members[member].client().with_patience(PATIENCE);
                cursor.poll(&mut client, member, "");
            }
            Ok(stream) if stream.status != 503 => {
                run.surprise(format!("a stream was answered {}", stream.head));
            }
            _ => wait::pass(SETBACK, || run.stopped()),
        }
    }
}

fn follow(cursor: &mut Cursor<'_>, member: usize, mut stream: EventStream, until: Instant) {
    while Instant::now() < until && !cursor.run.stopped() {
        // What is cut off in the midst of a message is told again by the next stream.
        let Ok(Some(message)) = stream.next(Duration::from_millis(500)) else {
            return;
        };
        let Some(id) = message.id.map(Revision) else {
            // The stream ends with a problem, of which a lost leader is the usual one.
            return;
        };
        match message.event.as_str() {
            "change" => cursor.told(member, id, &message.json()["events"]),
            "start" if id != cursor.after => {
                let after = cursor.after;
                cursor
                    .run
                    .surprise(format!("a stream from {after} began at {id}"));
                return;
            }
            _ => cursor.told(member, id, &Value::Array(Vec::new())),
        }
    }
}
