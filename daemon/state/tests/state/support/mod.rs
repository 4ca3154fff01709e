//! Entries at random, over few names so that they meet one another.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_state::*;

pub(crate) fn lease(number: u64) -> LeaseId {
    LeaseId::new(number).expect("it is positive")
}

pub(crate) fn request(command: Command) -> Request {
    Request {
        origin: Origin {
            member: 1,
            token: 1,
        },
        principal: Principal::anonymous(),
        idempotency: None,
        command,
    }
}

pub(crate) fn requests(commands: impl IntoIterator<Item = Command>) -> Batch {
    Batch {
        renewals: Vec::new(),
        requests: commands.into_iter().map(request).collect(),
    }
}

pub(crate) fn renewals(leases: &[u64]) -> Batch {
    let origin = Origin {
        member: 1,
        token: 1,
    };
    Batch {
        renewals: leases
            .iter()
            .map(|id| Renewal {
                origin,
                principal: Principal::anonymous(),
                lease: lease(*id),
            })
            .collect(),
        requests: Vec::new(),
    }
}

pub(crate) fn new_lease(id: u64, ttl_ms: u64) -> NewLease {
    NewLease {
        lease: lease(id),
        ttl_ms,
        name: format!("w{id}"),
        metadata: BTreeMap::new(),
    }
}

pub(crate) fn grant(id: u64, ttl_ms: u64) -> Command {
    Command::GrantLease(new_lease(id, ttl_ms))
}

pub(crate) fn acquire(name: &str, id: u64, wait_ms: u64) -> Acquire {
    Acquire {
        kind: Kind::Lock,
        wanted: vec![Wanted {
            name: name.to_owned(),
            share: Share::Exclusive,
        }],
        claim: Claim::Lease(lease(id)),
        owner: String::new(),
        wait_ms,
        priority: 0,
        metadata: BTreeMap::new(),
        lock_delay_ms: 0,
        value: String::new(),
    }
}

pub(crate) fn release(name: &str, id: u64, fence: Option<u64>) -> Command {
    Command::Release(Release {
        kind: Kind::Lock,
        name: name.to_owned(),
        lease: lease(id),
        owner: String::new(),
        fence: fence.map(Fence),
    })
}

pub(crate) fn put(key: &str, value: &str, id: Option<u64>) -> Command {
    transaction(vec![Operation::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        content_type: None,
        lease: id.map(lease),
        refuse_other_lease: false,
    })])
}

pub(crate) fn delete(key: &str) -> Command {
    transaction(vec![Operation::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
    }])
}

pub(crate) fn transaction(then: Vec<Operation>) -> Command {
    Command::Transaction(Transaction {
        then,
        ..Transaction::default()
    })
}

pub(crate) fn everything() -> Vec<Selector> {
    use Collection::{Elections, Keys, Leases, Locks, Semaphores};
    let all = |collection| {
        Selector::Prefix(Resource {
            collection,
            name: Bytes::new(),
        })
    };
    [Elections, Keys, Leases, Locks, Semaphores]
        .map(all)
        .to_vec()
}

/// Sometimes repeats an earlier request word for word, and points fences at what is held; a new request's digest is of
/// what became of it.
pub(crate) fn arrange(
    state: &State,
    batch: &mut Batch,
    repeat: &Option<prop::sample::Index>,
    sent: &mut Vec<Request>,
) {
    for request in &mut batch.requests {
        aim(state, &mut request.command);
        if let Some(key) = &mut request.idempotency {
            key.digest = digest_of(&request.command);
            sent.push(request.clone());
        }
    }
    if let Some(index) = repeat.filter(|_| !sent.is_empty()) {
        batch.requests.push(sent[index.index(sent.len())].clone());
    }
}

/// Applies one entry and returns its only outcome.
pub(crate) fn apply_one(state: &mut State, stamp: u64, command: Command) -> Outcome {
    let applied = state.apply(Clock(stamp), &requests([command]));
    state.check_invariants();
    applied
        .outcomes
        .into_iter()
        .next()
        .expect("one request has one outcome")
        .outcome
}

