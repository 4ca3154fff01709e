//! What can be asked for and held: the builder that locks, permits, leaderships and several locks share.
//!
//! Owns what they have in common in a request. Each says in its own file what is special about it; how an asking waits
//! is the business of `queue`, and how the answer is believed that of `guard`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::claim::Asked;
use crate::client::Client;
use crate::error::Error;
use crate::guard::Guard;
use crate::hold::Kind;
use crate::lease::{Lease, TTL, millis};
use crate::lock::Locked;
use crate::queue::acquire;

/// What can be held: a lock ([`Locked`]), several ([`LockedTogether`](crate::LockedTogether)), permits
/// ([`Permitted`](crate::Permitted)) or a leadership ([`Led`](crate::Led)).
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Acquire, Error, Holdable};
///
/// /// Works under whatever is asked for.
/// async fn work_under<W: Holdable>(asked: Acquire<'_, W>) -> Result<(), Error> {
///     let held = asked.acquire().await?;
///     held.run(work()).await?;
///     held.release().await
/// }
/// # async fn work() {}
///
/// work_under(client.lock("jobs/nightly")).await?;
/// work_under(client.semaphore("downloads", 10)).await?;
/// work_under(client.campaign("service/api", "host-a")).await?;
/// # Ok(()) });
/// ```
#[expect(private_bounds, reason = "only this crate knows how each is asked for")]
pub trait Holdable: Wanted {}

/// What can be held under an owner's name, with labels: all but a leadership, whose candidate is its owner.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Acquire, Holdable, Labelled};
///
/// /// Says on which host it is held, to those who are refused.
/// fn on_host<'a, W: Holdable + Labelled>(asked: Acquire<'a, W>, host: &str) -> Acquire<'a, W> {
///     asked.metadata("host", host)
/// }
///
/// let lock = on_host(client.lock("jobs/nightly"), "h1").acquire().await?;
/// let shown = client.inspect_lock("jobs/nightly").await?;
/// assert_eq!(shown.holders[0].metadata["host"], "h1");
/// # lock.release().await?;
/// # Ok(()) });
/// ```
#[expect(private_bounds, reason = "only this crate knows how each is asked for")]
pub trait Labelled: Labels {}

pub(crate) trait Wanted: 'static {
    /// The body of the request.
    type Body: Clone + Serialize + Send + Sync;
    const KIND: Kind;
    /// Whether it has as many names as one likes.
    const TOGETHER: bool = false;
    fn common(body: &mut Self::Body) -> Common<'_>;
}

pub(crate) trait Labels: Wanted {
    fn labels(body: &mut Self::Body) -> (&mut BTreeMap<String, String>, &mut u64);
}

/// The fields that every asking has.
pub(crate) struct Common<'a> {
    pub(crate) lease: &'a mut Option<String>,
    pub(crate) ttl_ms: &'a mut Option<u64>,
    pub(crate) owner: &'a mut String,
    pub(crate) wait_ms: &'a mut u64,
    pub(crate) poll_ms: &'a mut Option<u64>,
    pub(crate) priority: &'a mut i32,
}

/// Says of a marker what its wire type is.
macro_rules! holdable {
    ($marker:ty, $body:ty, $kind:expr, $owner:ident $(, $together:literal)?) => {
        impl $crate::ask::Holdable for $marker {}
        impl $crate::ask::Wanted for $marker {
            type Body = $body;
            const KIND: $crate::hold::Kind = $kind;
            $(const TOGETHER: bool = $together;)?
            fn common(body: &mut $body) -> $crate::ask::Common<'_> {
                $crate::ask::Common {
                    lease: &mut body.lease,
                    ttl_ms: &mut body.ttl_ms,
                    owner: &mut body.$owner,
                    wait_ms: &mut body.wait_ms,
                    poll_ms: &mut body.poll_ms,
                    priority: &mut body.priority,
                }
            }
        }
    };
}
pub(crate) use holdable;

