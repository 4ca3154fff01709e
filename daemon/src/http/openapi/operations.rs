//! What each call of the contract takes, answers and refuses.
//!
//! Owns the descriptions; how they become OpenAPI is in `operation`.

use tenure_api::{self as api, Code, MAX_REVISION, header};
use tenure_state::Kind;
use utoipa::openapi::path::{self, HttpMethod};

use super::operation::{
    Found, Operation, access_name, hex, idempotency_key, lease_id, list_of, name, number, pattern,
    pattern_as, prefix, revision, words,
};
use crate::http::route::Family;

/// What the document says of itself.
pub(super) const ABOUT: &str = "Leases, locks, semaphores, elections and watched keys, replicated by Raft. Any member \
serves any call. Durations are whole milliseconds and end in `_ms`; revisions and fences are whole numbers below 2^53; \
whole numbers in JSON are written without fraction and exponent. Lengths of names and texts are limited in bytes of \
UTF-8, of which a character may take up to four. \
A name in a path is percent-decoded exactly once and never normalised; every call with a name in its path also takes \
it as `?name=` on its collection. While access control is on, everything but `/livez` and `/readyz` takes a token or a client \
certificate: `401` without one, `403` outside the rights, which name what is missing and nothing of what there is; \
`x-tenure-verbs` has what each call needs, as `x-tenure-rights` explains. `HEAD` is answered wherever `GET` is, `OPTIONS` everywhere.";

type Described = Vec<(HttpMethod, path::Operation)>;

/// The operations of a family.
pub(super) fn of(family: Family, found: &mut Found) -> Described {
    use HttpMethod::{Delete, Get, Patch, Post, Put};
    let s = found;
    match family {
        Family::Leases => vec![
            (Get, list_leases(s).build()),
            (Post, grant_lease(s).build()),
        ],
        Family::LeaseRenewals => vec![(Post, renew_leases(s).build())],
        Family::Lease => vec![
            (Get, read_lease(s).build()),
            (Patch, change_lease(s).build()),
            (Delete, revoke_lease(s).build()),
        ],
        Family::LeaseRenewal => vec![(Post, renew_lease(s).build())],
        Family::Queues(Kind::Lock) => vec![
            (Get, list_locks(s).build()),
            (Post, acquire_together(s).build()),
            (
                Delete,
                by_name(release_lock(s, "releaseLockByName")).build(),
            ),
        ],
        Family::Queue(Kind::Lock) => vec![
            (Get, in_path(read_lock(s)).build()),
            (Post, in_path(acquire_lock(s)).build()),
            (Delete, in_path(release_lock(s, "releaseLock")).build()),
        ],
        Family::Queues(Kind::Semaphore) => vec![
            (Get, list_semaphores(s).build()),
            (
                Post,
                by_name(acquire_semaphore(s, "acquireSemaphoreByName")).build(),
            ),
            (
                Delete,
                by_name(release_semaphore(s, "releaseSemaphoreByName")).build(),
            ),
        ],
        Family::Queue(Kind::Semaphore) => vec![
            (Get, in_path(read_semaphore(s)).build()),
            (
                Post,
                in_path(acquire_semaphore(s, "acquireSemaphore")).build(),
            ),
            (
                Delete,
                in_path(release_semaphore(s, "releaseSemaphore")).build(),
            ),
        ],
        Family::Queues(Kind::Election) => vec![
            (Get, list_elections(s).build()),
            (Post, by_name(campaign(s, "campaignByName")).build()),
            (Put, by_name(proclaim(s, "proclaimByName")).build()),
            (Patch, by_name(hand_over(s, "handOverByName")).build()),
            (Delete, by_name(resign(s, "resignByName")).build()),
        ],
        Family::Queue(Kind::Election) => vec![
            (Get, in_path(read_election(s)).build()),
            (Post, in_path(campaign(s, "campaign")).build()),
            (Put, in_path(proclaim(s, "proclaim")).build()),
            (Patch, in_path(hand_over(s, "handOver")).build()),
            (Delete, in_path(resign(s, "resign")).build()),
        ],
        Family::Keys => vec![
            (Get, list_keys(s).build()),
            (Put, by_name(put_key(s, "putKeyByName")).build()),
            (Delete, delete_keys(s).build()),
        ],
        Family::Key => vec![
            (Get, key_in_path(read_key(s)).build()),
            (Put, key_in_path(put_key(s, "putKey")).build()),
            (Delete, key_in_path(delete_key(s)).build()),
        ],
        Family::Transaction => vec![(Post, transact(s).build())],
        Family::Watch => vec![(Get, watch(s).build()), (Post, watch_many(s).build())],
        Family::Cluster => vec![(Get, read_cluster(s).build())],
        Family::Members => vec![(Post, add_member(s).build())],
        Family::Member => vec![(Delete, remove_member(s).build())],
        Family::MemberReplacement => vec![(Post, replace_member(s).build())],
        Family::MemberPromotion => vec![(Post, promote_member(s).build())],
        Family::Leadership => vec![(Post, transfer_leadership(s).build())],
        Family::Limits => vec![
            (Get, read_limits(s).build()),
            (Patch, change_limits(s).build()),
        ],
        Family::Compact => vec![(Post, compact(s).build())],
        Family::Backup => vec![(Get, take_backup(s).build())],
        Family::Status => vec![
            (Get, read_status(s).build()),
            (Patch, change_status(s).build()),
        ],
        Family::Roles => vec![(Get, list_roles(s).build())],
        Family::Role => vec![
            (Get, read_role(s).build()),
            (Put, put_role(s).build()),
            (Delete, delete_role(s).build()),
        ],
        Family::Identities => vec![(Get, list_identities(s).build())],
        Family::Identity => vec![
            (Get, read_identity(s).build()),
            (Put, put_identity(s).build()),
            (Delete, delete_identity(s).build()),
        ],
        Family::Tokens => vec![
            (Get, list_tokens(s).build()),
            (Post, create_token(s).build()),
        ],
        Family::Token => vec![(Delete, delete_token(s).build())],
        Family::WhoAmI => vec![(Get, who_am_i(s).build())],
        Family::Access => vec![
            (Get, read_access(s).build()),
            (Patch, change_access(s).build()),
        ],
        Family::OpenApi => vec![(Get, read_document(s).build())],
        Family::Live => vec![(Get, live(s).build())],
        Family::Ready => vec![(Get, ready(s).build())],
        Family::Metrics => vec![(Get, metrics(s).build())],
    }
}

