//! A client that records: what it asks goes out as a request, and what the answer means is told in the words of the
//! oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tenure_oracle::{
    Ask, Call, Condition, Guard, How, Left, Line, Moment, Operation, Revision, Seen, Share, Times,
    Told,
};

use crate::common::{Answer, Client};
use crate::round::{Run, is_success};

/// How an acquire waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) wait_ms: u64,
    pub(crate) poll_ms: u64,
}

/// What came of a call, and when it was made.
pub(crate) struct Answered {
    pub(crate) told: Told,
    pub(crate) call: Moment,
    pub(crate) ret: Moment,
    pub(crate) body: Value,
}

/// One who asks one member at a time, over one connection.
pub(crate) struct Caller<'a> {
    run: &'a Run<'a>,
    id: u64,
    pub(crate) member: usize,
    connection: u64,
    client: Client,
    patience: Duration,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(run: &'a Run<'a>, member: usize, patience: Duration) -> Caller<'a> {
        let client = run.rig.members[member].client().with_patience(patience);
        Caller {
            run,
            id: run.recorder.new_client(),
            member,
            connection: 0,
            client,
            patience,
        }
    }

    /// Goes on at another member.
    pub(crate) fn go_to(&mut self, member: usize) {
        self.member = member;
        self.connection += 1;
        self.client = self.run.rig.members[member]
            .client()
            .with_patience(self.patience);
    }

    pub(crate) fn ask(&mut self, ask: Ask) -> Answered {
        self.ask_so(ask, Manner::default())
    }

    /// Asks and records. After an answer that never came the caller goes on as somebody else, over a new connection.
    pub(crate) fn ask_so(&mut self, ask: Ask, manner: Manner) -> Answered {
        let call = self.run.recorder.now();
        let answer = send(&mut self.client, &ask, manner);
        let ret = self.run.recorder.now();
        let (told, body) = match &answer {
            Ok(answer) => (self.told(&ask, answer), answer.json()),
            // It was never sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                (Told::Failed, Value::Null)
            }
            Err(_) => (Told::Unknown, Value::Null),
        };
        self.run.recorder.record(Line::Call(Call {
            client: self.id,
            member: self.member,
            connection: self.connection,
            call,
            ret,
            ask,
            told: told.clone(),
        }));
        if is_success(&told) {
            self.run.done.fetch_add(1, Ordering::SeqCst);
        }
        if told == Told::Unknown {
            self.id = self.run.recorder.new_client();
        }
        let closes = answer
            .as_ref()
            .is_ok_and(|answer| answer.header("connection").is_some());
        if answer.is_err() || closes {
            self.go_to(self.member);
        }
        Answered {
            told,
            call,
            ret,
            body,
        }
    }

    /// What an answer means. One that nobody expects fails the round.
    fn told(&self, ask: &Ask, answer: &Answer) -> Told {
        match nothing_there(ask, answer).or_else(|| refused(ask, answer)) {
            // A put that hangs a key on a lease is refused for the lease, not for the key.
            Some(Told::Refused { revision, .. })
                if matches!(ask, Ask::Put { lease: Some(_), .. }) && answer.status != 412 =>
            {
                return Told::Lost { revision };
            }
            Some(told) => return told,
            None => {}
        }
        accepted(ask, answer).unwrap_or_else(|| {
            let text = answer.text();
            self.run
                .surprise(format!("{ask:?} was answered {}: {text}", answer.status));
            Told::Unknown
        })
    }
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

/// A key that is not there is read like any other: as nothing, which is judged by the history.
fn nothing_there(ask: &Ask, answer: &Answer) -> Option<Told> {
    let absent = matches!(ask, Ask::Get { .. })
        && answer.status == 404
        && answer.code().as_str() == "key-not-found";
    let revision = answer.header("tenure-revision")?.parse().ok()?;
    absent.then(|| Told::Read {
        revision: Revision(revision),
        keys: BTreeMap::new(),
    })
}

/// Whether it asks for how things were.
fn is_of_the_past(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Get {
            how: How::At(_),
            ..
        } | Ask::List {
            how: How::At(_),
            ..
        }
    )
}