pub(crate) fn rows_of(state: &State) -> BTreeMap<(Table, Bytes), Bytes> {
    state
        .rows()
        .map(|row| ((row.table, row.key), row.value))
        .collect()
}

pub(crate) fn reload(state: &State) -> State {
    State::from_rows(state.rows()).expect("its own rows load")
}

fn some_key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "a/b", "a/c", "b", "c/d/e"])
        .prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn some_lease() -> impl Strategy<Value = LeaseId> {
    (1u64..6).prop_map(lease)
}

fn new_leases() -> impl Strategy<Value = NewLease> {
    (
        (1u64..6),
        prop::sample::select(vec![1000u64, 1500, 4000, 999]),
        0usize..3,
    )
        .prop_map(|(id, ttl_ms, name)| NewLease {
            lease: lease(id),
            ttl_ms,
            name: ["", "n", "m"][name].to_owned(),
            metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        })
}

fn kind_and_share() -> impl Strategy<Value = (Kind, Share)> {
    prop_oneof![
        4 => Just((Kind::Lock, Share::Exclusive)),
        2 => Just((Kind::Lock, Share::Shared)),
        1 => Just((Kind::Election, Share::Exclusive)),
        2 => (1u64..3, 2u64..4).prop_map(|(permits, limit)| (Kind::Semaphore, Share::Permits { permits, limit })),
    ]
}

fn names(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        1 => prop::sample::select(vec!["x", "y", "z"]).prop_map(|name| vec![name.to_owned()]),
        1 => prop::sample::subsequence(vec!["x".to_owned(), "y".to_owned(), "z".to_owned()], 1..=most),
    ]
}

pub(crate) fn acquires(most_names: usize) -> impl Strategy<Value = Acquire> {
    let claim = prop_oneof![5 => some_lease().prop_map(Claim::Lease), 1 => new_leases().prop_map(Claim::Grant)];
    let wait = prop::sample::select(vec![0u64, 700, 2500, 60_000]);
    let owner = prop::sample::select(vec!["", "o"]);
    let delay = prop::sample::select(vec![0u64, 0, 800, 2500]);
    (
        kind_and_share(),
        names(most_names),
        claim,
        owner,
        wait,
        -1i32..2,
        delay,
    )
        .prop_map(
            |((kind, share), names, claim, owner, wait_ms, priority, lock_delay_ms)| Acquire {
                kind,
                wanted: names
                    .into_iter()
                    .map(|name| Wanted { name, share })
                    .collect(),
                claim,
                owner: owner.to_owned(),
                wait_ms,
                priority,
                metadata: BTreeMap::new(),
                lock_delay_ms,
                value: String::new(),
            },
        )
}

pub(crate) fn releases() -> impl Strategy<Value = Command> {
    let kinds = prop::sample::select(vec![
        Kind::Lock,
        Kind::Lock,
        Kind::Semaphore,
        Kind::Election,
    ]);
    let names = prop::sample::select(vec!["x", "y", "z"]);
    (
        kinds,
        names,
        some_lease(),
        prop::sample::select(vec!["", "o"]),
        prop::option::of(2u64..60),
    )
        .prop_map(|(kind, name, lease, owner, fence)| {
            let (name, owner, fence) = (name.to_owned(), owner.to_owned(), fence.map(Fence));
            Command::Release(Release {
                kind,
                name,
                lease,
                owner,
                fence,
            })
        })
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (some_key(), "[a-c]{0,3}", prop::option::of(some_lease()), any::<bool>()).prop_map(
            |(key, value, lease, refuse_other_lease)| Operation::Put(Put {
                key, value: value.into(), content_type: None, lease, refuse_other_lease,
            })
        ),
        1 => some_key().prop_map(|key| Operation::Delete { key }),
        1 => some_key().prop_map(|key| Operation::DeleteRange { end: prefix_end(&key), start: key }),
        1 => some_key().prop_map(|key| Operation::Get { key }),
    ]
}