fn in_path(operation: Operation<'_>) -> Operation<'_> {
    operation
        .in_path("name", "The name, percent-encoded.", name())
        .refuses(&[Code::InvalidName])
}

fn key_in_path(operation: Operation<'_>) -> Operation<'_> {
    operation
        .in_path("key", "The key, percent-encoded.", name())
        .refuses(&[Code::InvalidName])
}

fn by_name(operation: Operation<'_>) -> Operation<'_> {
    operation
        .required("name", "The name.", name())
        .refuses(&[Code::InvalidName])
}

// Leases.

fn list_leases(s: &mut Found) -> Operation<'_> {
    Operation::new(
        s,
        "listLeases",
        "leases",
        "A page of the live leases, in the order of their ids.",
    )
    .query("limit", "At most so many.", number(1, 1000))
    .query(
        "start_after",
        "Those behind this one: `next` of the page before.",
        lease_id(),
    )
    .reads()
    .answers::<api::LeasePage>(200, "The page.", "lease_page")
}

fn grant_lease(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "grantLease", "leases", "Grants a lease.")
        .text("A repeat with the same `Idempotency-Key` answers that lease as it is now.")
        .takes::<api::GrantLease>("grant_lease")
        .answers::<api::Lease>(201, "The lease.", "lease")
        .refuses(&[Code::TtlOutOfRange, Code::LeaseExpired, Code::QuotaExceeded])
        .records()
        .writes()
}

fn renew_leases(s: &mut Found) -> Operation<'_> {
    Operation::new(
        s,
        "renewLeases",
        "leases",
        "Renews up to 1000 leases at once.",
    )
    .text(
        "A dead one does not fail the rest, and neither does one that is not the caller's, which is answered with `forbidden`; \
         `403` is for all of it where it may renew none.",
    )
    .takes::<api::RenewLeases>("renew_leases")
    .answers::<api::LeasesRenewed>(
        200,
        "What became of each, in the order asked.",
        "leases_renewed",
    )
    .writes()
}

fn lease_in_path(operation: Operation<'_>) -> Operation<'_> {
    operation
        .in_path("id", "The id of the lease.", lease_id())
        .refuses(&[Code::LeaseNotFound, Code::LeaseExpired])
}

fn read_lease(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "readLease",
        "leases",
        "A lease, with the first 100 things on it.",
    );
    waits(lease_in_path(operation))
        .reads()
        .answers::<api::Lease>(200, "The lease.", "lease_with_attached")
}

fn change_lease(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "changeLease", "leases", "Changes the TTL and renews.")
        .text("A shorter TTL counts from the next renewal on: no deadline is ever moved earlier.");
    lease_in_path(operation)
        .takes::<api::ChangeLease>("change_lease")
        .answers::<api::Lease>(200, "The lease.", "lease")
        .refuses(&[Code::TtlOutOfRange])
        .writes()
}

fn revoke_lease(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "revokeLease", "leases", "Ends a lease and all that hangs on it, at one revision.")
        .text("For the holder, after it has stopped believing; whoever revokes another's lease accepts that it may still believe.");
    lease_in_path(operation)
        .answers::<api::LeaseEnded>(200, "It has ended.", "lease_ended")
        .records()
        .writes()
}