/// What an answer says that is no success; none where it is one, or is not to be.
fn refused(ask: &Ask, answer: &Answer) -> Option<Told> {
    let revision = || {
        answer
            .header("tenure-revision")
            .and_then(|text| text.parse().ok())
            .map(Revision)
    };
    let actual = answer.json()["mod_revision"].as_u64().map(Revision);
    let is_guarded = matches!(
        ask,
        Ask::Put { guard: Some(_), .. }
            | Ask::Delete { guard: Some(_), .. }
            | Ask::DeletePrefix { guard: Some(_), .. }
            | Ask::Transact { guard: Some(_), .. }
    );
    match (answer.status, answer.code().as_str()) {
        (412, "fence-stale") if is_guarded => Some(Told::Stale {
            revision: revision()?,
            fence: answer.json()["fence"].as_u64(),
            replayed: replayed(answer),
        }),
        // The place was granted, and whoever broke the hold was faster than this answer.
        (404, "not-held") if matches!(ask, Ask::Acquire { .. } | Ask::AcquireAll { .. }) => {
            Some(Told::Failed)
        }
        (412, _)
        | (404, "key-not-found" | "not-held" | "lease-not-found")
        | (410, "lease-expired") => Some(Told::Refused {
            revision: revision()?,
            actual: actual.filter(|_| answer.status == 412),
            replayed: replayed(answer),
        }),
        (
            409,
            "lock-held" | "already-held" | "wait-expired" | "limit-mismatch" | "key-on-other-lease",
        ) => Some(Told::Failed),
        // The past that was asked for is gone.
        (410, "compacted") if is_of_the_past(ask) => Some(Told::Failed),
        (422, "idempotency-mismatch") => Some(Told::Mismatch),
        (429 | 503, _) if answer.not_applied() => Some(Told::Failed),
        (504, "outcome-unknown") => Some(Told::Unknown),
        _ => None,
    }
}

/// What a success says; none where the answer is none.
fn accepted(ask: &Ask, answer: &Answer) -> Option<Told> {
    let body = answer.json();
    let at = |field: &str| body[field].as_u64().map(Revision);
    let header = |name: &str| answer.header(name).and_then(|text| text.parse().ok());
    let (revision, replayed) = (at("revision"), replayed(answer));
    match (ask, answer.status) {
        (Ask::Put { .. }, 200 | 201) => Some(Told::Done {
            revision: at("mod_revision")?,
            replayed,
        }),
        (
            Ask::Delete { .. }
            | Ask::Revoke { .. }
            | Ask::Leave { .. }
            | Ask::Release { .. }
            | Ask::Proclaim { .. },
            200,
        ) => Some(Told::Done {
            revision: revision?,
            replayed,
        }),
        (Ask::DeletePrefix { .. }, 200) => Some(Told::Deleted {
            revision: revision?,
            deleted: body["deleted"].as_u64()?,
            replayed,
        }),
        (Ask::Break { resource, .. }, 200) => Some(Told::Broken {
            revision: revision?,
            holders: holders(&body["broken"], owner_field(resource))?,
        }),
        (Ask::HandOver { .. }, 200) => Some(Told::HandedOver {
            revision: revision?,
            lease: body["leader"]["lease"].as_str()?.to_owned(),
            fence: body["leader"]["fence"].as_u64()?,
        }),
        (Ask::Transact { .. }, 200) => Some(Told::Transacted {
            revision: revision?,
            succeeded: body["succeeded"].as_bool()?,
            gets: gets(&body, replayed),
            replayed,
        }),
        (Ask::Get { key, .. }, 200) => {
            let seen = Seen {
                value: answer.text(),
                revision: Revision(header("tenure-mod-revision")?),
            };
            Some(Told::Read {
                revision: Revision(header("tenure-revision")?),
                keys: BTreeMap::from([(key.clone(), seen)]),
            })
        }
        (Ask::List { .. }, 200) => {
            let keys = body["keys"].as_array()?.iter();
            let keys = keys.map(|entry| Some((entry["key"].as_str()?.to_owned(), seen(entry)?)));
            Some(Told::Read {
                revision: revision?,
                keys: keys.collect::<Option<_>>()?,
            })
        }
        (Ask::Grant { .. }, 201) => Some(Told::Granted {
            revision: at("granted_revision")?,
            lease: body["lease"].as_str()?.to_owned(),
            replayed,
        }),
        (Ask::Renew { .. } | Ask::Change { .. }, 200) => Some(Told::Renewed {
            revision: revision?,
            left: Some(Left {
                ttl_ms: body["ttl_ms"].as_u64()?,
                remaining_ms: body["remaining_ms"].as_u64()?,
            }),
        }),
        (Ask::Acquire { .. }, 200) => Some(Told::Held {
            revision: revision?,
            fence: body["fence"].as_u64()?,
        }),
        (Ask::AcquireAll { .. }, 200) => {
            let locks = body["locks"].as_array()?.iter();
            let fences = locks.map(|lock| {
                let name = lock["lock"].as_str()?;
                Some((format!("locks/{name}"), lock["fence"].as_u64()?))
            });
            Some(Told::HeldAll {
                revision: revision?,
                fences: fences.collect::<Option<_>>()?,
            })
        }
        (Ask::Acquire { .. } | Ask::AcquireAll { .. }, 202) => Some(Told::Queued {
            revision: revision?,
            times: times(&body),
        }),
        (Ask::Holders { resource }, 200) => Some(Told::Holders {
            revision: revision?,
            holders: holders(&body["holders"], owner_field(resource))?,
        }),
        (Ask::Holder { resource }, 200) => {
            let holder = match resource.starts_with("locks/") {
                true => &body["holders"][0],
                false => &body["leader"],
            };
            Some(Told::Holder {
                revision: revision?,
                fence: holder["fence"].as_u64(),
                value: holder["value"].as_str().map(str::to_owned),
            })
        }
        _ => None,
    }
}

