//! Locks.
//!
//! Owns how a lock is asked for and the guard of one that is held.

use std::time::Duration;

use tenure_api::{AcquireLock, Mode};
use tokio::sync::watch;

use crate::belief::State;
use crate::client::Client;
use crate::error::{Error, Loss};
use crate::held::Held;
use crate::hold::{Hold, Kind};
use crate::lease::{Lease, TTL, millis};
use crate::queue::{Asking, LeaseOf, acquire, poll};

/// A lock to be acquired: exclusively, on a lease of its own with a TTL of 15 s, without waiting, unless told
/// otherwise.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use std::time::Duration;
/// let lock = client.lock("jobs/nightly").wait(Duration::from_secs(60)).acquire().await?;
/// println!("held with fence {}", lock.fence());
/// let report = lock.run(nightly()).await?;       // dropped before the lock could be another's
/// client.put("jobs/nightly/report", report).guard(&lock).await?;
/// lock.release().await?;
/// # async fn nightly() -> &'static str { "" }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked before `acquire` is awaited"]
pub struct Acquire<'a> {
    client: Client,
    name: String,
    lease: Option<&'a Lease>,
    ttl: Duration,
    wait: Duration,
    wanted: AcquireLock,
}

impl Client {
    /// A lock to be acquired.
    pub fn lock(&self, name: impl Into<String>) -> Acquire<'static> {
        Acquire {
            client: self.clone(),
            name: name.into(),
            lease: None,
            ttl: TTL,
            wait: Duration::ZERO,
            wanted: AcquireLock::default(),
        }
    }
}

impl Acquire<'_> {
    /// The TTL of the lease that is granted for it: how long others wait after this program has died.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Hangs it on a lease that is there already.
    ///
    /// A hold is known by its lease and owner: two tasks that exclude one another on one lease need different owners,
    /// or the second is given the hold of the first.
    pub fn on(self, lease: &Lease) -> Acquire<'_> {
        Acquire {
            client: self.client,
            name: self.name,
            lease: Some(lease),
            ttl: self.ttl,
            wait: self.wait,
            wanted: self.wanted,
        }
    }

    /// How long to wait in the queue, up to 24 h.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Held together with others who ask for it shared.
    pub fn shared(mut self) -> Self {
        self.wanted.mode = Mode::Shared;
        self
    }

    /// Tells holds on one lease apart.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.wanted.owner = owner.into();
        self
    }

    /// −100 to 100; higher goes first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.wanted.priority = priority;
        self
    }

    /// A label that is shown to those who are refused.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.wanted.metadata.insert(name.into(), value.into());
        self
    }

    /// For how long nobody else is granted it after the lease of this holder *ran out*; up to 60 s.
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.wanted.lock_delay_ms = millis(delay);
        self
    }

    /// Asks, and waits in the queue. The place is kept while leaders change and while the cluster is away for less
    /// than the TTL.
    ///
    /// Dropping the future leaves the queue in the background, as far as that succeeds within 5 s; a place that is
    /// left behind, or a hold that it became, ends with its lease. A lease granted for it is revoked likewise.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] with [`Code::LockHeld`](tenure_api::Code::LockHeld) or
    /// [`Code::WaitExpired`](tenure_api::Code::WaitExpired) where others hold it; [`Error::Lost`] where the lease was
    /// lost meanwhile; [`Error::Unknown`] where no answer told.
    pub async fn acquire(self) -> Result<Lock, Error> {
        let lease = match self.lease {
            Some(lease) => LeaseOf::Callers(lease),
            None => LeaseOf::Own(self.client.lease(self.ttl).grant().await?),
        };
        let shared = lease.shared();
        let owner = self.wanted.owner.clone();
        let body = AcquireLock {
            lease: Some(shared.id.clone()),
            wait_ms: millis(self.wait),
            poll_ms: Some(millis(poll(self.wait, shared.ttl))),
            ..self.wanted
        };
        let asking = Asking {
            client: self.client,
            kind: Kind::Lock,
            name: self.name,
            owner,
            wait: self.wait,
            lease,
            body,
        };
        acquire(asking).await.map(|held| Lock { held })
    }
}

/// A lock that is held, as long as [`Lock::state`] says so.
///
/// Dropping it releases it in the background, as far as that succeeds within 5 s; [`Lock::release`] is certain.
///
/// No lock service can keep a program that is paused for longer than its TTL from going on as if it still held. What
/// must not suffer from that checks the fence: Tenure's own writes by `guard`, other stores by refusing a fence lower
/// than one they have seen.
pub struct Lock {
    held: Held,
}

impl Lock {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.held.hold.name
    }

    /// The fence of this hold: greater than that of every earlier holder.
    pub fn fence(&self) -> u64 {
        self.held.hold.fence
    }

    /// The lease it hangs on.
    pub fn lease_id(&self) -> &str {
        &self.held.hold.lease.id
    }

    /// What may be believed of it, by the clock.
    pub fn state(&self) -> State {
        self.held.state()
    }

    /// Whether it may be believed to be held.
    pub fn is_held(&self) -> bool {
        !matches!(self.state(), State::Lost(_))
    }

    /// For how long it may still be believed in, if no renewal gets through any more; zero once it is lost.
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Its changes of state. They are told by a task of the client: whoever must be sure *now* asks [`Lock::state`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.held.watch()
    }

    /// Waits until it is lost, which is at the local deadline at the latest. Dropping the future does nothing.
    pub async fn lost(&self) -> Loss {
        self.held.lost().await
    }

    /// Runs a future while the lock is held. When renewals do not get through, the future is dropped shortly before
    /// the local deadline (by 2 % of the TTL, 20 to 500 ms). One that does not yield cannot be dropped in time, and
    /// what it has handed to other tasks or threads runs on.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where the future was dropped.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.held.run(work).await
    }

    /// Releases it. From this call on it is not believed in any longer. A lease that was granted for it is revoked.
    ///
    /// Dropped before it is done, this goes on in the background as a drop of the guard does.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where it was lost before; [`Error::Unknown`] or [`Error::NotApplied`] where the cluster could
    /// not be reached: it is then free after the TTL at the latest, where the lease was granted for it.
    pub async fn release(self) -> Result<(), Error> {
        self.held.release().await
    }
}

impl crate::guarded::Fenced for Lock {}

impl crate::guarded::Sealed for Lock {
    fn hold(&self) -> &Hold {
        &self.held.hold
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name())
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