fn conditions() -> impl Strategy<Value = Condition> {
    let compare = prop::sample::select(vec![
        Compare::Equal,
        Compare::NotEqual,
        Compare::Less,
        Compare::Greater,
    ]);
    let field = prop_oneof![
        (0u64..40).prop_map(Field::ModRevision),
        (0u64..40).prop_map(Field::CreateRevision),
        (0u64..3).prop_map(Field::Version),
        "[a-c]{0,1}".prop_map(|value| Field::Value(value.into())),
        prop::option::of(some_lease()).prop_map(Field::Lease),
    ];
    prop_oneof![
        4 => (some_key(), field, compare).prop_map(|(key, field, compare)| Condition::Key { key, field, compare }),
        1 => some_lease().prop_map(Condition::LeaseLive),
        1 => guards().prop_map(Condition::Held),
    ]
}

fn some_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Lock,
        Kind::Lock,
        Kind::Semaphore,
        Kind::Election,
    ])
}

fn some_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "y", "z"]).prop_map(str::to_owned)
}

fn some_owner() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "o"]).prop_map(str::to_owned)
}

/// See [`aim`] for what becomes of it.
fn some_fence() -> impl Strategy<Value = Fence> {
    (2u64..60).prop_map(Fence)
}

fn guards() -> impl Strategy<Value = Guard> {
    (some_kind(), some_name(), some_fence()).prop_map(|(kind, name, fence)| Guard {
        kind,
        name,
        fence,
    })
}

fn transactions() -> impl Strategy<Value = Command> {
    let branch = || vec(operations(), 0..4);
    let guard = prop::option::weighted(0.2, guards());
    (vec(conditions(), 0..2), branch(), branch(), guard).prop_map(
        |(conditions, then, otherwise, guard)| {
            Command::Transaction(Transaction {
                conditions,
                then,
                otherwise,
                guard,
            })
        },
    )
}

fn breaks() -> impl Strategy<Value = Command> {
    let holder = prop::option::of((some_lease(), some_owner()));
    (
        some_kind(),
        some_name(),
        some_fence(),
        holder,
        any::<bool>(),
    )
        .prop_map(|(kind, name, fence, holder, now)| {
            Command::Break(Break {
                kind,
                name,
                fence,
                holder,
                now,
            })
        })
}

fn proclaims() -> impl Strategy<Value = Command> {
    (
        some_name(),
        some_lease(),
        some_owner(),
        some_fence(),
        "[a-c]{0,2}",
    )
        .prop_map(|(name, lease, candidate, fence, value)| {
            Command::Proclaim(Proclaim {
                name,
                lease,
                candidate,
                fence,
                value,
            })
        })
}

fn limit_changes() -> impl Strategy<Value = Command> {
    let change = prop::sample::select(vec![
        ("keys", 2u64),
        ("keys", 5),
        ("leases", 3),
        ("leases", 1000),
        ("waiters", 1),
        ("waiters", 6),
        ("attached_per_lease", 2),
        ("attached_per_lease", 5),
        ("idempotency_records", 1),
        ("idempotency_records", 3),
        ("idempotency_retention_ms", 1000),
        ("idempotency_retention_ms", 999),
        ("nonsense", 1),
    ]);
    vec(change, 1..3).prop_map(|changes| {
        let named = changes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Command::ChangeLimits(named.collect())
    })
}

fn hand_overs() -> impl Strategy<Value = Command> {
    (
        some_name(),
        some_lease(),
        some_owner(),
        some_fence(),
        some_owner(),
    )
        .prop_map(|(name, lease, candidate, fence, to)| {
            Command::HandOver(HandOver {
                name,
                lease,
                candidate,
                fence,
                to,
            })
        })
}