fn seen(entry: &Value) -> Option<Seen> {
    Some(Seen {
        value: entry["value"].as_str()?.to_owned(),
        revision: Revision(entry["mod_revision"].as_u64()?),
    })
}

/// What somebody is called who holds or waits for something of that kind.
fn owner_field(resource: &str) -> &'static str {
    match resource.starts_with("elections/") {
        true => "candidate",
        false => "owner",
    }
}

/// Who holds something: the lease, the owner and the fence of each.
fn holders(list: &Value, owner_field: &str) -> Option<BTreeSet<(String, String, u64)>> {
    let told = list.as_array()?.iter().map(|holder| {
        let text = |field: &str| holder[field].as_str().map(str::to_owned);
        Some((
            text("lease")?,
            text(owner_field)?,
            holder["fence"].as_u64()?,
        ))
    });
    told.collect()
}

/// What a place among those who wait for one lock or for permits is told of times.
fn times(body: &Value) -> Option<Times> {
    let holders = body["holders"].as_array()?.iter();
    let holders = holders.map(|holder| {
        let lease = holder["lease"].as_str()?.to_owned();
        Some((lease, holder["remaining_ms"].as_u64()?))
    });
    Some(Times {
        wait_ms: body["wait_remaining_ms"].as_u64()?,
        remaining_ms: body["remaining_ms"].as_u64()?,
        holders: holders.collect::<Option<_>>()?,
    })
}

/// What the gets of a transaction saw.
fn gets(body: &Value, replayed: bool) -> Vec<Option<Seen>> {
    let results = body["results"].as_array().map_or(&[][..], Vec::as_slice);
    let gets = results.iter().filter_map(|result| result.get("get"));
    gets.filter(|_| !replayed)
        .map(|get| seen(&get["entry"]))
        .collect()
}