fn renew_lease(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "renewLease",
        "leases",
        "Renews a lease: its deadline becomes now and its TTL.",
    );
    lease_in_path(operation)
        .answers::<api::Lease>(200, "The lease.", "lease")
        .refuses(&[Code::UnsupportedMediaType, Code::TooLarge])
        .writes()
}

/// A read of one thing that can wait for its next change.
fn waits(operation: Operation<'_>) -> Operation<'_> {
    operation
        .query(
            "after",
            "Waits for `wait_ms` until the `mod_revision` is above this. Not with a version in `If-None-Match`.",
            revision(),
        )
        .header(
            "If-None-Match",
            "The ETag that is known: waits for `wait_ms` until there is another; a quiet end is `304`.",
            tag(),
        )
        .answers_nothing(204, "Nothing changed within `wait_ms`.")
        .answers_nothing(304, "It is still what `If-None-Match` says.")
        .tells(200, &["ETag"])
        .tells(304, &["ETag", "Tenure-Staleness-Ms"])
        .tells(204, &["Tenure-Staleness-Ms"])
        .refuses(&[Code::TooManyWaiters, Code::RevisionAhead])
}

// Locks.

const ACQUIRING: &str = "Idempotent by `(lease, owner)`: asking again is answered with the same hold or place and renews the lease. `202` \
when the poll ends with the place kept: ask again with the same body.";

fn acquire_lock(s: &mut Found) -> Operation<'_> {
    acquires(
        Operation::new(s, "acquireLock", "locks", "Acquires a lock.")
            .text(ACQUIRING)
            .takes::<api::AcquireLock>("acquire_lock")
            .answers::<api::LockHeld>(200, "It is held.", "lock_held")
            .answers::<api::LockQueued>(202, "It is waited for.", "lock_queued"),
    )
}

fn acquires(operation: Operation<'_>) -> Operation<'_> {
    operation
        .header(
            header::IDEMPOTENCY_KEY,
            "With `ttl_ms`: a repeat asks again with the lease that was granted.",
            idempotency_key(),
        )
        .replays()
        .refuses(&[
            Code::TtlOutOfRange,
            Code::LeaseNotFound,
            Code::LeaseExpired,
            Code::NotHeld,
            Code::LockHeld,
            Code::WaitExpired,
            Code::ModeMismatch,
            Code::QuotaExceeded,
            Code::TooManyWaiters,
            Code::IdempotencyMismatch,
        ])
        .writes()
}

fn acquire_together(s: &mut Found) -> Operation<'_> {
    acquires(
        Operation::new(s, "acquireLocks", "locks", "Acquires several locks at once, or none.")
            .text("One place in every queue named; granted when it is first in all and all are free. With `?name=` it is the call of that one lock.")
            .takes::<api::AcquireTogether>("acquire_together")
            .answers::<api::TogetherHeld>(200, "All are held.", "held_together")
            .answers::<api::TogetherQueued>(202, "All are waited for.", "queued_together")
            .refuses(&[Code::AlreadyHeld, Code::InvalidName]),
    )
}

fn read_lock(s: &mut Found) -> Operation<'_> {
    waits(Operation::new(
        s,
        "readLock",
        "locks",
        "Who holds a lock, and who waits for it.",
    ))
    .reads()
    .answers::<api::Lock>(
        200,
        "The lock; one that was never used has nothing in it.",
        "lock",
    )
}

fn list_locks(s: &mut Found) -> Operation<'_> {
    pages(Operation::new(
        s,
        "listLocks",
        "locks",
        "The locks that are held or waited for.",
    ))
    .answers::<api::LockPage>(200, "The page.", "lock_page")
}

fn pages(operation: Operation<'_>) -> Operation<'_> {
    operation
        .query("prefix", "Those whose names begin so.", prefix())
        .query("limit", "At most so many.", number(1, 1000))
        .query(
            "start_after",
            "Those behind this one: `next` of the page before.",
            prefix(),
        )
        .reads()
}

const RELEASING: &str = "With `fence` a hold is released, without it the queue is left. With `break=true` an operator \
ends somebody's hold: then `fence` and `reason` are required, `lease` and `owner` name one of several holds with that fence, and the next \
grant waits for the deadline of the broken holder's lease unless `now=true`.";

fn releases<'a>(operation: Operation<'a>, owner: &str) -> Operation<'a> {
    operation
        .text(RELEASING)
        .query(
            "lease",
            "The lease of the hold or place; required but with `break`.",
            lease_id(),
        )
        .query(
            owner,
            "With the lease, the identity of the hold or place.",
            prefix(),
        )
        .query(
            "fence",
            "The fence of the hold.",
            number(1, MAX_REVISION - 1),
        )
        .query(
            "break",
            "`true`: ends somebody's hold.",
            words(&["true", "false"]),
        )
        .query("reason", "Why it is broken, for the audit log.", prefix())
        .query(
            "now",
            "`true`: the next grant does not wait.",
            words(&["true", "false"]),
        )
        .header(
            header::IDEMPOTENCY_KEY,
            "With `break`: the decision is recorded.",
            idempotency_key(),
        )
        .replays()
        .refuses(&[
            Code::NotHeld,
            Code::FenceStale,
            Code::LeaseExpired,
            Code::IdempotencyMismatch,
            Code::QuotaExceeded,
        ])
        .writes()
}