/// Points most of what names a fence at what is held now: few would hit it by chance.
pub(crate) fn aim(state: &State, command: &mut Command) {
    let aimed = |kind, name: &str, fence: &mut Fence| {
        let view = state.queue(kind, name);
        let holder = view.holders.first()?.clone();
        if !fence.0.is_multiple_of(4) {
            *fence = holder.fence;
        }
        (!fence.0.is_multiple_of(3)).then_some((holder.lease, holder.owner))
    };
    match command {
        Command::Release(release) => {
            if let Some(fence) = &mut release.fence {
                aimed(release.kind, &release.name, fence);
            }
        }
        Command::Break(broken) => {
            if let Some(holder) = aimed(broken.kind, &broken.name, &mut broken.fence)
                && broken.holder.is_some()
            {
                broken.holder = Some(holder);
            }
        }
        Command::Proclaim(proclaim) => {
            let leader = aimed(Kind::Election, &proclaim.name, &mut proclaim.fence);
            if let Some((lease, candidate)) = leader {
                (proclaim.lease, proclaim.candidate) = (lease, candidate);
            }
        }
        Command::HandOver(hand_over) => {
            let leader = aimed(Kind::Election, &hand_over.name, &mut hand_over.fence);
            if let Some((lease, candidate)) = leader {
                (hand_over.lease, hand_over.candidate) = (lease, candidate);
            }
        }
        Command::Transaction(transaction) => {
            let held = transaction
                .conditions
                .iter_mut()
                .filter_map(|condition| match condition {
                    Condition::Held(guard) => Some(guard),
                    _ => None,
                });
            for guard in held.chain(&mut transaction.guard) {
                aimed(guard.kind, &guard.name, &mut guard.fence);
            }
        }
        _ => {}
    }
}

/// The digest of a request as the edge makes it: equal for equal commands.
pub(crate) fn digest_of(command: &Command) -> u128 {
    let bytes = encode_request(&request(command.clone()));
    let hash = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(7, hash)
}

/// The request under a key.
pub(crate) fn keyed(key: &str, command: Command) -> Request {
    Request {
        idempotency: Some(IdempotencyKey {
            identity: "anonymous".to_owned(),
            key: key.to_owned(),
            digest: digest_of(&command),
        }),
        ..request(command)
    }
}

pub(crate) fn commands(most_names: usize) -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => new_leases().prop_map(Command::GrantLease),
        1 => some_lease().prop_map(|lease| Command::RevokeLease { lease }),
        6 => acquires(most_names).prop_map(Command::Acquire),
        3 => releases(),
        4 => transactions(),
        2 => breaks(),
        1 => proclaims(),
        2 => hand_overs(),
        1 => (some_lease(), prop::sample::select(vec![999u64, 1000, 3000])).prop_map(|(lease, ttl_ms)| Command::ChangeLease { lease, ttl_ms }),
        1 => limit_changes(),
        2 => access_changes().prop_map(Command::ChangeAccess),
        1 => (1u64..60).prop_map(|revision| Command::Compact { revision: Revision(revision) }),
    ]
}

/// Requests, some of them under one of few keys. Commands of one shape only have one digest, as from an edge.
fn some_requests(most_names: usize) -> impl Strategy<Value = Request> {
    let key = prop::option::weighted(0.4, prop::sample::select(vec!["k", "l", "m"]));
    (commands(most_names), key, people()).prop_map(|(command, key, principal)| {
        let mut request = match key {
            Some(key) => keyed(key, command),
            None => request(command),
        };
        if let Some(key) = &mut request.idempotency {
            key.identity = principal.name().to_owned();
        }
        request.principal = principal;
        request
    })
}

/// The token with which a cluster begins that begins with access control on.
pub(crate) const ROOT_TOKEN: TokenId = TokenId(100);

/// Who may ask: with their own tokens, with a certificate, with a token of another or one that is not there, or nobody.
fn people() -> impl Strategy<Value = Principal> {
    let of = |name, token: u64| Just(Principal::of(name, Some(TokenId(token))));
    prop_oneof![
        4 => of("root", ROOT_TOKEN.0),
        6 => of("a", 101),
        6 => of("b", 102),
        2 => Just(Principal::of("a", None)),
        1 => of("b", 101),
        1 => of("c", 103),
        3 => Just(Principal::anonymous()),
    ]
}

