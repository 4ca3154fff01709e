//! Inputs from which fuzzing begins: small ones, one for each thing that a target understands.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tenure_raft::{
    AppendResult, Body, Change, Configuration, Entry, LogIndex, LogPosition, MemberId, MemberInfo,
    Message, Payload, PeerState, PeerStatus, SnapshotFile, SnapshotMeta, Stamp, Term,
};
use tenure_replica::{
    AdminRequest, ForwardKind, ForwardedRequest, Introduction, Operated, PeerMessage,
    ProgressReport, Refused, TraceContext,
};
use tenure_state::{
    AccessChange, Acquire, Batch, Break, Claim, Command, Compare, Condition, Fence, Field, Guard,
    HandOver, IdempotencyKey, Identity, Kind, LeaseId, Limits, NewLease, Operation, Origin,
    Principal, Proclaim, Put, Quota, Release, Renewal, Request, Revision, RoleGrant, Share,
    TokenId, Transaction, Verb, Wanted, encode_batch,
};

use crate::storage::fuzzing::{backup_seeds, record_seeds, snapshot_seeds};
use crate::transport::{Form, encode};

/// Seeds by target; each has a name.
pub(super) type Seeds = BTreeMap<&'static str, Vec<(String, Vec<u8>)>>;

/// The seeds of every target.
pub(super) fn seeds() -> Seeds {
    BTreeMap::from([
        ("backup", numbered(backup_seeds())),
        ("config", texts(CONFIG)),
        ("hello", hello()),
        ("machine", machine()),
        ("peer", peer()),
        ("record", numbered(record_seeds())),
        ("rest", rest()),
        ("snapshot", numbered(snapshot_seeds())),
    ])
}

fn numbered(seeds: Vec<Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    let named = seeds.into_iter().enumerate();
    named
        .map(|(number, seed)| (format!("{number:02}"), seed))
        .collect()
}

