//! What a workload asks of a cluster, whichever it is.
//!
//! The workloads are written once against these traits, so that two systems are given the same work. A system says how
//! it does what is asked; it counts and times nothing.

use std::time::Duration;

use bytes::Bytes;

/// A cluster under test, connected to.
pub(crate) trait System: Send + Sync + 'static {
    /// What one client has.
    type Session: Session;

    /// Connects client number `number`. The first goes to the leader, the next to the other members in turn.
    fn open(&self, number: usize) -> impl Future<Output = Result<Self::Session, Failure>> + Send;
}

/// What one client does, one thing at a time. After a failure, and after a future was dropped, it can be used again.
pub(crate) trait Session: Send + 'static {
    /// A lease.
    type Lease: Send + Sync + 'static;
    /// A lock or a leadership that is held.
    type Hold: Send + 'static;
    /// A watch that has begun.
    type Watch: Watching;

    /// Writes a key.
    fn put(&mut self, key: &str, value: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Reads a key that is there: linearizable, or what the member at the other end has.
    fn get(
        &mut self,
        key: &str,
        reading: Reading,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Deletes all keys with this prefix.
    fn delete(&mut self, prefix: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Grants a lease.
    fn grant(&mut self, ttl: Duration)
    -> impl Future<Output = Result<Self::Lease, Failure>> + Send;

    /// Renews leases together; those that are refused are in the answer.
    fn renew(
        &mut self,
        leases: &[Self::Lease],
    ) -> impl Future<Output = Result<Done, Failure>> + Send;

    /// Ends a lease, and what hangs on it; one that has ended is no failure.
    fn revoke(&mut self, lease: &Self::Lease) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Takes a lock, waiting for as long as it takes.
    fn acquire(
        &mut self,
        lock: &str,
        lease: &Self::Lease,
    ) -> impl Future<Output = Result<Self::Hold, Failure>> + Send;

    /// Gives the lock back.
    fn release(&mut self, hold: Self::Hold) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Becomes the leader of an election, waiting for as long as it takes.
    fn campaign(
        &mut self,
        election: &str,
        lease: &Self::Lease,
        value: &str,
    ) -> impl Future<Output = Result<Self::Hold, Failure>> + Send;

    /// Gives the leadership back.
    fn resign(&mut self, hold: Self::Hold) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Watches a key: begun when this is answered.
    fn watch(&mut self, key: &str) -> impl Future<Output = Result<Self::Watch, Failure>> + Send;
}

/// A watch of one key.
pub(crate) trait Watching: Send + 'static {
    /// Waits for changes, and appends the first bytes of each value to `heads`: at least as many as
    /// [`super::busy::HEAD`].
    fn next(&mut self, heads: &mut Vec<Bytes>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// How a key is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// Everything that was acknowledged before is in it.
    Linearizable,
    /// What the member has.
    Local,
}

/// Operations that ended together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// How many succeeded.
    pub(crate) operations: u64,
    /// How many of them were refused, by code.
    pub(crate) refused: Vec<(String, u64)>,
    /// How long it took, where that is not the time since the client was asked.
    pub(crate) took: Option<Duration>,
}

impl Done {
    /// One operation.
    pub(crate) fn one() -> Done {
        Done::many(1)
    }

    /// Several, in one request.
    pub(crate) fn many(operations: u64) -> Done {
        Done {
            operations,
            ..Done::default()
        }
    }

    /// One more was refused.
    pub(crate) fn refuse(&mut self, code: String) {
        match self.refused.iter_mut().find(|(known, _)| *known == code) {
            Some((_, times)) => *times += 1,
            None => self.refused.push((code, 1)),
        }
    }

    /// The same, by a clock of its own.
    pub(crate) fn took(mut self, took: Duration) -> Done {
        self.took = Some(took);
        self
    }
}

/// Why something did not succeed: a code to count by, and words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(code: impl Into<String>, detail: impl Into<String>) -> Failure {
        Failure {
            code: code.into(),
            detail: detail.into(),
        }
    }

    /// Whether it was refused by a cluster that will be there again: by the codes of Tenure, and of gRPC.
    pub(crate) fn passes(&self) -> bool {
        matches!(
            self.code.as_str(),
            "no-leader" | "lagging" | "overloaded" | "unavailable"
        )
    }

    /// No connection, or one that broke.
    pub(crate) fn connection(detail: impl Into<String>) -> Failure {
        Failure::new("connection", detail)
    }

    /// An answer that makes no sense.
    pub(crate) fn answer(detail: impl Into<String>) -> Failure {
        Failure::new("unreadable-answer", detail)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}
