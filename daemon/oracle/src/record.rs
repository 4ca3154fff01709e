//! What a run leaves behind: who asked what and was told what, what watchers saw, what holders did, what was broken.
//!
//! Owns the format of recordings, one JSON object a line. All times are of one clock, the recorder's: nothing here
//! compares clocks of two machines. Records say what was observed; what it means is for the checkers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A revision of the cluster.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The one before it; the first has none and is its own.
    #[must_use]
    pub fn before(self) -> Revision {
        Revision(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment by the recorder's clock, in nanoseconds since the run began.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// The end of time: when a call ended whose answer never came.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// So many milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// How many nanoseconds after another moment; 0 where it is not after it.
    #[must_use]
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A line of a recording.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Somebody asked and was told.
    Call(Call),
    /// A watcher was told.
    Reply(Reply),
    /// A client believed to hold something for a while.
    Belief(Belief),
    /// A holder did something outside of the cluster.
    Effect(Effect),
    /// Something was broken or mended.
    Fault(Fault),
}

/// A call: who asked whom, when, what, and what the answer said.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Who asked. A client asks one thing at a time.
    pub client: u64,
    /// The member that was asked.
    pub member: usize,
    /// Which connection of this client to this member it was.
    #[serde(default)]
    pub connection: u64,
    /// Before the first byte was sent.
    pub call: Moment,
    /// After the last byte of the answer, or when the client gave up.
    pub ret: Moment,
    /// What was asked.
    pub ask: Ask,
    /// What was told.
    pub told: Told,
}

/// What a client asks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Sets a key.
    Put {
        /// Which.
        key: String,
        /// To what: unlike every other value of the run.
        value: String,
        /// Only if the key was last changed then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_if: Option<Revision>,
        /// Only if the key is absent.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        absent: bool,
        /// The lease that it hangs on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<String>,
        /// Only while this is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
        /// The idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<String>,
    },
    /// Deletes a key.
    Delete {
        /// Which.
        key: String,
        /// Only while this is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
        /// The idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<String>,
    },
    /// Deletes all keys with a prefix, of which there may be none.
    DeletePrefix {
        /// Which.
        prefix: String,
        /// Only while this is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
        /// The idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<String>,
    },
    /// A transaction.
    Transact {
        /// All must hold for the first branch.
        when: Vec<Condition>,
        /// The branch taken if they do.
        then: Vec<Operation>,
        /// The branch taken if they do not.
        #[serde(default)]
        otherwise: Vec<Operation>,
        /// Only while this is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
        /// The idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<String>,
    },
    /// Reads a key.
    Get {
        /// Which.
        key: String,
        /// As of when.
        #[serde(default)]
        how: How,
    },
    /// Reads all keys with a prefix.
    List {
        /// Which.
        prefix: String,
        /// As of when.
        #[serde(default)]
        how: How,
    },
    /// Grants a lease.
    Grant {
        /// For how long.
        ttl_ms: u64,
        /// The name, by which a lock delay knows whom it lets through.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        name: String,
        /// The idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<String>,
    },
    /// Renews a lease.
    Renew {
        /// Which.
        lease: String,
    },
    /// Changes the TTL of a lease and renews it.
    Change {
        /// Which.
        lease: String,
        /// To what.
        ttl_ms: u64,
    },
    /// Revokes a lease.
    Revoke {
        /// Which.
        lease: String,
    },
    /// Acquires a lock or permits, or campaigns: whatever makes a hold of a resource. One asker asks for one name in
    /// one way only.
    Acquire {
        /// `locks/…`, `semaphores/…` or `elections/…`.
        resource: String,
        /// On which lease.
        lease: String,
        /// The owner or candidate.
        #[serde(default)]
        owner: String,
        /// How much of it.
        #[serde(default)]
        share: Share,
        /// Before whom in the queue.
        #[serde(default)]
        priority: i64,
        /// For how long nobody is granted it after the lease of this hold has run out.
        #[serde(default, skip_serializing_if = "is_zero")]
        lock_delay_ms: u64,
    },
    /// Acquires several locks at once, or none.
    AcquireAll {
        /// How much of each `locks/…`.
        locks: BTreeMap<String, Share>,
        /// On which lease.
        lease: String,
        /// The owner.
        #[serde(default)]
        owner: String,
        /// Before whom in each queue.
        #[serde(default)]
        priority: i64,
    },
    /// Leaves the queue.
    Leave {
        /// `locks/…`, `semaphores/…` or `elections/…`: of several at once, one of them.
        resource: String,
        /// On which lease.
        lease: String,
        /// The owner or candidate.
        #[serde(default)]
        owner: String,
    },
    /// Releases a lock or permits, or resigns.
    Release {
        /// `locks/…`, `semaphores/…` or `elections/…`.
        resource: String,
        /// On which lease.
        lease: String,
        /// The owner or candidate.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
        /// The fence of the hold.
        fence: u64,
    },
    /// Ends holds of somebody else.
    Break {
        /// `locks/…`, `semaphores/…` or `elections/…`.
        resource: String,
        /// Their fence.
        fence: u64,
        /// The lease and the owner of the only one that is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<(String, String)>,
        /// Whoever is next need not wait for the end of what the holder may believe.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        now: bool,
    },
    /// Passes a leadership to a candidate who waits.
    HandOver {
        /// `elections/…`.
        resource: String,
        /// The leader's lease.
        lease: String,
        /// The leader, as a candidate.
        owner: String,
        /// The fence of the leadership.
        fence: u64,
        /// The candidate.
        to: String,
    },
    /// Proclaims a value.
    Proclaim {
        /// `elections/…`.
        resource: String,
        /// On which lease.
        #[serde(default)]
        lease: String,
        /// The candidate.
        #[serde(default)]
        owner: String,
        /// The fence of the leadership.
        fence: u64,
        /// The value.
        value: String,
    },
    /// Reads who holds a resource that has one holder.
    Holder {
        /// `locks/…` or `elections/…`.
        resource: String,
    },
    /// Reads who all hold a resource.
    Holders {
        /// `locks/…` or `semaphores/…`.
        resource: String,
    },
}

