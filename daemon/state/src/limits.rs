//! What bounds the state: the replicated limits, and the bounds of the format.
//!
//! Owns every number that decides a result of `apply`. Limits are a row and changed by an entry only; the constants
//! are part of the rules (`version.rs`) and never differ between members of one cluster.

use crate::access::RootToken;
use crate::ids::Revision;
use crate::version::STATE_VERSION;

/// The least TTL of a lease.
pub const MIN_TTL_MS: u64 = 1000;
/// The greatest TTL of a lease: a day.
pub const MAX_TTL_MS: u64 = 86_400_000;
/// The longest wait for a lock: a day.
pub const MAX_WAIT_MS: u64 = 86_400_000;
/// The longest lock delay.
pub const MAX_LOCK_DELAY_MS: u64 = 60_000;
/// The greatest priority; the least is its negative.
pub const MAX_PRIORITY: i32 = 100;
/// The most bytes of a name, a key, an owner and the name of a lease.
pub const MAX_NAME_BYTES: u64 = 1024;
/// The most bytes of an idempotency key.
pub const MAX_IDEMPOTENCY_KEY_BYTES: u64 = 128;
/// The most bytes of metadata, keys and values together.
pub const MAX_METADATA_BYTES: u64 = 4096;
/// The most bytes of an election's value.
pub const MAX_ELECTION_VALUE_BYTES: u64 = 65_536;
/// The most names of one acquire.
pub const MAX_NAMES_TOGETHER: u64 = 64;
/// How many holders and places a view shows, and how far a position is exact.
pub const SHOWN: usize = 100;
/// How many ends one entry brings about. An end serves queues and writes rows; a storm of them must not hold up the
/// writes of others. The leader appends further entries, at most every 50 ms, until nothing is due: 1000 ends that are
/// due at once take four of them and so come within the 250 ms of `api.md` §3.
pub const MAX_ENDS_PER_ENTRY: u64 = 250;
/// After how many things that went with ended leases an entry ends no further lease.
pub const MAX_ENDED_THINGS_PER_ENTRY: u64 = 10_000;
/// How many revisions one entry compacts, beyond as many as it made, so that compaction keeps up.
pub(crate) const MAX_COMPACTED_PER_ENTRY: u64 = 1000;
/// After how many events an entry compacts no further revision.
pub(crate) const MAX_COMPACTED_EVENTS_PER_ENTRY: u64 = 20_000;
/// How long an ended lease is `lease-expired` rather than unknown.
pub const ENDED_RETENTION_MS: u64 = 600_000;
/// How many ended leases are remembered.
pub const ENDED_LEASES: usize = 100_000;
/// How many ended leases one entry forgets because of their age.
pub(crate) const MAX_ENDED_FORGOTTEN_PER_ENTRY: usize = 2000;
/// How many expired idempotency records one entry forgets, beyond as many as it may have added.
pub(crate) const MAX_REPEATS_FORGOTTEN_PER_ENTRY: usize = 2000;

/// The limits that decide results. Named as in `GET /v1/limits`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most bytes of a value.
    pub value_bytes: u64,
    /// The most bytes of a request; members refuse longer ones before they are proposed.
    pub request_bytes: u64,
    /// The most keys that one revision changes.
    pub keys_per_revision: u64,
    /// The most things that hang on a lease.
    pub attached_per_lease: u64,
    /// The most conditions of a transaction.
    pub txn_conditions: u64,
    /// The most operations of a branch of a transaction.
    pub txn_operations: u64,
    /// How long history is kept.
    pub history_retention_ms: u64,
    /// How many bytes of history are kept, counted about as memory holds them; the oldest goes first.
    pub history_bytes: u64,
    /// How long a decision is kept for repeats.
    pub idempotency_retention_ms: u64,
    /// How many decisions are kept for repeats. One that takes more than 512 bytes of memory, as that of a large
    /// transaction does, counts one for each of them.
    pub idempotency_records: u64,
    /// The most keys.
    pub keys: u64,
    /// The most bytes of keys and values together.
    pub key_bytes: u64,
    /// The most leases.
    pub leases: u64,
    /// The most places in queues.
    pub waiters: u64,
    /// The most watchers of a member; members refuse more.
    pub watchers: u64,
    /// The most memory of leases, holds and places together: names, owners, metadata and values, 448 bytes for each lease,
    /// 1280 for each hold and each name that a place waits for, and for labels 384 and 128 each. That is what they take in
    /// the memory of a member, or somewhat more (`tests/memory.rs`).
    pub standing_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            value_bytes: 1_048_576,
            request_bytes: 2_097_152,
            keys_per_revision: 10_000,
            attached_per_lease: 10_000,
            txn_conditions: 128,
            txn_operations: 128,
            history_retention_ms: 3_600_000,
            history_bytes: 268_435_456,
            idempotency_retention_ms: 60_000,
            idempotency_records: 1_000_000,
            keys: 10_000_000,
            key_bytes: 4_294_967_296,
            leases: 1_000_000,
            waiters: 100_000,
            watchers: 10_000,
            standing_bytes: 1 << 30,
        }
    }
}

