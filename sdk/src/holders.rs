//! Who holds what, and who waits: reading locks, semaphores, elections and leases that may be anybody's, and ending a
//! hold by an operator's word.

use std::marker::PhantomData;
use std::pin::Pin;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tenure_api::{
    Election, ElectionBroken, ElectionPage, ElectionSummary, LeasePage, Lock, LockBroken, LockPage,
    LockSummary, Semaphore, SemaphoreBroken, SemaphorePage, SemaphoreSummary,
};

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::error::Error;
use crate::hold::Kind;
use crate::lease::{millis, revoke};
use crate::name;
use crate::watch::POLL;

impl Client {
    /// Who holds a lock and who waits for it, after everything that was answered before. One that nobody uses is the
    /// same with nothing in it. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn inspect_lock(&self, name: &str) -> Result<Lock, Error> {
        self.inspect(Kind::Lock.collection(), name).await
    }

    /// Who holds permits of a semaphore and who waits for some; as [`Client::inspect_lock`].
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let held = client.semaphore("downloads", 10).permits(3).acquire().await?;
    /// let shown = client.inspect_semaphore("downloads").await?;
    /// assert_eq!((shown.permits_held, shown.limit), (3, Some(10)));
    /// # held.release().await?;
    /// # Ok(()) });
    /// ```
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn inspect_semaphore(&self, name: &str) -> Result<Semaphore, Error> {
        self.inspect(Kind::Semaphore.collection(), name).await
    }

    /// Who leads and who waits. A vacancy is a state like another. Its changes are told by [`Client::observe`].
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`].
    pub async fn election(&self, name: &str) -> Result<Election, Error> {
        self.inspect(Kind::Election.collection(), name).await
    }

    /// A lease, with the first 100 things that hang on it.
    ///
    /// Dropped, it leaves nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], with [`Code::LeaseExpired`](tenure_api::Code::LeaseExpired) or
    /// [`Code::LeaseNotFound`](tenure_api::Code::LeaseNotFound) where there is none.
    pub async fn inspect_lease(&self, id: &str) -> Result<tenure_api::Lease, Error> {
        self.inspect("leases", id).await
    }

    /// A lease once something on it was gained or lost after a revision, as when an operator breaks a hold on it; none where
    /// nothing was within 10 s. Go on from the `revision` of what was answered. Dropping the future changes nothing.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
    /// let seen = client.inspect_lease(lease.id()).await?.revision;
    /// let lock = client.lock("jobs/nightly").on(&lease).acquire().await?;
    /// let changed = client.lease_after(lease.id(), seen).await?.expect("the lock is on it");
    /// assert_eq!(changed.attached.expect("it is shown")[0].fence, Some(lock.fence()));
    /// # lock.release().await?;
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::inspect_lease`], also as soon as the lease ends.
    pub async fn lease_after(
        &self,
        id: &str,
        revision: u64,
    ) -> Result<Option<tenure_api::Lease>, Error> {
        let (after, wait) = (revision.to_string(), millis(POLL).to_string());
        let parameters = [("after", after.as_str()), ("wait_ms", &wait)];
        let path = name::with_query(name::path("leases", id), &parameters);
        let call = Call::read(path, self.patience + POLL).held_for(POLL);
        let answer = self.perform(&call).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(None),
            _ => answer.json().map(Some),
        }
    }

    async fn inspect<T: DeserializeOwned>(&self, collection: &str, name: &str) -> Result<T, Error> {
        let call = Call::read(name::path(collection, name), self.patience);
        self.perform(&call).await?.json()
    }

    /// The locks of a prefix that are held or waited for.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let held = client.lock("jobs/nightly").acquire().await?;
    /// for lock in client.locks("jobs/").await?.all {
    ///     for holder in &lock.holders {
    ///         println!("{} is held by {} for {} ms", lock.lock, holder.lease_name, holder.remaining_ms);
    ///     }
    /// }
    /// # held.release().await?;
    /// # Ok(()) });
    /// ```
    pub fn locks(&self, prefix: impl Into<String>) -> Listing<'_, LockSummary> {
        Listing::new(self, Some(prefix.into()))
    }

    /// The semaphores of a prefix of which permits are held or waited for.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// let held = client.semaphore("downloads/a", 10).acquire().await?;
    /// for semaphore in client.semaphores("downloads/").await?.all {
    ///     println!("{}: {} permits of {:?}", semaphore.semaphore, semaphore.permits_held, semaphore.limit);
    ///     # assert_eq!(semaphore.permits_held, 1);
    /// }
    /// # held.release().await?;
    /// # Ok(()) });
    /// ```
    pub fn semaphores(&self, prefix: impl Into<String>) -> Listing<'_, SemaphoreSummary> {
        Listing::new(self, Some(prefix.into()))
    }

    /// The elections of a prefix that have a leader or candidates.
    pub fn elections(&self, prefix: impl Into<String>) -> Listing<'_, ElectionSummary> {
        Listing::new(self, Some(prefix.into()))
    }

    /// The leases that live.
    pub fn leases(&self) -> Listing<'_, tenure_api::Lease> {
        Listing::new(self, None)
    }

    /// Ends the holds of a lock that have this fence, as an operator, and says why in the audit log. Nobody else is
    /// granted it before the broken holder has stopped to believe, unless [`Break::now`] accepts that.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let held = client.lock("jobs/nightly").acquire().await?;
    /// for holder in client.inspect_lock("jobs/nightly").await?.holders {
    ///     client.break_lock("jobs/nightly", holder.fence, "its host burns").await?;
    /// }
    /// # assert!(client.inspect_lock("jobs/nightly").await?.holders.is_empty());
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// When awaited: [`Error::NotApplied`] with [`Code::FenceStale`](tenure_api::Code::FenceStale) where another hold is
    /// there by now, and with [`Code::NotHeld`](tenure_api::Code::NotHeld) where there is none; [`Error::Unknown`].
    pub fn break_lock(
        &self,
        name: &str,
        fence: u64,
        reason: impl Into<String>,
    ) -> Break<'_, LockBroken> {
        Break::new(self, Kind::Lock, name, fence, reason.into())
    }

    /// The same for permits of a semaphore.
    ///
    /// # Errors
    ///
    /// As for [`Client::break_lock`].
    pub fn break_semaphore(
        &self,
        name: &str,
        fence: u64,
        reason: impl Into<String>,
    ) -> Break<'_, SemaphoreBroken> {
        Break::new(self, Kind::Semaphore, name, fence, reason.into())
    }

    /// The same for a leadership.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let held = client.campaign("service/api", "host-a").lead().await?;
    /// if let Some(leader) = client.election("service/api").await?.leader {
    ///     client.break_election("service/api", leader.fence, "its host burns").await?;
    /// }
    /// assert!(client.election("service/api").await?.leader.is_none());
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Client::break_lock`].
    pub fn break_election(
        &self,
        name: &str,
        fence: u64,
        reason: impl Into<String>,
    ) -> Break<'_, ElectionBroken> {
        Break::new(self, Kind::Election, name, fence, reason.into())
    }

    /// Ends a lease that may be anybody's, and all that hangs on it, at one revision. Whoever revokes another's accepts
    /// that it may still believe in it. One that has ended already is no error. Dropped before it is done, it may have
    /// been applied or may yet be.
    ///
    /// ```
    /// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
    /// # let _lock = client.lock("jobs/nightly").acquire().await?;
    /// let holder = client.inspect_lock("jobs/nightly").await?.holders.remove(0);
    /// client.revoke_lease(&holder.lease).await?;
    /// assert_eq!(client.inspect_lock("jobs/nightly").await?.holder_count, 0);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`], [`Error::Unknown`].
    pub async fn revoke_lease(&self, id: &str) -> Result<(), Error> {
        revoke(self, id).await
    }
}