impl Ask {
    /// Sets a key, whatever it holds.
    #[must_use]
    pub fn put(key: impl Into<String>, value: String) -> Ask {
        Ask::Put {
            key: key.into(),
            value,
            only_if: None,
            absent: false,
            lease: None,
            guard: None,
            once: None,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A fence that must be held.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Of `locks/…`, `semaphores/…` or `elections/…`.
    pub resource: String,
    /// Which.
    pub fence: u64,
}

/// How much of a resource is asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Share {
    /// All of it.
    #[default]
    Exclusive,
    /// With others who share it.
    Shared,
    /// So many permits of a semaphore.
    Permits {
        /// How many.
        permits: u64,
        /// Of how many there are, as the asker says.
        limit: u64,
    },
}

/// As of when a read is to be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Not older than anything told before it was asked.
    #[default]
    Linearizable,
    /// As this member has it.
    Local,
    /// As of this revision.
    At(Revision),
    /// Linearizable, and not before this revision.
    AtLeast(Revision),
}

/// A condition of a transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// The key was last changed at this revision; 0: it is absent.
    Modified {
        /// Which key.
        key: String,
        /// When.
        revision: Revision,
    },
    /// The key has this value.
    Value {
        /// Which key.
        key: String,
        /// Which value.
        value: String,
    },
    /// A fence is held.
    Held(Guard),
    /// A lease lives.
    Live {
        /// Which.
        lease: String,
    },
}

/// An operation of a transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
    },
    /// Deletes a key, which may be absent.
    Delete {
        /// Which.
        key: String,
    },
    /// Deletes all keys with a prefix, of which there may be none.
    DeletePrefix {
        /// Which.
        prefix: String,
    },
    /// Reads a key as the operations before it leave it.
    Get {
        /// Which.
        key: String,
    },
}

/// What a reader was shown of a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its value.
    pub value: String,
    /// When it was last changed.
    pub revision: Revision,
}

/// How long a lease has, as an answer says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// Its TTL.
    pub ttl_ms: u64,
    /// What is left of it, by the clock of the entry that decided.
    pub remaining_ms: u64,
}

