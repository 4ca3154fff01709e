//! Elections: one of many candidates leads.
//!
//! Owns how a campaign is asked for and the guard of a leadership. Left out: handing a leadership over to a candidate
//! of one's choice.

use std::time::Duration;

use http::Method;
use tenure_api::{Campaign as Wanted, Code, Elected, Proclaim};
use tokio::sync::watch;

use crate::belief::State;
use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::{Error, Loss};
use crate::held::Held;
use crate::hold::{Hold, Kind};
use crate::lease::{Lease, TTL, millis};
use crate::name;
use crate::queue::{Asking, LeaseOf, acquire, poll};

/// The longest wait that a campaign can have.
const FOR_A_DAY: Duration = Duration::from_secs(86_400);

/// A campaign to be made: on a lease of its own with a TTL of 15 s, waiting for up to 24 h, unless told otherwise.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// let leadership = client.campaign("service/api", "host-a").value("http://host-a:80").lead().await?;
/// leadership.run(serve()).await?;
/// leadership.resign().await?;
/// # async fn serve() {}
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked before `lead` is awaited"]
pub struct Campaign<'a> {
    client: Client,
    name: String,
    lease: Option<&'a Lease>,
    ttl: Duration,
    wait: Duration,
    wanted: Wanted,
}

impl Client {
    /// A campaign for an election, under the name by which others know this candidate.
    pub fn campaign(
        &self,
        election: impl Into<String>,
        candidate: impl Into<String>,
    ) -> Campaign<'static> {
        Campaign {
            client: self.clone(),
            name: election.into(),
            lease: None,
            ttl: TTL,
            wait: FOR_A_DAY,
            wanted: Wanted {
                lease: None,
                ttl_ms: None,
                candidate: candidate.into(),
                value: String::new(),
                wait_ms: 0,
                poll_ms: None,
                priority: 0,
            },
        }
    }
}

impl Campaign<'_> {
    /// The TTL of the lease that is granted for it: how long a leader that died is waited for.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Hangs it on a lease that is there already.
    pub fn on(self, lease: &Lease) -> Campaign<'_> {
        Campaign {
            client: self.client,
            name: self.name,
            lease: Some(lease),
            ttl: self.ttl,
            wait: self.wait,
            wanted: self.wanted,
        }
    }

    /// How long to wait; nothing only tries.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// What the leadership says to those who look.
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.wanted.value = value.into();
        self
    }

    /// −100 to 100; higher goes first among those who wait. It deposes nobody.
    pub fn priority(mut self, priority: i32) -> Self {
        self.wanted.priority = priority;
        self
    }

    /// Waits until this candidate leads.
    ///
    /// Dropping the future withdraws the candidacy as [`Acquire::acquire`](crate::Acquire::acquire) leaves a queue.
    ///
    /// # Errors
    ///
    /// As for [`Acquire::acquire`](crate::Acquire::acquire).
    pub async fn lead(self) -> Result<Leadership, Error> {
        let lease = match self.lease {
            Some(lease) => LeaseOf::Callers(lease),
            None => LeaseOf::Own(self.client.lease(self.ttl).grant().await?),
        };
        let shared = lease.shared();
        let owner = self.wanted.candidate.clone();
        let body = Wanted {
            lease: Some(shared.id.clone()),
            wait_ms: millis(self.wait),
            poll_ms: Some(millis(poll(self.wait, shared.ttl))),
            ..self.wanted
        };
        let asking = Asking {
            client: self.client,
            kind: Kind::Election,
            name: self.name,
            owner,
            wait: self.wait,
            lease,
            body,
        };
        acquire(asking).await.map(|held| Leadership { held })
    }
}

/// A leadership, as long as [`Leadership::state`] says so. Dropping it resigns in the background, as far as that
/// succeeds within 5 s; [`Leadership::resign`] is certain.
pub struct Leadership {
    held: Held,
}

impl Leadership {
    /// The name of the election.
    pub fn election(&self) -> &str {
        &self.held.hold.name
    }

    /// The fence, which is the term of this leadership: greater than that of every earlier one.
    pub fn fence(&self) -> u64 {
        self.held.hold.fence
    }

    /// What may be believed of it, by the clock.
    pub fn state(&self) -> State {
        self.held.state()
    }

    /// Whether it may be believed.
    pub fn is_held(&self) -> bool {
        !matches!(self.state(), State::Lost(_))
    }

    /// For how long it may still be believed in, if no renewal gets through any more; zero once it is lost.
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Its changes of state. They are told by a task of the client: whoever must be sure *now* asks
    /// [`Leadership::state`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.held.watch()
    }

    /// Waits until it is lost, which is at the local deadline at the latest. Dropping the future does nothing.
    pub async fn lost(&self) -> Loss {
        self.held.lost().await
    }

    /// Runs a future while this program leads; see [`Lock::run`](crate::Lock::run).
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where the future was dropped.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        self.held.run(work).await
    }

    /// Gives the leadership a new value. Dropped before it is done, it may have been given or may yet be.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] where this program does not lead any longer; [`Error::NotApplied`], [`Error::Unknown`].
    pub async fn proclaim(&self, value: impl Into<String>) -> Result<(), Error> {
        if let State::Lost(loss) = self.state() {
            return Err(Error::Lost(loss));
        }
        let hold = &self.held.hold;
        let body = Proclaim {
            lease: hold.lease.id.clone(),
            candidate: hold.owner.clone(),
            fence: hold.fence,
            value: value.into(),
        };
        let path = name::path("elections", &hold.name);
        let patience = self.held.client.patience;
        let call = Call::new(Method::PUT, path, Effect::Recorded, patience).with_json(&body);
        match self.held.client.perform(&call).await {
            Ok(answer) => answer.json::<Elected>().map(drop),
            Err(error) if is_over(&error) => {
                hold.belief.end(Loss::Broken);
                Err(Error::Lost(Loss::Broken))
            }
            Err(error) => Err(error),
        }
    }

    /// Resigns. From this call on this program does not lead any longer. A lease that was granted for it is revoked.
    ///
    /// Dropped before it is done, this goes on in the background as a drop of the guard does.
    ///
    /// # Errors
    ///
    /// As for [`Lock::release`](crate::Lock::release).
    pub async fn resign(self) -> Result<(), Error> {
        self.held.release().await
    }
}

/// The leadership that was meant is no more.
fn is_over(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(Code::FenceStale | Code::NotHeld | Code::LeaseExpired | Code::LeaseNotFound)
    )
}

impl crate::guarded::Fenced for Leadership {}

impl crate::guarded::Sealed for Leadership {
    fn hold(&self) -> &Hold {
        &self.held.hold
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership")
            .field("election", &self.election())
            .field("fence", &self.fence())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