/// A list that is asked for when it is awaited, in as many requests as it takes. Its pages are of one revision each.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// # let held = client.locks_together(["jobs/a", "jobs/b", "jobs/c"]).acquire().await?;
/// let some = client.locks("jobs/").limit(2).await?;
/// assert_eq!((some.all.len(), some.count), (2, 3));
/// let next = some.next.expect("one was left out");
/// let rest = client.locks("jobs/").start_after(next).await?;
/// assert_eq!(rest.all[0].lock, "jobs/c");
/// # held.release().await?;
/// # Ok(()) });
/// ```
#[must_use = "nothing is asked before it is awaited"]
pub struct Listing<'a, T> {
    client: &'a Client,
    prefix: Option<String>,
    limit: Option<usize>,
    start_after: Option<String>,
    of: PhantomData<fn() -> T>,
}

/// What a list has found.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let leases = client.leases().await?;
/// println!("{} leases live", leases.count);
/// // A watch from there on misses no lease that is not among them.
/// let changes = client.watch("leases/").after(leases.revision).begin();
/// # assert_eq!(leases.count, 0);
/// # drop(changes);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found<T> {
    /// What was found, in the order of names.
    pub all: Vec<T>,
    /// How many match in all, also where [`Listing::limit`] left some out.
    pub count: u64,
    /// What to give to [`Listing::start_after`] for those that were left out, where some were.
    pub next: Option<String>,
    /// The revision of the first page: a [watch](Client::watch) from there on misses nothing that is not shown here.
    pub revision: u64,
}

