//! Several locks at once, or none.

use tenure_api::{AcquireTogether, MAX_LOCKS_TOGETHER, Mode, WantedLock};

use crate::ask::{Acquire, holdable, labelled};
use crate::client::Client;
use crate::error::{Error, Failure, Loss};
use crate::guard::Guard;
use crate::guarded::{Fenced, Fencing, Sealed};
use crate::held::release;
use crate::hold::Kind;

/// Says of a [`Guard`] or an [`Acquire`] that it is of several locks.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Guard, LockedTogether};
/// let locks: Guard<LockedTogether> = client.locks_together(["a", "b"]).acquire().await?;
/// assert_eq!(locks.parts().count(), 2);
/// # locks.release().await?;
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub enum LockedTogether {}

holdable!(LockedTogether, AcquireTogether, Kind::Lock, owner, true);
labelled!(LockedTogether, AcquireTogether);

/// Several locks to be acquired.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{AcquireTogetherLocks, api::Mode};
/// let asked: AcquireTogetherLocks = client.locks_together(["accounts/1"]).and("rates", Mode::Shared);
/// let locks = asked.acquire().await?;
/// assert_eq!(locks.part("rates").map(|rates| rates.mode()), Some(Mode::Shared));
/// # locks.release().await?;
/// # Ok(()) });
/// ```
pub type AcquireTogetherLocks<'a> = Acquire<'a, LockedTogether>;

/// Several locks that were acquired together. They are believed in together: where one is broken, the guard is lost.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::txn::{all_held, put};
/// let locks: tenure::MultiLock = client.locks_together(["accounts/1", "accounts/2"]).acquire().await?;
/// let moved = client
///     .txn()
///     .when_all(all_held(&locks))
///     .then(put("accounts/1/balance", "90"))
///     .then(put("accounts/2/balance", "110"))
///     .await?;
/// assert!(moved.succeeded);
/// locks.release_one("accounts/1").await?;
/// assert!(client.lock("accounts/1").acquire().await.is_ok(), "the other is held still");
/// locks.release().await?;
/// # Ok(()) });
/// ```
pub type MultiLock = Guard<LockedTogether>;

impl Client {
    /// Several locks to be acquired, up to 64: all at one revision, or none. While it waits it holds none of them, and
    /// whatever order others name theirs in, there is no deadlock.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let accounts = client.locks_together(["accounts/1", "accounts/2"]).acquire().await?;
    /// let first = accounts.part("accounts/1").expect("it was asked for");
    /// client.put("accounts/1/balance", "90").guard(&first).await?;
    /// accounts.release().await?;
    /// # Ok(()) });
    /// ```
    pub fn locks_together<N: Into<String>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> Acquire<'static, LockedTogether> {
        let none = Acquire::of(self, Vec::new(), AcquireTogether::default());
        names
            .into_iter()
            .fold(none, |locks, name| locks.and(name, Mode::Exclusive))
    }
}

impl Acquire<'_, LockedTogether> {
    /// One more.
    pub fn and(mut self, name: impl Into<String>, mode: Mode) -> Self {
        let name = name.into();
        self.names.push(name.clone());
        self.body.locks.push(WantedLock { name, mode });
        self
    }
}

/// Refuses what no member accepts.
pub(crate) fn check(names: &[String]) -> Result<(), Error> {
    let refuse = |detail: String| Err(Error::NotApplied(Failure::local(detail)));
    if names.is_empty() || names.len() > MAX_LOCKS_TOGETHER {
        let number = names.len();
        return refuse(format!(
            "{number} locks were asked for together; 1 to {MAX_LOCKS_TOGETHER} are accepted"
        ));
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => refuse(format!("the lock {:?} was asked for twice", pair[0])),
        None => Ok(()),
    }
}

impl Guard<LockedTogether> {
    /// The locks that are in it still, in the order of names.
    pub fn parts(&self) -> impl Iterator<Item = LockPart<'_>> {
        let hold = &self.held.hold;
        hold.live_parts().map(|part| LockPart {
            fencing: Fencing { hold, part },
        })
    }

    /// One of them; none where it is not in it, or not any longer.
    pub fn part(&self, name: &str) -> Option<LockPart<'_>> {
        self.parts().find(|part| part.name() == name)
    }

    /// Releases one of them; the others stay. From this call on it is not in this guard any longer.
    ///
    /// Dropped before it is done, it may have been released or may yet be: asking again releases it for certain, and so
    /// does [`Guard::release`] of the rest.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] where it is not in it; else as for [`Guard::release`].
    pub async fn release_one(&self, name: &str) -> Result<(), Error> {
        let before = self.state();
        let hold = &self.held.hold;
        let mut parts = hold.parts.iter();
        let Some(part) = parts.find(|part| part.name == name && !part.is_over()) else {
            let detail = format!("the lock {name:?} is none of those that are held together");
            return Err(Error::NotApplied(Failure::local(detail)));
        };
        part.give_up();
        if hold.lease.is_detached() {
            return Err(Error::Lost(Loss::GivenUp));
        }
        let told = release(&self.held.client, hold, part).await;
        match before {
            crate::State::Lost(loss) => Err(Error::Lost(loss)),
            crate::State::Held | crate::State::InJeopardy => told,
        }
    }
}

/// One of several locks that are held together. Writes can be guarded by it.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let locks = client.locks_together(["accounts/1", "accounts/2"]).acquire().await?;
/// for part in locks.parts() {
///     println!("{} by fence {}, {:?}", part.name(), part.fence(), part.mode());
///     assert!(part.is_held());
/// }
/// # locks.release().await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Copy)]
pub struct LockPart<'a> {
    fencing: Fencing<'a>,
}

impl<'a> LockPart<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.fencing.part.name
    }

    /// Its fence: greater than that of every earlier holder, where it is held exclusively.
    pub fn fence(&self) -> u64 {
        self.fencing.part.fence
    }

    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.fencing.part.mode
    }

    /// Whether it may be believed to be held.
    pub fn is_held(&self) -> bool {
        !matches!(self.fencing.state(), crate::State::Lost(_))
    }
}

impl Fenced for LockPart<'_> {}

impl Sealed for LockPart<'_> {
    fn fencing(&self) -> Fencing<'_> {
        self.fencing
    }
}

impl std::fmt::Debug for LockPart<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockPart")
            .field("name", &self.name())
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}
