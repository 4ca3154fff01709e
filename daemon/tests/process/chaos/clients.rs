//! The clients of a run: writers, lock takers, watchers. Each notes what it asked, when, and what it was told.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tenure_oracle::{Ask, Belief, Call, How, Line, Moment, Reply, Revision, Seen, Share, Told};

use super::Run;
use crate::common::{Answer, Client, wait};

const KEYS: usize = 10;
const LOCKS: usize = 4;
/// Longer than the longest time in which a write is answered.
const WRITE_PATIENCE: Duration = Duration::from_secs(7);
const LEASE_TTL_MS: u64 = 2_000;
/// What a client does after it was refused.
const BREATHER: Duration = Duration::from_millis(30);

/// Chooses without a source of randomness: spread out, and the same in each run.
fn choose(id: usize, turn: usize, among: usize) -> usize {
    let mixed = (id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (turn as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    usize::try_from((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33)
        .unwrap_or_default()
        % among
}

/// Puts, conditional puts and reads of a few keys, half of the writers at one member each, half roaming.
pub(super) fn write(run: &Run<'_>, id: usize) {
    let mut clients: Vec<Client> = run
        .cluster
        .members
        .iter()
        .map(|member| member.client().with_patience(WRITE_PATIENCE))
        .collect();
    let mut known = [Revision(0); KEYS];
    for turn in 0.. {
        if run.stopped() {
            break;
        }
        let member = if id.is_multiple_of(2) {
            id / 2 % clients.len()
        } else {
            choose(id, turn, clients.len())
        };
        let number = choose(id, turn.wrapping_mul(7), KEYS);
        let ask = match choose(id, turn.wrapping_mul(13), 10) {
            0..3 => Ask::Get {
                key: format!("k{number}"),
                how: How::Linearizable,
            },
            kind => Ask::Put {
                key: format!("k{number}"),
                value: format!("{id}-{turn}"),
                only_if: (kind == 3 && known[number] > Revision(0)).then_some(known[number]),
                absent: false,
                lease: None,
                guard: None,
                once: None,
            },
        };
        let call = run.now();
        let answer = send(&mut clients[member], &ask);
        let ret = run.now();
        let told = answer.map_or(Told::Unknown, |answer| read(&ask, &answer));
        if let Told::Done { revision, .. } = &told {
            known[number] = *revision;
            run.writes.fetch_add(1, Ordering::SeqCst);
        } else if matches!(told, Told::Unknown | Told::Failed) {
            wait::pass(BREATHER, || run.stopped());
        }
        run.record(Line::Call(Call {
            client: id as u64,
            member,
            connection: 0,
            call: moment(call),
            ret: moment(ret),
            ask,
            told,
        }));
    }
}

/// A time of the run in the words of the oracle.
pub(super) fn moment(time: Duration) -> Moment {
    Moment(u64::try_from(time.as_nanos()).expect("a run ends within centuries"))
}

fn send(client: &mut Client, ask: &Ask) -> std::io::Result<Answer> {
    match ask {
        Ask::Put {
            key,
            value,
            only_if,
            ..
        } => {
            let tag = only_if.map(|revision| format!("\"{revision}\""));
            let headers: Vec<_> = tag
                .as_deref()
                .map(|tag| ("if-match", tag))
                .into_iter()
                .collect();
            client.call(
                "PUT",
                &format!("/v1/keys/{key}"),
                &headers,
                value.as_bytes(),
            )
        }
        Ask::Get { key, .. } => client.get(&format!("/v1/keys/{key}")),
        _ => unreachable!("writers put and get"),
    }
}

fn read(ask: &Ask, answer: &Answer) -> Told {
    let revision = || Revision(answer.revision());
    match (ask, answer.status) {
        (Ask::Get { key, .. }, 200) => {
            let modified = answer.header("tenure-mod-revision").unwrap_or_default();
            let seen = Seen {
                value: answer.text(),
                revision: Revision(modified.parse().expect("a key has a mod revision")),
            };
            Told::Read {
                revision: revision(),
                keys: BTreeMap::from([(key.clone(), seen)]),
            }
        }
        (Ask::Get { .. }, 404) => Told::Read {
            revision: revision(),
            keys: BTreeMap::new(),
        },
        (Ask::Put { .. }, 200 | 201) => Told::Done {
            revision: Revision(answer.u64("mod_revision")),
            replayed: false,
        },
        (Ask::Put { .. }, 412) => Told::Refused {
            revision: revision(),
            actual: answer.json()["mod_revision"].as_u64().map(Revision),
            replayed: false,
        },
        (_, 503) if answer.not_applied() => Told::Failed,
        (_, 504) => Told::Unknown,
        (_, status) => panic!(
            "an answer that no writer expects: {status} {}",
            answer.text()
        ),
    }
}

/// Takes locks, holds them for a moment and releases them, or lets one in four die with its lease.
pub(super) fn take(run: &Run<'_>, id: usize) {
    for turn in 0.. {
        if run.stopped() {
            break;
        }
        let member = choose(id, turn, run.cluster.members.len());
        let mut client = run.cluster.members[member]
            .client()
            .with_patience(WRITE_PATIENCE);
        let lock = format!("lock-{}", choose(id, turn.wrapping_mul(5), LOCKS));
        let Some(lease) = lease(&mut client) else {
            wait::pass(BREATHER, || run.stopped());
            continue;
        };
        let Some((from, until, fence)) = acquire(run, id, &lock, &lease, member) else {
            continue;
        };
        wait::pass(Duration::from_millis(choose(id, turn, 60) as u64), || false);
        let dies = turn % 4 == 3;
        // The hold is over, for this client, before it says so; or when its lease may be.
        let released = if dies { until } else { run.now().min(until) };
        run.holds.fetch_add(1, Ordering::SeqCst);
        run.record(Line::Belief(Belief {
            client: id as u64,
            resource: format!("locks/{lock}"),
            lease: lease.clone(),
            fence,
            from: moment(from),
            until: moment(released),
        }));
        if !dies {
            let _ = client.delete(&format!("/v1/locks/{lock}?lease={lease}&fence={fence}"));
            let _ = client.delete(&format!("/v1/leases/{lease}"));
        }
    }
}

fn lease(client: &mut Client) -> Option<String> {
    let answer = client
        .post("/v1/leases", &json!({ "ttl_ms": LEASE_TTL_MS }))
        .ok()?;
    (answer.status == 201).then(|| answer.str("lease"))
}

/// Asks until the lock is held or the lease has ended: when the grant was received, until when it may be believed
/// (`api.md` §1: counted from the moment before the request was sent, less a margin), and the fence.
fn acquire(
    run: &Run<'_>,
    id: usize,
    lock: &str,
    lease: &str,
    first: usize,
) -> Option<(Duration, Duration, u64)> {
    let body = json!({ "lease": lease, "wait_ms": 10_000, "poll_ms": 400 });
    let mut member = first;
    while !run.stopped() {
        let mut client = run.cluster.members[member]
            .client()
            .with_patience(WRITE_PATIENCE);
        let sent = run.now();
        let asked = client.post(&format!("/v1/locks/{lock}"), &body);
        run.record(Line::Call(Call {
            client: id as u64,
            member,
            connection: 0,
            call: moment(sent),
            ret: moment(run.now()),
            ask: Ask::Acquire {
                resource: format!("locks/{lock}"),
                lease: lease.to_owned(),
                owner: String::new(),
                share: Share::Exclusive,
                priority: 0,
                lock_delay_ms: 0,
            },
            told: asked.as_ref().map_or(Told::Unknown, told_of_acquire),
        }));
        match asked {
            Ok(answer) if answer.status == 200 => {
                let remaining = Duration::from_millis(answer.u64("remaining_ms")).mul_f64(0.98);
                let until = (sent + remaining).saturating_sub(Duration::from_millis(50));
                return Some((run.now(), until, answer.u64("fence")));
            }
            Ok(answer) if answer.status == 202 => {}
            Ok(answer) if [409, 410].contains(&answer.status) => return None,
            Ok(answer) => {
                assert!(
                    [503, 504].contains(&answer.status),
                    "no taker expects {}",
                    answer.text()
                );
                member = (member + 1) % run.cluster.members.len();
                wait::pass(BREATHER, || run.stopped());
            }
            Err(_) => {
                member = (member + 1) % run.cluster.members.len();
                wait::pass(BREATHER, || run.stopped());
            }
        }
    }
    None
}

fn told_of_acquire(answer: &Answer) -> Told {
    let reflects = answer.header("tenure-revision");
    let revision = reflects.and_then(|text| text.parse().ok()).map(Revision);
    match (answer.status, revision) {
        (200, Some(revision)) => Told::Held {
            revision,
            fence: answer.u64("fence"),
        },
        (202, Some(revision)) => Told::Queued {
            revision,
            times: None,
        },
        (410, Some(revision)) => Told::Refused {
            revision,
            actual: None,
            replayed: false,
        },
        (409, _) => Told::Failed,
        _ if answer.not_applied() => Told::Failed,
        _ => Told::Unknown,
    }
}

/// Watches everything from the first revision to the last: one watcher for each member, and one that roams.
pub(super) fn watch(run: &Run<'_>, id: usize) {
    const PREFIXES: [&str; 3] = ["keys/", "locks/", "leases/"];
    let members = run.cluster.members.len();
    let (mut after, mut turn) = (Revision(0), id);
    while run.end().is_none_or(|end| after < end) {
        let member = if id < members { id } else { turn % members };
        let selectors = PREFIXES.map(|prefix| format!("prefix={prefix}")).join("&");
        let path = format!("/v1/watch?{selectors}&after={after}&wait_ms=1000");
        match run.cluster.members[member].client().get(&path) {
            Ok(answer) if answer.status == 200 => {
                let answer = answer.json();
                let revision = answer["revision"].as_u64();
                let revision = Revision(revision.expect("an answer has a revision"));
                let events = serde_json::from_value(answer["events"].clone());
                run.record(Line::Reply(Reply {
                    watcher: id as u64,
                    archive: true,
                    member,
                    ret: moment(run.now()),
                    prefixes: PREFIXES.map(str::to_owned).to_vec(),
                    after,
                    revision,
                    events: events.expect("an answer has events"),
                    compacted: None,
                    previous: false,
                }));
                after = revision;
            }
            Ok(answer) => {
                assert_eq!(
                    answer.status,
                    503,
                    "a watch may only be refused for now: {}",
                    answer.text()
                );
                turn += 1;
                wait::pass(BREATHER, || false);
            }
            Err(_) => {
                turn += 1;
                wait::pass(BREATHER, || false);
            }
        }
    }
}