fn release_lock<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    releases(
        Operation::new(
            s,
            id,
            "locks",
            "Releases a lock, leaves its queue, or breaks a hold.",
        ),
        "owner",
    )
    .answers::<api::LockReleased>(200, "It was released.", "lock_released")
    .answers::<api::LockLeft>(200, "The queue was left.", "lock_left")
    .answers::<api::LockBroken>(200, "A hold was broken.", "lock_broken")
}

// Semaphores.

fn acquire_semaphore<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    acquires(
        Operation::new(s, id, "semaphores", "Acquires permits of a semaphore.")
            .text(ACQUIRING)
            .takes::<api::AcquireSemaphore>("acquire_semaphore")
            .answers::<api::SemaphoreHeld>(200, "They are held.", "semaphore_held")
            .answers::<api::SemaphoreQueued>(202, "They are waited for.", "semaphore_queued")
            .refuses(&[Code::LimitMismatch]),
    )
}

fn read_semaphore(s: &mut Found) -> Operation<'_> {
    waits(Operation::new(
        s,
        "readSemaphore",
        "semaphores",
        "Who holds permits of a semaphore, and who waits.",
    ))
    .reads()
    .answers::<api::Semaphore>(
        200,
        "The semaphore; one that was never used has nothing in it.",
        "semaphore",
    )
}

fn list_semaphores(s: &mut Found) -> Operation<'_> {
    pages(Operation::new(
        s,
        "listSemaphores",
        "semaphores",
        "The semaphores that are held or waited for.",
    ))
    .answers::<api::SemaphorePage>(200, "The page.", "semaphore_page")
}

fn release_semaphore<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    releases(
        Operation::new(
            s,
            id,
            "semaphores",
            "Releases permits, leaves the queue, or breaks a hold.",
        ),
        "owner",
    )
    .answers::<api::SemaphoreReleased>(200, "They were released.", "semaphore_released")
    .answers::<api::SemaphoreLeft>(200, "The queue was left.", "semaphore_left")
    .answers::<api::SemaphoreBroken>(200, "A hold was broken.", "semaphore_broken")
}

// Elections.

fn campaign<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    acquires(
        Operation::new(s, id, "elections", "Campaigns: leads, or waits to.")
            .text("The fence is the term of the leadership. Priority decides among waiting candidates, it does not depose a leader.")
            .takes::<api::Campaign>("campaign")
            .answers::<api::Elected>(200, "It leads.", "leadership")
            .answers::<api::CandidateQueued>(202, "It is a candidate.", "candidacy"),
    )
}

fn read_election(s: &mut Found) -> Operation<'_> {
    waits(Operation::new(
        s,
        "readElection",
        "elections",
        "Who leads, and who is a candidate: a vacancy is a state.",
    ))
    .reads()
    .answers::<api::Election>(200, "The election.", "election")
}

fn list_elections(s: &mut Found) -> Operation<'_> {
    pages(Operation::new(
        s,
        "listElections",
        "elections",
        "The elections that have a leader or candidates.",
    ))
    .answers::<api::ElectionPage>(200, "The page.", "election_page")
}

fn proclaim<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    leads(Operation::new(
        s,
        id,
        "elections",
        "Gives a leadership a new value.",
    ))
    .takes::<api::Proclaim>("proclaim")
    .answers::<api::Elected>(200, "It leads.", "leadership")
}

fn hand_over<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    leads(Operation::new(
        s,
        id,
        "elections",
        "Passes leadership to a waiting candidate, at one revision.",
    ))
    .takes::<api::HandOver>("hand_over")
    .answers::<api::HandedOver>(200, "Who leads now.", "handed_over")
}

fn leads(operation: Operation<'_>) -> Operation<'_> {
    operation
        .refuses(&[
            Code::LeaseNotFound,
            Code::LeaseExpired,
            Code::NotHeld,
            Code::FenceStale,
        ])
        .records()
        .writes()
}

fn resign<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    releases(
        Operation::new(
            s,
            id,
            "elections",
            "Resigns, withdraws a candidacy, or breaks a leadership.",
        ),
        "candidate",
    )
    .answers::<api::Resigned>(200, "It resigned.", "resigned")
    .answers::<api::Withdrawn>(200, "The candidacy was withdrawn.", "withdrawn")
    .answers::<api::ElectionBroken>(200, "A leadership was broken.", "leadership_broken")
}