fn grants() -> impl Strategy<Value = RoleGrant> {
    let most: Vec<Verb> = Verb::ALL[..9].to_vec();
    let verbs = prop_oneof![
        3 => Just(most.clone()),
        3 => prop::sample::subsequence(most, 0..6),
        1 => Just(vec![Verb::Admin]),
    ];
    let resource = prop::sample::select(vec![
        "",
        "",
        "keys/",
        "keys/a",
        "keys/a/",
        "keys/a/b",
        "locks/",
        "locks/x",
        "semaphores/",
        "elections/",
        "elections/y",
        "leases/",
        "leases/",
        "nothing",
    ]);
    (verbs, resource, prop::bool::weighted(0.2)).prop_map(|(verbs, resource, exact)| RoleGrant {
        verbs: verbs.into_iter().collect(),
        resource: resource.to_owned(),
        exact,
    })
}

fn access_changes() -> impl Strategy<Value = AccessChange> {
    let role = || prop::sample::select(vec!["root", "r", "s"]).prop_map(str::to_owned);
    let identity =
        || prop::sample::select(vec!["root", "a", "b", "a", "b"]).prop_map(str::to_owned);
    let token = || (100u64..104).prop_map(TokenId);
    let quota = || prop::option::weighted(0.3, 0u64..3);
    let expiry = || prop::option::weighted(0.2, 0u64..6);
    let expired = || (0u64..6).prop_map(|at| at + 86_400_000);
    let certificate =
        prop::option::of(prop::sample::select(vec!["x", "y"]).prop_map(str::to_owned));
    let identities = (vec(role(), 0..3), certificate, quota(), quota()).prop_map(
        |(mut roles, certificate, leases, places)| {
            roles.dedup();
            roles.sort();
            roles.dedup();
            Identity {
                roles,
                certificate,
                quota: Quota {
                    leases,
                    places,
                    requests_per_second: None,
                },
            }
        },
    );
    prop_oneof![
        4 => (role(), vec(grants(), 0..4)).prop_map(|(name, grants)| AccessChange::PutRole { name, grants }),
        1 => role().prop_map(|name| AccessChange::DeleteRole { name }),
        4 => (identity(), identities).prop_map(|(name, identity)| AccessChange::PutIdentity { name, identity }),
        1 => identity().prop_map(|name| AccessChange::DeleteIdentity { name }),
        4 => (token(), identity(), expiry(), expired()).prop_map(|(id, identity, expires_unix_ms, now_unix_ms)| {
            AccessChange::CreateToken { id, identity, hash: [7; 32], expires_unix_ms, now_unix_ms }
        }),
        1 => token().prop_map(|id| AccessChange::DeleteToken { id }),
        1 => any::<bool>().prop_map(|enabled| AccessChange::Enable { enabled }),
    ]
}

/// What makes two identities with roles, one of which may do most things.
pub(crate) fn furnish() -> Batch {
    let most = Verb::ALL[..9].iter().copied().collect();
    let grant = |verbs, resource: &str| RoleGrant {
        verbs,
        resource: resource.to_owned(),
        exact: false,
    };
    let role = |name: &str, grants| AccessChange::PutRole {
        name: name.to_owned(),
        grants,
    };
    let identity = |name: &str, role: &str| AccessChange::PutIdentity {
        name: name.to_owned(),
        identity: Identity {
            roles: vec![role.to_owned()],
            ..Identity::default()
        },
    };
    let token = |id, name: &str| AccessChange::CreateToken {
        id: TokenId(id),
        identity: name.to_owned(),
        hash: [7; 32],
        expires_unix_ms: None,
        now_unix_ms: 0,
    };
    let some: std::collections::BTreeSet<Verb> = most;
    let changes = [
        role("r", vec![grant(some.clone(), "")]),
        role(
            "s",
            ["keys/a", "locks/", "leases/"]
                .map(|name| grant(some.clone(), name))
                .into(),
        ),
        identity("a", "r"),
        identity("b", "s"),
        token(101, "a"),
        token(102, "b"),
    ];
    let mut batch = requests(changes.map(Command::ChangeAccess));
    for request in &mut batch.requests {
        request.principal = Principal::of("root", Some(ROOT_TOKEN));
    }
    batch
}