/// Says of a marker that its wire type has labels.
macro_rules! labelled {
    ($marker:ty, $body:ty) => {
        impl $crate::ask::Labelled for $marker {}
        impl $crate::ask::Labels for $marker {
            fn labels(
                body: &mut $body,
            ) -> (&mut std::collections::BTreeMap<String, String>, &mut u64) {
                (&mut body.metadata, &mut body.lock_delay_ms)
            }
        }
    };
}
pub(crate) use labelled;

/// Something to be acquired: on a lease of its own with a TTL of 15 s unless told otherwise. It is made by
/// [`Client::lock`], [`Client::locks_together`], [`Client::semaphore`] and [`Client::campaign`].
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use std::time::Duration;
/// let lock = client.lock("jobs/nightly").wait(Duration::from_secs(60)).acquire().await?;
/// println!("held with fence {}", lock.fence());
/// let report = lock.run(nightly()).await?;       // dropped before the lock could be another's
/// client.put("jobs/nightly/report", report).guard(&lock).await?;
/// lock.release().await?;
/// # async fn nightly() -> &'static str { "" }
/// # Ok(()) });
/// ```
#[must_use = "nothing is asked before `acquire` is awaited"]
pub struct Acquire<'a, W: Holdable = Locked> {
    pub(crate) client: Client,
    /// One, but for several locks taken together.
    pub(crate) names: Vec<String>,
    pub(crate) lease: Option<&'a Lease>,
    pub(crate) ttl: Duration,
    pub(crate) wait: Duration,
    pub(crate) body: W::Body,
}

impl<W: Holdable> Acquire<'static, W> {
    pub(crate) fn of(client: &Client, names: Vec<String>, body: W::Body) -> Self {
        Acquire {
            client: client.clone(),
            names,
            lease: None,
            ttl: TTL,
            wait: Duration::ZERO,
            body,
        }
    }
}