// Keys.

fn put_key<'a>(s: &'a mut Found, id: &str) -> Operation<'a> {
    let operation = Operation::new(s, id, "keys", "Sets the value of a key: the body as it is.")
        .text("`Content-Type` is kept with it; that of a form counts as none.")
        .query(
            "lease",
            "Hangs the key on this lease; without, it hangs on none.",
            lease_id(),
        )
        .takes_bytes("The value, to 1 MiB.");
    conditional(operation)
        .header(
            "If-None-Match",
            "`*`: only if the key is absent.",
            words(&["*"]),
        )
        .answers::<api::KeyWritten>(200, "It was there before.", "key_written")
        .answers::<api::KeyWritten>(201, "It was created.", "key_written")
        .tells(200, &["ETag"])
        .tells(201, &["ETag"])
        .refuses(&[
            Code::LeaseNotFound,
            Code::LeaseExpired,
            Code::KeyOnOtherLease,
            Code::QuotaExceeded,
        ])
}

/// A write of keys that a condition and a guard can hold back.
fn conditional(operation: Operation<'_>) -> Operation<'_> {
    guarded(operation.header("If-Match", "Only if the `mod_revision` is this.", tag()))
        .refuses(&[Code::ConditionFailed])
}

fn guarded(operation: Operation<'_>) -> Operation<'_> {
    operation
        .header(
            header::GUARD,
            "`lock=<name>; fence=<n>` (or `semaphore=`, `election=`; the name percent-encoded): applied only while that fence is held.",
            guard(),
        )
        .refuses(&[Code::FenceStale])
        .records()
        .writes()
}

fn read_key(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "readKey", "keys", "The value of a key, as it was put.")
        .text("With `entry=true` the entry as JSON.")
        .query(
            "entry",
            "`true`: the entry as JSON.",
            words(&["true", "false"]),
        )
        .query(
            "revision",
            "As it was then, while that is not compacted.",
            revision(),
        )
        .header("If-Match", "Only if the `mod_revision` is this.", tag());
    waits(operation)
        .reads()
        .answers::<api::KeyEntry>(
            200,
            "The entry, or the value with its own type.",
            "key_entry",
        )
        .answers_as(200, "The value with its own type, or the entry.", "*/*")
        .tells(
            200,
            &[
                "Tenure-Create-Revision",
                "Tenure-Mod-Revision",
                "Tenure-Version",
                "Tenure-Lease",
                "X-Content-Type-Options",
                "Content-Security-Policy",
            ],
        )
        .refuses(&[
            Code::KeyNotFound,
            Code::ConditionFailed,
            Code::Compacted,
            Code::RevisionAhead,
        ])
}

fn delete_key(s: &mut Found) -> Operation<'_> {
    conditional(Operation::new(s, "deleteKey", "keys", "Deletes a key."))
        .answers::<api::Deleted>(200, "It is gone.", "deleted")
        .refuses(&[Code::KeyNotFound])
}

fn list_keys(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "listKeys", "keys", "A page of keys with their values.")
        .text("A page ends at `limit` or 4 MiB. `prefix`, or `start` and `end` for a half-open range. With the `revision` of the first page the next ones see the same state.")
        .query("prefix", "Keys that begin so.", prefix())
        .query("start", "Keys from here on.", prefix())
        .query("end", "Keys before this.", prefix())
        .query("start_after", "Those behind this one: `next` of the page before.", prefix())
        .query("limit", "At most so many.", number(1, 10_000))
        .query("order", "`desc`: from the greatest key down.", words(&["asc", "desc"]))
        .query("keys_only", "`true`: without values.", words(&["true", "false"]))
        .query("revision", "As it was then, while that is not compacted.", revision())
        .reads()
        .answers::<api::KeyPage>(200, "The page.", "key_page")
        .refuses(&[Code::Compacted, Code::RevisionAhead])
}

fn delete_keys(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "deleteKeys",
        "keys",
        "Deletes all keys with a prefix, at one revision.",
    )
    .text("With `?name=` in place of `prefix` it is the call of that one key.")
    .required(
        "prefix",
        "Keys that begin so; an empty one needs `all=true`.",
        prefix(),
    )
    .query(
        "all",
        "`true`: an empty prefix is meant.",
        words(&["true", "false"]),
    );
    guarded(operation)
        .answers::<api::Deleted>(200, "How many went.", "deleted")
        .refuses(&[Code::TooLarge])
}

fn transact(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "transact",
        "keys",
        "Reads and writes keys, all or nothing, at one revision.",
    )
    .text("Operations run in order, a `get` sees those before it; a key may be written once.")
    .takes::<api::Transact>("transaction");
    guarded(operation)
        .answers::<api::Transacted>(
            200,
            "The results of the branch taken, in order.",
            "transacted",
        )
        .refuses(&[
            Code::LeaseNotFound,
            Code::LeaseExpired,
            Code::KeyOnOtherLease,
            Code::QuotaExceeded,
            Code::InvalidName,
        ])
}