/// Why limits are not accepted. The text names the limit, the value and what is accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// There is no limit of this name.
    #[error("{name:?} is no limit; the limits are {}", limit_names())]
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// The value is outside what a limit may be.
    #[error("{name} is {value}; accepted are {min} to {max}")]
    OutOfRange {
        /// The limit.
        name: &'static str,
        /// The value that was given.
        value: u64,
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// Two limits contradict each other.
    #[error(
        "{lesser} is {lesser_value} and {greater} is {greater_value}; accepted is a {lesser} of at most {greater}"
    )]
    Contradiction {
        /// The limit that must not be greater.
        lesser: &'static str,
        /// Its value.
        lesser_value: u64,
        /// Than this one.
        greater: &'static str,
        /// Its value.
        greater_value: u64,
    },
}

/// One limit: its name, what it may be, and where it is kept.
struct Field {
    name: &'static str,
    min: u64,
    max: u64,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

macro_rules! field {
    ($name:ident, $min:expr, $max:expr) => {
        Field {
            name: stringify!($name),
            min: $min,
            max: $max,
            get: |limits| limits.$name,
            set: |limits, value| limits.$name = value,
        }
    };
}

/// All limits in the order of `GET /v1/limits`, with what each may be. The least is what the service cannot do
/// without, the most what a member can still carry.
const FIELDS: [Field; 16] = [
    field!(value_bytes, 1024, 8 << 20),
    // The greatest value of an election fits, and so does an entry with one request into a frame between members.
    field!(request_bytes, 128 << 10, 8 << 20),
    // So many events of one revision come in one reply of a watch.
    field!(keys_per_revision, 1, 100_000),
    // All of it ends at one revision, in one entry.
    field!(attached_per_lease, 1, 100_000),
    // A conditional put of one key is up to three of them.
    field!(txn_conditions, 4, 1024),
    field!(txn_operations, 1, 1024),
    // A month.
    field!(history_retention_ms, 1000, 2_592_000_000),
    // History lies in memory.
    field!(history_bytes, 1 << 20, 64 << 30),
    field!(idempotency_retention_ms, 1000, 86_400_000),
    field!(idempotency_records, 1, 10_000_000),
    field!(keys, 1, 1_000_000_000),
    field!(key_bytes, 1 << 20, 1 << 40),
    field!(leases, 1, 10_000_000),
    field!(waiters, 1, 10_000_000),
    field!(watchers, 1, 1_000_000),
    // The greatest request of an acquire fits: 64 names, each a hold with 4 KiB of the shortest labels and a value.
    field!(standing_bytes, 32 << 20, 1 << 40),
];

fn limit_names() -> String {
    FIELDS.map(|field| field.name).join(", ")
}

impl Limits {
    /// Every limit by its name, in the order of `GET /v1/limits`.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIELDS.iter().map(|field| (field.name, (field.get)(self)))
    }

    /// Every limit by its name, with the least and the most that it may be.
    pub fn ranges() -> impl Iterator<Item = (&'static str, u64, u64)> {
        FIELDS
            .iter()
            .map(|field| (field.name, field.min, field.max))
    }

    /// Every limit at the most that it may be in any cluster.
    pub fn most() -> Limits {
        let mut most = Limits::default();
        for field in &FIELDS {
            (field.set)(&mut most, field.max);
        }
        most
    }

    /// Sets one limit. Whether it agrees with the others says [`Limits::check`], when all are set.
    ///
    /// # Errors
    ///
    /// Where there is no limit of this name, or it may not have this value; then nothing is changed.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), LimitError> {
        let field = FIELDS.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| LimitError::Unknown {
            name: name.to_owned(),
        })?;
        field.check(value)?;
        (field.set)(self, value);
        Ok(())
    }

    /// Whether these limits are accepted, each for itself and all together.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check(&self) -> Result<(), LimitError> {
        FIELDS
            .iter()
            .try_for_each(|field| field.check((field.get)(self)))?;
        self.check_together()
    }

    /// Whether these limits agree with one another.
    ///
    /// # Errors
    ///
    /// The first two that do not.
    pub(crate) fn check_together(&self) -> Result<(), LimitError> {
        // A value longer than a request could never be put.
        let value = ("value_bytes", self.value_bytes);
        let request = ("request_bytes", self.request_bytes);
        // History that one request fills is gone before any watcher has seen it.
        let history = ("history_bytes", self.history_bytes);
        at_most(value, request)?;
        at_most(request, history)
    }
}