impl<W: Holdable> Acquire<'_, W> {
    /// The TTL of the lease that is granted for it: how long others wait after this program has died.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Hangs it on a lease that is there already.
    ///
    /// A hold is known by its lease and owner: two tasks that exclude one another on one lease need different owners.
    /// The second that asks with the owner of the first is refused with
    /// [`Code::AlreadyHeld`](tenure_api::Code::AlreadyHeld).
    pub fn on(self, lease: &Lease) -> Acquire<'_, W> {
        Acquire {
            client: self.client,
            names: self.names,
            lease: Some(lease),
            ttl: self.ttl,
            wait: self.wait,
            body: self.body,
        }
    }

    /// How long to wait in the queue, up to 24 h; nothing only tries.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// −100 to 100; higher goes first among those who wait. It ends nobody's hold.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let held = client.lock("jobs/nightly").acquire().await?;
    /// let urgent = client.lock("jobs/nightly").priority(10).wait(std::time::Duration::from_secs(60));
    /// # let (urgent, released) = tokio::join!(urgent.acquire(), held.release());
    /// # released?;
    /// # let urgent = async { urgent };
    /// let lock = urgent.await?;
    /// # lock.release().await?;
    /// # Ok(()) });
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        *W::common(&mut self.body).priority = priority;
        self
    }

    /// Asks, and waits in the queue. The place is kept while leaders change and while the cluster is away for less
    /// than the TTL.
    ///
    /// Dropping the future leaves the queue in the background, as far as that succeeds within 5 s; a place that is
    /// left behind, or a hold that it became, ends with its lease. A lease granted for it is revoked likewise. So it is
    /// where the answer is [`Error::Unknown`]: a request that the network held back may still be carried out, also after
    /// another member refused a later one. On a lease of its own it is looked for under its idempotency key and ended, or
    /// kept from being carried out; where no member answers that in 5 s, a lease that is granted late ends with its TTL.
    /// On a lease of yours the place is left; what is carried out only after that, within ten minutes, is found by one of
    /// the next renewals and given up, else it ends with the lease.
    /// [`Acquire::acquire_unless`] gives up when it is told to, and waits until that is done.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] with [`Code::LockHeld`](tenure_api::Code::LockHeld) or
    /// [`Code::WaitExpired`](tenure_api::Code::WaitExpired) where others hold it; [`Error::Lost`] where the lease was
    /// lost meanwhile; [`Error::Unknown`] where no answer told, or one that tells nothing of an earlier try which was not
    /// answered: the code is then that of the last answer.
    pub async fn acquire(self) -> Result<Guard<W>, Error> {
        let acquired = self.acquire_unless(std::future::pending()).await?;
        Ok(acquired.expect("it is given up only when that is asked for"))
    }

    /// As [`Acquire::acquire`], until it is told to give up: the queue is left then, or what was granted meanwhile is
    /// given back, and the answer is none once the cluster has said so. On a lease of its own, which is ended, or whose
    /// grant is kept from being carried out by a record under the same key, that holds as long as records are kept (60 s
    /// unless an operator changed it): a request that the network holds back for longer may be granted a lease, which
    /// ends with its TTL. On yours, an asking that the network held back may still be carried out, and is given up then.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # async fn serve() {}
    /// # let signal = std::future::pending();
    /// let campaign = client.campaign("service/api", "host-a");
    /// match campaign.acquire_unless(signal).await? {
    ///     Some(leadership) => leadership.run(serve()).await?,
    ///     None => println!("withdrawn"),
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// Dropping the future is as there.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::Unknown`] where giving up failed: no member answered, it was refused, or the
    /// asking without a lease was first sent 45 s ago or more, so that members may have forgotten what it was granted.
    pub async fn acquire_unless(
        self,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Guard<W>>, Error> {
        Ok(acquire(self, stop).await?.map(Guard::of))
    }

    /// The body of an asking by this lease, or for one of its own.
    pub(crate) fn body_by(&self, lease: Option<&str>, poll: Duration) -> W::Body {
        let mut body = self.body.clone();
        let common = W::common(&mut body);
        *common.lease = lease.map(str::to_owned);
        *common.ttl_ms = lease.is_none().then_some(millis(self.ttl));
        *common.wait_ms = millis(self.wait);
        *common.poll_ms = Some(millis(poll));
        body
    }

    /// What is asked for, as the one who asks is known.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            kind: W::KIND,
            names: self.names.clone(),
            owner: self.owner_name(),
        }
    }

    /// Whether several are asked for by one request, be it but one.
    pub(crate) fn is_together(&self) -> bool {
        W::TOGETHER
    }

    /// The owner; of an election the candidate.
    pub(crate) fn owner_name(&self) -> String {
        W::common(&mut self.body.clone()).owner.clone()
    }
}

impl<W: Holdable + Labelled> Acquire<'_, W> {
    /// Tells holds on one lease apart.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        *W::common(&mut self.body).owner = owner.into();
        self
    }

    /// A label that is shown to those who are refused.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        W::labels(&mut self.body)
            .0
            .insert(name.into(), value.into());
        self
    }

    /// For how long nobody is granted it after the lease of this holder *ran out*, up to 60 s, but who asks by a lease
    /// of the same name: give it [one](Acquire::on) that has a [name](crate::Grant::name), to take it up again after a crash.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// use std::time::Duration;
    /// // A host that comes back takes it up again before others, for whom what it left half done might be in the way.
    /// let lease = client.lease(Duration::from_secs(15)).name("host-a").grant().await?;
    /// let lock = client.lock("jobs/nightly").on(&lease).lock_delay(Duration::from_secs(30)).acquire().await?;
    /// # lock.release().await?;
    /// # lease.revoke().await?;
    /// # Ok(()) });
    /// ```
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        *W::labels(&mut self.body).1 = millis(delay);
        self
    }
}