/// What a place is told of times, all of one moment of the cluster's clock.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// What is left of the wait.
    pub wait_ms: u64,
    /// What is left of the lease of the place.
    pub remaining_ms: u64,
    /// What is left of the lease of each holder.
    pub holders: BTreeMap<String, u64>,
}

/// What a client was told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Told {
    /// It was done, at this revision.
    Done {
        /// When.
        revision: Revision,
        /// The answer is that of an earlier request with the same idempotency key.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    /// Keys were deleted.
    Deleted {
        /// When, or the present revision where there were none.
        revision: Revision,
        /// How many.
        deleted: u64,
        /// The answer is that of an earlier request with the same idempotency key.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    /// The keys, as of this revision.
    Read {
        /// The state that the answer reflects.
        revision: Revision,
        /// What is there of what was asked for.
        keys: BTreeMap<String, Seen>,
    },
    /// A transaction was done.
    Transacted {
        /// When, or the present revision where it changed nothing.
        revision: Revision,
        /// Whether its conditions held.
        succeeded: bool,
        /// What its gets saw, in order; nothing in an answer that repeats another.
        #[serde(default)]
        gets: Vec<Option<Seen>>,
        /// The answer is that of an earlier request with the same idempotency key.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    /// A lease was granted.
    Granted {
        /// When.
        revision: Revision,
        /// Its id.
        lease: String,
        /// The answer is that of an earlier request with the same idempotency key.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    /// A lease was renewed; the state was this one.
    Renewed {
        /// The state that the answer reflects.
        revision: Revision,
        /// How long it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<Left>,
    },
    /// The resource is held.
    Held {
        /// The state that the answer reflects.
        revision: Revision,
        /// The fence of the hold.
        fence: u64,
    },
    /// All of several locks are held.
    HeldAll {
        /// The state that the answer reflects.
        revision: Revision,
        /// The fence of the hold of each `locks/…`.
        fences: BTreeMap<String, u64>,
    },
    /// The caller has a place in the queue.
    Queued {
        /// The state that the answer reflects.
        revision: Revision,
        /// What it says of times.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        times: Option<Times>,
    },
    /// Holds were broken.
    Broken {
        /// When.
        revision: Revision,
        /// The lease, the owner and the fence of each.
        holders: BTreeSet<(String, String, u64)>,
    },
    /// A leadership was passed on.
    HandedOver {
        /// When.
        revision: Revision,
        /// The lease of who leads now.
        lease: String,
        /// The fence of the new leadership.
        fence: u64,
    },
    /// Who holds the resource.
    Holder {
        /// The state that the answer reflects.
        revision: Revision,
        /// The fence of the hold; none while it is free.
        fence: Option<u64>,
        /// What was proclaimed last.
        #[serde(default)]
        value: Option<String>,
    },
    /// Who all hold the resource.
    Holders {
        /// The state that the answer reflects.
        revision: Revision,
        /// The lease, the owner and the fence of each hold.
        holders: BTreeSet<(String, String, u64)>,
    },
    /// A condition does not hold, or what was named is not there, as of this revision.
    Refused {
        /// The state that the answer reflects.
        revision: Revision,
        /// When the key was last changed, where the answer says so; 0: it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actual: Option<Revision>,
        /// The answer is that of an earlier request with the same idempotency key, of whose time it is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    /// The fence that guards the write is not held, as of some revision up to this one.
    Stale {
        /// The state right after the entry that decided.
        revision: Revision,
        /// A fence that is held in its place; none where nobody holds the resource.
        fence: Option<u64>,
        /// The answer is that of an earlier request with the same idempotency key, of whose time it is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    /// The lease on which a key was to hang is lost, as of this revision; of the key nothing is said.
    Lost {
        /// The state that the answer reflects.
        revision: Revision,
    },
    /// The idempotency key is said to be of another request.
    Mismatch,
    /// Not applied, and never will be.
    Failed,
    /// Nothing that can be relied on.
    Unknown,
}

/// An event as a watcher is shown it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// To what: the collection and the name.
    pub resource: String,
    /// The other fields, as they were shown.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Event {
    /// A field that is a string; empty where it is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.more
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A field that is a number.
    #[must_use]
    pub fn number(&self, field: &str) -> Option<u64> {
        self.more.get(field).and_then(Value::as_u64)
    }

    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.resource.strip_prefix("keys/")
    }

    /// Whether what it tells of is as much of the resource as that. Events do not tell the limit of a semaphore.
    #[must_use]
    pub fn is_of(&self, share: Share) -> bool {
        let (mode, permits) = (self.text("mode"), self.number("permits"));
        match share {
            Share::Exclusive => mode != "shared" && permits.is_none(),
            Share::Shared => mode == "shared",
            Share::Permits { permits: asked, .. } => permits == Some(asked),
        }
    }

    /// Who asked for a hold: the lease and the owner or candidate.
    #[must_use]
    pub fn who(&self) -> (&str, &str) {
        let owner = match self.text("owner") {
            "" => self.text("candidate"),
            owner => owner,
        };
        (self.text("lease"), owner)
    }
}

/// What a watcher was told at once: a reply to a poll, or a message of a stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Which watcher. It goes on from reply to reply, over connections and members.
    pub watcher: u64,
    /// Whether it watches everything from the first revision to the last: the reference.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archive: bool,
    /// The member that told it.
    pub member: usize,
    /// When it was told.
    pub ret: Moment,
    /// What it watches: prefixes of resources.
    pub prefixes: Vec<String>,
    /// Whether it asked for what keys were before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub previous: bool,
    /// The revision up to which it had seen everything.
    pub after: Revision,
    /// The revision up to which it has now seen everything.
    pub revision: Revision,
    /// What happened in between.
    #[serde(default)]
    pub events: Vec<Event>,
    /// History up to this revision is gone: it must begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted: Option<Revision>,
}

/// A time in which a client believed that it held something, by the rule of `api.md` §1.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Belief {
    /// Who.
    pub client: u64,
    /// What.
    pub resource: String,
    /// On which lease.
    pub lease: String,
    /// By which fence.
    pub fence: u64,
    /// When it learnt of it.
    pub from: Moment,
    /// When it stopped.
    pub until: Moment,
}

/// A write of a holder to something outside, in the order in which the outside saw them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// What was written to.
    pub target: String,
    /// What the writer holds, or did: `locks/…`.
    pub resource: String,
    /// Whether the outside looks at fences; one that does not is the control.
    pub fenced: bool,
    /// The fence of the hold.
    pub fence: u64,
    /// When.
    pub at: Moment,
    /// Whether it was let in.
    pub accepted: bool,
}

