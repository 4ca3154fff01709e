//! Semaphores: permits of a limited number.
//!
//! Owns how permits are asked for and the guard of those that are held.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure_api::AcquireSemaphore;
use tokio::sync::watch;

use crate::belief::State;
use crate::client::Client;
use crate::error::{Error, Loss};
use crate::held::Held;
use crate::hold::{Hold, Kind};
use crate::lease::{Lease, TTL, millis};
use crate::queue::{Asking, LeaseOf, acquire, poll};

/// Permits to be acquired: one, on a lease of its own with a TTL of 15 s, without waiting, unless told otherwise.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use std::time::Duration;
/// let permits = client.semaphore("downloads", 10).wait(Duration::from_secs(60)).acquire().await?;
/// permits.run(download()).await?;
/// permits.release().await?;
/// # async fn download() {}
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked before `acquire` is awaited"]
pub struct AcquirePermits<'a> {
    client: Client,
    name: String,
    lease: Option<&'a Lease>,
    ttl: Duration,
    wait: Duration,
    wanted: AcquireSemaphore,
}

impl Client {
    /// Permits of a semaphore of this limit to be acquired. The limit of the first holder stands until all are free.
    pub fn semaphore(&self, name: impl Into<String>, limit: u64) -> AcquirePermits<'static> {
        AcquirePermits {
            client: self.clone(),
            name: name.into(),
            lease: None,
            ttl: TTL,
            wait: Duration::ZERO,
            wanted: AcquireSemaphore {
                lease: None,
                ttl_ms: None,
                owner: String::new(),
                permits: 1,
                limit,
                wait_ms: 0,
                poll_ms: None,
                priority: 0,
                metadata: BTreeMap::new(),
                lock_delay_ms: 0,
            },
        }
    }
}

impl AcquirePermits<'_> {
    /// How many are wanted.
    pub fn permits(mut self, permits: u64) -> Self {
        self.wanted.permits = permits;
        self
    }

    /// The TTL of the lease that is granted for them: how long others wait after this program has died.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Hangs them on a lease that is there already; see [`Acquire::on`](crate::Acquire::on).
    pub fn on(self, lease: &Lease) -> AcquirePermits<'_> {
        AcquirePermits {
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

    /// Asks, and waits in the queue. What is said of dropping [`Acquire::acquire`](crate::Acquire::acquire) holds here.
    ///
    /// # Errors
    ///
    /// As for [`Acquire::acquire`](crate::Acquire::acquire), and with
    /// [`Code::LimitMismatch`](tenure_api::Code::LimitMismatch) where it is held with another limit.
    pub async fn acquire(self) -> Result<Permits, Error> {
        let lease = match self.lease {
            Some(lease) => LeaseOf::Callers(lease),
            None => LeaseOf::Own(self.client.lease(self.ttl).grant().await?),
        };
        let shared = lease.shared();
        let owner = self.wanted.owner.clone();
        let body = AcquireSemaphore {
            lease: Some(shared.id.clone()),
            wait_ms: millis(self.wait),
            poll_ms: Some(millis(poll(self.wait, shared.ttl))),
            ..self.wanted
        };
        let asking = Asking {
            client: self.client,
            kind: Kind::Semaphore,
            name: self.name,
            owner,
            wait: self.wait,
            lease,
            body,
        };
        acquire(asking).await.map(|held| Permits { held })
    }
}

/// Permits that are held, as long as [`Permits::state`] says so. Dropping them releases them in the background, as far
/// as that succeeds within 5 s; [`Permits::release`] is certain.
pub struct Permits {
    held: Held,
}

impl Permits {
    /// The name of the semaphore.
    pub fn name(&self) -> &str {
        &self.held.hold.name
    }

    /// The fence of this hold. Among holders at the same time it orders nothing.
    pub fn fence(&self) -> u64 {
        self.held.hold.fence
    }

    /// What may be believed of them, by the clock.
    pub fn state(&self) -> State {
        self.held.state()
    }

    /// Whether they may be believed to be held.
    pub fn is_held(&self) -> bool {
        !matches!(self.state(), State::Lost(_))
    }

    /// For how long they may still be believed in, if no renewal gets through any more; zero once they are lost.
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Their changes of state. They are told by a task of the client: whoever must be sure *now* asks
    /// [`Permits::state`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.held.watch()
    }

    /// Waits until they are lost, which is at the local deadline at the latest. Dropping the future does nothing.
    pub async fn lost(&self) -> Loss {
        self.held.lost().await
    }

    /// Runs a future while they are held; see [`Lock::run`](crate::Lock::run).
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where the future was dropped.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.held.run(work).await
    }

    /// Releases them; see [`Lock::release`](crate::Lock::release).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn release(self) -> Result<(), Error> {
        self.held.release().await
    }
}

impl crate::guarded::Fenced for Permits {}

impl crate::guarded::Sealed for Permits {
    fn hold(&self) -> &Hold {
        &self.held.hold
    }
}

impl std::fmt::Debug for Permits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permits")
            .field("name", &self.name())
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