fn send(client: &mut Client, ask: &Ask, manner: Manner) -> io::Result<Answer> {
    match ask {
        Ask::Put {
            key,
            value,
            only_if,
            absent,
            lease,
            guard,
            once,
        } => {
            let tag = only_if.map(|revision| format!("\"{revision}\""));
            let guard = guarded(guard);
            let mut headers = keyed(once, &guard);
            headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
            headers.extend(absent.then_some(("if-none-match", "*")));
            let lease = lease
                .as_ref()
                .map_or(String::new(), |id| format!("?lease={id}"));
            let path = format!("/v1/keys/{key}{lease}");
            client.call("PUT", &path, &headers, value.as_bytes())
        }
        Ask::Delete { key, guard, once } => {
            let path = format!("/v1/keys/{key}");
            client.call("DELETE", &path, &keyed(once, &guarded(guard)), b"")
        }
        Ask::DeletePrefix {
            prefix,
            guard,
            once,
        } => {
            let path = format!("/v1/keys?prefix={prefix}");
            client.call("DELETE", &path, &keyed(once, &guarded(guard)), b"")
        }
        Ask::Transact {
            when,
            then,
            otherwise,
            guard,
            once,
        } => {
            let operations = |all: &[Operation]| all.iter().map(operation).collect::<Vec<_>>();
            let body = json!({ "if": when.iter().map(condition).collect::<Vec<_>>(), "then": operations(then),
                "else": operations(otherwise) });
            post_once(client, "/v1/txn", &keyed(once, &guarded(guard)), &body)
        }
        Ask::Get { key, how } => client.get(&format!("/v1/keys/{key}?{}", query(*how))),
        Ask::List { prefix, how } => client.get(&format!(
            "/v1/keys?prefix={prefix}&limit=10000&{}",
            query(*how)
        )),
        Ask::Grant { ttl_ms, name, once } => {
            let body = json!({ "ttl_ms": ttl_ms, "name": name });
            post_once(client, "/v1/leases", &keyed(once, &None), &body)
        }
        Ask::Change { lease, ttl_ms } => {
            let body = json!({ "ttl_ms": ttl_ms });
            client.json("PATCH", &format!("/v1/leases/{lease}"), &body)
        }
        Ask::Renew { lease } => client.post(&format!("/v1/leases/{lease}/renew"), &Value::Null),
        Ask::Revoke { lease } => client.delete(&format!("/v1/leases/{lease}")),
        Ask::Acquire {
            resource,
            lease,
            owner,
            share,
            priority,
            lock_delay_ms,
        } => {
            let mut body = asker(lease, *priority, manner);
            if 0 < *lock_delay_ms {
                body.insert("lock_delay_ms".to_owned(), json!(lock_delay_ms));
            }
            if resource.starts_with("elections/") {
                body.insert("candidate".to_owned(), json!(owner));
                body.insert("value".to_owned(), json!(format!("of {owner}")));
            } else {
                body.insert("owner".to_owned(), json!(owner));
                body.extend(share_of(*share));
            }
            client.post(&format!("/v1/{resource}"), &Value::Object(body))
        }
        Ask::AcquireAll {
            locks,
            lease,
            owner,
            priority,
        } => {
            let mut body = asker(lease, *priority, manner);
            let locks = locks.iter().map(|(resource, share)| {
                let mut lock = share_of(*share);
                let name = resource.trim_start_matches("locks/");
                lock.insert("name".to_owned(), json!(name));
                Value::Object(lock)
            });
            body.insert("owner".to_owned(), json!(owner));
            body.insert("locks".to_owned(), locks.collect());
            client.post("/v1/locks", &Value::Object(body))
        }
        Ask::Leave {
            resource,
            lease,
            owner,
        } => {
            let field = owner_field(resource);
            client.delete(&format!("/v1/{resource}?lease={lease}&{field}={owner}"))
        }
        Ask::Release {
            resource,
            lease,
            owner,
            fence,
        } => {
            let field = owner_field(resource);
            client.delete(&format!(
                "/v1/{resource}?lease={lease}&fence={fence}&{field}={owner}"
            ))
        }
        Ask::Break {
            resource,
            fence,
            holder,
            now,
        } => {
            let field = owner_field(resource);
            let holder = holder.as_ref().map_or_else(String::new, |(lease, owner)| {
                format!("&lease={lease}&{field}={owner}")
            });
            client.delete(&format!(
                "/v1/{resource}?break=true&fence={fence}&now={now}&reason=campaign{holder}"
            ))
        }
        Ask::HandOver {
            resource,
            lease,
            owner,
            fence,
            to,
        } => {
            let body =
                json!({ "lease": lease, "candidate": owner, "fence": fence, "handover_to": to });
            client.json("PATCH", &format!("/v1/{resource}"), &body)
        }
        Ask::Proclaim {
            resource,
            lease,
            owner,
            fence,
            value,
        } => {
            let body =
                json!({ "lease": lease, "candidate": owner, "fence": fence, "value": value });
            client.json("PUT", &format!("/v1/{resource}"), &body)
        }
        Ask::Holder { resource } | Ask::Holders { resource } => {
            client.get(&format!("/v1/{resource}"))
        }
    }
}

