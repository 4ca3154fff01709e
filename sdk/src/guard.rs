//! The guard: what a program has in hand while it holds something.
//!
//! Owns what all guards have in common to their users. What only a lock, permits or a leadership can do is in the file of
//! each.

use std::marker::PhantomData;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ask::Holdable;
use crate::belief::State;
use crate::error::{Error, Loss};
use crate::guarded::{Fenced, Fencing, Sealed};
use crate::held::Held;
use crate::hold::Part;

/// Something that is held, as long as [`Guard::state`] says so: a [`Lock`](crate::Lock),
/// [`Permits`](crate::Permits), a [`Leadership`](crate::Leadership) or a [`MultiLock`](crate::MultiLock).
///
/// Dropping it releases it in the background, as far as that succeeds within 5 s; [`Guard::release`] is certain.
///
/// No lock service can keep a program that is paused for longer than its TTL from going on as if it still held. What
/// must not suffer from that checks the fence: Tenure's own writes by `guard`, other stores by refusing a fence lower
/// than one they have seen.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let lock = client.lock("jobs/nightly").acquire().await?;
/// # let (steps, id) = (std::cell::Cell::new(0), lock.lease_id().to_owned());
/// # let one_step = async || {
/// #     steps.set(steps.get() + 1);
/// #     client.revoke_lease(&id).await.expect("it ends");
/// #     lock.lost().await;
/// # };
/// while lock.is_held() {
///     one_step().await;                  // short against lock.remaining()
/// }
/// # assert_eq!(steps.get(), 1);
/// # Ok(()) });
/// ```
#[must_use = "what is not kept is released"]
pub struct Guard<W: Holdable> {
    pub(crate) held: Held,
    what: PhantomData<fn() -> W>,
}

impl<W: Holdable> Guard<W> {
    pub(crate) fn of(held: Held) -> Guard<W> {
        Guard {
            held,
            what: PhantomData,
        }
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
        self.held.hold.belief.remaining()
    }

    /// What kept the last renewal of its lease from being one; as [`Lease::trouble`](crate::Lease::trouble).
    pub fn trouble(&self) -> Option<Error> {
        self.held.hold.lease.trouble()
    }

    /// Its changes of state. They are told by a task of the client: whoever must be sure *now* asks [`Guard::state`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.held.hold.belief.watch()
    }

    /// A token that is cancelled once it is lost, by a task of the client, for work that is told to stop by one. Whoever
    /// must be sure *now* asks [`Guard::state`].
    pub fn token(&self) -> CancellationToken {
        self.held.hold.belief.token()
    }

    /// Waits until it is lost, which is at the local deadline at the latest. Dropping the future does nothing.
    pub async fn lost(&self) -> Loss {
        self.held.hold.belief.lost().await
    }

    /// Runs a future while it is held. When renewals do not get through, the future is dropped shortly before the local
    /// deadline (by 2 % of the TTL, 20 to 500 ms). One that does not yield cannot be dropped in time, and what it has
    /// handed to other tasks or threads runs on.
    ///
    /// Dropping this future drops the work; it stays held.
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

    pub(crate) fn first_part(&self) -> &Part {
        let part = self.held.hold.parts.first();
        part.expect("what is granted has a name")
    }
}

/// What has one name and one fence: all but several locks taken together.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Guard, Holdable, Single};
///
/// fn shown<W: Holdable + Single>(held: &Guard<W>) -> String {
///     format!("{} by fence {}", held.name(), held.fence())
/// }
///
/// let lock = client.lock("jobs/nightly").acquire().await?;
/// println!("holding {}", shown(&lock));
/// # assert!(shown(&lock).starts_with("jobs/nightly by fence "));
/// # lock.release().await?;
/// # Ok(()) });
/// ```
#[expect(private_bounds, reason = "only this crate knows what can be held")]
pub trait Single: crate::ask::Wanted {}

impl<W: Holdable + Single> Guard<W> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.first_part().name
    }

    /// The fence of this hold. Of a lock that is held exclusively, and of a leadership, it is greater than that of every
    /// earlier holder; among those who hold at the same time it orders nothing.
    pub fn fence(&self) -> u64 {
        self.first_part().fence
    }
}

impl<W: Holdable + Single> Fenced for Guard<W> {}

impl<W: Holdable + Single> Sealed for Guard<W> {
    fn fencing(&self) -> Fencing<'_> {
        Fencing {
            hold: &self.held.hold,
            part: self.first_part(),
        }
    }
}

impl<W: Holdable> std::fmt::Debug for Guard<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.held.hold.live_parts();
        f.debug_struct(W::KIND.word())
            .field(
                "fences",
                &parts
                    .map(|part| (&part.name, part.fence))
                    .collect::<Vec<_>>(),
            )
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