/// Something that was broken or mended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it began.
    pub from: Moment,
    /// When it was over.
    pub until: Moment,
    /// Its name.
    pub name: String,
    /// What shows that it took effect.
    pub evidence: String,
    /// By how many millionths a clock of a member was off.
    #[serde(default)]
    pub drift_ppm: u64,
}

/// A recording that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the recording: {0}")]
    Io(#[from] std::io::Error),
    /// A line is no line of a recording.
    #[error("line {line} is no line of a recording: {source}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// All that was recorded of a run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The calls.
    pub calls: Vec<Call>,
    /// What watchers were told, for each watcher in order.
    pub replies: Vec<Reply>,
    /// What clients believed.
    pub beliefs: Vec<Belief>,
    /// What holders did outside, for each target in order.
    pub effects: Vec<Effect>,
    /// What was broken.
    pub faults: Vec<Fault>,
}

impl Recording {
    /// Reads lines; empty ones are skipped.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or one is none of ours.
    pub fn read(lines: impl BufRead) -> Result<Recording, ReadError> {
        let mut recording = Recording::default();
        for (number, line) in lines.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let line = serde_json::from_str(&line).map_err(|source| ReadError::Line {
                line: number + 1,
                source,
            })?;
            recording.push(line);
        }
        Ok(recording)
    }

    /// Adds a line.
    pub fn push(&mut self, line: Line) {
        match line {
            Line::Call(call) => self.calls.push(call),
            Line::Reply(reply) => self.replies.push(reply),
            Line::Belief(belief) => self.beliefs.push(belief),
            Line::Effect(effect) => self.effects.push(effect),
            Line::Fault(fault) => self.faults.push(fault),
        }
    }
}