/// The headers of a request that may be sent again, or is guarded.
fn keyed<'a>(once: &'a Option<String>, guard: &'a Option<String>) -> Vec<(&'a str, &'a str)> {
    let key = once.as_deref().map(|key| ("idempotency-key", key));
    let guard = guard.as_deref().map(|guard| ("tenure-guard", guard));
    key.into_iter().chain(guard).collect()
}

/// A guard as its header says it.
fn guarded(guard: &Option<Guard>) -> Option<String> {
    let Guard { resource, fence } = guard.as_ref()?;
    let (kind, name) = kind_and_name(resource);
    Some(format!("{kind}={name}; fence={fence}"))
}

/// The kind of a thing that can be held, in the words of guards and conditions, and its name, which needs no encoding.
fn kind_and_name(resource: &str) -> (&str, &str) {
    let (collection, name) = resource.split_once('/').expect("a resource has a name");
    (collection.trim_end_matches('s'), name)
}

fn post_once(
    client: &mut Client,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> io::Result<Answer> {
    let mut headers = headers.to_vec();
    headers.push(("content-type", "application/json"));
    client.call("POST", path, &headers, body.to_string().as_bytes())
}

/// What every acquire says.
fn asker(lease: &str, priority: i64, manner: Manner) -> Map<String, Value> {
    Map::from_iter([
        ("lease".to_owned(), json!(lease)),
        ("wait_ms".to_owned(), json!(manner.wait_ms)),
        ("poll_ms".to_owned(), json!(manner.poll_ms)),
        ("priority".to_owned(), json!(priority)),
    ])
}

/// How much of something is asked for.
fn share_of(share: Share) -> Map<String, Value> {
    match share {
        Share::Exclusive => Map::from_iter([("mode".to_owned(), json!("exclusive"))]),
        Share::Shared => Map::from_iter([("mode".to_owned(), json!("shared"))]),
        Share::Permits { permits, limit } => Map::from_iter([
            ("permits".to_owned(), json!(permits)),
            ("limit".to_owned(), json!(limit)),
        ]),
    }
}

fn query(how: How) -> String {
    match how {
        How::Linearizable => String::new(),
        How::Local => "consistency=local".to_owned(),
        How::At(revision) => format!("revision={revision}"),
        How::AtLeast(revision) => format!("min_revision={revision}&wait_ms=300"),
    }
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::Modified { key, revision } => {
            json!({ "key": key, "field": "mod_revision", "op": "=", "value": revision })
        }
        Condition::Value { key, value } => {
            json!({ "key": key, "field": "value", "op": "=", "value": value })
        }
        Condition::Held(Guard { resource, fence }) => {
            let (kind, name) = kind_and_name(resource);
            json!({ kind: name, "fence": fence })
        }
        Condition::Live { lease } => json!({ "lease": lease }),
    }
}

fn operation(operation: &Operation) -> Value {
    match operation {
        Operation::Put { key, value } => json!({ "put": { "key": key, "value": value } }),
        Operation::Delete { key } => json!({ "delete": { "key": key } }),
        Operation::DeletePrefix { prefix } => json!({ "delete": { "prefix": prefix } }),
        Operation::Get { key } => json!({ "get": { "key": key } }),
    }
}