fn texts(texts: &[&str]) -> Vec<(String, Vec<u8>)> {
    numbered(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

/// The member and the configuration that messages speak of.
pub(crate) fn meta(term: u64, index: u64) -> SnapshotMeta {
    let info = |name: &str| MemberInfo {
        name: name.to_owned(),
        peer_url: format!("http://{name}:7380"),
        client_url: format!("http://{name}:7379"),
        start: (name == "a").then_some(11),
    };
    let configuration = Configuration {
        voters: [MemberId(1), MemberId(2)].into(),
        outgoing: [MemberId(2)].into(),
        learners: [MemberId(3)].into(),
        promoting: [(MemberId(3), Some(MemberId(2)))].into(),
        removed: [MemberId(4)].into(),
        info: [(1, "a"), (2, "b"), (3, "c")]
            .map(|(id, name)| (MemberId(id), info(name)))
            .into(),
    };
    SnapshotMeta {
        position: position(term, index),
        stamp: Stamp(index * 10),
        configuration: Arc::new(configuration),
    }
}

fn position(term: u64, index: u64) -> LogPosition {
    LogPosition {
        term: Term(term),
        index: LogIndex(index),
    }
}

/// One entry of each kind, from `index` on.
pub(crate) fn entries(index: u64) -> Vec<Entry> {
    let command = encode_batch(&requests([grant(1, 5000)]));
    let payloads = [
        Payload::Empty,
        Payload::Command(command),
        Payload::Configuration(meta(1, 1).configuration),
    ];
    (index..)
        .zip(payloads)
        .map(|(index, payload)| Entry {
            index: LogIndex(index),
            term: Term(3),
            stamp: Stamp(index * 100),
            payload,
        })
        .collect()
}

fn peer() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for message in messages() {
        let mut framed = BytesMut::new();
        encode(&message, &mut framed).expect("a small message");
        // Kind and body of the frame, which was checked; and the frame as it comes over the wire.
        seeds.push([&[0], &framed[9..]].concat());
        seeds.push([&[7], &framed[..]].concat());
    }
    let mut all = vec![200];
    for message in messages() {
        let mut framed = BytesMut::new();
        encode(&message, &mut framed).expect("a small message");
        all.extend_from_slice(&framed);
    }
    seeds.push(all);
    numbered(seeds)
}

fn messages() -> Vec<PeerMessage> {
    let file = SnapshotFile {
        meta: meta(3, 40),
        size: 1000,
        digest: 1 << 100,
    };
    let accepted = AppendResult::Accepted {
        matched: LogIndex(7),
    };
    let rejected = AppendResult::Rejected {
        previous: LogIndex(9),
        hint: position(2, 5),
    };
    let bodies = [
        Body::PreVote {
            last: position(3, 9),
        },
        Body::PreVoteResponse { granted: true },
        Body::Vote {
            last: position(3, 9),
            transfer: true,
        },
        Body::VoteResponse { granted: true },
        Body::Append {
            previous: position(2, 7),
            entries: entries(8),
            commit: LogIndex(7),
            round: 5,
        },
        Body::AppendResponse {
            result: accepted,
            round: 5,
        },
        Body::AppendResponse {
            result: rejected,
            round: 6,
        },
        Body::Heartbeat {
            commit: LogIndex(7),
            round: 8,
        },
        Body::HeartbeatResponse { round: 8 },
        Body::ReadIndex { batch: 4 },
        Body::ReadIndexResponse {
            batch: 4,
            index: LogIndex(7),
            stamp: Stamp(70),
        },
        Body::ReadIndexRefused { batch: 4 },
        Body::Snapshot {
            file: file.clone(),
            offset: 100,
            data: Bytes::from_static(b"a piece"),
            round: 9,
        },
        Body::SnapshotResponse {
            position: file.meta.position,
            digest: file.digest,
            stored: 107,
            round: 9,
        },
        Body::TimeoutNow,
    ];
    let raft = bodies.map(|body| {
        PeerMessage::Raft(Message {
            from: MemberId(1),
            to: MemberId(2),
            term: Term(3),
            body,
        })
    });
    let others = [
        PeerMessage::Forward(vec![ForwardedRequest {
            token: 5,
            kind: ForwardKind::Command,
            request: Bytes::from_static(b"\x01request"),
            trace: Some(TraceContext {
                trace: [1; 16],
                span: [2; 8],
                flags: 1,
            }),
        }]),
        PeerMessage::Refused {
            tokens: vec![5, 6],
            reason: Refused::NoLeader,
        },
        PeerMessage::Operate {
            token: 8,
            operation: AdminRequest::Admit {
                change: Change::Replace {
                    old: MemberId(2),
                    id: MemberId(5),
                    info: meta(1, 1).configuration.info[&MemberId(2)].clone(),
                },
                follows: 2,
            },
        },
        PeerMessage::Operate {
            token: 9,
            operation: AdminRequest::Transfer(None),
        },
        PeerMessage::Operated {
            token: 8,
            result: Operated::Unsafe("of 2 members 1 answers".to_owned()),
        },
        PeerMessage::Introduce(Introduction {
            start: 12,
            known: vec![11, 12],
            client_url: "http://b:7379".to_owned(),
            peer_url: Some("http://b:7380".to_owned()),
        }),
        PeerMessage::WentBack { logged: 13 },
        PeerMessage::AskVersion { round: 14 },
        PeerMessage::CanFollow(tenure_replica::CanFollow {
            round: 14,
            start: 15,
            version: 2,
        }),
        PeerMessage::Digest {
            index: LogIndex(4096),
            digest: 1 << 90,
        },
        PeerMessage::Agreed {
            index: LogIndex(4096),
            digest: 3,
        },
        PeerMessage::AskProgress { token: 7 },
        PeerMessage::Progress {
            token: 7,
            report: ProgressReport {
                leader: MemberId(1),
                term: Term(3),
                commit: LogIndex(9),
                last: LogIndex(10),
                peers: vec![PeerStatus {
                    id: MemberId(2),
                    state: PeerState::Replicate,
                    matched: LogIndex(9),
                    silent_for: Some(std::time::Duration::from_micros(5)),
                    round_trip: None,
                    transferred: None,
                }],
                versions: vec![(MemberId(2), 1)],
            },
        },
    ];
    raft.into_iter().chain(others).collect()
}

const HANDSHAKE: &str = "tenure-cluster: 00000000000000000000000000000009\n\
    tenure-from: 00000000000000a1\n\
    tenure-to: 00000000000000b2\n\
    tenure-wire-version: 1\n\n";

fn hello() -> Vec<(String, Vec<u8>)> {
    let cluster: crate::transport::ClusterId =
        "00000000000000000000000000000009".parse().expect("an id");
    let configuration = Configuration {
        voters: [MemberId(1), MemberId(2), MemberId(3)].into(),
        info: meta(1, 1).configuration.info.clone(),
        ..Configuration::default()
    };
    let form = Form::new(
        cluster,
        &configuration,
        &Limits::default(),
        (None, tenure_state::STATE_VERSION),
    );
    let form = serde_json::to_string(&form).expect("it has a form in JSON");
    let bodies = [
        "",
        r#"{"wire_version":1,"name":"n1","member":"00000000000000a1","client_url":"http://a:1","cluster":null,"initial_members":{"n1":"http://a:2","n2":"http://b:2"},"known_names":{}}"#,
        r#"{"wire_version":1,"name":"n1","member":"00000000000000a1","client_url":"","cluster":"00000000000000000000000000000009","initial_members":null,"known_names":{"n1":"00000000000000a1"}}"#,
        r#"{"wire_version":1,"name":"a\nb","member":"00000000000000a1","client_url":"","cluster":null,"initial_members":null,"known_names":{}}"#,
        r#"{"code":"wrong-cluster","detail":"belongs to another"}"#,
        &form,
        &form.replace(
            "00000000000000000000000000000009",
            "00000000000000000000000000000000",
        ),
        &form.replace("0000000000000002", "0000000000000001"),
        &form.replacen("value_bytes\":", "value_bytes\":9", 1),
        "{\"code\":\"a\\u0007\",\"detail\":\"\"}",
    ];
    let texts = bodies.iter().enumerate().map(|(number, body)| {
        let head = match number % 3 {
            0 => HANDSHAKE.to_owned(),
            1 => HANDSHAKE.replace("a1", "a2"),
            _ => "tenure-wire-version: 2\n\n".to_owned(),
        };
        format!("{head}{body}").into_bytes()
    });
    numbered(texts.collect())
}

fn lease(number: u64) -> LeaseId {
    LeaseId::new(number).expect("positive")
}

fn new_lease(number: u64, ttl_ms: u64) -> NewLease {
    NewLease {
        lease: lease(number),
        ttl_ms,
        name: "w".to_owned(),
        metadata: [("host".to_owned(), "h".to_owned())].into(),
    }
}

fn grant(number: u64, ttl_ms: u64) -> Command {
    Command::GrantLease(new_lease(number, ttl_ms))
}

/// A role, an identity with it and a token, and access control on.
fn guarded() -> Vec<Command> {
    let changes = vec![
        AccessChange::PutRole {
            name: "all".to_owned(),
            grants: vec![RoleGrant {
                verbs: [Verb::Admin].into(),
                resource: String::new(),
                exact: false,
            }],
        },
        AccessChange::PutIdentity {
            name: "ci".to_owned(),
            identity: Identity {
                roles: vec!["all".to_owned()],
                certificate: Some("ci.example".to_owned()),
                quota: Quota {
                    leases: Some(1),
                    ..Quota::default()
                },
            },
        },
        AccessChange::CreateToken {
            id: TokenId(7),
            identity: "ci".to_owned(),
            hash: [9; 32],
            expires_unix_ms: Some(5),
            now_unix_ms: 4,
        },
        AccessChange::Enable { enabled: true },
    ];
    changes.into_iter().map(Command::ChangeAccess).collect()
}

fn requests(commands: impl IntoIterator<Item = Command>) -> Batch {
    let request = |command| Request {
        origin: Origin {
            member: 1,
            token: 1,
        },
        principal: Principal::anonymous(),
        idempotency: None,
        command,
    };
    Batch {
        renewals: Vec::new(),
        requests: commands.into_iter().map(request).collect(),
    }
}

fn acquire(kind: Kind, name: &str, number: u64, wait_ms: u64) -> Command {
    let share = match kind {
        Kind::Semaphore => Share::Permits {
            permits: 2,
            limit: 3,
        },
        _ => Share::Exclusive,
    };
    Command::Acquire(Acquire {
        kind,
        wanted: vec![Wanted {
            name: name.to_owned(),
            share,
        }],
        claim: Claim::Lease(lease(number)),
        owner: "o".to_owned(),
        wait_ms,
        priority: 1,
        metadata: BTreeMap::new(),
        lock_delay_ms: 100,
        value: if kind == Kind::Election { "v" } else { "" }.to_owned(),
    })
}

fn put(key: &'static str, hangs_on: Option<u64>) -> Operation {
    Operation::Put(Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        content_type: Some("text/plain".to_owned()),
        lease: hangs_on.map(lease),
        refuse_other_lease: hangs_on.is_some(),
    })
}