/// What a list can be of.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// use tenure::{Error, Listable, Listing};
///
/// async fn count<T: Listable>(listing: Listing<'_, T>) -> Result<u64, Error> {
///     Ok(listing.limit(1).await?.count)
/// }
///
/// let (locks, elections) = (count(client.locks("")).await?, count(client.elections("")).await?);
/// println!("{locks} locks and {elections} elections are in use");
/// # Ok(()) });
/// ```
#[expect(
    private_bounds,
    reason = "what pages look like is the business of this crate"
)]
pub trait Listable: Paged {}

pub(crate) trait Paged: Sized + Send {
    type Page: DeserializeOwned;
    const COLLECTION: &'static str;
    fn taken(page: Self::Page) -> Found<Self>;
}

/// Says of an item what a page of it looks like, and where.
macro_rules! listable {
    ($item:ty, $page:ty, $field:ident, $collection:literal) => {
        impl $crate::holders::Listable for $item {}
        impl $crate::holders::Paged for $item {
            type Page = $page;
            const COLLECTION: &'static str = $collection;
            fn taken(page: $page) -> $crate::holders::Found<$item> {
                $crate::holders::Found {
                    all: page.$field,
                    count: page.count,
                    next: page.next.filter(|_| page.more),
                    revision: page.revision,
                }
            }
        }
    };
}
pub(crate) use listable;

listable!(LockSummary, LockPage, locks, "locks");
listable!(SemaphoreSummary, SemaphorePage, semaphores, "semaphores");
listable!(ElectionSummary, ElectionPage, elections, "elections");
listable!(tenure_api::Lease, LeasePage, leases, "leases");