/// An ETag of a key.
fn tag() -> utoipa::openapi::schema::Schema {
    pattern_as(r#"^("([0-9]{1,15}|[1-8][0-9]{15})"|\*)$"#, "\"131\"")
}

fn guard() -> utoipa::openapi::schema::Schema {
    let encoded = r"([A-Za-z0-9._~/-]|%(2[0-9A-F]|[3-6][0-9A-F]|7[0-9A-E])){1,1024}";
    let fence = "([1-9][0-9]{0,14}|[1-8][0-9]{15})";
    pattern_as(
        &format!("^(lock|semaphore|election)={encoded}; ?fence={fence}$"),
        "lock=jobs/nightly; fence=121",
    )
}

// Watching.

fn watch(s: &mut Found) -> Operation<'_> {
    watches(Operation::new(
        s,
        "watch",
        "watch",
        "What happened after a revision, or will within a while.",
    ))
    .query(
        "prefix",
        "Resources that begin so: `keys/config/`; may be repeated. At least one `prefix` or `resource` is given, and at \
         most 1000 in all.",
        list_of(pattern(
            r"^(keys|locks|semaphores|elections|leases)/[^\x00-\x1f\x7f-\x9f]{0,1024}$",
        )),
    )
    .query(
        "resource",
        "One resource: `locks/jobs/nightly`; may be repeated.",
        list_of(pattern(
            r"^((keys|locks|semaphores|elections)/[^\x00-\x1f\x7f-\x9f]{1,1024}|leases/[0-7][0-9a-f]{15})$",
        )),
    )
    .query(
        "after",
        "Changes after this revision; without, from now on. Not with `snapshot=true`.",
        revision(),
    )
    .query(
        "snapshot",
        "`true`: the matching state too, at once.",
        words(&["true", "false"]),
    )
    .query(
        "previous",
        "`true`: with the entry before.",
        words(&["true", "false"]),
    )
    .header("Last-Event-ID", "Where a stream goes on: the last `id` that came.", pattern("^([0-9]{0,15}|[1-8][0-9]{15})$"))
}

fn watch_many(s: &mut Found) -> Operation<'_> {
    watches(Operation::new(
        s,
        "watchMany",
        "watch",
        "The same, for many selectors.",
    ))
    .takes::<api::Watch>("watch")
    .header(
        "Last-Event-ID",
        "Where a stream goes on: the last `id` that came.",
        pattern("^([0-9]{0,15}|[1-8][0-9]{15})$"),
    )
}

fn watches(operation: Operation<'_>) -> Operation<'_> {
    operation
        .reads()
        .text("Everything up to the reply's `revision` has been seen, also when `events` is empty: go on from there. With `Accept: text/event-stream` it is a stream: `event: start`, then one `event: change` for each revision.")
        .answers::<api::Events>(200, "Whole revisions, in order.", "events")
        .answers_as(200, "Server-sent events.", "text/event-stream")
        .refuses(&[
            Code::InvalidName,
            Code::Compacted,
            Code::RevisionAhead,
            Code::TooManyWaiters,
            Code::TooLarge,
            Code::NoLeader,
            Code::Lagging,
            Code::Overloaded,
        ])
}

// The cluster.

fn read_cluster(s: &mut Found) -> Operation<'_> {
    Operation::new(
        s,
        "readCluster",
        "cluster",
        "Who belongs to the cluster, and how they are.",
    )
    .reads()
    .answers::<api::Cluster>(200, "The cluster.", "cluster")
}

fn add_member(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "addMember", "cluster", "Adds a member.")
        .text(
            "As a learner, which is given a vote by itself once it has caught up. The member that is asked asks the new \
             one at its peer URL who it is, so `tenured` must run there. Repeated, it answers the member as it is.",
        )
        .takes::<api::AddMember>("add_member")
        .answers::<api::MemberChanged>(201, "The member.", "member_added");
    changes_members(operation)
}

fn replace_member(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "replaceMember",
        "cluster",
        "Adds a member that takes the place of another once it has caught up.",
    )
    .text(
        "At one moment, so that neither counts beside the other; `promote` is left out or true. While the old one runs with \
         its data at the same peer URL there is nothing to replace it by. Best asked for by the id of the old one, since \
         both may have one name; repeated, it answers the new member as it is.",
    )
    .takes::<api::AddMember>("replace_member")
    .answers::<api::MemberChanged>(201, "The new member.", "member_replacing");
    changes_members(member_in_path(operation))
}

fn promote_member(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "promoteMember",
        "cluster",
        "Gives a learner that has caught up its vote.",
    )
    .answers::<api::MemberChanged>(200, "The member.", "member_promoted")
    .refuses(&[Code::UnsupportedMediaType, Code::TooLarge]);
    changes_members(member_in_path(operation))
}

