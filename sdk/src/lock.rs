//! Locks: one at a time.

use tenure_api::{AcquireLock, Mode};

use crate::ask::{Acquire, holdable, labelled};
use crate::client::Client;
use crate::guard::{Guard, Single};
use crate::hold::Kind;

/// Says of a [`Guard`] or an [`Acquire`] that it is of a lock.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let lock: tenure::Guard<tenure::Locked> = client.lock("jobs/nightly").acquire().await?;
/// assert_eq!(lock.mode(), tenure::api::Mode::Exclusive);
/// # lock.release().await?;
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub enum Locked {}

holdable!(Locked, AcquireLock, Kind::Lock, owner);
labelled!(Locked, AcquireLock);
impl Single for Locked {}

/// A lock that is held. Its fence is greater than that of every earlier holder, where [`Guard::mode`] is exclusive.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let first: tenure::Lock = client.lock("jobs/nightly").acquire().await?;
/// let fence = first.fence();
/// first.release().await?;
///
/// let second = client.lock("jobs/nightly").acquire().await?;
/// assert!(second.fence() > fence, "a store that remembers the greatest refuses the first");
/// # second.release().await?;
/// # Ok(()) });
/// ```
pub type Lock = Guard<Locked>;

/// A lock that is held together with others who asked for it [shared](Acquire::shared): the same guard with the same
/// rules, but its fence orders nothing among those who hold it at the same time.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let one: tenure::SharedLock = client.lock("table/users").shared().acquire().await?;
/// let other = client.lock("table/users").shared().acquire().await?;
/// assert!(client.lock("table/users").acquire().await.is_err(), "nobody has it alone meanwhile");
/// # one.release().await?;
/// # other.release().await?;
/// # Ok(()) });
/// ```
pub type SharedLock = Lock;

impl Client {
    /// A lock to be acquired: exclusively and without waiting, unless told otherwise.
    pub fn lock(&self, name: impl Into<String>) -> Acquire<'static> {
        Acquire::of(self, vec![name.into()], AcquireLock::default())
    }
}

impl Acquire<'_, Locked> {
    /// Held together with others who ask for it shared.
    pub fn shared(mut self) -> Self {
        self.body.mode = Mode::Shared;
        self
    }
}

impl Guard<Locked> {
    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.first_part().mode
    }
}