impl<'a, T: Listable> Listing<'a, T> {
    pub(crate) fn new(client: &'a Client, prefix: Option<String>) -> Listing<'a, T> {
        Listing {
            client,
            prefix,
            limit: None,
            start_after: None,
            of: PhantomData,
        }
    }

    /// No more than so many.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Only those behind this name or id.
    pub fn start_after(mut self, name: impl Into<String>) -> Self {
        self.start_after = Some(name.into());
        self
    }

    async fn read(self) -> Result<Found<T>, Error> {
        crate::list::check_limit(self.limit == Some(0))?;
        let mut found: Option<Found<T>> = None;
        let mut after = self.start_after.clone();
        loop {
            let read = found.as_ref().map_or(0, |found| found.all.len());
            let page = T::taken(self.page(after.as_deref(), read).await?);
            let found = match &mut found {
                None => found.insert(page),
                Some(found) => {
                    found.all.extend(page.all);
                    found.next = page.next;
                    found
                }
            };
            let full = self.limit.is_some_and(|limit| limit <= found.all.len());
            after.clone_from(&found.next);
            if full || after.is_none() {
                break;
            }
        }
        Ok(found.expect("one page was read"))
    }

    async fn page(&self, after: Option<&str>, read: usize) -> Result<T::Page, Error> {
        /// A member gives no longer page.
        const PAGE_MOST: usize = 1_000;
        let limit = self.limit.map_or(PAGE_MOST, |limit| limit - read);
        let limit = limit.clamp(1, PAGE_MOST).to_string();
        let mut parameters = vec![("limit", limit.as_str())];
        parameters.extend(self.prefix.as_deref().map(|prefix| ("prefix", prefix)));
        parameters.extend(after.map(|after| ("start_after", after)));
        let path = name::with_query(format!("/v1/{}", T::COLLECTION), &parameters);
        let call = Call::read(path, self.client.patience);
        self.client.perform(&call).await?.json()
    }
}

impl<'a, T: Listable + 'a> IntoFuture for Listing<'a, T> {
    type Output = Result<Found<T>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.read())
    }
}

/// The end of somebody's hold, asked for when it is awaited. Dropped before it is done, it may have been applied or may
/// yet be.
///
/// ```
/// # tenure_doctest::run(async |url| { let client = tenure::Client::connect([url])?;
/// let lease = client.lease(std::time::Duration::from_secs(15)).grant().await?;
/// let permits = client.semaphore("downloads", 10).owner("a").on(&lease).acquire().await?;
/// let broken = client
///     .break_semaphore("downloads", permits.fence(), "it hangs")
///     .holder(lease.id(), "a")
///     .now()                                 // though its holder may still believe
///     .await?;
/// assert_eq!(broken.broken[0].owner, "a");
/// # Ok(()) });
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Break<'a, T> {
    client: &'a Client,
    kind: Kind,
    name: String,
    fence: u64,
    reason: String,
    holder: Option<(String, String)>,
    now: bool,
    answer: PhantomData<fn() -> T>,
}

impl<'a, T> Break<'a, T> {
    fn new(client: &'a Client, kind: Kind, name: &str, fence: u64, reason: String) -> Break<'a, T> {
        Break {
            client,
            kind,
            name: name.to_owned(),
            fence,
            reason,
            holder: None,
            now: false,
            answer: PhantomData,
        }
    }

    /// Only the hold of this lease and owner (of an election: candidate), where several have the fence.
    pub fn holder(mut self, lease: impl Into<String>, owner: impl Into<String>) -> Self {
        self.holder = Some((lease.into(), owner.into()));
        self
    }

    /// Others are granted it at once, though the broken holder may still believe.
    pub fn now(mut self) -> Self {
        self.now = true;
        self
    }
}

impl<'a, T: DeserializeOwned + 'a> Break<'a, T> {
    async fn send(self) -> Result<T, Error> {
        let fence = self.fence.to_string();
        let mut parameters = vec![
            ("break", "true"),
            ("fence", &fence),
            ("reason", &self.reason),
        ];
        if let Some((lease, owner)) = &self.holder {
            parameters.extend([("lease", lease.as_str()), (self.kind.owner_field(), owner)]);
        }
        parameters.extend(self.now.then_some(("now", "true")));
        let path = name::path(self.kind.collection(), &self.name);
        let path = name::with_query(path, &parameters);
        let call = Call::new(Method::DELETE, path, Effect::Recorded, self.client.patience);
        self.client.perform(&call).await?.json()
    }
}

impl<'a, T: DeserializeOwned + 'a> IntoFuture for Break<'a, T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
