//! Rights: what each call needs of whoever asks.
//!
//! Owns the one table that the handlers of reads, the first look at a request and the published contract
//! (`x-tenure-verbs`) share. What a command needs is decided by the state machine (`State::authorize_command`), on the
//! member that is asked and again by every member that applies it; a test holds it to what is said here.
//!
//! What a right includes, beside what its name says:
//!
//! - Whoever may lock or read a lock, semaphore or election sees who holds it and who waits for it, with their leases,
//!   owners and labels: the queue is what is asked about. The id of a lease is of no use to anybody else.
//! - Whoever may list sees what a list shows: of locks, semaphores and elections their holders and leaders, of keys
//!   without `keys_only=true` their values, for which `read` is needed too.
//! - Whoever may watch is told all that happens there: the values that are put and, with `previous=true`, those that were
//!   there before, also of what happened before the right was given, as far back as history reaches. `read` is not needed.
//! - Whoever may lock, or campaign, may also see the queue; it breaks nothing of others.
//! - Whoever has a lease may release, resign and leave what hangs on it, also without the right to have it again, as it may
//!   end the whole lease. Where its place is asked to be released as a hold, it is told the fence that is held there.
//! - Whoever may put a key, and has a lease, may put the key on it, and it is deleted when that lease ends or is revoked:
//!   `write` with `lease` includes deleting what may be put.
//! - Whoever may put or delete a key learns whether it was there, its versions, and the id of the lease that stands against
//!   the put. A condition on a key tells more, and needs `read`.
//! - Whoever may read a lease, or has it, sees how many things hang on it; of what they are called, whoever has it sees
//!   all and others what they may read or hold.
//! - The present revision is no secret: every answer has it. It tells how much is going on, and not what.
//! - Which limit of the whole cluster is reached is told to whoever is refused for it; how much there is, to those who
//!   administer the cluster.
//! - That a lease is somebody else's, or has ended, is told to whoever knows its id, which is drawn out of 2^63.

use serde_json::{Value, json};
use tenure_state::{Collection, Kind, LeaseId, Need, Scope, Verb};

use super::route::Call;

/// All of these are needed, and of each one verb.
pub(super) type Verbs = &'static [&'static [Verb]];

/// Seeing one resource.
pub(super) const READ: Verbs = &[&[Verb::Read]];
/// Seeing which there are.
pub(super) const LIST: Verbs = &[&[Verb::List]];
/// The same with what is in them.
pub(super) const LIST_WITH_VALUES: Verbs = &[&[Verb::List], &[Verb::Read]];
/// Following what happens.
pub(super) const WATCH: Verbs = &[&[Verb::Watch]];
/// The same, beginning with what is there.
pub(super) const WATCH_WITH_SNAPSHOT: Verbs = &[&[Verb::Watch], &[Verb::Read], &[Verb::List]];
/// What belongs to the cluster.
pub(super) const ADMIN: Verbs = &[&[Verb::Admin]];
/// Seeing what something that hangs on a lease is called.
pub(super) const SEE_ATTACHED: Verbs = &[&[Verb::Read, Verb::Lock, Verb::Campaign]];

const LOCK: Verbs = &[&[Verb::Lock]];
const CAMPAIGN: Verbs = &[&[Verb::Campaign]];
const BREAK: Verbs = &[&[Verb::Break]];
const LEASE: Verbs = &[&[Verb::Lease]];
const WRITE: Verbs = &[&[Verb::Write]];
const DELETE: Verbs = &[&[Verb::Delete]];
const FENCE: Verbs = &[&[Verb::Read, Verb::Lock]];
const FENCE_OF_ELECTION: Verbs = &[&[Verb::Read, Verb::Campaign]];

/// What somebody must have to be told something.
#[derive(Clone, Debug)]
pub(super) enum Needed<'a> {
    /// All of these; where there are none it is enough to be somebody.
    All(Vec<Need<'a>>),
    /// The lease itself, or a right to read it.
    Lease(LeaseId),
}

impl<'a> Needed<'a> {
    /// Nothing but to be somebody.
    pub(super) const NOTHING: Needed<'static> = Needed::All(Vec::new());