fn remove_member(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "removeMember", "cluster", "Removes a member, for ever.")
        .text("Its id is never a member's again, and its process ends. Repeated by its id, it answers the same.")
        .answers::<api::MemberRemoved>(200, "It was removed.", "member_removed");
    changes_members(member_in_path(operation))
}

fn transfer_leadership(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "transferLeadership",
        "cluster",
        "Has another member lead, and answers once it does.",
    )
    .takes::<api::TransferLeadership>("transfer_leadership")
    .answers::<api::LeadershipTransferred>(200, "It leads.", "leadership_transferred")
    .refuses(&[Code::MemberNotFound]);
    changes_members(operation)
}

fn member_in_path(operation: Operation<'_>) -> Operation<'_> {
    operation
        .in_path(
            "id",
            "The id of the member, 16 hex digits, or its name.",
            name(),
        )
        .refuses(&[Code::InvalidName, Code::MemberNotFound])
}

fn changes_members(operation: Operation<'_>) -> Operation<'_> {
    operation
        .refuses(&[Code::MembershipBusy, Code::MembershipUnsafe])
        .writes()
}

fn read_limits(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "readLimits", "cluster", "Every limit in force.")
        .reads()
        .answers::<api::LimitsInForce>(200, "The limits.", "limits")
}

fn change_limits(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "changeLimits", "cluster", "Changes some limits.")
        .text("Those that are not given stay as they are. `value_bytes` is at most `request_bytes`, and that at most `history_bytes`.")
        .takes::<api::ChangeLimits>("change_limits")
        .answers::<api::LimitsInForce>(200, "The limits.", "limits")
        .records()
        .writes()
}

fn compact(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "compact", "cluster", "Forgets history up to a revision.")
        .takes::<api::Compact>("compact")
        .answers::<api::Compacted>(200, "What is gone.", "compacted")
        .refuses(&[Code::RevisionAhead])
        .records()
        .writes()
}

fn take_backup(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "takeBackup", "cluster", "A backup of everything.")
        .text(
            "The whole state as of one entry of the log, with everything that was acknowledged before this was asked. It comes when it has been made, \
             with its length; a file that was cut off lacks its end, by which `tenured verify` and `tenured restore` know. With `consistency=local` it is \
             of this member's own state, which may be old, also where the cluster has no leader.",
        )
        .reads()
        .answers_as(200, "The backup.", "application/octet-stream")
        .refuses(&[Code::TooManyRequests])
}

fn read_status(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "readStatus", "cluster", "This member.").answers::<api::Status>(
        200,
        "The member as it sees itself.",
        "status",
    )
}

fn change_status(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "changeStatus", "cluster", "Changes this member.")
        .text("It lasts until the member is started again or its settings are read again, which sets it back to what they say.")
        .takes::<api::ChangeStatus>("change_status")
        .answers::<api::Status>(200, "The member as it sees itself.", "status")
}

// Access control.

fn list_roles(s: &mut Found) -> Operation<'_> {
    paged(Operation::new(
        s,
        "listRoles",
        "access",
        "The roles, in the order of their names.",
    ))
    .answers::<api::RolePage>(200, "The page.", "role_page")
}

/// A list of what administrators manage.
fn paged(operation: Operation<'_>) -> Operation<'_> {
    operation
        .query("limit", "At most so many.", number(1, 1000))
        .query(
            "start_after",
            "Those behind this one: `next` of the page before.",
            prefix(),
        )
        .reads()
}

fn role_in_path(operation: Operation<'_>) -> Operation<'_> {
    operation
        .in_path("name", "The name of the role.", access_name())
        .refuses(&[Code::InvalidName])
}

fn read_role(s: &mut Found) -> Operation<'_> {
    role_in_path(Operation::new(s, "readRole", "access", "A role."))
        .reads()
        .answers::<api::AccessRole>(200, "The role.", "role")
        .refuses(&[Code::RoleNotFound])
}

fn put_role(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "putRole", "access", "Makes a role, or gives it other grants.")
        .text(
            "All of its grants: those that are left out are taken away, and what is open for whoever has none any more ends \
             within a second. Refused where nobody could administer the cluster any more.",
        )
        .takes::<api::PutRole>("put_role")
        .answers::<api::AccessRole>(200, "The role.", "role");
    changes_access(role_in_path(operation))
}

fn delete_role(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "deleteRole",
        "access",
        "Deletes a role that no identity has.",
    )
    .answers::<api::RoleDeleted>(200, "It is gone.", "role_deleted")
    .refuses(&[Code::RoleNotFound]);
    changes_access(role_in_path(operation))
}