impl Field {
    fn check(&self, value: u64) -> Result<(), LimitError> {
        if (self.min..=self.max).contains(&value) {
            return Ok(());
        }
        Err(LimitError::OutOfRange {
            name: self.name,
            value,
            min: self.min,
            max: self.max,
        })
    }
}

fn at_most(lesser: (&'static str, u64), greater: (&'static str, u64)) -> Result<(), LimitError> {
    if lesser.1 <= greater.1 {
        return Ok(());
    }
    Err(LimitError::Contradiction {
        lesser: lesser.0,
        lesser_value: lesser.1,
        greater: greater.0,
        greater_value: greater.1,
    })
}

/// What a new cluster begins with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// The revision of the empty state: 1, but in a restored cluster.
    pub first_revision: Revision,
    /// The limits it begins with.
    pub limits: Limits,
    /// The token that may do everything, where access control is on from the beginning.
    pub root: Option<RootToken>,
    /// The version of the rules that it begins with; rules that know access control where there is a `root`.
    pub version: u64,
}

impl Default for Genesis {
    fn default() -> Genesis {
        Genesis {
            first_revision: Revision(1),
            limits: Limits::default(),
            root: None,
            version: STATE_VERSION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_new_cluster_are_accepted() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn the_most_of_any_cluster_is_accepted_and_nothing_above_it_is() {
        let most = Limits::most();
        assert_eq!(most.check(), Ok(()));
        for ((name, value), (_, _, max)) in most.named().zip(Limits::ranges()) {
            assert_eq!(value, max, "{name}");
            let more = Limits::default().set(name, value + 1);
            assert!(more.is_err(), "{name} above {value}");
        }
        for (name, value) in Limits::default().named() {
            let least = Limits::most().set(name, value);
            assert_eq!(least, Ok(()), "{name} may be what it is at first");
        }
    }

    #[test]
    fn each_limit_is_set_by_its_name_and_no_other_with_it() {
        for field in &FIELDS {
            let mut limits = Limits::default();
            limits.set(field.name, field.min).expect("it is accepted");
            for ((name, value), (_, before)) in limits.named().zip(Limits::default().named()) {
                let expected = if name == field.name {
                    field.min
                } else {
                    before
                };
                assert_eq!(value, expected, "{name} after {} was set", field.name);
            }
        }
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_is_accepted_and_changes_nothing() {
        for field in &FIELDS {
            for value in [field.min - 1, field.max + 1, u64::MAX] {
                let mut limits = Limits::default();
                let error = limits.set(field.name, value).expect_err("it is refused");
                let text = error.to_string();
                let named = [
                    field.name.to_owned(),
                    value.to_string(),
                    field.min.to_string(),
                    field.max.to_string(),
                ];
                assert!(named.iter().all(|part| text.contains(part)), "{text}");
                assert_eq!(limits, Limits::default());
            }
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_names_there_are() {
        let error = Limits::default()
            .set("value_byte", 1)
            .expect_err("it is unknown");
        let text = error.to_string();
        assert!(
            text.contains("\"value_byte\"") && text.contains("watchers"),
            "{text}"
        );
    }

    #[test]
    fn limits_that_contradict_each_other_are_told_apart() {
        let check = |changes: &[(&str, u64)], expected: Option<[&str; 2]>| {
            let mut limits = Limits::default();
            for (name, value) in changes {
                limits.set(name, *value).expect("it is accepted alone");
            }
            let found = limits.check().err().map(|error| error.to_string());
            match (found, expected) {
                (None, None) => {}
                (Some(text), Some(parts)) => {
                    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
                }
                (found, expected) => panic!("{changes:?}: {found:?} instead of {expected:?}"),
            }
        };
        check(
            &[("value_bytes", 4 << 20)],
            Some(["value_bytes is 4194304", "request_bytes is 2097152"]),
        );
        check(
            &[("value_bytes", 4 << 20), ("request_bytes", 8 << 20)],
            None,
        );
        check(
            &[("history_bytes", 1 << 20)],
            Some(["request_bytes is 2097152", "history_bytes is 1048576"]),
        );
    }
}