/// An entry: how much later than the one before, and what is in it.
pub(crate) fn entries(most_names: usize) -> impl Strategy<Value = (u64, Batch)> {
    let advance = prop_oneof![3 => Just(0u64), 3 => 1u64..400, 1 => 900u64..2600];
    let renewed = vec((some_lease(), people()), 0..3);
    (advance, renewed, vec(some_requests(most_names), 0..4)).prop_map(
        |(advance, renewed, requests)| {
            let mut batch = Batch {
                requests,
                ..Batch::default()
            };
            let origin = Origin {
                member: 2,
                token: 7,
            };
            batch.renewals = renewed
                .into_iter()
                .map(|(lease, principal)| Renewal {
                    origin,
                    principal,
                    lease,
                })
                .collect();
            (advance, batch)
        },
    )
}

pub(crate) fn small_limits() -> Limits {
    Limits {
        history_retention_ms: 3000,
        history_bytes: 6000,
        request_bytes: 4000,
        value_bytes: 2000,
        keys: 4,
        waiters: 5,
        attached_per_lease: 4,
        idempotency_records: 2,
        idempotency_retention_ms: 1500,
        ..Limits::default()
    }
}

/// A state with these leases, granted at clock 0.
pub(crate) fn with_leases(ids: &[u64], ttl_ms: u64) -> State {
    let mut state = State::genesis(Genesis::default());
    state.apply(Clock(0), &requests(ids.iter().map(|id| grant(*id, ttl_ms))));
    state
}

/// Applies an acquire that must hold.
pub(crate) fn hold(state: &mut State, stamp: u64, ask: Acquire) -> HoldView {
    match apply_one(state, stamp, Command::Acquire(ask)) {
        Ok(Answer::Held(view)) => view,
        other => panic!("it is not held: {other:?}"),
    }
}

/// Applies an acquire that must wait.
pub(crate) fn queued(state: &mut State, stamp: u64, ask: Acquire) -> QueuedView {
    match apply_one(state, stamp, Command::Acquire(ask)) {
        Ok(Answer::Queued(view)) => view,
        other => panic!("it is not queued: {other:?}"),
    }
}

pub(crate) fn holders(state: &State, kind: Kind, name: &str) -> Vec<u64> {
    let holders = state.queue(kind, name).holders;
    holders.iter().map(|holder| holder.lease.number()).collect()
}

/// Every key as it was at a revision.
pub(crate) fn keys_at(state: &State, revision: Revision) -> Result<Vec<KeyEntry>, ReadError> {
    let all = KeyRange::default();
    let piece = state.keys_piece(revision, &all, Order::Ascending, 1000, 1000)?;
    assert_eq!(piece.rest, None, "tests have few keys");
    Ok(piece.keys.iter().map(|key| (**key).clone()).collect())
}

/// The events of a revision.
pub(crate) fn events_of(state: &State, revision: Revision) -> Vec<Event> {
    let page = state
        .changes(Revision(revision.0 - 1), &everything(), 1, 1, 1)
        .expect("it is kept");
    page.changes
        .iter()
        .find(|change| change.revision == revision)
        .map(|change| change.events.to_vec())
        .unwrap_or_default()
}

/// Applies an entry of one request, whose key is known, and returns what was decided.
pub(crate) fn apply_keyed(state: &mut State, stamp: u64, key: &str, command: Command) -> Decision {
    let batch = Batch {
        requests: vec![keyed(key, command)],
        ..Batch::default()
    };
    let applied = state.apply(Clock(stamp), &batch);
    state.check_invariants();
    let mut outcomes = applied.outcomes.into_iter();
    outcomes.next().expect("one request has one outcome")
}