/// It changes who may do what.
fn changes_access(operation: Operation<'_>) -> Operation<'_> {
    operation
        .header(
            header::IDEMPOTENCY_KEY,
            "Accepted and not recorded: asking again for the same is harmless.",
            idempotency_key(),
        )
        .refuses(&[Code::AccessConflict])
        .writes()
}

fn list_identities(s: &mut Found) -> Operation<'_> {
    paged(Operation::new(
        s,
        "listIdentities",
        "access",
        "The identities, in the order of their names.",
    ))
    .answers::<api::IdentityPage>(200, "The page.", "identity_page")
}

fn identity_in_path(operation: Operation<'_>) -> Operation<'_> {
    operation
        .in_path("name", "The name of the identity.", access_name())
        .refuses(&[Code::InvalidName])
}

fn read_identity(s: &mut Found) -> Operation<'_> {
    identity_in_path(Operation::new(s, "readIdentity", "access", "An identity."))
        .reads()
        .answers::<api::Identity>(200, "The identity.", "identity")
        .refuses(&[Code::IdentityNotFound])
}

fn put_identity(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "putIdentity", "access", "Makes an identity, or changes it.")
        .text(
            "All of it: what is left out is taken away. Its roles must be there, and no other identity has its certificate. \
             A quota that is passed already refuses only growth.",
        )
        .takes::<api::PutIdentity>("put_identity")
        .answers::<api::Identity>(200, "The identity.", "identity");
    changes_access(identity_in_path(operation))
}

fn delete_identity(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "deleteIdentity", "access", "Deletes an identity with its tokens.")
        .text("What hangs on its leases stands until they end, which nobody of that identity renews any more.")
        .answers::<api::IdentityDeleted>(200, "It is gone.", "identity_deleted")
        .refuses(&[Code::IdentityNotFound]);
    changes_access(identity_in_path(operation))
}

fn list_tokens(s: &mut Found) -> Operation<'_> {
    Operation::new(
        s,
        "listTokens",
        "access",
        "The tokens without their secrets, in the order of their ids.",
    )
    .query("limit", "At most so many.", number(1, 1000))
    .query(
        "start_after",
        "Those behind this one: `next` of the page before.",
        hex(16),
    )
    .reads()
    .answers::<api::TokenPage>(200, "The page.", "token_page")
}

fn create_token(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "createToken", "access", "Creates a token of an identity, and shows it once.")
        .text(
            "It works on every member at once. It is rotated by creating another, which both work, and deleting the first. \
             `Idempotency-Key` is refused: a repeat could not show the secret again.",
        )
        .takes::<api::CreateToken>("create_token")
        .answers::<api::TokenCreated>(201, "The token with its secret.", "token_created")
        .refuses(&[Code::IdentityNotFound, Code::InvalidName, Code::AccessConflict])
        .writes()
}

fn delete_token(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(s, "deleteToken", "access", "Deletes a token.")
        .text("It proves nothing from then on, and what was opened with it ends within a second.")
        .in_path(
            "id",
            "The id of the token: what is before its dot.",
            hex(16),
        )
        .answers::<api::TokenDeleted>(200, "It is gone.", "token_deleted")
        .refuses(&[Code::TokenNotFound]);
    changes_access(operation)
}

fn who_am_i(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "whoAmI", "access", "Who asks.")
        .reads()
        .answers::<api::WhoAmI>(200, "The identity and how it was proven.", "who_am_i")
}

fn read_access(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "readAccess", "access", "Whether access control is on.")
        .reads()
        .answers::<api::Access>(200, "Whether it is.", "access")
}

fn change_access(s: &mut Found) -> Operation<'_> {
    let operation = Operation::new(
        s,
        "changeAccess",
        "access",
        "Turns access control on or off.",
    )
    .text("It is turned on only where somebody may administer the cluster then.")
    .takes::<api::ChangeAccess>("change_access")
    .answers::<api::Access>(200, "Whether it is on.", "access");
    changes_access(operation)
}

fn read_document(s: &mut Found) -> Operation<'_> {
    Operation::new(s, "readOpenApi", "cluster", "This document.")
        .answers_as(200, "OpenAPI 3.1.", api::JSON)
        .refuses(&[Code::NotAcceptable])
}

fn live(s: &mut Found) -> Operation<'_> {
    Operation::open(s, "livez", "cluster", "Whether the process is alive.").answers_as(
        200,
        "`ok`.",
        "text/plain",
    )
}

fn metrics(s: &mut Found) -> Operation<'_> {
    Operation::new(
        s,
        "metrics",
        "cluster",
        "How this member is, for Prometheus.",
    )
    .answers_as(
        200,
        "Its metrics in the text form of OpenMetrics 1.0.",
        "application/openmetrics-text",
    )
}

fn ready(s: &mut Found) -> Operation<'_> {
    Operation::open(
        s,
        "readyz",
        "cluster",
        "Whether this member can serve linearizable reads.",
    )
    .answers::<api::Readiness>(200, "It can.", "ready")
    .answers::<api::Readiness>(503, "It cannot, and why.", "not_ready")
}