fn transaction(conditions: Vec<Condition>, then: Vec<Operation>, guard: Option<Guard>) -> Command {
    let key = Bytes::from_static(b"k");
    Command::Transaction(Transaction {
        conditions,
        then,
        otherwise: vec![Operation::Get { key }],
        guard,
    })
}

/// Entries as the target takes them: an advance of the clock, a length, an entry.
fn told(entries: &[(u16, Batch)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (advance, batch) in entries {
        let entry = encode_batch(batch);
        let length = u16::try_from(entry.len()).expect("a small entry");
        bytes.extend_from_slice(&advance.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&entry);
    }
    bytes
}

fn machine() -> Vec<(String, Vec<u8>)> {
    let leases = || {
        (
            10,
            requests([grant(1, 2000), grant(2, 4000), grant(3, 1000)]),
        )
    };
    let renewal = Batch {
        renewals: [1, 2, 9]
            .map(|number| Renewal {
                origin: Origin {
                    member: 1,
                    token: number,
                },
                principal: Principal::anonymous(),
                lease: lease(number),
            })
            .into(),
        requests: Vec::new(),
    };
    let key = || Bytes::from_static(b"k");
    let condition = |field| Condition::Key {
        key: key(),
        field,
        compare: Compare::Equal,
    };
    let guard = |fence| Guard {
        kind: Kind::Lock,
        name: "a".to_owned(),
        fence: Fence(fence),
    };
    let release = |fence: Option<u64>| {
        Command::Release(Release {
            kind: Kind::Lock,
            name: "a".to_owned(),
            lease: lease(1),
            owner: "o".to_owned(),
            fence: fence.map(Fence),
        })
    };
    let of_ci = |commands: Vec<Command>| {
        let mut batch = requests(commands);
        for request in &mut batch.requests {
            request.principal = Principal::of("ci", Some(TokenId(7)));
        }
        batch
    };
    let mut keyed = requests([transaction(vec![], vec![put("k", None)], None)]);
    keyed.requests[0].idempotency = Some(IdempotencyKey {
        identity: "anonymous".to_owned(),
        key: "once".to_owned(),
        digest: 7,
    });
    let mut stories: Vec<Vec<(u16, Batch)>> = vec![
        vec![leases(), (500, renewal), (0x8002, Batch::default())],
        vec![
            leases(),
            (0, requests([Command::RevokeLease { lease: lease(1) }])),
        ],
        vec![
            leases(),
            (
                1,
                requests([Command::ChangeLease {
                    lease: lease(1),
                    ttl_ms: 9000,
                }]),
            ),
        ],
        vec![
            leases(),
            (
                1,
                requests([transaction(
                    vec![condition(Field::Version(0))],
                    vec![put("k", Some(1)), put("k2", None)],
                    None,
                )]),
            ),
            (0x8003, Batch::default()),
            (
                1,
                requests([transaction(
                    vec![
                        condition(Field::Lease(None)),
                        Condition::LeaseLive(lease(2)),
                    ],
                    vec![
                        Operation::Get { key: key() },
                        Operation::DeleteRange {
                            start: Bytes::new(),
                            end: None,
                        },
                    ],
                    None,
                )]),
            ),
        ],
        vec![
            leases(),
            (1, requests([acquire(Kind::Lock, "a", 1, 0)])),
            (
                1,
                requests([transaction(
                    vec![Condition::Held(guard(5)), condition(Field::Value(key()))],
                    vec![put("k", None), Operation::Delete { key: key() }],
                    Some(guard(5)),
                )]),
            ),
        ],
        vec![(1, keyed.clone()), (1, keyed)],
        vec![
            (1, requests(guarded())),
            (1, of_ci(vec![grant(1, 2000), grant(2, 2000)])),
            (
                1,
                of_ci(vec![transaction(vec![], vec![put("k", Some(1))], None)]),
            ),
            (
                1,
                of_ci(vec![
                    Command::ChangeAccess(AccessChange::DeleteToken { id: TokenId(7) }),
                    Command::ChangeAccess(AccessChange::DeleteIdentity {
                        name: "ci".to_owned(),
                    }),
                    Command::ChangeAccess(AccessChange::DeleteRole {
                        name: "all".to_owned(),
                    }),
                ]),
            ),
        ],
        vec![
            (
                1,
                requests([transaction(vec![], vec![put("k", None)], None)]),
            ),
            (
                1,
                requests([Command::Compact {
                    revision: Revision(2),
                }]),
            ),
            (
                1,
                requests([Command::ChangeLimits([("keys".to_owned(), 1)].into())]),
            ),
        ],
        vec![
            leases(),
            (
                1,
                requests([
                    acquire(Kind::Lock, "a", 1, 0),
                    acquire(Kind::Lock, "a", 2, 3000),
                ]),
            ),
            (1, requests([release(None), release(Some(5))])),
            (0x8005, Batch::default()),
        ],
        vec![
            leases(),
            (
                1,
                requests([
                    acquire(Kind::Election, "e", 1, 0),
                    acquire(Kind::Election, "e", 2, 3000),
                ]),
            ),
            (
                1,
                requests([
                    Command::Proclaim(Proclaim {
                        name: "e".to_owned(),
                        lease: lease(1),
                        candidate: "o".to_owned(),
                        fence: Fence(5),
                        value: "w".to_owned(),
                    }),
                    Command::HandOver(HandOver {
                        name: "e".to_owned(),
                        lease: lease(1),
                        candidate: "o".to_owned(),
                        fence: Fence(5),
                        to: "o".to_owned(),
                    }),
                ]),
            ),
        ],
        vec![
            leases(),
            (1, requests([acquire(Kind::Lock, "a", 1, 0)])),
            (
                1,
                requests([Command::Break(Break {
                    kind: Kind::Lock,
                    name: "a".to_owned(),
                    fence: Fence(5),
                    holder: Some((lease(1), "o".to_owned())),
                    now: false,
                })]),
            ),
            (1, requests([acquire(Kind::Lock, "a", 2, 1000)])),
        ],
    ];
    for kind in [Kind::Lock, Kind::Semaphore, Kind::Election] {
        stories.push(vec![
            leases(),
            (
                1,
                requests((1..=3).map(|number| acquire(kind, "a", number, 2000))),
            ),
            (0x8001, Batch::default()),
            (0x8001, Batch::default()),
            (0x8001, Batch::default()),
        ]);
    }
    numbered(stories.iter().map(|story| told(story)).collect())
}

/// Settings as flags, a line of dashes, and a file.
const CONFIG: &[&str] = &[
    "--data-dir=d\n",
    "--data-dir=d\n--name=n1\n--initial-member=n1=http://a:1\n--initial-member=n2=http://b:1\n",
    "--data-dir=d\n--limit=keys=100\n--limit=value_bytes=2000\n---\n[limits]\nkeys = 5\n",
    "---\nname = \"n1\"\ndata_dir = \"/var/lib/tenure\"\nclient_listen = \"[::1]:7379\"\npeer_listen = \"10.0.0.1:7380\"\nlog_format = \"json\"\n\n[cluster.initial_members]\nn1 = \"http://10.0.0.1:7380\"\nn2 = \"http://10.0.0.2:7380/\"\n",
    "--client-listen=0.0.0.0:1\n--data-dir=d\n",
    "--client-listen=0.0.0.0:1\n--client-advertise=http://host:1/\n--data-dir=d\n--client-host=a,b.c,[::1]\n",
    "--heartbeat-interval-ms=100\n--election-timeout-ms=299\n--data-dir=d\n",
    "--heartbeat-interval-ms=100\n--election-timeout-ms=300\n--data-dir=d\n--max-waits=1\n--max-connections=1000000\n",
    "--data-dir=d\n--log-filter=tenured=debug\n--log-format=json\n--name=a\n",
    "--data-dir=d\n---\nmax_waits = 0\n",
    "---\ndata_dir = 5\n",
    "---\nunknown = true\n",
    "--data-dir=d\n---\nheartbeat_interval_ms = 50\nelection_timeout_ms = 60001\n",
    "--data-dir=d\n--client-advertise=https://a:1\n",
    "--data-dir=d\n--peer-advertise=http://u@a:1\n",
    "--data-dir=d\n--limit=history_bytes\n",
    "--data-dir=d\n--limit=nothing=1\n",
    "--data-dir=d\n--initial-member=n1\n",
    "",
    "--data-dir=d\n--name=n1\n--initial-member=n1=https://a:1\n--peer-ca-file=a\n---\npeer_cert_file = \"c\"\npeer_key_file = \"k\"\npeer_crl_file = \"r\"\n",
    "--data-dir=d\n--client-cert-file=c\n--client-key-file=k\n--client-advertise=http://a:1\n",
    "--data-dir=d\n--client-cert-file=c\n--client-key-file=k\n--client-ca-file=a\n--client-cert-cn\n--client-hosts=x\n",
    "--data-dir=d\n--name=n4\n--join=http://a:1\n--join-token-file=t\n",
];

fn rest() -> Vec<(String, Vec<u8>)> {
    let asked: Vec<Vec<u8>> = REST
        .iter()
        .map(|requests| requests.join("\u{1}").into_bytes())
        .map(|text| {
            let end = |byte| if byte == 1 { 0xff } else { byte };
            text.into_iter().map(end).collect()
        })
        .collect();
    numbered(asked)
}

const REST: &[&[&str]] = &[
    &[
        "GET /v1/keys/a",
        "HEAD /v1/keys/a\nif-none-match: \"11\"",
        "GET /v1/keys/a?entry=true",
    ],
    &[
        "PUT /v1/keys/b?lease=0000000000000001\ncontent-type: text/plain\n\nvalue",
        "GET /v1/keys/b",
    ],
    &[
        "PUT /v1/keys/b\nif-none-match: *\n\nx",
        "PUT /v1/keys/b\nif-none-match: *\n\nx",
    ],
    &["DELETE /v1/keys/a\nif-match: \"11\"", "DELETE /v1/keys/a"],
    &[
        "GET /v1/keys?prefix=a&limit=1&order=desc&keys_only=true",
        "GET /v1/keys?start=a&end=b&start_after=a&revision=3",
    ],
    &[
        "DELETE /v1/keys?prefix=&all=true",
        "DELETE /v1/keys?prefix=a",
    ],
    &[
        "GET /v1/keys?name=a%2F1&consistency=local&min_revision=2",
        "GET /v1/keys/a?after=11&wait_ms=1000",
    ],
    &[
        "POST /v1/leases\ncontent-type: application/json\n\n{\"ttl_ms\":5000,\"name\":\"w\",\"metadata\":{\"a\":\"b\"}}",
        "GET /v1/leases?limit=2",
    ],
    &[
        "POST /v1/leases/0000000000000001/renew",
        "GET /v1/leases/0000000000000001",
        "DELETE /v1/leases/0000000000000001",
    ],
    &[
        "POST /v1/leases/renew\ncontent-type: application/json\n\n{\"leases\":[\"0000000000000001\",\"0000000000000009\"]}",
    ],
    &[
        "PATCH /v1/leases/0000000000000002\ncontent-type: application/json\n\n{\"ttl_ms\":90000}",
        "GET /v1/leases/0000000000000001?after=1&wait_ms=30000",
    ],
    &[
        "POST /v1/locks/b\ncontent-type: application/json\n\n{\"lease\":\"0000000000000001\",\"owner\":\"o\",\"wait_ms\":0}",
        "DELETE /v1/locks/b?lease=0000000000000001&owner=o&fence=13",
    ],
    &[
        "POST /v1/locks/a\ncontent-type: application/json\n\n{\"ttl_ms\":5000,\"wait_ms\":100000,\"poll_ms\":60000,\"priority\":5,\"mode\":\"shared\"}",
        "GET /v1/locks/a",
    ],
    &[
        "POST /v1/locks\ncontent-type: application/json\n\n{\"locks\":[{\"name\":\"x\"},{\"name\":\"y\"}],\"lease\":\"0000000000000001\"}",
        "GET /v1/locks?prefix=&limit=1",
    ],
    &[
        "DELETE /v1/locks/a?lease=0000000000000001&fence=5",
        "GET /v1/locks/a?after=5&wait_ms=50",
    ],
    &[
        "DELETE /v1/locks/a?fence=5&break=true&now=true&reason=stuck",
        "DELETE /v1/semaphores/a?lease=0000000000000002",
    ],
    &[
        "POST /v1/semaphores/a\ncontent-type: application/json\n\n{\"lease\":\"0000000000000003\",\"permits\":1,\"limit\":3}",
        "GET /v1/semaphores/a",
        "GET /v1/semaphores",
    ],
    &[
        "POST /v1/elections/a\ncontent-type: application/json\n\n{\"lease\":\"0000000000000003\",\"candidate\":\"c\",\"value\":\"v\",\"wait_ms\":1000}",
        "GET /v1/elections/a",
    ],
    &[
        "PUT /v1/elections/a\ncontent-type: application/json\n\n{\"lease\":\"0000000000000001\",\"candidate\":\"\",\"fence\":7,\"value\":\"w\"}",
    ],
    &[
        "PATCH /v1/elections/a\ncontent-type: application/json\n\n{\"lease\":\"0000000000000001\",\"candidate\":\"\",\"fence\":7,\"handover_to\":\"\"}",
    ],
    &[
        "POST /v1/txn\ncontent-type: application/json\n\n{\"if\":[{\"key\":\"a\",\"field\":\"version\",\"op\":\"=\",\"value\":1},{\"lock\":\"a\",\"fence\":5},{\"lease\":\"0000000000000001\"}],\"then\":[{\"put\":{\"key\":\"b\",\"value\":\"eA==\",\"encoding\":\"base64\",\"lease\":\"0000000000000002\"}},{\"get\":{\"key\":\"a\"}},{\"delete\":{\"prefix\":\"a/\"}}],\"else\":[{\"get\":{\"key\":\"b\"}}]}",
    ],
    &[
        "POST /v1/txn\nidempotency-key: once\ncontent-type: application/json\n\n{\"then\":[{\"put\":{\"key\":\"c\",\"value\":\"v\"}}]}",
        "POST /v1/txn\nidempotency-key: once\ncontent-type: application/json\n\n{\"then\":[{\"put\":{\"key\":\"c\",\"value\":\"v\"}}]}",
        "PUT /v1/keys/c\nidempotency-key: once\n\nv",
    ],
    &["PUT /v1/keys/g\ntenure-guard: lock=a; fence=5\n\nv"],
    &[
        "GET /v1/watch?prefix=keys/&resource=locks/a&after=1&previous=true",
        "POST /v1/watch\ncontent-type: application/json\n\n{\"prefixes\":[\"keys/a\"],\"resources\":[\"leases/0000000000000001\"],\"snapshot\":true}",
    ],
    &[
        "GET /v1/watch?prefix=leases/&wait_ms=30000",
        "GET /v1/watch?prefix=locks/&wait_ms=30000&after=99",
    ],
    &[
        "GET /v1/watch?prefix=keys/&snapshot=true\naccept: text/event-stream",
        "GET /v1/watch?prefix=keys/\naccept: text/event-stream\nlast-event-id: 3",
    ],
    &[
        "PUT /v1/roles/admin\ncontent-type: application/json\n\n{\"grants\":[{\"verbs\":[\"admin\"],\"resource\":\"\"}]}",
        "PUT /v1/identities/root\ncontent-type: application/json\n\n{\"roles\":[\"admin\"],\"certificate\":\"spiffe://a/b\",\"quota\":{\"leases\":3}}",
        "POST /v1/tokens\ncontent-type: application/json\n\n{\"identity\":\"root\",\"expires_in_ms\":60000}",
        "PATCH /v1/access\ncontent-type: application/json\n\n{\"enabled\":true}",
        "GET /v1/whoami\nauthorization: Bearer 00000000000000a1.000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "GET /v1/keys/a",
        "GET /livez",
    ],
    &[
        "PUT /v1/roles/a%2Fb\ncontent-type: application/json\n\n{\"grants\":[{\"verbs\":[\"read\",\"list\"],\"resource\":\"keys/a\",\"match\":\"exact\"}]}",
        "GET /v1/roles?limit=1",
        "GET /v1/roles/a%2Fb",
        "DELETE /v1/roles/a%2Fb",
        "GET /v1/identities?start_after=a",
        "GET /v1/tokens?limit=2",
        "DELETE /v1/tokens/00000000000000a1",
        "GET /v1/access",
    ],
    &[
        "GET /v1/limits",
        "PATCH /v1/limits\ncontent-type: application/json\n\n{\"keys\":100}",
        "PATCH /v1/limits\ncontent-type: application/json\n\n{\"keys\":0}",
        "PATCH /v1/status\ncontent-type: application/json\n\n{\"log_filter\":\"warn,tenured::http=debug\"}",
    ],
    &[
        "POST /v1/compact\ncontent-type: application/json\n\n{\"revision\":5}",
        "GET /v1/keys/a?revision=3",
    ],
    &[
        "GET /v1/status",
        "GET /v1/cluster",
        "GET /livez",
        "GET /readyz",
        "GET /v1/openapi.json\naccept: application/json",
    ],
    &[
        "OPTIONS /v1/keys/a",
        "PUT /livez",
        "GET /nowhere",
        "GET *",
        "GET /v1/keys/%00",
        "GET /v1/keys/a?b=c",
    ],
    &[
        "GET /v1/keys/a\nhost: elsewhere",
        "GET /v1/keys/a\ntenure-cluster: 00000000000000000000000000000009\ntenure-request-id: abc",
    ],
    &[
        "POST /v1/leases\nexpect: 100-continue\ncontent-type: text/plain\n\n{}",
        "POST /v1/leases\ncontent-type: application/json\n\n{\"ttl_ms\":\"x\"}",
        "POST /v1/leases\ncontent-type: application/json\n\n[[",
    ],
];