    /// Verbs on a scope.
    pub(super) fn on(verbs: Verbs, scope: Scope<'a>) -> Needed<'a> {
        Needed::on_each(verbs, [scope])
    }

    /// Verbs on each of some scopes.
    pub(super) fn on_each(verbs: Verbs, scopes: impl IntoIterator<Item = Scope<'a>>) -> Needed<'a> {
        let of = |scope: Scope<'a>| verbs.iter().map(move |any_of| Need::new(any_of, scope));
        Needed::All(scopes.into_iter().flat_map(of).collect())
    }
}

/// What a call needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    /// Nobody has to say who asks.
    Open,
    /// Whoever asks is somebody.
    Identity,
    /// Whoever asks may administer the cluster.
    Admin,
    /// Verbs on what it names: of each case that applies.
    Cases(&'static [Case]),
}

/// What is needed in a case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// In which; empty is always.
    when: &'static str,
    verbs: Verbs,
    on: &'static str,
    /// Whoever was granted the lease that is named needs none of them.
    own: bool,
}

const fn always(verbs: Verbs, on: &'static str) -> Case {
    Case {
        when: "",
        verbs,
        on,
        own: false,
    }
}

const fn when(when: &'static str, verbs: Verbs, on: &'static str) -> Case {
    Case {
        when,
        verbs,
        on,
        own: false,
    }
}

const fn of_lease(when: &'static str, verbs: Verbs) -> Case {
    Case {
        when,
        verbs,
        on: "the lease",
        own: true,
    }
}

const ON_KEY: &str = "the key";
const ON_NAME: &str = "the name";
const ON_RANGE: &str = "all that is asked for";
const ON_LEASES: &str = "leases/";
const GUARDED: Case = when(
    "with `Tenure-Guard` of a lock or semaphore",
    FENCE,
    "what it names",
);
const GUARDED_BY_ELECTION: Case = when(
    "with `Tenure-Guard` of an election",
    FENCE_OF_ELECTION,
    "what it names",
);
const CONDITIONAL: Case = when("with `If-Match` or `If-None-Match`", READ, ON_KEY);
const GRANTS: Case = when("with `ttl_ms`", LEASE, ON_LEASES);
const ON_ITS_LEASE: Case = of_lease("with `lease`", ADMIN);

impl Call {
    /// What it needs.
    pub(super) fn right(&self) -> Right {
        use Right::{Admin, Cases, Identity, Open};
        match self {
            Call::GrantLease => Cases(const { &[always(LEASE, ON_LEASES)] }),
            Call::ListLeases => Cases(const { &[always(LIST, ON_LEASES)] }),
            Call::ReadLease(_) => Cases(const { &[of_lease("", READ)] }),
            Call::RenewLeases
            | Call::RenewLease(_)
            | Call::ChangeLease(_)
            | Call::RevokeLease(_) => Cases(const { &[of_lease("", ADMIN)] }),
            Call::AcquireTogether => {
                Cases(const { &[always(LOCK, "each name"), GRANTS, ON_ITS_LEASE] })
            }
            Call::Acquire(Kind::Lock | Kind::Semaphore, _) => {
                Cases(const { &[always(LOCK, ON_NAME), GRANTS, ON_ITS_LEASE] })
            }
            Call::Acquire(Kind::Election, _) => {
                Cases(const { &[always(CAMPAIGN, ON_NAME), GRANTS, ON_ITS_LEASE] })
            }
            Call::ReadQueue(..) => Cases(const { &[always(READ, ON_NAME)] }),
            Call::ListQueues(_) => Cases(const { &[always(LIST, ON_RANGE)] }),
            Call::Release(..) => Cases(
                const {
                    &[
                        when("with `break=true`", BREAK, ON_NAME),
                        of_lease("without `break`", ADMIN),
                    ]
                },
            ),
            Call::Proclaim(_) | Call::HandOver(_) => {
                Cases(const { &[always(CAMPAIGN, ON_NAME), of_lease("", ADMIN)] })
            }
            Call::PutKey(_) => Cases(
                const {
                    &[
                        always(WRITE, ON_KEY),
                        CONDITIONAL,
                        GUARDED,
                        GUARDED_BY_ELECTION,
                        ON_ITS_LEASE,
                    ]
                },
            ),
            Call::ReadKey(_) => Cases(const { &[always(READ, ON_KEY)] }),
            Call::ListKeys => Cases(
                const {
                    &[
                        when("with `keys_only=true`", LIST, ON_RANGE),
                        when("without it", LIST_WITH_VALUES, ON_RANGE),
                    ]
                },
            ),
            Call::DeleteKey(_) => Cases(
                const {
                    &[
                        always(DELETE, ON_KEY),
                        CONDITIONAL,
                        GUARDED,
                        GUARDED_BY_ELECTION,
                    ]
                },
            ),
            Call::DeleteKeys => {
                Cases(const { &[always(DELETE, ON_RANGE), GUARDED, GUARDED_BY_ELECTION] })
            }
            Call::Transact => Cases(
                const {
                    &[
                        when("with a `put`", WRITE, ON_KEY),
                        when("with a `delete`", DELETE, "the key, or all with the prefix"),
                        when("with a `get`, or a condition on a key", READ, ON_KEY),
                        when(
                            "with a condition on the fence of a lock or semaphore",
                            FENCE,
                            "what it names",
                        ),
                        when(
                            "with a condition on the fence of an election",
                            FENCE_OF_ELECTION,
                            "what it names",
                        ),
                        Case {
                            when: "with a condition on a lease",
                            verbs: READ,
                            on: ON_LEASES,
                            own: true,
                        },
                        GUARDED,
                        GUARDED_BY_ELECTION,
                        of_lease("with a `put` on a lease", ADMIN),
                    ]
                },
            ),
            Call::Watch | Call::WatchMany => Cases(
                const {
                    &[
                        when("without `snapshot`", WATCH, "each selector"),
                        when("with `snapshot=true`", WATCH_WITH_SNAPSHOT, "each selector"),
                    ]
                },
            ),
            Call::ReadCluster
            | Call::ReadLimits
            | Call::ReadStatus
            | Call::ReadOpenApi
            | Call::ReadMetrics
            | Call::WhoAmI => Identity,
            Call::AddMember
            | Call::RemoveMember(_)
            | Call::ReplaceMember(_)
            | Call::PromoteMember(_)
            | Call::TransferLeadership
            | Call::ChangeLimits
            | Call::Compact
            | Call::TakeBackup
            | Call::ChangeStatus
            | Call::ListRoles
            | Call::ReadRole(_)
            | Call::PutRole(_)
            | Call::DeleteRole(_)
            | Call::ListIdentities
            | Call::ReadIdentity(_)
            | Call::PutIdentity(_)
            | Call::DeleteIdentity(_)
            | Call::ListTokens
            | Call::CreateToken
            | Call::DeleteToken(_)
            | Call::ReadAccess
            | Call::ChangeAccess => Admin,
            Call::Live | Call::Ready => Open,
        }
    }
}

impl Right {
    /// As the published contract shows it: of each case that applies, all verbs are needed; of a list in place of a verb
    /// one is enough. No case at all is open to everybody.
    pub(super) fn published(self) -> Value {
        let case = |when: &str, verbs: Value, on: &str, own: bool| {
            let mut case = json!({"verbs": verbs, "on": on});
            if !when.is_empty() {
                case["when"] = when.into();
            }
            if own {
                case["or"] = "it is the caller's own".into();
            }
            case
        };
        match self {
            Right::Open => json!([]),
            Right::Identity => json!([case("", json!([]), "", false)]),
            Right::Admin => json!([case("", json!(["admin"]), "the cluster", false)]),
            Right::Cases(cases) => cases
                .iter()
                .map(|it| case(it.when, shown(it.verbs), it.on, it.own))
                .collect(),
        }
    }
}

fn shown(verbs: Verbs) -> Value {
    let one = |any_of: &&[Verb]| match any_of {
        [one] => json!(one.as_str()),
        some => some.iter().map(|verb| verb.as_str()).collect(),
    };
    verbs.iter().map(one).collect()
}

/// Rights on every lease.
pub(super) fn all_leases(verbs: Verbs) -> Needed<'static> {
    Needed::on(verbs, Scope::all(Collection::Leases))
}

/// Rights on the cluster.
pub(super) fn admin() -> Needed<'static> {
    Needed::on(ADMIN, Scope::Cluster)
}
